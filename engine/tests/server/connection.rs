//! Connections that are slow, broken or too many.

use stepwell::base::Span;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

pub(super) async fn exchange(server: &Server, request: &str) -> String {
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset after its answer has still given it.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn headers_that_never_end_are_408() {
    let server = Server::with(|options| options.header_timeout = Span(50)).await;
    let is_late = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n") && head.contains("connection: close"), "{answer}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(body["status"] == 408 && body["error"].as_str().unwrap().contains("headers"), "{answer}");
    };
    is_late(&exchange(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: 1").await);
    is_late(&exchange(&server, "G").await);
    // So is a second request that stops half-way on a connection that served a first one.
    let both = exchange(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea").await;
    let well = format!("{{\"status\":200,\"message\":\"OK\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"));
    let (first, second) = both.split_once(&well).unwrap_or_else(|| panic!("{both}"));
    assert!(first.starts_with("HTTP/1.1 200"), "{both}");
    is_late(second);
    // One that begins no request is only idle: it is closed without a word. And the server lives on.
    assert_eq!(exchange(&server, "").await, "");
    let idle = exchange(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(idle.starts_with("HTTP/1.1 200") && idle.ends_with(&well), "{idle}");
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_body_that_never_ends_is_408() {
    let server = Server::with(|options| {
        options.any_key = true;
        options.body_timeout = Span(50);
    })
    .await;
    let answer = exchange(&server, "POST /e/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"name\":").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"status\":408"), "{answer}");
}

#[tokio::test]
async fn a_request_without_a_host_is_400() {
    let server = Server::start().await;
    let answer = exchange(&server, "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"status\":400"), "{answer}");
}

#[tokio::test]
async fn a_flood_of_headers_is_431() {
    let server = Server::start().await;
    let many = "X-Flood: 1\r\n".repeat(200);
    let answer = exchange(&server, &format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "x".repeat(200_000);
    let answer = exchange(&server, &format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n")).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_its_turn() {
    let server = Server::with(|options| options.connections = 1).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (second, ()) = tokio::join!(exchange(&server, request), async { drop(first) });
    assert!(second.starts_with("HTTP/1.1 200"), "{second}");
}

#[tokio::test]
async fn a_stop_closes_the_door() {
    let server = Server::start().await;
    assert_eq!(server.get("/health").await.status, 200);
    let address = server.address;
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}
