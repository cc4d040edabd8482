//! A signal that was sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalView {
    /// Its name.
    pub name: String,
    /// How many runs waited for it, and go on now.
    pub runs: usize,
}
