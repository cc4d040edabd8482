//! What an engine starts from: the unfinished runs of its store.
//!
//! The exclusive lock on the file proves that the last owner is gone, so a run that is stored as running is not running.

use crate::base::RunId;
use crate::rules::{Ending, RunRow, RunState, Write, recovery};
use crate::store::StoreError;

use super::Inner;

/// Reads the unfinished runs and puts those that were interrupted back into the queue.
///
/// # Errors
/// The store's; `Closed` where a commit failed for good, which is noted as the engine's fault.
pub(super) async fn recover(inner: &Inner, end: Ending) -> Result<Vec<RunRow>, StoreError> {
    let mut rows: Vec<RunRow> = Vec::new();
    inner.store.unfinished(&mut |row| rows.push(row))?;
    let running: Vec<RunRow> = rows.iter().filter(|row| row.state == RunState::Running).cloned().collect();
    let mut lists = recovery::recover(&running, end);
    let changes: Vec<(RunId, Write)> =
        running.iter().zip(&lists).filter_map(|(row, list)| list.writes.first().map(|write| (row.id, write.clone()))).collect();
    lists.extend(inner.source_lists());
    inner.commit(lists).await.ok_or(StoreError::Closed)?;
    // The rows in hand are brought to where the commit has taken the stored ones.
    let mut changes = changes.into_iter().peekable();
    for row in &mut rows {
        let Some((_, write)) = changes.next_if(|(run, _)| *run == row.id) else { continue };
        row.rev += 1;
        match write {
            Write::Requeue { suspects, .. } => {
                row.state = RunState::Queued;
                row.suspects = suspects;
            }
            Write::Park { reason, .. } => {
                tracing::error!(run = %row.id, function = %row.function, "parked: {reason}");
                row.state = RunState::Parked;
                row.reason = Some(reason);
            }
            _ => {}
        }
    }
    if !running.is_empty() {
        tracing::info!(runs = running.len(), ?end, "took up runs that were interrupted");
    }
    Ok(rows)
}
