//! Things outside the scheduler that time must not jump over: what is under way beside its turns, and what somebody has
//! planned for a later time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::base::Millis;

use super::scheduler::Message;
use super::{Engine, Inner};

/// Something is under way: for as long as this lives, a clock that can jump does not.
pub struct Busy {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Busy").finish_non_exhaustive()
    }
}

impl Busy {
    pub(super) fn new(inner: &Arc<Inner>) -> Busy {
        inner.errands.fetch_add(1, Ordering::Relaxed);
        Busy { inner: Arc::clone(inner) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.inner.errands.fetch_sub(1, Ordering::Relaxed);
        // The scheduler has to look again whether there is anything to wait for.
        self.inner.tell(Message::Stopped(Vec::new()));
    }
}

impl Engine {
    /// Keeps a clock that can jump from jumping for as long as the answer lives.
    pub fn busy(&self) -> Busy {
        Busy::new(&self.inner)
    }

    /// Is done when the engine's clock shows `at`; time does not jump on before the answer is dropped. A clock that can
    /// jump knows of `at` as soon as this is called. None where the engine has stopped before.
    pub fn at(&self, at: Millis) -> impl Future<Output = Option<Busy>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.inner.tell(Message::Appoint { at, reply });
        async move { answer.await.ok() }
    }
}

/// What is planned, in order of time.
#[derive(Default)]
pub(super) struct Appointments {
    planned: BTreeMap<(Millis, u64), oneshot::Sender<Busy>>,
    made: u64,
}

impl Appointments {
    pub(super) fn add(&mut self, at: Millis, reply: oneshot::Sender<Busy>) {
        self.made += 1;
        self.planned.insert((at, self.made), reply);
    }

    /// When the next one is.
    pub(super) fn next(&self) -> Option<Millis> {
        self.planned.first_key_value().map(|((at, _), _)| *at)
    }

    /// Tells those whose time has come.
    pub(super) fn keep(&mut self, now: Millis, inner: &Arc<Inner>) {
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, reply)) = self.planned.pop_first() else { return };
            // Who does not want to know any more has nothing under way.
            let _ = reply.send(Busy::new(inner));
        }
    }
}
