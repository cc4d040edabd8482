//! Races: a sleep, an event, a step or another run ends one, and what the other branches wait for ends with it.

use std::io::Read as _;
use std::net::TcpListener;

use stepwell::base::Span;
use stepwell::rules::replay::Keep;
use stepwell::rules::{RunRow, RunState, WaitRow, WaitState};
use stepwell::store::Store;

use super::World;
use super::parallel::{accepted, output};

const MINUTE: Span = Span::seconds(60);

fn world(script: &str) -> World {
    let yaml = "events: { a/b: {}, x/y: {}, x/z: {} }\n\
                functions: { f: { on: a/b, retries: { attempts: 3, backoff: fixed, initial: 1m } }, g: { on: x/z }, h: { on: x/z }, i: { on: x/z } }\n";
    let others = [("g", "step(\"double\", || event.data.n * 2)"), ("h", "invoke(\"i\", #{})"), ("i", "wait_for_signal(\"never\")")];
    let mut handlers = vec![("f", script)];
    handlers.extend(others);
    World::new(yaml, &handlers)
}

fn keys_of(world: &World, run: &RunRow) -> Vec<String> {
    world.store.journal(run.id).unwrap().records.iter().map(|record| record.key.to_string()).collect()
}

fn waits_of(world: &World, run: &RunRow) -> Vec<WaitRow> {
    world.store.waits(run.id).unwrap()
}

/// Waits until a wait of the run is open that has this key.
async fn opens(world: &World, run: &RunRow, key: &str) {
    while !waits_of(world, run).iter().any(|row| &*row.wait.key == key && row.state == WaitState::Open) {
        tokio::task::yield_now().await;
    }
}

fn took(run: &RunRow) -> Span {
    run.ended.unwrap().since(run.started.unwrap())
}

/// What becomes of a run of this handler that nobody sends anything to.
fn alone(script: &str) -> (World, RunRow) {
    let world = world(script);
    let run = world.block_on(async { world.ended(world.send("a/b", "{}").await.unwrap()).await });
    (world, run)
}

#[test]
fn a_sleep_ends_a_race_and_the_wait_beside_it_takes_no_event_any_more() {
    let script = r#"
        let won = race(#{ late: || sleep("5m"), paid: || wait_for_event("x/y") });
        let after = wait_for_event("x/y", #{ id: "after" });
        [won.name, won.value, after.data.n]
    "#;
    let world = world(script);
    world.block_on(async {
        let event = world.send("a/b", "{}").await.unwrap();
        let run = world.until(event, &[RunState::Waiting]).await;
        opens(&world, &run, "after").await;
        let open: Vec<String> = waits_of(&world, &run).iter().map(|row| row.wait.key.to_string()).collect();
        assert_eq!(open, ["after"], "the wait that was left is gone with the race's record");
        world.send("x/y", r#"{"n":7}"#).await.unwrap();
        let run = world.ended(event).await;
        assert_eq!(output(&run), r#"["late",null,7]"#);
        assert!(took(&run) >= Span(5 * MINUTE.0), "{}", took(&run));
        assert_eq!(keys_of(&world, &run), ["race › late › sleep", "race", "after"]);
    });
}

#[test]
fn an_event_ends_a_race_long_before_the_sleep_beside_it() {
    let script = r#"
        let won = race(#{ late: || sleep("30d"), paid: || wait_for_event("x/y").data.n, signal: || wait_for_signal("go") });
        step("after", || won)
    "#;
    let world = world(script);
    world.block_on(async {
        let busy = world.engine.busy();
        let event = world.send("a/b", "{}").await.unwrap();
        let run = world.until(event, &[RunState::Waiting]).await;
        let why = world.engine.why(&run).await.unwrap();
        assert!(why.contains("`race › late › sleep` sleeps") && why.contains("`race › paid › x/y` waits for event `x/y`"), "{why}");
        world.send("x/y", r#"{"n":7}"#).await.unwrap();
        let run = world.ended(event).await;
        drop(busy);
        assert_eq!(output(&run), r#"{"name":"paid","value":7}"#);
        assert!(took(&run) < MINUTE, "{}", took(&run));
        assert_eq!(world.engine.signal("go", "1".into()).await.unwrap(), 0, "nobody waits for it any more");
    });
}

#[test]
fn a_step_ends_a_race_and_the_one_that_is_under_way_beside_it_is_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = r#"
        let won = race(#{
            slow: || step("call", || http::get(event.data.url).text),
            quick: || { let n = wait_for_event("x/y").data.n; step("add", || n + 1) },
        });
        step("after", || won.value)
    "#;
    let world = world(script);
    world.block_on(async {
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let event = world.send("a/b", &format!(r#"{{"url":"{url}"}}"#)).await.unwrap();
        let mut stream = accepted(listener).await;
        let run = world.until(event, &[RunState::Running]).await;
        opens(&world, &run, "race › quick › x/y").await;
        world.send("x/y", r#"{"n":1}"#).await.unwrap();
        let run = world.ended(event).await;
        assert_eq!(output(&run), "2");
        assert_eq!(keys_of(&world, &run), ["race › quick › x/y", "race › quick › add", "race", "after"]);
        assert!(world.store.journal(run.id).unwrap().attempts.is_empty(), "the step that was left has not failed");
        // Nobody waits for the answer: the connection is gone, whether it was closed or reset.
        let rest = tokio::task::spawn_blocking(move || {
            let mut read = Vec::new();
            stream.read_to_end(&mut read).map(|_| ())
        });
        drop(rest.await.unwrap());
        assert!(world.engine.at_work(run.id).await.is_empty());
    });
}

#[test]
fn another_run_ends_a_race_and_one_that_is_left_is_cancelled_with_all_that_it_has_started() {
    let (_, run) = alone(r#"race(#{ child: || invoke("g", #{ n: 21 }), late: || sleep("1h") })"#);
    assert_eq!(output(&run), r#"{"name":"child","value":42}"#);
    let (world, run) = alone(r#"race(#{ child: || invoke("h", #{}), late: || sleep("1h") }).name"#);
    assert_eq!(output(&run), "\"late\"");
    let (children, grandchildren) = (world.runs_of("h"), world.runs_of("i"));
    let ([child], [grandchild]) = (&children[..], &grandchildren[..]) else { panic!("{children:?} {grandchildren:?}") };
    assert_eq!((child.state, child.invoked_by), (RunState::Cancelled, Some(run.id)));
    let reason = child.reason.as_deref().unwrap();
    assert_eq!(reason, "the run that invoked it waited no longer: another branch ended the race `race`");
    assert_eq!((grandchild.state, grandchild.invoked_by), (RunState::Cancelled, Some(child.id)));
    world.nothing_waits();
    assert_eq!(world.block_on(world.engine.signal("never", "1".into())).unwrap(), 0);
}

#[test]
fn a_child_that_ends_at_the_moment_when_it_is_left_is_left_as_it_is() {
    // Both are over at once: the sleep of the child is as long as that of the race, and it began a little later.
    let yaml = "events: { a/b: {}, x/z: {} }\nfunctions: { f: { on: a/b }, g: { on: x/z } }\n";
    let script = r#"race(#{ child: || invoke("g", #{}), late: || sleep("1m") }).name"#;
    let world = World::new(yaml, &[("f", script), ("g", "sleep(\"1m\"); 1")]);
    for _ in 0..20 {
        let run = world.block_on(async { world.ended(world.send("a/b", "{}").await.unwrap()).await });
        assert!(["\"late\"", "\"child\""].contains(&output(&run)), "{run:?}");
    }
    world.block_on(async {
        for child in world.runs_of("g") {
            let ended = world.until(child.event, &[RunState::Completed, RunState::Cancelled]).await;
            assert!(ended.state.is_terminal());
        }
    });
    world.nothing_waits();
}

#[test]
fn the_error_of_the_first_branch_is_thrown() {
    let script = r#"
        let caught = ();
        try {
            race(#{ bad: || step("ask", #{ retries: 1, backoff: "1m" }, || throw "no"), late: || wait_for_event("x/y"), nap: || sleep("1h") });
        } catch (e) { caught = [e.step, e.message, e.attempts]; }
        sleep("1d");
        caught
    "#;
    let (world, run) = alone(script);
    assert_eq!(output(&run), r#"["race › bad › ask","no",2]"#);
    assert_eq!(keys_of(&world, &run), ["race › nap › sleep", "race › bad › ask", "race", "sleep"]);
    let (_, run) = alone(r#"race([|| { sleep("1m"); throw "no way" }, || sleep("1h")])"#);
    assert_eq!((run.state, run.error.unwrap().message.as_str()), (RunState::Failed, "no way"));
}

#[test]
fn of_two_that_end_at_the_same_moment_one_wins_for_ever() {
    let script = r#"
        let at = now() + "10m";
        let won = race([|| { sleep_until(at); step("a", || 1) }, || { sleep_until(at); "b" }, || { sleep_until(at); "c" }]);
        let then = at + "1h";
        let again = race(#{ b: || sleep_until(then), a: || sleep_until(then) }, #{ id: "again" });
        sleep("1h");
        [won.index, again.name]
    "#;
    let (_, run) = alone(script);
    assert_eq!(output(&run), r#"[1,"a"]"#, "one that has nothing more to do; of two alike the one that stands first");
}

#[test]
fn a_race_outlives_the_end_of_its_engine() {
    let script = r#"
        let won = race(#{
            steps: || { let a = step("first", || { log::info("first"); 1 }); let b = wait_for_event("x/y").data.n; step("second", || a + b) },
            other: || wait_for_signal("go"),
        });
        sleep("1h");
        step("after", || won)
    "#;
    let world = world(script);
    let event = world.block_on(world.send("a/b", "{}")).unwrap();
    let run = world.block_on(world.until(event, &[RunState::Waiting]));
    world.block_on(opens(&world, &run, "race › other › go"));
    let world = world.killed();
    world.block_on(world.send("x/y", r#"{"n":2}"#)).unwrap();
    let run = world.block_on(world.until(event, &[RunState::Sleeping, RunState::Completed]));
    assert!(!waits_of(&world, &run).iter().any(|row| row.state == WaitState::Open), "the other wait is closed");
    let world = world.restart();
    let run = world.block_on(world.ended(event));
    assert_eq!(output(&run), r#"{"name":"steps","value":3}"#);
    assert_eq!(keys_of(&world, &run), ["race › steps › first", "race › steps › x/y", "race › steps › second", "race", "sleep", "after"]);
    let logs = world.store.logs(run.id, 0, 0).unwrap();
    assert_eq!(logs.len(), 1, "a replay is silent, and runs no step again: {logs:?}");
}

#[test]
fn a_replay_from_a_later_step_keeps_the_race_and_one_from_the_race_runs_it_anew() {
    let script = r#"
        let won = race(#{ ask: || step("ask", || { log::info("asked"); 1 }), late: || sleep("1h") });
        step("after", || won)
    "#;
    let (world, run) = alone(script);
    let again = |keep: Keep| {
        let new = world.block_on(world.engine.replay(run.id, &keep, false)).unwrap().run;
        let new = world.block_on(world.ended_run(new.id));
        (output(&new).to_owned(), world.store.logs(new.id, 0, 0).unwrap().len())
    };
    let from = |step: &str| Keep { from: Some(step.to_owned()), set: Vec::new() };
    assert_eq!(again(from("after")), (r#"{"name":"ask","value":1}"#.to_owned(), 0));
    assert_eq!(again(from("race")), (r#"{"name":"ask","value":1}"#.to_owned(), 1));
    let set = Keep { from: None, set: vec![("race".to_owned(), r#"{"name":"late","value":null}"#.into())] };
    assert_eq!(again(set), (r#"{"name":"late","value":null}"#.to_owned(), 0));
}

impl World {
    /// Waits until a run has ended.
    async fn ended_run(&self, run: stepwell::base::RunId) -> RunRow {
        let mut notices = self.engine.subscribe();
        loop {
            let row = self.store.run(run).unwrap().unwrap();
            if row.state.is_terminal() {
                return row;
            }
            notices.recv().await.unwrap();
        }
    }
}

#[test]
fn races_stand_in_branches_and_branches_in_races() {
    let script = r#"
        let both = parallel(#{
            first: || race(#{ event: || wait_for_event("x/y").data.n, late: || sleep("1d") }),
            second: || { sleep("2h"); race([|| wait_for_event("x/y"), || sleep("1m")]).index },
        });
        let whole = race(#{ all: || parallel([|| invoke("g", #{ n: 1 }), || { sleep("1m"); 3 }]), never: || wait_for_signal("never") });
        [both.first.value, both.second, whole.name, whole.value]
    "#;
    let world = world(script);
    world.block_on(async {
        let busy = world.engine.busy();
        let event = world.send("a/b", "{}").await.unwrap();
        let run = world.until(event, &[RunState::Waiting]).await;
        opens(&world, &run, "first › race › event › x/y").await;
        world.send("x/y", r#"{"n":5}"#).await.unwrap();
        while !keys_of(&world, &run).contains(&"first › race".to_owned()) {
            tokio::task::yield_now().await;
        }
        drop(busy);
        let run = world.ended(event).await;
        assert_eq!(output(&run), r#"[5,1,"all",[2,3]]"#);
        let mut races: Vec<String> = keys_of(&world, &run).into_iter().filter(|key| key.ends_with("race")).collect();
        races.sort();
        assert_eq!(races, ["first › race", "race", "second › race"]);
    });
    world.nothing_waits();
}
