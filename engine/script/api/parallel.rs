//! `parallel`: several branches at once, each with records of its own.

use std::cell::RefCell;

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext};

use crate::base::diagnostic::nearest;
use crate::base::limits::{BRANCHES_DEFAULT, BRANCHES_MOST};

use super::super::attempt::{Body, current};
use super::super::error::{Fault, Thrown, verdict};
use super::demand_between;
use super::group::{self, Group, Part};

/// What it is called in scripts.
const NAME: &str = "parallel";

/// The options of `parallel`.
pub(super) const OPTIONS: [&str; 2] = ["limit", "settle"];

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("parallel", |context: NativeCallContext, branches: Map| of_map(&context, branches, Map::new()));
    engine.register_fn("parallel", |context: NativeCallContext, branches: Map, options: Map| of_map(&context, branches, options));
    engine.register_fn("parallel", |context: NativeCallContext, branches: Array| of_array(&context, branches, Map::new()));
    engine.register_fn("parallel", |context: NativeCallContext, branches: Array, options: Map| of_array(&context, branches, options));
    engine.register_fn("parallel", |context: NativeCallContext, items: Array, body: FnPtr| of_items(&context, items, &body, Map::new()));
    engine.register_fn("parallel", |context: NativeCallContext, items: Array, body: FnPtr, options: Map| {
        of_items(&context, items, &body, options)
    });
}

#[derive(Debug, Clone, Copy)]
struct Options {
    /// Branches under way at once, suspended ones included.
    limit: usize,
    settle: bool,
}

fn options(given: Map) -> Result<Options, Fault> {
    let mut options = Options { limit: BRANCHES_DEFAULT, settle: false };
    for (name, value) in given {
        match (name.as_str(), value.as_int(), value.as_bool()) {
            ("limit", Ok(limit), _) if (1..=BRANCHES_MOST as i64).contains(&limit) => options.limit = limit as usize,
            ("settle", _, Ok(settle)) => options.settle = settle,
            ("limit", ..) => return Err(Thrown::last("E0407", format!("limit is a whole number from 1 to {BRANCHES_MOST}")).fault()),
            ("settle", ..) => return Err(Thrown::last("E0407", "settle is true or false").fault()),
            (other, ..) => {
                let near = nearest(other, OPTIONS);
                let help = near.map_or("parallel takes limit and settle".to_owned(), |near| format!("did you mean `{near}`?"));
                return Err(Thrown::last("E0407", format!("parallel has no option `{other}`")).help(help).fault());
            }
        }
    }
    Ok(options)
}

fn of_map(context: &NativeCallContext<'_>, branches: Map, given: Map) -> Result<Dynamic, Fault> {
    let parts = group::of_map(&*current()?, NAME, branches)?;
    let names: Vec<String> = parts.iter().map(|(name, ..)| name.clone()).collect();
    let results = run_all(context, parts, options(given)?)?;
    Ok(names.into_iter().map(Into::into).zip(results).collect::<Map>().into())
}

fn of_array(context: &NativeCallContext<'_>, branches: Array, given: Map) -> Result<Dynamic, Fault> {
    let parts = group::of_array(NAME, branches)?;
    Ok(run_all(context, parts, options(given)?)?.into())
}

fn of_items(context: &NativeCallContext<'_>, items: Array, body: &FnPtr, given: Map) -> Result<Dynamic, Fault> {
    Ok(run_all(context, group::of_items(items, body), options(given)?)?.into())
}

/// Runs the branches; their results in order.
fn run_all(context: &NativeCallContext<'_>, parts: Vec<Part>, options: Options) -> Result<Array, Fault> {
    let attempt = current()?;
    demand_between(&attempt, NAME)?;
    parts.iter().try_for_each(|(name, ..)| attempt.take_name(name))?;
    // What was drawn before the branches must not be lost behind what they do.
    attempt.commit_records()?;
    let group = RefCell::new(Group::new(context, &attempt, (NAME, None), parts, options.limit));
    attempt.waits_for_branches(true);
    let ended = attempt.wait(std::future::poll_fn(|context| group.borrow_mut().poll(context)));
    attempt.waits_for_branches(false);
    let results = group.into_inner().end(ended)?;
    if options.settle {
        return Ok(results.into_iter().map(settled).collect());
    }
    results.into_iter().collect()
}

/// `#{ok}` or `#{err}`.
fn settled(result: Body) -> Dynamic {
    let mut map = Map::new();
    match result {
        Ok(value) => map.insert("ok".into(), value),
        Err(fault) => map.insert("err".into(), caught(&fault)),
    };
    map.into()
}

/// What a `catch` would get.
fn caught(fault: &EvalAltResult) -> Dynamic {
    let mut inner = fault;
    while let EvalAltResult::ErrorInFunctionCall(_, _, next, _) | EvalAltResult::ErrorInModule(_, next, _) = inner {
        inner = next;
    }
    match inner {
        EvalAltResult::ErrorRuntime(value, _) => value.clone(),
        _ => verdict(fault, "").failure.message.into(),
    }
}
