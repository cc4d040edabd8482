//! Who begins, and on which thread.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::limits::{COROUTINES_MOST, RUNS_EXECUTING};
use crate::base::{Id, Millis, RunId, Span};
use crate::rules::{Expect, Gate, List, RunState, WindowKey, WindowRow, Write};
use crate::script::Stop;
use crate::store::{Lane, Loaded};

use super::super::lines;
use super::super::relay::After;
use super::super::worker::{Assign, Batch};
use super::relays::LENT;
use super::{Created, Due, FRESH_KEPT, Scheduler};

/// Why a run of a function that is not there is parked.
const GONE: &str = "function gone: events.yaml does not declare its function any more";
/// How long a suspect runs alone before others may start beside it.
const ALONE: Span = Span::seconds(10);
/// Runs that are not worth being split between two desks: each share costs a commit and a wake-up.
const DEALT_LEAST: usize = 32;
impl Scheduler {
    pub(super) fn next_runs(&mut self, now: Millis) -> Vec<RunId> {
        if self.alone.is_some() {
            return Vec::new();
        }
        if let Some(&suspect) = self.suspects.front()
            && now >= self.quiet_until
        {
            if self.executing > 0 {
                return Vec::new();
            }
            self.suspects.pop_front();
            // Nothing executes, so there is room for it; what starts beside it later must find its slots taken.
            self.queue.take(suspect);
            self.alone = Some(suspect);
            self.timers.push(Reverse((now.after(ALONE), suspect, Due::Company)));
            return vec![suspect];
        }
        // Those that rest take no processor from the others, only memory.
        let busy = self.executing.saturating_sub(self.inner.resting.load(Ordering::Relaxed));
        let room = RUNS_EXECUTING.saturating_sub(busy).min(COROUTINES_MOST.saturating_sub(self.executing));
        self.queue.admit(room)
    }

    /// Starts runs, and deals them to the workers.
    pub(super) fn start(&mut self, runs: Vec<RunId>, now: Millis) {
        if runs.is_empty() {
            return;
        }
        let at_once = self.alone.is_none() && self.suspects.is_empty() && now >= self.careful_until;
        let project = self.inner.project();
        let mut assigns = Vec::with_capacity(runs.len());
        let mut gone = Vec::new();
        for run in runs {
            let (given, behind) = (self.queue.given(run), self.queue.behind(run));
            let is_awaited = self.queue.is_awaited(run);
            if is_awaited && !self.fresh.contains_key(&run) {
                self.read_ahead(run, LENT);
            }
            let Some(live) = self.live.get_mut(&run) else { continue };
            let Some(function) = project.function(&live.function) else {
                gone.push((run, live.rev, Arc::clone(&live.function)));
                continue;
            };
            let stop = Arc::new(Stop::default());
            live.stop = Some(Arc::clone(&stop));
            live.state = RunState::Running;
            live.wake = None;
            let rev = live.rev;
            live.rev += 1;
            let first = !std::mem::replace(&mut live.begun, true);
            // What joined it is read from the store; how it collects may be another way than when it was made.
            let collects = live.collects;
            if first && let Some(finish) = function.timeouts.finish {
                self.timers.push(Reverse((now.after(finish), run, Due::FinishTimeout)));
            }
            let given = given.map(|given| {
                let window = WindowKey { function: Arc::clone(&function.id), gate: Gate::Throttle, key: given.key };
                WindowRow { window, entry: Id(0), value: given.bucket.full_us, expires: given.bucket.expires() }
            });
            assigns.push(Assign {
                run,
                rev,
                at: now,
                function: Arc::clone(function),
                given,
                behind,
                made: self.fresh.remove(&run).filter(|_| !collects),
                stop,
                after: if is_awaited { After::Line } else { After::Nobody },
            });
            if is_awaited
                && at_once
                && let Some(assign) = assigns.last_mut()
                && let Some(relay) = self.relay_behind(run, &assign.behind)
            {
                assign.after = After::Lent(relay);
            }
        }
        for (run, rev, function) in gone {
            self.park_gone(run, rev, function, now);
        }
        self.executing += assigns.len();
        self.deal(assigns, at_once);
    }

    /// Reads the rows of a run and of those that take its slots next, where they are not in memory any more: many at once, since they go one by
    /// one, and none is to wait for that.
    pub(super) fn read_ahead(&mut self, run: RunId, most: usize) {
        let room = FRESH_KEPT.saturating_sub(self.fresh.len() + self.lent);
        let mut runs = self.queue.next_after(run, most.min(room));
        runs.push(run);
        let is_missing =
            |run: &RunId| self.live.get(run).is_some_and(|live| !live.begun && !live.collects) && !self.fresh.contains_key(run);
        runs.retain(is_missing);
        if runs.is_empty() {
            return;
        }
        match self.inner.store.load(&runs) {
            Ok(loaded) => {
                for Loaded { run, event, journal, .. } in loaded {
                    // A replay has records before it begins; it is loaded whole when it does.
                    let is_bare = journal.records.is_empty() && journal.attempts.is_empty();
                    if is_bare && self.live.get(&run.id).is_some_and(|live| live.rev == run.rev) {
                        self.fresh.insert(run.id, Box::new(Created { run, event: Arc::new(event) }));
                    }
                }
            }
            Err(error) => self.inner.fail(error),
        }
    }

    /// Deals to each desk its share, beginning with another one each time. The starts are handed to the store here, so that
    /// runs begin in the order in which they were let in. Scripts may begin `at_once`, before their starts are durable.
    fn deal(&mut self, mut assigns: Vec<Assign>, at_once: bool) {
        let share = assigns.len().div_ceil(self.desks.len()).max(DEALT_LEAST);
        while !assigns.is_empty() {
            let rest = assigns.split_off(share.min(assigns.len()));
            self.next_desk = (self.next_desk + 1) % self.desks.len();
            let ticket = self.inner.store.commit(Lane::Steps, assigns.iter().map(Assign::start).collect());
            // A worker is gone only when the engine is.
            let _ = self.desks[self.next_desk].send(Batch { assigns, ticket, at_once });
            assigns = rest;
        }
    }

    fn park_gone(&mut self, run: RunId, rev: u32, function: Arc<str>, now: Millis) {
        self.forget(run);
        self.parked.insert(run, Arc::clone(&function));
        let inner = Arc::clone(&self.inner);
        self.errand(async move {
            let list = List { expect: vec![Expect::RunRev { run, rev }], writes: vec![Write::Park { run, reason: Arc::from(GONE) }] };
            // A conflict means that it was cancelled, which is as good; a failed store is noted by `commit`.
            if inner.commit(vec![list]).await.is_some_and(|verdicts| verdicts.iter().all(Result::is_ok)) {
                // Its event stands in the row; a line that says less is better than none.
                match inner.store.run(run) {
                    Ok(Some(row)) => lines::stands(&row, RunState::Parked, Some(GONE)),
                    _ => lines::parked(run, &function, GONE),
                }
                inner.notify_run(run, &function, RunState::Parked, now);
            }
        });
    }
}
