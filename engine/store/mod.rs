//! The store: rows on disk behind one door for change.
//!
//! No rule of the engine lives here: a store checks what a list expects, carries out its writes, and makes them durable.
//! What a store is, `conformance::exercise` says, over SQLite and over memory alike.

#[cfg(test)]
pub mod conformance;
mod figures;
pub mod memory;
pub mod sqlite;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::base::id::IdSet;
use crate::base::{EventId, Id, Millis, RunId};
use crate::rules::{
    AttemptRow, Conflict, CronRow, Dormant, Ending, EventRow, KvRow, List, LogRow, OutcomeRow, PauseRow, Record, RunRow, RunState,
    SourceRow, WaitRow, WindowRow,
};

pub use figures::Figures;
pub use memory::Memory;
pub use sqlite::Sqlite;

/// Which of the writer's two queues a list goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Checkpoints, suspensions and ends of runs: first.
    Steps,
    /// New events: after, but always with at least a quarter of a batch's rows.
    Ingest,
}

/// What became of one list of a commit.
pub type Verdict = Result<(), Conflict>;

/// Why a commit or a read did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space on the device: nothing of the commit is stored; it may be tried again.
    #[error("the disk is full")]
    Full,
    /// The disk answered with an error. After a failed commit its state is unknown: the engine has to stop.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The file is not what it should be.
    #[error("the database is corrupt: {0}")]
    Corrupt(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// The answer to a commit, ready once it is durable.
#[must_use = "nothing is durable before its ticket says so"]
#[derive(Debug)]
pub struct Ticket(tokio::sync::oneshot::Receiver<Result<Vec<Verdict>, StoreError>>);

/// The side of a ticket that answers it.
#[derive(Debug)]
pub struct Answer(tokio::sync::oneshot::Sender<Result<Vec<Verdict>, StoreError>>);

impl Ticket {
    /// A ticket and the means to answer it.
    pub fn new() -> (Answer, Ticket) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        (Answer(sender), Ticket(receiver))
    }

    /// Blocks this thread until the answer is there; never to be called on a runtime's thread.
    ///
    /// # Errors
    /// As the commit itself.
    pub fn wait(self) -> Result<Vec<Verdict>, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Answer {
    /// Answers the ticket; does nothing where nobody waits for it.
    pub fn give(self, verdicts: Result<Vec<Verdict>, StoreError>) {
        // A caller that has gone away is not owed an answer.
        let _ = self.0.send(verdicts);
    }
}

impl Future for Ticket {
    /// One verdict a list, in order.
    type Output = Result<Vec<Verdict>, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(StoreError::Closed)))
    }
}

/// Which runs a page lists; all that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunQuery {
    /// One of these states; empty for any.
    pub states: Vec<RunState>,
    /// Of this function.
    pub function: Option<Arc<str>>,
    /// Started by this event, or with this event in its batch.
    pub event: Option<EventId>,
    /// A replay of this run.
    pub replay_of: Option<RunId>,
    /// One of its concurrency keys has this value (canonical JSON text).
    pub key: Option<Arc<str>>,
    /// Created then or later.
    pub since: Option<Millis>,
    /// Ids from here (included) ...
    pub from: Option<RunId>,
    /// ... to here (included).
    pub to: Option<RunId>,
    /// At most so many; 0 for no limit.
    pub limit: usize,
}

/// Which events a page lists; all that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventQuery {
    /// Of this name.
    pub name: Option<Arc<str>>,
    /// Accepted after this time.
    pub received_after: Option<Millis>,
    /// Ids from here (included) ...
    pub from: Option<EventId>,
    /// ... to here (included).
    pub to: Option<EventId>,
    /// The oldest first, instead of the newest.
    pub oldest_first: bool,
    /// At most so many; 0 for no limit.
    pub limit: usize,
}

/// What a run has recorded, each in the order of commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// Its records, by index from 0.
    pub records: Vec<Record>,
    /// Its failed attempts.
    pub attempts: Vec<AttemptRow>,
}

/// A run with all that a worker needs to go on with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The run.
    pub run: RunRow,
    /// The event that started it.
    pub event: EventRow,
    /// The further events of its batch, in the order in which they joined.
    pub batch: Vec<EventRow>,
    /// What it has recorded.
    pub journal: Journal,
}

impl Loaded {
    /// The error for a run whose event is not there.
    fn orphan(run: &RunRow) -> StoreError {
        StoreError::Corrupt(format!("run {} names event {}, which is not there", run.id, run.event))
    }
}

/// Figures about a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Where it is kept: a path, or `memory`.
    pub place: String,
    /// The version of its schema.
    pub version: u32,
    /// What reads and writes it, with its version; empty for memory.
    pub library: String,
    /// Bytes of the main file and its write-ahead log.
    pub bytes: u64,
    /// Runs that have not ended.
    pub unfinished: u64,
    /// The largest id of an event or run.
    pub largest_id: Id,
    /// How its last owner ended.
    pub end: Ending,
}

/// Takes up the runs that an engine starts from.
pub trait TakeUp {
    /// Whether this run is left in the store; the outline of one that is not follows.
    fn leaves(&mut self, run: &Dormant) -> bool;
    /// Takes up a run by its outline.
    fn take_up(&mut self, run: RunRow);
}

/// Takes up every run.
impl<F: FnMut(RunRow)> TakeUp for F {
    fn leaves(&mut self, _: &Dormant) -> bool {
        false
    }

    fn take_up(&mut self, run: RunRow) {
        self(run);
    }
}

/// A store of events and runs. `commit` alone changes anything.
///
/// Lists of one call are carried out in order, each for itself: one whose expectation fails is skipped, the others are
/// not. What was committed is seen by every read that begins after its ticket was answered.
///
/// The rules of the rows: an id is used once, and is made at the time of its row or later; `ended` is set exactly when
/// the state is terminal. A write about a run that has ended or is gone does nothing. An id or a record's index that is
/// written twice is a fault of the engine: the commit fails as corrupt, and so does every later one.
pub trait Store: Send + Sync {
    /// Queues lists for the next transaction of their lane.
    fn commit(&self, lane: Lane, lists: Vec<List>) -> Ticket;
    /// One event.
    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError>;
    /// Events, newest first unless the query says otherwise.
    fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError>;
    /// What gates said about an event, in the order of the functions' ids and of the gates.
    fn outcomes(&self, event: EventId) -> Result<Vec<OutcomeRow>, StoreError>;
    /// One run.
    fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError>;
    /// Runs, newest first.
    fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError>;
    /// Calls `each` with every run that has not ended, in order of id.
    fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError>;
    /// What a run has recorded.
    fn journal(&self, run: RunId) -> Result<Journal, StoreError>;
    /// Runs with their events and journals, in one read: what workers start from. A run that is not there is left out.
    ///
    /// # Errors
    /// `Corrupt` where a run's event is not there.
    fn load(&self, runs: &[RunId]) -> Result<Vec<Loaded>, StoreError> {
        let mut loaded = Vec::with_capacity(runs.len());
        for id in runs {
            let Some(run) = self.run(*id)? else { continue };
            let event = self.event(run.event)?.ok_or_else(|| Loaded::orphan(&run))?;
            let mut batch = Vec::new();
            if run.collects().is_some() {
                for event in self.batch(*id)? {
                    batch.push(self.event(event)?.ok_or_else(|| Loaded::orphan(&run))?);
                }
            }
            loaded.push(Loaded { journal: self.journal(*id)?, run, event, batch });
        }
        Ok(loaded)
    }
    /// The events of a run's batch after its own, in the order in which they joined.
    fn batch(&self, run: RunId) -> Result<Vec<EventId>, StoreError>;
    /// The waits of a run that has not ended, in the order of their opening.
    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError>;
    /// Calls `each` with every wait that is stored, those of one run in the order of their opening.
    fn all_waits(&self, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError>;
    /// What an engine starts from: tells `runs` all that `unfinished` tells, first every dormant run, then the outline of every run that is
    /// not left in the store; and calls `wait` with every wait that `all_waits` tells and that has no pin: waits with a pin stay in the store,
    /// where `pinned` finds them. Each in the order of those. A store may do both at once, and call `wait` on another thread. Nothing is
    /// committed meanwhile.
    fn start_from(&self, runs: &mut dyn TakeUp, wait: &mut (dyn FnMut(WaitRow) + Send)) -> Result<(), StoreError> {
        self.all_waits(&mut |row| {
            if row.pin.is_none() {
                wait(row);
            }
        })?;
        let mut left = IdSet::default();
        self.unfinished(&mut |row| left.extend(row.dormant().filter(|dormant| runs.leaves(dormant)).map(|dormant| dormant.run)))?;
        self.unfinished(&mut |row| {
            if !left.contains(&row.id) {
                runs.take_up(row.outline());
            }
        })
    }
    /// The outlines of those of these runs that are there and have not ended, in order.
    fn outlines(&self, runs: &[RunId]) -> Result<Vec<RunRow>, StoreError> {
        let mut outlines = Vec::with_capacity(runs.len());
        for id in runs {
            outlines.extend(self.run(*id)?.filter(|row| !row.state.is_terminal()).map(RunRow::outline));
        }
        Ok(outlines)
    }
    /// The fields by which open waits are pinned: each once, in any order.
    fn pinned_fields(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let mut fields = BTreeSet::new();
        self.all_waits(&mut |row| fields.extend(row.pin.map(|pin| pin.field)))?;
        Ok(fields.into_iter().collect())
    }
    /// The open waits that are pinned by this field with this value, in the order of their opening.
    fn pinned(&self, field: &str, value: i64) -> Result<Vec<WaitRow>, StoreError> {
        let is_it = |row: &WaitRow| row.pin.as_ref().is_some_and(|pin| *pin.field == *field && pin.value == value);
        let mut found: Vec<WaitRow> = Vec::new();
        self.all_waits(&mut |row| found.extend(Some(row).filter(is_it)))?;
        found.sort_by_key(|row| row.opened);
        Ok(found)
    }
    /// The waits that an event has ended, of runs that have not ended: one of a run, in the order of the runs' ids; at most `limit`
    /// (0 for no limit).
    fn waits_ended_by(&self, event: EventId, limit: usize) -> Result<Vec<WaitRow>, StoreError> {
        let mut found: Vec<WaitRow> = Vec::new();
        self.all_waits(&mut |row| found.extend(Some(row).filter(|row| row.event() == Some(event))))?;
        found.sort_by_key(|row| row.wait.run);
        found.truncate(if limit == 0 { usize::MAX } else { limit });
        Ok(found)
    }
    /// Where each function that is started by the clock stands in its schedules, by the functions' ids, then by the schedules.
    fn crons(&self) -> Result<Vec<CronRow>, StoreError>;
    /// Calls `each` with every stored row of a counting gate, maybe also with some that have expired.
    fn all_windows(&self, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError>;
    /// Every function that is or was paused, by name.
    fn pauses(&self) -> Result<Vec<PauseRow>, StoreError>;
    /// The value that scripts keep under a key, maybe also one that has expired.
    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError>;
    /// A run's log in order of commit, from line `from` (0 for all), at most `limit` lines (0 for no limit).
    fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError>;
    /// A stored version of a handler.
    fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError>;
    /// The hashes of the stored versions of the handler at this path, in any order. A store that only stands in for one says none.
    fn sources_of(&self, _handler: &str) -> Result<Vec<Arc<str>>, StoreError> {
        Ok(Vec::new())
    }
    /// The hashes of stored versions that no run names, in any order; it may look at every run. A store that deletes none says
    /// none.
    fn unneeded_sources(&self) -> Result<Vec<Arc<str>>, StoreError> {
        Ok(Vec::new())
    }
    /// Figures about it.
    fn stats(&self) -> Result<Stats, StoreError>;
    /// Writes a consistent copy to a new file while the store is in use; `progress` gets pages done and pages in all.
    fn backup(&self, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError>;
    /// Reads the whole store for faults; each line names one, none means sound.
    fn check(&self) -> Result<Vec<String>, StoreError>;
    /// What its commits have come to so far; a store that counts nothing says so by zeros.
    fn figures(&self) -> Figures {
        Figures::default()
    }
    /// A fault that the store found by itself (a failed flush, a corrupt page): the engine has to stop.
    fn fault(&self) -> Option<StoreError> {
        None
    }
}
