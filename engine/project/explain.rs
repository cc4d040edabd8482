//! What the functions that an event's name starts make of it: for people who ask why something did or did not start.

use std::sync::Arc;

use serde_json::Value;

use crate::expr::{Expr, Scope};
use crate::rules::EventRow;
use crate::rules::gates::Collect;

use super::function::once_value;
use super::{Function, Project};

/// What became of one function at an event.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Explained {
    /// The function's id.
    pub function: Arc<str>,
    /// Whether its `if` holds.
    pub applies: bool,
    /// Why it does not apply.
    pub why: Option<String>,
    /// The `if` of each trigger of this name that has one, up to the one that holds.
    pub conditions: Vec<Condition>,
    /// Options that do not apply to this event, and why.
    pub notes: Vec<String>,
}

/// An `if` and what came of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Condition {
    /// Its text.
    pub text: Arc<str>,
    /// Whether it holds.
    pub holds: bool,
    /// Every path that it reads, with the value found there.
    pub values: Vec<(String, Value)>,
    /// Why it counts as false although it is not.
    pub error: Option<String>,
}

impl Project {
    /// What became of each function that the event's name starts, and why: by the rules of this snapshot.
    pub fn explain(&self, event: &EventRow, data: &Value) -> Vec<Explained> {
        self.with_scope(event, data, |scope| self.started_by(&event.name).map(|function| function.explained(&event.name, scope)).collect())
    }
}

impl Function {
    fn explained(&self, name: &str, scope: &Scope<'_>) -> Explained {
        let verdict = self.verdict(name, scope);
        let mut conditions = Vec::new();
        for trigger in self.triggers.iter().filter(|trigger| trigger.matches(name)) {
            let Some(condition) = &trigger.condition else { break };
            let found = condition.holds(scope);
            let holds = found == Ok(true);
            conditions.push(Condition {
                text: Arc::clone(condition.text()),
                holds,
                values: condition.seen(scope),
                error: found.err().map(|error| error.to_string()),
            });
            if holds {
                break;
            }
        }
        let notes = if verdict.applies { self.notes(scope) } else { Vec::new() };
        Explained { function: Arc::clone(&self.id), applies: verdict.applies, why: verdict.why, conditions, notes }
    }

    /// Options that do not apply to this event, since their key has no value by which it could be told from others.
    fn notes(&self, scope: &Scope<'_>) -> Vec<String> {
        let singleton = self.singleton.as_ref().and_then(|(_, key)| key.as_ref());
        // Events whose key of a batch is null are a batch of their own.
        let debounce = self.collect_key.as_ref().filter(|_| matches!(self.collect, Some(Collect::Debounce { .. })));
        let options = [("idempotency", self.idempotency.as_ref()), ("debounce", debounce), ("singleton", singleton)];
        let note = |(option, key): (&str, Option<&Expr>)| {
            let key = key?;
            let why = once_value(key, scope).err()?;
            Some(format!("`{option}` does not apply to this event: its key `{}` {why}", key.text()))
        };
        options.into_iter().filter_map(note).collect()
    }
}
