//! A real file system that fills up and is freed again: a tmpfs of 16 MB. Root may mount one, and has to; others may in a namespace of
//! their own, where the system lets them make one, and the test then runs itself again in there. Where neither is so it is left out,
//! which scripts/test says.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{id, post_to};
use crate::program::{Server, command, stepwell};

const CONFIG: &str = "version: 1\nevents: { big/sent: {}, gate/asked: {} }\n\
    functions: { keep: { on: big/sent }, open: { on: gate/asked, concurrency: { limit: 1, hold: run } } }\n";
/// What an event weighs, and what is freed in the end.
const EVENT_BYTES: usize = 20_000;
const BALLAST_BYTES: usize = 6 * 1024 * 1024;
/// What is left in the end at most: a disk that doctor calls full, with room for what doctor writes itself.
const ROOM_LEFT: u64 = 512 * 1024;

/// Tells a test that it runs in a namespace of its own.
const INSIDE: &str = "STEPWELL_TEST_IN_NAMESPACE";
/// What mounts a small file system, but for the folder.
const MOUNT: [&str; 6] = ["mount", "-t", "tmpfs", "-o", "size=16m", "stepwell-test"];

/// A mounted file system; it goes with its value.
struct Tmpfs {
    at: PathBuf,
}

impl Tmpfs {
    /// Mounts one of 16 MB, or says why that cannot be done here.
    fn mount(at: PathBuf) -> Result<Tmpfs, String> {
        std::fs::create_dir(&at).unwrap();
        match Command::new(MOUNT[0]).args(&MOUNT[1..]).arg(&at).output() {
            Ok(output) if output.status.success() => Ok(Tmpfs { at }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // At the worst it stays mounted, empty of anything that matters.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn send(server: &Server) -> (u16, String) {
    let body = format!(r#"{{"name":"big/sent","data":{{"text":"{}"}}}}"#, "x".repeat(EVENT_BYTES));
    post_to(&format!("127.0.0.1:{}", server.port), &body).expect("the engine lives")
}

/// Takes all the room that is left.
fn fill(ballast: &Path) {
    let mut file = std::fs::File::create(ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn runs(folder: &Path, server: &Server, state: &str) -> usize {
    let listed = stepwell(folder, ["runs", "ls", "--status", state, "--limit", "5000", "--json", "--url", &server.url()]);
    assert_eq!(listed.exit, 0, "{}", listed.stderr);
    serde_json::from_str::<serde_json::Value>(&listed.stdout).unwrap().as_array().unwrap().len()
}

/// The page of the second of two runs of which one alone has a slot, as soon as it says so: its path.
fn in_line(server: &Server, folder: &Path) -> String {
    let asked = || post_to(&format!("127.0.0.1:{}", server.port), r#"{"name":"gate/asked","data":{}}"#).expect("the engine lives");
    let [_, (status, second)] = [asked(), asked()];
    assert_eq!(status, 200, "{second}");
    let listed = stepwell(folder, ["runs", "ls", "--event", &id(&second), "--json", "--url", &server.url()]);
    let runs: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let path = format!("/runs/{}", runs[0]["run_id"].as_str().unwrap());
    while !server.get(&path).is_some_and(|page| page.contains("waits for a slot: open allows 1 run at a time")) {}
    path
}

/// Refusals at least, and looks at most until health and the page have told why.
const REFUSALS: usize = 5;
const LOOKS: usize = 100;

/// Sends events until one is refused since the disk is full.
fn refused(server: &Server, accepted: &mut Vec<String>) {
    loop {
        match send(server) {
            (200, body) => accepted.push(id(&body)),
            (507, _) => return,
            // Too much waits for the disk.
            (429, _) => {}
            (status, body) => panic!("{status}: {body}"),
        }
        assert!(accepted.len() < 2_000, "the disk was never full");
    }
}

/// Whether a user and mount namespace of one's own can be had here, in which a file system can be mounted.
fn has_namespaces(folder: &Path) -> bool {
    let at = folder.join("tried");
    std::fs::create_dir(&at).unwrap();
    // What is mounted in there is gone with the process.
    let tried = Command::new("unshare").arg("-rm").args(MOUNT).arg(&at).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Runs this test again, as root of a namespace of its own.
fn runs_in_a_namespace(test: &str) {
    let mut again = Command::new("unshare");
    again.arg("-rm").arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = again.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "in a namespace of its own:\n{said}");
}

#[test]
fn a_file_system_that_fills_up_stops_nothing_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let why = match Tmpfs::mount(folder.path().join("small")) {
        Ok(tmpfs) => return fills_up(folder.path(), &tmpfs),
        Err(why) => why,
    };
    let is_inside = std::env::var_os(INSIDE).is_some();
    if !is_inside && has_namespaces(folder.path()) {
        return runs_in_a_namespace("disk::tmpfs::a_file_system_that_fills_up_stops_nothing_for_good");
    }
    // Whoever takes the suite's word for it has to know that this was left out.
    assert!(!is_inside && !rustix::process::geteuid().is_root(), "a tmpfs cannot be mounted, though root may: {why}");
    // What is left is `a_full_disk_refuses_events_and_goes_on_by_itself_when_there_is_room`, which runs everywhere.
    eprintln!("NOT TESTED HERE: a real file system that fills up; a tmpfs cannot be mounted: {why}");
}

fn fills_up(folder: &Path, tmpfs: &Tmpfs) {
    std::fs::write(folder.join("events.yaml"), CONFIG).unwrap();
    std::fs::create_dir(folder.join("handlers")).unwrap();
    std::fs::write(folder.join("handlers/keep.rhai"), "step(\"one\", || event.data.text)\n").unwrap();
    std::fs::write(folder.join("handlers/open.rhai"), "wait_for_signal(\"go\")\n").unwrap();
    let ballast = tmpfs.at.join("ballast");
    std::fs::write(&ballast, vec![0; BALLAST_BYTES]).unwrap();
    let database = tmpfs.at.join("stepwell.db");
    let database = database.to_str().unwrap();
    let server = Server::start(command("stepwell", folder).args(["run", "--database", database]));
    let small = stepwell(folder, ["doctor", "--database", database]);
    assert!(small.stdout.contains("- disk       ") && small.stdout.contains("make room"), "{}", small.stdout);
    let queued = in_line(&server, folder);
    let mut accepted = Vec::new();
    (0..REFUSALS).for_each(|_| refused(&server, &mut accepted));
    // At the brink something small may fit in again at any time, and then the disk is not full: so it is looked at right after a refusal,
    // and again after the next one.
    const WHY: &str = "the disk is full: it goes on as soon as there is room; besides, waits for a slot";
    let (mut health_tells, mut page_tells) = (false, false);
    for _ in 0..LOOKS {
        refused(&server, &mut accepted);
        health_tells |= server.get("/health").is_some_and(|health| health.contains("the disk is full"));
        refused(&server, &mut accepted);
        page_tells |= server.get(&queued).is_some_and(|page| page.contains(WHY));
        if health_tells && page_tells {
            break;
        }
    }
    assert!(health_tells && page_tells, "health tells: {health_tells}; the page of a run in line tells: {page_tells}");
    std::fs::remove_file(&ballast).unwrap();
    while send(&server).0 != 200 {}
    while runs(folder, &server, "completed") <= accepted.len() {
        assert_eq!(runs(folder, &server, "failed") + runs(folder, &server, "parked"), 0);
    }
    for id in &accepted {
        let found = server.get(&format!("/v1/events/{id}")).expect("the engine lives");
        assert!(found.starts_with("HTTP/1.1 200 ") && found.contains(id), "event {id} was answered and is not there: {found}");
    }
    fill(&ballast);
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(0), "a disk without room for the last copy is no failure: {printed}");
    let ballast = std::fs::OpenOptions::new().write(true).open(&ballast).unwrap();
    ballast.set_len(ballast.metadata().unwrap().len().saturating_sub(ROOM_LEFT)).unwrap();
    let sound = stepwell(folder, ["doctor", "--database", database]);
    assert!(sound.stdout.contains("✓ integrity"), "{}{}", sound.stdout, sound.stderr);
    assert!(sound.exit == 74 && sound.stdout.contains("✗ disk       ") && sound.stdout.contains("make room"), "{}", sound.stdout);
}
