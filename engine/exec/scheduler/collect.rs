//! Runs that collect events before they begin.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::base::RunId;
use crate::rules::gates::Seat;
use crate::rules::matching::Join;
use crate::rules::{EventRow, RunRow, RunState};

use super::{Due, Scheduler};

impl Scheduler {
    /// An event has become part of a run that has not begun.
    pub(super) fn joined(&mut self, join: Join, event: Arc<EventRow>) {
        let run = join.run;
        let Some(live) = self.live.get_mut(&run) else {
            // The word of its creation is still to come, and may come as it is.
            return self.take_up_stored(run);
        };
        if live.begun {
            // Its start finds it at another revision, and then it is looked at again.
            return;
        }
        match join.seat {
            Seat::First { .. } | Seat::Beside { full: false, .. } => {}
            Seat::Beside { full: true, .. } => {
                // As it is stored, however long the word of it took: its place in line must be the same after a restart.
                let enter = event.accepted;
                (live.enter, live.wake, live.enter_ms) = (enter, Some(enter), enter.0);
                let function = Arc::clone(&live.function);
                // Its time may have been over while the event was on its way: then it stands in line, at the place of that time.
                self.held.forget(run);
                self.queue.remove(run);
                self.timers.push(Reverse((enter, run, Due::Wake)));
                self.arm_start(run, &function, enter);
            }
            Seat::Instead { enter, .. } => {
                let Some(made) = self.fresh.get_mut(&run) else {
                    // It goes on as it is stored; its window stays open.
                    self.live.swap_remove(&run);
                    self.held.forget(run);
                    self.queue.remove(run);
                    return self.take_up_stored(run);
                };
                live.rev += 1;
                made.run.rev = live.rev;
                if made.run.event > event.id {
                    return;
                }
                made.run = RunRow {
                    event: event.id,
                    enter,
                    keys: join.keys,
                    priority_ms: join.priority_ms,
                    gates: join.gates,
                    ..made.run.clone()
                };
                made.event = event;
                live.enter_ms = enter.0 - join.priority_ms;
                live.enter = enter;
                // One timer a run: it is set anew when it goes off too early.
                let is_sooner = live.wake.is_none_or(|wake| enter < wake);
                live.wake = Some(enter);
                let stood_in_line = self.queue.is_queued(run) || self.held.has(run);
                if stood_in_line {
                    self.held.forget(run);
                    self.queue.remove(run);
                }
                let row = stood_in_line.then(|| made.run.clone());
                let function = Arc::clone(&live.function);
                if is_sooner || stood_in_line {
                    self.timers.push(Reverse((enter, run, Due::Wake)));
                }
                if is_sooner {
                    self.arm_start(run, &function, enter);
                }
                if let Some(row) = row {
                    self.reopen(&row);
                }
            }
        }
    }

    /// A run that has not begun is taken up as it is stored.
    pub(super) fn take_up_stored(&mut self, run: RunId) {
        match self.inner.store.run(run) {
            Ok(Some(row)) if row.state == RunState::Queued && row.started.is_none() => {
                self.reopen(&row);
                self.take_up(&row);
            }
            Ok(_) => {}
            Err(error) => self.inner.fail(error),
        }
    }

    /// A run that was put off in the moment in which it was about to start collects events again.
    pub(super) fn reopen(&self, row: &RunRow) {
        let mut gates = self.inner.gates();
        let opened = self.inner.load_open(&mut gates, row);
        drop(gates);
        if let Err(error) = opened {
            self.inner.fail(error);
        }
    }
}
