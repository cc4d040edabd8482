//! The way in: events are checked, planned and committed before anybody is told that they were accepted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::{EventId, Json, Millis, RunId, json};
use crate::project::{EventProblem, Project};
use crate::rules::gates::Seat;
use crate::rules::matching::{self, Candidate, Join};
use crate::rules::{Conflict, CronKey, EventRow, Expect, List, Resolution, RunRow, WaitKey, waits};
use crate::store::StoreError;

use super::ending::Doom;
use super::gates::{self, Decided, Decision};
use super::gather::Intake;
use super::scheduler::{Created, Message};
use super::{Engine, Inner, Notice, lines};
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
    /// The snapshot that its candidates are of.
    pub(super) project: Arc<Project>,
    pub(super) row: EventRow,
    pub(super) dedupe: Option<Arc<str>>,
    pub(super) candidates: Vec<Candidate>,
    /// The id of the run of each candidate that applies. It stays however often it is decided, since its order is the order of acceptance.
    pub(super) runs: Vec<RunId>,
    /// Functions that it starts no run of, since another run has its idempotency key.
    pub(super) taken: Vec<(Arc<str>, RunId)>,
    /// Whether a list of it was refused since a run whose place it was to take was not there: it relies on none that is still on
    /// its way. Two that rely on each other would be refused for ever.
    pub(super) cautious: bool,
    /// For a start by the clock: the list that moves its function on in the schedule, to be committed with the event.
    pub(super) position: Option<List>,
}

impl Pending {
    /// The schedule that it is a start by.
    fn cron(&self) -> Option<&CronKey> {
        self.position.as_ref()?.expect.iter().find_map(|expect| match expect {
            Expect::CronAt { cron, .. } => Some(cron),
            _ => None,
        })
    }

    /// Whether both are starts of one function by one schedule.
    fn follows_same_clock(&self, other: &Pending) -> bool {
        self.cron().is_some() && self.cron() == other.cron()
    }
}

/// An event whose list is on its way.
struct Planned<'i> {
    event: Pending,
    runs: Vec<RunRow>,
    joins: Vec<Join>,
    replaced: Vec<Doom>,
    decision: Decision<'i>,
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
        if pending.iter().any(|event| gates::ask(&event.candidates)) {
            // The runs that hold keys are read when the engine takes up what the store holds.
            self.until_ready().await;
        }
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
        let (mut refusals, mut refused) = (Vec::new(), Vec::new());
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
                    refused.push((Some(event.name), Some(event.data), vec![problem.clone().into()]));
                    refusals.push(Refusal { index: at, problem });
                    continue;
                }
            };
            if let Err(problems) = project.check_event(&event.name, &data) {
                refused.push((Some(event.name), Some(event.data), problems.iter().cloned().map(Into::into).collect()));
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
            let runs = self.run_ids(&candidates, now);
            let project = Arc::clone(&project);
            let dedupe = event.dedupe;
            pending.push(Pending { at, project, row, dedupe, candidates, runs, taken: Vec::new(), cautious: false, position: None });
        }
        if refusals.is_empty() {
            return Ok(pending);
        }
        self.note_refused(refused);
        Err(AcceptError::Refused(refusals))
    }

    /// The id of the run of each candidate that applies.
    pub(super) fn run_ids(&self, candidates: &[Candidate], now: Millis) -> Vec<RunId> {
        candidates.iter().filter(|candidate| candidate.applies).map(|_| self.ids.next(now)).collect()
    }

    /// Commits what is pending, in order, and leaves there what has to be decided again.
    pub(super) async fn commit_events(
        self: &Arc<Self>,
        pending: &mut Vec<Pending>,
        ids: &mut [EventId],
        now: Millis,
    ) -> Result<(), AcceptError> {
        let mut lists: Vec<List> = Vec::with_capacity(pending.len());
        let mut planned: Vec<Planned<'_>> = Vec::with_capacity(pending.len());
        // Events whose decision depends on others that are on their way to the disk.
        let mut unsure = Vec::new();
        let gated = pending.iter().any(|event| gates::ask(&event.candidates));
        let moved = gated.then(|| self.gates_moved.notified());
        let handed = {
            // Both are held until the lists are handed over: a wait that comes into the index later looks back behind them, and
            // the next decision is made on these.
            let index = self.waits();
            let mut gates = gated.then(|| self.gates());
            for event in std::mem::take(pending) {
                let gates = gates.as_deref_mut().filter(|_| gates::ask(&event.candidates));
                let mut decision = self.decision();
                match self.decide(&index, gates, &mut decision, &event, &event.taken, now) {
                    Ok(Some(Decided { mut list, runs, joins, replaced })) => {
                        if let Some(position) = event.position.clone() {
                            list.expect.extend(position.expect);
                            list.writes.extend(position.writes);
                        }
                        lists.push(list);
                        planned.push(Planned { event, runs, joins, replaced, decision });
                    }
                    Ok(None) => unsure.push(event),
                    Err(error) => {
                        self.fail(error.clone());
                        return Err(AcceptError::Store(error));
                    }
                }
            }
            let failed = |error: StoreError| {
                self.fail(error.clone());
                AcceptError::Store(error)
            };
            let mut fitting: Vec<(WaitKey, EventId)> = Vec::new();
            for one in &planned {
                let waits = self.awaiting(&index, &one.event.row).map_err(failed)?;
                fitting.extend(waits.into_iter().map(|wait| (wait, one.event.row.id)));
            }
            lists.extend(fitting.iter().map(|(wait, event)| waits::resolve(wait, Resolution::Event(*event))));
            let mut dooms = Vec::new();
            for one in &planned {
                dooms.extend(self.dooms_of(&index, &one.event.row, now).map_err(failed)?);
            }
            lists.extend(dooms.iter().map(|doom| doom.list.clone()));
            (!lists.is_empty()).then(|| (Intake::commit(self, lists), fitting, dooms))
        };
        *pending = unsure;
        let Some((ticket, fitting, dooms)) = handed else {
            if let Some(moved) = moved {
                moved.await;
            }
            return Ok(());
        };
        let verdicts = match ticket.await {
            Ok(verdicts) => verdicts,
            Err(error) => {
                for Planned { event, decision, .. } in planned {
                    decision.settle(false);
                    pending.push(event);
                }
                pending.sort_by_key(|event| event.at);
                if error == StoreError::Full {
                    self.disk_full.store(true, Ordering::Relaxed);
                    return Err(AcceptError::Full);
                }
                self.fail(error.clone());
                return Err(AcceptError::Store(error));
            }
        };
        self.disk_full.store(false, Ordering::Relaxed);
        let (mut created, mut repeated) = (Vec::new(), Vec::new());
        let waited = fitting.len();
        if !fitting.is_empty() {
            // An event that was sent before is not stored again, which says nothing about the wait that it would have ended.
            let is_stored = |id: EventId| planned.iter().zip(&verdicts).any(|(one, verdict)| one.event.row.id == id && verdict.is_ok());
            let told = fitting.into_iter().zip(verdicts.iter().skip(planned.len())).filter(|((_, event), _)| is_stored(*event));
            self.resolved(told.map(|((wait, _), verdict)| (wait, verdict)));
        }
        self.doomed(dooms, verdicts.iter().skip(planned.len() + waited), now).await;
        let (mut gone, mut joined) = (Vec::new(), Vec::new());
        for (Planned { mut event, runs, joins, replaced, decision }, verdict) in planned.into_iter().zip(verdicts) {
            decision.settle(verdict.is_ok());
            match verdict {
                Ok(()) => {
                    self.metrics.accepted.fetch_add(1, Ordering::Relaxed);
                    lines::accepted(&event.row, runs.len());
                    let row = Arc::new(event.row);
                    created.extend(runs.into_iter().map(|run| Created { run, event: Arc::clone(&row) }));
                    joined.extend(joins.into_iter().map(|join| (join, Arc::clone(&row))));
                    gone.extend(replaced);
                }
                Err(Conflict::EventKeyTaken(first)) => {
                    ids[event.at] = first;
                    self.metrics.repeated.fetch_add(1, Ordering::Relaxed);
                    repeated.push((first, event.row.name));
                }
                Err(Conflict::IdempotencyTaken(function, by)) => {
                    event.taken.push((function, by));
                    pending.push(event);
                }
                // The run that it was to join has begun.
                Err(Conflict::RunBegun(run)) => {
                    self.gates().close(run);
                    pending.push(event);
                }
                // A run whose place this one was to take has moved on.
                Err(Conflict::RunMoved { .. } | Conflict::RunGone | Conflict::WaitClosed) => {
                    event.cautious = true;
                    pending.push(event);
                }
                // No event is stored on the condition that another one is, or that a run has ended.
                Err(Conflict::EventGone | Conflict::RunUnderWay(_)) => {
                    return Err(AcceptError::Store(StoreError::Corrupt("an event waits for another one".to_owned())));
                }
                // The start before it is to be decided again, and this one comes after it.
                Err(Conflict::CronMoved) if pending.iter().any(|other: &Pending| other.follows_same_clock(&event)) => pending.push(event),
                Err(Conflict::CronMoved) => tracing::debug!(event = %event.row.id, "a start by the clock was decided on before"),
            }
        }
        pending.sort_by_key(|event| event.at);
        if !created.is_empty() {
            self.created(created, now);
        }
        if !repeated.is_empty() {
            let note = |(event, name)| List { expect: Vec::new(), writes: vec![matching::repeated(event, name, now)] };
            // Only people who look at the event want to know, so the sender does not wait for it.
            drop(Intake::commit(self, repeated.into_iter().map(note).collect()));
        }
        self.joined(joined);
        self.replaced(gone, now).await;
        Ok(())
    }

    /// Events have become part of runs.
    pub(super) fn joined(&self, joined: Vec<(Join, Arc<EventRow>)>) {
        if !joined.is_empty() {
            let project = self.project();
            let listens = |join: &Join| project.function(&join.function).is_some_and(|function| !function.cancels.is_empty());
            let debounced = |join: &Join| matches!(join.seat, Seat::Instead { .. }) && listens(join);
            for (join, event) in joined.iter().filter(|(join, _)| debounced(join)) {
                // What cancels the run is compared with its event, which is another one from now on: that of the row, since two that came
                // one after the other may be told of the other way round.
                match self.store.run(join.run) {
                    Ok(Some(run)) if run.event == event.id && !run.state.is_terminal() => self.listen(&run, event),
                    Ok(_) => {}
                    Err(error) => self.fail(error),
                }
            }
            self.tell(Message::Joined(joined));
        }
    }

    /// New runs are durable: whoever watches is told, and the scheduler.
    pub(super) fn created(&self, created: Vec<Created>, now: Millis) {
        // Before they can begin: what follows from what they do must find them listening.
        let project = self.project();
        if project.functions.iter().any(|function| !function.cancels.is_empty()) {
            created.iter().for_each(|made| self.listen(&made.run, &made.event));
        }
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
