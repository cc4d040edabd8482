//! `json::*`: pure functions on values and texts.

use rhai::{Array, Dynamic, Engine, Map, Module};

use crate::base::limits::STEP_RESULT_BYTES;

use super::super::error::{Fault, Thrown};
use super::super::value;

pub(super) fn register(engine: &mut Engine) {
    let mut json = Module::new();
    json.set_native_fn("parse", |text: &str| value::read(text).map_err(|bad| Thrown::last("E0407", format!("not JSON: {bad}")).fault()));
    json.set_native_fn("stringify", |value: Dynamic| text(&value));
    json.set_native_fn("pretty", |value: Dynamic| text(&value).map(|text| pretty(&text)));
    json.set_native_fn("get", |value: Dynamic, path: &str| Ok(get(&value, path).unwrap_or(Dynamic::UNIT)));
    json.set_native_fn("get", |value: Dynamic, path: &str, default: Dynamic| Ok(get(&value, path).unwrap_or(default)));
    json.set_native_fn("merge", |first: Map, second: Map| Ok(merge(first, second)));
    engine.register_static_module("json", json.into());
}

fn text(value: &Dynamic) -> Result<String, Fault> {
    value::write(value, "the value", 4 * STEP_RESULT_BYTES)
}

/// JSON text on several lines, two spaces deeper for each level.
fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth * 2));
    };
    let mut before = ' ';
    for letter in text.chars() {
        if in_string {
            out.push(letter);
            in_string = escaped || letter != '"';
            escaped = letter == '\\' && !escaped;
            continue;
        }
        if matches!(letter, '}' | ']') {
            depth = depth.saturating_sub(1);
            if !matches!(before, '{' | '[') {
                line(&mut out, depth);
            }
        } else if matches!(before, '{' | '[' | ',') {
            line(&mut out, depth);
        }
        out.push(letter);
        match letter {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            ':' => out.push(' '),
            _ => {}
        }
        before = letter;
    }
    out
}

/// What lies at `a.b.0` or `/a/b/0`.
pub(super) fn get(value: &Dynamic, path: &str) -> Option<Dynamic> {
    let (parts, pointer) = match path.strip_prefix('/') {
        Some(rest) => (rest.split('/'), true),
        None if path.is_empty() => return Some(value.clone()),
        None => (path.split('.'), false),
    };
    let mut found = value.clone();
    for part in parts {
        let part = if pointer { part.replace("~1", "/").replace("~0", "~") } else { part.to_owned() };
        let next = if let Some(map) = found.read_lock::<Map>() {
            map.get(part.as_str()).cloned()
        } else if let Some(array) = found.read_lock::<Array>() {
            part.parse::<usize>().ok().and_then(|at| array.get(at).cloned())
        } else {
            None
        };
        found = next?;
    }
    Some(found)
}

/// JSON merge patch (RFC 7396).
fn merge(mut first: Map, second: Map) -> Map {
    for (name, value) in second {
        if value.is_unit() {
            first.remove(&name);
            continue;
        }
        let merged = match value.try_cast_result::<Map>() {
            Ok(patch) => {
                let under = first.remove(&name).and_then(Dynamic::try_cast::<Map>).unwrap_or_default();
                Dynamic::from_map(merge(under, patch))
            }
            Err(other) => other,
        };
        first.insert(name, merged);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_breaks_lines_outside_of_texts_only() {
        assert_eq!(pretty(r#"{"a":[1,{}],"b":"x,\"{"}"#), "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"x,\\\"{\"\n}");
    }
}
