//! What the engine's log says of runs and events: each line names the run, its function and its event, and the step it is about.
//!
//! The lines have a target of their own, `run`, so that a filter can choose them. Where nobody wants one, it costs a comparison.

use std::sync::Arc;

use crate::base::RunId;
use crate::rules::row::LogLevel;
use crate::rules::{AttemptRow, EventRow, List, LogRow, RunRow, RunState, Write};

/// A line that a handler wrote, or by which a call of it was noted; its secrets are hidden before.
pub(super) fn logged(run: &RunRow, line: &LogRow) {
    let LogRow { level, message, data, step, .. } = line;
    let (data, step) = (data.as_deref(), some(step));
    // The macro wants to know the level when it is compiled.
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(target: "run", run = %run.id, function = &*run.function, event = %run.event, step, data, "{message}")
        };
    }
    match level {
        LogLevel::Debug | LogLevel::Call => tell!(debug),
        LogLevel::Info => tell!(info),
        LogLevel::Warn => tell!(warn),
        LogLevel::Error => tell!(error),
    }
}

/// An attempt has failed.
pub(super) fn attempt_failed(run: &RunRow, failed: &AttemptRow) {
    let (step, attempt, next) = (some(&failed.key), failed.attempt, failed.next.map(|next| next.rfc3339()));
    let (code, error) = (&failed.error.code, &failed.error.message);
    let (function, event) = (&*run.function, run.event);
    tracing::warn!(target: "run", run = %run.id, function, %event, step, attempt, code, error, next, "attempt failed");
}

/// A run has come to a state that somebody should hear of.
pub(super) fn stands(run: &RunRow, state: RunState, why: Option<&str>) {
    let (function, event, id) = (&*run.function, run.event, run.id);
    match state {
        RunState::Completed => tracing::debug!(target: "run", run = %id, function, %event, "completed"),
        RunState::Failed => tracing::error!(target: "run", run = %id, function, %event, error = why, "failed"),
        RunState::Cancelled => tracing::info!(target: "run", run = %id, function, %event, reason = why, "cancelled"),
        RunState::Parked => tracing::error!(target: "run", run = %id, function, %event, reason = why, "parked"),
        _ => tracing::debug!(target: "run", run = %id, function, %event, "{}", state.word()),
    }
}

/// A run was parked of which nothing else can be read.
pub(super) fn parked(run: RunId, function: &str, reason: &str) {
    tracing::error!(target: "run", %run, function, reason, "parked");
}

/// An event was accepted.
pub(super) fn accepted(event: &EventRow, runs: usize) {
    tracing::debug!(target: "run", event = %event.id, name = &*event.name, runs, "accepted");
}

/// Why a list ends or parks a run.
pub(super) fn why(list: &List, run: RunId) -> Option<Arc<str>> {
    list.writes.iter().find_map(|write| match write {
        Write::End { run: ended, error: Some(error), .. } if *ended == run => Some(Arc::from(error.message.as_str())),
        Write::End { run: ended, reason: Some(reason), .. } if *ended == run => Some(Arc::clone(reason)),
        Write::Park { run: parked, reason } if *parked == run => Some(Arc::clone(reason)),
        _ => None,
    })
}

/// A text unless it is empty.
fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
