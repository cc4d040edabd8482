//! How much may wait for the disk: beyond it, senders are told to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of all events that have been taken and are not yet durable.
#[derive(Debug)]
pub(super) struct Admission {
    waiting: Arc<AtomicUsize>,
    most: usize,
}

/// A request's share of what waits; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Admission {
    /// Lets at most `most` bytes wait.
    pub fn new(most: usize) -> Admission {
        Admission { waiting: Arc::default(), most }
    }

    /// A place for so many bytes; none where too much waits already. Whoever comes while nothing waits gets one, so that
    /// coming again helps every sender in the end.
    pub fn enter(&self, bytes: usize) -> Option<Place> {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let place = Place { waiting: Arc::clone(&self.waiting), bytes };
        (before == 0 || before.saturating_add(bytes) <= self.most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_up_to_the_limit_and_again_once_they_are_free() {
        let admission = Admission::new(10);
        let first = admission.enter(6).unwrap();
        let second = admission.enter(4).unwrap();
        assert!(admission.enter(1).is_none());
        drop(first);
        assert!(admission.enter(7).is_none());
        let third = admission.enter(6).unwrap();
        drop((second, third));
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_alone_is_never_too_large() {
        let admission = Admission::new(10);
        let large = admission.enter(1_000).unwrap();
        assert!(admission.enter(1).is_none());
        drop(large);
        assert!(admission.enter(1_000).is_some());
    }
}
