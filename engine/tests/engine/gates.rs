//! What limits when a function starts: `rate_limit`, `throttle`, `singleton`, and what a kill leaves of them.

use std::sync::Arc;

use stepwell::base::{EventId, Json, Span};
use stepwell::clock::SystemClock;
use stepwell::exec::NewEvent;
use stepwell::rules::replay::Keep;
use stepwell::rules::{Outcome, RunRow, RunState};
use stepwell::store::{RunQuery, Store};

use super::{World, event, send_all, start_at};

/// An engine on a clock that jumps over no wait.
fn slow(function: &str, handler: &str) -> World {
    let world = World::new(&yaml(function), &[("f", handler)]);
    world.block_on(world.engine.drain());
    let World { folder, engine, store } = world;
    drop(engine);
    store.close().unwrap();
    let (engine, store) = start_at(folder.path(), Arc::new(SystemClock::default()));
    World { folder, engine, store }
}

fn yaml(function: &str) -> String {
    format!("events: {{ a/b: {{}}, go/all: {{}} }}\nfunctions: {{ f: {{ on: a/b, {function} }} }}\n")
}

fn quick(function: &str, handler: &str) -> World {
    World::new(&yaml(function), &[("f", handler)])
}

impl World {
    /// The runs of `f`, the oldest first.
    fn oldest_first(&self) -> Vec<RunRow> {
        let mut runs = self.store.runs(&RunQuery { function: Some("f".into()), ..RunQuery::default() }).unwrap();
        runs.reverse();
        runs
    }

    /// The numbers that the events of the runs of `f` carry, the oldest run first.
    fn numbers(&self) -> Vec<i64> {
        let number = |run: RunRow| {
            let event = self.store.event(run.event).unwrap().unwrap();
            serde_json::from_str::<serde_json::Value>(&event.data).unwrap()["n"].as_i64().unwrap()
        };
        self.oldest_first().into_iter().map(number).collect()
    }

    /// What gates said about an event.
    fn said(&self, event: EventId) -> Vec<Outcome> {
        self.store.outcomes(event).unwrap().into_iter().map(|row| row.outcome).collect()
    }

    /// Sends an event for each number, one after the other.
    fn send_numbers(&self, numbers: impl IntoIterator<Item = i64>) -> Vec<EventId> {
        numbers.into_iter().map(|n| self.block_on(self.send("a/b", &format!(r#"{{"n":{n},"k":{}}}"#, n / 10))).unwrap()).collect()
    }

    /// As `send_numbers`, in one request.
    fn send_together(&self, numbers: impl IntoIterator<Item = i64>) -> Vec<EventId> {
        let data: Vec<String> = numbers.into_iter().map(|n| format!(r#"{{"n":{n},"k":{}}}"#, n / 10)).collect();
        send_all(self, "a/b", &data.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// When each run first started, in milliseconds after the first one.
fn starts(world: &World, events: &[EventId]) -> Vec<i64> {
    let runs: Vec<RunRow> = events.iter().map(|event| world.block_on(world.ended(*event))).collect();
    let at = |run: &RunRow| run.started.unwrap().0;
    runs.iter().map(|run| at(run) - at(&runs[0])).collect()
}

// ---- rate_limit ----

#[test]
fn a_rate_limit_lets_through_so_many_of_each_key() {
    let world = quick("rate_limit: { limit: 2, period: 1h, key: event.data.k }", "1");
    world.send_numbers([10, 11, 12, 20]);
    assert_eq!(world.numbers(), [10, 11, 20]);
    world.send_together([21, 22, 30, 31, 32, 33, 13]);
    assert_eq!(world.numbers(), [10, 11, 20, 21, 30, 31], "the same within one request");
}

#[test]
fn a_rate_limit_counts_over_a_kill_and_frees_itself_a_period_later() {
    let world = slow("rate_limit: { limit: 3, period: 2s }", "1");
    world.send_numbers([1, 2]);
    let world = world.killed();
    world.send_numbers([3, 4]);
    assert_eq!(world.numbers(), [1, 2, 3]);
    let oldest = world.oldest_first()[0].created;
    let clock = Arc::clone(world.engine.clock());
    world.block_on(clock.sleep_until(oldest.after(Span::seconds(2)), false));
    world.send_together([5, 6, 7, 8]);
    let runs = world.oldest_first();
    for run in &runs {
        let within = runs.iter().filter(|other| (0..2_000).contains(&(other.created.0 - run.created.0))).count();
        assert!(within <= 3, "more than 3 within 2 s: {runs:?}");
    }
    assert!(world.numbers().contains(&5), "{:?}", world.numbers());
}

#[test]
fn what_a_later_gate_skips_gives_its_idempotency_key_back_and_counts_for_nothing() {
    let world = quick("idempotency: event.data.n, singleton: {}, rate_limit: { limit: 2, period: 1h }", r#"wait_for_signal("go")"#);
    let first = world.send_numbers([1])[0];
    world.block_on(world.until(first, &[RunState::Waiting]));
    // Skipped by the singleton: neither the key nor the rate is used up.
    world.send_numbers([2, 3]);
    world.block_on(world.engine.signal("go", Json::from("1"))).unwrap();
    world.block_on(world.ended(first));
    let second = world.send_numbers([2])[0];
    world.block_on(world.until(second, &[RunState::Waiting]));
    world.block_on(world.engine.signal("go", Json::from("1"))).unwrap();
    world.block_on(world.ended(second));
    // Skipped by the rate, which does not free the key that a run has.
    let skipped = world.send_numbers([1, 3]);
    assert_eq!(world.numbers(), [1, 2]);
    let first = world.oldest_first()[0].id;
    assert_eq!(world.said(skipped[0]), [Outcome::IdempotencyTaken(first)], "the first gate is the one that is named");
    let until = world.oldest_first()[0].created.after(Span::seconds(3_600));
    assert_eq!(world.said(skipped[1]), [Outcome::RateLimited { until }]);
}

#[test]
fn repeated_events_use_up_no_rate() {
    let world = quick("rate_limit: { limit: 2, period: 1h }", "1");
    let once = |n: i64, id: &str| NewEvent { dedupe: Some(id.into()), ..event("a/b", &format!(r#"{{"n":{n}}}"#)) };
    world.block_on(world.engine.accept(vec![once(1, "x"), once(2, "x"), once(3, "x"), once(4, "y"), once(5, "z")])).unwrap();
    assert_eq!(world.numbers(), [1, 4]);
}

#[test]
fn what_a_run_sends_comes_under_the_rate_limit_too() {
    let yaml = "events: { a/b: {}, x/y: {} }\nfunctions: { g: { on: x/y }, f: { on: a/b, rate_limit: { limit: 2, period: 1h } } }\n";
    let script = r#"send_event([1, 2, 3, 4].map(|n| #{ name: "a/b", data: #{ n: n } })); 1"#;
    let world = World::new(yaml, &[("f", "1"), ("g", script)]);
    world.block_on(async { world.ended(world.send("x/y", "{}").await.unwrap()).await });
    assert_eq!(world.numbers(), [1, 2]);
}

// ---- throttle ----

#[test]
fn a_throttle_spreads_the_starts_of_a_key_in_order() {
    let world = quick("throttle: { limit: 2, period: 1h, key: event.data.k }", "1");
    let events = world.send_together([10, 11, 12, 13, 20]);
    let at = starts(&world, &events);
    let interval = 30 * 60_000;
    for n in 1..4 {
        assert!(at[n] - at[n - 1] >= interval, "{at:?}");
    }
    assert!(at[3] < 4 * interval, "and no later than needed: {at:?}");
    assert!(at[4] < interval, "another key does not wait: {at:?}");
}

#[test]
fn a_burst_starts_at_once_on_top() {
    let world = quick("throttle: { limit: 1, period: 1h, burst: 2 }", "1");
    let at = starts(&world, &world.send_together([1, 2, 3, 4, 5]));
    assert!(at[2] < 60_000 && at[3] >= 3_600_000 && at[4] - at[3] >= 3_600_000, "{at:?}");
}

#[test]
fn a_throttled_run_says_why_it_waits_and_when_it_moves() {
    let world = slow("throttle: { limit: 2, period: 1h, key: event.data.k }", "1");
    let events = world.send_together([10, 11, 12, 13]);
    world.block_on(world.ended(events[0]));
    let why = |at: usize| {
        let run = world.block_on(world.until(events[at], &[RunState::Queued]));
        world.block_on(world.engine.why(&run)).unwrap()
    };
    let next = why(1);
    assert!(next.starts_with("throttled: f allows 2 starts per 1h for key 1; it is the next one, starts in 29m"), "{next}");
    let last = why(3);
    assert!(last.contains("2 runs stand before it, starts in 1h29m"), "{last}");
}

#[test]
fn a_throttle_goes_on_after_a_kill_where_it_stood() {
    let world = slow("throttle: { limit: 2, period: 1h }", "1");
    let mut events = world.send_together([1, 2, 3]);
    world.block_on(world.ended(events[0]));
    let world = world.killed();
    events.extend(world.send_together([4]));
    let at = starts(&world, &events);
    for n in 1..4 {
        assert!(at[n] - at[n - 1] >= 30 * 60_000, "{at:?}");
    }
}

#[test]
fn a_throttle_holds_back_first_starts_only() {
    let world = quick("throttle: { limit: 1, period: 1h }", r#"sleep("a", "1m"); sleep("b", "1m"); 1"#);
    let events = world.send_together([1, 2]);
    let first = world.block_on(world.ended(events[0]));
    assert!(first.ended.unwrap().since(first.started.unwrap()) < Span::seconds(600), "{first:?}");
}

#[test]
fn a_run_that_waits_for_a_slot_uses_up_no_start() {
    let limits = "concurrency: { limit: 1, key: event.data.k }, throttle: { limit: 60, period: 1h }";
    let world = quick(limits, r#"sleep("long", "1d"); 1"#);
    // Of the first key one waits for the other's end; the second key starts a minute later nevertheless.
    let at = starts(&world, &world.send_together([10, 11, 20]));
    assert!(at[2] < 10 * 60_000 && at[1] >= 86_400_000, "{at:?}");
}

#[test]
fn an_invoked_run_is_throttled_too() {
    let yaml = "events: { a/b: {}, x/y: {} }\nfunctions: { g: { on: x/y }, f: { on: a/b, throttle: { limit: 1, period: 1h } } }\n";
    let world = World::new(yaml, &[("f", "run.id"), ("g", r#"invoke("f", #{}); invoke("f", #{}); 1"#)]);
    world.block_on(async { world.ended(world.send("x/y", "{}").await.unwrap()).await });
    let runs = world.oldest_first();
    assert!(runs[1].started.unwrap().since(runs[0].started.unwrap()) >= Span::seconds(3_600), "{runs:?}");
}

// ---- singleton ----

#[test]
fn a_singleton_skips_while_a_run_of_its_key_is_unfinished() {
    let world = slow("singleton: { key: event.data.k }", r#"wait_for_signal("go")"#);
    let first = world.send_together([10, 11, 20])[0];
    let skipped = world.send_numbers([12, 21]);
    assert_eq!(world.numbers(), [10, 20]);
    assert_eq!(world.said(skipped[0]), [Outcome::SingletonSkipped(world.oldest_first()[0].id)]);
    world.block_on(world.until(first, &[RunState::Waiting]));
    let world = world.killed();
    world.send_numbers([13, 22]);
    assert_eq!(world.numbers(), [10, 20]);
    world.block_on(world.engine.signal("go", Json::from("1"))).unwrap();
    world.block_on(world.ended(first));
    world.send_numbers([14]);
    assert_eq!(world.numbers(), [10, 20, 14]);
}

#[test]
fn a_run_that_is_cancelled_or_fails_frees_its_singleton() {
    let world = quick("retries: 0, singleton: {}", r#"if event.data.n == 1 { throw "no" } wait_for_signal("go")"#);
    let ids = world.send_numbers([1]);
    world.block_on(world.ended(ids[0]));
    let ids = world.send_numbers([2]);
    let run = world.block_on(world.until(ids[0], &[RunState::Waiting]));
    world.block_on(world.engine.cancel(run.id, "enough")).unwrap();
    world.send_numbers([3]);
    assert_eq!(world.numbers(), [1, 2, 3]);
}

#[test]
fn a_null_key_means_that_a_singleton_does_not_apply() {
    let world = quick("singleton: { key: event.data.none }", r#"wait_for_signal("go")"#);
    world.send_numbers([1, 2]);
    assert_eq!(world.numbers(), [1, 2]);
}

#[test]
fn a_singleton_of_mode_cancel_lets_the_last_event_win() {
    let world = slow("singleton: { key: event.data.k, mode: cancel }", r#"wait_for_signal("go")"#);
    let first = world.send_numbers([10])[0];
    world.block_on(world.until(first, &[RunState::Waiting]));
    let second = world.send_numbers([11])[0];
    assert_eq!(world.said(second), [Outcome::SingletonReplaced(world.oldest_first()[0].id)]);
    let cancelled = world.block_on(world.ended(first));
    assert_eq!(cancelled.state, RunState::Cancelled);
    let reason = cancelled.reason.unwrap();
    assert!(reason.starts_with("singleton: run ") && reason.ends_with(" takes its place"), "{reason}");
    // Many at once: each takes the place of the one before it.
    let ids = world.send_together([12, 13, 14, 20, 15]);
    let world = world.killed();
    let unfinished = |world: &World| {
        let runs = world.oldest_first();
        let numbers = world.numbers();
        let left: Vec<i64> = numbers.into_iter().zip(runs).filter(|(_, run)| !run.state.is_terminal()).map(|(n, _)| n).collect();
        left
    };
    assert_eq!(unfinished(&world), [20, 15]);
    world.block_on(world.until(ids[4], &[RunState::Waiting]));
    world.send_numbers([16]);
    assert_eq!(unfinished(&world), [20, 16], "the one from before the kill is known");
}

#[test]
fn what_a_replaced_run_has_invoked_is_cancelled_with_it() {
    let yaml = "events: { a/b: {}, x/y: {} }\nfunctions: { f: { on: a/b, singleton: { mode: cancel } }, g: { on: x/y } }\n";
    let script = r#"if event.data.n == 1 { invoke("g", #{}) } else { 7 }"#;
    let world = World::new(yaml, &[("f", script), ("g", r#"wait_for_signal("go")"#)]);
    let first = world.send_numbers([1])[0];
    world.block_on(world.until(first, &[RunState::Waiting]));
    let second = world.send_numbers([2])[0];
    assert_eq!(world.block_on(world.ended(second)).output.as_deref(), Some("7"));
    let children = world.store.runs(&RunQuery { function: Some("g".into()), ..RunQuery::default() }).unwrap();
    assert_eq!(children.iter().map(|run| run.state).collect::<Vec<_>>(), [RunState::Cancelled]);
}

#[test]
fn of_events_that_a_run_sends_together_one_is_left() {
    for (mode, left) in [("skip", vec![1]), ("cancel", vec![3])] {
        let yaml = format!(
            "events: {{ a/b: {{}}, x/y: {{}} }}\nfunctions: {{ g: {{ on: x/y }}, f: {{ on: a/b, singleton: {{ mode: {mode} }} }} }}\n"
        );
        let script = r#"send_event([1, 2, 3].map(|n| #{ name: "a/b", data: #{ n: n } })); 1"#;
        let world = World::new(&yaml, &[("f", r#"wait_for_signal("go")"#), ("g", script)]);
        world.block_on(async { world.ended(world.send("x/y", "{}").await.unwrap()).await });
        let runs = world.oldest_first().into_iter().zip(world.numbers());
        let unfinished: Vec<i64> = runs.filter(|(run, _)| !run.state.is_terminal()).map(|(_, n)| n).collect();
        assert_eq!(unfinished, left, "{mode}");
    }
}

// ---- runs done again ----

impl World {
    /// Does a run that has ended again, and waits for the end of the new one.
    fn done_again(&self, old: &RunRow) -> RunRow {
        self.block_on(self.engine.replay(old.id, &Keep::default(), false)).unwrap();
        // Of the runs of an event, the newest is looked at.
        let new = self.block_on(self.ended(old.event));
        assert_eq!((new.state, new.replay_of), (RunState::Completed, Some(old.id)), "{new:?}");
        new
    }
}

#[test]
fn a_replay_is_throttled() {
    let world = quick("throttle: { limit: 1, period: 1h }", "1");
    let first = world.send_numbers([1])[0];
    let old = world.block_on(world.ended(first));
    let new = world.done_again(&old);
    assert!(new.started.unwrap().since(old.started.unwrap()) >= Span::seconds(3_600), "{new:?}");
}

#[test]
fn a_replay_is_stopped_by_no_key_that_is_spent_and_by_no_rate_that_is_reached() {
    for gate in ["idempotency: event.data.n", "rate_limit: { limit: 1, period: 1h }"] {
        let world = quick(gate, "1");
        let first = world.send_numbers([1])[0];
        let old = world.block_on(world.ended(first));
        world.send_numbers([1]);
        assert_eq!(world.numbers(), [1], "{gate} lets no other event through");
        world.done_again(&old);
        assert_eq!(world.numbers(), [1, 1], "{gate}");
    }
}

#[test]
fn a_replay_is_not_stopped_by_a_singleton_that_is_held_and_leaves_it_alone() {
    for mode in ["skip", "cancel"] {
        let world = quick(&format!("singleton: {{ mode: {mode} }}"), r#"if event.data.n == 1 { 1 } else { wait_for_signal("go") }"#);
        let first = world.send_numbers([1])[0];
        let old = world.block_on(world.ended(first));
        let second = world.send_numbers([2])[0];
        let holder = world.block_on(world.until(second, &[RunState::Waiting]));
        world.done_again(&old);
        assert_eq!(world.store.run(holder.id).unwrap().unwrap().state, RunState::Waiting, "{mode}");
    }
}

#[test]
fn senders_whose_lists_wait_for_each_other_come_to_their_end() {
    let yaml = "events: { a/b: {}, x/y: {} }\nfunctions: { s: { on: a/b }, f: { on: x/y, rate_limit: { limit: 1, period: 1h, key: event.data.k } } }\n";
    let sender = r#"send_event([#{ name: "x/y", data: #{ k: event.data.n } }, #{ name: "x/y", data: #{ k: "all" } }])"#;
    let world = World::new(yaml, &[("s", sender), ("f", "1")]);
    let data: Vec<String> = (0..40).map(|n| format!(r#"{{"n":"{n}"}}"#)).collect();
    let ids = send_all(&world, "a/b", &data.iter().map(String::as_str).collect::<Vec<_>>());
    for id in ids {
        assert_eq!(world.block_on(world.ended(id)).state, RunState::Completed);
    }
    assert_eq!(world.oldest_first().len(), 41, "each key of its own, and the common one once");
}
