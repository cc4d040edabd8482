//! The client of a running engine: small requests over HTTP, and its stream of notices.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::base::Diagnostic;

use super::exit::{Exit, Trouble, undecorated};
use super::out::shown;

/// Where an engine listens unless it is told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8288";
/// How long connecting may take; an engine that is there accepts at once.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// A running engine.
#[derive(Debug, Clone)]
pub struct Remote {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Remote {
    /// A client of the engine at `url`, with the tokens of this process's environment.
    ///
    /// # Errors
    /// Exit 2 where `url` is none.
    pub fn new(url: &str) -> Result<Remote, Trouble> {
        let bad =
            |why: String| Trouble::usage(format!("`{url}` is not the address of an engine: {why}")).help(format!("such as {DEFAULT_URL}"));
        let parsed = reqwest::Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad("it is neither http nor https".to_owned()));
        }
        // Somebody may have installed one before; both are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none());
        if parsed.host_str().is_some_and(is_loopback) {
            // A proxy for the outside is not the way to this machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| bad(error.to_string()))?;
        let token = ["STEPWELL_ADMIN_TOKEN", "STEPWELL_READ_TOKEN"].iter().find_map(|name| variable(name));
        Ok(Remote { http, base: url.trim_end_matches('/').to_owned(), token })
    }

    /// The address, as it was given.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Whether an engine answers there.
    pub async fn answers(&self) -> bool {
        self.request(Method::GET, "/health").timeout(CONNECT).send().await.is_ok()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// What a GET answers, as JSON text: in it no number has changed.
    ///
    /// # Errors
    /// Exit 69 where nothing answers, 77 without the right token, 3 for what is not there.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<String, Trouble> {
        self.answer(self.request(Method::GET, path).query(query).timeout(ANSWER)).await
    }

    /// What a GET answers that gives text.
    ///
    /// # Errors
    /// As `get`.
    pub async fn text(&self, path: &str) -> Result<String, Trouble> {
        let response = self.request(Method::GET, path).timeout(ANSWER).send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        match String::from_utf8(body.to_vec()) {
            Ok(text) if status.is_success() => Ok(text),
            _ => Err(refusal(&self.base, status, serde_json::from_slice(&body).ok().as_ref(), &body)),
        }
    }

    /// What a DELETE answers.
    ///
    /// # Errors
    /// As `get`, and exit 1 where it cannot be done any more.
    pub async fn delete(&self, path: &str, query: &[(&str, String)]) -> Result<String, Trouble> {
        self.answer(self.request(Method::DELETE, path).query(query).timeout(ANSWER)).await
    }

    /// What a POST with a body of JSON text answers, however long that takes.
    ///
    /// # Errors
    /// As `get`, and exit 1 where it cannot be done.
    pub async fn post(&self, path: &str, body: String) -> Result<String, Trouble> {
        self.answer(self.request(Method::POST, path).header("content-type", "application/json").body(body)).await
    }

    /// What a request that has the engine check, or load, its config answers; or the problems that it has, each as people see it.
    ///
    /// # Errors
    /// As `get`.
    pub async fn of_config(&self, method: Method, path: &str) -> Result<Result<String, Vec<String>>, Trouble> {
        let response = self.request(method, path).send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let read: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, read) {
            (StatusCode::UNPROCESSABLE_ENTITY, Some(read)) => {
                let details = read.get("details").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let picture = |detail: &Value| detail.get("picture").and_then(Value::as_str).map(str::to_owned);
                Ok(Err(details.iter().filter_map(picture).collect()))
            }
            (status, Some(_)) if status.is_success() => Ok(Ok(String::from_utf8_lossy(&body).into_owned())),
            (status, read) => Err(refusal(&self.base, status, read.as_ref(), &body)),
        }
    }

    /// Sends events, as JSON text: with the first of STEPWELL_EVENT_KEYS, else with the token, else without any.
    ///
    /// # Errors
    /// As `get`; exit 1 for data that do not fit, 3 for a name that nobody declared.
    pub async fn send(&self, events: String) -> Result<String, Trouble> {
        let mut request = self.http.post(format!("{}/e", self.base)).timeout(ANSWER);
        if let Some(key) = super::settings::Keys::from_environment().event.first().or(self.token.as_ref()) {
            request = request.bearer_auth(key);
        }
        self.answer(request.header("content-type", "application/json").body(events)).await
    }

    /// Sends a signal with its data, as JSON text.
    ///
    /// # Errors
    /// As `get`.
    pub async fn signal(&self, name: &str, data: String) -> Result<String, Trouble> {
        // Only its path is used: it writes the name as an address needs it.
        let mut url = reqwest::Url::parse("http://engine/v1/signals").map_err(|error| Trouble::usage(error.to_string()))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(name.split('/'));
        }
        let request = self.request(Method::POST, url.path()).timeout(ANSWER);
        self.answer(request.header("content-type", "application/json").body(data)).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<String, Trouble> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        match String::from_utf8(body.to_vec()) {
            Ok(text) if status.is_success() && is_json(&text) => Ok(text),
            _ => Err(refusal(&self.base, status, serde_json::from_slice(&body).ok().as_ref(), &body)),
        }
    }

    /// The engine's notices from now on.
    ///
    /// # Errors
    /// As `get`.
    pub async fn stream(&self, query: &[(&str, String)]) -> Result<Notices, Trouble> {
        let response = self.request(Method::GET, "/v1/stream").query(query).send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            let body = response.bytes().await.unwrap_or_default();
            return Err(refusal(&self.base, status, serde_json::from_slice(&body).ok().as_ref(), &body));
        }
        Ok(Notices { chunks: Box::pin(response.bytes_stream()), buffer: Vec::new() })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Trouble {
        let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { root_cause(error) };
        unreachable(&self.base, &why)
    }
}

/// No engine answers at `url`.
pub fn unreachable(url: &str, why: &str) -> Trouble {
    let problem = Diagnostic::error("E0531", format!("no engine answers at {url}: {why}"));
    Trouble::new(Exit::Unreachable, problem.help("start one with `stepwell dev`, or name another with --url"))
}

/// The innermost words of an error: what the operating system said.
fn root_cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    undecorated(&innermost.to_string()).to_lowercase()
}

/// A variable of the environment, unless it is empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What an answer that is no success means for the person and the exit code.
fn refusal(url: &str, status: StatusCode, body: Option<&Value>, raw: &Bytes) -> Trouble {
    let said = body.and_then(|body| body.get("error")).and_then(Value::as_str).map(str::to_owned);
    let Some(said) = said else {
        let problem = Diagnostic::error("E0531", format!("{url} answers {status}, and not as an engine does"));
        let start = String::from_utf8_lossy(&raw[..raw.len().min(80)]).into_owned();
        return Trouble::new(Exit::Unreachable, problem.help(format!("it said: {}", super::out::cut(&start, 80))));
    };
    let details: &[Value] = body.and_then(|body| body.get("details")).and_then(Value::as_array).map_or(&[], Vec::as_slice);
    let text = |detail: &Value, key: &str| shown(detail.get(key).and_then(Value::as_str).unwrap_or_default());
    let (exit, code) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => (Exit::Auth, "E0532"),
        StatusCode::NOT_FOUND => (Exit::NotFound, "E0534"),
        StatusCode::SERVICE_UNAVAILABLE => (Exit::Unreachable, "E0531"),
        StatusCode::BAD_REQUEST if details.iter().any(|detail| text(detail, "code") == UNKNOWN_EVENT) => (Exit::NotFound, "E0534"),
        _ => (Exit::Failed, "E0539"),
    };
    let mut problem = Diagnostic::error(code, shown(&said));
    let single = details.len() == 1;
    for detail in details {
        let pointer = text(detail, "pointer");
        let message = text(detail, "message");
        // The engine's own sentence tells a single problem whole, but for its place.
        match (single && said_all(&problem, &message), pointer.is_empty()) {
            (true, true) => {}
            (true, false) => problem = problem.help(format!("at {pointer}")),
            (false, true) => problem = problem.help(message),
            (false, false) => problem = problem.help(format!("{pointer}: {message}")),
        }
        let help = text(detail, "help");
        if !help.is_empty() {
            problem = problem.help(help);
        }
    }
    if exit == Exit::Auth {
        problem = problem.help("set STEPWELL_ADMIN_TOKEN (for `send`: STEPWELL_EVENT_KEYS) to what the engine was started with");
    }
    Trouble::new(exit, problem)
}

fn said_all(problem: &Diagnostic, message: &str) -> bool {
    problem.message.ends_with(message)
}

/// The code of an event name that is not declared.
pub const UNKNOWN_EVENT: &str = "E0222";

/// The engine's notices, as they come.
pub struct Notices {
    chunks: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<Bytes>> + Send>>,
    buffer: Vec<u8>,
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Its kind.
    pub event: String,
    /// Its data, as JSON text.
    pub data: String,
}

impl Notices {
    /// The next notice; none where the engine has closed the stream.
    pub async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some(block) = take_block(&mut self.buffer) {
                if let Some(sent) = parse_block(&block) {
                    return Some(sent);
                }
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(_)) | None => return None,
            }
        }
    }
}

/// Takes the text up to the first empty line out of the buffer.
fn take_block(buffer: &mut Vec<u8>) -> Option<String> {
    let at = buffer.windows(2).position(|pair| pair == b"\n\n")?;
    let block: Vec<u8> = buffer.drain(..at + 2).collect();
    Some(String::from_utf8_lossy(&block).into_owned())
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A block of lines `event: …`, `data: …`; none for comments that only keep the connection alive.
fn parse_block(block: &str) -> Option<Sent> {
    let mut event = String::from("message");
    let mut data = String::new();
    for line in block.lines() {
        if let Some(name) = line.strip_prefix("event:") {
            event = name.trim().to_owned();
        } else if let Some(part) = line.strip_prefix("data:") {
            data.push_str(part.strip_prefix(' ').unwrap_or(part));
        }
    }
    is_json(&data).then_some(Sent { event, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn notices_are_read_across_chunks() {
        let mut buffer = b": hello\n\nevent: run\ndata: {\"a\":1}\n".to_vec();
        assert_eq!(take_block(&mut buffer).as_deref().and_then(parse_block), None);
        assert_eq!(take_block(&mut buffer), None);
        buffer.extend_from_slice(b"\nevent: log");
        let sent = take_block(&mut buffer).as_deref().and_then(parse_block);
        assert_eq!(sent, Some(Sent { event: "run".to_owned(), data: "{\"a\":1}".to_owned() }));
    }

    #[test]
    fn a_refusal_tells_what_the_engine_said() {
        let body = json!({"error": "refused", "status": 400, "details": [{"index": 0, "code": "E0210", "pointer": "/data/amount", "message": "not a number"}]});
        let trouble = refusal("http://x", StatusCode::BAD_REQUEST, Some(&body), &Bytes::new());
        assert_eq!(trouble.exit, Exit::Failed);
        assert!(trouble.to_string().contains("/data/amount: not a number"), "{trouble}");
        assert_eq!(refusal("http://x", StatusCode::UNAUTHORIZED, Some(&body), &Bytes::new()).exit, Exit::Auth);
        assert_eq!(refusal("http://x", StatusCode::OK, None, &Bytes::from_static(b"<html>")).exit, Exit::Unreachable);
    }
}
