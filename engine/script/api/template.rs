//! `template(text, values)`: `{{ path }}` becomes what lies there, `{{ path | html }}` fit for where it is to stand.

use rhai::{Dynamic, Engine, Map};

use crate::base::diagnostic::nearest;
use crate::base::limits::STEP_RESULT_BYTES;

use super::super::error::{Fault, Thrown};
use super::super::value;
use super::bytes::{escaped_html, percent_encoded};
use super::text::get;

const FILTERS: [&str; 3] = ["html", "json", "url"];

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("template", |text: &str, values: Map| fill(text, values));
}

/// An error at a position of the template: lines and columns from 1.
fn bad(text: &str, at: usize, message: &str) -> Thrown {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Thrown::last("E0407", format!("the template, line {line}, column {column}: {message}"))
}

fn fill(text: &str, values: Map) -> Result<String, Fault> {
    let values = Dynamic::from_map(values);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(found) = text[at..].find("{{") {
        let open = at + found;
        out.push_str(&text[at..open]);
        let inner = open + 2;
        let close = text[inner..].find("}}").ok_or_else(|| bad(text, open, "`{{` without `}}`").fault())?;
        out.push_str(&part(text, inner, &text[inner..inner + close], &values)?);
        at = inner + close + 2;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

/// What stands between the braces: a path and filters, or a text in quotes that is taken as it is.
fn part(text: &str, at: usize, inner: &str, values: &Dynamic) -> Result<String, Fault> {
    let trimmed = inner.trim();
    let at = at + (inner.len() - inner.trim_start().len());
    if let Some(plain) = trimmed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Ok(plain.to_owned());
    }
    let mut parts = trimmed.split('|').map(str::trim);
    let path = parts.next().unwrap_or_default();
    if path.is_empty() {
        return Err(bad(text, at, "there is no path between the braces").fault());
    }
    let Some(value) = get(values, path) else {
        let thrown = bad(text, at, &format!("there is no `{path}`"));
        let (owner, last) = path.rsplit_once('.').unwrap_or(("", path));
        let names: Vec<String> = get(values, owner)
            .and_then(|owner| Some(owner.read_lock::<Map>()?.keys().map(ToString::to_string).collect()))
            .unwrap_or_default();
        return Err(match nearest(last, names.iter().map(String::as_str)) {
            Some(near) => thrown.help(format!("did you mean `{near}`?")).fault(),
            None if names.is_empty() => thrown.fault(),
            None => thrown.help(format!("there is {}", names.join(", "))).fault(),
        });
    };
    let mut filters = parts.peekable();
    let mut shown = match value.as_immutable_string_ref() {
        Ok(plain) if filters.peek() != Some(&"json") => plain.to_string(),
        _ if value.is_unit() && filters.peek() != Some(&"json") => String::new(),
        _ => value::write(&value, path, STEP_RESULT_BYTES)?,
    };
    for filter in filters {
        shown = match filter {
            "html" => escaped_html(&shown),
            "url" => percent_encoded(&shown),
            "json" => shown,
            other => {
                let thrown = bad(text, at, &format!("there is no filter `{other}`"));
                return Err(thrown.help(FILTERS.join(", ")).fault());
            }
        };
    }
    Ok(shown)
}
