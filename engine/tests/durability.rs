//! The engine as a process that is killed again and again under load: what was answered is done, once, in order.
//!
//! The engine runs a project whose every effect is a request to a ledger in the test's own process, which nobody kills.
//! A client sends events and notes each 200. After the last kill one `verify` holds the ledger and the client's notes
//! against the database: I1 to I9 of the guarantees.

mod answers;
mod backup;
mod cancels;
mod counts;
pub mod ledger;
mod limits;
mod load;
mod power;
mod soak;
mod syscalls;
mod verify;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use stepwell::base::{Clock as _, Millis};
use stepwell::clock::SystemClock;

use crate::cli::support::{Engine, PATIENCE, Place};
use ledger::Ledger;
use load::{Acknowledged, Load};

/// Kills, as the guarantees ask for, where `STEPWELL_KILLS` does not ask for others.
const KILLS: u64 = 100;
/// Of so many starts, one is killed while it starts.
const KILLED_EARLY: u64 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

const CONFIG: &str = r#"
version: 1
app: durable
env: { LEDGER: "LEDGER_URL" }
http: { timeout: 20s, allow: ["127.0.0.0/8"] }
defaults: { retries: { attempts: 9, backoff: fixed, initial: 50ms, jitter: 0 } }
events:
  { work/plain: {}, work/keyed: {}, work/asked: {}, work/answer: {}, work/collected: {}, work/limited: {}, work/noted: {},
    work/doomed: {}, work/called-off: {}, work/never: {} }
functions:
  plain: { on: work/plain }
  flaky: { on: work/plain }
  third: { on: { event: work/plain, if: "event.data.n % 3 == 0" } }
  keyed: { on: work/keyed, concurrency: { limit: 1, key: event.data.user } }
  asked: { on: work/asked }
  parent: { on: work/asked }
  child: { on: { event: work/answer, if: "false" } }
  batched: { on: work/collected, batch: { size: 3, timeout: 300ms, key: event.data.user } }
  debounced: { on: work/collected, debounce: { period: 100ms, timeout: 400ms, key: event.data.user } }
  throttled: { on: work/collected, throttle: { limit: 40, period: 1s, burst: 2 } }
  ticking: { cron: { schedule: "* * * * * *", missed: run-all } }
  limited: { on: work/limited, rate_limit: { limit: 2, period: 10s, key: event.data.user } }
  single: { on: work/limited, singleton: { key: event.data.user } }
  once: { on: work/limited, idempotency: event.data.n / 100 }
  left: { on: work/limited, concurrency: { limit: 2, shared: desk } }
  right: { on: work/limited, concurrency: { limit: 2, shared: desk } }
  active: { on: work/limited, concurrency: { limit: 1, hold: active } }
  preferred:
    on: work/limited
    priority: "event.data.n % 2 == 1 ? 2 : 0"
    concurrency: { limit: 1, key: event.data.user }
  replaced: { on: work/doomed, singleton: { key: event.data.user, mode: cancel } }
  called: { on: work/doomed, cancel_on: { event: work/called-off, if: "async.data.n == event.data.n + 5" } }
  late: { on: work/doomed, concurrency: { limit: 1, key: event.data.user }, timeouts: { start: 300ms } }
  hurried: { on: work/doomed, timeouts: { finish: 300ms } }
  patient: { on: work/doomed }
"#;

/// The effects' helper: one request to the ledger, with everything that `verify` asks about.
const EFFECT: &str = r#"
fn post(url, run, step, part, user) {
    http::post(`${url}/effect`, #{ json: #{ run: run, step: step, part: part, user: user } }).status
}
"#;

const HANDLERS: [(&str, &str); 23] = [
    (
        "plain",
        r#"
let first = step("reserve", || effect::post(env("LEDGER"), run.id, "reserve", 1, ()));
sleep("nap", "120ms");
step("confirm", || {
    effect::post(env("LEDGER"), run.id, "confirm", 1, ());
    effect::post(env("LEDGER"), run.id, "confirm", 2, ())
});
#{ n: event.data.n, first: first }
"#,
    ),
    ("flaky", "step(\"unsure\", || effect::post(env(\"LEDGER\"), run.id, \"unsure\", 1, ()));\n#{ n: event.data.n }\n"),
    ("third", "log::info(\"third\");\nstep(\"note\", || effect::post(env(\"LEDGER\"), run.id, \"note\", 1, ()));\n#{ n: event.data.n }\n"),
    (
        "keyed",
        r#"
step("open", || effect::post(env("LEDGER"), run.id, "open", 1, event.data.user));
step("close", || effect::post(env("LEDGER"), run.id, "close", 1, event.data.user));
#{ n: event.data.n }
"#,
    ),
    (
        // It asks and answers itself, in whatever order: what comes before it listens is not lost.
        "asked",
        r#"
step("ask", || effect::post(env("LEDGER"), run.id, "ask", 1, ()));
let both = parallel(#{
    hear: || wait_for_event("work/answer", #{ "if": "async.data.n == event.data.n" }),
    say: || send_event("work/answer", #{ n: event.data.n }),
});
step("answered", || effect::post(env("LEDGER"), run.id, "answered", 1, ()));
#{ n: both.hear.data.n }
"#,
    ),
    (
        "parent",
        r#"
let twice = invoke("child", #{ n: event.data.n });
step("sum", || effect::post(env("LEDGER"), run.id, "sum", 1, ()));
#{ n: twice.n - event.data.n }
"#,
    ),
    ("child", "step(\"double\", || effect::post(env(\"LEDGER\"), run.id, \"double\", 1, ()));\n#{ n: event.data.n * 2 }\n"),
    ("batched", "step(\"store\", || effect::post(env(\"LEDGER\"), run.id, \"store\", 1, ()));\n#{ all: events.map(|one| one.data.n) }\n"),
    ("debounced", "step(\"last\", || effect::post(env(\"LEDGER\"), run.id, \"last\", 1, ()));\n#{ n: event.data.n }\n"),
    ("throttled", "step(\"slow\", || effect::post(env(\"LEDGER\"), run.id, \"slow\", 1, ()));\n#{ n: event.data.n }\n"),
    ("ticking", "step(\"tick\", || effect::post(env(\"LEDGER\"), run.id, \"tick\", 1, ()));\n#{ at: event.data.at }\n"),
    ("limited", "step(\"pass\", || effect::post(env(\"LEDGER\"), run.id, \"pass\", 1, ()));\n"),
    (
        "single",
        r#"
step("enter", || effect::post(env("LEDGER"), run.id, "enter", 1, ()));
sleep("nap", "150ms");
step("leave", || effect::post(env("LEDGER"), run.id, "leave", 1, ()));
"#,
    ),
    ("once", "step(\"do\", || effect::post(env(\"LEDGER\"), run.id, \"do\", 1, ()));\n"),
    (
        "left",
        r#"
step("take", || effect::post(env("LEDGER"), run.id, "take", 1, ()));
sleep("nap", "60ms");
step("give", || effect::post(env("LEDGER"), run.id, "give", 1, ()));
"#,
    ),
    (
        "right",
        r#"
step("take", || effect::post(env("LEDGER"), run.id, "take", 1, ()));
step("give", || effect::post(env("LEDGER"), run.id, "give", 1, ()));
"#,
    ),
    (
        // It is at work from the first part of a step to the second one.
        "active",
        r#"
step("before", || {
    effect::post(env("LEDGER"), run.id, "before", 1, ());
    effect::post(env("LEDGER"), run.id, "before", 2, ())
});
sleep("nap", "120ms");
step("after", || {
    effect::post(env("LEDGER"), run.id, "after", 1, ());
    effect::post(env("LEDGER"), run.id, "after", 2, ())
});
"#,
    ),
    (
        "preferred",
        r#"
step("open", || effect::post(env("LEDGER"), run.id, "open", 1, ()));
sleep("nap", "100ms");
step("close", || effect::post(env("LEDGER"), run.id, "close", 1, ()));
"#,
    ),
    (
        "replaced",
        r#"
step("begin", || effect::post(env("LEDGER"), run.id, "begin", 1, ()));
sleep("nap", "150ms");
step("finish", || effect::post(env("LEDGER"), run.id, "finish", 1, ()));
"#,
    ),
    (
        // Nobody sends what it waits for.
        "called",
        r#"
step("begin", || effect::post(env("LEDGER"), run.id, "begin", 1, ()));
wait_for_event("work/never", #{ timeout: "4s" });
step("finish", || effect::post(env("LEDGER"), run.id, "finish", 1, ()));
"#,
    ),
    (
        "late",
        r#"
step("begin", || effect::post(env("LEDGER"), run.id, "begin", 1, ()));
sleep("nap", "100ms");
step("finish", || effect::post(env("LEDGER"), run.id, "finish", 1, ()));
"#,
    ),
    (
        "hurried",
        r#"
step("begin", || effect::post(env("LEDGER"), run.id, "begin", 1, ()));
sleep("nap", if event.data.n % 2 == 0 { "1m" } else { "20ms" });
step("finish", || effect::post(env("LEDGER"), run.id, "finish", 1, ()));
"#,
    ),
    (
        "patient",
        r#"
step("begin", || effect::post(env("LEDGER"), run.id, "begin", 1, ()));
let answer = wait_for_event("work/called-off", #{ "if": "async.data.n == event.data.n + 5", timeout: "200ms" });
step("finish", || effect::post(env("LEDGER"), run.id, "finish", 1, ()));
#{ came: if answer == () { () } else { answer.data.n } }
"#,
    ),
];

fn wait_until(what: &str, mut come: impl FnMut() -> bool) {
    let mut waited = Duration::ZERO;
    while !come() {
        assert!(waited < PATIENCE, "it takes too long until {what}");
        std::thread::sleep(LOOK_AGAIN);
        waited += LOOK_AGAIN;
    }
}

/// Random numbers from a seed (splitmix64, https://prng.di.unimi.it/splitmix64.c).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Lets a random time go by: where in the engine's work a kill falls is what is tried out here.
    fn while_away(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_micros(self.below(most_ms * 1000)));
    }
}

/// What this test's choices come from: another number each time, unless it is to be the same again.
fn seed() -> u64 {
    let from_outside = std::env::var("STEPWELL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = from_outside.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("seed {seed}; STEPWELL_SEED={seed} makes the same choices again");
    seed
}

fn project(ledger: &Ledger) -> Place {
    let place = Place::new();
    place.write("events.yaml", &CONFIG.replace("LEDGER_URL", &ledger.url));
    place.write("handlers/lib/effect.rhai", EFFECT);
    for (function, script) in HANDLERS {
        place.write(&format!("handlers/{function}.rhai"), &format!("import \"lib/effect\" as effect;\n{script}"));
    }
    place
}

fn command(place: &Place) -> Command {
    let mut command = place.command();
    command.args(["run", "--listen", "127.0.0.1:0"]);
    command
}

/// An engine's project, its ledger, and the clients that send to it.
struct Experiment {
    random: Random,
    ledger: Ledger,
    place: Place,
    load: Load,
    /// When each engine was started: those before it were dead by then.
    starts: Vec<Millis>,
}

impl Experiment {
    fn new() -> Experiment {
        let ledger = Ledger::start();
        let (place, load) = (project(&ledger), Load::start(&ledger));
        Experiment { random: Random(seed()), ledger, place, load, starts: Vec::new() }
    }

    /// The next engine, whose effects tell the ledger which one it is. To be started at once.
    fn next_engine(&mut self) -> Command {
        self.starts.push(SystemClock::default().now());
        let mut command = command(&self.place);
        command.env("LEDGER", format!("{}/{}", self.ledger.url, self.starts.len()));
        command
    }

    /// Kills an engine that has just been started, wherever in its start it is.
    fn kill_early(&mut self) {
        let mut child = self.next_engine().stderr(std::process::Stdio::null()).spawn().unwrap();
        self.random.while_away(200);
        self.ledger.note_kill();
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(Signal::KILL.as_raw()), "it had ended by itself: {ended}");
    }

    fn start(&mut self) -> Engine {
        let engine = Engine::start(self.next_engine());
        self.load.engine_is_at(Some(&engine.url));
        engine
    }

    fn kill(&self, mut engine: Engine) {
        self.ledger.note_kill();
        engine.signal(Signal::KILL);
        self.load.engine_is_at(None);
        engine.is_ended_by(Signal::KILL);
    }

    /// After the last kill: lets everything come to its end and holds the promises against what there is then. Gives the project
    /// with its database, and what was answered.
    fn verify(mut self) -> (Place, Vec<Acknowledged>) {
        let mut engine = self.start();
        let acknowledged = self.load.finish();
        let database = self.place.path(".stepwell/stepwell.db");
        let since = verify::wait_until_all_has_ended(&database);
        // The clock goes on starting runs, which a drain lets come to the end of their step.
        engine.signal(Signal::TERM);
        assert_eq!(engine.exit_code(), 0, "a clean end after all");
        verify::verify(&database, &acknowledged, &self.ledger.entries(), &self.starts, since);
        (self.place, acknowledged)
    }
}

#[test]
fn an_engine_killed_a_hundred_times_keeps_every_promise() {
    let kills = std::env::var("STEPWELL_KILLS").map_or(KILLS, |kills| kills.parse().expect("STEPWELL_KILLS is a number"));
    let mut experiment = Experiment::new();
    for kill in 0..kills {
        let requests = 2 + experiment.random.below(5);
        experiment.load.more(requests);
        if experiment.random.below(KILLED_EARLY) == 0 {
            experiment.kill_early();
        } else {
            let engine = experiment.start();
            let effects = experiment.random.below(40) as usize;
            experiment.ledger.wait_for_more(effects);
            experiment.random.while_away(10);
            experiment.kill(engine);
        }
        if kill % 100 == 99 {
            println!("{} kills, {} requests answered", kill + 1, experiment.load.answered());
        }
    }
    experiment.verify();
}

/// A handler that takes all the memory that there is, and one that does no harm.
fn poison() -> Place {
    let place = Place::new();
    let config = "version: 1\nlimits: { memory: 4GB }\nevents: { work/eat: {}, work/plain: {} }\n\
        functions: { eat: { on: work/eat }, plain: { on: work/plain } }\n";
    place.write("events.yaml", config);
    place.write("handlers/eat.rhai", r#"step("eat", || { let all = "0123456789abcdef"; loop { all += all; } })"#);
    place.write("handlers/plain.rhai", r#"step("one", || 1)"#);
    place
}

/// The engine, given less memory than a run may use: an allocation that fails ends the process.
fn short_of_memory(place: &Place) -> Engine {
    let program = command(place);
    let mut shell = crate::program::command("sh", &place.path(""));
    shell.arg("-c").arg(r#"ulimit -v 800000; exec "$@""#).arg("sh").arg(program.get_program()).args(program.get_args());
    Engine::start(shell)
}

#[test]
fn a_run_that_crashes_the_engine_is_parked_and_the_engine_stays_up() {
    let place = poison();
    let mut engine = short_of_memory(&place);
    let sent = place.ask(&engine, &["send", "work/eat"]).exits(0);
    for crash in 1..=3 {
        assert_eq!(engine.exit_code(), -1, "a signal ends it");
        assert_eq!(place.read(".stepwell/stepwell.db.end"), "crashed\n", "crash {crash}");
        engine = short_of_memory(&place);
    }
    place.ask(&engine, &["send", "work/plain", "--wait"]).exits(0);
    let runs = place.ask(&engine, &["runs", "ls", "--event", sent.out.trim(), "--json"]).exits(0).json();
    let run = &runs[0];
    assert_eq!(run["state"], "parked", "{runs}");
    assert!(run["why"].as_str().unwrap().starts_with("crashed engine"), "{runs}");
    engine.signal(Signal::TERM);
    assert_eq!(engine.exit_code(), 0);
}

#[test]
fn a_kill_during_the_drain_is_told_from_one_without_a_word() {
    let place = poison();
    place.write("handlers/plain.rhai", r#"step("spin", || { while true { let n = 1; } })"#);
    let mut engine = Engine::start(command(&place));
    place.ask(&engine, &["send", "work/plain"]).exits(0);
    while !place.ask(&engine, &["runs", "ls"]).exits(0).out.contains("running") {}
    engine.signal(Signal::TERM);
    engine.line_with("SIGTERM: no new events");
    engine.signal(Signal::ABORT);
    assert_eq!(engine.exit_code(), -1);
    assert_eq!(place.read(".stepwell/stepwell.db.end"), "told to stop\n", "and a signal that somebody sent is no crash");
}
