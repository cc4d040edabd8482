//! What the runs of one worker have to say, gathered: one commit and one message for all that ran since the last one.
//!
//! A thousand runs that each wake the writer and the scheduler cost more than their rows. So a run leaves its list here
//! and waits; once every run of the thread that could go on has gone on, all lists go to the store together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::base::RunId;
use crate::base::limits::BATCH_ROWS;
use crate::rules::List;
use crate::script::Checkpoints;
use crate::store::{Answer, Lane, StoreError, Ticket, Verdict};

use super::Inner;
use super::scheduler::{Message, Standing};

/// The weight in rows from which on lists go out as a commit of their own: a commit is never split, so one must not grow
/// beyond a transaction.
const COMMIT_WEIGHT: usize = BATCH_ROWS / 2;

/// The outbox of one worker.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    lists: Vec<(List, Answer)>,
    stopped: Vec<(RunId, Option<Standing>)>,
}

impl Checkpoints for Outbox {
    fn checkpoint(&self, list: List) -> Ticket {
        let (answer, ticket) = Ticket::new();
        self.leave(|waiting| waiting.lists.push((list, answer)));
        ticket
    }
}

impl Outbox {
    /// Tells the scheduler that a run has stopped, and where it stands.
    pub(super) fn stopped(&self, run: RunId, now: Option<Standing>) {
        self.leave(|waiting| waiting.stopped.push((run, now)));
    }

    /// Sends what was left here, again and again, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>, inner: Arc<Inner>) {
        loop {
            // Whoever leaves the first thing wakes this task, which then stands in line behind every run that can go on.
            self.filled.notified().await;
            let Waiting { lists, stopped } = std::mem::take(&mut *self.waiting());
            if !stopped.is_empty() {
                inner.tell(Message::Stopped(stopped));
            }
            let (mut together, mut answers, mut weight) = (Vec::with_capacity(lists.len()), Vec::with_capacity(lists.len()), 0);
            for (list, answer) in lists {
                weight += list.weight();
                together.push(list);
                answers.push(answer);
                if weight >= COMMIT_WEIGHT {
                    send(&inner, std::mem::take(&mut together), std::mem::take(&mut answers));
                    weight = 0;
                }
            }
            send(&inner, together, answers);
        }
    }

    fn leave(&self, put: impl FnOnce(&mut Waiting)) {
        put(&mut self.waiting());
        self.filled.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits lists together and hands each its answer.
fn send(inner: &Inner, lists: Vec<List>, answers: Vec<Answer>) {
    if lists.is_empty() {
        return;
    }
    let ticket = inner.store.commit(Lane::Steps, lists);
    tokio::task::spawn_local(async move { hand_back(ticket.await, answers) });
}

fn hand_back(outcome: Result<Vec<Verdict>, StoreError>, answers: Vec<Answer>) {
    match outcome {
        Ok(verdicts) => answers.into_iter().zip(verdicts).for_each(|(answer, verdict)| answer.give(Ok(vec![verdict]))),
        Err(error) => answers.into_iter().for_each(|answer| answer.give(Err(error.clone()))),
    }
}
