//! How the engine finds what waits: in memory, and where waits from before the start were left there, in the store.

use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

use crate::base::{RunId, json};
use crate::expr::EventView;
use crate::rules::{EventRow, WaitKey, WaitRow, WaitState, What};
use crate::store::StoreError;

use super::Inner;
use super::wait_index::Index;

impl Inner {
    /// The open waits, to be looked at.
    pub(super) fn waits(&self) -> RwLockReadGuard<'_, Index> {
        self.waits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open waits, to be changed.
    pub(super) fn waits_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.waits.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The waits that an event resolves, if they are open still and no wait of their run before them has it: that is for the
    /// store to say, since one of those before may be about to have another event.
    pub(super) fn awaiting(&self, index: &Index, row: &EventRow) -> Result<Vec<WaitKey>, StoreError> {
        if !index.awaits(&row.name) {
            return Ok(Vec::new());
        }
        let Ok(data) = json::value(&row.data) else { return Ok(Vec::new()) };
        let id = row.id.to_string();
        let event = EventView { id: &id, name: &row.name, data: &data, ts: row.ts.0 };
        // Those in the store were opened before all that have come into memory since the start.
        let mut found = index.fitting_stored(event, |field, value| self.store.pinned(field, value))?;
        found.extend(index.fitting(event));
        Ok(found)
    }

    /// Whether a wait is open in the store; yes where that cannot be read.
    pub(super) fn is_open(&self, wait: &WaitKey) -> bool {
        match self.store.waits(wait.run) {
            Ok(rows) => rows.iter().any(|row| row.wait == *wait && row.state == WaitState::Open),
            Err(error) => {
                self.fail(error);
                true
            }
        }
    }

    /// The waits of a run that goes on; nothing is read where it never had any. Those that were left in the store come into memory.
    pub(super) fn waits_of(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        let (is_known, may_have_stored) = {
            let index = self.waits();
            (index.knows(run), index.may_have_stored(run))
        };
        if !is_known && !may_have_stored {
            return Ok(Vec::new());
        }
        let mut rows = self.store.waits(run)?;
        if may_have_stored && !rows.is_empty() {
            let mut index = self.waits_mut();
            // Whoever resolves a wait tells the index of it behind the commit. So an open one is read once more while nobody can do that:
            // it has to be open still, or the index would have it for ever.
            if rows.iter().any(|row| row.pin.is_some()) {
                rows = self.store.waits(run)?;
            }
            index.take_up(run, &rows);
        }
        Ok(rows)
    }

    /// The runs that a run waits for, where it waits for at least one, and for nothing else.
    pub(super) fn waits_for_runs(&self, index: &Index, run: RunId) -> Option<Vec<RunId>> {
        let children = index.waits_for_runs(run)?;
        if !index.may_have_stored(run) {
            return Some(children);
        }
        // One that has come to something lets the run go on, of which there may be no message yet.
        let is_child = |row: &WaitRow| match row.state {
            WaitState::Open => matches!(*row.what, What::Run(_)),
            WaitState::Resolved(_) => false,
            WaitState::Recorded(_) => true,
        };
        match self.store.waits(run) {
            Ok(rows) => rows.iter().all(is_child).then_some(children),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }
}
