//! What disturbs: a slow disk, and readers beside the writer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::project::{Part, Site};
use super::report::{Aim, Figure};
use super::served::Served;
use super::throughput::rate;
use super::{Taken, load, percentile, raw};

/// What a flush of the slow disk takes longer.
const SLOW: Duration = Duration::from_millis(2);
/// Connections that read, and how often each does.
const READERS: usize = 4;
const EVERY: Duration = Duration::from_millis(40);
/// How long is read while nothing runs.
const WHILE_IDLE: Part<Duration> = Part { whole: Duration::from_secs(2), quick: Duration::from_secs(1) };
/// What runs on the slow disk are held against: the same disk, as slow.
const ALONE_ON_IT: &str = "rusqlite alone on it, the same rows, 512 operations a transaction";
/// What is read: the newest runs and events.
const PATHS: [&str; 2] = ["/v1/runs?limit=50", "/v1/events?limit=50"];

/// 3-step runs and the time of one, on a disk whose flushes take 2 ms longer.
pub fn slow_disk(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let raw = raw::lives(site, runs, 3, SLOW)?.rate;
    let served = Served::on(site, site.database("slow"), SLOW.as_millis() as u64)?;
    let value = rate(&served, "bench/three", runs)?;
    let times = site.scale.latencies / 2;
    let mut commits = raw::commits(site, times, SLOW)?;
    let mut taken = served.one_by_one("bench/one", times)?;
    let figures = vec![
        Figure::new("3-step no-op runs on a slow disk (a flush takes 2 ms longer)", "runs/s", value)
            .against(raw, ALONE_ON_IT)
            .aims(Aim::Share(0.5)),
        Figure::new("one unloaded 1-step run on the slow disk, p50", "ms", percentile(&mut taken, 0.5))
            .against(percentile(&mut commits, 0.5), "one-row commit on it")
            .aims(Aim::Times(6.0)),
    ];
    Ok(figures.into())
}

/// Reads over HTTP while 3-step runs go through: what they wait, and what they cost.
pub fn readers(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let without = rate(&Served::start(site, "plain")?, "bench/three", runs)?;
    let served = Served::start(site, "readers")?;
    let (value, mut busy) = while_reading(&served, || rate(&served, "bench/three", runs))?;
    let (_, mut idle) = while_reading(&served, || {
        std::thread::sleep(site.scale.of(WHILE_IDLE));
        Ok(0.0)
    })?;
    let figures = vec![
        Figure::new("3-step no-op runs beside 100 reads a second", "runs/s", value).against(without, "the same without readers"),
        Figure::new("a read of 50 runs or events beside them, p50", "ms", percentile(&mut busy, 0.5))
            .against(percentile(&mut idle, 0.5), "with nothing else under way"),
        Figure::new("a read of 50 runs or events beside them, p99", "ms", percentile(&mut busy, 0.99))
            .against(percentile(&mut idle, 0.99), "with nothing else under way"),
    ];
    Ok(figures.into())
}

/// Does `work` while some connections read; the times that the reads took.
fn while_reading(served: &Served, work: impl FnOnce() -> io::Result<f64>) -> io::Result<(f64, Vec<Duration>)> {
    let enough = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..READERS)
        .map(|number| {
            let (address, enough) = (served.address, Arc::clone(&enough));
            let paths: Vec<String> = PATHS.iter().cycle().skip(number).take(PATHS.len()).map(|path| (*path).to_owned()).collect();
            std::thread::spawn(move || load::read_now_and_then(address, &paths, EVERY, &enough))
        })
        .collect();
    let value = work();
    enough.store(true, Ordering::Relaxed);
    let mut taken = Vec::new();
    for thread in threads {
        taken.extend(thread.join().map_err(|_| io::Error::other("a reader panicked"))??);
    }
    Ok((value?, taken))
}
