//! Runs done again, tried again, and cancelled: one, or many at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};

use crate::base::RunId;
use crate::exec::{MigrateError, Migrated, ReplayError, Replayed, RetryError};
use crate::rules::replay::{Keep, Refusal};
use crate::store::{RunQuery, StoreError};

use super::error::ApiError;
use super::inbound;
use super::query::{Params, path_id};
use super::runs::{self, Filter};
use super::select::Selection;
use super::view::{DoneView, ManyBody, ManyView, MigrateBody, MigratedView, One, Raw, ReplayBody, ReplayView, RunView};
use super::{App, Shared};

/// The most runs that an answer about many names.
const NAMED_MOST: usize = 1_000;
/// The reason of runs that were cancelled by one request, where it gives none.
const CANCELLED: &str = "cancelled with others by request";

/// `POST /v1/runs/{id}/replay`
pub(super) async fn replay(
    State(app): Shared,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<One<ReplayView>>, ApiError> {
    let id = path_id("a run", id)?;
    let body: ReplayBody = inbound::json(&app.door().options, request).await?;
    do_again(&app, id, body).await.map(Json)
}

/// Does a run again, as a new one.
pub(super) async fn do_again(app: &App, id: RunId, body: ReplayBody) -> Result<One<ReplayView>, ApiError> {
    let keep = keep(body.from_step, body.set);
    let replayed = app.engine.replay(id, &keep, body.dry_run).await.map_err(|error| not_replayed(id, error))?;
    Ok(One::at(app.now(), view(id, replayed, body.dry_run)))
}

fn keep(from: Option<String>, set: BTreeMap<String, Raw>) -> Keep {
    Keep { from, set: set.into_iter().map(|(step, value)| (step, Arc::from(value.get()))).collect() }
}

fn view(replay_of: RunId, replayed: Replayed, dry_run: bool) -> ReplayView {
    ReplayView {
        replay_of,
        run_id: (!dry_run).then_some(replayed.run.id),
        function_id: replayed.run.function.to_string(),
        kept: replayed.kept.iter().map(|key| key.to_string()).collect(),
    }
}

fn not_replayed(id: RunId, error: ReplayError) -> ApiError {
    match error {
        ReplayError::NotFound => runs::no_run(id),
        ReplayError::Refused(Refusal::UnderWay(_) | Refusal::EventGone | Refusal::BatchGone { .. })
        | ReplayError::Unfit(_)
        | ReplayError::FunctionGone(_) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        ReplayError::Refused(_) => ApiError::bad_request(error.to_string()),
        ReplayError::Draining => super::events::draining(),
        ReplayError::Store(error) => error.into(),
    }
}

/// `POST /v1/runs/{id}/retry-now`: answers the run as it is afterwards.
pub(super) async fn retry_now(
    State(app): Shared,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<One<RunView>>, ApiError> {
    let id = path_id("a run", id)?;
    Params::of(&uri, &[])?;
    retry(&app, id).await.map(Json)
}

/// Has a run that backs off or is parked go on; the run as it is afterwards.
pub(super) async fn retry(app: &App, id: RunId) -> Result<One<RunView>, ApiError> {
    match app.engine.retry_now(id).await {
        Ok(_) => runs::view(app, id).await,
        Err(RetryError::NotFound) => Err(runs::no_run(id)),
        Err(error @ RetryError::NothingToRetry(_)) => Err(ApiError::new(StatusCode::CONFLICT, error.to_string())),
        Err(RetryError::Draining) => Err(super::events::draining()),
        Err(RetryError::Store(error)) => Err(error.into()),
    }
}

/// `POST /v1/runs/{id}/migrate`
pub(super) async fn migrate(
    State(app): Shared,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<One<MigratedView>>, ApiError> {
    let id = path_id("a run", id)?;
    let body: MigrateBody = inbound::json(&app.door().options, request).await?;
    take(&app, id, body.dry_run).await.map(Json)
}

/// Takes a run to the newest version of its handler.
pub(super) async fn take(app: &App, id: RunId, dry_run: bool) -> Result<One<MigratedView>, ApiError> {
    match app.engine.migrate(id, dry_run).await {
        Ok(Migrated { from, to, .. }) => {
            let short = |hash: &str| hash.chars().take(12).collect::<String>();
            let verb = if dry_run { "can go on" } else { "goes on" };
            let text = match &from {
                Some(from) if *from != to => format!("{id} {verb} with {} instead of {}", short(&to), short(from)),
                _ => format!("{id} {verb} with {}, which is the newest", short(&to)),
            };
            Ok(One::at(app.now(), MigratedView { run_id: id, from: from.map(|from| from.to_string()), to: to.to_string(), text }))
        }
        Err(MigrateError::NotFound) => Err(runs::no_run(id)),
        Err(MigrateError::Draining) => Err(super::events::draining()),
        Err(MigrateError::Store(error)) => Err(error.into()),
        Err(error) => Err(ApiError::new(StatusCode::CONFLICT, format!("{id}: {error}"))),
    }
}

/// One that forgot its filter must not end, or do again, everything; it may count.
fn says_which(what: &str, body: &ManyBody) -> Result<(), ApiError> {
    if body.is_unbounded() && !body.dry_run {
        let filters = "`function`, `status`, `event`, `since`, `until` or `if`";
        return Err(ApiError::bad_request(format!("a {what} of many says which runs it means: {filters}")));
    }
    Ok(())
}

/// The runs that the body of a request about many means. `otherwise` are the statuses where it gives none.
fn selection(app: &App, body: &ManyBody, otherwise: &[&str]) -> Result<Selection, ApiError> {
    let (project, now) = (app.engine.project(), app.now());
    if let (Some(here), Some(meant)) = (&project.config.app, &body.app_id)
        && here.value != *meant
    {
        return Err(ApiError::bad_request(format!("this engine serves the app `{}`, not `{meant}`", here.value)));
    }
    let words: Vec<&str> = body.status.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty()).collect();
    let words = if words.is_empty() { otherwise } else { &words };
    Ok(Selection {
        query: RunQuery {
            function: body.function.as_deref().map(Arc::from),
            event: body.event,
            since: body.since.map(|when| when.seen_from(now)),
            ..RunQuery::default()
        },
        filter: Filter::parse(words.iter().copied())?,
        until: body.until.map(|when| when.seen_from(now)),
        condition: Selection::condition("if", body.condition.as_deref())?,
    })
}

/// `POST /v1/replays`: all that are meant, except for those that were replayed before.
pub(super) async fn replays(State(app): Shared, request: Request) -> Result<Json<One<ManyView>>, ApiError> {
    let body: ManyBody = inbound::json(&app.door().options, request).await?;
    replay_many(&app, body).await.map(Json)
}

pub(super) async fn replay_many(app: &App, body: ManyBody) -> Result<One<ManyView>, ApiError> {
    says_which("replay", &body)?;
    let (selection, dry_run) = (selection(app, &body, &["failed"])?, body.dry_run);
    replay_selected(app, &selection, &keep(body.from_step, body.set), dry_run).await
}

/// Does all selected runs again that were not before.
pub(super) async fn replay_selected(app: &App, selection: &Selection, keep: &Keep, dry_run: bool) -> Result<One<ManyView>, ApiError> {
    let found = selection.all(app).await?;
    let matched = found.len();
    let ids: Vec<RunId> = found.iter().map(|view| view.run_id).collect();
    let left = app.read(move |store| {
        let is_first = |id: &RunId| -> Result<bool, StoreError> {
            let again = RunQuery { replay_of: Some(*id), limit: 1, ..RunQuery::default() };
            Ok(store.runs(&again)?.is_empty())
        };
        ids.iter().filter_map(|id| is_first(id).map(|first| first.then_some(*id)).transpose()).collect::<Result<Vec<_>, _>>()
    });
    let left: Vec<RunId> = left.await?;
    let mut view = ManyView { matched, replayed_before: matched - left.len(), dry_run, ..ManyView::default() };
    for id in left {
        let mut done = DoneView { run_id: id, replayed_as: None, error: None };
        if !dry_run {
            match app.engine.replay(id, keep, false).await {
                Ok(replayed) => done.replayed_as = Some(replayed.run.id),
                Err(error @ (ReplayError::Draining | ReplayError::Store(_))) => return Err(not_replayed(id, error)),
                Err(error) => done.error = Some(error.to_string()),
            }
        }
        add(&mut view, done);
    }
    Ok(One::at(app.now(), view))
}

/// `POST /v1/cancellations`: all that are meant and have not ended.
pub(super) async fn cancellations(State(app): Shared, request: Request) -> Result<Json<One<ManyView>>, ApiError> {
    let body: ManyBody = inbound::json(&app.door().options, request).await?;
    cancel_many(&app, body).await.map(Json)
}

pub(super) async fn cancel_many(app: &App, body: ManyBody) -> Result<One<ManyView>, ApiError> {
    if body.from_step.is_some() || !body.set.is_empty() {
        return Err(ApiError::bad_request("`from_step` and `set` belong to a replay"));
    }
    says_which("cancel", &body)?;
    let selection = selection(app, &body, &["Scheduled", "Running"])?;
    cancel_selected(app, &selection, body.reason.as_deref(), body.dry_run).await
}

/// Cancels all selected runs that have not ended.
pub(super) async fn cancel_selected(
    app: &App,
    selection: &Selection,
    reason: Option<&str>,
    dry_run: bool,
) -> Result<One<ManyView>, ApiError> {
    let found = selection.all(app).await?;
    let open: Vec<RunId> = found.iter().filter(|run| !run.state.is_terminal()).map(|run| run.run_id).collect();
    let reason: String = reason.unwrap_or(CANCELLED).chars().take(runs::REASON_CHARACTERS).collect();
    let mut view = ManyView { matched: open.len(), dry_run, ..ManyView::default() };
    let outcomes = if dry_run { vec![Ok(()); open.len()] } else { app.engine.cancel_many(&open, &reason).await? };
    for (run_id, outcome) in open.into_iter().zip(outcomes) {
        add(&mut view, DoneView { run_id, replayed_as: None, error: outcome.err().map(|error| error.to_string()) });
    }
    Ok(One::at(app.now(), view))
}

fn add(view: &mut ManyView, done: DoneView) {
    view.done += usize::from(!view.dry_run && done.error.is_none());
    // Those that could not be done are never left out.
    if view.runs.len() < NAMED_MOST || done.error.is_some() {
        view.runs.push(done);
    }
}
