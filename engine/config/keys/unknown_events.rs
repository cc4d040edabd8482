//! `unknown_events`: what becomes of an event whose name is not declared.

use schemars::JsonSchema;

use super::super::reader::{Reader, Value, choose};
use super::super::tree::Node;

/// What becomes of an event whose name is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum UnknownEvents {
    /// It is refused, with the nearest declared name.
    #[default]
    Refuse,
    /// It is stored, without a check of its data.
    Accept,
}

impl Value for UnknownEvents {
    fn read(node: &Node, reader: &mut Reader) -> Option<UnknownEvents> {
        choose(node, &[("refuse", UnknownEvents::Refuse), ("accept", UnknownEvents::Accept)], reader)
    }
}
