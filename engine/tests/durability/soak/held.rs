//! What the ledger has to show after a soak. The database keeps nothing that is older than the retention, so all of it is told
//! by the effects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::ledger::{Effect, Entry};
use super::super::load::Acknowledged;
use super::mix::{BATCH, Function, RATE, RATE_PERIOD_MS, THROTTLE_BURST, THROTTLE_MS, TOGETHER, may_be_started_by, started_by, user_of};

/// How long runs sleep at least before they have an effect, a millisecond less for clocks: the step before it, and the step.
const NAPS: [(&str, &str, i64); 2] = [("reserve", "confirm", 999), ("enter", "leave", 149)];

/// What the ledger knows of a run.
struct Run<'a> {
    id: &'a str,
    function: &'a str,
    n: u64,
    /// Its effects, each with its place in the ledger.
    effects: Vec<(usize, &'a Effect)>,
}

/// Nothing that was acknowledged is lost, nothing comes twice, and what is counted or limited is so over every kill.
pub fn verify(acknowledged: &[Acknowledged], entries: &[Entry]) {
    let runs = runs(entries);
    runs.values().for_each(Run::is_whole);
    every_event_has_its_runs(acknowledged, &runs);
    relations(&runs);
    batches(acknowledged, &runs);
    debounces(acknowledged, &runs);
    throttles(&runs);
    rates(&runs);
    singles(acknowledged, &runs);
    counts(&runs);
    ticks(&runs);
    keys(entries);
}

/// The runs by their ids, which sort by acceptance.
type Runs<'a> = BTreeMap<&'a str, Run<'a>>;

fn runs(entries: &[Entry]) -> Runs<'_> {
    let mut all = Runs::new();
    for (at, entry) in entries.iter().enumerate() {
        let Entry::Effect(effect) = entry else { continue };
        let (function, n) = (effect.more["function"].as_str().unwrap(), effect.more["n"].as_u64().unwrap());
        let run = all.entry(&effect.run).or_insert_with(|| Run { id: &effect.run, function, n, effects: Vec::new() });
        assert_eq!((run.function, run.n), (function, n), "one run, one event: {effect:?}");
        run.effects.push((at, effect));
    }
    all
}

fn of<'r, 'a>(runs: &'r Runs<'a>, function: &'r str) -> impl Iterator<Item = &'r Run<'a>> {
    runs.values().filter(move |run| run.function == function)
}

impl<'a> Run<'a> {
    fn of_step(&self, step: &str) -> Vec<(usize, &'a Effect)> {
        self.effects.iter().filter(|(_, effect)| effect.step == step).copied().collect()
    }

    /// What it has told by a step, however often.
    fn told(&self, step: &str) -> &'a serde_json::Value {
        let mut values = self.of_step(step).into_iter().map(|(_, effect)| &effect.more["value"]);
        let first = values.next().unwrap();
        assert!(values.all(|value| value == first), "{} of {} told other things again: {:?}", step, self.id, self.effects);
        first
    }

    fn told_number(&self, step: &str, name: &str) -> i64 {
        self.told(step)[name].as_i64().unwrap()
    }

    /// Each step had its effect, after those before it, and again only in another life of the engine (or after it was refused).
    fn is_whole(&self) {
        let (steps, what) = (Function::named(self.function).steps, format!("{} {} for {}", self.function, self.id, self.n));
        assert!(self.effects.iter().all(|(_, effect)| steps.contains(&&*effect.step)), "{what} has more effects: {:?}", self.effects);
        let mut before: Option<usize> = None;
        for (place, step) in steps.iter().enumerate() {
            let effects = self.of_step(step);
            let [(first, _), ..] = effects[..] else { panic!("lost: step {step} of {what} has had no effect") };
            // The ledger refuses the very first effect of a step that is unsure, which is then tried again.
            let tried = effects.iter().skip(usize::from(*step == "unsure"));
            let mut lives: Vec<&str> = tried.map(|(_, effect)| effect.more["life"].as_str().unwrap()).collect();
            let count = lives.len();
            lives.dedup();
            assert_eq!(lives.len(), count, "twice: step {step} of {what} in one life: {:?}", self.effects);
            // The branches of `parts` come in any order, all before what follows them.
            let branches = if self.function == "parts" { 3 } else { 0 };
            if place >= branches {
                assert!(before.is_none_or(|before| before < first), "step {step} of {what} came too soon: {:?}", self.effects);
            }
            before = before.max(effects.last().map(|(at, _)| *at));
        }
        for (from, to, least_ms) in NAPS {
            if let ([.., (_, slept)], [(_, woke), ..]) = (&self.of_step(from)[..], &self.of_step(to)[..]) {
                assert!(woke.at.since(slept.at).0 >= least_ms, "{what} slept less than {least_ms} ms: {:?}", self.effects);
            }
        }
    }
}

/// How many events an acknowledged one may be. Without an id, what was sent again because no answer came may be another one.
fn most(event: &Acknowledged) -> usize {
    if event.sender_id.is_some() { 1 } else { event.tries as usize }
}

fn named<'e>(acknowledged: &'e [Acknowledged], name: &'static str) -> impl Iterator<Item = &'e Acknowledged> {
    acknowledged.iter().filter(move |event| event.name == name)
}

/// Each event has one run of each function that it starts, and there is no run of an event that nobody was told of.
fn every_event_has_its_runs(acknowledged: &[Acknowledged], runs: &Runs<'_>) {
    let mut started: HashMap<(&str, u64), usize> = HashMap::new();
    let by_others = ["child", "hearing", "batched", "ticking"];
    for run in runs.values().filter(|run| !by_others.contains(&run.function)) {
        *started.entry((run.function, run.n)).or_default() += 1;
    }
    for event in acknowledged {
        let surely = started_by(event.name, event.n).iter().map(|function| (*function, 1));
        let perhaps = may_be_started_by(event.name).iter().map(|function| (*function, 0));
        for (function, least) in surely.chain(perhaps) {
            let times = started.remove(&(function, event.n)).unwrap_or(0);
            let range = least..=most(event);
            assert!(range.contains(&times), "{function} for {} {} has {times} runs, not {range:?}", event.name, event.n);
        }
    }
    assert!(started.is_empty(), "runs of events that nobody was told of: {started:?}");
}

/// Each parent has one child, whose result it gets when that has come to its end, and sends one event, which is heard once.
fn relations(runs: &Runs<'_>) {
    for (function, step) in [("child", "double"), ("hearing", "hear")] {
        let mut parents: BTreeSet<&str> = of(runs, "parent").map(|parent| parent.id).collect();
        for run in of(runs, function) {
            let from = run.told(step).as_str().unwrap();
            assert!(parents.remove(from), "twice, or of nobody: {function} {} from {from}", run.id);
            let parent = &runs[from];
            assert_eq!(run.n, parent.n, "{function} {} from {from}", run.id);
            if function == "child" {
                assert!(run.effects[0].0 < parent.effects[0].0, "{from} went on before its child {}", run.id);
            }
        }
        assert!(parents.is_empty(), "lost: no {function} came from {parents:?}");
    }
    for parent in of(runs, "parent") {
        assert_eq!(parent.told("sum").as_u64(), Some(parent.n * 2), "what the child of {} gave", parent.id);
    }
}

/// Each event is in one batch, with others of its key.
fn batches(acknowledged: &[Acknowledged], runs: &Runs<'_>) {
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    let mut full = 0;
    for run in of(runs, "batched") {
        let all: Vec<u64> = run.told("store").as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert!((1..=BATCH).contains(&all.len()), "batch {} has the events {all:?}", run.id);
        assert!(all.iter().all(|n| user_of(*n) == user_of(all[0])), "batch {} has events of several keys: {all:?}", run.id);
        full += usize::from(all.len() == BATCH);
        all.into_iter().for_each(|n| *seen.entry(n).or_default() += 1);
    }
    for event in named(acknowledged, "soak/collected") {
        let (times, range) = (seen.remove(&event.n).unwrap_or(0), 1..=most(event));
        assert!(range.contains(&times), "event {} is in {times} batches, not {range:?}", event.n);
    }
    assert!(seen.is_empty(), "batches with events that nobody was told of: {seen:?}");
    has_bitten(full > 0, named(acknowledged, "soak/collected").count(), "no batch was full");
}

/// Of a key's last request, the last event has a run; and not every event has one.
fn debounces(acknowledged: &[Acknowledged], runs: &Runs<'_>) {
    let last_requests = |numbers: &[u64]| {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for n in numbers {
            let request = last.entry(user_of(*n)).or_default();
            *request = (*request).max(n / TOGETHER);
        }
        last
    };
    let sent: Vec<u64> = named(acknowledged, "soak/collected").map(|event| event.n).collect();
    let ran: Vec<u64> = of(runs, "debounced").map(|run| run.n).collect();
    assert_eq!(last_requests(&ran), last_requests(&sent), "the last request of each key, of those that ran and of all");
    has_bitten(ran.len() < sent.len(), sent.len(), "nothing was debounced");
}

/// No start comes too soon after any of those before it.
fn throttles(runs: &Runs<'_>) {
    let mut starts: Vec<i64> = of(runs, "throttled").map(|run| run.told_number("slow", "started")).collect();
    starts.sort_unstable();
    // How late each is, were they evenly spread; a burst may be early.
    let mut latest = i64::MIN;
    for (at, start) in starts.iter().enumerate() {
        let late = start - at as i64 * THROTTLE_MS;
        let bound = latest.saturating_sub(1 + THROTTLE_BURST * THROTTLE_MS);
        assert!(late > bound, "throttled start {at} of {}, at {start}, is {} ms too soon", starts.len(), bound - late);
        latest = latest.max(late);
    }
}

/// Something that a soak has to meet, or its other looks prove nothing: one request has enough events of a key for it. A short soak on a
/// busy machine may have had none of its kind.
fn has_bitten(did: bool, events: usize, otherwise: &str) {
    assert!(did || events == 0, "{otherwise}, of {events} events");
}

/// Of a key's events, so many come through in any period, and none is skipped without need. All of them are known by another
/// function that skips none.
fn rates(runs: &Runs<'_>) {
    let mut through: BTreeMap<String, BTreeMap<(i64, u64), i64>> = BTreeMap::new();
    for run in of(runs, "limited") {
        let (ts, started) = (run.told_number("pass", "ts"), run.told_number("pass", "started"));
        through.entry(user_of(run.n)).or_default().insert((ts, run.n), started);
    }
    let mut skipped = 0;
    for run in of(runs, "throttled") {
        let (user, event) = (user_of(run.n), (run.told_number("slow", "ts"), run.n));
        let Some(came) = through.get(&user) else { panic!("no event of {user} came through, {event:?} among them") };
        // The one that has to count no more before this one may come through. It counts from its acceptance, or from somewhat later,
        // but not from after its start.
        let oldest = came.range(..event).rev().nth(RATE - 1);
        match (came.get(&event), oldest) {
            (Some(started), Some(((ts, _), _))) => {
                assert!(started + 1 >= ts + RATE_PERIOD_MS, "{event:?} of {user} came through too soon after {oldest:?}");
            }
            (Some(_), None) => {}
            (None, oldest) => {
                skipped += 1;
                let counted = oldest.is_some_and(|(_, started)| event.0 < started + 1 + RATE_PERIOD_MS);
                assert!(counted, "{event:?} of {user} was skipped without need, after {oldest:?}");
            }
        }
    }
    has_bitten(skipped > 0, of(runs, "throttled").count(), "nothing was skipped by the rate limit");
}

/// A key's first event comes through, and not each of the others; that its runs never overlap is seen by their keys.
fn singles(acknowledged: &[Acknowledged], runs: &Runs<'_>) {
    let mut first: BTreeMap<String, u64> = BTreeMap::new();
    for event in named(acknowledged, "soak/limited") {
        let least = first.entry(user_of(event.n)).or_insert(event.n);
        *least = (*least).min(event.n);
    }
    let ran: BTreeSet<u64> = of(runs, "single").map(|run| run.n).collect();
    for (user, n) in first {
        assert!(ran.contains(&n), "lost: the first event of {user}, {n}, started no single run");
    }
    let events = named(acknowledged, "soak/limited").count();
    has_bitten(ran.len() < events, events, "nothing was skipped by the singleton");
}

/// Each run has counted once: a key's sums are the numbers from 1 on.
fn counts(runs: &Runs<'_>) {
    let mut sums: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for run in of(runs, "counted") {
        sums.entry(user_of(run.n)).or_default().push(run.told("total").as_u64().unwrap());
    }
    for (user, mut sums) in sums {
        sums.sort_unstable();
        assert!(sums.iter().copied().eq(1..=sums.len() as u64), "what the runs of {user} have counted: {sums:?}");
    }
}

/// The clock starts a run each second, whether an engine was there or not.
fn ticks(runs: &Runs<'_>) {
    let mut seconds: Vec<u64> = of(runs, "ticking").map(|run| run.n).collect();
    seconds.sort_unstable();
    assert!(seconds.len() > 1, "the clock starts runs");
    // The last ones may be under way when the engine is told to stop, and come to their end out of their order.
    let sure = seconds.len().saturating_sub(2);
    assert!(seconds[..sure].windows(2).all(|two| two[1] - two[0] == 1_000), "each second once: {seconds:?}");
}

/// Under a limit of 1 the runs of a key neither overlap nor overtake.
fn keys(entries: &[Entry]) {
    let mut of_user: HashMap<&str, Vec<&str>> = HashMap::new();
    for entry in entries {
        if let Entry::Effect(Effect { user: Some(user), run, .. }) = entry {
            of_user.entry(user).or_default().push(run);
        }
    }
    for (user, mut runs) in of_user {
        runs.dedup();
        assert!(runs.windows(2).all(|pair| pair[0] < pair[1]), "the runs of {user} overlap or overtake: {runs:?}");
    }
}
