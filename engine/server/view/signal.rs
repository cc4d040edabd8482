//! A signal that was sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::RunId;

use super::Raw;
use super::schema::IdText;

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalView {
    /// Its name.
    pub name: String,
    /// How many runs waited for it, and go on now.
    pub runs: usize,
}

/// A signal with its name, as Inngest's SDKs send it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct SignalBody {
    /// Its name.
    pub signal: String,
    /// What the waits give: any JSON; null where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub data: Option<Raw>,
}

/// A signal that was taken, as Inngest's SDKs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalledView {
    /// The run that has waited longest for it.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// How many runs waited for it, and go on now.
    pub runs: usize,
}
