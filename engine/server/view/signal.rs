//! A signal that was sent.

use serde::{Deserialize, Serialize};

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalView {
    /// Its name.
    pub name: String,
    /// How many runs waited for it, and go on now.
    pub runs: usize,
}
