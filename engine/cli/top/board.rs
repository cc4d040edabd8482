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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `/metrics` answers once so much has been counted.
    fn page(accepted: u64, refused: u64, ended: [u64; 2], retried: u64, commits: [u64; 2], bounds: [u64; 2], steps: [u64; 2]) -> String {
        let ([completed, failed], [transactions, rows]) = (ended, commits);
        let ([fast, all], [short, long]) = (bounds, steps);
        format!(
            "# HELP stepwell_info Which engine it is.\nstepwell_info{{version=\"1.2.3\"}} 1\n\
             stepwell_events_accepted_total {accepted}\nstepwell_requests_refused_total{{reason=\"key\"}} {refused}\n\
             stepwell_runs_ended_total{{function=\"pay\",state=\"completed\"}} {completed}\n\
             stepwell_runs_ended_total{{function=\"pay\",state=\"failed\"}} {failed}\n\
             stepwell_runs_ended_total{{function=\"mail\",state=\"completed\"}} 10\n\
             stepwell_retries_total{{function=\"pay\"}} {retried}\n\
             stepwell_queue_depth{{function=\"mail\"}} 0\nstepwell_queue_depth{{function=\"pay\"}} 7\n\
             stepwell_queue_oldest_seconds{{function=\"pay\"}} 65\n\
             stepwell_runs{{function=\"pay\",state=\"running\"}} 2\nstepwell_runs{{function=\"pay\",state=\"sleeping\"}} 3\n\
             stepwell_runs{{function=\"pay\",state=\"waiting\"}} 4\nstepwell_runs{{function=\"pay\",state=\"backing_off\"}} 5\n\
             stepwell_runs{{function=\"pay\",state=\"parked\"}} 1\n\
             stepwell_runs_executing 2\nstepwell_runs_unfinished 22\n\
             stepwell_commit_rows_count {transactions}\nstepwell_commit_rows_sum {rows}\n\
             stepwell_commit_duration_seconds_bucket{{le=\"0.001\"}} {fast}\n\
             stepwell_commit_duration_seconds_bucket{{le=\"0.005\"}} {all}\nstepwell_commit_duration_seconds_bucket{{le=\"+Inf\"}} {all}\n\
             stepwell_step_duration_seconds_bucket{{function=\"pay\",le=\"0.01\"}} {short}\n\
             stepwell_step_duration_seconds_bucket{{function=\"pay\",le=\"0.1\"}} {long}\n\
             stepwell_step_duration_seconds_bucket{{function=\"pay\",le=\"+Inf\"}} {long}\n"
        )
    }

    #[test]
    fn rates_are_what_has_come_between_two_looks_by_the_time_between_them() {
        let before = Scrape::read(&page(100, 4, [50, 2], 0, [10, 100], [10, 10], [5, 5]), 7_000_000);
        // Two seconds later.
        let after = Scrape::read(&page(220, 10, [90, 8], 3, [30, 700], [29, 30], [8, 10]), 9_000_000);
        let board = Board::of("http://here", &before, &after, Vec::new(), Vec::new());
        let [who, rates, store] = board.head();
        assert_eq!(who, "stepwell 1.2.3 at http://here: well");
        assert_eq!(
            rates,
            "60.0/s accepted, 3.0/s refused   23.0/s ended, 3.0/s failed, 1.5/s retried   7 in line, 2 executing, 22 unfinished, 1 parked"
        );
        assert!(store.starts_with("10.0/s commits of 30.0 rows, p99 5ms   database "), "{store}");
        let cells: Vec<Vec<String>> = board.functions.iter().map(FunctionLine::cells).collect();
        assert_eq!(
            cells,
            [
                ["mail", "0", "0", "-", "0", "0", "0", "0", "0", "-", "-"],
                ["pay", "2", "7", "1m5s", "7", "5", "1", "23.0", "3.0", "10ms", "100ms"]
            ]
        );
        // In twice the time it is half as much, and nothing where nothing has happened.
        let mut later = after.clone();
        later.micros = 11_000_000;
        assert_eq!(Board::of("", &before, &later, Vec::new(), Vec::new()).accepted, 30.0);
        let still = Board::of("", &after, &later, vec!["the disk is full".into()], Vec::new());
        assert_eq!((still.accepted, still.ended, still.commit_rows, still.commit_p99), (0.0, 0.0, 0.0, None));
        assert!(still.head()[0].ends_with(": the disk is full"), "{:?}", still.head());
        assert!(still.attention_title().starts_with("nothing needs attention: "), "{}", still.attention_title());
    }
}
