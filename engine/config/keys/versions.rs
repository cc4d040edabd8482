//! `versions`: which version of a handler a run in flight goes on with.

use schemars::JsonSchema;

use super::super::reader::{Reader, Value, choose};
use super::super::tree::Node;

/// Which version of a changed handler a run in flight goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Versions {
    /// The newest one that fits its record, else the one that it has.
    #[default]
    Auto,
    /// The one it began with.
    Pin,
    /// The newest one; a run whose record does not fit it is parked.
    Latest,
}

impl Versions {
    /// As the config writes it.
    pub fn word(self) -> &'static str {
        match self {
            Versions::Auto => "auto",
            Versions::Pin => "pin",
            Versions::Latest => "latest",
        }
    }
}

impl Value for Versions {
    fn read(node: &Node, reader: &mut Reader) -> Option<Versions> {
        choose(node, &[("auto", Versions::Auto), ("pin", Versions::Pin), ("latest", Versions::Latest)], reader)
    }
}
