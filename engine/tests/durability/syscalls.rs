//! Kills at an exact place: strace (installed by scripts/test) sends the signal as the engine enters its n-th flush, or its
//! n-th write, of one of its threads; or of the main file alone, which is written and flushed while the log is copied into it.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::load::noted;
use super::{Experiment, wait_until};
use crate::cli::support::{Engine, Place};

/// The flushes at which an engine is killed, each thread's first, second and so on.
const FLUSHES: std::ops::RangeInclusive<u32> = 1..=24;
/// The writes: a transaction is several of them, so that some are cut in the middle.
const WRITES: [u32; 14] = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610];

/// The calls to the main file: as a copy of the log begins, in the midst of one, and before the flush that ends one.
const COPYING: [(&str, u32); 3] = [("pwrite64", 1), ("pwrite64", 40), ("fdatasync,fsync", 1)];
/// Batches of events by which the log has long been copied twice.
const TOO_MANY_BATCHES: usize = 10;

/// The engine, to be killed when one of its threads enters this system call for the n-th time; where a file is named, for the n-th time
/// with this file.
fn doomed(place: &Place, program: &Command, calls: &str, number: u32, file: Option<&Path>) -> Command {
    let mut traced = Command::new("strace");
    traced.current_dir(place.path("")).env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    traced.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // With -D the engine itself is our child, and gets our signals.
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    traced.args(["-e", &format!("inject={calls}:signal=KILL:when={number}")]);
    if let Some(file) = file {
        traced.arg("-P").arg(file.canonicalize().unwrap());
    }
    traced.arg(program.get_program()).args(program.get_args());
    traced
}

fn kill_at(experiment: &mut Experiment, calls: &str, number: u32) {
    let program = experiment.next_engine();
    match Engine::try_start(doomed(&experiment.place, &program, calls, number, None)) {
        Ok(mut engine) => {
            experiment.load.engine_is_at(Some(&engine.url));
            // It gets work until it has flushed often enough.
            while engine.is_alive() {
                experiment.load.more(1);
                experiment.ledger.wait_for_more(3);
            }
            experiment.load.engine_is_at(None);
            engine.is_ended_by(Signal::KILL);
        }
        Err((code, said)) => assert_eq!(code, -1, "killed at {calls} {number}: {said}"),
    }
    experiment.ledger.note_kill();
}

#[test]
fn an_engine_killed_at_each_flush_keeps_every_promise() {
    let mut experiment = Experiment::new();
    for number in FLUSHES {
        kill_at(&mut experiment, "fdatasync,fsync", number);
    }
    experiment.verify();
}

#[test]
fn an_engine_killed_in_the_midst_of_writing_keeps_every_promise() {
    let mut experiment = Experiment::new();
    for number in WRITES {
        kill_at(&mut experiment, "pwrite64", number);
    }
    experiment.verify();
}

#[test]
fn an_engine_killed_while_its_log_is_copied_keeps_every_promise() {
    let mut experiment = Experiment::new();
    // The first one makes the file, which is to flush it too.
    let engine = experiment.start();
    experiment.kill(engine);
    let file = experiment.place.path(".stepwell/stepwell.db");
    let mut batches = 0..;
    for (calls, number) in COPYING {
        // Behind a kill, an engine copies what the last one has left as it starts; behind a clean end, what it has written itself.
        // That one is flushed when all of the log is copied, to which an engine under load comes late.
        let behind: &[bool] = if calls == "pwrite64" { &[false, true] } else { &[false] };
        for &is_clean in behind {
            if is_clean {
                // Nobody sends to it, who would be refused as it ends.
                let mut engine = Engine::start(experiment.next_engine());
                engine.signal(Signal::TERM);
                assert_eq!(engine.exit_code(), 0);
            }
            let program = experiment.next_engine();
            match Engine::try_start(doomed(&experiment.place, &program, calls, number, Some(&file))) {
                Ok(mut engine) => {
                    experiment.load.engine_is_at(Some(&engine.url));
                    let ended = batches.by_ref().take(TOO_MANY_BATCHES).any(|batch| {
                        experiment.load.send(noted(batch));
                        experiment.load.more(1);
                        wait_until("all is answered", || experiment.load.unanswered() == 0 || !engine.is_alive());
                        experiment.ledger.wait_for_more(3);
                        !engine.is_alive()
                    });
                    assert!(ended, "the log is not copied: nothing came to {calls} {number} of the main file");
                    experiment.load.engine_is_at(None);
                    engine.is_ended_by(Signal::KILL);
                }
                Err(ended) => assert!(!is_clean, "it had a log to copy behind a clean end: {ended:?}"),
            }
            experiment.ledger.note_kill();
        }
    }
    experiment.verify();
}
