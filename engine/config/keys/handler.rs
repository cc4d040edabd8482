//! `handler` and `on_failure`: the paths of scripts.

use super::super::spanned::Spanned;

/// The path of a function's script where `handler` is not written.
pub(in crate::config) fn default_for(id: &Spanned<String>) -> Spanned<String> {
    Spanned::new(format!("handlers/{}.rhai", id.value), id.place.clone())
}
