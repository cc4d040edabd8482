//! Handlers through `script::call`, on a store in memory and a clock that the test moves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod branches;
mod compile;
mod db;
mod email;
mod exec;
mod flow;
mod held;
mod hostile;
mod http;
mod kv;
mod options;
mod postgres;
mod publish;
mod pure;
mod races;
mod reference;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stepwell::base::time::Waiting;
use stepwell::base::{Clock, Diagnostic, Entropy, EventId, Id, Json, Millis, RunId, Span};
use stepwell::rules::policy::Timeouts;
use stepwell::rules::run::{Outcome, Stopped, next};
use stepwell::rules::{
    AttemptRow, Backoff, EventRow, Expect, KvRow, List, LogRow, OutcomeRow, Record, Retry, RunRow, RunState, SourceRow, WaitRow, WindowRow,
    Write,
};
use stepwell::script::{
    Alone, Call, Checked, Desk, Footing, Host, Keys, Outgoing, OwnWrites, Parcel, Ports, Post, Program, Published, Reply, Secrets, Stop,
    Surroundings, Watch, call,
};
use stepwell::store::memory::Memory;
use stepwell::store::{EventQuery, Journal, Lane, RunQuery, Stats, Store, StoreError, Ticket};

/// 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600_000;

/// A clock that stands until it is moved; a timer is ready when it has been.
#[derive(Debug, Default)]
pub struct TestClock {
    now: AtomicI64,
    /// Milliseconds that each look adds.
    tick: AtomicI64,
    sleepers: Mutex<Vec<(Millis, std::task::Waker)>>,
}

impl TestClock {
    pub fn set(&self, now: Millis) {
        self.now.store(now.0, Ordering::SeqCst);
        let mut sleepers = self.sleepers.lock().unwrap();
        let (due, rest): (Vec<_>, Vec<_>) = sleepers.drain(..).partition(|(until, _)| *until <= now);
        *sleepers = rest;
        drop(sleepers);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub fn tick(&self, ms: i64) {
        self.tick.store(ms, Ordering::SeqCst);
    }

    /// The first time that anybody waits for.
    pub fn first(&self) -> Option<Millis> {
        self.sleepers.lock().unwrap().iter().map(|(until, _)| *until).min()
    }
}

struct Shared(Arc<TestClock>);

impl Clock for Shared {
    fn now(&self) -> Millis {
        Millis(self.0.now.fetch_add(self.0.tick.load(Ordering::SeqCst), Ordering::SeqCst))
    }

    fn sleep_until(&self, until: Millis, _: bool) -> Waiting {
        let clock = Arc::clone(&self.0);
        Box::pin(std::future::poll_fn(move |context| {
            if clock.now.load(Ordering::SeqCst) >= until.0 {
                return std::task::Poll::Ready(());
            }
            clock.sleepers.lock().unwrap().push((until, context.waker().clone()));
            std::task::Poll::Pending
        }))
    }
}

/// SplitMix64.
struct Seeded(AtomicU64);

impl Entropy for Seeded {
    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What the watcher was told, as lines.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<String>>);

impl Told {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Watch for Told {
    fn step_begun(&self, _: &RunRow, key: &str, attempt: u32, _: Millis) {
        self.0.lock().unwrap().push(format!("begin {key} {attempt}"));
    }
    fn recorded(&self, _: &RunRow, record: &Record) {
        self.0.lock().unwrap().push(format!("record {} {}", record.kind.word(), record.key));
    }
    fn attempt_failed(&self, _: &RunRow, attempt: &AttemptRow) {
        self.0.lock().unwrap().push(format!("failed {} {}", attempt.key, attempt.attempt));
    }
    fn logged(&self, _: &RunRow, line: &LogRow) {
        self.0.lock().unwrap().push(format!("log {:?} {}", line.level, line.message));
    }
    fn published(&self, message: &Arc<Published>) {
        let topic = message.topic.as_deref().unwrap_or("-");
        self.0.lock().unwrap().push(format!("publish {} {topic} {}", message.channel, message.data));
    }
}

/// One run of one handler, driven as the engine would.
pub struct Bench {
    pub host: Arc<Host>,
    pub files: BTreeMap<String, String>,
    pub store: Arc<dyn Store>,
    /// The keys of `kv` that steps hold.
    pub keys: Arc<Keys>,
    pub clock: Arc<TestClock>,
    pub told: Arc<Told>,
    pub data: String,
    pub retry: Retry,
    pub timeouts: Timeouts,
    pub surroundings: Surroundings,
    pub run: RunId,
    pub stop: Arc<Stop>,
    /// Whether the run's start counts as durable.
    pub footing: Rc<Footing>,
    /// The engine around the run.
    pub post: Arc<dyn Post>,
    /// Whether what is waited for comes from outside, so that the clock stands meanwhile.
    pub outside: bool,
    next_id: Cell<i64>,
}

/// A store that takes every commit and answers none.
pub struct Silent;

impl Store for Silent {
    fn commit(&self, _: Lane, _: Vec<List>) -> Ticket {
        let (answer, ticket) = Ticket::new();
        // Nobody answers it, and it is never found unanswered either.
        std::mem::forget(answer);
        ticket
    }
    fn event(&self, _: EventId) -> Result<Option<EventRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn events(&self, _: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn outcomes(&self, _: EventId) -> Result<Vec<OutcomeRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn run(&self, _: RunId) -> Result<Option<RunRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn runs(&self, _: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn unfinished(&self, _: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    fn journal(&self, _: RunId) -> Result<Journal, StoreError> {
        Err(StoreError::Closed)
    }
    fn batch(&self, _: RunId) -> Result<Vec<EventId>, StoreError> {
        Err(StoreError::Closed)
    }
    fn waits(&self, _: RunId) -> Result<Vec<WaitRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn all_waits(&self, _: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    fn crons(&self) -> Result<Vec<stepwell::rules::CronRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn all_windows(&self, _: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    fn value(&self, _: &str) -> Result<Option<stepwell::rules::KvRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn pauses(&self) -> Result<Vec<stepwell::rules::PauseRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn logs(&self, _: RunId, _: u64, _: usize) -> Result<Vec<LogRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn source(&self, _: &str) -> Result<Option<SourceRow>, StoreError> {
        Err(StoreError::Closed)
    }
    fn stats(&self) -> Result<Stats, StoreError> {
        Err(StoreError::Closed)
    }
    fn backup(&self, _: &Path, _: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    fn check(&self) -> Result<Vec<String>, StoreError> {
        Err(StoreError::Closed)
    }
}

/// What is around a run, and the values that scripts keep.
struct WithValues(Arc<dyn Post>, Arc<dyn Store>, Arc<Keys>);

impl Post for WithValues {
    fn send(&self, events: Vec<Outgoing>) -> Checked<Vec<EventId>> {
        self.0.send(events)
    }
    fn signal(&self, name: Arc<str>, data: Json) -> Box<dyn Parcel> {
        self.0.signal(name, data)
    }
    fn invoke(&self, caller: &RunRow, function: &str, data: Json, extra: Option<Json>) -> Checked<RunId> {
        self.0.invoke(caller, function, data, extra)
    }
    fn open(&self, run: &RunRow, wait: WaitRow, with: Option<OwnWrites>) -> Reply<WaitRow> {
        self.0.open(run, wait, with)
    }
    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.0.waits(run)
    }
    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.0.event(id)
    }
    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError> {
        self.1.value(key)
    }
    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.2)
    }
    fn time_out(&self, wait: &stepwell::rules::WaitKey) -> Reply<WaitRow> {
        self.0.time_out(wait)
    }
    fn leave(&self, race: Arc<str>, waits: Vec<WaitRow>, with: OwnWrites) -> Reply<()> {
        self.0.leave(race, waits, with)
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct End {
    pub row: RunRow,
    pub journal: Journal,
    pub logs: Vec<LogRow>,
}

impl End {
    pub fn output(&self) -> &str {
        self.row.output.as_deref().unwrap_or_else(|| panic!("{:?}: {:?} {:?}", self.row.state, self.row.error, self.row.reason))
    }
    pub fn message(&self) -> &str {
        &self.row.error.as_ref().unwrap_or_else(|| panic!("no error: {:?}", self.row)).message
    }
    pub fn code(&self) -> &str {
        &self.row.error.as_ref().unwrap_or_else(|| panic!("no error: {:?}", self.row)).code
    }
    pub fn keys(&self) -> Vec<String> {
        self.journal.records.iter().map(|record| format!("{} {}", record.kind.word(), record.key)).collect()
    }
    pub fn log(&self) -> Vec<&str> {
        self.logs.iter().map(|line| &*line.message).collect()
    }
}

impl Bench {
    pub fn new(script: &str) -> Bench {
        Bench::on(Host::new(), script)
    }

    pub fn on(host: Arc<Host>, script: &str) -> Bench {
        let clock = Arc::new(TestClock::default());
        clock.set(Millis(START));
        Bench {
            host,
            files: BTreeMap::from([("handlers/main.rhai".to_owned(), script.to_owned())]),
            store: Arc::new(Memory::new()),
            keys: Arc::default(),
            clock,
            told: Arc::default(),
            data: "{}".to_owned(),
            retry: Retry { attempts: 4, backoff: Backoff::Fixed { initial: Span::seconds(10), jitter: 0.0 } },
            timeouts: Timeouts { start: None, finish: None, step: Span::seconds(300) },
            surroundings: Surroundings::default(),
            run: Id(0),
            stop: Stop::new(),
            footing: Footing::firm(),
            post: Arc::new(Alone),
            outside: false,
            next_id: Cell::new(1),
        }
    }

    pub fn file(mut self, name: &str, text: &str) -> Bench {
        self.files.insert(name.to_owned(), text.to_owned());
        self
    }

    pub fn data(mut self, data: &str) -> Bench {
        self.data = data.to_owned();
        self
    }

    pub fn attempts(mut self, attempts: u32) -> Bench {
        self.retry.attempts = attempts;
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Bench {
        self.surroundings.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn secret(mut self, name: &str, value: &str) -> Bench {
        self.surroundings.secrets = Secrets::new(BTreeMap::from([(name.to_owned(), Some(value.to_owned()))]));
        self
    }

    /// Compiles the handler from a folder, as the engine does.
    pub fn compile(&self) -> Result<Program, Vec<Diagnostic>> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in &self.files {
            let path: PathBuf = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.host.compile(folder.path(), "handlers/main.rhai")
    }

    pub fn program(&self) -> Arc<Program> {
        let shown = |problems: Vec<Diagnostic>| problems.iter().map(|problem| problem.render(false)).collect::<Vec<_>>().join("\n");
        Arc::new(self.compile().map_err(shown).unwrap_or_else(|problems| panic!("{problems}")))
    }

    /// The codes of what does not compile.
    pub fn refused(&self) -> Vec<Diagnostic> {
        match self.compile() {
            Ok(program) => panic!("it compiles: {program:?}"),
            Err(problems) => problems,
        }
    }

    fn event(&self) -> EventRow {
        EventRow {
            id: Id(7),
            name: Arc::from("test/event"),
            data: Json::from(self.data.as_str()),
            sender_id: None,
            ts: Millis(START),
            accepted: Millis(START),
            extra: None,
        }
    }

    /// Creates a run, queued.
    pub fn create(&mut self) -> &mut Bench {
        let id = Id(self.next_id.get() + 100);
        self.next_id.set(self.next_id.get() + 1);
        self.run = id;
        let row = RunRow { keys: Arc::from([Arc::from("\"user1\"")]), ..RunRow::queued(id, "test", Id(7), Millis(START)) };
        let mut writes = vec![Write::CreateRun(row)];
        if self.store.event(Id(7)).unwrap().is_none() {
            writes.insert(0, Write::InsertEvent(self.event()));
        }
        self.commit(List { expect: vec![], writes });
        self
    }

    pub fn commit(&self, list: List) {
        let verdicts = self.store.commit(Lane::Steps, vec![list]).wait().unwrap();
        assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    }

    pub fn row(&self) -> RunRow {
        self.store.run(self.run).unwrap().unwrap()
    }

    pub fn ports(&self) -> Arc<Ports> {
        Arc::new(Ports {
            desk: Arc::new(Arc::clone(&self.store)),
            clock: Arc::new(Shared(Arc::clone(&self.clock))),
            entropy: Arc::new(Seeded(AtomicU64::new(42))),
            watch: Arc::clone(&self.told) as Arc<dyn Watch>,
            post: Arc::new(WithValues(Arc::clone(&self.post), Arc::clone(&self.store), Arc::clone(&self.keys))),
        })
    }

    /// Starts the run, whatever it waits for, and gives the call for it.
    pub fn start(&self, program: &Program) -> Rc<Call> {
        let row = self.row();
        let expect = vec![Expect::RunRev { run: row.id, rev: row.rev }];
        let mut writes = Vec::new();
        if row.state != RunState::Queued {
            writes.push(Write::Requeue { run: row.id, suspects: row.suspects });
        }
        let now = Millis(self.clock.now.load(Ordering::SeqCst));
        writes.push(Write::Start { run: row.id, at: now, version: Arc::clone(program.hash()) });
        self.commit(List { expect, writes });
        Rc::new(Call {
            failed: None,
            run: self.row(),
            event: self.event(),
            batch: Vec::new(),
            journal: self.store.journal(self.run).unwrap(),
            waits: Vec::new(),
            retry: self.retry.clone(),
            timeouts: self.timeouts,
            surroundings: Arc::new(self.surroundings.clone()),
            footing: Rc::clone(&self.footing),
        })
    }

    /// One attempt of the script.
    pub fn attempt(&self, program: &Arc<Program>) -> Result<Stopped, StoreError> {
        let call_of_run = self.start(program);
        let future = call(Arc::clone(program), call_of_run, self.ports(), Arc::clone(&self.stop));
        if self.outside {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            return tokio::task::LocalSet::new().block_on(&runtime, future);
        }
        block_on(&self.clock, future)
    }

    /// Commits what follows from how an attempt stopped.
    pub fn follow(&self, stopped: Stopped) -> Option<RunState> {
        let row = self.row();
        let now = Millis(self.clock.now.load(Ordering::SeqCst));
        let transition = next(&row, stopped, &self.retry, now, || 0.0)?;
        let state = transition.state;
        let writes = transition.list.writes.clone();
        self.commit(transition.list);
        self.told.committed(&row, &writes);
        Some(state)
    }

    /// Runs to the end, moving the clock over every wait.
    pub fn finish(&mut self) -> End {
        let program = self.program();
        self.finish_with(&program)
    }

    pub fn finish_with(&mut self, program: &Arc<Program>) -> End {
        if self.run == Id(0) {
            self.create();
        }
        for _ in 0..10_000 {
            let stopped = self.attempt(program).unwrap();
            if let Outcome::Lost = stopped.outcome {
                break;
            }
            let state = self.follow(stopped).unwrap();
            if state.is_terminal() || state == RunState::Parked {
                break;
            }
            if let Some(wake) = self.row().wake {
                self.clock.set(wake.max(Millis(self.clock.now.load(Ordering::SeqCst))));
            }
        }
        self.end()
    }

    pub fn end(&self) -> End {
        End { row: self.row(), journal: self.store.journal(self.run).unwrap(), logs: self.store.logs(self.run, 0, 1_000).unwrap() }
    }
}

/// Runs a future on this thread; while it waits for a timer alone, the clock is moved there.
pub fn block_on<F: Future>(clock: &Arc<TestClock>, future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let clock = Arc::clone(clock);
    local.block_on(&runtime, async move {
        let mut future = std::pin::pin!(future);
        loop {
            let step = std::future::poll_fn(|context| match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
                std::task::Poll::Pending if clock.first().is_some() => std::task::Poll::Ready(None),
                std::task::Poll::Pending => std::task::Poll::Pending,
            });
            if let Some(value) = step.await {
                return value;
            }
            // Whatever else is under way on this thread comes first.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            if let Some(first) = clock.first() {
                clock.set(first);
            }
        }
    })
}
