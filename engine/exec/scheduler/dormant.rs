//! Runs that are left in the store when the engine starts: suspended, with nothing else that hangs on them.
//!
//! Of a million of them few go on in the next minutes, so nothing is known here but where they stand and when they go on. One is taken up when
//! its time has come, when it has what it waits for, or when its function begins to ask more of its runs.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use crate::base::dense::DenseIdMap;
use crate::base::{Millis, RunId};
use crate::project::Function;
use crate::rules::{Dormant, RunState};

use super::{Due, Scheduler};

/// So many are read at once when their time has come.
const TAKEN_AT_ONCE: usize = 1_024;

/// Where a run stands.
#[derive(Clone, Copy)]
struct Stand {
    /// By its place in `functions`.
    function: u32,
    state: RunState,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct DormantRuns {
    runs: DenseIdMap<Stand>,
    functions: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
}

impl DormantRuns {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.runs.reserve(more);
    }

    /// No more are to come soon: the room that was made for others is given back where there are none.
    pub(super) fn settle(&mut self) {
        if self.runs.is_empty() {
            *self = DormantRuns::default();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn contains(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    pub(super) fn insert(&mut self, run: &Dormant) {
        let function = match self.places.get(&run.function) {
            Some(place) => *place,
            None => {
                let place = self.functions.len() as u32;
                self.functions.push(Arc::clone(&run.function));
                self.places.insert(Arc::clone(&run.function), place);
                place
            }
        };
        self.runs.insert(run.run, Stand { function, state: run.state });
    }

    /// Forgets a run; whether it was there.
    pub(super) fn remove(&mut self, run: RunId) -> bool {
        self.runs.swap_remove(&run).is_some()
    }

    /// The runs of these functions.
    pub(super) fn of(&self, is_meant: impl Fn(&Arc<str>) -> bool) -> Vec<RunId> {
        let meant: Vec<bool> = self.functions.iter().map(is_meant).collect();
        let all = self.runs.iter().filter(|(_, stand)| meant.get(stand.function as usize).copied().unwrap_or(false));
        all.map(|(run, _)| *run).collect()
    }

    /// How many stand in each state, by function.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&Arc<str>, [u64; RunState::ALL.len()])> {
        let mut counts = vec![[0; RunState::ALL.len()]; self.functions.len()];
        for (_, stand) in self.runs.iter() {
            if let Some(states) = counts.get_mut(stand.function as usize) {
                states[stand.state as usize] += 1;
            }
        }
        self.functions.iter().zip(counts)
    }
}

impl Scheduler {
    /// Leaves a run of this function, if it is declared, in the store, if it may be left there: it has nothing that others wait for, and
    /// nothing ends it but its own time.
    pub(super) fn leave(&mut self, run: &Dormant, function: Option<&Function>) -> bool {
        let may = function.is_none_or(|function| function.limits.is_empty() && function.timeouts.finish.is_none());
        if may {
            self.dormant.insert(run);
            self.timers.extend(run.wake.map(|wake| Reverse((wake, run.run, Due::Rouse))));
        }
        may
    }

    /// Takes up those of these runs that are dormant.
    pub(super) fn rouse(&mut self, mut runs: Vec<RunId>) {
        runs.retain(|run| self.dormant.remove(*run));
        if runs.is_empty() {
            return;
        }
        match self.inner.store.outlines(&runs) {
            // Of one that has ended meanwhile there is none.
            Ok(rows) => rows.iter().for_each(|row| self.take_up(row)),
            Err(error) => self.inner.fail(error),
        }
    }

    /// Takes up the run of a timer, and the other dormant ones whose time has come by `now`.
    pub(super) fn rouse_due(&mut self, run: RunId, now: Millis) {
        let mut runs = vec![run];
        while runs.len() < TAKEN_AT_ONCE
            && let Some(Reverse((at, run, Due::Rouse))) = self.timers.peek()
            && *at <= now
        {
            runs.push(*run);
            self.timers.pop();
        }
        self.rouse(runs);
    }
}
