//! What keeps a run in line from moving: the slots that it lacks, and all who have them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::RunId;

use super::{Queue, SlotAt};

/// The slots that a limit has for one value of its key, for as long as any run names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

impl Queue {
    /// The limits that a run in line waits for since all of their slots are taken; none (`None`) where it stands in no line. Throttles are
    /// left out, since time alone frees them.
    pub fn lacks(&self, run: RunId) -> Option<Vec<SlotId>> {
        let line = self.runs.get(&run)?.line?;
        let line = self.lines[line as usize].as_ref()?;
        Some(line.slots.iter().filter(|at| self.is_full_limit(**at)).map(|at| SlotId(*at)).collect())
    }

    /// The run that took one of these slots last, if it has it still.
    pub fn last_holder(&self, slot: SlotId) -> Option<RunId> {
        self.slots.get(slot.0 as usize)?.as_ref()?.holder
    }

    /// All runs that have a slot of those that are full and that runs in line lack. It looks at every line, and at every run that holds
    /// something.
    pub fn holders_of_lacked(&self) -> HashMap<SlotId, Vec<RunId>> {
        let mut found: HashMap<SlotId, Vec<RunId>> = HashMap::new();
        for line in self.lines.iter().flatten() {
            found.extend(line.slots.iter().filter(|at| self.is_full_limit(**at)).map(|at| (SlotId(*at), Vec::new())));
        }
        for (run, entry) in self.runs.iter().filter(|(_, entry)| entry.holds != 0) {
            for (bit, at) in entry.slots.iter().enumerate() {
                if entry.holds & (1 << bit) != 0
                    && let Some(holders) = found.get_mut(&SlotId(*at))
                {
                    holders.push(*run);
                }
            }
        }
        found
    }

    /// Whose limit it is, the value of the key, and how many slots there are.
    pub fn limit(&self, slot: SlotId) -> Option<(Arc<str>, Arc<str>, u32)> {
        let slot = self.slots.get(slot.0 as usize)?.as_ref()?;
        Some((Arc::clone(&slot.name.0), Arc::clone(&slot.name.1), slot.limit))
    }

    fn is_full_limit(&self, at: SlotAt) -> bool {
        self.slots[at as usize].as_ref().is_some_and(|slot| slot.throttled.is_none() && slot.free(self.now) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hold, Order, Throttle, Want};
    use super::*;
    use crate::base::{Id, Millis, Span};

    fn limit(scope: &str, limit: u32) -> Want {
        Want { scope: scope.into(), key: "null".into(), limit, hold: Hold::Run, throttle: None }
    }

    fn push(queue: &mut Queue, run: i64, wants: &[Want]) {
        queue.push(Order { fresh: true, enter_ms: run, run: Id(run) }, wants);
    }

    #[test]
    fn a_run_in_line_knows_each_limit_that_is_full_and_all_who_have_it() {
        let mut queue = Queue::default();
        queue.advance(Millis(100_000));
        let (two, desk, wide) = (limit("f#0", 2), limit("shared desk", 1), limit("wide", 9));
        push(&mut queue, 1, std::slice::from_ref(&two));
        push(&mut queue, 2, std::slice::from_ref(&two));
        push(&mut queue, 3, std::slice::from_ref(&desk));
        assert_eq!(queue.admit(9).len(), 3);
        push(&mut queue, 4, &[two.clone(), desk.clone(), wide]);
        let lacks = queue.lacks(Id(4)).unwrap();
        let limits = lacks.iter().filter_map(|slot| queue.limit(*slot));
        let names: Vec<_> = limits.map(|(scope, _, limit)| (scope.to_string(), limit)).collect();
        assert_eq!(names, [("f#0".to_owned(), 2), ("shared desk".to_owned(), 1)]);
        assert_eq!((queue.last_holder(lacks[0]), queue.last_holder(lacks[1])), (Some(Id(2)), Some(Id(3))));
        let mut holders = queue.holders_of_lacked();
        holders.values_mut().for_each(|runs| runs.sort_unstable());
        assert_eq!(holders, HashMap::from([(lacks[0], vec![Id(1), Id(2)]), (lacks[1], vec![Id(3)])]));
        assert_eq!(queue.lacks(Id(1)), None, "it stands in no line");
        queue.remove(Id(2));
        assert_eq!((queue.lacks(Id(4)).unwrap(), queue.last_holder(lacks[0])), (vec![lacks[1]], None));
        queue.remove(Id(3));
        assert_eq!(queue.lacks(Id(4)), Some(Vec::new()), "its turn has come");
    }

    #[test]
    fn a_throttle_and_a_slot_that_is_held_while_active_keep_nobody_for_ever() {
        let rule = Throttle { limit: 1, period: Span::seconds(10), burst: 0 };
        let active = Want { hold: Hold::Active, ..limit("f#0", 1) };
        let mut queue = Queue::default();
        queue.advance(Millis(100_000));
        push(&mut queue, 1, &[active.clone(), Want::start("f", &"null".into(), rule)]);
        assert_eq!(queue.admit(9), [Id(1)]);
        push(&mut queue, 2, &[active, Want::start("f", &"null".into(), rule)]);
        assert_eq!(queue.lacks(Id(2)).map(|slots| slots.len()), Some(1));
        queue.suspend(Id(1));
        assert_eq!(queue.lacks(Id(2)), Some(Vec::new()), "a start comes by itself");
        assert_eq!(queue.admit(9), [], "it has not come yet");
    }
}
