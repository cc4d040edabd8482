//! What the branches of a race leave behind that another branch has ended: waits that nothing is to end any more, and runs that
//! nobody waits for.

use crate::rules::race::LEFT;
use crate::rules::{List, WaitRow, What, Write};
use crate::script::PostError;
use crate::store::{Lane, StoreError};

use super::Inner;
use super::post::{Again, is_where_it_was};

/// Commits the record of a race, which `list` holds, with the end of what the branches that were left wait for, however long the disk is
/// full.
///
/// # Errors
/// `Lost` where the run was moved on by somebody else; then nothing of it is stored.
pub(super) async fn leave(inner: &Inner, race: &str, waits: &[WaitRow], list: &List) -> Result<(), PostError> {
    let failed = |error: StoreError| {
        inner.fail(error.clone());
        PostError::Store(error)
    };
    let reason = format!("{LEFT}`{race}`");
    loop {
        let now = inner.clock.now();
        let (ticket, dooms) = {
            let index = inner.waits();
            let mut all = list.clone();
            all.writes.extend(waits.iter().map(|row| Write::DropWait(row.wait.clone())));
            let mut dooms = Vec::new();
            for row in waits {
                let What::Run(child) = &*row.what else { continue };
                // One that has ended meanwhile has nobody to tell any more.
                let Some(child) = inner.store.run(*child).map_err(failed)?.filter(|child| !child.state.is_terminal()) else { continue };
                let doom = inner.doom_left(&index, child, &reason, now).map_err(failed)?;
                all.expect.extend(doom.list.expect.iter().cloned());
                all.writes.extend(doom.list.writes.iter().cloned());
                dooms.push(doom);
            }
            (inner.store.commit(Lane::Steps, vec![all]), dooms)
        };
        match inner.settle(ticket).await {
            None => {}
            Some(Ok(_)) => {
                let mut index = inner.waits_mut();
                waits.iter().for_each(|row| index.close(&row.wait));
                drop(index);
                dooms.into_iter().for_each(|doom| inner.cancelled(doom, now));
                return Ok(());
            }
            // It may be one of those that it has invoked which has ended, and not the run itself that has moved.
            Some(Err(Again::Stop(PostError::Lost))) if !dooms.is_empty() && is_where_it_was(inner, list)? => {
                tokio::task::yield_now().await;
            }
            Some(Err(Again::Stop(error))) => return Err(error),
            // Nothing else is expected of what is there.
            Some(Err(Again::Conflict(_))) => return Err(PostError::Lost),
        }
    }
}
