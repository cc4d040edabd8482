//! `on`: the events that start a function.

use schemars::JsonSchema;

use super::super::reader::{Fields, MapShape, Reader, Value, wrong};
use super::super::spanned::Spanned;
use super::super::tree::{Node, Shape};

/// An event that starts a function.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Trigger {
    /// The event's name, or a family of names such as `stripe/*`.
    pub event: Spanned<String>,
    /// An expression over the event; the function starts only if it is true: `event.data.amount > 0`.
    #[schemars(rename = "if")]
    pub condition: Option<Spanned<String>>,
}

impl MapShape for Trigger {
    const NAME: &'static str = "Trigger";
}

impl Value for Trigger {
    fn read(node: &Node, reader: &mut Reader) -> Option<Trigger> {
        match &node.shape {
            Shape::Text(name) => Some(Trigger { event: Spanned::new(name.clone(), node.place.clone()), condition: None }),
            Shape::Map(_) => {
                let mut fields = Fields::of::<Trigger>(node, "`on`", reader)?;
                let event = fields.required("event");
                let condition = fields.optional("if");
                fields.done();
                Some(Trigger { event: event?, condition })
            }
            _ => {
                let example = "for example `on: payment/initiate`, or `on: { event: payment/initiate, if: \"event.data.amount > 0\" }`";
                reader.note(wrong(node, "an event's name, a map, or a list of them").help(example));
                None
            }
        }
    }
}

/// Reads the short form, the long form, or a list of either.
pub(in crate::config) fn read_all(node: &Node, reader: &mut Reader) -> Vec<Trigger> {
    reader.refuse_empty(node, "`on` names no event");
    match &node.shape {
        Shape::List(items) => items.iter().filter_map(|item| Trigger::read(item, reader)).collect(),
        _ => Trigger::read(node, reader).into_iter().collect(),
    }
}
