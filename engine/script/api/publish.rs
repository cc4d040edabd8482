//! `publish`: a message for whoever listens to a channel at that moment. It is an effect like others, so it works inside a step
//! only: a step that is recorded publishes nothing again, and the message needs no record of its own.

use std::sync::Arc;

use rhai::{Dynamic, Engine, ImmutableString, Map};

use crate::base::limits::{CHANNEL_MESSAGE_BYTES, CHANNEL_NAME_BYTES};
use crate::base::{Json, alloc};

use super::super::attempt::{Attempt, current};
use super::super::error::{Fault, Thrown};
use super::super::post::Published;
use super::super::value;
use super::demand_step;

/// The options that it takes.
pub(super) const OPTIONS: [&str; 1] = ["topic"];

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("publish", |channel: ImmutableString, data: Dynamic| publish(&channel, &data, &Map::new()));
    engine.register_fn("publish", |channel: ImmutableString, data: Dynamic, options: Map| publish(&channel, &data, &options));
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

/// What is wrong with the name of a channel, or with a topic; `what` begins the sentence.
pub(in crate::script) fn wrong_name(what: &str, name: &str) -> Option<String> {
    let fits = (1..=CHANNEL_NAME_BYTES).contains(&name.len());
    (!fits).then(|| format!("{what} has 1 to {CHANNEL_NAME_BYTES} bytes, not {}", name.len()))
}

fn check_name(attempt: &Attempt, what: &str, name: &str) -> Result<(), Fault> {
    match wrong_name(what, name) {
        Some(message) => Err(bad(message)),
        None => attempt.call.surroundings.secrets.refuse(name, what),
    }
}

fn topic(options: &Map) -> Result<Option<String>, Fault> {
    if let Some(other) = options.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
        return Err(Thrown::last("E0407", format!("publish has no option `{other}`")).help("it takes topic").fault());
    }
    let Some(topic) = options.get("topic") else { return Ok(None) };
    let text = topic.as_immutable_string_ref().map(|text| text.to_string());
    text.map(Some).map_err(|_| bad("the topic of publish is a text"))
}

fn publish(channel: &str, data: &Dynamic, options: &Map) -> Result<(), Fault> {
    let attempt = current()?;
    let inside = demand_step(&attempt, "publish")?;
    check_name(&attempt, "a channel's name", channel)?;
    let topic = topic(options)?;
    if let Some(topic) = &topic {
        check_name(&attempt, "a topic", topic)?;
    }
    let text = value::write_shown(data, format_args!("the message to `{channel}`"), CHANNEL_MESSAGE_BYTES)?;
    if attempt.is_halted() {
        return Ok(());
    }
    let surroundings = &attempt.call.surroundings;
    // Listeners have it after the script is gone, so it is not the script's.
    alloc::uncounted(|| {
        let message = Arc::new(Published {
            channel: Arc::from(channel),
            topic: topic.as_deref().map(Arc::from),
            data: Json::from(&*surroundings.secrets.hide(&text)),
            run: attempt.call.run.id,
            at: attempt.now(),
        });
        if let Some(outside) = surroundings.outside.as_deref() {
            outside.published(&inside.key, inside.attempt, attempt.next_call(), &message);
        }
        attempt.ports.watch.published(&message);
    });
    Ok(())
}
