//! `rate_limit`: skips runs. Read and checked; not supported yet.

use schemars::JsonSchema;

use crate::base::Span;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// Skips runs so that at most `limit` start in each `period`, and records what it skipped.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RateLimit {
    /// Runs in each period.
    #[schemars(required, range(min = 1))]
    pub limit: Option<Spanned<u32>>,
    /// The length of a period.
    #[schemars(required)]
    pub period: Option<Spanned<Span>>,
    /// An expression over the event: each of its values has a limit of its own.
    pub key: Option<Spanned<String>>,
}

impl MapShape for RateLimit {
    const NAME: &'static str = "RateLimit";
}

impl Value for RateLimit {
    fn read(node: &Node, reader: &mut Reader) -> Option<RateLimit> {
        let mut fields = Fields::of::<RateLimit>(node, "`rate_limit`", reader)?;
        let rate_limit = RateLimit { limit: fields.required("limit"), period: fields.required("period"), key: fields.optional("key") };
        fields.done();
        Some(rate_limit)
    }
}
