//! The OpenAPI document against the real server: every route is there, and answers as it says.

use reqwest::Method;
use serde_json::{Map, Value, json};
use stepwell::rules::RunState;

use super::*;

/// The routes that were promised: whoever takes one away breaks somebody's program.
const ROUTES: [&str; 28] = [
    "POST /e",
    "POST /e/{key}",
    "POST /webhooks/{name}",
    "GET /v1/events",
    "GET /v1/events/{id}",
    "GET /v1/events/{id}/runs",
    "GET /v1/events/{id}/explain",
    "GET /v1/runs",
    "GET /v1/runs/{id}",
    "GET /v1/runs/{id}/trace",
    "GET /v1/runs/{id}/logs",
    "DELETE /v1/runs/{id}",
    "POST /v1/runs/{id}/replay",
    "POST /v1/runs/{id}/retry-now",
    "POST /v1/cancellations",
    "POST /v1/replays",
    "GET /v1/functions",
    "POST /v1/functions/{id}/pause",
    "POST /v1/functions/{id}/resume",
    "POST /v1/functions/{id}/invoke",
    "POST /v1/signals/{name}",
    "POST /v1/reload",
    "GET /v1/config",
    "GET /v1/plan",
    "GET /health",
    "GET /ready",
    "GET /metrics",
    "GET /v1/stream",
];

/// What stands for a parameter of a path.
struct Ids {
    run: String,
    event: String,
}

impl Ids {
    fn fill(&self, path: &str) -> String {
        let of_event = path.starts_with("/v1/events");
        let id = match path {
            path if path.starts_with("/v1/functions") => "ping",
            _ if of_event => &self.event,
            _ => &self.run,
        };
        let name = match path {
            path if path.starts_with("/webhooks") => "git",
            // One part of the path, as a browser writes it.
            path if path.starts_with("/v1/channels") => "go%2Fnow",
            _ => "go/now",
        };
        path.replace("{id}", id).replace("{key}", "key").replace("{name}", name)
    }
}

/// Whether a value is as a schema of the document says.
#[track_caller]
fn is_valid(document: &Value, schema: &Value, value: &Value, what: &str) {
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": document["components"],
        "allOf": [schema],
    });
    let validator = jsonschema::validator_for(&whole).unwrap_or_else(|error| panic!("{what}: {error}"));
    let errors: Vec<String> = validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?} in {value:#}");
}

fn methods(entry: &Map<String, Value>) -> Vec<(Method, &Value)> {
    entry.iter().map(|(name, operation)| (name.to_uppercase().parse().unwrap(), operation)).collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_answers_as_it_says() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.body;
    assert_eq!(document, stepwell::server::document());
    let failed = server.run_in(RunState::Failed, json!({"name": "app/pay", "data": {"broken": true}})).await;
    server.run_in(RunState::BackingOff, json!({"name": "app/fail"})).await;
    server.run_in(RunState::Sleeping, json!({"name": "app/nap", "data": {"userId": "u1", "n": 1.5}, "user": {"a": 1}, "v": "2"})).await;
    let event = server.sent(json!({"name": "app/once", "id": "o1", "data": {"key": [1, "x"]}})).await.remove(0);
    let ids = Ids { run: failed, event };
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        assert!(document["paths"][path][method.to_lowercase()].is_object(), "{route} is not there");
    }
    let mut asked = 0;
    for (path, entry) in document["paths"].as_object().unwrap() {
        let entry = methods(entry.as_object().unwrap());
        let filled = ids.fill(path);
        for (method, operation) in &entry {
            let content = &operation["responses"]["200"]["content"];
            let request = server.request(method.clone(), &filled);
            let what = format!("{method} {path}");
            if content.get("text/event-stream").is_some() {
                let response = request.send().await.unwrap();
                assert_eq!(response.headers()["content-type"], "text/event-stream", "{what}");
                continue;
            }
            let request = match (method.as_str(), path.as_str()) {
                ("POST", "/e" | "/e/{key}") => request.bearer_auth("key").json(&json!([{"name": "app/ping", "data": {"a": 1}}])),
                ("POST", "/webhooks/{name}") => webhooks::signed_by_github(request, "ping", "{}"),
                ("POST", "/v1/replays" | "/v1/cancellations") => request.json(&json!({"function": "pay", "dry_run": true})),
                ("POST", "/v1/functions/{id}/invoke") => request.json(&json!({"data": {"a": 1}, "wait": "1m"})),
                ("POST", "/v1/runs/{id}/replay") => request.json(&json!({"from_step": "pack"})),
                ("POST", "/v1/signals") => request.json(&json!({"signal": "nobody"})),
                ("POST", _) => request.json(&json!({})),
                _ => request,
            };
            let answer = Answer::of(request).await;
            let schema = match answer.status {
                200 if content.get("text/plain").is_some() => continue,
                200 => &content["application/json"]["schema"],
                // A run that has failed is neither cancelled nor tried again at once, and nobody waits for the signal: a refusal has its
                // shape, too.
                status if status == 409 || (status == 404 && path == "/v1/signals") => {
                    assert!(operation["responses"].get(status.to_string()).is_some(), "{what}: {}", answer.text);
                    &document["components"]["responses"]["Error"]["content"]["application/json"]["schema"]
                }
                status => panic!("{what} answers {status}: {}", answer.text),
            };
            is_valid(&document, schema, &answer.body, &what);
            asked += 1;
        }
        // What is not in the document is not there.
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if !entry.iter().any(|(known, _)| *known == method) {
                let answer = Answer::of(server.request(method.clone(), &filled)).await;
                assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text);
            }
        }
    }
    assert!(asked >= 20, "{asked} routes were asked");
    let missing = server.get("/v1/nothing").await;
    missing.is_error(404);
    let schema = &document["components"]["responses"]["Error"]["content"]["application/json"]["schema"];
    is_valid(&document, schema, &missing.body, "an error");
    let refused = server.send(json!({"name": "app/order", "data": {}})).await;
    is_valid(&document, schema, &refused.body, "a refusal with details");
}

#[tokio::test]
async fn the_bodies_of_the_document_are_those_that_are_taken() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.body;
    let body = |path: &str| document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"].clone();
    let event = json!({"name": "app/ping", "data": {"a": 1}, "id": "1", "ts": 1_700_000_000_000_i64, "user": {"x": 1}, "v": "1"});
    for taken in [event.clone(), json!([event, {"name": "app/ping"}])] {
        is_valid(&document, &body("/e"), &taken, "events");
        assert_eq!(server.send(taken).await.status, 200);
    }
    is_valid(&document, &body("/v1/runs/{id}/replay"), &json!({"from_step": "a", "set": {"b": [1]}, "dry_run": true}), "a replay");
    let many = json!({"function": "pay", "status": ["failed"], "since": "2026-01-01T00:00:00Z", "if": "true", "dry_run": true});
    is_valid(&document, &body("/v1/replays"), &many, "replays");
    assert_eq!(Answer::of(server.request(Method::POST, "/v1/replays").json(&many)).await.status, 200);
}
