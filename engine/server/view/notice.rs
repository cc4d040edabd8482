//! One thing that happened, as the stream tells it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::RunId;
use crate::exec::Notice;
use crate::rules::row::LogLevel;
use crate::rules::{Failure, Kind, RunState};

use super::Time;
use super::schema::{FailureShape, IdText, KindWord, LevelWord, StateWord};

/// One event of the stream; `type` is also the name of the server-sent event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NoticeView {
    /// A run changed its state.
    Run {
        /// The run.
        #[schemars(with = "IdText")]
        run: RunId,
        /// Its function.
        function: String,
        /// The state it is in now.
        #[schemars(with = "StateWord")]
        state: RunState,
        /// When.
        at: Time,
    },
    /// An attempt of a step has begun.
    StepBegun {
        /// The run.
        #[schemars(with = "IdText")]
        run: RunId,
        /// The step's key.
        key: String,
        /// From 1.
        attempt: u32,
        /// When.
        at: Time,
    },
    /// A record is durable: a step has ended, a sleep has begun.
    Recorded {
        /// The run.
        #[schemars(with = "IdText")]
        run: RunId,
        /// The record's key.
        key: String,
        /// Its kind.
        #[schemars(with = "KindWord")]
        kind: Kind,
        /// Attempts that were made.
        attempts: u32,
        /// When its first attempt began.
        started_at: Time,
        /// When it was decided.
        ended_at: Time,
        /// When a sleep ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Time>,
        /// The error of a step whose attempts are used up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<FailureShape>")]
        error: Option<Failure>,
    },
    /// An attempt has failed, and another follows.
    AttemptFailed {
        /// The run.
        #[schemars(with = "IdText")]
        run: RunId,
        /// The step's key; empty for the code between steps.
        key: String,
        /// From 1.
        attempt: u32,
        /// When.
        at: Time,
        /// When the next one is due.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_at: Option<Time>,
        /// Why.
        #[schemars(with = "FailureShape")]
        error: Failure,
    },
    /// A line of a run's log.
    Log {
        /// The run.
        #[schemars(with = "IdText")]
        run: RunId,
        /// The step it was written in; empty between steps.
        step: String,
        /// When.
        at: Time,
        /// How loud.
        #[schemars(with = "LevelWord")]
        level: LogLevel,
        /// The text.
        message: String,
        /// The map beside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
    },
    /// The client read too slowly: so many notices went by, of any run. What became of a run, its own route says.
    Missed {
        /// How many.
        missed: u64,
    },
}

impl NoticeView {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            NoticeView::Run { .. } => "run",
            NoticeView::StepBegun { .. } => "step_begun",
            NoticeView::Recorded { .. } => "recorded",
            NoticeView::AttemptFailed { .. } => "attempt_failed",
            NoticeView::Log { .. } => "log",
            NoticeView::Missed { .. } => "missed",
        }
    }

    /// The view of a notice of the engine.
    pub fn of(notice: &Notice) -> NoticeView {
        match notice {
            Notice::Run { run, function, state, at } => {
                NoticeView::Run { run: *run, function: function.to_string(), state: *state, at: Time(*at) }
            }
            Notice::StepBegun { run, key, attempt, at } => {
                NoticeView::StepBegun { run: *run, key: key.to_string(), attempt: *attempt, at: Time(*at) }
            }
            Notice::Recorded { run, key, kind, attempts, started, ended, until, error } => NoticeView::Recorded {
                run: *run,
                key: key.to_string(),
                kind: *kind,
                attempts: *attempts,
                started_at: Time(*started),
                ended_at: Time(*ended),
                until: until.map(Time),
                error: error.as_deref().cloned(),
            },
            Notice::AttemptFailed { run, key, attempt, at, next, error } => NoticeView::AttemptFailed {
                run: *run,
                key: key.to_string(),
                attempt: *attempt,
                at: Time(*at),
                next_at: next.map(Time),
                error: (**error).clone(),
            },
            Notice::Log { run, step, at, level, message, data } => NoticeView::Log {
                run: *run,
                step: step.to_string(),
                at: Time(*at),
                level: *level,
                message: message.to_string(),
                // The map came from a script as JSON; one that does not parse is not worth losing the line for.
                data: data.as_deref().and_then(|data| serde_json::from_str(data).ok()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::Millis;

    #[test]
    fn a_notice_survives_the_way_through_json_under_its_kind() {
        let run = "0000000000101".parse().unwrap();
        let error = Arc::new(Failure { message: "no".into(), ..Failure::default() });
        let (key, at) = (Arc::from("charge"), Millis(1_000));
        for notice in [
            Notice::Run { run, function: Arc::from("f"), state: RunState::BackingOff, at },
            Notice::StepBegun { run, key: Arc::clone(&key), attempt: 2, at },
            Notice::AttemptFailed { run, key, attempt: 1, at, next: Some(Millis(2_000)), error },
            Notice::Log {
                run,
                step: Arc::from(""),
                at,
                level: LogLevel::Warn,
                message: Arc::from("m"),
                data: Some(Arc::from("{\"a\":[1]}")),
            },
        ] {
            let view = NoticeView::of(&notice);
            let json = serde_json::to_value(&view).unwrap();
            assert_eq!(json["type"], view.kind());
            assert_eq!(serde_json::from_value::<NoticeView>(json).unwrap(), view);
        }
        let json = serde_json::to_value(NoticeView::Missed { missed: 7 }).unwrap();
        assert_eq!(json, serde_json::json!({"type": "missed", "missed": 7}));
    }
}
