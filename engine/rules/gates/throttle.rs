//! `throttle`: starts are spread over the period, one each `period / limit`; after a quiet time `burst` more may come at once.
//!
//! A bucket holds 1 + `burst` starts and gets one back each `period / limit`. It is kept as one time: when it will be
//! full again (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). So in any period at most `limit + burst` runs
//! start.

use crate::base::{Millis, Span};

/// How many runs start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Starts in each period, at least 1.
    pub limit: u32,
    /// The length of a period.
    pub period: Span,
    /// Starts that may come at once beside the one that is due.
    pub burst: u32,
}

impl Throttle {
    /// The time between two starts, in microseconds, rounded up, so that the limit is kept.
    fn interval_us(&self) -> i64 {
        let period = i128::from(self.period.0.max(0)) * 1_000;
        let interval = (period + i128::from(self.limit.max(1)) - 1) / i128::from(self.limit.max(1));
        i64::try_from(interval).unwrap_or(i64::MAX).max(1)
    }

    /// How long before it is full a bucket gives a start, in microseconds.
    fn lead_us(&self) -> i64 {
        self.interval_us().saturating_mul(i64::from(self.burst))
    }
}

/// The starts of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The rule in force.
    pub rule: Throttle,
    /// When it is full, in microseconds since 1970.
    pub full_us: i64,
}

impl Bucket {
    /// Starts that it gives at `now`.
    pub fn starts(&self, now: Millis) -> u32 {
        let lead = now.0.saturating_mul(1_000).saturating_add(self.rule.lead_us()).saturating_sub(self.full_us.max(earliest_us(now)));
        if lead < 0 {
            return 0;
        }
        u32::try_from(lead / self.rule.interval_us()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A run starts.
    pub fn take(&mut self, now: Millis) {
        self.full_us = self.full_us.max(earliest_us(now)).saturating_add(self.rule.interval_us());
    }

    /// When it gives a start to the one before whom `ahead` others stand in line.
    pub fn opens(&self, ahead: u64) -> Millis {
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX).saturating_mul(self.rule.interval_us());
        up_to_millis(self.full_us.saturating_sub(self.rule.lead_us()).saturating_add(ahead))
    }

    /// The bucket under another rule from `now` on: it lacks as many starts as before, each of which comes back as the new
    /// rule says.
    #[must_use]
    pub fn under(self, rule: Throttle, now: Millis) -> Bucket {
        let now_us = earliest_us(now);
        let lacks = i128::from(self.full_us.saturating_sub(now_us).max(0));
        let lacks = lacks * i128::from(rule.interval_us()) / i128::from(self.rule.interval_us());
        let full_us = if lacks == 0 { self.full_us } else { now_us.saturating_add(i64::try_from(lacks).unwrap_or(i64::MAX)) };
        Bucket { rule, full_us }
    }

    /// From when on it is as if it had never been used.
    pub fn expires(&self) -> Millis {
        up_to_millis(self.full_us)
    }
}

/// What is done at a millisecond counts as done as soon as it can have been, so that nothing is lost by rounding. Since every
/// start counts like that, the distance between two of them stays what it is.
fn earliest_us(now: Millis) -> i64 {
    now.0.saturating_mul(1_000).saturating_sub(999)
}

fn up_to_millis(us: i64) -> Millis {
    Millis(us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(limit: u32, period: i64, burst: u32) -> Bucket {
        Bucket { rule: Throttle { limit, period: Span(period), burst }, full_us: 0 }
    }

    /// Starts whenever it may, looking each millisecond.
    fn starts(mut bucket: Bucket, from: i64, to: i64) -> Vec<i64> {
        let mut starts = Vec::new();
        for now in from..to {
            while bucket.starts(Millis(now)) > 0 {
                bucket.take(Millis(now));
                starts.push(now);
            }
        }
        starts
    }

    #[test]
    fn starts_are_spread_over_the_period() {
        assert_eq!(starts(bucket(4, 100, 0), 10, 100), [10, 35, 60, 85]);
        assert_eq!(starts(bucket(3, 100, 0), 0, 110), [0, 34, 67, 101], "rounded up: never more than three in 100 ms");
    }

    #[test]
    fn a_burst_comes_at_once_and_is_earned_back() {
        assert_eq!(starts(bucket(4, 100, 2), 10, 70), [10, 10, 10, 35, 60]);
        let mut used = bucket(4, 100, 2);
        (0..3).for_each(|_| used.take(Millis(10)));
        assert_eq!(used.starts(Millis(34)), 0);
        assert_eq!(used.starts(Millis(59)), 1);
        assert_eq!(used.starts(Millis(85)), 3);
        assert_eq!(used.starts(Millis(10_000)), 3, "no more than that, however long it was quiet");
    }

    #[test]
    fn in_any_period_at_most_limit_and_burst_start() {
        for (limit, period, burst) in [(1, 50, 0), (4, 100, 2), (7, 100, 0), (100, 30, 5)] {
            let starts = starts(bucket(limit, period, burst), 0, 1_000);
            for from in 0..1_000 {
                let within = starts.iter().filter(|at| (from..from + period).contains(*at)).count();
                assert!(within <= (limit + burst) as usize, "{within} of {limit}+{burst} in {period}: {starts:?}");
            }
            assert!(starts.len() >= 1_000 * limit as usize / period as usize / 2, "{}", starts.len());
        }
    }

    #[test]
    fn it_says_when_it_opens() {
        let mut used = bucket(4, 100, 1);
        (0..2).for_each(|_| used.take(Millis(10)));
        assert_eq!((used.opens(0), used.opens(2)), (Millis(35), Millis(85)));
        assert_eq!((used.starts(Millis(34)), used.starts(Millis(35))), (0, 1));
        assert_eq!(used.expires(), Millis(60));
    }

    #[test]
    fn nothing_overflows() {
        let mut odd = bucket(1, i64::MAX / 1_000, u32::MAX);
        odd.take(Millis(1_772_323_200_000));
        assert!(odd.starts(Millis(1_772_323_200_000)) > 0);
        let mut many = bucket(u32::MAX, 1, 0);
        many.take(Millis(1_772_323_200_000));
        assert!(many.opens(u64::MAX) > Millis(0));
    }

    #[test]
    fn under_another_rule_a_bucket_lacks_as_many_starts_as_before() {
        let mut slow = bucket(1, 3_600_000, 1);
        for _ in 0..2 {
            slow.take(Millis(1_000_000));
        }
        assert_eq!(slow.starts(Millis(1_000_000)), 0);
        let quick = slow.under(Throttle { limit: 1, period: Span(60_000), burst: 1 }, Millis(1_000_000));
        assert_eq!(quick.starts(Millis(1_000_000)), 0);
        assert_eq!(quick.opens(0), Millis(1_060_000));
        let slow_again = quick.under(slow.rule, Millis(1_000_000));
        assert_eq!(slow_again.opens(0), Millis(4_600_000));
        let full = bucket(1, 60_000, 0).under(slow.rule, Millis(5));
        assert_eq!(full.full_us, 0, "one that is full stays full");
    }
}
