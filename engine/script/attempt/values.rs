//! What a step is about to change of the scripts' values: it becomes true with the step's record, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::alloc;
use crate::rules::{KvRow, Write};

use super::super::error::Fault;
use super::super::keys::HeldKey;
use super::Attempt;

/// The changes of the step that runs, and the keys that it holds for them.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// By key; none where the value is deleted.
    changed: BTreeMap<Arc<str>, Option<KvRow>>,
    held: Vec<HeldKey>,
}

impl Attempt {
    /// The value under a key as the running step sees it.
    pub(in crate::script) fn value(&self, key: &str) -> Result<Option<KvRow>, Fault> {
        if let Some(changed) = self.values.borrow().changed.get(key) {
            return Ok(changed.clone());
        }
        alloc::uncounted(|| self.ports.post.value(key)).map_err(|error| self.halt(super::Halt::Store(error)))
    }

    /// Whether the running step holds a key.
    pub(in crate::script) fn holds(&self, key: &str) -> bool {
        self.values.borrow().held.iter().any(|held| &**held.key() == key)
    }

    /// How many keys the running step has changed.
    pub(in crate::script) fn changes(&self) -> usize {
        self.values.borrow().changed.len()
    }

    /// Keeps a key that the running step has got hold of.
    pub(in crate::script) fn keep(&self, held: HeldKey) {
        alloc::uncounted(|| self.values.borrow_mut().held.push(held));
    }

    /// Notes a change of a value whose key the step holds.
    pub(in crate::script) fn change(&self, key: &Arc<str>, row: Option<KvRow>) {
        alloc::uncounted(|| self.values.borrow_mut().changed.insert(Arc::clone(key), row));
    }

    /// Adds the changes to what is committed next, which is the record of the step; whether there are any.
    pub(in crate::script) fn append_values(&self) -> bool {
        let changed = std::mem::take(&mut self.values.borrow_mut().changed);
        if changed.is_empty() {
            return false;
        }
        alloc::uncounted(|| {
            let writes = changed.into_iter().map(|(key, row)| row.map_or(Write::DropValue(key), Write::PutValue));
            self.own.borrow_mut().pending.extend(writes);
        });
        true
    }

    /// Forgets what was not recorded, and lets others have the keys.
    pub(in crate::script) fn let_go(&self) {
        let values = std::mem::take(&mut *self.values.borrow_mut());
        alloc::uncounted(|| drop(values));
    }
}
