//! What a script sees: the table of its functions, from which checks, documentation and editor definitions are made, and
//! the natives behind it, a file per family.

mod later;
mod parallel;
mod send;
mod sizes;
pub(super) mod steps;
mod text;
mod tiny;
mod waits;
mod world;

use rhai::Engine;

use super::attempt::{Attempt, Inside};
use super::error::{Fault, Thrown};

/// Where a function may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Everywhere.
    Anywhere,
    /// Inside a step's closure only: it is an effect.
    InStep,
    /// Outside of a step's closure only: it makes a record or ends an attempt of its own.
    BetweenSteps,
    /// In a later version.
    Later,
}

/// A function of the handler API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name as it is called, with its module: `log::info`.
    pub name: &'static str,
    /// How it is called; each line is one form.
    pub signatures: &'static [&'static str],
    /// The numbers of arguments that it takes.
    pub arguments: &'static [usize],
    /// Where it may be called.
    pub place: Where,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

const fn entry(
    name: &'static str,
    signatures: &'static [&'static str],
    arguments: &'static [usize],
    place: Where,
    doc: &'static str,
) -> Entry {
    Entry { name, signatures, arguments, place, doc }
}

const fn later(name: &'static str) -> Entry {
    Entry { name, signatures: &[], arguments: &[], place: Where::Later, doc: "" }
}

use Where::{Anywhere, BetweenSteps};

/// Every function of the handler API.
#[rustfmt::skip]
pub const ENTRIES: &[Entry] = &[
    entry("step", &["step(name, || …)", "step(name, #{retries, timeout, backoff}, || …)"], &[2, 3], BetweenSteps,
        "Runs the closure, stores its result as JSON, and returns what was stored. Once recorded, it never runs again in this run. A failed attempt is tried again after a back-off; when all attempts are used up, a StepError is thrown."),
    entry("sleep", &["sleep(duration)", "sleep(name, duration)"], &[1, 2], BetweenSteps,
        "Suspends the run: \"1h30m\", or seconds; at most a year. Nothing of the run is in memory meanwhile."),
    entry("sleep_until", &["sleep_until(time)", "sleep_until(name, time)"], &[1, 2], BetweenSteps,
        "Suspends the run until a time: what now() gives, or RFC 3339 text."),
    entry("fail", &["fail(message)", "fail(message, data)"], &[1, 2], Anywhere,
        "Ends the run as failed, without another attempt; catch does not see it."),
    entry("retry_after", &["retry_after(duration, message)"], &[2], Anywhere,
        "Fails this attempt; the next one comes after the given time."),
    entry("log::debug", &["log::debug(message)", "log::debug(message, data)"], &[1, 2], Anywhere, "Writes a line to the run's log."),
    entry("log::info", &["log::info(message)", "log::info(message, data)"], &[1, 2], Anywhere, "Writes a line to the run's log."),
    entry("log::warn", &["log::warn(message)", "log::warn(message, data)"], &[1, 2], Anywhere, "Writes a line to the run's log."),
    entry("log::error", &["log::error(message)", "log::error(message, data)"], &[1, 2], Anywhere, "Writes a line to the run's log."),
    entry("print", &["print(value)"], &[1], Anywhere, "Writes a line to the run's log, as log::info."),
    entry("env", &["env(name)"], &[1], Anywhere, "The value of a variable that is listed under `env` in events.yaml."),
    entry("secret", &["secret(name)"], &[1], Anywhere,
        "A secret that is listed under `secrets` in events.yaml. It prints as «secret NAME», and is never stored."),
    entry("now", &["now()"], &[0], Anywhere, "The time. Outside of a step it is recorded, so that a replay sees the same."),
    entry("date", &["date(text)"], &[1], Anywhere, "The time that an RFC 3339 text names."),
    entry("duration", &["duration(text)"], &[1], Anywhere, "A length of time: \"1h30m\", or seconds."),
    entry("uuid", &["uuid()"], &[0], Anywhere, "A random UUID. Outside of a step it is recorded."),
    entry("random", &["random()", "random(from, to)"], &[0, 2], Anywhere,
        "A random number from 0 (included) to 1 (excluded), or a whole one from `from` to `to` (both included). Outside of a step it is recorded."),
    entry("pick", &["pick(array)"], &[1], Anywhere, "A random element. Outside of a step the choice is recorded."),
    entry("json::parse", &["json::parse(text)"], &[1], Anywhere, "Reads JSON text, exactly."),
    entry("json::stringify", &["json::stringify(value)"], &[1], Anywhere, "The value as JSON text."),
    entry("json::pretty", &["json::pretty(value)"], &[1], Anywhere, "The value as JSON text on several lines."),
    entry("json::get", &["json::get(value, path)", "json::get(value, path, default)"], &[2, 3], Anywhere,
        "What lies at a path such as \"items.0.id\" or \"/items/0/id\"; () or the default where nothing does."),
    entry("json::merge", &["json::merge(first, second)"], &[2], Anywhere,
        "The first map with what the second one says: maps are merged, other values replaced, () removes."),
    entry("http::get", &["http::get(url)", "http::get(url, options)"], &[1, 2], Where::InStep, HTTP),
    entry("http::post", &["http::post(url)", "http::post(url, options)"], &[1, 2], Where::InStep, HTTP),
    entry("http::put", &["http::put(url)", "http::put(url, options)"], &[1, 2], Where::InStep, HTTP),
    entry("http::patch", &["http::patch(url)", "http::patch(url, options)"], &[1, 2], Where::InStep, HTTP),
    entry("http::delete", &["http::delete(url)", "http::delete(url, options)"], &[1, 2], Where::InStep, HTTP),
    entry("http::head", &["http::head(url)", "http::head(url, options)"], &[1, 2], Where::InStep, HTTP),
    entry("send_event", &["send_event(name, data)", "send_event([#{name, data, id}])"], &[1, 2], BetweenSteps,
        "Sends an event, or several at once, and gives their ids. It is sent once, however often the run is tried again."),
    entry("wait_for_event", &["wait_for_event(name)", "wait_for_event(name, #{\"if\", timeout, id})"], &[1, 2], BetweenSteps,
        "Suspends the run until an event of that name comes for which `if` holds (CEL over `event`, the run's own, and `async`, the one that came), also one that came since the run began. Gives the event, or () after the time-out."),
    entry("wait_for_any", &["wait_for_any([#{event, \"if\"}, …])", "wait_for_any([#{event, \"if\"}, …], #{timeout, id})"], &[1, 2], BetweenSteps,
        "Suspends the run until the first event comes that fits one of the entries. Gives the event, with its `name`, or () after the time-out."),
    entry("wait_for_signal", &["wait_for_signal(name)", "wait_for_signal(name, #{timeout, id})"], &[1, 2], BetweenSteps,
        "Suspends the run until the signal is sent. Gives its data, or () after the time-out."),
    entry("send_signal", &["send_signal(name)", "send_signal(name, data)"], &[1, 2], BetweenSteps,
        "Sends a signal to every run that waits for it at that moment."),
    entry("invoke", &["invoke(function, data)", "invoke(function, data, #{timeout, id})"], &[2, 3], BetweenSteps,
        "Starts a run of another function, waits for its end, and gives its result. Where it fails, is cancelled, or does not end in time, a StepError is thrown; where this run is cancelled, so is the other one."),
    entry("parallel", &["parallel(#{name: || …})", "parallel([|| …])", "parallel(list, |item| …)", "parallel(…, #{limit, settle})"], &[1, 2, 3], BetweenSteps,
        "Runs branches at once, each with records of its own, and gives their results in the same shape. When all have ended, the first error is thrown, unless `settle` is true: then each result is #{ok} or #{err}. At most `limit` branches (32) are under way at once."),
    later("template"),
    later("base64::encode"), later("base64::decode"), later("hex::encode"), later("hex::decode"),
    later("url::encode"), later("url::decode"), later("url::parse"), later("url::build"), later("html::escape"),
    later("regex::test"), later("regex::find"), later("regex::replace"), later("regex::captures"),
    later("hash::sha256"), later("hash::sha1"), later("hash::md5"), later("hmac::sha256"),
    later("jwt::sign"), later("jwt::verify"), later("secure_eq"),
    later("kv::get"), later("kv::set"), later("kv::incr"), later("kv::delete"),
    later("db::query"), later("db::exec"), later("email::send"), later("exec::run"),
];

const HTTP: &str = "Makes a request. Options: json, form, body, headers, query, auth, basic, timeout, follow, allow_status, idempotency_key. \
Result: status, ok, headers, json, text, ms. Network errors, 5xx and 429 are tried again; another 4xx ends the step, unless allow_status lists it.";

/// Registers all of it.
pub(super) fn register(engine: &mut Engine) {
    steps::register(engine);
    tiny::register(engine);
    send::register(engine);
    parallel::register(engine);
    waits::register(engine);
    text::register(engine);
    world::register(engine);
    later::register(engine);
    sizes::register(engine);
    super::effects::http::register(engine);
}

/// The step that runs; an effect is refused outside of one.
pub(super) fn demand_step(attempt: &Attempt, name: &str) -> Result<Inside, Fault> {
    attempt.inside().ok_or_else(|| {
        Thrown::last("E0403", format!("{name} acts on the world, so it works inside a step only"))
            .help(format!("write step(\"a-name\", || {name}(…))"))
            .fault()
    })
}

/// Refuses what makes a record of its own inside a step's closure.
pub(super) fn demand_between(attempt: &Attempt, name: &str) -> Result<(), Fault> {
    if !attempt.is_inside() {
        return Ok(());
    }
    match attempt.inside() {
        None => Ok(()),
        Some(inside) => Err(Thrown::last("E0402", format!("{name} inside the closure of step `{}`", inside.key))
            .help("a step is recorded as a whole: call it before or after the step")
            .fault()),
    }
}
