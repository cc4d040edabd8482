//! E05xx: the engine, the store and the commands.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[];
