//! Counts what many worlds have met: a world that never dies, waits or fails proves nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stepwell::clock::Stopwatch;

use super::sites::{self, AFTER, BEFORE, Cuts};
use super::world::Outcome;
use super::{each_plan, pass};

/// What has to come up somewhere in as many worlds as the tests try, as their stories tell it.
const INCIDENTS: [&str; 33] = [
    "engine died",
    "a power cut took back the start of",
    "drain",
    "the disk fails: a commit is lost",
    "the disk fails: a commit is stored",
    "the disk fails: nothing can be read",
    "the engine gives up",
    "the disk is full",
    "the clock is set",
    "wake-ups were late",
    "wake-ups were lost",
    "an answer comes late",
    "reloaded while runs were in flight",
    "reloaded in the middle of an attempt",
    "goes on with version",
    "taken over by another version",
    "suspects 1",
    "suspects 3",
    "suspects 6",
    "parked: crashed engine",
    "parked: function gone",
    "backing_off until",
    "sleeping until",
    "the step took longer than",
    "site",
    "no way on from here",
    // A race in a branch is decided.
    " › race` race: ",
    " completed: ",
    " failed: ",
    "cancelled: somebody's wish",
    "cancelled: timeouts.start",
    "cancelled: timeouts.finish",
    "was deleted",
];

/// How often a run over minutes tells how far it is.
const TELL: Duration = Duration::from_secs(10);

/// What was met.
#[derive(Debug, Default)]
pub struct Tally {
    pub worlds: u64,
    pub lives: u64,
    pub runs: usize,
    pub flushes: u64,
    incidents: BTreeMap<&'static str, usize>,
    cuts: Cuts,
    /// The seeds whose worlds came to trouble, and to which.
    pub failed: BTreeMap<u64, String>,
}

impl Tally {
    /// Lets the worlds of these seeds pass, on all processors.
    pub fn of(seeds: Range<u64>) -> Tally {
        let (tally, next) = (Mutex::new(Tally::default()), AtomicU64::new(seeds.start));
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::SeqCst);
                        if seed >= seeds.end {
                            return;
                        }
                        each_plan(seed, |_, outcome| tally.lock().unwrap().add(seed, outcome));
                    }
                });
            }
        });
        tally.into_inner().unwrap()
    }

    fn add(&mut self, seed: u64, outcome: Outcome) {
        if let Some(trouble) = outcome.trouble {
            println!("seed {seed}: {trouble}");
            self.failed.insert(seed, trouble);
        }
        self.worlds += 1;
        self.lives += u64::from(outcome.lives);
        self.runs += outcome.runs;
        self.flushes += outcome.flushes;
        for what in INCIDENTS {
            *self.incidents.entry(what).or_insert(0) += outcome.trace.iter().filter(|line| line.contains(what)).count();
        }
        outcome.cuts.into_iter().for_each(|(site, count)| *self.cuts.entry(site).or_insert(0) += count);
    }

    /// Shows the first world that failed, if one did.
    pub fn show_failure(&self) {
        let Some(seed) = self.failed.keys().next() else { return };
        println!("{} of {} worlds failed: {:#?}", self.failed.len(), self.worlds, self.failed);
        pass(*seed);
        panic!("seed {seed} failed once, and not again");
    }

    /// What has to be met and was not: incidents, and deaths before and after the commit of each site.
    pub fn never_met(&self) -> Vec<String> {
        let incidents = INCIDENTS.iter().filter(|what| self.incidents.get(*what).is_none_or(|count| *count == 0));
        let sites = sites::ALL.iter().flat_map(|site| [(*site, BEFORE), (*site, AFTER)]);
        let cuts = sites.filter(|cut| !self.cuts.contains_key(cut)).map(|(site, when)| format!("a death {when} the commit of {site:?}"));
        incidents.map(|what| (*what).to_owned()).chain(cuts).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} worlds, {} engines, {} runs, {} flushes", self.worlds, self.lives, self.runs, self.flushes)?;
        for (what, count) in &self.incidents {
            writeln!(f, "{count:>7}  {what}")?;
        }
        writeln!(f, "deaths before and after the commit of")?;
        for site in sites::ALL.iter().copied() {
            let count = |when| self.cuts.get(&(site, when)).copied().unwrap_or(0);
            writeln!(f, "{:>7} {:>6}  {site:?}", count(BEFORE), count(AFTER))?;
        }
        Ok(())
    }
}

/// Lets worlds pass for so many minutes, from a seed on.
pub fn go_on(from: Option<u64>, minutes: u64) {
    let mut next = from.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 16);
    let watch = Stopwatch::start();
    let end = Duration::from_secs(minutes * 60);
    let (mut worlds, mut told, mut chunk) = (0, Duration::ZERO, 50);
    println!("from seed {next} on");
    while watch.elapsed() < end {
        let before = watch.elapsed();
        let tally = Tally::of(next..next + chunk);
        tally.show_failure();
        (next, worlds) = (next + chunk, worlds + chunk);
        // So many at a time that the end is not missed by much.
        chunk = if watch.elapsed() - before < TELL / 2 { chunk * 2 } else { chunk };
        if watch.elapsed() - told >= TELL {
            told = watch.elapsed();
            println!("{:>6} s: {worlds} worlds, {} runs in the last {}", told.as_secs(), tally.runs, tally.worlds);
        }
    }
    println!("{worlds} worlds to seed {} in {} s: every promise was kept", next - 1, watch.elapsed().as_secs());
}
