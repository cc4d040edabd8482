//! E04xx: scripts when they run.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[];
