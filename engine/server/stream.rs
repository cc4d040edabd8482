//! What happens, as it happens: the engine's notices as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use crate::base::{RunId, Span};
use crate::exec::Notice;

use super::Shared;
use super::error::ApiError;
use super::query::Params;
use super::view::NoticeView;

/// How often a silent stream says that it is there.
pub(super) const KEEP_ALIVE: Span = Span::seconds(15);
/// Seconds after which a watcher may come again when there are too many.
const CROWDED_SECONDS: u32 = 10;

/// One watcher.
struct Watcher {
    notices: broadcast::Receiver<Notice>,
    /// Only of these runs; empty for all.
    runs: Vec<RunId>,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

/// `GET /v1/stream?run=ID`: all notices, or those of some runs. They are taken from before the answer begins, so a client
/// that looks at a run once the stream is open misses nothing.
pub(super) async fn stream(State(app): Shared, uri: Uri) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let params = Params::of(&uri, &["run"])?;
    let bad = |_| ApiError::bad_request("`run` must be an id of 13 characters");
    let runs = params.all("run").map(|text| text.parse().map_err(bad)).collect::<Result<Vec<RunId>, ApiError>>()?;
    let permit = place(&app.streams)?;
    let watcher = Watcher { notices: app.engine.subscribe(), runs, stopping: app.stopping.subscribe(), _permit: permit };
    let events = futures_util::stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE.std())))
}

/// A place among those who watch, or who listen.
pub(super) fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    let crowded = |_| ApiError::retry(StatusCode::TOO_MANY_REQUESTS, CROWDED_SECONDS, "too many streams are open");
    Arc::clone(places).try_acquire_owned().map_err(crowded)
}

impl Watcher {
    /// The next event; none where the server or the engine stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let view = self.view().await?;
            // A view is made of texts and numbers, so it always becomes JSON.
            if let Ok(event) = Event::default().event(view.kind()).json_data(&view) {
                return Some(event);
            }
        }
    }

    async fn view(&mut self) -> Option<NoticeView> {
        loop {
            let notice = tokio::select! {
                notice = self.notices.recv() => notice,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            };
            match notice {
                Ok(notice) if !self.runs.is_empty() && !self.runs.contains(&notice.run()) => {}
                Ok(notice) => return Some(NoticeView::of(&notice)),
                // The engine waits for nobody: a client that reads too slowly is told how much it did not see.
                Err(RecvError::Lagged(missed)) => return Some(NoticeView::Missed { missed }),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Millis};
    use crate::rules::RunState;

    fn notice(run: i64) -> Notice {
        Notice::Run { run: Id(run), function: Arc::from("f"), state: RunState::Running, at: Millis(1) }
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_what_it_missed_and_holds_up_nobody() {
        let (notices, receiver) = broadcast::channel(2);
        let stop = watch::Sender::new(false);
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let mut watcher = Watcher { notices: receiver, runs: vec![Id(4)], stopping: stop.subscribe(), _permit: permit };
        for run in 1..=4 {
            notices.send(notice(run)).unwrap();
        }
        assert_eq!(watcher.view().await, Some(NoticeView::Missed { missed: 2 }));
        assert_eq!(watcher.view().await, Some(NoticeView::of(&notice(4))));
        stop.send_replace(true);
        assert_eq!(watcher.view().await, None);
    }
}
