//! The dashboard: its pages over a large file, the page of a long run, and what an open dashboard costs the engine.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::Id;
use crate::clock::Stopwatch;

use super::fill::{Filler, New};
use super::load::Connection;
use super::project::{self, Part, Site};
use super::report::{Aim, Figure, number};
use super::served::Served;
use super::throughput::rate;
use super::{Taken, percentile};

/// The most runs in the file.
const RUNS_MOST: u64 = 1_000_000;
/// So many of them have failed, from the first to the last: fewer than a page holds, so without an index
/// whoever looks for them looks at all.
const FAILED: u64 = 20;
/// What a list of runs may take, in milliseconds.
const LIST: Aim = Aim::AtMost(100.0);
/// The pages that are asked for, and how often. A condition is held against one run after the other: where most fulfil it, a page is full
/// at once. Where one of a thousand does, 50,000 runs are looked at for a page, and nothing is aimed at.
const PAGES: [(&str, &str, usize, Aim); 6] = [
    ("the runs page", "/runs", TIMES, LIST),
    ("the runs page by a function and a state that few have", "/runs?function=three-steps&status=failed", TIMES, LIST),
    ("the runs page by a condition that most runs fulfil", MOST_FULFIL, TIMES, LIST),
    ("the runs page by a condition that one of a thousand fulfils", FEW_FULFIL, SEARCHES, Aim::None),
    ("the overview", "/", TIMES, Aim::None),
    ("the events page", "/events", TIMES, Aim::None),
];
/// `run.output == 3 && event.data.n >= 0`
const MOST_FULFIL: &str = "/runs?where=run.output%20%3D%3D%203%20%26%26%20event.data.n%20%3E%3D%200";
/// `event.data.user == "user-7"`
const FEW_FULFIL: &str = "/runs?where=event.data.user%20%3D%3D%20%22user-7%22";
/// How often a page is asked for.
const TIMES: usize = 50;
/// How often one is that looks at very many runs.
const SEARCHES: usize = 10;

/// The live parts of two pages that are open.
const PARTS: [&str; 2] = ["/?part=now", "/runs?part=rows"];
/// How long a part rests after it has come: at least this, or so many times what it took. `web/assets/app.js` says the same.
const LEAST_REST: Duration = Duration::from_millis(900);
const RESTS: u32 = 4;
/// How often full speed is taken with and without a dashboard, in turn: a few percent are looked for.
const ROUNDS: Part<usize> = Part { whole: 3, quick: 1 };
/// The paced load: so many events in a request, and a request so often. That makes 1,000 runs a second.
const AT_A_BEAT: u64 = 10;
const BEAT: Duration = Duration::from_millis(10);
const BEATS: Part<u64> = Part { whole: 1_000, quick: 150 };

/// Pages with many finished runs in the file, each against the same page with an empty file.
pub fn pages(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.finished.min(RUNS_MOST);
    let database = site.database("dashboard");
    let mut filler = Filler::open(&database)?;
    let every = (runs / FAILED).max(1);
    filler.fill(runs, &site.bar, |new: &New| if new.n.is_multiple_of(every) { new.failed() } else { new.completed() })?;
    filler.close()?;
    // The empty one does nothing beside the other.
    let (full, empty) = (Served::on(site, database, 0)?, Served::start(site, "empty")?);
    let many = number(runs as f64);
    let mut figures = Vec::new();
    for (name, path, times, aim) in PAGES {
        let ((mut taken, _), (mut raw, _)) = (asked(full.address, path, times)?, asked(empty.address, path, times)?);
        for (word, share) in [("p50", 0.5), ("p99", 0.99)] {
            let figure = Figure::new(format!("{name}, {many} runs in the file, {word}"), "ms", percentile(&mut taken, share));
            figures.push(figure.against(percentile(&mut raw, share), "the same with an empty file").aims(aim));
        }
    }
    figures.extend(long_run(&full)?);
    Ok(figures.into())
}

/// The first part of the page of a run with 1,000 steps, against the page of one with three.
fn long_run(served: &Served) -> io::Result<[Figure; 2]> {
    const SHORT: &str = "the page of a run of 3 steps";
    let long = one_run(served, "bench/thousand", "thousand-steps")?;
    let short = one_run(served, "bench/three", "three-steps")?;
    let (mut taken, page) = asked(served.address, &format!("/runs/{long}?from=0"), TIMES)?;
    let (mut raw, least) = asked(served.address, &format!("/runs/{short}"), TIMES)?;
    Ok([
        Figure::new("the page of a run of 1,000 steps, its first part, p50", "ms", percentile(&mut taken, 0.5))
            .against(percentile(&mut raw, 0.5), SHORT)
            .aims(LIST),
        Figure::new("the page of a run of 1,000 steps with all its files", "KB", with_files(served.address, &page)?)
            .against(with_files(served.address, &least)?, SHORT)
            .aims(Aim::AtMost(300.0)),
    ])
}

/// The size of a page with the files that it names, in kilobytes.
fn with_files(address: SocketAddr, page: &str) -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let files = page.split('"').filter(|part| part.starts_with("/assets/"));
    let bytes = runtime.block_on(async {
        let mut connection = Connection::open(address).await?;
        let mut bytes = page.len();
        for file in files {
            bytes += connection.page(file).await?.len();
        }
        Ok::<_, io::Error>(bytes)
    })?;
    Ok(bytes as f64 / 1024.0)
}

/// Has one run made, and gives its id once it has ended.
fn one_run(served: &Served, event: &str, function: &str) -> io::Result<Id> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Connection::open(served.address).await?.post(&project::body(event, 0, 1)).await })?;
    served.until_all_ended()?;
    let newest = "SELECT max(id) FROM runs WHERE function = (SELECT id FROM names WHERE text = ?1)";
    served.look()?.query_row(newest, [function], |row| row.get(0)).map(Id).map_err(io::Error::other)
}

/// Asks for a page so many times; how long each took, and its text.
fn asked(address: SocketAddr, path: &str, times: usize) -> io::Result<(Vec<Duration>, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(address).await?;
        let mut taken = Vec::new();
        for _ in 0..times {
            let watch = Stopwatch::start();
            connection.page(path).await?;
            taken.push(watch.elapsed());
        }
        Ok((taken, connection.page(path).await?.to_owned()))
    })
}

/// 3-step runs while a dashboard is open, at full speed and at 1,000 runs a second, each against the same without one.
pub fn live(site: &Site) -> io::Result<Taken> {
    const WITHOUT: &str = "the same without it";
    const STILL: &str = "the same parts of an engine without runs";
    let runs = site.scale.runs;
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..site.scale.of(ROUNDS) {
        alone.push(rate(&Served::start(site, "alone")?, "bench/three", runs)?);
        let served = Served::start(site, "watched")?;
        watched.push(while_watched(&served, || rate(&served, "bench/three", runs))?.0);
    }
    let (alone, watched) = (middle(alone), middle(watched));
    let beats = site.scale.of(BEATS);
    let (kept_alone, mut accepted_alone) = paced(&Served::start(site, "paced")?, beats)?;
    let served = Served::start(site, "paced-watched")?;
    let ((kept, mut accepted), mut parts) = while_watched(&served, || paced(&served, beats))?;
    let empty = Served::start(site, "empty")?;
    let mut still = Vec::new();
    for part in PARTS {
        still.extend(asked(empty.address, part, TIMES)?.0);
    }
    let figures = vec![
        Figure::new("3-step no-op runs beside an open dashboard", "runs/s", watched).against(alone, WITHOUT).aims(Aim::Share(0.95)),
        Figure::new("1,000 3-step runs a second beside an open dashboard", "runs/s", kept)
            .against(kept_alone, WITHOUT)
            .aims(Aim::Share(0.95)),
        Figure::new("ten of these events accepted beside an open dashboard, p50", "ms", percentile(&mut accepted, 0.5))
            .against(percentile(&mut accepted_alone, 0.5), WITHOUT),
        Figure::new("a live part of the dashboard beside 1,000 runs a second, p50", "ms", percentile(&mut parts, 0.5))
            .against(percentile(&mut still, 0.5), STILL),
        Figure::new("a live part of the dashboard beside 1,000 runs a second, p99", "ms", percentile(&mut parts, 0.99))
            .against(percentile(&mut still, 0.99), STILL),
    ];
    Ok(figures.into())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Sends the events of 1,000 runs a second; how many ended a second, up to the last end, and the times of the answers.
fn paced(served: &Served, beats: u64) -> io::Result<(f64, Vec<Duration>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let whole = Stopwatch::start();
    let taken = runtime.block_on(async {
        let mut connection = Connection::open(served.address).await?;
        let mut beat = tokio::time::interval(BEAT);
        let mut taken = Vec::new();
        for number in 0..beats {
            beat.tick().await;
            let watch = Stopwatch::start();
            connection.post(&project::body("bench/three", number, AT_A_BEAT)).await?;
            taken.push(watch.elapsed());
        }
        Ok::<_, io::Error>(taken)
    })?;
    served.until_all_ended()?;
    Ok(((beats * AT_A_BEAT) as f64 / whole.elapsed().as_secs_f64(), taken))
}

/// Does `work` while the dashboard is open; what that gives, and the times that the live parts took.
fn while_watched<T>(served: &Served, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Vec<Duration>)> {
    let windows = PARTS.map(|part| {
        let (address, close) = (served.address, Arc::new(Notify::new()));
        let closed = Arc::clone(&close);
        let window = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(watch(address, part, &closed))
        });
        (close, window)
    });
    let done = work();
    for (close, _) in &windows {
        close.notify_one();
    }
    let windows = windows.map(|(_, window)| window.join());
    // Where the engine is gone, the work knows why, and the pages only that it is.
    let done = done?;
    let mut taken = Vec::new();
    for window in windows {
        taken.extend(window.map_err(|_| io::Error::other("an open page panicked"))??);
    }
    Ok((done, taken))
}

/// Keeps a page open as its script does: it is told what has changed, and fetches its live part then, one request at a time,
/// until it is closed. The times that they took, of which there is one at least.
async fn watch(address: SocketAddr, part: &str, closed: &Notify) -> io::Result<Vec<Duration>> {
    let told = Notify::new();
    // A page fetches the part once when it opens.
    told.notify_one();
    let stream = Connection::open(address).await?.follow("/live", |line| {
        if line.starts_with("data:") && line.contains("runs") {
            told.notify_one();
        }
        false
    });
    let fetching = async {
        let mut connection = Connection::open(address).await?;
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                // In this order, so that the first part comes in any case.
                biased;
                () = told.notified() => {}
                () = closed.notified() => break,
            }
            let watch = Stopwatch::start();
            connection.page(part).await?;
            let took = watch.elapsed();
            taken.push(took);
            tokio::select! {
                () = tokio::time::sleep(LEAST_REST.max(took * RESTS)) => {}
                () = closed.notified() => break,
            }
        }
        Ok(taken)
    };
    tokio::select! {
        ended = stream => Err(ended.err().unwrap_or_else(|| io::Error::other("the stream ended"))),
        taken = fetching => taken,
    }
}
