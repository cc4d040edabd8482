//! A function ready to be started: its triggers, keys and limits compiled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::base::limits::KEY_BYTES;
use crate::base::{Json, Location, Span, hex, json};
use crate::config::Versions;
use crate::expr::{EventView, Expr, Scope, canonical, is_inexact};
use crate::rules::cron::Cron;
use crate::rules::gates::{Collect, Gates, RateLimit, Singleton, Throttle};
use crate::rules::matching::Candidate;
use crate::rules::policy::{Limit, Retry, Timeouts};
use crate::rules::queue::Want;
use crate::rules::{EventRow, Wanted};
use crate::script::Program;

/// The largest head start or handicap, in seconds.
pub(super) const PRIORITY_MOST_SECONDS: f64 = 600.0;

/// A function, compiled.
#[derive(Debug)]
pub struct Function {
    /// Its id.
    pub id: Arc<str>,
    /// Where it is declared.
    pub place: Location,
    /// What starts it.
    pub triggers: Vec<Trigger>,
    /// Its schedules, in the order of the file; none where the clock does not start it.
    pub crons: Vec<Cron>,
    /// How often something is tried.
    pub retry: Retry,
    /// How long its runs and their steps may take.
    pub timeouts: Timeouts,
    /// Its concurrency limits, in the order of the file.
    pub limits: Vec<Limit>,
    /// Which version of a changed handler its runs go on with.
    pub versions: Versions,
    /// Its compiled script.
    pub program: Arc<Program>,
    /// The events that cancel its runs.
    pub cancels: Vec<Cancel>,
    /// Its `on_failure` script, as a function of its own that no event starts.
    pub on_failure: Option<Arc<Function>>,
    /// The key of each of `limits`.
    pub(super) keys: Vec<Option<Expr>>,
    pub(super) idempotency: Option<Expr>,
    pub(super) priority: Option<Expr>,
    /// Its throttle.
    pub throttle: Option<Throttle>,
    pub(super) throttle_key: Option<Expr>,
    /// Whether it collects events before it starts.
    pub collect: Option<Collect>,
    pub(super) collect_key: Option<Expr>,
    /// Which events a batch takes.
    pub(super) collect_if: Option<Expr>,
    pub(super) rate_limit: Option<(RateLimit, Option<Expr>)>,
    pub(super) singleton: Option<(Singleton, Option<Expr>)>,
    pub(super) warned: Warned,
}

/// What starts a function.
#[derive(Debug)]
pub struct Trigger {
    /// An event's name, or a family such as `stripe/*`.
    pub event: Arc<str>,
    /// Its `if`.
    pub(super) condition: Option<Expr>,
}

/// An event that cancels a function's runs.
#[derive(Debug)]
pub struct Cancel {
    /// The event's name.
    pub event: Arc<str>,
    /// How long after a run's creation it is listened for; none for as long as the run goes on.
    pub timeout: Option<Span>,
    /// Its `if`.
    pub(super) condition: Option<Expr>,
}

impl Cancel {
    /// The text of its `if`.
    pub fn condition_text(&self) -> Option<&Arc<str>> {
        self.condition.as_ref().map(Expr::text)
    }

    /// What a run with this event listens for.
    pub fn wanted(&self, event: &EventRow) -> Wanted {
        let bound = self.condition.as_ref().map(|condition| {
            let data = json::value(&event.data).unwrap_or_default();
            let id = event.id.to_string();
            Json::from(condition.bound(EventView { id: &id, name: &event.name, data: &data, ts: event.ts.0 }).to_string())
        });
        Wanted { event: Arc::clone(&self.event), condition: self.condition_text().cloned(), bound }
    }
}

/// Which warnings of a function were given: each is given once a snapshot.
#[derive(Debug, Default)]
pub(super) struct Warned {
    condition: AtomicBool,
    key: AtomicBool,
    idempotency: AtomicBool,
    priority: AtomicBool,
    throttle: AtomicBool,
    rate_limit: AtomicBool,
    singleton: AtomicBool,
    collect: AtomicBool,
    collect_if: AtomicBool,
}

/// Whether a trigger applies to an event, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub applies: bool,
    /// Why it does not apply.
    pub why: Option<String>,
}

impl Trigger {
    /// The text of its `if`.
    pub fn condition_text(&self) -> Option<&Arc<str>> {
        self.condition.as_ref().map(Expr::text)
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        *self.event == *name || in_family(name, &self.event)
    }
}

/// Whether `name` belongs to the family `stem/*`.
pub(super) fn in_family(name: &str, family: &str) -> bool {
    family.strip_suffix('*').is_some_and(|stem| stem.ends_with('/') && name.len() > stem.len() && name.starts_with(stem))
}

/// A key as it is kept: a long one by its hash, since the queue holds the keys of all waiting runs in memory.
fn bounded(key: Arc<str>) -> Arc<str> {
    if key.len() <= KEY_BYTES {
        return key;
    }
    format!("\"sha256:{}\"", hex::encode(&Sha256::digest(key.as_bytes()))).into()
}

/// The value of a key by which runs are skipped, or why there is none: where it is null, and where two different values could look
/// alike, since a run too many is better than one that is lost.
pub(super) fn once_value(key: &Expr, scope: &Scope<'_>) -> Result<Arc<str>, String> {
    match key.eval(scope) {
        Ok(Value::Null) => Err("is null".to_owned()),
        Ok(value) if is_inexact(&value) => Err("holds a number beyond 64 bits (send it as text)".to_owned()),
        Ok(value) => Ok(bounded(canonical(&value).into())),
        Err(error) => Err(format!("fails ({error})")),
    }
}

impl Function {
    /// The names of the events that start it.
    pub fn events(&self) -> impl Iterator<Item = &Arc<str>> {
        self.triggers.iter().map(|trigger| &trigger.event)
    }

    /// The schedule that is written so, or so with its zone behind it; the first one where no text is given.
    pub fn cron(&self, text: Option<&str>) -> Option<&Cron> {
        match text {
            Some(text) => self.crons.iter().find(|cron| cron.is_named(text)),
            None => self.crons.first(),
        }
    }

    /// Whether it collects events, and if so whether in batches, and the text of the key by which it does.
    pub fn collects_by(&self) -> Option<(bool, Option<&str>)> {
        let is_batch = matches!(self.collect?, Collect::Batch { .. });
        Some((is_batch, self.collect_key.as_ref().map(|key| &**key.text())))
    }

    /// Whether its runs are cancelled by the same events as those of another one, in the same order.
    pub fn cancels_as(&self, other: &Function) -> bool {
        let told = |cancel: &Cancel| (Arc::clone(&cancel.event), cancel.timeout, cancel.condition_text().cloned());
        self.cancels.len() == other.cancels.len() && self.cancels.iter().zip(&other.cancels).all(|(one, other)| told(one) == told(other))
    }

    /// The slots that a run with these key values needs, in the order of the limits.
    pub fn wants(&self, keys: &[Arc<str>]) -> Vec<Want> {
        if self.limits.is_empty() {
            return Vec::new();
        }
        let null: Arc<str> = Arc::from("null");
        let want = |(number, limit): (usize, &Limit)| Want {
            scope: limit.shared.as_deref().map_or_else(|| format!("{}#{number}", self.id), |name| format!("shared {name}")).into(),
            key: Arc::clone(keys.get(number).unwrap_or(&null)),
            limit: limit.limit,
            hold: limit.hold,
            throttle: None,
        };
        self.limits.iter().enumerate().map(want).collect()
    }

    /// The text of each limit's key; none where a limit has no key.
    pub fn key_texts(&self) -> impl Iterator<Item = Option<&Arc<str>>> {
        self.keys.iter().map(|key| key.as_ref().map(Expr::text))
    }

    /// The text of its `idempotency`.
    pub fn idempotency_text(&self) -> Option<&Arc<str>> {
        self.idempotency.as_ref().map(Expr::text)
    }

    /// The text of its `priority`.
    pub fn priority_text(&self) -> Option<&Arc<str>> {
        self.priority.as_ref().map(Expr::text)
    }

    /// The text of its throttle's key.
    pub fn throttle_key_text(&self) -> Option<&Arc<str>> {
        self.throttle_key.as_ref().map(Expr::text)
    }

    /// The text of the `if` of its batch.
    pub fn collect_if_text(&self) -> Option<&Arc<str>> {
        self.collect_if.as_ref().map(Expr::text)
    }

    /// The text of the key by which it collects.
    pub fn collect_key_text(&self) -> Option<&Arc<str>> {
        self.collect_key.as_ref().map(Expr::text)
    }

    /// Its rate limit, with the text of its key.
    pub fn rate_limit(&self) -> Option<(RateLimit, Option<&Arc<str>>)> {
        self.rate_limit.as_ref().map(|(rule, key)| (*rule, key.as_ref().map(Expr::text)))
    }

    /// Its singleton, with the text of its key.
    pub fn singleton(&self) -> Option<(Singleton, Option<&Arc<str>>)> {
        self.singleton.as_ref().map(|(mode, key)| (*mode, key.as_ref().map(Expr::text)))
    }

    /// Whether any of the triggers of this name applies.
    pub(super) fn verdict(&self, name: &str, scope: &Scope<'_>) -> Verdict {
        let mut why: Option<String> = None;
        for trigger in self.triggers.iter().filter(|trigger| trigger.matches(name)) {
            let Some(condition) = &trigger.condition else { return Verdict { applies: true, why: None } };
            match condition.holds(scope) {
                Ok(true) => return Verdict { applies: true, why: None },
                Ok(false) => why = why.or_else(|| Some(format!("`if: {}` is false", condition.text()))),
                Err(error) => {
                    let reason = format!("`if: {}` counts as false: {error}", condition.text());
                    self.warn(&self.warned.condition, &reason);
                    why = Some(reason);
                }
            }
        }
        Verdict { applies: false, why }
    }

    /// The function as a candidate for an event of this name.
    pub(super) fn candidate(&self, name: &str, scope: &Scope<'_>) -> Candidate {
        let applies = self.verdict(name, scope).applies;
        if !applies {
            return Candidate::of(&self.id, applies);
        }
        self.started(scope)
    }

    /// The function as a candidate for an event that starts it, whatever its `if` says: a start by the clock.
    pub(super) fn started(&self, scope: &Scope<'_>) -> Candidate {
        Candidate {
            function: Arc::clone(&self.id),
            applies: true,
            keys: self.keys.iter().map(|key| self.key(key.as_ref(), scope)).collect(),
            priority_ms: self.priority_ms(scope),
            idempotency: self.once_key(self.idempotency.as_ref(), "idempotency", &self.warned.idempotency, scope),
            gates: self.gates(scope),
        }
    }

    /// The function as the candidate of an invocation: it passes `throttle`, `concurrency` and `priority`, and no other gate.
    pub(super) fn invoked(&self, scope: &Scope<'_>) -> Candidate {
        Candidate {
            function: Arc::clone(&self.id),
            applies: true,
            keys: self.keys.iter().map(|key| self.key(key.as_ref(), scope)).collect(),
            priority_ms: self.priority_ms(scope),
            idempotency: None,
            gates: Gates { throttle: self.throttle_key(scope), ..Gates::default() },
        }
    }

    fn gates(&self, scope: &Scope<'_>) -> Gates {
        Gates {
            rate_limit: self
                .rate_limit
                .as_ref()
                .map(|(rule, key)| (*rule, self.gate_key(key.as_ref(), "rate limit's", &self.warned.rate_limit, scope))),
            collect: self.collect.and_then(|how| Some((self.collects(how, scope), self.collect_key(how, scope)?))),
            singleton: self.singleton.as_ref().and_then(|(mode, key)| {
                let value = match key {
                    None => Some(Arc::from("null")),
                    key => self.once_key(key.as_ref(), "singleton's", &self.warned.singleton, scope),
                };
                value.map(|value| (*mode, value))
            }),
            throttle: self.throttle_key(scope),
        }
    }

    /// How an event is collected: one that its batch does not take is a batch by itself.
    fn collects(&self, how: Collect, scope: &Scope<'_>) -> Collect {
        let (Collect::Batch { timeout, .. }, Some(condition)) = (how, &self.collect_if) else { return how };
        let holds = condition.holds(scope).unwrap_or_else(|error| {
            self.warn(&self.warned.collect_if, &format!("the batch's `if: {}` counts as false: {error}", condition.text()));
            false
        });
        if holds { how } else { Collect::Batch { size: 1, timeout } }
    }

    /// The key under which an event is collected; none where that of a debounce is null.
    fn collect_key(&self, how: Collect, scope: &Scope<'_>) -> Option<Arc<str>> {
        let (key, warned) = (self.collect_key.as_ref(), &self.warned.collect);
        match how {
            Collect::Debounce { .. } if key.is_some() => self.once_key(key, "debounce's", warned, scope),
            _ => Some(self.gate_key(key, "batch's", warned, scope)),
        }
    }

    fn throttle_key(&self, scope: &Scope<'_>) -> Option<Arc<str>> {
        self.throttle.map(|_| self.gate_key(self.throttle_key.as_ref(), "throttle's", &self.warned.throttle, scope))
    }

    fn key(&self, key: Option<&Expr>, scope: &Scope<'_>) -> Arc<str> {
        self.gate_key(key, "concurrency", &self.warned.key, scope)
    }

    /// The key of a gate for which null is a value like others; `whose` names it.
    fn gate_key(&self, key: Option<&Expr>, whose: &str, warned: &AtomicBool, scope: &Scope<'_>) -> Arc<str> {
        let Some(key) = key else { return Arc::from("null") };
        let value = bounded(key.key(scope));
        if &*value == "null" {
            self.warn(warned, &format!("the {whose} key `{}` is null for an event; such runs share one key", key.text()));
        }
        value
    }

    /// The key of a gate by which runs are skipped; none where it does not apply.
    fn once_key(&self, key: Option<&Expr>, whose: &str, warned: &AtomicBool, scope: &Scope<'_>) -> Option<Arc<str>> {
        let key = key?;
        match once_value(key, scope) {
            Ok(value) => Some(value),
            Err(why) => {
                self.warn(warned, &format!("the {whose} key `{}` {why} for an event; it does not apply then", key.text()));
                None
            }
        }
    }

    /// The head start in milliseconds, within ten minutes either way.
    fn priority_ms(&self, scope: &Scope<'_>) -> i64 {
        let Some(priority) = &self.priority else { return 0 };
        match priority.number(scope) {
            Ok(seconds) => (seconds.clamp(-PRIORITY_MOST_SECONDS, PRIORITY_MOST_SECONDS) * 1000.0) as i64,
            Err(error) => {
                self.warn(&self.warned.priority, &format!("the priority counts as 0: {error}"));
                0
            }
        }
    }

    fn warn(&self, given: &AtomicBool, what: &str) {
        if !given.swap(true, Ordering::Relaxed) {
            tracing::warn!(function = &*self.id, "{what} (said once)");
        }
    }
}
