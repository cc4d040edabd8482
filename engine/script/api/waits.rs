//! `wait_for_event`, `wait_for_any`, `wait_for_signal`, `invoke`.

use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, NativeCallContext};

use crate::base::diagnostic::nearest;
use crate::base::limits::{STEP_RESULT_BYTES, WANTED_MOST};
use crate::base::{EventId, Json, Millis, alloc, json};
use crate::expr::{EventView, Expr, MATCH_VARIABLES};
use crate::rules::row::Recorded;
use crate::rules::{EventRow, Failure, Kind, Resolution, WaitKey, WaitRow, WaitState, Wanted, What};

use super::super::attempt::{Attempt, Found, Halt, Made, Opening, current};
use super::super::error::{Fault, StepError, Thrown};
use super::super::time::Deadline;
use super::super::value;
use super::demand_between;
use super::steps::check_name;
use crate::rules::run::Outcome;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("wait_for_event", |context: NativeCallContext, name: ImmutableString| for_event(&context, &name, Map::new()));
    engine.register_fn("wait_for_event", |context: NativeCallContext, name: ImmutableString, options: Map| {
        for_event(&context, &name, options)
    });
    engine.register_fn("wait_for_any", |context: NativeCallContext, wanted: Array| for_any(&context, wanted, Map::new()));
    engine.register_fn("wait_for_any", |context: NativeCallContext, wanted: Array, options: Map| for_any(&context, wanted, options));
    engine.register_fn("wait_for_signal", |context: NativeCallContext, name: ImmutableString| for_signal(&context, &name, Map::new()));
    engine.register_fn("wait_for_signal", |context: NativeCallContext, name: ImmutableString, options: Map| {
        for_signal(&context, &name, options)
    });
    engine.register_fn("invoke", |context: NativeCallContext, function: ImmutableString, data: Dynamic| {
        invoke(&context, &function, &data, Map::new())
    });
    engine.register_fn("invoke", |context: NativeCallContext, function: ImmutableString, data: Dynamic, options: Map| {
        invoke(&context, &function, &data, options)
    });
}

/// The options of a wait.
#[derive(Debug, Default)]
struct Options {
    condition: Option<String>,
    timeout: Option<Deadline>,
    id: Option<String>,
}

/// Reads options; `known` are the names of those that `what` takes.
fn options(given: Map, what: &str, known: &[&str]) -> Result<Options, Fault> {
    let mut options = Options::default();
    for (name, value) in given {
        if !known.contains(&name.as_str()) {
            let help = nearest(&name, known.iter().copied())
                .map_or_else(|| format!("it takes {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
            return Err(Thrown::last("E0407", format!("{what} has no option `{name}`")).help(help).fault());
        }
        match name.as_str() {
            "timeout" => options.timeout = Some(Deadline::read(&value)?),
            name => {
                let Ok(text) = value.as_immutable_string_ref() else {
                    return Err(Thrown::last("E0407", format!("the option `{name}` of {what} is a text")).fault());
                };
                if name == "if" { options.condition = Some(text.to_string()) } else { options.id = Some(text.to_string()) }
            }
        }
    }
    Ok(options)
}

fn for_event(context: &NativeCallContext<'_>, name: &str, given: Map) -> Result<Dynamic, Fault> {
    let options = options(given, "wait_for_event", &["if", "timeout", "id"])?;
    let id = options.id.clone().unwrap_or_else(|| name.to_owned());
    let wanted = vec![(name.to_owned(), options.condition)];
    check_wanted(&wanted)?;
    wait(context, "wait_for_event", &id, options.timeout, |attempt| events(attempt, wanted))
}

fn for_any(context: &NativeCallContext<'_>, wanted: Array, given: Map) -> Result<Dynamic, Fault> {
    let given = options(given, "wait_for_any", &["timeout", "id"])?;
    let mut all = Vec::with_capacity(wanted.len());
    for item in wanted {
        let Some(mut map) = item.try_cast::<Map>() else {
            return Err(Thrown::last("E0407", "wait_for_any takes an array of #{ event, \"if\" }").fault());
        };
        let event = map.remove("event").and_then(|name| name.into_immutable_string().ok());
        let Some(event) = event else {
            return Err(Thrown::last("E0407", "each entry of wait_for_any names its `event`").fault());
        };
        let one = options(map, "an entry of wait_for_any", &["event", "if"])?;
        all.push((event.to_string(), one.condition));
    }
    if all.is_empty() || all.len() > WANTED_MOST {
        return Err(Thrown::last("E0407", format!("wait_for_any takes 1 to {WANTED_MOST} entries")).fault());
    }
    check_wanted(&all)?;
    let id = given.id.unwrap_or_else(|| all[0].0.clone());
    wait(context, "wait_for_any", &id, given.timeout, |attempt| events(attempt, all))
}

fn for_signal(context: &NativeCallContext<'_>, name: &str, given: Map) -> Result<Dynamic, Fault> {
    let options = options(given, "wait_for_signal", &["timeout", "id"])?;
    check_open(&*current()?, [name], "the name of a signal")?;
    let id = options.id.unwrap_or_else(|| name.to_owned());
    wait(context, "wait_for_signal", &id, options.timeout, |_| Ok(What::Signal(Arc::from(name))))
}

/// Refuses secrets in what is waited for: it is stored, and shown to whoever asks why the run waits.
fn check_wanted(wanted: &[(String, Option<String>)]) -> Result<(), Fault> {
    let texts = wanted.iter().flat_map(|(event, condition)| std::iter::once(event).chain(condition));
    check_open(&*current()?, texts, "the name or the `if` of a wait")
}

/// Refuses secrets in texts that are stored and shown as they are.
pub(super) fn check_open<T: AsRef<str>>(attempt: &Attempt, texts: impl IntoIterator<Item = T>, what: &str) -> Result<(), Fault> {
    texts.into_iter().try_for_each(|text| attempt.call.surroundings.secrets.refuse(text.as_ref(), what))
}

/// What a wait for events is stored as: each `if` checked, with as much of the run's own event as it reads.
fn events(attempt: &Attempt, wanted: Vec<(String, Option<String>)>) -> Result<What, Fault> {
    let mut all = Vec::with_capacity(wanted.len());
    for (event, condition) in wanted {
        let bound = condition.as_deref().map(|text| bind(&attempt.call.event, text)).transpose()?;
        all.push(alloc::uncounted(|| Wanted {
            event: Arc::from(event.as_str()),
            condition: condition.as_deref().map(Arc::from),
            bound: bound.as_deref().map(Arc::from),
        }));
    }
    Ok(What::Events(all))
}

fn bind(row: &EventRow, text: &str) -> Result<String, Fault> {
    let expr = Expr::parse(text, MATCH_VARIABLES).map_err(|errors| {
        let all: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        let thrown = Thrown::last("E0407", format!("the `if` of a wait, `{text}`: {}", all.join("; ")));
        match errors.into_iter().find_map(|error| error.help) {
            Some(help) => thrown.help(help).fault(),
            None => thrown.fault(),
        }
    })?;
    let data = json::value(&row.data).unwrap_or_default();
    let id = row.id.to_string();
    Ok(expr.bound(EventView { id: &id, name: &row.name, data: &data, ts: row.ts.0 }).to_string())
}

/// Waits: the record, or what the wait came to; ends the script where nothing has come.
fn wait(
    context: &NativeCallContext<'_>,
    function: &str,
    id: &str,
    timeout: Option<Deadline>,
    what: impl FnOnce(&Attempt) -> Result<What, Fault>,
) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, function)?;
    check_name(&attempt, id)?;
    let wait = match attempt.ask(Kind::Wait, id)? {
        Found::Recorded(result) => return recorded(&attempt, result),
        Found::New(key) => attempt.key_of(Kind::Wait, key),
    };
    attempt.demand_time()?;
    let made = |started: Millis| Made { attempts: 1, started, line: attempt.line_of(context) };
    let (with, row) = attempt.come_to(&wait, |now| match what(&attempt).and_then(|what| Ok((what, until(timeout, now)?))) {
        Ok((what, until)) => Ok(Opening { row: opened(&wait, Arc::new(what), now, until), parcel: None }),
        Err(fault) => Err(attempt.wrong(&wait, fault, made(now))),
    })?;
    let result = match with {
        Resolution::Event(event) => Recorded::Value(attempt.stored_event(event)?),
        with => plain(&wait, with),
    };
    let started = row.opened;
    attempt.record_wait(row, result.clone(), made(started))?;
    recorded(&attempt, result)
}

fn until(timeout: Option<Deadline>, now: Millis) -> Result<Option<Millis>, Fault> {
    timeout.map(|timeout| timeout.from(now)).transpose()
}

fn opened(wait: &WaitKey, what: Arc<What>, now: Millis, until: Option<Millis>) -> WaitRow {
    WaitRow { wait: wait.clone(), what, opened: now, until, state: WaitState::Open, pin: None }
}

/// The record of a wait that came to anything but an event.
fn plain(wait: &WaitKey, with: Resolution) -> Recorded {
    match with {
        Resolution::Value(json) => Recorded::Value(json),
        Resolution::Failed(failure) => Recorded::Failed(failure),
        Resolution::TimedOut if wait.kind == Kind::Invoke => {
            let failure = Failure {
                message: "the invoked run did not end in time; it was cancelled".to_owned(),
                code: "E0425".to_owned(),
                help: Some("raise the `timeout` of invoke".to_owned()),
                ..Failure::default()
            };
            Recorded::Failed(Arc::new(Failure { step: Some(wait.key.to_string()), attempts: Some(1), ..failure }))
        }
        Resolution::TimedOut | Resolution::Event(_) => Recorded::Value(Json::from("null")),
    }
}

/// What a replay gets.
pub(super) fn recorded(attempt: &Attempt, result: Recorded) -> Result<Dynamic, Fault> {
    match result {
        Recorded::Value(json) => {
            value::read(&json).map_err(|bad| Thrown::last("E0404", format!("a stored result is not JSON: {bad}")).fault())
        }
        Recorded::Failed(failure) => Err(StepError::fault(failure)),
        Recorded::Until(_) => {
            let reason = "the journal has a sleep where the handler asks for a wait".into();
            Err(attempt.halt(Halt::Stop(Outcome::Unfit(reason))))
        }
    }
}

/// Data that a script hands out: a map, as JSON text without secrets.
pub(super) fn data_of(attempt: &Attempt, data: &Dynamic, what: &str) -> Result<Json, Fault> {
    let text = value::write(data, what, STEP_RESULT_BYTES)?;
    attempt.call.surroundings.secrets.refuse(&text, what)?;
    Ok(alloc::uncounted(|| Json::from(text)))
}

fn invoke(context: &NativeCallContext<'_>, function: &str, data: &Dynamic, given: Map) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, "invoke")?;
    let options = options(given, "invoke", &["timeout", "id"])?;
    let id = options.id.as_deref().unwrap_or(function);
    check_name(&attempt, id)?;
    let wait = match attempt.ask(Kind::Invoke, id)? {
        Found::Recorded(result) => return recorded(&attempt, result),
        Found::New(key) => attempt.key_of(Kind::Invoke, key),
    };
    attempt.demand_time()?;
    let made = |started: Millis| Made { attempts: 1, started, line: attempt.line_of(context) };
    let (with, row) = attempt.come_to(&wait, |now| {
        let data = data_of(&attempt, data, &format!("the data for `{function}`"));
        let (data, until) = match data.and_then(|data| Ok((data, until(options.timeout, now)?))) {
            Ok(handed) => handed,
            Err(fault) => return Err(attempt.wrong(&wait, fault, made(now))),
        };
        match alloc::uncounted(|| {
            let extra = attempt.onward(&wait.key).map(|context| context.beside(None));
            attempt.ports.post.invoke(&attempt.call.run, function, data, extra)
        }) {
            Ok((run, parcel)) => {
                let what = Arc::new(What::Run(run));
                Ok(Opening { row: opened(&wait, what, now, until), parcel: Some(parcel) })
            }
            Err(failure) => Err(attempt.used_up(&wait, *failure, made(now))),
        }
    })?;
    let result = match plain(&wait, with) {
        Recorded::Failed(failure) => {
            let failure = Failure { step: Some(wait.key.to_string()), attempts: Some(1), ..Failure::clone(&failure) };
            Recorded::Failed(Arc::new(failure))
        }
        result => result,
    };
    let started = row.opened;
    attempt.record_wait(row, result.clone(), made(started))?;
    recorded(&attempt, result)
}

/// The ids of events as a script sees them.
pub(super) fn ids_json(ids: &[EventId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| value::quoted(&id.to_string())).collect();
    format!("[{}]", ids.join(","))
}
