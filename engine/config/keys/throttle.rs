//! `throttle`: delays starts.

use schemars::JsonSchema;

use crate::base::Span;
use crate::rules::gates;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::{Spanned, or};
use super::super::tree::Node;
use super::rate_limit::check_counts;

/// Delays starts so that at most `limit` runs start in each `period`, spread evenly over it, in the order of acceptance.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Throttle {
    /// Starts in each period.
    #[schemars(required, range(min = 1))]
    pub limit: Option<Spanned<u32>>,
    /// The length of a period.
    #[schemars(required)]
    pub period: Option<Spanned<Span>>,
    /// Starts that may come at once on top, after a quiet time; default 0.
    pub burst: Option<Spanned<u32>>,
    /// An expression over the event: each of its values has a limit of its own.
    pub key: Option<Spanned<String>>,
}

impl Throttle {
    /// The rule without its key's expression.
    pub fn policy(&self) -> gates::Throttle {
        gates::Throttle { limit: or(&self.limit, 1).max(1), period: or(&self.period, Span::seconds(1)), burst: or(&self.burst, 0) }
    }
}

impl MapShape for Throttle {
    const NAME: &'static str = "Throttle";
}

impl Value for Throttle {
    fn read(node: &Node, reader: &mut Reader) -> Option<Throttle> {
        let mut fields = Fields::of::<Throttle>(node, "`throttle`", reader)?;
        let throttle = Throttle {
            limit: fields.required("limit"),
            period: fields.required("period"),
            burst: fields.optional("burst"),
            key: fields.optional("key"),
        };
        fields.done();
        check_counts(&throttle.limit, &throttle.period, reader);
        Some(throttle)
    }
}
