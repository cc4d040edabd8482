//! E02xx: events, schemas and expressions.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[];
