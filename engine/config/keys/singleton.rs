//! `singleton`: one run at a time, without a queue.

use schemars::JsonSchema;

use crate::rules::gates;

use super::super::reader::{Fields, MapShape, Reader, Value, choose};
use super::super::spanned::{Spanned, or};
use super::super::tree::Node;

/// At most one unfinished run; a further event is skipped or takes its place.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Singleton {
    /// An expression over the event: each of its values may have a run of its own.
    pub key: Option<Spanned<String>>,
    /// What becomes of a further event; default `skip`.
    pub mode: Option<Spanned<SingletonMode>>,
}

impl Singleton {
    /// What becomes of a further event.
    pub fn policy(&self) -> gates::Singleton {
        match or(&self.mode, SingletonMode::Skip) {
            SingletonMode::Skip => gates::Singleton::Skip,
            SingletonMode::Cancel => gates::Singleton::Cancel,
        }
    }
}

/// What becomes of an event while a run is unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SingletonMode {
    /// It starts nothing.
    Skip,
    /// It cancels the run and starts a new one.
    Cancel,
}

impl MapShape for Singleton {
    const NAME: &'static str = "Singleton";
}

impl Value for Singleton {
    fn read(node: &Node, reader: &mut Reader) -> Option<Singleton> {
        let mut fields = Fields::of::<Singleton>(node, "`singleton`", reader)?;
        let singleton = Singleton { key: fields.optional("key"), mode: fields.optional("mode") };
        fields.done();
        Some(singleton)
    }
}

impl Value for SingletonMode {
    fn read(node: &Node, reader: &mut Reader) -> Option<SingletonMode> {
        choose(node, &[("skip", SingletonMode::Skip), ("cancel", SingletonMode::Cancel)], reader)
    }
}
