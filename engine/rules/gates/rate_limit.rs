//! `rate_limit`: in any period, at most `limit` events of a key get through; the others start nothing.
//!
//! Each event that got through counts for one period from its acceptance, whatever becomes of its run. So there is no
//! border between two windows at which twice as many could get through.

use std::collections::BTreeMap;

use crate::base::looks::looked;
use crate::base::{EventId, Millis, Span};

/// How many events get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Events in any period, at least 1.
    pub limit: u32,
    /// The length of a period.
    pub period: Span,
}

/// What is left at the time of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It gets through, and counts from this time on.
    Free(Millis),
    /// It does not; the next one may at this time.
    Full(Millis),
}

/// What one key has let through within the last period.
///
/// A decision is made while those before it are on their way to the disk. An entry names the decision that it is waiting
/// for, so that nothing is refused for the sake of one that comes to nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    entries: BTreeMap<(Millis, EventId), u64>,
    /// How many of them wait for a decision: mostly the newest, so that nobody has to go through all.
    unsettled: usize,
}

/// The decision of an entry that is durable.
pub const SETTLED: u64 = 0;

impl Window {
    /// What is left for an event that is decided on now, as part of `decision`. None where that depends on other
    /// decisions whose outcome is not known yet.
    pub fn room(&mut self, rule: RateLimit, now: Millis, decision: u64) -> Option<Room> {
        self.forget_before(rule, now);
        let full = self.entries.len() >= rule.limit as usize;
        if !full {
            // Never before the one before: a clock that went back must not make the period of that one longer.
            let at = self.entries.last_key_value().map_or(now, |((last, _), _)| now.max(*last));
            return Some(Room::Free(at));
        }
        let mut unsettled = self.entries.values().rev().inspect(|_| looked(1)).filter(|owner| **owner != SETTLED).take(self.unsettled);
        if unsettled.any(|owner| *owner != decision) {
            return None;
        }
        // Where a limit was lowered, more than one has to go before there is room.
        let before = self.entries.len() - rule.limit as usize;
        let (first, _) = self.entries.keys().nth(before)?;
        Some(Room::Full(first.after(rule.period)))
    }

    /// An event gets through.
    pub fn enter(&mut self, at: Millis, event: EventId, decision: u64) {
        let before = self.entries.insert((at, event), decision);
        self.unsettled += usize::from(decision != SETTLED);
        self.unsettled -= usize::from(before.is_some_and(|owner| owner != SETTLED));
    }

    /// The decision on an event is durable, or came to nothing.
    pub fn settle(&mut self, at: Millis, event: EventId, stands: bool) {
        let Some(owner) = self.entries.get_mut(&(at, event)) else { return };
        self.unsettled -= usize::from(*owner != SETTLED);
        *owner = SETTLED;
        if !stands {
            self.entries.remove(&(at, event));
        }
    }

    /// Whether nothing counts any more; the time from which the newest one counts no more otherwise.
    pub fn expires(&self, period: Span) -> Option<Millis> {
        self.entries.last_key_value().map(|((last, _), _)| last.after(period))
    }

    /// Events that count at `now`, and when the oldest of them counts no more; by decisions whose outcome is not known yet too.
    pub fn counted(&self, rule: RateLimit, now: Millis) -> (usize, Option<Millis>) {
        let mut counting = self.entries.keys().map(|(at, _)| at.after(rule.period)).filter(|until| *until > now);
        let first = counting.next();
        (usize::from(first.is_some()) + counting.count(), first)
    }

    fn forget_before(&mut self, rule: RateLimit, now: Millis) {
        while let Some(entry) = self.entries.first_entry() {
            if entry.key().0.after(rule.period) > now {
                break;
            }
            looked(1);
            self.unsettled -= usize::from(entry.remove() != SETTLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    const RULE: RateLimit = RateLimit { limit: 2, period: Span(100) };

    fn enter(window: &mut Window, at: i64) {
        window.enter(Millis(at), Id(at), SETTLED);
    }

    #[test]
    fn in_any_period_at_most_the_limit_gets_through() {
        let mut window = Window::default();
        let mut through = Vec::new();
        for now in (0..1_000).step_by(7) {
            if let Some(Room::Free(at)) = window.room(RULE, Millis(now), 1) {
                window.enter(at, Id(now), SETTLED);
                through.push(now);
            }
        }
        assert!(through.len() > 15, "{through:?}");
        for from in 0..1_000 {
            let within = through.iter().filter(|at| (from..from + 100).contains(*at)).count();
            assert!(within <= 2, "{within} from {from} on: {through:?}");
        }
    }

    #[test]
    fn a_full_one_says_when_there_is_room_again() {
        let mut window = Window::default();
        enter(&mut window, 10);
        enter(&mut window, 50);
        assert_eq!(window.room(RULE, Millis(60), 1), Some(Room::Full(Millis(110))));
        assert_eq!(window.room(RULE, Millis(109), 1), Some(Room::Full(Millis(110))));
        assert_eq!(window.room(RULE, Millis(110), 1), Some(Room::Free(Millis(110))));
        let lowered = RateLimit { limit: 1, ..RULE };
        enter(&mut window, 120);
        assert_eq!(window.room(lowered, Millis(130), 1), Some(Room::Full(Millis(220))));
    }

    #[test]
    fn what_counts_is_told_without_changing_anything() {
        let mut window = Window::default();
        enter(&mut window, 10);
        enter(&mut window, 50);
        assert_eq!(window.counted(RULE, Millis(60)), (2, Some(Millis(110))));
        assert_eq!(window.counted(RULE, Millis(110)), (1, Some(Millis(150))));
        assert_eq!(window.counted(RULE, Millis(150)), (0, None));
    }

    #[test]
    fn nothing_is_refused_for_what_may_come_to_nothing() {
        let mut window = Window::default();
        enter(&mut window, 10);
        window.enter(Millis(20), Id(20), 7);
        assert_eq!(window.room(RULE, Millis(30), 8), None, "another decision may fail");
        assert_eq!(window.room(RULE, Millis(30), 7), Some(Room::Full(Millis(110))), "its own stands or falls with it");
        window.settle(Millis(20), Id(20), false);
        assert_eq!(window.room(RULE, Millis(30), 8), Some(Room::Free(Millis(30))));
        window.enter(Millis(30), Id(30), 8);
        window.settle(Millis(30), Id(30), true);
        assert_eq!(window.room(RULE, Millis(40), 9), Some(Room::Full(Millis(110))));
    }

    #[test]
    fn an_older_one_that_waits_for_its_decision_is_found_behind_those_that_do_not() {
        let mut window = Window::default();
        window.enter(Millis(10), Id(10), 7);
        enter(&mut window, 20);
        assert_eq!(window.room(RULE, Millis(30), 8), None);
        assert_eq!(window.room(RULE, Millis(30), 7), Some(Room::Full(Millis(110))));
        window.settle(Millis(10), Id(10), true);
        window.settle(Millis(10), Id(10), true);
        assert_eq!(window.room(RULE, Millis(30), 8), Some(Room::Full(Millis(110))));
        // One that counts no more is waited for no more.
        window.enter(Millis(110), Id(110), 9);
        window.enter(Millis(120), Id(120), 10);
        assert_eq!((window.room(RULE, Millis(125), 10), window.unsettled), (None, 2));
        assert_eq!((window.room(RULE, Millis(215), 10), window.unsettled), (Some(Room::Free(Millis(215))), 1));
    }

    #[test]
    fn a_clock_that_goes_back_lets_nobody_through_early() {
        let mut window = Window::default();
        enter(&mut window, 50);
        assert_eq!(window.room(RULE, Millis(20), 1), Some(Room::Free(Millis(50))));
    }
}
