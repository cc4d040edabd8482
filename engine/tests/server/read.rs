//! What the reading routes and the cancel answer.

use reqwest::Method;
use serde_json::{Value, json};
use stepwell::rules::RunState;
use stepwell::server::view::{EventView, FunctionView, LogView, One, Page, RunView, StepStatus, Trace};

use super::*;

#[tokio::test]
async fn a_finished_run_is_shown_in_inngests_shape_with_more_fields() {
    let server = Server::start().await;
    let run = server.run_in(RunState::Completed, json!({"name": "app/ping", "data": {"a": 1}})).await;
    let answer = server.get(&format!("/v1/runs/{run}")).await;
    let data = &answer.body["data"];
    assert_eq!(data["run_id"], run.as_str());
    assert_eq!((&data["function_id"], &data["status"], &data["state"]), (&json!("ping"), &json!("Completed"), &json!("completed")));
    assert_eq!((&data["steps"], &data["attempt"], &data["error"]), (&json!(1), &json!(1), &Value::Null));
    assert_eq!(data["output"], json!({"one": 1, "seen": {"a": 1}}));
    for time in ["run_started_at", "ended_at", "created_at"] {
        assert!(data[time].as_str().unwrap().ends_with('Z'), "{time}: {data}");
    }
    assert_eq!(answer.body["metadata"]["fetched_at"], answer.body["metadata"]["cached_until"]);
    let view: One<RunView> = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(view.data.run_id.to_string(), run);
}

#[tokio::test]
async fn a_trace_has_the_steps_and_no_tiny_records() {
    let server = Server::start().await;
    let run = server.run_in(RunState::Completed, json!({"name": "app/ping"})).await;
    let answer = server.get(&format!("/v1/runs/{run}/trace")).await;
    let trace: One<Trace> = serde_json::from_str(&answer.text).unwrap();
    let steps: Vec<_> = trace.data.steps.iter().map(|step| (step.key.as_str(), step.status, step.attempts.len())).collect();
    assert_eq!(steps, [("one", StepStatus::Completed, 1)]);
    assert_eq!(trace.data.steps[0].output.as_ref().unwrap().get(), "1");
    assert!(trace.data.steps[0].line.as_deref().unwrap().ends_with("ping.rhai:1"), "{:?}", trace.data.steps[0].line);
    assert_eq!(trace.data.event.unwrap().name, "app/ping");
}

#[tokio::test]
async fn a_sleeping_and_a_stumbling_run_say_why_and_until_when() {
    let server = Server::start().await;
    let asleep = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u1"}})).await;
    let run = server.get(&format!("/v1/runs/{asleep}")).await.body["data"].clone();
    assert_eq!(
        (&run["status"], &run["state"], &run["key"], &run["keys"]),
        (&json!("Running"), &json!("sleeping"), &json!("u1"), &json!(["u1"]))
    );
    assert!(run["why"].as_str().unwrap().contains("sleeping") && run["wakes_at"].is_string(), "{run}");
    let trace = server.get(&format!("/v1/runs/{asleep}/trace")).await.body["data"].clone();
    assert_eq!((&trace["steps"][1]["kind"], &trace["steps"][1]["status"]), (&json!("sleep"), &json!("sleeping")));
    assert_eq!(trace["steps"][1]["until"], run["wakes_at"]);
    // The key's one slot is taken, so the next run of that key waits behind it.
    let behind = server.sent(json!({"name": "app/nap", "data": {"userId": "u1"}})).await.remove(0);
    let behind = server.get(&format!("/v1/events/{behind}/runs")).await.body["data"][0].clone();
    assert_eq!(behind["state"], "queued");
    assert!(!behind["why"].as_str().unwrap().is_empty(), "{behind}");

    let stumbling = server.run_in(RunState::BackingOff, json!({"name": "app/fail"})).await;
    let run = server.get(&format!("/v1/runs/{stumbling}")).await.body["data"].clone();
    assert_eq!((&run["status"], &run["state"]), (&json!("Running"), &json!("backing_off")));
    assert!(run["error"]["message"].as_str().unwrap().contains("no luck"), "{run}");
    let trace = server.get(&format!("/v1/runs/{stumbling}/trace")).await.body["data"].clone();
    let step = &trace["steps"][0];
    assert_eq!((&step["key"], &step["status"], &step["ended_at"]), (&json!("trip"), &json!("backing_off"), &Value::Null));
    assert_eq!((&step["attempts"][0]["attempt"], &step["attempts"][0]["next_at"]), (&json!(1), &run["wakes_at"]));
}

#[tokio::test]
async fn a_run_that_stands_in_line_says_that_the_disk_is_full() {
    let disk = Disk::new(Ingest::Open);
    let server = Server::on(Arc::clone(&disk) as _, |options| options.any_key = true).await;
    server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u1"}})).await;
    let behind = server.sent(json!({"name": "app/nap", "data": {"userId": "u1"}})).await.remove(0);
    let path = format!("/v1/events/{behind}/runs");
    let why = async || server.get(&path).await.body["data"][0]["why"].as_str().unwrap().to_owned();
    assert!(why().await.starts_with("waits for a slot"), "{}", why().await);
    *disk.ingest.lock().unwrap() = Ingest::Full(0);
    server.send(json!({"name": "app/nap", "data": {"userId": "u1"}})).await.is_error(507);
    let full = why().await;
    assert!(full.starts_with("the disk is full") && full.contains("; besides, waits for a slot"), "{full}");
    disk.open();
    server.sent(json!({"name": "app/nap", "data": {"userId": "u1"}})).await;
    assert!(why().await.starts_with("waits for a slot"), "{}", why().await);
}

#[tokio::test]
async fn logs_come_in_order_and_by_pages() {
    let server = Server::start().await;
    let run = server.run_in(RunState::Completed, json!({"name": "app/ping", "data": {"n": 7}})).await;
    let page: Page<LogView> = serde_json::from_str(&server.get(&format!("/v1/runs/{run}/logs")).await.text).unwrap();
    assert_eq!(page.data.len(), 1);
    assert_eq!((page.data[0].message.as_str(), page.data[0].step.as_str()), ("hello", "one"));
    assert_eq!(page.data[0].data.as_ref().unwrap().get(), r#"{"n":7}"#);
    assert_eq!(server.get(&format!("/v1/runs/{run}/logs?cursor=1")).await.body["data"], json!([]));
    server.get(&format!("/v1/runs/{run}/logs?cursor=x")).await.is_error(400);
}

#[tokio::test]
async fn lists_are_newest_first_and_pages_join_without_gap_or_overlap() {
    let server = Server::start().await;
    let mut ids = server.sent(Value::from(vec![json!({"name": "app/nap", "data": {"userId": "u"}}); 25])).await;
    ids.reverse();
    for path in ["/v1/events?limit=10", "/v1/runs?limit=10&status=queued,running,sleeping"] {
        let mut seen: Vec<String> = Vec::new();
        let mut cursor = String::new();
        for pages in 1.. {
            let page = server.get(&format!("{path}&cursor={cursor}")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            seen.extend(page.ids().iter().map(|id| (*id).to_owned()));
            match page.body["cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => {
                    assert_eq!(pages, 3);
                    break;
                }
            }
        }
        assert_eq!(seen.len(), 25, "{path}");
        assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        if path.starts_with("/v1/events") {
            assert_eq!(seen, ids);
        }
    }
    // Events that come while somebody pages do not move the pages.
    let first = server.get("/v1/events?limit=5").await;
    server.sent(json!({"name": "app/ping"})).await;
    let second = server.get(&format!("/v1/events?limit=5&cursor={}", first.body["cursor"].as_str().unwrap())).await;
    assert_eq!(second.ids(), ids[5..10]);
}

#[tokio::test]
async fn filters_choose_runs_and_events() {
    let server = Server::start().await;
    let done = server.run_in(RunState::Completed, json!({"name": "app/ping"})).await;
    let asleep = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u1"}})).await;
    let numbered = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": 12}})).await;
    let runs = |query: String| {
        let server = &server;
        async move { server.get(&format!("/v1/runs?{query}")).await.ids().iter().map(|id| (*id).to_owned()).collect::<Vec<_>>() }
    };
    assert_eq!(runs("status=Completed".into()).await, [done.as_str()]);
    assert_eq!(runs("status=Running".into()).await, [numbered.clone(), asleep.clone()]);
    assert_eq!(runs("status=sleeping&status=completed&limit=2".into()).await, [numbered.clone(), asleep.clone()]);
    assert_eq!(runs("status=running".into()).await, Vec::<String>::new());
    assert_eq!(runs("function=nap&key=u1".into()).await, [asleep.as_str()]);
    assert_eq!(runs("key=%22u1%22".into()).await, [asleep.as_str()]);
    assert_eq!(runs("key=12".into()).await, [numbered.as_str()]);
    assert_eq!(runs("key=%2212%22".into()).await, Vec::<String>::new());
    assert_eq!(runs(format!("prefix={done}")).await, [done.as_str()]);
    assert_eq!(runs(format!("prefix={}", &done[..4])).await.len(), 3);
    assert_eq!(runs("since=1h".into()).await.len(), 3);
    assert_eq!(runs("since=2100-01-01T00:00:00Z".into()).await, Vec::<String>::new());
    assert_eq!(runs("until=2100-01-01T00:00:00Z".into()).await.len(), 3);
    assert_eq!(runs("until=1h".into()).await, Vec::<String>::new());
    // Between two of them, whose times may be the same: what is created at that time is not before it.
    let created = |run: &str| {
        let (server, path) = (&server, format!("/v1/runs/{run}"));
        async move { server.get(&path).await.body["data"]["created_at"].as_str().unwrap().to_owned() }
    };
    let last = created(&numbered).await;
    let mut before = Vec::new();
    for run in [&asleep, &done] {
        if created(run).await < last {
            before.push(run.clone());
        }
    }
    assert_eq!(runs(format!("until={last}")).await, before);
    assert_eq!(runs(format!("since={last}&until={last}")).await, Vec::<String>::new());
    let event = server.get(&format!("/v1/runs/{asleep}")).await.body["data"]["event_id"].as_str().unwrap().to_owned();
    assert_eq!(runs(format!("event={event}")).await, [asleep]);
    let events = server.get("/v1/events?name=app/nap&received_after=1h").await;
    let events: Page<EventView> = serde_json::from_str(&events.text).unwrap();
    assert_eq!(events.data.iter().map(|event| event.data.get()).collect::<Vec<_>>(), [r#"{"userId":12}"#, r#"{"userId":"u1"}"#]);
    for bad in [
        "status=runing",
        "stauts=failed",
        "limit=0",
        "limit=x",
        "cursor=zz",
        "event=1",
        "since=soon",
        "until=soon",
        "prefix=u",
        "limit=1&limit=2",
    ] {
        server.get(&format!("/v1/runs?{bad}")).await.is_error(400);
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let server = Server::start().await;
    let none = "0000000000001";
    for path in [
        format!("/v1/events/{none}"),
        format!("/v1/events/{none}/runs"),
        format!("/v1/runs/{none}"),
        format!("/v1/runs/{none}/trace"),
        format!("/v1/runs/{none}/logs"),
        "/v1/runs/not-an-id".to_owned(),
        "/v1/runs/%ff".to_owned(),
        "/nothing".to_owned(),
        "/v1/nothing".to_owned(),
        format!("/v1/events/{none}/explain"),
        "/e/k/more".to_owned(),
    ] {
        let answer = server.get(&path).await;
        let status = if path.contains("%ff") { 400 } else { 404 };
        answer.is_error(status);
    }
    Answer::of(server.request(Method::DELETE, &format!("/v1/runs/{none}"))).await.is_error(404);
}

#[tokio::test]
async fn a_cancel_ends_a_run_with_its_reason_once() {
    let server = Server::start().await;
    let run = server.run_in(RunState::Sleeping, json!({"name": "app/nap"})).await;
    let path = format!("/v1/runs/{run}?reason=no%20more");
    let cancelled = Answer::of(server.request(Method::DELETE, &path)).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    let data = &cancelled.body["data"];
    assert_eq!((&data["status"], &data["state"], &data["why"]), (&json!("Cancelled"), &json!("cancelled"), &json!("no more")));
    let again = Answer::of(server.request(Method::DELETE, &path)).await;
    assert!(again.is_error(409).contains("cancelled"), "{}", again.text);
}

#[tokio::test]
async fn functions_are_listed_with_what_they_were_declared_with() {
    let server = Server::start().await;
    let page: Page<FunctionView> = serde_json::from_str(&server.get("/v1/functions").await.text).unwrap();
    let ids: Vec<_> = page.data.iter().map(|function| function.id.as_str()).collect();
    assert_eq!(ids, ["ping", "nap", "stumble", "pay", "order", "once"]);
    let nap = &page.data[1];
    assert_eq!((nap.triggers[0].event.as_str(), nap.triggers[0].condition.as_deref()), ("app/nap", Some("event.data.skip != true")));
    assert_eq!(
        (nap.concurrency[0].limit, nap.concurrency[0].key.as_deref(), nap.concurrency[0].hold.as_str()),
        (1, Some("event.data.userId"), "run")
    );
    assert_eq!(page.data[2].retries.attempts, 3);
    assert_eq!(nap.version.len(), 64);
}

#[tokio::test]
async fn health_and_the_first_page_answer_without_more() {
    let server = Server::start().await;
    let health = server.get("/health").await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((health.status, health.text), (200, format!(r#"{{"status":200,"message":"OK","version":"{version}"}}"#)));
    assert_eq!(server.get("/ready").await.status, 200);
    let page = server.get("/").await;
    assert!(page.text.contains("POST /e/KEY"), "{}", page.text);
    let head = Answer::of(server.request(Method::HEAD, "/health")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}
