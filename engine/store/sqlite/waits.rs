//! The rows of waits: written within the writer's transaction, read back by readers.

use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use crate::base::{EventId, Id, Millis, RunId};
use crate::rules::{Kind, Pinned, Resolution, WaitKey, WaitRow, WaitState, Write};

use super::super::StoreError;
use super::apply::prepare;
use super::row::{self, Decoder};

/// The columns of `waits`, in the order that `decode` reads them.
const WAIT: &str = "run, kind, key, what, opened, until, state, event, failed, result, field, value";

const OPEN: i64 = 0;
const RESOLVED: i64 = 1;
const RECORDED: i64 = 2;

/// The writer's statements about waits.
pub(super) struct Waits<'c> {
    state: Statement<'c>,
    is_stored: Statement<'c>,
    has_had: Statement<'c>,
    open: Statement<'c>,
    found: Statement<'c>,
    drop_one: Statement<'c>,
    resolve: Statement<'c>,
    record: Statement<'c>,
    oldest: Statement<'c>,
    drop: Statement<'c>,
}

impl<'c> Waits<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Waits<'c>> {
        let sql = |text: &str| prepare(connection, text);
        Ok(Waits {
            state: sql("SELECT state FROM waits WHERE run = ?1 AND kind = ?2 AND key = ?3")?,
            is_stored: sql("SELECT 1 FROM events WHERE id = ?1")?,
            has_had: sql("SELECT 1 FROM waits WHERE run = ?1 AND event = ?2")?,
            open: sql("INSERT INTO waits (run, kind, key, what, opened, until, state, field, value) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8) ON CONFLICT DO NOTHING")?,
            found: sql("SELECT state, event FROM waits WHERE run = ?1 AND kind = ?2 AND key = ?3")?,
            drop_one: sql("DELETE FROM waits WHERE run = ?1 AND kind = ?2 AND key = ?3")?,
            resolve: sql("UPDATE waits SET state = 1, event = ?4, failed = ?5, result = ?6, field = NULL, value = NULL \
                 WHERE run = ?1 AND kind = ?2 AND key = ?3")?,
            record: sql("UPDATE waits SET state = 2, failed = 0, result = NULL, field = NULL, value = NULL \
                 WHERE run = ?1 AND kind = ?2 AND key = ?3")?,
            // The plus keeps SQLite from walking along the index of events.
            oldest: sql("SELECT min(+event) FROM waits WHERE run = ?1")?,
            drop: sql("DELETE FROM waits WHERE run = ?1")?,
        })
    }

    /// Whether a wait is open, and may be resolved by `event` if that is to be.
    pub(super) fn is_open(&mut self, wait: &WaitKey, event: Option<EventId>) -> Result<bool, StoreError> {
        if self.state(wait)? != Some(OPEN) {
            return Ok(false);
        }
        let Some(event) = event else { return Ok(true) };
        Ok(self.is_stored.exists([event.0])? && !self.has_had.exists([wait.run.0, event.0])?)
    }

    fn state(&mut self, wait: &WaitKey) -> rusqlite::Result<Option<i64>> {
        self.state.query_row(params![wait.run.0, wait.kind as u8, &*wait.key], |row| row.get(0)).optional()
    }

    /// Carries out what is written about a wait of a run that has not ended; says which event it named and no longer does. `field` is the
    /// number of the field that one which is opened is found by.
    pub(super) fn write(&mut self, write: &Write, field: Option<i64>) -> Result<Option<i64>, StoreError> {
        match write {
            Write::OpenWait(row) => self.open(row, field),
            Write::ResolveWait { wait, with } => self.resolve(wait, with).map(|()| None),
            Write::RecordWait(wait) => {
                self.record.execute(params![wait.run.0, wait.kind as u8, &*wait.key])?;
                Ok(None)
            }
            Write::DropWait(wait) => self.drop_one(wait, |state| state != RECORDED),
            _ => Ok(None),
        }
    }

    /// Deletes a wait in one of the states that `which` says; says which event it named.
    fn drop_one(&mut self, wait: &WaitKey, which: impl Fn(i64) -> bool) -> Result<Option<i64>, StoreError> {
        let key = params![wait.run.0, wait.kind as u8, &*wait.key];
        let found: Option<(i64, Option<i64>)> = self.found.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((_, named)) = found.filter(|(state, _)| which(*state)) else { return Ok(None) };
        self.drop_one.execute(key)?;
        Ok(named)
    }

    /// A wait that is opened again takes its place after all others.
    fn open(&mut self, row: &WaitRow, field: Option<i64>) -> Result<Option<i64>, StoreError> {
        let WaitKey { run, kind, key } = &row.wait;
        let what = serde_json::to_vec(&*row.what).map_err(|error| StoreError::Corrupt(format!("a wait is not JSON: {error}")))?;
        let value = row.pin.as_ref().map(|pin| pin.value);
        let values = params![run.0, *kind as u8, &**key, what, row.opened.0, row.until.map(|at| at.0), field, value];
        if self.open.execute(values)? > 0 {
            return Ok(None);
        }
        let named = self.drop_one(&row.wait, |_| true)?;
        self.open.execute(values)?;
        Ok(named)
    }

    /// Open → resolved; nothing where it is not open.
    fn resolve(&mut self, wait: &WaitKey, with: &Resolution) -> Result<(), StoreError> {
        if self.state(wait)? != Some(OPEN) {
            return Ok(());
        }
        let (event, failed, result) = match with {
            Resolution::Event(event) => (Some(event.0), false, None),
            Resolution::Value(value) => (None, false, Some(value.as_bytes().to_vec())),
            Resolution::Failed(failure) => (None, true, Some(row::failure_bytes(failure)?)),
            Resolution::TimedOut => (None, false, None),
        };
        self.resolve.execute(params![wait.run.0, wait.kind as u8, &*wait.key, event, failed, result])?;
        Ok(())
    }

    /// Deletes the waits of a run; says which of the events that they named is the oldest.
    pub(super) fn drop(&mut self, run: RunId) -> Result<Option<i64>, StoreError> {
        let oldest: Option<i64> = self.oldest.query_row([run.0], |row| row.get(0))?;
        self.drop.execute([run.0])?;
        Ok(oldest)
    }
}

fn damaged() -> StoreError {
    StoreError::Corrupt("a wait holds a value that was never written".to_owned())
}

/// A row as it was written.
fn decode(decoder: &Decoder<'_>, row: &Row<'_>) -> Result<WaitRow, StoreError> {
    let kind = Kind::from_number(row.get(1)?).ok_or_else(damaged)?;
    let what = row.get_ref(3)?.as_blob().map_err(|_| damaged())?;
    let state = match row.get(6)? {
        OPEN => WaitState::Open,
        state => decided(row, state)?,
    };
    let pin = match (row.get::<_, Option<i64>>(10)?, row.get(11)?) {
        (Some(field), Some(value)) => Some(Pinned { field: decoder.names.text(decoder.connection, field)?, value }),
        _ => None,
    };
    Ok(WaitRow {
        wait: WaitKey { run: Id(row.get(0)?), kind, key: row.get(2)? },
        what: Arc::new(serde_json::from_slice(what).map_err(|_| damaged())?),
        opened: Millis(row.get(4)?),
        until: row.get::<_, Option<i64>>(5)?.map(Millis),
        state,
        pin,
    })
}

/// Where a wait stands that is not open any more: the columns that say so are of no use for one that is.
fn decided(row: &Row<'_>, state: i64) -> Result<WaitState, StoreError> {
    let event: Option<EventId> = row.get::<_, Option<i64>>(7)?.map(Id);
    let result = match row.get_ref(9)? {
        ValueRef::Blob(bytes) => Some(std::str::from_utf8(bytes).map_err(|_| damaged())?),
        _ => None,
    };
    Ok(match (state, event, result) {
        (RESOLVED, Some(event), _) => WaitState::Resolved(Resolution::Event(event)),
        (RESOLVED, None, Some(error)) if row.get(8)? => {
            WaitState::Resolved(Resolution::Failed(serde_json::from_str(error).map_err(|_| damaged())?))
        }
        (RESOLVED, None, Some(value)) => WaitState::Resolved(Resolution::Value(Arc::from(value))),
        (RESOLVED, None, None) => WaitState::Resolved(Resolution::TimedOut),
        (RECORDED, event, _) => WaitState::Recorded(event),
        _ => return Err(damaged()),
    })
}

/// Which waits are read.
pub(super) enum Which {
    All,
    OfRun(RunId),
    /// Those that are not found by a value.
    Unpinned,
    /// The open ones that are found by this field and value.
    Pinned(i64, i64),
}

impl Which {
    /// The question, and the values in it. That both columns are NULL is said of each, so that their index gives the rows in order.
    pub(super) fn sql(&self) -> (String, Vec<Value>) {
        let (condition, values) = match *self {
            Which::All => ("true", Vec::new()),
            Which::OfRun(run) => ("run = ?1", vec![run.0]),
            Which::Unpinned => ("field IS NULL AND value IS NULL", Vec::new()),
            Which::Pinned(field, value) => ("field = ?1 AND value = ?2", vec![field, value]),
        };
        (format!("SELECT {WAIT} FROM waits WHERE {condition} ORDER BY id"), values.into_iter().map(Value::Integer).collect())
    }
}

/// Calls `each` with waits in the order of their opening.
pub(super) fn read(decoder: &Decoder<'_>, which: &Which, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
    let (sql, values) = which.sql();
    let mut statement = decoder.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        each(decode(decoder, row)?);
    }
    Ok(())
}

/// The next larger number of a field by which open waits are found: so few are there that each is looked up.
pub(super) const NEXT_FIELD: &str = "SELECT min(field) FROM waits WHERE field > ?1";

/// The fields by which open waits are found.
pub(super) fn fields(decoder: &Decoder<'_>) -> Result<Vec<Arc<str>>, StoreError> {
    let mut next = decoder.connection.prepare_cached(NEXT_FIELD)?;
    let (mut found, mut last) = (Vec::new(), i64::MIN);
    while let Some(field) = next.query_row([last], |row| row.get::<_, Option<i64>>(0))? {
        found.push(decoder.names.text(decoder.connection, field)?);
        last = field;
    }
    Ok(found)
}

/// The waits that an event has ended, in the order of their runs' ids.
pub(super) fn ended_by(decoder: &Decoder<'_>, event: EventId, limit: usize) -> Result<Vec<WaitRow>, StoreError> {
    // A negative limit is none.
    let limit = if limit == 0 { -1 } else { limit as i64 };
    let sql = format!("SELECT {WAIT} FROM waits WHERE event = ?1 ORDER BY run LIMIT ?2");
    let mut statement = decoder.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![event.0, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(decoder, row)?);
    }
    Ok(found)
}
