//! Versions of handlers as people meet them: `versions`, `replay --check`, `runs migrate`, and the first difference.

use super::support::{Engine, Place};

const FIRST: &str = "let a = step(\"one\", || 1);\nsleep(\"long\", \"1h\");\na\n";

/// A project with an engine whose function has runs that sleep.
fn asleep(versions: &str) -> (Place, Engine) {
    let place = Place::hello();
    place.write("handlers/greet.rhai", FIRST);
    place.write("events.yaml", &place.read("events.yaml").replacen("retries", &format!("versions: {versions}\n    retries"), 1));
    let engine = Engine::dev(&place, &["--no-watch"]);
    for _ in 0..2 {
        place.ask(&engine, &["send", "hello/said", "name=x"]).exits(0);
    }
    while place.ask(&engine, &["runs", "ls", "--status", "sleeping"]).exits(0).out.lines().count() < 2 {}
    (place, engine)
}

#[test]
fn a_check_says_what_stored_runs_would_do_on_the_handlers_at_hand() {
    let (place, engine) = asleep("auto");
    place.run(&["replay", "--check"]).exits(0).says("2 runs checked, 0 would go otherwise");
    place.write("handlers/greet.rhai", &format!("let z = step(\"zero\", || 0);\n{FIRST}"));
    let told = place.run(&["replay", "--check", "--since", "7d"]).exits(1).says("2 runs checked, 2 would go otherwise");
    let told = told.prints("greet\tsleeping\tthe journal has step `one` (handlers/greet.rhai:1: let a = step(\"one\", || 1);)");
    told.prints("where the handler asks for step `zero` (handlers/greet.rhai:1: let z = step(\"zero\", || 0);)");
    let json = place.run(&["replay", "--check", "--json"]).exits(1).json();
    assert_eq!((&json["checked"], json["differ"].as_array().unwrap().len()), (&2.into(), 2), "{json}");
    let run = json["differ"][0]["run_id"].as_str().unwrap().to_owned();
    place.run(&["replay", "--check", &run]).exits(1).says("1 run checked, 1 would go otherwise");
    place.ask(&engine, &["reload"]).exits(0);
    // A run's page says why it finishes on the version that it has.
    place.ask(&engine, &["runs", "get", &run]).exits(0).prints("unfit\tthe newest handler does not fit: the journal has step `one`");
    // One that has ended goes otherwise where the handler would not end there, or with something else.
    place.write("handlers/greet.rhai", "step(\"only\", || 1)\n");
    place.ask(&engine, &["reload"]).exits(0);
    place.ask(&engine, &["send", "hello/said", "name=y", "--wait"]).exits(0);
    let check = || place.run(&["replay", "--check", "--status", "completed"]);
    check().exits(0);
    place.write("handlers/greet.rhai", "step(\"only\", || 1);\nstep(\"more\", || 2)\n");
    check().exits(1).prints("it goes on with step `more`");
    place.write("handlers/greet.rhai", "step(\"only\", || 1) + 1\n");
    check().exits(1).prints("it ends with another result");
    drop(engine);
    place.run(&["replay", "--check", "--status", "completed"]).exits(1);
}

#[test]
fn pinned_runs_are_taken_to_the_newest_handler_by_hand() {
    let (place, engine) = asleep("pin");
    place.write("handlers/greet.rhai", FIRST.replace("a\n", "a + 1\n").as_str());
    let plan = place.ask(&engine, &["plan"]).exits(1);
    plan.prints("2 runs in flight: 2 fit the new handler, and stay on the one that they began with");
    place.ask(&engine, &["reload"]).exits(0).prints("2 runs of `greet` are on older versions of its handler");
    engine.line_with("2 runs of `greet` are on older versions of its handler");
    place.ask(&engine, &["runs", "migrate", "--function", "greet", "--dry-run"]).exits(0).prints(" can go on with ");
    let unasked = place.ask(&engine, &["runs", "migrate", "--function", "greet"]).exits(2);
    unasked.says("take 2 runs to the newest version of the handler, where it fits: say so with --yes");
    let list = place.ask(&engine, &["runs", "ls"]).exits(0).out;
    let run = list.split('\t').next().unwrap();
    place.ask(&engine, &["runs", "migrate", run]).exits(0).prints(" goes on with ").prints(" instead of ");
    place.ask(&engine, &["runs", "migrate", run]).exits(0).prints("which is the newest");
    place.write("handlers/greet.rhai", "step(\"zero\", || 0)\n");
    place.ask(&engine, &["reload"]).exits(0);
    let refused = place.ask(&engine, &["runs", "migrate", run]).exits(1);
    refused.says(
        "its record does not fit the newest handler: the journal has step `one` (handlers/greet.rhai:1: let a = step(\"one\", || 1);)",
    );
    place.ask(&engine, &["runs", "migrate", "0000000000001"]).exits(3);
    place.ask(&engine, &["runs", "migrate", "--function", "greet", "--yes"]).exits(1);
    place.ask(&engine, &["runs", "migrate"]).exits(2);
    place.ask(&engine, &["runs", "migrate", "--function", "nobody"]).exits(4).says("no run of `nobody` is in flight");
}
