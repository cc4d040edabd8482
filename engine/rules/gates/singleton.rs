//! `singleton`: one unfinished run a key; a further event is skipped, or cancels that run and starts another one.
//!
//! Which run has a key is derived from the rows of the unfinished runs; there is no table of it.

use crate::base::{Millis, RunId};

use super::super::family::{self, Doomed};
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
    let reason = format!("singleton: run {by} takes its place");
    let doomed = |(at, run): (usize, &RunRow)| Doomed { run: run.clone(), reason: family::reason(at, &reason), told: Vec::new() };
    let mut list = family::cancel(holder.tree.iter().enumerate().map(doomed).collect(), holder.parent.as_ref(), now);
    if holder.own {
        list.expect.retain(|expect| !matches!(expect, Expect::NotEnded(run) if *run == holder.run()));
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
        assert_eq!(list.expect, [Expect::NotEnded(Id(1))]);
        let within = |write: &Write| if let Write::IfOpen { writes, .. } = write { writes.clone() } else { Vec::new() };
        let reason = |write: Write| match write {
            Write::End { reason, state: RunState::Cancelled, .. } => reason,
            _ => None,
        };
        let reasons: Vec<String> = list.writes.iter().flat_map(within).filter_map(reason).map(|reason| reason.to_string()).collect();
        let first = "singleton: run 0000000000009 takes its place";
        assert_eq!(reasons, [first.to_owned(), format!("the run that invoked it was cancelled: {first}")]);
        let own = replace(&Holder { tree, parent: None, own: true }, Id(9), Millis(5));
        assert_eq!(own.expect, [], "it is not stored before the list itself");
    }
}
