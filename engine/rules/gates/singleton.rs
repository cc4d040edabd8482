//! `singleton`: one unfinished run a key; a further event is skipped, or cancels that run and starts another one.
//!
//! Which run has a key is derived from the rows of the unfinished runs; there is no table of it.

use crate::base::{Millis, RunId};

use super::super::family;
use super::super::row::RunRow;
use super::super::waits::WaitKey;
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
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// It, and all that it has started and waits for. For `skip`, it alone.
    pub tree: Vec<RunRow>,
    /// The wait of the run that invoked it.
    pub parent: Option<WaitKey>,
    /// Whether the list that is being made has created it: then there is nothing to expect of it.
    pub own: bool,
}

impl Holder {
    /// The run.
    pub fn run(&self) -> RunId {
        self.tree.first().map(|run| run.id).unwrap_or_default()
    }
}

/// The list that cancels the run that has the key, for the one that takes its place.
pub fn replace(holder: &Holder, by: RunId, now: Millis) -> List {
    let mut list = family::cancel(&holder.tree, &format!("singleton: run {by} takes its place"), now);
    if let (Some(run), Some(parent)) = (holder.tree.first(), &holder.parent) {
        list = family::end_with(list, run, parent);
    }
    if holder.own {
        list.expect.retain(|expect| !matches!(expect, Expect::RunRev { run, .. } if *run == holder.run()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;
    use crate::rules::run::example;
    use crate::rules::{RunState, Write};

    #[test]
    fn the_one_that_is_replaced_is_cancelled_with_all_that_it_has_started() {
        let tree = vec![RunRow { id: Id(1), rev: 4, ..example() }, RunRow { id: Id(2), rev: 0, ..example() }];
        let list = replace(&Holder { tree: tree.clone(), parent: None, own: false }, Id(9), Millis(5));
        assert_eq!(list.expect, [Expect::RunRev { run: Id(1), rev: 4 }, Expect::RunRev { run: Id(2), rev: 0 }]);
        let ends = list.writes.iter().filter(|write| matches!(write, Write::End { state: RunState::Cancelled, .. })).count();
        assert_eq!(ends, 2);
        let reason = list.writes.iter().find_map(|write| if let Write::End { reason, .. } = write { reason.as_deref() } else { None });
        assert_eq!(reason, Some("singleton: run 0000000000009 takes its place"));
        let own = replace(&Holder { tree, parent: None, own: true }, Id(9), Millis(5));
        assert_eq!(own.expect, [Expect::RunRev { run: Id(2), rev: 0 }], "it is not stored before the list itself");
    }
}
