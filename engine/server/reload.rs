//! Another config in place of the one in force.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};

use crate::exec::ReloadError;
use crate::project::Loader;

use super::error::ApiError;
use super::persist::persist;
use super::query::Params;
use super::view::{ChangeView, Detail, OlderView, One, PlanView, ReloadView};
use super::{App, Shared, events};

/// `POST /v1/reload`: answers what has changed, once that is in force.
pub(super) async fn reload(State(app): Shared, uri: Uri) -> Result<Json<One<ReloadView>>, ApiError> {
    Params::of(&uri, &[])?;
    put_in_force(&app).await.map(Json)
}

pub(super) async fn put_in_force(app: &App) -> Result<One<ReloadView>, ApiError> {
    let (loader, engine) = (loader(app)?, app.engine.clone());
    // A client that hangs up must not leave half of it undone.
    let reloaded = persist(async move { engine.reload(&loader).await }).await.map_err(not_reloaded)?;
    let view = ReloadView {
        changes: ChangeView::all(&reloaded.difference),
        hash: reloaded.hash,
        older: reloaded.older.iter().map(OlderView::of).collect(),
        notes: reloaded.notes.iter().map(Detail::of).collect(),
    };
    Ok(One::at(app.now(), view))
}

/// `GET /v1/plan`
pub(super) async fn plan(State(app): Shared, uri: Uri) -> Result<Json<One<PlanView>>, ApiError> {
    Params::of(&uri, &[])?;
    planned(&app).await.map(Json)
}

pub(super) async fn planned(app: &App) -> Result<One<PlanView>, ApiError> {
    let plan = app.engine.plan(&loader(app)?).await.map_err(not_reloaded)?;
    Ok(One::at(app.now(), PlanView::of(&plan)))
}

fn loader(app: &App) -> Result<Loader, ApiError> {
    let missing = || ApiError::new(StatusCode::CONFLICT, "this engine was not started from files that could be read again");
    app.door().options.loader.clone().ok_or_else(missing)
}

fn not_reloaded(error: ReloadError) -> ApiError {
    let told = error.to_string();
    match error {
        ReloadError::Broken(problems) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, told).detailed(problems.iter().map(Detail::of).collect())
        }
        ReloadError::Draining => events::draining(),
        ReloadError::Store(error) => error.into(),
    }
}
