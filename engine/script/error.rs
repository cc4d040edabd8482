//! What goes wrong in a script: what natives throw, the error of a used-up step, and how both become a stored failure.

use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, Map, Position};

use crate::base::Span;
use crate::rules::Failure;
use crate::rules::row::{AskedBy, Place};

use super::value;

/// What a native function returns where it fails.
pub(super) type Fault = Box<EvalAltResult>;

/// An error of a native function: an ordinary, catchable error that knows whether trying again may help.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Thrown {
    /// What a person reads.
    pub(super) message: String,
    /// The diagnostic's code.
    pub(super) code: &'static str,
    /// More about it, for the script.
    pub(super) data: Option<serde_json::Value>,
    /// Whether another attempt of the step is pointless.
    pub(super) last: bool,
    /// The wait before the next attempt, where the script or a server asked for one.
    pub(super) retry_after: Option<(Span, AskedBy)>,
    /// A line of advice.
    pub(super) help: Option<String>,
}

impl Thrown {
    /// An error after which another attempt may help.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Thrown {
        Thrown { message: message.into(), code, data: None, last: false, retry_after: None, help: None }
    }

    /// An error that every further attempt would meet again.
    pub(super) fn last(code: &'static str, message: impl Into<String>) -> Thrown {
        Thrown { last: true, ..Thrown::new(code, message) }
    }

    /// Adds a line of advice.
    pub(super) fn help(mut self, help: impl Into<String>) -> Thrown {
        self.help = Some(help.into());
        self
    }

    /// Adds what the script may look at.
    pub(super) fn data(mut self, data: serde_json::Value) -> Thrown {
        self.data = Some(data);
        self
    }

    /// As Rhai wants it.
    pub(super) fn fault(self) -> Fault {
        EvalAltResult::ErrorRuntime(Dynamic::from(self), Position::NONE).into()
    }
}

/// Thrown where a step's attempts are used up; nobody's catch ends the run as failed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StepError(pub(super) Arc<Failure>);

impl StepError {
    /// As Rhai wants it.
    pub(super) fn fault(failure: Arc<Failure>) -> Fault {
        EvalAltResult::ErrorRuntime(Dynamic::from(StepError(failure)), Position::NONE).into()
    }
}

/// The error that ends a script; it decides nothing, the attempt's halt does.
pub(super) fn terminated() -> Fault {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into()
}

/// What an error means for the attempt in which it came up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// What is stored and shown.
    pub(super) failure: Failure,
    /// Whether another attempt is pointless.
    pub(super) last: bool,
    /// The wait that was asked for, and by whom.
    pub(super) retry_after: Option<(Span, AskedBy)>,
    /// The failure of a used-up step, where that is what came up.
    pub(super) step: Option<Arc<Failure>>,
}

/// Reads an error: its innermost cause, and the places that lead to it.
pub(super) fn verdict(error: &EvalAltResult, source: &str) -> Verdict {
    let mut trace = Vec::new();
    let mut inner = error;
    let mut file = source.to_owned();
    let mut within: Option<String> = None;
    loop {
        match inner {
            EvalAltResult::ErrorInFunctionCall(name, source, next, position) => {
                push(&mut trace, &file, *position, within.take());
                if !source.is_empty() {
                    file.clone_from(source);
                }
                within = Some(if name.starts_with("anon$") { "a closure".to_owned() } else { name.clone() });
                inner = next;
            }
            EvalAltResult::ErrorInModule(name, next, position) => {
                push(&mut trace, &file, *position, within.take());
                if !name.is_empty() {
                    file.clone_from(name);
                }
                inner = next;
            }
            _ => break,
        }
    }
    push(&mut trace, &file, inner.position(), within);
    trace.reverse();
    let mut verdict = Verdict { failure: Failure { trace, ..Failure::default() }, last: false, retry_after: None, step: None };
    fill(&mut verdict, inner);
    verdict
}

fn push(trace: &mut Vec<Place>, file: &str, position: Position, within: Option<String>) {
    let Some(line) = position.line() else { return };
    let column = position.position().unwrap_or(0) as u32;
    let place = Place { file: file.to_owned(), line: line as u32, column, within };
    // A native that calls back names the place of its own call twice.
    if trace.last().is_none_or(|last: &Place| (last.line, last.column, &last.file) != (place.line, place.column, &place.file)) {
        trace.push(place);
    }
}

fn fill(verdict: &mut Verdict, inner: &EvalAltResult) {
    let failure = &mut verdict.failure;
    let EvalAltResult::ErrorRuntime(thrown, _) = inner else {
        let (message, help) = explain(inner);
        failure.message = message;
        failure.help = help;
        if let EvalAltResult::ErrorStackOverflow(_) = inner {
            failure.code = "E0422".to_owned();
        }
        return;
    };
    if let Some(step) = thrown.read_lock::<StepError>() {
        let trace = std::mem::take(&mut failure.trace);
        *failure = Failure::clone(&step.0);
        if failure.trace.is_empty() {
            failure.trace = trace;
        }
        verdict.step = Some(Arc::clone(&step.0));
    } else if let Some(native) = thrown.read_lock::<Thrown>() {
        failure.message.clone_from(&native.message);
        failure.code = native.code.to_owned();
        failure.data.clone_from(&native.data);
        failure.help.clone_from(&native.help);
        verdict.last = native.last;
        verdict.retry_after = native.retry_after;
    } else if let Ok(text) = thrown.as_immutable_string_ref() {
        failure.message = text.to_string();
    } else {
        failure.data = to_json(thrown);
        failure.message = message_of(thrown).unwrap_or_else(|| value::write_loosely(thrown, 2_000));
    }
}

/// The `message` of a thrown map.
fn message_of(thrown: &Dynamic) -> Option<String> {
    let map = thrown.read_lock::<Map>()?;
    let message = map.get("message")?.as_immutable_string_ref().ok()?.to_string();
    Some(message)
}

/// A value as stored beside a failure; none where it is not JSON.
pub(super) fn to_json(value: &Dynamic) -> Option<serde_json::Value> {
    serde_json::from_str(&value::write_loosely(value, 64 * 1024)).ok()
}

/// Rhai's own errors in our words, with advice where we know some.
fn explain(inner: &EvalAltResult) -> (String, Option<String>) {
    use EvalAltResult as E;
    let text = |message: &str| Some(message.to_owned());
    match inner {
        E::ErrorFunctionNotFound(signature, _) if signature.contains("anon$") => (
            "a closure is called with another number of arguments than it takes".to_owned(),
            text("a step's closure takes none: step(\"a-name\", || …)"),
        ),
        E::ErrorFunctionNotFound(signature, _) => (format!("no function {signature}"), None),
        E::ErrorVariableNotFound(name, _) if ["event", "run", "error"].contains(&name.as_str()) => {
            (format!("`{name}` is not visible inside `fn`"), Some(format!("pass it as an argument, or use a closure: |x| … {name} …")))
        }
        E::ErrorVariableNotFound(name, _) => (format!("no variable `{name}`"), None),
        E::ErrorDataRace(name, _) => (
            format!("`{name}` is used inside a closure that a method of `{name}` itself calls"),
            Some(format!("copy it first: let copy = {name}; and use the copy in the closure")),
        ),
        E::ErrorStackOverflow(_) => {
            ("functions call each other too deep".to_owned(), text("at most 64 calls may lie in each other; use a loop"))
        }
        E::ErrorAssignmentToConstant(name, _) => (format!("`{name}` cannot be changed"), text("copy it first: let copy = …;")),
        E::ErrorTerminated(..) => ("the script was ended".to_owned(), None),
        other => {
            let mut bare = other.to_string();
            if let Some(at) = bare.rfind(" (line ") {
                bare.truncate(at);
            }
            let mut letters = bare.chars();
            let lower = letters.next().map(|first| first.to_lowercase().chain(letters).collect::<String>());
            (lower.unwrap_or_default(), None)
        }
    }
}

/// Gives the error types to scripts, so that `catch (e)` can look at them.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<StepError>("StepError").register_type_with_name::<Thrown>("Error");
    engine.register_get("step", |error: &mut StepError| error.0.step.clone().unwrap_or_default());
    engine.register_get("message", |error: &mut StepError| error.0.message.clone());
    engine.register_get("attempts", |error: &mut StepError| i64::from(error.0.attempts.unwrap_or(0)));
    engine.register_get("code", |error: &mut StepError| error.0.code.clone());
    engine.register_get("data", |error: &mut StepError| from_json(error.0.data.as_ref()));
    engine.register_fn("to_string", |error: &mut StepError| error.0.message.clone());
    engine.register_fn("to_debug", |error: &mut StepError| error.0.message.clone());
    engine.register_get("message", |error: &mut Thrown| error.message.clone());
    engine.register_get("code", |error: &mut Thrown| error.code.to_owned());
    engine.register_get("data", |error: &mut Thrown| from_json(error.data.as_ref()));
    engine.register_fn("to_string", |error: &mut Thrown| error.message.clone());
    engine.register_fn("to_debug", |error: &mut Thrown| error.message.clone());
}

/// What a `catch` has caught, as a map of the fields that a script can read of it; none where it is no error.
pub(super) fn as_json(value: &Dynamic) -> Option<serde_json::Value> {
    if let Some(error) = value.read_lock::<StepError>() {
        let Failure { step, message, attempts, code, data, .. } = &*error.0;
        return Some(serde_json::json!({ "step": step, "message": message, "attempts": attempts, "code": code, "data": data }));
    }
    let error = value.read_lock::<Thrown>()?;
    Some(serde_json::json!({ "message": error.message, "code": error.code, "data": error.data }))
}

fn from_json(data: Option<&serde_json::Value>) -> Dynamic {
    data.and_then(|data| value::read(&data.to_string()).ok()).unwrap_or(Dynamic::UNIT)
}
