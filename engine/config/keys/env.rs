//! `env`: values that scripts read with `env(name)`.

use super::super::reader::{Reader, Value};
use super::super::spanned::{Spanned, Table};
use super::super::tree::{Node, Shape};
use super::names::variable_problem;

/// The default value of an environment variable. Numbers and booleans count as the text that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvValue(pub String);

impl Value for EnvValue {
    fn read(node: &Node, reader: &mut Reader) -> Option<EnvValue> {
        match &node.shape {
            Shape::Text(text) => Some(EnvValue(text.clone())),
            Shape::Bool(_) | Shape::Integer(_) | Shape::Float(_) => Some(EnvValue(node.written().to_owned())),
            Shape::Null | Shape::List(_) | Shape::Map(_) => {
                reader.wrong(node, "text");
                None
            }
        }
    }
}

/// Notes names that no environment variable can have.
pub(in crate::config) fn check(env: &Table<Spanned<EnvValue>>, reader: &mut Reader) {
    for (name, _) in env.iter() {
        if let Some(problem) = variable_problem(&name.value, &name.place) {
            reader.note(problem);
        }
    }
}
