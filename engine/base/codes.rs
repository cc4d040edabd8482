//! The one registry of diagnostic codes: what each means, with an example and how to mend it. `stepwell explain` prints it.
//!
//! E01xx are the file and its keys, E02xx events, schemas and expressions, E03xx scripts when they are compiled, E04xx
//! scripts when they run, E05xx the engine, the store and the commands. A W is a warning. A code keeps its meaning for ever.

/// A code and what there is to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `E0102`.
    pub code: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// What it means, an example, and how to mend it.
    pub text: &'static str,
}

/// All codes, sorted.
pub const ALL: &[Entry] = &[];

/// The entry of a code, written in any case.
pub fn find(code: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.code.eq_ignore_ascii_case(code.trim()))
}
