//! The scheduler's part of a reload: one turn in which the snapshot is swapped, with all that it has in memory of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use crate::base::{Id, Millis, RunId};
use crate::project::{Function, Project};
use crate::rules::queue::{Order, Refit, Rethrottle, Stage};
use crate::rules::{Gate, List, RunRow, WindowKey, WindowRow, Write};
use crate::store::StoreError;

use super::{Message, Scheduler};

/// Runs from which on all that have not ended are read in one go, instead of one after the other.
const READ_ALL_FROM: usize = 2_000;

/// What is different for the runs of a function.
#[derive(Clone, Copy, Default)]
struct Other {
    /// Its limits or its throttle.
    limits: bool,
    /// `timeouts.start`
    start: bool,
    /// `timeouts.finish`
    finish: bool,
}

impl Other {
    fn between(before: Option<&Function>, after: Option<&Function>) -> Other {
        let limits =
            |function: Option<&Function>| function.map(|function| (function.limits.clone(), function.throttle)).unwrap_or_default();
        let times =
            |function: Option<&Function>| function.map_or((None, None), |function| (function.timeouts.start, function.timeouts.finish));
        let ((old_start, old_finish), (start, finish)) = (times(before), times(after));
        Other { limits: limits(before) != limits(after), start: old_start != start, finish: old_finish != finish }
    }

    fn any(self) -> bool {
        self.limits || self.start || self.finish
    }
}

impl Scheduler {
    /// Swaps the snapshot if one is waiting for that, as soon as no start by the clock is being decided on.
    pub(super) fn reload(&mut self, now: Millis) {
        if self.ticking > 0 {
            return;
        }
        let Some((project, reply)) = self.reloading.take() else { return };
        self.recall_all();
        let before = self.inner.project();
        let others = others(&before, &project);
        // What is left in the store has no limits and no end by the clock.
        let roused = self.dormant.of(|function| others.get(function).is_some_and(|other| other.limits || other.finish));
        self.rouse(roused);
        let rows = match self.rows_of(&others) {
            Ok(rows) => rows,
            Err(error) => return self.inner.fail(error),
        };
        {
            // Whoever decides on events holds the gates from then until the list is on its way.
            let mut gates = self.inner.gates();
            gates.reload(&before, &project);
            *self.inner.project.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&project);
        }
        self.hold_paused();
        let mut writes = self.refit(&rows, &others, &before, &project);
        // What kept a run from waiting for ever may be gone.
        self.deadlocks.stir();
        for row in rows.values() {
            let other = others.get(&row.function).copied().unwrap_or_default();
            let is_other = (row.started.is_none() && other.start) || (row.started.is_some() && other.finish);
            if let Some(function) = project.function(&row.function).filter(|_| is_other) {
                self.arm_timeouts(row, function.timeouts);
            }
        }
        let (crons, starts) = self.crons.reload(&self.inner, now);
        writes.extend(crons);
        self.ticking += 1;
        let inner = Arc::clone(&self.inner);
        self.errand(async move {
            let list = List { expect: Vec::new(), writes };
            // A store that failed for good is noted by `commit`, and then the engine stops.
            let is_done = list.writes.is_empty() || inner.commit(vec![list]).await.is_some();
            inner.tell(Message::Ticked(if is_done { starts } else { Vec::new() }));
            // Whoever gave up waiting needs no answer.
            let _ = reply.send(());
        });
    }

    /// The rows of the runs for which something is different.
    fn rows_of(&self, others: &HashMap<Arc<str>, Other>) -> Result<BTreeMap<RunId, RunRow>, StoreError> {
        let mut rows = BTreeMap::new();
        if others.is_empty() {
            return Ok(rows);
        }
        let ids: Vec<RunId> = self.live.iter().filter(|(_, live)| others.contains_key(&live.function)).map(|(run, _)| *run).collect();
        if ids.len() >= READ_ALL_FROM {
            self.inner.store.unfinished(&mut |row| {
                if self.live.contains_key(&row.id) && others.contains_key(&row.function) {
                    rows.insert(row.id, row);
                }
            })?;
        } else {
            for id in ids {
                rows.extend(self.inner.store.run(id)?.map(|row| (id, row)));
            }
        }
        // Runs that collect have other keys with each event, and the newest may be on their way still.
        rows.extend(
            self.fresh.iter().filter(|(_, made)| others.contains_key(&made.run.function)).map(|(run, made)| (*run, made.run.clone())),
        );
        Ok(rows)
    }

    /// Gives runs the slots that the limits of the snapshot in force ask for; gives what is to be stored of throttles.
    fn refit(
        &mut self,
        rows: &BTreeMap<RunId, RunRow>,
        others: &HashMap<Arc<str>, Other>,
        before: &Project,
        after: &Project,
    ) -> Vec<Write> {
        let mut refits = Vec::new();
        for (run, row) in rows {
            let Some(live) = self.live.get(run).filter(|live| others.get(&live.function).is_some_and(|other| other.limits)) else {
                continue;
            };
            let order = Order { fresh: !live.begun, enter_ms: live.enter_ms, run: *run };
            // Its row may not say yet that it has begun.
            let row = RunRow { started: row.started.or(live.begun.then_some(row.enter)), ..row.clone() };
            let wants = self.wants(&row);
            let stage = match live {
                _ if self.held.has(*run) => {
                    let function = Arc::clone(&live.function);
                    self.held.keep(&function, order, wants);
                    continue;
                }
                live if live.stop.is_some() => Stage::AtWork,
                _ if self.queue.is_queued(*run) => Stage::Line(order),
                live if live.begun => Stage::Suspended,
                // Its time has not come: the queue gets to know it then.
                _ => continue,
            };
            refits.push(Refit { run: *run, wants, stage });
        }
        let throttles: Vec<Rethrottle> = others.keys().filter_map(|id| rethrottle(id, before, after)).collect();
        let changed = self.queue.refit(refits, &throttles);
        let row = |(function, given): (Arc<str>, crate::rules::queue::Given)| {
            let window = WindowKey { function, gate: Gate::Throttle, key: given.key };
            Write::PutWindow(WindowRow { window, entry: Id(0), value: given.bucket.full_us, expires: given.bucket.expires() })
        };
        changed.into_iter().map(row).collect()
    }
}

/// The functions for whose runs something is different.
fn others(before: &Project, after: &Project) -> HashMap<Arc<str>, Other> {
    let ids = before.functions.iter().chain(&after.functions).map(|function| &function.id);
    let other = |id: &Arc<str>| {
        let function = |project: &Project| project.function(id).cloned();
        (Arc::clone(id), Other::between(function(before).as_deref(), function(after).as_deref()))
    };
    ids.map(other).filter(|(_, other)| other.any()).collect()
}

fn rethrottle(id: &Arc<str>, before: &Project, after: &Project) -> Option<Rethrottle> {
    let rule = |project: &Project| project.function(id).and_then(|function| function.throttle);
    let (before, after) = (rule(before)?, rule(after)?);
    (before != after).then(|| Rethrottle { function: Arc::clone(id), before, after })
}
