//! Why a run is not moving: the engine's sentence, what came since and did not fit, and what would.

use std::ops::ControlFlow;

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use crate::base::{Millis, RunId, json as stored};
use crate::expr::{EventView, Expr, MATCH_VARIABLES, Scope};
use crate::rules::{EventRow, RunState, WaitState, Wanted, What};
use crate::server::view::{RunView, Trace};
use crate::store::EventQuery;
use crate::web::actions::{self, Act};
use crate::web::rows::each_event;
use crate::web::widgets::{self, Tone};
use crate::web::words::quoted;
use crate::web::{Ask, Web, WebError};

/// Events that are looked at for those that came and did not fit.
const LOOKED_AT: usize = 200;
/// Values that are told of them.
const TOLD: usize = 5;

/// Something that would let a waiting run go on.
#[derive(Debug, Clone)]
pub enum Offer {
    /// An event with data that fit.
    Event {
        /// Its name.
        name: String,
        /// Its data, as JSON.
        data: String,
        /// The condition that it has to fulfil.
        condition: Option<String>,
        /// Events of that name that came since and did not fit.
        missed: Missed,
    },
    /// A signal.
    Signal(String),
    /// The end of another run.
    Run(RunId),
}

/// Events that came since a wait began and did not fit.
#[derive(Debug, Clone, Default)]
pub struct Missed {
    /// How many, of those that were looked at.
    pub count: usize,
    /// There may be more.
    pub more: bool,
    /// What they had instead: a path and its values, newest first.
    pub values: Vec<(String, Vec<String>)>,
}

/// What would let a run go on.
pub async fn offers(web: &Web, trace: &Trace) -> Result<Vec<Offer>, WebError> {
    if trace.run.state != RunState::Waiting {
        return Ok(Vec::new());
    }
    let run = trace.run.run_id;
    let project = web.project();
    let own = trace.event.as_ref().map(|event| event.internal_id);
    web.read(move |store| {
        let mut offers = Vec::new();
        for wait in store.waits(run)?.iter().filter(|wait| wait.state == WaitState::Open) {
            match &*wait.what {
                What::Signal(name) => offers.push(Offer::Signal(name.to_string())),
                What::Run(child) => offers.push(Offer::Run(*child)),
                What::Events(alternatives) => {
                    for wanted in alternatives {
                        let query = EventQuery {
                            name: Some(wanted.event.clone()),
                            received_after: Some(wait.opened),
                            limit: LOOKED_AT,
                            ..EventQuery::default()
                        };
                        let example = project.example(&wanted.event).cloned();
                        let offered = offer(wanted, example, |look| {
                            each_event(store, &query, |event| {
                                if Some(event.id) != own {
                                    look(&event);
                                }
                                ControlFlow::Continue(())
                            })
                        });
                        offers.push(offered?);
                    }
                }
            }
        }
        Ok(offers)
    })
    .await
}

/// What would end a wait. `came` shows the events of its name that came since, the newest first.
fn offer<E>(wanted: &Wanted, example: Option<Value>, came: impl FnOnce(&mut dyn FnMut(&EventRow)) -> Result<(), E>) -> Result<Offer, E> {
    let bound = wanted.bound.as_deref().and_then(|bound| stored::value(bound).ok()).unwrap_or_default();
    let expr = wanted.condition.as_deref().and_then(|condition| Expr::parse(condition, MATCH_VARIABLES).ok());
    let mut data = match example {
        Some(Value::Object(map)) => Value::Object(map),
        _ => Value::Object(Map::new()),
    };
    let (mut missed, mut looked_at) = (Missed::default(), 0);
    if let Some(expr) = &expr {
        let own = view(&bound);
        if let Some(pin) = expr.pin(Some(own))
            && let Ok(value) = serde_json::from_str::<Value>(&pin.value)
        {
            put(&mut data, &pin.field.path(), value);
        }
        came(&mut |event| {
            looked_at += 1;
            let Ok(data) = stored::value(&event.data) else { return };
            let id = event.id.to_string();
            let that = EventView { id: &id, name: &event.name, data: &data, ts: event.ts.0 };
            let scope = Scope { event: Some(own), async_event: Some(that), ..Scope::default() };
            if expr.holds(&scope) == Ok(true) {
                return;
            }
            missed.count += 1;
            for (path, value) in expr.seen(&scope).into_iter().filter(|(path, _)| path.starts_with("async.")) {
                let text = value.to_string();
                match missed.values.iter_mut().find(|(known, _)| *known == path) {
                    Some((_, values)) if values.contains(&text) || values.len() >= TOLD => {}
                    Some((_, values)) => values.push(text),
                    None => missed.values.push((path, vec![text])),
                }
            }
        })?;
        missed.more = looked_at >= LOOKED_AT;
    }
    let data = serde_json::to_string_pretty(&data).unwrap_or_else(|_| "{}".to_owned());
    Ok(Offer::Event { name: wanted.event.to_string(), data, condition: wanted.condition.as_deref().map(str::to_owned), missed })
}

/// The run's own event, as much of it as its wait has kept.
fn view(bound: &Value) -> EventView<'_> {
    static NOTHING: Value = Value::Null;
    let text = |name: &str| bound.get(name).and_then(Value::as_str).unwrap_or_default();
    EventView {
        id: text("id"),
        name: text("name"),
        data: bound.get("data").unwrap_or(&NOTHING),
        ts: bound.get("ts").and_then(Value::as_i64).unwrap_or_default(),
    }
}

/// Sets a field of an event's data by its path, such as `data.user.id`.
fn put(data: &mut Value, path: &str, value: Value) {
    let path = path.trim_start_matches("async.");
    let mut names = path.split('.');
    // A condition on anything but the data cannot be fulfilled by data; neither can one on an element of a list.
    if names.next() != Some("data") || path.contains('[') {
        return;
    }
    let mut at = data;
    for name in names {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[name];
    }
    *at = value;
}

/// The box. A run that has ended has none.
pub fn why(ask: &Ask, run: &RunView, offers: &[Offer], now: Millis) -> Markup {
    if run.state.is_terminal() {
        return html! {};
    }
    let id = run.run_id.to_string();
    let sentence = run.why.clone().unwrap_or_else(|| match run.state {
        RunState::Running => "A worker has it.".to_owned(),
        _ => "It goes on as soon as it gets its turn.".to_owned(),
    });
    let is_worse = matches!(run.state, RunState::BackingOff | RunState::Parked | RunState::Paused);
    html! {
        section.why.warn[is_worse] #why aria-labelledby="why-title" {
            h2 #why-title { @if run.state == RunState::Running { "What is it doing?" } @else { "Why is it not moving?" } }
            p.sentence { (widgets::sentence(&widgets::cut(&sentence, super::REASON_CHARACTERS))) }
            @if let Some(wakes) = run.wakes_at.filter(|wakes| wakes.0 > now) {
                p.muted { "By itself it goes on " (widgets::ago(wakes.0, now)) ", at " (widgets::clock(wakes.0)) "." }
            }
            @if let Some(unfit) = &run.unfit { (widgets::picture(unfit)) }
            @for offer in offers { (offered(ask, offer, &id)) }
            @if matches!(run.state, RunState::BackingOff | RunState::Parked) {
                (actions::button(ask, Act {
                    path: "/do/retry-now", label: "Retry now", fields: &[("run", &id)], command: &format!("stepwell runs retry-now {id}"), tone: Tone::Info,
                    ..Act::default()
                }))
            }
            @if run.state == RunState::Parked {
                (actions::button(ask, Act {
                    path: "/do/migrate", label: "Migrate to the newest version", fields: &[("run", &id)],
                    command: &format!("stepwell runs migrate {id}"), ..Act::default()
                }))
            }
            @if run.state == RunState::Paused {
                (actions::button(ask, Act {
                    path: "/do/resume", label: "Resume the function", fields: &[("function", &run.function_id)],
                    command: &format!("stepwell functions resume {}", quoted(&run.function_id)), tone: Tone::Info, ..Act::default()
                }))
            }
        }
    }
}

fn offered(ask: &Ask, offer: &Offer, run: &str) -> Markup {
    match offer {
        Offer::Run(child) => html! { p { "It waits for " (widgets::run_link(*child)) "." } },
        Offer::Signal(name) => html! {
            details.offer {
                summary { "Send signal " code { (name) } "…" }
                form.stack method="post" action="/do/signal" {
                    input type="hidden" name="back" value={ "/runs/" (run) };
                    input type="hidden" name="name" value=(name);
                    label { span { "Data (JSON)" } textarea.mono name="data" rows="3" spellcheck="false" { "{}" } }
                    div.row { (actions::submit(ask, "Send signal", "", Tone::Info, None)) }
                    (actions::command("", "stepwell signal {name}[ --data {data}]", &[("name", name), ("data", "{}")]))
                }
            }
        },
        Offer::Event { name, data, condition, missed } => html! {
            @if missed.count > 0 {
                p.missed {
                    (missed.count) @if missed.more { " or more" } " " code { (name) } " came since; none matched"
                    @if missed.values.is_empty() { "." } @else {
                        ": "
                        @for (at, (path, values)) in missed.values.iter().enumerate() {
                            @if at > 0 { "; " } code { (path.trim_start_matches("async.data.")) } " was " (values.join(", "))
                        }
                        "."
                    }
                }
            } @else { p.muted { "No " code { (name) } " came since." } }
            details.offer open[ask.one("do") == Some("send")] {
                summary { "Send " code { (name) } "…" }
                form.stack method="post" action="/do/send" {
                    input type="hidden" name="back" value={ "/runs/" (run) };
                    input type="hidden" name="name" value=(name);
                    @if let Some(condition) = condition { p.small.muted { "It has to fulfil " code { (condition) } "." } }
                    label { span { "Data (JSON)" } textarea.mono name="data" rows=(data.lines().count().clamp(3, 14)) spellcheck="false" { (data) } }
                    div.row { (actions::submit(ask, &format!("Send {name}"), "", Tone::Info, None)) }
                    (actions::command("", "stepwell send {name}[ --data {data}]", &[("name", name), ("data", data)]))
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::Id;

    fn event(id: i64, data: &str) -> EventRow {
        EventRow {
            id: Id(id),
            name: Arc::from("otp/received"),
            data: Arc::from(data),
            sender_id: None,
            ts: Millis(1),
            accepted: Millis(1),
            extra: None,
        }
    }

    fn offered(wanted: &Wanted, example: Option<Value>, came: &[EventRow]) -> Offer {
        let offered = offer(wanted, example, |look| {
            came.iter().for_each(look);
            Ok::<_, std::convert::Infallible>(())
        });
        offered.unwrap()
    }

    #[test]
    fn an_offer_holds_what_its_condition_compares() {
        let wanted = Wanted {
            event: Arc::from("otp/received"),
            condition: Some(Arc::from("async.data.user.id == event.data.userId && async.data.code != \"\"")),
            bound: Some(Arc::from(r#"{"data":{"userId":"u1"}}"#)),
        };
        let came = [event(3, r#"{"user":{"id":"u9"},"code":"1"}"#), event(2, r#"{"user":{"id":"u7"},"code":"1"}"#)];
        let Offer::Event { data, missed, .. } = offered(&wanted, Some(json!({"code": "123"})), &came) else { panic!() };
        assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), json!({"code": "123", "user": {"id": "u1"}}));
        assert_eq!(missed.count, 2);
        let ids = missed.values.iter().find(|(path, _)| path == "async.data.user.id").unwrap();
        assert_eq!(ids.1, ["\"u9\"", "\"u7\""]);
    }

    #[test]
    fn an_event_that_fits_is_not_among_those_that_did_not() {
        let wanted =
            Wanted { event: Arc::from("otp/received"), condition: Some(Arc::from("async.data.n > 1")), bound: Some(Arc::from("{}")) };
        let came = [event(3, r#"{"n":5}"#), event(2, r#"{"n":1}"#), event(1, "{}")];
        let Offer::Event { missed, .. } = offered(&wanted, None, &came) else { panic!() };
        assert_eq!(missed.count, 2);
    }
}
