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
    loop {
        tokio::select! {
            () = inner.clock.sleep_until(inner.clock.now().after(LOOK), false) => {}
            _ = fault.wait_for(Option::is_some) => return,
            // `ready` goes back to false when the engine has drained.
            _ = closing.wait_for(|ready| !ready) => return,
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
        }
    }
}

async fn sweep(inner: &Inner) {
    let keep = inner.project().retention();
    for _ in 0..CHUNKS {
        let sweep = Write::Sweep { now: inner.clock.now(), keep, most: CHUNK_ROWS };
        let list = List { expect: Vec::new(), writes: vec![sweep] };
        // A full disk or a failing one shows at the next commit of a run, which decides what to do about it.
        if inner.store.commit(Lane::Ingest, vec![list]).await.is_err() {
            break;
        }
    }
}
