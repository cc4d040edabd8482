//! Who answers in the network's place.
//!
//! A request is known by its run, step, attempt and number: one that a crash makes the engine do again gets the answer that it
//! got before, as a server gives it that goes by the `Idempotency-Key`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::base::{RunId, Span};
use crate::config::{Mock, Reply, Target};
use crate::expr::{Expr, Scope};
use crate::script::{Answered, Asked, Outside};

/// The answers to one kind of request.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    target: Target,
    condition: Option<Arc<Expr>>,
    replies: Vec<Answered>,
}

impl Answers {
    pub(super) fn of(mock: &Mock, target: Target, condition: Option<Arc<Expr>>) -> Answers {
        Answers { target, condition, replies: mock.reply.iter().map(answered).collect() }
    }
}

fn answered(reply: &Reply) -> Answered {
    let after = reply.delay.as_ref().map_or(Span(0), |delay| delay.value);
    if let Some(error) = &reply.error {
        return Answered::Broken { said: error.value.clone(), after };
    }
    let mut headers: Vec<(String, String)> =
        reply.headers.iter().map(|(name, value)| (name.value.to_lowercase(), value.value.clone())).collect();
    let (body, kind) = match (&reply.json, &reply.text) {
        (Some(json), _) => (json.value.value.to_string(), "application/json"),
        (None, Some(text)) => (text.value.clone(), "text/plain; charset=utf-8"),
        (None, None) => (String::new(), ""),
    };
    if !kind.is_empty() && !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    let status = reply.status.as_ref().and_then(|status| u16::try_from(status.value).ok()).unwrap_or(200);
    Answered::Answer { status, headers, body: body.into_bytes(), after }
}

/// A method and a URL as `mocks` and `calls` write them.
pub(super) fn target(text: &str) -> Option<Target> {
    let (method, url) = text.split_once(' ')?;
    Some(Target { method: method.to_uppercase(), url: url.trim().to_owned() })
}

/// Whether a request goes there.
pub(super) fn fits(target: &Target, method: &str, url: &str) -> bool {
    let is_method = target.method == "ANY" || target.method == method;
    let bare = url.split(['?', '#']).next().unwrap_or(url);
    let same = |pattern: &str, url: &str| pattern == url || pattern.trim_end_matches('/') == url.trim_end_matches('/');
    let url = if target.url.contains('?') { url } else { bare };
    is_method && (same(&target.url, url) || (target.url.contains('*') && globs(&target.url, url)))
}

/// Whether `text` is `pattern` with any text for each `*`.
fn globs(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A request that was made; one that was made again after a crash counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) function: String,
    pub(super) run: RunId,
    pub(super) step: String,
    pub(super) method: String,
    pub(super) url: String,
    /// Whether somebody answered.
    pub(super) is_mocked: bool,
}

/// The mocks of one pass over a test.
#[derive(Debug)]
pub(super) struct Mocks {
    answers: Arc<Vec<Answers>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many requests each has answered.
    counts: Vec<usize>,
    /// What was answered to which request.
    known: HashMap<(RunId, String, u32, u32), Answered>,
    calls: Vec<Call>,
}

impl Mocks {
    pub(super) fn new(answers: &Arc<Vec<Answers>>) -> Arc<Mocks> {
        let state = State { counts: vec![0; answers.len()], ..State::default() };
        Arc::new(Mocks { answers: Arc::clone(answers), state: Mutex::new(state) })
    }

    /// Every request so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the `if` of a mock lets a request through.
    fn lets(answers: &Answers, asked: &Asked<'_>) -> bool {
        let Some(condition) = &answers.condition else { return true };
        let request = seen(asked);
        let scope = Scope { values: &[("request", &request)], ..Scope::default() };
        condition.holds(&scope).unwrap_or(false)
    }

    /// What is to be written so that such a request is answered.
    fn help(&self, asked: &Asked<'_>) -> String {
        let bare = asked.url.split('?').next().unwrap_or(asked.url);
        let wanted = format!("{} {bare}", asked.method);
        if let Some(other) = self.answers.iter().find(|answers| fits(&answers.target, asked.method, asked.url)) {
            return format!("there is a mock for `{} {}`, but its `if` is false for this request", other.target.method, other.target.url);
        }
        let known: Vec<String> = self.answers.iter().map(|answers| format!("{} {}", answers.target.method, answers.target.url)).collect();
        match crate::base::diagnostic::nearest(&wanted, known.iter().map(String::as_str)) {
            Some(near) => format!("there is a mock for `{near}`: did you mean that?"),
            None => format!("add to the test: mocks: [{{ http: \"{wanted}\", reply: {{ json: {{}} }} }}]"),
        }
    }
}

/// A request as expressions see it.
fn seen(asked: &Asked<'_>) -> Value {
    let text = String::from_utf8_lossy(asked.body.unwrap_or_default());
    let url = reqwest::Url::parse(asked.url).ok();
    let query: Map<String, Value> =
        url.iter().flat_map(|url| url.query_pairs()).map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
    let headers: Map<String, Value> = asked.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    serde_json::json!({
        "method": asked.method,
        "url": asked.url,
        "path": url.as_ref().map_or("", |url| url.path()),
        "headers": headers,
        "query": query,
        "json": serde_json::from_str::<Value>(&text).unwrap_or_default(),
        "text": text,
        "step": asked.step,
        "attempt": asked.attempt,
    })
}

impl Outside for Mocks {
    fn http(&self, asked: &Asked<'_>) -> Answered {
        let key = (asked.run, asked.step.to_owned(), asked.attempt, asked.number);
        if let Some(known) = self.state().known.get(&key) {
            return known.clone();
        }
        let found = self.answers.iter().position(|answers| fits(&answers.target, asked.method, asked.url) && Mocks::lets(answers, asked));
        let mut state = self.state();
        state.calls.push(Call {
            function: asked.function.to_owned(),
            run: asked.run,
            step: asked.step.to_owned(),
            method: asked.method.to_owned(),
            url: asked.url.to_owned(),
            is_mocked: found.is_some(),
        });
        let Some(at) = found else { return Answered::Nobody { help: self.help(asked) } };
        let replies = &self.answers[at].replies;
        let nth = state.counts[at].min(replies.len().saturating_sub(1));
        state.counts[at] += 1;
        let empty = Answered::Answer { status: 200, headers: Vec::new(), body: Vec::new(), after: Span(0) };
        let answer = replies.get(nth).cloned().unwrap_or(empty);
        state.known.insert(key, answer.clone());
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mock_answers_what_its_target_says() {
        let cases = [
            ("GET https://a.example/x", "GET", "https://a.example/x?y=1", true),
            ("GET https://a.example", "GET", "https://a.example/", true),
            ("GET https://a.example/x?y=1", "GET", "https://a.example/x?y=2", false),
            ("POST https://a.example/x", "GET", "https://a.example/x", false),
            ("any https://a.example/x", "PATCH", "https://a.example/x", true),
            ("GET https://a.example/users/*/mail", "GET", "https://a.example/users/7/mail", true),
            ("GET https://a.example/users/*/mail", "GET", "https://a.example/users/7/mails", false),
            ("GET *", "GET", "http://127.0.0.1:1/", true),
        ];
        for (text, method, url, expected) in cases {
            assert_eq!(fits(&target(text).unwrap(), method, url), expected, "{text} {method} {url}");
        }
    }
}
