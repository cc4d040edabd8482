//! `debounce`: one run with the last event after a quiet period.

use schemars::JsonSchema;

use crate::base::Span;
use crate::rules::gates::Collect;

use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::spanned::{Spanned, or};
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

impl Debounce {
    /// The rule without its key's expression.
    pub fn policy(&self) -> Collect {
        Collect::Debounce { period: or(&self.period, Span::seconds(1)), timeout: self.timeout.as_ref().map(|timeout| timeout.value) }
    }

    fn check(&self, reader: &mut Reader) {
        let Some(period) = &self.period else { return };
        if period.value == Span(0) {
            reader.note(out_of_range(&period.place, "a period of 0", "more than 0"));
        }
        if let Some(timeout) = self.timeout.as_ref().filter(|timeout| timeout.value < period.value) {
            let problem = out_of_range(&timeout.place, &format!("`{}`", timeout.value), &format!("at least the period, {}", period.value));
            reader.note(problem.help("the run starts at the latest then, so a shorter one makes the period useless"));
        }
    }
}

impl MapShape for Debounce {
    const NAME: &'static str = "Debounce";
}

impl Value for Debounce {
    fn read(node: &Node, reader: &mut Reader) -> Option<Debounce> {
        let mut fields = Fields::of::<Debounce>(node, "`debounce`", reader)?;
        let debounce = Debounce { period: fields.required("period"), key: fields.optional("key"), timeout: fields.optional("timeout") };
        fields.done();
        debounce.check(reader);
        Some(debounce)
    }
}
