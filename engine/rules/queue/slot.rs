//! What a slot is, and how it is found by its name. Both are small, since there may be one for each of a million runs that wait: a rare
//! part of a slot has memory of its own where it is there at all, and the table of the names holds nothing but the slots' places.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::base::{Millis, RunId};

use super::{Bucket, Hold, LineAt, Order, Queue, SlotAt};

#[derive(Debug)]
pub(super) struct Slot {
    /// The scope, of which all slots of it share one text, and the key's value.
    pub(super) name: (Arc<str>, Arc<str>),
    pub(super) limit: u32,
    pub(super) hold: Hold,
    pub(super) taken: u32,
    /// Who took it last, while he has it.
    pub(super) holder: Option<RunId>,
    /// What it is where it is a throttle.
    pub(super) throttled: Option<Box<Throttled>>,
    /// Runs in the queue or with a slot that name this slot; at 0 it is forgotten.
    pub(super) users: u32,
    /// Lines that wait for room here, by the order of their heads.
    pub(super) parked: Parked,
}

/// What a slot has that is a throttle.
#[derive(Debug)]
pub(super) struct Throttled {
    /// What gives the starts.
    pub(super) bucket: Bucket,
    /// When it is looked at again; set while it gives no start and lines wait for one.
    pub(super) due: Option<Millis>,
}

impl Slot {
    /// What gives the starts, where the slot is a throttle.
    pub(super) fn bucket(&self) -> Option<Bucket> {
        self.throttled.as_ref().map(|throttled| throttled.bucket)
    }

    /// Runs that may take it now.
    pub(super) fn free(&self, now: Millis) -> u32 {
        self.throttled.as_ref().map_or_else(|| self.limit.saturating_sub(self.taken), |throttled| throttled.bucket.starts(now))
    }

    /// Forgets when it is to be looked at again.
    pub(super) fn take_due(&mut self) -> Option<Millis> {
        self.throttled.as_mut().and_then(|throttled| throttled.due.take())
    }
}

/// Lines by the order of their heads. At most slots none waits.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "the set would make each of the many slots larger at which nobody waits")]
pub(super) struct Parked(Option<Box<BTreeSet<(Order, LineAt)>>>);

impl Parked {
    pub(super) fn insert(&mut self, line: (Order, LineAt)) {
        self.0.get_or_insert_default().insert(line);
    }

    pub(super) fn remove(&mut self, line: &(Order, LineAt)) {
        if let Some(lines) = &mut self.0 {
            lines.remove(line);
            if lines.is_empty() {
                self.0 = None;
            }
        }
    }

    pub(super) fn first(&self) -> Option<&(Order, LineAt)> {
        self.0.as_ref()?.first()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Order, LineAt)> {
        self.0.iter().flat_map(|lines| lines.iter())
    }
}

/// The slots that a run wants: mostly it is one.
#[derive(Debug)]
pub(super) enum Places {
    One(SlotAt),
    Many(Box<[SlotAt]>),
}

impl From<Vec<SlotAt>> for Places {
    fn from(slots: Vec<SlotAt>) -> Places {
        match slots.as_slice() {
            [one] => Places::One(*one),
            _ => Places::Many(slots.into_boxed_slice()),
        }
    }
}

impl Deref for Places {
    type Target = [SlotAt];

    fn deref(&self) -> &[SlotAt] {
        match self {
            Places::One(slot) => std::slice::from_ref(slot),
            Places::Many(slots) => slots,
        }
    }
}

/// The places of slots by their names, which the slots have. The names come from outside, so nobody can know how they are hashed.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: HashTable<SlotAt>,
    hasher: RandomState,
    /// The text of each scope, and how many slots have it.
    scopes: HashMap<Arc<str>, usize>,
}

impl Names {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.scopes.is_empty()
    }

    fn hash(hasher: &RandomState, scope: &str, key: &str) -> u64 {
        hasher.hash_one((scope, key))
    }
}

impl Queue {
    pub(super) fn slot_of(&self, scope: &str, key: &str) -> Option<SlotAt> {
        let is_it = |at: &SlotAt| self.slots[*at as usize].as_ref().is_some_and(|slot| *slot.name.0 == *scope && *slot.name.1 == *key);
        self.names.table.find(Names::hash(&self.names.hasher, scope, key), is_it).copied()
    }

    /// Makes a slot that is not there yet, and that no run names.
    pub(super) fn add_slot(&mut self, scope: &Arc<str>, key: &Arc<str>, limit: u32, hold: Hold, bucket: Option<Bucket>) -> SlotAt {
        let scope = Arc::clone(self.names.scopes.get_key_value(scope).map_or(scope, |(same, _)| same));
        *self.names.scopes.entry(Arc::clone(&scope)).or_default() += 1;
        let hash = Names::hash(&self.names.hasher, &scope, key);
        let slot = Slot {
            name: (scope, Arc::clone(key)),
            limit,
            hold,
            taken: 0,
            holder: None,
            throttled: bucket.map(|bucket| Box::new(Throttled { bucket, due: None })),
            users: 0,
            parked: Parked::default(),
        };
        let at = Self::place(&mut self.slots, &mut self.free_slots, slot);
        let (slots, Names { table, hasher, .. }) = (&self.slots, &mut self.names);
        let rehash = |at: &SlotAt| slots[*at as usize].as_ref().map_or(0, |slot| Names::hash(hasher, &slot.name.0, &slot.name.1));
        table.insert_unique(hash, at, rehash);
        at
    }

    pub(super) fn drop_slot(&mut self, at: SlotAt) {
        let Some(mut slot) = self.slots[at as usize].take() else { return };
        if let Some(due) = slot.take_due() {
            self.due.remove(&(due, at));
        }
        let (scope, key) = slot.name;
        let Names { table, hasher, scopes } = &mut self.names;
        if let Ok(place) = table.find_entry(Names::hash(hasher, &scope, &key), |other| *other == at) {
            place.remove();
        }
        if let Some(slots) = scopes.get_mut(&scope) {
            *slots -= 1;
            if *slots == 0 {
                scopes.remove(&scope);
            }
        }
        self.free_slots.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Want};
    use super::*;
    use crate::base::Id;

    #[test]
    fn a_run_that_holds_a_key_of_its_own_takes_little_memory() {
        // A million runs have as many of each.
        assert_eq!((size_of::<Slot>(), size_of::<Option<Slot>>(), size_of::<Entry>()), (80, 80, 32));
        let mut queue = Queue::default();
        for run in 1..=1_000 {
            let want = Want { scope: "f#0".into(), key: run.to_string().into(), limit: 1, hold: Hold::Run, throttle: None };
            queue.hold(Id(run), &[want]);
        }
        assert_eq!((queue.slots.len(), queue.names.scopes.len(), queue.lines.len()), (1_000, 1, 0));
        let owns = |slot: &Slot| slot.parked.0.is_some() || slot.throttled.is_some();
        assert!(!queue.slots.iter().flatten().any(owns), "nobody waits: {queue:?}");
        assert!(queue.runs.iter().all(|(_, entry)| matches!(entry.slots, Places::One(_))), "{queue:?}");
        (1..=1_000).for_each(|run| queue.remove(Id(run)));
        assert!(queue.names.is_empty() && queue.runs.is_empty(), "nothing is left: {queue:?}");
    }

    #[test]
    fn slots_are_found_by_scope_and_key_while_others_come_and_go() {
        let mut queue = Queue::default();
        let want =
            |scope: &str, key: i64| Want { scope: scope.into(), key: key.to_string().into(), limit: 1, hold: Hold::Run, throttle: None };
        for run in 0..500 {
            queue.hold(Id(run), &[want("f", run), want("g", run)]);
        }
        (0..500).filter(|run| run % 3 > 0).for_each(|run| queue.remove(Id(run)));
        for run in 0..500 {
            for scope in ["f", "g"] {
                let at = queue.slot_of(scope, &run.to_string());
                let name = at.and_then(|at| queue.slots[at as usize].as_ref()).map(|slot| format!("{} {}", slot.name.0, slot.name.1));
                assert_eq!(name, (run % 3 == 0).then(|| format!("{scope} {run}")));
            }
        }
        assert_eq!(queue.slot_of("h", "0"), None);
    }
}
