//! Runs that invoke others: the start of one, and its end where the one that waits for it gives it up.

use std::sync::Arc;

use crate::base::diagnostic::nearest;
use crate::base::{Json, RunId, json};
use crate::rules::family::{self, INVOKED};
use crate::rules::queue::Want;
use crate::rules::waits::{self, WaitKey};
use crate::rules::{Conflict, EventRow, Expect, Failure, List, Record, Resolution, RunRow, RunState, Write};
use crate::script::{Checked, OwnWrites, Parcel, PostError, Reply};
use crate::store::{Lane, StoreError};

use super::ending::Member;
use super::post::{Again, apart};
use super::scheduler::Created;
use super::{Engine, Inner};

/// A run that is about to be started by another one.
struct Invocation {
    inner: Arc<Inner>,
    event: EventRow,
    run: RunRow,
}

/// Checks an invocation, and makes its event and run, and the limits that the run comes under.
fn made(inner: &Inner, function: &str, data: Json) -> Result<(EventRow, RunRow, Vec<Want>), Box<Failure>> {
    let project = inner.project();
    let Some(invoked) = project.function(function) else {
        let near = nearest(function, project.functions.iter().map(|function| &*function.id));
        let help = near.map_or("declare it under `functions` in events.yaml".to_owned(), |near| format!("did you mean `{near}`?"));
        return Err(failure("E0423", format!("there is no function `{function}`"), Some(help)));
    };
    let value = json::value(&data).map_err(|error| failure("E0220", format!("the data are not JSON: {error}"), None))?;
    project.check_invocation(invoked, &value).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        let first = problems.first();
        let code = first.map_or("E0221", |problem| problem.code);
        failure(code, format!("`{function}` does not take these data: {}", all.join("; ")), first.and_then(|first| first.help.clone()))
    })?;
    let now = inner.clock.now();
    let event = EventRow { id: inner.ids.next(now), name: Arc::from(INVOKED), data, sender_id: None, ts: now, accepted: now, extra: None };
    let candidate = project.invocation(invoked, &event, &value);
    let wants = invoked.wants(&candidate.keys);
    let run = crate::rules::matching::new_run(inner.ids.next(now), &event, &candidate, now);
    Ok((event, run, wants))
}

fn failure(code: &str, message: String, help: Option<String>) -> Box<Failure> {
    Box::new(Failure { message, code: code.to_owned(), help, ..Failure::default() })
}

/// Checks an invocation by a run, and makes the run that it starts.
pub(super) fn prepare(inner: &Arc<Inner>, caller: &RunRow, function: &str, data: Json, extra: Option<Json>) -> Checked<RunId> {
    let (mut event, mut run, wants) = made(inner, function, data)?;
    event.extra = extra;
    run.invoked_by = Some(caller.id);
    let ancestors = ancestors(inner, caller).map_err(|error| failure("", error.to_string(), None))?;
    if let Some(want) = family::deadlock(&wants, &ancestors) {
        let runs = if want.limit == 1 { "one run" } else { "its runs" };
        let message = format!("deadlock: `{function}` would wait for a slot that this run, or one that invoked it, holds until it ends");
        let help = format!("the limit lets {runs} at a time through; `hold: active` frees the slot while a run waits");
        return Err(failure("E0424", message, Some(help)));
    }
    Ok((run.id, Box::new(Invocation { inner: Arc::clone(inner), event, run })))
}

/// Why a function was not invoked from outside.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvokeError {
    /// There is no such function, or it does not take these data.
    #[error("{}", .0.message)]
    Refused(Box<Failure>),
    /// The engine is about to stop.
    #[error("the engine is draining")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Starts a run of a function without an event of its own: it passes `concurrency` and no gate before it. `data` is a
    /// JSON object. Answers the run once it is durable.
    ///
    /// # Errors
    /// As `InvokeError` says; nothing is stored then.
    pub async fn invoke(&self, function: &str, data: Json) -> Result<RunRow, InvokeError> {
        if self.is_draining() {
            return Err(InvokeError::Draining);
        }
        let inner = &self.inner;
        let (event, run, _) = made(inner, function, data).map_err(InvokeError::Refused)?;
        let writes = vec![Write::InsertEvent(event.clone()), Write::CreateRun(run.clone())];
        // Without expectations there is no conflict.
        inner.outcome(inner.store.commit(Lane::Ingest, vec![List { expect: Vec::new(), writes }])).await?;
        inner.created(vec![Created { run: run.clone(), event: Arc::new(event) }], run.created);
        Ok(run)
    }
}

/// The limits that a run and those that invoked it come under, each for itself.
fn ancestors(inner: &Inner, caller: &RunRow) -> Result<Vec<Vec<Want>>, StoreError> {
    let project = inner.project();
    let wants = |row: &RunRow| project.function(&row.function).map(|function| function.wants(&row.keys)).unwrap_or_default();
    let mut all = vec![wants(caller)];
    let mut at = caller.id;
    loop {
        let parent = inner.waits().parent_of(at);
        let Some(parent) = parent else { return Ok(all) };
        let Some(row) = inner.store.run(parent.run)? else { return Ok(all) };
        all.push(wants(&row));
        at = row.id;
    }
}

impl Parcel for Invocation {
    fn commit(self: Box<Self>, with: OwnWrites) -> Reply<Option<Record>> {
        apart(async move { self.start(with).await })
    }
}

impl Invocation {
    async fn start(self, with: OwnWrites) -> Result<Option<Record>, PostError> {
        let Invocation { inner, event, run } = self;
        let mut list = with.list;
        list.writes.push(Write::InsertEvent(event.clone()));
        let event = Arc::new(event);
        list.writes.push(Write::CreateRun(run.clone()));
        loop {
            let ticket = {
                let mut index = inner.waits_mut();
                if let Some(row) = &with.wait {
                    index.put(row, true);
                    index.is_coming(Member { run: run.clone(), event: Some(Arc::clone(&event)) });
                }
                inner.store.commit(Lane::Steps, vec![list.clone()])
            };
            let outcome = inner.settle(ticket).await;
            let mut index = inner.waits_mut();
            match (&outcome, &with.wait) {
                (Some(Ok(_)), Some(row)) => index.opened(&row.wait),
                (_, Some(row)) => index.close(&row.wait),
                (_, None) => {}
            }
            index.has_come(run.id);
            drop(index);
            match outcome {
                None => {}
                Some(Ok(_)) => {
                    let now = run.created;
                    inner.created(vec![Created { run, event }], now);
                    return Ok(None);
                }
                Some(Err(Again::Stop(error))) => return Err(error),
                Some(Err(Again::Conflict(_))) => return Err(PostError::Lost),
            }
        }
    }
}

impl Inner {
    /// A run and all that it has started and waits for, over all generations, without those that have ended. To be
    /// called while the index is held, so that nothing is started in between.
    pub(super) fn tree(&self, index: &super::wait_index::Index, root: Member) -> Result<Vec<Member>, StoreError> {
        let mut tree = vec![root];
        let mut at = 0;
        while at < tree.len() {
            for child in index.children_of(tree[at].run.id) {
                tree.extend(self.member(index, child)?);
            }
            at += 1;
        }
        Ok(tree)
    }

    /// A run that another one has started, unless it has ended. To be called as `tree`.
    pub(super) fn member(&self, index: &super::wait_index::Index, run: RunId) -> Result<Option<Member>, StoreError> {
        // It may be on its way to the disk. If a cancel comes there first, it is refused, since its parent has moved on.
        let unborn = index.unborn(run).cloned();
        Ok(match self.store.run(run)? {
            Some(row) => Some(row).filter(|row| !row.state.is_terminal()).map(Member::from),
            None => unborn,
        })
    }
}

/// The time of a wait for an invoked run is over: the run is cancelled, unless it has ended before.
pub(super) async fn give_up(inner: &Arc<Inner>, wait: &WaitKey, child: RunId) -> Result<(), PostError> {
    let given_up = |_: &RunRow| Some((waits::resolve(wait, Resolution::TimedOut), "the run that invoked it waited no longer".to_owned()));
    match cancel_awaited(inner, child, given_up).await {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(PostError::Lost),
        Err(error) => {
            inner.fail(error.clone());
            Err(PostError::Store(error))
        }
    }
}

/// An invoked run stands in line where it can never move: it is cancelled, and the one that waits for it is told why, however long the
/// disk is full. `limit` says what the limit allows. Nothing is done where it has moved since.
pub(super) async fn break_deadlock(inner: &Arc<Inner>, child: RunId, limit: &str) {
    let broken = |row: &RunRow| {
        let parent = inner.waits().parent_of(child);
        let wait = parent.filter(|_| row.state == RunState::Queued)?;
        let (reason, failure) = family::deadlocked(row, limit);
        let mut list = waits::resolve(&wait, Resolution::Failed(Arc::new(failure)));
        // Where it starts after all, it stands in line no more.
        list.expect.push(Expect::RunRev { run: child, rev: row.rev });
        Some((list, reason))
    };
    // One that is gone needs no cancel.
    if let Err(error) = cancel_awaited(inner, child, broken).await {
        inner.fail(error);
    }
}

/// Cancels an invoked run in one list with what its parent's wait for it comes to, however long the disk is full. `decide` gives that and
/// the reason, anew each time the run has moved meanwhile, or says that there is nothing to do any more. None where the run is gone.
async fn cancel_awaited(inner: &Inner, child: RunId, decide: impl Fn(&RunRow) -> Option<(List, String)>) -> Result<Option<()>, StoreError> {
    loop {
        let Some(row) = inner.store.run(child)? else { return Ok(None) };
        let Some((mut list, reason)) = decide(&row) else { return Ok(Some(())) };
        let now = inner.clock.now();
        let (ticket, doom) = {
            let index = inner.waits();
            let doom = inner.doom(&index, row, &reason, now)?;
            list.expect.extend(doom.list.expect.iter().cloned());
            list.writes.extend(doom.list.writes.iter().cloned());
            (inner.store.commit(Lane::Steps, vec![list]), doom)
        };
        match inner.outcome(ticket).await {
            Ok(verdicts) => match verdicts.into_iter().next() {
                Some(Ok(())) => {
                    inner.cancelled(doom, now);
                    return Ok(Some(()));
                }
                Some(Err(Conflict::RunMoved { .. } | Conflict::RunGone)) => tokio::task::yield_now().await,
                // The wait has come to something in time.
                Some(Err(_)) | None => return Ok(Some(())),
            },
            Err(StoreError::Full) => inner.wait_for_room().await,
            Err(error) => return Err(error),
        }
    }
}
