//! The attempt: everything that one run of a script over its journal knows, and the only way to its store.
//!
//! Natives reach the attempt of the running coroutine by `current`. It looks records up, buffers and commits what is new,
//! and remembers why the script has to end: the halt decides how the attempt stopped, whatever error the script ends with.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use rhai::{Dynamic, NativeCallContext};

use crate::base::alloc::{self, Account};
use crate::base::limits::{RUN_MEMORY_BYTES, RUN_OPERATIONS};
use crate::base::{Json, Millis, Span};
use crate::rules::row::{LogLevel, Place, Recorded};
use crate::rules::run::{Outcome, Stopped};
use crate::rules::{AttemptRow, Expect, Failure, Kind, List, LogRow, Record, Retry, RunState, Write};
use crate::store::{Lane, StoreError};

use super::coroutine::{self, Local};
use super::error::{Fault, Thrown, Verdict, terminated};
use super::{Call, Ports, Program, Stop};

/// Operations between two looks at the clock.
const LOOK_EVERY: u32 = 1_000;
/// The least number of operations between two looks, where they are slow.
const LOOK_LEAST: u32 = 8;
/// How long a busy script may hold its thread.
const SLICE: Span = Span(2);
/// The wait before a checkpoint is tried again on a full disk.
const FULL_DISK_WAIT: Span = Span::seconds(1);
/// Operations that the statements of all imported files may take together while a handler is loaded.
const LOADING_OPERATIONS: u64 = 1_000_000;
/// Bytes of log lines between two commits.
const LOG_BYTES: usize = 1024 * 1024;
/// What each line counts at least, in bytes.
const LINE_LEAST_BYTES: usize = 64;
/// Times the memory limit that one native call may reach before its coroutine is suspended for ever.
const STARVE_AT: u64 = 4;

/// Why the script has to end. The first one counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Halt {
    /// The attempt has stopped like this.
    Stop(Outcome),
    /// The store failed.
    Store(StoreError),
    /// A limit was met: the attempt (of the step, or of the code between steps) fails.
    Limit(Box<Failure>),
}

/// A record that was asked for.
pub(super) enum Found {
    /// It is there.
    Recorded(Recorded),
    /// It is new, and gets this key.
    New(Arc<str>),
}

/// What is known while a step's closure runs.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    /// The step's key.
    pub(super) key: Arc<str>,
    /// Its attempt, from 1.
    pub(super) attempt: u32,
    /// Its attempts in all.
    pub(super) attempts: u32,
    /// When this attempt began.
    pub(super) began: Millis,
    /// When it has to have ended.
    pub(super) deadline: Millis,
    /// HTTP requests made so far.
    pub(super) requests: u32,
    /// `file:line` of the call of `step`.
    pub(super) line: Option<Arc<str>>,
    /// When its first attempt began.
    pub(super) first: Millis,
    /// How often it is tried.
    pub(super) retry: Retry,
}

/// One run of a script over its journal.
pub(super) struct Attempt {
    pub(super) program: Arc<Program>,
    pub(super) call: Call,
    pub(super) ports: Arc<Ports>,
    pub(super) stop: Arc<Stop>,
    state: RefCell<State>,
    inside: RefCell<Option<Inside>>,
    halt: RefCell<Option<Halt>>,
    halted: Cell<bool>,
    operations: Cell<u64>,
    /// Operations until the next look at the clock: fewer where they are slow.
    stride: Cell<u32>,
    looked: Cell<Millis>,
    resumed: Cell<Millis>,
    outer: RefCell<Option<Outer>>,
    me: std::rc::Weak<Attempt>,
}

/// What a thread had before an attempt's script was resumed on it.
struct Outer {
    attempt: Option<Rc<Attempt>>,
    fuel: u32,
    memory: i64,
}

/// What changes while the script runs.
struct State {
    /// Where the next record is expected to be.
    cursor: usize,
    /// Which records were asked for, and how many.
    asked: Vec<bool>,
    asked_count: usize,
    /// Made at the first record that is not where it is expected.
    index: Option<HashMap<(Arc<str>, Kind), usize>>,
    counts: HashMap<(Kind, Arc<str>), u32>,
    pending: Vec<Write>,
    /// Whether `pending` holds a record.
    pending_record: bool,
    next_index: u32,
    journal_bytes: u64,
    /// Bytes of the log lines in `pending`.
    log_bytes: usize,
    attempt: u32,
    began: Millis,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Attempt>>> = const { RefCell::new(None) };
    /// Operations until the next look at the clock.
    static FUEL: Cell<u32> = const { Cell::new(LOOK_EVERY) };
    /// Bytes that the running script may hold.
    static MEMORY: Cell<i64> = const { Cell::new(i64::MAX) };
}

/// The attempt whose script runs on this thread.
pub(super) fn current() -> Result<Rc<Attempt>, Fault> {
    CURRENT
        .with_borrow(Clone::clone)
        .ok_or_else(|| Thrown::last("E0403", "this works while a run executes only, not while a script is loaded").fault())
}

/// The attempt whose script runs on this thread, if one does.
pub(super) fn running() -> Option<Rc<Attempt>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Called for every operation of every script.
#[inline]
pub(super) fn on_progress() -> Option<Dynamic> {
    let fuel = FUEL.get();
    if fuel > 0 && alloc::bytes() <= MEMORY.get() {
        FUEL.set(fuel - 1);
        return None;
    }
    look()
}

#[cold]
fn look() -> Option<Dynamic> {
    let Some(attempt) = running() else {
        // Scripts that are only loaded are bounded too; nothing is there to be told about it.
        if alloc::bytes() > MEMORY.get() {
            return Some(Dynamic::UNIT);
        }
        return LOADING.with(|left| match left.get().checked_sub(u64::from(LOOK_EVERY)) {
            Some(rest) => {
                left.set(rest);
                FUEL.set(LOOK_EVERY);
                None
            }
            None => Some(Dynamic::UNIT),
        });
    };
    if attempt.has_to_end() {
        FUEL.set(0);
        return Some(Dynamic::UNIT);
    }
    FUEL.set(attempt.stride.get());
    None
}

thread_local! {
    static LOADING: Cell<u64> = const { Cell::new(0) };
}

/// Calls `work`, which evaluates a module's own statements outside of a run, with a bound on its operations.
pub(super) fn while_loading<T>(work: impl FnOnce() -> T) -> T {
    LOADING.set(LOADING_OPERATIONS);
    FUEL.set(LOOK_EVERY);
    MEMORY.set(RUN_MEMORY_BYTES as i64);
    let before = alloc::swap(Account::NOBODY);
    let result = work();
    alloc::swap(before);
    MEMORY.set(i64::MAX);
    FUEL.set(LOOK_EVERY);
    result
}

impl Local for Attempt {
    fn enter(&self) {
        let me = self.me.upgrade();
        let before = CURRENT.replace(me);
        let memory = MEMORY.replace(self.call.surroundings.limits.memory_bytes.min(i64::MAX as u64) as i64);
        let fuel = FUEL.replace(if self.halted.get() { 0 } else { self.stride.get() });
        let now = self.ports.clock.now();
        self.resumed.set(now);
        self.looked.set(now);
        self.outer.replace(Some(Outer { attempt: before, fuel, memory }));
    }

    fn leave(&self) {
        if let Some(outer) = self.outer.take() {
            drop(CURRENT.replace(outer.attempt));
            FUEL.set(outer.fuel);
            MEMORY.set(outer.memory);
        }
    }

    fn stopped(&self, waker: &Waker) -> bool {
        self.stop.register(waker);
        self.stop.is_aborted()
    }

    fn account(&self) -> Account {
        let most = self.call.surroundings.limits.memory_bytes.saturating_mul(STARVE_AT).min(i64::MAX as u64) as i64;
        Account { bytes: 0, most, ..Account::NOBODY }
    }
}

impl Attempt {
    /// An attempt that has not begun.
    pub(super) fn new(program: Arc<Program>, call: Call, ports: Arc<Ports>, stop: Arc<Stop>) -> Rc<Attempt> {
        let now = ports.clock.now();
        let records = call.journal.records.len();
        let journal_bytes = call.journal.records.iter().map(size).sum();
        let next_index = call.journal.records.last().map_or(0, |last| last.index + 1);
        let state = State {
            cursor: 0,
            asked: vec![false; records],
            asked_count: 0,
            index: None,
            counts: HashMap::new(),
            pending: Vec::new(),
            pending_record: false,
            next_index,
            journal_bytes,
            log_bytes: 0,
            attempt: call.run.attempt,
            began: now,
        };
        Rc::new_cyclic(|me| Attempt {
            program,
            call,
            ports,
            stop,
            state: RefCell::new(state),
            inside: RefCell::new(None),
            halt: RefCell::new(None),
            halted: Cell::new(false),
            operations: Cell::new(0),
            stride: Cell::new(LOOK_EVERY),
            looked: Cell::new(now),
            resumed: Cell::new(now),
            outer: RefCell::new(None),
            me: me.clone(),
        })
    }

    /// The time now.
    pub(super) fn now(&self) -> Millis {
        self.ports.clock.now()
    }

    /// The attempt of the code between steps that is under way.
    pub(super) fn number(&self) -> u32 {
        self.state.borrow().attempt
    }

    /// What is known about the step whose closure runs.
    pub(super) fn inside(&self) -> Option<Inside> {
        self.inside.borrow().clone()
    }

    /// Enters or leaves a step's closure.
    pub(super) fn set_inside(&self, inside: Option<Inside>) {
        self.operations.set(0);
        self.inside.replace(inside);
    }

    /// The number of the HTTP request that the running step is about to make, from 1.
    pub(super) fn next_request(&self) -> u32 {
        self.inside.borrow_mut().as_mut().map_or(1, |inside| {
            inside.requests += 1;
            inside.requests
        })
    }

    // ---- ending ----

    /// Ends the script; what it gets is the error that its native has to return.
    pub(super) fn halt(&self, halt: Halt) -> Fault {
        let mut slot = self.halt.borrow_mut();
        if slot.is_none() {
            *slot = Some(halt);
        }
        self.halted.set(true);
        FUEL.set(0);
        terminated()
    }

    /// Whether the script has to end.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.get()
    }

    /// Takes a limit that was met back, for a step to fail by it.
    pub(super) fn take_limit(&self) -> Option<Failure> {
        let mut slot = self.halt.borrow_mut();
        match slot.take() {
            Some(Halt::Limit(failure)) => {
                self.halted.set(false);
                FUEL.set(LOOK_EVERY);
                Some(*failure)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Where `fail` was called inside of a step: records the step as failed too.
    pub(super) fn record_failing(&self, inside: &Inside) {
        let failure = match &*self.halt.borrow() {
            Some(Halt::Stop(Outcome::Failed(failure))) => Arc::clone(failure),
            _ => return,
        };
        self.add_attempt(AttemptRow {
            key: Arc::clone(&inside.key),
            attempt: inside.attempt,
            started: inside.began,
            ended: self.now(),
            error: Arc::clone(&failure),
            next: None,
            line: inside.line.clone(),
        });
        let made = Made { attempts: inside.attempt, started: inside.first, line: inside.line.clone() };
        // A journal that is full keeps the first halt, which is this failure.
        let _ = self.append(Arc::clone(&inside.key), Kind::Step, Recorded::Failed(failure), made);
    }

    /// Takes the reason why the script ended.
    pub(super) fn take_halt(&self) -> Option<Halt> {
        self.halt.borrow_mut().take()
    }

    /// The error of a native that was told to end by its coroutine.
    pub(super) fn ended(&self) -> Fault {
        let outcome = if self.stop.is_aborted() { Outcome::Lost } else { Outcome::Interrupted };
        self.halt(Halt::Stop(outcome))
    }

    fn limit(&self, code: &str, message: String, help: &str) {
        let failure = Failure { message, code: code.to_owned(), help: Some(help.to_owned()), ..Failure::default() };
        let _ = self.halt(Halt::Limit(Box::new(failure)));
    }

    /// Looks at the halt, the limits, the clock and the stop; lets others on the thread where this script took long.
    fn has_to_end(&self) -> bool {
        if self.is_halted() {
            return true;
        }
        if coroutine::is_ended() {
            let _ = self.ended();
            return true;
        }
        let most = self.call.surroundings.limits.memory_bytes;
        if alloc::bytes() > MEMORY.get() {
            let message = format!("the script holds more than {} MB of memory", most / (1024 * 1024));
            self.limit("E0412", message, "keep less in variables, or raise limits.memory in events.yaml");
            return true;
        }
        let operations = self.operations.get() + u64::from(self.stride.get());
        self.operations.set(operations);
        if operations > RUN_OPERATIONS.min(self.call.surroundings.limits.operations) {
            self.limit(
                "E0413",
                format!("the script did more than {operations} operations without a step"),
                "is there a loop that does not end?",
            );
            return true;
        }
        let now = self.now();
        self.pace(now);
        if let Some(inside) = self.inside() {
            if now >= inside.deadline {
                let _ = self.halt(Halt::Limit(Box::new(self.overdue(&inside))));
                return true;
            }
        } else if self.stop.is_draining() {
            let _ = self.halt(Halt::Stop(Outcome::Interrupted));
            return true;
        } else if now.since(self.state.borrow().began) > self.call.timeouts.step {
            let message = format!("the code between steps took longer than {}", self.call.timeouts.step);
            self.limit("E0414", message, "do the work in steps, or raise timeouts.step in events.yaml");
            return true;
        }
        if now.since(self.resumed.get()) >= SLICE && coroutine::pause().is_err() {
            let _ = self.ended();
            return true;
        }
        false
    }

    /// Looks more often where a thousand operations take longer than a slice: one operation on a large value may be slow.
    fn pace(&self, now: Millis) {
        let took = now.since(self.looked.replace(now));
        let stride = self.stride.get();
        if took > SLICE {
            self.stride.set((stride / 4).max(LOOK_LEAST));
        } else if took < SLICE {
            self.stride.set((stride * 2).min(LOOK_EVERY));
        }
    }

    /// The failure of a step that took too long.
    pub(super) fn overdue(&self, inside: &Inside) -> Failure {
        let limit = inside.deadline.since(inside.began);
        Failure {
            message: format!("the step took longer than {limit}"),
            code: "E0414".to_owned(),
            help: Some("raise timeouts.step in events.yaml, or give this step a `timeout`".to_owned()),
            ..Failure::default()
        }
    }

    // ---- waiting ----

    /// Waits for a future that is no step's own work: a commit, a timer.
    pub(super) fn wait<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        if self.is_halted() {
            return Err(terminated());
        }
        coroutine::wait(future).map_err(|_| self.ended())
    }

    /// Waits for a step's work, until the step's deadline at most.
    pub(super) fn wait_in_step<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        let Some(inside) = self.inside() else { return self.wait(future) };
        let timer = self.ports.clock.sleep_until(inside.deadline, false);
        let both = async {
            tokio::select! {
                biased;
                value = future => Some(value),
                () = timer => None,
            }
        };
        match self.wait(both)? {
            Some(value) => Ok(value),
            None => Err(self.halt(Halt::Limit(Box::new(self.overdue(&inside))))),
        }
    }

    // ---- the journal ----

    /// Whether the script goes over what it has recorded before.
    pub(super) fn is_replaying(&self) -> bool {
        let state = self.state.borrow();
        state.asked_count < self.call.journal.records.len()
    }

    /// Asks for the next record of this kind and name.
    pub(super) fn ask(&self, kind: Kind, name: &str) -> Result<Found, Fault> {
        if self.is_halted() {
            return Err(terminated());
        }
        let records = &self.call.journal.records;
        let mut state = self.state.borrow_mut();
        let key = state.next_key(kind, name);
        let cursor = state.cursor;
        let here = |at: usize| records.get(at).is_some_and(|record| record.kind == kind && record.key == key);
        let found = if here(cursor) {
            Some(cursor)
        } else if state.asked_count == records.len() {
            None
        } else {
            let index = state.index.get_or_insert_with(|| {
                records.iter().enumerate().map(|(at, record)| ((Arc::clone(&record.key), record.kind), at)).collect()
            });
            index.get(&(Arc::clone(&key), kind)).copied()
        };
        if let Some(at) = found {
            state.cursor = at + 1;
            if !std::mem::replace(&mut state.asked[at], true) {
                state.asked_count += 1;
            }
            return Ok(Found::Recorded(records[at].result.clone()));
        }
        let missed = state.asked.iter().position(|asked| !asked);
        drop(state);
        if let Some(at) = missed {
            return Err(self.halt(Halt::Stop(self.unfit(at, &format!("{} `{key}`", kind.word())))));
        }
        Ok(Found::New(key))
    }

    /// The outcome of a handler that does not ask for a record.
    fn unfit(&self, missed: usize, instead: &str) -> Outcome {
        let record = &self.call.journal.records[missed];
        let reason = format!("the journal has {} `{}` where the handler asks for {instead}", record.kind.word(), record.key);
        Outcome::Unfit(Arc::from(reason))
    }

    /// The outcome of a script that has ended although records are left that it never asked for.
    pub(super) fn unasked(&self, how: &str) -> Option<Outcome> {
        let missed = self.state.borrow().asked.iter().position(|asked| !asked)?;
        Some(self.unfit(missed, how))
    }

    /// The failed attempts of a step so far.
    pub(super) fn failed_attempts(&self, key: &str) -> (u32, Option<Millis>) {
        let mut rows = self.call.journal.attempts.iter().filter(|row| &*row.key == key);
        let first = rows.next();
        let last = rows.next_back().or(first);
        (last.map_or(0, |row| row.attempt), first.map(|row| row.started))
    }

    /// Adds a record to what is committed next.
    pub(super) fn append(&self, key: Arc<str>, kind: Kind, result: Recorded, made: Made) -> Result<(), Fault> {
        let limits = &self.call.surroundings.limits;
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let record = Record {
            index: state.next_index,
            key,
            kind,
            result,
            attempts: made.attempts,
            started: made.started,
            ended: now,
            line: made.line,
        };
        let bytes = state.journal_bytes + size(&record);
        let full = if record.index >= limits.steps {
            Some(format!("the run has {} records, the most that limits.steps allows", limits.steps))
        } else if bytes > limits.journal_bytes {
            Some(format!("the run's journal is larger than {} bytes, the most that limits.journal allows", limits.journal_bytes))
        } else {
            None
        };
        if let Some(message) = full {
            drop(state);
            let help = Some("split the work into several runs, or raise the limit in events.yaml".to_owned());
            let failure = Failure { message, code: "E0408".to_owned(), help, ..Failure::default() };
            return Err(self.halt(Halt::Stop(Outcome::Failed(Arc::new(failure)))));
        }
        state.next_index += 1;
        state.journal_bytes = bytes;
        state.attempt = 1;
        state.began = now;
        state.pending_record = true;
        self.operations.set(0);
        alloc::uncounted(|| state.pending.push(Write::Append { run: self.call.run.id, record }));
        Ok(())
    }

    /// Adds a failed attempt to what is committed next.
    pub(super) fn add_attempt(&self, attempt: AttemptRow) {
        alloc::uncounted(|| self.state.borrow_mut().pending.push(Write::Attempt { run: self.call.run.id, attempt }));
    }

    /// Commits what is pending, and goes on once it is durable.
    pub(super) fn commit(&self) -> Result<(), Fault> {
        let writes = {
            let mut state = self.state.borrow_mut();
            state.pending_record = false;
            state.log_bytes = 0;
            std::mem::take(&mut state.pending)
        };
        if writes.is_empty() {
            return Ok(());
        }
        let run = &self.call.run;
        loop {
            // What goes to the writer is freed by the writer, so it is nobody's.
            let ticket = alloc::uncounted(|| {
                let list = List { expect: vec![Expect::RunRev { run: run.id, rev: run.rev }], writes: writes.clone() };
                self.ports.store.commit(Lane::Steps, vec![list])
            });
            match self.wait(ticket)? {
                Ok(verdicts) if verdicts.iter().all(Result::is_ok) => {
                    self.tell(&writes);
                    alloc::uncounted(|| drop(writes));
                    return Ok(());
                }
                Ok(_) => return Err(self.halt(Halt::Stop(Outcome::Lost))),
                Err(StoreError::Full) => {
                    // The effect has happened; it is never repeated for want of room.
                    let again = self.now().after(FULL_DISK_WAIT);
                    self.wait(self.ports.clock.sleep_until(again, false))?;
                }
                Err(error) => return Err(self.halt(Halt::Store(error))),
            }
        }
    }

    /// Tells the watcher what has become durable.
    fn tell(&self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Append { run, record } => self.ports.watch.recorded(*run, record),
                Write::Attempt { run, attempt } => self.ports.watch.attempt_failed(*run, attempt),
                _ => {}
            }
        }
    }

    /// Commits the records that are only buffered, before something happens that must not be lost behind them.
    pub(super) fn commit_records(&self) -> Result<(), Fault> {
        let has_record = self.state.borrow().pending_record;
        if has_record { self.commit() } else { Ok(()) }
    }

    /// Adds a line to the run's log; silent while the script goes over what it has recorded before.
    ///
    /// The lines of one commit are bounded: a flood of them is cut off, and says so.
    pub(super) fn log(&self, level: LogLevel, message: &str, data: Option<&str>) {
        if self.is_replaying() || self.is_halted() {
            return;
        }
        let mut state = self.state.borrow_mut();
        let before = state.log_bytes;
        state.log_bytes = before + LINE_LEAST_BYTES + message.len() + data.map_or(0, str::len);
        let (level, message, data) = match state.log_bytes {
            bytes if bytes <= LOG_BYTES => (level, message, data),
            _ if before <= LOG_BYTES => {
                (LogLevel::Warn, "more lines follow here than a log takes between two records; they are left out", None)
            }
            _ => return,
        };
        let secrets = &self.call.surroundings.secrets;
        // A line outlives the script, so it is not the script's.
        let line = alloc::uncounted(|| LogRow {
            at: self.now(),
            level,
            message: Arc::from(&*secrets.hide(message)),
            data: data.map(|data| Json::from(&*secrets.hide(data))),
            step: self.inside.borrow().as_ref().map_or_else(|| Arc::from(""), |inside| Arc::clone(&inside.key)),
        });
        self.ports.watch.logged(self.call.run.id, &line);
        alloc::uncounted(|| state.pending.push(Write::Log { run: self.call.run.id, line }));
    }

    /// Hides every known secret in a failure.
    pub(super) fn hide(&self, mut failure: Failure) -> Failure {
        let secrets = &self.call.surroundings.secrets;
        failure.message = secrets.hide(&failure.message).into_owned();
        if let Some(data) = &failure.data {
            let text = data.to_string();
            let hidden = secrets.hide(&text);
            if *hidden != text {
                failure.data = serde_json::from_str(&hidden).ok();
            }
        }
        failure
    }

    /// Hides every known secret in what an error came to.
    pub(super) fn hidden(&self, mut verdict: Verdict) -> Verdict {
        verdict.failure = self.hide(verdict.failure);
        verdict
    }

    /// How the attempt stopped, with all that is still to be stored. What a coroutine that is suspended for ever holds
    /// cannot be taken; then only the outcome counts.
    pub(super) fn stopped(&self, outcome: Outcome) -> Stopped {
        match self.state.try_borrow_mut() {
            Ok(mut state) => {
                let pending = if outcome == Outcome::Lost { Vec::new() } else { std::mem::take(&mut state.pending) };
                let recorded = state.next_index as usize > self.call.journal.records.len();
                Stopped { outcome, pending, attempt: state.attempt, began: state.began, recorded }
            }
            Err(_) => Stopped { outcome, pending: Vec::new(), attempt: self.call.run.attempt, began: self.resumed.get(), recorded: false },
        }
    }

    /// Suspends the run.
    pub(super) fn suspend(&self, state: RunState, wake: Millis, error: Option<Arc<Failure>>) -> Fault {
        self.halt(Halt::Stop(Outcome::Suspended { state, wake: Some(wake), error }))
    }
}

impl State {
    /// The key of the next record of this kind and name: `x`, then `x#2`.
    fn next_key(&mut self, kind: Kind, name: &str) -> Arc<str> {
        let name: Arc<str> = Arc::from(name);
        let count = self.counts.entry((kind, Arc::clone(&name))).or_insert(0);
        *count += 1;
        if *count == 1 { name } else { Arc::from(format!("{name}#{count}")) }
    }
}

/// How a record came to be.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// Attempts, the last one included.
    pub(super) attempts: u32,
    /// When the first one began.
    pub(super) started: Millis,
    /// `file:line` of the call.
    pub(super) line: Option<Arc<str>>,
}

/// `file:line` of the call that a native was reached by.
pub(super) fn line_of(context: &NativeCallContext<'_>) -> Option<Arc<str>> {
    let line = context.call_position().line()?;
    Some(Arc::from(format!("{}:{line}", context.call_source().unwrap_or_default())))
}

/// The place of the call that a native was reached by.
pub(super) fn place_of(context: &NativeCallContext<'_>) -> Vec<Place> {
    let position = context.call_position();
    let Some(line) = position.line() else { return Vec::new() };
    let column = position.position().unwrap_or(0) as u32;
    vec![Place { file: context.call_source().unwrap_or_default().to_owned(), line: line as u32, column, within: None }]
}

/// The bytes that a record counts for in the journal.
fn size(record: &Record) -> u64 {
    let result = match &record.result {
        Recorded::Value(json) => json.len(),
        Recorded::Failed(failure) => failure.message.len() + failure.data.as_ref().map_or(0, |data| data.to_string().len()),
        Recorded::Until(_) => 8,
    };
    (record.key.len() + result) as u64
}
