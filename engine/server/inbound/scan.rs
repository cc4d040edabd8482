//! What a JSON parser lets pass and the engine does not: a key that stands twice (the first value would be lost without a
//! word), nesting without end, and text that is no Unicode. One pass over text that is known to be well-formed.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::base::json::text_end;
use crate::base::limits::JSON_DEPTH;

/// Up to so many keys of one object are compared one by one; beyond, they go into a set.
const FEW_KEYS: usize = 16;

/// Something wrong within a JSON text, and the JSON pointer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The key at the pointer's end stands twice in its object.
    Twice(String),
    /// Nested deeper than the limit.
    Deep(String),
    /// A text with half of a surrogate pair.
    Unicode(String),
}

/// An array or object that the scan is in.
enum Frame<'a> {
    Array { at: usize },
    Object { last: Cow<'a, str>, few: Vec<Cow<'a, str>>, many: HashSet<Cow<'a, str>> },
}

impl<'a> Frame<'a> {
    /// Takes an object's next key; false where it was there.
    fn take(&mut self, key: Cow<'a, str>) -> bool {
        let Frame::Object { last, few, many } = self else { return true };
        last.clone_from(&key);
        if few.contains(&key) {
            return false;
        }
        if few.len() < FEW_KEYS {
            few.push(key);
            return true;
        }
        many.insert(key)
    }
}

/// The first flaw of a well-formed JSON text, with a pointer that begins with `root`.
pub(super) fn flaw(json: &str, root: &str) -> Option<Flaw> {
    let bytes = json.as_bytes();
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut expects_key = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = text_end(bytes, at);
                let Some(text) = decoded(&json[at..end]) else { return Some(Flaw::Unicode(pointer(root, &frames))) };
                if std::mem::take(&mut expects_key) && frames.last_mut().is_some_and(|frame| !frame.take(text)) {
                    return Some(Flaw::Twice(pointer(root, &frames)));
                }
                at = end;
                continue;
            }
            b'{' | b'[' if frames.len() == JSON_DEPTH => return Some(Flaw::Deep(pointer(root, &frames))),
            b'{' => {
                expects_key = true;
                frames.push(Frame::Object { last: Cow::Borrowed(""), few: Vec::new(), many: HashSet::new() });
            }
            b'[' => frames.push(Frame::Array { at: 0 }),
            b'}' | b']' => {
                expects_key = false;
                frames.pop();
            }
            b',' => match frames.last_mut() {
                Some(Frame::Array { at }) => *at += 1,
                Some(Frame::Object { .. }) => expects_key = true,
                None => {}
            },
            _ => {}
        }
        at += 1;
    }
    None
}

/// The text that a JSON text with its quotes stands for; none where it is no Unicode.
pub(super) fn decoded(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.contains('\\') {
        return serde_json::from_str::<String>(quoted).ok().map(Cow::Owned);
    }
    quoted.get(1..quoted.len().saturating_sub(1)).map(Cow::Borrowed)
}

/// The JSON pointer (RFC 6901) to where the scan stands.
fn pointer(root: &str, frames: &[Frame<'_>]) -> String {
    let mut text = root.to_owned();
    for frame in frames {
        text.push('/');
        match frame {
            Frame::Array { at } => text.push_str(&at.to_string()),
            Frame::Object { last, .. } => text.push_str(&last.replace('~', "~0").replace('/', "~1")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_found_wherever_it_is() {
        let twice = |json: &str| match flaw(json, "/data") {
            Some(Flaw::Twice(pointer)) => pointer,
            other => panic!("{json}: {other:?}"),
        };
        assert_eq!(twice(r#"{"a":1,"a":2}"#), "/data/a");
        assert_eq!(twice(r#"{"a":1,"\u0061":2}"#), "/data/a");
        assert_eq!(twice(r#"{"x":[0,{"b/c":{},"d":"},{","b/c":1}]}"#), "/data/x/1/b~1c");
        let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        assert_eq!(twice(&format!("{{{},\"k37\":0}}", many.join(","))), "/data/k37");
        assert_eq!(twice(&format!("{{{},\"k3\":0}}", many.join(","))), "/data/k3");
    }

    #[test]
    fn what_only_looks_like_a_repetition_passes() {
        for json in [
            r#"{"a":{"a":1},"b":"a"}"#,
            r#"[{"a":1},{"a":2}]"#,
            r#"{"a":"\"a\":1,\"a\":2","b":["a","a"]}"#,
            r#"{"":1," ":2}"#,
            "1e999",
            "\"\"",
        ] {
            assert_eq!(flaw(json, ""), None, "{json}");
        }
    }

    #[test]
    fn nesting_ends_somewhere() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(flaw(&nested(JSON_DEPTH), ""), None);
        assert!(matches!(flaw(&nested(JSON_DEPTH + 1), ""), Some(Flaw::Deep(_))));
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        assert_eq!(flaw(r#"{"a":["x","\ud83d"]}"#, "/data"), Some(Flaw::Unicode("/data/a/1".into())));
        assert_eq!(flaw(r#"{"a":"\ud83d\ude00"}"#, "/data"), None);
    }
}
