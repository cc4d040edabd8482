//! The lines of the config in which something is declared, as people see them.

use crate::base::Location;

/// Lines of one declaration that are shown.
const LINES_MOST: usize = 400;

/// A part of the config's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The file, relative to the config's folder.
    pub file: String,
    /// The number of the first line, from 1.
    pub line: usize,
    /// The lines, without what they are all indented by.
    pub text: String,
}

/// The lines that belong to a key of the config: with the comments right above it, up to the next line that stands no deeper. A
/// declaration within braces is the one line.
pub fn declaration(key: &Location) -> Declaration {
    let source = &key.source;
    let lines: Vec<&str> = source.text.lines().collect();
    let own = source.position(key.range.start).0.saturating_sub(1).min(lines.len().saturating_sub(1));
    let depth = |line: &str| line.len() - line.trim_start().len();
    let Some(head) = lines.get(own) else { return Declaration { file: source.name.clone(), line: 1, text: String::new() } };
    let deep = depth(head);
    let is_key_alone =
        source.text.get(..key.range.start).is_some_and(|before| before.rsplit('\n').next().unwrap_or_default().trim().is_empty());
    let mut end = own + 1;
    if is_key_alone {
        while end < lines.len() && (lines[end].trim().is_empty() || depth(lines[end]) > deep) {
            end += 1;
        }
        while end > own + 1 && lines[end - 1].trim().is_empty() {
            end -= 1;
        }
    }
    let mut start = own;
    while start > 0 && lines[start - 1].trim_start().starts_with('#') && depth(lines[start - 1]) == deep {
        start -= 1;
    }
    let shown = lines[start..end.min(start + LINES_MOST)].iter().map(|line| line.get(deep.min(depth(line))..).unwrap_or(line));
    Declaration { file: source.name.clone(), line: start + 1, text: shown.collect::<Vec<_>>().join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Source;

    fn of(text: &str, key: &str) -> Declaration {
        let source = Source::new("events.yaml", text);
        let at = text.find(key).expect("the key is there");
        declaration(&Location::new(&source, at..at + key.len()))
    }

    #[test]
    fn a_declaration_is_its_lines_with_its_comments() {
        let text = "functions:\n  a:\n    on: x\n\n  # Takes the money.\n  pay:\n    on: y\n\n    retries: 3\n\n  z: { on: q }\n";
        let found = of(text, "pay");
        assert_eq!((found.line, found.text.as_str()), (5, "# Takes the money.\npay:\n  on: y\n\n  retries: 3"));
        assert_eq!(of(text, "z").text, "z: { on: q }");
        assert_eq!(of("functions: { f: { on: a } }\nevents: {}\n", "f:").text, "functions: { f: { on: a } }");
    }
}
