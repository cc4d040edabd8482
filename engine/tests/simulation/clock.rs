//! A clock that stands still while anybody has work, and jumps to the next thing that is due when nobody has. The engines
//! see it through a `Hand`: somebody may have set it, and it may be late to wake them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use stepwell::base::time::Waiting;
use stepwell::base::{Clock, Millis, Span};

use super::dice::Dice;
use super::plan::WakePlan;
use super::program::LATEST_MS;

/// Percent of an engine's timers that are lost where some are, and how late they come then: after everything has an end.
const LOST: u64 = 5;
const NEVER_MS: i64 = 800 * 24 * 3_600_000;

/// The time of one world. It goes on over the crashes of its engines.
#[derive(Debug)]
pub struct SimClock {
    hands: Mutex<Hands>,
}

#[derive(Debug)]
struct Hands {
    now: Millis,
    /// How far what the engines' machine shows is ahead of the time.
    set_by_ms: i64,
    /// Who waits, by due time; the second number tells them apart, and decides in random order between those of one moment.
    timers: BTreeMap<(Millis, u64), Timer>,
    /// The due time of each.
    due: BTreeMap<u64, Millis>,
    wakes: WakePlan,
    dice: Dice,
    /// Whether timers of engines are lost for good.
    loses: bool,
    /// How many went off late, and how many when the clock looked again.
    late: usize,
    forgotten: usize,
}

#[derive(Debug)]
struct Timer {
    waker: Waker,
    /// Whether it is an engine's.
    of_engine: bool,
    delay: Delay,
}

/// Why a timer goes off after its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delay {
    None,
    Late,
    /// It is forgotten until the clock looks again.
    Forgotten,
}

/// A wait for a moment; takes itself off the clock when it is dropped.
struct Nap {
    clock: Arc<SimClock>,
    /// On whose clock; none for the world's own.
    hand: Option<Hand>,
    until: Millis,
    timer: Option<u64>,
}

/// The clock as one engine sees it: like the system's, it neither goes back nor stands still while a process lives.
#[derive(Debug, Clone)]
pub struct Hand {
    clock: Arc<SimClock>,
    /// How far the engine's clock is ahead of the machine's.
    ahead: Span,
    /// How far the machine's clock was ahead of the time, at most.
    most_ms: Arc<AtomicI64>,
}

impl SimClock {
    pub fn new(now: Millis, wakes: WakePlan, dice: Dice) -> Arc<SimClock> {
        let (timers, due) = (BTreeMap::new(), BTreeMap::new());
        Arc::new(SimClock { hands: Mutex::new(Hands { now, set_by_ms: 0, timers, due, wakes, dice, loses: false, late: 0, forgotten: 0 }) })
    }

    pub fn now(&self) -> Millis {
        self.hands().now
    }

    /// Nobody has work: the time of the first timer comes, and whoever set it is woken.
    pub fn advance(&self) {
        let mut hands = self.hands();
        let Some(((at, timer), Timer { waker, delay, .. })) = hands.timers.pop_first() else { return };
        hands.due.remove(&timer);
        hands.late += usize::from(delay == Delay::Late);
        hands.forgotten += usize::from(delay == Delay::Forgotten);
        hands.now = hands.now.max(at);
        drop(hands);
        waker.wake();
    }

    /// Time that passes while no engine lives.
    pub fn pass(&self, span: Span) {
        let mut hands = self.hands();
        hands.now = hands.now.after(span);
    }

    /// Somebody sets the machine's clock. Where that makes a timer due, it is noticed at the end of a nap.
    pub fn jump(&self, by_ms: i64) {
        let mut hands = self.hands();
        hands.set_by_ms += by_ms;
        if by_ms <= 0 {
            return;
        }
        let engines: Vec<(Millis, u64)> = hands.timers.iter().filter(|(_, timer)| timer.of_engine).map(|(at, _)| *at).collect();
        for (due, number) in engines {
            let noticed = hands.now.after(Span(hands.dice.between(0, LATEST_MS)));
            if noticed < due
                && let Some(timer) = hands.timers.remove(&(due, number))
            {
                hands.timers.insert((noticed, number), timer);
                hands.due.insert(number, noticed);
            }
        }
    }

    /// The clock of a new engine.
    pub fn hand(self: &Arc<SimClock>, ahead: Span) -> Hand {
        Hand { clock: Arc::clone(self), ahead, most_ms: Arc::new(AtomicI64::new(i64::MIN)) }
    }

    pub fn sleep_until(self: &Arc<SimClock>, until: Millis) -> Waiting {
        Box::pin(Nap { clock: Arc::clone(self), hand: None, until, timer: None })
    }

    pub fn sleep(self: &Arc<SimClock>, span: Span) -> Waiting {
        self.sleep_until(self.now().after(span))
    }

    /// From now on timers of engines are lost for good now and then, which no clock may do.
    pub fn lose_timers(&self) {
        self.hands().loses = true;
    }

    /// How many timers of engines went off late, and how many when the clock looked again.
    pub fn delays(&self) -> (usize, usize) {
        let hands = self.hands();
        (hands.late, hands.forgotten)
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hands {
    fn remove(&mut self, timer: u64) {
        if let Some(due) = self.due.remove(&timer) {
            self.timers.remove(&(due, timer));
        }
    }

    fn set(&mut self, due: Millis, timer: Timer) -> u64 {
        let number = self.dice.next();
        self.due.insert(number, due);
        self.timers.insert((due, number), timer);
        number
    }
}

impl Hand {
    fn shows(&self, hands: &Hands) -> Millis {
        let ahead = hands.set_by_ms + self.ahead.0;
        Millis(hands.now.0 + self.most_ms.fetch_max(ahead, Ordering::Relaxed).max(ahead))
    }
}

impl Clock for Hand {
    fn now(&self) -> Millis {
        self.shows(&self.clock.hands())
    }

    fn sleep_until(&self, until: Millis, _idle: bool) -> Waiting {
        Box::pin(Nap { clock: Arc::clone(&self.clock), hand: Some(self.clone()), until, timer: None })
    }
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = Arc::clone(&self.clock);
        let mut hands = clock.hands();
        if let Some(timer) = self.timer.take() {
            hands.remove(timer);
        }
        let shown = self.hand.as_ref().map_or(hands.now, |hand| hand.shows(&hands));
        if shown >= self.until {
            return Poll::Ready(());
        }
        let mut left = self.until.since(shown);
        let of_engine = self.hand.is_some();
        let late = hands.wakes.late;
        let mut delay = Delay::None;
        if of_engine && hands.dice.chance(late) {
            // One that is forgotten goes off when the clock looks again, at the end of its longest nap.
            delay = if hands.dice.chance(20) { Delay::Forgotten } else { Delay::Late };
            let most = if delay == Delay::Forgotten { LATEST_MS } else { hands.wakes.late_ms };
            left = Span(left.0 + hands.dice.between(0, most));
        }
        if of_engine && hands.loses && hands.dice.chance(LOST) {
            left = Span(left.0 + NEVER_MS);
        }
        let due = hands.now.after(left);
        self.timer = Some(hands.set(due, Timer { waker: context.waker().clone(), of_engine, delay }));
        Poll::Pending
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.clock.hands().remove(timer);
        }
    }
}
