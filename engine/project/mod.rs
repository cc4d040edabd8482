//! The project: config, schemas, expressions and scripts, compiled into one immutable snapshot.
//!
//! A snapshot is made as a whole or not at all, and swapped as a whole; a request takes one and keeps it, so that a reload
//! cannot change the rules half-way. Nothing here stores anything, runs a script, or knows how runs are scheduled.

mod declaration;
mod difference;
mod documents;
mod event;
mod explain;
mod expressions;
mod function;
mod handed;
mod load;
mod loader;
mod places;
mod reads;
mod schema;
mod scratch;
mod shape;
mod topology;
mod violation;
mod webhook;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::config::Model;
use crate::rules::ended;
use crate::rules::policy::Retention;
use crate::script::{Outside, Program, Secrets, Surroundings};

pub use declaration::{Declaration, declaration};
pub use difference::{Change, Difference, Field, Fixed, How, Subject};
pub use explain::{Condition, Explained};
pub use function::{Cancel, Function, Trigger};
pub use loader::Loader;
pub use schema::typed_value;
pub use scratch::SCRATCH;
pub use topology::{Edge, Node, NodeKind, Says, Topology};
pub use violation::EventProblem;
pub use webhook::{Reading, Webhook};

use schema::Schema;

/// What a project is loaded for; it decides what a missing secret is, and whether scripts may reach private addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Production: a missing secret is an error, private addresses are refused unless listed.
    Run,
    /// Development: a missing secret is an error, private addresses are allowed.
    Dev,
    /// One event on a throw-away database: a missing secret is an error when it is read.
    Try,
    /// Checks only: a missing secret is a note.
    Check,
    /// Comparison with a running engine: as `Check`.
    Plan,
    /// Tests of handlers: secrets and variables are the tests' own.
    Test,
}

/// One compiled, immutable config.
#[derive(Debug, Clone)]
pub struct Project {
    /// The checked file.
    pub config: Model,
    /// The folder that the config stands in; every path of the config is relative to it.
    pub root: PathBuf,
    /// The functions, in the order of the file.
    pub functions: Vec<Arc<Function>>,
    /// What makes events of signed requests, in the order of the file.
    pub webhooks: Vec<Arc<Webhook>>,
    /// What scripts find around them: environment, secrets, limits.
    pub surroundings: Arc<Surroundings>,
    /// Whether the clock starts the functions that have a schedule; `try` starts one alone, and at once.
    pub has_clock: bool,
    /// Hex of the SHA-256 over everything that makes up the snapshot but the environment.
    pub hash: String,
    /// The functions that events start, where it is not all of them: a test of one function leaves others out.
    pub started_alone: Option<Arc<HashSet<Arc<str>>>>,
    index: Arc<Index>,
}

/// The ways from a name to what it names, so that an event costs the same however many are declared.
#[derive(Debug, Clone)]
struct Index {
    /// Each declared event, families included, with its schema if it has one.
    events: Arc<HashMap<String, Option<Schema>>>,
    /// The declared families, the longest first: the stem with its `/`, and the declared name.
    families: Vec<(String, String)>,
    /// The functions by id, as places in `functions`.
    functions: HashMap<Arc<str>, usize>,
    /// The functions that a name starts.
    started: HashMap<Arc<str>, Vec<usize>>,
    /// The functions that a family starts, by its stem.
    started_by_family: Vec<(String, usize)>,
}

impl Project {
    /// The function with this id; also the one that the `on_failure` script of another one is.
    pub fn function(&self, id: &str) -> Option<&Arc<Function>> {
        match ended::failing_function(id) {
            Some(of) => self.functions.get(*self.index.functions.get(of)?)?.on_failure.as_ref(),
            None => self.functions.get(*self.index.functions.get(id)?),
        }
    }

    /// Every script, those of `on_failure` included.
    pub fn programs(&self) -> impl Iterator<Item = &Arc<Program>> {
        self.functions.iter().flat_map(|function| std::iter::once(function).chain(&function.on_failure)).map(|function| &function.program)
    }

    /// The same snapshot for a test: with these variables, which stand for secrets too, with somebody who answers in the
    /// network's place, and with no other function than `alone` started by events, where it is not all of them.
    #[must_use]
    pub fn for_test(&self, env: &BTreeMap<String, String>, outside: Arc<dyn Outside>, alone: Option<HashSet<Arc<str>>>) -> Project {
        let mut project = self.clone();
        let mut surroundings = Surroundings::clone(&self.surroundings);
        for (name, value) in &mut surroundings.env {
            if let Some(own) = env.get(name) {
                own.clone_into(value);
            }
        }
        let secret = |name: &String| env.get(name).cloned().unwrap_or_else(|| format!("secret {name} in tests"));
        let secrets = self.config.secrets.iter().map(|name| (name.value.clone(), Some(secret(&name.value))));
        surroundings.secrets = Secrets::new(secrets.collect());
        surroundings.outside = Some(outside);
        project.surroundings = Arc::new(surroundings);
        project.started_alone = alone.map(Arc::new);
        project.has_clock = false;
        project
    }

    /// Whether an event of this name starts a function.
    pub fn listens(&self, event: &str) -> bool {
        self.index.started.contains_key(event)
    }

    /// Every option in force: its path, its value, and where it comes from. Secrets are named, never shown.
    pub fn settings(&self) -> impl Iterator<Item = (String, Value, String)> {
        let secrets = &self.surroundings.secrets;
        let settings = crate::config::effective(&self.config).into_iter();
        settings.map(|setting| (setting.path, secrets.hidden(setting.value), setting.origin.to_string()))
    }

    /// How long ended runs and events are kept.
    pub fn retention(&self) -> Retention {
        self.config.retention.policy()
    }

    /// The JSON Schema of an event, where it has one; a `$ref` in it may lead to an address of ours.
    pub fn schema(&self, event: &str) -> Option<&Value> {
        self.declared(event)?.map(Schema::value)
    }

    /// The JSON Schema of an event with what its `$ref`s lead to in their places, where it has one.
    pub fn whole_schema(&self, event: &str) -> Option<Value> {
        self.declared(event)?.map(Schema::whole)
    }

    /// The example of an event, where the config gives one.
    pub fn example(&self, event: &str) -> Option<&Value> {
        let (_, declared) = self.config.event(event)?;
        declared.example.as_ref().map(|example| &example.value.value)
    }

    /// A text of the command line as the value of a field of an event's data: typed by its schema, else JSON if it is
    /// JSON, else text.
    pub fn typed_value(&self, event: &str, field: &str, text: &str) -> Value {
        match self.declared(event).flatten() {
            Some(schema) => schema.typed(field, text),
            None => typed_value(None, field, text),
        }
    }

    /// Whether an event is declared, by its name or by a family; with its schema, if it has one.
    fn declared(&self, event: &str) -> Option<Option<&Schema>> {
        if let Some(own) = self.index.events.get(event) {
            return Some(own.as_ref());
        }
        let family = self.index.families.iter().find(|(stem, _)| event.len() > stem.len() && event.starts_with(stem))?;
        self.index.events.get(&family.1).map(Option::as_ref)
    }
}

#[cfg(test)]
mod tests;
