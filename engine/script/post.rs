//! What a run asks of the engine around it: whatever concerns more than the run itself.
//!
//! A script decides that something is to be sent, invoked or waited for; what that leads to for others is decided and
//! committed on the other side of `Post`, in one list with the run's own writes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::base::{EventId, Json, Millis, RunId};
use crate::rules::{EventRow, Failure, KvRow, List, Record, RunRow, WaitKey, WaitRow};
use crate::store::StoreError;

use super::keys::Keys;

/// An event that a script sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its name.
    pub name: Arc<str>,
    /// Its data: a JSON object as text.
    pub data: Json,
    /// The id that the script gave it: within its window, it is the only event of that name with it.
    pub id: Option<Arc<str>>,
    /// The id that it has else: derived from the run and the step.
    pub derived: Arc<str>,
    /// Its own time; none for the time of its acceptance.
    pub ts: Option<Millis>,
    /// What is kept beside it: the trace that it belongs to.
    pub extra: Option<Json>,
}

/// What a handler tells whoever listens to a channel at that moment. Nothing of it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The channel's name.
    pub channel: Arc<str>,
    /// What listeners of the channel choose by.
    pub topic: Option<Arc<str>>,
    /// The message: JSON as text, its secrets hidden.
    pub data: Json,
    /// The run.
    pub run: RunId,
    /// When.
    pub at: Millis,
}

/// What a run has to store together with what it asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnWrites {
    /// Its writes so far, and what they expect.
    pub list: List,
    /// The record of what it asks for; none where that comes later, as for a wait.
    pub record: Option<Record>,
    /// The wait that it opens.
    pub wait: Option<WaitRow>,
}

/// Why what a run asked for did not happen.
#[derive(Debug, Clone, PartialEq)]
pub enum PostError {
    /// The run was moved on by somebody else, so it may write nothing more.
    Lost,
    /// The store failed for good.
    Store(StoreError),
}

/// What comes of it, once it is durable.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, PostError>>>>;

/// Something that has been checked and is ready to be committed.
pub trait Parcel {
    /// Commits it together with the run's own writes; gives the record as it was stored.
    fn commit(self: Box<Self>, with: OwnWrites) -> Reply<Option<Record>>;
}

/// The ids of what is ready to be committed, or what is wrong with it.
pub type Checked<T> = Result<(T, Box<dyn Parcel>), Box<Failure>>;

/// The engine around a run.
pub trait Post: Send + Sync {
    /// Checks events, and gives them their ids. The record's value is an array of the ids as texts; an event that is
    /// known already by the script's id puts the first one's in its place.
    ///
    /// # Errors
    /// What is wrong with them; nothing is sent then.
    fn send(&self, events: Vec<Outgoing>) -> Checked<Vec<EventId>>;
    /// A signal to every run that waits for it.
    fn signal(&self, name: Arc<str>, data: Json) -> Box<dyn Parcel>;
    /// Checks that a function can be invoked with these data, and gives its run an id. `extra` is kept beside its event: the trace that
    /// it belongs to.
    ///
    /// # Errors
    /// What is wrong; nothing is started then.
    fn invoke(&self, caller: &RunRow, function: &str, data: Json, extra: Option<Json>) -> Checked<RunId>;
    /// Opens a wait, and looks back to the run's start for an event that fits it already: the wait as it is then. Where
    /// it was opened before, by an attempt that may have ended before it had looked back, `with` is none.
    fn open(&self, run: &RunRow, wait: WaitRow, with: Option<OwnWrites>) -> Reply<WaitRow>;
    /// The waits of a run, as they are stored.
    ///
    /// # Errors
    /// The store's.
    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError>;
    /// A stored event.
    ///
    /// # Errors
    /// The store's.
    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError>;
    /// The value that scripts keep under a key, as it is stored; none where it has expired by now.
    ///
    /// # Errors
    /// The store's.
    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError>;
    /// The keys whose values are about to be changed.
    fn keys(&self) -> Arc<Keys>;
    /// Gives up an open wait whose time is over, unless something has come: the wait as it is then. What a wait for
    /// another run had started is cancelled.
    fn time_out(&self, wait: &WaitKey) -> Reply<WaitRow>;
    /// Commits what a run has recorded of the race with this key, and in the same list closes the waits of the branches that were left:
    /// nothing that comes later ends them. What those waits had started is cancelled.
    fn leave(&self, race: Arc<str>, waits: Vec<WaitRow>, with: OwnWrites) -> Reply<()>;
}

/// No engine is around: scripts that are run by themselves can only wait for a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

fn alone() -> Box<Failure> {
    Box::new(Failure { message: "there is no engine around that could take it".to_owned(), ..Failure::default() })
}

impl Post for Alone {
    fn send(&self, _: Vec<Outgoing>) -> Checked<Vec<EventId>> {
        Err(alone())
    }

    fn signal(&self, _: Arc<str>, _: Json) -> Box<dyn Parcel> {
        Box::new(Alone)
    }

    fn invoke(&self, _: &RunRow, _: &str, _: Json, _: Option<Json>) -> Checked<RunId> {
        Err(alone())
    }

    fn open(&self, _: &RunRow, _: WaitRow, _: Option<OwnWrites>) -> Reply<WaitRow> {
        Box::pin(std::future::ready(Err(PostError::Lost)))
    }

    fn waits(&self, _: RunId) -> Result<Vec<WaitRow>, StoreError> {
        Ok(Vec::new())
    }

    fn event(&self, _: EventId) -> Result<Option<EventRow>, StoreError> {
        Ok(None)
    }

    fn value(&self, _: &str) -> Result<Option<KvRow>, StoreError> {
        Ok(None)
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::default()
    }

    fn time_out(&self, _: &WaitKey) -> Reply<WaitRow> {
        Box::pin(std::future::ready(Err(PostError::Lost)))
    }

    fn leave(&self, _: Arc<str>, _: Vec<WaitRow>, _: OwnWrites) -> Reply<()> {
        Box::pin(std::future::ready(Err(PostError::Lost)))
    }
}

impl Parcel for Alone {
    fn commit(self: Box<Self>, _: OwnWrites) -> Reply<Option<Record>> {
        Box::pin(std::future::ready(Err(PostError::Lost)))
    }
}
