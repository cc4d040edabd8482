//! Runs whose events are not there any more, and what retention leaves alone.

use stepwell::exec::ReplayError;
use stepwell::rules::replay::{Keep, Refusal};
use stepwell::rules::{List, Write};
use stepwell::store::Lane;

use super::*;

const YAML: &str = "retention: { completed: 365d, events: 1s }
events: { a/b: {}, c/d: {}, x/y: {} }
functions: { f: { on: a/b }, g: { on: c/d, batch: { size: 2, timeout: 1h } } }
";

/// Runs that have ended: one of an event, and one of a batch of two.
fn two_ended() -> (World, RunRow, RunRow) {
    let world = World::new(YAML, &[("f", "1"), ("g", "events.len()")]);
    let (plain, batch) = world.block_on(async {
        let event = world.send("a/b", "{}").await.unwrap();
        let plain = world.ended(event).await;
        // Time must not jump over the window of the first event while the second one is on its way.
        let busy = world.engine.busy();
        let events = world.engine.accept(vec![super::event("c/d", "{}"), super::event("c/d", "{}")]).await.unwrap();
        drop(busy);
        (plain, world.ended(events[0]).await)
    });
    assert_eq!(batch.output.as_deref(), Some("2"), "{batch:?}");
    (world, plain, batch)
}

#[test]
fn retention_keeps_the_events_of_runs_that_are_kept_so_that_these_can_be_done_again() {
    let (world, plain, batch) = two_ended();
    world.block_on(async {
        let unneeded = world.send("x/y", "{}").await.unwrap();
        let now = world.engine.clock().now().after(Span::seconds(60));
        let sweep = Write::Sweep { now, keep: world.engine.project().retention(), most: 99 };
        let list = List { expect: Vec::new(), writes: vec![sweep] };
        world.store.commit(Lane::Ingest, vec![list]).await.unwrap().remove(0).unwrap();
        assert_eq!(world.store.event(unneeded).unwrap(), None);
        for run in [plain, batch] {
            world.engine.replay(run.id, &Keep::default(), false).await.unwrap();
            // Of the runs of an event, the newest is looked at.
            let new = world.ended(run.event).await;
            assert_eq!((new.replay_of, &new.output), (Some(run.id), &run.output));
        }
    });
}

#[test]
fn a_run_whose_events_are_gone_says_so_and_is_not_done_again() {
    let (world, plain, batch) = two_ended();
    let later = world.store.batch(batch.id).unwrap()[0];
    world.block_on(world.engine.drain());
    let World { folder, engine, store } = world;
    drop(engine);
    store.close().unwrap();
    let database = rusqlite::Connection::open(folder.path().join("stepwell.db")).unwrap();
    for event in [plain.event, later] {
        assert_eq!(database.execute("DELETE FROM events WHERE id = ?1", [event.0]).unwrap(), 1);
    }
    drop(database);
    let (engine, store) = start(folder.path());
    let world = World { folder, engine, store };
    for (run, expected) in [(plain, Refusal::EventGone), (batch, Refusal::BatchGone { had: 2, gone: 1 })] {
        let refused = world.block_on(world.engine.replay(run.id, &Keep::default(), false)).unwrap_err();
        assert_eq!(refused, ReplayError::Refused(expected));
        assert!(refused.to_string().contains("not there any more"), "{refused}");
    }
    assert_eq!(world.store.runs(&RunQuery::default()).unwrap().len(), 2, "nothing is done");
}
