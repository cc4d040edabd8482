//! What is in force: every option with its value and where it comes from, for `stepwell config`.

use std::fmt;

use serde_json::{Value as JsonValue, json};

use crate::base::{Location, Span};
use crate::rules::gates::Singleton;
use crate::rules::policy::Backoff;

use super::keys::concurrency::hold_word;
use super::keys::engine::Durability;
use super::keys::events::EventSchema;
use super::keys::functions::Function;
use super::keys::unknown_events::UnknownEvents;
use super::keys::versions::Versions;
use super::model::Model;
use super::quantity::Size;
use super::spanned::Spanned;

/// An option in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The keys that lead to it, joined by dots: `functions.pay.timeouts.step`.
    pub path: String,
    /// Its value, durations and sizes as they are written in the file.
    pub value: JsonValue,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Nothing is written.
    Default,
    /// It is written here.
    Written(Location),
}

impl fmt::Display for Origin {
    /// `default`, or the file and line: `events.yaml:12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Written(place) => {
                let (line, _) = place.source.position(place.range.start);
                write!(f, "{}:{line}", place.source.name)
            }
        }
    }
}

/// Every option that is in force, in the order of the format; options without a value are left out.
pub fn effective(model: &Model) -> Vec<Setting> {
    let mut list = List(Vec::new());
    engine(model, &mut list);
    list.put("unknown_events", unknown_word(model.unknown_events()), &model.unknown_events);
    list.put("versions", model.versions.as_ref().map_or(Versions::Auto, |versions| versions.value).word(), &model.versions);
    for (name, value) in model.env.iter() {
        list.add(format!("env.{}", name.value), &value.value.0, &value.place);
    }
    for secret in &model.secrets {
        list.add(format!("secrets.{}", secret.value), "from the environment", &secret.place);
    }
    list.put("http.timeout", model.http.timeout().to_string(), &model.http.timeout);
    for network in &model.http.allow {
        list.add("http.allow", network.value.to_string(), &network.place);
    }
    for (name, database) in model.databases.iter() {
        if let Some(url) = &database.url {
            list.add(format!("databases.{}", name.value), &url.value, &url.place);
        }
    }
    if let Some(smtp) = model.email.as_ref().and_then(|email| email.smtp.as_ref()) {
        list.add("email.smtp", &smtp.value, &smtp.place);
    }
    if let Some(from) = model.email.as_ref().and_then(|email| email.from.as_ref()) {
        list.add("email.from", &from.value, &from.place);
    }
    for command in model.exec.iter().flat_map(|exec| &exec.allow) {
        list.add("exec.allow", &command.value, &command.place);
    }
    let kept = model.retention.policy();
    list.put("retention.completed", kept.completed.to_string(), &model.retention.completed);
    list.put("retention.failed", kept.failed.to_string(), &model.retention.failed);
    list.put("retention.cancelled", kept.cancelled.to_string(), &model.retention.cancelled);
    list.put("retention.events", kept.events.to_string(), &model.retention.events);
    webhooks(model, &mut list);
    events(model, &mut list);
    for (id, function) in model.functions.iter() {
        self::function(model, id, function, &mut list);
    }
    for entry in &model.include {
        list.add("include", &entry.value, &entry.place);
    }
    list.0
}

/// The options of one function that are in force, in the order of the format, each by its own key.
pub fn effective_function(model: &Model, id: &str) -> Vec<Setting> {
    let Some((id, declared)) = model.functions.entry(id) else { return Vec::new() };
    let mut list = List(Vec::new());
    function(model, id, declared, &mut list);
    let prefix = format!("functions.{}.", id.value);
    let own =
        |setting: Setting| Setting { path: setting.path.strip_prefix(&prefix).map_or(setting.path.clone(), str::to_owned), ..setting };
    list.0.into_iter().map(own).collect()
}

/// The options in force that are about no event and no function.
pub fn effective_around(model: &Model) -> Vec<Setting> {
    let mut all = effective(model);
    all.retain(|setting| !setting.path.starts_with("events.") && !setting.path.starts_with("functions."));
    all
}

fn engine(model: &Model, list: &mut List) {
    if let Some(app) = &model.app {
        list.add("app", &app.value, &app.place);
    }
    let engine = &model.engine;
    list.put("engine.listen", engine.listen().to_string(), &engine.listen);
    list.put("engine.database", engine.database(), &engine.database);
    let durability = match engine.durability() {
        Durability::Full => "full",
        Durability::Normal => "normal",
    };
    list.put("engine.durability", durability, &engine.durability);
    list.put("engine.shutdown_grace", engine.shutdown_grace().to_string(), &engine.shutdown_grace);
    list.put("engine.body", Size(engine.body_bytes()).to_string(), &engine.body);
    for origin in &engine.cors {
        list.add("engine.cors", &origin.value, &origin.place);
    }
    for host in &engine.hosts {
        list.add("engine.hosts", &host.value, &host.place);
    }
    let limits = &model.limits;
    list.put("limits.memory", Size(limits.memory_bytes()).to_string(), &limits.memory);
    list.put("limits.steps", limits.steps(), &limits.steps);
    list.put("limits.journal", Size(limits.journal_bytes()).to_string(), &limits.journal);
}

fn webhooks(model: &Model, list: &mut List) {
    for (name, webhook) in model.webhooks.iter() {
        let path = |key: &str| format!("webhooks.{}.{key}", name.value);
        if let Some(scheme) = &webhook.scheme {
            list.add(path("scheme"), scheme.value.word(), &scheme.place);
        }
        for secret in &webhook.secret {
            list.add(path("secret"), &secret.value, &secret.place);
        }
        for (key, text) in [("event", &webhook.event), ("id", &webhook.id), ("data", &webhook.data)] {
            if let Some(text) = text {
                list.add(path(key), &text.value, &text.place);
            }
        }
        if webhook.has_time() {
            list.put(&path("tolerance"), shown(webhook.tolerance()), &webhook.tolerance);
        }
        let Some(signature) = webhook.signature.as_ref().map(|signature| &signature.value) else { continue };
        let path = |key: &str| path(&format!("signature.{key}"));
        for (key, text) in [("header", &signature.header), ("prefix", &signature.prefix), ("timestamp", &signature.timestamp)] {
            if let Some(text) = text {
                list.add(path(key), &text.value, &text.place);
            }
        }
        list.put(&path("algorithm"), signature.algorithm_word(), &signature.algorithm);
        list.put(&path("encoding"), signature.encoding_word(), &signature.encoding);
        list.put(&path("signed"), signature.signed(), &signature.signed);
    }
}

fn events(model: &Model, list: &mut List) {
    for (name, event) in model.events.iter() {
        let path = format!("events.{}", name.value);
        match &event.schema {
            None => list.add(format!("{path}.schema"), "any data", &name.place),
            Some(Spanned { value: EventSchema::File(file), place }) => list.add(format!("{path}.schema"), file, place),
            Some(Spanned { value: EventSchema::Inline(_), place }) => list.add(format!("{path}.schema"), "in the file", place),
        }
    }
}

fn function(model: &Model, id: &Spanned<String>, function: &Function, list: &mut List) {
    let path = |key: &str| format!("functions.{}.{key}", id.value);
    // One of several carries its number, so that what belongs together is seen.
    let one_of = |key: &str, at: usize, all: usize| path(&if all > 1 { format!("{key}.{at}") } else { key.to_owned() });
    for (at, trigger) in function.on.iter().enumerate() {
        let on = one_of("on", at, function.on.len());
        list.add(on.as_str(), &trigger.event.value, &trigger.event.place);
        if let Some(condition) = &trigger.condition {
            list.add(format!("{on}.if"), &condition.value, &condition.place);
        }
    }
    for (at, cron) in function.cron.iter().enumerate() {
        let path = one_of("cron", at, function.cron.len());
        if let Some(schedule) = &cron.schedule {
            list.add(format!("{path}.schedule"), &schedule.value, &schedule.place);
        }
        list.put(&format!("{path}.tz"), cron.tz.as_ref().map_or("UTC", |zone| &zone.value), &cron.tz);
        list.put(&format!("{path}.jitter"), shown(cron.jitter()), &cron.jitter);
        list.put(&format!("{path}.missed"), cron.missed().word(), &cron.missed);
    }
    let default_handler = function.handler.place == id.place;
    let origin = if default_handler { Origin::Default } else { Origin::Written(function.handler.place.clone()) };
    list.0.push(Setting { path: path("handler"), value: json!(function.handler.value), origin });
    for (at, limit) in function.concurrency.iter().enumerate() {
        let path = one_of("concurrency", at, function.concurrency.len());
        let policy = limit.policy();
        list.put(&format!("{path}.limit"), policy.limit, &limit.limit);
        if let Some(key) = &limit.key {
            list.add(format!("{path}.key"), &key.value, &key.place);
        }
        list.put(&format!("{path}.hold"), hold_word(policy.hold), &limit.hold);
        if let Some(shared) = &limit.shared {
            list.add(format!("{path}.shared"), &shared.value, &shared.place);
        }
    }
    let retry = function.retry(&model.defaults);
    let written = function.retries.as_ref().or(model.defaults.retries.as_ref()).cloned().unwrap_or_default();
    list.put(&path("retries.attempts"), retry.attempts, &written.attempts);
    let (growth, initial, max, jitter) = match retry.backoff {
        Backoff::Table => ("table", None, None, None),
        Backoff::Exponential { initial, max, jitter } => ("exponential", Some(initial), Some(max), Some(jitter)),
        Backoff::Linear { initial, max, jitter } => ("linear", Some(initial), Some(max), Some(jitter)),
        Backoff::Fixed { initial, jitter } => ("fixed", Some(initial), None, Some(jitter)),
    };
    list.put(&path("retries.backoff"), growth, &written.backoff);
    list.put_if(&path("retries.initial"), initial.map(shown), &written.initial);
    list.put_if(&path("retries.max"), max.map(shown), &written.max);
    list.put_if(&path("retries.jitter"), jitter, &written.jitter);
    let times = function.timeouts(&model.defaults);
    let (own, other) = (&function.timeouts, &model.defaults.timeouts);
    list.put_if(&path("timeouts.start"), times.start.map(shown), &own.start.clone().or(other.start.clone()));
    list.put_if(&path("timeouts.finish"), times.finish.map(shown), &own.finish.clone().or(other.finish.clone()));
    list.put(&path("timeouts.step"), shown(times.step), &own.step.clone().or(other.step.clone()));
    for (key, text) in [("idempotency", &function.idempotency), ("priority", &function.priority)] {
        if let Some(text) = text {
            list.add(path(key), &text.value, &text.place);
        }
    }
    gates(&path, function, list);
    for (at, cancel) in function.cancel_on.iter().enumerate() {
        let path = one_of("cancel_on", at, function.cancel_on.len());
        for (key, text) in [("event", &cancel.event), ("if", &cancel.condition)] {
            if let Some(text) = text {
                list.add(format!("{path}.{key}"), &text.value, &text.place);
            }
        }
        list.put_if(&format!("{path}.timeout"), cancel.timeout.as_ref().map(|span| shown(span.value)), &cancel.timeout);
    }
    if let Some(script) = &function.on_failure {
        list.add(path("on_failure"), &script.value, &script.place);
    }
    let versions = function.versions.clone().or(model.versions.clone());
    list.put(&path("versions"), function.versions(&model.versions).word(), &versions);
}

fn gates(path: &dyn Fn(&str) -> String, function: &Function, list: &mut List) {
    let key = |gate: &str, key: &Option<Spanned<String>>, list: &mut List| {
        if let Some(key) = key {
            list.add(path(&format!("{gate}.key")), &key.value, &key.place);
        }
    };
    if let Some(throttle) = function.throttle.as_ref().map(|throttle| &throttle.value) {
        let policy = throttle.policy();
        list.put(&path("throttle.limit"), policy.limit, &throttle.limit);
        list.put(&path("throttle.period"), shown(policy.period), &throttle.period);
        list.put(&path("throttle.burst"), policy.burst, &throttle.burst);
        key("throttle", &throttle.key, list);
    }
    if let Some(rate) = function.rate_limit.as_ref().map(|rate| &rate.value) {
        let policy = rate.policy();
        list.put(&path("rate_limit.limit"), policy.limit, &rate.limit);
        list.put(&path("rate_limit.period"), shown(policy.period), &rate.period);
        key("rate_limit", &rate.key, list);
    }
    if let Some(debounce) = function.debounce.as_ref().map(|debounce| &debounce.value) {
        list.put_if(&path("debounce.period"), debounce.period.as_ref().map(|period| shown(period.value)), &debounce.period);
        list.put_if(&path("debounce.timeout"), debounce.timeout.as_ref().map(|timeout| shown(timeout.value)), &debounce.timeout);
        key("debounce", &debounce.key, list);
    }
    if let Some(batch) = function.batch.as_ref().map(|batch| &batch.value) {
        list.put_if(&path("batch.size"), batch.size.as_ref().map(|size| size.value), &batch.size);
        list.put_if(&path("batch.timeout"), batch.timeout.as_ref().map(|timeout| shown(timeout.value)), &batch.timeout);
        key("batch", &batch.key, list);
        list.put_if(&path("batch.if"), batch.condition.as_ref().map(|condition| condition.value.clone()), &batch.condition);
    }
    if let Some(singleton) = function.singleton.as_ref().map(|singleton| &singleton.value) {
        let mode = match singleton.policy() {
            Singleton::Skip => "skip",
            Singleton::Cancel => "cancel",
        };
        list.put(&path("singleton.mode"), mode, &singleton.mode);
        key("singleton", &singleton.key, list);
    }
}

fn shown(span: Span) -> String {
    span.to_string()
}

fn unknown_word(unknown: UnknownEvents) -> &'static str {
    match unknown {
        UnknownEvents::Refuse => "refuse",
        UnknownEvents::Accept => "accept",
    }
}

struct List(Vec<Setting>);

impl List {
    /// Adds an option that always has a value; `written` says whether it is the default.
    fn put<T>(&mut self, path: &str, value: impl Into<JsonValue>, written: &Option<Spanned<T>>) {
        let origin = written.as_ref().map_or(Origin::Default, |written| Origin::Written(written.place.clone()));
        self.0.push(Setting { path: path.to_owned(), value: value.into(), origin });
    }

    fn put_if<T>(&mut self, path: &str, value: Option<impl Into<JsonValue>>, written: &Option<Spanned<T>>) {
        if let Some(value) = value {
            self.put(path, value, written);
        }
    }

    /// Adds an option that is written.
    fn add(&mut self, path: impl Into<String>, value: impl serde::Serialize, place: &Location) {
        self.0.push(Setting { path: path.into(), value: json!(value), origin: Origin::Written(place.clone()) });
    }
}
