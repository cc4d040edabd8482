//! Steps that call somebody: how many calls a second at so many runs in flight, and how long a step's commit takes under load.

use std::io;
use std::sync::Arc;

use crate::clock::Stopwatch;

use super::called::plain_apart;
use super::plot::{Curve, Series};
use super::project::{self, IN_FLIGHT, Part, Site};
use super::report::{Aim, Figure, short};
use super::served::Served;
use super::throughput::rate;
use super::{MANY, SENDERS, Taken, load, percentile, raw};

/// What calls are held against.
const PLAIN: &str = "a plain loop of tokio and reqwest";
/// Calls that each run in flight makes where there are few: a second's worth or half of it, since a call takes 20 ms.
const CALLS_OF_ONE: Part<u64> = Part { whole: 50, quick: 25 };
/// The fewest runs in flight: one alone takes two seconds for a hundred calls.
const FEWEST: Part<usize> = Part { whole: 1, quick: 10 };
/// Of so many runs under load, one is a probe.
const PROBES: u64 = 50;

/// Calls a second in a step each, by runs in flight, against a plain loop with the same calls.
pub fn in_flight(site: &Site) -> io::Result<Taken> {
    let mut figures = Vec::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let fewest = site.scale.of(FEWEST);
    // More places than runs would say nothing.
    for in_flight in IN_FLIGHT.into_iter().filter(|places| *places >= fewest && *places as u64 <= site.scale.runs) {
        // Long enough for a rate, and every place is taken twice where there are many.
        let least = (site.scale.of(CALLS_OF_ONE) * in_flight as u64).min(site.scale.runs);
        let calls = least.max(2 * in_flight as u64).div_ceil(MANY) * MANY;
        let (raw, raw_mb) = plain_apart(site.called()?.url(), in_flight, calls)?;
        let served = Served::start(site, "calls")?;
        let value = rate(&served, &format!("bench/call-{in_flight}"), calls)?;
        ours.push((in_flight as f64, value));
        theirs.push((in_flight as f64, raw));
        let name = format!("a 20 ms HTTP call in the step, {} runs in flight", short(in_flight as f64));
        let figure = Figure::new(&*name, "calls/s", value).against(raw, PLAIN);
        // With few in flight the call itself is all there is.
        if in_flight == 10_000 {
            figures.push(figure.aims(Aim::Share(0.5)));
            figures.push(
                Figure::new(format!("{name}: most resident memory"), "MB", served.peak_mb()?)
                    .against(raw_mb, PLAIN)
                    .aims(Aim::AtMost(400.0)),
            );
        } else if in_flight == 1_000 {
            figures.push(figure);
        }
    }
    let series = vec![Series { name: "stepwell", points: ours }, Series { name: "tokio and reqwest alone", points: theirs }];
    let curve = Curve {
        file: "calls-by-runs-in-flight",
        title: "20 ms calls a second, by runs in flight",
        x: "runs in flight",
        y: "calls a second",
        series,
    };
    Ok(Taken { figures, curves: vec![curve] })
}

/// From one step's answer to the next one's call, while other runs take all there is: what lies between is the commit of the
/// first step. It is seen from the server that both steps call, so the engine's own clock has no part in it.
pub fn commits_under_load(site: &Site) -> io::Result<Taken> {
    let runs = site.scale.runs;
    let mut raw = raw::commits(site, site.scale.latencies, std::time::Duration::ZERO)?;
    let without = rate(&Served::start(site, "plain")?, "bench/three", runs)?;
    let served = Served::start(site, "commits")?;
    let called = site.called()?;
    called.gaps()?;
    let body: load::Body = Arc::new(move |request| {
        let events: Vec<String> = (0..MANY)
            .map(|at| project::body(if at % PROBES == 0 { "bench/probe" } else { "bench/three" }, request * MANY + at, 1))
            .collect();
        format!("[{}]", events.join(","))
    });
    let watch = Stopwatch::start();
    load::send(served.address, SENDERS, runs / MANY, &body).map_err(|error| served.explained(error))?;
    served.until_all_ended()?;
    let beside = (runs / MANY * MANY) as f64 / watch.elapsed().as_secs_f64();
    let mut gaps = called.gaps()?;
    let (half, most) = (percentile(&mut gaps, 0.5), percentile(&mut gaps, 0.99));
    let figures = vec![
        Figure::new("a step's commit under load, p50", "ms", half).against(percentile(&mut raw, 0.5), "one-row commit"),
        Figure::new("a step's commit under load, p99", "ms", most).against(half, "its own p50").aims(Aim::Times(10.0)),
        Figure::new("runs beside these commits", "runs/s", beside).against(without, "3-step runs alone"),
    ];
    Ok(figures.into())
}
