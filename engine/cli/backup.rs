//! `stepwell backup`: a consistent copy of the database, also while an engine is at work on it.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::{Diagnostic, size};
use crate::store::sqlite::{Options, Sqlite};
use crate::store::{Store, StoreError};

use super::doctor::cannot_open;
use super::exit::{Exit, Trouble, undecorated};
use super::out::Out;
use super::place::DatabaseOption;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// The copy to write; it must not be there yet
    #[arg(value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    database: DatabaseOption,
}

impl Backup {
    /// Copies the database.
    ///
    /// # Errors
    /// Exit 73 where the file is there, 3 without a database, 74 for the disk.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = self.database.path()?;
        let store = Sqlite::open(&path, Options { read_only: true, ..Options::default() }).map_err(|error| cannot_open(&path, &error))?;
        if self.to.exists() {
            let problem = Diagnostic::error("E0533", format!("already there: {}", self.to.display()));
            return Err(Trouble::new(Exit::Exists, problem.help("name a file that is not there yet")));
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("copying {bar:40} {percent:>3} %  {pos}/{len} pages") {
            bar.set_style(style);
        }
        let copied = store.backup(&self.to, &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        copied.map_err(|error| match error {
            StoreError::Io(said) => {
                Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("cannot write the copy: {}", undecorated(&said))))
            }
            error => store_trouble(&error),
        })?;
        let bytes = std::fs::metadata(&self.to).map_or(0, |file| file.len());
        out.say(format!("{} is a whole database: {}", self.to.display(), size(bytes)));
        Ok(Exit::Done)
    }
}

/// A store that failed, as a command's error.
pub fn store_trouble(error: &StoreError) -> Trouble {
    let problem = Diagnostic::error("E0544", error.to_string());
    let problem = match error {
        StoreError::Corrupt(_) => problem.help("`stepwell doctor` looks the whole file through"),
        _ => problem,
    };
    Trouble::new(Exit::Io, problem)
}
