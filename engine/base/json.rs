//! JSON text as a value, also where a number of it is too large for any number of ours.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The value of a JSON text, for checks and expressions. A number beyond the range of doubles, which the parser refuses,
/// counts as the largest or smallest double here; the text itself, which is what is stored, keeps it as it came.
///
/// # Errors
/// The parser's, for what is not JSON or is nested deeper than 128 levels.
pub fn value(json: &str) -> Result<Value, serde_json::Error> {
    read(json)
}

/// The same as a value of a type of its own.
///
/// # Errors
/// As those of `value`, and for what is no `T`.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(json).or_else(|error| match bounded(json) {
        Cow::Owned(bounded) => serde_json::from_str(&bounded),
        Cow::Borrowed(_) => Err(error),
    })
}

/// The text with each number that no double holds replaced by the outermost one.
fn bounded(json: &str) -> Cow<'_, str> {
    let mut changed = String::new();
    let mut kept = 0;
    let mut at = 0;
    let bytes = json.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = text_end(bytes, at),
            b'-' | b'0'..=b'9' => {
                let rest = &json[at..];
                let length = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
                if let Ok(number) = rest[..length].parse::<f64>()
                    && number.is_infinite()
                {
                    changed.push_str(&json[kept..at]);
                    changed.push_str(if number > 0.0 { "1.7976931348623157e308" } else { "-1.7976931348623157e308" });
                    kept = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if changed.is_empty() {
        return Cow::Borrowed(json);
    }
    changed.push_str(&json[kept..]);
    Cow::Owned(changed)
}

/// The offset behind the JSON string that begins at `start`; the end of the text where it does not end.
pub fn text_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_beyond_doubles_count_as_the_outermost_one() {
        assert_eq!(
            value(r#"{"a":[1e999,-2.5E+400, 1e30],"b":"1e999 \" 1e999"}"#).unwrap(),
            json!({"a": [f64::MAX, f64::MIN, 1e30], "b": "1e999 \" 1e999"})
        );
        assert_eq!(value("1e999").unwrap(), json!(f64::MAX));
        assert_eq!(value("[1,2]").unwrap(), json!([1, 2]));
        for broken in ["", "{", "[1e999", "1e999x", "\"\\", "\"1e999"] {
            assert!(value(broken).is_err(), "{broken}");
        }
    }
}
