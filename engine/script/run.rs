//! `call`: runs a program over a run's journal on a coroutine, and says how it stopped.

use std::rc::Rc;
use std::sync::Arc;

use rhai::{Dynamic, EvalAltResult, Map, Scope};

use crate::base::limits::{COROUTINE_STACK_BYTES, COROUTINE_STACK_SHARE, STEP_RESULT_BYTES};
use crate::base::{Clock, Entropy, Json, Millis, Span};
use crate::rules::fit::{self, Instead};
use crate::rules::run::{Outcome, Stopped};
use crate::rules::trace::TRACEPARENT;
use crate::rules::{EventRow, Failure, RunState, Unfit};
use crate::store::{Memory, StoreError};

use super::api::steps;
use super::attempt::{Attempt, Halt, Stage};
use super::coroutine::{self, Broken, Coroutine, Local};
use super::error::{Fault, verdict};
use super::value::{self, RunHandle};
use super::{Alone, Call, Ports, Program, Stop, Unwatched};

/// The largest stack that a run's memory may ask for, in bytes of address space.
const STACK_MOST_BYTES: usize = 8 * 1024 * 1024 * 1024;
/// The wait before a run that got no stack tries again: others come to their end meanwhile.
const STACK_WAIT: Span = Span::seconds(1);

/// Runs the script from the top over the run's journal until it ends, has to wait, or is stopped.
///
/// The future is not `Send`: it stays on the thread of its first poll, and needs tokio's `LocalSet` or runtime around
/// it only where the script makes HTTP requests. Dropping it ends the script at once.
///
/// # Errors
/// The store's, where a checkpoint could not be made for another reason than a full disk.
pub async fn call(program: Arc<Program>, call: Rc<Call>, ports: Arc<Ports>, stop: Arc<Stop>) -> Result<Stopped, StoreError> {
    let attempt = Attempt::new(program, call, ports, stop);
    match run(&attempt).await {
        // Whoever aborts it has already decided what becomes of the run.
        Ok(_) if attempt.stop.is_aborted() => Ok(attempt.stopped(Outcome::Lost)),
        Ok(outcome) => Ok(attempt.stopped(outcome)),
        Err(error) => Err(error),
    }
}

/// What came of a program that was held against a run's records.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    /// It asks for all of them, and then for this.
    GoesOn(fit::Call),
    /// It asks for all of them, and ends; with this result, if it has one.
    Ends(Option<Json>),
    /// It does not ask for all of them.
    Unfit(Unfit),
}

/// Whether a program asks for each record of a run's journal, before it asks for anything else. Nothing is executed but
/// the code between the records, and nothing is stored.
pub async fn held(program: Arc<Program>, call: Rc<Call>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Held {
    let desk = Arc::new(Memory::new());
    let ports = Arc::new(Ports { desk, clock, entropy, watch: Arc::new(Unwatched), post: Arc::new(Alone) });
    let attempt = Attempt::new(program, call, ports, Stop::probe());
    let outcome = match run(&attempt).await {
        Ok(Outcome::Unfit(why)) => return Held::Unfit(why),
        Ok(outcome) => outcome,
        Err(error) => return Held::Unfit(error.to_string().as_str().into()),
    };
    if let Some(Outcome::Unfit(why)) = attempt.unasked(Instead::Ends) {
        return Held::Unfit(why);
    }
    match (attempt.beyond(), outcome) {
        (Some(call), _) => Held::GoesOn(call),
        (None, Outcome::Completed(output)) => Held::Ends(Some(output)),
        (None, _) => Held::Ends(None),
    }
}

/// Runs the script of an attempt until it stops.
async fn run(attempt: &Rc<Attempt>) -> Result<Outcome, StoreError> {
    let script = Rc::clone(attempt);
    let coroutine = Coroutine::new(Rc::clone(attempt) as Rc<dyn Local>, stack_bytes(attempt), move || evaluate(&script));
    let result = match coroutine {
        Ok(root) => Stage { root, attempt: Rc::clone(attempt) }.await,
        Err(broken) => Err(broken),
    };
    match result {
        Ok(Ok(output)) => ended(attempt, output),
        Ok(Err(error)) => erred(attempt, &error),
        Err(broken) => broke(attempt, broken),
    }
}

/// The stack of each coroutine of a run.
pub(super) fn stack_bytes(attempt: &Attempt) -> usize {
    let memory = usize::try_from(attempt.call.surroundings.limits.memory_bytes).unwrap_or(usize::MAX);
    COROUTINE_STACK_BYTES.max(memory.saturating_mul(COROUTINE_STACK_SHARE).min(STACK_MOST_BYTES))
}

/// The body of the coroutine: the script, and its result as JSON text.
fn evaluate(attempt: &Attempt) -> Result<Json, Fault> {
    if coroutine::is_ended() {
        return Err(attempt.ended());
    }
    let program = &attempt.program;
    let mut scope = Scope::new();
    if program.sees.event {
        scope.push_constant_dynamic("event", event(&attempt.call.event));
    }
    if program.sees.events {
        let events = std::iter::once(&attempt.call.event).chain(&attempt.call.batch).map(event);
        scope.push_constant_dynamic("events", Dynamic::from_array(events.collect()));
    }
    scope.push_constant("run", RunHandle);
    if let Some(failed) = &attempt.call.failed {
        scope.push_constant_dynamic("error", value::read(&failed.error).unwrap_or(Dynamic::UNIT));
    }
    let result = program.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &program.ast)?;
    let text = value::write(&result, "the result", STEP_RESULT_BYTES)?;
    attempt.call.surroundings.secrets.refuse(&text, "the result")?;
    Ok(Json::from(text))
}

/// What the script sees as `event`.
pub(super) fn event(row: &EventRow) -> Dynamic {
    let mut map = match row.extra.as_deref().map(value::read) {
        Some(Ok(extra)) => extra.try_cast::<Map>().unwrap_or_default(),
        _ => Map::new(),
    };
    // Where it belongs among traces is the engine's business.
    map.remove(TRACEPARENT);
    map.insert("id".into(), row.sender_id.as_deref().map_or_else(|| row.id.to_string(), str::to_owned).into());
    map.insert("name".into(), row.name.as_ref().into());
    map.insert("data".into(), value::read(&row.data).unwrap_or(Dynamic::UNIT));
    map.insert("ts".into(), row.ts.0.into());
    Dynamic::from_map(map)
}

/// The script came to its end.
fn ended(attempt: &Attempt, output: Json) -> Result<Outcome, StoreError> {
    match attempt.take_halt() {
        // A native that swallowed the end of the script (a sort, say) may let it come to its last line.
        Some(halt) => halted(attempt, halt),
        None => Ok(attempt.unasked(Instead::Ends).unwrap_or(Outcome::Completed(output))),
    }
}

fn halted(attempt: &Attempt, halt: Halt) -> Result<Outcome, StoreError> {
    match halt {
        Halt::Stop(outcome) => Ok(outcome),
        Halt::Store(error) => Err(error),
        Halt::Limit(failure) => Ok(failed(attempt, *failure)),
        Halt::Aside => Ok(without_stack(attempt)),
    }
}

/// The script threw.
fn erred(attempt: &Attempt, error: &EvalAltResult) -> Result<Outcome, StoreError> {
    if let Some(halt) = attempt.take_halt() {
        return match halt {
            Halt::Limit(mut failure) => {
                failure.trace = verdict(error, attempt.program.main()).failure.trace;
                Ok(failed(attempt, *failure))
            }
            other => halted(attempt, at(other, error, attempt)),
        };
    }
    let verdict = attempt.hidden(verdict(error, attempt.program.main()));
    if attempt.call.run.version.as_ref().is_some_and(|version| version != attempt.program.hash())
        && let Some(unfit) = attempt.unasked(Instead::Throws)
    {
        return Ok(unfit);
    }
    let error = Arc::new(verdict.failure);
    if verdict.step.is_some() || verdict.last {
        return Ok(Outcome::Failed(error));
    }
    Ok(Outcome::Threw { error, retry_after: verdict.retry_after })
}

/// A halt with the line of the handler that it came by, where that is not known yet.
pub(super) fn at(halt: Halt, error: &EvalAltResult, attempt: &Attempt) -> Halt {
    match halt {
        Halt::Stop(Outcome::Unfit(why)) => {
            let place = || verdict(error, attempt.program.main()).failure.trace.into_iter().next();
            Halt::Stop(Outcome::Unfit(why.at(|| place().map(|place| Arc::from(format!("{}:{}", place.file, place.line))))))
        }
        other => other,
    }
}

/// The code that was under way failed in a way that no `catch` sees: a limit, or a panic.
fn failed(attempt: &Attempt, failure: Failure) -> Outcome {
    let failure = attempt.hide(failure);
    match attempt.inside() {
        Some(inside) if attempt.is_usable() => steps::broken_off(attempt, &inside, failure),
        _ => Outcome::Threw { error: Arc::new(failure), retry_after: None },
    }
}

/// The coroutine gave no result.
pub(super) fn broke(attempt: &Attempt, broken: Broken) -> Result<Outcome, StoreError> {
    if let Some(halt @ (Halt::Stop(_) | Halt::Store(_))) = attempt.take_halt() {
        return halted(attempt, halt);
    }
    let failure = match broken {
        Broken::Panicked(message) => Failure {
            message: format!("a function of the engine panicked: {message}"),
            code: "E0415".to_owned(),
            help: Some("this is a mistake in the engine, please report it".to_owned()),
            ..Failure::default()
        },
        Broken::Starved => Failure {
            message: "one call asked for several times the memory that a run may hold".to_owned(),
            code: "E0412".to_owned(),
            help: Some("keep less in variables, or raise limits.memory in events.yaml".to_owned()),
            ..Failure::default()
        },
        Broken::NoStack => return Ok(without_stack(attempt)),
    };
    Ok(failed(attempt, failure))
}

/// There is no memory for a coroutine. That is the engine's want and no fault of the run, so no attempt is counted: it tries again
/// until there is some.
pub(super) fn without_stack(attempt: &Attempt) -> Outcome {
    let failure = Failure {
        message: "there is no memory for the script's stack".to_owned(),
        code: "E0412".to_owned(),
        help: Some("give the engine more address space, or let fewer runs execute at once".to_owned()),
        ..Failure::default()
    };
    let wake = Some(attempt.now().after(STACK_WAIT));
    Outcome::Suspended { state: RunState::BackingOff, wake, error: Some(Arc::new(failure)) }
}

/// The time of the first start, for `run.started_at`.
pub(super) fn started_at(call: &Call) -> Millis {
    call.run.started.unwrap_or(call.run.created)
}
