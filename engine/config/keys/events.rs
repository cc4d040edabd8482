//! `events`: the declared events, their schemas and examples.

use schemars::JsonSchema;

use super::super::json::Inline;
use super::super::reader::{Fields, MapShape, Reader, Value, wrong};
use super::super::schema::{AnyJson, SchemaShape};
use super::super::spanned::Spanned;
use super::super::tree::{Node, Shape};

/// A declared event. `{}` declares one with any data.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Event {
    /// What the event tells, for people.
    pub description: Option<Spanned<String>>,
    /// What its data must look like: the path of a JSON Schema file below this folder, or a JSON Schema written here.
    #[schemars(with = "Option<SchemaShape>")]
    pub schema: Option<Spanned<EventSchema>>,
    /// Data of such an event, for `send --example`, `try --example`, tests and documentation.
    #[schemars(with = "Option<AnyJson>")]
    pub example: Option<Spanned<Inline>>,
}

/// Where an event's JSON Schema is.
#[derive(Debug, Clone, PartialEq)]
pub enum EventSchema {
    /// In a file, relative to the config's folder.
    File(String),
    /// In the file itself.
    Inline(Inline),
}

impl MapShape for Event {
    const NAME: &'static str = "Event";
}

impl Value for Event {
    fn read(node: &Node, reader: &mut Reader) -> Option<Event> {
        if let Shape::Text(text) = &node.shape {
            let problem = wrong(node, "a map");
            let looks_like_path = text.ends_with(".json");
            reader.note(if looks_like_path { problem.help(format!("write `{{ schema: {text} }}`")) } else { problem });
            return None;
        }
        let mut fields = Fields::of::<Event>(node, "an event", reader)?;
        let event =
            Event { description: fields.optional("description"), schema: fields.optional("schema"), example: fields.optional("example") };
        fields.done();
        Some(event)
    }
}

impl Value for EventSchema {
    fn read(node: &Node, reader: &mut Reader) -> Option<EventSchema> {
        match &node.shape {
            Shape::Text(path) => Some(EventSchema::File(path.clone())),
            Shape::Map(_) | Shape::Bool(_) => Inline::read(node, reader).map(EventSchema::Inline),
            _ => {
                reader.wrong(node, "the path of a JSON Schema file, or a JSON Schema");
                None
            }
        }
    }
}
