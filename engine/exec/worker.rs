//! Runs handlers on one thread: many at once, each until it ends or has to wait.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::base::RunId;
use crate::project::Function;
use crate::rules::run::{self, Outcome, Stopped};
use crate::rules::{EventRow, RunRow};
use crate::script::{self, Call, Program, Stop};
use crate::store::{Journal, Loaded, StoreError};

use super::Inner;
use super::scheduler::{Created, Message, Standing};

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
        while let Some(assigns) = self.desk.recv().await {
            // What is not in memory any more is read for all of them at once.
            let missing: Vec<RunId> = assigns.iter().filter(|assign| assign.made.is_none()).map(|assign| assign.run).collect();
            let loaded = if missing.is_empty() { Ok(Vec::new()) } else { self.inner.store.load(&missing) };
            let mut loaded: HashMap<RunId, Loaded> = match loaded {
                Ok(loaded) => loaded.into_iter().map(|loaded| (loaded.run.id, loaded)).collect(),
                Err(error) => return self.inner.fail(error),
            };
            for mut assign in assigns {
                let made = assign.made.take().map(|made| Loaded {
                    run: made.run,
                    event: Arc::unwrap_or_clone(made.event),
                    journal: Journal::default(),
                });
                let loaded = made.or_else(|| loaded.remove(&assign.run));
                tokio::task::spawn_local(execute(Arc::clone(&self.inner), assign, loaded));
            }
        }
    }
}

/// Runs one attempt and commits what follows from it.
async fn execute(inner: Arc<Inner>, assign: Assign, loaded: Option<Loaded>) {
    let run = assign.run;
    let now = match loaded {
        Some(loaded) => attempt(&inner, assign, loaded).await,
        // It was deleted since it started, so there is nothing to run.
        None => Ok(None),
    };
    match now {
        Ok(now) => inner.tell(Message::Stopped { run, now }),
        Err(error) => inner.fail(error),
    }
}

async fn attempt(inner: &Arc<Inner>, assign: Assign, loaded: Loaded) -> Result<Option<Standing>, StoreError> {
    let Loaded { run: row, event, journal } = loaded;
    let function = &assign.function;
    let newest = Arc::clone(&function.program);
    let mut stopped = call(inner, function, newest, &row, &event, journal.clone(), &assign.stop).await?;
    // A record that does not fit the newest handler is finished on the version it was made with.
    if let Outcome::Unfit(_) = stopped.outcome
        && let Some(version) = row.version.as_ref().filter(|version| *version != function.program.hash())
        && let Some(old) = inner.old_program(version)?
    {
        stopped = call(inner, function, old, &row, &event, journal, &assign.stop).await?;
    }
    let now = inner.clock.now();
    let Some(transition) = run::next(&row, stopped, &function.retry, now, inner.entropy.unit()) else { return Ok(None) };
    let Some(verdicts) = inner.commit(vec![transition.list]).await else { return Err(StoreError::Closed) };
    if verdicts.iter().any(Result::is_err) {
        return Ok(None);
    }
    inner.notify_run(row.id, &row.function, transition.state, now);
    Ok(Some(Standing { rev: row.rev + 1, state: transition.state, wake: transition.wake }))
}

async fn call(
    inner: &Arc<Inner>,
    function: &Arc<Function>,
    program: Arc<Program>,
    row: &RunRow,
    event: &EventRow,
    journal: Journal,
    stop: &Arc<Stop>,
) -> Result<Stopped, StoreError> {
    let call = Call {
        run: row.clone(),
        event: event.clone(),
        journal,
        retry: function.retry.clone(),
        timeouts: function.timeouts,
        surroundings: Arc::clone(&inner.project().surroundings),
    };
    script::call(program, call, Arc::clone(&inner.ports), Arc::clone(stop)).await
}
