//! `functions`: what starts them, which script they run, and their limits.

use schemars::JsonSchema;

use crate::base::Diagnostic;
use crate::rules::policy;

use super::super::reader::{Fields, MapShape, Reader, entries, wrong};
use super::super::schema::{CancelShape, ConcurrencyShape, CronShape, Retried, TriggerShape};
use super::super::spanned::{Spanned, Table, or};
use super::super::tree::{Node, Shape};
use super::batch::Batch;
use super::cancel_on::{Cancel, Cancels};
use super::concurrency::{self, Concurrency};
use super::cron::{Cron, Crons};
use super::debounce::Debounce;
use super::defaults::Defaults;
use super::on::{self, Trigger};
use super::rate_limit::RateLimit;
use super::retries::{ATTEMPTS_DEFAULT, Retries};
use super::singleton::Singleton;
use super::throttle::Throttle;
use super::timeouts::Timeouts;
use super::versions::Versions;
use super::{handler, names};

/// A function: a script and what starts it.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Function {
    /// The events that start it: a name, `{ event, if }`, or a list of either.
    #[schemars(with = "Option<TriggerShape>")]
    pub on: Vec<Trigger>,
    /// Its script, relative to this folder; default `handlers/ID.rhai`.
    #[schemars(with = "Option<String>")]
    pub handler: Spanned<String>,
    /// How many of its runs may be active at once: a number, `{ limit, key, hold, shared }`, or a list of two.
    #[schemars(with = "Option<ConcurrencyShape>")]
    pub concurrency: Vec<Concurrency>,
    /// How often something that failed is tried again: a number of retries (0 to 20; 3 retries are up to 4 attempts, and
    /// each step has its own), or the long form with the back-off.
    #[schemars(with = "Option<Retried>")]
    pub retries: Option<Retries>,
    /// How long a run and a step may take.
    #[schemars(default)]
    pub timeouts: Timeouts,
    /// An expression over the event: one run per value in 24 hours.
    pub idempotency: Option<Spanned<String>>,
    /// An expression over the event that gives the head start in the queue, in seconds, -600 to 600.
    pub priority: Option<Spanned<String>>,
    /// Which version of a changed handler a run in flight goes on with; default as the file's `versions`.
    pub versions: Option<Spanned<Versions>>,
    /// Events that cancel its runs: a name, `{ event, if, timeout }`, or a list of either.
    #[schemars(with = "Option<CancelShape>")]
    pub cancel_on: Vec<Cancel>,
    /// A script that runs once, durably, after a run has failed: it sees `event`, `error` and `run`.
    pub on_failure: Option<Spanned<String>>,
    /// Delays starts: at most `limit` in each `period`, spread over it.
    pub throttle: Option<Spanned<Throttle>>,
    /// Skips runs: at most `limit` start in each `period`.
    pub rate_limit: Option<Spanned<RateLimit>>,
    /// One run with the last event, once none has come for a while: `{ period, key, timeout }`.
    pub debounce: Option<Spanned<Debounce>>,
    /// One run for many events, which its script sees as `events`: `{ size, timeout, key }`.
    pub batch: Option<Spanned<Batch>>,
    /// One unfinished run at a time, without a queue.
    pub singleton: Option<Spanned<Singleton>>,
    /// Starts by the clock: a schedule such as `0 7 * * MON-FRI`, `{ schedule, tz, jitter, missed }`, or a list of up to ten of them.
    #[schemars(with = "Option<CronShape>")]
    pub cron: Vec<Cron>,
}

impl Function {
    /// The retry policy in force.
    pub fn retry(&self, defaults: &Defaults) -> policy::Retry {
        match self.retries.as_ref().or(defaults.retries.as_ref()) {
            Some(retries) => retries.policy(),
            None => policy::Retry { attempts: ATTEMPTS_DEFAULT, backoff: policy::Backoff::Table },
        }
    }

    /// The time-outs in force.
    pub fn timeouts(&self, defaults: &Defaults) -> policy::Timeouts {
        self.timeouts.policy(&defaults.timeouts)
    }

    /// Which version of a changed handler a run in flight goes on with; `file` is the file's own `versions`.
    pub fn versions(&self, file: &Option<Spanned<Versions>>) -> Versions {
        or(&self.versions, or(file, Versions::Auto))
    }
}

impl MapShape for Function {
    const NAME: &'static str = "Function";
}

/// Reads all functions of a file.
pub(in crate::config) fn read_all(node: &Node, reader: &mut Reader) -> Table<Function> {
    let mut functions = Table::default();
    for (id, node) in entries(node, "a map of functions", reader).unwrap_or_default() {
        if let Some(problem) = names::id_problem("the function's id", &id.value, &id.place) {
            reader.note(problem);
        }
        if let Some(function) = read(id, node, reader) {
            functions.push(id.clone(), function);
        }
    }
    functions
}

fn read(id: &Spanned<String>, node: &Node, reader: &mut Reader) -> Option<Function> {
    if !matches!(node.shape, Shape::Map(_) | Shape::Null) {
        let problem = wrong(node, "a map");
        reader.note(problem.help(format!("a function is written `{}: {{ on: EVENT }}`", id.value)));
        return None;
    }
    let mut fields = Fields::of::<Function>(node, format!("the function `{}`", id.value), reader)?;
    let on = fields.entry("on").map(|(_, node)| on::read_all(node, fields.reader()));
    let handler = fields.optional("handler").unwrap_or_else(|| handler::default_for(id));
    let concurrency = fields.entry("concurrency").map(|(_, node)| concurrency::read_all(node, fields.reader())).unwrap_or_default();
    let function = Function {
        on: on.clone().unwrap_or_default(),
        handler,
        concurrency,
        retries: fields.optional("retries"),
        timeouts: fields.optional("timeouts").unwrap_or_default(),
        idempotency: fields.optional("idempotency"),
        priority: fields.optional("priority"),
        versions: fields.optional("versions"),
        cancel_on: fields.optional::<Cancels>("cancel_on").unwrap_or_default().0,
        on_failure: fields.optional("on_failure"),
        throttle: fields.optional_at_key("throttle"),
        rate_limit: fields.optional_at_key("rate_limit"),
        debounce: fields.optional_at_key("debounce"),
        batch: fields.optional_at_key("batch"),
        singleton: fields.optional_at_key("singleton"),
        cron: fields.optional::<Crons>("cron").unwrap_or_default().0,
    };
    let started_by_clock = fields.entry("cron").is_some();
    fields.done();
    if on.is_none() && !started_by_clock {
        reader.note(
            Diagnostic::error("E0108", format!("nothing starts the function `{}`: it has no `on`", id.value))
                .at(id.place.clone())
                .help("name an event: `on: payment/initiate`, or a schedule: `cron: \"0 7 * * *\"`"),
        );
    }
    Some(function)
}
