//! The project that comes with the engine: its events run through the whole engine, on a file, without secret or network.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stepwell::clock::{JumpingClock, SystemEntropy};
use stepwell::exec::{Engine, NewEvent, Notice, Setup};
use stepwell::project::{Mode, Project};
use stepwell::rules::{RunRow, RunState};
use stepwell::script::Host;
use stepwell::store::sqlite::{Options, Sqlite};
use stepwell::store::{RunQuery, Store};

/// Sends one event and gives the run it started, once that has ended, and the keys of its records.
fn run(name: &str, data: &Value) -> (RunRow, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("events.yaml");
    let (project, _) = Project::load(&config, &host, &|_| None, Mode::Run).unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("stepwell.db"), Options::default()).unwrap());
    let setup = Setup {
        project: Arc::new(project),
        host,
        store: Arc::clone(&store) as Arc<dyn Store>,
        clock: Arc::new(JumpingClock::default()),
        entropy: Arc::new(SystemEntropy),
        threads: 1,
    };
    let engine = Engine::start(setup).unwrap();
    let mut notices = engine.subscribe();
    let event = NewEvent { name: name.into(), data: data.to_string().into(), sender_id: None, dedupe: None, ts: None, extra: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let row = runtime.block_on(async {
        let id = engine.accept(vec![event]).await.unwrap()[0];
        while !matches!(notices.recv().await.unwrap(), Notice::Run { state, .. } if state.is_terminal()) {}
        let query = RunQuery { event: Some(id), limit: 1, ..RunQuery::default() };
        store.runs(&query).unwrap().remove(0)
    });
    let keys = store.journal(row.id).unwrap().records.iter().map(|record| record.key.to_string()).collect();
    runtime.block_on(engine.drain());
    (row, keys)
}

#[test]
fn a_payment_is_paid_in_three_steps() {
    let (row, keys) = run("payment/initiate", &json!({"userId": "user123", "amount": 1205, "currency": "EUR"}));
    assert_eq!(row.state, RunState::Completed, "{row:?}");
    assert_eq!(keys, ["open-payment", "charge", "write-receipt"]);
    let output: Value = serde_json::from_str(row.output.as_deref().unwrap()).unwrap();
    assert_eq!((&output["status"], &output["fee"], &output["receipt"]), (&json!("paid"), &json!(18), &json!("user123 paid 12.05 EUR")));
    assert_eq!(row.keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["\"user123\""]);
}

#[test]
fn a_payment_that_is_too_large_fails_without_a_retry() {
    let (row, keys) = run("payment/initiate", &json!({"userId": "user123", "amount": 1_000_001}));
    assert_eq!(row.state, RunState::Failed, "{row:?}");
    let error = row.error.unwrap();
    assert!(error.message.contains("the amount needs a person to look at it"), "{error:?}");
    assert_eq!(keys, ["open-payment", "charge"]);
}

#[test]
fn a_code_is_accepted_or_refused() {
    for (code, status) in [("123456", "accepted"), ("111111", "refused")] {
        let (row, keys) = run("otp/received", &json!({"userId": "user123", "code": code}));
        assert_eq!(row.output.as_deref(), Some(json!({"status": status}).to_string().as_str()), "{row:?}");
        assert_eq!(keys, ["check-code", "note-verdict"]);
    }
}
