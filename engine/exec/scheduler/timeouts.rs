//! The time-outs of runs as wholes: `timeouts.start` and `timeouts.finish`.
//!
//! They are those of the snapshot in force: a timer says when to look, and what it finds then decides. While a run is parked nobody
//! ends it, so that people can look into it: nothing is known of it here. When it goes on, its time-outs are set anew, and one that is over
//! ends it before it does anything.

use std::cmp::Reverse;

use crate::base::{Millis, RunId};
use crate::rules::RunRow;
use crate::rules::policy::Timeouts;

use super::{Due, Scheduler};

impl Scheduler {
    /// Sets the time-outs of a run whose function has these.
    pub(super) fn arm_timeouts(&mut self, row: &RunRow, timeouts: Timeouts) {
        match row.started {
            None if timeouts.start.is_some() => self.arm_start(row.id, &row.function, row.enter),
            None => {}
            Some(began) => {
                let latest = timeouts.latest_end(began);
                self.timers.extend(latest.map(|latest| Reverse((latest, row.id, Due::FinishTimeout))));
            }
        }
    }

    /// A run is given up if it has not begun so long after it enters the queue.
    pub(super) fn arm_start(&mut self, run: RunId, function: &str, enter: Millis) {
        let latest = self.latest_start(function, enter);
        self.timers.extend(latest.map(|latest| Reverse((latest, run, Due::StartTimeout))));
    }

    /// When a run has to have begun that enters the queue at `enter`; none where nothing says so.
    fn latest_start(&self, function: &str, enter: Millis) -> Option<Millis> {
        self.inner.project().function(function)?.timeouts.latest_start(enter, self.inner.resumed(function))
    }

    /// A run has waited for its first start for as long as it may, unless that has been put off or taken away since.
    pub(super) fn start_timeout(&mut self, at: Millis, run: RunId) {
        let Some(live) = self.live.get(&run) else { return };
        match self.latest_start(&live.function, live.enter) {
            Some(later) if later > at => self.timers.push(Reverse((later, run, Due::StartTimeout))),
            Some(_) => {
                // It must not start while its cancel is under way.
                self.queue.remove(run);
                self.cancel(run, "timeouts.start: it waited too long for its first start");
            }
            None => {}
        }
    }

    /// A run has taken as long as it may, unless that has been put off or taken away since.
    pub(super) fn finish_timeout(&mut self, at: Millis, run: RunId) {
        match self.latest_end(run) {
            Some(later) if later > at => self.timers.push(Reverse((later, run, Due::FinishTimeout))),
            Some(_) => {
                // It must not go on while its cancel is under way; its slots are free once that is stored.
                self.queue.leave(run);
                self.cancel(run, "timeouts.finish: it took too long since its first start");
            }
            None => {}
        }
    }

    /// When a run has to have ended; none where nothing says so.
    fn latest_end(&self, run: RunId) -> Option<Millis> {
        let live = self.live.get(&run)?;
        let timeouts = self.inner.project().function(&live.function)?.timeouts;
        timeouts.finish?;
        match self.inner.store.run(run) {
            Ok(row) => timeouts.latest_end(row?.started?),
            Err(error) => {
                self.inner.fail(error);
                None
            }
        }
    }
}
