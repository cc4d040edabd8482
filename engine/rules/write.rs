//! The writes that a decision is made of, and what they expect to find.

use std::sync::Arc;

use crate::base::{EventId, Json, Millis, RunId};

use super::cron::{CronKey, CronRow};
use super::gates::{GateKeys, WindowRow};
use super::outcome::Outcome;
use super::policy::Retention;
use super::row::{AttemptRow, EventRow, Failure, LogRow, Record, Recorded, RunRow, RunState, SourceRow};
use super::waits::{Resolution, WaitKey, WaitRow};

/// What is committed together or not at all: expectations first, then writes, both in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct List {
    /// Checked in order within the transaction, before the writes of this list.
    pub expect: Vec<Expect>,
    /// Carried out in order.
    pub writes: Vec<Write>,
}

impl List {
    /// The list as it is tried again after a full disk: others may have been carried out meanwhile, and what it has counted must not
    /// take the place of what they have counted since.
    #[must_use]
    pub fn again(mut self) -> List {
        for write in &mut self.writes {
            if let Write::PutWindow(row) = write {
                *write = Write::RaiseWindow(row.clone());
            }
        }
        self
    }
}

/// Bytes of a value that weigh as much as one more row.
const ROW_BYTES: usize = 2_048;

impl List {
    /// What it costs to carry out, in rows; at least one, since its expectations cost as much as a row. Large values weigh
    /// more: what they take is pages in the log.
    pub fn weight(&self) -> usize {
        self.writes.iter().map(rows).sum::<usize>().max(1)
    }

    /// Whether a power loss may take it back as long as nothing that came after it is durable: true of a list that does nothing
    /// but mark a run as started. Nobody was told of that as a fact, the script has nothing recorded yet, and a run whose start
    /// is lost starts once more, as one does whose engine was killed. A crash of the process takes nothing back.
    pub fn may_be_lost(&self) -> bool {
        self.writes.iter().all(|write| matches!(write, Write::Start { .. }))
    }
}

/// What one write costs, in rows.
fn rows(write: &Write) -> usize {
    let length = |text: &Option<Json>| text.as_deref().map_or(0, str::len);
    match write {
        Write::Sweep { most, .. } => *most as usize,
        Write::InsertEvent(event) => 1 + (event.data.len() + length(&event.extra)) / ROW_BYTES,
        Write::End { output, .. } => 1 + length(output) / ROW_BYTES,
        Write::PutValue(row) => 1 + row.value.len() / ROW_BYTES,
        Write::IfOpen { writes, .. } => writes.iter().map(rows).sum(),
        Write::Append { record, .. } => match &record.result {
            Recorded::Value(value) => 1 + value.len() / ROW_BYTES,
            _ => 1,
        },
        _ => 1,
    }
}

/// What has to hold for a list to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// No event of this name and dedupe key was accepted that is still in its window at `now`.
    EventKeyFree {
        /// The event's name.
        name: Arc<str>,
        /// The sender's id or the request's seed and number.
        key: Arc<str>,
        /// The time of the decision.
        now: Millis,
    },
    /// No run of this function has this idempotency key in its window at `now`.
    IdempotencyFree {
        /// The function's id.
        function: Arc<str>,
        /// The key's value as canonical JSON text.
        key: Arc<str>,
        /// The time of the decision.
        now: Millis,
    },
    /// The run is still at this revision.
    RunRev {
        /// The run.
        run: RunId,
        /// The revision that the decision was made on.
        rev: u32,
    },
    /// The run is there and has not ended, whatever its revision.
    NotEnded(RunId),
    /// The run is running.
    Running(RunId),
    /// The run has ended, or is not there any more.
    RunOver(RunId),
    /// The event is stored.
    EventStored(EventId),
    /// The wait is there and open. Where an event is to resolve it: the event is stored, and no other wait of the run
    /// has had it.
    WaitOpen {
        /// The wait.
        wait: WaitKey,
        /// The event.
        event: Option<EventId>,
    },
    /// The function stands there in this schedule; nowhere where it is none.
    CronAt {
        /// The schedule, and whose it is.
        cron: CronKey,
        /// The last time of the schedule that was decided on.
        last: Option<Millis>,
    },
    /// The run is queued and has not begun.
    RunOpen(RunId),
}

/// Why a list was skipped: what was found instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// An event with that name and key is there.
    EventKeyTaken(EventId),
    /// A run of this function has that key. The run itself may be deleted already.
    IdempotencyTaken(Arc<str>, RunId),
    /// The run is at another revision, in this state.
    RunMoved {
        /// Its revision now.
        rev: u32,
        /// Its state now.
        state: RunState,
    },
    /// The run has not ended.
    RunUnderWay(RunId),
    /// There is no such run.
    RunGone,
    /// There is no such event.
    EventGone,
    /// The wait is not open, or the event cannot resolve it.
    WaitClosed,
    /// The function stands elsewhere in the schedule.
    CronMoved,
    /// The run has begun or ended, or is not there.
    RunBegun(RunId),
}

/// A value that scripts keep under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvRow {
    /// The key.
    pub key: Arc<str>,
    /// The value as JSON text.
    pub value: Json,
    /// When it is gone; never, where there is none.
    pub expires: Option<Millis>,
}

impl KvRow {
    /// Whether it is still there at that time.
    pub fn is_there(&self, now: Millis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// Whether a function is paused. A function that never was has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRow {
    /// The function's id.
    pub function: Arc<str>,
    /// Whether it is.
    pub paused: bool,
    /// Since when it is, or since when it is not any more.
    pub since: Millis,
}

/// One change. Every change of a run's state raises its `rev` by one; records, attempts and log lines do not.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Stores an accepted event.
    InsertEvent(EventRow),
    /// Takes a dedupe key until `expires`.
    TakeEventKey {
        /// The event's name.
        name: Arc<str>,
        /// The sender's id or the request's seed and number.
        key: Arc<str>,
        /// The event that has it.
        event: EventId,
        /// End of its window.
        expires: Millis,
    },
    /// Takes an idempotency key until `expires`.
    TakeIdempotency {
        /// The function's id.
        function: Arc<str>,
        /// The key's value.
        key: Arc<str>,
        /// The run that has it.
        run: RunId,
        /// End of its window.
        expires: Millis,
    },
    /// Notes what a gate of a function said about an event, in place of what it said before; nothing where the event is
    /// gone. It is deleted with its event.
    NoteOutcome {
        /// The event.
        event: EventId,
        /// The function's id.
        function: Arc<str>,
        /// What the gate said.
        outcome: Outcome,
    },
    /// Stores what a counting gate has counted.
    PutWindow(WindowRow),
    /// The same, unless what is stored in its place counts more.
    RaiseWindow(WindowRow),
    /// Stores a new run (its `rev` as given).
    CreateRun(RunRow),
    /// Puts a run off that has not begun, and gives it another event, with what was evaluated on that.
    /// Nothing but another `rev` where it has a newer one.
    Retarget {
        /// The run.
        run: RunId,
        /// Its event from now on.
        event: EventId,
        /// When it enters the queue.
        enter: Millis,
        /// The value of each concurrency key.
        keys: Arc<[Arc<str>]>,
        /// Head start in the queue, in milliseconds.
        priority_ms: i64,
        /// The values of its gates' keys.
        gates: Option<Arc<GateKeys>>,
    },
    /// Adds an event to a run that has not begun. No change of state, so without a new `rev`.
    AddEvent {
        /// The run.
        run: RunId,
        /// The event.
        event: EventId,
        /// When the run enters the queue, where that changes.
        enter: Option<Millis>,
    },
    /// queued → running: a worker is about to start it. Sets `started` and `version` the first time only.
    Start {
        /// The run.
        run: RunId,
        /// The time.
        at: Millis,
        /// The handler's version in force.
        version: Arc<str>,
    },
    /// From here on the run's journal is made by another version of its handler, which fits what there was before. No
    /// change of state, so without a new `rev`.
    Adopt {
        /// The run.
        run: RunId,
        /// The version.
        version: Arc<str>,
    },
    /// running → sleeping, waiting or backing off.
    Suspend {
        /// The run.
        run: RunId,
        /// The state it goes to.
        state: RunState,
        /// When it goes on by itself.
        wake: Option<Millis>,
        /// The attempt that comes next for the code between steps.
        attempt: u32,
        /// The error that it backs off from.
        error: Option<Arc<Failure>>,
    },
    /// Any state but terminal → queued, and what the run backs off from is due at once. Clears `error` and `reason`.
    RetryNow {
        /// The run.
        run: RunId,
        /// The time.
        at: Millis,
        /// Whether it has given its slots back, as one that was parked, and stands in line for them: then `wake` is this time, which
        /// `RunRow::holds_slots` reads; else it is cleared.
        anew: bool,
    },
    /// Any state but terminal → queued: woken, drained, recovered. Clears `wake`, `error` and `reason`.
    Requeue {
        /// The run.
        run: RunId,
        /// What speaks against it from now on: see `recovery`.
        suspects: u32,
    },
    /// Any state but terminal → parked.
    Park {
        /// The run.
        run: RunId,
        /// Why it cannot go on.
        reason: Arc<str>,
    },
    /// Any state but terminal → completed, failed or cancelled.
    End {
        /// The run.
        run: RunId,
        /// The terminal state.
        state: RunState,
        /// The time.
        at: Millis,
        /// The result, if completed.
        output: Option<Json>,
        /// The error, if failed.
        error: Option<Arc<Failure>>,
        /// The reason, if cancelled.
        reason: Option<Arc<str>>,
    },
    /// Other writes, carried out in order where the run is there and has not ended, and left out else.
    IfOpen {
        /// The run.
        run: RunId,
        /// The writes.
        writes: Vec<Write>,
    },
    /// Pauses or resumes a function; the row before is replaced.
    Pause(PauseRow),
    /// Adds a record to a run's journal; sets the run's `attempt` to 1 and its `suspects` to 0, without a new `rev`.
    Append {
        /// The run.
        run: RunId,
        /// The record.
        record: Record,
    },
    /// Adds a failed attempt.
    Attempt {
        /// The run.
        run: RunId,
        /// The attempt.
        attempt: AttemptRow,
    },
    /// Adds a line to a run's log.
    Log {
        /// The run.
        run: RunId,
        /// The line.
        line: LogRow,
    },
    /// Stores a wait. One that was written before, and is recorded, is opened anew.
    OpenWait(WaitRow),
    /// Open → resolved.
    ResolveWait {
        /// The wait.
        wait: WaitKey,
        /// What it came to.
        with: Resolution,
    },
    /// Resolved → recorded: its run has the record now.
    RecordWait(WaitKey),
    /// Stores a value under its key, in place of what was there.
    PutValue(KvRow),
    /// Deletes the value under a key.
    DropValue(Arc<str>),
    /// Deletes a wait that its run gives up, unless the run has recorded it: an event that it has had is not had any more.
    DropWait(WaitKey),
    /// Deletes the waits of a run that ends.
    DropWaits(RunId),
    /// Stores a handler's sources, unless they are there.
    PutSource(SourceRow),
    /// Deletes a handler's sources.
    DropSource(Arc<str>),
    /// Stores where a function stands in one of its schedules.
    PutCron(CronRow),
    /// Forgets where a function stood in a schedule: it is not started by that any more.
    DropCron(CronKey),
    /// Gives back the idempotency keys, event keys, scripts' values and rows of gates that expired before `now`, and deletes ended runs (with journal,
    /// attempts and log) and unneeded events that are older than `keep` says: at most `most` of each in one list.
    Sweep {
        /// The time.
        now: Millis,
        /// How long what is kept.
        keep: Retention,
        /// The most rows of each kind.
        most: u32,
    },
}
