//! Webhooks through the socket: what is signed becomes an event once, and everything else becomes nothing. The signatures
//! themselves are held by the vectors beside `rules::webhook`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Method, RequestBuilder};
use ring::hmac;
use serde_json::json;
use stepwell::base::{Millis, Span, hex};

use super::*;

fn signature(secret: &str, signed: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, environment(secret).unwrap().as_bytes());
    hex::encode(hmac::sign(&key, signed.as_bytes()).as_ref())
}

/// A request as GitHub signs it, with the old one of two secrets.
pub(super) fn signed_by_github(request: RequestBuilder, event: &str, body: &str) -> RequestBuilder {
    let signature = format!("sha256={}", signature("HOOK_SECRET", body));
    request.header("x-hub-signature-256", signature).header("x-github-event", event).body(body.to_owned())
}

impl Server {
    fn hook(&self, name: &str) -> RequestBuilder {
        self.request(Method::POST, &format!("/webhooks/{name}"))
    }

    fn by_github(&self, event: &str, delivery: &str, body: &str) -> RequestBuilder {
        signed_by_github(self.hook("git"), event, body).header("x-github-delivery", delivery)
    }

    /// A request as Stripe signs it, so many seconds ago.
    fn by_stripe(&self, ago: i64, body: &str) -> RequestBuilder {
        let time = self.seconds() - ago;
        let signature = signature("HOOK_SECRET", &format!("{time}.{body}"));
        self.hook("stripe").header("stripe-signature", format!("t={time},v1={signature}")).body(body.to_owned())
    }

    fn by_slack(&self, body: &str) -> RequestBuilder {
        let time = self.seconds();
        let signature = signature("HOOK_SECRET", &format!("v0:{time}:{body}"));
        let request = self.hook("slack").header("x-slack-request-timestamp", time).header("x-slack-signature", format!("v0={signature}"));
        request.body(body.to_owned())
    }

    /// A request by Standard Webhooks, signed at this time.
    fn by_standard(&self, id: &str, time: i64, body: &str) -> RequestBuilder {
        let secret = environment("NEW_SECRET").unwrap();
        let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{id}.{time}.{body}").as_bytes());
        let request = self.hook("standard").header("webhook-id", id).header("webhook-timestamp", time);
        request.header("webhook-signature", format!("v1,{}", BASE64.encode(tag))).body(body.to_owned())
    }

    fn seconds(&self) -> i64 {
        let Millis(now) = self.engine.clock().now();
        now / 1000
    }

    async fn events(&self) -> Vec<Value> {
        self.get("/v1/events").await.body["data"].as_array().unwrap().clone()
    }

    /// How many requests of a webhook became this, by the figures.
    async fn became(&self, webhook: &str, became: &str) -> Option<String> {
        let text = self.get("/metrics").await.text;
        let head = format!("stepwell_webhook_requests_total{{webhook=\"{webhook}\",became=\"{became}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&head)).map(str::to_owned)
    }
}

#[tokio::test]
async fn a_signed_request_is_one_event_however_often_it_is_delivered() {
    let server = Server::start().await;
    let body = r#"{"action": "opened", "number": 7}"#;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = Answer::of(server.by_github("ping", "72d3162e-cc78-11e3-81ab-4c9367dc0958", body)).await;
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!(200)), "{}", answer.text);
        ids.push(answer.body["ids"][0].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    let other = Answer::of(server.by_github("ping", "another", body)).await;
    assert_ne!(other.body["ids"][0], ids[0].as_str());
    let events = server.events().await;
    assert_eq!(events.len(), 2, "{events:#?}");
    assert_eq!(events[1]["name"], "app/ping");
    assert_eq!(events[1]["id"], "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    assert_eq!(events[1]["data"], json!({"action": "opened"}));
    let runs = server.get(&format!("/v1/events/{}/runs", ids[0])).await;
    assert_eq!(runs.body["data"].as_array().unwrap().len(), 1, "{}", runs.text);
    assert_eq!(server.became("git", "accepted").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn standard_webhooks_are_known_by_their_id_also_where_they_are_signed_anew() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for ago in [10, 0] {
        let request = server.by_standard("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", server.seconds() - ago, r#"{"type": "ping"}"#);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        ids.push(answer.body["ids"][0].clone());
    }
    assert_eq!(ids[0], ids[1]);
    let events = server.events().await;
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!((&events[0]["name"], &events[0]["id"]), (&json!("app/ping"), &json!("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")));
}

#[tokio::test]
async fn the_data_are_the_bytes_that_came() {
    let server = Server::start().await;
    let answer = Answer::of(server.by_slack(r#"{ "n":12345678901234567890123, "event_id": "Ev1", "u":"\u00e9" }"#)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let event = server.get(&format!("/v1/events/{}", answer.body["ids"][0].as_str().unwrap())).await;
    assert!(event.text.contains(r#"{ "n":12345678901234567890123, "event_id": "Ev1", "u":"\u00e9" }"#), "{}", event.text);
    assert_eq!(event.body["data"]["id"], "Ev1");
}

#[tokio::test]
async fn what_is_not_signed_as_it_has_to_be_is_nothing() {
    let server = Server::start().await;
    let body = r#"{"id": "evt_1", "type": "ping", "data": {}}"#;
    let tampered = server.by_stripe(0, body).body(body.replace("evt_1", "evt_2"));
    let cases = [
        ("unsigned", server.hook("stripe").body(body), "no header `stripe-signature`"),
        ("tampered", tampered, "no signature fits"),
        ("by another scheme", signed_by_github(server.hook("stripe"), "ping", body), "no header `stripe-signature`"),
        ("stale", server.by_stripe(600, body), "and at most 5m are allowed"),
    ];
    for (what, request, said) in cases {
        let answer = Answer::of(request).await;
        assert!(answer.is_error(401).contains(said), "{what}: {}", answer.text);
        assert!(!answer.text.contains("a secret of webhooks"), "{}", answer.text);
    }
    assert!(server.events().await.is_empty());
    assert_eq!(server.became("stripe", "unsigned").await.as_deref(), Some("4"));
    assert_eq!(Answer::of(server.by_stripe(0, body)).await.status, 200);
}

#[tokio::test]
async fn no_token_is_needed_and_none_helps() {
    let server = Server::with(|options| {
        options.admin_token = Some("admin".to_owned());
        options.event_keys = vec!["key".to_owned()];
    })
    .await;
    assert_eq!(Answer::of(server.by_github("ping", "d1", "{}")).await.status, 200);
    Answer::of(server.hook("git").bearer_auth("admin").body("{}")).await.is_error(401);
}

#[tokio::test]
async fn what_makes_no_event_is_taken_and_counted_so_that_the_hook_stays() {
    let server = Server::start().await;
    let body = |kind: &str| format!(r#"{{"id": "evt_1", "type": "{kind}", "data": {{}}}}"#);
    for (request, why) in [
        (server.by_stripe(0, &body("noise")), "is null"),
        (server.by_stripe(0, &body("nobody/knows")), "no event `app/nobody/knows` is declared"),
        (server.by_stripe(0, &body("two words")), "holds a space"),
        (server.by_stripe(0, &body(&"x".repeat(1_000))), "bytes; at most"),
        (server.by_stripe(0, r#"{"id": "evt_1"}"#), "fails"),
    ] {
        let answer = Answer::of(request).await;
        assert_eq!((answer.status, &answer.body["ids"], &answer.body["status"]), (202, &json!([]), &json!(202)), "{}", answer.text);
        assert!(answer.body["ignored"].as_str().unwrap().contains(why), "{}", answer.text);
    }
    assert!(server.events().await.is_empty());
    assert!(server.engine.refused().is_empty(), "what is ignored is no refused event");
    assert_eq!(server.became("stripe", "ignored").await.as_deref(), Some("5"));
}

#[tokio::test]
async fn what_the_sender_or_the_config_can_mend_is_refused() {
    let server = Server::start().await;
    let order = |amount: &str| format!(r#"{{"id": "evt_1", "type": "order", "data": {{"amount": {amount}}}}}"#);
    let answer = Answer::of(server.by_stripe(0, &order("0"))).await;
    answer.is_error(400);
    assert_eq!((&answer.body["details"][0]["code"], &answer.body["details"][0]["pointer"]), (&json!("E0221"), &json!("/data/amount")));
    let answer = Answer::of(server.by_stripe(0, r#"{"id": "evt_1", "type": "ping", "data": [1]}"#)).await;
    assert!(answer.is_error(400).contains("expected an object"), "{}", answer.text);
    let answer = Answer::of(server.by_stripe(0, "{")).await;
    assert!(answer.is_error(400).contains("not JSON"), "{}", answer.text);
    let answer = Answer::of(server.by_stripe(0, r#"{"id": "evt_1", "type": "ping", "data": {"a": 1, "a": 2}}"#)).await;
    assert_eq!(answer.status, 200, "the value of an expression has each key once: {}", answer.text);
    assert_eq!(server.became("stripe", "refused").await.as_deref(), Some("3"));
    // A refused delivery leaves nothing behind: once the order is right, it is taken.
    let answer = Answer::of(server.by_stripe(0, &order("1"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn doors_are_closed_as_for_events() {
    let server = Server::with(|options| options.body_bytes = 100).await;
    let unknown = Answer::of(server.hook("strip").body("{}")).await;
    assert!(unknown.is_error(404).contains("did you mean `stripe`?"), "{}", unknown.text);
    server.get("/webhooks/git").await.is_error(405);
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(200));
    Answer::of(server.by_github("ping", "d1", &large)).await.is_error(413);
    let unsigned = Answer::of(server.hook("git").body(large)).await;
    assert!(unsigned.is_error(401).contains("no header"), "its body is not looked at: {}", unsigned.text);
    Answer::of(server.by_github("ping", "d1", "{}").header("content-encoding", "gzip")).await.is_error(415);
    server.engine.drain().await;
    let draining = Answer::of(server.by_github("ping", "d1", "{}")).await;
    draining.is_error(503);
    assert!(draining.header("retry-after").is_some());
}

#[tokio::test]
async fn a_signed_body_that_never_ends_is_408() {
    let server = Server::with(|options| options.body_timeout = Span(50)).await;
    let head = "POST /webhooks/git HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n";
    let slow = connection::exchange(&server, &format!("{head}X-Hub-Signature-256: sha256=00\r\n\r\n{{\"a\":")).await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_known_by_its_signed_time_where_it_has_no_id() {
    let server = Server::start().await;
    let again = server.by_slack(r#"{"text": "one"}"#);
    let mut ids = Vec::new();
    for request in [again.try_clone().unwrap(), again, server.by_slack(r#"{"text": "two"}"#)] {
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        ids.push(answer.body["ids"][0].clone());
    }
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn slack_hears_its_challenge_and_forms_are_read() {
    let server = Server::start().await;
    let answer = Answer::of(server.by_slack(r#"{"type": "url_verification", "challenge": "3eZbrw1aB10", "token": "x"}"#)).await;
    assert_eq!((answer.status, answer.body), (200, json!({"challenge": "3eZbrw1aB10"})));
    let unsigned = server.hook("slack").body(r#"{"type": "url_verification", "challenge": "3eZbrw1aB10"}"#);
    Answer::of(unsigned).await.is_error(401);
    assert!(server.events().await.is_empty());
    let form = |body| server.by_slack(body).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(Answer::of(form("command=%2Fdeploy&text=main+now")).await.status, 200);
    assert_eq!(Answer::of(form("payload=%7B%22type%22%3A%22block_actions%22%7D")).await.status, 200);
    let events = server.events().await;
    assert_eq!(events[1]["data"], json!({"command": "/deploy", "text": "main now"}));
    assert_eq!(events[0]["data"], json!({"type": "block_actions"}));
}

#[tokio::test]
async fn the_answer_comes_after_the_commit() {
    let disk = Disk::new(Ingest::Held(Vec::new()));
    let server = Arc::new(Server::on(Arc::clone(&disk) as Arc<dyn Store>, |options| options.any_key = true).await);
    let sending = tokio::spawn(server.by_github("ping", "d1", "{}").send());
    disk.until_hindered(1).await;
    assert!(!sending.is_finished(), "answered before the event is durable");
    assert!(server.events().await.is_empty());
    disk.open();
    assert_eq!(sending.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.events().await.len(), 1);
    let full = Disk::new(Ingest::Full(0));
    let server = Server::on(full, |options| options.any_key = true).await;
    Answer::of(server.by_github("ping", "d1", "{}")).await.is_error(507);
}
