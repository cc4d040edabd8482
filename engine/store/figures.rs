//! What a store counts of its own work, for whoever looks on.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{Histogram, Reading};

/// Bounds of a transaction's time, in microseconds.
const MICROS: &[u64] = &[100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000];
/// Bounds of how much one transaction takes along.
const SIZES: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// What commits have come to since the store was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How long transactions took from their beginning until they were durable, in microseconds. Nothing is counted where the store
    /// was given no timer.
    pub micros: Reading,
    /// Lists that went into one transaction.
    pub lists: Reading,
    /// Rows that one transaction wrote, by `List::weight`.
    pub rows: Reading,
    /// Transactions that failed: of them nothing is stored.
    pub failed: u64,
    /// Flushes that were held up on purpose, as a slow disk does.
    pub held_up: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
    /// Bytes that are free where the store is kept; none where nobody says.
    pub free_bytes: Option<u64>,
    /// Whether a commit is flushed before it is answered, so that it survives the loss of power.
    pub flushes: bool,
}

impl Default for Figures {
    fn default() -> Figures {
        let sizes = || Reading::empty(SIZES);
        Figures {
            micros: Reading::empty(MICROS),
            lists: sizes(),
            rows: sizes(),
            failed: 0,
            held_up: 0,
            log_bytes: 0,
            free_bytes: None,
            flushes: false,
        }
    }
}

/// What a writer counts in: each transaction costs a few additions.
#[derive(Debug)]
pub(super) struct Meter {
    micros: Histogram,
    lists: Histogram,
    rows: Histogram,
    failed: AtomicU64,
    held_up: AtomicU64,
}

impl Default for Meter {
    fn default() -> Meter {
        let sizes = || Histogram::new(SIZES);
        Meter { micros: Histogram::new(MICROS), lists: sizes(), rows: sizes(), failed: AtomicU64::new(0), held_up: AtomicU64::new(0) }
    }
}

impl Meter {
    /// A transaction is durable.
    pub(super) fn done(&self, lists: usize, rows: usize, micros: Option<u64>) {
        self.lists.add(lists as u64);
        self.rows.add(rows as u64);
        if let Some(micros) = micros {
            self.micros.add(micros);
        }
    }

    /// A transaction has failed.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A flush was held up.
    pub(super) fn held_up(&self) {
        self.held_up.fetch_add(1, Ordering::Relaxed);
    }

    /// What it has counted; what is not counted is left as it is by default.
    pub(super) fn read(&self) -> Figures {
        let (micros, lists, rows) = (self.micros.read(), self.lists.read(), self.rows.read());
        let (failed, held_up) = (self.failed.load(Ordering::Relaxed), self.held_up.load(Ordering::Relaxed));
        Figures { micros, lists, rows, failed, held_up, ..Figures::default() }
    }
}
