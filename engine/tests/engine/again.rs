//! Runs done again and tried again, over restarts and kills.

use stepwell::exec::{ReplayError, RetryError};
use stepwell::rules::replay::Keep;

use super::*;

const TWO_STEPS: &str = r#"step("one", || { log::info("one is done"); 1 }); step("two", || 2)"#;

impl World {
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn stored(&self, id: RunId) -> RunRow {
        self.store.run(id).unwrap().unwrap()
    }

    /// Waits until a run has ended.
    async fn end_of(&self, run: RunId) -> RunRow {
        let mut notices = self.engine.subscribe();
        while !self.stored(run).state.is_terminal() {
            while !matches!(notices.recv().await.unwrap(), Notice::Run { run: of, state, .. } if of == run && state.is_terminal()) {}
        }
        self.stored(run)
    }

    fn log(&self, run: RunId) -> Vec<String> {
        self.store.logs(run, 0, 0).unwrap().iter().map(|line| line.message.to_string()).collect()
    }
}

fn from(step: &str) -> Keep {
    Keep { from: Some(step.to_owned()), set: Vec::new() }
}

#[test]
fn a_replay_outlives_a_kill_with_all_that_it_keeps() {
    let world = World::new(ONE, &[("f", TWO_STEPS)]);
    let (old, new) = world.block_on(async {
        let old = world.send("a/b", "{}").await.unwrap();
        let old = world.ended(old).await;
        (old.id, world.engine.replay(old.id, &from("two"), false).await.unwrap().run.id)
    });
    assert_eq!(world.log(old), ["one is done"]);
    let world = world.killed();
    let run = world.block_on(world.end_of(new));
    assert_eq!((run.state, run.output.as_deref(), run.replay_of), (RunState::Completed, Some("2"), Some(old)));
    assert_eq!(world.log(new), Vec::<String>::new(), "what is kept is not done again");
    let records = world.store.journal(new).unwrap().records;
    assert_eq!(records.iter().map(|record| &*record.key).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_handler_that_does_not_ask_for_what_is_kept_is_refused_with_the_first_difference() {
    let world = World::new(ONE, &[("f", TWO_STEPS)]);
    let old = world.block_on(async {
        let old = world.send("a/b", "{}").await.unwrap();
        world.ended(old).await.id
    });
    let handlers = [
        (r#"step("uno", || 1); step("two", || 2)"#, "the journal has step `one` where the handler asks for step `uno`"),
        (r#"sleep("one", "1s"); step("two", || 2)"#, "the journal has step `one` where the handler asks for sleep `one`"),
        ("1", "the journal has step `one` where the handler asks for nothing more"),
        (r#"throw "no"; step("one", || 1)"#, "the journal has step `one` where the handler asks for an error"),
        (r#"parallel([|| step("one", || 1)])"#, "the journal has step `one` where the handler asks for"),
    ];
    let mut world = world;
    for (handler, difference) in handlers {
        world.write("handlers/f.rhai", handler);
        world = world.restart();
        let refused = world.block_on(world.engine.replay(old, &from("two"), false)).unwrap_err();
        let ReplayError::Unfit(why) = &refused else { panic!("{handler}: {refused:?}") };
        assert!(without_places(&why.to_string()).starts_with(difference), "{handler}: {why}");
        assert_eq!(world.store.runs(&RunQuery::default()).unwrap().len(), 1, "nothing is done");
    }
    // Another handler that asks for the same does, whatever comes after.
    world.write("handlers/f.rhai", r#"let a = step("one", || 7); step("three", || a + 1)"#);
    let world = world.restart();
    let checked = world.block_on(world.engine.replay(old, &from("two"), true)).unwrap();
    assert_eq!(checked.kept.iter().map(|key| &**key).collect::<Vec<_>>(), ["one"]);
    let run = world.block_on(async {
        let new = world.engine.replay(old, &from("two"), false).await.unwrap().run.id;
        world.end_of(new).await
    });
    assert_eq!(run.output.as_deref(), Some("2"), "the kept result counts, not what the step would give now");
}

#[test]
fn branches_are_kept_in_the_order_of_the_journal() {
    let script = r#"
        let both = parallel(#{
            a: || { step("x", || 1); step("y", || 2) },
            b: || { step("x", || 3); sleep("rest", "1h"); step("y", || 4) },
        });
        step("end", || { if event.data.stop == true { fail("stop") } both })
    "#;
    let world = World::new(ONE, &[("f", script)]);
    world.block_on(async {
        let event = world.send("a/b", r#"{"stop": true}"#).await.unwrap();
        let old = world.ended(event).await;
        let keys: Vec<String> = world.store.journal(old.id).unwrap().records.iter().map(|record| record.key.to_string()).collect();
        assert_eq!(keys.last().map(String::as_str), Some("end"));
        let new = world.engine.replay(old.id, &from("b › y"), false).await.unwrap();
        let before: Vec<&str> = keys.iter().map(String::as_str).take_while(|key| *key != "b › y").collect();
        assert_eq!(new.kept.iter().map(|key| &**key).collect::<Vec<_>>(), before);
        assert_eq!(world.end_of(new.run.id).await.state, RunState::Failed);
    });
}

#[test]
fn a_parked_run_is_tried_again_or_done_again_once_its_function_is_back() {
    let yaml = "version: 1\nevents: { a/b: {}, c/d: {} }\nfunctions: { f: { on: a/b }, g: { on: c/d } }\n";
    let script = r#"step("one", || { log::info("one is done"); 1 }); wait_for_signal("go"); step("two", || 2)"#;
    let world = World::new(yaml.split_once('\n').unwrap().1, &[("f", script), ("g", "1")]);
    let (first, second) = world.block_on(async {
        let (first, second) = (world.send("a/b", "{}").await.unwrap(), world.send("a/b", "{}").await.unwrap());
        (world.until(first, &[RunState::Waiting]).await.id, world.until(second, &[RunState::Waiting]).await.id)
    });
    world.write("events.yaml", "version: 1\nevents: { a/b: {}, c/d: {} }\nfunctions: { g: { on: c/d } }\n");
    let world = world.restart();
    world.block_on(async {
        assert_eq!(world.engine.signal("go", "null".into()).await.unwrap(), 2);
        for run in [first, second] {
            let row = world.until(world.stored(run).event, &[RunState::Parked]).await;
            assert!(world.engine.why(&row).await.unwrap().contains("function gone"));
        }
        let refused = world.engine.replay(first, &Keep::default(), false).await.unwrap_err();
        assert!(matches!(refused, ReplayError::FunctionGone(_)), "{refused:?}");
    });
    world.write("events.yaml", yaml);
    let world = world.restart();
    world.block_on(async {
        world.engine.retry_now(first).await.unwrap();
        let run = world.end_of(first).await;
        assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("2")));
        assert_eq!(world.engine.retry_now(first).await.unwrap_err(), RetryError::NothingToRetry(RunState::Completed));
        let new = world.engine.replay(second, &from("go"), false).await.unwrap().run.id;
        let old = world.stored(second);
        assert_eq!(old.state, RunState::Cancelled);
        assert_eq!(old.reason.as_deref(), Some(&*format!("replayed as {new}")));
        world.until(world.stored(new).event, &[RunState::Waiting]).await;
        assert_eq!(world.engine.signal("go", "null".into()).await.unwrap(), 1);
        let run = world.end_of(new).await;
        assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("2")));
        assert_eq!(world.log(new), Vec::<String>::new());
    });
}

#[test]
fn a_parked_run_that_is_tried_again_waits_for_its_slot_also_after_a_kill() {
    let yaml = "version: 1\nevents: { a/b: {}, c/d: {} }\nfunctions: { f: { on: a/b, concurrency: 1 }, g: { on: c/d } }\n";
    let world = World::new(yaml.split_once('\n').unwrap().1, &[("f", r#"wait_for_signal("go"); step("two", || 2)"#), ("g", "1")]);
    let parked = world.block_on(async {
        let event = world.send("a/b", "{}").await.unwrap();
        world.until(event, &[RunState::Waiting]).await.id
    });
    world.write("events.yaml", "version: 1\nevents: { a/b: {}, c/d: {} }\nfunctions: { g: { on: c/d } }\n");
    let world = world.restart();
    world.block_on(async {
        assert_eq!(world.engine.signal("go", "null".into()).await.unwrap(), 1);
        world.until(world.stored(parked).event, &[RunState::Parked]).await;
    });
    world.write("events.yaml", yaml);
    let world = world.restart();
    let holder = world.block_on(async {
        let event = world.send("a/b", "{}").await.unwrap();
        let holder = world.until(event, &[RunState::Waiting]).await.id;
        assert_eq!(world.engine.retry_now(parked).await.unwrap().state, RunState::Queued);
        holder
    });
    let world = world.killed();
    world.block_on(async {
        let why = world.engine.why(&world.stored(parked)).await;
        assert!(why.as_ref().is_some_and(|why| why.contains("waits for a slot")), "{why:?}");
        assert_eq!(world.engine.signal("go", "null".into()).await.unwrap(), 1);
        assert_eq!(world.end_of(holder).await.state, RunState::Completed);
        assert_eq!(world.end_of(parked).await.state, RunState::Completed);
    });
}

#[test]
fn a_run_that_was_told_to_go_on_does_so_after_a_kill() {
    let script = r#"step("trip", || { if run.attempt < 2 { throw "not yet" } run.attempt })"#;
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, retries: { attempts: 3, backoff: fixed, initial: 1h } } }\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("handlers")).unwrap();
    std::fs::write(folder.path().join("events.yaml"), format!("version: 1\n{yaml}")).unwrap();
    std::fs::write(folder.path().join("handlers/f.rhai"), script).unwrap();
    // A clock that does not jump, so that the run backs off until it is told otherwise.
    let (engine, store) = start_at(folder.path(), Arc::new(SystemClock::default()));
    let world = World { folder, engine, store };
    let run = world.block_on(async {
        let event = world.send("a/b", "{}").await.unwrap();
        let run = world.until(event, &[RunState::BackingOff]).await.id;
        world.engine.retry_now(run).await.unwrap();
        run
    });
    let World { folder, engine, store } = world.killed();
    // Whether it went on before the kill or not: it has not to wait for its hour.
    let world = World { folder, engine, store };
    let row = world.block_on(world.end_of(run));
    assert_eq!((row.state, row.output.as_deref()), (RunState::Completed, Some("2")));
    assert!(row.ended.unwrap().since(row.created).0 < 3_600_000);
}

#[test]
fn a_run_of_a_batch_is_done_again_with_all_of_its_events() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, batch: { size: 3, timeout: 1h }, throttle: { limit: 1, period: 1h } } }\n";
    let script = r#"let of = if run.replay_of == () { "first" } else { run.replay_of };
        step("seen", || events.map(|one| one.data.n)); step("count", || [events.len(), of])"#;
    let world = World::new(yaml, &[("f", script)]);
    let old = world.block_on(async {
        let events = (1..=3).map(|n| event("a/b", &format!(r#"{{"n":{n}}}"#))).collect();
        // Nothing may jump to the end of the batch's time before the last of them is accepted.
        let busy = world.engine.busy();
        let ids = world.engine.accept(events).await.unwrap();
        drop(busy);
        let old = world.ended(ids[0]).await;
        assert_eq!(old.output.as_deref(), Some(r#"[3,"first"]"#));
        old.id
    });
    let (whole, later) = world.block_on(async {
        let whole = world.engine.replay(old, &Keep::default(), false).await.unwrap().run.id;
        let later = world.engine.replay(old, &from("count"), false).await.unwrap();
        assert_eq!(later.kept.iter().map(|key| &**key).collect::<Vec<_>>(), ["seen"]);
        (whole, later.run.id)
    });
    // One of them waits for its throttle, and is read from the store.
    let world = world.killed();
    for run in [whole, later] {
        let row = world.block_on(world.end_of(run));
        assert_eq!(row.output, Some(format!(r#"[3,"{old}"]"#).into()), "{row:?}");
        assert_eq!(world.store.batch(run).unwrap().len(), 2);
    }
}

/// A sentence without the places in brackets.
fn without_places(text: &str) -> String {
    let mut parts = text.split(" (handlers/");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |told, part| told + part.split_once(')').map_or("", |(_, rest)| rest))
}
