//! What the last engine left unsettled: runs that were at work when it ended, and runs whose parents it cancelled.
//!
//! The exclusive lock on the file proves that the last owner is gone, so a run that is stored as running is not running.

use std::sync::Arc;

use crate::base::RunId;
use crate::rules::{Ending, RunRow, RunState, Write, family, recovery};
use crate::store::StoreError;

use super::{Inner, lines};

/// Puts the runs back into the queue that are stored as running, and gives them as they are then.
///
/// # Errors
/// `Closed` where a commit failed for good, which is noted as the engine's fault.
pub(super) async fn recover(inner: &Inner, end: Ending, mut running: Vec<RunRow>) -> Result<Vec<RunRow>, StoreError> {
    let mut lists = recovery::recover(&running, end);
    let changes: Vec<Option<Write>> = lists.iter().map(|list| list.writes.first().cloned()).collect();
    lists.extend(Inner::source_lists(&inner.project()));
    inner.commit(lists).await.ok_or(StoreError::Closed)?;
    // The rows in hand are brought to where the commit has taken the stored ones.
    for (row, write) in running.iter_mut().zip(changes) {
        let Some(write) = write else { continue };
        row.rev += 1;
        match write {
            Write::Requeue { suspects, .. } => {
                row.state = RunState::Queued;
                row.suspects = suspects;
            }
            Write::Park { reason, .. } => {
                lines::stands(row, RunState::Parked, Some(&reason));
                row.state = RunState::Parked;
                row.reason = Some(reason);
            }
            _ => {}
        }
    }
    if !running.is_empty() {
        tracing::info!(runs = running.len(), ?end, "took up runs that were interrupted");
    }
    Ok(running)
}

/// Of unfinished runs and those that invoked them, which have ended: the runs that were invoked while the cancel of the other one
/// was on its way to the disk, and that the last engine did not come to. With each, why it is to be cancelled.
///
/// # Errors
/// The store's.
pub(super) fn orphans(inner: &Inner, invoked: &[(RunId, RunId)]) -> Result<Vec<(RunId, Arc<str>)>, StoreError> {
    let mut orphans = Vec::new();
    for (run, parent) in invoked {
        let parent = inner.store.run(*parent)?.filter(|parent| parent.state == RunState::Cancelled);
        let reason = |parent: RunRow| family::reason(1, parent.reason.as_deref().unwrap_or("no reason was given"));
        orphans.extend(parent.map(|parent| (*run, reason(parent))));
    }
    Ok(orphans)
}
