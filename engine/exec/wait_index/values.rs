//! Waits by the value that a field of an event has to have.

use std::collections::BTreeSet;

use crate::base::id::NumberMap;

use super::At;

/// The places of waits by the hash of a value. Mostly one wait has a value, and there may be a million of those, so it has no set.
#[derive(Debug, Default)]
pub(super) struct Values {
    ones: NumberMap<At>,
    many: NumberMap<BTreeSet<At>>,
}

impl Values {
    pub(super) fn insert(&mut self, value: u32, wait: At) {
        if let Some(waits) = self.many.get_mut(&value) {
            waits.insert(wait);
        } else if let Some(other) = self.ones.remove(&value) {
            self.many.insert(value, BTreeSet::from([other, wait]));
        } else {
            self.ones.insert(value, wait);
        }
    }

    pub(super) fn remove(&mut self, value: u32, wait: At) {
        if let Some(waits) = self.many.get_mut(&value) {
            waits.remove(&wait);
            if waits.is_empty() {
                self.many.remove(&value);
            }
        } else if self.ones.get(&value) == Some(&wait) {
            self.ones.remove(&value);
        }
    }

    /// The waits whose value has this hash, in no order.
    pub(super) fn of(&self, value: u32) -> impl Iterator<Item = At> + '_ {
        self.ones.get(&value).into_iter().chain(self.many.get(&value).into_iter().flatten()).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ones.is_empty() && self.many.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ones.len() + self.many.len()
    }

    #[cfg(test)]
    pub(super) fn have_no_sets(&self) -> bool {
        self.many.capacity() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_of_one_value_come_and_go() {
        let mut values = Values::default();
        let of = |values: &Values, value| {
            let mut waits: Vec<At> = values.of(value).collect();
            waits.sort_unstable();
            waits
        };
        values.insert(7, 1);
        values.insert(8, 2);
        assert_eq!((of(&values, 7), of(&values, 9)), (vec![1], Vec::new()));
        values.insert(7, 3);
        values.insert(7, 3);
        values.insert(7, 4);
        assert_eq!(of(&values, 7), [1, 3, 4]);
        values.remove(7, 1);
        values.remove(7, 9);
        values.remove(8, 9);
        assert_eq!((of(&values, 7), of(&values, 8)), (vec![3, 4], vec![2]));
        values.remove(7, 3);
        values.remove(7, 4);
        values.remove(8, 2);
        assert!(values.is_empty(), "{values:?}");
    }
}
