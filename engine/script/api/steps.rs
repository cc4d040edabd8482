//! `step`, `sleep`, `sleep_until`, `fail`, `retry_after`.

use std::sync::Arc;

use rhai::{Dynamic, Engine, FLOAT, FnPtr, INT, ImmutableString, Map, NativeCallContext};

use crate::base::limits::{RETRIES_MOST, SLEEP_MOST_MS, STEP_RESULT_BYTES};
use crate::base::{Json, Millis, Span, alloc};
use crate::rules::policy::{Growth, Waits};
use crate::rules::row::{AskedBy, Recorded};
use crate::rules::run::Outcome;
use crate::rules::{AttemptRow, Backoff, Failure, Kind, Retry, RunState, retry};

use super::super::attempt::{Attempt, Found, Halt, Inside, Made, current, place_of};
use super::super::capture::Captured;
use super::super::error::{self, Fault, StepError, Thrown, Verdict, terminated, verdict};
use super::super::time::{self, Moment};
use super::super::{terms, value};
use super::demand_between;

/// The options of a step.
pub(super) const OPTIONS: [&str; 3] = ["retries", "timeout", "backoff"];

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("step", |context: NativeCallContext, name: ImmutableString, body: FnPtr| step(&context, &name, None, body));
    engine.register_fn("step", |context: NativeCallContext, name: ImmutableString, options: Map, body: FnPtr| {
        step(&context, &name, Some(&options), body)
    });
    engine.register_fn("sleep", |context: NativeCallContext, length: Dynamic| sleep(&context, "sleep", &length));
    // Rhai has a `sleep` of its own for each kind of number, which holds the thread; only the same types hide it.
    engine.register_fn("sleep", |context: NativeCallContext, seconds: INT| sleep(&context, "sleep", &Dynamic::from_int(seconds)));
    engine.register_fn("sleep", |context: NativeCallContext, seconds: FLOAT| sleep(&context, "sleep", &Dynamic::from_float(seconds)));
    engine.register_fn("sleep", |context: NativeCallContext, name: ImmutableString, length: Dynamic| sleep(&context, &name, &length));
    engine.register_fn("sleep_until", |context: NativeCallContext, time: Dynamic| sleep_until(&context, "sleep", &time));
    engine
        .register_fn("sleep_until", |context: NativeCallContext, name: ImmutableString, time: Dynamic| sleep_until(&context, &name, &time));
    engine.register_fn("fail", |context: NativeCallContext, message: Dynamic| fail(&context, &message, None));
    engine.register_fn("fail", |context: NativeCallContext, message: Dynamic, data: Dynamic| fail(&context, &message, Some(&data)));
    engine.register_fn("retry_after", retry_after);
    engine.register_fn("exit", no_exit);
    engine.register_fn("exit", |_: Dynamic| no_exit());
}

fn no_exit() -> Result<Dynamic, Fault> {
    Err(Thrown::last("E0304", "exit() does not exist in a handler").help("use `return value;`, or fail(message)").fault())
}

/// Refuses a name that cannot be a step's, which is stored and shown as it is.
pub(super) fn check_name(attempt: &Attempt, name: &str) -> Result<(), Fault> {
    match terms::wrong_name("a step's", name) {
        Some(wrong) => Err(Thrown::last("E0401", wrong).fault()),
        None => attempt.call.surroundings.secrets.refuse(name, "a step's name"),
    }
}

/// What a step's options ask for.
struct Options {
    retry: Retry,
    timeout: Span,
}

fn options(attempt: &Attempt, given: Option<&Map>) -> Result<Options, Fault> {
    let mut options = Options { retry: attempt.call.retry.clone(), timeout: attempt.call.timeouts.step };
    let Some(given) = given else { return Ok(options) };
    for (name, value) in given {
        match name.as_str() {
            "retries" => match value.as_int() {
                Ok(retries) if (0..=i64::from(RETRIES_MOST)).contains(&retries) => options.retry.attempts = retries as u32 + 1,
                _ => return Err(Thrown::last("E0407", format!("retries is a whole number from 0 to {RETRIES_MOST}")).fault()),
            },
            "timeout" => match time::period(value)?.0 {
                Span(0) => return Err(Thrown::last("E0407", "the timeout of a step is more than 0").fault()),
                timeout => options.timeout = timeout,
            },
            "backoff" => options.retry.backoff = backoff(value)?,
            other => {
                let near = crate::base::diagnostic::nearest(other, OPTIONS);
                let help = near.map_or("a step takes retries, timeout and backoff".to_owned(), |near| format!("did you mean `{near}`?"));
                return Err(Thrown::last("E0407", format!("a step has no option `{other}`")).help(help).fault());
            }
        }
    }
    Ok(options)
}

/// The word for a kind, a duration (always that long), or `#{kind, initial, max, jitter}`.
fn backoff(value: &Dynamic) -> Result<Backoff, Fault> {
    let wrong = |message: String| Thrown::last("E0407", message).help(terms::BACK_OFFS).fault();
    if let Some(map) = value.read_lock::<Map>() {
        let mut waits = Waits::default();
        for (name, value) in map.iter() {
            match name.as_str() {
                "kind" => waits.growth = Some(terms::growth(&value.to_string()).map_err(wrong)?),
                "initial" => waits.initial = Some(time::period(value)?.0),
                "max" => waits.max = Some(time::period(value)?.0),
                "jitter" => waits.jitter = Some(terms::jitter(value).map_err(wrong)?),
                other => return Err(wrong(terms::no_part(other))),
            }
        }
        if let Some(message) = terms::wrong_waits(waits.initial, waits.max) {
            return Err(wrong(message));
        }
        let idle = waits.growth.and_then(|growth| map.keys().find_map(|part| terms::idle(growth, part.as_str())));
        return match idle {
            Some((message, help)) => Err(Thrown::last("E0407", message).help(help).fault()),
            None => Ok(waits.backoff()),
        };
    }
    let waits = match value.as_immutable_string_ref().ok().filter(|text| terms::is_word(text)) {
        Some(word) => Waits { growth: Some(terms::growth(&word).map_err(wrong)?), ..Waits::default() },
        None => Waits { growth: Some(Growth::Fixed), initial: Some(time::period(value)?.0), ..Waits::default() },
    };
    Ok(waits.backoff())
}

fn step(context: &NativeCallContext<'_>, name: &str, given: Option<&Map>, body: FnPtr) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, "step")?;
    check_name(&attempt, name)?;
    let options = options(&attempt, given)?;
    let key = match attempt.ask(Kind::Step, name)? {
        Found::Recorded(result) => return recorded(&attempt, result),
        Found::New(key) => key,
    };
    if attempt.stop.is_draining() {
        return Err(attempt.halt(Halt::Stop(Outcome::Interrupted)));
    }
    attempt.commit_before_step()?;
    let now = attempt.now();
    let (failed, first, last) = attempt.failed_attempts(&key);
    // A branch may be run again for another reason, before the time of its step's next attempt.
    if let Some((wake, last)) = last.and_then(|last| Some((last.next.filter(|next| *next > now)?, last))) {
        return Err(attempt.suspend(RunState::BackingOff, wake, Some(last.error)));
    }
    let inside = Inside {
        key: Arc::clone(&key),
        attempt: failed + 1,
        attempts: options.retry.attempts,
        began: now,
        timeout: options.timeout,
        deadline: now.after(options.timeout),
        requests: 0,
        calls: 0,
        line: attempt.line_of(context),
        first: first.unwrap_or(now),
        retry: options.retry,
    };
    attempt.ports.watch.step_begun(&attempt.call.run, &key, inside.attempt, now);
    attempt.set_inside(Some(inside.clone()));
    let result = perform(&attempt, context, body, &inside);
    // A panic leaves the step marked as running, so that the root knows whose attempt it was.
    attempt.set_inside(None);
    match result {
        Ok(json) => {
            attempt.append(key, Kind::Step, Recorded::Value(Json::clone(&json)), made(&inside))?;
            // Whoever has a changed key next has to find its new value in the store.
            match attempt.append_values() {
                true => attempt.commit()?,
                false => attempt.commit_soon()?,
            }
            attempt.let_go();
            let value = decode(&json);
            alloc::uncounted(|| drop(json));
            value
        }
        Err(fault) => {
            attempt.let_go();
            Err(fail_attempt(&attempt, &inside, &fault))
        }
    }
}

fn made(inside: &Inside) -> Made {
    Made { attempts: inside.attempt, started: inside.first, line: inside.line.clone() }
}

/// Runs the closure on copies of what it captured; its result as JSON text.
fn perform(attempt: &Attempt, context: &NativeCallContext<'_>, body: FnPtr, inside: &Inside) -> Result<Json, Fault> {
    let captured = Captured::copy(&body)?;
    let result = captured.body().call_within_context::<Dynamic>(context, ());
    if attempt.is_halted() {
        return Err(result.err().unwrap_or_else(terminated));
    }
    let result = result?;
    captured.check(context, &body)?;
    let text = value::write(&result, format_args!("the result of step `{}`", inside.key), STEP_RESULT_BYTES)?;
    attempt.call.surroundings.secrets.refuse(&text, format_args!("the result of step `{}`", inside.key))?;
    // It goes to the store and outlives the script, so it is not the script's.
    Ok(alloc::uncounted(|| Json::from(text.as_str())))
}

fn decode(json: &str) -> Result<Dynamic, Fault> {
    value::read(json).map_err(|bad| Thrown::last("E0404", format!("a stored result is not JSON: {bad}")).fault())
}

/// What a replay gets.
fn recorded(attempt: &Attempt, result: Recorded) -> Result<Dynamic, Fault> {
    match result {
        Recorded::Value(json) => decode(&json),
        Recorded::Failed(failure) => Err(StepError::fault(failure)),
        Recorded::Until(_) => {
            let reason = "the journal has a sleep where the handler asks for a step".into();
            Err(attempt.halt(Halt::Stop(Outcome::Unfit(reason))))
        }
    }
}

/// An attempt of a step has failed: the error that `step` gives to the script.
fn fail_attempt(attempt: &Attempt, inside: &Inside, fault: &Fault) -> Fault {
    let mut verdict = verdict(fault, attempt.program.main());
    if attempt.is_halted() {
        match attempt.take_limit() {
            Some(mut failure) => {
                failure.trace = std::mem::take(&mut verdict.failure.trace);
                verdict = Verdict { failure, last: false, retry_after: None, step: None };
            }
            None => {
                attempt.record_failing(inside);
                return terminated();
            }
        }
    }
    let verdict = attempt.hidden(verdict);
    match decide(attempt, inside, verdict) {
        Next::Wait(wake, failure) => attempt.suspend(RunState::BackingOff, wake, Some(failure)),
        Next::UsedUp(failure) => match attempt.commit_soon() {
            Ok(()) => StepError::fault(failure),
            Err(fault) => fault,
        },
        Next::Ended(fault) => fault,
    }
}

enum Next {
    /// Another attempt, then.
    Wait(Millis, Arc<Failure>),
    /// None; the failed record is pending.
    UsedUp(Arc<Failure>),
    /// The run has no room for the record.
    Ended(Fault),
}

/// Decides what a failed attempt leads to, and adds it to what is pending.
fn decide(attempt: &Attempt, inside: &Inside, verdict: Verdict) -> Next {
    let now = attempt.now();
    let unit = attempt.ports.entropy.jitter();
    let (wait, asked) = verdict.retry_after.unzip();
    let next = if verdict.last { None } else { retry::next(&inside.retry, inside.attempt, now, unit, wait) };
    let mut failure = verdict.failure;
    failure.step = Some(inside.key.to_string());
    failure.attempts = Some(inside.attempt);
    failure.allowed = next.map(|_| inside.retry.attempts);
    failure.asked = next.and(asked);
    let failure = Arc::new(failure);
    attempt.add_attempt(AttemptRow {
        key: Arc::clone(&inside.key),
        attempt: inside.attempt,
        started: inside.began,
        ended: now,
        error: Arc::clone(&failure),
        next,
        line: inside.line.clone(),
    });
    if let Some(wake) = next {
        return Next::Wait(wake, failure);
    }
    match attempt.append(Arc::clone(&inside.key), Kind::Step, Recorded::Failed(Arc::clone(&failure)), made(inside)) {
        Ok(()) => Next::UsedUp(failure),
        Err(fault) => Next::Ended(fault),
    }
}

/// What a step's attempt that broke off without returning (a panic) leads to for the run.
pub(in crate::script) fn broken_off(attempt: &Attempt, inside: &Inside, failure: Failure) -> Outcome {
    let verdict = Verdict { failure, last: false, retry_after: None, step: None };
    match decide(attempt, inside, verdict) {
        Next::Wait(wake, failure) => Outcome::Suspended { state: RunState::BackingOff, wake: Some(wake), error: Some(failure) },
        Next::UsedUp(failure) => Outcome::Failed(failure),
        Next::Ended(_) => match attempt.take_halt() {
            Some(Halt::Stop(outcome)) => outcome,
            _ => Outcome::Interrupted,
        },
    }
}

fn sleep(context: &NativeCallContext<'_>, name: &str, length: &Dynamic) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, "sleep")?;
    check_name(&attempt, name)?;
    let span = time::sleep_period(length)?;
    rest(&attempt, context, name, |now| Ok(now.after(span)))
}

fn sleep_until(context: &NativeCallContext<'_>, name: &str, time: &Dynamic) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, "sleep_until")?;
    check_name(&attempt, name)?;
    let until = if let Some(moment) = time.read_lock::<Moment>() {
        moment.0
    } else if let Ok(text) = time.as_immutable_string_ref() {
        time::moment(&text)?.0
    } else {
        return Err(Thrown::last("E0407", "sleep_until takes a time: what now() gives, or RFC 3339 text").fault());
    };
    rest(&attempt, context, name, |now| {
        if until.since(now).0 > SLEEP_MOST_MS {
            return Err(Thrown::last("E0407", format!("{} is more than a year away, the longest sleep", until.rfc3339())).fault());
        }
        Ok(until)
    })
}

fn rest(
    attempt: &Attempt,
    context: &NativeCallContext<'_>,
    name: &str,
    until: impl FnOnce(Millis) -> Result<Millis, Fault>,
) -> Result<Dynamic, Fault> {
    let until = match attempt.ask(Kind::Sleep, name)? {
        // What was recorded after it was recorded once it was over, whatever the clock shows since somebody set it.
        Found::Recorded(Recorded::Until(_)) if attempt.is_replaying() => return Ok(Dynamic::UNIT),
        Found::Recorded(Recorded::Until(until)) => until,
        Found::Recorded(Recorded::Failed(failure)) => return Err(StepError::fault(failure)),
        Found::Recorded(Recorded::Value(_)) => {
            let reason = format!("the journal has another thing than a sleep at `{name}`").as_str().into();
            return Err(attempt.halt(Halt::Stop(Outcome::Unfit(reason))));
        }
        Found::New(key) => {
            let now = attempt.now();
            let made = Made { attempts: 1, started: now, line: attempt.line_of(context) };
            let until = match until(now) {
                Ok(until) => until,
                Err(fault) => return Err(attempt.refused(key, Kind::Sleep, fault, made)),
            };
            attempt.append(key, Kind::Sleep, Recorded::Until(until), made)?;
            until
        }
    };
    if attempt.now() >= until {
        return Ok(Dynamic::UNIT);
    }
    Err(attempt.suspend(RunState::Sleeping, until, None))
}

fn fail(context: &NativeCallContext<'_>, message: &Dynamic, data: Option<&Dynamic>) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    let message = match message.as_immutable_string_ref() {
        Ok(text) => text.to_string(),
        Err(_) => value::write_loosely(message, 2_000),
    };
    let inside = attempt.inside();
    let failure = attempt.hide(Failure {
        message,
        data: data.and_then(error::to_json),
        trace: place_of(context),
        step: inside.as_ref().map(|inside| inside.key.to_string()),
        attempts: inside.as_ref().map(|inside| inside.attempt),
        ..Failure::default()
    });
    Err(attempt.halt(Halt::Stop(Outcome::Failed(Arc::new(failure)))))
}

fn retry_after(length: Dynamic, message: ImmutableString) -> Result<Dynamic, Fault> {
    let span = match length.read_lock::<Moment>().map(|moment| moment.0) {
        Some(at) => at.since(current()?.now()).max(Span(0)),
        None => time::period(&length)?.0,
    };
    let span = time::within_a_year(span)?;
    Err(Thrown { retry_after: Some((span, AskedBy::Script)), ..Thrown::new("", message.to_string()) }.fault())
}
