//! Runs that collect events before they start: `debounce` and `batch`, over restarts and kills, and from many senders at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use stepwell::base::{EventId, limits};
use stepwell::clock::SystemClock;
use stepwell::exec::NewEvent;
use stepwell::rules::{Outcome, RunRow, RunState};
use stepwell::store::{RunQuery, Store};

use super::{World, event, start_at};

const DEBOUNCE: &str = "debounce: { period: 1h, timeout: 3h, key: event.data.k }";
const BATCH: &str = "batch: { size: 3, timeout: 1h, key: event.data.k }";
const ALL: &str = "events.map(|one| one.data.n)";
const ENDED: &[RunState] = &[RunState::Completed, RunState::Failed, RunState::Cancelled];

/// An engine on a clock that jumps over no wait.
fn slow(function: &str, handler: &str) -> World {
    let yaml = format!("events: {{ a/b: {{}}, go/all: {{}} }}\nfunctions: {{ c: {{ on: a/b, {function} }}, s: {{ on: go/all }} }}\n");
    let sender = r#"
        send_event([#{ name: "a/b", data: #{ n: 1 } }, #{ name: "a/b", data: #{ n: 2 } }]);
        for n in [3, 4, 5] { send_event("a/b", #{ n: n }); }
    "#;
    World::new(&yaml, &[("c", handler), ("s", sender)]).slowed()
}

impl World {
    /// Ends the engine in order and starts another one, on a clock that jumps over no wait.
    pub(super) fn slowed(self) -> World {
        self.block_on(self.engine.drain());
        let World { folder, engine, store } = self;
        drop(engine);
        store.close().unwrap();
        let (engine, store) = start_at(folder.path(), Arc::new(SystemClock::default()));
        World { folder, engine, store }
    }

    pub(super) fn send_each(&self, data: &[&str]) -> Vec<EventId> {
        data.iter().map(|data| self.block_on(self.send("a/b", data)).unwrap()).collect()
    }

    pub(super) fn collecting(&self) -> Vec<RunRow> {
        let mut runs = self.store.runs(&RunQuery { function: Some("c".into()), ..RunQuery::default() }).unwrap();
        runs.reverse();
        runs
    }

    pub(super) fn waiting(&self) -> Vec<RunRow> {
        self.collecting().into_iter().filter(|run| run.state == RunState::Queued).collect()
    }

    pub(super) fn why(&self, run: &RunRow) -> String {
        self.block_on(self.engine.why(run)).unwrap()
    }

    /// Waits until so many runs have ended; their results, by run.
    pub(super) fn results(&self, number: usize) -> Vec<String> {
        self.block_on(async {
            let mut notices = self.engine.subscribe();
            loop {
                let ended: Vec<RunRow> = self.collecting().into_iter().filter(|run| ENDED.contains(&run.state)).collect();
                if ended.len() >= number {
                    assert_eq!(ended.len(), number, "{ended:?}");
                    return ended.into_iter().map(|run| run.output.unwrap_or_else(|| run.state.word().into()).to_string()).collect();
                }
                // What was missed is stored.
                let _ = notices.recv().await;
            }
        })
    }
}

// ---- debounce ----

#[test]
fn a_debounced_run_waits_for_quiet_and_has_the_last_event() {
    let world = slow(DEBOUNCE, "event.data.n");
    let ids = world.send_each(&[r#"{"k":1,"n":1}"#, r#"{"k":2,"n":2}"#, r#"{"k":1,"n":3}"#, r#"{"k":1,"n":4}"#]);
    let waiting = world.waiting();
    assert_eq!(waiting.iter().map(|run| run.event).collect::<Vec<_>>(), [ids[3], ids[1]]);
    assert_eq!(waiting[0].enter.since(waiting[0].created).0 / 60_000, 60);
    let why = world.why(&waiting[0]);
    assert!(why.starts_with("debounced: it waits until no event of its key has come for 1h; starts in 59m"), "{why}");
    for (event, run) in [(0, 0), (1, 1), (2, 0), (3, 0)] {
        let outcomes = world.store.outcomes(ids[event]).unwrap();
        assert_eq!(outcomes[0].outcome, Outcome::DebouncedInto(waiting[run].id), "{outcomes:?}");
    }
    assert_eq!(world.restart().results(2), ["4", "2"]);
}

#[test]
fn a_debounce_goes_on_after_a_restart_and_a_kill() {
    let world = slow(DEBOUNCE, "event.data.n");
    world.send_each(&[r#"{"k":1,"n":1}"#, r#"{"k":1,"n":2}"#]);
    let world = world.slowed();
    let ids = world.send_each(&[r#"{"k":1,"n":3}"#, r#"{"k":1,"n":4}"#]);
    let waiting = world.waiting();
    assert_eq!((waiting.len(), waiting[0].event), (1, ids[1]), "the window is the one from before");
    assert_eq!(world.killed().results(1), ["4"]);
}

#[test]
fn an_event_without_the_key_of_a_debounce_starts_its_run_at_once() {
    let world = slow(DEBOUNCE, "event.data.n");
    world.send_each(&[r#"{"n":1}"#, r#"{"n":2}"#]);
    let mut results = world.results(2);
    results.sort();
    assert_eq!(results, ["1", "2"]);
}

#[test]
fn a_debounce_without_a_key_is_one_for_all_events() {
    let world = slow("debounce: { period: 1h }", "event.data.n");
    world.send_each(&[r#"{"n":1}"#, r#"{"k":5,"n":2}"#]);
    assert_eq!(world.waiting().len(), 1);
    assert_eq!(world.restart().results(1), ["2"]);
}

#[test]
fn a_repeated_event_does_not_put_a_debounce_off() {
    let world = slow(DEBOUNCE, "event.data.n");
    let with_id = |data: &str, id: &str| NewEvent { sender_id: Some(id.into()), dedupe: Some(id.into()), ..event("a/b", data) };
    let first = world.block_on(world.engine.accept(vec![with_id(r#"{"k":1,"n":1}"#, "x")])).unwrap();
    let before = world.waiting();
    let again = world.block_on(world.engine.accept(vec![with_id(r#"{"k":1,"n":2}"#, "x")])).unwrap();
    assert_eq!((first, before), (again, world.waiting()));
}

// ---- batch ----

#[test]
fn a_full_batch_starts_at_once_and_the_rest_when_its_time_is_over() {
    let world = slow(BATCH, ALL);
    let data: Vec<NewEvent> = (1..=7).map(|n| event("a/b", &format!(r#"{{"k":1,"n":{n}}}"#))).collect();
    let ids = world.block_on(world.engine.accept(data)).unwrap();
    assert_eq!(world.results(2), ["[1,2,3]", "[4,5,6]"]);
    let waiting = world.waiting();
    let why = world.why(&waiting[0]);
    assert!(why.starts_with("collects a batch: 1 of 3 events; starts in 59m"), "{why}");
    let runs = world.collecting();
    assert_eq!(world.store.outcomes(ids[4]).unwrap()[0].outcome, Outcome::BatchedInto(runs[1].id));
    let of_event = world.store.runs(&RunQuery { event: Some(ids[4]), ..RunQuery::default() }).unwrap();
    assert_eq!(of_event, [runs[1].clone()], "each event finds its run");
    assert_eq!(world.killed().results(3)[2], "[7]");
}

#[test]
fn a_batch_goes_on_after_a_restart() {
    let world = slow(BATCH, ALL);
    world.send_each(&[r#"{"k":1,"n":1}"#, r#"{"k":2,"n":9}"#, r#"{"k":1,"n":2}"#]);
    let world = world.slowed();
    world.send_each(&[r#"{"k":1,"n":3}"#, r#"{"k":1,"n":4}"#]);
    assert_eq!(world.results(1), ["[1,2,3]"]);
    assert_eq!(world.waiting().len(), 2);
    let mut results = world.killed().results(3);
    results.sort();
    assert_eq!(results, ["[1,2,3]", "[4]", "[9]"]);
}

#[test]
fn a_batch_of_large_events_is_full_at_their_bytes_also_over_a_restart() {
    let world = slow("batch: { size: 100, timeout: 1h, key: event.data.k }", ALL);
    let large = |n: i32| format!(r#"{{"k":1,"n":{n},"text":"{}"}}"#, "x".repeat(limits::BATCH_BYTES as usize / 3));
    world.send_each(&[&large(1), &large(2)]);
    assert_eq!(world.waiting().len(), 1);
    let world = world.slowed();
    world.send_each(&[&large(3), &large(4), r#"{"k":1,"n":5}"#]);
    assert_eq!(world.results(1), ["[1,2,3]"]);
    assert_eq!(world.killed().results(2)[1], "[4,5]");
}

#[test]
fn a_repeated_event_has_no_place_in_a_batch() {
    let world = slow(BATCH, ALL);
    let with_id = |n: i32, id: &str| NewEvent {
        sender_id: Some(id.into()),
        dedupe: Some(id.into()),
        ..event("a/b", &format!(r#"{{"k":1,"n":{n}}}"#))
    };
    // Also where the repetition would have been the one that fills it.
    let events = vec![with_id(1, "x"), with_id(2, "y"), with_id(3, "x"), with_id(4, "y"), with_id(5, "z")];
    world.block_on(world.engine.accept(events)).unwrap();
    assert_eq!(world.results(1), ["[1,2,5]"]);
}

#[test]
fn events_without_the_key_of_a_batch_are_a_batch_of_their_own() {
    let world = slow(BATCH, ALL);
    world.send_each(&[r#"{"n":1}"#, r#"{"k":1,"n":2}"#, r#"{"n":3}"#, r#"{"n":4}"#]);
    assert_eq!(world.results(1), ["[1,3,4]"]);
}

#[test]
fn a_batch_takes_what_runs_send() {
    let world = slow("batch: { size: 3, timeout: 1h }", ALL);
    world.block_on(world.send("go/all", "{}")).unwrap();
    assert_eq!(world.results(1), ["[1,2,3]"]);
    assert_eq!(world.restart().results(2)[1], "[4,5]");
}

#[test]
fn a_failed_batch_fails_as_one_and_keeps_its_events_over_a_wait() {
    let handler = r#"sleep("nap", "1s"); if events.len() == 3 { fail(`no ${events[2].data.n}`); } events.len()"#;
    let world = slow(BATCH, handler);
    world.send_each(&[r#"{"k":1,"n":1}"#, r#"{"k":1,"n":2}"#, r#"{"k":1,"n":3}"#]);
    assert_eq!(world.results(1), ["failed"]);
    assert_eq!(world.collecting()[0].error.as_ref().unwrap().message, "no 3");
}

#[test]
fn many_senders_fill_batches_exactly() {
    let world = slow("batch: { size: 7, timeout: 1h, key: event.data.k }", ALL);
    let data: Vec<String> = (0..210).map(|n| format!(r#"{{"k":{},"n":{n}}}"#, n % 3)).collect();
    let sends = data.iter().map(|data| world.send("a/b", data));
    let ids: BTreeSet<EventId> = world.block_on(futures_util::future::join_all(sends)).into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 210);
    let results = world.results(30);
    let mut seen: Vec<i64> = Vec::new();
    for result in &results {
        let numbers: Vec<i64> = serde_json::from_str(result).unwrap();
        assert_eq!(numbers.len(), 7, "{result}");
        assert!(numbers.iter().all(|n| n % 3 == numbers[0] % 3), "{result}");
        seen.extend(numbers);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..210).collect::<Vec<_>>(), "every event once");
    assert!(world.waiting().is_empty());
}

#[test]
fn many_senders_make_one_debounced_run_with_the_last_of_their_events() {
    let world = slow(DEBOUNCE, "event.data.n");
    let data: Vec<String> = (0..200).map(|n| format!(r#"{{"k":1,"n":{n}}}"#)).collect();
    let sends = data.iter().map(|data| world.send("a/b", data));
    let ids = world.block_on(futures_util::future::join_all(sends)).into_iter().map(Result::unwrap);
    let waiting = world.waiting();
    assert_eq!((waiting.len(), waiting[0].event), (1, ids.max().unwrap()));
    assert_eq!(world.restart().results(1).len(), 1);
}
