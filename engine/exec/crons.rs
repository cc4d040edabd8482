//! Functions that the clock starts: where each stands in its schedules, and the starts that are due.
//!
//! A start and the new position are one list, so a start comes once however the engine ends. Each schedule of a function has a position
//! of its own, found by what the schedule says, so others may come and go beside it. Crons that are not due cost their rows in memory
//! and nothing else: the scheduler waits for the first of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{EventId, Id, Json, Millis};
use crate::project::{Function, Project};
use crate::rules::cron::{self, Cron, SCHEDULED};
use crate::rules::{CronKey, CronRow, EventRow, Expect, List, Write};
use crate::store::StoreError;

use super::ingest::Pending;
use super::{AcceptError, Engine, Inner};

/// The schedules by which functions are started, by the time at which they are due.
#[derive(Default)]
pub(super) struct Crons {
    up_since: Millis,
    waiting: BTreeMap<(Millis, CronKey), CronRow>,
    /// Schedules that are due, by the function, which is paused: what they miss is decided on once it is resumed.
    held: BTreeMap<Arc<str>, Vec<CronRow>>,
}

impl Crons {
    /// Takes up where each function stands; a schedule that is new, or another one, begins now.
    ///
    /// # Errors
    /// The store's; `Closed` where a commit failed for good, which is noted as the engine's fault.
    pub(super) async fn take_up(inner: &Inner) -> Result<Crons, StoreError> {
        let now = inner.clock.now();
        let project = inner.project();
        let stored = inner.store.crons()?;
        if !project.has_clock {
            return Ok(Crons::default());
        }
        let stand = cron::stand(each(&project), stored, now, &mut || inner.entropy.unit());
        let writes = stand.writes();
        let mut crons = Crons { up_since: now, ..Crons::default() };
        stand.kept.into_iter().chain(stand.put).for_each(|row| crons.put(row));
        if !writes.is_empty() {
            inner.commit(vec![List { expect: Vec::new(), writes }]).await.ok_or(StoreError::Closed)?;
        }
        Ok(crons)
    }

    /// Goes over to the snapshot in force: schedules that are other ones, new or gone, wait no longer, and the rest goes on. Gives
    /// what is to be stored about them, and where they stand once that is done; nobody decides on them before.
    pub(super) fn reload(&mut self, inner: &Inner, now: Millis) -> (Vec<Write>, Vec<CronRow>) {
        let project = inner.project();
        if !project.has_clock {
            return (Vec::new(), Vec::new());
        }
        let held = std::mem::take(&mut self.held).into_values().flatten();
        let known = std::mem::take(&mut self.waiting).into_values().chain(held);
        let stand = cron::stand(each(&project), known, now, &mut || inner.entropy.unit());
        let writes = stand.writes();
        stand.kept.into_iter().for_each(|row| self.put(row));
        if self.up_since == Millis::default() {
            self.up_since = now;
        }
        (writes, stand.put)
    }

    /// A schedule waits for its next start.
    pub(super) fn put(&mut self, row: CronRow) {
        if let Some(due) = row.due {
            self.waiting.insert((due, row.key()), row);
        }
    }

    /// When the first of them is due.
    pub(super) fn next(&self) -> Option<Millis> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// A function is paused no longer.
    pub(super) fn resume(&mut self, function: &str) {
        for row in self.held.remove(function).unwrap_or_default() {
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
                self.held.entry(Arc::clone(&row.function)).or_default().push(row);
            } else {
                due.push(row);
            }
        }
        due
    }

    /// What is to be done about schedules that are due, as work beside the scheduler's turns; gives where they stand then.
    pub(super) fn start(&self, inner: &Arc<Inner>, rows: Vec<CronRow>, now: Millis) -> impl Future<Output = Vec<CronRow>> + 'static {
        start(Arc::clone(inner), rows, now, self.up_since)
    }
}

/// Every schedule with its function.
fn each(project: &Project) -> impl Iterator<Item = (&Arc<str>, &Cron)> {
    project.functions.iter().flat_map(|function| function.crons.iter().map(move |cron| (&function.id, cron)))
}

/// Schedules that are due, each with its function and its place among the function's: by the time at which they are, and those of one
/// function in the order of the file.
fn in_order(project: &Project, rows: Vec<CronRow>) -> Vec<(&Function, usize, CronRow)> {
    let mut due: Vec<(&Function, usize, CronRow)> = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(function) = project.function(&row.function) else { continue };
        let Some(place) = function.crons.iter().position(|cron| cron.is_of(&row)) else { continue };
        due.push((&**function, place, row));
    }
    due.sort_by(|(_, place, row), (_, other_place, other)| (row.due, &row.function, place).cmp(&(other.due, &other.function, other_place)));
    due
}

async fn start(inner: Arc<Inner>, rows: Vec<CronRow>, now: Millis, up_since: Millis) -> Vec<CronRow> {
    let project = inner.project();
    let (mut starts, mut moves, mut after) = (Vec::new(), Vec::new(), Vec::with_capacity(rows.len()));
    for (function, place, row) in in_order(&project, rows) {
        let (cron, mut at) = (&function.crons[place], row);
        // What was due while the function was paused was missed, as what was due while the engine was down.
        let resumed = inner.pause_of(&function.id).filter(|pause| !pause.paused).map(|pause| pause.since);
        let since = resumed.map_or(up_since, |resumed| resumed.max(up_since));
        for tick in cron.ticks(&at, now, since, &mut || inner.entropy.unit()) {
            let position = List {
                expect: vec![Expect::CronAt { cron: at.key(), last: Some(at.last) }],
                writes: vec![Write::PutCron(tick.row.clone())],
            };
            match tick.start {
                Some(slot) => starts.push((slot, function, place, tick.missed, position)),
                None => moves.push(position),
            }
            at = tick.row;
        }
        after.push(at);
    }
    // What several schedules make up for is started in the order of its times, and for one time in the order of the file.
    starts.sort_by(|(slot, function, place, ..), (other_slot, other, other_place, ..)| {
        (slot, &function.id, place).cmp(&(other_slot, &other.id, other_place))
    });
    let mut pending = Vec::with_capacity(starts.len());
    for (slot, function, place, missed, position) in starts {
        let (event, data) = event(&inner, &function.crons[place], slot, missed, now);
        let at = pending.len();
        pending.push(scheduled(&inner, &project, function, event, &data, Some(position), at));
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
    /// Starts a function as one of its schedules would, by its text, or the first one where none is named; now and whatever it says;
    /// its position stays. Gives the start's event; none where there is no such function, or it has no such schedule.
    ///
    /// # Errors
    /// As `accept`.
    pub async fn start_by_clock(&self, function: &str, schedule: Option<&str>) -> Result<Option<EventId>, AcceptError> {
        let (inner, now) = (&self.inner, self.inner.clock.now());
        let project = inner.project();
        let Some((function, cron)) = project.function(function).and_then(|function| Some((function, function.cron(schedule)?))) else {
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
    project: &Arc<Project>,
    function: &Function,
    row: EventRow,
    data: &serde_json::Value,
    position: Option<List>,
    at: usize,
) -> Pending {
    let candidates = vec![project.scheduled(function, &row, data)];
    let runs = inner.run_ids(&candidates, row.accepted);
    Pending { at, project: Arc::clone(project), row, dedupe: None, candidates, runs, taken: Vec::new(), cautious: false, position }
}
