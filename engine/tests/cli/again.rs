//! Runs done again and tried again, and why things are as they are, through the commands.

use super::support::{Engine, Place};

const SHIP: &str = "let charge = step(\"charge\", || { log::info(\"charging\"); 1 });\n\
                    let pack = step(\"pack\", || { if event.data.broken == true { throw \"no box\" } 2 });\n\
                    charge + pack\n";

fn shop() -> Place {
    let place = Place::new();
    let ship = "ship: { on: { event: order/placed, if: \"event.data.amount > 0\" }, retries: 0 }";
    let call = "call: { on: call/wanted, retries: { attempts: 2, backoff: fixed, initial: 1h, jitter: 0 } }";
    place.write(
        "events.yaml",
        &format!("version: 1\nevents: {{ order/placed: {{}}, call/wanted: {{}} }}\nfunctions: {{ {ship}, {call} }}\n"),
    );
    place.write("handlers/ship.rhai", SHIP);
    place.write("handlers/call.rhai", "step(\"dial\", || { if run.attempt < 2 { throw \"busy\" } \"hello\" })\n");
    place
}

/// Sends an event and waits for its run to end; gives the run's id.
fn run_of(place: &Place, engine: &Engine, data: &str, exit: i32) -> String {
    place.ask(engine, &["send", "order/placed", "--data", data, "--wait"]).exits(exit);
    place.ask(engine, &["runs", "ls", "--limit", "1"]).exits(0).out.split('\t').next().unwrap().to_owned()
}

#[test]
fn a_run_is_replayed_from_a_step_on_and_both_name_each_other() {
    let place = shop();
    let engine = Engine::dev(&place, &[]);
    let old = run_of(&place, &engine, r#"{"amount": 1, "broken": true}"#, 1);
    place.ask(&engine, &["replay", &old, "--from", "pakc"]).exits(1).says("did you mean `pack`?");
    place.ask(&engine, &["replay", &old, "--set", "charge=one"]).exits(2).says("a text needs quotes");
    place.ask(&engine, &["replay", "0000000000001"]).exits(3);
    place.ask(&engine, &["replay", &old, "--from", "pack", "--dry-run"]).exits(0).says("can be replayed: 1 step kept (charge)");
    let new = place.ask(&engine, &["replay", &old[..12], "--from", "pack", "--set", "charge=40"]).exits(0).says("effects").out;
    let new = new.trim();
    place.ask(&engine, &["runs", "logs", new, "--follow"]).exits(0);
    place.ask(&engine, &["runs", "get", new]).exits(0).prints(&format!("replays\t{old}\n")).prints("state\tfailed\n");
    place.ask(&engine, &["runs", "get", &old]).exits(0).prints(&format!("replayed\t{new}\n"));
    place.ask(&engine, &["runs", "trace", new]).exits(0).prints(&format!("replay of {old}"));
    place.ask(&engine, &["runs", "trace", &old]).exits(0).prints(&format!("replayed as {new}"));
    assert_eq!(place.ask(&engine, &["runs", "logs", new]).exits(0).out, "", "what is kept is not done again");
    drop(engine);
    // The mended handler goes on with what was kept, also after a kill; another one does not fit.
    place.write("handlers/ship.rhai", &SHIP.replace("event.data.broken == true", "false"));
    let engine = Engine::dev(&place, &[]);
    let mended = place.ask(&engine, &["replay", &old, "--from", "pack"]).exits(0).out;
    place.ask(&engine, &["runs", "logs", mended.trim(), "--follow"]).exits(0);
    place.ask(&engine, &["runs", "get", mended.trim()]).exits(0).prints("result\t3\n");
    place.ask(&engine, &["runs", "get", &old]).exits(0).prints(&format!("replayed\t{new}, {}\n", mended.trim()));
    drop(engine);
    place.write("handlers/ship.rhai", &SHIP.replace("\"charge\"", "\"bill\""));
    let engine = Engine::dev(&place, &[]);
    let refused = place.ask(&engine, &["replay", &old, "--from", "pack"]).exits(1);
    refused.says("the journal has step `charge` (handlers/").says(") where the handler asks for step `bill` (handlers/");
}

#[test]
fn many_runs_are_counted_before_they_are_replayed() {
    let place = shop();
    let engine = Engine::dev(&place, &["--ephemeral"]);
    for n in 1..=3 {
        run_of(&place, &engine, &format!("{{\"amount\": {n}, \"broken\": true}}"), 1);
    }
    let wanted = ["replay", "--function", "ship", "--where", "event.data.amount > 1 && run.replay_of == null"];
    let ask = |more: &[&str]| place.ask(&engine, &[&wanted, more].concat());
    place.ask(&engine, &["replay"]).exits(2).says("--where");
    assert_eq!(ask(&["--dry-run"]).exits(0).says("2 runs match").out.lines().count(), 2);
    ask(&[]).exits(2).says("--yes");
    place.ask(&engine, &["replay", "--where", "evnt.x == 1", "--dry-run"]).exits(1).says("event");
    let done = ask(&["--from", "pack", "--yes"]).exits(0).out;
    for line in done.lines() {
        let ids: Vec<&str> = line.split('\t').collect();
        assert_eq!(ids.len(), 3, "{line}");
        place.ask(&engine, &["runs", "get", ids[1]]).exits(0).prints(&format!("replays\t{}\n", ids[0]));
    }
    assert_eq!(done.lines().count(), 2);
    ask(&["--yes"]).exits(4).says("2 runs match, 2 of them replayed before");
    place.ask(&engine, &["replay", "--status", "completed", "--yes"]).exits(4).says("0 runs match");
    let counted = |more: &[&str], runs: &str| {
        let all = [&["replay", "--function", "ship", "--dry-run", "--where", "run.replay_of == null"], more].concat();
        let exit = if runs.starts_with('0') { 4 } else { 0 };
        place.ask(&engine, &all).exits(exit).says(&format!("{runs} match"));
    };
    counted(&["--status", "failed"], "3 runs");
    counted(&["--status", "completed"], "0 runs");
    counted(&["--since", "1h"], "3 runs");
    counted(&["--since", "2100-01-01T00:00:00Z"], "0 runs");
    counted(&["--until", "2020-01-01T00:00:00Z"], "0 runs");
    counted(&["--since", "2020-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00Z"], "3 runs");
}

#[test]
fn many_runs_are_counted_before_they_are_cancelled() {
    let place = shop();
    let engine = Engine::dev(&place, &["--ephemeral"]);
    for data in ["{\"n\": 1}", "{\"n\": 2}", "{\"n\": 3}"] {
        place.ask(&engine, &["send", "call/wanted", "--data", data]).exits(0);
        engine.line_with("backing off");
    }
    let ended = run_of(&place, &engine, "{\"amount\": 1}", 0);
    let wanted = ["runs", "cancel", "--function", "call", "--status", "backing_off", "--since", "1h", "--where", "event.data.n > 1"];
    let ask = |more: &[&str]| place.ask(&engine, &[&wanted, more].concat());
    place.ask(&engine, &["runs", "cancel"]).exits(2).says("it is not said which runs are to be cancelled").says("--where");
    place.ask(&engine, &["runs", "cancel", "--where", "evnt.x == 1", "--dry-run"]).exits(1).says("event");
    place.ask(&engine, &["runs", "cancel", &ended, "--function", "call"]).exits(2);
    let counted = ask(&["--dry-run"]).exits(0).says("2 runs match").out;
    assert_eq!(counted.lines().count(), 2, "{counted}");
    ask(&[]).exits(2).says("cancel 2 runs; what they have invoked is cancelled with them: say so with --yes");
    assert_eq!(place.ask(&engine, &["runs", "ls", "--status", "cancelled"]).exits(0).out, "", "nothing is done before somebody says so");
    let done = ask(&["--yes", "--reason", "no more calls", "--json"]).exits(0).json();
    assert_eq!((&done["matched"], &done["done"], &done["dry_run"]), (&2.into(), &2.into(), &false.into()), "{done}");
    let listed = place.ask(&engine, &["runs", "ls", "--status", "cancelled", "--json"]).exits(0).json();
    let reasons: Vec<&str> = listed.as_array().unwrap().iter().map(|run| run["why"].as_str().unwrap()).collect();
    assert!(reasons.len() == 2 && reasons.iter().all(|reason| reason.contains("no more calls")), "{listed}");
    ask(&["--yes"]).exits(4).says("0 runs match");

    // Several by their ids, of which one has ended: the others are cancelled all the same.
    let left = place.ask(&engine, &["runs", "ls", "--status", "backing_off"]).exits(0).out.split('\t').next().unwrap().to_owned();
    let looked = place.ask(&engine, &["runs", "cancel", &ended, &left, "--dry-run"]).exits(0);
    looked.says(&format!("{ended} has ended: it is completed")).says(&format!("{left} can be cancelled: it is backing_off"));
    place.ask(&engine, &["runs", "cancel", &ended, &left]).exits(2).says("cancel 2 runs: say so with --yes");
    let both = place.ask(&engine, &["runs", "cancel", &ended, &left, "--yes"]).exits(1);
    both.says("the run has ended").says(&format!("{left} cancelled"));
}

#[test]
fn a_run_that_backs_off_is_tried_again_at_once() {
    let place = shop();
    let engine = Engine::dev(&place, &[]);
    place.ask(&engine, &["send", "call/wanted"]).exits(0);
    engine.line_with("backing off");
    let list = place.ask(&engine, &["runs", "ls", "--where", "run.why.contains('busy')"]).exits(0).prints("call\tbacking_off").out;
    let run = list.split('\t').next().unwrap();
    place
        .ask(&engine, &["runs", "get", run])
        .exits(0)
        .prints("why\tbacking off after a failed attempt (busy); attempt 2 of 2 comes in 59m");
    place.ask(&engine, &["runs", "retry-now", run]).exits(0);
    place.ask(&engine, &["runs", "logs", run, "--follow"]).exits(0);
    place.ask(&engine, &["runs", "get", run]).exits(0).prints("result\t\"hello\"\n");
    place.ask(&engine, &["runs", "retry-now", run]).exits(1).says("only one that backs off or is parked");
}

#[test]
fn an_event_tells_which_runs_it_cancelled() {
    let place = Place::new();
    let nap = "nap: { on: nap/wanted, cancel_on: nap/over }";
    place.write("events.yaml", &format!("version: 1\nevents: {{ nap/wanted: {{}}, nap/over: {{}} }}\nfunctions: {{ {nap} }}\n"));
    place.write("handlers/nap.rhai", "wait_for_signal(\"never\")\n");
    let engine = Engine::dev(&place, &[]);
    place.ask(&engine, &["send", "nap/wanted"]).exits(0);
    engine.line_with("nap waiting");
    let run = place.ask(&engine, &["runs", "ls", "--limit", "1"]).exits(0).out.split('\t').next().unwrap().to_owned();
    let event = place.ask(&engine, &["send", "nap/over"]).exits(0).out.trim().to_owned();
    let says = format!("nap\tcancelled\tcancelled run {run} by `cancel_on`");
    let explained = place.ask(&engine, &["events", "get", &event, "--explain"]).exits(0);
    explained.prints(&says).prints(&format!("; it cancelled run {run} of `nap`\n"));
    drop(engine);
    let database = place.path(".stepwell/stepwell.db").display().to_string();
    place.run(&["events", "get", &event, "--explain", "--database", &database]).exits(0).prints(&says);
}

#[test]
fn an_event_is_explained_by_the_engine_and_from_its_database() {
    let place = shop();
    let engine = Engine::dev(&place, &[]);
    let send = |data: &str| place.ask(&engine, &["send", "order/placed", "--data", data, "--id", data]).exits(0).out.trim().to_owned();
    let event = send(r#"{"amount": -3}"#);
    let line = "ship\tnot matched\t`if: event.data.amount > 0` is false\tevent.data.amount = -3\n";
    let explained = place.ask(&engine, &["events", "get", &event, "--explain"]).exits(0);
    explained.prints(line).prints("summary\tit started nothing; the `if` of 1 function is false\n").prints("same again\tuntil ");
    assert_eq!(send(r#"{"amount": -3}"#), event, "the same id again");
    let bad = send("{}");
    place.ask(&engine, &["events", "get", &bad, "--explain"]).exits(0).prints("event.data.amount = null").prints("counts as false");
    let json = place.ask(&engine, &["events", "get", &event, "--explain", "--json"]).exits(0).json();
    assert_eq!(json["functions"][0]["conditions"][0]["values"]["event.data.amount"], -3);
    place.ask(&engine, &["events", "get", "0000000000001", "--explain"]).exits(3);
    drop(engine);
    let database = place.path(".stepwell/stepwell.db").display().to_string();
    let explained = place.run(&["events", "get", &event, "--explain", "--database", &database]).exits(0);
    explained.prints(line).prints("it came again at ").prints("config\tno engine answers, so it is not known");
}
