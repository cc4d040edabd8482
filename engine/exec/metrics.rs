//! What the engine counts of its own work, for whoever looks on.
//!
//! Each worker counts the runs of a function in numbers of its own, which only it adds to, so that a step costs two additions
//! and no lock; whoever looks adds them up. What stands in the queue is not counted along but looked up when somebody asks,
//! as often as the scheduler can bear.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::base::{Histogram, Millis, Reading, Span};
use crate::rules::queue::Slots;
use crate::rules::row::Recorded;
use crate::rules::{AttemptRow, Kind, LogRow, Record, RunRow, RunState};
use crate::script::{Published, Watch};
use crate::store;

use super::notice::Broadcast;
use super::rested::Rested;
use super::scheduler::Message;
use super::traces::Traces;
use super::{Counts, Engine, lines};

/// Bounds of times, in milliseconds: of a step, of a run, and of the wait for a start.
const TIMES_MS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000];

/// What the runs of one function have come to, and where those stand that have not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionFigures {
    /// Runs that have not ended, by the number of their state; suspended ones whose time has come count as queued, and those that a
    /// pause keeps from beginning as paused.
    pub runs: [u64; RunState::ALL.len()],
    /// Runs that stand in line.
    pub in_line: u64,
    /// How long the oldest of those in line that have not begun has been there; none where there is none.
    pub oldest: Option<Span>,
    /// Runs that have ended since the engine started: completed, failed, cancelled.
    pub ended: [u64; 3],
    /// Attempts, of steps and of the code between them, that have failed.
    pub failed_attempts: u64,
    /// Those of them after which another one follows.
    pub retries: u64,
    /// From the first attempt of a step to its record, in milliseconds.
    pub step_ms: Reading,
    /// From the first start of a run to its end, in milliseconds.
    pub run_ms: Reading,
    /// From when a run entered the queue to its first start, in milliseconds.
    pub delay_ms: Reading,
}

impl Default for FunctionFigures {
    fn default() -> FunctionFigures {
        let times = || Reading::empty(TIMES_MS);
        FunctionFigures {
            runs: [0; RunState::ALL.len()],
            in_line: 0,
            oldest: None,
            ended: [0; 3],
            failed_attempts: 0,
            retries: 0,
            step_ms: times(),
            run_ms: times(),
            delay_ms: times(),
        }
    }
}

/// What the engine has counted since it started, and what it looks like now.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Events that were accepted.
    pub accepted: u64,
    /// Events that had been accepted before: they started nothing.
    pub repeated: u64,
    /// How many runs do what.
    pub counts: Counts,
    /// By function; also those that are declared no longer and had runs since the start.
    pub functions: BTreeMap<Arc<str>, FunctionFigures>,
    /// The slots of each limit that has runs in line or at work, by `FUNCTION#N` or `shared NAME`.
    pub slots: BTreeMap<Arc<str>, Slots>,
    /// What the store's commits came to.
    pub store: store::Figures,
    /// Spans that a collector of traces has taken.
    pub spans_exported: u64,
    /// Runs whose traces were dropped: the queue was full, or the collector took none.
    pub traces_dropped: u64,
}

/// Where the unfinished runs stand, as the scheduler sees them.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) functions: BTreeMap<Arc<str>, Standing>,
    pub(super) slots: BTreeMap<Arc<str>, Slots>,
}

/// The unfinished runs of one function.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Standing {
    pub(super) runs: [u64; RunState::ALL.len()],
    pub(super) in_line: u64,
    /// When the oldest one in line that has not begun came there.
    pub(super) oldest: Option<Millis>,
}

/// What is counted of the runs of one function, on one thread.
#[derive(Debug)]
pub(super) struct Meter {
    ended: [AtomicU64; 3],
    failed_attempts: AtomicU64,
    retries: AtomicU64,
    step_ms: Histogram,
    run_ms: Histogram,
    delay_ms: Histogram,
}

impl Default for Meter {
    fn default() -> Meter {
        let times = || Histogram::new(TIMES_MS);
        Meter {
            ended: Default::default(),
            failed_attempts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            step_ms: times(),
            run_ms: times(),
            delay_ms: times(),
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A length of time as it is counted.
fn ms(span: Span) -> u64 {
    u64::try_from(span.0).unwrap_or(0)
}

impl Meter {
    /// A run has ended. `began` is its first start, if it had one.
    pub(super) fn ended(&self, state: RunState, began: Option<Millis>, at: Millis) {
        let which = match state {
            RunState::Completed => 0,
            RunState::Failed => 1,
            _ => 2,
        };
        add(&self.ended[which]);
        if let Some(began) = began {
            self.run_ms.add(ms(at.since(began)));
        }
    }

    /// A run has started for the first time.
    pub(super) fn started(&self, delay: Span) {
        self.delay_ms.add(ms(delay));
    }

    fn attempt_failed(&self, attempt: &AttemptRow) {
        add(&self.failed_attempts);
        if attempt.next.is_some() {
            add(&self.retries);
        }
    }

    fn recorded(&self, record: &Record) {
        if record.kind == Kind::Step && !matches!(record.result, Recorded::Until(_)) {
            self.step_ms.add(ms(record.ended.since(record.started)));
        }
    }

    fn add_to(&self, sum: &mut FunctionFigures) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        sum.ended.iter_mut().zip(&self.ended).for_each(|(sum, mine)| *sum += load(mine));
        sum.failed_attempts += load(&self.failed_attempts);
        sum.retries += load(&self.retries);
        sum.step_ms.merge(&self.step_ms.read());
        sum.run_ms.merge(&self.run_ms.read());
        sum.delay_ms.merge(&self.delay_ms.read());
    }
}

/// All that is counted.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) accepted: AtomicU64,
    pub(super) repeated: AtomicU64,
    /// One for each function on each thread, and one for each function beside the threads.
    meters: Mutex<Vec<(Arc<str>, Arc<Meter>)>>,
    /// Those beside the threads.
    beside: Mutex<BTreeMap<Arc<str>, Arc<Meter>>>,
    /// Where the runs stood.
    census: Rested<Census>,
}

impl Metrics {
    /// A meter of the caller's own for the runs of a function.
    pub(super) fn meter(&self, function: &Arc<str>) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).push((Arc::clone(function), Arc::clone(&meter)));
        meter
    }

    /// A run was cancelled, wherever that was decided.
    pub(super) fn cancelled(&self, function: &Arc<str>, began: Option<Millis>, at: Millis) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = match beside.get(function) {
            Some(meter) => Arc::clone(meter),
            None => Arc::clone(beside.entry(Arc::clone(function)).or_insert_with(|| self.meter(function))),
        };
        drop(beside);
        meter.ended(RunState::Cancelled, began, at);
    }

    fn functions(&self) -> BTreeMap<Arc<str>, FunctionFigures> {
        let mut functions: BTreeMap<Arc<str>, FunctionFigures> = BTreeMap::new();
        for (function, meter) in &*self.meters.lock().unwrap_or_else(PoisonError::into_inner) {
            meter.add_to(functions.entry(Arc::clone(function)).or_default());
        }
        functions
    }
}

impl Engine {
    /// Where the runs stand, or stood a moment ago. The scheduler looks at every unfinished run for it and starts none meanwhile, so
    /// it is not asked all the time.
    async fn census(&self) -> Arc<Census> {
        let inner = &self.inner;
        let asking = async {
            let (reply, answer) = oneshot::channel();
            inner.tell(Message::Census(reply));
            // A scheduler that has stopped answers nothing: then no run stands anywhere.
            Ok::<_, Infallible>(answer.await.unwrap_or_default())
        };
        let Ok(census) = inner.metrics.census.get(|| inner.clock.now(), asking).await;
        census
    }

    /// What the engine has counted, and where its runs stand, or stood a moment ago.
    pub async fn figures(&self) -> Figures {
        let inner = &self.inner;
        let census = self.census().await;
        let now = inner.clock.now();
        let mut functions = inner.metrics.functions();
        for function in &inner.project().functions {
            functions.entry(Arc::clone(&function.id)).or_default();
        }
        for (function, standing) in &census.functions {
            let figures = functions.entry(Arc::clone(function)).or_default();
            figures.runs = standing.runs;
            figures.in_line = standing.in_line;
            figures.oldest = standing.oldest.map(|since| now.since(since));
        }
        let (spans_exported, traces_dropped) = inner.traces.as_ref().map(Traces::counts).unwrap_or_default();
        Figures {
            spans_exported,
            traces_dropped,
            accepted: inner.metrics.accepted.load(Ordering::Relaxed),
            repeated: inner.metrics.repeated.load(Ordering::Relaxed),
            counts: self.counts(),
            functions,
            slots: census.slots.clone(),
            store: inner.store.figures(),
        }
    }
}

/// What the runs of one function report on one thread: it is counted, logged, and passed on to whoever listens.
pub(super) struct Metered {
    pub(super) meter: Arc<Meter>,
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) exports_traces: bool,
}

impl Watch for Metered {
    fn step_begun(&self, run: &RunRow, key: &str, attempt: u32, at: Millis) {
        self.broadcast.step_begun(run, key, attempt, at);
    }

    fn recorded(&self, run: &RunRow, record: &Record) {
        self.meter.recorded(record);
        self.broadcast.recorded(run, record);
    }

    fn attempt_failed(&self, run: &RunRow, attempt: &AttemptRow) {
        self.meter.attempt_failed(attempt);
        lines::attempt_failed(run, attempt);
        self.broadcast.attempt_failed(run, attempt);
    }

    fn logged(&self, run: &RunRow, line: &LogRow) {
        lines::logged(run, line);
        self.broadcast.logged(run, line);
    }

    fn published(&self, message: &Arc<Published>) {
        self.broadcast.published(message);
    }

    fn exports_traces(&self) -> bool {
        self.exports_traces
    }
}
