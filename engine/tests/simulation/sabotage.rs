//! Worlds that are broken on purpose: they prove that a broken promise is seen.

use std::sync::Arc;

use stepwell::base::Millis;
use stepwell::rules::gates::GateKeys;
use stepwell::rules::{Expect, Gate, Kind, List, PauseRow, Resolution, RunRow, Write};
use stepwell::store::Journal;

/// What is broken in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Commits are answered before they are on disk.
    HastyAnswers,
    /// Runs are not stored with their events.
    LostRuns,
    /// Events are not told apart by their ids.
    LostKeys,
    /// The ends of runs are not stored.
    LostEnds,
    /// The records of steps are not stored.
    LostRecords,
    /// Failed attempts are not stored.
    LostAttempts,
    /// A journal is read without its last record.
    ShortJournals,
    /// One run more than allowed holds each slot.
    WideLimits,
    /// After a restart the last one is the first.
    TurnedQueue,
    /// The engine's clock is fast.
    FastClock,
    /// Now and then nobody is told that a commit is on disk.
    LostAnswers,
    /// Now and then a timer never goes off.
    LostTimers,
    /// What ends a wait is not stored.
    LostResolutions,
    /// A wait that is over is taken for open.
    OpenWaits,
    /// What a rate limit has let through is not stored.
    LostCounts,
    /// One run more than allowed starts at once.
    WideThrottles,
    /// After a restart nobody knows which runs collect events.
    ForgottenWindows,
    /// After a restart nobody knows who has the key of a singleton.
    ForgottenSingletons,
    /// How full the bucket of a throttle is, is not stored.
    LostBuckets,
    /// Where a function stands in its schedule is not stored with its start.
    LostPositions,
    /// After a restart nobody knows which functions are paused.
    ForgottenPauses,
    /// What a gate has skipped is not recorded.
    LostOutcomes,
}

/// Each with the promise that it breaks.
pub const ALL: [(Sabotage, &str); 22] = [
    (Sabotage::HastyAnswers, "I1"),
    (Sabotage::LostRuns, "I2"),
    (Sabotage::LostKeys, "I2"),
    (Sabotage::LostEnds, "I3"),
    (Sabotage::LostRecords, "I5"),
    (Sabotage::LostAttempts, "I4"),
    (Sabotage::ShortJournals, "I5"),
    (Sabotage::WideLimits, "I6"),
    (Sabotage::TurnedQueue, "I7"),
    (Sabotage::FastClock, "I9"),
    (Sabotage::LostAnswers, "I3"),
    (Sabotage::LostTimers, "I3"),
    (Sabotage::LostResolutions, "W2"),
    (Sabotage::OpenWaits, "W1"),
    (Sabotage::LostCounts, "I6"),
    (Sabotage::WideThrottles, "I6"),
    (Sabotage::ForgottenWindows, "I6"),
    (Sabotage::ForgottenSingletons, "I6"),
    (Sabotage::LostBuckets, "I6"),
    (Sabotage::LostPositions, "I9"),
    (Sabotage::ForgottenPauses, "P1"),
    (Sabotage::LostOutcomes, "I2"),
];

/// How far a fast clock is ahead.
pub const FAST_MS: i64 = 500;

impl Sabotage {
    /// What reaches the disk of a list.
    pub fn spoil(self, mut list: List) -> List {
        match self {
            Sabotage::LostRuns => list.writes.retain(|write| !matches!(write, Write::CreateRun(row) if row.id.0 % 3 == 0)),
            Sabotage::LostKeys => list.expect.retain(|expect| !matches!(expect, Expect::EventKeyFree { .. })),
            Sabotage::LostEnds => list.writes.retain(|write| !matches!(write, Write::End { run, .. } if run.0 % 3 == 0)),
            Sabotage::LostAttempts => list.writes.retain(|write| !matches!(write, Write::Attempt { .. })),
            Sabotage::LostRecords => {
                list.writes.retain(|write| !matches!(write, Write::Append { record, .. } if record.kind == Kind::Step));
            }
            Sabotage::LostResolutions => {
                list.writes.retain(|write| !matches!(write, Write::ResolveWait { with: Resolution::Event(_), .. }));
            }
            Sabotage::OpenWaits => list.expect.retain(|expect| !matches!(expect, Expect::WaitOpen { .. })),
            Sabotage::LostCounts => {
                list.writes.retain(|write| !matches!(write, Write::PutWindow(row) if row.window.gate == Gate::RateLimit));
            }
            Sabotage::LostBuckets => {
                let is_bucket = |write: &Write| match write {
                    Write::PutWindow(row) | Write::RaiseWindow(row) => row.window.gate == Gate::Throttle,
                    _ => false,
                };
                list.writes.retain(|write| !is_bucket(write));
            }
            Sabotage::LostPositions => {
                // What is expected of a position goes too, so that the engine that made it goes on.
                list.expect.retain(|expect| !matches!(expect, Expect::CronAt { .. }));
                if list.writes.iter().any(|write| matches!(write, Write::InsertEvent(_))) {
                    list.writes.retain(|write| !matches!(write, Write::PutCron(_)));
                }
            }
            Sabotage::LostOutcomes => list.writes.retain(|write| !matches!(write, Write::NoteOutcome { .. })),
            _ => {}
        }
        list
    }

    /// What is read of the pauses.
    pub fn recall(self, pauses: Vec<PauseRow>) -> Vec<PauseRow> {
        if self == Sabotage::ForgottenPauses { Vec::new() } else { pauses }
    }

    /// What is read of a journal.
    pub fn shorten(self, mut journal: Journal) -> Journal {
        if self == Sabotage::ShortJournals {
            journal.records.pop();
        }
        journal
    }

    /// What is read of an unfinished run.
    pub fn turn(self, mut row: RunRow) -> RunRow {
        if self == Sabotage::TurnedQueue && row.enter <= row.created {
            row.enter = Millis(-row.enter.0);
        }
        let forgotten = |keys: &GateKeys| match self {
            Sabotage::ForgottenWindows => GateKeys { collect: None, ..keys.clone() },
            Sabotage::ForgottenSingletons => GateKeys { singleton: None, ..keys.clone() },
            _ => keys.clone(),
        };
        row.gates = row.gates.as_deref().map(forgotten).map(Arc::new);
        row
    }
}
