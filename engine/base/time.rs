//! Points in time and lengths of time, both in milliseconds, and the traits that ask for the real ones.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

/// A point in time: milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

/// A length of time in milliseconds, never negative; written `30s`, `5m`, `2h`, `7d`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub i64);

impl Millis {
    /// This point moved on by `span`; stops at the end of time instead of wrapping.
    pub fn after(self, span: Span) -> Millis {
        Millis(self.0.saturating_add(span.0))
    }

    /// How long `earlier` is ago, seen from here; zero where it is not in the past.
    pub fn since(self, earlier: Millis) -> Span {
        Span((self.0.saturating_sub(earlier.0)).max(0))
    }

    /// RFC 3339 in UTC with milliseconds.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(stamp) => format!("{stamp:.3}"),
            Err(_) => self.0.to_string(),
        }
    }
}

impl Span {
    /// A span of whole seconds.
    pub const fn seconds(seconds: i64) -> Span {
        Span(seconds * 1000)
    }

    /// The same length for the standard library.
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.max(0) as u64)
    }
}

/// What is wrong with a text that should be a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write 500ms, 30s, 5m, 2h, 7d or 1h30m")]
pub struct BadSpan(pub String);

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Span, BadSpan> {
        let bad = || BadSpan(text.to_owned());
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        let mut total: i64 = 0;
        let mut last_unit = i64::MAX;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = match &rest[..letters] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                _ => return Err(bad()),
            };
            if unit >= last_unit {
                return Err(bad());
            }
            last_unit = unit;
            total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
            rest = &rest[letters..];
        }
        Ok(Span(total))
    }
}

impl fmt::Display for Span {
    /// The same notation that is parsed: `1h30m`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            if rest >= unit {
                write!(f, "{}{name}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

/// A future that is handed around without its type.
pub type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells the time and waits for it. Implemented on the operating system by `clock` alone.
pub trait Clock: Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> Millis;

    /// Is ready when it is `until`.
    ///
    /// `idle` says that nothing else is under way in the engine: a virtual clock then jumps to `until` at once,
    /// and while something is under way it waits until the caller asks again.
    fn sleep_until(&self, until: Millis, idle: bool) -> Waiting;
}

/// Gives random numbers. Implemented on the operating system by `clock` alone.
pub trait Entropy: Send + Sync {
    /// 64 random bits.
    fn next(&self) -> u64;

    /// A number from 0 (included) to 1 (excluded), of 53 random bits.
    fn unit(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Where in its range a wait with jitter falls: as `unit`, but always 0, which means no jitter, in tests of handlers.
    fn jitter(&self) -> f64 {
        self.unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_alike() {
        for text in ["30s", "5m", "2h", "7d", "1h30m", "500ms", "0s"] {
            assert_eq!(text.parse::<Span>().map(|span| span.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "5", "m", "5 m", "-5m", "5m1h", "5x", "99999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
