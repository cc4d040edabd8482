//! `race`: several branches at once, of which the one that ends first counts.
//!
//! What it came to is one record, the last of all that its branches record. From then on a replay gives that, and runs none of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rhai::{Array, Dynamic, Engine, FnPtr, Map, NativeCallContext};
use serde_json::value::RawValue;

use crate::base::diagnostic::nearest;
use crate::base::limits::{BRANCHES_MOST, STEP_RESULT_BYTES};
use crate::base::{Json, Millis, alloc};
use crate::rules::fit::BELOW;
use crate::rules::race::Won;
use crate::rules::row::Recorded;
use crate::rules::run::Outcome;

use super::super::attempt::{Attempt, Body, Found, Halt, Made, Running, current};
use super::super::error::{Fault, Thrown, verdict};
use super::super::value;
use super::demand_between;
use super::group::{self, Group, Part};
use super::steps::check_name;
use super::waits::{check_open, recorded};

/// What it is called in scripts, and the name of its record where it has no `id`.
const NAME: &str = "race";
/// The field of the record that no script sees.
const LEFT: &str = "left";

/// The options of `race`.
pub(super) const OPTIONS: [&str; 1] = ["id"];

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("race", |context: NativeCallContext, branches: Map| of_map(&context, branches, Map::new()));
    engine.register_fn("race", |context: NativeCallContext, branches: Map, options: Map| of_map(&context, branches, options));
    engine.register_fn("race", |context: NativeCallContext, branches: Array| of_array(&context, branches, Map::new()));
    engine.register_fn("race", |context: NativeCallContext, branches: Array, options: Map| of_array(&context, branches, options));
    engine.register_fn("race", |context: NativeCallContext, items: Array, body: FnPtr| of_items(&context, items, &body, Map::new()));
    engine.register_fn("race", |context: NativeCallContext, items: Array, body: FnPtr, options: Map| {
        of_items(&context, items, &body, options)
    });
}

/// The name of the record.
fn id(given: Map) -> Result<String, Fault> {
    let mut id = NAME.to_owned();
    for (name, value) in given {
        if !OPTIONS.contains(&name.as_str()) {
            let near = nearest(&name, OPTIONS);
            let help = near.map_or("race takes id".to_owned(), |near| format!("did you mean `{near}`?"));
            return Err(Thrown::last("E0407", format!("race has no option `{name}`")).help(help).fault());
        }
        let Ok(text) = value.into_immutable_string() else {
            return Err(Thrown::last("E0407", "the option `id` of race is a text").fault());
        };
        id = text.to_string();
    }
    Ok(id)
}

fn of_map(context: &NativeCallContext<'_>, branches: Map, given: Map) -> Result<Dynamic, Fault> {
    let parts = group::of_map(&*current()?, NAME, branches)?;
    run(context, parts, true, &id(given)?)
}

fn of_array(context: &NativeCallContext<'_>, branches: Array, given: Map) -> Result<Dynamic, Fault> {
    run(context, group::of_array(NAME, branches)?, false, &id(given)?)
}

fn of_items(context: &NativeCallContext<'_>, items: Array, body: &FnPtr, given: Map) -> Result<Dynamic, Fault> {
    run(context, group::of_items(items, body), false, &id(given)?)
}

/// Runs the branches until one has ended, unless that is recorded; `named` says that they have names.
fn run(context: &NativeCallContext<'_>, parts: Vec<Part>, named: bool, id: &str) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, NAME)?;
    check_name(&attempt, id)?;
    if parts.is_empty() || parts.len() > BRANCHES_MOST {
        return Err(Thrown::last("E0407", format!("race takes 1 to {BRANCHES_MOST} branches")).fault());
    }
    let key = match attempt.ask_race(id)? {
        Found::Recorded(result) => return seen(&attempt, result),
        Found::New(key) => key,
    };
    // What was drawn before the branches must not be lost behind what they do.
    attempt.commit_records()?;
    let began = attempt.began_below(&key);
    let names: Vec<String> = parts.iter().map(|(name, ..)| name.clone()).collect();
    let count = parts.len();
    let group = Group::new(context, &attempt, (NAME, Some(&*key)), parts, count);
    let race = RefCell::new(Race { group, first: None, left: Vec::new() });
    attempt.waits_for_branches(true);
    let ended = attempt.wait(std::future::poll_fn(|context| race.borrow_mut().poll(context)));
    attempt.waits_for_branches(false);
    let Race { group, first, left } = race.into_inner();
    let (Some((first, came)), Ok(Ok(()))) = (first, &ended) else {
        // Nobody has ended, so some wait, or the run has to end: then the script does.
        group.end(ended)?;
        return Err(attempt.halt(Halt::Stop(Outcome::Interrupted)));
    };
    let body = group.take_first(first, &left);
    attempt.demand_all_asked(&key)?;
    let result = outcome(&attempt, &key, body, &names, first, named);
    let made = Made { attempts: 1, started: began, line: attempt.line_of(context) };
    attempt.end_race(key, result.clone(), made, came)?;
    seen(&attempt, result)
}

/// What the script gets of the record.
fn seen(attempt: &Attempt, result: Recorded) -> Result<Dynamic, Fault> {
    let mut value = recorded(attempt, result)?;
    if let Some(mut map) = value.write_lock::<Map>() {
        map.remove(LEFT);
    }
    Ok(value)
}

/// The record of a race that this branch has ended first.
fn outcome(attempt: &Attempt, key: &str, body: Body, names: &[String], first: usize, named: bool) -> Recorded {
    let name = &names[first];
    match body.and_then(|value| won(attempt, &value, names, first, named)) {
        Ok(json) => Recorded::Value(json),
        Err(fault) => {
            let verdict = attempt.hidden(verdict(&fault, attempt.program.main()));
            let mut failure = verdict.failure;
            if verdict.step.is_none() {
                failure.step = Some(format!("{key}{BELOW}{name}"));
                failure.attempts = Some(1);
            }
            Recorded::Failed(alloc::uncounted(|| Arc::new(failure)))
        }
    }
}

/// The JSON of the record of a branch that gave a value.
fn won(attempt: &Attempt, value: &Dynamic, names: &[String], first: usize, named: bool) -> Result<Json, Fault> {
    let name = &names[first];
    let text = value::write(value, format_args!("what branch `{name}` of race gives"), STEP_RESULT_BYTES)?;
    check_open(attempt, [&text], "what a branch of race gives")?;
    let unreadable =
        |error: serde_json::Error| Thrown::last("E0404", format!("what branch `{name}` of race gives is not JSON: {error}")).fault();
    let won = Won {
        name: named.then(|| name.clone()),
        index: (!named).then_some(first),
        value: RawValue::from_string(text).map_err(unreadable)?,
        left: names.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, name)| name.clone()).collect(),
    };
    let json = serde_json::to_string(&won).map_err(unreadable)?;
    // It goes to the store and outlives the script, so it is not the script's.
    Ok(alloc::uncounted(|| Json::from(json.as_str())))
}

/// A race under way.
struct Race<'a> {
    group: Group<'a>,
    /// The branch that ended first, and when.
    first: Option<(usize, Millis)>,
    /// Branches that were at work then, with their own.
    left: Vec<Rc<Running>>,
}

impl Race<'_> {
    /// Ready when a branch has ended and the others have, too; when none can go on by itself any more; or when the run has to end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Halt>> {
        loop {
            if self.first.is_some() {
                let has_left = self.left.iter().all(|running| running.has_ended());
                return if has_left { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if let Err(halt) = self.group.advance() {
                return Poll::Ready(Err(halt));
            }
            let is_behind = self.group.is_behind();
            let first = if is_behind { None } else { self.group.first() };
            self.group.let_begin(!is_behind && first.is_none());
            if first.is_none() && !self.group.is_under_way() {
                return Poll::Ready(Ok(()));
            }
            if is_behind {
                // One that got no stack tries again when its time has come.
                if self.group.wake_due(context) {
                    continue;
                }
                return Poll::Pending;
            }
            match self.group.hear() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(halt) => return Poll::Ready(Err(halt)),
            }
            if let Some((at, _)) = first {
                // One whose time is over may have ended before.
                if !self.group.wake_overdue() {
                    self.left = self.group.leave(at);
                    self.first = first;
                }
            } else if !self.group.wake_due(context) {
                return Poll::Pending;
            }
        }
    }
}
