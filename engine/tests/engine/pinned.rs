//! Waits that stay in the store when an engine starts, where they are found by the value that their events have to have.

use stepwell::base::{EventId, Id};
use stepwell::rules::{EventRow, List, RunState, WaitState, Write};
use stepwell::store::{Lane, Store};

use super::{World, event, start};

const WAITING: &[RunState] = &[RunState::Waiting];

fn world(script: &str) -> World {
    World::new("events: { a/b: {}, x/y: {}, x/z: {} }\nfunctions: { f: { on: a/b } }\n", &[("f", script)])
}

impl World {
    /// Starts another engine on the same file, which is changed in between.
    pub(super) fn altered(self, sql: &str) -> World {
        self.block_on(self.engine.drain());
        let World { folder, engine, store } = self;
        drop(engine);
        store.close().unwrap();
        let db = rusqlite::Connection::open(folder.path().join("stepwell.db")).unwrap();
        db.execute_batch(sql).unwrap();
        db.close().unwrap();
        let (engine, store) = start(folder.path());
        World { folder, engine, store }
    }

    /// Starts a run with each of these data, and is done once all of them wait.
    fn wait_with(&self, data: &[&str]) -> Vec<EventId> {
        let begin = |data: &&str| {
            let id = self.block_on(self.send("a/b", data)).unwrap();
            self.block_on(self.until(id, WAITING));
            id
        };
        data.iter().map(begin).collect()
    }

    fn result(&self, id: EventId) -> String {
        let run = self.block_on(self.ended(id));
        assert_eq!(run.state, RunState::Completed, "{run:?}");
        run.output.unwrap().to_string()
    }

    fn sends(&self, name: &str, data: &str) {
        self.block_on(self.send(name, data)).unwrap();
    }
}

#[test]
fn an_event_ends_the_waits_in_the_store_that_have_its_value_and_no_other() {
    let script = r#"wait_for_event("x/y", #{ "if": "async.data.k == event.data.k && async.data.n > 0" }).data.n"#;
    let world = world(script);
    let ids = world.wait_with(&[r#"{"k":1}"#, r#"{"k":"1"}"#, r#"{"k":2}"#, r#"{"k":2}"#]);
    let world = world.restart();
    world.store.start_from(&mut |_| {}, &mut |row| panic!("the engine has read {row:?}")).unwrap();
    let fields: Vec<String> = world.store.pinned_fields().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(fields, ["1 x/y async.data.k"]);
    for data in [r#"{"k":3,"n":1}"#, r#"{"n":1}"#, r#"{"k":1,"n":0}"#, r#"{"k":1.0,"n":5}"#] {
        world.sends("x/y", data);
    }
    assert_eq!(world.result(ids[0]), "5");
    world.block_on(world.engine.accept(vec![event("x/y", r#"{"k":2,"n":7}"#), event("x/y", r#"{"k":"1","n":6}"#)])).unwrap();
    assert_eq!(ids[1..].iter().map(|id| world.result(*id)).collect::<Vec<_>>(), ["6", "7", "7"]);
    world.nothing_waits();
}

#[test]
fn a_run_whose_wait_was_in_the_store_waits_on_for_what_comes_next() {
    let script = r#"
        let same = "async.data.k == event.data.k";
        let first = wait_for_event("x/y", #{ "if": same });
        let second = wait_for_event("x/z", #{ "if": same });
        let third = wait_for_event("x/z", #{ "if": same });
        [first.data.n, second.data.n, third.data.n]
    "#;
    let world = world(script);
    let id = world.wait_with(&[r#"{"k":1}"#])[0];
    let world = world.restart();
    // The second one comes before anybody waits for it.
    world.sends("x/z", r#"{"k":1,"n":2}"#);
    world.sends("x/y", r#"{"k":1,"n":1}"#);
    let run = world.runs_of("f").remove(0).id;
    world.block_on(async {
        while !world.store.waits(run).unwrap().iter().any(|row| &*row.wait.key == "x/z#2" && row.state == WaitState::Open) {
            tokio::task::yield_now().await;
        }
    });
    let world = world.restart();
    world.sends("x/z", r#"{"k":2,"n":9}"#);
    world.sends("x/z", r#"{"k":1,"n":3}"#);
    assert_eq!(world.result(id), "[1,2,3]");
    world.nothing_waits();
}

#[test]
fn a_branch_goes_on_while_the_wait_of_another_one_was_left_in_the_store() {
    let script = r#"
        parallel(#{
            event: || wait_for_event("x/y", #{ "if": "async.data.k == event.data.k" }).data.n,
            signal: || { let got = wait_for_signal("go"); step("after", || got) },
        })
    "#;
    let world = world(script);
    let id = world.wait_with(&[r#"{"k":1}"#])[0];
    let world = world.restart();
    let run = world.runs_of("f").remove(0).id;
    world.block_on(async {
        assert_eq!(world.engine.signal("go", "2".into()).await, Ok(1));
        while world.store.journal(run).unwrap().records.len() < 2 {
            tokio::task::yield_now().await;
        }
    });
    world.sends("x/y", r#"{"k":1,"n":1}"#);
    assert_eq!(world.result(id), r#"{"event":1,"signal":2}"#);
    world.nothing_waits();
}

#[test]
fn a_wait_that_was_left_in_the_store_ends_with_its_time_out() {
    let script = r#"wait_for_event("x/y", #{ "if": "async.data.k == event.data.k", timeout: "1h" }) == ()"#;
    // No time goes by before the restart.
    let world = world(script).stilled();
    let id = world.wait_with(&[r#"{"k":1}"#])[0];
    let world = world.restart();
    assert_eq!(world.result(id), "true");
    world.nothing_waits();
}

#[test]
fn a_wait_that_was_left_in_the_store_before_anybody_had_looked_back_takes_what_had_come() {
    let script = r#"wait_for_event("x/y", #{ "if": "async.data.k == event.data.k", timeout: "1h" })?.data?.n"#;
    let world = world(script).stilled();
    let id = world.wait_with(&[r#"{"k":1}"#])[0];
    // As an engine leaves it that ends between the two.
    let (last, now) = (world.store.stats().unwrap().largest_id, world.engine.clock().now());
    let (name, data) = ("x/y".into(), r#"{"k":1,"n":4}"#.into());
    let row = EventRow { id: Id(last.0 + 1), name, data, sender_id: None, ts: now, accepted: now, extra: None };
    let list = List { expect: Vec::new(), writes: vec![Write::InsertEvent(row)] };
    world.block_on(world.store.commit(Lane::Steps, vec![list])).unwrap().remove(0).unwrap();
    let world = world.restart();
    assert_eq!(world.result(id), "4");
}

#[test]
fn a_cancelled_run_takes_its_wait_out_of_the_store() {
    let world = world(r#"wait_for_event("x/y", #{ "if": "async.data.k == event.data.k" })"#);
    let id = world.wait_with(&[r#"{"k":1}"#])[0];
    let world = world.restart();
    let run = world.runs_of("f").remove(0).id;
    world.block_on(world.engine.cancel(run, "enough")).unwrap();
    world.nothing_waits();
    world.sends("x/y", r#"{"k":1}"#);
    assert_eq!(world.block_on(world.ended(id)).state, RunState::Cancelled);
}

#[test]
fn waits_that_another_version_stored_are_found_too() {
    // One that had no pins, and one that made them in another way.
    let unpinned = "UPDATE waits SET field = NULL, value = NULL";
    let otherwise = "UPDATE waits SET value = 7; UPDATE names SET text = '0' || substr(text, 2) WHERE text LIKE '1 x/y %'";
    for sql in [unpinned, otherwise] {
        let world = world(r#"wait_for_event("x/y", #{ "if": "async.data.k == event.data.k" }).data.n"#);
        let ids = world.wait_with(&[r#"{"k":1}"#, r#"{"k":2}"#]);
        let world = world.altered(sql);
        world.sends("x/y", r#"{"k":2,"n":4}"#);
        assert_eq!(world.result(ids[1]), "4", "{sql}");
        // What is opened now stands beside those.
        let new = world.wait_with(&[r#"{"k":3}"#])[0];
        let world = world.restart();
        world.sends("x/y", r#"{"k":1,"n":5}"#);
        world.sends("x/y", r#"{"k":3,"n":6}"#);
        assert_eq!((world.result(ids[0]), world.result(new)), ("5".to_owned(), "6".to_owned()), "{sql}");
    }
}
