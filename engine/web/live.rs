//! What happens, for those who watch: a page is told that something of its topic has changed, and fetches that part anew.
//!
//! However much happens, a page is told twice a second at most, and one task takes the engine's notices for all pages: it rests between
//! two looks, so that the engine wakes nobody for a notice. Where nobody watches, it ends, and the engine makes no notices.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};

use crate::base::{RunId, Span};
use crate::exec::{Engine, Notice};

use super::{Ask, Web, WebError};

/// The shortest time between two looks at what has happened.
const PACE: Span = Span(500);
/// How often a page that shows times or counts is told in any case.
const TICK: Span = Span::seconds(2);
/// How often a silent stream says that it is there.
const KEEP_ALIVE: Span = Span::seconds(15);
/// How long notices are taken after the last watcher has gone: a page that is left for another one comes again at once.
const LINGER: Span = Span::seconds(30);
/// Looks that a slow watcher may lag behind; beyond it, it is told that everything has changed.
const LOOKS_KEPT: usize = 32;

/// What has happened between two looks.
#[derive(Debug, Default)]
struct Look {
    runs: HashSet<RunId>,
    states: bool,
    logs: bool,
    /// Notices went by unseen: anything may have changed.
    missed: bool,
}

impl Look {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && !self.missed
    }

    fn note(&mut self, notice: &Notice) {
        self.runs.insert(notice.run());
        match notice {
            Notice::Run { .. } => self.states = true,
            Notice::Log { .. } => self.logs = true,
            _ => {}
        }
    }
}

/// Takes the engine's notices for all who watch; clones are handles to the same one.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    looks: broadcast::Sender<Arc<Look>>,
    watchers: AtomicUsize,
    is_running: AtomicBool,
}

impl Hub {
    pub(super) fn new(engine: Engine) -> Hub {
        let (looks, _) = broadcast::channel(LOOKS_KEPT);
        let inner = Inner { engine, looks, watchers: AtomicUsize::new(0), is_running: AtomicBool::new(false) };
        Hub { inner: Arc::new(inner) }
    }

    /// Begins to take notices, if nobody does: called by every page that shows what they are kept for.
    pub fn wake(&self) {
        if !self.inner.is_running.swap(true, Ordering::SeqCst) {
            let notices = self.inner.engine.subscribe();
            tokio::spawn(take(Arc::clone(&self.inner), notices));
        }
    }

    fn watch(&self) -> Watching {
        self.inner.watchers.fetch_add(1, Ordering::SeqCst);
        let looks = self.inner.looks.subscribe();
        self.wake();
        Watching { inner: Arc::clone(&self.inner), looks }
    }
}

/// Takes notices as long as somebody watches.
async fn take(inner: Arc<Inner>, mut notices: broadcast::Receiver<Notice>) {
    let mut idle = 0;
    loop {
        let first = tokio::time::timeout(PACE.std(), notices.recv()).await;
        let mut look = Look::default();
        match first {
            Ok(Ok(notice)) => {
                look.note(&notice);
                // What happens meanwhile wakes nobody: it waits for the next look.
                tokio::time::sleep(PACE.std()).await;
            }
            Ok(Err(RecvError::Lagged(_))) => look.missed = true,
            Ok(Err(RecvError::Closed)) => break,
            Err(_) => {}
        }
        loop {
            match notices.try_recv() {
                Ok(notice) => look.note(&notice),
                Err(TryRecvError::Lagged(_)) => look.missed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if !look.is_empty() {
            // Nobody listening is no fault.
            let _ = inner.looks.send(Arc::new(look));
        }
        idle = if inner.watchers.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle * PACE.0 > LINGER.0 {
            inner.is_running.store(false, Ordering::SeqCst);
            // Somebody may have come who still saw it running: then it goes on, unless another one has begun since.
            if inner.watchers.load(Ordering::SeqCst) == 0 || inner.is_running.swap(true, Ordering::SeqCst) {
                return;
            }
            idle = 0;
        }
    }
    inner.is_running.store(false, Ordering::SeqCst);
}

/// One who watches.
struct Watching {
    inner: Arc<Inner>,
    looks: broadcast::Receiver<Arc<Look>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.inner.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One stream to a page.
struct Stream {
    watching: Watching,
    run: Option<RunId>,
    stopping: watch::Receiver<bool>,
    tick: tokio::time::Interval,
    _permit: OwnedSemaphorePermit,
}

/// `GET /live?run=ID`: events without content, whose names are the topics that have changed.
pub(super) async fn stream(State(web): State<Web>, request: Request) -> Response {
    let ask = Ask::of(&request, None);
    let permit = match web.api().watcher() {
        Ok(permit) => permit,
        Err(error) => return error.into_response(),
    };
    let run = match ask.one("run").map(str::parse) {
        None => None,
        Some(Ok(run)) => Some(run),
        Some(Err(_)) => return WebError::bad_request("`run` must be an id of 13 characters").page(&web, &ask),
    };
    let mut tick = tokio::time::interval(TICK.std());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stream = Stream { watching: web.hub().watch(), run, stopping: web.api().stopping(), tick, _permit: permit };
    let events = futures_util::stream::unfold(stream, |mut stream| async {
        let topics = stream.next().await?;
        Some((Ok::<Event, Infallible>(Event::default().event("live").data(topics)), stream))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE.std())).into_response()
}

impl Stream {
    /// The topics that have changed, with spaces between them; none where the server stops.
    async fn next(&mut self) -> Option<String> {
        loop {
            let look = tokio::select! {
                look = self.watching.looks.recv() => look,
                _ = self.tick.tick() => return Some("tick".to_owned()),
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            };
            let topics = match look {
                Ok(look) => self.topics(&look),
                Err(RecvError::Lagged(_)) => vec!["runs", "run", "logs"],
                Err(RecvError::Closed) => return None,
            };
            if !topics.is_empty() {
                return Some(topics.join(" "));
            }
        }
    }

    fn topics(&self, look: &Look) -> Vec<&'static str> {
        let mine = self.run.is_some_and(|run| look.missed || look.runs.contains(&run));
        let topics = [(look.states || look.missed, "runs"), (mine, "run"), (look.logs || look.missed, "logs")];
        topics.into_iter().filter(|(has_changed, _)| *has_changed).map(|(_, topic)| topic).collect()
    }
}
