//! What the API takes and answers besides rows: events, invocations, and how the engine is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{EventId, RunId};

use super::schema::IdText;
use super::{Detail, Raw, RunView};

/// An event to be sent. It is read by a parser of its own that tells every problem at once; this is its shape alone.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventInput {
    /// The declared name, at most 512 bytes.
    pub name: String,
    /// The data, as the event's schema wants them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    /// The sender's own id: the same name and id within 24 hours answers the first one's id, and starts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Milliseconds since 1970; the runs start then if that is later. 0 or nothing is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<i64>,
    /// Kept as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<serde_json::Value>,
    /// Kept as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<String>,
}

/// One event, or at most 5,000 of them.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "no value of it is made: only its shape is used, for the OpenAPI document")]
pub enum EventsInput {
    /// One.
    One(EventInput),
    /// Several.
    Several(Vec<EventInput>),
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthView {
    /// 200.
    pub status: u16,
    /// `OK`, `ready` or `degraded`.
    pub message: String,
    /// The program's version, which may be another one than that of who asks.
    pub version: String,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// For callers that may read: the problems of a config that was found broken, while the one before stays in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Detail>,
}

/// The config in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// The hash over all that makes up the snapshot but the environment.
    pub hash: String,
    /// Every option in force, in the order of the format.
    pub settings: Vec<SettingView>,
}

/// An option in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingView {
    /// The keys that lead to it, joined by dots.
    pub key: String,
    /// Its value, as it is written in the file. The value of a secret is never shown.
    pub value: serde_json::Value,
    /// `default`, or the file and line.
    pub origin: String,
}

/// A run that is to be started without an event of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeBody {
    /// What the handler sees as `event.data`: an object, as the schema of the function's trigger wants it, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub data: Option<Raw>,
    /// Answers once the run has ended, or is parked, or this long has passed: a duration such as `30s`, at most `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// A run that was started.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InvokedView {
    /// Its id.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// The event that was made for it.
    #[schemars(with = "IdText")]
    pub event_id: EventId,
    /// Whether it has ended, or is parked.
    pub ended: bool,
    /// The run as it is now.
    pub run: RunView,
}
