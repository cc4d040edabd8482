//! Circles: runs that hold slots wait for runs that stand in line for these. The engine cancels one that can never begin, and no other.

use std::collections::BTreeSet;

use stepwell::base::RunId;
use stepwell::rules::RunState;

use super::Facts;

impl Facts {
    /// Whether a run may be cancelled so that a circle is broken.
    pub(super) fn may_break_circle(&self, id: RunId) -> bool {
        // Where somebody has cancelled a run of the circle meanwhile, that came to the disk before the engine knew of it.
        let has_gap = self.runs.values().any(|run| run.cancelled);
        self.is_told_of_circle(id) && (has_gap || self.stands_for_ever(id, &mut BTreeSet::from([id])))
    }

    /// Whether a run never moves, where those that were `seen` do not.
    fn is_stuck(&self, id: RunId, seen: &mut BTreeSet<RunId>) -> bool {
        if !seen.insert(id) {
            return true;
        }
        match self.runs.get(&id).map(|run| run.state) {
            Some(RunState::Queued) => self.stands_for_ever(id, seen),
            Some(RunState::Waiting) => self.waits_for_ever(id, seen),
            _ => false,
        }
    }

    /// Whether a run stands in line for a slot that never comes free.
    fn stands_for_ever(&self, id: RunId, seen: &mut BTreeSet<RunId>) -> bool {
        let Some(run) = self.runs.get(&id) else { return false };
        let function = &self.plan.functions[run.function];
        for (number, limit) in function.limits.iter().enumerate() {
            let holders = self.holders(run, number);
            let is_full = holders.len() >= function.limit_in(limit, self.edition) as usize;
            if is_full && holders.iter().all(|holder| self.is_stuck(*holder, seen)) {
                return true;
            }
        }
        false
    }

    /// Whether a run waits for nothing but runs that never end.
    fn waits_for_ever(&self, id: RunId, seen: &mut BTreeSet<RunId>) -> bool {
        let children = self.waits_for_runs(id).unwrap_or_default();
        !children.is_empty() && children.iter().all(|child| self.is_stuck(*child, seen))
    }
}
