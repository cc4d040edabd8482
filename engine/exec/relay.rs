//! Runs that go one after another in one slot, lent by the scheduler to the worker that has the one before them.
//!
//! Where a thousand runs of one key stand in line, to ask the scheduler after each of them who is next takes several times as long as most
//! scripts. So it lends out those that come next; the worker begins them in that order, each when the one before hands its end to
//! the store. Until then they are as if they stood in line: the scheduler takes back those that have not begun whenever anything
//! else happens that might concern them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{Millis, RunId};
use crate::script::Stop;

use super::worker::Assign;

/// Ends on their way to the disk behind which another run begins: its start expects all of them.
const ENDING_MOST: usize = 128;

/// Who has the slots of a run after it, as far as that was known when it began.
#[derive(Clone)]
pub(super) enum After {
    /// Nobody waits for them.
    Nobody,
    /// Others in line, of whom the scheduler knows.
    Line,
    /// Others who are lent; where there are none any more, it is as above.
    Lent(Arc<Relay>),
}

/// See the module's head. The scheduler and one worker hold it.
pub(super) struct Relay {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that come next.
    next: VecDeque<Assign>,
    /// Those that have begun since the scheduler last looked.
    passed: Vec<(RunId, Arc<Stop>)>,
    /// Those whose ends are on their way.
    ending: Vec<RunId>,
    /// Those behind which the first one began, until an end in the relay is durable, which none is before theirs.
    before: Vec<RunId>,
}

impl Relay {
    /// A relay whose first run begins behind these ends.
    pub(super) fn behind(before: &[RunId]) -> Relay {
        Relay { state: Mutex::new(State { before: before.to_vec(), ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run hands its end to the store: the one that takes its slot and begins now, if one does.
    pub(super) fn pass(relay: &Arc<Relay>, run: RunId, now: Millis) -> Option<Assign> {
        let mut state = relay.state();
        if state.ending.len() >= ENDING_MOST {
            return None;
        }
        let mut assign = state.next.pop_front()?;
        state.ending.push(run);
        state.passed.push((assign.run, Arc::clone(&assign.stop)));
        assign.at = now;
        assign.behind = state.before.iter().chain(&state.ending).copied().collect();
        assign.after = After::Lent(Arc::clone(relay));
        Some(assign)
    }

    /// The end of a run is durable, or (then it is not `stored`) it has been moved on by somebody else.
    pub(super) fn ended(&self, run: RunId, stored: bool) {
        let mut state = self.state();
        state.ending.retain(|other| *other != run);
        if stored {
            state.before.clear();
        }
    }

    /// Lends out more, which come after those that are there.
    pub(super) fn lend(&self, more: Vec<Assign>) {
        self.state().next.extend(more);
    }

    /// How many have not begun.
    pub(super) fn len(&self) -> usize {
        self.state().next.len()
    }

    /// Those that have begun since the last look, in order.
    pub(super) fn passed(&self) -> Vec<(RunId, Arc<Stop>)> {
        std::mem::take(&mut self.state().passed)
    }

    /// Takes back those that have not begun; those that have since the last look are told as well.
    pub(super) fn recall(&self) -> (Vec<(RunId, Arc<Stop>)>, VecDeque<Assign>) {
        let mut state = self.state();
        (std::mem::take(&mut state.passed), std::mem::take(&mut state.next))
    }
}
