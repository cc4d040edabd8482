//! Deadlocks: invoked runs in line for slots whose holders wait for runs that stand in line as well (`rules::deadlock`).
//!
//! A deadlock that is there stays, so it is looked for some time after something has come to a standstill, for all runs in line at once: no
//! start, and no run that gets its slot meanwhile, pays for it. Where nothing has changed since the last look, nobody looks again, so a
//! clock that can jump does not run on for it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Millis, RunId, Span};
use crate::project::Project;
use crate::rules::deadlock::{self, Node, Stand, Victim};
use crate::rules::queue::{Blocked, SlotId};
use crate::rules::{RunState, why};

use super::super::invoke;
use super::super::wait_index::Index;
use super::Scheduler;

/// How long after something has come to a standstill it is looked at, at least; twice as long after each look that was dear, up to
/// `LONGEST`.
const PAUSE: Span = Span::seconds(1);
const LONGEST: Span = Span::seconds(60);
/// Runs in line for each millisecond of a pause: so looking at them takes a few hundredths of the time, however many they are.
const IN_LINE_PER_MS: usize = 50;

/// Who may be part of a deadlock, and when that is looked at.
pub(super) struct Watch {
    /// Invoked runs that have come to stand in line in this turn, unless they have started in it.
    entered: Vec<RunId>,
    /// Those that stood in line at the end of it. Who has left it since is found out at the next look.
    in_line: Vec<RunId>,
    /// Something has come to a standstill that nobody has looked at.
    stirred: bool,
    next: Option<Millis>,
    pause: Span,
    /// Runs whose cancel is under way.
    victims: Vec<RunId>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { entered: Vec::new(), in_line: Vec::new(), stirred: false, next: None, pause: PAUSE, victims: Vec::new() }
    }
}

impl Watch {
    /// A run may stand in line from now on.
    pub(super) fn entered(&mut self, run: RunId) {
        self.entered.push(run);
    }

    /// A run has come to a standstill, or something else has changed by which runs may never move.
    pub(super) fn stir(&mut self) {
        self.stirred = true;
    }

    fn pause(&self) -> Span {
        let by_count = i64::try_from(self.in_line.len() / IN_LINE_PER_MS).unwrap_or(LONGEST.0);
        Span(self.pause.0.max(by_count).min(LONGEST.0))
    }

    /// When is the next look?
    pub(super) fn next(&self) -> Option<Millis> {
        self.next
    }
}

/// All holders of the slots that runs in line lack.
type Holders = HashMap<SlotId, Vec<RunId>>;

impl Scheduler {
    /// Notes who stands in line at the end of a turn, and looks at it if it is time.
    pub(super) fn watch_lines(&mut self, now: Millis) {
        let mut entered = std::mem::take(&mut self.deadlocks.entered);
        entered.retain(|run| self.queue.is_queued(*run));
        if !entered.is_empty() {
            let index = self.inner.waits();
            entered.retain(|run| index.is_awaited(*run));
        }
        let watch = &mut self.deadlocks;
        watch.stirred |= !entered.is_empty();
        watch.in_line.append(&mut entered);
        if watch.next.is_some_and(|next| next <= now) {
            self.look();
        }
        let watch = &mut self.deadlocks;
        // What stirs while a look is to come is seen by it.
        if std::mem::take(&mut watch.stirred) && watch.next.is_none() && !watch.in_line.is_empty() {
            watch.next = Some(now.after(watch.pause()));
        }
    }

    /// Looks whether those in line can ever move, and breaks the circles of those that cannot.
    fn look(&mut self) {
        let inner = Arc::clone(&self.inner);
        let index = inner.waits();
        // A wait that has been closed looks as if its run waited for the others alone; of that run there is a message then.
        if !self.inbox.is_empty() {
            return;
        }
        let mut in_line = std::mem::take(&mut self.deadlocks.in_line);
        in_line.sort_unstable();
        in_line.dedup();
        in_line.retain(|run| self.queue.is_queued(*run) && index.is_awaited(*run));
        let project = inner.project();
        // Mostly the run that took a slot last shows that it moves.
        let quick = deadlock::stuck(&in_line, |node| self.stand(&index, &project, None, node));
        let victims = if quick.is_empty() {
            Vec::new()
        } else {
            let holders = self.queue.holders_of_lacked();
            deadlock::victims(&quick, |node| self.stand(&index, &project, Some(&holders), node))
        };
        drop(index);
        let watch = &mut self.deadlocks;
        watch.in_line = in_line;
        watch.next = None;
        watch.pause = if quick.is_empty() { PAUSE } else { Span((watch.pause.0 * 2).min(LONGEST.0)) };
        let (queue, under_way) = (&self.queue, &mut watch.victims);
        under_way.retain(|run| queue.is_queued(*run));
        // All that stirred before is seen. But one circle may have hung on another one.
        watch.stirred = !victims.is_empty();
        for victim in victims {
            self.break_at(victim);
        }
    }

    fn break_at(&mut self, Victim { run, slot }: Victim) {
        if self.deadlocks.victims.contains(&run) {
            return;
        }
        let Some((scope, key, limit)) = self.queue.limit(slot) else { return };
        self.deadlocks.victims.push(run);
        let (inner, limit) = (Arc::clone(&self.inner), why::allows(&scope, &key, limit));
        self.errand(async move { invoke::break_deadlock(&inner, run, &limit).await });
    }

    /// What has to move before a run or a slot does. Without `holders`, of those of a slot the one that took it last is known alone.
    fn stand(&self, index: &Index, project: &Project, holders: Option<&Holders>, node: Node) -> Stand {
        let run = match (node, holders) {
            (Node::Run(run), _) => run,
            (Node::Slot(slot), None) => return Stand::HeldBy(self.queue.last_holder(slot).into_iter().collect()),
            (Node::Slot(slot), Some(holders)) => return holders.get(&slot).map_or(Stand::Free, |runs| Stand::HeldBy(runs.clone())),
        };
        // Of one that is parked or about to come nothing is known here, and one that is at work moves.
        let Some(live) = self.live.get(&run).filter(|live| live.stop.is_none()) else { return Stand::Free };
        let timeouts = project.function(&live.function).map(|function| function.timeouts);
        let ends = timeouts.and_then(|timeouts| match live.begun {
            true => timeouts.finish,
            false => timeouts.start,
        });
        if ends.is_some() {
            return Stand::Free;
        }
        if let Some(slots) = self.queue.lacks(run) {
            return Stand::Behind(slots);
        }
        let rests = live.state == RunState::Waiting && live.wake.is_none();
        rests.then(|| self.inner.waits_for_runs(index, run)).flatten().map_or(Stand::Free, Stand::WaitsFor)
    }

    /// What a run of a function stands in line for; and where the one that has the slot waits for a run, for which.
    pub(super) fn why_in_line(&self, function: &str, blocked: &Blocked) -> String {
        let text = why::blocked(function, blocked, self.inner.clock.now());
        let Blocked::Limit { holder: Some(holder), .. } = blocked else { return text };
        let Some(rests) = self.live.get(holder).filter(|live| live.stop.is_none()) else { return text };
        let waits = rests.state == RunState::Waiting;
        let children = waits.then(|| self.inner.waits_for_runs(&self.inner.waits(), *holder)).flatten();
        match (children.as_deref(), rests.wake) {
            (Some([child, ..]), _) => format!("{text}, and waits for run {child}"),
            (_, Some(wake)) => format!("{text}, and goes on {}", why::due(Some(wake), self.inner.clock.now())),
            _ => text,
        }
    }
}
