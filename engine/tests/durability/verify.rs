//! The promises, held against the database, the ledger and the client's notes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use stepwell::base::{Clock as _, Id, Millis};
use stepwell::clock::SystemClock;
use stepwell::rules::row::Recorded;
use stepwell::rules::{EventRow, Kind, RunRow, RunState};
use stepwell::store::sqlite::{Options, Sqlite};
use stepwell::store::{EventQuery, Journal, RunQuery, Store};

use super::ledger::{Effect, Entry};
use super::load::Acknowledged;
use super::{cancels, counts, limits};

/// How long the last runs may take before they count as stuck (I3).
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Kills during which a load comes to meet all that it asks for.
const MANY_KILLS: usize = 50;

/// The records of a finished run of each function.
const RECORDS: [(&str, &[&str]); 23] = [
    ("plain", &["reserve", "nap", "confirm"]),
    ("flaky", &["unsure"]),
    ("third", &["note"]),
    ("keyed", &["open", "close"]),
    ("asked", &["ask", "hear › work/answer", "say › work/answer", "answered"]),
    ("parent", &["child", "sum"]),
    ("child", &["double"]),
    ("batched", &["store"]),
    ("debounced", &["last"]),
    ("throttled", &["slow"]),
    ("ticking", &["tick"]),
    ("limited", &["pass"]),
    ("single", &["enter", "nap", "leave"]),
    ("once", &["do"]),
    ("left", &["take", "nap", "give"]),
    ("right", &["take", "give"]),
    ("active", &["before", "nap", "after"]),
    ("preferred", &["open", "nap", "close"]),
    ("replaced", &["begin", "nap", "finish"]),
    ("called", &["begin", "work/never", "finish"]),
    ("late", &["begin", "nap", "finish"]),
    ("hurried", &["begin", "nap", "finish"]),
    ("patient", &["begin", "work/called-off", "finish"]),
];

/// The records of a run of a function.
pub fn records_of(function: &str) -> &'static [&'static str] {
    RECORDS.iter().find(|(name, _)| *name == function).unwrap().1
}

pub fn open(database: &Path) -> Sqlite {
    Sqlite::open(database, Options { read_only: true, ..Options::default() }).unwrap()
}

/// Waits until no run is open (I3). The clock goes on starting one each second: gives the time from which on those may be under
/// way.
pub fn wait_until_all_has_ended(database: &Path) -> Millis {
    let store = open(database);
    let since = SystemClock::default().now();
    let mut waited = Duration::ZERO;
    while open_runs(&store).iter().any(|run| !is_tick_after(run, since)) {
        assert!(waited < PATIENCE, "runs are stuck: {:#?}", open_runs(&store));
        std::thread::sleep(LOOK_AGAIN);
        waited += LOOK_AGAIN;
    }
    since
}

fn is_tick_after(run: &RunRow, since: Millis) -> bool {
    &*run.function == "ticking" && run.created >= since
}

fn open_runs(store: &Sqlite) -> Vec<RunRow> {
    let mut rows = Vec::new();
    store.unfinished(&mut |row| rows.push(row)).unwrap();
    rows
}

/// Everything at once; the first promise that is broken is named. `starts` is when each engine was started; what the clock has
/// started from `since` on may be under way.
pub fn verify(database: &Path, acknowledged: &[Acknowledged], entries: &[Entry], starts: &[Millis], since: Millis) {
    let store = open(database);
    assert_eq!(store.check(), Ok(Vec::new()), "I8: the database is sound");
    let events = store.events(&EventQuery::default()).unwrap();
    acknowledged_events_are_stored_once(acknowledged, &events);
    let mut runs = store.runs(&RunQuery::default()).unwrap();
    every_event_has_its_runs(&events, &runs);
    let ids: HashSet<String> = runs.iter().map(|run| run.id.to_string()).collect();
    runs.retain(|run| run.state.is_terminal() || !is_tick_after(run, since));
    every_run_has_completed(&store, &runs);
    let story = Story::new(entries);
    counts::verify(&store, &events, &runs, &story);
    let journals: HashMap<Id, Journal> = runs.iter().map(|run| (run.id, store.journal(run.id).unwrap())).collect();
    for run in &runs {
        story.effects_are_as_often_as_they_may_be(run, &journals[&run.id]);
        story.effects_come_in_the_order_of_steps(run);
        story.naps_are_never_cut_short(run, &journals[&run.id]);
    }
    story.keys_are_told_apart();
    story.runs_of_a_key_come_one_by_one_in_order();
    limits::verify(&store, &events, &runs, &story, starts);
    cancels::verify(acknowledged, &events, &runs, &story);
    assert!(story.effects.iter().all(|(_, effect)| ids.contains(&effect.run)), "an effect of a run that is not stored");
    println!("{} events, {} runs, {} effects, {} kills", events.len(), runs.len(), story.effects.len(), story.kills.len());
}

/// A copy made under load: sound, with everything that was answered before it began.
pub fn verify_copy(copy: &Path, before: &[Acknowledged]) {
    let store = open(copy);
    assert_eq!(store.check(), Ok(Vec::new()), "I8: {} is sound", copy.display());
    let events = store.events(&EventQuery::default()).unwrap();
    acknowledged_events_are_stored(before, &events);
    every_event_has_its_runs(&events, &store.runs(&RunQuery::default()).unwrap());
}

/// The steps that a database has recorded: (run, key).
pub fn recorded(database: &Path) -> HashSet<(String, String)> {
    let store = open(database);
    let runs = store.runs(&RunQuery::default()).unwrap();
    let records = |run: &RunRow| store.journal(run.id).unwrap().records;
    runs.iter().flat_map(|run| records(run).into_iter().map(|record| (run.id.to_string(), record.key.to_string()))).collect()
}

/// A copy that an engine has brought to its end: all runs are through but what the clock has started from `since` on, with their
/// effects, but none of a step that had been recorded.
pub fn verify_restored(
    database: &Path,
    before: &[Acknowledged],
    (recorded, since): (&HashSet<(String, String)>, Millis),
    entries: &[Entry],
) {
    verify_copy(database, before);
    let store = open(database);
    let mut runs = store.runs(&RunQuery::default()).unwrap();
    runs.retain(|run| run.state.is_terminal() || !is_tick_after(run, since));
    every_run_has_completed(&store, &runs);
    let story = Story::new(entries);
    for (_, effect) in &story.effects {
        assert!(!recorded.contains(&(effect.run.clone(), effect.step.clone())), "I5: {effect:?} although the copy has recorded it");
    }
    for run in &runs {
        story.effects_come_in_the_order_of_steps(run);
    }
    story.keys_are_told_apart();
}

/// I1, and G7: what the client repeated because it got no answer is there once.
fn acknowledged_events_are_stored_once(acknowledged: &[Acknowledged], events: &[EventRow]) {
    acknowledged_events_are_stored(acknowledged, events);
    let sent: Vec<&str> = events.iter().filter_map(|event| event.sender_id.as_deref()).collect();
    let senders: BTreeSet<&str> = sent.iter().copied().collect();
    assert_eq!(senders.len(), sent.len(), "G7: one event for each id of a sender");
    let outside = sent.iter().filter(|id| id.starts_with("event-")).count();
    assert_eq!(outside, acknowledged.len(), "every event was acknowledged in the end");
}

fn acknowledged_events_are_stored(acknowledged: &[Acknowledged], events: &[EventRow]) {
    let stored: HashMap<String, &EventRow> = events.iter().map(|event| (event.id.to_string(), event)).collect();
    for noted in acknowledged {
        let event = stored.get(&noted.id).unwrap_or_else(|| panic!("I1: {noted:?} was acknowledged and is not stored"));
        assert_eq!((&*event.name, event.sender_id.as_deref()), (noted.name, noted.sender_id.as_deref()), "I1");
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["n"], noted.n, "I1");
    }
}

/// I2
fn every_event_has_its_runs(events: &[EventRow], runs: &[RunRow]) {
    let mut started: HashMap<Id, Vec<&str>> = HashMap::new();
    for run in runs {
        started.entry(run.event).or_default().push(&run.function);
    }
    for event in events {
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        let mut expected = match &*event.name {
            "work/plain" => vec!["flaky", "plain"],
            "work/keyed" => vec!["keyed"],
            "work/asked" => vec!["asked", "parent"],
            "work/answer" | "work/noted" | "work/called-off" => Vec::new(),
            "work/doomed" => vec!["called", "hurried", "late", "patient", "replaced"],
            "stepwell/invoked" => vec!["child"],
            "stepwell/scheduled.timer" => vec!["ticking"],
            // What it has beside is told where it may be skipped.
            "work/limited" => vec!["active", "left", "preferred", "right"],
            // What it has beside is counted where runs collect.
            _ => vec!["throttled"],
        };
        if &*event.name == "work/plain" && data["n"].as_u64().unwrap().is_multiple_of(3) {
            expected.push("third");
        }
        let mut functions = started.remove(&event.id).unwrap_or_default();
        functions.retain(|function| !["batched", "debounced", "limited", "once", "single"].contains(function));
        functions.sort_unstable();
        assert_eq!(functions, expected, "I2: the runs of {}", event.id);
    }
    assert!(started.is_empty(), "I2: runs without an event: {started:?}");
}

/// I3; and a kill from outside parks nothing (G10). One that may be cancelled has come as far as it came.
fn every_run_has_completed(store: &Sqlite, runs: &[RunRow]) {
    for run in runs {
        let journal = store.journal(run.id).unwrap();
        let keys: Vec<&str> = journal.records.iter().map(|record| &*record.key).collect();
        if run.state == RunState::Cancelled && cancels::CANCELLED.contains(&&*run.function) {
            assert!(records_of(&run.function).starts_with(&keys), "I3: {keys:?} of {}", run.id);
            continue;
        }
        assert_eq!(run.state, RunState::Completed, "I3: {run:#?}");
        // Of branches, each comes when it is ready.
        let sorted = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!((sorted(&keys), keys.len()), (sorted(records_of(&run.function)), records_of(&run.function).len()), "I3: {}", run.id);
    }
}

/// The ledger, sorted for questions. Positions are those in the ledger.
pub struct Story {
    pub effects: Vec<(usize, Effect)>,
    pub kills: Vec<usize>,
    of_run: HashMap<String, Vec<usize>>,
}

impl Story {
    fn new(entries: &[Entry]) -> Story {
        let mut story = Story { effects: Vec::new(), kills: Vec::new(), of_run: HashMap::new() };
        for (position, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Kill => story.kills.push(position),
                Entry::Effect(effect) => {
                    story.of_run.entry(effect.run.clone()).or_default().push(story.effects.len());
                    story.effects.push((position, effect.clone()));
                }
            }
        }
        story
    }

    /// A load that has never met something shows nothing of it. One with few kills may be too short for all.
    pub fn has_met(&self, what: &str, times: usize) {
        assert!(times > 0 || self.kills.len() < MANY_KILLS, "nothing was {what}: the load asks for nothing");
    }

    /// The effects of a run, in the order of their coming.
    pub fn of_run(&self, run: &RunRow) -> impl Iterator<Item = &(usize, Effect)> {
        self.of_run.get(&run.id.to_string()).into_iter().flatten().map(|at| &self.effects[*at])
    }

    /// I4: at least once; and again only after a kill or a failed attempt.
    fn effects_are_as_often_as_they_may_be(&self, run: &RunRow, journal: &Journal) {
        let mut before = 0;
        for record in journal.records.iter().filter(|record| record.kind == Kind::Step) {
            let parts = if ["confirm", "before", "after"].contains(&&*record.key) { 2 } else { 1 };
            let mut last = before;
            for part in 1..=parts {
                let positions: Vec<usize> = self
                    .of_run(run)
                    .filter(|(_, effect)| *effect.step == *record.key && effect.part == part)
                    .map(|(position, _)| *position)
                    .collect();
                assert!(!positions.is_empty(), "I4: part {part} of {} in {} had no effect", record.key, run.id);
                last = last.max(positions[positions.len() - 1]);
                let failed = journal.attempts.iter().filter(|attempt| attempt.key == record.key).count();
                let killed = self.kills.iter().filter(|kill| (before..=last).contains(*kill)).count();
                let most = 1 + failed + killed;
                assert!(positions.len() <= most, "I4: {} effects of {} in {}, at most {most}", positions.len(), record.key, run.id);
            }
            before = last;
        }
    }

    /// I5: once a step is recorded the next one begins, and the first one has no effect any more.
    fn effects_come_in_the_order_of_steps(&self, run: &RunRow) {
        let expected = records_of(&run.function);
        let place = |effect: &Effect| expected.iter().position(|step| *step == effect.step).unwrap();
        let places: Vec<usize> = self.of_run(run).map(|(_, effect)| place(effect)).collect();
        assert!(places.is_sorted(), "I5: effects of {} after their step was recorded: {places:?}", run.id);
    }

    /// I9, as far as it can be seen from outside: nothing after a sleep comes before its end.
    fn naps_are_never_cut_short(&self, run: &RunRow, journal: &Journal) {
        let Some(record) = journal.records.iter().find(|record| &*record.key == "nap") else { return };
        let Recorded::Until(until) = &record.result else { panic!("a sleep that is none: {record:?}") };
        let later: Vec<&str> = records_of(&run.function).iter().copied().skip_while(|step| *step != "nap").collect();
        for (_, effect) in self.of_run(run).filter(|(_, effect)| later.contains(&&*effect.step)) {
            assert!(effect.at >= *until, "I9: {} woke at {:?}, before {until:?}", run.id, effect.at);
        }
    }

    /// I4: one idempotency key for each (run, step, part), and no other has it.
    fn keys_are_told_apart(&self) {
        let mut key_of: HashMap<(&str, &str, u64), &str> = HashMap::new();
        let mut owner_of: HashMap<&str, (&str, &str, u64)> = HashMap::new();
        for (_, effect) in &self.effects {
            let owner = (effect.run.as_str(), effect.step.as_str(), effect.part);
            assert!(!effect.idempotency_key.is_empty(), "{effect:?}");
            assert_eq!(*key_of.entry(owner).or_insert(&effect.idempotency_key), effect.idempotency_key, "I4: one key");
            assert_eq!(*owner_of.entry(&effect.idempotency_key).or_insert(owner), owner, "I4: a key of its own");
        }
    }

    /// I6 and I7: under a limit of 1 the runs of a key neither overlap nor overtake.
    fn runs_of_a_key_come_one_by_one_in_order(&self) {
        let mut of_user: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, effect) in &self.effects {
            if let Some(user) = &effect.user {
                of_user.entry(user).or_default().push(&effect.run);
            }
        }
        self.has_met("kept apart by a second user", of_user.len().saturating_sub(1));
        for (user, mut runs) in of_user {
            runs.dedup();
            // Ids sort by acceptance. A run that came back after another one would stand here twice.
            assert!(runs.windows(2).all(|pair| pair[0] < pair[1]), "I6, I7: the runs of {user}: {runs:?}");
        }
    }
}
