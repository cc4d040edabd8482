//! The last events that were refused, so that whoever runs an engine sees what senders do wrong. They are kept in memory alone, and
//! are gone with the engine: what is refused is never stored.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use crate::base::{Json, Millis};
use crate::project::EventProblem;

use super::{Engine, Inner};

/// Refused events that are kept.
pub const REFUSED_KEPT: usize = 100;
/// Bytes of data of one of them that are kept.
const DATA_BYTES: usize = 16 * 1024;
/// Events of one request that are kept: a sender who sends thousands of the same mistake must not hide all others.
const OF_ONE_REQUEST: usize = 5;

/// An event that was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Counts them from 1, as long as the engine runs.
    pub number: u64,
    /// When.
    pub at: Millis,
    /// Its name as it was sent; none where it has none that can be read.
    pub name: Option<Arc<str>>,
    /// Its data as they were sent; none where they could not be read, or are larger than 16 KiB.
    pub data: Option<Json>,
    /// What is wrong with it.
    pub problems: Vec<Fault>,
}

/// One thing that is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What `stepwell explain` takes.
    pub code: String,
    /// A JSON pointer into the event: `/name`, `/data/userId`.
    pub pointer: String,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl From<EventProblem> for Fault {
    fn from(problem: EventProblem) -> Fault {
        let EventProblem { code, pointer, message, help } = problem;
        Fault { code: code.to_owned(), pointer, message, help }
    }
}

/// An event to be noted: its name, its data, and what is wrong with it.
pub type RefusedEvent = (Option<Arc<str>>, Option<Json>, Vec<Fault>);

#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<Refused>,
    counted: u64,
}

impl Engine {
    /// The last events that were refused since the engine started, the newest first.
    pub fn refused(&self) -> Vec<Refused> {
        self.inner.refused.lock().unwrap_or_else(PoisonError::into_inner).events.iter().rev().cloned().collect()
    }

    /// Notes the refused events of one request. Those that the engine refuses itself when it is
    /// to accept them are noted already.
    pub fn note_refused(&self, events: Vec<RefusedEvent>) {
        self.inner.note_refused(events);
    }
}

impl Inner {
    pub(super) fn note_refused(&self, events: Vec<RefusedEvent>) {
        let at = self.clock.now();
        let mut ring = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, data, problems) in events.into_iter().take(OF_ONE_REQUEST) {
            ring.counted += 1;
            let data = data.filter(|data| data.len() <= DATA_BYTES);
            let number = ring.counted;
            if ring.events.len() >= REFUSED_KEPT {
                ring.events.pop_front();
            }
            ring.events.push_back(Refused { number, at, name, data, problems });
        }
    }
}
