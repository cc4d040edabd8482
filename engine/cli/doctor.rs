//! `stepwell doctor`: is everything sound? Each line is a check; what is wrong says what to do.

use crate::base::{Diagnostic, Severity};
use crate::store::Store;
use crate::store::sqlite::{OpenError, Options, Sqlite};

use super::exit::{Exit, Trouble};
use super::out::{BOLD, DIM, GREEN, Out, RED, YELLOW, count, paint};
use super::place::{self, ConfigArgument};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigArgument,
    /// The database [default: the config's]
    #[arg(long, value_name = "FILE")]
    database: Option<std::path::PathBuf>,
}

/// What a check found.
enum Found {
    Well(String),
    Note(String),
    Ill(String, String),
}

impl Doctor {
    /// Makes the checks and prints a line each.
    ///
    /// # Errors
    /// Exit 78 for an invalid config, 74 for a database that is not sound; both are said in the lines already.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        let mut exit = Exit::Done;
        let loaded = crate::config::load(&path);
        let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let model = loaded.model.unwrap_or_default();
        let config = if errors == 0 {
            let (events, functions) = (count(model.events.len(), "event"), count(model.functions.len(), "function"));
            Found::Well(format!("{}: {events}, {functions}", path.display()))
        } else {
            exit = Exit::Config;
            Found::Ill(format!("{}: {}", path.display(), count(errors, "error")), "see them with `stepwell validate`".to_owned())
        };
        say(out, "config", &config)?;

        let database = self.database.clone().unwrap_or_else(|| place::database(&model, place::root(&path)));
        let options = Options { read_only: true, ..Options::default() };
        let store = match Sqlite::open(&database, options) {
            Ok(store) => store,
            Err(OpenError::Missing) => {
                say(out, "database", &Found::Note(format!("none yet at {}; `stepwell dev` makes it", database.display())))?;
                return Ok(exit);
            }
            Err(error) => {
                say(out, "database", &Found::Ill(format!("{}: {error}", database.display()), advice(&error).to_owned()))?;
                return Ok(Exit::Io);
            }
        };
        for (name, found) in examine(&store, &database) {
            if matches!(found, Found::Ill(..)) {
                exit = Exit::Io;
            }
            say(out, name, &found)?;
        }
        Ok(exit)
    }
}

/// The checks of a database that could be opened.
fn examine(store: &Sqlite, path: &std::path::Path) -> Vec<(&'static str, Found)> {
    let restore = || "restore a backup, or move the file away and start anew; the engine never does that by itself".to_owned();
    let mut checks = Vec::new();
    match store.stats() {
        Ok(stats) => {
            let size = stats.bytes.div_ceil(1024);
            checks.push(("database", Found::Well(format!("{} opens, {size} KB, {} runs unfinished", path.display(), stats.unfinished))));
            checks.push(("version", Found::Well(format!("schema {}", stats.version))));
        }
        Err(error) => checks.push(("database", Found::Ill(error.to_string(), restore()))),
    }
    checks.push(("lock", lock(path)));
    checks.push(match store.check() {
        Ok(faults) if faults.is_empty() => ("integrity", Found::Well("every page and index is sound".to_owned())),
        Ok(faults) => ("integrity", Found::Ill(faults.join("; "), restore())),
        Err(error) => ("integrity", Found::Ill(error.to_string(), restore())),
    });
    checks
}

/// Who holds the database.
fn lock(path: &std::path::Path) -> Found {
    match Sqlite::owner(path) {
        Some(pid) => Found::Well(format!("an engine is running (process {pid})")),
        None => Found::Well("free: no engine is running".to_owned()),
    }
}

/// What to do about a database that does not open.
pub fn advice(error: &OpenError) -> &'static str {
    match error {
        OpenError::Locked { .. } => "stop that engine first, or give this one another --database",
        OpenError::Newer { .. } => "use the newer stepwell that wrote it",
        OpenError::NotOurs => "name the engine's own file with --database",
        OpenError::Missing => "`stepwell dev` or `stepwell run` makes it",
        OpenError::Corrupt(_) => "restore a backup, or move the file away and start anew; the engine never does that by itself",
        OpenError::TooOldSqlite => "build stepwell with the SQLite that it brings along",
        OpenError::Io(_) => "look at the path, its permissions and the disk",
    }
}

/// A database that does not open, as a command's error.
pub fn cannot_open(path: &std::path::Path, error: &OpenError) -> Trouble {
    let exit = match error {
        OpenError::Locked { .. } => Exit::Locked,
        OpenError::Missing => Exit::NotFound,
        _ => Exit::Io,
    };
    let code = match error {
        OpenError::Locked { .. } => "E0543",
        OpenError::Missing => "E0537",
        _ => "E0544",
    };
    Trouble::new(exit, Diagnostic::error(code, format!("{}: {error}", path.display())).help(advice(error)))
}

fn say(out: &Out, name: &str, found: &Found) -> Result<(), Trouble> {
    let name = paint(BOLD, format!("{name:<10}"));
    match found {
        Found::Well(text) => out.line(format!("{} {name} {text}", paint(GREEN, "✓")))?,
        Found::Note(text) => out.line(format!("{} {name} {text}", paint(YELLOW, "-")))?,
        Found::Ill(text, advice) => {
            out.line(format!("{} {name} {text}", paint(RED, "✗")))?;
            out.line(format!("{}  {}", " ".repeat(11), paint(DIM, advice)))?;
        }
    }
    Ok(())
}
