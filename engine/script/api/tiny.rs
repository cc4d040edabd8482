//! `now`, `uuid`, `random`, `pick`: plain inside a step, tiny records outside of one.

use rhai::{Array, Dynamic, Engine, NativeCallContext};

use crate::base::{Entropy, Json, Millis};
use crate::rules::Kind;
use crate::rules::row::Recorded;

use super::super::attempt::{Attempt, Found, Halt, Made, current};
use super::super::error::{Fault, StepError, Thrown};
use super::super::time::{self, Moment};
use super::super::value;
use crate::rules::run::Outcome;

/// Largest value that `pick` records, in bytes.
const PICKED_BYTES: usize = 64 * 1024;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("now", |context: NativeCallContext| now(&context));
    engine.register_fn("uuid", |context: NativeCallContext| draw(&context, Kind::Uuid, |attempt| Ok(uuid(&*attempt.ports.entropy).into())));
    engine.register_fn("random", |context: NativeCallContext| {
        draw(&context, Kind::Random, |attempt| Ok(attempt.ports.entropy.unit().into()))
    });
    engine.register_fn("random", |context: NativeCallContext, from: i64, to: i64| {
        if from > to {
            return Err(Thrown::last("E0407", format!("random({from}, {to}): the first number is larger than the second")).fault());
        }
        draw(&context, Kind::Random, |attempt| Ok(between(&*attempt.ports.entropy, from, to).into()))
    });
    engine.register_fn("pick", |context: NativeCallContext, array: Array| {
        if array.is_empty() {
            return Err(Thrown::last("E0407", "pick of an empty array").fault());
        }
        draw(&context, Kind::Pick, |attempt| {
            let at = between(&*attempt.ports.entropy, 0, array.len() as i64 - 1) as usize;
            Ok(array[at].clone())
        })
    });
}

fn now(context: &NativeCallContext<'_>) -> Result<Moment, Fault> {
    let drawn = draw(context, Kind::Now, |attempt| Ok(Dynamic::from(Moment(attempt.now()))))?;
    if let Some(moment) = drawn.read_lock::<Moment>() {
        return Ok(*moment);
    }
    let text = drawn.as_immutable_string_ref().map_err(|_| Thrown::last("E0404", "a stored time is no text").fault())?;
    time::moment(&text)
}

/// The time for a function that depends on it: as `now()` gives it, so that a replay sees the same.
pub(super) fn time(context: &NativeCallContext<'_>) -> Result<Millis, Fault> {
    now(context).map(|moment| moment.0)
}

/// A value that differs from run to run: what was recorded, or a new one, recorded with the next commit.
fn draw(context: &NativeCallContext<'_>, kind: Kind, make: impl FnOnce(&Attempt) -> Result<Dynamic, Fault>) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    if attempt.is_inside() {
        return make(&attempt);
    }
    let json = match attempt.ask(kind, kind.word())? {
        Found::Recorded(Recorded::Value(json)) => json,
        Found::Recorded(Recorded::Failed(failure)) => return Err(StepError::fault(failure)),
        Found::Recorded(Recorded::Until(_)) => {
            let reason = format!("the journal has another thing than a value for {}()", kind.word());
            return Err(attempt.halt(Halt::Stop(Outcome::Unfit(reason.as_str().into()))));
        }
        Found::New(key) => {
            let made = Made { attempts: 1, started: attempt.now(), line: attempt.line_of(context) };
            let json = match make(&attempt).and_then(|value| written(&attempt, kind, &value)) {
                Ok(json) => json,
                Err(fault) => return Err(attempt.refused(key, kind, fault, made)),
            };
            attempt.append(key, kind, Recorded::Value(Json::clone(&json)), made)?;
            json
        }
    };
    value::read(&json).map_err(|bad| Thrown::last("E0404", format!("a stored value is not JSON: {bad}")).fault())
}

/// What was drawn, as it is recorded.
fn written(attempt: &Attempt, kind: Kind, value: &Dynamic) -> Result<Json, Fault> {
    let json = Json::from(value::write(value, format_args!("what {}() gives", kind.word()), PICKED_BYTES)?);
    attempt.call.surroundings.secrets.refuse(&json, "what was picked")?;
    Ok(json)
}

/// A whole number from `from` to `to`, both included.
fn between(entropy: &dyn Entropy, from: i64, to: i64) -> i64 {
    let count = (i128::from(to) - i128::from(from) + 1) as u128;
    // The high half of a product spreads 64 random bits over the numbers; its bias is below 2⁻⁶⁴ times their count.
    let step = (u128::from(entropy.next()) * count) >> 64;
    (i128::from(from) + step as i128) as i64
}

/// A random UUID, version 4.
fn uuid(entropy: &dyn Entropy) -> String {
    let high = (entropy.next() & !0xf000) | 0x4000;
    let low = (entropy.next() & !(0b11 << 62)) | (0b10 << 62);
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff)
}
