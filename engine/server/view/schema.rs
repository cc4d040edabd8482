//! The shapes of what views hold that have none of their own: for the OpenAPI document alone.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::rules::row::LogLevel;
use crate::rules::{Kind, RunState};

/// An id: 13 characters that sort by time.
pub(super) enum IdText {}
/// A run's precise state.
pub(super) enum StateWord {}
/// The kind of a record.
pub(super) enum KindWord {}
/// How loud a line of a log is.
pub(super) enum LevelWord {}

/// An error of a handler.
#[derive(JsonSchema)]
#[schemars(rename = "Failure")]
#[allow(dead_code, reason = "only its shape is used, for the schema")]
pub(super) struct FailureShape {
    /// What a person reads.
    message: String,
    /// The code that `stepwell explain` takes.
    #[serde(default)]
    code: String,
    /// The step it came from.
    step: Option<String>,
    /// The attempts of that step.
    attempts: Option<u32>,
    /// Of an attempt that another one follows: how many there may be in all.
    allowed: Option<u32>,
    /// Of an attempt that another one follows: who asked for the wait between them, `script` or `server`; none where it is the back-off.
    asked: Option<String>,
    /// What was thrown or handed to `fail`, where it was more than a text.
    data: Option<serde_json::Value>,
    /// Where in the script: the innermost place first, then its callers.
    #[serde(default)]
    trace: Vec<PlaceShape>,
    /// A line of advice.
    help: Option<String>,
}

/// A place in a script.
#[derive(JsonSchema)]
#[schemars(rename = "Place")]
#[allow(dead_code, reason = "only its shape is used, for the schema")]
struct PlaceShape {
    /// Path below the config's folder.
    file: String,
    /// From 1.
    line: u32,
    /// From 1, in characters; 0 where unknown.
    column: u32,
    /// The function or step it stands in.
    within: Option<String>,
}

fn words(name: &str, words: impl Iterator<Item = &'static str>) -> Schema {
    let words: Vec<&str> = words.collect();
    json_schema!({ "type": "string", "title": name, "enum": words })
}

impl JsonSchema for IdText {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-hjkmnp-tv-z]{13}$", "description": "13 characters that sort by time" })
    }
}

impl JsonSchema for StateWord {
    fn schema_name() -> Cow<'static, str> {
        "State".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words("state", RunState::ALL.into_iter().map(RunState::word))
    }
}

impl JsonSchema for KindWord {
    fn schema_name() -> Cow<'static, str> {
        "Kind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words("kind", Kind::ALL.into_iter().map(Kind::word))
    }
}

impl JsonSchema for LevelWord {
    fn schema_name() -> Cow<'static, str> {
        "Level".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words("level", LogLevel::ALL.into_iter().map(LogLevel::word))
    }
}

impl JsonSchema for super::Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl JsonSchema for super::When {
    fn schema_name() -> Cow<'static, str> {
        "When".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "a time such as 2026-01-31T12:00:00Z, milliseconds since 1970, or so long ago: 2h" })
    }
}
