//! Why runs are not moving, and when they will: asked of their rows, of the waits, and of whoever decides who runs next.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::base::{Millis, RunId};
use crate::rules::{RunRow, RunState, WaitRow, WaitState, What, why};
use crate::script::AtWork;

use super::scheduler::Message;
use super::{Engine, Inner};

impl Engine {
    /// One sentence that says why a run is not moving, and when it will, or what it is at work on; none for one that has ended. Where
    /// several branches of it wait, it names each.
    pub async fn why(&self, run: &RunRow) -> Option<String> {
        match self.inner.branches(run, self.inner.clock.now()) {
            Some(parts) => Some(self.inner.with_its_end(run, parts, self.inner.clock.now())),
            None => self.whys(std::slice::from_ref(run)).await.pop().flatten(),
        }
    }

    /// The steps of a run that are under way, the one that began first before the others; none where no worker has it.
    pub async fn at_work(&self, run: RunId) -> Vec<AtWork> {
        let (reply, answer) = oneshot::channel();
        self.inner.tell(Message::AtWork { run, reply });
        // A scheduler that has stopped answers nothing.
        answer.await.unwrap_or_default()
    }

    /// As `why`, for many runs at once: at the price of one question to the scheduler, and without their branches.
    pub async fn whys(&self, runs: &[RunRow]) -> Vec<Option<String>> {
        let now = self.inner.clock.now();
        let asked = runs.iter().map(|run| (run, run.state == RunState::Running));
        let asked = asked.filter(|(run, at_work)| *at_work || why::is_in_line(run, now));
        let asked: Vec<(RunId, bool)> = asked.map(|(run, at_work)| (run.id, at_work)).collect();
        let mut blocked: HashMap<RunId, String> = HashMap::new();
        if !asked.is_empty() {
            let (reply, answer) = oneshot::channel();
            self.inner.tell(Message::Why { runs: asked, reply });
            // A scheduler that has stopped answers nothing.
            blocked.extend(answer.await.unwrap_or_default());
        }
        runs.iter().map(|run| self.inner.why(run, blocked.remove(&run.id), now)).collect()
    }
}

impl Inner {
    /// Why a run is not moving, and when it is given up in any case.
    fn why(&self, run: &RunRow, blocked: Option<String>, now: Millis) -> Option<String> {
        Some(self.with_its_end(run, self.why_at_all(run, blocked, now)?, now))
    }

    /// A sentence about a run, with when the time-outs of its function end it.
    fn with_its_end(&self, run: &RunRow, text: String, now: Millis) -> String {
        // As long as its function is paused, the time in line does not count.
        let timeouts = self.project().function(&run.function).map(|function| function.timeouts).filter(|_| !self.is_held(run));
        match timeouts.and_then(|timeouts| why::ends(run, timeouts, self.resumed(&run.function), now)) {
            Some(ends) => format!("{text}; {ends}"),
            None => text,
        }
    }

    fn why_at_all(&self, run: &RunRow, blocked: Option<String>, now: Millis) -> Option<String> {
        if self.is_held(run) {
            // Its time or its window may be ahead of it as well, and whoever resumes the function should not wonder.
            let besides = self.why_early(run, now).map(|text| format!("; besides, {text}")).unwrap_or_default();
            return Some(format!("{}{besides}", self.why_paused(&run.function, now)));
        }
        if why::is_in_line(run, now)
            && let Some(halted) = self.why_halted()
        {
            // Its turn alone would not help it, and once the engine goes on it has to wait for that as well.
            let besides = blocked.map(|text| format!("; besides, {text}")).unwrap_or_default();
            return Some(format!("{halted}{besides}"));
        }
        if blocked.is_some() {
            return blocked;
        }
        match run.state {
            RunState::Waiting => {
                let (open, mut parts): (Vec<WaitRow>, Vec<String>) = self.open_waits(run.id, now).into_iter().unzip();
                if open.is_empty() {
                    return Some("it waits; goes on as soon as it gets its turn".to_owned());
                }
                // What its other branches do stands in its journal, which is not read for many runs; when they do, in its row.
                parts.extend(why::branch(run, &open, now));
                Some(parts.join("; "))
            }
            RunState::Queued => Some(self.why_early(run, now).unwrap_or_else(|| "queued; starts as soon as a worker is free".to_owned())),
            _ => why::row(run, now),
        }
    }

    /// Why nothing goes on at the moment, whoever has its turn.
    fn why_halted(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("the engine is draining: it goes on once an engine has been started again");
        }
        self.disk_full.load(Ordering::Relaxed).then_some("the disk is full: it goes on as soon as there is room")
    }

    /// Whether a run has not begun because its function is paused: it shows as paused then.
    fn is_held(&self, run: &RunRow) -> bool {
        run.state == RunState::Queued && run.started.is_none() && self.is_paused(&run.function)
    }

    /// A run in the state that it shows.
    fn as_shown(&self, run: RunRow) -> RunRow {
        if self.is_held(&run) { RunRow { state: RunState::Paused, ..run } } else { run }
    }

    /// Why a queued run does not stand in line yet; none where it does.
    fn why_early(&self, run: &RunRow, now: Millis) -> Option<String> {
        match run.collects().is_some() && run.enter > now {
            true => self.why_collecting(run, now).or_else(|| why::row(run, now)),
            false => why::row(run, now),
        }
    }

    fn why_collecting(&self, run: &RunRow, now: Millis) -> Option<String> {
        let how = self.project().function(&run.function)?.collect?;
        // A page that lacks a figure for a moment is better than none.
        let events = 1 + self.store.batch(run.id).map_or(0, |batch| batch.len());
        why::collecting(run, how, events, now)
    }

    /// What the branches of a suspended run wait for, where there are several.
    fn branches(&self, run: &RunRow, now: Millis) -> Option<String> {
        if !matches!(run.state, RunState::Sleeping | RunState::Waiting | RunState::BackingOff) || why::is_in_line(run, now) {
            return None;
        }
        let journal = self.store.journal(run.id).ok()?;
        let parts = why::branches(&journal.records, &journal.attempts, &self.open_waits(run.id, now), now);
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// The open waits of a run, each with its sentence.
    fn open_waits(&self, run: RunId, now: Millis) -> Vec<(WaitRow, String)> {
        // A page that lacks a reason for a moment is better than none.
        let rows = self.store.waits(run).unwrap_or_default();
        let sentence = |row: WaitRow| {
            let child = match &*row.what {
                What::Run(child) => self.store.run(*child).ok().flatten().map(|child| self.as_shown(child)),
                _ => None,
            };
            let text = why::wait(&row, child.as_ref(), now);
            (row, text)
        };
        rows.into_iter().filter(|row| row.state == WaitState::Open).map(sentence).collect()
    }
}
