//! Typed reading of the tree: every problem is noted with its place, and reading goes on.
//!
//! A key's file implements `Value` for its type; a map is read through `Fields`, which knows afterwards which keys were
//! asked for and so which ones are unknown. Nothing here knows a particular key.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Diagnostic, Location};

use super::spanned::{Spanned, Table};
use super::tree::{Node, Shape};

/// What is noted while a file is read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub problems: Vec<Diagnostic>,
    /// The keys that each kind of map was asked for; a test compares them with the JSON Schema.
    pub asked: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Reader {
    /// Notes a problem.
    pub fn note(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Notes that a value has the wrong kind.
    pub fn wrong(&mut self, node: &Node, expected: &str) {
        self.note(wrong(node, expected));
    }

    /// Notes a list without entries under a key that would have no effect with it: most often something was taken out of it,
    /// and nobody sees what is missing.
    pub fn refuse_empty(&mut self, node: &Node, message: &str) {
        if matches!(&node.shape, Shape::List(items) if items.is_empty()) {
            self.note(Diagnostic::error("E0108", message).at(node.place.clone()));
        }
    }
}

/// "expected …, found …" at its place.
pub(super) fn wrong(node: &Node, expected: &str) -> Diagnostic {
    let problem = Diagnostic::error("E0103", format!("expected {expected}, found {}", node.shape.words()))
        .labelled(node.place.clone(), format!("expected {expected}"));
    match &node.shape {
        Shape::Bool(_) | Shape::Integer(_) | Shape::Float(_) if expected.contains("text") || expected.contains("expression") => {
            problem.help(format!("if it is meant as text, put it in quotes: \"{}\"", node.written()))
        }
        _ => problem,
    }
}

/// A type that can be read from a value of the file.
pub(super) trait Value: Sized {
    /// Reads the value; what is wrong with it is noted in `reader`.
    fn read(node: &Node, reader: &mut Reader) -> Option<Self>;
}

/// A kind of map: its name in the JSON Schema.
pub(super) trait MapShape {
    /// The name of the schema's definition.
    const NAME: &'static str;
}

impl<T: Value> Value for Spanned<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Spanned<T>> {
        T::read(node, reader).map(|value| Spanned::new(value, node.place.clone()))
    }
}

impl Value for String {
    fn read(node: &Node, reader: &mut Reader) -> Option<String> {
        match &node.shape {
            Shape::Text(text) => Some(text.clone()),
            _ => {
                reader.wrong(node, "text");
                None
            }
        }
    }
}

impl Value for bool {
    fn read(node: &Node, reader: &mut Reader) -> Option<bool> {
        match &node.shape {
            Shape::Bool(value) => Some(*value),
            _ => {
                reader.wrong(node, "true or false");
                None
            }
        }
    }
}

impl Value for u32 {
    fn read(node: &Node, reader: &mut Reader) -> Option<u32> {
        match &node.shape {
            Shape::Integer(value) => u32::try_from(*value).ok().or_else(|| {
                reader.note(out_of_range(&node.place, &format!("`{value}`"), "0 to 4294967295"));
                None
            }),
            _ => {
                let mut problem = wrong(node, "a whole number");
                if let Shape::Text(text) = &node.shape
                    && text.chars().all(|c| c.is_ascii_digit() || c == '_')
                    && !text.is_empty()
                {
                    problem = problem.help(match node.written() == text {
                        true => "write the number without leading zeros and underscores",
                        false => "write the number without quotes",
                    });
                }
                reader.note(problem);
                None
            }
        }
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Vec<T>> {
        match &node.shape {
            Shape::List(items) => Some(items.iter().filter_map(|item| T::read(item, reader)).collect()),
            _ => {
                let problem = wrong(node, "a list");
                let scalar = !matches!(node.shape, Shape::Null | Shape::Map(_));
                reader.note(if scalar { problem.help(format!("write it in brackets: `[{}]`", node.written())) } else { problem });
                None
            }
        }
    }
}

impl<T: Value> Value for Table<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Table<T>> {
        let mut table = Table::default();
        for (key, value) in entries(node, "a map", reader)? {
            if let Some(value) = T::read(value, reader) {
                table.push(key.clone(), value);
            }
        }
        Some(table)
    }
}

/// The entries of a map; a value that is not there counts as an empty map.
pub(super) fn entries<'n>(node: &'n Node, expected: &str, reader: &mut Reader) -> Option<&'n [(Spanned<String>, Node)]> {
    match &node.shape {
        Shape::Map(entries) => Some(entries),
        Shape::Null => Some(&[]),
        _ => {
            reader.wrong(node, expected);
            None
        }
    }
}

/// "… is out of range" at its place.
pub(super) fn out_of_range(place: &Location, what: &str, range: &str) -> Diagnostic {
    Diagnostic::error("E0111", format!("{what} is out of range")).labelled(place.clone(), format!("must be {range}"))
}

/// A value that has to be one of a few words.
pub(super) fn choose<T: Copy>(node: &Node, words: &[(&'static str, T)], reader: &mut Reader) -> Option<T> {
    let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let Shape::Text(text) = &node.shape else {
        reader.wrong(node, &format!("one of {list}"));
        return None;
    };
    let found = words.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
    if found.is_none() {
        let problem = Diagnostic::error("E0112", format!("`{text}` is not one of {list}")).at(node.place.clone());
        reader.note(problem.nearest(text, words.iter().map(|(word, _)| *word)));
    }
    found
}

/// A map that is being read key by key.
pub(super) struct Fields<'n, 'r> {
    shape: &'static str,
    what: String,
    entries: &'n [(Spanned<String>, Node)],
    place: &'n Location,
    asked: Vec<&'static str>,
    reader: &'r mut Reader,
}

impl<'n, 'r> Fields<'n, 'r> {
    /// Begins to read a map of kind `S`; `what` names it for people: "the function `pay`", "`engine`".
    pub fn of<S: MapShape>(node: &'n Node, what: impl Into<String>, reader: &'r mut Reader) -> Option<Fields<'n, 'r>> {
        let what = what.into();
        let entries = entries(node, "a map", reader)?;
        Some(Fields { shape: S::NAME, what, entries, place: &node.place, asked: Vec::new(), reader })
    }

    /// The key's place and value, if it is there.
    pub fn entry(&mut self, key: &'static str) -> Option<(&'n Spanned<String>, &'n Node)> {
        // One that is read in two ways is asked for twice.
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entries.iter().find(|(name, _)| name.value == key).map(|(name, node)| (name, node))
    }

    /// The value of a key that may be left out.
    pub fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        let (_, node) = self.entry(key)?;
        T::read(node, self.reader)
    }

    /// The value of a key that has to be there.
    pub fn required<T: Value>(&mut self, key: &'static str) -> Option<T> {
        if self.entry(key).is_none() {
            let problem = Diagnostic::error("E0108", format!("{} has no `{key}`", self.what)).at(self.place.clone());
            self.reader.note(problem);
            return None;
        }
        self.optional(key)
    }

    /// The value of a key that may be left out, with the place of the key: a caret under the first brace of a map would say
    /// little.
    pub fn optional_at_key<T: Value>(&mut self, key: &'static str) -> Option<Spanned<T>> {
        let (name, node) = self.entry(key)?;
        T::read(node, self.reader).map(|value| Spanned::new(value, name.place.clone()))
    }

    /// Where problems of this map are noted.
    pub fn reader(&mut self) -> &mut Reader {
        self.reader
    }

    /// Ends reading an included file: the keys that only the main file may hold say so, and the others are unknown.
    pub fn main_file_only(self) {
        let main = super::schema::schema();
        for (key, _) in self.entries {
            if self.asked.contains(&key.value.as_str()) {
                continue;
            }
            let problem = if main.pointer(&format!("/properties/{}", key.value)).is_some() {
                let here = self.asked.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Diagnostic::error("E0119", format!("`{}` belongs into the main file", key.value))
                    .at(key.place.clone())
                    .help(format!("an included file may hold {here}"))
            } else {
                let problem = Diagnostic::error("E0102", format!("unknown key `{}` in {}", key.value, self.what)).at(key.place.clone());
                super::help::for_unknown_key(problem, &key.value, &self.asked, self.shape)
            };
            self.reader.note(problem);
        }
    }

    /// Ends reading: keys that nobody asked for are unknown.
    pub fn done(self) {
        for (key, _) in self.entries {
            if !self.asked.contains(&key.value.as_str()) {
                let problem = Diagnostic::error("E0102", format!("unknown key `{}` in {}", key.value, self.what)).at(key.place.clone());
                self.reader.note(super::help::for_unknown_key(problem, &key.value, &self.asked, self.shape));
            }
        }
        self.reader.asked.entry(self.shape).or_default().extend(self.asked);
    }
}

/// "not supported yet" at its place.
pub(super) fn not_yet(place: &Location, what: &str) -> Diagnostic {
    Diagnostic::error("E0190", format!("{what} is not supported yet"))
        .labelled(place.clone(), "comes with a later version")
        .help("remove it for now; nothing starts while it is there, since it would have no effect")
}
