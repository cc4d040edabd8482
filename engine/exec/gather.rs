//! Commits of many, gathered: whoever has something to commit leaves it here and waits; once enough has come together, or
//! everybody on the thread who could go on has gone on, it goes to the store in one call.
//!
//! A thousand runs that each wake the writer and the scheduler, or a thousand requests that are each woken by the writer,
//! cost more than their rows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::base::{RunId, alloc};
use crate::rules::List;
use crate::script::Desk;
use crate::store::{Answer, Lane, Store, StoreError, Ticket, Verdict};

use super::Inner;
use super::scheduler::{Message, Standing};

/// The weight in rows from which on lists do not wait for more to come: the writer is at work on them while the next ones
/// are made. Were all of them handed over at the end, writer and executors would take turns instead of working side by side.
const COMMIT_WEIGHT: usize = 64;
/// The requests from which on theirs do not wait for more. Clients that wait for their answers all send again as soon as they have them:
/// were the lists of all of them handed over at once, the server would stand still while they are flushed, and the writer while the
/// next ones are made. With half of the connections of a busy server, one half is flushed while the other half is read.
const COMMIT_REQUESTS: usize = 32;

/// Lists that are committed in one call, and who waits for how many of them.
#[derive(Default)]
struct Together {
    lists: Vec<List>,
    shares: Vec<(usize, Answer)>,
    weight: usize,
}

/// What was handed to the store, and who waits for how many of its verdicts.
struct Handed {
    ticket: Ticket,
    shares: Vec<(usize, Answer)>,
}

impl Handed {
    async fn hand_back(self) {
        hand_back(self.ticket.await, self.shares);
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

/// Runs that a worker has stopped, from which on it tells the scheduler at once.
const STOPS_TOLD: usize = 32;

/// What waits for the next commit, or for somebody who awaits its answer.
struct Waiting {
    lane: Lane,
    next: Together,
    handed: Vec<Handed>,
    /// Runs of a worker that have stopped since the last message.
    stopped: Vec<(RunId, Option<Standing>)>,
    /// Runs whose ends are among the lists, and whose slots others wait for.
    leaving: Vec<RunId>,
    /// Whether the scheduler has to be told at once: of a run that may be due soon, or of one that takes nobody's place now.
    urgent: bool,
}

impl Waiting {
    fn new(lane: Lane) -> Waiting {
        Waiting { lane, next: Together::default(), handed: Vec::new(), stopped: Vec::new(), leaving: Vec::new(), urgent: false }
    }

    fn is_empty(&self) -> bool {
        self.next.lists.is_empty() && self.handed.is_empty()
    }

    fn add(&mut self, lists: Vec<List>, store: &dyn Store) -> Ticket {
        let (answer, ticket) = Ticket::new();
        self.next.weight += lists.iter().map(List::weight).sum::<usize>();
        self.next.shares.push((lists.len(), answer));
        self.next.lists.extend(lists);
        if self.next.weight >= COMMIT_WEIGHT {
            self.hand_over(store);
        }
        ticket
    }

    /// Hands over what is there. The caller holds the lock meanwhile: what comes later is stored later.
    fn hand_over(&mut self, store: &dyn Store) {
        if !self.next.lists.is_empty() {
            let Together { lists, shares, .. } = std::mem::take(&mut self.next);
            self.handed.push(Handed { ticket: store.commit(self.lane, lists), shares });
        }
    }
}

fn locked(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the requests of one runtime have to store.
pub(super) struct Intake {
    waiting: Mutex<Waiting>,
}

impl Default for Intake {
    fn default() -> Intake {
        Intake { waiting: Mutex::new(Waiting::new(Lane::Ingest)) }
    }
}

impl Intake {
    /// Queues lists for the next commit of the ingest lane. To be called within a tokio runtime.
    pub(super) fn commit(inner: &Arc<Inner>, lists: Vec<List>) -> Ticket {
        let mut waiting = locked(&inner.intake.waiting);
        let first = waiting.is_empty();
        let ticket = waiting.add(lists, &*inner.store);
        if waiting.next.shares.len() >= COMMIT_REQUESTS {
            waiting.hand_over(&*inner.store);
        }
        drop(waiting);
        if first {
            tokio::spawn(Intake::send(Arc::clone(inner)));
        }
        ticket
    }

    async fn send(inner: Arc<Inner>) {
        // Whoever can go on now joins in.
        tokio::task::yield_now().await;
        let mut handed = {
            let mut waiting = locked(&inner.intake.waiting);
            waiting.hand_over(&*inner.store);
            std::mem::take(&mut waiting.handed)
        };
        let last = handed.pop();
        // Nobody's answer waits for that of another commit.
        handed.into_iter().for_each(|handed| drop(tokio::spawn(handed.hand_back())));
        if let Some(last) = last {
            last.hand_back().await;
        }
    }
}

/// What the runs of one worker have to say: their checkpoints to the store, and to the scheduler that they have stopped.
pub(super) struct Outbox {
    inner: Arc<Inner>,
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// Commits that were handed over and are not answered yet.
    under_way: AtomicUsize,
}

impl Desk for Outbox {
    fn checkpoint(&self, list: List) -> Ticket {
        // The lists of others must not count as this run's memory.
        alloc::uncounted(|| self.leave(|waiting| waiting.add(vec![list], &*self.inner.store)))
    }

    fn rest(&self) {
        self.inner.rested(1);
        // The scheduler has to look whether somebody else may start in its place.
        self.leave(|waiting| waiting.urgent = true);
    }

    fn resume(&self) {
        self.inner.rested(-1);
    }
}

impl Outbox {
    pub(super) fn new(inner: Arc<Inner>) -> Arc<Outbox> {
        let waiting = Mutex::new(Waiting::new(Lane::Steps));
        Arc::new(Outbox { inner, waiting, filled: Notify::new(), under_way: AtomicUsize::new(0) })
    }

    /// Tells the scheduler that a run has stopped, and where it stands.
    pub(super) fn stopped(&self, run: RunId, now: Option<Standing>) {
        self.leave(|waiting| {
            waiting.urgent |= now.is_some_and(|now| !now.state.is_terminal());
            waiting.stopped.push((run, now));
        });
    }

    /// As `checkpoint`, but handed to the store before this returns, behind all that was left before.
    pub(super) fn checkpoint_at_once(&self, list: List) -> Ticket {
        self.leave(|waiting| {
            let ticket = waiting.add(vec![list], &*self.inner.store);
            waiting.hand_over(&*self.inner.store);
            ticket
        })
    }

    /// Tells the scheduler, as soon as what was left here is handed to the store, that the end of a run is among it: others may have
    /// what it holds.
    pub(super) fn leaves(&self, run: RunId) {
        self.leave(|waiting| waiting.leaving.push(run));
    }

    /// Sends what was left here, again and again, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            // Whoever leaves the first thing wakes this task, which then stands in line behind every run that can go on.
            self.filled.notified().await;
            let (handed, told, leaving) = {
                let mut waiting = locked(&self.waiting);
                waiting.hand_over(&*self.inner.store);
                let under_way = self.under_way.fetch_add(waiting.handed.len(), Ordering::Relaxed) + waiting.handed.len();
                // While an answer is under way, more runs are about to end: a message for each would wake the scheduler too often.
                let is_time = under_way == 0 || waiting.stopped.len() >= STOPS_TOLD;
                let is_told = waiting.urgent || (is_time && !waiting.stopped.is_empty());
                waiting.urgent &= !is_told;
                let told = is_told.then(|| std::mem::take(&mut waiting.stopped));
                (std::mem::take(&mut waiting.handed), told, std::mem::take(&mut waiting.leaving))
            };
            if !leaving.is_empty() {
                self.inner.tell(Message::Leaving(leaving));
            }
            if let Some(stopped) = told {
                self.inner.tell(Message::Stopped(stopped));
            }
            for handed in handed {
                tokio::task::spawn_local(Arc::clone(&self).answer(handed));
            }
        }
    }

    async fn answer(self: Arc<Self>, handed: Handed) {
        handed.hand_back().await;
        if self.under_way.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.filled.notify_one();
        }
    }

    fn leave<T>(&self, put: impl FnOnce(&mut Waiting) -> T) -> T {
        let result = put(&mut locked(&self.waiting));
        self.filled.notify_one();
        result
    }
}
