//! `/metrics` of real engines, and the files that build on it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::scrape::Page;
use super::{ask, get, project, run_in, send, until};
use crate::program::{self, repository};

const CONFIG: &str = r#"
version: 1
secrets: [HOOK_SECRET]
http: { allow: ["127.0.0.0/8"] }
webhooks:
  git: { scheme: github, secret: HOOK_SECRET, event: "'app/ping'" }
events:
  app/ping: {}
  app/nap: {}
  app/fail: {}
  app/call: {}
  app/order: { schema: { type: object, required: [amount] } }
functions:
  ping: { on: app/ping, concurrency: { limit: 2, key: event.data.user } }
  nap: { on: app/nap, concurrency: 1 }
  call: { on: app/call }
  stumble: { on: app/fail, retries: { attempts: 3, backoff: fixed, initial: 1ms, jitter: 0 } }
"#;

const FILES: [(&str, &str); 5] = [
    ("events.yaml", CONFIG),
    ("handlers/ping.rhai", "step(\"one\", || 1); step(\"two\", || 2)"),
    ("handlers/nap.rhai", "sleep(\"rest\", \"1h\")"),
    ("handlers/call.rhai", "step(\"call\", || http::get(event.data.url, #{ timeout: \"5m\" }).status)"),
    ("handlers/stumble.rhai", "step(\"trip\", || { throw \"no luck\"; });"),
];

/// `stepwell run` in a folder with these files.
fn serve(folder: &Path) -> program::Server {
    program::Server::start(program::command("stepwell", folder).arg("run").env("HOOK_SECRET", "a-secret-of-a-webhook"))
}

fn scrape(server: &program::Server) -> Page {
    let (status, text) = ask(server, "GET", "/metrics", &[], "");
    assert_eq!(status, 200, "{text}");
    Page::read(&text)
}

#[test]
fn figures_tell_what_the_engine_does() {
    let folder = project(&FILES);
    let server = serve(folder.path());
    let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let began = clock();
    let sent = |name: &str, data: Value| send(&server, name, data);
    for user in ["u1", "u2", "u1"] {
        let event = sent("app/ping", json!({"user": user}));
        run_in(&server, &event, "completed");
    }
    let failed = sent("app/fail", json!({}));
    run_in(&server, &failed, "failed");
    let asleep = sent("app/nap", json!({}));
    let run = run_in(&server, &asleep, "sleeping")["run_id"].as_str().unwrap().to_owned();
    // It holds the only slot while it sleeps, so this one waits.
    let behind = sent("app/nap", json!({}));
    run_in(&server, &behind, "queued");
    let json_type = [("content-type", "application/json")];
    for body in ["{", r#"{"name":"app/pong"}"#, r#"{"name":"app/order","data":{}}"#] {
        assert_eq!(ask(&server, "POST", "/e/key", &json_type, body).0, 400, "{body}");
    }
    for _ in 0..2 {
        let (status, answer) = ask(&server, "POST", "/e/key", &json_type, r#"{"name":"app/ping","id":"same"}"#);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 200, "{answer}");
        run_in(&server, answer["ids"][0].as_str().unwrap(), "completed");
    }
    assert_eq!(ask(&server, "POST", "/e/key", &[("content-type", "text/plain")], "{}").0, 415);

    let page = scrape(&server);
    assert_eq!(page.value("stepwell_events_accepted_total", &[]), 7.0);
    assert_eq!(page.value("stepwell_events_repeated_total", &[]), 1.0);
    for (reason, count) in
        [("malformed", 1.0), ("unknown_event", 1.0), ("schema", 1.0), ("content_type", 1.0), ("key", 0.0), ("disk_full", 0.0)]
    {
        assert_eq!(page.value("stepwell_requests_refused_total", &[("reason", reason)]), count, "{reason}");
    }
    let runs = |function, state| page.value("stepwell_runs", &[("function", function), ("state", state)]);
    assert_eq!(
        (runs("nap", "sleeping"), runs("nap", "queued"), runs("nap", "running"), runs("stumble", "backing_off")),
        (1.0, 1.0, 0.0, 0.0)
    );
    assert_eq!(page.value("stepwell_runs_unfinished", &[]), 2.0);
    let ended = |function, state| page.value("stepwell_runs_ended_total", &[("function", function), ("state", state)]);
    assert_eq!((ended("stumble", "failed"), ended("stumble", "completed"), ended("nap", "cancelled")), (1.0, 0.0, 0.0));
    assert_eq!(page.value("stepwell_attempts_failed_total", &[("function", "stumble")]), 3.0);
    assert_eq!(page.value("stepwell_retries_total", &[("function", "stumble")]), 2.0);
    assert_eq!(
        page.value("stepwell_step_duration_seconds_count", &[("function", "ping")]),
        page.value("stepwell_start_delay_seconds_count", &[("function", "ping")]) * 2.0
    );
    assert_eq!(page.value("stepwell_run_duration_seconds_count", &[("function", "stumble")]), 1.0);
    assert_eq!(page.value("stepwell_queue_depth", &[("function", "nap")]), 1.0);
    let slots = |name: &str| page.value(name, &[("limit", "nap#0")]);
    assert_eq!((slots("stepwell_slots_limit"), slots("stepwell_slots_taken"), slots("stepwell_slots_keys")), (1.0, 1.0, 1.0));
    for name in ["stepwell_commit_duration_seconds_count", "stepwell_commit_rows_sum", "stepwell_commit_lists_sum"] {
        assert!(page.value(name, &[]) > 0.0, "{name}");
    }
    for name in
        ["stepwell_store_bytes", "stepwell_wal_bytes", "stepwell_disk_free_bytes", "process_resident_memory_bytes", "process_open_fds"]
    {
        assert!(page.value(name, &[]) > 0.0, "{name}");
    }
    for name in ["stepwell_commits_failed_total", "stepwell_spans_exported_total", "stepwell_traces_dropped_total"] {
        assert_eq!(page.value(name, &[]), 0.0, "{name}");
    }
    assert_eq!((page.value("stepwell_healthy", &[]), page.value("stepwell_ready", &[])), (1.0, 1.0));
    let config = get(&server, "/v1/config")["data"]["hash"].as_str().unwrap()[..12].to_owned();
    assert_eq!(page.value("stepwell_info", &[("version", env!("CARGO_PKG_VERSION")), ("config", &config)]), 1.0);
    assert_eq!(page.value("stepwell_runs_executing", &[]), 0.0);
    // Those that sleep are in no line, and the one behind it has been there at most since it was sent.
    let oldest = |page: &Page, function| page.value("stepwell_queue_oldest_seconds", &[("function", function)]);
    let waited = until(|| Some(oldest(&scrape(&server), "nap")).filter(|seconds| *seconds > 0.0));
    let at_most = clock() - began;
    assert!(waited <= at_most, "{waited} s, of {at_most} s");
    assert_eq!(oldest(&page, "ping"), 0.0);
    // A cancel is counted wherever it is decided.
    assert_eq!(ask(&server, "DELETE", &format!("/v1/runs/{run}"), &json_type, "").0, 200);
    let cancelled = |page: &Page| page.value("stepwell_runs_ended_total", &[("function", "nap"), ("state", "cancelled")]);
    assert_eq!(ask(&server, "POST", "/webhooks/git", &json_type, "{}").0, 401);
    let other = scrape(&server);
    assert_eq!(cancelled(&other), 1.0);
    // The page has rows for webhooks and limits, whose families are there from the start.
    assert_eq!(page.unread(), ["stepwell_webhook_requests_total"], "a figure that no test reads");
    assert_eq!(other.value("stepwell_webhook_requests_total", &[("webhook", "git"), ("became", "unsigned")]), 1.0);
    let page = other;
    // No key of a user is a label, so that their number has a bound.
    let labels = page.labels();
    let known = ["function", "state", "reason", "limit", "webhook", "became", "le", "version", "config"];
    assert!(labels.iter().all(|label| known.contains(&label.as_str())), "{labels:?}");

    // What stands in the queue is known after a kill; what was counted begins anew.
    run_in(&server, &behind, "sleeping");
    until(|| (oldest(&scrape(&server), "nap") == 0.0).then_some(()));
    server.kill();
    let server = serve(folder.path());
    let page = scrape(&server);
    assert_eq!(page.value("stepwell_runs", &[("function", "nap"), ("state", "sleeping")]), 1.0);
    assert_eq!(page.value("stepwell_slots_taken", &[("limit", "nap#0")]), 1.0);
    assert_eq!(page.value("stepwell_events_accepted_total", &[]), 0.0);
}

#[test]
fn a_run_at_work_and_an_engine_that_is_not_well_are_told_of() {
    let folder = project(&FILES);
    let server = serve(folder.path());
    // Whoever calls it is let in, and hears nothing as long as it is kept.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    send(&server, "app/call", json!({"url": format!("http://{}/", silent.local_addr().unwrap())}));
    let caller = silent.accept().unwrap();
    let value = |name: &str| scrape(&server).value(name, &[]);
    assert_eq!(value("stepwell_runs_executing"), 1.0);
    drop(caller);
    let good = std::fs::read_to_string(folder.path().join("events.yaml")).unwrap();
    let reloaded = |config: &str| {
        std::fs::write(folder.path().join("events.yaml"), config).unwrap();
        ask(&server, "POST", "/v1/reload", &[("content-type", "application/json")], "").0
    };
    assert_eq!((reloaded("version: 1\nfunktions: {}\n"), value("stepwell_healthy")), (422, 0.0));
    assert_eq!(value("stepwell_ready"), 1.0, "events are taken all the same");
    assert_eq!((reloaded(&good), value("stepwell_healthy")), (200, 1.0));
}

#[test]
fn parked_and_paused_runs_are_counted_as_such() {
    let folder = project(&FILES);
    let brief = "  brief: { on: app/nap }\n";
    std::fs::write(folder.path().join("events.yaml"), format!("{CONFIG}{brief}")).unwrap();
    std::fs::write(folder.path().join("handlers/brief.rhai"), "wait_for_signal(\"go\", #{ timeout: \"1h\" })").unwrap();
    let server = serve(folder.path());
    let json_type = [("content-type", "application/json")];
    assert_eq!(ask(&server, "POST", "/v1/functions/ping/pause", &json_type, "").0, 200);
    let paused = send(&server, "app/ping", json!({}));
    run_in(&server, &paused, "paused");
    let count =
        |server: &program::Server, function, state| scrape(server).value("stepwell_runs", &[("function", function), ("state", state)]);
    // A row is written first, and then the queue is told.
    let counted = |server: &program::Server, function, state| until(|| (count(server, function, state) == 1.0).then_some(()));
    counted(&server, "ping", "paused");
    let asked = send(&server, "app/nap", json!({}));
    run_in(&server, &asked, "waiting");
    server.kill();
    // Its function is not there any more when its signal comes.
    std::fs::write(folder.path().join("events.yaml"), CONFIG).unwrap();
    let server = serve(folder.path());
    counted(&server, "brief", "waiting");
    assert_eq!(ask(&server, "POST", "/v1/signals/go", &json_type, "{}").0, 200);
    let run = run_in(&server, &asked, "parked");
    counted(&server, "brief", "parked");
    assert_eq!((count(&server, "brief", "waiting"), count(&server, "ping", "paused")), (0.0, 1.0));
    server.kill();
    let server = serve(folder.path());
    counted(&server, "brief", "parked");
    let path = format!("/v1/runs/{}", run["run_id"].as_str().unwrap());
    assert_eq!(ask(&server, "DELETE", &path, &json_type, "").0, 200);
    until(|| (count(&server, "brief", "parked") == 0.0).then_some(()));
}

/// The names of our metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("stepwell_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let folder = project(&FILES);
    let server = serve(folder.path());
    let page = scrape(&server);
    let read = |name: &str| std::fs::read_to_string(repository().join("docs").join(name)).unwrap();
    let exists = |name: &str| {
        ["", "_bucket", "_sum", "_count"].iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|family| page.0.contains_key(family)))
    };
    let (dashboard, alerts, operating) = (read("grafana.json"), read("alerts.yml"), read("operating.md"));
    // The table says what each family tells, and by which labels it does.
    assert_eq!(ask(&server, "POST", "/webhooks/git", &[("content-type", "application/json")], "{}").0, 401);
    for (name, family) in &scrape(&server).0 {
        let labels: BTreeSet<&str> = family.samples.keys().flat_map(|(_, labels)| labels).map(|(label, _)| label.as_str()).collect();
        let is_told = operating.lines().filter(|line| line.starts_with("| `")).any(|line| {
            let code = line.split('`').skip(1).step_by(2);
            code.filter_map(|code| code.strip_prefix(name.as_str())).any(|rest| {
                let told = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
                let told: BTreeSet<&str> = told.split(',').filter(|label| !label.is_empty()).collect();
                (rest.is_empty() || rest.starts_with('{')) && labels.iter().all(|label| *label == "le" || told.contains(label))
            })
        });
        assert!(is_told, "operating.md does not tell of {name} with {labels:?}");
    }
    for (file, text) in [("grafana.json", &dashboard), ("alerts.yml", &alerts), ("operating.md", &operating)] {
        let missing: Vec<String> = named(text).into_iter().filter(|name| !exists(name)).collect();
        assert_eq!(missing, Vec::<String>::new(), "{file}");
        assert!(!named(text).is_empty(), "{file}");
    }
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(!panel["title"].as_str().unwrap().is_empty());
        for target in panel["targets"].as_array().unwrap() {
            assert!(!named(target["expr"].as_str().unwrap()).is_empty(), "{target}");
        }
    }
    let alerts: Value = serde_saphyr::from_str(&alerts).unwrap();
    let groups = alerts["groups"].as_array().unwrap();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        for key in ["alert", "expr"] {
            assert!(rule[key].is_string(), "{rule}");
        }
        assert!(rule["labels"]["severity"].is_string() && rule["annotations"]["summary"].is_string(), "{rule}");
        assert!(rule["annotations"]["description"].as_str().is_some_and(|text| text.contains("stepwell ")), "it says what to do: {rule}");
    }
}

#[test]
fn figures_are_for_whoever_may_read() {
    let folder = project(&FILES);
    let mut command = program::command("stepwell", folder.path());
    command
        .arg("run")
        .env("HOOK_SECRET", "a-secret-of-a-webhook")
        .env("STEPWELL_ADMIN_TOKEN", "admin-token-1")
        .env("STEPWELL_READ_TOKEN", "read-token-1");
    let server = program::Server::start(&mut command);
    let status = |token: &str| ask(&server, "GET", "/metrics", &[("authorization", &format!("Bearer {token}"))], "").0;
    assert_eq!(ask(&server, "GET", "/metrics", &[], "").0, 401);
    assert_eq!((status("read-token-1"), status("admin-token-1"), status("another")), (200, 200, 401));
    Page::read(&ask(&server, "GET", "/metrics", &[("authorization", "Bearer read-token-1")], "").1);
}
