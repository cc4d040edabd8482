//! Runs that wait for runs in line behind them: a deadlock is broken at one run, and what looks like one is left alone.

use std::sync::Arc;

use stepwell::base::{Clock as _, EventId, Span};
use stepwell::clock::{SystemClock, VirtualClock};
use stepwell::rules::{RunRow, RunState};

use super::{World, start_at};

const EVENTS: &str = "events: { a/b: {}, x/y: {}, x/z: {} }\n";
/// Invokes itself once, or waits for an event, or is done.
const DEEP: &str = r#"
    if event.data.how == "deep" {
        let got = ();
        try { got = invoke("f", #{ how: "flat" }); } catch (e) { got = `${e.code} ${e.message}`; }
        return got;
    }
    if event.data.how == "waits" { wait_for_event("x/y"); }
    "through"
"#;
const WAITING: &[RunState] = &[RunState::Waiting];

fn world(functions: &str, handlers: &[(&str, &str)]) -> World {
    World::new(&format!("{EVENTS}functions: {{ {functions} }}\n"), handlers)
}

impl World {
    /// The same world on a clock that stands still.
    pub(super) fn stilled(self) -> World {
        self.block_on(self.engine.drain());
        let World { folder, engine, store } = self;
        drop(engine);
        store.close().unwrap();
        let (engine, store) = start_at(folder.path(), Arc::new(VirtualClock::still(SystemClock::default().now())));
        World { folder, engine, store }
    }

    /// Sends events together, so that their runs begin together.
    fn send_hows(&self, hows: &[&str]) -> Vec<EventId> {
        let events = hows.iter().map(|how| super::event("a/b", &format!(r#"{{"how":"{how}"}}"#))).collect();
        self.block_on(self.engine.accept(events)).unwrap()
    }

    fn outputs(&self, events: &[EventId]) -> Vec<String> {
        let output = |event: &EventId| {
            let run = self.block_on(self.ended(*event));
            assert_eq!(run.state, RunState::Completed, "{run:?}");
            run.output.unwrap().to_string()
        };
        events.iter().map(output).collect()
    }

    fn cancelled(&self) -> Vec<RunRow> {
        self.runs_of("f").into_iter().filter(|run| run.state == RunState::Cancelled).collect()
    }
}

/// One of two parents was told, and the youngest child is the one that was cancelled.
fn check_one_is_told(world: &World, outputs: &mut [String]) {
    outputs.sort();
    let told = r#""E0424 deadlock: f allows 2 runs at a time, and all that have a slot wait for runs that wait for one; run "#;
    assert!(outputs[0].starts_with(told) && outputs[1..].iter().all(|output| output == r#""through""#), "{outputs:?}");
    let cancelled = world.cancelled();
    let children = world.runs_of("f").into_iter().filter(|run| run.invoked_by.is_some());
    assert_eq!(cancelled.iter().map(|run| Some(run.id)).collect::<Vec<_>>(), [children.map(|run| run.id).max()]);
    let reason = cancelled[0].reason.clone().unwrap();
    assert!(reason.starts_with("deadlock: f allows 2 runs") && reason.contains("`hold: active`"), "{reason}");
    world.nothing_waits();
}

#[test]
fn runs_that_wait_for_runs_behind_each_other_are_told_so() {
    let world = world("f: { on: a/b, concurrency: { limit: 2, hold: run } }", &[("f", DEEP)]);
    let events = world.send_hows(&["deep", "deep"]);
    check_one_is_told(&world, &mut world.outputs(&events));
    assert_eq!(world.runs_of("f").len(), 4);
}

#[test]
fn a_deadlock_is_found_after_a_restart_too() {
    let world = world("f: { on: a/b, concurrency: { limit: 2, hold: run } }", &[("f", DEEP)]).stilled();
    let events = world.send_hows(&["deep", "deep"]);
    events.iter().for_each(|event| drop(world.block_on(world.until(*event, WAITING))));
    assert_eq!(world.cancelled(), [], "no time has gone by");
    let (queued, others): (Vec<_>, Vec<_>) = world.runs_of("f").into_iter().partition(|run| run.state == RunState::Queued);
    assert_eq!((queued.len(), others.len()), (2, 2));
    let is_said = |why: &str, holder: &RunRow| {
        let child = queued.iter().find(|child| child.invoked_by == Some(holder.id)).unwrap();
        why.ends_with(&format!("f allows 2 runs at a time; run {} has one, and waits for run {}", holder.id, child.id))
    };
    // The scheduler hears of a standstill only once it is stored.
    loop {
        let why = world.block_on(world.engine.why(&queued[0])).unwrap();
        if others.iter().any(|holder| is_said(&why, holder)) {
            break;
        }
        assert!(why.contains("f allows 2 runs at a time; run "), "{why}");
    }
    let world = world.restart();
    check_one_is_told(&world, &mut world.outputs(&events));
}

#[test]
fn a_holder_that_something_may_come_for_is_no_part_of_a_deadlock() {
    let world = world("f: { on: a/b, concurrency: { limit: 3, hold: run } }", &[("f", DEEP)]);
    // The one that waits for an event is not the last one that took a slot.
    let events = world.send_hows(&["waits", "deep", "deep"]);
    let late = world.engine.at(world.engine.clock().now().after(Span::seconds(3_600)));
    world.block_on(async {
        let busy = late.await.unwrap();
        assert_eq!(world.cancelled(), []);
        assert_eq!(world.runs_of("f").iter().filter(|run| run.state == RunState::Queued).count(), 2);
        world.send("x/y", "{}").await.unwrap();
        drop(busy);
    });
    assert_eq!(world.outputs(&events), [r#""through""#; 3]);
    assert_eq!(world.cancelled(), []);
}

#[test]
fn a_holder_whose_event_an_engine_left_in_the_store_is_no_part_of_a_deadlock() {
    let script = format!(
        r#"
        if event.data.how == "races" {{
            let won = race(#{{
                child: || invoke("f", #{{ how: "flat" }}),
                event: || wait_for_event("x/y", #{{ "if": "async.data.how == event.data.how" }}),
            }});
            return won.name;
        }}
        {DEEP}"#
    );
    let world = world("f: { on: a/b, concurrency: { limit: 2, hold: run } }", &[("f", &script)]).stilled();
    let events = world.send_hows(&["races", "deep"]);
    events.iter().for_each(|event| drop(world.block_on(world.until(*event, WAITING))));
    let world = world.restart();
    let late = world.engine.at(world.engine.clock().now().after(Span::seconds(3_600)));
    world.block_on(async {
        let busy = late.await.unwrap();
        assert_eq!(world.cancelled(), []);
        assert_eq!(world.runs_of("f").iter().filter(|run| run.state == RunState::Queued).count(), 2);
        world.send("x/y", r#"{"how":"races"}"#).await.unwrap();
        drop(busy);
    });
    assert_eq!(world.outputs(&events), [r#""event""#, r#""through""#]);
}

#[test]
fn a_deadlock_takes_none_with_it_that_only_stands_behind_it() {
    let functions = "f: { on: a/b, concurrency: { limit: 2, hold: run } }, g: { on: x/z }";
    let world = world(functions, &[("f", DEEP), ("g", r#"invoke("f", #{ how: "flat" })"#)]).stilled();
    let events = world.send_hows(&["deep", "deep"]);
    events.iter().for_each(|event| drop(world.block_on(world.until(*event, WAITING))));
    let behind = world.block_on(world.send("x/z", "{}")).unwrap();
    world.block_on(world.until(behind, WAITING));
    let own = world.runs_of("g").remove(0).id;
    let world = world.restart();
    let mut outputs = world.outputs(&[events[0], events[1], behind]);
    assert_eq!(outputs.pop().as_deref(), Some(r#""through""#), "its child is the youngest, and is not the one that was cancelled");
    outputs.sort();
    assert!(outputs[0].starts_with(r#""E0424 "#) && outputs[1] == r#""through""#, "{outputs:?}");
    assert!(world.cancelled().iter().all(|run| run.invoked_by != Some(own)));
}

#[test]
fn deadlocks_of_two_limits_are_broken_each_for_itself() {
    let key = "concurrency: { limit: 1, key: event.data.k, hold: run }";
    let functions = format!("f: {{ on: a/b, {key} }}, g: {{ on: x/z, {key} }}");
    // Each holds a slot of its own function, and waits for a run behind the other function's.
    let script = |other: &str| {
        format!(
            r#"if event.data.flat == true {{ return "through"; }}
            let got = ();
            try {{ got = invoke("{other}", #{{ k: event.data.k, flat: true }}); }} catch (e) {{ got = e.code; }}
            got"#
        )
    };
    let (f, g) = (script("g"), script("f"));
    let world = world(&functions, &[("f", &f), ("g", &g)]).stilled();
    let mut events = Vec::new();
    for k in [1, 2] {
        let pair = ["a/b", "x/z"].map(|name| super::event(name, &format!(r#"{{"k":{k}}}"#)));
        events.extend(world.block_on(world.engine.accept(pair.into())).unwrap());
    }
    events.iter().for_each(|event| drop(world.block_on(world.until(*event, WAITING))));
    let world = world.restart();
    for pair in events.chunks(2) {
        let mut outputs = world.outputs(pair);
        outputs.sort();
        assert_eq!(outputs, [r#""E0424""#, r#""through""#]);
    }
    world.nothing_waits();
}

#[test]
fn runs_that_hold_their_slots_while_active_or_wait_for_so_long_alone_need_no_help() {
    let world = world("f: { on: a/b, concurrency: { limit: 2, hold: active } }", &[("f", DEEP)]);
    let events = world.send_hows(&["deep", "deep"]);
    assert_eq!(world.outputs(&events), [r#""through""#; 2]);
    assert_eq!(world.cancelled(), []);
    let timed = DEEP.replace(r#"#{ how: "flat" })"#, r#"#{ how: "flat" }, #{ timeout: "1h" })"#);
    let world = super::deadlock::world("f: { on: a/b, concurrency: { limit: 2, hold: run } }", &[("f", &timed)]);
    let events = world.send_hows(&["deep", "deep"]);
    let outputs = world.outputs(&events);
    assert!(outputs.iter().any(|output| output.starts_with(r#""E0425 "#)), "its own time-out ends the wait: {outputs:?}");
    assert!(!outputs.iter().any(|output| output.contains("deadlock")), "{outputs:?}");
}
