//! Every example through the program: it is valid without a warning, and a scenario of its own shows what it is there for.

mod deleted;
mod experiment;
mod race;
mod schedules;

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
fn defaults_count_where_a_function_says_nothing_else() {
    let folder = example("defaults");
    let arguments = ["try", "parcel/packed", "--example", "--fast-forward", "--json", "--then", "parcel/fetched@30m"];
    let traces = json(&stepwell(folder.path(), arguments));
    let attempts = |function: &str| {
        let trace = traces.as_array().unwrap().iter().find(|trace| trace["run"]["function_id"] == function).unwrap();
        let failed = trace["steps"][0]["attempts"].as_array().unwrap().iter().filter(|attempt| !attempt["error"].is_null());
        (trace["run"]["state"].clone(), failed.count())
    };
    for function in ["call-carrier", "tell-customer"] {
        assert_eq!(attempts(function), ("completed".into(), 5), "{function}");
    }
    // Both have the hour of the defaults, and nobody comes.
    let ended = stepwell(folder.path(), ["try", "parcel/packed", "--example", "--fast-forward"]);
    assert!(ended.exit == 1 && ended.stderr.contains("cancelled in 1h") && ended.stderr.contains("timeouts.finish"), "{}", ended.stderr);
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

#[test]
fn sleep_until_wakes_at_its_time_also_after_a_kill() {
    let folder = example("sleep-until");
    let server = start(folder.path());
    let book = |at: &str| {
        ask(folder.path(), &server, &["send", "visit/booked", "customer=ada", &format!("at={at}"), "zone=Europe/Berlin"]);
    };
    // Both of its times are over, so it is done at once, and tells what time it is.
    book("2020-01-01T09:00:00Z");
    let run = until(folder.path(), &server, "remind", "completed");
    let now = run["output"]["asked"].as_str().unwrap();
    let soon = json(&stepwell(folder.path(), ["eval", "--rhai", &format!("date(\"{now}\") + \"3s\"")]));
    let soon = soon.as_str().unwrap();
    book(soon);
    until(folder.path(), &server, "remind", "sleeping");
    server.kill();
    let server = start(folder.path());
    let run = until(folder.path(), &server, "remind", "completed");
    let output = &run["output"];
    assert!(output["asked"].as_str().unwrap() >= soon && output["reminded"].as_str().unwrap() < soon, "{run}");
    assert!(server.stop().0.success());
}

/// Waits until the newest run of a function is in this state; gives the run.
fn until(folder: &Path, server: &Server, function: &str, state: &str) -> Value {
    loop {
        let runs = ask(folder, server, &["runs", "ls", "--function", function]);
        if runs[0]["state"] == state {
            return runs[0].clone();
        }
        std::thread::yield_now();
    }
}

#[test]
fn send_events_sends_each_mail_once() {
    let folder = example("send-events");
    let server = start(folder.path());
    for _ in 0..2 {
        ask(folder.path(), &server, &["send", "newsletter/written", "--example"]);
    }
    // The hiccup after the sending is tried again after 15 seconds and more; the mails do not wait for that.
    let mails = loop {
        let mails = ask(folder.path(), &server, &["runs", "ls", "--function", "write-mail", "--status", "completed"]);
        if mails.as_array().unwrap().len() >= 3 {
            break mails;
        }
        std::thread::yield_now();
    };
    let mut readers: Vec<&str> = mails.as_array().unwrap().iter().map(|run| run["output"].as_str().unwrap()).collect();
    readers.sort_unstable();
    assert_eq!(readers, ["ada", "bob", "eve"]);
    until(folder.path(), &server, "send-newsletter", "backing_off");
    let events = ask(folder.path(), &server, &["events", "ls", "--name", "mail/wanted"]);
    assert_eq!(events.as_array().unwrap().len(), 3, "the second newsletter of the same id sends nothing more");
    assert!(server.stop().0.success());
}

#[test]
fn wait_for_event_takes_each_payment_of_its_order_once() {
    let folder = example("wait-for-event");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "order/placed", "--example"]);
    until(folder.path(), &server, "ship-when-paid", "waiting");
    ask(folder.path(), &server, &["send", "payment/received", "order=o2", "amount=30"]);
    ask(folder.path(), &server, &["send", "payment/received", "order=o1", "amount=10"]);
    server.kill();
    let server = start(folder.path());
    let run = until(folder.path(), &server, "ship-when-paid", "waiting");
    let why = run["why"].as_str().unwrap();
    assert!(why.contains("payment/received") && why.contains("async.data.order == event.data.order"), "{why}");
    ask(folder.path(), &server, &["send", "payment/received", "order=o1", "amount=20"]);
    let run = until(folder.path(), &server, "ship-when-paid", "completed");
    assert_eq!(run["output"], serde_json::json!({"order": "o1", "state": "shipped"}));
    assert!(server.stop().0.success());
}

#[test]
fn wait_for_any_goes_on_with_what_comes_first() {
    let folder = example("wait-for-any");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "parcel/sent", "--example"]);
    until(folder.path(), &server, "follow-parcel", "waiting");
    ask(folder.path(), &server, &["send", "parcel/returned", "parcel=p1", "reason=mistake"]);
    ask(folder.path(), &server, &["send", "parcel/returned", "parcel=p1", "reason=refused"]);
    ask(folder.path(), &server, &["send", "parcel/delivered", "parcel=p1"]);
    let run = until(folder.path(), &server, "follow-parcel", "completed");
    assert_eq!(run["output"], serde_json::json!({"parcel": "p1", "state": "refunded", "why": "refused"}));
    assert!(server.stop().0.success());
}

#[test]
fn signal_lets_a_run_go_on() {
    let folder = example("signal");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "expense/claimed", "--example"]);
    until(folder.path(), &server, "pay-expense", "waiting");
    let answer = ask(folder.path(), &server, &["signal", "approve/c1", "approved=true", "by=ada"]);
    assert_eq!(answer, serde_json::json!({"name": "approve/c1", "runs": 1}));
    let run = until(folder.path(), &server, "pay-expense", "completed");
    assert_eq!(run["output"], serde_json::json!({"claim": "c1", "paid": true, "by": "ada"}));
    assert!(server.stop().0.success());
}

#[test]
fn invoke_gives_results_and_failures() {
    let folder = example("invoke");
    let (result, _) = try_example(folder.path(), "order/placed");
    assert_eq!(result, serde_json::json!({"price": 13, "stock": "no cups"}));
}

#[test]
fn cron_starts_a_report_that_knows_its_time() {
    let folder = example("cron");
    let ended = stepwell(folder.path(), ["try", "--cron", "weekday-report"]);
    let result = json(&ended);
    assert_eq!(result, serde_json::json!({"missed": 0, "orders": 3, "schedule": "0 7 * * MON-FRI", "zone": "Europe/Berlin"}));
    assert!(ended.stderr.contains("weekday-report") && ended.stderr.contains("deliver"), "{}", ended.stderr);
    let server = start(folder.path());
    let functions = ask(folder.path(), &server, &["functions", "ls"]);
    let next = functions[0]["cron"][0]["next"].as_str().unwrap();
    assert!(next.contains("T07:00:00+0"), "{functions}");
    assert_eq!(functions[0]["cron"][0]["jitter"], "2m");
    assert!(server.stop().0.success());
    let refused = stepwell(folder.path(), ["try", "--cron", "weekly-report"]);
    assert_eq!(refused.exit, 3);
    assert!(refused.stderr.contains("did you mean `weekday-report`?"), "{}", refused.stderr);
}

#[test]
fn debounce_publishes_once_what_was_saved_last() {
    let folder = example("debounce");
    let server = start(folder.path());
    for words in ["words=1", "words=2", "words=3"] {
        ask(folder.path(), &server, &["send", "page/edited", "page=start", words]);
    }
    let run = until(folder.path(), &server, "publish-page", "completed");
    assert_eq!(run["output"], serde_json::json!({"page": "start", "words": 3}));
    assert_eq!(ask(folder.path(), &server, &["runs", "ls"]).as_array().unwrap().len(), 1);
    assert!(server.stop().0.success());
}

#[test]
fn batch_stores_clicks_together_also_after_a_kill() {
    let folder = example("batch");
    let server = start(folder.path());
    let send = |server: &Server, page: &str| ask(folder.path(), server, &["send", "click/tracked", "site=shop", page]);
    send(&server, "page=start");
    send(&server, "page=tea");
    server.kill();
    let server = start(folder.path());
    let run = until(folder.path(), &server, "store-clicks", "completed");
    assert_eq!(run["output"], serde_json::json!({"pages": ["start", "tea"], "site": "shop"}));
    for page in ["page=cart", "page=pay"] {
        send(&server, page);
    }
    ask(folder.path(), &server, &["send", "click/tracked", "site=shop", "page=thanks", "--wait"]);
    let full = ask(folder.path(), &server, &["runs", "ls", "--function", "store-clicks"]);
    assert_eq!(full[0]["output"]["pages"], serde_json::json!(["cart", "pay", "thanks"]), "{full}");
    assert!(server.stop().0.success());
}

#[test]
fn cancel_on_ends_a_run_when_its_event_comes() {
    let folder = example("cancel-on");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "task/given", "--example"]);
    until(folder.path(), &server, "remind", "sleeping");
    ask(folder.path(), &server, &["send", "task/done", "task=t2"]);
    server.kill();
    let server = start(folder.path());
    until(folder.path(), &server, "remind", "sleeping");
    ask(folder.path(), &server, &["send", "task/withdrawn", "--example"]);
    let run = until(folder.path(), &server, "remind", "cancelled");
    assert!(run["why"].as_str().unwrap().starts_with("cancel_on: task/withdrawn"), "{run}");
    assert!(server.stop().0.success());
    // Too late after three days, but not the one without a time-out.
    let late = |event| stepwell(folder.path(), ["try", "task/given", "--example", "--fast-forward", "--then", event]);
    let ended = late("task/withdrawn@4d");
    assert!(ended.exit == 0 && ended.stderr.contains("W0549"), "{}", ended.stderr);
    assert_eq!(late("task/done@4d").exit, 1);
}

#[test]
fn on_failure_refunds_and_others_hear_of_it() {
    let folder = example("on-failure");
    let ended = stepwell(folder.path(), ["try", "order/paid", "--example", "--fast-forward", "--json"]);
    assert_eq!(ended.exit, 1, "{}", ended.stderr);
    let traces: Value = serde_json::from_str(&ended.stdout).unwrap();
    let run = |function: &str| {
        let is_it = |trace: &&Value| trace["run"]["function_id"] == function;
        traces.as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{function} in {traces:#}"))["run"].clone()
    };
    let failed = run("ship");
    assert_eq!(failed["state"], "failed");
    let id = &failed["run_id"];
    assert_eq!(run("ship.on_failure")["output"], serde_json::json!({"order": "o1", "state": "refunded", "run": id}));
    assert_eq!(run("count-failures")["output"], serde_json::json!({"failed": id, "order": "o1"}));
}

#[test]
fn function_events_start_what_listens_to_the_ends_of_others() {
    let folder = example("function-events");
    let ends = |then: &str| {
        let arguments = ["try", "job/ordered", "--example", "--fast-forward", "--json", "--then", then];
        let ended = stepwell(folder.path(), arguments);
        let traces: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
        let runs = traces.as_array().unwrap().iter().map(|trace| &trace["run"]);
        let told = runs.filter(|run| ["bill", "stop-machine"].iter().any(|function| run["function_id"] == *function));
        told.map(|run| (run["function_id"].clone(), run["output"].clone())).collect::<Vec<_>>()
    };
    let bill = |state: &str| {
        let output = serde_json::json!({"team": "red", "job": "j1", "hours": 5, "state": state});
        vec![(Value::from("bill"), output)]
    };
    assert_eq!(ends("job/computed@5h"), bill("computed"));
    assert_eq!(ends("job/computed@5h error=burnt"), bill("burnt"));
    let stopped = ends("job/withdrawn@1h");
    assert!(stopped.len() == 1 && stopped[0].0 == "stop-machine" && stopped[0].1["job"] == "j1", "{stopped:?}");
}

#[test]
fn timeouts_give_up_what_waits_or_takes_too_long() {
    let folder = example("timeouts");
    let attempt = |then: &[&str]| {
        let arguments = ["try", "cake/ordered", "--example", "--fast-forward", "--json"];
        let ended = stepwell(folder.path(), arguments.iter().chain(then).copied());
        let traces: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
        let runs: Vec<Value> = traces.as_array().unwrap().iter().map(|trace| trace["run"].clone()).collect();
        (ended.exit, runs)
    };
    let (exit, runs) = attempt(&["--then", "cake/ordered@1m {\"cake\":\"plum\"}"]);
    let whys: Vec<&str> = runs.iter().map(|run| run["why"].as_str().unwrap().split(':').next().unwrap()).collect();
    assert_eq!((exit, whys), (1, vec!["timeouts.finish", "timeouts.start"]), "{runs:#?}");
    let (exit, runs) = attempt(&["--then", "oven/emptied@20m"]);
    assert_eq!((exit, &runs[0]["output"]["state"]), (0, &"baked".into()));
}

#[test]
fn triggers_start_what_listens_and_matches() {
    let folder = example("triggers");
    let server = start(folder.path());
    let sent =
        [("contact/created", "email=a@b.c"), ("contact/updated", "email=a@b.c"), ("contact/updated", "name=Eve"), ("crm/moved", "x=1")];
    for (event, field) in sent {
        ask(folder.path(), &server, &["send", event, "name=Ada", field]);
    }
    until(folder.path(), &server, "copy-contact", "completed");
    until(folder.path(), &server, "greet", "completed");
    let by = |run: &Value| run["output"]["by"].as_str().map(str::to_owned);
    let copied = loop {
        let runs = runs_of(folder.path(), &server, "copy-contact");
        if runs.iter().all(|run| run["state"] == "completed") {
            break runs.iter().rev().filter_map(by).collect::<Vec<_>>();
        }
        std::thread::yield_now();
    };
    assert_eq!(copied, ["contact/created", "contact/updated", "crm/moved"]);
    assert_eq!(runs_of(folder.path(), &server, "greet").len(), 1);
    assert!(server.stop().0.success());
}

#[test]
fn delayed_start_waits_for_the_time_of_its_event_also_over_a_kill() {
    let folder = example("delayed-start");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "reminder/set", "--example", "--ts", "2h"]);
    let run = until(folder.path(), &server, "remind", "queued");
    assert!(run["why"].as_str().unwrap().starts_with("its event's time has not come"), "{run}");
    ask(folder.path(), &server, &["send", "reminder/set", "text=soon", "--ts", "2s"]);
    let soon = runs_of(folder.path(), &server, "remind")[0].clone();
    server.kill();
    let server = start(folder.path());
    let run = until(folder.path(), &server, "remind", "completed");
    assert_eq!((&run["run_id"], &run["output"]["text"]), (&soon["run_id"], &"soon".into()));
    assert!(run["run_started_at"].as_str() >= soon["queued_at"].as_str() && soon["queued_at"].as_str() > soon["created_at"].as_str());
    assert_eq!(runs_of(folder.path(), &server, "remind")[1]["state"], "queued");
    assert!(server.stop().0.success());
}

#[test]
fn operate_pauses_hurries_and_cancels() {
    let folder = example("operate");
    let server = start(folder.path());
    ask(folder.path(), &server, &["functions", "pause", "import-file"]);
    ask(folder.path(), &server, &["send", "file/uploaded", "--example"]);
    until(folder.path(), &server, "import-file", "paused");
    server.kill();
    let server = start(folder.path());
    until(folder.path(), &server, "import-file", "paused");
    ask(folder.path(), &server, &["functions", "resume", "import-file"]);
    let run = until(folder.path(), &server, "import-file", "backing_off");
    ask(folder.path(), &server, &["runs", "retry-now", run["run_id"].as_str().unwrap()]);
    let run = until(folder.path(), &server, "import-file", "completed");
    assert_eq!(run["output"], serde_json::json!({"file": "prices.csv", "lines": 12}));
    ask(folder.path(), &server, &["send", "file/uploaded", "file=old.csv"]);
    let run = until(folder.path(), &server, "import-file", "backing_off");
    ask(folder.path(), &server, &["runs", "cancel", run["run_id"].as_str().unwrap()]);
    until(folder.path(), &server, "import-file", "cancelled");
    for file in ["file=march/a.csv", "file=april/a.csv"] {
        ask(folder.path(), &server, &["send", "file/uploaded", file]);
    }
    let many = r#"{"function_id": "import-file", "if": "event.data.file.startsWith('march/')"}"#;
    let answer = server.post("/v1/cancellations", &[], many);
    assert!(answer.contains(r#""matched":1,"done":1"#), "{answer}");
    until(folder.path(), &server, "import-file", "backing_off");
    assert_eq!(runs_of(folder.path(), &server, "import-file")[1]["state"], "cancelled");
    assert!(server.stop().0.success());
}

#[test]
fn fan_out_runs_branches_at_once() {
    let folder = example("fan-out");
    let (result, tree) = try_example(folder.path(), "trip/wanted");
    assert_eq!(result["hotel"], serde_json::json!({"hotel": "Baixa", "price": 150}));
    assert_eq!((&result["asked"], &result["failed"]), (&4.into(), &1.into()));
    for key in ["flight › reserve", "flight › book", "weather › look", "0 › ask", "3 › ask"] {
        assert!(tree.contains(key), "{tree}");
    }
}

/// The runs of a function as the engine lists them, the newest first.
fn runs_of(folder: &Path, server: &Server, function: &str) -> Vec<Value> {
    ask(folder, server, &["runs", "ls", "--function", function]).as_array().unwrap().clone()
}

#[test]
fn priority_moves_a_run_past_one_that_waits() {
    let folder = example("priority");
    let server = start(folder.path());
    for (customer, plan) in [("ada", "free"), ("bob", "free"), ("eve", "pro")] {
        ask(folder.path(), &server, &["send", "report/wanted", &format!("customer={customer}"), &format!("plan={plan}")]);
    }
    let runs = loop {
        let runs = ask(folder.path(), &server, &["runs", "ls", "--status", "completed"]);
        if runs.as_array().unwrap().len() == 3 {
            break runs;
        }
        std::thread::yield_now();
    };
    let started = |customer: &str| {
        let run = runs.as_array().unwrap().iter().find(|run| run["output"] == customer).unwrap();
        run["run_started_at"].as_str().unwrap().to_owned()
    };
    assert!(started("ada") < started("eve") && started("eve") < started("bob"), "{runs:#?}");
    assert!(server.stop().0.success());
}

#[test]
fn rate_limit_skips_the_third_mail_of_a_user_also_after_a_kill() {
    let folder = example("rate-limit");
    let server = start(folder.path());
    let send = |server: &Server, user: &str| ask(folder.path(), server, &["send", "password/forgotten", &format!("userId={user}")]);
    (0..2).for_each(|_| drop(send(&server, "ada")));
    server.kill();
    let server = start(folder.path());
    for user in ["ada", "bob", "ada", "bob", "bob"] {
        send(&server, user);
    }
    assert_eq!(runs_of(folder.path(), &server, "mail-link").len(), 4);
    let events = ask(folder.path(), &server, &["events", "ls"]);
    assert_eq!(events.as_array().unwrap().len(), 7, "what starts nothing is stored all the same");
    assert!(server.stop().0.success());
}

#[test]
fn throttle_delays_and_says_so() {
    let folder = example("throttle");
    let server = start(folder.path());
    for (account, name) in [("acme", "ada"), ("acme", "bob"), ("acme", "eve"), ("home", "joe")] {
        ask(folder.path(), &server, &["send", "contact/changed", &format!("account={account}"), &format!("name={name}")]);
    }
    let runs = loop {
        let runs = runs_of(folder.path(), &server, "copy-contact");
        if let Some(waiting) =
            runs.iter().find(|run| run["state"] == "queued" && run["why"].as_str().is_some_and(|why| why.contains("throttled")))
        {
            let why = waiting["why"].as_str().unwrap();
            assert!(why.contains("allows 20 starts per 1m for key \"acme\""), "{why}");
        }
        if runs.iter().all(|run| run["state"] == "completed") {
            break runs;
        }
        std::thread::yield_now();
    };
    let started = |name: &str| {
        let run = runs.iter().find(|run| run["output"] == name).unwrap();
        run["run_started_at"].as_str().unwrap().to_owned()
    };
    assert!(started("bob") < started("eve") && started("joe") < started("eve"), "{runs:#?}");
    assert!(server.stop().0.success());
}

#[test]
fn singleton_leaves_one_run_of_a_site() {
    let folder = example("singleton");
    let server = start(folder.path());
    for page in ["start", "basket", "help"] {
        ask(folder.path(), &server, &["send", "page/edited", "site=shop", &format!("page={page}")]);
    }
    until(folder.path(), &server, "rebuild", "completed");
    let states: Vec<Value> = runs_of(folder.path(), &server, "rebuild").iter().map(|run| run["state"].clone()).collect();
    assert_eq!(states, ["completed", "cancelled", "cancelled"]);
    assert_eq!(runs_of(folder.path(), &server, "warm-cache").len(), 1);
    assert!(server.stop().0.success());
}

#[test]
fn hold_active_lets_the_next_run_begin_while_one_waits() {
    let folder = example("hold-active");
    let studio = serve(folder.path(), "https://studio.example.com", &[("201 Created", "{}"); 3]);
    let server = Server::start(program::command("stepwell", folder.path()).arg("dev"));
    for film in ["film=f1", "film=f2"] {
        ask(folder.path(), &server, &["send", "film/uploaded", film]);
    }
    // One after the other is cut, and then both wait.
    until(folder.path(), &server, "subtitle", "waiting");
    assert_eq!(runs_of(folder.path(), &server, "subtitle")[1]["state"], "waiting");
    ask(folder.path(), &server, &["send", "subtitles/written", "film=f2"]);
    let run = until(folder.path(), &server, "subtitle", "completed");
    assert_eq!(run["output"], serde_json::json!({"film": "f2", "state": "subtitled"}));
    assert_eq!(studio.join().unwrap(), [r#"{"film":"f1"}"#, r#"{"film":"f2"}"#, r#"{"film":"f2"}"#]);
    assert!(server.stop().0.success());
}

#[test]
fn retry_after_waits_as_long_as_it_is_told() {
    let answers = &[("429 Too Many Requests", r#"{"minutes": 90}"#), ("200 OK", r#"{"lat": 52.5, "lon": 13.4}"#)];
    let folder = example("retry-after");
    let maps = serve(folder.path(), "https://maps.example.com", answers);
    let (result, tree) = try_example(folder.path(), "address/entered");
    assert_eq!(result, serde_json::json!({"customer": "ada", "lat": 52.5, "lon": 13.4}), "{tree}");
    assert!(tree.contains("the day's questions are used up (attempt 1 of 4)") && tree.contains("completed in 1h30m"), "{tree}");
    maps.join().unwrap();
}

#[test]
fn shared_limit_spans_two_functions() {
    let folder = example("shared-limit");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "invoice/due", "account=acme", "amount=1200"]);
    ask(folder.path(), &server, &["send", "invoice/due", "account=acme", "amount=-200", "--wait"]);
    let (pay, back) = (runs_of(folder.path(), &server, "pay"), runs_of(folder.path(), &server, "pay-back"));
    assert!(pay[0]["ended_at"].as_str().unwrap() <= back[0]["run_started_at"].as_str().unwrap(), "{pay:?} {back:?}");
    assert!(server.stop().0.success());
}

#[test]
fn idempotency_charges_once() {
    let folder = example("idempotency");
    let server = start(folder.path());
    (0..3).for_each(|_| drop(ask(folder.path(), &server, &["send", "payment/wanted", "paymentId=p7", "amount=5"])));
    assert_eq!(runs_of(folder.path(), &server, "charge").len(), 1);
    assert_eq!(runs_of(folder.path(), &server, "count-clicks").len(), 3);
    assert!(server.stop().0.success());
}

#[test]
fn a_replay_puts_a_result_in_the_place_of_a_failed_one() {
    let folder = example("replay");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "order/packed", "--example"]);
    let failed = until(folder.path(), &server, "ship-order", "failed");
    let old = failed["run_id"].as_str().unwrap();
    let replayed = ask(folder.path(), &server, &["replay", old, "--set", "choose a box=\"crate\""]);
    assert_eq!(replayed[0]["kept"], serde_json::json!(["charge", "choose a box"]));
    let run = until(folder.path(), &server, "ship-order", "completed");
    assert_eq!((&run["run_id"], &run["replay_of"]), (&replayed[0]["run_id"], &failed["run_id"]));
    assert_eq!(run["output"], serde_json::json!({"charge": "charge of o1", "box": "crate"}));
    let logs = ask(folder.path(), &server, &["runs", "logs", run["run_id"].as_str().unwrap()]);
    assert_eq!(logs, serde_json::json!([]), "the charge is not made again");
    assert!(server.stop().0.success());
}

#[test]
fn versions_park_a_run_whose_record_does_not_fit() {
    let folder = example("versions");
    let server = start(folder.path());
    let handler = folder.path().join("handlers/trial.rhai");
    let edit = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&handler).unwrap();
        std::fs::write(&handler, text.replace(from, to)).unwrap();
        ask(folder.path(), &server, &["reload"]);
    };
    ask(folder.path(), &server, &["send", "trial/begun", "--example"]);
    until(folder.path(), &server, "trial", "waiting");
    edit("step(\"open\"", "step(\"register\"");
    ask(folder.path(), &server, &["send", "trial/decided", "--example"]);
    let run = until(folder.path(), &server, "trial", "parked");
    assert!(run["why"].as_str().unwrap().contains("the journal has step `open`"), "{run}");
    edit("step(\"register\"", "step(\"open\"");
    ask(folder.path(), &server, &["runs", "migrate", run["run_id"].as_str().unwrap()]);
    let run = until(folder.path(), &server, "trial", "completed");
    assert_eq!(run["output"], "ada stays");
    assert!(server.stop().0.success());
}

#[test]
fn explain_says_what_became_of_each_event() {
    let folder = example("explain");
    let server = start(folder.path());
    let send = |payment: &str, amount: &str| {
        let (payment, amount) = (format!("payment={payment}"), format!("amount={amount}"));
        let url = server.url();
        let sent = stepwell(folder.path(), ["send", "payment/reported", &payment, &amount, "--url", &url]);
        assert_eq!(sent.exit, 0, "{}", sent.stderr);
        let event = sent.stdout.trim().to_owned();
        ask(folder.path(), &server, &["events", "get", &event, "--explain"])["functions"][0]["outcome"].clone()
    };
    assert_eq!(send("p1", "5"), "started");
    assert_eq!(send("p1", "5"), "idempotency_taken");
    assert_eq!(send("p2", "0"), "not_matched");
    assert_eq!(send("p2", "7"), "started");
    assert!(server.stop().0.success());
}

#[test]
fn kv_numbers_invoices_without_a_gap() {
    let folder = example("kv");
    let server = start(folder.path());
    for number in 1..=2 {
        // Each of the two fails once after it has taken a number.
        let answer = ask(folder.path(), &server, &["send", "invoice/wanted", "customer=Ada", "--wait"]);
        let expected = serde_json::json!({"attempts": 2, "number": number, "text": format!("Invoice {number} for Ada")});
        assert!(answer.to_string().contains(&expected.to_string()), "{answer}");
    }
}

#[test]
fn realtime_tells_who_listens_how_far_it_is() {
    let folder = example("realtime");
    let server = start(folder.path());
    let answer = server.post("/v1/channels/list:l1/token", &[], "{}");
    let made: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let token = made["data"]["token"].as_str().unwrap();
    let other = server.get(&format!("/v1/channels/list:l2?token={token}")).unwrap();
    assert!(other.starts_with("HTTP/1.1 403"), "{other}");
    let heard = server.listen(&format!("/v1/channels/list:l1?topic=progress&topic=result&token={token}"));
    let result = server.listen("/v1/channels/list:l1?topic=result");
    ask(folder.path(), &server, &["send", "contacts/uploaded", "--example", "--wait"]);
    let data = |line: String| serde_json::from_str::<Value>(&line).unwrap()["data"].clone();
    let of = |contact: &str| serde_json::json!({"contact": contact, "of": 3});
    let taken = serde_json::json!({"taken": 2});
    let all = [of("ada@example.com"), of("nobody"), of("eve@example.com"), taken.clone()];
    assert_eq!(heard.map(data).take(4).collect::<Vec<_>>(), all);
    assert_eq!(result.map(data).next(), Some(taken));
}

/// What a webhook answers to a request with these headers.
fn deliver(server: &Server, webhook: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let answer = server.post(&format!("/webhooks/{webhook}"), headers, body);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head}\n{body}"))
}

#[test]
fn webhooks_start_each_delivery_once_also_after_a_kill() {
    let folder = example("webhooks");
    let secret = "a secret of GitHub";
    let start = || {
        let mut command = program::command("stepwell", folder.path());
        Server::start(command.arg("run").env("GITHUB_WEBHOOK", secret).env("STRIPE_WEBHOOK", "a secret of Stripe"))
    };
    let body = r#"{"action": "published", "release": {"tag_name": "v2"}, "repository": {"full_name": "acme/shop"}}"#;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = stepwell::base::hex::encode(ring::hmac::sign(&key, body.as_bytes()).as_ref());
    let signature = format!("sha256={signature}");
    let headers = [("x-hub-signature-256", signature.as_str()), ("x-github-event", "release"), ("x-github-delivery", "d-1")];
    let server = start();
    let first = deliver(&server, "github", &headers, body);
    assert_eq!(first["status"], 200, "{first}");
    let run = until(folder.path(), &server, "announce-release", "completed");
    assert_eq!(run["output"], "acme/shop v2 is out");
    server.kill();
    let server = start();
    assert_eq!(deliver(&server, "github", &headers, body)["ids"], first["ids"]);
    assert_eq!(runs_of(folder.path(), &server, "announce-release").len(), 1);
    assert_eq!(deliver(&server, "github", &headers, &body.replace("v2", "v3"))["status"], 401);
    assert!(server.stop().0.success());
}

#[test]
fn outside_writes_runs_and_mails() {
    let folder = example("outside");
    let mail = crate::docs::fragment::mail_server();
    let config = folder.path().join("events.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("smtp://localhost:25", &format!("smtp://{mail}"))).unwrap();
    for orders in 1..=2 {
        let ended =
            stepwell(folder.path(), ["try", "order/placed", &format!("order=o{orders}"), "item=green tea", "customer=ada@example.com"]);
        assert_eq!(json(&ended), serde_json::json!({"label": "GREEN-TEA", "orders": orders}));
    }
}

/// Reads a request with its body, and answers it.
fn answer(listener: &std::net::TcpListener, status: &str, json: &str) -> String {
    use std::io::{BufRead as _, Read as _, Write as _};
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", json.len());
    stream.write_all((head + json).as_bytes()).unwrap();
    String::from_utf8(body).unwrap()
}

/// Has a service answer so often in the place of the one that an example names; its thread gives what it was asked.
fn serve(folder: &Path, service: &str, answers: &'static [(&'static str, &'static str)]) -> std::thread::JoinHandle<Vec<String>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = folder.join("events.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(service, &format!("http://{}", listener.local_addr().unwrap()))).unwrap();
    std::thread::spawn(move || answers.iter().map(|(status, json)| answer(&listener, status, json)).collect())
}

#[test]
fn http_call_asks_again_and_goes_on_where_it_is_refused() {
    let answers = &[("503 Busy", "{}"), ("200 OK", r#"{"summary":"The door is stuck."}"#), ("400 Bad Request", "{}")];
    let folder = example("http-call");
    let service = serve(folder.path(), "https://models.example.com", answers);
    let (result, tree) = try_example(folder.path(), "ticket/opened");
    assert_eq!(result, serde_json::json!({"ticket": "t1", "summary": "The door is stuck."}), "{tree}");
    let (result, tree) = try_example(folder.path(), "ticket/opened");
    assert_eq!(result, serde_json::json!({"ticket": "t1", "summary": null}), "{tree}");
    assert!(tree.contains("no summary"), "{tree}");
    for body in service.join().unwrap() {
        assert_eq!(body, r#"{"text":"I push and push, and the door stays shut."}"#);
    }
}
