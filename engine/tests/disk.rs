//! The disk that fails under a real engine: flushes that are refused, space that runs out and comes back, files that are
//! not what they should be. strace (installed by scripts/test) makes the system calls fail.

mod bytes;
mod flushes;
mod tmpfs;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::cli::support::{Engine, Place};
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
    post_to(&format!("127.0.0.1:{}", server.port), &hello(name))
}

fn hello(name: &str) -> String {
    format!(r#"{{"name":"hello/said","data":{{"name":"{name}"}}}}"#)
}

fn post_to(address: &str, body: &str) -> Option<(u16, String)> {
    let head = format!(
        "POST /e/k HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    say_to(address, &(head + body))
}

/// The status and the body of the answer to a GET, none where the connection failed.
fn get_from(address: &str, path: &str) -> Option<(u16, String)> {
    say_to(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn say_to(address: &str, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
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

/// Engines that are started on one database at the same moment.
const ENGINES: usize = 12;

#[test]
fn of_many_engines_on_one_database_one_lives() {
    let place = Place::hello();
    let start = || {
        let mut command = place.command();
        command.args(["run", "--listen", "127.0.0.1:0"]);
        Engine::try_start(command)
    };
    let started: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ENGINES).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (mut alive, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    assert_eq!(alive.len(), 1);
    let holder = alive.remove(0).unwrap_or_else(|(code, said)| panic!("{code}: {said}"));
    for refusal in refused {
        let Err((code, said)) = refusal else { continue };
        assert_eq!(code, 75, "{said}");
        // One that came before the holder had written its number down cannot name it.
        assert!(said.contains(&format!("process {}", holder.pid())) || said.contains("process 0"), "{said}");
    }
    // A kill gives the database free at once.
    let mut holder = holder;
    for _ in 0..3 {
        holder.signal(Signal::KILL);
        holder.exit_code();
        holder = start().unwrap_or_else(|(code, said)| panic!("{code}: {said}"));
    }
    place.ask(&holder, &["send", "hello/said", "--example", "--wait"]).exits(0);
}
