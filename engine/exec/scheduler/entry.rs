//! How runs come to be known: those that the store holds at the start, new ones, and those of functions that are paused.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::base::RunId;
use crate::rules::queue::{Order, Want};
use crate::rules::recovery::SUSPECT_RUNS_ALONE;
use crate::rules::{PauseRow, RunRow, RunState};
use crate::store::StoreError;

use super::super::recovery;
use super::{Due, Live, Scheduler};

impl Scheduler {
    /// Takes up every unfinished run of the store; nothing begins meanwhile.
    pub(super) async fn take_up_all(&mut self) -> Result<(), StoreError> {
        let (inner, end) = (Arc::clone(&self.inner), self.end);
        self.queue.advance(inner.clock.now());
        let mut failed = None;
        let mut invoked: Vec<(RunId, RunId)> = Vec::new();
        let mut take_up = |row: RunRow| {
            invoked.extend(row.invoked_by.map(|parent| (row.id, parent)));
            let mut gates = inner.gates();
            gates.load_run(&row);
            failed = failed.take().or(inner.load_open(&mut gates, &row).err());
            drop(gates);
            self.take_up(&row);
        };
        let interrupted = recovery::recover(&inner, end, &mut take_up).await?;
        interrupted.into_iter().for_each(take_up);
        failed.map_or(Ok(()), Err)?;
        invoked.retain(|(_, parent)| !self.live.contains_key(parent));
        for (run, reason) in recovery::orphans(&inner, &invoked)? {
            inner.cancel_surely(run, &reason).await;
        }
        // They are forgotten before anything begins.
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
        Ok(())
    }

    /// A stored run joins the queue or the timers.
    pub(super) fn take_up(&mut self, row: &RunRow) {
        self.know(row, row.holds_slots());
    }

    /// As `take_up`; `holds` says whether it has its slots already.
    pub(super) fn know(&mut self, row: &RunRow, holds: bool) {
        if row.state == RunState::Parked {
            self.parked.insert(row.id, Arc::clone(&row.function));
            return;
        }
        self.parked.remove(&row.id);
        if self.live.contains_key(&row.id) {
            return;
        }
        let run = row.id;
        let mut live = Live::of(row);
        let wants = self.wants(row);
        if holds {
            self.queue.hold(run, &wants);
        }
        self.arm_timeouts(row);
        let now = self.inner.clock.now();
        match row.state {
            RunState::Waiting if self.resolved.remove(&run) => {
                self.queue.push(Order { fresh: false, enter_ms: live.enter_ms, run }, &wants)
            }
            RunState::Sleeping | RunState::Waiting | RunState::BackingOff => {
                if let Some(wake) = row.wake {
                    self.timers.push(Reverse((wake, run, Due::Wake)));
                }
            }
            _ if row.enter > now && row.started.is_none() => {
                live.wake = Some(row.enter);
                self.timers.push(Reverse((row.enter, run, Due::Wake)));
            }
            _ if row.suspects >= SUSPECT_RUNS_ALONE => {
                // It stands in no line, but takes its slots when it starts.
                self.queue.know(run, &wants);
                self.suspects.push_back(run);
                self.timers.push(Reverse((self.quiet_until, run, Due::Company)));
            }
            _ => {
                self.enqueue(&row.function, Order { fresh: row.started.is_none(), enter_ms: live.enter_ms, run }, wants);
                if row.invoked_by.is_some() {
                    self.deadlocks.entered(run);
                }
            }
        }
        self.live.insert(run, live);
    }

    /// Puts a run in line, unless its function is paused and it has not begun.
    pub(super) fn enqueue(&mut self, function: &Arc<str>, order: Order, wants: Vec<Want>) {
        if order.fresh && self.held.holds(function) {
            self.held.keep(function, order, wants);
        } else {
            self.queue.push(order, &wants);
        }
    }

    /// A pause holds the runs of a function that is declared. One that is gone cannot be resumed, so its runs are parked like those of
    /// others that are gone, and only when it is back are new ones held again.
    pub(super) fn hold_paused(&mut self) {
        let project = self.inner.project();
        let paused = self.inner.paused_functions().into_iter();
        let (there, gone): (Vec<_>, Vec<_>) = paused.partition(|function| project.function(function).is_some());
        for order in gone.iter().flat_map(|function| self.held.end(function).into_keys()) {
            self.deadlocks.entered(order.run);
            self.queue.push(order, &[]);
        }
        self.hold(&there);
    }

    /// Holds the runs of functions that have not begun, those too that stand in line: one walk for all of them, along the lines in which
    /// one may stand.
    fn hold(&mut self, functions: &[Arc<str>]) {
        if functions.is_empty() {
            return;
        }
        functions.iter().for_each(|function| self.held.begin(Arc::clone(function)));
        let is_meant = |order: &Order| order.fresh && self.live.get(&order.run).is_some_and(|live| self.held.holds(&live.function));
        for (order, wants) in self.queue.take_out(|function| self.held.holds(function), is_meant) {
            if let Some(live) = self.live.get(&order.run) {
                self.held.keep(&live.function, order, wants);
            }
        }
    }

    pub(super) fn pause(&mut self, row: &PauseRow) {
        let PauseRow { function, paused, since } = row;
        if *paused {
            return self.hold(std::slice::from_ref(function));
        }
        self.crons.resume(function);
        for (order, wants) in self.held.end(function) {
            self.arm_start(order.run, function, *since);
            self.deadlocks.entered(order.run);
            self.queue.push(order, &wants);
        }
    }
}
