//! What counting gates have counted: written within the writer's transaction, read back once at start, swept when expired.

use rusqlite::{Connection, Statement, params};

use crate::base::{Id, Millis};
use crate::rules::{Gate, WindowKey, WindowRow};

use super::super::StoreError;
use super::apply::prepare;
use super::names::Names;

/// Where a row stands in the order of the table: function, gate, key, entry.
type Place = (i64, i64, String, i64);

/// The writer's statements about windows.
pub(super) struct Windows<'c> {
    put: Statement<'c>,
    raise: Statement<'c>,
    page: Statement<'c>,
    delete: Statement<'c>,
    /// The last row that a sweep has looked at.
    last: Option<Place>,
}

impl<'c> Windows<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Windows<'c>> {
        let sql = |text: &str| prepare(connection, text);
        Ok(Windows {
            put: sql("INSERT OR REPLACE INTO windows (function, gate, key, entry, value, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            raise: sql("INSERT INTO windows (function, gate, key, entry, value, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT DO UPDATE SET value = ?5, expires = ?6 WHERE value < ?5")?,
            page: sql("SELECT function, gate, key, entry, expires FROM windows WHERE (function, gate, key, entry) > (?1, ?2, ?3, ?4) \
                 ORDER BY function, gate, key, entry LIMIT ?5")?,
            delete: sql("DELETE FROM windows WHERE function = ?1 AND gate = ?2 AND key = ?3 AND entry = ?4")?,
            last: None,
        })
    }

    /// Sweeps from the beginning: a transaction was rolled back.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Stores a row in place of the one that is there; `function` is the number of its name.
    pub(super) fn put(&mut self, function: i64, row: &WindowRow) -> Result<(), StoreError> {
        execute(&mut self.put, function, row)
    }

    /// The same, unless the one that is there counts more.
    pub(super) fn raise(&mut self, function: i64, row: &WindowRow) -> Result<(), StoreError> {
        execute(&mut self.raise, function, row)
    }

    /// Deletes what has expired: at most `most` of the next `look_at` rows. They count no more anyway.
    pub(super) fn sweep(&mut self, now: Millis, most: u32, look_at: i64) -> Result<(), StoreError> {
        let (function, gate, key, entry) = self.last.take().unwrap_or((i64::MIN, i64::MIN, String::new(), i64::MIN));
        let mut seen = 0;
        let mut old: Vec<Place> = Vec::new();
        let mut rows = self.page.query(params![function, gate, key, entry, look_at])?;
        while let Some(row) = rows.next()? {
            seen += 1;
            let place: Place = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let expires: i64 = row.get(4)?;
            if expires <= now.0 && old.len() < most as usize {
                old.push(place.clone());
            }
            self.last = Some(place);
        }
        drop(rows);
        if seen < look_at {
            self.last = None;
        }
        for (function, gate, key, entry) in old {
            self.delete.execute(params![function, gate, key, entry])?;
        }
        Ok(())
    }
}

fn execute(statement: &mut Statement<'_>, function: i64, row: &WindowRow) -> Result<(), StoreError> {
    let WindowKey { gate, key, .. } = &row.window;
    statement.execute(params![function, *gate as u8, &**key, row.entry.0, row.value, row.expires.0])?;
    Ok(())
}

/// Calls `each` with every row, expired ones that have not been swept included, in the order of the table.
pub(super) fn read(connection: &Connection, names: &Names, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
    let mut statement = connection.prepare("SELECT function, gate, key, entry, value, expires FROM windows")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let gate = Gate::from_number(row.get(1)?).ok_or_else(|| StoreError::Corrupt("a window is of no known gate".to_owned()))?;
        let window = WindowKey { function: names.text(connection, row.get(0)?)?, gate, key: row.get(2)? };
        each(WindowRow { window, entry: Id(row.get(3)?), value: row.get(4)?, expires: Millis(row.get(5)?) });
    }
    Ok(())
}
