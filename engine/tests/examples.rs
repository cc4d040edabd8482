//! Every example through the program: it is valid without a warning, and a scenario of its own shows what it is there for.

use std::path::Path;

use serde_json::Value;

use crate::program::{self, Ended, Server, stepwell};

/// A copy of an example, so that nothing is left in the repository.
fn example(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    program::copy(&program::repository().join("examples").join(name), &[], folder.path());
    folder
}

/// The JSON that a command printed.
fn json(ended: &Ended) -> Value {
    assert_eq!(ended.exit, 0, "{}\n{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", ended.stdout))
}

/// Tries an event with its example on a clock that jumps over the waits; the run's result and the tree that was drawn.
fn try_example(folder: &Path, event: &str) -> (Value, String) {
    let ended = stepwell(folder, ["try", event, "--example", "--fast-forward"]);
    (json(&ended), ended.stderr)
}

fn start(folder: &Path) -> Server {
    Server::start(program::command("stepwell", folder).arg("run"))
}

/// What a command that asks a running engine prints as JSON.
fn ask(folder: &Path, server: &Server, arguments: &[&str]) -> Value {
    let url = server.url();
    json(&stepwell(folder, arguments.iter().copied().chain(["--url", &url, "--json"])))
}

#[test]
fn every_example_is_valid_without_a_warning() {
    let folders = std::fs::read_dir(program::repository().join("examples")).unwrap();
    for name in folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()) {
        let folder = example(&name);
        let ended = stepwell(folder.path(), ["validate", "--deny-warnings"]);
        assert_eq!(ended.exit, 0, "{name}: {}", ended.stderr);
        assert!(!ended.stderr.contains("warning"), "{name}: {}", ended.stderr);
    }
}

#[test]
fn hello_greets() {
    let folder = example("hello");
    let (result, tree) = try_example(folder.path(), "hello/said");
    assert_eq!(result, "Hello, World!");
    for step in ["compose", "sleep", "deliver"] {
        assert!(tree.contains(step), "{tree}");
    }
}

#[test]
fn retries_repeats_the_failed_step_alone() {
    let folder = example("retries");
    let (result, tree) = try_example(folder.path(), "invoice/due");
    assert_eq!(result, serde_json::json!({"invoice": "R-17", "booked": 1200, "attempts": 3, "archived": false}));
    assert!(tree.contains("the bank does not answer (attempt 2 of 4)"), "{tree}");
    assert!(!tree.contains("(attempt 3 of 4)"), "{tree}");
}

#[test]
fn concurrency_per_user_lets_other_users_pass() {
    let folder = example("concurrency-per-user");
    let server = start(folder.path());
    let send = |user: &str, item: &str, wait: Option<&str>| {
        let (user, item) = (format!("userId={user}"), format!("item={item}"));
        ask(folder.path(), &server, &["send", "order/placed", &user, &item].into_iter().chain(wait).collect::<Vec<_>>())
    };
    send("ada", "tea", None);
    send("bob", "pot", None);
    // Ada's second order begins when her first one has ended, so it ends last.
    send("ada", "cup", Some("--wait"));
    let runs = ask(folder.path(), &server, &["runs", "ls", "--status", "completed"]);
    let runs = runs.as_array().unwrap();
    let times = |user: &str, item: &str| {
        let is_meant = |run: &&Value| run["output"] == serde_json::json!({"user": user, "item": item});
        let run = runs.iter().find(is_meant).unwrap_or_else(|| panic!("{item} of {user} in {runs:#?}"));
        (run["run_started_at"].as_str().unwrap(), run["ended_at"].as_str().unwrap())
    };
    let (tea, cup, pot) = (times("ada", "tea"), times("ada", "cup"), times("bob", "pot"));
    assert!(tea.1 <= cup.0, "one run of a user at a time: {tea:?} {cup:?}");
    assert!(pot.0 < cup.0, "another user does not wait: {pot:?} {cup:?}");
    assert!(server.stop().0.success());
}

#[test]
fn sleep_and_resume_survives_a_kill() {
    let folder = example("sleep-and-resume");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "trial/started", "userId=ada", "length=3s"]);
    let run = loop {
        let runs = ask(folder.path(), &server, &["runs", "ls"]);
        if runs[0]["state"] == "sleeping" {
            break runs[0]["run_id"].as_str().unwrap().to_owned();
        }
        std::thread::yield_now();
    };
    server.kill();
    let server = start(folder.path());
    let trace = loop {
        let trace = ask(folder.path(), &server, &["runs", "trace", &run]);
        if trace["run"]["state"] == "completed" {
            break trace;
        }
        std::thread::yield_now();
    };
    let keys: Vec<&Value> = trace["steps"].as_array().unwrap().iter().map(|step| &step["key"]).collect();
    assert_eq!(keys, ["welcome", "trial", "remind"]);
    let logs = ask(folder.path(), &server, &["runs", "logs", &run]);
    let messages: Vec<&Value> = logs.as_array().unwrap().iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, ["welcome", "the trial is over"], "each step ran once");
    assert!(server.stop().0.success());
}

#[test]
fn sleep_and_resume_takes_no_time_on_a_clock_that_jumps() {
    let folder = example("sleep-and-resume");
    let (result, tree) = try_example(folder.path(), "trial/started");
    assert_eq!(result["user"], "ada");
    assert!(tree.contains("slept"), "{tree}");
}
