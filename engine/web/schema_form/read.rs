//! From the fields of a sent form back to data.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ENTRIES_MOST, Faults, Property, Shape, begin_at, below, merged, shape, types};

/// What a form was filled in with.
#[derive(Debug, Clone, Default)]
pub struct Filled {
    /// The data.
    pub data: Value,
    /// What could not be read.
    pub faults: Faults,
}

/// Reads the fields of a form that `draw` has made of the same schema.
pub fn read(schema: &Value, fields: &BTreeMap<String, String>) -> Filled {
    let mut reader = Reader { fields, faults: Faults::new() };
    let data = reader.at(&merged(schema), "", true, 0).unwrap_or_else(|| Value::Object(Map::new()));
    Filled { data, faults: reader.faults }
}

struct Reader<'a> {
    fields: &'a BTreeMap<String, String>,
    faults: Faults,
}

impl Reader<'_> {
    fn at(&mut self, schema: &Value, pointer: &str, required: bool, depth: usize) -> Option<Value> {
        match shape(schema, depth) {
            Shape::Object(properties, _) => self.object(properties, pointer, required, depth),
            Shape::List(items) => {
                let count = self.fields.get(&format!("n{pointer}")).and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
                let entry = |at: usize, reader: &mut Self| {
                    let found = reader.at(&items, &below(pointer, &at.to_string()), true, depth + 1);
                    found.unwrap_or_else(|| blank(&items))
                };
                let entries: Vec<Value> = (0..count.min(ENTRIES_MOST)).map(|at| entry(at, self)).collect();
                (required || !entries.is_empty()).then_some(Value::Array(entries))
            }
            shape => {
                let text = self.fields.get(&format!("f{pointer}"))?;
                if text.is_empty() {
                    // A field that has to be there and may be null is null where nothing is written.
                    return (required && types(schema).1).then_some(Value::Null);
                }
                Some(match shape {
                    Shape::Text => Value::from(text.as_str()),
                    Shape::Number(_) => number(text),
                    _ => self.json(pointer, text),
                })
            }
        }
    }

    fn object(&mut self, properties: Vec<Property>, pointer: &str, required: bool, depth: usize) -> Option<Value> {
        let mut map = Map::new();
        for Property { name, schema, required } in properties {
            if let Some(value) = self.at(&schema, &below(pointer, &name), required, depth + 1) {
                map.insert(name, value);
            }
        }
        let further = self.fields.get(&format!("x{pointer}")).filter(|text| !text.trim().is_empty());
        if let Some(text) = further {
            match self.json(&format!("{pointer}/"), text) {
                Value::Object(more) => map.extend(more.into_iter().filter(|(name, _)| !name.is_empty())),
                _ => self.fault(&format!("{pointer}/"), "further fields are one JSON object: {\"name\": …}"),
            }
        }
        (required || !map.is_empty()).then_some(Value::Object(map))
    }

    fn json(&mut self, pointer: &str, text: &str) -> Value {
        match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                self.fault(pointer, &format!("this is no JSON: {error}"));
                Value::from(text)
            }
        }
    }

    fn fault(&mut self, pointer: &str, message: &str) {
        let faults = self.faults.entry(pointer.to_owned()).or_default();
        if faults.is_empty() {
            faults.push((message.to_owned(), None));
        }
    }
}

/// A number as it was typed; a text that is none stays one, so that the schema's own complaint names it.
fn number(text: &str) -> Value {
    match serde_json::from_str(text.trim()) {
        Ok(value @ Value::Number(_)) => value,
        _ => Value::from(text),
    }
}

/// A new entry of a list.
fn blank(items: &Value) -> Value {
    begin_at(items, true, 0).unwrap_or_else(|| match shape(items, 0) {
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Text => Value::from(""),
        _ => Value::Null,
    })
}

/// Adds an entry to the list at a pointer, if the schema has one there.
pub fn add(schema: &Value, data: &mut Value, pointer: &str) {
    let mut at = merged(schema);
    let mut value = data;
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        match shape(&at, 0) {
            Shape::Object(properties, _) => {
                let Some(property) = properties.into_iter().find(|property| property.name == name) else { return };
                at = property.schema;
                if !value.is_object() {
                    *value = Value::Object(Map::new());
                }
                let Value::Object(map) = value else { return };
                value = map.entry(name).or_insert(Value::Null);
            }
            Shape::List(items) => {
                at = items;
                let Some(entry) = name.parse::<usize>().ok().and_then(|place| value.get_mut(place)) else { return };
                value = entry;
            }
            _ => return,
        }
    }
    let Shape::List(items) = shape(&at, 0) else { return };
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    if let Value::Array(entries) = value
        && entries.len() < ENTRIES_MOST
    {
        entries.push(blank(&items));
    }
}

/// Takes away the entry of a list that a pointer leads to.
pub fn remove(data: &mut Value, pointer: &str) {
    let Some((list, at)) = pointer.rsplit_once('/') else { return };
    if let (Some(Value::Array(entries)), Ok(at)) = (data.pointer_mut(list), at.parse::<usize>())
        && at < entries.len()
    {
        entries.remove(at);
    }
}
