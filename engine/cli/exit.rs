//! Exit codes, and the error that every command returns.
//!
//! A `Trouble` carries what a person is shown and what a script sees (the exit code); nothing matches on its text.

use std::fmt;
use std::process::ExitCode;

use crate::base::Diagnostic;

/// What a command answers to the shell. The numbers follow sysexits.h and timeout(1) where those have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It worked.
    Done = 0,
    /// The thing that was asked for failed: a run, a check.
    Failed = 1,
    /// The command line is not one that the command understands.
    Usage = 2,
    /// There is nothing of that name or id.
    NotFound = 3,
    /// The event started no run.
    NothingMatched = 4,
    /// No engine answers.
    Unreachable = 69,
    /// It would overwrite what is there.
    Exists = 73,
    /// A file or the disk failed.
    Io = 74,
    /// Another engine has the database.
    Locked = 75,
    /// A key or token is missing or wrong.
    Auth = 77,
    /// The config, or a file it names, is invalid.
    Config = 78,
    /// It took longer than it was allowed to.
    TimedOut = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command stops: what to print, and the exit code.
#[derive(Debug)]
pub struct Trouble {
    /// The exit code.
    pub exit: Exit,
    /// What is shown on stderr, in order; empty where everything has been said.
    pub problems: Vec<Diagnostic>,
}

impl Trouble {
    /// One problem that has not been shown yet.
    pub fn new(exit: Exit, problem: Diagnostic) -> Trouble {
        Trouble { exit, problems: vec![problem] }
    }

    /// Ends the command with a code and without another word.
    pub fn silent(exit: Exit) -> Trouble {
        Trouble { exit, problems: Vec::new() }
    }

    /// The problems of a project that cannot be used.
    pub fn invalid(problems: Vec<Diagnostic>) -> Trouble {
        Trouble { exit: Exit::Config, problems }
    }

    /// A file that could not be read or written.
    pub fn file(path: &std::path::Path, doing: &str, error: &std::io::Error) -> Trouble {
        Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("cannot {doing} {}: {}", path.display(), plain(error))))
    }

    /// A command line that parses but makes no sense.
    pub fn usage(message: impl Into<String>) -> Trouble {
        Trouble::new(Exit::Usage, Diagnostic::error("E0536", message))
    }

    /// Adds a help line to the last problem.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Trouble {
        if let Some(last) = self.problems.pop() {
            self.problems.push(last.help(help));
        }
        self
    }
}

/// The words of an I/O error without the number that the standard library adds.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = undecorated(&text);
    if words == text { text } else { words.to_lowercase() }
}

/// A text that ends with an I/O error, without the number that the standard library adds.
pub fn undecorated(text: &str) -> &str {
    &text[..text.find(" (os error").unwrap_or(text.len())]
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&problem.render(false))?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Trouble {
    /// Writing to stdout failed: a reader that has gone away (`| head`) is no error, anything else is.
    fn from(error: std::io::Error) -> Trouble {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Trouble::silent(Exit::Done);
        }
        Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("cannot write the output: {}", plain(&error))))
    }
}
