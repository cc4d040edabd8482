//! The operating system's clock and randomness: the only place that asks for either.
#![allow(clippy::disallowed_methods, reason = "this file is where the rule is kept")]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::{Clock, Entropy, Millis, Span, time::Waiting};

/// The longest single wait, so that a jump of the wall clock is noticed soon.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// How long the wall clock is taken to run like the other one before it is looked at again, in milliseconds.
const LOOK_AGAIN_MS: i64 = 10;

/// The wall clock, which never goes back within a process, and never stands still: after somebody has set it back, time
/// goes on from where it was.
#[derive(Debug, Clone)]
pub struct SystemClock(Arc<System>);

/// What the clones of a clock share. It lies apart from the count of the clones, which changes with each wait: all threads look here
/// many times a millisecond, and would have to fetch it anew each time.
#[derive(Debug)]
#[repr(align(128))]
struct System {
    start: Instant,
    /// How far the wall clock was ahead of the time since the start, at most.
    ahead_ms: AtomicI64,
    /// The time since the start at which the wall clock was last looked at.
    looked_ms: AtomicI64,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock(Arc::new(System { start: Instant::now(), ahead_ms: AtomicI64::new(i64::MIN), looked_ms: AtomicI64::new(i64::MIN) }))
    }
}

impl SystemClock {
    /// The time when the wall clock shows `wall_ms`, and so much time has gone by since the start.
    fn at(&self, wall_ms: i64, elapsed_ms: i64) -> Millis {
        let ahead = wall_ms - elapsed_ms;
        // The clock is read many times a millisecond: what all threads share is only written where it changes.
        let most = self.0.ahead_ms.load(Ordering::Relaxed);
        let most = if ahead > most { self.0.ahead_ms.fetch_max(ahead, Ordering::Relaxed).max(ahead) } else { most };
        Millis(most + elapsed_ms)
    }
}

/// Microseconds since this was asked first, by a clock that nobody sets: what lengths of time are measured with.
pub fn micros() -> u64 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    FIRST.elapsed().as_micros() as u64
}

fn milliseconds(time: Duration) -> i64 {
    time.as_secs() as i64 * 1000 + i64::from(time.subsec_millis())
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        // It is asked a dozen times a run: one of the two clocks is enough most times.
        let elapsed = milliseconds(self.0.start.elapsed());
        let looked = self.0.looked_ms.load(Ordering::Acquire);
        if looked != i64::MIN && elapsed - looked < LOOK_AGAIN_MS {
            return Millis(self.0.ahead_ms.load(Ordering::Relaxed) + elapsed);
        }
        // In this order: a thread that is held up between the two must not count the time as one that was set forward.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds);
        let elapsed = milliseconds(self.0.start.elapsed());
        let now = self.at(wall, elapsed);
        // Only once `ahead_ms` is known may others go by it.
        self.0.looked_ms.store(elapsed, Ordering::Release);
        now
    }

    fn sleep_until(&self, until: Millis, _idle: bool) -> Waiting {
        Box::pin(nap(self.clone(), until))
    }
}

/// A clock that waits for nobody: where nothing is under way, it jumps to the next thing that is due.
///
/// While something is under way, a *running* one goes on like the system's, for whoever talks to the real world; a *still* one
/// shows the same time until everybody waits, so that what happens on it happens at the same times however fast the machine is.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What goes on by itself; none for a clock that stands still.
    system: Option<SystemClock>,
    /// How far it is ahead of what goes on by itself, or the time where nothing does.
    ahead_ms: AtomicI64,
    timers: Mutex<Timers>,
}

/// Who waits for a clock that stands still: by time, and among those of one moment in order of asking.
#[derive(Debug, Default)]
struct Timers {
    wakers: BTreeMap<(Millis, u64), Waker>,
    made: u64,
}

impl VirtualClock {
    /// One that runs on while something is under way.
    pub fn running() -> VirtualClock {
        let (system, ahead_ms) = (Some(SystemClock::default()), AtomicI64::new(0));
        VirtualClock { shared: Arc::new(Shared { system, ahead_ms, timers: Mutex::default() }) }
    }

    /// One that stands still at `start` until it is told to go on.
    pub fn still(start: Millis) -> VirtualClock {
        VirtualClock { shared: Arc::new(Shared { system: None, ahead_ms: AtomicI64::new(start.0), timers: Mutex::default() }) }
    }

    /// Everybody waits: a clock that stands still goes on to the first time that somebody waits for, and wakes them. False
    /// where nobody waits.
    pub fn go_on(&self) -> bool {
        let mut timers = self.shared.timers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(((at, _), waker)) = timers.wakers.pop_first() else { return false };
        drop(timers);
        self.shared.ahead_ms.fetch_max(at.0, Ordering::Relaxed);
        waker.wake();
        true
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        let ahead = self.shared.ahead_ms.load(Ordering::Relaxed);
        self.shared.system.as_ref().map_or(Millis(ahead), |system| system.now().after(Span(ahead)))
    }

    fn sleep_until(&self, until: Millis, idle: bool) -> Waiting {
        let clock = self.clone();
        if self.shared.system.is_none() {
            return Box::pin(StillNap { clock, until, timer: None });
        }
        Box::pin(async move {
            if idle {
                clock.shared.ahead_ms.fetch_add(until.since(clock.now()).0, Ordering::Relaxed);
            }
            nap(clock, until).await;
        })
    }
}

/// A wait for a time of a clock that stands still; takes itself off the clock when it is dropped.
struct StillNap {
    clock: VirtualClock,
    until: Millis,
    timer: Option<u64>,
}

impl StillNap {
    fn take_off(&mut self, timers: &mut Timers) {
        if let Some(timer) = self.timer.take() {
            timers.wakers.remove(&(self.until, timer));
        }
    }
}

impl Future for StillNap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.clock.shared);
        let mut timers = shared.timers.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_off(&mut timers);
        if self.clock.now() >= self.until {
            return Poll::Ready(());
        }
        timers.made += 1;
        self.timer = Some(timers.made);
        let key = (self.until, timers.made);
        timers.wakers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for StillNap {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.clock.shared);
        self.take_off(&mut shared.timers.lock().unwrap_or_else(PoisonError::into_inner));
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

    #[test]
    fn a_clock_that_stands_still_goes_on_to_the_first_time_that_somebody_waits_for() {
        let clock = VirtualClock::still(Millis(5));
        assert!(!clock.go_on(), "nobody waits");
        let parked = clock.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || {
                parked.go_on();
            })
            .build()
            .expect("a runtime without drivers");
        let seen = runtime.block_on(async {
            let (late, soon) = (clock.sleep_until(Millis(2_592_000_005), true), clock.sleep_until(Millis(9), false));
            let dropped = clock.sleep_until(Millis(7), false);
            tokio::select! { biased; () = late => panic!("the later one came first"), () = soon => {}, () = dropped => {} }
            let first = clock.now();
            clock.sleep_until(Millis(2_592_000_005), true).await;
            (first, clock.now())
        });
        assert_eq!(seen, (Millis(7), Millis(2_592_000_005)));
    }
}
