//! The prompt at a terminal, and when an input is whole.

use std::io::{BufRead as _, Write as _};

use super::super::exit::Trouble;

/// The next input of a terminal: one line, or several where brackets are open; none at its end.
///
/// # Errors
/// Exit 74 where the terminal is gone.
pub fn ask() -> Result<Option<String>, Trouble> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock();
    loop {
        let mut stderr = std::io::stderr().lock();
        write!(stderr, "{}", if text.is_empty() { "> " } else { "… " })?;
        stderr.flush()?;
        if stdin.read_line(&mut text)? == 0 || !is_open(&text) {
            return Ok(Some(text).filter(|text| !text.is_empty()));
        }
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
}
