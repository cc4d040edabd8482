//! The raw limit of running: rusqlite alone writing the rows of the same runs into the same tables.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::clock::Stopwatch;
use crate::store::sqlite::{Options, Sqlite};

use super::project::Site;

/// Operations in one transaction.
const OPERATIONS: u64 = 512;
/// Ids as far apart as the engine's own, which grow by one within a millisecond.
const FIRST_ID: i64 = 1 << 60;

/// What rusqlite alone makes of the lives of runs.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// Lives a second.
    pub rate: f64,
    /// Bytes that each takes in the file.
    pub bytes: f64,
}

/// Writes lives of runs: event, run, start, `steps` records and end of each, in transactions of 512 operations, each flush of
/// which takes `delay` longer than it does.
///
/// # Errors
/// Where the database fails.
pub fn lives(site: &Site, runs: u64, steps: u64, delay: Duration) -> io::Result<Lives> {
    let path = site.database("raw");
    let connection = open(&path).map_err(io::Error::other)?;
    let watch = Stopwatch::start();
    write_lives(&connection, runs, steps, delay).map_err(io::Error::other)?;
    let rate = runs as f64 / watch.elapsed().as_secs_f64();
    // Whoever closes a file last moves its write-ahead log into it.
    connection.close().map_err(|(_, error)| io::Error::other(error))?;
    Ok(Lives { rate, bytes: std::fs::metadata(&path)?.len() as f64 / runs as f64 })
}

/// The times of `times` commits of one row each, which take `delay` longer than they do.
///
/// # Errors
/// Where the database fails.
pub fn commits(site: &Site, times: u64, delay: Duration) -> io::Result<Vec<Duration>> {
    let connection = open(&site.database("raw")).map_err(io::Error::other)?;
    let mut insert = connection.prepare(INSERT_EVENT).map_err(io::Error::other)?;
    let mut taken = Vec::new();
    for number in 0..times {
        let watch = Stopwatch::start();
        std::thread::sleep(delay);
        insert.execute(params![FIRST_ID + number as i64, 1, DATA, 1_790_000_000_000i64]).map_err(io::Error::other)?;
        taken.push(watch.elapsed());
    }
    Ok(taken)
}

/// The time to read every run that has not ended, with every wait: what an engine would go by that had to know them all before it is ready.
///
/// # Errors
/// Where the database fails.
pub fn read_open_runs(database: &Path) -> io::Result<Duration> {
    let watch = Stopwatch::start();
    let read = || -> rusqlite::Result<i64> {
        let connection = Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut sum = 0;
        for rows in ["SELECT * FROM runs WHERE ended IS NULL ORDER BY id", "SELECT * FROM waits ORDER BY id"] {
            let mut statement = connection.prepare(rows)?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                for column in 0..columns {
                    // Each value is looked at; a text counts as nothing.
                    sum += row.get_ref(column)?.as_i64().unwrap_or_default() & 1;
                }
            }
        }
        Ok(sum)
    };
    std::hint::black_box(read().map_err(io::Error::other)?);
    Ok(watch.elapsed())
}

const DATA: &[u8] = br#"{"n":12345,"user":"user-123"}"#;
const INSERT_EVENT: &str = "INSERT INTO events (id, name, data, ts, accepted) VALUES (?1, ?2, ?3, ?4, ?4)";
const INSERT_RUN: &str = "INSERT INTO runs (id, rev, state, attempt, suspects, function, event, created, priority_ms) \
                          VALUES (?1, 0, 0, 1, 0, 2, ?2, ?3, 0)";
const START_RUN: &str = "UPDATE runs SET state = 1, rev = rev + 1, started = ?2, version = 3 WHERE id = ?1";
const INSERT_STEP: &str = "INSERT INTO steps (run, idx, key, kind, failed, result, attempts, started, ended, line) \
                           VALUES (?1, ?2, ?3, 0, 0, ?4, 1, ?5, ?5, 4)";
const END_RUN: &str = "UPDATE runs SET state = 6, rev = rev + 1, ended = ?2, output = ?3 WHERE id = ?1";

/// The engine's own file with its own tables, opened by rusqlite with the settings of `durability: full`.
fn open(path: &Path) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    Sqlite::open(path, Options::default())?.close()?;
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA temp_store = memory;")?;
    Ok(connection)
}

fn write_lives(connection: &Connection, runs: u64, steps: u64, delay: Duration) -> rusqlite::Result<()> {
    let keys: Vec<String> = (0..steps).map(|step| format!("step-{step}")).collect();
    let mut insert_event = connection.prepare(INSERT_EVENT)?;
    let mut insert_run = connection.prepare(INSERT_RUN)?;
    let mut start_run = connection.prepare(START_RUN)?;
    let mut insert_step = connection.prepare(INSERT_STEP)?;
    let mut end_run = connection.prepare(END_RUN)?;
    let mut operations = 0;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for number in 0..runs as i64 {
        let (event, run, now) = (FIRST_ID + number * 2, FIRST_ID + number * 2 + 1, 1_790_000_000_000 + number / 30);
        insert_event.execute(params![event, 1, DATA, now])?;
        insert_run.execute(params![run, event, now])?;
        start_run.execute(params![run, now])?;
        for (step, key) in keys.iter().enumerate() {
            insert_step.execute(params![run, step as i64, key, b"1".as_slice(), now])?;
        }
        end_run.execute(params![run, now, b"3".as_slice()])?;
        operations += 4 + steps;
        if operations >= OPERATIONS {
            operations = 0;
            std::thread::sleep(delay);
            connection.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        }
    }
    connection.execute_batch("COMMIT")
}
