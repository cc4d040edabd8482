//! The project that is measured, and the engine's process that serves it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock::Stopwatch;

use super::load::Connection;

const EVENTS: &str = r#"version: 1
app: bench
engine: { body: 3MB }
events:
  bench/accepted: { schema: { type: object, required: [n, user], properties: { n: { type: integer }, user: { type: string } } } }
  bench/one: {}
  bench/three: {}
functions:
  one-step: { on: bench/one }
  three-steps: { on: bench/three }
"#;
const ONE: &str = "step(\"only\", || 1)\n";
const THREE: &str = "step(\"first\", || 1);\nstep(\"second\", || 2);\nstep(\"third\", || 3)\n";
/// The longest wait for the engine's process, and for the end of all runs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A folder that is deleted when it goes out of scope.
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder below `parent`, or below the system's temporary folder.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(parent: Option<&Path>) -> io::Result<Folder> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(format!("stepwell-bench-{}", std::process::id()));
        std::fs::create_dir_all(path.join("handlers"))?;
        std::fs::write(path.join("events.yaml"), EVENTS)?;
        std::fs::write(path.join("handlers/one-step.rhai"), ONE)?;
        std::fs::write(path.join("handlers/three-steps.rhai"), THREE)?;
        Ok(Folder(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be deleted stays in the temporary folder, which is no failure of the measurement.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The body of the n-th request: one event, or an array of `many`.
pub fn body(name: &str, request: u64, many: u64) -> String {
    let event = |number: u64| format!(r#"{{"name":"{name}","data":{{"n":{number},"user":"user-{}"}}}}"#, number % 1000);
    if many == 1 {
        return event(request);
    }
    let events: Vec<String> = (0..many).map(|at| event(request * many + at)).collect();
    format!("[{}]", events.join(","))
}

/// An engine in a process of its own, on a fresh database; stopped when it goes out of scope.
pub struct Served {
    process: Child,
    database: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Served {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// Where the process cannot be started or ends at once.
    pub fn start(folder: &Path, name: &str) -> io::Result<Served> {
        // The port is free a moment ago; the engine says so if somebody was faster.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let database = folder.join(format!("{name}.db"));
        let mut process = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg(folder.join("events.yaml"))
            .args(["--listen", &address.to_string(), "--database"])
            .arg(&database)
            .env_remove("STEPWELL_EVENT_KEYS")
            .env_remove("STEPWELL_ADMIN_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let watch = Stopwatch::start();
        loop {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(Served { process, database, address });
            }
            if let Some(status) = process.try_wait()? {
                return Err(io::Error::other(format!("the engine's process ended: {status}")));
            }
            if watch.elapsed() > PATIENCE {
                return Err(io::Error::other("the engine did not listen in time"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `runs` runs are stored and all have ended.
    ///
    /// # Errors
    /// Where the database cannot be read, or after five minutes.
    pub fn until_all_ended(&self, runs: u64) -> io::Result<()> {
        // One row that is open is enough to know; to count them all, again and again, would take a good part of a core.
        let connection =
            rusqlite::Connection::open_with_flags(&self.database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(io::Error::other)?;
        let mut open = connection.prepare("SELECT EXISTS (SELECT 1 FROM runs WHERE ended IS NULL)").map_err(io::Error::other)?;
        let watch = Stopwatch::start();
        while open.query_row([], |row| row.get::<_, bool>(0)).map_err(io::Error::other)? {
            if watch.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("not all of {runs} runs ended in time")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends one event at a time and takes the time until the stream tells the end of its run.
    ///
    /// # Errors
    /// Those of the connections.
    pub fn one_by_one(&self, event: &str, times: u64) -> io::Result<Vec<Duration>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
            let stream = Connection::open(self.address).await?;
            let mut sender = Connection::open(self.address).await?;
            let follow = stream.follow("/v1/stream", move |line| {
                // The first line, before any event, says that the stream is open.
                let open = line.starts_with("HTTP/1.1 200");
                let ended = line.contains("\"completed\"") || line.contains("\"failed\"");
                (open || ended) && told.send(ended).is_err()
            });
            let measure = async {
                let closed = || io::Error::other("the stream ended");
                ends.recv().await.ok_or_else(closed)?;
                let mut taken = Vec::new();
                for number in 0..times {
                    let watch = Stopwatch::start();
                    sender.post(&body(event, number, 1)).await?;
                    ends.recv().await.ok_or_else(closed)?;
                    taken.push(watch.elapsed());
                }
                Ok(taken)
            };
            tokio::select! {
                ended = follow => Err(ended.err().unwrap_or_else(|| io::Error::other("the stream ended"))),
                taken = measure => taken,
            }
        })
    }

    /// The resident memory of the engine's process, in megabytes.
    ///
    /// # Errors
    /// Where `/proc` does not tell.
    pub fn resident_mb(&self) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kb =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.trim().split(' ').next()?.parse::<f64>().ok());
        kb.map(|kb| kb / 1024.0).ok_or_else(|| io::Error::other("no VmRSS in /proc"))
    }

    /// Bytes of the database's file, once its write-ahead log is part of it.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn bytes_on_disk(mut self) -> io::Result<f64> {
        self.stop();
        Ok(std::fs::metadata(&self.database)?.len() as f64)
    }

    /// Asks the process to stop and waits for its end.
    fn stop(&mut self) {
        if let Some(process) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            // A process that has ended already needs no signal.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}
