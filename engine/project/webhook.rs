//! A webhook ready for requests: its signature's check, and the expressions that make an event of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::base::diagnostic::nearest;
use crate::base::limits::EVENT_ID_BYTES;
use crate::base::{Diagnostic, Millis, hex};
use crate::config::{self, Model, Spanned, UnknownEvents};
use crate::expr::{EvalError, Expr, Scope};
use crate::rules::webhook::{Headers, Refused, Scheme, Verifier};

use super::Project;
use super::expressions;
use super::load::SecretValues;

/// A webhook, compiled.
#[derive(Debug)]
pub struct Webhook {
    /// Its name, the last part of its path.
    pub name: Arc<str>,
    verifier: Verifier,
    event: Expr,
    id: Option<Expr>,
    data: Option<Expr>,
    /// It was said that the expression for the name does not take every request.
    warned: AtomicBool,
    /// It was said that a request made an event that is not taken.
    unwelcome: AtomicBool,
}

/// What a request says, as an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// It is this event.
    Event {
        /// Its name.
        name: String,
        /// The delivery's id.
        id: Option<String>,
        /// Its data; none where they are the body as it came.
        data: Option<Value>,
    },
    /// It is no event, for this reason.
    Nothing(String),
    /// The sender asks whether somebody is there, and wants to hear this.
    Challenge(String),
}

impl Webhook {
    /// Looks at the headers of a request whose body has not been read.
    ///
    /// # Errors
    /// Why it is refused, whatever its body may be.
    pub fn look(&self, headers: Headers<'_>) -> Result<(), Refused> {
        self.verifier.look(headers)
    }

    /// Checks who sent a request.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, headers: Headers<'_>, body: &[u8], now: Millis) -> Result<(), Refused> {
        self.verifier.verify(headers, body, now)
    }

    /// Makes an event of a request that was verified; `body` is what its `bytes` say.
    ///
    /// # Errors
    /// Which of the expressions fails on it, and why.
    pub fn read(&self, project: &Project, headers: Headers<'_>, body: &Value, bytes: &[u8]) -> Result<Reading, String> {
        if *self.verifier.scheme() == Scheme::Slack && body["type"] == "url_verification" {
            return match body["challenge"].as_str() {
                Some(challenge) => Ok(Reading::Challenge(challenge.to_owned())),
                None => Err("`url_verification` without a `challenge`".to_owned()),
            };
        }
        let shown = shown(headers);
        let values = [("body", body), ("headers", &shown)];
        let scope = Scope { values: &values, ..Scope::default() };
        let name = match self.event.eval(&scope) {
            Ok(Value::String(name)) if !name.is_empty() => name,
            Ok(Value::Null) => return Ok(Reading::Nothing(format!("`event: {}` is null", self.event.text()))),
            Ok(other) => {
                let why = format!("`event: {}` gives {other}, no name", self.event.text());
                return Ok(Reading::Nothing(self.said_once(&self.warned, why)));
            }
            Err(error) => return Ok(Reading::Nothing(self.said_once(&self.warned, failed("event", &self.event, &error)))),
        };
        // The sender can do nothing about a name, so it is not told to come again.
        if let Some(problem) = project.unwelcome(&name) {
            return Ok(Reading::Nothing(self.said_once(&self.unwelcome, problem.message)));
        }
        let id = match &self.id {
            Some(id) => id.eval(&scope).map_err(|error| failed("id", id, &error)).and_then(|found| id_of(&found, id))?,
            None => self.delivery(headers, body),
        };
        // Without an id, a request that was captured and is sent again would be another event.
        let id = id.or_else(|| self.verifier.fingerprint(headers, bytes));
        let data = match &self.data {
            Some(data) if &**data.text() != "body" => Some(data.eval(&scope).map_err(|error| failed("data", data, &error))?),
            _ => None,
        };
        Ok(Reading::Event { name, id: id.map(bounded), data })
    }

    /// The id that the scheme gives a delivery.
    fn delivery(&self, headers: Headers<'_>, body: &Value) -> Option<String> {
        let id = match self.verifier.scheme() {
            Scheme::Stripe => body["id"].as_str(),
            Scheme::Slack => body["event_id"].as_str(),
            Scheme::Github | Scheme::Standard | Scheme::Hmac(_) => self.verifier.delivery(headers),
        };
        id.filter(|id| !id.is_empty()).map(str::to_owned)
    }

    /// Says once a snapshot why a request makes no event.
    fn said_once(&self, said: &AtomicBool, why: String) -> String {
        if !said.swap(true, Ordering::Relaxed) {
            tracing::warn!(webhook = &*self.name, "{why}: the request makes no event (said once)");
        }
        why
    }
}

impl Project {
    /// The webhook of this name.
    ///
    /// # Errors
    /// The nearest name that there is, if one is near.
    pub fn webhook(&self, name: &str) -> Result<&Arc<Webhook>, Option<&str>> {
        let found = self.webhooks.iter().find(|webhook| *webhook.name == *name);
        found.ok_or_else(|| nearest(name, self.webhooks.iter().map(|webhook| &*webhook.name)))
    }
}

fn failed(what: &str, expr: &Expr, error: &EvalError) -> String {
    format!("`{what}: {}` fails: {error}", expr.text())
}

/// The headers as expressions see them: by their names in small letters; of one that stands twice, the first.
fn shown(headers: Headers<'_>) -> Value {
    let mut map = Map::new();
    for (name, value) in headers.0 {
        map.entry((*name).to_owned()).or_insert_with(|| Value::from(*value));
    }
    Value::Object(map)
}

fn id_of(found: &Value, expr: &Expr) -> Result<Option<String>, String> {
    match found {
        Value::Null => Ok(None),
        Value::String(id) if id.is_empty() => Ok(None),
        Value::String(id) => Ok(Some(id.clone())),
        Value::Number(id) => Ok(Some(id.to_string())),
        other => Err(format!("`id: {}` gives {other}, which is neither a text nor a number", expr.text())),
    }
}

/// An id as it can be kept: one that is too long, or is no plain text, by its hash.
fn bounded(id: String) -> String {
    if id.len() <= EVENT_ID_BYTES && !id.chars().any(char::is_control) {
        return id;
    }
    format!("sha256:{}", hex::encode(&Sha256::digest(id.as_bytes())))
}

/// Compiles all webhooks; one with a problem is left out.
pub(super) fn all(model: &Model, secrets: &SecretValues, problems: &mut Vec<Diagnostic>) -> Vec<Arc<Webhook>> {
    model.webhooks.iter().filter_map(|(name, declared)| one(name, declared, model, secrets, problems).map(Arc::new)).collect()
}

fn one(
    name: &Spanned<String>,
    declared: &config::Webhook,
    model: &Model,
    secrets: &SecretValues,
    problems: &mut Vec<Diagnostic>,
) -> Option<Webhook> {
    let mut compile = |text: &Option<Spanned<String>>, what: &str| match text {
        None => Ok(None),
        Some(text) => expressions::compile_webhook(text, what, problems).map(Some).ok_or(()),
    };
    let event = compile(&declared.event, "event's name");
    let (id, data) = (compile(&declared.id, "event's id"), compile(&declared.data, "event's data"));
    let (Ok(Some(event)), Ok(id), Ok(data)) = (event, id, data) else { return None };
    problems.extend(declared.event.as_ref().and_then(|text| undeclared(name, text, &event, model)));
    // One that is missing has been told of; without any, no request is let in.
    let named: Vec<(&Spanned<String>, &str)> =
        declared.secret.iter().filter_map(|secret| Some((secret, secrets.get(&secret.value)?.as_deref()?))).collect();
    let values: Vec<&str> = named.iter().map(|(_, value)| *value).collect();
    let verifier = match Verifier::new(declared.scheme()?, &values, declared.tolerance()) {
        Ok(verifier) => verifier,
        Err((at, bad)) => {
            let place = named.get(at).map(|(secret, _)| secret.place.clone());
            let problem = Diagnostic::error("E0224", format!("the webhook `{}` cannot use its secret: {bad}", name.value));
            let problem = problem.help("copy it whole, as the sender shows it: whsec_…");
            problems.push(match place {
                Some(place) => problem.at(place),
                None => problem,
            });
            return None;
        }
    };
    let (name, warned, unwelcome) = (Arc::from(name.value.as_str()), AtomicBool::default(), AtomicBool::default());
    Some(Webhook { name, verifier, event, id, data, warned, unwelcome })
}

/// A name that does not hang on the request, and that no event has: no request would ever make one.
fn undeclared(webhook: &Spanned<String>, text: &Spanned<String>, event: &Expr, model: &Model) -> Option<Diagnostic> {
    if !event.paths().is_empty() || model.unknown_events() == UnknownEvents::Accept {
        return None;
    }
    let Ok(Value::String(made)) = event.eval(&Scope::default()) else { return None };
    if model.event(&made).is_some() {
        return None;
    }
    let message = format!("the webhook `{}` makes the event `{made}`, and no such event is declared", webhook.value);
    let problem = Diagnostic::error("E0218", message).at(text.place.clone());
    Some(match nearest(&made, model.events.names()) {
        Some(right) => problem.help(format!("did you mean `{right}`?")),
        None => problem.help(format!("declare it under `events:`, for example `{made}: {{}}`")),
    })
}
