//! Bytes that flip while nobody looks. What SQLite can see (its structure; a value's text it cannot) the engine must not
//! serve in silence: it ends with exit 74 and says what to do.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use rustix::process::Signal;

use super::post_to;
use crate::cli::support::{Engine, Place};

/// Files that are damaged.
const FILES: u64 = 60;
/// Events in the file; enough that it has pages of every kind.
const EVENTS: usize = 300;
const PAGE_BYTES: u64 = 4096;

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
    let pages = whole.len() as u64 / PAGE_BYTES;
    let (mut refused, mut served) = (0, 0);
    for number in 0..FILES {
        let mut bytes = whole.clone();
        // The first page, which holds the header and the schema, more often than chance would have it.
        let page = if number % 6 == 0 { 0 } else { below(pages) };
        // A few bytes, or a whole sector of them; most of what matters of a page is at its beginning.
        let (from, count) = if number % 3 == 0 { (below(PAGE_BYTES / 512) * 512, 512) } else { (below(64), 1 + below(8)) };
        for at in page * PAGE_BYTES + from..(page * PAGE_BYTES + from + count).min(whole.len() as u64) {
            bytes[at as usize] ^= 1 + below(255) as u8;
        }
        let name = format!("flipped-{number}.db");
        std::fs::write(place.path(&name), bytes).unwrap();
        let sound = is_sound(&place.path(&name));
        let what = format!("{count} bytes from {from} on of page {page}, seed {seed}");
        let (code, said) = match start(&place, &name) {
            Ok(mut engine) if sound => {
                // It is served; what the bytes were is no business of SQLite's.
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
    println!("{refused} refused, {served} served");
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}
