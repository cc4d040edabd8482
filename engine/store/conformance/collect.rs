//! What a store is: runs that collect events before they start.

use std::sync::Arc;

use super::{KEEP, NOW, begun, commit, end, event, ids, plain, put, run, start};
use crate::base::{EventId, RunId, Span};
use crate::rules::gates::GateKeys;
use crate::rules::{Conflict, Expect, List, RunRow, RunState, Write};
use crate::store::{RunQuery, Store};

fn is_open(run: RunId) -> List {
    List { expect: vec![Expect::RunOpen(run)], writes: Vec::new() }
}

fn collecting() -> Option<Arc<GateKeys>> {
    Some(Arc::new(GateKeys { collect: Some(Arc::from("\"ü\"")), ..GateKeys::default() }))
}

fn retarget(run: RunId, event: EventId, seconds: i64) -> Write {
    let keys = Arc::from([Arc::from("1")]);
    Write::Retarget { run, event, enter: NOW.after(Span::seconds(seconds)), keys, priority_ms: 7, gates: collecting() }
}

pub(super) fn a_run_is_put_off_by_newer_events_until_it_begins(store: &dyn Store) {
    let ids = ids();
    let events = [0, 1, 2].map(|_| event(ids.next(NOW)));
    let row = RunRow { enter: NOW.after(Span::seconds(5)), gates: collecting(), ..run(ids.next(NOW), events[0].id) };
    put(store, events.iter().cloned().map(Write::InsertEvent).chain([Write::CreateRun(row.clone())]).collect());
    put(store, vec![retarget(row.id, events[2].id, 20)]);
    let moved = RunRow {
        rev: 1,
        event: events[2].id,
        enter: NOW.after(Span::seconds(20)),
        keys: Arc::from([Arc::from("1")]),
        priority_ms: 7,
        ..row.clone()
    };
    assert_eq!(store.run(row.id), Ok(Some(moved.clone())));
    put(store, vec![retarget(row.id, events[1].id, 90), retarget(row.id, events[2].id, 90)]);
    assert_eq!(store.run(row.id), Ok(Some(RunRow { rev: 3, ..moved })), "an older event changes nothing but the revision");
    let other = ids.next(NOW);
    let lists = vec![is_open(row.id), plain(vec![start(row.id)]), is_open(row.id), is_open(other)];
    let begun = |run| Err(Conflict::RunBegun(run));
    assert_eq!(commit(store, lists), Ok(vec![Ok(()), Ok(()), begun(row.id), begun(other)]));
    put(store, vec![Write::Requeue { run: row.id, suspects: 0 }]);
    assert_eq!(commit(store, vec![is_open(row.id)]), Ok(vec![begun(row.id)]), "it has begun before");
}

pub(super) fn a_batch_keeps_its_events_in_order(store: &dyn Store) {
    let row = begun(store);
    let ids = crate::base::IdMaker::above(row.id);
    let events = [0, 1, 2].map(|_| event(ids.next(NOW)));
    put(store, events.iter().cloned().map(Write::InsertEvent).collect());
    let add = |event: EventId, enter: Option<i64>| Write::AddEvent { run: row.id, event, enter: enter.map(|at| NOW.after(Span(at))) };
    put(store, vec![add(events[1].id, None), add(events[0].id, Some(3))]);
    assert_eq!(store.batch(row.id), Ok(vec![events[1].id, events[0].id]));
    assert_eq!(store.run(row.id).map(|run| run.map(|run| (run.rev, run.enter))), Ok(Some((0, NOW.after(Span(3))))));
    let of = |event: EventId| store.runs(&RunQuery { event: Some(event), ..RunQuery::default() }).map(|runs| runs.len());
    assert_eq!((of(row.event), of(events[0].id), of(events[2].id)), (Ok(1), Ok(1), Ok(0)));
    // Its events are kept while it is.
    let sweep = |at: Span| Write::Sweep { now: NOW.after(at), keep: KEEP, most: 99 };
    put(store, vec![end(row.id, RunState::Completed, NOW), add(events[2].id, None), sweep(Span::seconds(5))]);
    assert_eq!(store.batch(row.id).map(|batch| batch.len()), Ok(2), "nothing is added to a run that has ended");
    put(store, vec![sweep(Span::seconds(100)), sweep(Span::seconds(100))]);
    assert_eq!((store.batch(row.id), store.event(events[0].id)), (Ok(Vec::new()), Ok(None)));
}

pub(super) fn a_loaded_run_has_the_events_of_its_batch(store: &dyn Store) {
    let ids = ids();
    let events = [0, 1].map(|_| event(ids.next(NOW)));
    let row = RunRow { gates: collecting(), ..run(ids.next(NOW), events[0].id) };
    put(store, events.iter().cloned().map(Write::InsertEvent).chain([Write::CreateRun(row.clone())]).collect());
    put(store, vec![Write::AddEvent { run: row.id, event: events[1].id, enter: None }]);
    let loaded = store.load(&[row.id]).unwrap_or_default();
    assert_eq!(loaded.first().map(|loaded| (&loaded.event, loaded.batch.as_slice())), Some((&events[0], &events[1..])));
}
