//! Which runs an accepted event starts.

use std::sync::Arc;

use crate::base::limits::DEDUPE_WINDOW_MS;
use crate::base::{Millis, RunId, Span};

use super::row::{EventRow, RunRow, RunState};
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
/// earlier commit found taken: they start nothing. `new_id` makes the runs' ids.
pub fn plan(
    event: EventRow,
    dedupe: Option<Arc<str>>,
    candidates: &[Candidate],
    taken: &[Arc<str>],
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
    for candidate in candidates.iter().filter(|candidate| candidate.applies && !taken.contains(&candidate.function)) {
        let run = RunRow {
            id: new_id(),
            rev: 0,
            function: Arc::clone(&candidate.function),
            event: event.id,
            state: RunState::Queued,
            keys: Arc::clone(&candidate.keys),
            priority_ms: candidate.priority_ms,
            created: now,
            enter: event.ts.max(now),
            started: None,
            ended: None,
            wake: None,
            attempt: 1,
            suspects: 0,
            version: None,
            output: None,
            error: None,
            reason: None,
            idempotency: candidate.idempotency.clone(),
        };
        if let Some(key) = &candidate.idempotency {
            let function = Arc::clone(&candidate.function);
            list.expect.push(Expect::IdempotencyFree { function: Arc::clone(&function), key: Arc::clone(key), now });
            list.writes.push(Write::TakeIdempotency { function, key: Arc::clone(key), run: run.id, expires });
        }
        runs.push(run);
    }
    list.writes.push(Write::InsertEvent(event));
    list.writes.extend(runs.iter().cloned().map(Write::CreateRun));
    (list, runs)
}
