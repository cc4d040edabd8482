//! The project that comes with the engine: its events run through the whole engine, on a file, without secret or network.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stepwell::base::Span;
use stepwell::clock::{SystemEntropy, VirtualClock};
use stepwell::exec::{Engine, NewEvent, Notice, Setup};
use stepwell::project::{Mode, Project};
use stepwell::rules::{RunRow, RunState};
use stepwell::script::Host;
use stepwell::store::sqlite::{Options, Sqlite};
use stepwell::store::{EventQuery, RunQuery, Store};

/// Starts a payment, and types in a code five minutes later if there is one; the run once it has ended, the keys of its
/// records, and the events that are stored.
fn run(data: &Value, code: Option<&str>) -> (RunRow, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("events.yaml");
    let (project, _) = Project::load(&config, &host, &|_| None, Mode::Run).unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("stepwell.db"), Options::default()).unwrap());
    let setup = Setup {
        project: Arc::new(project),
        host,
        store: Arc::clone(&store) as Arc<dyn Store>,
        clock: Arc::new(VirtualClock::running()),
        entropy: Arc::new(SystemEntropy),
        threads: 1,
    };
    let engine = Engine::start(setup).unwrap();
    let mut notices = engine.subscribe();
    let event = |name: &str, data: &Value| NewEvent {
        name: name.into(),
        data: data.to_string().into(),
        sender_id: None,
        dedupe: None,
        ts: None,
        extra: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let row = runtime.block_on(async {
        let busy = engine.busy();
        let later = code.map(|_| engine.at(engine.clock().now().after(Span::seconds(300))));
        let id = engine.accept(vec![event("payment/initiate", data)]).await.unwrap()[0];
        drop(busy);
        if let (Some(code), Some(later)) = (code, later) {
            let _busy = later.await.unwrap();
            engine.accept(vec![event("otp/received", &json!({"userId": "somebody", "code": code}))]).await.unwrap();
            engine.accept(vec![event("otp/received", &json!({"userId": data["userId"], "code": code}))]).await.unwrap();
        }
        while !matches!(notices.recv().await.unwrap(), Notice::Run { state, .. } if state.is_terminal()) {}
        let query = RunQuery { event: Some(id), limit: 1, ..RunQuery::default() };
        store.runs(&query).unwrap().remove(0)
    });
    let keys = store.journal(row.id).unwrap().records.iter().map(|record| record.key.to_string()).collect();
    let events = store.events(&EventQuery { oldest_first: true, ..EventQuery::default() }).unwrap();
    runtime.block_on(engine.drain());
    (row, keys, events.iter().map(|event| event.name.to_string()).collect())
}

#[test]
fn a_payment_is_settled_when_the_code_of_its_user_comes() {
    let (row, keys, _) = run(&json!({"userId": "user123", "amount": 1205, "currency": "EUR"}), Some("123456"));
    assert_eq!(row.state, RunState::Completed, "{row:?}");
    assert_eq!(keys, ["charge", "otp/received", "settle"]);
    let took = row.ended.unwrap().since(row.started.unwrap());
    assert!(took >= Span::seconds(290) && took < Span::seconds(360), "{took}");
    let output: Value = serde_json::from_str(row.output.as_deref().unwrap()).unwrap();
    assert_eq!((&output["status"], &output["fee"], &output["receipt"]), (&json!("paid"), &json!(18), &json!("user123 paid 12.05 EUR")));
    assert_eq!(row.keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["\"user123\""]);
}

#[test]
fn a_payment_that_is_too_large_fails_without_a_retry() {
    let (row, keys, _) = run(&json!({"userId": "user123", "amount": 1_000_001}), None);
    assert_eq!(row.state, RunState::Failed, "{row:?}");
    let error = row.error.unwrap();
    assert!(error.message.contains("the amount needs a person to look at it"), "{error:?}");
    assert_eq!(keys, ["charge"]);
}

#[test]
fn a_payment_without_a_code_expires_and_says_so() {
    let (row, keys, events) = run(&json!({"userId": "user123", "amount": 1200}), None);
    assert_eq!(row.state, RunState::Completed, "{row:?}");
    assert_eq!(keys, ["charge", "otp/received", "release", "payment/expired"]);
    assert!(row.output.unwrap().contains("\"status\":\"expired\""));
    assert_eq!(events, ["payment/initiate", "payment/expired"]);
    assert!(row.ended.unwrap().since(row.started.unwrap()) >= Span::seconds(600));
}
