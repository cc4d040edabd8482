//! New rows of the most frequent forms, put into their tables several at once.
//!
//! A statement that inserts one row walks down every tree of its table, from the root to the last page, and the more rows there are the longer
//! that is. One that inserts several goes on from where its last row has left it, and is begun and ended once. So rows are kept until there are
//! enough of them, until somebody may ask for them, or until their transaction is about to be committed.

use std::sync::Arc;

use rusqlite::{Connection, Statement};

use crate::base::Json;

use super::apply::prepare;
use super::row;

/// Rows of one statement; four times as many would hardly be faster.
pub(super) const AT_ONCE: usize = 8;
/// Rows with more bytes of data than this are put down by themselves: a statement holds copies of what it was given last.
const SMALL_BYTES: usize = 4_096;

/// The form of a row, in which what is always the same stands as a constant: to bind it costs as much as to store it.
trait Form {
    /// How many values are bound.
    const BOUND: usize;

    /// The table with its columns.
    fn columns() -> String;

    /// Its values, with `#1` for the first one that is bound.
    fn values() -> &'static str;

    /// Binds its values, behind the first `before` ones of the statement.
    fn bind(&self, statement: &mut Statement<'_>, before: usize) -> rusqlite::Result<()>;

    /// The bytes of its data.
    fn bytes(&self) -> usize {
        0
    }
}

/// An event of which the sender has told no more than its name and data.
pub(super) struct NewEvent {
    pub(super) id: i64,
    pub(super) name: i64,
    pub(super) data: Json,
    pub(super) at: i64,
}

impl Form for NewEvent {
    const BOUND: usize = 4;

    fn columns() -> String {
        "events (id, name, data, ts, accepted)".to_owned()
    }

    fn values() -> &'static str {
        "(#1, #2, #3, #4, #4)"
    }

    fn bind(&self, statement: &mut Statement<'_>, before: usize) -> rusqlite::Result<()> {
        statement.raw_bind_parameter(before + 1, self.id)?;
        statement.raw_bind_parameter(before + 2, self.name)?;
        statement.raw_bind_parameter(before + 3, self.data.as_bytes())?;
        statement.raw_bind_parameter(before + 4, self.at)
    }

    fn bytes(&self) -> usize {
        self.data.len()
    }
}

/// A queued run that has nothing but what every new run has.
pub(super) struct NewRun {
    pub(super) id: i64,
    pub(super) function: i64,
    pub(super) event: i64,
    pub(super) created: i64,
}

impl Form for NewRun {
    const BOUND: usize = 4;

    fn columns() -> String {
        "runs (id, rev, state, attempt, suspects, function, event, created, priority_ms)".to_owned()
    }

    fn values() -> &'static str {
        "(#1, 0, 0, 1, 0, #2, #3, #4, 0)"
    }

    fn bind(&self, statement: &mut Statement<'_>, before: usize) -> rusqlite::Result<()> {
        statement.raw_bind_parameter(before + 1, self.id)?;
        statement.raw_bind_parameter(before + 2, self.function)?;
        statement.raw_bind_parameter(before + 3, self.event)?;
        statement.raw_bind_parameter(before + 4, self.created)
    }
}

/// The record of a step that gave a value at its first attempt.
pub(super) struct NewStep {
    pub(super) run: i64,
    pub(super) index: u32,
    pub(super) key: Arc<str>,
    pub(super) result: Json,
    pub(super) started: i64,
    pub(super) ended: i64,
    pub(super) line: Option<i64>,
}

impl Form for NewStep {
    const BOUND: usize = 7;

    fn columns() -> String {
        format!("steps (run, {})", row::STEP)
    }

    fn values() -> &'static str {
        "(#1, #2, #3, 0, 0, #4, 1, #5, #6, #7)"
    }

    fn bind(&self, statement: &mut Statement<'_>, before: usize) -> rusqlite::Result<()> {
        statement.raw_bind_parameter(before + 1, self.run)?;
        statement.raw_bind_parameter(before + 2, self.index)?;
        statement.raw_bind_parameter(before + 3, &*self.key)?;
        statement.raw_bind_parameter(before + 4, self.result.as_bytes())?;
        statement.raw_bind_parameter(before + 5, self.started)?;
        statement.raw_bind_parameter(before + 6, self.ended)?;
        statement.raw_bind_parameter(before + 7, self.line)
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.result.len()
    }
}

/// A line of a log of which it is known which one it is.
pub(super) struct NewLine {
    pub(super) run: i64,
    pub(super) seq: u32,
    pub(super) at: i64,
    pub(super) level: u8,
    pub(super) message: Arc<str>,
    pub(super) data: Option<Json>,
    pub(super) step: Arc<str>,
}

impl Form for NewLine {
    const BOUND: usize = 7;

    fn columns() -> String {
        format!("logs (run, seq, {})", row::LOG)
    }

    fn values() -> &'static str {
        "(#1, #2, #3, #4, #5, #6, #7)"
    }

    fn bind(&self, statement: &mut Statement<'_>, before: usize) -> rusqlite::Result<()> {
        statement.raw_bind_parameter(before + 1, self.run)?;
        statement.raw_bind_parameter(before + 2, self.seq)?;
        statement.raw_bind_parameter(before + 3, self.at)?;
        statement.raw_bind_parameter(before + 4, self.level)?;
        statement.raw_bind_parameter(before + 5, &*self.message)?;
        statement.raw_bind_parameter(before + 6, self.data.as_deref().map(str::as_bytes))?;
        statement.raw_bind_parameter(before + 7, &*self.step)
    }

    fn bytes(&self) -> usize {
        self.message.len() + self.data.as_deref().map_or(0, str::len) + self.step.len()
    }
}

/// The rows of one form that are kept, and what puts them down.
struct Rows<'c, R> {
    kept: Vec<R>,
    one: Statement<'c>,
    many: Statement<'c>,
}

impl<'c, R: Form> Rows<'c, R> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Rows<'c, R>> {
        let (one, many) = (prepare(connection, &text::<R>(1))?, prepare(connection, &text::<R>(AT_ONCE))?);
        Ok(Rows { kept: Vec::with_capacity(AT_ONCE), one, many })
    }

    fn add(&mut self, row: R) -> rusqlite::Result<()> {
        if row.bytes() > SMALL_BYTES {
            return insert(&mut self.one, &[row]);
        }
        self.kept.push(row);
        if self.kept.len() < AT_ONCE {
            return Ok(());
        }
        insert(&mut self.many, &self.kept)?;
        self.kept.clear();
        Ok(())
    }

    fn put_down(&mut self) -> rusqlite::Result<()> {
        for row in self.kept.drain(..) {
            insert(&mut self.one, &[row])?;
        }
        Ok(())
    }
}

fn insert<R: Form>(statement: &mut Statement<'_>, rows: &[R]) -> rusqlite::Result<()> {
    for (at, row) in rows.iter().enumerate() {
        row.bind(statement, at * R::BOUND)?;
    }
    statement.raw_execute()?;
    Ok(())
}

/// The statement for so many rows. It may leave some of them where one fails: whoever sees an error takes the whole transaction back. To be able
/// to take back this statement alone, SQLite would keep a copy of each page that it changes.
fn text<R: Form>(rows: usize) -> String {
    let row = |at: usize| {
        let bound = |text: String, n: usize| text.replace(&format!("#{n}"), &format!("?{}", at * R::BOUND + n));
        (1..=R::BOUND).fold(R::values().to_owned(), bound)
    };
    let values: Vec<String> = (0..rows).map(row).collect();
    format!("INSERT OR FAIL INTO {} VALUES {}", R::columns(), values.join(", "))
}

/// The new rows of a transaction.
pub(super) struct Together<'c> {
    events: Rows<'c, NewEvent>,
    runs: Rows<'c, NewRun>,
    steps: Rows<'c, NewStep>,
    lines: Rows<'c, NewLine>,
}

impl<'c> Together<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Together<'c>> {
        Ok(Together {
            events: Rows::new(connection)?,
            runs: Rows::new(connection)?,
            steps: Rows::new(connection)?,
            lines: Rows::new(connection)?,
        })
    }

    pub(super) fn event(&mut self, row: NewEvent) -> rusqlite::Result<()> {
        self.events.add(row)
    }

    pub(super) fn run(&mut self, row: NewRun) -> rusqlite::Result<()> {
        self.runs.add(row)
    }

    pub(super) fn step(&mut self, row: NewStep) -> rusqlite::Result<()> {
        self.steps.add(row)
    }

    pub(super) fn line(&mut self, row: NewLine) -> rusqlite::Result<()> {
        self.lines.add(row)
    }

    /// Puts the events and the runs down: somebody may be about to ask for them. For records and lines only a sweep does, and whoever reads
    /// what is committed.
    pub(super) fn settle(&mut self) -> rusqlite::Result<()> {
        self.events.put_down()?;
        self.runs.put_down()
    }

    /// Puts all of them down.
    pub(super) fn finish(&mut self) -> rusqlite::Result<()> {
        self.settle()?;
        self.steps.put_down()?;
        self.settle_lines()
    }

    /// Puts the lines down: somebody is about to ask which one comes next.
    pub(super) fn settle_lines(&mut self) -> rusqlite::Result<()> {
        self.lines.put_down()
    }

    /// Drops what is kept: the transaction was rolled back.
    pub(super) fn forget(&mut self) {
        self.events.kept.clear();
        self.runs.kept.clear();
        self.steps.kept.clear();
        self.lines.kept.clear();
    }
}
