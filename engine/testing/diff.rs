//! What differs between two JSON values: the first place, and the lines of both.

use serde_json::{Map, Value};

/// Lines around a difference that are shown with it.
const AROUND: usize = 2;
/// Lines of a value that are compared line by line; longer ones are only cut.
const LINES_MOST: usize = 2_000;

/// On which side a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// On both.
    Both,
    /// In what was expected alone.
    Expected,
    /// In what there is alone.
    Got,
    /// Lines that are the same were left out here.
    Skipped,
}

/// A line of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffLine {
    /// On which side it stands.
    pub side: Side,
    /// The line.
    pub text: String,
}

/// The JSON pointer of the first place where `got` is not as expected; none where it is. With `part`, maps may have more keys
/// than are expected.
pub(super) fn first(expected: &Value, got: &Value, part: bool) -> Option<String> {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, value) in expected {
                let here = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
                match got.get(key) {
                    None => return Some(here),
                    Some(other) => {
                        if let Some(below) = first(value, other, part) {
                            return Some(format!("{here}{below}"));
                        }
                    }
                }
            }
            let more = !part && got.keys().any(|key| !expected.contains_key(key));
            more.then(String::new)
        }
        (Value::Array(expected), Value::Array(got)) => {
            for (at, (value, other)) in expected.iter().zip(got).enumerate() {
                if let Some(below) = first(value, other, part) {
                    return Some(format!("/{at}{below}"));
                }
            }
            (expected.len() != got.len()).then(String::new)
        }
        // 1 and 1.0 are one number.
        (Value::Number(expected), Value::Number(got)) => {
            (expected != got && expected.as_f64().zip(got.as_f64()).is_none_or(|(one, other)| one != other)).then(String::new)
        }
        _ => (expected != got).then(String::new),
    }
}

/// What of `got` is compared with a part of it: of maps only the keys that are expected.
pub(super) fn part(expected: &Value, got: &Value) -> Value {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let kept = expected.iter().filter_map(|(key, value)| Some((key.clone(), part(value, got.get(key)?))));
            Value::Object(kept.collect())
        }
        (Value::Array(expected), Value::Array(got)) => got
            .iter()
            .enumerate()
            .map(|(at, value)| expected.get(at).map_or_else(|| value.clone(), |expected| part(expected, value)))
            .collect(),
        _ => got.clone(),
    }
}

/// `got` with its keys in the order in which they are expected.
fn ordered(expected: &Value, got: &Value) -> Value {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let mut map = Map::new();
            for (key, value) in expected {
                if let Some(other) = got.get(key) {
                    map.insert(key.clone(), ordered(value, other));
                }
            }
            for (key, value) in got {
                map.entry(key.clone()).or_insert_with(|| value.clone());
            }
            Value::Object(map)
        }
        (Value::Array(expected), Value::Array(got)) => got
            .iter()
            .enumerate()
            .map(|(at, value)| expected.get(at).map_or_else(|| value.clone(), |expected| ordered(expected, value)))
            .collect(),
        _ => got.clone(),
    }
}

/// The lines of both, with what is the same around what differs.
pub(super) fn lines(expected: &Value, got: &Value) -> Vec<DiffLine> {
    let text = |value: &Value| -> Vec<String> {
        // Commas would make lines differ that say the same.
        format!("{value:#}").lines().take(LINES_MOST).map(|line| line.trim_end_matches(',').to_owned()).collect()
    };
    let (one, other) = (text(expected), text(&ordered(expected, got)));
    shorten(compared(&one, &other))
}

/// The longest common lines stand on both sides, the others on theirs.
fn compared(one: &[String], other: &[String]) -> Vec<DiffLine> {
    let mut longest = vec![vec![0_u32; other.len() + 1]; one.len() + 1];
    for (at, line) in one.iter().enumerate().rev() {
        for (to, against) in other.iter().enumerate().rev() {
            longest[at][to] = if line == against { longest[at + 1][to + 1] + 1 } else { longest[at + 1][to].max(longest[at][to + 1]) };
        }
    }
    let (mut at, mut to, mut lines) = (0, 0, Vec::new());
    let line = |side, text: &String| DiffLine { side, text: text.clone() };
    while at < one.len() || to < other.len() {
        if at < one.len() && to < other.len() && one[at] == other[to] {
            lines.push(line(Side::Both, &one[at]));
            (at, to) = (at + 1, to + 1);
        } else if at < one.len() && (to == other.len() || longest[at + 1][to] >= longest[at][to + 1]) {
            lines.push(line(Side::Expected, &one[at]));
            at += 1;
        } else {
            lines.push(line(Side::Got, &other[to]));
            to += 1;
        }
    }
    lines
}

/// Leaves out what is the same and far from what differs.
fn shorten(lines: Vec<DiffLine>) -> Vec<DiffLine> {
    let differs: Vec<usize> = lines.iter().enumerate().filter(|(_, line)| line.side != Side::Both).map(|(at, _)| at).collect();
    let mut short: Vec<DiffLine> = Vec::new();
    for (at, line) in lines.into_iter().enumerate() {
        let is_near = differs.iter().any(|other| other.abs_diff(at) <= AROUND);
        if is_near {
            short.push(line);
        } else if short.last().is_none_or(|last| last.side != Side::Skipped) {
            short.push(DiffLine { side: Side::Skipped, text: "…".to_owned() });
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_pointer() {
        let expected = json!({ "a": [1, { "b": 2 }], "c": "x" });
        assert_eq!(first(&expected, &expected, false), None);
        assert_eq!(first(&expected, &json!({ "c": "x", "a": [1.0, { "b": 2 }] }), false), None, "order and 1.0 do not matter");
        assert_eq!(first(&expected, &json!({ "a": [1, { "b": 3 }], "c": "x" }), false).as_deref(), Some("/a/1/b"));
        assert_eq!(first(&expected, &json!({ "a": [1, { "b": 2 }] }), false).as_deref(), Some("/c"));
        let more = json!({ "a": [1, { "b": 2, "z": 0 }], "c": "x" });
        assert_eq!(first(&expected, &more, false).as_deref(), Some("/a/1"));
        assert_eq!(first(&expected, &more, true), None);
        assert_eq!(part(&expected, &more), expected);
    }

    #[test]
    fn only_what_differs_is_shown_with_a_little_around_it() {
        let expected = json!({ "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7 });
        let got = json!({ "g": 8, "f": 6, "e": 5, "d": 4, "c": 3, "b": 2, "a": 1 });
        let shown: Vec<String> = lines(&expected, &got).iter().map(|line| format!("{:?} {}", line.side, line.text.trim())).collect();
        assert_eq!(shown, ["Skipped …", "Both \"e\": 5", "Both \"f\": 6", "Expected \"g\": 7", "Got \"g\": 8", "Both }"]);
    }
}
