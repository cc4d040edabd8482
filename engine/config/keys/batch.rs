//! `batch`: one run for many events. Read and checked; not supported yet.

use schemars::JsonSchema;

use crate::base::Span;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// Starts one run for many events; its script sees them as `events`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Batch {
    /// The number of events that starts a run at once.
    #[schemars(required, range(min = 1))]
    pub size: Option<Spanned<u32>>,
    /// The time after the first event that starts a run with what there is.
    #[schemars(required)]
    pub timeout: Option<Spanned<Span>>,
    /// An expression over the event: each of its values has a batch of its own.
    pub key: Option<Spanned<String>>,
}

impl MapShape for Batch {
    const NAME: &'static str = "Batch";
}

impl Value for Batch {
    fn read(node: &Node, reader: &mut Reader) -> Option<Batch> {
        let mut fields = Fields::of::<Batch>(node, "`batch`", reader)?;
        let batch = Batch { size: fields.required("size"), timeout: fields.required("timeout"), key: fields.optional("key") };
        fields.done();
        Some(batch)
    }
}
