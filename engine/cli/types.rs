//! `stepwell types`: the declared events as types of TypeScript or Python, and a function that sends them, so that whoever
//! sends an event that does not fit its schema is told before it is sent.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::project::{Mode, Project};
use crate::script::Host;

use super::exit::{Exit, Trouble};
use super::out::Out;
use super::place::{self, ConfigArgument};

/// Arguments of `types`.
#[derive(Debug, clap::Args)]
pub struct Types {
    #[command(flatten)]
    config: ConfigArgument,
    /// The language
    #[arg(long, value_enum)]
    lang: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// TypeScript
    Ts,
    /// Python, 3.11 or newer
    Python,
}

impl Types {
    /// Prints a module.
    ///
    /// # Errors
    /// Exit 78 for a project that is not valid; those of stdout.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        let (project, _) = Project::load(&path, &Host::new(), &place::environment, Mode::Check).map_err(Trouble::invalid)?;
        let url = place::engine_url(Some(&path))?;
        let events: Vec<Event> = project
            .config
            .events
            .iter()
            .map(|(name, event)| Event {
                name: name.value.clone(),
                description: event.description.as_ref().map(|text| text.value.clone()),
                schema: project.whole_schema(&name.value).unwrap_or(Value::Bool(true)),
            })
            .collect();
        let text = match self.lang {
            Language::Ts => type_script(&events, &url),
            Language::Python => python(&events, &url),
        };
        out.raw(text.as_bytes())?;
        Ok(Exit::Done)
    }
}

/// A declared event.
struct Event {
    name: String,
    description: Option<String>,
    schema: Value,
}

/// What a schema allows, as far as types can say it.
enum Shape<'a> {
    Any,
    Never,
    /// One of these values.
    Values(Vec<&'a Value>),
    /// One of these schemas.
    Either(&'a Vec<Value>),
    /// All of these schemas.
    All(&'a Vec<Value>),
    Text,
    Number,
    Whole,
    Flag,
    Nothing,
    List(Option<&'a Value>),
    Object(&'a Map<String, Value>),
    /// One of these kinds, each with the rest of the schema.
    Kinds(Vec<&'a str>),
}

fn shape<'a>(schema: &'a Value, kind: Option<&'a str>) -> Shape<'a> {
    let map = match schema {
        Value::Bool(false) => return Shape::Never,
        Value::Object(map) => map,
        _ => return Shape::Any,
    };
    let list = |key: &str| map.get(key).and_then(Value::as_array).filter(|list| !list.is_empty());
    if let Some(value) = map.get("const") {
        return Shape::Values(vec![value]);
    }
    if let Some(values) = list("enum") {
        return Shape::Values(values.iter().collect());
    }
    let kinds: Vec<&str> = match (kind, map.get("type")) {
        (Some(kind), _) => vec![kind],
        (None, Some(Value::String(kind))) => vec![kind],
        (None, Some(Value::Array(kinds))) => kinds.iter().filter_map(Value::as_str).collect(),
        _ if map.contains_key("properties") => vec!["object"],
        _ => Vec::new(),
    };
    if let (true, Some(either)) = (kinds.is_empty(), list("oneOf").or_else(|| list("anyOf"))) {
        return Shape::Either(either);
    }
    if let (true, Some(all)) = (kinds.is_empty(), list("allOf")) {
        return Shape::All(all);
    }
    match kinds.as_slice() {
        [] => Shape::Any,
        ["string"] => Shape::Text,
        ["number"] => Shape::Number,
        ["integer"] => Shape::Whole,
        ["boolean"] => Shape::Flag,
        ["null"] => Shape::Nothing,
        ["array"] => Shape::List(map.get("items")),
        ["object"] => Shape::Object(map),
        [_] => Shape::Any,
        _ => Shape::Kinds(kinds),
    }
}

/// The properties of an object, each with whether it must be there.
fn properties(map: &Map<String, Value>) -> Vec<(&String, &Value, bool)> {
    let required: Vec<&str> = map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let all = map.get("properties").and_then(Value::as_object);
    all.into_iter().flatten().map(|(name, schema)| (name, schema, required.contains(&name.as_str()))).collect()
}

fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// `payment/initiate` as `PaymentInitiate`.
fn class_name(event: &str) -> String {
    let mut name = String::new();
    let mut starts = true;
    for c in event.chars() {
        if c.is_alphanumeric() {
            name.extend(if starts { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] });
        }
        starts = !c.is_alphanumeric();
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) { format!("Event{name}") } else { name }
}

// ---- TypeScript ----

fn type_script(events: &[Event], url: &str) -> String {
    let mut text = "// Made by `stepwell types --lang ts` from events.yaml; make it again after a change, by hand changes are lost.\n\n\
                    /** The data of each event, by its name. */\nexport interface Events {\n"
        .to_owned();
    let data_of =
        |event: &Event| if event.schema == Value::Bool(true) { "Record<string, unknown>".to_owned() } else { ts(&event.schema, None, 1) };
    for event in events {
        if let Some(description) = &event.description {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "  /** {} */", description.replace("*/", "* /"));
        }
        let (key, data) = match event.name.strip_suffix('*') {
            // A family is every name that begins with it; those of them that are declared may have other data.
            Some(stem) => {
                let members = events.iter().filter(|other| other.name != event.name && other.name.starts_with(stem));
                let all = std::iter::once(event).chain(members).map(data_of).collect();
                (format!("[name: `{stem}${{string}}`]"), union(all))
            }
            None => (Value::from(event.name.as_str()).to_string(), data_of(event)),
        };
        let _ = writeln!(text, "  {key}: {data};");
    }
    let _ = write!(
        text,
        "}}\n\n/** The name of an event. */\nexport type EventName = keyof Events;\n\n\
         /** An event that is sent: the data are those of its name. */\nexport type Event<N extends EventName = EventName> = N extends EventName\n  ? {{\n      name: N;\n      data: Events[N];\n      \
         /** Sent again with the same id, it is the same event. */\n      id?: string;\n      /** Milliseconds since 1970; in the future, its runs start then. */\n      ts?: number;\n    }}\n  : never;\n\n\
         /** Sends one event, or several at once; gives their ids once they are durable. */\n\
         export async function sendEvent(\n  events: Event | Event[],\n  options: {{ url?: string; key?: string }} = {{}},\n): Promise<string[]> {{\n  \
         const {{ url = {}, key = \"dev\" }} = options;\n  \
         const answer = await fetch(`${{url}}/e/${{key}}`, {{\n    method: \"POST\",\n    headers: {{ \"content-type\": \"application/json\" }},\n    body: JSON.stringify(events),\n  }});\n  \
         if (!answer.ok) throw new Error(`${{answer.status}}: ${{await answer.text()}}`);\n  return (await answer.json()).ids;\n}}\n",
        Value::from(url)
    );
    text
}

/// One of several types, in both languages: each is named once.
fn union(parts: Vec<String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for part in parts {
        if !all.contains(&part) {
            all.push(part);
        }
    }
    all.join(" | ")
}

fn ts(schema: &Value, kind: Option<&str>, depth: usize) -> String {
    match shape(schema, kind) {
        Shape::Any => "unknown".to_owned(),
        Shape::Never => "never".to_owned(),
        Shape::Values(values) => union(
            values
                .iter()
                .map(|value| if value.is_object() || value.is_array() { "unknown".to_owned() } else { value.to_string() })
                .collect(),
        ),
        Shape::Either(parts) => union(parts.iter().map(|part| ts(part, None, depth)).collect()),
        Shape::All(parts) => parts.iter().map(|part| format!("({})", ts(part, None, depth))).collect::<Vec<_>>().join(" & "),
        Shape::Kinds(kinds) => union(kinds.into_iter().map(|kind| ts(schema, Some(kind), depth)).collect()),
        Shape::Text => "string".to_owned(),
        Shape::Number | Shape::Whole => "number".to_owned(),
        Shape::Flag => "boolean".to_owned(),
        Shape::Nothing => "null".to_owned(),
        Shape::List(items) => format!("Array<{}>", items.map_or_else(|| "unknown".to_owned(), |items| ts(items, None, depth))),
        Shape::Object(map) => ts_object(map, depth),
    }
}

fn ts_object(map: &Map<String, Value>, depth: usize) -> String {
    let known = properties(map);
    if known.is_empty() {
        return match map.get("additionalProperties") {
            Some(Value::Bool(false)) => "Record<string, never>".to_owned(),
            Some(schema @ Value::Object(_)) => format!("Record<string, {}>", ts(schema, None, depth)),
            _ => "Record<string, unknown>".to_owned(),
        };
    }
    let indent = "  ".repeat(depth + 1);
    let mut text = "{\n".to_owned();
    for (name, schema, required) in known {
        if let Some(description) = description(schema) {
            let _ = writeln!(text, "{indent}/** {} */", description.replace("*/", "* /"));
        }
        let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
        let key = if is_word && !name.is_empty() { name.clone() } else { Value::from(name.as_str()).to_string() };
        let _ = writeln!(text, "{indent}{key}{}: {};", if required { "" } else { "?" }, ts(schema, None, depth + 1));
    }
    if map.get("additionalProperties") != Some(&Value::Bool(false)) {
        let _ = writeln!(text, "{indent}[more: string]: unknown;");
    }
    let _ = write!(text, "{}}}", "  ".repeat(depth));
    text
}

// ---- Python ----

/// Classes as they are found, the inner ones first.
#[derive(Default)]
struct Classes {
    text: String,
    names: Vec<String>,
}

/// What both functions take beside the name and the data.
const PY_OPTIONS: &str = "*, id: str | None = None, url: str = URL, key: str = \"dev\"";

fn python(events: &[Event], url: &str) -> String {
    let mut classes = Classes::default();
    let exact: Vec<&Event> = events.iter().filter(|event| !event.name.ends_with('*')).collect();
    let parameters: Vec<String> = exact
        .iter()
        .map(|event| {
            let class = class_name(&event.name);
            let is_free = event.schema == Value::Bool(true);
            let data = if is_free { "dict[str, Any]".to_owned() } else { py(&event.schema, None, &class, &mut classes) };
            format!("name: Literal[{}], data: {data}", Value::from(event.name.as_str()))
        })
        .collect();
    let about = |text: &str| {
        format!("    \"\"\"{text} Sent again with the same `id`, it is the same event.\"\"\"\n    return _send(name, data, id, url, key)\n")
    };
    let mut functions = String::new();
    // One signature needs no overloads, and may not have them.
    let own = match parameters.as_slice() {
        [] => None,
        [only] => Some(only.as_str()),
        several => {
            for parameters in several {
                // Writing into a String cannot fail.
                let _ = write!(functions, "@overload\ndef send_event({parameters}, {PY_OPTIONS}) -> str: ...\n");
            }
            Some("name: str, data: Any")
        }
    };
    if let Some(parameters) = own {
        let text = about("Sends an event; gives its id once it is durable.");
        let _ = write!(functions, "def send_event({parameters}, {PY_OPTIONS}) -> str:\n{text}");
    }
    if exact.is_empty() || exact.len() < events.len() {
        let text = about("Sends an event of a family, whose name and data only the engine checks; gives its id once it is durable.");
        let space = if functions.is_empty() { "" } else { "\n\n" };
        let _ = write!(functions, "{space}def send_any(name: str, data: dict[str, Any], {PY_OPTIONS}) -> str:\n{text}");
    }
    let mut described = String::new();
    for event in &exact {
        if let Some(text) = &event.description {
            let _ = writeln!(described, "# {}: {}", event.name, text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    format!(
        "# Made by `stepwell types --lang python` from events.yaml; make it again after a change, by hand changes are lost.\n\
         from __future__ import annotations\n\nimport json\nimport urllib.request\n\
         from typing import Any, Literal, NotRequired, TypedDict, overload\n\nURL = {}\n\n{described}\n{}\
         def _send(name: str, data: Any, id: str | None, url: str, key: str) -> str:\n    \
         event = {{\"name\": name, \"data\": data}} | ({{\"id\": id}} if id is not None else {{}})\n    \
         request = urllib.request.Request(f\"{{url}}/e/{{key}}\", json.dumps(event).encode(), {{\"content-type\": \"application/json\"}})\n    \
         with urllib.request.urlopen(request) as answer:\n        return str(json.load(answer)[\"ids\"][0])\n\n\n{functions}",
        Value::from(url),
        classes.text
    )
}

fn py(schema: &Value, kind: Option<&str>, name: &str, classes: &mut Classes) -> String {
    match shape(schema, kind) {
        Shape::Any | Shape::All(_) => "Any".to_owned(),
        Shape::Never => "None".to_owned(),
        Shape::Values(values) => {
            let literal = |value: &&Value| match value {
                Value::String(_) => Some(value.to_string()),
                Value::Bool(true) => Some("True".to_owned()),
                Value::Bool(false) => Some("False".to_owned()),
                Value::Null => Some("None".to_owned()),
                Value::Number(number) if !number.is_f64() => Some(number.to_string()),
                _ => None,
            };
            let literals: Option<Vec<String>> = values.iter().map(literal).collect();
            literals.map_or_else(|| "Any".to_owned(), |literals| format!("Literal[{}]", literals.join(", ")))
        }
        Shape::Either(parts) => {
            union(parts.iter().enumerate().map(|(at, part)| py(part, None, &format!("{name}{}", at + 1), classes)).collect())
        }
        Shape::Kinds(kinds) => union(kinds.into_iter().map(|kind| py(schema, Some(kind), name, classes)).collect()),
        Shape::Text => "str".to_owned(),
        Shape::Number => "float".to_owned(),
        Shape::Whole => "int".to_owned(),
        Shape::Flag => "bool".to_owned(),
        Shape::Nothing => "None".to_owned(),
        Shape::List(items) => {
            format!("list[{}]", items.map_or_else(|| "Any".to_owned(), |items| py(items, None, &format!("{name}Item"), classes)))
        }
        Shape::Object(map) => {
            let known = properties(map);
            if known.is_empty() {
                return match map.get("additionalProperties") {
                    Some(schema @ Value::Object(_)) => format!("dict[str, {}]", py(schema, None, &format!("{name}Value"), classes)),
                    _ => "dict[str, Any]".to_owned(),
                };
            }
            let mut fields = String::new();
            for (key, schema, required) in known {
                let kind = py(schema, None, &format!("{name}{}", class_name(key)), classes);
                let kind = if required { kind } else { format!("NotRequired[{kind}]") };
                // Quoted, since a class may stand further down, and a name need not be a word of Python.
                let _ = writeln!(fields, "    {}: {},", Value::from(key.as_str()), Value::from(kind));
            }
            let mut class = name.to_owned();
            while classes.names.contains(&class) {
                class.push('_');
            }
            classes.names.push(class.clone());
            let _ = write!(classes.text, "{class} = TypedDict(\"{class}\", {{\n{fields}}})\n\n");
            class
        }
    }
}
