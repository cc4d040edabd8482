//! What answers instead of the world outside, in tests of handlers.

use std::fmt::Debug;

use serde_json::Value;
use url::Url;

use crate::base::{RunId, Span};

use super::post::Published;

/// Answers in the place of the network, databases, the mail server and commands. Must not block.
pub trait Outside: Debug + Send + Sync {
    /// Answers one request.
    fn answer(&self, asked: &Asked<'_>) -> Answered;
    /// Hears what an attempt of a step publishes; `number` counts its requests and messages, from 1.
    fn published(&self, _step: &str, _attempt: u32, _number: u32, _message: &Published) {}
}

/// Something that a step asks of others.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The run.
    pub run: RunId,
    /// Its function.
    pub function: &'a str,
    /// The step's key.
    pub step: &'a str,
    /// The step's attempt, from 1.
    pub attempt: u32,
    /// Which request of the attempt it is, from 1. Run, step, attempt and number together name a request, also where a crash makes
    /// the engine do the attempt again.
    pub number: u32,
    /// What is asked.
    pub errand: Errand<'a>,
}

/// What a step asks.
#[derive(Debug, Clone, Copy)]
pub enum Errand<'a> {
    /// A request by HTTP.
    Http {
        /// `POST`
        method: &'a str,
        /// Whole, with its query.
        url: &'a str,
        /// Its headers, names in lower case; those that carry secrets are left out.
        headers: &'a [(String, String)],
        /// Its body.
        body: Option<&'a [u8]>,
    },
    /// A statement.
    Db {
        /// The database's name.
        database: &'a str,
        /// The statement.
        sql: &'a str,
        /// Its parameters: an array.
        parameters: &'a Value,
    },
    /// A mail: its fields, with `to`, `cc` and `bcc` as lists of addresses.
    Email(&'a Value),
    /// A command.
    Exec {
        /// Its name.
        command: &'a str,
        /// Its arguments; one that is a secret is left out.
        arguments: &'a [String],
        /// What it reads.
        stdin: Option<&'a [u8]>,
    },
}

/// What comes back, and after how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What comes back.
    pub answer: Answer,
    /// How long it takes.
    pub after: Span,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// An answer to a request by HTTP.
    Http {
        /// Its status.
        status: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Vec<u8>,
    },
    /// What a statement finds: a list of maps; and how many rows it changes.
    Rows(Value, u32),
    /// The mail is taken.
    Sent,
    /// A command has ended.
    Ended {
        /// Its status.
        status: u8,
        /// What it wrote.
        stdout: String,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// It fails with these words; the next attempt may do better.
    Broken(String),
    /// It is refused for good, with these words.
    Refused(String),
    /// Nothing answers such a request; the help says what would.
    Nobody {
        /// What to do about it.
        help: String,
    },
}

impl Errand<'_> {
    /// What is asked, in one line, as tests write it: `POST https://api.example.com/charges`, `db shop select 1`.
    pub fn told(&self) -> String {
        match self {
            Errand::Http { method, url, .. } => {
                let url = Url::parse(url).map_or_else(|_| (*url).to_owned(), |url| without_query(&url));
                format!("{method} {url}")
            }
            Errand::Db { database, sql, .. } => format!("db {database} {}", one_line(sql)),
            Errand::Email(mail) => {
                let people: Vec<&str> = people(mail).collect();
                format!("email {}", people.join(", "))
            }
            Errand::Exec { command, arguments, .. } => {
                let words: Vec<&str> = std::iter::once(*command).chain(arguments.iter().map(String::as_str)).collect();
                format!("exec {}", one_line(&words.join(" ")))
            }
        }
    }

    /// What is not there in tests.
    pub fn absent(&self) -> &'static str {
        match self {
            Errand::Http { .. } => "network",
            Errand::Db { .. } => "database",
            Errand::Email(_) => "mail server",
            Errand::Exec { .. } => "command",
        }
    }
}

/// Everybody whom a mail goes to.
pub fn people(mail: &Value) -> impl Iterator<Item = &str> {
    ["to", "cc", "bcc"].into_iter().filter_map(|field| mail[field].as_array()).flatten().filter_map(Value::as_str)
}

/// A text with single spaces between its words.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A URL without its query, and without who asks.
pub(super) fn without_query(url: &Url) -> String {
    if url.query().or(url.fragment()).or(url.password()).is_none() && url.username().is_empty() {
        return url.as_str().to_owned();
    }
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail for URLs without a host only, which have neither.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}
