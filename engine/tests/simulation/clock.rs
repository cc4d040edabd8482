//! A clock that stands still while anybody has work, and jumps to the next thing that is due when nobody has.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use stepwell::base::time::Waiting;
use stepwell::base::{Clock, Millis, Span};

use super::dice::Dice;

/// The time of one world. It goes on over the crashes of its engines.
#[derive(Debug)]
pub struct SimClock {
    hands: Mutex<Hands>,
}

#[derive(Debug)]
struct Hands {
    now: Millis,
    /// Who waits, by due time; the second number decides in random order between those of one moment.
    timers: BTreeMap<(Millis, u64), Waker>,
    dice: Dice,
}

/// A wait for a moment; takes itself off the clock when it is dropped.
struct Nap {
    clock: Arc<SimClock>,
    until: Millis,
    at: Option<(Millis, u64)>,
}

/// The clock as the engine sees it.
#[derive(Debug, Clone)]
pub struct Hand {
    pub clock: Arc<SimClock>,
    /// How far the engine's clock is ahead of the world's.
    pub ahead: Span,
}

impl SimClock {
    pub fn new(now: Millis, dice: Dice) -> Arc<SimClock> {
        Arc::new(SimClock { hands: Mutex::new(Hands { now, timers: BTreeMap::new(), dice }) })
    }

    pub fn now(&self) -> Millis {
        self.hands().now
    }

    /// Nobody has work: the time of the first timer comes, and whoever set it is woken.
    pub fn advance(&self) {
        let mut hands = self.hands();
        let Some(((at, _), waker)) = hands.timers.pop_first() else { return };
        hands.now = hands.now.max(at);
        drop(hands);
        waker.wake();
    }

    /// Time that passes while no engine lives.
    pub fn pass(&self, span: Span) {
        let mut hands = self.hands();
        hands.now = hands.now.after(span);
    }

    pub fn sleep_until(self: &Arc<SimClock>, until: Millis) -> Waiting {
        Box::pin(Nap { clock: Arc::clone(self), until, at: None })
    }

    pub fn sleep(self: &Arc<SimClock>, span: Span) -> Waiting {
        self.sleep_until(self.now().after(span))
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Hand {
    fn now(&self) -> Millis {
        self.clock.now().after(self.ahead)
    }

    fn sleep_until(&self, until: Millis, _idle: bool) -> Waiting {
        self.clock.sleep_until(Millis(until.0 - self.ahead.0))
    }
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = Arc::clone(&self.clock);
        let mut hands = clock.hands();
        if let Some(at) = self.at.take() {
            hands.timers.remove(&at);
        }
        if hands.now >= self.until {
            return Poll::Ready(());
        }
        let at = (self.until, hands.dice.next());
        hands.timers.insert(at, context.waker().clone());
        self.at = Some(at);
        Poll::Pending
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            self.clock.hands().timers.remove(&at);
        }
    }
}
