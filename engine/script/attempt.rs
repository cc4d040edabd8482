//! The attempt: everything that one run of a script over its journal knows, and the only way to its store.
//!
//! Natives reach the attempt of the running coroutine by `current`. It looks records up, buffers and commits what is new,
//! and remembers why the script has to end: the halt decides how the attempt stopped, whatever error the script ends with.

mod branches;
mod journal;
mod limits;
mod posts;
mod values;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rhai::NativeCallContext;

use crate::base::alloc::{self, Account};
use crate::base::{Json, Millis, Span};
use crate::rules::row::{LogLevel, Place, Recorded};
use crate::rules::run::{Outcome, Stopped};
use crate::rules::trace::{self, TraceContext};
use crate::rules::{AttemptRow, Failure, Kind, LogRow, Retry, RunState, Write};
use crate::store::StoreError;

use super::coroutine;
use super::error::{Fault, Thrown, Verdict, terminated};
use super::{AtWork, Call, Ports, Program, Stop};

pub(super) use branches::{Body, Counts, Own, Running, Stage};
pub(super) use journal::{Found, Made};
pub(super) use limits::{load, on_progress};
pub(super) use posts::Opening;

use branches::{Branch, Common};
use journal::State;
use limits::Outer;
use values::Values;

/// Bytes of log lines between two commits.
const LOG_BYTES: usize = 1024 * 1024;
/// What each line counts at least, in bytes.
const LINE_LEAST_BYTES: usize = 64;

/// Why the script has to end. The first one counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Halt {
    /// The attempt has stopped like this.
    Stop(Outcome),
    /// The store failed.
    Store(StoreError),
    /// A limit was met: the attempt (of the step, or of the code between steps) fails.
    Limit(Box<Failure>),
    /// Of a branch: it makes room for another one that has no stack.
    Aside,
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
    /// How long it may take.
    pub(super) timeout: Span,
    /// When it has to have ended: later where it waited for the disk.
    pub(super) deadline: Millis,
    /// HTTP requests made so far.
    pub(super) requests: u32,
    /// HTTP requests made so far that somebody answered in the network's place.
    pub(super) calls: u32,
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
    pub(super) call: Rc<Call>,
    pub(super) ports: Arc<Ports>,
    pub(super) stop: Arc<Stop>,
    /// What the branches of the run share.
    common: Rc<Common>,
    own: RefCell<Own>,
    /// Which branch it is; none for the script itself.
    branch: Option<Branch>,
    inside: RefCell<Option<Inside>>,
    values: RefCell<Values>,
    halt: RefCell<Option<Halt>>,
    halted: Cell<bool>,
    /// What it has handed to the engine or the store is on its way: it is not ended before that is done.
    delivers: Cell<bool>,
    /// When what it has come by last did, as far as that is recorded: of a sleep its end, of a wait what ended it.
    came: Cell<Millis>,
    operations: Cell<u64>,
    /// Operations until the next look at the clock: fewer where they are slow.
    stride: Cell<u32>,
    looked: Cell<Millis>,
    resumed: Cell<Millis>,
    outer: RefCell<Option<Outer>>,
    me: std::rc::Weak<Attempt>,
}

type Parts = (Arc<Program>, Rc<Call>, Arc<Ports>, Arc<Stop>);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Attempt>>> = const { RefCell::new(None) };
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

impl Attempt {
    /// An attempt that has not begun.
    pub(super) fn new(program: Arc<Program>, call: Rc<Call>, ports: Arc<Ports>, stop: Arc<Stop>) -> Rc<Attempt> {
        let now = ports.clock.now();
        let most = call.surroundings.limits.memory_bytes.saturating_mul(limits::STARVE_AT).min(i64::MAX as u64) as i64;
        let account = Account { bytes: 0, most, ..Account::NOBODY };
        let common = Rc::new(Common::new(State::new(&call), call.waits.clone(), account));
        Attempt::with((program, call, ports, stop), common, Own { began: now, ..Own::default() }, None)
    }

    fn with((program, call, ports, stop): Parts, common: Rc<Common>, own: Own, branch: Option<Branch>) -> Rc<Attempt> {
        let now = own.began;
        let came = branch.as_ref().map_or(Millis(0), Branch::began);
        Rc::new_cyclic(|me| Attempt {
            program,
            call,
            ports,
            stop,
            common,
            own: RefCell::new(own),
            branch,
            inside: RefCell::new(None),
            values: RefCell::default(),
            halt: RefCell::new(None),
            halted: Cell::new(false),
            delivers: Cell::new(false),
            came: Cell::new(came),
            operations: Cell::new(0),
            stride: Cell::new(limits::LOOK_EVERY),
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
        self.common.state.borrow().attempt
    }

    /// What is known about the step whose closure runs.
    pub(super) fn inside(&self) -> Option<Inside> {
        self.inside.borrow().clone()
    }

    /// Whether a step's closure runs.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.borrow().is_some()
    }

    /// `file:line` of the call that a native was reached by.
    pub(super) fn line_of(&self, context: &NativeCallContext<'_>) -> Option<Arc<str>> {
        let line = context.call_position().line()?;
        // It goes to the store and outlives the script, so it is not the script's.
        Some(alloc::uncounted(|| self.program.line(context.call_source().unwrap_or_default(), line)))
    }

    /// Enters or leaves a step's closure.
    pub(super) fn set_inside(&self, inside: Option<Inside>) {
        self.operations.set(0);
        // Whoever asks from outside has it after the script is gone, so it is not the script's.
        let begins = inside.as_ref().map(|inside| AtWork { step: Arc::clone(&inside.key), attempt: inside.attempt, since: inside.began });
        let left = self.inside.replace(inside);
        alloc::uncounted(|| {
            if let Some(left) = left {
                self.stop.leaves(&left.key);
            }
            if let Some(begins) = begins {
                self.stop.begins(begins);
            }
        });
    }

    /// The number of the HTTP request that the running step is about to make, from 1.
    pub(super) fn next_request(&self) -> u32 {
        self.inside.borrow_mut().as_mut().map_or(1, |inside| {
            inside.requests += 1;
            inside.requests
        })
    }

    /// The number of the request, whatever its method, that the running step is about to make, from 1.
    pub(super) fn next_call(&self) -> u32 {
        self.inside.borrow_mut().as_mut().map_or(1, |inside| {
            inside.calls += 1;
            inside.calls
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
        limits::look_at_once();
        terminated()
    }

    /// Whether what it knows can still be changed: not where its coroutine was suspended for ever in the middle of that.
    pub(super) fn is_usable(&self) -> bool {
        self.common.state.try_borrow_mut().is_ok()
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
                limits::go_on();
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

    // ---- waiting ----

    /// Waits for a future that is no step's own work: a commit, a timer.
    pub(super) fn wait<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        if self.is_halted() {
            return Err(terminated());
        }
        if !self.delivers.get() {
            self.demand_place()?;
        }
        coroutine::wait(future).map_err(|_| self.ended())
    }

    /// Waits for what is handed to the engine or the store, which a branch that is left comes to the end of.
    pub(super) fn deliver_all<T>(&self, deliver: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.demand_place()?;
        let within = self.delivers.replace(true);
        let delivered = deliver();
        self.delivers.set(within);
        delivered
    }

    /// Waits for a step's work, until the step's deadline at most. Meanwhile the run is not among those at work.
    pub(super) fn wait_in_step<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        self.wait_until(future, self.deadline(), true)?.ok_or_else(|| self.late())
    }

    /// As `wait_in_step`, but not for longer than until `late`; then there is none.
    pub(super) fn wait_in_step_until<F: Future>(&self, future: F, late: Millis) -> Result<Option<F::Output>, Fault> {
        let until = self.deadline().map_or(late, |deadline| deadline.min(late));
        match self.wait_until(future, Some(until), true)? {
            None if until < late => Err(self.late()),
            ready => Ok(ready),
        }
    }

    /// As `wait_in_step`, for what comes soon: the run stays among those at work.
    pub(super) fn wait_at_work<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        self.wait_until(future, self.deadline(), false)?.ok_or_else(|| self.late())
    }

    /// Until when the running step may take.
    fn deadline(&self) -> Option<Millis> {
        self.inside.borrow().as_ref().map(|inside| inside.deadline)
    }

    /// The running step's deadline is over.
    fn late(&self) -> Fault {
        match self.inside() {
            Some(inside) => self.halt(Halt::Limit(Box::new(self.overdue(&inside)))),
            None => terminated(),
        }
    }

    /// Waits for something, or until then; then there is none.
    fn wait_until<F: Future>(&self, future: F, until: Option<Millis>, may_rest: bool) -> Result<Option<F::Output>, Fault> {
        let Some(until) = until else { return self.wait(future).map(Some) };
        let timer = self.ports.clock.sleep_until(until, false);
        let both = async {
            tokio::select! {
                biased;
                value = future => Some(value),
                () = timer => None,
            }
        };
        let mut both = std::pin::pin!(both);
        let rests = Cell::new(false);
        let ready = std::future::poll_fn(|context| {
            let polled = both.as_mut().poll(context);
            // A run that has branches may be busy in another one.
            if may_rest && polled.is_pending() && !self.is_branch() && !rests.replace(true) {
                self.ports.desk.rest();
            }
            polled
        });
        let ready = self.wait(ready);
        if rests.get() {
            self.ports.desk.resume();
        }
        ready
    }

    /// Adds a line to the run's log; silent while the script goes over what it has recorded before.
    ///
    /// The lines of one commit are bounded: a flood of them is cut off, and says so. The engine's notes of calls have a bound of
    /// their own, so that neither takes the room of the other.
    pub(super) fn log(&self, level: LogLevel, message: &str, data: Option<&str>) {
        if self.is_replaying() || self.is_halted() {
            return;
        }
        let mut own = self.own.borrow_mut();
        let is_call = level == LogLevel::Call;
        let taken = if is_call { &mut own.call_bytes } else { &mut own.log_bytes };
        let before = *taken;
        *taken = before + LINE_LEAST_BYTES + message.len() + data.map_or(0, str::len);
        let (level, message, data) = match *taken {
            bytes if bytes <= LOG_BYTES => (level, message, data),
            _ if before > LOG_BYTES => return,
            _ if is_call => (level, "more calls follow here than a log takes between two records; they are left out", None),
            _ => (LogLevel::Warn, "more lines follow here than a log takes between two records; they are left out", None),
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
        alloc::uncounted(|| {
            self.ports.watch.logged(&self.call.run, &line);
            own.pending.push(Write::Log { run: self.call.run.id, line });
        });
    }

    /// The trace context that what the step or record with this key causes belongs to.
    pub(super) fn onward(&self, key: &str) -> Option<TraceContext> {
        trace::onward(&self.call.run, self.call.event.extra.as_deref(), key, self.ports.watch.exports_traces())
    }

    /// Hides every known secret in a failure.
    pub(super) fn hide(&self, mut failure: Failure) -> Failure {
        let secrets = &self.call.surroundings.secrets;
        failure.message = secrets.hide(&failure.message).into_owned();
        failure.data = failure.data.map(|data| secrets.hidden(data));
        failure
    }

    /// Hides every known secret in what an error came to.
    pub(super) fn hidden(&self, mut verdict: Verdict) -> Verdict {
        verdict.failure = self.hide(verdict.failure);
        verdict
    }

    /// How the attempt stopped, with all that is still to be stored. What a coroutine that is suspended for ever holds
    /// cannot be taken; then only the outcome counts, and what was to be stored before.
    pub(super) fn stopped(&self, outcome: Outcome) -> Stopped {
        let waited = self.common.waited.get();
        let own = self.take_own();
        let holds_record = own.holds_record();
        let pending = if outcome == Outcome::Lost { Vec::new() } else { own.pending };
        match self.common.state.try_borrow_mut() {
            Ok(state) => {
                // Branches may leave gaps in the numbers of the records.
                let recorded = state.next_index > State::first_index(&self.call.journal.records);
                Stopped { outcome, pending, attempt: state.attempt, began: own.began, recorded, waited }
            }
            Err(_) => {
                let recorded = holds_record;
                let attempt = if recorded { 1 } else { self.call.run.attempt };
                Stopped { outcome, pending, attempt, began: self.resumed.get(), recorded, waited }
            }
        }
    }

    /// Comes by something that was there at this time.
    pub(super) fn passes(&self, at: Millis) {
        self.came.set(self.came.get().max(at));
    }

    /// When what it has come by last did.
    pub(super) fn came(&self) -> Millis {
        self.came.get()
    }

    /// Suspends the run, or a branch of it; a branch has to have stored what it has come to, since others may be at work for
    /// long, and it goes on beside them when its time has come.
    pub(super) fn suspend(&self, state: RunState, wake: Millis, error: Option<Arc<Failure>>) -> Fault {
        if self.is_branch()
            && let Err(fault) = self.commit()
        {
            return fault;
        }
        self.halt(Halt::Stop(Outcome::Suspended { state, wake: Some(wake), error }))
    }
}

/// The place of the call that a native was reached by.
pub(super) fn place_of(context: &NativeCallContext<'_>) -> Vec<Place> {
    let position = context.call_position();
    let Some(line) = position.line() else { return Vec::new() };
    let column = position.position().unwrap_or(0) as u32;
    vec![Place { file: context.call_source().unwrap_or_default().to_owned(), line: line as u32, column, within: None }]
}
