//! What the end of a run tells others: the engine's own events, which functions can be started by, and the run of its
//! function's `on_failure` script, which one of them starts.
//!
//! The runs that such an event starts tell nothing when they end, so that no chain of them goes on without end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::{EventId, Json, Millis, RunId};

use super::row::{EventRow, Failure, RunRow, RunState};

/// A run has failed.
pub const FAILED: &str = "stepwell/function.failed";
/// A run has come to its end by itself: it has completed or failed.
pub const FINISHED: &str = "stepwell/function.finished";
/// A run was cancelled.
pub const CANCELLED: &str = "stepwell/function.cancelled";
/// The events that the end of a run can make.
pub const TOLD: [&str; 3] = [FAILED, FINISHED, CANCELLED];

/// What the reason of a run begins with that an event cancelled: the event's name and id follow.
pub const CANCELLED_BY: &str = "cancel_on: ";

/// What follows a function's id in the id of the function that its `on_failure` script is. No declared id holds a dot.
const ON_FAILURE: &str = ".on_failure";

/// The id of the function that the `on_failure` script of a function is.
pub fn on_failure_of(function: &str) -> String {
    format!("{function}{ON_FAILURE}")
}

/// The function whose `on_failure` script the function with this id is.
pub fn failing_function(id: &str) -> Option<&str> {
    id.strip_suffix(ON_FAILURE)
}

/// The events that an end in this state makes, where somebody listens.
pub fn told_by(state: RunState) -> &'static [&'static str] {
    match state {
        RunState::Completed => &[FINISHED],
        RunState::Failed => &[FAILED, FINISHED],
        RunState::Cancelled => &[CANCELLED],
        _ => &[],
    }
}

/// Whether the end of a run that this event started tells nothing.
pub fn is_silent(event: &str) -> bool {
    TOLD.contains(&event)
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The terminal state.
    pub state: RunState,
    /// Its result, if completed.
    pub output: Option<&'a Json>,
    /// Its error, if failed.
    pub error: Option<&'a Failure>,
    /// Why it was cancelled.
    pub reason: Option<&'a str>,
}

/// The data of such an event, in the order in which they are written.
#[derive(Serialize, Deserialize)]
struct Data {
    function_id: String,
    run_id: RunId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<Millis>,
    event: Cause,
    /// Of a batch all of its events, the one above first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<Cause>,
}

/// What started a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// Its event; of a batch the first one.
    pub by: EventRow,
    /// The further events of its batch; none for a run that is no batch.
    pub batch: Option<Vec<EventRow>>,
}

/// The event that started the run that has ended.
#[derive(Serialize, Deserialize)]
struct Cause {
    id: String,
    name: String,
    data: Box<RawValue>,
    ts: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<Box<RawValue>>,
}

impl Cause {
    fn of(row: &EventRow) -> Cause {
        Cause {
            id: row.sender_id.as_deref().map_or_else(|| row.id.to_string(), str::to_owned),
            name: row.name.to_string(),
            data: raw(&row.data),
            ts: row.ts.0,
            extra: row.extra.as_deref().map(raw),
        }
    }

    /// The event as a script sees it; `told` is the one that tells of it.
    fn row(self, told: &EventRow) -> EventRow {
        EventRow {
            id: told.id,
            name: Arc::from(self.name),
            data: Json::from(self.data.get()),
            sender_id: Some(Arc::from(self.id)),
            ts: Millis(self.ts),
            accepted: told.accepted,
            extra: self.extra.map(|extra| Json::from(extra.get())),
        }
    }
}

/// JSON as it is written; a damaged row's becomes null.
fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The event that a run's end makes.
pub fn event(name: &str, id: EventId, run: &RunRow, started: &Started, end: End<'_>, now: Millis) -> EventRow {
    let Started { by, batch } = started;
    let data = Data {
        function_id: run.function.to_string(),
        run_id: run.id,
        error: end.error.cloned(),
        result: end.output.filter(|_| end.state == RunState::Completed).map(|json| raw(json)),
        reason: end.reason.map(str::to_owned),
        key: run.keys.iter().find(|key| &***key != "null").map(|key| raw(key)),
        started: run.started,
        event: Cause::of(by),
        events: batch.iter().flat_map(|rest| std::iter::once(by).chain(rest)).map(Cause::of).collect(),
    };
    // Nothing in it can fail to be written: texts, numbers, and JSON that is text already.
    let data = serde_json::to_string(&data).unwrap_or_else(|_| "{}".to_owned());
    EventRow { id, name: Arc::from(name), data: Json::from(data), sender_id: None, ts: now, accepted: now, extra: None }
}

/// The run that failed, as an `on_failure` script sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    /// Its id.
    pub run: RunId,
    /// Its function.
    pub function: Arc<str>,
    /// Its first concurrency key that is not null, as JSON text.
    pub key: Option<Json>,
    /// Its first start.
    pub started: Option<Millis>,
    /// Why it failed, as JSON text.
    pub error: Json,
}

/// What an `on_failure` script sees, read from the event that started its run: the run that failed, and what had started
/// that one. None for an event that is not one of those.
pub fn failed(row: &EventRow) -> Option<(Failed, Started)> {
    let data: Data = serde_json::from_str(&row.data).ok().filter(|_| *row.name == *FAILED)?;
    let mut events = data.events.into_iter().map(|cause| cause.row(row));
    let batch = events.next().map(|_| events.collect());
    let started = Started { by: data.event.row(row), batch };
    let failed = Failed {
        run: data.run_id,
        function: Arc::from(data.function_id),
        key: data.key.map(|key| Json::from(key.get())),
        started: data.started,
        error: Json::from(serde_json::to_string(&data.error.unwrap_or_default()).ok()?),
    };
    Some((failed, started))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;
    use crate::rules::run::example;

    fn cause() -> EventRow {
        let data = r#"{"n": 12345678901234567890123}"#;
        let extra = Some(Json::from(r#"{"user":7}"#));
        EventRow { id: Id(6), name: "a/b".into(), data: data.into(), sender_id: None, ts: Millis(3), accepted: Millis(4), extra }
    }

    #[test]
    fn an_on_failure_script_sees_the_event_of_the_run_that_failed_as_it_was() {
        let error = Failure { message: "no money".into(), step: Some("charge".into()), attempts: Some(4), ..Failure::default() };
        let run = RunRow { keys: Arc::from([Arc::from("null"), Arc::from("\"u1\"")]), ..example() };
        let end = End { state: RunState::Failed, output: None, error: Some(&error), reason: None };
        let alone = Started { by: cause(), batch: None };
        let row = event(FAILED, Id(9), &run, &alone, end, Millis(50));
        assert_eq!((row.id, &*row.name, row.ts), (Id(9), FAILED, Millis(50)));
        let (failed, Started { by: seen, batch }) = failed(&row).expect("it is one");
        assert_eq!(batch, None);
        assert_eq!((failed.run, &*failed.function, failed.key.as_deref()), (run.id, "pay", Some("\"u1\"")));
        assert_eq!(&*failed.error, r#"{"message":"no money","step":"charge","attempts":4}"#);
        let expected = cause();
        assert_eq!((&seen.name, &seen.data, seen.ts, seen.extra), (&expected.name, &expected.data, expected.ts, expected.extra));
        assert_eq!(seen.sender_id.as_deref(), Some(&*Id(6).to_string()));
        assert_eq!(super::failed(&cause()), None);
        let second = EventRow { id: Id(7), sender_id: Some("mine".into()), data: "[2]".into(), ..cause() };
        let together = Started { by: cause(), batch: Some(vec![second.clone()]) };
        let row = event(FAILED, Id(9), &run, &together, end, Millis(50));
        let (_, Started { by, batch }) = super::failed(&row).expect("it is one");
        let batch = batch.expect("a batch");
        assert_eq!((by.data, batch.len()), (cause().data, 1));
        assert_eq!((&batch[0].data, &batch[0].sender_id), (&second.data, &second.sender_id));
    }

    #[test]
    fn each_end_tells_what_it_was() {
        let run = example();
        let (error, output) = (Failure::default(), Json::from("[1]"));
        let data = |name: &str, end| event(name, Id(9), &run, &Started { by: cause(), batch: None }, end, Millis(50)).data.to_string();
        let end = |state| End { state, output: Some(&output), error: None, reason: None };
        assert!(data(FINISHED, end(RunState::Completed)).contains(r#""result":[1]"#));
        let failed = End { state: RunState::Failed, output: None, error: Some(&error), reason: None };
        assert!(data(FINISHED, failed).contains(r#""error":{"message":""}"#));
        let cancelled = End { state: RunState::Cancelled, output: None, error: None, reason: Some("enough") };
        assert!(data(CANCELLED, cancelled).contains(r#""reason":"enough""#));
        let told = |state| told_by(state).to_vec();
        assert_eq!((told(RunState::Failed), told(RunState::Cancelled)), (vec![FAILED, FINISHED], vec![CANCELLED]));
        assert!(told(RunState::Parked).is_empty());
        assert!(TOLD.into_iter().all(is_silent) && !is_silent("a/b") && !is_silent(super::super::family::INVOKED));
    }

    #[test]
    fn the_function_of_an_on_failure_script_leads_back_to_its_own() {
        assert_eq!(failing_function(&on_failure_of("pay")), Some("pay"));
        assert_eq!(failing_function("pay"), None);
    }
}
