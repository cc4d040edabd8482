//! Holds what a run has recorded against a handler, without any effect.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::{Clock, Entropy};
use crate::project::{Function, Project};
use crate::rules::{EventRow, RunRow, WaitRow, ended};
use crate::script::{self, Call};
use crate::store::{Journal, Loaded, Store, StoreError};

/// What a handler is held against records with.
#[derive(Clone, Copy)]
pub(super) struct Bench<'p> {
    pub(super) project: &'p Project,
    pub(super) function: &'p Function,
    pub(super) clock: &'p Arc<dyn Clock>,
    pub(super) entropy: &'p Arc<dyn Entropy>,
}

impl Bench<'_> {
    /// Whether the function's handler asks for all of these records before it asks for anything else; the first difference
    /// where it does not.
    pub(super) async fn fits(
        self,
        run: &RunRow,
        event: EventRow,
        batch: Vec<EventRow>,
        journal: Journal,
        waits: Vec<WaitRow>,
    ) -> Result<(), Arc<str>> {
        // As on another version than the one that made the records: an error before the last of them does not fit either.
        let run = RunRow { version: Some(Arc::from("")), started: Some(run.started.unwrap_or(run.created)), ..run.clone() };
        // The script of an `on_failure` sees the event of the run that failed.
        let failed = ended::failing_function(&run.function).and_then(|_| ended::failed(&event));
        let (failed, event) = failed.map_or((None, event), |(failed, cause)| (Some(failed), cause));
        let call = Call {
            failed,
            run,
            event,
            batch,
            journal,
            waits,
            retry: self.function.retry.clone(),
            timeouts: self.function.timeouts,
            surroundings: Arc::clone(&self.project.surroundings),
        };
        let program = Arc::clone(&self.function.program);
        script::fits(program, Rc::new(call), Arc::clone(self.clock), Arc::clone(self.entropy)).await
    }

    /// The same for a stored run with all that it has recorded; none where it is not there any more.
    pub(super) async fn fits_stored(self, store: &dyn Store, run: &RunRow) -> Result<Option<Result<(), Arc<str>>>, StoreError> {
        let Some(Loaded { run, event, batch, journal }) = store.load(&[run.id])?.pop() else { return Ok(None) };
        let waits = store.waits(run.id)?;
        Ok(Some(self.fits(&run, event, batch, journal, waits).await))
    }
}
