//! The terminal view and what follows a running engine, through the program.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::{project, run_in, send, serve, until};
use crate::program::{self, Server};

const CONFIG: &str = r#"
version: 1
events: { app/ping: {}, app/fail: {}, app/stall: {}, app/wait: {}, app/beat: {} }
functions:
  ping: { on: app/ping }
  stumble: { on: app/fail, retries: 0 }
  stall: { on: app/stall, retries: { attempts: 2, backoff: fixed, initial: 1h } }
  wait: { on: app/wait }
  beat: { on: app/beat }
"#;

const FILES: [(&str, &str); 6] = [
    ("events.yaml", CONFIG),
    ("handlers/ping.rhai", "step(\"one\", || 1)"),
    ("handlers/stumble.rhai", "step(\"trip\", || { throw \"no luck\"; });"),
    ("handlers/stall.rhai", "if run.attempt == 1 { throw \"not yet\" } 5"),
    (
        "handlers/beat.rhai",
        "for n in 0..1000 { step(`beat ${n}`, || n); wait_for_event(\"app/ping\", #{ timeout: \"1h\", id: `pause ${n}` }); }",
    ),
    ("handlers/wait.rhai", "step(\"one\", || 1); wait_for_event(\"app/ping\", #{ timeout: \"1h\" }); step(\"two\", || 2)"),
];

fn call(folder: &std::path::Path, server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let output = program::command("stepwell", folder).args(arguments).env("STEPWELL_URL", server.url()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn top_shows_rates_queues_and_the_runs_that_need_attention() {
    let folder = project(&FILES);
    let server = serve(folder.path());
    let failed = run_in(&server, &send(&server, "app/fail", json!({})), "failed")["run_id"].as_str().unwrap().to_owned();
    let stalled = run_in(&server, &send(&server, "app/stall", json!({})), "backing_off")["run_id"].as_str().unwrap().to_owned();
    run_in(&server, &send(&server, "app/ping", json!({})), "completed");
    let (exit, text, said) = call(folder.path(), &server, &["top", "--once", "--interval", "100ms"]);
    assert_eq!(exit, 0, "{said}");
    assert!(text.contains(&format!("at {}: well", server.url())), "{text}");
    for part in ["function", "oldest", "ping", "stumble", "2 runs need attention", "no luck", "not yet", "backing off", &failed, &stalled] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let line = text.lines().find(|line| line.starts_with("stall")).unwrap();
    assert_eq!(line.split_whitespace().nth(5), Some("1"), "it backs off: {line}");
    // Without a terminal it does not draw.
    let (exit, piped, _) = call(folder.path(), &server, &["top", "--interval", "100ms"]);
    assert!(exit == 0 && piped.contains("need attention") && !piped.contains('\u{1b}'), "{piped}");
    let (_, document, _) = call(folder.path(), &server, &["top", "--json", "--interval", "100ms"]);
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((&document["unfinished"], document["attention"].as_array().unwrap().len()), (&json!(1.0), 2));
    assert_eq!(call(folder.path(), &server, &["top", "--once", "--interval", "1ms"]).0, 2);
    let (exit, ..) = call(folder.path(), &server, &["top", "--once", "--url", "http://127.0.0.1:9"]);
    assert_eq!(exit, 69);
}

/// A command on a terminal of its own, which `script` makes; what is typed goes through a pipe.
#[test]
fn on_a_terminal_keys_show_a_run_retry_it_and_end() {
    use std::io::{Read as _, Write as _};
    let folder = project(&FILES);
    let server = serve(folder.path());
    let event = send(&server, "app/stall", json!({}));
    let stalled = run_in(&server, &event, "backing_off")["run_id"].as_str().unwrap().to_owned();
    let mut command = program::command("script", folder.path());
    let line = format!("stty rows 40 cols 150; stepwell top --interval 100ms --url {}", server.url());
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut typed = child.stdin.take().unwrap();
    let (sender, drawn) = std::sync::mpsc::channel();
    let mut screen = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            // A test that has ended reads no more.
            let _ = sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
    });
    let mut seen = String::new();
    let mut await_text = |part: &str| {
        while !seen.contains(part) {
            match drawn.recv_timeout(std::time::Duration::from_secs(60)) {
                Ok(more) => seen.push_str(&more),
                Err(error) => panic!("no `{part}` ({error}) in {seen:?}"),
            }
        }
        seen.clear();
    };
    await_text("attention");
    typed.write_all(b"\r").unwrap();
    await_text(&format!("run {stalled}"));
    // The run goes on, and comes to its end.
    typed.write_all(b"r").unwrap();
    run_in(&server, &event, "completed");
    typed.write_all(b"q").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A command that goes on printing lines; it is killed with its value.
pub struct Following(Child, std::sync::mpsc::Receiver<String>);

impl Following {
    fn start(folder: &std::path::Path, server: &Server, arguments: &[&str]) -> Following {
        Following::with(folder, server, arguments, &[])
    }

    /// The same with these variables.
    pub fn with(folder: &std::path::Path, server: &Server, arguments: &[&str], variables: &[(&str, &str)]) -> Following {
        let mut command = program::command("stepwell", folder);
        command.args(arguments).env("STEPWELL_URL", server.url()).envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A test that has ended reads no more.
                let _ = sender.send(line);
            }
        });
        Following(child, lines)
    }

    /// The next line, while something is done again and again.
    pub fn line(&self, mut again: impl FnMut()) -> String {
        until(|| {
            again();
            self.1.recv_timeout(std::time::Duration::from_millis(100)).ok()
        })
    }

    /// All further lines, once the command has ended.
    pub fn rest(&self) -> Vec<String> {
        self.1.iter().collect()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn events_are_followed_as_they_come() {
    let folder = project(&FILES);
    let server = serve(folder.path());
    let before = send(&server, "app/ping", json!({"n": 0}));
    let tail = Following::start(folder.path(), &server, &["events", "tail", "--name", "app/ping", "--json"]);
    let mut sent = 0;
    let line = tail.line(|| {
        sent += 1;
        send(&server, "app/fail", json!({}));
        send(&server, "app/ping", json!({ "n": sent }));
    });
    let first: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(first["name"], "app/ping");
    assert_ne!(first["internal_id"], json!(before), "what was there before is not told");
    // Each comes once, in order.
    let (mut last, start) = (first["data"]["n"].as_i64().unwrap(), sent);
    while last < i64::from(start) {
        let next: Value = serde_json::from_str(&tail.line(|| {})).unwrap();
        assert_eq!(next["data"]["n"].as_i64().unwrap(), last + 1);
        last += 1;
    }
    let all = Following::start(folder.path(), &server, &["events", "tail", "--since", "1h"]);
    let oldest = all.line(|| {});
    let cells: Vec<&str> = oldest.splitn(4, ' ').collect();
    assert_eq!(cells[1..], [&*before, "app/ping", "{\"n\":0}"], "it begins with the oldest");
    assert!(cells[0].ends_with('Z') && cells[0].contains('T'), "{oldest}");
    assert!(all.line(|| {}).contains(" app/fail {}"), "and tells of the others, too");
}

#[test]
fn runs_are_followed_as_text_and_by_function_key_event_state_and_condition() {
    const KEYED: &str = "  stumble: { on: app/fail, retries: 0, concurrency: { limit: 9, key: event.data.user } }";
    let config = CONFIG.replace("  stumble: { on: app/fail, retries: 0 }", KEYED);
    let folder = project(&[&[("events.yaml", config.as_str())][..], &FILES[1..]].concat());
    let server = serve(folder.path());
    let follow = |arguments: &[&str]| Following::start(folder.path(), &server, &[&["runs", "tail"][..], arguments].concat());
    let fail = |n: u32| {
        let event = send(&server, "app/fail", json!({ "n": n, "user": format!("u{n}") }));
        run_in(&server, &event, "failed")["run_id"].as_str().unwrap().to_owned()
    };

    let mut wanted = Vec::new();
    let mut again = || {
        drop(send(&server, "app/ping", json!({ "n": 2, "user": "u2" })));
        fail(1);
        wanted.push(fail(2));
    };
    // Each of these tells of the second of the two runs alone. What a condition asks for is known by the time of the change.
    let change = follow(&["--status", "failed,parked", "--function", "stumble", "--where", "event.data.n > 1"]).line(&mut again);
    let of_key = follow(&["--key", "u2", "--status", "Failed"]).line(&mut again);
    let seen = follow(&["--where", "run.error.message == \"no luck\" && event.data.n == 2", "--status", "failed"]).line(&mut again);
    for line in [&change, &of_key, &seen] {
        let cells: Vec<&str> = line.split(' ').collect();
        assert!(cells.len() == 4 && cells[0].ends_with('Z') && cells[2..] == ["stumble", "failed"], "{line}");
        assert!(wanted.iter().any(|run| run == cells[1]), "{line} is none of {wanted:?}");
    }
    let steps = follow(&["--function", "stumble"]);
    let trip = until(|| Some(steps.line(|| drop(fail(1)))).filter(|line| line.contains(" trip")));
    assert!(trip.contains("▸ trip attempt 1") || trip.contains("✗ trip"), "{trip}");

    // A run that goes on with each event of the other name, so that there is something to tell whenever the tail begins.
    let event = send(&server, "app/beat", json!({}));
    let run = run_in(&server, &event, "waiting")["run_id"].as_str().unwrap().to_owned();
    let of_event = follow(&["--event", &event, "--json"]);
    for _ in 0..3 {
        let told: Value = serde_json::from_str(&of_event.line(|| drop(send(&server, "app/ping", json!({}))))).unwrap();
        assert_eq!(told["run"], json!(run), "{told}");
    }

    let (exit, _, said) = call(folder.path(), &server, &["runs", "tail", "--where", "run.state =="]);
    assert!(exit == 1 && said.contains("where"), "{exit} {said}");
    let (exit, _, said) = call(folder.path(), &server, &["runs", "tail", "--status", "skipped"]);
    assert!(exit == 2 && said.contains("no such state"), "{exit} {said}");
}

#[test]
fn a_trace_is_followed_to_its_end() {
    let folder = project(&FILES);
    let server = serve(folder.path());
    let event = send(&server, "app/wait", json!({}));
    let run = run_in(&server, &event, "waiting")["run_id"].as_str().unwrap().to_owned();
    let json_lines = Following::start(folder.path(), &server, &["runs", "trace", &run, "--follow", "--json"]);
    let first: Value = serde_json::from_str(&json_lines.line(|| {})).unwrap();
    assert_eq!((&first["run"]["state"], first["steps"].as_array().unwrap().len()), (&json!("waiting"), 2), "{first}");
    let followed = Following::start(folder.path(), &server, &["runs", "trace", &run[..12], "--follow"]);
    // A run that goes on with each event, so that there is something to tell whenever the tail begins.
    let event = send(&server, "app/beat", json!({}));
    let run = run_in(&server, &event, "waiting")["run_id"].as_str().unwrap().to_owned();
    let tail = Following::start(folder.path(), &server, &["runs", "tail", &run, "--json"]);
    // What is sent starts other runs as well, which it leaves out.
    let told: Value = serde_json::from_str(&tail.line(|| drop(send(&server, "app/ping", json!({}))))).unwrap();
    assert_eq!(told["run"], json!(run), "{told}");
    let last = until(|| {
        let line: Value = serde_json::from_str(&json_lines.line(|| {})).unwrap();
        (line["run"]["state"] == "completed").then_some(line)
    });
    assert_eq!(last["steps"].as_array().unwrap().len(), 3);
    let tree: Vec<String> = (0..4).map(|_| followed.line(|| {})).collect();
    assert!(tree[0].contains("completed in") && tree[3].contains("✓ two"), "{tree:?}");
}
