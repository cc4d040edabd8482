//! The routes, each declared once: the router and the OpenAPI document are both made from this table.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::view::{
    Accepted, ChannelTokenBody, ChannelTokenView, ChannelView, ConfigView, Delivered, ErrorView, EventInput, EventView, EventsInput,
    ExplainView, FunctionView, HealthView, InvokeBody, InvokedView, LogView, ManyBody, ManyView, MigrateBody, MigratedView, NoticeView,
    One, Page, PlanView, ReloadView, ReplayBody, ReplayView, RunView, SignalBody, SignalView, SignalledView, Trace,
};
use super::{App, again, channels, events, functions, health, metrics, reload, runs, signals, stream, webhooks};

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// An event key.
    EventKey,
    /// The signature of a webhook.
    Signature,
    /// A token that may read, or the admin token.
    Read,
    /// The same, or a token of the channel.
    Listen,
    /// The admin token.
    Admin,
}

/// A body, or an answer.
#[derive(Clone, Copy)]
enum Shape {
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A body that may be left out.
    Optional(fn(&mut SchemaGenerator) -> Schema),
    Stream(fn(&mut SchemaGenerator) -> Schema),
    Text,
    /// Any JSON.
    Any,
}

fn json_of<T: JsonSchema>() -> Shape {
    Shape::Json(|generator| generator.subschema_for::<T>())
}

/// One thing that a caller can do.
struct Route {
    method: Method,
    /// As the router reads it.
    path: &'static str,
    summary: &'static str,
    needs: Needs,
    /// Parameters behind the `?`, and what they are.
    query: &'static [(&'static str, &'static str)],
    body: Option<Shape>,
    answer: Shape,
    /// Statuses of refusals beside those that every route has.
    refusals: &'static [u16],
    serve: fn() -> MethodRouter<Arc<App>>,
}

impl Route {
    fn get(path: &'static str, summary: &'static str, answer: Shape, serve: fn() -> MethodRouter<Arc<App>>) -> Route {
        Route { method: Method::GET, path, summary, needs: Needs::Read, query: &[], body: None, answer, refusals: &[], serve }
    }

    fn post(path: &'static str, summary: &'static str, body: Shape, answer: Shape, serve: fn() -> MethodRouter<Arc<App>>) -> Route {
        let refusals = &[408, 409, 413, 415, 503, 507];
        Route { method: Method::POST, path, summary, needs: Needs::Admin, query: &[], body: Some(body), answer, refusals, serve }
    }

    fn query(self, query: &'static [(&'static str, &'static str)]) -> Route {
        Route { query, ..self }
    }

    fn needs(self, needs: Needs) -> Route {
        Route { needs, ..self }
    }

    fn refuses(self, refusals: &'static [u16]) -> Route {
        Route { refusals, ..self }
    }
}

const LIMIT: (&str, &str) = ("limit", "the most entries, from 1 to 1,000; 50 without it");
const CURSOR: (&str, &str) = ("cursor", "where the page before ended");
const PREFIX: (&str, &str) = ("prefix", "ids that begin so");

/// Every route, in the order of the document.
fn table() -> Vec<Route> {
    let events: Shape = json_of::<EventsInput>();
    let many = json_of::<ManyBody>();
    vec![
        Route::post("/e/{key}", "Send events; answered once they are durable", events, json_of::<Accepted>(), || post(events::post_key))
            .needs(Needs::EventKey)
            .refuses(&[408, 413, 415, 429, 503, 507]),
        Route::post("/e", "Send events with the key as bearer token", events, json_of::<Accepted>(), || post(events::post_bearer))
            .needs(Needs::EventKey)
            .refuses(&[408, 413, 415, 429, 503, 507]),
        Route::post(
            "/webhooks/{name}",
            "Take a signed request, which becomes an event; answered once it is durable",
            Shape::Any,
            json_of::<Delivered>(),
            || post(webhooks::take),
        )
        .needs(Needs::Signature)
        .refuses(&[408, 413, 415, 429, 503, 507]),
        Route::get("/v1/events", "Events, newest first", json_of::<Page<EventView>>(), || get(events::list)).query(&[
            ("name", "of this name, or of a family such as `stripe/*`"),
            ("received_after", "accepted after this time, or so long ago"),
            ("where", "CEL over `event`"),
            PREFIX,
            LIMIT,
            CURSOR,
        ]),
        Route::get("/v1/events/{id}", "One event", json_of::<One<EventView>>(), || get(events::get)),
        Route::get("/v1/events/{id}/runs", "The runs that an event started, newest first", json_of::<Page<RunView>>(), || {
            get(events::runs)
        })
        .query(&[LIMIT, CURSOR]),
        Route::get("/v1/events/{id}/explain", "What became of an event, and why", json_of::<One<ExplainView>>(), || get(events::explain)),
        Route::get("/v1/runs", "Runs, newest first", json_of::<Page<RunView>>(), || get(runs::list)).query(&[
            ("status", "states or statuses, with commas between them"),
            ("function", "of this function"),
            ("key", "with this concurrency key"),
            ("event", "started by this event"),
            ("replay_of", "that repeat this run"),
            ("since", "created then or later, or so long ago"),
            ("until", "created before then"),
            ("where", "CEL over `run`, as it is shown here, and `event`"),
            PREFIX,
            LIMIT,
            CURSOR,
        ]),
        Route::get("/v1/runs/{id}", "One run", json_of::<One<RunView>>(), || get(runs::get)),
        Route {
            method: Method::DELETE,
            needs: Needs::Admin,
            ..Route::get("/v1/runs/{id}", "Cancel a run", json_of::<One<RunView>>(), || delete(runs::cancel))
                .query(&[("reason", "why")])
                .refuses(&[409, 503, 507])
        },
        Route::get("/v1/runs/{id}/trace", "A run with its steps and attempts", json_of::<One<Trace>>(), || get(runs::trace)),
        Route::get("/v1/runs/{id}/logs", "A run's log, oldest first", json_of::<Page<LogView>>(), || get(runs::logs))
            .query(&[LIMIT, CURSOR]),
        Route::post(
            "/v1/runs/{id}/replay",
            "Do a run again, as a new one; its effects happen again",
            Shape::Optional(|generator| generator.subschema_for::<ReplayBody>()),
            json_of::<One<ReplayView>>(),
            || post(again::replay),
        ),
        Route {
            body: None,
            ..Route::post(
                "/v1/runs/{id}/retry-now",
                "Have a run that backs off, or is parked, go on",
                Shape::Any,
                json_of::<One<RunView>>(),
                || post(again::retry_now),
            )
        },
        Route::post(
            "/v1/runs/{id}/migrate",
            "Take a run to the newest handler, if that fits its record",
            Shape::Optional(|generator| generator.subschema_for::<MigrateBody>()),
            json_of::<One<MigratedView>>(),
            || post(again::migrate),
        ),
        Route::post("/v1/replays", "Do many runs again", many, json_of::<One<ManyView>>(), || post(again::replays)),
        Route::post("/v1/cancellations", "Cancel many runs", many, json_of::<One<ManyView>>(), || post(again::cancellations)),
        Route::get("/v1/functions", "The functions with their options in force", json_of::<Page<FunctionView>>(), || get(functions::list)),
        Route {
            body: None,
            ..Route::post(
                "/v1/functions/{id}/pause",
                "Pause a function: what has begun goes on, what has not waits",
                Shape::Any,
                json_of::<One<FunctionView>>(),
                || post(functions::pause),
            )
        },
        Route {
            body: None,
            ..Route::post("/v1/functions/{id}/resume", "Let a paused function go on", Shape::Any, json_of::<One<FunctionView>>(), || {
                post(functions::resume)
            })
        },
        Route::get("/v1/config", "Every option in force, with where it comes from", json_of::<One<ConfigView>>(), || {
            get(functions::config)
        }),
        Route::get("/v1/plan", "What a reload would change, and for how many runs in flight", json_of::<One<PlanView>>(), || {
            get(reload::plan)
        })
        .refuses(&[409, 422]),
        Route {
            body: None,
            ..Route::post(
                "/v1/reload",
                "Put the config in force as its files are now, if nothing of it is broken",
                Shape::Any,
                json_of::<One<ReloadView>>(),
                || post(reload::reload),
            )
            .refuses(&[409, 422, 503, 507])
        },
        Route::post(
            "/v1/functions/{id}/invoke",
            "Start a run of a function without an event of its own",
            Shape::Optional(|generator| generator.subschema_for::<InvokeBody>()),
            json_of::<One<InvokedView>>(),
            || post(functions::invoke),
        ),
        Route::post(
            "/v1/signals",
            "Send a signal by its name in the body, as Inngest's SDKs do; 404 where no run waits for it",
            json_of::<SignalBody>(),
            json_of::<One<SignalledView>>(),
            || post(signals::send_named),
        )
        .refuses(&[404, 408, 413, 415, 503, 507]),
        Route::post(
            "/v1/signals/{*name}",
            "Send a signal to the runs that wait for it; the body is its data",
            Shape::Any,
            json_of::<One<SignalView>>(),
            || post(signals::send),
        ),
        Route::get(
            "/v1/stream",
            "What happens, as server-sent events",
            Shape::Stream(|generator| generator.subschema_for::<NoticeView>()),
            || get(stream::stream),
        )
        .query(&[("run", "only of these runs")])
        .refuses(&[429]),
        Route::get(
            "/v1/channels/{name}",
            "What handlers publish to a channel from now on, as server-sent events",
            Shape::Stream(|generator| generator.subschema_for::<ChannelView>()),
            || get(channels::listen),
        )
        .needs(Needs::Listen)
        .query(&[("topic", "only with this topic; may stand several times")])
        .refuses(&[429]),
        Route::post(
            "/v1/channels/{name}/token",
            "Make a token that listens to one channel, for a browser",
            Shape::Optional(|generator| generator.subschema_for::<ChannelTokenBody>()),
            json_of::<One<ChannelTokenView>>(),
            || post(channels::token),
        )
        .refuses(&[408, 413, 415]),
        Route::get("/health", "Whether the engine is well", json_of::<HealthView>(), || get(health::health)).needs(Needs::Nothing),
        Route::get("/ready", "Whether events are taken", json_of::<HealthView>(), || get(health::ready))
            .needs(Needs::Nothing)
            .refuses(&[503]),
        Route::get("/metrics", "Figures for Prometheus", Shape::Text, || get(metrics::metrics)),
        Route::get("/openapi.json", "This document", Shape::Any, || get(openapi)).needs(Needs::Nothing),
        Route::get("/", "What there is, in a few lines", Shape::Text, || get(health::index)).needs(Needs::Nothing),
    ]
}

/// The router of all routes; without the one at the root, where pages have that.
pub(super) fn router(has_pages: bool) -> Router<Arc<App>> {
    let routes = table().into_iter().filter(|route| !has_pages || route.path != "/");
    routes.fold(Router::new(), |router, route| router.route(route.path, (route.serve)()))
}

/// `GET /openapi.json`
pub(super) async fn openapi() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// The OpenAPI document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in table() {
        let path = route.path.replace("{*", "{");
        let operation = operation(&route, &path, &mut generator);
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(route.method.as_str().to_lowercase(), operation);
        }
    }
    let error = generator.subschema_for::<ErrorView>();
    let mut responses = Map::new();
    responses
        .insert("Error".to_owned(), json!({ "description": "It was refused", "content": { "application/json": { "schema": error } } }));
    // One event may be named on its own, too.
    generator.subschema_for::<EventInput>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "stepwell",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A durable event engine: send events, look at runs, do them again.",
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": responses,
            "securitySchemes": {
                "eventKey": { "type": "http", "scheme": "bearer", "description": "One of STEPWELL_EVENT_KEYS; or in the path of `/e/{key}`" },
                "readToken": { "type": "http", "scheme": "bearer", "description": "STEPWELL_READ_TOKEN" },
                "adminToken": { "type": "http", "scheme": "bearer", "description": "STEPWELL_ADMIN_TOKEN" },
                "channelToken": { "type": "apiKey", "in": "query", "name": "token", "description": "What `POST /v1/channels/{name}/token` makes" },
            },
        },
    })
}

fn operation(route: &Route, path: &str, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    parameters.extend(
        route.query.iter().map(|(name, what)| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "string" } })),
    );
    let mut responses = Map::new();
    let content = match route.answer {
        Shape::Json(make) | Shape::Optional(make) => json!({ "application/json": { "schema": make(generator) } }),
        Shape::Stream(make) => json!({ "text/event-stream": { "schema": make(generator) } }),
        Shape::Text => json!({ "text/plain": { "schema": { "type": "string" } } }),
        Shape::Any => json!({ "application/json": { "schema": true } }),
    };
    responses.insert("200".to_owned(), json!({ "description": "Done", "content": content.clone() }));
    let refusal = json!({ "$ref": "#/components/responses/Error" });
    let tokens: &[u16] = match route.needs {
        Needs::Nothing => &[],
        Needs::Signature => &[401],
        Needs::EventKey | Needs::Read | Needs::Listen | Needs::Admin => &[401, 403],
    };
    let missing: &[u16] = if path.contains('{') && route.needs != Needs::EventKey { &[404] } else { &[] };
    let bad: &[u16] = if route.needs == Needs::Nothing { &[] } else { &[400] };
    let mut statuses: Vec<u16> = [bad, tokens, missing, &[421], route.refusals].concat();
    statuses.sort_unstable();
    responses.extend(statuses.into_iter().map(|status| (status.to_string(), refusal.clone())));
    if route.needs == Needs::Signature {
        responses.insert("202".to_owned(), json!({ "description": "It is signed, and makes no event", "content": content }));
    }
    let security = match route.needs {
        Needs::Nothing | Needs::Signature => json!([]),
        Needs::EventKey => json!([{ "eventKey": [] }, { "adminToken": [] }]),
        Needs::Read => json!([{ "readToken": [] }, { "adminToken": [] }]),
        Needs::Listen => json!([{ "readToken": [] }, { "adminToken": [] }, { "channelToken": [] }]),
        Needs::Admin => json!([{ "adminToken": [] }]),
    };
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(&route.method, path),
        "parameters": parameters,
        "responses": responses,
        "security": security,
    });
    let body = route.body.map(|body| match body {
        Shape::Json(make) => json!({ "required": true, "content": { "application/json": { "schema": make(generator) } } }),
        Shape::Optional(make) => json!({ "required": false, "content": { "application/json": { "schema": make(generator) } } }),
        Shape::Stream(_) | Shape::Text | Shape::Any => json!({ "required": false, "content": { "application/json": { "schema": true } } }),
    });
    if let (Some(body), Some(operation)) = (body, operation.as_object_mut()) {
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

/// A name for the operation that clients may be generated with: `get_v1_runs_id`.
fn operation_id(method: &Method, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method.as_str().to_lowercase()).chain(words.map(str::to_owned)).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere_and_every_operation_has_its_own_name() {
        let document = document();
        let mut ids = std::collections::HashSet::new();
        let mut operations = 0;
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                operations += 1;
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            }
        }
        assert_eq!(operations, table().len());
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
