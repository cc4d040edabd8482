//! The gates between an event and a run, each for itself: `rate_limit`, `singleton`, and `throttle`, which stands in the queue.
//!
//! `matching::plan` asks them in their order. What they count or look up is handed to them: nothing here reads anything.

pub mod collect;
pub mod rate_limit;
pub mod singleton;
pub mod throttle;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{Id, Millis, RunId};

pub use collect::{Collect, Last, Open, Seat};
pub use rate_limit::{RateLimit, Room};
pub use singleton::{Holder, Singleton};
pub use throttle::{Bucket, Throttle};

/// What a function declares beside `if`, `idempotency`, `concurrency` and `priority`, with its keys evaluated on an event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gates {
    /// `rate_limit`, and its key's value; `null` where it has no key or the key is null.
    pub rate_limit: Option<(RateLimit, Arc<str>)>,
    /// `debounce` or `batch`, and its key's value; `null` where it has no key. None where the key of a debounce is null, which means
    /// that it does not apply.
    pub collect: Option<(Collect, Arc<str>)>,
    /// `singleton`, and its key's value; none where the key is null, which means that it does not apply.
    pub singleton: Option<(Singleton, Arc<str>)>,
    /// The value of the throttle's key; `null` where it has no key or the key is null.
    pub throttle: Option<Arc<str>>,
}

impl Gates {
    /// Whether the decision needs to know anything beside the event.
    pub fn asks(&self) -> bool {
        self.rate_limit.is_some() || self.collect.is_some() || self.singleton.is_some()
    }

    /// The key values that a run keeps; none where there are none.
    pub fn keys(&self) -> Option<Arc<GateKeys>> {
        let keys = GateKeys {
            singleton: self.singleton.as_ref().map(|(_, key)| Arc::clone(key)),
            throttle: self.throttle.clone(),
            collect: self.collect.as_ref().map(|(_, key)| Arc::clone(key)),
        };
        (keys != GateKeys::default()).then(|| Arc::new(keys))
    }
}

/// The key values of a run that its gates need after its start, as canonical JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GateKeys {
    /// Of `singleton`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub singleton: Option<Arc<str>>,
    /// Of `throttle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Arc<str>>,
    /// Of `debounce` or `batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect: Option<Arc<str>>,
}

/// What the engine's indexes say about a candidate at the time of its decision.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// The run that has its idempotency key.
    pub taken: Option<RunId>,
    /// What is left of its rate limit.
    pub room: Option<Room>,
    /// Where it has its place among the events that are collected.
    pub seat: Option<Seat>,
    /// The unfinished run that has its singleton's key.
    pub holder: Option<Holder>,
}

/// A gate that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Gate {
    /// Each event that it let through is a row.
    RateLimit = 0,
    /// One row a key.
    Throttle = 1,
}

impl Gate {
    /// The gate with this stored number.
    pub fn from_number(number: i64) -> Option<Gate> {
        [Gate::RateLimit, Gate::Throttle].into_iter().find(|gate| *gate as i64 == number)
    }
}

/// What one key of a counting gate has counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    /// The function's id.
    pub function: Arc<str>,
    /// Which gate.
    pub gate: Gate,
    /// The key's value as canonical JSON text.
    pub key: Arc<str>,
}

/// A row of a counting gate. It means nothing once it has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRow {
    /// Whose it is.
    pub window: WindowKey,
    /// What it is about: the event that a rate limit let through; 0 for a throttle. One that is there already is replaced.
    pub entry: Id,
    /// When the event was let through, in milliseconds; where a throttle's bucket stands, in microseconds.
    pub value: i64,
    /// From then on it counts no more.
    pub expires: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_stored_by_its_number() {
        for gate in [Gate::RateLimit, Gate::Throttle] {
            assert_eq!(Gate::from_number(gate as i64), Some(gate));
        }
        assert_eq!(Gate::from_number(9), None);
    }

    #[test]
    fn a_run_keeps_the_keys_that_matter_after_its_start() {
        let limit = RateLimit { limit: 1, period: crate::base::Span::seconds(1) };
        let only_counted = Gates { rate_limit: Some((limit, "1".into())), ..Gates::default() };
        assert_eq!((only_counted.asks(), only_counted.keys()), (true, None));
        let throttled = Gates { throttle: Some("1".into()), ..Gates::default() };
        assert!(!throttled.asks());
        let keys = throttled.keys().expect("a key");
        let text = serde_json::to_string(&*keys).expect("JSON");
        assert_eq!(text, r#"{"throttle":"1"}"#);
        assert_eq!(serde_json::from_str::<GateKeys>(&text).expect("read back"), *keys);
    }
}
