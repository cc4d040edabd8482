//! What shapes say, as a table: a schema, a path into the data, and what is certain of it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// What a schema says of `path`, as a word.
fn says(schema: &Value, path: &str) -> String {
    let shelf: Shelf = [("stepwell:///s".to_owned(), Arc::new(schema.clone()))].into();
    let (address, schema) = shelf.iter().next().unwrap();
    let mut at = Shape::of(&shelf, Node { address, schema });
    let mut word = String::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        if part == "#" || part.parse::<usize>().is_ok() {
            match at.item(part.parse().ok()) {
                Some(item) => at = item,
                None => return "no list".to_owned(),
            }
            continue;
        }
        match at.property(part) {
            Property::There { shape, presence } => {
                word = format!("{presence:?}").to_lowercase();
                at = shape;
            }
            Property::Refused { nearest } => return format!("refused {}", nearest.unwrap_or_default()).trim_end().to_owned(),
            Property::Near { nearest } => return format!("near {nearest}"),
            Property::Ownerless { types } => return format!("in {}", types.shown()),
        }
    }
    format!("{word} {}", at.types().shown()).trim_start().to_owned()
}

const ANY: &str = "a text, a number, true or false, a list, a map or null";
/// Of a property that nothing is said of.
const UNCLEAR: &str = "unclear a text, a number, true or false, a list, a map or null";

#[test]
fn what_a_schema_says_of_a_path() {
    let text = json!({"type": "string"});
    let closed = json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}});
    /// A schema, and what it says of each path.
    type Case<'a> = (&'a str, Value, Vec<(&'a str, &'a str)>);
    let cases: Vec<Case<'_>> = vec![
        ("true", json!(true), vec![("a", UNCLEAR), ("a.b", UNCLEAR)]),
        ("no keywords", json!({}), vec![("a", UNCLEAR), ("#", ANY)]),
        (
            "closed",
            closed.clone(),
            vec![
                ("", "a map"),
                ("a", "always a text"),
                ("b", "optional a whole number"),
                ("c", "refused a"),
                ("xyzzy", "refused"),
                ("a.b", "in a text"),
                ("#", "no list"),
            ],
        ),
        (
            "open",
            json!({"type": "object", "properties": {"userId": text, "id": text, "gone": false}}),
            vec![
                ("userId", "optional a text"),
                ("userID", "near userId"),
                ("user_id", "near userId"),
                ("ip", UNCLEAR),
                ("other", UNCLEAR),
                ("gone", "refused"),
            ],
        ),
        (
            "additionalProperties as a schema",
            json!({"type": "object", "additionalProperties": closed}),
            vec![("x", "unclear a map"), ("x.a", "always a text"), ("x.c", "refused a")],
        ),
        ("additionalProperties: true", json!({"properties": {"known": {}}, "additionalProperties": true}), vec![("knwon", "near known")]),
        (
            "patternProperties",
            json!({"type": "object", "additionalProperties": false, "patternProperties": {"^x-": text}, "properties": {"xa": {}}}),
            vec![("x-a", "unclear a text"), ("y", "refused"), ("xb", "refused xa")],
        ),
        (
            "a pattern that this engine does not know",
            json!({"type": "object", "additionalProperties": false, "patternProperties": {"^(?!y)": text}}),
            vec![("x", "unclear a text"), ("y", "unclear a text")],
        ),
        ("$ref", json!({"$ref": "#/$defs/a", "$defs": {"a": closed}}), vec![("a", "always a text"), ("c", "refused a")]),
        (
            "$ref in a circle",
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "additionalProperties": false, "properties": {"next": {"$ref": "#/$defs/a"}}}}}),
            vec![("next.next.next", "optional a map"), ("next.nxt", "refused next")],
        ),
        ("$ref that is not followed", json!({"$ref": "#anchor", "properties": {"a": text}}), vec![("b", UNCLEAR)]),
        (
            "allOf adds up",
            json!({"allOf": [{"type": "object", "required": ["a"], "properties": {"a": text}}, {"properties": {"b": text}, "required": ["b"]}]}),
            vec![("a", "always a text"), ("b", "always a text"), ("cc", UNCLEAR)],
        ),
        (
            "allOf with a closed part refuses what the others declare",
            json!({"allOf": [closed, {"properties": {"more": {}}}]}),
            vec![("a", "always a text"), ("more", "refused")],
        ),
        (
            "unevaluatedProperties sees all parts",
            json!({"allOf": [{"properties": {"a": text}}], "properties": {"b": text}, "type": "object", "unevaluatedProperties": false}),
            vec![("a", "optional a text"), ("b", "optional a text"), ("c", "refused a")],
        ),
        (
            "anyOf: one way is enough",
            json!({"anyOf": [closed, {"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": {"type": "number"}, "z": text}}]}),
            vec![("a", "always a text or a number"), ("b", "optional a whole number"), ("z", "optional a text"), ("long", "refused")],
        ),
        (
            "oneOf: required in one way alone",
            json!({"type": "object", "properties": {"a": text}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            vec![("a", "unclear a text")],
        ),
        (
            "oneOf of types",
            json!({"oneOf": [{"type": "string"}, closed]}),
            vec![("", "a text or a map"), ("a", "always a text"), ("c", "refused a")],
        ),
        (
            "ways that contradict each other do not count",
            json!({"type": "object", "anyOf": [{"type": "string"}, closed]}),
            vec![("", "a map"), ("c", "refused a")],
        ),
        (
            "if, then, else",
            json!({"type": "object", "properties": {"kind": text}, "if": {"properties": {"kind": {"const": "a"}}}, "then": {"required": ["kind"], "properties": {"a": text}}, "else": {"properties": {"b": text}}}),
            vec![("a", "optional a text, a number, true or false, a list, a map or null"), ("kind", "unclear a text")],
        ),
        (
            "dependent ones are unclear",
            json!({"type": "object", "properties": {"a": text, "b": text}, "dependentRequired": {"a": ["b"]}}),
            vec![("a", "optional a text"), ("b", "unclear a text")],
        ),
        (
            "null beside another type",
            json!({"required": ["a"], "properties": {"a": {"type": ["string", "null"]}}, "type": "object"}),
            vec![("a", "always a text or null")],
        ),
        (
            "enum and const have types",
            json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"enum": ["x", 1, null]}, "b": {"const": 1.5}}}),
            vec![("a", "always a text, a whole number or null"), ("b", "always a fraction")],
        ),
        (
            "lists",
            json!({"type": "array", "prefixItems": [text], "items": closed}),
            vec![("0", "a text"), ("1.a", "always a text"), ("1.c", "refused a"), ("#", ANY)],
        ),
        (
            "lists of one kind",
            json!({"type": "array", "items": closed}),
            vec![("#.a", "always a text"), ("#.c", "refused a"), ("a", "in a list")],
        ),
    ];
    for (name, schema, paths) in &cases {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
        for (path, expected) in paths {
            assert_eq!(says(schema, path), *expected, "{name}: {path}");
        }
    }
}

#[test]
fn what_is_required_is_required_in_every_way() {
    let required = |schema: Value| -> Vec<String> {
        let shelf: Shelf = [("stepwell:///s".to_owned(), Arc::new(schema))].into();
        let (address, schema) = shelf.iter().next().unwrap();
        Shape::of(&shelf, Node { address, schema }).required().into_iter().map(str::to_owned).collect()
    };
    assert_eq!(required(json!({"type": "object", "required": ["b", "a"]})), ["a", "b"]);
    assert_eq!(required(json!({"allOf": [{"required": ["a"]}, {"required": ["b"]}]})), ["a", "b"]);
    assert_eq!(required(json!({"anyOf": [{"required": ["a", "c"]}, {"required": ["b", "c"]}]})), ["c"]);
    assert_eq!(required(json!({"anyOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]})), ["a"]);
    assert!(required(json!({})).is_empty() && required(json!(true)).is_empty() && required(json!({"$ref": "#x"})).is_empty());
}

#[test]
fn a_schema_that_branches_without_end_says_nothing() {
    let two = json!({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]});
    let all: Vec<&Value> = std::iter::repeat_n(&two, 20).collect();
    assert_eq!(says(&json!({"type": "object", "additionalProperties": false, "allOf": all}), "c"), UNCLEAR);
    // The choices are many, and none is looked at.
    let wide = |word: &str| -> Vec<Value> { (0..20_000).map(|n| json!({"required": [format!("{word}{n}")]})).collect() };
    assert_eq!(says(&json!({"type": "object", "additionalProperties": false, "anyOf": wide("a"), "oneOf": wide("b")}), "c"), UNCLEAR);
}
