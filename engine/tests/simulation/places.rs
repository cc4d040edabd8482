//! Every place in the engine's sources that commits, with the sites whose lists it hands over: a new one must not stay unknown to the
//! simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::sites::{self, Site};

/// The files of `engine/exec` that hand lists to the store, or to whoever hands them on: how often each does, and for which sites.
const PLACES: &[(&str, usize, &[Site])] = &[
    ("crons.rs", 2, &[Site::Position]),
    ("ending.rs", 1, &[Site::Cancel, Site::Orphan, Site::StartTimeout, Site::FinishTimeout]),
    (
        // For whoever is collected there: scripts, the ends of runs, and what comes from outside.
        "gather.rs",
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
        "ingest.rs",
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
    ("invoke.rs", 3, &[Site::Call, Site::Invoke, Site::GiveUp, Site::Deadlock]),
    ("left.rs", 1, &[Site::Leave]),
    ("migrate.rs", 1, &[Site::Migrate, Site::RetryNow]),
    // For the scheduler, and for what follows from a start.
    ("mod.rs", 1, &[Site::Recover, Site::Poison, Site::Sources, Site::Position, Site::Gone, Site::Rethrottle, Site::Barrier]),
    ("pause.rs", 1, &[Site::Pause]),
    ("post.rs", 6, &[Site::Send, Site::Signal, Site::Open, Site::Barrier, Site::Resolve, Site::TimeOut, Site::CancelOn]),
    ("recovery.rs", 1, &[Site::Recover, Site::Poison, Site::Sources]),
    ("reload.rs", 2, &[Site::NewSources, Site::Barrier]),
    ("replay.rs", 3, &[Site::RetryNow, Site::Replay]),
    ("scheduler/reload.rs", 1, &[Site::Position, Site::Rethrottle]),
    ("scheduler/start.rs", 2, &[Site::Start, Site::PassedOn, Site::Throttle, Site::Gone]),
    ("upkeep.rs", 2, &[Site::OldSources, Site::Sweep]),
    ("waits.rs", 1, &[Site::Resolve]),
    (
        "worker.rs",
        5,
        &[Site::Start, Site::PassedOn, Site::Throttle, Site::Complete, Site::Fail, Site::Tell, Site::Sleep, Site::Wait, Site::Requeue],
    ),
];

/// What a line hands lists over with: to the store, to a method that does no more than that, or to a collector of lists.
const CALLS: [&str; 3] = [".commit(", "Intake::commit(", ".checkpoint("];

/// How often each file below a folder commits, by its path there.
fn calls(root: &Path) -> BTreeMap<String, usize> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
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
    let found = calls(&Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/exec"));
    let listed: BTreeMap<String, usize> = PLACES.iter().map(|(file, count, _)| ((*file).to_owned(), *count)).collect();
    assert_eq!(found, listed, "which sites are its lists for? `Site::of` has to know them, and PLACES says it");
    let named: BTreeSet<Site> = PLACES.iter().flat_map(|(_, _, sites)| *sites).copied().collect();
    let all: BTreeSet<Site> = sites::ALL.iter().copied().collect();
    assert_eq!(named, all, "each site is some place's");
    assert_eq!(all.len(), sites::ALL.len(), "each site once");
}
