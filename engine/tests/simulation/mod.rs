//! The simulation: the real rules, scheduler, executor and script host on one thread, on a simulated clock, over a disk
//! that is slow, full, or dies with its engine at any flush; random handlers, of which is known what they must come to.
//!
//! Everything follows from a seed, and a failure prints it, with the shortest world that fails alike:
//! `STEPWELL_SIM_SEED=… cargo nextest run simulation` runs that world again and prints all that happened.
//! `STEPWELL_SIM_SEEDS=…` says how many worlds are tried; `STEPWELL_SIM_MINUTES=…` lets them go on for so long, from the
//! seed `STEPWELL_SIM_FROM` on (scripts/soak does that).

mod aside;
mod clock;
mod dice;
mod disk;
mod draw;
mod edit;
mod facts;
mod flow;
mod incident;
mod places;
mod plan;
mod print;
mod program;
mod race;
mod sabotage;
mod shrink;
mod sites;
mod straight;
mod swarm;
mod tally;
mod world;

use dice::Dice;
use incident::Incident;
use stepwell::rules::Ending;

use plan::{Death, Moment, Plan, Way};
use tally::Tally;
use world::Outcome;

/// Worlds that are tried where nothing else is said.
const WORLDS: u64 = incident::FROM + 21;
/// Seeds that failed in `scripts/soak --sim` before what they had found was mended.
const FOUND: [u64; 17] = [
    22768948185712,
    30977142093694,
    58666161884443,
    65195076764474,
    93622182280284,
    153925741092146,
    170095004129135,
    177551035178604,
    192982926492725,
    192982926492733,
    212042116547271,
    214861757604732,
    239158695233217,
    253692821320237,
    255375415362417,
    262596703461384,
    270299232931401,
];
/// Lines of a failed world's story that are printed, unless it was asked for alone.
const LINES: usize = 80;
/// Worlds that are tried to find the shortest one that fails.
const SHRINK: usize = 4_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

/// Shows what a failed world was, and the shortest one that fails alike.
fn show(seed: u64, plan: &Plan, trouble: &str, trace: &[String]) {
    let (_, swarm) = draw::world(seed);
    println!("seed {seed}: {trouble}\n{swarm:?}");
    println!("{}", trace[trace.len().saturating_sub(LINES)..].join("\n"));
    let shrunk = shrink::shrink(plan, trouble, SHRINK);
    println!("\nthe shortest world that fails alike, of {} that were tried:\n", shrunk.tried);
    describe(&shrunk.plan);
    println!("{}\n{}", shrunk.trace.join("\n"), shrunk.trouble);
    println!("size {} of {}", shrunk.plan.size(), plan.size());
    println!("to run this world again: STEPWELL_SIM_SEED={seed} cargo nextest run simulation");
}

/// So many seeds from this one on.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    first..first + count
}

fn describe(plan: &Plan) {
    println!("{}", plan.yaml(0));
    for function in &plan.functions {
        for edition in 0..function.versions.len() {
            println!("# {}, edition {edition}\n{}", function.id, function.script(edition));
        }
    }
    plan.requests.iter().for_each(|request| println!("{request:?}"));
    println!("cancels {:?}\nsignals {:?}\npauses {:?}\nretries {:?}", plan.cancels, plan.signals, plan.pauses, plan.retries);
    println!("replays {:?}\ncalls {:?}\nmigrates {:?}", plan.replays, plan.calls, plan.migrates);
    println!("reloads {:?}\ndeaths {:?}\njumps {:?}\n{:?} {:?}\n", plan.reloads, plan.deaths, plan.jumps, plan.disk, plan.wakes);
}

/// Lets the world of a seed pass, and again with an engine that dies before and after one of the commits that it made. The same for
/// the incident of the seed alone.
fn each_plan(seed: u64, mut each: impl FnMut(&Plan, Outcome)) {
    let incident = Incident::of(seed);
    let alone = incident.map(|incident| alone(incident, seed));
    for plan in std::iter::once(draw::world(seed).0).chain(alone) {
        let outcome = shrink::outcome(plan.clone());
        let aimed = sites::aimed(&plan, &outcome.met, incident.map(Incident::site), &mut Dice::new(!seed));
        each(&plan, outcome);
        for plan in aimed.into_iter().flatten() {
            each(&plan, shrink::outcome(plan.clone()));
        }
    }
}

/// Lets the worlds of a seed pass, and shows the first one that fails.
fn pass(seed: u64) -> Vec<String> {
    let mut story = Vec::new();
    each_plan(seed, |plan, outcome| {
        if let Some(trouble) = outcome.trouble {
            show(seed, plan, &trouble, &outcome.trace);
            panic!("seed {seed}: {trouble}");
        }
        story.extend(outcome.trace);
    });
    story
}

#[test]
fn simulation_keeps_every_promise() {
    if let Some(seed) = number("STEPWELL_SIM_SEED") {
        println!("{}", pass(seed).join("\n"));
        return;
    }
    if let Some(minutes) = number("STEPWELL_SIM_MINUTES") {
        return tally::go_on(number("STEPWELL_SIM_FROM"), minutes);
    }
    let worlds = number("STEPWELL_SIM_SEEDS").unwrap_or(WORLDS);
    let tally = Tally::of(0..worlds);
    tally.show_failure();
    println!("{tally}");
    let never = tally.never_met();
    assert!(worlds < WORLDS || never.is_empty(), "these worlds never meet {never:?}");
}

#[test]
fn simulation_keeps_what_it_once_found_broken() {
    FOUND.into_iter().for_each(|seed| drop(pass(seed)));
}

#[test]
fn simulation_of_one_seed_is_always_the_same() {
    let later = seeds(draw::INNER_RACES_FROM, 5).chain(seeds(incident::FROM, incident::ALL.len() as u64));
    for seed in (1..30).chain(seeds(draw::RACES_FROM, 10)).chain(later) {
        let (first, second) = (pass(seed), pass(seed));
        let differ = first.iter().zip(&second).position(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed}: {:?}", differ.map(|at| (&first[at], &second[at])));
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

/// One run at a time, and the engine dies once, before and after each flush that there is: no two commits of a handler
/// have anything between them that must not be cut.
#[test]
fn simulation_survives_a_cut_between_any_two_commits() {
    let mut cuts = 0;
    let drawn = (0..100).chain(seeds(draw::RACES_FROM, 20)).chain(seeds(draw::INNER_RACES_FROM, 10)).map(|seed| (seed, None));
    let incidents = seeds(incident::FROM, incident::ALL.len() as u64).map(|seed| (seed, Incident::of(seed)));
    for (seed, incident) in drawn.chain(incidents) {
        let plan = incident.map_or_else(|| single(seed), |incident| alone(incident, seed));
        let uncut = shrink::outcome(plan.clone());
        assert_eq!(uncut.trouble, None, "seed {seed}, without a cut\n{}", uncut.trace.join("\n"));
        assert!(uncut.runs > 0, "seed {seed}: nothing has run");
        let is_met = |incident: Incident| uncut.met.iter().any(|met| met.contains_key(&incident.site()));
        assert!(incident.is_none_or(is_met), "seed {seed}: {incident:?} did not come up\n{}", uncut.trace.join("\n"));
        for number in 0..uncut.flushes {
            for moment in [Moment::Before, Moment::After] {
                let death = Death {
                    way: Way::Flush { number, moment },
                    end: Ending::Killed,
                    down_ms: 1_000,
                    jump_ms: 0,
                    edited: false,
                    power: false,
                };
                let plan = Plan { deaths: vec![death], ..plan.clone() };
                let outcome = shrink::outcome(plan.clone());
                if let Some(trouble) = outcome.trouble {
                    show(seed, &plan, &trouble, &outcome.trace);
                    panic!("seed {seed}, cut at flush {number}: {trouble}");
                }
                let died = outcome.trace.iter().any(|line| line.ends_with("engine died"));
                assert!(died, "seed {seed}: no engine died at flush {number}");
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts");
    // The sources, the event, the start and the end, each before and after: there is no world with less.
    assert!(cuts >= 100 * 4 * 2, "{cuts} cuts");
}

/// The world of a seed with one function, those that it invokes, one event, and no fault.
fn single(seed: u64) -> Plan {
    let (mut plan, _) = draw::world(seed);
    // Nothing sends the last two of these: else a function could start itself for ever.
    plan.events += 2;
    for function in &mut plan.functions {
        function.gates = plan::Gates::default();
        function.on = vec![plan::Trigger { event: plan.events - 1, below: None }];
    }
    plan.functions[0].gone_from = None;
    plan.functions[0].on = vec![plan::Trigger { event: plan.events - 2, below: None }];
    plan.requests.truncate(1);
    plan.requests[0].events.truncate(1);
    plan.requests[0].events[0].name = plan.events - 2;
    plan.requests[0].has_ids = true;
    (plan.cancels, plan.signals, plan.pauses, plan.retries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    plan.replays.clear();
    plan.migrates.clear();
    plan.calls.clear();
    plan.reloads.clear();
    plan.jumps.clear();
    plan.deaths.clear();
    (plan.disk.batch, plan.disk.full, plan.disk.slow, plan.disk.late, plan.kept) = (1, 0, 0, 0, None);
    plan
}

/// A world with an incident, and nothing else.
fn alone(incident: Incident, seed: u64) -> Plan {
    let mut plan = Plan { functions: Vec::new(), requests: Vec::new(), events: 0, ..single(seed) };
    incident.add(&mut plan, &mut Dice::new(seed));
    plan
}

#[test]
fn simulation_sees_each_broken_promise() {
    for (sabotage, promise) in sabotage::ALL {
        let seen = |seed| world::run(Plan { sabotage: Some(sabotage), ..draw::world(seed).0 }).trouble;
        assert!(
            (0..WORLDS).filter_map(seen).any(|trouble| trouble.starts_with(promise)),
            "{sabotage:?} breaks {promise}: nothing was seen"
        );
    }
}

/// The first world that a sabotage brings to this trouble, and the shortest one that fails alike: nothing in it may be left out.
fn shrunk(sabotage: sabotage::Sabotage, promise: &str) -> Plan {
    let broken = |seed| Plan { sabotage: Some(sabotage), ..draw::world(seed).0 };
    let mut failing = (0..WORLDS).map(|seed| (seed, world::run(broken(seed)).trouble.unwrap_or_default()));
    let (seed, trouble) = failing.find(|(_, trouble)| trouble.starts_with(promise)).expect("a world that fails");
    let plan = broken(seed);
    let shrunk = shrink::shrink(&plan, &trouble, SHRINK);
    println!("{sabotage:?}: {} of {} in {} worlds", shrunk.plan.size(), plan.size(), shrunk.tried);
    describe(&shrunk.plan);
    assert!(shrunk.trouble.starts_with(promise), "{}", shrunk.trouble);
    let shorter = shrink::shorter(&shrunk.plan, &shrunk.trouble);
    shorter.iter().for_each(describe);
    assert!(shorter.is_none(), "a shorter one fails alike, which is above");
    shrunk.plan
}

/// A world that fails is shrunk to something that can be read.
#[test]
fn simulation_shrinks_what_fails() {
    for (sabotage, promise) in [(sabotage::Sabotage::LostRecords, "I5"), (sabotage::Sabotage::LostEnds, "I3")] {
        let plan = shrunk(sabotage, promise);
        assert!(plan.size() <= 6 && plan.functions.len() == 1, "size {}", plan.size());
    }
}

/// A failure that needs a fault keeps it, and little else: the queue is turned only where an engine takes up what another one has left.
#[test]
fn simulation_shrinks_what_fails_after_a_death() {
    let plan = shrunk(sabotage::Sabotage::TurnedQueue, "I7");
    assert!(!plan.deaths.is_empty() && plan.size() <= 12, "size {}, {:?}", plan.size(), plan.deaths);
    let undying = world::run(Plan { deaths: Vec::new(), ..plan }).trouble;
    assert!(!undying.as_deref().is_some_and(|trouble| trouble.starts_with("I7")), "it fails without a death: {undying:?}");
}
