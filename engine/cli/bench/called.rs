//! The server that steps call, in a process of its own: it answers after a while, and notes how long a run takes from one
//! step's answer to the next one's call. And the raw limit of calling: a plain loop of tokio and reqwest.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::clock::Stopwatch;

use super::roles::Role;

/// How long `/wait` takes.
const ANSWERS_AFTER: Duration = Duration::from_millis(20);
/// Connections that may stand in line for the server.
const LINE: u32 = 16_384;
/// The longest head of a request.
const HEAD_BYTES: usize = 4_096;

/// The server's process; killed when it goes out of scope.
pub struct Called {
    role: Role,
}

impl Called {
    /// Starts it.
    ///
    /// # Errors
    /// Where the process does not say where it listens.
    pub fn start() -> io::Result<Called> {
        Ok(Called { role: Role::start(&["calls"])? })
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        self.role.said()
    }

    /// The times from the answer to a run's `/begin` to its `/end` that were noted since the last call.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn gaps(&self) -> io::Result<Vec<Duration>> {
        let text = on_one_thread(async {
            let response = client()?.get(format!("{}/gaps", self.url())).send().await.map_err(io::Error::other)?;
            response.text().await.map_err(io::Error::other)
        })?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).map(Duration::from_micros).collect())
    }
}

fn on_one_thread<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn client() -> io::Result<reqwest::Client> {
    // Somebody may have installed one before; both are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().map_err(io::Error::other)
}

/// What the server has noted.
#[derive(Default)]
struct Notes {
    begun: HashMap<String, Stopwatch>,
    gaps: Vec<Duration>,
}

/// Serves as long as the process lives. `listening` is told the URL.
///
/// # Errors
/// Where no port can be opened.
pub fn serve(listening: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    on_one_thread(async {
        // Thousands connect at once; the system cuts the line to what it allows.
        let socket = TcpSocket::new_v4()?;
        socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(LINE)?;
        listening(&format!("http://{}", listener.local_addr()?))?;
        let notes = Rc::new(RefCell::new(Notes::default()));
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(converse(stream, Rc::clone(&notes)));
        }
    })
}

/// Answers the requests of a connection, which have no bodies, until it is closed.
async fn converse(mut stream: TcpStream, notes: Rc<RefCell<Notes>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(512);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES {
                return Ok(());
            }
        }
        let path = std::str::from_utf8(&head).ok().and_then(|head| head.split(' ').nth(1)).unwrap_or_default().to_owned();
        let mut body = String::new();
        let (what, run) = path[1.min(path.len())..].split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        match what {
            "wait" => tokio::time::sleep(ANSWERS_AFTER).await,
            "end" => {
                let mut notes = notes.borrow_mut();
                let gap = notes.begun.remove(run).map(|begun| begun.elapsed());
                notes.gaps.extend(gap);
            }
            "gaps" => {
                let gaps = std::mem::take(&mut notes.borrow_mut().gaps);
                body = gaps.iter().map(|gap| format!("{}\n", gap.as_micros())).collect();
            }
            _ => {}
        }
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
        if what == "begin" {
            notes.borrow_mut().begun.insert(run.to_owned(), Stopwatch::start());
        }
    }
}

/// What the plain loop comes to in a process of its own: calls a second, and the most resident memory in megabytes.
///
/// # Errors
/// Where the process cannot be started, or a call fails.
pub fn plain_apart(url: &str, in_flight: usize, calls: u64) -> io::Result<(f64, f64)> {
    let role = Role::start(&["loop", url, &in_flight.to_string(), &calls.to_string()])?;
    let told = role.said().split_once(' ').and_then(|(rate, peak)| Some((rate.parse::<f64>().ok()?, peak.parse::<f64>().ok()?)));
    told.ok_or_else(|| io::Error::other(format!("the plain loop said `{}`", role.said())))
}

/// Calls a second of a plain loop: `in_flight` tasks on two threads, each with one call after the other, `calls` in all.
///
/// # Errors
/// Where a call fails.
pub fn plain(url: &str, in_flight: usize, calls: u64) -> io::Result<f64> {
    let url: Arc<str> = format!("{url}/wait").into();
    let next = Arc::new(AtomicU64::new(0));
    let watch = Stopwatch::start();
    let halves = [in_flight / 2, in_flight - in_flight / 2];
    let threads: Vec<_> = halves
        .into_iter()
        .map(|tasks| {
            let (url, next) = (Arc::clone(&url), Arc::clone(&next));
            std::thread::spawn(move || on_one_thread(call_in_turn(tasks, url, next, calls)))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread of the plain loop panicked"))??;
    }
    Ok(calls as f64 / watch.elapsed().as_secs_f64())
}

async fn call_in_turn(tasks: usize, url: Arc<str>, next: Arc<AtomicU64>, calls: u64) -> io::Result<()> {
    let client = client()?;
    let one = |client: reqwest::Client, url: Arc<str>, next: Arc<AtomicU64>| async move {
        while next.fetch_add(1, Ordering::Relaxed) < calls {
            let response = client.get(&*url).send().await.map_err(io::Error::other)?;
            response.bytes().await.map_err(io::Error::other)?;
        }
        Ok::<(), io::Error>(())
    };
    let tasks: Vec<_> = (0..tasks).map(|_| tokio::task::spawn_local(one(client.clone(), Arc::clone(&url), Arc::clone(&next)))).collect();
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    Ok(())
}
