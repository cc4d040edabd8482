//! A store that forgets: what `try` and the tests run on, and the oracle that the other stores are compared with.
//!
//! A commit is carried out at once, under one lock, and its ticket is answered before `commit` returns.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{EventId, Id, Millis, RunId};
use crate::rules::policy::Retention;
use crate::rules::{
    Conflict, CronKey, CronRow, Ending, EventRow, Expect, KvRow, List, LogRow, Outcome, OutcomeRow, PauseRow, Record, RunRow, RunState,
    SourceRow, WaitKey, WaitRow, WaitState, WindowKey, WindowRow, Write,
};

use super::{EventQuery, Journal, Lane, RunQuery, Stats, Store, StoreError, Ticket, Verdict};

/// A store in memory.
#[derive(Debug, Default)]
pub struct Memory {
    disk: Mutex<Disk>,
}

/// All that a store in memory holds: a simulation takes it as the disk that outlives a crash.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Disk {
    events: BTreeMap<EventId, EventRow>,
    /// By event, then by function and which outcome.
    outcomes: BTreeMap<EventId, BTreeMap<(Arc<str>, u8), Outcome>>,
    runs: BTreeMap<RunId, Life>,
    event_keys: HashMap<(Arc<str>, Arc<str>), (EventId, Millis)>,
    idempotency: HashMap<(Arc<str>, Arc<str>), (RunId, Millis)>,
    windows: BTreeMap<(WindowKey, Id), WindowRow>,
    sources: HashMap<Arc<str>, SourceRow>,
    crons: BTreeMap<CronKey, CronRow>,
    pauses: BTreeMap<Arc<str>, PauseRow>,
    values: BTreeMap<Arc<str>, KvRow>,
    largest: Id,
    /// How many waits were opened.
    opened: u64,
    broken: Option<StoreError>,
}

/// A run and what hangs on it.
#[derive(Debug, Clone, PartialEq)]
struct Life {
    row: RunRow,
    journal: Journal,
    logs: Vec<LogRow>,
    /// In the order of their opening, each with how many were opened before it in all.
    waits: Vec<(u64, WaitRow)>,
    /// The events of its batch after the first, in the order in which they joined.
    batch: Vec<EventId>,
}

impl Life {
    fn waits(&self) -> impl Iterator<Item = &WaitRow> {
        self.waits.iter().map(|(_, row)| row)
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// A store that goes on from what another one held.
    pub fn restore(disk: Disk) -> Memory {
        Memory { disk: Mutex::new(disk) }
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Disk {
        self.disk().clone()
    }

    /// Carries out the lists of one commit, at once.
    ///
    /// # Errors
    /// `Corrupt` where an id or a record's index is used twice; from then on every commit fails.
    pub fn apply(&self, lists: Vec<List>) -> Result<Vec<Verdict>, StoreError> {
        let mut disk = self.disk();
        if let Some(error) = &disk.broken {
            return Err(error.clone());
        }
        let outcome: Result<Vec<Verdict>, StoreError> = lists.into_iter().map(|list| disk.carry_out(list)).collect();
        disk.broken = outcome.as_ref().err().cloned();
        outcome
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // A panic elsewhere while the lock was held left whole rows behind: each write below is one assignment or insert.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn carry_out(&mut self, list: List) -> Result<Verdict, StoreError> {
        for expect in &list.expect {
            if let Some(conflict) = self.conflict(expect) {
                return Ok(Err(conflict));
            }
        }
        for write in list.writes {
            self.write(write)?;
        }
        Ok(Ok(()))
    }

    fn conflict(&self, expect: &Expect) -> Option<Conflict> {
        match expect {
            Expect::EventKeyFree { name, key, now } => {
                let (event, expires) = self.event_keys.get(&(Arc::clone(name), Arc::clone(key)))?;
                (expires > now).then_some(Conflict::EventKeyTaken(*event))
            }
            Expect::IdempotencyFree { function, key, now } => {
                let (run, expires) = self.idempotency.get(&(Arc::clone(function), Arc::clone(key)))?;
                (expires > now).then_some(Conflict::IdempotencyTaken(Arc::clone(function), *run))
            }
            Expect::RunRev { run, rev } => match self.runs.get(run) {
                None => Some(Conflict::RunGone),
                Some(life) if life.row.rev == *rev => None,
                Some(life) => Some(Conflict::RunMoved { rev: life.row.rev, state: life.row.state }),
            },
            Expect::RunOpen(run) => {
                let row = self.runs.get(run).map(|life| &life.row);
                let is_open = row.is_some_and(|row| row.state == RunState::Queued && row.started.is_none());
                (!is_open).then_some(Conflict::RunBegun(*run))
            }
            Expect::NotEnded(run) => match self.runs.get(run) {
                None => Some(Conflict::RunGone),
                Some(life) if !life.row.state.is_terminal() => None,
                Some(life) => Some(Conflict::RunMoved { rev: life.row.rev, state: life.row.state }),
            },
            Expect::Running(run) => match self.runs.get(run) {
                None => Some(Conflict::RunGone),
                Some(life) if life.row.state == RunState::Running => None,
                Some(life) => Some(Conflict::RunMoved { rev: life.row.rev, state: life.row.state }),
            },
            Expect::RunOver(run) => self.runs.get(run).filter(|life| !life.row.state.is_terminal()).map(|_| Conflict::RunUnderWay(*run)),
            Expect::EventStored(event) => (!self.events.contains_key(event)).then_some(Conflict::EventGone),
            Expect::WaitOpen { wait, event } => {
                let waits = || self.runs.get(&wait.run).into_iter().flat_map(Life::waits);
                let is_open = waits().any(|row| row.wait == *wait && row.state == WaitState::Open);
                let is_free = event.is_none_or(|event| self.events.contains_key(&event) && !waits().any(|row| row.event() == Some(event)));
                (!is_open || !is_free).then_some(Conflict::WaitClosed)
            }
            Expect::CronAt { cron, last } => (self.crons.get(cron).map(|row| row.last) != *last).then_some(Conflict::CronMoved),
        }
    }

    fn write(&mut self, write: Write) -> Result<(), StoreError> {
        match write {
            Write::InsertEvent(row) => {
                if self.events.contains_key(&row.id) {
                    return Err(twice("event", row.id));
                }
                self.largest = self.largest.max(row.id);
                self.events.insert(row.id, row);
            }
            Write::NoteOutcome { event, function, outcome } => {
                if self.events.contains_key(&event) {
                    self.outcomes.entry(event).or_default().insert((function, outcome.numbers().0), outcome);
                }
            }
            Write::CreateRun(row) => {
                if self.runs.contains_key(&row.id) {
                    return Err(twice("run", row.id));
                }
                self.largest = self.largest.max(row.id);
                self.runs.insert(row.id, Life { row, journal: Journal::default(), logs: Vec::new(), waits: Vec::new(), batch: Vec::new() });
            }
            Write::TakeEventKey { name, key, event, expires } => {
                self.event_keys.insert((name, key), (event, expires));
            }
            Write::TakeIdempotency { function, key, run, expires } => {
                self.idempotency.insert((function, key), (run, expires));
            }
            Write::PutWindow(row) => {
                self.windows.insert((row.window.clone(), row.entry), row);
            }
            Write::RaiseWindow(row) => {
                let kept = self.windows.entry((row.window.clone(), row.entry)).or_insert_with(|| row.clone());
                if kept.value < row.value {
                    *kept = row;
                }
            }
            Write::PutSource(row) => {
                self.sources.entry(Arc::clone(&row.hash)).or_insert(row);
            }
            Write::DropSource(hash) => {
                self.sources.remove(&hash);
            }
            Write::PutCron(row) => {
                self.crons.insert(row.key(), row);
            }
            Write::DropCron(cron) => {
                self.crons.remove(&cron);
            }
            Write::IfOpen { run, writes } => {
                if self.live(run).is_some() {
                    for write in writes {
                        self.write(write)?;
                    }
                }
            }
            Write::Pause(row) => {
                self.pauses.insert(Arc::clone(&row.function), row);
            }
            Write::PutValue(row) => {
                self.values.insert(Arc::clone(&row.key), row);
            }
            Write::DropValue(key) => {
                self.values.remove(&key);
            }
            Write::Sweep { now, keep, most } => self.sweep(now, &keep, most as usize),
            Write::Append { run, record } => match self.live(run) {
                Some(life) if life.journal.records.iter().any(|old| old.index == record.index) => return Err(twice("record of run", run)),
                Some(life) => {
                    life.row.attempt = 1;
                    life.row.suspects = 0;
                    life.append(record);
                }
                None => {}
            },
            Write::Adopt { run, version } => {
                if let Some(life) = self.live(run) {
                    life.row.version = Some(version);
                }
            }
            Write::Attempt { run, attempt } => {
                if let Some(life) = self.live(run) {
                    life.journal.attempts.push(attempt);
                }
            }
            Write::Log { run, line } => {
                if let Some(life) = self.live(run) {
                    life.logs.push(line);
                }
            }
            Write::Retarget { run, event, enter, keys, priority_ms, gates } => {
                if let Some(life) = self.live(run) {
                    life.row.rev += 1;
                    if life.row.event < event {
                        life.row = RunRow { event, enter, keys, priority_ms, gates, ..life.row.clone() };
                    }
                }
            }
            Write::AddEvent { run, event, enter } => {
                if let Some(life) = self.live(run) {
                    life.batch.push(event);
                    life.row.enter = enter.unwrap_or(life.row.enter);
                }
            }
            Write::OpenWait(row) => {
                let opened = self.opened;
                if let Some(life) = self.live(row.wait.run) {
                    life.waits.retain(|(_, old)| old.wait != row.wait);
                    life.waits.push((opened, row));
                    self.opened += 1;
                }
            }
            Write::ResolveWait { wait, with } => {
                if let Some(row) = self.wait(&wait).filter(|row| row.state == WaitState::Open) {
                    row.becomes(WaitState::Resolved(with));
                }
            }
            Write::RecordWait(wait) => {
                if let Some(row) = self.wait(&wait) {
                    row.becomes(WaitState::Recorded(row.event()));
                }
            }
            Write::DropWait(wait) => {
                if let Some(life) = self.live(wait.run) {
                    life.waits.retain(|(_, row)| row.wait != wait || matches!(row.state, WaitState::Recorded(_)));
                }
            }
            Write::DropWaits(run) => {
                if let Some(life) = self.runs.get_mut(&run) {
                    life.waits.clear();
                }
            }
            Write::Start { run, .. }
            | Write::Suspend { run, .. }
            | Write::Requeue { run, .. }
            | Write::RetryNow { run, .. }
            | Write::Park { run, .. }
            | Write::End { run, .. } => {
                if let Some(life) = self.live(run) {
                    life.row.rev += 1;
                    life.row.wake = None;
                    if let Write::RetryNow { at, .. } = &write {
                        life.journal.attempts.iter_mut().for_each(|attempt| attempt.next = attempt.next.map(|next| next.min(*at)));
                    }
                    change(&mut life.row, write);
                }
            }
        }
        Ok(())
    }

    /// The run, unless it has ended or is gone: then nothing is written about it any more.
    fn live(&mut self, run: RunId) -> Option<&mut Life> {
        self.runs.get_mut(&run).filter(|life| !life.row.state.is_terminal())
    }

    fn wait(&mut self, wait: &WaitKey) -> Option<&mut WaitRow> {
        self.live(wait.run)?.waits.iter_mut().map(|(_, row)| row).find(|row| row.wait == *wait)
    }

    fn sweep(&mut self, now: Millis, keep: &Retention, most: usize) {
        self.event_keys.retain(|_, (_, expires)| *expires > now);
        self.idempotency.retain(|_, (_, expires)| *expires > now);
        self.windows.retain(|_, row| row.expires > now);
        self.values.retain(|_, row| row.is_there(now));
        let old: Vec<RunId> = self.runs.values().filter(|life| is_old(&life.row, now, keep)).map(|life| life.row.id).take(most).collect();
        for id in old {
            self.runs.remove(&id);
        }
        let by_waits = |life: &Life| life.waits().filter_map(WaitRow::event).collect::<Vec<_>>();
        let named: std::collections::HashSet<EventId> = self
            .runs
            .values()
            .flat_map(|life| std::iter::once(life.row.event).chain(life.batch.iter().copied()).chain(by_waits(life)))
            .collect();
        let old: Vec<EventId> =
            self.events.keys().copied().filter(|id| now.since(id.made_at()) > keep.events && !named.contains(id)).take(most).collect();
        for id in old {
            self.events.remove(&id);
            self.outcomes.remove(&id);
        }
    }
}

impl Life {
    fn append(&mut self, record: Record) {
        let at = self.journal.records.partition_point(|old| old.index < record.index);
        self.journal.records.insert(at, record);
    }
}

fn twice(what: &str, id: Id) -> StoreError {
    StoreError::Corrupt(format!("{what} {id} was written twice"))
}

/// Carries out a change of state; `rev` and `wake` have been seen to.
fn change(row: &mut RunRow, write: Write) {
    match write {
        Write::Start { at, version, .. } => {
            row.state = RunState::Running;
            row.started = row.started.or(Some(at));
            row.version = row.version.take().or(Some(version));
        }
        Write::Suspend { state, wake, attempt, error, .. } => {
            row.state = state;
            row.wake = wake;
            row.attempt = attempt;
            row.error = error;
        }
        Write::Requeue { suspects, .. } => {
            row.state = RunState::Queued;
            row.suspects = suspects;
            row.error = None;
            row.reason = None;
        }
        Write::RetryNow { at, anew, .. } => {
            row.state = RunState::Queued;
            row.wake = anew.then_some(at);
            row.error = None;
            row.reason = None;
        }
        Write::Park { reason, .. } => {
            row.state = RunState::Parked;
            row.reason = Some(reason);
        }
        Write::End { state, at, output, error, reason, .. } => {
            row.state = state;
            row.ended = Some(at);
            row.output = output;
            row.error = error;
            row.reason = reason;
        }
        _ => {}
    }
}

/// Whether an ended run is older than `keep` says. A run is as old as its end, or as its id where the clock went back.
fn is_old(row: &RunRow, now: Millis, keep: &Retention) -> bool {
    let span = match row.state {
        RunState::Completed => keep.completed,
        RunState::Failed => keep.failed,
        RunState::Cancelled => keep.cancelled,
        _ => return false,
    };
    row.ended.is_some_and(|ended| now.since(ended.max(row.id.made_at())) > span)
}

fn run_matches(query: &RunQuery, life: &Life) -> bool {
    let row = &life.row;
    (query.states.is_empty() || query.states.contains(&row.state))
        && query.function.as_ref().is_none_or(|function| *function == row.function)
        && query.event.is_none_or(|event| event == row.event || life.batch.contains(&event))
        && query.replay_of.is_none_or(|run| row.replay_of == Some(run))
        && query.key.as_ref().is_none_or(|key| row.keys.contains(key))
        && query.since.is_none_or(|since| row.created >= since)
        && query.from.is_none_or(|from| row.id >= from)
        && query.to.is_none_or(|to| row.id <= to)
}

fn event_matches(query: &EventQuery, row: &EventRow) -> bool {
    query.name.as_ref().is_none_or(|name| *name == row.name)
        && query.received_after.is_none_or(|after| row.accepted > after)
        && query.from.is_none_or(|from| row.id >= from)
        && query.to.is_none_or(|to| row.id <= to)
}

/// `limit`, where 0 stands for no limit.
fn at_most(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

impl Store for Memory {
    fn commit(&self, _lane: Lane, lists: Vec<List>) -> Ticket {
        let (answer, ticket) = Ticket::new();
        answer.give(self.apply(lists));
        ticket
    }

    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        Ok(self.disk().events.get(&id).cloned())
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        let disk = self.disk();
        let rows = disk.events.values().filter(|row| event_matches(query, row));
        let most = at_most(query.limit);
        Ok(if query.oldest_first { rows.take(most).cloned().collect() } else { rows.rev().take(most).cloned().collect() })
    }

    fn outcomes(&self, event: EventId) -> Result<Vec<OutcomeRow>, StoreError> {
        let disk = self.disk();
        let noted = disk.outcomes.get(&event).into_iter().flatten();
        Ok(noted.map(|((function, _), outcome)| OutcomeRow { function: Arc::clone(function), outcome: *outcome }).collect())
    }

    fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        Ok(self.disk().runs.get(&id).map(|life| life.row.clone()))
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        let disk = self.disk();
        let lives = disk.runs.values().rev().filter(|life| run_matches(query, life));
        Ok(lives.map(|life| life.row.clone()).take(at_most(query.limit)).collect())
    }

    fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        // The rows are copied first, so that `each` may use the store.
        let rows: Vec<RunRow> =
            self.disk().runs.values().filter(|life| !life.row.state.is_terminal()).map(|life| life.row.clone()).collect();
        rows.into_iter().for_each(each);
        Ok(())
    }

    fn journal(&self, run: RunId) -> Result<Journal, StoreError> {
        Ok(self.disk().runs.get(&run).map(|life| life.journal.clone()).unwrap_or_default())
    }

    fn batch(&self, run: RunId) -> Result<Vec<EventId>, StoreError> {
        Ok(self.disk().runs.get(&run).map(|life| life.batch.clone()).unwrap_or_default())
    }

    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        Ok(self.disk().runs.get(&run).map(|life| life.waits().cloned().collect()).unwrap_or_default())
    }

    fn all_waits(&self, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
        let rows: Vec<WaitRow> = self.disk().runs.values().flat_map(Life::waits).cloned().collect();
        rows.into_iter().for_each(each);
        Ok(())
    }

    fn pinned(&self, field: &str, value: i64) -> Result<Vec<WaitRow>, StoreError> {
        let is_it = |row: &WaitRow| row.pin.as_ref().is_some_and(|pin| *pin.field == *field && pin.value == value);
        let disk = self.disk();
        let mut found: Vec<&(u64, WaitRow)> = disk.runs.values().flat_map(|life| &life.waits).filter(|(_, row)| is_it(row)).collect();
        found.sort_unstable_by_key(|(opened, _)| *opened);
        Ok(found.into_iter().map(|(_, row)| row.clone()).collect())
    }

    fn crons(&self) -> Result<Vec<CronRow>, StoreError> {
        Ok(self.disk().crons.values().cloned().collect())
    }

    fn all_windows(&self, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
        let rows: Vec<WindowRow> = self.disk().windows.values().cloned().collect();
        rows.into_iter().for_each(each);
        Ok(())
    }

    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError> {
        Ok(self.disk().values.get(key).cloned())
    }

    fn pauses(&self) -> Result<Vec<PauseRow>, StoreError> {
        Ok(self.disk().pauses.values().cloned().collect())
    }

    fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let disk = self.disk();
        let lines = disk.runs.get(&run).map(|life| life.logs.as_slice()).unwrap_or_default();
        Ok(lines.iter().skip(from).take(at_most(limit)).cloned().collect())
    }

    fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError> {
        Ok(self.disk().sources.get(hash).cloned())
    }

    fn sources_of(&self, handler: &str) -> Result<Vec<Arc<str>>, StoreError> {
        let beginning = SourceRow::beginning(handler);
        let disk = self.disk();
        let meant = disk.sources.values().filter(|row| row.files.starts_with(&beginning));
        Ok(meant.map(|row| Arc::clone(&row.hash)).collect())
    }

    fn unneeded_sources(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let disk = self.disk();
        let named: std::collections::HashSet<&Arc<str>> = disk.runs.values().filter_map(|life| life.row.version.as_ref()).collect();
        Ok(disk.sources.keys().filter(|hash| !named.contains(hash)).cloned().collect())
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        let disk = self.disk();
        let unfinished = disk.runs.values().filter(|life| !life.row.state.is_terminal()).count() as u64;
        Ok(Stats {
            place: "memory".to_owned(),
            version: 0,
            library: String::new(),
            bytes: 0,
            unfinished,
            largest_id: disk.largest,
            end: Ending::Clean,
        })
    }

    fn backup(&self, _to: &Path, _progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        Err(StoreError::Io("a store in memory has no file to copy".to_owned()))
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        let disk = self.disk();
        let orphans = disk.runs.values().filter(|life| !disk.events.contains_key(&life.row.event));
        Ok(orphans.map(|life| format!("run {} has no event", life.row.id)).collect())
    }

    fn fault(&self) -> Option<StoreError> {
        self.disk().broken.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_store() {
        super::super::conformance::exercise(&|| Arc::new(Memory::new()));
    }

    #[test]
    fn a_restored_store_goes_on_from_the_snapshot() {
        let store = Memory::new();
        let event = super::super::conformance::event(Id(1 << 30));
        assert_eq!(store.apply(vec![List { expect: vec![], writes: vec![Write::InsertEvent(event.clone())] }]), Ok(vec![Ok(())]));
        let disk = store.snapshot();
        let other = Memory::restore(disk.clone());
        assert_eq!(other.event(event.id), Ok(Some(event)));
        assert_eq!(other.snapshot(), disk);
    }
}
