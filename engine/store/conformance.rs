//! What a store is: every store passes `exercise`, SQLite and memory today.

pub mod collect;
pub mod dormant;
pub mod ends;
mod values;
pub mod waits;
mod windows;

use std::sync::Arc;

use crate::base::{EventId, Id, IdMaker, Millis, RunId, Span};
use crate::rules::policy::Retention;
use crate::rules::row::{LogLevel, Recorded};
use crate::rules::{
    AttemptRow, Conflict, CronKey, CronRow, EventRow, Expect, Failure, GateKeys, Kind, List, LogRow, Outcome, OutcomeRow, Record, RunRow,
    RunState, SourceRow, Write,
};

use super::{EventQuery, Lane, RunQuery, Store, StoreError, Verdict};

/// When every example takes place: 2026-03-01, in milliseconds.
pub const NOW: Millis = Millis(1_772_323_200_000);
/// Nothing is kept longer than this.
pub const KEEP: Retention =
    Retention { completed: Span::seconds(10), failed: Span::seconds(20), cancelled: Span::seconds(30), events: Span::seconds(40) };

/// Runs every example, each on an empty store from `make`.
pub fn exercise(make: &dyn Fn() -> Arc<dyn Store>) {
    let examples: [fn(&dyn Store); 45] = [
        events_come_back_whole,
        runs_come_back_whole,
        a_run_goes_through_every_state,
        nothing_is_written_about_a_run_that_has_ended_or_is_gone,
        event_keys_are_taken_for_their_window,
        idempotency_keys_are_taken_for_their_window,
        a_list_that_expects_another_revision_is_skipped_alone,
        lists_see_what_the_lists_before_them_wrote,
        a_journal_keeps_every_kind_of_record,
        a_new_record_starts_the_count_of_attempts_anew,
        logs_are_read_in_pages,
        a_source_is_stored_once,
        the_versions_of_a_handler_are_known_by_its_file,
        a_source_is_needed_while_a_run_names_it,
        runs_are_found_by_everything_a_query_can_say,
        events_are_found_by_everything_a_query_can_say,
        outcomes_are_kept_as_long_as_their_event,
        a_sweep_takes_what_is_old_and_unneeded,
        figures_tell_open_runs_and_the_largest_id,
        crons_stand_where_they_were_put,
        each_schedule_of_a_function_stands_by_itself,
        collect::a_run_is_put_off_by_newer_events_until_it_begins,
        collect::a_batch_keeps_its_events_in_order,
        collect::a_loaded_run_has_the_events_of_its_batch,
        waits::a_wait_is_resolved_once_and_stays_until_it_is_dropped,
        waits::a_wait_that_is_given_up_is_gone_unless_it_is_recorded,
        waits::an_event_resolves_one_wait_of_a_run,
        waits::the_waits_that_an_event_has_ended_are_found_by_it,
        waits::an_open_wait_is_found_by_its_pin,
        waits::nothing_waits_for_a_run_that_has_ended_or_is_gone,
        waits::a_sweep_leaves_events_that_a_wait_has_had,
        waits::an_event_that_nobody_names_any_more_goes_with_the_next_sweep,
        waits::events_are_read_from_the_oldest_on,
        waits::an_engine_starts_from_the_outlines_of_open_runs_and_all_waits,
        dormant::a_suspended_run_that_nothing_hangs_on_can_be_left_where_it_is,
        windows::what_a_gate_has_counted_is_kept_until_it_expires,
        windows::a_row_takes_the_place_of_the_one_before_it,
        windows::a_run_keeps_the_keys_of_its_gates,
        ends::what_hangs_on_an_open_run_is_left_out_once_it_has_ended,
        ends::an_event_has_to_be_stored_where_that_is_expected,
        ends::a_list_about_a_running_run_is_left_out_where_it_is_not,
        ends::a_list_that_comes_after_the_end_of_a_run_is_left_out_before,
        ends::a_function_is_paused_until_it_is_resumed,
        values::a_value_stands_under_its_key_until_it_is_replaced_dropped_or_swept,
        values::a_value_is_stored_with_its_list_or_not_at_all,
    ];
    for example in examples {
        example(&*make());
    }
    of_many_who_expect_one_revision_one_wins(make());
    what_is_written_twice_stops_the_store(&*make());
}

/// Commits and waits.
pub fn commit(store: &dyn Store, lists: Vec<List>) -> Result<Vec<Verdict>, StoreError> {
    store.commit(Lane::Steps, lists).wait()
}

/// A list without expectations.
pub fn plain(writes: Vec<Write>) -> List {
    List { expect: Vec::new(), writes }
}

/// Commits writes that meet no conflict.
pub fn put(store: &dyn Store, writes: Vec<Write>) {
    assert_eq!(commit(store, vec![plain(writes)]), Ok(vec![Ok(())]));
}

/// Ids from `NOW` on.
pub fn ids() -> IdMaker {
    IdMaker::above(Id(0))
}

/// An event with little in it.
pub fn event(id: EventId) -> EventRow {
    EventRow {
        id,
        name: Arc::from("payment/initiate"),
        data: Arc::from(r#"{"userId":"u1"}"#),
        sender_id: None,
        ts: id.made_at(),
        accepted: id.made_at(),
        extra: None,
    }
}

/// A run that has not begun.
pub fn run(id: RunId, event: EventId) -> RunRow {
    RunRow::queued(id, "charge", event, id.made_at())
}

/// A step's record.
pub fn record(index: u32, key: &str) -> Record {
    Record {
        index,
        key: Arc::from(key),
        kind: Kind::Step,
        result: Recorded::Value(Arc::from("1")),
        attempts: 1,
        started: NOW,
        ended: NOW.after(Span(3)),
        line: Some(Arc::from("handlers/charge.rhai:7")),
    }
}

/// An error with everything in it.
pub fn failure(message: &str) -> Arc<Failure> {
    Arc::new(Failure {
        message: message.to_owned(),
        code: "E0410".to_owned(),
        step: Some("charge-card".to_owned()),
        attempts: Some(4),
        allowed: Some(6),
        asked: Some(crate::rules::row::AskedBy::Script),
        data: Some(serde_json::json!({"big": 9_007_199_254_740_993_i64, "text": "ü\u{1F600}\n"})),
        trace: vec![crate::rules::row::Place { file: "handlers/charge.rhai".to_owned(), line: 7, column: 3, within: None }],
        help: Some("look at it".to_owned()),
    })
}

fn start(run: RunId) -> Write {
    Write::Start { run, at: NOW.after(Span(5)), version: Arc::from("v1") }
}

fn end(run: RunId, state: RunState, at: Millis) -> Write {
    Write::End { run, state, at, output: None, error: None, reason: None }
}

fn reads_back(store: &dyn Store, expected: &RunRow) {
    assert_eq!(store.run(expected.id), Ok(Some(expected.clone())));
}

/// An event with one run.
fn begun(store: &dyn Store) -> RunRow {
    let ids = ids();
    let event = event(ids.next(NOW));
    let run = run(ids.next(NOW), event.id);
    put(store, vec![Write::InsertEvent(event), Write::CreateRun(run.clone())]);
    run
}

fn events_come_back_whole(store: &dyn Store) {
    let ids = ids();
    let bare = event(ids.next(NOW));
    let full = EventRow {
        id: ids.next(NOW),
        name: Arc::from("otp/received"),
        data: Arc::from("{\"text\": \"ü\u{1F600}\", \"number\":12345678901234567890,\"f\":1.0}"),
        sender_id: Some(Arc::from("sender's \u{1F600} id")),
        ts: NOW.after(Span::seconds(3600)),
        accepted: NOW,
        extra: Some(Arc::from(r#"{"user":{"id":1},"v":"2"}"#)),
    };
    put(store, vec![Write::InsertEvent(bare.clone()), Write::InsertEvent(full.clone())]);
    assert_eq!(store.event(bare.id), Ok(Some(bare)));
    assert_eq!(store.event(full.id), Ok(Some(full)));
    assert_eq!(store.event(ids.next(NOW)), Ok(None));
}

const SEVEN: &str = "0 7 * * * Europe/Berlin";

fn cron_at(function: &str, schedule: &str, last: Option<i64>) -> Expect {
    let cron = CronKey { function: Arc::from(function), schedule: Arc::from(schedule) };
    Expect::CronAt { cron, last: last.map(|last| NOW.after(Span(last))) }
}

fn cron_row(function: &str, schedule: &str, last: i64, due: Option<i64>) -> CronRow {
    let (function, schedule) = (Arc::from(function), Arc::from(schedule));
    CronRow { function, schedule, last: NOW.after(Span(last)), due: due.map(|due| NOW.after(Span(due))) }
}

fn crons_stand_where_they_were_put(store: &dyn Store) {
    let row = |function: &str, last: i64, due: Option<i64>| cron_row(function, SEVEN, last, due);
    let at = |function: &str, last: Option<i64>| cron_at(function, SEVEN, last);
    put(store, vec![Write::PutCron(row("ü", 0, Some(5))), Write::PutCron(row("b", 1, None))]);
    assert_eq!(store.crons(), Ok(vec![row("b", 1, None), row("ü", 0, Some(5))]));
    let moved = |expect: Expect, to: CronRow| List { expect: vec![expect], writes: vec![Write::PutCron(to)] };
    let lists = vec![
        moved(at("ü", Some(1)), row("ü", 9, None)),
        moved(at("ü", Some(0)), row("ü", 3, Some(8))),
        moved(at("c", Some(0)), row("c", 9, None)),
        moved(at("c", None), row("c", 4, Some(6))),
    ];
    assert_eq!(commit(store, lists), Ok(vec![Err(Conflict::CronMoved), Ok(()), Err(Conflict::CronMoved), Ok(())]));
    put(store, vec![Write::DropCron(row("b", 0, None).key()), Write::DropCron(row("nobody", 0, None).key())]);
    assert_eq!(store.crons(), Ok(vec![row("c", 4, Some(6)), row("ü", 3, Some(8))]));
}

fn each_schedule_of_a_function_stands_by_itself(store: &dyn Store) {
    const EIGHT: &str = "0 8 * * * Europe/Berlin";
    let row = |schedule: &str, last: i64| cron_row("f", schedule, last, Some(last + 1));
    put(store, vec![Write::PutCron(row(EIGHT, 1)), Write::PutCron(row(SEVEN, 2)), Write::PutCron(cron_row("e", EIGHT, 9, None))]);
    assert_eq!(store.crons(), Ok(vec![cron_row("e", EIGHT, 9, None), row(SEVEN, 2), row(EIGHT, 1)]));
    // One that moves leaves the other where it was, and what is expected of one says nothing about the other.
    let moved = |schedule: &str, last: i64, to: i64| List {
        expect: vec![cron_at("f", schedule, Some(last))],
        writes: vec![Write::PutCron(row(schedule, to))],
    };
    let verdicts = commit(store, vec![moved(SEVEN, 1, 7), moved(SEVEN, 2, 3), moved(EIGHT, 1, 4)]);
    assert_eq!(verdicts, Ok(vec![Err(Conflict::CronMoved), Ok(()), Ok(())]));
    assert_eq!(store.crons(), Ok(vec![cron_row("e", EIGHT, 9, None), row(SEVEN, 3), row(EIGHT, 4)]));
    put(store, vec![Write::DropCron(row(EIGHT, 0).key())]);
    assert_eq!(store.crons(), Ok(vec![cron_row("e", EIGHT, 9, None), row(SEVEN, 3)]));
}

/// A suspended run with all that such a one can have.
fn suspended(id: RunId, event: EventId, other: RunId) -> RunRow {
    let key: Arc<str> = Arc::from("\"k\"");
    RunRow {
        rev: 7,
        state: RunState::BackingOff,
        keys: Arc::from([Arc::from("\"u\\n1\""), Arc::from("null"), Arc::from("12")]),
        priority_ms: -5_000,
        enter: NOW.after(Span::seconds(60)),
        started: Some(NOW),
        wake: Some(NOW.after(Span::seconds(90))),
        attempt: 3,
        suspects: 2,
        version: Some(Arc::from("abc")),
        error: Some(failure("no")),
        reason: Some(Arc::from("by hand")),
        idempotency: Some(Arc::clone(&key)),
        replay_of: Some(other),
        invoked_by: Some(other),
        gates: Some(Arc::new(GateKeys { singleton: Some(key), ..GateKeys::default() })),
        ..run(id, event)
    }
}

fn runs_come_back_whole(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let bare = run(ids.next(NOW), event.id);
    let full = suspended(ids.next(NOW), event.id, bare.id);
    let ended = RunRow {
        state: RunState::Cancelled,
        ended: Some(NOW),
        output: Some(Arc::from("[1, 2.50]")),
        reason: Some(Arc::from("by hand")),
        ..run(ids.next(NOW), event.id)
    };
    let writes = [&bare, &full, &ended].map(|run| Write::CreateRun(run.clone()));
    put(store, std::iter::once(Write::InsertEvent(event)).chain(writes).collect());
    for run in [&bare, &full, &ended] {
        reads_back(store, run);
    }
    assert_eq!(store.run(ids.next(NOW)), Ok(None));
}

fn a_run_goes_through_every_state(store: &dyn Store) {
    let mut row = begun(store);
    let id = row.id;
    let later = NOW.after(Span::seconds(9));
    put(store, vec![start(id)]);
    row = RunRow { rev: 1, state: RunState::Running, started: Some(NOW.after(Span(5))), version: Some(Arc::from("v1")), ..row };
    reads_back(store, &row);
    let error = Some(failure("once"));
    put(store, vec![Write::Suspend { run: id, state: RunState::BackingOff, wake: Some(later), attempt: 2, error: error.clone() }]);
    row = RunRow { rev: 2, state: RunState::BackingOff, wake: Some(later), attempt: 2, error, ..row };
    reads_back(store, &row);
    put(store, vec![Write::Requeue { run: id, suspects: 1 }]);
    row = RunRow { rev: 3, state: RunState::Queued, wake: None, suspects: 1, error: None, ..row };
    reads_back(store, &row);
    // A second start keeps the first one's time and version, until the other version takes the run over.
    put(store, vec![Write::Start { run: id, at: later, version: Arc::from("v2") }]);
    row = RunRow { rev: 4, state: RunState::Running, ..row };
    reads_back(store, &row);
    put(store, vec![Write::Adopt { run: id, version: Arc::from("v2") }]);
    row = RunRow { version: Some(Arc::from("v2")), ..row };
    reads_back(store, &row);
    put(store, vec![Write::Suspend { run: id, state: RunState::Waiting, wake: None, attempt: 1, error: None }]);
    row = RunRow { rev: 5, state: RunState::Waiting, attempt: 1, ..row };
    reads_back(store, &row);
    put(store, vec![Write::Park { run: id, reason: Arc::from("function gone") }]);
    row = RunRow { rev: 6, state: RunState::Parked, reason: Some(Arc::from("function gone")), ..row };
    reads_back(store, &row);
    put(store, vec![Write::Requeue { run: id, suspects: 0 }, start(id)]);
    row = RunRow { rev: 8, state: RunState::Running, suspects: 0, reason: None, ..row };
    reads_back(store, &row);
    put(store, vec![Write::Suspend { run: id, state: RunState::BackingOff, wake: Some(later), attempt: 2, error: Some(failure("no")) }]);
    let due = |at: &Millis| AttemptRow {
        key: Arc::from("x"),
        attempt: 1,
        started: NOW,
        ended: NOW,
        error: failure("no"),
        next: Some(*at),
        line: None,
    };
    let (past, soon) = (NOW.after(Span::seconds(1)), NOW.after(Span::seconds(4)));
    put(store, [past, later].iter().map(|at| Write::Attempt { run: id, attempt: due(at) }).collect());
    put(store, vec![Write::RetryNow { run: id, at: soon, anew: true }]);
    let wakes = |at: Option<Millis>| assert_eq!(store.run(id).map(|run| run.map(|run| run.wake)), Ok(Some(at)));
    wakes(Some(soon));
    put(store, vec![Write::RetryNow { run: id, at: soon, anew: false }]);
    wakes(None);
    put(store, vec![Write::RetryNow { run: id, at: soon, anew: true }, start(id)]);
    row = RunRow { rev: 13, attempt: 2, ..row };
    reads_back(store, &row);
    assert_eq!(store.journal(id).map(|journal| journal.attempts), Ok(vec![due(&past), due(&soon)]), "what was to come later is due now");
    let output: Option<crate::base::Json> = Some(Arc::from(r#"{"status":"paid"}"#));
    put(store, vec![Write::End { run: id, state: RunState::Completed, at: later, output: output.clone(), error: None, reason: None }]);
    row = RunRow { rev: 14, state: RunState::Completed, ended: Some(later), output, ..row };
    reads_back(store, &row);
}

fn nothing_is_written_about_a_run_that_has_ended_or_is_gone(store: &dyn Store) {
    let row = begun(store);
    let reason: Arc<str> = Arc::from("by hand");
    let cancel =
        Write::End { run: row.id, state: RunState::Cancelled, at: NOW, output: None, error: None, reason: Some(Arc::clone(&reason)) };
    put(store, vec![cancel]);
    let gone = Id(row.id.0 + 1);
    let line = LogRow { at: NOW, level: LogLevel::Info, message: Arc::from("late"), data: None, step: Arc::from("") };
    let attempt = AttemptRow { key: Arc::from(""), attempt: 1, started: NOW, ended: NOW, error: failure("late"), next: None, line: None };
    for run in [row.id, gone] {
        put(store, vec![Write::Append { run, record: record(0, "late") }, Write::Log { run, line: line.clone() }]);
        put(store, vec![Write::Attempt { run, attempt: attempt.clone() }, start(run), Write::Requeue { run, suspects: 3 }]);
        put(store, vec![Write::Park { run, reason: Arc::clone(&reason) }, end(run, RunState::Failed, NOW)]);
        put(store, vec![Write::Suspend { run, state: RunState::Sleeping, wake: None, attempt: 1, error: None }]);
        assert_eq!(store.journal(run), Ok(super::Journal::default()));
        assert_eq!(store.logs(run, 0, 0), Ok(Vec::new()));
    }
    reads_back(store, &RunRow { rev: 1, state: RunState::Cancelled, ended: Some(NOW), reason: Some(reason), ..row });
    assert_eq!(store.run(gone), Ok(None));
}

fn event_keys_are_taken_for_their_window(store: &dyn Store) {
    let ids = ids();
    let expires = NOW.after(Span::seconds(60));
    let send = |name: &str, now: Millis| {
        let (name, key): (Arc<str>, Arc<str>) = (Arc::from(name), Arc::from("k"));
        let id = ids.next(now);
        let list = List {
            expect: vec![Expect::EventKeyFree { name: Arc::clone(&name), key: Arc::clone(&key), now }],
            writes: vec![
                Write::TakeEventKey { name: Arc::clone(&name), key, event: id, expires: now.after(Span::seconds(60)) },
                Write::InsertEvent(EventRow { name, ..event(id) }),
            ],
        };
        (id, commit(store, vec![list]).map(|verdicts| verdicts[0].clone()))
    };
    let (first, verdict) = send("a/b", NOW);
    assert_eq!(verdict, Ok(Ok(())));
    let (second, verdict) = send("a/b", NOW.after(Span(1)));
    assert_eq!(verdict, Ok(Err(Conflict::EventKeyTaken(first))));
    assert_eq!(store.event(second), Ok(None));
    assert_eq!(send("a/c", NOW).1, Ok(Ok(())), "the key of another name is another key");
    assert_eq!(send("a/b", Millis(expires.0 - 1)).1, Ok(Err(Conflict::EventKeyTaken(first))));
    let (third, verdict) = send("a/b", expires);
    assert_eq!(verdict, Ok(Ok(())), "the window is over");
    assert_eq!(send("a/b", expires).1, Ok(Err(Conflict::EventKeyTaken(third))));
}

fn idempotency_keys_are_taken_for_their_window(store: &dyn Store) {
    let row = begun(store);
    let expires = NOW.after(Span::seconds(60));
    let function: Arc<str> = Arc::from("charge");
    let free = |function: &Arc<str>, now: Millis| List {
        expect: vec![Expect::IdempotencyFree { function: Arc::clone(function), key: Arc::from("\"k\""), now }],
        writes: Vec::new(),
    };
    assert_eq!(commit(store, vec![free(&function, NOW)]), Ok(vec![Ok(())]));
    put(store, vec![Write::TakeIdempotency { function: Arc::clone(&function), key: Arc::from("\"k\""), run: row.id, expires }]);
    let taken = Err(Conflict::IdempotencyTaken(Arc::clone(&row.function), row.id));
    let lists = vec![free(&function, NOW), free(&Arc::from("other"), NOW), free(&function, expires)];
    assert_eq!(commit(store, lists), Ok(vec![taken, Ok(()), Ok(())]));
}

fn a_list_that_expects_another_revision_is_skipped_alone(store: &dyn Store) {
    let row = begun(store);
    let expecting = |run: RunId, rev: u32, write: Write| List { expect: vec![Expect::RunRev { run, rev }], writes: vec![write] };
    let gone = Id(row.id.0 + 1);
    let lists = vec![
        expecting(row.id, 0, start(row.id)),
        expecting(row.id, 0, end(row.id, RunState::Failed, NOW)),
        expecting(gone, 0, start(gone)),
        expecting(row.id, 1, Write::Append { run: row.id, record: record(0, "a") }),
        List {
            expect: vec![Expect::RunRev { run: row.id, rev: 1 }, Expect::RunRev { run: row.id, rev: 5 }],
            writes: vec![Write::Append { run: row.id, record: record(1, "b") }],
        },
    ];
    let moved = Err(Conflict::RunMoved { rev: 1, state: RunState::Running });
    assert_eq!(commit(store, lists), Ok(vec![Ok(()), moved.clone(), Err(Conflict::RunGone), Ok(()), moved]));
    assert_eq!(store.journal(row.id).map(|journal| journal.records), Ok(vec![record(0, "a")]));
    put(store, vec![end(row.id, RunState::Completed, NOW)]);
    let late = expecting(row.id, 1, Write::Append { run: row.id, record: record(1, "b") });
    assert_eq!(commit(store, vec![late]), Ok(vec![Err(Conflict::RunMoved { rev: 2, state: RunState::Completed })]));
}

fn lists_see_what_the_lists_before_them_wrote(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let run = run(ids.next(NOW), event.id);
    let lists = vec![
        plain(vec![Write::InsertEvent(event), Write::CreateRun(run.clone())]),
        List { expect: vec![Expect::RunRev { run: run.id, rev: 0 }], writes: vec![start(run.id)] },
        List { expect: vec![Expect::RunRev { run: run.id, rev: 1 }], writes: vec![end(run.id, RunState::Completed, NOW)] },
    ];
    assert_eq!(commit(store, lists), Ok(vec![Ok(()); 3]));
    assert_eq!(store.run(run.id).map(|run| run.map(|run| run.state)), Ok(Some(RunState::Completed)));
    assert_eq!(commit(store, Vec::new()), Ok(Vec::new()), "nothing is a commit too");
}

fn a_journal_keeps_every_kind_of_record(store: &dyn Store) {
    let row = begun(store);
    let mut records = Vec::new();
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        let result = match at % 3 {
            0 => Recorded::Value(Arc::from("{\"a\": [1, 2.0, null], \"ü\":\"\u{1F600}\"}")),
            1 => Recorded::Until(NOW.after(Span::seconds(30))),
            _ => Recorded::Failed(failure("used up")),
        };
        let key = format!("mail › x#{}", at + 1);
        let line = (at % 2 == 0).then(|| Arc::from("handlers/charge.rhai:9"));
        records.push(Record { kind, result, attempts: at as u32 + 1, line, ..record(at as u32, &key) });
    }
    let attempts: Vec<AttemptRow> = (1..=3)
        .map(|attempt| AttemptRow {
            key: Arc::from(if attempt == 2 { "" } else { "x" }),
            attempt,
            started: NOW,
            ended: NOW.after(Span(1)),
            error: failure("not yet"),
            next: (attempt < 3).then(|| NOW.after(Span::seconds(15))),
            line: (attempt < 3).then(|| Arc::from("handlers/charge.rhai:9")),
        })
        .collect();
    for record in &records {
        put(store, vec![Write::Append { run: row.id, record: record.clone() }]);
    }
    put(store, attempts.iter().map(|attempt| Write::Attempt { run: row.id, attempt: attempt.clone() }).collect());
    assert_eq!(store.journal(row.id), Ok(super::Journal { records, attempts }));
    assert_eq!(store.journal(Id(1)), Ok(super::Journal::default()));
    reads_back(store, &row);
}

fn a_new_record_starts_the_count_of_attempts_anew(store: &dyn Store) {
    let row = begun(store);
    put(store, vec![Write::Suspend { run: row.id, state: RunState::BackingOff, wake: None, attempt: 3, error: None }]);
    put(store, vec![Write::Requeue { run: row.id, suspects: 2 }]);
    let row = RunRow { rev: 2, attempt: 3, suspects: 2, ..row };
    reads_back(store, &row);
    put(store, vec![Write::Append { run: row.id, record: record(0, "a") }]);
    reads_back(store, &RunRow { attempt: 1, suspects: 0, ..row });
}

fn logs_are_read_in_pages(store: &dyn Store) {
    let row = begun(store);
    let lines: Vec<LogRow> = (0..10)
        .map(|at| LogRow {
            at: NOW.after(Span(at as i64)),
            level: LogLevel::ALL[at % LogLevel::ALL.len()],
            message: Arc::from(format!("line {at}")),
            data: (at % 2 == 0).then(|| Arc::from(r#"{"n":1}"#)),
            step: Arc::from(if at < 5 { "" } else { "charge-card" }),
        })
        .collect();
    for line in &lines {
        put(store, vec![Write::Log { run: row.id, line: line.clone() }]);
    }
    assert_eq!(store.logs(row.id, 0, 0), Ok(lines.clone()));
    assert_eq!(store.logs(row.id, 0, 3), Ok(lines[..3].to_vec()));
    assert_eq!(store.logs(row.id, 8, 3), Ok(lines[8..].to_vec()));
    assert_eq!(store.logs(row.id, 10, 3), Ok(Vec::new()));
    assert_eq!(store.logs(row.id, u64::MAX, 3), Ok(Vec::new()));
    assert_eq!(store.logs(Id(1), 0, 0), Ok(Vec::new()));
}

fn a_source_is_stored_once(store: &dyn Store) {
    let source = SourceRow { hash: Arc::from("abc"), files: Arc::from(r#"{"handlers/a.rhai":"1"}"#) };
    let other = SourceRow { files: Arc::from("{}"), ..source.clone() };
    put(store, vec![Write::PutSource(source.clone())]);
    put(store, vec![Write::PutSource(other)]);
    assert_eq!(store.source("abc"), Ok(Some(source)));
    assert_eq!(store.source("abd"), Ok(None));
}

fn the_versions_of_a_handler_are_known_by_its_file(store: &dyn Store) {
    let source = |hash: &str, files: &str| Write::PutSource(SourceRow { hash: Arc::from(hash), files: Arc::from(files) });
    put(store, vec![source("a1", r#"{"handlers/a.rhai":"1"}"#), source("b1", r#"{"handlers/b.rhai":"1","handlers/a.rhai":"1"}"#)]);
    put(store, vec![source("a2", r#"{"handlers/a.rhai":"2","handlers/b.rhai":"1"}"#), source("c1", r#"{"handlers/ä\"b.rhai":"1"}"#)]);
    let of = |handler: &str| {
        let mut hashes: Vec<String> = store.sources_of(handler).unwrap_or_default().iter().map(ToString::to_string).collect();
        hashes.sort();
        hashes
    };
    assert_eq!(of("handlers/a.rhai"), ["a1", "a2"]);
    assert_eq!(of("handlers/b.rhai"), ["b1"]);
    assert_eq!(of("handlers/ä\"b.rhai"), ["c1"]);
    for none in ["handlers/a", "a.rhai", ""] {
        assert_eq!(of(none), Vec::<String>::new(), "{none}");
    }
}

fn a_source_is_needed_while_a_run_names_it(store: &dyn Store) {
    let source = |hash: &str| Write::PutSource(SourceRow { hash: Arc::from(hash), files: Arc::from("{}") });
    let unneeded = |store: &dyn Store| {
        let mut hashes: Vec<String> = store.unneeded_sources().unwrap_or_default().iter().map(ToString::to_string).collect();
        hashes.sort();
        hashes
    };
    let row = begun(store);
    put(store, vec![source("v1"), source("v2"), source("v3"), Write::Start { run: row.id, at: NOW, version: Arc::from("v2") }]);
    assert_eq!(unneeded(store), ["v1", "v3"]);
    put(store, vec![Write::Adopt { run: row.id, version: Arc::from("v3") }]);
    assert_eq!(unneeded(store), ["v1", "v2"]);
    put(store, vec![Write::DropSource(Arc::from("v1")), Write::DropSource(Arc::from("v2")), Write::DropSource(Arc::from("never"))]);
    assert_eq!(unneeded(store), Vec::<String>::new());
    assert_eq!(store.source("v1"), Ok(None));
    assert!(store.source("v3").is_ok_and(|source| source.is_some()));
}

fn runs_are_found_by_everything_a_query_can_say(store: &dyn Store) {
    let ids = ids();
    let events: Vec<EventRow> = (0..3).map(|at| event(ids.next(NOW.after(Span::seconds(at))))).collect();
    put(store, events.iter().cloned().map(Write::InsertEvent).collect());
    let mut rows: Vec<RunRow> = Vec::new();
    for (at, state) in RunState::ALL.into_iter().cycle().take(36).enumerate() {
        let at_time = NOW.after(Span::seconds(10 + at as i64));
        let replay_of = (at % 5 == 4).then(|| rows[3].id);
        let keys: Vec<Arc<str>> = match at % 4 {
            0 => vec![],
            1 => vec![Arc::from("\"u1\"")],
            2 => vec![Arc::from("null"), Arc::from("\"u2\"")],
            _ => vec![Arc::from("\"u11\"")],
        };
        rows.push(RunRow {
            function: Arc::from(["charge", "mail", "audit"][at % 3]),
            state,
            keys: Arc::from(keys),
            ended: state.is_terminal().then_some(at_time),
            replay_of,
            ..run(ids.next(at_time), events[at % 2].id)
        });
    }
    put(store, rows.iter().cloned().map(Write::CreateRun).collect());
    let found = |query: RunQuery| store.runs(&query).expect("a query").into_iter().map(|run| run.id).collect::<Vec<_>>();
    let wanted = |fits: &dyn Fn(&RunRow) -> bool| rows.iter().rev().filter(|run| fits(run)).map(|run| run.id).collect::<Vec<_>>();
    let any = RunQuery::default;
    assert_eq!(found(any()), wanted(&|_| true));
    assert_eq!(found(RunQuery { limit: 5, ..any() }), wanted(&|_| true)[..5]);
    for states in [vec![RunState::Queued], vec![RunState::Failed, RunState::Sleeping], RunState::ALL[..6].to_vec()] {
        assert_eq!(found(RunQuery { states: states.clone(), ..any() }), wanted(&|run| states.contains(&run.state)));
    }
    assert_eq!(found(RunQuery { function: Some(Arc::from("mail")), ..any() }), wanted(&|run| &*run.function == "mail"));
    assert_eq!(found(RunQuery { function: Some(Arc::from("none")), ..any() }), []);
    for event in &events {
        assert_eq!(found(RunQuery { event: Some(event.id), ..any() }), wanted(&|run| run.event == event.id));
    }
    for key in ["\"u1\"", "null", "\"u2\"", "\"u\"", ""] {
        let key: Arc<str> = Arc::from(key);
        assert_eq!(found(RunQuery { key: Some(Arc::clone(&key)), ..any() }), wanted(&|run| run.keys.contains(&key)), "{key}");
    }
    for of in [rows[3].id, rows[4].id] {
        assert_eq!(found(RunQuery { replay_of: Some(of), ..any() }), wanted(&|run| run.replay_of == Some(of)));
    }
    let since = rows[20].created;
    assert_eq!(found(RunQuery { since: Some(since), ..any() }), wanted(&|run| run.created >= since));
    let (from, to) = (rows[5].id, rows[30].id);
    assert_eq!(found(RunQuery { from: Some(from), to: Some(to), ..any() }), wanted(&|run| from <= run.id && run.id <= to));
    let all_at_once = RunQuery {
        states: RunState::ALL.to_vec(),
        function: Some(Arc::from("mail")),
        event: Some(events[1].id),
        replay_of: None,
        key: Some(Arc::from("\"u1\"")),
        since: Some(rows[3].created),
        from: Some(from),
        to: Some(to),
        limit: 100,
    };
    let fits = |run: &RunRow| {
        &*run.function == "mail" && run.event == events[1].id && run.keys.contains(&Arc::from("\"u1\"")) && from <= run.id && run.id <= to
    };
    assert_eq!(found(all_at_once), wanted(&fits));
    let mut unfinished = Vec::new();
    store.unfinished(&mut |run| unfinished.push(run)).expect("a scan");
    let open: Vec<RunRow> = rows.iter().filter(|run| !run.state.is_terminal()).cloned().collect();
    assert_eq!(unfinished, open);
}

fn events_are_found_by_everything_a_query_can_say(store: &dyn Store) {
    let ids = ids();
    let rows: Vec<EventRow> = (0..12)
        .map(|at| EventRow { name: Arc::from(["a/b", "a/c"][at % 2]), ..event(ids.next(NOW.after(Span::seconds(at as i64)))) })
        .collect();
    put(store, rows.iter().cloned().map(Write::InsertEvent).collect());
    let found = |query: EventQuery| store.events(&query).expect("a query");
    let wanted = |fits: &dyn Fn(&EventRow) -> bool| rows.iter().rev().filter(|row| fits(row)).cloned().collect::<Vec<_>>();
    let any = EventQuery::default;
    assert_eq!(found(any()), wanted(&|_| true));
    assert_eq!(found(EventQuery { limit: 2, ..any() }), wanted(&|_| true)[..2]);
    assert_eq!(found(EventQuery { name: Some(Arc::from("a/c")), ..any() }), wanted(&|row| &*row.name == "a/c"));
    assert_eq!(found(EventQuery { name: Some(Arc::from("a/d")), ..any() }), []);
    let after = rows[4].accepted;
    assert_eq!(found(EventQuery { received_after: Some(after), ..any() }), wanted(&|row| row.accepted > after));
    let (from, to) = (rows[2].id, rows[9].id);
    let query = EventQuery {
        name: Some(Arc::from("a/b")),
        received_after: Some(after),
        from: Some(from),
        to: Some(to),
        limit: 9,
        oldest_first: false,
    };
    assert_eq!(found(query), wanted(&|row| &*row.name == "a/b" && row.accepted > after && from <= row.id && row.id <= to));
}

fn outcomes_are_kept_as_long_as_their_event(store: &dyn Store) {
    let ids = ids();
    let (one, other, gone) = (event(ids.next(NOW)), event(ids.next(NOW)), ids.next(NOW));
    let run = ids.next(NOW);
    let later = NOW.after(Span::seconds(5));
    let note = |event: EventId, function: &str, outcome: Outcome| Write::NoteOutcome { event, function: Arc::from(function), outcome };
    // In another order than they are read, and one that is noted in place of an older one.
    let outcomes = [
        ("mail", Outcome::SingletonReplaced(run)),
        ("mail", Outcome::RateLimited { until: NOW }),
        ("charge", Outcome::Repeated { at: later }),
        ("charge", Outcome::DebouncedInto(run)),
        ("audit", Outcome::IdempotencyTaken(run)),
        ("mail", Outcome::RateLimited { until: later }),
        ("mail", Outcome::Cancelled { run, nth: 1 }),
        ("mail", Outcome::Cancelled { run, nth: 0 }),
    ];
    put(store, vec![Write::InsertEvent(one.clone()), Write::InsertEvent(other.clone())]);
    put(store, outcomes.iter().map(|(function, outcome)| note(one.id, function, *outcome)).collect());
    put(store, vec![note(other.id, "charge", Outcome::BatchedInto(run)), note(gone, "charge", Outcome::SingletonSkipped(run))]);
    let row = |function: &str, outcome: Outcome| OutcomeRow { function: Arc::from(function), outcome };
    let noted = vec![
        row("audit", Outcome::IdempotencyTaken(run)),
        row("charge", Outcome::DebouncedInto(run)),
        row("charge", Outcome::Repeated { at: later }),
        row("mail", Outcome::RateLimited { until: later }),
        row("mail", Outcome::SingletonReplaced(run)),
        row("mail", Outcome::Cancelled { run, nth: 0 }),
        row("mail", Outcome::Cancelled { run, nth: 1 }),
    ];
    assert_eq!(store.outcomes(one.id), Ok(noted));
    assert_eq!(store.outcomes(other.id), Ok(vec![row("charge", Outcome::BatchedInto(run))]));
    assert_eq!(store.outcomes(gone), Ok(Vec::new()), "nothing is noted about an event that is not there");
    put(store, vec![Write::Sweep { now: NOW.after(Span::seconds(100)), keep: KEEP, most: 100 }]);
    assert_eq!(store.event(one.id), Ok(None));
    assert_eq!(store.outcomes(one.id), Ok(Vec::new()));
}

fn a_sweep_takes_what_is_old_and_unneeded(store: &dyn Store) {
    let ids = ids();
    let mut runs = Vec::new();
    let mut events = Vec::new();
    for state in [RunState::Completed, RunState::Failed, RunState::Cancelled, RunState::Sleeping] {
        let (event, first) = (event(ids.next(NOW)), run(ids.next(NOW), EventId::default()));
        let row = RunRow { event: event.id, ..first };
        put(store, vec![Write::InsertEvent(event.clone()), Write::CreateRun(row.clone())]);
        put(store, vec![Write::Append { run: row.id, record: record(0, "a") }]);
        put(
            store,
            vec![if state.is_terminal() {
                end(row.id, state, NOW)
            } else {
                Write::Suspend { run: row.id, state, wake: None, attempt: 1, error: None }
            }],
        );
        runs.push(row.id);
        events.push(event.id);
    }
    let unneeded = event(ids.next(NOW));
    events.push(unneeded.id);
    put(store, vec![Write::InsertEvent(unneeded)]);
    let sweep = |seconds: i64, most: u32| put(store, vec![Write::Sweep { now: NOW.after(Span::seconds(seconds)), keep: KEEP, most }]);
    let left = || {
        let runs: Vec<bool> = runs.iter().map(|run| matches!(store.run(*run), Ok(Some(_)))).collect();
        let events: Vec<bool> = events.iter().map(|event| matches!(store.event(*event), Ok(Some(_)))).collect();
        (runs, events)
    };
    sweep(10, 100);
    assert_eq!(left(), (vec![true; 4], vec![true; 5]), "as old as it may be is not too old");
    sweep(11, 0);
    assert_eq!(left().0, [true; 4], "a sweep of nothing");
    sweep(11, 100);
    assert_eq!(left(), (vec![false, true, true, true], vec![true; 5]));
    assert_eq!(store.journal(runs[0]), Ok(super::Journal::default()));
    sweep(35, 1);
    assert_eq!(left().0, [false, false, true, true], "at most as many as it is told");
    sweep(41, 100);
    assert_eq!(left(), (vec![false, false, false, true], vec![false, false, false, true, false]));
    put(store, vec![end(runs[3], RunState::Failed, NOW.after(Span::seconds(50)))]);
    sweep(70, 100);
    assert_eq!(left().0, [false, false, false, true], "a run is as old as its end");
    sweep(71, 100);
    assert_eq!(left(), (vec![false; 4], vec![false; 5]));
}

fn figures_tell_open_runs_and_the_largest_id(store: &dyn Store) {
    let figures = |store: &dyn Store| store.stats().map(|stats| (stats.unfinished, stats.largest_id));
    assert_eq!(figures(store), Ok((0, Id(0))));
    let row = begun(store);
    assert_eq!(figures(store), Ok((1, row.id)));
    put(store, vec![end(row.id, RunState::Completed, NOW)]);
    let event = event(Id(row.id.0 + 9));
    put(store, vec![Write::InsertEvent(event.clone())]);
    assert_eq!(figures(store), Ok((0, event.id)));
    put(store, vec![Write::Sweep { now: NOW.after(Span::seconds(1000)), keep: KEEP, most: 100 }]);
    assert_eq!(store.event(event.id), Ok(None));
    assert_eq!(figures(store), Ok((0, event.id)), "ids never go back, also when all rows are gone");
    assert_eq!(store.check(), Ok(Vec::new()));
    assert_eq!(store.fault(), None);
}

fn of_many_who_expect_one_revision_one_wins(store: Arc<dyn Store>) {
    const THREADS: usize = 4;
    const ROUNDS: u32 = 50;
    let row = begun(&*store);
    let threads: Vec<_> = (0..THREADS)
        .map(|at| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                let lane = if at % 2 == 0 { Lane::Steps } else { Lane::Ingest };
                let mut won = 0;
                for rev in 0..ROUNDS {
                    let list = List {
                        expect: vec![Expect::RunRev { run: row.id, rev }],
                        writes: vec![Write::Requeue { run: row.id, suspects: at as u32 }],
                    };
                    let verdicts = store.commit(lane, vec![list]).wait().expect("a commit");
                    won += usize::from(verdicts == [Ok(())]);
                    // What was answered is seen: either this list's change or the one that it lost to.
                    let seen = store.run(row.id).expect("a read").expect("the run");
                    assert!(seen.rev > rev, "revision {} after {rev}", seen.rev);
                }
                won
            })
        })
        .collect();
    let won: usize = threads.into_iter().map(|thread| thread.join().expect("a thread")).sum();
    assert_eq!(won, ROUNDS as usize);
}

fn what_is_written_twice_stops_the_store(store: &dyn Store) {
    let row = begun(store);
    put(store, vec![Write::Append { run: row.id, record: record(0, "a") }]);
    let twice = commit(store, vec![plain(vec![Write::Append { run: row.id, record: record(0, "b") }])]);
    assert!(matches!(twice, Err(StoreError::Corrupt(_))), "{twice:?}");
    assert!(matches!(commit(store, vec![plain(vec![start(row.id)])]), Err(StoreError::Corrupt(_))));
    assert!(matches!(store.fault(), Some(StoreError::Corrupt(_))));
    assert_eq!(store.journal(row.id).map(|journal| journal.records), Ok(vec![record(0, "a")]));
    reads_back(store, &row);
}
