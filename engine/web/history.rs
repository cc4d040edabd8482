//! How it went for the last hour, for the plots of the overview: looked up now and then, so that nothing has to be counted along.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use crate::base::{Millis, Span};
use crate::rules::{RunRow, RunState};
use crate::server::Api;
use crate::store::RunQuery;

/// How often it is noted how it goes.
const EVERY: Span = Span::seconds(15);
/// How many samples are kept: an hour of them.
const SAMPLES: usize = 240;
/// How old the newest look may be that a page shows: to look asks the scheduler, which has better things to do.
const FRESH: Span = Span::seconds(2);

/// The newest runs that one look goes by: more would take the store from the runs.
const ROWS: usize = 500;
/// How far one look goes back, where the newest runs go so far.
const WINDOW: Span = Span::seconds(60);

/// Suspended runs beyond which those in line are not looked for among them.
const SUSPENDED_MOST: usize = 20_000;

/// How it goes at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sample {
    at: Millis,
    queued: u64,
    executing: u64,
    /// How long the oldest run in line has been there, in seconds; none where that was not looked up.
    oldest: Option<f64>,
    /// Runs that were created, a minute.
    rate: f64,
    /// The share of those that ended lately which failed, in percent.
    failed: Option<f64>,
    /// What half of the starts, and 95 of 100, did not wait longer than, in milliseconds.
    delays: Option<(f64, f64)>,
}

/// Values for plots, oldest first, as many of each; none where nothing is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Runs that were created a minute.
    pub rate: Vec<Option<f64>>,
    /// The share of those that ended which failed, in percent.
    pub failed: Vec<Option<f64>>,
    /// Runs in line.
    pub queued: Vec<Option<f64>>,
    /// Runs with a worker.
    pub executing: Vec<Option<f64>>,
    /// How long the oldest run in line has been there, in seconds.
    pub oldest: Vec<Option<f64>>,
    /// What half of the starts did not wait longer than, in milliseconds.
    pub delay_half: Vec<Option<f64>>,
    /// What 95 of 100 starts did not wait longer than, in milliseconds.
    pub delay_most: Vec<Option<f64>>,
}

/// How it went for the last hour; clones are handles to the same.
#[derive(Clone)]
pub struct History {
    api: Api,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    samples: VecDeque<Sample>,
    latest: Option<Sample>,
}

impl History {
    pub(super) fn of(api: &Api) -> History {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        // Without a runtime nobody can ask for pages either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(keep(Arc::downgrade(&kept), api.clone(), api.stopping()));
        }
        History { api: api.clone(), kept }
    }

    /// The last hour up to now.
    pub async fn series(&self) -> Series {
        let now = self.api.now();
        let (mut samples, latest) = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            (kept.samples.iter().cloned().collect::<Vec<_>>(), kept.latest.clone())
        };
        let latest = match latest.filter(|latest| now.since(latest.at) < FRESH) {
            Some(latest) => latest,
            None => {
                let latest = Sample::of(&self.api).await;
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).latest = Some(latest.clone());
                latest
            }
        };
        samples.push(latest);
        series(&samples)
    }
}

/// Notes how it goes until the server stops.
async fn keep(kept: Weak<Mutex<Kept>>, api: Api, mut stopping: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(EVERY.std());
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let sample = Sample::of(&api).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.samples.push_back(sample);
        if kept.samples.len() > SAMPLES {
            kept.samples.pop_front();
        }
    }
}

impl Sample {
    async fn of(api: &Api) -> Sample {
        let counts = api.engine().counts();
        let asks = counts.queued > 0 && counts.suspended <= SUSPENDED_MOST;
        let read = api.read(move |store| {
            let newest = store.runs(&RunQuery { limit: ROWS, ..RunQuery::default() })?;
            let in_line = RunQuery { states: vec![RunState::Queued], limit: ROWS, ..RunQuery::default() };
            let queued = if asks { store.runs(&in_line)? } else { Vec::new() };
            Ok((newest, queued))
        });
        // A gap in a plot is better than no page; what is wrong with the store is said elsewhere.
        let (newest, queued) = read.await.unwrap_or_default();
        let sample = of_rows(&newest, &queued, api.now());
        let oldest = if asks || counts.queued == 0 { sample.oldest } else { None };
        Sample { queued: counts.queued as u64, executing: counts.executing as u64, oldest, ..sample }
    }
}

/// What the newest runs, newest first, and those in the queue tell.
fn of_rows(newest: &[RunRow], queued: &[RunRow], now: Millis) -> Sample {
    let is_late = |at: Millis| now.since(at) <= WINDOW;
    // Where even the oldest one looked at is new, all of them came in less than the window.
    let reach = newest.last().filter(|last| newest.len() == ROWS && is_late(last.created)).map_or(WINDOW, |last| now.since(last.created));
    let created = newest.iter().filter(|run| is_late(run.created)).count();
    let ended: Vec<&RunRow> = newest.iter().filter(|run| run.ended.is_some_and(is_late)).collect();
    let failed = ended.iter().filter(|run| run.state == RunState::Failed).count();
    let mut delays: Vec<i64> = newest
        .iter()
        .filter_map(|run| run.started.filter(|started| is_late(*started)).map(|started| started.since(run.enter).0.max(0)))
        .collect();
    delays.sort_unstable();
    let quantile = |share: f64| delays.get(((delays.len() as f64 * share).ceil() as usize).saturating_sub(1)).map(|delay| *delay as f64);
    let waiting = queued.iter().filter(|run| run.started.is_none() && run.enter <= now).map(|run| now.since(run.enter).0).max();
    Sample {
        at: now,
        oldest: Some(waiting.unwrap_or(0) as f64 / 1_000.0),
        rate: created as f64 * 60_000.0 / reach.0.max(1) as f64,
        failed: (!ended.is_empty()).then(|| failed as f64 * 100.0 / ended.len() as f64),
        delays: quantile(0.5).zip(quantile(0.95)),
        ..Sample::default()
    }
}

/// The series of samples, filled up with nothing in front.
fn series(samples: &[Sample]) -> Series {
    let missing = SAMPLES.saturating_sub(samples.len());
    let values = |of: fn(&Sample) -> Option<f64>| std::iter::repeat_n(None, missing).chain(samples.iter().map(of)).collect::<Vec<_>>();
    Series {
        rate: values(|sample| Some(sample.rate)),
        failed: values(|sample| sample.failed),
        queued: values(|sample| Some(sample.queued as f64)),
        executing: values(|sample| Some(sample.executing as f64)),
        oldest: values(|sample| sample.oldest),
        delay_half: values(|sample| sample.delays.map(|(half, _)| half)),
        delay_most: values(|sample| sample.delays.map(|(_, most)| most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    fn run(id: i64, created: i64, started: Option<i64>, ended: Option<i64>, state: RunState) -> RunRow {
        let row = RunRow::queued(Id(id), "f", Id(1), Millis(created));
        RunRow { started: started.map(Millis), ended: ended.map(Millis), state, ..row }
    }

    #[test]
    fn a_look_tells_what_the_newest_runs_came_to() {
        let newest = [
            run(4, 99_000, None, None, RunState::Queued),
            run(3, 90_000, Some(90_100), Some(95_000), RunState::Failed),
            run(2, 80_000, Some(80_010), Some(81_000), RunState::Completed),
            run(1, 1_000, Some(1_001), Some(2_000), RunState::Failed),
        ];
        let sample = of_rows(&newest, &newest[..1], Millis(100_000));
        assert_eq!((sample.rate, sample.failed, sample.delays), (3.0, Some(50.0), Some((10.0, 100.0))));
        assert_eq!(sample.oldest, Some(1.0));
    }

    #[test]
    fn where_very_many_come_the_rate_is_that_of_the_time_they_took() {
        let newest: Vec<RunRow> = (0..ROWS as i64).map(|n| run(ROWS as i64 - n, 100_000 - n * 2, None, None, RunState::Queued)).collect();
        let rate = of_rows(&newest, &[], Millis(100_000)).rate;
        assert!((rate - 30_060.0).abs() < 100.0, "{rate}");
    }

    #[test]
    fn plots_are_filled_up_with_nothing_in_front() {
        let series = series(&[Sample { rate: 7.0, ..Sample::default() }]);
        assert_eq!((series.rate.len(), series.rate[0], series.rate[SAMPLES - 1]), (SAMPLES, None, Some(7.0)));
    }
}
