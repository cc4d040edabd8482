//! What watchers of a running engine are told, as it happens; nothing depends on anybody listening.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::base::{Millis, RunId};
use crate::rules::row::{LogLevel, Recorded};
use crate::rules::{AttemptRow, Failure, Kind, LogRow, Record, RunRow, RunState};
use crate::script::{Published, Watch};

use super::channels::Channels;
use super::logged;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// A run changed its state.
    Run {
        /// The run.
        run: RunId,
        /// Its function.
        function: Arc<str>,
        /// The state it is in now.
        state: RunState,
        /// When, in milliseconds since 1970.
        at: Millis,
    },
    /// An attempt of a step has begun.
    StepBegun {
        /// The run.
        run: RunId,
        /// The step's key.
        key: Arc<str>,
        /// From 1.
        attempt: u32,
        /// When, in milliseconds since 1970.
        at: Millis,
    },
    /// A record is durable: a step has ended, a sleep has begun.
    Recorded {
        /// The run.
        run: RunId,
        /// The record's key.
        key: Arc<str>,
        /// Its kind.
        kind: Kind,
        /// Attempts that were made.
        attempts: u32,
        /// When its first attempt began, in milliseconds since 1970.
        started: Millis,
        /// When it was decided, in milliseconds since 1970.
        ended: Millis,
        /// When a sleep ends, in milliseconds since 1970.
        until: Option<Millis>,
        /// The error of a step whose attempts are used up.
        error: Option<Arc<Failure>>,
    },
    /// An attempt of a step has failed, and another follows.
    AttemptFailed {
        /// The run.
        run: RunId,
        /// The step's key; empty for the code between steps.
        key: Arc<str>,
        /// From 1.
        attempt: u32,
        /// When, in milliseconds since 1970.
        at: Millis,
        /// When the next one is due.
        next: Option<Millis>,
        /// Why.
        error: Arc<Failure>,
    },
    /// A line of a run's log.
    Log {
        /// The run.
        run: RunId,
        /// The step it was written in; empty between steps.
        step: Arc<str>,
        /// When, in milliseconds since 1970.
        at: Millis,
        /// How loud.
        level: LogLevel,
        /// The text.
        message: Arc<str>,
        /// The map beside it, as JSON text.
        data: Option<Arc<str>>,
    },
}

impl Notice {
    /// The run that it is about.
    pub fn run(&self) -> RunId {
        match self {
            Notice::Run { run, .. }
            | Notice::StepBegun { run, .. }
            | Notice::Recorded { run, .. }
            | Notice::AttemptFailed { run, .. }
            | Notice::Log { run, .. } => *run,
        }
    }
}

/// Passes on what scripts report, if anybody listens, and keeps the last lines of their logs.
pub(super) struct Broadcast {
    notices: broadcast::Sender<Notice>,
    lines: Mutex<logged::Ring>,
    channels: Arc<Channels>,
}

impl Broadcast {
    pub(super) fn new(notices: broadcast::Sender<Notice>) -> Broadcast {
        Broadcast { notices, lines: Mutex::default(), channels: Arc::default() }
    }

    pub(super) fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// The last lines that handlers have written, the newest first.
    pub(super) fn logged_lately(&self) -> Vec<logged::Logged> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).newest_first()
    }

    fn tell(&self, notice: impl FnOnce() -> Notice) {
        if self.notices.receiver_count() > 0 {
            // The last receiver may have gone this moment: then nobody is watching.
            let _ = self.notices.send(notice());
        }
    }
}

impl Watch for Broadcast {
    fn step_begun(&self, run: &RunRow, key: &str, attempt: u32, at: Millis) {
        self.tell(|| Notice::StepBegun { run: run.id, key: Arc::from(key), attempt, at });
    }

    fn recorded(&self, run: &RunRow, record: &Record) {
        self.tell(|| {
            let (until, error) = match &record.result {
                Recorded::Value(_) => (None, None),
                Recorded::Failed(error) => (None, Some(Arc::clone(error))),
                Recorded::Until(at) => (Some(*at), None),
            };
            let (key, kind, attempts) = (Arc::clone(&record.key), record.kind, record.attempts);
            Notice::Recorded { run: run.id, key, kind, attempts, started: record.started, ended: record.ended, until, error }
        });
    }

    fn attempt_failed(&self, run: &RunRow, attempt: &AttemptRow) {
        self.tell(|| Notice::AttemptFailed {
            run: run.id,
            key: Arc::clone(&attempt.key),
            attempt: attempt.attempt,
            at: attempt.ended,
            next: attempt.next,
            error: Arc::clone(&attempt.error),
        });
    }

    fn logged(&self, run: &RunRow, line: &LogRow) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).keep(run.id, line);
        self.tell(|| Notice::Log {
            run: run.id,
            step: Arc::clone(&line.step),
            at: line.at,
            level: line.level,
            message: Arc::clone(&line.message),
            data: line.data.clone(),
        });
    }

    fn published(&self, message: &Arc<Published>) {
        self.channels.tell(message);
    }
}
