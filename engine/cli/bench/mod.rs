//! `stepwell bench`: what this machine gives, each figure beside its raw limit from the same run.
//!
//! The engine runs as a process of its own, as it does in production: on a real file, `durability: full`, over HTTP.

mod bare;
mod load;
mod project;
mod raw;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Diagnostic};
use crate::clock::{Stopwatch, SystemClock};

use super::exit::{Exit, Trouble};
use super::out::{Cell, Out};
use project::Served;
use report::{Figure, Report, number};

/// Keep-alive connections of the load generator.
const CONNECTIONS: usize = 64;
/// Events in one request of the bulk figures.
const MANY: u64 = 100;

/// Takes a group of figures.
type Measure<'a> = &'a dyn Fn() -> std::io::Result<Vec<Figure>>;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// A tenth of the work: a first look in well under a minute
    #[arg(long)]
    quick: bool,
    /// Runs of each throughput figure
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    runs: u64,
    /// Take only the figures whose name holds this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Write the figures as JSON, to compare runs by
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Write the figures as a page
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Folder for the databases, on the disk to be measured [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Bench {
    /// Measures, prints the table and writes the files that were asked for.
    ///
    /// # Errors
    /// Exit 74 where a file, a port or the engine's process fails; a figure that could not be taken is never left out
    /// in silence.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let failed = |error: std::io::Error| Trouble::new(Exit::Io, Diagnostic::error("E0550", format!("the measurement failed: {error}")));
        let report = self.measure(out).map_err(failed)?;
        let rows = report.figures.iter().map(|figure| {
            let with_unit = |value: f64| format!("{} {}", number(value), figure.unit);
            let ratio = figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let raw = figure.raw.map(with_unit).unwrap_or_default();
            let cells: [String; 5] = [figure.name.clone(), with_unit(figure.value), raw, ratio, figure.aim.to_owned()];
            cells.into_iter().map(Cell::from).collect()
        });
        out.table(&["measure", "stepwell", "raw limit", "ratio", "aim"], rows.collect())?;
        if let Some(path) = &self.figures {
            let text = serde_json::to_string_pretty(&report).unwrap_or_default();
            std::fs::write(path, text + "\n").map_err(failed)?;
        }
        if let Some(path) = &self.markdown {
            std::fs::write(path, report.markdown()).map_err(failed)?;
        }
        Ok(Exit::Done)
    }

    fn measure(&self, out: &Out) -> std::io::Result<Report> {
        if cfg!(debug_assertions) {
            out.say("This is a debug build: its figures say nothing about a release build.");
        }
        let folder = project::Folder::new(self.dir.as_deref())?;
        let runs = if self.quick { self.runs.div_ceil(10) } else { self.runs };
        let mut figures = Vec::new();
        let machine = report::machine(folder.path());
        let latencies = if self.quick { 200 } else { 1_000 };
        let groups: [(&str, Measure<'_>); 5] = [
            ("events accepted, one a request", &|| accepting(folder.path(), runs, 1)),
            ("events accepted, 100 a request", &|| accepting(folder.path(), runs, MANY)),
            ("1-step runs", &|| running(folder.path(), runs, 1)),
            ("3-step runs, memory, disk", &|| running(folder.path(), runs, 3)),
            ("latency of one run", &|| latency(folder.path(), latencies)),
        ];
        let wanted: Vec<_> = groups.iter().filter(|(name, _)| name.contains(&self.only)).collect();
        if wanted.is_empty() {
            let names: Vec<&str> = groups.iter().map(|(name, _)| *name).collect();
            return Err(std::io::Error::other(format!("--only {} names no figure; there are: {}", self.only, names.join("; "))));
        }
        for (at, (name, measure)) in wanted.iter().enumerate() {
            out.say(format!("{}/{} {name} …", at + 1, wanted.len()));
            figures.extend(measure()?);
        }
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            taken: SystemClock::default().now().rfc3339(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            machine,
            figures,
        })
    }
}

/// Events accepted a second, `many` a request, against a bare axum handler that parses the same body.
fn accepting(folder: &Path, events: u64, many: u64) -> std::io::Result<Vec<Figure>> {
    let body: load::Body = Arc::new(move |request| project::body("bench/accepted", request, many));
    let requests = events / many;
    let rate = |address| -> std::io::Result<f64> {
        let watch = Stopwatch::start();
        load::send(address, CONNECTIONS, requests, &body)?;
        Ok((requests * many) as f64 / watch.elapsed().as_secs_f64())
    };
    let raw = rate(bare::serve(many > 1)?)?;
    let served = Served::start(folder, &format!("accept-{many}"))?;
    let value = rate(served.address)?;
    let name = if many == 1 { "events accepted, one a request".to_owned() } else { format!("events accepted, {many} a request") };
    let name = format!("{name}, {CONNECTIONS} connections");
    Ok(vec![Figure::against(name, "events/s", value, raw, "bare axum", "≥ 0.6 (one a request)")])
}

/// Runs of no-op steps a second, from the first send to the last finish, against rusqlite alone writing the same rows.
fn running(folder: &Path, runs: u64, steps: u64) -> std::io::Result<Vec<Figure>> {
    let raw = raw::lives(folder, runs, steps)?;
    let served = Served::start(folder, &format!("runs-{steps}"))?;
    let idle = served.resident_mb()?;
    let event = if steps == 1 { "bench/one" } else { "bench/three" };
    let body: load::Body = Arc::new(move |request| project::body(event, request, MANY));
    let watch = Stopwatch::start();
    load::send(served.address, CONNECTIONS.min(8), runs / MANY, &body)?;
    served.until_all_ended(runs / MANY * MANY)?;
    let value = (runs / MANY * MANY) as f64 / watch.elapsed().as_secs_f64();
    let limit = "rusqlite alone, the same rows, 512 operations a transaction";
    let mut figures =
        vec![Figure::against(format!("{steps}-step no-op runs, {MANY} events a request"), "runs/s", value, raw, limit, "≥ 0.5")];
    if steps == 3 {
        figures.push(Figure::alone("resident memory, idle", "MB", idle, "≤ 30"));
        figures.push(Figure::alone(format!("resident memory after {} runs", number(runs as f64)), "MB", served.resident_mb()?, "≤ 150"));
        figures.push(Figure::alone("disk a 3-step run with its event", "bytes", served.bytes_on_disk()? / runs as f64, "≤ 700"));
    }
    Ok(figures)
}

/// The time of one run from the send of its event to the notice of its end, with nothing else under way.
fn latency(folder: &Path, times: u64) -> std::io::Result<Vec<Figure>> {
    let mut raw = raw::commits(folder, times)?;
    let served = Served::start(folder, "latency")?;
    let mut taken = served.one_by_one("bench/one", times)?;
    let figure = |name: &str, share: f64, taken: &mut [Duration], raw: &mut [Duration], aim| {
        let (value, limit) = (percentile(taken, share), percentile(raw, share));
        Figure::against(name, "ms", value, limit, "one-row commit", aim)
    };
    let half = figure("one unloaded 1-step run, sent to finished, p50", 0.5, &mut taken, &mut raw, "≤ 6");
    let most = figure("one unloaded 1-step run, sent to finished, p99", 0.99, &mut taken, &mut raw, "≤ 15");
    Ok(vec![half, most])
}

/// The time in milliseconds below which `share` of the times lie.
fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
