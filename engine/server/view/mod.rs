//! What the API answers, as types: built from rows of the store, written as JSON by the server and read by the commands.
//!
//! Nothing here knows of HTTP, so that a command can build the same views from a database that no engine has open.

mod again;
mod channel;
mod error;
mod event;
mod explain;
mod function;
mod input;
mod log;
mod notice;
mod reload;
mod run;
mod schema;
mod signal;
mod trace;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::base::{EventId, Millis, Span};

pub use again::{DoneView, ManyBody, ManyView, MigrateBody, MigratedView, ReplayBody, ReplayView};
pub use channel::{ChannelTokenBody, ChannelTokenView, ChannelView};
pub use error::{Detail, ErrorView, Seen};
pub use event::EventView;
pub use explain::{CancelledView, ConditionView, Deduplication, EndedWaitView, ExplainView, FunctionOutcome, GateView, StartedView};
pub use function::{CancelView, ConcurrencyView, CronView, FunctionView, RetryView, TimeoutsView, TriggerView};
pub use input::{ConfigView, EventInput, EventsInput, HealthView, InvokeBody, InvokedView, SettingView};
pub use log::LogView;
pub use notice::NoticeView;
pub use reload::{AffectedView, ChangeView, FieldView, OlderView, PlanView, ReloadView, UnfitView};
pub use run::{RunView, Status, shown_state};
use schema::IdText;
pub use signal::{SignalBody, SignalView, SignalledView};
pub(in crate::server) use trace::counted;
pub use trace::{AttemptView, StepStatus, StepView, Trace};

/// JSON that is passed on as it is stored, so that no number in it changes.
pub type Raw = Box<RawValue>;

/// Stored JSON as it is; text that is no JSON (a damaged row) becomes a JSON text.
pub(crate) fn raw(json: &str) -> Raw {
    RawValue::from_string(json.to_owned()).or_else(|_| serde_json::value::to_raw_value(json)).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A point in time, written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Millis);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.rfc3339())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let stamp: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Time(Millis(stamp.as_millisecond())))
    }
}

/// A point in time as a request says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Then.
    At(Millis),
    /// So long ago.
    Ago(Span),
}

impl When {
    /// The point in time, seen from now.
    pub fn seen_from(self, now: Millis) -> Millis {
        match self {
            When::At(at) => at,
            When::Ago(span) => Millis(now.0.saturating_sub(span.0)),
        }
    }
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<When, &'static str> {
        if let Ok(ms) = text.parse() {
            return Ok(When::At(Millis(ms)));
        }
        if let Ok(span) = text.parse() {
            return Ok(When::Ago(span));
        }
        match text.parse::<jiff::Timestamp>() {
            Ok(stamp) => Ok(When::At(Millis(stamp.as_millisecond()))),
            Err(_) => Err("must be a time such as 2026-01-31T12:00:00Z, milliseconds since 1970, or a length of time such as 2h"),
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            When::At(at) => serializer.serialize_str(&at.rfc3339()),
            When::Ago(span) => serializer.collect_str(span),
        }
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<When, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse::<When>().map_err(|why| serde::de::Error::custom(format!("`{text}` {why}")))
    }
}

/// The answer to `POST /e`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The events' ids, in the order of the request.
    #[schemars(with = "Vec<IdText>")]
    pub ids: Vec<EventId>,
    /// 200: Inngest's clients look for it in the body.
    pub status: u16,
}

/// The answer to `POST /webhooks/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivered {
    /// The event's id; none where the request makes no event.
    #[schemars(with = "Vec<IdText>")]
    pub ids: Vec<EventId>,
    /// 200, or 202 where the request makes no event.
    pub status: u16,
    /// Why it makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
}

/// When an answer was made. Nothing is cached: both times are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// When the store was read.
    pub fetched_at: Time,
    /// How long the answer holds.
    pub cached_until: Time,
}

impl Metadata {
    /// Of an answer that is made now.
    pub fn at(now: Millis) -> Metadata {
        Metadata { fetched_at: Time(now), cached_until: Time(now) }
    }
}

/// An answer about one thing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct One<T> {
    /// The thing.
    pub data: T,
    /// When it was read.
    pub metadata: Metadata,
}

impl<T> One<T> {
    /// The answer as of `now`.
    pub fn at(now: Millis, data: T) -> One<T> {
        One { data, metadata: Metadata::at(now) }
    }
}

/// One page of a list, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The entries; a page may have fewer than asked for and still not be the last.
    pub data: Vec<T>,
    /// What to send as `cursor` for the next page; none on the last one.
    pub cursor: Option<String>,
    /// When it was read.
    pub metadata: Metadata,
}

impl<T> Page<T> {
    /// The page as of `now`.
    pub fn at(now: Millis, data: Vec<T>, cursor: Option<String>) -> Page<T> {
        Page { data, cursor, metadata: Metadata::at(now) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rules::{RunRow, RunState};

    /// A run that was created at 1,000 and has done nothing since.
    pub(super) fn row(state: RunState) -> RunRow {
        RunRow {
            state,
            keys: Arc::from([Arc::from("null"), Arc::from("\"u1\"")]),
            ..RunRow::queued("0000000000101".parse().unwrap(), "charge", "0000000000100".parse().unwrap(), Millis(1_000))
        }
    }

    #[test]
    fn times_are_written_and_read_as_rfc_3339() {
        let time = Time(Millis(1_700_000_000_123));
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2023-11-14T22:13:20.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
    }

    #[test]
    fn a_request_says_a_time_in_three_forms() {
        let read = |text: &str| serde_json::from_value::<When>(text.into());
        let now = Millis(1_700_000_000_000);
        for text in ["2023-11-14T22:13:20Z", "1700000000000", "0s"] {
            assert_eq!(read(text).map(|when| when.seen_from(now)).ok(), Some(now), "{text}");
        }
        assert!(read("yesterday").unwrap_err().to_string().starts_with("`yesterday` must be a time such as "));
        for when in [When::At(now), When::Ago(Span(5_400_000))] {
            let text = serde_json::to_string(&when).unwrap();
            assert_eq!(serde_json::from_str::<When>(&text).ok(), Some(when), "{text}");
        }
    }

    #[test]
    fn stored_json_is_passed_on_byte_by_byte() {
        let text = r#"{"big": 123456789012345678901234567890,  "e":1.50, "u":"\u00e9"}"#;
        assert_eq!(serde_json::to_string(&raw(text)).unwrap(), text);
        assert_eq!(serde_json::to_string(&raw("{broken")).unwrap(), r#""{broken""#);
    }
}
