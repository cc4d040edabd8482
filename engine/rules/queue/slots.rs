//! How the slots of each limit stand, for whoever looks on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Queue;

/// How the slots of one limit stand, all values of its key together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slots {
    /// Slots that each value of the key has.
    pub limit: u32,
    /// Slots that are taken.
    pub taken: u64,
    /// Values of the key that have a slot taken.
    pub keys: u64,
}

impl Queue {
    /// The slots of each limit, by the limit's scope as `Want` has it: of limits that a run names which is in line or has one.
    /// Throttles are left out. It looks at every value of every key.
    pub fn slots(&self) -> BTreeMap<Arc<str>, Slots> {
        let mut found: BTreeMap<Arc<str>, Slots> = BTreeMap::new();
        for slot in self.slots.iter().flatten().filter(|slot| slot.throttled.is_none()) {
            let sum = found.entry(Arc::clone(&slot.name.0)).or_default();
            sum.limit = slot.limit;
            sum.taken += u64::from(slot.taken);
            sum.keys += u64::from(slot.taken > 0);
        }
        found
    }
}
