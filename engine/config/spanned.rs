//! Values that remember where they were written, and ordered maps of them.

use std::collections::HashMap;
use std::ops::Deref;

use crate::base::Location;

/// A value with the place it was written at.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Location,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, place: Location) -> Spanned<T> {
        Spanned { value, place }
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), place: self.place }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The value in force: what was written, else the default.
pub(super) fn or<T: Clone>(written: &Option<Spanned<T>>, default: T) -> T {
    written.as_ref().map_or(default, |spanned| spanned.value.clone())
}

/// A map in the order of the file, keyed by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Table<T> {
    entries: Vec<(Spanned<String>, T)>,
    positions: HashMap<String, usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { entries: Vec::new(), positions: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.entry(name).map(|(_, value)| value)
    }

    /// The name as it was written, and its value.
    pub fn entry(&self, name: &str) -> Option<(&Spanned<String>, &T)> {
        self.positions.get(name).map(|at| (&self.entries[*at].0, &self.entries[*at].1))
    }

    /// All entries, in the order of the file; those of included files follow.
    pub fn iter(&self) -> impl Iterator<Item = (&Spanned<String>, &T)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// All names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.value.as_str())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries themselves.
    pub(super) fn into_entries(self) -> Vec<(Spanned<String>, T)> {
        self.entries
    }

    /// Adds the entries of another table whose names are not there yet.
    pub(super) fn extend(&mut self, other: &Table<T>)
    where
        T: Clone,
    {
        for (key, value) in &other.entries {
            if self.get(&key.value).is_none() {
                self.push(key.clone(), value.clone());
            }
        }
    }

    /// Adds an entry. The caller has seen to it that the name is not there yet.
    pub(super) fn push(&mut self, key: Spanned<String>, value: T) {
        self.positions.insert(key.value.clone(), self.entries.len());
        self.entries.push((key, value));
    }
}
