//! Functions and the config around them: looking at what is declared, pausing and resuming functions, and starting runs of one
//! by hand.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::base::diagnostic::nearest;
use crate::base::{RunId, Span};
use crate::exec::{InvokeError, Notice, PauseError};
use crate::project::Function;
use crate::rules::Failure;

use super::error::ApiError;
use super::query::Params;
use super::view::{ConfigView, Detail, FunctionView, InvokeBody, InvokedView, One, Page, SettingView};
use super::{App, Shared, events, inbound, runs};

/// The longest time that a request may wait for the run that it started.
const WAIT_MOST: Span = Span::seconds(600);
/// How often a run is looked at whose end may have gone by unseen.
const LOOK_AGAIN: Span = Span::seconds(1);

/// `GET /v1/functions`: all of them, in the order of the file.
pub(super) async fn list(State(app): Shared, uri: Uri) -> Result<Json<Page<FunctionView>>, ApiError> {
    Params::of(&uri, &[])?;
    Ok(Json(listed(&app)))
}

pub(super) fn listed(app: &App) -> Page<FunctionView> {
    let project = app.engine.project();
    let now = app.now();
    let view = |function: &std::sync::Arc<Function>| FunctionView::of(function, now).with_pause(app.engine.paused_since(&function.id));
    let views = project.functions.iter().map(view).collect();
    Page::at(now, views, None)
}

/// `GET /v1/config`
pub(super) async fn config(State(app): Shared, uri: Uri) -> Result<Json<One<ConfigView>>, ApiError> {
    Params::of(&uri, &[])?;
    Ok(Json(in_force(&app)))
}

pub(super) fn in_force(app: &App) -> One<ConfigView> {
    let project = app.engine.project();
    let settings = project.settings().map(|(key, value, origin)| SettingView { key, value, origin }).collect();
    One::at(app.now(), ConfigView { hash: project.hash.clone(), settings })
}

/// `POST /v1/functions/{id}/invoke`
pub(super) async fn invoke(
    State(app): Shared,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<One<InvokedView>>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let body: InvokeBody = inbound::json(&app.door().options, request).await?;
    start(&app, &id, body).await.map(Json)
}

/// Starts a run of a function without an event of its own.
pub(super) async fn start(app: &App, id: &str, body: InvokeBody) -> Result<One<InvokedView>, ApiError> {
    let wait = match body.wait.as_deref().map(str::parse::<Span>) {
        None => None,
        Some(Ok(wait)) if wait <= WAIT_MOST => Some(wait),
        Some(_) => return Err(ApiError::bad_request(format!("`wait` must be a duration such as 30s, at most {WAIT_MOST}"))),
    };
    // Taken before the run is there, so that its end is not missed.
    let notices = app.engine.subscribe();
    let data = body.data.map_or_else(|| Arc::from("{}"), |data| Arc::from(data.get()));
    let run = app.engine.invoke(id, data).await.map_err(|error| not_invoked(error, app.engine.project().function(id).is_some()))?;
    let ended = match wait {
        Some(wait) => ended(app, run.id, notices, wait).await?,
        None => false,
    };
    let now = app.now();
    let view = runs::view(app, run.id).await?.data;
    Ok(One::at(now, InvokedView { run_id: run.id, event_id: run.event, ended, run: view }))
}

fn not_invoked(error: InvokeError, is_declared: bool) -> ApiError {
    match error {
        InvokeError::Refused(failure) => {
            let Failure { message, code, help, .. } = *failure;
            let status = if is_declared { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
            let detail = Detail { index: None, code, pointer: "/data".to_owned(), message: message.clone(), help, seen: None };
            ApiError::new(status, message).detailed(vec![detail])
        }
        InvokeError::Draining => events::draining(),
        InvokeError::Store(error) => error.into(),
    }
}

/// Waits until a run has ended or is parked; false where it has not within `wait`.
async fn ended(app: &App, run: RunId, mut notices: Receiver<Notice>, wait: Span) -> Result<bool, ApiError> {
    let over = tokio::time::sleep(wait.std());
    let mut over = std::pin::pin!(over);
    loop {
        let row = app.read(move |store| store.run(run)).await?.ok_or_else(|| runs::no_run(run))?;
        if row.state.rests() {
            return Ok(true);
        }
        let mut stopping = app.stopping.subscribe();
        // A notice may have been missed, so it is looked at now and then.
        let again = tokio::time::sleep(LOOK_AGAIN.std());
        let mut again = std::pin::pin!(again);
        loop {
            let notice = tokio::select! {
                () = &mut over => return Ok(false),
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(false),
                () = &mut again => break,
                notice = notices.recv() => notice,
            };
            match notice {
                Ok(Notice::Run { run: of, state, .. }) if of == run && state.rests() => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Ok(false),
            }
        }
    }
}

/// `POST /v1/functions/{id}/pause`: answers the function as it is afterwards.
pub(super) async fn pause(
    State(app): Shared,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<One<FunctionView>>, ApiError> {
    set(&app, id, &uri, true).await
}

/// `POST /v1/functions/{id}/resume`: answers the function as it is afterwards.
pub(super) async fn resume(
    State(app): Shared,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<One<FunctionView>>, ApiError> {
    set(&app, id, &uri, false).await
}

async fn set(app: &App, id: Result<Path<String>, PathRejection>, uri: &Uri, paused: bool) -> Result<Json<One<FunctionView>>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Params::of(uri, &[])?;
    pause_or_resume(app, &id, paused).await.map(Json)
}

/// Pauses a function or lets it go on; the function as it is afterwards.
pub(super) async fn pause_or_resume(app: &App, id: &str, paused: bool) -> Result<One<FunctionView>, ApiError> {
    let project = app.engine.project();
    match app.engine.pause(id, paused).await {
        Ok(_) => {}
        Err(PauseError::Store(error)) => return Err(error.into()),
        Err(error @ PauseError::NotFound(_)) => {
            let known = project.functions.iter().map(|function| &*function.id);
            let near = nearest(id, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(ApiError::not_found(format!("{error}{near}")));
        }
    }
    let function = project.function(id).ok_or_else(|| ApiError::not_found(format!("there is no function `{id}`")))?;
    Ok(One::at(app.now(), FunctionView::of(function, app.now()).with_pause(app.engine.paused_since(id))))
}
