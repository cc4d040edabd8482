//! `db::query`, `db::exec`: databases that events.yaml names; values go as parameters, rows come as maps.

mod cell;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rhai::{Array, Engine, Map, Module};
use serde_json::Value;

use super::apart::Outcome;
use super::mocked;
use crate::base::alloc;
use crate::base::diagnostic::nearest;
use crate::script::api::demand_step;
use crate::script::attempt::{Attempt, Inside, current};
use crate::script::error::{Fault, Thrown};
use crate::script::outside::{Answer, Errand, Outside};
use crate::script::value;

use cell::Cell;

/// Most rows that one query gives.
const ROWS_MOST: usize = 10_000;
/// Largest result of a query, in bytes.
const RESULT_BYTES: usize = 16 * 1024 * 1024;
/// Largest statement, in bytes.
const SQL_BYTES: usize = 100_000;
/// Most parameters of one statement.
const PARAMETERS_MOST: usize = 1_000;
/// Most that the parameters of one statement take together, in bytes.
const PARAMETERS_BYTES: usize = 16 * 1024 * 1024;
/// Connections to one database that are open at once.
const CONNECTIONS_MOST: usize = 8;

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file.
    Sqlite(PathBuf),
    /// A server, as a URL without its password, and the password.
    Postgres {
        /// `postgres://user@host:port/database?sslmode=require`
        url: String,
        /// What it asks for.
        password: Option<String>,
    },
}

/// The databases of a project, by the names that handlers call them. Their connections are shared by all runs.
#[derive(Debug, Clone, Default)]
pub struct Databases(BTreeMap<String, Arc<Database>>);

#[derive(Debug)]
enum Database {
    Sqlite(Arc<sqlite::Pool>),
    Postgres(Arc<postgres::Pool>),
}

impl Databases {
    /// Databases that have not been connected to; that is done when a handler asks for one.
    pub fn new(addresses: BTreeMap<String, Address>) -> Databases {
        let open = |address| match address {
            Address::Sqlite(path) => Database::Sqlite(Arc::new(sqlite::Pool::new(path))),
            Address::Postgres { url, password } => Database::Postgres(Arc::new(postgres::Pool::new(url, password))),
        };
        Databases(addresses.into_iter().map(|(name, address)| (name, Arc::new(open(address)))).collect())
    }
}

/// What a statement came to.
#[derive(Debug, Default)]
struct Found {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// Rows that it changed.
    changed: u64,
}

/// Why a statement came to nothing.
#[derive(Debug)]
struct Refused {
    message: String,
    /// Whether it would be so the next time too.
    is_last: bool,
}

impl Refused {
    fn last(message: impl Into<String>) -> Refused {
        Refused { message: message.into(), is_last: true }
    }

    fn again(message: impl Into<String>) -> Refused {
        Refused { message: message.into(), is_last: false }
    }
}

/// Counts what a result takes, and refuses what is too much.
#[derive(Debug, Default)]
struct Room {
    bytes: usize,
}

impl Room {
    fn take(&mut self, rows: usize, cells: &[Cell]) -> Result<(), Refused> {
        self.bytes += cells.iter().map(Cell::bytes).sum::<usize>();
        if rows > ROWS_MOST {
            return Err(Refused::last(format!("the query gives more than {ROWS_MOST} rows: add a LIMIT to it")));
        }
        if self.bytes > RESULT_BYTES {
            return Err(Refused::last(format!("the query gives more than {} MB: ask for less", RESULT_BYTES / (1024 * 1024))));
        }
        Ok(())
    }
}

/// Whether a statement may change the session for the next one, so that its connection is not used again: whatever is not
/// known to leave it alone. What functions of the user's own do to a session is not seen.
fn leaves_something_behind(sql: &str) -> bool {
    let text = begin_of(sql).to_ascii_lowercase();
    let words = |text: &str| -> Vec<String> {
        text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').map(str::to_owned).collect()
    };
    let words = words(&text);
    let first = words.first().map(String::as_str).unwrap_or_default();
    let may_stay = ["select", "insert", "update", "delete", "merge", "replace", "values", "with"].contains(&first);
    // A lock or a setting of the session, and a table of its own.
    let does_more = |word: &String| word == "set_config" || word.starts_with("pg_advisory") || word.starts_with("pg_try_advisory");
    let makes_table =
        matches!(first, "select" | "with") && words.iter().any(|word| word == "into") && !words.iter().any(|word| word == "insert");
    !may_stay || makes_table || words.iter().any(does_more)
}

/// A statement without what may stand before its first word: space, semicolons, comments.
fn begin_of(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            // PostgreSQL has comments within comments, SQLite has not: then nothing is known of the statement.
            rest = comment.split_once("*/").filter(|(inner, _)| !inner.contains("/*")).map_or("", |(_, after)| after);
        } else {
            return rest;
        }
    }
}

pub(in crate::script) fn register(engine: &mut Engine) {
    let mut db = Module::new();
    db.set_native_fn("query", |name: &str, sql: &str| query(name, sql, &Array::new()));
    db.set_native_fn("query", |name: &str, sql: &str, parameters: Array| query(name, sql, &parameters));
    db.set_native_fn("exec", |name: &str, sql: &str| exec(name, sql, &Array::new()));
    db.set_native_fn("exec", |name: &str, sql: &str, parameters: Array| exec(name, sql, &parameters));
    engine.register_static_module("db", db.into());
}

fn query(name: &str, sql: &str, parameters: &Array) -> Result<Array, Fault> {
    let attempt = current()?;
    let found = match ask(&attempt, "db::query", name, sql, parameters)? {
        Came::Found(found) => found,
        Came::Mocked(rows, _) => {
            let text = alloc::uncounted(|| rows.to_string());
            let rows = value::read(&text).map_err(|error| Thrown::last("E0430", format!("the mock's rows: {error}")).fault());
            alloc::uncounted(|| drop(text));
            return Ok(rows?.into_array().unwrap_or_default());
        }
    };
    let rows = found.rows.iter().map(|cells| {
        let mut row = Map::new();
        for (column, cell) in found.columns.iter().zip(cells) {
            row.insert(column.as_str().into(), cell.dynamic());
        }
        row.into()
    });
    let rows: Array = rows.collect();
    alloc::uncounted(|| drop(found));
    Ok(rows)
}

fn exec(name: &str, sql: &str, parameters: &Array) -> Result<i64, Fault> {
    let attempt = current()?;
    let found = match ask(&attempt, "db::exec", name, sql, parameters)? {
        Came::Found(found) => found,
        Came::Mocked(_, changed) => return Ok(i64::from(changed)),
    };
    let changed = i64::try_from(found.changed).unwrap_or(i64::MAX);
    alloc::uncounted(|| drop(found));
    Ok(changed)
}

/// What a statement came to: for real, or in a test.
enum Came {
    Found(Found),
    Mocked(Value, u32),
}

fn ask(attempt: &Attempt, what: &str, name: &str, sql: &str, parameters: &Array) -> Result<Came, Fault> {
    let inside = demand_step(attempt, what)?;
    let databases = &attempt.call.surroundings.databases.0;
    let Some(database) = databases.get(name) else {
        let thrown = Thrown::last("E0430", format!("{what}: events.yaml names no database `{name}`"));
        return Err(match nearest(name, databases.keys().map(String::as_str)) {
            Some(near) => thrown.help(format!("did you mean `{near}`?")),
            None => thrown.help(format!("add to events.yaml: databases: {{ {name}: {{ url: \"sqlite:data/{name}.db\" }} }}")),
        }
        .fault());
    };
    if sql.len() > SQL_BYTES || parameters.len() > PARAMETERS_MOST {
        let message = format!("{what}: a statement has at most {SQL_BYTES} bytes and {PARAMETERS_MOST} parameters");
        return Err(Thrown::last("E0407", message).fault());
    }
    let secrets = &attempt.call.surroundings.secrets;
    secrets.refuse(sql, "the statement")?;
    let cells: Result<Vec<Cell>, Fault> =
        alloc::uncounted(|| parameters.iter().enumerate().map(|(at, value)| Cell::of(value, at + 1)).collect());
    let cells = cells?;
    if cells.iter().map(Cell::bytes).sum::<usize>() > PARAMETERS_BYTES {
        let message = format!("{what}: the parameters of a statement take at most {} MB", PARAMETERS_BYTES / (1024 * 1024));
        return Err(Thrown::last("E0407", message).fault());
    }
    if let Some(outside) = attempt.call.surroundings.outside.as_deref() {
        return mock(outside, attempt, &inside, (what, name, sql), &cells);
    }
    let outcome = match &**database {
        Database::Sqlite(pool) => pool.ask(attempt, what, sql, cells)?,
        Database::Postgres(pool) => pool.ask(attempt, what, sql, cells)?,
    };
    match outcome {
        Outcome::Done(Ok(found)) => {
            let twice = found.columns.iter().enumerate().find(|(at, column)| found.columns[..*at].contains(column));
            match twice {
                None => Ok(Came::Found(found)),
                Some((_, column)) => {
                    let message = format!("{what}({name}): two columns of the result are called `{column}`");
                    Err(Thrown::last("E0430", message).help("name one of them with AS").fault())
                }
            }
        }
        Outcome::Done(Err(Refused { message, is_last })) => {
            let message = format!("{what}({name}): {message}");
            Err(if is_last { Thrown::last("E0430", message) } else { Thrown::new("E0430", message) }.fault())
        }
        Outcome::Late => Err(Thrown::new("E0430", format!("{what}({name}): it took too long")).fault()),
        Outcome::Broken(why) => Err(Thrown::new("E0430", format!("{what}({name}): {why}")).fault()),
    }
}

/// Has somebody else answer, in a test.
fn mock(
    outside: &dyn Outside,
    attempt: &Attempt,
    inside: &Inside,
    (what, name, sql): (&str, &str, &str),
    cells: &[Cell],
) -> Result<Came, Fault> {
    let parameters = alloc::uncounted(|| Value::Array(cells.iter().map(Cell::json).collect()));
    let answer = mocked::ask(outside, attempt, inside, Errand::Db { database: name, sql, parameters: &parameters }, None);
    alloc::uncounted(|| drop(parameters));
    match answer? {
        Some(Answer::Rows(rows, changed)) => Ok(Came::Mocked(rows, changed)),
        Some(Answer::Broken(said)) => Err(Thrown::new("E0430", format!("{what}({name}): {said}")).fault()),
        Some(Answer::Refused(said)) => Err(Thrown::last("E0430", format!("{what}({name}): {said}")).fault()),
        _ => Err(mocked::unfit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_where_a_statement_leaves_nothing_behind() {
        for sql in ["SELECT 1", " select a from b", "-- why\nINSERT INTO a VALUES (1)", "/* a */ with x as (select 1) select * from x"] {
            assert!(!leaves_something_behind(sql), "{sql}");
        }
        for sql in [
            "BEGIN",
            "/* x */ BEGIN",
            "-- x\nBEGIN",
            ";begin",
            "SET search_path TO a",
            "PRAGMA foreign_keys = off",
            "CREATE TEMP TABLE a (b int)",
            "DO $$ begin end $$",
            "CALL f()",
            "SELECT set_config('a.b', 'c', false)",
            "select pg_advisory_lock(1)",
            "SELECT 1 AS a INTO TEMP b",
            "/* a /* b */ select 1 */ begin",
            "",
        ] {
            assert!(leaves_something_behind(sql), "{sql}");
        }
    }
}
