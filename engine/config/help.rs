//! Help for words that are not known where they stand.

use serde_json::Value as JsonValue;

use crate::base::Diagnostic;
use crate::base::diagnostic::nearest;

/// Words of other engines and common slips, and the key that is meant.
const SYNONYMS: [(&str, &str); 14] = [
    ("attempts", "retries"),
    ("batch_events", "batch"),
    ("environment", "env"),
    ("event", "on"),
    ("limit", "concurrency"),
    ("max_retries", "retries"),
    ("max_size", "size"),
    ("retry", "retries"),
    ("script", "handler"),
    ("path", "handler"),
    ("timeout", "timeouts"),
    ("trigger", "on"),
    ("triggers", "on"),
    ("rate_limits", "rate_limit"),
];

/// Adds what a person most likely meant by an unknown key: a key of the same map, or where else the key belongs.
pub(super) fn for_unknown_key(problem: Diagnostic, key: &str, known: &[&'static str], shape: &str) -> Diagnostic {
    let snake = snake_case(key);
    let synonym = SYNONYMS.iter().find(|(word, right)| *word == snake && known.contains(right)).map(|(_, right)| *right);
    let same = known.iter().copied().find(|name| *name == snake);
    let near = same.or(synonym).or_else(|| nearest(&snake, known.iter().copied()));
    if let Some(right) = near {
        return problem.help(format!("did you mean `{right}`?"));
    }
    let owners = owners(&snake, shape);
    if owners.is_empty() || owners.len() > 2 {
        return problem.help(format!("its keys are {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")));
    }
    problem.help(format!("`{snake}` is a key of {}", owners.join(" and of ")))
}

/// `cancelOn` as `cancel_on`.
fn snake_case(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 2);
    for c in word.chars() {
        match c {
            '-' | ' ' => snake.push('_'),
            _ if c.is_uppercase() => {
                if !snake.is_empty() && !snake.ends_with('_') {
                    snake.push('_');
                }
                snake.extend(c.to_lowercase());
            }
            _ => snake.push(c),
        }
    }
    snake
}

/// The maps that have this key, in words.
fn owners(key: &str, shape: &str) -> Vec<String> {
    let schema = super::schema::schema();
    let has = |schema: &JsonValue| schema.get("properties").is_some_and(|keys| keys.get(key).is_some());
    let mut owners = Vec::new();
    if shape != "Model" && has(&schema) {
        owners.push("the file itself, at the outermost level".to_owned());
    }
    for (name, definition) in schema.get("$defs").and_then(JsonValue::as_object).into_iter().flatten() {
        if name != shape && has(definition) {
            owners.push(match name.as_str() {
                "Function" => "a function".to_owned(),
                "Event" => "an event".to_owned(),
                "Webhook" => "a webhook".to_owned(),
                "Database" => "a database".to_owned(),
                "Trigger" => "`on`".to_owned(),
                "Cancel" => "`cancel_on`".to_owned(),
                other => format!("`{}`", snake_case(other)),
            });
        }
    }
    owners
}
