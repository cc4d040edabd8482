//! A form made from a JSON Schema: drawn with an event's data filled in, and read back into data.
//!
//! It needs no script: what adds an entry to a list is a button that sends the form, which comes back with one more. What a form cannot
//! say (a choice between shapes, a map of any names) is a field of JSON within it.

mod draw;
mod read;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use draw::draw;
pub use read::{Filled, add, read, remove};

/// Objects and lists within each other that become fields; what lies deeper is JSON.
const DEPTH_MOST: usize = 6;
/// Entries of one list that become fields.
const ENTRIES_MOST: usize = 100;

/// What is wrong with fields, by JSON pointer below the data: a sentence, and what to do.
pub type Faults = BTreeMap<String, Vec<(String, Option<String>)>>;

/// One property of an object.
struct Property {
    name: String,
    schema: Value,
    required: bool,
}

/// What a schema wants, as far as a form can say it.
enum Shape {
    /// Properties; whether others are allowed, too.
    Object(Vec<Property>, bool),
    /// A list of such entries.
    List(Value),
    /// A text.
    Text,
    /// A number; whether it is a whole one.
    Number(bool),
    /// True or false.
    Truth,
    /// One of these values.
    Choice(Vec<Value>),
    /// Anything else.
    Json,
}

/// The schema with what its `allOf` adds to it in one.
fn merged(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let Some(parts) = map.get("allOf").and_then(Value::as_array) else { return schema.clone() };
    let mut whole: Map<String, Value> =
        map.iter().filter(|(key, _)| *key != "allOf").map(|(key, value)| (key.clone(), value.clone())).collect();
    for part in parts {
        let Value::Object(part) = merged(part) else { continue };
        for (key, value) in part {
            match (whole.get_mut(&key), value) {
                (Some(Value::Object(own)), Value::Object(more)) if key == "properties" => {
                    for (name, schema) in more {
                        own.entry(name).or_insert(schema);
                    }
                }
                (Some(Value::Array(own)), Value::Array(more)) if key == "required" => own.extend(more),
                (Some(_), _) => {}
                (None, value) => {
                    whole.insert(key, value);
                }
            }
        }
    }
    Value::Object(whole)
}

/// The types that a schema allows besides null, and whether null is one of them.
fn types(schema: &Value) -> (Vec<&str>, bool) {
    let all: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ if schema.get("items").is_some() => vec!["array"],
        _ => Vec::new(),
    };
    let is_nullable = all.contains(&"null");
    (all.into_iter().filter(|name| *name != "null").collect(), is_nullable)
}

fn shape(schema: &Value, depth: usize) -> Shape {
    if ["oneOf", "anyOf", "if", "not"].iter().any(|key| schema.get(key).is_some()) && schema.get("properties").is_none() {
        return Shape::Json;
    }
    if let Some(only) = schema.get("const") {
        return Shape::Choice(vec![only.clone()]);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Shape::Choice(values.clone());
    }
    match types(schema).0.as_slice() {
        ["object"] if depth < DEPTH_MOST => {
            let required: Vec<&str> =
                schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            let declared = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let property = |(name, schema): (&String, &Value)| Property {
                name: name.clone(),
                schema: merged(schema),
                required: required.contains(&name.as_str()),
            };
            let open = schema.get("additionalProperties") != Some(&Value::Bool(false))
                && schema.get("unevaluatedProperties") != Some(&Value::Bool(false));
            Shape::Object(declared.map(property).collect(), open)
        }
        ["array"] if depth < DEPTH_MOST && schema.get("prefixItems").is_none() => match schema.get("items") {
            Some(items @ Value::Object(_)) => Shape::List(merged(items)),
            _ => Shape::Json,
        },
        ["string"] => Shape::Text,
        ["integer"] => Shape::Number(true),
        ["number"] => Shape::Number(false),
        ["boolean"] => Shape::Truth,
        _ => Shape::Json,
    }
}

/// Data to begin with where there is no example: the defaults that the schema names, and the objects that it requires.
pub fn begin(schema: &Value) -> Value {
    begin_at(&merged(schema), true, 0).unwrap_or_else(|| Value::Object(Map::new()))
}

fn begin_at(schema: &Value, required: bool, depth: usize) -> Option<Value> {
    if let Some(default) = schema.get("default") {
        return Some(default.clone());
    }
    if let Some(only) = schema.get("const") {
        return required.then(|| only.clone());
    }
    if let Some(example) = schema.get("examples").and_then(|all| all.get(0)) {
        return required.then(|| example.clone());
    }
    match shape(schema, depth) {
        Shape::Object(properties, _) if required => {
            let found = |one: Property| Some((one.name, begin_at(&one.schema, one.required, depth + 1)?));
            Some(Value::Object(properties.into_iter().filter_map(found).collect()))
        }
        _ => None,
    }
}

/// The pointer of something within an object or a list.
fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["userId", "amount", "to"],
            "additionalProperties": false,
            "properties": {
                "userId": { "type": "string", "minLength": 1, "description": "Who pays." },
                "amount": { "type": "integer", "minimum": 1, "default": 5 },
                "currency": { "enum": ["EUR", "USD"] },
                "express": { "type": "boolean" },
                "note": { "type": ["string", "null"] },
                "to": { "type": "object", "required": ["city"], "properties": { "city": { "type": "string" }, "zip": { "type": "string" } } },
                "tags": { "type": "array", "items": { "type": "string" } },
                "extra": { "oneOf": [{ "type": "string" }, { "type": "number" }] }
            }
        })
    }

    /// The value of an attribute within a tag.
    fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
        tag.split_once(&format!(" {name}=\""))?.1.split('"').next()
    }

    /// The fields of a form as a browser sends them: what is drawn, with some of it changed.
    fn sent(data: &Value, changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let page = draw(&schema(), data, &Faults::new()).into_string();
        let mut fields = BTreeMap::new();
        for kind in ["input", "select", "textarea"] {
            for part in page.split(&format!("<{kind}")).skip(1) {
                let (tag, rest) = part.split_once('>').unwrap();
                let inside = rest.split(&format!("</{kind}>")).next().unwrap();
                let chosen = inside.split("<option").find(|option| option.split('>').next().unwrap().contains(" selected"));
                let value = match kind {
                    "input" => attribute(tag, "value").unwrap_or_default(),
                    "select" => chosen.and_then(|option| attribute(option, "value")).unwrap_or_default(),
                    _ => inside,
                };
                let value = value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
                fields.insert(attribute(tag, "name").unwrap().to_owned(), value);
            }
        }
        fields.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields
    }

    #[test]
    fn what_is_drawn_is_read_back_as_it_was() {
        let data = json!({
            "userId": "u\"<1>", "amount": 12, "currency": "USD", "express": false, "to": { "city": "Ulm" }, "tags": ["a", "b"], "extra": 1.5
        });
        let filled = read(&schema(), &sent(&data, &[]));
        assert_eq!(filled.data, data);
        assert!(filled.faults.is_empty(), "{:?}", filled.faults);
    }

    #[test]
    fn what_is_left_empty_is_left_out_and_what_is_no_number_stays_as_it_was_typed() {
        let filled = read(&schema(), &sent(&json!({}), &[("f/amount", "twelve"), ("f/extra", "{")]));
        assert_eq!(filled.data["amount"], json!("twelve"), "the schema's own complaint names it");
        assert_eq!(filled.data.get("userId"), None);
        assert_eq!(filled.data["to"], json!({}), "what is required is there");
        assert!(filled.faults["/extra"][0].0.contains("no JSON"), "{:?}", filled.faults);
    }

    #[test]
    fn entries_are_added_and_taken_away() {
        let mut data = json!({ "tags": ["a"] });
        add(&schema(), &mut data, "/tags");
        assert_eq!(data["tags"], json!(["a", ""]));
        remove(&mut data, "/tags/0");
        assert_eq!(data["tags"], json!([""]));
        let filled = read(&schema(), &sent(&data, &[("f/tags/0", "z")]));
        assert_eq!(filled.data["tags"], json!(["z"]));
        add(&schema(), &mut data, "/nowhere");
    }

    #[test]
    fn an_error_stands_at_its_field() {
        let mut faults = Faults::new();
        faults.insert("/to/city".to_owned(), vec![("`city` is missing".to_owned(), Some("write <one>".to_owned()))]);
        let page = draw(&schema(), &json!({}), &faults).into_string();
        let field = page.split("<input").find(|tag| tag.contains("name=\"f/to/city\"")).unwrap();
        assert!(field.contains("aria-invalid=\"true\"") && page.contains("write &lt;one&gt;"), "{page}");
        assert!(page.contains("Who pays."));
        assert_eq!(begin(&schema()), json!({ "amount": 5, "to": {} }));
    }
}
