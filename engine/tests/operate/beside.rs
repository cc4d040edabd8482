//! Another program that has the database open beside the engine, and does what Litestream does: it adds its tables, holds the log by a
//! read transaction, and brings it home itself.

use rusqlite::Connection;
use serde_json::json;

use super::{project, run_in, send};
use crate::program::{self, Server};

const CONFIG: &str = "version: 1\nevents: { app/note: {} }\nfunctions: { note: { on: app/note } }\n";
const NOTE: &str = "step(\"keep\", || event.data.n)\n";
/// As Litestream has them (https://litestream.io/how-it-works/).
const TABLES: &str = "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); CREATE TABLE _litestream_lock (id INTEGER); \
    INSERT INTO _litestream_seq VALUES (1, 1);";

#[test]
fn the_engine_goes_on_beside_a_program_that_holds_its_log_and_empties_it() {
    let folder = project(&[("events.yaml", CONFIG), ("handlers/note.rhai", NOTE)]);
    let command = |name: &str| {
        let mut command = program::command("stepwell", folder.path());
        command.env("STEPWELL_DATABASE", "app.db").arg(name);
        command
    };
    let server = Server::start(&mut command("run"));
    let note = |n: i64| {
        let event = send(&server, "app/note", json!({ "n": n }));
        run_in(&server, &event, "completed");
    };
    let open = || Connection::open(folder.path().join("app.db")).unwrap();
    let (writer, reader) = (open(), open());
    writer.execute_batch(TABLES).unwrap();
    let mut emptied = 0;
    for n in 0..5 {
        reader.execute_batch("BEGIN; SELECT count(*) FROM _litestream_seq").unwrap();
        note(n);
        writer.execute_batch("UPDATE _litestream_seq SET seq = seq + 1").unwrap();
        note(n);
        reader.execute_batch("ROLLBACK").unwrap();
        let is_busy: i64 = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
        emptied += i64::from(is_busy == 0);
    }
    assert!(emptied > 0, "the other program could empty the log");
    note(9);
    let seq: i64 = writer.query_row("SELECT seq FROM _litestream_seq", [], |row| row.get(0)).unwrap();
    drop((writer, reader));
    assert!(server.stop().0.success());
    let looked = command("doctor").output().unwrap();
    let printed = String::from_utf8_lossy(&looked.stdout);
    assert!(looked.status.success() && printed.contains("every page and index is sound"), "{printed}");
    let database = open();
    let count: i64 = database.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
    let kept: i64 = database.query_row("SELECT seq FROM _litestream_seq", [], |row| row.get(0)).unwrap();
    assert_eq!((count, kept), (11, seq), "its runs and the other one's tables are as they were");
}
