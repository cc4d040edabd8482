//! Who may do what.

use reqwest::Method;
use serde_json::json;

use super::*;

const EVENT: &str = r#"{"name":"app/ping"}"#;

async fn status(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = server.request(method.clone(), path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == Method::POST {
        request = request.body(EVENT);
    }
    let answer = Answer::of(request).await;
    if answer.status >= 400 {
        let status = answer.status;
        answer.is_error(status);
    }
    answer.status
}

#[tokio::test]
async fn event_keys_may_send_and_nothing_else() {
    let server = Server::with(|options| {
        options.event_keys = vec!["first".into(), "second".into()];
        options.admin_token = Some("admin".into());
        options.read_token = Some("reader".into());
    })
    .await;
    let post = |path: &'static str, bearer: Option<&'static str>| {
        let server = &server;
        async move {
            let token = bearer.map(|token| format!("Bearer {token}")).unwrap_or_default();
            let headers = [("authorization", token.as_str())];
            status(server, Method::POST, path, if bearer.is_some() { &headers } else { &[] }).await
        }
    };
    assert_eq!(post("/e/first", None).await, 200);
    assert_eq!(post("/e/second", None).await, 200);
    assert_eq!(post("/e", Some("second")).await, 200);
    assert_eq!(post("/e", Some("admin")).await, 200);
    for (path, bearer) in [
        ("/e/third", None),
        ("/e/firs", None),
        ("/e/firstx", None),
        ("/e", None),
        ("/e", Some("reader")),
        ("/e", Some("")),
        ("/e/third", Some("first")),
        ("/e/admin", None),
    ] {
        assert_eq!(post(path, bearer).await, 401, "{path} {bearer:?}");
    }
    let key = [("authorization", "Bearer first")];
    assert_eq!(status(&server, Method::GET, "/v1/runs", &key).await, 401);
    let refused = Answer::of(server.request(Method::POST, "/e/third").body(EVENT)).await;
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert!(!refused.text.contains("third"), "{}", refused.text);
    assert_eq!(server.engine.store().events(&Default::default()).unwrap().len(), 4, "only what was sent with a key is stored");
}

#[tokio::test]
async fn without_keys_only_a_server_that_takes_any_key_takes_events() {
    let closed = Server::with(|_| {}).await;
    assert_eq!(status(&closed, Method::POST, "/e/any", &[]).await, 401);
    assert_eq!(status(&closed, Method::POST, "/e", &[]).await, 401);
    let open = Server::start().await;
    assert_eq!(status(&open, Method::POST, "/e/any", &[]).await, 200);
    assert_eq!(status(&open, Method::POST, "/e", &[]).await, 200);
}

#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let tokens: [(Option<&str>, Option<&str>); 4] =
        [(None, None), (Some("admin"), None), (None, Some("reader")), (Some("admin"), Some("reader"))];
    for (admin, reader) in tokens {
        let server = Server::with(|options| {
            options.any_key = true;
            options.admin_token = admin.map(str::to_owned);
            options.read_token = reader.map(str::to_owned);
        })
        .await;
        let is_open = admin.is_none() && reader.is_none();
        for (token, right) in [(None, 0), (Some("wrong"), 0), (Some("reader"), 1), (Some("admin"), 2)] {
            let right = if token == admin && admin.is_some() || token == reader && reader.is_some() { right } else { 0 };
            let value = format!("bearer {}", token.unwrap_or_default());
            let headers = [("authorization", value.as_str())];
            let headers: &[_] = if token.is_some() { &headers } else { &[] };
            let read = if is_open || right >= 1 { 200 } else { 401 };
            for path in ["/v1/events", "/v1/runs", "/v1/functions"] {
                assert_eq!(status(&server, Method::GET, path, headers).await, read, "{path} {token:?} {admin:?} {reader:?}");
            }
            let delete = match right {
                _ if is_open => 404,
                2 => 404,
                1 => 403,
                _ => 401,
            };
            let path = "/v1/runs/0000000000000";
            assert_eq!(status(&server, Method::DELETE, path, headers).await, delete, "{token:?} {admin:?} {reader:?}");
            // What does not exist is closed as well, so that a new route is never open by mistake.
            let unknown = if is_open || right >= 1 { 404 } else { 401 };
            assert_eq!(status(&server, Method::GET, "/v1/nothing", headers).await, unknown);
            for path in ["/", "/health", "/ready"] {
                assert_eq!(status(&server, Method::GET, path, headers).await, 200);
            }
        }
    }
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_421() {
    let server = Server::with(|options| {
        options.any_key = true;
        options.hosts = vec!["engine.internal".into()];
    })
    .await;
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:8288", "engine.internal", "Engine.Internal:99"] {
        assert_eq!(status(&server, Method::GET, "/health", &[("host", host)]).await, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.0.2.1", "engine.internal.evil.example"] {
        for path in ["/", "/health", "/v1/runs", "/nothing"] {
            assert_eq!(status(&server, Method::GET, path, &[("host", host)]).await, 421, "{host} {path}");
        }
        assert_eq!(status(&server, Method::POST, "/e/k", &[("host", host)]).await, 421, "{host}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_change_nothing() {
    let server = Server::with(|options| {
        options.any_key = true;
        options.cors = vec!["https://app.example".into()];
    })
    .await;
    let own = server.url.clone();
    assert_eq!(status(&server, Method::POST, "/e/k", &[("origin", &own)]).await, 200);
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        for headers in [vec![("origin", origin)], vec![("origin", origin), ("content-type", "text/plain")]] {
            assert_eq!(status(&server, Method::POST, "/e/k", &headers).await, 403, "{origin}");
        }
        assert_eq!(status(&server, Method::DELETE, "/v1/runs/0000000000000", &[("origin", origin)]).await, 403, "{origin}");
        let read = Answer::of(server.request(Method::GET, "/v1/runs").header("origin", origin)).await;
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None));
        let asked = Answer::of(server.request(Method::OPTIONS, "/e/k").header("origin", origin)).await;
        assert_eq!(asked.status, 403, "{}", asked.text);
    }
    assert_eq!(status(&server, Method::POST, "/e/k", &[("content-type", "text/plain")]).await, 415);
    assert_eq!(server.get("/v1/events").await.ids().len(), 1);
}

#[tokio::test]
async fn a_listed_origin_may_ask_and_send() {
    let server = Server::with(|options| {
        options.any_key = true;
        options.cors = vec!["https://app.example".into()];
    })
    .await;
    let ask = server
        .request(Method::OPTIONS, "/e/k")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let asked = Answer::of(ask).await;
    assert_eq!(asked.status, 204, "{}", asked.text);
    assert_eq!(asked.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(asked.header("access-control-allow-headers"), Some("content-type"));
    let sent =
        Answer::of(server.request(Method::POST, "/e/k").header("origin", "https://app.example").json(&json!({"name": "app/ping"}))).await;
    assert_eq!((sent.status, sent.header("access-control-allow-origin")), (200, Some("https://app.example")));
    let other = server.get("/health").await;
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn every_answer_has_the_headers_that_guard_a_browser() {
    let server = Server::start().await;
    for path in ["/", "/health", "/v1/runs", "/nothing", "/v1/runs/x"] {
        let answer = server.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{path}");
    }
}

#[tokio::test]
async fn other_machines_are_served_with_keys_alone() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let server = Server::start().await;
    let refused = serve(listener, server.engine.clone(), ServerOptions::default(), std::future::pending::<()>()).await;
    assert!(refused.unwrap_err().to_string().contains("STEPWELL_ADMIN_TOKEN"));
}
