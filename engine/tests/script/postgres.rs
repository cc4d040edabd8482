//! `db::*` on a PostgreSQL server that the test starts: `scripts/test` installs it.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use stepwell::script::{Address, Databases};

use super::*;

/// A server of the test's own; it ends with the test.
struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the server's programs are: Debian keeps them out of PATH.
fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = versions.chain(std::env::split_paths(&path)).find(|folder| folder.join("initdb").exists());
        found.expect("PostgreSQL is installed: scripts/test does that")
    });
    folder.join(name)
}

/// A command that does not run as root, which the server refuses to.
fn command(name: &str, user: Option<u32>) -> Command {
    let mut command = Command::new(program(name));
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped()).env("LC_ALL", "C");
    command
}

/// A user that is not root, where we are.
fn other_user() -> Option<u32> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    is_root.then_some(65_534)
}

fn server() -> Server {
    let (folder, user) = (tempfile::tempdir().unwrap(), other_user());
    if let Some(user) = user {
        chown(folder.path(), Some(user), Some(user)).unwrap();
    }
    let data = folder.path().join("data");
    std::fs::write(folder.path().join("password"), "the password of the test").unwrap();
    let made = command("initdb", user)
        .arg("-D")
        .arg(&data)
        .args(["-U", "app", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--no-instructions", "--pwfile"])
        .arg(folder.path().join("password"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let process = command("postgres", user)
        .arg("-D")
        .arg(&data)
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "unix_socket_directories=", "-c"])
        .arg(format!("port={port}"))
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Server { process, port, _folder: folder }
}

impl Server {
    fn bench(&self, script: &str) -> Bench {
        let url = format!("postgres://app@127.0.0.1:{}/postgres?sslmode=prefer", self.port);
        let address = Address::Postgres { url, password: Some("the password of the test".to_owned()) };
        let mut bench = Bench::new(script).attempts(1);
        bench.surroundings.databases = Databases::new(BTreeMap::from([("shop".to_owned(), address)]));
        bench.outside = true;
        bench
    }

    fn output(&self, script: &str) -> String {
        self.bench(script).finish().output().to_owned()
    }

    fn message(&self, call: &str) -> String {
        let end = self.bench(&format!("step(\"x\", || {call})")).attempts(2).finish();
        format!("{} {}", end.row.error.as_ref().map_or(0, |error| error.attempts.unwrap_or(0)), end.message())
    }

    /// Waits until the server takes connections: it says so by doing it.
    fn ready(self) -> Server {
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            std::thread::yield_now();
        }
        while self.bench(r#"step("x", || db::query("shop", "SELECT 1"))"#).finish().row.state != RunState::Completed {
            std::thread::yield_now();
        }
        self
    }
}

#[test]
fn a_server_takes_parameters_of_every_type_and_gives_rows_as_they_are() {
    let server = server().ready();
    let types = [
        ("$1::int8", "9007199254740993", "9007199254740993"),
        ("$1::int2", "-3", "-3"),
        ("$1::float8", "0.1", "0.1"),
        ("$1::float4", "0.1", "0.1"),
        ("$1::numeric", r#"json::parse("12345678901234567890.120")"#, "12345678901234567890.120"),
        ("$1::numeric", "-42", "-42"),
        ("$1::numeric(10,4)", "0.0305", "0.0305"),
        ("$1::numeric", "1000000", "1000000"),
        ("$1::bool", "true", "true"),
        ("$1::text", r#""a'b\"ü; --""#, r#""a'b\"ü; --""#),
        ("$1::text", "()", "null"),
        ("$1::jsonb", r#"#{ a: [1, "x", ()] }"#, r#"{"a":[1,"x",null]}"#),
        ("$1::json", r#""text""#, r#""text""#),
        ("$1::timestamptz", r#"date("2026-01-31T09:30:00.5Z")"#, r#""2026-01-31T09:30:00.5Z""#),
        ("$1::timestamp", r#""2026-01-31 09:30""#, r#""2026-01-31T09:30:00""#),
        ("$1::date", r#""1999-12-31""#, r#""1999-12-31""#),
        ("$1::time", r#""09:30:15""#, r#""09:30:15""#),
        ("$1::uuid", r#""A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11""#, r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#),
        ("$1::int4[]", "[1, (), 3]", "[1,null,3]"),
        ("$1::text[]", r#"["a,b", "c\"d\\", "NULL"]"#, r#"["a,b","c\"d\\","NULL"]"#),
        ("ARRAY[[1,2],[3,4]]::int4[] || $1::int4[]", "[5, 6]", "[[1,2],[3,4],[5,6]]"),
        ("encode($1::bytea, 'hex')", r#"hex::decode_bytes("00ff")"#, r#""00ff""#),
    ];
    for (sql, parameter, expected) in types {
        let script = format!(r#"step("x", || db::query("shop", "SELECT {sql} AS v", [{parameter}])[0].v)"#);
        assert_eq!(server.output(&script), expected, "{sql} of {parameter}");
    }
    let script = r#"step("make", || db::exec("shop", "CREATE TABLE t (id text PRIMARY KEY, n int)"));
        step("put", || [db::exec("shop", "INSERT INTO t VALUES ($1, $2), ('b', 2)", ["a'; DROP TABLE t; --", 1]),
            db::exec("shop", "UPDATE t SET n = n + 1"),
            db::query("shop", "DELETE FROM t WHERE n = $1 RETURNING id", [3])[0].id,
            db::query("shop", "SELECT * FROM t")])"#;
    assert_eq!(server.output(script), r#"[2,2,"b",[{"id":"a'; DROP TABLE t; --","n":2}]]"#);
    let wrong = [
        (r#"db::query("shop", "SELEC 1")"#, "1 db::query(shop): syntax error at or near \"SELEC\" [42601]"),
        (r#"db::query("shop", "SELECT $1::int4", ["x"])"#, "1 db::query(shop): invalid input syntax for type integer: \"x\" [22P02]"),
        (r#"db::query("shop", "SELECT $1", [])"#, "1 db::query(shop): the statement has 1 parameters, and 0 are given"),
        (r#"db::query("shop", "SELECT 1; SELECT 2")"#, "1 db::query(shop): cannot insert multiple commands into a prepared statement"),
        (
            r#"db::query("shop", "SELECT point(1,2) AS p")"#,
            "1 db::query(shop): the column `p` is of type point, which is not read: write p::text",
        ),
        (r#"db::query("shop", "SELECT generate_series(1, 20000) AS n")"#, "1 db::query(shop): the query gives more than 10000 rows"),
        (r#"db::query("shop", "SELECT $1::text", ["a\u0000"])"#, "NUL"),
        (
            r#"db::exec("shop", "INSERT INTO t VALUES ($1, 1), ($1, 1)", ["z"])"#,
            "1 db::exec(shop): duplicate key value violates unique constraint",
        ),
    ];
    for (call, expected) in wrong {
        let said = server.message(call);
        assert!(said.contains(expected), "{call}: {said}");
    }
    // A statement that takes too long ends with its step, on the server too.
    let mut late = server.bench(r#"step("x", #{ timeout: "1m" }, || db::query("shop", "SELECT pg_sleep(1000)"))"#);
    late.outside = false;
    assert_eq!(late.finish().code(), "E0414");
    let running = r#"step("x", || db::query("shop", "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active'", ["%sleep(1000)%"])[0].n)"#;
    // Its text has no `sleep` in it, so the one that counts does not count itself.
    while server.output(running) != "0" {
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_is_not_there_is_tried_again() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut bench = Bench::new(r#"step("x", || db::query("shop", "SELECT 1"))"#).attempts(2);
    let address = Address::Postgres { url: format!("postgres://app@127.0.0.1:{port}/x"), password: None };
    bench.surroundings.databases = Databases::new(BTreeMap::from([("shop".to_owned(), address)]));
    bench.outside = true;
    let end = bench.finish();
    assert!(end.message().contains("Connection refused"), "{}", end.message());
    assert_eq!(end.row.error.as_ref().unwrap().attempts, Some(2));
}
