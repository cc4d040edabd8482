//! `kv::*` in an engine with many runs at once, and over its end.

use std::collections::BTreeSet;

use stepwell::rules::RunState;
use stepwell::store::Store;

use super::{World, send_all};

const YAML: &str = "events: { a/b: {} }\nfunctions: { f: { on: a/b, retries: { attempts: 3, backoff: fixed, initial: 1m } } }\n";

fn count(world: &World, key: &str) -> Option<String> {
    world.store.value(key).unwrap().map(|row| row.value.to_string())
}

#[test]
fn runs_that_count_at_once_and_fail_in_between_get_each_number_once() {
    let script = r#"
        let n = step("number", || {
            let n = kv::incr("numbers");
            if run.attempt == 1 && event.data.i % 3 == 0 { throw "not yet"; }
            n
        });
        step("sum", || kv::update("sum", |old| (if old == () { 0 } else { old }) + event.data.i));
        n
    "#;
    let world = World::new(YAML, &[("f", script)]);
    let data: Vec<String> = (1..=60).map(|i| format!("{{\"i\":{i}}}")).collect();
    let ids = send_all(&world, "a/b", &data.iter().map(String::as_str).collect::<Vec<_>>());
    let numbers: BTreeSet<i64> = ids
        .iter()
        .map(|id| {
            let run = world.block_on(world.ended(*id));
            assert_eq!(run.state, RunState::Completed, "{run:?}");
            run.output.unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(numbers, (1..=60).collect());
    assert_eq!((count(&world, "numbers"), count(&world, "sum")), (Some("60".to_owned()), Some((60 * 61 / 2).to_string())));
}

#[test]
fn a_kill_takes_back_what_no_record_stands_for_and_nothing_else() {
    let script = r#"
        step("first", || kv::incr("n"));
        step("second", || {
            kv::incr("n");
            if event.data.spin { let i = 0; while i >= 0 { i += 1; if i > 1000 { i = 0; } } }
        });
        step("look", || kv::get("n"))
    "#;
    let world = World::new(YAML, &[("f", script)]);
    let spins = send_all(&world, "a/b", &[r#"{"spin":true}"#])[0];
    let run = world.block_on(world.until(spins, &[RunState::Running]));
    while world.store.journal(run.id).unwrap().records.is_empty() {
        std::thread::yield_now();
    }
    let world = world.killed();
    assert_eq!(count(&world, "n"), Some("1".to_owned()));
    let run = world.block_on(world.until(spins, &[RunState::Running]));
    world.block_on(world.engine.cancel(run.id, "seen")).unwrap();
    // The key is free again, and the count is what was recorded.
    let other = send_all(&world, "a/b", &[r#"{"spin":false}"#])[0];
    assert_eq!(world.block_on(world.ended(other)).output.as_deref(), Some("3"));
    let world = world.restart();
    assert_eq!(count(&world, "n"), Some("3".to_owned()));
}
