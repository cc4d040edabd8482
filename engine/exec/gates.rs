//! What the gates go by, in memory: what rate limits have let through, and which runs hold the keys of singletons.
//!
//! It is derived from the rows at start. Whoever decides on events holds it from the decision until the list is handed to the
//! store, and enters there what the list is going to store; so a decision is made on those before it without waiting for the
//! disk. Where a decision would refuse something only because of one that may come to nothing, it waits for that one's outcome.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::base::id::IdMap;
use crate::base::{EventId, Millis, RunId, Span};
use crate::project::Project;
use crate::rules::gates::rate_limit::{SETTLED, Window};
use crate::rules::gates::{Collect, Found, Holder, Last, Open, RateLimit, Room, Seat, Singleton, singleton};
use crate::rules::matching::{self, Candidate, Join};
use crate::rules::{EventRow, Gate, List, RunRow, RunState, WindowKey, WindowRow};
use crate::store::StoreError;

use super::Inner;
use super::ending::{Doom, Member};
use super::flow::{Flow, OpenWindow, RateKey, SingletonKey};
use super::ingest::Pending;
use super::wait_index;

/// A function and the value of one of its keys.
type Key = (Arc<str>, Arc<str>);

/// A run that has a singleton's key, and the decision that gave it to it.
#[derive(Debug)]
struct Held {
    run: RunId,
    decision: u64,
    /// The run and its event as long as they are on their way to the disk, where another one may take its place.
    made: Option<Box<Member>>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Gates {
    rates: HashMap<Key, (Span, Window)>,
    /// The latest time of a decision.
    latest: Millis,
    /// When to look whether a window counts nothing any more.
    stale: BinaryHeap<Reverse<(Millis, Key)>>,
    /// The last one has the key; those before it are cancelled by decisions whose outcome is not known yet.
    singles: HashMap<Key, Vec<Held>>,
    key_of: IdMap<Key>,
    /// The runs that collect events.
    open: HashMap<Key, Open>,
    open_of: IdMap<Key>,
}

/// What a decision has entered.
#[derive(Debug)]
enum Mark {
    Rate(Key, Millis, EventId),
    Single(Key, RunId),
    /// A run that collects was made.
    Open(RunId),
    /// An event joins a run; whether it is the last one that fits in, and what it puts the run off to.
    Join(RunId, bool, Option<Last>),
}

/// A list on its way to the store. Where nobody says what became of it, it counts as carried out.
pub(super) struct Decision<'i> {
    inner: &'i Inner,
    number: u64,
    marks: Vec<Mark>,
}

/// What is known of what a candidate's gates go by.
enum Sight {
    /// Not all of it: some hangs on decisions whose outcome is not known yet.
    Unsure,
    /// All of it.
    Clear,
    /// All of it, and the cancel of the run whose place the candidate's takes.
    Replaces(Box<Doom>),
}

/// What one event comes to.
pub(super) struct Decided {
    pub(super) list: List,
    pub(super) runs: Vec<RunRow>,
    /// The runs that the event becomes part of.
    pub(super) joins: Vec<Join>,
    /// Runs whose place others take.
    pub(super) replaced: Vec<Doom>,
}

impl Gates {
    /// Takes up a stored row of a rate limit.
    pub(super) fn load(&mut self, row: WindowRow) {
        let WindowRow { window: WindowKey { function, key, .. }, entry, value, expires } = row;
        let key = (function, key);
        let at = Millis(value);
        let (_, window) = self.rates.entry(key.clone()).or_insert_with(|| (Span(expires.since(at).0), Window::default()));
        window.enter(at, entry, SETTLED);
        self.stale.push(Reverse((expires, key)));
    }

    /// Goes over to another snapshot: what was counted counts on, for as long as the new rules say.
    pub(super) fn reload(&mut self, before: &Project, after: &Project) {
        for ((function, _), (period, _)) in &mut self.rates {
            if let Some((rule, _)) = after.function(function).and_then(|function| function.rate_limit()) {
                *period = rule.period;
            }
        }
        // A run that collects in another way, or by another key, takes no more events: it starts when its window closes.
        let closed: Vec<RunId> =
            self.open.iter().filter(|((id, _), _)| way(before, id) != way(after, id)).map(|(_, open)| open.run).collect();
        closed.into_iter().for_each(|run| self.close(run));
    }

    /// Takes up a stored run that has not ended.
    pub(super) fn load_run(&mut self, run: &RunRow) {
        if let Some(value) = run.singleton() {
            self.hold((Arc::clone(&run.function), Arc::clone(value)), run.id, SETTLED, None);
        }
    }

    /// Takes up a stored run that collects events, with how many it has, and the bytes of their data.
    pub(super) fn load_open(&mut self, run: &RunRow, key: &Arc<str>, (events, bytes): (usize, u64), is_batch: bool) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let name = (Arc::clone(&run.function), Arc::clone(key));
        if self.open.contains_key(&name) {
            return;
        }
        let last = Last { event: run.event, closes: run.enter };
        self.begin(
            name,
            Open {
                run: run.id,
                since: run.created,
                last,
                stored: last,
                made_by: SETTLED,
                events,
                bytes,
                joining: Vec::new(),
                is_filling: false,
                is_due: false,
                is_batch,
            },
        );
    }

    fn begin(&mut self, key: Key, open: Open) {
        if let Some(old) = self.open.get(&key) {
            self.open_of.remove(&old.run);
        }
        self.open_of.insert(open.run, key.clone());
        self.open.insert(key, open);
    }

    /// The window of a run is over, as far as is stored: it collects nothing more, unless an event is on its way that puts it off.
    pub(super) fn falls_due(&mut self, run: RunId) {
        match self.open_of.get(&run).and_then(|key| self.open.get_mut(key)) {
            Some(open) if !open.is_batch && !open.joining.is_empty() => open.is_due = true,
            _ => self.close(run),
        }
    }

    /// A run collects nothing more.
    pub(super) fn close(&mut self, run: RunId) {
        if let Some(key) = self.open_of.remove(&run) {
            self.open.remove(&key);
        }
    }

    fn join(&mut self, join: &Join, (event, bytes): (EventId, u64), decision: u64) -> Option<Mark> {
        let open = self.open_of.get(&join.run).and_then(|key| self.open.get_mut(key))?;
        let last = match join.seat {
            Seat::First { .. } => return None,
            Seat::Instead { enter, .. } => Some(Last { event, closes: enter }),
            Seat::Beside { full, .. } => {
                open.is_filling = full;
                None
            }
        };
        open.last = open.last.max(last.unwrap_or(open.last));
        open.joining.push((decision, bytes));
        Some(Mark::Join(join.run, open.is_filling, last))
    }

    fn joined(&mut self, run: RunId, (fills, last): (bool, Option<Last>), decision: u64, stands: bool) {
        let Some(open) = self.open_of.get(&run).and_then(|key| self.open.get_mut(key)) else { return };
        let at = open.joining.iter().position(|(by, _)| *by == decision);
        let bytes = at.map_or(0, |at| open.joining.swap_remove(at).1);
        if stands {
            open.events += 1;
            open.bytes += bytes;
            open.stored = open.stored.max(last.unwrap_or(open.stored));
        }
        if open.joining.is_empty() {
            open.last = open.stored;
        }
        // One that was put off after all does not start.
        open.is_due &= !stands;
        let is_over = open.is_due && open.joining.is_empty();
        match (fills, stands) {
            (true, true) => self.close(run),
            (true, false) => open.is_filling = false,
            (false, _) if is_over => self.close(run),
            (false, _) => {}
        }
    }

    /// A run has ended: its singleton's key is free.
    pub(super) fn free(&mut self, run: RunId) {
        let Some(key) = self.key_of.remove(&run) else { return };
        if let Some(held) = self.singles.get_mut(&key) {
            held.retain(|held| held.run != run);
            if held.is_empty() {
                self.singles.remove(&key);
            }
        }
    }

    fn hold(&mut self, key: Key, run: RunId, decision: u64, made: Option<Box<Member>>) {
        self.key_of.insert(run, key.clone());
        self.singles.entry(key).or_default().push(Held { run, decision, made });
    }

    fn enter(&mut self, key: &Key, rule: RateLimit, at: Millis, event: EventId, decision: u64) {
        let (period, window) = self.rates.entry(key.clone()).or_default();
        if window.expires(rule.period).is_none() {
            self.stale.push(Reverse((at.after(rule.period), key.clone())));
        }
        *period = rule.period;
        window.enter(at, event, decision);
    }

    /// What is left of a rate limit for an event that is decided on now. What counted no more at a later time is forgotten, so one that
    /// is decided on again at its old time, since the disk was full, counts from that later time on.
    fn room(&mut self, key: &Key, rule: RateLimit, now: Millis, decision: u64) -> Option<Room> {
        self.latest = self.latest.max(now);
        match self.rates.get_mut(key) {
            Some((_, window)) => window.room(rule, self.latest, decision),
            None => Some(Room::Free(self.latest)),
        }
    }

    /// Tells what the gates know, at most `most` keys of each kind. Whoever decides on events waits meanwhile: so a key is copied only once
    /// it is known to be told.
    pub(super) fn survey(&self, project: &Project, flow: &mut Flow, most: usize, now: Millis) {
        let rates = self.rates.iter().filter_map(|(name, (_, window))| {
            let (rule, _) = project.function(&name.0)?.rate_limit()?;
            let (used, frees) = window.counted(rule, now);
            (used > 0).then_some((name, rule, used, frees))
        });
        let (rates, more_rates) = first(rates, most, |one, other| other.2.cmp(&one.2).then_with(|| one.0.cmp(other.0)));
        let windows = self.open.iter().filter(|(_, open)| open.last.closes > now);
        let (windows, more_windows) =
            first(windows, most, |(_, one), (_, other)| (one.last.closes, one.run).cmp(&(other.last.closes, other.run)));
        let singles = self.singles.iter().filter_map(|(name, held)| Some((name, held.last()?.run)));
        let (singles, more_singles) = first(singles, most, |(_, one), (_, other)| one.cmp(other));
        flow.more += more_rates + more_windows + more_singles;
        let copied = |name: &Key| (Arc::clone(&name.0), Arc::clone(&name.1));
        flow.rates = rates
            .into_iter()
            .map(|(name, rule, used, frees)| {
                let (function, key) = copied(name);
                RateKey { function, key, rule, used, frees }
            })
            .collect();
        flow.windows = windows
            .into_iter()
            .map(|(name, open)| {
                let (function, key) = copied(name);
                let size = match project.function(&function).and_then(|function| function.collect) {
                    Some(Collect::Batch { size, .. }) if open.is_batch => Some(size),
                    _ => None,
                };
                OpenWindow {
                    function,
                    key,
                    is_batch: open.is_batch,
                    run: open.run,
                    events: open.events,
                    size,
                    since: open.since,
                    closes: open.last.closes,
                }
            })
            .collect();
        flow.singletons = singles
            .into_iter()
            .map(|(name, run)| {
                let (function, key) = copied(name);
                SingletonKey { function, key, run }
            })
            .collect();
    }

    /// Forgets windows that count nothing any more.
    fn forget_stale(&mut self, now: Millis) {
        self.latest = self.latest.max(now);
        while let Some(Reverse((at, _))) = self.stale.peek()
            && *at <= now
        {
            let Some(Reverse((_, key))) = self.stale.pop() else { break };
            let Some((period, window)) = self.rates.get(&key) else { continue };
            match window.expires(*period) {
                Some(expires) if expires > now => self.stale.push(Reverse((expires, key))),
                _ => {
                    self.rates.remove(&key);
                }
            }
        }
    }

    fn settle(&mut self, mark: Mark, decision: u64, stands: bool) {
        match mark {
            Mark::Open(run) if !stands => self.close(run),
            Mark::Open(run) => {
                if let Some(open) = self.open_of.get(&run).and_then(|key| self.open.get_mut(key)) {
                    open.made_by = SETTLED;
                }
            }
            Mark::Join(run, fills, last) => self.joined(run, (fills, last), decision, stands),
            Mark::Rate(key, at, event) => {
                if let Some((_, window)) = self.rates.get_mut(&key) {
                    window.settle(at, event, stands);
                }
            }
            Mark::Single(_, run) if !stands => self.free(run),
            Mark::Single(key, run) => {
                let Some(held) = self.singles.get_mut(&key) else { return };
                let Some(at) = held.iter().position(|held| held.run == run) else { return };
                (held[at].decision, held[at].made) = (SETTLED, None);
                for before in held.drain(..at) {
                    self.key_of.remove(&before.run);
                }
            }
        }
    }
}

impl Decision<'_> {
    /// An event counts in its rate limit.
    fn counts(&mut self, gates: &mut Gates, candidate: &Candidate, found: &Found, event: EventId) {
        if let (Some((rule, value)), Some(Room::Free(at))) = (&candidate.gates.rate_limit, found.room) {
            let key = (Arc::clone(&candidate.function), Arc::clone(value));
            gates.enter(&key, *rule, at, event, self.number);
            self.marks.push(Mark::Rate(key, at, event));
        }
    }

    /// Takes back what was decided, while the gates are held still: nobody has seen it, so nobody has to look again.
    pub(super) fn undo(&mut self, gates: &mut Gates) {
        let number = self.number;
        self.marks.drain(..).for_each(|mark| gates.settle(mark, number, false));
    }

    /// Notes what became of the list.
    pub(super) fn settle(mut self, stands: bool) {
        self.note(stands);
    }

    fn note(&mut self, stands: bool) {
        if self.marks.is_empty() {
            return;
        }
        let mut gates = self.inner.gates();
        let number = self.number;
        self.marks.drain(..).for_each(|mark| gates.settle(mark, number, stands));
        drop(gates);
        self.inner.gates_moved.notify_waiters();
    }
}

impl Drop for Decision<'_> {
    fn drop(&mut self) {
        self.note(true);
    }
}

/// The first `most` of all in an order, and how many more there are. It keeps twice as many at most, however many there are, and sorts only
/// those that it gives.
fn first<T>(all: impl Iterator<Item = T>, most: usize, order: impl Fn(&T, &T) -> std::cmp::Ordering) -> (Vec<T>, usize) {
    let (mut kept, mut seen) = (Vec::new(), 0);
    let cut = |kept: &mut Vec<T>| {
        if kept.len() > most {
            kept.select_nth_unstable_by(most, &order);
            kept.truncate(most);
        }
    };
    for one in all {
        seen += 1;
        kept.push(one);
        if kept.len() > most.saturating_mul(2) {
            cut(&mut kept);
        }
    }
    cut(&mut kept);
    kept.sort_unstable_by(&order);
    let more = seen - kept.len();
    (kept, more)
}

/// How a function of a snapshot collects events, and by which key.
fn way<'p>(project: &'p Project, function: &str) -> Option<(bool, Option<&'p str>)> {
    project.function(function).and_then(|function| function.collects_by())
}

/// Bytes of an event's data.
fn size(event: &EventRow) -> u64 {
    event.data.len() as u64
}

/// Whether deciding on these candidates takes more than the event itself.
pub(super) fn ask(candidates: &[Candidate]) -> bool {
    candidates.iter().any(|candidate| candidate.applies && candidate.gates.asks())
}

impl Inner {
    /// Takes up a stored run, if it collects events still.
    pub(super) fn load_open(&self, gates: &mut Gates, row: &RunRow) -> Result<(), StoreError> {
        let is_open = row.state == RunState::Queued && row.started.is_none() && row.enter > self.clock.now();
        if let Some(key) = row.collects().filter(|_| is_open) {
            // Where its function does not collect any more, or in another way, it takes nothing more.
            let rest = self.store.batch(row.id)?;
            let events = 1 + rest.len();
            let collect = self.project().function(&row.function).and_then(|function| function.collect);
            let is_batch = matches!(collect, Some(Collect::Batch { .. }));
            if let Some(collect) = collect
                && (is_batch || events == 1)
                // What is to start later than its batch would has a run of its own, which takes nothing more.
                && !(is_batch && self.store.event(row.event)?.is_some_and(|event| event.ts > event.accepted))
            {
                let mut bytes = 0;
                for id in std::iter::once(&row.event).chain(&rest) {
                    bytes += self.store.event(*id)?.as_ref().map_or(0, size);
                }
                // One that was full has begun to stand in line then, which may be later than now where somebody has set the clock back.
                if !collect.is_full(u32::try_from(events).unwrap_or(u32::MAX), bytes) {
                    gates.load_open(row, key, (events, bytes), is_batch);
                }
            }
        }
        Ok(())
    }

    /// What the gates go by.
    pub(super) fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a decision whose list is carried out whole or not at all.
    ///
    /// What it has entered must not be dropped while the gates are held.
    pub(super) fn decision(&self) -> Decision<'_> {
        Decision { inner: self, number: self.decisions.fetch_add(1, Ordering::Relaxed) + 1, marks: Vec::new() }
    }

    /// Decides on an event, as part of `decision`. None where that depends on decisions whose outcome is not known yet; then
    /// nothing is entered.
    pub(super) fn decide(
        &self,
        waits: &wait_index::Index,
        gates: Option<&mut Gates>,
        decision: &mut Decision<'_>,
        pending: &Pending,
        taken: &[(Arc<str>, RunId)],
        now: Millis,
    ) -> Result<Option<Decided>, StoreError> {
        let Pending { row: event, dedupe, candidates, runs, .. } = pending;
        let mut found = Vec::new();
        if !taken.is_empty() || gates.is_some() {
            let by_whom = |candidate: &Candidate| taken.iter().find(|(function, _)| *function == candidate.function).map(|(_, run)| *run);
            found = candidates.iter().map(|candidate| Found { taken: by_whom(candidate), ..Found::default() }).collect();
        }
        let Some(gates) = gates else {
            let (list, runs, joins) = matching::plan(event.clone(), dedupe.clone(), candidates, &found, runs, now);
            return Ok(Some(Decided { list, runs, joins, replaced: Vec::new() }));
        };
        gates.forget_stale(now);
        let mut dooms: Vec<(RunId, Doom)> = Vec::new();
        let applying = candidates.iter().zip(&mut found).filter(|(candidate, _)| candidate.applies).zip(runs);
        for ((candidate, found), by) in applying.filter(|((_, found), _)| found.taken.is_none()) {
            match self.look(waits, gates, (candidate, found), pending, (decision.number, *by, now))? {
                Sight::Unsure => return Ok(None),
                Sight::Clear => {}
                Sight::Replaces(doom) => dooms.push((*by, *doom)),
            }
        }
        let (list, runs, joins) = matching::plan(event.clone(), dedupe.clone(), candidates, &found, runs, now);
        let mut replaced = Vec::new();
        for join in &joins {
            let of_run = candidates.iter().zip(&found).find(|(candidate, _)| candidate.function == join.function);
            if let Some((candidate, found)) = of_run {
                decision.counts(gates, candidate, found, event.id);
            }
            decision.marks.extend(gates.join(join, (event.id, size(event)), decision.number));
        }
        for run in &runs {
            let of_run = candidates.iter().zip(&found).find(|(candidate, _)| candidate.function == run.function);
            let Some((candidate, found)) = of_run else { continue };
            decision.counts(gates, candidate, found, event.id);
            if let (Some(Seat::First { enter, open: true }), Some(key)) = (found.seat, run.collects()) {
                let key = (Arc::clone(&run.function), Arc::clone(key));
                let made_by = decision.number;
                let is_batch = matches!(candidate.gates.collect, Some((Collect::Batch { .. }, _)));
                let last = Last { event: event.id, closes: enter };
                gates.begin(
                    key,
                    Open {
                        run: run.id,
                        since: now,
                        last,
                        stored: last,
                        made_by,
                        events: 1,
                        bytes: size(event),
                        joining: Vec::new(),
                        is_filling: false,
                        is_due: false,
                        is_batch,
                    },
                );
                decision.marks.push(Mark::Open(run.id));
            }
            if let Some(value) = run.singleton() {
                let key = (Arc::clone(&run.function), Arc::clone(value));
                let can_be_replaced = matches!(candidate.gates.singleton, Some((Singleton::Cancel, _)));
                let made = can_be_replaced.then(|| Box::new(Member { run: run.clone(), event: Some(Arc::new(event.clone())) }));
                gates.hold(key.clone(), run.id, decision.number, made);
                decision.marks.push(Mark::Single(key, run.id));
                replaced.extend(dooms.iter().position(|(by, _)| *by == run.id).map(|at| dooms.swap_remove(at).1));
            }
        }
        Ok(Some(Decided { list, runs, joins, replaced }))
    }

    /// Whether a function has come to collect in another way since an event was checked.
    fn is_outdated(&self, event: &Pending, function: &str) -> bool {
        let project = self.project();
        !Arc::ptr_eq(&project, &event.project) && way(&project, function) != way(&event.project, function)
    }

    /// Finds what the gates of a candidate of an event go by, for the run `by` that it may start.
    fn look(
        &self,
        waits: &wait_index::Index,
        gates: &mut Gates,
        (candidate, found): (&Candidate, &mut Found),
        pending: &Pending,
        (decision, by, now): (u64, RunId, Millis),
    ) -> Result<Sight, StoreError> {
        if let Some((rule, value)) = &candidate.gates.rate_limit {
            let key = (Arc::clone(&candidate.function), Arc::clone(value));
            let room = gates.room(&key, *rule, now, decision);
            found.room = room;
            match room {
                None => return Ok(Sight::Unsure),
                // Nothing behind it is asked.
                Some(Room::Full(_)) => return Ok(Sight::Clear),
                Some(Room::Free(_)) => {}
            }
        }
        if let Some((how, value)) = &candidate.gates.collect {
            let event = (pending.row.ts, size(&pending.row));
            if self.is_outdated(pending, &candidate.function) {
                // As a window that the reload found open: nothing else comes into the one of this event, and it comes into no other one.
                let alone = how.seat(None, event, now, decision);
                found.seat = alone.map(|seat| if let Seat::First { enter, .. } = seat { Seat::First { enter, open: false } } else { seat });
                return Ok(Sight::Clear);
            }
            let open = gates.open.get(&(Arc::clone(&candidate.function), Arc::clone(value)));
            found.seat = how.seat(open, event, now, decision);
            // A singleton does not go with it.
            return Ok(if found.seat.is_some() { Sight::Clear } else { Sight::Unsure });
        }
        let Some((mode, value)) = &candidate.gates.singleton else { return Ok(Sight::Clear) };
        let key = (Arc::clone(&candidate.function), Arc::clone(value));
        while let Some(held) = gates.singles.get(&key).and_then(|held| held.last()) {
            let (run, own) = (held.run, held.decision == decision);
            let is_settled = held.decision == SETTLED;
            let stored = if own { None } else { self.store.run(run)? };
            let member = match stored {
                Some(row) if row.state.is_terminal() => {
                    gates.free(run);
                    continue;
                }
                Some(row) => Member::from(row),
                // It is deleted already.
                None if is_settled => {
                    gates.free(run);
                    continue;
                }
                None if !own && (pending.cautious || *mode == Singleton::Skip) => return Ok(Sight::Unsure),
                // It is on its way to the disk; where it does not get there, neither does what takes its place.
                None => held
                    .made
                    .as_deref()
                    .cloned()
                    .unwrap_or_else(|| Member::from(RunRow::queued(run, Arc::clone(&candidate.function), EventId::default(), now))),
            };
            if *mode == Singleton::Skip {
                found.holder = Some(Holder { run, own, ..Holder::default() });
                break;
            }
            let doom = self.doom(waits, member, &singleton::reason(by), now)?;
            found.holder = Some(Holder { run, cancel: doom.list.clone(), own });
            return Ok(Sight::Replaces(Box::new(doom)));
        }
        Ok(Sight::Clear)
    }

    /// What is done once runs took the place of others.
    pub(super) async fn replaced(&self, replaced: Vec<Doom>, now: Millis) {
        for doom in replaced {
            self.cancelled_by_event(doom, now).await;
        }
    }
}

/// The stored rows of both gates that count: those of rate limits, for this room, and those of throttles, for the queue.
pub(super) fn load(inner: &dyn crate::store::Store, now: Millis) -> Result<(Gates, Vec<WindowRow>), StoreError> {
    let (mut gates, mut buckets) = (Gates::default(), Vec::new());
    inner.all_windows(&mut |row| match row.window.gate {
        _ if row.expires <= now => {}
        Gate::RateLimit => gates.load(row),
        Gate::Throttle => buckets.push(row),
    })?;
    Ok((gates, buckets))
}

#[cfg(test)]
mod tests;
