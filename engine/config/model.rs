//! The whole file as one checked value.

use schemars::JsonSchema;

use super::keys::databases::Database;
use super::keys::defaults::Defaults;
use super::keys::email::Email;
use super::keys::engine::Engine;
use super::keys::env::EnvValue;
use super::keys::events::Event;
use super::keys::exec::Exec;
use super::keys::functions::{self, Function};
use super::keys::http::Http;
use super::keys::limits::Limits;
use super::keys::names::in_family;
use super::keys::retention::Retention;
use super::keys::unknown_events::UnknownEvents;
use super::keys::versions::Versions;
use super::keys::webhooks::Webhook;
use super::reader::{Fields, MapShape, Reader, wrong};
use super::schema::EventShape;
use super::spanned::{Spanned, Table, or};
use super::tree::{Node, Shape};

/// events.yaml: the events that are accepted and the functions that they start.
///
/// A field is what was written; a method of the same name gives the value in force, with the default.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Model {
    /// The version of this file's format: 1.
    pub version: Option<Spanned<u32>>,
    /// The name of the app, for people and for tables.
    pub app: Option<Spanned<String>>,
    /// The engine itself: its address, its database, its limits on requests.
    #[schemars(default)]
    pub engine: Engine,
    /// What one run may use.
    #[schemars(default)]
    pub limits: Limits,
    /// `refuse` (default) or `accept` events whose name is not declared.
    pub unknown_events: Option<Spanned<UnknownEvents>>,
    /// Which version of a changed handler a run in flight goes on with; default `auto`.
    pub versions: Option<Spanned<Versions>>,
    /// Values that scripts read with `env(name)`; the real environment wins over them.
    #[schemars(default)]
    pub env: Table<Spanned<EnvValue>>,
    /// Names of environment variables that scripts read with `secret(name)`. The engine does not start without them.
    #[schemars(default)]
    pub secrets: Vec<Spanned<String>>,
    /// Rules for the requests that scripts send.
    #[schemars(default)]
    pub http: Http,
    /// How long ended runs and events are kept.
    #[schemars(default)]
    pub retention: Retention,
    /// Databases that scripts reach with `db::*`.
    #[schemars(default)]
    pub databases: Table<Database>,
    /// The mail server that `email::send` hands its mails to.
    pub email: Option<Email>,
    /// The commands that scripts may run with `exec::run`.
    pub exec: Option<Exec>,
    /// Options for every function that does not say otherwise.
    #[schemars(default)]
    pub defaults: Defaults,
    /// The events that are accepted, by name: `payment/initiate`. `stripe/*` declares a family of names.
    #[schemars(default, with = "Table<EventShape>")]
    pub events: Table<Event>,
    /// The functions, by id.
    #[schemars(default)]
    pub functions: Table<Function>,
    /// Signed requests from elsewhere that become events, by name: `POST /webhooks/NAME`.
    #[schemars(default)]
    pub webhooks: Table<Webhook>,
    /// Further files, as paths or patterns relative to this folder: `functions/*.yaml`. They may hold `events`,
    /// `functions`, `webhooks`, `env`, `secrets` and `include`.
    #[schemars(default, length(min = 1))]
    pub include: Vec<Spanned<String>>,
}

impl MapShape for Model {
    const NAME: &'static str = "Model";
}

impl Model {
    /// What becomes of an event whose name is not declared.
    pub fn unknown_events(&self) -> UnknownEvents {
        or(&self.unknown_events, UnknownEvents::Refuse)
    }

    /// The declaration of an event: its own, or that of the family with the longest stem that it belongs to. With the
    /// name that is declared.
    pub fn event(&self, name: &str) -> Option<(&Spanned<String>, &Event)> {
        self.events.entry(name).or_else(|| {
            let families = self.events.iter().filter(|(family, _)| in_family(name, &family.value));
            families.max_by_key(|(family, _)| family.value.len())
        })
    }

    /// The functions that an event of this name starts, if their `if` holds.
    pub fn functions_on(&self, name: &str) -> impl Iterator<Item = (&Spanned<String>, &Function)> {
        let starts = move |trigger: &str| trigger == name || in_family(name, trigger);
        self.functions.iter().filter(move |(_, function)| function.on.iter().any(|trigger| starts(&trigger.event.value)))
    }

    /// Reads a main file.
    pub(super) fn read(node: &Node, reader: &mut Reader) -> Model {
        let mut model = Model::default();
        if !matches!(node.shape, Shape::Map(_)) {
            reader.note(wrong(node, "a map").help("the file begins with its keys, such as `events:` and `functions:`"));
            return model;
        }
        let Some(mut fields) = Fields::of::<Model>(node, "the file", reader) else { return model };
        model.version = fields.optional("version");
        model.app = fields.optional("app");
        model.engine = fields.optional("engine").unwrap_or_default();
        model.limits = fields.optional("limits").unwrap_or_default();
        model.unknown_events = fields.optional("unknown_events");
        model.versions = fields.optional("versions");
        model.http = fields.optional("http").unwrap_or_default();
        model.retention = fields.optional("retention").unwrap_or_default();
        model.databases = fields.optional("databases").unwrap_or_default();
        model.email = fields.optional("email");
        model.exec = fields.optional("exec");
        model.defaults = fields.optional("defaults").unwrap_or_default();
        model.read_shared(&mut fields);
        fields.done();
        model
    }

    /// Reads the keys that an included file may hold too.
    pub(super) fn read_shared(&mut self, fields: &mut Fields<'_, '_>) {
        self.env = fields.optional("env").unwrap_or_default();
        self.secrets = fields.optional("secrets").unwrap_or_default();
        self.events = fields.optional("events").unwrap_or_default();
        self.functions = fields.entry("functions").map(|(_, node)| functions::read_all(node, fields.reader())).unwrap_or_default();
        self.webhooks = fields.optional("webhooks").unwrap_or_default();
        if let Some((_, node)) = fields.entry("include") {
            fields.reader().refuse_empty(node, "`include` names no file");
        }
        self.include = fields.optional("include").unwrap_or_default();
    }
}
