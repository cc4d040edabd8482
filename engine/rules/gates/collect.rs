//! `debounce` and `batch`: runs that collect events before they start. In a debounce the last event wins, in a batch all count.
//!
//! The window is the queued run itself: the time at which it enters the queue is when the window closes. Which runs are open is
//! known in memory, by function and key; that is derived from the runs' rows at start.

use crate::base::{EventId, Millis, RunId, Span, limits};

/// How a function collects events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collect {
    /// One run with the last event, once none has come for a while.
    Debounce {
        /// The quiet time.
        period: Span,
        /// The longest time from the first event to the run.
        timeout: Option<Span>,
    },
    /// One run with all events.
    Batch {
        /// So many events start the run at once; so does [`limits::BATCH_BYTES`] of their data.
        size: u32,
        /// The longest time from the first event to the run.
        timeout: Span,
    },
}

/// The newest event of a run that collects, and when the run enters the queue on its account. One that was accepted before, and comes
/// later, changes neither: so the greater one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Last {
    /// The event.
    pub event: EventId,
    /// When its run enters the queue.
    pub closes: Millis,
}

/// A run that collects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The run.
    pub run: RunId,
    /// When its first event was accepted.
    pub since: Millis,
    /// What it has and when it enters the queue, as if all that is on its way to the disk were there.
    pub last: Last,
    /// The same by what is on disk: what counts where the events on their way come to nothing.
    pub stored: Last,
    /// The decision that made it; 0 once that is on disk.
    pub made_by: u64,
    /// Its events that are on disk, or come with the run itself.
    pub events: u32,
    /// Bytes of their data.
    pub bytes: u64,
    /// The decisions that add further ones and are on their way, each with the bytes of its event's data.
    pub joining: Vec<(u64, u64)>,
    /// The last event that fits in is on its way.
    pub is_filling: bool,
    /// Its time was over while events were on their way that would put it off: it starts where none of them arrives.
    pub is_due: bool,
    /// Its events are a batch. One that was made under another config may collect in the other way.
    pub is_batch: bool,
}

/// Where an event has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// It begins a run of its own.
    First {
        /// When the run enters the queue.
        enter: Millis,
        /// The run takes further events until then.
        open: bool,
    },
    /// It takes the place of the event of a run.
    Instead {
        /// The run.
        run: RunId,
        /// When the run enters the queue.
        enter: Millis,
        /// The same list makes the run.
        own: bool,
    },
    /// It joins the events of a run.
    Beside {
        /// The run.
        run: RunId,
        /// The run has all the events that it may have now, so it enters the queue.
        full: bool,
        /// The same list makes the run.
        own: bool,
    },
}

impl Collect {
    /// Whether so many events, with so many bytes of data, start a batch at once. A debounce is never full.
    pub fn is_full(self, events: u32, bytes: u64) -> bool {
        matches!(self, Collect::Batch { size, .. } if events >= size || bytes >= limits::BATCH_BYTES)
    }

    /// The place of an event that is accepted at `now`; none where that depends on other decisions than `decision`, whose outcome is
    /// not known yet. `open` is the run of its key that collects, `ts` the event's own time, `bytes` those of its data.
    pub fn seat(self, open: Option<&Open>, (ts, bytes): (Millis, u64), now: Millis, decision: u64) -> Option<Seat> {
        let is_batch = matches!(self, Collect::Batch { .. });
        let open = open.filter(|open| open.is_batch == is_batch && (open.last.closes > now || open.is_filling));
        let is_known = |by: u64| by == 0 || by == decision;
        let first = |enter, open| Some(Seat::First { enter, open });
        match (self, open) {
            // What is to start later than its batch would has a run of its own.
            (Collect::Batch { .. }, _) if ts > now => first(ts, false),
            (Collect::Batch { size: 0 | 1, .. }, _) => first(now, false),
            (Collect::Batch { timeout, .. }, None) => first(now.after(timeout), true),
            (Collect::Debounce { period, timeout }, None) => first(quiet_until(period, timeout, now, now).max(ts), true),
            (_, Some(open)) if open.is_filling || !is_known(open.made_by) => None,
            (Collect::Debounce { period, timeout }, Some(open)) => {
                let enter = quiet_until(period, timeout, open.since, now).max(ts);
                Some(Seat::Instead { run: open.run, enter, own: open.made_by != 0 })
            }
            (Collect::Batch { .. }, Some(open)) => {
                let whole = open.bytes + open.joining.iter().map(|(_, bytes)| bytes).sum::<u64>() + bytes;
                let full = self.is_full(open.events + open.joining.len() as u32 + 1, whole);
                // One of those on their way may be a repetition, which does not count.
                let is_sure = !full || open.joining.iter().all(|(by, _)| is_known(*by));
                is_sure.then_some(Seat::Beside { run: open.run, full, own: open.made_by != 0 })
            }
        }
    }
}

fn quiet_until(period: Span, timeout: Option<Span>, since: Millis, now: Millis) -> Millis {
    let quiet = now.after(period);
    timeout.map_or(quiet, |timeout| quiet.min(since.after(timeout)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    const DEBOUNCE: Collect = Collect::Debounce { period: Span::seconds(10), timeout: Some(Span::seconds(25)) };
    const BATCH: Collect = Collect::Batch { size: 3, timeout: Span::seconds(10) };

    fn seconds(at: i64) -> Millis {
        Millis(at * 1_000)
    }

    fn open(events: u32) -> Open {
        let last = Last { event: Id(0), closes: seconds(10) };
        Open {
            run: Id(1),
            since: seconds(0),
            last,
            stored: last,
            made_by: 0,
            events,
            bytes: 0,
            joining: Vec::new(),
            is_filling: false,
            is_due: false,
            is_batch: false,
        }
    }

    fn at(how: Collect, open: Option<&Open>, now: i64) -> Option<Seat> {
        let open = open.map(|open| Open { is_batch: matches!(how, Collect::Batch { .. }), ..open.clone() });
        how.seat(open.as_ref(), (seconds(0), 10), seconds(now), 7)
    }

    #[test]
    fn each_event_of_a_debounce_puts_its_run_off_but_not_beyond_the_timeout() {
        assert_eq!(at(DEBOUNCE, None, 100), Some(Seat::First { enter: seconds(110), open: true }));
        let instead = |enter: i64| Some(Seat::Instead { run: Id(1), enter: seconds(enter), own: false });
        assert_eq!(at(DEBOUNCE, Some(&open(1)), 4), instead(14));
        let long = Open { last: Last { event: Id(0), closes: seconds(25) }, ..open(1) };
        assert_eq!(at(DEBOUNCE, Some(&long), 24), instead(25));
        assert_eq!(at(DEBOUNCE, Some(&long), 25), Some(Seat::First { enter: seconds(35), open: true }), "its time is over");
    }

    #[test]
    fn a_batch_takes_events_until_it_is_full_or_its_time_is_over() {
        assert_eq!(at(BATCH, None, 100), Some(Seat::First { enter: seconds(110), open: true }));
        let beside = |full: bool| Some(Seat::Beside { run: Id(1), full, own: false });
        assert_eq!(at(BATCH, Some(&open(1)), 9), beside(false));
        assert_eq!(at(BATCH, Some(&open(2)), 9), beside(true));
        assert_eq!(at(BATCH, Some(&open(1)), 10), Some(Seat::First { enter: seconds(20), open: true }));
        let alone = Collect::Batch { size: 1, timeout: Span::seconds(10) };
        assert_eq!(at(alone, None, 5), Some(Seat::First { enter: seconds(5), open: false }));
    }

    #[test]
    fn a_batch_is_full_once_its_events_are_large() {
        let many = Collect::Batch { size: 1_000, timeout: Span::seconds(10) };
        let beside = |full: bool| Some(Seat::Beside { run: Id(1), full, own: false });
        let nearly = Open { bytes: limits::BATCH_BYTES - 20, ..open(2) };
        assert_eq!(at(many, Some(&nearly), 1), beside(false));
        let full = Open { bytes: limits::BATCH_BYTES - 10, ..open(2) };
        assert_eq!(at(many, Some(&full), 1), beside(true));
        let joined = Open { joining: vec![(7, 10)], ..nearly };
        assert_eq!(at(many, Some(&joined), 1), beside(true));
        assert_eq!(at(many, Some(&Open { joining: vec![(4, 10)], ..joined }), 1), None, "the one before may be a repetition");
    }

    #[test]
    fn what_may_come_to_nothing_is_waited_for() {
        let unmade = Open { made_by: 4, ..open(1) };
        assert_eq!(at(DEBOUNCE, Some(&unmade), 1), None);
        assert_eq!(at(BATCH, Some(&unmade), 1), None);
        let own = Open { made_by: 7, ..open(1) };
        assert_eq!(at(BATCH, Some(&own), 1), Some(Seat::Beside { run: Id(1), full: false, own: true }));
        let joining = Open { joining: vec![(4, 10)], ..open(1) };
        assert_eq!(at(BATCH, Some(&joining), 1), None, "the one before may be a repetition, and then this one does not fill it");
        let filling = Open { is_filling: true, ..open(2) };
        assert_eq!(at(BATCH, Some(&filling), 11), None);
    }

    #[test]
    fn an_event_of_the_future_starts_then() {
        let seat = |how: Collect, open: Option<&Open>| how.seat(open, (seconds(60), 10), seconds(1), 7);
        assert_eq!(seat(BATCH, Some(&open(1))), Some(Seat::First { enter: seconds(60), open: false }));
        assert_eq!(seat(DEBOUNCE, Some(&open(1))), Some(Seat::Instead { run: Id(1), enter: seconds(60), own: false }));
    }

    #[test]
    fn a_run_that_collects_in_another_way_is_not_joined() {
        let batch = Open { is_batch: true, ..open(2) };
        assert_eq!(DEBOUNCE.seat(Some(&batch), (seconds(0), 10), seconds(4), 7), Some(Seat::First { enter: seconds(14), open: true }));
        assert_eq!(BATCH.seat(Some(&open(1)), (seconds(0), 10), seconds(4), 7), Some(Seat::First { enter: seconds(14), open: true }));
    }
}
