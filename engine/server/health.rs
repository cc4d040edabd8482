//! Whether the engine lives and takes events, and the page at the root.

use super::Shared;
use super::error::ApiError;
use super::view::{Detail, HealthView};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Seconds after which a sender may look again.
const READY_SECONDS: u32 = 1;

/// `GET /health`: 200 while the process lives, since starting it again would mend neither a full disk nor a drain; what
/// is wrong stands in `reasons`.
pub(super) async fn health(State(app): Shared, headers: HeaderMap) -> Response {
    let health = app.engine.health();
    let message = if health.ok { "OK" } else { "degraded" };
    let mut config = Vec::new();
    if let Some((_, problems)) = app.engine.broken()
        && app.door().auth.may(&Method::GET, &headers).is_ok()
    {
        // Pictures show lines of the files, which is not for everybody.
        config.extend(problems.iter().map(Detail::of));
    }
    view(message, health.reasons, config)
}

/// `GET /ready`: 200 while events are taken.
pub(super) async fn ready(State(app): Shared) -> Response {
    if app.engine.is_ready() {
        return view("ready", Vec::new(), Vec::new());
    }
    let reasons = app.engine.health().reasons;
    let why = if reasons.is_empty() { "taking up what the store holds".to_owned() } else { reasons.join("; ") };
    ApiError::retry(StatusCode::SERVICE_UNAVAILABLE, READY_SECONDS, format!("not ready: {why}")).into_response()
}

fn view(message: &str, reasons: Vec<String>, config: Vec<Detail>) -> Response {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(HealthView { status: StatusCode::OK.as_u16(), message: message.to_owned(), version, reasons, config }).into_response()
}

/// `GET /`
pub async fn index() -> Response {
    const PAGE: &str = "stepwell: a durable event engine\n\n\
        POST /e/KEY              send an event: {\"name\": \"…\", \"data\": {…}}\n\
        GET  /v1/events          the events\n\
        GET  /v1/runs            the runs; /v1/runs/ID/trace shows the steps of one\n\
        GET  /v1/functions       the functions\n\
        GET  /v1/stream          what happens, as server-sent events\n\
        GET  /v1/channels/NAME   what handlers publish, as server-sent events\n\
        GET  /health, /ready     whether the engine is well\n\
        GET  /openapi.json       all of it, for programs\n";
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], PAGE).into_response()
}
