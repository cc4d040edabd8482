//! `retention`: how long ended runs and events are kept.

use schemars::JsonSchema;

use crate::base::Span;
use crate::rules::policy;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::{Spanned, or};
use super::super::tree::Node;

/// How long ended runs and events are kept.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retention {
    /// Completed runs; default `7d`.
    pub completed: Option<Spanned<Span>>,
    /// Failed runs; default `30d`.
    pub failed: Option<Spanned<Span>>,
    /// Cancelled runs; default `7d`.
    pub cancelled: Option<Spanned<Span>>,
    /// Events that no kept run names; default `30d`.
    pub events: Option<Spanned<Span>>,
}

const DAY: i64 = 86_400;

impl Retention {
    /// The times in force.
    pub fn policy(&self) -> policy::Retention {
        policy::Retention {
            completed: or(&self.completed, Span::seconds(7 * DAY)),
            failed: or(&self.failed, Span::seconds(30 * DAY)),
            cancelled: or(&self.cancelled, Span::seconds(7 * DAY)),
            events: or(&self.events, Span::seconds(30 * DAY)),
        }
    }
}

impl MapShape for Retention {
    const NAME: &'static str = "Retention";
}

impl Value for Retention {
    fn read(node: &Node, reader: &mut Reader) -> Option<Retention> {
        let mut fields = Fields::of::<Retention>(node, "`retention`", reader)?;
        let retention = Retention {
            completed: fields.optional("completed"),
            failed: fields.optional("failed"),
            cancelled: fields.optional("cancelled"),
            events: fields.optional("events"),
        };
        fields.done();
        Some(retention)
    }
}
