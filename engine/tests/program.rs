//! The program under test, as a process: commands with a clean environment, and a server on a port of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for a server's next word; only a broken one takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command in `folder`, without the variables of whoever runs the tests, with `stepwell` on its path: the one that was built with the
/// tests, or that of the folder `STEPWELL_TESTED`, to take figures of a release build without building the tests like it.
pub fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEPWELL_") {
            command.env_remove(name);
        }
    }
    let beside = Path::new(env!("CARGO_BIN_EXE_stepwell")).parent().expect("the program is in a folder").to_owned();
    let beside = std::env::var_os("STEPWELL_TESTED").map_or(beside, |folder| repository().join(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = [beside].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(paths).expect("the program's folder can stand in PATH"));
    command.env("NO_COLOR", "1").current_dir(folder).stdin(Stdio::null());
    command
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `stepwell` with these arguments to its end.
pub fn stepwell<'a>(folder: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Ended {
    let output = command("stepwell", folder).args(arguments).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { exit: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Copies the files and folders of `names`, or all where there are none, leaving out what an engine keeps beside its config.
pub fn copy(from: &Path, names: &[&str], to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let entries = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.collect::<Vec<PathBuf>>() {
        let name = path.file_name().unwrap();
        let is_meant = names.is_empty() || names.iter().any(|meant| name == *meant);
        if !is_meant || name == ".stepwell" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &[], &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A server that runs until it is stopped or dropped.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<String>>,
    pub port: u16,
}

impl Server {
    /// Starts a command that serves, and waits until it is ready. The port is free: the command is asked for port 0.
    pub fn start(command: &mut Command) -> Server {
        command.env("STEPWELL_PORT", "0").env("STEPWELL_LISTEN", "127.0.0.1:0");
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().expect("the server starts");
        // The command holds the pipe's other end: it goes before the reader can see the end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (send, lines) = channel();
        let reader = std::thread::spawn(move || {
            let mut whole = String::new();
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                whole.push_str(&line);
                whole.push('\n');
                // Nobody listens once the port is known.
                let _ = send.send(line);
            }
            whole
        });
        let mut server = Server { child, lines, reader: Some(reader), port: 0 };
        server.port = server.say_port();
        server.await_ready();
        server
    }

    /// The port that the server says it listens on.
    fn say_port(&mut self) -> u16 {
        let mut said = String::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("the server names no address:\n{said}");
            };
            if let Some((_, rest)) = line.split_once("127.0.0.1:") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                return digits.parse().unwrap_or_else(|_| panic!("no port in `{line}`"));
            }
            said.push_str(&line);
            said.push('\n');
        }
    }

    fn await_ready(&mut self) {
        while !self.get("/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(self.child.try_wait().unwrap().is_none(), "the server has ended");
            std::thread::yield_now();
        }
    }

    /// The whole answer to a GET, where there is one.
    pub fn get(&self, path: &str) -> Option<String> {
        self.ask(&format!("GET {path}"), &[], "")
    }

    /// The whole answer to a POST of JSON.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let length = body.len().to_string();
        let own = [("content-type", "application/json"), ("content-length", length.as_str())];
        self.ask(&format!("POST {path}"), &[headers, &own].concat(), body).expect("the server answers")
    }

    /// What the events of a stream say, from now on.
    pub fn listen(&self, path: &str) -> impl Iterator<Item = String> + use<> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port).unwrap();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with("HTTP/1.1 200"), "{path}: {first}");
        lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned))
    }

    fn ask(&self, what: &str, headers: &[(&str, &str)], body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("{what} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{headers}\r\n{body}", self.port);
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// The server's address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks the server to end (SIGTERM), and waits for it; what it printed from start to end.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.tell_to_stop();
        self.end()
    }

    /// Asks the server to end (SIGTERM), and waits for nothing.
    pub fn tell_to_stop(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("the server is alive");
    }

    /// Kills the server (SIGKILL): it has no time for anything.
    pub fn kill(mut self) {
        self.child.kill().expect("the server is alive");
        self.end();
    }

    fn end(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let printed = self.reader.take().map(|reader| reader.join().unwrap()).unwrap_or_default();
        (status, printed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed leaves no process behind; one that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
