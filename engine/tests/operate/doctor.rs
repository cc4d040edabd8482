//! What `stepwell doctor` finds, each brought about for the real program, with what to do about it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::{project, run_in, send};
use crate::program::{self, Server};

const CONFIG: &str = "version: 1\nevents: { app/nap: {} }\nfunctions: { nap: { on: app/nap } }\n";
const NAP: &str = "sleep(\"rest\", \"1h\")\n";
/// How doctor is called, as a line of a shell.
const CALL: &str = "stepwell doctor";

/// A finding: how it is brought about and asked for, what is said of it, what to do, and how the command exits.
struct Case {
    arrange: fn(&Path),
    call: &'static str,
    says: &'static str,
    advises: &'static str,
    exit: i32,
}

/// A command in a project whose database is `app.db`.
fn command(program: &str, folder: &Path) -> std::process::Command {
    let mut command = program::command(program, folder);
    command.env("STEPWELL_DATABASE", "app.db");
    command
}

/// What a line of a shell prints, and how it exits.
fn called(folder: &Path, line: &str) -> (i32, String) {
    let output = command("sh", folder).args(["-c", line]).output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap_or(-1), printed)
}

/// A project with a database in which a run sleeps, and which no engine has open.
fn asleep() -> tempfile::TempDir {
    let folder = project(&[("events.yaml", CONFIG), ("handlers/nap.rhai", NAP)]);
    let server = Server::start(command("stepwell", folder.path()).arg("run"));
    let event = send(&server, "app/nap", json!({}));
    run_in(&server, &event, "sleeping");
    server.stop();
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn chmod(folder: &Path, name: &str, mode: u32) {
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Does something to the database that no engine would.
fn sql(folder: &Path, text: &str) {
    let database = rusqlite::Connection::open(folder.join("app.db")).unwrap();
    database.execute_batch(text).unwrap();
    database.close().unwrap();
}

/// Spoils the page that a table or an index begins with.
fn spoil(folder: &Path, name: &str) {
    let database = rusqlite::Connection::open(folder.join("app.db")).unwrap();
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: u64 = database.query_row(query, [name], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap();
    database.close().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(folder.join("app.db")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], (page - 1) * 4096).unwrap();
}

const CASES: &[(&str, Case)] = &[
    (
        "all is well",
        Case { arrange: |_| {}, call: CALL, says: "✓ rights     the engine's user alone opens the database", advises: "", exit: 0 },
    ),
    (
        "a config with a warning",
        Case {
            arrange: |folder| write(folder, "handlers/nap.rhai", "let n = 0;\nstep(\"add\", || { n += 1; n });\nsleep(\"rest\", \"1h\")\n"),
            call: CALL,
            says: "- config     events.yaml: 1 event, 1 function, 1 warning",
            advises: "stepwell validate",
            exit: 0,
        },
    ),
    (
        "a config with an error",
        Case {
            arrange: |folder| write(folder, "events.yaml", "version: 1\nfunktions: {}\n"),
            call: CALL,
            says: "✗ config     events.yaml: 1 error",
            advises: "stepwell validate",
            exit: 78,
        },
    ),
    (
        "a secret that is not set",
        Case {
            arrange: |folder| write(folder, "events.yaml", &format!("{CONFIG}secrets: [API_KEY]\n")),
            call: CALL,
            says: "- secrets    the secret `API_KEY` is not in the environment",
            advises: "set it, or start from where it is set",
            exit: 0,
        },
    ),
    (
        "no database",
        Case {
            arrange: |folder| std::fs::remove_file(folder.join("app.db")).unwrap(),
            call: CALL,
            says: "- database   none yet at app.db",
            advises: "`stepwell dev` makes it",
            exit: 0,
        },
    ),
    (
        "a foreign file",
        Case {
            arrange: |folder| write(folder, "app.db", &"no database of an engine ".repeat(400)),
            call: CALL,
            says: "✗ database   app.db: ",
            advises: "name the engine's own file with --database",
            exit: 74,
        },
    ),
    (
        "a newer database",
        Case {
            arrange: |folder| sql(folder, "PRAGMA user_version = 99"),
            call: CALL,
            says: "✗ database   app.db: the database has version 99 of the schema",
            advises: "use the newer stepwell that wrote it",
            exit: 74,
        },
    ),
    (
        "an older database",
        Case {
            arrange: |folder| sql(folder, "DROP INDEX runs_broken; PRAGMA user_version = 2"),
            call: CALL,
            says: "✗ database   app.db: the database has version 2 of the schema, and this program reads version 6",
            advises: "then start the engine once with this one, which brings it there",
            exit: 74,
        },
    ),
    (
        "a damaged database",
        Case {
            arrange: |folder| {
                let file = std::fs::OpenOptions::new().write(true).open(folder.join("app.db")).unwrap();
                file.set_len(4096).unwrap();
            },
            call: CALL,
            says: "✗ database   app.db: ",
            advises: "restore a backup, or move the file away and start anew",
            exit: 74,
        },
    ),
    (
        "a database whose figures cannot be read",
        Case { arrange: |folder| spoil(folder, "runs_open"), call: CALL, says: "✗ database   ", advises: "restore a backup", exit: 74 },
    ),
    (
        "runs that cannot be read",
        Case {
            arrange: |folder| sql(folder, "UPDATE runs SET function = 99999"),
            call: CALL,
            says: "✗ runs       ",
            advises: "restore a backup",
            exit: 74,
        },
    ),
    (
        "a damaged page",
        Case { arrange: |folder| spoil(folder, "logs"), call: CALL, says: "✗ integrity  ", advises: "restore a backup", exit: 74 },
    ),
    (
        "a clock that is behind",
        Case {
            // The first id of the year 2200 or so.
            arrange: |folder| {
                let far = stepwell::base::Id::first_at(stepwell::base::Millis(7_258_118_400_000)).0;
                sql(folder, &format!("INSERT INTO events SELECT {far}, name, data, sender_id, ts, accepted, extra FROM events LIMIT 1"));
            },
            call: CALL,
            says: "✗ clock      ",
            advises: "before the newest row that is stored\n             set the clock",
            exit: 74,
        },
    ),
    (
        "a run whose function is gone",
        Case {
            arrange: |folder| write(folder, "events.yaml", "version: 1\nevents: { app/nap: {} }\n"),
            call: CALL,
            says: "- runs       their function is not declared any more: 1 of nap",
            advises: "end them with `stepwell runs cancel`",
            exit: 0,
        },
    ),
    (
        "a run that is parked",
        Case {
            arrange: |folder| sql(folder, "UPDATE runs SET state = 5, wake = NULL"),
            call: CALL,
            says: "- runs       parked, and waiting for somebody: 1 of nap",
            advises: "`stepwell runs ls --status parked` says why",
            exit: 0,
        },
    ),
    (
        "a run whose handler's version is not stored",
        Case {
            arrange: |folder| sql(folder, "DELETE FROM sources"),
            call: CALL,
            says: "- handlers   the version that they began with is not stored: 1 of nap",
            advises: "`stepwell runs migrate` takes them to the newest handler",
            exit: 0,
        },
    ),
    (
        "a disk that fails a flush",
        Case {
            arrange: |_| {},
            call: "strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:error=EIO stepwell doctor",
            says: "✗ flush      nothing can be written to .",
            advises: "look at `ls -ld",
            exit: 74,
        },
    ),
    (
        "a disk that is slow",
        Case {
            arrange: |_| {},
            call: "strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:delay_exit=30000 stepwell doctor",
            says: "- flush      the disk takes ",
            advises: "`durability: normal` waits for none",
            exit: 0,
        },
    ),
    (
        "a log that grows",
        Case {
            arrange: |folder| std::fs::File::create(folder.join("app.db-wal")).unwrap().set_len(513 * 1024 * 1024).unwrap(),
            call: CALL,
            says: "- log        the write-ahead log has 513 MB",
            advises: "end that, or restart the engine",
            exit: 0,
        },
    ),
    (
        "a database that others may open",
        Case {
            arrange: |folder| chmod(folder, "app.db", 0o640),
            call: CALL,
            says: "- rights     others may open app.db (mode 640)",
            advises: "chmod 600 app.db",
            exit: 0,
        },
    ),
    (
        "a file beside it that others may open",
        Case {
            arrange: |folder| chmod(folder, "app.db.lock", 0o604),
            call: CALL,
            says: "- rights     others may open app.db.lock (mode 604)",
            advises: "chmod 600 app.db.lock",
            exit: 0,
        },
    ),
    (
        "a folder that may not be written",
        Case {
            arrange: |_| {},
            call: "strace -f -qq -o /dev/null -P . -e trace=access,faccessat,faccessat2 \
                   -e inject=access,faccessat,faccessat2:error=EACCES stepwell doctor",
            says: "✗ rights     this user may not write into .",
            advises: "give the folder to the engine's user",
            exit: 74,
        },
    ),
    (
        "a file that may not be written",
        Case {
            arrange: |_| {},
            call: "strace -f -qq -o /dev/null -P app.db.lock -e trace=access,faccessat,faccessat2 \
                   -e inject=access,faccessat,faccessat2:error=EACCES stepwell doctor",
            says: "✗ rights     this user may not write app.db.lock",
            advises: "give what is named to the engine's user",
            exit: 74,
        },
    ),
    (
        "few open files",
        Case {
            arrange: |_| {},
            call: "ulimit -n 1024; stepwell doctor",
            says: "- files      at most 1024 files may be open at once",
            advises: "`LimitNOFILE=` of a systemd unit",
            exit: 0,
        },
    ),
];

#[test]
fn each_finding_is_told_with_what_to_do() {
    let whole = asleep();
    for (what, case) in CASES {
        let folder = tempfile::tempdir().unwrap();
        program::copy(whole.path(), &[], folder.path());
        (case.arrange)(folder.path());
        let (exit, printed) = called(folder.path(), case.call);
        assert!(
            printed.contains(case.says) && printed.contains(case.advises),
            "{what}: no `{}`, `{}` in\n{printed}",
            case.says,
            case.advises
        );
        assert_eq!(exit, case.exit, "{what}: {printed}");
    }
}

/// Findings that other tests bring about: an engine's below, those of a small disk on a small file system.
const ELSEWHERE: [&str; 5] = ["- engine", "✗ engine", "- version", "- disk", "✗ disk"];

#[test]
fn there_is_a_case_for_each_finding_that_the_sources_make() {
    let mut missing = Vec::new();
    for file in ["exec/doctor.rs", "exec/doctor/flush.rs", "exec/doctor/handlers.rs", "cli/doctor.rs"] {
        let text = std::fs::read_to_string(program::repository().join("engine").join(file)).unwrap();
        for (call, sign) in [("Check::note(", '-'), ("Check::ill(", '✗')] {
            for name in text.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()) {
                let finding = format!("{sign} {name}");
                let is_there = ELSEWHERE.contains(&finding.as_str())
                    || CASES.iter().any(|(_, case)| case.says.strip_prefix(&finding).is_some_and(|rest| rest.starts_with(' ')));
                missing.extend((!is_there).then_some(finding));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// A server that says of itself what it is told to, to whoever asks.
fn claims(health: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut caller in listener.incoming().map_while(Result::ok) {
            // Who asks has sent all of it in one piece.
            let _ = caller.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let _ = write!(caller, "{head}\r\ncontent-length: {}\r\n\r\n{health}", health.len());
        }
    });
    url
}

#[test]
fn an_engine_of_another_version_and_one_that_cannot_be_asked_are_told_of() {
    let folder = asleep();
    let server = Server::start(command("stepwell", folder.path()).arg("run"));
    let asked = |url: &str| called(folder.path(), &format!("STEPWELL_URL={url} stepwell doctor"));
    let own = env!("CARGO_PKG_VERSION");
    let (exit, well) = asked(&server.url());
    assert!(exit == 0 && well.contains(&format!("✓ engine     the one at {} is well", server.url())), "{well}");
    assert!(!well.contains("- version"), "{well}");
    for (health, version) in [
        (r#"{"status":200,"message":"OK","version":"0.0.9"}"#, "0.0.9"),
        (r#"{"status":200,"message":"OK"}"#, "of a version that it does not say"),
    ] {
        let url = claims(health);
        let (exit, other) = asked(&url);
        let told = format!("- version    the one at {url} is stepwell {version}, this program is {own}");
        assert!(exit == 0 && other.contains(&told) && other.contains("restart the engine with this program"), "{other}");
    }
    let url = claims(r#"{"status":200,"message":"degraded","version":"0.0.9","reasons":["the disk is full"]}"#);
    let (exit, ill) = asked(&url);
    assert!(exit == 74 && ill.contains(&format!("✗ engine     the one at {url} is not well: the disk is full")), "{ill}");
    assert!(ill.contains("- version    ") && ill.contains("its log has more"), "{ill}");
    // Where it listens stands in the config.
    write(folder.path(), "events.yaml", "version: [\n");
    let (exit, lost) = called(folder.path(), CALL);
    assert!(exit == 78 && lost.contains("- engine     where it listens is not known"), "{lost}");
    assert!(lost.contains("name its address in STEPWELL_URL"), "{lost}");
}
