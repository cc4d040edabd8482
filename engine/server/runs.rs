//! Runs: looking at them, and cancelling them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};

use crate::base::{Id, Millis};
use crate::exec::CancelError;
use crate::rules::{RunRow, RunState};
use crate::store::{RunQuery, Store, StoreError};

use super::error::ApiError;
use super::query::{Params, path_id};
use super::select::Selection;
use super::view::{LogView, One, Page, RunView, Status, Trace, counted, shown_state};
use super::{App, Shared};

/// The most replays of one run that are named, the newest ones.
const REPLAYS_MOST: usize = 100;
/// The reason of a cancelled run where the request gives none.
const CANCELLED: &str = "cancelled by request";
/// Longest reason for a cancel, in characters.
pub(super) const REASON_CHARACTERS: usize = 500;

/// The functions that are paused.
pub(super) type Paused = std::collections::HashSet<Arc<str>>;

/// A word that says which runs are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Those in this precise state.
    State(RunState),
    /// Those of this status of Inngest's.
    Status(Status),
}

impl Word {
    /// Reads a word: a capital letter begins one of Inngest's statuses, a small one a precise state.
    pub fn parse(text: &str) -> Option<Word> {
        let state = text.replace(['-', ' '], "_");
        let status =
            if text == "scheduled" { Some(Status::Scheduled) } else { Status::ALL.into_iter().find(|status| status.word() == text) };
        status.map(Word::Status).or_else(|| RunState::ALL.into_iter().find(|known| known.word() == state).map(Word::State))
    }

    /// The text that is read as this word.
    pub fn text(self) -> &'static str {
        match self {
            Word::State(state) => state.word(),
            Word::Status(status) => status.word(),
        }
    }
}

/// What runs a page shows: those that one of the words means; all where there is none. A store knows stored states; what is shown
/// also depends on the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(pub Vec<Word>);

impl Filter {
    /// Reads words.
    pub(super) fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Filter, ApiError> {
        let read = |word: &str| {
            Word::parse(word).ok_or_else(|| {
                let states = RunState::ALL.map(RunState::word).join(", ");
                let statuses = Status::ALL.map(Status::word).join(", ");
                let word: String = word.chars().take(100).collect();
                ApiError::bad_request(format!("`{word}` is no status; there are {states}, and Inngest's {statuses}"))
            })
        };
        words.map(read).collect::<Result<_, _>>().map(Filter)
    }

    /// Whether it shows all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it shows this run, where these functions are paused.
    pub fn passes(&self, row: &RunRow, now: Millis, paused: &Paused) -> bool {
        let state = match shown_state(row, now) {
            RunState::Queued if row.started.is_none() && paused.contains(&row.function) => RunState::Paused,
            state => state,
        };
        self.is_empty() || self.0.contains(&Word::State(state)) || self.0.contains(&Word::Status(Status::of(row)))
    }

    /// The stored states that can pass; empty for any.
    pub fn stored(&self) -> Vec<RunState> {
        let can_pass = |state: RunState, word: Word| match word {
            Word::State(RunState::Queued) => {
                matches!(state, RunState::Queued | RunState::Sleeping | RunState::Waiting | RunState::BackingOff)
            }
            Word::State(RunState::Paused) => matches!(state, RunState::Queued | RunState::Paused),
            Word::State(wanted) => state == wanted,
            Word::Status(Status::Scheduled) => state == RunState::Queued,
            Word::Status(Status::Running) => !state.is_terminal(),
            Word::Status(Status::Completed) => state == RunState::Completed,
            Word::Status(Status::Failed) => state == RunState::Failed,
            Word::Status(Status::Cancelled) => state == RunState::Cancelled,
        };
        if self.is_empty() {
            return Vec::new();
        }
        RunState::ALL.into_iter().filter(|state| self.0.iter().any(|word| can_pass(*state, *word))).collect()
    }
}

/// `GET /v1/runs`
pub(super) async fn list(State(app): Shared, uri: Uri) -> Result<Json<Page<RunView>>, ApiError> {
    listed(&app, &Params::of(&uri, &KNOWN)?).await.map(Json)
}

/// What a list of runs can be asked for.
pub(super) const KNOWN: [&str; 11] =
    ["status", "function", "key", "event", "replay_of", "since", "until", "where", "prefix", "limit", "cursor"];

pub(super) async fn listed(app: &App, params: &Params) -> Result<Page<RunView>, ApiError> {
    page(app, &selected(app, params)?, params.limit()?).await
}

/// The runs that parameters mean.
pub(super) fn selected(app: &App, params: &Params) -> Result<Selection, ApiError> {
    let now = app.now();
    let (from, to) = params.bounds()?;
    let query = RunQuery {
        states: Vec::new(),
        function: params.one("function")?.map(Arc::from),
        event: params.id("event")?,
        replay_of: params.id("replay_of")?,
        key: params.one("key")?.map(|text| Arc::from(key_of(text))),
        since: params.time("since", now)?,
        from,
        to,
        limit: 0,
    };
    Ok(Selection {
        query,
        filter: Filter::parse(params.all("status"))?,
        until: params.time("until", now)?,
        condition: Selection::condition("where", params.one("where")?)?,
    })
}

/// The canonical text of a key's value: JSON where it parses, else a text; `12` is the number, `"12"` the text.
pub fn key_of(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => canonical(&value),
        Err(_) => serde_json::Value::from(text).to_string(),
    }
}

fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        // 1 and 1.0 are one key, as they are where keys are made.
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e18 => (float as i64).to_string(),
            _ => number.to_string(),
        },
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value))).collect();
            format!("{{{}}}", entries.join(","))
        }
        plain => plain.to_string(),
    }
}

/// One page of runs, with why each of them is not moving.
pub(super) async fn page(app: &App, selection: &Selection, limit: usize) -> Result<Page<RunView>, ApiError> {
    let now = app.now();
    let (views, cursor) = selection.page(app, limit, None).await?;
    Ok(Page::at(now, views, cursor.map(|id| id.to_string())))
}

pub(super) fn no_run(id: Id) -> ApiError {
    ApiError::not_found(format!("there is no run {id}"))
}

/// `GET /v1/runs/{id}`
pub(super) async fn get(State(app): Shared, id: Result<Path<String>, PathRejection>, uri: Uri) -> Result<Json<One<RunView>>, ApiError> {
    let id = path_id("a run", id)?;
    Params::of(&uri, &[])?;
    view(&app, id).await.map(Json)
}

/// These runs as they are now, in the given order, with why each is not moving.
pub(super) async fn these(app: &App, ids: Vec<Id>) -> Result<Vec<RunView>, ApiError> {
    let now = app.now();
    let paused = app.engine.paused();
    let rows = app.read(move |store| {
        let rows = ids.into_iter().filter_map(|id| store.run(id).transpose());
        rows.collect::<Result<Vec<RunRow>, StoreError>>()
    });
    let rows = rows.await?;
    let whys = app.engine.whys(&rows).await;
    let views = rows.iter().zip(whys).map(|(row, why)| {
        let mut view = RunView::of(row, now).with_pause(paused.contains(&row.function));
        view.why = view.why.or(why);
        view
    });
    Ok(views.collect())
}

/// The runs that repeat a run, oldest first.
fn again(store: &dyn Store, id: Id) -> Result<Vec<Id>, StoreError> {
    let mut rows = store.runs(&RunQuery { replay_of: Some(id), limit: REPLAYS_MOST, ..RunQuery::default() })?;
    rows.reverse();
    Ok(rows.into_iter().map(|row| row.id).collect())
}

pub(super) async fn view(app: &App, id: Id) -> Result<One<RunView>, ApiError> {
    let now = app.now();
    let found = app.read(move |store| {
        Ok(match store.run(id)? {
            Some(row) => Some((row, store.journal(id)?, again(store, id)?)),
            None => None,
        })
    });
    let (row, journal, replayed_as) = found.await?.ok_or_else(|| no_run(id))?;
    let mut view = RunView::of(&row, now).with_pause(app.engine.paused_since(&row.function).is_some());
    view.steps = Some(counted(&journal));
    view.replayed_as = replayed_as;
    if view.why.is_none() {
        view.why = app.engine.why(&row).await;
    }
    view.unfit = app.engine.unfit(&row).await?.map(|why| why.to_string());
    Ok(One::at(now, view))
}

/// `GET /v1/runs/{id}/trace`
pub(super) async fn trace(State(app): Shared, id: Result<Path<String>, PathRejection>, uri: Uri) -> Result<Json<One<Trace>>, ApiError> {
    let id = path_id("a run", id)?;
    Params::of(&uri, &[])?;
    traced(&app, id).await.map(Json)
}

pub(super) async fn traced(app: &App, id: Id) -> Result<One<Trace>, ApiError> {
    let now = app.now();
    let found = app.read(move |store| {
        Ok(match store.run(id)? {
            // The run is read first: a journal may then be ahead of its row, never behind it.
            Some(row) => {
                let source = match &row.version {
                    Some(version) => store.source(version)?,
                    None => None,
                };
                Some((store.event(row.event)?, store.journal(id)?, store.waits(id)?, source, again(store, id)?, row))
            }
            None => None,
        })
    });
    let (event, journal, waits, source, replayed_as, row) = found.await?.ok_or_else(|| no_run(id))?;
    let mut trace = Trace::of(&row, event.as_ref(), &journal, &waits, now);
    trace.run = trace.run.with_pause(app.engine.paused_since(&row.function).is_some());
    trace.add_sources(source.as_ref());
    trace.run.replayed_as = replayed_as;
    trace.run.unfit = app.engine.unfit(&row).await?.map(|why| why.to_string());
    if trace.run.why.is_none() {
        trace.run.why = app.engine.why(&row).await;
    }
    Ok(One::at(now, trace))
}

/// `GET /v1/runs/{id}/logs`: oldest first; `cursor` is the number of the first line of the next page.
pub(super) async fn logs(State(app): Shared, id: Result<Path<String>, PathRejection>, uri: Uri) -> Result<Json<Page<LogView>>, ApiError> {
    let id = path_id("a run", id)?;
    logged(&app, id, &Params::of(&uri, &["limit", "cursor"])?).await.map(Json)
}

pub(super) async fn logged(app: &App, id: Id, params: &Params) -> Result<Page<LogView>, ApiError> {
    let (from, limit) = (params.number("cursor")?.unwrap_or(0), params.limit()?);
    let now = app.now();
    let found = app.read(move |store| {
        Ok(match store.run(id)? {
            Some(_) => Some(store.logs(id, from, limit + 1)?),
            None => None,
        })
    });
    let mut lines = found.await?.ok_or_else(|| no_run(id))?;
    let has_more = lines.len() > limit;
    lines.truncate(limit);
    let cursor = has_more.then(|| from.saturating_add(limit as u64).to_string());
    Ok(Page::at(now, lines.iter().map(LogView::of).collect(), cursor))
}

/// `DELETE /v1/runs/{id}`: answers the run as it is afterwards.
pub(super) async fn cancel(State(app): Shared, id: Result<Path<String>, PathRejection>, uri: Uri) -> Result<Json<One<RunView>>, ApiError> {
    let id = path_id("a run", id)?;
    end(&app, id, Params::of(&uri, &["reason"])?.one("reason")?).await.map(Json)
}

/// Cancels a run; the run as it is afterwards.
pub(super) async fn end(app: &App, id: Id, reason: Option<&str>) -> Result<One<RunView>, ApiError> {
    let reason: String = reason.unwrap_or(CANCELLED).chars().take(REASON_CHARACTERS).collect();
    match app.engine.cancel(id, &reason).await {
        Ok(_) => view(app, id).await,
        Err(CancelError::NotFound) => Err(no_run(id)),
        Err(error @ CancelError::Ended(_)) => Err(ApiError::new(StatusCode::CONFLICT, error.to_string())),
        Err(CancelError::Store(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_json_where_they_parse_and_texts_else() {
        let read = |text: &str| key_of(text);
        assert_eq!(read("u1"), "\"u1\"");
        assert_eq!(read("\"u1\""), "\"u1\"");
        assert_eq!(read("12"), "12");
        assert_eq!(read("12.0"), "12");
        assert_eq!(read("\"12\""), "\"12\"");
        assert_eq!(read("true"), "true");
        assert_eq!(read(r#"{"b":1.0,"a":[2,"x"]}"#), r#"{"a":[2,"x"],"b":1}"#);
    }

    #[test]
    fn a_capital_letter_tells_inngests_status_from_the_precise_state() {
        let parse = |words: &str| Filter::parse(words.split(','));
        assert_eq!(parse("Running").unwrap().0, [Word::Status(Status::Running)]);
        assert_eq!(parse("running,backing-off").unwrap().0, [Word::State(RunState::Running), Word::State(RunState::BackingOff)]);
        assert_eq!(parse("scheduled").unwrap().0, [Word::Status(Status::Scheduled)]);
        assert!(parse("runing").is_err());
        let queued = parse("queued").unwrap().stored();
        assert_eq!(queued, [RunState::Queued, RunState::Sleeping, RunState::Waiting, RunState::BackingOff]);
        assert_eq!(parse("paused").unwrap().stored(), [RunState::Queued, RunState::Paused]);
    }
}
