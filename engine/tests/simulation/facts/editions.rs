//! Which edition of the project was in force when something was decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use stepwell::base::{EventId, Millis};
use stepwell::rules::RunState;

use super::Facts;

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
