//! What is different between the config in force and its files, as the API shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::RunId;
use crate::exec::{Affected, Plan, on_older};
use crate::project::{Change, Difference, Field};

use super::Detail;
use super::schema::IdText;

/// A reload that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadView {
    /// The hash of the config in force now.
    pub hash: String,
    /// What is different from before.
    pub changes: Vec<ChangeView>,
    /// How many runs in flight go on with an older version of their handler, where one has changed, a function each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<OlderView>,
    /// Warnings and notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Detail>,
}

/// Runs in flight that are on older versions of a function's handler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OlderView {
    /// The function.
    pub function_id: String,
    /// How many runs.
    pub runs: usize,
    /// The same in one sentence.
    pub text: String,
}

impl OlderView {
    /// The view of a count.
    pub fn of((function, runs): &(std::sync::Arc<str>, usize)) -> OlderView {
        OlderView { function_id: function.to_string(), runs: *runs, text: on_older(function, *runs) }
    }
}

/// What a reload would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// The hash of the config in force.
    pub in_force: String,
    /// The hash of what would come into force.
    pub hash: String,
    /// What is different.
    pub changes: Vec<ChangeView>,
    /// The runs in flight that it would touch, a function each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<AffectedView>,
    /// Warnings and notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Detail>,
}

/// What would become of the runs in flight of a function whose handler is another one, or that is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AffectedView {
    /// The function.
    pub function_id: String,
    /// Runs that have not ended.
    pub in_flight: usize,
    /// Those that have recorded nothing yet.
    pub fresh: usize,
    /// Those whose record fits the new handler.
    pub fit: usize,
    /// Those whose record does not fit it.
    pub unfit: usize,
    /// Those that were not looked at, since there are too many.
    pub unknown: usize,
    /// Whether the function is gone.
    pub gone: bool,
    /// One that does not fit, and the first difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<UnfitView>,
    /// All of it in one sentence.
    pub text: String,
}

/// A run whose record does not fit a handler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnfitView {
    /// The run.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// The first difference.
    pub difference: String,
}

impl PlanView {
    /// The view of a plan.
    pub fn of(plan: &Plan) -> PlanView {
        PlanView {
            in_force: plan.in_force.clone(),
            hash: plan.hash.clone(),
            changes: ChangeView::all(&plan.difference),
            runs: plan.runs.iter().map(AffectedView::of).collect(),
            notes: plan.notes.iter().map(Detail::of).collect(),
        }
    }
}

impl AffectedView {
    fn of(affected: &Affected) -> AffectedView {
        let Affected { function, in_flight, fresh, fit, unfit, unknown, versions, first } = affected;
        AffectedView {
            function_id: function.to_string(),
            in_flight: *in_flight,
            fresh: *fresh,
            fit: *fit,
            unfit: *unfit,
            unknown: *unknown,
            gone: versions.is_none(),
            first: first.as_ref().map(|(run, why)| UnfitView { run_id: *run, difference: why.to_string() }),
            text: affected.text(),
        }
    }
}

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    /// `event`, `function` or `setting`.
    pub subject: String,
    /// The event's name, the function's id, or the option's key.
    pub name: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// All of it in one sentence.
    pub text: String,
    /// Which of its options are different.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldView>,
    /// It is in force after a restart only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_restart: bool,
}

/// An option with its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FieldView {
    /// Its key; empty for an option that is named already.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The value before, where it had one that can be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// The value then, where it has one that can be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

impl ChangeView {
    /// The views of a difference.
    pub fn all(difference: &Difference) -> Vec<ChangeView> {
        difference.changes.iter().map(ChangeView::of).collect()
    }

    fn of(change: &Change) -> ChangeView {
        let field = |field: &Field| FieldView { key: field.key.clone(), before: field.before.clone(), after: field.after.clone() };
        ChangeView {
            subject: change.subject.word().to_owned(),
            name: change.name.clone(),
            change: change.how.word().to_owned(),
            text: change.to_string(),
            fields: change.fields.iter().map(field).collect(),
            needs_restart: change.needs_restart,
        }
    }
}
