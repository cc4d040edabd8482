//! What happens in one world: its project, its events and its faults, all drawn from the seed before anything runs.
//!
//! A world is a function of its plan, so a plan may also be made smaller, and one part of it taken away.

use std::fmt::Write;

use serde_json::{Value, json};
use stepwell::rules::{Ending, Hold};

use super::dice::Dice;
use super::print;
use super::program::{self, Program, Taste};
use super::sabotage::Sabotage;

/// All of one world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub functions: Vec<Function>,
    /// How many event names there are: `thing/0` and so on.
    pub events: usize,
    pub requests: Vec<Request>,
    pub cancels: Vec<Cancel>,
    pub disk: DiskPlan,
    /// How each engine but the last one ends.
    pub deaths: Vec<Death>,
    /// For what the world itself draws while it runs.
    pub dice: Dice,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

/// A function of the project.
#[derive(Debug, Clone)]
pub struct Function {
    pub id: String,
    pub on: Vec<Trigger>,
    pub attempts: u32,
    pub backoff: Backoff,
    pub limits: Vec<Limit>,
    /// Whether `event.data.once` is its idempotency key.
    pub once: bool,
    /// `timeouts.start` and `timeouts.finish` in seconds.
    pub start: Option<i64>,
    pub finish: Option<i64>,
    pub program: Program,
}

#[derive(Debug, Clone)]
pub struct Trigger {
    pub event: usize,
    /// Only for an `n` below this.
    pub below: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub enum Backoff {
    Table,
    Fixed { seconds: i64 },
    Linear { seconds: i64, max: i64 },
    Exponential { seconds: i64, max: i64 },
}

#[derive(Debug, Clone)]
pub struct Limit {
    pub limit: u32,
    /// The field of the data that is the key.
    pub key: Option<&'static str>,
    pub hold: Hold,
    pub shared: Option<String>,
}

/// One call of the client: some events, sent together, and again.
#[derive(Debug, Clone)]
pub struct Request {
    pub at_ms: i64,
    pub events: Vec<Event>,
    /// Without ids nobody may send it twice.
    pub has_ids: bool,
    /// When it is sent once more, after the first time.
    pub again_ms: Vec<i64>,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub name: usize,
    pub data: Value,
    /// How far its time lies in the future.
    pub later_ms: Option<i64>,
}

/// Somebody cancels a run.
#[derive(Debug, Clone, Copy)]
pub struct Cancel {
    pub at_ms: i64,
    /// The run's number by creation, modulo the runs there are.
    pub run: usize,
}

/// How the disk behaves.
#[derive(Debug, Clone)]
pub struct DiskPlan {
    pub flush_ms: i64,
    /// Percent of flushes that take `slow_ms`.
    pub slow: u64,
    pub slow_ms: i64,
    /// Percent of flushes that begin a time in which the disk is full.
    pub full: u64,
    /// At most so many commits in one transaction.
    pub batch: i64,
    pub dice: Dice,
}

/// How an engine ends, and how long it takes until the next one starts.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub way: Way,
    /// What the next engine can tell of it.
    pub end: Ending,
    pub down_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In the engine's n-th flush.
    Flush { number: u64, moment: Moment },
    /// When the n-th effect of this engine begins, or has just happened.
    Effect { number: u64, after: bool },
    /// After so much time.
    Time { ms: i64 },
    /// It is told to stop, and given all the time it needs.
    Drain { ms: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of the flush is on disk.
    Before,
    /// All of it is, and nobody knows.
    After,
    /// All of it is, and some know.
    Answered,
    /// The disk fails, and from now on every flush does; this one may be on disk all the same.
    Failed { applied: bool },
}

const KEYS: [&str; 2] = ["a", "b"];

impl Plan {
    /// Draws a world.
    pub fn random(seed: u64) -> Plan {
        let mut dice = Dice::new(seed);
        let events = dice.between(1, 3) as usize;
        let taste = Taste {
            length: dice.between(2, 9),
            breaking: *dice.pick(&[0, 20, 50]),
            slow: *dice.pick(&[0, 20, 70]),
            sleep: *dice.pick(&[5, 90, 3_600]),
            sleepy: *dice.pick(&[0, 10, 30]),
        };
        let shared = Limit { limit: dice.between(1, 2) as u32, key: None, hold: hold(&mut dice), shared: Some("pool".to_owned()) };
        let count = dice.between(1, 4);
        let functions = (0..count).map(|number| function(&mut dice, number, events, &taste, &shared)).collect();
        let requests = requests(&mut dice, events);
        let cancels = if dice.chance(30) { (0..dice.between(1, 4)).map(|_| cancel(&mut dice)).collect() } else { Vec::new() };
        let disk = DiskPlan {
            flush_ms: *dice.pick(&[0, 2, 10, 200]),
            slow: *dice.pick(&[0, 0, 5]),
            slow_ms: 30_000,
            full: *dice.pick(&[0, 0, 2]),
            batch: *dice.pick(&[1, 3, 1_000]),
            dice: dice.fork(2),
        };
        let mut deaths: Vec<Death> = (0..dice.between(0, 6)).map(|_| death(&mut dice)).collect();
        if dice.chance(5) {
            // As if a run were poison: each engine dies as soon as it does anything.
            deaths = vec![Death { way: Way::Effect { number: 0, after: true }, end: Ending::Crashed, down_ms: 1 }; 4];
        }
        Plan { functions, events, requests, cancels, disk, deaths, dice: dice.fork(1), sabotage: None }
    }

    /// The project's events.yaml.
    pub fn yaml(&self) -> String {
        let mut text = "version: 1\napp: world\nevents:\n".to_owned();
        for event in 0..self.events {
            let _ = writeln!(text, "  thing/{event}: {{}}");
        }
        text.push_str("functions:\n");
        for function in &self.functions {
            function.write(&mut text, u32::from(self.sabotage == Some(Sabotage::WideLimits)));
        }
        text
    }
}

impl Function {
    fn write(&self, text: &mut String, wider: u32) {
        let on: Vec<String> = self.on.iter().map(Trigger::yaml).collect();
        let limits: Vec<String> = self.limits.iter().map(|limit| limit.yaml(wider)).collect();
        let backoff = match self.backoff {
            Backoff::Table => "backoff: table".to_owned(),
            Backoff::Fixed { seconds } => format!("backoff: fixed, initial: {seconds}s, jitter: 0"),
            Backoff::Linear { seconds, max } => format!("backoff: linear, initial: {seconds}s, max: {max}s, jitter: 0"),
            Backoff::Exponential { seconds, max } => format!("backoff: exponential, initial: {seconds}s, max: {max}s, jitter: 0"),
        };
        let retries = match self.backoff {
            Backoff::Table => format!("{}", self.attempts - 1),
            _ => format!("{{ attempts: {}, {backoff} }}", self.attempts),
        };
        let _ = writeln!(text, "  {}:\n    on: [{}]\n    handler: handlers/{}.rhai", self.id, on.join(", "), self.id);
        let limit = |name: &str, seconds: Option<i64>| seconds.map(|seconds| format!(", {name}: {seconds}s")).unwrap_or_default();
        let timeouts = format!("step: 1h{}{}", limit("start", self.start), limit("finish", self.finish));
        let _ = writeln!(text, "    retries: {retries}\n    timeouts: {{ {timeouts} }}");
        if self.once {
            text.push_str("    idempotency: event.data.once\n");
        }
        if !limits.is_empty() {
            let _ = writeln!(text, "    concurrency: [{}]", limits.join(", "));
        }
    }

    /// Whether an event starts it.
    pub fn starts_on(&self, event: &Event) -> bool {
        let n = event.data["n"].as_i64().unwrap_or_default();
        self.on.iter().any(|trigger| trigger.event == event.name && trigger.below.is_none_or(|below| n < below))
    }

    /// The wait after a failed attempt: at least and at most, in milliseconds.
    pub fn wait(&self, attempt: u32) -> (i64, i64) {
        let nth = i64::from(attempt);
        let exact = |seconds: i64| (seconds * 1_000, seconds * 1_000);
        match self.backoff {
            Backoff::Table => {
                let table = [15, 30, 60, 120, 300, 600, 1_200, 2_400, 3_600, 7_200];
                let seconds = table[(attempt as usize - 1).min(table.len() - 1)];
                (seconds * 1_000, (seconds + 30) * 1_000)
            }
            Backoff::Fixed { seconds } => exact(seconds),
            Backoff::Linear { seconds, max } => exact((seconds * nth).min(max)),
            Backoff::Exponential { seconds, max } => exact((seconds << (nth - 1)).min(max)),
        }
    }

    /// The value of its idempotency key for an event; none where it does not apply.
    pub fn once(&self, event: &Event) -> Option<String> {
        event.data.get("once").filter(|_| self.once).map(Value::to_string)
    }

    pub fn script(&self) -> String {
        print::script(&self.program)
    }
}

impl Trigger {
    fn yaml(&self) -> String {
        match self.below {
            None => format!("thing/{}", self.event),
            Some(below) => format!("{{ event: thing/{}, if: \"event.data.n < {below}\" }}", self.event),
        }
    }
}

impl Limit {
    fn yaml(&self, wider: u32) -> String {
        let key = self.key.map(|key| format!(", key: event.data.{key}")).unwrap_or_default();
        let hold = if self.hold == Hold::Active { ", hold: active" } else { "" };
        let shared = self.shared.as_ref().map(|name| format!(", shared: {name}")).unwrap_or_default();
        format!("{{ limit: {}{key}{hold}{shared} }}", self.limit + wider)
    }

    /// The value of its key for an event, as it is stored.
    pub fn value(&self, data: &Value) -> String {
        self.key.and_then(|key| data.get(key)).map_or_else(|| "null".to_owned(), Value::to_string)
    }
}

fn hold(dice: &mut Dice) -> Hold {
    if dice.chance(50) { Hold::Active } else { Hold::Run }
}

fn function(dice: &mut Dice, number: i64, events: usize, taste: &Taste, shared: &Limit) -> Function {
    let below = dice.chance(30).then(|| dice.between(20, 90));
    let mut on = vec![Trigger { event: dice.below(events), below }];
    if events > 1 && dice.chance(30) {
        let other = (on[0].event + 1) % events;
        on.push(Trigger { event: other, below: None });
    }
    let attempts = dice.between(1, 5) as u32;
    let seconds = dice.between(1, 100);
    let backoff = match dice.below(4) {
        0 => Backoff::Table,
        1 => Backoff::Fixed { seconds },
        2 => Backoff::Linear { seconds, max: seconds * 3 },
        _ => Backoff::Exponential { seconds, max: seconds * 5 },
    };
    let mut limits = Vec::new();
    if dice.chance(70) {
        let key = dice.chance(70).then(|| *dice.pick(&KEYS));
        limits.push(Limit { limit: dice.between(1, 3) as u32, key, hold: hold(dice), shared: None });
    }
    if dice.chance(30) {
        let key = dice.chance(50).then(|| *dice.pick(&KEYS));
        limits.push(Limit { limit: dice.between(1, 3) as u32, key, hold: hold(dice), shared: None });
    } else if dice.chance(40) {
        let key = dice.chance(50).then(|| *dice.pick(&KEYS));
        limits.push(Limit { key, ..shared.clone() });
    }
    let once = dice.chance(20);
    let start = dice.chance(10).then(|| dice.between(1, 600));
    let finish = dice.chance(10).then(|| dice.between(1, 3_600));
    let program = program::random(dice, taste, attempts);
    Function { id: format!("f{number}"), on, attempts, backoff, limits, once, start, finish, program }
}

fn requests(dice: &mut Dice, events: usize) -> Vec<Request> {
    let spread = *dice.pick(&[100, 10_000, 600_000]);
    (0..dice.between(1, 12))
        .map(|_| {
            let together = if dice.chance(20) { dice.between(2, 4) } else { 1 };
            let has_ids = dice.chance(80);
            let again = if has_ids && dice.chance(25) { dice.between(1, 2) } else { 0 };
            Request {
                at_ms: dice.between(0, spread),
                events: (0..together).map(|_| event(dice, events)).collect(),
                has_ids,
                again_ms: (0..again).map(|_| *dice.pick(&[0, 1, 5_000, 3_600_000])).collect(),
            }
        })
        .collect()
}

fn event(dice: &mut Dice, events: usize) -> Event {
    let mut data = json!({ "n": dice.between(0, 99), "b": dice.between(0, 1) });
    if dice.chance(85) {
        data["a"] = json!(dice.between(0, 2));
    }
    if dice.chance(50) {
        data["once"] = json!(dice.between(0, 3));
    }
    let later_ms = dice.chance(15).then(|| *dice.pick(&[1, 2_000, 120_000]));
    Event { name: dice.below(events), data, later_ms }
}

fn cancel(dice: &mut Dice) -> Cancel {
    Cancel { at_ms: dice.between(0, 120_000), run: dice.below(100) }
}

fn death(dice: &mut Dice) -> Death {
    let way = match dice.below(10) {
        0..=4 => {
            let failed = Moment::Failed { applied: dice.chance(50) };
            let moment = *dice.pick(&[Moment::Before, Moment::After, Moment::Answered, failed]);
            Way::Flush { number: dice.between(0, 25) as u64, moment }
        }
        5 | 6 => Way::Effect { number: dice.between(0, 10) as u64, after: dice.chance(50) },
        7 => Way::Time { ms: *dice.pick(&[1, 1_000, 60_000]) },
        _ => Way::Drain { ms: *dice.pick(&[1, 1_000, 60_000]) },
    };
    let down_ms = *dice.pick(&[0, 1, 1_000, 600_000]);
    // Of one that crashed a supervisor starts the next at once.
    Death { way, end: if down_ms <= 1 { Ending::Crashed } else { Ending::Killed }, down_ms }
}
