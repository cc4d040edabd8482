//! `GET /metrics`: the engine's figures in the text format of Prometheus
//! (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
//!
//! Labels are functions, webhooks, states, limits and reasons: what the config and this program name. No text of an event and no key of a
//! user becomes one, so their number is bounded by the config.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::base::Reading;
use crate::exec::{Figures, FunctionFigures};
use crate::rules::RunState;
use crate::store::Stats;

use super::Shared;
use super::error::ApiError;

/// The media type of the format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The states of runs that have ended, as `FunctionFigures::ended` counts them.
const ENDED: [RunState; 3] = [RunState::Completed, RunState::Failed, RunState::Cancelled];

/// Why a request to send events was refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Key,
    Malformed,
    UnknownEvent,
    Schema,
    Slow,
    TooLarge,
    ContentType,
    Crowded,
    Draining,
    DiskFull,
    Store,
}

impl Reason {
    const ALL: [Reason; 11] = [
        Reason::Key,
        Reason::Malformed,
        Reason::UnknownEvent,
        Reason::Schema,
        Reason::Slow,
        Reason::TooLarge,
        Reason::ContentType,
        Reason::Crowded,
        Reason::Draining,
        Reason::DiskFull,
        Reason::Store,
    ];

    fn word(self) -> &'static str {
        match self {
            Reason::Key => "key",
            Reason::Malformed => "malformed",
            Reason::UnknownEvent => "unknown_event",
            Reason::Schema => "schema",
            Reason::Slow => "slow",
            Reason::TooLarge => "too_large",
            Reason::ContentType => "content_type",
            Reason::Crowded => "crowded",
            Reason::Draining => "draining",
            Reason::DiskFull => "disk_full",
            Reason::Store => "store",
        }
    }

    /// The reason that an answer says.
    fn of(error: &ApiError, is_draining: bool) -> Reason {
        match error.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Reason::Key,
            StatusCode::REQUEST_TIMEOUT => Reason::Slow,
            StatusCode::PAYLOAD_TOO_LARGE => Reason::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Reason::ContentType,
            StatusCode::TOO_MANY_REQUESTS => Reason::Crowded,
            StatusCode::INSUFFICIENT_STORAGE => Reason::DiskFull,
            StatusCode::SERVICE_UNAVAILABLE if is_draining => Reason::Draining,
            StatusCode::BAD_REQUEST if error.has_code("E0222") => Reason::UnknownEvent,
            StatusCode::BAD_REQUEST if error.has_code("E0221") => Reason::Schema,
            StatusCode::BAD_REQUEST => Reason::Malformed,
            _ => Reason::Store,
        }
    }
}

/// How many requests were refused, by why.
#[derive(Debug, Default)]
pub(super) struct Refused([AtomicU64; Reason::ALL.len()]);

impl Refused {
    /// Counts a request that is answered with this error.
    pub(super) fn count(&self, error: &ApiError, is_draining: bool) {
        let reason = Reason::of(error, is_draining);
        tracing::debug!(reason = reason.word(), "a request to send events was refused");
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): Shared) -> Result<Response, ApiError> {
    let stats = app.read(|store| store.stats()).await?;
    let figures = app.engine.figures().await;
    let project = app.engine.project();
    let mut page = Page::default();
    page.family("info", Kind::Gauge, "The program's version, and the hash of the config in force.");
    page.value("", &[("version", env!("CARGO_PKG_VERSION")), ("config", project.hash.get(..12).unwrap_or_default())], 1);
    page.one("healthy", Kind::Gauge, "1 where nothing is wrong; /health says what is.", u64::from(app.engine.health().ok));
    page.one("ready", Kind::Gauge, "1 while events are taken.", u64::from(app.engine.is_ready()));
    page.one("events_accepted_total", Kind::Counter, "Events accepted over HTTP, and starts by the clock.", figures.accepted);
    page.one(
        "events_repeated_total",
        Kind::Counter,
        "Events that were accepted before, by name and id: they start nothing.",
        figures.repeated,
    );
    page.family("requests_refused_total", Kind::Counter, "Requests to send events that were refused as a whole, by why.");
    for (reason, count) in Reason::ALL.iter().zip(&app.refused.0) {
        page.value("", &[("reason", reason.word())], count.load(Ordering::Relaxed));
    }
    page.family("webhook_requests_total", Kind::Counter, "Requests of webhooks, by what became of them.");
    for (webhook, became, count) in app.deliveries.counts() {
        page.value("", &[("webhook", &webhook), ("became", became.word())], count);
    }
    runs(&mut page, &figures, &stats);
    store(&mut page, &figures, &stats);
    page.one("spans_exported_total", Kind::Counter, "Spans that a collector of traces has taken.", figures.spans_exported);
    let dropped = "Runs whose traces were dropped: the queue was full, or the collector took none.";
    page.one("traces_dropped_total", Kind::Counter, dropped, figures.traces_dropped);
    process(&mut page);
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], page.text).into_response())
}

fn runs(page: &mut Page, figures: &Figures, stats: &Stats) {
    let functions = &figures.functions;
    page.family("runs", Kind::Gauge, "Runs that have not ended, by function and state.");
    for (function, figures) in functions {
        let unfinished = RunState::ALL.iter().filter(|state| !state.is_terminal());
        unfinished.for_each(|state| page.value("", &[("function", function), ("state", state.word())], figures.runs[*state as usize]));
    }
    page.one("runs_unfinished", Kind::Gauge, "Runs that have not ended, parked ones included.", stats.unfinished);
    page.one("runs_executing", Kind::Gauge, "Runs that a worker has.", figures.counts.executing as u64);
    page.family("runs_ended_total", Kind::Counter, "Runs that have ended since the start, by function and state.");
    for (function, figures) in functions {
        let ended = ENDED.iter().zip(figures.ended);
        ended.for_each(|(state, count)| page.value("", &[("function", function), ("state", state.word())], count));
    }
    let mut by_function = |name: &str, kind: Kind, help: &str, value: &dyn Fn(&FunctionFigures) -> u64| {
        page.family(name, kind, help);
        functions.iter().for_each(|(function, figures)| page.value("", &[("function", function)], value(figures)));
    };
    by_function("attempts_failed_total", Kind::Counter, "Attempts, of steps and of the code between them, that failed.", &|one| {
        one.failed_attempts
    });
    by_function("retries_total", Kind::Counter, "Failed attempts that another one follows.", &|one| one.retries);
    by_function("queue_depth", Kind::Gauge, "Runs that stand in line.", &|one| one.in_line);
    page.family("queue_oldest_seconds", Kind::Gauge, "How long the oldest run in line that has not begun has been there.");
    for (function, figures) in functions {
        page.measure("", &[("function", function)], figures.oldest.map_or(0, |oldest| u64::try_from(oldest.0).unwrap_or(0)), 1_000);
    }
    let mut times = |name: &str, help: &str, reading: &dyn Fn(&FunctionFigures) -> Reading| {
        page.family(name, Kind::Histogram, help);
        functions.iter().for_each(|(function, figures)| page.histogram(&[("function", function)], &reading(figures), 1_000));
    };
    times("step_duration_seconds", "From the first attempt of a step to its record.", &|one| one.step_ms.clone());
    times("run_duration_seconds", "From the first start of a run to its end.", &|one| one.run_ms.clone());
    times("start_delay_seconds", "From when a run entered the queue to its first start.", &|one| one.delay_ms.clone());
    page.family("slots_limit", Kind::Gauge, "Slots of each key of a limit that has runs in line or at work.");
    figures.slots.iter().for_each(|(limit, slots)| page.value("", &[("limit", limit)], u64::from(slots.limit)));
    page.family("slots_taken", Kind::Gauge, "Slots of a limit that are taken, over all keys.");
    figures.slots.iter().for_each(|(limit, slots)| page.value("", &[("limit", limit)], slots.taken));
    page.family("slots_keys", Kind::Gauge, "Keys of a limit that have a slot taken.");
    figures.slots.iter().for_each(|(limit, slots)| page.value("", &[("limit", limit)], slots.keys));
}

fn store(page: &mut Page, figures: &Figures, stats: &Stats) {
    let store = &figures.store;
    page.one("store_bytes", Kind::Gauge, "Bytes of the database and its log.", stats.bytes);
    page.one("wal_bytes", Kind::Gauge, "Bytes of the database's write-ahead log; it is cut back to 64 MB.", store.log_bytes);
    if let Some(free) = store.free_bytes {
        page.one("disk_free_bytes", Kind::Gauge, "Bytes that are free where the database is.", free);
    }
    page.one("commits_failed_total", Kind::Counter, "Transactions that failed: of them nothing is stored.", store.failed);
    let mut histogram = |name: &str, help: &str, reading: &Reading, unit: u64| {
        page.family(name, Kind::Histogram, help);
        page.histogram(&[], reading, unit);
    };
    histogram("commit_duration_seconds", "From the beginning of a transaction until it is durable.", &store.micros, 1_000_000);
    histogram("commit_lists", "Changes of runs and events that one transaction takes along.", &store.lists, 1);
    histogram("commit_rows", "Rows that one transaction writes.", &store.rows, 1);
}

/// What the system says of this process, by the names that every exporter gives it.
fn process(page: &mut Page) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    if let Some(kilobytes) = resident {
        page.alien("process_resident_memory_bytes", Kind::Gauge, "Memory of the process that is not swapped out.", kilobytes * 1_024);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.alien("process_open_fds", Kind::Gauge, "Descriptors that the process has open.", open.count() as u64);
    }
}

/// What a family's values are.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The page as it is written, a family after another.
#[derive(Debug, Default)]
struct Page {
    text: String,
    /// The name of the family that is being written, whole.
    name: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.begin(format!("stepwell_{name}"), kind, help);
    }

    fn begin(&mut self, name: String, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        // Writing into a String cannot fail, here and below.
        let _ = write!(self.text, "# HELP {} {help}\n# TYPE {} {kind}\n", self.name, self.name);
    }

    /// A family of one value.
    fn one(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help);
        self.value("", &[], value);
    }

    /// A family of one value whose name is not of our making.
    fn alien(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.begin(name.to_owned(), kind, help);
        self.value("", &[], value);
    }

    fn value(&mut self, suffix: &str, labels: &[(&str, &str)], value: u64) {
        self.head(suffix, labels, None);
        let _ = writeln!(self.text, " {value}");
    }

    /// A value in a unit so many of which make the family's.
    fn measure(&mut self, suffix: &str, labels: &[(&str, &str)], value: u64, unit: u64) {
        self.head(suffix, labels, None);
        let _ = writeln!(self.text, " {}", value as f64 / unit as f64);
    }

    fn histogram(&mut self, labels: &[(&str, &str)], reading: &Reading, unit: u64) {
        for (bound, count) in reading.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| (bound as f64 / unit as f64).to_string());
            self.head("_bucket", labels, Some(&bound));
            let _ = writeln!(self.text, " {count}");
        }
        self.measure("_sum", labels, reading.sum, unit);
        self.value("_count", labels, reading.count());
    }

    /// A sample's name with its labels.
    fn head(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        let mut open = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.text, "{open}{name}=\"{}\"", escaped(value));
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_by_its_number() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number, "{reason:?}");
        }
    }

    #[test]
    fn values_are_escaped_and_histograms_add_up() {
        let mut page = Page::default();
        page.family("x", Kind::Histogram, "Help.");
        let histogram = crate::base::Histogram::new(&[1, 2_500]);
        [1, 2, 3_000].into_iter().for_each(|value| histogram.add(value));
        page.histogram(&[("f", "a\"b\\c\nd")], &histogram.read(), 1_000);
        let expected = "# HELP stepwell_x Help.\n# TYPE stepwell_x histogram\n\
            stepwell_x_bucket{f=\"a\\\"b\\\\c\\nd\",le=\"0.001\"} 1\n\
            stepwell_x_bucket{f=\"a\\\"b\\\\c\\nd\",le=\"2.5\"} 2\n\
            stepwell_x_bucket{f=\"a\\\"b\\\\c\\nd\",le=\"+Inf\"} 3\n\
            stepwell_x_sum{f=\"a\\\"b\\\\c\\nd\"} 3.003\n\
            stepwell_x_count{f=\"a\\\"b\\\\c\\nd\"} 3\n";
        assert_eq!(page.text, expected);
    }
}
