//! What a reload would change, and what it would mean for the runs in flight.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::base::{Diagnostic, RunId};
use crate::config::Versions;
use crate::project::{Difference, Loader, Project};
use crate::rules::{RunRow, RunState, Unfit};
use crate::script::Held;
use crate::store::StoreError;

use super::fit::Bench;
use super::reload::ReloadError;
use super::{Engine, Inner};

/// Runs that a plan holds against their new handlers; the others are only counted.
const LOOKED_AT_MOST: usize = 1_000;

/// What a reload would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The hash of the snapshot in force.
    pub in_force: String,
    /// The hash of what would come into force.
    pub hash: String,
    /// What is different.
    pub difference: Difference,
    /// The functions whose runs in flight are touched.
    pub runs: Vec<Affected>,
    /// Warnings and notes.
    pub notes: Vec<Diagnostic>,
}

/// What would become of the runs in flight of one function.
#[derive(Debug, Clone, PartialEq)]
pub struct Affected {
    /// The function.
    pub function: Arc<str>,
    /// Runs that have not ended.
    pub in_flight: usize,
    /// Those that have recorded nothing yet: they begin with the new handler.
    pub fresh: usize,
    /// Those whose record fits the new handler, with which they go on.
    pub fit: usize,
    /// Those whose record does not fit it.
    pub unfit: usize,
    /// Those that were not looked at, since there are too many.
    pub unknown: usize,
    /// What becomes of those that do not fit; none where the function is gone.
    pub versions: Option<Versions>,
    /// One that does not fit, and the first difference.
    pub first: Option<(RunId, Unfit)>,
}

impl Affected {
    /// All of it in one sentence.
    pub fn text(&self) -> String {
        let Affected { function, in_flight, .. } = self;
        let runs = |count: usize| if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
        let Some(versions) = self.versions else {
            return format!("`{function}`: {} in flight, which are parked when they would go on", runs(*in_flight));
        };
        let mut parts = Vec::new();
        if self.fresh > 0 {
            parts.push(format!("{} begin with the new handler", self.fresh));
        }
        if self.fit > 0 {
            let verb = if versions == Versions::Pin {
                "fit the new handler, and stay on the one that they began with"
            } else {
                "go on with the new handler"
            };
            parts.push(format!("{} {verb}", self.fit));
        }
        if self.unfit > 0 {
            let verb = match versions {
                Versions::Auto => "do not fit it, and finish on the one that they have",
                Versions::Pin => "do not fit it, and stay on the one that they began with",
                Versions::Latest => "do not fit it, and are parked when they would go on",
            };
            let first = self.first.as_ref().map(|(run, why)| format!(" (the first is {run}: {why})")).unwrap_or_default();
            parts.push(format!("{} {verb}{first}", self.unfit));
        }
        if self.unknown > 0 {
            parts.push(format!("{} were not looked at", self.unknown));
        }
        format!("`{function}`: {} in flight: {}", runs(*in_flight), parts.join("; "))
    }
}

impl Engine {
    /// What a reload would change, without changing anything.
    ///
    /// # Errors
    /// As `reload`.
    pub async fn plan(&self, loader: &Loader) -> Result<Plan, ReloadError> {
        let (inner, loader) = (Arc::clone(&self.inner), loader.clone());
        // It reads files and the store, and runs scripts' own code, so it has a thread of its own.
        let runtime = tokio::runtime::Handle::current();
        let work = tokio::task::spawn_blocking(move || {
            let (project, notes) = loader.load().map_err(ReloadError::Broken)?;
            let before = inner.project();
            let difference = Difference::between(&before, &project, &inner.fixed);
            let runs = runtime.block_on(affected(&inner, &project, &difference))?;
            Ok(Plan { in_force: before.hash.clone(), hash: project.hash.clone(), difference, runs, notes })
        });
        work.await.map_err(|_| StoreError::Closed)?
    }
}

async fn affected(inner: &Inner, project: &Project, difference: &Difference) -> Result<Vec<Affected>, StoreError> {
    let touched: HashSet<&str> = difference.handlers().chain(difference.gone()).collect();
    let mut rows: BTreeMap<Arc<str>, Vec<RunRow>> = BTreeMap::new();
    if touched.is_empty() {
        return Ok(Vec::new());
    }
    inner.store.unfinished(&mut |row| {
        if touched.contains(&*row.function) {
            rows.entry(Arc::clone(&row.function)).or_default().push(row);
        }
    })?;
    let mut all = Vec::new();
    let mut left = LOOKED_AT_MOST;
    for (id, runs) in rows {
        let function = project.function(&id);
        let mut one = Affected {
            function: id,
            in_flight: runs.len(),
            fresh: 0,
            fit: 0,
            unfit: 0,
            unknown: 0,
            versions: function.map(|function| function.versions),
            first: None,
        };
        for run in runs {
            let Some(function) = function else { break };
            if run.started.is_none() {
                one.fresh += usize::from(run.state == RunState::Queued);
                continue;
            }
            if left == 0 {
                one.unknown += 1;
                continue;
            }
            left -= 1;
            let bench = Bench { project, function, clock: &inner.clock, entropy: &inner.entropy };
            match bench.hold_stored(&*inner.store, &run).await? {
                Some(Held::Unfit(why)) => {
                    one.unfit += 1;
                    one.first.get_or_insert((run.id, why));
                }
                Some(_) => one.fit += 1,
                // It has ended meanwhile.
                None => one.in_flight -= 1,
            }
        }
        all.push(one);
    }
    Ok(all)
}
