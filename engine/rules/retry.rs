//! When a failed attempt is tried again.

use crate::base::{Millis, Span};

use super::policy::{Backoff, Retry};

/// The default waits in seconds; the last one repeats. The table is the one Inngest documents for its own retries.
const TABLE_SECONDS: [i64; 11] = [15, 30, 60, 120, 300, 600, 1_200, 2_400, 3_600, 7_200, 7_200];
/// The most jitter that is added to a wait of the table, in milliseconds.
const TABLE_JITTER_MS: f64 = 30_000.0;

/// When the attempt after the failed `attempt` (from 1) is due; none once all are used up.
///
/// `unit` is a random number from 0 to 1 for the jitter; 0 means no jitter. `asked` is what the script or a server's
/// `Retry-After` asked for: it wins over the back-off, without jitter.
pub fn next(policy: &Retry, attempt: u32, now: Millis, unit: f64, asked: Option<Span>) -> Option<Millis> {
    if attempt >= policy.attempts {
        return None;
    }
    Some(now.after(asked.unwrap_or_else(|| wait(&policy.backoff, attempt, unit))))
}

/// The wait after the failed `attempt` (from 1).
pub fn wait(backoff: &Backoff, attempt: u32, unit: f64) -> Span {
    let steps = i64::from(attempt.saturating_sub(1));
    let (base, max, jitter) = match backoff {
        Backoff::Table => {
            let at = (steps as usize).min(TABLE_SECONDS.len() - 1);
            return Span(TABLE_SECONDS[at] * 1000 + (TABLE_JITTER_MS * unit) as i64);
        }
        Backoff::Exponential { initial, max, jitter } => {
            let factor = 1i64.checked_shl(steps.min(62) as u32).unwrap_or(i64::MAX);
            (initial.0.saturating_mul(factor), *max, *jitter)
        }
        Backoff::Linear { initial, max, jitter } => (initial.0.saturating_mul(steps + 1), *max, *jitter),
        Backoff::Fixed { initial, jitter } => (initial.0, *initial, *jitter),
    };
    let base = base.min(max.0);
    // A unit of 0 leaves the wait as it is; the others spread it evenly over ± jitter.
    let spread = if unit == 0.0 { 0.0 } else { (unit * 2.0 - 1.0) * jitter };
    Span(((base as f64) * (1.0 + spread)).max(0.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff) -> Retry {
        Retry { attempts: 4, backoff }
    }

    #[test]
    fn three_retries_are_four_attempts() {
        let policy = policy(Backoff::Table);
        let waits: Vec<_> = (1..=4).map(|attempt| next(&policy, attempt, Millis(0), 0.0, None)).collect();
        assert_eq!(waits, [Some(Millis(15_000)), Some(Millis(30_000)), Some(Millis(60_000)), None]);
    }

    #[test]
    fn what_the_script_asked_for_wins_over_the_table_but_not_over_the_count() {
        let policy = policy(Backoff::Table);
        assert_eq!(next(&policy, 1, Millis(5), 0.9, Some(Span::seconds(7))), Some(Millis(7_005)));
        assert_eq!(next(&policy, 4, Millis(5), 0.9, Some(Span::seconds(7))), None);
    }

    #[test]
    fn every_kind_grows_as_its_name_says_up_to_its_maximum() {
        let (initial, max, jitter) = (Span::seconds(10), Span::seconds(35), 0.2);
        let waits = |backoff: &Backoff| (1..=4).map(|n| wait(backoff, n, 0.0).0 / 1000).collect::<Vec<_>>();
        assert_eq!(waits(&Backoff::Exponential { initial, max, jitter }), [10, 20, 35, 35]);
        assert_eq!(waits(&Backoff::Linear { initial, max, jitter }), [10, 20, 30, 35]);
        assert_eq!(waits(&Backoff::Fixed { initial, jitter }), [10, 10, 10, 10]);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let backoff = Backoff::Fixed { initial: Span::seconds(100), jitter: 0.2 };
        for step in 1..1000 {
            let waited = wait(&backoff, 1, f64::from(step) / 1000.0).0;
            assert!((80_000..=120_000).contains(&waited), "{waited}");
        }
    }
}
