//! How runs come to be known: those that the store holds at the start, new ones, and those of functions that are paused.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::{RunId, alloc};
use crate::project::{Function, Project};
use crate::rules::queue::{Order, Want};
use crate::rules::recovery::SUSPECT_RUNS_ALONE;
use crate::rules::{Dormant, PauseRow, RunRow, RunState};
use crate::store::{StoreError, TakeUp};

use super::super::recovery;
use super::super::wait_index::Index;
use super::{Due, Live, Scheduler};

/// What of the runs that the store held takes commits before it is settled.
#[derive(Default)]
pub(super) struct Unsettled {
    /// Those that were running when the last engine ended.
    interrupted: Vec<RunRow>,
    /// Each run that was invoked, with the one that did it.
    invoked: Vec<(RunId, RunId)>,
}

/// Takes up what the store tells at a start.
struct Found<'a> {
    scheduler: &'a mut Scheduler,
    unfinished: usize,
    project: Arc<Project>,
    /// Mostly the next run is of the same function, and says so with the same text.
    latest: Option<(Arc<str>, Option<Arc<Function>>)>,
    failed: Result<(), StoreError>,
}

impl Found<'_> {
    /// Looks up the function of the next run.
    fn look_up(&mut self, name: &Arc<str>) {
        if self.latest.as_ref().is_none_or(|(latest, _)| !Arc::ptr_eq(latest, name)) {
            self.latest = Some((Arc::clone(name), self.project.function(name).cloned()));
        }
    }
}

impl TakeUp for Found<'_> {
    fn leaves(&mut self, run: &Dormant) -> bool {
        self.look_up(&run.function);
        self.scheduler.leave(run, self.latest.as_ref().and_then(|(_, function)| function.as_deref()))
    }

    fn take_up(&mut self, row: RunRow) {
        let Scheduler { live, dormant, unsettled, .. } = &mut *self.scheduler;
        if live.is_empty() {
            live.reserve(self.unfinished.saturating_sub(dormant.len()));
        }
        if row.state == RunState::Running {
            unsettled.interrupted.push(row);
        } else if self.failed.is_ok() {
            self.look_up(&row.function);
            let function = self.latest.as_ref().and_then(|(_, function)| function.as_deref());
            self.failed = self.scheduler.take_up_found(&row, function);
        }
    }
}

impl Scheduler {
    /// Takes up the runs of the store that have not ended, of which there are so many, and whose ids go up to `last`, and files its waits,
    /// but for those that stay in the store; what takes commits is left to `settle`. To be done before anybody has a handle of the engine: an
    /// event that came before would miss waits.
    pub(in crate::exec) fn take_up_all(&mut self, unfinished: usize, last: RunId) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.hold_paused();
        self.queue.advance(inner.clock.now());
        // What grows while a million runs are taken up is copied again and again.
        let mut timers = std::mem::take(&mut self.timers).into_vec();
        timers.reserve(unfinished);
        alloc::prefer_large_pages(timers.spare_capacity_mut());
        self.timers = timers.into();
        self.dormant.reserve(unfinished);
        let (mut index, mut resolved) = (Index::default(), BTreeSet::new());
        let mut found = Found { unfinished, project: inner.project(), latest: None, failed: Ok(()), scheduler: self };
        if index.leave_in_store(inner.store.pinned_fields()?, last) {
            inner.store.start_from(&mut found, &mut |row| index.load(&row, &mut resolved))?;
        } else {
            inner.store.all_waits(&mut |row| index.load(&row, &mut resolved))?;
            inner.store.start_from(&mut found, &mut |_| {})?;
        }
        found.failed?;
        self.dormant.settle();
        index.shrink();
        *inner.waits_mut() = index;
        // What grew until all had been taken up has left as much behind as it takes now.
        alloc::give_back();
        // Which runs have something to record is known only now: the waits may have been read beside the runs.
        resolved.into_iter().for_each(|run| self.resolved(run));
        Ok(())
    }

    /// Settles the rest: what was interrupted is put back into the queue, and runs whose parents were cancelled are cancelled. Nothing
    /// begins meanwhile.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        let interrupted = std::mem::take(&mut self.unsettled.interrupted);
        for row in recovery::recover(&inner, self.end, interrupted).await? {
            self.take_up_found(&row, inner.project().function(&row.function).map(Arc::as_ref))?;
        }
        let mut invoked = std::mem::take(&mut self.unsettled.invoked);
        invoked.retain(|(_, parent)| !self.live.contains_key(parent) && !self.dormant.contains(*parent));
        for (run, reason) in recovery::orphans(&inner, &invoked)? {
            inner.cancel_surely(run, &reason).await;
        }
        Ok(())
    }

    /// Takes up a run that the store held, of this function if it is declared, with what the gates go by.
    fn take_up_found(&mut self, row: &RunRow, function: Option<&Function>) -> Result<(), StoreError> {
        self.unsettled.invoked.extend(row.invoked_by.map(|parent| (row.id, parent)));
        if row.gates.is_some() {
            let mut gates = self.inner.gates();
            gates.load_run(row);
            self.inner.load_open(&mut gates, row)?;
        }
        self.know_of(row, function, row.holds_slots());
        Ok(())
    }

    /// A stored run joins the queue or the timers.
    pub(super) fn take_up(&mut self, row: &RunRow) {
        self.know(row, row.holds_slots());
    }

    /// As `take_up`; `holds` says whether it has its slots already.
    pub(super) fn know(&mut self, row: &RunRow, holds: bool) {
        let project = self.inner.project();
        self.know_of(row, project.function(&row.function).map(Arc::as_ref), holds);
    }

    /// As `know`, of a run whose function, where there is one, is at hand.
    fn know_of(&mut self, row: &RunRow, function: Option<&Function>, holds: bool) {
        if row.state == RunState::Parked {
            self.parked.insert(row.id, Arc::clone(&row.function));
            return;
        }
        self.parked.remove(&row.id);
        self.dormant.remove(row.id);
        if self.live.contains_key(&row.id) {
            return;
        }
        let run = row.id;
        let mut live = Live::of(row);
        let wants = function.map(|function| wants(function, row)).unwrap_or_default();
        if holds {
            self.queue.hold(run, &wants);
        }
        if let Some(function) = function {
            self.arm_timeouts(row, function.timeouts);
        }
        match row.state {
            RunState::Sleeping | RunState::Waiting | RunState::BackingOff => {
                if let Some(wake) = row.wake {
                    self.timers.push(Reverse((wake, run, Due::Wake)));
                }
            }
            _ if row.started.is_none() && row.enter > self.inner.clock.now() => {
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
            self.line_up(order, &wants);
        }
    }

    /// Puts a run in line; what is lent is taken back where it may come before some of that.
    pub(super) fn line_up(&mut self, order: Order, wants: &[Want]) {
        self.queue.push(order, wants);
        if self.lent_last.is_some_and(|last| order < last) && self.queue.wants_any(order.run) {
            self.recall_all();
        }
    }

    /// What a run has to have before it goes on.
    pub(super) fn wants(&self, row: &RunRow) -> Vec<Want> {
        let project = self.inner.project();
        project.function(&row.function).map(|function| wants(function, row)).unwrap_or_default()
    }

    pub(super) fn stored_wants(&self, run: RunId) -> Vec<Want> {
        match self.inner.store.run(run) {
            Ok(Some(row)) => self.wants(&row),
            Ok(None) => Vec::new(),
            Err(error) => {
                self.inner.fail(error);
                Vec::new()
            }
        }
    }

    /// A pause holds the runs of a function that is declared. One that is gone cannot be resumed, so its runs are parked like those of
    /// others that are gone, and only when it is back are new ones held again.
    pub(super) fn hold_paused(&mut self) {
        let project = self.inner.project();
        let paused = self.inner.paused_functions().into_iter();
        let (there, gone): (Vec<_>, Vec<_>) = paused.partition(|function| project.function(function).is_some());
        let orders: Vec<Order> = gone.iter().flat_map(|function| self.held.end(function).into_keys()).collect();
        for order in orders {
            self.deadlocks.entered(order.run);
            self.line_up(order, &[]);
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
            self.line_up(order, &wants);
        }
    }
}

/// What a run of a function has to have before it goes on.
fn wants(function: &Function, row: &RunRow) -> Vec<Want> {
    let mut wants = function.wants(&row.keys);
    let key = row.gates.as_ref().and_then(|gates| gates.throttle.as_ref()).filter(|_| row.started.is_none());
    // Behind the limits: a run that waits for a slot takes nobody's start.
    wants.extend(function.throttle.zip(key).map(|(rule, key)| Want::start(&function.id, key, rule)));
    wants
}
