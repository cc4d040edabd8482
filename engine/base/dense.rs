//! A map for what is known of very many ids.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::alloc;
use super::id::{Id, hash_of};

/// A map by ids of the engine's own making, for very many: the values lie side by side, and what is hashed are their places, four bytes
/// each. An empty place in another map costs as much as a value, and up to half of the places are empty.
#[derive(Debug)]
pub struct DenseIdMap<V> {
    entries: Vec<(Id, V)>,
    /// Where each entry lies. No memory holds as many as there are numbers.
    places: HashTable<u32>,
}

impl<V> Default for DenseIdMap<V> {
    fn default() -> DenseIdMap<V> {
        DenseIdMap { entries: Vec::new(), places: HashTable::new() }
    }
}

impl<V> DenseIdMap<V> {
    /// Makes room for `more` values beyond those it has, which are about to come.
    pub fn reserve(&mut self, more: usize) {
        self.entries.reserve(more);
        alloc::prefer_large_pages(self.entries.spare_capacity_mut());
        let entries = &self.entries;
        self.places.reserve(more, |at| hash_at(entries, *at));
    }

    /// Values in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it has a value of this id.
    pub fn contains_key(&self, id: &Id) -> bool {
        self.place(id).is_some()
    }

    /// The value of an id.
    pub fn get(&self, id: &Id) -> Option<&V> {
        self.entries.get(self.place(id)?).map(|(_, value)| value)
    }

    /// The value of an id, to be changed.
    pub fn get_mut(&mut self, id: &Id) -> Option<&mut V> {
        let at = self.place(id)?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    /// Puts a value under an id, and gives the one that was there.
    pub fn insert(&mut self, id: Id, value: V) -> Option<V> {
        let entries = &self.entries;
        let is_it = |at: &u32| entries.get(*at as usize).is_some_and(|(other, _)| *other == id);
        match self.places.entry(hash_of(id), is_it, |at| hash_at(entries, *at)) {
            Entry::Occupied(place) => {
                let old = self.entries.get_mut(*place.get() as usize)?;
                Some(std::mem::replace(&mut old.1, value))
            }
            Entry::Vacant(place) => {
                place.insert(entries.len() as u32);
                self.entries.push((id, value));
                None
            }
        }
    }

    /// Takes out the value of an id; the last one takes its place in the order.
    pub fn swap_remove(&mut self, id: &Id) -> Option<V> {
        let at = self.place(id)?;
        if let Ok(place) = self.places.find_entry(hash_of(*id), |place| *place as usize == at) {
            place.remove();
        }
        let (_, value) = self.entries.swap_remove(at);
        let was_at = self.entries.len();
        // Nothing lies there where it was the last one itself.
        if let Some((moved, _)) = self.entries.get(at)
            && let Some(place) = self.places.find_mut(hash_of(*moved), |place| *place as usize == was_at)
        {
            *place = at as u32;
        }
        Some(value)
    }

    /// All ids with their values, in the order in which they were put in, but for those that took the place of others.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &V)> {
        self.entries.iter().map(|(id, value)| (id, value))
    }

    fn place(&self, id: &Id) -> Option<usize> {
        let is_it = |at: &u32| self.entries.get(*at as usize).is_some_and(|(other, _)| other == id);
        self.places.find(hash_of(*id), is_it).map(|at| *at as usize)
    }
}

fn hash_at<V>(entries: &[(Id, V)], at: u32) -> u64 {
    entries.get(at as usize).map_or(0, |(id, _)| hash_of(*id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_are_found_after_others_have_gone() {
        let mut map = DenseIdMap::default();
        map.reserve(100);
        for id in 0..10_000 {
            assert_eq!(map.insert(Id(id), id), None);
        }
        (0..10_000).filter(|id| id % 3 > 0).for_each(|id| assert_eq!(map.swap_remove(&Id(id)), Some(id)));
        for id in 0..10_000 {
            assert_eq!(map.get(&Id(id)), (id % 3 == 0).then_some(&id));
        }
        assert_eq!((map.len(), map.places.len()), (3_334, 3_334));
    }

    proptest! {
        #[test]
        fn it_is_a_map(work in prop::collection::vec((0..40_i64, 0..3_u8, any::<u16>()), 0..300)) {
            let (mut map, mut model) = (DenseIdMap::default(), BTreeMap::new());
            for (id, what, value) in work {
                let id = Id(id);
                match what {
                    0 => prop_assert_eq!(map.swap_remove(&id), model.remove(&id)),
                    1 => prop_assert_eq!(map.insert(id, value), model.insert(id, value)),
                    _ => {
                        prop_assert_eq!(map.get(&id), model.get(&id));
                        prop_assert_eq!(map.get_mut(&id), model.get_mut(&id));
                        prop_assert_eq!(map.contains_key(&id), model.contains_key(&id));
                    }
                }
                let all: BTreeMap<Id, u16> = map.iter().map(|(id, value)| (*id, *value)).collect();
                prop_assert_eq!(&all, &model);
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
