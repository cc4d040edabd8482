//! `validate` and `try`: the project without a server.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::support::{Engine, Place};

#[test]
fn a_sound_project_has_no_problems() {
    let place = Place::hello();
    place.run(&["validate"]).exits(0).prints("3 files, no problems\n");
    place.run(&["validate", "--deny-warnings", "."]).exits(0);
    place.run(&["validate", "events.yaml", "--format", "github"]).exits(0);
    assert_eq!(place.run(&["validate", "--format", "json"]).exits(0).json()["errors"], 0);
}

#[test]
fn all_problems_come_in_one_go_in_every_format() {
    let place = Place::hello();
    place.write("events.yaml", &place.read("events.yaml").replace("retries", "retrys"));
    place.write("handlers/greet.rhai", "let x = ;\n");
    let human = place.run(&["validate"]).exits(78);
    human.prints("events.yaml:15:5").prints("did you mean `retries`?").prints("handlers/greet.rhai:1:").prints("2 files, 2 errors");
    let json = place.run(&["validate", "--format", "json"]).exits(78).json();
    assert_eq!(json["errors"], 2);
    assert_eq!(json["problems"][0]["places"][0]["file"], "events.yaml");
    place.run(&["validate", "--format", "github"]).exits(78).prints("::error file=events.yaml,line=15,col=5,");
    let sarif = place.run(&["validate", "--format", "sarif"]).exits(78).json();
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 2);
    place.run(&["validate", "--format", "xml"]).exits(2);
    place.run(&["validate", "--format", "text"]).exits(78).prints("2 files, 2 errors");
}

#[test]
fn a_change_is_checked_again() {
    let place = Place::hello();
    let sound = place.read("handlers/greet.rhai");
    let mut child = place.command().args(["validate", "--watch"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut until = |text: &str| assert!(lines.any(|line| line.contains(text)), "{text} never came");
    until("no problems");
    place.write("handlers/greet.rhai", "event.data.nmae\n");
    until("the schema has `name`");
    place.write("handlers/greet.rhai", &sound);
    until("no problems");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn warnings_are_denied_on_request() {
    let place = Place::hello();
    place.write(
        "events.yaml",
        &place.read("events.yaml").replace("schemas/hello-said.json", "schemas/hello-said.json\ninclude: [more/*.yaml]\n#"),
    );
    place.write("events.yaml", "version: 1\ninclude: [more/*.yaml]\n");
    place.run(&["validate"]).exits(0).prints("1 warning");
    place.run(&["validate", "--deny-warnings"]).exits(78);
}

#[test]
fn try_runs_an_event_and_prints_its_result() {
    let place = Place::hello();
    let ran = place.run(&["try", "hello/said", "--example", "--fast-forward"]).exits(0);
    assert_eq!(ran.out, "{\"greeting\":\"Hello, World!\"}\n");
    ran.says("✓ compose").says("a-moment").says("info  Hello, World!").says("completed in");
    let json = place.run(&["try", "hello/said", "name=x", "--fast-forward", "--json"]).exits(0).json();
    assert_eq!(json[0]["run"]["output"]["greeting"], "Hello, x!");
    assert_eq!(json[0]["steps"].as_array().unwrap().len(), 3);
    let stdin = place.run_with(&["try", "hello/said", "--data", "-", "--fast-forward"], &[], "{\"name\": \"stdin\"}").exits(0);
    assert_eq!(stdin.out, "{\"greeting\":\"Hello, stdin!\"}\n");
    assert!(!place.path(".stepwell/stepwell.db").exists(), "try leaves no database");
}

#[test]
fn try_sends_further_events_at_later_times() {
    let place = Place::new();
    place.run(&["init", "--template", "payments"]).exits(0).says("--then otp/received@5m --fast-forward");
    let first = ["try", "payment/initiate", "--example", "--fast-forward"];
    let run = |more: &[&str]| place.run(&[&first, more].concat());
    let paid = run(&["--then", "otp/received@5m"]).exits(0);
    assert!(paid.out.contains(r#""receipt":"user123 paid 12.00 EUR","status":"paid""#), "{}", paid.out);
    let paid = paid
        .says("◷ otp/received waits for event `otp/received` with `async.data.userId == event.data.userId`, gives up after 10m\n")
        .says("→ otp/received 5m  {\"userId\":\"user123\",\"code\":\"123456\"}")
        .says("  by otp/received  {\"");
    let place_of = |text: &str| paid.err.find(text).unwrap_or_else(|| panic!("no `{text}` in\n{}", paid.err));
    assert!(place_of("◷ otp/received") < place_of("→ otp/received") && place_of("→ otp/received") < place_of("✓ otp/received"));
    // In order of time, whatever the order of the flags; one of somebody else fits nothing, and it shows.
    let other =
        run(&["--then", "otp/received@3m code=222222", "--then", r#"otp/received@1m {"userId": "eve", "code": "111111"}"#]).exits(0);
    other.says("\"code\":\"222222\"").says("warning[W0549]: otp/received after 1m started no run");
    let late = run(&["--then", "otp/received@11m"]).exits(0).prints("\"status\":\"expired\"").says("nothing came in time");
    late.says("W0549").says("release");
    let json = run(&["--then", "otp/received@5m", "--json"]).exits(0).json();
    let wait = &json[0]["steps"][1];
    assert_eq!((&wait["kind"], &wait["output"]["data"]["code"]), (&"wait".into(), &"123456".into()), "{json}");
}

#[test]
fn what_is_no_later_event_is_a_usage_error() {
    let place = Place::new();
    place.run(&["init", "--template", "payments"]).exits(0);
    place.write(
        "events.yaml",
        &place
            .read("events.yaml")
            .replace("example: { userId: user123 }", "description: \"\"")
            .replace("description: No code came in time, and nothing was taken", "schema: {}"),
    );
    let run = |then: &str| place.run(&["try", "payment/initiate", "--example", "--fast-forward", "--then", then]);
    run("otp/received").exits(2).says("it does not say when").says("otp/received@5m");
    run("@5m").exits(2);
    run("otp/received@soon").exits(2).says("`soon` is not a duration");
    run("otp/recieved@5m").exits(3).says("did you mean `otp/received`?");
    run("otp/received@5m code=12").exits(1).says("/data/code");
    run("otp/received@5m {").exits(2);
    run("payment/expired@5m").exits(2).says("payment/expired has no example");
}

#[test]
fn try_says_how_a_run_that_waits_goes_on() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", r#"wait_for_event("hello/again", #{ timeout: "1d" }) == ()"#);
    place.write("events.yaml", &place.read("events.yaml").replace("events:\n", "events:\n  hello/again: {}\n"));
    let mut command = place.command();
    command.args(["try", "hello/said", "--example"]);
    // It would wait for a day, so it is stopped with its value.
    Engine::spawn(command).line_with("to go on: --then hello/again@1m");
    place.run(&["try", "hello/said", "--example", "--then", "hello/again@10ms n=1"]).exits(0).prints("false").says("by hello/again");
}

#[test]
fn try_types_fields_by_the_schema() {
    let place = Place::hello();
    place.write(
        "schemas/hello-said.json",
        "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}, \"times\": {\"type\": \"integer\"}}}",
    );
    place.write(
        "handlers/greet.rhai",
        "#{ name: type_of(event.data.name), times: type_of(event.data.times), more: type_of(event.data.more) }\n",
    );
    let ran = place.run(&["try", "hello/said", "name=12", "times=3", "more=[1]"]).exits(0);
    assert_eq!(ran.out, "{\"more\":\"array\",\"name\":\"string\",\"times\":\"i64\"}\n");
}

#[test]
fn a_failed_run_shows_its_attempts_and_its_line() {
    let place = Place::hello();
    place.write(
        "handlers/greet.rhai",
        "import \"lib/helper\" as helper;\n\nlet x = step(\"first\", #{ retries: 1 }, || {\n    helper::boom(event.data.name)\n});\nx\n",
    );
    place.write("handlers/lib/helper.rhai", "fn boom(name) {\n    let a = [1, 2];\n    a[7] + name\n}\n");
    let ran = place.run(&["try", "hello/said", "--example", "--fast-forward"]).exits(1);
    assert_eq!(ran.out, "");
    ran.says("first: attempt 1 failed")
        .says("first: attempt 2 failed")
        .says("handlers/lib/helper.rhai:3:7")
        .says("handlers/greet.rhai:3")
        .says("in a closure")
        .says("2 attempts");
}

#[test]
fn what_try_says_of_events_that_start_nothing() {
    let place = Place::hello();
    place.run(&["try", "helo/said"]).exits(3).says("error[E0222]").says("did you mean `hello/said`?");
    place.run(&["try", "hello/said"]).exits(1).says("error[E0221]").says("`name` is missing");
    place.run(&["try", "hello/said", "name"]).exits(2).says("`name` is not a field");
    place.run(&["try"]).exits(2);
    place.write(
        "events.yaml",
        &place.read("events.yaml").replace("on: hello/said", "on: { event: hello/said, if: \"event.data.name == 'Eve'\" }"),
    );
    place.run(&["try", "hello/said", "--example"]).exits(4).says("error[E0545]").says("greet: ");
    place.write("events.yaml", "version: 1\nevents: { hello/said: {} }\n");
    place.run(&["try", "hello/said", "--example"]).exits(2).says("no example");
    place.run(&["try", "hello/said"]).exits(4).says("no function is declared `on: hello/said`");
    Place::new().run(&["try", "hello/said"]).exits(78).says("error[E0530]");
}

#[test]
fn every_template_runs_and_is_what_a_new_user_sees() {
    for (template, what, result) in [
        ("hello", ["hello/said", "--example"], "Hello, World!"),
        ("payments", ["payment/initiate", "--example"], "\"status\":\"expired\""),
        ("webhook", ["stripe/charge.succeeded", "--example"], "\"booked\":1200"),
        ("cron", ["--cron", "weekday-report"], "\"orders\":3"),
    ] {
        let place = Place::new();
        place.run(&["init", "--template", template]).exits(0);
        place.run(&["validate", "--deny-warnings"]).exits(0);
        place.run(&["try", what[0], what[1], "--fast-forward"]).exits(0).prints(result);
    }
}
