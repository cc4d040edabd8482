//! SQLite files of the user's own. Statements run on threads that may block.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, InterruptHandle, OpenFlags, ToSql, params_from_iter};
use tokio::sync::Semaphore;

use super::super::apart::{self, Outcome};
use super::cell::Cell;
use super::{CONNECTIONS_MOST, Found, RESULT_BYTES, Refused, Room, leaves_something_behind};
use crate::base::alloc;
use crate::script::attempt::Attempt;
use crate::script::error::Fault;

/// How long a statement waits for another writer of the file; after that its step is tried again.
const BUSY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
}

/// Breaks a statement off where nobody waits for it any more.
#[derive(Default)]
struct Breaker(Arc<Mutex<Watched>>);

#[derive(Default)]
enum Watched {
    /// The statement has not begun, or has ended.
    #[default]
    Idle,
    /// It runs, and this ends it.
    Runs(InterruptHandle),
    /// Nobody waits for it.
    Left,
}

impl Drop for Breaker {
    fn drop(&mut self) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Watched::Runs(handle) = std::mem::replace(&mut *watched, Watched::Left) {
            handle.interrupt();
        }
    }
}

impl Pool {
    pub(super) fn new(path: PathBuf) -> Pool {
        Pool { path, idle: Mutex::default(), places: Semaphore::new(CONNECTIONS_MOST) }
    }

    pub(super) fn ask(
        self: &Arc<Pool>,
        attempt: &Attempt,
        what: &str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Outcome<Result<Found, Refused>>, Fault> {
        // What goes to the task is freed there, so it is not the script's.
        let (breaker, sql) = alloc::uncounted(|| (Breaker::default(), sql.to_owned()));
        let (pool, handle) = (Arc::clone(self), Arc::clone(&breaker.0));
        let outcome = apart::task(attempt, what, None, async move {
            // It is never closed.
            let _place = pool.places.acquire().await;
            let inner = Arc::clone(&pool);
            let work = tokio::task::spawn_blocking(move || inner.perform(&sql, &cells, &handle));
            work.await.unwrap_or_else(|error| Err(Refused::again(error.to_string())))
        });
        alloc::uncounted(|| drop(breaker));
        outcome
    }

    fn perform(&self, sql: &str, cells: &[Cell], watched: &Mutex<Watched>) -> Result<Found, Refused> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.open()?,
        };
        if !set(watched, Watched::Runs(connection.get_interrupt_handle())) {
            return Err(Refused::again("nobody waits for it any more"));
        }
        let found = perform(&connection, sql, cells);
        set(watched, Watched::Idle);
        if connection.is_autocommit() && !leaves_something_behind(sql) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < CONNECTIONS_MOST {
                idle.push(connection);
            }
        }
        found
    }

    fn open(&self) -> Result<Connection, Refused> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Refused::again(format!("{}: {error}", folder.display())))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            // A statement reaches this file alone: none is attached, and none written by VACUUM INTO.
            connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
            // A single value that is too large is never made.
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, RESULT_BYTES as i32)?;
            Ok(connection)
        };
        open().map_err(|error| refused(&error))
    }
}

/// Whether somebody still waits.
fn set(watched: &Mutex<Watched>, now: Watched) -> bool {
    let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*watched, Watched::Left) {
        return false;
    }
    *watched = now;
    true
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Null => ToSqlOutput::Owned(Value::Null),
            Cell::Flag(flag) => ToSqlOutput::Owned(Value::Integer(i64::from(*flag))),
            Cell::Whole(whole) => ToSqlOutput::Owned(Value::Integer(*whole)),
            Cell::Float(float) => ToSqlOutput::Owned(Value::Real(*float)),
            Cell::Text(text) | Cell::Json(text) | Cell::Number(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Cell::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            // A script makes none.
            Cell::List(_) => ToSqlOutput::Owned(Value::Null),
        })
    }
}

fn perform(connection: &Connection, sql: &str, cells: &[Cell]) -> Result<Found, Refused> {
    let fail = |error: rusqlite::Error| refused(&error);
    let mut batch = rusqlite::Batch::new(connection, sql);
    let Some(mut statement) = batch.next().map_err(fail)? else { return Err(Refused::last("there is no statement")) };
    if !matches!(batch.next(), Ok(None)) {
        return Err(Refused::last("one statement at a time: what stands behind the `;` is another one"));
    }
    let wanted = statement.parameter_count();
    if wanted != cells.len() {
        return Err(Refused::last(format!("the statement has {wanted} parameters, and {} are given", cells.len())));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = Found { columns, ..Found::default() };
    let before = connection.total_changes();
    let mut room = Room::default();
    let mut rows = statement.query(params_from_iter(cells)).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        let cells: Result<Vec<Cell>, Refused> = (0..found.columns.len()).map(|at| Ok(read(row.get_ref(at).map_err(fail)?))).collect();
        let cells = cells?;
        room.take(found.rows.len() + 1, &cells)?;
        found.rows.push(cells);
    }
    drop(rows);
    // What triggers change does not count; and what changes nothing leaves the count of the statement before.
    found.changed = if connection.total_changes() == before { 0 } else { connection.changes() };
    Ok(found)
}

fn read(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(whole) => Cell::Whole(whole),
        ValueRef::Real(float) => Cell::Float(float),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

/// A file that is busy may be free the next time; a statement that is wrong stays so.
fn refused(error: &rusqlite::Error) -> Refused {
    use rusqlite::ErrorCode as Code;
    let again = match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::DiskFull
                | Code::SystemIoFailure
                | Code::CannotOpen
                | Code::OperationInterrupted
        ),
        None => false,
    };
    if error.sqlite_error_code() == Some(Code::TooBig) {
        return Refused::last(format!("a value takes more than {} MB", RESULT_BYTES / (1024 * 1024)));
    }
    Refused { message: error.to_string(), is_last: !again }
}
