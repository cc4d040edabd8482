//! The disk that fails under a real engine: flushes that are refused, space that runs out and comes back, files that are
//! not what they should be. strace (installed by scripts/test) makes the system calls fail.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::program::{Server, command, repository, stepwell};

/// The hello example in a folder of its own.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    crate::program::copy(&repository().join("examples/hello"), &[], folder.path());
    folder
}

/// `stepwell run` whose calls of these kinds fail as strace is told.
fn with_faults(folder: &Path, calls: &str, how: &str) -> Command {
    let mut traced = command("strace", folder);
    // With -D the engine itself is our child, and gets our signals.
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{how}")]);
    traced.args(["stepwell", "run"]);
    traced
}

/// Sends one event; the status and the body of the answer, none where the connection failed.
fn post(server: &Server, name: &str) -> Option<(u16, String)> {
    let body = format!(r#"{{"name":"hello/said","data":{{"name":"{name}"}}}}"#);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).ok()?;
    let head = format!(
        "POST /e/k HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        server.port,
        body.len()
    );
    stream.write_all((head + body.as_str()).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()))
}

/// The id in an answer to one event.
fn id(body: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(body).unwrap();
    answer["ids"][0].as_str().unwrap().to_owned()
}

#[test]
fn a_failed_flush_ends_the_engine_and_nothing_is_answered_after_it() {
    let folder = project();
    let server = Server::start(&mut with_faults(folder.path(), "fdatasync,fsync", "error=EIO:when=30+"));
    let mut accepted = Vec::new();
    let mut refused = false;
    // Every event needs a flush, so the thirtieth flush comes soon.
    while let Some((status, body)) = post(&server, "Ann") {
        match status {
            200 => {
                assert!(!refused, "a 200 after a refusal: the disk is not to be trusted any more");
                accepted.push(id(&body));
            }
            _ => refused = true,
        }
        assert!(accepted.len() < 1_000, "the flush was never refused");
    }
    let (status, printed) = server.wait();
    assert_eq!(status.code(), Some(74), "{printed}");
    assert!(printed.contains("the disk failed"), "{printed}");
    assert!(!accepted.is_empty(), "{printed}");

    let again = Server::start(command("stepwell", folder.path()).arg("run"));
    for id in accepted {
        let found = stepwell(folder.path(), ["events", "get", &id, "--json", "--url", &again.url()]);
        assert_eq!(found.exit, 0, "event {id} was answered and is not there: {}", found.stderr);
    }
}

#[test]
fn a_full_disk_refuses_events_and_goes_on_by_itself_when_there_is_room() {
    let folder = project();
    let server = Server::start(&mut with_faults(folder.path(), "pwrite64", "error=ENOSPC:when=120..160"));
    let mut accepted = Vec::new();
    let mut full = 0;
    loop {
        let (status, body) = post(&server, "Ann").expect("the engine lives");
        match status {
            200 => accepted.push(id(&body)),
            507 => {
                full += 1;
                assert!(body.contains("full"), "{body}");
            }
            _ => panic!("{status}: {body}"),
        }
        assert!(accepted.len() + full < 2_000, "the disk was never full");
        if full > 0 && status == 200 {
            break;
        }
    }
    // Also the runs whose checkpoints met the full disk come to their end.
    for id in &accepted {
        let until = |state: &str| {
            let listed = stepwell(folder.path(), ["runs", "ls", "--event", id, "--json", "--url", &server.url()]);
            listed.stdout.contains(&format!("\"state\":\"{state}\""))
        };
        while !until("completed") {
            assert!(!until("failed") && !until("parked"), "the run of {id}");
        }
    }
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    let sound = stepwell(folder.path(), ["doctor"]);
    assert_eq!(sound.exit, 0, "{}{}", sound.stdout, sound.stderr);
}

#[test]
fn a_file_that_is_newer_foreign_or_garbage_is_named_and_left_alone() {
    let folder = project();
    Server::start(command("stepwell", folder.path()).arg("run")).stop();
    let database = folder.path().join(".stepwell/stepwell.db");
    let newer = rusqlite::Connection::open(&database).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    rusqlite::Connection::open(folder.path().join("foreign.db")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    std::fs::write(folder.path().join("garbage.db"), [0xA5; 8192]).unwrap();
    for (file, words) in [
        (".stepwell/stepwell.db", "version 99"),
        ("foreign.db", "not a database of this engine"),
        ("garbage.db", "not a database of this engine"),
    ] {
        let before = std::fs::read(folder.path().join(file)).unwrap();
        let ran = stepwell(folder.path(), ["run", "--listen", "127.0.0.1:0", "--database", file]);
        assert_eq!(ran.exit, 74, "{file}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{file}: {}", ran.stderr);
        assert_eq!(std::fs::read(folder.path().join(file)).unwrap(), before, "{file} is as it was");
    }
}
