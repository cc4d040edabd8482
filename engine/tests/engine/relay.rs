//! Runs that go one after another in one slot: whoever comes next is lent to a worker, and taken back where something else happens.

use serde_json::json;

use super::*;

/// A function whose runs note in which order they come. The first one waits until it is let go, at work all the while.
const LINE: &str = "events: { a/b: {}, x/y: {} }
functions:
  f: { on: a/b, concurrency: { limit: 1 }, priority: event.data.p }
  go: { on: x/y }
";
const NOTES: &str = r#"if event.data.n == 0 { step("wait", || { while kv::get("go", 0) == 0 { } 1 }) }
    step("computes", || 2);
    step("notes", || kv::update("order", |order| if order == () { [event.data.n] } else { order + [event.data.n] }));
    event.data.n"#;
const GO: &str = r#"step("go", || kv::set("go", 1))"#;

fn line() -> World {
    World::new(LINE, &[("f", NOTES), ("go", GO)])
}

fn data(n: i64, p: i64) -> String {
    json!({ "n": n, "p": p }).to_string()
}

/// The first run is at work, and so many stand in line behind it.
async fn fill(world: &World, behind: i64) -> Vec<EventId> {
    let first = world.send("a/b", &data(0, 0)).await.unwrap();
    world.until(first, &[RunState::Running]).await;
    let mut ids = vec![first];
    for n in 1..=behind {
        ids.push(world.send("a/b", &data(n, 0)).await.unwrap());
    }
    ids
}

/// Waits until so many stand in line, those included that are lent.
async fn queued(world: &World, count: usize) {
    while world.engine.counts().queued != count {
        tokio::task::yield_now().await;
    }
}

fn order(world: &World) -> Vec<i64> {
    let value = world.store.value("order").unwrap().map_or_else(|| "[]".into(), |row| row.value);
    serde_json::from_str(&value).unwrap()
}

#[test]
fn a_long_line_of_one_key_goes_in_order_one_at_a_time() {
    let world = line();
    world.block_on(async {
        let ids = fill(&world, 400).await;
        world.send("x/y", "{}").await.unwrap();
        let mut before = Millis(0);
        for id in &ids {
            let run = world.ended(*id).await;
            assert_eq!(run.state, RunState::Completed, "{run:?}");
            assert!(run.started.unwrap() >= before, "it began before the one in front had ended");
            before = run.ended.unwrap();
        }
        assert_eq!(order(&world), (0..=400).collect::<Vec<_>>());
        queued(&world, 0).await;
    });
}

#[test]
fn whoever_is_lent_can_be_cancelled_and_passed_by_one_with_a_head_start() {
    let world = line();
    world.block_on(async {
        let ids = fill(&world, 60).await;
        for n in [1, 7, 60] {
            let run = world.until(ids[n], &[RunState::Queued]).await;
            assert!(world.engine.why(&run).await.is_some(), "it stands in line");
            world.engine.cancel(run.id, "not needed").await.unwrap();
        }
        let first = world.send("a/b", &data(100, 600)).await.unwrap();
        queued(&world, 58).await;
        world.send("x/y", "{}").await.unwrap();
        world.ended(first).await;
        for (n, id) in ids.iter().enumerate() {
            let state = if [1, 7, 60].contains(&n) { RunState::Cancelled } else { RunState::Completed };
            assert_eq!(world.ended(*id).await.state, state, "{n}");
        }
        let others = (2..60).filter(|n| *n != 7);
        assert_eq!(order(&world), [0, 100].into_iter().chain(others).collect::<Vec<_>>());
    });
}

#[test]
fn a_pause_holds_those_that_are_lent_and_a_kill_loses_none() {
    let world = line();
    let ids = world.block_on(fill(&world, 40));
    world.block_on(async {
        world.engine.pause("f", true).await.unwrap();
        world.send("x/y", "{}").await.unwrap();
        assert_eq!(world.ended(ids[0]).await.state, RunState::Completed, "what has begun goes on");
        queued(&world, 40).await;
    });
    let world = world.killed();
    world.block_on(async {
        let queued = world.until(ids[1], &[RunState::Queued]).await;
        assert!(world.engine.why(&queued).await.unwrap().starts_with("paused"));
        world.engine.pause("f", false).await.unwrap();
        for id in &ids {
            assert_eq!(world.ended(*id).await.state, RunState::Completed);
        }
        assert_eq!(order(&world), (0..=40).collect::<Vec<_>>());
    });
}

#[test]
fn a_run_that_goes_to_sleep_or_fails_in_the_middle_of_a_line_keeps_or_frees_its_slot() {
    let script = r#"if event.data.n == 3 { sleep("1h") }
        if event.data.n == 5 { fail("no") }
        step("notes", || kv::update("order", |order| if order == () { [event.data.n] } else { order + [event.data.n] }));"#;
    for (hold, expected) in [("run", [0, 1, 2, 3, 4, 6, 7]), ("active", [0, 1, 2, 4, 6, 7, 3])] {
        let yaml = format!("events: {{ a/b: {{}} }}\nfunctions: {{ f: {{ on: a/b, concurrency: {{ limit: 1, hold: {hold} }} }} }}\n");
        let world = World::new(&yaml, &[("f", script)]);
        let events = (0..8).map(|n| event("a/b", &data(n, 0))).collect();
        world.block_on(async {
            for id in world.engine.accept(events).await.unwrap() {
                world.ended(id).await;
            }
        });
        assert_eq!(order(&world), expected, "hold: {hold}");
    }
}

#[test]
fn that_a_run_is_under_way_is_told_before_that_it_has_ended() {
    let world = line();
    world.block_on(async {
        let mut notices = world.engine.subscribe();
        let ids = fill(&world, 60).await;
        world.send("x/y", "{}").await.unwrap();
        for id in &ids {
            world.ended(*id).await;
        }
        let (mut begun, mut ended) = (std::collections::BTreeSet::new(), 0);
        while ended < ids.len() {
            let Notice::Run { run, function, state, .. } = notices.recv().await.unwrap() else { continue };
            if *function != *"f" {
                continue;
            }
            match state {
                RunState::Running => assert!(begun.insert(run), "{run} begins twice"),
                state => assert!(state == RunState::Queued || begun.contains(&run), "{run} is {state:?} before it runs"),
            }
            ended += usize::from(state == RunState::Completed);
        }
    });
}

#[test]
fn a_circle_of_runs_is_found_where_one_of_them_was_lent() {
    let yaml = "events: { a/b: {}, x/y: {}, go/go: {} }
functions:
  f: { on: a/b, concurrency: { limit: 1 } }
  g: { on: x/y, concurrency: { limit: 1 } }
  go: { on: go/go }
";
    let f = r#"if event.data.n == 0 { step("wait", || { while kv::get("go", 0) == 0 { } 1 }) }
        if event.data.n == 1 { invoke("g", #{ n: 9 }) }
        event.data.n"#;
    let g = r#"if event.data.n == 1 { invoke("f", #{ n: 9 }) } event.data.n"#;
    let world = World::new(yaml, &[("f", f), ("g", g), ("go", GO)]);
    world.block_on(async {
        let first = world.send("a/b", &data(0, 0)).await.unwrap();
        world.until(first, &[RunState::Running]).await;
        let one = world.send("a/b", &data(1, 0)).await.unwrap();
        // It has the slot of `g`, and waits for a run that stands in line behind `one`, and is lent when that begins.
        let other = world.send("x/y", &data(1, 0)).await.unwrap();
        world.until(other, &[RunState::Waiting]).await;
        world.send("go/go", "{}").await.unwrap();
        let states = [world.ended(one).await.state, world.ended(other).await.state];
        assert!(states.contains(&RunState::Completed) && states.contains(&RunState::Failed), "{states:?}");
    });
}

#[test]
fn replays_that_go_one_after_another_keep_what_they_have() {
    let script = r#"let kept = step("counts", || kv::incr("counted", 1)); step("waits", || { if event.data.n == 9 { while kv::get("go", 0) == 0 { } } 1 }); kept"#;
    let world = World::new(LINE, &[("f", script), ("go", GO)]);
    world.block_on(async {
        let keep = stepwell::rules::replay::Keep { from: Some("waits".into()), set: Vec::new() };
        let mut old = Vec::new();
        for n in 1..=4 {
            let id = world.send("a/b", &data(n, 0)).await.unwrap();
            old.push(world.ended(id).await);
        }
        let first = world.send("a/b", &data(9, 0)).await.unwrap();
        world.until(first, &[RunState::Running]).await;
        let mut new = Vec::new();
        for run in &old {
            new.push(world.engine.replay(run.id, &keep, false).await.unwrap().run.id);
        }
        world.send("x/y", "{}").await.unwrap();
        world.ended(first).await;
        for (run, old) in new.iter().zip(&old) {
            let mut notices = world.engine.subscribe();
            while !world.store.run(*run).unwrap().unwrap().state.is_terminal() {
                // Some may be missed: what counts is stored.
                let _ = notices.recv().await;
            }
            assert_eq!(world.store.run(*run).unwrap().unwrap().output, old.output, "what it keeps is not done again");
        }
        assert_eq!(&*world.store.value("counted").unwrap().unwrap().value, "5");
    });
}
