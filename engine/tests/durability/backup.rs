//! Copies that are made while the engine is under load and is killed, and while the copying itself is killed.

use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use super::ledger::Ledger;
use super::load::Acknowledged;
use super::{Experiment, command, project, verify};
use crate::cli::support::Engine;

/// Copies that are tried.
const COPIES: u64 = 16;
/// Of those between the first and the last one, one of so many is restored; which ones hangs on the seed.
const RESTORED: u64 = 3;

#[test]
fn backups_under_load_and_kills_are_whole_and_go_on_where_they_were() {
    let mut experiment = Experiment::new();
    let mut copies: Vec<(String, Vec<Acknowledged>)> = Vec::new();
    for number in 0..COPIES {
        experiment.load.more(6);
        let engine = experiment.start();
        experiment.ledger.wait_for_more(4);
        let name = format!("copy-{number}.db");
        // What was answered before the copy began has to be in it.
        let before = experiment.load.acknowledged();
        let mut copying = experiment.place.command();
        copying.args(["backup", &name]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut copying = copying.spawn().unwrap();
        match number % 4 {
            0 => {}
            1 => experiment.random.while_away(40),
            _ => {
                experiment.random.while_away(if number % 4 == 2 { 40 } else { 400 });
                // Whether it is through already or not, what stands under its name is whole.
                copying.kill().unwrap();
            }
        }
        experiment.kill(engine);
        copying.wait().unwrap();
        if experiment.place.path(&name).exists() {
            copies.push((name, before));
        }
    }
    assert!(copies.len() > COPIES as usize / 4, "only {} copies were made", copies.len());
    let (last, mut restored) = (copies.len() - 1, 0);
    for (number, (name, before)) in copies.iter().enumerate() {
        let path = experiment.place.path(name);
        verify::verify_copy(&path, before);
        if number == 0 || number == last || experiment.random.below(RESTORED) == 0 {
            restore(&path, before);
            restored += 1;
        }
    }
    println!("{} whole copies, {restored} of them restored", copies.len());
    experiment.verify();
}

/// Starts an engine on a copy (with its log, where it has one): every run in it comes to its end, and nothing that the copy has
/// recorded happens again.
pub fn restore(copy: &Path, before: &[Acknowledged]) {
    let ledger = Ledger::start();
    let place = project(&ledger);
    std::fs::create_dir(place.path(".stepwell")).unwrap();
    let database = place.path(".stepwell/stepwell.db");
    std::fs::copy(copy, &database).unwrap();
    let log = copy.with_extension("db-wal");
    if log.exists() {
        std::fs::copy(log, place.path(".stepwell/stepwell.db-wal")).unwrap();
    }
    let recorded = verify::recorded(&database);
    let mut engine = Engine::start(command(&place));
    // A copy of a moment at which it was paused may hold a run of it that had not begun, which waits for this.
    place.ask(&engine, &["functions", "resume", "ticking"]).exits(0);
    let since = verify::wait_until_all_has_ended(&database);
    engine.signal(Signal::TERM);
    assert_eq!(engine.exit_code(), 0);
    verify::verify_restored(&database, before, (&recorded, since), &ledger.entries());
}
