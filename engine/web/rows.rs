//! Rows of the store, a few at a time: one of them may have megabytes, of which a page that looks at many keeps little.

use std::ops::ControlFlow;

use crate::base::Id;
use crate::rules::{EventRow, RunRow};
use crate::store::{EventQuery, RunQuery, Store, StoreError};

/// Rows that are read at once.
const AT_ONCE: usize = 64;

/// Shows the runs that a query means, newest first, until `each` breaks off; at most as many as the query's limit, which must be set.
///
/// # Errors
/// What the store says.
pub fn each_run(store: &dyn Store, query: &RunQuery, each: impl FnMut(RunRow) -> ControlFlow<()>) -> Result<(), StoreError> {
    let read = |to, limit| store.runs(&RunQuery { to, limit, ..query.clone() });
    few(query.limit, query.to, |run: &RunRow| run.id, read, each)
}

/// The runs that a query means, newest first, without their results.
///
/// # Errors
/// What the store says.
pub fn light_runs(store: &dyn Store, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
    let mut runs = Vec::new();
    each_run(store, query, |run| {
        runs.push(RunRow { output: None, ..run });
        ControlFlow::Continue(())
    })?;
    Ok(runs)
}

/// Shows the events that a query means, newest first, until `each` breaks off; at most as many as the query's limit, which must be set.
///
/// # Errors
/// What the store says.
pub fn each_event(store: &dyn Store, query: &EventQuery, each: impl FnMut(EventRow) -> ControlFlow<()>) -> Result<(), StoreError> {
    let read = |to, limit| store.events(&EventQuery { to, limit, ..query.clone() });
    few(query.limit, query.to, |event: &EventRow| event.id, read, each)
}

fn few<R>(
    most: usize,
    mut to: Option<Id>,
    id: impl Fn(&R) -> Id,
    read: impl Fn(Option<Id>, usize) -> Result<Vec<R>, StoreError>,
    mut each: impl FnMut(R) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut left = most;
    while left > 0 {
        let limit = left.min(AT_ONCE);
        let rows = read(to, limit)?;
        let is_last = rows.len() < limit;
        left -= limit;
        to = rows.last().map(|last| Id(id(last).0 - 1));
        for row in rows {
            if each(row).is_break() {
                return Ok(());
            }
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The ids that are shown of those from 1 to 200, and how many rows each read asked for.
    fn shown(most: usize, until: i64) -> (Vec<i64>, Vec<usize>) {
        let (mut shown, asked) = (Vec::new(), RefCell::new(Vec::new()));
        let read = |to: Option<Id>, limit: usize| {
            asked.borrow_mut().push(limit);
            Ok((1..=to.map_or(200, |to| to.0)).rev().take(limit).collect())
        };
        let each = |id| {
            shown.push(id);
            if id == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        few(most, None, |id: &i64| Id(*id), read, each).unwrap();
        (shown, asked.into_inner())
    }

    #[test]
    fn rows_come_a_few_at_a_time_and_no_more_than_are_wanted() {
        assert_eq!(shown(100, 0), ((101..=200).rev().collect(), vec![64, 36]));
        assert_eq!(shown(1_000, 0), ((1..=200).rev().collect(), vec![64, 64, 64, 64]));
        assert_eq!(shown(1_000, 190), ((190..=200).rev().collect(), vec![64]));
        assert_eq!(shown(0, 0), (vec![], vec![]));
    }
}
