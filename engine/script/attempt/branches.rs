//! The branches of a `parallel` or `race`: each is a script of its own on a coroutine of its own, over its part of the journal.
//!
//! What the branches of a run share is here: the journal, the waits, the account of memory, and the coroutines that run
//! beside the script's own. A branch that has nothing more to replay stops until every other one has come as far, so that
//! nothing is executed before the handler has asked for all that the run has recorded. In a race it stops once more, until it is
//! known whether one has ended by what is recorded: then nothing is executed at all. Where another one has no stack to come as far,
//! whoever stops makes room for it.

mod races;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};

use rhai::Dynamic;

use crate::base::alloc::{self, Account};
use crate::base::{Millis, RunId};
use crate::rules::fit::{Answer, BELOW, Instead, is_own, is_under};
use crate::rules::{AttemptRow, Kind, Record, WaitRow, WaitState, Write};

use super::super::coroutine::{Broken, Coroutine};
use super::super::error::{Fault, Thrown};
use super::journal::{Found, State, bytes, new_call};
use super::{Attempt, Halt};

/// What a branch's body gives.
pub(in crate::script) type Body = Result<Dynamic, Fault>;

/// What the branches of a run share.
pub(in crate::script) struct Common {
    pub(super) state: RefCell<State>,
    /// The run's waits, as they are now as far as it knows.
    pub(super) waits: RefCell<Vec<WaitRow>>,
    /// The memory of all of them.
    pub(super) account: Cell<Account>,
    /// The coroutines beside the script's own.
    beside: RefCell<Vec<Rc<Running>>>,
    /// Something has happened that another coroutine of the run may wait for.
    changed: Cell<bool>,
    /// All coroutines were asked since, and none could go on.
    quiet: Cell<bool>,
    /// A wait has been opened, or is about to be.
    pub(super) waited: Cell<bool>,
    /// Coroutines that do not wait for their own branches.
    leaves: Cell<usize>,
    /// Those of them that have nothing more to replay and wait for the others.
    arrived: Cell<usize>,
    /// The calls of `parallel` and `race` of which a branch waits for a stack.
    wanting: Cell<usize>,
    /// A branch has got no stack, and nothing else was there whose end could have made room for it.
    gave_up: Cell<bool>,
}

/// What one branch has to commit.
#[derive(Default)]
pub(in crate::script) struct Own {
    pub(super) pending: Vec<Write>,
    /// When the oldest record came that `pending` holds; none where it holds no record.
    pub(super) holds_since: Option<Millis>,
    /// Bytes of the records that `pending` holds, and of the lines that came before the last of them.
    pub(super) held_bytes: u64,
    /// Whether a step has acted on the world since the last commit.
    pub(super) acted: bool,
    /// Whether a record is being committed.
    pub(super) pending_fresh: bool,
    /// Whether it has told the store that this version of the handler makes the journal.
    pub(super) adopted: bool,
    /// Bytes of the script's log lines in `pending`.
    pub(super) log_bytes: usize,
    /// Bytes of the calls that are noted in `pending`.
    pub(super) call_bytes: usize,
    /// When the code that is under way began.
    pub(super) began: Millis,
}

impl Own {
    /// Whether `pending` holds a record.
    pub(super) fn holds_record(&self) -> bool {
        self.holds_since.is_some()
    }

    /// Adds a record to what is to be committed.
    pub(super) fn hold(&mut self, run: RunId, record: Record) {
        self.holds_since.get_or_insert(record.ended);
        self.held_bytes += bytes(&record);
        self.pending.push(Write::Append { run, record });
    }

    /// Takes what is to be committed; whether there is a record in it.
    pub(super) fn take(&mut self) -> (Vec<Write>, bool) {
        (self.log_bytes, self.call_bytes, self.held_bytes) = (0, 0, 0);
        self.acted = false;
        (std::mem::take(&mut self.pending), self.holds_since.take().is_some())
    }
}

/// What this attempt has added under branches: one that is started again goes over it as over the journal.
#[derive(Default)]
pub(super) struct Added {
    pub(super) records: Vec<Record>,
    pub(super) attempts: Vec<AttemptRow>,
}

/// The place of a branch.
pub(in crate::script) struct Branch {
    /// The names of the branches that lead to it: `mail`, `mail › 0`.
    pub(super) path: Arc<str>,
    /// Its records that it has not asked for again.
    left: Cell<usize>,
    /// Those of branches below it that they have not asked for again: it has come to them before.
    below: RefCell<HashSet<(Kind, Arc<str>)>>,
    /// What it is a branch of.
    above: Weak<Attempt>,
    /// Of the race that it is in: whether its branches have to wait before they begin something new.
    gate: Option<Rc<Cell<bool>>>,
    /// It has come to something new, or had nothing recorded.
    is_up: Cell<bool>,
    /// It has ended for want of a stack before it had come to something new.
    is_short: Cell<bool>,
    /// Another branch has ended its race: it ends, too.
    is_left: Cell<bool>,
}

impl Branch {
    /// When what came last before it did.
    pub(super) fn began(&self) -> Millis {
        self.above.upgrade().map_or(Millis(0), |above| above.came())
    }
}

/// How often the names under a path were asked for.
pub(in crate::script) type Counts = HashMap<(Kind, Arc<str>), u32>;

/// Whether a record was asked for before these counts were taken: by its own name, or as one below a race that was.
fn is_counted(record: &Record, counts: &Counts) -> bool {
    let is_one_of = |key: &str, name: &str, count: u32| match key.strip_prefix(name) {
        Some("") => count > 0,
        Some(rest) => rest.strip_prefix('#').and_then(|number| number.parse().ok()).is_some_and(|number: u32| number <= count),
        None => false,
    };
    counts.iter().any(|((kind, name), count)| {
        let above = |race: &str| record.key.match_indices(BELOW).any(|(at, _)| is_one_of(&record.key[..at], race, *count));
        (*kind == record.kind && is_one_of(&record.key, name, *count)) || (*kind == Kind::Race && above(name))
    })
}

/// A branch on its coroutine.
pub(in crate::script) struct Running {
    pub(in crate::script) attempt: Rc<Attempt>,
    coroutine: RefCell<Option<Coroutine<Body>>>,
    result: RefCell<Option<Result<Body, Broken>>>,
}

impl Running {
    /// What came of it, once it has ended.
    pub(in crate::script) fn take(&self) -> Option<Result<Body, Broken>> {
        self.result.borrow_mut().take()
    }

    /// Whether it has ended, in whatever way. Not to be asked of the coroutine that runs.
    pub(in crate::script) fn has_ended(&self) -> bool {
        self.coroutine.borrow().is_none()
    }
}

impl Common {
    pub(super) fn new(state: State, waits: Vec<WaitRow>, account: Account) -> Common {
        Common {
            state: RefCell::new(state),
            waited: Cell::new(!waits.is_empty()),
            waits: RefCell::new(waits),
            account: Cell::new(account),
            beside: RefCell::default(),
            changed: Cell::new(false),
            quiet: Cell::new(false),
            leaves: Cell::new(1),
            arrived: Cell::new(0),
            wanting: Cell::new(0),
            gave_up: Cell::new(false),
        }
    }

    fn change(&self) {
        self.changed.set(true);
        self.quiet.set(false);
    }

    /// Whether every coroutine waits for the others to replay, and none can.
    fn is_stuck(&self) -> bool {
        self.arrived.get() > 0 && self.arrived.get() >= self.leaves.get()
    }

    /// Whether a branch that has yet to ask for what it has recorded may be without a stack.
    fn is_short_of_stacks(&self) -> bool {
        self.wanting.get() > 0 || self.gave_up.get()
    }

    fn count(cell: &Cell<usize>, by: isize) {
        cell.set(cell.get().saturating_add_signed(by));
    }
}

impl Attempt {
    /// The name of a record here, with the branches that lead to it.
    fn named(branch: &Branch, name: &str) -> String {
        format!("{}{BELOW}{name}", branch.path)
    }

    /// Whether it is a branch's.
    pub(in crate::script) fn is_branch(&self) -> bool {
        self.branch.is_some()
    }

    /// The path of a branch of this name below this one.
    pub(in crate::script) fn path_below(&self, name: &str) -> Arc<str> {
        match &self.branch {
            None => Arc::from(name),
            Some(branch) => Arc::from(Attempt::named(branch, name)),
        }
    }

    /// A branch of `parallel` takes its name.
    ///
    /// # Errors
    /// E0407 where a race before it has that name: the records of both would lie at one place.
    pub(in crate::script) fn take_name(&self, name: &str) -> Result<(), Fault> {
        let path = self.path_below(name);
        let mut state = self.common.state.borrow_mut();
        if state.counts.contains_key(&(Kind::Race, Arc::clone(&path))) {
            let thrown = Thrown::last("E0407", format!("a race is called `{name}`, and so would be a branch of `parallel`"));
            return Err(thrown.help("give one of them another name").fault());
        }
        state.branches.insert(path);
        Ok(())
    }

    /// How often the names under a path were asked for so far.
    pub(in crate::script) fn counts_under(&self, path: &str) -> Counts {
        let state = self.common.state.borrow();
        state.counts.iter().filter(|((_, name), _)| is_under(name, path)).map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// An attempt of a branch. `counts` are as they were when it first began, and `own` is what it has left behind; `gate` is that of the
    /// race that it is in.
    pub(in crate::script) fn branch(
        &self,
        path: &Arc<str>,
        counts: &Counts,
        own: Option<Own>,
        gate: Option<&Rc<Cell<bool>>>,
    ) -> Rc<Attempt> {
        let now = self.now();
        let is_up = !self.has_past(path);
        let mut state = self.common.state.borrow_mut();
        state.counts.retain(|(_, name), _| !is_under(name, path));
        state.counts.extend(counts.iter().map(|(key, count)| (key.clone(), *count)));
        let records = || self.call.journal.records.iter().chain(&state.added.records);
        let all = records().filter(|record| is_own(&record.key, path)).count();
        let had: u32 = counts.iter().filter(|((_, name), _)| is_own(name, path)).map(|(_, count)| *count).sum();
        let is_below = |record: &&Record| is_under(&record.key, path) && !is_own(&record.key, path) && !is_counted(record, counts);
        let below = alloc::uncounted(|| records().filter(is_below).map(|record| (record.kind, Arc::clone(&record.key))).collect());
        drop(state);
        let branch = Branch {
            path: Arc::clone(path),
            left: Cell::new(all.saturating_sub(had as usize)),
            below: RefCell::new(below),
            above: self.me.clone(),
            gate: gate.map(Rc::clone),
            is_up: Cell::new(is_up),
            is_short: Cell::new(false),
            is_left: Cell::new(false),
        };
        let own = Own { began: now, ..own.unwrap_or_default() };
        Attempt::with(
            (Arc::clone(&self.program), Rc::clone(&self.call), Arc::clone(&self.ports), Arc::clone(&self.stop)),
            Rc::clone(&self.common),
            own,
            Some(branch),
        )
    }

    /// Runs a branch on its coroutine, beside the others.
    pub(in crate::script) fn run_beside(&self, attempt: Rc<Attempt>, coroutine: Coroutine<Body>) -> Rc<Running> {
        if !attempt.is_behind() {
            self.comes_up();
        }
        let running = Rc::new(Running { attempt, coroutine: RefCell::new(Some(coroutine)), result: RefCell::new(None) });
        self.common.beside.borrow_mut().push(Rc::clone(&running));
        Common::count(&self.common.leaves, 1);
        self.common.change();
        running
    }

    /// Something has happened that another coroutine of the run may wait for.
    pub(in crate::script) fn branches_change(&self) {
        self.common.change();
    }

    /// The branch waits for branches of its own, or goes on.
    pub(in crate::script) fn waits_for_branches(&self, waits: bool) {
        Common::count(&self.common.leaves, if waits { -1 } else { 1 });
        self.common.change();
    }

    /// A branch of one more `parallel` or `race` waits for a stack, or none of it does any more.
    pub(in crate::script) fn wants_stack(&self, wants: bool) {
        Common::count(&self.common.wanting, if wants { 1 } else { -1 });
    }

    /// Notes that a branch below this one has got no stack where nothing is left to wait for.
    pub(in crate::script) fn gives_up_on_stack(&self) {
        self.common.gave_up.set(true);
    }

    /// Notes that it ends for want of a stack, of its own branches or others: where it has not come to something new, it may yet end by
    /// what is recorded.
    pub(in crate::script) fn stops_short(&self) {
        if let Some(branch) = &self.branch {
            branch.is_short.set(!branch.is_up.get());
        }
    }

    /// Whether it has ended for want of a stack before it had come to something new.
    pub(in crate::script) fn has_stopped_short(&self) -> bool {
        self.branch.as_ref().is_some_and(|branch| branch.is_short.get())
    }

    /// Ends the script, which is begun again over its records later: another branch needs its stack.
    fn makes_room(&self) -> Fault {
        self.stops_short();
        self.halt(Halt::Aside)
    }

    /// Whether a coroutine of the run is at work: its end, or its next call, may make room for another one.
    pub(in crate::script) fn has_others_at_work(&self) -> bool {
        self.common.leaves.get() > 0
    }

    /// Whether a branch that was set aside may come back: what the others have recorded was asked for; or, where nothing of its
    /// `parallel` or `race` `is_running`, nobody is there who could ask, which it finds out then.
    pub(in crate::script) fn may_come_back(&self, is_running: bool) -> bool {
        self.common.state.borrow().fit.is_whole() || !is_running && !self.common.is_short_of_stacks()
    }

    /// What the attempt has to commit.
    pub(in crate::script) fn take_own(&self) -> Own {
        self.own.try_borrow_mut().map(|mut own| std::mem::take(&mut *own)).unwrap_or_default()
    }

    /// Takes over what a branch has left behind.
    pub(in crate::script) fn inherit(&self, left: Own) {
        let mut own = self.own.borrow_mut();
        alloc::uncounted(|| own.pending.extend(left.pending));
        own.holds_since = own.holds_since.into_iter().chain(left.holds_since).min();
        own.held_bytes += left.held_bytes;
        own.acted |= left.acted;
        own.log_bytes += left.log_bytes;
        own.call_bytes += left.call_bytes;
    }

    /// The failed attempts that this attempt has added to a branch's step.
    pub(super) fn added_attempts(&self, key: &str) -> Vec<AttemptRow> {
        if self.branch.is_none() {
            return Vec::new();
        }
        self.common.state.borrow().added.attempts.iter().filter(|row| &*row.key == key).cloned().collect()
    }

    /// Whether a branch goes over what it has recorded before.
    pub(super) fn branch_is_replaying(&self) -> Option<bool> {
        self.branch.as_ref().map(|branch| branch.left.get() > 0 || !branch.below.borrow().is_empty())
    }

    /// Asks for the next record of this kind and name of a branch.
    pub(super) fn ask_in_branch(&self, branch: &Branch, kind: Kind, name: &str) -> Result<Found, Fault> {
        self.demand_place()?;
        let records = &self.call.journal.records;
        let mut state = self.common.state.borrow_mut();
        let key = state.next_key(kind, &Attempt::named(branch, name));
        let answer = state.fit.ask(records, Some(&branch.path), kind, &key);
        let record = match answer {
            Answer::Recorded(at) => Some(records[at].clone()),
            // What this attempt has added itself is asked for again by a branch that is started again.
            _ => state.find_added(kind, &key),
        };
        drop(state);
        if let Some(record) = record {
            self.common.change();
            return Ok(self.found_in_branch(branch, &record));
        }
        match answer {
            Answer::Unfit(at) => return Err(self.halt(Halt::Stop(self.unfit(at, Instead::Asks(new_call(kind, &key)))))),
            Answer::Later => self.wait_for_others(kind, &key)?,
            Answer::New | Answer::Recorded(_) => {}
        }
        self.go_beyond_records(kind, &key)?;
        // What a wait that is open has come to may be there already, and end the branch.
        if !self.has_wait(kind, &key) {
            self.begin_new()?;
        }
        Ok(Found::New(key))
    }

    fn found_in_branch(&self, branch: &Branch, record: &Record) -> Found {
        branch.left.set(branch.left.get().saturating_sub(1));
        self.forget_below(&|kind, key| kind == record.kind && *key == *record.key);
        if record.kind == Kind::Race {
            self.forget_below(&|_, key| is_under(key, &record.key));
        }
        self.operations.set(0);
        self.passes_record(record);
        Found::Recorded(record.result.clone())
    }

    /// Records of branches were asked for again, or are needed no more: the branches that these are in have come past them.
    fn forget_below(&self, which: &dyn Fn(Kind, &str) -> bool) {
        let mut forget = |branch: &Branch| {
            alloc::uncounted(|| branch.below.borrow_mut().retain(|(kind, key)| !which(*kind, key)));
            false
        };
        self.any_branch(&mut forget);
    }

    /// Whether a wait is stored that is not recorded.
    fn has_wait(&self, kind: Kind, key: &str) -> bool {
        let is_it = |row: &WaitRow| row.wait.kind == kind && *row.wait.key == *key && !matches!(row.state, WaitState::Recorded(_));
        self.common.waits.borrow().iter().any(is_it)
    }

    /// Whether anything is recorded under a path, or waited for.
    pub(in crate::script) fn has_past(&self, path: &str) -> bool {
        let state = self.common.state.borrow();
        let mut records = self.call.journal.records.iter().chain(&state.added.records);
        records.any(|record| is_under(&record.key, path)) || self.common.waits.borrow().iter().any(|row| is_under(&row.wait.key, path))
    }

    /// Waits until all branches have asked for everything that is recorded. Where one of them has no stack to do so, this one makes
    /// room for it: it ends, and is begun again over its records when they have.
    fn wait_for_others(&self, kind: Kind, key: &Arc<str>) -> Result<(), Fault> {
        let common = &self.common;
        Common::count(&common.arrived, 1);
        common.change();
        let all = std::future::poll_fn(|_| {
            let state = common.state.borrow();
            let missed = state.fit.missed();
            if missed.is_none() {
                return Poll::Ready(None);
            }
            // Nobody is left who could ask for it.
            if common.quiet.get() { Poll::Ready(missed) } else { Poll::Pending }
        });
        let missed = self.wait(all);
        Common::count(&common.arrived, -1);
        common.change();
        match missed? {
            None => Ok(()),
            Some(_) if common.is_short_of_stacks() => Err(self.makes_room()),
            Some(at) => Err(self.halt(Halt::Stop(self.unfit(at, Instead::Asks(new_call(kind, key)))))),
        }
    }

    /// Takes the waits of the run as they are stored now. Whether one of those under this path has come to something.
    pub(in crate::script) fn look_at_waits(&self, path: &str) -> Result<bool, Fault> {
        let rows = alloc::uncounted(|| self.ports.post.waits(self.call.run.id)).map_err(|error| self.halt(Halt::Store(error)))?;
        let mut waits = self.common.waits.borrow_mut();
        let mut news = false;
        // What this attempt has recorded itself may not be stored yet.
        for known in waits.iter_mut().filter(|known| known.state == WaitState::Open && is_under(&known.wait.key, path)) {
            if let Some(row) = rows.iter().find(|row| row.wait == known.wait && row.state != WaitState::Open) {
                alloc::uncounted(|| *known = row.clone());
                news = true;
            }
        }
        Ok(news)
    }
}

/// The script's own coroutine and those of its branches: ready when the script's own is.
pub(in crate::script) struct Stage<T> {
    pub(in crate::script) root: Coroutine<T>,
    pub(in crate::script) attempt: Rc<Attempt>,
}

impl<T: 'static> Future for Stage<T> {
    type Output = Result<T, Broken>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, Broken>> {
        let common = Rc::clone(&self.attempt.common);
        loop {
            common.changed.set(false);
            let root = Pin::new(&mut self.root).poll(context);
            if root.is_ready() {
                self.end_branches();
                return root;
            }
            if common.beside.borrow().is_empty() {
                return Poll::Pending;
            }
            let all: Vec<Rc<Running>> = common.beside.borrow().clone();
            for running in all {
                let mut coroutine = running.coroutine.borrow_mut();
                if coroutine.is_some() && running.attempt.is_left() && !running.attempt.delivers.get() {
                    // Its race is over: what it is in the middle of is given up, as where its run is cancelled.
                    drop(coroutine.take());
                    Common::count(&common.leaves, -1);
                    common.change();
                    continue;
                }
                let Some(branch) = coroutine.as_mut() else { continue };
                if let Poll::Ready(result) = Pin::new(branch).poll(context) {
                    *coroutine = None;
                    running.result.replace(Some(result));
                    Common::count(&common.leaves, -1);
                    common.change();
                }
            }
            common.beside.borrow_mut().retain(|running| running.coroutine.borrow().is_some());
            if !common.changed.get() {
                if common.quiet.get() || !common.is_stuck() {
                    return Poll::Pending;
                }
                common.quiet.set(true);
            }
        }
    }
}

impl<T> Stage<T> {
    /// Ends the branches that are under way: the script has ended without them.
    fn end_branches(&self) {
        let all = std::mem::take(&mut *self.attempt.common.beside.borrow_mut());
        for running in all {
            drop(running.coroutine.borrow_mut().take());
            self.attempt.inherit(running.attempt.take_own());
        }
    }
}

impl<T> Drop for Stage<T> {
    fn drop(&mut self) {
        self.end_branches();
    }
}
