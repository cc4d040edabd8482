//! Programs whose script lies deeper than a handler may: their calculations are made short, and what they do stays.

use super::{Expr, Program, Stmt};
use crate::simulation::print;

/// Brackets in brackets from which on a script is made shallow. Rhai counts some three levels for each, and `script::engine` allows 64.
const DEEP: usize = 17;

/// Makes the versions of a program shallow if one of them lies too deep.
pub fn shallow(versions: &mut [Program]) {
    if versions.iter().any(|program| depth(&print::script(program)) > DEEP) {
        for program in versions {
            program.helpers.iter_mut().for_each(|helper| {
                flatten(&mut helper.body);
                shorten(&mut helper.result);
            });
            flatten(&mut program.body);
        }
    }
}

fn depth(script: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for letter in script.chars() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

fn flatten(block: &mut [Stmt]) {
    for stmt in block {
        match stmt {
            Stmt::Let { value, .. } | Stmt::Signal { value, .. } => shorten(value),
            Stmt::Step(step) => shorten(&mut step.value),
            Stmt::Call { argument, .. } => shorten(argument),
            Stmt::If { test, then, other } => {
                shorten(test);
                flatten(then);
                flatten(other);
            }
            Stmt::For { body, .. } => flatten(body),
            Stmt::Invoke(invoke) => shorten(&mut invoke.data.n),
            Stmt::Send { events } => events.iter_mut().for_each(|(_, data)| shorten(&mut data.n)),
            Stmt::Parallel(parallel) => parallel.branches.iter_mut().for_each(|branch| {
                flatten(&mut branch.body);
                shorten(&mut branch.result);
            }),
            Stmt::Race(race) => race.lanes.iter_mut().for_each(|lane| {
                flatten(&mut lane.body);
                shorten(&mut lane.result);
            }),
            Stmt::Wait(_) | Stmt::Sleep { .. } | Stmt::Tiny { .. } | Stmt::Flaky { .. } | Stmt::Fail { .. } => {}
        }
    }
}

/// What stands leftmost in it.
fn shorten(value: &mut Expr) {
    while let Expr::Mix(left, _) = value {
        *value = (**left).clone();
    }
}
