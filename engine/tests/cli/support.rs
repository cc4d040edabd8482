//! Calls the real binary and keeps what it said.

use std::io::{BufRead as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a test waits for something that should come at once, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a call of the program came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its data.
    pub out: String,
    /// Its talk.
    pub err: String,
}

impl Ran {
    /// Checks the exit code and shows everything where it is another one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Checks that stderr holds `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.err.contains(text), "stderr has no `{text}`:\n{}", self.err);
        self
    }

    /// Checks that stdout holds `text`.
    #[track_caller]
    pub fn prints(self, text: &str) -> Ran {
        assert!(self.out.contains(text), "stdout has no `{text}`:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// The data as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in:\n{}\nstderr:\n{}", self.out, self.err))
    }
}

/// A folder of a test's own, with the means to call the program in it.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// An empty folder.
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder with the project that `init` writes.
    pub fn hello() -> Place {
        let place = Place::new();
        place.run(&["init"]).exits(0);
        place
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with its folders.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The program, about to be called in the folder, with nothing of ours in its environment.
    pub fn command(&self) -> Command {
        program(self.folder.path())
    }

    /// Calls the program.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[], "")
    }

    /// Calls the program for an engine.
    pub fn ask(&self, engine: &Engine, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[("STEPWELL_URL", &engine.url)], "")
    }

    /// Calls the program with variables and a text on stdin.
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)], stdin: &str) -> Ran {
        let mut command = self.command();
        command.args(arguments).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads no stdin may be gone before all of it is written.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The program, about to be called in `folder`.
pub fn program(folder: &Path) -> Command {
    crate::program::command(env!("CARGO_BIN_EXE_stepwell"), folder)
}

/// A running engine; it is killed with its value.
pub struct Engine {
    child: Child,
    stderr: std::sync::mpsc::Receiver<String>,
    /// Its address.
    pub url: String,
}

impl Engine {
    /// Starts `dev` in the place on a free port, with variables.
    pub fn dev(place: &Place, arguments: &[&str]) -> Engine {
        let mut command = place.command();
        command.args(["dev", "--port", "0"]).args(arguments);
        Engine::start(command)
    }

    /// Starts a command that serves, and waits until it says where.
    pub fn start(command: Command) -> Engine {
        let mut engine = Engine::spawn(command);
        let line = engine.line_with("listening on http://");
        engine.url = address_in(&line);
        engine
    }

    /// The same for one that may end before; then its exit code, and what it said.
    pub fn try_start(command: Command) -> Result<Engine, (i32, String)> {
        let mut engine = Engine::spawn(command);
        let mut said = String::new();
        loop {
            match engine.stderr.recv_timeout(PATIENCE) {
                Ok(line) if line.contains("listening on http://") => {
                    engine.url = address_in(&line);
                    return Ok(engine);
                }
                Ok(line) => said.push_str(&format!("{line}\n")),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Err((engine.exit_code(), said)),
                Err(error) => panic!("it neither starts nor ends ({error}):\n{said}"),
            }
        }
    }

    /// Starts a command; it is killed with the value.
    pub fn spawn(mut command: Command) -> Engine {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, stderr) = std::sync::mpsc::channel();
        let lines = std::io::BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                // A test that has ended reads no more.
                let _ = sender.send(line);
            }
        });
        Engine { child, stderr, url: String::new() }
    }

    /// All that it still says until its end, and its exit code.
    pub fn last_words(&mut self) -> (i32, String) {
        let mut said = String::new();
        while let Ok(line) = self.stderr.recv_timeout(PATIENCE) {
            said.push_str(&format!("{line}\n"));
        }
        (self.exit_code(), said)
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for a line of stderr that holds `text`.
    #[track_caller]
    pub fn line_with(&self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push_str(&format!("{line}\n")),
                Err(error) => panic!("no line with `{text}` ({error}) in:\n{seen}"),
            }
        }
    }

    /// All that it still says, until it ends.
    pub fn lines_to_the_end(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return lines,
                Err(error) => panic!("it does not end ({error}): {lines:#?}"),
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end and checks that this signal ended it. One that had ended by itself before it was sent shows what it said.
    #[track_caller]
    pub fn is_ended_by(&mut self, signal: rustix::process::Signal) {
        let status = self.child.wait().unwrap();
        assert!(status.signal() == Some(signal.as_raw()), "{status}, not by {signal:?}:\n{}", self.lines_to_the_end().join("\n"));
    }

    /// Waits for its end and gives its exit code.
    pub fn exit_code(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_in(line: &str) -> String {
    line.split("listening on ").nth(1).unwrap().trim().to_owned()
}

/// Asks an engine without a body; its status, and its answer as JSON.
pub fn http(url: &str, method: &str, path: &str) -> (u16, serde_json::Value) {
    use std::io::Read as _;
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in:\n{answer}")))
}

/// A command that goes on printing; it is killed with its value.
pub struct Following {
    child: Child,
    stdout: std::sync::mpsc::Receiver<String>,
}

impl Following {
    /// Starts it.
    pub fn start(mut command: Command) -> Following {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (sender, stdout) = std::sync::mpsc::channel();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                // A test that has ended reads no more.
                let _ = sender.send(line);
            }
        });
        Following { child, stdout }
    }

    /// Does something again and again until a line comes.
    pub fn line_while(&mut self, mut again: impl FnMut()) -> String {
        loop {
            again();
            if let Ok(line) = self.stdout.recv_timeout(Duration::from_millis(50)) {
                return line;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What strace wrote down of an engine, once it has come to the end of its process.
pub fn strace_log(log: &Path, process: u32) -> String {
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    let process = process.to_string();
    // Short numbers are padded.
    let is_end = |line: &str| line.split_once(' ').is_some_and(|(of, rest)| of == process && rest.trim_start().starts_with("+++ "));
    let mut waited = Duration::ZERO;
    loop {
        let text = std::fs::read_to_string(log).unwrap();
        if text.ends_with('\n') && text.lines().next_back().is_some_and(is_end) {
            return text;
        }
        assert!(waited < PATIENCE, "strace does not end:\n{text}");
        std::thread::sleep(LOOK_AGAIN);
        waited += LOOK_AGAIN;
    }
}
