//! An answer that costs something, kept for all who ask: one asks at a time, and after each asking there is a rest.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::base::{Millis, Span};

/// How many times as long as the asking the rest is: so asking takes at most a twentieth of the time of whoever is asked, and what
/// costs next to nothing is always of this moment.
const TIMES: i64 = 20;

/// The longest rest, however long the asking took: that may have been a wait for somebody who was busy, or a clock that was set.
const REST_MOST: Span = Span::seconds(10);

/// See the module's head. Clones are handles to the same answer.
#[derive(Debug)]
pub struct Rested<T>(Arc<Mutex<Option<Kept<T>>>>);

/// An answer, and the time for which it holds.
#[derive(Debug)]
struct Kept<T> {
    answer: Arc<T>,
    from: Millis,
    until: Millis,
}

impl<T> Clone for Rested<T> {
    fn clone(&self) -> Rested<T> {
        Rested(Arc::clone(&self.0))
    }
}

impl<T> Default for Rested<T> {
    fn default() -> Rested<T> {
        Rested(Arc::default())
    }
}

impl<T> Rested<T> {
    /// The answer, asked for anew where its rest is over. Whoever comes meanwhile waits and gets the same one.
    ///
    /// # Errors
    /// What the asking ends with; then the next one asks again.
    pub async fn get<E>(&self, now: impl Fn() -> Millis, ask: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let mut kept = self.0.lock().await;
        let began = now();
        // A clock that was set back must not keep an old answer for longer.
        if let Some(kept) = kept.as_ref().filter(|kept| kept.from <= began && began < kept.until) {
            return Ok(Arc::clone(&kept.answer));
        }
        let answer = Arc::new(ask.await?);
        let from = now();
        let rest = Span(from.since(began).0.saturating_mul(TIMES).min(REST_MOST.0));
        *kept = Some(Kept { answer: Arc::clone(&answer), from, until: from.after(rest) });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Asks at a time, for what takes a while to be found; how often that was done before.
    async fn ask(rested: &Rested<i64>, clock: &AtomicI64, asked: &AtomicI64, (at, takes): (i64, i64)) -> i64 {
        clock.store(at, Ordering::SeqCst);
        let asking = async {
            clock.fetch_add(takes, Ordering::SeqCst);
            Ok::<_, ()>(asked.fetch_add(1, Ordering::SeqCst))
        };
        *rested.get(|| Millis(clock.load(Ordering::SeqCst)), asking).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_rest_and_asked_for_once() {
        let (rested, clock, asked) = (Rested::default(), AtomicI64::new(0), AtomicI64::new(0));
        let looks = [
            ((10_000, 0), 0),
            // What took no time is asked for each time.
            ((10_000, 0), 1),
            ((12_000, 100), 2),
            // Twenty times as long as the asking took, from its end on.
            ((14_099, 0), 2),
            ((14_100, 10), 3),
            // Ten seconds at most, and a clock that was set forward while it was asked makes no longer one.
            ((15_000, 3_600_000), 4),
            ((3_624_999, 0), 4),
            ((3_625_000, 0), 5),
            // A clock that was set back keeps nothing.
            ((5_000, 0), 6),
        ];
        for (at, expected) in looks {
            assert_eq!(ask(&rested, &clock, &asked, at).await, expected, "{at:?}");
        }
    }

    #[tokio::test]
    async fn what_fails_is_asked_for_again() {
        let rested = Rested::default();
        let now = || Millis(1);
        assert_eq!(rested.get(now, async { Err::<i32, _>("no") }).await, Err("no"));
        assert_eq!(rested.get(now, async { Ok::<_, &str>(7) }).await.as_deref(), Ok(&7));
    }
}
