//! A soak: an engine under mixed load, killed again and again, with retention on. Its memory, descriptors and file level
//! off, nothing that was acknowledged is lost, and nothing happens twice.
//!
//! `scripts/soak --minutes N` lets it go on for N minutes: two thirds of them with a kill in each, then with one engine that goes
//! on to the end. Without, it is a short one that ends by the effects that came, not by the time.

mod held;
mod levels;
mod mix;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use stepwell::base::Clock as _;
use stepwell::clock::{Stopwatch, SystemClock};
use stepwell::store::Store as _;
use stepwell::store::sqlite::{Options, Sqlite};

use super::ledger::{Entry, Ledger};
use super::load::{Acknowledged, Load};
use super::{Random, verify};
use crate::cli::support::{Engine, PATIENCE, Place};
use levels::{Sample, thousands};
use mix::{Replies, TOGETHER};

/// Events a second, where `STEPWELL_SOAK_RATE` does not ask for others.
const RATE: u64 = 100;
/// How often the load is topped up, and how often the engine is looked at.
const PACE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(2);
/// Requests that may wait for their answer: beyond, the load waits for the engine.
const UNANSWERED_MOST: u64 = 200;
/// One engine's life.
const LIFE: Duration = Duration::from_secs(60);
/// Lives of the short soak, and the effects that one of them waits for.
const SHORT_LIVES: u64 = 3;
const SHORT_EFFECTS: usize = 150;

/// The soak's engines and what they are held against.
struct Soak {
    random: Random,
    ledger: Ledger,
    place: Place,
    /// A copy of the program: somebody may build it anew while the soak goes on for hours, with another schema.
    program: PathBuf,
    load: Load,
    database: PathBuf,
    lives: u64,
    replies: Replies,
    samples: Vec<Sample>,
    watch: Stopwatch,
}

impl Soak {
    fn start() -> Soak {
        let ledger = Ledger::start();
        let place = mix::project(&ledger);
        let program = place.path("stepwell-as-it-was");
        // By another process: while one of our own threads had the file open for writing, whatever another one starts would have it
        // open as well for a moment, in which nobody can execute it.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_stepwell")).arg(&program).status().unwrap();
        assert!(copied.success(), "the program cannot be copied: {copied}");
        let database = place.path(".stepwell/stepwell.db");
        let (load, watch) = (Load::start(&ledger), Stopwatch::start());
        Soak {
            random: Random(super::seed()),
            ledger,
            place,
            program,
            load,
            database,
            lives: 0,
            replies: Replies::default(),
            samples: Vec::new(),
            watch,
        }
    }

    fn start_engine(&mut self) -> Engine {
        self.lives += 1;
        let mut command = crate::program::command(self.program.to_str().unwrap(), &self.place.path(""));
        command.args(["run", "--listen", "127.0.0.1:0"]).env("LIFE", self.lives.to_string());
        let engine = Engine::start(command);
        self.load.engine_is_at(Some(&engine.url));
        engine
    }

    /// Sends what is due: events of the mix, and replies to runs that want one.
    fn top_up(&mut self, events_due: u64) {
        let replies = self.replies.due(&self.ledger);
        if !replies.is_empty() {
            self.load.send(replies);
        }
        for _ in 0..events_due.div_ceil(TOGETHER) {
            self.load.send(mix::events(self.load.requests()));
        }
    }

    /// An engine under load, until `enough` says so or it has ended by itself.
    fn live(&mut self, engine: &Engine, rate: u64, mut enough: impl FnMut(&Soak, Duration) -> bool) {
        let watch = Stopwatch::start();
        let (mut sent, mut looked) = (0, Duration::ZERO);
        while !enough(self, watch.elapsed()) {
            let due = (watch.elapsed().as_millis() as u64 * rate / 1000).saturating_sub(sent);
            let room = self.load.unanswered() < UNANSWERED_MOST;
            sent += due;
            self.top_up(if room { due } else { 0 });
            if watch.elapsed() >= looked + LOOK {
                looked = watch.elapsed();
                if !self.look_at(engine) {
                    return;
                }
            }
            std::thread::sleep(PACE);
        }
        self.look_at(engine);
    }

    /// Takes a sample; false where the engine is no more.
    fn look_at(&mut self, engine: &Engine) -> bool {
        let sample = Sample::of(engine, &self.database);
        let minutes = self.watch.elapsed().as_secs_f64() / 60.0;
        let (life, events, effects) = (self.lives, self.load.answered(), self.ledger.count());
        self.samples.extend(sample.map(|sample| Sample { minutes, life, events, effects, ..sample }));
        sample.is_some()
    }

    fn kill(&self, mut engine: Engine) {
        self.ledger.note_kill();
        engine.signal(Signal::KILL);
        self.load.engine_is_at(None);
        engine.is_ended_by(Signal::KILL);
    }

    /// One engine, from its start to its kill.
    fn one_life(&mut self, rate: u64, enough: impl FnMut(&Soak, Duration) -> bool) {
        let engine = self.start_engine();
        self.live(&engine, rate, enough);
        self.kill(engine);
        let Some(last) = self.samples.last() else { return };
        let Sample { life, events, effects, resident_mb, descriptors, database_mb, log_mb, .. } = last;
        let seconds = self.watch.elapsed().as_secs();
        let (time, events, effects) = (format!("{}:{:02}", seconds / 60, seconds % 60), thousands(*events), thousands(*effects));
        println!("| {time} | {life} | {events} | {effects} | {resident_mb:.1} | {descriptors} | {database_mb:.1} | {log_mb:.1} |");
    }

    /// After the last kill: lets everything come to its end.
    fn finish(mut self) -> (Vec<Acknowledged>, Vec<Entry>) {
        let mut engine = self.start_engine();
        let clock = SystemClock::default();
        let (mut open, mut moved) = (u64::MAX, clock.now());
        loop {
            self.top_up(0);
            let now_open = open_runs(&self.database) + self.load.unanswered();
            if now_open == 0 {
                break;
            }
            // The clock starts a run each second: that there are more of them, or fewer again, is no progress.
            if now_open < open {
                (open, moved) = (now_open, clock.now());
            }
            assert!(clock.now().since(moved).std() < PATIENCE, "{open} runs and requests are stuck");
            std::thread::sleep(PACE);
        }
        let acknowledged = self.load.finish();
        engine.signal(Signal::TERM);
        assert_eq!(engine.exit_code(), 0, "a clean end after all");
        let store = verify::open(&self.database);
        assert_eq!(store.check(), Ok(Vec::new()), "the database is sound");
        (acknowledged, self.ledger.entries())
    }
}

fn open_runs(database: &Path) -> u64 {
    let store = Sqlite::open(database, Options { read_only: true, ..Options::default() }).unwrap();
    store.stats().unwrap().unfinished
}

#[test]
fn a_soak_loses_nothing_and_levels_off() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (minutes, rate) = (number("STEPWELL_SOAK_MINUTES"), number("STEPWELL_SOAK_RATE").unwrap_or(RATE));
    let mut soak = Soak::start();
    println!("| time | kills | events | effects | resident MB | descriptors | database MB | log MB |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let last_minutes = minutes.unwrap_or(0) / 3;
    for _ in 0..minutes.map_or(SHORT_LIVES, |minutes| minutes - last_minutes) {
        let before = soak.ledger.count();
        let within = Duration::from_millis(soak.random.below(100));
        soak.one_life(rate, |soak, lived| match minutes {
            Some(_) => lived >= LIFE + within,
            None => soak.ledger.count() >= before + SHORT_EFFECTS,
        });
    }
    let last_life = (last_minutes > 0).then(|| {
        soak.one_life(rate, |_, lived| lived >= LIFE * last_minutes as u32);
        soak.lives
    });
    let samples = std::mem::take(&mut soak.samples);
    // Whether it levels off is told whatever else may have gone wrong.
    let held = catch_unwind(AssertUnwindSafe(|| {
        let (acknowledged, entries) = soak.finish();
        held::verify(&acknowledged, &entries);
        let kills = entries.iter().filter(|entry| matches!(entry, Entry::Kill)).count();
        println!("\n{} events, {} effects, {kills} kills: nothing lost, nothing twice", acknowledged.len(), entries.len() - kills);
    }));
    let growing = if minutes.is_some() { levels::what_grows(&samples, last_life) } else { Vec::new() };
    println!("\n{}", levels::table(&samples, last_life));
    assert!(growing.is_empty(), "{}{}", growing.join("\n"), if held.is_err() { "\nand the panic above" } else { "" });
    if let Err(panic) = held {
        std::panic::resume_unwind(panic);
    }
}
