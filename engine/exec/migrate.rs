//! Runs that are taken to the newest version of their handler by hand: those that are pinned to theirs, or parked.

use std::sync::Arc;

use crate::base::RunId;
use crate::rules::{Conflict, Expect, List, RunRow, RunState, Unfit, Write};
use crate::script::Held;
use crate::store::{Lane, StoreError};

use super::Engine;
use super::fit::check;
use super::scheduler::Message;

/// Why a run was not taken to the newest handler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    /// There is no such run.
    #[error("there is no such run")]
    NotFound,
    /// It has ended.
    #[error("the run has ended: it is {}", .0.word())]
    Ended(RunState),
    /// It is at work, on the version that it has.
    #[error("the run is at work; it can be taken to another version once it waits or sleeps")]
    AtWork,
    /// Its function is not declared any more.
    #[error("events.yaml does not declare its function `{0}` any more")]
    FunctionGone(Arc<str>),
    /// The newest handler does not fit its record.
    #[error("its record does not fit the newest handler: {0}")]
    Unfit(Unfit),
    /// The engine is about to stop.
    #[error("the engine is draining")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run that is on the newest handler.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrated {
    /// The run as it is now.
    pub run: RunRow,
    /// The version that it was on; none where it has not begun.
    pub from: Option<Arc<str>>,
    /// The version that it goes on with.
    pub to: Arc<str>,
}

impl Engine {
    /// Takes a run to the newest version of its handler, if that fits its record; a parked one goes on. With `dry_run` all is
    /// checked, and nothing done.
    ///
    /// # Errors
    /// As `MigrateError` says; nothing is changed then.
    pub async fn migrate(&self, run: RunId, dry_run: bool) -> Result<Migrated, MigrateError> {
        if self.is_draining() {
            return Err(MigrateError::Draining);
        }
        loop {
            let inner = Arc::clone(&self.inner);
            // It runs the script's own code, so it has a thread of its own.
            let runtime = tokio::runtime::Handle::current();
            let work = tokio::task::spawn_blocking(move || {
                let row = inner.store.run(run)?.ok_or(MigrateError::NotFound)?;
                if row.state.is_terminal() {
                    return Err(MigrateError::Ended(row.state));
                }
                if row.state == RunState::Running {
                    return Err(MigrateError::AtWork);
                }
                let project = inner.project();
                let gone = || MigrateError::FunctionGone(Arc::clone(&row.function));
                let source = project.function(&row.function).ok_or_else(gone)?.program.source().clone();
                match runtime.block_on(check(&*inner.store, &project, &inner.clock, &inner.entropy, &row))? {
                    None => Err(MigrateError::NotFound),
                    Some(Held::Unfit(why)) => Err(MigrateError::Unfit(why)),
                    Some(_) => Ok((row, source)),
                }
            });
            let (row, source) = work.await.map_err(|_| StoreError::Closed)?.inspect_err(|error| {
                if let MigrateError::Store(error) = error {
                    self.inner.meets(error);
                }
            })?;
            let (from, to) = (row.version.clone(), Arc::clone(&source.hash));
            let is_there = from.as_ref().is_none_or(|from| *from == to);
            let is_parked = row.state == RunState::Parked;
            if dry_run || (is_there && !is_parked) {
                return Ok(Migrated { run: row, from, to });
            }
            let now = self.inner.clock.now();
            let mut writes = Vec::new();
            if !is_there {
                writes.extend([Write::PutSource(source), Write::Adopt { run, version: Arc::clone(&to) }]);
            }
            if is_parked {
                writes.push(Write::RetryNow { run, at: now, anew: true });
            }
            let list = List { expect: vec![Expect::RunRev { run, rev: row.rev }], writes };
            let ticket = self.inner.store.commit(Lane::Steps, vec![list]);
            match self.inner.outcome(ticket).await?.into_iter().next() {
                Some(Ok(())) => {
                    let mut row = RunRow { version: from.is_some().then(|| Arc::clone(&to)), ..row };
                    if is_parked {
                        row = RunRow { rev: row.rev + 1, state: RunState::Queued, wake: Some(now), error: None, reason: None, ..row };
                        self.inner.notify_run(run, &row.function, row.state, now);
                        self.inner.tell(Message::Again(Box::new(row.clone())));
                    }
                    return Ok(Migrated { run: row, from, to });
                }
                // It has moved on meanwhile: decide again on what is there now.
                Some(Err(Conflict::RunMoved { .. })) => tokio::task::yield_now().await,
                Some(Err(_)) | None => return Err(MigrateError::NotFound),
            }
        }
    }
}
