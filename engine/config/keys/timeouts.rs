//! `timeouts`: how long a run and a step may take.

use schemars::JsonSchema;

use crate::base::Span;
use crate::rules::policy;

use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range, wrong};
use super::super::spanned::Spanned;
use super::super::tree::{Node, Shape};

/// The longest attempt of a step where nothing is said.
pub const STEP_DEFAULT: Span = Span::seconds(5 * 60);

/// How long a run and a step may take.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// Longest stay in the queue before the first start; then the run is cancelled. Default: none.
    pub start: Option<Spanned<Span>>,
    /// Longest time from the first start to the end, sleeps included; then the run is cancelled. Default: none.
    pub finish: Option<Spanned<Span>>,
    /// Longest time of one attempt of one step; then that attempt fails. Default `5m`.
    pub step: Option<Spanned<Span>>,
}

impl Timeouts {
    /// The time-outs in force, with `defaults` for what is not said here.
    pub fn policy(&self, defaults: &Timeouts) -> policy::Timeouts {
        let pick = |own: &Option<Spanned<Span>>, other: &Option<Spanned<Span>>| own.as_ref().or(other.as_ref()).map(|span| span.value);
        policy::Timeouts {
            start: pick(&self.start, &defaults.start),
            finish: pick(&self.finish, &defaults.finish),
            step: pick(&self.step, &defaults.step).unwrap_or(STEP_DEFAULT),
        }
    }
}

impl MapShape for Timeouts {
    const NAME: &'static str = "Timeouts";
}

impl Value for Timeouts {
    fn read(node: &Node, reader: &mut Reader) -> Option<Timeouts> {
        if let Shape::Text(text) = &node.shape {
            let example = format!("write which one it is: `timeouts: {{ step: {text} }}`, `start` or `finish`");
            reader.note(wrong(node, "a map").help(example));
            return None;
        }
        let mut fields = Fields::of::<Timeouts>(node, "`timeouts`", reader)?;
        let timeouts = Timeouts { start: fields.optional("start"), finish: fields.optional("finish"), step: fields.optional("step") };
        fields.done();
        for timeout in [&timeouts.start, &timeouts.finish, &timeouts.step].into_iter().flatten() {
            if timeout.value == Span(0) {
                reader.note(out_of_range(&timeout.place, "a time-out of 0", "more than 0"));
            }
        }
        Some(timeouts)
    }
}
