//! The raw limit of accepting: an axum handler that parses the same body into the same shape, and does nothing else.

use std::io;
use std::net::SocketAddr;

use axum::Json;
use axum::routing::post;
use serde::Deserialize;

/// What is parsed: an event, its data as a tree since the engine needs it for the schema.
#[derive(Deserialize)]
struct Event {
    name: String,
    data: serde_json::Value,
}

#[derive(Deserialize)]
struct Many(Vec<Event>);

/// A server on a thread of its own with a free port; it lives as long as the process.
///
/// # Errors
/// Where no port can be opened.
pub fn serve(many: bool) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = axum::Router::new();
    let router = if many { router.route("/e/{key}", post(take_many)) } else { router.route("/e/{key}", post(take_one)) };
    std::thread::Builder::new().name("bare-axum".to_owned()).spawn(move || {
        runtime.block_on(async move {
            // A server that fails shows as a refused connection in the load.
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                let _ = axum::serve(listener, router).await;
            }
        });
    })?;
    Ok(address)
}

async fn take_one(Json(event): Json<Event>) -> Json<serde_json::Value> {
    answer(&[event])
}

async fn take_many(Json(Many(events)): Json<Many>) -> Json<serde_json::Value> {
    answer(&events)
}

/// An answer of the same size as the engine's, made from the parsed events so that parsing is not optimised away.
fn answer(events: &[Event]) -> Json<serde_json::Value> {
    let ids: Vec<String> =
        events.iter().map(|event| format!("{:013}", event.name.len() + event.data.as_object().map_or(0, |data| data.len()))).collect();
    Json(serde_json::json!({ "ids": ids, "status": 200 }))
}
