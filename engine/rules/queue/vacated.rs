//! Slots that are passed on while the end of who had them is on its way to the disk.
//!
//! Were each slot kept until an end is durable, the runs of one key would have a flush each, one after another. So a run that is about
//! to end vacates its slots: others take them at once, and the list that starts each of them expects the ends of all that went before
//! and are not known to be durable. As the disk has it, no more runs than the limit are ever under way.

use std::collections::BTreeSet;

use crate::base::RunId;

use super::slot::Slot;
use super::{LineAt, Order, Queue, SlotAt, owner};

/// Ends on their way that a slot may be passed on behind: each start expects all of them.
const VACATED_MOST: usize = 128;

impl Queue {
    /// Whether somebody in line waits for a slot that the run holds.
    pub fn is_awaited(&self, run: RunId) -> bool {
        let Some(entry) = self.runs.get(&run) else { return false };
        let mut held = entry.slots.iter().enumerate().filter(|(bit, _)| entry.holds & (1 << bit) != 0);
        held.any(|(_, &at)| self.slots[at as usize].as_ref().is_some_and(|slot| !slot.parked.is_empty()))
    }

    /// Runs that take the slots next which this one holds, at most so many of those that wait for the same.
    pub fn next_after(&mut self, run: RunId, most: usize) -> Vec<RunId> {
        let Some(entry) = self.runs.get(&run) else { return Vec::new() };
        let first = |at: &SlotAt| self.slots[*at as usize].as_ref().and_then(|slot| slot.parked.first()).map(|(_, line)| *line);
        let lines: BTreeSet<LineAt> = entry.slots.iter().filter_map(first).collect();
        let lines = lines.into_iter().filter_map(|line| Some(self.lines[line as usize].as_mut()?.next(most)));
        lines.flatten().map(|order| order.run).collect()
    }

    /// Whether a run wants any slot.
    pub fn wants_any(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|entry| !entry.slots.is_empty())
    }

    /// Takes runs out of the line, in order, that come after this one in the slot that it has alone, and that nobody else may come before:
    /// at most so many, and none behind the first that has begun before or for whom `may` does not hold. They stay known, and are to take
    /// the slot or to come back to the line.
    pub fn lend(&mut self, run: RunId, most: usize, may: impl Fn(&Order) -> bool) -> Vec<Order> {
        let Some(line) = self.line_after(run) else { return Vec::new() };
        let Some(line_ref) = self.lines[line as usize].as_mut() else { return Vec::new() };
        let mut lent = Vec::new();
        while lent.len() < most
            && let Some(head) = line_ref.head().filter(|head| head.fresh && may(head))
        {
            line_ref.pop();
            lent.push(head);
        }
        for order in &lent {
            if let Some(entry) = self.runs.get_mut(&order.run) {
                entry.line = None;
                self.queued -= 1;
            }
        }
        self.file(line);
        lent
    }

    /// Whether `lend` may find somebody behind a run.
    pub fn lends(&self, run: RunId) -> bool {
        self.line_after(run).is_some()
    }

    /// The one line that waits for the one slot of a run, which the run has alone.
    fn line_after(&self, run: RunId) -> Option<LineAt> {
        let entry = self.runs.get(&run).filter(|entry| entry.holds == 1)?;
        let &[at] = &*entry.slots else { return None };
        // Where others may want it together with another slot, one of them may come to stand here in front of those that are lent.
        let is_alone = |slot: &&Slot| slot.limit == 1 && slot.taken == 1 && slot.throttled.is_none() && owner(&slot.name.0).is_some();
        let mut parked = self.slots[at as usize].as_ref().filter(is_alone)?.parked.iter().map(|(_, line)| *line);
        let (line, None) = (parked.next()?, parked.next()) else { return None };
        self.lines[line as usize].as_ref().filter(|line| *line.slots == [at])?;
        Some(line)
    }

    /// The list that ends a run is on its way to the store: others may have its slots. It stays known until it is removed.
    pub fn vacate(&mut self, run: RunId) {
        let Some(entry) = self.runs.get(&run) else { return };
        let limits: Vec<_> = entry
            .slots
            .iter()
            .enumerate()
            .filter(|(bit, at)| {
                entry.holds & (1 << bit) != 0 && self.slots[**at as usize].as_ref().is_some_and(|slot| slot.throttled.is_none())
            })
            .map(|(_, &at)| at)
            .collect();
        if limits.iter().any(|at| self.vacated.get(at).is_some_and(|runs| runs.len() >= VACATED_MOST)) {
            return;
        }
        limits.iter().for_each(|at| self.vacated.entry(*at).or_default().push(run));
        self.give_back(run, |_| true);
    }

    /// The runs whose ends have to come before the start of a run that was let in.
    pub fn behind(&mut self, run: RunId) -> Vec<RunId> {
        self.behind.remove(&run).unwrap_or_default()
    }

    /// The end of a run is durable, or it is known no more.
    pub(super) fn settle(&mut self, run: RunId) {
        self.behind.remove(&run);
        let Some(entry) = self.runs.get(&run).filter(|_| !self.vacated.is_empty()) else { return };
        for at in entry.slots.iter() {
            if let Some(runs) = self.vacated.get_mut(at) {
                runs.retain(|other| *other != run);
                if runs.is_empty() {
                    self.vacated.remove(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hold, Order, Want};
    use super::*;
    use crate::base::{Id, Millis};

    fn want(limit: u32) -> Want {
        Want { scope: "f#0".into(), key: "a".into(), limit, hold: Hold::Run, throttle: None }
    }

    fn line(limit: u32, runs: std::ops::RangeInclusive<i64>) -> Queue {
        let mut queue = Queue::default();
        queue.advance(Millis(1));
        runs.for_each(|run| queue.push(Order { fresh: true, enter_ms: run, run: Id(run) }, &[want(limit)]));
        queue
    }

    #[test]
    fn a_slot_is_passed_on_behind_the_ends_of_all_that_had_it() {
        let mut queue = line(1, 1..=4);
        assert_eq!(queue.admit(9), [Id(1)]);
        assert_eq!((queue.behind(Id(1)), queue.is_awaited(Id(1))), (vec![], true));
        assert_eq!(queue.next_after(Id(1), 2), [Id(2), Id(3)], "they stay in line");
        queue.vacate(Id(1));
        assert_eq!(queue.admit(9), [Id(2)], "one at a time");
        assert_eq!(queue.behind(Id(2)), [Id(1)]);
        queue.vacate(Id(2));
        assert_eq!(queue.admit(9), [Id(3)]);
        assert_eq!(queue.behind(Id(3)), [Id(1), Id(2)]);
        // Their ends are durable.
        queue.remove(Id(1));
        queue.remove(Id(2));
        queue.vacate(Id(3));
        assert_eq!(queue.admit(9), [Id(4)]);
        assert_eq!(queue.behind(Id(4)), [Id(3)]);
        assert!(!queue.is_awaited(Id(4)), "nobody is left");
        queue.remove(Id(3));
        queue.remove(Id(4));
        assert!(queue.vacated.is_empty() && queue.behind.is_empty() && queue.runs.is_empty(), "{queue:?}");
    }

    #[test]
    fn those_who_come_next_are_lent_where_nobody_may_come_before_them() {
        let mut queue = line(1, 1..=6);
        assert_eq!(queue.admit(9), [Id(1)]);
        let lent = queue.lend(Id(1), 3, |order| order.run != Id(4));
        assert_eq!(lent.iter().map(|order| order.run).collect::<Vec<_>>(), [Id(2), Id(3)]);
        assert_eq!((queue.queued(), queue.is_queued(Id(2)), queue.next_after(Id(1), 1)), (3, false, vec![Id(4)]));
        // The first of them takes the slot, the other one comes back.
        queue.vacate(Id(1));
        queue.take(Id(2));
        queue.push(lent[1], &[]);
        assert_eq!((queue.admit(9), queue.queued()), (vec![], 4));
        queue.vacate(Id(2));
        assert_eq!(queue.admit(9), [Id(3)]);
        let mut wide = line(2, 1..=6);
        assert_eq!((wide.admit(9), wide.lend(Id(1), 9, |_| true)), (vec![Id(1), Id(2)], vec![]), "they would not go in order");
        let mut shared = Queue::default();
        let want = Want { scope: "shared bank".into(), ..want(1) };
        (1..=3).for_each(|run| shared.push(Order { fresh: true, enter_ms: run, run: Id(run) }, std::slice::from_ref(&want)));
        assert_eq!((shared.admit(9), shared.lend(Id(1), 9, |_| true)), (vec![Id(1)], vec![]), "another function may come in front");
    }

    #[test]
    fn a_slot_is_kept_where_too_many_ends_are_on_their_way() {
        let most = VACATED_MOST as i64;
        let mut queue = line(1, 1..=most + 2);
        for run in 1..=most {
            assert_eq!(queue.admit(1), [Id(run)]);
            queue.vacate(Id(run));
        }
        assert_eq!(queue.admit(1), [Id(most + 1)]);
        queue.vacate(Id(most + 1));
        assert_eq!(queue.admit(1), [], "it has its slot until its end is durable");
        queue.remove(Id(most + 1));
        assert_eq!(queue.admit(1), [Id(most + 2)]);
    }

    #[test]
    fn a_throttle_gives_no_start_back() {
        let throttle = crate::rules::gates::Throttle { limit: 1, period: crate::base::Span::seconds(60), burst: 0 };
        let mut queue = Queue::default();
        queue.advance(Millis(1_000));
        for run in 1..=2 {
            queue.push(Order { fresh: true, enter_ms: run, run: Id(run) }, &[want(1), Want::start("f", &"a".into(), throttle)]);
        }
        assert_eq!(queue.admit(9), [Id(1)]);
        queue.vacate(Id(1));
        assert_eq!(queue.admit(9), [], "its slot is free, its start is not");
        queue.remove(Id(1));
        queue.advance(Millis(61_000));
        assert_eq!(queue.admit(9), [Id(2)]);
    }
}
