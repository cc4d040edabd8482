//! The shape of the data that a schema allows: which properties can be there, which have to be, and of which types.
//!
//! A shape is a list of alternatives, one of which holds for each value that fits the schema; an alternative is a list of
//! subschemas that all hold at once. `$ref` and `allOf` make an alternative longer, `anyOf`, `oneOf` and `if` make several of
//! it. Whatever is not understood (an anchor, a `not`, too many alternatives) counts as allowed: what a shape says is certain.

use std::ops::{BitOr, BitOrAssign};

use serde_json::Value;

use crate::base::diagnostic::nearest;

use super::schema::Shelf;

/// Alternatives of one value; a schema with more of them says nothing.
const ALTERNATIVES_MOST: usize = 64;
/// Subschemas that are looked at for one value; a schema that nests deeper says nothing.
pub(super) const SUBSCHEMAS_MOST: usize = 500;
/// Shortest name that counts as misspelled where any name is allowed: shorter ones are near to everything.
const NEAR_LEAST_CHARS: usize = 4;

/// A set of JSON types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub const NULL: Types = Types(1);
    pub const FLAG: Types = Types(2);
    pub const WHOLE: Types = Types(4);
    pub const FRACTION: Types = Types(8);
    pub const TEXT: Types = Types(16);
    pub const LIST: Types = Types(32);
    pub const MAP: Types = Types(64);
    pub const NONE: Types = Types(0);
    pub const ALL: Types = Types(127);
    pub const NUMBER: Types = Types(12);

    /// Whether both have a type in common.
    pub fn meets(self, other: Types) -> bool {
        self.0 & other.0 != 0
    }

    fn both(self, other: Types) -> Types {
        Types(self.0 & other.0)
    }

    /// The same without some types.
    pub fn without(self, other: Types) -> Types {
        Types(self.0 & !other.0)
    }

    fn named(word: &str) -> Types {
        match word {
            "null" => Types::NULL,
            "boolean" => Types::FLAG,
            "integer" => Types::WHOLE,
            "number" => Types::NUMBER,
            "string" => Types::TEXT,
            "array" => Types::LIST,
            "object" => Types::MAP,
            _ => Types::ALL,
        }
    }

    fn of(value: &Value) -> Types {
        match value {
            Value::Null => Types::NULL,
            Value::Bool(_) => Types::FLAG,
            // 1.0 is an integer to a schema.
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => Types::WHOLE,
            Value::Number(_) => Types::FRACTION,
            Value::String(_) => Types::TEXT,
            Value::Array(_) => Types::LIST,
            Value::Object(_) => Types::MAP,
        }
    }

    /// In words: `a text or a whole number`.
    pub fn shown(self) -> String {
        let words = [
            (Types::TEXT, "a text"),
            (Types::NUMBER, "a number"),
            (Types::WHOLE, "a whole number"),
            (Types::FRACTION, "a fraction"),
            (Types::FLAG, "true or false"),
            (Types::LIST, "a list"),
            (Types::MAP, "a map"),
            (Types::NULL, "null"),
        ];
        let mut left = self;
        let mut parts = Vec::new();
        for (types, word) in words {
            if left.both(types) == types {
                parts.push(word);
                left = left.without(types);
            }
        }
        match parts.as_slice() {
            [] => "nothing".to_owned(),
            [one] => (*one).to_owned(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        }
    }
}

impl BitOr for Types {
    type Output = Types;

    fn bitor(self, other: Types) -> Types {
        Types(self.0 | other.0)
    }
}

impl BitOrAssign for Types {
    fn bitor_assign(&mut self, other: Types) {
        *self = *self | other;
    }
}

/// A subschema and the address of its document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    pub address: &'a str,
    pub schema: &'a Value,
}

impl<'a> Node<'a> {
    fn with(self, schema: &'a Value) -> Node<'a> {
        Node { schema, ..self }
    }

    fn list(self, key: &str) -> impl Iterator<Item = Node<'a>> + use<'a> {
        self.schema.get(key).and_then(Value::as_array).into_iter().flatten().map(move |schema| self.with(schema))
    }

    /// The names that it declares.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        self.schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// What its `properties`, `patternProperties` and `additionalProperties` say of a property; empty where they say nothing.
    fn children(self, name: &str) -> Vec<Node<'a>> {
        let mut found: Vec<Node<'a>> =
            self.schema.get("properties").and_then(|all| all.get(name)).map(|schema| self.with(schema)).into_iter().collect();
        let patterns = self.schema.get("patternProperties").and_then(Value::as_object);
        found.extend(patterns.into_iter().flatten().filter(|(pattern, _)| fits(pattern, name)).map(|(_, schema)| self.with(schema)));
        if found.is_empty() {
            found.extend(self.schema.get("additionalProperties").map(|schema| self.with(schema)));
        }
        found
    }

    fn is_named(self, name: &str) -> bool {
        self.schema.get("properties").and_then(|all| all.get(name)).is_some_and(|schema| schema != &Value::Bool(false))
    }

    /// Whether it says anything of a property: by name, by a pattern, or by a schema for all further ones.
    fn declares(self, name: &str) -> bool {
        let says_something = |schema: &Value| schema.as_object().is_some_and(|map| !map.is_empty());
        let patterns = self.schema.get("patternProperties").and_then(Value::as_object);
        self.is_named(name)
            || patterns.is_some_and(|all| all.keys().any(|pattern| fits(pattern, name)))
            || ["additionalProperties", "unevaluatedProperties"].iter().any(|key| self.schema.get(key).is_some_and(says_something))
    }

    /// The schema of a property, by its name or as one of those that are not named; none where any value may be there. Patterns are
    /// left aside: this words the refusal of an event, and compiling them would make that dear.
    pub fn child(self, name: &str) -> Option<Node<'a>> {
        if let Some(declared) = self.schema.get("properties").and_then(|properties| properties.get(name)) {
            return Some(self.with(declared));
        }
        self.schema.get("additionalProperties").filter(|schema| schema.is_object()).map(|schema| self.with(schema))
    }

    /// The schema of an item of a list.
    pub fn item(self, index: usize) -> Option<Node<'a>> {
        let first = self.schema.get("prefixItems").and_then(|items| items.get(index));
        first.or_else(|| self.schema.get("items")).map(|schema| self.with(schema))
    }

    fn requires(self, name: &str) -> bool {
        let listed = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|entry| entry == name));
        self.schema.get("required").is_some_and(listed)
    }

    /// Whether it may require a property in a way that is not looked into.
    fn may_require(self, name: &str) -> bool {
        let dependent = self.schema.get("dependentRequired").and_then(Value::as_object);
        let listed = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|entry| entry == name));
        self.requires(name)
            || dependent.is_some_and(|map| map.values().any(listed))
            || ["minProperties", "enum", "const", "not"].iter().any(|key| self.schema.get(key).is_some())
    }

    fn allowed_types(self) -> Types {
        let by_type = match self.schema.get("type") {
            Some(Value::String(word)) => Types::named(word),
            Some(Value::Array(words)) => union(words.iter().filter_map(Value::as_str).map(Types::named)),
            _ => Types::ALL,
        };
        let by_value = match (self.schema.get("enum"), self.schema.get("const")) {
            (Some(Value::Array(values)), _) => union(values.iter().map(Types::of)),
            (_, Some(value)) => Types::of(value),
            _ => Types::ALL,
        };
        by_type.both(by_value)
    }

    /// The names of the types that it declares.
    pub fn types(self) -> Vec<&'a str> {
        let of = |value: &'a Value| match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        match (self.schema.get("type"), self.schema.get("enum"), self.schema.get("const")) {
            (Some(Value::String(name)), ..) => vec![name.as_str()],
            (Some(Value::Array(names)), ..) => names.iter().filter_map(Value::as_str).collect(),
            (_, Some(Value::Array(values)), _) => values.iter().map(of).collect(),
            (.., Some(value)) => vec![of(value)],
            _ => Vec::new(),
        }
    }
}

fn union(all: impl Iterator<Item = Types>) -> Types {
    all.fold(Types::NONE, |sum, types| sum | types)
}

/// Whether a name fits a pattern of `patternProperties`; one that this engine of patterns does not know fits all.
fn fits(pattern: &str, name: &str) -> bool {
    regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(name))
}

/// The schema that a node's `$ref` leads to.
fn target<'a>(shelf: &'a Shelf, node: Node<'a>) -> Option<Node<'a>> {
    let target = node.schema.get("$ref")?.as_str()?;
    let (address, fragment) = target.split_once('#').unwrap_or((target, ""));
    let (address, document) = match address {
        "" => (node.address, shelf.get(node.address)?),
        other => shelf.get_key_value(other).map(|(key, value)| (key.as_str(), value))?,
    };
    Some(Node { address, schema: document.pointer(fragment)? })
}

/// The nodes with everything that `$ref` and the combining keywords add to them, whichever of it holds.
pub(super) fn expand<'a>(shelf: &'a Shelf, nodes: &[Node<'a>]) -> Vec<Node<'a>> {
    let mut all: Vec<Node<'a>> = Vec::new();
    let mut open: Vec<Node<'a>> = nodes.to_vec();
    while let Some(node) = open.pop() {
        if all.len() >= SUBSCHEMAS_MOST || all.iter().any(|known| std::ptr::eq(known.schema, node.schema)) {
            continue;
        }
        all.push(node);
        open.extend(target(shelf, node));
        for key in ["allOf", "anyOf", "oneOf"] {
            open.extend(node.list(key));
        }
        open.extend(["if", "then", "else"].iter().filter_map(|key| node.schema.get(key)).map(|schema| node.with(schema)));
        let dependent = node.schema.get("dependentSchemas").and_then(Value::as_object);
        open.extend(dependent.into_iter().flat_map(|map| map.values()).map(|schema| node.with(schema)));
    }
    all
}

/// Subschemas that hold at once.
type Alternative<'a> = Vec<Node<'a>>;

/// The alternatives of a value for which all of `nodes` hold; none where that is too much, or not understood.
fn alternatives<'a>(shelf: &'a Shelf, nodes: Vec<Node<'a>>) -> Option<Vec<Alternative<'a>>> {
    let mut found: Vec<Alternative<'a>> = Vec::new();
    let mut open: Vec<(Vec<Node<'a>>, Alternative<'a>)> = vec![(nodes, Vec::new())];
    let mut steps = 0;
    while let Some((mut left, mut done)) = open.pop() {
        steps += 1;
        if steps > SUBSCHEMAS_MOST || found.len() + open.len() > ALTERNATIVES_MOST {
            return None;
        }
        let Some(node) = left.pop() else {
            if union_of(&done) != Types::NONE {
                found.push(done);
            }
            continue;
        };
        if node.schema == &Value::Bool(false) {
            continue;
        }
        if done.iter().any(|known| std::ptr::eq(known.schema, node.schema)) {
            open.push((left, done));
            continue;
        }
        if node.schema.get("$ref").is_some() {
            left.push(target(shelf, node)?);
        }
        if node.schema.get("$dynamicRef").is_some() {
            return None;
        }
        done.push(node);
        left.extend(node.list("allOf"));
        let choices: Vec<Vec<Node<'a>>> =
            ["anyOf", "oneOf"].iter().map(|key| node.list(key).collect()).filter(|all: &Vec<_>| !all.is_empty()).collect();
        // Counted before they are made: two long lists of choices multiply.
        let pairs = if node.schema.get("if").is_some() { 2 } else { 1 };
        let count = choices.iter().map(Vec::len).fold(pairs, usize::saturating_mul);
        if found.len() + open.len() + count > ALTERNATIVES_MOST + 1 {
            return None;
        }
        let mut ways = vec![left];
        for choice in choices {
            ways = ways.iter().flat_map(|way| choice.iter().map(|node| way.iter().copied().chain([*node]).collect())).collect();
        }
        if node.schema.get("if").is_some() {
            let arm = |key: &str| node.schema.get(key).map(|schema| node.with(schema));
            let (then, otherwise) = (arm("then"), arm("else"));
            ways = ways.into_iter().flat_map(|way| [then, otherwise].map(|arm| way.iter().copied().chain(arm).collect())).collect();
        }
        open.extend(ways.into_iter().map(|way| (way, done.clone())));
    }
    (!found.is_empty()).then_some(found)
}

/// The types that all of an alternative's nodes allow.
fn union_of(alternative: &[Node<'_>]) -> Types {
    alternative.iter().fold(Types::ALL, |types, node| types.both(node.allowed_types()))
}

/// What all values of a place in the data have in common.
#[derive(Debug, Clone)]
pub(super) struct Shape<'a> {
    shelf: &'a Shelf,
    /// None where nothing is certain.
    alternatives: Option<Vec<Alternative<'a>>>,
}

/// What a shape says of a property.
#[derive(Debug)]
pub(super) enum Property<'a> {
    /// Nothing speaks against it; what lies there, and whether it always does.
    There { shape: Shape<'a>, presence: Presence },
    /// No value with this property fits the schema.
    Refused { nearest: Option<String> },
    /// It may be there, but is not declared, and a declared one has almost that name.
    Near { nearest: String },
    /// No value here is a map.
    Ownerless { types: Types },
}

/// Whether a property is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// In each map that fits the schema.
    Always,
    /// It is declared, and left out at will.
    Optional,
    /// That depends on something.
    Unclear,
}

impl<'a> Shape<'a> {
    /// The shape of the values for which a schema holds.
    pub fn of(shelf: &'a Shelf, node: Node<'a>) -> Shape<'a> {
        Shape { shelf, alternatives: alternatives(shelf, vec![node]) }
    }

    /// The types of the values.
    pub fn types(&self) -> Types {
        match &self.alternatives {
            Some(all) => union(all.iter().map(|alternative| union_of(alternative))),
            None => Types::ALL,
        }
    }

    /// Its alternatives, each with its subschemas; none where nothing is certain.
    pub fn each(&self) -> &[Alternative<'a>] {
        self.alternatives.as_deref().unwrap_or_default()
    }

    fn everything(&self) -> Vec<Node<'a>> {
        expand(self.shelf, &self.each().concat())
    }

    /// The names that are declared for its maps, sorted.
    pub fn names(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.everything().iter().flat_map(|node| node.names()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The properties that every map here has, sorted.
    pub fn required(&self) -> Vec<&'a str> {
        let maps: Vec<&Alternative<'a>> = self.maps().collect();
        let Some((first, others)) = maps.split_first() else { return Vec::new() };
        let of = |alternative: &[Node<'a>]| -> Vec<&'a str> {
            let lists = alternative.iter().filter_map(|node| node.schema.get("required")?.as_array());
            lists.flatten().filter_map(Value::as_str).collect()
        };
        let mut names = of(first);
        names.retain(|name| others.iter().all(|other| other.iter().any(|node| node.requires(name))));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn maps(&self) -> impl Iterator<Item = &Alternative<'a>> {
        self.each().iter().filter(|alternative| union_of(alternative).meets(Types::MAP))
    }

    /// What it says of a property.
    pub fn property(&self, name: &str) -> Property<'a> {
        let unknown = || Property::There { shape: self.unknown(), presence: Presence::Unclear };
        if self.alternatives.is_none() {
            return unknown();
        }
        let types = self.types();
        if !types.meets(Types::MAP) {
            return Property::Ownerless { types };
        }
        let allowing: Vec<Vec<Node<'a>>> = self.maps().filter_map(|alternative| below(alternative, name)).collect();
        let near = |least: usize| {
            let names = self.names();
            let near = nearest(name, names.iter().copied().filter(|known| *known != name))?;
            (name.chars().count() >= least || near.eq_ignore_ascii_case(name)).then(|| near.to_owned())
        };
        if allowing.is_empty() {
            return Property::Refused { nearest: near(0) };
        }
        let all = self.everything();
        if all.len() >= SUBSCHEMAS_MOST {
            return unknown();
        }
        if !all.iter().any(|node| node.declares(name)) {
            return near(NEAR_LEAST_CHARS).map_or_else(unknown, |nearest| Property::Near { nearest });
        }
        let presence = if self.maps().all(|alternative| alternative.iter().any(|node| node.requires(name))) {
            Presence::Always
        } else if all.iter().any(|node| node.is_named(name)) && !all.iter().any(|node| node.may_require(name)) {
            Presence::Optional
        } else {
            Presence::Unclear
        };
        Property::There { shape: self.sum(allowing), presence }
    }

    /// What lies at an index of its lists, or at any where none is given; none where no value here is a list.
    pub fn item(&self, index: Option<usize>) -> Option<Shape<'a>> {
        let Some(all) = &self.alternatives else { return Some(self.unknown()) };
        if !self.types().meets(Types::LIST) {
            return None;
        }
        let lists = all.iter().filter(|alternative| union_of(alternative).meets(Types::LIST));
        let has_first = |alternative: &Alternative<'a>| alternative.iter().any(|node| node.schema.get("prefixItems").is_some());
        let below = |alternative: &Alternative<'a>| -> Vec<Node<'a>> {
            match index {
                Some(index) => alternative.iter().filter_map(|node| node.item(index)).collect(),
                None if has_first(alternative) => Vec::new(),
                None => alternative.iter().filter_map(|node| node.item(usize::MAX)).collect(),
            }
        };
        Some(self.sum(lists.map(below).collect()))
    }

    /// The shape of what each of these lists of subschemas describes.
    fn sum(&self, each: Vec<Vec<Node<'a>>>) -> Shape<'a> {
        let mut sum = Vec::new();
        for nodes in each {
            // Where nothing is said of one alternative, anything may lie there.
            if nodes.is_empty() {
                return self.unknown();
            }
            let Some(more) = alternatives(self.shelf, nodes) else { return self.unknown() };
            sum.extend(more);
        }
        if sum.is_empty() || sum.len() > ALTERNATIVES_MOST { self.unknown() } else { Shape { alternatives: Some(sum), ..*self } }
    }

    fn unknown(&self) -> Shape<'a> {
        Shape { shelf: self.shelf, alternatives: None }
    }
}

/// What an alternative says of a property; none where it refuses it.
fn below<'a>(alternative: &[Node<'a>], name: &str) -> Option<Vec<Node<'a>>> {
    let mut nodes: Vec<Node<'a>> = alternative.iter().flat_map(|node| node.children(name)).collect();
    if nodes.is_empty() {
        // What an `if` has looked at counts as seen too; that is not looked into.
        let simple = !alternative.iter().any(|node| ["if", "dependentSchemas"].iter().any(|key| node.schema.get(key).is_some()));
        let rest = alternative.iter().filter_map(|node| Some(node.with(node.schema.get("unevaluatedProperties")?)));
        nodes.extend(rest.filter(|_| simple));
    }
    (!nodes.iter().any(|node| node.schema == &Value::Bool(false))).then_some(nodes)
}

#[cfg(test)]
mod tests;
