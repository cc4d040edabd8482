//! The script's two time types: a moment, RFC 3339 in JSON, and a period, `1h30m` in JSON.

use std::fmt;

use rhai::{Dynamic, Engine, EvalAltResult};

use crate::base::limits::SLEEP_MOST_MS;
use crate::base::{Millis, Span};

use super::error::{Fault, Thrown};

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) Millis);

/// A length of time, never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Period(pub(super) Span);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.rfc3339())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads an RFC 3339 time.
pub(super) fn moment(text: &str) -> Result<Moment, Fault> {
    stamp(text).ok_or_else(|| Thrown::last("E0407", format!("`{text}` is not a time; write it as 2026-01-31T09:30:00Z")).fault())
}

/// The time of an event: a time, RFC 3339 text, or milliseconds since 1970 as events have it.
pub(super) fn stamp_of(value: &Dynamic) -> Option<Millis> {
    if let Some(moment) = value.read_lock::<Moment>() {
        return Some(moment.0);
    }
    match value.as_immutable_string_ref() {
        Ok(text) => stamp(&text).map(|moment| moment.0),
        Err(_) => value.as_int().ok().map(Millis),
    }
}

fn stamp(text: &str) -> Option<Moment> {
    text.trim().parse::<jiff::Timestamp>().ok().map(|stamp| Moment(Millis(stamp.as_millisecond())))
}

/// Reads a length of time: `"1h30m"`, seconds as a number, or a period.
pub(super) fn period(value: &Dynamic) -> Result<Period, Fault> {
    let bad = |shown: String| {
        Thrown::last("E0407", format!("{shown} is not a duration; write 500ms, 30s, 5m, 2h, 7d or 1h30m, or seconds")).fault()
    };
    if let Some(period) = value.read_lock::<Period>() {
        return Ok(*period);
    }
    let ms = if let Ok(seconds) = value.as_int() {
        seconds.checked_mul(1000).ok_or_else(|| bad(seconds.to_string()))?
    } else if let Ok(seconds) = value.as_float() {
        let ms = seconds * 1000.0;
        if !ms.is_finite() || ms.abs() >= i64::MAX as f64 {
            return Err(bad(seconds.to_string()));
        }
        ms.ceil() as i64
    } else if let Ok(text) = value.as_immutable_string_ref() {
        text.parse::<Span>().map_err(|_| bad(format!("`{}`", text.as_str())))?.0
    } else {
        return Err(bad(format!("a value of type {}", value.type_name())));
    };
    if ms < 0 {
        return Err(Thrown::last("E0407", "a duration is never negative").fault());
    }
    Ok(Period(Span(ms)))
}

/// A length of time that a run may sleep: at most a year.
pub(super) fn sleep_period(value: &Dynamic) -> Result<Span, Fault> {
    within_a_year(period(value)?.0)
}

/// Refuses what is longer than a run may sleep.
pub(super) fn within_a_year(span: Span) -> Result<Span, Fault> {
    if span.0 > SLEEP_MOST_MS {
        return Err(Thrown::last("E0407", format!("{span} is longer than a year, the longest sleep")).fault());
    }
    Ok(span)
}

/// The end of a wait: at most a year away, as that of a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// So long after its beginning.
    After(Span),
    /// At this time; at once where that is over.
    At(Millis),
}

impl Deadline {
    /// Reads a length of time or a time.
    pub(super) fn read(value: &Dynamic) -> Result<Deadline, Fault> {
        if let Some(moment) = value.read_lock::<Moment>() {
            return Ok(Deadline::At(moment.0));
        }
        if let Ok(text) = value.as_immutable_string_ref()
            && let Some(moment) = stamp(&text)
        {
            return Ok(Deadline::At(moment.0));
        }
        period(value).map(|Period(span)| Deadline::After(span))
    }

    /// The end of a wait that begins `now`.
    pub(super) fn from(self, now: Millis) -> Result<Millis, Fault> {
        let (until, shown) = match self {
            Deadline::After(span) => (now.after(span), span.to_string()),
            Deadline::At(at) => (at, at.rfc3339()),
        };
        if until.since(now).0 > SLEEP_MOST_MS {
            return Err(Thrown::last("E0407", format!("{shown} is more than a year away, the longest time-out of a wait")).fault());
        }
        Ok(until)
    }
}

/// Gives the two types to scripts: arithmetic, comparison, text and fields.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Moment>("time").register_type_with_name::<Period>("duration");
    engine.register_fn("to_string", |moment: &mut Moment| moment.to_string());
    engine.register_fn("to_debug", |moment: &mut Moment| moment.to_string());
    engine.register_fn("to_string", |period: &mut Period| period.to_string());
    engine.register_fn("to_debug", |period: &mut Period| period.to_string());
    engine.register_get("ms", |moment: &mut Moment| moment.0.0);
    engine.register_get("unix", |moment: &mut Moment| moment.0.0.div_euclid(1000));
    engine.register_get("ms", |period: &mut Period| period.0.0);
    engine.register_get("seconds", |period: &mut Period| period.0.0 as f64 / 1000.0);
    engine.register_fn("+", |moment: Moment, period: Period| add(moment, period.0.0));
    engine.register_fn("-", |moment: Moment, period: Period| add(moment, -period.0.0));
    engine.register_fn("+", |moment: Moment, text: &str| add(moment, period(&text.into())?.0.0));
    engine.register_fn("-", |moment: Moment, text: &str| add(moment, -period(&text.into())?.0.0));
    engine.register_fn("-", |later: Moment, earlier: Moment| Period(later.0.since(earlier.0)));
    engine.register_fn("+", |first: Period, second: Period| Period(Span(first.0.0.saturating_add(second.0.0))));
    engine.register_fn("==", |a: Moment, b: Moment| a == b).register_fn("!=", |a: Moment, b: Moment| a != b);
    engine.register_fn("<", |a: Moment, b: Moment| a < b).register_fn("<=", |a: Moment, b: Moment| a <= b);
    engine.register_fn(">", |a: Moment, b: Moment| a > b).register_fn(">=", |a: Moment, b: Moment| a >= b);
    engine.register_fn("==", |a: Period, b: Period| a == b).register_fn("!=", |a: Period, b: Period| a != b);
    engine.register_fn("<", |a: Period, b: Period| a < b).register_fn("<=", |a: Period, b: Period| a <= b);
    engine.register_fn(">", |a: Period, b: Period| a > b).register_fn(">=", |a: Period, b: Period| a >= b);
}

fn add(moment: Moment, ms: i64) -> Result<Moment, Box<EvalAltResult>> {
    let moved = moment.0.0.checked_add(ms).filter(|ms| jiff::Timestamp::from_millisecond(*ms).is_ok());
    moved.map(|ms| Moment(Millis(ms))).ok_or_else(|| Thrown::last("E0407", "the time lies outside of the calendar").fault())
}
