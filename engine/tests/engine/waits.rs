//! Events and signals that runs send, wait for, and miss; runs that invoke others.

use std::sync::Arc;

use stepwell::base::{EventId, RunId, Span};
use stepwell::exec::NewEvent;
use stepwell::rules::waits::resolve;
use stepwell::rules::{Failure, Kind, Resolution, RunRow, RunState, WaitRow, WaitState};
use stepwell::store::{EventQuery, Lane, RunQuery, Store};

use super::{World, event};

const EVENTS: &str =
    "events: { a/b: {}, x/y: {}, x/z: {}, n/s: { schema: { type: object, required: [n], properties: { n: { type: integer } } } } }\n";

fn world(functions: &str, handlers: &[(&str, &str)]) -> World {
    World::new(&format!("{EVENTS}functions: {{ {functions} }}\n"), handlers)
}

impl World {
    pub(super) fn runs_of(&self, function: &str) -> Vec<RunRow> {
        self.store.runs(&RunQuery { function: Some(function.into()), ..RunQuery::default() }).unwrap()
    }

    pub(super) fn events_of(&self, name: &str) -> Vec<EventId> {
        let query = EventQuery { name: Some(name.into()), oldest_first: true, ..EventQuery::default() };
        self.store.events(&query).unwrap().iter().map(|row| row.id).collect()
    }

    /// Waits until the only run of a function has come to one of these states.
    pub(super) async fn run_until(&self, function: &str, states: &[RunState]) -> RunRow {
        let mut notices = self.engine.subscribe();
        loop {
            if let Some(run) = self.runs_of(function).into_iter().find(|run| states.contains(&run.state)) {
                return run;
            }
            notices.recv().await.unwrap();
        }
    }

    /// What the only run of a function has come to.
    async fn output(&self, event: EventId) -> String {
        let run = self.ended(event).await;
        assert_eq!(run.state, RunState::Completed, "{run:?}");
        run.output.unwrap().to_string()
    }

    async fn error(&self, event: EventId) -> Arc<Failure> {
        let run = self.ended(event).await;
        assert_eq!(run.state, RunState::Failed, "{run:?}");
        run.error.unwrap()
    }

    pub(super) fn nothing_waits(&self) {
        self.store.all_waits(&mut |row| panic!("{row:?} is left behind")).unwrap();
    }
}

const WAITING: &[RunState] = &[RunState::Waiting];
const ENDED: &[RunState] = &[RunState::Completed, RunState::Failed, RunState::Cancelled];

#[test]
fn an_event_that_is_sent_twice_ends_one_wait_and_leaves_the_next_one_open() {
    let script = r#"
        let first = wait_for_event("x/y", #{ timeout: "1h" });
        let second = wait_for_event("x/y", #{ timeout: "1h" });
        [first.data.n, second?.data?.n]
    "#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        // Time stands still, so that no wait can be over before the last event has come.
        let _busy = world.engine.busy();
        let id = world.send("a/b", "{}").await.unwrap();
        world.run_until("f", WAITING).await;
        let one = || NewEvent { dedupe: Some("one".into()), ..event("x/y", r#"{"n":1}"#) };
        let first = world.engine.accept(vec![one()]).await.unwrap();
        let is_second = |row: &WaitRow| &*row.wait.key == "x/y#2" && row.state == WaitState::Open;
        let run = world.runs_of("f").remove(0).id;
        while !world.store.waits(run).unwrap().iter().any(is_second) {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.engine.accept(vec![one()]).await.unwrap(), first);
        world.send("x/y", r#"{"n":2}"#).await.unwrap();
        assert_eq!(world.output(id).await, "[1,2]");
    });
}

// ---- send_event ----

#[test]
fn what_is_wrong_with_what_a_script_hands_over_is_known_when_it_is_replayed() {
    let script = r#"
        let seen = [];
        let tried = |way| { try { way.call(); seen.push("done"); } catch (error) { seen.push(error.code); } };
        let function = || 1;
        let operator = "==";
        tried.call(|| send_event("x/y", #{ f: function }));
        tried.call(|| send_event("x/y", #{ n: 1 }));
        tried.call(|| send_signal("go", #{ f: function }));
        tried.call(|| invoke("g", #{ f: function }));
        tried.call(|| wait_for_event("x/z", #{ "if": "async.data.n " + operator, timeout: "1ms" }));
        tried.call(|| wait_for_event("x/z", #{ timeout: "1ms" }));
        tried.call(|| pick([]));
        tried.call(|| pick([1]));
        step("one", || 1);
        sleep("2ms");
        seen
    "#;
    let world = world("f: { on: a/b }, g: { on: x/z }", &[("f", script), ("g", "1")]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        assert_eq!(world.output(id).await, r#"["E0404","done","E0404","E0404","E0407","done","E0407","done"]"#);
        assert_eq!(world.events_of("x/y").len(), 1);
    });
}

#[test]
fn what_a_run_sends_starts_others_once_however_often_the_run_is_tried() {
    let script = r#"
        let ids = send_event("x/y", #{ n: 1 });
        ids += send_event([#{ name: "x/y", data: #{ n: 2 } }, #{ name: "x/z", data: #{ n: 3 } }]);
        if run.attempt < 3 { throw "again"; }
        ids.len()
    "#;
    let world = world(
        "f: { on: a/b, retries: { attempts: 3, backoff: fixed, initial: 1m } }, g: { on: x/y }",
        &[("f", script), ("g", "event.data.n")],
    );
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        assert_eq!(world.output(id).await, "3");
        let sent = world.events_of("x/y");
        assert_eq!(sent.len(), 2);
        assert_eq!(world.output(sent[0]).await, "1");
        assert_eq!(world.output(sent[1]).await, "2");
        assert_eq!((world.runs_of("g").len(), world.events_of("x/z").len()), (2, 1));
        let run = world.ended(id).await;
        let records = world.store.journal(run.id).unwrap().records;
        assert_eq!(
            records.iter().map(|record| (record.kind, &*record.key)).collect::<Vec<_>>(),
            [(Kind::Send, "x/y"), (Kind::Send, "x/y#2")]
        );
        let derived = world.store.event(sent[1]).unwrap().unwrap().sender_id.unwrap();
        assert_eq!(*derived, format!("{}.x/y#2", run.id));
    });
}

#[test]
fn an_event_that_is_not_as_declared_fails_its_step_at_once() {
    let script = r#"
        let caught = "";
        try { send_event([#{ name: "x/y", data: #{} }, #{ name: "n/s", data: #{ n: event.data.n } }]); } catch (e) { caught = `${e.step} ${e.code} ${e.message}`; }
        caught
    "#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        let id = world.send("a/b", r#"{"n":"one"}"#).await.unwrap();
        let output = world.output(id).await;
        assert_eq!(output, r#""x/y E0221 the event is refused: /data/n: expected an integer, found \"one\"""#);
        assert!(world.events_of("x/y").is_empty(), "all or none");
    });
}

#[test]
fn an_event_with_an_id_of_its_own_is_sent_once_by_all() {
    let script = r#"send_event([#{ name: "x/y", data: #{ n: 1 }, id: "k" }, #{ name: "x/y", data: #{ n: 2 }, id: "k" }, #{ name: "x/y", data: #{ n: 3 } }])"#;
    let world = world("f: { on: a/b }, g: { on: x/y, idempotency: event.data.same }", &[("f", script), ("g", "event.data.n")]);
    world.block_on(async {
        let first = world.output(world.send("a/b", "{}").await.unwrap()).await;
        let second = world.output(world.send("a/b", "{}").await.unwrap()).await;
        let sent = world.events_of("x/y");
        assert_eq!(sent.len(), 3, "one with the id, and one without from each run");
        assert_eq!(first, format!(r#"["{0}","{0}","{1}"]"#, sent[0], sent[1]));
        assert_eq!(second, format!(r#"["{0}","{0}","{1}"]"#, sent[0], sent[2]));
    });
}

#[test]
fn an_event_that_is_sent_for_later_starts_its_run_then() {
    let script = r#"send_event([#{ name: "x/y", data: #{ n: 1 }, ts: now() + "1d" }, #{ name: "x/y", data: #{ n: 2 }, ts: "2001-01-31T09:30:00Z" }, #{ name: "x/y", data: #{ n: 3 }, ts: 7 }]); run.id"#;
    let world = world("f: { on: a/b }, g: { on: x/y }", &[("f", script), ("g", "`${event.data.n} ${event.ts}`")]);
    world.block_on(async {
        world.output(world.send("a/b", "{}").await.unwrap()).await;
        // One whose time is past enters a moment after it was made, too.
        let later = world.runs_of("g").into_iter().find(|run| run.enter.since(run.created) > Span::seconds(86_000)).unwrap();
        assert_eq!(later.state, RunState::Queued);
        for event in &world.events_of("x/y")[1..] {
            let output = world.output(*event).await;
            assert!([r#""2 980933400000""#, r#""3 7""#].contains(&&*output), "{output}");
        }
    });
}

#[test]
fn idempotency_holds_for_events_of_one_sending_too() {
    let script = r#"send_event([#{ name: "x/y", data: #{ k: 1 } }, #{ name: "x/y", data: #{ k: 1 } }]); send_event("x/y", #{ k: 1 }); 0"#;
    let world = world("f: { on: a/b }, g: { on: x/y, idempotency: event.data.k }", &[("f", script), ("g", "1")]);
    world.block_on(async {
        world.output(world.send("a/b", "{}").await.unwrap()).await;
        assert_eq!((world.events_of("x/y").len(), world.runs_of("g").len()), (3, 1));
    });
}

// ---- wait_for_event, wait_for_any ----

#[test]
fn a_run_waits_for_the_event_of_the_same_user() {
    let script = r#"let got = wait_for_event("x/y", #{ "if": "async.data.user == event.data.user && async.data.n > 0" }); `${got.name} ${got.data.n}`"#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        let (ada, bob) = (world.send("a/b", r#"{"user":"ada"}"#).await.unwrap(), world.send("a/b", r#"{"user":"bob"}"#).await.unwrap());
        let waiting = world.until(ada, WAITING).await;
        world.until(bob, WAITING).await;
        let why = world.engine.why(&waiting).await.unwrap();
        assert!(why.contains("x/y"), "{why}");
        for data in
            [r#"{"user":"ada","n":0}"#, r#"{"user":"eve","n":1}"#, r#"{"user":"bob","n":2}"#, r#"{"n":3}"#, r#"{"user":"ada","n":4}"#]
        {
            world.send("x/y", data).await.unwrap();
        }
        assert_eq!(world.output(ada).await, r#""x/y 4""#);
        assert_eq!(world.output(bob).await, r#""x/y 2""#);
        world.nothing_waits();
    });
}

#[test]
fn a_wait_ends_at_a_time_too() {
    let script = r#"
        let late = wait_for_event("x/y", #{ timeout: now() + "10m" });
        let over = wait_for_signal("s", #{ timeout: "2001-01-31T09:30:00Z" });
        let far = "";
        try { wait_for_any([#{ event: "x/y" }], #{ timeout: now() + "400d" }); } catch (e) { far = e.message; }
        [late == (), over == (), far.contains("more than a year away")]
    "#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        // The clock stands still until the wait was looked at.
        let busy = world.engine.busy();
        let event = world.send("a/b", "{}").await.unwrap();
        let waiting = world.until(event, WAITING).await;
        drop(busy);
        let waits_for = waiting.wake.unwrap().since(waiting.started.unwrap());
        assert!((Span::seconds(600)..Span::seconds(3_600)).contains(&waits_for), "{waits_for}");
        assert_eq!(world.output(event).await, "[true,true,true]");
        world.nothing_waits();
    });
}

#[test]
fn a_wait_that_nothing_resolves_ends_with_its_time_out() {
    let script = r#"let got = wait_for_event("x/y", #{ timeout: "10m", id: "reply" }); got == ()"#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        assert_eq!(world.output(id).await, "true");
        let run = world.ended(id).await;
        let record = world.store.journal(run.id).unwrap().records.remove(0);
        assert_eq!((record.kind, &*record.key), (Kind::Wait, "reply"));
        assert!(record.ended.since(record.started).0 >= 600_000, "{record:?}");
        // What comes too late is for somebody else.
        world.send("x/y", "{}").await.unwrap();
        world.nothing_waits();
    });
}

#[test]
fn what_came_since_the_run_began_is_not_lost_and_is_had_once() {
    let script = r#"
        send_event("x/y", #{ n: 1 });
        send_event([#{ name: "x/y", data: #{ n: 2 } }, #{ name: "x/y", data: #{ n: 3 } }]);
        let got = [];
        for i in 0..2 { got.push(wait_for_event("x/y", #{ "if": "async.data.n != 2" }).data.n); }
        got.push(wait_for_event("x/y", #{ timeout: "1h" }).data.n);
        got.push(wait_for_event("x/y", #{ timeout: "1h" }));
        got
    "#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        world.send("x/y", r#"{"n": 0}"#).await.unwrap();
        let id = world.send("a/b", "{}").await.unwrap();
        assert_eq!(world.output(id).await, "[1,3,2,null]");
    });
}

#[test]
fn a_wait_looks_back_over_more_events_than_are_read_at_once() {
    // They are read in chunks of 200: the last of one, the first of the next, and one far behind.
    let script = r#"
        for part in 0..5 {
            let many = [];
            for n in 0..90 { many.push(#{ name: "x/y", data: #{ n: part * 90 + n } }); }
            send_event(many);
        }
        let last = wait_for_event("x/y", #{ "if": "async.data.n == 199", timeout: "1h" });
        let next = wait_for_event("x/y", #{ "if": "async.data.n == 200", timeout: "1h" });
        let far = wait_for_event("x/y", #{ "if": "async.data.n == 449", timeout: "1h" });
        let none = wait_for_event("x/y", #{ "if": "async.data.n == 450", timeout: "1h" });
        [last?.data?.n, next?.data?.n, far?.data?.n, none?.data?.n]
    "#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        assert_eq!(world.output(id).await, "[199,200,449,null]");
    });
}

#[test]
fn a_run_does_not_wait_for_the_event_that_started_it_and_others_may_have_the_same_one() {
    let script = r#"wait_for_event("a/b").data.n"#;
    let world = world("f: { on: { event: a/b, if: \"event.data.n < 3\" } }", &[("f", script)]);
    world.block_on(async {
        let (first, second) = (world.send("a/b", r#"{"n":1}"#).await.unwrap(), world.send("a/b", r#"{"n":2}"#).await.unwrap());
        // A run sees what comes after its start alone, so both have to have started.
        for run in [first, second] {
            world.until(run, &[RunState::Waiting, RunState::Completed]).await;
        }
        world.send("a/b", r#"{"n":3}"#).await.unwrap();
        let outputs = (world.output(first).await, world.output(second).await);
        assert!(["2", "3"].contains(&&*outputs.0), "{outputs:?}");
        assert_eq!(outputs.1, "3", "not its own");
    });
}

#[test]
fn the_first_of_several_events_ends_a_wait_for_any() {
    let script =
        r#"let got = wait_for_any([#{ event: "x/y", "if": "async.data.n == 1" }, #{ event: "x/z" }]); `${got.name} ${got.data.n}`"#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    world.block_on(async {
        let first = world.send("a/b", "{}").await.unwrap();
        world.until(first, WAITING).await;
        world.send("x/y", r#"{"n":2}"#).await.unwrap();
        world.send("x/z", r#"{"n":5}"#).await.unwrap();
        assert_eq!(world.output(first).await, r#""x/z 5""#);
        let second = world.send("a/b", "{}").await.unwrap();
        world.until(second, WAITING).await;
        world.send("x/y", r#"{"n":1}"#).await.unwrap();
        assert_eq!(world.output(second).await, r#""x/y 1""#);
    });
}

#[test]
fn a_wait_outlives_a_restart_and_a_crash() {
    let script = r#"let n = step("a", || 1); let got = wait_for_event("x/y", #{ "if": "async.data.k == event.data.k" }); got.data.n + n"#;
    let world = world("f: { on: a/b }", &[("f", script)]);
    let (first, second) =
        (world.block_on(world.send("a/b", r#"{"k":1}"#)).unwrap(), world.block_on(world.send("a/b", r#"{"k":2}"#)).unwrap());
    world.block_on(world.until(first, WAITING));
    world.block_on(world.until(second, WAITING));
    let world = world.restart();
    world.block_on(world.send("x/y", r#"{"k":1,"n":1}"#)).unwrap();
    assert_eq!(world.block_on(world.output(first)), "2");
    let world = world.crash();
    world.block_on(world.send("x/y", r#"{"k":2,"n":2}"#)).unwrap();
    assert_eq!(world.block_on(world.output(second)), "3");
}

#[test]
fn a_run_whose_wait_was_over_when_the_engine_was_killed_goes_on() {
    let script = r#"wait_for_signal("go")"#;
    let functions = "f: { on: a/b }, g: { on: x/y, concurrency: { limit: 1, hold: run } }";
    let world = world(functions, &[("f", script), ("g", script)]);
    let ids = world.block_on(async {
        let ids = [world.send("a/b", "{}").await.unwrap(), world.send("x/y", "{}").await.unwrap()];
        for id in ids {
            let run = world.until(id, WAITING).await;
            // The engine has not heard of it when it ends.
            let wait = world.store.waits(run.id).unwrap().remove(0).wait;
            let list = resolve(&wait, Resolution::Value("7".into()));
            world.store.commit(Lane::Steps, vec![list]).await.unwrap().remove(0).unwrap();
        }
        ids
    });
    let world = world.killed();
    world.block_on(async {
        for id in ids {
            assert_eq!(world.output(id).await, "7");
        }
        let next = world.send("x/y", "{}").await.unwrap();
        world.until(next, WAITING).await;
    });
}

#[test]
fn a_cancelled_run_waits_for_nothing_any_more() {
    let world = world("f: { on: a/b }", &[("f", r#"wait_for_event("x/y"); wait_for_signal("s")"#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.until(id, WAITING).await;
        world.engine.cancel(run.id, "enough").await.unwrap();
        world.nothing_waits();
        world.send("x/y", "{}").await.unwrap();
        assert_eq!(world.ended(id).await.state, RunState::Cancelled);
    });
}

#[test]
fn many_waits_of_one_event_are_resolved_together() {
    let world = world("f: { on: a/b }", &[("f", r#"wait_for_event("x/y", #{ "if": "async.data.k == event.data.k" }).data.k"#)]);
    world.block_on(async {
        let events = (0..40).map(|n| event("a/b", &format!(r#"{{"k":{}}}"#, n % 2))).collect();
        let ids = world.engine.accept(events).await.unwrap();
        for id in &ids {
            world.until(*id, WAITING).await;
        }
        world.engine.accept(vec![event("x/y", r#"{"k":0}"#), event("x/y", r#"{"k":1}"#)]).await.unwrap();
        for (n, id) in ids.into_iter().enumerate() {
            assert_eq!(world.output(id).await, (n % 2).to_string());
        }
    });
}

// ---- signals ----

#[test]
fn a_signal_reaches_those_who_wait_for_it() {
    let waits = r#"wait_for_signal("go", #{ id: "s" })"#;
    let world = world(
        "f: { on: a/b }, g: { on: x/y }",
        &[("f", waits), ("g", r#"send_signal("go", #{ n: event.data.n }); send_signal("nobody"); 1"#)],
    );
    world.block_on(async {
        assert_eq!(world.engine.signal("go", "1".into()).await.unwrap(), 0, "nobody waits yet, and it is not kept");
        let (first, second) = (world.send("a/b", "{}").await.unwrap(), world.send("a/b", "{}").await.unwrap());
        world.until(first, WAITING).await;
        world.until(second, WAITING).await;
        let sender = world.send("x/y", r#"{"n":7}"#).await.unwrap();
        assert_eq!(world.output(sender).await, "1");
        assert_eq!((world.output(first).await, world.output(second).await), (r#"{"n":7}"#.to_owned(), r#"{"n":7}"#.to_owned()));
        let third = world.send("a/b", "{}").await.unwrap();
        world.until(third, WAITING).await;
        assert_eq!(world.engine.signal("go", r#"{"n":8}"#.into()).await.unwrap(), 1);
        assert_eq!(world.output(third).await, r#"{"n":8}"#);
    });
}

// ---- invoke ----

const PARENT: &str = r#"
    let got = ();
    try { got = invoke("g", #{ n: event.data.n }, #{ timeout: "1h" }); } catch (e) { got = `${e.step} ${e.code} ${e.data}`; }
    got
"#;

#[test]
fn an_invoked_run_gives_its_result_or_a_step_error() {
    let child = r#"if event.name != "stepwell/invoked" { throw "?"; } if event.data.n == 2 { fail("no", 17); } step("double", || event.data.n * 2)"#;
    let world = world("f: { on: a/b }, g: { on: n/s }", &[("f", PARENT), ("g", child)]);
    world.block_on(async {
        assert_eq!(world.output(world.send("a/b", r#"{"n":1}"#).await.unwrap()).await, "2");
        assert_eq!(world.output(world.send("a/b", r#"{"n":2}"#).await.unwrap()).await, r#""g E0426 17""#);
        assert_eq!(
            world.output(world.send("a/b", r#"{"n":"x"}"#).await.unwrap()).await,
            r#""g E0221 ""#,
            "checked against its trigger's schema"
        );
        assert_eq!(world.runs_of("g").len(), 2);
        world.nothing_waits();
    });
}

#[test]
fn an_invoked_run_that_takes_too_long_is_cancelled_with_all_that_it_started() {
    let world = world(
        "f: { on: a/b }, g: { on: x/y }, h: { on: x/z }",
        &[("f", PARENT), ("g", r#"invoke("h", #{})"#), ("h", r#"sleep("30d"); 1"#)],
    );
    world.block_on(async {
        assert_eq!(world.output(world.send("a/b", "{}").await.unwrap()).await, r#""g E0425 ""#);
        let (child, grandchild) = (world.run_until("g", ENDED).await, world.run_until("h", ENDED).await);
        assert_eq!((child.state, grandchild.state), (RunState::Cancelled, RunState::Cancelled));
        assert_eq!(child.reason.as_deref(), Some("the run that invoked it waited no longer"));
        assert!(grandchild.reason.unwrap().contains("the run that invoked it was cancelled"));
        world.nothing_waits();
    });
}

#[test]
fn a_run_that_fails_in_one_branch_takes_what_another_one_has_started_with_it() {
    let branches = r#"[|| invoke("g", #{}), || { wait_for_signal("go"); fail("enough") }]"#;
    for group in ["parallel", "race"] {
        let script = format!("{group}({branches})");
        let handlers = [("f", script.as_str()), ("g", r#"invoke("h", #{})"#), ("h", r#"wait_for_signal("never")"#)];
        let world = world("f: { on: a/b }, g: { on: x/y }, h: { on: x/z }", &handlers);
        world.block_on(async {
            world.send("a/b", "{}").await.unwrap();
            world.run_until("h", WAITING).await;
            assert_eq!(world.engine.signal("go", "1".into()).await, Ok(1));
            assert_eq!(world.run_until("f", ENDED).await.state, RunState::Failed);
            // In the same commit.
            let (child, grandchild) = (world.runs_of("g").remove(0), world.runs_of("h").remove(0));
            assert_eq!((child.state, grandchild.state), (RunState::Cancelled, RunState::Cancelled), "{group}");
            assert_eq!(child.reason.as_deref(), Some("the run that invoked it ended without it"));
            world.nothing_waits();
        });
    }
}

#[test]
fn a_cancel_goes_down_to_what_the_run_has_started_and_up_to_who_waits_for_it() {
    // Without a time-out, which the clock would jump to as soon as all of them wait.
    let parent = PARENT.replace(r#", #{ timeout: "1h" }"#, "");
    let world = world(
        "f: { on: a/b }, g: { on: x/y }, h: { on: x/z }",
        &[("f", parent.as_str()), ("g", r#"invoke("h", #{})"#), ("h", r#"wait_for_event("x/y"); 1"#)],
    );
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        world.run_until("h", WAITING).await;
        let child = world.run_until("g", WAITING).await;
        world.engine.cancel(child.id, "enough").await.unwrap();
        assert_eq!(world.run_until("h", ENDED).await.state, RunState::Cancelled);
        assert_eq!(world.output(id).await, r#""g E0426 ""#);
        world.nothing_waits();
    });
}

#[test]
fn an_invoked_run_outlives_a_crash() {
    let world = world(
        "f: { on: a/b }, g: { on: x/y }",
        &[("f", r#"invoke("g", #{ n: 4 }) + 1"#), ("g", r#"wait_for_event("x/y").data.n + event.data.n"#)],
    );
    let id = world.block_on(world.send("a/b", "{}")).unwrap();
    let child = world.block_on(world.run_until("g", WAITING));
    let world = world.crash();
    assert_eq!(world.runs_of("g").len(), 1);
    world.block_on(world.send("x/y", r#"{"n":10}"#)).unwrap();
    assert_eq!(world.block_on(world.output(id)), "15");
    assert_eq!(world.runs_of("g").iter().map(|run| run.id).filter(|run| *run == child.id).collect::<Vec<RunId>>(), [child.id]);
}

#[test]
fn a_run_that_would_wait_for_its_own_slot_is_told() {
    let script = r#"if event.data.deep == true { try { invoke("f", #{ k: event.data.k }) } catch (e) { return e.code; } } "through""#;
    let world = world("f: { on: a/b, concurrency: { limit: 1, key: event.data.k } }", &[("f", script)]);
    world.block_on(async {
        assert_eq!(world.output(world.send("a/b", r#"{"k":1,"deep":true}"#).await.unwrap()).await, r#""E0424""#);
        assert_eq!(world.runs_of("f").len(), 1);
    });
    let world = super::waits::world("f: { on: a/b, concurrency: { limit: 1, key: event.data.k, hold: active } }", &[("f", script)]);
    world.block_on(async {
        assert_eq!(world.output(world.send("a/b", r#"{"k":1,"deep":true}"#).await.unwrap()).await, r#""through""#);
        assert_eq!(world.runs_of("f").len(), 2);
    });
}

#[test]
fn a_function_that_is_not_there_cannot_be_invoked() {
    let world = world("f: { on: a/b }", &[("f", r#"let name = "ff"; invoke(name, #{})"#)]);
    world.block_on(async {
        let error = world.error(world.send("a/b", "{}").await.unwrap()).await;
        assert_eq!((&*error.code, error.help.as_deref()), ("E0423", Some("did you mean `f`?")));
    });
}
