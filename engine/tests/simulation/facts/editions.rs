//! Which edition of the project was in force when something was decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use stepwell::base::{EventId, Millis, RunId};
use stepwell::rules::RunState;

use super::super::straight;
use super::{Facts, Run};

impl Facts {
    /// An edition of the project is in force, since now if it was not before.
    pub fn in_force(&mut self, edition: usize, now: Millis) {
        if edition == self.edition {
            return;
        }
        self.edition = edition;
        self.editions.push((now, edition));
        self.note(now, &format!("edition {edition} of the project is in force"));
        let is_in_flight = |run: &&super::Run| run.started.is_some() && !run.state.is_terminal() && run.state != RunState::Parked;
        let count = self.runs.values().filter(is_in_flight).count();
        if count > 0 {
            self.note(now, &format!("reloaded while runs were in flight: {count}"));
        }
        if self.runs.values().any(|run| run.state == RunState::Running) {
            self.note(now, "reloaded in the middle of an attempt");
        }
    }

    /// A reload was answered: what it has loaded is in force.
    pub fn must_be_in_force(&mut self, edition: usize) {
        let now = self.edition;
        self.hold(now == edition, || format!("G25: edition {edition} was reloaded, and {now} is in force"));
    }

    /// The versions whose sources are stored.
    pub fn sources(&self) -> BTreeSet<Arc<str>> {
        self.sources.clone()
    }

    /// G25: the sources of a version stay as long as an unfinished run names it.
    pub(super) fn source_dropped(&mut self, hash: &Arc<str>) {
        self.sources.remove(hash);
        let version = self.versions.get(hash).copied();
        let names = |run: &super::Run| run.made_with.map(|made_with| (run.function, made_with)) == version && !run.state.is_terminal();
        let is_named = version.is_some() && self.runs.values().any(names);
        self.hold(!is_named, || format!("G25: the sources of {version:?} were deleted, which a run is on"));
    }

    /// A run that somebody may take to the newest version of its handler: the n-th of those that are suspended and on another one.
    pub fn migratable(&self, number: usize) -> Option<RunId> {
        let fits = |(id, run): (&RunId, &Run)| {
            let function = &self.plan.functions[run.function];
            let rests = matches!(run.state, RunState::Sleeping | RunState::Waiting | RunState::BackingOff);
            let newest = function.version_in(self.edition);
            let is_older = function.is_there(self.edition) && run.made_with.is_some_and(|made_with| made_with != newest);
            // Code that throws between steps would also do so when it is held against the records, and count that.
            let is_flaky = function.versions[newest].is_flaky();
            (rests && is_older && !is_flaky).then_some(*id)
        };
        let all: Vec<RunId> = self.runs.iter().filter_map(fits).collect();
        all.get(number % all.len().max(1)).copied()
    }

    /// G25: a run is taken to another version by hand: one that was in force in this engine's life, and fits what is recorded.
    pub(super) fn migrated(&mut self, id: RunId, to: Option<(usize, usize)>, now: Millis) {
        self.note(now, &format!("{id} was migrated to {to:?}"));
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.runs.get(&id) else { return };
        let function = &plan.functions[run.function];
        let was_in_force = |version: usize| {
            self.editions.iter().any(|(_, edition)| function.is_there(*edition) && function.version_in(*edition) == version)
        };
        let to = to.filter(|(of, version)| *of == run.function && was_in_force(*version)).map(|(_, version)| version);
        let input = self.input_of(run);
        let straight = to.and_then(|to| straight::evaluate(&function.versions[to], function.attempts, input, &run.records));
        let Some((to, straight)) = to.zip(straight) else {
            return self.broken(format!("G25: {id} was migrated to a version that was not in force, or does not fit its record"));
        };
        if let Some(run) = self.runs.get_mut(&id) {
            (run.made_with, run.runs_on, run.straight) = (Some(to), to, straight);
        }
    }

    /// The editions by which the engine may have decided at a time: one, or both where it was swapped in that millisecond.
    pub(super) fn editions_at(&self, at: Millis) -> impl Iterator<Item = usize> {
        let ends = self.editions.iter().skip(1).map(|(since, _)| *since).chain([Millis(i64::MAX)]);
        self.editions.iter().zip(ends).filter(move |((since, _), end)| *since <= at && at <= *end).map(|((_, edition), _)| *edition)
    }

    /// Whether an event that was accepted at this time is for a function, which it would start. In the millisecond in which the
    /// function was taken away it may be or not; then what was said of it tells.
    pub(super) fn may_start(&self, event: EventId, function: usize, accepted: Millis) -> bool {
        let declared = &self.plan.functions[function];
        let there: Vec<bool> = self.editions_at(accepted).map(|edition| declared.is_there(edition)).collect();
        there.iter().all(|there| *there) || (there.contains(&true) && self.is_said(event, function))
    }
}
