//! What the commands need beside the engine's own reads and writes: copies, checks and questions in SQL.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::types::ValueRef;

use crate::base::hex;
use crate::rules::row::LogLevel;
use crate::rules::{Kind, RunState};

use super::super::StoreError;
use super::{OpenError, open};

/// Pages that are copied at a time.
const BACKUP_PAGES: i32 = 1_024;

/// Copies the database at `path` to the new file `to`. One read transaction holds still what is copied.
///
/// Half a copy is worse than none, since it may pass for an empty database: so it is made under the name `<to>.part`, and
/// gets its own name once it is whole and on disk. What a process that was killed has left there is written over.
pub(super) fn backup(path: &Path, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
    let failed = |error: &std::io::Error| StoreError::Io(format!("{}: {error}", to.display()));
    if to.exists() {
        return Err(StoreError::Io(format!("{} exists already", to.display())));
    }
    let part = beside(to, ".part");
    let remove = || {
        for file in [&part, &beside(&part, "-journal")] {
            // One that is not there is as good; if it cannot be removed, what comes next tells.
            let _ = std::fs::remove_file(file);
        }
    };
    remove();
    let made = open::create_private(&part).map_err(|error| failed(&error)).and_then(|_| copy(path, &part, progress));
    let outcome = made.and_then(|()| put_in_place(&part, to).map_err(|error| failed(&error)));
    if outcome.is_err() {
        remove();
    }
    outcome
}

/// The path with something after its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn copy(path: &Path, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
    let source = open::reader(path)?;
    let moment = source.unchecked_transaction()?;
    moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut target = Connection::open(to)?;
    {
        let backup = Backup::new(&moment, &mut target)?;
        loop {
            let step = backup.step(BACKUP_PAGES)?;
            let done = backup.progress();
            progress((done.pagecount - done.remaining).max(0) as u64, done.pagecount.max(0) as u64);
            if step == StepResult::Done {
                break;
            }
        }
    }
    // The copy was never in use, so it is no file that its owner left open.
    open::mark_open(&target, false)?;
    // One file that is whole by itself: the engine that opens it turns the write-ahead log on again.
    target.pragma_update(None, "journal_mode", "delete")?;
    target.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn put_in_place(part: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::File::open(part)?.sync_all()?;
    std::fs::rename(part, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Runs one of SQLite's checks; each line names a fault.
pub(super) fn check(connection: &Connection, pragma: &str) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    let outcome = collect(connection, pragma, &mut faults);
    match outcome {
        // The check itself can fall over what it looks for.
        Err(StoreError::Corrupt(text)) => faults.push(text),
        other => other?,
    }
    Ok(faults)
}

fn collect(connection: &Connection, pragma: &str, faults: &mut Vec<String>) -> Result<(), StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            faults.push(line);
        }
    }
    Ok(())
}

/// The answer to a question in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Datum>>,
}

/// A value of a row, by SQLite's own type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datum {
    /// NULL.
    Null,
    /// An integer or a float, written out.
    Number(String),
    /// Text. A BLOB that is UTF-8 (all JSON is) comes as text too, another one as hex.
    Text(String),
}

/// Why a question in SQL has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// SQLite refuses the statement.
    #[error("{0}")]
    Sql(String),
    /// The statement would change something, or gives no rows.
    #[error("only a statement that reads is allowed, such as select")]
    NotReading,
}

/// Answers one reading statement on the database at `path`, which an engine may have open; nothing can be changed.
///
/// `events`, `runs`, `steps`, `attempts` and `logs` show ids, names, states and times as people know them; the stored
/// rows themselves are `main.events` and so on.
///
/// # Errors
/// `QueryError` where the file is none of ours, the statement is wrong, or it would write.
pub fn query_readonly(path: &Path, sql: &str) -> Result<Table, QueryError> {
    let refused = |error: rusqlite::Error| QueryError::Sql(error.to_string());
    let connection = open::foreign_reader(path)?;
    // The views live in this connection alone, beside the file.
    connection.pragma_update(None, "query_only", false).map_err(refused)?;
    connection.execute_batch(&views()).map_err(refused)?;
    connection.pragma_update(None, "query_only", true).map_err(refused)?;
    let mut statement = connection.prepare(sql).map_err(refused)?;
    // ATTACH counts as reading, but answers no rows.
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(QueryError::NotReading);
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut rows = statement.query([]).map_err(refused)?;
    while let Some(row) = rows.next().map_err(refused)? {
        let values = (0..columns.len()).map(|at| row.get_ref(at).map(datum));
        found.push(values.collect::<Result<Vec<_>, rusqlite::Error>>().map_err(refused)?);
    }
    Ok(Table { columns, rows: found })
}

/// Views over the tables, of the same names: they stand before them.
fn views() -> String {
    let (id, run, event) = (shown_id("id"), shown_id("run"), shown_id("event"));
    let state = words("state", RunState::ALL.iter().map(|state| state.word()));
    let kind = words("kind", Kind::ALL.iter().map(|kind| kind.word()));
    let level = words("level", LogLevel::ALL.iter().map(|level| level.word()));
    let (created, started, ended, wake) = (time("created"), time("started"), time("ended"), time("wake"));
    let (ts, accepted, at, next) = (time("ts"), time("accepted"), time("at"), time("next"));
    let (name, function, version, line) = (name("name"), name("function"), name("version"), name("line"));
    let (data, output, error) = (json("data"), json("output"), json("error"));
    format!(
        "CREATE TEMP VIEW events AS SELECT {id}, {name}, {data}, sender_id, {ts}, {accepted} FROM main.events;
         CREATE TEMP VIEW runs AS SELECT {id}, {function}, {state}, {event}, keys, attempt, {created}, {started}, {ended}, {wake}, \
             {version}, {output}, {error}, reason FROM main.runs;
         CREATE TEMP VIEW steps AS SELECT {run}, idx, key, {kind}, failed, \
             CASE typeof(result) WHEN 'blob' THEN CAST(result AS TEXT) ELSE result END AS result, \
             attempts, {started}, {ended}, {line} FROM main.steps;
         CREATE TEMP VIEW attempts AS SELECT {run}, seq, key, attempt, {started}, {ended}, {error}, {next}, {line} FROM main.attempts;
         CREATE TEMP VIEW logs AS SELECT {run}, seq, {at}, {level}, message, {data}, step FROM main.logs;"
    )
}

/// An id as its 13 characters.
fn shown_id(column: &str) -> String {
    let digits: Vec<String> = (0..13)
        .rev()
        .map(|digit| format!("substr('0123456789abcdefghjkmnpqrstvwxyz', (({column} >> {}) & 31) + 1, 1)", digit * 5))
        .collect();
    format!("{} AS {column}", digits.join(" || "))
}

fn words<'a>(column: &str, words: impl Iterator<Item = &'a str>) -> String {
    let cases: String = words.enumerate().map(|(number, word)| format!(" WHEN {number} THEN '{word}'")).collect();
    format!("CASE {column}{cases} END AS {column}")
}

fn time(column: &str) -> String {
    format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch') AS {column}")
}

fn name(column: &str) -> String {
    format!("(SELECT text FROM main.names WHERE names.id = {column}) AS {column}")
}

/// JSON as text: SQLite's JSON functions take a BLOB for something else.
fn json(column: &str) -> String {
    format!("CAST({column} AS TEXT) AS {column}")
}

fn datum(value: ValueRef<'_>) -> Datum {
    match value {
        ValueRef::Null => Datum::Null,
        ValueRef::Integer(number) => Datum::Number(number.to_string()),
        ValueRef::Real(number) => Datum::Number(number.to_string()),
        ValueRef::Text(bytes) => Datum::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Datum::Text(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => hex::encode(bytes),
        }),
    }
}
