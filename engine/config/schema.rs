//! The JSON Schema of events.yaml, made from the same types that are read.
//!
//! Here stand the shapes that differ from the types: short and long forms, durations, sizes.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value as JsonValue;

use crate::base::Span;
use crate::rules::cron::Missed;
use crate::rules::policy::{Growth, Hold};

use super::keys::cancel_on::Cancel;
use super::keys::concurrency::Concurrency;
use super::keys::cron::{Cron, SCHEDULES_MOST};
use super::keys::env::EnvValue;
use super::keys::events::Event;
use super::keys::on::Trigger;
use super::keys::retries::Retries;
use super::model::Model;
use super::quantity::Size;
use super::spanned::{Spanned, Table};

/// The JSON Schema (2020-12) of events.yaml.
pub fn schema() -> JsonValue {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Model>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "events.yaml".into());
    }
    tidy(&mut schema);
    schema
}

/// Takes `null` out of what `Option` allows (a key is left out, not set to null), and the line breaks of the doc comments
/// out of the descriptions.
pub(super) fn tidy(schema: &mut JsonValue) {
    match schema {
        JsonValue::Object(map) => {
            if let Some(JsonValue::String(text)) = map.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            if let Some(JsonValue::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(JsonValue::Array(forms)) = map.get_mut("anyOf") {
                forms.retain(|form| form.get("type").is_none_or(|name| name != "null"));
                if let [JsonValue::Object(only)] = forms.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    only.into_iter().for_each(|(key, value)| {
                        map.entry(key).or_insert(value);
                    });
                }
            }
            map.values_mut().for_each(tidy);
        }
        JsonValue::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("TableOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

/// Implements the schema of a type by hand; it stands where the type is used, without a definition of its own.
macro_rules! shape {
    ($type:ty, $name:literal, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

shape!(Span, "Duration", |_generator| json_schema!({
    "type": "string",
    "pattern": "^(?=.)([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
    "examples": ["30s", "5m", "2h", "7d", "1h30m"],
}));
shape!(Size, "Size", |_generator| json_schema!({
    "type": ["string", "integer"],
    "pattern": "^[0-9]+ ?([KkMmGg][Ii]?)?[Bb]$",
    "minimum": 0,
    "examples": ["512KB", "64MB", "1GB"],
}));
shape!(EnvValue, "EnvValue", |_generator| json_schema!({ "type": ["string", "number", "boolean"] }));
shape!(Growth, "Growth", |_generator| json_schema!({ "type": "string", "enum": Growth::WORDS.map(|(word, _)| word) }));
shape!(Missed, "Missed", |_generator| json_schema!({ "type": "string", "enum": Missed::WORDS.map(|(word, _)| word) }));
shape!(Hold, "Hold", |_generator| json_schema!({ "type": "string", "enum": ["run", "active"] }));

/// Any JSON value.
pub(super) struct AnyJson;
shape!(AnyJson, "AnyJson", |_generator| json_schema!({}));

/// The name of a secret, or two of them.
pub(super) struct SecretsShape;
shape!(SecretsShape, "SecretNames", |_generator| json_schema!({
    "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 2 }],
}));

/// A path, or a JSON Schema.
pub(super) struct SchemaShape;
shape!(SchemaShape, "EventSchema", |_generator| json_schema!({
    "anyOf": [{ "type": "string" }, { "type": "boolean" }, { "type": "object" }],
}));

/// An event, or nothing: any data.
pub(super) struct EventShape;
shape!(EventShape, "DeclaredEvent", |generator| json_schema!({ "anyOf": [generator.subschema_for::<Event>(), { "const": null }] }));

/// A number of retries, or the long form.
pub(super) struct Retried;
shape!(Retried, "Retried", |generator| json_schema!({
    "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 20 }, generator.subschema_for::<Retries>()],
}));

/// A number of runs, the long form, or a list of long forms.
pub(super) struct ConcurrencyShape;
shape!(ConcurrencyShape, "ConcurrencyForms", |generator| {
    let long = generator.subschema_for::<Concurrency>();
    let short = json_schema!({ "type": "integer", "minimum": 1 });
    json_schema!({ "anyOf": [short, long, { "type": "array", "items": { "anyOf": [short, long] }, "minItems": 1, "maxItems": 2 }] })
});

/// An event's name, the long form, or a list of either.
pub(super) struct TriggerShape;
shape!(TriggerShape, "TriggerForms", |generator| one_or_list(&generator.subschema_for::<Trigger>()));

/// An event's name, the long form, or a list of either.
pub(super) struct CancelShape;
shape!(CancelShape, "CancelForms", |generator| one_or_list(&generator.subschema_for::<Cancel>()));

/// A schedule, the long form, or a list of either.
pub(super) struct CronShape;
shape!(CronShape, "CronForms", |generator| {
    let long = generator.subschema_for::<Cron>();
    let short = json_schema!({ "type": "string" });
    let list = json_schema!({ "type": "array", "items": { "anyOf": [short, long] }, "minItems": 1, "maxItems": SCHEDULES_MOST });
    json_schema!({ "anyOf": [short, long, list] })
});

fn one_or_list(long: &Schema) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "string" }, long, { "type": "array", "items": { "anyOf": [{ "type": "string" }, long] }, "minItems": 1 }],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::reader::Reader;
    use super::super::tree;
    use super::*;
    use crate::base::Source;

    /// The keys of each kind of map, as the schema has them.
    fn in_schema() -> BTreeMap<String, BTreeSet<String>> {
        let schema = schema();
        let keys =
            |schema: &JsonValue| -> Option<BTreeSet<String>> { Some(schema.get("properties")?.as_object()?.keys().cloned().collect()) };
        let definitions = schema["$defs"].as_object().unwrap();
        let mut all: BTreeMap<_, _> = definitions.iter().filter_map(|(name, schema)| Some((name.clone(), keys(schema)?))).collect();
        all.insert("Model".to_owned(), keys(&schema).unwrap());
        all
    }

    #[test]
    fn the_schema_and_the_reader_know_the_same_keys() {
        let whole = include_str!("../tests/config/whole/events.yaml");
        let rest = "functions: { pay: { on: { event: a/b }, retries: {} } }\nwebhooks: { w: { signature: {} } }";
        let mut reader = Reader::default();
        for text in [whole, rest] {
            let node = tree::parse(&Source::new("events.yaml", text), &mut reader.problems).unwrap();
            Model::read(&node, &mut reader);
        }
        let owned = |keys: &BTreeSet<&str>| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
        let asked: BTreeMap<String, BTreeSet<String>> = reader.asked.iter().map(|(name, keys)| ((*name).to_owned(), owned(keys))).collect();
        assert_eq!(asked, in_schema());
    }

    #[test]
    fn every_key_is_described() {
        let schema = schema();
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, definition) in definitions.iter().map(|(name, schema)| (name.as_str(), schema)).chain([("the file", &schema)]) {
            for (key, schema) in definition.get("properties").and_then(JsonValue::as_object).into_iter().flatten() {
                assert!(schema["description"].as_str().is_some_and(|text| text.len() > 8), "{name}.{key} is not described");
            }
        }
    }
}
