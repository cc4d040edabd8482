//! What ends a run from beside does so over kills too, for its own reason: a newer run of its singleton, an event that calls it off, the
//! time-outs of its start and of its finish. And a wait ends with its event, or when its time is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stepwell::base::EventId;
use stepwell::rules::{EventRow, RunRow, RunState};

use super::counts::{data, of};
use super::load::Acknowledged;
use super::verify::Story;

/// As the project declares them.
const START_MS: i64 = 300;
const FINISH_MS: i64 = 300;
const PATIENCE_MS: i64 = 200;
/// From the number of an event to that of the one that calls it off.
pub const CALLS_OFF: u64 = 5;
/// The functions whose runs may be cancelled.
pub const CANCELLED: [&str; 4] = ["replaced", "called", "late", "hurried"];

type ById<'a> = HashMap<EventId, &'a EventRow>;

pub fn verify(acknowledged: &[Acknowledged], events: &[EventRow], runs: &[RunRow], story: &Story) {
    let by_id: ById<'_> = events.iter().map(|event| (event.id, event)).collect();
    let calls = events.iter().filter(|event| &*event.name == "work/called-off");
    let called_off: HashMap<i64, &EventRow> = calls.map(|event| (number(event) - CALLS_OFF as i64, event)).collect();
    let [in_time, too_late] = waits(&by_id, &called_off, runs);
    let met = [
        ("replaced by a newer run", replaced(&by_id, runs)),
        ("called off", called(acknowledged, &by_id, &called_off, runs, story)),
        ("given up in line", late(runs)),
        ("given up after its start", hurried(&by_id, runs)),
        ("ended, of the waits, by an event", in_time),
        ("ended, of the waits, by its time-out", too_late),
    ];
    println!("{met:?}");
    for (what, times) in met {
        story.has_met(what, times);
    }
}

fn number(event: &EventRow) -> i64 {
    data(event)["n"].as_i64().unwrap()
}

fn reason(run: &RunRow) -> &str {
    run.reason.as_deref().unwrap_or_default()
}

/// Of a user one run at a time is unfinished: whoever comes takes the place of the one that is there. Gives how many had to go.
fn replaced(by_id: &ById<'_>, runs: &[RunRow]) -> usize {
    let mut of_user: BTreeMap<String, Vec<&RunRow>> = BTreeMap::new();
    for run in of(runs, "replaced") {
        of_user.entry(data(by_id[&run.event])["user"].to_string()).or_default().push(run);
    }
    let mut gone = 0;
    for (user, runs) in of_user {
        for run in runs.iter().filter(|run| run.state == RunState::Cancelled) {
            let by = runs.iter().find(|by| reason(run) == format!("singleton: run {} takes its place", by.id));
            assert!(by.is_some_and(|by| by.id != run.id), "G29: {} of {user} was cancelled: {}", run.id, reason(run));
            gone += 1;
        }
        assert!(runs.iter().any(|run| run.state == RunState::Completed), "I6: each run of {user} was replaced");
        let mut begun: Vec<&RunRow> = runs.into_iter().filter(|run| run.started.is_some()).collect();
        begun.sort_unstable_by_key(|run| (run.started, run.ended));
        for pair in begun.windows(2) {
            assert!(pair[0].ended <= pair[1].started, "I6: {} and {} of {user} at once", pair[0].id, pair[1].id);
        }
    }
    gone
}

/// A run is cancelled by the event of its number, and by nothing else; one that is not had ended before that event was stored. Gives
/// how many were.
///
/// No clock is asked: an event cancels in the commit that stores it, and its sender has his answer after that. So what the ledger
/// had by then, and got later, tells what a run did after it was to be cancelled. One that ended before had all of its effects before,
/// since a step's effect comes before its record, and that before the end or with it.
fn called(acknowledged: &[Acknowledged], by_id: &ById<'_>, called_off: &HashMap<i64, &EventRow>, runs: &[RunRow], story: &Story) -> usize {
    let answered: HashMap<&str, usize> = acknowledged.iter().map(|noted| (noted.id.as_str(), noted.at)).collect();
    let mut gone = 0;
    for run in of(runs, "called") {
        let call = called_off.get(&number(by_id[&run.event]));
        let from = call.map_or(usize::MAX, |call| answered[call.id.to_string().as_str()]);
        let later: BTreeSet<&str> =
            story.of_run(run).filter(|(position, _)| *position >= from).map(|(_, effect)| effect.step.as_str()).collect();
        if run.state == RunState::Cancelled {
            let wanted = call.map(|call| format!("cancel_on: work/called-off {} came", call.id));
            assert_eq!(Some(reason(run)), wanted.as_deref(), "G29: why {} was cancelled", run.id);
            // A step that was at work may have had its effect on its way.
            assert!(later.len() <= 1, "G29: {} was cancelled, and went on: {later:?}", run.id);
            gone += 1;
        } else if let Some(call) = call {
            assert!(later.is_empty(), "G29: {} went on after event {}: {later:?}", run.id, call.id);
        }
    }
    gone
}

/// Whoever stands in line for too long is given up, and nobody else; so nobody starts too late. Gives how many were given up.
fn late(runs: &[RunRow]) -> usize {
    let mut gone = 0;
    for run in of(runs, "late") {
        let until = run.enter.0 + START_MS;
        if run.state == RunState::Cancelled {
            assert!(reason(run).starts_with("timeouts.start"), "{} was cancelled: {}", run.id, reason(run));
            assert!(run.started.is_none() && run.ended.unwrap().0 >= until, "I9: {run:?} was given up too soon");
            gone += 1;
        } else {
            // A clock may be a millisecond ahead.
            assert!(run.started.unwrap().0 <= until + 1, "{} started after its time-out", run.id);
        }
    }
    gone
}

/// A run of an even number takes too long, whatever becomes of its engine. Gives how many were given up.
fn hurried(by_id: &ById<'_>, runs: &[RunRow]) -> usize {
    let mut gone = 0;
    for run in of(runs, "hurried") {
        if run.state == RunState::Cancelled {
            assert!(reason(run).starts_with("timeouts.finish"), "{} was cancelled: {}", run.id, reason(run));
            let least = run.started.unwrap().0 + FINISH_MS;
            assert!(run.ended.unwrap().0 >= least, "I9: {run:?} was given up too soon");
            gone += 1;
        } else {
            assert_eq!(number(by_id[&run.event]) % 2, 1, "{} took too long and was not given up", run.id);
        }
    }
    gone
}

/// A wait comes to the event of its number, or to nothing once its time is over. Gives how many came to each.
fn waits(by_id: &ById<'_>, called_off: &HashMap<i64, &EventRow>, runs: &[RunRow]) -> [usize; 2] {
    let mut met = [0, 0];
    for run in of(runs, "patient") {
        let output: serde_json::Value = serde_json::from_str(run.output.as_deref().unwrap()).unwrap();
        let own = number(by_id[&run.event]);
        if output["came"].is_null() {
            let least = run.started.unwrap().0 + PATIENCE_MS;
            assert!(run.ended.unwrap().0 >= least, "I9: {} has not waited for long enough", run.id);
            met[1] += 1;
        } else {
            assert_eq!(output["came"], own + CALLS_OFF as i64, "W1: what {} waited for", run.id);
            assert!(called_off.contains_key(&own), "W1: {} has an event that is not stored", run.id);
            met[0] += 1;
        }
    }
    met
}
