//! The spans of a run that has ended, made of its rows, in OTLP's JSON.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::base::Millis;
use crate::rules::row::Recorded;
use crate::rules::trace::{RunTrace, TraceContext};
use crate::rules::{AttemptRow, Failure, Kind, Record, RunRow, RunState};
use crate::store::Loaded;

/// `SpanKind`: within this engine, something that is handed on, something that was taken.
const INTERNAL: u8 = 1;
const PRODUCER: u8 = 4;
const CONSUMER: u8 = 5;
/// `StatusCode`.
const OK: u8 = 1;
const ERROR: u8 = 2;

/// An attribute that is a text.
pub(super) fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// An attribute that is a number; JSON has it as text, since it may be larger than JavaScript's.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanos(at: Millis) -> String {
    (i128::from(at.0) * 1_000_000).to_string()
}

/// All spans of a run: its own first; none where its trace is not to be kept, or it has not ended. What a replay took from the run
/// before is told there.
pub(super) fn of(loaded: &Loaded) -> Vec<Value> {
    let Loaded { run, event, journal, .. } = loaded;
    let trace = RunTrace::of(run, event.extra.as_deref());
    let Some(ended) = run.ended.filter(|_| trace.is_sampled()) else { return Vec::new() };
    // The failed attempts of each step; those of the code between steps have an empty key.
    let mut failed: IndexMap<&str, Vec<&AttemptRow>> = IndexMap::new();
    for attempt in &journal.attempts {
        failed.entry(&attempt.key).or_default().push(attempt);
    }
    let failed_of = |key: &str| failed.get(key).map_or(&[][..], Vec::as_slice);
    let mut spans = vec![whole(loaded, &trace, ended, failed_of(""))];
    let is_copied = |record: &Record| run.replay_of.is_some() && record.ended < run.created;
    let shown = journal.records.iter().filter(|record| !record.kind.is_tiny() && !is_copied(record));
    spans.extend(shown.map(|record| step(run, &trace, record, failed_of(&record.key))));
    // Steps that were tried and came to nothing before the run ended.
    let known: HashSet<&str> = journal.records.iter().map(|record| &*record.key).chain([""]).collect();
    let left = failed.iter().filter(|(key, _)| !known.contains(**key));
    spans.extend(left.map(|(_, attempts)| unfinished(run, &trace, attempts, ended)));
    spans
}

fn whole(loaded: &Loaded, trace: &RunTrace, ended: Millis, attempts: &[&AttemptRow]) -> Value {
    let Loaded { run, event, batch, .. } = loaded;
    let mut attributes = of_run(run);
    attributes.push(text("stepwell.run.state", run.state.word()));
    attributes.push(text("stepwell.event.id", &event.id.to_string()));
    attributes.push(text("stepwell.event.name", &event.name));
    attributes.extend(run.version.as_ref().map(|version| text("stepwell.function.version", version)));
    attributes.extend(run.reason.as_ref().map(|reason| text("stepwell.run.reason", reason)));
    attributes.extend(run.replay_of.map(|of| text("stepwell.run.replay_of", &of.to_string())));
    attributes.extend(run.invoked_by.map(|by| text("stepwell.run.invoked_by", &by.to_string())));
    let mut events: Vec<Value> = run.started.iter().map(|at| json!({ "timeUnixNano": nanos(*at), "name": "started" })).collect();
    events.extend(attempts.iter().map(|attempt| failed(attempt)));
    // The other events of a batch were sent in traces of their own.
    let others = batch.iter().filter_map(|event| TraceContext::of_event(event.extra.as_deref()));
    let links: Vec<Value> = others.map(|other| json!({ "traceId": other.trace.to_string(), "spanId": other.span.to_string() })).collect();
    let mut span = json!({
        "traceId": trace.trace.to_string(),
        "spanId": trace.span.to_string(),
        "flags": trace.flags,
        "name": &*run.function,
        "kind": CONSUMER,
        "startTimeUnixNano": nanos(run.created),
        "endTimeUnixNano": nanos(ended),
        "attributes": attributes,
        "events": events,
        "links": links,
        "status": match run.state {
            RunState::Completed => json!({ "code": OK }),
            RunState::Failed => error(run.error.as_deref()),
            // Nobody failed where somebody decided that it should end.
            _ => json!({}),
        },
    });
    if let Some(parent) = trace.parent {
        span["parentSpanId"] = json!(parent.to_string());
    }
    span
}

fn of_run(run: &RunRow) -> Vec<Value> {
    vec![text("stepwell.run.id", &run.id.to_string()), text("stepwell.function.id", &run.function)]
}

fn step(run: &RunRow, trace: &RunTrace, record: &Record, attempts: &[&AttemptRow]) -> Value {
    let mut attributes = of_run(run);
    attributes.push(text("stepwell.step.key", &record.key));
    attributes.push(text("stepwell.step.kind", record.kind.word()));
    attributes.push(number("stepwell.step.attempts", u64::from(record.attempts)));
    attributes.extend(line(record.line.as_deref()));
    let (end, status) = match &record.result {
        Recorded::Value(_) => (record.ended, json!({ "code": OK })),
        Recorded::Failed(failure) => (record.ended, error(Some(failure))),
        // A sleep is recorded when it begins.
        Recorded::Until(until) => ((*until).max(record.ended), json!({ "code": OK })),
    };
    let kind = if matches!(record.kind, Kind::Send | Kind::Invoke) { PRODUCER } else { INTERNAL };
    below(trace, &record.key, kind, (record.started, end), attributes, attempts, &status)
}

fn unfinished(run: &RunRow, trace: &RunTrace, attempts: &[&AttemptRow], ended: Millis) -> Value {
    let (Some(first), Some(last)) = (attempts.first(), attempts.last()) else { return Value::Null };
    let mut attributes = of_run(run);
    attributes.push(text("stepwell.step.key", &first.key));
    attributes.push(number("stepwell.step.attempts", attempts.len() as u64));
    attributes.extend(line(first.line.as_deref()));
    below(trace, &first.key, INTERNAL, (first.started, ended), attributes, attempts, &error(Some(&last.error)))
}

fn below(
    trace: &RunTrace,
    key: &str,
    kind: u8,
    (start, end): (Millis, Millis),
    attributes: Vec<Value>,
    attempts: &[&AttemptRow],
    status: &Value,
) -> Value {
    let events: Vec<Value> = attempts.iter().map(|attempt| failed(attempt)).collect();
    json!({
        "traceId": trace.trace.to_string(),
        "spanId": trace.step(key).to_string(),
        "parentSpanId": trace.span.to_string(),
        "flags": trace.flags,
        "name": key,
        "kind": kind,
        "startTimeUnixNano": nanos(start),
        "endTimeUnixNano": nanos(end),
        "attributes": attributes,
        "events": events,
        "status": status,
    })
}

/// A failed attempt, as an event of its step or run.
fn failed(attempt: &AttemptRow) -> Value {
    let mut attributes = vec![text("exception.message", &attempt.error.message), number("stepwell.attempt", u64::from(attempt.attempt))];
    if !attempt.error.code.is_empty() {
        attributes.push(text("exception.type", &attempt.error.code));
    }
    json!({ "timeUnixNano": nanos(attempt.ended), "name": "exception", "attributes": attributes })
}

fn error(failure: Option<&Failure>) -> Value {
    json!({ "code": ERROR, "message": failure.map_or("", |failure| failure.message.as_str()) })
}

/// Where in a handler something was called.
fn line(place: Option<&str>) -> Vec<Value> {
    let Some((file, line)) = place.and_then(|place| place.rsplit_once(':')) else { return Vec::new() };
    let mut attributes = vec![text("code.file.path", file)];
    attributes.extend(line.parse().ok().map(|line| number("code.line.number", line)));
    attributes
}
