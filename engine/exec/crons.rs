//! Functions that the clock starts: where each stands in its schedule, and the starts that are due.
//!
//! A start and the new position are one list, so a start comes once however the engine ends. Crons that are not due cost
//! their rows in memory and nothing else: the scheduler waits for the first of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{EventId, Id, Json, Millis};
use crate::project::{Function, Project};
use crate::rules::cron::{Cron, SCHEDULED};
use crate::rules::{CronRow, EventRow, Expect, List, Write};
use crate::store::StoreError;

use super::ingest::Pending;
use super::{AcceptError, Engine, Inner};

/// The functions that the clock starts, by the time at which they are due.
#[derive(Default)]
pub(super) struct Crons {
    up_since: Millis,
    waiting: BTreeMap<(Millis, Arc<str>), CronRow>,
    /// Functions that are due and paused: what they miss is decided on once they are resumed.
    held: BTreeMap<Arc<str>, CronRow>,
}

impl Crons {
    /// Takes up where each function stands; one that is new, or has another schedule, begins now.
    ///
    /// # Errors
    /// The store's; `Closed` where a commit failed for good, which is noted as the engine's fault.
    pub(super) async fn take_up(inner: &Inner) -> Result<Crons, StoreError> {
        let now = inner.clock.now();
        let project = inner.project();
        let stored: BTreeMap<Arc<str>, CronRow> = inner.store.crons()?.into_iter().map(|row| (Arc::clone(&row.function), row)).collect();
        let mut unit = || inner.entropy.unit();
        if !project.has_clock {
            return Ok(Crons::default());
        }
        let mut crons = Crons { up_since: now, ..Crons::default() };
        let mut writes = Vec::new();
        for (function, cron) in project.functions.iter().filter_map(|function| Some((function, function.cron.as_ref()?))) {
            let known = stored.get(&function.id);
            let row = known.and_then(|row| cron.go_on(row, &mut unit)).unwrap_or_else(|| cron.begin(&function.id, now, &mut unit));
            if known != Some(&row) {
                writes.push(Write::PutCron(row.clone()));
            }
            crons.put(row);
        }
        let is_cron = |id: &Arc<str>| project.function(id).is_some_and(|function| function.cron.is_some());
        writes.extend(stored.into_keys().filter(|id| !is_cron(id)).map(Write::DropCron));
        if !writes.is_empty() {
            inner.commit(vec![List { expect: Vec::new(), writes }]).await.ok_or(StoreError::Closed)?;
        }
        Ok(crons)
    }

    /// Goes over to the snapshot in force: those whose schedule is another one, or that are new or gone, wait no longer. Gives
    /// what is to be stored about them, and where they stand once that is done; nobody decides on them before.
    pub(super) fn reload(&mut self, inner: &Inner, now: Millis) -> (Vec<Write>, Vec<CronRow>) {
        let project = inner.project();
        if !project.has_clock {
            return (Vec::new(), Vec::new());
        }
        let mut unit = || inner.entropy.unit();
        let mut known: BTreeMap<Arc<str>, CronRow> =
            std::mem::take(&mut self.waiting).into_values().map(|row| (Arc::clone(&row.function), row)).collect();
        known.append(&mut std::mem::take(&mut self.held));
        let (mut writes, mut rows) = (Vec::new(), Vec::new());
        for (function, cron) in project.functions.iter().filter_map(|function| Some((function, function.cron.as_ref()?))) {
            let before = known.remove(&function.id);
            let row =
                before.as_ref().and_then(|row| cron.go_on(row, &mut unit)).unwrap_or_else(|| cron.begin(&function.id, now, &mut unit));
            if before.as_ref() == Some(&row) {
                self.put(row);
            } else {
                writes.push(Write::PutCron(row.clone()));
                rows.push(row);
            }
        }
        writes.extend(known.into_keys().map(Write::DropCron));
        if self.up_since == Millis::default() {
            self.up_since = now;
        }
        (writes, rows)
    }

    /// A function waits for its next start.
    pub(super) fn put(&mut self, row: CronRow) {
        if let Some(due) = row.due {
            self.waiting.insert((due, Arc::clone(&row.function)), row);
        }
    }

    /// When the first of them is due.
    pub(super) fn next(&self) -> Option<Millis> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// A function is paused no longer.
    pub(super) fn resume(&mut self, function: &str) {
        if let Some(row) = self.held.remove(function) {
            self.put(row);
        }
    }

    /// Those that are due and not paused: nobody else decides on them until they are put back.
    pub(super) fn take_due(&mut self, now: Millis, is_paused: impl Fn(&str) -> bool) -> Vec<CronRow> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now)
            && let Some((_, row)) = self.waiting.pop_first()
        {
            if is_paused(&row.function) {
                self.held.insert(Arc::clone(&row.function), row);
            } else {
                due.push(row);
            }
        }
        due
    }

    /// What is to be done about functions that are due, as work beside the scheduler's turns; gives where they stand then.
    pub(super) fn start(&self, inner: &Arc<Inner>, rows: Vec<CronRow>, now: Millis) -> impl Future<Output = Vec<CronRow>> + 'static {
        start(Arc::clone(inner), rows, now, self.up_since)
    }
}

async fn start(inner: Arc<Inner>, rows: Vec<CronRow>, now: Millis, up_since: Millis) -> Vec<CronRow> {
    let project = inner.project();
    let (mut pending, mut moves, mut after) = (Vec::new(), Vec::new(), Vec::with_capacity(rows.len()));
    for row in rows {
        let Some(function) = project.function(&row.function) else { continue };
        let Some(cron) = &function.cron else { continue };
        let mut at = row;
        // What was due while the function was paused was missed, as what was due while the engine was down.
        let resumed = inner.pause_of(&function.id).filter(|pause| !pause.paused).map(|pause| pause.since);
        let since = resumed.map_or(up_since, |resumed| resumed.max(up_since));
        for tick in cron.ticks(&at, now, since, &mut || inner.entropy.unit()) {
            let position = List {
                expect: vec![Expect::CronAt { function: Arc::clone(&function.id), last: Some(at.last) }],
                writes: vec![Write::PutCron(tick.row.clone())],
            };
            match tick.start.map(|slot| event(&inner, cron, slot, tick.missed, now)) {
                Some((event, data)) => {
                    let at = pending.len();
                    pending.push(scheduled(&inner, &project, function, event, &data, Some(position), at));
                }
                None => moves.push(position),
            }
            at = tick.row;
        }
        after.push(at);
    }
    if !moves.is_empty() {
        // A store that failed is noted by `commit`.
        let _ = inner.commit(moves).await;
    }
    let mut ids = vec![Id(0); pending.len()];
    while !pending.is_empty() {
        match inner.commit_events(&mut pending, &mut ids, now).await {
            Ok(()) => {}
            Err(AcceptError::Full) => inner.wait_for_room().await,
            // The store has failed, which is noted: the next engine goes on from where this one stood.
            Err(_) => return Vec::new(),
        }
    }
    after
}

impl Engine {
    /// Starts a function as the clock would, now and whatever its schedule says; its position stays. Gives the start's
    /// event; none where there is no such function, or it has no schedule.
    ///
    /// # Errors
    /// As `accept`.
    pub async fn start_by_clock(&self, function: &str) -> Result<Option<EventId>, AcceptError> {
        let (inner, now) = (&self.inner, self.inner.clock.now());
        let project = inner.project();
        let Some((function, cron)) = project.function(function).and_then(|function| Some((function, function.cron.as_ref()?))) else {
            return Ok(None);
        };
        let (event, data) = event(inner, cron, now, 0, now);
        let id = event.id;
        let mut pending = vec![scheduled(inner, &project, function, event, &data, None, 0)];
        while !pending.is_empty() {
            inner.commit_events(&mut pending, &mut [id], now).await?;
        }
        Ok(Some(id))
    }
}

/// The event of a start, with its data.
fn event(inner: &Inner, cron: &Cron, slot: Millis, missed: u32, now: Millis) -> (EventRow, serde_json::Value) {
    let schedule = &cron.schedule;
    let data = serde_json::json!({
        "cron": &**schedule.text(),
        "tz": schedule.zone_name(),
        "at": schedule.local(slot),
        "missed": missed,
    });
    let text = Json::from(data.to_string());
    let id = inner.ids.next(now);
    let row = EventRow { id, name: Arc::from(SCHEDULED), data: text, sender_id: None, ts: slot, accepted: now, extra: None };
    (row, data)
}

fn scheduled(
    inner: &Inner,
    project: &Project,
    function: &Function,
    row: EventRow,
    data: &serde_json::Value,
    position: Option<List>,
    at: usize,
) -> Pending {
    let candidates = vec![project.scheduled(function, &row, data)];
    let runs = inner.run_ids(&candidates, row.accepted);
    Pending { at, row, dedupe: None, candidates, runs, taken: Vec::new(), cautious: false, position }
}
