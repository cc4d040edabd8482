//! What a store is: waits.

use std::sync::Arc;

use super::{KEEP, NOW, begun, commit, end, event, failure, ids, plain, put, run, suspended};
use crate::base::{EventId, Id, Millis, RunId, Span};
use crate::rules::waits::resolve;
use crate::rules::{
    Conflict, EventRow, Expect, Kind, List, Pinned, Resolution, RunRow, RunState, WaitKey, WaitRow, WaitState, Wanted, What, Write,
};
use crate::store::{EventQuery, Store};

/// A wait that has just been opened.
pub fn wait(run: RunId, kind: Kind, key: &str) -> WaitRow {
    let wanted = |condition: Option<&str>| Wanted {
        event: Arc::from("otp/received"),
        condition: condition.map(Arc::from),
        bound: condition.map(|_| Arc::from(r#"{"data":{"userId":"ü\u{1F600}"}}"#)),
    };
    WaitRow {
        wait: WaitKey { run, kind, key: Arc::from(key) },
        what: Arc::new(What::Events(vec![wanted(Some("async.data.userId == event.data.userId")), wanted(None)])),
        opened: NOW,
        until: Some(NOW.after(Span::seconds(60))),
        state: WaitState::Open,
        pin: None,
    }
}

/// What a wait is found by.
pub fn pin(field: &str, value: i64) -> Pinned {
    Pinned { field: Arc::from(field), value }
}

fn in_state(row: &WaitRow, state: WaitState) -> WaitRow {
    WaitRow { state, pin: None, ..row.clone() }
}

fn is_open(wait: &WaitKey, event: Option<EventId>) -> List {
    List { expect: vec![Expect::WaitOpen { wait: wait.clone(), event }], writes: Vec::new() }
}

pub(super) fn a_wait_is_resolved_once_and_stays_until_it_is_dropped(store: &dyn Store) {
    let row = begun(store);
    let resolutions = [
        (Kind::Wait, Resolution::Event(row.event)),
        (Kind::Wait, Resolution::Value(Arc::from(r#"{"ü":[1.50]}"#))),
        (Kind::Invoke, Resolution::Failed(failure("the other run failed"))),
        (Kind::Invoke, Resolution::TimedOut),
    ];
    let mut waits: Vec<WaitRow> = Vec::new();
    for (at, (kind, _)) in resolutions.iter().enumerate() {
        let opened = match at {
            0 => wait(row.id, *kind, "mail › x#2"),
            1 => WaitRow { what: Arc::new(What::Signal(Arc::from("go"))), until: None, ..wait(row.id, *kind, "go") },
            _ => WaitRow { what: Arc::new(What::Run(Id(77))), ..wait(row.id, *kind, if at == 2 { "go" } else { "other" }) },
        };
        put(store, vec![Write::OpenWait(opened.clone())]);
        waits.push(opened);
    }
    assert_eq!(store.waits(row.id), Ok(waits.clone()));
    for (at, (_, with)) in resolutions.iter().enumerate() {
        let key = waits[at].wait.clone();
        assert_eq!(commit(store, vec![resolve(&key, with.clone())]), Ok(vec![Ok(())]));
        waits[at] = in_state(&waits[at], WaitState::Resolved(with.clone()));
        assert_eq!(commit(store, vec![resolve(&key, Resolution::TimedOut)]), Ok(vec![Err(Conflict::WaitClosed)]), "it is resolved");
        put(store, vec![Write::ResolveWait { wait: key, with: Resolution::Value(Arc::from("2")) }]);
        assert_eq!(store.waits(row.id), Ok(waits.clone()));
    }
    for wait in &mut waits {
        let key = wait.wait.clone();
        put(store, vec![Write::RecordWait(key.clone())]);
        *wait = in_state(wait, WaitState::Recorded(wait.event()));
        assert_eq!(commit(store, vec![is_open(&key, None)]), Ok(vec![Err(Conflict::WaitClosed)]), "it is recorded");
    }
    assert_eq!(store.waits(row.id), Ok(waits.clone()));
    let mut all = Vec::new();
    assert_eq!(store.all_waits(&mut |row| all.push(row)), Ok(()));
    assert_eq!(all, waits);
    put(store, vec![Write::DropWaits(row.id)]);
    assert_eq!(store.waits(row.id), Ok(Vec::new()));
    assert_eq!(commit(store, vec![is_open(&waits[0].wait, None)]), Ok(vec![Err(Conflict::WaitClosed)]), "it is gone");
}

pub(super) fn a_wait_that_is_given_up_is_gone_unless_it_is_recorded(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let run = run(ids.next(NOW), event.id);
    put(store, vec![Write::InsertEvent(event.clone()), Write::CreateRun(run.clone())]);
    let waits: Vec<WaitRow> = ["open", "resolved", "recorded"].iter().map(|key| wait(run.id, Kind::Wait, key)).collect();
    put(store, waits.iter().cloned().map(Write::OpenWait).collect());
    assert_eq!(commit(store, vec![resolve(&waits[1].wait, Resolution::Event(event.id))]), Ok(vec![Ok(())]));
    put(
        store,
        vec![Write::ResolveWait { wait: waits[2].wait.clone(), with: Resolution::TimedOut }, Write::RecordWait(waits[2].wait.clone())],
    );
    let beside = wait(run.id, Kind::Invoke, "open");
    put(store, vec![Write::OpenWait(beside.clone())]);
    put(store, waits.iter().map(|row| Write::DropWait(row.wait.clone())).collect());
    assert_eq!(store.waits(run.id), Ok(vec![in_state(&waits[2], WaitState::Recorded(None)), beside.clone()]));
    assert_eq!(commit(store, vec![is_open(&waits[0].wait, None)]), Ok(vec![Err(Conflict::WaitClosed)]), "nothing resolves it any more");
    let again = wait(run.id, Kind::Wait, "again");
    put(store, vec![Write::OpenWait(again.clone())]);
    assert_eq!(commit(store, vec![resolve(&again.wait, Resolution::Event(event.id))]), Ok(vec![Ok(())]), "nobody has had the event");
    put(store, vec![end(run.id, RunState::Cancelled, NOW), Write::DropWait(beside.wait.clone())]);
    assert!(store.waits(run.id).is_ok_and(|rows| rows.contains(&beside)), "of a run that has ended nothing is written");
}

pub(super) fn an_event_resolves_one_wait_of_a_run(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let runs: Vec<RunRow> = (0..2).map(|_| run(ids.next(NOW), event.id)).collect();
    put(store, vec![Write::InsertEvent(event.clone()), Write::CreateRun(runs[0].clone()), Write::CreateRun(runs[1].clone())]);
    let open = |run: RunId, key: &str| wait(run, Kind::Wait, key);
    let waits = [open(runs[0].id, "a"), open(runs[0].id, "b"), open(runs[1].id, "a")];
    put(store, waits.iter().cloned().map(Write::OpenWait).collect());
    let had = |at: usize, event| resolve(&waits[at].wait, Resolution::Event(event));
    let gone = ids.next(NOW);
    assert_eq!(commit(store, vec![had(0, gone)]), Ok(vec![Err(Conflict::WaitClosed)]), "an event that is not stored resolves nothing");
    let lists = vec![had(0, event.id), had(1, event.id), had(2, event.id)];
    assert_eq!(commit(store, lists), Ok(vec![Ok(()), Err(Conflict::WaitClosed), Ok(())]), "another run may have it too");
    put(store, vec![Write::RecordWait(waits[0].wait.clone())]);
    assert_eq!(commit(store, vec![had(1, event.id)]), Ok(vec![Err(Conflict::WaitClosed)]), "once recorded it has been had, too");
    assert_eq!(commit(store, vec![is_open(&waits[1].wait, None)]), Ok(vec![Ok(())]));
}

pub(super) fn the_waits_that_an_event_has_ended_are_found_by_it(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let runs: Vec<RunRow> = (0..3).map(|_| run(ids.next(NOW), event.id)).collect();
    put(store, vec![Write::InsertEvent(event.clone())]);
    put(store, runs.iter().cloned().map(Write::CreateRun).collect());
    let waits: Vec<WaitRow> = runs.iter().map(|run| wait(run.id, Kind::Wait, "a")).collect();
    put(store, waits.iter().rev().cloned().map(Write::OpenWait).collect());
    assert_eq!(store.waits_ended_by(event.id, 0), Ok(Vec::new()), "all of them are open");
    for wait in &waits[..2] {
        assert_eq!(commit(store, vec![resolve(&wait.wait, Resolution::Event(event.id))]), Ok(vec![Ok(())]));
    }
    put(store, vec![Write::RecordWait(waits[0].wait.clone())]);
    let recorded = in_state(&waits[0], WaitState::Recorded(Some(event.id)));
    let resolved = in_state(&waits[1], WaitState::Resolved(Resolution::Event(event.id)));
    assert_eq!(store.waits_ended_by(event.id, 0), Ok(vec![recorded.clone(), resolved.clone()]));
    assert_eq!(store.waits_ended_by(event.id, 1), Ok(vec![recorded]));
    assert_eq!(store.waits_ended_by(ids.next(NOW), 0), Ok(Vec::new()), "another event");
    put(store, vec![Write::DropWaits(runs[0].id)]);
    assert_eq!(store.waits_ended_by(event.id, 0), Ok(vec![resolved]), "the other run's are gone");
}

pub(super) fn an_open_wait_is_found_by_its_pin(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let runs: Vec<RunRow> = (0..2).map(|_| run(ids.next(NOW), event.id)).collect();
    put(store, vec![Write::InsertEvent(event.clone()), Write::CreateRun(runs[0].clone()), Write::CreateRun(runs[1].clone())]);
    assert_eq!((store.pinned_fields(), store.pinned("1 a x", 7)), (Ok(Vec::new()), Ok(Vec::new())));
    let opened = |run: usize, key: &str, pin: Option<Pinned>| {
        let row = WaitRow { pin, ..wait(runs[run].id, Kind::Wait, key) };
        put(store, vec![Write::OpenWait(row.clone())]);
        row
    };
    let fields = || {
        let mut fields: Vec<String> = store.pinned_fields().unwrap_or_default().iter().map(ToString::to_string).collect();
        fields.sort();
        fields
    };
    let late = opened(1, "a", Some(pin("1 a x", -7)));
    let early = opened(0, "a", Some(pin("1 a x", -7)));
    let other = opened(0, "b", Some(pin("1 a x", i64::MIN)));
    let none = opened(1, "b", None);
    let field = opened(1, "c", Some(pin("1 ü/y x", -7)));
    assert_eq!(store.pinned("1 a x", -7), Ok(vec![late.clone(), early.clone()]), "in the order of their opening, whosever they are");
    assert_eq!(store.pinned("1 a x", i64::MIN), Ok(vec![other.clone()]));
    assert_eq!(store.pinned("1 ü/y x", -7), Ok(vec![field.clone()]));
    assert_eq!((store.pinned("1 a x", 8), store.pinned("1 a y", -7)), (Ok(Vec::new()), Ok(Vec::new())));
    assert_eq!(fields(), ["1 a x", "1 ü/y x"]);
    assert_eq!(store.waits(runs[1].id), Ok(vec![late.clone(), none.clone(), field.clone()]), "a pin comes back as it was written");
    let started = || {
        let mut found: Vec<WaitRow> = Vec::new();
        assert_eq!(store.start_from(&mut |_| {}, &mut |row| found.push(row)), Ok(()));
        found
    };
    assert_eq!(started(), [none], "an engine is told of those alone that it does not find so");

    // One that is opened anew takes the last place; what is not open any more has no pin.
    let again = opened(1, "a", Some(pin("1 a x", -7)));
    assert_eq!(store.pinned("1 a x", -7), Ok(vec![early.clone(), again.clone()]));
    assert_eq!(commit(store, vec![resolve(&early.wait, Resolution::TimedOut)]), Ok(vec![Ok(())]));
    let early = in_state(&early, WaitState::Resolved(Resolution::TimedOut));
    assert_eq!(store.waits(runs[0].id), Ok(vec![early.clone(), other.clone()]));
    put(store, vec![Write::RecordWait(early.wait.clone()), Write::RecordWait(other.wait.clone())]);
    let recorded = |row: &WaitRow| in_state(row, WaitState::Recorded(None));
    assert_eq!(store.waits(runs[0].id), Ok(vec![recorded(&early), recorded(&other)]));
    assert_eq!((store.pinned("1 a x", i64::MIN), store.pinned("1 a x", -7)), (Ok(Vec::new()), Ok(vec![again.clone()])));
    assert_eq!(started().len(), 3);
    put(store, vec![Write::DropWait(again.wait)]);
    assert_eq!(fields(), ["1 ü/y x"]);
    put(store, vec![Write::DropWaits(runs[1].id)]);
    assert_eq!((fields(), store.pinned("1 ü/y x", -7)), (Vec::new(), Ok(Vec::new())));
}

pub(super) fn nothing_waits_for_a_run_that_has_ended_or_is_gone(store: &dyn Store) {
    let row = begun(store);
    let opened = wait(row.id, Kind::Wait, "a");
    put(store, vec![Write::OpenWait(opened.clone())]);
    put(store, vec![Write::DropWaits(row.id), end(row.id, RunState::Cancelled, NOW)]);
    for run in [row.id, Id(row.id.0 + 1)] {
        put(store, vec![Write::OpenWait(wait(run, Kind::Wait, "b"))]);
        put(store, vec![Write::ResolveWait { wait: wait(run, Kind::Wait, "b").wait, with: Resolution::TimedOut }]);
        put(store, vec![Write::RecordWait(wait(run, Kind::Wait, "b").wait)]);
        assert_eq!(store.waits(run), Ok(Vec::new()));
    }
    let late = Expect::WaitOpen { wait: opened.wait, event: None };
    assert_eq!(commit(store, vec![List { expect: vec![late], writes: Vec::new() }]), Ok(vec![Err(Conflict::WaitClosed)]));
}

pub(super) fn a_sweep_leaves_events_that_a_wait_has_had(store: &dyn Store) {
    let ids = ids();
    let events: Vec<EventRow> = (0..3).map(|_| event(ids.next(NOW))).collect();
    let run = run(ids.next(NOW), events[0].id);
    let opened = wait(run.id, Kind::Wait, "a");
    put(store, events.iter().cloned().map(Write::InsertEvent).collect());
    put(store, vec![Write::CreateRun(run.clone()), Write::OpenWait(opened.clone())]);
    assert_eq!(commit(store, vec![resolve(&opened.wait, Resolution::Event(events[1].id))]), Ok(vec![Ok(())]));
    let later = NOW.after(Span::seconds(3_600));
    put(store, vec![Write::Sweep { now: later, keep: KEEP, most: 100 }]);
    let kept = |store: &dyn Store| events.iter().map(|event| store.event(event.id).map(|row| row.is_some())).collect::<Vec<_>>();
    assert_eq!(kept(store), [Ok(true), Ok(true), Ok(false)]);
    put(store, vec![Write::RecordWait(opened.wait), Write::Sweep { now: later, keep: KEEP, most: 100 }]);
    assert_eq!(kept(store), [Ok(true), Ok(true), Ok(false)], "also once it is recorded");
}

pub(super) fn an_event_that_nobody_names_any_more_goes_with_the_next_sweep(store: &dyn Store) {
    let ids = ids();
    let events: Vec<EventRow> = (0..6).map(|_| event(ids.next(NOW))).collect();
    let run = run(ids.next(NOW), events[3].id);
    put(store, events.iter().cloned().map(Write::InsertEvent).collect());
    put(store, vec![Write::CreateRun(run.clone())]);
    let opened: Vec<WaitRow> = (0..3).map(|at| wait(run.id, Kind::Wait, &at.to_string())).collect();
    for (opened, event) in opened.iter().zip(&events) {
        put(store, vec![Write::OpenWait(opened.clone()), Write::RecordWait(opened.wait.clone())]);
        put(store, vec![Write::OpenWait(opened.clone())]);
        assert_eq!(commit(store, vec![resolve(&opened.wait, Resolution::Event(event.id))]), Ok(vec![Ok(())]));
    }
    put(store, events[4..].iter().map(|event| Write::AddEvent { run: run.id, event: event.id, enter: None }).collect());
    let kept_at = |seconds: i64, writes: Vec<Write>| {
        put(store, writes);
        put(store, vec![Write::Sweep { now: NOW.after(Span::seconds(seconds)), keep: KEEP, most: 100 }]);
        events.iter().map(|event| store.event(event.id).is_ok_and(|row| row.is_some())).collect::<Vec<_>>()
    };
    let keys = Arc::default();
    let retarget = Write::Retarget { run: run.id, event: events[5].id, enter: NOW, keys, priority_ms: 0, gates: None };
    assert_eq!(kept_at(60, Vec::new()), [true; 6], "each is named by something");
    assert_eq!(kept_at(60, vec![retarget]), [true, true, true, false, true, true], "the run is about another event");
    assert_eq!(kept_at(60, vec![Write::OpenWait(opened[1].clone())]), [true, false, true, false, true, true], "it waits anew");
    assert_eq!(kept_at(60, vec![Write::DropWaits(run.id)]), [false, false, false, false, true, true], "its waits are gone");
    assert_eq!(kept_at(75, vec![end(run.id, RunState::Completed, NOW)]), [false; 6], "it is gone, with its batch");
}

pub(super) fn events_are_read_from_the_oldest_on(store: &dyn Store) {
    let ids = ids();
    let rows: Vec<EventRow> =
        (0..6).map(|at| EventRow { name: Arc::from(["a/b", "a/c"][at % 2]), ..event(ids.next(NOW.after(Span(at as i64)))) }).collect();
    put(store, rows.iter().cloned().map(Write::InsertEvent).collect());
    let page = |from: EventId, limit| {
        let query = EventQuery { name: Some(Arc::from("a/b")), from: Some(from), limit, oldest_first: true, ..EventQuery::default() };
        store.events(&query).unwrap_or_default().iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(page(Id(0), 0), [rows[0].id, rows[2].id, rows[4].id]);
    assert_eq!(page(Id(rows[0].id.0 + 1), 1), [rows[2].id]);
    assert_eq!(page(Id::first_at(Millis(NOW.0 + 3)), 9), [rows[4].id]);
    assert_eq!(commit(store, vec![plain(Vec::new())]), Ok(vec![Ok(())]));
}

pub(super) fn an_engine_starts_from_the_outlines_of_open_runs_and_all_waits(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let bare = run(ids.next(NOW), event.id);
    let ended = RunRow { state: RunState::Completed, ended: Some(NOW), ..run(ids.next(NOW), event.id) };
    let full = suspended(ids.next(NOW), event.id, bare.id);
    put(store, vec![Write::InsertEvent(event)]);
    put(store, [&bare, &ended, &full].map(|run| Write::CreateRun(run.clone())).into());
    let waits = [wait(full.id, Kind::Wait, "b"), wait(full.id, Kind::Invoke, "a"), wait(bare.id, Kind::Wait, "c")];
    put(store, waits.iter().cloned().map(Write::OpenWait).collect());
    assert_eq!(commit(store, vec![resolve(&waits[1].wait, Resolution::TimedOut)]), Ok(vec![Ok(())]));
    let (mut runs, mut found): (Vec<RunRow>, Vec<WaitRow>) = (Vec::new(), Vec::new());
    assert_eq!(store.start_from(&mut |row| runs.push(row), &mut |row| found.push(row)), Ok(()));
    let outline = RunRow { attempt: 1, version: None, error: None, reason: None, idempotency: None, replay_of: None, ..full };
    assert_eq!(runs, [bare.clone(), outline.clone()]);
    // Waits of several runs come in any order.
    found.sort_by_key(|row| row.wait.run);
    let [first, second, other] = waits;
    assert_eq!(found, [other, first, in_state(&second, WaitState::Resolved(Resolution::TimedOut))]);
}
