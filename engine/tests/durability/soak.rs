//! A soak: an engine under mixed load, killed again and again, with retention on. Its memory, descriptors and file level
//! off, nothing that was acknowledged is lost, and nothing happens twice.
//!
//! `scripts/soak --minutes N` lets it go on for N minutes with a kill in each; without, it is a short one that ends by the
//! effects that came, not by the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use stepwell::base::{Clock as _, Millis};
use stepwell::clock::{Stopwatch, SystemClock};
use stepwell::store::Store;
use stepwell::store::sqlite::{Options, Sqlite};

use super::ledger::{Effect, Entry, Ledger};
use super::load::{Acknowledged, CLIENTS, Event, Load};
use super::{EFFECT, Random, command, verify};
use crate::cli::support::{Engine, PATIENCE, Place};

/// Events a second, where `STEPWELL_SOAK_RATE` does not ask for others, and those of one request.
const RATE: u64 = 100;
const TOGETHER: u64 = 5;
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
/// From one quarter's middle to a later one's, a figure may grow by this share and this much, in its own unit.
const MAY_GROW: f64 = 0.25;
const MAY_GROW_MB: f64 = 16.0;
const MAY_GROW_DESCRIPTORS: f64 = 16.0;

const CONFIG: &str = r#"
version: 1
app: soak
env: { LEDGER: "LEDGER_URL", LIFE: "0" }
http: { timeout: 20s, allow: ["127.0.0.0/8"] }
retention: { completed: 15s, failed: 15s, cancelled: 15s, events: 15s }
defaults: { retries: { attempts: 9, backoff: fixed, initial: 50ms, jitter: 0 } }
events: { soak/plain: {}, soak/keyed: {}, soak/asked: {}, soak/answer: {}, soak/parts: {} }
functions:
  stepped: { on: soak/plain }
  retried: { on: soak/plain }
  failing: { on: { event: soak/plain, if: "event.data.n % 7 == 0" } }
  keyed: { on: soak/keyed, concurrency: { limit: 1, key: event.data.user } }
  asked: { on: soak/asked }
  parts: { on: soak/parts }
"#;

/// How a handler tells the ledger who and when it is.
const TELL_MODULE: &str = r#"
fn soak(url, run, step, user, more) {
    http::post(`${url}/effect`, #{ json: #{ run: run, step: step, part: 1, user: user, more: more } }).status
}
"#;

/// Each function, its handler, and the steps that a whole run of it has had.
const FUNCTIONS: [(&str, &str, &[&str]); 6] = [
    (
        "stepped",
        r#"step("reserve", || TELL("reserve")); sleep("nap", "1s"); step("confirm", || TELL("confirm"));"#,
        &["reserve", "confirm"],
    ),
    ("retried", r#"step("unsure", || TELL("unsure"));"#, &["unsure"]),
    ("failing", r#"step("note", || TELL("note")); fail("as it should");"#, &["note"]),
    ("keyed", r#"step("open", || TELL("open")); step("close", || TELL("close"));"#, &["open", "close"]),
    (
        "asked",
        r#"step("ask", || TELL("ask"));
        wait_for_event("soak/answer", #{ "if": "async.data.n == event.data.n" });
        step("answered", || TELL("answered"));"#,
        &["ask", "answered"],
    ),
    (
        "parts",
        r#"parallel(["left", "middle", "right"], |side| step(side, || TELL(side))); step("done", || TELL("done"));"#,
        &["left", "middle", "right", "done"],
    ),
];

fn project(ledger: &Ledger) -> Place {
    let place = Place::new();
    place.write("events.yaml", &CONFIG.replace("LEDGER_URL", &ledger.url));
    place.write("handlers/lib/effect.rhai", &format!("{EFFECT}{TELL_MODULE}"));
    for (function, script, _) in FUNCTIONS {
        // The call is written out in each step: a closure of its own would be captured by it.
        let mut written = String::from("import \"lib/effect\" as effect;\n");
        for (at, part) in script.split("TELL(").enumerate() {
            let Some((step, rest)) = part.split_once(')').filter(|_| at > 0) else {
                written.push_str(part);
                continue;
            };
            let user = if function == "keyed" { "event.data.user" } else { "()" };
            let more = format!("#{{ function: \"{function}\", n: event.data.n, life: env(\"LIFE\") }}");
            write!(written, "effect::soak(env(\"LEDGER\"), run.id, {step}, {user}, {more}){rest}").unwrap();
        }
        place.write(&format!("handlers/{function}.rhai"), &written);
    }
    place
}

/// The functions that an event starts.
fn started_by(name: &str, n: u64) -> Vec<&'static str> {
    match name {
        "soak/plain" if n.is_multiple_of(7) => vec!["stepped", "retried", "failing"],
        "soak/plain" => vec!["stepped", "retried"],
        "soak/keyed" => vec!["keyed"],
        "soak/asked" => vec!["asked"],
        "soak/parts" => vec!["parts"],
        _ => Vec::new(),
    }
}

/// The events of a request. One in ten has an id of its sender's: those are remembered for a day, which a soak is too short
/// to see the end of.
fn events(job: u64) -> Vec<Event> {
    // A user's events come from one client, so that there is one order in which they are accepted.
    let user = format!("user-{}", job % (20 * CLIENTS));
    let names = ["soak/plain", "soak/keyed", "soak/asked", "soak/parts", "soak/plain"];
    let event = |(n, name): (u64, &'static str)| Event { name, n, user: user.clone(), has_id: n.is_multiple_of(10) };
    (job * TOGETHER..).zip(names).map(event).collect()
}

/// What the engine takes at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    resident_mb: f64,
    descriptors: f64,
    file_mb: f64,
}

impl Sample {
    fn of(engine: &Engine, database: &Path) -> Option<Sample> {
        let process = format!("/proc/{}", engine.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        let kb: f64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().split(' ').next()?.parse().ok()?;
        let descriptors = std::fs::read_dir(format!("{process}/fd")).ok()?.count() as f64;
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let bytes: u64 = [database, Path::new(&log)].iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
        Some(Sample { resident_mb: kb / 1024.0, descriptors, file_mb: bytes as f64 / 1_048_576.0 })
    }
}

/// What is judged: a figure's name, how it is read off a sample, and how much it may grow.
type Judged = (&'static str, fn(&Sample) -> f64, f64);
const JUDGED: [Judged; 3] = [
    ("resident memory, MB", |sample| sample.resident_mb, MAY_GROW_MB),
    ("descriptors", |sample| sample.descriptors, MAY_GROW_DESCRIPTORS),
    ("database and log, MB", |sample| sample.file_mb, MAY_GROW_MB),
];

/// The middle of each quarter of the samples, by figure; an error names a figure that goes on growing after the first
/// quarter, in which everything fills up for the first time.
fn levels_off(samples: &[Sample]) -> Result<Vec<(&'static str, Vec<f64>)>, String> {
    let mut all = Vec::new();
    for (name, read, slack) in JUDGED {
        let quarters: Vec<f64> = samples
            .chunks(samples.len().div_ceil(4).max(1))
            .map(|quarter| {
                let mut values: Vec<f64> = quarter.iter().map(read).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            })
            .collect();
        if let [_, second, .., last] = quarters[..]
            && last > second * (1.0 + MAY_GROW) + slack
        {
            return Err(format!("{name} did not level off; the middles of the quarters are {quarters:.1?}"));
        }
        all.push((name, quarters));
    }
    Ok(all)
}

#[test]
fn growth_is_told_from_what_levels_off() {
    let sample = |at: usize, grows: f64| Sample { resident_mb: 50.0 + grows * at as f64, descriptors: 20.0, file_mb: at.min(25) as f64 };
    let steady: Vec<Sample> = (0..100).map(|at| sample(at, 0.1)).collect();
    assert_eq!(levels_off(&steady).unwrap()[2], ("database and log, MB", vec![12.0, 25.0, 25.0, 25.0]));
    let leaking: Vec<Sample> = (0..100).map(|at| sample(at, 2.0)).collect();
    assert!(levels_off(&leaking).unwrap_err().starts_with("resident memory"), "{:?}", levels_off(&leaking));
}

/// The soak's engines and what they are held against.
struct Soak {
    random: Random,
    ledger: Ledger,
    place: Place,
    load: Load,
    database: std::path::PathBuf,
    lives: u64,
    /// Entries of the ledger that were looked through for questions, and the runs that have asked.
    looked: usize,
    asked: BTreeSet<String>,
    answers: Vec<u64>,
    samples: Vec<Sample>,
}

impl Soak {
    fn start_engine(&mut self) -> Engine {
        self.lives += 1;
        let mut command = command(&self.place);
        command.env("LIFE", self.lives.to_string());
        let engine = Engine::start(command);
        self.load.engine_is_at(Some(&engine.url));
        engine
    }

    /// Sends what is due: `events` of the mix, and an answer to each run that has asked.
    fn top_up(&mut self, events_due: u64) {
        for entry in self.ledger.entries_from(self.looked) {
            self.looked += 1;
            if let Entry::Effect(effect) = entry
                && effect.step == "ask"
            {
                // An event that was sent twice may have two runs, of which the second one asks later.
                if self.asked.insert(effect.run.clone()) {
                    self.answers.push(effect.more["n"].as_u64().unwrap());
                }
            }
        }
        let answer = |n: u64| Event { name: "soak/answer", n, user: "somebody".to_owned(), has_id: false };
        let answers: Vec<Event> = std::mem::take(&mut self.answers).into_iter().map(answer).collect();
        if !answers.is_empty() {
            self.load.send(answers);
        }
        for _ in 0..events_due.div_ceil(TOGETHER) {
            self.load.send(events(self.load.requests()));
        }
    }

    /// An engine under load, until `enough` says so.
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
                self.samples.extend(Sample::of(engine, &self.database));
            }
            std::thread::sleep(PACE);
        }
        self.samples.extend(Sample::of(engine, &self.database));
    }

    fn kill(&self, mut engine: Engine) {
        self.ledger.note_kill();
        engine.signal(Signal::KILL);
        self.load.engine_is_at(None);
        engine.is_ended_by(Signal::KILL);
    }

    fn row(&self, watch: &Stopwatch, effects: usize) -> String {
        let Some(sample) = self.samples.last() else { return String::new() };
        let Sample { resident_mb, descriptors, file_mb } = sample;
        let (minutes, seconds) = (watch.elapsed().as_secs() / 60, watch.elapsed().as_secs() % 60);
        format!(
            "| {minutes}:{seconds:02} | {} | {} | {effects} | {resident_mb:.1} | {descriptors} | {file_mb:.1} |",
            self.lives - 1,
            self.load.answered()
        )
    }

    /// After the last kill: lets everything come to its end.
    fn finish(mut self) -> (Vec<Acknowledged>, Vec<Entry>, Vec<Sample>) {
        let mut engine = self.start_engine();
        let clock = SystemClock::default();
        let (mut open, mut moved) = (u64::MAX, clock.now());
        loop {
            self.top_up(0);
            let store = Sqlite::open(&self.database, Options { read_only: true, ..Options::default() }).unwrap();
            let now_open = store.stats().unwrap().unfinished + self.load.unanswered();
            if now_open == 0 {
                break;
            }
            if now_open != open {
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
        (acknowledged, self.ledger.entries(), self.samples)
    }
}

/// What the ledger knows of a function's runs for an event: by run, each step's effects in the order of their coming.
type Told<'a> = BTreeMap<&'a str, Vec<&'a Effect>>;

fn told(entries: &[Entry]) -> HashMap<(&str, u64), Told<'_>> {
    let mut all: HashMap<(&str, u64), Told<'_>> = HashMap::new();
    for entry in entries {
        if let Entry::Effect(effect) = entry {
            let about = (effect.more["function"].as_str().unwrap(), effect.more["n"].as_u64().unwrap());
            all.entry(about).or_default().entry(&effect.run).or_default().push(effect);
        }
    }
    all
}

/// Nothing that was acknowledged is lost: each event's runs have had all their effects. Nothing comes twice: an event has
/// one run of each function, and a step's effect comes again only in another life of the engine (or after it was refused).
fn verify_effects(acknowledged: &[Acknowledged], entries: &[Entry]) {
    let mut told = told(entries);
    for event in acknowledged {
        for function in started_by(event.name, event.n) {
            let what = format!("{function} for {} {}", event.name, event.n);
            let runs = told.remove(&(function, event.n)).unwrap_or_else(|| panic!("lost: {what} has had no effect"));
            // Without an id, what was sent again because no answer came may be another event.
            let most = if event.sender_id.is_some() { 1 } else { event.tries as usize };
            assert!(runs.len() <= most, "twice: {what} has run as {:?}", runs.keys());
            for (run, effects) in runs {
                verify_run(function, &format!("{what}, run {run}"), &effects);
            }
        }
    }
    assert!(told.is_empty(), "effects of events that nobody was told of: {:?}", told.keys());
}

fn verify_run(function: &str, what: &str, effects: &[&Effect]) {
    let steps = FUNCTIONS.iter().find(|(name, ..)| *name == function).unwrap().2;
    let mut last_at: Option<(usize, Millis)> = None;
    for (place, step) in steps.iter().enumerate() {
        let of: Vec<(usize, &Effect)> =
            effects.iter().enumerate().filter(|(_, effect)| effect.step == *step).map(|(at, effect)| (at, *effect)).collect();
        assert!(!of.is_empty(), "lost: step {step} of {what} has had no effect");
        // The ledger refuses the very first effect of a step that is unsure, which is then tried again.
        let mut lives: Vec<&str> =
            of.iter().skip(usize::from(*step == "unsure")).map(|(_, effect)| effect.more["life"].as_str().unwrap()).collect();
        let count = lives.len();
        lives.dedup();
        assert_eq!(lives.len(), count, "twice: step {step} of {what} in one life: {effects:?}");
        // The branches of `parts` come in any order, all before what follows them.
        if function == "parts" && place < 3 {
            continue;
        }
        if let Some((before, at)) = last_at {
            assert!(of[0].0 > before, "step {step} of {what} came before its predecessor was done: {effects:?}");
            if *step == "confirm" {
                assert!(of[0].1.at.since(at).0 >= 999, "{what} slept less than a second: {effects:?}");
            }
        }
        last_at = of.last().map(|(at, effect)| (*at, effect.at));
    }
}

/// Under a limit of 1 the runs of a key neither overlap nor overtake.
fn verify_keys(entries: &[Entry]) {
    let mut of_user: HashMap<&str, Vec<&str>> = HashMap::new();
    for entry in entries {
        if let Entry::Effect(Effect { user: Some(user), run, .. }) = entry {
            of_user.entry(user).or_default().push(run);
        }
    }
    for (user, mut runs) in of_user {
        runs.dedup();
        assert!(runs.windows(2).all(|pair| pair[0] < pair[1]), "the runs of {user} overlap or overtake: {runs:?}");
    }
}

#[test]
fn a_soak_loses_nothing_and_levels_off() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (minutes, rate) = (number("STEPWELL_SOAK_MINUTES"), number("STEPWELL_SOAK_RATE").unwrap_or(RATE));
    let ledger = Ledger::start();
    let place = project(&ledger);
    let database = place.path(".stepwell/stepwell.db");
    let (looked, asked, answers, samples) = (0, BTreeSet::new(), Vec::new(), Vec::new());
    let mut soak = Soak { random: Random(rate), ledger, place, load: Load::start(), database, lives: 0, looked, asked, answers, samples };
    let watch = Stopwatch::start();
    println!("| time | kills | events | effects | resident MB | descriptors | file MB |\n|---|---:|---:|---:|---:|---:|---:|");
    for _ in 0..minutes.unwrap_or(SHORT_LIVES) {
        let engine = soak.start_engine();
        let before = soak.ledger.count();
        let within = Duration::from_millis(soak.random.below(100));
        soak.live(&engine, rate, |soak, lived| match minutes {
            Some(_) => lived >= LIFE + within,
            None => soak.ledger.count() >= before + SHORT_EFFECTS,
        });
        let row = soak.row(&watch, soak.ledger.count());
        soak.kill(engine);
        println!("{row}");
    }
    let (acknowledged, entries, samples) = soak.finish();
    verify_effects(&acknowledged, &entries);
    verify_keys(&entries);
    let kills = entries.iter().filter(|entry| matches!(entry, Entry::Kill)).count();
    println!("{} events, {} effects, {kills} kills: nothing lost, nothing twice", acknowledged.len(), entries.len() - kills);
    if minutes.is_some() {
        for (name, quarters) in levels_off(&samples).unwrap_or_else(|error| panic!("{error}")) {
            println!("{name}, the middle of each quarter: {quarters:.1?}");
        }
    }
}
