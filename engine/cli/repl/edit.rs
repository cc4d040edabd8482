//! The prompt at a terminal: a line is edited, completed, and found again in the history. What a key does is decided by `Editing`,
//! which sees no terminal.

use std::io;
use std::path::PathBuf;

use console::{Key, Term, measure_text_width};

use crate::base::Diagnostic;
use crate::project::Project;
use crate::script::entries;

use super::super::exit::{Exit, Trouble, plain};
use super::super::out::shown;
use super::COMMANDS;

/// Lines that the history keeps.
const HISTORY_MOST: usize = 1_000;
/// The least columns of a line that are shown, on whatever terminal.
const ROOM_LEAST: usize = 10;
/// Words of the language itself.
const WORDS: [&str; 20] = [
    "let", "const", "if", "else", "switch", "for", "in", "while", "loop", "break", "continue", "return", "throw", "try", "catch", "fn",
    "true", "false", "event", "run",
];

/// Reads lines from a terminal.
pub struct Terminal {
    term: Term,
    history: Vec<String>,
    /// Where the history is kept.
    file: Option<PathBuf>,
    names: Names,
}

impl Terminal {
    /// A prompt that remembers in `file`, and completes names of the API and of the project.
    pub fn new(file: Option<PathBuf>, project: &Project) -> Terminal {
        let mut fixed: Vec<String> = entries().filter(|entry| !entry.is_member()).map(|entry| entry.name.to_owned()).collect();
        fixed.extend(entries().filter(|entry| entry.name.starts_with("run.")).map(|entry| entry.name.to_owned()));
        fixed.extend(COMMANDS.map(|(name, _, _)| name.to_owned()));
        fixed.extend(WORDS.map(str::to_owned));
        fixed.extend(project.config.events.names().map(str::to_owned));
        // There is none before the first time.
        let kept = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let names = Names { fixed, learnt: Vec::new() };
        Terminal { term: Term::stderr(), history: kept.lines().map(str::to_owned).collect(), file, names }
    }

    /// The next input: one line, or several where brackets are open; none at its end.
    ///
    /// # Errors
    /// Exit 74 where the terminal is gone.
    pub fn next(&mut self) -> Result<Option<String>, Trouble> {
        let broken = |error: io::Error| {
            Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("the terminal cannot be read: {}", plain(&error))))
        };
        let mut editing = Editing::new(&self.history, &self.names);
        let typed = loop {
            editing.draw(&self.term).map_err(broken)?;
            let key = self.term.read_key_raw().map_err(broken)?;
            match editing.press(&key) {
                Pressed::Draw => {}
                Pressed::Choices(names) => {
                    self.term.write_line("").map_err(broken)?;
                    self.term.write_line(&shown(&names.join("  "))).map_err(broken)?;
                }
                Pressed::Line => self.term.write_line("").map_err(broken)?,
                Pressed::Done => {
                    self.term.write_line("").map_err(broken)?;
                    break Some(editing.lines);
                }
                Pressed::Over => {
                    self.term.write_line("").map_err(broken)?;
                    break None;
                }
                Pressed::Clear => self.term.clear_screen().map_err(broken)?,
            }
        };
        let Some(lines) = typed else { return Ok(None) };
        for line in lines.iter().filter(|line| !line.trim().is_empty()) {
            if self.history.last() != Some(line) {
                self.history.push(line.clone());
            }
        }
        Ok(Some(lines.join("\n")))
    }

    /// Takes the names that the lines have made.
    pub fn learn(&mut self, lines: &[String]) {
        self.names.learnt = lines.iter().flat_map(|line| made(line)).collect();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        let kept = &self.history[self.history.len().saturating_sub(HISTORY_MOST)..];
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        // A history that cannot be kept is no reason to say anything.
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = std::fs::write(file, text);
    }
}

/// What a key has come to.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    /// The line is another one, or the same.
    Draw,
    /// Several names fit.
    Choices(Vec<String>),
    /// A line is finished, and more belong to it.
    Line,
    /// The input is whole.
    Done,
    /// There will be none.
    Over,
    /// The screen is to be empty.
    Clear,
}

/// An input while it is typed.
struct Editing<'a> {
    history: &'a [String],
    names: &'a Names,
    /// The lines that are finished.
    lines: Vec<String>,
    /// The one that is not.
    letters: Vec<char>,
    /// Before which of its letters the next one goes.
    at: usize,
    /// Which line of the history is shown, and what was typed before that.
    found: Option<(usize, Vec<char>)>,
}

impl<'a> Editing<'a> {
    fn new(history: &'a [String], names: &'a Names) -> Editing<'a> {
        Editing { history, names, lines: Vec::new(), letters: Vec::new(), at: 0, found: None }
    }

    fn press(&mut self, key: &Key) -> Pressed {
        match key {
            Key::Enter => return self.enter(),
            Key::Tab => return self.complete(),
            // Control-C gives the input up, control-D ends where nothing is typed.
            Key::CtrlC => {
                self.lines.clear();
                self.take(Vec::new());
                return Pressed::Line;
            }
            Key::Char('\u{4}') if self.letters.is_empty() && self.lines.is_empty() => return Pressed::Over,
            Key::Char('\u{4}') | Key::Del if self.at < self.letters.len() => drop(self.letters.remove(self.at)),
            Key::Char('\u{c}') => return Pressed::Clear,
            Key::Char('\u{15}') => {
                self.letters.drain(..self.at);
                self.at = 0;
            }
            Key::Char('\u{b}') => self.letters.truncate(self.at),
            Key::Char('\u{17}') => {
                let start = self.word_start();
                self.letters.drain(start..self.at);
                self.at = start;
            }
            Key::Char(letter) if !letter.is_control() => {
                self.letters.insert(self.at, *letter);
                self.at += 1;
            }
            Key::Backspace if self.at > 0 => {
                self.at -= 1;
                self.letters.remove(self.at);
            }
            Key::ArrowLeft => self.at = self.at.saturating_sub(1),
            Key::ArrowRight => self.at = (self.at + 1).min(self.letters.len()),
            Key::Home => self.at = 0,
            Key::End => self.at = self.letters.len(),
            Key::ArrowUp => self.look(true),
            Key::ArrowDown => self.look(false),
            _ => {}
        }
        Pressed::Draw
    }

    fn take(&mut self, letters: Vec<char>) {
        self.at = letters.len();
        self.letters = letters;
    }

    fn enter(&mut self) -> Pressed {
        self.lines.push(self.letters.iter().collect());
        self.take(Vec::new());
        self.found = None;
        if is_open(&self.lines.join("\n")) { Pressed::Line } else { Pressed::Done }
    }

    /// Where the word before the cursor begins, with the space behind it.
    fn word_start(&self) -> usize {
        let before = &self.letters[..self.at];
        let end = before.iter().rposition(|letter| !letter.is_whitespace()).map_or(0, |at| at + 1);
        before[..end].iter().rposition(|letter| letter.is_whitespace()).map_or(0, |at| at + 1)
    }

    /// Goes to the line before the one that is shown, or to the one behind it.
    fn look(&mut self, before: bool) {
        let (at, typed) = match self.found.take() {
            Some((at, typed)) => (at, typed),
            None => (self.history.len(), self.letters.clone()),
        };
        let next = if before { at.saturating_sub(1) } else { (at + 1).min(self.history.len()) };
        match self.history.get(next) {
            Some(line) => {
                self.take(line.chars().collect());
                self.found = Some((next, typed));
            }
            // Behind the last one stands what was typed.
            None => self.take(typed),
        }
    }

    fn complete(&mut self) -> Pressed {
        let before: String = self.letters[..self.at].iter().collect();
        let (start, names) = self.names.of(&before);
        let Some(first) = names.first() else { return Pressed::Draw };
        let common = names.iter().fold(first.chars().count(), |common, name| {
            first.chars().zip(name.chars()).take(common).take_while(|(one, other)| one == other).count()
        });
        let from = before[..start].chars().count();
        if common == self.at - from && names.len() > 1 {
            return Pressed::Choices(names);
        }
        self.letters.splice(from..self.at, first.chars().take(common));
        self.at = from + common;
        Pressed::Draw
    }

    fn draw(&self, term: &Term) -> io::Result<()> {
        let prompt = if self.lines.is_empty() { "> " } else { "… " };
        let (before, behind) = self.around(usize::from(term.size().1).saturating_sub(4).max(ROOM_LEAST));
        term.clear_line()?;
        term.write_str(&format!("{prompt}{before}{behind}"))?;
        match measure_text_width(&behind) {
            0 => Ok(()),
            columns => term.move_cursor_left(columns),
        }
    }

    /// What of the line fits into so many columns around the cursor, before it and behind it. A letter may take two columns or none,
    /// and one that a terminal would obey is written as its escape: the history is a file that others may have written.
    fn around(&self, mut room: usize) -> (String, String) {
        let drawn = |letter: &char| shown(&letter.to_string());
        let mut fits = |letter: &String| match room.checked_sub(measure_text_width(letter)) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let (before, behind) = self.letters.split_at(self.at);
        let mut before: Vec<String> = before.iter().rev().map(drawn).take_while(&mut fits).collect();
        before.reverse();
        let behind = behind.iter().map(drawn).take_while(&mut fits).collect();
        (before.concat(), behind)
    }
}

/// The names that a line makes.
fn made(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(|letter: char| !is_part(letter)).filter(|word| !word.is_empty()).collect();
    words.windows(2).filter(|pair| ["let", "const", "fn"].contains(&pair[0])).map(|pair| pair[1].to_owned()).collect()
}

fn is_part(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// What can be completed.
struct Names {
    fixed: Vec<String>,
    learnt: Vec<String>,
}

impl Names {
    /// Where the word at the end begins, and what it may become.
    fn of(&self, before: &str) -> (usize, Vec<String>) {
        let belongs = |letter: char| is_part(letter) || [':', '.', '/', '-'].contains(&letter);
        let last = before.char_indices().rfind(|(_, letter)| !belongs(*letter));
        let start = last.map_or(0, |(at, letter)| at + letter.len_utf8());
        let word = &before[start..];
        if word.is_empty() {
            return (start, Vec::new());
        }
        let mut found: Vec<String> = self.fixed.iter().chain(&self.learnt).filter(|name| name.starts_with(word)).cloned().collect();
        found.sort();
        found.dedup();
        (start, found)
    }
}

/// Whether brackets, a text or a comment of an input are still open, so that more lines belong to it.
pub fn is_open(text: &str) -> bool {
    let mut open: Vec<char> = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (open.last(), letter) {
            // Within a text in backticks, `${` leads out of it.
            (Some('`'), '`') => drop(open.pop()),
            (Some('`'), '$') if letters.peek() == Some(&'{') => {
                letters.next();
                open.push('{');
            }
            (Some('`'), _) => {}
            (_, '`') => open.push('`'),
            (_, '"') => {
                let mut is_closed = false;
                while let Some(letter) = letters.next() {
                    match letter {
                        '"' => {
                            is_closed = true;
                            break;
                        }
                        '\\' if letters.peek() == Some(&'\n') => {
                            letters.next();
                        }
                        '\\' => drop(letters.next()),
                        // A text in quotes ends with its line: the compiler says so.
                        '\n' => return false,
                        _ => {}
                    }
                }
                if !is_closed {
                    return false;
                }
            }
            (_, '/') if letters.peek() == Some(&'/') => while letters.next_if(|letter| *letter != '\n').is_some() {},
            (_, '/') if letters.peek() == Some(&'*') => {
                let mut last = ' ';
                letters.next();
                loop {
                    match letters.next() {
                        None => return true,
                        Some('/') if last == '*' => break,
                        Some(letter) => last = letter,
                    }
                }
            }
            (_, '(' | '[' | '{') => open.push(letter),
            (Some('('), ')') | (Some('['), ']') | (Some('{'), '}') => drop(open.pop()),
            // It does not fit: the compiler says so.
            (_, ')' | ']' | '}') => return false,
            _ => {}
        }
    }
    !open.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_wants_more_lines() {
        for open in ["step(\"a\", || {", "[1,", "let a = #{ x: 1,", "`one\n", "`${a(", "/* why", "f(\")\", [", "`a ${ `b` "] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["1 + 1", "f(\"(\")", "`${a}(`", "// (", "/* ( */ 1", ")", "\"open", "(]", "let a = `x ${b(1)} \" y`", "\"a\\\"(\""] {
            assert!(!is_open(closed), "{closed}");
        }
    }

    fn names() -> Names {
        let fixed = ["http::get", "http::post", "step", ":help", "order/placed"].map(str::to_owned).to_vec();
        Names { fixed, learnt: made("let steps = 1; fn stop(x) { let y = x; }") }
    }

    #[test]
    fn names_are_completed_from_the_table_the_project_and_the_lines() {
        let names = names();
        assert_eq!(names.of("let a = http::"), (8, vec!["http::get".to_owned(), "http::post".to_owned()]));
        assert_eq!(names.of("st").1, ["step", "steps", "stop"]);
        assert_eq!(names.of(":he"), (0, vec![":help".to_owned()]));
        assert_eq!(names.of("send_event(\"ord"), (12, vec!["order/placed".to_owned()]));
        assert_eq!(names.of("a(").1, Vec::<String>::new());
    }

    /// Presses keys, `<` and `>` for the arrows, `^` and `v` for up and down; what the last one came to, and the line with the cursor.
    fn pressed(editing: &mut Editing<'_>, keys: &str) -> (Pressed, String) {
        let mut last = Pressed::Draw;
        for letter in keys.chars() {
            last = editing.press(&match letter {
                '<' => Key::ArrowLeft,
                '>' => Key::ArrowRight,
                '^' => Key::ArrowUp,
                'v' => Key::ArrowDown,
                '~' => Key::Backspace,
                '\t' => Key::Tab,
                '\n' => Key::Enter,
                letter => Key::Char(letter),
            });
        }
        let (before, behind) = editing.letters.split_at(editing.at);
        let text = |letters: &[char]| letters.iter().collect::<String>();
        (last, format!("{}|{}", text(before), text(behind)))
    }

    #[test]
    fn keys_edit_the_line_look_into_the_history_and_complete() {
        let (history, names) = (["let a = 1".to_owned(), "a + 1".to_owned()], names());
        let mut editing = Editing::new(&history, &names);
        let mut line = |keys: &str| pressed(&mut editing, keys).1;
        assert_eq!(line("ad<c"), "ac|d");
        assert_eq!(line("~>"), "ad|");
        assert_eq!(line("^"), "a + 1|");
        assert_eq!(line("^^"), "let a = 1|", "there is none before the first one");
        assert_eq!(line("vv"), "ad|", "what was typed is there again");
        assert_eq!(line("\u{15}one two\u{17}"), "one |");
        assert_eq!(line("<<<\u{b}"), "o|");
        assert_eq!(line("~h\t"), "http::|", "as far as all names agree");
        assert_eq!(line("g\t"), "http::get|");
        let choices = ["step", "steps", "stop"].map(str::to_owned).to_vec();
        assert_eq!(pressed(&mut editing, "\u{15}st\t"), (Pressed::Choices(choices), "st|".to_owned()));
        assert_eq!(pressed(&mut editing, "\u{4}").0, Pressed::Draw, "only an empty input is the end");
    }

    #[test]
    fn what_is_drawn_goes_by_columns_and_moves_no_cursor() {
        let (history, names) = (["\u{1b}[2Ja".to_owned()], names());
        let mut editing = Editing::new(&history, &names);
        let pair = |before: &str, behind: &str| (before.to_owned(), behind.to_owned());
        pressed(&mut editing, "日本語abc<<<");
        assert_eq!(editing.around(20), pair("日本語", "abc"));
        assert_eq!(editing.around(7), pair("日本語", "a"));
        assert_eq!(editing.around(4), pair("本語", ""));
        pressed(&mut editing, "^");
        assert_eq!(editing.around(20), pair("\\u{1b}[2Ja", ""));
    }

    #[test]
    fn an_input_is_whole_when_its_brackets_are_closed_and_can_be_given_up() {
        let names = names();
        let mut editing = Editing::new(&[], &names);
        assert_eq!(pressed(&mut editing, "f(1,\n").0, Pressed::Line);
        assert_eq!(pressed(&mut editing, "2)\n").0, Pressed::Done);
        assert_eq!(editing.lines, ["f(1,", "2)"]);
        let mut editing = Editing::new(&[], &names);
        pressed(&mut editing, "[\nx");
        assert_eq!(editing.press(&Key::CtrlC), Pressed::Line);
        assert!(editing.lines.is_empty() && editing.letters.is_empty());
        assert_eq!(pressed(&mut editing, "\u{4}").0, Pressed::Over);
    }
}
