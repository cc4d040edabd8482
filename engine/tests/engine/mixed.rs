//! Options that meet on one function: each of them does what it does alone.

use stepwell::base::{Id, Millis, Span};
use stepwell::exec::NewEvent;
use stepwell::rules::{Outcome, RunRow, RunState};
use stepwell::store::{RunQuery, Store};

use super::{World, event};

const ENDED: &[RunState] = &[RunState::Completed, RunState::Failed, RunState::Cancelled];
const ALL: &str = "events.map(|one| one.data.n)";

/// An engine on a clock that jumps over no wait.
fn slow(options: &str, handler: &str) -> World {
    World::new(&format!("events: {{ a/b: {{}}, x/y: {{}} }}\nfunctions: {{ c: {{ on: a/b, {options} }} }}\n"), &[("c", handler)]).slowed()
}

impl World {
    /// What gates said about an event.
    fn outcomes(&self, event: Id) -> Vec<Outcome> {
        self.store.outcomes(event).unwrap().into_iter().map(|row| row.outcome).collect()
    }

    /// The same world on a clock that jumps, once so many runs have ended; they, the oldest first.
    fn jumped(self, number: usize) -> (World, Vec<RunRow>) {
        let world = self.restart();
        world.results(number);
        let runs = world.collecting().into_iter().filter(|run| ENDED.contains(&run.state)).collect();
        (world, runs)
    }
}

fn outputs(runs: &[RunRow]) -> Vec<String> {
    runs.iter().map(|run| run.output.as_deref().unwrap_or(run.state.word()).to_owned()).collect()
}

fn started(run: &RunRow) -> Millis {
    run.started.unwrap_or_else(|| panic!("it never began: {run:?}"))
}

// ---- batch ----

/// Events of two keys that fill three batches of two.
const SIX: [&str; 6] =
    [r#"{"k":1,"n":1}"#, r#"{"k":1,"n":2}"#, r#"{"k":1,"n":3}"#, r#"{"k":1,"n":4}"#, r#"{"k":2,"n":5}"#, r#"{"k":2,"n":6}"#];

#[test]
fn batches_are_throttled_as_runs_are() {
    let world = slow("batch: { size: 2, timeout: 1h, key: event.data.k }, throttle: { limit: 1, period: 6h, key: event.data.k }", ALL);
    world.send_each(&SIX);
    world.results(2);
    let second = world.waiting().remove(0);
    assert!(world.why(&second).starts_with("throttled"), "{}", world.why(&second));
    // What comes while a full batch waits for its start is a batch of its own.
    world.send_each(&[r#"{"k":1,"n":7}"#]);
    let (_, runs) = world.jumped(4);
    assert_eq!(outputs(&runs), ["[1,2]", "[3,4]", "[5,6]", "[7]"]);
    assert!(started(&runs[1]).since(started(&runs[0])) >= Span::seconds(6 * 3_600), "{runs:?}");
    assert!(started(&runs[2]).since(started(&runs[0])) < Span::seconds(3_600), "another key does not wait: {runs:?}");
    assert!(started(&runs[3]).since(started(&runs[1])) >= Span::seconds(6 * 3_600), "{runs:?}");
}

#[test]
fn batches_of_one_key_do_not_overlap_under_a_limit_of_one() {
    let limits = "batch: { size: 2, timeout: 1h, key: event.data.k }, concurrency: { limit: 1, key: event.data.k, hold: run }";
    let world = slow(limits, r#"sleep("nap", "2h"); events.len()"#);
    world.send_each(&SIX);
    let (_, runs) = world.jumped(3);
    assert_eq!(outputs(&runs), ["2", "2", "2"]);
    assert!(started(&runs[1]) >= runs[0].ended.unwrap() && started(&runs[2]) < runs[0].ended.unwrap(), "{runs:?}");
}

#[test]
fn what_a_rate_limit_skips_is_in_no_batch() {
    let world = slow("batch: { size: 3, timeout: 1h }, rate_limit: { limit: 2, period: 1d, key: event.data.k }", ALL);
    let ids = world.send_each(&[r#"{"k":1,"n":1}"#, r#"{"k":1,"n":2}"#, r#"{"k":1,"n":3}"#, r#"{"k":2,"n":4}"#]);
    assert_eq!(world.results(1), ["[1,2,4]"]);
    assert!(matches!(world.outcomes(ids[2])[..], [Outcome::RateLimited { .. }]), "{:?}", world.outcomes(ids[2]));
}

#[test]
fn an_event_of_the_future_is_a_batch_of_its_own_also_after_a_kill() {
    let world = slow("batch: { size: 3, timeout: 1h }", ALL);
    let ahead = world.engine.clock().now().after(Span::seconds(7_200));
    world.block_on(world.engine.accept(vec![NewEvent { ts: Some(ahead), ..event("a/b", r#"{"n":1}"#) }])).unwrap();
    world.send_each(&[r#"{"n":2}"#]);
    let world = world.slowed();
    world.send_each(&[r#"{"n":3}"#]);
    let (_, runs) = world.jumped(2);
    assert_eq!(outputs(&runs), ["[1]", "[2,3]"]);
    assert!(started(&runs[0]) >= ahead && started(&runs[1]) < ahead, "{runs:?}");
}

#[test]
fn an_event_of_the_future_takes_nothing_into_its_batch_after_a_restart() {
    let world = slow("batch: { size: 3, timeout: 1h }", ALL);
    let ahead = world.engine.clock().now().after(Span::seconds(1_800));
    world.block_on(world.engine.accept(vec![NewEvent { ts: Some(ahead), ..event("a/b", r#"{"n":1}"#) }])).unwrap();
    let world = world.slowed();
    world.send_each(&[r#"{"n":2}"#]);
    let (_, runs) = world.jumped(2);
    assert_eq!(outputs(&runs), ["[1]", "[2]"]);
}

#[test]
fn a_batch_that_nobody_starts_in_time_is_given_up() {
    let options = "batch: { size: 2, timeout: 1h }, concurrency: { limit: 1, hold: run }, timeouts: { start: 30m, finish: 3h }";
    let world = slow(options, r#"sleep("nap", "1d"); 1"#);
    world.send_each(&[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    let (_, runs) = world.jumped(2);
    let why = |run: &RunRow| run.reason.as_deref().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
    assert_eq!(runs.iter().map(why).collect::<Vec<_>>(), ["timeouts.finish", "timeouts.start"], "{runs:?}");
    // It counts from the end of the batch's time, when the run comes into the queue.
    assert!(runs[1].ended.unwrap().since(runs[1].created) >= Span::seconds(5_400), "{runs:?}");
}

#[test]
fn a_batch_that_fills_early_is_given_up_as_much_earlier() {
    let options = "batch: { size: 2, timeout: 6h }, concurrency: { limit: 1, hold: run }, timeouts: { start: 30m }";
    let world = slow(options, r#"sleep("nap", "1d"); 1"#);
    world.send_each(&[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#, r#"{"n":4}"#]);
    let (_, runs) = world.jumped(2);
    assert_eq!(outputs(&runs), ["1", "cancelled"]);
    let world = slow(options, r#"wait_for_signal("go")"#);
    let ids = world.send_each(&[r#"{"n":1}"#, r#"{"n":2}"#]);
    world.block_on(world.until(ids[0], &[RunState::Waiting]));
    // On a clock that jumps, without a restart in which the times would be read anew.
    let world = world.restart();
    let busy = world.engine.busy();
    world.send_each(&[r#"{"n":3}"#, r#"{"n":4}"#]);
    drop(busy);
    let run = world.collecting().remove(1);
    world.results(1);
    let run = world.store.run(run.id).unwrap().unwrap();
    assert_eq!((run.state, run.started), (RunState::Cancelled, None), "{run:?}");
    assert!(run.ended.unwrap().since(run.created) < Span::seconds(2 * 3_600), "{run:?}");
}

// ---- debounce ----

#[test]
fn an_event_that_has_to_be_decided_again_leaves_the_window_as_it_was() {
    // The commit finds that another function's key is taken, and the event is decided on anew.
    let functions = "c: { on: a/b, debounce: { period: 1ms, timeout: 1ms } }, o: { on: a/b, idempotency: event.data.same }";
    let yaml = format!("events: {{ a/b: {{}} }}\nfunctions: {{ {functions} }}\n");
    let world = World::new(&yaml, &[("c", "event.data.n"), ("o", "1")]).slowed();
    let ahead = world.engine.clock().now().after(Span::seconds(3_600));
    world.block_on(world.engine.accept(vec![NewEvent { ts: Some(ahead), ..event("a/b", r#"{"n":1,"same":1}"#) }])).unwrap();
    world.send_each(&[r#"{"n":2,"same":1}"#]);
    assert_eq!(world.results(1), ["2"]);
    assert_eq!(world.collecting().len(), 1);
}

#[test]
fn what_an_earlier_gate_skips_does_not_put_a_debounce_off() {
    let world = slow("debounce: { period: 1h }, idempotency: event.data.k, rate_limit: { limit: 2, period: 1d }", "event.data.n");
    let ids = world.send_each(&[r#"{"k":1,"n":1}"#, r#"{"k":1,"n":2}"#, r#"{"k":2,"n":3}"#]);
    let before = world.waiting();
    assert_eq!((before.len(), before[0].event), (1, ids[2]));
    assert_eq!(world.outcomes(ids[1]), [Outcome::IdempotencyTaken(before[0].id)]);
    let limited = world.send_each(&[r#"{"k":3,"n":4}"#]);
    assert!(matches!(world.outcomes(limited[0])[..], [Outcome::RateLimited { .. }]));
    assert_eq!(world.waiting(), before, "it waits as long as before");
    let (_, runs) = world.jumped(1);
    assert_eq!(outputs(&runs), ["3"]);
}

#[test]
fn a_debounced_run_has_the_limits_and_the_head_start_of_its_last_event() {
    let options =
        "debounce: { period: 1h, key: event.data.k }, priority: event.data.p, concurrency: { limit: 1, key: event.data.user, hold: run }";
    let world = slow(options, r#"sleep("nap", "1d"); event.data.n"#);
    // Both come to wait for `ada`, who is busy; the second one has the head start.
    let busy = world.send_each(&[r#"{"n":0,"user":"ada"}"#])[0];
    world.block_on(world.until(busy, &[RunState::Sleeping]));
    world.send_each(&[r#"{"k":1,"n":1,"user":"bob","p":0}"#, r#"{"k":2,"n":2,"user":"bob","p":0}"#]);
    world.send_each(&[r#"{"k":1,"n":3,"user":"ada","p":0}"#, r#"{"k":2,"n":4,"user":"ada","p":600}"#]);
    let (_, runs) = world.jumped(3);
    let mut order = runs.clone();
    order.sort_by_key(started);
    assert_eq!(outputs(&order), ["0", "4", "3"]);
    assert!(order.windows(2).all(|pair| started(&pair[1]) >= pair[0].ended.unwrap()), "{order:?}");
}

#[test]
fn a_run_that_collects_is_cancelled_by_an_event_and_the_next_one_begins_anew() {
    let options = "debounce: { period: 1h, key: event.data.k }, cancel_on: { event: x/y, if: \"async.data.n == event.data.n\" }";
    let world = slow(options, "event.data.n");
    world.send_each(&[r#"{"k":1,"n":1}"#, r#"{"k":1,"n":2}"#]);
    world.block_on(world.send("x/y", r#"{"n":1}"#)).unwrap();
    assert_eq!(world.waiting().len(), 1, "its event is another one by now");
    let world = world.slowed();
    world.block_on(world.send("x/y", r#"{"n":2}"#)).unwrap();
    assert_eq!(world.waiting().len(), 0);
    world.send_each(&[r#"{"k":1,"n":3}"#]);
    let (_, runs) = world.jumped(2);
    assert_eq!(outputs(&runs), ["cancelled", "3"]);
}

#[test]
fn a_paused_function_goes_on_collecting_and_begins_when_it_is_resumed() {
    for (options, expected) in [("debounce: { period: 1h }", "2"), ("batch: { size: 3, timeout: 1h }", "1")] {
        let world = slow(options, "event.data.n");
        world.block_on(world.engine.pause("c", true)).unwrap();
        world.send_each(&[r#"{"n":1}"#, r#"{"n":2}"#]);
        let world = world.restart();
        let later = world.engine.clock().now().after(Span::seconds(7_200));
        let busy = world.block_on(world.engine.at(later)).unwrap();
        let held = world.waiting();
        assert_eq!(held.len(), 1);
        assert!(world.why(&held[0]).starts_with("paused"), "{}", world.why(&held[0]));
        // Its time is over: what comes now is for another run.
        world.send_each(&[r#"{"n":3}"#]);
        assert_eq!(world.waiting().len(), 2);
        world.block_on(world.engine.pause("c", false)).unwrap();
        assert_eq!(world.results(1), [expected]);
        drop(busy);
        assert_eq!(world.results(2)[1], "3");
    }
}

// ---- singleton ----

#[test]
fn a_singleton_that_waits_for_its_start_holds_its_key() {
    let options = "singleton: { key: event.data.k }, throttle: { limit: 1, period: 6h }, priority: event.data.p";
    let world = slow(options, "event.data.n");
    let first = world.send_each(&[r#"{"k":1,"n":1}"#])[0];
    world.block_on(world.until(first, ENDED));
    let ids = world.send_each(&[r#"{"k":1,"n":2,"p":0}"#, r#"{"k":2,"n":3,"p":600}"#, r#"{"k":1,"n":4,"p":600}"#]);
    assert!(matches!(world.outcomes(ids[2])[..], [Outcome::SingletonSkipped(_)]), "{:?}", world.outcomes(ids[2]));
    let (_, runs) = world.jumped(3);
    let mut order = runs;
    order.sort_by_key(started);
    assert_eq!(outputs(&order), ["1", "3", "2"]);
}

#[test]
fn a_singleton_of_mode_cancel_gives_its_slot_and_its_place_to_the_next() {
    let options = "singleton: { key: event.data.k, mode: cancel }, concurrency: { limit: 1, hold: run }, idempotency: event.data.n";
    let world = slow(options, r#"wait_for_signal("go"); event.data.n"#);
    let first = world.send_each(&[r#"{"k":1,"n":1}"#])[0];
    world.block_on(world.until(first, &[RunState::Waiting]));
    let ids = world.send_each(&[r#"{"k":1,"n":2}"#, r#"{"k":1,"n":2}"#]);
    // The slot of the one that it has replaced is free in the same commit.
    let second = world.block_on(world.until(ids[0], &[RunState::Waiting]));
    assert_eq!(world.outcomes(ids[1]), [Outcome::IdempotencyTaken(second.id)], "an earlier gate skips before anything is cancelled");
    let runs: Vec<RunState> = world.collecting().iter().map(|run| run.state).collect();
    assert_eq!(runs, [RunState::Cancelled, RunState::Waiting]);
}

#[test]
fn an_event_of_the_future_holds_its_singleton_from_its_acceptance_on() {
    let world = slow("singleton: {}", "event.data.n");
    let ahead = world.engine.clock().now().after(Span::seconds(3_600));
    world.block_on(world.engine.accept(vec![NewEvent { ts: Some(ahead), ..event("a/b", r#"{"n":1}"#) }])).unwrap();
    let skipped = world.send_each(&[r#"{"n":2}"#]);
    assert!(matches!(world.outcomes(skipped[0])[..], [Outcome::SingletonSkipped(_)]));
    let (_, runs) = world.jumped(1);
    assert!(started(&runs[0]) >= ahead, "{runs:?}");
}

// ---- cron, invoke ----

/// Runs of `f` on a clock that jumps, until so many have ended.
fn by_clock(options: &str, handler: &str, number: usize) -> (World, Vec<RunRow>) {
    let yaml =
        format!("events: {{ a/b: {{}} }}\nfunctions: {{ f: {{ cron: {{ schedule: \"0 * * * *\", missed: run-all }}, {options} }} }}\n");
    let world = World::new(&yaml, &[("f", handler)]);
    let query = RunQuery { function: Some("f".into()), states: ENDED.to_vec(), ..RunQuery::default() };
    let mut notices = world.engine.subscribe();
    let runs = world.block_on(async {
        loop {
            let mut runs = world.store.runs(&query).unwrap();
            if runs.len() >= number {
                runs.reverse();
                break runs;
            }
            // What was missed is stored.
            let _ = notices.recv().await;
        }
    });
    (world, runs)
}

#[test]
fn a_start_by_the_clock_is_skipped_while_the_one_before_is_unfinished() {
    let (world, runs) = by_clock("singleton: {}", r#"sleep("long", "150m"); event.data.at"#, 3);
    for pair in runs.windows(2) {
        let between = started(&pair[1]).since(started(&pair[0]));
        assert!(between >= Span::seconds(3 * 3_600 - 60), "two starts within the time of one run: {runs:?}");
    }
    let ticks = world.store.events(&stepwell::store::EventQuery::default()).unwrap();
    let skipped = ticks.iter().filter(|tick| matches!(world.outcomes(tick.id)[..], [Outcome::SingletonSkipped(_)])).count();
    assert!(skipped >= 4, "{skipped} of {}", ticks.len());
}

#[test]
fn starts_by_the_clock_are_limited_and_collected_like_others() {
    let (_, runs) = by_clock("rate_limit: { limit: 1, period: 150m }", "1", 3);
    assert!(runs.windows(2).all(|pair| pair[1].created.since(pair[0].created) >= Span::seconds(3 * 3_600 - 60)), "{runs:?}");
    let (_, runs) = by_clock("batch: { size: 3, timeout: 1d }", "events.len()", 2);
    assert_eq!(outputs(&runs[..2]), ["3", "3"]);
}

#[test]
fn an_invoked_run_passes_no_gate_before_the_queue() {
    for options in [
        "singleton: {}",
        "rate_limit: { limit: 1, period: 1d }",
        "debounce: { period: 1d }",
        "batch: { size: 9, timeout: 1d }",
        "idempotency: \"'same'\"",
    ] {
        let yaml = format!("events: {{ a/b: {{}}, x/y: {{}} }}\nfunctions: {{ g: {{ on: x/y }}, f: {{ on: a/b, {options} }} }}\n");
        let script = r#"parallel([|| invoke("f", #{ n: 1 }), || invoke("f", #{ n: 2 })])"#;
        let world = World::new(&yaml, &[("f", r#"sleep("nap", "1m"); [event.data.n, events.len()]"#), ("g", script)]);
        let run = world.block_on(async { world.ended(world.send("x/y", "{}").await.unwrap()).await });
        assert_eq!(run.output.as_deref(), Some("[[1,1],[2,1]]"), "{options}: {run:?}");
        assert!(run.ended.unwrap().since(run.created) < Span::seconds(3_600), "{options}");
    }
}
