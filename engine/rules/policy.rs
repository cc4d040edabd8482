//! What a function's declaration asks for, as plain values: the config reads them, the rules obey them.

use crate::base::Span;

/// How often something is tried, and how long the engine waits between the tries.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries in all, the first one included: `retries: 3` is 4 attempts.
    pub attempts: u32,
    /// How the waits grow.
    pub backoff: Backoff,
}

/// How the waits between attempts grow. Every kind adds jitter.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// The default: 15 s, 30 s, 1, 2, 5, 10, 20, 40 min, 1 h, then 2 h, plus up to 30 s
    /// (the table that Inngest documents at "Retries").
    Table,
    /// `initial`, then twice as long each time, at most `max`.
    Exponential {
        /// The first wait.
        initial: Span,
        /// The longest wait.
        max: Span,
        /// Share of the wait that is added or taken away at most, 0 to 1.
        jitter: f64,
    },
    /// `initial`, then `initial` more each time, at most `max`.
    Linear {
        /// The first wait and what is added each time.
        initial: Span,
        /// The longest wait.
        max: Span,
        /// Share of the wait that is added or taken away at most, 0 to 1.
        jitter: f64,
    },
    /// Always `initial`.
    Fixed {
        /// Each wait.
        initial: Span,
        /// Share of the wait that is added or taken away at most, 0 to 1.
        jitter: f64,
    },
}

/// While what a run keeps its concurrency slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// From its first start to its end.
    #[default]
    Run,
    /// Only while it is running; taken again, ahead of runs that have not begun, before it goes on.
    Active,
}

/// One concurrency limit of a function, without its key's expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Runs that may hold a slot at once for one key value; at least 1.
    pub limit: u32,
    /// While what the slot is held.
    pub hold: Hold,
    /// The name under which several functions share the limit.
    pub shared: Option<String>,
}

/// The time-outs of a function's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest stay in the queue before the first start.
    pub start: Option<Span>,
    /// Longest time from the first start to the end.
    pub finish: Option<Span>,
    /// Longest time of one attempt of one step.
    pub step: Span,
}

/// How long ended runs and events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Completed runs.
    pub completed: Span,
    /// Failed runs.
    pub failed: Span,
    /// Cancelled runs.
    pub cancelled: Span,
    /// Events that no kept run names.
    pub events: Span,
}
