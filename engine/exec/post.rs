//! What running scripts ask of the engine: events and signals that they send, runs that they invoke, waits that they open.
//!
//! Whatever changes more than the run itself goes on in a task of its own, so that what follows a commit is done also
//! where the script is ended while it waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::base::{EventId, Id, Json, Millis, RunId, json};
use crate::expr::EventView;
use crate::rules::matching;
use crate::rules::row::Recorded;
use crate::rules::waits;
use crate::rules::{
    Conflict, EventRow, Expect, Failure, KvRow, List, Pinned, Record, Resolution, RunRow, WaitKey, WaitRow, WaitState, What, Write,
};
use crate::script::{Checked, Keys, Outgoing, OwnWrites, Parcel, Post, PostError, Reply};
use crate::store::{EventQuery, Lane, StoreError, Ticket};

use super::gates::{self, Decided};
use super::gather::Intake;
use super::ingest::{NewEvent, Pending, Refusal};
use super::scheduler::{Created, Message};
use super::{AcceptError, Inner, Settled};

/// Events that one look back reads at once.
const LOOK_BACK_CHUNK: usize = 200;

/// The engine as its scripts reach it.
pub(super) struct Clerk {
    pub(super) inner: Arc<Inner>,
}

/// Does it in a task of its own.
pub(super) fn apart<T: 'static>(work: impl Future<Output = Result<T, PostError>> + 'static) -> Reply<T> {
    let (answer, done) = oneshot::channel();
    tokio::task::spawn_local(async move {
        // A script that was ended meanwhile does not ask any more.
        let _ = answer.send(work.await);
    });
    Box::pin(async { done.await.unwrap_or(Err(PostError::Store(StoreError::Closed))) })
}

impl Post for Clerk {
    fn send(&self, events: Vec<Outgoing>) -> Checked<Vec<EventId>> {
        let inner = Arc::clone(&self.inner);
        let now = inner.clock.now();
        let events = events.into_iter().map(|event| NewEvent {
            name: event.name,
            data: event.data,
            sender_id: Some(event.id.clone().unwrap_or(event.derived)),
            // A derived id comes once with its record, so it needs no key.
            dedupe: event.id,
            ts: event.ts,
            extra: event.extra,
        });
        let pending = inner.check(events.collect(), now).map_err(|error| Box::new(refused(&error)))?;
        let ids = pending.iter().map(|event| event.row.id).collect();
        Ok((ids, Box::new(Sending { inner, pending, now })))
    }

    fn signal(&self, name: Arc<str>, data: Json) -> Box<dyn Parcel> {
        Box::new(Signal { inner: Arc::clone(&self.inner), name, data })
    }

    fn invoke(&self, caller: &RunRow, function: &str, data: Json, extra: Option<Json>) -> Checked<RunId> {
        let inner = Arc::clone(&self.inner);
        super::invoke::prepare(&inner, caller, function, data, extra)
    }

    fn open(&self, run: &RunRow, wait: WaitRow, with: Option<OwnWrites>) -> Reply<WaitRow> {
        let inner = Arc::clone(&self.inner);
        let run = run.clone();
        Box::pin(async move { open(&inner, &run, wait, with).await })
    }

    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.inner.store.waits(run)
    }

    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.inner.store.event(id)
    }

    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError> {
        let now = self.inner.clock.now();
        Ok(self.inner.store.value(key)?.filter(|row| row.is_there(now)))
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.inner.keys)
    }

    fn time_out(&self, wait: &WaitKey) -> Reply<WaitRow> {
        let inner = Arc::clone(&self.inner);
        let wait = wait.clone();
        apart(async move { time_out(&inner, wait).await })
    }

    fn leave(&self, race: Arc<str>, waits: Vec<WaitRow>, with: OwnWrites) -> Reply<()> {
        let inner = Arc::clone(&self.inner);
        apart(async move { super::left::leave(&inner, &race, &waits, &with.list).await })
    }
}

/// Why events of a script were refused, as the failure of its step.
fn refused(error: &AcceptError) -> Failure {
    let AcceptError::Refused(refusals) = error else { return Failure { message: error.to_string(), ..Failure::default() } };
    let text = |refusal: &Refusal| format!("{}: {}", refusal.problem.pointer, refusal.problem.message);
    let first = refusals.first();
    Failure {
        message: format!("the event is refused: {}", refusals.iter().map(text).collect::<Vec<_>>().join("; ")),
        code: first.map(|refusal| refusal.problem.code.to_owned()).unwrap_or_default(),
        help: first.and_then(|refusal| refusal.problem.help.clone()),
        ..Failure::default()
    }
}

/// What a commit of a run came to, where it did not simply happen.
pub(super) enum Again {
    /// It is to be decided again, on what is there now.
    Conflict(Conflict),
    /// The run may write nothing more, or the store failed.
    Stop(PostError),
}

impl Inner {
    /// Waits for a commit of a run's own list (the first one) and others after it. None where the disk was full: then
    /// there is room again, and it is to be decided anew.
    pub(super) async fn settle(&self, ticket: Ticket) -> Option<Result<Vec<Result<(), Conflict>>, Again>> {
        match self.settled(ticket).await {
            Settled::Done(verdicts) => Some(match verdicts.first() {
                Some(Err(Conflict::RunMoved { .. } | Conflict::RunGone)) => Err(Again::Stop(PostError::Lost)),
                Some(Err(conflict)) => Err(Again::Conflict(conflict.clone())),
                _ => Ok(verdicts),
            }),
            Settled::Again => None,
            Settled::Failed => Some(Err(Again::Stop(PostError::Store(StoreError::Closed)))),
        }
    }

    /// Notes what became of lists that were to resolve waits, and wakes their runs.
    pub(super) fn resolved<'a>(&self, outcomes: impl Iterator<Item = (WaitKey, &'a Result<(), Conflict>)>) {
        let mut runs = Vec::new();
        let mut index = None;
        for (wait, outcome) in outcomes {
            let index = index.get_or_insert_with(|| self.waits_mut());
            match outcome {
                Ok(()) => {
                    index.close(&wait);
                    runs.push(wait.run);
                }
                // Another wait of its run has had the event, so it may be open still.
                Err(_) if runs.contains(&wait.run) => {}
                // What was refused may have been decided on before the wait was stored, and be told of after that.
                Err(_) if index.is_stored(&wait) && !self.is_open(&wait) => index.close(&wait),
                Err(_) => {}
            }
        }
        // While nobody else sees the index: whoever finds a wait closed has been told, or is about to be (see the scheduler's `deadlock`).
        if !runs.is_empty() {
            self.tell(Message::Resolved(runs));
        }
        drop(index);
    }
}

/// Events that are checked and on their way.
struct Sending {
    inner: Arc<Inner>,
    pending: Vec<Pending>,
    now: Millis,
}

impl Parcel for Sending {
    fn commit(self: Box<Self>, with: OwnWrites) -> Reply<Option<Record>> {
        let Sending { inner, pending, now } = *self;
        apart(async move { send(&inner, pending, now, with).await })
    }
}

async fn send(inner: &Inner, mut pending: Vec<Pending>, now: Millis, with: OwnWrites) -> Result<Option<Record>, PostError> {
    // The first event of each name and id in the same list is the one that counts.
    let mut ids: Vec<EventId> = pending.iter().map(|event| event.row.id).collect();
    same_ids(&mut pending, &mut ids);
    let mut repeated: Vec<Write> = Vec::new();
    loop {
        let record = with.record.clone().map(|record| Record { result: Recorded::Value(ids_json(&ids)), ..record });
        let moved = inner.gates_moved.notified();
        let mut decision = inner.decision();
        let handed = {
            let index = inner.waits();
            let mut gates = pending.iter().any(|event| gates::ask(&event.candidates)).then(|| inner.gates());
            let mut list = with.list.clone();
            list.writes.extend(repeated.iter().cloned());
            let mut created = Vec::new();
            let (mut gone, mut joined) = (Vec::new(), Vec::new());
            let mut unsure = false;
            let mut keys: HashMap<(Arc<str>, Arc<str>), RunId> = HashMap::new();
            for event in &pending {
                // Of two runs with one idempotency key that the same list would start, the first one counts.
                let mut taken = event.taken.clone();
                for candidate in &event.candidates {
                    let holder =
                        candidate.idempotency.as_ref().and_then(|key| keys.get(&(Arc::clone(&candidate.function), Arc::clone(key))));
                    taken.extend(holder.map(|run| (Arc::clone(&candidate.function), *run)));
                }
                let decided = inner.decide(&index, gates.as_deref_mut(), &mut decision, event, &taken, now);
                let Some(Decided { list: part, runs, joins, replaced }) = decided.map_err(|error| failed(inner, error))? else {
                    // Were it taken back later, it would wake this sender itself, again and again.
                    if let Some(gates) = gates.as_deref_mut() {
                        decision.undo(gates);
                    }
                    unsure = true;
                    break;
                };
                list.expect.extend(part.expect);
                list.writes.extend(part.writes);
                keys.extend(runs.iter().filter_map(|run| Some(((Arc::clone(&run.function), run.idempotency.clone()?), run.id))));
                gone.extend(replaced);
                let row = Arc::new(event.row.clone());
                created.extend(runs.into_iter().map(|run| Created { run, event: Arc::clone(&row) }));
                joined.extend(joins.into_iter().map(|join| (join, Arc::clone(&row))));
            }
            list.writes.extend(record.clone().map(|record| Write::Append { run: run_of(&with.list), record }));
            let mut lists = vec![list];
            let mut fitting = Vec::new();
            for event in &pending {
                for wait in inner.awaiting(&index, &event.row).map_err(|error| failed(inner, error))? {
                    lists.push(waits::resolve(&wait, Resolution::Event(event.row.id)));
                    fitting.push(wait);
                }
            }
            let mut dooms = Vec::new();
            for event in &pending {
                let found = inner.dooms_of(&index, &event.row, now).map_err(|error| failed(inner, error))?;
                dooms.extend(found);
            }
            lists.extend(dooms.iter().map(|doom| doom.list.clone()));
            (!unsure).then(|| (inner.store.commit(Lane::Steps, lists), created, joined, gone, fitting, dooms))
        };
        let Some((ticket, created, joined, gone, fitting, dooms)) = handed else {
            moved.await;
            continue;
        };
        let replaces = !gone.is_empty();
        let outcome = inner.settle(ticket).await;
        decision.settle(matches!(outcome, Some(Ok(_))));
        match outcome {
            None => {}
            Some(Ok(verdicts)) => {
                inner.created(created, now);
                inner.joined(joined);
                inner.replaced(gone, now).await;
                let waited = fitting.len();
                inner.resolved(fitting.into_iter().zip(verdicts.iter().skip(1)));
                inner.doomed(dooms, verdicts.iter().skip(1 + waited), now).await;
                return Ok(record);
            }
            // It may be the run whose place another one was to take that has moved on, and not the sender itself.
            Some(Err(Again::Stop(PostError::Lost))) if replaces && is_where_it_was(inner, &with.list)? => {
                pending.iter_mut().for_each(|event| event.cautious = true);
            }
            Some(Err(Again::Stop(error))) => return Err(error),
            Some(Err(Again::Conflict(conflict))) => {
                repeated.extend(decide_again(inner, &mut pending, &mut ids, &conflict, now)?);
            }
        }
    }
}

/// Whether the run that a list is about is at the revision that the list expects.
pub(super) fn is_where_it_was(inner: &Inner, list: &List) -> Result<bool, PostError> {
    let expected = list.expect.iter().find_map(|expect| if let Expect::RunRev { run, rev } = expect { Some((*run, *rev)) } else { None });
    let Some((run, rev)) = expected else { return Ok(true) };
    let row = inner.store.run(run).map_err(|error| failed(inner, error))?;
    Ok(row.is_some_and(|row| row.rev == rev))
}

/// Leaves out events that have the name and id of one before them.
fn same_ids(pending: &mut Vec<Pending>, ids: &mut [EventId]) {
    let mut seen: Vec<(Arc<str>, Arc<str>, EventId)> = Vec::new();
    pending.retain(|event| {
        let Some(key) = &event.dedupe else { return true };
        match seen.iter().find(|(name, other, _)| *name == event.row.name && other == key) {
            Some((.., first)) => {
                ids[event.at] = *first;
                false
            }
            None => {
                seen.push((Arc::clone(&event.row.name), Arc::clone(key), event.row.id));
                true
            }
        }
    });
}

/// Notes that the store failed for good.
fn failed(inner: &Inner, error: StoreError) -> PostError {
    inner.fail(error.clone());
    PostError::Store(error)
}

/// An expectation of a sending did not hold: what it was about is left out, or it is decided on anew. The note of an event that
/// was sent before.
fn decide_again(
    inner: &Inner,
    pending: &mut Vec<Pending>,
    ids: &mut [EventId],
    conflict: &Conflict,
    now: Millis,
) -> Result<Option<Write>, PostError> {
    let store = |error: StoreError| failed(inner, error);
    match conflict {
        Conflict::EventKeyTaken(first) => {
            let known = inner.store.event(*first).map_err(store)?;
            let is_it =
                |event: &Pending| known.as_ref().is_none_or(|known| known.name == event.row.name && known.sender_id == event.dedupe);
            let Some(at) = pending.iter().position(|event| event.dedupe.is_some() && is_it(event)) else {
                return Err(store(StoreError::Corrupt(format!("event {first} has a key that nobody asked for"))));
            };
            let event = pending.remove(at);
            ids.iter_mut().filter(|id| **id == event.row.id).for_each(|id| *id = *first);
            Ok(Some(matching::repeated(*first, event.row.name, now)))
        }
        Conflict::IdempotencyTaken(function, by) => {
            let holder = inner.store.run(*by).map_err(store)?;
            for event in pending {
                // A holder that is deleted already names no key: then every event of the list counts as having it.
                let is_it = |candidate: &&matching::Candidate| {
                    candidate.function == *function
                        && candidate.idempotency.is_some()
                        && holder.as_ref().is_none_or(|run| run.idempotency == candidate.idempotency)
                };
                event.taken.extend(event.candidates.iter().filter(is_it).map(|candidate| (Arc::clone(&candidate.function), *by)));
            }
            Ok(None)
        }
        // A run whose place another one was to take has moved on.
        Conflict::WaitClosed => Ok(None),
        Conflict::RunBegun(run) => {
            inner.gates().close(*run);
            Ok(None)
        }
        other => Err(store(StoreError::Corrupt(format!("unexpected conflict: {other:?}")))),
    }
}

/// The run that a list is about.
pub(super) fn run_of(list: &List) -> RunId {
    let run = |expect: &Expect| if let Expect::RunRev { run, .. } = expect { Some(*run) } else { None };
    list.expect.iter().find_map(run).unwrap_or(Id(0))
}

fn ids_json(ids: &[EventId]) -> Json {
    let ids: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    Json::from(format!("[{}]", ids.join(",")))
}

/// A signal on its way.
struct Signal {
    inner: Arc<Inner>,
    name: Arc<str>,
    data: Json,
}

impl Parcel for Signal {
    fn commit(self: Box<Self>, with: OwnWrites) -> Reply<Option<Record>> {
        let Signal { inner, name, data } = *self;
        apart(async move {
            inner.signal_to_all(&name, &data, with.list, with.record.clone()).await?;
            Ok(with.record)
        })
    }
}

impl Inner {
    /// Resolves every wait for a signal, in one commit with what its sender stores; gives how many there were.
    pub(super) async fn signal_to_all(&self, name: &str, data: &Json, from: List, record: Option<Record>) -> Result<usize, PostError> {
        loop {
            let (ticket, waits) = {
                let index = self.waits();
                let waits = index.on_signal(name);
                let mut list = from.clone();
                list.writes.extend(record.clone().map(|record| Write::Append { run: run_of(&from), record }));
                for wait in &waits {
                    let part = waits::resolve(wait, Resolution::Value(Json::clone(data)));
                    list.expect.extend(part.expect);
                    list.writes.extend(part.writes);
                }
                (self.store.commit(Lane::Steps, vec![list]), waits)
            };
            match self.settle(ticket).await {
                None => {}
                Some(Ok(_)) => {
                    let count = waits.len();
                    self.resolved(waits.into_iter().map(|wait| (wait, &Ok(()))));
                    return Ok(count);
                }
                Some(Err(Again::Stop(error))) => return Err(error),
                // One of them has been resolved by another; whoever did it is about to take it out of the index.
                Some(Err(Again::Conflict(_))) => tokio::task::yield_now().await,
            }
        }
    }

    /// A wait as it is stored.
    fn stored_wait(&self, wait: &WaitKey) -> Result<WaitRow, PostError> {
        let rows = self.store.waits(wait.run).map_err(|error| {
            self.fail(error.clone());
            PostError::Store(error)
        })?;
        // The waits of a run go with its end alone.
        rows.into_iter().find(|row| row.wait == *wait).ok_or(PostError::Lost)
    }
}

/// Takes a wait out of the index again, where it did not come to be stored.
struct Opening<'a> {
    inner: &'a Inner,
    wait: WaitKey,
    done: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.inner.waits_mut().close(&self.wait);
        }
    }
}

async fn open(inner: &Arc<Inner>, run: &RunRow, row: WaitRow, with: Option<OwnWrites>) -> Result<WaitRow, PostError> {
    match with {
        Some(with) => store_wait(inner, &row, &with.list).await?,
        None if inner.waits().has_to_look(&row.wait) => {}
        None => return Ok(row),
    }
    let What::Events(wanted) = &*row.what else {
        inner.waits_mut().looked(&row.wait);
        return Ok(row);
    };
    let wanted = inner.waits_mut().alternatives(wanted);
    let mut row = row.clone();
    // Another wait of the run may have the event meanwhile: then there may be a next one.
    while row.state == WaitState::Open {
        let Some(event) = look_back(inner, run, &wanted).await? else {
            inner.waits_mut().looked(&row.wait);
            break;
        };
        row = resolve_own(inner, &row.wait, Resolution::Event(event)).await?;
    }
    Ok(row)
}

/// Stores an open wait. An event that was decided on before it came into the index is on the disk when this is done, so
/// that looking back finds it: what a script sent is in the lane of the wait itself, before it, and for what came from
/// outside an empty list takes the same way.
async fn store_wait(inner: &Arc<Inner>, row: &WaitRow, list: &List) -> Result<(), PostError> {
    loop {
        let mut opening = Opening { inner, wait: row.wait.clone(), done: false };
        let (ticket, barrier) = {
            let mut index = inner.waits_mut();
            index.put(row, true);
            let list = pinned(list, &row.wait, index.pin(&row.what));
            let ticket = inner.store.commit(Lane::Steps, vec![list]);
            (ticket, Intake::commit(inner, vec![List::default()]))
        };
        match inner.settle(ticket).await {
            None => continue,
            Some(Ok(_)) => {}
            Some(Err(Again::Stop(error))) => return Err(error),
            Some(Err(Again::Conflict(_))) => return Err(PostError::Lost),
        }
        opening.done = true;
        inner.waits_mut().opened(&row.wait);
        let mut barrier = Some(barrier);
        while let Some(ticket) = barrier.take() {
            match inner.settle(ticket).await {
                None => barrier = Some(Intake::commit(inner, vec![List::default()])),
                Some(Err(Again::Stop(error))) => return Err(error),
                Some(_) => {}
            }
        }
        return Ok(());
    }
}

/// The list that opens a wait, with what a store is to find it by.
fn pinned(list: &List, wait: &WaitKey, pin: Option<Pinned>) -> List {
    let mut list = list.clone();
    for write in &mut list.writes {
        if let Write::OpenWait(row) = write
            && row.wait == *wait
        {
            row.pin.clone_from(&pin);
        }
    }
    list
}

/// The oldest event since the run's start that the wait takes. There may be many, so others have their turn between two reads.
async fn look_back(inner: &Inner, run: &RunRow, wanted: &[super::wait_index::Alternative]) -> Result<Option<EventId>, PostError> {
    let store = |error: StoreError| {
        inner.fail(error.clone());
        PostError::Store(error)
    };
    let rows = inner.store.waits(run.id).map_err(store)?;
    let had: Vec<EventId> = rows.iter().filter_map(WaitRow::event).collect();
    let names: HashSet<&str> = wanted.iter().map(|one| one.event()).collect();
    let needles: Vec<Option<Arc<str>>> = wanted.iter().map(|one| one.needle()).collect();
    let may_fit =
        |data: &str, needle: &Option<Arc<str>>| needle.as_deref().is_none_or(|needle| data.contains(needle) || data.contains('\\'));
    let mut oldest: Option<EventId> = None;
    for name in names {
        let mut from = waits::looks_back_to(run);
        loop {
            let query = EventQuery {
                name: Some(Arc::from(name)),
                from: Some(from),
                to: oldest,
                limit: LOOK_BACK_CHUNK,
                oldest_first: true,
                ..EventQuery::default()
            };
            let events = inner.store.events(&query).map_err(store)?;
            let fits = |event: &&EventRow| {
                let may_fit = needles.iter().any(|needle| may_fit(&event.data, needle));
                may_fit && waits::may_look_at(run, &had, event.id) && {
                    let data = json::value(&event.data).unwrap_or_default();
                    let id = event.id.to_string();
                    let view = EventView { id: &id, name: &event.name, data: &data, ts: event.ts.0 };
                    wanted.iter().any(|one| one.fits(view))
                }
            };
            if let Some(found) = events.iter().find(fits) {
                oldest = Some(oldest.map_or(found.id, |oldest| oldest.min(found.id)));
                break;
            }
            match events.last() {
                Some(last) if events.len() == LOOK_BACK_CHUNK => from = Id(last.id.0 + 1),
                _ => break,
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(oldest)
}

/// Resolves a wait of the run that is under way itself: the wait as it is afterwards, by whomever.
async fn resolve_own(inner: &Inner, wait: &WaitKey, with: Resolution) -> Result<WaitRow, PostError> {
    loop {
        let ticket = inner.store.commit(Lane::Steps, vec![waits::resolve(wait, with.clone())]);
        match inner.settle(ticket).await {
            None => continue,
            Some(Ok(_)) => inner.waits_mut().close(wait),
            Some(Err(Again::Stop(error))) => return Err(error),
            Some(Err(Again::Conflict(_))) => {}
        }
        return inner.stored_wait(wait);
    }
}

async fn time_out(inner: &Arc<Inner>, wait: WaitKey) -> Result<WaitRow, PostError> {
    let row = inner.stored_wait(&wait)?;
    if row.state != WaitState::Open {
        return Ok(row);
    }
    match &*row.what {
        What::Run(child) => super::invoke::give_up(inner, &wait, *child).await?,
        _ => return resolve_own(inner, &wait, Resolution::TimedOut).await,
    }
    inner.stored_wait(&wait)
}
