//! A power cut: it takes back starts that nothing has made durable since, and nothing else. Such a run stands where it stood before, and
//! starts again.

use stepwell::base::{Millis, RunId};
use stepwell::rules::RunState;

use super::super::straight::Straight;
use super::Facts;

/// What a start changes of a run, as it was before.
pub(super) struct Before {
    state: RunState,
    heard: Option<Millis>,
    started: Option<Millis>,
    gave_back: bool,
    made_with: Option<usize>,
    runs_on: usize,
    straight: Straight,
    starts: (u32, Option<u32>),
}

impl Facts {
    /// A run that is about to be started, as it is.
    pub(super) fn before(&self, id: RunId) -> Option<Before> {
        let run = self.runs.get(&id)?;
        Some(Before {
            state: run.state,
            heard: run.heard,
            started: run.started,
            gave_back: run.gave_back,
            made_with: run.made_with,
            runs_on: run.runs_on,
            straight: run.straight.clone(),
            starts: self.starts(id),
        })
    }

    /// A transaction was carried out; whether a power cut may take it back until the next one that is flushed.
    pub fn is_written(&mut self, may_be_lost: bool) {
        let starting = std::mem::take(&mut self.starting);
        if may_be_lost {
            self.unsure.push(starting);
        } else {
            self.unsure.clear();
        }
    }

    /// A power cut has taken back so many of the newest transactions.
    pub fn taken_back(&mut self, transactions: usize, now: Millis) {
        let from = self.unsure.len().saturating_sub(transactions);
        for (id, before) in self.unsure.split_off(from).into_iter().flatten().rev() {
            self.note(now, &format!("a power cut took back the start of {id}"));
            let Before { state, heard, started, gave_back, made_with, runs_on, straight, starts } = before;
            self.put_starts(id, starts);
            if let Some(run) = self.runs.get_mut(&id) {
                (run.state, run.heard, run.started, run.gave_back) = (state, heard, started, gave_back);
                (run.made_with, run.runs_on, run.straight) = (made_with, runs_on, straight);
            }
        }
    }
}
