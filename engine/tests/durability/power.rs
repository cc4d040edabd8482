//! Power cuts. strace writes down all that an engine does to the files of its database and says on its sockets. From this log
//! the test makes what a disk may hold after a cut, for hundreds of moments, and looks whether all that was said before the
//! moment still holds.

mod disk;
mod promises;
mod trace;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use stepwell::base::Id;
use stepwell::store::Store as _;
use stepwell::store::sqlite::{Options, Sqlite};

use super::load::{Acknowledged, noted};
use super::{Experiment, Random, backup, wait_until};
use crate::cli::support::{Engine, Place, strace_log};
use disk::{Disk, Fate, Image};
use promises::{Said, Stored};
use trace::{Call, FILES, LOG, MAIN, What};

/// Rounds of requests before and after the events that have the log copied into the main file.
const ROUNDS: [usize; 2] = [2, 4];
/// More effects than come at once: who waits for them waits until none comes for a while.
const MANY: usize = 1_000;
/// Rounds after which an engine should have come to its end long ago.
const TOO_MANY_ROUNDS: usize = 100;
/// The same for the attempts to have the log begun anew, which hardly ever takes a second one.
const TOO_MANY_BATCHES: u64 = 10;
/// Cuts at any moment, besides those at flushes and after answers and effects, where `STEPWELL_CUTS` does not ask for others.
const ANYWHERE: u64 = 60;

/// A way to record an engine.
struct Way {
    durability: &'static str,
    /// Requests that are sent at once.
    together: u64,
    /// The first and the third engine are killed as one of their threads enters one of these calls for the n-th time.
    doom: &'static str,
    when: [u32; 2],
    /// Images that an engine is started on.
    restarts: usize,
}

/// Killed before a flush: what stands in the log and is not flushed is what the next engine finds.
const FULL: Way = Way { durability: "full", together: 2, doom: "fdatasync,fsync", when: [25, 18], restarts: 3 };
/// Here hardly anything is flushed. One request after the other, so that there is one order in which they are committed.
const NORMAL: Way = Way { durability: "normal", together: 1, doom: "pwrite64", when: [400, 200], restarts: 1 };

/// What the engines of an experiment did, and what came of it.
struct Recording {
    log: Vec<Call>,
    /// The files at the end of each engine's life, and the line of the log.
    ends: Vec<(usize, Image)>,
    /// Lines of the log.
    lines: usize,
    acknowledged: Vec<Acknowledged>,
    /// What was stored when all was done.
    whole: Stored,
    random: Random,
}

impl Way {
    /// Three engines, one after the other: killed, told to stop, killed.
    fn record(&self) -> Recording {
        let mut experiment = Experiment::new();
        let random = Random(experiment.random.below(u64::MAX));
        let [first, second] = self.when;
        let mut recording =
            Recording { log: Vec::new(), ends: Vec::new(), lines: 0, acknowledged: Vec::new(), whole: Stored::default(), random };
        self.killed(&mut experiment, first, &mut recording);
        self.told_to_stop(&mut experiment, &mut recording);
        self.killed(&mut experiment, second, &mut recording);
        let (place, acknowledged) = experiment.verify();
        recording.acknowledged = acknowledged;
        recording.whole = Stored::read(&place.path(".stepwell/stepwell.db"));
        recording
    }

    /// The next engine, with strace, which kills it at its n-th call where it is to.
    fn traced(&self, experiment: &mut Experiment, log: &Path, when: Option<u32>) -> Command {
        let program = experiment.next_engine();
        let mut traced = crate::program::command("strace", &experiment.place.path(""));
        traced.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // With -D the engine itself is our child, and gets our signals. Whole texts, and what each descriptor is.
        traced.args(["-D", "-f", "-q", "-y", "-s", "100000000", "-e", &format!("trace={}", trace::CALLS), "-o"]).arg(log);
        if let Some(when) = when {
            traced.args(["-e", &format!("inject={}:signal=KILL:when={when}", self.doom)]);
        }
        traced.arg(program.get_program()).args(program.get_args()).args(["--durability", self.durability]);
        traced
    }

    fn killed(&self, experiment: &mut Experiment, when: u32, recording: &mut Recording) {
        let log = experiment.place.path("killed.strace");
        let mut engine = Engine::start(self.traced(experiment, &log, Some(when)));
        experiment.load.engine_is_at(Some(&engine.url));
        let ended = (0..TOO_MANY_ROUNDS).any(|_| {
            self.round(experiment, &mut engine);
            !engine.is_alive()
        });
        assert!(ended, "no thread has come to its call {when} of {}", self.doom);
        experiment.load.engine_is_at(None);
        assert_eq!(engine.exit_code(), -1, "killed at {} {when}", self.doom);
        recording.end_of_life(experiment, &engine, &log);
    }

    /// While this one is at work its log is copied into the main file and begun anew; it is copied again when it ends.
    fn told_to_stop(&self, experiment: &mut Experiment, recording: &mut Recording) {
        let log = experiment.place.path("told.strace");
        let mut engine = Engine::start(self.traced(experiment, &log, None));
        experiment.load.engine_is_at(Some(&engine.url));
        let [before, after] = ROUNDS;
        (0..before).for_each(|_| self.round(experiment, &mut engine));
        // Whoever writes while the log is copied keeps it from beginning anew: so the clock starts nothing meanwhile.
        experiment.place.ask(&engine, &["functions", "pause", "ticking"]).exits(0);
        for batch in 0.. {
            assert!(batch < TOO_MANY_BATCHES, "the log does not begin anew");
            experiment.ledger.wait_for_more(MANY);
            let copied = || so_far(&log).iter().filter(|call| matches!(call.what, What::Write { file: MAIN, .. })).count();
            let before = copied();
            experiment.load.send(noted(batch));
            wait_until("all is answered", || experiment.load.unanswered() == 0);
            wait_until("the log is copied", || copied() > before);
            experiment.ledger.wait_for_more(MANY);
            self.round(experiment, &mut engine);
            if so_far(&log).iter().any(|call| matches!(call.what, What::Write { file: LOG, from: 0, .. })) {
                break;
            }
        }
        experiment.place.ask(&engine, &["functions", "resume", "ticking"]).exits(0);
        (0..after).for_each(|_| self.round(experiment, &mut engine));
        experiment.load.engine_is_at(None);
        engine.signal(Signal::TERM);
        assert_eq!(engine.exit_code(), 0, "told to stop");
        recording.end_of_life(experiment, &engine, &log);
    }

    /// Has requests sent, and waits until they are answered and something has come of them, or the engine is dead.
    fn round(&self, experiment: &Experiment, engine: &mut Engine) {
        let mut settle = || wait_until("all is answered", || experiment.load.unanswered() == 0 || !engine.is_alive());
        // What the engine before has not answered comes first.
        settle();
        experiment.load.more(self.together);
        settle();
        experiment.ledger.wait_for_more(2);
    }
}

impl Recording {
    fn end_of_life(&mut self, experiment: &Experiment, engine: &Engine, log: &Path) {
        experiment.ledger.note_kill();
        let first = self.lines;
        let text = strace_log(log, engine.pid());
        self.log.extend(trace::read(&text, first));
        self.lines += text.lines().count();
        let read = |name| Some((name, std::fs::read(experiment.place.path(".stepwell").join(name)).ok()?));
        self.ends.push((self.lines, FILES.into_iter().filter_map(read).collect()));
        println!("an engine's log: {} lines, {} KB", self.lines - first, text.len() / 1024);
    }

    /// The log tells the truth: what it says was written is what the files were when their engine had ended.
    fn tells_what_the_files_were(&self) {
        let mut disk = Disk::default();
        let mut next = 0;
        for (number, (line, files)) in self.ends.iter().enumerate() {
            next = go_on(&mut disk, &self.log, next, *line);
            let image = disk.image(Fate::Everything, &mut Random(0));
            assert!(image.keys().eq(files.keys()), "end {number}: {:?}, there are {:?}", image.keys(), files.keys());
            for (name, bytes) in files {
                assert!(image[name] == *bytes, "end {number}: what was written to {name} is not what stands there");
            }
        }
    }

    /// Where to cut, and what becomes of what was not flushed, in order.
    fn cuts(&mut self, said: &Said) -> Vec<(usize, Fate)> {
        let mut cuts = Vec::new();
        for call in &self.log {
            // A flush is about to return, so nobody knows of it.
            match call.what {
                What::Flush(MAIN) => cuts.extend(Fate::ALL.map(|fate| (call.at, fate))),
                What::Flush(_) => cuts.push((call.at, Fate::any(&mut self.random))),
                _ => {}
            }
        }
        cuts.extend(said.moments().map(|at| (at + 1, Fate::Nothing)));
        let anywhere = std::env::var("STEPWELL_CUTS").map_or(ANYWHERE, |cuts| cuts.parse().expect("STEPWELL_CUTS is a number"));
        cuts.extend((0..anywhere).map(|_| (self.random.below(self.lines as u64) as usize, Fate::any(&mut self.random))));
        cuts.sort_by_key(|(at, _)| *at);
        cuts
    }

    /// How often the log was begun anew, and how many pages were copied into the main file.
    fn copies(&self) -> (usize, usize) {
        let writes =
            self.log.iter().filter_map(|call| if let What::Write { file, from, .. } = call.what { Some((file, from)) } else { None });
        let (log, main): (Vec<_>, Vec<_>) = writes.filter(|(file, _)| [LOG, MAIN].contains(file)).partition(|(file, _)| *file == LOG);
        (log.iter().filter(|(_, from)| *from == 0).count(), main.len())
    }

    /// The events that were answered before a moment, as their client has noted them.
    fn acknowledged(&self, said: &Said, before: usize) -> Vec<Acknowledged> {
        let ids: BTreeSet<String> = said.answered(before).into_iter().flatten().map(|id| Id(*id).to_string()).collect();
        self.acknowledged.iter().filter(|noted| ids.contains(&noted.id)).cloned().collect()
    }
}

/// Takes the disk on to a moment; the number of the call after it.
fn go_on<'a>(disk: &mut Disk<'a>, log: &'a [Call], from: usize, to: usize) -> usize {
    let before = log[from..].iter().take_while(|call| call.at < to);
    from + before.map(|call| disk.take(call)).count()
}

/// What strace has written down until now of an engine that is alive.
fn so_far(log: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(log).unwrap();
    trace::read(text.rsplit_once('\n').map_or("", |(lines, _)| lines), 0)
}

/// Puts the files of a disk into a folder of their own; the path of the database.
fn put(image: &Image, folder: PathBuf) -> PathBuf {
    std::fs::create_dir(&folder).unwrap();
    for (name, bytes) in image {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    folder.join(MAIN)
}

/// What a database has stored that a power cut has left behind. It is sound; where nothing of it is there yet, an engine can
/// make it.
fn stored_in(database: &Path, what: &str) -> Stored {
    let options = Options { read_only: true, ..Options::default() };
    let (store, empty) = match Sqlite::open(database, options) {
        Ok(store) => (store, false),
        Err(_) => match Sqlite::open(database, Options::default()) {
            Ok(store) => (store, true),
            Err(error) => panic!("{what}: {error}"),
        },
    };
    assert_eq!(store.check(), Ok(Vec::new()), "I8: {what}");
    store.close().unwrap();
    if empty { Stored::default() } else { Stored::read(database) }
}

/// Cuts the power again and again, and holds each image against what `held` makes of it: (what was stored, what was said, the
/// moment, what it is called).
fn cut(way: &Way, mut held: impl FnMut(&Stored, &Said, usize, &str)) {
    let mut recording = way.record();
    recording.tells_what_the_files_were();
    let said = Said::hear(&recording.log);
    let cuts = recording.cuts(&said);
    let images = Place::new();
    let mut disk = Disk::default();
    let (mut next, mut restarted) = (0, 0);
    for (number, (at, fate)) in cuts.iter().enumerate() {
        next = go_on(&mut disk, &recording.log, next, *at);
        let image = disk.image(*fate, &mut recording.random);
        let folder = images.path(&format!("cut-{number}"));
        let database = put(&image, folder.clone());
        let what = format!("cut {number}, before line {at}, {fate:?} of what was not flushed");
        let stored = stored_in(&database, &what);
        stored.is_part_of(&recording.whole, &what);
        held(&stored, &said, *at, &what);
        // Some of them all over the log.
        if number >= cuts.len() * (restarted + 1) / (way.restarts + 1) && !stored.events.is_empty() {
            restarted += 1;
            let kept = said.kept(&stored, *at, &what);
            let promised = said.answers.get(kept).map_or(*at, |(first_lost, _)| *first_lost.min(at));
            backup::restore(&database, &recording.acknowledged(&said, promised));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
    let (answers, effects) = said.count(recording.lines);
    let (begun_anew, copied) = recording.copies();
    println!("{} cuts over {answers} answers and {effects} effects, {restarted} restarts", cuts.len());
    println!("{begun_anew} logs, of which {copied} pages were copied");
    assert!(begun_anew > 2 && copied > 1, "{begun_anew} logs, of which {copied} pages were copied");
    assert_eq!(restarted, way.restarts, "engines go on from some of the images");
    assert!(answers > 10 && effects > 20, "{answers} answers, {effects} effects");
}

#[test]
fn a_power_cut_takes_back_nothing_that_was_acknowledged() {
    cut(&FULL, |stored, said, at, what| assert_eq!(said.broken(stored, at), None, "{what}"));
}

#[test]
fn without_a_flush_for_each_commit_a_power_cut_takes_back_the_last_ones_alone() {
    let mut shortened = 0;
    cut(&NORMAL, |stored, said, at, what| {
        let kept = said.kept(stored, at, what);
        // The last event that is there was sent when the answer before had come: what was said until then was committed before.
        if kept > 1 {
            let (known, _) = said.answers[kept - 2];
            assert_eq!(said.broken(stored, known + 1), None, "{what}");
        }
        shortened += u32::from(said.broken(stored, at).is_some());
    });
    // Else the cuts of this test would cut nothing, and the one above would show nothing.
    assert!(shortened > 0, "no cut has taken anything back");
    println!("{shortened} cuts have taken something back");
}
