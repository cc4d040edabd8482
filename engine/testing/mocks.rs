//! Who answers in the place of the world outside.
//!
//! A request is known by its run, step, attempt and number: one that a crash makes the engine do again gets the answer that it
//! got before, as a server gives it that goes by the `Idempotency-Key`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use crate::base::{RunId, Span};
use crate::config::{Mock, Reply, Spanned, Target, TargetKind};
use crate::expr::{Expr, Scope};
use crate::script::{Answer, Answered, Asked, Errand, Outside, Published, one_line, people};

/// The answers to one kind of request.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    target: Target,
    condition: Option<Arc<Expr>>,
    replies: Vec<Answered>,
}

impl Answers {
    pub(super) fn of(mock: &Mock, target: Target, condition: Option<Arc<Expr>>) -> Answers {
        let kind = target.kind();
        Answers { target, condition, replies: mock.reply.iter().map(|reply| answered(kind, reply)).collect() }
    }
}

fn answered(kind: TargetKind, reply: &Reply) -> Answered {
    let after = reply.delay.as_ref().map_or(Span(0), |delay| delay.value);
    let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.value.clone()).unwrap_or_default();
    let answer = match (&reply.error, &reply.refused, kind) {
        (Some(error), _, _) => Answer::Broken(error.value.clone()),
        (None, Some(refused), _) => Answer::Refused(refused.value.clone()),
        (None, None, TargetKind::Http) => http(reply),
        (None, None, TargetKind::Db) => {
            let rows = reply.rows.as_ref().map_or_else(|| Value::Array(Vec::new()), |rows| rows.value.value.clone());
            Answer::Rows(rows, reply.changed.as_ref().map_or(1, |changed| changed.value))
        }
        (None, None, TargetKind::Email) => Answer::Sent,
        (None, None, TargetKind::Exec) => Answer::Ended {
            status: reply.status.as_ref().and_then(|status| u8::try_from(status.value).ok()).unwrap_or(0),
            stdout: text(&reply.stdout),
            stderr: text(&reply.stderr),
        },
    };
    Answered { answer, after }
}

fn http(reply: &Reply) -> Answer {
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
    Answer::Http { status, headers, body: body.into_bytes() }
}

/// What `calls` writes: as in `mocks`, with the key before it, but for HTTP, whose method says it.
pub(super) fn target(text: &str) -> Result<Target, (String, Option<String>)> {
    let keyed = text.split_once(' ').and_then(|(word, rest)| Some((TargetKind::ALL.into_iter().find(|kind| kind.word() == word)?, rest)));
    match keyed {
        Some((kind, rest)) => Target::read(kind, rest),
        None => Target::read(TargetKind::Http, text),
    }
}

/// Whether this is asked there.
pub(super) fn fits(target: &Target, errand: &Errand<'_>) -> bool {
    match (target, errand) {
        (Target::Http { method: wanted, url: pattern }, Errand::Http { method, url, .. }) => {
            let is_method = wanted == "ANY" || wanted == method;
            let bare = url.split(['?', '#']).next().unwrap_or(url);
            let same = |pattern: &str, url: &str| pattern == url || pattern.trim_end_matches('/') == url.trim_end_matches('/');
            let url = if pattern.contains('?') { url } else { bare };
            is_method && (same(pattern, url) || (pattern.contains('*') && globs(pattern, url)))
        }
        // Words of SQL may be written in capitals or not; what stands in quotes is seldom what tells two statements apart.
        (Target::Db { database: wanted, sql: pattern }, Errand::Db { database, sql, .. }) => {
            let plain = |text: &str| one_line(text).trim_end_matches([';', ' ']).to_lowercase();
            (wanted == "*" || wanted == database) && globs(&plain(pattern), &plain(sql))
        }
        (Target::Email(pattern), Errand::Email(mail)) => people(mail).any(|person| globs(&pattern.to_lowercase(), &person.to_lowercase())),
        (Target::Exec(pattern), Errand::Exec { command, arguments, .. }) => {
            let words: Vec<&str> = std::iter::once(*command).chain(arguments.iter().map(String::as_str)).collect();
            // `pdftotext *` is the command without arguments, too.
            let line = one_line(&words.join(" "));
            globs(pattern, &line) || pattern.strip_suffix(" *").is_some_and(|bare| globs(bare, &line))
        }
        _ => false,
    }
}

/// Whether `text` is `pattern` with any text for each `*`.
fn globs(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    if !pattern.contains('*') {
        return pattern == text;
    }
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

/// What was asked of others; what was asked again after a crash counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) function: String,
    pub(super) run: RunId,
    pub(super) step: String,
    /// In one line, as people see it: `POST https://api.example.com/charges`.
    pub(super) what: String,
    /// As expressions see it.
    pub(super) request: Value,
    /// Which of the test's expected calls it is one of.
    pub(super) counts: Vec<usize>,
    /// What would answer it; none where somebody did.
    pub(super) missing: Option<String>,
}

/// What a step has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) step: String,
    pub(super) published: Published,
}

/// The mocks of one pass over a test.
#[derive(Debug)]
pub(super) struct Mocks {
    answers: Arc<Vec<Answers>>,
    /// The calls that the test counts.
    counted: Vec<Target>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many requests each has answered.
    counts: Vec<usize>,
    /// What was answered to which request.
    known: HashMap<(RunId, String, u32, u32), Answered>,
    calls: Vec<Call>,
    /// Which messages were heard.
    heard: HashSet<(RunId, String, u32, u32)>,
    messages: Vec<Message>,
}

impl Mocks {
    pub(super) fn new(answers: &Arc<Vec<Answers>>, counted: Vec<Target>) -> Arc<Mocks> {
        let state = State { counts: vec![0; answers.len()], ..State::default() };
        Arc::new(Mocks { answers: Arc::clone(answers), counted, state: Mutex::new(state) })
    }

    /// Every request so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Every message so far.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.state().messages.clone()
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
    fn help(&self, errand: &Errand<'_>) -> String {
        if let Some(other) = self.answers.iter().find(|answers| fits(&answers.target, errand)) {
            return format!("there is a mock for `{}`, but its `if` is false for this request", other.target);
        }
        let wanted = errand.told();
        let known: Vec<String> = self.answers.iter().map(|answers| answers.target.to_string()).collect();
        match crate::base::diagnostic::nearest(&wanted, known.iter().map(String::as_str)) {
            Some(near) => format!("there is a mock for `{near}`: did you mean that?"),
            None => format!("add to the test: {}", suggested(errand)),
        }
    }
}

/// A mock that would answer this.
pub(super) fn suggested(errand: &Errand<'_>) -> String {
    let told = errand.told();
    let quoted = |text: &str| Value::from(text).to_string();
    match errand {
        Errand::Http { .. } => format!("mocks: [{{ http: {}, reply: {{ json: {{}} }} }}]", quoted(&told)),
        Errand::Db { .. } => {
            let statement = told.strip_prefix("db ").unwrap_or(&told);
            format!("mocks: [{{ db: {}, reply: {{ rows: [] }} }}]", quoted(statement))
        }
        Errand::Email(mail) => format!("mocks: [{{ email: {}, reply: {{}} }}]", quoted(people(mail).next().unwrap_or("*"))),
        Errand::Exec { command, .. } => format!("mocks: [{{ exec: {}, reply: {{ stdout: \"\" }} }}]", quoted(&format!("{command} *"))),
    }
}

/// A request as expressions see it.
fn seen(asked: &Asked<'_>) -> Value {
    let mut seen = match asked.errand {
        Errand::Http { method, url, headers, body } => seen_http(method, url, headers, body),
        Errand::Db { database, sql, parameters } => json!({ "database": database, "sql": one_line(sql), "params": parameters }),
        Errand::Email(mail) => mail.clone(),
        Errand::Exec { command, arguments, stdin } => {
            json!({ "command": command, "args": arguments, "stdin": stdin.map(String::from_utf8_lossy) })
        }
    };
    seen["step"] = asked.step.into();
    seen["attempt"] = asked.attempt.into();
    seen
}

fn seen_http(method: &str, url: &str, headers: &[(String, String)], body: Option<&[u8]>) -> Value {
    let text = String::from_utf8_lossy(body.unwrap_or_default());
    let parsed = reqwest::Url::parse(url).ok();
    let query: Map<String, Value> =
        parsed.iter().flat_map(|url| url.query_pairs()).map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
    let headers: Map<String, Value> = headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({
        "method": method,
        "url": url,
        "path": parsed.as_ref().map_or("", |url| url.path()),
        "headers": headers,
        "query": query,
        "json": serde_json::from_str::<Value>(&text).unwrap_or_default(),
        "text": text,
    })
}

impl Outside for Mocks {
    fn answer(&self, asked: &Asked<'_>) -> Answered {
        let key = (asked.run, asked.step.to_owned(), asked.attempt, asked.number);
        if let Some(known) = self.state().known.get(&key) {
            return known.clone();
        }
        let found = self.answers.iter().position(|answers| fits(&answers.target, &asked.errand) && Mocks::lets(answers, asked));
        let missing = if found.is_some() { None } else { Some(self.help(&asked.errand)) };
        let counts = self.counted.iter().enumerate().filter(|(_, target)| fits(target, &asked.errand)).map(|(at, _)| at).collect();
        let mut state = self.state();
        state.calls.push(Call {
            function: asked.function.to_owned(),
            run: asked.run,
            step: asked.step.to_owned(),
            what: asked.errand.told(),
            request: seen(asked),
            counts,
            missing: missing.clone(),
        });
        let Some(at) = found else {
            return Answered { answer: Answer::Nobody { help: missing.unwrap_or_default() }, after: Span(0) };
        };
        let replies = &self.answers[at].replies;
        let nth = state.counts[at].min(replies.len().saturating_sub(1));
        state.counts[at] += 1;
        // A mock without a reply was refused when the test was read.
        let empty = Answered { answer: Answer::Broken("the mock has no reply".to_owned()), after: Span(0) };
        let answer = replies.get(nth).cloned().unwrap_or(empty);
        state.known.insert(key, answer.clone());
        answer
    }

    fn published(&self, step: &str, attempt: u32, number: u32, message: &Published) {
        let mut state = self.state();
        // What is published again since a crash cut off its step counts once.
        if state.heard.insert((message.run, step.to_owned(), attempt, number)) {
            state.messages.push(Message { step: step.to_owned(), published: message.clone() });
        }
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
            let errand = Errand::Http { method, url, headers: &[], body: None };
            assert_eq!(fits(&target(text).unwrap(), &errand), expected, "{text} {method} {url}");
        }
    }

    #[test]
    fn statements_mails_and_commands_have_targets_too() {
        let parameters = json!([1]);
        let db = |sql| Errand::Db { database: "shop", sql, parameters: &parameters };
        for (text, sql, expected) in [
            ("db shop select name from users where id = ?", "SELECT name\n  FROM users\n  WHERE id = ?;", true),
            ("db * insert into orders *", "insert into orders (id) values (?)", true),
            ("db crm select *", "select 1", false),
            ("db shop select 1", "select 12", false),
        ] {
            assert_eq!(fits(&target(text).unwrap(), &db(sql)), expected, "{text}: {sql}");
        }
        let mail = json!({ "to": ["Ada@example.com"], "cc": [], "bcc": ["bob@example.org"] });
        for (text, expected) in
            [("email ada@example.com", true), ("email *@example.org", true), ("email *", true), ("email eve@example.com", false)]
        {
            assert_eq!(fits(&target(text).unwrap(), &Errand::Email(&mail)), expected, "{text}");
        }
        let arguments = ["-q".to_owned(), "a.pdf".to_owned()];
        for (text, arguments, expected) in [
            ("exec pdftotext *", &arguments[..], true),
            ("exec pdftotext *", &[], true),
            ("exec pdftotext -q *", &arguments[..], true),
            ("exec pdftotext", &arguments[..], false),
            ("exec pdf *", &arguments[..], false),
        ] {
            let errand = Errand::Exec { command: "pdftotext", arguments, stdin: None };
            assert_eq!(fits(&target(text).unwrap(), &errand), expected, "{text} {arguments:?}");
        }
        assert!(target("db shop").is_err() && target("email a b").is_err() && target("db").is_err());
    }
}
