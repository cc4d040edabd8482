//! Reloads beside senders: what accepting an event takes while the config comes into force again and again, or is found broken.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::project::{Mode, Project};
use crate::script::Host;

use super::super::place;
use super::project::{self, Site};
use super::report::{Aim, Figure};
use super::served::Served;
use super::{SENDERS, Taken, load, percentile};

/// How long after an answer a connection sends its next event: far from what the engine can take, so that what is seen is the
/// reload, and not the queue before the disk.
const EVERY: Duration = Duration::from_millis(2);
/// Of five reloads so many find a broken config.
const BROKEN_OF_FIVE: u64 = 2;
/// What a sound config says otherwise each time.
const LIMIT: &str = "concurrency: { limit: 1, key: event.name }";
/// What a broken config says otherwise: an event that nobody declares, which is found once all files are read, as most mistakes
/// are. A file that is no YAML would be given up at its first line, and cost nearly nothing.
const DECLARED: &str = "on: bench/fifty }";
const UNDECLARED: &str = "on: bench/undeclared }";
/// How often the files are read alone.
const ALONE: usize = 9;

/// The 99th percentile of accepting an event, with and without reloads beside it, and the time of a reload.
pub fn beside_senders(site: &Site) -> io::Result<Taken> {
    let reloads = site.scale.latencies / 2;
    let sound = std::fs::read_to_string(site.config())?;
    if let Some(missing) = [LIMIT, DECLARED].into_iter().find(|part| !sound.contains(*part)) {
        return Err(io::Error::other(format!("the config has no `{missing}`, so every reload would find the same one")));
    }
    let config = site.folder().join("reloaded.yaml");
    std::fs::write(&config, &sound)?;
    let served = Served::with(site, &config, site.database("reloads"), 0)?;
    let body: load::Body = Arc::new(|request| project::body("bench/accepted", request, 1));
    let while_doing = |work: &mut dyn FnMut() -> io::Result<()>| -> io::Result<Vec<Duration>> {
        let enough = Arc::new(AtomicBool::new(false));
        let (address, body, told) = (served.address, Arc::clone(&body), Arc::clone(&enough));
        let sending = std::thread::spawn(move || load::send_now_and_then(address, SENDERS, EVERY, &body, &told));
        let worked = work();
        enough.store(true, Ordering::Relaxed);
        let sent = sending.join().map_err(|_| io::Error::other("a sender panicked"))?;
        worked.and(sent)
    };
    let (watch, mut taken) = (Stopwatch::start(), Vec::new());
    let mut beside = while_doing(&mut || {
        for number in 0..reloads {
            let is_broken = number % 5 < BROKEN_OF_FIVE;
            let text = match is_broken {
                true => sound.replace(DECLARED, UNDECLARED),
                false => sound.replace(LIMIT, &format!("concurrency: {{ limit: {}, key: event.name }}", number % 7 + 2)),
            };
            std::fs::write(&config, text)?;
            let one = Stopwatch::start();
            let status = load::post_once(served.address, "/v1/reload")?;
            taken.push(one.elapsed());
            if status != if is_broken { 422 } else { 200 } {
                return Err(io::Error::other(format!("reload {number} was answered with {status}")));
            }
        }
        Ok(())
    })?;
    let length = watch.elapsed();
    let mut alone = while_doing(&mut || {
        std::thread::sleep(length);
        Ok(())
    })?;
    let figures = vec![
        Figure::new("an event accepted while the config is reloaded, 40 % broken, p99", "ms", percentile(&mut beside, 0.99))
            .against(percentile(&mut alone, 0.99), "the same without reloads")
            .aims(Aim::Times(2.0)),
        Figure::new("a reload beside these events, p50", "ms", percentile(&mut taken, 0.5))
            .against(percentile(&mut read_alone(&config, &sound)?, 0.5), "reading and checking the files alone"),
    ];
    Ok(figures.into())
}

/// The times that it takes to read and check a sound config with its files, in this process and with nothing beside it.
fn read_alone(config: &Path, sound: &str) -> io::Result<Vec<Duration>> {
    std::fs::write(config, sound)?;
    let host = Host::new();
    let mut taken = Vec::new();
    for _ in 0..ALONE {
        let watch = Stopwatch::start();
        let read = Project::load(config, &host, &place::environment, Mode::Check);
        taken.push(watch.elapsed());
        if let Err(problems) = read {
            return Err(io::Error::other(format!("the measured project has {} problems", problems.len())));
        }
    }
    Ok(taken)
}
