//! Everything that may end a wait, at once: the event, the time-out, and the cancel of its run, in every order, while the
//! disk takes its time. Each wait comes to one thing, and each run to one end. `STEPWELL_SIM_RACES` says how many race.

use std::collections::BTreeMap;

use serde_json::json;
use stepwell::rules::{Ending, RunState};

use super::dice::Dice;
use super::plan::{
    Backoff, Cancel, Collect, Death, DiskPlan, Event, Function, Gates, Moment, Pause, Plan, Request, Trigger, WakePlan, Way,
};
use super::program::{Branch, Break, Caught, Expr, Lane, Match, On, Parallel, Program, Race, Shape, Step, Stmt, Target, Wait};
use super::{number, shrink};

/// Runs that race, where nothing else is said. The guarantees ask for 10,000 (`scripts/soak --races 10000`), which takes half a
/// minute in a build for development: longer than a suite should take for one promise.
const RACES: u64 = 2_000;
/// Those of one world.
const TOGETHER: u64 = 200;
/// Those that begin at once, and how long after them the next ones do.
const AT_ONCE: i64 = 20;
const APART_MS: i64 = 10_000;
/// How long each waits.
const WAIT_MS: i64 = 1_000;

/// A world in which nothing goes wrong by itself.
fn calm(functions: Vec<Function>, requests: Vec<Request>, dice: &mut Dice) -> Plan {
    let disk = DiskPlan { flush_ms: 2, slow: 0, slow_ms: 0, full: 0, batch: 1, late: 0, late_ms: 1, dice: dice.fork(2) };
    Plan {
        functions,
        events: 2,
        requests,
        cancels: Vec::new(),
        signals: Vec::new(),
        pauses: Vec::new(),
        retries: Vec::new(),
        replays: Vec::new(),
        migrates: Vec::new(),
        calls: Vec::new(),
        reloads: Vec::new(),
        disk,
        wakes: WakePlan { late: 0, late_ms: 1 },
        deaths: Vec::new(),
        jumps: Vec::new(),
        kept: None,
        dice: dice.fork(1),
        sabotage: None,
    }
}

fn function(versions: Vec<Program>) -> Function {
    Function {
        id: "f0".to_owned(),
        on: vec![Trigger { event: 0, below: None }],
        attempts: 3,
        backoff: Backoff::Fixed { seconds: 5 },
        limits: Vec::new(),
        limits_from: None,
        once: false,
        gates: Gates::default(),
        start: None,
        finish: None,
        versions,
        gone_from: None,
    }
}

fn request(at_ms: i64, name: usize, numbers: impl Iterator<Item = i64>) -> Request {
    let event = |n: i64| Event { name, data: json!({ "n": n }), later_ms: None };
    Request { at_ms, events: numbers.map(event).collect(), has_ids: true, again_ms: Vec::new() }
}

fn wait(variable: u32, id: &str) -> Stmt {
    let on = On::Events(vec![(1, Match::SameN)]);
    Stmt::Wait(Wait { to: Target::New(variable), id: Some(id.to_owned()), on, seconds: Some(WAIT_MS / 1_000) })
}

fn step(variable: u32, name: &str, takes_ms: i64, breaks: u32) -> Stmt {
    Stmt::Step(Step {
        to: Target::New(variable),
        name: name.to_owned(),
        retries: None,
        breaks,
        how: Break::Throw,
        caught: Caught::No,
        value: Expr::Number(1),
        shape: Shape::Number,
        takes_ms,
        timeout: None,
    })
}

fn branches(bodies: Vec<Vec<Stmt>>) -> Program {
    let numbered = bodies.into_iter().zip(100..);
    let branch = |(body, to)| Branch { body, result: Expr::Input, to: Target::New(to) };
    let all = Parallel { branches: numbered.map(branch).collect(), named: false, settle: false, limit: None };
    Program { body: vec![Stmt::Parallel(all)], ..Program::default() }
}

/// A race with a record of this name, which gives the input; its variables are this one and the next.
fn race(variable: u32, name: &str, bodies: Vec<Vec<Stmt>>) -> Stmt {
    let lanes = bodies.into_iter().map(|body| Lane { body, result: Expr::Input }).collect();
    let (to, first) = (Target::New(variable), Target::New(variable + 1));
    Stmt::Race(Race { lanes, named: true, id: Some(name.to_owned()), to, first, caught: false })
}

/// A world of runs that wait for a second, in one branch or in two, in which events and cancels come after a second, give or
/// take a little.
fn plan(seed: u64) -> Plan {
    let mut dice = Dice::new(seed);
    let two = seed % 2 == 1;
    let program = if two {
        branches(vec![vec![wait(1, "one"), step(2, "after", 0, 0)], vec![wait(3, "other")]])
    } else {
        Program { body: vec![wait(1, "one"), step(2, "after", dice.between(0, 3), 0)], result: vec![1, 2], ..Program::default() }
    };
    let (mut requests, mut cancels) = (Vec::new(), Vec::new());
    let near = |dice: &mut Dice| WAIT_MS + dice.between(-4, 12);
    for round in 0..TOGETHER as i64 / AT_ONCE {
        let begin = round * APART_MS;
        let mine = round * AT_ONCE..(round + 1) * AT_ONCE;
        requests.push(request(begin, 0, mine.clone()));
        for n in mine {
            // In one branch or two, so many events may come to something.
            for _ in 0..if two { 2 } else { 1 } {
                if dice.chance(70) {
                    requests.push(request(begin + near(&mut dice), 1, n..=n));
                }
            }
            if dice.chance(60) {
                cancels.push(Cancel { at_ms: begin + near(&mut dice), run: n as usize });
            }
        }
    }
    let calm = calm(vec![function(vec![program])], requests, &mut dice);
    let disk = DiskPlan { flush_ms: dice.between(0, 3), batch: *dice.pick(&[1, 3, 1_000]), ..calm.disk.clone() };
    Plan { cancels, disk, ..calm }
}

#[test]
fn simulation_lets_one_thing_end_a_wait_and_one_thing_a_run() {
    let races = number("STEPWELL_SIM_RACES").unwrap_or(RACES);
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..races.div_ceil(TOGETHER) {
        let outcome = shrink::outcome(plan(seed));
        assert_eq!(outcome.trouble, None, "seed {seed}\n{}", outcome.trace.join("\n"));
        // Those that are created are all that there are.
        assert_eq!(outcome.runs as u64, TOGETHER, "seed {seed}");
        for what in [RunState::Completed.word(), "cancelled: somebody's wish", "comes to Event", "comes to TimedOut"] {
            *ends.entry(what).or_default() += outcome.trace.iter().filter(|line| line.contains(what)).count();
        }
    }
    println!("{races} runs: {ends:?}");
    assert!(ends.values().all(|count| *count as u64 > races / 10), "every end comes: {ends:?}");
    assert_eq!((ends["completed"] + ends["cancelled: somebody's wish"]) as u64, races.div_ceil(TOGETHER) * TOGETHER, "one end a run");
}

fn keeps_every_promise(plan: Plan) {
    let outcome = shrink::outcome(plan);
    assert_eq!(outcome.trouble, None, "{}", outcome.trace.join("\n"));
}

/// Two events come one after the other, while the first one is on its way to the disk: each is for one of two waits. The
/// second one was lost, since both were tried on the wait that was opened first.
#[test]
fn simulation_gives_each_of_two_waits_one_of_two_events() {
    let program = branches(vec![vec![wait(1, "one")], vec![wait(2, "other")]]);
    let requests = vec![request(0, 0, 7..=7), request(100, 1, 7..=7), request(101, 1, 7..=7)];
    for flush_ms in [0, 1, 5, 20] {
        for seed in 0..10 {
            let calm = calm(vec![function(vec![program.clone()])], requests.clone(), &mut Dice::new(seed));
            keeps_every_promise(Plan { disk: DiskPlan { flush_ms, ..calm.disk.clone() }, ..calm });
        }
    }
}

/// A branch's step fails, and is tried again while another branch is at work: the failed attempt has to be on the disk
/// before the next one begins. It was not.
#[test]
fn simulation_stores_what_a_branch_has_come_to_while_others_are_at_work() {
    let program = branches(vec![vec![step(1, "broken", 0, 2)], vec![step(2, "long", 60_000, 0)]]);
    keeps_every_promise(calm(vec![function(vec![program])], vec![request(0, 0, 1..=1)], &mut Dice::new(1)));
}

/// A run goes on with a later version of its handler: whichever branch comes to the disk first says so. It was the one that
/// had something to record first, which may come to the disk last.
#[test]
fn simulation_says_with_each_branch_which_version_goes_on() {
    let before = Program { body: vec![Stmt::Flaky { site: "site".to_owned(), throws: 1 }], ..Program::default() };
    let nap = Stmt::Sleep { name: None, seconds: 1 };
    let after = Program { edition: 1, ..branches(vec![vec![nap], vec![step(1, "work", 0, 0)]]) };
    let calm = calm(vec![function(vec![before, after])], vec![request(0, 0, 1..=1)], &mut Dice::new(1));
    let death = Death { way: Way::Time { ms: 2_000 }, end: Ending::Killed, down_ms: 1, jump_ms: 0, edited: true, power: false };
    keeps_every_promise(Plan { deaths: vec![death], ..calm });
}

/// A batch that fills up stands in line from then on, before a run that enters the queue a moment later. While the engine lived
/// it stood where the word of it came, and only after a restart where its row said.
#[test]
fn simulation_lets_a_full_batch_stand_where_it_is_stored() {
    let gates = Gates { collect: Some(Collect::Batch { size: 2, seconds: 57, key: None }), ..Gates::default() };
    let collects = Function { gates, ..function(vec![Program::default()]) };
    let together = request(3_000, 0, 2..=3);
    let requests = vec![request(0, 0, 1..=1), later_by(together, 1)];
    for flush_ms in [2, 5, 20] {
        for seed in 0..10 {
            let calm = calm(vec![collects.clone()], requests.clone(), &mut Dice::new(seed));
            keeps_every_promise(Plan { disk: DiskPlan { flush_ms, ..calm.disk.clone() }, ..calm });
        }
    }
}

/// A function is paused while the engine lives, and is gone after its end: what waited for it is parked. It was held for ever, for
/// nobody can resume a function that is not there.
#[test]
fn simulation_parks_what_waits_for_a_paused_function_that_is_gone() {
    let stays = function(vec![Program::default()]);
    let goes = Function { id: "f1".to_owned(), gone_from: Some(1), ..stays.clone() };
    let calm = calm(vec![stays, goes], vec![request(1_000, 0, 1..=1)], &mut Dice::new(1));
    let death = Death { way: Way::Time { ms: 2_000 }, end: Ending::Killed, down_ms: 1, jump_ms: 0, edited: true, power: false };
    let pauses = vec![Pause { at_ms: 0, function: 1, for_ms: 5_000 }];
    keeps_every_promise(Plan { pauses, deaths: vec![death], ..calm });
}

/// A branch ends with what came of a wait, and another one takes its place: the first one's end has to be on the disk before anything
/// of the second is, or a replay finds records of a branch that it has not begun. It parked the run.
#[test]
fn simulation_stores_the_end_of_a_branch_before_another_takes_its_place() {
    let mut program = branches(vec![vec![wait(1, "one")], vec![step(2, "first", 0, 0), step(3, "second", 0, 0)]]);
    if let Stmt::Parallel(parallel) = &mut program.body[0] {
        parallel.limit = Some(1);
    }
    for number in 0..16 {
        let calm = calm(vec![function(vec![program.clone()])], vec![request(0, 0, 1..=1)], &mut Dice::new(1));
        let way = Way::Flush { number, moment: Moment::After };
        let death = Death { way, end: Ending::Killed, down_ms: 1_000, jump_ms: 0, edited: false, power: false };
        keeps_every_promise(Plan { deaths: vec![death], ..calm });
    }
}

/// A race stands in a branch of another race, or of a `parallel`, and an engine ends around each commit: the inner one is decided by
/// itself, and ends undecided where the other branch of the outer one is first.
#[test]
fn simulation_decides_a_race_in_a_branch_over_every_end_of_an_engine() {
    let inner = || race(1, "inner", vec![vec![wait(3, "one")], vec![step(4, "slow", 700, 0), step(5, "last", 0, 0)]]);
    let before = || vec![inner(), step(6, "after", 400, 0)];
    let nap = |seconds| vec![Stmt::Sleep { name: None, seconds }];
    let outer = |seconds| Program { body: vec![race(7, "outer", vec![before(), nap(seconds)])], ..Program::default() };
    for (program, is_decided) in [(outer(60), true), (outer(0), false), (branches(vec![before(), nap(1)]), true)] {
        let calm = calm(vec![function(vec![program])], vec![request(0, 0, 7..=7), request(300, 1, 7..=7)], &mut Dice::new(1));
        let uncut = shrink::outcome(calm.clone());
        assert_eq!(uncut.trouble, None, "{}", uncut.trace.join("\n"));
        assert_eq!(uncut.trace.iter().any(|line| line.contains("› inner` race: ")), is_decided, "{}", uncut.trace.join("\n"));
        for (number, moment) in (0..uncut.flushes).flat_map(|number| [(number, Moment::Before), (number, Moment::After)]) {
            let way = Way::Flush { number, moment };
            let death = Death { way, end: Ending::Killed, down_ms: 1, jump_ms: 0, edited: false, power: false };
            keeps_every_promise(Plan { deaths: vec![death], ..calm.clone() });
        }
    }
}

/// The request, with the time of its first event so many milliseconds in the future: no batch takes that one.
fn later_by(mut request: Request, ms: i64) -> Request {
    request.events[0].later_ms = Some(ms);
    request
}
