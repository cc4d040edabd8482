//! Every command's help ends with an example, and the examples work as they stand.

use super::support::{Engine, Place};

/// Commands that go on until they are stopped, or for minutes; other tests start them.
const LONG: [&str; 3] = ["dev", "run", "bench"];

/// The last line of each command's help, with the command's path.
fn examples(place: &Place, path: &[&str], found: &mut Vec<(String, String)>) {
    let help = place.run(&[path, &["--help"]].concat()).exits(0).out;
    let example = help.trim_end().lines().last().unwrap().trim().to_owned();
    found.push((path.join(" "), example));
    let Some((_, below)) = help.split_once("\nCommands:\n") else { return };
    for line in below.lines().take_while(|line| !line.is_empty()) {
        // A longer description goes on at the column of the texts.
        let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')).and_then(|line| line.split(' ').next()) else {
            continue;
        };
        examples(place, &[path, &[name]].concat(), found);
    }
}

#[test]
fn every_example_works() {
    let place = Place::hello();
    let events = "  nap/taken: {}\n  ask/asked: {}\n  trip/taken: {}\n  flop/made: {}\n";
    let functions = "  charge: { on: nap/taken }\n  ask: { on: ask/asked }\n  flop: { on: flop/made, retries: 0 }\n\
                     \x20 trip: { on: trip/taken, retries: { attempts: 3, backoff: fixed, initial: 1h } }\n";
    place.write("events.yaml", &place.read("events.yaml").replace("functions:", &format!("{events}\nfunctions:\n{functions}")));
    place.write("handlers/charge.rhai", "step(\"one\", || 1);\nsleep(\"long\", \"1h\");\n");
    place.write("handlers/ask.rhai", "wait_for_signal(\"approval\").by\n");
    place.write("handlers/trip.rhai", "step(\"one\", || throw \"not yet\");\n");
    place.write("handlers/flop.rhai", "step(\"one\", || throw \"never\");\n");
    let engine = Engine::dev(&place, &[]);
    place.ask(&engine, &["send", "trip/taken"]).exits(0);
    engine.line_with("trip backing off");
    place.ask(&engine, &["send", "flop/made"]).exits(0);
    engine.line_with("flop failed");
    place.ask(&engine, &["send", "nap/taken"]).exits(0);
    engine.line_with("charge sleeping");
    place.ask(&engine, &["send", "ask/asked"]).exits(0);
    engine.line_with("ask waiting");
    let mut found = Vec::new();
    examples(&place, &[], &mut found);
    assert!(found.len() > 25, "{found:?}");
    for (path, example) in found {
        assert!(example.contains("stepwell "), "{path} --help ends with `{example}`");
        if LONG.contains(&path.as_str()) || example.contains(" tail") {
            continue;
        }
        let program = place.command();
        let folder = std::path::Path::new(program.get_program()).parent().unwrap();
        let search = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut bash = std::process::Command::new("bash");
        bash.args(["-o", "pipefail", "-c", &example]).current_dir(place.path(".")).env("PATH", search).env("STEPWELL_URL", &engine.url);
        let output = bash.output().unwrap();
        assert!(
            output.status.success(),
            "{path}: `{example}`\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
