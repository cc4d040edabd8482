//! Holds what a run has recorded against a handler, without any effect.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::{Clock, Entropy};
use crate::project::{Function, Project};
use crate::rules::ended::{self, Started};
use crate::rules::{EventRow, RunRow, Unfit, WaitRow};
use crate::script::{self, Call, Footing, Held, Program};
use crate::store::{Journal, Loaded, Store, StoreError};

use super::Engine;

/// What a handler is held against records with.
#[derive(Clone, Copy)]
pub(super) struct Bench<'p> {
    pub(super) project: &'p Project,
    pub(super) function: &'p Function,
    pub(super) clock: &'p Arc<dyn Clock>,
    pub(super) entropy: &'p Arc<dyn Entropy>,
}

impl Bench<'_> {
    /// What the function's handler does with these records: it has to ask for all of them before it asks for anything else.
    pub(super) async fn hold(self, run: &RunRow, event: EventRow, batch: Vec<EventRow>, journal: Journal, waits: Vec<WaitRow>) -> Held {
        // As on another version than the one that made the records: an error before the last of them does not fit either.
        let run = RunRow { version: Some(Arc::from("")), started: Some(run.started.unwrap_or(run.created)), ..run.clone() };
        // The script of an `on_failure` sees what the run had that failed.
        let failed = ended::failing_function(&run.function).and_then(|_| ended::failed(&event));
        let (failed, event, batch) =
            failed.map_or((None, event, batch), |(failed, Started { by, batch })| (Some(failed), by, batch.unwrap_or_default()));
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
            footing: Footing::firm(),
        };
        let program = Arc::clone(&self.function.program);
        script::held(program, Rc::new(call), Arc::clone(self.clock), Arc::clone(self.entropy)).await
    }

    /// The same for a stored run with all that it has recorded, and with the lines of both versions where it does not fit; none
    /// where the run is not there any more.
    pub(super) async fn hold_stored(self, store: &dyn Store, run: &RunRow) -> Result<Option<Held>, StoreError> {
        let Some(Loaded { run, event, batch, journal }) = store.load(&[run.id])?.pop() else { return Ok(None) };
        let waits = store.waits(run.id)?;
        Ok(Some(match self.hold(&run, event, batch, journal, waits).await {
            Held::Unfit(why) => Held::Unfit(with_texts(why, store, run.version.as_deref(), &self.function.program)?),
            held => held,
        }))
    }
}

/// Why a record does not fit a handler, with the lines of both: `version` is the one that made the record.
pub(super) fn with_texts(why: Unfit, store: &dyn Store, version: Option<&str>, program: &Program) -> Result<Unfit, StoreError> {
    let source = match version {
        Some(version) => store.source(version)?,
        None => None,
    };
    let files: serde_json::Map<String, serde_json::Value> =
        source.and_then(|source| serde_json::from_str(&source.files).ok()).unwrap_or_default();
    let before = |place: &str| {
        let (file, line) = place.rsplit_once(':')?;
        let text = files.get(file)?.as_str()?;
        text.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?).map(Arc::from)
    };
    Ok(why.with_texts(before, |place| program.text_at(place)))
}

/// What the handlers of a project do with a stored run; none where the run, or its function, is not there.
///
/// # Errors
/// The store's.
pub async fn check(
    store: &dyn Store,
    project: &Project,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    run: &RunRow,
) -> Result<Option<Held>, StoreError> {
    let Some(function) = project.function(&run.function) else { return Ok(None) };
    Bench { project, function, clock, entropy }.hold_stored(store, run).await
}

impl Engine {
    /// Why the record of a run does not fit the newest handler; none where it does, where the run has ended or has recorded
    /// nothing, and where that handler is the one that it is on.
    ///
    /// # Errors
    /// The store's.
    pub async fn unfit(&self, run: &RunRow) -> Result<Option<Unfit>, StoreError> {
        let inner = Arc::clone(&self.inner);
        let project = inner.project();
        let newest = project.function(&run.function).map(|function| Arc::clone(function.program.hash()));
        if run.state.is_terminal() || run.version.is_none() || run.version == newest {
            return Ok(None);
        }
        let run = run.clone();
        // It runs the script's own code, so it has a thread of its own.
        let runtime = tokio::runtime::Handle::current();
        let work =
            tokio::task::spawn_blocking(move || runtime.block_on(check(&*inner.store, &project, &inner.clock, &inner.entropy, &run)));
        Ok(match work.await.map_err(|_| StoreError::Closed)?? {
            Some(Held::Unfit(why)) => Some(why),
            Some(_) | None => None,
        })
    }
}
