//! Worlds of flow control: what is declared, and what happens from outside, drawn from a seed.

use std::fmt::Write as _;
use std::sync::Arc;

use stepwell::project::{Mode, Project};
use stepwell::script::Host;

use super::super::dice::Dice;
use super::End;

/// Milliseconds since the world began.
pub type Ms = i64;

/// A field of the events that options take as their key; none where an option has no key.
pub type Key = Option<Field>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    A,
    B,
}

#[derive(Debug, Clone)]
pub struct Limit {
    pub limit: usize,
    pub key: Key,
    /// `hold: run`; no time passes while a run is active, so that `hold: active` never keeps another one waiting.
    pub holds: bool,
    pub shared: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub limit: i64,
    pub period: Ms,
    pub key: Key,
}

/// `debounce`, or with a size `batch`, where `quiet` is its time-out as well.
#[derive(Debug, Clone, Copy)]
pub struct Collect {
    pub size: Option<usize>,
    pub quiet: Ms,
    pub timeout: Ms,
    pub key: Key,
    /// `if: event.data.x < …` of a batch.
    pub below: Option<i64>,
}

/// The number from which on events of the clock are counted, by their time.
pub const OF_CLOCK: usize = 1_000_000;
/// The clock starts nothing later than this.
const LAST_TICK: Ms = 119_000;

/// A function; its run sleeps once, for as long as its event says, and a little longer; then it fails as often as its event says.
#[derive(Debug, Clone, Default)]
pub struct Function {
    /// The names of the events that start it.
    pub on: Vec<usize>,
    /// `if: event.data.x < …`
    pub below: Option<i64>,
    pub idempotency: Key,
    pub rate_limit: Option<Rate>,
    /// With `mode: cancel`, or `skip`.
    pub singleton: Option<(bool, Key)>,
    /// With the burst.
    pub throttle: Option<(Rate, i64)>,
    pub limits: Vec<Limit>,
    /// `priority: event.data.p`
    pub priority: bool,
    pub start_timeout: Option<Ms>,
    pub finish_timeout: Option<Ms>,
    pub collect: Option<Collect>,
    /// Starts by the clock: the seconds between two of them, in each of the first two minutes.
    pub cron: Option<Ms>,
    /// Attempts, and the time between them.
    pub retries: (i64, Ms),
    pub on_failure: bool,
    /// The name of an event that cancels the runs whose own event has the same `a`.
    pub cancel_on: Option<usize>,
    /// How much longer its runs sleep than their event says, so that those of one event do not end at once.
    pub longer: Ms,
}

impl Rate {
    /// Microseconds from one start to the next.
    pub fn interval_us(self) -> i64 {
        let period = self.period * 1_000;
        period / self.limit + i64::from(period % self.limit > 0)
    }
}

impl Collect {
    /// Whether an event is collected, and does not start a run at once. One of the clock has no `x`, so that `if` fails.
    pub fn takes(&self, event: &Event) -> bool {
        match self.size {
            Some(_) => self.below.is_none_or(|below| !event.of_clock && event.x < below),
            None => event.value(self.key).is_some(),
        }
    }
}

impl Function {
    /// When the clock starts it next.
    pub fn next_tick(&self, after: Ms) -> Option<Ms> {
        let seconds = self.cron?;
        (1..=LAST_TICK / 1_000).filter(|at| at % 60 % seconds == 0).map(|at| at * 1_000).find(|at| *at > after)
    }

    /// How long a run with this event takes from its start, and what it comes to.
    pub fn takes(&self, event: &Event) -> (Ms, End) {
        let (attempts, wait) = self.retries;
        let end = if event.fails < attempts { End::Completed } else { End::Failed };
        (event.sleeps + self.longer + event.fails.min(attempts - 1) * wait, end)
    }
}

/// An event; one of the clock is nothing but null.
#[derive(Debug, Clone, Default)]
pub struct Event {
    pub name: usize,
    pub a: Option<i64>,
    pub b: Option<i64>,
    pub x: i64,
    /// Seconds of head start.
    pub p: i64,
    /// How long its runs sleep.
    pub sleeps: Ms,
    /// How often they fail then.
    pub fails: i64,
    /// Its `ts`.
    pub ts: Option<Ms>,
    /// Its `id`.
    pub id: Option<i64>,
    /// The clock has made it.
    pub of_clock: bool,
}

impl Event {
    /// The value of a key: `Some(None)` where there is no key, none where it is null.
    pub fn value(&self, key: Key) -> Option<Option<i64>> {
        match key {
            None => Some(None),
            Some(Field::A) => self.a.map(Some),
            Some(Field::B) => self.b.map(Some),
        }
    }
}

/// What is done to the world from outside, and when.
#[derive(Debug, Clone)]
pub enum Act {
    /// These events come in one request.
    Send(Vec<Event>),
    /// The run of this event (counted over all requests) and function is cancelled.
    Cancel(usize, usize),
    /// The engine is killed and starts again, which changes nothing.
    Kill,
}

/// A world: what is declared, and what happens from outside.
pub struct World {
    /// By number.
    pub functions: Vec<Function>,
    /// In order of time.
    pub acts: Vec<(Ms, Act)>,
}

fn key(dice: &mut Dice) -> Key {
    *dice.pick(&[None, Some(Field::A), Some(Field::B)])
}

fn rate(dice: &mut Dice, most: i64) -> Rate {
    Rate { limit: dice.between(1, most), period: dice.between(500, 60_000), key: key(dice) }
}

fn function(dice: &mut Dice, number: i64) -> Function {
    let limit = |dice: &mut Dice| Limit { limit: dice.between(1, 3) as usize, key: key(dice), holds: dice.chance(80), shared: false };
    let mut limits: Vec<Limit> = (0..*dice.pick(&[0, 0, 1, 1, 2])).map(|_| limit(dice)).collect();
    if dice.chance(25) {
        limits.truncate(1);
        limits.push(Limit { limit: 2, key: Some(Field::A), holds: true, shared: true });
    }
    let throttle = if dice.chance(40) { Some((rate(dice, 5), dice.between(0, 2))) } else { None };
    let rate_limit = if dice.chance(35) { Some(rate(dice, 4)) } else { None };
    let collect = dice.chance(35).then(|| {
        let (size, quiet, key) = (dice.chance(50).then(|| dice.between(2, 4) as usize), dice.between(500, 15_000), key(dice));
        let timeout = if size.is_some() || dice.chance(50) { quiet } else { quiet + dice.between(0, 20_000) };
        let below = dice.chance(40).then(|| dice.between(20, 90));
        Collect { size, quiet, timeout, key, below }
    });
    let batch = collect.filter(|collect| collect.size.is_some());
    let singleton = if collect.is_none() && dice.chance(30) { Some((dice.chance(50), key(dice))) } else { None };
    let mut function = Function {
        on: if dice.chance(40) { vec![0, 1] } else { vec![dice.below(2)] },
        below: dice.chance(20).then(|| dice.between(20, 90)),
        idempotency: if dice.chance(25) { Some(*dice.pick(&[Field::A, Field::B])) } else { None },
        rate_limit,
        singleton,
        throttle,
        limits,
        priority: dice.chance(35),
        start_timeout: dice.chance(15).then(|| dice.between(5_000, 60_000)),
        finish_timeout: dice.chance(15).then(|| dice.between(5_000, 60_000)),
        collect,
        cron: dice.chance(20).then(|| dice.between(7, 29)),
        retries: *dice.pick(&[(1, 0), (1, 0), (2, 3_217), (3, 1_511)]),
        on_failure: dice.chance(30),
        cancel_on: dice.chance(15).then(|| dice.below(2)),
        longer: number * 7,
    };
    if let Some(batch) = batch {
        // What goes with a batch: no other keys than its own, and none of these.
        function.limits.retain(|limit| !limit.shared || batch.key == limit.key);
        function.limits.iter_mut().filter(|limit| limit.key.is_some()).for_each(|limit| limit.key = batch.key);
        if let Some((rate, _)) = &mut function.throttle {
            rate.key = rate.key.and(batch.key);
        }
        (function.idempotency, function.priority, function.cancel_on) = (None, false, None);
    }
    function
}

fn event(dice: &mut Dice, now: Ms) -> Event {
    let value = |dice: &mut Dice| if dice.chance(10) { None } else { Some(dice.between(1, 4)) };
    Event {
        name: dice.below(2),
        a: value(dice),
        b: value(dice),
        x: dice.between(0, 99),
        p: if dice.chance(50) { 0 } else { dice.between(-700, 700) },
        sleeps: dice.between(1, 40_000),
        fails: *dice.pick(&[0, 0, 0, 1, 2, 3]),
        ts: dice.chance(10).then(|| now + dice.between(-9_000, 40_000)),
        id: dice.chance(15).then(|| dice.between(1, 3)),
        of_clock: false,
    }
}

/// The world of a seed.
pub fn world(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let functions: Vec<Function> = (0..dice.between(1, 3)).map(|number| function(&mut dice, number)).collect();
    let (mut now, mut sent) = (0, 0);
    let mut acts = Vec::new();
    for _ in 0..dice.between(5, 45) {
        now += dice.between(1, 6_000);
        let act = match dice.below(20) {
            0 if sent > 0 => Act::Cancel(dice.below(sent), dice.below(functions.len())),
            1 => Act::Kill,
            2 => Act::Send((0..dice.between(2, 5)).map(|_| event(&mut dice, now)).collect()),
            _ => Act::Send(vec![event(&mut dice, now)]),
        };
        if let Act::Send(events) = &act {
            sent += events.len();
        }
        acts.push((now, act));
    }
    World { functions, acts }
}

fn key_yaml(key: Key) -> String {
    match key {
        None => String::new(),
        Some(Field::A) => ", key: event.data.a".to_owned(),
        Some(Field::B) => ", key: event.data.b".to_owned(),
    }
}

impl World {
    /// What is declared.
    pub fn yaml(&self) -> String {
        let mut yaml = "version: 1\nevents: { e/0: {}, e/1: {} }\nfunctions:\n".to_owned();
        let mut line = |text: String| writeln!(yaml, "{text}").expect("a text takes all");
        for (number, function) in self.functions.iter().enumerate() {
            let condition = function.below.map(|below| format!(", if: \"event.data.x < {below}\"")).unwrap_or_default();
            let on: Vec<String> = function.on.iter().map(|name| format!("{{ event: e/{name}{condition} }}")).collect();
            line(format!("  f{number}:\n    on: [{}]", on.join(", ")));
            if let Some(field) = function.idempotency {
                line(format!("    idempotency: event.data.{}", if field == Field::A { "a" } else { "b" }));
            }
            let rate = |rate: Rate| format!("limit: {}, period: {}ms{}", rate.limit, rate.period, key_yaml(rate.key));
            if let Some(limit) = function.rate_limit {
                line(format!("    rate_limit: {{ {} }}", rate(limit)));
            }
            if let Some((throttle, burst)) = function.throttle {
                line(format!("    throttle: {{ {}, burst: {burst} }}", rate(throttle)));
            }
            if let Some((cancels, key)) = function.singleton {
                line(format!("    singleton: {{ mode: {}{} }}", if cancels { "cancel" } else { "skip" }, key_yaml(key)));
            }
            let limit = |limit: &Limit| {
                let (hold, shared) = (if limit.holds { "run" } else { "active" }, if limit.shared { ", shared: s" } else { "" });
                format!("{{ limit: {}{}, hold: {hold}{shared} }}", limit.limit, key_yaml(limit.key))
            };
            if !function.limits.is_empty() {
                line(format!("    concurrency: [{}]", function.limits.iter().map(limit).collect::<Vec<_>>().join(", ")));
            }
            if function.priority {
                line("    priority: event.data.p".to_owned());
            }
            let timeouts = [("start", function.start_timeout), ("finish", function.finish_timeout)];
            let timeouts: Vec<String> = timeouts.iter().filter_map(|(name, at)| Some(format!("{name}: {}ms", (*at)?))).collect();
            line(format!("    timeouts: {{ {} }}", timeouts.join(", ")));
            let (attempts, wait) = function.retries;
            line(match attempts {
                1 => "    retries: 0".to_owned(),
                _ => format!("    retries: {{ attempts: {attempts}, backoff: fixed, initial: {wait}ms, jitter: 0 }}"),
            });
            if let Some(Collect { size, quiet, timeout, key, below }) = function.collect {
                let takes = below.map(|below| format!(", if: \"event.data.x < {below}\"")).unwrap_or_default();
                line(match size {
                    Some(size) => format!("    batch: {{ size: {size}, timeout: {timeout}ms{}{takes} }}", key_yaml(key)),
                    None => format!("    debounce: {{ period: {quiet}ms, timeout: {timeout}ms{} }}", key_yaml(key)),
                });
            }
            if let Some(seconds) = function.cron {
                line(format!("    cron: \"*/{seconds} 0-1 0 1 1 *\""));
            }
            if function.on_failure {
                line("    on_failure: handlers/failed.rhai".to_owned());
            }
            if let Some(name) = function.cancel_on {
                line(format!("    cancel_on: {{ event: e/{name}, if: \"async.data.a == event.data.a\" }}"));
            }
        }
        yaml
    }

    /// What is declared, loaded.
    pub fn load(&self, host: &Arc<Host>) -> Arc<Project> {
        let folder = tempfile::tempdir().expect("a folder for the project");
        std::fs::create_dir(folder.path().join("handlers")).expect("a folder for the handler");
        std::fs::write(folder.path().join("events.yaml"), self.yaml()).expect("the project's file");
        std::fs::write(folder.path().join("handlers/failed.rhai"), "run.id").expect("the script for failures");
        for (number, function) in self.functions.iter().enumerate() {
            let script = format!(
                "let data = event.data; let sleeps = if \"sleeps\" in data {{ data.sleeps }} else {{ 0 }};
                 if sleeps + {0} > 0 {{ sleep(\"w\", (sleeps + {0}) + \"ms\"); }}
                 if \"fails\" in data && run.attempt <= data.fails {{ throw \"no\" }} 1",
                function.longer
            );
            std::fs::write(folder.path().join(format!("handlers/f{number}.rhai")), script).expect("the handler");
        }
        match Project::load(&folder.path().join("events.yaml"), host, &|_| None, Mode::Run) {
            Ok((project, _)) => Arc::new(project),
            Err(problems) => panic!("{}\n{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), self.yaml()),
        }
    }
}
