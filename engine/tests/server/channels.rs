//! Channels: who hears what handlers publish, and who may listen.

use std::pin::Pin;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use stepwell::rules::RunState;

use super::*;

const CHANNELS: &str = r#"
version: 1
app: test
events:
  app/import: {}
  app/flood: {}
functions:
  import: { on: app/import }
  flood: { on: app/flood }
"#;
/// How many messages a run of `flood` publishes, of 60,000 bytes each: more than sockets and what waits for a listener hold.
const FLOOD: u64 = 1_000;

async fn server(change: impl FnOnce(&mut ServerOptions)) -> Server {
    Server::of(CHANNELS, Arc::new(Memory::new()), change).await
}

/// A listener of a channel.
struct Listening {
    response: Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: String,
}

impl Listening {
    async fn open(server: &Server, path: &str) -> Listening {
        let response = server.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Listening { response: Box::pin(response.bytes_stream()), buffer: String::new() }
    }

    /// What it hears next; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let (kind, data) = (line("event: "), line("data: "));
                self.buffer = rest.to_owned();
                if let Some(data) = data {
                    let heard: Value = serde_json::from_str(&data).unwrap();
                    assert_eq!(kind.as_deref(), heard["type"].as_str());
                    return Some(heard);
                }
            }
            let chunk = self.response.next().await?.ok()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The topics and data of the next messages.
    async fn messages(&mut self, count: usize) -> Vec<(Value, Value)> {
        let mut messages = Vec::new();
        for _ in 0..count {
            let heard = self.next().await.unwrap();
            assert_eq!(heard["type"], "message", "{heard}");
            messages.push((heard["topic"].clone(), heard["data"].clone()));
        }
        messages
    }
}

/// What a request is answered with; a stream is not read.
async fn status(server: &Server, path: &str, bearer: Option<&str>) -> u16 {
    let request = server.request(Method::GET, path);
    let request = bearer.into_iter().fold(request, RequestBuilder::bearer_auth);
    request.send().await.unwrap().status().as_u16()
}

/// Asks for a token of a channel.
async fn ask(server: &Server, channel: &str, bearer: &str, body: Value) -> Answer {
    let request = server.request(Method::POST, &format!("/v1/channels/{channel}/token"));
    Answer::of(request.bearer_auth(bearer).json(&body)).await
}

#[tokio::test]
async fn listeners_hear_what_steps_publish_in_order_and_choose_by_topic() {
    let server = server(|options| options.any_key = true).await;
    let mut all = Listening::open(&server, "/v1/channels/import:f1").await;
    let mut some = Listening::open(&server, "/v1/channels/import:f1?topic=rows&topic=the%20end%2C%20really").await;
    let mut other = Listening::open(&server, "/v1/channels/import%2Ff2").await;
    let run = server.run_in(RunState::Completed, json!({"name": "app/import"})).await;
    let first = all.next().await.unwrap();
    assert!(first["at"].as_str().unwrap().ends_with('Z'), "{first}");
    let whole = json!({"type": "message", "channel": "import:f1", "topic": "rows", "data": {"row": 1}, "run": run, "at": first["at"]});
    assert_eq!(first, whole);
    let end = (json!("the end, really"), json!([1.5, null]));
    // The step is published once, though the script went over it again after its sleep.
    assert_eq!(all.messages(3).await, [(Value::Null, json!("half of it")), (json!("rows"), json!({"row": 2})), end.clone()]);
    assert_eq!(some.messages(3).await, [(json!("rows"), json!({"row": 1})), (json!("rows"), json!({"row": 2})), end]);
    assert_eq!(other.messages(1).await, [(Value::Null, json!(0))]);
    server.get("/v1/channels/import:f1?topics=rows").await.is_error(400);
    server.get(&format!("/v1/channels/{}", "x".repeat(201))).await.is_error(400);
    server.stop().await;
    for mut listening in [all, some, other] {
        assert_eq!(listening.next().await, None, "a stop ends the streams");
    }
}

#[tokio::test]
async fn a_listener_that_does_not_read_holds_up_no_run_and_is_told_what_it_missed() {
    let server = server(|options| options.any_key = true).await;
    let mut slow = Listening::open(&server, "/v1/channels/flood").await;
    // The run has ended, and nobody has read anything.
    server.run_in(RunState::Completed, json!({"name": "app/flood"})).await;
    let (mut next, mut missed) = (0, 0);
    while next < FLOOD {
        let heard = slow.next().await.unwrap();
        match heard["missed"].as_u64() {
            Some(count) => {
                missed += count;
                next += count;
            }
            None => {
                assert_eq!(heard["data"]["n"], next);
                next += 1;
            }
        }
    }
    assert!(missed > 0 && next == FLOOD, "{missed} were missed of {next}");
}

#[tokio::test]
async fn a_channel_is_heard_with_a_token_of_the_api_or_of_its_own() {
    let server = server(|options| {
        options.any_key = true;
        options.admin_token = Some("admin".into());
        options.read_token = Some("reader".into());
    })
    .await;
    let channel = "/v1/channels/import:f1";
    for (bearer, expected) in [(None, 401), (Some("wrong"), 401), (Some("reader"), 200), (Some("admin"), 200)] {
        assert_eq!(status(&server, channel, bearer).await, expected, "{bearer:?}");
    }
    for (bearer, expected) in [("wrong", 401), ("reader", 403)] {
        ask(&server, "import:f1", bearer, json!({})).await.is_error(expected);
    }
    let made = ask(&server, "import:f1", "admin", json!({})).await;
    assert_eq!((made.status, &made.body["data"]["channel"]), (200, &json!("import:f1")), "{}", made.text);
    assert!(made.body["data"]["expires_at"].as_str() > made.body["metadata"]["fetched_at"].as_str(), "{}", made.text);
    let token = made.body["data"]["token"].as_str().unwrap();
    let mut listening = Listening::open(&server, &format!("{channel}?topic=rows&token={token}")).await;
    server.sent(json!({"name": "app/import"})).await;
    assert_eq!(listening.messages(1).await, [(json!("rows"), json!({"row": 1}))]);

    server.get(&format!("/v1/channels/import:f2?token={token}")).await.is_error(403);
    for path in [
        format!("{channel}?token={token}A"),
        format!("{channel}?token=reader"),
        format!("{channel}?token="),
        format!("{channel}/token?token={token}"),
        format!("/v1/runs?token={token}"),
        format!("/v1/stream?token={token}"),
        format!("/v1/channels/?token={token}"),
    ] {
        server.get(&path).await.is_error(401);
    }
    assert_eq!(status(&server, "/v1/runs", Some(token)).await, 401, "it is no token of the API");
    let posted = server.request(Method::POST, &format!("{channel}/token?token={token}")).json(&json!({}));
    Answer::of(posted).await.is_error(401);
}

#[tokio::test]
async fn a_token_of_a_channel_is_refused_once_its_time_is_over() {
    let server = server(|options| options.admin_token = Some("admin".into())).await;
    let made = ask(&server, "a", "admin", json!({"expires_in": "1ms"})).await;
    let path = format!("/v1/channels/a?token={}", made.body["data"]["token"].as_str().unwrap());
    while status(&server, &path, None).await == 200 {}
    assert!(server.get(&path).await.is_error(401).contains("is over"));
    for expires_in in ["0s", "25h", "soon"] {
        assert!(ask(&server, "a", "admin", json!({"expires_in": expires_in})).await.is_error(400).contains("expires_in"));
    }
    ask(&server, "a", "admin", json!({"lasts": "1m"})).await.is_error(400);
}

#[tokio::test]
async fn where_no_token_is_needed_those_of_channels_are_looked_at_all_the_same() {
    let server = server(|options| options.any_key = true).await;
    assert_eq!(status(&server, "/v1/channels/a", None).await, 200);
    let made = ask(&server, "a", "any", json!({})).await;
    let token = made.body["data"]["token"].as_str().unwrap();
    assert_eq!(status(&server, &format!("/v1/channels/a?token={token}"), None).await, 200);
    server.get(&format!("/v1/channels/b?token={token}")).await.is_error(403);
    server.get("/v1/channels/a?token=x").await.is_error(401);
}

#[tokio::test]
async fn pages_of_listed_origins_may_listen() {
    let server = server(|options| {
        options.admin_token = Some("admin".into());
        options.cors = vec!["https://app.example".into()];
    })
    .await;
    let made = ask(&server, "a", "admin", json!({})).await;
    let path = format!("/v1/channels/a?token={}", made.body["data"]["token"].as_str().unwrap());
    for (origin, expected) in [("https://app.example", Some("https://app.example")), ("https://evil.example", None)] {
        let response = server.request(Method::GET, &path).header("origin", origin).send().await.unwrap();
        let allowed = response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert_eq!((response.status().as_u16(), allowed), (200, expected), "{origin}");
    }
}

#[tokio::test]
async fn listeners_are_counted_and_take_no_place_of_those_who_watch() {
    let server = server(|options| {
        options.any_key = true;
        options.streams = 1;
        options.listeners = 1;
    })
    .await;
    let first = Listening::open(&server, "/v1/channels/a").await;
    let refused = server.get("/v1/channels/b").await;
    refused.is_error(429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(status(&server, "/v1/stream", None).await, 200);
    drop(first);
    // Its place is free once the server has seen that it hung up.
    while status(&server, "/v1/channels/b", None).await == 429 {
        tokio::task::yield_now().await;
    }
}
