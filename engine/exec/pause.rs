//! Functions that are paused: their runs that have begun go on, those that have not wait until the function is resumed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use crate::base::{Millis, RunId};
use crate::rules::queue::{Order, Want};
use crate::rules::{List, PauseRow, Write};
use crate::store::{Lane, StoreError};

use super::scheduler::Message;
use super::{Engine, Inner};

/// Why a function was neither paused nor resumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// No function of that id is declared.
    #[error("there is no function `{0}`")]
    NotFound(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The pauses that are stored, by function.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<Arc<str>, PauseRow>);

impl Pauses {
    pub(super) fn of(rows: Vec<PauseRow>) -> Pauses {
        Pauses(rows.into_iter().map(|row| (Arc::clone(&row.function), row)).collect())
    }
}

impl Engine {
    /// Pauses a function, or lets it go on; once this is done no run of a paused function begins. Gives the pause as it
    /// is then, which is the one before where it was paused, or not paused, already.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn pause(&self, function: &str, paused: bool) -> Result<PauseRow, PauseError> {
        let inner = &self.inner;
        let project = inner.project();
        let declared = project.functions.iter().find(|declared| *declared.id == *function);
        let id = declared.map(|declared| Arc::clone(&declared.id)).ok_or_else(|| PauseError::NotFound(function.to_owned()))?;
        if let Some(row) = inner.pause_of(&id).filter(|row| row.paused == paused) {
            return Ok(row);
        }
        let row = PauseRow { function: Arc::clone(&id), paused, since: inner.clock.now() };
        if !paused && inner.pause_of(&id).is_none() {
            // It never was.
            return Ok(row);
        }
        let list = List { expect: Vec::new(), writes: vec![Write::Pause(row.clone())] };
        for verdict in inner.outcome(inner.store.commit(Lane::Steps, vec![list])).await? {
            // It expects nothing, so there is nothing to conflict with.
            debug_assert!(verdict.is_ok());
        }
        inner.pauses.write().unwrap_or_else(PoisonError::into_inner).0.insert(id, row.clone());
        let (reply, done) = oneshot::channel();
        inner.tell(Message::Pause { row: row.clone(), reply });
        // A scheduler that has stopped starts nothing.
        let _ = done.await;
        Ok(row)
    }

    /// The functions that are paused.
    pub fn paused(&self) -> std::collections::HashSet<Arc<str>> {
        self.inner.paused_functions().into_iter().collect()
    }

    /// Since when a function is paused; none where it is not.
    pub fn paused_since(&self, function: &str) -> Option<Millis> {
        self.inner.pause_of(function).filter(|row| row.paused).map(|row| row.since)
    }
}

impl Inner {
    pub(super) fn pause_of(&self, function: &str) -> Option<PauseRow> {
        self.pauses.read().unwrap_or_else(PoisonError::into_inner).0.get(function).cloned()
    }

    /// When a function was resumed last; none where it is paused, or never was.
    pub(super) fn resumed(&self, function: &str) -> Option<Millis> {
        self.pause_of(function).filter(|pause| !pause.paused).map(|pause| pause.since)
    }

    pub(super) fn is_paused(&self, function: &str) -> bool {
        let pauses = self.pauses.read().unwrap_or_else(PoisonError::into_inner);
        pauses.0.get(function).is_some_and(|row| row.paused)
    }

    pub(super) fn paused_functions(&self) -> Vec<Arc<str>> {
        let pauses = self.pauses.read().unwrap_or_else(PoisonError::into_inner);
        pauses.0.values().filter(|row| row.paused).map(|row| Arc::clone(&row.function)).collect()
    }

    /// Why a run of a paused function does not begin: a sentence.
    pub(super) fn why_paused(&self, function: &str, now: Millis) -> String {
        let since = self.pause_of(function).map(|row| now.since(row.since));
        let since = since.map(|span| format!(" for {}", crate::base::Span(span.0 / 1000 * 1000))).unwrap_or_default();
        format!("paused: `{function}` is paused{since}; `stepwell functions resume {function}` lets it begin")
    }
}

/// The runs of paused functions that have not begun, as the scheduler keeps them beside the queue.
#[derive(Default)]
pub(super) struct Held {
    functions: HashMap<Arc<str>, BTreeMap<Order, Vec<Want>>>,
    /// Where each run stands.
    runs: HashMap<RunId, (Arc<str>, Order)>,
}

impl Held {
    /// Whether the runs of a function are held.
    pub(super) fn holds(&self, function: &str) -> bool {
        !self.functions.is_empty() && self.functions.contains_key(function)
    }

    /// The runs of a function are held from now on.
    pub(super) fn begin(&mut self, function: Arc<str>) {
        self.functions.entry(function).or_default();
    }

    /// The runs of a function are held no longer: all of them, in the order of the queue.
    pub(super) fn end(&mut self, function: &str) -> BTreeMap<Order, Vec<Want>> {
        let runs = self.functions.remove(function).unwrap_or_default();
        runs.keys().for_each(|order| drop(self.runs.remove(&order.run)));
        runs
    }

    /// Keeps a run of a function whose runs are held.
    pub(super) fn keep(&mut self, function: &Arc<str>, order: Order, wants: Vec<Want>) {
        self.forget(order.run);
        if let Some(runs) = self.functions.get_mut(function) {
            runs.insert(order, wants);
            self.runs.insert(order.run, (Arc::clone(function), order));
        }
    }

    /// A run is not there any more, or stands elsewhere from now on.
    pub(super) fn forget(&mut self, run: RunId) {
        if let Some((function, order)) = self.runs.remove(&run)
            && let Some(runs) = self.functions.get_mut(&function)
        {
            runs.remove(&order);
        }
    }

    /// Whether a run is held.
    pub(super) fn has(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// How many runs are held.
    pub(super) fn count(&self) -> usize {
        self.runs.len()
    }
}
