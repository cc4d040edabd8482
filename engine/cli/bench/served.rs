//! The engine that is measured: a process of its own, as in production, on a real file with `durability: full`.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rusqlite::{Connection as Database, OpenFlags};

use crate::clock::Stopwatch;

use super::load::Connection;
use super::project::Site;
use super::roles;

/// The longest wait for the engine's process, and for the end of all runs.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a starting process is knocked at.
const KNOCK: Duration = Duration::from_micros(500);
/// How often it is looked whether the runs have ended.
const LOOK: Duration = Duration::from_millis(10);
/// How often it is looked whether an engine is about to end, whose connections have broken.
const LOOKS_FOR_ITS_END: u32 = 100;
/// The longest wait for an engine that was told to stop; then it is killed.
const STOPS: Duration = Duration::from_secs(60);
/// Lines of what an engine said that are shown where it is gone: it may have said a lot.
const LAST_LINES: usize = 10;

/// An engine in a process of its own; stopped when it goes out of scope.
pub struct Served {
    process: RefCell<Child>,
    database: PathBuf,
    /// What it says.
    log: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of its process to the first answer that says it is ready.
    pub ready_after: Duration,
}

impl Served {
    /// Starts it on a fresh database and waits until it is ready.
    ///
    /// # Errors
    /// Where the process cannot be started or ends at once.
    pub fn start(site: &Site, name: &str) -> io::Result<Served> {
        Served::on(site, site.database(name), 0)
    }

    /// The same on a database that may be there already, with a delay before each flush, in milliseconds.
    ///
    /// # Errors
    /// As `start`.
    pub fn on(site: &Site, database: PathBuf, flush_delay_ms: u64) -> io::Result<Served> {
        Served::with(site, &site.config(), database, flush_delay_ms)
    }

    /// The same with another config.
    ///
    /// # Errors
    /// As `start`.
    pub fn with(site: &Site, config: &Path, database: PathBuf, flush_delay_ms: u64) -> io::Result<Served> {
        // The port is free a moment ago; the engine says so if somebody was faster.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = database.with_extension("log");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg(config).args(["--listen", &address.to_string(), "--database"]).arg(&database);
        if flush_delay_ms > 0 {
            command.args(["--flush-delay", &flush_delay_ms.to_string()]);
        }
        for variable in ["STEPWELL_EVENT_KEYS", "STEPWELL_ADMIN_TOKEN", "STEPWELL_READ_TOKEN"] {
            command.env_remove(variable);
        }
        command.env("CALLED", site.called()?.url()).env("STEPWELL_LOG", "warn");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let watch = Stopwatch::start();
        let process = RefCell::new(command.spawn()?);
        let mut served = Served { process, database, log, address, ready_after: Duration::ZERO };
        served.until_ready(&watch).map_err(|error| served.explained(error))?;
        served.ready_after = watch.elapsed();
        Ok(served)
    }

    /// Fails where its process has ended, with the last of what it said.
    fn has_to_be_there(&self) -> io::Result<()> {
        let Some(status) = self.process.borrow_mut().try_wait()? else { return Ok(()) };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.trim().lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        Err(io::Error::other(format!("the engine's process ended: {status}\n{last}")))
    }

    /// Why something with it failed. Its connections may break a moment before its process has ended.
    pub fn explained(&self, error: io::Error) -> io::Error {
        for _ in 0..LOOKS_FOR_ITS_END {
            if let Err(gone) = self.has_to_be_there() {
                return gone;
            }
            std::thread::sleep(LOOK);
        }
        error
    }

    fn until_ready(&self, watch: &Stopwatch) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        while TcpStream::connect(self.address).is_err() {
            self.has_to_be_there()?;
            if watch.elapsed() > PATIENCE {
                return Err(io::Error::other("the engine did not listen in time"));
            }
            std::thread::sleep(KNOCK);
        }
        // It listens first and answers once it has taken up what the database holds.
        runtime.block_on(async { Connection::open(self.address).await?.get("/ready").await })
    }

    /// A connection to its database that only reads.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn look(&self) -> io::Result<Database> {
        Database::open_with_flags(&self.database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(io::Error::other)
    }

    /// Waits until all runs that are stored have ended.
    ///
    /// # Errors
    /// Where the database cannot be read, where the engine is gone, or after ten minutes.
    pub fn until_all_ended(&self) -> io::Result<()> {
        // One row that is open is enough to know; to count them all, again and again, would take a good part of a core.
        self.until(LOOK, "SELECT NOT EXISTS (SELECT 1 FROM runs WHERE ended IS NULL)")
    }

    /// Waits until a question to the database is answered with yes.
    ///
    /// # Errors
    /// As `until_all_ended`.
    pub fn until(&self, look: Duration, sql: &str) -> io::Result<()> {
        let database = self.look()?;
        let mut question = database.prepare(sql).map_err(io::Error::other)?;
        let watch = Stopwatch::start();
        while !question.query_row([], |row| row.get::<_, bool>(0)).map_err(io::Error::other)? {
            self.has_to_be_there()?;
            if watch.elapsed() > PATIENCE {
                return Err(io::Error::other("not all runs ended in time"));
            }
            std::thread::sleep(look);
        }
        Ok(())
    }

    /// Sends one event at a time and takes the time until the stream tells the end of a run.
    ///
    /// # Errors
    /// Those of the connections.
    pub fn one_by_one(&self, event: &str, times: u64) -> io::Result<Vec<Duration>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let taken = runtime.block_on(async {
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
                let mut end = async || match tokio::time::timeout(PATIENCE, ends.recv()).await {
                    Ok(told) => told.ok_or_else(|| io::Error::other("the stream ended")),
                    Err(_) => Err(io::Error::other("the stream told of no end in time")),
                };
                end().await?;
                let mut taken = Vec::new();
                for number in 0..times {
                    let watch = Stopwatch::start();
                    sender.post(&super::project::body(event, number, 1)).await?;
                    end().await?;
                    taken.push(watch.elapsed());
                }
                Ok(taken)
            };
            tokio::select! {
                ended = follow => Err(ended.err().unwrap_or_else(|| io::Error::other("the stream ended"))),
                taken = measure => taken,
            }
        });
        taken.map_err(|error| self.explained(error))
    }

    /// The resident memory of its process now, in megabytes.
    ///
    /// # Errors
    /// Where `/proc` does not tell.
    pub fn resident_mb(&self) -> io::Result<f64> {
        roles::resident_mb(self.process.borrow().id())
    }

    /// The most resident memory that its process has had, in megabytes.
    ///
    /// # Errors
    /// As `resident_mb`.
    pub fn peak_mb(&self) -> io::Result<f64> {
        roles::peak_mb(self.process.borrow().id())
    }

    /// Stops it, and gives the bytes of the database's file, once its write-ahead log is part of it.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn bytes_on_disk(self) -> io::Result<f64> {
        self.stop();
        Ok(fs::metadata(&self.database)?.len() as f64)
    }

    /// Asks the process to stop and waits for its end, which it gets where it does not find it.
    fn stop(&self) {
        if let Some(process) = rustix::process::Pid::from_raw(self.process.borrow().id() as i32) {
            // A process that has ended already needs no signal.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let watch = Stopwatch::start();
        let mut process = self.process.borrow_mut();
        // One that cannot be waited for is none of ours any more.
        while let Ok(None) = process.try_wait() {
            if watch.elapsed() > STOPS {
                let _ = process.kill();
                let _ = process.wait();
            }
            std::thread::sleep(KNOCK);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_an_engine_that_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (database, log) = (folder.path().join("bench.db"), folder.path().join("engine.log"));
        Database::open(&database).and_then(|database| database.execute_batch("CREATE TABLE t (x)")).expect("a database");
        let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
        fs::write(&log, lines).expect("a log");
        let process = RefCell::new(Command::new("false").spawn().expect("a process"));
        let served = Served { process, database, log, address: ([127, 0, 0, 1], 9).into(), ready_after: Duration::ZERO };
        let error = served.until(LOOK, "SELECT false").expect_err("it is gone").to_string();
        assert!(error.starts_with("the engine's process ended: exit status: 1\nline 90\n") && error.ends_with("line 99"), "{error}");
    }
}
