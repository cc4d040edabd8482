//! A wait that looks back over many events.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use stepwell::base::{Id, Millis};
use stepwell::rules::Write;

use super::*;

/// Reads after which a look back that nobody else had a turn in gives up.
const READS_MOST: usize = 20_000;

const WATCHED: &str = "
version: 1
events: { app/watch: {}, app/past: {}, app/ping: {} }
functions: { watch: { on: app/watch }, ping: { on: app/ping } }
";

/// So many events as are asked for, of which none is meant; then the one that is, and another one that would be.
fn past(query: &EventQuery, is_over: bool) -> Vec<EventRow> {
    let from = query.from.map_or(0, |from| from.0);
    let row = |at: i64, data: &str| EventRow {
        id: Id(from + at),
        name: query.name.clone().unwrap(),
        data: data.into(),
        sender_id: None,
        ts: Millis(0),
        accepted: Millis(0),
        extra: None,
    };
    if is_over {
        let found = [r#"{"user":"bob","n":1}"#, r#"{"n":2}"#, r#"{"user":"ad\u0061","n":3}"#, r#"{"user":"ada","n":4}"#];
        return found.iter().enumerate().map(|(at, data)| row(at as i64, data)).collect();
    }
    (0..query.limit as i64).map(|at| row(at, r#"{"user":"eve","note":"of ada"}"#)).collect()
}

#[tokio::test]
async fn others_go_on_while_a_wait_looks_back_over_many_events() {
    let disk = Disk::new(Ingest::Open);
    let (store, reads, begun) = (Arc::clone(&disk), AtomicUsize::new(0), watch::Sender::new(false));
    let mut has_begun = begun.subscribe();
    *disk.past.lock().unwrap() = Some(Box::new(move |query| {
        begun.send_replace(true);
        let completed = RunQuery { states: vec![RunState::Completed], ..RunQuery::default() };
        let is_over = !store.memory.runs(&completed)?.is_empty();
        assert!(is_over || reads.fetch_add(1, Ordering::SeqCst) < READS_MOST, "nobody else had a turn");
        let events = past(query, is_over);
        if is_over {
            let writes = events.iter().cloned().map(Write::InsertEvent).collect();
            store.memory.apply(vec![List { expect: Vec::new(), writes }])?;
        }
        Ok(events)
    }));
    let server = Server::of(WATCHED, disk.clone(), |options| options.any_key = true).await;
    let mut notices = server.engine.subscribe();
    server.sent(json!({"name": "app/watch", "data": {"user": "ada"}})).await;
    has_begun.wait_for(|begun| *begun).await.unwrap();
    server.run_in(RunState::Completed, json!({"name": "app/ping", "data": {}})).await;
    let watch = disk.memory.runs(&RunQuery { function: Some("watch".into()), ..RunQuery::default() }).unwrap().remove(0);
    if !watch.state.is_terminal() {
        until(&mut notices, watch.id, RunState::Completed).await;
    }
    let output = disk.memory.run(watch.id).unwrap().unwrap().output;
    assert_eq!(output.as_deref(), Some("3"), "the first that fits, however it is written");
}
