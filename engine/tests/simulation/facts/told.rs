//! What the end of a run makes: where its function has a script for failures, that is told of each of them, once, in the list of the end.

use stepwell::base::{EventId, RunId};
use stepwell::rules::EventRow;
use stepwell::rules::ended::FAILED;

use super::{Facts, planned};

/// Whether an event tells of a run that has failed.
pub(super) fn is_of_failure(row: &EventRow) -> bool {
    *row.name == *FAILED
}

/// The `n` that a handler sees: that of its event, in a script for failures that of the event of the run that has failed.
pub(super) fn seen_in(row: &EventRow) -> i64 {
    let data = planned(row).data;
    let seen = if is_of_failure(row) { &data["event"]["data"] } else { &data };
    // The clock sends none.
    seen["n"].as_i64().unwrap_or(3)
}

impl Facts {
    /// A run has failed.
    pub(super) fn has_failed(&mut self, id: RunId, function: usize) {
        if self.plan.script_for(function).is_some() {
            self.untold.push(id);
        }
    }

    /// The script for failures that an event which has just come has started.
    pub(super) fn told_by(&mut self, event: EventId) -> Option<usize> {
        let data = self.events.get(&event).filter(|row| is_of_failure(row)).map(|row| planned(row).data)?;
        let Some(at) = self.untold.iter().position(|run| data["run_id"] == run.to_string()) else {
            self.broken(format!("I2: event {event} tells of a run that has not failed with it: {data}"));
            return None;
        };
        let run = self.runs.get(&self.untold.swap_remove(at))?;
        let (function, own) = (run.function, self.events.get(&run.event).map(|row| planned(row).data));
        let is_its = data["function_id"] == self.plan.functions[function].id && own.as_ref() == Some(&data["event"]["data"]);
        self.hold(is_its, || format!("I2: event {event} tells of the run as {data}, which came of {own:?}"));
        self.plan.script_for(function)
    }

    /// After a list: each failure in it was told.
    pub(super) fn check_told(&mut self) {
        for id in std::mem::take(&mut self.untold) {
            self.broken(format!("I2: {id} failed, and its script for failures has no run"));
        }
    }
}
