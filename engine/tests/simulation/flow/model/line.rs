//! The line: what keeps a run in it, and who goes first.

use super::super::world::{Limit, Ms};
use super::{Model, Run, State};

/// A limit (its function and number; none for the shared one), the value of its key, how many may hold it, and whether until their end.
type Slot = (Option<(usize, usize)>, Option<Option<i64>>, usize, bool);

impl Model<'_> {
    /// Whoever can start, or go on, does so, one after the other.
    pub(super) fn start_all(&mut self) {
        while let Some(at) = self.first() {
            // What a throttle gives counts from the first microsecond of this millisecond at which there is a start.
            self.given.extend(self.opens(&self.runs[at]).map(|us| (at, us.max(self.now * 1_000 - 999))));
            let run = &mut self.runs[at];
            run.started = run.started.or(Some(self.now));
            (run.state, run.until) = (State::Work, self.now + run.event.works + self.functions[run.function].longer);
        }
    }

    /// The first of them: whoever has begun comes before the rest; then it is by time, less the head start, and then by age.
    fn first(&self) -> Option<usize> {
        let can = self.living(|run| self.waits(run) && self.has_slots(run) && self.opens(run).is_none_or(|us| us <= self.now * 1_000));
        let head_start = |run: &Run| if self.functions[run.function].priority { run.event.p.clamp(-600, 600) * 1_000 } else { 0 };
        let place = |run: &Run| (run.started.is_none(), run.enter - head_start(run));
        can.into_iter().min_by_key(|at| place(&self.runs[*at]))
    }

    /// Whether a run stands in line and nothing but slots and buckets keeps it.
    pub(super) fn waits(&self, run: &Run) -> bool {
        run.state == State::Line && (run.started.is_some() || run.enter <= self.now && !self.paused[run.function].0)
    }

    /// When the time of a run is over; the time for which its function was paused does not count to that of its start.
    pub(super) fn late(&self, run: &Run) -> Option<Ms> {
        let (function, (paused, since)) = (&self.functions[run.function], self.paused[run.function]);
        let start = function.start_timeout.filter(|_| !paused).map(|timeout| run.enter.max(since) + timeout);
        run.started.map_or(start, |started| Some(started + function.finish_timeout?))
    }

    /// The slots that a run needs.
    fn slots(&self, run: &Run) -> Vec<Slot> {
        let scope = |at: usize, limit: &Limit| (!limit.shared).then_some((run.function, at));
        let slot = |(at, limit): (usize, &Limit)| (scope(at, limit), run.event.value(limit.key), limit.limit, limit.holds);
        self.functions[run.function].limits.iter().enumerate().map(slot).collect()
    }

    /// Whether a run has, or can take, each slot that it needs.
    fn has_slots(&self, run: &Run) -> bool {
        let has = |run: &Run, holds: bool| run.state == State::Work || holds && run.started.is_some();
        let taken = |slot: Slot, holds: bool| self.living(|other| has(other, holds) && self.slots(other).contains(&slot)).len();
        self.slots(run).into_iter().all(|slot @ (.., limit, holds)| has(run, holds) || taken(slot, holds) < limit)
    }

    /// When the bucket of a run that has not begun gives the next start, in microseconds: from each start on, there is one each interval
    /// and `burst` beside.
    pub(super) fn opens(&self, run: &Run) -> Option<i64> {
        let (rate, burst) = self.functions[run.function].throttle.filter(|_| run.started.is_none())?;
        let bucket = |run: &Run| (run.function, run.event.value(rate.key));
        let given: Vec<i64> = self.given.iter().filter(|(other, _)| bucket(&self.runs[*other]) == bucket(run)).map(|(_, us)| *us).collect();
        // Rounded up.
        let interval = (rate.period * 1_000 + rate.limit - 1).div_euclid(rate.limit);
        let next = |(at, start): (usize, &i64)| start + ((given.len() - at) as i64 - burst) * interval;
        Some(given.iter().enumerate().map(next).max().unwrap_or(0))
    }
}
