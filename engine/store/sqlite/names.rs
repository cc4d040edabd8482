//! The names table: texts that recur in every row, each stored once and kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension, Statement};

use super::super::StoreError;

/// Names kept in memory; beyond, the memory starts anew (a sender may be allowed to invent event names).
const KEPT: usize = 16_384;
/// Names found by their address.
const RECENT: usize = 64;

/// The writer's side: from a text to its number, with new texts stored on the way.
pub(super) struct Interner<'c> {
    known: HashMap<Arc<str>, i64>,
    /// The texts asked for last, each at the place that its address gives it: the engine's rows share their names, so most
    /// are found by comparing two addresses. It holds the texts, so that no address is used again meanwhile.
    recent: [Option<(Arc<str>, i64)>; RECENT],
    find: Statement<'c>,
    add: Statement<'c>,
}

impl<'c> Interner<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Interner<'c>> {
        Ok(Interner {
            known: HashMap::new(),
            recent: [const { None }; RECENT],
            find: connection.prepare("SELECT id FROM names WHERE text = ?1")?,
            add: connection.prepare("INSERT INTO names (text) VALUES (?1) RETURNING id")?,
        })
    }

    /// The number of `text`.
    pub(super) fn id(&mut self, text: &Arc<str>) -> rusqlite::Result<i64> {
        // Texts are at least 16 bytes apart.
        let place = (Arc::as_ptr(text).addr() >> 4) % RECENT;
        if let Some((known, id)) = &self.recent[place]
            && Arc::ptr_eq(known, text)
        {
            return Ok(*id);
        }
        let id = self.look_up(text)?;
        self.recent[place] = Some((Arc::clone(text), id));
        Ok(id)
    }

    fn look_up(&mut self, text: &Arc<str>) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.get(text) {
            return Ok(*id);
        }
        let id = match self.find.query_row([&**text], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => self.add.query_row([&**text], |row| row.get(0))?,
        };
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        self.known.insert(Arc::clone(text), id);
        Ok(id)
    }

    /// Forgets what a transaction that was rolled back may have added.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.recent = [const { None }; RECENT];
    }
}

/// The readers' side: from a number to its text. A name that a reader sees is committed and never changes.
#[derive(Default)]
pub(super) struct Names {
    known: RwLock<HashMap<i64, Arc<str>>>,
}

impl Names {
    /// The text of `id`.
    pub(super) fn text(&self, connection: &Connection, id: i64) -> Result<Arc<str>, StoreError> {
        if let Some(text) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(text));
        }
        let text: Option<Arc<str>> =
            connection.prepare_cached("SELECT text FROM names WHERE id = ?1")?.query_row([id], |row| row.get(0)).optional()?;
        let text = text.ok_or_else(|| StoreError::Corrupt(format!("name {id} is missing")))?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(id, Arc::clone(&text));
        Ok(text)
    }

    /// The number of `text`, if any row can hold it.
    pub(super) fn id(&self, connection: &Connection, text: &str) -> Result<Option<i64>, StoreError> {
        let mut find = connection.prepare_cached("SELECT id FROM names WHERE text = ?1")?;
        Ok(find.query_row([text], |row| row.get(0)).optional()?)
    }
}
