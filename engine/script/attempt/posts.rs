//! What an attempt asks of the engine around it: things to be sent, and waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::base::limits::STEP_RESULT_BYTES;
use crate::base::{EventId, Json, Millis, alloc};
use crate::rules::fit::is_under;
use crate::rules::row::Recorded;
use crate::rules::run::Outcome;
use crate::rules::waits::{self, Turn};
use crate::rules::{AttemptRow, Expect, Failure, Kind, List, Record, Resolution, RunState, WaitKey, WaitRow, WaitState, Write};
use crate::store::StoreError;

use super::super::error::{Fault, StepError, verdict};
use super::super::post::{OwnWrites, Parcel, PostError, Reply};
use super::super::{run, value};
use super::{Attempt, Halt, Made};

/// What the engine does is not the script's memory.
struct Uncounted<F>(F);

impl<F: Future + Unpin> Future for Uncounted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        alloc::uncounted(|| Pin::new(&mut self.0).poll(context))
    }
}

/// A wait that is to be opened, and the parcel that starts what it waits for.
pub(in crate::script) struct Opening {
    pub(in crate::script) row: WaitRow,
    pub(in crate::script) parcel: Option<Box<dyn Parcel>>,
}

impl Attempt {
    /// Ends the script before it begins something new, where the engine is about to stop.
    pub(in crate::script) fn demand_time(&self) -> Result<(), Fault> {
        if self.stop.is_draining() { Err(self.halt(Halt::Stop(Outcome::Interrupted))) } else { Ok(()) }
    }

    /// What is pending, to be committed together with what the engine makes of a demand.
    fn checkpoint(&self, record: Option<Record>, wait: Option<WaitRow>) -> Result<OwnWrites, Fault> {
        self.demand_footing()?;
        let mut own = self.own.borrow_mut();
        let (mut writes, _) = own.take();
        alloc::uncounted(|| {
            writes.extend(wait.clone().map(Write::OpenWait));
            let run = &self.call.run;
            Ok(OwnWrites { list: List { expect: vec![Expect::RunRev { run: run.id, rev: run.rev }], writes }, record, wait })
        })
    }

    /// Waits until the engine has done it.
    fn deliver<T>(&self, reply: Reply<T>) -> Result<T, Fault> {
        match self.deliver_all(|| self.wait(Uncounted(reply)))? {
            Ok(done) => Ok(done),
            Err(PostError::Lost) => Err(self.halt(Halt::Stop(Outcome::Lost))),
            Err(PostError::Store(error)) => Err(self.halt(Halt::Store(error))),
        }
    }

    /// Commits a parcel together with its record, and gives the record's value.
    pub(in crate::script) fn hand_over(&self, parcel: Box<dyn Parcel>, record: Record) -> Result<Json, Fault> {
        let with = self.checkpoint(Some(record), None)?;
        let writes = with.list.writes.clone();
        let stored = self.deliver(parcel.commit(with))?;
        self.tell(&writes);
        // The wait for the disk is not the script's time.
        self.own.borrow_mut().began = self.now();
        match stored {
            Some(record) => {
                self.ports.watch.recorded(&self.call.run, &record);
                match record.result {
                    Recorded::Value(json) => Ok(json),
                    _ => Ok(Json::from("null")),
                }
            }
            None => Ok(Json::from("null")),
        }
    }

    /// The record that comes next, for `hand_over`.
    pub(in crate::script) fn record_of(&self, key: &WaitKey, json: &str, made: Made) -> Result<Record, Fault> {
        let json = alloc::uncounted(|| Json::from(json));
        self.next_record(Arc::clone(&key.key), key.kind, Recorded::Value(json), made)
    }

    /// Something that failed for good at its first attempt: it is recorded as failed, and a StepError is thrown.
    pub(in crate::script) fn used_up(&self, key: &WaitKey, failure: Failure, made: Made) -> Fault {
        let mut failure = self.hide(failure);
        failure.step = Some(key.key.to_string());
        failure.attempts = Some(1);
        let failure = alloc::uncounted(|| Arc::new(failure));
        self.add_attempt(AttemptRow {
            key: Arc::clone(&key.key),
            attempt: 1,
            started: made.started,
            ended: self.now(),
            error: Arc::clone(&failure),
            next: None,
            line: made.line.clone(),
        });
        let recorded = self.append(Arc::clone(&key.key), key.kind, Recorded::Failed(Arc::clone(&failure)), made);
        match recorded.and_then(|()| self.commit()) {
            Ok(()) => StepError::fault(failure),
            Err(fault) => fault,
        }
    }

    /// What the script hands over for something that has its place among the records is wrong. That is recorded: where the script catches
    /// the error and goes on, it has to find the place taken when it is replayed.
    pub(in crate::script) fn wrong(&self, key: &WaitKey, fault: Fault, made: Made) -> Fault {
        if self.is_halted() {
            return fault;
        }
        self.used_up(key, self.failure(&fault), made)
    }

    /// The like for a sleep and for what is drawn: nothing is tried there, so no attempt is noted, and the record goes with the next commit.
    pub(in crate::script) fn refused(&self, key: Arc<str>, kind: Kind, fault: Fault, made: Made) -> Fault {
        if self.is_halted() {
            return fault;
        }
        let failure = Failure { step: Some(key.to_string()), attempts: Some(1), ..self.hide(self.failure(&fault)) };
        let failure = alloc::uncounted(|| Arc::new(failure));
        match self.append(key, kind, Recorded::Failed(Arc::clone(&failure)), made) {
            Ok(()) => StepError::fault(failure),
            Err(fault) => fault,
        }
    }

    /// What an error of a native is stored as; the script's place shows where it is not caught.
    fn failure(&self, fault: &Fault) -> Failure {
        Failure { trace: Vec::new(), ..verdict(fault, self.program.main()).failure }
    }

    // ---- waits ----

    /// The events that the run's waits have had.
    fn remember(&self, row: WaitRow) {
        let mut waits = self.common.waits.borrow_mut();
        alloc::uncounted(|| match waits.iter_mut().find(|old| old.wait == row.wait) {
            Some(old) => *old = row,
            None => waits.push(row),
        });
    }

    fn known(&self, wait: &WaitKey) -> Option<WaitRow> {
        self.common.waits.borrow().iter().find(|row| row.wait == *wait).cloned()
    }

    /// What a wait that is not recorded has come to, with its row; ends the script where nothing has.
    pub(in crate::script) fn come_to(
        &self,
        wait: &WaitKey,
        open: impl FnOnce(Millis) -> Result<Opening, Fault>,
    ) -> Result<(Resolution, WaitRow), Fault> {
        let mut open = Some(open);
        let mut looked = false;
        // What is done about a wait that is there already goes into no list of this run, and must not come before what it has recorded.
        if self.known(wait).is_some() {
            self.commit_records()?;
        }
        loop {
            let row = self.known(wait);
            let now = self.now();
            match (waits::turn(row.as_ref(), now), row) {
                (Turn::Record(with), Some(row)) => return Ok((with, row)),
                (Turn::Suspend(_) | Turn::TimeOut, Some(row)) if !looked => {
                    // The attempt that opened it may have ended before it had looked back.
                    looked = true;
                    let post = &self.ports.post;
                    let now_is = self.deliver(alloc::uncounted(|| post.open(&self.call.run, row, None)))?;
                    self.remember(now_is);
                }
                (Turn::TimeOut, _) => {
                    let now_is = self.deliver(alloc::uncounted(|| self.ports.post.time_out(wait)))?;
                    self.remember(now_is);
                }
                (Turn::Suspend(until), _) => {
                    let outcome = Outcome::Suspended { state: RunState::Waiting, wake: until, error: None };
                    return Err(self.halt(Halt::Stop(outcome)));
                }
                (Turn::Open | Turn::Record(_), _) => {
                    // It is opened once: afterwards its row is known.
                    let Some(open) = open.take() else { return Err(self.halt(Halt::Stop(Outcome::Lost))) };
                    self.open(open(now)?)?;
                    looked = true;
                }
            }
        }
    }

    fn open(&self, opening: Opening) -> Result<(), Fault> {
        let Opening { row, parcel } = opening;
        // From here on it may be stored, also where this branch is ended before it hears of that.
        self.common.waited.set(true);
        let with = self.checkpoint(None, Some(row.clone()))?;
        let writes = with.list.writes.clone();
        let row = match parcel {
            Some(parcel) => {
                self.deliver(parcel.commit(with))?;
                row
            }
            None => self.deliver(alloc::uncounted(|| self.ports.post.open(&self.call.run, row, Some(with))))?,
        };
        self.tell(&writes);
        self.remember(row);
        Ok(())
    }

    /// Records what a wait came to; it becomes durable with the next commit, until when its row says the same.
    pub(in crate::script) fn record_wait(&self, row: WaitRow, result: Recorded, made: Made) -> Result<(), Fault> {
        let event = row.event();
        let wait = row.wait.clone();
        let came = waits::came(&row).map(|came| came.max(self.came()));
        self.append(Arc::clone(&wait.key), wait.kind, result, made)?;
        if let Some(came) = came {
            self.came.set(came);
        }
        alloc::uncounted(|| self.own.borrow_mut().pending.push(Write::RecordWait(wait)));
        self.remember(WaitRow { state: WaitState::Recorded(event), ..row });
        Ok(())
    }

    /// Records what a race came to, by the end of a branch that came at this time. What the others wait for goes with the record: nothing
    /// ends their waits any more, and what they have invoked is cancelled.
    pub(in crate::script) fn end_race(&self, key: Arc<str>, result: Recorded, made: Made, came: Millis) -> Result<(), Fault> {
        let before = self.came();
        self.append(Arc::clone(&key), Kind::Race, result, made)?;
        self.came.set(came.max(before));
        let is_left = |row: &WaitRow| is_under(&row.wait.key, &key) && !matches!(row.state, WaitState::Recorded(_));
        let left: Vec<WaitRow> = alloc::uncounted(|| self.common.waits.borrow().iter().filter(|row| is_left(row)).cloned().collect());
        if left.is_empty() {
            return self.commit_soon();
        }
        let with = self.checkpoint(None, None)?;
        let writes = with.list.writes.clone();
        self.deliver(alloc::uncounted(|| self.ports.post.leave(Arc::clone(&key), left, with)))?;
        self.tell(&writes);
        self.common.waits.borrow_mut().retain(|row| !is_left(row));
        // The wait for the disk is not the script's time.
        self.own.borrow_mut().began = self.now();
        Ok(())
    }

    /// A stored event as the script sees it, as JSON text.
    pub(in crate::script) fn stored_event(&self, id: EventId) -> Result<Json, Fault> {
        let found = match self.ports.post.event(id) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let missing = StoreError::Corrupt(format!("a wait of run {} came to event {id}, which is not there", self.call.run.id));
                return Err(self.halt(Halt::Store(missing)));
            }
            Err(error) => return Err(self.halt(Halt::Store(error))),
        };
        let text = value::write(&run::event(&found), "the event", STEP_RESULT_BYTES)?;
        Ok(alloc::uncounted(|| Json::from(text)))
    }

    /// The key of a wait or a sending.
    pub(in crate::script) fn key_of(&self, kind: Kind, key: Arc<str>) -> WaitKey {
        WaitKey { run: self.call.run.id, kind, key }
    }
}
