//! What is different between two snapshots, in words.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::config::{Setting, effective_around, effective_function};

use super::{Function, Project};

/// The options that a running engine cannot change.
const FIXED: &[&str] = &["engine.listen", "engine.database", "engine.durability"];

/// How the script of an `on_failure` is named that is another one.
const SCRIPT_OF_FAILURES: &str = "the script of on_failure";

/// What an engine was started with and keeps until its end, whatever its config says later.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed(Vec<Setting>);

impl Fixed {
    /// What an engine keeps that is started with this snapshot.
    pub fn of(project: &Project) -> Fixed {
        let mut settings = effective_around(&project.config);
        settings.retain(|setting| FIXED.contains(&setting.path.as_str()));
        Fixed(settings)
    }
}

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An event, or a family of events.
    Event,
    /// A function.
    Function,
    /// An option that is about neither.
    Setting,
}

impl Subject {
    /// The word that people and the API see.
    pub fn word(self) -> &'static str {
        match self {
            Subject::Event => "event",
            Subject::Function => "function",
            Subject::Setting => "setting",
        }
    }
}

/// How something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another one than before.
    Changed,
}

impl How {
    /// The word that people and the API see.
    pub fn word(self) -> &'static str {
        match self {
            How::Added => "added",
            How::Removed => "removed",
            How::Changed => "changed",
        }
    }
}

/// An option with its values; none where it is not given.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its key, `concurrency.limit`.
    pub key: String,
    /// What was in force.
    pub before: Option<Value>,
    /// What comes into force.
    pub after: Option<Value>,
}

/// One thing that is different.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What it is about.
    pub subject: Subject,
    /// The event's name, the function's id, or the option's key.
    pub name: String,
    /// How it has changed.
    pub how: How,
    /// Which of its options are different; for what is new or gone, what matters most.
    pub fields: Vec<Field>,
    /// It is in force only after a restart.
    pub needs_restart: bool,
}

/// All that is different, in the order of events, functions and options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// One entry for each thing.
    pub changes: Vec<Change>,
}

impl Difference {
    /// What `after` has other than `before`. `fixed` are the options that the engine was started with and cannot change.
    pub fn between(before: &Project, after: &Project, fixed: &Fixed) -> Difference {
        let mut changes = Vec::new();
        events(before, after, &mut changes);
        functions(before, after, &mut changes);
        settings(before, after, fixed, &mut changes);
        Difference { changes }
    }

    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The functions of which another handler is in force.
    pub fn handlers(&self) -> impl Iterator<Item = &str> {
        let is_meant = |change: &&Change| {
            change.subject == Subject::Function && change.how == How::Changed && change.fields.iter().any(|field| field.key == "version")
        };
        self.changes.iter().filter(is_meant).map(|change| change.name.as_str())
    }

    /// Whether a function may be started by other events, or otherwise, than before: more has changed of it than its scripts.
    pub fn is_about_starts(&self) -> bool {
        let is_of_scripts = |field: &Field| ["version", SCRIPT_OF_FAILURES].contains(&field.key.as_str());
        let mut functions = self.changes.iter().filter(|change| change.subject == Subject::Function);
        functions.any(|change| change.how != How::Changed || !change.fields.iter().all(is_of_scripts))
    }

    /// The functions that are gone.
    pub fn gone(&self) -> impl Iterator<Item = &str> {
        self.changes
            .iter()
            .filter(|change| change.subject == Subject::Function && change.how == How::Removed)
            .map(|change| change.name.as_str())
    }

    /// How many things are different, in words: `2 functions, 1 event`.
    pub fn summary(&self) -> String {
        let count = |subject: Subject| self.changes.iter().filter(|change| change.subject == subject).count();
        let told = |subject: Subject| match count(subject) {
            0 => None,
            1 => Some(format!("1 {}", subject.word())),
            many => Some(format!("{many} {}s", subject.word())),
        };
        let parts: Vec<String> = [Subject::Event, Subject::Function, Subject::Setting].into_iter().filter_map(told).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

impl fmt::Display for Change {
    /// One sentence: ``function `pay`: concurrency.limit 5 → 10``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.subject.word(), self.name)?;
        match self.how {
            How::Added => f.write_str(" is new")?,
            How::Removed => f.write_str(" is gone")?,
            How::Changed => {}
        }
        for (at, field) in self.fields.iter().enumerate() {
            f.write_str(if at == 0 { ": " } else { ", " })?;
            field.told(self.how, f)?;
        }
        if self.needs_restart { f.write_str(" (in force after a restart only)") } else { Ok(()) }
    }
}

impl Field {
    fn told(&self, how: How, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The one option of a setting is named by the setting.
        let key = if self.key.is_empty() { String::new() } else { format!("{} ", self.key) };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if self.key == "version" => {
                write!(f, "another handler ({} → {})", short(before), short(after))
            }
            (Some(before), Some(after)) => write!(f, "{key}{} → {}", shown(before), shown(after)),
            (None, Some(after)) if how == How::Added => write!(f, "{key}{}", shown(after)),
            (None, Some(after)) => write!(f, "{key}{} is new", shown(after)),
            (Some(before), None) => write!(f, "{key}{} is gone", shown(before)),
            (None, None) => write!(f, "{} is another one", self.key),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The start of a hash, as people see it.
fn short(hash: &Value) -> String {
    shown(hash).chars().take(12).collect()
}

fn one(subject: Subject, name: &str, how: How, fields: Vec<Field>) -> Change {
    Change { subject, name: name.to_owned(), how, fields, needs_restart: false }
}

fn events(before: &Project, after: &Project, changes: &mut Vec<Change>) {
    for name in after.config.events.names() {
        if before.config.events.entry(name).is_none() {
            changes.push(one(Subject::Event, name, How::Added, Vec::new()));
            continue;
        }
        // Without a value: a schema is too long for a sentence.
        let other = |key: &str| Field { key: key.to_owned(), before: None, after: None };
        let mut fields = Vec::new();
        // The files that a schema refers to are a part of it, and so is an anchor, which stands in the schema alone.
        if before.schema(name) != after.schema(name) || before.whole_schema(name) != after.whole_schema(name) {
            fields.push(other("schema"));
        }
        if before.example(name) != after.example(name) {
            fields.push(other("example"));
        }
        if !fields.is_empty() {
            changes.push(one(Subject::Event, name, How::Changed, fields));
        }
    }
    for name in before.config.events.names().filter(|name| after.config.events.entry(name).is_none()) {
        changes.push(one(Subject::Event, name, How::Removed, Vec::new()));
    }
}

fn functions(before: &Project, after: &Project, changes: &mut Vec<Change>) {
    for function in &after.functions {
        let id = &*function.id;
        let Some(old) = before.function(id) else {
            let triggers = function.events().map(|event| Value::from(&**event));
            let starts = triggers.map(|event| Field { key: "on".to_owned(), before: None, after: Some(event) });
            let cron = function.crons.iter().map(|cron| cron.schedule.text().to_string());
            let cron = cron.map(|text| Field { key: "cron".to_owned(), before: None, after: Some(text.into()) });
            changes.push(one(Subject::Function, id, How::Added, starts.chain(cron).collect()));
            continue;
        };
        let mut fields = differing(effective_function(&before.config, id), effective_function(&after.config, id));
        fields.extend(handlers(old, function));
        if !fields.is_empty() {
            changes.push(one(Subject::Function, id, How::Changed, fields));
        }
    }
    for function in before.functions.iter().filter(|function| after.function(&function.id).is_none()) {
        changes.push(one(Subject::Function, &function.id, How::Removed, Vec::new()));
    }
}

/// Scripts whose sources are others, though the file names them as before.
fn handlers(before: &Function, after: &Function) -> Vec<Field> {
    let version = |function: &Function| Value::from(&**function.program.hash());
    let mut fields = Vec::new();
    if before.program.hash() != after.program.hash() {
        fields.push(Field { key: "version".to_owned(), before: Some(version(before)), after: Some(version(after)) });
    }
    if let (Some(old), Some(new)) = (&before.on_failure, &after.on_failure)
        && old.program.hash() != new.program.hash()
    {
        fields.push(Field { key: SCRIPT_OF_FAILURES.to_owned(), before: None, after: None });
    }
    fields
}

fn settings(before: &Project, after: &Project, fixed: &Fixed, changes: &mut Vec<Change>) {
    let mut old = effective_around(&before.config);
    for setting in &mut old {
        if let Some(kept) = fixed.0.iter().find(|kept| kept.path == setting.path) {
            setting.value = kept.value.clone();
        }
    }
    for field in differing(old, effective_around(&after.config)) {
        let needs_restart = FIXED.contains(&field.key.as_str());
        let name = field.key.clone();
        let field = Field { key: String::new(), ..field };
        changes.push(Change { needs_restart, ..one(Subject::Setting, &name, How::Changed, vec![field]) });
    }
}

/// The options whose values differ. Several with one key (a list's entries) are compared as a whole.
fn differing(before: Vec<Setting>, after: Vec<Setting>) -> Vec<Field> {
    let value = |settings: &[Setting], key: &str| {
        let mut values: Vec<&Value> = settings.iter().filter(|setting| setting.path == key).map(|setting| &setting.value).collect();
        match values.len() {
            0 => None,
            1 => values.pop().cloned(),
            _ => Some(Value::Array(values.into_iter().cloned().collect())),
        }
    };
    let mut seen = BTreeSet::new();
    let keys = after.iter().chain(&before).map(|setting| setting.path.as_str()).filter(|key| seen.insert(*key));
    let field = |key: &str| Field { key: key.to_owned(), before: value(&before, key), after: value(&after, key) };
    keys.map(field).filter(|field| field.before != field.after).collect()
}
