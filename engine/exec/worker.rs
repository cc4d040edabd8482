//! Runs handlers on one thread: many at once, each until it ends or has to wait.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::base::id::IdMap;
use crate::base::{Millis, RunId, Span};
use crate::config::Versions;
use crate::project::Function;
use crate::rules::ended::{self, Started};
use crate::rules::family::{self, INVOKED};
use crate::rules::run::{self, Outcome, Stopped, Transition};
use crate::rules::trace::TraceContext;
use crate::rules::{Conflict, Expect, List, RunState, WindowRow, Write};
use crate::script::{self, Call, Desk, Footing, Ports, Program, Stop, Surroundings, Watch};
use crate::store::{Journal, Lane, Loaded, StoreError, Ticket, Verdict};

use super::fit;
use super::gather::Outbox;
use super::metrics::{Meter, Metered};
use super::post::Clerk;
use super::relay::{After, Relay};
use super::scheduler::{Created, Standing};
use super::{Inner, Settled, lines};

/// Runs that this worker is to execute; their starts were handed to the store.
pub(super) struct Batch {
    pub(super) assigns: Vec<Assign>,
    /// One verdict a run.
    pub(super) ticket: Ticket,
    /// The scripts of runs that are in memory need not wait for that: they act on nothing before.
    pub(super) at_once: bool,
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
    /// Runs that have vacated slots which it takes, and that have to have ended before.
    pub(super) behind: Vec<RunId>,
    /// The run and its event, where they are still in memory, which means that it has no journal yet.
    pub(super) made: Option<Box<Created>>,
    pub(super) stop: Arc<Stop>,
    pub(super) after: After,
}

impl Assign {
    /// The list that starts it.
    pub(super) fn start(&self) -> List {
        let mut list = run::start(self.run, self.rev, self.at, self.function.program.hash());
        list.expect.extend(self.behind.iter().copied().map(Expect::RunOver));
        list.writes.extend(self.given.clone().map(Write::PutWindow));
        list
    }

    /// The run as it is once it has started, where it is still in memory.
    fn loaded(&self, made: Created) -> Loaded {
        let Created { mut run, event } = made;
        run::started(&mut run, self.at, self.function.program.hash());
        Loaded { run, event: Arc::unwrap_or_clone(event), batch: Vec::new(), journal: Journal::default() }
    }
}

/// See the module's head.
pub(super) struct Worker {
    inner: Arc<Inner>,
    desk: mpsc::UnboundedReceiver<Batch>,
}

impl Worker {
    /// A worker for what is dealt to this desk.
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
    /// Whether the run that ended last had to know its start as durable before its own end.
    acts: Cell<bool>,
}

/// A script that has begun.
struct Begun {
    footing: Rc<Footing>,
    side: Rc<Side>,
    /// How long the run stood in line, where it has begun for the first time.
    first: Option<Span>,
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
        let side = Rc::new(Side { ports: Arc::new(Ports { watch, ..self.ports.clone() }), meter, acts: Cell::new(false) });
        self.sides.borrow_mut().insert(Arc::clone(function), Rc::clone(&side));
        side
    }

    /// Runs the scripts: of runs that are in memory at once, where the batch says so, and of the others when their starts are durable.
    async fn begin(self: Rc<Self>, Batch { mut assigns, ticket, at_once }: Batch) {
        let surroundings = Arc::clone(&self.inner.project().surroundings);
        let mut begun = Vec::with_capacity(assigns.len());
        // Where there are several, one that acts would only wait for its start on a stack that others have use for. One that is alone is
        // sooner at its act.
        let are_several = assigns.len() > 1;
        for assign in &mut assigns {
            let made = assign.made.take_if(|made| at_once && !(are_several && self.side(&made.run.function).acts.get()));
            begun.push(match made.map(|made| self.execute(assign, assign.loaded(*made), &surroundings, Footing::open())).transpose() {
                Ok(begun) => begun,
                Err(error) => return self.inner.fail(error),
            });
        }
        let begins_later: Vec<bool> = begun.iter().map(Option::is_none).collect();
        let settle = |at: usize, is_firm| {
            if let Some(begun) = Option::take(&mut begun[at]) {
                self.settle(begun, &assigns[at], is_firm);
            }
        };
        let Some(verdicts) = self.started(&assigns, ticket, settle).await else { return };
        let mut waiting = Vec::new();
        for ((assign, verdict), begins_later) in assigns.into_iter().zip(verdicts).zip(begins_later) {
            match verdict {
                _ if !begins_later => {}
                Ok(()) => waiting.push(assign),
                // Somebody else moved it on before.
                Err(_) => self.outbox.stopped(assign.run, None),
            }
        }
        // What is not in memory any more is read for all of them at once.
        let missing: Vec<RunId> = waiting.iter().filter(|assign| assign.made.is_none()).map(|assign| assign.run).collect();
        let loaded = if missing.is_empty() { Ok(Vec::new()) } else { self.inner.store.load(&missing) };
        let mut loaded: IdMap<Loaded> = match loaded {
            Ok(loaded) => loaded.into_iter().map(|loaded| (loaded.run.id, loaded)).collect(),
            Err(error) => return self.inner.fail(error),
        };
        for mut assign in waiting {
            let made = assign.made.take().map(|made| assign.loaded(*made));
            let loaded = made.or_else(|| loaded.remove(&assign.run));
            // One that was cancelled since it started is on a new revision, on which nothing would stop it.
            let Some(loaded) = loaded.filter(|loaded| loaded.run.rev == assign.rev + 1) else {
                self.outbox.stopped(assign.run, None);
                continue;
            };
            match self.execute(&assign, loaded, &surroundings, Footing::firm()) {
                Ok(begun) => self.settle(begun, &assign, true),
                Err(error) => return self.inner.fail(error),
            }
        }
    }

    /// Runs a script beside what else is done.
    fn execute(
        self: &Rc<Self>,
        assign: &Assign,
        loaded: Loaded,
        surroundings: &Arc<Surroundings>,
        footing: Rc<Footing>,
    ) -> Result<Begun, StoreError> {
        let (function, at) = (Arc::clone(&assign.function), assign.at);
        let Loaded { run, event, batch, journal } = loaded;
        let waits = self.inner.waits_of(run.id)?;
        let side = self.side(&run.function);
        let first = (run.started == Some(at)).then(|| at.since(run.enter));
        let begun = Begun { footing: Rc::clone(&footing), side: Rc::clone(&side), first };
        let (retry, timeouts) = (function.retry.clone(), function.timeouts);
        // The script of an `on_failure` sees what the run had that failed.
        let failed = ended::failing_function(&run.function).and_then(|_| ended::failed(&event));
        let context = TraceContext::of_event(event.extra.as_deref());
        let (failed, mut event, batch) =
            failed.map_or((None, event, batch), |(failed, Started { by, batch })| (Some(failed), by, batch.unwrap_or_default()));
        if TraceContext::of_event(event.extra.as_deref()).is_none() {
            event.extra = context.map(|context| context.beside(event.extra.as_deref())).or(event.extra);
        }
        let surroundings = Arc::clone(surroundings);
        let call = Rc::new(Call { failed, run, event, batch, journal, waits, retry, timeouts, surroundings, footing });
        let (stop, after) = (Arc::clone(&assign.stop), assign.after.clone());
        tokio::task::spawn_local(Rc::clone(self).run_out(function, call, stop, after, side));
        Ok(begun)
    }

    /// It is known whether the start of a script that has begun is durable. Where somebody else moved the run on before, the script ends.
    fn settle(&self, begun: Begun, assign: &Assign, is_firm: bool) {
        if is_firm {
            begun.first.into_iter().for_each(|delay| begun.side.meter.started(delay));
            self.inner.notify_run(assign.run, &assign.function.id, RunState::Running, assign.at);
        } else {
            assign.stop.abort();
        }
        begun.footing.settle(is_firm);
    }

    /// The verdicts on the starts, however long the disk is full; none where the store failed for good. `settle` is told of each as soon as
    /// it is there, with its place and whether the start is durable.
    async fn started(&self, assigns: &[Assign], mut ticket: Ticket, mut settle: impl FnMut(usize, bool)) -> Option<Vec<Verdict>> {
        // The end of a run that has vacated a slot has found the disk full, and is to be stored first.
        let is_early = |verdict: &Verdict| matches!(verdict, Err(Conflict::RunUnderWay(_)));
        let mut verdicts: Vec<Option<Verdict>> = assigns.iter().map(|_| None).collect();
        let mut asked: Vec<usize> = (0..assigns.len()).collect();
        loop {
            match self.inner.settled(ticket).await {
                Settled::Done(found) => {
                    for (at, verdict) in asked.iter().zip(found) {
                        if !is_early(&verdict) {
                            settle(*at, verdict.is_ok());
                        }
                        verdicts[*at] = Some(verdict);
                    }
                }
                Settled::Again => {}
                Settled::Failed => return None,
            }
            if verdicts.iter().flatten().any(is_early) {
                self.inner.wait_for_room().await;
            }
            asked.retain(|at| verdicts[*at].as_ref().is_none_or(is_early));
            if asked.is_empty() {
                return verdicts.into_iter().collect();
            }
            let lists = asked.iter().map(|at| assigns[*at].start().again()).collect();
            ticket = self.inner.store.commit(Lane::Steps, lists);
        }
    }

    /// Runs the script and commits what follows from it.
    async fn run_out(self: Rc<Self>, function: Arc<Function>, call: Rc<Call>, stop: Arc<Stop>, after: After, side: Rc<Side>) {
        let outcome = self.outcome(&function, &call, &stop, &after, &side).await;
        side.acts.set(call.footing.was_demanded());
        if let After::Lent(relay) = after {
            relay.ended(call.run.id, matches!(outcome, Ok(Some(_))));
        }
        match outcome {
            Ok(now) => self.outbox.stopped(call.run.id, now),
            Err(error) => self.inner.fail(error),
        }
    }

    /// The end of a run was handed to the store: whoever takes its slot begins here, or the scheduler finds somebody.
    fn pass_on(self: &Rc<Self>, run: RunId, after: &After) {
        let next = match after {
            After::Nobody => return,
            After::Line => None,
            After::Lent(relay) => Relay::pass(relay, run, self.inner.clock.now()),
        };
        let Some(mut next) = next else { return self.outbox.leaves(run) };
        let ticket = self.outbox.checkpoint(next.start());
        let surroundings = Arc::clone(&self.inner.project().surroundings);
        let made = next.made.take().map(|made| next.loaded(*made));
        match made.map(|made| self.execute(&next, made, &surroundings, Footing::open())).transpose() {
            Ok(begun) => {
                let table = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let mut begun = begun;
                    let settle = |_, is_firm| begun.take().into_iter().for_each(|begun| table.settle(begun, &next, is_firm));
                    // A store that fails for good ends the engine.
                    let _ = table.started(std::slice::from_ref(&next), ticket, settle).await;
                });
            }
            Err(error) => self.inner.fail(error),
        }
    }

    async fn outcome(
        self: &Rc<Self>,
        function: &Function,
        call: &Rc<Call>,
        stop: &Arc<Stop>,
        after: &After,
        side: &Side,
    ) -> Result<Option<Standing>, StoreError> {
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
            self.commit_for_two(call, list).await?
        } else {
            let passes_on = || {
                if state.is_terminal() {
                    self.pass_on(run.id, after)
                }
            };
            self.commit_and(call, list, passes_on).await?.is_ok()
        };
        if !is_done {
            return Ok(None);
        }
        // That it runs is told before anything else is.
        call.footing.settled().await;
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
    async fn commit_for_two(&self, call: &Call, list: List) -> Result<bool, StoreError> {
        let run = &call.run;
        let parent = self.inner.waits().parent_of(run.id);
        if let Some(parent) = parent {
            match self.commit(call, family::end_with(list.clone(), run, &parent)).await? {
                // Nobody waits for it any more.
                Err(Conflict::WaitClosed) => {}
                Err(_) => return Ok(false),
                Ok(()) => {
                    self.inner.resolved(std::iter::once((parent, &Ok(()))));
                    return Ok(true);
                }
            }
        }
        Ok(self.commit(call, list).await?.is_ok())
    }

    /// Commits a list about a run, however long the disk is full; a conflict where somebody else moved the run on.
    async fn commit(&self, call: &Call, list: List) -> Result<Verdict, StoreError> {
        self.commit_and(call, list, || {}).await
    }

    /// The same; once the list is handed over, something else is done.
    async fn commit_and(&self, call: &Call, list: List, then: impl FnOnce()) -> Result<Verdict, StoreError> {
        let mut then = Some(then);
        loop {
            let was_firm = call.footing.is_firm();
            let mut list = list.clone();
            if !was_firm {
                // A cancel takes a run that stands in line to the revision to which its start would have taken it.
                list.expect.push(Expect::Running(call.run.id));
            }
            let now = self.inner.clock.now();
            let (ticket, dooms) = if list.writes.contains(&Write::DropWaits(call.run.id)) {
                // It may wait for runs that it has started. Nobody starts another one before this is handed over.
                let index = self.inner.waits();
                let dooms = self.inner.dooms_without(&index, call.run.id, now)?;
                list.writes.extend(dooms.iter().flat_map(|doom| doom.list.writes.iter().cloned()));
                (self.outbox.checkpoint_at_once(list), dooms)
            } else {
                (self.outbox.checkpoint(list), Vec::new())
            };
            if let Some(then) = then.take() {
                then();
            }
            match self.inner.settled(ticket).await {
                Settled::Done(verdicts) => {
                    let verdict = verdicts.into_iter().next().unwrap_or(Ok(()));
                    if verdict.is_ok() {
                        dooms.into_iter().for_each(|doom| self.inner.cancelled(doom, now));
                    }
                    // One that came before the start, for which the disk had no room, is tried again behind it.
                    if verdict.is_ok() || was_firm || !call.footing.settled().await {
                        return Ok(verdict);
                    }
                }
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
