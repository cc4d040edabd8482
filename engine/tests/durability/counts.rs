//! What is counted is exact over kills: each event is in one batch and comes to one debounced run, starts keep the distance
//! of their throttle, the clock starts each second once, an invoked run has one parent, a sent event is sent once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stepwell::base::{EventId, Id};
use stepwell::rules::{EventRow, Outcome, RunRow};
use stepwell::store::Store;
use stepwell::store::sqlite::Sqlite;

use super::verify::Story;

/// Events of one batch at most, and the time between two throttled starts; a burst of so many may come at once beside.
const BATCH: usize = 3;
const INTERVAL_MS: i64 = 25;
const BURST: usize = 2;

/// The runs of a function.
pub fn of<'a>(runs: &'a [RunRow], function: &'a str) -> impl Iterator<Item = &'a RunRow> {
    runs.iter().filter(move |run| &*run.function == function)
}

/// What an event says.
pub fn data(event: &EventRow) -> serde_json::Value {
    serde_json::from_str(&event.data).unwrap()
}

fn output(run: &RunRow) -> serde_json::Value {
    serde_json::from_str(run.output.as_deref().unwrap()).unwrap()
}

pub fn verify(store: &Sqlite, events: &[EventRow], runs: &[RunRow], story: &Story) {
    let by_id: HashMap<EventId, &EventRow> = events.iter().map(|event| (event.id, event)).collect();
    let collected: Vec<&EventRow> = events.iter().filter(|event| &*event.name == "work/collected").collect();
    batches(store, &by_id, &collected, runs);
    debounces(store, &by_id, &collected, runs);
    throttles(runs);
    ticks(&by_id, runs, story);
    relations(events, runs);
}

/// Each event is in one batch, with others of its key, and the handler has seen all of them.
fn batches(store: &Sqlite, by_id: &HashMap<EventId, &EventRow>, collected: &[&EventRow], runs: &[RunRow]) {
    let mut seen: Vec<EventId> = Vec::new();
    for run in of(runs, "batched") {
        let mut all = vec![run.event];
        all.extend(store.batch(run.id).unwrap());
        assert!(all.len() <= BATCH, "I6: {} has {} events", run.id, all.len());
        let users: BTreeSet<String> = all.iter().map(|event| data(by_id[event])["user"].to_string()).collect();
        assert_eq!(users.len(), 1, "{} has events of {users:?}", run.id);
        let numbers: Vec<serde_json::Value> = all.iter().map(|event| data(by_id[event])["n"].clone()).collect();
        assert_eq!(output(run)["all"], serde_json::Value::Array(numbers), "what the handler of {} saw", run.id);
        let started = run.started.unwrap();
        assert!(all.iter().all(|event| by_id[event].accepted <= started), "I9: {}", run.id);
        seen.extend(all);
    }
    seen.sort_unstable();
    let mut wanted: Vec<EventId> = collected.iter().map(|event| event.id).collect();
    wanted.sort_unstable();
    assert_eq!(seen, wanted, "I2: each event is in one batch");
}

/// Each event comes to one run, and each run has the last of its events.
fn debounces(store: &Sqlite, by_id: &HashMap<EventId, &EventRow>, collected: &[&EventRow], runs: &[RunRow]) {
    let mut last: BTreeMap<Id, EventId> = BTreeMap::new();
    for event in collected {
        let outcomes = store.outcomes(event.id).unwrap();
        let into: Vec<Id> =
            outcomes.iter().filter_map(|row| if let Outcome::DebouncedInto(run) = row.outcome { Some(run) } else { None }).collect();
        assert_eq!(into.len(), 1, "I2: event {} was debounced into {into:?}", event.id);
        let newest = last.entry(into[0]).or_insert(event.id);
        *newest = (*newest).max(event.id);
    }
    let found: BTreeMap<Id, EventId> = of(runs, "debounced").map(|run| (run.id, run.event)).collect();
    assert_eq!(found, last, "each debounced run has the last of its events");
    for run in of(runs, "debounced") {
        assert_eq!(output(run)["n"], data(by_id[&run.event])["n"], "what the handler of {} saw", run.id);
    }
}

/// No start comes too soon after those before it.
fn throttles(runs: &[RunRow]) {
    let mut starts: Vec<i64> = of(runs, "throttled").map(|run| run.started.unwrap().0).collect();
    starts.sort_unstable();
    for (at, start) in starts.iter().enumerate() {
        for (before, earlier) in starts[..at].iter().enumerate() {
            let least = (at - before).saturating_sub(BURST) as i64 * INTERVAL_MS;
            assert!(start - earlier + 1 > least, "I6: {} throttled starts within {} ms", at - before + 1, start - earlier);
        }
    }
}

/// The clock starts each second once, whether an engine was there or not.
fn ticks(by_id: &HashMap<EventId, &EventRow>, runs: &[RunRow], story: &Story) {
    let mut seconds: Vec<i64> = of(runs, "ticking").map(|run| by_id[&run.event].ts.0).collect();
    seconds.sort_unstable();
    story.has_met("started by the clock twice", seconds.len().saturating_sub(1));
    assert!(seconds.windows(2).all(|two| two[1] - two[0] == 1_000), "I2: each second once: {seconds:?}");
    assert!(of(runs, "ticking").all(|run| run.started.unwrap() >= by_id[&run.event].ts), "I9: none before its time");
}

/// Each parent has one child, whose result it got; each run that asks sends one answer.
fn relations(events: &[EventRow], runs: &[RunRow]) {
    let number = |run: &RunRow| output(run)["n"].as_i64().unwrap();
    let sorted = |mut all: Vec<i64>| {
        all.sort_unstable();
        all
    };
    let of_events =
        |name: &str| sorted(events.iter().filter(|event| &*event.name == name).map(|event| data(event)["n"].as_i64().unwrap()).collect());
    let asked = of_events("work/asked");
    assert_eq!(of_events("work/answer"), asked, "each answer is sent once");
    assert_eq!(of_events("stepwell/invoked"), asked, "each child is invoked once");
    assert_eq!(sorted(of(runs, "asked").map(number).collect()), asked, "each run that asks gets its own answer");
    assert_eq!(sorted(of(runs, "parent").map(number).collect()), asked, "each parent gets its child's result");
    assert_eq!(sorted(of(runs, "child").map(|run| number(run) / 2).collect()), asked);
}
