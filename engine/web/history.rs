//! How it went for the last hour, for the plots of the overview: what the engine counts for its figures anyway, looked at now and then. What
//! happened in between is the difference of two looks, so no row is read for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use crate::base::{Millis, Span};
use crate::exec::{Figures, FunctionFigures};
use crate::rules::RunState;
use crate::server::Api;

/// How often it is noted how it goes.
const EVERY: Span = Span::seconds(15);
/// How many samples are kept: an hour of them.
const SAMPLES: usize = 240;
/// How far a sample goes back, at least.
const WINDOW: Span = Span::seconds(60);

/// What the engine had counted at one moment, and where its runs stood.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Look {
    at: Millis,
    queued: usize,
    executing: usize,
    /// How long the oldest run in line has been there.
    oldest: Span,
    /// Runs that are parked.
    pub parked: u64,
    /// Runs that back off.
    pub backing_off: u64,
    /// Runs that have ended, and those of them that failed.
    ended: u64,
    failed: u64,
    /// First starts: how many waited no longer than so many milliseconds. The last entry has no bound, and all of them.
    starts: Vec<(Option<u64>, u64)>,
}

impl Look {
    async fn of(api: &Api) -> Look {
        let figures = api.engine().figures().await;
        Look::at(&figures, api.now())
    }

    fn at(figures: &Figures, at: Millis) -> Look {
        let mut look = Look { at, queued: figures.counts.queued, executing: figures.counts.executing, ..Look::default() };
        let mut starts = FunctionFigures::default().delay_ms;
        for function in figures.functions.values() {
            look.parked += function.runs[RunState::Parked as usize];
            look.backing_off += function.runs[RunState::BackingOff as usize];
            look.oldest = look.oldest.max(function.oldest.unwrap_or_default());
            let [completed, failed, cancelled] = function.ended;
            look.ended += completed + failed + cancelled;
            look.failed += failed;
            starts.merge(&function.delay_ms);
        }
        look.starts = starts.cumulative().collect();
        look
    }

    /// What this look tells, with what has happened since an earlier one.
    fn since(&self, earlier: &Look) -> Sample {
        let passed = self.at.since(earlier.at).0.max(WINDOW.0) as f64;
        let ended = self.ended.saturating_sub(earlier.ended);
        let failed = self.failed.saturating_sub(earlier.failed);
        let before = earlier.starts.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        let starts: Vec<(Option<u64>, u64)> =
            self.starts.iter().zip(before).map(|((bound, count), before)| (*bound, count.saturating_sub(before))).collect();
        let started = starts.last().map_or(0, |(_, all)| *all);
        // What waited longer than all bounds is told as the last of them.
        let longest = starts.iter().rev().find_map(|(bound, _)| *bound).unwrap_or_default();
        let quantile = |share: f64| {
            let wanted = ((started as f64 * share).ceil() as u64).max(1);
            starts.iter().find(|(_, count)| *count >= wanted).map(|(bound, _)| bound.unwrap_or(longest) as f64)
        };
        Sample {
            queued: self.queued,
            executing: self.executing,
            oldest: self.oldest.0 as f64 / 1_000.0,
            rate: started as f64 * 60_000.0 / passed,
            failed: (ended > 0).then(|| failed as f64 * 100.0 / ended as f64),
            delays: quantile(0.5).zip(quantile(0.95)),
        }
    }
}

/// How it goes at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sample {
    queued: usize,
    executing: usize,
    /// How long the oldest run in line has been there, in seconds.
    oldest: f64,
    /// Runs that started, a minute.
    rate: f64,
    /// The share of those that ended lately which failed, in percent.
    failed: Option<f64>,
    /// What half of the starts, and 95 of 100, did not wait longer than, in milliseconds.
    delays: Option<(f64, f64)>,
}

/// Values for plots, oldest first, as many of each; none where nothing is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Runs that started a minute.
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
    /// The looks that newer ones are compared with: the first one is the newest that is a window old, where there is one.
    looks: VecDeque<Look>,
}

impl Kept {
    /// What a look tells beside those before it.
    fn sample(&self, look: &Look) -> Sample {
        look.since(self.looks.front().unwrap_or(look))
    }

    fn note(&mut self, look: Look) {
        let sample = self.sample(&look);
        self.samples.push_back(sample);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        while self.looks.get(1).is_some_and(|next| look.at.since(next.at) >= WINDOW) {
            self.looks.pop_front();
        }
        self.looks.push_back(look);
    }
}

impl History {
    pub(super) fn of(api: &Api) -> History {
        // The engine has just begun to count, from nothing.
        let first = Look { at: api.now(), ..Look::default() };
        let kept = Arc::new(Mutex::new(Kept { samples: VecDeque::new(), looks: VecDeque::from([first]) }));
        // Without a runtime nobody can ask for pages either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(keep(Arc::downgrade(&kept), api.clone(), api.stopping()));
        }
        History { api: api.clone(), kept }
    }

    /// How it goes.
    pub(super) async fn latest(&self) -> Look {
        Look::of(&self.api).await
    }

    /// The last hour up to now.
    pub async fn series(&self) -> Series {
        let latest = self.latest().await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = kept.sample(&latest);
        series(kept.samples.iter().chain([&newest]))
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
        let look = Look::of(&api).await;
        let Some(kept) = kept.upgrade() else { return };
        kept.lock().unwrap_or_else(PoisonError::into_inner).note(look);
    }
}

/// The series of samples, filled up with nothing in front.
fn series<'a>(samples: impl Iterator<Item = &'a Sample>) -> Series {
    let samples: Vec<&Sample> = samples.collect();
    let missing = SAMPLES.saturating_sub(samples.len());
    let values = |of: fn(&Sample) -> Option<f64>| {
        std::iter::repeat_n(None, missing).chain(samples.iter().map(|sample| of(sample))).collect::<Vec<_>>()
    };
    Series {
        rate: values(|sample| Some(sample.rate)),
        failed: values(|sample| sample.failed),
        queued: values(|sample| Some(sample.queued as f64)),
        executing: values(|sample| Some(sample.executing as f64)),
        oldest: values(|sample| Some(sample.oldest)),
        delay_half: values(|sample| sample.delays.map(|(half, _)| half)),
        delay_most: values(|sample| sample.delays.map(|(_, most)| most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at so many seconds, when so many runs had ended, and so many of those failed.
    fn look(seconds: i64, ended: u64, failed: u64, starts: [u64; 3]) -> Look {
        let starts = [Some(10), Some(100), None].into_iter().zip(starts).collect();
        Look { at: Millis(seconds * 1_000), ended, failed, starts, ..Look::default() }
    }

    #[test]
    fn two_looks_tell_what_happened_between_them() {
        let before = look(100, 4, 4, [10, 10, 10]);
        let now = Look { queued: 3, oldest: Span(1_500), ..look(220, 8, 5, [10, 12, 14]) };
        let sample = now.since(&before);
        assert_eq!((sample.rate, sample.failed, sample.delays), (2.0, Some(25.0), Some((100.0, 100.0))));
        assert_eq!((sample.queued, sample.oldest), (3, 1.5));
        let nothing = before.since(&before);
        assert_eq!((nothing.rate, nothing.failed, nothing.delays), (0.0, None, None));
    }

    #[test]
    fn a_sample_goes_a_minute_back_and_a_young_engine_has_had_one() {
        let mut kept = Kept { looks: VecDeque::from([Look { at: Millis(0), ..Look::default() }]), ..Kept::default() };
        // A run each second, from the first one on.
        for seconds in (15..=180).step_by(15) {
            kept.note(look(seconds, 0, 0, [seconds as u64; 3]));
        }
        let rates: Vec<f64> = kept.samples.iter().map(|sample| sample.rate).collect();
        assert_eq!(rates[..4], [15.0, 30.0, 45.0, 60.0]);
        assert!(rates[4..].iter().all(|rate| *rate == 60.0), "{rates:?}");
        assert!(kept.looks.len() <= 6, "{}", kept.looks.len());
    }

    #[test]
    fn plots_are_filled_up_with_nothing_in_front() {
        let series = series([Sample { rate: 7.0, ..Sample::default() }].iter());
        assert_eq!((series.rate.len(), series.rate[0], series.rate[SAMPLES - 1]), (SAMPLES, None, Some(7.0)));
    }
}
