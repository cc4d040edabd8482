//! The log of a running engine: lines for programs, with ids, and without secrets.

use serde_json::{Value, json};

use super::{ask, get, project, run_in, send};
use crate::program::{self, Server};

/// What no output may show, nor a part of it in another dress.
const SECRET: &str = "sk_live_9f8e7d6c5b4a";

const CONFIG: &str = r#"
version: 1
secrets: [API_KEY]
env: { LEAK: nothing }
events:
  app/talk: {}
  app/spill: {}
functions:
  talk: { on: app/talk }
  spill: { on: app/spill, retries: { attempts: 2, backoff: fixed, initial: 1ms, jitter: 0 } }
"#;

const TALK: &str = r#"
log::info("before", #{ key: secret("API_KEY"), text: "so " + env("LEAK") });
step("speak", || { log::warn("the key is " + env("LEAK")); print("printed " + secret("API_KEY")); 1 });
"#;

/// The secret stands in a path, a query, a header, and in what is thrown: as plain text, which it was before the engine knew it.
const SPILL: &str = r#"
let key = env("LEAK");
let seen = [];
for url in ["http://127.0.0.1:9/" + key, "http://127.0.0.1:9/?key=" + key, "http://user:" + key + "@127.0.0.1:9/"] {
    try { step(`call-${seen.len()}`, || http::get(url, #{ headers: #{ "X-Key": key } })); } catch (error) { seen.push(error.message); }
}
throw "gave up with " + key + ": " + seen;
"#;

fn start(folder: &std::path::Path) -> Server {
    let mut command = program::command("stepwell", folder);
    command.args(["run", "--log-format", "json"]).env("API_KEY", SECRET).env("LEAK", SECRET).env("STEPWELL_LOG", "debug");
    command.env("STEPWELL_EVENT_KEYS", "event-key-123").env("STEPWELL_DATABASE", "here.db");
    Server::start(&mut command)
}

#[test]
fn each_line_is_json_with_the_ids_of_what_it_is_about_and_without_secrets() {
    let folder = project(&[("events.yaml", CONFIG), ("handlers/talk.rhai", TALK), ("handlers/spill.rhai", SPILL)]);
    let server = start(folder.path());
    let sent = |name: &str| {
        let body = json!({ "name": name }).to_string();
        let (status, answer) = ask(&server, "POST", "/e/event-key-123", &[("content-type", "application/json")], &body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["ids"][0].as_str().unwrap().to_owned()
    };
    let (talk, spill) = (sent("app/talk"), sent("app/spill"));
    let talked = run_in(&server, &talk, "completed")["run_id"].as_str().unwrap().to_owned();
    let spilled = run_in(&server, &spill, "failed")["run_id"].as_str().unwrap().to_owned();
    let mut pages: Vec<String> = Vec::new();
    for path in ["", "/trace", "/logs"] {
        pages.extend([&talked, &spilled].map(|run| get(&server, &format!("/v1/runs/{run}{path}")).to_string()));
    }
    pages.push(get(&server, "/v1/config").to_string());
    pages.push(ask(&server, "GET", "/metrics", &[], "").1);
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");

    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    let find = |message: &str, run: &str| {
        let found = lines.iter().find(|line| line["message"].as_str().is_some_and(|said| said.starts_with(message)) && line["run"] == run);
        found.unwrap_or_else(|| panic!("no `{message}` of {run} in\n{printed}")).clone()
    };
    for line in &lines {
        for key in ["timestamp", "level", "message", "target"] {
            assert!(line[key].is_string(), "{line}");
        }
        // A line about a run says whose, and what it began with.
        if line.get("run").is_some() {
            assert!(line["function"].is_string() && line["event"].is_string(), "{line}");
        }
    }
    let before = find("before", &talked);
    assert_eq!((&before["level"], &before["function"], &before["event"]), (&json!("INFO"), &json!("talk"), &json!(talk)));
    assert_eq!(before["data"], r#"{"key":"«secret API_KEY»","text":"so «secret API_KEY»"}"#);
    let warned = find("the key is «secret API_KEY»", &talked);
    assert_eq!((&warned["level"], &warned["step"]), (&json!("WARN"), &json!("speak")));
    find("completed", &talked);
    let failed = find("failed", &spilled);
    assert!(failed["level"] == "ERROR" && failed["error"].as_str().unwrap().contains("gave up with «secret API_KEY»"), "{failed}");
    let again = find("attempt failed", &spilled);
    assert!(again["attempt"] == 1 && again["error"].is_string(), "{again}");
    assert!(lines.iter().any(|line| line["message"] == "accepted" && line["event"] == json!(talk)), "{printed}");

    let base64 = |skip: usize| {
        use base64::Engine as _;
        let padded = [vec![0; skip], SECRET.as_bytes().to_vec()].concat();
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded)[8..20].to_owned()
    };
    let mut files = String::new();
    for entry in std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        files.push_str(&String::from_utf8_lossy(&std::fs::read(entry).unwrap()));
    }
    for (what, text) in pages.iter().map(|page| ("a page", page)).chain([("the log", &printed), ("the database", &files)]) {
        for secret in [SECRET.to_owned(), "event-key-123".to_owned(), base64(0), base64(1), base64(2)] {
            assert!(!text.contains(&secret), "{what} shows {secret}");
        }
    }
}

#[test]
fn text_lines_name_the_run_and_dev_says_things_once() {
    let folder = project(&[("events.yaml", CONFIG), ("handlers/talk.rhai", TALK), ("handlers/spill.rhai", SPILL)]);
    let mut command = program::command("stepwell", folder.path());
    let server = Server::start(command.arg("run").env("API_KEY", SECRET).env("LEAK", SECRET));
    let event = send(&server, "app/talk", json!({}));
    let run = run_in(&server, &event, "completed")["run_id"].as_str().unwrap().to_owned();
    let (_, printed) = server.stop();
    let line = printed.lines().find(|line| line.contains("the key is")).unwrap_or_else(|| panic!("{printed}"));
    assert!(line.contains(&format!("run={run} function=\"talk\" event={event} step=\"speak\"")), "{line}");

    let mut command = program::command("stepwell", folder.path());
    let server = Server::start(command.args(["dev", "--no-watch"]).env("API_KEY", SECRET).env("LEAK", SECRET));
    let event = send(&server, "app/talk", json!({}));
    run_in(&server, &event, "completed");
    let (_, printed) = server.stop();
    assert_eq!(printed.matches("the key is").count(), 1, "{printed}");
}

#[test]
fn what_stops_a_start_is_json_too() {
    let folder = project(&[("events.yaml", "version: 1\nfunktions: {}\n")]);
    let ended = program::stepwell(folder.path(), ["run", "--log-format", "json"]);
    assert_eq!(ended.exit, 78, "{}", ended.stderr);
    let line: Value = serde_json::from_str(ended.stderr.lines().next().unwrap()).unwrap();
    assert!(line["level"] == "ERROR" && line["message"].as_str().unwrap().contains("events.yaml:2:"), "{line}");
}

#[test]
fn a_run_whose_function_is_gone_is_told_with_its_event() {
    let config = "version: 1\nevents: { app/nap: {} }\nfunctions:\n  stay: { on: app/nap }\n";
    let nap = "wait_for_signal(\"go\", #{ timeout: \"1h\" })";
    let gone = format!("{config}  nap: {{ on: app/nap }}\n");
    let folder = project(&[("events.yaml", &gone), ("handlers/nap.rhai", nap), ("handlers/stay.rhai", "1")]);
    let start = || Server::start(program::command("stepwell", folder.path()).args(["run", "--log-format", "json"]));
    let server = start();
    let event = send(&server, "app/nap", json!({}));
    run_in(&server, &event, "waiting");
    server.kill();
    std::fs::write(folder.path().join("events.yaml"), config).unwrap();
    let server = start();
    assert_eq!(ask(&server, "POST", "/v1/signals/go", &[("content-type", "application/json")], "{}").0, 200);
    let run = run_in(&server, &event, "parked");
    let (_, printed) = server.stop();
    let mut lines = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    let parked = lines.find(|line| line["message"] == "parked").unwrap_or_else(|| panic!("{printed}"));
    assert_eq!((&parked["run"], &parked["function"], &parked["event"]), (&run["run_id"], &json!("nap"), &json!(event)));
    assert!(parked["reason"].as_str().unwrap().starts_with("function gone"), "{parked}");
}
