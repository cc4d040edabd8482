//! What is limited stays within its limits over kills: what a rate limit lets through, the runs of a key or of a shared limit at
//! once, the one run of an idempotency key, the runs at work where they hold their slot no longer than that; what was skipped is
//! recorded; and those who wait begin in their order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use stepwell::base::{EventId, Millis, RunId};
use stepwell::rules::{EventRow, Outcome, RunRow};
use stepwell::store::Store;
use stepwell::store::sqlite::Sqlite;

use super::counts::{data, of};
use super::verify::Story;

/// As the project declares them: events that a rate limit lets through in any period, events of one idempotency key, runs that
/// share a limit, and the head start of every other event.
const RATE: usize = 2;
const RATE_PERIOD_MS: i64 = 10_000;
const ONCE: i64 = 100;
const DESKS: i64 = 2;
const HEAD_START_MS: i64 = 2_000;

/// An event, and its run or why it has none.
type Verdict<'a> = (&'a EventRow, Result<&'a RunRow, Outcome>);

pub fn verify(store: &Sqlite, events: &[EventRow], runs: &[RunRow], story: &Story, starts: &[Millis]) {
    let mut sent: Vec<&EventRow> = events.iter().filter(|event| &*event.name == "work/limited").collect();
    sent.sort_unstable_by_key(|event| event.id);
    let verdicts = |function| verdicts(store, &sent, runs, function);
    let met = [
        ("skipped by the rate limit", rates(&verdicts("limited"))),
        ("skipped by the singleton", singles(&verdicts("single"), story)),
        ("skipped by the idempotency", once(&verdicts("once"))),
        ("at once at the desks", desks(runs, story)),
        ("begun while others held no slot", active(runs, story)),
        ("overtaken by a head start", begun_in_order(runs, starts)),
    ];
    println!("{met:?}");
    for (what, times) in met {
        story.has_met(what, times);
    }
    let by_id: HashMap<EventId, &EventRow> = sent.iter().map(|event| (event.id, *event)).collect();
    for run in of(runs, "preferred") {
        let head_start = number(by_id[&run.event]) % 2 * HEAD_START_MS;
        assert_eq!(run.priority_ms, head_start, "the head start of {}", run.id);
    }
}

/// What became of each event at a function that may skip it: it has a run, or it is recorded why not (I2).
fn verdicts<'a>(store: &Sqlite, sent: &[&'a EventRow], runs: &'a [RunRow], function: &'static str) -> Vec<Verdict<'a>> {
    let run_of: HashMap<EventId, &'a RunRow> = of(runs, function).map(|run| (run.event, run)).collect();
    assert_eq!(run_of.len(), of(runs, function).count(), "I2: an event has two runs of {function}");
    let verdict = |event: &&'a EventRow| -> Verdict<'a> {
        let outcomes = store.outcomes(event.id).unwrap();
        let skips: Vec<Outcome> = outcomes.iter().filter(|row| *row.function == *function).map(|row| row.outcome).collect();
        match (run_of.get(&event.id), &skips[..]) {
            (Some(run), []) => (*event, Ok(*run)),
            (None, [skip]) => (*event, Err(*skip)),
            (run, skips) => panic!("I2: event {} has {run:?} of {function}, and {skips:?} about it", event.id),
        }
    };
    sent.iter().map(verdict).collect()
}

fn user(event: &EventRow) -> String {
    data(event)["user"].to_string()
}

fn number(event: &EventRow) -> i64 {
    data(event)["n"].as_i64().unwrap()
}

/// At most so many events of a key get through in any period, and none is skipped without need. Gives how many were skipped.
///
/// A key's events come one request after the other, so they are decided on in their order; but the time that they count from may
/// be later than their acceptance, where one of another key was accepted later and decided on before.
fn rates(verdicts: &[Verdict<'_>]) -> usize {
    let mut through: BTreeMap<String, Vec<&EventRow>> = BTreeMap::new();
    let mut skipped = 0;
    for (event, verdict) in verdicts {
        let came = through.entry(user(event)).or_default();
        // The one that has to count no more before another one gets through.
        let oldest = came.len().checked_sub(RATE).map(|at| came[at]);
        let open_again = oldest.map(|oldest| oldest.accepted.0 + RATE_PERIOD_MS);
        match verdict {
            Ok(run) => {
                let decided = run.started.unwrap().0;
                assert!(open_again.is_none_or(|again| again <= decided), "I6: {} came through, too soon after {oldest:?}", event.id);
                came.push(event);
            }
            Err(Outcome::RateLimited { until }) => {
                let (Some(oldest), Some(again)) = (oldest, open_again) else {
                    panic!("I6: event {} was skipped, only {} had come through", event.id, came.len());
                };
                assert!(event.accepted < *until, "I6: event {} was skipped at a time at which it was to get through", event.id);
                assert!(until.0 >= again, "I6: event {} may come {until:?}, too soon after {oldest:?}", event.id);
                // What was answered before this one was sent counts from a time before it.
                let latest = event.accepted.0 + RATE_PERIOD_MS;
                assert!(event.accepted == oldest.accepted || until.0 <= latest, "I6: event {} was skipped for too long", event.id);
                skipped += 1;
            }
            Err(other) => panic!("event {} at its rate limit: {other:?}", event.id),
        }
    }
    skipped
}

/// A key has one unfinished run; an event is skipped for one of its own key that came before. Gives how many were skipped.
fn singles(verdicts: &[Verdict<'_>], story: &Story) -> usize {
    let mut of_user: BTreeMap<String, Vec<&RunRow>> = BTreeMap::new();
    let mut skipped = 0;
    for (event, verdict) in verdicts {
        let own = of_user.entry(user(event)).or_default();
        match verdict {
            Ok(run) => own.push(run),
            Err(Outcome::SingletonSkipped(holder)) => {
                assert_eq!(own.last().map(|run| run.id), Some(*holder), "I6: event {} was skipped for another run", event.id);
                skipped += 1;
            }
            Err(other) => panic!("event {} at its singleton: {other:?}", event.id),
        }
    }
    for (user, runs) in of_user {
        assert_eq!(most_at_once(story, &runs), 1, "I6: unfinished runs of {user} at once");
    }
    skipped
}

/// An idempotency key has exactly one run, and each other event names it. Gives how many were skipped.
fn once(verdicts: &[Verdict<'_>]) -> usize {
    let key = |event: &EventRow| number(event) / ONCE;
    let mut owners: BTreeMap<i64, RunId> = BTreeMap::new();
    for (event, run) in verdicts.iter().filter_map(|(event, verdict)| Some((event, verdict.ok()?))) {
        let other = owners.insert(key(event), run.id);
        assert_eq!(other, None, "I6: a second run, {}, of idempotency key {}", run.id, key(event));
    }
    let mut skipped = 0;
    for (event, outcome) in verdicts.iter().filter_map(|(event, verdict)| Some((event, verdict.err()?))) {
        let Outcome::IdempotencyTaken(run) = outcome else { panic!("event {} at its idempotency: {outcome:?}", event.id) };
        assert_eq!(owners.get(&key(event)), Some(&run), "I6: event {} was skipped for another run", event.id);
        skipped += 1;
    }
    skipped
}

/// Two functions share a limit. Gives how many of their runs were at it at once, beyond one.
fn desks(runs: &[RunRow], story: &Story) -> usize {
    let both: Vec<&RunRow> = of(runs, "left").chain(of(runs, "right")).collect();
    let most = most_at_once(story, &both);
    assert!(most <= DESKS, "I6: {most} runs under a shared limit of {DESKS}");
    let mut of_user: BTreeMap<&[Arc<str>], Vec<&RunRow>> = BTreeMap::new();
    of(runs, "preferred").for_each(|run| of_user.entry(&run.keys).or_default().push(run));
    for (keys, runs) in of_user {
        assert_eq!(most_at_once(story, &runs), 1, "I6: runs of {keys:?} under a limit of one");
    }
    usize::try_from(most - 1).unwrap_or(0)
}

/// How many of these runs were under way at once: by their effects, in the order in which those came, and by their times.
fn most_at_once(story: &Story, runs: &[&RunRow]) -> i64 {
    let mut by_effect = Vec::new();
    let mut by_time = Vec::new();
    for run in runs {
        let positions: Vec<i64> = story.of_run(run).map(|(position, _)| *position as i64).collect();
        // One effect may be the first and the last one.
        by_effect.extend([(positions[0] * 2, 1), (positions[positions.len() - 1] * 2 + 1, -1)]);
        // One may begin in the millisecond in which another one has ended: an end counts before a beginning.
        by_time.extend([(run.started.unwrap().0, 1), (run.ended.unwrap().0, -1)]);
    }
    most(by_effect).max(most(by_time))
}

/// The highest sum of steps up and down, in order.
fn most(mut turns: Vec<(i64, i64)>) -> i64 {
    turns.sort_unstable();
    let sums = turns.iter().scan(0, |sum, (_, step)| {
        *sum += step;
        Some(*sum)
    });
    sums.max().unwrap_or(0)
}

/// Under `hold: active` one run is at work at a time, which is between the two parts of a step; meanwhile others have begun and
/// sleep. Gives how many had at once, beyond one.
fn active(runs: &[RunRow], story: &Story) -> usize {
    let ids: HashSet<String> = of(runs, "active").map(|run| run.id.to_string()).collect();
    let (mut life, mut at_work, mut begun, mut most_begun) = (0, BTreeSet::new(), BTreeSet::new(), 0);
    for (position, effect) in story.effects.iter().filter(|(_, effect)| ids.contains(&effect.run)) {
        if effect.life != life {
            // Nobody is at work when an engine begins.
            (life, at_work) = (effect.life, BTreeSet::new());
        }
        match effect.part {
            1 => at_work.insert(&*effect.run),
            _ => at_work.remove(&*effect.run),
        };
        assert!(at_work.len() <= 1, "I6: {at_work:?} are at work at once, at entry {position} of the ledger");
        match (&*effect.step, effect.part) {
            ("after", 2) => begun.remove(&*effect.run),
            _ => begun.insert(&*effect.run),
        };
        most_begun = most_begun.max(begun.len());
    }
    most_begun.saturating_sub(1)
}

/// Of those who stood in line when an engine began, nobody starts after one who stood behind him (I7). Gives how many stood before
/// one that was accepted earlier.
fn begun_in_order(runs: &[RunRow], starts: &[Millis]) -> usize {
    let mut overtaken = 0;
    for function in ["throttled", "keyed", "left", "right", "active", "preferred"] {
        // By the start of an engine, and the values of the keys.
        let mut lines: BTreeMap<(Millis, &[Arc<str>]), Vec<&RunRow>> = BTreeMap::new();
        for run in of(runs, function) {
            // Whoever was made before is stored, since the engine that made him is dead; a clock may be a millisecond ahead.
            let from = starts.partition_point(|start| *start <= run.created);
            let to = starts.partition_point(|start| start.0 + 1 < run.started.unwrap().0);
            for start in starts.get(from..to).unwrap_or_default() {
                lines.entry((*start, &*run.keys)).or_default().push(run);
            }
        }
        for mut line in lines.into_values() {
            line.sort_unstable_by_key(|run| (run.enter.0 - run.priority_ms, run.id));
            for pair in line.windows(2) {
                assert!(pair[0].started <= pair[1].started, "I7: {} began before {}", pair[1].id, pair[0].id);
                overtaken += usize::from(pair[0].id > pair[1].id);
            }
        }
    }
    overtaken
}
