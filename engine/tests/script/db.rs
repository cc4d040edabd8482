//! `db::*` on SQLite files.

use stepwell::script::{Address, Databases};

use super::*;

/// A bench with an empty database `crm`, and the folder that it is in.
fn bench(script: &str) -> (Bench, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Sqlite(folder.path().join("data/crm.db"));
    let mut bench = Bench::new(script).attempts(2);
    bench.surroundings.databases = Databases::new(BTreeMap::from([("crm".to_owned(), address)]));
    bench.outside = true;
    (bench, folder)
}

fn finish(script: &str) -> End {
    let (mut bench, _folder) = bench(script);
    bench.finish()
}

#[test]
fn values_go_as_parameters_and_rows_come_as_maps() {
    let end = finish(
        r#"step("make", || db::exec("crm", "CREATE TABLE t (id TEXT PRIMARY KEY, n, at, data)"));
        let put = "INSERT INTO t VALUES (?, ?, ?, ?)";
        let changed = step("put", || [
            db::exec("crm", put, ["a'; DROP TABLE t; --", 9007199254740993, date("2026-01-31T09:30:00Z"), #{ x: [1, ()] }]),
            db::exec("crm", put, ["b", 1.5, (), true]),
            db::exec("crm", "UPDATE t SET n = 2 WHERE id > ?", ["z"]),
        ]);
        [changed, step("look", || db::query("crm", "SELECT id, n, at, data FROM t WHERE id <> ?1 ORDER BY id", ["c"])),
            step("none", || db::query("crm", "SELECT 1 WHERE 1 = 2")),
            step("back", || db::query("crm", "INSERT INTO t (id) VALUES (?) RETURNING id, n", ["c"])),
            step("bytes", || db::query("crm", "SELECT ? AS b", [base64::decode_bytes("AP8=")])[0].b.len())]"#,
    );
    assert_eq!(
        end.output(),
        r#"[[1,1,0],[{"at":"2026-01-31T09:30:00.000Z","data":"{\"x\":[1,null]}","id":"a'; DROP TABLE t; --","n":9007199254740993},{"at":null,"data":1,"id":"b","n":1.5}],[],[{"id":"c","n":null}],2]"#
    );
}

#[test]
fn what_a_statement_must_not_do_is_refused_at_once() {
    let cases = [
        (r#"db::query("crn", "SELECT 1")"#, "names no database `crn`"),
        (r#"db::query("crm", "SELECT ?")"#, "the statement has 1 parameters, and 0 are given"),
        (r#"db::query("crm", "SELECT 1", [1])"#, "the statement has 0 parameters, and 1 are given"),
        (r#"db::exec("crm", "CREATE TABLE t (a); DROP TABLE t")"#, "one statement at a time"),
        (r#"db::exec("crm", "SELECT 1; SELEC")"#, "one statement at a time"),
        (r#"db::exec("crm", "")"#, "there is no statement"),
        (r#"db::exec("crm", "SELEC 1")"#, "syntax error"),
        (r#"db::exec("crm", "ATTACH '/tmp/x.db' AS x")"#, "too many attached databases"),
        (r#"db::exec("crm", "VACUUM INTO '/tmp/stepwell-stolen.db'")"#, "too many attached databases"),
        (r#"db::query("crm", "SELECT load_extension('x')")"#, "not authorized"),
        (r#"db::query("crm", "SELECT 1 AS a, 2 AS a")"#, "two columns of the result are called `a`"),
        (r#"db::query("crm", "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c")"#, "more than 10000 rows"),
        (r#"db::query("crm", "SELECT zeroblob(20000000) AS b")"#, "more than 16 MB"),
        (r#"db::query("crm", "SELECT zeroblob(1000000000) AS b")"#, "a value takes more than 16 MB"),
        (r#"db::query("crm", "SELECT zeroblob(9000000) AS a, zeroblob(9000000) AS b")"#, "gives more than 16 MB"),
        (r#"db::query("crm", "SELECT ?", [secret("KEY")])"#, "parameter 1 is a secret"),
        (r#"db::query("crm", "SELECT 'a-secret-of-the-test'")"#, "the statement contains the secret KEY"),
        (r#"db::query("crm", "SELECT ?", [|| 1])"#, "parameter 1 is of type Fn"),
    ];
    for (call, message) in cases {
        let (bench, _folder) = bench(&format!("step(\"x\", || {call})"));
        let end = bench.secret("KEY", "a-secret-of-the-test").finish();
        assert!(end.message().contains(message), "{call}: {} {}", end.code(), end.message());
        assert_eq!(end.row.error.as_ref().unwrap().attempts, Some(1), "{call} is pointless to try again");
    }
    assert!(!Path::new("/tmp/stepwell-stolen.db").exists());
}

#[test]
fn a_statement_finds_nothing_of_the_one_before_it() {
    let end = finish(
        r#"step("make", || [
            db::exec("crm", "CREATE TABLE t (id INTEGER PRIMARY KEY)"),
            db::exec("crm", "CREATE TABLE s (t REFERENCES t(id))"),
        ]);
        step("begin", || db::exec("crm", "/* why */ BEGIN"));
        step("put", || db::exec("crm", "INSERT INTO t VALUES (1), (2)"));
        step("loose", || db::exec("crm", "PRAGMA foreign_keys = off"));
        let said = "";
        try { step("child", #{ retries: 0 }, || db::exec("crm", "INSERT INTO s VALUES (7)")); } catch (e) { said = e.message; }
        // A table that is there already changes nothing, whatever the statement before it has changed.
        let none = step("again", || db::exec("crm", "CREATE TABLE IF NOT EXISTS t (id)"));
        [step("count", || db::query("crm", "SELECT count(*) AS n FROM t")[0].n), said.contains("FOREIGN KEY"), none]"#,
    );
    assert_eq!(end.output(), "[2,true,0]");
}

#[test]
fn a_transaction_that_a_step_leaves_open_is_rolled_back() {
    let end = finish(
        r#"step("make", || db::exec("crm", "CREATE TABLE t (n)"));
        step("begin", || db::exec("crm", "BEGIN"));
        step("put", || db::exec("crm", "INSERT INTO t VALUES (1)"));
        step("look", || db::query("crm", "SELECT count(*) AS n FROM t")[0].n)"#,
    );
    assert_eq!(end.output(), "1");
}

#[test]
fn a_statement_without_end_ends_with_its_step() {
    let (mut bench, _folder) = bench(
        r#"step("endless", #{ timeout: "1s", retries: 0 }, || db::query("crm",
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"))"#,
    );
    // The clock stands, so the step's time is over when the test says so.
    bench.outside = false;
    assert_eq!(bench.finish().code(), "E0414");
}
