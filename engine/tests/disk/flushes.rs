//! Flushes that fail while many senders wait. strace makes them fail, and writes down what was flushed, heard and said, in one
//! order: an event is answered with 200 only when a flush has gone well since it came, and before any has failed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use stepwell::store::sqlite::{Options, Sqlite};
use stepwell::store::{EventQuery, Store as _};

use super::{hello, id, post_to, project};
use crate::cli::support::{Engine, Place, strace_log};
use crate::program::{Server, command, stepwell};

/// The flushes of one thread that fail, this one alone or from it on: in the engine's start, at its first commit, and later.
/// Nothing hangs on what stands at such a number, as long as some are in the start and some while events come.
const FAILING: [u32; 8] = [1, 2, 3, 5, 8, 13, 21, 30];
/// Senders at once.
const SENDERS: usize = 8;
/// Events in one request, of which a few have the log copied into the main file; and requests by which that is long over.
const TOGETHER: usize = 4_000;
const TOO_MANY_REQUESTS: usize = 200;

/// What came of the events that were sent to engines whose flushes fail.
#[derive(Default)]
struct Sent {
    accepted: Vec<String>,
    /// Requests that came to an engine and were not answered with 200.
    unanswered: usize,
}

#[test]
fn a_failed_flush_ends_the_engine_and_nothing_is_answered_after_it() {
    keeps_what_was_answered(&FAILING, |number| format!("{number}+"));
}

/// What a flush was to bring to the disk may be gone though the next flush goes well: the system tells of it once.
#[test]
fn a_flush_that_fails_once_ends_the_engine_all_the_same() {
    // The second one of a start is of the folder, which holds the name of the log: SQLite does not look at how it went.
    let of_files: Vec<u32> = FAILING.into_iter().filter(|number| *number != 2).collect();
    keeps_what_was_answered(&of_files, |number| number.to_string());
}

/// Engines one after the other, whose flushes fail as `when` says it to strace.
fn keeps_what_was_answered(failing: &[u32], when: impl Fn(u32) -> String) {
    let folder = project();
    let mut sent = Sent::default();
    for number in failing {
        ends_by_itself(folder.path(), &when(*number), &mut sent);
    }
    println!("{} events accepted, {} not", sent.accepted.len(), sent.unanswered);
    assert!(!sent.accepted.is_empty() && sent.unanswered > 0, "some flushes fail in the midst of events");
    let again = Server::start(command("stepwell", folder.path()).arg("run"));
    for id in sent.accepted {
        let found = stepwell(folder.path(), ["events", "get", &id, "--json", "--url", &again.url()]);
        assert_eq!(found.exit, 0, "event {id} was answered and is not there: {}", found.stderr);
    }
}

/// `stepwell run` of which these flushes fail. strace writes the beginnings of texts down, and what each descriptor is.
fn traced(folder: &Path, when: &str, log: &Path) -> Command {
    let mut traced = command("strace", folder);
    // With -D the engine itself is our child.
    traced.args(["-D", "-f", "-q", "-y", "-e", "trace=fdatasync,fsync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"]);
    traced.args(["-e", &format!("inject=fdatasync,fsync:error=EIO:when={when}"), "-o"]).arg(log);
    traced.args(["stepwell", "run", "--listen", "127.0.0.1:0"]);
    traced
}

/// Starts an engine of which these flushes fail, and has events sent to it until it ends.
fn ends_by_itself(folder: &Path, when: &str, sent: &mut Sent) {
    let log = folder.join(format!("flushes-{when}.strace"));
    let (code, said) = match Engine::try_start(traced(folder, when, &log)) {
        Ok(mut engine) => {
            let address = engine.url.trim_start_matches("http://").to_owned();
            let accepted: Vec<String> = std::thread::scope(|scope| {
                let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| send(&address))).collect();
                senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
            });
            let ended = engine.last_words();
            let (answers, unanswered) = Trace::read(&strace_log(&log, engine.pid())).holds(when);
            assert!(answers >= accepted.len(), "{} events were accepted by {answers} answers", accepted.len());
            sent.accepted.extend(accepted);
            sent.unanswered += unanswered;
            ended
        }
        Err(ended) => ended,
    };
    assert_eq!(code, 74, "flush {when} fails: {said}");
    assert!(said.contains("the disk failed") || said.contains("cannot be opened"), "flush {when} fails: {said}");
}

/// Sends one event after the other until the engine is gone; those that it accepted.
fn send(address: &str) -> Vec<String> {
    let (mut accepted, mut refused) = (Vec::new(), false);
    // Every event needs a flush, so the one that fails comes soon.
    while let Some((status, body)) = post_to(address, &hello("Ann")) {
        if status == 200 {
            assert!(!refused, "a 200 after a refusal: the disk is not to be trusted any more");
            accepted.push(id(&body));
        } else {
            refused = true;
        }
        assert!(accepted.len() < 1_000, "the flush was never refused");
    }
    accepted
}

/// A project of which no event has a run, with the database that an engine has made and closed: to make the file is to flush it.
fn without_runs() -> Place {
    let place = Place::new();
    place.write("events.yaml", "version: 1\nevents: { n/sent: {}, n/never: {} }\nfunctions: { one: { on: n/never } }\n");
    place.write("handlers/one.rhai", "step(\"one\", || 1)\n");
    let mut engine = Engine::start(run(&place, place.command()));
    engine.signal(Signal::TERM);
    assert_eq!(engine.exit_code(), 0);
    place
}

fn run(place: &Place, mut command: Command) -> Command {
    command.current_dir(place.path("")).args(["run", "--listen", "127.0.0.1:0"]);
    command
}

/// `stepwell run` of which the first flush of the main file fails, and no other one.
fn first_of_the_main_file_fails(place: &Place, log: &Path) -> Command {
    let mut traced = command("strace", &place.path(""));
    // With -P strace sees only what is done to this file; with -D the engine itself is our child.
    traced.args(["-D", "-f", "-q", "-P"]).arg(place.path(".stepwell/stepwell.db").canonicalize().unwrap());
    traced.args(["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO:when=1", "-o"]).arg(log);
    traced.arg("stepwell");
    run(place, traced)
}

/// What an engine that starts now goes on from: every event, once it has ended as it should.
fn stored_after_a_start(place: &Place) -> HashSet<String> {
    let mut again = Engine::start(run(place, place.command()));
    again.signal(Signal::TERM);
    assert_eq!(again.exit_code(), 0);
    let options = Options { read_only: true, ..Options::default() };
    let store = Sqlite::open(&place.path(".stepwell/stepwell.db"), options).unwrap();
    assert_eq!(store.check(), Ok(Vec::new()), "the database is sound");
    store.events(&EventQuery::default()).unwrap().iter().map(|event| event.id.to_string()).collect()
}

/// The log keeps what is copied until the main file is flushed, so nothing is taken back; and a 200 that goes out before the engine
/// has noticed stands on the log's flush, as always.
#[test]
fn a_failed_flush_of_the_main_file_ends_the_engine_and_takes_nothing_back() {
    let place = without_runs();
    let log = place.path("main.strace");
    let mut engine = Engine::start(first_of_the_main_file_fails(&place, &log));
    let address = engine.url.trim_start_matches("http://").to_owned();
    let event = r#"{"name":"n/sent","data":{}}"#;
    let many = format!("[{}]", vec![event; TOGETHER].join(","));
    let (mut accepted, mut refused) = (Vec::new(), false);
    for requests in 0.. {
        assert!(requests < TOO_MANY_REQUESTS, "the engine goes on");
        let Some((status, body)) = post_to(&address, &many) else { break };
        if status == 200 {
            assert!(!refused, "a 200 after a refusal: the disk is not to be trusted any more");
            let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
            accepted.extend(answer["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
        } else {
            refused = true;
        }
    }
    let (code, said) = engine.last_words();
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("the disk failed"), "{said}");
    let flushes = strace_log(&log, engine.pid());
    assert!(flushes.contains("(INJECTED)"), "{flushes}");
    let stored = stored_after_a_start(&place);
    assert!(accepted.len() >= TOGETHER && accepted.iter().all(|id| stored.contains(id)), "an event was answered and is not there");
}

#[test]
fn a_flush_that_fails_as_the_engine_closes_is_told_and_takes_nothing_back() {
    let place = without_runs();
    let log = place.path("main.strace");
    let mut engine = Engine::start(first_of_the_main_file_fails(&place, &log));
    let sent = post_to(engine.url.trim_start_matches("http://"), r#"{"name":"n/sent","data":{}}"#);
    let Some((200, body)) = sent else { panic!("{sent:?}") };
    engine.signal(Signal::TERM);
    let (code, said) = engine.last_words();
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("the disk failed"), "{said}");
    assert!(stored_after_a_start(&place).contains(&id(&body)), "an event was answered and is not there");
}

/// What strace saw. Times are lines of its log: it writes a call's beginning down before the kernel carries it out, and its return
/// before the thread goes on.
#[derive(Default)]
struct Trace {
    flushes: Vec<Flush>,
    answers: Vec<Answer>,
    /// The requests with an event that were not answered with 200: their sockets, and when the last of them came.
    open: HashMap<String, usize>,
}

/// A flush of the write-ahead log, which is what makes a commit durable.
struct Flush {
    begun: usize,
    done: usize,
    is_well: bool,
}

/// A 200 to a request with an event.
struct Answer {
    /// When all of the request had come.
    came: usize,
    begun: usize,
}

impl Trace {
    fn read(log: &str) -> Trace {
        let mut trace = Trace::default();
        let mut under_way: HashMap<&str, (usize, &str)> = HashMap::new();
        for (now, line) in log.lines().enumerate() {
            let (thread, rest) = line.split_once(' ').unwrap();
            let rest = rest.trim_start();
            if let Some(head) = rest.strip_suffix(" <unfinished ...>") {
                trace.begins(head, now);
                under_way.insert(thread, (now, head));
            } else if let Some(tail) = rest.strip_prefix("<... ") {
                let (begun, head) = under_way.remove(thread).unwrap();
                let (_, tail) = tail.split_once(" resumed>").unwrap();
                trace.returns(&format!("{head}{tail}"), begun, now);
            } else if !rest.starts_with("+++") && !rest.starts_with("---") {
                trace.begins(rest, now);
                trace.returns(rest, now, now);
            }
        }
        trace
    }

    /// A call begins, which may be an answer. One to a read is no promise.
    fn begins(&mut self, call: &str, now: usize) {
        if call.contains("\"HTTP/1.1 200 ")
            && let Some(came) = self.open.remove(on(call))
        {
            self.answers.push(Answer { came, begun: now });
        }
    }

    /// A call has returned, which may be a flush or a request.
    fn returns(&mut self, call: &str, begun: usize, done: usize) {
        let (name, on) = (call.split('(').next().unwrap_or_default(), on(call));
        let result = call.rsplit_once(" = ").map_or("", |(_, result)| result);
        let taken = result.split(' ').next().and_then(|number| number.parse::<i64>().ok()).unwrap_or(-1);
        match name {
            // A question mark: the process ended meanwhile.
            "fdatasync" | "fsync" if on.ends_with("-wal") && !result.starts_with('?') => {
                assert!(taken == 0 || result.contains("EIO (Input/output error) (INJECTED)"), "{call}");
                self.flushes.push(Flush { begun, done, is_well: taken == 0 });
            }
            // What comes on the same socket before the answer is the rest of the request.
            "read" | "readv" | "recvfrom" | "recvmsg"
                if taken > 0 && on.starts_with("socket:") && (call.contains("\"POST /e/") || self.open.contains_key(on)) =>
            {
                self.open.insert(on.to_owned(), done);
            }
            _ => {}
        }
    }

    /// Each 200 has a flush that went well between its request and itself, and before any failed. Gives how many there were, and how
    /// many requests without one.
    fn holds(&self, when: &str) -> (usize, usize) {
        let failed = self.flushes.iter().filter(|flush| !flush.is_well).map(|flush| flush.begun).min().unwrap_or(usize::MAX);
        for Answer { came, begun } in &self.answers {
            let holds = |flush: &Flush| flush.is_well && *came < flush.begun && flush.done < (*begun).min(failed);
            assert!(
                self.flushes.iter().any(holds),
                "flush {when} fails: of a request in line {came} the answer in line {begun} stands on no flush (the first one that \
                 failed is in line {failed})"
            );
        }
        (self.answers.len(), self.open.len())
    }
}

/// What the descriptor is that a call is about.
fn on(call: &str) -> &str {
    call.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(on, _)| on)
}

/// A log in which a 200 goes out while the flush is under way, one in which another one does after it has failed, and a sound one
/// with an answer to a read.
#[test]
fn an_answer_without_a_flush_is_seen() {
    let came = "7  recvfrom(35<socket:[1]>, \"POST /e/k HTTP/1.1\\r\\n\"..., 8192, 0, NULL, NULL) = 178\n";
    let said = "7  writev(35<socket:[1]>, [{iov_base=\"HTTP/1.1 200 OK\\r\\n\"..., iov_len=288}], 1) = 288\n";
    let read = "7  writev(36<socket:[2]>, [{iov_base=\"HTTP/1.1 200 OK\\r\\n\"..., iov_len=288}], 1) = 288\n";
    let begins = "8  fdatasync(13</p/stepwell.db-wal> <unfinished ...>\n";
    let well = "8  <... fdatasync resumed>)         = 0\n";
    let badly = "8  <... fdatasync resumed>)         = -1 EIO (Input/output error) (INJECTED)\n";
    let holds = |lines: &[&str]| std::panic::catch_unwind(|| Trace::read(&lines.concat()).holds("1")).ok();
    assert_eq!(holds(&[read, came, begins, well, said, read]), Some((1, 0)));
    assert_eq!(holds(&[came, begins, badly, read]), Some((0, 1)));
    assert_eq!(holds(&[came, begins, said, well]), None);
    assert_eq!(holds(&[begins, came, well, said]), None);
    assert_eq!(holds(&[came, begins, badly, said]), None);
}
