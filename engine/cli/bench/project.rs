//! The project that is measured, in a folder of its own, and how much work each figure is taken with.

use std::cell::{Cell, OnceCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::called::Called;

const EVENTS: &str = r#"version: 1
app: bench
engine: { body: 3MB }
env: { CALLED: "http://127.0.0.1:1" }
http: { allow: ["127.0.0.0/8"] }
events:
  bench/accepted: { schema: { type: object, required: [n, user], properties: { n: { type: integer }, user: { type: string } } } }
  bench/one: {}
  bench/three: {}
  bench/fifty: {}
  bench/thousand: {}
  bench/keyed: {}
  bench/hot: {}
  bench/sleep: {}
  bench/wait: {}
  bench/held: {}
  bench/answer: {}
  bench/probe: {}
CALL_EVENTS
functions:
  one-step: { on: bench/one }
  three-steps: { on: bench/three }
  fifty-steps: { on: bench/fifty }
  thousand-steps: { on: bench/thousand }
  keyed: { on: bench/keyed, handler: handlers/one-step.rhai, concurrency: { limit: 1, key: event.data.n } }
  hot: { on: bench/hot, handler: handlers/one-step.rhai, concurrency: { limit: 1, key: event.name } }
  sleep: { on: bench/sleep }
  wait: { on: bench/wait }
  held: { on: bench/held, handler: handlers/wait.rhai, concurrency: { limit: 1, key: event.data.n, hold: run } }
  probe: { on: bench/probe }
CALL_FUNCTIONS
"#;
const HANDLERS: [(&str, &str); 8] = [
    ("one-step", "step(\"only\", || 1)\n"),
    ("three-steps", "step(\"first\", || 1);\nstep(\"second\", || 2);\nstep(\"third\", || 3)\n"),
    ("fifty-steps", "for n in 0..50 { step(`step-${n}`, || 1); }\n50\n"),
    ("thousand-steps", "for n in 0..1000 { step(`step-${n}`, || 1); }\n1000\n"),
    ("sleep", "sleep(\"nap\", \"1h\");\nstep(\"only\", || 1)\n"),
    ("wait", "wait_for_event(\"bench/answer\", #{ \"if\": \"async.data.n == event.data.n\" });\nstep(\"only\", || 1)\n"),
    (
        "probe",
        "let to = env(\"CALLED\");\nstep(\"begin\", || http::get(`${to}/begin/${run.id}`).status);\nstep(\"end\", || http::get(`${to}/end/${run.id}`).status)\n",
    ),
    ("call", "let to = env(\"CALLED\");\nstep(\"call\", || http::get(`${to}/wait`).status)\n"),
];
/// What the `if` of the waiting runs is, for those who write their rows.
pub const WAITS_IF: &str = "async.data.n == event.data.n";

/// Runs in flight of the figures with a call: each has a function of its own, since the limit is a function's.
pub const IN_FLIGHT: [usize; 5] = [1, 10, 100, 1_000, 10_000];

/// Functions that the clock starts.
pub const CRONS: usize = 1_000;

/// They start once a minute each, spread over its seconds.
fn crons() -> String {
    let function = |n: usize| format!("  cron-{n}: {{ cron: \"{} * * * * *\", handler: handlers/one-step.rhai }}\n", n % 60);
    (0..CRONS).map(function).collect()
}

/// A function whose runs are cancelled by the event with their number. It has a config of its own: an engine with such a function looks
/// at all runs once more when it starts, and that is no part of the other figures.
fn cancelled() -> String {
    format!("  cancelled: {{ on: bench/sleep, handler: handlers/sleep.rhai, cancel_on: {{ event: bench/answer, if: \"{WAITS_IF}\" }} }}\n")
}

/// Something of which `--quick` takes less.
#[derive(Debug, Clone, Copy)]
pub struct Part<T> {
    /// For figures that count.
    pub whole: T,
    /// For a first look.
    pub quick: T,
}

/// How much work the figures are taken with.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Whether a first look is enough.
    pub quick: bool,
    /// Runs of a throughput figure.
    pub runs: u64,
    /// Runs that wait when an engine starts.
    pub waiting: u64,
    /// Runs that have ended before.
    pub finished: u64,
    /// Takings of a latency.
    pub latencies: u64,
}

impl Scale {
    /// What of `part` is meant.
    pub fn of<T>(&self, part: Part<T>) -> T {
        if self.quick { part.quick } else { part.whole }
    }
}

/// A folder with the project, deleted when it goes out of scope, and what all figures share.
pub struct Site {
    folder: PathBuf,
    /// How much work there is.
    pub scale: Scale,
    /// Shows how far it is.
    pub bar: ProgressBar,
    called: OnceCell<Called>,
    databases: Cell<u32>,
    idle_mb: Cell<Option<f64>>,
}

impl Site {
    /// A new folder below `parent`, or below the system's temporary folder.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(parent: Option<&Path>, scale: Scale, bar: ProgressBar) -> io::Result<Site> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let folder = parent.join(format!("stepwell-bench-{}", std::process::id()));
        fs::create_dir_all(folder.join("handlers"))?;
        let site = Site { folder, scale, bar, called: OnceCell::new(), databases: Cell::new(0), idle_mb: Cell::new(None) };
        let line = |make: &dyn Fn(usize) -> String| IN_FLIGHT.map(make).join("\n");
        let events = line(&|limit| format!("  bench/call-{limit}: {{}}"));
        let functions =
            line(&|limit| format!("  call-{limit}: {{ on: bench/call-{limit}, handler: handlers/call.rhai, concurrency: {limit} }}"));
        let config = EVENTS.replace("CALL_EVENTS", &events).replace("CALL_FUNCTIONS", &functions);
        fs::write(site.config_with_crons(), format!("{config}{}", crons()))?;
        fs::write(site.config_with_cancelled(), format!("{config}{}", cancelled()))?;
        fs::write(site.config(), config)?;
        for (name, script) in HANDLERS {
            fs::write(site.folder.join(format!("handlers/{name}.rhai")), script)?;
        }
        Ok(site)
    }

    /// Its path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The config's path.
    pub fn config(&self) -> PathBuf {
        self.folder.join("events.yaml")
    }

    /// The path of the same config with `CRONS` more functions, each started by the clock.
    pub fn config_with_crons(&self) -> PathBuf {
        self.folder.join("crons.yaml")
    }

    /// The path of the same config with one more function, whose runs an event cancels.
    pub fn config_with_cancelled(&self) -> PathBuf {
        self.folder.join("cancelled.yaml")
    }

    /// The path of a database that is not there yet.
    pub fn database(&self, name: &str) -> PathBuf {
        self.databases.set(self.databases.get() + 1);
        self.folder.join(format!("{name}-{}.db", self.databases.get()))
    }

    /// The server that steps call, in a process of its own.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn called(&self) -> io::Result<&Called> {
        if let Some(called) = self.called.get() {
            return Ok(called);
        }
        let called = Called::start()?;
        Ok(self.called.get_or_init(|| called))
    }

    /// The memory of an idle engine in megabytes, as this round has found it: looked at once, by whichever figure needs it first.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn idle_mb(&self, look: impl FnOnce() -> io::Result<f64>) -> io::Result<f64> {
        if let Some(mb) = self.idle_mb.get() {
            return Ok(mb);
        }
        let mb = look()?;
        self.idle_mb.set(Some(mb));
        Ok(mb)
    }

    /// Forgets what the round before has found.
    pub fn new_round(&self) {
        self.idle_mb.set(None);
    }

    /// Deletes the databases of the figures that have been taken.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().contains(".db")) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What cannot be deleted stays in the temporary folder, which is no failure of the measurement.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The body of the n-th request: one event, or an array of `many`.
pub fn body(name: &str, request: u64, many: u64) -> String {
    let event = |number: u64| {
        let user = number % 1000;
        format!(r#"{{"name":"{name}","data":{{"n":{number},"user":"user-{user}"}}}}"#)
    };
    if many == 1 {
        return event(request);
    }
    let events: Vec<String> = (0..many).map(|at| event(request * many + at)).collect();
    format!("[{}]", events.join(","))
}
