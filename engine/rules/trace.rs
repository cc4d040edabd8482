//! Where a run belongs among the traces of the systems around it: the trace context that its event brought along, and the ids of
//! its own spans. An id is derived from what the span is about, so a span has the same one whenever it is asked for.
//!
//! The header is W3C's (https://www.w3.org/TR/trace-context/#traceparent-header).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::base::{Json, RunId, hex};

use super::row::RunRow;

/// The header, and the field of `EventRow::extra` that keeps it.
pub const TRACEPARENT: &str = "traceparent";
/// The bit of the flags that asks for the spans to be kept.
const SAMPLED: u8 = 1;

/// What is looked for in `EventRow::extra`; the rest is passed over.
#[derive(Deserialize)]
struct Kept<'a> {
    #[serde(borrow)]
    traceparent: Option<&'a str>,
}

/// The id of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// The id of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// A span, and the trace that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that something is caused by.
    pub span: SpanId,
    /// Its flags, of which one is defined: `is_sampled`.
    pub flags: u8,
}

/// The header is not what it has to be; then it counts as missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent header")]
pub struct BadTraceparent;

/// The trace of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunTrace {
    /// The trace.
    pub trace: TraceId,
    /// The span that the run's event was sent in, where that is known.
    pub parent: Option<SpanId>,
    /// The run's own span.
    pub span: SpanId,
    /// Of the flags that its parent has, the one that is understood; sampled where there is no parent.
    pub flags: u8,
    run: RunId,
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = BadTraceparent;

    fn from_str(text: &str) -> Result<TraceContext, BadTraceparent> {
        let mut parts = text.trim().split('-');
        let mut part = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length).ok_or(BadTraceparent)?;
            let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if is_hex { Ok(part) } else { Err(BadTraceparent) }
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // A later version may say more behind; of version 0 that is known to be wrong.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(BadTraceparent);
        }
        let (trace, span) = (TraceId(bytes(trace)?), SpanId(bytes(span)?));
        let [flags] = bytes::<1>(flags)?;
        if trace.0 == [0; 16] || span.0 == [0; 8] { Err(BadTraceparent) } else { Ok(TraceContext { trace, span, flags }) }
    }
}

fn bytes<const N: usize>(hex: &str) -> Result<[u8; N], BadTraceparent> {
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = hex.get(2 * at..2 * at + 2).ok_or(BadTraceparent)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| BadTraceparent)?;
    }
    Ok(bytes)
}

impl TraceContext {
    /// The context that an event was sent in, as `EventRow::extra` keeps it.
    pub fn of_event(extra: Option<&str>) -> Option<TraceContext> {
        // Most events have none, and for those nothing is parsed.
        let extra = extra.filter(|extra| extra.contains(TRACEPARENT))?;
        let Kept { traceparent } = serde_json::from_str(extra).ok()?;
        traceparent?.parse().ok()
    }

    /// What else came with an event, as JSON, and this context beside it.
    pub fn beside(&self, extra: Option<&str>) -> Json {
        let field = format!("\"{TRACEPARENT}\":\"{self}\"");
        match extra.and_then(|extra| extra.strip_suffix('}')).filter(|rest| rest.len() > 1) {
            Some(rest) => Arc::from(format!("{rest},{field}}}")),
            None => Arc::from(format!("{{{field}}}")),
        }
    }

    /// Whether its spans are to be kept.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Bytes that are the same for the same parts, and for no others.
fn derived<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash.finalize()[..N]);
    // All zeros are no id.
    bytes[N - 1] |= u8::from(bytes == [0; N]);
    bytes
}

impl RunTrace {
    /// The trace of a run; `extra` is its event's.
    pub fn of(run: &RunRow, extra: Option<&str>) -> RunTrace {
        let id = run.id.to_string();
        let incoming = TraceContext::of_event(extra);
        RunTrace {
            trace: incoming.map_or_else(|| TraceId(derived(&["trace", &id, &run.function, &run.created.0.to_string()])), |from| from.trace),
            parent: incoming.map(|from| from.span),
            span: SpanId(derived(&["run", &id])),
            // The others may say of a trace what is not true of what happens here; the standard has them set to zero.
            flags: incoming.map_or(SAMPLED, |from| from.flags & SAMPLED),
            run: run.id,
        }
    }

    /// The span of a step, by the key of its record.
    pub fn step(&self, key: &str) -> SpanId {
        SpanId(derived(&["step", &self.run.to_string(), key]))
    }

    /// Whether its spans are to be kept.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// The context that a step passes on to what it calls, sends or invokes; `exports` says whether the run's own spans are told to
/// anybody. Where they are not, a context that came with the event goes on as it is.
pub fn onward(run: &RunRow, extra: Option<&str>, key: &str, exports: bool) -> Option<TraceContext> {
    of(run, extra, exports, |trace| trace.step(key))
}

/// The context that the end of a run passes on to what follows from it; as `onward`.
pub fn after(run: &RunRow, extra: Option<&str>, exports: bool) -> Option<TraceContext> {
    of(run, extra, exports, |trace| trace.span)
}

fn of(run: &RunRow, extra: Option<&str>, exports: bool, span: impl FnOnce(&RunTrace) -> SpanId) -> Option<TraceContext> {
    if !exports {
        return TraceContext::of_event(extra);
    }
    let trace = RunTrace::of(run, extra);
    Some(TraceContext { trace: trace.trace, span: span(&trace), flags: trace.flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::run::example;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_read_and_written_alike() {
        assert_eq!(HEADER.parse::<TraceContext>().map(|context| context.to_string()), Ok(HEADER.to_owned()));
        let later = format!("cc{}-what-comes", &HEADER[2..]);
        assert_eq!(later.parse::<TraceContext>().map(|context| context.to_string()), Ok(HEADER.to_owned()));
        for bad in [
            "",
            "00",
            &HEADER[..54],
            &HEADER.to_uppercase(),
            &format!("{HEADER}-x"),
            &format!("ff{}", &HEADER[2..]),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(BadTraceparent), "{bad}");
        }
    }

    #[test]
    fn a_context_is_kept_beside_what_came_with_the_event() {
        let context: TraceContext = HEADER.parse().unwrap();
        for extra in [None, Some("{}"), Some(r#"{"user":{"id":1},"v":"2"}"#)] {
            let kept = context.beside(extra);
            assert!(serde_json::from_str::<serde_json::Value>(&kept).is_ok(), "{kept}");
            assert_eq!(TraceContext::of_event(Some(&kept)), Some(context));
        }
        for none in [r#"{"v":"traceparent"}"#, r#"{"traceparent":7}"#, r#"{"traceparent":null}"#, r#"{"traceparent":"x"}"#] {
            assert_eq!(TraceContext::of_event(Some(none)), None, "{none}");
        }
    }

    #[test]
    fn ids_are_derived_and_differ() {
        let run = example();
        let (own, again) = (RunTrace::of(&run, None), RunTrace::of(&run, None));
        assert_eq!(own, again);
        assert!(own.parent.is_none() && own.is_sampled());
        let ids = [own.span, own.step("a"), own.step("a#2"), own.step("")];
        assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)), "{ids:?}");
        let context: TraceContext = HEADER.parse().unwrap();
        let extra = context.beside(None);
        let within = RunTrace::of(&run, Some(&extra));
        assert_eq!((within.trace, within.parent, within.span), (context.trace, Some(context.span), own.span));
        // Without spans of its own, a run passes on what it got.
        assert_eq!(onward(&run, Some(&extra), "a", false), Some(context));
        assert_eq!(onward(&run, None, "a", false), None);
        assert_eq!(onward(&run, Some(&extra), "a", true).map(|onward| onward.span), Some(own.step("a")));
        // Flags that are not understood are not passed on by a run that has spans.
        for (flags, passed) in [(0xff, SAMPLED), (0xfe, 0)] {
            let extra = TraceContext { flags, ..context }.beside(None);
            assert_eq!(onward(&run, Some(&extra), "a", true).map(|onward| onward.flags), Some(passed));
        }
    }
}
