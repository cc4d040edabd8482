//! The HTTP API: events in, runs out, and the doors kept as guarantees.md says.
//!
//! A request is checked here and answered from the engine or its store; what happens to an event is decided elsewhere.
//! No SQL, no scripts, no rules.

mod admission;
mod again;
mod api;
mod auth;
mod channel_token;
mod channels;
mod error;
mod events;
mod functions;
mod health;
mod inbound;
mod listen;
mod metrics;
mod openapi;
mod options;
mod persist;
mod query;
mod reload;
mod runs;
mod select;
mod session;
mod signals;
mod stall;
mod stream;
pub mod view;
mod webhooks;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};

use crate::base::Millis;
use crate::exec::Engine;
use crate::project::Project;
use crate::store::{Store, StoreError};

use admission::Admission;
use auth::Auth;
use webhooks::Deliveries;

pub use api::Api;
pub use auth::Right;
pub use error::ApiError;
pub use health::index;
pub use listen::serve;
pub use openapi::document;
pub use options::{Pages, ServerOptions};
pub use query::Params;
pub use runs::{Filter, Word, key_of};
pub use select::EventSelection;
pub use session::{SESSION_LASTS, Session};

/// Reads of the store at once: more would take the cores from the runs.
const READS_AT_ONCE: usize = 4;

/// What the routes share.
struct App {
    engine: Engine,
    listen: SocketAddr,
    door: RwLock<Arc<Door>>,
    admission: Admission,
    refused: metrics::Refused,
    reads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    deliveries: Deliveries,
    /// Turns true when the server stops: streams end then.
    stopping: watch::Sender<bool>,
}

type Shared = State<Arc<App>>;

/// Who is let in and how much is taken, by the snapshot in force.
struct Door {
    project: Arc<Project>,
    options: ServerOptions,
    auth: Auth,
}

impl App {
    fn new(engine: Engine, options: ServerOptions, listen: SocketAddr) -> Arc<App> {
        let project = engine.project();
        Arc::new(App {
            admission: Admission::new(options.waiting_bytes),
            refused: metrics::Refused::default(),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            streams: Arc::new(Semaphore::new(options.streams)),
            listeners: Arc::new(Semaphore::new(options.listeners)),
            deliveries: Deliveries::default(),
            stopping: watch::Sender::new(false),
            door: RwLock::new(Arc::new(Door { auth: Auth::new(&options, listen), project, options })),
            engine,
            listen,
        })
    }

    /// Who is let in now. A reload may have changed that since the last request.
    fn door(&self) -> Arc<Door> {
        let door = Arc::clone(&self.door.read().unwrap_or_else(PoisonError::into_inner));
        let project = self.engine.project();
        if Arc::ptr_eq(&door.project, &project) {
            return door;
        }
        let options = door.options.clone().of(&project);
        let door = Arc::new(Door { auth: Auth::new(&options, self.listen), project, options });
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&door);
        door
    }

    fn now(&self) -> Millis {
        self.engine.clock().now()
    }

    /// Reads the store beside the server's own thread, so that a long read holds up no other request.
    async fn read<T, F>(&self, read: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let stopping = |_| ApiError::from(StoreError::Closed);
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(stopping)?;
        let store = Arc::clone(self.engine.store());
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&*store)
        });
        match reading.await {
            Ok(found) => Ok(found?),
            Err(error) => {
                tracing::error!(%error, "a read of the store broke off");
                Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the store broke off; the engine's log says how"))
            }
        }
    }
}

/// The routes, behind which nothing stands but `guard`.
fn routes(app: &Arc<App>) -> Router {
    let pages = app.door().options.pages.clone();
    let api = openapi::router(pages.is_some()).with_state(Arc::clone(app));
    let all = match pages {
        Some(pages) => api.merge(pages(Api::new(Arc::clone(app)))),
        None => api,
    };
    all.fallback(unknown).method_not_allowed_fallback(wrong_method)
}

async fn unknown(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::not_found(format!("there is nothing at {path}"))
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not work here; `Allow` names what does", request.method()))
}

/// What every request has to pass, whatever it asks for. Routes below `/v1/`, and the figures, are closed
/// unless a right opens them; only a token of a channel is looked at by the channel's own route. It stands before the routes and not in
/// layers of them, which would cost each request several boxes.
async fn guard(app: Arc<App>, routes: TowerToHyperService<Router>, request: hyper::Request<Incoming>) -> Response {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let door = app.door();
    let origin = match door.auth.knows_host(uri, headers).and_then(|()| door.auth.knows_origin(method, uri, headers)) {
        Ok(origin) => origin,
        Err(error) => return finished(error.into_response(), None),
    };
    if origin.is_some() && method == Method::OPTIONS {
        return finished(preflight(headers), origin);
    }
    if (uri.path().starts_with("/v1/") || uri.path() == "/metrics")
        && !channels::brings_token(method, uri)
        && let Err(error) = door.auth.may(method, headers)
    {
        return finished(error.into_response(), origin);
    }
    drop(door);
    match routes.call(request).await {
        Ok(response) => finished(response, origin),
        Err(never) => match never {},
    }
}

/// The answer to a browser that asks whether a page of a listed origin may call.
fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

/// Adds the headers that every answer has, unless it has its own.
fn finished(mut response: Response, origin: Option<HeaderValue>) -> Response {
    const ALWAYS: [(HeaderName, HeaderValue); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(value);
    }
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}
