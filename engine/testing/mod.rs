//! Tests of handlers: each runs on the real core and script host, with a store in memory, a clock that jumps, and somebody
//! who answers in the network's place.
//!
//! `read` makes tests from files and holds them against the project; `run` carries one out and compares what came of it with
//! what was expected. All of a test happens on one thread, so that it goes the same way each time.

mod cut;
mod diff;
mod expect;
mod mocks;
mod read;
mod session;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Diagnostic, Entropy, Span};
use crate::project::Project;
use crate::script::Host;

pub use cut::Cut;
pub use diff::{DiffLine, Side};
pub use expect::Problem;
pub use read::{Test, read};
pub use session::{Said, Session};
pub use world::{Outcome, Seen};

/// Cuts of one `crash_anywhere`: beyond that, they are spread evenly over the commits.
const CUTS_MOST: usize = 400;
/// What follows a file's name.
pub const ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];

/// The files of tests below `root`'s folder `tests`, as paths below `root`, sorted.
///
/// # Errors
/// Where a folder cannot be read; a folder `tests` that is not there holds none.
pub fn files(root: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("tests")];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            // A link to a folder above would lead round and round.
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.to_str().filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending))) {
                found.push(name.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What came of a test.
#[derive(Debug)]
pub struct Report {
    /// What is not as expected; none where all is.
    pub problems: Vec<Problem>,
    /// What happened without a crash.
    pub outcome: Outcome,
    /// How often it was cut off, over all its passes.
    pub crashes: usize,
    /// How long it took on the machine.
    pub took: Span,
}

/// Carries out a test: once as it is, and where it says so, again with crashes.
pub fn run(test: &Test, project: &Project, host: &Arc<Host>) -> Report {
    let watch = crate::clock::Stopwatch::start();
    let outcome = world::pass(test, project, host, Cut::Never);
    let mut problems = expect::compare(test, project, &outcome);
    let mut crashes = 0;
    // What is wrong already says more than what a crash would add.
    if problems.is_empty() {
        for cut in cuts(test, outcome.commits) {
            let cut_off = world::pass(test, project, host, cut);
            crashes += cut_off.crashes;
            problems = expect::compare_cut(test, project, &outcome, &cut_off, cut);
            if !problems.is_empty() {
                break;
            }
        }
    }
    Report { problems, outcome, crashes, took: Span(i64::try_from(watch.elapsed().as_millis()).unwrap_or(i64::MAX)) }
}

/// The passes with crashes that a test asks for.
fn cuts(test: &Test, commits: usize) -> Vec<Cut> {
    let mut cuts = Vec::new();
    if test.crash_after_each_step {
        cuts.push(Cut::Each);
    }
    if test.crash_anywhere {
        let all = (0..commits).flat_map(|number| [Cut::Once { number, before: true }, Cut::Once { number, before: false }]);
        let every = (commits * 2).div_ceil(CUTS_MOST).max(1);
        cuts.extend(all.step_by(every));
    }
    cuts
}

/// Random numbers that are the same in each run of a test; waits have no jitter.
#[derive(Debug)]
struct Dice(std::sync::atomic::AtomicU64);

impl Dice {
    fn of(test: &Test) -> Dice {
        // FNV-1a: the tests of a file draw different numbers.
        let seed = test.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Dice(std::sync::atomic::AtomicU64::new(seed))
    }
}

impl Entropy for Dice {
    fn next(&self) -> u64 {
        // SplitMix64.
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, std::sync::atomic::Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

/// A diagnostic with a help line, where there is one.
fn helped(problem: Diagnostic, help: Option<String>) -> Diagnostic {
    match help {
        Some(help) => problem.help(help),
        None => problem,
    }
}
