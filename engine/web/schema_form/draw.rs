//! The fields of a form.

use std::fmt::Write as _;

use maud::{Markup, html};
use serde_json::Value;

use super::{ENTRIES_MOST, Faults, Property, Shape, below, merged, shape, types};

/// Characters of a text from which on its field has several lines.
const LONG_TEXT: usize = 80;

/// The fields for data of this schema, with `data` filled in and what is wrong with them at each. The caller puts them into a form.
pub fn draw(schema: &Value, data: &Value, faults: &Faults) -> Markup {
    let schema = merged(schema);
    let drawer = Drawer { faults };
    match shape(&schema, 0) {
        Shape::Object(properties, open) => drawer.properties(&properties, open, "", data, 0),
        _ => drawer.field(&schema, "data", "", Some(data), true, 0),
    }
}

struct Drawer<'a> {
    faults: &'a Faults,
}

impl Drawer<'_> {
    fn properties(&self, properties: &[Property], open: bool, pointer: &str, data: &Value, depth: usize) -> Markup {
        let known = |name: &str| properties.iter().any(|property| property.name == *name);
        let further: serde_json::Map<String, Value> = data
            .as_object()
            .map(|map| map.iter().filter(|(name, _)| !known(name)).map(|(name, value)| (name.clone(), value.clone())).collect())
            .unwrap_or_default();
        let further_text = if further.is_empty() { String::new() } else { format!("{:#}", Value::Object(further)) };
        html! {
            @for Property { name, schema, required } in properties {
                (self.field(schema, name, &below(pointer, name), data.get(name), *required, depth + 1))
            }
            @if open || !further_text.is_empty() {
                (self.further(pointer, &further_text))
            }
        }
    }

    /// Fields that the schema does not name.
    fn further(&self, pointer: &str, text: &str) -> Markup {
        let at = format!("{pointer}/");
        let id = id_of(&at);
        html! {
            details.further open[!text.is_empty() || self.faults.contains_key(&at)] {
                summary { "Further fields" @if !pointer.is_empty() { " of " code { (pointer.trim_start_matches('/')) } } }
                div.field {
                    label for=(id) { "Fields that the schema does not name, as a JSON object" }
                    textarea id=(id) name={ "x" (pointer) } rows="3" spellcheck="false" aria-invalid=[self.is_wrong(&at)]
                        aria-describedby=[self.is_wrong(&at).map(|_| format!("{id}-fault"))] { (text) }
                    (self.fault(&at, &id))
                }
            }
        }
    }

    fn field(&self, schema: &Value, name: &str, pointer: &str, value: Option<&Value>, required: bool, depth: usize) -> Markup {
        match shape(schema, depth) {
            Shape::Object(properties, open) => html! {
                fieldset.nested {
                    legend { (name) (mark(required)) }
                    (hint(schema, None))
                    (self.fault(pointer, &id_of(pointer)))
                    (self.properties(&properties, open, pointer, value.unwrap_or(&Value::Null), depth))
                }
            },
            Shape::List(items) => self.list(schema, &items, name, pointer, value, required, depth),
            shape => self.leaf(&shape, schema, name, pointer, value, required),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what a field is made of, passed on as it is")]
    fn list(
        &self,
        schema: &Value,
        items: &Value,
        name: &str,
        pointer: &str,
        value: Option<&Value>,
        required: bool,
        depth: usize,
    ) -> Markup {
        let entries = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let shown = &entries[..entries.len().min(ENTRIES_MOST)];
        html! {
            fieldset.nested {
                legend { (name) (mark(required)) " " span.muted { (shown.len()) @if shown.len() == 1 { " entry" } @else { " entries" } } }
                (hint(schema, None))
                (self.fault(pointer, &id_of(pointer)))
                input type="hidden" name={ "n" (pointer) } value=(shown.len());
                @for (at, entry) in shown.iter().enumerate() {
                    div.entry {
                        (self.field(items, &format!("{name} {}", at + 1), &below(pointer, &at.to_string()), Some(entry), true, depth + 1))
                        button.quiet type="submit" name="do" value={ "remove:" (below(pointer, &at.to_string())) }
                            aria-label={ "Remove " (name) " " (at + 1) } { "Remove" }
                    }
                }
                @if shown.len() < ENTRIES_MOST {
                    button type="submit" name="do" value={ "add:" (pointer) } { "Add an entry to " (name) }
                }
            }
        }
    }

    fn leaf(&self, shape: &Shape, schema: &Value, name: &str, pointer: &str, value: Option<&Value>, required: bool) -> Markup {
        let (id, field) = (id_of(pointer), format!("f{pointer}"));
        let hint_id = format!("{id}-hint");
        let wrong = self.is_wrong(pointer);
        let described = format!("{hint_id}{}", wrong.map(|_| format!(" {id}-fault")).unwrap_or_default());
        let needed = required.then_some("true");
        let text = shown(shape, value);
        let default = schema.get("default").map(|default| match default {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        html! {
            div.field {
                label for=(id) { (name) (mark(required)) }
                @match shape {
                    Shape::Choice(values) => {
                        select id=(id) name=(field) aria-describedby=(described) aria-invalid=[wrong] aria-required=[needed] {
                            option value="" selected[text.is_empty()] { "–" }
                            @for choice in values {
                                option value=(choice) selected[Some(choice) == value] { (plain(choice)) }
                            }
                            // A value that is none of them is shown all the same, so that it is seen what was sent.
                            @if let Some(other) = value.filter(|value| !values.contains(value)) {
                                option value=(other) selected { (plain(other)) }
                            }
                        }
                    }
                    Shape::Truth => {
                        select id=(id) name=(field) aria-describedby=(described) aria-invalid=[wrong] aria-required=[needed] {
                            option value="" selected[text.is_empty()] { "–" }
                            option value="true" selected[text == "true"] { "true" }
                            option value="false" selected[text == "false"] { "false" }
                        }
                    }
                    Shape::Json => {
                        textarea.mono id=(id) name=(field) rows=(rows(&text)) spellcheck="false" aria-describedby=(described) aria-invalid=[wrong]
                            aria-required=[needed] { (text) }
                    }
                    Shape::Text if text.len() > LONG_TEXT || text.contains('\n') => {
                        textarea id=(id) name=(field) rows=(rows(&text)) aria-describedby=(described) aria-invalid=[wrong] aria-required=[needed] {
                            (text)
                        }
                    }
                    _ => {
                        input id=(id) name=(field) value=(text) type=(input_type(shape, schema)) inputmode=[input_mode(shape)]
                            placeholder=[default] autocomplete="off" aria-describedby=(described) aria-invalid=[wrong] aria-required=[needed];
                    }
                }
                div id=(hint_id) { (hint(schema, Some(shape))) }
                (self.fault(pointer, &id))
            }
        }
    }

    fn is_wrong(&self, pointer: &str) -> Option<&'static str> {
        self.faults.contains_key(pointer).then_some("true")
    }

    fn fault(&self, pointer: &str, id: &str) -> Markup {
        let found = self.faults.get(pointer).map(Vec::as_slice).unwrap_or_default();
        html! {
            @if !found.is_empty() {
                div.fault id={ (id) "-fault" } {
                    @for (message, help) in found {
                        p { "✗ " (message) @if let Some(help) = help { span.muted { ": " (help) } } }
                    }
                }
            }
        }
    }
}

fn mark(required: bool) -> Markup {
    html! { @if required { span.required title="required" aria-label="required" role="img" { " *" } } }
}

/// A value as the text of a field.
fn shown(shape: &Shape, value: Option<&Value>) -> String {
    match (shape, value) {
        (_, None) | (Shape::Text | Shape::Number(_) | Shape::Truth, Some(Value::Null)) => String::new(),
        (Shape::Text | Shape::Number(_), Some(Value::String(text))) => text.clone(),
        (Shape::Json, Some(value)) if value.is_object() || value.is_array() => format!("{value:#}"),
        (_, Some(value)) => value.to_string(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rows(text: &str) -> usize {
    text.lines().count().clamp(2, 20)
}

fn input_type(shape: &Shape, schema: &Value) -> &'static str {
    match (shape, schema.get("format").and_then(Value::as_str)) {
        (Shape::Text, Some("email")) => "email",
        (Shape::Text, Some("uri")) => "url",
        (Shape::Text, Some("date")) => "date",
        _ => "text",
    }
}

fn input_mode(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Number(true) => Some("numeric"),
        Shape::Number(false) => Some("decimal"),
        _ => None,
    }
}

/// What the schema says of a field: its type, its bounds, its description.
fn hint(schema: &Value, shape: Option<&Shape>) -> Markup {
    let mut parts: Vec<String> = Vec::new();
    let kind = match shape {
        Some(Shape::Text) => schema.get("format").and_then(Value::as_str).unwrap_or("text"),
        Some(Shape::Number(true)) => "whole number",
        Some(Shape::Number(false)) => "number",
        Some(Shape::Truth) => "true or false",
        Some(Shape::Json) => "JSON",
        Some(Shape::Choice(_)) => "one of a list",
        _ => "",
    };
    if !kind.is_empty() {
        parts.push(kind.to_owned());
    }
    if types(schema).1 {
        parts.push("or null".to_owned());
    }
    for (key, words) in [
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
        ("multipleOf", "a multiple of"),
        ("minLength", "characters, at least"),
        ("maxLength", "characters, at most"),
        ("minItems", "entries, at least"),
        ("maxItems", "entries, at most"),
        ("pattern", "matches"),
        ("default", "default"),
    ] {
        if let Some(value) = schema.get(key) {
            parts.push(format!("{words} {}", plain(value)));
        }
    }
    let about = schema.get("description").or_else(|| schema.get("title")).and_then(Value::as_str);
    html! {
        p.hint {
            @if let Some(about) = about { (about) " " }
            span.muted { (parts.join(" · ")) }
        }
    }
}

/// An id for an element: letters, digits and `_` alone.
fn id_of(pointer: &str) -> String {
    let mut id = "f".to_owned();
    for c in pointer.chars() {
        if c.is_ascii_alphanumeric() {
            id.push(c);
        } else {
            // Writing into a String cannot fail.
            let _ = write!(id, "_{:x}", u32::from(c));
        }
    }
    id
}
