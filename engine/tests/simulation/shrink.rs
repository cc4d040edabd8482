//! Looks for the shortest plan that still breaks the same promise: takes one thing after the other away and lets the world
//! pass again. What is left is short enough to be read.

use stepwell::rules::Hold;

use super::edit::{self, CUTS};
use super::plan::{Backoff, Function, Plan, gates};
use super::program::Program;
use super::world::{self, NO_PROJECT, Outcome};

/// What a trouble begins with that is a panic.
const PANIC: &str = "panic: ";
/// Words of a panic by which it is known.
const WORDS: usize = 12;

/// What was looked for, and found.
pub struct Shrunk {
    pub plan: Plan,
    pub trouble: String,
    pub trace: Vec<String>,
    /// Worlds that were tried.
    pub tried: usize,
}

/// Shrinks a plan that comes to this trouble, trying so many worlds at most.
pub fn shrink(plan: &Plan, trouble: &str, most: usize) -> Shrunk {
    let mut found = Shrunk { plan: plan.clone(), trouble: trouble.to_owned(), trace: Vec::new(), tried: 0 };
    loop {
        let mut better = false;
        let mut number = 0;
        // A candidate that is as bad takes the plan's place, and the next one is the one that now stands where it stood.
        while found.tried < most {
            let Some(candidate) = candidate(&found.plan, number) else { break };
            let Some(candidate) = candidate else {
                number += 1;
                continue;
            };
            found.tried += 1;
            match fails(candidate.clone(), trouble) {
                Some((trouble, trace)) => {
                    (found.plan, found.trouble, found.trace) = (candidate, trouble, trace);
                    better = true;
                }
                None => number += 1,
            }
        }
        if !better || found.tried >= most {
            return found;
        }
    }
}

/// Few of these that fail still: leaves them out in halves, then in smaller and smaller pieces, and in the end one by one.
pub fn fewest<T: Clone>(all: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let (mut left, mut piece) = (all.to_vec(), all.len().div_ceil(2));
    while piece > 0 {
        let mut at = 0;
        while at < left.len() {
            let end = (at + piece).min(left.len());
            let rest = [&left[..at], &left[end..]].concat();
            if fails(&rest) {
                left = rest;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    left
}

/// The trouble of a world, if it is of the same kind, and its story.
fn fails(plan: Plan, trouble: &str) -> Option<(String, Vec<String>)> {
    let outcome = outcome(plan);
    outcome.trouble.filter(|found| is_alike(found, trouble)).map(|found| (found, outcome.trace))
}

/// What a world comes to; the panic of an engine is a trouble as well.
pub fn outcome(plan: Plan) -> Outcome {
    std::panic::catch_unwind(|| world::run(plan)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Outcome { trouble: Some(format!("{PANIC}{}", said.unwrap_or_default())), ..Outcome::default() }
    })
}

/// A plan that is shorter by one thing and comes to a trouble of the same kind; none where there is none.
pub fn shorter(plan: &Plan, trouble: &str) -> Option<Plan> {
    let mut candidates = (0..).map_while(|number| candidate(plan, number)).flatten();
    candidates.find(|candidate| fails(candidate.clone(), trouble).is_some())
}

/// Whether what was found is what was looked for. A plan whose project does not load shows nothing of the engine, whatever was looked for.
fn is_alike(found: &str, trouble: &str) -> bool {
    let is_none = found.strip_prefix(PANIC).is_some_and(|said| said.starts_with(NO_PROJECT));
    !is_none && kind(found) == kind(trouble)
}

/// The promise that a trouble names, how a panic begins, or the words of a trouble without ids, keys and numbers.
fn kind(trouble: &str) -> String {
    if let Some(said) = trouble.strip_prefix(PANIC) {
        // Numbers and ids are others each time.
        let word = |word: &str| if word.contains(|letter: char| letter.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
        let words: Vec<String> = said.lines().next().unwrap_or_default().split(' ').take(WORDS).map(word).collect();
        return format!("{PANIC}{}", words.join(" "));
    }
    match trouble.split_once(':') {
        Some((promise, _)) if promise.starts_with(['I', 'G', 'W', 'P']) && promise.len() < 6 => promise.to_owned(),
        _ => trouble.split(' ').filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase())).collect::<Vec<_>>().join(" "),
    }
}

/// The n-th way to make a plan smaller: `None` where there are no more, `Some(None)` where this one changes nothing.
fn candidate(plan: &Plan, number: usize) -> Option<Option<Plan>> {
    let mut left = number;
    for (count, make) in ways(plan) {
        if left < count {
            return Some(make(plan, left));
        }
        left -= count;
    }
    None
}

type Make = fn(&Plan, usize) -> Option<Plan>;

/// Kinds of ways, the large ones first, each with how many of it there are.
fn ways(plan: &Plan) -> Vec<(usize, Make)> {
    let statements: usize = programs(plan).iter().map(|(function, version)| plan.functions[*function].versions[*version].size()).sum();
    vec![
        (plan.requests.len().div_ceil(2), |plan, at| {
            without(plan, |plan| {
                let few = plan.requests.len() > 3;
                few.then(|| drop(plan.requests.drain(at * 2..(at * 2 + 2).min(plan.requests.len()))))
            })
        }),
        (plan.functions.len(), |plan, at| (plan.functions.len() > 1).then(|| without(plan, |plan| without_function(plan, at)))?),
        (plan.requests.len(), |plan, at| without(plan, |plan| removed(&mut plan.requests, at))),
        (plan.deaths.len(), |plan, at| without(plan, |plan| removed(&mut plan.deaths, at))),
        (1, |plan, _| without(plan, |plan| (!plan.cancels.is_empty()).then(|| plan.cancels.clear()))),
        (1, |plan, _| without(plan, |plan| (!plan.signals.is_empty()).then(|| plan.signals.clear()))),
        (1, |plan, _| without(plan, |plan| (!plan.jumps.is_empty()).then(|| plan.jumps.clear()))),
        (1, |plan, _| without(plan, |plan| (!plan.reloads.is_empty()).then(|| plan.reloads.clear()))),
        (CALMS, calmer),
        (plan.functions.len() * FUNCTION_WAYS, |plan, at| {
            without(plan, |plan| simpler(&mut plan.functions[at / FUNCTION_WAYS], at % FUNCTION_WAYS))
        }),
        (statements * CUTS.len(), |plan, at| {
            let (mut number, how) = (at / CUTS.len(), CUTS[at % CUTS.len()]);
            for (function, version) in programs(plan) {
                let program: &Program = &plan.functions[function].versions[version];
                if number < program.size() {
                    let smaller = edit::cut(program, number, how)?;
                    return without(plan, |plan| {
                        plan.functions[function].versions[version] = smaller;
                        Some(())
                    });
                }
                number -= program.size();
            }
            None
        }),
        (plan.requests.len() * REQUEST_WAYS, |plan, at| {
            without(plan, |plan| {
                let request = &mut plan.requests[at / REQUEST_WAYS];
                match at % REQUEST_WAYS {
                    0 => request.again_ms.pop().map(drop),
                    1 => (request.events.len() > 1).then(|| drop(request.events.pop())),
                    2 => (request.events.len() > 1).then(|| drop(request.events.remove(0))),
                    3 => request.events.iter_mut().filter_map(|event| event.later_ms.take()).last().map(drop),
                    _ => (request.at_ms > 0).then(|| request.at_ms = 0),
                }
            })
        }),
        (plan.cancels.len(), |plan, at| without(plan, |plan| removed(&mut plan.cancels, at))),
        (plan.pauses.len(), |plan, at| without(plan, |plan| removed(&mut plan.pauses, at))),
        (plan.retries.len(), |plan, at| without(plan, |plan| removed(&mut plan.retries, at))),
        (plan.signals.len(), |plan, at| without(plan, |plan| removed(&mut plan.signals, at))),
        (1, |plan, _| {
            without(plan, |plan| {
                let programs = plan.functions.iter_mut().flat_map(|function| function.versions.iter_mut());
                programs.fold(false, |counted, program| std::mem::take(&mut program.counts) | counted).then_some(())
            })
        }),
        (1, |plan, _| {
            without(plan, |plan| {
                let programs = plan.functions.iter_mut().flat_map(|function| function.versions.iter_mut());
                programs.fold(false, |has_lines, program| std::mem::take(&mut program.lines) | has_lines).then_some(())
            })
        }),
        (plan.replays.len(), |plan, at| without(plan, |plan| removed(&mut plan.replays, at))),
        (plan.migrates.len(), |plan, at| without(plan, |plan| removed(&mut plan.migrates, at))),
        (plan.calls.len(), |plan, at| without(plan, |plan| removed(&mut plan.calls, at))),
        (plan.reloads.len(), |plan, at| without(plan, |plan| removed(&mut plan.reloads, at))),
        (plan.jumps.len(), |plan, at| without(plan, |plan| removed(&mut plan.jumps, at))),
        (plan.deaths.len() * DEATH_WAYS, |plan, at| {
            without(plan, |plan| {
                let death = &mut plan.deaths[at / DEATH_WAYS];
                match at % DEATH_WAYS {
                    0 => std::mem::take(&mut death.edited).then_some(()),
                    1 => (std::mem::take(&mut death.jump_ms) != 0).then_some(()),
                    2 => std::mem::take(&mut death.power).then_some(()),
                    _ => (std::mem::take(&mut death.down_ms) != 0).then_some(()),
                }
            })
        }),
    ]
}

const REQUEST_WAYS: usize = 5;
const DEATH_WAYS: usize = 4;
const CALMS: usize = 6;
const FUNCTION_WAYS: usize = 10 + gates::WAYS;

fn removed<T>(from: &mut Vec<T>, at: usize) -> Option<()> {
    from.remove(at);
    Some(())
}

/// Takes a function away, with what invokes it.
fn without_function(plan: &mut Plan, at: usize) -> Option<()> {
    let gone = plan.functions.remove(at);
    plan.pauses.retain(|pause| pause.function != at);
    plan.pauses.iter_mut().for_each(|pause| pause.function -= usize::from(pause.function > at));
    plan.calls.retain(|call| call.function != at);
    plan.calls.iter_mut().for_each(|call| call.function -= usize::from(call.function > at));
    for function in &mut plan.functions {
        function.versions = function.versions.iter().map(|program| edit::without_invoke(program, &gone.id)).collect();
    }
    Some(())
}

/// A copy of the plan that was changed; none where `change` says that there was nothing to do.
fn without(plan: &Plan, change: impl FnOnce(&mut Plan) -> Option<()>) -> Option<Plan> {
    let mut smaller = plan.clone();
    change(&mut smaller).map(|()| smaller)
}

/// Every program, by function and version.
fn programs(plan: &Plan) -> Vec<(usize, usize)> {
    let versions =
        |(number, function): (usize, &Function)| (0..function.versions.len()).map(move |version| (number, version)).collect::<Vec<_>>();
    plan.functions.iter().enumerate().flat_map(versions).collect()
}

/// A disk and a clock that give less trouble.
fn calmer(plan: &Plan, at: usize) -> Option<Plan> {
    without(plan, |plan| match at {
        0 => (std::mem::take(&mut plan.disk.full) > 0).then_some(()),
        1 => (std::mem::take(&mut plan.disk.slow) > 0).then_some(()),
        2 => (std::mem::take(&mut plan.disk.late) > 0).then_some(()),
        3 => (std::mem::take(&mut plan.wakes.late) > 0).then_some(()),
        4 => plan.kept.take().map(drop),
        _ => (std::mem::take(&mut plan.disk.flush_ms) > 0).then_some(()),
    })
}

/// A function with one option less.
fn simpler(function: &mut Function, at: usize) -> Option<()> {
    match at {
        0 => (function.versions.len() > 1).then(|| drop(function.versions.pop())),
        1 => function.gone_from.take().map(drop),
        2 => (function.on.len() > 1).then(|| function.on.truncate(1)),
        3 => function.limits.pop().map(drop),
        4 => std::mem::take(&mut function.once).then_some(()),
        5 => function.start.take().map(drop),
        6 => function.finish.take().map(drop),
        7 => {
            let fixed = matches!(function.backoff, Backoff::Fixed { .. });
            (!fixed).then(|| function.backoff = Backoff::Fixed { seconds: 1 })
        }
        9 => function.limits_from.take().map(drop),
        at @ 10.. => function.gates.simpler(at - 10),
        _ => {
            let limit = function.limits.iter_mut().find(|limit| limit.hold == Hold::Active)?;
            limit.hold = Hold::Run;
            Some(())
        }
    }
}

#[test]
fn simulation_tells_panics_apart_as_it_shrinks() {
    let alike = |found: &str, trouble: &str| is_alike(&format!("{PANIC}{found}"), &format!("{PANIC}{trouble}"));
    assert!(alike("index out of bounds: the len is 3 but the index is 5", "index out of bounds: the len is 1 but the index is 17"));
    assert!(alike("run 01K9ZQ4T7M2XA is gone\nand more", "run 01K9ZQ4T7M2XB is gone"), "each run has an id of its own");
    assert!(!alike("index out of bounds: the len is 3 but the index is 5", "called `Option::unwrap()` on a `None` value"));
    let broken = format!("{NO_PROJECT}:\nE0102");
    assert!(!alike(&broken, &broken), "such a plan is none");
    assert!(!is_alike("I5: an effect of 01K9ZQ4T7M2XA", "panic: I5: an effect of 01K9ZQ4T7M2XA"));
    assert!(is_alike("I5: an effect of one", "I5: an effect of another") && !is_alike("I5: an effect", "I3: an effect"));
}

#[test]
fn simulation_leaves_out_of_a_list_what_does_not_matter() {
    let numbers: Vec<u32> = (0..20).collect();
    assert_eq!(fewest(&numbers, |some| some.contains(&3) && some.contains(&17)), [3_u32, 17]);
    assert!(fewest(&numbers, |_| true).is_empty());
    assert_eq!(fewest(&numbers, |some| some.len() == 20), numbers);
}
