//! What an engine finds when it starts: how long it takes up what waits, what that costs in memory, and what many finished
//! runs in the file cost.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::base::Span;
use crate::clock::Stopwatch;
use crate::rules::Write;

use super::fill::{Filler, New};
use super::plot::{Curve, Series};
use super::project::{Part, Scale, Site};
use super::report::{Aim, Figure, number};
use super::served::Served;
use super::throughput::rate;
use super::{Taken, raw};

/// How long an engine is left alone before its memory is looked at, so that it can give back what its start took: it does that a
/// second after its start, and may be late.
const SETTLES: Part<Duration> = Part { whole: Duration::from_secs(2), quick: Duration::from_millis(1_200) };
/// What the memory of a waiting run is held against.
pub const ROWS: &str = "its rows in the file";
/// Far enough that nobody wakes.
const FAR: Span = Span::seconds(30 * 24 * 60 * 60);
/// Takings of an empty file and of a full one, in turn: what a file gives varies by a third from one taking to the next, so that a single one of the
/// empty file said more of the moment than of the full one.
const TURNS: Part<usize> = Part { whole: 5, quick: 3 };
/// Takings of the file while it is a quarter full, which are drawn.
const AT_A_QUARTER: Part<usize> = Part { whole: 3, quick: 1 };
/// Starts of an empty engine, of which the middle one is told.
const STARTS: Part<usize> = Part { whole: 5, quick: 3 };

/// Start-up to the first answer that says ready, without and with runs that wait, and the memory of each of those.
pub fn start_up(site: &Site) -> io::Result<Taken> {
    let (mut empty, mut process) = (Vec::new(), Vec::new());
    for _ in 0..site.scale.of(STARTS) {
        process.push(process_alone()?);
        empty.push(Served::start(site, "empty")?.ready_after);
    }
    let idle = idle_mb(site)?;
    let ms = |times: &mut [Duration]| super::percentile(times, 0.5);
    let first = Figure::new("start-up to ready, empty", "ms", ms(&mut empty));
    let mut figures = vec![first.against(ms(&mut process), "the process alone (`stepwell --version`)").aims(Aim::AtMost(60.0))];
    figures.extend(with_waiting(site, idle, "runs that sleep", Aim::AtMost(200.0), |new, far| new.sleeping(far))?);
    figures.extend(with_waiting(site, idle, "runs that wait for an event", Aim::AtMost(200.0), |new, _| new.waiting())?);
    let held = "runs that hold a key of their own and wait for an event";
    figures.push(memory_of(site, idle, &site.config(), held, |new, _| new.held())?);
    let cancellable = "runs that an event can cancel and that sleep";
    figures.push(memory_of(site, idle, &site.config_with_cancelled(), cancellable, |new, far| new.cancellable(far))?);
    Ok(figures.into())
}

/// The memory of an engine that has nothing to do, in megabytes.
pub fn settled(site: &Site, served: &Served) -> io::Result<f64> {
    std::thread::sleep(site.scale.of(SETTLES));
    served.resident_mb()
}

/// The memory of an engine on an empty file that has nothing to do, in megabytes.
pub fn idle_mb(site: &Site) -> io::Result<f64> {
    site.idle_mb(|| settled(site, &Served::start(site, "idle")?))
}

/// The time that the system takes to start the program and to end it.
fn process_alone() -> io::Result<Duration> {
    let watch = Stopwatch::start();
    Command::new(std::env::current_exe()?).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    Ok(watch.elapsed())
}

fn with_waiting(
    site: &Site,
    idle_mb: f64,
    what: &str,
    memory: Aim,
    make: impl Fn(&New, crate::base::Millis) -> Vec<Write>,
) -> io::Result<Vec<Figure>> {
    let waiting = site.scale.waiting;
    let database = site.database("waiting");
    let mut filler = Filler::open(&database)?;
    let far = filler.now.after(FAR);
    filler.fill(waiting, &site.bar, |new| make(new, far))?;
    filler.close()?;
    let rows = std::fs::metadata(&database)?.len() as f64 / waiting as f64;
    let raw = raw::read_open_runs(&database)?.as_secs_f64() * 1000.0;
    let served = Served::on(site, database, 0)?;
    let ready = served.ready_after.as_secs_f64() * 1000.0;
    let most = served.peak_mb()?;
    let stays = settled(site, &served)?;
    let each = bytes_each(stays - idle_mb, waiting);
    let many = number(waiting as f64);
    Ok(vec![
        Figure::new(format!("start-up to ready, {many} {what}"), "ms", ready)
            .against(raw, "rusqlite alone reading their rows")
            .aims(Aim::AtMost(1_000.0)),
        Figure::new(format!("memory each, {many} {what}"), "bytes", each).against(rows, ROWS).aims(memory),
        Figure::new(format!("most memory while it starts, {many} {what}"), "MB", most).against(stays, "what stays"),
    ])
}

/// The memory of suspended runs alone.
fn memory_of(
    site: &Site,
    idle_mb: f64,
    config: &Path,
    what: &str,
    make: impl Fn(&New, crate::base::Millis) -> Vec<Write>,
) -> io::Result<Figure> {
    let waiting = site.scale.waiting;
    let database = site.database("memory");
    let mut filler = Filler::open(&database)?;
    let far = filler.now.after(FAR);
    filler.fill(waiting, &site.bar, |new| make(new, far))?;
    filler.close()?;
    let rows = std::fs::metadata(&database)?.len() as f64 / waiting as f64;
    let served = Served::with(site, config, database, 0)?;
    let each = bytes_each(settled(site, &served)? - idle_mb, waiting);
    let name = format!("memory each, {} {what}", number(waiting as f64));
    Ok(Figure::new(name, "bytes", each).against(rows, ROWS).aims(Aim::AtMost(500.0)))
}

/// What each of so many runs takes of so much memory, in bytes.
pub(super) fn bytes_each(mb: f64, runs: u64) -> f64 {
    mb * 1_048_576.0 / runs as f64
}

/// 3-step runs in a file that holds many finished ones, against an empty one.
pub fn finished(site: &Site) -> io::Result<Taken> {
    let Scale { runs, finished, .. } = site.scale;
    let raw = raw::lives(site, runs, 3, Duration::ZERO)?.bytes / 1_048_576.0;
    let database = site.database("finished");
    let mut there = finished / 4;
    fill_with_completed(site, &database, there)?;
    let mut quarter = Vec::new();
    for _ in 0..site.scale.of(AT_A_QUARTER) {
        quarter.push(rate_in(site, &database)?);
        there += runs;
    }
    fill_with_completed(site, &database, finished.saturating_sub(there))?;
    there = there.max(finished);
    let (mut empty, mut full) = (Vec::new(), Vec::new());
    for turn in 0..site.scale.of(TURNS) {
        // Whichever comes second finds what the first one has left to the machine, so each comes second in its turn.
        for is_full in [turn % 2 == 0, turn % 2 == 1] {
            if is_full {
                full.push(rate_in(site, &database)?);
            } else {
                empty.push(rate_in(site, &site.database("empty"))?);
            }
        }
    }
    let points = vec![middle(&empty), middle(&quarter), middle(&full)];
    let (_, in_empty) = middle(&empty);
    let (size, in_full) = middle(&full);
    let many = number(finished as f64);
    let figures = vec![
        Figure::new(format!("3-step no-op runs with {many} finished ones in the file"), "runs/s", in_full)
            .against(in_empty, "the same with an empty file; of each the middle one of several takings in turn")
            .aims(Aim::Share(0.85)),
        Figure::new(format!("the file with {many} finished 3-step runs"), "MB", size)
            .against(raw * there as f64, "as many times a run that rusqlite alone wrote"),
    ];
    let curve = Curve {
        file: "runs-by-file-size",
        title: "3-step runs a second, by the size of the file",
        x: "MB in the file before",
        y: "runs a second",
        series: vec![Series { name: "stepwell", points }],
    };
    Ok(Taken { figures, curves: vec![curve] })
}

/// Writes so many completed runs into a file.
fn fill_with_completed(site: &Site, database: &Path, runs: u64) -> io::Result<()> {
    let mut filler = Filler::open(database)?;
    filler.fill(runs, &site.bar, New::completed)?;
    // The log is copied into the file, which is flushed, and is deleted: an engine on it starts with no more than one on an empty file, and nothing of
    // this is left for the disk to do.
    filler.close()
}

/// The size of a file in megabytes, and the 3-step runs a second that an engine then gives with it.
fn rate_in(site: &Site, database: &Path) -> io::Result<(f64, f64)> {
    let served = Served::on(site, database.to_owned(), 0)?;
    let bytes = std::fs::metadata(database)?.len() as f64;
    Ok((bytes.max(1.0) / 1_048_576.0, rate(&served, "bench/three", site.scale.runs)?))
}

/// The size that the first of several takings found, and the middle one of what they gave.
fn middle(takings: &[(f64, f64)]) -> (f64, f64) {
    let mut rates: Vec<f64> = takings.iter().map(|(_, rate)| *rate).collect();
    (takings.first().map_or(f64::NAN, |(size, _)| *size), super::middle(&mut rates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_taking_decides_nothing() {
        assert_eq!(middle(&[(1.0, 30.0), (2.0, 90.0), (3.0, 31.0)]), (1.0, 31.0));
        assert_eq!(middle(&[(4.0, 30.0)]), (4.0, 30.0));
    }
}
