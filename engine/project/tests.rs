use std::fs;

use serde_json::json;

use crate::base::{Diagnostic, Location, Source};
use crate::expr::{EVENT_VARIABLES, Expr};

use super::documents::Documents;
use super::schema::{Known, Schema, compile, inspect, shelf};

/// Compiles `event.json` of a folder with these files.
fn compiled(files: &[(&str, &str)]) -> (Option<Schema>, Vec<Diagnostic>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let yaml = Source::new("events.yaml", "schema: event.json\n");
    let mut documents = Documents::below(folder.path());
    let address = documents.file("event.json", &Location::new(&yaml, 8..18));
    let mut problems = std::mem::take(&mut documents.problems);
    let addresses: Vec<String> = documents.addresses().map(str::to_owned).collect();
    problems.extend(addresses.iter().flat_map(|address| inspect(&documents, address)));
    if problems.iter().any(|problem| problem.severity == crate::base::Severity::Error) {
        return (None, problems);
    }
    match compile(&documents, &shelf(&documents), &address.unwrap()) {
        Ok(schema) => (Some(schema), problems),
        Err(more) => (None, more),
    }
}

fn schema(text: &str) -> Schema {
    let (schema, problems) = compiled(&[("event.json", text)]);
    assert_eq!(problems, []);
    schema.unwrap()
}

const PAYMENT: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["userId", "amount"], "additionalProperties": false,
  "properties": {
    "userId": { "type": "string", "minLength": 2 },
    "amount": { "type": "integer", "exclusiveMinimum": 0 },
    "currency": { "enum": ["EUR", "USD"] },
    "code": { "type": "string", "pattern": "^[0-9]{6}$" },
    "mail": { "type": "string", "format": "email" },
    "items": { "type": "array", "items": { "type": "object", "properties": { "sku": { "type": "string" } } } },
    "payer": { "anyOf": [ { "type": "string" }, { "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] } ] }
  }
}"#;

#[test]
fn violations_have_a_pointer_a_reason_and_help() {
    let schema = schema(PAYMENT);
    let told = |data: serde_json::Value| -> Vec<String> {
        let mut told: Vec<String> = schema
            .violations(&data, "/data")
            .into_iter()
            .map(|problem| {
                format!("{}: {}{}", problem.pointer, problem.message, problem.help.map(|help| format!(" ({help})")).unwrap_or_default())
            })
            .collect();
        told.sort();
        told
    };
    let good =
        json!({"userId": "u1", "amount": 1, "currency": "EUR", "code": "123456", "mail": "a@b.de", "items": [{"sku": "x"}], "payer": "me"});
    assert_eq!(told(good), Vec::<String>::new());
    assert_eq!(
        told(json!({"userID": "u1", "amount": "12"})),
        [
            "/data/amount: expected an integer, found \"12\"",
            "/data/userID: there is no property `userID` (the schema has `userId`)",
            "/data: `userId` is missing (`userID` was sent; the schema has `userId`)",
        ]
    );
    assert_eq!(
        told(json!({"userId": "u", "amount": 0, "currency": "EURO", "code": "12", "mail": "nobody", "items": [{"sku": 1}], "payer": {}})),
        [
            "/data/amount: 0 is not more than 0",
            "/data/code: \"12\" does not match the pattern ^[0-9]{6}$",
            "/data/currency: expected \"EUR\" or \"USD\", found \"EURO\" (did you mean \"EUR\"?)",
            "/data/items/0/sku: expected a string, found 1",
            "/data/mail: \"nobody\" is no email",
            "/data/payer: an object fits none of the 2 choices (the nearest choice says: `name` is missing)",
            "/data/userId: \"u\" is shorter than 2 characters",
        ]
    );
    assert_eq!(told(json!([])), ["/data: expected an object, found a list"]);
    let secret = "x".repeat(500);
    assert!(told(json!({"userId": "u1", "amount": secret}))[0].len() < 150);
}

#[test]
fn a_text_sent_to_harm_meets_a_limit() {
    let schema = schema(r#"{"properties": {"x": {"type": "string", "pattern": "^(?=(a+)+$)(a+)+$"}}}"#);
    let told = schema.violations(&json!({"x": format!("{}!", "a".repeat(50_000))}), "/data");
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn what_a_schema_knows_of_a_path() {
    let files = [
        (
            "event.json",
            r##"{"$id": "https://example.com/event.json", "type": "object", "additionalProperties": false, "properties": {
                "user": {"$ref": "parts/user.json"}, "list": {"type": "array", "items": {"$ref": "#/$defs/entry"}},
                "any": {}, "open": {"type": "object", "properties": {"known": {}}},
                "typed": {"type": "object", "additionalProperties": {"type": "number"}},
                "named": {"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": false},
                "both": {"allOf": [{"$ref": "#/$defs/entry"}, {"properties": {"more": {}}}]}},
              "$defs": {"entry": {"type": "object", "additionalProperties": false, "properties": {"sku": {}, "next": {"$ref": "#/$defs/entry"}}}}}"##,
        ),
        ("parts/user.json", r#"{"type": "object", "additionalProperties": false, "properties": {"id": {"$ref": "id.json#/$defs/id"}}}"#),
        ("parts/id.json", r#"{"$defs": {"id": {"type": "string"}}}"#),
    ];
    let (schema, problems) = compiled(&files);
    assert_eq!(problems, []);
    let schema = schema.unwrap();
    let knows = |path: &str| {
        let expr = Expr::parse(&format!("event.data.{path}"), EVENT_VARIABLES).unwrap();
        schema.knows(&expr.paths()[0].segments[1..])
    };
    let closed = |property: &str, near: Option<&str>| Known::Closed { property: property.into(), nearest: near.map(str::to_owned) };
    for (path, expected) in [
        ("user.id", Known::Yes),
        ("user.ID", closed("ID", Some("id"))),
        ("usr", closed("usr", Some("user"))),
        ("other.deep", closed("other", None)),
        ("list[0].sku", Known::Yes),
        ("list[0].next.next.sku", Known::Yes),
        ("list[0].skuu", closed("skuu", Some("sku"))),
        ("any.thing", Known::Yes),
        ("open.knwon", Known::Near { property: "knwon".into(), nearest: "known".into() }),
        ("open.different", Known::Yes),
        ("typed.whatever", Known::Yes),
        ("named['x-anything']", Known::Yes),
        ("named.anything", closed("anything", None)),
        // One part of its `allOf` allows nothing but its own.
        ("both.more", closed("more", None)),
        ("both.sku", Known::Yes),
        ("both.none", closed("none", None)),
    ] {
        assert_eq!(knows(path), expected, "{path}");
    }
    assert!(schema.violations(&json!({"user": {"id": 1}}), "/data")[0].message.contains("expected a string"));
}

#[test]
fn broken_schemas_are_told_at_their_place() {
    let places = |files: &[(&str, &str)]| -> Vec<String> {
        let (_, problems) = compiled(files);
        let told = |problem: &Diagnostic| {
            let (file, line, column) = problem.position().unwrap();
            let help = if problem.helps.is_empty() { String::new() } else { format!(" ({})", problem.helps.join("; ")) };
            format!("{} {file}:{line}:{column} {}{help}", problem.code, problem.message)
        };
        problems.iter().map(told).collect()
    };
    for (text, expected) in [
        ("{\n \"type\": \"strng\"}", "E0203 event.json:2:10 this is no JSON Schema: there is no type `strng` (did you mean `string`?)"),
        ("{\"type\": \"object\",}", "E0202 event.json:1:19 this is not JSON: trailing comma"),
        ("{\"minLength\": -1}", "E0203 event.json:1:15 this is no JSON Schema: -1 is less than 0, the least allowed"),
        ("{\"pattern\": \"(\"}", "E0203 event.json:1:13 `(` is no regular expression"),
        ("{\"type\": \"string\", \"type\": \"object\"}", "E0202 event.json:1:20 `type` is written twice in one object"),
        (
            "{\"$ref\": \"https://example.com/x.json\"}",
            "E0204 event.json:1:10 `https://example.com/x.json` is remote, and nothing is fetched for a schema",
        ),
        ("{\"$ref\": \"../x.json\"}", "E0205 event.json:1:10 `../x.json` leaves this folder"),
        ("{\"$ref\": \"/etc/passwd\"}", "E0205 event.json:1:10 `/etc/passwd` leaves this folder"),
        ("{\"$ref\": \"file:///etc/passwd\"}", "E0204 event.json:1:10 `file:///etc/passwd` is remote"),
        (
            "{\"$ref\": \"evnt.json\"}",
            "E0206 event.json:1:10 this $ref leads nowhere: there is no file `evnt.json` (did you mean `event.json`?)",
        ),
        (
            "{\"$ref\": \"#/$defs/usr\", \"$defs\": {\"user\": {}}}",
            "E0206 event.json:1:10 this $ref leads nowhere: there is no `#/$defs/usr` (did you mean `user`?)",
        ),
        (
            "{\"$schema\": \"http://json-schema.org/draft-07/schema#\"}",
            "W0209 event.json:1:13 this names http://json-schema.org/draft-07/schema#",
        ),
        ("{\"format\": \"emial\"}", "W0210 event.json:1:12 nothing checks the format `emial` (did you mean `email`?"),
        ("3", "E0203 event.json:1:1 this is no JSON Schema: expected true or false or an object, found 3"),
    ] {
        let told = places(&[("event.json", text)]);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{text}: {told:#?}");
    }
    let told = places(&[("event.json", "{\"$ref\": \"other.json#/x\"}"), ("other.json", "{\"type\": 3, \"minimum\": \"a\"}")]);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("E0203 other.json:1:10")), "{told:#?}");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.json"), "{}").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    let yaml = Source::new("events.yaml", "x");
    let mut documents = Documents::below(folder.path());
    assert_eq!(documents.file("link/secret.json", &Location::new(&yaml, 0..1)), None);
    assert_eq!(documents.problems[0].code, "E0205");
}

#[test]
fn command_line_texts_take_the_declared_type() {
    let schema = schema(
        r##"{"properties": {"id": {"type": "string"}, "n": {"type": "integer"}, "f": {"$ref": "#/$defs/flag"}, "e": {"enum": ["1", "2"]},
            "either": {"type": ["string", "null"]}, "any": {}}, "$defs": {"flag": {"type": "boolean"}}}"##,
    );
    for (field, text, expected) in [
        ("id", "123", json!("123")),
        ("id", "true", json!("true")),
        ("n", "123", json!(123)),
        ("n", "abc", json!("abc")),
        ("f", "true", json!(true)),
        ("e", "1", json!("1")),
        ("either", "null", json!(null)),
        ("either", "12", json!("12")),
        ("any", "12", json!(12)),
        ("any", "{\"a\": 1}", json!({"a": 1})),
        ("any", "u1", json!("u1")),
        ("unknown", "[1]", json!([1])),
    ] {
        assert_eq!(schema.typed(field, text), expected, "{field}={text}");
    }
    let plain = json!({"properties": {"id": {"type": "string"}}});
    assert_eq!(super::typed_value(Some(&plain), "id", "12"), json!("12"));
    assert_eq!(super::typed_value(None, "id", "12"), json!(12));
}

#[test]
fn a_snapshot_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<super::Project>();
    shared::<super::Function>();
}
