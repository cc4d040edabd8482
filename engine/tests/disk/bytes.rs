//! Bytes that flip while nobody looks. What SQLite can see (its structure; a value's text it cannot) the engine must not
//! serve in silence: it ends with exit 74 and says what to do.
//!
//! There are no checksums, so a value that is another one now is served as such, or is an error where it is none that could have been
//! written. All else has to be answered as before: of each event and run it is compared what SQLite itself reads of their rows.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use rusqlite::types::ValueRef;
use rustix::process::Signal;
use serde_json::Value;
use stepwell::base::Id;

use super::{get_from, post_to};
use crate::cli::support::{Engine, Place};

/// Files that are damaged.
const FILES: u64 = 60;
/// Events in the file; enough that it has pages of every kind.
const EVENTS: usize = 300;
const PAGE_BYTES: u64 = 4096;
/// Of the questions about what is as it was, each of so many is asked.
const ONE_OF: usize = 7;

/// A database that an engine has left behind when it was killed, copied together from file and log.
fn database() -> (Place, Vec<u8>) {
    let place = Place::hello();
    place.write("events.yaml", "version: 1\nevents: { n/sent: {} }\nfunctions: { one: { on: n/sent }, nap: { on: n/sent } }\n");
    place.write("handlers/one.rhai", "step(\"one\", || event.data)\n");
    place.write("handlers/nap.rhai", "sleep(\"5d\");\n");
    let mut engine = start(&place, "whole.db").unwrap_or_else(|(code, said)| panic!("{code}: {said}"));
    let event = |n: usize| format!(r#"{{"name":"n/sent","data":{{"n":{n},"text":"{}"}}}}"#, "x".repeat(n));
    let events: Vec<String> = (0..EVENTS).map(event).collect();
    let sent = post_to(engine.url.trim_start_matches("http://"), &format!("[{}]", events.join(",")));
    assert_eq!(sent.map(|(status, _)| status), Some(200));
    let sleeping = || place.ask(&engine, &["runs", "ls", "--status", "sleeping", "--limit", "5000", "--json"]).exits(0);
    while sleeping().json().as_array().unwrap().len() < EVENTS {}
    let completed = || place.ask(&engine, &["runs", "ls", "--status", "completed", "--limit", "5000", "--json"]).exits(0);
    while completed().json().as_array().unwrap().len() < EVENTS {}
    engine.signal(Signal::KILL);
    engine.exit_code();
    // Everything into one file, still marked as open: the next engine has to look through it.
    let connection = rusqlite::Connection::open(place.path("whole.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    connection.pragma_update(None, "journal_mode", "delete").unwrap();
    drop(connection);
    let bytes = std::fs::read(place.path("whole.db")).unwrap();
    (place, bytes)
}

fn start(place: &Place, database: &str) -> Result<Engine, (i32, String)> {
    let mut command = place.command();
    command.args(["run", "--listen", "127.0.0.1:0", "--database", database]);
    Engine::try_start(command)
}

/// What SQLite itself says: as the engine asks in the background, without comparing indices with their tables.
fn is_sound(path: &Path) -> bool {
    let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0)).is_ok_and(|said| said == "ok")
}

/// The rows of a file as SQLite reads them, each with the numbers that stand in it.
type Rows = HashMap<String, Vec<i64>>;

/// None where the indices do not fit the tables: then it hangs on the way to a row whether it is found.
fn rows(path: &Path) -> rusqlite::Result<Option<Rows>> {
    let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    if connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))? != "ok" {
        return Ok(None);
    }
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut rows = Rows::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let values = (0..columns).map(|column| row.get_ref(column)).collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
            let numbers = values.iter().filter_map(|value| if let ValueRef::Integer(number) = value { Some(*number) } else { None });
            rows.insert(format!("{table} {values:?}"), numbers.collect());
        }
    }
    Ok(Some(rows))
}

/// The numbers in rows that are not as they were, the ids among them; none where such a row may concern any other one.
fn changed(before: &Rows, now: &Rows) -> Option<HashSet<i64>> {
    let mut numbers = HashSet::new();
    let gone = before.iter().filter(|(row, _)| !now.contains_key(*row));
    let come = now.iter().filter(|(row, _)| !before.contains_key(*row));
    for (row, of_row) in gone.chain(come) {
        if !["events ", "runs ", "steps "].iter().any(|table| row.starts_with(table)) {
            return None;
        }
        numbers.extend(of_row);
    }
    Some(numbers)
}

/// A question, the ids that its answer is about, and what was answered before anything flipped.
struct Question {
    path: String,
    about: Vec<i64>,
    before: (u16, Value),
}

/// An answer's status and data without what hangs on the moment; none where the engine has ended. It is an answer or an error.
fn answer(address: &str, path: &str) -> Option<(u16, Value)> {
    let (status, body) = get_from(address, path)?;
    assert!([200, 404, 503].contains(&status), "{path}: {status} {body}");
    let mut answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {status} {body}"));
    let mut data = answer["data"].take();
    // It says for how long a run still sleeps.
    if let Some(run) = data.get_mut("run").and_then(Value::as_object_mut) {
        run.remove("why");
    }
    Some((status, data))
}

/// The file as it was: its rows, and what an engine answers of each event and run.
struct Whole {
    rows: Rows,
    questions: Vec<Question>,
}

impl Whole {
    /// Starts an engine on a copy, which may change it.
    fn ask(place: &Place, bytes: &[u8]) -> Whole {
        std::fs::write(place.path("asked.db"), bytes).unwrap();
        let rows = rows(&place.path("asked.db")).unwrap().expect("the file is sound");
        let mut engine = start(place, "asked.db").unwrap_or_else(|(code, said)| panic!("{code}: {said}"));
        let address = engine.url.trim_start_matches("http://");
        let (_, runs) = answer(address, "/v1/runs?limit=1000").unwrap();
        let id = |text: &str| text.parse::<Id>().unwrap().0;
        let mut questions = Vec::new();
        for row in runs.as_array().unwrap() {
            let [run, event, function] = ["run_id", "event_id", "function_id"].map(|name| row[name].as_str().unwrap());
            let mut ask = |path: String, about: Vec<i64>| {
                let before = answer(address, &path).unwrap();
                questions.push(Question { path, about, before });
            };
            ask(format!("/v1/runs/{run}/trace"), vec![id(run), id(event)]);
            // It has two runs.
            if function == "one" {
                ask(format!("/v1/events/{event}"), vec![id(event)]);
            }
        }
        assert_eq!(questions.len(), 3 * EVENTS);
        engine.signal(Signal::TERM);
        assert_eq!(engine.exit_code(), 0);
        Whole { rows, questions }
    }

    /// Asks an engine on a file that has these rows now, until it has ended or has answered and taken an event: what is about rows
    /// that are as they were is answered as before. Gives how many answers were other ones.
    fn is_served_by(&self, engine: &Engine, now: Option<&Rows>, what: &str) -> usize {
        let address = engine.url.trim_start_matches("http://");
        let changed = now.and_then(|now| changed(&self.rows, now));
        let mut others = 0;
        for (number, Question { path, about, before }) in self.questions.iter().enumerate() {
            let is_harmed = changed.as_ref().is_some_and(|changed| about.iter().any(|id| changed.contains(id)));
            if !is_harmed && !number.is_multiple_of(ONE_OF) {
                continue;
            }
            let Some(found) = answer(address, path) else { return others };
            assert!(
                found == *before || is_harmed || changed.is_none(),
                "{what}: {path} is about rows that are as they were; before: {before:?}, now: {found:?}"
            );
            others += usize::from(found != *before);
            // The page of the run, where it is one.
            if is_harmed && let Some(run) = path.strip_prefix("/v1/runs/").and_then(|path| path.strip_suffix("/trace")) {
                let Some((status, page)) = get_from(address, &format!("/runs/{run}")) else { return others };
                assert!(status == 200 || status >= 400, "{what}: {status} {page}");
            }
        }
        for list in ["/v1/runs", "/v1/events"] {
            if answer(address, list).is_none() {
                return others;
            }
        }
        let sent = post_to(address, r#"{"name":"n/sent","data":{"n":0}}"#);
        assert!(sent.as_ref().is_none_or(|(status, _)| [200, 503].contains(status)), "{what}: {sent:?}");
        others
    }
}

#[test]
fn flipped_bytes_are_named_or_do_no_harm() {
    let seed = std::env::var("STEPWELL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("seed {seed}; STEPWELL_SEED={seed} flips the same bytes again");
    let mut state = seed;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let (place, whole) = database();
    let asked = Whole::ask(&place, &whole);
    let pages = whole.len() as u64 / PAGE_BYTES;
    let (mut refused, mut served, mut others) = (0, 0, 0);
    for number in 0..FILES {
        let mut bytes = whole.clone();
        // The first page, which holds the header and the schema, more often than chance would have it.
        let page = if number % 6 == 0 { 0 } else { below(pages) };
        // A whole sector, or a few bytes: where most of what matters of a page is, at its beginning, or anywhere, which are mostly values.
        let (from, count) = match number % 3 {
            0 => (below(PAGE_BYTES / 512) * 512, 512),
            1 => (below(64), 1 + below(8)),
            _ => (below(PAGE_BYTES), 1 + below(3)),
        };
        for at in page * PAGE_BYTES + from..(page * PAGE_BYTES + from + count).min(whole.len() as u64) {
            bytes[at as usize] ^= 1 + below(255) as u8;
        }
        let name = format!("flipped-{number}.db");
        std::fs::write(place.path(&name), bytes).unwrap();
        let sound = is_sound(&place.path(&name));
        // One that cannot be read to its end is compared with nothing.
        let now = rows(&place.path(&name)).unwrap_or(None);
        let what = format!("{count} bytes from {from} on of page {page}, seed {seed}");
        let (code, said) = match start(&place, &name) {
            Ok(mut engine) if sound => {
                others += asked.is_served_by(&engine, now.as_ref(), &what);
                engine.signal(Signal::TERM);
                engine.last_words()
            }
            // The check in the background finds it, if nothing else does before.
            Ok(mut engine) => engine.last_words(),
            Err(ended) => ended,
        };
        assert!(!said.contains("panicked"), "{what}: {said}");
        match code {
            0 if sound => served += 1,
            74 => {
                refused += 1;
                assert!(
                    said.contains("corrupt") || said.contains("not a database of this engine") || said.contains("version"),
                    "{what}: {said}"
                );
            }
            _ => panic!("exit {code} (sound: {sound}), {what}: {said}"),
        }
        let doctor = place.run(&["doctor", "--database", &name]);
        assert!(sound || doctor.code == 74 || doctor.code == 1, "{what}: {} {}{}", doctor.code, doctor.out, doctor.err);
    }
    println!("{refused} refused, {served} served, of which {others} answers were not as before");
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}
