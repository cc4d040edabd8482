//! `POST /webhooks/NAME`: a signed request becomes an event. Whether it is signed is decided by `rules::webhook`, what it says by
//! the project's expressions; here it is read, handed on, and answered once the event is durable.
//!
//! Senders give a webhook up that answers 4xx for long, so a request that is signed and makes no event is answered with 202 and
//! counted, and only what a sender or an operator can mend is refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::base::json as text;
use crate::project::{Project, Reading, Webhook};
use crate::rules::webhook::{Headers, Refused};

use super::error::ApiError;
use super::events;
use super::view::Delivered;
use super::{App, Shared, inbound};

/// What became of requests, for the figures.
#[derive(Debug, Default)]
pub(super) struct Deliveries(Mutex<BTreeMap<(String, Became), u64>>);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Became {
    /// An event, or a repetition of one.
    Accepted,
    /// Nothing, by the config.
    Ignored,
    /// It was refused, though it was signed.
    Refused,
    /// It was not signed as it has to be.
    Unsigned,
}

impl Became {
    /// The word of the figures.
    pub fn word(self) -> &'static str {
        match self {
            Became::Accepted => "accepted",
            Became::Ignored => "ignored",
            Became::Refused => "refused",
            Became::Unsigned => "unsigned",
        }
    }
}

impl Deliveries {
    fn count(&self, webhook: &Webhook, became: Became) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((webhook.name.to_string(), became)).or_default() += 1;
    }

    /// How many requests of each webhook became what.
    pub fn counts(&self) -> Vec<(String, Became, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((name, became), count)| (name.clone(), *became, *count)).collect()
    }
}

/// `POST /webhooks/{name}`
pub(super) async fn take(State(app): Shared, name: Result<Path<String>, PathRejection>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let name = match name {
        Ok(Path(name)) => name,
        Err(error) => return events::refused(body, ApiError::bad_request(error.body_text())).await,
    };
    let door = app.door();
    let webhook = match door.project.webhook(&name) {
        Ok(webhook) => webhook,
        Err(near) => return events::refused(body, unknown(&name, near)).await,
    };
    if app.engine.is_draining() {
        return events::refused(body, events::draining()).await;
    }
    // A value that is no text can be no part of a signature, and expressions have no words for it.
    let pairs: Vec<(&str, &str)> = parts.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let headers = Headers(&pairs);
    if let Err(refused) = webhook.look(headers) {
        return events::refused(body, unsigned(&app, webhook, &refused)).await;
    }
    let bytes = inbound::raw(&parts.headers, body, door.options.body_bytes, door.options.body_timeout).await?;
    if let Err(refused) = webhook.verify(headers, &bytes, app.now()) {
        return Err(unsigned(&app, webhook, &refused));
    }
    let answer = deliver(&app, &door.project, webhook, headers, &parts.headers, &bytes).await;
    app.deliveries.count(webhook, answer.as_ref().map_or(Became::Refused, |(became, _)| *became));
    answer.map(|(_, answer)| answer).inspect_err(|error| {
        // The sender's log is out of the operator's sight.
        tracing::warn!(webhook = &*webhook.name, "a signed request was refused: {error}");
    })
}

fn unknown(name: &str, near: Option<&str>) -> ApiError {
    let name: String = name.chars().take(100).collect();
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    ApiError::not_found(format!("there is no webhook `{name}`{near}"))
}

/// Counts a request that is not signed as it has to be, and says what is wrong with it.
fn unsigned(app: &App, webhook: &Webhook, refused: &Refused) -> ApiError {
    app.deliveries.count(webhook, Became::Unsigned);
    tracing::debug!(webhook = &*webhook.name, %refused, "a request is not signed as it has to be");
    ApiError::new(StatusCode::UNAUTHORIZED, format!("webhook `{}`: {refused}", webhook.name))
}

/// Makes the event of a request that is signed.
async fn deliver(
    app: &App,
    project: &Project,
    webhook: &Webhook,
    headers: Headers<'_>,
    all: &HeaderMap,
    bytes: &[u8],
) -> Result<(Became, Response), ApiError> {
    let (body, raw) = body_of(all, bytes)?;
    let (name, id, data) = match webhook.read(project, headers, &body, bytes).map_err(ApiError::bad_request)? {
        Reading::Event { name, id, data } => (name, id, data),
        Reading::Nothing(why) => return Ok((Became::Ignored, ignored(why))),
        Reading::Challenge(challenge) => return Ok((Became::Ignored, Json(json!({ "challenge": challenge })).into_response())),
    };
    // The event is read as if it had been sent, so that the same is wrong with it that would be wrong there.
    let data = data.map_or(raw, |data| data.to_string());
    let id = id.map_or_else(|| "null".to_owned(), |id| Value::from(id).to_string());
    let sent = format!("{{\"name\":{},\"id\":{id},\"data\":{data}}}", Value::from(name.as_str()));
    let (mut incoming, problems) = inbound::parse(sent.as_bytes());
    if !problems.is_empty() {
        return Err(events::refusal(problems));
    }
    let incoming: Vec<_> = incoming.drain(..).map(|event| events::new_event(0, event, None)).collect();
    let ids = events::accept(app, incoming, bytes.len()).await?;
    let answer = Delivered { ids, status: StatusCode::OK.as_u16(), ignored: None };
    Ok((Became::Accepted, Json(answer).into_response()))
}

fn ignored(why: String) -> Response {
    let answer = Delivered { ids: Vec::new(), status: StatusCode::ACCEPTED.as_u16(), ignored: Some(why) };
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

/// The body as a value, and as JSON text: byte by byte as it came where it is JSON.
fn body_of(headers: &HeaderMap, bytes: &[u8]) -> Result<(Value, String), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let form = form_of(bytes)?;
        let raw = form.to_string();
        return Ok((form, raw));
    }
    let raw = std::str::from_utf8(bytes).map_err(|_| ApiError::bad_request("the body is not UTF-8 text"))?.trim();
    let value = text::value(raw).map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    Ok((value, raw.to_owned()))
}

/// The fields of a form, a list where one stands several times. A `payload` of JSON is all there is to it: so do GitHub and Slack
/// send JSON in a form.
fn form_of(bytes: &[u8]) -> Result<Value, ApiError> {
    let mut fields: Map<String, Value> = Map::new();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        let value = Value::from(value);
        match fields.get_mut(&*name) {
            None => drop(fields.insert(name.into_owned(), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    match fields.get("payload") {
        Some(Value::String(payload)) if payload.starts_with('{') => {
            text::value(payload).map_err(|error| ApiError::bad_request(format!("the form's `payload` is not JSON: {error}")))
        }
        _ => Ok(Value::Object(fields)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_maps_and_their_payload_is_all_of_them() {
        let form = |body: &str| form_of(body.as_bytes()).unwrap();
        assert_eq!(form("a=1&b=x%20y&a=2&a=3"), json!({"a": ["1", "2", "3"], "b": "x y"}));
        assert_eq!(form("payload=%7B%22action%22%3A%22opened%22%7D&x=1"), json!({"action": "opened"}));
        assert_eq!(form("payload=paid"), json!({"payload": "paid"}));
        assert!(form_of(b"payload=%7B").is_err());
    }

    #[test]
    fn json_is_kept_as_it_came() {
        let (value, raw) = body_of(&HeaderMap::new(), b" {\"n\": 1e999, \"b\":12345678901234567890123} \n").unwrap();
        assert_eq!(raw, "{\"n\": 1e999, \"b\":12345678901234567890123}");
        assert_eq!(value["n"], json!(f64::MAX));
        assert!(body_of(&HeaderMap::new(), b"\xff").is_err() && body_of(&HeaderMap::new(), b"{").is_err());
    }
}
