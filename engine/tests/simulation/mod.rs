//! The simulation: the real rules, scheduler, executor and script host on one thread, on a simulated clock, over a disk
//! that is slow, full, or dies with its engine at any flush; random handlers, of which is known what they must come to.
//!
//! Everything follows from a seed, and a failure prints it: `STEPWELL_SIM_SEED=… cargo nextest run simulation` runs that
//! world again and prints all that happened. `STEPWELL_SIM_SEEDS=…` says how many worlds are tried.

mod clock;
mod dice;
mod disk;
mod facts;
mod plan;
mod print;
mod program;
mod sabotage;
mod straight;
mod world;

use plan::Plan;
use world::Outcome;

/// Worlds that are tried where nothing else is said.
const WORLDS: u64 = 100;
/// Lines of a failed world's story that are printed, unless it was asked for alone.
const LINES: usize = 80;

/// What has to come up somewhere in that many worlds, as their stories tell it.
const INCIDENTS: [&str; 19] = [
    "engine died",
    "drain",
    "the disk fails",
    "the engine gives up",
    "the disk is full",
    "suspects 1",
    "suspects 3",
    "suspects 6",
    "parked: crashed engine",
    "backing_off until",
    "sleeping until",
    "the step took longer than",
    "site",
    "no way on from here",
    " completed: ",
    " failed: ",
    "cancelled: somebody's wish",
    "cancelled: timeouts.start",
    "cancelled: timeouts.finish",
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

/// Tells the seed also where the engine panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to run this world again: STEPWELL_SIM_SEED={} cargo nextest run simulation", self.0);
        }
    }
}

fn pass(seed: u64, lines: usize) -> Outcome {
    let _seed = Seed(seed);
    let plan = Plan::random(seed);
    let outcome = world::run(plan.clone());
    if let Some(trouble) = &outcome.trouble {
        let from = outcome.trace.len().saturating_sub(lines);
        let scripts: Vec<String> = plan.functions.iter().map(|function| format!("# {}\n{}", function.id, function.script())).collect();
        println!("{}\n{}\n{}\n", plan.yaml(), scripts.join("\n"), outcome.trace[from..].join("\n"));
        panic!("seed {seed}: {trouble}");
    }
    outcome
}

#[test]
fn simulation_keeps_every_promise() {
    if let Some(seed) = number("STEPWELL_SIM_SEED") {
        let outcome = pass(seed, usize::MAX);
        println!("{}", outcome.trace.join("\n"));
        return;
    }
    let outcomes: Vec<Outcome> = (0..number("STEPWELL_SIM_SEEDS").unwrap_or(WORLDS)).map(|seed| pass(seed, LINES)).collect();
    let runs: usize = outcomes.iter().map(|outcome| outcome.runs).sum();
    let lives: u32 = outcomes.iter().map(|outcome| outcome.lives).sum();
    println!("{} worlds, {lives} engines, {runs} runs", outcomes.len());
    let met = |what: &str| outcomes.iter().flat_map(|outcome| &outcome.trace).filter(|line| line.contains(what)).count();
    let counts: Vec<(&str, usize)> = INCIDENTS.iter().map(|what| (*what, met(what))).collect();
    println!("{counts:?}");
    let never: Vec<&str> = counts.iter().filter(|(_, count)| *count == 0).map(|(what, _)| *what).collect();
    assert!(outcomes.len() < WORLDS as usize || never.is_empty(), "these worlds never meet {never:?}");
}

#[test]
fn simulation_of_one_seed_is_always_the_same() {
    for seed in 1..30 {
        let (first, second) = (pass(seed, LINES).trace, pass(seed, LINES).trace);
        let differ = first.iter().zip(&second).position(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed}: {:?}", differ.map(|at| (&first[at], &second[at])));
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

#[test]
fn simulation_sees_each_broken_promise() {
    for (sabotage, promise) in sabotage::ALL {
        let seen = |seed| world::run(Plan { sabotage: Some(sabotage), ..Plan::random(seed) }).trouble;
        let troubles: Vec<String> = (0..WORLDS).filter_map(seen).take(3).collect();
        assert!(troubles.iter().any(|trouble| trouble.starts_with(promise)), "{sabotage:?} breaks {promise}; seen was {troubles:#?}");
    }
}
