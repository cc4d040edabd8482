//! What a function's declaration asks for, as plain values: the config reads them, the rules obey them.

use crate::base::{Millis, Span};

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

/// How the waits between attempts grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// The default table.
    Table,
    /// Twice as long each time.
    Exponential,
    /// Longer by the first wait each time.
    Linear,
    /// Always the same.
    Fixed,
}

impl Growth {
    /// The words that a config and a script write.
    pub const WORDS: [(&'static str, Growth); 4] =
        [("table", Growth::Table), ("exponential", Growth::Exponential), ("linear", Growth::Linear), ("fixed", Growth::Fixed)];

    /// What else a back-off may say that has no effect on one of this kind.
    pub fn idle(self) -> &'static [&'static str] {
        match self {
            Growth::Table => &["initial", "max", "jitter"],
            Growth::Fixed => &["max"],
            Growth::Exponential | Growth::Linear => &[],
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        Growth::WORDS.iter().find(|(_, growth)| *growth == self).map_or("", |(word, _)| word)
    }
}

/// A back-off as a config or a script asks for it; what it leaves out has its default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waits {
    /// How the waits grow. Default: by the table; `exponential` as soon as one of the others is given.
    pub growth: Option<Growth>,
    /// The first wait; default 15 s.
    pub initial: Option<Span>,
    /// The longest wait; default 2 h.
    pub max: Option<Span>,
    /// The share of a wait that is added or taken away at random, at most; default 0.2.
    pub jitter: Option<f64>,
}

impl Waits {
    /// The back-off in force.
    pub fn backoff(self) -> Backoff {
        let shaped = self.initial.is_some() || self.max.is_some() || self.jitter.is_some();
        let growth = self.growth.unwrap_or(if shaped { Growth::Exponential } else { Growth::Table });
        let (initial, jitter) = (self.initial.unwrap_or(Span::seconds(15)), self.jitter.unwrap_or(0.2));
        // A first wait that is longer than the default maximum stands by itself.
        let max = self.max.unwrap_or(Span::seconds(2 * 60 * 60).max(initial));
        match growth {
            Growth::Table => Backoff::Table,
            Growth::Exponential => Backoff::Exponential { initial, max, jitter },
            Growth::Linear => Backoff::Linear { initial, max, jitter },
            Growth::Fixed => Backoff::Fixed { initial, jitter },
        }
    }
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

impl Timeouts {
    /// When a run has to have begun that enters the queue at `enter`; none where nothing says so. `resumed` is when its function was
    /// resumed last: the time that it was paused does not count.
    pub fn latest_start(self, enter: Millis, resumed: Option<Millis>) -> Option<Millis> {
        Some(resumed.map_or(enter, |resumed| resumed.max(enter)).after(self.start?))
    }

    /// When a run has to have ended that began at `started`; none where nothing says so.
    pub fn latest_end(self, started: Millis) -> Option<Millis> {
        Some(started.after(self.finish?))
    }
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
