//! A client that sends events whatever becomes of the engine, and notes what it was answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cancels::CALLS_OFF;
use super::ledger::Ledger;

/// Clients at once.
pub const CLIENTS: u64 = 2;
/// Events that nothing follows from, sent in one request: so many that the log is copied into the main file afterwards.
const NOTED: u64 = 4_000;
/// Their numbers begin where no other event's are.
const FIRST_NOTED: u64 = 1_000_000;
/// How long a client waits for an answer that may never come, and for a new engine before it looks again.
const ANSWER: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An event that was answered with 200.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub id: String,
    /// The sender's own id.
    pub sender_id: Option<String>,
    pub name: &'static str,
    pub n: u64,
    /// How often it was sent until it was answered.
    pub tries: u64,
    /// Entries of the ledger when it was answered.
    pub at: usize,
}

/// An event that is to be sent.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: &'static str,
    pub n: u64,
    /// The value of its runs' concurrency key.
    pub user: String,
    /// Whether it has an id of the sender, by which a repetition is recognised.
    pub has_id: bool,
}

pub struct Load {
    jobs: Vec<Sender<Vec<Event>>>,
    clients: Vec<JoinHandle<()>>,
    /// What was answered so far.
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    engine: Arc<Whereabouts>,
    sent: std::cell::Cell<u64>,
    done: Arc<AtomicU64>,
}

/// Where the engine is at the moment.
#[derive(Default)]
struct Whereabouts {
    address: Mutex<Option<String>>,
    moved: Condvar,
}

impl Load {
    pub fn start(ledger: &Ledger) -> Load {
        let engine = Arc::new(Whereabouts::default());
        let (mut jobs, mut clients) = (Vec::new(), Vec::new());
        let (acknowledged, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        for _ in 0..CLIENTS {
            let (sender, receiver) = channel();
            let (engine, acknowledged, done) = (Arc::clone(&engine), Arc::clone(&acknowledged), Arc::clone(&done));
            let ledger = ledger.clone();
            jobs.push(sender);
            clients.push(std::thread::spawn(move || client(&receiver, &engine, &ledger, &acknowledged, &done)));
        }
        Load { jobs, clients, acknowledged, engine, sent: std::cell::Cell::new(0), done }
    }

    /// Has so many more requests sent.
    pub fn more(&self, requests: u64) {
        for _ in 0..requests {
            self.send(events(self.sent.get()));
        }
    }

    /// Has one request with these events sent.
    pub fn send(&self, events: Vec<Event>) {
        let number = self.sent.get();
        self.sent.set(number + 1);
        self.jobs[(number % CLIENTS) as usize].send(events).unwrap();
    }

    /// How many requests were handed over so far.
    pub fn requests(&self) -> u64 {
        self.sent.get()
    }

    /// How many of them have not been answered yet.
    pub fn unanswered(&self) -> u64 {
        self.sent.get() - self.done.load(Ordering::Relaxed)
    }

    /// Tells the clients where to go.
    pub fn engine_is_at(&self, url: Option<&str>) {
        *self.engine.address.lock().unwrap() = url.map(|url| url.trim_start_matches("http://").to_owned());
        self.engine.moved.notify_all();
    }

    /// Waits until everything was answered.
    pub fn finish(self) -> Vec<Acknowledged> {
        drop(self.jobs);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        self.acknowledged.lock().unwrap().clone()
    }

    /// What was answered so far.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// How many events were answered so far.
    pub fn answered(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// Sends each request until it is answered with 200; the same ids each time, so that a repetition starts nothing.
fn client(jobs: &Receiver<Vec<Event>>, engine: &Whereabouts, ledger: &Ledger, acknowledged: &Mutex<Vec<Acknowledged>>, done: &AtomicU64) {
    let sender_id = |event: &Event| event.has_id.then(|| format!("event-{}", event.n));
    for events in jobs {
        let body: Vec<serde_json::Value> = events
            .iter()
            .map(|event| {
                let mut json = serde_json::json!({"name": event.name, "data": {"n": event.n, "user": event.user}});
                if let Some(id) = sender_id(event) {
                    json["id"] = id.into();
                }
                json
            })
            .collect();
        let body = serde_json::to_string(&body).unwrap();
        let mut tries = 0;
        let ids = loop {
            let address = engine.wait();
            tries += 1;
            match post(&address, &body) {
                Ok(ids) => break ids,
                Err(_) => engine.wait_for_a_move(),
            }
        };
        let at = ledger.count();
        assert_eq!(ids.len(), events.len());
        acknowledged.lock().unwrap().extend(ids.into_iter().zip(events).map(|(id, event)| Acknowledged {
            id,
            sender_id: sender_id(&event),
            name: event.name,
            n: event.n,
            tries,
            at,
        }));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a request has events whose runs are ended from beside. The client's next one calls the first of them off, unless that one
/// meets limits.
fn is_doomed(job: u64) -> bool {
    job % 7 == 3 && job % 5 != 4
}

/// So many events that nothing follows from that the log is copied into the main file. Each batch has numbers of its own.
pub fn noted(batch: u64) -> Vec<Event> {
    let event = |at| Event { name: "work/noted", n: FIRST_NOTED + batch * NOTED + at, user: "nobody".to_owned(), has_id: true };
    (0..NOTED).map(event).collect()
}

/// The events of a request: one to three of them, or in every fifth one four at once that meet limits.
fn events(job: u64) -> Vec<Event> {
    // A user's events come from one client, so that there is one order in which they are accepted.
    let user = format!("user-{}", job % (2 * CLIENTS));
    let event = |name: &'static str, n: u64| Event { name, n, user: user.clone(), has_id: true };
    if job % 5 == 4 {
        return (0..4).map(|at| event("work/limited", job * 10 + at)).collect();
    }
    if is_doomed(job) {
        return (0..3).map(|at| event("work/doomed", job * 10 + at)).collect();
    }
    let name = |n: u64| ["work/plain", "work/keyed", "work/collected", "work/asked"][(n % 4) as usize];
    let mut events: Vec<Event> = (0..=job % 3).map(|at| job * 10 + at).map(|n| event(name(n), n)).collect();
    let before = job.checked_sub(CLIENTS).filter(|before| is_doomed(*before));
    events.extend(before.map(|before| event("work/called-off", before * 10 + CALLS_OFF)));
    events
}

impl Whereabouts {
    fn wait(&self) -> String {
        let mut address = self.address.lock().unwrap();
        loop {
            match &*address {
                Some(address) => return address.clone(),
                None => address = self.moved.wait(address).unwrap(),
            }
        }
    }

    fn wait_for_a_move(&self) {
        drop(self.moved.wait_timeout(self.address.lock().unwrap(), LOOK_AGAIN).unwrap());
    }
}

/// The ids of a 200; an error for no answer or a broken one. Any other answer is none that the engine may give here.
pub fn post(address: &str, body: &str) -> std::io::Result<Vec<String>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let length = body.len();
    write!(stream, "POST /e/key HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n")?;
    write!(stream, "Connection: close\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Err(std::io::ErrorKind::UnexpectedEof.into()) };
    let body: serde_json::Value = serde_json::from_str(body)?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(body["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect())
}
