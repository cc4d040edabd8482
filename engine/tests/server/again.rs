//! Runs done again, tried again and chosen by a condition; why events did what they did; functions invoked by hand.

use reqwest::Method;
use serde_json::{Value, json};
use stepwell::rules::RunState;

use super::*;

impl Server {
    async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    /// Does a run again and gives the new one's id once it is in `state`.
    async fn replayed(&self, run: &str, body: Value, state: RunState) -> String {
        let mut notices = self.engine.subscribe();
        let answer = self.post(&format!("/v1/runs/{run}/replay"), body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let new = answer.body["data"]["run_id"].as_str().unwrap().to_owned();
        until(&mut notices, new.parse().unwrap(), state).await;
        new
    }

    async fn run(&self, id: &str) -> Value {
        self.get(&format!("/v1/runs/{id}")).await.body["data"].clone()
    }

    async fn log(&self, id: &str) -> Vec<String> {
        let lines = self.get(&format!("/v1/runs/{id}/logs")).await.body["data"].clone();
        lines.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_replay_keeps_what_came_before_the_step_and_is_shown_both_ways() {
    let server = Server::start().await;
    let old = server.run_in(RunState::Failed, json!({"name": "app/pay", "data": {"broken": true}})).await;
    assert_eq!(server.log(&old).await, ["charging"]);
    let whole = server.replayed(&old, json!({}), RunState::Failed).await;
    assert_eq!(server.log(&whole).await, ["charging"], "all of it is done again");
    let kept = server.replayed(&old, json!({"from_step": "pack"}), RunState::Failed).await;
    assert_eq!(server.log(&kept).await, Vec::<String>::new(), "what is kept is not done again");
    let trace = server.get(&format!("/v1/runs/{kept}/trace")).await.body["data"].clone();
    assert_eq!((&trace["steps"][0]["key"], &trace["steps"][0]["output"]), (&json!("charge"), &json!({"id": "c1"})));
    assert_eq!(trace["run"]["replay_of"], old.as_str());
    let shown = server.run(&old).await;
    assert_eq!(shown["replayed_as"], json!([whole, kept]));
    assert_eq!((&shown["state"], &shown["event_id"]), (&json!("failed"), &server.run(&kept).await["event_id"]));
    let listed = server.get(&format!("/v1/runs?replay_of={old}")).await;
    assert_eq!(listed.ids(), [kept.as_str(), whole.as_str()]);

    let done = server.run_in(RunState::Completed, json!({"name": "app/pay", "data": {}})).await;
    let body = json!({"set": {"charge": {"id": "c2"}}});
    let set = server.replayed(&done, body, RunState::Completed).await;
    assert_eq!(server.run(&set).await["output"], json!({"charge": "c2", "pack": "packed"}));
}

#[tokio::test]
async fn a_replay_passes_the_limit_of_its_key() {
    let server = Server::start().await;
    let first = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u1"}})).await;
    Answer::of(server.request(Method::DELETE, &format!("/v1/runs/{first}"))).await;
    server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u1"}})).await;
    let again = server.post(&format!("/v1/runs/{first}/replay"), json!({"from_step": "rest"})).await.body["data"].clone();
    assert_eq!(again["kept"], json!(["before"]));
    let run = server.run(again["run_id"].as_str().unwrap()).await;
    assert_eq!((&run["state"], &run["keys"]), (&json!("queued"), &json!(["u1"])));
    assert!(run["why"].as_str().unwrap().contains("slot"), "{run}");
}

#[tokio::test]
async fn what_cannot_be_done_again_is_refused_and_nothing_is_done() {
    let server = Server::start().await;
    let asleep = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u"}})).await;
    let done = server.run_in(RunState::Completed, json!({"name": "app/pay", "data": {}})).await;
    let refused = |run: &str, body: Value| {
        let (server, path) = (&server, format!("/v1/runs/{run}/replay"));
        async move { server.post(&path, body).await }
    };
    assert!(refused(&asleep, json!({})).await.is_error(409).contains("sleeping"));
    assert!(refused(&done, json!({"from_step": "chrage"})).await.is_error(400).contains("did you mean `charge`?"));
    assert!(refused(&done, json!({"set": {"chrage": 1}})).await.is_error(400).contains("did you mean `charge`?"));
    assert!(refused(&done, json!({"from_step": "charge", "set": {"pack": 1}})).await.is_error(400).contains("done again"));
    assert!(refused(&done, json!({"form_step": "charge"})).await.is_error(400).contains("form_step"));
    refused("0000000000001", json!({})).await.is_error(404);
    let checked = refused(&done, json!({"from_step": "pack", "dry_run": true})).await.body["data"].clone();
    assert_eq!((&checked["run_id"], &checked["kept"]), (&Value::Null, &json!(["charge"])));
    assert_eq!(server.get("/v1/runs").await.ids().len(), 2);
}

#[tokio::test]
async fn a_run_that_backs_off_goes_on_at_once() {
    let server = Server::start().await;
    let run = server.run_in(RunState::BackingOff, json!({"name": "app/fail"})).await;
    let mut notices = server.engine.subscribe();
    let answer = server.post(&format!("/v1/runs/{run}/retry-now"), json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    until(&mut notices, run.parse().unwrap(), RunState::BackingOff).await;
    let trace = server.get(&format!("/v1/runs/{run}/trace")).await.body["data"].clone();
    assert_eq!(trace["steps"][0]["attempts"].as_array().unwrap().len(), 2, "{trace}");
    server.post(&format!("/v1/runs/{run}/retry-now"), json!({})).await;
    until(&mut notices, run.parse().unwrap(), RunState::Failed).await;
    server.post(&format!("/v1/runs/{run}/retry-now"), json!({})).await.is_error(409);
    let asleep = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u"}})).await;
    assert!(server.post(&format!("/v1/runs/{asleep}/retry-now"), json!({})).await.is_error(409).contains("sleeping"));
}

#[tokio::test]
async fn many_are_done_again_once_and_cancelled() {
    let server = Server::start().await;
    for n in 1..=3 {
        server.run_in(RunState::Failed, json!({"name": "app/pay", "data": {"broken": true, "n": n}})).await;
    }
    let many = |body: Value| {
        let server = &server;
        async move { server.post("/v1/replays", body).await.body["data"].clone() }
    };
    let wanted = json!({"function": "pay", "if": "event.data.n >= 2", "from_step": "pack"});
    let counted = many(json!({"function": "pay", "if": "event.data.n >= 2", "dry_run": true})).await;
    assert_eq!((&counted["matched"], &counted["done"], &counted["dry_run"]), (&json!(2), &json!(0), &json!(true)));
    let unbounded = server.post("/v1/replays", json!({"from_step": "pack"})).await;
    assert!(unbounded.is_error(400).contains("a replay of many says which runs it means"));
    assert_eq!(many(json!({"dry_run": true})).await["matched"], 3);
    assert_eq!(server.get("/v1/runs").await.ids().len(), 3);
    let mut notices = server.engine.subscribe();
    let done = many(wanted.clone()).await;
    assert_eq!((&done["matched"], &done["done"]), (&json!(2), &json!(2)));
    for run in done["runs"].as_array().unwrap() {
        assert!(run["run_id"].as_str().unwrap() < run["replayed_as"].as_str().unwrap(), "{run}");
    }
    for _ in 0..2 {
        while !matches!(notices.recv().await.unwrap(), Notice::Run { state: RunState::Failed, .. }) {}
    }
    let again = many(json!({"function": "pay", "if": "event.data.n >= 2 && run.replay_of == null", "dry_run": true})).await;
    assert_eq!((&again["matched"], &again["replayed_before"]), (&json!(2), &json!(2)));
    assert_eq!(many(json!({"function": "pay", "since": "2100-01-01T00:00:00Z"})).await["matched"], 0);
    assert!(server.post("/v1/replays", json!({"if": "evnt.data.n > 1"})).await.is_error(400).contains("event"));

    for user in ["a", "b"] {
        server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": user}})).await;
    }
    let unbounded = server.post("/v1/cancellations", json!({"reason": "a slip", "app_id": "test"})).await;
    assert!(unbounded.is_error(400).contains("which runs it means"));
    assert_eq!(server.post("/v1/cancellations", json!({"dry_run": true})).await.body["data"]["matched"], 2);
    let elsewhere = server.post("/v1/cancellations", json!({"app_id": "another", "function_id": "nap"})).await;
    assert!(elsewhere.is_error(400).contains("serves the app `test`"));
    let cancel = json!({"app_id": "test", "function_id": "nap", "if": "event.data.userId == 'a'", "reason": "moved away"});
    let cancelled = server.post("/v1/cancellations", cancel).await.body["data"].clone();
    assert_eq!((&cancelled["matched"], &cancelled["done"]), (&json!(1), &json!(1)));
    let run = server.run(cancelled["runs"][0]["run_id"].as_str().unwrap()).await;
    assert_eq!((&run["state"], &run["why"], &run["key"]), (&json!("cancelled"), &json!("moved away"), &json!("a")));
    assert_eq!(server.get("/v1/runs?status=sleeping").await.ids().len(), 1);
}

#[tokio::test]
async fn many_are_chosen_by_their_state_and_by_when_they_were_made() {
    let server = Server::start().await;
    let done = server.run_in(RunState::Completed, json!({"name": "app/pay", "data": {}})).await;
    server.run_in(RunState::Failed, json!({"name": "app/pay", "data": {"broken": true}})).await;
    let early = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "a"}})).await;
    let before = server.engine.clock().now();
    // Times are told in milliseconds, and the next run has to be made in a later one.
    while server.engine.clock().now() <= before {
        tokio::task::yield_now().await;
    }
    let late = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "b"}})).await;
    let (start, middle) = (server.run(&early).await["created_at"].clone(), server.run(&late).await["created_at"].clone());
    let meant = |path: &'static str, body: Value| {
        let server = &server;
        async move {
            let view = server.post(path, body).await.body["data"].clone();
            let runs = view["runs"].as_array().unwrap_or_else(|| panic!("{view}"));
            let ids: Vec<String> = runs.iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect();
            assert_eq!(view["matched"], ids.len(), "{view}");
            ids
        }
    };
    for (bounds, expected) in [
        (json!({"since": middle}), vec![&late]),
        (json!({"started_after": middle}), vec![&late]),
        (json!({"until": middle}), vec![&early]),
        (json!({"started_before": middle}), vec![&early]),
        (json!({"since": start, "until": middle}), vec![&early]),
        (json!({"since": start}), vec![&early, &late]),
        (json!({"since": "1h"}), vec![&early, &late]),
        (json!({"until": "1h"}), vec![]),
        (json!({"status": ["sleeping"]}), vec![&early, &late]),
        (json!({"status": ["sleeping"], "if": "event.data.userId == 'b'"}), vec![&late]),
        (json!({"status": ["queued"]}), vec![]),
    ] {
        let mut body = bounds.clone();
        body["function"] = json!("nap");
        body["dry_run"] = json!(true);
        assert_eq!(meant("/v1/cancellations", body).await.iter().collect::<Vec<_>>(), expected, "{bounds}");
    }
    let unread = server.post("/v1/cancellations", json!({"since": "yesterday", "dry_run": true})).await;
    assert!(unread.is_error(400).contains("a length of time such as 2h"), "{}", unread.text);
    // A replay means the failed ones unless it says otherwise.
    let completed = json!({"function": "pay", "status": ["completed"], "dry_run": true});
    assert_eq!(meant("/v1/replays", completed).await, [done]);
    assert_eq!(meant("/v1/cancellations", json!({"function_id": "nap", "started_before": middle})).await, [early.as_str()]);
    assert_eq!((&server.run(&early).await["state"], &server.run(&late).await["state"]), (&json!("cancelled"), &json!("sleeping")));
}

#[tokio::test]
async fn runs_are_listed_by_a_condition_over_themselves_and_their_events() {
    let server = Server::start().await;
    let first = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u1"}})).await;
    server.sent(json!([{"name": "app/nap", "data": {"userId": "u1"}}, {"name": "app/ping", "data": {"userId": "u1"}}])).await;
    let listed = |condition: &'static str| {
        let server = &server;
        async move {
            let request = server.request(Method::GET, "/v1/runs").query(&[("where", condition)]);
            Answer::of(request).await
        }
    };
    assert_eq!(listed("event.data.userId == 'u1'").await.ids().len(), 3);
    assert_eq!(listed("event.name == 'app/nap' && run.state == 'sleeping'").await.ids(), [first.as_str()]);
    let behind = listed("run.why.contains('slot')").await;
    assert_eq!(behind.ids().len(), 1, "{}", behind.text);
    assert_eq!((&behind.body["data"][0]["state"], &behind.body["data"][0]["function_id"]), (&json!("queued"), &json!("nap")));
    assert_eq!(listed("run.attempt > 99").await.ids().len(), 0);
    assert!(listed("run.state = 'x'").await.is_error(400).contains("condition"));
}

#[tokio::test]
async fn events_are_listed_by_a_condition_and_by_families_page_by_page() {
    const OF_U1: (&str, &str) = ("where", "event.data.userId == 'u1'");
    let server = Server::start().await;
    let sent = json!([
        {"name": "app/nap", "data": {"userId": "u1"}},
        {"name": "app/ping", "data": {"userId": "u2"}},
        {"name": "app/ping", "data": {"userId": "u1"}},
        {"name": "app/ping", "data": {}},
    ]);
    let ids = server.sent(sent).await;
    let listed = |query: &'static [(&'static str, &'static str)]| {
        let server = &server;
        async move {
            let answer = Answer::of(server.request(Method::GET, "/v1/events").query(query)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let found = answer.body["data"].as_array().unwrap().iter().map(|event| event["internal_id"].as_str().unwrap().to_owned());
            (found.collect::<Vec<_>>(), answer.body["cursor"].as_str().map(str::to_owned))
        }
    };
    assert_eq!(listed(&[OF_U1]).await, (vec![ids[2].clone(), ids[0].clone()], None));
    assert_eq!(listed(&[OF_U1, ("name", "app/ping")]).await.0, [ids[2].as_str()]);
    assert_eq!(listed(&[("name", "app/*")]).await.0.len(), 4);
    assert_eq!(listed(&[("name", "app/n*")]).await.0, [ids[0].as_str()]);
    assert_eq!(listed(&[("name", "other/*")]).await.0.len(), 0);
    let (first, cursor) = listed(&[OF_U1, ("limit", "1")]).await;
    assert_eq!(first, [ids[2].as_str()]);
    let cursor = cursor.unwrap();
    let next = server.request(Method::GET, "/v1/events").query(&[OF_U1, ("limit", "1"), ("cursor", cursor.as_str())]);
    assert_eq!(Answer::of(next).await.body["data"][0]["internal_id"], ids[0].as_str());
    for wrong in ["event.data.userId = 'u1'", "run.state == 'failed'"] {
        let answer = Answer::of(server.request(Method::GET, "/v1/events").query(&[("where", wrong)])).await;
        assert!(answer.is_error(400).contains("is not a condition over `event`"), "{}", answer.text);
    }
}

const BRANCHES: &str = "
version: 1
events: { app/nap: {} }
functions: { branches: { on: app/nap } }
";

#[tokio::test]
async fn a_listed_run_that_waits_says_when_another_branch_of_it_goes_on() {
    let server = Server::of(BRANCHES, Arc::new(Memory::new()), |options| options.any_key = true).await;
    let run = server.run_in(RunState::Waiting, json!({"name": "app/nap"})).await;
    let listed = server.get("/v1/runs?where=run.why.contains('a+branch+goes+on+in')").await;
    assert_eq!(listed.ids(), [run.as_str()], "{}", listed.text);
    let why = listed.body["data"][0]["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("waits for signal `go`; gives up in ") && why.contains("; a branch goes on in "), "{why}");
    let alone = server.run(&run).await;
    assert!(alone["why"].as_str().unwrap().contains("sleeps; goes on in "), "one run alone names each branch: {alone}");
}

#[tokio::test]
async fn an_event_explains_what_became_of_it() {
    let server = Server::start().await;
    let explained = |event: String| {
        let server = &server;
        async move { server.get(&format!("/v1/events/{event}/explain")).await.body["data"].clone() }
    };
    let skipped = server.sent(json!({"name": "app/nap", "data": {"skip": true, "userId": "u"}})).await.remove(0);
    let view = explained(skipped).await;
    let function = &view["functions"][0];
    assert_eq!((&function["function_id"], &function["outcome"]), (&json!("nap"), &json!("not_matched")));
    assert!(function["why"].as_str().unwrap().contains("event.data.skip != true"), "{function}");
    assert_eq!(function["conditions"][0]["values"], json!({"event.data.skip": true}));
    assert_eq!(view["summary"], "it started nothing; the `if` of 1 function is false");

    let run = server.run_in(RunState::Completed, json!({"name": "app/once", "data": {"key": "k"}})).await;
    let second = server.sent(json!({"name": "app/once", "data": {"key": "k"}})).await.remove(0);
    let function = explained(second).await["functions"][0].clone();
    assert_eq!((&function["outcome"], &function["gates"][0]["run_id"]), (&json!("idempotency_taken"), &json!(run)));
    let bare = server.sent(json!({"name": "app/once", "data": {}})).await.remove(0);
    let function = explained(bare).await["functions"][0].clone();
    assert_eq!(function["outcome"], "started");
    assert!(function["notes"][0].as_str().unwrap().contains("`idempotency` does not apply"), "{function}");

    let first = server.sent(json!({"name": "app/ping", "id": "p1"})).await.remove(0);
    let same = explained(first.clone()).await["deduplication"].clone();
    assert_eq!((&same["id"], &same["repeated_at"]), (&json!("p1"), &Value::Null));
    assert_eq!(server.sent(json!({"name": "app/ping", "id": "p1"})).await, std::slice::from_ref(&first));
    // The note goes the way of the events, so it is there once a later event is.
    server.sent(json!({"name": "app/ping"})).await;
    let view = explained(first).await;
    assert!(view["deduplication"]["repeated_at"].is_string(), "{view}");
    assert_eq!(view["functions"][0]["runs"].as_array().unwrap().len(), 1);
    server.get("/v1/events/0000000000001/explain").await.is_error(404);
}

/// Functions that each have a gate, of the same name as their event.
const GATES: &str = "
version: 1
events: { app/rate: {}, app/quiet: {}, app/batch: {}, app/skip: {}, app/cancel: {} }
functions:
  rate: { on: app/rate, rate_limit: { limit: 1, period: 1h }, handler: handlers/nap.rhai }
  quiet: { on: app/quiet, debounce: { period: 1h }, handler: handlers/nap.rhai }
  batch: { on: app/batch, batch: { size: 9, timeout: 1h }, handler: handlers/nap.rhai }
  skip: { on: app/skip, singleton: { mode: skip }, handler: handlers/nap.rhai }
  cancel: { on: app/cancel, singleton: { mode: cancel }, handler: handlers/nap.rhai }
";

#[tokio::test]
async fn an_event_explains_what_each_gate_made_of_it() {
    let server = Server::of(GATES, Arc::new(Memory::new()), |options| options.any_key = true).await;
    for (function, outcome, gate, names_run, why) in [
        ("rate", "rate_limited", "rate_limited", false, "skipped: its rate limit was reached until "),
        ("quiet", "debounced_into", "debounced_into", true, "debounced into run "),
        ("batch", "batched_into", "batched_into", true, "batched into run "),
        ("skip", "singleton_skipped", "singleton_skipped", true, "skipped: run "),
        ("cancel", "started", "singleton_replaced", true, "run "),
    ] {
        let event = json!({"name": format!("app/{function}")});
        let first = server.sent(event.clone()).await.remove(0);
        let run = server.get(&format!("/v1/events/{first}/runs")).await.body["data"][0]["run_id"].clone();
        let second = server.sent(event).await.remove(0);
        let view = server.get(&format!("/v1/events/{second}/explain")).await.body["data"]["functions"][0].clone();
        assert_eq!((&view["function_id"], &view["outcome"]), (&json!(function), &json!(outcome)), "{view}");
        let said = &view["gates"][0];
        let named = if names_run { run } else { Value::Null };
        assert_eq!((&said["outcome"], &said["run_id"], said["until"].is_string()), (&json!(gate), &named, !names_run), "{view}");
        assert!(said["why"].as_str().unwrap().starts_with(why), "{view}");
    }
}

const WAITING: &str = "
version: 1
events: { app/nap: {}, app/go: {}, app/stop: {} }
functions:
  wait: { on: app/nap, cancel_on: app/stop, handler: handlers/wait.rhai }
";

#[tokio::test]
async fn an_event_explains_which_waits_it_ended_and_which_runs_it_cancelled() {
    let server = Server::of(WAITING, Arc::new(Memory::new()), |options| options.any_key = true).await;
    let run = server.run_in(RunState::Waiting, json!({"name": "app/nap"})).await;
    let mut notices = server.engine.subscribe();
    let event = server.sent(json!({"name": "app/go"})).await.remove(0);
    until(&mut notices, run.parse().unwrap(), RunState::Sleeping).await;
    let explained = |event: String| {
        let server = &server;
        async move { server.get(&format!("/v1/events/{event}/explain")).await.body["data"].clone() }
    };
    let view = explained(event).await;
    let key = view["waits"][0]["key"].clone();
    assert!(key.is_string(), "{view}");
    assert_eq!(view["waits"], json!([{"run_id": run, "function_id": "wait", "key": key, "state": "sleeping"}]));
    assert_eq!(view["summary"], "no function is declared `on: app/go`, so it started nothing; it ended the wait of 1 run");
    let event = server.sent(json!({"name": "app/stop"})).await.remove(0);
    until(&mut notices, run.parse().unwrap(), RunState::Cancelled).await;
    assert_eq!(server.run(&run).await["why"], format!("cancel_on: app/stop {event} came"));
    let view = explained(event).await;
    assert_eq!(view["waits"], Value::Null);
    assert_eq!(view["cancelled"], json!([{"run_id": run, "function_id": "wait"}]));
    let says = |view: &Value, end: &str| assert!(view["summary"].as_str().unwrap().ends_with(end), "no `{end}`: {view}");
    says(&view, &format!("; it cancelled run {run} of `wait`"));
    assert_eq!(view["functions"], json!([]), "a function that it does not start has no verdict");
    let (one, two) = (json!({"name": "app/nap"}), json!({"name": "app/nap"}));
    let runs = [server.run_in(RunState::Waiting, one).await, server.run_in(RunState::Waiting, two).await];
    let view = explained(server.sent(json!({"name": "app/stop"})).await.remove(0)).await;
    assert_eq!(view["cancelled"], json!(runs.each_ref().map(|run| json!({"run_id": run, "function_id": "wait"}))));
    says(&view, &format!("; it cancelled 2 runs of `wait`, the first is {}", runs[0]));
    let view = explained(server.sent(json!({"name": "app/stop"})).await.remove(0)).await;
    assert_eq!(view["cancelled"], Value::Null);
    says(&view, "; it cancelled no run of `wait`");
}

/// Functions that the engine itself starts: by the clock, by hand, and once a run has failed.
const OWN_STARTS: &str = "
version: 1
events: { app/pay: {}, app/ping: {} }
functions:
  tick: { cron: '* * * * * *', handler: handlers/ping.rhai }
  ping: { on: app/ping }
  pay: { on: app/pay, retries: 0, on_failure: handlers/ping.rhai }
";
/// The same without them.
const WITHOUT_THEM: &str = "
version: 1
events: { app/pay: {} }
functions: { pay: { on: app/pay, retries: 0 } }
";

#[tokio::test]
async fn an_event_of_the_engines_own_says_which_function_is_gone_and_of_no_other_one() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let server = Server::of(OWN_STARTS, Arc::clone(&store), |options| options.any_key = true).await;
    let mut notices = server.engine.subscribe();
    let ticked = loop {
        if let Notice::Run { run, function, state: RunState::Completed, .. } = notices.recv().await.unwrap()
            && &*function == "tick"
        {
            break run.to_string();
        }
    };
    let invoked = server.post("/v1/functions/ping/invoke", json!({"wait": "1m"})).await.body["data"]["event_id"].clone();
    server.run_in(RunState::Failed, json!({"name": "app/pay", "data": {"broken": true}})).await;
    let failed = server.get("/v1/runs?function=pay.on_failure").await.body["data"][0]["event_id"].clone();
    let events = [("tick", server.run(&ticked).await["event_id"].clone()), ("ping", invoked), ("pay.on_failure", failed)];
    let outcome = |server: &Server, event: &Value| {
        let explain = server.request(Method::GET, &format!("/v1/events/{}/explain", event.as_str().unwrap()));
        async move { Answer::of(explain).await.body["data"]["functions"][0].clone() }
    };
    for (function, event) in &events {
        let told = outcome(&server, event).await;
        assert_eq!((&told["function_id"], &told["outcome"], &told["notes"]), (&json!(function), &json!("started"), &Value::Null));
    }
    server.stop().await;
    let server = Server::of(WITHOUT_THEM, store, |options| options.any_key = true).await;
    for (function, event) in &events {
        let told = outcome(&server, event).await;
        assert_eq!(told["function_id"], *function);
        assert!(told["notes"][0].as_str().unwrap().contains("does not declare this function"), "{told}");
    }
}

#[tokio::test]
async fn a_function_is_invoked_by_hand() {
    let server = Server::start().await;
    let invoked = server.post("/v1/functions/ping/invoke", json!({"data": {"a": 1}, "wait": "1m"})).await.body["data"].clone();
    assert_eq!((&invoked["ended"], &invoked["run"]["output"]), (&json!(true), &json!({"one": 1, "seen": {"a": 1}})));
    let event = server.get(&format!("/v1/events/{}", invoked["event_id"].as_str().unwrap())).await.body["data"].clone();
    assert_eq!((&event["name"], &event["data"]), (&json!("stepwell/invoked"), &json!({"a": 1})));
    let asleep = server.post("/v1/functions/nap/invoke", json!({"data": {"userId": "u"}})).await.body["data"].clone();
    assert_eq!(asleep["ended"], false);
    assert!(server.post("/v1/functions/pign/invoke", json!({})).await.is_error(404).contains("pign"));
    let refused = server.post("/v1/functions/order/invoke", json!({"data": {"amount": 0}})).await;
    assert!(refused.is_error(400).contains("amount"), "{}", refused.text);
    assert!(server.post("/v1/functions/ping/invoke", json!({"wait": "1d"})).await.is_error(400).contains("wait"));
}

#[tokio::test]
async fn the_config_and_the_figures_are_shown() {
    let server = Server::start().await;
    let config = server.get("/v1/config").await.body["data"].clone();
    let setting = |key: &str| config["settings"].as_array().unwrap().iter().find(|setting| setting["key"] == key).cloned();
    let limit = setting("functions.pay.retries.attempts").unwrap_or_else(|| panic!("{config:#}"));
    assert_eq!(limit["value"], 1, "{limit}");
    assert!(config["settings"].as_array().unwrap().iter().any(|setting| setting["origin"].as_str().unwrap().starts_with("events.yaml:")));
    assert_eq!(config["hash"].as_str().unwrap().len(), 64);
    server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u"}})).await;
    let figures = server.get("/metrics").await;
    assert!(figures.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(
        figures.text.contains("\nstepwell_runs_unfinished 1\n") && figures.text.contains("# TYPE stepwell_runs gauge\n"),
        "{}",
        figures.text
    );
    assert!(figures.text.contains("\nstepwell_healthy 1\n") && figures.text.contains("\nstepwell_ready 1\n"), "{}", figures.text);
    // Like all that tells something of the runs, the figures need a token where there is one.
    let closed = Server::with(|options| options.admin_token = Some("secret-token".to_owned())).await;
    closed.get("/metrics").await.is_error(401);
}
