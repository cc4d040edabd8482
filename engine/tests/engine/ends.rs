//! How runs end, and what that means for others: events that cancel them, scripts for failures, the engine's own events.
//! And functions that are paused.

use serde_json::{Value, json};

use stepwell::base::{Millis, Span};
use stepwell::exec::{NewEvent, PauseError};
use stepwell::rules::family::{self, Doomed};
use stepwell::rules::{Outcome, RunRow, RunState};
use stepwell::store::{Lane, RunQuery, Store};

use super::{World, event};

const EVENTS: &str = "events: { a/b: {}, x/y: {}, x/z: {}, n/n: {} }\n";
const ENDED: &[RunState] = &[RunState::Completed, RunState::Failed, RunState::Cancelled];

fn world(functions: &str, handlers: &[(&str, &str)]) -> World {
    World::new(&format!("{EVENTS}functions: {{ {functions} }}\n"), handlers)
}

fn output(run: &RunRow) -> Value {
    assert_eq!(run.state, RunState::Completed, "{run:?}");
    serde_json::from_str(run.output.as_deref().unwrap()).unwrap()
}

// ---- cancel_on ----

const BY_USER: &str = "cancel_on: { event: x/y, if: \"async.data.user == event.data.user\" }";
const EACH_WAY: &str = r#"
    switch event.data.how {
        "sleeping" => sleep("long", "1h"),
        "waiting" => wait_for_event("x/z"),
        "backing_off" => throw "no",
        "invoking" => invoke("g", #{}),
        "parallel" => parallel([|| sleep("1h"), || invoke("g", #{})]),
        _ => loop { step("spin", || { let i = 0; while i < 20000 { i += 1; } i }); },
    }
"#;

#[test]
fn an_event_cancels_a_run_in_whatever_state_it_is_and_what_it_has_started() {
    let functions = format!("f: {{ on: a/b, {BY_USER}, concurrency: {{ limit: 1, key: event.data.how }} }}, g: {{ on: n/n }}");
    let world = world(&functions, &[("f", EACH_WAY), ("g", r#"wait_for_event("x/z")"#)]);
    world.block_on(async {
        // Nothing may jump over the sleeps.
        let _busy = world.engine.busy();
        let mut runs = Vec::new();
        for (how, state) in [
            ("sleeping", RunState::Sleeping),
            ("waiting", RunState::Waiting),
            ("backing_off", RunState::BackingOff),
            ("invoking", RunState::Waiting),
            ("parallel", RunState::Waiting),
            ("running", RunState::Running),
            ("running", RunState::Queued),
        ] {
            let id = world.send("a/b", &json!({"user": "ada", "how": how}).to_string()).await.unwrap();
            let states = if how == "parallel" { vec![state, RunState::Sleeping] } else { vec![state] };
            runs.push((how, id, world.until(id, &states).await.id));
        }
        let other = world.send("a/b", r#"{"user": "bob", "how": "waiting"}"#).await.unwrap();
        let children = world.runs_of("g");
        for child in &children {
            world.until(child.event, &[RunState::Waiting]).await;
        }
        let by = world.send("x/y", r#"{"user": "ada"}"#).await.unwrap();
        for (how, id, run) in runs {
            let ended = world.until(id, ENDED).await;
            assert_eq!((ended.id, ended.state), (run, RunState::Cancelled), "{how}");
            assert_eq!(ended.reason.as_deref(), Some(&*format!("cancel_on: x/y {by} came")), "{how}");
        }
        assert_eq!(children.len(), 2);
        for child in world.runs_of("g") {
            let reason = child.reason.unwrap();
            assert!(child.state == RunState::Cancelled && reason.contains("the run that invoked it was cancelled: cancel_on"), "{reason}");
        }
        // Its key is free, so the next one's turn has come.
        let bob = world.until(other, &[RunState::Waiting]).await;
        world.send("x/z", "{}").await.unwrap();
        assert_eq!(world.until(other, ENDED).await.state, RunState::Completed, "{bob:?} is another user's");
        world.nothing_waits();
    });
}

#[test]
fn a_run_listens_over_restarts_and_kills() {
    let functions = format!("f: {{ on: a/b, {BY_USER} }}");
    let mut world = world(&functions, &[("f", r#"wait_for_event("x/z")"#)]);
    let ids: Vec<_> =
        ["ada", "bob", "eve"].map(|user| world.block_on(world.send("a/b", &json!({ "user": user }).to_string())).unwrap()).into();
    for (at, user) in ["ada", "bob"].iter().enumerate() {
        ids.iter().skip(at).for_each(|id| drop(world.block_on(world.until(*id, &[RunState::Waiting]))));
        world = if at == 0 { world.restart() } else { world.killed() };
        world.block_on(world.send("x/y", &json!({ "user": user }).to_string())).unwrap();
        let run = world.block_on(world.ended(ids[at]));
        assert_eq!(run.state, RunState::Cancelled, "{run:?}");
    }
    assert_eq!(world.block_on(world.until(ids[2], &[RunState::Waiting])).state, RunState::Waiting);
}

#[test]
fn what_a_run_sends_cancels_others_too() {
    let functions = format!("f: {{ on: a/b, {BY_USER} }}, g: {{ on: x/z }}");
    let sender = r#"send_event([#{ name: "x/y", data: #{ user: "ada" } }]); 1"#;
    let world = world(&functions, &[("f", r#"wait_for_signal("never")"#), ("g", sender)]);
    world.block_on(async {
        let id = world.send("a/b", r#"{"user": "ada"}"#).await.unwrap();
        world.until(id, &[RunState::Waiting]).await;
        world.send("x/z", "{}").await.unwrap();
        assert_eq!(world.ended(id).await.state, RunState::Cancelled);
    });
}

#[test]
fn an_event_cancels_nothing_after_the_time_out_nor_a_run_that_it_starts_nor_if_it_was_there_before() {
    let functions = "f: { on: a/b, cancel_on: [{ event: x/y, timeout: 10m }, a/b] }";
    let world = world(functions, &[("f", r#"wait_for_event("x/z", #{ timeout: "1h" }) == ()"#)]);
    world.block_on(async {
        let same = || NewEvent { sender_id: Some("k".into()), dedupe: Some("k".into()), ..event("x/y", "{}") };
        world.engine.accept(vec![same()]).await.unwrap();
        let busy = world.engine.busy();
        let id = world.send("a/b", "{}").await.unwrap();
        // A repeated event is not accepted anew.
        world.engine.accept(vec![same()]).await.unwrap();
        let start = world.engine.clock().now();
        let late = world.engine.at(start.after(Span::seconds(700)));
        drop(busy);
        let busy = late.await.unwrap();
        world.send("x/y", "{}").await.unwrap();
        drop(busy);
        let run = world.ended(id).await;
        assert_eq!(output(&run), true);
        // The next one cancels the one before, not itself.
        let busy = world.engine.busy();
        let first = world.send("a/b", "{}").await.unwrap();
        world.until(first, &[RunState::Waiting]).await;
        let second = world.send("a/b", "{}").await.unwrap();
        assert_eq!(world.ended(first).await.state, RunState::Cancelled);
        world.until(second, &[RunState::Waiting]).await;
        drop(busy);
        assert_eq!(world.ended(second).await.state, RunState::Completed);
    });
}

#[test]
fn a_run_that_invoked_one_which_is_cancelled_goes_on() {
    let functions = "f: { on: a/b }, g: { on: x/z, cancel_on: x/y }";
    let parent = r#"let why = ""; try { invoke("g", #{}); } catch (e) { why = e.message; } why"#;
    let world = world(functions, &[("f", parent), ("g", r#"wait_for_signal("never")"#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        world.run_until("g", &[RunState::Waiting]).await;
        world.send("x/y", "{}").await.unwrap();
        let output = output(&world.ended(id).await);
        assert!(output.as_str().unwrap().contains("was cancelled: cancel_on: x/y"), "{output}");
    });
}

// ---- on_failure ----

#[test]
fn the_script_for_failures_runs_once_and_sees_the_run_that_failed() {
    let functions = "f: { on: a/b, retries: 1, concurrency: { limit: 1, key: event.data.user }, on_failure: handlers/failed.rhai }";
    let script = r#"
        let first = step("note", || { if run.attempt == 1 { throw "again"; } [run.id, run.attempt] });
        sleep("a while", "1h");
        #{ run: first, function: run.function, key: run.key, event: event.data, name: event.name, error: error.message, step: error.step, attempts: error.attempts }
    "#;
    let world = world(functions, &[("f", r#"step("charge", || throw "no money")"#), ("failed", script)]);
    let busy = world.engine.busy();
    let id = world.block_on(world.send("a/b", r#"{"user": "ada", "n": 12345678901234567890}"#)).unwrap();
    world.block_on(world.until(id, &[RunState::BackingOff]));
    drop(busy);
    let failed = world.block_on(world.until(id, &[RunState::Failed]));
    world.block_on(world.run_until("f.on_failure", &[RunState::BackingOff, RunState::Sleeping, RunState::Completed]));
    let world = world.restart();
    let run = world.block_on(world.run_until("f.on_failure", ENDED));
    let expected = json!({
        "run": [failed.id.to_string(), 2], "function": "f", "key": "ada", "name": "a/b", "error": "no money", "step": "charge", "attempts": 2,
        "event": serde_json::from_str::<Value>(r#"{"user": "ada", "n": 12345678901234567890}"#).unwrap(),
    });
    assert_eq!(output(&run), expected);
    assert_ne!(run.id, failed.id);
    let world = world.killed();
    assert_eq!(world.runs_of("f.on_failure").len(), 1);
}

#[test]
fn only_a_failed_run_has_its_script_for_failures_run_and_that_one_has_none() {
    let functions = "f: { on: a/b, on_failure: handlers/failed.rhai }, watch: { on: stepwell/function.failed }";
    let script = r#"switch event.data.how { "fail" => fail("no"), "wait" => wait_for_signal("never"), _ => 1 }"#;
    let world = world(functions, &[("f", script), ("failed", r#"fail("this fails too")"#), ("watch", r#"fail(event.data.function_id)"#)]);
    world.block_on(async {
        let id = world.send("a/b", r#"{"how": "go"}"#).await.unwrap();
        assert_eq!(world.ended(id).await.state, RunState::Completed);
        let id = world.send("a/b", r#"{"how": "wait"}"#).await.unwrap();
        let waiting = world.until(id, &[RunState::Waiting]).await;
        world.engine.cancel(waiting.id, "enough").await.unwrap();
        assert!(world.runs_of("f.on_failure").is_empty());
        let id = world.send("a/b", r#"{"how": "fail"}"#).await.unwrap();
        world.ended(id).await;
        let own = world.run_until("f.on_failure", ENDED).await;
        assert_eq!((own.state, &*own.error.unwrap().message), (RunState::Failed, "this fails too"));
        let seen = world.run_until("watch", ENDED).await;
        assert_eq!(&*seen.error.unwrap().message, "f");
        // One event starts both, and neither end tells of itself.
        assert_eq!(own.event, seen.event);
        assert_eq!((world.events_of("stepwell/function.failed").len(), world.runs_of("watch").len()), (1, 1));
    });
}

// ---- time-outs ----

#[test]
fn a_run_that_takes_too_long_takes_what_it_has_invoked_with_it() {
    let functions = "f: { on: a/b, timeouts: { finish: 10m } }, g: { on: n/n }";
    let world = world(functions, &[("f", r#"invoke("g", #{})"#), ("g", r#"sleep("long", "30d"); 1"#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.ended(id).await;
        assert!(run.state == RunState::Cancelled && run.reason.as_ref().unwrap().starts_with("timeouts.finish"), "{run:?}");
        let child = world.run_until("g", ENDED).await;
        assert_eq!(child.state, RunState::Cancelled);
        assert!(child.reason.unwrap().contains("the run that invoked it was cancelled"));
        world.nothing_waits();
    });
}

#[test]
fn a_run_that_takes_too_long_is_cancelled_while_it_backs_off() {
    let functions = "f: { on: a/b, timeouts: { finish: 10m }, retries: { attempts: 5, backoff: fixed, initial: 1h } }";
    let world = world(functions, &[("f", r#"throw "no""#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.ended(id).await;
        assert!(run.state == RunState::Cancelled && run.reason.as_ref().unwrap().starts_with("timeouts.finish"), "{run:?}");
        let took = run.ended.unwrap().since(run.started.unwrap());
        assert!(took >= Span::seconds(600) && took < Span::seconds(3_600), "{run:?}");
    });
}

#[test]
fn the_end_of_a_run_that_waited_too_long_for_its_start_is_told() {
    let functions = "f: { on: a/b, concurrency: 1, timeouts: { start: 10m } }, ended: { on: stepwell/function.cancelled }";
    let world = world(functions, &[("f", r#"sleep("long", "1h"); 1"#), ("ended", "[event.data.run_id, event.data.reason]")]);
    world.block_on(async {
        world.send("a/b", "{}").await.unwrap();
        let second = world.send("a/b", "{}").await.unwrap();
        let late = world.ended(second).await;
        assert_eq!(late.state, RunState::Cancelled);
        let told = world.run_until("ended", ENDED).await;
        let reason = late.reason.unwrap();
        assert!(reason.starts_with("timeouts.start"), "{reason}");
        assert_eq!(output(&told), json!([late.id.to_string(), &*reason]));
    });
}

// ---- the engine's own events ----

#[test]
fn functions_are_started_by_the_ends_of_others() {
    let functions = "f: { on: a/b }, g: { on: x/z },
        ended: { on: [{ event: stepwell/function.finished, if: \"event.data.function_id == 'f'\" }, stepwell/function.cancelled], concurrency: 1 }";
    let script = r#"switch event.data.how { "fail" => fail("no", 7), "wait" => wait_for_signal("never"), _ => #{ n: event.data.n } }"#;
    let listener =
        r#"let d = event.data; [event.name, d.function_id, d.run_id, d.event.data.how, d?.result, d?.error?.message, d?.reason]"#;
    let world = world(functions, &[("f", script), ("g", "1"), ("ended", listener)]);
    world.block_on(async {
        let mut expected = Vec::new();
        for (how, end) in [("go", [json!({"n": 1.5}), json!(null), json!(null)]), ("fail", [json!(null), json!("no"), json!(null)])] {
            let id = world.send("a/b", &json!({"how": how, "n": 1.5}).to_string()).await.unwrap();
            let run = world.ended(id).await;
            expected.push(json!(["stepwell/function.finished", "f", run.id.to_string(), how, end[0], end[1], end[2]]));
        }
        let id = world.send("a/b", r#"{"how": "wait"}"#).await.unwrap();
        let waiting = world.until(id, &[RunState::Waiting]).await;
        world.engine.cancel(waiting.id, "enough").await.unwrap();
        expected.push(json!(["stepwell/function.cancelled", "f", waiting.id.to_string(), "wait", null, null, "enough"]));
        let id = world.send("x/z", "{}").await.unwrap();
        world.ended(id).await;
        let runs = loop {
            let runs = world.runs_of("ended");
            if runs.len() == 3 && runs.iter().all(|run| run.state.is_terminal()) {
                break runs;
            }
            tokio::task::yield_now().await;
        };
        let seen: Vec<Value> = runs.iter().rev().map(output).collect();
        assert_eq!(seen, expected);
        // The end of `g` is told, and its `if` is false; the ends of the listener are not told.
        assert_eq!(world.events_of("stepwell/function.finished").len(), 3);
        assert!(world.events_of("stepwell/function.failed").is_empty(), "nobody listens");
        assert!(world.send("stepwell/function.failed", "{}").await.is_err(), "nobody else may send them");
    });
}

#[test]
fn of_an_end_and_a_cancel_one_wins_and_that_one_is_told() {
    let functions = "f: { on: a/b, cancel_on: { event: x/y, if: \"async.data.n == event.data.n\" } },
        ended: { on: [stepwell/function.finished, stepwell/function.cancelled] }";
    let world = world(functions, &[("f", r#"step("one", || 1); step("two", || 2)"#), ("ended", "event.data.run_id")]);
    world.block_on(async {
        let mut ids = Vec::new();
        for n in 0..300 {
            let data = json!({ "n": n }).to_string();
            ids.push(world.send("a/b", &data).await.unwrap());
            // A little later each time, so that the cancel meets the run at every point of its way.
            for _ in 0..(n % 30) {
                tokio::task::yield_now().await;
            }
            let by_hand = n % 3 == 0;
            let run = world.store.runs(&RunQuery { event: ids.last().copied(), limit: 1, ..RunQuery::default() }).unwrap().remove(0);
            match by_hand {
                // It may have ended already.
                true => drop(world.engine.cancel(run.id, "enough").await),
                false => drop(world.send("x/y", &data).await.unwrap()),
            }
        }
        let mut told = std::collections::BTreeMap::new();
        for id in ids {
            let run = world.ended(id).await;
            told.insert(run.id.to_string(), run.state);
        }
        let name = |state| if state == RunState::Cancelled { "stepwell/function.cancelled" } else { "stepwell/function.finished" };
        let mut seen = std::collections::BTreeMap::new();
        for event in ["stepwell/function.finished", "stepwell/function.cancelled"] {
            for id in world.events_of(event) {
                let row = world.store.event(id).unwrap().unwrap();
                let data: Value = serde_json::from_str(&row.data).unwrap();
                let run = data["run_id"].as_str().unwrap().to_owned();
                assert_eq!(seen.insert(run.clone(), event), None, "{run} has two ends");
                assert_eq!(world.ended(id).await.output.as_deref(), Some(&*format!("\"{run}\"")));
            }
        }
        let expected: std::collections::BTreeMap<_, _> = told.into_iter().map(|(run, state)| (run, name(state))).collect();
        assert_eq!(seen, expected);
    });
}

#[test]
fn an_end_and_what_it_tells_are_one_commit() {
    let functions = "f: { on: a/b }, ended: { on: stepwell/function.finished }";
    let mut world = world(functions, &[("f", "1"), ("ended", "event.data.result")]);
    for _ in 0..3 {
        let id = world.block_on(world.send("a/b", "{}")).unwrap();
        world.block_on(world.ended(id));
        world = world.killed();
        let ended = world.runs_of("f").len();
        assert_eq!(world.runs_of("ended").len(), ended, "each end has its run, whenever the engine is killed");
        assert_eq!(world.runs_of("f").iter().filter(|run| run.state == RunState::Completed).count(), ended);
    }
}

const LISTENER: &str = r#"[event.data.function_id, event.data.event.data.n, event.data.reason.split(" ")[0]]"#;

impl World {
    /// Waits until so many runs of `ended` have ended; what each of them saw, in the order of the run that it was told of.
    async fn seen(&self, number: usize) -> Vec<Value> {
        let runs = loop {
            let runs = self.runs_of("ended");
            if runs.len() >= number && runs.iter().all(|run| run.state.is_terminal()) {
                break runs;
            }
            tokio::task::yield_now().await;
        };
        let told = |run: &RunRow| {
            let event = self.store.event(run.event).unwrap().unwrap();
            serde_json::from_str::<Value>(&event.data).unwrap()["run_id"].as_str().unwrap().to_owned()
        };
        let mut seen: Vec<(String, Value)> = runs.iter().map(|run| (told(run), output(run))).collect();
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        seen.into_iter().map(|(_, value)| value).collect()
    }
}

#[test]
fn the_cancel_of_a_run_whose_place_another_one_takes_is_told() {
    let functions = "f: { on: a/b, singleton: { mode: cancel } }, g: { on: n/n }, ended: { on: stepwell/function.cancelled }";
    let script = r#"if event.data.n == 4 { invoke("g", #{ n: 40 }) } else { wait_for_signal("never") }"#;
    let world = world(functions, &[("f", script), ("g", r#"wait_for_signal("never")"#), ("ended", LISTENER)]);
    world.block_on(async {
        // In one request the first ones are replaced before they are stored.
        let events = (1..=4).map(|n| event("a/b", &json!({ "n": n }).to_string())).collect();
        world.engine.accept(events).await.unwrap();
        world.run_until("g", &[RunState::Waiting]).await;
        world.send("a/b", r#"{"n":5}"#).await.unwrap();
        let seen = world.seen(5).await;
        let of = |function: &str, n: i32, why: &str| json!([function, n, why]);
        let expected = [1, 2, 3, 4].map(|n| of("f", n, "singleton:")).into_iter().chain([of("g", 0, "the")]);
        let seen: Vec<Value> = seen.into_iter().map(|one| if one[0] == "g" { of("g", 0, one[2].as_str().unwrap()) } else { one }).collect();
        assert_eq!(seen, expected.collect::<Vec<_>>());
        assert_eq!(world.runs_of("f").iter().filter(|run| !run.state.is_terminal()).count(), 1);
    });
    let world = world.killed();
    assert_eq!(world.runs_of("ended").len(), 5);
}

#[test]
fn a_parked_run_that_is_cancelled_frees_its_singleton() {
    let functions = "f: { on: a/b, singleton: {} }, g: { on: x/y }";
    let world = world(functions, &[("f", r#"wait_for_signal("go"); event.data.n"#), ("g", "1")]);
    let id = world.block_on(world.send("a/b", r#"{"n":1}"#)).unwrap();
    let run = world.block_on(world.until(id, &[RunState::Waiting])).id;
    let whole = std::fs::read_to_string(world.folder.path().join("events.yaml")).unwrap();
    let write = |world: &World, text: &str| std::fs::write(world.folder.path().join("events.yaml"), text).unwrap();
    write(&world, &whole.replace("f: { on: a/b, singleton: {} },", ""));
    let world = world.restart();
    world.block_on(async {
        world.engine.signal("go", "1".into()).await.unwrap();
        world.until(id, &[RunState::Parked]).await;
    });
    write(&world, &whole);
    let world = world.restart();
    world.block_on(async {
        let skipped = world.send("a/b", r#"{"n":2}"#).await.unwrap();
        let said = world.store.outcomes(skipped).unwrap();
        assert_eq!(said.first().map(|row| row.outcome), Some(Outcome::SingletonSkipped(run)), "a parked run is not finished");
        world.engine.cancel(run, "enough").await.unwrap();
        let next = world.send("a/b", r#"{"n":3}"#).await.unwrap();
        world.until(next, &[RunState::Waiting]).await;
    });
}

#[test]
fn a_run_that_was_invoked_while_its_parent_was_cancelled_is_cancelled_after_a_kill() {
    let functions = "f: { on: a/b }, g: { on: x/y }, h: { on: x/z }, ended: { on: stepwell/function.cancelled }";
    let scripts = [("f", r#"invoke("g", #{ n: 1 })"#), ("g", r#"invoke("h", #{ n: 2 })"#), ("h", r#"wait_for_signal("never")"#)];
    let world = world(functions, &[&scripts[..], &[("ended", "event.data.function_id")]].concat());
    let parent = world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        world.run_until("h", &[RunState::Waiting]).await;
        world.until(id, &[RunState::Waiting]).await
    });
    let child = world.runs_of("g").remove(0);
    assert_eq!(child.invoked_by, Some(parent.id));
    // The list of a cancel that was decided on before the child was made, as it is committed with an event.
    let doomed = Doomed { run: parent.clone(), reason: "cancel_on: x/y came".into(), told: Vec::new() };
    let list = family::cancel(vec![doomed], None, Millis(parent.created.0 + 1));
    world.block_on(world.store.commit(Lane::Steps, vec![list])).unwrap().remove(0).unwrap();
    let world = world.killed();
    world.block_on(async {
        for function in ["g", "h"] {
            let run = world.run_until(function, ENDED).await;
            let reason = run.reason.unwrap_or_default();
            assert_eq!(run.state, RunState::Cancelled, "{function}");
            assert!(reason.starts_with("the run that invoked it was cancelled") && reason.ends_with("cancel_on: x/y came"), "{reason}");
        }
        let seen = world.seen(2).await;
        assert_eq!(seen, ["g", "h"]);
    });
}

// ---- batches ----

#[test]
fn what_is_told_of_a_batch_holds_all_of_its_events() {
    let functions = "f: { on: a/b, retries: 0, batch: { size: 3, timeout: 1h }, on_failure: handlers/failed.rhai },
        ended: { on: [stepwell/function.failed, stepwell/function.finished] }";
    let script = r#"if events[0].data.n == 1 { throw "no" } events.len()"#;
    let failed = r#"[event.data.n, events.map(|one| one.data.n), events[1].id, error.message]"#;
    let told = r#"[event.data.event.data.n, event.data.events.map(|one| one.data.n)]"#;
    let world = world(functions, &[("f", script), ("failed", failed), ("ended", told)]);
    let ids = world.block_on(async {
        let events = (1..=4).map(|n| event("a/b", &json!({ "n": n }).to_string())).collect();
        // Nothing may jump to the end of the batch's time before the last of them is accepted.
        let _busy = world.engine.busy();
        world.engine.accept(events).await.unwrap()
    });
    let own = world.block_on(world.run_until("f.on_failure", ENDED));
    assert_eq!(output(&own), json!([1, [1, 2, 3], ids[1].to_string(), "no"]));
    let seen = world.block_on(world.seen(3));
    assert_eq!(seen, [json!([1, [1, 2, 3]]), json!([1, [1, 2, 3]]), json!([4, [4]])], "a batch of one event, too");
}

// ---- pause and resume ----

#[test]
fn a_paused_function_begins_nothing_and_loses_nothing() {
    let functions = "f: { on: a/b, concurrency: { limit: 2 }, timeouts: { start: 1h } }, g: { on: x/y }";
    let world = world(functions, &[("f", r#"if event.data.n == 0 { wait_for_event("x/z"); } event.data.n"#), ("g", "1")]);
    // Time stands still until all are sent.
    let busy = world.engine.busy();
    let begun = world.block_on(async {
        let begun = world.send("a/b", r#"{"n": 0}"#).await.unwrap();
        world.until(begun, &[RunState::Waiting]).await;
        let row = world.engine.pause("f", true).await.unwrap();
        assert_eq!(world.engine.pause("f", true).await.unwrap(), row, "a second time changes nothing");
        begun
    });
    let data = |n: i32| json!({ "n": n }).to_string();
    let ids: Vec<_> = (1..5).map(|n| world.block_on(world.send("a/b", &data(n))).unwrap()).collect();
    world.block_on(async {
        let other = world.send("x/y", "{}").await.unwrap();
        assert_eq!(world.ended(other).await.state, RunState::Completed, "another function goes on");
        world.send("x/z", "{}").await.unwrap();
        assert_eq!(world.ended(begun).await.state, RunState::Completed, "what has begun goes on");
        let queued = world.until(ids[0], &[RunState::Queued]).await;
        let why = world.engine.why(&queued).await.unwrap();
        assert!(why.starts_with("paused: `f` is paused") && why.contains("stepwell functions resume f"), "{why}");
        assert_eq!(world.engine.counts().queued, 4);
        world.engine.cancel(world.until(ids[3], &[RunState::Queued]).await.id, "not needed").await.unwrap();
        // The time that it is paused does not count for timeouts.start.
        let at = Millis(world.engine.clock().now().0 + 7_200_000);
        drop(busy);
        assert!(world.engine.at(at).await.is_some());
    });
    let world = world.restart();
    world.block_on(async {
        let queued = world.until(ids[0], &[RunState::Queued]).await;
        assert!(world.engine.why(&queued).await.unwrap().starts_with("paused"), "also after a restart");
        assert!(world.engine.paused_since("f").is_some() && world.engine.paused_since("g").is_none());
        world.engine.pause("f", false).await.unwrap();
        for id in &ids[..3] {
            assert_eq!(world.ended(*id).await.state, RunState::Completed);
        }
        let runs = world.store.runs(&RunQuery { function: Some("f".into()), ..RunQuery::default() }).unwrap();
        let mut started: Vec<(Option<Millis>, RunRow)> = runs.into_iter().map(|run| (run.started, run)).collect();
        started.sort_by_key(|(at, run)| (*at, run.id));
        let order: Vec<_> = started.iter().filter_map(|(_, run)| run.output.as_deref()).collect();
        assert_eq!(order, ["0", "1", "2", "3"], "in the order of their events");
        assert_eq!(world.ended(ids[3]).await.state, RunState::Cancelled);
        assert_eq!(world.engine.pause("h", true).await, Err(PauseError::NotFound("h".into())));
    });
}

#[test]
fn what_stands_in_line_when_its_function_is_paused_waits_too() {
    let functions = "f: { on: a/b, concurrency: { limit: 1, key: event.data.k } }";
    let world = world(functions, &[("f", r#"if event.data.n == 0 { wait_for_signal("go"); } event.data.n"#)]);
    world.block_on(async {
        let mut ids = Vec::new();
        for n in 0..4 {
            ids.push(world.send("a/b", &json!({"k": "same", "n": n}).to_string()).await.unwrap());
        }
        world.until(ids[0], &[RunState::Waiting]).await;
        world.engine.pause("f", true).await.unwrap();
        world.engine.signal("go", "1".into()).await.unwrap();
        world.ended(ids[0]).await;
        // By the second answer the scheduler has seen the free slot and started whom it would.
        for _ in 0..2 {
            let second = world.until(ids[1], &[RunState::Queued]).await;
            assert!(world.engine.why(&second).await.unwrap().starts_with("paused"));
        }
        world.engine.pause("f", false).await.unwrap();
        for id in &ids[1..] {
            assert_eq!(world.ended(*id).await.state, RunState::Completed);
        }
    });
}
