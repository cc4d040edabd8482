//! The queue under other limits than before: runs keep their places, and take the slots that the new limits ask for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::RunId;

use super::slot::Throttled;
use super::{Given, Order, Queue, SlotAt, Throttle, Want, throttle_scope};

/// Where a run stands whose limits change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In line, or not known to the queue yet.
    Line(Order),
    /// It has begun and is suspended.
    Suspended,
    /// It is at work.
    AtWork,
}

/// A run whose limits change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refit {
    /// The run.
    pub run: RunId,
    /// What it wants from now on.
    pub wants: Vec<Want>,
    /// Where it stands.
    pub stage: Stage,
}

/// A throttle whose rule changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rethrottle {
    /// Whose throttle it is.
    pub function: Arc<str>,
    /// The rule that held.
    pub before: Throttle,
    /// The rule that holds from now on.
    pub after: Throttle,
}

impl Queue {
    /// Changes what runs want, and the rules of throttles. Runs that have begun keep going, even beyond a limit that was lowered;
    /// the others wait until there is room. All runs that name a limit that changes have to be among them. It looks at all that stand in
    /// line, once for a reload. Gives how the buckets of the throttles stand then, each with its function.
    pub fn refit(&mut self, runs: Vec<Refit>, throttles: &[Rethrottle]) -> Vec<(Arc<str>, Given)> {
        // All of them first, so that a limit that changed has no users left and is made anew.
        let mut held: HashMap<RunId, bool> = HashMap::with_capacity(runs.len());
        for refit in &runs {
            held.insert(refit.run, self.runs.get(&refit.run).is_some_and(|entry| entry.holds != 0 || entry.slots.is_empty()));
        }
        self.take_out(|_| true, |order| held.contains_key(&order.run));
        for refit in &runs {
            if !matches!(refit.stage, Stage::Line(_)) {
                self.remove(refit.run);
            }
        }
        let changed = throttles.iter().flat_map(|throttle| self.rethrottle(throttle)).collect();
        for Refit { run, wants, stage } in runs {
            match stage {
                Stage::Suspended => self.hold(run, &wants),
                Stage::AtWork => {
                    self.hold(run, &wants);
                    self.take(run);
                }
                Stage::Line(order) => {
                    // One that has begun and goes on holds its slots, unless it has to take them again, as one that was parked.
                    if !order.fresh && held.get(&run) == Some(&true) {
                        self.hold(run, &wants);
                    }
                    self.push(order, &wants);
                }
            }
        }
        changed
    }

    fn rethrottle(&mut self, throttle: &Rethrottle) -> Vec<(Arc<str>, Given)> {
        let scope = throttle_scope(&throttle.function);
        let mut changed = Vec::new();
        let of_it = self.slots.iter_mut().enumerate().filter_map(|(at, slot)| Some((at as SlotAt, slot.as_mut()?)));
        for (at, slot) in of_it.filter(|(_, slot)| slot.name.0 == scope) {
            let now = self.now;
            let Some(Throttled { bucket, due }) = slot.throttled.as_deref_mut() else { continue };
            if let Some(due) = due.take() {
                self.due.remove(&(due, at));
            }
            let before = bucket.expires();
            // One that was taken up from the store does not know its rule before a run names it.
            bucket.rule = throttle.before;
            *bucket = bucket.under(throttle.after, now);
            let given = Given { key: Arc::clone(&slot.name.1), bucket: *bucket };
            if self.unused.remove(&(before, at)) {
                self.unused.insert((given.bucket.expires(), at));
            }
            changed.push((Arc::clone(&throttle.function), given));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hold, Millis, Throttle};
    use super::*;
    use crate::base::{Id, Span};

    fn want(scope: &str, limit: u32, hold: Hold) -> Want {
        Want { scope: scope.into(), key: "a".into(), limit, hold, throttle: None }
    }

    fn line(run: i64) -> Stage {
        Stage::Line(Order { fresh: true, enter_ms: run, run: Id(run) })
    }

    fn refit(run: i64, wants: &[Want], stage: Stage) -> Refit {
        Refit { run: Id(run), wants: wants.to_vec(), stage }
    }

    /// A queue where the first run is at work, the second suspended, and the others in line for one slot of two.
    fn busy(wants: &[Want]) -> Queue {
        let mut queue = Queue::default();
        for run in 1..=5 {
            queue.push(Order { fresh: true, enter_ms: run, run: Id(run) }, wants);
        }
        assert_eq!(queue.admit(9), [Id(1), Id(2)]);
        queue.suspend(Id(2));
        queue
    }

    fn all(wants: &[Want]) -> Vec<Refit> {
        let stage = |run| match run {
            1 => Stage::AtWork,
            2 => Stage::Suspended,
            run => line(run),
        };
        (1..=5).map(|run| refit(run, wants, stage(run))).collect()
    }

    #[test]
    fn a_raised_limit_lets_in_as_many_more() {
        let mut queue = busy(&[want("f", 2, Hold::Run)]);
        queue.refit(all(&[want("f", 4, Hold::Run)]), &[]);
        assert_eq!(queue.admit(9), [Id(3), Id(4)]);
        assert_eq!(queue.queued(), 1);
    }

    #[test]
    fn a_lowered_limit_lets_in_nobody_before_enough_have_ended() {
        let mut queue = busy(&[want("f", 2, Hold::Run)]);
        queue.refit(all(&[want("f", 1, Hold::Run)]), &[]);
        queue.remove(Id(1));
        assert_eq!(queue.admit(9), [], "the suspended one has the only slot");
        queue.remove(Id(2));
        assert_eq!(queue.admit(9), [Id(3)]);
    }

    #[test]
    fn a_limit_may_come_and_go_and_be_held_otherwise() {
        let mut queue = busy(&[want("f", 2, Hold::Run)]);
        queue.refit(all(&[want("f", 2, Hold::Active)]), &[]);
        assert_eq!(queue.admit(9), [Id(3)], "the suspended one lets its slot go");
        let mut queue = busy(&[want("f", 2, Hold::Run)]);
        queue.refit(all(&[]), &[]);
        assert_eq!(queue.admit(9), [Id(3), Id(4), Id(5)]);
        let mut none = Queue::default();
        for run in 1..=3 {
            none.push(Order { fresh: true, enter_ms: run, run: Id(run) }, &[]);
        }
        assert_eq!(none.admit(1), [Id(1)]);
        let new = [want("f", 1, Hold::Run)];
        none.refit(vec![refit(1, &new, Stage::AtWork), refit(2, &new, line(2)), refit(3, &new, line(3))], &[]);
        assert_eq!(none.admit(9), [], "who was at work before there was a limit counts in it");
        none.remove(Id(1));
        assert_eq!(none.admit(9), [Id(2)]);
    }

    #[test]
    fn a_run_that_holds_its_slot_in_line_keeps_it_and_one_that_does_not_waits() {
        let wants = [want("f", 1, Hold::Run)];
        let again = |run: i64| Order { fresh: false, enter_ms: run, run: Id(run) };
        let mut queue = Queue::default();
        queue.hold(Id(1), &wants);
        queue.push(again(1), &wants);
        // It was parked, and takes its slot again before it goes on.
        queue.push(again(2), &wants);
        let new = [want("f", 1, Hold::Run), want("g", 9, Hold::Run)];
        queue.refit(vec![refit(1, &new, Stage::Line(again(1))), refit(2, &new, Stage::Line(again(2)))], &[]);
        assert_eq!(queue.admit(9), [Id(1)]);
        queue.remove(Id(1));
        assert_eq!(queue.admit(9), [Id(2)]);
        queue.remove(Id(2));
        assert!(queue.names.is_empty() && queue.line_of.is_empty() && queue.runs.is_empty(), "nothing is left: {queue:?}");
    }

    #[test]
    fn a_throttle_gives_by_its_new_rule_what_it_has_given_before() {
        let rule = |limit, seconds| Throttle { limit, period: Span::seconds(seconds), burst: 0 };
        let start = |rule| [Want::start("f", &"a".into(), rule)];
        let mut queue = Queue::default();
        queue.advance(Millis(1_000_000));
        for run in 1..=4 {
            queue.push(Order { fresh: true, enter_ms: run, run: Id(run) }, &start(rule(1, 3_600)));
        }
        assert_eq!(queue.admit(9), [Id(1)]);
        assert_eq!(queue.next_start(), Some(Millis(4_600_000)));
        let new = start(rule(1, 60));
        let throttle = Rethrottle { function: "f".into(), before: rule(1, 3_600), after: rule(1, 60) };
        let changed = queue.refit((2..=4).map(|run| refit(run, &new, line(run))).collect(), &[throttle]);
        assert_eq!((changed.len(), &*changed[0].0, &*changed[0].1.key), (1, "f", "a"));
        let next = Millis(1_060_000);
        assert_eq!(queue.next_start(), Some(next));
        queue.advance(next);
        assert_eq!(queue.admit(9), [Id(2)]);
        assert_eq!(queue.next_start(), Some(next.after(Span::seconds(60))));
        queue.refit((3..=4).map(|run| refit(run, &[], line(run))).collect(), &[]);
        assert_eq!(queue.admit(9), [Id(3), Id(4)]);
    }
}
