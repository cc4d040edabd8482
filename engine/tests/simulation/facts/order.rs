//! Who may start, and who goes first: I6 and I7.

use std::sync::Arc;

use stepwell::base::{Millis, RunId, Span};
use stepwell::rules::{Hold, RunState, family};

use super::super::plan::{Function, Limit};
use super::{Facts, Run, told};

impl Facts {
    /// I7: nobody with the same slots who came before, or has begun already, is left behind.
    pub(super) fn check_turn(&mut self, id: RunId, at: Millis) {
        let Some(run) = self.runs.get(&id).filter(|run| run.started.is_none()) else { return };
        let function = &self.plan.functions[run.function];
        let alone = function.limits.iter().any(|limit| self.allowed(function, limit, at) == 1);
        let mut passed = None;
        for (other_id, other) in &self.runs {
            let alike = *other_id != id && other.function == run.function && other.keys == run.keys && throttle(other) == throttle(run);
            // A start that was refused is tried again later, once that is known: one that was admitted after it may come before it
            // on disk, unless it needs the same slot.
            if !alike || (!alone && self.refused.contains(other_id)) {
                continue;
            }
            // Of what an end makes others are told by whoever has committed that, once it is known that the run had begun.
            if self.way(other) == Way::End {
                continue;
            }
            // Before its answer nobody knows it; answers that are not late come in the order of the commits. What a script asks for
            // and what comes from outside are told by different tasks, and two answers of one moment in either order.
            let same_way = self.way(other) == self.way(run);
            let in_order = self.plan.disk.late == 0 && same_way && other.created_in <= run.created_in;
            // A batch that fills up in the moment in which its time is over, too, may have been let in by its old place.
            let is_told = other.filled.is_none_or(|filled| filled < at);
            let known = is_told && (other.known.is_some_and(|known| known < at) || in_order);
            let before = (place(other), *other_id) < (place(run), id) && other.enter <= at;
            // One whose time to start is over is about to be cancelled.
            let start = self.plan.functions[other.function].start;
            let overdue = start.is_some_and(|start| at >= self.may_start_from(other.function, other.enter).after(Span::seconds(start)));
            let is_first = other.started.is_none() && other.state == RunState::Queued && known && before && !overdue;
            let due = match other.state {
                RunState::Sleeping | RunState::BackingOff => {
                    let told = other.heard.zip(other.begun).map(|(heard, begun)| heard.max(begun));
                    other.wake.is_some_and(|wake| wake < at) && told.is_some_and(|told| told < at)
                }
                _ => false,
            };
            // One that has taken too long since its first start is cancelled when it goes on, before it does anything.
            let finish = self.plan.functions[other.function].finish;
            let too_long = finish.zip(other.started).is_some_and(|(finish, started)| at >= started.after(Span::seconds(finish)));
            if is_first || (due && other.started.is_some() && !too_long) {
                passed = Some((*other_id, is_first));
            }
        }
        if let Some((other, first)) = passed {
            let why = if first { "came before it" } else { "had begun before and was due" };
            self.broken(format!("I7: {id} began before {other}, which {why}"));
        }
    }

    /// By whom an engine hears of a run.
    fn way(&self, run: &Run) -> Way {
        match self.events.get(&run.event) {
            _ if run.replays => Way::Replay,
            _ if self.is_called(run.event) => Way::Call,
            Some(event) if &*event.name == family::INVOKED => Way::Invoke,
            Some(event) if told::is_of_failure(event) => Way::End,
            _ => Way::Event,
        }
    }

    /// How many a limit lets in at most by what was in force when a start was decided, or has come into force since: others may have
    /// been started by that, and come to the disk before.
    fn allowed(&self, function: &Function, limit: &Limit, at: Millis) -> u32 {
        let since = self.editions_at(at).chain([self.edition]).min().unwrap_or(self.edition);
        (since..=self.edition).map(|edition| function.limit_in(limit, edition)).max().unwrap_or(limit.limit)
    }

    /// I6: no limit is exceeded by a start. One that is lowered takes no slot away from those that have one.
    pub(super) fn check_slots(&mut self, id: RunId, at: Millis, anew: bool) {
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.runs.get(&id) else { return };
        let mut over = Vec::new();
        let function = &plan.functions[run.function];
        for (number, limit) in function.limits.iter().enumerate() {
            if limit.hold == Hold::Run && !anew {
                continue;
            }
            let holders = self.holders(run, number);
            let allowed = self.allowed(function, limit, at);
            if holders.len() > allowed as usize {
                let (scope, key) = (scope(function, number), &run.keys[number]);
                over.push(format!("I6: {holders:?} hold {scope} for {key} at once; the limit is {allowed}"));
            }
        }
        over.into_iter().for_each(|what| self.broken(what));
    }

    /// The runs that have a slot of this one of a run's limits, for its key.
    pub(super) fn holders(&self, run: &Run, number: usize) -> Vec<RunId> {
        let own = &self.plan.functions[run.function];
        let (hold, wanted) = (own.limits[number].hold, scope(own, number));
        let holders = self.runs.iter().filter(|(_, other)| {
            let holds = match hold {
                Hold::Active => other.state == RunState::Running,
                Hold::Run => other.started.is_some() && !other.state.is_terminal() && other.state != RunState::Parked,
            };
            let function = &self.plan.functions[other.function];
            let same = |at: usize| wanted == scope(function, at) && other.keys[at] == run.keys[number];
            // Nobody knows the limits of a function that is gone.
            holds && function.is_there(self.edition) && (0..function.limits.len()).any(same)
        });
        holders.map(|(id, _)| *id).collect()
    }
}

/// Who tells an engine of a run that is new.
#[derive(PartialEq, Eq)]
enum Way {
    /// Whoever takes in events.
    Event,
    /// The script that has invoked it.
    Invoke,
    /// Whoever has invoked it from outside.
    Call,
    /// Whoever has another run done again.
    Replay,
    /// The end of another run.
    End,
}

/// Its place in line, with its head start.
fn place(run: &Run) -> i64 {
    run.enter.0 - run.priority
}

fn throttle(run: &Run) -> Option<Arc<str>> {
    run.gates.as_ref()?.throttle.clone()
}

fn scope(function: &Function, number: usize) -> String {
    function.limits[number].shared.clone().unwrap_or_else(|| format!("{}#{number}", function.id))
}
