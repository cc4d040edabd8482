//! `send_event`, `send_signal`.

use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, NativeCallContext};

use crate::base::limits::{EVENT_ID_BYTES, EVENTS_PER_REQUEST};
use crate::base::{Json, Millis, alloc};
use crate::rules::Kind;

use super::super::attempt::{Attempt, Found, Made, current};
use super::super::error::{Fault, Thrown};
use super::super::post::Outgoing;
use super::super::time;
use super::demand_between;
use super::steps::check_name;
use super::waits::{check_open, data_of, ids_json, recorded};
use crate::rules::row::Recorded;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("send_event", |context: NativeCallContext, name: ImmutableString, data: Dynamic| {
        send(&context, vec![One { name: name.to_string(), data, id: None, ts: None }])
    });
    engine.register_fn("send_event", |context: NativeCallContext, events: Array| send(&context, list(events)?));
    engine.register_fn("send_signal", |context: NativeCallContext, name: ImmutableString| signal(&context, &name, &Dynamic::UNIT));
    engine.register_fn("send_signal", |context: NativeCallContext, name: ImmutableString, data: Dynamic| signal(&context, &name, &data));
}

/// An event as the script gave it.
struct One {
    name: String,
    data: Dynamic,
    id: Option<String>,
    ts: Option<Millis>,
}

fn list(events: Array) -> Result<Vec<One>, Fault> {
    if events.is_empty() || events.len() > EVENTS_PER_REQUEST {
        return Err(Thrown::last("E0407", format!("send_event takes 1 to {EVENTS_PER_REQUEST} events at once")).fault());
    }
    events.into_iter().map(one).collect()
}

fn one(event: Dynamic) -> Result<One, Fault> {
    let wrong =
        |message: String| Thrown::last("E0407", message).help("an event is #{ name: \"…\", data: #{ … }, id: \"…\", ts: now() }").fault();
    let Some(map) = event.try_cast::<Map>() else { return Err(wrong("send_event takes an array of events".to_owned())) };
    let mut one = One { name: String::new(), data: Map::new().into(), id: None, ts: None };
    for (field, value) in map {
        let text = value.as_immutable_string_ref().map(|text| text.to_string());
        match (field.as_str(), text) {
            ("name", Ok(name)) => one.name = name,
            ("id", Ok(id)) if (1..=EVENT_ID_BYTES).contains(&id.len()) => one.id = Some(id),
            ("id", _) => return Err(wrong(format!("an event's id is a text of 1 to {EVENT_ID_BYTES} bytes"))),
            ("data", _) => one.data = value,
            ("ts", _) => {
                let wrong = || wrong("an event's ts is a time, RFC 3339 text, or milliseconds since 1970".to_owned());
                one.ts = Some(time::stamp_of(&value).ok_or_else(wrong)?);
            }
            (field, _) => return Err(wrong(format!("an event that is sent has no `{field}`, or not of this kind"))),
        }
    }
    if one.name.is_empty() { Err(wrong("an event that is sent has a name".to_owned())) } else { Ok(one) }
}

fn send(context: &NativeCallContext<'_>, events: Vec<One>) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, "send_event")?;
    let name = events.first().map_or("", |event| &event.name);
    check_name(&attempt, name)?;
    let texts = events.iter().flat_map(|event| std::iter::once(&event.name).chain(&event.id));
    check_open(&attempt, texts, "the name or id of an event")?;
    let key = match attempt.ask(Kind::Send, name)? {
        Found::Recorded(result) => return recorded(&attempt, result),
        Found::New(key) => attempt.key_of(Kind::Send, key),
    };
    attempt.demand_time()?;
    let made = Made { attempts: 1, started: attempt.now(), line: attempt.line_of(context) };
    let outgoing = match outgoing(&attempt, &key.key, events) {
        Ok(outgoing) => outgoing,
        Err(fault) => return Err(attempt.wrong(&key, fault, made)),
    };
    let (ids, parcel) = match alloc::uncounted(|| attempt.ports.post.send(outgoing)) {
        Ok(ready) => ready,
        Err(failure) => return Err(attempt.used_up(&key, *failure, made)),
    };
    let record = attempt.record_of(&key, &ids_json(&ids), made)?;
    let json = attempt.hand_over(parcel, record)?;
    recorded(&attempt, Recorded::Value(json))
}

fn outgoing(attempt: &Attempt, key: &str, events: Vec<One>) -> Result<Vec<Outgoing>, Fault> {
    let mut all = Vec::with_capacity(events.len());
    let extra = alloc::uncounted(|| attempt.onward(key).map(|context| context.beside(None)));
    for (at, event) in events.into_iter().enumerate() {
        let data = data_of(attempt, &event.data, &format!("the data of event `{}`", event.name))?;
        let nth = if at == 0 { String::new() } else { format!(".{}", at + 1) };
        let derived = format!("{}.{key}{nth}", attempt.call.run.id);
        all.push(alloc::uncounted(|| Outgoing {
            name: Arc::from(event.name.as_str()),
            data,
            id: event.id.as_deref().map(Arc::from),
            derived: Arc::from(derived.as_str()),
            ts: event.ts,
            extra: extra.clone(),
        }));
    }
    Ok(all)
}

fn signal(context: &NativeCallContext<'_>, name: &str, data: &Dynamic) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    demand_between(&attempt, "send_signal")?;
    check_name(&attempt, name)?;
    let key = match attempt.ask(Kind::Send, name)? {
        Found::Recorded(result) => return recorded(&attempt, result),
        Found::New(key) => attempt.key_of(Kind::Send, key),
    };
    attempt.demand_time()?;
    let made = Made { attempts: 1, started: attempt.now(), line: attempt.line_of(context) };
    let data: Json = match data_of(&attempt, data, &format!("the data of signal `{name}`")) {
        Ok(data) => data,
        Err(fault) => return Err(attempt.wrong(&key, fault, made)),
    };
    let parcel = attempt.ports.post.signal(Arc::from(name), data);
    let record = attempt.record_of(&key, "null", made)?;
    attempt.hand_over(parcel, record)?;
    Ok(Dynamic::UNIT)
}
