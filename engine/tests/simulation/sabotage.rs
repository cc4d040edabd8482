//! Worlds that are broken on purpose: they prove that a broken promise is seen.

use stepwell::base::Millis;
use stepwell::rules::{Expect, Kind, List, RunRow, Write};
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
}

/// Each with the promise that it breaks.
pub const ALL: [(Sabotage, &str); 11] = [
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
            _ => {}
        }
        list
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
        row
    }
}
