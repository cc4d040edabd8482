//! Branches of a run: at once, each with its own records, over waits, failures and the end of an engine.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use stepwell::base::Span;
use stepwell::rules::{RunRow, RunState};
use stepwell::store::Store;

use super::World;

const HOUR: Span = Span::seconds(3_600);

fn world(script: &str) -> World {
    let yaml = "events: { a/b: {}, x/y: {} }\n\
                functions: { f: { on: a/b, retries: { attempts: 3, backoff: fixed, initial: 1m } }, g: { on: x/y } }\n";
    World::new(yaml, &[("f", script), ("g", "if event.data.n == 3 { fail(\"three\"); } step(\"double\", || event.data.n * 2)")])
}

impl World {
    fn run(&self, data: &str) -> RunRow {
        self.block_on(async {
            let event = self.send("a/b", data).await.unwrap();
            self.ended(event).await
        })
    }

    fn keys(&self, run: &RunRow) -> Vec<String> {
        self.store.journal(run.id).unwrap().records.iter().map(|record| record.key.to_string()).collect()
    }
}

pub fn output(run: &RunRow) -> &str {
    assert_eq!(run.state, RunState::Completed, "{run:?}");
    run.output.as_deref().unwrap()
}

fn took(run: &RunRow) -> Span {
    run.ended.unwrap().since(run.started.unwrap())
}

#[test]
fn branches_come_in_three_shapes() {
    let script = r#"
        let named = parallel(#{ mail: || step("send", || "sent"), audit: || step("store", || event.data.n) });
        let listed = parallel([|| step("x", || 1), || { step("x", || 2); step("x", || 3) }]);
        let each = parallel(["a", "bb", "ccc"], |item| step("length", || item.len()), #{ limit: 2 });
        let none = parallel([]);
        #{ named: named, listed: listed, each: each, none: none }
    "#;
    let world = world(script);
    let run = world.run(r#"{"n":7}"#);
    assert_eq!(output(&run), r#"{"each":[1,2,3],"listed":[1,3],"named":{"audit":7,"mail":"sent"},"none":[]}"#);
    let mut keys = world.keys(&run);
    keys.sort();
    let expected = ["0 › length", "0 › x", "1 › length", "1 › x", "1 › x#2", "2 › length", "audit › store", "mail › send"];
    assert_eq!(keys, expected);
}

#[test]
fn branches_of_branches_have_all_their_names() {
    let script = r#"
        let out = parallel(#{
            a: || parallel([1, 2], |n| { let m = step("m", || n * 10); sleep("nap", "1h"); step("m", || m + 1) }),
            b: || { sleep("30m"); step("b", || 5) },
        });
        let again = parallel(#{ a: || step("m", || 0) });
        out.again = again.a;
        out
    "#;
    let world = world(script);
    let run = world.run("{}");
    assert_eq!(output(&run), r#"{"a":[11,21],"again":0,"b":5}"#);
    assert!(took(&run) >= HOUR && took(&run) < Span(HOUR.0 + 60_000), "they sleep at the same time: {}", took(&run));
    let mut keys = world.keys(&run);
    keys.sort();
    assert_eq!(keys, ["a › 0 › m", "a › 0 › m#2", "a › 0 › nap", "a › 1 › m", "a › 1 › m#2", "a › 1 › nap", "a › m", "b › b", "b › sleep"]);
}

#[test]
fn a_limit_holds_over_sleeps() {
    for (limit, hours) in [(1, 4), (2, 2), (4, 1)] {
        let script = r#"parallel([1, 2, 3, 4], |n| { sleep("1h"); step("x", || n) }, #{ limit: event.data.limit })"#;
        let run = world(script).run(&format!(r#"{{"limit":{limit}}}"#));
        assert_eq!(output(&run), "[1,2,3,4]");
        let took = took(&run);
        assert!(took >= Span(HOUR.0 * hours) && took < Span(HOUR.0 * hours + 60_000), "{limit} at once: {took}");
    }
}

#[test]
fn the_first_error_in_order_is_thrown_once_all_have_settled() {
    let script = r#"
        let caught = "";
        try {
            parallel([
                || { sleep("1h"); step("slow", #{ retries: 0 }, || throw "slow") },
                || step("fast", #{ retries: 0 }, || throw "fast"),
                || { sleep("2h"); step("fine", || 1) },
            ]);
        } catch (e) { caught = `${e.step}: ${e.message}`; }
        caught
    "#;
    let world = world(script);
    let run = world.run("{}");
    assert_eq!(output(&run), r#""0 › slow: slow""#);
    assert!(world.keys(&run).contains(&"2 › fine".to_owned()), "the others have come to their end");
}

#[test]
fn settled_branches_tell_each_what_became_of_them() {
    let script = r#"
        let all = parallel([|| step("a", || 1), || step("b", #{ retries: 0 }, || throw "no"), || throw "plain"], #{ settle: true });
        [all[0].ok, all[1].err.step, all[1].err.attempts, all[2].err]
    "#;
    assert_eq!(output(&world(script).run("{}")), r#"[1,"1 › b",1,"plain"]"#);
    // What they give can be returned as it is.
    let script =
        r#"parallel(#{ a: || 1, b: || step("b", #{ retries: 0 }, || throw "no"), c: || sleep(event.data.long) }, #{ settle: true })"#;
    let given: serde_json::Value = serde_json::from_str(output(&world(script).run("{}"))).unwrap();
    let (a, b, c) = (&given["a"]["ok"], &given["b"]["err"], &given["c"]["err"]);
    assert_eq!(
        (a.as_i64(), b["step"].as_str(), b["message"].as_str(), b["attempts"].as_i64()),
        (Some(1), Some("b › b"), Some("no"), Some(1))
    );
    assert_eq!(c["code"], "E0407", "{c}");
}

#[test]
fn a_failing_step_backs_off_without_holding_up_the_others() {
    let script = r#"
        parallel([
            || step("flaky", #{ retries: 2, backoff: #{ kind: "fixed", initial: "1h", jitter: 0.0 } }, || if run.attempt < 3 { throw "no" } else { run.attempt }),
            || { let out = []; for i in 0..5 { sleep("20m"); out.push(step("x", || run.attempt)); } out },
        ])
    "#;
    let world = world(script);
    let run = world.run("{}");
    assert_eq!(output(&run), "[3,[1,1,1,1,1]]");
    assert!(took(&run) >= Span(2 * HOUR.0) && took(&run) < Span(2 * HOUR.0 + 60_000), "{}", took(&run));
}

#[test]
fn code_between_the_steps_of_a_branch_is_tried_again() {
    let script = r#"parallel([|| { step("a", || 1); if run.attempt < 3 { throw "again" } run.attempt }, || step("b", || 2)])"#;
    let run = world(script).run("{}");
    assert_eq!(output(&run), "[3,2]");
}

#[test]
fn fail_in_a_branch_ends_the_run() {
    let script = r#"try { parallel([|| step("a", || fail("enough", 7)), || wait_for_event("x/y")]) } catch { } 1"#;
    let world = world(script);
    let run = world.run("{}");
    assert_eq!((run.state, run.error.unwrap().message.as_str()), (RunState::Failed, "enough"));
    world.store.all_waits(&mut |row| panic!("{row:?} is left behind")).unwrap();
}

#[test]
fn a_branch_works_on_copies_and_may_not_change_them() {
    let script = r#"
        let sum = 0;
        let items = [1, 2];
        let code = "";
        try { parallel([|| { sum += 1; }, || items.len()]); } catch (e) { code = `${e.code} ${e.message}`; }
        #{ code: code, sum: sum }
    "#;
    let run = world(script).run("{}");
    let expected = "E0411 a branch of parallel changes the captured variable `sum`; each branch works on a copy of its own";
    assert_eq!(output(&run), format!(r#"{{"code":"{expected}","sum":0}}"#));
}

#[test]
fn values_that_nobody_can_foresee_stay_what_they_were() {
    let script = r#"
        let drawn = parallel([1, 2, 3], |n| { let id = uuid(); sleep(`${n}m`); let seen = step("see", || id); [id == seen, random(1, 9) > 0] });
        sleep("1h");
        drawn
    "#;
    assert_eq!(output(&world(script).run("{}")), "[[true,true],[true,true],[true,true]]");
}

#[test]
fn functions_are_invoked_at_once() {
    let script = r#"
        let all = parallel([1, 2, 3, 4], |n| invoke("g", #{ n: n }), #{ settle: true });
        all.map(|one| if one.err == () { one.ok } else { one.err.code })
    "#;
    assert_eq!(output(&world(script).run("{}")), r#"[2,4,"E0426",8]"#);
}

#[test]
fn a_crash_keeps_the_branches_that_were_recorded() {
    let script = r#"
        parallel(#{
            done: || step("once", || { log::info("once"); 1 }),
            waits: || wait_for_event("x/y").data.n,
            sleeps: || { sleep("1000d"); step("never", || 3) },
        }, #{ settle: true })
    "#;
    let script = script.replace(r#"sleep("1000d"); step("never", || 3)"#, r#"wait_for_signal("go"); step("late", || 3)"#);
    let world = world(&script);
    let event = world.block_on(world.send("a/b", "{}")).unwrap();
    let run = world.block_on(world.until(event, &[RunState::Waiting]));
    let why = world.block_on(world.engine.why(&run)).unwrap();
    assert!(why.contains("event `x/y`") && why.contains("signal `go`"), "{why}");
    let world = world.crash();
    world.block_on(world.send("x/y", r#"{"n":2}"#)).unwrap();
    let world = world.restart();
    while world.block_on(world.engine.signal("go", "null".into())).unwrap() == 0 {}
    let run = world.block_on(world.ended(event));
    assert_eq!(output(&run), r#"{"done":{"ok":1},"sleeps":{"ok":3},"waits":{"ok":2}}"#);
    let logs = world.store.logs(run.id, 0, 0).unwrap();
    assert_eq!(logs.len(), 1, "the step ran once, and a replay is silent: {logs:?}");
}

#[test]
fn a_branch_that_waits_goes_on_while_another_one_is_at_work() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = r#"
        parallel(#{
            slow: || step("call", || http::get(event.data.url).text),
            waits: || { let got = wait_for_event("x/y").data.n; sleep("1s"); let more = step("more", || got + 1); step("after", || more + 1) },
        })
    "#;
    let world = world(script);
    world.block_on(async {
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let event = world.send("a/b", &format!(r#"{{"url":"{url}"}}"#)).await.unwrap();
        let mut stream = accepted(listener).await;
        let run = world.until(event, &[RunState::Running]).await;
        while world.store.waits(run.id).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let mut notices = world.engine.subscribe();
        world.send("x/y", r#"{"n":1}"#).await.unwrap();
        while !world.keys(&run).contains(&"waits › after".to_owned()) {
            notices.recv().await.unwrap();
        }
        assert!(!world.keys(&run).contains(&"slow › call".to_owned()), "the other branch is at its step still");
        answer(&mut stream, "late");
        let run = world.ended(event).await;
        assert_eq!(output(&run), r#"{"slow":"late","waits":3}"#);
    });
}

#[test]
fn a_run_that_waits_is_told_to_try_the_branch_that_backs_off_again() {
    let script = r#"
        parallel(#{
            trips: || step("trip", || { if run.attempt < 2 { throw "not yet" } run.attempt }),
            waits: || wait_for_signal("go"),
        })
    "#;
    let world = world(script);
    world.block_on(async {
        // Nothing may jump to the next attempt.
        let _busy = world.engine.busy();
        let event = world.send("a/b", "{}").await.unwrap();
        let run = world.until(event, &[RunState::Waiting]).await;
        let mut notices = world.engine.subscribe();
        world.engine.retry_now(run.id).await.unwrap();
        while !world.keys(&run).contains(&"trips › trip".to_owned()) {
            notices.recv().await.unwrap();
        }
        assert_eq!(world.engine.signal("go", "7".into()).await.unwrap(), 1, "its wait is open still");
        let run = world.ended(event).await;
        assert_eq!(output(&run), r#"{"trips":2,"waits":7}"#);
        assert!(took(&run) < Span::seconds(60), "{run:?}");
    });
}

/// The next connection.
pub async fn accepted(listener: TcpListener) -> TcpStream {
    tokio::task::spawn_blocking(move || listener.accept().unwrap().0).await.unwrap()
}

pub fn answer(stream: &mut TcpStream, text: &str) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        request.push(byte[0]);
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len()).unwrap();
}

#[test]
fn many_branches_come_to_their_end() {
    let script = r#"
        let items = [];
        for i in 0..300 { items.push(i); }
        parallel(items, |i| { let a = step("a", || i); if i % 3 == 0 { sleep("1m"); } step("b", || a + 1) }, #{ limit: 40 }).reduce(|sum, n| sum + n, 0)
    "#;
    let world = world(script);
    let run = world.run("{}");
    assert_eq!(output(&run), "45150");
    assert_eq!(world.keys(&run).len(), 700);
}

#[test]
fn two_events_of_one_request_are_for_two_branches_that_wait() {
    let script = r#"
        let all = parallel([|| wait_for_event("x/y", #{ id: "one", timeout: "1h" }), || wait_for_event("x/y", #{ id: "other", timeout: "1h" })]);
        all.map(|event| if event == () { () } else { event.data.n })
    "#;
    let world = world(script);
    world.block_on(async {
        let busy = world.engine.busy();
        let event = world.send("a/b", "{}").await.unwrap();
        world.until(event, &[RunState::Waiting]).await;
        let events = [1, 2].map(|n| super::event("x/y", &format!(r#"{{"n":{n}}}"#)));
        world.engine.accept(events.into()).await.unwrap();
        drop(busy);
        assert_eq!(output(&world.ended(event).await), "[1,2]");
    });
}
