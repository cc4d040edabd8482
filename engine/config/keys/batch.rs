//! `batch`: one run for many events.

use schemars::JsonSchema;

use crate::base::Span;
use crate::base::limits::BATCH_EVENTS_MOST;
use crate::rules::gates::Collect;

use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::spanned::{Spanned, or};
use super::super::tree::Node;

/// Starts one run for many events; its script sees them as `events`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Batch {
    /// The number of events that starts a run at once, 1 to 1000.
    #[schemars(required, range(min = 1, max = 1_000))]
    pub size: Option<Spanned<u32>>,
    /// The time after the first event that starts a run with what there is.
    #[schemars(required)]
    pub timeout: Option<Spanned<Span>>,
    /// An expression over the event: each of its values has a batch of its own.
    pub key: Option<Spanned<String>>,
    /// A condition over the event: one that does not fulfil it starts a run of its own at once.
    #[schemars(rename = "if")]
    pub condition: Option<Spanned<String>>,
}

impl Batch {
    /// The rule without its key's expression.
    pub fn policy(&self) -> Collect {
        Collect::Batch { size: or(&self.size, 1), timeout: or(&self.timeout, Span::seconds(1)) }
    }

    fn check(&self, reader: &mut Reader) {
        if let Some(size) = self.size.as_ref().filter(|size| !(1..=BATCH_EVENTS_MOST).contains(&size.value)) {
            reader.note(out_of_range(&size.place, &format!("`{}`", size.value), &format!("1 to {BATCH_EVENTS_MOST}")));
        }
        if let Some(timeout) = self.timeout.as_ref().filter(|timeout| timeout.value == Span(0)) {
            reader.note(out_of_range(&timeout.place, "a timeout of 0", "more than 0"));
        }
    }
}

impl MapShape for Batch {
    const NAME: &'static str = "Batch";
}

impl Value for Batch {
    fn read(node: &Node, reader: &mut Reader) -> Option<Batch> {
        let mut fields = Fields::of::<Batch>(node, "`batch`", reader)?;
        let (size, timeout) = (fields.required("size"), fields.required("timeout"));
        let batch = Batch { size, timeout, key: fields.optional("key"), condition: fields.optional("if") };
        fields.done();
        batch.check(reader);
        Some(batch)
    }
}
