//! Another config for a running engine: by SIGHUP, by command, by request, and by `dev` that watches.

use rustix::process::Signal;

use super::support::{Engine, Place};

const BROKEN: &str = "step(\"one\", || 1);\nstpe(\"two\", || 2)\n";

fn greeting(place: &Place, word: &str) {
    place.write("handlers/greet.rhai", &format!("step(\"one\", || \"{word}\")\n"));
}

/// A project with an engine as in production, on a free port.
fn production() -> (Place, Engine) {
    let place = Place::hello();
    greeting(&place, "first");
    let mut command = place.command();
    command.args(["run", "--listen", "127.0.0.1:0"]);
    let engine = Engine::start(command);
    (place, engine)
}

fn says(place: &Place, engine: &Engine, word: &str) {
    place.ask(engine, &["send", "hello/said", "name=x", "--wait"]).exits(0).prints(&format!("\"{word}\"\n"));
}

#[test]
fn a_signal_puts_the_files_in_force() {
    let (place, engine) = production();
    says(&place, &engine, "first");
    greeting(&place, "second");
    engine.signal(Signal::HUP);
    engine.line_with("reloaded: function `greet`: another handler (");
    says(&place, &engine, "second");
    place.write("handlers/greet.rhai", BROKEN);
    engine.signal(Signal::HUP);
    engine.line_with("the config is broken: 1 error; the one before stays in force");
    engine.line_with("handlers/greet.rhai:2:1");
    engine.line_with("^^^^");
    says(&place, &engine, "second");
}

#[test]
fn a_command_puts_the_files_in_force_or_shows_what_is_wrong_with_them() {
    let (place, engine) = production();
    place.ask(&engine, &["reload"]).exits(0).says("reloaded: nothing has changed");
    greeting(&place, "second");
    place.write("events.yaml", &format!("{}\nretention: {{ completed: 9d }}\n", place.read("events.yaml").trim_end()));
    let told = place.ask(&engine, &["reload"]).exits(0).prints("function `greet`: another handler (").says("reloaded: 2 changes");
    told.prints("setting `retention.completed`: 7d → 9d");
    says(&place, &engine, "second");
    let good = place.read("events.yaml");
    place.write("events.yaml", &good.replace("retention", "retentoin"));
    place.write("handlers/greet.rhai", BROKEN);
    let told =
        place.ask(&engine, &["reload"]).exits(78).says("unknown key `retentoin`").says("did you mean `retention`?").says("^^^^^^^^^");
    told.says("error[E0304]").says("error[E0552]: the config is broken; the engine goes on with the one before");
    says(&place, &engine, "second");
    place.write("events.yaml", &good);
    greeting(&place, "third");
    let view = place.ask(&engine, &["reload", "--json"]).exits(0).json();
    assert_eq!(view["changes"][0]["name"], "greet", "{view}");
    assert_eq!(view["changes"][0]["fields"][0]["key"], "version", "{view}");
    drop(engine);
    place.run(&["reload", "--url", "http://127.0.0.1:1"]).exits(69).says("error[E0531]");
    // Where it is not even YAML nobody knows where the engine listens, and another one may listen where they do by default.
    place.write("events.yaml", "version: 1\nfunctions: { greet: [\n");
    for command in ["reload", "plan"] {
        place.run(&[command]).exits(78).says("events.yaml:");
    }
}

#[test]
fn dev_goes_with_its_terminal() {
    let place = Place::hello();
    greeting(&place, "first");
    let mut engine = Engine::dev(&place, &[]);
    engine.signal(Signal::HUP);
    assert_eq!(engine.exit_code(), 0);
    let engine = Engine::dev(&place, &[]);
    says(&place, &engine, "first");
}

#[test]
fn what_is_broken_shows_in_the_health_and_the_answer() {
    let (place, engine) = production();
    let curl = |arguments: &[&str]| super::support::http(&engine.url, arguments[0], arguments[1]);
    assert_eq!(curl(&["GET", "/health"]).1["message"], "OK");
    place.write("handlers/greet.rhai", BROKEN);
    let (status, answer) = curl(&["POST", "/v1/reload"]);
    assert_eq!((status, &answer["details"][0]["code"]), (422, &"E0304".into()), "{answer}");
    assert_eq!(answer["details"][0]["place"], "handlers/greet.rhai:2:1");
    assert!(answer["details"][0]["picture"].as_str().unwrap().contains("^^^^"), "{answer}");
    let (status, health) = curl(&["GET", "/health"]);
    let reason = health["reasons"][0].as_str().unwrap();
    assert_eq!((status, &health["message"]), (200, &"degraded".into()), "{health}");
    assert!(reason.contains("error[E0304] at handlers/greet.rhai:2:1: there is no function `stpe`"), "{reason}");
    let picture = health["config"][0]["picture"].as_str().unwrap();
    assert!(picture.contains("^^^^"), "who may read sees the caret: {picture}");
    greeting(&place, "mended");
    assert_eq!(curl(&["POST", "/v1/reload"]).0, 200);
    assert_eq!(curl(&["GET", "/health"]).1["message"], "OK");
}

#[test]
fn who_is_let_in_and_how_much_is_taken_is_what_the_new_config_says() {
    let (place, engine) = production();
    let good = place.read("events.yaml");
    let big = format!("name={}", "x".repeat(3_000));
    place.ask(&engine, &["send", "hello/said", &big]).exits(0);
    place.write("events.yaml", &format!("{}\nengine: {{ body: 2KB }}\n", good.trim_end()));
    place.ask(&engine, &["reload"]).exits(0).prints("setting `engine.body`: 1MB → 2KB");
    place.ask(&engine, &["send", "hello/said", &big]).exits(1).says("2048");
    place.write("events.yaml", &format!("{}\nengine: {{ listen: \"127.0.0.1:1\" }}\n", good.trim_end()));
    place.ask(&engine, &["reload"]).exits(0).prints("(in force after a restart only)");
    place.ask(&engine, &["send", "hello/said", &big]).exits(0);
}

#[test]
fn dev_puts_changes_in_force_by_itself() {
    let place = Place::hello();
    greeting(&place, "first");
    let engine = Engine::dev(&place, &[]);
    says(&place, &engine, "first");
    greeting(&place, "second");
    engine.line_with("reloaded: function `greet`: another handler (");
    says(&place, &engine, "second");
    place.write("handlers/greet.rhai", BROKEN);
    engine.line_with("the config is broken");
    engine.line_with("^^^^");
    says(&place, &engine, "second");
    // A folder that was not there before is watched too.
    place.write("handlers/greet.rhai", "import \"lib/words\" as words;\nstep(\"one\", || words::third())\n");
    engine.line_with("the config is broken");
    place.write("handlers/lib/words.rhai", "fn third() { \"third\" }\n");
    engine.line_with("reloaded: function `greet`");
    says(&place, &engine, "third");
    place.write("handlers/lib/words.rhai", "fn third() { \"fourth\" }\n");
    engine.line_with("reloaded: function `greet`");
    says(&place, &engine, "fourth");
}

#[test]
fn dev_watches_nothing_where_that_is_not_wanted() {
    let place = Place::hello();
    greeting(&place, "first");
    let engine = Engine::dev(&place, &["--no-watch"]);
    greeting(&place, "second");
    engine.line_with("not watching");
    place.ask(&engine, &["reload"]).exits(0).prints("function `greet`: another handler (");
    says(&place, &engine, "second");
}

#[test]
fn a_plan_says_what_a_reload_would_change_and_what_becomes_of_runs_in_flight() {
    let (place, engine) = production();
    place.write("handlers/greet.rhai", "step(\"one\", || 1);\nsleep(\"long\", \"1h\");\n");
    place.ask(&engine, &["reload"]).exits(0);
    for _ in 0..3 {
        place.ask(&engine, &["send", "hello/said", "name=x"]).exits(0);
    }
    while place.ask(&engine, &["runs", "ls", "--status", "sleeping"]).exits(0).out.lines().count() < 3 {}
    place.ask(&engine, &["plan"]).exits(0).says("a reload would change nothing");
    place.write("handlers/greet.rhai", "step(\"one\", || 1);\nsleep(\"long\", \"1h\");\nstep(\"two\", || 2);\n");
    let text = "runs of `greet`: 3 runs in flight: 3 go on with the new handler\n";
    place.ask(&engine, &["plan"]).exits(1).prints("function `greet`: another handler (").prints(text).says("would make 1 change");
    place.write("handlers/greet.rhai", "step(\"zero\", || 0);\nstep(\"one\", || 1);\nsleep(\"long\", \"1h\");\n");
    let told = place
        .ask(&engine, &["plan"])
        .exits(1)
        .prints("3 runs in flight: 3 do not fit it, and finish on the one that they have (the first is ");
    told.prints("step `one`").prints("step `zero`");
    let view = place.ask(&engine, &["plan", "--json"]).exits(1).json();
    assert_eq!((&view["runs"][0]["unfit"], &view["runs"][0]["function_id"]), (&3.into(), &"greet".into()), "{view}");
    place.write("handlers/greet.rhai", BROKEN);
    place.ask(&engine, &["plan"]).exits(78).says("error[E0304]").says("error[E0552]");
    let health = super::support::http(&engine.url, "GET", "/health").1;
    assert_eq!(health["message"], "OK", "a plan changes nothing: {health}");
    let none = "version: 1\nevents: { hello/said: {} }\n";
    place.write("events.yaml", none);
    place
        .ask(&engine, &["plan"])
        .exits(1)
        .prints("function `greet` is gone")
        .prints("3 runs in flight, which are parked when they would go on");
}

#[test]
fn a_plan_sees_changes_in_the_files_that_a_schema_refers_to() {
    let place = Place::hello();
    place.write("schemas/hello-said.json", r#"{ "type": "object", "properties": { "name": { "$ref": "name.json" } } }"#);
    place.write("schemas/name.json", r#"{ "type": "string" }"#);
    let engine = Engine::dev(&place, &["--no-watch"]);
    place.ask(&engine, &["plan"]).exits(0);
    place.write("schemas/name.json", r#"{ "type": "string", "minLength": 2 }"#);
    place.ask(&engine, &["plan"]).exits(1).prints("event `hello/said`: schema is another one");
    place.ask(&engine, &["reload"]).exits(0).prints("event `hello/said`: schema is another one");
    place.ask(&engine, &["send", "hello/said", "name=x"]).exits(1);
}

#[test]
fn an_explanation_says_whether_the_config_has_changed_since_the_event() {
    let (place, engine) = production();
    let send = |engine: &Engine| place.ask(engine, &["send", "hello/said", "name=x"]).exits(0).out.trim().to_owned();
    let explained = |engine: &Engine, event: &str| place.ask(engine, &["events", "get", event, "--explain"]).exits(0).out;
    let event = send(&engine);
    place.ask(&engine, &["reload"]).exits(0).says("reloaded: nothing has changed");
    greeting(&place, "second");
    place.ask(&engine, &["reload"]).exits(0).says("reloaded: 1 change");
    assert!(!explained(&engine, &event).contains("config\t"), "a handler has changed, which no `if` looks at");
    let yaml = place.read("events.yaml");
    place.write("events.yaml", &yaml.replace("on: hello/said", "on: { event: hello/said, if: \"event.data.name != 'y'\" }"));
    place.ask(&engine, &["reload"]).exits(0).says("reloaded: 1 change");
    let changed = explained(&engine, &event);
    assert!(changed.contains("config\tthe config has changed since the event was accepted, the last time at "), "{changed}");
    let json = place.ask(&engine, &["events", "get", &event, "--explain", "--json"]).exits(0).json();
    assert!(json["config"].as_str().unwrap().ends_with("the `if`s are evaluated as they are now"), "{json}");
    let later = send(&engine);
    assert!(!explained(&engine, &later).contains("config\t"), "it came by the config in force");
    drop(engine);
    let mut command = place.command();
    command.args(["run", "--listen", "127.0.0.1:0"]);
    let engine = Engine::start(command);
    let before = explained(&engine, &later);
    assert!(before.contains("config\tthe engine has been started since the event was accepted, perhaps with another config"), "{before}");
}
