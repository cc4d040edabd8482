//! The limits of a running script: operations, memory, the clock, and the ends from outside. Rhai asks at each operation.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rhai::Dynamic;

use crate::base::alloc::{self, Account};
use crate::base::limits::{COROUTINE_STACK_BYTES, RUN_MEMORY_BYTES, RUN_OPERATIONS};
use crate::base::{Millis, Span};
use crate::rules::Failure;
use crate::rules::run::Outcome;

use super::super::coroutine::{self, Broken, Coroutine, Local};
use super::{Attempt, CURRENT, Halt, Inside, running};

/// Operations between two looks at the clock.
pub(super) const LOOK_EVERY: u32 = 1_000;
/// The least number of operations between two looks, where they are slow.
const LOOK_LEAST: u32 = 8;
/// Operations until the first look after a step, whose record waits: what follows it may be slow.
const LOOK_AFTER_STEP: u32 = 16;
/// How long a busy script may hold its thread.
const SLICE: Span = Span(2);
/// Operations that the statements of all imported files may take together while a handler is loaded.
const LOADING_OPERATIONS: u64 = 1_000_000;
/// Times the memory limit that one native call may reach before its coroutine is suspended for ever.
pub(super) const STARVE_AT: u64 = 4;

thread_local! {
    /// Operations until the next look at the clock.
    static FUEL: Cell<u32> = const { Cell::new(LOOK_EVERY) };
    /// Bytes that the running script may hold.
    static MEMORY: Cell<i64> = const { Cell::new(i64::MAX) };
    /// Operations that are left to the files that are loaded on this thread.
    static LOADING: Cell<u64> = const { Cell::new(0) };
}

/// What a thread had before an attempt's script was resumed on it.
pub(super) struct Outer {
    attempt: Option<Rc<Attempt>>,
    fuel: u32,
    memory: i64,
}

/// Called for every operation of every script.
#[inline]
pub(in crate::script) fn on_progress() -> Option<Dynamic> {
    coroutine::note_depth();
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

/// Takes the script's next operation to the look, which ends it if it has been halted meanwhile.
pub(super) fn look_at_once() {
    FUEL.set(0);
}

/// Gives the script operations again after a look that was asked for.
pub(super) fn go_on() {
    FUEL.set(LOOK_EVERY);
}

/// What a thread is while a file's own statements are evaluated outside of a run.
struct Loading(Cell<Account>);

impl Local for Loading {
    fn enter(&self) {
        LOADING.set(LOADING_OPERATIONS);
        FUEL.set(LOOK_EVERY);
        MEMORY.set(RUN_MEMORY_BYTES as i64);
    }

    fn leave(&self) {
        FUEL.set(LOOK_EVERY);
        MEMORY.set(i64::MAX);
    }

    fn stopped(&self, _: &Waker) -> bool {
        false
    }

    fn account(&self) -> Account {
        self.0.get()
    }

    fn keep(&self, account: Account) {
        self.0.set(account);
    }
}

/// Evaluates a file's own statements outside of a run: on a coroutine too, so that nothing in them ends the process.
pub(in crate::script) fn load<T: 'static>(work: impl FnOnce() -> T + 'static) -> Result<T, Broken> {
    let account = Account { bytes: 0, most: (RUN_MEMORY_BYTES * STARVE_AT) as i64, ..Account::NOBODY };
    let loading = Rc::new(Loading(Cell::new(account)));
    let mut coroutine = std::pin::pin!(Coroutine::new(loading, COROUTINE_STACK_BYTES.max(4 * RUN_MEMORY_BYTES as usize), work)?);
    match coroutine.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        // No native waits outside of a run, so it has come to its end.
        Poll::Pending => Err(Broken::NoStack),
    }
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
        self.common.account.get()
    }

    fn keep(&self, account: Account) {
        self.common.account.set(account);
    }
}

impl Attempt {
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
        if self.demand_place().is_err() {
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
        if self.is_at_work_for_long(operations, now) && self.commit_records().is_err() {
            // What it has recorded waited no longer, and could not be stored.
            return true;
        }
        if let Some(inside) = self.inside() {
            if now >= inside.deadline {
                let _ = self.halt(Halt::Limit(Box::new(self.overdue(&inside))));
                return true;
            }
        } else if self.stop.is_draining() {
            let _ = self.halt(Halt::Stop(Outcome::Interrupted));
            return true;
        } else if now.since(self.own.borrow().began) > self.call.timeouts.step {
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

    /// Whether the script has been at work for so long since it recorded something that the record waits no longer.
    fn is_at_work_for_long(&self, operations: u64, now: Millis) -> bool {
        let since = self.own.borrow().holds_since;
        since.is_some_and(|since| operations >= u64::from(LOOK_EVERY) || now.since(since) >= SLICE)
    }

    /// Takes the script to a look soon, since something waits that should not do so for long.
    pub(super) fn look_soon(&self) {
        self.stride.set(LOOK_AFTER_STEP);
        FUEL.set(LOOK_AFTER_STEP);
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
    pub(in crate::script) fn overdue(&self, inside: &Inside) -> Failure {
        Failure {
            message: format!("the step took longer than {}", inside.timeout),
            code: "E0414".to_owned(),
            help: Some("raise timeouts.step in events.yaml, or give this step a `timeout`".to_owned()),
            ..Failure::default()
        }
    }
}
