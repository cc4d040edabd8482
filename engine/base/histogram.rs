//! How often something was how large, counted without a lock: whoever measures adds to a number, whoever looks adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts values by the smallest bound that they do not exceed. Any number of threads may add to it.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: the last one counts what exceeds all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram had counted at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    bounds: &'static [u64],
    counts: Vec<u64>,
    /// All values together, in their own unit.
    pub sum: u64,
}

impl Histogram {
    /// One with these bounds, which ascend.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        Histogram { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts one value.
    pub fn add(&self, value: u64) {
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What it has counted. A value that is added meanwhile may be in the sum and not yet in the counts, or the other way round.
    pub fn read(&self) -> Reading {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Reading { bounds: self.bounds, counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

impl Reading {
    /// One that has counted nothing.
    pub fn empty(bounds: &'static [u64]) -> Reading {
        Reading { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// Adds what another one with the same bounds has counted.
    pub fn merge(&mut self, other: &Reading) {
        debug_assert_eq!(self.bounds, other.bounds);
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.sum += other.sum;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bound, with how many values do not exceed it; the last one has no bound and counts all.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = self.bounds.iter().map(|bound| Some(*bound)).chain([None]);
        bounds.zip(&self.counts).scan(0, |so_far, (bound, count)| {
            *so_far += count;
            Some((bound, *so_far))
        })
    }

    /// A bound that this share of the values (from 0 to 1) do not exceed; none where nothing was counted, or where it lies above all
    /// bounds.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let count = self.count();
        // A count beyond 2^53 would take centuries, so nothing is lost here.
        let wanted = (count as f64 * share).ceil() as u64;
        if count == 0 { None } else { self.cumulative().find(|(_, so_far)| *so_far >= wanted.max(1)).and_then(|(bound, _)| bound) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_the_bound_that_holds_them() {
        let histogram = Histogram::new(&[1, 10, 100]);
        [0, 1, 2, 10, 11, 1_000].into_iter().for_each(|value| histogram.add(value));
        let mut reading = histogram.read();
        assert_eq!(reading.cumulative().collect::<Vec<_>>(), [(Some(1), 2), (Some(10), 4), (Some(100), 5), (None, 6)]);
        assert_eq!((reading.count(), reading.sum), (6, 1_024));
        assert_eq!((reading.quantile(0.5), reading.quantile(0.8), reading.quantile(1.0)), (Some(10), Some(100), None));
        reading.merge(&histogram.read());
        assert_eq!((reading.count(), reading.sum), (12, 2_048));
        assert_eq!(Reading::empty(&[1]).quantile(0.5), None);
    }
}
