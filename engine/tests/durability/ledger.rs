//! A small HTTP server that writes down every effect, in the order of their coming, and every kill between them.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use stepwell::base::{Clock, Millis};
use stepwell::clock::SystemClock;

/// How long the ledger waits for a client that has connected and says nothing: a killed one is noticed at once.
const SILENCE: Duration = Duration::from_secs(10);
/// How long it is waited for effects that may not come, since all runs may have ended or be asleep; and for all of those
/// that were asked for.
const LULL: Duration = Duration::from_millis(300);
const WHILE: Duration = Duration::from_millis(1_500);

/// One line of the ledger.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A request came.
    Effect(Effect),
    /// The engine is about to be killed.
    Kill,
}

/// A request to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub run: String,
    pub step: String,
    /// Its number within the step.
    pub part: u64,
    /// The value of the run's concurrency key.
    pub user: Option<String>,
    /// What else the handler says of itself.
    pub more: serde_json::Value,
    /// The header that makes it recognisable.
    pub idempotency_key: String,
    /// The number of the engine that it came from, where that was told the ledger's address with a number; else 0.
    pub life: u64,
    pub at: Millis,
}

/// A handle to a ledger; clones are handles to the same one.
#[derive(Clone)]
pub struct Ledger {
    pub url: String,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book {
    entries: Mutex<Vec<Entry>>,
    /// The runs whose first effect has come.
    runs: Mutex<HashSet<String>>,
    grown: Condvar,
}

impl Ledger {
    /// One thread serves one connection after the other: a request that an engine sent before it was killed is written
    /// down before any of the next engine's.
    pub fn start() -> Ledger {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let book = Arc::new(Book::default());
        let writer = Arc::clone(&book);
        std::thread::spawn(move || {
            let clock = SystemClock::default();
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that was killed while it spoke has had no effect.
                let _ = serve(stream, &writer, &clock);
            }
        });
        Ledger { url, book }
    }

    pub fn note_kill(&self) {
        self.book.entries.lock().unwrap().push(Entry::Kill);
    }

    /// Waits until `count` more effects have come, or none comes any more, or it has taken long enough.
    pub fn wait_for_more(&self, count: usize) {
        let clock = SystemClock::default();
        let enough = clock.now().0 + WHILE.as_millis() as i64;
        let mut entries = self.book.entries.lock().unwrap();
        let wanted = entries.len() + count;
        while entries.len() < wanted && clock.now().0 < enough {
            let (guard, lull) = self.book.grown.wait_timeout(entries, LULL).unwrap();
            entries = guard;
            if lull.timed_out() {
                return;
            }
        }
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.book.entries.lock().unwrap().len()
    }

    /// The entries from the one with this number on.
    pub fn entries_from(&self, from: usize) -> Vec<Entry> {
        self.book.entries.lock().unwrap()[from..].to_vec()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.book.entries.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, book: &Book, clock: &SystemClock) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(&stream);
    let (mut length, mut idempotency_key, mut life) = (0, String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(path) = line.strip_prefix("POST /") {
            life = path.split('/').next().and_then(|part| part.parse().ok()).unwrap_or(0);
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => idempotency_key = value.to_owned(),
            _ if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let effect = Effect {
        run: text("run").unwrap(),
        step: text("step").unwrap(),
        part: body["part"].as_u64().unwrap(),
        user: text("user"),
        more: body["more"].clone(),
        idempotency_key,
        life,
        at: clock.now(),
    };
    let status = book.write_down(effect);
    write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

impl Book {
    /// What the client is answered: the first try of an `unsure` step has its effect and fails all the same.
    fn write_down(&self, effect: Effect) -> &'static str {
        let first = self.runs.lock().unwrap().insert(effect.run.clone());
        let mut entries = self.entries.lock().unwrap();
        let status = if effect.step == "unsure" && first { "503 Service Unavailable" } else { "200 OK" };
        entries.push(Entry::Effect(effect));
        self.grown.notify_all();
        status
    }
}
