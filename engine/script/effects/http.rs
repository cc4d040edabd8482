//! `http::get`, `post`, `put`, `patch`, `delete`, `head`: options in, a map out, and which answers are errors.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use rhai::{Array, Blob, Dynamic, Engine, ImmutableString, Map, Module};
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use url::Url;

use base64::Engine as _;

use crate::base::alloc;
use crate::base::diagnostic::nearest;
use crate::base::{Millis, Span};
use crate::rules::row::{AskedBy, LogLevel};
use crate::rules::trace::TRACEPARENT;

use super::apart::{self, Outcome};
use super::mocked;
use super::request::{Answer, Failed, Request, client, header_value, perform};
use crate::script::api::demand_step;
use crate::script::attempt::{Attempt, Inside, current};
use crate::script::error::{Fault, Thrown};
use crate::script::outside::without_query;
use crate::script::time;
use crate::script::value::{self, Secret};

/// Largest body that is sent, in bytes.
const BODY_BYTES: usize = 16 * 1024 * 1024;
/// The most headers that the note of a call shows.
const HEADERS_NOTED: usize = 40;
/// What the note of a call shows of a header, in characters.
const HEADER_NOTED_LETTERS: usize = 200;
/// What an error shows of an answer's body, in bytes.
const SHOWN_BYTES: usize = 2_000;
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MOST: Span = Span::seconds(24 * 60 * 60);

/// The options of a request.
pub(in crate::script) const OPTIONS: [&str; 11] =
    ["json", "form", "body", "headers", "query", "auth", "basic", "timeout", "follow", "allow_status", "idempotency_key"];

pub(in crate::script) fn register(engine: &mut Engine) {
    let mut http = Module::new();
    let methods = [
        ("http::get", Method::GET),
        ("http::post", Method::POST),
        ("http::put", Method::PUT),
        ("http::patch", Method::PATCH),
        ("http::delete", Method::DELETE),
        ("http::head", Method::HEAD),
    ];
    for (name, method) in methods {
        let plain = method.clone();
        let own = name.trim_start_matches("http::");
        http.set_native_fn(own, move |url: ImmutableString| request(name, &plain, &url, &Map::new()));
        http.set_native_fn(own, move |url: ImmutableString, options: Map| request(name, &method, &url, &options));
    }
    engine.register_static_module("http", http.into());
}

/// What the options ask for.
struct Wanted {
    request: Request,
    timeout: Span,
    allowed: Allowed,
}

/// Which statuses are no error although they say so.
enum Allowed {
    None,
    All,
    These(Vec<i64>),
}

impl Allowed {
    fn holds(&self, status: StatusCode) -> bool {
        match self {
            Allowed::None => false,
            Allowed::All => true,
            Allowed::These(statuses) => statuses.contains(&i64::from(status.as_u16())),
        }
    }
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

/// `name` is what the script calls.
fn request(name: &str, method: &Method, url: &str, options: &Map) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    let inside = demand_step(&attempt, name)?;
    let wanted = wanted(&attempt, &inside, method, url, options)?;
    let rules = &attempt.call.surroundings.http;
    let began = attempt.now();
    let shown = format!("{method} {}", without_query(&wanted.request.url));
    // What is noted is not the script's.
    let sent = alloc::uncounted(|| to_raw_value(&Shown(&wanted.request.headers)).unwrap_or_default());
    let outside = attempt.call.surroundings.outside.as_deref();
    let answer = match outside {
        Some(outside) => mocked::send(outside, &attempt, &inside, &wanted.request, wanted.timeout)?,
        None => send(&attempt, &shown, wanted.request, wanted.timeout)?,
    };
    let took = attempt.now().since(began);
    alloc::uncounted(|| {
        note(&attempt, method, &shown, &sent, answer.as_ref(), took);
        drop(sent);
    });
    let answer = match answer {
        None => return Err(Thrown::new("E0418", format!("{shown}: no answer within {}", wanted.timeout)).fault()),
        Some(Ok(answer)) => answer,
        Some(Err(failed)) => return Err(explain(&shown, failed, rules.private_allowed)),
    };
    let says_error = answer.status.is_client_error() || answer.status.is_server_error();
    if says_error && !wanted.allowed.holds(answer.status) {
        return Err(refused(&shown, &answer, attempt.now()));
    }
    let result = result(&answer, took);
    alloc::uncounted(|| drop(answer));
    Ok(result)
}

/// What is noted of a call, beside the line that tells it.
#[derive(Serialize)]
struct Noted<'a> {
    http: NotedCall<'a>,
}

#[derive(Serialize)]
struct NotedCall<'a> {
    method: &'a str,
    url: &'a str,
    ms: i64,
    headers: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_headers: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Notes a call in the run's log, for people: where it went, what came back and when. Bodies are not noted.
fn note(attempt: &Attempt, method: &Method, shown: &str, sent: &RawValue, answer: Option<&Result<Answer, Failed>>, took: Span) {
    let url = shown.split_once(' ').map_or(shown, |(_, url)| url);
    let answered = answer.and_then(|answer| answer.as_ref().ok());
    let came: Cow<'_, str> = match answer {
        Some(Ok(answer)) => Cow::Owned(answer.status.as_u16().to_string()),
        Some(Err(Failed::Network(said) | Failed::Url(said))) => Cow::Borrowed(said),
        Some(Err(Failed::Refused(refused))) => Cow::Owned(refused.to_string()),
        Some(Err(Failed::Large)) => Cow::Borrowed("too large an answer"),
        None => Cow::Borrowed("no answer in time"),
    };
    let call = NotedCall {
        method: method.as_str(),
        url,
        ms: took.0,
        headers: sent,
        status: answered.map(|answer| answer.status.as_u16()),
        answer_headers: answered.map(|answer| Shown(&answer.headers)),
        error: answered.is_none().then_some(&*came),
    };
    // Texts and numbers are always JSON; were they not, the line alone would have to do.
    let data = serde_json::to_string(&Noted { http: call }).ok();
    attempt.log(LogLevel::Call, &format!("{shown} → {came} in {took}"), data.as_deref());
}

/// Headers by name, so many and so much of each as a log should hold; the values of those that may let somebody in are left out,
/// as a `location` does by its query. Of one that is there several times the last value is told.
struct Shown<'a>(&'a HeaderMap);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const OPEN: [&str; 12] = [
            "accept",
            "cache-control",
            "content-length",
            "content-type",
            "date",
            "etag",
            "idempotency-key",
            "last-modified",
            "retry-after",
            "server",
            "user-agent",
            "x-request-id",
        ];
        serializer.collect_map(self.0.keys().take(HEADERS_NOTED).map(|name| {
            let value = self.0.get_all(name).iter().next_back().filter(|value| OPEN.contains(&name.as_str()) && !value.is_sensitive());
            let text = value.map_or(Cow::Borrowed("«redacted»"), |value| String::from_utf8_lossy(value.as_bytes()));
            let end = text.char_indices().nth(HEADER_NOTED_LETTERS).map_or(text.len(), |(end, _)| end);
            (name.as_str(), text[..end].to_owned())
        }))
    }
}

/// Sends the request; none where no answer came in time.
fn send(attempt: &Attempt, shown: &str, request: Request, timeout: Span) -> Result<Option<Result<Answer, Failed>>, Fault> {
    let client = alloc::uncounted(|| client(&attempt.call.surroundings.http));
    let (rules, client) = client.map_err(|error| Thrown::new("E0418", format!("no HTTP client: {error}")).fault())?;
    // The future of a request takes kilobytes. On this stack they would be touched by each call through which it is handed on, and
    // stay taken for as long as the request is under way.
    let performed = alloc::uncounted(|| Box::pin(perform(client, rules, request)));
    Ok(match apart::call(attempt, shown, Some(timeout), performed)? {
        Outcome::Done(answer) => Some(answer),
        Outcome::Late => None,
        Outcome::Broken(said) => Some(Err(Failed::Network(said))),
    })
}

fn explain(shown: &str, failed: Failed, private_allowed: bool) -> Fault {
    match failed {
        Failed::Network(said) => Thrown::new("E0418", format!("{shown}: {said}")).fault(),
        Failed::Url(why) => Thrown::last("E0407", format!("{shown}: {why}")).fault(),
        Failed::Large => Thrown::last("E0421", format!("{shown}: the answer is larger than 16 MB")).fault(),
        Failed::Refused(refused) => {
            let thrown = Thrown::last("E0420", format!("{shown}: {refused}"));
            if refused.listable && !private_allowed {
                thrown.help(format!("if it may, add to events.yaml: http: {{ allow: [\"{}\"] }}", refused.address)).fault()
            } else {
                thrown.help("link-local, metadata, multicast and reserved addresses are never reached").fault()
            }
        }
    }
}

/// An answer that is an error: 5xx and 429 may be better next time, another 4xx is not.
fn refused(shown: &str, answer: &Answer, now: Millis) -> Fault {
    let status = answer.status.as_u16();
    let mut text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(SHOWN_BYTES)]).into_owned();
    text.truncate(text.trim_end().len());
    let message = format!("{shown}: {}", answer.status);
    let thrown = if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS {
        Thrown { retry_after: retry_after(&answer.headers, now).map(|span| (span, AskedBy::Server)), ..Thrown::new("E0419", message) }
    } else {
        Thrown::last("E0419", message).help(format!("to go on with this answer, allow it: allow_status: [{status}]"))
    };
    thrown.data(serde_json::json!({ "status": status, "text": text })).fault()
}

/// The wait that a server asks for: seconds, or an HTTP date.
fn retry_after(headers: &HeaderMap, now: Millis) -> Option<Span> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let span = match text.parse::<u32>() {
        Ok(seconds) => Span::seconds(i64::from(seconds)),
        Err(_) => Millis(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond()).since(now),
    };
    Some(span.min(RETRY_AFTER_MOST))
}

fn result(answer: &Answer, took: Span) -> Dynamic {
    let text: ImmutableString = String::from_utf8_lossy(&answer.body).as_ref().into();
    let mut headers = Map::new();
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = match headers.get(name.as_str()).and_then(|known| known.as_immutable_string_ref().ok().map(|known| known.to_string()))
        {
            Some(known) => format!("{known}, {value}"),
            None => value.into_owned(),
        };
        headers.insert(name.as_str().into(), joined.into());
    }
    let mut map = Map::new();
    map.insert("status".into(), i64::from(answer.status.as_u16()).into());
    map.insert("ok".into(), answer.status.is_success().into());
    map.insert("headers".into(), headers.into());
    map.insert("json".into(), value::read(&text).unwrap_or(Dynamic::UNIT));
    map.insert("text".into(), text.into());
    map.insert("ms".into(), took.0.into());
    map.into()
}

fn wanted(attempt: &Attempt, inside: &Inside, method: &Method, url: &str, options: &Map) -> Result<Wanted, Fault> {
    if let Some(other) = options.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
        let help = nearest(other, OPTIONS).map_or_else(|| OPTIONS.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(Thrown::last("E0407", format!("a request has no option `{other}`")).help(help).fault());
    }
    let mut url = Url::parse(url).map_err(|error| bad(format!("`{url}` is not a URL: {error}")))?;
    if let Some(query) = options.get("query") {
        for (name, value) in pairs(query, "query")? {
            url.query_pairs_mut().append_pair(&name, &value);
        }
    }
    let mut request = Request {
        method: method.clone(),
        url,
        headers: HeaderMap::new(),
        private: Vec::new(),
        body: None,
        follow: flag(options, "follow", true)?,
    };
    body(&mut request, options)?;
    headers(&mut request, options)?;
    trace(attempt, inside, &mut request);
    if !matches!(*method, Method::GET | Method::HEAD) {
        idempotency(attempt, inside, &mut request, options)?;
    }
    let timeout = match options.get("timeout") {
        Some(length) => time::period(length)?.0,
        None => attempt.call.surroundings.http.timeout,
    };
    let allowed = match options.get("allow_status") {
        None => Allowed::None,
        Some(value) => match (value.as_bool(), value.as_int(), value.read_lock::<Array>()) {
            (Ok(true), ..) => Allowed::All,
            (Ok(false), ..) => Allowed::None,
            (_, Ok(status), _) => Allowed::These(vec![status]),
            (_, _, Some(list)) => {
                let statuses: Result<Vec<i64>, _> = list.iter().map(Dynamic::as_int).collect();
                Allowed::These(statuses.map_err(|_| bad("allow_status is a list of numbers, or true"))?)
            }
            _ => return Err(bad("allow_status is a list of numbers, or true")),
        },
    };
    Ok(Wanted { request, timeout, allowed })
}

fn flag(options: &Map, name: &str, default: bool) -> Result<bool, Fault> {
    options.get(name).map_or(Ok(default), |value| value.as_bool().map_err(|_| bad(format!("{name} is true or false"))))
}

/// A map's names and values as texts.
fn pairs(value: &Dynamic, what: &str) -> Result<Vec<(String, String)>, Fault> {
    let map = value.read_lock::<Map>().ok_or_else(|| bad(format!("{what} is a map")))?;
    let mut pairs = Vec::new();
    for (name, value) in map.iter() {
        match value.read_lock::<Array>() {
            Some(list) => {
                for value in list.iter() {
                    pairs.push((name.to_string(), text(value, what)?));
                }
            }
            None => pairs.push((name.to_string(), text(value, what)?)),
        }
    }
    Ok(pairs)
}

/// A text, number or flag as text.
fn text(value: &Dynamic, what: &str) -> Result<String, Fault> {
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.to_string());
    }
    if value.is::<Secret>() {
        return Err(Thrown::last("E0406", format!("a secret does not belong into {what}")).help("send it as auth, or in headers").fault());
    }
    let text = value::write(value, what, BODY_BYTES)?;
    Ok(text)
}

fn body(request: &mut Request, options: &Map) -> Result<(), Fault> {
    let given: Vec<&str> = ["json", "form", "body"].into_iter().filter(|name| options.contains_key(*name)).collect();
    if given.len() > 1 {
        return Err(bad(format!("a request has one body: {}", given.join(" or "))));
    }
    let (content, kind) = if let Some(bytes) = options.get("body").and_then(|value| value.read_lock::<Blob>()) {
        if bytes.len() > BODY_BYTES {
            return Err(bad(format!("a body has at most {} MB, and this one has {} bytes", BODY_BYTES / (1024 * 1024), bytes.len())));
        }
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.body = Some(alloc::uncounted(|| Bytes::copy_from_slice(&bytes)));
        return Ok(());
    } else if let Some(value) = options.get("json") {
        (value::write(value, "json", BODY_BYTES)?, "application/json")
    } else if let Some(form) = options.get("form") {
        let mut url = request.url.clone();
        url.query_pairs_mut().clear().extend_pairs(pairs(form, "form")?);
        (url.query().unwrap_or_default().to_owned(), "application/x-www-form-urlencoded")
    } else if let Some(value) = options.get("body") {
        (text(value, "body")?, "text/plain; charset=utf-8")
    } else {
        return Ok(());
    };
    if content.len() > BODY_BYTES {
        return Err(bad(format!("a body has at most {} MB, and this one has {} bytes", BODY_BYTES / (1024 * 1024), content.len())));
    }
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    request.body = Some(alloc::uncounted(|| Bytes::copy_from_slice(content.as_bytes())));
    Ok(())
}

fn headers(request: &mut Request, options: &Map) -> Result<(), Fault> {
    request.headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if let Some(given) = options.get("headers") {
        let map = given.read_lock::<Map>().ok_or_else(|| bad("headers is a map"))?;
        for (name, value) in map.iter() {
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(format!("`{name}` is not the name of a header")))?;
            if matches!(header.as_str(), "host" | "content-length" | "transfer-encoding" | "connection") {
                return Err(bad(format!("the header `{name}` follows from the request itself")));
            }
            let secret = value.read_lock::<Secret>();
            let content = match &secret {
                Some(secret) => secret.value.to_string(),
                None => text(value, "headers")?,
            };
            let content =
                header_value(&content, secret.is_some()).ok_or_else(|| bad(format!("the header `{name}` has a line break in it")))?;
            if secret.is_some() {
                request.private.push(header.clone());
            }
            request.headers.insert(header, content);
        }
    }
    let auth = match (options.get("auth"), options.get("basic")) {
        (Some(_), Some(_)) => return Err(bad("a request has auth or basic, not both")),
        (Some(token), None) => format!("Bearer {}", shown(token, "auth")?),
        (None, Some(pair)) => {
            let pair = pair.read_lock::<Array>().filter(|pair| pair.len() == 2).ok_or_else(|| bad("basic is [user, password]"))?;
            let whole = format!("{}:{}", shown(&pair[0], "basic")?, shown(&pair[1], "basic")?);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(whole))
        }
        (None, None) => return Ok(()),
    };
    let value = header_value(&auth, true).ok_or_else(|| bad("auth has a line break in it"))?;
    request.headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// A text or a secret, as it is sent.
fn shown(value: &Dynamic, what: &str) -> Result<String, Fault> {
    match value.read_lock::<Secret>() {
        Some(secret) => Ok(secret.value.to_string()),
        None => text(value, what),
    }
}

/// The trace that the call belongs to, unless the script says another one.
fn trace(attempt: &Attempt, inside: &Inside, request: &mut Request) {
    let name = HeaderName::from_static(TRACEPARENT);
    if request.headers.contains_key(&name) {
        return;
    }
    let value = attempt.onward(&inside.key).and_then(|context| header_value(&context.to_string(), false));
    if let Some(value) = value {
        request.headers.insert(name, value);
    }
}

/// The `Idempotency-Key`: the same for this request of this step in each attempt.
fn idempotency(attempt: &Attempt, inside: &Inside, request: &mut Request, options: &Map) -> Result<(), Fault> {
    let key = match options.get("idempotency_key") {
        Some(value) if value.as_bool() == Ok(false) => return Ok(()),
        Some(value) if value.as_bool().is_err() => text(value, "idempotency_key")?,
        _ => {
            let count = attempt.next_request();
            let more = if count == 1 { String::new() } else { format!(".{count}") };
            format!("{}.{}{more}", attempt.call.run.id, inside.key)
        }
    };
    // A header holds no more than ASCII; a step's name may.
    let ascii: String =
        key.bytes().map(|byte| if byte.is_ascii_graphic() { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect();
    let value = header_value(&ascii, false).ok_or_else(|| bad("idempotency_key has a line break in it"))?;
    request.headers.insert(HeaderName::from_static("idempotency-key"), value);
    Ok(())
}
