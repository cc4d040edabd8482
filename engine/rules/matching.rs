//! Which runs an accepted event starts.

use std::sync::Arc;

use crate::base::limits::DEDUPE_WINDOW_MS;
use crate::base::{EventId, Millis, RunId, Span};

use super::outcome::Outcome;
use super::row::{EventRow, RunRow};
use super::write::{Expect, List, Write};

/// A function that is triggered by an event's name, with its expressions evaluated on that event.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The function's id.
    pub function: Arc<str>,
    /// Whether the trigger's `if` holds.
    pub applies: bool,
    /// The value of each concurrency key as canonical JSON text, in the order of the function's limits; `null` where a limit has no key.
    pub keys: Arc<[Arc<str>]>,
    /// Head start in the queue, in milliseconds.
    pub priority_ms: i64,
    /// The value of the idempotency key; none where the option is not used or the key is null.
    pub idempotency: Option<Arc<str>>,
}

/// The list that stores `event` and the runs it starts, and those runs.
///
/// `dedupe` is the sender's id or the request's seed and number. `taken` names the functions whose idempotency key an
/// earlier commit found taken, and by which run: they start nothing, which is noted. `new_id` makes the runs' ids.
pub fn plan(
    event: EventRow,
    dedupe: Option<Arc<str>>,
    candidates: &[Candidate],
    taken: &[(Arc<str>, RunId)],
    now: Millis,
    new_id: &mut dyn FnMut() -> RunId,
) -> (List, Vec<RunRow>) {
    let mut list = List::default();
    let mut runs = Vec::new();
    let expires = now.after(Span(DEDUPE_WINDOW_MS));
    if let Some(key) = dedupe {
        list.expect.push(Expect::EventKeyFree { name: Arc::clone(&event.name), key: Arc::clone(&key), now });
        list.writes.push(Write::TakeEventKey { name: Arc::clone(&event.name), key, event: event.id, expires });
    }
    let mut outcomes = Vec::new();
    for candidate in candidates.iter().filter(|candidate| candidate.applies) {
        if let Some((function, by)) = taken.iter().find(|(function, _)| *function == candidate.function) {
            outcomes.push((Arc::clone(function), Outcome::IdempotencyTaken(*by)));
            continue;
        }
        let run = new_run(new_id(), &event, candidate, now);
        if let Some(key) = &candidate.idempotency {
            let function = Arc::clone(&candidate.function);
            list.expect.push(Expect::IdempotencyFree { function: Arc::clone(&function), key: Arc::clone(key), now });
            list.writes.push(Write::TakeIdempotency { function, key: Arc::clone(key), run: run.id, expires });
        }
        runs.push(run);
    }
    let id = event.id;
    list.writes.push(Write::InsertEvent(event));
    list.writes.extend(outcomes.into_iter().map(|(function, outcome)| Write::NoteOutcome { event: id, function, outcome }));
    list.writes.extend(runs.iter().cloned().map(Write::CreateRun));
    (list, runs)
}

/// The note on an event that it was sent again.
pub fn repeated(event: EventId, name: Arc<str>, now: Millis) -> Write {
    Write::NoteOutcome { event, function: name, outcome: Outcome::Repeated { at: now } }
}

/// A run of a candidate, that has not begun.
pub fn new_run(id: RunId, event: &EventRow, candidate: &Candidate, now: Millis) -> RunRow {
    RunRow {
        keys: Arc::clone(&candidate.keys),
        priority_ms: candidate.priority_ms,
        enter: event.ts.max(now),
        idempotency: candidate.idempotency.clone(),
        ..RunRow::queued(id, Arc::clone(&candidate.function), event.id, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    fn event(ts: i64) -> EventRow {
        EventRow { id: Id(1), name: "a/b".into(), data: "{}".into(), sender_id: None, ts: Millis(ts), accepted: Millis(100), extra: None }
    }

    fn candidate(function: &str, applies: bool, idempotency: Option<&str>) -> Candidate {
        Candidate { function: function.into(), applies, keys: Arc::from([]), priority_ms: 0, idempotency: idempotency.map(Arc::from) }
    }

    fn planned(event: EventRow, candidates: &[Candidate], taken: &[(Arc<str>, RunId)]) -> (List, Vec<RunRow>) {
        let mut last = 10;
        plan(event, Some("k".into()), candidates, taken, Millis(100), &mut || {
            last += 1;
            Id(last)
        })
    }

    #[test]
    fn an_event_starts_one_run_a_function_whose_if_holds() {
        let (list, runs) = planned(event(0), &[candidate("x", true, None), candidate("y", false, None), candidate("z", true, None)], &[]);
        assert_eq!(runs.iter().map(|run| &*run.function).collect::<Vec<_>>(), ["x", "z"]);
        assert_eq!(list.writes.iter().filter(|write| matches!(write, Write::CreateRun(_))).count(), 2);
        assert!(matches!(list.expect[..], [Expect::EventKeyFree { .. }]));
    }

    #[test]
    fn a_time_in_the_future_is_when_the_runs_enter_the_queue() {
        assert_eq!(planned(event(5_000), &[candidate("x", true, None)], &[]).1[0].enter, Millis(5_000));
        assert_eq!(planned(event(5), &[candidate("x", true, None)], &[]).1[0].enter, Millis(100));
    }

    #[test]
    fn ids_and_idempotency_keys_are_kept_for_a_day() {
        let (list, runs) = planned(event(0), &[candidate("x", true, Some("1"))], &[]);
        let a_day_on = Millis(100 + 24 * 60 * 60 * 1000);
        let kept: Vec<&Write> =
            list.writes.iter().filter(|write| matches!(write, Write::TakeEventKey { .. } | Write::TakeIdempotency { .. })).collect();
        let (name, key, function, run) = ("a/b".into(), "k".into(), "x".into(), runs[0].id);
        let id = Write::TakeEventKey { name, key, event: Id(1), expires: a_day_on };
        let idempotency = Write::TakeIdempotency { function, key: "1".into(), run, expires: a_day_on };
        assert_eq!(kept, [&id, &idempotency]);
        let now = Millis(100);
        let (name, key, function) = ("a/b".into(), "k".into(), "x".into());
        let free = Expect::IdempotencyFree { function, key: "1".into(), now };
        assert_eq!(list.expect, [Expect::EventKeyFree { name, key, now }, free]);
    }

    #[test]
    fn a_taken_idempotency_key_leaves_its_function_out_and_keeps_the_event() {
        let candidates = [candidate("x", true, Some("1")), candidate("y", true, None)];
        let (list, runs) = planned(event(0), &candidates, &[("x".into(), Id(7))]);
        assert_eq!(runs.iter().map(|run| &*run.function).collect::<Vec<_>>(), ["y"]);
        assert!(list.writes.iter().any(|write| matches!(write, Write::InsertEvent(_))));
        assert!(!list.writes.iter().any(|write| matches!(write, Write::TakeIdempotency { .. })));
        let note = Write::NoteOutcome { event: Id(1), function: "x".into(), outcome: Outcome::IdempotencyTaken(Id(7)) };
        assert!(list.writes.contains(&note), "{:?}", list.writes);
    }
}
