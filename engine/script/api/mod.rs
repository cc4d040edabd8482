//! What a script sees: the table of its functions, from which checks, documentation and editor definitions are made, and
//! the natives behind it, a file per family.

mod bytes;
pub(super) mod calendar;
mod crypto;
mod group;
mod jwt;
mod kv;
mod parallel;
pub(super) mod publish;
mod race;
pub(super) mod regex;
mod send;
mod sizes;
pub(super) mod steps;
mod table;
mod template;
mod text;
mod tiny;
mod waits;
mod world;

use rhai::Engine;

use super::attempt::{Attempt, Inside};
use super::error::{Fault, Thrown};

pub(in crate::script) use table::type_words;
pub use table::{Entry, FAMILIES, Family, Form, Parameter, Where, definitions, entries, reference};

/// Registers all of it.
pub(super) fn register(engine: &mut Engine) {
    steps::register(engine);
    tiny::register(engine);
    send::register(engine);
    parallel::register(engine);
    race::register(engine);
    waits::register(engine);
    text::register(engine);
    world::register(engine);
    calendar::register(engine);
    bytes::register(engine);
    regex::register(engine);
    crypto::register(engine);
    jwt::register(engine);
    template::register(engine);
    kv::register(engine);
    publish::register(engine);
    sizes::register(engine);
    super::effects::http::register(engine);
    super::effects::db::register(engine);
    super::effects::email::register(engine);
    super::effects::exec::register(engine);
}

/// The step that runs; an effect is refused outside of one. From here on it may act: all that was recorded before is durable.
pub(super) fn demand_step(attempt: &Attempt, name: &str) -> Result<Inside, Fault> {
    if attempt.is_inside() {
        attempt.commit_before_acting()?;
    }
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
