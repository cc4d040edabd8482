//! Another snapshot in place of the one in force, while runs are at work.
//!
//! It is loaded whole before anything changes: where it is broken, the one before stays. Its handlers' sources are stored, then
//! the scheduler swaps it in one turn, with the queue and the timers that hang on it. Attempts under way keep the snapshot
//! that they began with.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::base::{Diagnostic, Millis, Severity};
use crate::project::{Difference, Loader, Project};
use crate::rules::List;
use crate::store::{Lane, StoreError};

use super::appointment::Busy;
use super::scheduler::Message;
use super::{Engine, Inner, Settled};

/// Problems of a broken config that a log line shows; the answer to a reload has all of them.
const PROBLEMS_SHOWN: usize = 10;

/// Why the snapshot in force stays.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReloadError {
    /// The config, or a file that it names, is broken: all that is wrong.
    #[error("the config is broken: {}; the one before stays in force", counted(.0))]
    Broken(Vec<Diagnostic>),
    /// The engine is about to stop.
    #[error("the engine is draining")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn counted(problems: &[Diagnostic]) -> String {
    match problems.iter().filter(|problem| problem.severity == Severity::Error).count() {
        1 => "1 error".to_owned(),
        errors => format!("{errors} errors"),
    }
}

/// A reload that was carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Reloaded {
    /// The hash of the snapshot in force.
    pub hash: String,
    /// What is different from before.
    pub difference: Difference,
    /// How many runs in flight go on with an older version of a function's handler, where one has changed.
    pub older: Vec<(Arc<str>, usize)>,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

/// How many runs of a function are on older versions of its handler, in words.
pub fn on_older(function: &str, runs: usize) -> String {
    match runs {
        1 => format!("1 run of `{function}` is on an older version of its handler"),
        runs => format!("{runs} runs of `{function}` are on older versions of its handler"),
    }
}

fn hashes(project: &Project) -> impl Iterator<Item = Arc<str>> {
    project.programs().map(|program| Arc::clone(program.hash()))
}

/// The last try that failed.
#[derive(Debug, Clone)]
struct Broken {
    at: Millis,
    problems: Vec<Diagnostic>,
}

/// What has put a snapshot in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedBy {
    /// The start of the engine.
    Start,
    /// A reload, also one that changed nothing.
    Reload,
}

/// Since when the config in force has been the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// When the engine was started, in milliseconds since 1970: it does not know what was in force before.
    pub started: Millis,
    /// When a reload changed for the last time since then what functions declare, their scripts aside.
    pub changed: Option<Millis>,
}

/// What an engine knows of its reloads.
#[derive(Debug)]
pub(super) struct Reloads {
    /// When the snapshot in force was read, and what had it read.
    loaded: Mutex<(Millis, LoadedBy)>,
    in_force: Mutex<InForce>,
    /// One at a time: the files that are read last come into force last.
    turn: tokio::sync::Mutex<()>,
    broken: Mutex<Option<Broken>>,
    /// Versions of handlers that are about to come into force, or that runs may still begin on.
    versions: Mutex<HashSet<Arc<str>>>,
}

impl Reloads {
    /// Those of an engine that starts now.
    pub(super) fn from(start: Millis) -> Reloads {
        Reloads {
            loaded: Mutex::new((start, LoadedBy::Start)),
            in_force: Mutex::new(InForce { started: start, changed: None }),
            turn: Default::default(),
            broken: Mutex::default(),
            versions: Mutex::default(),
        }
    }

    /// Versions of handlers that are needed though no run may name them: those of the snapshot in force, and of a reload that is
    /// under way.
    pub(super) fn versions(&self, project: &Project) -> HashSet<Arc<str>> {
        self.with_versions(project, |versions| versions)
    }

    /// The same, for as long as no reload can begin.
    pub(super) fn with_versions<T>(&self, project: &Project, what: impl FnOnce(HashSet<Arc<str>>) -> T) -> T {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        what(versions.iter().cloned().chain(hashes(project)).collect())
    }

    fn note_versions(&self, versions: impl Iterator<Item = Arc<str>>) {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).extend(versions);
    }

    fn forget_versions(&self) {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn broken(&self) -> Option<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, broken: Option<Broken>) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = broken;
    }

    /// What is to be said of the engine's health: the first error, in one line.
    pub(super) fn reason(&self) -> Option<String> {
        let Broken { at, problems } = self.broken()?;
        let first = problems.iter().find(|problem| problem.severity == Severity::Error)?;
        let place = first.position().map(|(file, line, column)| format!(" at {file}:{line}:{column}")).unwrap_or_default();
        let code = if first.code.is_empty() { String::new() } else { format!("[{}]", first.code) };
        Some(format!(
            "the config was found broken at {} ({}), and the one before stays in force: error{code}{place}: {}",
            at.rfc3339(),
            counted(&problems),
            first.message
        ))
    }
}

impl Engine {
    /// Puts the project as its files are now in force: all of it, or none where anything of it is broken. Runs in flight keep
    /// their stored keys; limits, retries and time-outs are the new ones from now on.
    ///
    /// # Errors
    /// As `ReloadError` says; the snapshot before stays in force then. Where it is broken, `health` says so until a reload works.
    pub async fn reload(&self, loader: &Loader) -> Result<Reloaded, ReloadError> {
        if self.is_draining() {
            return Err(ReloadError::Draining);
        }
        let inner = &self.inner;
        let _turn = inner.reloads.turn.lock().await;
        let loader = loader.clone();
        let loaded = tokio::task::spawn_blocking(move || loader.load()).await.map_err(|_| StoreError::Closed)?;
        let (project, notes) = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => {
                inner.broke(&problems);
                return Err(ReloadError::Broken(problems));
            }
        };
        let (before, project) = (self.project(), Arc::new(project));
        let difference = Difference::between(&before, &project, &inner.fixed);
        inner.put_in_force(&before, &project).await?;
        inner.reloads.note(None);
        *inner.reloads.loaded.lock().unwrap_or_else(PoisonError::into_inner) = (inner.clock.now(), LoadedBy::Reload);
        if difference.is_about_starts() {
            inner.reloads.in_force.lock().unwrap_or_else(PoisonError::into_inner).changed = Some(inner.clock.now());
        }
        let older = inner.on_older_versions(&project, &difference).await?;
        if difference.is_empty() {
            tracing::info!("reloaded: nothing has changed");
        } else {
            let mut told: Vec<String> = difference.changes.iter().map(ToString::to_string).collect();
            told.extend(older.iter().map(|(function, runs)| on_older(function, *runs)));
            tracing::info!(hash = %project.hash.get(..12).unwrap_or_default(), "reloaded: {}", told.join("; "));
        }
        Ok(Reloaded { hash: project.hash.clone(), difference, older, notes })
    }

    /// When the snapshot in force was read, and what had it read.
    pub fn loaded(&self) -> (Millis, LoadedBy) {
        *self.inner.reloads.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the config in force has been the same.
    pub fn in_force(&self) -> InForce {
        *self.inner.reloads.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The problems of the last reload, where it failed, and when that was.
    pub fn broken(&self) -> Option<(Millis, Vec<Diagnostic>)> {
        self.inner.reloads.broken().map(|broken| (broken.at, broken.problems))
    }
}

impl Inner {
    /// Notes that a reload failed, and shows why.
    fn broke(&self, problems: &[Diagnostic]) {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let shown: Vec<String> = errors.take(PROBLEMS_SHOWN).map(ToString::to_string).collect();
        tracing::error!("the config is broken: {}; the one before stays in force\n{}", counted(problems), shown.join("\n"));
        self.reloads.note(Some(Broken { at: self.clock.now(), problems: problems.to_vec() }));
    }

    async fn put_in_force(self: &Arc<Self>, before: &Arc<Project>, project: &Arc<Project>) -> Result<(), ReloadError> {
        let _busy = Busy::new(self);
        self.reloads.note_versions(hashes(before).chain(hashes(project)));
        // Before a run can begin on them.
        loop {
            match self.settled(self.store.commit(Lane::Ingest, Inner::source_lists(project))).await {
                Settled::Done(_) => break,
                Settled::Again => {}
                Settled::Failed => return Err(StoreError::Closed.into()),
            }
        }
        let (reply, done) = oneshot::channel();
        self.tell(Message::Reload { project: Arc::clone(project), reply });
        // It answers nothing where it has stopped.
        done.await.map_err(|_| ReloadError::Draining)?;
        // Behind the starts that were handed over before, which name versions that are in force no more.
        self.commit(vec![List::default()]).await.ok_or(StoreError::Closed)?;
        self.reloads.forget_versions();
        self.listen_otherwise(before, project).await
    }

    /// The runs in flight that began with another version of their handler than the one in force, by function. They are only counted
    /// where a handler has changed: that means to go through all of them.
    async fn on_older_versions(
        self: &Arc<Self>,
        project: &Arc<Project>,
        difference: &Difference,
    ) -> Result<Vec<(Arc<str>, usize)>, ReloadError> {
        if difference.handlers().next().is_none() {
            return Ok(Vec::new());
        }
        let (inner, project) = (Arc::clone(self), Arc::clone(project));
        let counting = tokio::task::spawn_blocking(move || {
            let mut older: BTreeMap<Arc<str>, usize> = BTreeMap::new();
            inner.store.unfinished(&mut |run| {
                let newest = project.function(&run.function).map(|function| function.program.hash());
                if let (Some(newest), Some(version)) = (newest, &run.version)
                    && run.started.is_some()
                    && newest != version
                {
                    *older.entry(run.function).or_default() += 1;
                }
            })?;
            Ok::<_, StoreError>(older.into_iter().collect())
        });
        Ok(counting.await.map_err(|_| StoreError::Closed)??)
    }

    /// Runs of functions whose `cancel_on` has changed listen for what it says now.
    async fn listen_otherwise(self: &Arc<Self>, before: &Arc<Project>, after: &Arc<Project>) -> Result<(), ReloadError> {
        let differs = |before: &Project, after: &Project, id: &str| match (before.function(id), after.function(id)) {
            (Some(old), Some(new)) => !old.cancels_as(new),
            (Some(one), None) | (None, Some(one)) => !one.cancels.is_empty(),
            (None, None) => false,
        };
        let mut ids = before.functions.iter().chain(&after.functions).map(|function| &function.id);
        if !ids.any(|id| differs(before, after, id)) {
            return Ok(());
        }
        let (inner, before, after) = (Arc::clone(self), Arc::clone(before), Arc::clone(after));
        let work = tokio::task::spawn_blocking(move || inner.listen_all(&|id| differs(&before, &after, id)));
        work.await.map_err(|_| StoreError::Closed)?.map_err(|error| {
            self.fail(error.clone());
            error.into()
        })
    }
}
