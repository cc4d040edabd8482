//! Rows of gates that count.

use std::sync::Arc;

use super::super::Store;
use super::{KEEP, NOW, commit, event, ids, put, reads_back, run};
use crate::base::{Id, Millis, Span};
use crate::rules::{Conflict, Expect, Gate, GateKeys, List, RunRow, WindowKey, WindowRow, Write};

fn row(gate: Gate, key: &str, entry: i64, value: i64, expires: Millis) -> WindowRow {
    WindowRow { window: WindowKey { function: "charge".into(), gate, key: key.into() }, entry: Id(entry), value, expires }
}

fn all(store: &dyn Store) -> Vec<WindowRow> {
    let mut rows = Vec::new();
    assert_eq!(store.all_windows(&mut |row| rows.push(row)), Ok(()));
    rows.sort_by(|a, b| (&a.window, a.entry).cmp(&(&b.window, b.entry)));
    rows
}

pub(super) fn what_a_gate_has_counted_is_kept_until_it_expires(store: &dyn Store) {
    let later = NOW.after(Span::seconds(60));
    let rows = [
        row(Gate::RateLimit, "\"a\"", 1, NOW.0, NOW),
        row(Gate::RateLimit, "\"a\"", 2, NOW.0 + 1, later),
        row(Gate::RateLimit, "null", 2, NOW.0 + 1, later),
        row(Gate::Throttle, "\"a\"", 0, i64::MAX, later),
    ];
    put(store, rows.iter().cloned().map(Write::PutWindow).collect());
    assert_eq!(all(store), rows);
    put(store, vec![Write::Sweep { now: NOW, keep: KEEP, most: 100 }]);
    assert_eq!(all(store), rows[1..]);
    put(store, vec![Write::Sweep { now: later, keep: KEEP, most: 100 }]);
    assert_eq!(all(store), []);
}

pub(super) fn a_row_takes_the_place_of_the_one_before_it(store: &dyn Store) {
    let first = row(Gate::Throttle, "1", 0, 5, NOW);
    let second = WindowRow { value: 6, expires: NOW.after(Span::seconds(1)), ..first.clone() };
    put(store, vec![Write::PutWindow(first), Write::PutWindow(second.clone())]);
    assert_eq!(all(store), std::slice::from_ref(&second));
    // One that is written late does not take it back.
    put(store, vec![Write::RaiseWindow(WindowRow { value: 5, expires: NOW, ..second.clone() })]);
    assert_eq!(all(store), std::slice::from_ref(&second));
    let second = WindowRow { value: 7, expires: NOW.after(Span::seconds(2)), ..second };
    put(store, vec![Write::RaiseWindow(second.clone())]);
    assert_eq!(all(store), std::slice::from_ref(&second));
    // Nothing of a list that is skipped is counted.
    let expect = vec![Expect::RunRev { run: Id(404), rev: 0 }];
    let skipped = List { expect, writes: vec![Write::PutWindow(WindowRow { value: 7, ..second.clone() })] };
    assert_eq!(commit(store, vec![skipped]), Ok(vec![Err(Conflict::RunGone)]));
    assert_eq!(all(store), [second]);
}

pub(super) fn a_run_keeps_the_keys_of_its_gates(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let keys = GateKeys { singleton: Some("\"s\"".into()), throttle: Some("null".into()), collect: Some("1".into()) };
    let kept = RunRow { gates: Some(Arc::new(keys)), ..run(ids.next(NOW), event.id) };
    put(store, vec![Write::InsertEvent(event), Write::CreateRun(kept.clone())]);
    reads_back(store, &kept);
}
