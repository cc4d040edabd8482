//! The store of one engine's life in a test: it may cut the engine off at a commit. What it holds outlives the engine.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::base::{EventId, RunId};
use crate::rules::{CronRow, EventRow, List, LogRow, OutcomeRow, PauseRow, RunRow, SourceRow, WaitRow, WindowRow, Write};
use crate::store::{Answer, EventQuery, Journal, Lane, Memory, RunQuery, Stats, Store, StoreError, Ticket};

/// When an engine is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Never.
    Never,
    /// After every commit that takes the test further.
    Each,
    /// Once, at the commit with this number: before it is durable, or after it is and before anybody knows.
    Once {
        /// From 0.
        number: usize,
        /// Whether the commit is lost.
        before: bool,
    },
}

/// What the lives of a pass share.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) memory: Memory,
    cut: Cut,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    commits: usize,
    crashes: usize,
    /// What was committed at each cut: a second one at the same place would lead nowhere.
    places: HashSet<String>,
    /// What the last cut stood at.
    last: String,
}

impl Ledger {
    pub(super) fn new(cut: Cut) -> Arc<Ledger> {
        Arc::new(Ledger { memory: Memory::new(), cut, state: Mutex::default() })
    }

    /// How many commits there were.
    pub(super) fn commits(&self) -> usize {
        self.state().commits
    }

    /// How often an engine was cut off.
    pub(super) fn crashes(&self) -> usize {
        self.state().crashes
    }

    /// What the engine was about to store, or had stored, when it was cut off last.
    pub(super) fn last(&self) -> String {
        self.state().last.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the engine is cut off at this commit, and if so, whether before it.
    fn cuts(&self, lists: &[List]) -> Option<bool> {
        let mut state = self.state();
        let number = state.commits;
        state.commits += 1;
        let cut = match self.cut {
            Cut::Never => None,
            Cut::Once { number: at, before } => (at == number).then_some(before),
            Cut::Each => {
                let place = self.place(lists);
                state.places.insert(place).then_some(false)
            }
        };
        if cut.is_some() {
            state.crashes += 1;
            state.last = told(lists);
        }
        cut
    }

    /// What is committed, and how far the test has come: the same at the same place of another life.
    fn place(&self, lists: &[List]) -> String {
        let mut place = String::new();
        let runs = self.memory.runs(&RunQuery::default()).unwrap_or_default();
        for run in runs {
            let journal = self.memory.journal(run.id).unwrap_or_default();
            // Writing into a String cannot fail.
            let _ = write!(place, "{}:{}+{} ", run.id, journal.records.len(), journal.attempts.len());
        }
        for write in lists.iter().flat_map(|list| &list.writes) {
            let whole = format!("{write:?}");
            place.push_str(whole.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default());
            place.push(' ');
        }
        place
    }
}

/// What lists store, in words.
fn told(lists: &[List]) -> String {
    let mut words: Vec<String> = Vec::new();
    for write in lists.iter().flat_map(|list| &list.writes) {
        let word = match write {
            Write::InsertEvent(event) => format!("the event {}", event.name),
            Write::Start { .. } => "the start of the run".to_owned(),
            Write::Append { record, .. } if record.kind.is_tiny() => continue,
            Write::Append { record, .. } => format!("the {} `{}`", record.kind.word(), record.key),
            Write::Attempt { attempt, .. } if attempt.key.is_empty() => "a failed attempt".to_owned(),
            Write::Attempt { attempt, .. } => format!("a failed attempt of `{}`", attempt.key),
            Write::OpenWait(row) => format!("the wait `{}`", row.wait.key),
            Write::ResolveWait { wait, .. } => format!("what ends the wait `{}`", wait.key),
            Write::End { state, .. } => format!("the run's end as {}", state.word()),
            Write::Suspend { .. } => "that the run waits".to_owned(),
            Write::Requeue { .. } => "that the run goes on".to_owned(),
            Write::PutSource(_) => "the handler's source".to_owned(),
            _ => continue,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() { "something small".to_owned() } else { words.join(", ") }
}

/// The store as one engine sees it.
pub(super) struct Life {
    ledger: Arc<Ledger>,
    /// The engine is gone: nothing that it still says is heard.
    dead: AtomicBool,
    /// Commits that are never answered.
    never: Mutex<Vec<Answer>>,
    /// The engine has been cut off.
    pub(super) cut_off: Notify,
}

impl Life {
    pub(super) fn new(ledger: &Arc<Ledger>) -> Arc<Life> {
        Arc::new(Life { ledger: Arc::clone(ledger), dead: AtomicBool::new(false), never: Mutex::default(), cut_off: Notify::new() })
    }

    /// The engine is gone.
    pub(super) fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn never(&self) -> Ticket {
        let (answer, ticket) = Ticket::new();
        self.never.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        ticket
    }
}

impl Store for Life {
    fn commit(&self, lane: Lane, lists: Vec<List>) -> Ticket {
        if self.is_over() {
            return self.never();
        }
        if lists.iter().all(|list| list.writes.is_empty()) {
            return self.ledger.memory.commit(lane, lists);
        }
        let Some(before) = self.ledger.cuts(&lists) else { return self.ledger.memory.commit(lane, lists) };
        if !before {
            // The engine is gone before the answer comes.
            drop(self.ledger.memory.commit(lane, lists));
        }
        self.end();
        self.cut_off.notify_one();
        self.never()
    }

    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.ledger.memory.event(id)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        self.ledger.memory.events(query)
    }

    fn outcomes(&self, event: EventId) -> Result<Vec<OutcomeRow>, StoreError> {
        self.ledger.memory.outcomes(event)
    }

    fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.ledger.memory.run(id)
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.ledger.memory.runs(query)
    }

    fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        self.ledger.memory.unfinished(each)
    }

    fn journal(&self, run: RunId) -> Result<Journal, StoreError> {
        self.ledger.memory.journal(run)
    }

    fn batch(&self, run: RunId) -> Result<Vec<EventId>, StoreError> {
        self.ledger.memory.batch(run)
    }

    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.ledger.memory.waits(run)
    }

    fn all_waits(&self, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
        self.ledger.memory.all_waits(each)
    }

    fn pinned(&self, field: &str, value: i64) -> Result<Vec<WaitRow>, StoreError> {
        self.ledger.memory.pinned(field, value)
    }

    fn crons(&self) -> Result<Vec<CronRow>, StoreError> {
        self.ledger.memory.crons()
    }

    fn all_windows(&self, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
        self.ledger.memory.all_windows(each)
    }

    fn value(&self, key: &str) -> Result<Option<crate::rules::KvRow>, StoreError> {
        self.ledger.memory.value(key)
    }

    fn pauses(&self) -> Result<Vec<PauseRow>, StoreError> {
        self.ledger.memory.pauses()
    }

    fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError> {
        self.ledger.memory.logs(run, from, limit)
    }

    fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError> {
        self.ledger.memory.source(hash)
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        self.ledger.memory.stats()
    }

    fn backup(&self, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        self.ledger.memory.backup(to, progress)
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        self.ledger.memory.check()
    }

    fn fault(&self) -> Option<StoreError> {
        self.ledger.memory.fault()
    }
}
