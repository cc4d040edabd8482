//! The API as functions: what the routes answer, for pages that are served beside them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::base::{Id, Json, Millis, RunId};
use crate::exec::Engine;
use crate::rules::replay::Keep;
use crate::store::{Store, StoreError};

use super::App;
use super::auth::Right;
use super::error::ApiError;
use super::query::Params;
use super::session::Session;
use super::view::{
    Accepted, ConfigView, EventView, ExplainView, FunctionView, InvokeBody, InvokedView, LogView, ManyBody, ManyView, MigratedView, One,
    Page, PlanView, ReloadView, ReplayBody, ReplayView, RunView, SignalView, Trace,
};
use super::{again, events, functions, inbound, reload, runs, session, signals, stream};

/// A handle to a server's API; clones are handles to the same one. Whoever calls it has to see to rights by itself.
#[derive(Clone)]
pub struct Api(Arc<App>);

impl Api {
    pub(super) fn new(app: Arc<App>) -> Api {
        Api(app)
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The engine's time.
    pub fn now(&self) -> Millis {
        self.0.now()
    }

    /// Where the server listens.
    pub fn listen(&self) -> SocketAddr {
        self.0.listen
    }

    /// Whether it is the engine of `stepwell dev`.
    pub fn is_dev(&self) -> bool {
        self.0.door().options.is_dev
    }

    /// Whether events are taken with any key, or with none.
    pub fn takes_any_key(&self) -> bool {
        let door = self.0.door();
        door.options.any_key && self.0.listen.ip().is_loopback()
    }

    /// How many event keys, and whether an admin and a read-only token are set.
    pub fn keys(&self) -> (usize, bool, bool) {
        let options = &self.0.door().options;
        (options.event_keys.len(), options.admin_token.is_some(), options.read_token.is_some())
    }

    /// Reads the store beside the server's own thread, with few others at once.
    ///
    /// # Errors
    /// What the store says, as the API would.
    pub async fn read<T, F>(&self, read: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.read(read).await
    }

    /// What somebody without a token may do: everything, where the API asks for none, else nothing.
    pub fn right_without(&self) -> Right {
        if self.0.door().auth.is_open() { Right::All } else { Right::Nothing }
    }

    /// A session for whoever knows a token; none where it is not known.
    pub fn login(&self, token: &str) -> Option<Session> {
        session::begin(&self.0.door().auth, token, self.now())
    }

    /// What the holder of a session may do.
    pub fn right_of(&self, session: &str) -> Right {
        session::right(&self.0.door().auth, session, self.now())
    }

    /// The fields of a form that was posted, of at most `most` bytes where the options allow more.
    ///
    /// # Errors
    /// Where it is no form, too large or too slow.
    pub async fn form(&self, request: Request, most: u64) -> Result<Vec<(String, String)>, ApiError> {
        inbound::form(&self.0.door().options, request, most).await
    }

    /// A place among those who watch live.
    ///
    /// # Errors
    /// 429 where there are too many.
    pub fn watcher(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        stream::place(&self.0.streams)
    }

    /// Turns true when the server stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }

    /// `GET /v1/events`
    ///
    /// # Errors
    /// As the route; so for all that follow.
    pub async fn events(&self, params: &Params) -> Result<Page<EventView>, ApiError> {
        events::listed(&self.0, params).await
    }

    /// `GET /v1/events/{id}`
    pub async fn event(&self, id: Id) -> Result<One<EventView>, ApiError> {
        events::view(&self.0, id).await
    }

    /// `GET /v1/events/{id}/explain`
    pub async fn explain(&self, id: Id) -> Result<One<ExplainView>, ApiError> {
        events::explained(&self.0, id).await
    }

    /// `GET /v1/events/{id}/runs`
    pub async fn event_runs(&self, id: Id, params: &Params) -> Result<Page<RunView>, ApiError> {
        events::runs_of(&self.0, id, params).await
    }

    /// `POST /e`, by somebody who may do everything.
    pub async fn send(&self, body: &[u8]) -> Result<Accepted, ApiError> {
        if self.0.engine.is_draining() {
            return Err(events::draining());
        }
        events::send(&self.0, body, None).await
    }

    /// `GET /v1/runs`
    pub async fn runs(&self, params: &Params) -> Result<Page<RunView>, ApiError> {
        runs::listed(&self.0, params).await
    }

    /// The same, of the runs after one alone: no older one is looked at.
    pub async fn runs_after(&self, params: &Params, than: RunId) -> Result<Page<RunView>, ApiError> {
        let mut selection = runs::selected(&self.0, params)?;
        selection.query.from = selection.query.from.max(Some(Id(than.0.saturating_add(1))));
        runs::page(&self.0, &selection, params.limit()?).await
    }

    /// `GET /v1/runs/{id}`
    pub async fn run(&self, id: RunId) -> Result<One<RunView>, ApiError> {
        runs::view(&self.0, id).await
    }

    /// These runs, as they are now, in the given order; those that are gone are left out.
    pub async fn these_runs(&self, ids: Vec<RunId>) -> Result<Vec<RunView>, ApiError> {
        runs::these(&self.0, ids).await
    }

    /// `GET /v1/runs/{id}/trace`
    pub async fn trace(&self, id: RunId) -> Result<One<Trace>, ApiError> {
        runs::traced(&self.0, id).await
    }

    /// `GET /v1/runs/{id}/logs`
    pub async fn logs(&self, id: RunId, params: &Params) -> Result<Page<LogView>, ApiError> {
        runs::logged(&self.0, id, params).await
    }

    /// `DELETE /v1/runs/{id}`
    pub async fn cancel(&self, id: RunId, reason: Option<&str>) -> Result<One<RunView>, ApiError> {
        runs::end(&self.0, id, reason).await
    }

    /// `POST /v1/runs/{id}/replay`
    pub async fn replay(&self, id: RunId, body: ReplayBody) -> Result<One<ReplayView>, ApiError> {
        again::do_again(&self.0, id, body).await
    }

    /// `POST /v1/runs/{id}/retry-now`
    pub async fn retry_now(&self, id: RunId) -> Result<One<RunView>, ApiError> {
        again::retry(&self.0, id).await
    }

    /// `POST /v1/runs/{id}/migrate`
    pub async fn migrate(&self, id: RunId) -> Result<One<MigratedView>, ApiError> {
        again::take(&self.0, id, false).await
    }

    /// `POST /v1/replays`
    pub async fn replays(&self, body: ManyBody) -> Result<One<ManyView>, ApiError> {
        again::replay_many(&self.0, body).await
    }

    /// `POST /v1/cancellations`
    pub async fn cancellations(&self, body: ManyBody) -> Result<One<ManyView>, ApiError> {
        again::cancel_many(&self.0, body).await
    }

    /// Does the runs again that a list with these parameters shows and that have ended; where they name no status, the failed ones.
    pub async fn replay_selected(&self, params: &Params, dry_run: bool) -> Result<One<ManyView>, ApiError> {
        let selection = runs::selected(&self.0, params)?.or_in(&["failed"])?;
        again::replay_selected(&self.0, &selection, &Keep::default(), dry_run).await
    }

    /// Cancels the runs that a list with these parameters shows and that have not ended.
    pub async fn cancel_selected(&self, params: &Params, reason: Option<&str>, dry_run: bool) -> Result<One<ManyView>, ApiError> {
        let selection = runs::selected(&self.0, params)?.or_in(&["Scheduled", "Running"])?;
        again::cancel_selected(&self.0, &selection, reason, dry_run).await
    }

    /// `GET /v1/functions`
    pub fn functions(&self) -> Page<FunctionView> {
        functions::listed(&self.0)
    }

    /// `POST /v1/functions/{id}/pause` and `/resume`
    pub async fn pause(&self, id: &str, paused: bool) -> Result<One<FunctionView>, ApiError> {
        functions::pause_or_resume(&self.0, id, paused).await
    }

    /// `POST /v1/functions/{id}/invoke`
    pub async fn invoke(&self, id: &str, body: InvokeBody) -> Result<One<InvokedView>, ApiError> {
        functions::start(&self.0, id, body).await
    }

    /// `GET /v1/config`
    pub fn config(&self) -> One<ConfigView> {
        functions::in_force(&self.0)
    }

    /// `GET /v1/plan`
    pub async fn plan(&self) -> Result<One<PlanView>, ApiError> {
        reload::planned(&self.0).await
    }

    /// `POST /v1/reload`
    pub async fn reload(&self) -> Result<One<ReloadView>, ApiError> {
        reload::put_in_force(&self.0).await
    }

    /// `POST /v1/signals/{name}`
    pub async fn signal(&self, name: &str, data: Json) -> Result<One<SignalView>, ApiError> {
        signals::check_name(name)?;
        signals::give(&self.0, name, data).await
    }
}
