//! `databases`: what scripts reach with `db::*`. Read and checked; not supported yet.

use schemars::JsonSchema;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// A database that scripts reach with `db::*`; never the engine's own.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:FILE` or `postgres://…`.
    #[schemars(required)]
    pub url: Option<Spanned<String>>,
}

impl MapShape for Database {
    const NAME: &'static str = "Database";
}

impl Value for Database {
    fn read(node: &Node, reader: &mut Reader) -> Option<Database> {
        let mut fields = Fields::of::<Database>(node, "a database", reader)?;
        let database = Database { url: fields.required("url") };
        fields.done();
        Some(database)
    }
}
