//! Another config in force while runs are at work: what is in memory of it is what the new one says, and no run is lost.

use stepwell::base::{EventId, Json, Span};
use stepwell::exec::{ReloadError, Reloaded};
use stepwell::project::{Loader, Mode};
use stepwell::rules::{RunRow, RunState};
use stepwell::script::Host;
use stepwell::store::{RunQuery, Store};

use super::{World, event};

const WAITS: &str = r#"wait_for_signal("go"); event.data.n"#;
pub(super) const EVENTS: &str = "events: { a/b: {}, stop/it: {} }\n";

fn yaml(function: &str) -> String {
    format!("version: 1\n{EVENTS}functions: {{ f: {{ on: a/b, {function} }} }}\n")
}

/// An engine on a clock that jumps over no wait.
pub(super) fn world(function: &str, handler: &str) -> World {
    World::new(yaml(function).trim_start_matches("version: 1\n"), &[("f", handler)]).slowed()
}

impl World {
    pub(super) fn loader(&self) -> Loader {
        Loader::new(self.folder.path().join("events.yaml"), Host::new(), |_| None, Mode::Try)
    }

    pub(super) fn try_reload(&self) -> Result<Reloaded, ReloadError> {
        self.block_on(self.engine.reload(&self.loader()))
    }

    /// Writes the config with another function, and reloads it.
    #[track_caller]
    pub(super) fn reload(&self, function: &str) -> Reloaded {
        self.reload_whole(&yaml(function))
    }

    #[track_caller]
    pub(super) fn reload_whole(&self, text: &str) -> Reloaded {
        std::fs::write(self.folder.path().join("events.yaml"), text).unwrap();
        self.try_reload().unwrap_or_else(|error| match error {
            ReloadError::Broken(problems) => panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            error => panic!("{error}"),
        })
    }

    pub(super) fn handler(&self, text: &str) {
        std::fs::write(self.folder.path().join("handlers/f.rhai"), text).unwrap();
    }

    pub(super) fn numbered(&self, numbers: std::ops::Range<i64>) -> Vec<EventId> {
        numbers.map(|n| self.block_on(self.send("a/b", &format!(r#"{{"n":{n},"k":{}}}"#, n % 2))).unwrap()).collect()
    }

    pub(super) fn come_to(&self, events: &[EventId], state: RunState) -> Vec<RunRow> {
        events.iter().map(|event| self.block_on(self.until(*event, &[state]))).collect()
    }

    fn in_state(&self, state: RunState) -> usize {
        self.store.runs(&RunQuery { states: vec![state], ..RunQuery::default() }).unwrap().len()
    }

    pub(super) fn run_of(&self, event: EventId) -> RunRow {
        self.store.runs(&RunQuery { event: Some(event), ..RunQuery::default() }).unwrap().remove(0)
    }

    pub(super) fn go(&self) {
        self.block_on(self.engine.signal("go", Json::from("1"))).unwrap();
    }

    /// Lets runs go on until all of these have ended.
    fn until_all_ended(&self, events: &[EventId]) {
        for event in events {
            self.block_on(self.until(*event, &[RunState::Waiting, RunState::Completed]));
            self.go();
            let run = self.block_on(self.ended(*event));
            assert_eq!(run.state, RunState::Completed, "{run:?}");
        }
    }
}

#[test]
fn a_limit_that_is_raised_lets_waiting_runs_in_and_one_that_is_lowered_holds_them_back() {
    let world = world("concurrency: 1", WAITS);
    let events = world.numbered(0..6);
    world.come_to(&events[..1], RunState::Waiting);
    assert_eq!(world.in_state(RunState::Queued), 5);
    let told = world.reload("concurrency: 4");
    assert_eq!(told.difference.changes[0].to_string(), "function `f`: concurrency.limit 1 → 4");
    world.come_to(&events[..4], RunState::Waiting);
    assert_eq!(world.in_state(RunState::Queued), 2);
    world.reload("concurrency: 2");
    // Three of the four have to end before the next one begins.
    world.block_on(world.engine.cancel(world.run_of(events[0]).id, "")).unwrap();
    world.block_on(world.engine.cancel(world.run_of(events[1]).id, "")).unwrap();
    assert_eq!(world.run_of(events[4]).state, RunState::Queued);
    let why = world.block_on(world.engine.why(&world.run_of(events[4]))).unwrap();
    assert!(why.contains("f allows 2 runs at a time"), "{why}");
    let world = world.killed().slowed();
    world.until_all_ended(&events[2..]);
}

#[test]
fn a_limit_that_is_taken_away_lets_all_in_and_one_that_is_new_counts_those_at_work() {
    let world = world("concurrency: 1", WAITS);
    let first = world.numbered(0..3);
    world.come_to(&first[..1], RunState::Waiting);
    world.reload("retries: 1");
    world.come_to(&first, RunState::Waiting);
    world.reload("concurrency: { limit: 3, key: event.data.n }");
    // Runs in flight keep the key that they were stored with: these have none.
    let second = world.numbered(3..5);
    world.come_to(&second, RunState::Waiting);
    world.reload("concurrency: 3");
    let third = world.numbered(5..6);
    assert_eq!(world.run_of(third[0]).state, RunState::Queued);
    let why = world.block_on(world.engine.why(&world.run_of(third[0]))).unwrap();
    assert!(why.contains("f allows 3 runs at a time"), "{why}");
    world.until_all_ended(&[first, second, third].concat());
}

#[test]
fn a_slot_that_is_held_while_active_only_is_free_as_soon_as_the_config_says_so() {
    let world = world("concurrency: 1", WAITS);
    let events = world.numbered(0..2);
    world.come_to(&events[..1], RunState::Waiting);
    world.reload("concurrency: { limit: 1, hold: active }");
    world.come_to(&events, RunState::Waiting);
    world.until_all_ended(&events);
}

#[test]
fn a_paused_function_keeps_its_runs_over_a_reload_and_lets_them_in_by_its_new_limit() {
    let world = world("concurrency: 1", WAITS);
    world.block_on(world.engine.pause("f", true)).unwrap();
    let events = world.numbered(0..3);
    world.reload("concurrency: 2");
    assert_eq!(world.in_state(RunState::Queued), 3);
    world.block_on(world.engine.pause("f", false)).unwrap();
    world.come_to(&events[..2], RunState::Waiting);
    assert_eq!(world.in_state(RunState::Queued), 1);
    world.until_all_ended(&events);
}

#[test]
fn a_throttle_gives_starts_by_its_new_rule() {
    let world = world("throttle: { limit: 1, period: 10h }", "event.data.n");
    let events = world.numbered(0..3);
    world.come_to(&events[..1], RunState::Completed);
    assert_eq!(world.in_state(RunState::Queued), 2);
    world.reload("throttle: { limit: 1, period: 1s }");
    world.come_to(&events, RunState::Completed);
    let world = world.killed().slowed();
    let more = world.numbered(3..4);
    world.come_to(&more, RunState::Completed);
    world.reload("throttle: { limit: 1, period: 10h }");
    let more = world.numbered(4..6);
    assert_eq!(world.in_state(RunState::Queued), 2);
    world.reload("retries: 0");
    world.come_to(&more, RunState::Completed);
}

#[test]
fn a_rate_limit_counts_what_it_has_let_through_by_its_new_rule() {
    let world = world("rate_limit: { limit: 2, period: 1h }", "1");
    world.numbered(0..3);
    let runs = |world: &World| world.store.runs(&RunQuery::default()).unwrap().len();
    assert_eq!(runs(&world), 2);
    world.reload("rate_limit: { limit: 3, period: 1h }");
    world.numbered(3..5);
    assert_eq!(runs(&world), 3);
    world.reload("rate_limit: { limit: 1, period: 1ms }");
    world.block_on(world.engine.clock().sleep_until(world.engine.clock().now().after(Span(5)), false));
    world.numbered(5..6);
    assert_eq!(runs(&world), 4);
    world.reload("retries: 0");
    world.numbered(6..9);
    assert_eq!(runs(&world), 7);
}

#[test]
fn time_outs_of_runs_in_flight_are_the_new_ones() {
    let world = world("concurrency: 1, timeouts: { start: 10h, finish: 10h }", WAITS);
    let events = world.numbered(0..2);
    world.come_to(&events[..1], RunState::Waiting);
    world.reload("concurrency: 1, timeouts: { start: 1ms }");
    let late = world.block_on(world.ended(events[1]));
    assert!(late.reason.as_deref().is_some_and(|reason| reason.starts_with("timeouts.start")), "{late:?}");
    world.reload("concurrency: 1, timeouts: { start: 1s, finish: 1ms }");
    let long = world.block_on(world.ended(events[0]));
    assert!(long.reason.as_deref().is_some_and(|reason| reason.starts_with("timeouts.finish")), "{long:?}");
}

#[test]
fn a_time_out_that_is_taken_away_does_not_come() {
    let world = World::new(yaml("timeouts: { finish: 1h }").trim_start_matches("version: 1\n"), &[("f", r#"sleep("long", "3h"); 1"#)]);
    let events = {
        // Time does not jump meanwhile.
        let _busy = world.engine.busy();
        let events = world.numbered(0..1);
        world.come_to(&events, RunState::Sleeping);
        world.reload("retries: 2");
        events
    };
    assert_eq!(world.block_on(world.ended(events[0])).state, RunState::Completed);
}

#[test]
fn a_parked_run_outlives_its_time_and_is_ended_by_it_when_it_goes_on() {
    let handler = r#"step("one", || 1); wait_for_signal("go"); step("two", || 2)"#;
    let other = "g: { on: stop/it }";
    let with = |finish: &str| format!("version: 1\n{EVENTS}functions: {{ f: {{ on: a/b, timeouts: {{ finish: {finish} }} }}, {other} }}\n");
    let world = World::new(with("1h").trim_start_matches("version: 1\n"), &[("f", handler), ("g", r#"sleep("long", "2h"); 1"#)]);
    let (events, parked) = {
        // Time does not jump meanwhile.
        let _busy = world.engine.busy();
        let events = world.numbered(0..2);
        world.come_to(&events, RunState::Waiting);
        world.reload_whole(&format!("version: 1\n{EVENTS}functions: {{ {other} }}\n"));
        world.go();
        let parked = world.come_to(&events, RunState::Parked);
        (events, parked)
    };
    let long = world.block_on(world.send("stop/it", "{}")).unwrap();
    assert_eq!(world.block_on(world.ended(long)).state, RunState::Completed);
    assert_eq!(world.in_state(RunState::Parked), 2, "two hours later");
    world.reload_whole(&with("1h"));
    world.block_on(world.engine.retry_now(parked[0].id)).unwrap();
    let late = world.block_on(world.until(events[0], &[RunState::Cancelled, RunState::Completed]));
    assert!(late.reason.as_deref().is_some_and(|reason| reason.starts_with("timeouts.finish")), "{late:?}");
    let keys: Vec<String> = world.store.journal(late.id).unwrap().records.iter().map(|record| record.key.to_string()).collect();
    assert_eq!(keys, ["one"], "it has done nothing more");
    world.reload_whole(&with("10h"));
    world.block_on(world.engine.retry_now(parked[1].id)).unwrap();
    let done = world.block_on(world.until(events[1], &[RunState::Cancelled, RunState::Completed]));
    assert_eq!((done.state, done.output.as_deref()), (RunState::Completed, Some("2")));
}

#[test]
fn what_cancels_runs_in_flight_is_what_the_config_says_now() {
    let world = world("cancel_on: [{ event: stop/it, if: async.data.n == event.data.n }]", WAITS);
    let events = world.numbered(0..3);
    world.come_to(&events, RunState::Waiting);
    world.reload("retries: 2");
    world.block_on(world.send("stop/it", r#"{"n":0}"#)).unwrap();
    assert_eq!(world.run_of(events[0]).state, RunState::Waiting);
    world.reload("cancel_on: [{ event: stop/it, if: async.data.m == event.data.n }]");
    world.block_on(world.send("stop/it", r#"{"n":0,"m":1}"#)).unwrap();
    assert_eq!(world.block_on(world.ended(events[1])).state, RunState::Cancelled);
    assert_eq!(world.run_of(events[0]).state, RunState::Waiting);
    world.until_all_ended(&[events[0], events[2]]);
}

#[test]
fn events_that_were_collected_are_not_lost_when_a_function_collects_otherwise() {
    let batch = "batch: { size: 3, timeout: 2s, key: event.data.k }";
    let world = world(batch, "events.map(|one| one.data.n)");
    let first = world.numbered(0..3);
    // 0 and 2 are together, and 1 is alone; from now on nothing joins them.
    world.reload("debounce: { period: 1ms, key: event.data.k }");
    let second = world.numbered(3..4);
    assert_eq!(world.block_on(world.ended(second[0])).output.as_deref(), Some("[3]"));
    assert_eq!(world.block_on(world.ended(first[1])).output.as_deref(), Some("[1]"));
    assert_eq!(world.block_on(world.ended(first[0])).output.as_deref(), Some("[0,2]"));
    world.reload(batch);
    let third = world.numbered(4..5);
    world.reload("retries: 0");
    let fourth = world.numbered(6..7);
    assert_eq!(world.block_on(world.ended(fourth[0])).output.as_deref(), Some("[6]"));
    assert_eq!(world.block_on(world.ended(third[0])).output.as_deref(), Some("[4]"));
}

#[test]
fn a_batch_is_full_by_its_new_size() {
    let world = world("batch: { size: 9, timeout: 10h }", "events.map(|one| one.data.n)");
    let events = world.numbered(0..2);
    world.reload("batch: { size: 3, timeout: 10h }");
    world.numbered(2..3);
    assert_eq!(world.block_on(world.ended(events[0])).output.as_deref(), Some("[0,1,2]"));
}

#[test]
fn crons_go_by_the_new_schedule() {
    let text = |crons: &str| format!("version: 1\n{EVENTS}functions: {{ {crons} }}\n");
    let world = World::new(text("f: { on: a/b }").trim_start_matches("version: 1\n"), &[("f", "1"), ("g", "1")]).slowed();
    let positions = |world: &World| -> Vec<(String, String)> {
        world
            .store
            .crons()
            .unwrap()
            .into_iter()
            .map(|row| (row.function.to_string(), row.due.unwrap().rfc3339()[11..16].to_owned()))
            .collect()
    };
    let told = world.reload_whole(&text("f: { on: a/b }, g: { cron: \"30 4 * * *\" }"));
    assert_eq!(told.difference.changes[0].to_string(), "function `g` is new: cron 30 4 * * *");
    assert_eq!(positions(&world), [("g".into(), "04:30".into())]);
    world.reload_whole(&text("f: { cron: \"15 5 * * *\" }, g: { cron: \"45 6 * * *\" }"));
    assert_eq!(positions(&world), [("f".into(), "05:15".into()), ("g".into(), "06:45".into())]);
    world.reload_whole(&text("f: { on: a/b }, g: { cron: \"45 6 * * *\" }"));
    assert_eq!(positions(&world), [("g".into(), "06:45".into())]);
    // One that is due soon starts, which the engine did not know of when it was started.
    let soon = world.engine.clock().now().after(Span::seconds(60)).rfc3339();
    world.reload_whole(&text("f: { on: a/b }, g: { cron: \"* * * * *\" }"));
    let due = world.store.crons().unwrap()[0].due.unwrap().rfc3339();
    assert!(due[..16] <= soon[..16], "{due} is no later than a minute from now, {soon}");
}

#[test]
fn a_schedule_goes_on_whatever_becomes_of_those_beside_it() {
    let text = |crons: &str| format!("version: 1\n{EVENTS}functions: {{ f: {{ on: a/b }}, g: {{ cron: {crons} }} }}\n");
    let yaml = format!("{EVENTS}functions: {{ f: {{ on: a/b }} }}\n");
    let world = World::new(&yaml, &[("f", "1"), ("g", "1")]).slowed();
    let told = world.reload_whole(&text(r#"[{ schedule: "30 4 * * *", jitter: 1h }, "45 6 * * *"]"#));
    assert_eq!(told.difference.changes[0].to_string(), "function `g` is new: cron 30 4 * * *, cron 45 6 * * *");
    let rows = |world: &World| world.store.crons().unwrap();
    let [first, second] = &rows(&world)[..] else { panic!("{:?}", rows(&world)) };
    // In another order, with one more: what was there has neither begun anew nor drawn its delay again.
    world.reload_whole(&text(r#"["45 6 * * *", "15 5 * * *", { schedule: "30 4 * * *", jitter: 1h }]"#));
    let [new, one, other] = &rows(&world)[..] else { panic!("{:?}", rows(&world)) };
    assert_eq!((one, other), (first, second));
    assert_eq!(&*new.schedule, "15 5 * * * UTC");
    // The shorter form with one of them. Another zone is another schedule.
    world.reload_whole(&text(r#""45 6 * * *""#));
    assert_eq!(rows(&world), std::slice::from_ref(second));
    world.reload_whole(&text(r#"["45 6 * * *", { schedule: "45 6 * * *", tz: Europe/Berlin }]"#));
    let [berlin, kept] = &rows(&world)[..] else { panic!("{:?}", rows(&world)) };
    assert_eq!((&*berlin.schedule, kept), ("45 6 * * * Europe/Berlin", second));
}

#[test]
fn a_script_for_failures_and_a_singleton_hold_from_now_on() {
    let world = world("retries: 0", r#"wait_for_signal("go"); fail("no")"#);
    let events = world.numbered(0..1);
    world.come_to(&events, RunState::Waiting);
    std::fs::write(world.folder.path().join("handlers/sorry.rhai"), "error.message").unwrap();
    world.reload("retries: 0, on_failure: handlers/sorry.rhai, singleton: {}");
    let held = world.numbered(1..3);
    world.come_to(&held[..1], RunState::Waiting);
    assert!(world.store.runs(&RunQuery { event: Some(held[1]), ..RunQuery::default() }).unwrap().is_empty(), "the singleton skips it");
    world.go();
    assert_eq!(world.block_on(world.ended(events[0])).state, RunState::Failed);
    let failed = RunQuery { function: Some(stepwell::rules::ended::on_failure_of("f").into()), ..RunQuery::default() };
    let told = world.store.runs(&failed).unwrap();
    assert!(!told.is_empty(), "the run that began before has its failure told");
    assert_eq!(world.block_on(world.ended(told[0].event)).output.as_deref(), Some("\"no\""));
}

#[test]
fn runs_go_on_with_a_handler_that_was_mended_and_on_the_old_one_where_it_does_not_fit() {
    let world = world("retries: { attempts: 3, backoff: fixed, initial: 10h }", r#"step("one", || 1); throw "a bug""#);
    let events = world.numbered(0..1);
    world.come_to(&events, RunState::BackingOff);
    world.handler(r#"step("one", || 1) + 1"#);
    let told = world.try_reload().unwrap();
    assert!(told.difference.changes[0].to_string().starts_with("function `f`: another handler ("), "{told:?}");
    world.block_on(world.engine.retry_now(world.run_of(events[0]).id)).unwrap();
    assert_eq!(world.block_on(world.ended(events[0])).output.as_deref(), Some("2"));
    world.handler(r#"let a = step("one", || 1); wait_for_signal("go"); a"#);
    world.try_reload().unwrap();
    let events = world.numbered(1..2);
    world.come_to(&events, RunState::Waiting);
    world.handler(r#"step("two", || 2); wait_for_signal("go")"#);
    world.try_reload().unwrap();
    let world = world.killed().slowed();
    world.go();
    assert_eq!(world.block_on(world.ended(events[0])).output.as_deref(), Some("1"));
}

#[test]
fn a_broken_config_changes_nothing_and_is_told_of_until_it_is_mended() {
    let world = world("concurrency: 1", WAITS);
    let events = world.numbered(0..2);
    world.come_to(&events[..1], RunState::Waiting);
    let hash = world.engine.project().hash.clone();
    for (file, text, code) in [
        ("events.yaml", "version: 1\nevents: { a/b: {} }\nfunctions: { f: { on: a/b, concurency: 9 } }\n", "E0102"),
        ("handlers/f.rhai", "setp(\"x\", || 1)", "E0304"),
    ] {
        let good = std::fs::read_to_string(world.folder.path().join(file)).unwrap();
        std::fs::write(world.folder.path().join(file), text).unwrap();
        let Err(ReloadError::Broken(problems)) = world.try_reload() else { panic!("{text} is broken") };
        assert_eq!(problems[0].code, code, "{problems:?}");
        assert_eq!(world.engine.project().hash, hash);
        let health = world.engine.health();
        assert!(!health.ok && health.reasons[0].contains(code) && health.reasons[0].contains(file), "{health:?}");
        assert_eq!(world.in_state(RunState::Queued), 1);
        std::fs::write(world.folder.path().join(file), good).unwrap();
    }
    let told = world.try_reload().unwrap();
    assert!(told.difference.is_empty() && world.engine.health().ok, "{told:?}");
    world.until_all_ended(&events);
}

#[test]
fn a_function_that_is_gone_parks_its_runs_and_takes_them_up_when_it_is_back() {
    let world = world("concurrency: 1", WAITS);
    let events = world.numbered(0..3);
    world.come_to(&events[..1], RunState::Waiting);
    let told = world.reload_whole(&format!("version: 1\n{EVENTS}"));
    assert_eq!(told.difference.changes[0].to_string(), "function `f` is gone");
    let parked = world.come_to(&events[1..], RunState::Parked);
    assert!(parked[0].reason.as_deref().unwrap().starts_with("function gone"), "{parked:?}");
    assert!(world.block_on(world.engine.accept(vec![event("a/b", "{}")])).is_ok());
    // The one that waits goes on as if nothing had been.
    world.reload("concurrency: 1");
    world.go();
    assert_eq!(world.block_on(world.ended(events[0])).state, RunState::Completed);
    for event in &events[1..] {
        world.block_on(world.engine.retry_now(world.run_of(*event).id)).unwrap();
    }
    world.until_all_ended(&events[1..]);
}

#[test]
fn a_paused_function_that_is_gone_parks_its_runs_as_others_do() {
    let world = world("concurrency: { limit: 1 }", WAITS);
    world.block_on(world.engine.pause("f", true)).unwrap();
    let events = world.numbered(0..2);
    world.come_to(&events, RunState::Queued);
    world.reload_whole(&format!("version: 1\n{EVENTS}functions: {{ g: {{ on: stop/it, handler: handlers/f.rhai }} }}\n"));
    for run in world.come_to(&events, RunState::Parked) {
        assert!(run.reason.as_deref().is_some_and(|reason| reason.starts_with("function gone")), "{:?}", run.reason);
    }
}

#[test]
fn what_a_reload_cannot_change_is_told_again_and_again() {
    let world = world("retries: 1", "1");
    let text = format!("{}engine: {{ listen: 127.0.0.1:1, durability: normal }}\n", yaml("retries: 1"));
    for _ in 0..2 {
        let told = world.reload_whole(&text).difference;
        let told: Vec<String> = told.changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "setting `engine.listen`: 127.0.0.1:8288 → 127.0.0.1:1 (in force after a restart only)",
                "setting `engine.durability`: full → normal (in force after a restart only)",
            ]
        );
    }
}

/// Reloads while events come in; so many of ten are broken.
const RELOADS: usize = 500;

#[test]
fn five_hundred_reloads_under_load_lose_no_run() {
    let config = |limit: usize, handler: usize| {
        format!("{EVENTS}functions: {{ f: {{ on: a/b, concurrency: {limit}, handler: handlers/h{handler}.rhai, retries: 0 }} }}\n")
    };
    let handler =
        |number: usize| format!("let a = step(\"one\", || event.data.n);\nsleep(\"nap\", \"5ms\");\nstep(\"two\", || a) // {number}\n");
    let handlers = [handler(0), handler(1), handler(2)];
    let named = [("h0", &*handlers[0]), ("h1", &*handlers[1]), ("h2", &*handlers[2]), ("f", "1")];
    let world = World::new(&config(4, 0), &named).slowed();
    let path = world.folder.path().join("events.yaml");
    let mut events = Vec::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut good, mut broken) = (0, 0);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut events = Vec::new();
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let data: Vec<String> = (0..4).map(|at| format!(r#"{{"n":{}}}"#, n + at)).collect();
                n += 4;
                events.extend(super::send_all(&world, "a/b", &data.iter().map(String::as_str).collect::<Vec<_>>()));
                // No more than the runs keep up with.
                world.block_on(world.ended(events[events.len() - 1]));
            }
            events
        });
        let loader = world.loader();
        for number in 0..RELOADS {
            let text = match number % 5 {
                1 => "version: 1\nfunctions: { f: { on: nowhere/declared } }\n".to_owned(),
                3 => format!("version: 1\n{}", config(4, 7)),
                _ => format!("version: 1\n{}", config(1 + number % 7, number % 3)),
            };
            std::fs::write(&path, text).unwrap();
            match world.block_on(world.engine.reload(&loader)) {
                Ok(_) => good += 1,
                Err(ReloadError::Broken(_)) => broken += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        events = sender.join().unwrap();
    });
    assert_eq!((good, broken), (RELOADS * 3 / 5, RELOADS * 2 / 5));
    for (n, event) in events.iter().enumerate() {
        let run = world.block_on(world.ended(*event));
        assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some(&*n.to_string())), "{run:?}");
    }
    assert_eq!(world.store.runs(&RunQuery::default()).unwrap().len(), events.len());
}
