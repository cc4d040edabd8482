//! How much comes in and goes through: events accepted, runs from the first send to the last finish, and the time of one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Stopwatch;

use super::project::{self, Part, Site};
use super::report::{Aim, Figure, number};
use super::roles::Role;
use super::served::Served;
use super::standing::settled;
use super::{CONNECTIONS, MANY, SENDERS, Taken, bare, load, middle, percentile, raw};

/// What all figures of running are held against.
pub const ALONE: &str = "rusqlite alone, the same rows, 512 operations a transaction";
/// Steps of the long runs.
const LONG: u64 = 50;

/// Events accepted a second, one a request, against a bare axum handler that parses the same body.
pub fn accepting_one(site: &Site) -> io::Result<Taken> {
    accepting(site, 1, Aim::Share(0.6))
}

/// The same, many a request.
pub fn accepting_many(site: &Site) -> io::Result<Taken> {
    accepting(site, MANY, Aim::None)
}

/// Takings of the server and of the bare one, in turn: each gives three times as much in one second as in another, and a ratio of one of
/// each says little.
const TURNS: Part<usize> = Part { whole: 3, quick: 1 };

fn accepting(site: &Site, many: u64, aim: Aim) -> io::Result<Taken> {
    let body: load::Body = Arc::new(move |request| project::body("bench/accepted", request, many));
    let turns = site.scale.of(TURNS);
    let requests = site.scale.runs / many;
    let rate = |address| -> io::Result<f64> {
        let watch = Stopwatch::start();
        load::send(address, CONNECTIONS, requests, &body)?;
        Ok((requests * many) as f64 / watch.elapsed().as_secs_f64())
    };
    let (bare, served) = (bare::serve(many > 1)?, Served::start(site, "accept")?);
    let (mut raw, mut value) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        raw.push(rate(bare)?);
        value.push(rate(served.address)?);
    }
    let name = if many == 1 { "events accepted, one a request".to_owned() } else { format!("events accepted, {many} a request") };
    let of = if turns > 1 { "bare axum; of each the middle one of several takings in turn" } else { "bare axum" };
    let (raw, value) = (middle(&mut raw), middle(&mut value));
    Ok(Figure::new(format!("{name}, {CONNECTIONS} connections"), "events/s", value).against(raw, of).aims(aim).into())
}

/// Runs a second of `event`, from the first send to the last finish.
pub fn rate(served: &Served, event: &str, runs: u64) -> io::Result<f64> {
    let event: Arc<str> = event.into();
    let body: load::Body = Arc::new(move |request| project::body(&event, request, MANY));
    let watch = Stopwatch::start();
    load::send(served.address, SENDERS, runs / MANY, &body).map_err(|error| served.explained(error))?;
    served.until_all_ended()?;
    Ok((runs / MANY * MANY) as f64 / watch.elapsed().as_secs_f64())
}

/// Runs of one step, against rusqlite alone writing the same rows.
pub fn one_step(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let raw = raw::lives(site, runs, 1, Duration::ZERO)?.rate;
    let value = rate(&Served::start(site, "runs")?, "bench/one", runs)?;
    Ok(running(1, value, raw).aims(Aim::Share(0.5)).into())
}

fn running(steps: u64, value: f64, raw: f64) -> Figure {
    Figure::new(format!("{steps}-step no-op runs, {MANY} events a request"), "runs/s", value).against(raw, ALONE)
}

/// Runs of three steps, with the memory and the disk that they take.
pub fn three_steps(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let raw = raw::lives(site, runs, 3, Duration::ZERO)?;
    let bare = bare_mb()?;
    let served = Served::start(site, "runs")?;
    let idle = site.idle_mb(|| settled(site, &served))?;
    let value = rate(&served, "bench/three", runs)?;
    let after = format!("resident memory after {} runs", number(runs as f64));
    let figures = vec![
        running(3, value, raw.rate).aims(Aim::Share(0.5)),
        Figure::new("resident memory, idle", "MB", idle).against(bare, "bare axum").aims(Aim::AtMost(30.0)),
        Figure::new(after, "MB", served.resident_mb()?).against(idle, "idle").aims(Aim::AtMost(150.0)),
        Figure::new("disk a 3-step run with its event", "bytes", served.bytes_on_disk()? / runs as f64)
            .against(raw.bytes, "rusqlite alone, the same rows")
            .aims(Aim::AtMost(700.0)),
    ];
    Ok(figures.into())
}

/// The resident memory of a bare axum server that has answered once, in megabytes.
fn bare_mb() -> io::Result<f64> {
    let server = Role::start(&["axum"])?;
    let address: SocketAddr = server.said().parse().map_err(io::Error::other)?;
    let body: load::Body = Arc::new(|request| project::body("bench/accepted", request, 1));
    load::send(address, 1, 1, &body)?;
    server.resident_mb()
}

/// Runs of fifty steps.
pub fn long_runs(site: &Site) -> io::Result<Taken> {
    let runs = (site.scale.runs / 10).div_ceil(MANY) * MANY;
    let raw = raw::lives(site, runs, LONG, Duration::ZERO)?.rate;
    let value = rate(&Served::start(site, "runs")?, "bench/fifty", runs)?;
    Ok(running(LONG, value, raw).into())
}

/// The time of one run from the send of its event to the notice of its end, with nothing else under way.
pub fn latency(site: &Site) -> io::Result<Taken> {
    let mut raw = raw::commits(site, site.scale.latencies, Duration::ZERO)?;
    let mut taken = Served::start(site, "latency")?.one_by_one("bench/one", site.scale.latencies)?;
    let mut figure = |name: &str, share| {
        let figure = Figure::new(name, "ms", percentile(&mut taken, share));
        figure.against(percentile(&mut raw, share), "one-row commit")
    };
    let half = figure("one unloaded 1-step run, sent to finished, p50", 0.5).aims(Aim::Times(6.0));
    let most = figure("one unloaded 1-step run, sent to finished, p99", 0.99).aims(Aim::Times(15.0));
    Ok(vec![half, most].into())
}
