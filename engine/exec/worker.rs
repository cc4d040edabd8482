//! Runs handlers on one thread: many at once, each until it ends or has to wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::base::id::IdMap;
use crate::base::{Millis, RunId};
use crate::config::Versions;
use crate::project::Function;
use crate::rules::ended::{self, Started};
use crate::rules::family::{self, INVOKED};
use crate::rules::run::{self, Outcome, Stopped, Transition};
use crate::rules::trace::TraceContext;
use crate::rules::{Conflict, List, RunRow, WaitRow, WindowRow, Write};
use crate::script::{self, Call, Desk, Ports, Program, Stop, Watch};
use crate::store::{Journal, Lane, Loaded, StoreError, Ticket, Verdict};

use super::fit;
use super::gather::Outbox;
use super::metrics::{Meter, Metered};
use super::post::Clerk;
use super::scheduler::{Created, Standing};
use super::{Inner, Settled, lines};

/// Runs that this worker is to execute, as soon as their starts are durable.
pub(super) struct Batch {
    pub(super) assigns: Vec<Assign>,
    /// One verdict a run.
    pub(super) ticket: Ticket,
}

/// A run that is started.
pub(super) struct Assign {
    pub(super) run: RunId,
    /// The revision that it has to have before its start.
    pub(super) rev: u32,
    /// When it starts.
    pub(super) at: Millis,
    pub(super) function: Arc<Function>,
    /// How the bucket of its throttle stands after its start.
    pub(super) given: Option<WindowRow>,
    /// The run and its event, where they are still in memory, which means that it has no journal yet.
    pub(super) made: Option<Box<Created>>,
    pub(super) stop: Arc<Stop>,
}

impl Assign {
    /// The list that starts it.
    pub(super) fn start(&self) -> List {
        let mut list = run::start(self.run, self.rev, self.at, self.function.program.hash());
        list.writes.extend(self.given.clone().map(Write::PutWindow));
        list
    }
}

/// See the module's head.
pub(super) struct Worker {
    inner: Arc<Inner>,
    desk: mpsc::UnboundedReceiver<Batch>,
}

impl Worker {
    pub(super) fn new(inner: Arc<Inner>, desk: mpsc::UnboundedReceiver<Batch>) -> Worker {
        Worker { inner, desk }
    }

    /// Runs what it is given until the scheduler is gone.
    pub(super) async fn run(mut self) {
        let outbox = Outbox::new(Arc::clone(&self.inner));
        tokio::task::spawn_local(Arc::clone(&outbox).run());
        let ports = Ports {
            desk: Arc::clone(&outbox) as Arc<dyn Desk>,
            clock: Arc::clone(&self.inner.clock),
            entropy: Arc::clone(&self.inner.entropy),
            watch: Arc::clone(&self.inner.watch) as Arc<dyn Watch>,
            post: Arc::new(Clerk { inner: Arc::clone(&self.inner) }),
        };
        let table = Rc::new(Table { inner: self.inner, outbox, ports, sides: RefCell::default() });
        while let Some(batch) = self.desk.recv().await {
            tokio::task::spawn_local(Rc::clone(&table).begin(batch));
        }
    }
}

/// What the runs of a worker share.
struct Table {
    inner: Arc<Inner>,
    outbox: Arc<Outbox>,
    ports: Ports,
    /// What the runs of one function share here, by the function's id.
    sides: RefCell<HashMap<Arc<str>, Rc<Side>>>,
}

/// What the runs of one function act through on one thread, and what they are counted in.
struct Side {
    ports: Arc<Ports>,
    meter: Arc<Meter>,
}

impl Table {
    /// The side of a function, made when its first run comes.
    fn side(&self, function: &Arc<str>) -> Rc<Side> {
        if let Some(side) = self.sides.borrow().get(function) {
            return Rc::clone(side);
        }
        let meter = self.inner.metrics.meter(function);
        let exports_traces = self.inner.traces.is_some();
        let watch = Arc::new(Metered { meter: Arc::clone(&meter), broadcast: Arc::clone(&self.inner.watch), exports_traces });
        let side = Rc::new(Side { ports: Arc::new(Ports { watch, ..self.ports.clone() }), meter });
        self.sides.borrow_mut().insert(Arc::clone(function), Rc::clone(&side));
        side
    }

    /// Waits for the starts to be durable, by which a run is known that brings the engine down; then runs the scripts.
    async fn begin(self: Rc<Self>, Batch { assigns, ticket }: Batch) {
        let Some(verdicts) = self.started(&assigns, ticket).await else { return };
        let mut running = Vec::with_capacity(assigns.len());
        for (assign, verdict) in assigns.into_iter().zip(verdicts) {
            match verdict {
                Ok(()) => running.push(assign),
                // Somebody else moved it on before.
                Err(_) => self.outbox.stopped(assign.run, None),
            }
        }
        // What is not in memory any more is read for all of them at once.
        let missing: Vec<RunId> = running.iter().filter(|assign| assign.made.is_none()).map(|assign| assign.run).collect();
        let loaded = if missing.is_empty() { Ok(Vec::new()) } else { self.inner.store.load(&missing) };
        let mut loaded: IdMap<Loaded> = match loaded {
            Ok(loaded) => loaded.into_iter().map(|loaded| (loaded.run.id, loaded)).collect(),
            Err(error) => return self.inner.fail(error),
        };
        let surroundings = Arc::clone(&self.inner.project().surroundings);
        for assign in running {
            let Assign { run, rev, at, function, made, stop, .. } = assign;
            let made = made.map(|made| {
                let Created { mut run, event } = *made;
                run::started(&mut run, at, function.program.hash());
                Loaded { run, event: Arc::unwrap_or_clone(event), batch: Vec::new(), journal: Journal::default() }
            });
            let loaded = made.or_else(|| loaded.remove(&run));
            // One that was cancelled since it started is on a new revision, on which nothing would stop it.
            let Some(Loaded { run, event, batch, journal }) = loaded.filter(|loaded| loaded.run.rev == rev + 1) else {
                self.outbox.stopped(run, None);
                continue;
            };
            let waits = match self.waits(run.id) {
                Ok(waits) => waits,
                Err(error) => return self.inner.fail(error),
            };
            self.inner.notify_run(run.id, &run.function, run.state, at);
            let side = self.side(&run.function);
            if run.started == Some(at) {
                side.meter.started(at.since(run.enter));
            }
            let (retry, timeouts) = (function.retry.clone(), function.timeouts);
            // The script of an `on_failure` sees what the run had that failed.
            let failed = ended::failing_function(&run.function).and_then(|_| ended::failed(&event));
            let context = TraceContext::of_event(event.extra.as_deref());
            let (failed, mut event, batch) =
                failed.map_or((None, event, batch), |(failed, Started { by, batch })| (Some(failed), by, batch.unwrap_or_default()));
            if TraceContext::of_event(event.extra.as_deref()).is_none() {
                event.extra = context.map(|context| context.beside(event.extra.as_deref())).or(event.extra);
            }
            let call =
                Rc::new(Call { failed, run, event, batch, journal, waits, retry, timeouts, surroundings: Arc::clone(&surroundings) });
            tokio::task::spawn_local(Rc::clone(&self).execute(function, call, stop, side));
        }
    }

    /// The waits of a run; nothing is read where it never had any.
    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        let has_any = self.inner.waits().knows(run);
        if has_any { self.inner.store.waits(run) } else { Ok(Vec::new()) }
    }

    /// The verdicts on the starts, however long the disk is full; none where the store failed for good.
    async fn started(&self, assigns: &[Assign], mut ticket: Ticket) -> Option<Vec<Verdict>> {
        loop {
            match self.inner.settled(ticket).await {
                Settled::Done(verdicts) => return Some(verdicts),
                Settled::Again => {
                    let lists = assigns.iter().map(|assign| assign.start().again()).collect();
                    ticket = self.inner.store.commit(Lane::Steps, lists);
                }
                Settled::Failed => return None,
            }
        }
    }

    /// Runs the script and commits what follows from it.
    async fn execute(self: Rc<Self>, function: Arc<Function>, call: Rc<Call>, stop: Arc<Stop>, side: Rc<Side>) {
        match self.outcome(&function, &call, &stop, &side).await {
            Ok(now) => self.outbox.stopped(call.run.id, now),
            Err(error) => self.inner.fail(error),
        }
    }

    async fn outcome(&self, function: &Function, call: &Rc<Call>, stop: &Arc<Stop>, side: &Side) -> Result<Option<Standing>, StoreError> {
        let (run, inner) = (&call.run, &self.inner);
        let mut stopped = self.on_its_version(function, call, stop, side).await?;
        if let Outcome::Unfit(why) = stopped.outcome {
            stopped.outcome = Outcome::Unfit(fit::with_texts(why, &*inner.store, run.version.as_deref(), &function.program)?);
        }
        let now = inner.clock.now();
        let waited = stopped.waited;
        let Some(transition) = run::next(run, stopped, &function.retry, now, || inner.entropy.jitter()) else { return Ok(None) };
        let Transition { state, wake, mut list } = transition;
        let why = lines::why(&list, run.id);
        let told: Vec<Write> = list.writes.iter().filter(|write| is_told(write)).cloned().collect();
        let created = if state.is_terminal() { inner.tell_with(&mut list, run, &call.event, now)? } else { Vec::new() };
        let is_done = if state.is_terminal() && &*call.event.name == INVOKED {
            self.commit_for_two(run, list).await?
        } else {
            self.commit(list).await?.is_ok()
        };
        if !is_done {
            return Ok(None);
        }
        side.ports.watch.committed(run, &told);
        lines::stands(run, state, why.as_deref());
        if state.is_terminal() {
            side.meter.ended(state, run.started, now);
        }
        if waited && state.is_terminal() {
            inner.waits_mut().forget(run.id);
        }
        if state.is_terminal() {
            inner.unlisten(run.id);
        }
        inner.notify_run(run.id, &run.function, state, now);
        if !created.is_empty() {
            inner.created(created, now);
        }
        Ok(Some(Standing { rev: run.rev + 1, state, wake }))
    }

    /// Runs the script on the version that `versions` says.
    async fn on_its_version(&self, function: &Function, call: &Rc<Call>, stop: &Arc<Stop>, side: &Side) -> Result<Stopped, StoreError> {
        let newest = Arc::clone(&function.program);
        let Some(version) = call.run.version.as_ref().filter(|version| *version != newest.hash()) else {
            return self.call(newest, call, stop, side).await;
        };
        if function.versions == Versions::Pin {
            return match self.inner.old_program(version)? {
                Some(old) => self.call(old, call, stop, side).await,
                None => Ok(Stopped {
                    outcome: Outcome::Unfit(
                        "the version that it began with is not there any more; `stepwell runs migrate` takes it to the newest".into(),
                    ),
                    pending: Vec::new(),
                    attempt: call.run.attempt,
                    began: self.inner.clock.now(),
                    recorded: false,
                    waited: !call.waits.is_empty(),
                }),
            };
        }
        let stopped = self.call(newest, call, stop, side).await?;
        // A record that does not fit the newest handler is finished on the version it was made with.
        if let Outcome::Unfit(_) = stopped.outcome
            && function.versions == Versions::Auto
            && let Some(old) = self.inner.old_program(version)?
        {
            return self.call(old, call, stop, side).await;
        }
        Ok(stopped)
    }

    /// Commits the end of a run that another one invoked, which goes on by the same list if it waits still.
    async fn commit_for_two(&self, run: &RunRow, list: List) -> Result<bool, StoreError> {
        let parent = self.inner.waits().parent_of(run.id);
        if let Some(parent) = parent {
            match self.commit(family::end_with(list.clone(), run, &parent)).await? {
                // Nobody waits for it any more.
                Err(Conflict::WaitClosed) => {}
                Err(_) => return Ok(false),
                Ok(()) => {
                    self.inner.resolved(std::iter::once((parent, &Ok(()))));
                    return Ok(true);
                }
            }
        }
        Ok(self.commit(list).await?.is_ok())
    }

    /// Commits a list about a run, however long the disk is full; a conflict where somebody else moved the run on.
    async fn commit(&self, list: List) -> Result<Verdict, StoreError> {
        loop {
            match self.inner.settled(self.outbox.checkpoint(list.clone())).await {
                Settled::Done(verdicts) => return Ok(verdicts.into_iter().next().unwrap_or(Ok(()))),
                Settled::Again => {}
                Settled::Failed => return Err(StoreError::Closed),
            }
        }
    }

    async fn call(&self, program: Arc<Program>, call: &Rc<Call>, stop: &Arc<Stop>, side: &Side) -> Result<Stopped, StoreError> {
        script::call(program, Rc::clone(call), Arc::clone(&side.ports), Arc::clone(stop)).await
    }
}

/// Whether whoever watches is told of a write.
fn is_told(write: &Write) -> bool {
    matches!(write, Write::Append { .. } | Write::Attempt { .. })
}
