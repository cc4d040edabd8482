//! `singleton`: one unfinished run a key; a further event is skipped, or cancels that run and starts another one.
//!
//! Which run has a key is derived from the rows of the unfinished runs; there is no table of it.

use crate::base::RunId;

use super::super::write::{Expect, List};

/// What becomes of an event while a run of its key is unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Singleton {
    /// It starts nothing.
    Skip,
    /// The run is cancelled, and it starts another one.
    Cancel,
}

/// The unfinished run that has a key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Holder {
    /// It.
    pub run: RunId,
    /// The list that cancels it with all that it has started and waits for; empty for `skip`.
    pub cancel: List,
    /// Whether the list that is being made has created it: then there is nothing to expect of it.
    pub own: bool,
}

/// Why a run is cancelled whose place `by` takes.
pub fn reason(by: RunId) -> String {
    format!("singleton: run {by} takes its place")
}

/// The list that cancels the run that has the key, for the one that takes its place.
pub fn replace(holder: &Holder) -> List {
    let mut list = holder.cancel.clone();
    if holder.own {
        list.expect.retain(|expect| !matches!(expect, Expect::NotEnded(run) if *run == holder.run));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Millis};
    use crate::rules::RunRow;
    use crate::rules::family::{self, Doomed};
    use crate::rules::run::example;

    #[test]
    fn the_list_that_has_made_a_run_does_not_expect_it_to_be_there() {
        let doomed = Doomed { run: RunRow { id: Id(1), ..example() }, reason: reason(Id(9)).into(), told: Vec::new() };
        let cancel = family::cancel(vec![doomed], None, Millis(5));
        let holder = Holder { run: Id(1), cancel: cancel.clone(), own: false };
        assert_eq!(replace(&holder), cancel);
        assert_eq!(cancel.expect, [Expect::NotEnded(Id(1))]);
        let own = replace(&Holder { own: true, ..holder });
        assert_eq!((own.expect, own.writes), (Vec::new(), cancel.writes), "it is not stored before the list itself");
        assert_eq!(reason(Id(9)), "singleton: run 0000000000009 takes its place");
    }
}
