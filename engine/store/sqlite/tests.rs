//! SQLite is a store; what only a file can do; and whatever is done to it, it does as the oracle does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::super::conformance::dormant::Leaver;
use super::super::conformance::waits::{pin, wait};
use super::super::conformance::{self, commit, event, ids, plain, put, record, run};
use super::super::{Lane, RunQuery, Store, StoreError};
use super::*;
use crate::base::Id;
use crate::rules::row::LogLevel;
use crate::rules::{Dormant, Ending, EventRow, Kind, LogRow, RunRow, RunState, WaitRow, Write};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path, Options::default()).expect("a store")
}

fn in_folder(folder: &TempDir) -> PathBuf {
    folder.path().join("stepwell.db")
}

/// A file as a kill at this moment would leave it, in a folder of its own.
fn killed(path: &Path) -> (TempDir, PathBuf) {
    let copy = folder();
    let to = in_folder(&copy);
    for side in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{side}", path.display()));
        std::fs::copy(name(path), name(&to)).expect("a copy");
    }
    (copy, to)
}

/// An event of `bytes` bytes of data.
fn large(id: Id, bytes: usize) -> Write {
    Write::InsertEvent(EventRow { data: Arc::from(format!("\"{}\"", "x".repeat(bytes))), ..event(id) })
}

/// A store with so many events of so many bytes.
fn filled(path: &Path, events: usize, bytes: usize) -> Sqlite {
    let (store, ids) = (open(path), ids());
    put(&store, (0..events).map(|_| large(ids.next(conformance::NOW), bytes)).collect());
    store
}

fn refusal(path: &Path) -> OpenError {
    Sqlite::open(path, Options::default()).err().expect("a refusal")
}

#[test]
fn sqlite_is_a_store() {
    let folder = folder();
    let made = std::cell::Cell::new(0);
    conformance::exercise(&|| {
        made.set(made.get() + 1);
        Arc::new(open(&folder.path().join(format!("{}.db", made.get()))))
    });
}

#[test]
fn what_was_answered_outlives_a_kill() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = open(&path);
    let ids = ids();
    let first = event(ids.next(conformance::NOW));
    let row = run(ids.next(conformance::NOW), first.id);
    put(&store, vec![Write::InsertEvent(first.clone()), Write::CreateRun(row.clone())]);
    put(&store, vec![Write::Append { run: row.id, record: record(0, "a") }]);
    let (_copy, copied) = killed(&path);
    let again = open(&copied);
    assert_eq!(again.event(first.id), Ok(Some(first)));
    assert_eq!(again.run(row.id), Ok(Some(row.clone())));
    assert_eq!(again.journal(row.id).map(|journal| journal.records), Ok(vec![record(0, "a")]));
    assert_eq!(again.stats().expect("figures").end, Ending::Killed, "its owner did not close it");
    again.close().expect("a clean end");
    assert_eq!(again.fault(), None, "the check in the background found nothing");
    assert_eq!(open(&copied).stats().expect("figures").end, Ending::Clean, "now it was closed");
}

#[test]
fn the_lines_of_a_log_follow_each_other_whoever_wrote_the_first_ones() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = open(&path);
    let ids = ids();
    let first = event(ids.next(conformance::NOW));
    let row = run(ids.next(conformance::NOW), first.id);
    let line = |message: &str| LogRow {
        at: conformance::NOW,
        level: LogLevel::Call,
        message: Arc::from(message),
        data: None,
        step: Arc::from("a"),
    };
    let add = |store: &Sqlite, message: &str| put(store, vec![Write::Log { run: row.id, line: line(message) }]);
    put(&store, vec![Write::InsertEvent(first), Write::CreateRun(row.clone())]);
    add(&store, "1");
    add(&store, "2");
    let (_copy, copied) = killed(&path);
    let again = open(&copied);
    add(&again, "3");
    add(&again, "4");
    assert_eq!(again.logs(row.id, 0, 0), Ok(["1", "2", "3", "4"].map(line).to_vec()));
}

#[test]
fn closing_carries_out_what_was_queued_and_leaves_one_file() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = open(&path);
    let ids = ids();
    let tickets: Vec<_> =
        (0..500).map(|_| store.commit(Lane::Ingest, vec![plain(vec![Write::InsertEvent(event(ids.next(conformance::NOW)))])])).collect();
    store.close().expect("a clean end");
    for ticket in tickets {
        assert_eq!(ticket.wait(), Ok(vec![Ok(())]));
    }
    assert_eq!(commit(&store, vec![plain(vec![])]), Err(StoreError::Closed));
    assert_eq!(store.event(Id(1)), Err(StoreError::Closed));
    assert_eq!(store.close(), Ok(()));
    assert!(!folder.path().join("stepwell.db-wal").exists());
    let events = open(&path).events(&Default::default()).expect("a query");
    assert_eq!(events.len(), 500);
}

#[test]
fn a_second_owner_is_refused_with_the_first_ones_process() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = open(&path);
    assert_eq!(refusal(&path), OpenError::Locked { pid: std::process::id() });
    // Reading needs no ownership, and sees what is committed while it is open.
    let reader = Sqlite::open(&path, Options { read_only: true, ..Options::default() }).expect("a reader");
    let written = event(ids().next(conformance::NOW));
    put(&store, vec![Write::InsertEvent(written.clone())]);
    assert_eq!(reader.event(written.id), Ok(Some(written.clone())));
    assert_eq!(commit(&reader, vec![plain(vec![])]), Err(StoreError::Closed));
    drop(store);
    assert_eq!(reader.event(written.id), Ok(Some(written)));
    open(&path);
}

#[test]
fn only_the_owner_may_read_the_files() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = open(&path);
    let copy = folder.path().join("copy.db");
    store.backup(&copy, &mut |_, _| {}).expect("a copy");
    for entry in std::fs::read_dir(folder.path()).expect("the folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its data").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn what_is_not_ours_is_refused_and_left_alone() {
    let folder = folder();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "not a database, but long enough to be one ".repeat(100)).expect("a file");
    let before = std::fs::read(&garbage).expect("the file");
    assert_eq!(refusal(&garbage), OpenError::NotOurs);
    assert_eq!(std::fs::read(&garbage).expect("the file"), before);

    let foreign = folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).and_then(|db| db.execute_batch("CREATE TABLE t (a)")).expect("a database");
    let before = std::fs::read(&foreign).expect("the file");
    assert_eq!(refusal(&foreign), OpenError::NotOurs);
    assert_eq!(std::fs::read(&foreign).expect("the file"), before);

    let missing = folder.path().join("missing.db");
    let read_only = Options { read_only: true, ..Options::default() };
    assert_eq!(Sqlite::open(&missing, read_only).err(), Some(OpenError::Missing));
    assert!(!missing.exists());
}

/// Makes of a file of version 6 one of version 5.
const BACK_TO_5: &str = "DROP INDEX runs_dormant; PRAGMA user_version = 5;";
/// Makes of a file of version 5 one of version 4.
const BACK_TO_4: &str = "DROP INDEX waits_pinned; ALTER TABLE waits DROP COLUMN field; ALTER TABLE waits DROP COLUMN value;
    PRAGMA user_version = 4;";
/// Makes of a file of version 4 one of version 3, in which a function stands in one schedule.
const BACK_TO_3: &str =
    "CREATE TABLE one (function INTEGER PRIMARY KEY, schedule TEXT NOT NULL, last INTEGER NOT NULL, due INTEGER) STRICT;
    INSERT INTO one SELECT function, schedule, last, due FROM crons;
    DROP TABLE crons; ALTER TABLE one RENAME TO crons; PRAGMA user_version = 3;";
/// Makes of a file of version 3 one of version 2.
const BACK_TO_2: &str = "DROP INDEX runs_broken; PRAGMA user_version = 2;";

#[test]
fn a_file_of_an_older_version_is_brought_to_the_newest_with_all_that_it_holds() {
    let cron = |function: &str, schedule: &str, due| CronRow {
        function: Arc::from(function),
        schedule: Arc::from(schedule),
        last: conformance::NOW,
        due,
    };
    let (daily, never) = (cron("f", "0 7 * * * UTC", Some(conformance::NOW)), cron("g", "@weekly Europe/Berlin", None));
    let steps = [BACK_TO_5, BACK_TO_4, BACK_TO_3, BACK_TO_2];
    for (version, steps) in [(4, &steps[..2]), (3, &steps[..3]), (2, &steps[..])] {
        let folder = folder();
        let path = in_folder(&folder);
        let store = filled(&path, 10, 100);
        put(&store, vec![Write::PutCron(daily.clone()), Write::PutCron(never.clone())]);
        let row = run(ids().next(conformance::NOW.after(Span::seconds(1))), Id(1));
        let wait = |key: &str| WaitRow { pin: Some(pin("1 a x", 7)), ..wait(row.id, Kind::Wait, key) };
        let waits = [wait("a"), wait("b")];
        put(&store, vec![Write::CreateRun(row.clone()), Write::OpenWait(waits[0].clone()), Write::OpenWait(waits[1].clone())]);
        store.close().expect("a clean end");
        let db = rusqlite::Connection::open(&path).expect("the file");
        steps.iter().for_each(|step| db.execute_batch(step).expect("an older file"));
        db.close().expect("closed");
        let read_only = Options { read_only: true, ..Options::default() };
        assert_eq!(Sqlite::open(&path, read_only).err(), Some(OpenError::Older { found: version, known: open::VERSION }));
        let store = open(&path);
        assert_eq!(store.events(&EventQuery::default()).expect("events").len(), 10);
        assert_eq!(store.stats().expect("figures").version, open::VERSION);
        assert_eq!(store.crons(), Ok(vec![daily.clone(), never.clone()]));
        // What was open is open, and not found by its value before it is opened by this program.
        let unpinned = waits.clone().map(|row| WaitRow { pin: None, ..row });
        assert_eq!(store.waits(row.id), Ok(unpinned.to_vec()));
        let mut told = Vec::new();
        store.start_from(&mut |_| {}, &mut |row| told.push(row)).expect("a scan");
        assert_eq!((told, store.pinned_fields()), (unpinned.to_vec(), Ok(Vec::new())));
        // What only the newest knows: another schedule of the same function, and such a wait.
        let other = cron("f", "30 7 * * * UTC", None);
        put(&store, vec![Write::PutCron(other.clone()), Write::OpenWait(waits[0].clone())]);
        assert_eq!(store.crons(), Ok(vec![daily.clone(), other, never.clone()]));
        assert_eq!(store.pinned("1 a x", 7), Ok(vec![waits[0].clone()]));
    }
}

#[test]
fn runs_that_few_are_like_are_found_by_an_index() {
    let folder = folder();
    let store = open(&in_folder(&folder));
    let plan = |states: &[RunState]| {
        let query = RunQuery { states: states.to_vec(), limit: 50, ..RunQuery::default() };
        store.readers.plan(&query).expect("a plan")
    };
    for states in [&[RunState::Failed][..], &[RunState::Cancelled], &[RunState::Failed, RunState::Cancelled]] {
        assert!(plan(states).contains("runs_broken"), "{states:?}: {}", plan(states));
    }
    assert!(plan(&[RunState::Parked, RunState::Queued]).contains("runs_open"));
    assert!(!plan(&[RunState::Failed, RunState::Completed]).contains("runs_broken"));
}

#[test]
fn a_log_that_was_left_is_copied_before_anything_is_added_to_it() {
    let folder = folder();
    let store = open(&in_folder(&folder));
    let left = event(ids().next(conformance::NOW));
    put(&store, vec![Write::InsertEvent(left.clone())]);
    let (_copy, path) = killed(&in_folder(&folder));
    let _next = open(&path);
    // The main file, without its log.
    let alone = self::folder();
    std::fs::copy(&path, in_folder(&alone)).expect("a copy");
    assert_eq!(open(&in_folder(&alone)).event(left.id), Ok(Some(left)));
}

/// Fails where a statement makes a table of its own at each use, with a cache of pages for it: `INSERT … SELECT` from its own table does,
/// and `RETURNING`.
pub(super) fn makes_no_table_of_its_own(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    let mut explained = connection.prepare(&format!("EXPLAIN {text}"))?;
    let mut operations = explained.raw_query();
    while let Some(operation) = operations.next()? {
        let name: String = operation.get(1)?;
        assert!(!name.starts_with("OpenEphemeral"), "a statement of the writer makes a table: {text}");
    }
    Ok(())
}

#[test]
fn waits_are_found_and_left_out_by_an_index() {
    let folder = folder();
    let _store = open(&in_folder(&folder));
    let db = open::reader(&in_folder(&folder)).expect("a reader");
    let plan = |sql: &str, values: Vec<rusqlite::types::Value>| {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a question");
        let rows = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).expect("a plan");
        rows.collect::<Result<Vec<_>, _>>().expect("its lines")
    };
    let by_pin = ["SEARCH waits USING INDEX waits_pinned (field=? AND value=?)"];
    for which in [Which::Unpinned, Which::Pinned(1, 2)] {
        let (sql, values) = which.sql();
        assert_eq!(plan(&sql, values), by_pin, "nothing is sorted: {sql}");
    }
    let fields = plan(waits::NEXT_FIELD, vec![rusqlite::types::Value::Integer(0)]);
    assert_eq!(fields, ["SEARCH waits USING COVERING INDEX waits_pinned (field>?)"]);
}

#[test]
fn a_newer_file_is_refused_clearly() {
    let folder = folder();
    let path = in_folder(&folder);
    drop(open(&path));
    let db = rusqlite::Connection::open(&path).expect("the file");
    db.pragma_update(None, "user_version", open::VERSION + 1).expect("a version");
    db.close().expect("closed");
    let newer = OpenError::Newer { found: i64::from(open::VERSION) + 1, known: open::VERSION };
    assert_eq!(refusal(&path), newer);
    assert_eq!(Sqlite::open(&path, Options { read_only: true, ..Options::default() }).err(), Some(newer));
}

#[test]
fn a_truncated_file_is_called_corrupt() {
    let folder = folder();
    let path = in_folder(&folder);
    drop(filled(&path, 100, 1_000));
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
    file.set_len(file.metadata().expect("its length").len() / 2).expect("a shorter file");
    assert!(matches!(refusal(&path), OpenError::Corrupt(_)), "{:?}", refusal(&path));
}

#[test]
fn a_header_of_a_format_that_is_not_known_is_called_corrupt() {
    let folder = folder();
    let path = in_folder(&folder);
    open(&path).close().expect("a clean end");
    let bytes = std::fs::read(&path).expect("the file");
    // The write version (https://sqlite.org/fileformat.html, 1.3.3), of which 1 and 2 are known: with another one it is only read. And
    // the format of the schema (1.3.10), of which 1 to 4 are known.
    for at in [18, 47] {
        let mut bytes = bytes.clone();
        bytes[at] = 77;
        std::fs::write(&path, bytes).expect("a damaged file");
        assert!(matches!(refusal(&path), OpenError::Corrupt(_)), "byte {at}: {:?}", refusal(&path));
    }
}

#[test]
fn a_schema_that_does_not_fit_is_called_corrupt() {
    let folder = folder();
    let path = in_folder(&folder);
    open(&path).close().expect("a clean end");
    let file = rusqlite::Connection::open(&path).expect("the file");
    file.execute_batch("ALTER TABLE runs RENAME COLUMN output TO outpvt").expect("a change");
    drop(file);
    let store = open(&path);
    assert!(matches!(commit(&store, vec![plain(vec![])]), Err(StoreError::Corrupt(_))));
    assert!(matches!(store.fault(), Some(StoreError::Corrupt(_))));
    assert!(matches!(store.runs(&Default::default()), Err(StoreError::Corrupt(_))));
    assert!(matches!(store.close(), Err(StoreError::Corrupt(_))));
}

#[test]
fn a_page_that_went_bad_is_named() {
    let folder = folder();
    let path = in_folder(&folder);
    filled(&path, 100, 1_000).close().expect("a clean end");
    let mut bytes = std::fs::read(&path).expect("the file");
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, bytes).expect("a damaged file");
    let store = open(&path);
    assert!(!store.check().expect("a check").is_empty());
    assert!(matches!(store.events(&Default::default()), Err(StoreError::Corrupt(_))));
    // After an unclean end it is found without being asked.
    let (_copy, copied) = killed(&path);
    let again = open(&copied);
    while again.fault().is_none() {
        std::thread::yield_now();
    }
    assert!(matches!(again.fault(), Some(StoreError::Corrupt(_))));
    assert!(matches!(commit(&again, vec![plain(vec![])]), Err(StoreError::Corrupt(_))));
}

#[test]
fn a_file_that_was_deleted_or_replaced_is_noticed() {
    let folder = folder();
    for replace in [false, true] {
        let path = folder.path().join(format!("{replace}.db"));
        let store = open(&path);
        put(&store, vec![Write::InsertEvent(event(ids().next(conformance::NOW)))]);
        std::fs::remove_file(&path).expect("a file to delete");
        if replace {
            std::fs::write(&path, "something else").expect("another file");
        }
        while store.fault().is_none() {
            std::thread::yield_now();
        }
        assert!(matches!(commit(&store, vec![plain(vec![])]), Err(StoreError::Io(_))));
        assert!(matches!(store.close(), Err(StoreError::Io(_))));
    }
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = Sqlite::open(&path, Options { most_pages: 200, ..Options::default() }).expect("a store");
    let ids = ids();
    let mut stored = Vec::new();
    let full = loop {
        let id = ids.next(conformance::NOW);
        match commit(&store, vec![plain(vec![large(id, 50_000)])]) {
            Ok(verdicts) => {
                assert_eq!(verdicts, [Ok(())]);
                stored.push(id);
            }
            Err(error) => break (id, error),
        }
    };
    assert_eq!(full.1, StoreError::Full);
    assert_eq!(store.event(full.0), Ok(None), "nothing of it is stored");
    assert_eq!(store.fault(), None);
    let many = (0..10).map(|_| plain(vec![large(ids.next(conformance::NOW), 50_000)])).collect();
    assert_eq!(commit(&store, many), Err(StoreError::Full), "one for all");
    // What needs no room goes on, and makes room.
    let sweep = Write::Sweep { now: conformance::NOW.after(Span::seconds(1_000)), keep: conformance::KEEP, most: 5 };
    put(&store, vec![sweep]);
    put(&store, vec![large(full.0, 50_000)]);
    let left = store.events(&Default::default()).expect("a query");
    assert_eq!(left.len(), stored.len() - 5 + 1);
    assert_eq!(store.check(), Ok(Vec::new()));
}

#[test]
fn many_open_runs_come_in_order_and_a_damaged_one_is_told() {
    let folder = folder();
    let store = open(&in_folder(&folder));
    let ids = ids();
    let runs: Vec<Id> = (0..3_000).map(|_| ids.next(crate::base::Millis(0))).collect();
    let writes = runs.iter().map(|id| Write::CreateRun(run(*id, *id))).collect();
    put(&store, writes);
    let mut found = Vec::new();
    store.unfinished(&mut |row| found.push(row.id)).expect("a scan");
    assert_eq!(found, runs);
    drop(store);
    let file = rusqlite::Connection::open(in_folder(&folder)).expect("the file");
    file.execute("UPDATE runs SET state = 99 WHERE id = ?1", [runs[2_500].0]).expect("a change");
    drop(file);
    let store = open(&in_folder(&folder));
    assert!(matches!(store.unfinished(&mut |_| {}), Err(StoreError::Corrupt(_))));
    assert!(matches!(store.start_from(&mut |_| {}, &mut |_| {}), Err(StoreError::Corrupt(_))));
}

#[test]
fn an_engine_is_given_every_open_run_whether_most_around_it_have_ended_or_none() {
    let folder = folder();
    let store = open(&in_folder(&folder));
    let ids = ids();
    // Open ones, then more and more ended ones between them, then open ones again, with one that has ended at the end.
    let is_open = |at: usize| match at {
        0..500 => true,
        500..8_000 => at.is_multiple_of(3),
        8_000..8_200 => at == 8_100,
        _ => at < 9_999,
    };
    let row = |at: usize| {
        let row = run(ids.next(conformance::NOW), Id(1));
        if is_open(at) { row } else { RunRow { state: RunState::Completed, ended: Some(conformance::NOW), ..row } }
    };
    let rows: Vec<RunRow> = (0..10_000).map(row).collect();
    put(&store, rows.iter().cloned().map(Write::CreateRun).collect());
    let mut found = Vec::new();
    store.start_from(&mut |row| found.push(row), &mut |_| {}).expect("a scan");
    let open: Vec<RunRow> = rows.iter().filter(|row| !row.state.is_terminal()).cloned().collect();
    assert_eq!(found.len(), open.len());
    assert!(found == open, "in order, and each once");
    // The same of what an engine leaves: all but one of a hundred of those that sleep, which are two of three.
    let sleeping = rows.iter().enumerate().filter(|(at, row)| at % 3 > 0 && !row.state.is_terminal());
    let sleeping: Vec<Id> = sleeping.map(|(_, row)| row.id).collect();
    let suspend = |run: &Id| Write::Suspend { run: *run, state: RunState::Sleeping, wake: None, attempt: 1, error: None };
    put(&store, sleeping.iter().map(suspend).collect());
    let mut leaver = Leaver::new(|run: &Dormant| run.run.0 % 100 > 0);
    store.start_from(&mut leaver, &mut |_| {}).expect("a scan");
    assert!(leaver.told.iter().map(|run| run.run).eq(sleeping.iter().copied()), "in order, and each once");
    let is_taken = |row: &&RunRow| row.id.0 % 100 == 0 || sleeping.binary_search(&row.id).is_err();
    assert!(leaver.taken.iter().map(|row| row.id).eq(open.iter().filter(is_taken).map(|row| row.id)), "in order, and each once");
}

#[test]
fn a_backup_under_load_is_whole() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = Arc::new(open(&path));
    let ids = Arc::new(ids());
    put(&*store, (0..200).map(|_| large(ids.next(conformance::NOW), 20_000)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (store, ids, stop) = (Arc::clone(&store), Arc::clone(&ids), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                put(&*store, vec![large(ids.next(conformance::NOW), 2_000)]);
            }
        })
    };
    let copy = folder.path().join("copy.db");
    let mut told = Vec::new();
    store.backup(&copy, &mut |done, all| told.push((done, all))).expect("a copy");
    stop.store(true, Ordering::SeqCst);
    load.join().expect("the load");
    let (done, all) = *told.last().expect("progress");
    assert_eq!(done, all);
    assert!(matches!(store.backup(&copy, &mut |_, _| {}), Err(StoreError::Io(_))), "nothing is written over");
    let copied = open(&copy);
    assert_eq!(copied.stats().expect("figures").end, Ending::Clean);
    assert_eq!(copied.check(), Ok(Vec::new()));
    let events = copied.events(&Default::default()).expect("a query");
    assert!(events.len() >= 200 && events.windows(2).all(|pair| pair[0].id > pair[1].id));
    // A copy is of one moment: the events are those up to some id, without a gap.
    assert_eq!(store.events(&super::super::EventQuery { to: Some(events[0].id), ..Default::default() }), Ok(events));
}

#[test]
fn questions_in_sql_cannot_change_anything() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = open(&path);
    let ids = ids();
    let id = ids.next(conformance::NOW);
    put(&store, vec![Write::InsertEvent(event(id))]);
    let row = run(ids.next(conformance::NOW), id);
    put(&store, vec![Write::CreateRun(row.clone()), Write::Append { run: row.id, record: record(0, "a") }]);
    let table = query_readonly(&path, "SELECT id, data ->> 'userId' AS user, sender_id FROM events").expect("an answer");
    assert_eq!(table.columns, ["id", "user", "sender_id"]);
    assert_eq!(table.rows, [[Datum::Text(id.to_string()), Datum::Text("u1".to_owned()), Datum::Null]]);
    let sql = "SELECT runs.id, function, state, event, created, kind, result, line FROM runs JOIN steps ON run = runs.id";
    let shown =
        [&row.id.to_string(), "charge", "queued", &id.to_string(), &conformance::NOW.rfc3339(), "step", "1", "handlers/charge.rhai:7"];
    assert_eq!(query_readonly(&path, sql).map(|table| table.rows), Ok(vec![shown.map(|text| Datum::Text(text.to_owned())).to_vec()]));
    let table = query_readonly(&path, "SELECT id, data FROM main.events").expect("an answer");
    assert_eq!(table.rows, [[Datum::Number(id.0.to_string()), Datum::Text(r#"{"userId":"u1"}"#.to_owned())]]);
    for view in ["attempts", "logs"] {
        assert_eq!(query_readonly(&path, &format!("SELECT * FROM {view}")).map(|table| table.rows), Ok(Vec::new()));
    }
    let changing =
        ["DELETE FROM main.events", "ATTACH 'x.db' AS x", "PRAGMA journal_mode = delete", "BEGIN", "VACUUM", "PRAGMA query_only = 0"];
    for statement in changing {
        assert_eq!(query_readonly(&path, statement), Err(QueryError::NotReading), "{statement}");
    }
    for statement in ["", "SELEC 1", "DELETE FROM events", "SELECT 1; DELETE FROM events", "SELECT * FROM nothing"] {
        assert!(matches!(query_readonly(&path, statement), Err(QueryError::Sql(_))), "{statement}");
    }
    assert_eq!(query_readonly(&folder.path().join("none.db"), "SELECT 1"), Err(QueryError::Open(OpenError::Missing)));
    assert_eq!(store.events(&Default::default()).map(|events| events.len()), Ok(1));
}

#[test]
fn a_slow_disk_lets_commits_share_a_flush() {
    let folder = folder();
    let store = Sqlite::open(&in_folder(&folder), Options { flush_delay: Span(20), ..Options::default() }).expect("a store");
    let ids = ids();
    let created = event(ids.next(conformance::NOW));
    let row = run(ids.next(conformance::NOW), created.id);
    put(&store, vec![Write::InsertEvent(created), Write::CreateRun(row.clone())]);
    let tickets: Vec<_> = (0..50)
        .map(|index| {
            let lane = if index % 2 == 0 { Lane::Steps } else { Lane::Ingest };
            let append = Write::Append { run: row.id, record: record(index, "a") };
            store.commit(lane, vec![plain(vec![append])])
        })
        .collect();
    for ticket in tickets {
        assert_eq!(ticket.wait(), Ok(vec![Ok(())]));
    }
    assert_eq!(store.journal(row.id).map(|journal| journal.records.len()), Ok(50));
    let queued = RunQuery { states: vec![RunState::Queued], ..RunQuery::default() };
    assert_eq!(store.runs(&queued), Ok(vec![row]));
    let figures = store.figures();
    let flushes = figures.lists.count();
    assert_eq!((figures.lists.sum, figures.held_up), (51, flushes), "each flush was held up");
    assert!(flushes < 51, "no two commits have shared a flush");
}

#[test]
fn a_database_fits_its_budget_of_bytes() {
    let folder = folder();
    let path = in_folder(&folder);
    let store = open(&path);
    let ids = ids();
    const RUNS: usize = 5_000;
    for _ in 0..RUNS / 50 {
        let lists = (0..50).map(|_| plain(life(&ids))).collect();
        assert_eq!(commit(&store, lists), Ok(vec![Ok(()); 50]));
    }
    store.close().expect("a clean end");
    let bytes = std::fs::metadata(&path).expect("the file").len() as usize / RUNS;
    assert!(bytes <= 700, "{bytes} bytes for an event with a run of three steps");
}

/// The life of a run: its event, its start, three steps and its end.
fn life(ids: &crate::base::IdMaker) -> Vec<Write> {
    let now = conformance::NOW;
    let event = EventRow {
        data: Arc::from(r#"{"userId":"user-12345","amount":1250,"currency":"EUR","order":"2026-000123"}"#),
        ..event(ids.next(now))
    };
    let row = crate::rules::RunRow { keys: Arc::from([Arc::from("\"user-12345\"")]), ..run(ids.next(now), event.id) };
    let id = row.id;
    let mut writes = vec![Write::InsertEvent(event), Write::CreateRun(row)];
    writes.push(Write::Start { run: id, at: now, version: Arc::from("3f786850e387550fdab836ed7e6dc881de23001b") });
    for (index, key) in ["charge-card", "send-mail", "audit"].into_iter().enumerate() {
        writes.push(Write::Append { run: id, record: record(index as u32, key) });
    }
    let output: Option<crate::base::Json> = Some(Arc::from(r#"{"status":"paid","charge":"ch_1"}"#));
    writes.push(Write::End { run: id, state: RunState::Completed, at: now, output, error: None, reason: None });
    writes
}

mod oracle;
mod together;
