//! `POST /e`: what is accepted, what is refused, and what stays of it.

use reqwest::Method;
use serde_json::{Value, json};
use stepwell::base::{Clock as _, Entropy as _};
use stepwell::clock::{SystemClock, SystemEntropy};
use stepwell::rules::RunState;

use super::*;

const SEED: &str = "x-inngest-event-id-seed";

#[tokio::test]
async fn one_event_or_many_are_stored_and_answered_in_order() {
    let server = Server::start().await;
    let one = server.send(json!({"name": "app/ping", "data": {"a": 1}})).await;
    assert_eq!(one.status, 200, "{}", one.text);
    assert_eq!(one.header("content-type"), Some("application/json"));
    let first = one.body["ids"][0].as_str().unwrap().to_owned();
    assert_eq!(one.text, format!(r#"{{"ids":["{first}"],"status":200}}"#));
    // After the answer, it is there.
    assert_eq!(server.get(&format!("/v1/events/{first}")).await.body["data"]["data"], json!({"a": 1}));
    let names = ["app/ping", "app/order", "app/ping", "app/nap"];
    let many: Vec<Value> = names.iter().enumerate().map(|(n, name)| json!({"name": name, "data": {"amount": n}})).collect();
    let ids = server.sent(Value::from(many)).await;
    assert!(ids.is_sorted() && ids[0] > first, "{ids:?}");
    for (n, id) in ids.iter().enumerate() {
        let event = server.get(&format!("/v1/events/{id}")).await.body;
        assert_eq!((&event["data"]["name"], &event["data"]["data"]["amount"]), (&json!(names[n]), &json!(n)));
    }
    assert_eq!(server.sent(json!([])).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_refused_request_stores_nothing_and_names_every_problem() {
    let server = Server::start().await;
    let answer = server
        .send(json!([
            {"name": "app/ping"},
            {"name": "app/order", "data": {"amount": 0, "userId": 7}},
            {"name": "app/pinng"},
            {"data": 1, "ts": "now", "id": 5},
            {"name": "app/order", "data": {}, "v": 1},
        ]))
        .await;
    answer.is_error(400);
    let details = answer.body["details"].as_array().unwrap();
    let places: Vec<_> = details.iter().map(|detail| (detail["index"].as_u64().unwrap(), detail["pointer"].as_str().unwrap())).collect();
    let expected = [(1, "/data/amount"), (1, "/data/userId"), (2, "/name"), (3, "/name"), (3, "/data"), (3, "/id"), (3, "/ts")];
    for place in expected {
        assert!(places.contains(&place), "{place:?} is not in {places:?}");
    }
    assert!(places.iter().filter(|(index, _)| *index == 4).count() >= 2, "{places:?}");
    assert!(places.is_sorted_by_key(|(index, _)| *index));
    for detail in details {
        assert!(detail["code"].as_str().unwrap().starts_with("E0") && !detail["message"].as_str().unwrap().is_empty());
    }
    let unknown = details.iter().find(|detail| detail["index"] == 2).unwrap();
    assert!(unknown["help"].as_str().unwrap().contains("app/ping"), "{unknown}");
    assert_eq!(server.get("/v1/events").await.ids(), Vec::<&str>::new());
    assert_eq!(server.get("/v1/runs").await.ids(), Vec::<&str>::new());
}

#[tokio::test]
async fn schema_problems_alone_are_refused_alike() {
    let server = Server::start().await;
    let answer = server.send(json!([{"name": "app/ping"}, {"name": "app/order", "data": {"amount": "x"}}])).await;
    assert!(answer.is_error(400).contains("nothing was accepted"), "{}", answer.text);
    assert_eq!(answer.body["details"][0]["index"], 1);
    assert_eq!(answer.body["details"][0]["pointer"], "/data/amount");
    assert_eq!(server.get("/v1/events").await.ids(), Vec::<&str>::new());
}

#[tokio::test]
async fn data_are_kept_byte_by_byte_and_reach_the_result_exactly() {
    let server = Server::start().await;
    let data = r#"{ "i": -9223372036854775808, "max":9223372036854775807, "big": 123456789012345678901234567890, "huge": -1e999, "f": 1.10, "u": "é\u00e9\ud83d\ude00", "n": null }"#;
    let body = format!(r#"{{"name":"app/ping","data":{data},"user":{{"plan": 1.0}},"v":"2"}}"#);
    let mut notices = server.engine.subscribe();
    let sent = Answer::of(server.request(Method::POST, "/e/k").header("content-type", "application/json").body(body)).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    let id = sent.body["ids"][0].as_str().unwrap();
    let event = server.get(&format!("/v1/events/{id}")).await;
    assert!(event.text.contains(&format!("\"data\":{data}")), "{}", event.text);
    assert!(event.text.contains(r#""user":{"plan": 1.0},"v":"2""#), "{}", event.text);
    let run = server.get(&format!("/v1/events/{id}/runs")).await.body["data"][0]["run_id"].as_str().unwrap().to_owned();
    until(&mut notices, run.parse().unwrap(), RunState::Completed).await;
    let done = server.get(&format!("/v1/runs/{run}")).await;
    for number in ["-9223372036854775808", "9223372036854775807", "123456789012345678901234567890", "-1e999"] {
        assert!(done.text.contains(number), "{number}: {}", done.text);
    }
    assert_eq!(done.body["data"]["output"]["seen"]["u"], "éé😀");
    assert_eq!(done.body["data"]["output"]["seen"]["n"], Value::Null);
}

#[tokio::test]
async fn an_id_is_taken_once_by_name_also_across_requests_and_within_one() {
    let server = Server::start().await;
    let first = server.sent(json!({"name": "app/ping", "id": "one", "data": {"n": 1}})).await;
    assert_eq!(server.sent(json!({"name": "app/ping", "id": "one", "data": {"n": 2}})).await, first);
    let other = server.sent(json!({"name": "app/fail", "id": "one"})).await;
    assert_ne!(other, first);
    let within =
        server.sent(json!([{"name": "app/ping", "id": "two"}, {"name": "app/ping", "id": "two"}, {"name": "app/ping", "id": "one"}])).await;
    assert_eq!((&within[0], &within[2]), (&within[1], &first[0]));
    assert_eq!(server.get("/v1/events").await.ids().len(), 3);
    assert_eq!(server.get("/v1/runs").await.ids().len(), 3);
    let event = server.get(&format!("/v1/events/{}", first[0])).await.body;
    assert_eq!((&event["data"]["id"], &event["data"]["data"]["n"]), (&json!("one"), &json!(1)));
}

#[tokio::test]
async fn a_send_repeated_with_its_seed_answers_the_same_ids() {
    let server = Server::start().await;
    let body = json!([{"name": "app/ping"}, {"name": "app/ping"}, {"name": "app/ping", "id": "mine"}]);
    let send = |seed: &'static str| Answer::of(server.request(Method::POST, "/e/k").header(SEED, seed).json(&body));
    let first = send("1700000000000,AAECAwQFBgcICQ==").await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(send("1700000000000,AAECAwQFBgcICQ==").await.body, first.body);
    let other = send("1700000000001,AAECAwQFBgcICQ==").await;
    let (ids, again) = (first.body["ids"].as_array().unwrap(), other.body["ids"].as_array().unwrap());
    assert!(ids[0] != again[0] && ids[0] != ids[1] && ids[2] == again[2], "{ids:?} {again:?}");
    assert_eq!(server.get("/v1/runs").await.ids().len(), 5);
    for bad in ["", "1", "x,AAECAwQFBgcICQ==", "1,AAEC", "1,???"] {
        send(bad).await.is_error(400);
    }
}

#[tokio::test]
async fn an_event_with_a_time_ahead_waits_in_the_queue() {
    let server = Server::start().await;
    let ahead = SystemClock::default().now().0 + 3_600_000;
    let event = server.sent(json!({"name": "app/ping", "ts": ahead})).await.remove(0);
    let runs = server.get(&format!("/v1/events/{event}/runs")).await.body;
    let run = &runs["data"][0];
    assert_eq!((&run["status"], &run["state"], &run["run_started_at"]), (&json!("Scheduled"), &json!("queued"), &Value::Null));
    assert!(run["why"].as_str().unwrap().contains("time has not come"), "{run}");
    assert_eq!(server.get(&format!("/v1/events/{event}")).await.body["data"]["ts"], ahead);
    // A later event of the same function overtakes it, so the queue has been worked through since.
    server.run_in(RunState::Completed, json!({"name": "app/ping", "ts": 0})).await;
    let id = run["run_id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/runs/{id}")).await.body["data"]["state"], "queued");
}

#[tokio::test]
async fn a_time_long_past_is_kept_and_starts_at_once() {
    let server = Server::start().await;
    let run = server.run_in(RunState::Completed, json!({"name": "app/ping", "ts": 1_000_000_000_000_i64})).await;
    assert_eq!(server.get(&format!("/v1/runs/{run}")).await.body["data"]["status"], "Completed");
}

#[tokio::test]
async fn bodies_are_json_of_a_bounded_size() {
    let server = Server::with(|options| {
        options.any_key = true;
        options.body_bytes = 1_000;
    })
    .await;
    let post = |kind: Option<&'static str>, body: Vec<u8>| {
        let request = server.request(Method::POST, "/e/k").body(body);
        Answer::of(match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        })
    };
    let event = || br#"{"name":"app/ping"}"#.to_vec();
    for kind in [None, Some("application/json"), Some("Application/JSON; charset=utf-8")] {
        assert_eq!(post(kind, event()).await.status, 200, "{kind:?}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        post(Some(kind), event()).await.is_error(415);
    }
    let packed = server.request(Method::POST, "/e/k").header("content-encoding", "gzip").body(event());
    Answer::of(packed).await.is_error(415);
    post(None, vec![b' '; 1_001]).await.is_error(413);
    post(None, vec![b' '; 3_000_000]).await.is_error(413);
    // A body that does not tell its length is counted as it comes.
    let pieces = futures_util::stream::iter([600; 3].map(|bytes| Ok::<_, std::io::Error>(" ".repeat(bytes))));
    Answer::of(server.request(Method::POST, "/e/k").body(reqwest::Body::wrap_stream(pieces))).await.is_error(413);
    let halves = futures_util::stream::iter([r#"{"name":"#, r#""app/ping"}"#].map(Ok::<_, std::io::Error>));
    assert_eq!(Answer::of(server.request(Method::POST, "/e/k").body(reqwest::Body::wrap_stream(halves))).await.status, 200);
    assert!(post(None, Vec::new()).await.is_error(400).contains("empty"));
    let broken = post(None, b"[{\"name\": \"app/ping\",}]".to_vec()).await;
    assert!(broken.is_error(400).contains("line 1"), "{}", broken.text);
    assert_eq!(broken.body["details"][0].get("index"), None);
    post(None, b"{\"name\":\"\xff\xfe\"}".to_vec()).await.is_error(400);
    post(None, vec![b'['; 900]).await.is_error(400);
    assert_eq!(server.engine.store().events(&Default::default()).unwrap().len(), 4, "only what was answered with 200 is stored");
}

#[tokio::test]
async fn other_methods_are_named_as_wrong() {
    let server = Server::start().await;
    for (method, path) in [(Method::GET, "/e/k"), (Method::PUT, "/e"), (Method::POST, "/health"), (Method::DELETE, "/v1/events")] {
        let answer = Answer::of(server.request(method.clone(), path)).await;
        answer.is_error(405);
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn a_draining_engine_takes_no_events_and_says_when_to_come_again() {
    let server = Server::start().await;
    server.engine.drain().await;
    let answer = server.send(json!({"name": "app/ping"})).await;
    answer.is_error(503);
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    server.get("/ready").await.is_error(503);
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.body["message"]), (200, &json!("degraded")));
    assert!(health.body["reasons"][0].as_str().unwrap().contains("draining"), "{}", health.text);
    assert_eq!(server.get("/v1/events").await.status, 200);
}

/// Bodies out of pieces of right ones, and out of nothing in particular.
fn random_body(random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    const PIECES: [&str; 30] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"name\":\"app/ping\"",
        "\"name\":\"app/order\"",
        "\"name\":",
        "\"data\":",
        "\"ts\":",
        "\"id\":",
        "\"user\":",
        "\"v\":",
        "{\"amount\":1}",
        "null",
        "true",
        "-1",
        "1e999",
        "1700000000000",
        "99999999999999999999",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"é\"",
        "{}",
        "[]",
        " ",
        "\"id\":\"x\"",
        "{\"a\":{\"a\":[{\"a\":1}]}}",
    ];
    let mut body: Vec<u8> = Vec::new();
    if random(2) == 0 {
        // Most likely well-formed: a list of events with fields out of the pieces.
        let field = |random: &mut dyn FnMut(usize) -> usize| {
            let key = ["name", "data", "ts", "id", "user", "v", "x"][random(7)];
            let value = [
                "\"app/ping\"",
                "\"app/order\"",
                "{}",
                "{\"amount\":3}",
                "null",
                "1",
                "1e999",
                "\"\"",
                "[{}]",
                "1700000000000",
                "\"\\ud800\"",
            ][random(11)];
            format!("\"{key}\":{value}")
        };
        let event = |random: &mut dyn FnMut(usize) -> usize| {
            let fields: Vec<String> = (0..random(6)).map(|_| field(random)).collect();
            format!("{{{}}}", fields.join(","))
        };
        let events: Vec<String> = (0..random(4)).map(|_| event(random)).collect();
        body.extend(format!("[{}]", events.join(",")).into_bytes());
    } else {
        for _ in 0..random(30) {
            body.extend(PIECES[random(PIECES.len())].as_bytes());
        }
    }
    for _ in 0..random(3) {
        if !body.is_empty() && random(3) == 0 {
            let at = random(body.len());
            body[at] = random(256) as u8;
        }
    }
    body
}

#[tokio::test]
async fn no_body_whatever_is_an_error_of_the_server() {
    let server = Server::start().await;
    let seed = SystemEntropy.next();
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: usize| {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    };
    let mut accepted = 0;
    for _ in 0..1_500 {
        let body = random_body(&mut random);
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = Answer::of(server.request(Method::POST, "/e/k").body(body)).await;
        match answer.status {
            200 => accepted += answer.body["ids"].as_array().unwrap().len(),
            400 => {
                answer.is_error(400);
                assert!(!answer.body["details"].as_array().unwrap().is_empty(), "{shown}: {}", answer.text);
            }
            status => panic!("{status} for {shown}: {}", answer.text),
        }
    }
    let stored = server.engine.store().events(&Default::default()).unwrap().len();
    assert!(stored <= accepted, "{stored} of {accepted}");
}
