//! An event at the door: whether it is accepted, and which functions it starts.

use std::sync::Arc;

use serde_json::Value;

use crate::base::diagnostic::nearest;
use crate::base::limits::EVENT_NAME_BYTES;
use crate::config::UnknownEvents;
use crate::expr::{EventView, Scope};
use crate::rules::EventRow;
use crate::rules::matching::Candidate;

use super::violation::{EventProblem, shown};
use super::{Function, Project};

/// Names that belong to the engine's own events.
const RESERVED: &str = "stepwell/";

impl Project {
    /// Checks an event's name and data.
    ///
    /// # Errors
    /// Everything that is wrong with it; pointers begin at the event: `/name`, `/data/userId`.
    pub fn check_event(&self, name: &str, data: &Value) -> Result<(), Vec<EventProblem>> {
        if let Some(problem) = self.unwelcome(name) {
            return Err(vec![problem]);
        }
        if !data.is_object() {
            let problem = EventProblem::new("E0220", "/data", format!("expected an object, found {}", shown(data)));
            return Err(vec![problem.help("put the value into a field: {\"value\": …}")]);
        }
        let schema = self.declared(name).flatten();
        let problems = schema.map(|schema| schema.violations(data, "/data")).unwrap_or_default();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Why no event of this name is taken, whatever its data: no event can have it, or it is not declared where it has to be.
    pub(super) fn unwelcome(&self, name: &str) -> Option<EventProblem> {
        name_problem(name).or_else(|| {
            let is_unknown = self.config.unknown_events() == UnknownEvents::Refuse && self.declared(name).is_none();
            is_unknown.then(|| self.unknown(name))
        })
    }

    fn unknown(&self, name: &str) -> EventProblem {
        let problem = EventProblem::new("E0222", "/name", format!("no event `{}` is declared", shown_name(name)));
        match nearest(name, self.config.events.names()) {
            Some(right) => problem.help(format!("did you mean `{right}`?")),
            None => problem.help("declare it under `events` in events.yaml, or set `unknown_events: accept`"),
        }
    }

    /// The functions that an event's name starts, with their expressions evaluated on it: each once, in the order of the file.
    pub fn candidates(&self, event: &EventRow, data: &Value) -> Vec<Candidate> {
        self.with_scope(event, data, |scope| self.started_by(&event.name).map(|function| function.candidate(&event.name, scope)).collect())
    }

    /// Checks the data that a function is invoked with: against the schema of its trigger, if it has exactly one.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn check_invocation(&self, function: &Function, data: &Value) -> Result<(), Vec<EventProblem>> {
        if !data.is_object() {
            let problem = EventProblem::new("E0220", "/data", format!("expected an object, found {}", shown(data)));
            return Err(vec![problem.help("put the value into a field: {\"value\": …}")]);
        }
        let [trigger] = function.triggers.as_slice() else { return Ok(()) };
        let schema = self.declared(&trigger.event).flatten();
        let problems = schema.map(|schema| schema.violations(data, "/data")).unwrap_or_default();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The function as the candidate of an invocation, with its expressions evaluated on it.
    pub fn invocation(&self, function: &Function, event: &EventRow, data: &Value) -> Candidate {
        self.with_scope(event, data, |scope| function.invoked(scope))
    }

    /// The function as the candidate of a start by the clock, with its expressions evaluated on the start's event.
    pub fn scheduled(&self, function: &Function, event: &EventRow, data: &Value) -> Candidate {
        self.with_scope(event, data, |scope| function.started(scope))
    }

    /// The functions that one of the engine's own events starts, with their expressions evaluated on it: they pass no gate
    /// but their `if` and the queue's.
    pub fn listeners(&self, event: &EventRow, data: &Value) -> Vec<Candidate> {
        self.with_scope(event, data, |scope| {
            let applies = self.started_by(&event.name).filter(|function| function.verdict(&event.name, scope).applies);
            applies.map(|function| function.invoked(scope)).collect()
        })
    }

    pub(super) fn with_scope<T>(&self, event: &EventRow, data: &Value, run: impl FnOnce(&Scope<'_>) -> T) -> T {
        let id = event.id.to_string();
        run(&Scope::of_event(EventView { id: &id, name: &event.name, data, ts: event.ts.0 }))
    }

    pub(super) fn started_by(&self, name: &str) -> impl Iterator<Item = &Arc<Function>> {
        let index = &self.index;
        let mut found: Vec<usize> = index.started.get(name).cloned().unwrap_or_default();
        let of_family = index.started_by_family.iter().filter(|(stem, _)| name.len() > stem.len() && name.starts_with(stem));
        found.extend(of_family.map(|(_, at)| *at));
        found.sort_unstable();
        found.dedup();
        let is_meant = |function: &&Arc<Function>| self.started_alone.as_ref().is_none_or(|some| some.contains(&function.id));
        found.into_iter().filter_map(|at| self.functions.get(at)).filter(is_meant)
    }
}

fn name_problem(name: &str) -> Option<EventProblem> {
    let problem = |message: String| Some(EventProblem::new("E0220", "/name", message));
    if name.is_empty() {
        return problem("the event's name is empty".into());
    }
    if name.len() > EVENT_NAME_BYTES {
        return problem(format!("the event's name has {} bytes; at most {EVENT_NAME_BYTES} are allowed", name.len()));
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return problem(format!("the event's name `{}` holds a space or a control character", shown_name(name)));
    }
    if name.starts_with(RESERVED) {
        let message = format!("`{}` is reserved: names under `{RESERVED}` are the engine's own", shown_name(name));
        return Some(EventProblem::new("E0223", "/name", message));
    }
    None
}

/// A name as a message shows it.
fn shown_name(name: &str) -> String {
    let escaped = name.escape_debug().to_string();
    match escaped.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &escaped[..at]),
        None => escaped,
    }
}
