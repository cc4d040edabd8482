//! Signals: sending one to the runs that wait for it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;

use crate::base::limits::STEP_NAME_BYTES;
use crate::base::{Json as Text, json};
use crate::exec::AcceptError;

use super::error::ApiError;
use super::view::{One, SignalBody, SignalView, SignalledView};
use super::{App, Shared, events, inbound};

/// `POST /v1/signals/{name}`: the body, any JSON or none, is what the waits give.
pub(super) async fn send(
    State(app): Shared,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<One<SignalView>>, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::bad_request(error.body_text()))?;
    check_name(&name)?;
    let (parts, body) = request.into_parts();
    let data = data(&app, &parts.headers, body).await?;
    give(&app, &name, data).await.map(Json)
}

/// `POST /v1/signals`, as Inngest's SDKs send it: name and data in the body. They take 404 to say that nobody waits.
pub(super) async fn send_named(State(app): Shared, request: Request) -> Result<Json<One<SignalledView>>, ApiError> {
    let SignalBody { signal, data } = inbound::json(&app.door().options, request).await?;
    check_name(&signal)?;
    let data = data.map_or_else(|| Arc::from("null"), |data| Arc::from(data.get()));
    let runs = resolved(app.engine.signal_runs(&signal, data).await)?;
    let Some(run_id) = runs.first().copied() else {
        return Err(ApiError::not_found(format!("no run waits for the signal `{signal}`")));
    };
    Ok(Json(One::at(app.engine.clock().now(), SignalledView { run_id, runs: runs.len() })))
}

/// Gives a signal to the runs that wait for it.
pub(super) async fn give(app: &App, name: &str, data: Text) -> Result<One<SignalView>, ApiError> {
    let runs = resolved(app.engine.signal(name, data).await)?;
    Ok(One::at(app.engine.clock().now(), SignalView { name: name.to_owned(), runs }))
}

fn resolved<T>(sent: Result<T, AcceptError>) -> Result<T, ApiError> {
    match sent {
        Ok(sent) => Ok(sent),
        Err(AcceptError::Draining) => Err(events::draining()),
        Err(AcceptError::Full) => Err(ApiError::from(crate::store::StoreError::Full)),
        Err(AcceptError::Store(error)) => Err(error.into()),
        Err(error @ AcceptError::Refused(_)) => Err(ApiError::bad_request(error.to_string())),
    }
}

pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > STEP_NAME_BYTES {
        return Err(ApiError::bad_request(format!("a signal's name has 1 to {STEP_NAME_BYTES} bytes")));
    }
    Ok(())
}

/// The body as JSON text; `null` where there is none.
async fn data(app: &App, headers: &HeaderMap, body: Body) -> Result<Text, ApiError> {
    if axum::body::HttpBody::is_end_stream(&body) {
        return Ok(Arc::from("null"));
    }
    let door = app.door();
    let bytes = inbound::read(headers, body, door.options.body_bytes, door.options.body_timeout).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ApiError::bad_request("the body is not UTF-8 text"))?.trim();
    json::value(text).map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(Arc::from(text))
}
