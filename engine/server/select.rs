//! Runs that a request asks for: a page of them, or all of them for something that is done to many. And events, as lists show them.

use std::cell::RefCell;
use std::sync::Arc;

use crate::base::{EventId, Id, Millis, RunId};
use crate::exec::Condition;
use crate::rules::{EventRow, RunRow};
use crate::store::{EventQuery, RunQuery, Store, StoreError};

use super::App;
use super::error::ApiError;
use super::query::{SCANNED_MOST, fill};
use super::runs::{Filter, Paused};
use super::view::RunView;

/// Rows with their events, where those are read, and the id from which on the next page goes on.
type Page = (Vec<(RunRow, Option<EventRow>)>, Option<Id>);

/// The most runs that one request may do something to.
pub(super) const MANY_MOST: usize = 100_000;
/// Runs that are looked at together for something that is done to many.
const CHUNK: usize = 1_000;
/// Reads that one page makes, at most, for runs whose reason passes its condition.
const ROUNDS_MOST: usize = 20;

/// Which runs are meant; all that is set must hold.
#[derive(Clone, Default)]
pub(super) struct Selection {
    /// Without states and limit.
    pub query: RunQuery,
    /// In these states.
    pub filter: Filter,
    /// Created before.
    pub until: Option<Millis>,
    /// CEL over `run` and `event`.
    pub condition: Option<Arc<Condition>>,
}

impl Selection {
    /// Reads a condition.
    pub fn condition(name: &str, text: Option<&str>) -> Result<Option<Arc<Condition>>, ApiError> {
        let bad = |error: String| ApiError::bad_request(format!("`{name}` is not a condition over `run` and `event`: {error}"));
        text.map(|text| Condition::parse(text).map(Arc::new).map_err(bad)).transpose()
    }

    /// In these states or statuses, where it names none.
    pub fn or_in(mut self, statuses: &[&str]) -> Result<Selection, ApiError> {
        if self.filter.is_empty() {
            self.filter = Filter::parse(statuses.iter().copied())?;
        }
        Ok(self)
    }

    /// Up to `limit` runs below `to`, newest first, and the cursor of the next page. It ends early where many had to be
    /// looked at.
    pub async fn page(&self, app: &App, limit: usize, to: Option<Id>) -> Result<(Vec<RunView>, Option<Id>), ApiError> {
        let mut views: Vec<RunView> = Vec::new();
        let mut to = [to, self.query.to].into_iter().flatten().min();
        for _ in 0..ROUNDS_MOST {
            let (selection, left) = (self.clone(), limit - views.len());
            let now = app.now();
            let paused = app.engine.paused();
            let seen = paused.clone();
            let (rows, cursor) = app.read(move |store| selection.rows(store, left, to, now, &seen)).await?;
            let (runs, events): (Vec<RunRow>, Vec<Option<EventRow>>) = rows.into_iter().unzip();
            let whys = app.engine.whys(&runs).await;
            for ((row, event), why) in runs.iter().zip(events).zip(whys) {
                let mut view = RunView::of(row, now).with_pause(paused.contains(&row.function));
                view.why = view.why.or(why);
                // The reason is known by now.
                if self.asks_why() && !self.holds(&view, event.as_ref()) {
                    continue;
                }
                views.push(view);
            }
            match cursor {
                Some(last) if views.len() < limit => to = Some(Id(last.0 - 1)),
                cursor => return Ok((views, cursor)),
            }
        }
        Ok((views, to.map(|to| Id(to.0 + 1))))
    }

    /// All of them, oldest first.
    pub async fn all(&self, app: &App) -> Result<Vec<RunView>, ApiError> {
        let (mut found, mut to) = (Vec::new(), None);
        loop {
            let (views, cursor) = self.page(app, CHUNK, to).await?;
            found.extend(views);
            if found.len() > MANY_MOST {
                return Err(ApiError::bad_request(format!("more than {MANY_MOST} runs are meant; narrow it down by a time or a function")));
            }
            match cursor {
                Some(last) => to = Some(Id(last.0 - 1)),
                None => break,
            }
        }
        found.sort_by_key(|view| view.run_id);
        Ok(found)
    }

    fn asks_why(&self) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.reads_of_run("why"))
    }

    fn holds(&self, view: &RunView, event: Option<&EventRow>) -> bool {
        let Some(condition) = &self.condition else { return true };
        serde_json::to_value(view).is_ok_and(|run| condition.holds(&run, event))
    }

    /// Rows with their events, where the condition reads those, below `to`.
    fn rows(&self, store: &dyn Store, limit: usize, to: Option<RunId>, now: Millis, paused: &Paused) -> Result<Page, StoreError> {
        let reads_event = self.condition.as_ref().is_some_and(|condition| condition.reads_event());
        let fault = RefCell::new(None);
        let event_of = |row: &RunRow| {
            if !reads_event {
                return None;
            }
            store.event(row.event).unwrap_or_else(|error| {
                fault.borrow_mut().get_or_insert(error);
                None
            })
        };
        let passes = |row: &RunRow| {
            self.filter.passes(row, now, paused)
                && self.until.is_none_or(|until| row.created < until)
                && (self.condition.is_none()
                    || self.asks_why()
                    || self.holds(&RunView::of(row, now).with_pause(paused.contains(&row.function)), event_of(row).as_ref()))
        };
        let query = RunQuery { states: self.filter.stored(), ..self.query.clone() };
        let read = |to, limit| store.runs(&RunQuery { to, limit, ..query.clone() });
        let (rows, cursor) = fill(limit, SCANNED_MOST, to, passes, read)?;
        let rows = rows.into_iter().map(|row| {
            let event = if self.asks_why() { event_of(&row) } else { None };
            (row, event)
        });
        let rows = rows.collect();
        match fault.take() {
            Some(error) => Err(error),
            None => Ok((rows, cursor)),
        }
    }
}

/// Which events are meant; all that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct EventSelection {
    query: EventQuery,
    /// How the names of a family begin.
    family: Option<Arc<str>>,
    /// CEL over `event`.
    condition: Option<Arc<Condition>>,
}

impl EventSelection {
    /// The events that a query means, whose limit has no effect, and for which a condition holds: CEL over `event`. The query's name
    /// may be that of a family, such as `stripe/*`.
    ///
    /// # Errors
    /// What is wrong with the condition, in one sentence with its place.
    pub fn new(query: EventQuery, condition: Option<&str>) -> Result<EventSelection, String> {
        let family = query.name.as_deref().and_then(|name| name.strip_suffix('*')).map(Arc::<str>::from);
        let name = query.name.filter(|_| family.is_none());
        let condition = condition.map(|text| Condition::parse_of_event(text).map(Arc::new)).transpose()?;
        Ok(EventSelection { query: EventQuery { name, ..query }, family, condition })
    }

    /// Those of them on the pages after the one that answered this cursor.
    #[must_use]
    pub fn after(mut self, cursor: Option<EventId>) -> EventSelection {
        let below = cursor.map(|cursor| Id(cursor.0 - 1));
        self.query.to = [self.query.to, below].into_iter().flatten().min();
        self
    }

    /// Up to `limit` of them, newest first, and the cursor of the next page. A page ends early where its events are large, or where
    /// about `looks_at` had to be looked at for those that are meant.
    ///
    /// # Errors
    /// What the store says.
    pub fn page(&self, store: &dyn Store, limit: usize, looks_at: usize) -> Result<(Vec<EventRow>, Option<EventId>), StoreError> {
        let passes = |event: &EventRow| {
            self.family.as_deref().is_none_or(|stem| event.name.starts_with(stem))
                && self.condition.as_ref().is_none_or(|condition| condition.holds(&serde_json::Value::Null, Some(event)))
        };
        let read = |to, limit| store.events(&EventQuery { to, limit, ..self.query.clone() });
        fill(limit, looks_at, self.query.to, passes, read)
    }
}
