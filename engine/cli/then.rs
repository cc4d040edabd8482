//! `--then`: an event that `try` sends later, while the runs of the first one go on.

use crate::base::{Diagnostic, EventId, Span};
use crate::project::Project;
use crate::rules::row::Recorded;
use crate::rules::{Kind, WaitRow};
use crate::store::{RunQuery, Store, StoreError};

use super::exit::Trouble;
use super::fields::{Data, Fields};
use super::try_event::refused;

/// An event that is sent later.
#[derive(Debug, Clone, PartialEq)]
pub struct Then {
    /// Its name.
    pub name: String,
    /// How long after the first event.
    pub after: Span,
    /// Its data.
    pub data: Data,
}

impl Then {
    /// Reads `NAME@TIME`, `NAME@TIME {json}`, `NAME@TIME @FILE` or `NAME@TIME name=value …`.
    ///
    /// # Errors
    /// Exit 2 for what is none of these, 3 for an event that is not declared, 1 for data that do not fit.
    pub fn read(text: &str, project: &Project) -> Result<Then, Trouble> {
        let text = text.trim();
        let (head, rest) = text.split_once(char::is_whitespace).map_or((text, ""), |(head, rest)| (head, rest.trim()));
        let usage = |why: String| Trouble::usage(format!("--then `{head}`: {why}")).help("write NAME@TIME, such as otp/received@5m");
        let Some((name, time)) = head.rsplit_once('@').filter(|(name, _)| !name.is_empty()) else {
            return Err(usage("it does not say when".to_owned()));
        };
        let after: Span = time.parse().map_err(|error: crate::base::time::BadSpan| usage(error.to_string()))?;
        let example = project.example(name);
        let typed = |field: &str, text: &str| project.typed_value(name, field, text);
        let fields = match rest.chars().next() {
            Some('{' | '@') => Fields { example: false, data: Some(rest.to_owned()), fields: Vec::new() },
            // Fields stand over the example, which is what is sent where nothing is given.
            _ => Fields { example: example.is_some(), data: None, fields: rest.split_whitespace().map(str::to_owned).collect() },
        };
        let is_declared = project.config.event(name).is_some();
        if rest.is_empty() && example.is_none() && is_declared {
            let trouble = Trouble::usage(format!("--then `{head}`: {name} has no example in events.yaml"));
            return Err(trouble.help(format!("give its data: --then '{head} {{\"name\": \"value\"}}', or --then '{head} name=value'")));
        }
        let data = fields.data(&typed, example)?;
        project.check_event(name, &data.value).map_err(|problems| refused(name, &problems))?;
        Ok(Then { name: name.to_owned(), after, data })
    }

    /// What is said once an event has had no effect.
    pub fn missed(&self) -> Diagnostic {
        let problem = Diagnostic::warning("W0549", format!("{} after {} started no run, and no run waited for it", self.name, self.after));
        problem.help("a run waits from its `wait_for_event` on, and for the events since its start; compare the data with its `if`")
    }
}

/// Whether an event that was sent without an id has had an effect: it started a run, ended a wait, or cancelled a run.
///
/// # Errors
/// The store's.
pub fn had_effect(store: &dyn Store, event: EventId) -> Result<bool, StoreError> {
    let id = event.to_string();
    for run in store.runs(&RunQuery::default())? {
        let waits = store.waits(run.id)?;
        let is_cancelled_by = run.reason.as_deref().is_some_and(|reason| reason.contains(&id));
        if run.event == event || is_cancelled_by || waits.iter().filter_map(WaitRow::event).any(|had| had == event) {
            return Ok(true);
        }
        let records = store.journal(run.id)?.records;
        // Once its run has ended, a wait is its record: the event as the script saw it.
        let is_it = |json: &str| serde_json::from_str::<serde_json::Value>(json).is_ok_and(|value| value["id"] == *id);
        let mut waits = records.iter().filter(|record| record.kind == Kind::Wait);
        if waits.any(|record| matches!(&record.result, Recorded::Value(json) if is_it(json))) {
            return Ok(true);
        }
    }
    Ok(false)
}
