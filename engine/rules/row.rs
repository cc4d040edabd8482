//! What is stored: events, runs, the records of a run's journal, its failed attempts and its log.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{EventId, Json, Millis, RunId};

use super::gates::GateKeys;

/// An accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Made by the engine.
    pub id: EventId,
    /// The declared name.
    pub name: Arc<str>,
    /// Its `data`, as sent: a JSON object.
    pub data: Json,
    /// The sender's `id`, if it gave one.
    pub sender_id: Option<Arc<str>>,
    /// The sender's time; may lie in the future, then the runs start then.
    pub ts: Millis,
    /// When it was accepted.
    pub accepted: Millis,
    /// The sender's `user` and `v`, as a JSON object, if it gave any.
    pub extra: Option<Json>,
}

/// The state of a run; semantics.md's table says which hold a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RunState {
    /// In the queue; `RunRow::started` tells whether it had begun before.
    Queued = 0,
    /// A worker has it.
    Running = 1,
    /// Suspended until a time that its script asked for.
    Sleeping = 2,
    /// Suspended until an event, a signal or another run.
    Waiting = 3,
    /// Suspended until the next attempt.
    BackingOff = 4,
    /// Cannot go on by itself; the reason says why.
    Parked = 5,
    /// Ended with a result.
    Completed = 6,
    /// Ended with an error.
    Failed = 7,
    /// Ended from outside.
    Cancelled = 8,
    /// In the queue, never begun, and its function is paused. Never stored: it is what such a run is shown as.
    Paused = 9,
}

impl RunState {
    /// Every state, in the order of its number.
    pub const ALL: [RunState; 10] = [
        RunState::Queued,
        RunState::Running,
        RunState::Sleeping,
        RunState::Waiting,
        RunState::BackingOff,
        RunState::Parked,
        RunState::Completed,
        RunState::Failed,
        RunState::Cancelled,
        RunState::Paused,
    ];

    /// Whether the run has ended for good.
    pub fn is_terminal(self) -> bool {
        matches!(self, RunState::Completed | RunState::Failed | RunState::Cancelled)
    }

    /// Whether the run does not go on by itself: it has ended for good, or is parked.
    pub fn rests(self) -> bool {
        self.is_terminal() || self == RunState::Parked
    }

    /// The state with this stored number.
    pub fn from_number(number: i64) -> Option<RunState> {
        usize::try_from(number).ok().and_then(|at| RunState::ALL.get(at).copied())
    }

    /// The word that people and the API see.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::Sleeping => "sleeping",
            RunState::Waiting => "waiting",
            RunState::BackingOff => "backing_off",
            RunState::Parked => "parked",
            RunState::Completed => "completed",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
            RunState::Paused => "paused",
        }
    }
}

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Made by the engine.
    pub id: RunId,
    /// Grows by one with each change of state; a list that expects an older one is refused.
    pub rev: u32,
    /// The function's id.
    pub function: Arc<str>,
    /// The event that started it.
    pub event: EventId,
    /// Where it stands.
    pub state: RunState,
    /// The value of each concurrency key as canonical JSON text, in the order of the function's limits; `null` where a limit has no key.
    pub keys: Arc<[Arc<str>]>,
    /// Head start in the queue, in milliseconds.
    pub priority_ms: i64,
    /// When it was created.
    pub created: Millis,
    /// When it enters the queue: the later of its creation and its event's `ts`.
    pub enter: Millis,
    /// Its first start.
    pub started: Option<Millis>,
    /// Its end.
    pub ended: Option<Millis>,
    /// When it goes on by itself, while sleeping, backing off or waiting.
    pub wake: Option<Millis>,
    /// The attempt of the code between steps, from 1; back to 1 with each new record.
    pub attempt: u32,
    /// What the ends of engines that it was running at say against it, since its last new record: see `recovery`.
    pub suspects: u32,
    /// The hash of the handler's sources that it last ran on.
    pub version: Option<Arc<str>>,
    /// Its result, once completed.
    pub output: Option<Json>,
    /// Its error, once failed; the last one while backing off.
    pub error: Option<Arc<Failure>>,
    /// Why it was cancelled or parked.
    pub reason: Option<Arc<str>>,
    /// The value of its idempotency key as canonical JSON text.
    pub idempotency: Option<Arc<str>>,
    /// The run that it repeats.
    pub replay_of: Option<RunId>,
    /// The run that invoked it.
    pub invoked_by: Option<RunId>,
    /// The values of its gates' keys that matter after its start.
    pub gates: Option<Arc<GateKeys>>,
}

impl RunRow {
    /// Whether it holds the slots that it holds until its end: it has begun, and was not parked since, which gives them back.
    pub fn holds_slots(&self) -> bool {
        self.started.is_some() && !(self.state == RunState::Queued && self.wake.is_some())
    }

    /// A run that has just been created and enters the queue at once.
    pub fn queued(id: RunId, function: impl Into<Arc<str>>, event: EventId, now: Millis) -> RunRow {
        RunRow {
            id,
            rev: 0,
            function: function.into(),
            event,
            state: RunState::Queued,
            keys: Arc::default(),
            priority_ms: 0,
            created: now,
            enter: now,
            started: None,
            ended: None,
            wake: None,
            attempt: 1,
            suspects: 0,
            version: None,
            output: None,
            error: None,
            reason: None,
            idempotency: None,
            replay_of: None,
            invoked_by: None,
            gates: None,
        }
    }

    /// As much of a run that has not ended as says who goes on, and when. The rest is as in one that has just been created.
    pub fn outline(self) -> RunRow {
        RunRow { attempt: 1, version: None, output: None, error: None, reason: None, idempotency: None, replay_of: None, ..self }
    }

    /// The run as one that can be left in the store, where it is one.
    pub fn dormant(&self) -> Option<Dormant> {
        let is_suspended = matches!(self.state, RunState::Sleeping | RunState::Waiting | RunState::BackingOff);
        (is_suspended && self.gates.is_none() && self.invoked_by.is_none()).then(|| Dormant {
            run: self.id,
            function: Arc::clone(&self.function),
            state: self.state,
            wake: self.wake,
        })
    }

    /// The value of the key under which it collects events, or did before it started.
    pub fn collects(&self) -> Option<&Arc<str>> {
        self.gates.as_ref()?.collect.as_ref()
    }

    /// The value of its singleton's key, if it comes under one.
    pub fn singleton(&self) -> Option<&Arc<str>> {
        self.gates.as_ref()?.singleton.as_ref()
    }
}

/// A suspended run that no gate and no other run looks at, so that nobody asks for it before its time has come or it has what it waits for:
/// what has to be known of it until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dormant {
    /// The run.
    pub run: RunId,
    /// The function's id.
    pub function: Arc<str>,
    /// Sleeping, waiting or backing off.
    pub state: RunState,
    /// When it goes on by itself.
    pub wake: Option<Millis>,
}

/// What kind of thing a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// `step`
    Step = 0,
    /// `sleep`, `sleep_until`
    Sleep = 1,
    /// `now` outside a step
    Now = 2,
    /// `uuid` outside a step
    Uuid = 3,
    /// `random` outside a step
    Random = 4,
    /// `pick` outside a step
    Pick = 5,
    /// `wait_for_event`, `wait_for_any`, `wait_for_signal`
    Wait = 6,
    /// `invoke`
    Invoke = 7,
    /// `send_event`, `send_signal`
    Send = 8,
    /// `race`: which branch ended first, and with what
    Race = 9,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 10] =
        [Kind::Step, Kind::Sleep, Kind::Now, Kind::Uuid, Kind::Random, Kind::Pick, Kind::Wait, Kind::Invoke, Kind::Send, Kind::Race];

    /// The kind with this stored number.
    pub fn from_number(number: i64) -> Option<Kind> {
        usize::try_from(number).ok().and_then(|at| Kind::ALL.get(at).copied())
    }

    /// The word that people and the API see.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Step => "step",
            Kind::Sleep => "sleep",
            Kind::Now => "now",
            Kind::Uuid => "uuid",
            Kind::Random => "random",
            Kind::Pick => "pick",
            Kind::Wait => "wait",
            Kind::Invoke => "invoke",
            Kind::Send => "send",
            Kind::Race => "race",
        }
    }

    /// Tiny records count in limits, not in what people are shown.
    pub fn is_tiny(self) -> bool {
        matches!(self, Kind::Now | Kind::Uuid | Kind::Random | Kind::Pick)
    }
}

/// One entry of a run's journal: never changed once committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its place in the journal, from 0, in order of commit.
    pub index: u32,
    /// Its key: `name`, `name#2`; within a branch `mail › name#2`.
    pub key: Arc<str>,
    /// What it is. Key and kind together are unique in a run.
    pub kind: Kind,
    /// What a replay gets back.
    pub result: Recorded,
    /// Attempts that were made, the recorded one included.
    pub attempts: u32,
    /// When its first attempt began.
    pub started: Millis,
    /// When it was decided.
    pub ended: Millis,
    /// `file:line` of the call.
    pub line: Option<Arc<str>>,
}

/// What a replay of a record gives to the script.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// The result, as JSON text.
    Value(Json),
    /// Its attempts were used up: the same StepError is thrown again.
    Failed(Arc<Failure>),
    /// A sleep that ends then.
    Until(Millis),
}

/// A failed attempt: of a step, or (with an empty key) of the code between steps.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRow {
    /// The step's key as in `Record::key`, or empty.
    pub key: Arc<str>,
    /// From 1.
    pub attempt: u32,
    /// When it began.
    pub started: Millis,
    /// When it failed.
    pub ended: Millis,
    /// Why.
    pub error: Arc<Failure>,
    /// When the next one is due; none where there is no next one.
    pub next: Option<Millis>,
    /// `file:line` of the step's call.
    pub line: Option<Arc<str>>,
}

/// An error of a handler, as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failure {
    /// What a person reads.
    pub message: String,
    /// The diagnostic's code, such as `E0410`; empty for an error that the script threw itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The step it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The attempts of that step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Of an attempt that another one follows: how many there may be in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<u32>,
    /// Of an attempt that another one follows: who asked for the wait between them; none where it is the back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedBy>,
    /// What was thrown or handed to `fail`, where it was more than a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// Where in the script: the innermost place first, then its callers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<Place>,
    /// A line of advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Who asked for the wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedBy {
    /// The handler, by `retry_after`.
    Script,
    /// A server, by the `Retry-After` of its answer.
    Server,
}

impl Failure {
    /// Who asked for the wait before the next attempt, as it stands behind that wait; empty where nobody did.
    pub fn asked_words(&self) -> &'static str {
        match self.asked {
            Some(AskedBy::Script) => " (asked by script)",
            Some(AskedBy::Server) => " (asked by server)",
            None => "",
        }
    }
}

/// A place in a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Path below the config's folder.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters; 0 where unknown.
    pub column: u32,
    /// The function or step it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

/// How loud a line of a run's log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LogLevel {
    /// `log::debug`
    Debug = 0,
    /// `log::info`, `print`
    Info = 1,
    /// `log::warn`
    Warn = 2,
    /// `log::error`
    Error = 3,
    /// The engine's own note of an HTTP call. No script can write one.
    Call = 4,
}

impl LogLevel {
    /// Every level, by the number that is stored.
    pub const ALL: [LogLevel; 5] = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error, LogLevel::Call];

    /// Its word in the API, the dashboard and the command line.
    pub fn word(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Call => "call",
        }
    }
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRow {
    /// When it was written.
    pub at: Millis,
    /// How loud.
    pub level: LogLevel,
    /// The text.
    pub message: Arc<str>,
    /// The map beside it, as JSON text.
    pub data: Option<Json>,
    /// The step it was written in; empty between steps.
    pub step: Arc<str>,
}

impl LogRow {
    /// Whether the engine noted an HTTP call by it: the script wrote nothing.
    pub fn is_call(&self) -> bool {
        self.level == LogLevel::Call
    }
}

/// The sources of one version of a handler, stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Hex of the SHA-256 over the files' names and texts.
    pub hash: Arc<str>,
    /// A JSON object: path below the config's folder to text; the handler itself first.
    pub files: Json,
}

impl SourceRow {
    /// How the files begin of every version of the handler at this path.
    pub fn beginning(handler: &str) -> String {
        format!("{{{}:", serde_json::Value::from(handler))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_an_older_engine_is_read_and_one_that_nobody_asked_a_wait_for_is_written_as_ever() {
        let old = r#"{"message":"busy","step":"charge","attempts":2,"allowed":6}"#;
        let read: Failure = serde_json::from_str(old).unwrap();
        assert_eq!((read.asked, read.asked_words()), (None, ""));
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
        let asked = Failure { asked: Some(AskedBy::Script), ..read };
        let text = serde_json::to_string(&asked).unwrap();
        assert!(text.contains(r#""asked":"script""#), "{text}");
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), asked);
    }
}
