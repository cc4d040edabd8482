//! Where commands read from: a running engine, or its database when none answers. Both give the API's own views.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::base::{Clock, Diagnostic, EventId, Id, Millis, RunId};
use crate::clock::SystemClock;
use crate::exec::Condition;
use crate::project::{Mode, Project};
use crate::rules::{RunRow, RunState, WaitRow, WaitState, What, why};
use crate::script::Host;
use crate::server::view::{EventView, ExplainView, LogView, One, Page, RunView, Trace};
use crate::server::{EventSelection, Filter};
use crate::store::sqlite::{OpenError, Options, Sqlite};
use crate::store::{EventQuery, RunQuery, Store, StoreError};

use super::backup::store_trouble;
use super::doctor::cannot_open;
use super::exit::{Exit, Trouble};
use super::out::{DIM, Out, paint};
use super::place::{self, ConfigOption, DatabaseOption};
use super::remote::Remote;

/// Which engine a command asks that needs one.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineOption {
    /// The engine [default: the config's `engine.listen`, usually http://127.0.0.1:8288]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    #[command(flatten)]
    pub config: ConfigOption,
}

impl EngineOption {
    /// A client of the engine; whether it is there shows when it is asked.
    ///
    /// # Errors
    /// Exit 2 for a bad address.
    pub fn engine(&self) -> Result<Remote, Trouble> {
        url_or_default(self.url.as_deref(), &self.config)
    }
}

fn url_or_default(url: Option<&str>, config: &ConfigOption) -> Result<Remote, Trouble> {
    match url {
        Some(url) => Remote::new(url),
        None => Remote::new(&place::engine_url(config.config.as_deref())?),
    }
}

/// Which engine a command asks, or which database it reads.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// The engine [default: the config's `engine.listen`; where none answers there, the database is read]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    #[command(flatten)]
    pub database: DatabaseOption,
}

impl Target {
    /// A client of the engine that is named, or is to be expected.
    ///
    /// # Errors
    /// Exit 2 for a bad address.
    pub fn remote(&self) -> Result<Remote, Trouble> {
        url_or_default(self.url.as_deref(), &self.database.config)
    }

    /// The engine if it answers or was named, else the database.
    ///
    /// # Errors
    /// Exit 69 where neither is there.
    pub async fn reader(&self, out: &Out) -> Result<Reader, Trouble> {
        let remote = self.remote()?;
        let named = self.url.is_some();
        if named || (self.database.database.is_none() && remote.answers().await) {
            return Ok(Reader::Engine(remote));
        }
        let path = self.database.path().map_err(|trouble| nowhere(&remote, trouble))?;
        match Sqlite::open(&path, Options { read_only: true, ..Options::default() }) {
            Ok(store) => {
                if self.database.database.is_none() {
                    out.say(paint(DIM, format!("no engine answers at {}: reading {}", remote.url(), path.display())));
                }
                Ok(Reader::Store { store: Arc::new(store), clock: Arc::new(SystemClock::default()) })
            }
            Err(OpenError::Missing) if self.database.database.is_none() => {
                let problem = Diagnostic::error(
                    "E0531",
                    format!("no engine answers at {}, and there is no database at {}", remote.url(), path.display()),
                );
                Err(Trouble::new(Exit::Unreachable, problem.help("start an engine with `stepwell dev`, or name one with --url")))
            }
            Err(error) => Err(cannot_open(&path, &error)),
        }
    }
}

/// Neither an engine nor a config that would lead to a database.
fn nowhere(remote: &Remote, trouble: Trouble) -> Trouble {
    let problem = Diagnostic::error("E0531", format!("no engine answers at {}", remote.url()));
    let problems = std::iter::once(problem).chain(trouble.problems).collect();
    Trouble { exit: Exit::Unreachable, problems }
}

/// Rows that are read from a database at once; one of them may have megabytes.
const ROWS_AT_ONCE: usize = 64;

/// Which runs are listed.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// In one of these states or statuses.
    pub status: Filter,
    /// Of this function.
    pub function: Option<String>,
    /// Started by this event.
    pub event: Option<EventId>,
    /// With this concurrency key.
    pub key: Option<String>,
    /// Created then or later.
    pub since: Option<Millis>,
    /// Created before.
    pub until: Option<Millis>,
    /// CEL over `run` and `event`.
    pub condition: Option<String>,
    /// Whose id begins so.
    pub prefix: Option<String>,
    /// The most.
    pub limit: usize,
}

/// What the runs that a command is about belong to.
#[derive(Debug, Clone, clap::Args)]
pub struct Belonging {
    /// Only runs of this function
    #[arg(long, value_name = "ID")]
    function: Option<String>,
    /// Only runs with this concurrency key
    #[arg(long, value_name = "VALUE")]
    key: Option<String>,
    /// Only runs that this event started; the beginning of its id serves
    #[arg(long, value_name = "ID")]
    event: Option<String>,
}

impl Belonging {
    /// A filter that asks for nothing else, with no limit yet.
    ///
    /// # Errors
    /// Those of `Reader::event_id`.
    pub async fn filter(&self, reader: &Reader) -> Result<RunFilter, Trouble> {
        let event = match &self.event {
            Some(text) => Some(reader.event_id(text).await?),
            None => None,
        };
        Ok(RunFilter { function: self.function.clone(), key: self.key.clone(), event, ..RunFilter::default() })
    }
}

/// Which events are listed.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this name, or of a family such as `stripe/*`.
    pub name: Option<String>,
    /// Accepted after this time.
    pub since: Option<Millis>,
    /// CEL over `event`.
    pub condition: Option<String>,
    /// Whose id begins so.
    pub prefix: Option<String>,
    /// The most.
    pub limit: usize,
}

/// What a command reads from.
#[derive(Clone)]
pub enum Reader {
    /// A running engine.
    Engine(Remote),
    /// A store in this process.
    Store {
        /// The store.
        store: Arc<dyn Store>,
        /// The time that the store's rows are seen at.
        clock: Arc<dyn Clock>,
    },
}

/// The most entries of one page of the API.
const PAGE_MOST: usize = 1_000;

impl Reader {
    /// The time now, as the store's rows are to be seen.
    pub fn now(&self) -> Millis {
        match self {
            Reader::Engine(_) => SystemClock::default().now(),
            Reader::Store { clock, .. } => clock.now(),
        }
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// Those of the engine's answer or of the store.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunView>, Trouble> {
        match self {
            Reader::Engine(remote) => {
                let mut query = Vec::new();
                let mut add = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
                let words: Vec<&str> = filter.status.0.iter().map(|word| word.text()).collect();
                add("status", Some(words.join(",")).filter(|words| !words.is_empty()));
                add("function", filter.function.clone());
                add("event", filter.event.map(|id| id.to_string()));
                add("key", filter.key.clone());
                add("since", filter.since.map(|since| since.0.to_string()));
                add("until", filter.until.map(|until| until.0.to_string()));
                add("where", filter.condition.clone());
                add("prefix", filter.prefix.clone());
                pages(remote, "/v1/runs", query, filter.limit).await
            }
            Reader::Store { store, clock } => {
                let (from, to) = bounds(filter.prefix.as_deref())?;
                let mut query = RunQuery {
                    states: filter.status.stored(),
                    function: filter.function.as_deref().map(Arc::from),
                    event: filter.event,
                    replay_of: None,
                    key: filter.key.as_deref().map(|text| Arc::from(crate::server::key_of(text))),
                    since: filter.since,
                    from,
                    to,
                    limit: ROWS_AT_ONCE,
                };
                let condition = filter.condition.as_deref().map(Condition::parse).transpose();
                let condition =
                    condition.map_err(|error| Trouble::usage(format!("--where is not a condition over `run` and `event`: {error}")))?;
                let paused = paused(&**store).map_err(|error| store_trouble(&error))?;
                let is_wanted =
                    |row: &&RunRow| filter.status.passes(row, clock.now(), &paused) && filter.until.is_none_or(|until| row.created < until);
                let mut views = Vec::new();
                loop {
                    let rows = store.runs(&query).map_err(|error| store_trouble(&error))?;
                    for row in rows.iter().filter(is_wanted) {
                        let view = seen(row, &**store, clock.now())?.with_pause(paused.contains(&row.function));
                        if let Some(condition) = &condition {
                            let event =
                                if condition.reads_event() { store.event(row.event).map_err(|error| store_trouble(&error))? } else { None };
                            if !condition.holds(&serde_json::to_value(&view).unwrap_or_default(), event.as_ref()) {
                                continue;
                            }
                        }
                        views.push(view);
                        if views.len() == filter.limit {
                            return Ok(views);
                        }
                    }
                    match rows.last() {
                        Some(last) if rows.len() == ROWS_AT_ONCE => query.to = Some(Id(last.id.0 - 1)),
                        _ => return Ok(views),
                    }
                }
            }
        }
    }

    /// One run with all that it has recorded.
    ///
    /// # Errors
    /// Exit 3 where it is not there.
    pub async fn trace(&self, id: RunId) -> Result<Trace, Trouble> {
        match self {
            Reader::Engine(remote) => one(remote, &format!("/v1/runs/{id}/trace")).await,
            Reader::Store { store, clock } => {
                let row = store.run(id).map_err(|error| store_trouble(&error))?.ok_or_else(|| missing("run", &id.to_string()))?;
                trace_of(&**store, &row, clock.now()).map_err(|error| store_trouble(&error))
            }
        }
    }

    /// Why a run is not moving, as far as a database that no engine has open tells; an engine has said so already.
    ///
    /// # Errors
    /// The store's.
    pub fn why(&self, run: RunId) -> Result<Option<String>, Trouble> {
        let Reader::Store { store, clock } = self else { return Ok(None) };
        match store.run(run).map_err(|error| store_trouble(&error))? {
            Some(row) => Ok(seen(&row, &**store, clock.now())?.why),
            None => Ok(None),
        }
    }

    /// The traces of every run that an event started, oldest first.
    ///
    /// # Errors
    /// Those of the engine's answer or of the store.
    pub async fn traces(&self, event: EventId) -> Result<Vec<Trace>, Trouble> {
        let mut runs = self.runs(&RunFilter { event: Some(event), limit: PAGE_MOST, ..RunFilter::default() }).await?;
        runs.sort_by_key(|run| run.run_id);
        let mut traces = Vec::with_capacity(runs.len());
        for run in runs {
            traces.push(self.trace(run.run_id).await?);
        }
        Ok(traces)
    }

    /// Lines of a run's log from line `from` on, and the number of the line after them.
    ///
    /// # Errors
    /// Those of the engine's answer or of the store.
    pub async fn logs(&self, run: RunId, from: u64) -> Result<(Vec<LogView>, u64), Trouble> {
        let lines = match self {
            Reader::Engine(remote) => {
                let query = [("cursor", from.to_string()), ("limit", PAGE_MOST.to_string())];
                let page: Page<LogView> = understood(remote, remote.get(&format!("/v1/runs/{run}/logs"), &query).await?)?;
                page.data
            }
            Reader::Store { store, .. } => {
                let rows = store.logs(run, from, PAGE_MOST).map_err(|error| store_trouble(&error))?;
                rows.iter().map(LogView::of).collect()
            }
        };
        let next = from + lines.len() as u64;
        Ok((lines, next))
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// Those of the engine's answer or of the store.
    pub async fn events(&self, filter: &EventFilter) -> Result<Vec<EventView>, Trouble> {
        match self {
            Reader::Engine(remote) => {
                let mut query = Vec::new();
                let mut add = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
                add("name", filter.name.clone());
                add("received_after", filter.since.map(|since| since.0.to_string()));
                add("where", filter.condition.clone());
                add("prefix", filter.prefix.clone());
                pages(remote, "/v1/events", query, filter.limit).await
            }
            Reader::Store { store, .. } => {
                let (from, to) = bounds(filter.prefix.as_deref())?;
                let name = filter.name.as_deref().map(Arc::from);
                let query = EventQuery { name, received_after: filter.since, from, to, limit: 0, oldest_first: false };
                let wrong = |error: String| Trouble::usage(format!("--where is not a condition over `event`: {error}"));
                let mut selection = EventSelection::new(query, filter.condition.as_deref()).map_err(wrong)?;
                let mut views: Vec<EventView> = Vec::new();
                loop {
                    let page = selection.page(&**store, filter.limit - views.len(), usize::MAX);
                    let (rows, cursor) = page.map_err(|error| store_trouble(&error))?;
                    views.extend(rows.iter().map(EventView::of));
                    if cursor.is_none() || views.len() >= filter.limit {
                        return Ok(views);
                    }
                    selection = selection.after(cursor);
                }
            }
        }
    }

    /// One event.
    ///
    /// # Errors
    /// Exit 3 where it is not there.
    pub async fn event(&self, id: EventId) -> Result<EventView, Trouble> {
        match self {
            Reader::Engine(remote) => one(remote, &format!("/v1/events/{id}")).await,
            Reader::Store { store, .. } => {
                let row = store.event(id).map_err(|error| store_trouble(&error))?;
                row.map(|row| EventView::of(&row)).ok_or_else(|| missing("event", &id.to_string()))
            }
        }
    }

    /// What became of an event, and why. Where no engine answers, the config that `target` leads to is asked.
    ///
    /// # Errors
    /// Exit 3 where it is not there, 78 for a config that is not valid.
    pub async fn explain(&self, id: EventId, target: &Target) -> Result<ExplainView, Trouble> {
        match self {
            Reader::Engine(remote) => one(remote, &format!("/v1/events/{id}/explain")).await,
            Reader::Store { store, clock } => {
                let path = place::config(target.database.config.config.as_deref())?;
                let (project, _) = Project::load(&path, &Host::new(), &place::environment, Mode::Check).map_err(Trouble::invalid)?;
                let failed = |error: StoreError| store_trouble(&error);
                let event = store.event(id).map_err(failed)?.ok_or_else(|| missing("event", &id.to_string()))?;
                let runs = store.runs(&RunQuery { event: Some(id), limit: PAGE_MOST, ..RunQuery::default() }).map_err(failed)?;
                let view = ExplainView::of(&event, &project, &runs, &**store, clock.now()).map_err(failed)?;
                Ok(view.by_config(None))
            }
        }
    }

    /// The run that `text` is the id of, or the beginning of one.
    ///
    /// # Errors
    /// Exit 3 where there is none, 2 where several begin so; they are listed.
    pub async fn run_id(&self, text: &str) -> Result<RunId, Trouble> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        check_prefix("run", text)?;
        let filter = RunFilter { prefix: Some(text.to_owned()), limit: CANDIDATES + 1, ..RunFilter::default() };
        let found = self.runs(&filter).await?;
        let candidates = found.iter().map(|run| (run.run_id, format!("{} {}", run.function_id, run.state.word())));
        only("run", text, candidates.collect())
    }

    /// The event that `text` is the id of, or the beginning of one.
    ///
    /// # Errors
    /// As `run_id`.
    pub async fn event_id(&self, text: &str) -> Result<EventId, Trouble> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        check_prefix("event", text)?;
        let filter = EventFilter { prefix: Some(text.to_owned()), limit: CANDIDATES + 1, ..EventFilter::default() };
        let found = self.events(&filter).await?;
        only("event", text, found.iter().map(|event| (event.internal_id, event.name.clone())).collect())
    }
}

/// A run of a database that no engine has open, with why it is not moving as far as its rows tell.
fn seen(row: &RunRow, store: &dyn Store, now: Millis) -> Result<RunView, Trouble> {
    let mut view = RunView::of(row, now);
    if view.why.is_none() {
        view.why = why::row(row, now);
    }
    if view.why.is_none() && row.state == RunState::Waiting {
        let waits = store.waits(row.id).map_err(|error| store_trouble(&error))?;
        let open: Vec<WaitRow> = waits.into_iter().filter(|wait| wait.state == WaitState::Open).collect();
        let mut parts = Vec::new();
        for wait in &open {
            let child = match &*wait.what {
                What::Run(child) => store.run(*child).map_err(|error| store_trouble(&error))?,
                _ => None,
            };
            parts.push(why::wait(wait, child.as_ref(), now));
        }
        if !open.is_empty() {
            parts.extend(why::branch(row, &open, now));
            view.why = Some(parts.join("; "));
        }
    }
    if view.why.is_none() && !row.state.is_terminal() {
        view.why = Some("no engine is running; goes on as soon as one does".to_owned());
    }
    Ok(view)
}

/// The most ids that are listed where a prefix fits several.
const CANDIDATES: usize = 8;

fn check_prefix(what: &str, text: &str) -> Result<(), Trouble> {
    Id::range_of_prefix(text).map(|_| ()).map_err(|_| missing(what, text).help("ids have 13 characters of 0-9 and a-z; a beginning serves"))
}

/// The one candidate.
fn only(what: &str, text: &str, candidates: Vec<(Id, String)>) -> Result<Id, Trouble> {
    match candidates.as_slice() {
        [] => Err(missing(what, text)),
        [(id, _)] => Ok(*id),
        several => {
            let mut problem = Diagnostic::error("E0535", format!("several ids begin with `{text}`"));
            for (id, words) in several.iter().take(CANDIDATES) {
                problem = problem.help(format!("{id}  {}", super::out::shown(words)));
            }
            if several.len() > CANDIDATES {
                problem = problem.help("… and more");
            }
            Err(Trouble::new(Exit::Usage, problem))
        }
    }
}

/// Nothing has this id.
pub fn missing(what: &str, id: &str) -> Trouble {
    let problem = Diagnostic::error("E0534", format!("there is no {what} `{id}`"));
    Trouble::new(Exit::NotFound, problem.help(format!("`stepwell {what}s ls` shows the newest")))
}

/// Looks whether this can be a function's id, before it becomes a part of a path: what is none leads nowhere, and must not lead
/// elsewhere.
///
/// # Errors
/// Exit 3 for what can be none.
pub fn function_id(id: &str) -> Result<&str, Trouble> {
    let is_id = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) && !matches!(id, "" | "." | "..");
    if is_id { Ok(id) } else { Err(missing("function", id)) }
}

fn bounds(prefix: Option<&str>) -> Result<(Option<Id>, Option<Id>), Trouble> {
    let Some(prefix) = prefix else { return Ok((None, None)) };
    let (low, high) = Id::range_of_prefix(prefix).map_err(|error| Trouble::usage(format!("`{prefix}` is {error}")))?;
    Ok((Some(low), Some(high)))
}

/// An answer of the engine as the view that it is.
pub fn understood<T: DeserializeOwned>(remote: &Remote, answer: impl AsRef<str>) -> Result<T, Trouble> {
    serde_json::from_str(answer.as_ref())
        .map_err(|error| super::remote::unreachable(remote.url(), &format!("its answer is not an engine's ({error})")))
}

async fn one<T: DeserializeOwned>(remote: &Remote, path: &str) -> Result<T, Trouble> {
    let answer: One<T> = understood(remote, remote.get(path, &[]).await?)?;
    Ok(answer.data)
}

/// Up to `limit` entries, over as many pages as that takes.
async fn pages<T: DeserializeOwned>(remote: &Remote, path: &str, query: Vec<(&str, String)>, limit: usize) -> Result<Vec<T>, Trouble> {
    let mut found: Vec<T> = Vec::new();
    let mut cursor: Option<String> = None;
    while found.len() < limit {
        let mut query = query.clone();
        query.push(("limit", (limit - found.len()).min(PAGE_MOST).to_string()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page<T> = understood(remote, remote.get(path, &query).await?)?;
        found.extend(page.data);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(found)
}

/// The functions that are paused.
fn paused(store: &dyn Store) -> Result<std::collections::HashSet<Arc<str>>, StoreError> {
    Ok(store.pauses()?.into_iter().filter(|row| row.paused).map(|row| row.function).collect())
}

/// The trace of a stored run, with the files that its errors point into.
///
/// # Errors
/// Those of the store.
pub fn trace_of(store: &dyn Store, row: &RunRow, now: Millis) -> Result<Trace, StoreError> {
    let event = store.event(row.event)?;
    let journal = store.journal(row.id)?;
    let waits = store.waits(row.id)?;
    let mut trace = Trace::of(row, event.as_ref(), &journal, &waits, now);
    trace.run = trace.run.with_pause(paused(store)?.contains(&row.function));
    if let Some(version) = &row.version {
        trace.add_sources(store.source(version)?.as_ref());
    }
    let mut again = store.runs(&RunQuery { replay_of: Some(row.id), ..RunQuery::default() })?;
    again.reverse();
    trace.run.replayed_as = again.iter().map(|run| run.id).collect();
    Ok(trace)
}
