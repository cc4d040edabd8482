//! Lengths of time and numbers of bytes as they are written in the file.

use std::fmt;
use std::str::FromStr;

use crate::base::{Diagnostic, Span};

use super::reader::{Reader, Value, wrong};
use super::tree::{Node, Shape};

/// Longest time that the file may name: a hundred years, so that no sum of times overflows.
const SPAN_MOST: Span = Span(100 * 366 * 86_400_000);

impl Value for Span {
    fn read(node: &Node, reader: &mut Reader) -> Option<Span> {
        let expected = "a duration such as 30s, 5m, 2h, 7d or 1h30m";
        let text = match &node.shape {
            Shape::Text(text) => text,
            Shape::Integer(number) => {
                let problem = Diagnostic::error("E0109", format!("`{number}` has no unit")).at(node.place.clone());
                reader.note(problem.help(format!("for seconds write `{number}s`")));
                return None;
            }
            _ => {
                reader.wrong(node, expected);
                return None;
            }
        };
        match text.parse::<Span>() {
            Ok(span) if span <= SPAN_MOST => Some(span),
            Ok(_) => {
                reader.note(Diagnostic::error("E0109", format!("`{text}` is more than 100 years")).at(node.place.clone()));
                None
            }
            Err(_) => {
                reader.note(
                    Diagnostic::error("E0109", format!("`{text}` is not a duration"))
                        .labelled(node.place.clone(), format!("expected {expected}"))
                        .help("units are ms, s, m, h, d and w, without spaces, the largest first"),
                );
                None
            }
        }
    }
}

/// A number of bytes, written `64MB`, `512KB` or as a plain number; the units count by 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// What is wrong with a text that should be a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write 512KB, 64MB or 1GB")]
pub struct BadSize(pub String);

const UNITS: [(&str, u64); 4] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Size, BadSize> {
        let bad = || BadSize(text.to_owned());
        let upper = text.trim().to_ascii_uppercase().replace("IB", "B");
        let (digits, factor) =
            UNITS.iter().find_map(|(unit, factor)| upper.strip_suffix(unit).map(|digits| (digits, *factor))).ok_or_else(bad)?;
        let number: u64 = digits.trim_end().parse().map_err(|_| bad())?;
        number.checked_mul(factor).map(Size).ok_or_else(bad)
    }
}

impl fmt::Display for Size {
    /// The largest unit that leaves a whole number: `64MB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in UNITS {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Value for Size {
    fn read(node: &Node, reader: &mut Reader) -> Option<Size> {
        let expected = "a size such as 512KB, 64MB or 1GB";
        match &node.shape {
            Shape::Text(text) => text.parse().ok().or_else(|| {
                reader.note(
                    Diagnostic::error("E0110", format!("`{text}` is not a size"))
                        .labelled(node.place.clone(), format!("expected {expected}")),
                );
                None
            }),
            Shape::Integer(number) if u64::try_from(*number).is_ok() => Some(Size(*number as u64)),
            Shape::Integer(number) => {
                reader.note(
                    Diagnostic::error("E0110", format!("`{number}` is not a size"))
                        .labelled(node.place.clone(), format!("expected {expected}")),
                );
                None
            }
            _ => {
                reader.note(wrong(node, expected));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_alike() {
        for text in ["64MB", "1GB", "512KB", "3B", "0B"] {
            assert_eq!(text.parse::<Size>().map(|size| size.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("16 mib".parse(), Ok(Size(16 << 20)));
        for text in ["", "MB", "-1MB", "1.5MB", "1TB", "1 000KB", "99999999999GB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
