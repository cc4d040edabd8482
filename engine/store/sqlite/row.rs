//! Rows as SQLite keeps them, read back.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::base::{Id, Json, Millis};
use crate::rules::row::LogLevel;
use crate::rules::row::Recorded;
use crate::rules::{AttemptRow, Dormant, EventRow, Failure, GateKeys, Kind, LogRow, Record, RunRow, RunState};

use super::super::StoreError;
use super::names::Names;

/// The columns of `events`, in the order that `event` reads them.
pub(super) const EVENT: &str = "id, name, data, sender_id, ts, accepted, extra";
/// The columns of `runs`, in the order that `run` reads them.
pub(super) const RUN: &str = "id, rev, state, attempt, suspects, function, event, created, enter, started, ended, wake, priority_ms, \
                              version, keys, idempotency, gates, output, error, reason, replay_of, invoked_by";
/// Those of them that an outline has, in the order that `outline` reads them. Of the last six few runs have any: the value before them says
/// whether to look, since to look at a value takes as long as to make it.
pub(super) const OUTLINE: &str = "id, rev, state, suspects, function, event, created, started, wake, \
                                  coalesce(ended, enter, nullif(priority_ms, 0), keys, gates, invoked_by), \
                                  ended, enter, priority_ms, keys, gates, invoked_by";
/// What is read of a dormant run, in the order that `dormant` reads it, and from where.
pub(super) const DORMANT: &str = "id, wake, function, state FROM runs INDEXED BY runs_dormant \
                                  WHERE state BETWEEN 2 AND 4 AND gates IS NULL AND invoked_by IS NULL";
/// The columns of `steps`, in the order that `record` reads them.
pub(super) const STEP: &str = "idx, key, kind, failed, result, attempts, started, ended, line";
/// The columns of `attempts`, in the order that `attempt` reads them.
pub(super) const ATTEMPT: &str = "key, attempt, started, ended, error, next, line";
/// The columns of `logs`, in the order that `log` reads them.
pub(super) const LOG: &str = "at, level, message, data, step";

/// Concurrency keys as one text, one a line (canonical JSON text holds no line break); none for no keys.
pub(super) fn join_keys(keys: &[Arc<str>]) -> Option<String> {
    (!keys.is_empty()).then(|| keys.join("\n"))
}

fn split_keys(keys: Option<&str>) -> Arc<[Arc<str>]> {
    keys.map(|keys| keys.split('\n').map(Arc::from).collect()).unwrap_or_default()
}

/// The keys of a run's gates as JSON text.
pub(super) fn gates_text(gates: &GateKeys) -> Result<String, StoreError> {
    serde_json::to_string(gates).map_err(|error| StoreError::Corrupt(format!("the keys of gates are not JSON: {error}")))
}

fn gates(row: &Row<'_>, at: usize) -> Result<Option<Arc<GateKeys>>, StoreError> {
    let text = row.get_ref(at)?.as_str_or_null().map_err(|_| damaged("runs.gates"))?;
    text.map(|text| serde_json::from_str(text).map(Arc::new).map_err(|_| damaged("runs.gates"))).transpose()
}

/// Turns numbers of names into names while rows are read.
pub(super) struct Decoder<'a> {
    pub(super) names: &'a Names,
    pub(super) connection: &'a Connection,
}

impl Decoder<'_> {
    pub(super) fn event(&self, row: &Row<'_>) -> Result<EventRow, StoreError> {
        Ok(EventRow {
            id: Id(row.get(0)?),
            name: self.names.text(self.connection, row.get(1)?)?,
            data: json(row, 2)?,
            sender_id: row.get(3)?,
            ts: Millis(row.get(4)?),
            accepted: Millis(row.get(5)?),
            extra: optional_json(row, 6)?,
        })
    }

    pub(super) fn run(&self, row: &Row<'_>) -> Result<RunRow, StoreError> {
        let created = Millis(row.get(7)?);
        let keys = row.get_ref(14)?.as_str_or_null().map_err(|_| damaged("runs.keys"))?;
        Ok(RunRow {
            id: Id(row.get(0)?),
            rev: row.get(1)?,
            state: RunState::from_number(row.get(2)?).ok_or_else(|| damaged("runs.state"))?,
            attempt: row.get(3)?,
            suspects: row.get(4)?,
            function: self.names.text(self.connection, row.get(5)?)?,
            event: Id(row.get(6)?),
            created,
            enter: millis(row, 8)?.unwrap_or(created),
            started: millis(row, 9)?,
            ended: millis(row, 10)?,
            wake: millis(row, 11)?,
            priority_ms: row.get(12)?,
            version: self.name(row, 13)?,
            keys: split_keys(keys),
            idempotency: row.get(15)?,
            gates: gates(row, 16)?,
            output: optional_json(row, 17)?,
            error: optional_json(row, 18)?.map(|text| failure(&text)).transpose()?,
            reason: row.get(19)?,
            replay_of: row.get::<_, Option<i64>>(20)?.map(Id),
            invoked_by: row.get::<_, Option<i64>>(21)?.map(Id),
        })
    }

    /// The outline of a run; none of one that has ended. Mostly the next one is of the same function: `last` is the number of the last one's
    /// name, and the name.
    pub(super) fn outline(&self, row: &Row<'_>, last: &mut Option<(i64, Arc<str>)>) -> Result<Option<RunRow>, StoreError> {
        let has_more = row.get_ref(9)? != ValueRef::Null;
        if has_more && row.get_ref(10)? != ValueRef::Null {
            return Ok(None);
        }
        let function = self.function(row.get(4)?, last)?;
        let (id, created) = (Id(row.get(0)?), Millis(row.get(6)?));
        let mut outline = RunRow {
            rev: row.get(1)?,
            state: RunState::from_number(row.get(2)?).ok_or_else(|| damaged("runs.state"))?,
            suspects: row.get(3)?,
            started: millis(row, 7)?,
            wake: millis(row, 8)?,
            ..RunRow::queued(id, function, Id(row.get(5)?), created)
        };
        if has_more {
            outline.enter = millis(row, 11)?.unwrap_or(created);
            outline.priority_ms = row.get(12)?;
            outline.keys = split_keys(row.get_ref(13)?.as_str_or_null().map_err(|_| damaged("runs.keys"))?);
            outline.gates = gates(row, 14)?;
            outline.invoked_by = row.get::<_, Option<i64>>(15)?.map(Id);
        }
        Ok(Some(outline))
    }

    pub(super) fn dormant(&self, row: &Row<'_>, last: &mut Option<(i64, Arc<str>)>) -> Result<Dormant, StoreError> {
        Ok(Dormant {
            run: Id(row.get(0)?),
            wake: millis(row, 1)?,
            function: self.function(row.get(2)?, last)?,
            state: RunState::from_number(row.get(3)?).ok_or_else(|| damaged("runs.state"))?,
        })
    }

    /// The name of a function; `last` is that of the run before, see `outline`.
    fn function(&self, number: i64, last: &mut Option<(i64, Arc<str>)>) -> Result<Arc<str>, StoreError> {
        match last {
            Some((known, name)) if *known == number => Ok(Arc::clone(name)),
            _ => {
                let name = self.names.text(self.connection, number)?;
                Ok(Arc::clone(&last.insert((number, name)).1))
            }
        }
    }

    pub(super) fn record(&self, row: &Row<'_>) -> Result<Record, StoreError> {
        let failed: bool = row.get(3)?;
        let result = match row.get_ref(4)? {
            ValueRef::Integer(until) => Recorded::Until(Millis(until)),
            _ if failed => Recorded::Failed(failure(&json(row, 4)?)?),
            _ => Recorded::Value(json(row, 4)?),
        };
        Ok(Record {
            index: row.get(0)?,
            key: row.get(1)?,
            kind: Kind::from_number(row.get(2)?).ok_or_else(|| damaged("steps.kind"))?,
            result,
            attempts: row.get(5)?,
            started: Millis(row.get(6)?),
            ended: Millis(row.get(7)?),
            line: self.name(row, 8)?,
        })
    }

    pub(super) fn attempt(&self, row: &Row<'_>) -> Result<AttemptRow, StoreError> {
        Ok(AttemptRow {
            key: row.get(0)?,
            attempt: row.get(1)?,
            started: Millis(row.get(2)?),
            ended: Millis(row.get(3)?),
            error: failure(&json(row, 4)?)?,
            next: millis(row, 5)?,
            line: self.name(row, 6)?,
        })
    }

    pub(super) fn log(&self, row: &Row<'_>) -> Result<LogRow, StoreError> {
        let level = match row.get(1)? {
            0 => LogLevel::Debug,
            1 => LogLevel::Info,
            2 => LogLevel::Warn,
            3 => LogLevel::Error,
            4 => LogLevel::Call,
            _ => return Err(damaged("logs.level")),
        };
        Ok(LogRow { at: Millis(row.get(0)?), level, message: row.get(2)?, data: optional_json(row, 3)?, step: row.get(4)? })
    }

    fn name(&self, row: &Row<'_>, at: usize) -> Result<Option<Arc<str>>, StoreError> {
        let id: Option<i64> = row.get(at)?;
        id.map(|id| self.names.text(self.connection, id)).transpose()
    }
}

fn damaged(column: &str) -> StoreError {
    StoreError::Corrupt(format!("{column} holds a value that was never written"))
}

fn millis(row: &Row<'_>, at: usize) -> Result<Option<Millis>, StoreError> {
    Ok(row.get::<_, Option<i64>>(at)?.map(Millis))
}

fn optional_json(row: &Row<'_>, at: usize) -> Result<Option<Json>, StoreError> {
    match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => std::str::from_utf8(bytes).map(|text| Some(Arc::from(text))).map_err(|_| damaged("a JSON value")),
        _ => Err(damaged("a JSON value")),
    }
}

/// A column that always holds JSON.
pub(super) fn json(row: &Row<'_>, at: usize) -> Result<Json, StoreError> {
    optional_json(row, at)?.ok_or_else(|| damaged("a JSON value"))
}

fn failure(text: &str) -> Result<Arc<Failure>, StoreError> {
    serde_json::from_str(text).map(Arc::new).map_err(|_| damaged("an error"))
}

/// An error as JSON.
pub(super) fn failure_bytes(failure: &Failure) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(failure).map_err(|error| StoreError::Corrupt(format!("an error cannot be written as JSON: {error}")))
}
