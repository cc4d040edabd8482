//! `debounce`: one run with the last event after a quiet period. Read and checked; not supported yet.

use schemars::JsonSchema;

use crate::base::Span;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// Starts one run with the last event, once none has come for `period`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Debounce {
    /// The quiet time.
    #[schemars(required)]
    pub period: Option<Spanned<Span>>,
    /// An expression over the event: each of its values is debounced by itself.
    pub key: Option<Spanned<String>>,
    /// The longest time from the first event to the run, also if events keep coming; default: none.
    pub timeout: Option<Spanned<Span>>,
}

impl MapShape for Debounce {
    const NAME: &'static str = "Debounce";
}

impl Value for Debounce {
    fn read(node: &Node, reader: &mut Reader) -> Option<Debounce> {
        let mut fields = Fields::of::<Debounce>(node, "`debounce`", reader)?;
        let debounce = Debounce { period: fields.required("period"), key: fields.optional("key"), timeout: fields.optional("timeout") };
        fields.done();
        Some(debounce)
    }
}
