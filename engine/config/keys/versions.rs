//! `versions`: which version of a handler a run in flight goes on with.

use schemars::JsonSchema;

use super::super::reader::{Reader, Value, choose, not_yet};
use super::super::tree::Node;

/// Which version of a changed handler a run in flight goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Versions {
    /// The newest one that fits its journal.
    #[default]
    Auto,
    /// The one it began with.
    Pin,
    /// The newest one, whether it fits or not.
    Latest,
}

impl Value for Versions {
    fn read(node: &Node, reader: &mut Reader) -> Option<Versions> {
        let chosen = choose(node, &[("auto", Versions::Auto), ("pin", Versions::Pin), ("latest", Versions::Latest)], reader)?;
        if chosen != Versions::Auto {
            reader.note(not_yet(&node.place, &format!("`versions: {}`", node.written())).help("`auto` is supported"));
        }
        Some(chosen)
    }
}
