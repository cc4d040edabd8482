//! Changes programs: to a later version of the same handler, as somebody edits it while runs are in flight, and to
//! smaller ones, when the shortest program is looked for that still shows a trouble.

use super::dice::Dice;
use super::program::{Branch, Break, Caught, Expr, Match, On, Program, Shape, Step, Stmt, Target, Wait};

/// The variables of steps that came with an edit start here; a program never gets that far by itself.
const NEW_VARIABLES: u32 = 1_000;

/// A later version of a handler: one place is another one. What it says of runs in flight, `straight` knows.
pub fn edited(program: &Program, dice: &mut Dice, number: u32) -> Program {
    let mut later = Program { edition: number, ..program.clone() };
    match dice.below(5) {
        0 => later.body.push(new_step(number, dice)),
        1 | 2 => {
            let at = dice.below(later.body.len() + 1);
            later.body.insert(at, new_step(number, dice));
        }
        3 => {
            if let Some(at) = later.body.iter().position(|stmt| matches!(stmt, Stmt::Sleep { .. })) {
                later.body.remove(at);
            }
        }
        _ => {
            let steps = later.body.iter_mut().filter_map(|stmt| match stmt {
                Stmt::Step(step) => Some(step),
                _ => None,
            });
            steps.take(dice.below(3)).for_each(|step| step.value = Expr::Number(i64::from(number)));
        }
    }
    repaired(later)
}

fn new_step(number: u32, dice: &mut Dice) -> Stmt {
    Stmt::Step(Step {
        to: Target::New(NEW_VARIABLES + number),
        name: format!("new{number}"),
        retries: None,
        breaks: 0,
        how: Break::Throw,
        caught: Caught::No,
        value: Expr::Number(dice.between(0, 99)),
        shape: Shape::Number,
        takes_ms: 0,
        timeout: None,
    })
}

/// What becomes of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Remove,
    /// A block's contents take its place.
    Inline,
    /// Whatever is special about it goes.
    Plain,
}

pub const CUTS: [Cut; 3] = [Cut::Remove, Cut::Inline, Cut::Plain];

/// The program with one of its statements cut, counted through all blocks; none where that changes nothing.
pub fn cut(program: &Program, number: usize, how: Cut) -> Option<Program> {
    let mut smaller = program.clone();
    let mut left = number;
    let mut blocks = std::iter::once(&mut smaller.body).chain(smaller.helpers.iter_mut().map(|helper| &mut helper.body));
    let done = blocks.find_map(|block| cut_in(block, &mut left, how));
    done.filter(|changed| *changed).map(|_| repaired(smaller))
}

/// Whether the statement was found in this block, and then whether it was changed.
fn cut_in(block: &mut Vec<Stmt>, left: &mut usize, how: Cut) -> Option<bool> {
    for at in 0..block.len() {
        if *left == 0 {
            return Some(cut_at(block, at, how));
        }
        *left -= 1;
        let found = match &mut block[at] {
            Stmt::If { then, other, .. } => cut_in(then, left, how).or_else(|| cut_in(other, left, how)),
            Stmt::For { body, .. } => cut_in(body, left, how),
            Stmt::Parallel(parallel) => parallel.branches.iter_mut().find_map(|branch| cut_in(&mut branch.body, left, how)),
            Stmt::Race(race) => race.lanes.iter_mut().find_map(|lane| cut_in(&mut lane.body, left, how)),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn cut_at(block: &mut Vec<Stmt>, at: usize, how: Cut) -> bool {
    match (how, &mut block[at]) {
        (Cut::Remove, _) => drop(block.remove(at)),
        (Cut::Inline, Stmt::If { then, other, .. }) => {
            let inside: Vec<Stmt> = std::mem::take(then).into_iter().chain(std::mem::take(other)).collect();
            block.splice(at..=at, inside);
        }
        (Cut::Inline, Stmt::For { body, .. }) => {
            let inside = std::mem::take(body);
            block.splice(at..=at, inside);
        }
        (Cut::Inline, Stmt::Parallel(parallel)) => {
            let end = |branch: Branch| {
                let mut body = branch.body;
                body.push(Stmt::Let { to: branch.to, value: branch.result });
                body
            };
            let inside: Vec<Stmt> = std::mem::take(&mut parallel.branches).into_iter().flat_map(end).collect();
            block.splice(at..=at, inside);
        }
        (Cut::Inline, Stmt::Race(race)) => {
            let ends = [(race.to, 1), (race.first, 0)].map(|(to, value)| Stmt::Let { to, value: Expr::Number(value) });
            let inside: Vec<Stmt> = std::mem::take(&mut race.lanes).into_iter().flat_map(|lane| lane.body).chain(ends).collect();
            block.splice(at..=at, inside);
        }
        (Cut::Plain, Stmt::Race(race)) => {
            if race.lanes.len() > 2 {
                race.lanes.pop();
            } else if !std::mem::take(&mut race.caught) && race.id.take().is_none() {
                return std::mem::take(&mut race.named);
            }
        }
        (Cut::Plain, Stmt::Parallel(parallel)) => {
            if parallel.branches.len() > 2 {
                parallel.branches.pop();
            } else if parallel.limit.take().is_none() && !std::mem::take(&mut parallel.settle) {
                return std::mem::take(&mut parallel.named);
            }
        }
        (Cut::Plain, Stmt::Wait(wait)) => return make_plain_wait(wait),
        (Cut::Plain, Stmt::Send { events }) if events.len() > 1 => events.truncate(1),
        (Cut::Plain, Stmt::Invoke(invoke)) if invoke.seconds.is_some_and(|seconds| seconds > 1) => invoke.seconds = Some(1),
        (Cut::Plain, Stmt::Step(step)) => return make_plain(step),
        (Cut::Plain, Stmt::Sleep { seconds, .. }) if *seconds > 1 => *seconds = 1,
        (Cut::Plain, Stmt::Let { value, .. }) if !matches!(value, Expr::Number(_)) => *value = Expr::Number(1),
        _ => return false,
    }
    true
}

/// Takes one thing after the other off a step, so that what matters stays.
fn make_plain(step: &mut Step) -> bool {
    if step.timeout.take().is_some() {
    } else if step.takes_ms > 0 {
        step.takes_ms = 0;
    } else if step.caught != Caught::No {
        step.caught = Caught::No;
    } else if step.breaks > 0 {
        step.breaks = 0;
    } else if step.retries.take().is_some() {
    } else if step.shape != Shape::Number {
        step.shape = Shape::Number;
    } else if !matches!(step.value, Expr::Number(_)) {
        step.value = Expr::Number(1);
    } else {
        return false;
    }
    true
}

fn make_plain_wait(wait: &mut Wait) -> bool {
    if let On::Events(events) = &mut wait.on {
        if events.len() > 1 {
            events.pop();
            return true;
        }
        if std::mem::replace(&mut events[0].1, Match::Any) != Match::Any {
            return true;
        }
    }
    if wait.seconds.is_some_and(|seconds| seconds > 1) {
        wait.seconds = Some(1);
        return true;
    }
    false
}

/// The program without invocations of a function.
pub fn without_invoke(program: &Program, function: &str) -> Program {
    fn clear(block: &mut Vec<Stmt>, function: &str) {
        block.retain(|stmt| !matches!(stmt, Stmt::Invoke(invoke) if invoke.function == function));
        for stmt in block {
            match stmt {
                Stmt::Parallel(parallel) => parallel.branches.iter_mut().for_each(|branch| clear(&mut branch.body, function)),
                Stmt::Race(race) => race.lanes.iter_mut().for_each(|lane| clear(&mut lane.body, function)),
                _ => {}
            }
        }
    }
    let mut smaller = program.clone();
    clear(&mut smaller.body, function);
    repaired(smaller)
}

/// The program without helpers that nobody calls, and with every variable declared before its use.
fn repaired(mut program: Program) -> Program {
    let used: Vec<bool> = (0..program.helpers.len()).map(|helper| calls(&program.body, helper)).collect();
    let numbers: Vec<usize> = used.iter().scan(0, |next, used| Some(std::mem::replace(next, *next + usize::from(*used)))).collect();
    renumber(&mut program.body, &numbers);
    let mut keep = used.into_iter();
    program.helpers.retain(|_| keep.next().unwrap_or(true));
    for helper in &mut program.helpers {
        let mut known = vec![helper.parameter];
        repair(&mut helper.body, &mut known);
        repair_expr(&mut helper.result, &known);
    }
    let mut known = Vec::new();
    repair(&mut program.body, &mut known);
    program.result.retain(|variable| known.contains(variable));
    // Two pieces of code that throw need a record between them: their attempts are one account.
    let mut recorded = true;
    program.body.retain(|stmt| match stmt {
        Stmt::Flaky { .. } => std::mem::replace(&mut recorded, false),
        Stmt::Step(_) | Stmt::Sleep { .. } => {
            recorded = true;
            true
        }
        _ => true,
    });
    program
}

fn calls(block: &[Stmt], helper: usize) -> bool {
    block.iter().any(|stmt| match stmt {
        Stmt::Call { helper: called, .. } => *called == helper,
        Stmt::If { then, other, .. } => calls(then, helper) || calls(other, helper),
        Stmt::For { body, .. } => calls(body, helper),
        Stmt::Parallel(parallel) => parallel.branches.iter().any(|branch| calls(&branch.body, helper)),
        Stmt::Race(race) => race.lanes.iter().any(|lane| calls(&lane.body, helper)),
        _ => false,
    })
}

fn renumber(block: &mut [Stmt], numbers: &[usize]) {
    for stmt in block {
        match stmt {
            Stmt::Call { helper, .. } => *helper = numbers[*helper],
            Stmt::If { then, other, .. } => {
                renumber(then, numbers);
                renumber(other, numbers);
            }
            Stmt::For { body, .. } => renumber(body, numbers),
            Stmt::Parallel(parallel) => parallel.branches.iter_mut().for_each(|branch| renumber(&mut branch.body, numbers)),
            Stmt::Race(race) => race.lanes.iter_mut().for_each(|lane| renumber(&mut lane.body, numbers)),
            _ => {}
        }
    }
}

fn repair(block: &mut [Stmt], known: &mut Vec<u32>) {
    for stmt in block {
        match stmt {
            Stmt::Let { to, value } => {
                repair_expr(value, known);
                repair_target(to, known);
            }
            Stmt::Step(step) => {
                repair_expr(&mut step.value, known);
                repair_target(&mut step.to, known);
            }
            Stmt::Call { to, argument, .. } => {
                repair_expr(argument, known);
                repair_target(to, known);
            }
            Stmt::If { test, then, other } => {
                repair_expr(test, known);
                repair(then, &mut known.clone());
                repair(other, &mut known.clone());
            }
            Stmt::For { body, .. } => repair(body, &mut known.clone()),
            Stmt::Wait(wait) => repair_target(&mut wait.to, known),
            Stmt::Invoke(invoke) => {
                repair_expr(&mut invoke.data.n, known);
                repair_target(&mut invoke.to, known);
            }
            Stmt::Send { events } => events.iter_mut().for_each(|(_, data)| repair_expr(&mut data.n, known)),
            Stmt::Signal { value, .. } => repair_expr(value, known),
            Stmt::Parallel(parallel) => {
                for branch in &mut parallel.branches {
                    let mut inside = known.clone();
                    repair(&mut branch.body, &mut inside);
                    repair_expr(&mut branch.result, &inside);
                }
                parallel.branches.iter_mut().for_each(|branch| repair_target(&mut branch.to, known));
            }
            Stmt::Race(race) => {
                for lane in &mut race.lanes {
                    let mut inside = known.clone();
                    repair(&mut lane.body, &mut inside);
                    repair_expr(&mut lane.result, &inside);
                }
                repair_target(&mut race.to, known);
                repair_target(&mut race.first, known);
            }
            Stmt::Sleep { .. } | Stmt::Tiny { .. } | Stmt::Flaky { .. } | Stmt::Fail { .. } => {}
        }
    }
}

fn repair_target(to: &mut Target, known: &mut Vec<u32>) {
    let (Target::New(variable) | Target::Old(variable)) = *to;
    if known.contains(&variable) {
        *to = Target::Old(variable);
    } else {
        *to = Target::New(variable);
        known.push(variable);
    }
}

fn repair_expr(value: &mut Expr, known: &[u32]) {
    match value {
        Expr::Variable(variable) if !known.contains(variable) => *value = Expr::Number(1),
        Expr::Mix(left, right) => {
            repair_expr(left, known);
            repair_expr(right, known);
        }
        _ => {}
    }
}
