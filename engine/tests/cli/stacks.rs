//! An engine whose address space has no room for the stacks of its scripts: a run waits for one, and loses nothing.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::support::{Engine, Place};

/// The smallest stack of a script, with its guard.
const STACK_BYTES: u64 = 8 * 1024 * 1024;
/// What else an engine may map meanwhile, such as the stack of a thread: too little for a script's.
const REST_BYTES: u64 = 6 * 1024 * 1024;
const WANTING: &str = "there is no memory for the script's stack";

/// An engine with a function `f`, which is tried once; one request has been answered, so the threads for that are there.
fn started(place: &Place, handler: &str) -> Engine {
    place.write("events.yaml", "version: 1\nevents: { a/b: {}, x/y: {} }\nfunctions: { f: { on: a/b, retries: 0 } }\n");
    place.write("handlers/f.rhai", handler);
    let engine = Engine::dev(place, &["--no-watch"]);
    place.ask(&engine, &["send", "x/y"]).exits(0);
    place.ask(&engine, &["runs", "ls"]).exits(0);
    engine
}

/// Leaves the engine room for so many of the smallest stacks, or for all that it wants.
fn leave_room(engine: &Engine, stacks: Option<u64>) {
    let process = Pid::from_raw(i32::try_from(engine.pid()).unwrap());
    let current = stacks.map(|stacks| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        let kilobytes: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
        kilobytes * 1024 + REST_BYTES + stacks * STACK_BYTES
    });
    let maximum = getrlimit(Resource::As).maximum;
    prlimit(process, Resource::As, Rlimit { current: current.or(maximum), maximum }).unwrap();
}

/// The run of an event once it is as `is_meant` says; it may not end as anything but completed.
fn run_that(place: &Place, engine: &Engine, event: &str, is_meant: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    loop {
        let runs = place.ask(engine, &["runs", "ls", "--event", event, "--json"]).exits(0).json();
        let run = &runs[0];
        if is_meant(run) {
            return run.clone();
        }
        let state = run["state"].as_str().unwrap_or_default();
        assert!(!["failed", "parked", "cancelled", "completed"].contains(&state), "{run}");
    }
}

#[test]
fn a_run_that_gets_no_stack_waits_for_one_and_counts_no_attempt() {
    let place = Place::new();
    let engine = started(&place, "step(\"one\", || run.attempt)");
    leave_room(&engine, Some(0));
    let sent = place.ask(&engine, &["send", "a/b"]).exits(0);
    let event = sent.out.trim();
    let says_why = |run: &serde_json::Value| run["why"].as_str().is_some_and(|why| why.contains(WANTING));
    let wanting = run_that(&place, &engine, event, says_why);
    assert_eq!(wanting["attempt"], 1, "{wanting}");
    assert_eq!(wanting["error"]["code"], "E0412", "{wanting}");
    leave_room(&engine, None);
    let run = run_that(&place, &engine, event, |run| run["state"] == "completed");
    assert_eq!(run["output"], 1, "{run}");
}

#[test]
fn branches_that_get_no_stack_run_one_after_another_and_are_replayed_so() {
    let place = Place::new();
    let handler = "
        let items = [];
        for n in 0..8 { items.push(n); }
        // All of them have recorded something when the run goes on, and not all can be there at once to ask for it.
        let flat = parallel(items, |n| { let a = step(\"a\", || n); sleep(\"1s\"); step(\"b\", || a + 1) });
        let inner = parallel(#{
            deep: || parallel([1, 2], |n| { sleep(\"1s\"); step(\"c\", || n) }),
            beside: || { sleep(\"1s\"); step(\"d\", || 3) },
        });
        [flat, inner]
    ";
    let engine = started(&place, handler);
    // One for the script, and two for its branches.
    leave_room(&engine, Some(3));
    let sent = place.ask(&engine, &["send", "a/b"]).exits(0);
    let run = run_that(&place, &engine, sent.out.trim(), |run| run["state"] == "completed");
    assert_eq!(run["output"], serde_json::json!([[1, 2, 3, 4, 5, 6, 7, 8], { "deep": [1, 2], "beside": 3 }]), "{run}");
    let trace = place.ask(&engine, &["runs", "trace", run["run_id"].as_str().unwrap(), "--json"]).exits(0).json();
    assert_eq!(trace["attempts"], serde_json::json!([]), "{trace}");
}

#[test]
fn a_race_whose_branches_get_no_stack_goes_by_all_that_is_recorded_and_waits_for_none_that_is_left() {
    let place = Place::new();
    let handler = "
        let items = [0, 1, 2, 3, 4, 5];
        // A signal ends all of the waits while the run is suspended. One branch has ended by that, and not all can be there at once to say so:
        // the others begin nothing before it could. In the second race they have something recorded as well.
        let first = race(items, |n| { wait_for_signal(\"go\"); if n == 5 { n } else { step(\"never\", || n) } });
        let second = race(items, |n| { step(\"a\", || n); wait_for_signal(\"on\"); if n == 5 { n } else { step(\"never\", || n) } });
        // Where branches of one that is left have no stack, nobody waits until they have.
        let third = race(#{ busy: || parallel([0, 1, 2, 3], |n| step(\"b\", || n)), quick: || step(\"q\", || 1) });
        [first, second, third.name, parallel(items, |n| step(\"c\", || n))]
    ";
    let engine = started(&place, handler);
    // One for the script, and two for its branches.
    leave_room(&engine, Some(3));
    let sent = place.ask(&engine, &["send", "a/b"]).exits(0);
    let event = sent.out.trim();
    for signal in ["go", "on"] {
        let wait = format!("waits for signal `{signal}`");
        let waits = |run: &serde_json::Value| run["state"] == "waiting" && run["why"].as_str().is_some_and(|why| why.contains(&wait));
        run_that(&place, &engine, event, waits);
        place.ask(&engine, &["signal", signal]).exits(0);
    }
    let run = run_that(&place, &engine, event, |run| run["state"] == "completed");
    let last = serde_json::json!({ "index": 5, "value": 5 });
    assert_eq!(run["output"], serde_json::json!([last, last, "quick", [0, 1, 2, 3, 4, 5]]), "{run}");
    let trace = place.ask(&engine, &["runs", "trace", run["run_id"].as_str().unwrap(), "--json"]).exits(0).json();
    let keys: Vec<&str> = trace["steps"].as_array().unwrap().iter().filter_map(|step| step["key"].as_str()).collect();
    assert!(keys.contains(&"race#2 › 5 › a") && !keys.iter().any(|key| key.ends_with("never")), "{trace}");
}
