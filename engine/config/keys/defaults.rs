//! `defaults`: options for every function that does not say otherwise.

use schemars::JsonSchema;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::schema::Retried;
use super::super::tree::Node;
use super::retries::Retries;
use super::timeouts::Timeouts;

/// Options for every function that does not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Defaults {
    /// How often something that failed is tried again; default 3.
    #[schemars(with = "Option<Retried>")]
    pub retries: Option<Retries>,
    /// The time-outs of runs and steps.
    #[schemars(default)]
    pub timeouts: Timeouts,
}

impl MapShape for Defaults {
    const NAME: &'static str = "Defaults";
}

impl Value for Defaults {
    fn read(node: &Node, reader: &mut Reader) -> Option<Defaults> {
        let mut fields = Fields::of::<Defaults>(node, "`defaults`", reader)?;
        let defaults = Defaults { retries: fields.optional("retries"), timeouts: fields.optional("timeouts").unwrap_or_default() };
        fields.done();
        Some(defaults)
    }
}
