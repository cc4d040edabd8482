//! The operating system's clock and randomness: the only place that asks for either.
#![allow(clippy::disallowed_methods, reason = "this file is where the rule is kept")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::{Clock, Entropy, Millis, Span, time::Waiting};

/// The longest single wait, so that a jump of the wall clock is noticed soon.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// The wall clock, which never goes back within a process.
#[derive(Debug, Default, Clone)]
pub struct SystemClock {
    latest: Arc<AtomicI64>,
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        // The clock is read many times within a millisecond: only the first read of one writes what all threads share.
        let latest = self.latest.load(Ordering::Relaxed);
        Millis(if now > latest { self.latest.fetch_max(now, Ordering::Relaxed).max(now) } else { latest })
    }

    fn sleep_until(&self, until: Millis, _idle: bool) -> Waiting {
        Box::pin(nap(self.clone(), until))
    }
}

/// A clock that runs like the system's while something is under way, and jumps over waits while nothing is.
#[derive(Debug, Default, Clone)]
pub struct JumpingClock {
    system: SystemClock,
    ahead: Arc<AtomicI64>,
}

impl Clock for JumpingClock {
    fn now(&self) -> Millis {
        self.system.now().after(Span(self.ahead.load(Ordering::Relaxed)))
    }

    fn sleep_until(&self, until: Millis, idle: bool) -> Waiting {
        let clock = self.clone();
        Box::pin(async move {
            if idle {
                clock.ahead.fetch_add(until.since(clock.now()).0, Ordering::Relaxed);
            }
            nap(clock, until).await;
        })
    }
}

/// Sleeps in short naps until the clock says that it is time.
async fn nap(clock: impl Clock, until: Millis) {
    loop {
        let left = until.since(clock.now());
        if left == Span(0) {
            return;
        }
        tokio::time::sleep(left.std().min(LONGEST_NAP)).await;
    }
}

/// The operating system's random numbers.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next(&self) -> u64 {
        getrandom::u64().unwrap_or_else(|_| {
            // Without the system's entropy the time still keeps two draws apart; ids do not depend on it.
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
        })
    }
}

/// Measures how long something takes, for benchmarks and progress alone: no rule ever sees it.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// The time since its start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// 24 random bytes for a key or token.
///
/// # Errors
/// Where the system has no randomness to give: a guessable key is worse than none.
pub fn secret_bytes() -> std::io::Result<[u8; 24]> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}
