//! Functions: looking at what is declared.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use super::Shared;
use super::error::ApiError;
use super::query::Params;
use super::view::{FunctionView, Page};

/// `GET /v1/functions`: all of them, in the order of the file.
pub(super) async fn list(State(app): Shared, uri: Uri) -> Result<Json<Page<FunctionView>>, ApiError> {
    Params::of(&uri, &[])?;
    let project = app.engine.project();
    let now = app.now();
    let views = project.functions.iter().map(|function| FunctionView::of(function, now)).collect();
    Ok(Json(Page::at(now, views, None)))
}
