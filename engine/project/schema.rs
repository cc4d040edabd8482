//! An event's schema, compiled once: what data violate it, and what it knows of a path.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::base::Diagnostic;
use crate::base::diagnostic::nearest;
use crate::expr::Segment;

use super::documents::Documents;
use super::shape::{self, Node, Property, Shape};
use super::violation::{self, EventProblem};

/// Steps that a pattern with look-around may take on one text, so that data sent to harm cannot hold up the engine.
const PATTERN_STEPS: usize = 100_000;
/// Violations that are told at once.
pub(super) const VIOLATIONS_MOST: usize = 50;

/// An event's compiled schema.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
    shelf: Arc<Shelf>,
    address: String,
}

/// The documents that compiled schemas are made of, by address.
pub(super) type Shelf = BTreeMap<String, Arc<Value>>;

/// The values of all documents.
pub(super) fn shelf(documents: &Documents) -> Arc<Shelf> {
    let value = |address: &str| documents.get(address).map(|document| (address.to_owned(), Arc::clone(&document.value)));
    Arc::new(documents.addresses().filter_map(value).collect())
}

/// What a schema says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It is declared, or nothing is said that speaks against it.
    Yes,
    /// Its last property found is not declared where only declared ones are allowed.
    Closed { property: String, nearest: Option<String> },
    /// The property is not declared but allowed, and a declared one has almost that name.
    Near { property: String, nearest: String },
}

/// Compiles the document at `address`, which `documents` has read without a problem.
///
/// # Errors
/// Each thing that makes it no schema, at its place.
pub(super) fn compile(documents: &Documents, shelf: &Arc<Shelf>, address: &str) -> Result<Schema, Vec<Diagnostic>> {
    let Some(document) = documents.get(address) else { return Err(Vec::new()) };
    let mut options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .with_base_uri(address)
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(PATTERN_STEPS));
    options = options.with_retriever(documents.retriever());
    match options.build(&document.value) {
        Ok(validator) => Ok(Schema { validator, shelf: Arc::clone(shelf), address: address.to_owned() }),
        Err(error) => {
            let place = document.origin.place(error.instance_path().as_str());
            Err(vec![Diagnostic::error("E0203", format!("this is no JSON Schema: {}", violation::sentence(&error))).at(place)])
        }
    }
}

/// What the meta-schema finds wrong with a document, patterns that are none, and formats that nobody checks.
pub(super) fn inspect(documents: &Documents, address: &str) -> Vec<Diagnostic> {
    let Some(document) = documents.get(address) else { return Vec::new() };
    let mut problems: Vec<Diagnostic> = Vec::new();
    for error in jsonschema::draft202012::meta::validator().iter_errors(&document.value).take(VIOLATIONS_MOST) {
        let pointer = error.instance_path().as_str().to_owned();
        let problem = match error.instance().as_str() {
            Some(word) if pointer.ends_with("/type") => {
                let problem = Diagnostic::error("E0203", format!("this is no JSON Schema: there is no type `{word}`"));
                match nearest(word, TYPES.iter().copied()) {
                    Some(right) => problem.help(format!("did you mean `{right}`?")),
                    None => problem.help(format!("the types are {}", TYPES.join(", "))),
                }
            }
            _ => Diagnostic::error("E0203", format!("this is no JSON Schema: {}", violation::sentence(&error))),
        };
        let problem = problem.at(document.origin.place(&pointer));
        if !problems.iter().any(|known| known.places == problem.places) {
            problems.push(problem);
        }
    }
    keywords(&document.value, "", &mut |pointer, keyword, text| {
        let place = document.origin.place(pointer);
        match keyword {
            "format" if !jsonschema::options().is_known_format(Draft::Draft202012, text) => {
                let problem = Diagnostic::warning("W0210", format!("nothing checks the format `{text}`"));
                let problem = problem.at(place).nearest(text, FORMATS.iter().copied());
                problems.push(problem.help("`pattern` checks a text with a regular expression"));
            }
            "pattern" if !is_pattern(text) => {
                let problem = Diagnostic::error("E0203", format!("`{text}` is no regular expression"));
                problems.push(problem.at(place).help("check its brackets; a backslash is written twice within double quotes"));
            }
            _ => {}
        }
    });
    problems
}

/// Whether a text is a regular expression that the validator can use.
fn is_pattern(text: &str) -> bool {
    let alone = serde_json::json!({ "pattern": text });
    jsonschema::options().with_draft(Draft::Draft202012).build(&alone).is_ok()
}

const TYPES: &[&str] = &["string", "number", "integer", "boolean", "object", "array", "null"];
const FORMATS: &[&str] = &[
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// Every keyword of a schema whose value is a text, with its pointer; what holds data instead of schemas is left out.
fn keywords(value: &Value, pointer: &str, found: &mut dyn FnMut(&str, &str, &str)) {
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(at, entry)| keywords(entry, &format!("{pointer}/{at}"), found)),
        Value::Object(map) => {
            for (key, entry) in map {
                let inner = format!("{pointer}/{}", super::places::escaped(key));
                match (key.as_str(), entry) {
                    ("enum" | "const" | "default" | "examples" | "example", _) => {}
                    (keyword, Value::String(text)) if !pointer.ends_with("/properties") => found(&inner, keyword, text),
                    _ => keywords(entry, &inner, found),
                }
            }
        }
        _ => {}
    }
}

impl Schema {
    /// Every way in which `data` does not fit, with pointers that begin with `prefix`.
    pub fn violations(&self, data: &Value, prefix: &str) -> Vec<EventProblem> {
        // Most data fit, and this is the quick way to know.
        if self.validator.is_valid(data) {
            return Vec::new();
        }
        let mut problems = Vec::new();
        for error in self.validator.iter_errors(data).take(VIOLATIONS_MOST) {
            violation::explain(&error, prefix, &|owner| self.names_at(owner), &mut problems);
        }
        problems
    }

    /// The document itself.
    pub fn value(&self) -> &Value {
        self.shelf.get(&self.address).map_or(&Value::Null, |value| value)
    }

    /// The schema with what its `$ref`s lead to in their places. Where they lead round in a circle, or to an anchor, anything fits.
    pub fn whole(&self) -> Value {
        self.inlined(&self.address, self.value(), &mut Vec::new())
    }

    fn inlined(&self, address: &str, value: &Value, open: &mut Vec<String>) -> Value {
        match value {
            Value::Array(list) => list.iter().map(|entry| self.inlined(address, entry, open)).collect(),
            Value::Object(map) => {
                let mut whole = serde_json::Map::new();
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    let (file, pointer) = target.split_once('#').unwrap_or((target, ""));
                    let file = if file.is_empty() { address } else { file };
                    let key = format!("{file}#{pointer}");
                    let found = self.shelf.get(file).and_then(|document| document.pointer(pointer)).filter(|_| !open.contains(&key));
                    let Some(found) = found else { return Value::Bool(true) };
                    open.push(key);
                    let below = self.inlined(file, found, open);
                    open.pop();
                    match below {
                        Value::Object(below) => whole = below,
                        other if map.len() == 1 => return other,
                        _ => {}
                    }
                }
                for (name, entry) in map.iter().filter(|(name, _)| *name != "$ref" && *name != "$defs") {
                    whole.insert(name.clone(), self.inlined(address, entry, open));
                }
                Value::Object(whole)
            }
            other => other.clone(),
        }
    }

    fn root(&self) -> Node<'_> {
        Node { address: &self.address, schema: self.value() }
    }

    /// The shape of the data that fit it.
    pub fn shape(&self) -> Shape<'_> {
        Shape::of(&self.shelf, self.root())
    }

    fn expand<'a>(&'a self, nodes: &[Node<'a>]) -> Vec<Node<'a>> {
        shape::expand(&self.shelf, nodes)
    }

    /// The names of the properties that are declared for the data's object at a JSON pointer.
    fn names_at(&self, pointer: &str) -> Vec<String> {
        let mut at = vec![self.root()];
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            let all = self.expand(&at);
            at = all.iter().filter_map(|node| node.child(&name).or_else(|| node.item(name.parse().ok()?))).collect();
        }
        let mut names: Vec<String> = self.expand(&at).iter().flat_map(|node| node.names()).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What the schema says of a path into the data.
    pub fn knows(&self, path: &[Segment]) -> Known {
        let mut at = self.shape();
        for segment in path {
            match segment {
                Segment::Index(index) => match at.item(usize::try_from(*index).ok()) {
                    Some(item) => at = item,
                    None => return Known::Yes,
                },
                Segment::Field(name) => match at.property(name) {
                    Property::There { shape, .. } => at = shape,
                    Property::Refused { nearest } => return Known::Closed { property: name.clone(), nearest },
                    Property::Near { nearest } => return Known::Near { property: name.clone(), nearest },
                    Property::Ownerless { .. } => return Known::Yes,
                },
            }
        }
        Known::Yes
    }

    /// A text of the command line as the value that the schema wants for this field: what it declares, else JSON if the
    /// text is JSON, else the text.
    pub fn typed(&self, field: &str, text: &str) -> Value {
        let all = self.expand(&[self.root()]);
        let declared: Vec<Node<'_>> = all.iter().filter_map(|node| node.child(field)).collect();
        let types: Vec<&str> = self.expand(&declared).iter().flat_map(|node| node.types()).collect();
        typed(&types, text)
    }
}

/// A text as one of the JSON types in `types`; any of them where there is none.
fn typed(types: &[&str], text: &str) -> Value {
    let json = serde_json::from_str::<Value>(text).ok();
    let fits = |value: &Value| match value {
        Value::Null => types.contains(&"null"),
        Value::Bool(_) => types.contains(&"boolean"),
        Value::Number(number) => types.contains(&"number") || (types.contains(&"integer") && !number.is_f64()),
        Value::String(_) => false,
        Value::Array(_) => types.contains(&"array"),
        Value::Object(_) => types.contains(&"object"),
    };
    match json {
        Some(value) if types.is_empty() || fits(&value) => value,
        // What fits no declared type is kept as JSON, so that the schema's own complaint names what was meant.
        Some(value) if !types.contains(&"string") => value,
        _ => Value::from(text),
    }
}

/// `text` typed by the property `field` of an event's schema (a plain JSON Schema value, without its files), else as JSON if it is JSON, else as text.
pub fn typed_value(schema: Option<&Value>, field: &str, text: &str) -> Value {
    let property = schema.and_then(|schema| schema.get("properties")?.get(field));
    let node = property.map(|schema| Node { address: "", schema });
    typed(&node.map(|node| node.types()).unwrap_or_default(), text)
}
