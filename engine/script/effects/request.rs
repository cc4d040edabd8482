//! One HTTP request of a handler: the client of this thread, its guarded resolver, redirects, and the whole answer.
//!
//! Everything here is plain and `Send`, and knows no script: it runs as a task of its own, beside the script that waits.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use percent_encoding::percent_decode_str;
use rustls_platform_verifier::ConfigVerifierExt as _;
use url::{Position, Url};

use super::apart::places;
use super::connections::{Client, Lent, Sent};
use super::guard::{Reach, reach};
use crate::script::HttpRules;
use crate::script::outside::without_query;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Redirects that are followed for one request.
const REDIRECTS_MOST: usize = 10;
/// Clients that a thread keeps: one for each set of rules, of the newest projects.
const CLIENTS_MOST: usize = 4;
/// How long nothing may come over a connection before the system asks whether the other side is there still.
const ASKED_AFTER: Duration = Duration::from_secs(15);

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Headers that must not follow to another origin, beside the usual ones.
    pub(super) private: Vec<HeaderName>,
    pub(super) body: Option<Bytes>,
    pub(super) follow: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// The address may not be reached; the host, the address, and whether listing it would help.
    Refused(Refused),
    /// The network, with what it said.
    Network(String),
    /// The URL, or a redirect's, cannot be used.
    Url(String),
    /// The answer is larger than is read.
    Large,
}

/// An address that a request may not connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) host: String,
    pub(super) address: IpAddr,
    /// Whether `http.allow` could let it through.
    pub(super) listable: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at {}, where handlers may not connect to", self.host, self.address)
    }
}

impl std::error::Error for Refused {}

/// Whether the rules let a request connect to an address.
fn check(rules: &HttpRules, host: &str, address: IpAddr) -> Result<(), Refused> {
    let listable = match reach(address) {
        Reach::Public => return Ok(()),
        Reach::Private if rules.private_allowed || rules.allow.iter().any(|network| network.contains(address)) => return Ok(()),
        Reach::Private => true,
        Reach::Never => false,
    };
    Err(Refused { host: host.to_owned(), address, listable })
}

/// Looks names up, and gives only addresses that the rules let through.
#[derive(Clone)]
pub(super) struct Guarded(Arc<HttpRules>);

type Found = Result<std::vec::IntoIter<SocketAddr>, Box<dyn std::error::Error + Send + Sync>>;

impl tower_service::Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Found> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let mut refused = None;
            let mut good: Vec<SocketAddr> = Vec::new();
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match check(&rules, name.as_str(), address.ip()) {
                    Ok(()) => good.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if good.is_empty() => Err(error.into()),
                _ => Ok(good.into_iter()),
            }
        })
    }
}

thread_local! {
    /// The clients of this thread; their connections belong to its runtime.
    static CLIENTS: RefCell<Vec<(Arc<HttpRules>, Client)>> = const { RefCell::new(Vec::new()) };
}

/// Sees to it that TLS has its cryptography.
pub(super) fn install_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It fails where somebody else in the process has installed one; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The client of this thread for these rules.
pub(super) fn client(rules: &HttpRules) -> Result<(Arc<HttpRules>, Client), String> {
    install_provider();
    CLIENTS.with_borrow_mut(|clients| {
        if let Some((rules, client)) = clients.iter().find(|(known, _)| **known == *rules) {
            return Ok((Arc::clone(rules), client.clone()));
        }
        let rules = Arc::new(rules.clone());
        // No proxy is asked for: it would connect where the guard cannot look.
        let mut connector = HttpConnector::new_with_resolver(Guarded(Arc::clone(&rules)));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(ASKED_AFTER));
        let tls = rustls::ClientConfig::with_platform_verifier().map_err(|error| error.to_string())?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
        // Each thread keeps connections of its own.
        let client = Client::new(connector, places().div_ceil(std::thread::available_parallelism().map_or(1, usize::from)));
        if clients.len() >= CLIENTS_MOST {
            clients.remove(0);
        }
        clients.push((Arc::clone(&rules), client.clone()));
        Ok((rules, client))
    })
}

/// Makes the request, follows where it is sent to, and reads the whole answer.
pub(super) async fn perform(client: Client, rules: Arc<HttpRules>, mut request: Request) -> Result<Answer, Failed> {
    for _ in 0..=REDIRECTS_MOST {
        check_url(&rules, &request.url)?;
        let (origin, sent) = request.to_hyper()?;
        let (response, connection) = client.send(origin, sent).await.map_err(|error| failed(&*error))?;
        let status = response.status();
        let target = response.headers().get(LOCATION).filter(|_| request.follow && status.is_redirection());
        let Some(target) = target else { return read(response, connection).await };
        let target = target.to_str().map_err(|_| Failed::Url("the redirect's target is not text".to_owned()))?;
        let url = request.url.join(target).map_err(|error| Failed::Url(format!("the redirect to `{target}`: {error}")))?;
        // Nobody reads its body.
        drop(response);
        connection.give_back().await;
        request.redirect(status, url);
    }
    Err(Failed::Url(format!("more than {REDIRECTS_MOST} redirects")))
}

impl Request {
    /// The origin that is asked, and the request as it is sent to it: a user in the URL is one of basic authentication, unless there is
    /// a better one.
    fn to_hyper(&self) -> Result<(String, Sent), Failed> {
        let url = &self.url;
        let unsendable = |error: &dyn fmt::Display| Failed::Url(format!("`{}` cannot be sent: {error}", without_query(url)));
        let mut headers = self.headers.clone();
        if !url.username().is_empty() || url.password().is_some() {
            let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let whole = format!("{}:{}", decoded(url.username()), url.password().map(decoded).unwrap_or_default());
            let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(whole));
            if let Some(value) = header_value(&text, true).filter(|_| !headers.contains_key(AUTHORIZATION)) {
                headers.insert(AUTHORIZATION, value);
            }
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("stepwell/", env!("CARGO_PKG_VERSION"))));
        // With its port only where that is not the one of the scheme.
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let named = HeaderValue::from_str(host).map_err(|error| unsendable(&error))?;
        // Whoever names another one means it.
        headers.entry(HOST).or_insert(named);
        let uri: Uri = url[Position::BeforePath..Position::AfterQuery].parse().map_err(|error| unsendable(&error))?;
        let mut sent = Sent::new(Full::new(self.body.clone().unwrap_or_default()));
        *sent.method_mut() = self.method.clone();
        *sent.uri_mut() = uri;
        *sent.headers_mut() = headers;
        Ok((format!("{}://{host}", url.scheme()), sent))
    }

    /// Becomes the request that a redirect asks for.
    fn redirect(&mut self, status: StatusCode, url: Url) {
        let turns_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if turns_get {
            self.method = Method::GET;
            self.body = None;
            for name in ["content-type", "content-length", "idempotency-key"] {
                self.headers.remove(name);
            }
        }
        if url.origin() != self.url.origin() {
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].iter().chain(&self.private) {
                self.headers.remove(name);
            }
        }
        self.url = url;
    }
}

/// Refuses what is not HTTP, and an address that stands in the URL itself: no name is looked up for it.
fn check_url(rules: &HttpRules, url: &Url) -> Result<(), Failed> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failed::Url(format!("`{}:` is not http or https", url.scheme())));
    }
    let host = url.host_str().ok_or_else(|| Failed::Url("the URL has no host".to_owned()))?;
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => check(rules, host, address).map_err(Failed::Refused),
        Err(_) => Ok(()),
    }
}

async fn read(response: hyper::Response<Incoming>, mut connection: Lent) -> Result<Answer, Failed> {
    let (head, mut incoming) = response.into_parts();
    if incoming.size_hint().exact().is_some_and(|length| length > ANSWER_BYTES as u64) {
        return Err(Failed::Large);
    }
    let mut body = Vec::new();
    while let Some(frame) = connection.frame(&mut incoming).await {
        let Ok(part) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
        if body.len() + part.len() > ANSWER_BYTES {
            return Err(Failed::Large);
        }
        body.extend_from_slice(&part);
    }
    connection.give_back().await;
    Ok(Answer { status: head.status, headers: head.headers, body })
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Failed {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return Failed::Refused(refused.clone());
        }
        cause = inner.source();
    }
    Failed::Network(said(error))
}

/// What an error and its causes say; none of them names the URL, which may carry what nobody should see.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if words.last().is_none_or(|last| !last.contains(&text)) {
            words.push(text);
        }
        cause = inner.source();
    }
    words.join(": ")
}

/// A header's value from text; none where it has a line break or another control character.
pub(super) fn header_value(text: &str, sensitive: bool) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(sensitive);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method) -> Request {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "x-key", "content-type", "idempotency-key", "accept"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let private = vec![HeaderName::from_static("x-key")];
        let url = Url::parse("https://a.example/x").expect("a URL");
        Request { method, url, headers, private, body: Some(Bytes::from_static(b"b")), follow: true }
    }

    #[test]
    fn a_user_in_the_url_goes_by_the_header_and_not_by_the_address() {
        let mut asked = request(Method::GET);
        asked.url = Url::parse("http://us%C3%A9r:p%40ss@a.example:81/x?y=1#part").expect("a URL");
        let sent = |asked: &Request| asked.to_hyper().expect("a request");
        assert_eq!(sent(&asked).1.headers()["authorization"], "x", "what the script says counts");
        asked.headers.remove("authorization");
        let (origin, sent) = sent(&asked);
        let (head, _) = sent.into_parts();
        assert_eq!((origin.as_str(), head.uri.to_string().as_str()), ("http://a.example:81", "/x?y=1"));
        assert_eq!(head.headers["host"], "a.example:81");
        let mut named = asked.clone();
        named.headers.insert("host", HeaderValue::from_static("b.example"));
        let (origin, sent) = named.to_hyper().expect("a request");
        assert_eq!((origin.as_str(), &sent.headers()["host"]), ("http://a.example:81", &HeaderValue::from_static("b.example")));
        // `usér:p@ss`
        assert_eq!(head.headers["authorization"], "Basic dXPDqXI6cEBzcw==");
        assert!(head.headers["authorization"].is_sensitive());
        assert_eq!(head.headers["user-agent"], concat!("stepwell/", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let mut same = request(Method::GET);
        same.redirect(StatusCode::FOUND, Url::parse("https://a.example/y").expect("a URL"));
        assert!(same.headers.contains_key("authorization") && same.headers.contains_key("x-key"));
        for other in ["https://b.example/", "http://a.example/", "https://a.example:444/"] {
            let mut moved = request(Method::GET);
            moved.redirect(StatusCode::TEMPORARY_REDIRECT, Url::parse(other).expect("a URL"));
            assert!(!moved.headers.contains_key("authorization") && !moved.headers.contains_key("x-key"), "{other}");
            assert!(moved.headers.contains_key("accept"), "{other}");
        }
    }

    #[test]
    fn a_post_is_repeated_only_where_the_status_says_so() {
        for (status, method) in [(301, Method::GET), (302, Method::GET), (303, Method::GET), (307, Method::POST), (308, Method::POST)] {
            let mut moved = request(Method::POST);
            let url = moved.url.clone();
            moved.redirect(StatusCode::from_u16(status).expect("a status"), url);
            assert_eq!((moved.method.clone(), moved.body.is_some()), (method.clone(), method == Method::POST), "{status}");
            assert_eq!(moved.headers.contains_key("idempotency-key"), method == Method::POST, "{status}");
        }
    }

    #[test]
    fn only_http_to_allowed_addresses_is_let_through() {
        let rules = HttpRules { allow: vec!["10.1.0.0/16".parse().expect("a network")], ..HttpRules::default() };
        let check = |url: &str| check_url(&rules, &Url::parse(url).expect("a URL"));
        assert_eq!(check("https://8.8.8.8/"), Ok(()));
        assert_eq!(check("http://10.1.2.3/"), Ok(()));
        assert_eq!(check("https://example.com/"), Ok(()));
        for url in [
            "ftp://8.8.8.8/",
            "file:///etc/passwd",
            "http://10.2.0.1/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://①②⑦.0.0.1/",
            "http://user:pass@127.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[0:0:0:0:0:ffff:7f00:1]/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://0/",
            "http://169.254.169.254/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
