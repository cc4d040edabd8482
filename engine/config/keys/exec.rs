//! `exec`: the commands that scripts may run. Read and checked; not supported yet.

use schemars::JsonSchema;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// The commands that scripts may run with `exec::run`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Exec {
    /// The allowed commands; default none.
    #[schemars(default)]
    pub allow: Vec<Spanned<String>>,
}

impl MapShape for Exec {
    const NAME: &'static str = "Exec";
}

impl Value for Exec {
    fn read(node: &Node, reader: &mut Reader) -> Option<Exec> {
        let mut fields = Fields::of::<Exec>(node, "`exec`", reader)?;
        let exec = Exec { allow: fields.optional("allow").unwrap_or_default() };
        fields.done();
        Some(exec)
    }
}
