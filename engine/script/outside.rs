//! What answers instead of the world outside, in tests of handlers.

use std::fmt::Debug;

use crate::base::{RunId, Span};

/// Answers requests in the network's place. Must not block.
pub trait Outside: Debug + Send + Sync {
    /// Answers one request.
    fn http(&self, asked: &Asked<'_>) -> Answered;
}

/// A request that a step makes.
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
    /// `POST`
    pub method: &'a str,
    /// Whole, with its query.
    pub url: &'a str,
    /// Its headers, names in lower case; those that carry secrets are left out.
    pub headers: &'a [(String, String)],
    /// Its body.
    pub body: Option<&'a [u8]>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// An answer.
    Answer {
        /// Its status.
        status: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Vec<u8>,
        /// How long it takes.
        after: Span,
    },
    /// The network fails with these words, after so long.
    Broken {
        /// What the network says.
        said: String,
        /// How long that takes.
        after: Span,
    },
    /// Nothing answers such a request; the help says what would.
    Nobody {
        /// What to do about it.
        help: String,
    },
}
