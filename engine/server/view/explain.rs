//! Why an event did or did not start runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::limits::DEDUPE_WINDOW_MS;
use crate::base::{EventId, Millis, RunId, Span, json};
use crate::exec::InForce;
use crate::project::{Explained, Project};
use crate::rules::{CANCELS_NOTED, EventRow, Outcome, OutcomeRow, RunRow, RunState, cron, ended, family};
use crate::store::{Store, StoreError};

use super::schema::{IdText, StateWord};
use super::{EventView, Time, shown_state};

/// The most waits that are named.
const WAITS_MOST: usize = 100;

/// An event, and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExplainView {
    /// The event.
    pub event: EventView,
    /// All of it in one sentence.
    pub summary: String,
    /// What became of each function that its name starts, and of each one that did something for it, in the order of the
    /// config. The `if`s are evaluated anew, by the config in force now.
    pub functions: Vec<FunctionOutcome>,
    /// The waits that it ended, of runs that have not ended since: at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<EndedWaitView>,
    /// The runs that it cancelled by `cancel_on`, of each function at most 100. They may have been deleted since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<CancelledView>,
    /// How the same event sent again is known; none for an event without an id of its sender's that never came again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication: Option<Deduplication>,
    /// That the `if`s may have been other ones when the event was accepted: the config has changed since, or it is not known whether it
    /// has. None where they are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// What became of one function at an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionOutcome {
    /// The function.
    pub function_id: String,
    /// `started`, `not_matched`, `idempotency_taken`, `rate_limited`, `debounced_into`, `batched_into`,
    /// `singleton_skipped`, or `nothing` where no trace of it is left.
    pub outcome: String,
    /// The same in a sentence.
    pub why: String,
    /// The `if`s that were looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionView>,
    /// The runs of the function that the event started, oldest first; those that repeat one name it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<StartedView>,
    /// What its gates said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateView>,
    /// Options that do not apply to this event, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// An `if` and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConditionView {
    /// Its text.
    #[serde(rename = "if")]
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// Every path that it reads, with the value found there.
    pub values: BTreeMap<String, Value>,
    /// Why it counts as false although it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A run that an event started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartedView {
    /// Its id.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// Where it stands.
    #[schemars(with = "StateWord")]
    pub state: RunState,
    /// The run that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IdText>")]
    pub replay_of: Option<RunId>,
}

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateView {
    /// Which outcome, in the words of `FunctionOutcome::outcome`, and `singleton_replaced`.
    pub outcome: String,
    /// The run that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IdText>")]
    pub run_id: Option<RunId>,
    /// Until when it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// The same in a sentence.
    pub why: String,
}

/// A wait of a run that an event ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndedWaitView {
    /// The run that waited.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// Its function.
    pub function_id: String,
    /// The key of the wait among its steps.
    pub key: String,
    /// Where the run stands now.
    #[schemars(with = "StateWord")]
    pub state: RunState,
}

/// A run that an event cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelledView {
    /// The run.
    #[schemars(with = "IdText")]
    pub run_id: RunId,
    /// Its function.
    pub function_id: String,
}

/// How the same event sent again is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deduplication {
    /// The sender's id; none where the request's header tells events apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Until then, an event of the same name with the same id gets this one's id, and starts nothing.
    pub until: Time,
    /// When it came again for the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated_at: Option<Time>,
}

impl ExplainView {
    /// What became of a stored event: by the snapshot that is asked, its runs in any order, and what the store says besides.
    ///
    /// # Errors
    /// The store's.
    pub fn of(event: &EventRow, project: &Project, runs: &[RunRow], store: &dyn Store, now: Millis) -> Result<ExplainView, StoreError> {
        let outcomes = store.outcomes(event.id)?;
        let data = json::value(&event.data).unwrap_or_default();
        let explained = project.explain(event, &data);
        let is_noted = |row: &&OutcomeRow| !matches!(row.outcome, Outcome::Repeated { .. } | Outcome::Cancelled { .. });
        let mut ids: Vec<&str> = explained.iter().map(|function| &*function.function).collect();
        // Functions that are not declared any more, or not for this event.
        let others = runs.iter().map(|run| &*run.function).chain(outcomes.iter().filter(is_noted).map(|row| &*row.function));
        for id in others {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let functions: Vec<FunctionOutcome> = ids
            .into_iter()
            .map(|id| {
                let verdict = explained.iter().find(|function| *function.function == *id);
                let gates = outcomes.iter().filter(is_noted).filter(|row| *row.function == *id).map(|row| row.outcome).collect();
                let mut runs: Vec<&RunRow> = runs.iter().filter(|run| *run.function == *id).collect();
                runs.sort_by_key(|run| run.id);
                let is_declared = verdict.is_some() || is_started_by_the_engine(event, id, project);
                let mut function = outcome(id, verdict, gates, &runs, now);
                if !is_declared {
                    function.notes.push("the config in force does not declare this function for this event".to_owned());
                }
                function
            })
            .collect();
        let repeated_at = outcomes.iter().find_map(|row| match row.outcome {
            Outcome::Repeated { at } => Some(Time(at)),
            _ => None,
        });
        let deduplication = (event.sender_id.is_some() || repeated_at.is_some()).then(|| Deduplication {
            id: event.sender_id.as_deref().map(str::to_owned),
            until: Time(event.accepted.after(Span(DEDUPE_WINDOW_MS))),
            repeated_at,
        });
        let waits = ended_waits(store, event.id, now)?;
        let cancelled: Vec<CancelledView> = outcomes
            .iter()
            .filter_map(|row| match row.outcome {
                Outcome::Cancelled { run, .. } => Some(CancelledView { run_id: run, function_id: row.function.to_string() }),
                _ => None,
            })
            .collect();
        let summary = summary(event, project, &functions, &waits, &cancelled);
        Ok(ExplainView { event: EventView::of(event), summary, functions, waits, cancelled, deduplication, config: None })
    }

    /// The same, with what is to be said of the config that its `if`s were evaluated by: since when that one has been in force, or none
    /// where no engine was asked.
    #[must_use]
    pub fn by_config(self, in_force: Option<InForce>) -> ExplainView {
        let accepted = self.event.received_at.0;
        let since = match in_force {
            None => Some("no engine answers, so it is not known whether the config has changed since the event was accepted".to_owned()),
            Some(InForce { changed: Some(at), .. }) if accepted < at => {
                Some(format!("the config has changed since the event was accepted, the last time at {}", at.rfc3339()))
            }
            Some(InForce { started, .. }) if accepted < started => {
                Some("the engine has been started since the event was accepted, perhaps with another config".to_owned())
            }
            Some(_) => None,
        };
        ExplainView { config: since.map(|since| format!("{since}: the `if`s are evaluated as they are now")), ..self }
    }
}

/// Whether the engine itself starts this function with such an event, whose name no trigger has: by the clock, by an invocation,
/// or as what its function's `on_failure` declares.
fn is_started_by_the_engine(event: &EventRow, function: &str, project: &Project) -> bool {
    let can_be = match &*event.name {
        cron::SCHEDULED | family::INVOKED => true,
        ended::FAILED => ended::failing_function(function).is_some(),
        _ => false,
    };
    can_be && project.function(function).is_some()
}

fn ended_waits(store: &dyn Store, event: EventId, now: Millis) -> Result<Vec<EndedWaitView>, StoreError> {
    let mut views = Vec::new();
    for row in store.waits_ended_by(event, WAITS_MOST)? {
        // It may be gone by now.
        let Some(run) = store.run(row.wait.run)? else { continue };
        let state = shown_state(&run, now);
        views.push(EndedWaitView { run_id: run.id, function_id: run.function.to_string(), key: row.wait.key.to_string(), state });
    }
    Ok(views)
}

fn summary(
    event: &EventRow,
    project: &Project,
    functions: &[FunctionOutcome],
    waits: &[EndedWaitView],
    cancelled: &[CancelledView],
) -> String {
    let mut parts = match functions {
        [] => vec![format!("no function is declared `on: {}`, so it started nothing", event.name)],
        functions => started(functions),
    };
    match waits.len() {
        0 => {}
        1 => parts.push("it ended the wait of 1 run".to_owned()),
        WAITS_MOST => parts.push(format!("it ended waits of {WAITS_MOST} runs or more")),
        more => parts.push(format!("it ended waits of {more} runs")),
    }
    parts.extend(cancelled.chunk_by(|one, next| one.function_id == next.function_id).map(cancelled_of));
    let cancels = project.functions.iter().filter(|function| function.cancels.iter().any(|cancel| cancel.event == event.name));
    let none = cancels.filter(|function| !cancelled.iter().any(|run| run.function_id == *function.id));
    let none: Vec<String> = none.map(|function| format!("`{}`", function.id)).collect();
    if !none.is_empty() {
        parts.push(format!("it cancelled no run of {}", none.join(", ")));
    }
    parts.join("; ")
}

/// The runs of one function that an event cancelled, in words.
fn cancelled_of(runs: &[CancelledView]) -> String {
    let Some(CancelledView { run_id, function_id }) = runs.first() else { return String::new() };
    match runs.len() {
        1 => format!("it cancelled run {run_id} of `{function_id}`"),
        all => {
            let more = if all == usize::from(CANCELS_NOTED) { " or more" } else { "" };
            format!("it cancelled {all} runs{more} of `{function_id}`, the first is {run_id}")
        }
    }
}

/// What became of the functions, in words.
fn started(functions: &[FunctionOutcome]) -> Vec<String> {
    let count = |wanted: &str| functions.iter().filter(|function| function.outcome == wanted).count();
    let started: usize = functions.iter().flat_map(|function| &function.runs).filter(|run| run.replay_of.is_none()).count();
    let functions_word = |count: usize| if count == 1 { "1 function".to_owned() } else { format!("{count} functions") };
    let mut parts = match started {
        0 => vec!["it started nothing".to_owned()],
        1 => vec!["it started 1 run".to_owned()],
        more => vec![format!("it started {more} runs")],
    };
    let (not_matched, other) = (count("not_matched"), functions.len() - count("started") - count("not_matched"));
    if not_matched > 0 {
        parts.push(format!("the `if` of {} is false", functions_word(not_matched)));
    }
    if other > 0 {
        parts.push(format!("{} matched without a run of its own", functions_word(other)));
    }
    parts
}

fn outcome(id: &str, verdict: Option<&Explained>, gates: Vec<Outcome>, runs: &[&RunRow], now: Millis) -> FunctionOutcome {
    let started: Vec<StartedView> =
        runs.iter().map(|run| StartedView { run_id: run.id, state: shown_state(run, now), replay_of: run.replay_of }).collect();
    let own = started.iter().find(|run| run.replay_of.is_none());
    let gate = gates.iter().find(|gate| !matches!(gate, Outcome::SingletonReplaced(_)));
    let (word, why) = match (own, gate, verdict) {
        (_, Some(gate), _) => (gate.word(), sentence(*gate)),
        (Some(run), None, _) => ("started", format!("started run {}, which is {}", run.run_id, run.state.word().replace('_', " "))),
        (None, None, Some(verdict)) if !verdict.applies => {
            ("not_matched", verdict.why.clone().unwrap_or_else(|| "its `if` does not hold".to_owned()))
        }
        (None, None, Some(_)) => (
            "nothing",
            "it matches now, but nothing was started: the function or its `if` is newer than the event, or its run was deleted since"
                .to_owned(),
        ),
        (None, None, None) => ("started", "its run was repeated".to_owned()),
    };
    let conditions = verdict.map(|verdict| verdict.conditions.as_slice()).unwrap_or_default();
    let conditions = conditions.iter().map(|condition| ConditionView {
        text: condition.text.to_string(),
        holds: condition.holds,
        values: condition.values.iter().cloned().collect(),
        error: condition.error.clone(),
    });
    FunctionOutcome {
        function_id: id.to_owned(),
        outcome: word.to_owned(),
        why,
        conditions: conditions.collect(),
        runs: started,
        gates: gates.into_iter().map(gate_view).collect(),
        notes: verdict.map(|verdict| verdict.notes.clone()).unwrap_or_default(),
    }
}

fn gate_view(gate: Outcome) -> GateView {
    let until = match gate {
        Outcome::RateLimited { until } => Some(Time(until)),
        _ => None,
    };
    GateView { outcome: gate.word().to_owned(), run_id: gate.run(), until, why: sentence(gate) }
}

fn sentence(gate: Outcome) -> String {
    match gate {
        Outcome::IdempotencyTaken(run) => format!("skipped: run {run} has its idempotency key already"),
        Outcome::RateLimited { until } => format!("skipped: its rate limit was reached until {}", Time(until)),
        Outcome::DebouncedInto(run) => format!("debounced into run {run}"),
        Outcome::BatchedInto(run) => format!("batched into run {run}"),
        Outcome::SingletonSkipped(run) => format!("skipped: run {run} of the same singleton had not ended"),
        Outcome::SingletonReplaced(run) => format!("run {run} of the same singleton was cancelled for it"),
        Outcome::Repeated { at } => format!("it was sent again at {}", Time(at)),
        Outcome::Cancelled { run, .. } => format!("it cancelled run {run}"),
    }
}
