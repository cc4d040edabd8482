//! An event as the API shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::EventId;
use crate::rules::EventRow;

use super::schema::IdText;
use super::{Raw, Time, raw};

/// An accepted event, in Inngest's shape.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// The id that the engine gave it.
    #[schemars(with = "IdText")]
    pub internal_id: EventId,
    /// The sender's id; the engine's where the sender gave none.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its data, byte by byte as sent.
    #[schemars(with = "serde_json::Value")]
    pub data: Raw,
    /// The sender's `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub user: Option<Raw>,
    /// The sender's `v`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<String>,
    /// The trace that it was sent in: W3C's `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The sender's time in milliseconds since 1970; its runs start then if it is later than `received_at`.
    pub ts: i64,
    /// When it was accepted.
    pub received_at: Time,
}

/// What a sender may add to an event, as it is stored.
#[derive(Default, Deserialize)]
struct Extra {
    #[serde(default)]
    user: Option<Raw>,
    #[serde(default)]
    v: Option<String>,
    #[serde(default)]
    traceparent: Option<String>,
}

impl EventView {
    /// The view of a stored event.
    pub fn of(row: &EventRow) -> EventView {
        // The engine wrote this object itself; a damaged one costs the two fields, not the whole answer.
        let extra: Extra = row.extra.as_deref().and_then(|extra| serde_json::from_str(extra).ok()).unwrap_or_default();
        EventView {
            internal_id: row.id,
            id: row.sender_id.as_deref().map_or_else(|| row.id.to_string(), str::to_owned),
            name: row.name.to_string(),
            data: raw(&row.data),
            user: extra.user,
            v: extra.v,
            traceparent: extra.traceparent,
            ts: row.ts.0,
            received_at: Time(row.accepted),
        }
    }
}
