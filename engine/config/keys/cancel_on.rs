//! `cancel_on`: the events that cancel a function's runs.

use schemars::JsonSchema;

use crate::base::Span;

use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::spanned::Spanned;
use super::super::tree::{Node, Shape};

/// An event that cancels a run.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Cancel {
    /// The event's name.
    #[schemars(required)]
    pub event: Option<Spanned<String>>,
    /// An expression over `event` (the run's) and `async` (the one that just came): only then is the run cancelled.
    #[schemars(rename = "if")]
    pub condition: Option<Spanned<String>>,
    /// How long after the run's creation the event is listened for, more than 0; default: always.
    pub timeout: Option<Spanned<Span>>,
}

impl MapShape for Cancel {
    const NAME: &'static str = "Cancel";
}

impl Value for Cancel {
    fn read(node: &Node, reader: &mut Reader) -> Option<Cancel> {
        if let Shape::Text(name) = &node.shape {
            return Some(Cancel { event: Some(Spanned::new(name.clone(), node.place.clone())), ..Cancel::default() });
        }
        let mut fields = Fields::of::<Cancel>(node, "`cancel_on`", reader)?;
        let cancel = Cancel { event: fields.required("event"), condition: fields.optional("if"), timeout: fields.optional("timeout") };
        fields.done();
        if let Some(timeout) = cancel.timeout.as_ref().filter(|timeout| timeout.value == Span(0)) {
            let problem = out_of_range(&timeout.place, "a time-out of 0", "more than 0");
            reader.note(problem.help("the event would never cancel a run; without `timeout` it always does"));
        }
        Some(cancel)
    }
}

/// One event or a list of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::config) struct Cancels(pub Vec<Cancel>);

impl Value for Cancels {
    fn read(node: &Node, reader: &mut Reader) -> Option<Cancels> {
        reader.refuse_empty(node, "`cancel_on` names no event");
        match &node.shape {
            Shape::List(_) => Value::read(node, reader).map(Cancels),
            _ => Cancel::read(node, reader).map(|cancel| Cancels(vec![cancel])),
        }
    }
}
