//! The one shape of an error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every answer but a success looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    /// What is wrong, in one sentence.
    pub error: String,
    /// The HTTP status again, for clients that only see the body.
    pub status: u16,
    /// Every single problem, where there can be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
}

/// One problem of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Detail {
    /// The event's number in the request, from 0; none where the body as a whole is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The code that `stepwell explain` takes.
    pub code: String,
    /// A JSON pointer to the place within the event (within the body, where there is no index).
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}
