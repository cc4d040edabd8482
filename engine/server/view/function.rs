//! A function as the API shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Millis;
use crate::project::{Cancel, Function, Trigger};
use crate::rules::cron::Cron;
use crate::rules::{Backoff, Hold};

use super::Time;

/// A declared function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionView {
    /// Its id.
    pub id: String,
    /// What starts it.
    pub triggers: Vec<TriggerView>,
    /// Its schedule, if the clock starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronView>,
    /// The hash of its handler's sources.
    pub version: String,
    /// How often its steps are tried.
    pub retries: RetryView,
    /// Its concurrency limits.
    pub concurrency: Vec<ConcurrencyView>,
    /// Its time-outs.
    pub timeouts: TimeoutsView,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryView {
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// How the waits between them grow: `table`, `exponential`, `linear` or `fixed`.
    pub backoff: String,
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
        let backoff = match function.retry.backoff {
            Backoff::Table => "table",
            Backoff::Exponential { .. } => "exponential",
            Backoff::Linear { .. } => "linear",
            Backoff::Fixed { .. } => "fixed",
        };
        let limits = function.limits.iter().zip(function.key_texts()).map(|(limit, key)| ConcurrencyView {
            limit: limit.limit,
            key: key.map(|key| key.to_string()),
            hold: if limit.hold == Hold::Run { "run" } else { "active" }.to_owned(),
            shared: limit.shared.clone(),
        });
        FunctionView {
            id: function.id.to_string(),
            triggers: function.triggers.iter().map(trigger).collect(),
            cron: function.cron.as_ref().map(|cron| CronView::of(cron, now)),
            version: function.program.hash().to_string(),
            retries: RetryView { attempts: function.retry.attempts, backoff: backoff.to_owned() },
            concurrency: limits.collect(),
            timeouts: TimeoutsView {
                start: function.timeouts.start.map(|span| span.to_string()),
                finish: function.timeouts.finish.map(|span| span.to_string()),
                step: function.timeouts.step.to_string(),
            },
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
