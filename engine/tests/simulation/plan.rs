//! What happens in one world: its project, its events and its faults, all drawn from the seed before anything runs.
//!
//! A world is a function of its plan, so a plan may also be made smaller, and one part of it taken away.

pub mod gates;

use std::fmt::Write;

use serde_json::Value;
use stepwell::rules::{Ending, Hold, ended};

use super::dice::Dice;
use super::print;
use super::program::Program;
use super::sabotage::Sabotage;
use super::sites::Site;
pub use gates::{Collect, Cron, Gates};

/// All of one world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub functions: Vec<Function>,
    /// How many event names there are: `thing/0` and so on.
    pub events: usize,
    pub requests: Vec<Request>,
    pub cancels: Vec<Cancel>,
    pub signals: Vec<Signal>,
    pub pauses: Vec<Pause>,
    /// Runs that back off are tried again at once.
    pub retries: Vec<Cancel>,
    /// Runs that have ended are done again.
    pub replays: Vec<Cancel>,
    /// Runs that are suspended are taken to the newest version of their handlers.
    pub migrates: Vec<Cancel>,
    /// Functions are invoked from outside.
    pub calls: Vec<Call>,
    /// The project is edited while an engine lives, and reloaded.
    pub reloads: Vec<Reload>,
    pub disk: DiskPlan,
    pub wakes: WakePlan,
    /// How each engine but the last one ends.
    pub deaths: Vec<Death>,
    /// When somebody sets the machine's clock.
    pub jumps: Vec<Jump>,
    /// How many seconds ended runs and events are kept; for ever where there is none.
    pub kept: Option<i64>,
    /// For what the world itself draws while it runs.
    pub dice: Dice,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

/// A function of the project, or the script for the failures of another one, which its id says.
#[derive(Debug, Clone)]
pub struct Function {
    pub id: String,
    pub on: Vec<Trigger>,
    pub attempts: u32,
    pub backoff: Backoff,
    pub limits: Vec<Limit>,
    /// The edition of the project from which on its own limits let so many in.
    pub limits_from: Option<(usize, u32)>,
    /// Whether `event.data.once` is its idempotency key.
    pub once: bool,
    pub gates: Gates,
    /// `timeouts.start` and `timeouts.finish` in seconds.
    pub start: Option<i64>,
    pub finish: Option<i64>,
    /// Its handler, first as it was and then as it was edited, time after time.
    pub versions: Vec<Program>,
    /// The edition of the project from which on it is not declared any more.
    pub gone_from: Option<usize>,
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

/// Somebody sends a signal.
#[derive(Debug, Clone, Copy)]
pub struct Signal {
    pub at_ms: i64,
    pub number: usize,
    pub value: i64,
}

/// Somebody pauses a function, and resumes it.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    pub at_ms: i64,
    pub function: usize,
    pub for_ms: i64,
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
    /// Percent of commits that the engine hears of only some time after they are on disk, and in any order.
    pub late: u64,
    pub late_ms: i64,
    pub dice: Dice,
}

/// How timers go off.
#[derive(Debug, Clone)]
pub struct WakePlan {
    /// Percent of timers that go off too late.
    pub late: u64,
    pub late_ms: i64,
}

/// Somebody sets the machine's clock while an engine lives.
#[derive(Debug, Clone, Copy)]
pub struct Jump {
    pub at_ms: i64,
    pub by_ms: i64,
}

/// Somebody invokes a function from outside.
#[derive(Debug, Clone)]
pub struct Call {
    pub at_ms: i64,
    pub function: usize,
    pub data: Value,
}

/// Somebody edits the project's files, and the engine reloads them.
#[derive(Debug, Clone, Copy)]
pub struct Reload {
    pub at_ms: i64,
}

/// How an engine ends, and how long it takes until the next one starts.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub way: Way,
    /// What the next engine can tell of it.
    pub end: Ending,
    pub down_ms: i64,
    /// How far the machine's clock is set meanwhile.
    pub jump_ms: i64,
    /// Whether the next engine has the next edition of the project.
    pub edited: bool,
    /// Whether the machine loses its power with it: then what was written without a flush may be lost.
    pub power: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In the engine's n-th flush.
    Flush { number: u64, moment: Moment },
    /// In the flush with the engine's n-th commit of this kind, maybe while it drains.
    Site { site: Site, number: u64, moment: Moment, drain_ms: Option<i64> },
    /// At the engine's n-th read, which fails as everything after it does: it has to stop by itself.
    Read { number: u64 },
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

impl Plan {
    /// The project's events.yaml in one of its editions.
    pub fn yaml(&self, edition: usize) -> String {
        let mut text = "version: 1\napp: world\n".to_owned();
        if let Some(seconds) = self.kept {
            let _ = writeln!(text, "retention: {{ completed: {seconds}s, failed: {seconds}s, cancelled: {seconds}s, events: {seconds}s }}");
        }
        text.push_str("events:\n");
        for event in 0..self.events {
            let _ = writeln!(text, "  thing/{event}: {{}}");
        }
        text.push_str("functions:\n");
        for (number, function) in self.functions.iter().enumerate() {
            if ended::failing_function(&function.id).is_some() || !function.is_there(edition) {
                continue;
            }
            function.write(&mut text, edition, self.sabotage);
            if let Some(script) = self.script_for(number) {
                let _ = writeln!(text, "    on_failure: handlers/{}.rhai", self.functions[script].id);
            }
        }
        text
    }

    /// The script that is told of the failures of a function.
    pub fn script_for(&self, function: usize) -> Option<usize> {
        let script = ended::on_failure_of(&self.functions[function].id);
        self.functions.iter().position(|function| function.id == script)
    }

    /// Its statements, and everything else that may be left out of it.
    pub fn size(&self) -> usize {
        let statements: usize = self.functions.iter().flat_map(|function| &function.versions).map(Program::size).sum();
        let sent: usize = self.requests.iter().map(|request| request.events.len() + request.again_ms.len()).sum();
        statements
            + self.functions.len()
            + sent
            + self.cancels.len()
            + self.signals.len()
            + self.pauses.len()
            + self.retries.len()
            + self.replays.len()
            + self.migrates.len()
            + self.calls.len()
            + self.reloads.len()
            + self.deaths.len()
            + self.jumps.len()
    }
}

impl Function {
    fn write(&self, text: &mut String, edition: usize, sabotage: Option<Sabotage>) {
        let wider = u32::from(sabotage == Some(Sabotage::WideLimits));
        let on: Vec<String> = self.on.iter().map(Trigger::yaml).collect();
        let limits: Vec<String> = self.limits.iter().map(|limit| limit.yaml(self.limit_in(limit, edition) + wider)).collect();
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
        let on = if on.is_empty() { String::new() } else { format!("    on: [{}]\n", on.join(", ")) };
        let _ = writeln!(text, "  {}:\n{on}    handler: handlers/{}.rhai", self.id, self.id);
        self.gates.write(text, edition, i64::from(sabotage == Some(Sabotage::WideThrottles)));
        let limit = |name: &str, seconds: Option<i64>| seconds.map(|seconds| format!(", {name}: {seconds}s")).unwrap_or_default();
        let timeouts = format!("step: 900d{}{}", limit("start", self.start), limit("finish", self.finish));
        let _ = writeln!(text, "    retries: {retries}\n    timeouts: {{ {timeouts} }}");
        if self.once {
            text.push_str("    idempotency: event.data.once\n");
        }
        if !limits.is_empty() {
            let _ = writeln!(text, "    concurrency: [{}]", limits.join(", "));
        }
    }

    /// Whether an edition of the project declares it.
    pub fn is_there(&self, edition: usize) -> bool {
        self.gone_from.is_none_or(|from| edition < from)
    }

    /// How many runs one of its limits lets in at a time in an edition of the project.
    pub fn limit_in(&self, limit: &Limit, edition: usize) -> u32 {
        self.limits_from.filter(|(from, _)| *from <= edition && limit.shared.is_none()).map_or(limit.limit, |(_, other)| other)
    }

    /// The number of its handler's version in an edition of the project.
    pub fn version_in(&self, edition: usize) -> usize {
        edition.min(self.versions.len() - 1)
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

    /// Its handler's text in an edition of the project.
    pub fn script(&self, edition: usize) -> String {
        print::script(&self.versions[self.version_in(edition)])
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
    fn yaml(&self, limit: u32) -> String {
        let key = self.key.map(|key| format!(", key: event.data.{key}")).unwrap_or_default();
        let hold = if self.hold == Hold::Active { ", hold: active" } else { "" };
        let shared = self.shared.as_ref().map(|name| format!(", shared: {name}")).unwrap_or_default();
        format!("{{ limit: {limit}{key}{hold}{shared} }}")
    }

    /// The value of its key for an event, as it is stored.
    pub fn value(&self, data: &Value) -> String {
        self.key.and_then(|key| data.get(key)).map_or_else(|| "null".to_owned(), Value::to_string)
    }
}
