//! Which runs an accepted event starts: the gates, in order.
//!
//! event id → `if` → `idempotency` → `rate_limit` → `debounce` or `batch` → `singleton` → the queue, where `throttle`, `concurrency` and `priority`
//! decide when the run starts. What a gate takes is written in the list of the run that passed all of them; so where a later
//! one skips, an earlier one has taken nothing.

use std::sync::Arc;

use crate::base::limits::DEDUPE_WINDOW_MS;
use crate::base::{EventId, Millis, RunId, Span};

use super::gates::{Collect, Found, Gate, GateKeys, Gates, Holder, RateLimit, Room, Seat, Singleton, WindowKey, WindowRow, singleton};
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
    /// Its other gates.
    pub gates: Gates,
}

impl Candidate {
    /// A candidate without any option, or one whose `if` does not hold.
    pub fn of(function: &Arc<str>, applies: bool) -> Candidate {
        Candidate {
            function: Arc::clone(function),
            applies,
            keys: Arc::from([]),
            priority_ms: 0,
            idempotency: None,
            gates: Gates::default(),
        }
    }
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq)]
enum Passage<'f> {
    /// It starts a run: with the time from which the event counts in its rate limit, and the run whose place it takes.
    Starts { counts_from: Option<(RateLimit, Millis)>, replaces: Option<&'f Holder>, seat: Option<Seat> },
    /// It starts nothing.
    Skipped(Outcome),
}

/// An event that became part of a run that was there.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// The function.
    pub function: Arc<str>,
    /// The run.
    pub run: RunId,
    /// Its place.
    pub seat: Seat,
    /// What was evaluated on the event, for a run that takes it instead of its own: the value of each concurrency key.
    pub keys: Arc<[Arc<str>]>,
    /// The head start in the queue, in milliseconds.
    pub priority_ms: i64,
    /// The values of the gates' keys.
    pub gates: Option<Arc<GateKeys>>,
}

/// The list that stores `event` and the runs it starts, those runs, and the runs that it became part of.
///
/// `dedupe` is the sender's id or the request's seed and number. `found` says for each candidate what its gates go by; `ids` holds
/// the id of the run of each candidate that applies, in order. What a gate skips is noted.
pub fn plan(
    event: EventRow,
    dedupe: Option<Arc<str>>,
    candidates: &[Candidate],
    found: &[Found],
    ids: &[RunId],
    now: Millis,
) -> (List, Vec<RunRow>, Vec<Join>) {
    let mut list = List::default();
    let (mut runs, mut joins) = (Vec::new(), Vec::new());
    let mut changes = Vec::new();
    let expires = now.after(Span(DEDUPE_WINDOW_MS));
    if let Some(key) = dedupe {
        list.expect.push(Expect::EventKeyFree { name: Arc::clone(&event.name), key: Arc::clone(&key), now });
        list.writes.push(Write::TakeEventKey { name: Arc::clone(&event.name), key, event: event.id, expires });
    }
    let mut outcomes = Vec::new();
    let nothing = Found::default();
    let applying = candidates.iter().enumerate().filter(|(_, candidate)| candidate.applies);
    for ((at, candidate), id) in applying.zip(ids) {
        let (counts_from, replaces, seat) = match pass(candidate, found.get(at).unwrap_or(&nothing)) {
            Passage::Starts { counts_from, replaces, seat } => (counts_from, replaces, seat),
            Passage::Skipped(outcome) => {
                // Not taken, but looked at: it is the first gate, so that it is the one that is named.
                if let Some(key) = candidate.idempotency.as_ref().filter(|_| !matches!(outcome, Outcome::IdempotencyTaken(_))) {
                    list.expect.push(Expect::IdempotencyFree { function: Arc::clone(&candidate.function), key: Arc::clone(key), now });
                }
                outcomes.push((Arc::clone(&candidate.function), outcome));
                continue;
            }
        };
        let join = join(candidate, seat, &event, now);
        let run = match &join {
            Some((join, ..)) => join.run,
            None => *id,
        };
        if let Some(key) = &candidate.idempotency {
            let function = Arc::clone(&candidate.function);
            list.expect.push(Expect::IdempotencyFree { function: Arc::clone(&function), key: Arc::clone(key), now });
            list.writes.push(Write::TakeIdempotency { function, key: Arc::clone(key), run, expires });
        }
        if let (Some((rule, from)), Some((_, key))) = (counts_from, &candidate.gates.rate_limit) {
            let window = WindowKey { function: Arc::clone(&candidate.function), gate: Gate::RateLimit, key: Arc::clone(key) };
            list.writes.push(Write::PutWindow(WindowRow { window, entry: event.id, value: from.0, expires: from.after(rule.period) }));
        }
        if let Some((join, open, write, outcome)) = join {
            list.expect.extend(open);
            outcomes.push((Arc::clone(&candidate.function), outcome));
            changes.push(write);
            joins.push(join);
            continue;
        }
        let mut run = new_run(*id, &event, candidate, now);
        if let Some(Seat::First { enter, .. }) = seat {
            run.enter = enter;
            if let Some((Collect::Debounce { .. }, _)) = candidate.gates.collect {
                // The run may have another event by the time that somebody asks.
                outcomes.push((Arc::clone(&candidate.function), Outcome::DebouncedInto(run.id)));
            }
        }
        if let Some(holder) = replaces {
            outcomes.push((Arc::clone(&candidate.function), Outcome::SingletonReplaced(holder.run)));
            let List { expect, writes } = singleton::replace(holder);
            list.expect.extend(expect);
            changes.extend(writes);
        }
        runs.push(run);
    }
    let id = event.id;
    list.writes.push(Write::InsertEvent(event));
    list.writes.extend(outcomes.into_iter().map(|(function, outcome)| Write::NoteOutcome { event: id, function, outcome }));
    list.writes.extend(runs.iter().cloned().map(Write::CreateRun));
    list.writes.extend(changes);
    (list, runs, joins)
}

/// What makes an event part of a run that is there: what that expects, the change, and the note on the event.
fn join(candidate: &Candidate, seat: Option<Seat>, event: &EventRow, now: Millis) -> Option<(Join, Option<Expect>, Write, Outcome)> {
    let Candidate { function, keys, priority_ms, .. } = candidate;
    let (keys, priority_ms, gates) = (Arc::clone(keys), *priority_ms, candidate.gates.keys());
    let (run, own, write, outcome) = match seat? {
        Seat::First { .. } => return None,
        Seat::Instead { run, enter, own } => {
            let (keys, gates) = (Arc::clone(&keys), gates.clone());
            (run, own, Write::Retarget { run, event: event.id, enter, keys, priority_ms, gates }, Outcome::DebouncedInto(run))
        }
        Seat::Beside { run, full, own } => {
            (run, own, Write::AddEvent { run, event: event.id, enter: full.then_some(now) }, Outcome::BatchedInto(run))
        }
    };
    // A run that the same list makes is not there yet when the list is checked.
    let open = (!own).then_some(Expect::RunOpen(run));
    Some((Join { function: Arc::clone(function), run, seat: seat?, keys, priority_ms, gates }, open, write, outcome))
}

/// Leads a candidate through the gates.
fn pass<'f>(candidate: &Candidate, found: &'f Found) -> Passage<'f> {
    if let Some(by) = found.taken {
        return Passage::Skipped(Outcome::IdempotencyTaken(by));
    }
    let counts_from = match (&candidate.gates.rate_limit, found.room) {
        (Some(_), Some(Room::Full(until))) => return Passage::Skipped(Outcome::RateLimited { until }),
        (Some((rule, _)), Some(Room::Free(from))) => Some((*rule, from)),
        _ => None,
    };
    if candidate.gates.collect.is_some() {
        return Passage::Starts { counts_from, replaces: None, seat: found.seat };
    }
    let replaces = match (&candidate.gates.singleton, &found.holder) {
        (Some((Singleton::Skip, _)), Some(holder)) => return Passage::Skipped(Outcome::SingletonSkipped(holder.run)),
        (Some((Singleton::Cancel, _)), holder) => holder.as_ref(),
        _ => None,
    };
    Passage::Starts { counts_from, replaces, seat: None }
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
        gates: candidate.gates.keys(),
        ..RunRow::queued(id, Arc::clone(&candidate.function), event.id, now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::{self, Doomed};
    use super::*;
    use crate::base::Id;

    fn event(ts: i64) -> EventRow {
        EventRow { id: Id(1), name: "a/b".into(), data: "{}".into(), sender_id: None, ts: Millis(ts), accepted: Millis(100), extra: None }
    }

    fn candidate(function: &str, applies: bool, idempotency: Option<&str>) -> Candidate {
        Candidate { idempotency: idempotency.map(Arc::from), ..Candidate::of(&function.into(), applies) }
    }

    fn planned(event: EventRow, candidates: &[Candidate], found: &[Found]) -> (List, Vec<RunRow>) {
        let (list, runs, _) = plan(event, Some("k".into()), candidates, found, &[Id(11), Id(12), Id(13)], Millis(100));
        (list, runs)
    }

    fn collecting(how: Collect) -> Candidate {
        let gates = Gates { collect: Some((how, "1".into())), ..Gates::default() };
        Candidate { gates, idempotency: Some("2".into()), priority_ms: 5, ..Candidate::of(&"x".into(), true) }
    }

    fn seated(seat: Seat) -> [Found; 1] {
        [Found { seat: Some(seat), ..Found::default() }]
    }

    #[test]
    fn the_first_event_of_a_debounce_starts_a_run_and_the_next_takes_its_place() {
        let debounce = collecting(Collect::Debounce { period: Span::seconds(1), timeout: None });
        let (list, runs) = planned(event(0), std::slice::from_ref(&debounce), &seated(Seat::First { enter: Millis(1_100), open: true }));
        assert_eq!((runs[0].enter, runs[0].collects().map(|key| &**key)), (Millis(1_100), Some("1")));
        let note = |run| Write::NoteOutcome { event: Id(1), function: "x".into(), outcome: Outcome::DebouncedInto(run) };
        assert!(list.writes.contains(&note(Id(11))));
        let seat = Seat::Instead { run: Id(5), enter: Millis(1_100), own: false };
        let (list, runs, joins) = plan(event(0), None, &[debounce], &seated(seat), &[Id(11)], Millis(100));
        assert_eq!((runs.len(), joins.len(), joins[0].run), (0, 1, Id(5)));
        assert!(list.expect.contains(&Expect::RunOpen(Id(5))) && list.writes.contains(&note(Id(5))));
        let put_off =
            |write: &Write| matches!(write, Write::Retarget { run: Id(5), event: Id(1), enter: Millis(1_100), priority_ms: 5, .. });
        assert!(list.writes.iter().any(put_off), "{:?}", list.writes);
        let takes = |write: &Write| matches!(write, Write::TakeIdempotency { run: Id(5), .. });
        assert!(list.writes.iter().any(takes), "its idempotency key is the run's");
    }

    #[test]
    fn events_of_a_batch_are_added_and_the_last_one_starts_the_run() {
        let batch = [collecting(Collect::Batch { size: 3, timeout: Span::seconds(1) })];
        for (full, own, enter) in [(false, false, None), (true, true, Some(Millis(100)))] {
            let found = seated(Seat::Beside { run: Id(5), full, own });
            let (list, runs, joins) = plan(event(9), None, &batch, &found, &[Id(11)], Millis(100));
            assert_eq!((runs.len(), joins.len()), (0, 1));
            assert!(list.writes.contains(&Write::AddEvent { run: Id(5), event: Id(1), enter }));
            assert_eq!(list.expect.contains(&Expect::RunOpen(Id(5))), !own);
        }
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
        let taken = Found { taken: Some(Id(7)), ..Found::default() };
        let (list, runs) = planned(event(0), &candidates, &[taken, Found::default()]);
        assert_eq!(runs.iter().map(|run| &*run.function).collect::<Vec<_>>(), ["y"]);
        assert!(list.writes.iter().any(|write| matches!(write, Write::InsertEvent(_))));
        assert!(!list.writes.iter().any(|write| matches!(write, Write::TakeIdempotency { .. })));
        let note = Write::NoteOutcome { event: Id(1), function: "x".into(), outcome: Outcome::IdempotencyTaken(Id(7)) };
        assert!(list.writes.contains(&note), "{:?}", list.writes);
    }

    /// A candidate with every gate, and what they find when all of them let it through.
    fn gated(mode: Singleton) -> (Candidate, Found) {
        let rule = RateLimit { limit: 2, period: Span(1_000) };
        let gates = Gates {
            rate_limit: Some((rule, "\"r\"".into())),
            singleton: Some((mode, "\"s\"".into())),
            throttle: Some("1".into()),
            collect: None,
        };
        (Candidate { gates, ..candidate("x", true, Some("1")) }, Found { room: Some(Room::Free(Millis(107))), ..Found::default() })
    }

    fn holder() -> Holder {
        let run = RunRow { id: Id(3), ..super::super::run::example() };
        let doomed = Doomed { run, reason: "enough".into(), told: Vec::new() };
        Holder { run: Id(3), cancel: family::cancel(vec![doomed], None, Millis(100)), own: false }
    }

    #[test]
    fn what_passes_every_gate_is_counted_and_keeps_its_keys() {
        let (candidate, found) = gated(Singleton::Skip);
        let (list, runs) = planned(event(0), &[candidate], &[found]);
        let window = WindowKey { function: "x".into(), gate: Gate::RateLimit, key: "\"r\"".into() };
        let row = WindowRow { window, entry: Id(1), value: 107, expires: Millis(1_107) };
        assert!(list.writes.contains(&Write::PutWindow(row)), "{:?}", list.writes);
        let keys = runs[0].gates.as_deref().expect("keys");
        assert_eq!((keys.singleton.as_deref(), keys.throttle.as_deref()), (Some("\"s\""), Some("1")));
    }

    #[test]
    fn a_gate_that_skips_takes_nothing_and_gives_back_what_those_before_it_took() {
        let (candidate, found) = gated(Singleton::Skip);
        let full = Found { room: Some(Room::Full(Millis(500))), ..found.clone() };
        let held = Found { holder: Some(holder()), ..found };
        let until = Millis(500);
        for (found, said) in [(full, Outcome::RateLimited { until }), (held, Outcome::SingletonSkipped(Id(3)))] {
            let (list, runs) = planned(event(0), std::slice::from_ref(&candidate), &[found]);
            assert_eq!(runs, []);
            let [Write::TakeEventKey { .. }, Write::InsertEvent(_), Write::NoteOutcome { event: Id(1), function, outcome }] =
                &list.writes[..]
            else {
                panic!("{:?}", list.writes)
            };
            assert_eq!((&**function, *outcome), ("x", said));
            assert_eq!(list.expect.len(), 2, "the id's key and the idempotency key are free: {:?}", list.expect);
        }
    }

    #[test]
    fn a_run_that_takes_the_place_of_another_one_cancels_it_in_the_same_list() {
        let (candidate, found) = gated(Singleton::Cancel);
        let (list, runs) = planned(event(0), &[candidate], &[Found { holder: Some(holder()), ..found }]);
        assert_eq!(runs.len(), 1);
        assert!(list.expect.contains(&Expect::NotEnded(Id(3))), "{:?}", list.expect);
        assert!(matches!(list.writes.last(), Some(Write::IfOpen { run: Id(3), .. })), "{:?}", list.writes);
        let outcome = Outcome::SingletonReplaced(Id(3));
        assert!(list.writes.contains(&Write::NoteOutcome { event: Id(1), function: "x".into(), outcome }), "{:?}", list.writes);
    }
}
