//! What a server is told at its start.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;

use crate::base::Span;
use crate::base::limits::{BODY_DEFAULT_BYTES, WAITING_BYTES};
use crate::project::{Loader, Project};

use super::api::Api;

/// How a server listens, whom it knows, and how much it takes.
#[derive(Clone)]
pub struct ServerOptions {
    /// Keys that may send events, and nothing else.
    pub event_keys: Vec<String>,
    /// The token that may do everything.
    pub admin_token: Option<String>,
    /// A token that may read everything.
    pub read_token: Option<String>,
    /// Any event key is accepted, and none is needed: for `dev`, and where no key is set. On loopback alone: elsewhere this
    /// has no effect, and `check` asks for a key.
    pub any_key: bool,
    /// Names in a request's `Host` that are known besides those of loopback and the address it listens on; with or without a port.
    pub hosts: Vec<String>,
    /// Origins of web pages that may call the API, such as `https://app.example.com`; `*` for all.
    pub cors: Vec<String>,
    /// Largest request body, in bytes.
    pub body_bytes: u64,
    /// Bytes of events that may wait for their commit, over all requests; senders of more are refused with 429.
    pub waiting_bytes: usize,
    /// Connections at once; more wait until one is closed.
    pub connections: u32,
    /// Streams of notices at once; more are refused with 429.
    pub streams: usize,
    /// Listeners of channels at once; more are refused with 429.
    pub listeners: usize,
    /// Longest time for a request's headers, and for an idle connection.
    pub header_timeout: Span,
    /// Longest time for a request's body.
    pub body_timeout: Span,
    /// Longest time that a client may read nothing of an answer that waits for it.
    pub write_timeout: Span,
    /// How long requests under way may take to finish once the server is told to stop.
    pub stop_grace: Span,
    /// What a reload reads; without it there is none.
    pub loader: Option<Loader>,
    /// It is the engine of `stepwell dev`.
    pub is_dev: bool,
    /// Makes the pages that are served beside the API, behind the same checks; without it there are none.
    pub pages: Option<Pages>,
}

/// Makes routes beside the API's, which they may call.
pub type Pages = Arc<dyn Fn(Api) -> Router + Send + Sync>;

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            event_keys: Vec::new(),
            admin_token: None,
            read_token: None,
            any_key: false,
            hosts: Vec::new(),
            cors: Vec::new(),
            body_bytes: BODY_DEFAULT_BYTES,
            waiting_bytes: WAITING_BYTES,
            connections: 1_024,
            streams: 128,
            listeners: 512,
            header_timeout: Span::seconds(10),
            body_timeout: Span::seconds(30),
            write_timeout: Span::seconds(30),
            stop_grace: Span::seconds(5),
            loader: None,
            is_dev: false,
            pages: None,
        }
    }
}

impl std::fmt::Debug for ServerOptions {
    /// Without the keys: options may end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions")
            .field("event_keys", &self.event_keys.len())
            .field("admin_token", &self.admin_token.is_some())
            .field("read_token", &self.read_token.is_some())
            .field("any_key", &self.any_key)
            .field("hosts", &self.hosts)
            .field("cors", &self.cors)
            .field("body_bytes", &self.body_bytes)
            .finish_non_exhaustive()
    }
}

impl ServerOptions {
    /// These options with what a snapshot says about them.
    #[must_use]
    pub fn of(self, project: &Project) -> ServerOptions {
        let engine = &project.config.engine;
        ServerOptions {
            hosts: engine.hosts.iter().map(|host| host.value.clone()).collect(),
            cors: engine.cors.iter().map(|origin| origin.value.clone()).collect(),
            body_bytes: engine.body_bytes(),
            ..self
        }
    }

    /// Whether these options are safe at an address.
    ///
    /// # Errors
    /// A sentence that says what is missing: beyond loopback, an admin token and an event key are needed.
    pub fn check(&self, listen: SocketAddr) -> Result<(), String> {
        if listen.ip().is_loopback() {
            return Ok(());
        }
        let missing = match (self.admin_token.is_some(), !self.event_keys.is_empty()) {
            (true, true) => return Ok(()),
            (false, true) => "an admin token (STEPWELL_ADMIN_TOKEN)",
            (true, false) => "an event key (STEPWELL_EVENT_KEYS)",
            (false, false) => "an admin token (STEPWELL_ADMIN_TOKEN) and an event key (STEPWELL_EVENT_KEYS)",
        };
        Err(format!("{listen} can be reached from other machines, so it needs {missing}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_a_token_and_a_key_are_needed() {
        let everywhere: SocketAddr = "0.0.0.0:8288".parse().unwrap();
        let mut options = ServerOptions { any_key: true, ..ServerOptions::default() };
        assert_eq!(options.check("127.0.0.1:8288".parse().unwrap()), Ok(()));
        assert_eq!(options.check("[::1]:8288".parse().unwrap()), Ok(()));
        assert!(options.check(everywhere).unwrap_err().contains("admin token (STEPWELL_ADMIN_TOKEN) and an event key"));
        options.admin_token = Some("t".into());
        assert!(options.check(everywhere).unwrap_err().ends_with("an event key (STEPWELL_EVENT_KEYS)"));
        options.event_keys.push("k".into());
        assert_eq!(options.check(everywhere), Ok(()));
    }

    #[test]
    fn options_show_no_keys() {
        let options = ServerOptions { event_keys: vec!["sesame".into()], admin_token: Some("sesame".into()), ..ServerOptions::default() };
        assert!(!format!("{options:?}").contains("sesame"));
    }
}
