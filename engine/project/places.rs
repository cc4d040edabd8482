//! Where the values of a JSON text stand, by JSON pointer.
//!
//! serde_json gives values without places and keeps the last of two equal keys in silence; a diagnostic needs the place,
//! and a person wants to know of the second key.

use std::collections::HashMap;
use std::ops::Range;

/// The places of a JSON text's values and keys.
#[derive(Debug, Default)]
pub(super) struct Places {
    values: HashMap<String, Range<usize>>,
    keys: HashMap<String, Range<usize>>,
    /// Keys that an object has twice: the name and the place of the second one.
    pub twice: Vec<(String, Range<usize>)>,
}

impl Places {
    /// Reads a text that serde_json has accepted, so that nesting and syntax are known to be sound.
    pub fn of(text: &str) -> Places {
        let mut scan = Scan { text, at: 0, found: Places::default() };
        scan.value("");
        scan.found
    }

    /// The place of the value at `pointer`, of its key where it is an object's or list's, or of the nearest owner that is there.
    pub fn at(&self, pointer: &str) -> Range<usize> {
        let mut pointer = pointer;
        loop {
            if let Some(value) = self.values.get(pointer) {
                return self.keys.get(pointer).filter(|_| value.len() > 60).unwrap_or(value).clone();
            }
            match pointer.rfind('/') {
                Some(cut) => pointer = &pointer[..cut],
                None => return self.values.get("").cloned().unwrap_or(0..0),
            }
        }
    }
}

/// One step of a JSON pointer, escaped.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    found: Places,
}

impl Scan<'_> {
    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    /// A text in quotes: its place with the quotes, and its value.
    fn string(&mut self) -> (Range<usize>, String) {
        self.space();
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while self.at < bytes.len() && bytes[self.at] != b'"' {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at = (self.at + 1).min(bytes.len());
        let place = start..self.at;
        let value = self.text.get(place.clone()).and_then(|quoted| serde_json::from_str(quoted).ok());
        (place, value.unwrap_or_default())
    }

    fn value(&mut self, pointer: &str) {
        self.space();
        let start = self.at;
        match self.text.as_bytes().get(start) {
            Some(b'{') => self.object(pointer),
            Some(b'[') => self.list(pointer),
            Some(b'"') => {
                self.string();
            }
            _ => {
                let rest = &self.text[start..];
                self.at += rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
            }
        }
        self.found.values.insert(pointer.to_owned(), start..self.at);
    }

    fn object(&mut self, pointer: &str) {
        self.at += 1;
        let mut names = std::collections::HashSet::new();
        while self.at < self.text.len() && !self.eat('}') {
            let (place, name) = self.string();
            let inner = format!("{pointer}/{}", escaped(&name));
            if !names.insert(name.clone()) {
                self.found.twice.push((name, place.clone()));
            }
            self.eat(':');
            self.value(&inner);
            self.found.keys.insert(inner, place);
            self.eat(',');
        }
    }

    fn list(&mut self, pointer: &str) {
        self.at += 1;
        let mut index = 0;
        while self.at < self.text.len() && !self.eat(']') {
            self.value(&format!("{pointer}/{index}"));
            index += 1;
            self.eat(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_and_a_second_key_is_noticed() {
        let text = r#" { "a/b": [1, {"x": "q\"]}"}], "é" : true, "a/b": null }"#;
        let places = Places::of(text);
        assert_eq!(&text[places.at("/a~1b/1/x")], r#""q\"]}""#);
        assert_eq!(&text[places.at("/é")], "true");
        assert_eq!(&text[places.at("/é/deeper/still")], "true");
        assert_eq!(places.twice.len(), 1);
        assert_eq!(places.twice[0].0, "a/b");
    }

    #[test]
    fn a_large_value_is_shown_by_its_key() {
        let text = format!(r#"{{"long": "{}"}}"#, "x".repeat(100));
        assert_eq!(&text[Places::of(&text).at("/long")], "\"long\"");
    }

    fn json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let plain = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            ".{0,8}".prop_map(serde_json::Value::from),
        ];
        plain.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                proptest::collection::btree_map(".{0,5}", inner, 0..5).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn every_pointer(value: &serde_json::Value, pointer: &str, found: &mut Vec<String>) {
        found.push(pointer.to_owned());
        match value {
            serde_json::Value::Array(list) => {
                list.iter().enumerate().for_each(|(at, entry)| every_pointer(entry, &format!("{pointer}/{at}"), found));
            }
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, entry)| every_pointer(entry, &format!("{pointer}/{}", escaped(key)), found));
            }
            _ => {}
        }
    }

    proptest::proptest! {
        #[test]
        fn the_place_of_every_pointer_holds_its_value(value in json(), pretty in proptest::bool::ANY) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let places = Places::of(&text);
            let mut pointers = Vec::new();
            every_pointer(&value, "", &mut pointers);
            for pointer in pointers {
                let found: serde_json::Value = serde_json::from_str(&text[places.values[&pointer].clone()]).unwrap();
                assert_eq!(Some(&found), value.pointer(&pointer), "{pointer} in {text}");
            }
            assert!(places.twice.is_empty());
        }
    }
}
