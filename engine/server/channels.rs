//! Channels: what handlers publish, as server-sent events, and the tokens by which a browser listens to one of them.

use std::convert::Infallible;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::base::Span;
use crate::base::limits::CHANNEL_NAME_BYTES;
use crate::exec::Listener;

use super::error::ApiError;
use super::query::Params;
use super::stream::{KEEP_ALIVE, place};
use super::view::{ChannelTokenBody, ChannelTokenView, ChannelView, One, Time};
use super::{App, Shared, channel_token, inbound};

/// How long a token lasts where nobody says otherwise.
const TOKEN_LASTS: Span = Span::seconds(10 * 60);
/// How long a token may last: it cannot be taken back by itself.
const TOKEN_LASTS_MOST: Span = Span::seconds(24 * 3600);

/// One listener.
struct Hearing {
    listener: Listener,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

/// `GET /v1/channels/{name}?topic=NAME&token=TOKEN`: what is published from now on. It is listened to from before the answer begins, so
/// a client that makes a run publish once the stream is open misses nothing.
pub(super) async fn listen(
    State(app): Shared,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let params = Params::of(&uri, &["topic", "token"])?;
    may_listen(&app, &name, params.one("token")?, &headers)?;
    check_name(&name)?;
    let permit = place(&app.listeners)?;
    let topics = params.each("topic").map(str::to_owned).collect();
    let hearing = Hearing { listener: app.engine.listen(&name, topics), stopping: app.stopping.subscribe(), _permit: permit };
    let events = futures_util::stream::unfold(hearing, |mut hearing| async {
        let event = hearing.next().await?;
        Some((Ok(event), hearing))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE.std())))
}

impl Hearing {
    /// The next event; none where the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let heard = tokio::select! {
                heard = self.listener.next() => heard,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            };
            let view = ChannelView::of(&heard);
            // A view is made of JSON, texts and numbers, so it always becomes JSON.
            if let Ok(event) = Event::default().event(view.kind()).json_data(&view) {
                return Some(event);
            }
        }
    }
}

/// Whether a request brings a token of a channel instead of one of the API's: a browser's `EventSource` sends no headers of its own. It is
/// let through to `listen`, and to nothing else, which looks at the token.
pub(super) fn brings_token(method: &Method, uri: &Uri) -> bool {
    let is_channel = uri.path().strip_prefix("/v1/channels/").is_some_and(|name| !name.is_empty() && !name.contains('/'));
    let mut names = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).map(|(name, _)| name);
    method == Method::GET && is_channel && names.any(|name| name == "token")
}

fn may_listen(app: &App, channel: &str, token: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
    let door = app.door();
    match token {
        Some(token) => channel_token::check(&door.auth, token, channel, app.now()),
        None => door.auth.may(&Method::GET, headers),
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > CHANNEL_NAME_BYTES {
        return Err(ApiError::bad_request(format!("a channel's name has 1 to {CHANNEL_NAME_BYTES} bytes")));
    }
    Ok(())
}

/// `POST /v1/channels/{name}/token`
pub(super) async fn token(
    State(app): Shared,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<One<ChannelTokenView>>, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::bad_request(error.body_text()))?;
    check_name(&name)?;
    let door = app.door();
    let body: ChannelTokenBody = inbound::json(&door.options, request).await?;
    let lasts = match body.expires_in.as_deref().map(str::parse::<Span>) {
        None => TOKEN_LASTS,
        Some(Ok(lasts)) if lasts > Span(0) && lasts <= TOKEN_LASTS_MOST => lasts,
        Some(_) => return Err(ApiError::bad_request(format!("`expires_in` must be a duration such as 10m, at most {TOKEN_LASTS_MOST}"))),
    };
    let now = app.now();
    let expires = now.after(lasts);
    let Some(token) = channel_token::make(&door.auth, &name, expires) else {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "tokens of channels are made with STEPWELL_ADMIN_TOKEN alone"));
    };
    Ok(Json(One::at(now, ChannelTokenView { channel: name, token, expires_at: Time(expires) })))
}
