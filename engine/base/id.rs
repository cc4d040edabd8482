//! Ids made by the engine: 63-bit integers that sort by time, shown as 13 characters.
//!
//! Layout, high to low: 41 bits of milliseconds since 2024-01-01 UTC, 10 bits of partition, 12 bits of sequence.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};

use super::time::Millis;

/// 2024-01-01T00:00:00Z in milliseconds since 1970.
pub const EPOCH_MS: i64 = 1_704_067_200_000;
const PARTITION_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
/// Crockford's base32 (https://www.crockford.com/base32.html), in lower case for people's eyes.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 13;

/// An id of an event or a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub i64);

/// The id of an accepted event.
pub type EventId = Id;
/// The id of a run.
pub type RunId = Id;

/// What is wrong with a text that should be an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 1 to 13 characters of 0-9 and a-z without i, l, o, u")]
pub struct BadId;

impl Id {
    /// When the id was made, to the millisecond.
    pub fn made_at(self) -> Millis {
        Millis((self.0 >> (PARTITION_BITS + SEQUENCE_BITS)) + EPOCH_MS)
    }

    /// The smallest id that can be made at `time`.
    pub fn first_at(time: Millis) -> Id {
        let most = i64::MAX >> (PARTITION_BITS + SEQUENCE_BITS);
        Id(time.0.saturating_sub(EPOCH_MS).clamp(0, most) << (PARTITION_BITS + SEQUENCE_BITS))
    }

    /// The smallest and the largest id whose text begins with `prefix`.
    ///
    /// # Errors
    /// `BadId` where `prefix` is empty, too long, or holds a character that no id has.
    pub fn range_of_prefix(prefix: &str) -> Result<(Id, Id), BadId> {
        if prefix.is_empty() || prefix.len() > DIGITS {
            return Err(BadId);
        }
        let mut value: u128 = 0;
        for byte in prefix.bytes() {
            let digit = digit_of(byte).ok_or(BadId)?;
            value = (value << 5) | u128::from(digit);
        }
        let rest = 5 * (DIGITS - prefix.len()) as u32;
        let low = value << rest;
        let high = low | ((1u128 << rest) - 1);
        let most = i64::MAX as u128;
        if low > most {
            return Err(BadId);
        }
        Ok((Id(low as i64), Id(high.min(most) as i64)))
    }
}

fn digit_of(byte: u8) -> Option<u8> {
    let lower = match byte.to_ascii_lowercase() {
        b'o' => b'0',
        b'i' | b'l' => b'1',
        other => other,
    };
    ALPHABET.iter().position(|&c| c == lower).map(|at| at as u8)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; DIGITS];
        let mut value = self.0 as u64;
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[(value & 31) as usize];
            value >>= 5;
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Id, BadId> {
        if text.len() != DIGITS {
            return Err(BadId);
        }
        Id::range_of_prefix(text).map(|(low, _)| low)
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A map by ids of the engine's own making.
pub type IdMap<V> = HashMap<Id, V, BuildHasherDefault<IdHasher>>;
/// A set of them.
pub type IdSet = HashSet<Id, BuildHasherDefault<IdHasher>>;
/// A map by numbers that nobody outside chooses.
pub type NumberMap<V> = HashMap<u32, V, BuildHasherDefault<IdHasher>>;

/// Hashes the ids that the engine makes itself: nobody chooses them to collide, so one multiplication serves.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_i64(i64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_i64(i64::from(number));
    }

    fn write_i64(&mut self, number: i64) {
        // The golden ratio's bits; the map takes its place from the high and the low bits alike.
        let mixed = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// The hash of an id, for tables that hold no ids themselves.
pub fn hash_of(id: Id) -> u64 {
    BuildHasherDefault::<IdHasher>::default().hash_one(id)
}

/// Makes ids that only ever grow, also when the clock goes back.
#[derive(Debug)]
pub struct IdMaker {
    last: AtomicI64,
}

impl IdMaker {
    /// A maker whose ids are all above `largest_stored` (0 for an empty store).
    pub fn above(largest_stored: Id) -> IdMaker {
        IdMaker { last: AtomicI64::new(largest_stored.0) }
    }

    /// The next id, at least as late as `now`.
    pub fn next(&self, now: Millis) -> Id {
        let from_clock = (now.0 - EPOCH_MS).max(0) << (PARTITION_BITS + SEQUENCE_BITS);
        let advance = |last: i64| Some((last + 1).max(from_clock));
        match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance) {
            Ok(last) | Err(last) => Id((last + 1).max(from_clock)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_goes_back() {
        let maker = IdMaker::above(Id(0));
        let first = maker.next(Millis(EPOCH_MS + 5_000));
        let second = maker.next(Millis(EPOCH_MS));
        assert!(second > first, "{second:?} after {first:?}");
        assert_eq!(first.made_at(), Millis(EPOCH_MS + 5_000));
        assert_eq!(Id::first_at(first.made_at()), first);
        assert!(Id::first_at(Millis(i64::MIN)) == Id(0) && Id::first_at(Millis(i64::MAX)) > first);
    }

    #[test]
    fn text_and_prefix_lead_back_to_the_id() {
        let id = IdMaker::above(Id(0)).next(Millis(EPOCH_MS + 123_456_789_000));
        let text = id.to_string();
        assert_eq!(text.len(), 13);
        assert_eq!(text.parse::<Id>(), Ok(id));
        let (low, high) = Id::range_of_prefix(&text[..8]).expect("a prefix of an id");
        assert!(low <= id && id <= high);
        assert!(Id::range_of_prefix("u").is_err());
    }
}
