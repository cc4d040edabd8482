//! `stepwell sql`: a look into the engine's database with SQL, read-only.

use serde_json::{Map, Value};

use crate::base::Diagnostic;
use crate::store::sqlite::{Datum, QueryError, query_readonly};

use super::doctor::cannot_open;
use super::exit::{Exit, Trouble};
use super::out::{Cell, Out};
use super::place::DatabaseOption;

/// Arguments of `sql`.
#[derive(Debug, clap::Args)]
pub struct Sql {
    /// One statement that only reads
    #[arg(value_name = "SELECT")]
    statement: String,
    #[command(flatten)]
    database: DatabaseOption,
    /// One JSON document: an array of objects; text that is a JSON object or array is given as such
    #[arg(long)]
    json: bool,
}

impl Sql {
    /// Runs the statement and prints its rows.
    ///
    /// # Errors
    /// Exit 2 for a statement that SQLite does not take or that would write; 3 without a database.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = self.database.path()?;
        let table = query_readonly(&path, &self.statement).map_err(|error| match error {
            QueryError::Open(error) => cannot_open(&path, &error),
            QueryError::Sql(said) => {
                let problem = Diagnostic::error("E0542", format!("the database does not take this statement: {said}"));
                Trouble::new(Exit::Usage, problem.help("the tables: stepwell sql \"select name, sql from sqlite_schema\""))
            }
            QueryError::NotReading => {
                let problem = Diagnostic::error("E0542", "this statement would write, and `sql` only reads");
                Trouble::new(Exit::Usage, problem.help("the engine alone changes its database"))
            }
        })?;
        if self.json {
            let object = |row: Vec<Datum>| table.columns.iter().cloned().zip(row.into_iter().map(json)).collect::<Map<_, _>>();
            out.json(&table.rows.into_iter().map(object).map(Value::Object).collect())?;
        } else {
            let heads: Vec<&str> = table.columns.iter().map(String::as_str).collect();
            let cells = |row: Vec<Datum>| row.into_iter().map(|cell| Cell::from(text(cell))).collect();
            out.table(&heads, table.rows.into_iter().map(cells).collect())?;
        }
        Ok(Exit::Done)
    }
}

fn text(cell: Datum) -> String {
    match cell {
        Datum::Null => String::new(),
        Datum::Number(text) | Datum::Text(text) => text,
    }
}

/// A cell as JSON. Text stays text, whatever it looks like, but for the objects and arrays that the engine keeps as text.
fn json(cell: Datum) -> Value {
    match cell {
        Datum::Null => Value::Null,
        Datum::Text(text) if !text.starts_with(['{', '[']) => Value::String(text),
        // An infinite number is none in JSON.
        Datum::Number(text) | Datum::Text(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}
