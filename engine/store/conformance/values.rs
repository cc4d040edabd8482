//! What scripts keep under keys of their own.

use std::sync::Arc;

use crate::base::{Millis, Span};
use crate::rules::{Conflict, Expect, KvRow, List, RunState, Write};
use crate::store::Store;

use super::{KEEP, NOW, begun, commit, put};

fn row(key: &str, value: &str, expires: Option<Millis>) -> KvRow {
    KvRow { key: Arc::from(key), value: Arc::from(value), expires }
}

fn sweep(now: Millis) -> Write {
    Write::Sweep { now, keep: KEEP, most: 100 }
}

pub(super) fn a_value_stands_under_its_key_until_it_is_replaced_dropped_or_swept(store: &dyn Store) {
    let (soon, late) = (NOW.after(Span(5)), NOW.after(Span(10)));
    let rows = [row("ü 'key'", "{\"n\":12345678901234567890}", None), row("b", "1", Some(soon)), row("c", "2", Some(late))];
    put(store, rows.iter().cloned().map(Write::PutValue).collect());
    for row in &rows {
        assert_eq!(store.value(&row.key), Ok(Some(row.clone())));
    }
    assert_eq!(store.value("B"), Ok(None));
    put(store, vec![Write::PutValue(row("c", "3", Some(soon))), Write::PutValue(row("c", "4", Some(late)))]);
    put(store, vec![sweep(soon)]);
    assert_eq!(store.value("b"), Ok(None), "its time is over");
    assert_eq!(store.value("c"), Ok(Some(row("c", "4", Some(late)))));
    put(store, vec![Write::DropValue(Arc::from("c")), Write::DropValue(Arc::from("nothing"))]);
    assert_eq!(store.value("c"), Ok(None));
    put(store, vec![sweep(NOW.after(Span::seconds(100_000_000)))]);
    assert_eq!(store.value(&rows[0].key), Ok(Some(rows[0].clone())), "it is kept for ever");
}

pub(super) fn a_value_is_stored_with_its_list_or_not_at_all(store: &dyn Store) {
    let run = begun(store);
    let list = |rev: u32, value: &str| List {
        expect: vec![Expect::RunRev { run: run.id, rev }],
        writes: vec![Write::PutValue(row("a", value, None))],
    };
    let verdicts = commit(store, vec![list(run.rev + 1, "1"), list(run.rev, "2"), list(run.rev + 7, "3")]);
    let moved = Err(Conflict::RunMoved { rev: run.rev, state: RunState::Queued });
    assert_eq!(verdicts, Ok(vec![moved.clone(), Ok(()), moved]));
    assert_eq!(store.value("a"), Ok(Some(row("a", "2", None))));
}
