//! Diagnostics: what people are shown when something is wrong, with a code, a place and a help line.
//!
//! A `Diagnostic` is for people and is never matched on; code that has to decide uses small error enums.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

/// A text that diagnostics point into.
#[derive(Debug)]
pub struct Source {
    /// The path as it is shown, relative to the config's folder.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Where each line begins, in bytes; found when it is first asked for, since a check asks for every word of a file.
    lines: OnceLock<Vec<usize>>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        (&self.name, &self.text) == (&other.name, &other.text)
    }
}

impl Eq for Source {}

impl Source {
    /// A source ready to be shared.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Source> {
        Arc::new(Source { name: name.into(), text: text.into(), lines: OnceLock::new() })
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The byte offset of a 1-based line and a 1-based column in characters; the end of the line or text where they are past it.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let Some(&start) = self.lines().get(line.saturating_sub(1)) else { return self.text.len() };
        let line_text = self.text[start..].split('\n').next().unwrap_or_default();
        start + line_text.char_indices().nth(column.saturating_sub(1)).map_or(line_text.len(), |(at, _)| at)
    }

    /// The 1-based line and the 1-based column in characters of a byte offset.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(&self.text);
        let line = self.lines().partition_point(|start| *start <= before.len());
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// A place in a source, with what to say there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The text that is pointed into.
    pub source: Arc<Source>,
    /// The bytes that the caret underlines.
    pub range: Range<usize>,
    /// Words beside the caret; may be empty.
    pub label: String,
}

impl Location {
    /// A location without words beside the caret.
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Location {
        Location { source: Arc::clone(source), range, label: String::new() }
    }

    /// The place of a range of `text`, which stands here: bare, or within quotes without escapes. Elsewhere all of this place.
    pub fn within(&self, text: &str, range: Range<usize>) -> Location {
        let written = self.source.text.get(self.range.clone()).unwrap_or_default();
        let skip = match written {
            _ if written == text => 0,
            _ if written.get(1..written.len().saturating_sub(1)) == Some(text) => 1,
            _ => return self.clone(),
        };
        let start = self.range.start + skip;
        let end = (start + range.end).min(self.range.end);
        Location::new(&self.source, (start + range.start).min(end)..end)
    }

    /// The same with all of a text that begins here under the caret, and its quotes.
    #[must_use]
    pub fn quoted(mut self, text: &str) -> Location {
        let end = self.range.end.max(self.range.start + text.len() + 2);
        self.range.end = self.source.text.ceil_char_boundary(end);
        self
    }

    /// The location of the word that begins at a 1-based line and column: letters, digits, `_`, or one character of another kind.
    pub fn word_at(source: &Arc<Source>, line: usize, column: usize) -> Location {
        let start = source.offset(line, column);
        let rest = &source.text[start..];
        let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        let length = if word > 0 { word } else { rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8) };
        Location::new(source, start..start + length)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; never counted.
    Note,
    /// Probably a mistake.
    Warning,
    /// Nothing starts until it is mended.
    Error,
}

/// One problem, told to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error, warning or note.
    pub severity: Severity,
    /// `E0101`: what `stepwell explain` takes. Empty for an error that a handler threw itself.
    pub code: &'static str,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// Where; the first is the main place.
    pub places: Vec<Location>,
    /// What to do about it, a line each.
    pub helps: Vec<String>,
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, code, message: message.into(), places: Vec::new(), helps: Vec::new() }
    }

    /// A warning without a place yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// A note without a place yet.
    pub fn note(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Note, ..Diagnostic::error(code, message) }
    }

    /// Adds a place; the first one added is the main one.
    #[must_use]
    pub fn at(mut self, place: Location) -> Diagnostic {
        self.places.push(place);
        self
    }

    /// Adds a place with words beside the caret.
    #[must_use]
    pub fn labelled(mut self, mut place: Location, label: impl Into<String>) -> Diagnostic {
        place.label = label.into();
        self.places.push(place);
        self
    }

    /// Adds a help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.helps.push(help.into());
        self
    }

    /// Adds "did you mean" where one of `known` is near to `word`.
    #[must_use]
    pub fn nearest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
        match nearest(word, known) {
            Some(right) => self.help(format!("did you mean `{right}`?")),
            None => self,
        }
    }

    /// The file, 1-based line and column of the main place.
    pub fn position(&self) -> Option<(&str, usize, usize)> {
        self.places.first().map(|place| {
            let (line, column) = place.source.position(place.range.start);
            (place.source.name.as_str(), line, column)
        })
    }

    /// All places in one source, in one picture.
    fn snippet<'a>(&'a self, source: &'a Arc<Source>) -> Snippet<'a, Annotation<'a>> {
        let mut snippet = Snippet::source(source.text.as_str()).path(source.name.as_str());
        for (at, place) in self.places.iter().enumerate().filter(|(_, place)| Arc::ptr_eq(&place.source, source)) {
            let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let end = place.range.end.min(source.text.len());
            let annotation = kind.span(place.range.start.min(end)..end);
            let label = (!place.label.is_empty()).then_some(place.label.as_str());
            snippet = snippet.annotation(annotation.label(label));
        }
        snippet
    }

    /// The picture that is printed: code, place, line, caret, help. Without a line break at its end.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Note => Level::NOTE,
            Severity::Warning => Level::WARNING,
            Severity::Error => Level::ERROR,
        };
        let title = level.primary_title(self.message.as_str());
        let title = if self.code.is_empty() { title } else { title.id(self.code) };
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        if self.places.is_empty() {
            // Without a picture the renderer's margin would stand there alone.
            let head = renderer.render(&[Group::with_title(title)]).to_string();
            return self.helps.iter().fold(head, |text, help| format!("{text}\n  = help: {}", help.replace('\n', "\n          ")));
        }
        let mut group = Group::with_title(title);
        let mut shown: Vec<&Arc<Source>> = Vec::new();
        for place in &self.places {
            if shown.iter().any(|source| Arc::ptr_eq(source, &place.source)) {
                continue;
            }
            shown.push(&place.source);
            group = group.element(self.snippet(&place.source));
        }
        for help in &self.helps {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group]).to_string()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// The entry of `known` that a person most likely meant by `word`, if one is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (word.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_line_and_column_and_back() {
        let text = "one\n\nzwölf\n";
        let source = Source::new("x", text);
        for (line, column, offset) in [(1, 1, 0), (1, 4, 3), (1, 9, 3), (2, 1, 4), (3, 5, 10), (3, 6, 11), (4, 1, 12), (9, 1, 12)] {
            assert_eq!(source.offset(line, column), offset, "{line}:{column}");
        }
        for (offset, position) in [(0, (1, 1)), (3, (1, 4)), (4, (2, 1)), (10, (3, 5)), (12, (4, 1)), (99, (4, 1))] {
            assert_eq!(source.position(offset), position, "{offset}");
        }
        assert_eq!(source, Source::new("x", text), "whether the lines have been asked for does not count");
    }

    #[test]
    fn a_diagnostic_shows_code_place_caret_and_help() {
        let source = Source::new("events.yaml", "version: 1\nfunktions: {}\n");
        let shown = Diagnostic::error("E0102", "unknown key `funktions`")
            .at(Location::word_at(&source, 2, 1))
            .nearest("funktions", ["events", "functions"])
            .render(false);
        assert!(shown.contains("error[E0102]: unknown key `funktions`"), "{shown}");
        assert!(shown.contains("events.yaml:2:1"), "{shown}");
        assert!(shown.contains("^^^^^^^^^"), "{shown}");
        assert!(shown.contains("help: did you mean `functions`?"), "{shown}");
    }
}
