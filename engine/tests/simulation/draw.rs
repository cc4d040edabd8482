//! Draws the plan of a world from its seed.

use serde_json::json;
use stepwell::rules::{Ending, Hold};

use super::dice::Dice;
use super::edit;
use super::incident::Incident;
use super::plan::{
    Backoff, Call, Cancel, Collect, Cron, Death, DiskPlan, Event, Function, Gates, Jump, Limit, Moment, Pause, Plan, Reload, Request,
    Signal, Trigger, WakePlan, Way,
};
use super::program::{self, Around};
use super::sites;
use super::swarm::{Feature, Swarm};

const KEYS: [&str; 2] = ["a", "b"];
/// Percent of the worlds in which steps count, of those in which somebody has runs done again, and in which somebody invokes functions.
const OTHERS: u64 = 30;
/// From this seed on programs have races. The worlds before are what they were without, since what they meet is counted.
pub const RACES_FROM: u64 = 300;
/// From this seed on races stand in branches, too.
pub const INNER_RACES_FROM: u64 = 340;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Draws a world, and the settings that it was drawn with.
pub fn world(seed: u64) -> (Plan, Swarm) {
    let mut dice = Dice::new(seed);
    let mut swarm = Swarm::random(&mut dice);
    // A jump of the clock is the end of whatever step is under way, and nobody can say which one that is.
    if swarm.has(Feature::Retention) || swarm.has(Feature::Crons) {
        // What deletes old rows looks at them each second, and crons start and start, so long sleeps would take their time.
        swarm.sleep = swarm.sleep.min(20);
    }
    if swarm.has(Feature::ClockJumps) {
        swarm.rates.retain(|(feature, _)| *feature != Feature::Timeouts);
    }
    if seed >= RACES_FROM {
        let mut own = Dice::new(!seed);
        swarm.rates.push((Feature::Races, *own.pick(&[15, 40])));
        if seed >= INNER_RACES_FROM {
            swarm.rates.push((Feature::InnerRaces, *own.pick(&[20, 50])));
        }
    }
    let mut plan = plan(&mut dice, &swarm);
    if let Some(incident) = Incident::of(seed).filter(|incident| incident.goes_with_all()) {
        incident.add(&mut plan, &mut Dice::new(!seed).fork(9));
    }
    (plan, swarm)
}

fn plan(dice: &mut Dice, swarm: &Swarm) -> Plan {
    // One more that starts nothing, so that programs can send it.
    let events = dice.between(1, 3) as usize + usize::from(swarm.has(Feature::Sends) || swarm.has(Feature::Waits));
    let editions = if swarm.has(Feature::Reloads) { dice.between(1, 3) as usize } else { 0 };
    let shared = Limit { limit: dice.between(1, 2) as u32, key: None, hold: hold(dice), shared: Some("pool".to_owned()) };
    let count = dice.between(1, 4);
    let mut functions: Vec<Function> = (0..count).map(|number| function(dice, swarm, number, events, &shared, editions)).collect();
    for number in 0..functions.len() {
        let mut around = around(swarm, &functions, number, events);
        if !functions[number].gates.crons.is_empty() {
            // It starts again and again: what it led to would never come to an end.
            (around.sends, around.invokes) = (Vec::new(), Vec::new());
        }
        let function = &mut functions[number];
        let mut versions = vec![program::random(dice, swarm, function.attempts, &around)];
        for edition in 1..=editions {
            let later = edit::edited(&versions[edition - 1], dice, edition as u32);
            versions.push(later);
        }
        program::shallow(&mut versions);
        function.versions = versions;
    }
    let mut requests = requests(dice, swarm, events);
    let has_crons = functions.iter().any(|function: &Function| !function.gates.crons.is_empty());
    if has_crons {
        // Else a world with nothing but starts by the clock would go on for an hour.
        requests.iter_mut().flat_map(|request| &mut request.again_ms).for_each(|again| *again = (*again).min(5_000));
    }
    let cancels = if swarm.meets(Feature::Cancels, dice) { (0..dice.between(1, 4)).map(|_| cancel(dice)).collect() } else { Vec::new() };
    let mut signals: Vec<Signal> =
        if swarm.has(Feature::Signals) { (0..dice.between(1, 8)).map(|_| signal(dice)).collect() } else { Vec::new() };
    if has_crons {
        // The world goes on for so long, whatever else there is in it.
        signals.push(Signal { at_ms: dice.between(30_000, 150_000), number: 0, value: 0 });
    }
    let pauses: Vec<Pause> = if swarm.meets(Feature::Pauses, dice) {
        let pause = |dice: &mut Dice| Pause {
            at_ms: dice.between(0, 120_000),
            function: dice.below(functions.len()),
            for_ms: dice.between(1, 200_000),
        };
        (0..dice.between(1, 3)).map(|_| pause(dice)).collect()
    } else {
        Vec::new()
    };
    let retries = if swarm.meets(Feature::RetryNows, dice) { (0..dice.between(1, 5)).map(|_| cancel(dice)).collect() } else { Vec::new() };
    let kept = swarm.meets(Feature::Retention, dice).then(|| *dice.pick(&[1, 60, 3_600]));
    let disk = DiskPlan {
        flush_ms: *dice.pick(&[0, 2, 10, 200]),
        slow: swarm.rate(Feature::SlowFlushes),
        slow_ms: 30_000,
        full: swarm.rate(Feature::FullDisk),
        batch: *dice.pick(&[1, 3, 1_000]),
        late: swarm.rate(Feature::LateAnswers),
        late_ms: *dice.pick(&[1, 50, 20_000]),
        dice: dice.fork(2),
    };
    let wakes = WakePlan { late: swarm.rate(Feature::LateWakes), late_ms: *dice.pick(&[1, 500, 5_000]) };
    let steps = match (has_crons, kept.is_some()) {
        (true, _) => TINY_JUMPS,
        (_, true) => SMALL_JUMPS,
        _ => LARGE_JUMPS,
    };
    let jumps = if swarm.has(Feature::ClockJumps) { (0..dice.between(0, 3)).map(|_| jump(dice, steps)).collect() } else { Vec::new() };
    let mut deaths: Vec<Death> = Vec::new();
    if swarm.has(Feature::Deaths) {
        let poison = swarm.meets(Feature::Poison, dice);
        for _ in 0..if poison { 4 } else { dice.between(1, 6) } {
            let mut death = death(dice);
            if poison {
                // As if a run were poison: each engine dies as soon as it does anything.
                death = Death { way: Way::Effect { number: 0, after: true }, end: Ending::Crashed, down_ms: 1, ..death };
            }
            death.edited = swarm.meets(Feature::Reloads, dice);
            if swarm.meets(Feature::ClockJumps, dice) {
                death.jump_ms = *dice.pick(steps);
            }
            deaths.push(death);
        }
    }
    let mut plan = Plan {
        functions,
        events,
        requests,
        cancels,
        signals,
        pauses,
        retries,
        replays: Vec::new(),
        migrates: Vec::new(),
        calls: Vec::new(),
        reloads: Vec::new(),
        disk,
        wakes,
        deaths,
        jumps,
        kept,
        dice: dice.fork(1),
        sabotage: None,
    };
    // Drawn from dice of their own, so that the rest of the world does not hang on them.
    let mut own = dice.fork(7);
    plan.reloads = reloads(&mut own, editions);
    for function in plan.functions.iter_mut().filter(|function| function.limits.iter().any(|limit| limit.shared.is_none())) {
        if editions > 0 && own.chance(50) {
            function.limits_from = Some((own.between(1, editions as i64) as usize, own.between(1, 4) as u32));
        }
    }
    for death in plan.deaths.iter_mut().filter(|death| death.end == Ending::Killed) {
        death.power = own.chance(40);
    }
    // A step holds the key until its record is stored, and others give up after ten seconds: how long that takes is not modelled.
    let disk = &plan.disk;
    let is_quick = disk.slow == 0 && disk.full == 0 && disk.flush_ms <= 10 && (disk.late == 0 || disk.late_ms <= 50);
    if own.chance(OTHERS) && is_quick {
        plan.functions.iter_mut().flat_map(|function| function.versions.iter_mut()).for_each(|program| program.counts = true);
    }
    if own.chance(OTHERS) {
        plan.replays = (0..own.between(1, 3)).map(|_| cancel(&mut own)).collect();
    }
    if own.chance(OTHERS) {
        let functions = plan.functions.len();
        plan.calls = (0..own.between(1, 4)).map(|_| call(&mut own, functions)).collect();
    }
    for function in plan.functions.iter_mut().filter(|function| !function.gates.crons.is_empty()) {
        if own.chance(60) {
            function.gates.crons.push(second_cron(&mut own, swarm, editions));
        }
    }
    plan
}

fn call(dice: &mut Dice, functions: usize) -> Call {
    let spread = *dice.pick(&[1_000, 120_000]);
    let data = json!({ "n": dice.between(0, 99), "b": dice.between(0, 1) });
    Call { at_ms: dice.between(0, spread), function: dice.below(functions), data }
}

/// Edits while an engine lives: as many at most as there are editions to come to.
fn reloads(dice: &mut Dice, editions: usize) -> Vec<Reload> {
    let spread = *dice.pick(&[1_000, 60_000, 600_000]);
    let count = dice.between(0, editions as i64);
    (0..count).map(|_| Reload { at_ms: dice.between(0, spread) }).collect()
}

/// How far the clock is set, forward and back. What looks after old rows does so each second, so a world with it must not
/// have to wait for days until the clock is where it was.
const LARGE_JUMPS: &[i64] = &[-DAY_MS, -HOUR_MS, -1_000, 1, 5_000, HOUR_MS, 400 * DAY_MS];
const SMALL_JUMPS: &[i64] = &[-60_000, -1_000, 1, 5_000, HOUR_MS, 400 * DAY_MS];
/// Where the clock starts functions, it looks at each of the times that were jumped over.
const TINY_JUMPS: &[i64] = &[-60_000, -1_000, 1, 5_000, HOUR_MS];

fn jump(dice: &mut Dice, steps: &[i64]) -> Jump {
    Jump { at_ms: dice.between(0, 600_000), by_ms: *dice.pick(steps) }
}

fn hold(dice: &mut Dice) -> Hold {
    if dice.chance(50) { Hold::Active } else { Hold::Run }
}

fn function(dice: &mut Dice, swarm: &Swarm, number: i64, events: usize, shared: &Limit, editions: usize) -> Function {
    let below = swarm.meets(Feature::Conditions, dice).then(|| dice.between(20, 90));
    let mut on = vec![Trigger { event: dice.below(events), below }];
    if events > 1 && dice.chance(30) {
        let other = (on[0].event + 1) % events;
        on.push(Trigger { event: other, below: None });
    }
    let attempts = dice.between(1, 5) as u32;
    let seconds = dice.between(1, 100);
    let backoff = match dice.below(4) {
        0 => Backoff::Table,
        1 => Backoff::Fixed { seconds },
        2 => Backoff::Linear { seconds, max: seconds * 3 },
        _ => Backoff::Exponential { seconds, max: seconds * 5 },
    };
    let mut limits = Vec::new();
    if swarm.meets(Feature::Limits, dice) {
        let key = dice.chance(70).then(|| *dice.pick(&KEYS));
        limits.push(Limit { limit: dice.between(1, 3) as u32, key, hold: hold(dice), shared: None });
    }
    if swarm.meets(Feature::SharedLimits, dice) {
        let key = dice.chance(50).then(|| *dice.pick(&KEYS));
        limits.push(Limit { key, ..shared.clone() });
    }
    let mut gates = Gates::random(dice, swarm, events);
    if number > 0 && swarm.meets(Feature::Crons, dice) {
        on.clear();
        gates.crons.push(Cron { seconds: 30, missed: missed(dice, swarm), from: 0, gone_from: None });
        // Its runs must not come faster than they go.
        gates.throttle = None;
        limits.clear();
    }
    if gates.is_batch() {
        let Some(Collect::Batch { key, .. }) = gates.collect else { unreachable!("it was drawn as one") };
        limits.iter_mut().for_each(|limit| limit.key = key);
        limits.retain(|limit| limit.shared.is_none());
        if let Some(rate) = &mut gates.rate {
            rate.key = key;
        }
    }
    let once = !gates.is_batch() && swarm.meets(Feature::Idempotency, dice);
    let start = swarm.meets(Feature::StartTimeouts, dice).then(|| dice.between(1, 600));
    let finish = swarm.meets(Feature::FinishTimeouts, dice).then(|| dice.between(1, 3_600));
    // One function stays, since a project without any is none.
    let gone_from = (number > 0 && editions > 0 && dice.chance(20)).then(|| dice.between(1, editions as i64) as usize);
    Function {
        id: format!("f{number}"),
        on,
        attempts,
        backoff,
        limits,
        limits_from: None,
        once,
        gates,
        start,
        finish,
        versions: Vec::new(),
        gone_from,
    }
}

/// The clock that is set leaves out what it jumps over.
fn missed(dice: &mut Dice, swarm: &Swarm) -> &'static str {
    if swarm.has(Feature::ClockJumps) { "run-once" } else { dice.pick::<&str>(&["skip", "run-once", "run-all"]) }
}

/// Another schedule of a function that has one, of which some times are the same; it may come or go with an edition.
fn second_cron(dice: &mut Dice, swarm: &Swarm, editions: usize) -> Cron {
    let cron = Cron { seconds: 20, missed: missed(dice, swarm), from: 0, gone_from: None };
    if editions == 0 {
        return cron;
    }
    let edition = dice.between(1, editions as i64) as usize;
    match dice.below(3) {
        0 => Cron { from: edition, ..cron },
        1 => Cron { gone_from: Some(edition), ..cron },
        _ => cron,
    }
}

/// What there is around the program of a function: it starts those after it alone, so that no chain is without end.
fn around(swarm: &Swarm, functions: &[Function], number: usize, events: usize) -> Around {
    let is_before = |event: usize| functions[..=number].iter().any(|function| function.on.iter().any(|on| on.event == event));
    let is_gone = functions[number + 1..].iter().filter(|function| function.gone_from.is_none());
    Around {
        events,
        sends: (0..events).filter(|event| !is_before(*event)).collect(),
        invokes: is_gone.map(|function| function.id.clone()).collect(),
        may_hang: !swarm.has(Feature::Limits) && !swarm.has(Feature::SharedLimits) && !swarm.has(Feature::Crons),
    }
}

fn signal(dice: &mut Dice) -> Signal {
    let spread = *dice.pick(&[10_000, 600_000]);
    Signal { at_ms: dice.between(0, spread), number: dice.below(program::SIGNALS), value: dice.between(0, 99) }
}

fn requests(dice: &mut Dice, swarm: &Swarm, events: usize) -> Vec<Request> {
    let spread = *dice.pick(&[100, 10_000, 600_000]);
    (0..dice.between(1, 12))
        .map(|_| {
            let together = if swarm.meets(Feature::Batches, dice) { dice.between(2, 4) } else { 1 };
            let has_ids = dice.chance(80);
            let again = if has_ids && swarm.meets(Feature::Repeats, dice) { dice.between(1, 2) } else { 0 };
            Request {
                at_ms: dice.between(0, spread),
                events: (0..together).map(|_| event(dice, swarm, events)).collect(),
                has_ids,
                again_ms: (0..again).map(|_| *dice.pick(&[0, 1, 5_000, HOUR_MS])).collect(),
            }
        })
        .collect()
}

fn event(dice: &mut Dice, swarm: &Swarm, events: usize) -> Event {
    let mut data = json!({ "n": dice.between(0, 99), "b": dice.between(0, 1) });
    if dice.chance(85) {
        data["a"] = json!(dice.between(0, 2));
    }
    if dice.chance(50) {
        data["once"] = json!(dice.between(0, 3));
    }
    let later_ms = swarm.meets(Feature::FutureEvents, dice).then(|| *dice.pick(&[1, 2_000, 120_000]));
    Event { name: dice.below(events), data, later_ms }
}

fn cancel(dice: &mut Dice) -> Cancel {
    Cancel { at_ms: dice.between(0, 120_000), run: dice.below(100) }
}

fn death(dice: &mut Dice) -> Death {
    let failed = Moment::Failed { applied: dice.chance(50) };
    let moment = *dice.pick(&[Moment::Before, Moment::Before, Moment::After, Moment::Answered, failed]);
    let way = match dice.below(16) {
        0..=4 => Way::Flush { number: dice.between(0, 25) as u64, moment },
        5..=9 => Way::Site { site: *dice.pick(&sites::ALL[..sites::DRAWN]), number: dice.between(0, 3) as u64, moment, drain_ms: None },
        10 | 11 => Way::Effect { number: dice.between(0, 10) as u64, after: dice.chance(50) },
        12 => Way::Time { ms: *dice.pick(&[1, 1_000, 60_000]) },
        13 => Way::Read { number: dice.between(0, 60) as u64 },
        _ => Way::Drain { ms: *dice.pick(&[1, 1_000, 60_000]) },
    };
    let down_ms = *dice.pick(&[0, 1, 1_000, 600_000]);
    // Of one that crashed a supervisor starts the next at once.
    let end = if down_ms <= 1 { Ending::Crashed } else { Ending::Killed };
    Death { way, end, down_ms, jump_ms: 0, edited: false, power: false }
}
