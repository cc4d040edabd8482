//! Commits of many, gathered: whoever has something to commit leaves it here and waits; once everybody on the thread who
//! could go on has gone on, all of it goes to the store together.
//!
//! A thousand runs that each wake the writer and the scheduler, or a thousand requests that are each woken by the writer,
//! cost more than their rows.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::base::RunId;
use crate::base::limits::BATCH_ROWS;
use crate::rules::List;
use crate::script::Desk;
use crate::store::{Answer, Lane, Store, StoreError, Ticket, Verdict};

use super::Inner;
use super::scheduler::{Message, Standing};

/// The weight in rows from which on lists go out as a commit of their own: a commit is never split, so one must not grow
/// far beyond a transaction.
const COMMIT_WEIGHT: usize = BATCH_ROWS / 2;

/// Lists that are committed in one call, and who waits for how many of them.
#[derive(Default)]
struct Together {
    lists: Vec<List>,
    shares: Vec<(usize, Answer)>,
    weight: usize,
}

impl Together {
    /// Hands everything to the store at once; the future hands each share of the answer back.
    fn commit(self, store: &dyn Store, lane: Lane) -> impl Future<Output = ()> + Send + 'static {
        let ticket = store.commit(lane, self.lists);
        async move { hand_back(ticket.await, self.shares) }
    }
}

fn hand_back(outcome: Result<Vec<Verdict>, StoreError>, shares: Vec<(usize, Answer)>) {
    match outcome {
        Ok(verdicts) => {
            let mut verdicts = verdicts.into_iter();
            shares.into_iter().for_each(|(count, answer)| answer.give(Ok(verdicts.by_ref().take(count).collect())));
        }
        Err(error) => shares.into_iter().for_each(|(_, answer)| answer.give(Err(error.clone()))),
    }
}

/// What waits for the next commit.
#[derive(Default)]
struct Waiting {
    commits: Vec<Together>,
    /// Runs of a worker that have stopped since the last message.
    stopped: Vec<(RunId, Option<Standing>)>,
}

impl Waiting {
    fn add(&mut self, lists: Vec<List>) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let weight: usize = lists.iter().map(List::weight).sum();
        if self.commits.last().is_none_or(|last| last.weight + weight > COMMIT_WEIGHT) {
            self.commits.push(Together::default());
        }
        if let Some(last) = self.commits.last_mut() {
            last.weight += weight;
            last.shares.push((lists.len(), answer));
            last.lists.extend(lists);
        }
        ticket
    }
}

fn locked(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the requests of one runtime have to store.
#[derive(Default)]
pub(super) struct Intake {
    waiting: Mutex<Waiting>,
}

impl Intake {
    /// Queues lists for the next commit of the ingest lane. To be called within a tokio runtime.
    pub(super) fn commit(inner: &Arc<Inner>, lists: Vec<List>) -> Ticket {
        let mut waiting = locked(&inner.intake.waiting);
        let first = waiting.commits.is_empty();
        let ticket = waiting.add(lists);
        drop(waiting);
        if first {
            tokio::spawn(Intake::send(Arc::clone(inner)));
        }
        ticket
    }

    async fn send(inner: Arc<Inner>) {
        // Whoever can go on now joins in.
        tokio::task::yield_now().await;
        let answers: Vec<_> = {
            // Held until all is handed over: what comes later is stored later.
            let mut waiting = locked(&inner.intake.waiting);
            std::mem::take(&mut waiting.commits).into_iter().map(|together| together.commit(&*inner.store, Lane::Ingest)).collect()
        };
        for answer in answers {
            answer.await;
        }
    }
}

/// What the runs of one worker have to say: their checkpoints to the store, and to the scheduler that they have stopped.
pub(super) struct Outbox {
    inner: Arc<Inner>,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

impl Desk for Outbox {
    fn checkpoint(&self, list: List) -> Ticket {
        self.leave(|waiting| waiting.add(vec![list]))
    }

    fn rest(&self) {
        self.inner.rested(1);
        // The scheduler has to look whether somebody else may start in its place.
        self.leave(|_| ());
    }

    fn resume(&self) {
        self.inner.rested(-1);
    }
}

impl Outbox {
    pub(super) fn new(inner: Arc<Inner>) -> Arc<Outbox> {
        Arc::new(Outbox { inner, waiting: Mutex::default(), filled: Notify::new() })
    }

    /// Tells the scheduler that a run has stopped, and where it stands.
    pub(super) fn stopped(&self, run: RunId, now: Option<Standing>) {
        self.leave(|waiting| waiting.stopped.push((run, now)));
    }

    /// Sends what was left here, again and again, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            // Whoever leaves the first thing wakes this task, which then stands in line behind every run that can go on.
            self.filled.notified().await;
            let Waiting { commits, stopped } = std::mem::take(&mut *locked(&self.waiting));
            self.inner.tell(Message::Stopped(stopped));
            for together in commits {
                tokio::task::spawn_local(together.commit(&*self.inner.store, Lane::Steps));
            }
        }
    }

    fn leave<T>(&self, put: impl FnOnce(&mut Waiting) -> T) -> T {
        let result = put(&mut locked(&self.waiting));
        self.filled.notify_one();
        result
    }
}
