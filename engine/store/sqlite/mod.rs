//! The store in a SQLite file.
//!
//! One thread writes: it turns the commits that wait into one transaction with one flush. Another one copies the
//! write-ahead log into the main file, off the path of commits. Reads have connections of their own.

mod apply;
mod ending;
mod error;
mod names;
mod open;
mod read;
mod row;
mod sweep;
mod together;
mod tools;
mod waits;
mod windows;
mod writer;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};
use rusqlite::{Connection, InterruptHandle};

use crate::base::{EventId, RunId, Span};
use crate::rules::{CronRow, Ending, EventRow, KvRow, List, LogRow, OutcomeRow, PauseRow, RunRow, SourceRow, WaitRow, WindowRow};

use super::figures::Meter;
use super::{EventQuery, Figures, Journal, Lane, Loaded, RunQuery, Stats, Store, StoreError, TakeUp, Ticket};
use ending::Note;
pub use tools::{Datum, QueryError, Table, query_readonly};
use waits::Which;
use writer::{Commit, Fault, Order, Writer};

/// How long a check is given to notice that it was interrupted.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(1);

/// What a commit survives once it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The loss of power, too.
    #[default]
    Full,
    /// The end of the process; the loss of power may take the last commits back.
    Normal,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What a commit survives.
    pub durability: Durability,
    /// Only to read, also while an engine owns the file: nothing is created, locked or changed, and `commit` answers
    /// `Closed`.
    pub read_only: bool,
    /// Waits so long before each flush, as a slow disk does.
    pub flush_delay: Span,
    /// The file may have so many pages of 4096 bytes; beyond, the disk counts as full. 0 for no limit.
    pub most_pages: u32,
    /// Tells microseconds that only ever grow, to measure transactions with; without it they are not measured.
    pub timer: Option<fn() -> u64>,
}

/// Why a file was not opened. It is then as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A live process owns it.
    #[error("another engine has the database open (process {pid})")]
    Locked {
        /// Its process id; 0 where it has not told yet.
        pid: u32,
    },
    /// A newer program wrote it.
    #[error("the database has version {found} of the schema; this program knows up to version {known}")]
    Newer {
        /// The file's version.
        found: i64,
        /// The newest one that this program knows.
        known: u32,
    },
    /// An older program wrote it, and this one only reads (read-only).
    #[error("the database has version {found} of the schema, and this program reads version {known}")]
    Older {
        /// The file's version.
        found: u32,
        /// The one that this program reads.
        known: u32,
    },
    /// It is no database of this engine.
    #[error("the file is not a database of this engine")]
    NotOurs,
    /// There is no such file (read-only).
    #[error("there is no database yet")]
    Missing,
    /// It is damaged.
    #[error("the database is corrupt: {0}")]
    Corrupt(String),
    /// The SQLite library is too old to be trusted with a write-ahead log.
    #[error("SQLite is older than 3.51.3, which can lose commits")]
    TooOldSqlite,
    /// The system refuses.
    #[error("the database cannot be opened: {0}")]
    Io(String),
}

/// A store in a SQLite file, owned by this process or opened to read.
pub struct Sqlite {
    path: PathBuf,
    readers: Readers,
    end: Ending,
    fault: Arc<Fault>,
    meter: Arc<Meter>,
    durability: Durability,
    owner: Option<Owner>,
}

use read::Readers;

/// What the owner of a file has besides its readers.
struct Owner {
    steps: Sender<Commit>,
    ingest: Sender<Commit>,
    orders: Sender<Order>,
    closing: AtomicBool,
    interrupt_check: Option<InterruptHandle>,
    /// Taken by the first `close`.
    threads: Mutex<Option<Threads>>,
}

/// What the first `close` waits for; the lock goes last.
struct Threads {
    writer: JoinHandle<(Connection, Result<(), StoreError>)>,
    others: Vec<JoinHandle<()>>,
    _lock: open::Lock,
}

impl Sqlite {
    /// Opens the file at `path`; an owner creates it, with its folder, where there is none.
    ///
    /// # Errors
    /// `OpenError` says why not; nothing was changed then.
    pub fn open(path: &Path, options: Options) -> Result<Sqlite, OpenError> {
        let readers = Readers::new(path.to_owned());
        let fault = Arc::new(Fault::default());
        let meter = Arc::new(Meter::default());
        let path = path.to_owned();
        if options.read_only {
            open::foreign_reader(&path)?;
            return Ok(Sqlite { path, readers, end: Ending::Clean, fault, meter, durability: options.durability, owner: None });
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| OpenError::io(folder, &error))?;
        }
        let lock = open::Lock::take(&path)?;
        let (connection, was_open) = open::writer(&path, options.durability)?;
        let end = Note::beside(&path).take(was_open)?;
        if options.most_pages > 0 {
            connection.pragma_update(None, "max_page_count", options.most_pages)?;
        }
        let owner = Owner::start(&path, connection, lock, end, &fault, (&meter, options))?;
        Ok(Sqlite { path, readers, end, fault, meter, durability: options.durability, owner: Some(owner) })
    }

    /// Carries out what was handed to `commit` so far, closes the file and gives its ownership up. Later commits answer
    /// `Closed`; a second call does nothing. Dropping the store does the same, without telling of errors.
    ///
    /// # Errors
    /// The fault that the store had before, or what went wrong at the last flush.
    pub fn close(&self) -> Result<(), StoreError> {
        let Some(owner) = &self.owner else {
            self.readers.close();
            return Ok(());
        };
        owner.closing.store(true, Ordering::SeqCst);
        let Some(threads) = owner.threads.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        // An error means that the writer is gone, which joining it tells.
        let _ = owner.orders.send(Order::Close);
        let ended = threads.writer.join();
        for thread in threads.others {
            // The check may be about to begin, when an interruption would pass unheard: so it is repeated.
            while let Some(check) = owner.interrupt_check.as_ref().filter(|_| !thread.is_finished()) {
                check.interrupt();
                std::thread::sleep(INTERRUPT_AGAIN);
            }
            // Its panic would have been told when it happened; it holds nothing that is needed here.
            let _ = thread.join();
        }
        self.readers.close();
        let (connection, outcome) = ended.map_err(|_| StoreError::Io("the writer's thread panicked".to_owned()))?;
        if outcome.and_then(|()| writer::finish(&connection))? {
            // The mark in the file says that it was closed, so a note that stays is not read.
            let _ = Note::beside(&self.path).remove();
        }
        Ok(())
    }

    /// Notes that the process was told to stop (or has to): whatever ends it from here on is no run's doing.
    pub fn note_told(&self) {
        if self.owner.is_some() {
            Note::beside(&self.path).told();
        }
    }

    /// The file beside the database whose text tells the next owner how this one ended.
    pub fn note(&self) -> PathBuf {
        Note::beside(&self.path).path().to_owned()
    }

    /// The live process that owns the file at `path`; none where nobody does.
    pub fn owner(path: &Path) -> Option<u32> {
        open::owner(path)
    }

    /// The bytes of the main file, and those of its write-ahead log.
    fn bytes(&self) -> (u64, u64) {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        (length(&self.path), length(Path::new(&log)))
    }
}

impl Owner {
    fn start(
        path: &Path,
        connection: Connection,
        lock: open::Lock,
        end: Ending,
        fault: &Arc<Fault>,
        (meter, options): (&Arc<Meter>, Options),
    ) -> Result<Owner, OpenError> {
        let (steps, steps_out) = unbounded();
        let (ingest, ingest_out) = unbounded();
        let (orders, orders_out) = bounded(1);
        let (checkpoint, asked) = bounded(1);
        let log_is_long = Arc::new(AtomicBool::new(false));
        let checkpointer = open::checkpointer(path)?;
        let mut others = Vec::new();
        let mut interrupt_check = None;
        if end != Ending::Clean {
            let reader = open::reader(path)?;
            interrupt_check = Some(reader.get_interrupt_handle());
            let fault = Arc::clone(fault);
            others.push(thread("store-check", move || quick_check(&reader, &fault))?);
        }
        let (long, checkpoint_fault) = (Arc::clone(&log_is_long), Arc::clone(fault));
        let file = open::Identity::of(path)?;
        let body = move || writer::checkpoints(&checkpointer, &asked, &long, &checkpoint_fault, &file);
        others.push(thread("store-checkpoint", body)?);
        let writer = Writer {
            steps: steps_out,
            ingest: ingest_out,
            orders: orders_out,
            fault: Arc::clone(fault),
            checkpoint,
            log_is_long,
            durability: options.durability,
            // So it was opened.
            flushes: Cell::new(options.durability == Durability::Full),
            flush_delay: options.flush_delay,
            timer: options.timer,
            meter: Arc::clone(meter),
            was_full: Cell::new(false),
        };
        let writer = thread("store-writer", move || writer.run(connection))?;
        let threads = Mutex::new(Some(Threads { writer, others, _lock: lock }));
        Ok(Owner { steps, ingest, orders, closing: AtomicBool::new(false), interrupt_check, threads })
    }
}

fn thread<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, OpenError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|error| OpenError::Io(format!("no thread: {error}")))
}

/// Looks the file through after an unclean end, while the engine is at work already.
fn quick_check(reader: &Connection, fault: &Fault) {
    match tools::check(reader, "quick_check") {
        Ok(lines) if lines.is_empty() => {}
        Ok(lines) => fault.set(StoreError::Corrupt(lines.join("; "))),
        // What it could not read, the engine may never need; a store that is closed interrupts it here.
        Err(StoreError::Corrupt(text)) => fault.set(StoreError::Corrupt(text)),
        Err(_) => {}
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // Who wants to know calls `close`.
        let _ = self.close();
    }
}

/// Rows that are handed on at once while many are read.
const ROWS_AHEAD: usize = 1_024;
/// Hands of rows that are read before they are asked for.
const HANDS_AHEAD: usize = 4;

/// Reads on a thread of its own while `each` takes up what was read before: a start-up with a million rows takes the longer
/// of both and not their sum.
fn ahead<T: Send>(
    read: impl FnOnce(&mut dyn FnMut(T)) -> Result<(), StoreError> + Send,
    each: &mut dyn FnMut(T),
) -> Result<(), StoreError> {
    let (give, take) = std::sync::mpsc::sync_channel::<Vec<T>>(HANDS_AHEAD);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut hand = Vec::with_capacity(ROWS_AHEAD);
            read(&mut |row| {
                hand.push(row);
                if hand.len() == ROWS_AHEAD {
                    // Nobody takes it where `each` has panicked, and then nobody asks for the result either.
                    let _ = give.send(std::mem::replace(&mut hand, Vec::with_capacity(ROWS_AHEAD)));
                }
            })?;
            let _ = give.send(hand);
            Ok(())
        });
        take.into_iter().flatten().for_each(each);
        reader.join().unwrap_or(Err(StoreError::Closed))
    })
}

impl Store for Sqlite {
    fn commit(&self, lane: Lane, lists: Vec<List>) -> Ticket {
        let (answer, ticket) = Ticket::new();
        if let Some(owner) = &self.owner
            && !owner.closing.load(Ordering::SeqCst)
        {
            let queue = match lane {
                Lane::Steps => &owner.steps,
                Lane::Ingest => &owner.ingest,
            };
            // A commit that meets no writer is dropped with its answer, and the ticket then says `Closed`.
            let _ = queue.send(Commit { lists, answer });
        }
        ticket
    }

    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.readers.event(id)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        self.readers.events(query)
    }

    fn outcomes(&self, event: EventId) -> Result<Vec<OutcomeRow>, StoreError> {
        self.readers.outcomes(event)
    }

    fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.readers.run(id)
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.readers.runs(query)
    }

    fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        ahead(|give| self.readers.unfinished(give), each)
    }

    fn journal(&self, run: RunId) -> Result<Journal, StoreError> {
        self.readers.journal(run)
    }

    fn load(&self, runs: &[RunId]) -> Result<Vec<Loaded>, StoreError> {
        self.readers.load(runs)
    }

    fn batch(&self, run: RunId) -> Result<Vec<EventId>, StoreError> {
        self.readers.batch(run)
    }

    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.readers.waits(run)
    }

    fn all_waits(&self, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
        ahead(|give| self.readers.many_waits(&Which::All, give), each)
    }

    fn start_from(&self, runs: &mut dyn TakeUp, wait: &mut (dyn FnMut(WaitRow) + Send)) -> Result<(), StoreError> {
        std::thread::scope(|scope| {
            // Waits are filed by the thread that reads them: each has a handful of texts, which are dear to free on another one.
            let waits = scope.spawn(|| self.readers.many_waits(&Which::Unpinned, wait));
            let mut left = Vec::new();
            let told = ahead(|give| self.readers.dormant(give), &mut |run| left.extend(runs.leaves(&run).then_some(run.run)));
            let runs = told.and_then(|()| ahead(|give| self.readers.open_outlines(&left, give), &mut |row| runs.take_up(row)));
            let waits = waits.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            runs.and(waits)
        })
    }

    fn outlines(&self, runs: &[RunId]) -> Result<Vec<RunRow>, StoreError> {
        self.readers.outlines(runs)
    }

    fn pinned_fields(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.readers.pinned_fields()
    }

    fn pinned(&self, field: &str, value: i64) -> Result<Vec<WaitRow>, StoreError> {
        self.readers.pinned(field, value)
    }

    fn waits_ended_by(&self, event: EventId, limit: usize) -> Result<Vec<WaitRow>, StoreError> {
        self.readers.waits_ended_by(event, limit)
    }

    fn crons(&self) -> Result<Vec<CronRow>, StoreError> {
        self.readers.crons()
    }

    fn all_windows(&self, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
        self.readers.all_windows(each)
    }

    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError> {
        self.readers.value(key)
    }

    fn pauses(&self) -> Result<Vec<PauseRow>, StoreError> {
        self.readers.pauses()
    }

    fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError> {
        self.readers.logs(run, from, limit)
    }

    fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError> {
        self.readers.source(hash)
    }

    fn sources_of(&self, handler: &str) -> Result<Vec<Arc<str>>, StoreError> {
        self.readers.sources_of(handler)
    }

    fn unneeded_sources(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.readers.unneeded_sources()
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        let (unfinished, largest_id) = self.readers.figures()?;
        let (main, log) = self.bytes();
        Ok(Stats {
            place: self.path.display().to_string(),
            version: open::VERSION,
            library: format!("SQLite {}", rusqlite::version()),
            bytes: main + log,
            unfinished,
            largest_id,
            end: self.end,
        })
    }

    fn backup(&self, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        tools::backup(&self.path, to, progress)
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        tools::check(&open::reader(&self.path)?, "integrity_check")
    }

    fn figures(&self) -> Figures {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Where the system does not say, nobody is alarmed for it.
        let free_bytes = rustix::fs::statvfs(folder).ok().map(|system| system.f_bavail.saturating_mul(system.f_frsize));
        let flushes = self.durability == Durability::Full;
        Figures { log_bytes: self.bytes().1, free_bytes, flushes, ..self.meter.read() }
    }

    fn fault(&self) -> Option<StoreError> {
        self.fault.get()
    }
}
