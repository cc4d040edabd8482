//! Runs handlers on one thread: many at once, each until it ends or has to wait.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::base::RunId;
use crate::base::id::IdMap;
use crate::project::Function;
use crate::rules::RunState;
use crate::rules::run::{self, Outcome, Stopped};
use crate::script::{self, Call, Checkpoints, Ports, Program, Stop, Watch};
use crate::store::{Journal, Loaded, StoreError};

use super::outbox::Outbox;
use super::scheduler::{Created, Standing};
use super::{Inner, Settled};

/// A run that was started for this worker.
pub(super) struct Assign {
    pub(super) run: RunId,
    pub(super) function: Arc<Function>,
    /// The run and its event, where they are still in memory and it has no journal yet.
    pub(super) made: Option<Created>,
    pub(super) stop: Arc<Stop>,
}

/// See the module's head.
pub(super) struct Worker {
    inner: Arc<Inner>,
    desk: mpsc::UnboundedReceiver<Vec<Assign>>,
}

impl Worker {
    pub(super) fn new(inner: Arc<Inner>, desk: mpsc::UnboundedReceiver<Vec<Assign>>) -> Worker {
        Worker { inner, desk }
    }

    /// Runs what it is given until the scheduler is gone.
    pub(super) async fn run(mut self) {
        let outbox = Arc::new(Outbox::default());
        tokio::task::spawn_local(Arc::clone(&outbox).run(Arc::clone(&self.inner)));
        let ports = Arc::new(Ports {
            checkpoints: Arc::clone(&outbox) as Arc<dyn Checkpoints>,
            clock: Arc::clone(&self.inner.clock),
            entropy: Arc::clone(&self.inner.entropy),
            watch: Arc::clone(&self.inner.watch) as Arc<dyn Watch>,
        });
        while let Some(assigns) = self.desk.recv().await {
            // What is not in memory any more is read for all of them at once.
            let missing: Vec<RunId> = assigns.iter().filter(|assign| assign.made.is_none()).map(|assign| assign.run).collect();
            let loaded = if missing.is_empty() { Ok(Vec::new()) } else { self.inner.store.load(&missing) };
            let mut loaded: IdMap<Loaded> = match loaded {
                Ok(loaded) => loaded.into_iter().map(|loaded| (loaded.run.id, loaded)).collect(),
                Err(error) => return self.inner.fail(error),
            };
            let surroundings = Arc::clone(&self.inner.project().surroundings);
            for mut assign in assigns {
                let made = assign.made.take().map(|made| Loaded {
                    run: made.run,
                    event: Arc::unwrap_or_clone(made.event),
                    journal: Journal::default(),
                });
                let loaded = made.or_else(|| loaded.remove(&assign.run));
                // One that is not running was cancelled since it started, and on its new revision nothing would stop it; one
                // that is not there was even deleted.
                let Some(Loaded { run, event, journal }) = loaded.filter(|loaded| loaded.run.state == RunState::Running) else {
                    outbox.stopped(assign.run, None);
                    continue;
                };
                let Assign { function, stop, .. } = assign;
                let (retry, timeouts) = (function.retry.clone(), function.timeouts);
                let call = Rc::new(Call { run, event, journal, retry, timeouts, surroundings: Arc::clone(&surroundings) });
                let attempt = Attempt { inner: Arc::clone(&self.inner), outbox: Arc::clone(&outbox), ports: Arc::clone(&ports) };
                tokio::task::spawn_local(attempt.execute(function, call, stop));
            }
        }
    }
}

/// One attempt of a run, with what it needs of its worker.
struct Attempt {
    inner: Arc<Inner>,
    outbox: Arc<Outbox>,
    ports: Arc<Ports>,
}

impl Attempt {
    /// Runs the attempt and commits what follows from it.
    async fn execute(self, function: Arc<Function>, call: Rc<Call>, stop: Arc<Stop>) {
        match self.outcome(&function, &call, &stop).await {
            Ok(now) => self.outbox.stopped(call.run.id, now),
            Err(error) => self.inner.fail(error),
        }
    }

    async fn outcome(&self, function: &Arc<Function>, call: &Rc<Call>, stop: &Arc<Stop>) -> Result<Option<Standing>, StoreError> {
        let mut stopped = self.call(Arc::clone(&function.program), call, stop).await?;
        // A record that does not fit the newest handler is finished on the version it was made with.
        if let Outcome::Unfit(_) = stopped.outcome
            && let Some(version) = call.run.version.as_ref().filter(|version| *version != function.program.hash())
            && let Some(old) = self.inner.old_program(version)?
        {
            stopped = self.call(old, call, stop).await?;
        }
        let now = self.inner.clock.now();
        let unit = || self.inner.entropy.unit();
        let Some(transition) = run::next(&call.run, stopped, &function.retry, now, unit) else { return Ok(None) };
        loop {
            match self.inner.settled(self.outbox.checkpoint(transition.list.clone())).await {
                Settled::Done(verdicts) if verdicts.iter().all(Result::is_ok) => break,
                Settled::Done(_) => return Ok(None),
                Settled::Again => {}
                Settled::Failed => return Err(StoreError::Closed),
            }
        }
        self.inner.notify_run(call.run.id, &call.run.function, transition.state, now);
        Ok(Some(Standing { rev: call.run.rev + 1, state: transition.state, wake: transition.wake }))
    }

    async fn call(&self, program: Arc<Program>, call: &Rc<Call>, stop: &Arc<Stop>) -> Result<Stopped, StoreError> {
        script::call(program, Rc::clone(call), Arc::clone(&self.ports), Arc::clone(stop)).await
    }
}
