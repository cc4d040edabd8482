//! The thread that alone writes, and the thread that copies the write-ahead log into the main file.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, select_biased};
use rusqlite::Connection;

use crate::base::Span;
use crate::base::limits::BATCH_ROWS;
use crate::rules::List;

use super::super::figures::Meter;
use super::super::{Answer, StoreError, Verdict};
use super::Durability;
use super::apply::Applier;
use super::{error, open};

/// Rows after which the log is copied into the main file.
const CHECKPOINT_ROWS: usize = 8_000;
/// Pages in the log from which on the writer itself finishes the copy, so that the log starts anew: 64 MB.
const LOG_PAGES: i64 = 16_384;

/// How often the writer looks for more before it falls asleep: some tens of microseconds on an idle machine.
const LINGERS: u32 = 100;

/// How often the file is looked after, at least.
const LOOK_AFTER_FILE: Duration = Duration::from_secs(1);

/// One call of `commit`.
pub(super) struct Commit {
    pub(super) lists: Vec<List>,
    pub(super) answer: Answer,
}

/// What the writer is told besides commits.
pub(super) enum Order {
    /// Drain both lanes, mark the file as closed, end.
    Close,
}

/// What the writer shares with the rest of the store.
#[derive(Default)]
pub(super) struct Fault {
    found: Mutex<Option<StoreError>>,
}

impl Fault {
    pub(super) fn get(&self) -> Option<StoreError> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a fault; the first one stays.
    pub(super) fn set(&self, error: StoreError) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// The writer's ends of its channels, and its settings.
pub(super) struct Writer {
    pub(super) steps: Receiver<Commit>,
    pub(super) ingest: Receiver<Commit>,
    pub(super) orders: Receiver<Order>,
    pub(super) fault: Arc<Fault>,
    pub(super) checkpoint: Sender<()>,
    /// Set by the checkpointer: the log has grown so long that the writer has to finish the copy.
    pub(super) log_is_long: Arc<AtomicBool>,
    pub(super) durability: Durability,
    /// Whether the connection flushes at each commit, as it was told last.
    pub(super) flushes: Cell<bool>,
    pub(super) flush_delay: Span,
    /// Tells microseconds, to measure transactions with.
    pub(super) timer: Option<fn() -> u64>,
    pub(super) meter: Arc<Meter>,
    /// The disk was full, and the log has not been copied since.
    pub(super) was_full: Cell<bool>,
}

impl Writer {
    /// Runs until the order to close; gives the connection back, with whether everything went well.
    pub(super) fn run(self, connection: Connection) -> (Connection, Result<(), StoreError>) {
        let outcome = match Applier::new(&connection) {
            Ok(mut applier) => self.serve(&connection, &mut applier),
            Err(error) => self.refuse(&error.into()),
        };
        (connection, outcome)
    }

    /// Answers every commit with a fault until the order to close: nothing can be written where the statements do not fit the file.
    fn refuse(&self, fault: &StoreError) -> Result<(), StoreError> {
        self.fault.set(fault.clone());
        loop {
            let commit = select_biased! {
                recv(self.steps) -> commit => commit.ok(),
                recv(self.ingest) -> commit => commit.ok(),
                recv(self.orders) -> _ => None,
            };
            let Some(commit) = commit else { return Err(fault.clone()) };
            commit.answer.give(Err(fault.clone()));
        }
    }

    fn serve(&self, connection: &Connection, applier: &mut Applier<'_>) -> Result<(), StoreError> {
        let mut rows_since_checkpoint = 0;
        let mut closing = false;
        loop {
            let mut batch = Batch::default();
            if !closing {
                self.linger();
                select_biased! {
                    recv(self.steps) -> commit => batch.extend(commit.ok()),
                    recv(self.ingest) -> commit => batch.extend(commit.ok()),
                    recv(self.orders) -> _ => closing = true,
                }
            }
            batch.fill(&self.steps, &self.ingest);
            if batch.commits.is_empty() {
                if closing {
                    return self.fault.get().map_or(Ok(()), Err);
                }
                continue;
            }
            rows_since_checkpoint += batch.rows;
            self.carry_out(connection, applier, batch);
            if rows_since_checkpoint >= CHECKPOINT_ROWS {
                rows_since_checkpoint = 0;
                // A full channel means that a checkpoint is under way or due already.
                let _ = self.checkpoint.try_send(());
            }
            if self.log_is_long.swap(false, Ordering::Relaxed) {
                self.finish_checkpoint(connection);
            }
        }
    }

    /// Stays awake for a moment, since what was just answered is most often followed by the next commit: to fall asleep and be
    /// woken again costs an unloaded run more than its statements. Whoever has something to do has the processor meanwhile.
    fn linger(&self) {
        for _ in 0..LINGERS {
            if !(self.steps.is_empty() && self.ingest.is_empty() && self.orders.is_empty()) {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// One transaction, one flush, then every ticket of it.
    fn carry_out(&self, connection: &Connection, applier: &mut Applier<'_>, batch: Batch) {
        let began = self.timer.map(|timer| timer());
        let outcome = match self.fault.get() {
            Some(fault) => Err(fault),
            None => self.transact(connection, applier, &batch),
        };
        match outcome {
            Ok(verdicts) => {
                let micros = self.timer.zip(began).map(|(timer, began)| timer().saturating_sub(began));
                self.meter.done(batch.commits.iter().map(|commit| commit.lists.len()).sum(), batch.rows, micros);
                for (commit, verdicts) in batch.commits.into_iter().zip(verdicts) {
                    commit.answer.give(Ok(verdicts));
                }
            }
            Err(error) => {
                self.meter.failed();
                if error == StoreError::Full {
                    self.was_full.set(true);
                } else {
                    self.fault.set(error.clone());
                }
                for commit in batch.commits {
                    commit.answer.give(Err(error.clone()));
                }
            }
        }
    }

    fn transact(&self, connection: &Connection, applier: &mut Applier<'_>, batch: &Batch) -> Result<Vec<Vec<Verdict>>, StoreError> {
        self.make_room(connection)?;
        let flushes = self.durability == Durability::Full && !batch.may_be_lost;
        if self.flushes.get() != flushes {
            connection.pragma_update(None, "synchronous", if flushes { "full" } else { "normal" })?;
            self.flushes.set(flushes);
        }
        begin(connection)?;
        let outcome = batch
            .commits
            .iter()
            .map(|commit| commit.lists.iter().map(|list| applier.carry_out(list)).collect())
            .collect::<Result<Vec<Vec<Verdict>>, StoreError>>()
            .and_then(|verdicts| {
                applier.finish()?;
                if self.flush_delay.0 > 0 && !batch.may_be_lost {
                    std::thread::sleep(self.flush_delay.std());
                    self.meter.held_up();
                }
                connection.prepare_cached("COMMIT")?.execute([])?;
                Ok(verdicts)
            });
        if outcome.is_err() {
            applier.forget();
            // SQLite has rolled back by itself after some errors. If this rollback fails, the next BEGIN tells.
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        outcome
    }

    /// After the disk was full, the log is copied into the main file before anything is added to it: what room there is again
    /// would otherwise go to a log that cannot be copied any more, and so never starts anew.
    fn make_room(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.was_full.get() {
            let mut pragma = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
            let (pages, copied): (i64, i64) = pragma.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
            // Somebody who reads from the log, or copies it (then both are below zero), is no reason to refuse commits.
            self.was_full.set(pages < 0 || copied < pages);
        }
        Ok(())
    }

    /// Copies what the checkpointer has left over, while nobody adds to it: the next commit then starts the log anew.
    fn finish_checkpoint(&self, connection: &Connection) {
        if let Err(error) = checkpoint(connection, "PASSIVE") {
            self.note(error);
        }
    }

    fn note(&self, error: StoreError) {
        note_checkpoint_error(&self.fault, error);
    }
}

/// A checkpoint that finds the disk full is tried again later; one that finds it broken is a fault.
fn note_checkpoint_error(fault: &Fault, error: StoreError) {
    if error != StoreError::Full {
        fault.set(error);
    }
}

/// Begins a transaction, however long another program (a database shell) holds the write lock.
fn begin(connection: &Connection) -> Result<(), StoreError> {
    let mut begin = connection.prepare_cached("BEGIN IMMEDIATE")?;
    loop {
        match begin.execute([]) {
            Ok(_) => return Ok(()),
            Err(error) if error::is_busy(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The commits of one transaction.
struct Batch {
    commits: Vec<Commit>,
    rows: usize,
    /// Nothing in it has to outlast a power loss by itself: see `List::may_be_lost`.
    may_be_lost: bool,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { commits: Vec::new(), rows: 0, may_be_lost: true }
    }
}

impl Batch {
    fn extend(&mut self, commit: Option<Commit>) {
        if let Some(commit) = commit {
            self.rows += commit.lists.iter().map(List::weight).sum::<usize>();
            self.may_be_lost &= commit.lists.iter().all(List::may_be_lost);
            self.commits.push(commit);
        }
    }

    /// Steps first, but at least a quarter of the rows for ingest. A commit is never split.
    fn fill(&mut self, steps: &Receiver<Commit>, ingest: &Receiver<Commit>) {
        self.take(steps, BATCH_ROWS - BATCH_ROWS / 4);
        self.take(ingest, BATCH_ROWS);
        self.take(steps, BATCH_ROWS);
    }

    fn take(&mut self, lane: &Receiver<Commit>, up_to: usize) {
        while self.rows < up_to {
            match lane.try_recv() {
                Ok(commit) => self.extend(Some(commit)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }
}

/// Copies the log into the main file whenever the writer asks, until the writer is gone. In between it looks whether
/// the file is still in its place: what is written to a file that was deleted or replaced is lost.
pub(super) fn checkpoints(connection: &Connection, asked: &Receiver<()>, log_is_long: &AtomicBool, fault: &Fault, file: &open::Identity) {
    loop {
        match asked.recv_timeout(LOOK_AFTER_FILE) {
            Ok(()) => match checkpoint(connection, "PASSIVE") {
                Ok(pages) if pages > LOG_PAGES => log_is_long.store(true, Ordering::Relaxed),
                Ok(_) => {}
                Err(error) => note_checkpoint_error(fault, error),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !file.is_in_place() {
            fault.set(StoreError::Io("the database file was deleted or replaced".to_owned()));
        }
    }
}

/// The pages in the log afterwards, copied or not.
fn checkpoint(connection: &Connection, mode: &str) -> Result<i64, StoreError> {
    let mut pragma = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    Ok(pragma.query_row([], |row| row.get(1))?)
}

/// The last acts of an owner that has nothing left to write: marks the file as closed and puts everything into the main
/// file. Answers whether the mark is there: a full disk has no room for it, which loses nothing, since the next owner reads
/// the log.
pub(super) fn finish(connection: &Connection) -> Result<bool, StoreError> {
    let marked = unless_full(open::mark_open(connection, false).map_err(StoreError::from))?;
    let copied = unless_full(checkpoint(connection, "TRUNCATE"))?;
    if marked.is_none() || copied.is_none() {
        tracing::warn!("the disk is full: the write-ahead log stays beside the database; the next start reads it");
    }
    Ok(marked.is_some())
}

fn unless_full<T>(outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match outcome {
        Err(StoreError::Full) => Ok(None),
        outcome => outcome.map(Some),
    }
}
