//! A line of a run's log as the API shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::LogRow;
use crate::rules::row::LogLevel;

use super::schema::LevelWord;
use super::{Raw, Time, raw};

/// A line of a run's log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LogView {
    /// When it was written.
    pub at: Time,
    /// How loud.
    #[schemars(with = "LevelWord")]
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// The map beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub data: Option<Raw>,
    /// The step it was written in; empty between steps.
    pub step: String,
}

impl LogView {
    /// The view of a stored line.
    pub fn of(row: &LogRow) -> LogView {
        LogView {
            at: Time(row.at),
            level: row.level,
            message: row.message.to_string(),
            data: row.data.as_deref().map(raw),
            step: row.step.to_string(),
        }
    }
}
