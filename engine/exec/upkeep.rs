//! What is done now and then: deletes what is older than the config keeps, in chunks small enough that nobody notices,
//! and looks whether the store has found a fault by itself.

use std::sync::Arc;

use crate::base::Span;
use crate::rules::{List, Write};
use crate::store::Lane;

use super::Inner;

/// Rows of each kind that one chunk deletes; 500 took 1.6 ms where it was measured.
const CHUNK_ROWS: u32 = 500;
/// Chunks of one round.
const CHUNKS: usize = 20;
/// Every how many rounds it is looked for handlers' sources that nobody needs, which takes a look at every run.
const SOURCES_EVERY: u32 = 10;
/// How often the store is asked for a fault.
const LOOK: Span = Span::seconds(1);
/// The waits between two rounds: a hundredth of the shortest time that anything is kept, within these bounds.
const SHORTEST_WAIT: Span = Span::seconds(1);
const LONGEST_WAIT: Span = Span::seconds(60);

/// Looks after the store until the engine drains or its store fails.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut fault = inner.fault.subscribe();
    let mut closing = inner.ready.subscribe();
    // The first round waits until recovery is done; a closed channel means that the engine is gone.
    if closing.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    let mut swept = inner.clock.now();
    let mut rounds = 0_u32;
    loop {
        // In order, so that nothing hangs on chance: a seed of the simulation has to be the same each time.
        tokio::select! {
            biased;
            _ = fault.wait_for(Option::is_some) => return,
            // `ready` goes back to false when the engine has drained.
            _ = closing.wait_for(|ready| !ready) => return,
            () = inner.clock.sleep_until(inner.clock.now().after(LOOK), false) => {}
        }
        if let Some(error) = inner.store.fault() {
            return inner.fail(error);
        }
        let keep = inner.project().retention();
        let shortest = keep.completed.min(keep.failed).min(keep.cancelled).min(keep.events);
        let wait = Span(shortest.0 / 100).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        if inner.clock.now().since(swept) >= wait {
            swept = inner.clock.now();
            sweep(&inner).await;
            if rounds.is_multiple_of(SOURCES_EVERY) {
                drop_sources(&inner).await;
            }
            rounds = rounds.wrapping_add(1);
        }
    }
}

/// Deletes versions of handlers that are neither in force nor named by a run.
async fn drop_sources(inner: &Arc<Inner>) {
    // Those that were in force before the look too: a run may be about to begin on them.
    let mut kept = inner.reloads.versions(&inner.project());
    // It takes a while, for which upkeep has a thread of its own. A store that fails shows elsewhere; what was not deleted is
    // deleted next time.
    let Ok(unneeded) = inner.store.unneeded_sources() else { return };
    if unneeded.is_empty() {
        return;
    }
    // The list goes the same way as the sources of a reload, which are noted before: so it never deletes those.
    let ticket = inner.reloads.with_versions(&inner.project(), |versions| {
        kept.extend(versions);
        let gone: Vec<Write> = unneeded.into_iter().filter(|hash| !kept.contains(hash)).map(Write::DropSource).collect();
        (!gone.is_empty()).then(|| inner.store.commit(Lane::Ingest, vec![List { expect: Vec::new(), writes: gone }]))
    });
    if let Some(ticket) = ticket {
        let _ = inner.outcome(ticket).await;
    }
}

async fn sweep(inner: &Inner) {
    let keep = inner.project().retention();
    for _ in 0..CHUNKS {
        let sweep = Write::Sweep { now: inner.clock.now(), keep, most: CHUNK_ROWS };
        let list = List { expect: Vec::new(), writes: vec![sweep] };
        // A full disk shows at the next commit of a run, which decides what to do about it.
        if inner.outcome(inner.store.commit(Lane::Ingest, vec![list])).await.is_err() {
            break;
        }
    }
}
