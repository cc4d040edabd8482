//! `log::*`, `env`, `secret`, `run`: what a script sees of its surroundings.

use rhai::{Dynamic, Engine, ImmutableString, Module};

use crate::base::diagnostic::nearest;
use crate::rules::row::LogLevel;

use super::super::attempt::{Attempt, current};
use super::super::error::{Fault, Thrown};
use super::super::run::started_at;
use super::super::time::Moment;
use super::super::value::{self, Number, RunHandle, Secret};

/// Largest message or data of one line of a log, in bytes.
const LINE_BYTES: usize = 64 * 1024;

pub(super) fn register(engine: &mut Engine) {
    let mut log = Module::new();
    for (name, level) in [("debug", LogLevel::Debug), ("info", LogLevel::Info), ("warn", LogLevel::Warn), ("error", LogLevel::Error)] {
        log.set_native_fn(name, move |message: Dynamic| say(level, &message, None));
        log.set_native_fn(name, move |message: Dynamic, data: Dynamic| say(level, &message, Some(&data)));
    }
    engine.register_static_module("log", log.into());
    engine.register_fn("env", |name: ImmutableString| env(&name));
    engine.register_fn("secret", |name: ImmutableString| secret(&name));
    register_secret(engine);
    register_number(engine);
    register_run(engine);
}

fn say(level: LogLevel, message: &Dynamic, data: Option<&Dynamic>) -> Result<(), Fault> {
    let attempt = current()?;
    let message = match message.as_immutable_string_ref() {
        Ok(text) => cut(&text).to_owned(),
        Err(_) => value::write_loosely(message, LINE_BYTES),
    };
    attempt.log(level, &message, data.map(|data| value::write_loosely(data, LINE_BYTES)).as_deref());
    Ok(())
}

/// The beginning of a long text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LINE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn env(name: &str) -> Result<String, Fault> {
    let attempt = current()?;
    let known = &attempt.call.surroundings.env;
    known.get(name).cloned().ok_or_else(|| {
        let thrown = Thrown::last("E0416", format!("no variable `{name}` is listed under env in events.yaml"));
        match nearest(name, known.keys().map(String::as_str)) {
            Some(near) => thrown.help(format!("did you mean `{near}`?")),
            None => thrown.help(format!("add it: env: {{ {name}: \"a default\" }}")),
        }
        .fault()
    })
}

fn secret(name: &str) -> Result<Secret, Fault> {
    let attempt = current()?;
    let secrets = &attempt.call.surroundings.secrets;
    match secrets.get(name) {
        Some(Some(value)) => Ok(Secret { name: name.into(), value }),
        Some(None) => Err(Thrown::last("E0417", format!("the secret {name} is not in the environment"))
            .help(format!("start the engine with {name}=… set"))
            .fault()),
        None => {
            let thrown = Thrown::last("E0416", format!("no secret `{name}` is listed under secrets in events.yaml"));
            Err(match nearest(name, secrets.names()) {
                Some(near) => thrown.help(format!("did you mean `{near}`?")),
                None => thrown.help(format!("add it: secrets: [{name}]")),
            }
            .fault())
        }
    }
}

/// A secret prints as its name, also within a text, where it is lost on purpose: what needs it takes it whole.
fn register_secret(engine: &mut Engine) {
    engine.register_type_with_name::<Secret>("secret");
    engine.register_fn("to_string", |secret: &mut Secret| format!("«secret {}»", secret.name));
    engine.register_fn("to_debug", |secret: &mut Secret| format!("«secret {}»", secret.name));
    // "Bearer " + secret: the sum is a secret too.
    engine.register_fn("+", |text: &str, secret: Secret| Secret { value: format!("{text}{}", secret.value).into(), ..secret });
    engine.register_fn("+", |secret: Secret, text: &str| Secret { value: format!("{}{text}", secret.value).into(), ..secret });
    engine
        .register_fn("==", |a: Secret, b: Secret| same(&a.value, &b.value))
        .register_fn("!=", |a: Secret, b: Secret| !same(&a.value, &b.value));
    engine.register_fn("==", |a: Secret, b: &str| same(&a.value, b)).register_fn("==", |a: &str, b: Secret| same(a, &b.value));
}

/// Compares in a time that does not depend on where the texts differ.
fn same(a: &str, b: &str) -> bool {
    subtle::ConstantTimeEq::ct_eq(a.as_bytes(), b.as_bytes()).into()
}

fn register_number(engine: &mut Engine) {
    engine.register_type_with_name::<Number>("number");
    engine.register_fn("to_string", |number: &mut Number| number.0.to_string());
    engine.register_fn("to_debug", |number: &mut Number| number.0.to_string());
    engine.register_fn("==", |a: Number, b: Number| a == b).register_fn("!=", |a: Number, b: Number| a != b);
}

fn register_run(engine: &mut Engine) {
    engine.register_type_with_name::<RunHandle>("run");
    engine.register_get("id", |_: &mut RunHandle| with(id));
    engine.register_get("function", |_: &mut RunHandle| {
        with(|attempt| {
            attempt.call.failed.as_ref().map_or_else(|| attempt.call.run.function.to_string(), |failed| failed.function.to_string())
        })
    });
    engine.register_get("attempt", |_: &mut RunHandle| {
        with(|attempt| i64::from(attempt.inside().map_or_else(|| attempt.number(), |inside| inside.attempt)))
    });
    engine.register_get("max_attempts", |_: &mut RunHandle| {
        with(|attempt| i64::from(attempt.inside().map_or(attempt.call.retry.attempts, |inside| inside.attempts)))
    });
    engine.register_get("key", |_: &mut RunHandle| {
        with(|attempt| {
            let key = match &attempt.call.failed {
                Some(failed) => failed.key.as_ref(),
                None => attempt.call.run.keys.first(),
            };
            key.and_then(|key| value::read(key).ok()).unwrap_or(Dynamic::UNIT)
        })
    });
    engine.register_get("idempotency_key", |_: &mut RunHandle| {
        with(|attempt| match attempt.inside() {
            Some(inside) => format!("{}.{}", attempt.call.run.id, inside.key),
            None => attempt.call.run.id.to_string(),
        })
    });
    engine.register_get("started_at", |_: &mut RunHandle| {
        with(|attempt| {
            let failed = attempt.call.failed.as_ref().and_then(|failed| failed.started);
            Moment(failed.unwrap_or_else(|| started_at(&attempt.call)))
        })
    });
    engine.register_get("replay_of", |_: &mut RunHandle| {
        with(|attempt| attempt.call.run.replay_of.map_or(Dynamic::UNIT, |run| run.to_string().into()))
    });
    engine.register_fn("to_string", |_: &mut RunHandle| with(id));
}

/// The run's id; in the script of an `on_failure`, that of the run that failed.
fn id(attempt: &Attempt) -> String {
    attempt.call.failed.as_ref().map_or(attempt.call.run.id, |failed| failed.run).to_string()
}

fn with<T>(look: impl FnOnce(&Attempt) -> T) -> Result<T, Fault> {
    current().map(|attempt| look(&attempt))
}
