//! Who may do what: event keys, tokens, and the browser's headers that tell a page's own request from a foreign one.

use std::net::{IpAddr, SocketAddr};

use axum::http::header;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::error::ApiError;
use super::options::ServerOptions;

/// The hash of a key or token: comparing hashes tells nothing of the key's length either.
pub(super) type Hash = [u8; 32];

/// What a server knows about callers.
pub(super) struct Auth {
    event_keys: Vec<Hash>,
    admin: Option<Hash>,
    reader: Option<Hash>,
    any_key: bool,
    loopback: bool,
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Nothing.
    Nothing,
    /// Look at everything.
    Read,
    /// Everything.
    All,
}

impl Auth {
    /// What `options` say, for a server that listens at `listen`.
    pub fn new(options: &ServerOptions, listen: SocketAddr) -> Auth {
        let loopback = listen.ip().is_loopback();
        let lower = |names: &[String]| names.iter().map(|name| name.trim().trim_end_matches('/').to_ascii_lowercase()).collect();
        let mut hosts: Vec<String> = lower(&options.hosts);
        hosts.push(bracketed(listen.ip()));
        Auth {
            event_keys: options.event_keys.iter().map(|key| hash(key)).collect(),
            admin: options.admin_token.as_deref().map(hash),
            reader: options.read_token.as_deref().map(hash),
            any_key: options.any_key && loopback,
            loopback,
            hosts,
            origins: lower(&options.cors),
        }
    }

    /// Whether the caller may send events with this key, or with the bearer token of its headers where `key` is none.
    pub fn may_send(&self, key: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.any_key {
            return Ok(());
        }
        let bearer = if key.is_none() { bearer(headers) } else { None };
        let Some(given) = key.or(bearer) else {
            return Err(ApiError::unauthorized("an event key is needed: POST /e/KEY, or `Authorization: Bearer KEY`"));
        };
        let given = hash(given);
        // Every key is compared, whichever fits, so that the time tells nothing.
        let mut known = Choice::from(0);
        for key in &self.event_keys {
            known |= key.ct_eq(&given);
        }
        if bearer.is_some()
            && let Some(admin) = &self.admin
        {
            known |= admin.ct_eq(&given);
        }
        if known.into() { Ok(()) } else { Err(ApiError::unauthorized("this event key is not known")) }
    }

    /// Whether the caller may do what `method` does to a route below `/v1/`: GET reads, everything else needs the admin token.
    pub fn may(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.is_open() {
            return Ok(());
        }
        let needed = if method == Method::GET || method == Method::HEAD { Right::Read } else { Right::All };
        let Some(token) = bearer(headers) else {
            return Err(ApiError::unauthorized("a token is needed: `Authorization: Bearer TOKEN`"));
        };
        match self.right_of(token) {
            Right::Nothing => Err(ApiError::unauthorized("this token is not known")),
            right if right < needed => Err(ApiError::new(StatusCode::FORBIDDEN, "this token may only read")),
            _ => Ok(()),
        }
    }

    /// Whether no token is needed: on loopback, where none is set.
    pub fn is_open(&self) -> bool {
        self.admin.is_none() && self.reader.is_none() && self.loopback
    }

    /// The token that gives a right.
    pub(super) fn token_of(&self, right: Right) -> Option<&Hash> {
        match right {
            Right::Nothing => None,
            Right::Read => self.reader.as_ref(),
            Right::All => self.admin.as_ref(),
        }
    }

    /// What the holder of a token may do.
    pub(super) fn right_of(&self, token: &str) -> Right {
        let token = hash(token);
        let is = |known: &Option<Hash>| known.as_ref().map_or(Choice::from(0), |known| known.ct_eq(&token));
        let (admin, reader) = (bool::from(is(&self.admin)), bool::from(is(&self.reader)));
        match (admin, reader) {
            (true, _) => Right::All,
            (false, true) => Right::Read,
            (false, false) => Right::Nothing,
        }
    }

    /// Whether the request is meant for this server. A name that is not ours may be somebody's who pointed it here to make
    /// a browser talk to us as if we were his page (DNS rebinding).
    pub fn knows_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let named = host_of(uri, headers)?;
        if self.is_known(named) {
            return Ok(());
        }
        let message = format!("this server is not known as `{}`", shortened(named));
        Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, format!("{message}; add the name to `engine.hosts` if it should be")))
    }

    fn is_known(&self, named: &str) -> bool {
        // Without a copy in small letters, since every request comes by here.
        let name = without_port(named);
        let is = |text: &str, known: &str| text.eq_ignore_ascii_case(known);
        if self.hosts.iter().any(|known| is(name, known) || is(named, known)) || is(name, "localhost") {
            return true;
        }
        if name.len().checked_sub(".localhost".len()).and_then(|at| name.get(at..)).is_some_and(|end| is(end, ".localhost")) {
            return true;
        }
        // A rebinding attack needs a name. An address in `Host` is where the browser went, so it is safe to know it, and
        // a server on all addresses cannot list them.
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || !self.loopback,
            Err(_) => false,
        }
    }

    /// Whether the page that sent this request, if any did, may change something. Answers the origin where it is listed in `cors`.
    pub fn knows_origin(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
        let text = origin.to_str().unwrap_or("null").to_ascii_lowercase();
        if self.origins.iter().any(|known| known == "*" || *known == text) {
            return Ok(Some(origin.clone()));
        }
        let reads = method == Method::GET || method == Method::HEAD;
        let own = host_of(uri, headers)?.to_ascii_lowercase();
        let is_own = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).is_some_and(|host| host == own);
        if reads || is_own {
            return Ok(None);
        }
        let message = format!("pages of `{}` may not call this server; add the origin to `engine.cors` if they should", shortened(&text));
        Err(ApiError::new(StatusCode::FORBIDDEN, message))
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The one name that the request is meant for.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, ApiError> {
    let mut named = headers.get_all(header::HOST).iter();
    let (first, second) = (named.next(), named.next());
    let host = match (uri.authority(), first, second) {
        (Some(authority), _, None) => Some(authority.as_str()),
        (None, Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    host.filter(|host| !host.is_empty()).ok_or_else(|| ApiError::bad_request("the request needs one `Host` header"))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host.ends_with(']') => &host[..at],
        _ => host,
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// What a caller sent, short enough for an error.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(listen: &str, change: impl FnOnce(&mut ServerOptions)) -> Auth {
        let mut options = ServerOptions::default();
        change(&mut options);
        Auth::new(&options, listen.parse().unwrap())
    }

    fn knows(auth: &Auth, host: &str) -> bool {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        auth.knows_host(&Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn loopback_knows_its_own_names_alone() {
        let auth = auth("127.0.0.1:8288", |options| options.hosts.push("Engine.Local".into()));
        for host in ["localhost", "localhost:8288", "127.0.0.1:8288", "[::1]:8288", "app.localhost", "engine.local:1", "LOCALHOST:1"] {
            assert!(knows(&auth, host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7:8288", "evil.example:8288", "notlocalhost"]
        {
            assert!(!knows(&auth, host), "{host}");
        }
    }

    #[test]
    fn a_server_on_all_addresses_knows_addresses_but_no_foreign_names() {
        let auth = auth("0.0.0.0:8288", |_| {});
        assert!(knows(&auth, "10.0.0.7:8288") && knows(&auth, "[2001:db8::1]:8288") && knows(&auth, "localhost"));
        assert!(!knows(&auth, "evil.example:8288"));
    }

    #[test]
    fn beyond_loopback_a_key_is_a_key() {
        for (listen, is_open) in [("127.0.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false), ("10.0.0.7:1", false)] {
            let auth = auth(listen, |options| options.any_key = true);
            assert_eq!(auth.may_send(Some("any"), &HeaderMap::new()).is_ok(), is_open, "{listen}");
            assert_eq!(auth.may(&Method::GET, &HeaderMap::new()).is_ok(), is_open, "{listen}");
        }
    }

    #[test]
    fn a_request_without_one_host_is_no_request() {
        let auth = auth("127.0.0.1:1", |_| {});
        assert!(auth.knows_host(&Uri::from_static("/"), &HeaderMap::new()).is_err());
        let mut two = HeaderMap::new();
        two.append(header::HOST, HeaderValue::from_static("localhost"));
        two.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(auth.knows_host(&Uri::from_static("/"), &two).is_err());
    }

    #[test]
    fn pages_of_others_change_nothing_unless_listed() {
        let auth = auth("127.0.0.1:1", |options| options.cors.push("https://app.example/".into()));
        let asked = |method: Method, origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:1"));
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            auth.knows_origin(&method, &Uri::from_static("/"), &headers).map(|listed| listed.is_some()).ok()
        };
        assert_eq!(asked(Method::POST, "http://localhost:1"), Some(false));
        assert_eq!(asked(Method::POST, "https://app.example"), Some(true));
        for foreign in ["http://localhost:2", "https://evil.example", "null", "https://app.example.evil.example"] {
            assert_eq!(asked(Method::POST, foreign), None, "{foreign}");
            assert_eq!(asked(Method::GET, foreign), Some(false), "{foreign}");
        }
    }
}
