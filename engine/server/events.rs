//! Events: sending them, and looking at them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};

use crate::base::limits::WAITING_EVENT_BYTES;
use crate::base::{EventId, Id, json};
use crate::exec::{AcceptError, Fault, NewEvent};
use crate::project::EventProblem;
use crate::rules::trace::{TRACEPARENT, TraceContext};
use crate::store::{EventQuery, RunQuery, StoreError};

use super::error::ApiError;
use super::inbound::{self, Incoming, Seed};
use super::persist::persist;
use super::query::{Params, SCANNED_MOST, path_id};
use super::runs;
use super::select::{EventSelection, Selection};
use super::view::{Accepted, Detail, EventView, ExplainView, One, Page, RunView};
use super::{App, Shared};

/// Seconds after which a sender may come again while the engine drains.
const DRAINING_SECONDS: u32 = 5;
/// The most runs of one event that are explained.
const EXPLAINED_RUNS: usize = 1_000;
/// Seconds after which a sender may come again while too much waits for the disk.
const CROWDED_SECONDS: u32 = 1;

/// `POST /e/{key}`
pub(super) async fn post_key(
    State(app): Shared,
    key: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Accepted>, ApiError> {
    let (parts, body) = request.into_parts();
    let key = match key {
        Ok(Path(key)) => key,
        Err(error) => return refused(body, ApiError::bad_request(error.body_text())).await,
    };
    take(&app, Some(&key), &parts.headers, body).await
}

/// `POST /e` with a bearer token
pub(super) async fn post_bearer(State(app): Shared, request: Request) -> Result<Json<Accepted>, ApiError> {
    let (parts, body) = request.into_parts();
    take(&app, None, &parts.headers, body).await
}

async fn take(app: &App, key: Option<&str>, headers: &HeaderMap, body: Body) -> Result<Json<Accepted>, ApiError> {
    let taken = take_or_refuse(app, key, headers, body).await;
    if let Err(error) = &taken {
        app.refused.count(error, app.engine.is_draining());
    }
    taken
}

async fn take_or_refuse(app: &App, key: Option<&str>, headers: &HeaderMap, body: Body) -> Result<Json<Accepted>, ApiError> {
    let door = app.door();
    if let Err(error) = door.auth.may_send(key, headers) {
        return refused(body, error).await;
    }
    if app.engine.is_draining() {
        return refused(body, draining()).await;
    }
    let seed = match Seed::of(headers) {
        Ok(seed) => seed,
        Err(error) => return refused(body, error).await,
    };
    let body = inbound::read(headers, body, door.options.body_bytes, door.options.body_timeout).await?;
    // A header that is not one is no reason to lose an event.
    let context: Option<TraceContext> = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    send_within(app, &body, seed.as_ref(), context.as_ref()).await.map(Json)
}

/// Accepts the events of a body; answered once they are durable.
pub(super) async fn send(app: &App, body: &[u8], seed: Option<&Seed>) -> Result<Accepted, ApiError> {
    send_within(app, body, seed, None).await
}

/// The same, for events that are sent within a trace.
async fn send_within(app: &App, body: &[u8], seed: Option<&Seed>, context: Option<&TraceContext>) -> Result<Accepted, ApiError> {
    let (events, problems) = inbound::parse(body);
    if !problems.is_empty() {
        let problems = all_problems(app, &events, problems);
        note_refused(app, &events, &problems);
        return Err(refusal(problems));
    }
    let within = |mut event: NewEvent| {
        event.extra = context.map(|context| context.beside(event.extra.as_deref())).or(event.extra);
        event
    };
    let events: Vec<NewEvent> = events.into_iter().enumerate().map(|(n, event)| within(new_event(n, event, seed))).collect();
    let ids = accept(app, events, body.len()).await?;
    Ok(Accepted { ids, status: StatusCode::OK.as_u16() })
}

/// Accepts the events of a request with a body of so many bytes; answers their ids once they are durable.
pub(super) async fn accept(app: &App, events: Vec<NewEvent>, bytes: usize) -> Result<Vec<EventId>, ApiError> {
    let Some(place) = app.admission.enter(bytes + events.len() * WAITING_EVENT_BYTES) else {
        let message = "too many events wait for the disk: nothing was stored";
        return Err(ApiError::retry(StatusCode::TOO_MANY_REQUESTS, CROWDED_SECONDS, message));
    };
    // A client that hangs up ends this handler; but what was handed to the store is committed all the same, its runs have to
    // be told of, and it takes its place until then.
    let engine = app.engine.clone();
    let accepting = persist(async move {
        let _place = place;
        engine.accept(events).await
    });
    accepting.await.map_err(|error| match error {
        AcceptError::Refused(refusals) => refusal(refusals.into_iter().map(|refusal| told(refusal.index, refusal.problem)).collect()),
        AcceptError::Draining => draining(),
        AcceptError::Full => StoreError::Full.into(),
        AcceptError::Store(error) => error.into(),
    })
}

pub(super) async fn refused<T>(body: Body, error: ApiError) -> Result<T, ApiError> {
    inbound::discard(body).await;
    Err(error)
}

pub(super) fn draining() -> ApiError {
    ApiError::retry(StatusCode::SERVICE_UNAVAILABLE, DRAINING_SECONDS, "the engine is stopping and takes no new events")
}

pub(super) fn refusal(mut details: Vec<Detail>) -> ApiError {
    details.sort_by_key(|detail| detail.index);
    let first = details.first().map(|detail| detail.message.clone()).unwrap_or_default();
    let message = match details.len() {
        0 | 1 => first,
        count => format!("{count} problems; the first: {first}"),
    };
    ApiError::bad_request(format!("nothing was accepted: {message}")).detailed(details)
}

/// Notes the events that these problems are about, for whoever looks at what was refused.
fn note_refused(app: &App, events: &[Incoming], problems: &[Detail]) {
    let fault = |detail: &Detail| Fault {
        code: detail.code.clone(),
        pointer: detail.pointer.clone(),
        message: detail.message.clone(),
        help: detail.help.clone(),
    };
    let of = |index: Option<usize>| problems.iter().filter(|detail| detail.index == index).map(fault).collect::<Vec<_>>();
    let known = events.iter().enumerate().map(|(index, event)| (event.name.clone(), event.data.clone(), of(Some(index))));
    let body = std::iter::once((None, None, of(None)));
    app.engine.note_refused(known.chain(body).filter(|(_, _, faults)| !faults.is_empty()).collect());
}

/// The problems of the fields, and those that the declaration finds in events whose name and data could be read.
fn all_problems(app: &App, events: &[Incoming], mut problems: Vec<Detail>) -> Vec<Detail> {
    let project = app.engine.project();
    for (index, event) in events.iter().enumerate() {
        let (Some(name), Some(data)) = (&event.name, &event.data) else { continue };
        let Ok(data) = json::value(data) else { continue };
        if let Err(found) = project.check_event(name, &data) {
            problems.extend(found.into_iter().map(|problem| told(index, problem)));
        }
    }
    problems
}

fn told(index: usize, problem: EventProblem) -> Detail {
    let EventProblem { code, pointer, message, help } = problem;
    Detail { index: Some(index), code: code.to_owned(), pointer, message, help, seen: None }
}

/// An event without problems, for the engine. The sender's id wins over the request's seed.
pub(super) fn new_event(n: usize, event: Incoming, seed: Option<&Seed>) -> NewEvent {
    let dedupe = event.id.clone().or_else(|| seed.map(|seed| Arc::from(seed.key(n))));
    NewEvent {
        name: event.name.unwrap_or_default(),
        data: event.data.unwrap_or_else(|| Arc::from("{}")),
        sender_id: event.id,
        dedupe,
        ts: event.ts,
        extra: event.extra,
    }
}

/// `GET /v1/events`
pub(super) async fn list(State(app): Shared, uri: Uri) -> Result<Json<Page<EventView>>, ApiError> {
    listed(&app, &Params::of(&uri, &["name", "received_after", "where", "prefix", "limit", "cursor"])?).await.map(Json)
}

pub(super) async fn listed(app: &App, params: &Params) -> Result<Page<EventView>, ApiError> {
    let now = app.now();
    let (from, to) = params.bounds()?;
    let limit = params.limit()?;
    let query = EventQuery {
        name: params.one("name")?.map(Arc::from),
        received_after: params.time("received_after", now)?,
        from,
        to,
        limit: 0,
        oldest_first: false,
    };
    let bad = |error: String| ApiError::bad_request(format!("`where` is not a condition over `event`: {error}"));
    let selection = EventSelection::new(query, params.one("where")?).map_err(bad)?;
    let (rows, cursor) = app.read(move |store| selection.page(store, limit, SCANNED_MOST)).await?;
    Ok(Page::at(now, rows.iter().map(EventView::of).collect(), cursor.map(|id| id.to_string())))
}

/// `GET /v1/events/{id}`
pub(super) async fn get(State(app): Shared, id: Result<Path<String>, PathRejection>, uri: Uri) -> Result<Json<One<EventView>>, ApiError> {
    let id = path_id("an event", id)?;
    Params::of(&uri, &[])?;
    view(&app, id).await.map(Json)
}

pub(super) async fn view(app: &App, id: Id) -> Result<One<EventView>, ApiError> {
    let now = app.now();
    let row = app.read(move |store| store.event(id)).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("there is no event {id}")))?;
    Ok(One::at(now, EventView::of(&row)))
}

/// `GET /v1/events/{id}/explain`
pub(super) async fn explain(
    State(app): Shared,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<One<ExplainView>>, ApiError> {
    let id = path_id("an event", id)?;
    Params::of(&uri, &[])?;
    explained(&app, id).await.map(Json)
}

pub(super) async fn explained(app: &App, id: Id) -> Result<One<ExplainView>, ApiError> {
    let now = app.now();
    let project = app.engine.project();
    let found = app.read(move |store| {
        let Some(event) = store.event(id)? else { return Ok(None) };
        let runs = store.runs(&RunQuery { event: Some(id), limit: EXPLAINED_RUNS, ..RunQuery::default() })?;
        ExplainView::of(&event, &project, &runs, store, now).map(Some)
    });
    let view = found.await?.ok_or_else(|| ApiError::not_found(format!("there is no event {id}")))?;
    Ok(One::at(now, view.by_config(Some(app.engine.in_force()))))
}

/// `GET /v1/events/{id}/runs`
pub(super) async fn runs(State(app): Shared, id: Result<Path<String>, PathRejection>, uri: Uri) -> Result<Json<Page<RunView>>, ApiError> {
    let id = path_id("an event", id)?;
    runs_of(&app, id, &Params::of(&uri, &["limit", "cursor"])?).await.map(Json)
}

pub(super) async fn runs_of(app: &App, id: Id, params: &Params) -> Result<Page<RunView>, ApiError> {
    let (from, to) = params.bounds()?;
    let query = RunQuery { event: Some(id), from, to, ..RunQuery::default() };
    let selection = Selection { query, ..Selection::default() };
    let is_there = app.read(move |store| store.event(id)).await?.is_some();
    if !is_there {
        return Err(ApiError::not_found(format!("there is no event {id}")));
    }
    runs::page(app, &selection, params.limit()?).await
}
