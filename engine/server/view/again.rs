//! Runs done again, and what was done to many runs at once.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::RunId;

use super::schema::IdText;
use super::{Raw, When};

/// What is kept of a run that is done again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    /// The first step that is done again: what was recorded before it is kept. Without it, that is the step after the last one
    /// whose result is set; where none is, all is done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<String>,
    /// Results that take the place of kept ones, by the step's key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub set: BTreeMap<String, Raw>,
    /// Checks everything and does nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// A run that was done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayView {
    /// The run that was there before.
    #[schemars(with = "IdText")]
    pub replay_of: RunId,
    /// The new run; none where nothing was done.
    #[schemars(with = "Option<IdText>")]
    pub run_id: Option<RunId>,
    /// The function.
    pub function_id: String,
    /// The keys of the steps whose records it keeps.
    pub kept: Vec<String>,
}

/// How a run is taken to the newest handler.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateBody {
    /// Checks everything and does nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// A run that goes on with the newest handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigratedView {
    /// The run.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// The version that it was on; none where it has not begun.
    pub from: Option<String>,
    /// The version that it goes on with.
    pub to: String,
    /// All of it in one sentence.
    pub text: String,
}

/// Runs that something is done to. All that is set must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManyBody {
    /// Of this function.
    #[serde(default, alias = "function_id", skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// In one of these states or statuses. Without it a replay means the failed ones, a cancel those that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// Started by this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IdText>")]
    pub event: Option<RunId>,
    /// Created then or later, or so long ago at most.
    #[serde(default, alias = "started_after", skip_serializing_if = "Option::is_none")]
    pub since: Option<When>,
    /// Created before then, or longer ago.
    #[serde(default, alias = "started_before", skip_serializing_if = "Option::is_none")]
    pub until: Option<When>,
    /// CEL over `run` and `event`.
    #[serde(rename = "if", default, alias = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// For a replay: as in the replay of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<String>,
    /// For a replay: as in the replay of one run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub set: BTreeMap<String, Raw>,
    /// The app that is meant, as Inngest's requests name it: this engine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// For a cancel: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Counts, and does nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

impl ManyBody {
    /// Whether it means all runs there are, since nothing narrows it.
    pub fn is_unbounded(&self) -> bool {
        let narrowed = self.function.is_some() || self.event.is_some() || self.condition.is_some() || !self.status.is_empty();
        !narrowed && self.since.is_none() && self.until.is_none()
    }
}

/// What was done to many runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManyView {
    /// Runs that are meant.
    pub matched: usize,
    /// Of these, runs that were replayed before: they are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replayed_before: usize,
    /// Runs that it was done to; 0 where it only counted.
    pub done: usize,
    /// Whether it only counted.
    pub dry_run: bool,
    /// The runs, oldest first: at most 1,000 of them.
    pub runs: Vec<DoneView>,
}

/// One of many runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoneView {
    /// The run that is meant.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// The run that it was replayed as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IdText>")]
    pub replayed_as: Option<RunId>,
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}
