//! Runs done again: as a new run that keeps what it is told to, or at once where one backs off or is parked.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::{EventId, RunId, json};
use crate::rules::gates::Collect;
use crate::rules::race::Races;
use crate::rules::replay::{self, Keep, Refusal};
use crate::rules::{AttemptRow, Conflict, Expect, GateKeys, List, Record, RunRow, RunState, Unfit, Write};
use crate::script::Held;
use crate::store::{Journal, Lane, StoreError};

use super::fit::Bench;
use super::scheduler::Message;
use super::{Engine, Inner};

/// Why a run was not done again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// There is no such run.
    #[error("there is no such run")]
    NotFound,
    /// It cannot be done again like this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its function is not declared any more.
    #[error("events.yaml does not declare its function `{0}` any more")]
    FunctionGone(Arc<str>),
    /// The newest handler does not ask for what is kept.
    #[error("the newest handler does not fit what is kept: {0}")]
    Unfit(Unfit),
    /// The engine is about to stop.
    #[error("the engine is draining")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a run was not tried again at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// There is no such run.
    #[error("there is no such run")]
    NotFound,
    /// There is nothing to try again.
    #[error("the run is {}: only one that backs off or is parked can be tried again at once", .0.word().replace('_', " "))]
    NothingToRetry(RunState),
    /// The engine is about to stop.
    #[error("the engine is draining")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run that is done again.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// The new run.
    pub run: RunRow,
    /// The keys of the steps whose records it keeps, in the order of the journal.
    pub kept: Vec<Arc<str>>,
}

/// What is needed to do a run again.
struct Prepared {
    original: RunRow,
    new: RunRow,
    /// The further events of its batch.
    batch: Vec<EventId>,
    kept: Vec<Record>,
}

impl Engine {
    /// Does a run that has ended, or is parked, again: as a new run for the same event on the newest handler, which passes
    /// `throttle` and `concurrency` and no other gate. Its effects happen again, but for what is kept. A parked run is
    /// cancelled by it. With `dry_run` all is checked, and nothing done; the id of the run that is answered is then not used.
    ///
    /// # Errors
    /// As `ReplayError` says; nothing is done then.
    pub async fn replay(&self, run: RunId, keep: &Keep, dry_run: bool) -> Result<Replayed, ReplayError> {
        if self.is_draining() {
            return Err(ReplayError::Draining);
        }
        loop {
            let (inner, wanted) = (Arc::clone(&self.inner), keep.clone());
            // It reads the store and runs the script's own code, so it has a thread of its own.
            let runtime = tokio::runtime::Handle::current();
            let work = tokio::task::spawn_blocking(move || runtime.block_on(prepare(&inner, run, &wanted)));
            let prepared = work.await.map_err(|_| StoreError::Closed)?.inspect_err(|error| {
                if let ReplayError::Store(error) = error {
                    self.inner.meets(error);
                }
            })?;
            if dry_run || self.inner.commit_replay(&prepared).await.inspect_err(|error| self.inner.meets(error))? {
                let shown = prepared.kept.iter().filter(|record| !record.kind.is_tiny());
                return Ok(Replayed { kept: shown.map(|record| Arc::clone(&record.key)).collect(), run: prepared.new });
            }
            // The original moved on meanwhile: decide again on what is there now.
            tokio::task::yield_now().await;
        }
    }

    /// Has a run that backs off go on at once, with all of its branches that do, and one that is parked try again. Answers
    /// the run as it is afterwards.
    ///
    /// # Errors
    /// As `RetryError` says; nothing is changed then.
    pub async fn retry_now(&self, run: RunId) -> Result<RunRow, RetryError> {
        if self.is_draining() {
            return Err(RetryError::Draining);
        }
        let inner = &self.inner;
        loop {
            let row = inner.store.run(run).inspect_err(|error| inner.meets(error))?.ok_or(RetryError::NotFound)?;
            let now = inner.clock.now();
            let backs_off = match row.state {
                RunState::BackingOff | RunState::Parked => true,
                // One of its branches may.
                RunState::Sleeping | RunState::Waiting => {
                    let journal = inner.store.journal(run).inspect_err(|error| inner.meets(error))?;
                    let races = Races::of(&journal.records);
                    let is_ahead = |attempt: &AttemptRow| attempt.next.is_some_and(|next| next > now) && !races.gave_up(attempt);
                    journal.attempts.iter().any(is_ahead)
                }
                _ => false,
            };
            if !backs_off {
                return Err(RetryError::NothingToRetry(row.state));
            }
            let anew = row.state == RunState::Parked;
            let list = List { expect: vec![Expect::RunRev { run, rev: row.rev }], writes: vec![Write::RetryNow { run, at: now, anew }] };
            match inner.outcome(inner.store.commit(Lane::Steps, vec![list])).await?.into_iter().next() {
                Some(Ok(())) => {
                    let row =
                        RunRow { rev: row.rev + 1, state: RunState::Queued, wake: anew.then_some(now), error: None, reason: None, ..row };
                    inner.notify_run(run, &row.function, row.state, now);
                    inner.tell(Message::Again(Box::new(row.clone())));
                    return Ok(row);
                }
                Some(Err(Conflict::RunMoved { .. })) => tokio::task::yield_now().await,
                Some(Err(_)) | None => return Err(RetryError::NotFound),
            }
        }
    }
}

/// Checks that the run can be done again, also against the newest handler, and makes the new one.
async fn prepare(inner: &Inner, run: RunId, keep: &Keep) -> Result<Prepared, ReplayError> {
    let original = inner.store.run(run)?.ok_or(ReplayError::NotFound)?;
    let journal = inner.store.journal(run)?;
    let recorded: HashSet<&str> = journal.records.iter().map(|record| &*record.key).collect();
    let waits = inner.store.waits(run)?;
    let begun = journal.attempts.iter().map(|attempt| &*attempt.key).chain(waits.iter().map(|wait| &*wait.wait.key));
    let open: Vec<&str> = begun.filter(|key| !key.is_empty() && !recorded.contains(key)).collect();
    let kept = replay::kept(&original, &journal.records, &open, keep)?;
    let batch = inner.store.batch(run)?;
    let mut rest = Vec::with_capacity(batch.len());
    for id in &batch {
        rest.extend(inner.store.event(*id)?);
    }
    if rest.len() < batch.len() {
        return Err(Refusal::BatchGone { had: batch.len() + 1, gone: batch.len() - rest.len() }.into());
    }
    let project = inner.project();
    let function = project.function(&original.function).ok_or_else(|| ReplayError::FunctionGone(Arc::clone(&original.function)))?;
    let event = inner.store.event(original.event)?.ok_or(Refusal::EventGone)?;
    let data = json::value(&event.data).unwrap_or_default();
    let candidate = project.invocation(function, &event, &data);
    let now = inner.clock.now();
    // By this key a run is known that has a batch.
    let collect = original.collects().filter(|_| !batch.is_empty() || matches!(function.collect, Some(Collect::Batch { .. })));
    let gates = GateKeys { collect: collect.cloned(), ..candidate.gates.keys().as_deref().cloned().unwrap_or_default() };
    let new = RunRow {
        keys: candidate.keys,
        gates: (gates != GateKeys::default()).then(|| Arc::new(gates)),
        replay_of: Some(original.id),
        ..RunRow::queued(inner.ids.next(now), Arc::clone(&function.id), event.id, now)
    };
    if !kept.is_empty() {
        let bench = Bench { project: &project, function, clock: &inner.clock, entropy: &inner.entropy };
        let journal = Journal { records: kept.clone(), attempts: Vec::new() };
        if let Held::Unfit(why) = bench.hold(&new, event, rest, journal, Vec::new()).await {
            return Err(ReplayError::Unfit(why));
        }
    }
    Ok(Prepared { original, new, batch, kept })
}

impl Inner {
    /// Stores the new run and cancels a parked original; false where it has to be decided again.
    async fn commit_replay(&self, prepared: &Prepared) -> Result<bool, StoreError> {
        let Prepared { original, new, batch, kept } = prepared;
        let now = new.created;
        let mut list = replay::list(original, new, batch, kept);
        let (ticket, doom) = if original.state == RunState::Parked {
            let index = self.waits();
            let doom = self.doom(&index, original.clone(), &replay::reason(new.id), now)?;
            // It has to be parked still, and not only unfinished.
            list.expect.push(Expect::RunRev { run: original.id, rev: original.rev });
            list.writes.extend(doom.list.writes.iter().cloned());
            (self.store.commit(Lane::Steps, vec![list]), Some(doom))
        } else {
            (self.store.commit(Lane::Steps, vec![list]), None)
        };
        match self.outcome(ticket).await?.into_iter().next() {
            Some(Ok(())) => {
                if let Some(doom) = doom {
                    self.cancelled(doom, now);
                }
                if let Some(event) = self.store.event(new.event)? {
                    self.listen(new, &event);
                }
                self.notify_run(new.id, &new.function, new.state, now);
                self.tell(Message::Again(Box::new(new.clone())));
                Ok(true)
            }
            Some(Err(_)) | None => Ok(false),
        }
    }
}
