//! What is lent to workers, see `exec/relay.rs`, and what is known here of how far they have come.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::base::{Millis, RunId};
use crate::rules::RunState;
use crate::rules::queue::Order;
use crate::script::Stop;

use super::super::relay::{After, Relay};
use super::super::worker::Assign;
use super::{Due, Scheduler};

/// Runs that are lent at most behind one.
pub(super) const LENT: usize = 128;
/// Slots whose next runs are lent at once: each is looked at whenever a worker says something.
const RELAYS: usize = 64;

impl Scheduler {
    /// The relay behind a run that is about to begin, which itself stands behind others: none where nobody can be lent.
    pub(super) fn relay_behind(&mut self, run: RunId, before: &[RunId]) -> Option<Arc<Relay>> {
        if self.relays.len() >= RELAYS {
            return None;
        }
        let relay = Arc::new(Relay::behind(before));
        self.lend(run, &relay);
        if relay.len() == 0 {
            return None;
        }
        self.relays.insert(run, Arc::clone(&relay));
        Some(relay)
    }

    /// Lends out those that come after a run in its slot, where it has the slot alone and nobody else may come before them.
    fn lend(&mut self, run: RunId, relay: &Relay) {
        let room = LENT.saturating_sub(relay.len());
        if room < LENT / 2 || !self.queue.lends(run) {
            return;
        }
        self.read_ahead(run, room);
        let (live, fresh) = (&self.live, &self.fresh);
        let may = |order: &Order| fresh.contains_key(&order.run) && live.get(&order.run).is_some_and(|live| !live.begun && !live.collects);
        let orders = self.queue.lend(run, room, may);
        let (project, last) = (self.inner.project(), orders.last().copied());
        let mut lent = Vec::with_capacity(orders.len());
        for order in orders {
            let live = self.live.get(&order.run);
            let function = live.and_then(|live| project.function(&live.function));
            let (Some(live), Some(function), Some(made)) = (live, function, self.fresh.remove(&order.run)) else {
                // Of a function that is gone: it is found out when its turn comes.
                self.queue.push(order, &[]);
                self.deadlocks.entered(order.run);
                continue;
            };
            let (function, made) = (Arc::clone(function), Some(made));
            let (rev, at, behind) = (live.rev, Millis(0), Vec::new());
            let (stop, after) = (Stop::new(), After::Line);
            lent.push(Assign { run: order.run, rev, at, function, given: None, behind, made, stop, after });
        }
        self.lent += lent.len();
        self.lent_last = self.lent_last.max(last);
        relay.lend(lent);
    }

    /// Takes note of who has begun in the relays.
    pub(super) fn catch_up(&mut self) {
        if self.relays.is_empty() {
            return;
        }
        let holders: Vec<RunId> = self.relays.keys().copied().collect();
        for holder in holders {
            let Some(relay) = self.relays.get(&holder).map(Arc::clone) else { continue };
            let passed = relay.passed();
            if !passed.is_empty() {
                let holder = self.passed(holder, passed);
                self.lend(holder, &relay);
            }
        }
    }

    /// Takes back all that is lent and has not begun.
    pub(super) fn recall_all(&mut self) {
        let holders: Vec<RunId> = self.relays.keys().copied().collect();
        holders.into_iter().for_each(|holder| self.recall(holder));
    }

    /// Takes back what is lent behind a run, or behind whoever has its slot by now.
    pub(super) fn recall(&mut self, holder: RunId) {
        let Some(relay) = self.relays.get(&holder).map(Arc::clone) else { return };
        let (passed, back) = relay.recall();
        let holder = self.passed(holder, passed);
        self.relays.remove(&holder);
        self.lent -= back.len();
        if self.relays.is_empty() {
            self.lent_last = None;
        }
        for assign in back {
            let Some(live) = self.live.get(&assign.run) else { continue };
            let order = Order { fresh: true, enter_ms: live.enter_ms, run: assign.run };
            self.fresh.extend(assign.made.map(|made| (assign.run, made)));
            self.queue.push(order, &[]);
            // Whoever looks for runs that wait for each other in a circle looks at those in line alone.
            self.deadlocks.entered(assign.run);
        }
    }

    /// The slot of a run was passed on, from one to the next: who has it now.
    fn passed(&mut self, mut holder: RunId, passed: Vec<(RunId, Arc<Stop>)>) -> RunId {
        if passed.is_empty() {
            return holder;
        }
        let (project, now) = (self.inner.project(), self.inner.clock.now());
        let relay = self.relays.remove(&holder);
        for (run, stop) in passed {
            self.lent -= 1;
            self.executing += 1;
            self.queue.vacate(holder);
            self.queue.take(run);
            // The worker knows better which ends come before its start.
            self.queue.behind(run);
            if let Some(live) = self.live.get_mut(&run) {
                (live.stop, live.state, live.wake, live.begun) = (Some(stop), RunState::Running, None, true);
                live.rev += 1;
                let finish = project.function(&live.function).and_then(|function| function.timeouts.finish);
                self.timers.extend(finish.map(|finish| Reverse((now.after(finish), run, Due::FinishTimeout))));
            }
            holder = run;
        }
        self.relays.extend(relay.map(|relay| (holder, relay)));
        holder
    }
}
