//! The load generator: keep-alive connections that send prepared requests as fast as they are answered.
//!
//! It speaks just enough HTTP/1.1 for that, since a whole client would cost more than the server that is measured.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::Stopwatch;

/// Makes the body of the n-th request.
pub type Body = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// Sends `requests` requests over `connections` connections; done when the last is answered.
///
/// # Errors
/// Where a connection fails or an answer is not 200: a figure with refused requests in it would say nothing.
pub fn send(address: SocketAddr, connections: usize, requests: u64, body: &Body) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let next = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let local = tokio::task::LocalSet::new();
        let tasks: Vec<_> =
            (0..connections).map(|_| local.spawn_local(connection(address, requests, Arc::clone(&next), Arc::clone(body)))).collect();
        local
            .run_until(async {
                for task in tasks {
                    task.await.map_err(io::Error::other)??;
                }
                Ok(())
            })
            .await
    })
}

async fn connection(address: SocketAddr, requests: u64, next: Arc<AtomicU64>, body: Body) -> io::Result<()> {
    let mut connection = Connection::open(address).await?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            return Ok(());
        }
        connection.post(&body(number)).await?;
    }
}

/// One keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    received: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, address, received: Vec::with_capacity(4096) })
    }

    /// Sends one body to `/e/bench` and reads the answer.
    ///
    /// # Errors
    /// Those of the connection, and any answer but 200.
    pub async fn post(&mut self, body: &str) -> io::Result<()> {
        let head = format!(
            "POST /e/bench HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body.as_bytes());
        self.expect_200(&request).await
    }

    /// Asks for `path` and reads the answer.
    ///
    /// # Errors
    /// As `post`.
    pub async fn get(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.expect_200(request.as_bytes()).await
    }

    /// Asks for a page of the dashboard, or a file of it, as a browser does; its text.
    ///
    /// # Errors
    /// As `post`, and where it is no text.
    pub async fn page(&mut self, path: &str) -> io::Result<&str> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/html\r\n\r\n", self.address);
        self.expect_200(request.as_bytes()).await?;
        let body = answer(&self.received).map_or(0, |(head, _)| head);
        std::str::from_utf8(&self.received[body..]).map_err(io::Error::other)
    }

    async fn expect_200(&mut self, request: &[u8]) -> io::Result<()> {
        match self.exchange(request).await? {
            200 => Ok(()),
            _ => Err(io::Error::other(format!("refused: {}", String::from_utf8_lossy(&self.received)))),
        }
    }

    /// Sends a request and reads the answer; its status.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            if let Some((head, length)) = answer(&self.received)
                && self.received.len() >= head + length
            {
                break;
            }
        }
        let status = self.received.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.ok_or_else(|| io::Error::other(format!("no answer: {}", String::from_utf8_lossy(&self.received))))
    }

    /// Asks for `path` and hands each line of the answer to `line`, until that says that it has seen enough.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn follow(mut self, path: &str, mut line: impl FnMut(&str) -> bool) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n", self.address);
        self.stream.write_all(request.as_bytes()).await?;
        let mut read = Vec::with_capacity(4096);
        loop {
            if self.stream.read_buf(&mut read).await? == 0 {
                return Err(io::Error::other("the server closed the stream"));
            }
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let text: Vec<u8> = read.drain(..=end).collect();
                if line(String::from_utf8_lossy(&text).trim_end()) {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads one of `paths` after the other, each so long after the one before as `every` says, until `enough` is set; the times
/// that the answers took.
///
/// # Errors
/// As `send`.
pub fn read_now_and_then(address: SocketAddr, paths: &[String], every: Duration, enough: &AtomicBool) -> io::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(address).await?;
        let mut taken = Vec::new();
        for path in paths.iter().cycle() {
            let watch = Stopwatch::start();
            connection.get(path).await?;
            taken.push(watch.elapsed());
            if enough.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(every.saturating_sub(watch.elapsed())).await;
        }
        Ok(taken)
    })
}

/// Sends events over some connections, each so long after its answer to the one before as `every` says, until `enough` is set; the
/// times that the answers took.
///
/// # Errors
/// As `send`.
pub fn send_now_and_then(
    address: SocketAddr,
    connections: usize,
    every: Duration,
    body: &Body,
    enough: &Arc<AtomicBool>,
) -> io::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let next = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let local = tokio::task::LocalSet::new();
        let sender = || {
            let (next, body, enough) = (Arc::clone(&next), Arc::clone(body), Arc::clone(enough));
            local.spawn_local(async move {
                let mut connection = Connection::open(address).await?;
                let mut taken = Vec::new();
                while !enough.load(Ordering::Relaxed) {
                    let watch = Stopwatch::start();
                    connection.post(&body(next.fetch_add(1, Ordering::Relaxed))).await?;
                    taken.push(watch.elapsed());
                    tokio::time::sleep(every).await;
                }
                Ok::<_, io::Error>(taken)
            })
        };
        let tasks: Vec<_> = (0..connections).map(|_| sender()).collect();
        local
            .run_until(async {
                let mut taken = Vec::new();
                for task in tasks {
                    taken.extend(task.await.map_err(io::Error::other)??);
                }
                Ok(taken)
            })
            .await
    })
}

/// Posts nothing to `path` on a connection of its own; the status of the answer.
///
/// # Errors
/// Those of the connection.
pub fn post_once(address: SocketAddr, path: &str) -> io::Result<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
    runtime.block_on(async { Connection::open(address).await?.exchange(request.as_bytes()).await })
}

/// The lengths of an answer's head and body, once its head is complete.
fn answer(received: &[u8]) -> Option<(usize, usize)> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    Some((end, length.unwrap_or(0)))
}
