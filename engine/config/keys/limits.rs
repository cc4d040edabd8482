//! `limits`: what one run may use.

use schemars::JsonSchema;

use crate::base::limits::{RUN_JOURNAL_BYTES, RUN_MEMORY_BYTES, RUN_STEPS};

use super::super::quantity::Size;
use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::spanned::{Spanned, or};
use super::super::tree::Node;

/// The least memory with which a script can begin, in bytes.
const MEMORY_LEAST: Size = Size(1 << 20);

/// What one run may use; a run that needs more fails and says so.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// Memory of one run's script; default `64MB`.
    pub memory: Option<Spanned<Size>>,
    /// Records in one run's journal: steps, sleeps, waits, sends; default 10000.
    pub steps: Option<Spanned<u32>>,
    /// Size of one run's journal; default `16MB`.
    pub journal: Option<Spanned<Size>>,
}

impl Limits {
    /// The memory of one run, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        or(&self.memory, Size(RUN_MEMORY_BYTES)).0
    }

    /// The number of records in one run.
    pub fn steps(&self) -> u32 {
        or(&self.steps, RUN_STEPS)
    }

    /// The size of one run's journal, in bytes.
    pub fn journal_bytes(&self) -> u64 {
        or(&self.journal, Size(RUN_JOURNAL_BYTES)).0
    }
}

impl MapShape for Limits {
    const NAME: &'static str = "Limits";
}

impl Value for Limits {
    fn read(node: &Node, reader: &mut Reader) -> Option<Limits> {
        let mut fields = Fields::of::<Limits>(node, "`limits`", reader)?;
        let limits = Limits { memory: fields.optional("memory"), steps: fields.optional("steps"), journal: fields.optional("journal") };
        fields.done();
        if let Some(memory) = &limits.memory
            && memory.value < MEMORY_LEAST
        {
            reader.note(out_of_range(&memory.place, &format!("a memory of {}", memory.value), "at least 1MB"));
        }
        if let Some(steps) = &limits.steps
            && steps.value == 0
        {
            reader.note(out_of_range(&steps.place, "`steps: 0`", "at least 1"));
        }
        if let Some(journal) = &limits.journal
            && journal.value.0 == 0
        {
            reader.note(out_of_range(&journal.place, "a journal of 0 bytes", "at least 1B"));
        }
        Some(limits)
    }
}
