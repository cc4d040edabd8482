//! Reads: a few connections of their own, each lent out for one short transaction.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use crate::base::{EventId, Id, Millis, RunId};
use crate::rules::{
    CronRow, Dormant, EventRow, KvRow, LogRow, Outcome, OutcomeRow, PauseRow, RunRow, RunState, SourceRow, WaitRow, WindowRow,
};

use super::super::{EventQuery, Journal, Loaded, RunQuery, StoreError};
use super::names::Names;
use super::open;
use super::row::{self, Decoder};
use super::waits::{self, Which};
use super::windows;

/// Connections that read at once; more readers wait, so that they cannot starve the writer of its cores.
const READERS: usize = 4;
/// Runs that are passed, beyond one for each that is told, before those that are to be told are looked up instead.
const PATIENCE: u32 = 64;
/// Open runs that are looked up before it is seen again whether most are open.
const LOOKED_UP: usize = 2_048;

/// Connections that only read.
pub(super) struct Readers {
    path: PathBuf,
    names: Names,
    state: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    lent: usize,
    closed: bool,
}

/// A connection on loan, and its way back.
struct Loan<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.state.lock().unwrap_or_else(PoisonError::into_inner);
        pool.lent -= 1;
        // A connection that is still in a transaction (its reader panicked) is not fit to be lent again.
        let fit = self.connection.take().filter(Connection::is_autocommit);
        if !pool.closed {
            pool.idle.extend(fit);
        }
        self.readers.returned.notify_all();
    }
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Readers {
        Readers { path, names: Names::default(), state: Mutex::default(), returned: Condvar::new() }
    }

    /// Closes the connections: those in use as soon as they come back, which is waited for.
    pub(super) fn close(&self) {
        let mut pool = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        pool.closed = true;
        pool.idle.clear();
        while pool.lent > 0 {
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn borrow(&self) -> Result<Loan<'_>, StoreError> {
        let mut pool = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while pool.lent >= READERS && !pool.closed {
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        if pool.closed {
            return Err(StoreError::Closed);
        }
        pool.lent += 1;
        let idle = pool.idle.pop();
        drop(pool);
        // From here on the loan gives its place back, also where no connection can be opened.
        let mut loan = Loan { readers: self, connection: idle };
        if loan.connection.is_none() {
            loan.connection = Some(open::reader(&self.path)?);
        }
        Ok(loan)
    }

    /// Runs `read` within one read transaction: all that it sees is of one moment.
    fn within<T>(&self, read: impl FnOnce(&Decoder<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let loan = self.borrow()?;
        let Some(connection) = &loan.connection else { return Err(StoreError::Closed) };
        connection.prepare_cached("BEGIN")?.execute([])?;
        let outcome = read(&Decoder { names: &self.names, connection });
        connection.prepare_cached("COMMIT")?.execute([])?;
        outcome
    }

    pub(super) fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.within(|decoder| event(decoder, id))
    }

    pub(super) fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        self.within(|decoder| {
            let mut filter = Filter::default();
            if let Some(name) = &query.name {
                let Some(name) = decoder.names.id(decoder.connection, name)? else { return Ok(Vec::new()) };
                filter.add("name = ?", name);
            }
            if let Some(after) = query.received_after {
                filter.add("accepted > ?", after.0);
            }
            filter.range(query.from, query.to, query.received_after);
            filter.oldest_first = query.oldest_first;
            filter.rows(decoder, row::EVENT, "events", query.limit, Decoder::event)
        })
    }

    pub(super) fn outcomes(&self, event: EventId) -> Result<Vec<OutcomeRow>, StoreError> {
        let decode = |decoder: &Decoder<'_>, row: &Row<'_>| {
            let outcome = Outcome::from_numbers(row.get(1)?, row.get(2)?);
            let outcome = outcome.ok_or_else(|| StoreError::Corrupt("outcomes.kind holds a value that was never written".to_owned()))?;
            Ok(OutcomeRow { function: decoder.names.text(decoder.connection, row.get(0)?)?, outcome })
        };
        let sql = "SELECT function, kind, value FROM outcomes WHERE event = ?1 ORDER BY kind";
        let mut rows = self.within(|decoder| all(decoder, sql, [Value::Integer(event.0)], decode))?;
        // Numbers of names say nothing of their order; the sort keeps the order of the kinds.
        rows.sort_by(|one, other| one.function.cmp(&other.function));
        Ok(rows)
    }

    pub(super) fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.within(|decoder| run(decoder, id))
    }

    pub(super) fn load(&self, runs: &[RunId]) -> Result<Vec<Loaded>, StoreError> {
        self.within(|decoder| {
            let mut loaded = Vec::with_capacity(runs.len());
            for id in runs {
                let Some(run) = run(decoder, *id)? else { continue };
                let Some(event) = event(decoder, run.event)? else { return Err(Loaded::orphan(&run)) };
                let mut batch = Vec::new();
                if run.collects().is_some() {
                    for id in self::batch(decoder, run.id)? {
                        let Some(event) = self::event(decoder, id)? else { return Err(Loaded::orphan(&run)) };
                        batch.push(event);
                    }
                }
                loaded.push(Loaded { journal: journal(decoder, *id)?, run, event, batch });
            }
            Ok(loaded)
        })
    }

    pub(super) fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.within(|decoder| match runs(decoder, query)? {
            Some(filter) => filter.rows(decoder, row::RUN, "runs", query.limit, Decoder::run),
            None => Ok(Vec::new()),
        })
    }

    /// How SQLite would look for these runs.
    #[cfg(test)]
    pub(super) fn plan(&self, query: &RunQuery) -> Result<String, StoreError> {
        self.within(|decoder| {
            let Some(filter) = runs(decoder, query)? else { return Ok(String::new()) };
            let sql = format!("EXPLAIN QUERY PLAN {}", filter.sql(row::RUN, "runs", query.limit));
            Ok(all(decoder, &sql, filter.values, |_, row| Ok(row.get::<_, String>(3)?))?.join("\n"))
        })
    }

    /// Every run that has not ended, on a connection of its own, since there may be a million of them.
    pub(super) fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        let connection = open::reader(&self.path)?;
        let decoder = Decoder { names: &self.names, connection: &connection };
        let mut statement = connection.prepare(&format!("SELECT {} FROM runs WHERE ended IS NULL ORDER BY id", row::RUN))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(decoder.run(row)?);
        }
        Ok(())
    }

    /// Every dormant run, in order of id: their index says all, so that a million of them are read in a third of a second.
    pub(super) fn dormant(&self, each: &mut dyn FnMut(Dormant)) -> Result<(), StoreError> {
        let connection = open::reader(&self.path)?;
        let decoder = Decoder { names: &self.names, connection: &connection };
        let mut statement = connection.prepare(&format!("SELECT {} ORDER BY id", row::DORMANT))?;
        let (mut rows, mut name) = (statement.query([])?, None);
        while let Some(row) = rows.next()? {
            each(decoder.dormant(row, &mut name)?);
        }
        Ok(())
    }

    /// The outlines of the open runs that are not `left` in the store (in order of id), for a start-up, which waits for them.
    ///
    /// To find a run by the index of the open ones costs a search from the table's root, much like reading it. So the table is read as it
    /// lies while about half of its runs are to be told, and only where more have ended, or are left, are they looked up.
    pub(super) fn open_outlines(&self, left: &[RunId], each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        let connection = open::reader(&self.path)?;
        let decoder = Decoder { names: &self.names, connection: &connection };
        // All statements see one moment.
        let _moment = connection.unchecked_transaction()?;
        let mut table = connection.prepare(&format!("SELECT {} FROM runs WHERE id > ?1 ORDER BY id", row::OUTLINE))?;
        let mut index = connection.prepare("SELECT id FROM runs WHERE ended IS NULL AND id > ?1 ORDER BY id")?;
        let mut one = connection.prepare(&format!("SELECT {} FROM runs WHERE id = ?1", row::OUTLINE))?;
        let mut left = left.iter().map(|run| run.0).peekable();
        let mut is_left = |id: i64| {
            while left.next_if(|other| *other < id).is_some() {}
            left.next_if_eq(&id).is_some()
        };
        let (mut last, mut name) = (i64::MIN, None);
        loop {
            let mut patience = PATIENCE;
            let mut rows = table.query([last])?;
            while patience > 0 {
                let Some(row) = rows.next()? else { return Ok(()) };
                last = row.get(0)?;
                match if is_left(last) { None } else { decoder.outline(row, &mut name)? } {
                    None => patience -= 1,
                    Some(outline) => {
                        patience = PATIENCE.min(patience + 1);
                        each(outline);
                    }
                }
            }
            let mut rows = index.query([last])?;
            let mut looked_up = 0;
            while looked_up < LOOKED_UP {
                let Some(row) = rows.next()? else { return Ok(()) };
                last = row.get(0)?;
                if !is_left(last) {
                    looked_up += 1;
                    let mut rows = one.query([last])?;
                    rows.next()?.map(|row| decoder.outline(row, &mut name)).transpose()?.flatten().into_iter().for_each(&mut *each);
                }
            }
        }
    }

    pub(super) fn outlines(&self, runs: &[RunId]) -> Result<Vec<RunRow>, StoreError> {
        self.within(|decoder| {
            let mut statement = decoder.connection.prepare_cached(&format!("SELECT {} FROM runs WHERE id = ?1", row::OUTLINE))?;
            let (mut outlines, mut name) = (Vec::with_capacity(runs.len()), None);
            for id in runs {
                let mut rows = statement.query([id.0])?;
                outlines.extend(rows.next()?.map(|row| decoder.outline(row, &mut name)).transpose()?.flatten());
            }
            Ok(outlines)
        })
    }

    pub(super) fn journal(&self, run: RunId) -> Result<Journal, StoreError> {
        self.within(|decoder| journal(decoder, run))
    }

    pub(super) fn batch(&self, run: RunId) -> Result<Vec<EventId>, StoreError> {
        self.within(|decoder| batch(decoder, run))
    }

    pub(super) fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.within(|decoder| some_waits(decoder, &Which::OfRun(run)))
    }

    /// Waits on a connection of its own, since there may be a million of them.
    pub(super) fn many_waits(&self, which: &Which, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
        let connection = open::reader(&self.path)?;
        waits::read(&Decoder { names: &self.names, connection: &connection }, which, each)
    }

    pub(super) fn pinned_fields(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.within(waits::fields)
    }

    pub(super) fn pinned(&self, field: &str, value: i64) -> Result<Vec<WaitRow>, StoreError> {
        self.within(|decoder| match decoder.names.id(decoder.connection, field)? {
            Some(field) => some_waits(decoder, &Which::Pinned(field, value)),
            None => Ok(Vec::new()),
        })
    }

    pub(super) fn waits_ended_by(&self, event: EventId, limit: usize) -> Result<Vec<WaitRow>, StoreError> {
        self.within(|decoder| waits::ended_by(decoder, event, limit))
    }

    pub(super) fn crons(&self) -> Result<Vec<CronRow>, StoreError> {
        self.within(|decoder| {
            let sql = "SELECT names.text, schedule, last, due FROM crons JOIN names ON names.id = crons.function \
                       ORDER BY names.text, schedule";
            all(decoder, sql, [], |_, row| {
                let due = row.get::<_, Option<i64>>(3)?.map(Millis);
                Ok(CronRow { function: row.get(0)?, schedule: row.get(1)?, last: Millis(row.get(2)?), due })
            })
        })
    }

    /// Every row of a counting gate, on a connection of its own.
    pub(super) fn all_windows(&self, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
        windows::read(&open::reader(&self.path)?, &self.names, each)
    }

    pub(super) fn pauses(&self) -> Result<Vec<PauseRow>, StoreError> {
        let pause =
            |_: &Decoder<'_>, row: &Row<'_>| Ok(PauseRow { function: row.get(0)?, paused: row.get(1)?, since: Millis(row.get(2)?) });
        self.within(|decoder| all(decoder, "SELECT function, paused, since FROM pauses ORDER BY function", [], pause))
    }

    pub(super) fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError> {
        self.within(|decoder| {
            let mut statement = decoder.connection.prepare_cached("SELECT key, value, expires FROM kv WHERE key = ?1")?;
            let mut rows = statement.query([key])?;
            let read = |row: &Row<'_>| -> Result<KvRow, StoreError> {
                Ok(KvRow { key: row.get(0)?, value: row::json(row, 1)?, expires: row.get::<_, Option<i64>>(2)?.map(Millis) })
            };
            rows.next()?.map(read).transpose()
        })
    }

    pub(super) fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError> {
        let sql = format!("SELECT {} FROM logs WHERE run = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3", row::LOG);
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let values = [Value::Integer(run.0), Value::Integer(from), Value::Integer(at_most(limit))];
        self.within(|decoder| all(decoder, &sql, values, Decoder::log))
    }

    pub(super) fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError> {
        self.within(|decoder| {
            let mut statement = decoder.connection.prepare_cached("SELECT hash, files FROM sources WHERE hash = ?1")?;
            let mut rows = statement.query([hash])?;
            rows.next()?.map(|row| Ok(SourceRow { hash: row.get(0)?, files: row::json(row, 1)? })).transpose()
        })
    }

    pub(super) fn sources_of(&self, handler: &str) -> Result<Vec<Arc<str>>, StoreError> {
        const SQL: &str = "SELECT hash FROM sources WHERE substr(files, 1, length(?1)) = ?1";
        let beginning = Value::Blob(SourceRow::beginning(handler).into_bytes());
        self.within(|decoder| all(decoder, SQL, [beginning], hash))
    }

    pub(super) fn unneeded_sources(&self) -> Result<Vec<Arc<str>>, StoreError> {
        const SQL: &str = "SELECT hash FROM sources WHERE hash NOT IN \
            (SELECT text FROM names WHERE id IN (SELECT DISTINCT version FROM runs WHERE version IS NOT NULL))";
        self.within(|decoder| all(decoder, SQL, [], hash))
    }

    /// The number of open runs and the largest id ever stored.
    pub(super) fn figures(&self) -> Result<(u64, Id), StoreError> {
        self.within(|decoder| {
            let number = |sql: &str| -> Result<i64, StoreError> {
                let mut statement = decoder.connection.prepare_cached(sql)?;
                Ok(statement.query_row([], |row| row.get::<_, Option<i64>>(0)).optional()?.flatten().unwrap_or(0))
            };
            let unfinished = number("SELECT count(*) FROM runs WHERE ended IS NULL")?;
            let largest = number("SELECT max(id) FROM events")?
                .max(number("SELECT max(id) FROM runs")?)
                .max(number("SELECT value FROM meta WHERE key = 'largest'")?);
            Ok((unfinished as u64, Id(largest)))
        })
    }
}

/// What a row has to meet, as SQL and its values.
#[derive(Default)]
struct Filter {
    text: Vec<String>,
    values: Vec<Value>,
    oldest_first: bool,
}

impl Filter {
    fn add(&mut self, text: &str, value: impl Into<Value>) {
        self.text.push(text.to_owned());
        self.values.push(value.into());
    }

    /// Ids from `from` to `to`. A row that was made at `since` or later has an id that was: that bounds the scan.
    fn range(&mut self, from: Option<Id>, to: Option<Id>, since: Option<Millis>) {
        if let Some(least) = from.max(since.map(Id::first_at)) {
            self.add("id >= ?", least.0);
        }
        if let Some(most) = to {
            self.add("id <= ?", most.0);
        }
    }

    fn rows<'d, T>(
        self,
        decoder: &Decoder<'d>,
        columns: &str,
        table: &str,
        limit: usize,
        decode: impl Fn(&Decoder<'d>, &Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        all(decoder, &self.sql(columns, table, limit), self.values, decode)
    }

    fn sql(&self, columns: &str, table: &str, limit: usize) -> String {
        let conditions = if self.text.is_empty() { "true".to_owned() } else { self.text.join(" AND ") };
        let order = if self.oldest_first { "id" } else { "id DESC" };
        format!("SELECT {columns} FROM {table} WHERE {conditions} ORDER BY {order} LIMIT {}", at_most(limit))
    }
}

// One row by its id has a statement of its own: SQLite compiles one with a bound LIMIT anew at each use.
static EVENT_BY_ID: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM events WHERE id = ?1", row::EVENT));
static RUN_BY_ID: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM runs WHERE id = ?1", row::RUN));
static STEPS_OF_RUN: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM steps WHERE run = ?1 ORDER BY idx", row::STEP));
static ATTEMPTS_OF_RUN: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM attempts WHERE run = ?1 ORDER BY seq", row::ATTEMPT));

fn event(decoder: &Decoder<'_>, id: EventId) -> Result<Option<EventRow>, StoreError> {
    Ok(all(decoder, &EVENT_BY_ID, [Value::Integer(id.0)], Decoder::event)?.pop())
}

fn run(decoder: &Decoder<'_>, id: RunId) -> Result<Option<RunRow>, StoreError> {
    Ok(all(decoder, &RUN_BY_ID, [Value::Integer(id.0)], Decoder::run)?.pop())
}

/// What the runs have to meet that a query asks for; none where there can be none.
fn runs(decoder: &Decoder<'_>, query: &RunQuery) -> Result<Option<Filter>, StoreError> {
    let mut filter = Filter::default();
    if !query.states.is_empty() {
        let numbers: Vec<String> = query.states.iter().map(|state| (*state as u8).to_string()).collect();
        filter.text.push(format!("state IN ({})", numbers.join(", ")));
        // An index of a part serves where the query says what makes the part.
        if !query.states.iter().any(|state| state.is_terminal()) {
            filter.text.push("ended IS NULL".to_owned());
        } else if query.states.iter().all(|state| matches!(state, RunState::Failed | RunState::Cancelled)) {
            filter.text.push("state IN (7, 8)".to_owned());
        }
    }
    if let Some(function) = &query.function {
        let Some(function) = decoder.names.id(decoder.connection, function)? else { return Ok(None) };
        // An event has few runs: beside it, the index of functions (kept away by the plus) is the worse one.
        filter.add(if query.event.is_some() { "+function = ?" } else { "function = ?" }, function);
    }
    if let Some(event) = query.event {
        filter.add("(event = ? OR id IN (SELECT run FROM batched WHERE event = ?))", event.0);
        filter.values.push(Value::Integer(event.0));
    }
    if let Some(run) = query.replay_of {
        filter.add("replay_of = ?", run.0);
    }
    if let Some(key) = &query.key {
        filter.add("instr(char(10) || keys || char(10), char(10) || ? || char(10))", key.to_string());
    }
    if let Some(since) = query.since {
        filter.add("created >= ?", since.0);
    }
    filter.range(query.from, query.to, query.since);
    Ok(Some(filter))
}

fn some_waits(decoder: &Decoder<'_>, which: &Which) -> Result<Vec<WaitRow>, StoreError> {
    let mut found = Vec::new();
    waits::read(decoder, which, &mut |row| found.push(row))?;
    Ok(found)
}

fn batch(decoder: &Decoder<'_>, run: RunId) -> Result<Vec<EventId>, StoreError> {
    let sql = "SELECT event FROM batched WHERE run = ?1 ORDER BY seq";
    all(decoder, sql, [Value::Integer(run.0)], |_, row| Ok(Id(row.get(0)?)))
}

fn journal(decoder: &Decoder<'_>, run: RunId) -> Result<Journal, StoreError> {
    Ok(Journal {
        records: all(decoder, &STEPS_OF_RUN, [Value::Integer(run.0)], Decoder::record)?,
        attempts: all(decoder, &ATTEMPTS_OF_RUN, [Value::Integer(run.0)], Decoder::attempt)?,
    })
}

/// `limit` for SQLite, where -1 stands for no limit.
fn at_most(limit: usize) -> i64 {
    if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(-1) }
}

/// The hash of a version, of a row that has nothing else.
fn hash(_: &Decoder<'_>, row: &Row<'_>) -> Result<Arc<str>, StoreError> {
    Ok(Arc::from(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?))
}

fn all<'d, T>(
    decoder: &Decoder<'d>,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
    decode: impl Fn(&Decoder<'d>, &Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = decoder.connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(decoder, row)?);
    }
    Ok(found)
}
