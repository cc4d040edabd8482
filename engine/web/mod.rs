//! The dashboard: pages for people, served beside the API.
//!
//! Every page is a function that answers HTML; the router and the navigation are made from one table of them. What a page shows and
//! does, it gets from the functions behind the API's routes. The browser is given files of ours alone: no inline script or style.

pub mod actions;
mod ask;
mod assets;
mod door;
mod error;
mod history;
mod layout;
mod lines;
pub mod live;
mod login;
mod pages;
mod rows;
mod schema_form;
pub mod told;
pub mod widgets;
mod words;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::HeaderValue;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::Millis;
use crate::exec::{Engine, Flow, Rested};
use crate::project::Project;
use crate::server::{Api, Pages, Right};
use crate::store::{Store, StoreError};

pub use ask::{Ask, Form};
use pages::overview::Attention;

pub use error::WebError;
pub use layout::Content;

/// What pages share; clones are handles to the same.
#[derive(Clone)]
pub struct Web {
    api: Api,
    hub: live::Hub,
    history: history::History,
    flow: Rested<Flow>,
    wide_flow: Rested<Flow>,
    attention: Rested<Attention>,
    /// Who reads the whole database for faults.
    deep: Arc<Semaphore>,
}

/// Keys of each kind that are asked of the queue and the gates.
const KEYS_ASKED: usize = 500;
/// The same for one who looks for certain keys among them.
const KEYS_SEARCHED: usize = 10_000;

impl Web {
    fn new(api: Api) -> Web {
        Web {
            hub: live::Hub::new(api.engine().clone()),
            history: history::History::of(&api),
            flow: Rested::default(),
            wide_flow: Rested::default(),
            attention: Rested::default(),
            deep: Arc::new(Semaphore::new(1)),
            api,
        }
    }

    /// The API as functions.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        self.api.engine()
    }

    /// The snapshot in force.
    pub fn project(&self) -> Arc<Project> {
        self.engine().project()
    }

    /// The engine's time.
    pub fn now(&self) -> Millis {
        self.api.now()
    }

    /// What happens, for those who watch.
    pub fn hub(&self) -> &live::Hub {
        &self.hub
    }

    /// Flow control as it was a moment ago: to look at it takes the time of the scheduler and of whoever decides on events.
    pub(crate) async fn flow(&self, searches: bool) -> Arc<Flow> {
        let (kept, most) = if searches { (&self.wide_flow, KEYS_SEARCHED) } else { (&self.flow, KEYS_ASKED) };
        let asking = async { Ok::<_, Infallible>(self.engine().flow(most).await) };
        let Ok(flow) = kept.get(|| self.now(), asking).await;
        flow
    }

    /// The runs that need somebody, as they were a moment ago.
    pub(crate) fn attention(&self) -> &Rested<Attention> {
        &self.attention
    }

    /// The right to read the whole database; none while somebody else does.
    pub(crate) fn reads_all(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.deep).try_acquire_owned().ok()
    }

    /// How it went lately.
    pub(crate) fn history(&self) -> &history::History {
        &self.history
    }

    /// Reads the store beside the server's own thread.
    ///
    /// # Errors
    /// What the store says, as the API would.
    pub async fn read<T, F>(&self, read: F) -> Result<T, WebError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        Ok(self.api.read(read).await?)
    }
}

/// What a page answers, once it has looked.
pub type Showing = Pin<Box<dyn Future<Output = Result<Content, WebError>> + Send>>;

/// One page.
#[derive(Clone, Copy)]
pub struct Page {
    /// As the router reads it.
    pub path: &'static str,
    /// The document's title, where the page has no better one.
    pub title: &'static str,
    /// The sign before its name in the navigation; none for a page that is not in it.
    pub sign: Option<&'static str>,
    /// Makes it.
    pub show: fn(Web, Ask) -> Showing,
}

impl Page {
    /// A page of the navigation.
    const fn nav(path: &'static str, title: &'static str, sign: &'static str, show: fn(Web, Ask) -> Showing) -> Page {
        Page { path, title, sign: Some(sign), show }
    }

    /// A page that others lead to.
    const fn at(path: &'static str, title: &'static str, show: fn(Web, Ask) -> Showing) -> Page {
        Page { path, title, sign: None, show }
    }
}

/// Every page, in the order of the navigation.
pub const PAGES: &[Page] = &[
    Page::nav("/", "Overview", "◎", |web, ask| Box::pin(pages::overview::page(web, ask))),
    Page::nav("/runs", "Runs", "▸", |web, ask| Box::pin(pages::runs::page(web, ask))),
    Page::at("/runs/{id}", "Run", |web, ask| Box::pin(pages::run::page(web, ask))),
    Page::nav("/events", "Events", "✦", |web, ask| Box::pin(pages::events::page(web, ask))),
    Page::at("/events/{id}", "Event", |web, ask| Box::pin(pages::events::one(web, ask))),
    Page::nav("/send", "Send event", "↗", |web, ask| Box::pin(pages::send::page(web, ask))),
    Page::nav("/functions", "Functions", "ƒ", |web, ask| Box::pin(pages::functions::page(web, ask))),
    Page::at("/functions/{id}", "Function", |web, ask| Box::pin(pages::function::page(web, ask))),
    Page::nav("/flow", "Flow control", "≋", |web, ask| Box::pin(pages::flow::page(web, ask))),
    Page::nav("/topology", "Topology", "⋔", |web, ask| Box::pin(pages::topology::page(web, ask))),
    Page::nav("/logs", "Logs", "≡", |web, ask| Box::pin(pages::logs::page(web, ask))),
    Page::nav("/config", "Config", "⚙", |web, ask| Box::pin(pages::config::page(web, ask))),
    Page::nav("/keys", "Keys", "⚿", |web, ask| Box::pin(pages::keys::page(web, ask))),
    Page::nav("/doctor", "Doctor", "✚", |web, ask| Box::pin(pages::doctor::page(web, ask))),
];

/// The path of every page of the navigation.
pub fn paths() -> impl Iterator<Item = &'static str> {
    PAGES.iter().filter(|page| page.sign.is_some()).map(|page| page.path)
}

/// Makes the dashboard's routes for a server.
pub fn pages() -> Pages {
    Arc::new(|api| router(Web::new(api)))
}

fn router(web: Web) -> Router {
    let mut closed: Router<Web> = Router::new();
    for page in PAGES {
        closed = closed
            .route(page.path, get(move |State(web): State<Web>, id: Option<Path<String>>, request: Request| show(web, page, id, request)));
    }
    for action in actions::ACTIONS {
        closed = closed.route(action.path, post(move |State(web): State<Web>, request: Request| actions::act(web, action, request)));
    }
    let closed = closed.route("/live", get(live::stream)).layer(middleware::from_fn_with_state(web.clone(), door::guard));
    let open = Router::new()
        .route("/login", get(login::page).post(login::login))
        .route("/logout", post(login::logout))
        .route("/assets/{name}", get(assets::serve));
    open.merge(closed).layer(middleware::map_response(safe)).with_state(web)
}

/// Answers a page: with the shell around it, or a part of it alone.
async fn show(web: Web, page: &'static Page, id: Option<Path<String>>, request: Request) -> Response {
    let ask = Ask::of(&request, id.map(|Path(id)| id));
    match (page.show)(web.clone(), ask.clone()).await {
        Ok(content) if ask.part().is_some() => content.alone().into_response(),
        Ok(content) => layout::whole(&web, &ask, page, content).into_response(),
        Err(error) => error.page(&web, &ask),
    }
}

/// What holds for all that the dashboard answers: our own files alone, no frames, no forms to others.
async fn safe(mut response: Response) -> Response {
    use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
        form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Links within the dashboard tell where they come from, others do not.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// Whether somebody may change anything.
fn may_change(right: Right) -> bool {
    right == Right::All
}
