//! Worlds of flow control: what is declared, and what happens from outside, drawn from a seed.

use std::fmt::Write as _;
use std::sync::Arc;

use stepwell::project::{Mode, Project};
use stepwell::script::Host;

use super::super::dice::Dice;

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

/// A function; its run sleeps once, for as long as its event says, and a little longer.
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
    /// How much longer its runs sleep than their event says, so that those of one event do not end at once.
    pub longer: Ms,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub name: usize,
    pub a: Option<i64>,
    pub b: Option<i64>,
    pub x: i64,
    /// Seconds of head start.
    pub p: i64,
    /// How long its runs sleep.
    pub sleeps: Ms,
    /// Its `ts`.
    pub ts: Option<Ms>,
    /// Its `id`.
    pub id: Option<i64>,
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
    let singleton = if dice.chance(30) { Some((dice.chance(50), key(dice))) } else { None };
    Function {
        on: if dice.chance(40) { vec![0, 1] } else { vec![dice.below(2)] },
        below: dice.chance(20).then(|| dice.between(20, 90)),
        idempotency: if dice.chance(25) { Some(*dice.pick(&[Field::A, Field::B])) } else { None },
        rate_limit,
        singleton,
        throttle,
        limits,
        priority: dice.chance(35),
        start_timeout: dice.chance(15).then(|| dice.between(5_000, 60_000)),
        longer: number * 7,
    }
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
        ts: dice.chance(10).then(|| now + dice.between(-9_000, 40_000)),
        id: dice.chance(15).then(|| dice.between(1, 3)),
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
            if let Some(timeout) = function.start_timeout {
                line(format!("    timeouts: {{ start: {timeout}ms }}"));
            }
        }
        yaml
    }

    /// What is declared, loaded.
    pub fn load(&self, host: &Arc<Host>) -> Arc<Project> {
        let folder = tempfile::tempdir().expect("a folder for the project");
        std::fs::create_dir(folder.path().join("handlers")).expect("a folder for the handler");
        std::fs::write(folder.path().join("events.yaml"), self.yaml()).expect("the project's file");
        for (number, function) in self.functions.iter().enumerate() {
            let script = format!("sleep(\"w\", (event.data.sleeps + {}) + \"ms\"); 1", function.longer);
            std::fs::write(folder.path().join(format!("handlers/f{number}.rhai")), script).expect("the handler");
        }
        match Project::load(&folder.path().join("events.yaml"), host, &|_| None, Mode::Run) {
            Ok((project, _)) => Arc::new(project),
            Err(problems) => panic!("{}\n{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), self.yaml()),
        }
    }
}
