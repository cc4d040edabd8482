//! The unit, the container file, and the drill of docs/operating.md: held to what the program can do.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ask, get, project, run_in, send, serve};
use crate::program::{self, repository, stepwell};

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap()
}

/// Whether the program knows a command line: with `--help` behind it, it checks what stands before and does nothing.
fn is_known(arguments: &[String]) {
    let asked: Vec<&str> = arguments.iter().map(String::as_str).chain(["--help"]).collect();
    let ended = stepwell(Path::new("."), asked.iter().copied());
    assert_eq!(ended.exit, 0, "{asked:?}: {}", ended.stderr);
    assert!(ended.stdout.contains(&format!("Usage: stepwell {}", arguments[0])), "{asked:?}: {}", ended.stdout);
}

#[test]
fn the_unit_starts_the_program_as_it_wants_to_be_started() {
    let unit = read("docs/stepwell.service");
    let settings: Vec<(&str, &str)> = unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect();
    let setting =
        |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).unwrap_or_else(|| panic!("no {name}"));
    let words: Vec<String> = setting("ExecStart").split(' ').map(str::to_owned).collect();
    assert_eq!(words[0], "/usr/local/bin/stepwell");
    is_known(&words[1..]);
    // A check before it would be started again and again where it fails: the exit codes below are held against ExecStart alone.
    assert!(settings.iter().all(|(name, _)| *name != "ExecStartPre"), "{unit}");
    // The database is where the unit may write, and the exit codes that no new start mends are the program's.
    assert!(setting("ExecStart").contains(&format!("--database /var/lib/{}/", setting("StateDirectory"))));
    let prevented: Vec<i32> = setting("RestartPreventExitStatus").split(' ').map(|code| code.parse().unwrap()).collect();
    let broken = project(&[("events.yaml", "version: 1\nfunktions: {}\n")]);
    assert!(
        prevented.contains(&stepwell(broken.path(), ["run"]).exit)
            && prevented.contains(&stepwell(broken.path(), ["run", "--nonsense"]).exit)
    );
    // A stop has more time than the engine takes for it.
    let config = stepwell::config::Model::default();
    let seconds: i64 = setting("TimeoutStopSec").parse().unwrap();
    assert!(seconds * 1_000 > config.engine.shutdown_grace().0 + 5_000);
    for name in ["NoNewPrivileges", "PrivateTmp", "ProtectHome"] {
        assert_eq!(setting(name), "yes");
    }
    assert_eq!((setting("ProtectSystem"), setting("UMask"), setting("User")), ("strict", "0077", "stepwell"));
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stepwell.service");
    // It looks whether the program is there.
    std::fs::write(&file, read("docs/stepwell.service").replace("/usr/local/bin/stepwell", env!("CARGO_BIN_EXE_stepwell"))).unwrap();
    let output = std::process::Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It says what is wrong with other units of the machine as well.
    let own: Vec<&str> = said.lines().filter(|line| line.contains("stepwell")).collect();
    assert!(output.status.success() && own.is_empty(), "{said}");
}

/// Every file that a source of the program takes into it, by its path in the repository.
fn included(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            if path != repository().join("engine/tests") {
                included(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for name in text.split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
                let file = folder.join(name).canonicalize().unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
                found.push(file.strip_prefix(repository().canonicalize().unwrap()).unwrap().to_owned());
            }
        }
    }
}

/// The instructions of a container file, each on one line: the word, and what stands behind it.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{line}")))
        .map(|(word, rest)| (word.to_owned(), rest.to_owned()))
        .collect()
}

#[test]
fn the_container_file_copies_what_is_there_and_calls_what_the_program_can_do() {
    let all = instructions(&read("Containerfile"));
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let (build, run) = all.split_at(last);
    for (word, rest) in &all {
        let known = ["FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "ENV", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"];
        assert!(known.contains(&word.as_str()), "{word} {rest}");
    }
    assert!(build[0].1.ends_with(" AS build"));
    for (_, rest) in all.iter().filter(|(word, rest)| word == "COPY" && !rest.contains("--from=")) {
        let mut words: Vec<&str> = rest.split(' ').filter(|word| !word.starts_with("--")).collect();
        words.pop();
        words.iter().for_each(|source| assert!(repository().join(source).exists(), "{source}"));
    }
    // Whatever the build needs is copied to where it is here: the crate names no file beside those.
    let copied: Vec<&str> =
        build.iter().filter(|(word, _)| word == "COPY").flat_map(|(_, rest)| rest.rsplit_once(' ').unwrap().0.split(' ')).collect();
    let mut files = Vec::new();
    included(&repository().join("engine"), &mut files);
    for file in &files {
        assert!(copied.iter().any(|source| file.starts_with(source)), "{} is not copied: {copied:?}", file.display());
    }
    assert!(files.iter().any(|file| file.starts_with("examples")), "`init` has examples: {files:?}");
    for (_, rest) in build.iter().filter(|(word, _)| word == "COPY") {
        let (sources, to) = rest.rsplit_once(' ').unwrap();
        assert!(sources == to || (to == "./" && !sources.contains('/')), "{rest}");
    }
    let manifest = read("Cargo.toml");
    // What is built is what is copied from there.
    let build_of = |word: &str| all.iter().find(|(known, rest)| known == word && rest.contains("stepwell") && !rest.starts_with("--chown"));
    let (built, copied) = (&build_of("RUN").unwrap().1, &build_of("COPY").unwrap().1);
    let profile = built.split_once("--profile ").unwrap().1.split(' ').next().unwrap();
    assert!(manifest.contains(&format!("[profile.{profile}]")), "{built}");
    assert!(copied.contains(&format!("/target/{profile}/stepwell ")), "{copied}");
    for path in ["engine/lib.rs", "engine/main.rs", "engine/tests/main.rs"] {
        assert!(manifest.contains(&format!("\"{path}\"")) && repository().join(path).exists());
    }
    let find =
        |word: &str| run.iter().find(|(known, _)| known == word).map(|(_, rest)| rest.clone()).unwrap_or_else(|| panic!("no {word}"));
    let user = find("USER");
    assert!(!user.starts_with('0') && user != "root", "{user}");
    // What is installed at run time would need the network, at build time too.
    assert!(run.iter().filter(|(word, _)| word == "RUN").all(|(_, rest)| !rest.contains("apt") && !rest.contains("curl")));
    let list = |text: &str| -> Vec<String> { serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap() };
    let (entry, command, check) = (list(&find("ENTRYPOINT")), list(&find("CMD")), list(&find("HEALTHCHECK")));
    assert_eq!(entry, ["stepwell"]);
    is_known(&command);
    is_known(&check[1..]);
    // The variables are the program's own, and one of them says where the engine of CMD is found.
    let help = stepwell(Path::new("."), ["run", "--help"]).stdout;
    let variables = run.iter().filter(|(word, _)| word == "ENV").flat_map(|(_, rest)| rest.split(' '));
    let (urls, others): (Vec<_>, Vec<_>) =
        variables.map(|pair| pair.split_once('=').unwrap()).partition(|(name, _)| *name == "STEPWELL_URL");
    for (name, _) in others {
        assert!(help.contains(&format!("[env: {name}]")), "{name} in {help}");
    }
    let listens = command.iter().find_map(|word| word.strip_prefix("0.0.0.0:")).unwrap();
    assert_eq!(urls, [("STEPWELL_URL", format!("http://127.0.0.1:{listens}").as_str())]);
}

#[test]
fn a_health_check_tells_an_engine_that_takes_events_from_none() {
    let folder = project(&[("events.yaml", "version: 1\nevents: { app/a: {} }\n")]);
    let server = serve(folder.path());
    let ready = |url: &str| {
        let output = program::command("stepwell", folder.path()).args(["doctor", "--ready"]).env("STEPWELL_URL", url).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(ready(&server.url()), (0, "ready\n".to_owned()));
    let gone = server.url();
    server.stop();
    assert_eq!(ready(&gone).0, 69);
}

/// Does something to a database that only a program of another version would.
fn sql(database: &Path, text: &str) {
    let database = rusqlite::Connection::open(database).unwrap();
    database.execute_batch(text).unwrap();
    database.close().unwrap();
}

#[test]
fn an_upgrade_keeps_what_is_there_and_the_backup_before_it_is_the_way_back() {
    let config = "version: 1\nevents: { app/order: {}, app/paid: {} }\nfunctions:\n  order: { on: app/order }\n";
    let handler = "step(\"one\", || 1);\nlet paid = wait_for_event(\"app/paid\", #{ timeout: \"1h\" });\nstep(\"two\", || paid.data.n)\n";
    let folder = project(&[("events.yaml", config), ("handlers/order.rhai", handler)]);
    let database = folder.path().join(".stepwell/stepwell.db");
    let at_once = |arguments: &[&str]| stepwell(folder.path(), arguments.iter().copied());
    let server = serve(folder.path());
    let event = send(&server, "app/order", json!({}));
    let run = run_in(&server, &event, "waiting")["run_id"].as_str().unwrap().to_owned();
    server.stop();
    // What the program of version 2 leaves behind, and the backup that it makes.
    let without = "DROP INDEX runs_dormant; DROP INDEX runs_broken; DROP TABLE crons; DROP INDEX waits_pinned; \
                   ALTER TABLE waits DROP COLUMN field; ALTER TABLE waits DROP COLUMN value; \
                   CREATE TABLE crons (function INTEGER PRIMARY KEY, schedule TEXT NOT NULL, last INTEGER NOT NULL, due INTEGER) STRICT; \
                   PRAGMA user_version = 2";
    sql(&database, without);
    let backup = folder.path().join("before.db");
    std::fs::copy(&database, &backup).unwrap();

    // The newer program says what is to be done before it is, and touches nothing.
    for refused in [&["doctor"][..], &["backup", "late.db"], &["runs", "ls", "--database", ".stepwell/stepwell.db"]] {
        let ended = at_once(refused);
        let said = [ended.stdout, ended.stderr].concat();
        assert!(
            ended.exit == 74 && said.contains("version 2 of the schema") && said.contains("start the engine once"),
            "{refused:?}: {said}"
        );
    }
    assert_eq!(std::fs::read(&database).unwrap(), std::fs::read(&backup).unwrap());
    let server = serve(folder.path());
    let sound = at_once(&["doctor", "--database", ".stepwell/stepwell.db"]);
    assert!(sound.stdout.contains("schema 6") && sound.stdout.contains("✓ integrity"), "{}", sound.stdout);
    send(&server, "app/paid", json!({"n": 7}));
    assert_eq!(run_in(&server, &event, "completed")["output"], 7);
    let later = send(&server, "app/order", json!({}));
    server.stop();

    // A program refuses a version that it does not know, and leaves the database as it is.
    let newer = folder.path().join("newer.db");
    std::fs::copy(&database, &newer).unwrap();
    sql(&newer, "PRAGMA user_version = 7");
    let before = std::fs::read(&newer).unwrap();
    for refused in [&["run", "--listen", "127.0.0.1:0", "--database", "newer.db"][..], &["doctor", "--database", "newer.db"]] {
        let ended = at_once(refused);
        let said = [ended.stdout, ended.stderr].concat();
        assert!(
            ended.exit == 74 && said.contains("version 7 of the schema") && said.contains("use the newer stepwell"),
            "{refused:?}: {said}"
        );
    }
    assert_eq!(std::fs::read(&newer).unwrap(), before);

    // The way back: the database and what stands beside it go away, the copy takes its place.
    for end in ["", "-wal", "-shm"] {
        let mut name = database.clone().into_os_string();
        name.push(end);
        // After a stop there is no log.
        let _ = std::fs::remove_file(name);
    }
    std::fs::copy(&backup, &database).unwrap();
    let server = serve(folder.path());
    assert_eq!(ask(&server, "GET", &format!("/v1/events/{later}"), &[], "").0, 404, "what came after the backup is lost");
    assert_eq!(get(&server, &format!("/v1/runs/{run}"))["data"]["state"], "waiting");
    send(&server, "app/paid", json!({"n": 8}));
    assert_eq!(run_in(&server, &event, "completed")["output"], 8);
    let steps = get(&server, &format!("/v1/runs/{run}/trace"))["data"]["steps"].as_array().unwrap().len();
    assert_eq!(steps, 3, "no step was recorded twice");
}

#[test]
fn the_drill_brings_runs_back_and_they_go_on() {
    let config = "version: 1\nevents: { app/order: {}, app/paid: {} }\nfunctions:\n  order: { on: app/order, concurrency: 1 }\n";
    let handler = "step(\"one\", || 1);\nlet paid = wait_for_event(\"app/paid\", #{ timeout: \"1h\" });\nstep(\"two\", || paid.data.n)\n";
    let files = [("events.yaml", config), ("handlers/order.rhai", handler)];
    let folder = project(&files);
    let server = serve(folder.path());
    let waiting = send(&server, "app/order", json!({}));
    let run = run_in(&server, &waiting, "waiting")["run_id"].as_str().unwrap().to_owned();
    let queued = send(&server, "app/order", json!({}));
    run_in(&server, &queued, "queued");
    let copied = stepwell(folder.path(), ["backup", "copy.db"]);
    assert_eq!(copied.exit, 0, "{}", copied.stderr);
    // What comes after the copy is not in it.
    let later = send(&server, "app/order", json!({}));
    server.kill();

    let other = project(&files);
    std::fs::create_dir(other.path().join(".stepwell")).unwrap();
    std::fs::copy(folder.path().join("copy.db"), other.path().join(".stepwell/stepwell.db")).unwrap();
    let sound = stepwell(other.path(), ["doctor"]);
    assert_eq!(sound.exit, 0, "{}", sound.stdout);
    let server = serve(other.path());
    assert_eq!(ask(&server, "GET", &format!("/v1/events/{later}"), &[], "").0, 404);
    assert_eq!(get(&server, &format!("/v1/runs/{run}"))["data"]["state"], "waiting");
    send(&server, "app/paid", json!({"n": 7}));
    assert_eq!(run_in(&server, &waiting, "completed")["output"], 7);
    run_in(&server, &queued, "waiting");
    send(&server, "app/paid", json!({"n": 8}));
    assert_eq!(run_in(&server, &queued, "completed")["output"], 8);
    let steps = get(&server, &format!("/v1/runs/{run}/trace"))["data"]["steps"].as_array().unwrap().len();
    assert_eq!(steps, 3, "no step was recorded twice");
}
