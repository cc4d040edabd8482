//! `stepwell doctor`: is everything sound? Each line is a check; what is wrong says what to do.

use crate::base::{Clock as _, Diagnostic, Severity};
use crate::clock::SystemClock;
use crate::exec::doctor::{self, Check, Finding};
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
            Check::well("config", format!("{}: {events}, {functions}", path.display()))
        } else {
            exit = Exit::Config;
            Check::ill("config", format!("{}: {}", path.display(), count(errors, "error")), "see them with `stepwell validate`")
        };
        say(out, &config)?;

        let database = self.database.clone().unwrap_or_else(|| place::database(&model, place::root(&path)));
        let options = Options { read_only: true, ..Options::default() };
        let store = match Sqlite::open(&database, options) {
            Ok(store) => store,
            Err(OpenError::Missing) => {
                say(out, &Check::note("database", format!("none yet at {}", database.display()), "`stepwell dev` makes it"))?;
                return Ok(exit);
            }
            Err(error) => {
                say(out, &Check::ill("database", format!("{}: {error}", database.display()), advice(&error)))?;
                return Ok(Exit::Io);
            }
        };
        say(out, &lock(&database))?;
        for check in doctor::examine(&store, SystemClock::default().now(), true) {
            if check.finding == Finding::Ill {
                exit = Exit::Io;
            }
            say(out, &check)?;
        }
        Ok(exit)
    }
}

/// Who holds the database.
fn lock(path: &std::path::Path) -> Check {
    match Sqlite::owner(path) {
        Some(pid) => Check::well("lock", format!("an engine is running (process {pid})")),
        None => Check::well("lock", "free: no engine is running"),
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

fn say(out: &Out, check: &Check) -> Result<(), Trouble> {
    let name = paint(BOLD, format!("{:<10}", check.name));
    let sign = match check.finding {
        Finding::Well => paint(GREEN, "✓"),
        Finding::Note => paint(YELLOW, "-"),
        Finding::Ill => paint(RED, "✗"),
    };
    out.line(format!("{sign} {name} {}", check.text))?;
    if let Some(advice) = &check.advice {
        out.line(format!("{}  {}", " ".repeat(11), paint(DIM, advice)))?;
    }
    Ok(())
}
