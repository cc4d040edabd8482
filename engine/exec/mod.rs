//! The engine at work: accepts events, decides who runs next, runs handlers on executor threads, wakes them again.
//!
//! Everything that changes goes decide, commit, act: a rule gives a list, the store commits it, and only then is
//! anything done. HTTP, YAML and SQL are not known here.

mod appointment;
mod awaiting;
mod channels;
mod condition;
mod crons;
pub mod doctor;
mod ending;
mod fit;
mod flow;
mod gates;
mod gather;
mod ingest;
mod invoke;
mod left;
mod lines;
mod logged;
mod metrics;
mod migrate;
mod notice;
mod pause;
mod plan;
mod post;
mod recovery;
mod refused;
mod relay;
mod reload;
mod replay;
mod rested;
mod scheduler;
mod traces;
mod upkeep;
mod wait_index;
mod waits;
mod why;
mod worker;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use crate::base::{Clock, Entropy, IdMaker, Millis, RunId, Span};
use crate::project::{Fixed, Project};
use crate::rules::{List, RunRow, RunState, SourceRow, Write};
pub use crate::script::{AtWork, Published};
use crate::script::{Host, Program};
use crate::store::{Lane, Store, StoreError, Ticket, Verdict};

pub use appointment::Busy;
pub use channels::{Heard, Listener};
pub use condition::Condition;
pub use fit::check;
pub use flow::{Flow, LimitKey, OpenWindow, RateKey, SingletonKey, ThrottleKey};
pub use ingest::{AcceptError, NewEvent, Refusal};
pub use invoke::InvokeError;
pub use logged::{LOGGED_KEPT, Logged};
pub use metrics::{Figures, FunctionFigures};
pub use migrate::{MigrateError, Migrated};
pub use notice::Notice;
pub use pause::PauseError;
pub use plan::{Affected, Plan};
pub use refused::{Fault, REFUSED_KEPT, Refused, RefusedEvent};
pub use reload::{InForce, LoadedBy, ReloadError, Reloaded, on_older};
pub use replay::{ReplayError, Replayed, RetryError};
pub use rested::Rested;
use scheduler::{Message, Scheduler};
pub use traces::Export;
pub use wait_index::pinned;
use worker::Worker;

/// How many notices a slow subscriber may lag behind before it misses some.
const NOTICES_KEPT: usize = 4_096;
/// Compiled old versions of handlers that are kept in memory.
const OLD_PROGRAMS_KEPT: usize = 256;
/// How long a commit that found the disk full waits before it is tried again.
const FULL_DISK_WAIT: Span = Span::seconds(1);

/// What an engine is made of.
pub struct Setup {
    /// The snapshot in force.
    pub project: Arc<Project>,
    /// The script host that compiled it.
    pub host: Arc<Host>,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Executor threads; at least one is used.
    pub threads: usize,
}

/// A running engine; clones are handles to the same one.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// What the parts of an engine share.
pub(crate) struct Inner {
    project: RwLock<Arc<Project>>,
    /// What a reload does not change.
    fixed: Fixed,
    reloads: reload::Reloads,
    refused: Mutex<refused::Ring>,
    host: Arc<Host>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    watch: Arc<notice::Broadcast>,
    metrics: metrics::Metrics,
    traces: Option<traces::Traces>,
    intake: gather::Intake,
    resting: AtomicUsize,
    /// What is under way beside the scheduler's turns, which time must not jump over.
    errands: AtomicUsize,
    waits: RwLock<wait_index::Index>,
    gates: Mutex<gates::Gates>,
    /// A decision on gates has come to something. No `watch` where several wait: that wakes them in a random order, and then a seed of
    /// the simulation would not be the same each time.
    gates_moved: Notify,
    decisions: AtomicU64,
    /// What each run is cancelled by.
    listening: RwLock<wait_index::Index>,
    pauses: RwLock<pause::Pauses>,
    /// The keys of scripts' values that steps are about to change.
    keys: Arc<crate::script::Keys>,
    ids: IdMaker,
    messages: mpsc::UnboundedSender<Message>,
    notices: broadcast::Sender<Notice>,
    draining: AtomicBool,
    ready: watch::Sender<bool>,
    /// It has become ready, or its store has failed.
    readied: Notify,
    fault: watch::Sender<Option<StoreError>>,
    queued: AtomicUsize,
    executing: AtomicUsize,
    known: AtomicUsize,
    disk_full: AtomicBool,
    old_programs: Mutex<HashMap<Arc<str>, Arc<Program>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Runs by what they do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// In line.
    pub queued: usize,
    /// With a worker.
    pub executing: usize,
    /// Neither: they sleep, wait or back off.
    pub suspended: usize,
}

/// Whether the engine is well, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Nothing is wrong.
    pub ok: bool,
    /// What is, a sentence each.
    pub reasons: Vec<String>,
}

/// Why a run was not cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is no such run.
    #[error("there is no such run")]
    NotFound,
    /// It has ended before.
    #[error("the run has ended: it is {}", .0.word())]
    Ended(RunState),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An engine whose parts have not been started: the simulation runs them all on one thread.
pub struct Assembled {
    /// The handle.
    pub engine: Engine,
    /// Decides who runs next.
    pub scheduler: std::pin::Pin<Box<dyn Future<Output = ()>>>,
    /// Runs handlers.
    pub workers: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>>,
    /// Deletes what is old, and looks for faults of the store.
    pub upkeep: std::pin::Pin<Box<dyn Future<Output = ()>>>,
}

impl Engine {
    /// Recovers what the store holds and starts the engine's threads.
    ///
    /// # Errors
    /// `StoreError` where the store cannot be read; `Io` where a thread cannot be started.
    pub fn start(setup: Setup) -> Result<Engine, StoreError> {
        Engine::start_with(setup, None)
    }

    /// The same, with the runs that end told to a collector of traces.
    ///
    /// # Errors
    /// As `start`; `Io` also where there can be no client for the collector.
    pub fn start_with(setup: Setup, export: Option<Export>) -> Result<Engine, StoreError> {
        let count = setup.threads.max(1);
        let (traces, exporter) = export.map(traces::Traces::new).transpose().map_err(StoreError::Io)?.unzip();
        let (engine, scheduler, workers) = Engine::parts(setup, count, traces)?;
        let mut threads = Vec::new();
        if let Some(exporter) = exporter {
            let inner = Arc::clone(&engine.inner);
            threads.push(local_thread("traces", move || exporter.run(inner))?);
        }
        for (number, worker) in workers.into_iter().enumerate() {
            threads.push(local_thread(&format!("executor-{number}"), move || worker.run())?);
        }
        threads.push(local_thread("scheduler", move || scheduler.run())?);
        let inner = Arc::clone(&engine.inner);
        threads.push(local_thread("upkeep", move || upkeep::run(inner))?);
        *engine.inner.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(engine)
    }

    /// The engine's parts as futures that never leave one thread.
    ///
    /// # Errors
    /// As `start`.
    pub fn assemble(setup: Setup) -> Result<Assembled, StoreError> {
        let count = setup.threads.max(1);
        let (engine, scheduler, workers) = Engine::parts(setup, count, None)?;
        let workers = workers.into_iter().map(|worker| Box::pin(worker.run()) as _).collect();
        let upkeep = Box::pin(upkeep::run(Arc::clone(&engine.inner)));
        Ok(Assembled { engine, scheduler: Box::pin(scheduler.run()), workers, upkeep })
    }

    fn parts(setup: Setup, count: usize, traces: Option<traces::Traces>) -> Result<(Engine, Scheduler, Vec<Worker>), StoreError> {
        let stats = setup.store.stats()?;
        let (messages, inbox) = mpsc::unbounded_channel();
        let (notices, _) = broadcast::channel(NOTICES_KEPT);
        let watch = Arc::new(notice::Broadcast::new(notices.clone()));
        let (gates, buckets) = gates::load(&*setup.store, setup.clock.now())?;
        let inner = Arc::new(Inner {
            waits: RwLock::default(),
            gates: Mutex::new(gates),
            gates_moved: Notify::new(),
            decisions: AtomicU64::new(0),
            listening: RwLock::default(),
            keys: Arc::default(),
            pauses: RwLock::new(pause::Pauses::of(setup.store.pauses()?)),
            fixed: Fixed::of(&setup.project),
            reloads: reload::Reloads::from(setup.clock.now()),
            refused: Mutex::default(),
            project: RwLock::new(setup.project),
            host: setup.host,
            store: setup.store,
            clock: setup.clock,
            entropy: setup.entropy,
            watch,
            metrics: metrics::Metrics::default(),
            traces,
            intake: gather::Intake::default(),
            resting: AtomicUsize::new(0),
            errands: AtomicUsize::new(0),
            ids: IdMaker::above(stats.largest_id),
            messages,
            notices,
            draining: AtomicBool::new(false),
            ready: watch::Sender::new(false),
            readied: Notify::new(),
            fault: watch::Sender::new(None),
            queued: AtomicUsize::new(0),
            executing: AtomicUsize::new(0),
            known: AtomicUsize::new(0),
            disk_full: AtomicBool::new(false),
            old_programs: Mutex::new(HashMap::new()),
            threads: Mutex::new(Vec::new()),
        });
        inner.listen_again()?;
        let mut workers = Vec::new();
        let mut desks = Vec::new();
        for _ in 0..count {
            let (desk, assignments) = mpsc::unbounded_channel();
            desks.push(desk);
            workers.push(Worker::new(Arc::clone(&inner), assignments));
        }
        let mut scheduler = Scheduler::new(Arc::clone(&inner), inbox, desks, stats.end, &buckets);
        scheduler.take_up_all(usize::try_from(stats.unfinished).unwrap_or(0), stats.largest_id)?;
        Ok((Engine { inner }, scheduler, workers))
    }

    /// The snapshot in force.
    pub fn project(&self) -> Arc<Project> {
        self.inner.project()
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Live notices of runs, steps and log lines; a slow receiver misses some and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices.subscribe()
    }

    /// Ends a run from outside, whatever state it is in. Answers the run as it is afterwards.
    ///
    /// # Errors
    /// `NotFound`, `Ended`, or the store's error.
    pub async fn cancel(&self, run: RunId, reason: &str) -> Result<RunRow, CancelError> {
        self.inner.cancel(run, reason).await
    }

    /// Ends many runs from outside, in as few commits as that takes, each as `cancel` does and whatever becomes of the others. Gives what
    /// became of each, in their order.
    ///
    /// # Errors
    /// The store's error: some of the runs may be cancelled then.
    pub async fn cancel_many(&self, runs: &[RunId], reason: &str) -> Result<Vec<Result<(), CancelError>>, StoreError> {
        self.inner.cancel_many(runs, reason).await
    }

    /// Whether the engine is well.
    pub fn health(&self) -> Health {
        let mut reasons = Vec::new();
        if let Some(error) = self.inner.fault.borrow().as_ref() {
            reasons.push(format!("stopped: {error}"));
        }
        if self.inner.disk_full.load(Ordering::Relaxed) {
            reasons.push("the disk is full: events are refused and checkpoints wait until there is room".to_owned());
        }
        if self.is_draining() {
            reasons.push("draining: no new events are accepted".to_owned());
        }
        reasons.extend(self.inner.reloads.reason());
        Health { ok: reasons.is_empty(), reasons }
    }

    /// Whether it has taken up what the store held and accepts events.
    pub fn is_ready(&self) -> bool {
        *self.inner.ready.borrow() && !self.is_draining() && self.inner.fault.borrow().is_none()
    }

    /// Is done once the engine has taken up what the store held (or has failed at it).
    pub async fn until_ready(&self) {
        loop {
            let readied = self.inner.readied.notified();
            if *self.inner.ready.borrow() || self.inner.fault.borrow().is_some() {
                return;
            }
            readied.await;
        }
    }

    /// Is done when the store has failed for good, with its error: the process must end (exit 74).
    pub async fn until_fault(&self) -> StoreError {
        let mut fault = self.inner.fault.subscribe();
        match fault.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(StoreError::Closed),
            Err(_) => StoreError::Closed,
        }
    }

    /// Whether new events are refused because the engine is about to stop.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }

    /// How many runs do what.
    pub fn counts(&self) -> Counts {
        let (queued, executing) = (self.inner.queued.load(Ordering::Relaxed), self.inner.executing.load(Ordering::Relaxed));
        let known = self.inner.known.load(Ordering::Relaxed);
        Counts { queued, executing, suspended: known.saturating_sub(queued + executing) }
    }

    /// Refuses new events, lets each running script come to its next step's end, and stops the engine's threads.
    /// Runs that have not ended are taken up at the next start. The caller bounds the time.
    pub async fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
        let (reply, done) = oneshot::channel();
        self.inner.tell(Message::Drain(reply));
        // The sender is dropped where the scheduler has gone already, and then there is nothing to wait for.
        let _ = done.await;
    }
}

/// What became of a commit.
enum Settled {
    /// It is durable, where its verdicts say so.
    Done(Vec<Verdict>),
    /// There was no room; it may be tried again now.
    Again,
    /// The store failed for good, which is noted.
    Failed,
}

impl Inner {
    fn project(&self) -> Arc<Project> {
        Arc::clone(&self.project.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends to the scheduler; one that has stopped needs no messages.
    fn tell(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    /// Runs wait in a step for something outside (`more` of them), or go on (less than none).
    fn rested(&self, more: isize) {
        self.resting.fetch_add(more as usize, Ordering::Relaxed);
    }

    /// Notes that the store failed for good; the first error is kept.
    fn fail(&self, error: StoreError) {
        let is_first = self.fault.send_if_modified(|fault| {
            let first = fault.is_none();
            if first {
                tracing::error!(%error, "the store failed; the engine stops");
                *fault = Some(error);
            }
            first
        });
        if is_first {
            self.readied.notify_waiters();
        }
    }

    /// Waits as long as a full disk is given until it is tried again.
    async fn wait_for_room(&self) {
        self.disk_full.store(true, Ordering::Relaxed);
        self.clock.sleep_until(self.clock.now().after(FULL_DISK_WAIT), false).await;
    }

    /// Commits lists of running runs; waits while the disk is full. None where the store failed for good.
    async fn commit(&self, mut lists: Vec<List>) -> Option<Vec<Verdict>> {
        loop {
            let ticket = self.store.commit(Lane::Steps, lists.clone());
            match self.settled(ticket).await {
                Settled::Done(verdicts) => return Some(verdicts),
                Settled::Again => lists = lists.into_iter().map(List::again).collect(),
                Settled::Failed => return None,
            }
        }
    }

    /// What became of a commit for which nobody tries again. A store that has failed for good is noted: nobody else may be about to commit,
    /// and find out.
    async fn outcome(&self, ticket: Ticket) -> Result<Vec<Verdict>, StoreError> {
        let outcome = ticket.await;
        if let Err(error) = &outcome
            && *error != StoreError::Full
        {
            self.fail(error.clone());
        }
        outcome
    }

    /// What somebody wants done could not be read: a disk that has failed is noted, as by `outcome`. A row that is damaged is not: the others
    /// are as they were.
    fn meets(&self, error: &StoreError) {
        if matches!(error, StoreError::Io(_)) {
            self.fail(error.clone());
        }
    }

    /// Waits for a commit; where the disk is full, until it is time to try again.
    async fn settled(&self, ticket: Ticket) -> Settled {
        match ticket.await {
            Ok(verdicts) => {
                // All threads come by here with each commit, and what is written is taken from the others.
                if self.disk_full.load(Ordering::Relaxed) {
                    self.disk_full.store(false, Ordering::Relaxed);
                }
                Settled::Done(verdicts)
            }
            Err(StoreError::Full) => {
                self.wait_for_room().await;
                Settled::Again
            }
            Err(error) => {
                self.fail(error);
                Settled::Failed
            }
        }
    }

    fn notify_run(&self, run: RunId, function: &Arc<str>, state: RunState, at: Millis) {
        if state.is_terminal()
            && let Some(traces) = &self.traces
        {
            traces.ended(run);
        }
        if self.notices.receiver_count() > 0 {
            // No receiver is a matter of course: then nobody is watching.
            let _ = self.notices.send(Notice::Run { run, function: Arc::clone(function), state, at });
        }
    }

    /// The compiled form of a stored version of a handler.
    fn old_program(&self, hash: &Arc<str>) -> Result<Option<Arc<Program>>, StoreError> {
        let mut programs = self.old_programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(hash) {
            return Ok(Some(Arc::clone(program)));
        }
        let Some(source) = self.store.source(hash)? else { return Ok(None) };
        let Ok(program) = self.host.compile_stored(&source) else { return Ok(None) };
        let program = Arc::new(program);
        if programs.len() >= OLD_PROGRAMS_KEPT {
            // After many reloads; those that are needed still come back.
            programs.clear();
        }
        programs.insert(Arc::clone(hash), Arc::clone(&program));
        Ok(Some(program))
    }

    /// Lists that store the sources of every handler of a snapshot.
    fn source_lists(project: &Project) -> Vec<List> {
        let put = |source: &SourceRow| List { expect: Vec::new(), writes: vec![Write::PutSource(source.clone())] };
        project.programs().map(|program| put(program.source())).collect()
    }
}

/// A thread with a runtime of its own, on which the future made there runs to its end with the local tasks it spawns.
fn local_thread<F, T>(name: &str, make: F) -> Result<JoinHandle<()>, StoreError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| StoreError::Io(error.to_string()))?;
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || tokio::task::LocalSet::new().block_on(&runtime, make()))
        .map_err(|error| StoreError::Io(error.to_string()))
}
