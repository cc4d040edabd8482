//! A run as the API shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::{EventId, Millis, RunId};
use crate::rules::{Failure, RunRow, RunState};

use super::schema::{FailureShape, IdText, StateWord};
use super::{Raw, Time, raw};

/// The coarse state of a run: Inngest's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Status {
    /// In the queue, never begun.
    Scheduled,
    /// Begun and not ended: it runs, sleeps, waits, backs off, is parked, or is in the queue again.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended from outside.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a run's life.
    pub const ALL: [Status; 5] = [Status::Scheduled, Status::Running, Status::Completed, Status::Failed, Status::Cancelled];

    /// The status of a run, by the table of states.
    pub fn of(row: &RunRow) -> Status {
        match row.state {
            RunState::Queued if row.started.is_none() => Status::Scheduled,
            RunState::Completed => Status::Completed,
            RunState::Failed => Status::Failed,
            RunState::Cancelled => Status::Cancelled,
            _ => Status::Running,
        }
    }

    /// The word that the API shows.
    pub fn word(self) -> &'static str {
        match self {
            Status::Scheduled => "Scheduled",
            Status::Running => "Running",
            Status::Completed => "Completed",
            Status::Failed => "Failed",
            Status::Cancelled => "Cancelled",
        }
    }
}

/// The state to show: a run whose time to go on has come is in the queue, also before the engine has written so.
pub fn shown_state(row: &RunRow, now: Millis) -> RunState {
    let suspended = matches!(row.state, RunState::Sleeping | RunState::Waiting | RunState::BackingOff);
    match row.wake {
        Some(wake) if suspended && wake <= now => RunState::Queued,
        _ => row.state,
    }
}

/// A run: Inngest's fields first, then the engine's own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Its id.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// Its first start.
    pub run_started_at: Option<Time>,
    /// The function.
    pub function_id: String,
    /// The hash of the handler's sources that it last ran on.
    pub function_version: Option<String>,
    /// The event that started it.
    #[schemars(with = "IdText")]
    pub event_id: EventId,
    /// The coarse state.
    pub status: Status,
    /// Its end.
    pub ended_at: Option<Time>,
    /// Its result, once completed.
    #[schemars(with = "Option<serde_json::Value>")]
    pub output: Option<Raw>,
    /// The precise state.
    #[schemars(with = "StateWord")]
    pub state: RunState,
    /// Why it is not moving, and when it will; why it was cancelled or parked.
    pub why: Option<String>,
    /// When it was created.
    pub created_at: Time,
    /// When it entered or enters the queue: later than its creation where its event's `ts` lies ahead.
    pub queued_at: Time,
    /// When it goes on by itself, while sleeping, waiting or backing off.
    pub wakes_at: Option<Time>,
    /// The attempt of the code between steps, from 1.
    pub attempt: u32,
    /// The value of its first concurrency key that is not null.
    pub key: Option<Value>,
    /// The value of each concurrency key, in the order of the function's limits.
    pub keys: Vec<Value>,
    /// Its error, once failed; the last one while backing off.
    #[schemars(with = "Option<FailureShape>")]
    pub error: Option<Failure>,
    /// Why its record does not fit the newest handler, with the lines of both; in the answers about one run alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
    /// The run that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IdText>")]
    pub replay_of: Option<RunId>,
    /// The run that invoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IdText>")]
    pub invoked_by: Option<RunId>,
    /// The runs that repeat it, oldest first; in the answers about one run alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<IdText>")]
    pub replayed_as: Vec<RunId>,
    /// Steps recorded so far; in the answer about one run alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
}

impl RunView {
    /// The view of a stored run at `now`. `why` holds what the row itself knows: the reason of a cancelled or parked run.
    ///
    /// Whether its function is paused, only the engine or the store knows: see `with_pause`.
    pub fn of(row: &RunRow, now: Millis) -> RunView {
        // A key is canonical JSON text that the engine wrote.
        let keys: Vec<Value> = row.keys.iter().map(|key| serde_json::from_str(key).unwrap_or(Value::Null)).collect();
        RunView {
            run_id: row.id,
            run_started_at: row.started.map(Time),
            function_id: row.function.to_string(),
            function_version: row.version.as_deref().map(str::to_owned),
            event_id: row.event,
            status: Status::of(row),
            ended_at: row.ended.map(Time),
            output: row.output.as_deref().map(raw),
            state: shown_state(row, now),
            why: row.reason.as_deref().map(str::to_owned),
            created_at: Time(row.created),
            queued_at: Time(row.enter),
            // That of a queued run says that it stands in line for its slots anew.
            wakes_at: row.wake.filter(|_| row.state != RunState::Queued).map(Time),
            attempt: row.attempt,
            key: keys.iter().find(|key| !key.is_null()).cloned(),
            keys,
            error: row.error.as_deref().cloned(),
            unfit: None,
            replay_of: row.replay_of,
            invoked_by: row.invoked_by,
            replayed_as: Vec::new(),
            steps: None,
        }
    }

    /// The view where `is_paused` says whether the run's function is: one that has not begun shows as paused then.
    pub fn with_pause(mut self, is_paused: bool) -> RunView {
        if is_paused && self.state == RunState::Queued && self.run_started_at.is_none() {
            self.state = RunState::Paused;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::row;
    use super::*;

    #[test]
    fn states_map_to_inngests_words_by_the_table() {
        let begun = |state| RunRow { started: Some(Millis(1)), ..row(state) };
        let shown = |row: &RunRow| Status::of(row).word();
        assert_eq!(shown(&row(RunState::Queued)), "Scheduled");
        assert_eq!(shown(&begun(RunState::Queued)), "Running");
        for state in [RunState::Running, RunState::Sleeping, RunState::Waiting, RunState::BackingOff, RunState::Parked] {
            assert_eq!(shown(&begun(state)), "Running", "{state:?}");
        }
        assert_eq!(shown(&begun(RunState::Completed)), "Completed");
        assert_eq!(shown(&begun(RunState::Failed)), "Failed");
        assert_eq!(shown(&row(RunState::Cancelled)), "Cancelled");
    }

    #[test]
    fn a_suspended_run_whose_time_has_come_shows_as_queued() {
        let asleep = RunRow { wake: Some(Millis(50)), started: Some(Millis(1)), ..row(RunState::Sleeping) };
        assert_eq!(RunView::of(&asleep, Millis(49)).state, RunState::Sleeping);
        assert_eq!(RunView::of(&asleep, Millis(50)).state, RunState::Queued);
        assert_eq!(RunView::of(&asleep, Millis(50)).status, Status::Running);
    }

    #[test]
    fn a_run_that_has_not_begun_shows_as_paused_with_its_function() {
        let begun = RunRow { started: Some(Millis(1)), ..row(RunState::Queued) };
        let shown = |row: &RunRow, paused| RunView::of(row, Millis(9)).with_pause(paused).state;
        assert_eq!(shown(&row(RunState::Queued), true), RunState::Paused);
        assert_eq!(shown(&row(RunState::Queued), false), RunState::Queued);
        assert_eq!(shown(&begun, true), RunState::Queued);
        assert_eq!(shown(&row(RunState::Failed), true), RunState::Failed);
    }

    #[test]
    fn a_view_survives_the_way_through_json_with_its_output_untouched() {
        let done = RunRow { output: Some(Arc::from("{\"n\":12345678901234567890123,\"f\":1.0}")), ..row(RunState::Completed) };
        let text = serde_json::to_string(&RunView::of(&done, Millis(9))).unwrap();
        let back: RunView = serde_json::from_str(&text).unwrap();
        assert_eq!(back.output.unwrap().get(), done.output.as_deref().unwrap());
        assert_eq!(back.key, Some(Value::from("u1")));
        assert_eq!(back.keys, [Value::Null, Value::from("u1")]);
    }
}
