//! `kv::*`: values in the engine's own store. A change is committed with its step's record, so it happens exactly once.

use std::sync::Arc;

use rhai::{Dynamic, Engine, FnPtr, Map, Module, NativeCallContext};

use crate::base::limits::{KV_CHANGES, KV_KEY_BYTES, KV_VALUE_BYTES};
use crate::base::{Json, Millis, Span, alloc};
use crate::rules::KvRow;

use super::super::attempt::{Attempt, current};
use super::super::error::{Fault, Thrown};
use super::super::{time, value};
use super::demand_step;

/// How long a step waits for a key that another one is about to change: two that wait for each other's go on after it.
const HOLD_MOST: Span = Span::seconds(10);

pub(super) fn register(engine: &mut Engine) {
    let mut kv = Module::new();
    kv.set_native_fn("get", |key: &str| get(key, Dynamic::UNIT));
    kv.set_native_fn("get", |key: &str, default: Dynamic| get(key, default));
    kv.set_native_fn("set", |key: &str, value: Dynamic| set(key, &value, &Map::new()));
    kv.set_native_fn("set", |key: &str, value: Dynamic, options: Map| set(key, &value, &options));
    kv.set_native_fn("incr", |key: &str| incr(key, 1, &Map::new()));
    kv.set_native_fn("incr", |key: &str, by: i64| incr(key, by, &Map::new()));
    kv.set_native_fn("incr", |key: &str, by: i64, options: Map| incr(key, by, &options));
    kv.set_native_fn("delete", delete);
    kv.set_native_fn("update", |context: NativeCallContext, key: &str, each: FnPtr| update(&context, key, &each, &Map::new()));
    kv.set_native_fn("update", |context: NativeCallContext, key: &str, each: FnPtr, options: Map| update(&context, key, &each, &options));
    engine.register_static_module("kv", kv.into());
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

fn check_key(attempt: &Attempt, key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.len() > KV_KEY_BYTES {
        return Err(bad(format!("a key of kv has 1 to {KV_KEY_BYTES} bytes, not {}", key.len())));
    }
    attempt.call.surroundings.secrets.refuse(key, "a key of kv")
}

/// When a value that is stored now is gone.
fn expires(options: &Map, now: Millis) -> Result<Option<Millis>, Fault> {
    if let Some(other) = options.keys().find(|name| name.as_str() != "ttl") {
        return Err(Thrown::last("E0407", format!("kv has no option `{other}`")).help("it takes ttl").fault());
    }
    match options.get("ttl").map(time::period).transpose()? {
        Some(ttl) if ttl.0 == Span(0) => Err(bad("a ttl is longer than 0s")),
        ttl => Ok(ttl.map(|ttl| now.after(ttl.0))),
    }
}

/// The value under a key, unless its time is over, and when that will be.
fn read(attempt: &Attempt, key: &str) -> Result<Option<(Dynamic, Option<Millis>)>, Fault> {
    let Some(row) = attempt.value(key)? else { return Ok(None) };
    let (is_there, read, expires) = (row.is_there(attempt.now()), value::read(&row.value), row.expires);
    // The store made it, so it is not the script's.
    alloc::uncounted(|| drop(row));
    if !is_there {
        return Ok(None);
    }
    let read = read.map_err(|bad| Thrown::last("E0404", format!("a stored value is not JSON: {bad}")).fault())?;
    Ok(Some((read, expires)))
}

fn get(key: &str, default: Dynamic) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_step(&attempt, "kv::get")?;
    check_key(&attempt, key)?;
    Ok(read(&attempt, key)?.map_or(default, |(value, _)| value))
}

/// Gets hold of a key, for the time until the step is recorded or has failed.
fn hold(attempt: &Attempt, name: &str, key: &str) -> Result<Arc<str>, Fault> {
    demand_step(attempt, name)?;
    check_key(attempt, key)?;
    let shared: Arc<str> = alloc::uncounted(|| Arc::from(key));
    if attempt.holds(key) {
        return Ok(shared);
    }
    if attempt.changes() >= KV_CHANGES {
        return Err(bad(format!("a step changes at most {KV_CHANGES} keys of kv")));
    }
    let (keys, timer) = alloc::uncounted(|| {
        let until = attempt.now().after(HOLD_MOST);
        (attempt.ports.post.keys(), attempt.ports.clock.sleep_until(until, false))
    });
    let wanted = Arc::clone(&shared);
    let held = attempt.wait_in_step(async {
        tokio::select! {
            biased;
            held = keys.hold(wanted) => Some(held),
            () = timer => None,
        }
    })?;
    match held {
        Some(held) => attempt.keep(held),
        None => {
            let message = format!("{name}: another step has held the key `{key}` for {HOLD_MOST}");
            let help =
                "a step holds the keys that it changes until it is recorded: change them at its end, and in the same order everywhere";
            return Err(Thrown::new("E0427", message).help(help).fault());
        }
    }
    Ok(shared)
}

fn put(attempt: &Attempt, key: &Arc<str>, value: &Dynamic, expires: Option<Millis>) -> Result<(), Fault> {
    let what = format!("the value for the key `{key}`");
    let text = value::write(value, &what, KV_VALUE_BYTES)?;
    attempt.call.surroundings.secrets.refuse(&text, &what)?;
    let row = alloc::uncounted(|| KvRow { key: Arc::clone(key), value: Json::from(text.as_str()), expires });
    attempt.change(key, Some(row));
    Ok(())
}

fn set(key: &str, value: &Dynamic, options: &Map) -> Result<(), Fault> {
    let attempt = current()?;
    let key = hold(&attempt, "kv::set", key)?;
    put(&attempt, &key, value, expires(options, attempt.now())?)
}

fn incr(key: &str, by: i64, options: &Map) -> Result<i64, Fault> {
    let attempt = current()?;
    let key = hold(&attempt, "kv::incr", key)?;
    let fresh = expires(options, attempt.now())?;
    let (before, until) = match read(&attempt, &key)? {
        None => (0, fresh),
        Some((value, until)) => {
            let whole = value.as_int().map_err(|kind| bad(format!("kv::incr: under `{key}` is no whole number, but of type {kind}")))?;
            (whole, until)
        }
    };
    let sum = before.checked_add(by).ok_or_else(|| bad(format!("kv::incr: {before} + {by} does not fit 64 bits")))?;
    put(&attempt, &key, &sum.into(), until)?;
    Ok(sum)
}

fn delete(key: &str) -> Result<bool, Fault> {
    let attempt = current()?;
    let key = hold(&attempt, "kv::delete", key)?;
    let was_there = read(&attempt, &key)?.is_some();
    attempt.change(&key, None);
    Ok(was_there)
}

fn update(context: &NativeCallContext<'_>, key: &str, each: &FnPtr, options: &Map) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    let key = hold(&attempt, "kv::update", key)?;
    let until = expires(options, attempt.now())?;
    let (before, kept) = read(&attempt, &key)?.unwrap_or((Dynamic::UNIT, None));
    let after: Dynamic = each.call_within_context(context, (before,))?;
    if after.is_unit() {
        attempt.change(&key, None);
    } else {
        put(&attempt, &key, &after, until.or(kept))?;
    }
    Ok(after)
}
