//! E03xx: scripts when they are compiled.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[];
