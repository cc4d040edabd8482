//! Rows that are put down several at once: when they are in their tables, and when they must not come there.

use super::super::apply::{Applier, HEADS};
use super::super::together::AT_ONCE;
use super::*;
use crate::base::Millis;
use crate::rules::{Expect, Record};

const NOW: Millis = conformance::NOW;

fn rows(connection: &Connection, table: &str) -> usize {
    let count: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count");
    count as usize
}

fn carry_out(applier: &mut Applier<'_>, writes: Vec<Write>) {
    assert_eq!(applier.carry_out(&plain(writes)), Ok(Ok(())));
}

/// A step's record as most are.
fn quick(run: RunId, index: u32) -> Write {
    Write::Append { run, record: Record { ended: NOW, ..record(index, "a") } }
}

#[test]
fn rows_are_kept_until_there_are_enough_or_somebody_may_ask() {
    let folder = folder();
    let (connection, _) = open::writer(&in_folder(&folder), Durability::Full).expect("a connection");
    let mut applier = Applier::new(&connection).expect("its statements");
    let ids = ids();
    connection.execute_batch("BEGIN").expect("a transaction");
    let mut runs = Vec::new();
    for number in 1..=AT_ONCE + 1 {
        let event = event(ids.next(NOW));
        let row = run(ids.next(NOW), event.id);
        runs.push(row.id);
        carry_out(&mut applier, vec![Write::InsertEvent(event), Write::CreateRun(row)]);
        let there = number / AT_ONCE * AT_ONCE;
        assert_eq!((rows(&connection, "events"), rows(&connection, "runs")), (there, there), "after {number}");
    }
    carry_out(&mut applier, vec![large(ids.next(NOW), 5_000)]);
    assert_eq!(rows(&connection, "events"), AT_ONCE + 1, "a large one is put down by itself");
    carry_out(&mut applier, vec![Write::Start { run: runs[AT_ONCE], at: NOW, version: Arc::from("v") }]);
    assert_eq!((rows(&connection, "events"), rows(&connection, "runs")), (AT_ONCE + 2, AT_ONCE + 1), "a start needs its run");
    let line = |n: usize| LogRow {
        at: NOW,
        level: LogLevel::Info,
        message: Arc::from(n.to_string()),
        data: (n > 0).then(|| Arc::from("1")),
        step: Arc::from(""),
    };
    for index in 0..=AT_ONCE {
        carry_out(&mut applier, vec![quick(runs[0], index as u32), Write::Log { run: runs[0], line: line(index) }]);
    }
    assert_eq!((rows(&connection, "steps"), rows(&connection, "logs")), (AT_ONCE, AT_ONCE));
    let sweep = Write::Sweep { now: NOW, keep: conformance::KEEP, most: 5 };
    carry_out(&mut applier, vec![sweep]);
    assert_eq!((rows(&connection, "steps"), rows(&connection, "logs")), (AT_ONCE + 1, AT_ONCE + 1), "a sweep deletes them");
    carry_out(&mut applier, vec![quick(runs[1], 0)]);
    assert_eq!(applier.finish(), Ok(()));
    assert_eq!(rows(&connection, "steps"), AT_ONCE + 2, "and whoever reads them reads what is committed");
}

#[test]
fn expectations_of_a_transaction_meet_its_rows() {
    let folder = folder();
    let store = open(&in_folder(&folder));
    let ids = ids();
    let event = event(ids.next(NOW));
    let row = run(ids.next(NOW), event.id);
    let (event_id, id) = (event.id, row.id);
    let start = Write::Start { run: id, at: NOW, version: Arc::from("v") };
    let end = Write::End { run: id, state: RunState::Completed, at: NOW, output: Some(Arc::from("3")), error: None, reason: None };
    let lists = vec![
        plain(vec![Write::InsertEvent(event), Write::CreateRun(row)]),
        List { expect: vec![Expect::EventStored(event_id), Expect::RunOpen(id)], writes: vec![start] },
        List { expect: vec![Expect::Running(id)], writes: vec![quick(id, 0), end] },
    ];
    assert_eq!(commit(&store, lists), Ok(vec![Ok(()); 3]));
    assert_eq!(store.run(id).map(|row| row.map(|row| row.state)), Ok(Some(RunState::Completed)));
    assert_eq!(store.journal(id).map(|journal| journal.records.len()), Ok(1));
}

#[test]
fn a_run_that_the_writer_has_forgotten_is_found_before_its_row_was_asked_for() {
    let folder = folder();
    let (connection, _) = open::writer(&in_folder(&folder), Durability::Full).expect("a connection");
    let mut applier = Applier::new(&connection).expect("its statements");
    let ids = ids();
    connection.execute_batch("BEGIN").expect("a transaction");
    // These are put down by themselves: so what is forgotten and what is put down do not end at the same run.
    const KEYED: usize = 3;
    let made: Vec<RunRow> = (0..HEADS + 2).map(|_| run(ids.next(NOW), ids.next(NOW))).collect();
    for (number, row) in made.iter().enumerate() {
        let keys: Arc<[Arc<str>]> = if number < KEYED { Arc::from([Arc::from("1")]) } else { Arc::from([]) };
        carry_out(&mut applier, vec![Write::CreateRun(RunRow { keys, ..row.clone() })]);
    }
    let kept = (HEADS + 2 - KEYED) % AT_ONCE;
    assert_eq!(rows(&connection, "runs"), HEADS + 2 - kept);
    // The last two are remembered.
    assert!(kept > 2, "{kept}");
    carry_out(&mut applier, vec![quick(made[HEADS - 1].id, 0)]);
    assert_eq!(applier.finish(), Ok(()));
    assert_eq!((rows(&connection, "runs"), rows(&connection, "steps")), (HEADS + 2, 1));
}

#[test]
fn rows_of_a_transaction_that_a_full_disk_took_back_do_not_come_with_the_next_one() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = Sqlite::open(&path, Options { most_pages: 200, ..Options::default() }).expect("a store");
    let ids = ids();
    const LISTS: usize = 50;
    let arrivals = || (0..LISTS).map(|_| plain(vec![large(ids.next(NOW), 1_000)])).collect::<Vec<List>>();
    let mut stored = 0;
    let full = loop {
        match commit(&store, arrivals()) {
            Ok(_) => stored += LISTS,
            Err(error) => break error,
        }
    };
    assert_eq!(full, StoreError::Full);
    let sweep = Write::Sweep { now: NOW.after(Span::seconds(1_000)), keep: conformance::KEEP, most: 20 };
    put(&store, vec![sweep]);
    put(&store, vec![large(ids.next(NOW), 1_000)]);
    let reader = open::reader(&path).expect("a reader");
    assert_eq!(rows(&reader, "events"), stored - 20 + 1);
}
