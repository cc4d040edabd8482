//! What the queue costs, counted in looks at places in line: it may grow with the logarithm of how many stand there, and no faster.

use super::*;
use crate::base::looks::looks_of;
use crate::base::{Id, Span};

const FEW: i64 = 1_000;
const MANY: i64 = 10 * FEW;
/// Ten times as many may cost so many times as much for all of them together. By the logarithm it is some 13 times, and what walks along
/// the line for each of them takes a hundred.
const MOST: u64 = 20;

fn want(scope: &str, key: &str) -> Want {
    Want { scope: scope.into(), key: key.into(), limit: 1, hold: Hold::Run, throttle: None }
}

/// The numbers below `count`, in an order that is none.
fn mixed(count: i64) -> impl Iterator<Item = i64> {
    (0..count).map(move |n| n * 617 % count)
}

fn order(run: i64) -> Order {
    Order { fresh: true, enter_ms: run, run: Id(run) }
}

/// As many runs as that, each of which wants what `wants` says.
fn filled(count: i64, wants: impl Fn(i64) -> Vec<Want>) -> Queue {
    let mut queue = Queue::default();
    queue.advance(Millis(1_000));
    mixed(count).for_each(|run| queue.push(order(run), &wants(run)));
    queue
}

/// Holds what many cost against what few do.
fn grows_slowly(what: &str, cost: impl Fn(i64) -> u64) {
    let (few, many) = (cost(FEW), cost(MANY));
    assert!(few > 0, "{what}: nothing was counted");
    assert!(many <= few * MOST, "{what}: {few} looks for {FEW} runs, and {many} for {MANY}");
}

fn one_key(_: i64) -> Vec<Want> {
    vec![want("f", "a")]
}

/// A key for each, and one that all have.
fn many_keys(run: i64) -> Vec<Want> {
    vec![want("f", &run.to_string()), want("all", "null")]
}

#[test]
fn a_run_joins_a_long_line_as_a_short_one() {
    for wants in [one_key, many_keys] {
        grows_slowly("joining", |count| {
            looks_of(|| {
                filled(count, wants);
            })
        });
    }
}

#[test]
fn a_run_is_let_in_from_a_long_line_as_from_a_short_one() {
    for wants in [one_key, many_keys] {
        grows_slowly("letting in", |count| {
            let mut queue = filled(count, wants);
            looks_of(|| {
                for run in 0..count {
                    assert_eq!(queue.admit(9), [Id(run)]);
                    queue.remove(Id(run));
                }
            })
        });
    }
}

#[test]
fn a_run_leaves_a_long_line_as_a_short_one() {
    for wants in [one_key, many_keys] {
        grows_slowly("leaving", |count| {
            let mut queue = filled(count, wants);
            looks_of(|| {
                for run in mixed(count) {
                    queue.remove(Id(run));
                }
                assert_eq!(queue.queued(), 0);
            })
        });
    }
}

#[test]
fn a_start_of_a_throttle_goes_to_a_long_line_as_to_a_short_one() {
    let rule = Throttle { limit: 1, period: Span(50), burst: 0 };
    grows_slowly("a start", |count| {
        let mut queue = filled(count, |run| vec![want("f", &run.to_string()), Want::start("f", &"null".into(), rule)]);
        looks_of(|| {
            for run in 0..count {
                queue.advance(Millis(1_000 + 50 * run));
                assert_eq!(queue.admit(9), [Id(run)]);
                queue.remove(Id(run));
            }
        })
    });
}

#[test]
fn the_places_of_many_throttled_runs_are_found_in_one_walk() {
    let rule = Throttle { limit: 1, period: Span(50), burst: 0 };
    let mut queue = filled(MANY, |_| vec![Want::start("f", &"null".into(), rule)]);
    assert_eq!(queue.admit(9).len(), 1);
    let asked: Vec<RunId> = mixed(MANY).filter(|run| run % 50 == 7).map(Id).collect();
    let cost = |runs: &[RunId]| looks_of(|| assert_eq!(queue.blocked(runs).len(), runs.len()));
    let (one, all) = (cost(&asked[..1]), cost(&asked));
    assert!(all <= one * MOST, "{one} looks for one of {MANY} runs, and {all} for {} of them", asked.len());
}

#[test]
fn a_function_is_held_without_a_look_at_those_who_wait_for_slots_of_another() {
    let rule = Throttle { limit: 1, period: Span(50), burst: 0 };
    let limited = || vec![want("f#0", "a")];
    let throttled = || vec![want("shared s", "a"), Want::start("f", &"null".into(), rule)];
    for wants in [&limited as &dyn Fn() -> Vec<Want>, &throttled] {
        let cost = |others: i64| {
            let mut queue = filled(others, |_| wants());
            queue.push(order(others), &[want("g#0", "a")]);
            looks_of(|| assert_eq!(queue.take_out(|function| function == "g", |_| true).len(), 1))
        };
        assert_eq!(cost(FEW), cost(MANY), "looks for {FEW} runs of another function, and for {MANY}");
    }
}
