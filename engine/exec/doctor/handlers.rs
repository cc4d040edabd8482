//! Whether every unfinished run can go on: its function is declared, its handler's version is stored, it is not parked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::project::Project;
use crate::rules::RunState;
use crate::store::{Store, StoreError};

use super::{Check, restore};

/// So many unfinished runs are looked at also where the look is to be a short one: it takes a tenth of a second.
pub(super) const LOOKED_AT_ONCE: u64 = 100_000;
/// Functions that are named.
const NAMED: usize = 5;

/// What stands in the way of runs.
#[derive(Default)]
struct Stuck {
    parked: BTreeMap<Arc<str>, u64>,
    undeclared: BTreeMap<Arc<str>, u64>,
    /// Runs by the version that they are on.
    versions: HashMap<Arc<str>, (Arc<str>, u64)>,
    all: u64,
}

/// Looks at every unfinished run.
pub(super) fn runs(store: &dyn Store, project: Option<&Project>) -> Vec<Check> {
    let mut stuck = Stuck::default();
    let read = store.unfinished(&mut |row| {
        stuck.all += 1;
        if row.state == RunState::Parked {
            *stuck.parked.entry(Arc::clone(&row.function)).or_default() += 1;
        }
        if project.is_some_and(|project| project.function(&row.function).is_none()) {
            *stuck.undeclared.entry(Arc::clone(&row.function)).or_default() += 1;
        }
        if let Some(version) = row.version {
            stuck.versions.entry(version).or_insert_with(|| (row.function, 0)).1 += 1;
        }
    });
    match read.and_then(|()| lost(store, &stuck)) {
        Ok(lost) => stuck.told(&lost),
        Err(error) => vec![Check::ill("runs", error.to_string(), restore())],
    }
}

/// The functions with runs on a version that is not stored.
fn lost(store: &dyn Store, stuck: &Stuck) -> Result<BTreeMap<Arc<str>, u64>, StoreError> {
    let mut lost: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for (version, (function, count)) in &stuck.versions {
        if store.source(version)?.is_none() {
            *lost.entry(Arc::clone(function)).or_default() += count;
        }
    }
    Ok(lost)
}

impl Stuck {
    fn told(&self, lost: &BTreeMap<Arc<str>, u64>) -> Vec<Check> {
        let mut checks = Vec::new();
        if !self.parked.is_empty() {
            let advice = "`stepwell runs ls --status parked` says why; `runs migrate`, `runs retry-now` or `replay` let them go on, `runs cancel` ends them";
            checks.push(Check::note("runs", format!("parked, and waiting for somebody: {}", named(&self.parked)), advice));
        }
        if !self.undeclared.is_empty() {
            let advice = "declare the function again, or end them with `stepwell runs cancel`; they are parked when their turn comes";
            checks.push(Check::note("runs", format!("their function is not declared any more: {}", named(&self.undeclared)), advice));
        }
        if !lost.is_empty() {
            let advice = "`stepwell runs migrate` takes them to the newest handler, where that fits what they have recorded";
            checks.push(Check::note("handlers", format!("the version that they began with is not stored: {}", named(lost)), advice));
        }
        if checks.is_empty() {
            checks.push(Check::well("runs", format!("{} unfinished, and each can go on", self.all)));
        }
        checks
    }
}

/// Functions with how many runs they have.
fn named(functions: &BTreeMap<Arc<str>, u64>) -> String {
    let mut names: Vec<String> = functions.iter().take(NAMED).map(|(function, count)| format!("{count} of {function}")).collect();
    if functions.len() > NAMED {
        names.push(format!("and of {} more functions", functions.len() - NAMED));
    }
    names.join(", ")
}
