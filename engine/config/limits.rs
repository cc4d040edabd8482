//! The fixed limits of the file format, each with its reason.

/// Deepest nesting of the file; a JSON Schema written inline needs some 30.
pub(super) const DEPTH_MOST: usize = 64;
/// Most values of one file; more is not a file that a person keeps.
pub(super) const NODES_MOST: usize = 250_000;
/// Largest file, in bytes.
pub(super) const FILE_MOST_BYTES: u64 = 8 * 1024 * 1024;
