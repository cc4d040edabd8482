//! Retention within the writer's transaction: ended runs, the events that no run names, keys past their window.
//!
//! A sweep stands in the way of every other commit, so it looks at a bounded number of rows, and the next one goes on
//! where it stopped.

use rusqlite::{Connection, Statement, params};

use crate::base::{Id, Millis, Span};
use crate::rules::RunState;
use crate::rules::policy::Retention;

use super::super::StoreError;

/// Rows that one sweep looks at for each row that it may delete, and at least.
const LOOKED_AT: (i64, i64) = (20, 2_000);

/// Where a walk over the ids stands: nothing below `from` is due before `due`.
#[derive(Clone, Copy)]
struct Walk {
    from: i64,
    due: Millis,
}

/// Is due at once, and so starts at the first row.
const START: Walk = Walk { from: 0, due: Millis(i64::MIN) };
/// The longest that a walk goes without starting anew: what it missed (a row stored below its place) waits no longer.
const WALK_ANEW: Span = Span::seconds(3_600);

pub(super) struct Sweeper<'c> {
    keep: Option<Retention>,
    runs: Walk,
    events: Walk,
    old_runs: Statement<'c>,
    old_events: Statement<'c>,
    first_named: Statement<'c>,
    is_named: Statement<'c>,
    delete_run: [Statement<'c>; 6],
    delete_event: [Statement<'c>; 2],
    note_largest: Statement<'c>,
    event_keys: Keys<'c>,
    idempotency: Keys<'c>,
    delete_values: Statement<'c>,
}

impl<'c> Sweeper<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Sweeper<'c>> {
        let sql = |text: &str| connection.prepare(text);
        Ok(Sweeper {
            keep: None,
            runs: START,
            events: START,
            old_runs: sql("SELECT id, state, ended FROM runs WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3")?,
            old_events: sql("SELECT id FROM events WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3")?,
            first_named: sql("SELECT min(event) FROM (SELECT event FROM runs WHERE id = ?1 UNION ALL \
                 SELECT event FROM waits WHERE run = ?1 UNION ALL SELECT event FROM batched WHERE run = ?1)")?,
            is_named: sql("SELECT 1 FROM runs WHERE event = ?1 UNION ALL SELECT 1 FROM waits WHERE event = ?1 \
                 UNION ALL SELECT 1 FROM batched WHERE event = ?1 LIMIT 1")?,
            delete_run: [
                sql("DELETE FROM steps WHERE run = ?1")?,
                sql("DELETE FROM attempts WHERE run = ?1")?,
                sql("DELETE FROM logs WHERE run = ?1")?,
                sql("DELETE FROM waits WHERE run = ?1")?,
                sql("DELETE FROM batched WHERE run = ?1")?,
                sql("DELETE FROM runs WHERE id = ?1")?,
            ],
            delete_event: [sql("DELETE FROM outcomes WHERE event = ?1")?, sql("DELETE FROM events WHERE id = ?1")?],
            note_largest: sql("INSERT INTO meta (key, value) SELECT 'largest', max(coalesce((SELECT max(id) FROM events), 0), \
                 coalesce((SELECT max(id) FROM runs), 0)) WHERE true \
                 ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)")?,
            event_keys: Keys::new(connection, "event_keys")?,
            idempotency: Keys::new(connection, "idempotency")?,
            delete_values: sql("DELETE FROM kv WHERE key IN (SELECT key FROM kv WHERE expires <= ?1 ORDER BY expires LIMIT ?2)")?,
        })
    }

    /// Starts from the beginning: a transaction was rolled back.
    pub(super) fn forget(&mut self) {
        (self.runs, self.events) = (START, START);
    }

    /// Nobody may name `event` any more: the walk over events goes back to it.
    pub(super) fn freed(&mut self, event: Option<i64>) {
        self.events.from = event.map_or(self.events.from, |event| self.events.from.min(event));
    }

    pub(super) fn sweep(&mut self, now: Millis, keep: &Retention, most: u32) -> Result<(), StoreError> {
        if self.keep != Some(*keep) {
            self.keep = Some(*keep);
            self.forget();
        }
        // Ids that are given out later stay above all that were ever stored, also once those are gone.
        self.note_largest.execute([])?;
        self.sweep_runs(now, keep, most)?;
        self.sweep_events(now, keep.events, most)?;
        self.event_keys.sweep(now, most)?;
        self.idempotency.sweep(now, most)?;
        self.delete_values.execute([now.0, i64::from(most)])?;
        Ok(())
    }

    fn sweep_runs(&mut self, now: Millis, keep: &Retention, most: u32) -> Result<(), StoreError> {
        if now >= self.runs.due {
            self.runs = Walk { from: 0, due: now.after(WALK_ANEW) };
        }
        let shortest = keep.completed.min(keep.failed).min(keep.cancelled);
        let bound = first_kept(now, shortest);
        let look_at = looked_at(most);
        let mut walk = self.runs;
        let mut old: Vec<i64> = Vec::new();
        let mut rows = self.old_runs.query(params![walk.from, bound, look_at])?;
        while let Some(row) = rows.next()? {
            if old.len() >= most as usize {
                break;
            }
            let (id, state, ended): (i64, i64, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            walk.from = id + 1;
            let span = match RunState::from_number(state) {
                Some(RunState::Completed) => keep.completed,
                Some(RunState::Failed) => keep.failed,
                Some(RunState::Cancelled) => keep.cancelled,
                // It has yet to end, and is kept for a while after that.
                _ => {
                    walk.due = walk.due.min(now.after(shortest));
                    continue;
                }
            };
            let aged_from = ended.map(Millis).unwrap_or_default().max(Id(id).made_at());
            if now.since(aged_from) > span {
                old.push(id);
            } else {
                walk.due = walk.due.min(aged_from.after(span));
            }
        }
        drop(rows);
        self.runs = walk;
        for run in old {
            let first: Option<i64> = self.first_named.query_row([run], |row| row.get(0))?;
            self.freed(first);
            for delete in &mut self.delete_run {
                delete.execute([run])?;
            }
        }
        Ok(())
    }

    fn sweep_events(&mut self, now: Millis, keep: Span, most: u32) -> Result<(), StoreError> {
        if now >= self.events.due {
            self.events = Walk { from: 0, due: now.after(WALK_ANEW) };
        }
        let bound = first_kept(now, keep);
        let look_at = looked_at(most);
        let mut old: Vec<i64> = Vec::new();
        let mut rows = self.old_events.query(params![self.events.from, bound, look_at])?;
        while let Some(row) = rows.next()? {
            if old.len() >= most as usize {
                break;
            }
            let id: i64 = row.get(0)?;
            self.events.from = id + 1;
            if !self.is_named.exists([id])? {
                old.push(id);
            }
        }
        drop(rows);
        for id in old {
            for delete in &mut self.delete_event {
                delete.execute([id])?;
            }
        }
        Ok(())
    }
}

/// The most rows that a sweep looks at.
pub(super) fn looked_at(most: u32) -> i64 {
    i64::from(most).saturating_mul(LOOKED_AT.0).max(LOOKED_AT.1)
}

/// The first id that is not older than `keep` at `now`.
fn first_kept(now: Millis, keep: Span) -> i64 {
    Id::first_at(Millis(now.0.saturating_sub(keep.0))).0
}

/// Keys past their window in one of the two tables of keys. They count as free anyway: deleting them only saves space.
struct Keys<'c> {
    last: Option<(i64, String)>,
    page: Statement<'c>,
    delete: Statement<'c>,
}

impl<'c> Keys<'c> {
    fn new(connection: &'c Connection, table: &str) -> rusqlite::Result<Keys<'c>> {
        Ok(Keys {
            last: None,
            page: connection
                .prepare(&format!("SELECT name, key, expires FROM {table} WHERE (name, key) > (?1, ?2) ORDER BY name, key LIMIT ?3"))?,
            delete: connection.prepare(&format!("DELETE FROM {table} WHERE name = ?1 AND key = ?2"))?,
        })
    }

    fn sweep(&mut self, now: Millis, most: u32) -> Result<(), StoreError> {
        let look_at = looked_at(most);
        let (name, key) = self.last.take().unwrap_or((i64::MIN, String::new()));
        let mut seen = 0;
        let mut old: Vec<(i64, String)> = Vec::new();
        let mut rows = self.page.query(params![name, key, look_at])?;
        while let Some(row) = rows.next()? {
            seen += 1;
            let (name, key, expires): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if expires <= now.0 && old.len() < most as usize {
                old.push((name, key.clone()));
            }
            self.last = Some((name, key));
        }
        drop(rows);
        if seen < look_at {
            self.last = None;
        }
        for (name, key) in old {
            self.delete.execute(params![name, key])?;
        }
        Ok(())
    }
}
