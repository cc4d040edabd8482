//! What the terminal view shows, made of what the engine answers.

use serde::Serialize;

use crate::base::{Millis, Span, size};
use crate::rules::RunState;
use crate::server::view::RunView;

use super::super::out::{self, count, short};
use super::scrape::Scrape;

/// One look at an engine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Board {
    /// Where it listens.
    pub url: String,
    /// Its program's version.
    pub version: String,
    /// What is wrong, a sentence each.
    pub reasons: Vec<String>,
    /// Events accepted a second.
    pub accepted: f64,
    /// Requests refused a second.
    pub refused: f64,
    /// Runs that ended a second.
    pub ended: f64,
    /// Those of them that failed.
    pub failed: f64,
    /// Failed attempts a second after which another one follows.
    pub retried: f64,
    /// Runs in line.
    pub in_line: f64,
    /// Runs that a worker has.
    pub executing: f64,
    /// Runs that have not ended.
    pub unfinished: f64,
    /// Runs that cannot go on by themselves.
    pub parked: f64,
    /// Transactions a second.
    pub commits: f64,
    /// Rows of one, on average.
    pub commit_rows: f64,
    /// Seconds that 99 of 100 of them do not exceed.
    pub commit_p99: Option<f64>,
    /// Bytes of the database with its log, of the log alone, of what is free, of the process's memory.
    pub bytes: [f64; 4],
    /// The functions, by id.
    pub functions: Vec<FunctionLine>,
    /// Runs that somebody should look at: parked, failed of those made in the last hour, backing off.
    pub attention: Vec<RunLine>,
}

/// A function.
#[derive(Debug, Clone, Serialize)]
pub struct FunctionLine {
    /// Its id.
    pub function: String,
    /// Its unfinished runs: running, in line, suspended, backing off, parked.
    pub runs: [f64; 5],
    /// How long the oldest in line that has not begun has been there, in seconds.
    pub oldest: f64,
    /// Runs that ended a second, and those of them that failed.
    pub ended: [f64; 2],
    /// Seconds that half of its steps, and 99 of 100, do not exceed.
    pub steps: [Option<f64>; 2],
}

/// A run that somebody should look at.
#[derive(Debug, Clone, Serialize)]
pub struct RunLine {
    /// Its id.
    pub run: String,
    /// Its function.
    pub function: String,
    /// The state's word.
    pub state: String,
    /// How long ago it ended; of one that has not, how long ago it began, or was made.
    pub age: String,
    /// Its error, or why it is not moving.
    pub why: String,
}

impl RunLine {
    /// The line of a run.
    pub fn of(run: &RunView, now: Millis) -> RunLine {
        let why = match (&run.error, &run.why) {
            (Some(error), _) if run.state == RunState::Failed => error.message.clone(),
            (_, Some(why)) => why.clone(),
            (Some(error), None) => error.message.clone(),
            (None, None) => String::new(),
        };
        let at = run.ended_at.or(run.run_started_at).unwrap_or(run.created_at);
        RunLine {
            run: run.run_id.to_string(),
            function: out::shown(&run.function_id),
            state: run.state.word().replace('_', " "),
            age: short(now.since(at.0)),
            why: out::cut(&why, 400),
        }
    }
}

impl Board {
    /// What two scrapes tell, the second one being the newer; and what the engine's health says.
    pub fn of(url: &str, before: &Scrape, after: &Scrape, reasons: Vec<String>, attention: Vec<RunLine>) -> Board {
        let rate = |name: &str, labels: &[(&str, &str)]| after.rate(before, name, labels);
        let sum = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels);
        let (commits, rows) = (rate("stepwell_commit_rows_count", &[]), rate("stepwell_commit_rows_sum", &[]));
        Board {
            url: url.to_owned(),
            version: after.values("stepwell_info", "version").into_iter().next().unwrap_or_default(),
            reasons,
            accepted: rate("stepwell_events_accepted_total", &[]),
            refused: rate("stepwell_requests_refused_total", &[]),
            ended: rate("stepwell_runs_ended_total", &[]),
            failed: rate("stepwell_runs_ended_total", &[("state", "failed")]),
            retried: rate("stepwell_retries_total", &[]),
            in_line: sum("stepwell_queue_depth", &[]),
            executing: sum("stepwell_runs_executing", &[]),
            unfinished: sum("stepwell_runs_unfinished", &[]),
            parked: sum("stepwell_runs", &[("state", "parked")]),
            commits,
            commit_rows: if commits > 0.0 { rows / commits } else { 0.0 },
            commit_p99: after.quantile(before, "stepwell_commit_duration_seconds", &[], 0.99),
            bytes: ["stepwell_store_bytes", "stepwell_wal_bytes", "stepwell_disk_free_bytes", "process_resident_memory_bytes"]
                .map(|name| sum(name, &[])),
            functions: after.values("stepwell_queue_depth", "function").iter().map(|id| function(id, before, after)).collect(),
            attention,
        }
    }

    /// The lines above the tables.
    pub fn head(&self) -> [String; 3] {
        let well = if self.reasons.is_empty() { "well".to_owned() } else { self.reasons.join("; ") };
        let [store, log, free, memory] = self.bytes.map(|bytes| size(bytes as u64));
        let p99 = self.commit_p99.map_or_else(|| "-".to_owned(), seconds);
        [
            format!("stepwell {} at {}: {}", self.version, self.url, out::cut(&well, 300)),
            format!(
                "{}/s accepted, {}/s refused   {}/s ended, {}/s failed, {}/s retried   {} in line, {} executing, {} unfinished, {} parked",
                number(self.accepted),
                number(self.refused),
                number(self.ended),
                number(self.failed),
                number(self.retried),
                self.in_line,
                self.executing,
                self.unfinished,
                self.parked,
            ),
            format!(
                "{}/s commits of {} rows, p99 {p99}   database {store}, of it log {log}   disk free {free}   memory {memory}",
                number(self.commits),
                number(self.commit_rows),
            ),
        ]
    }

    /// How many runs want a look, in words.
    pub fn attention_title(&self) -> String {
        let runs = match self.attention.len() {
            0 => "nothing needs attention".to_owned(),
            1 => "1 run needs attention".to_owned(),
            runs => format!("{} need attention", count(runs, "run")),
        };
        format!("{runs}: parked, backing off, failed of those made in the last hour")
    }
}

fn function(id: &str, before: &Scrape, after: &Scrape) -> FunctionLine {
    let labels = [("function", id)];
    let state = |state: &str| after.sum("stepwell_runs", &[("function", id), ("state", state)]);
    let ended = |labels: &[(&str, &str)]| after.rate(before, "stepwell_runs_ended_total", labels);
    let steps = |share| after.quantile(before, "stepwell_step_duration_seconds", &labels, share);
    FunctionLine {
        function: out::shown(id),
        runs: [
            state("running"),
            after.sum("stepwell_queue_depth", &labels),
            state("sleeping") + state("waiting"),
            state("backing_off"),
            state("parked"),
        ],
        oldest: after.sum("stepwell_queue_oldest_seconds", &labels),
        ended: [ended(&labels), ended(&[("function", id), ("state", "failed")])],
        steps: [steps(0.5), steps(0.99)],
    }
}

impl FunctionLine {
    /// Its cells, as `HEADS` names them.
    pub fn cells(&self) -> Vec<String> {
        let oldest = if self.runs[1] > 0.0 { seconds(self.oldest) } else { "-".to_owned() };
        let [running, in_line, suspended, backing_off, parked] = self.runs.map(|runs| runs.to_string());
        let steps = self.steps.map(|step| step.map_or_else(|| "-".to_owned(), seconds));
        let [ended, failed] = self.ended.map(number);
        let [p50, p99] = steps;
        vec![self.function.clone(), running, in_line, oldest, suspended, backing_off, parked, ended, failed, p50, p99]
    }
}

/// The heads of the functions' table.
pub const HEADS: [&str; 11] =
    ["function", "running", "in line", "oldest", "suspended", "backing off", "parked", "ended/s", "failed/s", "step p50", "p99"];

fn number(value: f64) -> String {
    if value == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn seconds(value: f64) -> String {
    match value {
        value if value.is_infinite() => "long".to_owned(),
        value if value > 0.0 && value < 0.001 => format!("{:.1}ms", value * 1e3),
        value => short(Span((value * 1e3).round() as i64)),
    }
}
