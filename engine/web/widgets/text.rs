//! Texts of programs and data: coloured, escaped, with line numbers and carets.

use maud::{Markup, html};

use crate::base::size;

use super::copy;

/// A text that takes more than this of a page is loaded on demand, in bytes of HTML: a few of them and their files make less than 300 KB.
const ON_DEMAND_BYTES: usize = 16 * 1024;
/// JSON is coloured as long as it takes no more than this of a page, in bytes of HTML.
const COLOURED_BYTES: usize = 32 * 1024;
/// The same of JSON that somebody has asked for.
const COLOURED_WHOLE_BYTES: usize = 1024 * 1024;
/// JSON above this size is shown as it is, in bytes: laid out, it would be too many pieces for a browser.
const LAID_OUT_BYTES: usize = 512 * 1024;
/// What is shown of what is loaded on demand, in characters.
const BEGINNING: usize = 2_000;
/// Texts above this size are copied out of what is shown, instead of standing in the page once more; in bytes.
const COPIED_BYTES: usize = 4 * 1024;

/// A piece of a text: a class of the stylesheet, or none, and the text.
type Piece = (&'static str, String);

/// JSON as people read it.
pub fn json(text: &str) -> Markup {
    block(text, COLOURED_BYTES)
}

/// As `json`, of what was asked for.
pub fn json_whole(text: &str) -> Markup {
    block(text, COLOURED_WHOLE_BYTES)
}

/// As `json`; where it is large, its beginning alone, and the rest from `url`, which answers `json_whole` of all of it.
pub fn json_at(text: &str, url: &str) -> Markup {
    if !is_large(text) {
        return json(text);
    }
    let beginning: String = text.chars().take(BEGINNING).collect();
    html! {
        div.data {
            pre.json tabindex="0" { (laid_out(&beginning, COLOURED_BYTES)) "…" }
            (load_all(url, text.len()))
        }
    }
}

/// The way to all of what is shown in part, which comes from `url` in the place of the `.data` around it; `bytes` says how much it is.
pub fn load_all(url: &str, bytes: usize) -> Markup {
    // A link, so that it leads there also where no script runs.
    html! { a.button href=(url) hx-get=(url) hx-target="closest .data" hx-swap="outerHTML" { "Load all " (size(bytes as u64)) } }
}

/// The beginning of a text that may be long: at most so many characters, with an ellipsis where it is cut.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A text as it was written; where it is large, its beginning alone, and the rest from `url`, which answers `text_at` of it without one.
pub fn text_at(text: &str, url: Option<&str>) -> Markup {
    let url = url.filter(|_| is_large(text));
    html! {
        div.data {
            pre.picture tabindex="0" { @if url.is_some() { (cut(text, BEGINNING)) } @else { (text) } }
            @if let Some(url) = url { (load_all(url, text.len())) }
        }
    }
}

/// Whether a text takes too much of a page to come along with it unasked.
pub fn is_large(text: &str) -> bool {
    painted(text) > ON_DEMAND_BYTES
}

fn block(text: &str, coloured: usize) -> Markup {
    html! {
        div.data {
            pre.json tabindex="0" { (laid_out(text, coloured)) }
            @if text.len() > COPIED_BYTES {
                button.copy type="button" data-copy-shown title="Copy" aria-label="Copy" { "⧉" }
            } @else { (copy("⧉", text)) }
        }
    }
}

/// JSON laid out in lines, with colours as long as it takes no more than `most` bytes of the page with them.
fn laid_out(text: &str, most: usize) -> Markup {
    if text.len() > LAID_OUT_BYTES.min(most) {
        return html! { (text) };
    }
    let laid = json_pieces(text);
    // A piece with a colour stands within a tag of its own.
    let takes: usize = laid.iter().map(|(class, text)| painted(text) + if class.is_empty() { 0 } else { 25 }).sum();
    html! { @if takes > most { (text) } @else { (pieces(&laid)) } }
}

/// The bytes that a text takes of a page: what HTML would read as its own is written in letters.
fn painted(text: &str) -> usize {
    let takes = |byte: u8| match byte {
        b'"' => "&quot;".len(),
        b'&' => "&amp;".len(),
        b'<' | b'>' => "&lt;".len(),
        _ => 1,
    };
    text.bytes().map(takes).sum()
}

fn pieces(pieces: &[Piece]) -> Markup {
    html! { @for (class, text) in pieces { @if class.is_empty() { (text) } @else { span class=(class) { (text) } } } }
}

/// Lays JSON out without reading its values, so that every number and text stays as it came. What is no JSON stays as it is.
fn json_pieces(text: &str) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    let mut at = 0;
    let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                while !text.is_char_boundary(at) {
                    at += 1;
                }
                let is_key = text[at..].trim_start().starts_with(':');
                out.push((if is_key { "k" } else { "s" }, text[start..at].to_owned()));
            }
            open @ (b'{' | b'[') => {
                at += 1;
                let rest = text[at..].trim_start();
                let close = if open == b'{' { '}' } else { ']' };
                if rest.starts_with(close) {
                    out.push(("", format!("{}{close}", char::from(open))));
                    at = text.len() - rest.len() + 1;
                } else {
                    depth += 1;
                    out.push(("", format!("{}{}", char::from(open), line(depth))));
                }
            }
            close @ (b'}' | b']') => {
                at += 1;
                depth = depth.saturating_sub(1);
                out.push(("", format!("{}{}", line(depth), char::from(close))));
            }
            b',' => {
                at += 1;
                out.push(("", format!(",{}", line(depth))));
            }
            b':' => {
                at += 1;
                out.push(("", ": ".to_owned()));
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                while at < bytes.len()
                    && !matches!(bytes[at], b',' | b'}' | b']' | b':' | b'{' | b'[' | b'"')
                    && !bytes[at].is_ascii_whitespace()
                {
                    at += 1;
                }
                let word = &text[start..at];
                out.push((if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') { "n" } else { "w" }, word.to_owned()));
            }
        }
    }
    out
}

/// The words of handlers that are coloured.
const WORDS: &[&str] = &[
    "let", "const", "if", "else", "switch", "while", "loop", "for", "in", "break", "continue", "return", "throw", "try", "catch", "fn",
    "private", "import", "export", "as", "true", "false", "this", "do", "until",
];
/// The functions of handlers that leave a record.
const RECORDED: &[&str] = &[
    "step",
    "sleep",
    "sleep_until",
    "wait_for_event",
    "wait_for_any",
    "wait_for_signal",
    "invoke",
    "send_event",
    "send_signal",
    "parallel",
    "race",
    "fail",
];

/// A handler's source with the numbers of its lines. `mark` is a line and a column, from 1 (column 0: unknown), below which a caret
/// stands.
pub fn code(source: &str, mark: Option<(u32, u32)>) -> Markup {
    lines(source, 1, mark)
}

/// As `code`, of the lines around the mark alone.
pub fn code_around(source: &str, mark: (u32, u32), around: u32) -> Markup {
    let first = mark.0.saturating_sub(around).max(1);
    let kept: Vec<&str> = source.lines().skip(first as usize - 1).take((mark.0 - first + around + 1) as usize).collect();
    lines(&kept.join("\n"), first, Some(mark))
}

fn lines(source: &str, first: u32, mark: Option<(u32, u32)>) -> Markup {
    let mut is_comment = false;
    html! {
        pre.code tabindex="0" {
            @for (number, line) in (first..).zip(source.lines()) {
                @let is_marked = mark.is_some_and(|(at, _)| at == number);
                span.line.marked[is_marked] { span.no aria-hidden="true" { (number) } (pieces(&rhai_pieces(line, &mut is_comment))) "\n" }
                @if let Some((_, column)) = mark.filter(|(at, column)| *at == number && *column > 0) {
                    span.line.caret { span.no aria-hidden="true" {} (" ".repeat(column as usize - 1)) span.bad { "^" } "\n" }
                }
            }
        }
    }
}

/// One line of a handler; `is_comment` says whether it begins within a comment.
fn rhai_pieces(line: &str, is_comment: &mut bool) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut rest = line;
    let mut take = |class: &'static str, rest: &mut &str, length: usize| {
        let (head, tail) = rest.split_at(length);
        out.push((class, head.to_owned()));
        *rest = tail;
    };
    while let Some(first) = rest.chars().next() {
        if *is_comment {
            let end = rest.find("*/").map(|at| at + 2);
            *is_comment = end.is_none();
            let length = end.unwrap_or(rest.len());
            take("c", &mut rest, length);
        } else if rest.starts_with("//") {
            let length = rest.len();
            take("c", &mut rest, length);
        } else if rest.starts_with("/*") {
            *is_comment = true;
            take("c", &mut rest, 2);
        } else if first == '"' || first == '`' {
            let length = quoted(rest, first);
            take("s", &mut rest, length);
        } else if first.is_ascii_digit() {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').unwrap_or(rest.len());
            take("n", &mut rest, length);
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = &rest[..length];
            let class = match () {
                () if WORDS.contains(&word) => "w",
                () if RECORDED.contains(&word) && rest[length..].trim_start().starts_with('(') => "f",
                () => "",
            };
            take(class, &mut rest, length);
        } else {
            take("", &mut rest, first.len_utf8());
        }
    }
    out
}

/// The length of a text in quotes, or to the end of the line.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// YAML with its keys and comments coloured.
pub fn yaml(source: &str) -> Markup {
    let line = |line: &str| -> Vec<Piece> {
        let indent = line.len() - line.trim_start().len();
        let (space, rest) = line.split_at(indent);
        let mut out: Vec<Piece> = vec![("", space.to_owned())];
        if rest.starts_with('#') {
            out.push(("c", rest.to_owned()));
            return out;
        }
        let key = rest.find(": ").map(|at| at + 1).or_else(|| rest.ends_with(':').then_some(rest.len()));
        let key = key.filter(|end| !rest[..*end].contains([' ', '"', '\'', '{']) || rest.starts_with("- "));
        let (key, value) = rest.split_at(key.unwrap_or(0));
        let (value, comment) = value.split_at(value.find(" #").unwrap_or(value.len()));
        out.extend([("k", key.to_owned()), ("", value.to_owned()), ("c", comment.to_owned())]);
        out
    };
    html! { pre.code.yaml tabindex="0" { @for text in source.lines() { (pieces(&line(text))) "\n" } } }
}

/// A diagnostic as it is drawn on a terminal.
pub fn picture(text: &str) -> Markup {
    html! { pre.picture tabindex="0" { (text) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(pieces: &[Piece]) -> String {
        pieces.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn json_is_laid_out_with_every_value_as_it_came() {
        let text = r#"{"n":123456789012345678901234567890,"f":1.50,"a":[1,{"x":null},[]],"e":{},"s":"a\"b,{"}"#;
        let laid = "{\n  \"n\": 123456789012345678901234567890,\n  \"f\": 1.50,\n  \"a\": [\n    1,\n    {\n      \"x\": null\n    },\n    []\n  ],\n  \"e\": {},\n  \"s\": \"a\\\"b,{\"\n}";
        assert_eq!(plain(&json_pieces(text)), laid);
        let classes: Vec<&str> =
            json_pieces("{\"k\":\"v\",\"n\":-1,\"w\":true}").iter().map(|(class, _)| *class).filter(|class| !class.is_empty()).collect();
        assert_eq!(classes, ["k", "s", "k", "n", "k", "w"]);
    }

    #[test]
    fn what_is_no_json_is_shown_all_the_same() {
        for broken in ["{broken", "\"open", "\"open\\", "]]]", "a\u{e9}\"\\\u{e9}", ""] {
            json_pieces(broken);
        }
        assert_eq!(plain(&json_pieces("plain")), "plain");
    }

    #[test]
    fn a_caret_stands_below_its_column() {
        let shown = code("let a = 1;\nlet b = setp(\"x\");", Some((2, 9))).into_string();
        assert!(shown.contains("marked") && shown.contains("        <span class=\"bad\">^</span>"), "{shown}");
        let around = code_around(&(1..=50).map(|n| format!("line{n}\n")).collect::<String>(), (20, 1), 3).into_string();
        assert!(around.contains("line17") && around.contains("line23") && !around.contains("line16") && !around.contains("line24"));
    }

    #[test]
    fn no_letter_of_a_source_is_lost_by_colouring_it() {
        let source = "let ä = `x ${y} /* no */`; // \"c\"\n/* a\n b */ step(\"n\", || 1.5e3);";
        let mut is_comment = false;
        for line in source.lines() {
            assert_eq!(plain(&rhai_pieces(line, &mut is_comment)), line);
        }
        assert!(!is_comment);
    }

    #[test]
    fn large_json_is_loaded_on_demand() {
        let large = format!("\"{}\"", "x".repeat(300 * 1024));
        let shown = json_at(&large, "/runs/1?part=output").into_string();
        assert!(shown.len() < 10_000 && shown.contains("hx-get=\"/runs/1?part=output\"") && shown.contains("301 KB"), "{}", shown.len());
        assert!(json_at("1", "/").into_string().len() < 500);
    }

    #[test]
    fn no_json_makes_a_page_heavy_unasked() {
        let of_quotes = format!("[{}]", vec!["\"\""; 1_900].join(","));
        let deep = format!("{}{}{}", "[".repeat(100), vec!["1"; 2_000].join(","), "]".repeat(100));
        for text in [of_quotes, deep, format!("\"{}\"", "é".repeat(7_000)), "[1,2,3]".repeat(2_000)] {
            let shown = json_at(&text, "/").into_string();
            assert!(shown.len() < 60 * 1024, "{} bytes of {}", shown.len(), text.len());
        }
        // Nothing is lost of what has no colours.
        let plain = laid_out("[1, 2]", 5).into_string();
        assert_eq!(plain, "[1, 2]");
    }
}
