//! Worlds without one thing that the model knows of: what it says of them shows whether that thing matters.

use super::world::{Act, Collect, Event, Function, Limit, Missed, NEVER, World};

/// Takes something out of a world.
pub type Without = fn(&mut World);

/// All that the model knows of.
pub const ALL: [(&str, Without); 41] = [
    ("an `if`", |world| functions(world, |one| one.below = None)),
    ("idempotency", |world| functions(world, |one| one.idempotency = None)),
    ("a rate limit", |world| functions(world, |one| one.rate_limit = None)),
    ("a rate limit's key", |world| functions(world, |one| one.rate_limit.iter_mut().for_each(|rate| rate.key = None))),
    ("a throttle", |world| functions(world, |one| one.throttle = None)),
    ("a throttle's key", |world| functions(world, |one| one.throttle.iter_mut().for_each(|(rate, _)| rate.key = None))),
    ("a throttle's burst", |world| functions(world, |one| one.throttle.iter_mut().for_each(|(_, burst)| *burst = 0))),
    ("a debounce", |world| functions(world, |one| one.collect = one.collect.filter(|collect| collect.size.is_some()))),
    ("a debounce's time-out", |world| debounces(world, |debounce| debounce.timeout = NEVER)),
    ("a debounce's key", |world| debounces(world, |debounce| debounce.key = None)),
    ("a batch", |world| functions(world, |one| one.collect = one.collect.filter(|collect| collect.size.is_none()))),
    ("a batch's size", |world| batches(world, |batch| batch.size = Some(usize::MAX))),
    ("a batch's time-out", |world| batches(world, |batch| (batch.quiet, batch.timeout) = (NEVER / 1_000, NEVER / 1_000))),
    ("a batch's key", |world| batches(world, |batch| batch.key = None)),
    ("a batch's `if`", |world| batches(world, |batch| batch.below = None)),
    ("a singleton", |world| functions(world, |one| one.singleton = None)),
    ("a singleton that cancels", |world| functions(world, |one| one.singleton.iter_mut().for_each(|(cancels, _)| *cancels = false))),
    ("a singleton that skips", |world| functions(world, |one| one.singleton.iter_mut().for_each(|(cancels, _)| *cancels = true))),
    ("a singleton's key", |world| functions(world, |one| one.singleton.iter_mut().for_each(|(_, key)| *key = None))),
    ("concurrency", |world| functions(world, |one| one.limits.clear())),
    ("a limit's key", |world| limits(world, |limit| limit.key = None)),
    ("hold: active", |world| limits(world, |limit| limit.holds = true)),
    ("hold: run", |world| limits(world, |limit| limit.holds = false)),
    ("a shared limit", |world| limits(world, |limit| limit.shared = false)),
    ("priority", |world| functions(world, |one| one.priority = false)),
    ("timeouts.start", |world| functions(world, |one| one.start_timeout = None)),
    ("timeouts.finish", |world| functions(world, |one| one.finish_timeout = None)),
    ("attempts", |world| functions(world, |one| one.retries.0 = 1)),
    ("a wait between attempts", |world| functions(world, |one| one.retries.1 = 1)),
    ("on_failure", |world| functions(world, |one| one.on_failure = false)),
    ("cancel_on", |world| functions(world, |one| one.cancel_on = None)),
    ("cancel_on's time-out", |world| functions(world, |one| one.listens = NEVER)),
    ("a start by the clock", |world| functions(world, |one| one.clocks.clear())),
    ("a second schedule", |world| functions(world, |one| one.clocks.truncate(1))),
    ("a missed start", |world| functions(world, |one| one.clocks.iter_mut().for_each(|clock| clock.missed = Missed::Skip))),
    ("an invocation", |world| functions(world, |one| one.invokes = None)),
    ("an event's time", |world| events(world, |event| event.ts = None)),
    ("an event's id", |world| events(world, |event| event.id = None)),
    ("a cancel", |world| world.acts.retain(|(_, act)| !matches!(act, Act::Cancel(..)))),
    ("a pause", |world| world.acts.retain(|(_, act)| !matches!(act, Act::Pause(..)))),
    ("a kill", |world| world.acts.retain(|(_, act)| !matches!(act, Act::Kill))),
];

fn functions(world: &mut World, change: impl Fn(&mut Function)) {
    world.functions.iter_mut().for_each(change);
}

fn limits(world: &mut World, change: impl Fn(&mut Limit)) {
    functions(world, |one| one.limits.iter_mut().for_each(&change));
}

fn debounces(world: &mut World, change: impl Fn(&mut Collect)) {
    functions(world, |one| one.collect.iter_mut().filter(|collect| collect.size.is_none()).for_each(&change));
}

fn batches(world: &mut World, change: impl Fn(&mut Collect)) {
    functions(world, |one| one.collect.iter_mut().filter(|collect| collect.size.is_some()).for_each(&change));
}

fn events(world: &mut World, change: impl Fn(&mut Event)) {
    for (_, act) in &mut world.acts {
        if let Act::Send(events) = act {
            events.iter_mut().for_each(&change);
        }
    }
}
