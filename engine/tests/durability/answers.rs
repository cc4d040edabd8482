//! Kills after a commit and before its answer: strace sends the signal as the engine is about to write its n-th answer to a socket.
//! What it was about to say holds, and the sender, who has heard nothing and asks again, is told just that.

use std::process::Command;

use rustix::process::Signal;
use stepwell::rules::RunState;
use stepwell::store::{EventQuery, RunQuery, Store as _};

use super::{command, load, verify};
use crate::cli::support::{Engine, Place};

/// The answers at which an engine is killed: its first, its second and so on.
const ANSWERS: std::ops::RangeInclusive<usize> = 1..=16;
/// Nothing but answers goes to a socket: the function has no effect outside.
const CONFIG: &str = "version: 1\nevents: { said/once: {} }\nfunctions: { keep: { on: said/once } }\n";
const HANDLER: &str = "let first = step(\"first\", || event.data.n);\nstep(\"second\", || first + 1)\n";

/// The engine, to be killed when it enters the call that writes this answer. Threads are counted each for itself; one has all answers.
fn doomed(place: &Place, number: usize) -> Command {
    let program = command(place);
    let mut traced = crate::program::command("strace", &place.path(""));
    // With -D the engine itself is our child, and gets our signals.
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=writev,sendto"]);
    traced.args(["-e", &format!("inject=writev,sendto:signal=KILL:when={number}")]);
    traced.arg(program.get_program()).args(program.get_args());
    traced
}

/// Sends the event with this number, which is its id as well; the id that it got, none where no answer came.
fn send(engine: &Engine, n: u64) -> Option<String> {
    let event = serde_json::json!({"id": format!("event-{n}"), "name": "said/once", "data": {"n": n}});
    let ids = load::post(engine.url.trim_start_matches("http://"), &event.to_string()).ok()?;
    ids.into_iter().next()
}

#[test]
fn an_engine_killed_before_its_answer_has_kept_what_it_was_about_to_say() {
    let place = Place::new();
    place.write("events.yaml", CONFIG);
    place.write("handlers/keep.rhai", HANDLER);
    let database = place.path(".stepwell/stepwell.db");
    // The next event that is to be sent, and its id, where an engine was killed before it told.
    let (mut next, mut untold): (u64, Option<String>) = (0, None);
    for number in ANSWERS {
        let mut engine = Engine::start(doomed(&place, number));
        let mut answers = 0;
        while let Some(id) = send(&engine, next) {
            assert!(untold.take().is_none_or(|untold| untold == id), "G7: event {next} is another one when it is sent again: {id}");
            (answers, next) = (answers + 1, next + 1);
            assert!(answers < number, "answer {number} was given");
        }
        engine.is_ended_by(Signal::KILL);
        assert_eq!(answers, number - 1, "answers before the one that the kill has cut off");
        let events = verify::open(&database).events(&EventQuery::default()).unwrap();
        let sender_id = format!("event-{next}");
        let stored = events.iter().find(|event| event.sender_id.as_deref() == Some(&*sender_id));
        untold = Some(stored.unwrap_or_else(|| panic!("event {next} was to be answered and is not stored")).id.to_string());
    }
    let mut engine = Engine::start(command(&place));
    assert_eq!(send(&engine, next), untold, "G7: the last event is another one when it is sent again");
    verify::wait_until_all_has_ended(&database);
    engine.signal(Signal::TERM);
    assert_eq!(engine.exit_code(), 0);
    let store = verify::open(&database);
    let (events, runs) = (store.events(&EventQuery::default()).unwrap(), store.runs(&RunQuery::default()).unwrap());
    assert_eq!(events.len() as u64, next + 1, "one event for each id of a sender");
    assert_eq!(runs.len(), events.len(), "each event has one run");
    for event in &events {
        let run = runs.iter().find(|run| run.event == event.id).unwrap_or_else(|| panic!("I2: event {} has no run", event.id));
        assert_eq!(run.state, RunState::Completed, "I3: {run:#?}");
    }
}
