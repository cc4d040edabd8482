//! The way in: events are checked, planned and committed before anybody is told that they were accepted.

use std::sync::Arc;

use crate::base::{EventId, Json, Millis, RunId, json};
use crate::project::EventProblem;
use crate::rules::matching::{self, Candidate};
use crate::rules::{Conflict, EventRow, List, Resolution, RunRow, WaitKey, waits};
use crate::store::StoreError;

use super::gather::Intake;
use super::scheduler::{Created, Message};
use super::{Engine, Inner, Notice};
use crate::rules::RunState;

/// An event as it came in.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its name.
    pub name: Arc<str>,
    /// Its data: a JSON object as text, kept as it came.
    pub data: Json,
    /// The sender's id.
    pub sender_id: Option<Arc<str>>,
    /// What it is told apart by: the sender's id, or the request's seed and the event's number in it.
    pub dedupe: Option<Arc<str>>,
    /// The sender's time; none for now.
    pub ts: Option<Millis>,
    /// The sender's `user` and `v` as a JSON object.
    pub extra: Option<Json>,
}

/// One reason why a request was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The event's number in the request, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub problem: EventProblem,
}

/// Why nothing was accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AcceptError {
    /// One or more events are not as declared; nothing of the request is stored.
    #[error("{} of the events were refused", .0.len())]
    Refused(Vec<Refusal>),
    /// The engine is about to stop.
    #[error("the engine is draining")]
    Draining,
    /// There is no room on the disk.
    #[error("the disk is full")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

/// One event on its way, with what is needed to decide again.
pub(super) struct Pending {
    pub(super) at: usize,
    pub(super) row: EventRow,
    pub(super) dedupe: Option<Arc<str>>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) taken: Vec<(Arc<str>, RunId)>,
    /// For a start by the clock: the list that moves its function on in its schedule, to be committed with the event.
    pub(super) position: Option<List>,
}

impl Pending {
    /// Whether both are starts of one function by the clock.
    fn follows_same_clock(&self, other: &Pending) -> bool {
        let function = |pending: &Pending| pending.candidates.first().map(|candidate| Arc::clone(&candidate.function));
        self.position.is_some() && other.position.is_some() && function(self) == function(other)
    }
}

impl Engine {
    /// Accepts events, all or none, and answers their ids in order once they are durable. A repeated event gets the
    /// id of the first.
    ///
    /// # Errors
    /// As `AcceptError` says; nothing of the request is stored then, except where the store itself failed half-way.
    pub async fn accept(&self, events: Vec<NewEvent>) -> Result<Vec<EventId>, AcceptError> {
        if self.is_draining() {
            return Err(AcceptError::Draining);
        }
        let now = self.inner.clock.now();
        let mut pending = self.inner.check(events, now)?;
        let mut ids: Vec<EventId> = pending.iter().map(|event| event.row.id).collect();
        let total = pending.len();
        while !pending.is_empty() {
            let none_is_stored = pending.len() == total;
            match self.inner.commit_events(&mut pending, &mut ids, now).await {
                // To say that nothing was stored would be wrong by now, so the rest waits for room.
                Err(AcceptError::Full) if !none_is_stored => self.inner.wait_for_room().await,
                done => done?,
            }
        }
        Ok(ids)
    }
}

impl Inner {
    pub(super) fn check(&self, events: Vec<NewEvent>, now: Millis) -> Result<Vec<Pending>, AcceptError> {
        // One snapshot for the whole request, so that a reload cannot change the rules half-way.
        let project = self.project();
        let mut refusals = Vec::new();
        let mut pending = Vec::with_capacity(events.len());
        for (at, event) in events.into_iter().enumerate() {
            let data = match json::value(&event.data) {
                Ok(data) => data,
                Err(error) => {
                    let problem = EventProblem {
                        code: "E0220",
                        pointer: "/data".to_owned(),
                        message: format!("data is not JSON: {error}"),
                        help: None,
                    };
                    refusals.push(Refusal { index: at, problem });
                    continue;
                }
            };
            if let Err(problems) = project.check_event(&event.name, &data) {
                refusals.extend(problems.into_iter().map(|problem| Refusal { index: at, problem }));
                continue;
            }
            let row = EventRow {
                id: self.ids.next(now),
                name: event.name,
                data: event.data,
                sender_id: event.sender_id,
                ts: event.ts.unwrap_or(now),
                accepted: now,
                extra: event.extra,
            };
            let candidates = project.candidates(&row, &data);
            pending.push(Pending { at, row, dedupe: event.dedupe, candidates, taken: Vec::new(), position: None });
        }
        if refusals.is_empty() { Ok(pending) } else { Err(AcceptError::Refused(refusals)) }
    }

    /// Commits what is pending, in order, and leaves there what has to be decided again.
    pub(super) async fn commit_events(
        self: &Arc<Self>,
        pending: &mut Vec<Pending>,
        ids: &mut [EventId],
        now: Millis,
    ) -> Result<(), AcceptError> {
        let mut lists: Vec<List> = Vec::with_capacity(pending.len());
        let mut planned: Vec<Vec<RunRow>> = Vec::with_capacity(pending.len());
        for event in pending.iter() {
            let mut new_id = || self.ids.next(now);
            let (mut list, runs) =
                matching::plan(event.row.clone(), event.dedupe.clone(), &event.candidates, &event.taken, now, &mut new_id);
            if let Some(position) = event.position.clone() {
                list.expect.extend(position.expect);
                list.writes.extend(position.writes);
            }
            lists.push(list);
            planned.push(runs);
        }
        let (ticket, fitting) = {
            // Held until the lists are handed over: a wait that comes into the index later looks back behind them.
            let index = self.waits();
            let fitting: Vec<(WaitKey, EventId)> =
                pending.iter().flat_map(|event| Inner::awaiting(&index, &event.row).into_iter().map(|wait| (wait, event.row.id))).collect();
            lists.extend(fitting.iter().map(|(wait, event)| waits::resolve(wait, Resolution::Event(*event))));
            (Intake::commit(self, lists), fitting)
        };
        let verdicts = ticket.await.map_err(|error| match error {
            StoreError::Full => {
                self.disk_full.store(true, std::sync::atomic::Ordering::Relaxed);
                AcceptError::Full
            }
            error => {
                self.fail(error.clone());
                AcceptError::Store(error)
            }
        })?;
        self.disk_full.store(false, std::sync::atomic::Ordering::Relaxed);
        let (mut created, mut repeated) = (Vec::new(), Vec::new());
        if !fitting.is_empty() {
            self.resolved(fitting.into_iter().map(|(wait, _)| wait).zip(verdicts.iter().skip(pending.len())));
        }
        for ((mut event, runs), verdict) in std::mem::take(pending).into_iter().zip(planned).zip(verdicts) {
            match verdict {
                Ok(()) => {
                    let row = Arc::new(event.row);
                    created.extend(runs.into_iter().map(|run| Created { run, event: Arc::clone(&row) }));
                }
                Err(Conflict::EventKeyTaken(first)) => {
                    ids[event.at] = first;
                    repeated.push((first, event.row.name));
                }
                Err(Conflict::IdempotencyTaken(function, by)) => {
                    event.taken.push((function, by));
                    pending.push(event);
                }
                // The start before it is to be decided again, and this one comes after it.
                Err(Conflict::CronMoved) if pending.iter().any(|other: &Pending| other.follows_same_clock(&event)) => pending.push(event),
                Err(Conflict::CronMoved) => tracing::debug!(event = %event.row.id, "a start by the clock was decided on before"),
                Err(conflict) => return Err(AcceptError::Store(StoreError::Corrupt(format!("unexpected conflict: {conflict:?}")))),
            }
        }
        if !created.is_empty() {
            self.created(created, now);
        }
        if !repeated.is_empty() {
            let note = |(event, name)| List { expect: Vec::new(), writes: vec![matching::repeated(event, name, now)] };
            // Only people who look at the event want to know, so the sender does not wait for it.
            drop(Intake::commit(self, repeated.into_iter().map(note).collect()));
        }
        Ok(())
    }

    /// New runs are durable: whoever watches is told, and the scheduler.
    pub(super) fn created(&self, created: Vec<Created>, now: Millis) {
        if self.notices.receiver_count() > 0 {
            for made in &created {
                let (run, function) = (made.run.id, Arc::clone(&made.run.function));
                // No receiver is a matter of course: then nobody is watching.
                let _ = self.notices.send(Notice::Run { run, function, state: RunState::Queued, at: now });
            }
        }
        self.tell(Message::Created(created));
    }
}
