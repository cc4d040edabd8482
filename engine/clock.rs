//! The operating system's clock and randomness: the only place that asks for either.
#![allow(clippy::disallowed_methods, reason = "this file is where the rule is kept")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::{Clock, Entropy, Millis, Span, time::Waiting};

/// The longest single wait, so that a jump of the wall clock is noticed soon.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// The wall clock, which never goes back within a process.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicI64,
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        Millis(self.latest.fetch_max(now, Ordering::Relaxed).max(now))
    }

    fn sleep_until(&self, until: Millis, _idle: bool) -> Waiting {
        nap(until.since(self.now()))
    }
}

/// A clock that runs like the system's while something is under way, and jumps over waits while nothing is.
#[derive(Debug, Default)]
pub struct JumpingClock {
    system: SystemClock,
    ahead: Arc<AtomicI64>,
}

impl Clock for JumpingClock {
    fn now(&self) -> Millis {
        self.system.now().after(Span(self.ahead.load(Ordering::Relaxed)))
    }

    fn sleep_until(&self, until: Millis, idle: bool) -> Waiting {
        let left = until.since(self.now());
        if idle {
            self.ahead.fetch_add(left.0, Ordering::Relaxed);
            return Box::pin(std::future::ready(()));
        }
        nap(left)
    }
}

fn nap(left: Span) -> Waiting {
    Box::pin(tokio::time::sleep(left.std().min(LONGEST_NAP)))
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
