//! YAML text as a tree in which every key and value knows its place.
//!
//! serde-saphyr parses; this file chooses its options, keeps its spans, finds keys that are written twice, and turns its
//! errors into diagnostics. What a key means is not known here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};

use crate::base::{Diagnostic, Location, Source};

use super::limits::{DEPTH_MOST, NODES_MOST};
use super::spanned::Spanned;

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub shape: Shape,
    pub place: Location,
}

/// What kind of value it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl Shape {
    /// What it is, in words that complete "expected …, found".
    pub fn words(&self) -> &'static str {
        match self {
            Shape::Null => "nothing",
            Shape::Bool(_) => "true or false",
            Shape::Integer(_) | Shape::Float(_) => "a number",
            Shape::Text(_) => "text",
            Shape::List(_) => "a list",
            Shape::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The characters as they stand in the file; for a scalar of one line that is the scalar itself.
    pub fn written(&self) -> &str {
        self.place.source.text.get(self.place.range.clone()).unwrap_or_default()
    }
}

/// The tree of a text; `None` where the text has no value at all. Keys that are written twice are problems, and the first one counts.
pub(super) fn parse(source: &Arc<Source>, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_documents: 1,
            max_depth: DEPTH_MOST,
            flow_nesting_limit: DEPTH_MOST,
            max_nodes: NODES_MOST,
            max_events: NODES_MOST * 2,
        },
    };
    match serde_saphyr::from_str_with_options::<RawNode>(&source.text, options) {
        Ok(raw) => Some(place(raw, source, problems)),
        Err(error) => {
            problems.push(syntax_problem(error.without_snippet(), source));
            None
        }
    }
}

/// serde-saphyr's error in our words. It stops at the first one, so this is the only problem of its file.
fn syntax_problem(error: &serde_saphyr::Error, source: &Arc<Source>) -> Diagnostic {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;
    let place = error.location().map_or_else(|| Location::new(source, 0..0), |at| location(at, source));
    let whole = error.to_string();
    // The position that the text ends with is shown by the caret.
    let said = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
    let repeat = "write the value out where it is needed";
    let problem = match error {
        Error::Budget { breach: BudgetBreach::Anchors { .. }, .. } => {
            Diagnostic::error("E0106", "anchors (`&name`) are not supported").help(repeat)
        }
        Error::Budget { breach: BudgetBreach::Aliases { .. }, .. } | Error::UnknownAnchor { .. } => {
            Diagnostic::error("E0106", "aliases (`*name`) are not supported")
                .help(repeat)
                .help("text that begins with `*` needs quotes: \"*…\"")
        }
        Error::MergeKeyNotAllowed { .. } => Diagnostic::error("E0106", "merge keys (`<<`) are not supported").help(repeat),
        Error::UnsupportedTag { .. } => Diagnostic::error("E0106", format!("YAML tags are not supported: {said}"))
            .help("remove the tag; text that begins with `!` needs quotes"),
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            Diagnostic::error("E0105", "a file holds one YAML document, and here begins another")
                .help("remove the `---`, or put the second one into a file of its own under `include`")
        }
        Error::Budget { .. } => too_large(),
        Error::NullIntoString { .. } => {
            Diagnostic::error("E0105", "a key cannot be empty or null").help("put it in quotes if it is meant as text")
        }
        Error::Unexpected { .. } => {
            Diagnostic::error("E0105", "a key is a word, not a list or a map").help("`{{ … }}` at the start of a value needs quotes")
        }
        _ if said.contains("recursion limit") => too_large(),
        _ => Diagnostic::error("E0105", format!("this is not YAML: {said}")).help_for_syntax(&said, &place),
    };
    problem.at(caret(error, place))
}

/// The place of the character that is to blame, where serde-saphyr points at what follows it.
fn caret(error: &serde_saphyr::Error, place: Location) -> Location {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;
    let text = &place.source.text;
    let line = text[..place.range.start].rfind('\n').map_or(0, |at| at + 1);
    let before = &text[line..place.range.start];
    let start = match error {
        Error::Budget { breach: BudgetBreach::Anchors { .. }, .. } => before.rfind('&'),
        Error::UnsupportedTag { .. } => before.rfind('!'),
        _ if text[line..].trim_start_matches(' ').starts_with('\t') => text[line..].find('\t'),
        _ => None,
    };
    let Some(start) = start.map(|at| line + at) else { return place };
    let word = text[start..].find([' ', '\n', ',', ']', '}', '\r']).unwrap_or(text.len() - start);
    let length = if text[start..].starts_with('\t') { 1 } else { word };
    Location::new(&place.source, start..start + length)
}

fn too_large() -> Diagnostic {
    Diagnostic::error("E0107", format!("the file is nested more than {DEPTH_MOST} deep, or has more than {NODES_MOST} values"))
}

/// Help for the slips that people make in YAML.
trait SyntaxHelp {
    fn help_for_syntax(self, said: &str, place: &Location) -> Diagnostic;
}

impl SyntaxHelp for Diagnostic {
    fn help_for_syntax(self, said: &str, place: &Location) -> Diagnostic {
        let line_start = place.source.text[..place.range.start].rfind('\n').map_or(0, |at| at + 1);
        let line = place.source.text[line_start..].split('\n').next().unwrap_or_default();
        if line.trim_start_matches(' ').starts_with('\t') {
            return self.help("YAML indents with spaces, and this line begins with a tab");
        }
        if said.contains("mapping values are not allowed") {
            return self.help("a text that contains `: ` needs quotes; a key stands at the same depth as the keys beside it");
        }
        if said.contains("did not find expected key") {
            return self.help("a key stands at the same depth as the keys beside it");
        }
        let printable = place.source.text[place.range.start..].starts_with(|c: char| !c.is_control());
        if said.contains("unexpected character") && printable {
            return self.help("a text that begins with this character needs quotes");
        }
        if said.contains("unknown escape") {
            return self.help("in double quotes write `\\\\` for a backslash, or use single quotes");
        }
        if said.contains("unclosed") || said.contains("mismatched") {
            return self.help("close it, or put the text in quotes if the character belongs to it");
        }
        self
    }
}

/// What serde-saphyr hands over for one value.
struct RawNode(serde_saphyr::Spanned<RawShape>);

enum RawShape {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<RawNode>),
    Map(Vec<(serde_saphyr::Spanned<String>, RawNode)>),
}

impl<'de> Deserialize<'de> for RawNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawNode, D::Error> {
        serde_saphyr::Spanned::<RawShape>::deserialize(deserializer).map(RawNode)
    }
}

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawShape, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = RawShape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawShape, E> {
        Ok(RawShape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawShape, E> {
        Ok(RawShape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawShape, E> {
        Ok(RawShape::Integer(i128::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawShape, E> {
        Ok(RawShape::Integer(i128::from(value)))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawShape, E> {
        Ok(RawShape::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawShape, E> {
        Ok(i128::try_from(value).map_or(RawShape::Float(value as f64), RawShape::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawShape, E> {
        Ok(RawShape::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawShape, E> {
        Ok(RawShape::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawShape, E> {
        Ok(RawShape::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawShape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawShape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawShape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawShape::Map(entries))
    }
}

fn place(raw: RawNode, source: &Arc<Source>, problems: &mut Vec<Diagnostic>) -> Node {
    let RawNode(spanned) = raw;
    let place_here = location(spanned.referenced, source);
    let shape = match spanned.value {
        RawShape::Null => Shape::Null,
        RawShape::Bool(value) => Shape::Bool(value),
        RawShape::Integer(value) => Shape::Integer(value),
        RawShape::Float(value) => Shape::Float(value),
        RawShape::Text(value) => Shape::Text(value),
        RawShape::List(items) => Shape::List(items.into_iter().map(|item| place(item, source, problems)).collect()),
        RawShape::Map(entries) => {
            let mut kept: Vec<(Spanned<String>, Node)> = Vec::with_capacity(entries.len());
            let mut first: HashMap<String, usize> = HashMap::new();
            for (key, value) in entries {
                let key = Spanned::new(key.value, location(key.referenced, source));
                let mut value = place(value, source, problems);
                if value.shape == Shape::Null && !matches!(value.written(), "~" | "null" | "Null" | "NULL") {
                    value.place = key.place.clone();
                }
                match first.get(&key.value) {
                    Some(at) => problems.push(
                        Diagnostic::error("E0104", format!("`{}` is written twice", key.value))
                            .labelled(key.place, "again here")
                            .labelled(kept[*at].0.place.clone(), "first here")
                            .help("remove one, or rename it"),
                    ),
                    None => {
                        first.insert(key.value.clone(), kept.len());
                        kept.push((key, value));
                    }
                }
            }
            Shape::Map(kept)
        }
    };
    Node { shape, place: place_here }
}

/// serde-saphyr's location as the bytes of the source.
fn location(at: serde_saphyr::Location, source: &Arc<Source>) -> Location {
    let span = at.span();
    match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(length)) => {
            let start = (start as usize).min(source.text.len());
            let end = (start + length as usize).min(source.text.len());
            let text = source.text.get(start..end).unwrap_or_default();
            // A block scalar or map spans lines; its first line is what a caret can show.
            let line = text.split('\n').next().unwrap_or_default().trim_end();
            if line.is_empty() {
                return Location::word_at(source, at.line() as usize, at.column() as usize);
            }
            Location::new(source, start..start + line.len())
        }
        _ => Location::word_at(source, at.line() as usize, at.column() as usize),
    }
}
