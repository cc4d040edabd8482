//! JSON text to script values and back, exactly.
//!
//! Own reader and writer, because what others do loses something in silence: an integer outside of 64 bits, a decimal that a
//! float cannot hold, a surrogate pair, or a function pointer that turns into text.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map};

use super::error::{self, Fault, Thrown};
use super::time::{Moment, Period};

/// How deep arrays and maps may lie in each other.
const DEPTH_MOST: usize = 128;

/// A number that neither an `i64` nor an `f64` holds: kept and printed as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number(pub(super) Arc<str>);

/// A secret: its name may be shown, its value goes to headers and signatures alone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    /// Its name in the config.
    pub(super) name: Arc<str>,
    /// What is secret.
    pub(super) value: Arc<str>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "«secret {}»", self.name)
    }
}

/// The script's view of its run; a handle whose fields are looked up when they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunHandle;

/// What is wrong with a JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at position {at}")]
pub(super) struct BadJson {
    /// What was found or missing.
    pub(super) message: &'static str,
    /// Byte offset, from 0.
    pub(super) at: usize,
}

/// Reads a JSON text.
pub(super) fn read(text: &str) -> Result<Dynamic, BadJson> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at < reader.bytes.len() {
        return Err(reader.bad("unexpected text after the value"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bad(&self, message: &'static str) -> BadJson {
        BadJson { message, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Dynamic, BadJson> {
        if depth > DEPTH_MOST {
            return Err(self.bad("arrays and objects lie too deep in each other"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(self.string()?.into()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", true.into()),
            Some(b'f') => self.word("false", false.into()),
            Some(b'n') => self.word("null", Dynamic::UNIT),
            Some(_) => Err(self.bad("expected a value")),
            None => Err(self.bad("the text ends too early")),
        }
    }

    fn word(&mut self, word: &str, value: Dynamic) -> Result<Dynamic, BadJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.bad("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Dynamic, BadJson> {
        self.at += 1;
        let mut array = Array::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Dynamic::from_array(array));
        }
        loop {
            self.space();
            array.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Dynamic::from_array(array));
                }
                _ => return Err(self.bad("expected `,` or `]`")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Dynamic, BadJson> {
        self.at += 1;
        let mut map = Map::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Dynamic::from_map(map));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.bad("expected a name in quotes"));
            }
            let name = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.bad("expected `:`"));
            }
            self.at += 1;
            self.space();
            let value = self.value(depth + 1)?;
            map.insert(name.as_str().into(), value);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Dynamic::from_map(map));
                }
                _ => return Err(self.bad("expected `,` or `}`")),
            }
        }
    }

    fn string(&mut self) -> Result<ImmutableString, BadJson> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(text.into());
                }
                Some(b'\\') => return self.escaped(start),
                Some(0..=0x1f) => return Err(self.bad("a control character in a string has to be escaped")),
                Some(_) => self.at += 1,
                None => return Err(self.bad("the string does not end")),
            }
        }
    }

    /// The rest of a string in which the first escape has been met.
    fn escaped(&mut self, start: usize) -> Result<ImmutableString, BadJson> {
        let mut text = self.text[start..self.at].to_owned();
        loop {
            let plain = self.at;
            while !matches!(self.peek(), Some(b'"' | b'\\' | 0..=0x1f) | None) {
                self.at += 1;
            }
            text.push_str(&self.text[plain..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text.into());
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.bad("a control character in a string has to be escaped")),
                None => return Err(self.bad("the string does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, BadJson> {
        self.at += 1;
        let kind = self.peek().ok_or_else(|| self.bad("the string does not end"))?;
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                match first {
                    0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                        self.at += 2;
                        let second = self.hex()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(self.bad("half of a surrogate pair"));
                        }
                        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).unwrap_or('\u{fffd}')
                    }
                    _ => char::from_u32(first).ok_or_else(|| self.bad("half of a surrogate pair"))?,
                }
            }
            _ => return Err(self.bad("an unknown escape")),
        })
    }

    fn hex(&mut self) -> Result<u32, BadJson> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or_else(|| self.bad("the string does not end"))?;
        let mut value = 0;
        for &digit in digits {
            value = value * 16 + (digit as char).to_digit(16).ok_or_else(|| self.bad("expected four hexadecimal digits"))?;
        }
        self.at += 4;
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), BadJson> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.bad("expected a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Dynamic, BadJson> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let first = self.at;
        self.digits()?;
        if leading_zero && self.at > first + 1 {
            return Err(self.bad("a number does not begin with 0"));
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            whole = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        if whole && text != "-0" {
            return Ok(text.parse::<i64>().map_or_else(|_| Dynamic::from(Number(text.into())), Dynamic::from));
        }
        Ok(match text.parse::<f64>() {
            Ok(float) if holds(float, text) => float.into(),
            _ => Dynamic::from(Number(text.into())),
        })
    }
}

/// Whether the shortest text of `float` stands for the same decimal as `text`.
fn holds(float: f64, text: &str) -> bool {
    float.is_finite() && normal(&format!("{float:e}")) == normal(text)
}

/// A decimal's digits without zeros at either end, and its exponent if they stood behind a point; the sign is kept apart.
fn normal(text: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    // A huge exponent is not a number that a float holds; any value that differs from its own will do.
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MAX / 2);
    let mut point = exponent.saturating_add(whole.len() as i64) - (all.len() - digits.len()) as i64;
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        point = 0;
    }
    (negative, digits.to_owned(), point)
}

/// Writes a script's value as JSON text of at most `most` bytes; `what` names it in the error.
pub(super) fn write(value: &Dynamic, what: impl Display, most: usize) -> Result<String, Fault> {
    Writer::new(most).written(value, what)
}

/// Writes a value that is shown and never stored: as `write`, but a secret becomes its name.
pub(super) fn write_shown(value: &Dynamic, what: impl Display, most: usize) -> Result<String, Fault> {
    Writer { names_secrets: true, ..Writer::new(most) }.written(value, what)
}

/// Writes a value for a log line: as `write`, but a secret becomes its name, and what cannot be stored a text in its place.
pub(super) fn write_loosely(value: &Dynamic, most: usize) -> String {
    let mut writer = Writer { loose: true, names_secrets: true, ..Writer::new(most) };
    match writer.value(value) {
        Ok(()) => writer.out,
        Err(_) => format!("\"(more than {most} bytes)\""),
    }
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(&mut out, text);
    out
}

/// Why a value was not written.
enum Refused {
    /// Its kind, and what to do about it.
    Kind(&'static str, &'static str),
    /// A secret of this name.
    Secret(Arc<str>),
    Size,
    Depth,
}

/// A part of the way from the whole value to the one that is being written.
enum Part {
    Name(String),
    Index(usize),
}

struct Writer {
    out: String,
    /// The way to what was refused, from its end.
    path: Vec<Part>,
    depth: usize,
    most: usize,
    /// Whether what cannot be stored is written as a text that says what it is.
    loose: bool,
    /// Whether a secret is written as its name.
    names_secrets: bool,
}

impl Writer {
    fn new(most: usize) -> Writer {
        Writer { out: String::new(), path: Vec::new(), depth: 0, most, loose: false, names_secrets: false }
    }

    fn written(mut self, value: &Dynamic, what: impl Display) -> Result<String, Fault> {
        match self.value(value) {
            Ok(()) => Ok(self.out),
            Err(stop) => Err(self.explain(stop, what)),
        }
    }

    fn explain(&self, stop: Refused, what: impl Display) -> Fault {
        let mut place = what.to_string();
        for part in self.path.iter().rev() {
            match part {
                Part::Name(name) => {
                    let _ = write!(place, ".{name}");
                }
                Part::Index(at) => {
                    let _ = write!(place, "[{at}]");
                }
            }
        }
        match stop {
            Refused::Kind(kind, help) => {
                Thrown::last("E0404", format!("{place} is {kind}, which cannot be stored as JSON")).help(help).fault()
            }
            Refused::Secret(name) => Thrown::last("E0406", format!("{place} is the secret {name}, and a secret is never stored"))
                .help("leave it out of the value; http::, hmac:: and auth take the secret itself")
                .fault(),
            Refused::Size => Thrown::new("E0405", format!("{what} is larger than {} bytes", self.most))
                .help("store it elsewhere and return a reference to it")
                .fault(),
            Refused::Depth => Thrown::last("E0404", format!("{what} has more than {DEPTH_MOST} arrays and maps in each other")).fault(),
        }
    }

    fn value(&mut self, value: &Dynamic) -> Result<(), Refused> {
        if self.out.len() > self.most {
            return Err(Refused::Size);
        }
        if value.is_unit() {
            self.out.push_str("null");
        } else if let Ok(flag) = value.as_bool() {
            self.out.push_str(if flag { "true" } else { "false" });
        } else if let Ok(number) = value.as_int() {
            self.out.push_str(itoa::Buffer::new().format(number));
        } else if let Ok(number) = value.as_float() {
            self.float(number)?;
        } else if let Ok(letter) = value.as_char() {
            quote(&mut self.out, letter.encode_utf8(&mut [0; 4]));
        } else if let Some(text) = value.read_lock::<ImmutableString>() {
            if self.out.len() + text.len() > self.most {
                return Err(Refused::Size);
            }
            quote(&mut self.out, &text);
        } else if let Some(array) = value.read_lock::<Array>() {
            self.array(&array)?;
        } else if let Some(map) = value.read_lock::<Map>() {
            self.map(&map)?;
        } else {
            self.other(value)?;
        }
        if self.out.len() > self.most { Err(Refused::Size) } else { Ok(()) }
    }

    fn inner(&mut self, item: &Dynamic, part: impl FnOnce() -> Part) -> Result<(), Refused> {
        self.depth += 1;
        let result = match self.depth > DEPTH_MOST {
            true if self.loose => {
                self.out.push_str("\"(too deep)\"");
                Ok(())
            }
            true => Err(Refused::Depth),
            false => self.value(item),
        };
        self.depth -= 1;
        if result.is_err() {
            self.path.push(part());
        }
        result
    }

    fn float(&mut self, number: f64) -> Result<(), Refused> {
        if !number.is_finite() && self.loose {
            quote(&mut self.out, &number.to_string());
            return Ok(());
        }
        if !number.is_finite() {
            return Err(Refused::Kind("not a finite number", "JSON has no infinity and no NaN; return a text or () instead"));
        }
        // Rust's `{:?}` is the shortest text that reads back as the same float, always with a point or an exponent.
        let _ = write!(self.out, "{number:?}");
        Ok(())
    }

    fn array(&mut self, array: &Array) -> Result<(), Refused> {
        self.out.push('[');
        for (at, item) in array.iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            self.inner(item, || Part::Index(at))?;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, map: &Map) -> Result<(), Refused> {
        self.out.push('{');
        for (at, (name, item)) in map.iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            quote(&mut self.out, name);
            self.out.push(':');
            self.inner(item, || Part::Name(name.to_string()))?;
        }
        self.out.push('}');
        Ok(())
    }

    fn other(&mut self, value: &Dynamic) -> Result<(), Refused> {
        if let Some(number) = value.read_lock::<Number>() {
            self.out.push_str(&number.0);
        } else if let Some(moment) = value.read_lock::<Moment>() {
            quote(&mut self.out, &moment.to_string());
        } else if let Some(period) = value.read_lock::<Period>() {
            quote(&mut self.out, &period.to_string());
        } else if let Some(secret) = value.read_lock::<Secret>() {
            if !self.names_secrets {
                return Err(Refused::Secret(Arc::clone(&secret.name)));
            }
            quote(&mut self.out, &format!("«secret {}»", secret.name));
        } else if let Some(json) = error::as_json(value) {
            // What `settle` gives of a branch that failed is mostly what a handler returns.
            self.out.push_str(&json.to_string());
        } else {
            let (kind, help) = match value.type_name() {
                _ if value.is::<FnPtr>() => ("a closure", "call it and return what it gives"),
                name if name.contains("Range") => ("a range", "return an array, such as [1, 2, 3]"),
                name if name.contains("Instant") => ("a timestamp", "use now()"),
                name if name.contains("Vec<u8>") || name == "blob" => ("a blob", "return a text or an array instead"),
                name if name.contains("RunHandle") => ("the run itself", "return one of its fields, such as run.id"),
                _ => ("of a type of the engine's own", "return a text, a number, an array or a map"),
            };
            if !self.loose {
                return Err(Refused::Kind(kind, help));
            }
            quote(&mut self.out, &format!("({kind})"));
        }
        Ok(())
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        write(&read(text).expect(text), "it", 1_000_000).expect(text)
    }

    #[test]
    fn json_comes_back_as_it_was() {
        for text in [
            "null",
            "true",
            "[]",
            "{}",
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "123456789012345678901234567890",
            "0.1",
            "1.5",
            "-2.5e-7",
            "0.1234567890123456789",
            "1e400",
            r#""a\"b\\c\n\u0001é😀""#,
            r#"{"a":[1,{"b":null}],"z":"x"}"#,
        ] {
            assert_eq!(again(text), text);
        }
    }

    #[test]
    fn escapes_and_surrogate_pairs_are_read() {
        assert_eq!(again(r#""\ud83d\ude00 \u00e9 \/""#), r#""😀 é /""#);
        for text in [r#""\ud83d""#, r#""\ud83dx""#, r#""\udc00""#, r#""\u12g4""#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, at) in [("", 0), ("[1,]", 3), ("{\"a\" 1}", 5), ("01", 2), ("1.", 2), ("nul", 0), ("1 2", 2), ("\"a\nb\"", 2)] {
            assert_eq!(read(text).map_err(|bad| bad.at).err(), Some(at), "{text:?}");
        }
        assert!(read(&"[".repeat(10_000)).is_err());
    }

    #[test]
    fn whole_floats_stay_floats_and_equal_decimals_are_held() {
        assert_eq!(again("1.0"), "1.0");
        assert_eq!(again("1.10"), "1.1");
        assert_eq!(again("100000000000000000000.0"), "1e20");
        assert_eq!(again("-0"), "-0.0");
    }
}
