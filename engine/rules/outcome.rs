//! Why an event did not simply start a run of a function: what the gates that it came to said.
//!
//! What an event started is found by the runs' own rows, and what an `if` said is evaluated anew when somebody asks, so an
//! event that meets no gate writes nothing here. The runs that it cancelled by `cancel_on` stand here too: nothing else leads to them.

use std::sync::Arc;

use crate::base::{Id, Millis, RunId};

/// The number of the first kind of a stored cancel; each further run of the function has the next one.
const CANCELLED: u8 = 7;
/// Runs of one function that an event cancelled and that are noted with it; it may have cancelled more.
pub const CANCELS_NOTED: u8 = 100;

/// What a gate said about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A run of the function has the idempotency key already: nothing was started.
    IdempotencyTaken(RunId),
    /// The rate limit was reached: nothing is started for this key before `until`.
    RateLimited {
        /// When the limit lets the next one through.
        until: Millis,
    },
    /// It became the event of a run that waits for quiet.
    DebouncedInto(RunId),
    /// It was added to a batch.
    BatchedInto(RunId),
    /// A run of the same key had not ended: nothing was started.
    SingletonSkipped(RunId),
    /// A run of the same key was cancelled for the one that it started.
    SingletonReplaced(RunId),
    /// The same id was sent again then (for the last time so far): the sender got this event's id, and nothing was
    /// started. It stands under the event's own name.
    Repeated {
        /// When it was sent again.
        at: Millis,
    },
    /// It cancelled a run of the function by `cancel_on`.
    Cancelled {
        /// The run.
        run: RunId,
        /// Its place among those of its function that the event cancelled, from 0, below `CANCELS_NOTED`.
        nth: u8,
    },
}

/// An outcome, and of which function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutcomeRow {
    /// The function's id; for `Repeated` the event's name.
    pub function: Arc<str>,
    /// What the gate said.
    pub outcome: Outcome,
}

impl Outcome {
    /// The stored numbers: which outcome, and its run or time.
    pub fn numbers(self) -> (u8, i64) {
        match self {
            Outcome::IdempotencyTaken(run) => (0, run.0),
            Outcome::RateLimited { until } => (1, until.0),
            Outcome::DebouncedInto(run) => (2, run.0),
            Outcome::BatchedInto(run) => (3, run.0),
            Outcome::SingletonSkipped(run) => (4, run.0),
            Outcome::SingletonReplaced(run) => (5, run.0),
            Outcome::Repeated { at } => (6, at.0),
            Outcome::Cancelled { run, nth } => (CANCELLED + nth.min(CANCELS_NOTED - 1), run.0),
        }
    }

    /// The outcome with these stored numbers.
    pub fn from_numbers(kind: i64, value: i64) -> Option<Outcome> {
        Some(match kind {
            0 => Outcome::IdempotencyTaken(Id(value)),
            1 => Outcome::RateLimited { until: Millis(value) },
            2 => Outcome::DebouncedInto(Id(value)),
            3 => Outcome::BatchedInto(Id(value)),
            4 => Outcome::SingletonSkipped(Id(value)),
            5 => Outcome::SingletonReplaced(Id(value)),
            6 => Outcome::Repeated { at: Millis(value) },
            kind => {
                let nth = u8::try_from(kind).ok()?.checked_sub(CANCELLED).filter(|nth| *nth < CANCELS_NOTED)?;
                Outcome::Cancelled { run: Id(value), nth }
            }
        })
    }

    /// The word that people and the API see.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::IdempotencyTaken(_) => "idempotency_taken",
            Outcome::RateLimited { .. } => "rate_limited",
            Outcome::DebouncedInto(_) => "debounced_into",
            Outcome::BatchedInto(_) => "batched_into",
            Outcome::SingletonSkipped(_) => "singleton_skipped",
            Outcome::SingletonReplaced(_) => "singleton_replaced",
            Outcome::Repeated { .. } => "repeated",
            Outcome::Cancelled { .. } => "cancelled",
        }
    }

    /// The run that it names.
    pub fn run(self) -> Option<RunId> {
        match self {
            Outcome::IdempotencyTaken(run)
            | Outcome::DebouncedInto(run)
            | Outcome::BatchedInto(run)
            | Outcome::SingletonSkipped(run)
            | Outcome::SingletonReplaced(run)
            | Outcome::Cancelled { run, .. } => Some(run),
            Outcome::RateLimited { .. } | Outcome::Repeated { .. } => None,
        }
    }

    /// Whether the event started no run of the function, nor became part of one.
    pub fn is_skip(self) -> bool {
        matches!(self, Outcome::IdempotencyTaken(_) | Outcome::RateLimited { .. } | Outcome::SingletonSkipped(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_comes_back_from_its_numbers() {
        let mut words = std::collections::HashSet::new();
        for kind in 0..=7 {
            let outcome = Outcome::from_numbers(kind, 77).expect("an outcome");
            assert_eq!(outcome.numbers(), (kind as u8, 77));
            assert!(words.insert(outcome.word()), "{} twice", outcome.word());
            assert_eq!(outcome.run().is_some(), !matches!(kind, 1 | 6));
        }
        let last = Outcome::Cancelled { run: Id(77), nth: CANCELS_NOTED - 1 };
        assert_eq!(Outcome::from_numbers(last.numbers().0.into(), 77), Some(last));
        assert_eq!(Outcome::from_numbers(i64::from(CANCELLED + CANCELS_NOTED), 0), None);
        assert_eq!(Outcome::from_numbers(256 + 7, 0), None);
        assert_eq!(Outcome::from_numbers(-1, 0), None);
    }
}
