//! The commands that start an engine, and those that ask one.

use rustix::process::Signal;

use super::support::{Engine, PATIENCE, Place};

/// A project whose function does not end by itself before the test wants it to.
fn sleeper() -> Place {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "step(\"first\", || 1);\nsleep(\"long\", \"1h\");\n");
    place
}

fn id_of(text: &str) -> String {
    text.split(['\t', '\n']).next().unwrap().to_owned()
}

#[test]
fn an_event_is_sent_waited_for_and_looked_at() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "log::info(\"hi\", #{ to: event.data.name });\nlet a = step(\"one\", || 1);\n#{ a: a }\n");
    let engine = Engine::dev(&place, &[]);
    let sent = place.ask(&engine, &["send", "hello/said", "name=12", "--wait"]).exits(0);
    assert_eq!(sent.out, "{\"a\":1}\n");
    let sent = sent.says("✓ one").says("info  hi").says("completed in");
    drop(sent);
    let event = id_of(&place.ask(&engine, &["events", "ls"]).exits(0).prints("hello/said\t").prints("{\"name\":\"12\"}").out);
    let run = id_of(
        &place
            .ask(&engine, &["runs", "ls", "--status", "completed", "--function", "greet", "--event", &event])
            .exits(0)
            .prints("greet\tcompleted")
            .out,
    );
    place.ask(&engine, &["events", "get", &event]).exits(0).prints(&format!("event\t{event}\n")).prints(&run);
    place.ask(&engine, &["runs", "get", &run]).exits(0).prints("state\tcompleted\n").prints("result\t{\"a\":1}\n").prints("steps\t1\n");
    place.ask(&engine, &["runs", "trace", &run]).exits(0).prints("└─ ✓ one").prints("greet").prints("completed in");
    place.ask(&engine, &["runs", "logs", &run, "--follow"]).exits(0).prints("\tinfo\thi\t{\"to\":\"12\"}\n");
    place.ask(&engine, &["functions", "ls"]).exits(0).prints("greet\thello/said\t\tup to 4 attempts\t");
    let json = |arguments: &[&str]| place.ask(&engine, arguments).exits(0).json();
    assert_eq!(json(&["runs", "ls", "--json"])[0]["run_id"], run);
    assert_eq!(json(&["runs", "get", &run, "--json"])["output"]["a"], 1);
    assert_eq!(json(&["runs", "trace", &run, "--json"])["steps"][0]["key"], "one");
    assert_eq!(json(&["runs", "logs", &run, "--json"])[0]["message"], "hi");
    assert_eq!(json(&["runs", "logs", &run, "--json", "--follow"])["message"], "hi", "followed, it is a document a line");
    assert_eq!(json(&["events", "get", &event, "--json"])["runs"][0]["run_id"], run);
    assert_eq!(json(&["functions", "ls", "--json"])[0]["id"], "greet");
    assert_eq!(json(&["functions", "get", "greet", "--json"])["handler"], "handlers/greet.rhai");
}

#[test]
fn calls_of_many_runs_leave_descriptors_to_the_database() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    use std::io::{Read as _, Write as _};

    const RUNS: usize = 200;
    const AT_ONCE: usize = 50;
    let place = Place::hello();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    place.write("handlers/greet.rhai", &format!("step(\"call\", || http::get(\"{url}\").status)\n"));
    let engine = Engine::dev(&place, &[]);
    let few = Rlimit { current: Some(160), maximum: Some(160) };
    prlimit(Pid::from_raw(engine.pid() as i32), Resource::Nofile, few).unwrap();
    // Answers only once so many calls are there, while all the others that may call hold a connection too.
    std::thread::spawn(move || {
        for _ in 0..RUNS / AT_ONCE {
            let held: Vec<_> = (0..AT_ONCE).map(|_| listener.accept().unwrap().0).collect();
            for mut stream in held {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        }
    });
    place.ask(&engine, &["send", "hello/said", "--example", "--count", &RUNS.to_string()]).exits(0);
    let completed = || place.ask(&engine, &["runs", "ls", "--status", "completed", "--limit", "1000"]).exits(0).out.lines().count();
    while completed() < RUNS {}
}

#[test]
fn ids_may_be_cut_short_while_they_are_clear() {
    let place = sleeper();
    let engine = Engine::dev(&place, &["--ephemeral"]);
    place.ask(&engine, &["send", "hello/said", "--example", "--count", "3"]).exits(0);
    let list = place.ask(&engine, &["runs", "ls"]).exits(0).out;
    let ids: Vec<&str> = list.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    let first = &ids[0][..1];
    place.ask(&engine, &["runs", "get", first]).exits(2).says("error[E0535]").says(ids[0]).says(ids[2]);
    place.ask(&engine, &["runs", "get", &ids[1].to_uppercase()]).exits(0).prints(ids[1]);
    place.ask(&engine, &["runs", "get", "zzz"]).exits(3).says("error[E0534]");
    place.ask(&engine, &["runs", "get", "zzzzzzzzzzzzz"]).exits(3);
    place.ask(&engine, &["runs", "get", "0000000000001"]).exits(3);
    place.ask(&engine, &["events", "get", "0000000000001"]).exits(3);
    place.ask(&engine, &["runs", "ls", "--status", "failled"]).exits(2).says("did you mean `failed`?");
    place.ask(&engine, &["runs", "ls", "--since", "yesterday"]).exits(2);
    place.ask(&engine, &["runs", "ls", "--limit", "0"]).exits(2);
}

#[test]
fn a_run_is_cancelled_once() {
    let place = sleeper();
    let engine = Engine::dev(&place, &["--ephemeral"]);
    let event = id_of(&place.ask(&engine, &["send", "hello/said", "--example"]).exits(0).out);
    let run = id_of(&place.ask(&engine, &["runs", "ls", "--event", &event]).exits(0).out);
    place.ask(&engine, &["runs", "cancel", &run, "--reason", "changed my mind"]).exits(0).says("cancelled");
    place.ask(&engine, &["runs", "get", &run]).exits(0).prints("state\tcancelled\n").prints("changed my mind");
    place.ask(&engine, &["runs", "cancel", &run]).exits(1).says("the run has ended");
    place.ask(&engine, &["runs", "cancel", "0000000000001"]).exits(3);
}

#[test]
fn what_send_says_of_events_that_are_not_taken() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "fail(\"not today\");\n");
    let engine = Engine::dev(&place, &["--ephemeral"]);
    place
        .ask(&engine, &["send", "helo/said", "--data", "{}"])
        .exits(3)
        .says("no event `helo/said` is declared")
        .says("did you mean `hello/said`?");
    place.ask(&engine, &["send", "hello/said"]).exits(1).says("at /data");
    place.ask(&engine, &["send", "hello/said", "--data", "[1]"]).exits(2);
    place.ask(&engine, &["send", "hello/said", "--data", "@nowhere.json"]).exits(74).says("nowhere.json");
    place.ask(&engine, &["send", "hello/said", "--example", "--id", "a", "--count", "2"]).exits(2);
    place.ask(&engine, &["send", "hello/said", "--example", "--timeout", "1s"]).exits(2).says("--wait");
    let failed = place.ask(&engine, &["send", "hello/said", "--example", "--wait"]).exits(1);
    assert_eq!(failed.out, "");
    failed.says("error: not today").says("handlers/greet.rhai:1:1").says("^^^^");
    let first = place.ask(&engine, &["send", "hello/said", "--example", "--id", "once"]).exits(0).out;
    let again = place.ask(&engine, &["send", "hello/said", "--example", "--id", "once"]).exits(0).out;
    assert_eq!(first, again);
    place.write("data.json", "{\"name\": \"file\"}");
    place.ask(&engine, &["send", "hello/said", "--data", "@data.json", "--ts", "1h"]).exits(0);
    place.ask(&engine, &["runs", "ls", "--status", "queued"]).exits(0).prints("time has not come");
}

#[test]
fn lists_are_narrowed_alike_by_an_engine_and_from_its_database() {
    let place = Place::new();
    let limit = "concurrency: { limit: 1, key: event.data.user }";
    let functions = format!("first: {{ on: a/first, {limit} }}, second: {{ on: a/second, {limit} }}");
    place.write("events.yaml", &format!("version: 1\nevents: {{ a/first: {{}}, a/second: {{}} }}\nfunctions: {{ {functions} }}\n"));
    place.write("handlers/first.rhai", "1\n");
    place.write("handlers/second.rhai", "fail(\"no\")\n");
    let engine = Engine::dev(&place, &[]);
    for (event, user, exit) in [("a/first", "u1", 0), ("a/first", "7", 0), ("a/second", "u1", 1)] {
        place.ask(&engine, &["send", event, &format!("user={user}"), "--wait"]).exits(exit);
    }
    let database = place.path(".stepwell/stepwell.db").display().to_string();
    let cases: [(&[&str], usize); 17] = [
        (&["runs", "ls"], 3),
        (&["runs", "ls", "--function", "first"], 2),
        (&["runs", "ls", "--status", "failed"], 1),
        (&["runs", "ls", "--status", "failed,completed"], 3),
        (&["runs", "ls", "--status", "Completed"], 2),
        (&["runs", "ls", "--status", "Scheduled,Running,failed"], 1),
        (&["runs", "ls", "--key", "u1"], 2),
        (&["runs", "ls", "--key", "7"], 1),
        (&["runs", "ls", "--since", "1h"], 3),
        (&["runs", "ls", "--since", "2100-01-01T00:00:00Z"], 0),
        (&["runs", "ls", "--limit", "2"], 2),
        (&["events", "ls", "--name", "a/second"], 1),
        (&["events", "ls", "--name", "a/*"], 3),
        (&["events", "ls", "--name", "a/*", "--limit", "1"], 1),
        (&["events", "ls", "--where", "event.name == 'a/second' || event.data.none == 1"], 1),
        (&["events", "ls", "--since", "2100-01-01T00:00:00Z"], 0),
        (&["events", "ls", "--since", "1h", "--limit", "2"], 2),
    ];
    for (arguments, count) in cases {
        let answered = place.ask(&engine, arguments).exits(0).out;
        assert_eq!(answered.lines().count(), count, "{arguments:?}: {answered}");
        let read = place.run(&[arguments, &["--database", &database]].concat()).exits(0).out;
        assert_eq!(read, answered, "{arguments:?}");
    }
    place.ask(&engine, &["events", "tail", "--name", "a/*"]).exits(2).says("`events ls` takes a family");
}

#[test]
fn numbers_come_out_as_they_went_in() {
    let place = Place::hello();
    place.write("events.yaml", "version: 1\nevents: { n/sent: {} }\nfunctions: { echo: { on: n/sent } }\n");
    place.write("handlers/echo.rhai", "event.data\n");
    let engine = Engine::dev(&place, &["--ephemeral"]);
    let data = r#"{"big":12345678901234567890123,"exact":1.50}"#;
    place.ask(&engine, &["send", "n/sent", "--data", data, "--wait"]).exits(0).prints("\"big\":12345678901234567890123");
    let event = id_of(&place.ask(&engine, &["events", "ls"]).exits(0).prints(data).out);
    place.ask(&engine, &["events", "get", &event]).exits(0).prints(data);
    place.ask(&engine, &["events", "get", &event, "--json"]).exits(0).prints(&format!("\"data\":{data}"));
    place.ask(&engine, &["runs", "ls", "--json"]).exits(0).prints("\"big\":12345678901234567890123");
}

#[test]
fn waiting_has_an_end() {
    let place = sleeper();
    let engine = Engine::dev(&place, &["--ephemeral"]);
    place.ask(&engine, &["send", "hello/said", "--example", "--wait", "--timeout", "300ms"]).exits(124).says("error[E0546]");
}

#[test]
fn without_an_engine_the_database_is_read_and_nothing_is_changed() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "step(\"one\", || 1)\n");
    let mut engine = Engine::dev(&place, &[]);
    place.ask(&engine, &["send", "hello/said", "--example", "--wait"]).exits(0);
    engine.signal(Signal::TERM);
    assert_eq!(engine.exit_code(), 0);
    // Nobody listens there any more; a database that is named is read without asking.
    let database = ["--database", ".stepwell/stepwell.db"];
    let read = |arguments: &[&str]| place.run(&[arguments, &database].concat());
    let run = id_of(&read(&["runs", "ls", "--status", "completed", "--key", "null"]).exits(0).out);
    assert_eq!(run, "", "a function without limits has no keys");
    let run = id_of(&read(&["runs", "ls", "--status", "completed"]).exits(0).out);
    read(&["runs", "get", &run[..12]]).exits(0).prints("result\t1\n");
    read(&["runs", "trace", &run]).exits(0).prints("✓ one");
    read(&["runs", "logs", &run]).exits(0);
    let event = id_of(&read(&["events", "ls", "--name", "hello/said"]).exits(0).out);
    read(&["events", "get", &event]).exits(0).prints(&run);
    read(&["runs", "get", "0000000000001"]).exits(3);
    place.run(&["sql", "select count(*) from runs"]).exits(0).prints("1\n");
    place.run(&["sql", "delete from meta"]).exits(2).says("would write");
    place.run(&["sql", "selct 1"]).exits(2).says("error[E0542]");
    let typed =
        place.run(&["sql", "select 1 as a, '1' as b, 1.5 as c, null as d, 'true' as e, '{\"f\": [2]}' as g", "--json"]).exits(0).json();
    assert_eq!(typed, serde_json::json!([{"a": 1, "b": "1", "c": 1.5, "d": null, "e": "true", "g": {"f": [2]}}]));
    place.run(&["doctor"]).exits(0).prints("✓ lock       free").prints("✓ integrity");
    place.run(&["backup", "copy.db"]).exits(0).says("is a whole database");
    place.run(&["backup", "copy.db"]).exits(73);
    place.run(&["backup", "nowhere/copy.db"]).exits(74).says("cannot write the copy: nowhere/copy.db");
    place.run(&["runs", "ls", "--database", "copy.db"]).exits(0).prints(&run);
    for changing in [["runs", "cancel", run.as_str()], ["send", "hello/said", "name=x"]] {
        let gone = engine.url.clone();
        place.run_with(&changing, &[("STEPWELL_URL", &gone)], "").exits(69).says("error[E0531]");
    }
    let gone = engine.url.clone();
    place.run_with(&["runs", "ls"], &[("STEPWELL_URL", &gone)], "").exits(69);
    place.run(&["runs", "ls", "--url", "ftp://x"]).exits(2);
    place.run(&["runs", "ls", "-c", "nowhere.yaml"]).exits(78).says("nowhere.yaml");
}

#[test]
fn one_database_has_one_engine() {
    let place = Place::hello();
    let engine = Engine::dev(&place, &[]);
    let second = place.run(&["run", "--listen", "127.0.0.1:0"]).exits(75);
    second.says("error[E0543]").says(&format!("process {}", engine.pid()));
    let well = place.ask(&engine, &["doctor"]).exits(0).prints(&format!("✓ lock       an engine is running (process {})", engine.pid()));
    well.prints(&format!("✓ engine     the one at {} is well", engine.url));
    let port = engine.url.rsplit(':').next().unwrap();
    place.run(&["dev", "--ephemeral", "--port", port]).exits(74).says("error[E0547]");
}

#[test]
fn doctor_tells_of_an_engine_that_does_not_answer_and_of_one_that_is_not_well() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "1\n");
    let mut command = place.command();
    command.args(["run", "--listen", "127.0.0.1:0"]);
    let engine = Engine::start(command);
    let nowhere = place.run_with(&["doctor"], &[("STEPWELL_URL", "http://127.0.0.1:1")], "").exits(0).prints("✓ lock ");
    nowhere.prints("- engine     no engine answers at http://127.0.0.1:1").prints("name its address in STEPWELL_URL");
    // One that stands still takes connections and says nothing.
    engine.signal(Signal::STOP);
    place.ask(&engine, &["doctor"]).exits(0).prints(&format!("- engine     no engine answers at {}", engine.url));
    engine.signal(Signal::CONT);
    let good = place.read("events.yaml");
    place.write("events.yaml", "version: 1\nfunktions: {}\n");
    place.ask(&engine, &["reload"]).exits(78);
    place.write("events.yaml", &good);
    let found = place.ask(&engine, &["doctor"]).exits(74).prints("✓ config ").prints("✓ lock ");
    found.prints(&format!("✗ engine     the one at {} is not well: the config was found broken", engine.url));
    let report = place.ask(&engine, &["doctor", "--json"]).exits(74).json();
    let engine_check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "engine").unwrap();
    assert_eq!((&report["ok"], &engine_check["finding"]), (&false.into(), &"ill".into()), "{report}");
    place.ask(&engine, &["reload"]).exits(0);
    place.ask(&engine, &["doctor"]).exits(0);
}

#[test]
fn run_asks_for_keys_where_others_can_reach_it_and_then_for_them() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "1\n");
    place.run(&["run", "--listen", "0.0.0.0:0"]).exits(78).says("error[E0538]");
    let keys = [("STEPWELL_EVENT_KEYS", "evt_a,evt_b"), ("STEPWELL_ADMIN_TOKEN", "adm_a"), ("STEPWELL_READ_TOKEN", "read_a")];
    let mut command = place.command();
    command.args(["run", "--listen", "127.0.0.1:0"]).envs(keys);
    let engine = Engine::start(command);
    let with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let url = ("STEPWELL_URL", engine.url.as_str());
        place.run_with(arguments, &[variables, &[url]].concat(), "")
    };
    with(&[], &["send", "hello/said", "--example"]).exits(77).says("error[E0532]");
    with(&[], &["runs", "ls"]).exits(77);
    with(&[("STEPWELL_EVENT_KEYS", "evt_b")], &["send", "hello/said", "--example"]).exits(0);
    with(&[("STEPWELL_READ_TOKEN", "read_a")], &["runs", "ls"]).exits(0).prints("greet");
    with(&[("STEPWELL_READ_TOKEN", "read_a")], &["runs", "cancel", "0000000000001"]).exits(77);
    with(&keys, &["send", "hello/said", "--example", "--wait"]).exits(0).prints("1\n");
}

#[test]
fn a_signal_drains_and_the_next_start_goes_on() {
    let place = sleeper();
    let mut engine = Engine::dev(&place, &[]);
    let event = id_of(&place.ask(&engine, &["send", "hello/said", "--example"]).exits(0).out);
    engine.line_with("greet sleeping");
    engine.signal(Signal::INT);
    engine.line_with("SIGINT: no new events");
    assert_eq!(engine.exit_code(), 0);
    let engine = Engine::dev(&place, &[]);
    place.ask(&engine, &["runs", "ls", "--event", &event, "--status", "sleeping"]).exits(0).prints("greet\tsleeping");
}

/// A server that answers each request when it is told to, or never.
struct Gate {
    url: String,
    requests: std::sync::mpsc::Receiver<std::net::TcpStream>,
}

impl Gate {
    fn new() -> Gate {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, requests) = std::sync::mpsc::channel();
        std::thread::spawn(move || while listener.accept().is_ok_and(|(request, _)| sender.send(request).is_ok()) {});
        Gate { url, requests }
    }

    /// A project whose function has a step that asks here, and one after it.
    fn project(&self) -> Place {
        let place = Place::hello();
        place.write("handlers/greet.rhai", &format!("step(\"ask\", || http::get(\"{}\").status);\nstep(\"after\", || 1)\n", self.url));
        place
    }

    /// Waits for a request.
    fn request(&self) -> std::net::TcpStream {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }
}

fn answer(mut request: std::net::TcpStream) {
    use std::io::{BufRead as _, Write as _};
    let lines = std::io::BufReader::new(request.try_clone().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.is_empty()), "a request has a head");
    request.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
}

#[test]
fn a_step_that_is_under_way_is_finished_before_the_engine_stops() {
    let gate = Gate::new();
    let place = gate.project();
    let mut engine = Engine::dev(&place, &[]);
    let event = id_of(&place.ask(&engine, &["send", "hello/said", "--example"]).exits(0).out);
    let request = gate.request();
    engine.signal(Signal::TERM);
    engine.line_with("SIGTERM: no new events");
    place.ask(&engine, &["send", "hello/said", "--example"]).exits(69).says("stopping");
    answer(request);
    assert_eq!(engine.exit_code(), 0);
    let engine = Engine::dev(&place, &[]);
    // The runs that an engine takes up are shown too.
    engine.line_with("greet running");
    engine.line_with("greet completed");
    assert!(gate.requests.try_recv().is_err(), "a step that was recorded does not run again");
    place.ask(&engine, &["runs", "ls", "--event", &event]).exits(0).prints("greet\tcompleted");
}

#[test]
fn a_step_that_outlasts_the_grace_runs_again_at_the_next_start() {
    let gate = Gate::new();
    let place = gate.project();
    place.write("events.yaml", &format!("{}\nengine: {{ shutdown_grace: 100ms }}\n", place.read("events.yaml")));
    let mut engine = Engine::dev(&place, &[]);
    place.ask(&engine, &["send", "hello/said", "--example"]).exits(0);
    let _first = gate.request();
    engine.signal(Signal::TERM);
    engine.line_with("some steps have not finished within 100ms");
    assert_eq!(engine.exit_code(), 0);
    let engine = Engine::dev(&place, &[]);
    answer(gate.request());
    engine.line_with("greet completed");
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_start_goes_on() {
    let gate = Gate::new();
    let place = gate.project();
    let mut engine = Engine::dev(&place, &[]);
    let event = id_of(&place.ask(&engine, &["send", "hello/said", "--example"]).exits(0).out);
    let _first = gate.request();
    engine.signal(Signal::TERM);
    engine.line_with("SIGTERM: no new events");
    engine.signal(Signal::TERM);
    engine.line_with("SIGTERM again");
    assert_eq!(engine.exit_code(), 1);
    let engine = Engine::dev(&place, &[]);
    let _second = gate.request();
    place.ask(&engine, &["runs", "ls", "--event", &event]).exits(0).prints("greet\trunning");
}

#[test]
fn a_failed_run_is_drawn_with_its_attempts_and_its_line() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "step(\"first\", #{ retries: 1, backoff: \"1ms\" }, || {\n    let few = [1];\n    few[7]\n})\n");
    let engine = Engine::dev(&place, &["--ephemeral"]);
    place.ask(&engine, &["send", "hello/said", "--example", "--wait"]).exits(1);
    let run = id_of(&place.ask(&engine, &["runs", "ls", "--status", "failed"]).exits(0).out);
    let trace = place.ask(&engine, &["runs", "trace", &run]).exits(0);
    let lines: Vec<&str> = trace.out.lines().collect();
    assert!(lines[0].starts_with(&format!("greet {run} on hello/said  failed in ")), "{}", trace.out);
    assert!(lines[1].starts_with("└─ ✗ first") && lines[1].contains("2 attempts"), "{}", trace.out);
    for (line, attempt) in [(lines[2], "✗ attempt 1 failed after"), (lines[3], "✗ attempt 2 failed after")] {
        assert!(line.contains(attempt) && line.contains("(handlers/greet.rhai:3)"), "{}", trace.out);
    }
    let trace = trace.prints("handlers/greet.rhai:3:").prints("3 |     few[7]\n").prints("^");
    drop(trace);
    place.ask(&engine, &["runs", "get", &run]).exits(0).prints("state\tfailed\n").prints("3 |     few[7]\n").prints("^");
}

#[test]
fn the_engine_that_the_config_starts_is_asked() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "1\n");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.write("events.yaml", &format!("{}\nengine: {{ listen: \"127.0.0.1:{port}\" }}\n", place.read("events.yaml")));
    let mut command = place.command();
    // Where Kubernetes knows a service called stepwell, every container has this variable; it says nothing to us.
    command.args(["dev", "--ephemeral"]).env("STEPWELL_PORT", "tcp://10.0.0.1:8288");
    let engine = Engine::start(command);
    assert_eq!(engine.url, format!("http://127.0.0.1:{port}"));
    let send = engine.line_with("stepwell send hello/said");
    assert!(!send.contains("--url"), "{send}");
    place.run(&["send", "hello/said", "--example", "--wait"]).exits(0).prints("1\n");
    let run = id_of(&place.run(&["runs", "ls"]).exits(0).prints("greet\tcompleted").out);
    place.run(&["functions", "ls"]).exits(0).prints("greet\t");
    let config = place.path("events.yaml");
    let elsewhere = Place::new();
    elsewhere.run(&["runs", "cancel", &run, "-c", config.to_str().unwrap()]).exits(1).says("the run has ended");
}

#[test]
fn functions_are_shown_with_all_of_their_options() {
    let place = Place::hello();
    let all = "  all:\n    on: { event: hello/said, if: \"event.data.name != null\" }\n    handler: handlers/greet.rhai\n    \
               concurrency: [{ limit: 2, key: event.data.name }, { limit: 9, shared: desk, hold: active }]\n    \
               retries: { attempts: 3, backoff: linear, initial: 5s, max: 1m, jitter: 0.5 }\n    timeouts: { start: 1m, finish: 1h }\n    \
               idempotency: event.data.id\n    priority: \"event.data.p\"\n    rate_limit: { limit: 3, period: 1h, key: event.data.name }\n    \
               throttle: { limit: 4, period: 1m, burst: 2, key: event.data.name }\n    debounce: { period: 30s, timeout: 5m, key: event.data.name }\n    \
               cancel_on: [{ event: hello/said, if: \"async.data.id == event.data.id\", timeout: 1d }]\n    on_failure: handlers/greet.rhai\n";
    let rest = "  some: { on: hello/said, handler: handlers/greet.rhai, batch: { size: 5, timeout: 3s, key: event.data.name } }\n  \
                one: { on: hello/said, handler: handlers/greet.rhai, singleton: { key: event.data.name, mode: cancel } }\n  \
                clock: { handler: handlers/greet.rhai, cron: { schedule: \"0 7 * * *\", tz: Europe/Berlin, jitter: 2m, missed: skip } }\n  \
                clocks: { handler: handlers/greet.rhai, cron: [\"0 9 * * *\", { schedule: \"30 11 * * *\", tz: Europe/Berlin, missed: skip }] }\n";
    place.write("events.yaml", &format!("version: 1\nevents: {{ hello/said: {{}} }}\nfunctions:\n{all}{rest}"));
    let mut shown = place.run(&["functions", "get", "all"]).exits(0);
    for line in [
        "on\thello/said if event.data.name != null",
        "concurrency\t2 per event.data.name",
        "concurrency\t9 shared desk, while active",
        "idempotency\tonce per event.data.id",
        "rate_limit\trate limit 3 in 1h per event.data.name",
        "debounce\tdebounce 30s, at most 5m per event.data.name",
        "throttle\tthrottle 4 in 1m, burst 2 per event.data.name",
        "priority\tpriority event.data.p",
        "retries\tup to 3 attempts, linear from 5s to 1m, jitter 0.5",
        "timeouts\tstart 1m, finish 1h, step 5m",
        "cancel_on\thello/said if async.data.id == event.data.id, for 1d",
        "on_failure\thandlers/greet.rhai",
        "handler\thandlers/greet.rhai",
    ] {
        shown = shown.prints(&format!("{line}\n"));
    }
    drop(shown);
    place.run(&["functions", "get", "some"]).exits(0).prints("batch\tbatch of 5 or 3s per event.data.name\n");
    place.run(&["functions", "get", "one"]).exits(0).prints("singleton\tsingleton cancel per event.data.name\n");
    let clock = place.run(&["functions", "get", "clock"]).exits(0).prints("on\tcron 0 7 * * * Europe/Berlin\n").prints("missed\tskip\n");
    drop(clock.prints("jitter\t2m\n").prints("T07:00:00+0"));
    // Of several each has its own next start.
    let clocks = place.run(&["functions", "get", "clocks"]).exits(0);
    for part in ["on\tcron 0 9 * * *\nnext start\t", "T09:00:00+00:00\nmissed\trun-once\non\tcron 30 11 * * * Europe/Berlin\nnext start\t"]
    {
        assert!(clocks.out.contains(part), "{part}: {}", clocks.out);
    }
    assert!(clocks.out.contains("T11:30:00+0") && clocks.out.contains(":00\nmissed\tskip\n"), "{}", clocks.out);
    let list = place.run(&["functions", "ls"]).exits(0).prints("\tbatch of 5 or 3s per event.data.name\t");
    let list = list.prints("rate limit 3 in 1h per event.data.name, debounce 30s");
    drop(list.prints("clocks\tcron 0 9 * * *, cron 30 11 * * * Europe/Berlin\t"));
    let json = place.run(&["functions", "ls", "--json"]).exits(0).json();
    assert_eq!(json[0]["throttle"], serde_json::json!({"limit": 4, "period": "1m", "burst": 2, "key": "event.data.name"}));
    assert_eq!(json[0]["debounce"]["timeout"], "5m");
    assert_eq!((&json[1]["batch"]["size"], &json[2]["singleton"]["mode"]), (&5.into(), &"cancel".into()));
    assert_eq!((&json[0]["cron"], &json[4]["cron"][0]["schedule"]), (&serde_json::Value::Null, &"0 9 * * *".into()));
    assert!(json[4]["cron"][1]["next"].as_str().is_some_and(|next| next.contains("T11:30:00+0")), "{json}");
    place.run(&["functions", "get", "sme"]).exits(3).says("did you mean `some`?");
}

#[test]
fn many_events_are_waited_for_together() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "step(\"one\", || 1)\n");
    let engine = Engine::dev(&place, &["--ephemeral"]);
    let sent = place.ask(&engine, &["send", "hello/said", "--example", "--count", "150", "--wait"]).exits(0);
    assert_eq!(sent.out, "1\n".repeat(150));
}

#[test]
fn a_broken_project_starts_nothing() {
    for (file, from, to, at) in [
        ("handlers/greet.rhai", "", "let x = ;\n", "handlers/greet.rhai:1:9"),
        ("events.yaml", "version: 1", "version: [1", "events.yaml:"),
        ("events.yaml", "retries", "retrys", "events.yaml:15:5"),
        ("events.yaml", "on: hello/said", "on: { event: hello/said, if: \"evnt.data.x\" }", "events.yaml:"),
        ("schemas/hello-said.json", "\"object\"", "\"objekt\"", "schemas/hello-said.json:"),
    ] {
        let place = Place::hello();
        let text = place.read(file);
        place.write(file, &if from.is_empty() { to.to_owned() } else { text.replacen(from, to, 1) });
        assert_ne!(place.read(file), text, "{file}: {to}");
        for command in [&["run"][..], &["dev"], &["validate"], &["try", "hello/said", "--example"]] {
            let ran = place.run(command).exits(78);
            let said = format!("{}{}", ran.out, ran.err);
            assert!(said.contains(at) && said.contains('^'), "{command:?}: {said}");
            assert!(!said.contains("listening on"), "{command:?}: {said}");
        }
        assert!(!place.path(".stepwell/stepwell.db").exists());
    }
}

#[test]
fn a_null_key_is_warned_of_once() {
    let place = Place::hello();
    let options = "idempotency: event.data.order\n    concurrency: { limit: 1, key: event.data.user }\n    retries";
    place.write("events.yaml", &place.read("events.yaml").replacen("retries", options, 1));
    place.write("handlers/greet.rhai", "step(\"one\", || 1)\n");
    let engine = Engine::dev(&place, &["--ephemeral"]);
    for _ in 0..3 {
        place.ask(&engine, &["send", "hello/said", "--data", "{\"name\": \"x\"}", "--wait"]).exits(0);
    }
    engine.signal(rustix::process::Signal::TERM);
    let lines = engine.lines_to_the_end();
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("the concurrency key `event.data.user` is null for an event"), 1, "{lines:#?}");
    assert_eq!(count("the idempotency key `event.data.order` is null for an event"), 1, "{lines:#?}");
}

#[test]
fn a_key_a_priority_and_a_condition_that_fail_are_warned_of_once() {
    let place = Place::hello();
    let functions = "keyed: { on: hello/said, priority: event.data.rank * 2, throttle: { limit: 90, period: 1s, key: event.data.shop }, \
                         rate_limit: { limit: 90, period: 1s, key: event.data.site } }\n  \
                     alone: { on: hello/said, singleton: { key: event.data.one } }\n  \
                     quiet: { on: hello/said, debounce: { period: 1ms, key: event.data.talk } }\n  \
                     some: { on: hello/said, batch: { size: 1, timeout: 1s, key: event.data.pile, if: event.data.small > 1 } }\n  \
                     maybe: { on: { event: hello/said, if: event.data.amount > 0 } }\n";
    place.write("events.yaml", &format!("events: {{ hello/said: {{}} }}\nfunctions:\n  {functions}"));
    for function in ["keyed", "alone", "quiet", "some", "maybe"] {
        place.write(&format!("handlers/{function}.rhai"), "step(\"one\", || 1)\n");
    }
    let engine = Engine::dev(&place, &["--ephemeral"]);
    for _ in 0..3 {
        place.ask(&engine, &["send", "hello/said", "--data", "{}", "--wait"]).exits(0);
    }
    engine.signal(rustix::process::Signal::TERM);
    let lines = engine.lines_to_the_end();
    for text in [
        "the priority counts as 0: ",
        "the throttle's key `event.data.shop` is null for an event",
        "the rate limit's key `event.data.site` is null for an event",
        "the singleton's key `event.data.one` is null for an event",
        "the debounce's key `event.data.talk` is null for an event",
        "the batch's key `event.data.pile` is null for an event",
        "the batch's `if: event.data.small > 1` counts as false: ",
        "`if: event.data.amount > 0` counts as false: ",
    ] {
        let count = lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count, 1, "{text}: {lines:#?}");
    }
}

#[test]
fn dev_says_what_to_do_next() {
    let place = Place::hello();
    let engine = Engine::dev(&place, &["--ephemeral"]);
    engine.line_with("watching     a change");
    let send = engine.line_with("stepwell send hello/said --example --wait --url");
    let arguments: Vec<&str> = send.split_whitespace().skip(1).collect();
    engine.line_with("curl ");
    place.run(&arguments).exits(0).prints("Hello, World!");
    engine.line_with("Hello, World!");
    assert!(!place.path(".stepwell/stepwell.db").exists(), "an ephemeral engine leaves nothing");
}

#[test]
fn tail_follows_what_runs_do() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "step(\"one\", || 1)\n");
    let engine = Engine::dev(&place, &["--ephemeral"]);
    let mut command = place.command();
    command.args(["runs", "tail", "--json", "--url", &engine.url]);
    let mut tail = super::support::Following::start(command);
    // The stream is open when its first notice comes; until then events are sent one after the other.
    let line = tail.line_while(|| drop(place.ask(&engine, &["send", "hello/said", "--example"]).exits(0)));
    let notice: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(notice["run"].is_string(), "{line}");
}

#[test]
fn a_function_is_paused_and_resumed_and_seen_to_be() {
    let place = Place::hello();
    let engine = Engine::dev(&place, &[]);
    place.ask(&engine, &["functions", "pause", "gret"]).exits(3).says("did you mean `greet`?");
    for elsewhere in ["../runs", "..", ""] {
        place.ask(&engine, &["functions", "pause", elsewhere]).exits(3).says("there is no function");
    }
    place.ask(&engine, &["functions", "pause", "greet"]).exits(0).says("greet is paused");
    place.ask(&engine, &["send", "hello/said", "name=x"]).exits(0);
    let seen = |ran: &dyn Fn(&[&str]) -> super::support::Ran| {
        ran(&["functions", "ls"]).exits(0).prints("\tpaused\n");
        ran(&["runs", "ls"]).exits(0).prints("greet\tpaused\t");
        ran(&["runs", "ls", "--status", "paused"]).exits(0).prints("greet\tpaused\t");
        assert_eq!(ran(&["runs", "ls", "--status", "queued"]).exits(0).out, "");
    };
    seen(&|arguments| place.ask(&engine, arguments));
    let why = place.ask(&engine, &["runs", "ls", "--json"]).exits(0).json()[0]["why"].to_string();
    assert!(why.contains("stepwell functions resume greet"), "{why}");
    drop(engine);
    // The database tells it too, while no engine runs.
    seen(&|arguments| place.run(arguments));
    let engine = Engine::dev(&place, &[]);
    seen(&|arguments| place.ask(&engine, arguments));
    let resumed = place.ask(&engine, &["functions", "resume", "greet", "--json"]).exits(0).json();
    assert_eq!((&resumed[0]["id"], resumed[0].get("paused_since")), (&"greet".into(), None), "{resumed}");
    place.ask(&engine, &["functions", "ls"]).exits(0).prints("\t\n");
    place.ask(&engine, &["send", "hello/said", "name=y", "--wait"]).exits(0);
}
