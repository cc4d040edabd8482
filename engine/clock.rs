//! The operating system's clock and randomness: the only place that asks for either.
#![allow(clippy::disallowed_methods, reason = "this file is where the rule is kept")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::{Clock, Entropy, Millis, Span, time::Waiting};

/// The longest single wait, so that a jump of the wall clock is noticed soon.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// How long the wall clock is taken to run like the other one before it is looked at again, in milliseconds.
const LOOK_AGAIN_MS: i64 = 10;

/// The wall clock, which never goes back within a process, and never stands still: after somebody has set it back, time
/// goes on from where it was.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
    /// How far the wall clock was ahead of the time since the start, at most.
    ahead_ms: Arc<AtomicI64>,
    /// The time since the start at which the wall clock was last looked at.
    looked_ms: Arc<AtomicI64>,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock { start: Instant::now(), ahead_ms: Arc::new(AtomicI64::new(i64::MIN)), looked_ms: Arc::new(AtomicI64::new(i64::MIN)) }
    }
}

impl SystemClock {
    /// The time when the wall clock shows `wall_ms`, and so much time has gone by since the start.
    fn at(&self, wall_ms: i64, elapsed_ms: i64) -> Millis {
        let ahead = wall_ms - elapsed_ms;
        // The clock is read many times a millisecond: what all threads share is only written where it changes.
        let most = self.ahead_ms.load(Ordering::Relaxed);
        let most = if ahead > most { self.ahead_ms.fetch_max(ahead, Ordering::Relaxed).max(ahead) } else { most };
        Millis(most + elapsed_ms)
    }
}

fn milliseconds(time: Duration) -> i64 {
    time.as_secs() as i64 * 1000 + i64::from(time.subsec_millis())
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        // It is asked a dozen times a run: one of the two clocks is enough most times.
        let elapsed = milliseconds(self.start.elapsed());
        let looked = self.looked_ms.load(Ordering::Acquire);
        if looked != i64::MIN && elapsed - looked < LOOK_AGAIN_MS {
            return Millis(self.ahead_ms.load(Ordering::Relaxed) + elapsed);
        }
        // In this order: a thread that is held up between the two must not count the time as one that was set forward.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds);
        let elapsed = milliseconds(self.start.elapsed());
        let now = self.at(wall, elapsed);
        // Only once `ahead_ms` is known may others go by it.
        self.looked_ms.store(elapsed, Ordering::Release);
        now
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
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_and_one_that_is_set_forward_jumps() {
        let clock = SystemClock::default();
        assert_eq!(clock.at(1_000_000, 0), Millis(1_000_000));
        assert_eq!(clock.at(400_100, 100), Millis(1_000_100), "set back");
        assert_eq!(clock.at(401_000, 1_000), Millis(1_001_000), "and goes on");
        assert_eq!(clock.at(9_000_000, 2_000), Millis(9_000_000), "set forward");
        assert_eq!(clock.at(8_999_995, 2_000), Millis(9_000_000), "never back");
    }
}
