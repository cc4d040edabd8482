//! How commands speak: data on stdout, talk on stderr; a table on a terminal, tab-separated text when piped, or JSON.
//!
//! Colour is written always and taken away by `anstream` where it is not wanted (a pipe, NO_COLOR). Text that comes
//! from events and scripts passes `shown`, so that it cannot steer the terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::base::{Diagnostic, Millis, Span};

/// What is said with emphasis.
pub const BOLD: Style = Style::new().bold();
/// What stands behind.
pub const DIM: Style = Style::new().dimmed();
/// What went well.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// What failed.
pub const RED: Style = AnsiColor::Red.on_default();
/// What needs a look, or waits.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// What moves.
pub const CYAN: Style = AnsiColor::Cyan.on_default();

/// Below this a terminal's width, in columns, is taken for unknown.
const WIDTH_LEAST: u16 = 20;
/// The columns of a terminal that does not say how wide it is.
const WIDTH_UNKNOWN: u16 = 120;

/// `text` in a style.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The two ways out of a command.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    /// Whether stdout is a terminal.
    pub terminal: bool,
}

impl Out {
    /// The process's own.
    pub fn new() -> Out {
        Out { terminal: io::stdout().is_terminal() }
    }

    /// Writes a line of data to stdout.
    ///
    /// # Errors
    /// Those of stdout; a closed pipe becomes a quiet end in `Trouble`.
    pub fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_ref().as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Writes text to stdout as it is, without a line break.
    ///
    /// # Errors
    /// As `line`.
    pub fn raw(&self, text: &[u8]) -> io::Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text)?;
        stdout.flush()
    }

    /// Writes one JSON document to stdout: indented on a terminal, on one line elsewhere.
    ///
    /// # Errors
    /// As `line`.
    pub fn json(&self, value: &Value) -> io::Result<()> {
        self.line(if self.terminal { format!("{value:#}") } else { value.to_string() })
    }

    /// Says something to the person, on stderr.
    pub fn say(&self, text: impl AsRef<str>) {
        // There is nobody to tell that stderr is gone.
        let _ = writeln!(anstream::stderr().lock(), "{}", text.as_ref());
    }

    /// Shows problems on stderr.
    pub fn problems(&self, problems: &[Diagnostic]) {
        for problem in problems {
            self.say(problem.render(true));
        }
    }

    /// Writes rows: with heads and aligned on a terminal, tab-separated without heads elsewhere.
    ///
    /// # Errors
    /// As `line`.
    pub fn table(&self, heads: &[&str], rows: Vec<Vec<Cell>>) -> io::Result<()> {
        if !self.terminal {
            let mut text = String::new();
            for row in rows {
                let cells: Vec<String> = row.into_iter().map(|cell| shown(&cell.text).replace('\n', " ")).collect();
                text.push_str(&cells.join("\t"));
                text.push('\n');
            }
            return self.raw(text.as_bytes());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).enforce_styling().set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(heads.iter().map(|head| comfy_table::Cell::new(head).add_attribute(comfy_table::Attribute::Dim)));
        for row in rows {
            table.add_row(row.into_iter().map(|cell| match cell.colour {
                Some(colour) => comfy_table::Cell::new(cell.text.replace('_', " ")).fg(colour),
                None => comfy_table::Cell::new(shown(&cell.text)),
            }));
        }
        if table.width().is_none_or(|width| width < WIDTH_LEAST) {
            // A terminal that does not say its width must not fold every word.
            table.set_width(WIDTH_UNKNOWN);
        }
        let columns = table.column_count();
        for at in 0..columns {
            if let Some(column) = table.column_mut(at) {
                column.set_padding((0, 2));
            }
        }
        self.line(table.trim_fmt())
    }
}

impl Default for Out {
    fn default() -> Out {
        Out::new()
    }
}

/// One cell of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    colour: Option<comfy_table::Color>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), colour: None }
    }
}

impl Cell {
    /// The word of a run's state, in its colour.
    pub fn state(word: &str) -> Cell {
        let colour = match word {
            "completed" => Some(comfy_table::Color::Green),
            "failed" | "parked" => Some(comfy_table::Color::Red),
            "running" => Some(comfy_table::Color::Cyan),
            "sleeping" | "waiting" | "backing_off" => Some(comfy_table::Color::Yellow),
            _ => Some(comfy_table::Color::Reset),
        };
        Cell { text: word.to_owned(), colour }
    }
}

/// Text from outside, made harmless for a terminal: control characters are written as escapes.
pub fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push(c),
            '\t' => safe.push_str("  "),
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                // Writing into a String cannot fail.
                let _ = write!(safe, "{}", c.escape_unicode());
            }
            c => safe.push(c),
        }
    }
    safe
}

/// `text` on one line, cut to `most` characters.
pub fn cut(text: &str, most: usize) -> String {
    let line = shown(text).replace('\n', " ");
    if line.chars().count() <= most {
        return line;
    }
    let kept: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A number and its word: `1 file`, `2 files`.
pub fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// How long ago `at` is, or how far ahead, for people: `3s ago`, `in 4m`.
pub fn relative(now: Millis, at: Millis) -> String {
    if at.0 > now.0 { format!("in {}", short(at.since(now))) } else { format!("{} ago", short(now.since(at))) }
}

/// A length of time in at most two units: `<1ms`, `850ms`, `2.4s`, `3m12s`, `5h`, `12d`.
pub fn short(span: Span) -> String {
    let ms = span.0;
    match ms {
        ..1 => "<1ms".to_owned(),
        1..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        10_000..60_000 => format!("{}s", ms / 1_000),
        60_000..3_600_000 => two(ms / 60_000, "m", ms % 60_000 / 1_000, "s"),
        3_600_000..86_400_000 => two(ms / 3_600_000, "h", ms % 3_600_000 / 60_000, "m"),
        _ => two(ms / 86_400_000, "d", ms % 86_400_000 / 3_600_000, "h"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
}

/// Text within XML; what XML cannot hold becomes a question mark.
pub fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (ms, text) in [(3, "3ms"), (2_430, "2.4s"), (59_999, "59s"), (192_000, "3m12s"), (18_000_000, "5h"), (90_000_000, "1d1h")] {
            assert_eq!(short(Span(ms)), text);
        }
        assert_eq!(relative(Millis(10_000), Millis(7_000)), "3.0s ago");
        assert_eq!(relative(Millis(10_000), Millis(130_000)), "in 2m");
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\u{9b}c"), "a\\u{1b}[31mb\\u{9b}c");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
