//! What the engine is held against, in processes of their own: this program again, in a role that nobody but a measurement asks
//! for. Only so can the memory of both be told.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::{bare, called};

/// A process of this program in a role; killed when it goes out of scope.
pub struct Role {
    process: Child,
    said: String,
}

impl Role {
    /// Starts the program in the role that `words` name, as `play` knows them, and waits for the line that it says.
    ///
    /// # Errors
    /// Where the process cannot be started, or ends without a word.
    pub fn start(words: &[&str]) -> io::Result<Role> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--as"]).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut role = Role { process: command.spawn()?, said: String::new() };
        if let Some(stdout) = role.process.stdout.take() {
            BufReader::new(stdout).read_line(&mut role.said)?;
        }
        if role.said.is_empty() {
            return Err(io::Error::other(format!("the process for `{}` ended without a word", words.join(" "))));
        }
        Ok(role)
    }

    /// The line that it said, without its end.
    pub fn said(&self) -> &str {
        self.said.trim_end()
    }

    /// Its resident memory now, in megabytes.
    ///
    /// # Errors
    /// As `resident_mb`.
    pub fn resident_mb(&self) -> io::Result<f64> {
        resident_mb(self.process.id())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended with its work, or with its stdin already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Plays the role that `words` name; `say` is given the one line that is to be said.
///
/// # Errors
/// Where there is no such role, and those of what it does.
pub fn play(words: &[String], say: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    std::thread::Builder::new().name("parent".to_owned()).spawn(|| {
        // Stdin ends with the process that has started this one: whatever ends the reading, nobody is there to be served.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    })?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["calls"] => called::serve(say),
        ["axum"] => {
            say(&bare::serve(false)?.to_string())?;
            loop {
                std::thread::park();
            }
        }
        ["loop", url, in_flight, calls] => {
            let in_flight = in_flight.parse::<usize>().map_err(io::Error::other)?;
            let calls = calls.parse::<u64>().map_err(io::Error::other)?;
            let rate = called::plain(url, in_flight, calls)?;
            say(&format!("{rate} {}", peak_mb(std::process::id())?))
        }
        _ => Err(io::Error::other(format!("there is no role `{}`", words.join(" ")))),
    }
}

/// The resident memory of a process now, in megabytes.
///
/// # Errors
/// Where `/proc` does not tell.
pub fn resident_mb(process: u32) -> io::Result<f64> {
    status_mb(process, "VmRSS:")
}

/// The most resident memory that a process has had, in megabytes.
///
/// # Errors
/// As `resident_mb`.
pub fn peak_mb(process: u32) -> io::Result<f64> {
    status_mb(process, "VmHWM:")
}

fn status_mb(process: u32, line: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kb = status.lines().find_map(|text| text.strip_prefix(line)).and_then(|rest| rest.trim().split(' ').next()?.parse::<f64>().ok());
    kb.map(|kb| kb / 1024.0).ok_or_else(|| io::Error::other(format!("no {line} in /proc")))
}
