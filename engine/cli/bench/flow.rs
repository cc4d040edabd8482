//! What flow control and waiting cost, each against the same load without them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock as _, Millis, Span};
use crate::clock::{Stopwatch, SystemClock};

use super::fill::Filler;
use super::project::{self, CRONS, Part, Site};
use super::report::{Aim, Figure, number};
use super::served::Served;
use super::standing::{ROWS, bytes_each, idle_mb, settled};
use super::throughput::rate;
use super::{MANY, SENDERS, Taken, load, percentile, raw};

/// The least share of the same load without an option.
const SHARE: Aim = Aim::Share(0.5);
/// How long before the sleepers wake their rows begin to be written, besides a millisecond for so many of them. Where the engine was
/// not there in time, it is tried again with so many times as much.
const BEFORE_THEY_WAKE: Part<i64> = Part { whole: 3_000, quick: 1_000 };
const SLEEPERS_A_MS: u64 = 50;
const TRIES: u32 = 4;
const LONGER: i64 = 3;
/// They wake within this.
const WAKE_WITHIN_MS: u64 = 1_000;

/// As many keys as runs, each with a limit of 1.
pub fn many_keys(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let without = rate(&Served::start(site, "plain")?, "bench/one", runs)?;
    let value = rate(&Served::start(site, "keys")?, "bench/keyed", runs)?;
    let name = format!("1-step runs, {} keys with limit 1", number(runs as f64));
    Ok(Figure::new(name, "runs/s", value).against(without, "the same without the limit").aims(SHARE).into())
}

/// Runs of one step beside many functions that the clock starts.
pub fn crons(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let plain = Served::start(site, "plain")?;
    let empty = plain.ready_after.as_secs_f64() * 1000.0;
    let without = rate(&plain, "bench/one", runs)?;
    drop(plain);
    let served = Served::with(site, &site.config_with_crons(), site.database("crons"), 0)?;
    let ready = served.ready_after.as_secs_f64() * 1000.0;
    let value = rate(&served, "bench/one", runs)?;
    let many = number(CRONS as f64);
    let figures = vec![
        Figure::new(format!("1-step runs beside {many} crons"), "runs/s", value).against(without, "the same without crons").aims(SHARE),
        Figure::new(format!("start-up to ready, {many} crons"), "ms", ready).against(empty, "the same without crons"),
    ];
    Ok(figures.into())
}

/// One key that all runs have, with a limit of 1: how fast they go one after another, beside the same load without the limit and beside
/// commits of one row in turn, and how fast others go meanwhile.
pub fn hot_key(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let without = rate(&Served::start(site, "plain")?, "bench/one", runs)?;
    let value = rate(&Served::start(site, "hot")?, "bench/hot", runs)?;
    let commits = raw::commits(site, site.scale.latencies, Duration::ZERO)?;
    let in_turn = commits.len() as f64 / commits.iter().sum::<Duration>().as_secs_f64();
    let beside = beside(site, runs)?;
    let alone = percentile(&mut Served::start(site, "plain")?.one_by_one("bench/one", site.scale.latencies / 2)?, 0.5);
    let many = number(runs as f64);
    let figures = vec![
        Figure::new(format!("1-step runs, one hot key with limit 1, {many} of them"), "runs/s", value)
            .against(without, "the same without the limit")
            .aims(SHARE),
        Figure::new("these runs, which go one after another", "runs/s", value).against(in_turn, "one-row commits one after another"),
        Figure::new(format!("another run beside {many} of one hot key, p50"), "ms", beside).against(alone, "with nothing queued"),
    ];
    Ok(figures.into())
}

/// The middle time of runs that have nothing to do with the key, in milliseconds, each from its send to the commit of its end: as many of
/// them, one after another, as come and go while all those of the key do, and one at least.
fn beside(site: &Site, queued: u64) -> io::Result<f64> {
    let served = Served::start(site, "hot")?;
    let body: load::Body = Arc::new(|request| project::body("bench/hot", request, MANY));
    load::send(served.address, SENDERS, queued / MANY, &body)?;
    let database = served.look()?;
    let mut last = database
        .prepare("SELECT count(*) FROM runs WHERE function = (SELECT id FROM names WHERE text = 'one-step') AND ended IS NOT NULL")
        .map_err(io::Error::other)?;
    let mut newest = database
        .prepare("SELECT ended IS NULL FROM runs WHERE function <> (SELECT id FROM names WHERE text = 'one-step') ORDER BY id DESC LIMIT 1")
        .map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut taken = Vec::new();
    let mut sender = runtime.block_on(load::Connection::open(served.address))?;
    for number in 0..site.scale.latencies / 2 {
        let watch = Stopwatch::start();
        runtime.block_on(sender.post(&project::body("bench/one", number, 1)))?;
        while last.query_row([], |row| row.get::<_, i64>(0)).map_err(io::Error::other)? <= number as i64 {
            std::thread::sleep(Duration::from_micros(100));
        }
        taken.push(watch.elapsed());
        if !newest.query_row([], |row| row.get::<_, bool>(0)).map_err(io::Error::other)? {
            break;
        }
    }
    Ok(percentile(&mut taken, 0.5))
}

/// Runs that sleep, and all wake within one second.
pub fn sleepers(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let without = rate(&Served::start(site, "plain")?, "bench/one", runs)?;
    let mut before = Span(site.scale.of(BEFORE_THEY_WAKE) + (runs / SLEEPERS_A_MS) as i64);
    let name = format!("{} sleeping runs that wake in one second", number(runs as f64));
    for _ in 0..TRIES {
        if let Some(value) = woken(site, runs, before)? {
            return Ok(Figure::new(name, "runs/s", value).against(without, "1-step runs that do not sleep").aims(SHARE).into());
        }
        before = Span(before.0 * LONGER);
    }
    Err(io::Error::other("the sleepers woke before the engine was there; this machine is too slow for so many"))
}

/// Runs a second of those that wake together, the first of them so long after their writing has begun as `before` says; none where
/// the engine was not there in time.
fn woken(site: &Site, runs: u64, before: Span) -> io::Result<Option<f64>> {
    let database = site.database("sleepers");
    let mut filler = Filler::open(&database)?;
    // When they wake has to be written before it is known how long the writing takes.
    let first = filler.now.after(before);
    filler.fill(runs, &site.bar, |new| new.sleeping(first.after(Span((new.n * WAKE_WITHIN_MS / runs) as i64))))?;
    filler.close()?;
    let served = Served::on(site, database, 0)?;
    let clock = SystemClock::default();
    let now = clock.now();
    if now > first {
        return Ok(None);
    }
    std::thread::sleep(first.since(now).std());
    served.until_all_ended()?;
    let last: i64 = served.look()?.query_row("SELECT max(ended) FROM runs", [], |row| row.get(0)).map_err(io::Error::other)?;
    Ok(Some(runs as f64 * 1000.0 / Millis(last).since(first).0.max(1) as f64))
}

/// Many open waits, and one event after the other that one of them fits.
pub fn open_waits(site: &Site) -> io::Result<Taken> {
    let times = site.scale.latencies;
    let waiting = site.scale.runs.max(times);
    let mut few = answered(site, times, times)?.taken;
    let Answered { taken: mut many, memory_mb, rows } = answered(site, waiting, times)?;
    let each = bytes_each(memory_mb - idle_mb(site)?, waiting);
    let open = number(waiting as f64);
    let mut figure = |share, name: &str| {
        let figure = Figure::new(
            format!("an event that one of {open} open waits fits, sent to its run's end, {name}"),
            "ms",
            percentile(&mut many, share),
        );
        figure.against(percentile(&mut few, share), "with few open waits")
    };
    let memory = Figure::new(format!("memory of an open wait with its run, {open} of them"), "bytes", each)
        .against(rows, ROWS)
        .aims(Aim::AtMost(500.0));
    // Half the rate is twice the time.
    Ok(vec![figure(0.5, "p50").aims(Aim::Times(2.0)), figure(0.99, "p99"), memory].into())
}

/// What the answers to open waits came to.
struct Answered {
    taken: Vec<Duration>,
    /// The engine's memory before them, in megabytes.
    memory_mb: f64,
    /// Bytes of each wait in the file before, with its run and that run's event.
    rows: f64,
}

fn answered(site: &Site, waiting: u64, times: u64) -> io::Result<Answered> {
    let database = site.database("waits");
    let mut filler = Filler::open(&database)?;
    filler.fill(waiting, &site.bar, |new| new.waiting())?;
    filler.close()?;
    let rows = std::fs::metadata(&database)?.len() as f64 / waiting as f64;
    let served = Served::on(site, database, 0)?;
    let memory_mb = settled(site, &served)?;
    Ok(Answered { taken: served.one_by_one("bench/answer", times)?, memory_mb, rows })
}
