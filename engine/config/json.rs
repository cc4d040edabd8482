//! JSON that is written as YAML inside the file: examples and inline schemas, with a place for each JSON pointer.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as JsonValue};

use crate::base::{Diagnostic, Location};

use super::reader::{Reader, Value};
use super::tree::{Node, Shape};

/// A JSON value that was written in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Inline {
    /// The value.
    pub value: JsonValue,
    places: BTreeMap<String, Location>,
}

impl Inline {
    /// Where the value at a JSON pointer stands: its own place, or that of the nearest one around it. `None` cannot
    /// happen for a value that was read from a file.
    pub fn place(&self, pointer: &str) -> Option<&Location> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

impl Value for Inline {
    fn read(node: &Node, reader: &mut Reader) -> Option<Inline> {
        let mut places = BTreeMap::new();
        let before = reader.problems.len();
        let value = convert(node, String::new(), &mut places, reader);
        (reader.problems.len() == before).then_some(Inline { value, places })
    }
}

fn convert(node: &Node, pointer: String, places: &mut BTreeMap<String, Location>, reader: &mut Reader) -> JsonValue {
    let value = match &node.shape {
        Shape::Null => JsonValue::Null,
        Shape::Bool(value) => JsonValue::Bool(*value),
        Shape::Integer(value) => {
            let number = i64::try_from(*value).map(Number::from).or_else(|_| u64::try_from(*value).map(Number::from));
            number.map_or_else(|_| inexact(node, reader), JsonValue::Number)
        }
        Shape::Float(value) if node.written().contains(['.', 'e', 'E']) => {
            Number::from_f64(*value).map_or_else(|| inexact(node, reader), JsonValue::Number)
        }
        Shape::Float(_) => inexact(node, reader),
        Shape::Text(text) => {
            // A plain number that no f64 holds comes as one of these, and would be text in the JSON without a word.
            let quoted = node.written().starts_with(['"', '\'']);
            match text.as_str() {
                ".inf" | "-.inf" | ".nan" if !quoted => inexact(node, reader),
                _ => JsonValue::String(text.clone()),
            }
        }
        Shape::List(items) => {
            items.iter().enumerate().map(|(at, item)| convert(item, format!("{pointer}/{at}"), places, reader)).collect::<Vec<_>>().into()
        }
        Shape::Map(entries) => {
            let mut map = Map::with_capacity(entries.len());
            for (key, item) in entries {
                let pointer = format!("{pointer}/{}", key.value.replace('~', "~0").replace('/', "~1"));
                map.insert(key.value.clone(), convert(item, pointer, places, reader));
            }
            JsonValue::Object(map)
        }
    };
    places.insert(pointer, node.place.clone());
    value
}

fn inexact(node: &Node, reader: &mut Reader) -> JsonValue {
    reader.note(
        Diagnostic::error("E0113", format!("`{}` is a number that cannot be held exactly here", node.written()))
            .at(node.place.clone())
            .help("put it in quotes if text will do"),
    );
    JsonValue::Null
}
