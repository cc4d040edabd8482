//! `rate_limit`: skips runs.

use schemars::JsonSchema;

use crate::base::Span;
use crate::rules::gates;

use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::spanned::{Spanned, or};
use super::super::tree::Node;

/// Skips runs so that in any `period` the events of at most `limit` runs are accepted, and records what it skipped.
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

impl RateLimit {
    /// The rule without its key's expression.
    pub fn policy(&self) -> gates::RateLimit {
        gates::RateLimit { limit: or(&self.limit, 1).max(1), period: or(&self.period, Span::seconds(1)) }
    }
}

/// Notes a limit or a period of 0.
pub(super) fn check_counts(limit: &Option<Spanned<u32>>, period: &Option<Spanned<Span>>, reader: &mut Reader) {
    if let Some(limit) = limit.as_ref().filter(|limit| limit.value == 0) {
        reader.note(out_of_range(&limit.place, "`0`", "at least 1").help("a function that must not run is paused, or removed"));
    }
    if let Some(period) = period.as_ref().filter(|period| period.value == Span(0)) {
        reader.note(out_of_range(&period.place, "a period of 0", "more than 0"));
    }
}

impl MapShape for RateLimit {
    const NAME: &'static str = "RateLimit";
}

impl Value for RateLimit {
    fn read(node: &Node, reader: &mut Reader) -> Option<RateLimit> {
        let mut fields = Fields::of::<RateLimit>(node, "`rate_limit`", reader)?;
        let rate_limit = RateLimit { limit: fields.required("limit"), period: fields.required("period"), key: fields.optional("key") };
        fields.done();
        check_counts(&rate_limit.limit, &rate_limit.period, reader);
        Some(rate_limit)
    }
}
