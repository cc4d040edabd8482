//! A file of tests, `tests/*.test.yaml`, as a checked model with positions.
//!
//! What can be said of the file alone is checked here; whether it fits the project, `testing` checks.

mod expect;
mod mock;

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value as JsonValue;

use crate::base::{Diagnostic, Location, Source, Span};

use super::file;
use super::json::Inline;
use super::reader::{Fields, MapShape, Reader, Value, wrong};
use super::schema::{AnyJson, tidy};
use super::spanned::{Spanned, Table};
use super::tree::{self, Node, Shape};

pub use expect::{Expect, SentEvent};
pub use mock::{Mock, Reply, Target, TargetKind};

/// A file of tests of one function.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Suite {
    /// The id of the function that is tested.
    #[schemars(required)]
    pub function: Option<Spanned<String>>,
    /// Further functions that events start in these tests, or `all`. The function itself, what it invokes and its `on_failure`
    /// run in any case; others do not, so that a test of one function needs no mocks for another.
    #[schemars(with = "Option<WithShape>")]
    pub with: Option<Spanned<With>>,
    /// What `env(name)` and `secret(name)` give in these tests, over the defaults of events.yaml. The machine's own environment is never read.
    #[schemars(default)]
    pub env: Table<Spanned<String>>,
    /// When these tests begin, in virtual time: RFC 3339; default 2026-01-01T00:00:00Z.
    pub now: Option<Spanned<String>>,
    /// Answers to the requests of all these tests, tried after a test's own.
    #[schemars(default)]
    pub mocks: Vec<Mock>,
    /// The tests.
    #[schemars(required)]
    pub tests: Vec<Case>,
}

/// One test: what happens, and what must come of it.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in words; no other test of the file has the same name.
    #[schemars(required, with = "String")]
    pub name: Spanned<String>,
    /// The name of another test of this file: whatever this one does not say is as there. `expect` and `env` are joined key by key,
    /// and its own mocks are tried first.
    pub extends: Option<Spanned<String>>,
    /// The event that starts the run: its name, which sends its example, or `{ name, data }`.
    #[schemars(with = "Option<EventShape>")]
    pub event: Option<Spanned<Given>>,
    /// Start the function as its schedule would, instead of by an event: `true` for the first one, or one of several as it is written.
    #[schemars(with = "Option<ByClockShape>")]
    pub cron: Option<Spanned<ByClock>>,
    /// When the test begins, in virtual time: RFC 3339.
    pub now: Option<Spanned<String>>,
    /// As at the file.
    #[schemars(default)]
    pub env: Table<Spanned<String>>,
    /// Answers in the place of the network, databases, the mail server and commands, none of which there is in tests: what no mock
    /// answers fails the test.
    #[schemars(default)]
    pub mocks: Vec<Mock>,
    /// What comes later, each at its virtual time.
    #[schemars(default)]
    pub send: Option<Vec<Later>>,
    /// What must come of it.
    #[schemars(default)]
    pub expect: Expect,
    /// Cut the run off after every single commit, and start the engine again: it must end the same.
    pub crash_after_each_step: Option<Spanned<bool>>,
    /// Do the test again and again, cut off once, before and after each commit that there is: it must end the same each time.
    pub crash_anywhere: Option<Spanned<bool>>,
    /// Leave this test out, and say why.
    pub skip: Option<Spanned<String>>,
    /// Where it stands.
    #[schemars(skip)]
    pub place: Location,
}

/// An event of a test.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Given {
    /// Its name.
    #[schemars(required)]
    pub name: Option<Spanned<String>>,
    /// Its data; its example where nothing is given.
    #[schemars(with = "Option<AnyJson>")]
    pub data: Option<Spanned<Inline>>,
    /// The sender's id for it.
    pub id: Option<Spanned<String>>,
}

/// Something that comes from outside while a test goes on.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Later {
    /// How long after the start, in virtual time; default 0s.
    pub at: Option<Spanned<Span>>,
    /// The event's name.
    pub name: Option<Spanned<String>>,
    /// A signal's name, instead of an event's.
    pub signal: Option<Spanned<String>>,
    /// Cancel the run, with this reason, instead of sending anything.
    pub cancel: Option<Spanned<String>>,
    /// The event's or signal's data; an event's example where nothing is given.
    #[schemars(with = "Option<AnyJson>")]
    pub data: Option<Spanned<Inline>>,
    /// The sender's id for the event.
    pub id: Option<Spanned<String>>,
}

/// Whether the clock starts the function, and by which of its schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByClock {
    /// It does not.
    No,
    /// By the first one.
    First,
    /// By this one, as it is written.
    Named(String),
}

/// Which functions run beside the tested one.
#[derive(Debug, Clone, PartialEq)]
pub enum With {
    /// Every one.
    All,
    /// These.
    These(Vec<Spanned<String>>),
}

/// An event's name, or the long form.
pub(super) struct EventShape;

impl JsonSchema for EventShape {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GivenForms".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<Given>()] })
    }
}

/// `true`, or a schedule.
pub(super) struct ByClockShape;

impl JsonSchema for ByClockShape {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByClockForms".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["boolean", "string"] })
    }
}

/// `all`, or a list of functions.
pub(super) struct WithShape;

impl JsonSchema for WithShape {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WithForms".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "const": "all" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl MapShape for Suite {
    const NAME: &'static str = "Suite";
}

impl MapShape for Case {
    const NAME: &'static str = "Case";
}

impl MapShape for Given {
    const NAME: &'static str = "Given";
}

impl MapShape for Later {
    const NAME: &'static str = "Later";
}

impl Value for ByClock {
    fn read(node: &Node, reader: &mut Reader) -> Option<ByClock> {
        match &node.shape {
            Shape::Bool(true) => Some(ByClock::First),
            Shape::Bool(false) => Some(ByClock::No),
            Shape::Text(schedule) => Some(ByClock::Named(schedule.clone())),
            _ => {
                reader.wrong(node, "true, or one of the function's schedules");
                None
            }
        }
    }
}

impl Value for With {
    fn read(node: &Node, reader: &mut Reader) -> Option<With> {
        match &node.shape {
            Shape::Text(word) if word == "all" => Some(With::All),
            Shape::List(_) => Vec::read(node, reader).map(With::These),
            _ => {
                reader.wrong(node, "`all`, or a list of functions");
                None
            }
        }
    }
}

impl Value for Given {
    fn read(node: &Node, reader: &mut Reader) -> Option<Given> {
        if let Shape::Text(name) = &node.shape {
            return Some(Given { name: Some(Spanned::new(name.clone(), node.place.clone())), ..Given::default() });
        }
        let mut fields = Fields::of::<Given>(node, "`event`", reader)?;
        let given = Given { name: fields.required("name"), data: fields.optional("data"), id: fields.optional("id") };
        fields.done();
        Some(given)
    }
}

impl Value for Later {
    fn read(node: &Node, reader: &mut Reader) -> Option<Later> {
        let mut fields = Fields::of::<Later>(node, "an entry of `send`", reader)?;
        let later = Later {
            at: fields.optional("at"),
            name: fields.optional("name"),
            signal: fields.optional("signal"),
            cancel: fields.optional("cancel"),
            data: fields.optional("data"),
            id: fields.optional("id"),
        };
        fields.done();
        let said = [&later.name, &later.signal, &later.cancel].into_iter().flatten().count();
        if said != 1 {
            let problem = Diagnostic::error("E0604", "an entry of `send` has one of `name`, `signal` and `cancel`").at(node.place.clone());
            reader.note(problem.help("`{ at: 5m, name: otp/received }` sends an event, `{ at: 5m, signal: approve }` a signal"));
        }
        Some(later)
    }
}

impl Value for Case {
    fn read(node: &Node, reader: &mut Reader) -> Option<Case> {
        let mut fields = Fields::of::<Case>(node, "a test", reader)?;
        let name: Option<Spanned<String>> = fields.required("name");
        let place = name.as_ref().map_or_else(|| node.place.clone(), |name| name.place.clone());
        let case = Case {
            name: name.clone().unwrap_or_else(|| Spanned::new(String::new(), node.place.clone())),
            extends: fields.optional("extends"),
            event: fields.optional("event"),
            cron: fields.optional("cron"),
            now: fields.optional("now"),
            env: fields.optional("env").unwrap_or_default(),
            mocks: fields.optional("mocks").unwrap_or_default(),
            send: fields.optional("send"),
            expect: fields.optional("expect").unwrap_or_default(),
            crash_after_each_step: fields.optional("crash_after_each_step"),
            crash_anywhere: fields.optional("crash_anywhere"),
            skip: fields.optional("skip"),
            place,
        };
        fields.done();
        name.map(|_| case)
    }
}

impl Suite {
    fn read(node: &Node, reader: &mut Reader) -> Option<Suite> {
        if !matches!(node.shape, Shape::Map(_)) {
            reader.note(wrong(node, "a map").help("the file begins with its keys, `function:` and `tests:`"));
            return None;
        }
        let mut fields = Fields::of::<Suite>(node, "the file", reader)?;
        let suite = Suite {
            function: fields.required("function"),
            with: fields.optional("with"),
            env: fields.optional("env").unwrap_or_default(),
            now: fields.optional("now"),
            mocks: fields.optional("mocks").unwrap_or_default(),
            tests: fields.required("tests").unwrap_or_default(),
        };
        fields.done();
        Some(suite)
    }

    /// The test of this name.
    pub fn case(&self, name: &str) -> Option<&Case> {
        self.tests.iter().find(|case| case.name.value == name)
    }
}

/// What came of loading a file of tests.
#[derive(Debug)]
pub struct LoadedSuite {
    /// The tests; with problems they serve for finding further ones only.
    pub suite: Option<Suite>,
    /// What is wrong with the file, in the order of its lines.
    pub problems: Vec<Diagnostic>,
    /// Its text.
    pub source: Option<Arc<Source>>,
}

/// Loads a file of tests; `name` is how it is shown.
pub fn load_suite(path: &Path, name: &str) -> LoadedSuite {
    match file::read(path, name) {
        Ok(source) => read_suite(source),
        Err(problem) => LoadedSuite { suite: None, problems: vec![problem], source: None },
    }
}

/// Reads the text of a file of tests.
pub fn read_suite(source: Arc<Source>) -> LoadedSuite {
    let name = &source.name;
    let mut reader = Reader::default();
    let suite = match tree::parse(&source, &mut reader.problems) {
        Some(node) if node.shape == Shape::Null => {
            let problem = Diagnostic::error("E0107", format!("`{name}` is empty")).at(Location::new(&source, 0..0));
            reader.note(problem.help("it names a `function` and its `tests`"));
            None
        }
        Some(node) => Suite::read(&node, &mut reader),
        None => None,
    };
    if let Some(suite) = &suite {
        check(suite, &mut reader);
    }
    reader.problems.sort_by_key(|problem| problem.places.first().map(|place| place.range.start));
    LoadedSuite { suite, problems: reader.problems, source: Some(source) }
}

/// What is wrong between the tests of a file.
fn check(suite: &Suite, reader: &mut Reader) {
    for (at, case) in suite.tests.iter().enumerate() {
        if let Some(first) = suite.tests[..at].iter().find(|other| other.name.value == case.name.value) {
            let problem = Diagnostic::error("E0104", format!("two tests are called `{}`", case.name.value));
            reader.note(
                problem.labelled(case.name.place.clone(), "again here").labelled(first.name.place.clone(), "first here").help("rename one"),
            );
        }
        let Some(extends) = &case.extends else { continue };
        if suite.case(&extends.value).is_none() {
            let problem = Diagnostic::error("E0602", format!("no test of this file is called `{}`", extends.value));
            let names = suite.tests.iter().map(|case| case.name.value.as_str());
            reader.note(problem.at(extends.place.clone()).nearest(&extends.value, names));
        } else if circles(suite, case) {
            let problem = Diagnostic::error("E0602", format!("`{}` extends itself", case.name.value));
            reader.note(problem.at(extends.place.clone()).help("one of the tests must stand for itself"));
        }
    }
    if suite.tests.is_empty()
        && let Some(function) = &suite.function
    {
        reader.note(Diagnostic::warning("W0605", "the file has no tests").at(function.place.clone()));
    }
}

/// Whether the tests that this one extends lead back to it.
fn circles(suite: &Suite, case: &Case) -> bool {
    let (mut at, mut steps) = (case, 0);
    while let Some(next) = at.extends.as_ref().and_then(|extends| suite.case(&extends.value)) {
        steps += 1;
        if next.name.value == case.name.value || steps > suite.tests.len() {
            return true;
        }
        at = next;
    }
    false
}

/// The JSON Schema (2020-12) of a file of tests.
pub fn suite_schema() -> JsonValue {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Suite>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "tests/*.test.yaml".into());
    }
    tidy(&mut schema);
    schema
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_schema_and_the_reader_know_the_same_keys() {
        let text = "function: f\ntests: [{ name: a, event: { name: a/b }, mocks: [{ http: GET http://a/, reply: {} }], send: [{ name: a/b }], \
                    expect: { events_sent: [{ name: a/b }] } }]\n";
        let mut reader = Reader::default();
        let node = tree::parse(&Source::new("a.test.yaml", text), &mut reader.problems).unwrap();
        Suite::read(&node, &mut reader);
        assert_eq!(reader.problems, []);
        let schema = suite_schema();
        let keys =
            |schema: &JsonValue| -> Option<BTreeSet<String>> { Some(schema.get("properties")?.as_object()?.keys().cloned().collect()) };
        let mut known: BTreeMap<String, BTreeSet<String>> =
            schema["$defs"].as_object().unwrap().iter().filter_map(|(name, schema)| Some((name.clone(), keys(schema)?))).collect();
        known.insert("Suite".to_owned(), keys(&schema).unwrap());
        let owned = |keys: &BTreeSet<&str>| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
        let asked: BTreeMap<String, BTreeSet<String>> = reader.asked.iter().map(|(name, keys)| ((*name).to_owned(), owned(keys))).collect();
        assert_eq!(asked, known);
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, definition) in definitions.iter().map(|(name, schema)| (name.as_str(), schema)).chain([("the file", &schema)]) {
            for (key, schema) in definition.get("properties").and_then(JsonValue::as_object).into_iter().flatten() {
                assert!(schema["description"].as_str().is_some_and(|text| text.len() > 8), "{name}.{key} is not described");
            }
        }
    }
}
