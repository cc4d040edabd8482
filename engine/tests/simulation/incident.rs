//! Incidents that hardly come up by themselves, each with all that has to come together for it. They are put into random worlds, and
//! pass alone, so that the engine surely dies before and after the commit that each of them comes to.

use serde_json::json;
use stepwell::rules::{Hold, ended};

use super::dice::Dice;
use super::plan::gates::Rate;
use super::plan::{Backoff, Cancel, Cron, Event, Function, Gates, Limit, Pause, Plan, Reload, Request, Signal, Trigger};
use super::program::{Branch, Break, Caught, Data, Expr, Invoke, On, Parallel, Program, Shape, Step, Stmt, Target, Wait};
use super::sites::Site;

/// From this seed on each world has one. Those before are what they were without.
pub const FROM: u64 = 370;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// Two runs hold the slots that those wait for which they have invoked.
    Circle,
    /// A reload changes a throttle by which runs wait.
    Rethrottle,
    /// Runs that sleep are taken to a handler that was edited meanwhile.
    Migration,
    /// A run fails, whose function has a script for that.
    Failure,
    /// A branch that backs off is run again before its time, and writes a line again.
    Lines,
    /// Somebody sends a signal to a run that waits for it.
    Signal,
    /// The clock leaves out what a pause has missed.
    Missed,
}

pub const ALL: [Incident; 7] =
    [Incident::Circle, Incident::Rethrottle, Incident::Migration, Incident::Failure, Incident::Lines, Incident::Signal, Incident::Missed];

impl Incident {
    /// The one that belongs to a seed.
    pub fn of(seed: u64) -> Option<Incident> {
        (seed >= FROM).then(|| ALL[(seed % ALL.len() as u64) as usize])
    }

    /// The commit that it comes to.
    pub fn site(self) -> Site {
        match self {
            Incident::Circle => Site::Deadlock,
            Incident::Rethrottle => Site::Rethrottle,
            Incident::Migration => Site::Migrate,
            Incident::Failure => Site::Tell,
            Incident::Lines => Site::Lines,
            Incident::Signal => Site::Hear,
            Incident::Missed => Site::Missed,
        }
    }

    /// Whether it goes with whatever else there is in a world: a function that the clock starts does not, since it starts again and
    /// again for as long as others sleep.
    pub fn goes_with_all(self) -> bool {
        self != Incident::Missed
    }

    /// Puts it into a world.
    pub fn add(self, plan: &mut Plan, dice: &mut Dice) {
        let event = plan.events;
        // Nobody ever sends the second one.
        plan.events += 2;
        match self {
            Incident::Circle => {
                let pool = Limit { limit: 2, key: None, hold: Hold::Run, shared: Some("circle".to_owned()) };
                let invoke = Invoke {
                    to: Target::New(1),
                    id: None,
                    function: "i1".to_owned(),
                    data: Data { n: Expr::Input, a: None, b: 0 },
                    seconds: None,
                    caught: dice.chance(50),
                };
                let parent = function("i0", event, program(vec![Stmt::Invoke(invoke)]));
                let child = function("i1", event + 1, program(vec![Stmt::Step(step(1))]));
                plan.functions.extend([parent, child].map(|function| Function { limits: vec![pool.clone()], ..function }));
                send(plan, dice, event, 2);
            }
            Incident::Rethrottle => {
                let rate = Rate { limit: 1, seconds: 60, key: None };
                let gates = Gates { throttle: Some((rate, 0)), rethrottled: Some((1, Rate { limit: 2, ..rate })), ..Gates::default() };
                plan.functions.push(Function { gates, ..function("i0", event, program(vec![Stmt::Step(step(1))])) });
                send(plan, dice, event, 3);
                // A bucket that is stored does not say by which rule it stands. So nobody starts an engine with another rule and then
                // goes back to the first one.
                plan.reloads = vec![Reload { at_ms: 20_000 }];
                plan.deaths.iter_mut().for_each(|death| death.edited = false);
            }
            Incident::Migration => {
                plan.reloads.push(Reload { at_ms: 20_000 });
                let edits = plan.reloads.len() + plan.deaths.iter().filter(|death| death.edited).count();
                let body = vec![Stmt::Step(step(1)), Stmt::Sleep { name: None, seconds: 300 }, Stmt::Step(step(2))];
                // Each edition has a version of its own, all of which do the same.
                let versions = (0..=edits).map(|edition| Program { edition: edition as u32, ..program(body.clone()) }).collect();
                plan.functions.push(Function { versions, ..function("i0", event, program(body)) });
                send(plan, dice, event, 1);
                plan.migrates.extend([25_000, 60_000, 200_000].map(|at_ms| Cancel { at_ms, run: dice.below(100) }));
            }
            Incident::Failure => {
                let body = vec![Stmt::Step(step(1)), Stmt::Fail { message: "no way on from here".to_owned() }];
                let script =
                    Function { on: Vec::new(), ..function(&ended::on_failure_of("i0"), event, program(vec![Stmt::Step(step(1))])) };
                plan.functions.extend([function("i0", event, program(body)), script]);
                send(plan, dice, event, 2);
            }
            Incident::Lines => {
                let breaks = Step { breaks: 1, ..step(1) };
                let sleeps = vec![Stmt::Sleep { name: None, seconds: 5 }, Stmt::Step(step(2))];
                let branches = vec![
                    Branch { body: vec![Stmt::Step(breaks)], result: Expr::Variable(1), to: Target::New(3) },
                    Branch { body: sleeps, result: Expr::Variable(2), to: Target::New(4) },
                ];
                let parallel = Parallel { branches, named: false, settle: false, limit: None };
                let program = Program { body: vec![Stmt::Parallel(parallel)], result: vec![3, 4], ..Program::default() };
                plan.functions.push(function("i0", event, program));
                send(plan, dice, event, 1);
                plan.functions.iter_mut().flat_map(|function| function.versions.iter_mut()).for_each(|program| program.lines = true);
            }
            Incident::Signal => {
                let wait = Wait { to: Target::New(1), id: None, on: On::Signal(0), seconds: Some(60) };
                plan.functions.push(function("i0", event, program(vec![Stmt::Wait(wait)])));
                send(plan, dice, event, 1);
                plan.signals.push(Signal { at_ms: 10_000, number: 0, value: dice.between(0, 99) });
            }
            Incident::Missed => {
                let cron = Cron { seconds: 30, missed: "skip", from: 0, gone_from: None };
                let gates = Gates { crons: vec![cron], ..Gates::default() };
                plan.pauses.push(Pause { at_ms: 10_000, function: plan.functions.len(), for_ms: 100_000 });
                plan.functions.push(Function { gates, on: Vec::new(), ..function("i0", event, program(vec![Stmt::Step(step(1))])) });
                // The world goes on for so long.
                plan.signals.push(Signal { at_ms: 150_000, number: 0, value: 0 });
            }
        }
    }
}

/// A function that an event starts, and that nothing holds up.
fn function(id: &str, event: usize, program: Program) -> Function {
    Function {
        id: id.to_owned(),
        on: vec![Trigger { event, below: None }],
        attempts: 2,
        backoff: Backoff::Fixed { seconds: 100 },
        limits: Vec::new(),
        limits_from: None,
        once: false,
        gates: Gates::default(),
        start: None,
        finish: None,
        versions: vec![program],
        gone_from: None,
    }
}

/// A program that gives its first variable.
fn program(body: Vec<Stmt>) -> Program {
    Program { body, result: vec![1], ..Program::default() }
}

/// A step that gives what its event says, into the variable of this number.
fn step(number: u32) -> Step {
    Step {
        to: Target::New(number),
        name: format!("s{number}"),
        retries: None,
        breaks: 0,
        how: Break::Throw,
        caught: Caught::No,
        value: Expr::Input,
        shape: Shape::Number,
        takes_ms: 0,
        timeout: None,
    }
}

/// Somebody sends so many events of a name, together.
fn send(plan: &mut Plan, dice: &mut Dice, name: usize, count: usize) {
    let event = |dice: &mut Dice| Event { name, data: json!({ "n": dice.between(0, 99), "b": dice.between(0, 1) }), later_ms: None };
    let events = (0..count).map(|_| event(dice)).collect();
    plan.requests.push(Request { at_ms: dice.between(0, 1_000), events, has_ids: true, again_ms: Vec::new() });
}
