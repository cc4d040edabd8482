//! What data violate, in words for the one who sent them: a pointer, what is wrong, what was expected.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

use crate::base::diagnostic::nearest;

use super::places::escaped;

/// Longest piece of a value that is shown.
const SHOWN_CHARS: usize = 60;

/// One thing that is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EventProblem {
    /// `E0221`: what `stepwell explain` takes.
    pub code: &'static str,
    /// A JSON pointer into the event: `/name`, `/data/userId`.
    pub pointer: String,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl EventProblem {
    pub(super) fn new(code: &'static str, pointer: impl Into<String>, message: impl Into<String>) -> EventProblem {
        EventProblem { code, pointer: pointer.into(), message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> EventProblem {
        self.help = Some(help.into());
        self
    }
}

/// Adds what one error of the validator means. `names` gives the declared properties of the data's object at a pointer.
pub(super) fn explain(error: &ValidationError<'_>, prefix: &str, names: &dyn Fn(&str) -> Vec<String>, out: &mut Vec<EventProblem>) {
    let here = error.instance_path().as_str();
    let at = format!("{prefix}{here}");
    let problem = |message: String| EventProblem::new("E0221", at.clone(), message);
    match error.kind() {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let known = names(here);
            for name in unexpected {
                let one = EventProblem::new("E0221", format!("{at}/{}", escaped(name)), format!("there is no property `{}`", clip(name)));
                out.push(match nearest(name, known.iter().map(String::as_str)) {
                    Some(right) => one.help(format!("the schema has `{right}`")),
                    None if known.is_empty() => one.help("the schema allows no properties here"),
                    None => one.help(format!("the schema has {}", listed(known.iter().map(|name| format!("`{name}`"))))),
                });
            }
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let one = problem(format!("`{name}` is missing"));
            let sent = error.instance().as_object();
            let known = names(here);
            let unknown = sent.into_iter().flatten().map(|(key, _)| key.as_str()).filter(|key| !known.iter().any(|name| name == key));
            out.push(match nearest(name, unknown) {
                Some(close) => one.help(format!("`{close}` was sent; the schema has `{name}`")),
                None => one,
            });
        }
        Kind::Enum { options } => {
            let choices: Vec<&Value> = options.as_array().map(|list| list.iter().collect()).unwrap_or_default();
            let one = problem(sentence(error));
            let close = error.instance().as_str().and_then(|word| nearest(word, choices.iter().filter_map(|choice| choice.as_str())));
            out.push(match close {
                Some(right) => one.help(format!("did you mean \"{right}\"?")),
                None => one,
            });
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            let one = problem(sentence(error));
            // The choice that came nearest tells most: of the right type first, then by how few things are wrong with it.
            let wrong_type = |errors: &[ValidationError<'_>]| {
                errors.iter().any(|inner| matches!(inner.kind(), Kind::Type { .. }) && inner.instance_path().as_str() == here)
            };
            let best = context.iter().min_by_key(|errors| (wrong_type(errors), errors.len())).and_then(|errors| errors.first());
            out.push(match best {
                Some(inner) => {
                    let place = inner.instance_path().as_str();
                    let place = place.strip_prefix(here).unwrap_or(place);
                    let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
                    one.help(format!("the nearest choice says{place}: {}", sentence(inner)))
                }
                None => one,
            });
        }
        _ => out.push(problem(sentence(error))),
    }
}

/// One error of the validator as a sentence.
pub(super) fn sentence(error: &ValidationError<'_>) -> String {
    let found = || shown(error.instance());
    let many = |limit: &u64, one: &str, more: &str| format!("{limit} {}", if *limit == 1 { one } else { more });
    match error.kind() {
        Kind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(kind) => with_article(&kind.to_string()),
                TypeKind::Multiple(kinds) => {
                    let all: Vec<_> = kinds.iter().map(|kind| with_article(&kind.to_string())).collect();
                    all.join(" or ")
                }
            };
            format!("expected {wanted}, found {}", found())
        }
        Kind::Enum { options } => {
            let choices = options.as_array().map(|list| list.iter().map(shown).collect::<Vec<_>>()).unwrap_or_default();
            format!("expected {}, found {}", listed_or(choices), found())
        }
        Kind::Constant { expected_value } => format!("expected {}, found {}", shown(expected_value), found()),
        Kind::Required { property } => format!("`{}` is missing", property.as_str().unwrap_or_default()),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("there is no property {}", listed(unexpected.iter().map(|name| format!("`{}`", clip(name)))))
        }
        Kind::Pattern { pattern } => format!("{} does not match the pattern {}", found(), clip(pattern)),
        Kind::Format { format } => format!("{} is no {format}", found()),
        Kind::MinLength { limit } => format!("{} is shorter than {}", found(), many(limit, "character", "characters")),
        Kind::MaxLength { limit } => format!("{} is longer than {}", found(), many(limit, "character", "characters")),
        Kind::MinItems { limit } => format!("the list has fewer than {}", many(limit, "entry", "entries")),
        Kind::MaxItems { limit } => format!("the list has more than {}", many(limit, "entry", "entries")),
        Kind::MinProperties { limit } => format!("the object has fewer than {}", many(limit, "property", "properties")),
        Kind::MaxProperties { limit } => format!("the object has more than {}", many(limit, "property", "properties")),
        Kind::Minimum { limit } => format!("{} is less than {limit}, the least allowed", found()),
        Kind::Maximum { limit } => format!("{} is more than {limit}, the most allowed", found()),
        Kind::ExclusiveMinimum { limit } => format!("{} is not more than {limit}", found()),
        Kind::ExclusiveMaximum { limit } => format!("{} is not less than {limit}", found()),
        Kind::MultipleOf { multiple_of } => format!("{} is not a multiple of {multiple_of}", found()),
        Kind::UniqueItems => "the list holds one value twice".into(),
        Kind::Contains => "the list holds no entry that the schema asks for".into(),
        Kind::AdditionalItems { .. } | Kind::UnevaluatedItems { .. } => "the list holds entries that the schema does not allow".into(),
        Kind::FalseSchema => "the schema allows nothing here".into(),
        Kind::Not { .. } => format!("{} is what the schema excludes", found()),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            format!("{} fits none of the {} choices", found(), context.len())
        }
        Kind::OneOfMultipleValid { .. } => format!("{} fits more than one of the choices", found()),
        Kind::PropertyNames { error } => format!("a property's name is refused: {}", sentence(error)),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            format!("the schema's pattern takes too long on {}", found())
        }
        _ => clip(&error.to_string()),
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "array" => "a list".into(),
        "object" => "an object".into(),
        "integer" => "an integer".into(),
        "null" => "null".into(),
        "boolean" => "true or false".into(),
        other => format!("a {other}"),
    }
}

/// A value as a message shows it: short ones whole, others by what they are.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        Value::String(text) => format!("\"{}\"", clip(text)),
        other => clip(&other.to_string()),
    }
}

fn clip(text: &str) -> String {
    let clean: String = text.chars().take(SHOWN_CHARS + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match clean.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    const MOST: usize = 8;
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let text = names.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

fn listed_or(mut choices: Vec<String>) -> String {
    match choices.pop() {
        None => "nothing".into(),
        Some(only) if choices.is_empty() => only,
        Some(last) => format!("{} or {last}", listed(choices.into_iter())),
    }
}
