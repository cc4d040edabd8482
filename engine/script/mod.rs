//! The script host: Rhai handlers, compiled once, run on coroutines, each step stored before the next one begins.
//!
//! `Host` compiles a handler to a `Program`; `call` runs a program over a run's journal and says how it stopped. The
//! script sees the world through `api` alone. Nothing here decides what becomes of a run: that is `rules::run`.

mod api;
mod attempt;
mod capture;
mod check;
mod compile;
mod coroutine;
mod effects;
mod engine;
mod error;
mod footing;
mod import;
mod keys;
mod outside;
mod post;
mod run;
mod secret;
mod terms;
mod time;
mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::task::AtomicWaker;

use crate::base::network::Network;
use crate::base::{Clock, Diagnostic, Entropy, Location, Millis, RunId, Source, Span, limits};
use crate::rules::ended::Failed;
use crate::rules::policy::Timeouts;
use crate::rules::{AttemptRow, EventRow, List, LogRow, Record, Retry, RunRow, SourceRow, WaitRow, Write};
use crate::store::{Journal, Lane, Store, Ticket};

pub use api::{Entry, FAMILIES, Family, Form, Parameter, Where, definitions, entries, reference};
pub use check::facts::{At, Datum, End, Facts, Handed, Hop, Read, Root, What};
pub use effects::db::{Address, Databases};
pub use effects::email::{MailServer, Protection};
pub use effects::exec::Commands;
pub use footing::Footing;
pub use keys::{HeldKey, Keys};
pub use outside::{Answer, Answered, Asked, Errand, Outside, one_line, people};
pub use post::{Alone, Checked, Outgoing, OwnWrites, Parcel, Post, PostError, Published, Reply};
pub use run::{Held, call, held};
pub use secret::Secrets;

/// The engine's natives and the compiler of handlers. One is enough for a process: it takes 0.5 ms and 0.5 MB to make.
pub struct Host {
    engine: Arc<rhai::Engine>,
    reader: rhai::Engine,
    names: check::Names,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    /// A host with the handler API.
    pub fn new() -> Arc<Host> {
        Host::with(|_| {})
    }

    /// A host with natives of the caller's own beside the handler API: what a simulation records its effects with. A
    /// native that is an effect calls `demand_step` first.
    pub fn with(add: impl FnOnce(&mut Natives<'_>)) -> Arc<Host> {
        let (engine, names) = engine::build(add);
        Arc::new(Host { engine: Arc::new(engine), reader: engine::reader(), names })
    }

    /// Compiles a handler and all that it imports.
    ///
    /// `handler` is the handler's path below `root`, the config's folder; imports are looked for below its folder
    /// `handlers/`.
    ///
    /// # Errors
    /// Everything that is wrong with the handler's files.
    pub fn compile(&self, root: &Path, handler: &str) -> Result<Program, Vec<Diagnostic>> {
        self.inspect(root, handler, false).map_err(|refused| compile::errors(*refused))
    }

    /// As `compile`, or for a script for failures, which sees `error` beside `event` and `run`; what is refused comes with all that
    /// was found out about it, so that its place in a project can be judged in the same go.
    ///
    /// # Errors
    /// Everything that is wrong with the handler's files, and what else is known of them.
    pub fn inspect(&self, root: &Path, handler: &str, for_failures: bool) -> Result<Program, Box<Refused>> {
        let globals: &'static [&'static str] =
            if for_failures { &["event", "events", "run", "error"] } else { &["event", "events", "run"] };
        compile::from_disk(self, root, handler, globals)
    }

    /// Compiles a handler that is in no file, such as what somebody types; `name` is what it is called. Imports are looked for below
    /// `root`.
    ///
    /// # Errors
    /// As `compile`.
    pub fn compile_text(&self, root: &Path, name: &str, text: &str) -> Result<Program, Vec<Diagnostic>> {
        compile::from_text(self, root, name, text, &["event", "events", "run"])
    }

    /// Whether a text, a list, a number or a flag has a field of this name, such as `len`.
    pub fn has_field(&self, name: &str) -> bool {
        self.names.has_field(name)
    }

    /// Compiles a stored version of a handler.
    ///
    /// # Errors
    /// Everything that is wrong with its files; it compiled once, so this engine speaks another language than that one.
    pub fn compile_stored(&self, source: &SourceRow) -> Result<Program, Vec<Diagnostic>> {
        compile::from_row(self, source)
    }
}

/// Where the natives of a test or a simulation are added.
#[derive(Debug)]
pub struct Natives<'a> {
    engine: &'a mut rhai::Engine,
    extra: Vec<Entry>,
}

impl Natives<'_> {
    /// Rhai's engine, to register a function in.
    pub fn engine(&mut self) -> &mut rhai::Engine {
        self.engine
    }

    /// Declares a function to the checks that a handler goes through before it runs.
    pub fn declare(&mut self, entry: Entry) {
        self.extra.push(entry);
    }
}

/// Refuses to go on outside of a step's closure; gives the step's key, its attempt from 1, and the run.
///
/// # Errors
/// E0403 outside of a step.
pub fn demand_step(name: &str) -> Result<(RunId, Arc<str>, u32), Box<rhai::EvalAltResult>> {
    let attempt = attempt::current()?;
    let inside = api::demand_step(&attempt, name)?;
    Ok((attempt.call.run.id, inside.key, inside.attempt))
}

/// Waits on the script's coroutine until `future` is ready; the step's time-out and an end from outside come before it.
///
/// # Errors
/// E0403 outside of a run, the step's time-out, or the error that ends the script.
pub fn wait_in_step<F: Future>(future: F) -> Result<F::Output, Box<rhai::EvalAltResult>> {
    attempt::current()?.wait_in_step(future)
}

/// A compiled handler with everything that it imports.
pub struct Program {
    engine: Arc<rhai::Engine>,
    ast: rhai::AST,
    modules: BTreeMap<String, rhai::Shared<rhai::Module>>,
    files: Vec<Arc<Source>>,
    row: SourceRow,
    warnings: Vec<Diagnostic>,
    uses: Vec<Use>,
    facts: Facts,
    lines: Lines,
    sees: Sees,
}

/// Which variables the handler itself may read, by its text: for each run they would be made in vain where it names them nowhere. Other
/// files have functions alone, which see no variables.
struct Sees {
    event: bool,
    events: bool,
}

/// `file:line` of each line of each file, made when it is first asked for: every record has one.
type Lines = Vec<Box<[OnceLock<Arc<str>>]>>;

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("hash", &self.row.hash).finish_non_exhaustive()
    }
}

impl Program {
    /// The sources it was compiled from, the handler first.
    pub fn source(&self) -> &SourceRow {
        &self.row
    }

    /// The hash of its sources: the version that a run is on.
    pub fn hash(&self) -> &Arc<str> {
        &self.row.hash
    }

    /// The path of the handler below the config's folder.
    pub fn main(&self) -> &str {
        self.files.first().map_or("", |file| file.name.as_str())
    }

    /// Its files with their texts, the handler first.
    pub fn files(&self) -> &[Arc<Source>] {
        &self.files
    }

    /// The text of a line, which `place` names as records do: `file:line`.
    pub fn text_at(&self, place: &str) -> Option<Arc<str>> {
        let (file, line) = place.rsplit_once(':')?;
        let source = self.files.iter().find(|source| source.name == file)?;
        source.text.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?).map(Arc::from)
    }

    /// `file:line` as records have it.
    fn line(&self, file: &str, line: usize) -> Arc<str> {
        let make = || Arc::from(format!("{file}:{line}"));
        let known = self.files.iter().zip(&self.lines).find(|(source, _)| source.name == file);
        match known.and_then(|(_, lines)| lines.get(line)) {
            Some(slot) => Arc::clone(slot.get_or_init(make)),
            None => make(),
        }
    }

    /// What is probably a mistake in it.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The names of environment variables, secrets and events that stand in it as literals.
    pub fn uses(&self) -> &[Use] {
        &self.uses
    }

    /// What it reads of events, and what it hands to others.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// What is known of a handler that is no program.
#[derive(Debug)]
pub struct Refused {
    /// Errors, warnings and notes.
    pub problems: Vec<Diagnostic>,
    /// As `Program::uses`, as far as the handler could be read.
    pub uses: Vec<Use>,
    /// As `Program::facts`, as far as the handler could be read.
    pub facts: Facts,
}

/// A literal name in a handler that the config has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What it names.
    pub kind: UseKind,
    /// The name.
    pub name: String,
    /// Where it stands.
    pub place: Location,
}

/// What a literal name in a handler names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UseKind {
    /// `env("NAME")`
    Env,
    /// `secret("NAME")`
    Secret,
    /// A call that sleeps or waits: `name` is the function's.
    Sleep,
    /// An event that is sent.
    Event,
    /// An event that is waited for.
    Awaited,
    /// A function that is invoked.
    Function,
    /// A database.
    Database,
    /// A command that is run.
    Command,
    /// A mail that is sent.
    Mail,
    /// The `if` of a wait for an event of this name.
    Condition {
        /// The event's name.
        event: String,
    },
}

/// What all runs of a project's snapshot share.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// What `env(name)` gives.
    pub env: BTreeMap<String, String>,
    /// What `secret(name)` gives, and what is hidden in everything that is stored.
    pub secrets: Secrets,
    /// Rules of handlers' HTTP requests.
    pub http: HttpRules,
    /// What `db::*` reaches.
    pub databases: Databases,
    /// What `email::send` hands its mails to.
    pub mail: Option<Arc<MailServer>>,
    /// What `exec::run` may run.
    pub commands: Commands,
    /// Limits of a run.
    pub limits: RunLimits,
    /// Who answers instead of the network, in tests.
    pub outside: Option<Arc<dyn Outside>>,
}

/// Rules of handlers' HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRules {
    /// Longest time of one request, unless it says otherwise.
    pub timeout: Span,
    /// Private networks that may be reached all the same.
    pub allow: Vec<Network>,
    /// Whether private addresses may be reached without being listed: `dev`, `try`, tests.
    pub private_allowed: bool,
}

impl Default for HttpRules {
    fn default() -> HttpRules {
        HttpRules { timeout: Span::seconds(30), allow: Vec::new(), private_allowed: false }
    }
}

/// Limits of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Bytes of memory that its script may hold.
    pub memory_bytes: u64,
    /// Records in its journal.
    pub steps: u32,
    /// Bytes of its journal.
    pub journal_bytes: u64,
    /// Operations between two records, or within one attempt of a step.
    pub operations: u64,
}

impl Default for RunLimits {
    fn default() -> RunLimits {
        RunLimits {
            memory_bytes: limits::RUN_MEMORY_BYTES,
            steps: limits::RUN_STEPS,
            journal_bytes: limits::RUN_JOURNAL_BYTES,
            operations: limits::RUN_OPERATIONS,
        }
    }
}

/// A run that is about to be executed, with what it has recorded.
#[derive(Debug, Clone)]
pub struct Call {
    /// The run, as it is once its start is committed.
    pub run: RunRow,
    /// Its event; of a batch the first one.
    pub event: EventRow,
    /// The further events of its batch.
    pub batch: Vec<EventRow>,
    /// What it has recorded.
    pub journal: Journal,
    /// Its waits, in the order of their opening.
    pub waits: Vec<WaitRow>,
    /// Attempts of the code between steps, and of each step that does not say otherwise.
    pub retry: Retry,
    /// Its function's time-outs.
    pub timeouts: Timeouts,
    /// The run that failed, for the script of an `on_failure`: `event` is that one's then.
    pub failed: Option<Failed>,
    /// What it shares with the other runs.
    pub surroundings: Arc<Surroundings>,
    /// Whether its start is durable.
    pub footing: Rc<Footing>,
}

/// What a run's script has at hand where it runs: the store itself, or somebody who gathers the checkpoints of many runs
/// into one commit.
pub trait Desk: Send + Sync {
    /// Hands a list to the store; the ticket has one verdict, and is ready once the list is durable.
    fn checkpoint(&self, list: List) -> Ticket;
    /// The script waits in a step for something outside of the engine and needs no processor meanwhile.
    fn rest(&self) {}
    /// It goes on.
    fn resume(&self) {}
}

impl<S: Store> Desk for S {
    fn checkpoint(&self, list: List) -> Ticket {
        self.commit(Lane::Steps, vec![list])
    }
}

impl Desk for Arc<dyn Store> {
    fn checkpoint(&self, list: List) -> Ticket {
        self.commit(Lane::Steps, vec![list])
    }
}

/// What a run acts through.
#[derive(Clone)]
pub struct Ports {
    /// Where checkpoints go.
    pub desk: Arc<dyn Desk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Who is told at once.
    pub watch: Arc<dyn Watch>,
    /// The engine around it.
    pub post: Arc<dyn Post>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// Is told what runs do, as it happens; must not block.
pub trait Watch: Send + Sync {
    /// An attempt of a step is about to run.
    fn step_begun(&self, _run: &RunRow, _key: &str, _attempt: u32, _at: Millis) {}
    /// A record has become durable.
    fn recorded(&self, _run: &RunRow, _record: &Record) {}
    /// A failed attempt of a step has become durable.
    fn attempt_failed(&self, _run: &RunRow, _attempt: &AttemptRow) {}
    /// A line was written to the run's log; it becomes durable with the next commit.
    fn logged(&self, _run: &RunRow, _line: &LogRow) {}
    /// A step has published a message.
    fn published(&self, _message: &Arc<Published>) {}
    /// These writes about a run have become durable: tells of the records and the failed attempts among them.
    fn committed(&self, run: &RunRow, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Append { record, .. } => self.recorded(run, record),
                Write::Attempt { attempt, .. } => self.attempt_failed(run, attempt),
                _ => {}
            }
        }
    }
    /// Whether spans of the run and its steps are told to anybody.
    fn exports_traces(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// What a script is at work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtWork {
    /// The key of the step.
    pub step: Arc<str>,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// When that began.
    pub since: Millis,
}

/// The means to end a script from outside, and to see what it is at work on. Shared; wakes the script.
#[derive(Debug, Default)]
pub struct Stop {
    state: AtomicU8,
    /// In the order of their beginning: a run with branches may be at several.
    at_work: Mutex<Vec<AtWork>>,
    /// Whether it only goes over its records.
    probes: bool,
    pokes: AtomicU64,
    waker: AtomicWaker,
}

const DRAINING: u8 = 1;
const ABORTED: u8 = 2;

impl Stop {
    /// A script that may run.
    pub fn new() -> Arc<Stop> {
        Arc::new(Stop::default())
    }

    /// A script that only goes over its records, to see whether it asks for each of them.
    fn probe() -> Arc<Stop> {
        Arc::new(Stop { probes: true, ..Stop::default() })
    }

    /// Ends the script at the next boundary of a step: a step that runs comes to its end and is recorded.
    pub fn drain(&self) {
        self.state.fetch_max(DRAINING, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Ends the script now; it commits nothing more.
    pub fn abort(&self) {
        self.state.fetch_max(ABORTED, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Tells the script that a wait of its run has come to something, for a branch that waits while others are at work.
    pub fn poke(&self) {
        self.pokes.fetch_add(1, Ordering::SeqCst);
        self.waker.wake();
    }

    /// The step that is under way, of several the one that began first; none between the steps.
    pub fn at_work(&self) -> Option<AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// Every step that is under way, the one that began first before the others.
    pub fn all_at_work(&self) -> Vec<AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begins(&self, step: AtWork) {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    fn leaves(&self, step: &str) {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).retain(|at| *at.step != *step);
    }

    /// How often it was told that: every `parallel` of the run, one inside another too, has to see each time.
    fn pokes(&self) -> u64 {
        self.pokes.load(Ordering::SeqCst)
    }

    fn is_draining(&self) -> bool {
        self.state.load(Ordering::SeqCst) >= DRAINING
    }

    fn is_aborted(&self) -> bool {
        self.state.load(Ordering::SeqCst) >= ABORTED
    }

    fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_steps_the_one_that_is_under_way_longest_is_told() {
        let stop = Stop::new();
        let at = |step: &str, since: i64| AtWork { step: step.into(), attempt: 1, since: Millis(since) };
        assert_eq!(stop.at_work(), None);
        stop.begins(at("a › x", 10));
        stop.begins(at("b › x", 20));
        assert_eq!(stop.at_work(), Some(at("a › x", 10)));
        assert_eq!(stop.all_at_work(), [at("a › x", 10), at("b › x", 20)]);
        stop.leaves("a › x");
        assert_eq!(stop.at_work(), Some(at("b › x", 20)), "the end of one says nothing of the others");
        stop.leaves("b › x");
        assert_eq!(stop.at_work(), None);
    }
}
