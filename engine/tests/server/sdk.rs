//! What Inngest's SDKs send, byte for byte as they sent it, and what they take from the answers.

use serde_json::json;

use super::connection::exchange;
use super::*;

/// The head and body of a request of each SDK: inngest 4.24.0 and 3.54.2 of npm, inngest 0.5.19 of PyPI.
const REQUESTS: [(&str, &str); 3] = [
    (
        "POST /e/NO_EVENT_KEY_SET HTTP/1.1|host: HOST|connection: close|Content-Type: application/json|User-Agent: inngest-js:v4.24.0|\
         x-inngest-sdk: inngest-js:v4.24.0|x-inngest-sdk-handled: true|x-inngest-event-id-seed: 1795826693599,tYAUk2CijfmWOQ==|accept: */*|\
         accept-language: *|sec-fetch-mode: cors|accept-encoding: gzip, deflate|content-length: LENGTH",
        r#"[{"name":"app/ping","data":{"item":"cup"},"id":"o-1","ts":1795826693599},{"name":"app/ping","data":{"item":"pot"},"user":{"id":7},"ts":1795826694599,"v":"2"}]"#,
    ),
    (
        "POST /e/abc HTTP/1.1|host: HOST|connection: close|Content-Type: application/json|User-Agent: inngest-js:v3.54.2|\
         x-inngest-sdk: inngest-js:v3.54.2|x-inngest-sdk-handled: true|x-inngest-event-id-seed: 1795826799265,W/NZt7S6XjFs5A==|accept: */*|\
         accept-language: *|sec-fetch-mode: cors|accept-encoding: gzip, deflate|content-length: LENGTH",
        r#"[{"name":"app/ping","data":{"item":"tea"},"user":{"id":7},"ts":1795826799265}]"#,
    ),
    (
        "POST /e/NO_EVENT_KEY_SET HTTP/1.1|Host: HOST|Accept: */*|Accept-Encoding: gzip, deflate|Connection: close|\
         content-type: application/json|x-inngest-sdk: inngest-py:v0.5.19|x-inngest-req-version: 2|user-agent: inngest-py:v0.5.19|\
         x-inngest-event-id-seed: 1795826869854,Yh842MmiNVQS6Q==|Content-Length: LENGTH",
        r#"[{"data":{"item":"tea"},"name":"app/ping","ts":1795826869855}]"#,
    ),
];

/// The status line, the headers and the body of the answer to a request.
async fn sent(server: &Server, head: &str, body: &str) -> (String, String, String) {
    let head = head.replace("HOST", &server.address.to_string()).replace("LENGTH", &body.len().to_string()).replace('|', "\r\n");
    let answer = exchange(server, &format!("{head}\r\n\r\n{body}")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let (status, headers) = head.split_once("\r\n").unwrap();
    (status.to_owned(), headers.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn requests_of_stock_sdks_are_answered_as_they_want_it() {
    for (head, body) in REQUESTS {
        let server = Server::start().await;
        let (status, headers, answer) = sent(&server, head, body).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{answer}");
        assert!(headers.contains("content-type: application/json\r\n"), "{headers}");
        // As text: the fields and their order, and nothing else.
        let ids: Vec<String> = server.get("/v1/events").await.ids().into_iter().rev().map(|id| format!("\"{id}\"")).collect();
        assert_eq!(answer, format!("{{\"ids\":[{}],\"status\":200}}", ids.join(",")));
        // The same bytes again, as an SDK sends them that has got no answer.
        assert_eq!(sent(&server, head, body).await.2, answer);
        let events = server.get("/v1/events").await;
        let sent: Value = serde_json::from_str(body).unwrap();
        let stored = events.body["data"].as_array().unwrap();
        assert_eq!(stored.len(), sent.as_array().unwrap().len());
        for (event, sent) in stored.iter().rev().zip(sent.as_array().unwrap()) {
            for (field, value) in sent.as_object().unwrap() {
                assert_eq!(&event[field], value, "{field} of {event}");
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_says_in_the_fields_of_an_sdk_what_is_wrong() {
    let server = Server::start().await;
    let (status, _, answer) = sent(&server, REQUESTS[0].0, r#"[{"name":"app/order","data":{"amount":0},"ts":1795826693599}]"#).await;
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    // SDKs show `error`, and take `status` for what went wrong.
    assert!(
        answer.starts_with("{\"error\":\"nothing was accepted: ") && answer.contains("\",\"status\":400,\"details\":[{\"index\":0,"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_runs_of_an_event_are_told_in_inngests_shape() {
    let server = Server::start().await;
    let run = server.run_in(RunState::Completed, json!({"name": "app/ping", "data": {"a": 1}})).await;
    let row = server.engine.store().run(run.parse().unwrap()).unwrap().unwrap();
    let (event, version) = (row.event, row.version.clone().unwrap());
    let time = |at: Option<stepwell::base::Millis>| at.unwrap().rfc3339();
    let own = format!(
        "{{\"run_id\":\"{run}\",\"run_started_at\":\"{}\",\"function_id\":\"ping\",\"function_version\":\"{version}\",\"event_id\":\"{event}\",\
         \"status\":\"Completed\",\"ended_at\":\"{}\",\"output\":{{\"one\":1,\"seen\":{{\"a\":1}}}},\"state\":\"completed\",",
        time(row.started),
        time(row.ended),
    );
    let runs = server.get(&format!("/v1/events/{event}/runs")).await;
    assert!(runs.text.starts_with(&format!("{{\"data\":[{own}")), "{}\n{own}", runs.text);
    let one = server.get(&format!("/v1/runs/{run}")).await;
    assert!(one.text.starts_with(&format!("{{\"data\":{own}")), "{}\n{own}", one.text);
    for answer in [&runs, &one] {
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let metadata = answer.body["metadata"].as_object().unwrap();
        assert_eq!(metadata.keys().collect::<Vec<_>>(), ["fetched_at", "cached_until"]);
        assert_eq!(metadata["cached_until"], metadata["fetched_at"], "it is never cached");
    }
    // An unfinished one, and one that failed.
    let asleep = server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u"}})).await;
    let asleep = server.get(&format!("/v1/runs/{asleep}")).await.body["data"].clone();
    assert_eq!((&asleep["status"], &asleep["ended_at"], &asleep["output"]), (&json!("Running"), &Value::Null, &Value::Null));
    let failed = server.run_in(RunState::Failed, json!({"name": "app/pay", "data": {"broken": true}})).await;
    let failed = server.get(&format!("/v1/runs/{failed}")).await.body["data"].clone();
    assert_eq!((&failed["status"], &failed["error"]["message"]), (&json!("Failed"), &json!("no box")));
}

/// What `inngest.sendSignal` of inngest 4.24.0 sends without a signing key; the connection alone was kept alive.
const SIGNAL: (&str, &str) = (
    "POST /v1/signals HTTP/1.1|host: HOST|connection: close|Content-Type: application/json|x-inngest-sdk: inngest-js:v4.24.0|\
     Authorization: Bearer|accept: */*|accept-language: *|sec-fetch-mode: cors|user-agent: node|accept-encoding: gzip, deflate|\
     content-length: LENGTH",
    r#"{"signal":"go","data":{"by":"ada"}}"#,
);

#[tokio::test]
async fn a_signal_of_a_stock_sdk_reaches_the_run_that_waits_for_it() {
    let yaml = "events: { app/nap: {}, app/again: {} }\nfunctions: { branches: { on: app/nap } }\n";
    let server = Server::of(yaml, Arc::new(Memory::new()), |options| options.any_key = true).await;
    let (head, body) = SIGNAL;
    // The SDK takes 404 to say that nobody waits.
    let (status, _, answer) = sent(&server, head, body).await;
    assert_eq!((&*status, &*answer), ("HTTP/1.1 404 Not Found", r#"{"error":"no run waits for the signal `go`","status":404}"#));
    let run = server.run_in(RunState::Waiting, json!({"name": "app/nap"})).await;
    let mut notices = server.engine.subscribe();
    let (status, headers, answer) = sent(&server, head, body).await;
    assert_eq!(status, "HTTP/1.1 200 OK", "{answer}");
    assert!(headers.contains("content-type: application/json\r\n"), "{headers}");
    assert!(answer.starts_with(&format!(r#"{{"data":{{"run_id":"{run}","runs":1}}"#)), "{answer}");
    let id = run.parse().unwrap();
    while !server.engine.store().journal(id).unwrap().records.iter().any(|record| format!("{:?}", record.result).contains("ada")) {
        notices.recv().await.unwrap();
    }
    // It was taken, so nobody waits any more; without a name it is none.
    assert_eq!(sent(&server, head, body).await.0, "HTTP/1.1 404 Not Found");
    for wrong in [r#"{"data":1}"#, r#"{"signal":"","data":1}"#, r#"{"signal":7}"#, "{}"] {
        assert_eq!(sent(&server, head, wrong).await.0, "HTTP/1.1 400 Bad Request", "{wrong}");
    }
}
