//! A function as the API shows it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Millis, Span};
use crate::project::{Cancel, Function, Trigger};
use crate::rules::cron::Cron;
use crate::rules::gates::{Collect, Singleton};
use crate::rules::policy::Retry;
use crate::rules::{Backoff, Hold};

use super::Time;

/// A declared function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionView {
    /// Its id.
    pub id: String,
    /// What starts it.
    pub triggers: Vec<TriggerView>,
    /// Its schedules, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cron: Vec<CronView>,
    /// The path of its handler.
    pub handler: String,
    /// The hash of its handler's sources.
    pub version: String,
    /// Which version of a changed handler its runs in flight go on with.
    pub versions: String,
    /// How often its steps are tried.
    pub retries: RetryView,
    /// Its concurrency limits.
    pub concurrency: Vec<ConcurrencyView>,
    /// Its time-outs.
    pub timeouts: TimeoutsView,
    /// The expression of which each value starts one run in 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<String>,
    /// What it skips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateView>,
    /// How it waits for quiet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<DebounceView>,
    /// How it collects events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchView>,
    /// What becomes of an event while a run is unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub singleton: Option<SingletonView>,
    /// What it delays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<RateView>,
    /// The expression of the head start, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// The events that cancel its runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancel_on: Vec<CancelView>,
    /// The path of its script for failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// Since when it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<Time>,
}

/// So many starts in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateView {
    /// Starts in each period.
    pub limit: u32,
    /// The period, as a duration.
    pub period: String,
    /// Of a throttle: starts that may come at once on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// The key's expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One run with the last event, once none has come for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DebounceView {
    /// The quiet time, as a duration.
    pub period: String,
    /// The longest time from the first event to the run, as a duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// The key's expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One run for many events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchView {
    /// So many events start the run at once.
    pub size: u32,
    /// The longest time from the first event to the run, as a duration.
    pub timeout: String,
    /// The key's expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Which events it takes; others start runs of their own.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// One unfinished run at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SingletonView {
    /// `skip` or `cancel`.
    pub mode: String,
    /// The key's expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// An event that cancels a function's runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelView {
    /// The event's name.
    pub event: String,
    /// The condition.
    #[serde(rename = "if", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// How long after a run's creation it is listened for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// An event that starts a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerView {
    /// The event's name, or a family such as `stripe/*`.
    pub event: String,
    /// The condition.
    #[serde(rename = "if", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// When the clock starts a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CronView {
    /// Minute, hour, day of the month, month, day of the week.
    pub schedule: String,
    /// The zone that it is read in.
    pub tz: String,
    /// The most time that a start is delayed at random, as a duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// What becomes of missed starts: `skip`, `run-once` or `run-all`.
    pub missed: String,
    /// The next time of the schedule, in its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How often something is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetryView {
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// How the waits between them grow: `table`, `exponential`, `linear` or `fixed`.
    pub backoff: String,
    /// The first wait, as a duration; none for `table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// The longest wait, as a duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// The share of a wait that is added or taken at random, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// A concurrency limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConcurrencyView {
    /// Runs at once for one value of the key.
    pub limit: u32,
    /// The key's expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `run` or `active`.
    pub hold: String,
    /// The name under which several functions share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
}

/// A function's time-outs, as durations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeoutsView {
    /// Longest stay in the queue before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Longest time from the first start to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Longest time of one attempt of one step.
    pub step: String,
}

impl FunctionView {
    /// The view of a function of the snapshot in force, at `now`.
    pub fn of(function: &Function, now: Millis) -> FunctionView {
        let limits = function.limits.iter().zip(function.key_texts()).map(|(limit, key)| ConcurrencyView {
            limit: limit.limit,
            key: key.map(|key| key.to_string()),
            hold: if limit.hold == Hold::Run { "run" } else { "active" }.to_owned(),
            shared: limit.shared.clone(),
        });
        FunctionView {
            id: function.id.to_string(),
            triggers: function.triggers.iter().map(trigger).collect(),
            cron: function.crons.iter().map(|cron| CronView::of(cron, now)).collect(),
            handler: function.program.main().to_owned(),
            version: function.program.hash().to_string(),
            versions: function.versions.word().to_owned(),
            retries: RetryView::of(&function.retry),
            concurrency: limits.collect(),
            timeouts: TimeoutsView {
                start: function.timeouts.start.map(|span| span.to_string()),
                finish: function.timeouts.finish.map(|span| span.to_string()),
                step: function.timeouts.step.to_string(),
            },
            idempotency: function.idempotency_text().map(text),
            rate_limit: function.rate_limit().map(|(rule, key)| RateView {
                limit: rule.limit,
                period: rule.period.to_string(),
                burst: None,
                key: key.map(text),
            }),
            debounce: DebounceView::of(function),
            batch: BatchView::of(function),
            singleton: function.singleton().map(|(mode, key)| SingletonView {
                mode: if mode == Singleton::Skip { "skip" } else { "cancel" }.to_owned(),
                key: key.map(text),
            }),
            throttle: function.throttle.map(|rule| RateView {
                limit: rule.limit,
                period: rule.period.to_string(),
                burst: Some(rule.burst),
                key: function.throttle_key_text().map(text),
            }),
            priority: function.priority_text().map(text),
            cancel_on: function.cancels.iter().map(cancel).collect(),
            on_failure: function.on_failure.as_ref().map(|failures| failures.program.main().to_owned()),
            paused_since: None,
        }
    }

    /// The view of a function that is paused since then, if it is.
    pub fn with_pause(self, since: Option<Millis>) -> FunctionView {
        FunctionView { paused_since: since.map(Time), ..self }
    }
}

fn text(text: &Arc<str>) -> String {
    text.to_string()
}

impl RetryView {
    fn of(retry: &Retry) -> RetryView {
        let (backoff, initial, max, jitter) = match retry.backoff {
            Backoff::Table => ("table", None, None, None),
            Backoff::Exponential { initial, max, jitter } => ("exponential", Some(initial), Some(max), Some(jitter)),
            Backoff::Linear { initial, max, jitter } => ("linear", Some(initial), Some(max), Some(jitter)),
            Backoff::Fixed { initial, jitter } => ("fixed", Some(initial), None, Some(jitter)),
        };
        let span = |span: Option<Span>| span.map(|span| span.to_string());
        RetryView { attempts: retry.attempts, backoff: backoff.to_owned(), initial: span(initial), max: span(max), jitter }
    }
}

impl DebounceView {
    fn of(function: &Function) -> Option<DebounceView> {
        let Some(Collect::Debounce { period, timeout }) = function.collect else { return None };
        let key = function.collect_key_text().map(text);
        Some(DebounceView { period: period.to_string(), timeout: timeout.map(|timeout| timeout.to_string()), key })
    }
}

impl BatchView {
    fn of(function: &Function) -> Option<BatchView> {
        let Some(Collect::Batch { size, timeout }) = function.collect else { return None };
        let (key, condition) = (function.collect_key_text().map(text), function.collect_if_text().map(text));
        Some(BatchView { size, timeout: timeout.to_string(), key, condition })
    }
}

fn cancel(cancel: &Cancel) -> CancelView {
    CancelView {
        event: cancel.event.to_string(),
        condition: cancel.condition_text().map(|text| text.to_string()),
        timeout: cancel.timeout.map(|span| span.to_string()),
    }
}

impl CronView {
    /// The view of a schedule at `now`.
    pub fn of(cron: &Cron, now: Millis) -> CronView {
        let schedule = &cron.schedule;
        CronView {
            schedule: schedule.text().to_string(),
            tz: schedule.zone_name().to_owned(),
            jitter: (cron.jitter.0 > 0).then(|| cron.jitter.to_string()),
            missed: cron.missed.word().to_owned(),
            next: schedule.next(now).map(|at| schedule.local(at)),
        }
    }
}

fn trigger(trigger: &Trigger) -> TriggerView {
    TriggerView { event: trigger.event.to_string(), condition: trigger.condition_text().map(|text| text.to_string()) }
}
