//! Every place in the engine's sources that commits, with the sites whose lists it hands over: a new one must not stay unknown to the
//! simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::sites::{self, Site};

/// The rooms in which somebody commits.
const ROOMS: [&str; 2] = ["exec", "script"];

/// The files of these rooms that hand lists to the store, or to whoever hands them on: how often each does, and for which sites. A site
/// that several of them name makes the same list wherever it comes from, so nobody can tell from the list which of them it was: a start
/// is the same whether the scheduler deals it or a worker had it lent, a barrier is always empty, and an event resolves a wait by the same
/// two rows whether it came or was looked back for.
const PLACES: &[(&str, usize, &[Site])] = &[
    ("exec/crons.rs", 2, &[Site::Position, Site::Missed]),
    ("exec/ending.rs", 1, &[Site::Cancel, Site::Orphan, Site::StartTimeout, Site::FinishTimeout]),
    (
        // For whoever is collected there: scripts, the ends of runs, and what comes from outside.
        "exec/gather.rs",
        1,
        &[
            Site::Accept,
            Site::Repeat,
            Site::Barrier,
            Site::Lines,
            Site::Tiny,
            Site::Record,
            Site::Keep,
            Site::StepFailed,
            Site::Adopt,
            Site::BackOff,
            Site::Waited,
            Site::Race,
            Site::Complete,
            Site::Fail,
        ],
    ),
    (
        "exec/ingest.rs",
        2,
        &[
            Site::Accept,
            Site::Skip,
            Site::Count,
            Site::Debounce,
            Site::Batch,
            Site::Replace,
            Site::Tick,
            Site::Resolve,
            Site::CancelOn,
            Site::Repeat,
        ],
    ),
    ("exec/invoke.rs", 3, &[Site::Call, Site::Invoke, Site::GiveUp, Site::Deadlock]),
    ("exec/left.rs", 1, &[Site::Leave]),
    ("exec/migrate.rs", 1, &[Site::Migrate, Site::RetryNow]),
    // For the scheduler, and for what follows from a start.
    (
        "exec/mod.rs",
        1,
        &[Site::Recover, Site::Poison, Site::Sources, Site::Position, Site::Missed, Site::Gone, Site::Rethrottle, Site::Barrier],
    ),
    ("exec/pause.rs", 1, &[Site::Pause]),
    ("exec/post.rs", 6, &[Site::Send, Site::Signal, Site::Open, Site::Barrier, Site::Resolve, Site::TimeOut, Site::CancelOn]),
    ("exec/recovery.rs", 1, &[Site::Recover, Site::Poison, Site::Sources]),
    ("exec/reload.rs", 2, &[Site::NewSources, Site::Barrier]),
    ("exec/replay.rs", 3, &[Site::RetryNow, Site::Replay]),
    ("exec/scheduler/reload.rs", 1, &[Site::Position, Site::Rethrottle]),
    ("exec/scheduler/start.rs", 2, &[Site::Start, Site::PassedOn, Site::Throttle, Site::Gone]),
    ("exec/upkeep.rs", 2, &[Site::OldSources, Site::Sweep]),
    ("exec/waits.rs", 1, &[Site::Hear]),
    (
        "exec/worker.rs",
        5,
        &[Site::Start, Site::PassedOn, Site::Throttle, Site::Complete, Site::Fail, Site::Tell, Site::Sleep, Site::Wait, Site::Requeue],
    ),
    ("script/api/steps.rs", 1, &[Site::Keep]),
    // A branch is suspended.
    ("script/attempt.rs", 1, &[Site::Sleep, Site::BackOff, Site::Lines]),
    (
        "script/attempt/journal.rs",
        3,
        &[Site::Tiny, Site::Record, Site::Keep, Site::StepFailed, Site::Adopt, Site::BackOff, Site::Waited, Site::Race],
    ),
    // What is pending goes along with what the engine makes of a demand.
    ("script/attempt/posts.rs", 6, &[Site::Send, Site::Signal, Site::Invoke, Site::Open, Site::Waited, Site::Leave, Site::Race]),
    // Any store is a desk, which hands over what scripts hand to it.
    ("script/mod.rs", 2, &[Site::Record]),
];

/// What a line hands lists over with: to the store, to a method that does no more than that, or to a collector of lists.
const CALLS: [&str; 3] = [".commit(", "Intake::commit(", ".checkpoint("];

/// How often each file of these rooms commits, by its path.
fn calls(root: &Path) -> BTreeMap<String, usize> {
    let (mut found, mut folders) = (BTreeMap::new(), ROOMS.map(|room| root.join(room)).to_vec());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let count: usize = code.map(|line| CALLS.iter().map(|call| line.matches(call).count()).sum::<usize>()).sum();
            if count > 0 {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"), count);
            }
        }
    }
    found
}

#[test]
fn simulation_knows_each_place_that_commits() {
    let found = calls(&Path::new(env!("CARGO_MANIFEST_DIR")).join("engine"));
    let listed: BTreeMap<String, usize> = PLACES.iter().map(|(file, count, _)| ((*file).to_owned(), *count)).collect();
    assert_eq!(found, listed, "which sites are its lists for? `Site::of` has to know them, and PLACES says it");
    let named: BTreeSet<Site> = PLACES.iter().flat_map(|(_, _, sites)| *sites).copied().collect();
    let all: BTreeSet<Site> = sites::ALL.iter().copied().collect();
    assert_eq!(named, all, "each site is some place's");
    assert_eq!(all.len(), sites::ALL.len(), "each site once");
}
