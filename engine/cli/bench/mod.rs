//! `stepwell bench`: what this machine gives, each figure beside its raw limit from the same run.
//!
//! The engine runs as a process of its own, as it does in production: on a real file, `durability: full`, over HTTP.

mod bare;
mod beside;
mod called;
mod calls;
mod checks;
mod compare;
mod dashboard;
mod fill;
mod flow;
mod load;
mod plot;
mod project;
mod raw;
mod reloads;
mod report;
mod roles;
mod served;
mod standing;
mod throughput;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::{Clock, Diagnostic};
use crate::clock::{Stopwatch, SystemClock};

use super::exit::{Exit, Trouble};
use super::out::{Cell, Out};
use super::serve::more_descriptors;
use compare::Page;
use plot::Curve;
use project::{Scale, Site};
use report::{Figure, Report};

/// Keep-alive connections of the load generator.
const CONNECTIONS: usize = 64;
/// Connections that send the events of runs.
const SENDERS: usize = 8;
/// Events in one request of the bulk figures.
const MANY: u64 = 100;
/// The page whose figures a run is compared with, unless it is told another one.
const PAGE: &str = "BENCHMARKS.md";
/// How often the bar of a terminal moves.
const TICK: Duration = Duration::from_millis(200);

/// What a group of figures came to.
struct Taken {
    figures: Vec<Figure>,
    curves: Vec<Curve>,
}

impl From<Vec<Figure>> for Taken {
    fn from(figures: Vec<Figure>) -> Taken {
        Taken { figures, curves: Vec::new() }
    }
}

impl From<Figure> for Taken {
    fn from(figure: Figure) -> Taken {
        vec![figure].into()
    }
}

/// Takes a group of figures.
type Measure = fn(&Site) -> io::Result<Taken>;

/// Every group, by the name that `--only` looks at.
const GROUPS: [(&str, Measure); 21] = [
    ("events accepted, one a request", throughput::accepting_one),
    ("events accepted, 100 a request", throughput::accepting_many),
    ("1-step runs", throughput::one_step),
    ("3-step runs, memory, disk", throughput::three_steps),
    ("50-step runs", throughput::long_runs),
    ("latency of one run", throughput::latency),
    ("HTTP calls by runs in flight", calls::in_flight),
    ("commits under load", calls::commits_under_load),
    ("start-up and memory with waiting runs", standing::start_up),
    ("finished runs in the file", standing::finished),
    ("slow disk", beside::slow_disk),
    ("readers beside writers", beside::readers),
    ("pages of the dashboard", dashboard::pages),
    ("an open dashboard", dashboard::live),
    ("reload", reloads::beside_senders),
    ("many keys", flow::many_keys),
    ("one hot key", flow::hot_key),
    ("sleepers that wake together", flow::sleepers),
    ("open waits", flow::open_waits),
    ("crons", flow::crons),
    ("validate 100 functions", checks::hundred),
];

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// A part of the work: a first look in under a minute on two cores
    #[arg(long)]
    quick: bool,
    /// Runs of each throughput figure
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    runs: u64,
    /// Runs that wait while an engine starts
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    waiting: u64,
    /// Finished runs in the file of the figure about a large one; they take a minute or two to write
    #[arg(long, value_name = "N", default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    finished: u64,
    /// Take each figure so many times, round by round, and tell the middle one and how far they lie apart
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    times: u32,
    /// Take only the groups of figures whose name holds this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Compare with the figures on this page [default: BENCHMARKS.md, if it is there]
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Print the report as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Write the report as JSON, to compare runs by
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Write the figures as a page, into their place where it has one; its plots go to docs/plots/ beside it
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Folder for the databases, on the disk to be measured [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Be one of the processes that the engine is held against
    #[arg(long = "as", value_name = "ROLE", hide = true, num_args = 1..)]
    role: Vec<String>,
}

impl Bench {
    /// Measures, prints the table and writes the files that were asked for.
    ///
    /// # Errors
    /// Exit 2 where `--only` names no figure. Exit 74 where a file, a port or the engine's process fails; a figure that
    /// could not be taken is never left out in silence.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let failed = |error: io::Error| Trouble::new(Exit::Io, Diagnostic::error("E0550", format!("the measurement failed: {error}")));
        if !self.role.is_empty() {
            roles::play(&self.role, |line| out.line(line)).map_err(failed)?;
            return Ok(Exit::Done);
        }
        let wanted: Vec<&(&str, Measure)> = GROUPS.iter().filter(|(name, _)| name.contains(&self.only)).collect();
        if wanted.is_empty() {
            let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            return Err(Trouble::usage(format!("--only `{}` names no figure", self.only)).help(format!("there are: {}", names.join("; "))));
        }
        let page = self.compared_with()?;
        let mut report = self.measure(out, &wanted).map_err(failed)?;
        page.tell(&mut report);
        self.write(&report)?;
        if self.json {
            out.json(&serde_json::to_value(&report).unwrap_or_default())?;
        } else {
            let (heads, rows) = report.table();
            out.table(&heads, rows.into_iter().map(|cells| cells.into_iter().map(Cell::from).collect()).collect())?;
        }
        if let Some(otherwise) = &report.otherwise {
            let page = self.page().display();
            out.say(format!("{page} {otherwise}: what changed is told by ratios rather than by figures"));
        }
        let untold = report.figures.iter().filter(|figure| figure.before.is_none()).count();
        if (1..report.figures.len()).contains(&untold) {
            // Their names hold amounts, which are others where there is less work.
            out.say(format!("{} has no figure to compare {untold} of these with", self.page().display()));
        }
        out.say(format!("taken in {}", report.took()));
        Ok(Exit::Done)
    }

    /// The page whose figures this run is compared with, where it is there.
    fn page(&self) -> &Path {
        self.against.as_deref().unwrap_or(Path::new(PAGE))
    }

    fn compared_with(&self) -> Result<Page, Trouble> {
        match std::fs::read_to_string(self.page()) {
            Ok(page) => Ok(Page::read(&page)),
            Err(_) if self.against.is_none() => Ok(Page::default()),
            Err(error) => Err(Trouble::file(self.page(), "read", &error)),
        }
    }

    fn scale(&self) -> Scale {
        if self.quick {
            let part = |number: u64, of: u64| (number / of).max(1_000);
            Scale {
                quick: true,
                runs: part(self.runs, 10),
                waiting: part(self.waiting, 50),
                finished: part(self.finished, 100),
                latencies: (self.runs / 500).clamp(50, 200),
            }
        } else {
            Scale { quick: false, runs: self.runs, waiting: self.waiting, finished: self.finished, latencies: 1_000 }
        }
    }

    fn measure(&self, out: &Out, wanted: &[&(&str, Measure)]) -> io::Result<Report> {
        if cfg!(debug_assertions) {
            out.say("This is a debug build: its figures say nothing about a release build.");
        }
        more_descriptors();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed}  {msg}") {
            bar.set_style(style);
        }
        let watch = Stopwatch::start();
        let site = Site::new(self.dir.as_deref(), self.scale(), bar)?;
        let machine = report::machine(site.folder());
        let mut takings: Vec<Vec<Vec<Figure>>> = vec![Vec::new(); wanted.len()];
        let mut curves: Vec<Curve> = Vec::new();
        // Round by round: what a machine gives drifts, and takings of one figure right after each other would drift together.
        for time in 1..=self.times {
            site.new_round();
            // The last round's are drawn.
            curves.clear();
            for (at, (name, measure)) in wanted.iter().enumerate() {
                let again = if self.times > 1 { format!(" ({time} of {})", self.times) } else { String::new() };
                let doing = format!("{}/{} {name}{again} …", at + 1, wanted.len());
                site.bar.suspend(|| out.say(&doing));
                site.bar.reset_elapsed();
                site.bar.enable_steady_tick(TICK);
                let taken = measure(&site)?;
                site.clear()?;
                takings[at].push(taken.figures);
                curves.extend(taken.curves);
            }
        }
        site.bar.finish_and_clear();
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            taken: SystemClock::default().now().rfc3339(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            times: self.times,
            quick: self.quick,
            seconds: watch.elapsed().as_secs_f64(),
            otherwise: None,
            machine,
            figures: takings.into_iter().flat_map(report::middle).collect(),
            curves,
        })
    }

    fn write(&self, report: &Report) -> Result<(), Trouble> {
        let put = |path: &Path, text: String| std::fs::write(path, text).map_err(|error| Trouble::file(path, "write", &error));
        if let Some(path) = &self.figures {
            put(path, serde_json::to_string_pretty(report).unwrap_or_default() + "\n")?;
        }
        let Some(path) = &self.markdown else { return Ok(()) };
        let page = std::fs::read_to_string(path).ok();
        put(path, report.markdown(page.as_deref()))?;
        for curve in &report.curves {
            let picture = path.with_file_name(curve.link());
            if let Some(folder) = picture.parent() {
                std::fs::create_dir_all(folder).map_err(|error| Trouble::file(folder, "make the folder", &error))?;
            }
            put(&picture, curve.svg())?;
        }
        Ok(())
    }
}

/// The middle one of several takings.
fn middle(takings: &mut [f64]) -> f64 {
    takings.sort_by(f64::total_cmp);
    takings.get(takings.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The time in milliseconds below which `share` of the times lie.
fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
