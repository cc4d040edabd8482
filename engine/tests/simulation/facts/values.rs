//! What steps keep under a key: they count, each once, with its record or not at all.

use stepwell::base::Millis;
use stepwell::rules::row::Recorded;
use stepwell::rules::{Kind, KvRow, Record};

use super::super::program::Program;
use super::Facts;

/// What is known of the count.
#[derive(Default)]
pub(super) struct Counts {
    /// What it is on the disk.
    count: i64,
    /// In the list that is being applied: the steps that count, and the counts.
    steps: usize,
    kept: usize,
}

impl Counts {
    /// A record has come, of a run on this program.
    pub(super) fn note(&mut self, program: &Program, record: &Record) {
        let counts = program.step(&record.key).is_some_and(|step| program.has_counting(step));
        let is_done = record.kind == Kind::Step && matches!(record.result, Recorded::Value(_));
        self.steps += usize::from(counts && is_done);
    }
}

impl Facts {
    /// A value is stored: there is but one key.
    pub(super) fn kept(&mut self, row: &KvRow, now: Millis) {
        self.note(now, &format!("{} is {}", row.key, row.value));
        let before = self.counts.count;
        let count = row.value.parse().unwrap_or(before);
        self.counts.count = count;
        self.counts.kept += 1;
        self.hold(count == before + 1, || format!("I5: a step has counted to {count} after {before}"));
    }

    /// After a list: each step that counts has come with its count.
    pub(super) fn check_counted(&mut self) {
        let (steps, kept) = (std::mem::take(&mut self.counts.steps), std::mem::take(&mut self.counts.kept));
        self.hold(steps == kept, || format!("I5: {steps} steps that count were recorded with {kept} counts"));
    }
}
