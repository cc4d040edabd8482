//! Ends of runs, as far as they concern others: the events and runs that an end makes, the cancel of a run with all that
//! it has started, and the events that cancel runs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use crate::base::{Millis, RunId, json};
use crate::expr::EventView;
use crate::rules::ended::{self, End, Started};
use crate::rules::family::{self, Doomed, WITHOUT_IT};
use crate::rules::gates::Collect;
use crate::rules::{
    CANCELS_NOTED, Conflict, EventRow, Expect, Kind, List, Outcome, RunRow, RunState, WaitKey, WaitRow, WaitState, What, Write, matching,
    trace,
};
use crate::store::{Lane, StoreError, Verdict};

use super::scheduler::{Created, Message};
use super::wait_index::Index;
use super::{CancelError, Inner, lines};

/// Runs that somebody cancels together, in one commit: whoever decides on an event waits while it is decided on them.
const CANCELS_AT_ONCE: usize = 100;

/// What an end makes: written with it, and what is done once that is durable.
#[derive(Default)]
pub(super) struct Told {
    pub(super) writes: Vec<Write>,
    pub(super) created: Vec<Created>,
}

/// A run, with its event where that is not stored yet.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) run: RunRow,
    pub(super) event: Option<Arc<EventRow>>,
}

impl From<RunRow> for Member {
    fn from(run: RunRow) -> Member {
        Member { run, event: None }
    }
}

/// Runs that are about to be cancelled by one list.
pub(super) struct Doom {
    /// The run that is cancelled, then those that it has started.
    tree: Vec<RunRow>,
    /// The wait of the run that invoked the first one.
    parent: Option<WaitKey>,
    created: Vec<Created>,
    reason: Arc<str>,
    pub(super) list: List,
}

impl Inner {
    /// What started a run, whose own event is `by`.
    pub(super) fn started(&self, run: &RunRow, by: EventRow) -> Result<Started, StoreError> {
        let project = self.project();
        let declared = project.function(&run.function);
        let is_batch = run.collects().is_some() && declared.is_some_and(|function| matches!(function.collect, Some(Collect::Batch { .. })));
        // A function may collect no longer, and its run have done so.
        let ids = if run.collects().is_some() { self.store.batch(run.id)? } else { Vec::new() };
        let mut rest = Vec::with_capacity(ids.len());
        for id in &ids {
            rest.extend(self.store.event(*id)?);
        }
        Ok(Started { by, batch: (is_batch || !ids.is_empty()).then_some(rest) })
    }

    /// The events and runs that the end of a run makes; `cause` reads its event, where that is needed.
    pub(super) fn told(
        &self,
        run: &RunRow,
        cause: impl FnOnce() -> Result<Option<EventRow>, StoreError>,
        end: End<'_>,
        now: Millis,
    ) -> Result<Told, StoreError> {
        let mut told = Told::default();
        if ended::failing_function(&run.function).is_some() {
            return Ok(told);
        }
        let project = self.project();
        let function = project.function(&run.function).filter(|_| end.state == RunState::Failed);
        let script = function.and_then(|function| function.on_failure.as_ref());
        let is_heard = |name: &&&str| project.listens(name) || (script.is_some() && **name == ended::FAILED);
        let names: Vec<&str> = ended::told_by(end.state).iter().filter(is_heard).copied().collect();
        if names.is_empty() {
            return Ok(told);
        }
        let Some(cause) = cause()?.filter(|cause| !ended::is_silent(&cause.name)) else { return Ok(told) };
        let cause = self.started(run, cause)?;
        for name in names {
            let mut row = ended::event(name, self.ids.next(now), run, &cause, end, now);
            row.extra = trace::after(run, cause.by.extra.as_deref(), self.traces.is_some()).map(|context| context.beside(None));
            let data = json::value(&row.data).unwrap_or_default();
            let mut candidates = project.listeners(&row, &data);
            candidates.extend(script.filter(|_| name == ended::FAILED).map(|script| project.invocation(script, &row, &data)));
            let runs: Vec<RunRow> =
                candidates.iter().map(|candidate| matching::new_run(self.ids.next(now), &row, candidate, now)).collect();
            told.writes.push(Write::InsertEvent(row.clone()));
            told.writes.extend(runs.iter().cloned().map(Write::CreateRun));
            let row = Arc::new(row);
            told.created.extend(runs.into_iter().map(|run| Created { run, event: Arc::clone(&row) }));
        }
        Ok(told)
    }

    /// Adds what the end in a list makes to it; gives what is to be done once it is durable.
    pub(super) fn tell_with(&self, list: &mut List, run: &RunRow, event: &EventRow, now: Millis) -> Result<Vec<Created>, StoreError> {
        let end = list.writes.iter().find_map(|write| match write {
            Write::End { run: ended, state, output, error, reason, .. } if *ended == run.id => {
                Some(End { state: *state, output: output.as_ref(), error: error.as_deref(), reason: reason.as_deref() })
            }
            _ => None,
        });
        let Some(end) = end else { return Ok(Vec::new()) };
        let told = self.told(run, || Ok(Some(event.clone())), end, now)?;
        list.writes.extend(told.writes);
        Ok(told.created)
    }

    /// Decides on the cancel of a run and all that it has started and waits for. To be called while the index is held
    /// until the list is handed to the store, so that nothing is started in between.
    pub(super) fn doom(&self, index: &Index, root: impl Into<Member>, reason: &str, now: Millis) -> Result<Doom, StoreError> {
        let root = root.into();
        let parent = index.parent_of(root.run.id);
        self.doom_for(index, root, parent, reason, now)
    }

    /// As `doom`, for a run that the one which invoked it gives up in the same list, so that it is told of nothing.
    pub(super) fn doom_left(&self, index: &Index, root: RunRow, reason: &str, now: Millis) -> Result<Doom, StoreError> {
        self.doom_for(index, root.into(), None, reason, now)
    }

    /// The cancels of all that a run has started and waits for, to be in one list with its end. To be called as `doom`.
    pub(super) fn dooms_without(&self, index: &Index, parent: RunId, now: Millis) -> Result<Vec<Doom>, StoreError> {
        let mut dooms = Vec::new();
        for child in index.children_of(parent) {
            if let Some(child) = self.member(index, child)? {
                dooms.push(self.doom_for(index, child, None, WITHOUT_IT, now)?);
            }
        }
        Ok(dooms)
    }

    fn doom_for(&self, index: &Index, root: Member, parent: Option<WaitKey>, reason: &str, now: Millis) -> Result<Doom, StoreError> {
        let members = self.tree(index, root)?;
        let (mut created, mut tree) = (Vec::new(), Vec::with_capacity(members.len()));
        let mut doomed = Vec::with_capacity(members.len());
        for (at, Member { run, event }) in members.into_iter().enumerate() {
            let reason = family::reason(at, reason);
            let end = End { state: RunState::Cancelled, output: None, error: None, reason: Some(&reason) };
            let cause = || match event {
                Some(event) => Ok(Some(Arc::unwrap_or_clone(event))),
                None => self.store.event(run.event),
            };
            let told = self.told(&run, cause, end, now)?;
            created.extend(told.created);
            doomed.push(Doomed { run: run.clone(), reason: Arc::clone(&reason), told: told.writes });
            tree.push(run);
        }
        let list = family::cancel(doomed, parent.as_ref(), now);
        Ok(Doom { tree, parent, created, reason: Arc::from(reason), list })
    }

    /// Runs are cancelled: nothing of them stays in memory, and whoever watches is told.
    fn are_cancelled(&self, runs: &[RunRow], reason: &str, now: Millis) {
        for (at, run) in runs.iter().enumerate() {
            self.waits_mut().forget(run.id);
            self.unlisten(run.id);
            self.tell(Message::Cancelled(run.id));
            lines::stands(run, RunState::Cancelled, Some(&family::reason(at, reason)));
            self.metrics.cancelled(&run.function, run.started, now);
            self.notify_run(run.id, &run.function, RunState::Cancelled, now);
        }
    }

    /// What is done once runs are cancelled.
    pub(super) fn cancelled(&self, doom: Doom, now: Millis) {
        self.are_cancelled(&doom.tree, &doom.reason, now);
        self.resolved(doom.parent.into_iter().map(|parent| (parent, &Ok(()))));
        if !doom.created.is_empty() {
            self.created(doom.created, now);
        }
    }

    /// Ends a run from outside, with all that it has started; the run that waits for it goes on.
    pub(super) async fn cancel(&self, run: RunId, reason: &str) -> Result<RunRow, CancelError> {
        self.cancel_many(&[run], reason).await?.into_iter().next().unwrap_or(Err(CancelError::NotFound))?;
        match self.store.run(run) {
            Ok(row) => row.ok_or(CancelError::NotFound),
            Err(error) => {
                self.fail(error.clone());
                Err(error.into())
            }
        }
    }

    /// Ends many runs, each as `cancel` does and by a list of its own; gives what became of each, in their order. Where the store fails
    /// midway, those before stay cancelled.
    pub(super) async fn cancel_many(&self, runs: &[RunId], reason: &str) -> Result<Vec<Result<(), CancelError>>, StoreError> {
        let mut done = Vec::with_capacity(runs.len());
        for some in runs.chunks(CANCELS_AT_ONCE) {
            match self.cancel_together(some, reason).await {
                Ok(some) => done.extend(some),
                Err(error) => {
                    // Nobody else may be about to commit, and find the failure.
                    if error != StoreError::Full {
                        self.fail(error.clone());
                    }
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    /// Ends a few runs in one commit, or in several where one of them comes under another one: whoever comes later finds it cancelled.
    async fn cancel_together(&self, runs: &[RunId], reason: &str) -> Result<Vec<Result<(), CancelError>>, StoreError> {
        let mut done = vec![Ok(()); runs.len()];
        let mut left: Vec<usize> = (0..runs.len()).collect();
        while !left.is_empty() {
            let mut rows = Vec::with_capacity(left.len());
            for at in std::mem::take(&mut left) {
                match self.store.run(runs[at])? {
                    Some(row) if row.state.is_terminal() => done[at] = Err(CancelError::Ended(row.state)),
                    Some(row) => rows.push((at, row)),
                    None => done[at] = Err(CancelError::NotFound),
                }
            }
            if rows.is_empty() {
                break;
            }
            let now = self.clock.now();
            let (ticket, dooms) = {
                let index = self.waits();
                let (mut doomed, mut dooms): (HashSet<RunId>, Vec<(usize, Doom)>) = (HashSet::new(), Vec::new());
                for (at, row) in rows {
                    let doom = self.doom(&index, row, reason, now)?;
                    let is_apart = doom.tree.iter().all(|run| !doomed.contains(&run.id));
                    doomed.extend(doom.tree.iter().map(|run| run.id));
                    if is_apart {
                        dooms.push((at, doom));
                    } else {
                        left.push(at);
                    }
                }
                let lists = dooms.iter().map(|(_, doom)| doom.list.clone()).collect();
                (self.store.commit(Lane::Steps, lists), dooms)
            };
            for ((at, doom), verdict) in dooms.into_iter().zip(ticket.await?) {
                match verdict {
                    Ok(()) => self.cancelled(doom, now),
                    Err(Conflict::RunMoved { state, .. }) => done[at] = Err(CancelError::Ended(state)),
                    Err(_) => done[at] = Err(CancelError::NotFound),
                }
            }
        }
        Ok(done)
    }

    /// The runs that listen for events that cancel them, to be looked at.
    pub(super) fn listening(&self) -> RwLockReadGuard<'_, Index> {
        self.listening.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn listening_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.listening.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run listens from now on for the events that cancel it: what its function's `cancel_on` says. Nothing of it is
    /// stored, since it follows from the run and its event.
    pub(super) fn listen(&self, run: &RunRow, event: &EventRow) {
        let project = self.project();
        let Some(function) = project.function(&run.function).filter(|function| !function.cancels.is_empty()) else { return };
        let mut listening = self.listening_mut();
        for (at, cancel) in function.cancels.iter().enumerate() {
            let wait = WaitKey { run: run.id, kind: Kind::Wait, key: Arc::from(at.to_string()) };
            let what = Arc::new(What::Events(vec![cancel.wanted(event)]));
            listening.put(&WaitRow { wait, what, opened: run.created, until: None, state: WaitState::Open, pin: None }, false);
        }
    }

    /// A run has ended: nothing cancels it any more.
    pub(super) fn unlisten(&self, run: RunId) {
        if self.listening().knows(run) {
            self.listening_mut().forget(run);
        }
    }

    /// Lets the runs of the store listen that have not ended.
    pub(super) fn listen_again(&self) -> Result<(), StoreError> {
        let project = self.project();
        self.listen_all(&|function| project.function(function).is_some_and(|function| !function.cancels.is_empty()))
    }

    /// Lets the runs listen that have not ended and whose function is one of those that `which` names, as that is now.
    pub(super) fn listen_all(&self, which: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
        let project = self.project();
        // Those of a function that is gone are found by what they listen for.
        if self.listening().is_empty() && project.functions.iter().all(|function| function.cancels.is_empty()) {
            return Ok(());
        }
        let mut rows = Vec::new();
        self.store.unfinished(&mut |row| rows.extend(Some(row).filter(|row| which(&row.function))))?;
        for row in rows {
            self.unlisten(row.id);
            if project.function(&row.function).is_none_or(|function| function.cancels.is_empty()) {
                continue;
            }
            if let Some(event) = self.store.event(row.event)? {
                self.listen(&row, &event);
            }
            // It may have ended while it was looked at.
            if self.store.run(row.id)?.is_none_or(|run| run.state.is_terminal()) {
                self.unlisten(row.id);
            }
        }
        Ok(())
    }

    /// The cancels that an event means, each a list that holds if the event is stored. To be called as `doom`.
    pub(super) fn dooms_of(&self, index: &Index, row: &EventRow, now: Millis) -> Result<Vec<Doom>, StoreError> {
        let fitting = {
            let listening = self.listening();
            if !listening.awaits(&row.name) {
                return Ok(Vec::new());
            }
            let data = json::value(&row.data).unwrap_or_default();
            let id = row.id.to_string();
            listening.fitting(EventView { id: &id, name: &row.name, data: &data, ts: row.ts.0 })
        };
        let project = self.project();
        let (mut dooms, mut doomed): (Vec<Doom>, HashSet<RunId>) = (Vec::new(), HashSet::new());
        let mut noted: HashMap<Arc<str>, u8> = HashMap::new();
        for WaitKey { run, key, .. } in fitting {
            let Some(run) = self.store.run(run)?.filter(|run| !run.state.is_terminal()) else { continue };
            let cancels = project.function(&run.function).map_or(&[][..], |function| &function.cancels);
            let timeout = key.parse::<usize>().ok().and_then(|at| cancels.get(at)?.timeout);
            let in_time = timeout.is_none_or(|timeout| now <= run.created.after(timeout));
            if !in_time || doomed.contains(&run.id) {
                continue;
            }
            let (function, run_id) = (Arc::clone(&run.function), run.id);
            let mut doom = self.doom(index, run, &format!("{}{} {} came", ended::CANCELLED_BY, row.name, row.id), now)?;
            doom.list.expect.insert(0, Expect::EventStored(row.id));
            let nth = noted.entry(Arc::clone(&function)).or_default();
            if *nth < CANCELS_NOTED {
                let outcome = Outcome::Cancelled { run: run_id, nth: *nth };
                doom.list.writes.insert(0, Write::NoteOutcome { event: row.id, function, outcome });
                *nth += 1;
            }
            doomed.extend(doom.tree.iter().map(|run| run.id));
            dooms.push(doom);
        }
        Ok(dooms)
    }

    /// What is done about the cancels of events once it is known what became of them.
    pub(super) async fn doomed(&self, dooms: Vec<Doom>, verdicts: impl Iterator<Item = &Verdict>, now: Millis) {
        for (doom, _) in dooms.into_iter().zip(verdicts).filter(|(_, verdict)| verdict.is_ok()) {
            self.cancelled_by_event(doom, now).await;
        }
    }

    /// What is done once runs are cancelled in one commit with an event.
    ///
    /// The event and what a run invokes take different ways to the disk: a run may have been started since the decision. If the
    /// engine ends before that one is cancelled, `recovery` does it.
    pub(super) async fn cancelled_by_event(&self, doom: Doom, now: Millis) {
        let known: Vec<RunId> = doom.tree.iter().map(|run| run.id).collect();
        let children: Vec<RunId> = {
            let index = self.waits();
            known.iter().flat_map(|run| index.children_of(*run)).filter(|child| !known.contains(child)).collect()
        };
        let reason = family::reason(1, &doom.reason);
        self.cancelled(doom, now);
        for child in children {
            self.cancel_surely(child, &reason).await;
        }
    }

    /// Ends a run from within, however long the disk is full.
    pub(super) async fn cancel_surely(&self, run: RunId, reason: &str) {
        loop {
            match self.cancel(run, reason).await {
                Ok(_) => break,
                Err(CancelError::Store(StoreError::Full)) => self.wait_for_room().await,
                // A run that has ended meanwhile needs no cancel; that the store failed is noted already.
                Err(error) => {
                    tracing::debug!(%run, %error, "a run that was to be cancelled was not");
                    break;
                }
            }
        }
    }
}
