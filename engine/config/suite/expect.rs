//! `expect`: what must come of a test.

use schemars::JsonSchema;

use crate::base::Span;

use super::super::json::Inline;
use super::super::reader::{Fields, MapShape, Reader, Value, choose};
use super::super::schema::AnyJson;
use super::super::spanned::{Spanned, Table};
use super::super::tree::{Node, Shape};

/// The states in which a run may stand at a test's end.
const STATES: [&str; 8] = ["completed", "failed", "cancelled", "parked", "waiting", "sleeping", "backing_off", "queued"];

/// What must come of a test. Only what is written is compared, and all of it is about the first run of the tested function.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Expect {
    /// The state in which the run stands: `completed`, `failed`, `cancelled`, `parked`, or where it waits for what never came `waiting`.
    #[schemars(with = "Option<StatusShape>")]
    pub status: Option<Spanned<String>>,
    /// The steps that were recorded, in order of commit; those of a `parallel` or `race` in any order, with or without their branch.
    pub steps: Option<Spanned<Vec<Spanned<String>>>>,
    /// How many attempts a step took, by its name.
    #[schemars(default)]
    pub attempts: Table<Spanned<u32>>,
    /// The result, whole.
    #[schemars(with = "Option<AnyJson>")]
    pub output: Option<Spanned<Inline>>,
    /// A part of the result: of maps only these keys are compared.
    #[schemars(with = "Option<AnyJson>")]
    pub output_includes: Option<Spanned<Inline>>,
    /// Words of the error of a run that failed, or of the reason why it was cancelled or parked.
    pub error: Option<Spanned<String>>,
    /// How long the run took from its start to its end, in virtual time.
    pub duration: Option<Spanned<Span>>,
    /// The events that the run sent, in order: names, or `{ name, data }`.
    #[schemars(with = "Option<Vec<SentShape>>")]
    pub events_sent: Option<Spanned<Vec<SentEvent>>>,
    /// How many requests there were of a kind, as in `mocks`: `POST https://api.example.com/charges`, `db shop insert *`, `email *@example.com`,
    /// `exec pdftotext *`.
    #[schemars(default)]
    pub calls: Table<Spanned<u32>>,
    /// How many runs of the function there are.
    pub runs: Option<Spanned<u32>>,
    /// Lines of the run's log, in this order, others between them: each contains these words.
    pub logs: Option<Spanned<Vec<Spanned<String>>>>,
    /// Expressions that must be true, over `run`, `runs` and `event`.
    #[schemars(default)]
    pub assert: Vec<Spanned<String>>,
}

/// An event that the run sent.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SentEvent {
    /// Its name.
    #[schemars(required)]
    pub name: Option<Spanned<String>>,
    /// Its data, whole.
    #[schemars(with = "Option<AnyJson>")]
    pub data: Option<Spanned<Inline>>,
    /// A part of its data: of maps only these keys are compared.
    #[schemars(with = "Option<AnyJson>")]
    pub data_includes: Option<Spanned<Inline>>,
}

/// One of the words for states.
pub(super) struct StatusShape;

impl JsonSchema for StatusShape {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": STATES })
    }
}

/// An event's name, or the long form.
pub(super) struct SentShape;

impl JsonSchema for SentShape {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SentForms".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<SentEvent>()] })
    }
}

impl MapShape for Expect {
    const NAME: &'static str = "Expect";
}

impl MapShape for SentEvent {
    const NAME: &'static str = "SentEvent";
}

impl Value for SentEvent {
    fn read(node: &Node, reader: &mut Reader) -> Option<SentEvent> {
        if let Shape::Text(name) = &node.shape {
            return Some(SentEvent { name: Some(Spanned::new(name.clone(), node.place.clone())), ..SentEvent::default() });
        }
        let mut fields = Fields::of::<SentEvent>(node, "an entry of `events_sent`", reader)?;
        let event =
            SentEvent { name: fields.required("name"), data: fields.optional("data"), data_includes: fields.optional("data_includes") };
        fields.done();
        Some(event)
    }
}

impl Value for Expect {
    fn read(node: &Node, reader: &mut Reader) -> Option<Expect> {
        let mut fields = Fields::of::<Expect>(node, "`expect`", reader)?;
        let status = fields.entry("status").and_then(|(_, node)| {
            let words = STATES.map(|word| (word, word));
            choose(node, &words, fields.reader()).map(|word| Spanned::new(word.to_owned(), node.place.clone()))
        });
        let expect = Expect {
            status,
            steps: fields.optional("steps"),
            attempts: fields.optional("attempts").unwrap_or_default(),
            output: fields.optional_at_key("output"),
            output_includes: fields.optional_at_key("output_includes"),
            error: fields.optional("error"),
            duration: fields.optional("duration"),
            events_sent: fields.optional("events_sent"),
            calls: fields.optional("calls").unwrap_or_default(),
            runs: fields.optional("runs"),
            logs: fields.optional("logs"),
            assert: fields.optional("assert").unwrap_or_default(),
        };
        fields.done();
        Some(expect)
    }
}

impl Expect {
    /// These expectations, and those of `other` that these do not name.
    #[must_use]
    pub fn over(mut self, other: &Expect) -> Expect {
        let output = self.output.is_some() || self.output_includes.is_some();
        self.status = self.status.or_else(|| other.status.clone());
        self.steps = self.steps.or_else(|| other.steps.clone());
        self.attempts.extend(&other.attempts);
        if !output {
            self.output = other.output.clone();
            self.output_includes = other.output_includes.clone();
        }
        self.error = self.error.or_else(|| other.error.clone());
        self.duration = self.duration.or_else(|| other.duration.clone());
        self.events_sent = self.events_sent.or_else(|| other.events_sent.clone());
        self.calls.extend(&other.calls);
        self.runs = self.runs.or_else(|| other.runs.clone());
        self.logs = self.logs.or_else(|| other.logs.clone());
        self.assert.extend(other.assert.iter().cloned());
        self
    }
}
