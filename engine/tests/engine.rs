//! The engine through its own handle: real projects, real scripts, on SQLite.

mod again;
mod calls;
mod cancels;
mod collect;
mod crons;
mod deadlock;
mod dormant;
mod ends;
mod flow;
mod gates;
mod gone;
mod mixed;
mod parallel;
mod pinned;
mod race;
mod relay;
mod reload;
mod values;
mod versions;
mod waits;

use std::path::Path;
use std::sync::Arc;

use stepwell::base::{Clock, EventId, Id, Millis, RunId, Span};
use stepwell::clock::{SystemClock, SystemEntropy, VirtualClock};
use stepwell::exec::{AcceptError, CancelError, Engine, NewEvent, Notice, Setup};
use stepwell::project::{Mode, Project};
use stepwell::rules::{RunRow, RunState};
use stepwell::script::Host;
use stepwell::store::sqlite::{Options, Sqlite};
use stepwell::store::{Memory, RunQuery, Store};

/// A project in a folder of its own, with an engine on a database there.
struct World {
    folder: tempfile::TempDir,
    engine: Engine,
    store: Arc<Sqlite>,
}

impl World {
    fn new(yaml: &str, handlers: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("handlers")).unwrap();
        std::fs::write(folder.path().join("events.yaml"), format!("version: 1\n{yaml}")).unwrap();
        for (name, text) in handlers {
            std::fs::write(folder.path().join("handlers").join(format!("{name}.rhai")), text).unwrap();
        }
        let (engine, store) = start(folder.path());
        World { folder, engine, store }
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(future)
    }

    async fn send(&self, name: &str, data: &str) -> Result<EventId, AcceptError> {
        Ok(self.engine.accept(vec![event(name, data)]).await?[0])
    }

    /// Waits for notices until the run of an event has come to one of these states.
    async fn until(&self, event: EventId, states: &[RunState]) -> RunRow {
        let mut notices = self.engine.subscribe();
        loop {
            let query = RunQuery { event: Some(event), limit: 1, ..RunQuery::default() };
            if let Some(run) = self.store.runs(&query).unwrap().into_iter().next()
                && states.contains(&run.state)
            {
                return run;
            }
            while !matches!(notices.recv().await.unwrap(), Notice::Run { state, .. } if states.contains(&state)) {}
        }
    }

    async fn ended(&self, event: EventId) -> RunRow {
        self.until(event, &[RunState::Completed, RunState::Failed, RunState::Cancelled, RunState::Parked]).await
    }

    /// The folder as a kill at this moment leaves it, taken up by another engine; this one is stopped.
    fn killed(self) -> World {
        self.end(&["stepwell.db", "stepwell.db-wal"])
    }

    /// The same for a crash, which the engine has noted.
    fn crash(self) -> World {
        std::fs::write(self.store.note(), "crashed\n").unwrap();
        self.end(&["stepwell.db", "stepwell.db-wal", "stepwell.db.end"])
    }

    fn end(self, kept: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("handlers")).unwrap();
        for name in [&["events.yaml"], kept].concat() {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        for entry in std::fs::read_dir(self.folder.path().join("handlers")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join("handlers").join(path.file_name().unwrap())).unwrap();
        }
        let running = RunQuery { states: vec![RunState::Running], limit: 99, ..RunQuery::default() };
        for run in self.store.runs(&running).unwrap() {
            let _ = self.block_on(self.engine.cancel(run.id, "the test goes on elsewhere"));
        }
        drop(self);
        let (engine, store) = start(folder.path());
        World { folder, engine, store }
    }

    /// Ends the engine in order and starts another one on the same file.
    fn restart(self) -> World {
        self.block_on(self.engine.drain());
        let World { folder, engine, store } = self;
        drop(engine);
        store.close().unwrap();
        let (engine, store) = start(folder.path());
        World { folder, engine, store }
    }
}

fn start(folder: &Path) -> (Engine, Arc<Sqlite>) {
    start_at(folder, Arc::new(VirtualClock::running()))
}

fn start_at(folder: &Path, clock: Arc<dyn Clock>) -> (Engine, Arc<Sqlite>) {
    let store = Arc::new(Sqlite::open(&folder.join("stepwell.db"), Options::default()).unwrap());
    let engine = on(folder, Arc::clone(&store) as Arc<dyn Store>, clock, 2);
    block_on(engine.until_ready());
    (engine, store)
}

/// An engine for the project in a folder.
fn on(folder: &Path, store: Arc<dyn Store>, clock: Arc<dyn Clock>, threads: usize) -> Engine {
    let host = Host::new();
    let (project, _) = Project::load(&folder.join("events.yaml"), &host, &|_| None, Mode::Try)
        .unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
    Engine::start(Setup { project: Arc::new(project), host, store, clock, entropy: Arc::new(SystemEntropy), threads }).unwrap()
}

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// An engine that keeps all in memory, on a clock that goes on by itself and jumps over what nobody does anything in.
pub struct Jumping {
    pub engine: Engine,
    pub store: Arc<Memory>,
    pub clock: Arc<dyn Clock>,
}

impl Jumping {
    /// Starts it for the project in a folder.
    pub fn start(folder: &Path) -> Jumping {
        let (store, clock) = (Arc::new(Memory::new()), Arc::new(VirtualClock::running()) as Arc<dyn Clock>);
        let engine = on(folder, Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&clock), 1);
        Jumping { engine, store, clock }
    }

    /// Waits until it is so late; something has to happen by then.
    pub async fn until(&self, time: Millis) {
        let mut notices = self.engine.subscribe();
        while self.clock.now() < time {
            // Some may be missed: what counts is stored.
            let _ = notices.recv().await;
        }
    }
}

fn event(name: &str, data: &str) -> NewEvent {
    NewEvent { name: name.into(), data: data.into(), sender_id: None, dedupe: None, ts: None, extra: None }
}

const ONE: &str = "events: { a/b: {} }\nfunctions: { f: { on: a/b, retries: { attempts: 3, backoff: fixed, initial: 1m } } }\n";

#[test]
fn a_run_of_steps_and_a_sleep_ends_with_its_result() {
    let script = r#"
        let x = step("double", || event.data.n * 2);
        sleep("nap", "30d");
        let y = step("add", || x + 1);
        #{ x: x, y: y }
    "#;
    let world = World::new(ONE, &[("f", script)]);
    world.block_on(async {
        let id = world.send("a/b", r#"{"n": 21}"#).await.unwrap();
        let run = world.ended(id).await;
        assert_eq!(run.state, RunState::Completed, "{run:?}");
        assert_eq!(run.output.as_deref(), Some(r#"{"x":42,"y":43}"#));
        let journal = world.store.journal(run.id).unwrap();
        assert_eq!(journal.records.iter().map(|record| &*record.key).collect::<Vec<_>>(), ["double", "nap", "add"]);
        assert!(run.ended.unwrap().since(run.started.unwrap()).0 >= 30 * 86_400_000, "the virtual clock went on by the sleep");
    });
}

#[test]
fn a_failing_step_is_tried_again_and_then_ends_the_run() {
    let world = World::new(ONE, &[("f", r#"step("never", || throw "no")"#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.ended(id).await;
        assert_eq!(run.state, RunState::Failed);
        let error = run.error.unwrap();
        assert_eq!((error.step.as_deref(), error.attempts), (Some("never"), Some(3)), "{error:?}");
        assert_eq!(world.store.journal(run.id).unwrap().records[0].attempts, 3);
    });
}

#[test]
fn code_between_steps_is_tried_again_too() {
    let world = World::new(ONE, &[("f", r#"step("one", || 1); if run.attempt < 3 { throw "not yet" } run.attempt"#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.ended(id).await;
        assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("3")));
    });
}

#[test]
fn a_caught_step_error_lets_the_script_go_on() {
    let script = r#"
        let got = ();
        try { step("never", #{ retries: 1, backoff: #{ kind: "fixed", initial: "1s" } }, || throw "no") } catch (e) { got = e.attempts; }
        step("after", || got)
    "#;
    let world = World::new(ONE, &[("f", script)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.ended(id).await;
        assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("2")), "{run:?}");
    });
}

#[test]
fn a_suspended_run_goes_on_after_a_restart() {
    // An event of the future holds the virtual clock back no longer than the restart takes.
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b } }\n";
    let world = World::new(yaml, &[("f", r#"let a = step("a", || 1); sleep("long", "1h"); step("b", || a + 1)"#)]);
    let id = world.block_on(world.send("a/b", "{}")).unwrap();
    world.block_on(world.until(id, &[RunState::Sleeping, RunState::Completed]));
    let world = world.restart();
    let run = world.block_on(world.ended(id));
    assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("2")));
}

#[test]
fn a_cancelled_run_never_goes_on_and_frees_its_key() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: { limit: 1, key: event.data.k } } }\n";
    let world =
        World::new(yaml, &[("f", r#"if event.data.stay { loop { step("spin", || { let i = 0; while i < 20000 { i += 1; } i }); } } 7"#)]);
    world.block_on(async {
        let first = world.send("a/b", r#"{"k": 1, "stay": true}"#).await.unwrap();
        world.until(first, &[RunState::Running]).await;
        let second = world.send("a/b", r#"{"k": 1, "stay": false}"#).await.unwrap();
        let queued = world.until(second, &[RunState::Queued]).await;
        let why = world.engine.why(&queued).await.unwrap();
        assert!(why.contains("f allows 1 run at a time for key 1"), "{why}");
        let running = world.until(first, &[RunState::Running]).await;
        let cancelled = world.engine.cancel(running.id, "enough").await.unwrap();
        assert_eq!((cancelled.state, cancelled.reason.as_deref()), (RunState::Cancelled, Some("enough")));
        assert_eq!(world.ended(second).await.output.as_deref(), Some("7"));
        let records = world.store.journal(running.id).unwrap().records.len();
        assert_eq!(world.engine.cancel(running.id, "again").await, Err(CancelError::Ended(RunState::Cancelled)));
        assert_eq!(world.store.journal(running.id).unwrap().records.len(), records, "it wrote after its cancel");
        assert_eq!(world.engine.cancel(RunId::default(), "no").await, Err(CancelError::NotFound));
    });
}

#[test]
fn a_repeated_event_gets_the_first_id_and_starts_nothing() {
    let world = World::new(ONE, &[("f", "1")]);
    world.block_on(async {
        let twice = |_| NewEvent { sender_id: Some("x".into()), dedupe: Some("x".into()), ..event("a/b", "{}") };
        let ids = world.engine.accept((0..3).map(twice).collect()).await.unwrap();
        let again = world.engine.accept(vec![twice(0)]).await.unwrap();
        assert_eq!(ids, vec![ids[0]; 3]);
        assert_eq!(again, [ids[0]]);
        assert_eq!(world.store.runs(&RunQuery { limit: 9, ..RunQuery::default() }).unwrap().len(), 1);
    });
}

#[test]
fn one_run_a_value_of_the_idempotency_key() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, idempotency: event.data.k }, g: { on: a/b } }\n";
    let world = World::new(yaml, &[("f", "1"), ("g", "2")]);
    world.block_on(async {
        for data in [r#"{"k": 1}"#, r#"{"k": 1.0}"#, r#"{"k": 2}"#, "{}", "{}"] {
            world.send("a/b", data).await.unwrap();
        }
        let of = |function: &str| RunQuery { function: Some(function.into()), limit: 99, ..RunQuery::default() };
        assert_eq!(world.store.runs(&of("f")).unwrap().len(), 4, "a null key means that the option does not apply");
        assert_eq!(world.store.runs(&of("g")).unwrap().len(), 5);
    });
}

#[test]
fn bad_events_are_refused_together_and_nothing_is_stored() {
    let yaml = "events: { a/b: { schema: { type: object, required: [n] } } }\nfunctions: { f: { on: a/b } }\n";
    let world = World::new(yaml, &[("f", "1")]);
    world.block_on(async {
        let refused = world.engine.accept(vec![event("a/b", r#"{"n":1}"#), event("a/b", "{}"), event("a/x", "{}")]).await;
        let Err(AcceptError::Refused(refusals)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusals.iter().map(|refusal| refusal.index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(world.store.stats().unwrap().largest_id, Id(0));
    });
}

#[test]
fn a_run_whose_record_does_not_fit_the_new_handler_ends_on_the_old_one() {
    let old = r#"let x = step("old", || 20); sleep("long", "1h"); sleep("longer", "2h"); step("last", || x + 1)"#;
    let world = World::new(ONE, &[("f", old)]);
    world.block_on(world.engine.drain());
    let World { folder, engine, store } = world;
    drop(engine);
    store.close().unwrap();
    // On this clock nobody jumps over the sleep.
    let (engine, store) = start_at(folder.path(), Arc::new(SystemClock::default()));
    let world = World { folder, engine, store };
    let id = world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        world.until(id, &[RunState::Sleeping]).await;
        id
    });
    std::fs::write(world.folder.path().join("handlers/f.rhai"), r#"step("new", || 1)"#).unwrap();
    let world = world.restart();
    let run = world.block_on(world.ended(id));
    assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("21")), "{run:?}");
    // What begins now is done the new way.
    let run = world.block_on(async { world.ended(world.send("a/b", "{}").await.unwrap()).await });
    assert_eq!(run.output.as_deref(), Some("1"));
}

#[test]
fn an_event_of_the_future_starts_its_run_then() {
    let world = World::new(ONE, &[("f", "1")]);
    world.block_on(async {
        let ts = Millis(world.engine.clock().now().0 + 3_600_000);
        let id = world.engine.accept(vec![NewEvent { ts: Some(ts), ..event("a/b", "{}") }]).await.unwrap()[0];
        let run = world.ended(id).await;
        assert!(run.started.unwrap() >= ts, "{run:?}");
    });
}

#[test]
fn a_run_that_takes_too_long_is_cancelled_with_the_reason() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, timeouts: { finish: 10m } } }\n";
    let world = World::new(yaml, &[("f", r#"sleep("long", "1h"); 1"#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.ended(id).await;
        assert_eq!(run.state, RunState::Cancelled);
        assert!(run.reason.unwrap().starts_with("timeouts.finish"));
    });
}

#[test]
fn a_run_that_waits_too_long_in_the_queue_is_cancelled_with_the_reason() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: 1, timeouts: { start: 10m } } }\n";
    let world = World::new(yaml, &[("f", r#"sleep("long", "1h"); 1"#)]);
    world.block_on(async {
        let first = world.send("a/b", "{}").await.unwrap();
        let second = world.send("a/b", "{}").await.unwrap();
        let late = world.ended(second).await;
        assert_eq!(late.state, RunState::Cancelled);
        assert!(late.reason.unwrap().starts_with("timeouts.start"));
        assert_eq!(world.ended(first).await.state, RunState::Completed);
    });
}

#[test]
fn draining_refuses_events_and_keeps_what_was_accepted() {
    let world = World::new(ONE, &[("f", r#"step("a", || 1)"#)]);
    let id = world.block_on(world.send("a/b", "{}")).unwrap();
    world.block_on(world.engine.drain());
    assert!(matches!(world.block_on(world.send("a/b", "{}")), Err(AcceptError::Draining)));
    let world = world.restart();
    assert_eq!(world.block_on(world.ended(id)).state, RunState::Completed);
}

#[test]
fn a_run_that_waits_for_a_slot_says_when_whoever_has_it_goes_on() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: 1 } }\n";
    let world = World::new(yaml, &[("f", r#"sleep("2h")"#)]);
    // Time stands still.
    let busy = world.engine.busy();
    world.block_on(async {
        let first = world.send("a/b", "{}").await.unwrap();
        let first = world.until(first, &[RunState::Sleeping]).await;
        let second = world.send("a/b", "{}").await.unwrap();
        let why = world.engine.why(&world.until(second, &[RunState::Queued]).await).await.unwrap();
        let says = format!("waits for a slot: f allows 1 run at a time; run {} has it, and goes on in ", first.id);
        let when = why.strip_prefix(&says).unwrap_or_else(|| panic!("{why}"));
        assert!(when.starts_with("1h59m") || when == "2h", "{why}");
    });
    drop(busy);
}

#[test]
fn a_run_that_stands_in_line_says_that_the_engine_is_draining() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: 1 } }\n";
    let world = World::new(yaml, &[("f", r#"wait_for_signal("go")"#)]);
    world.block_on(async {
        let first = world.send("a/b", "{}").await.unwrap();
        world.until(first, &[RunState::Waiting]).await;
        let second = world.send("a/b", "{}").await.unwrap();
        let queued = world.until(second, &[RunState::Queued]).await;
        let why = world.engine.why(&queued).await.unwrap();
        assert!(why.starts_with("waits for a slot"), "{why}");
        world.engine.drain().await;
        let why = world.engine.why(&queued).await.unwrap();
        assert!(why.starts_with("the engine is draining"), "{why}");
    });
}

#[test]
fn what_is_older_than_it_is_kept_is_deleted() {
    let yaml = "retention: { completed: 1s, failed: 1s, cancelled: 1s, events: 1s }\nevents: { a/b: {} }\nfunctions: { f: { on: a/b } }\n";
    let world = World::new(yaml, &[("f", r#"step("a", || 1)"#)]);
    world.block_on(async {
        let id = world.send("a/b", "{}").await.unwrap();
        let run = world.ended(id).await;
        // Each look waits until the writer has done one more round, so the sweep is waited for by its effect.
        while world.store.run(run.id).unwrap().is_some() || world.store.event(id).unwrap().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(world.store.journal(run.id).unwrap().records.is_empty());
    });
}

/// A step that is busy until it is stopped.
const SPIN: &str = r#"step("spin", || { let i = 0; while i >= 0 { i += 1; if i > 1000 { i = 0; } } i })"#;

#[test]
fn what_is_said_of_a_run_fits_the_state_that_was_read() {
    let world = World::new(ONE, &[("f", SPIN)]);
    world.block_on(async {
        let event = world.send("a/b", "{}").await.unwrap();
        let running = world.until(event, &[RunState::Running]).await;
        assert!(world.engine.why(&running).await.is_some());
        // Its row as it was before a worker took it.
        let queued = RunRow { state: RunState::Queued, ..running };
        assert_eq!(world.engine.why(&queued).await.as_deref(), Some("queued; starts as soon as a worker is free"));
        world.engine.cancel(queued.id, "seen").await.unwrap();
        // A row of which the scheduler knows nothing, as when its handler has come to an end since it was read.
        let running = RunRow { id: "0000000000001".parse().unwrap(), state: RunState::Running, ..queued };
        assert_eq!(world.engine.why(&running).await.as_deref(), Some("its handler is at work"));
    });
}

#[test]
fn a_run_that_was_alone_at_the_third_crash_is_parked() {
    let mut world = World::new(ONE, &[("f", SPIN)]);
    let id = world.block_on(world.send("a/b", "{}")).unwrap();
    for suspects in [0, 3, 6] {
        let run = world.block_on(world.until(id, &[RunState::Running]));
        assert_eq!(run.suspects, suspects);
        world = world.crash();
    }
    let run = world.block_on(world.ended(id));
    assert_eq!(run.state, RunState::Parked, "{run:?}");
    assert!(run.reason.as_deref().unwrap().starts_with("crashed engine"), "{run:?}");
    let why = world.block_on(world.engine.why(&run)).unwrap();
    assert!(why.starts_with("parked: crashed engine"), "{why}");
    let cancelled = world.block_on(world.engine.cancel(run.id, "seen")).unwrap();
    assert_eq!(cancelled.state, RunState::Cancelled, "a cancel always wins");
}

#[test]
fn a_run_that_is_there_whenever_the_engine_is_killed_is_parked_at_the_ninth_time() {
    let mut world = World::new(ONE, &[("f", SPIN)]);
    let id = world.block_on(world.send("a/b", "{}")).unwrap();
    for kills in 0..9 {
        let run = world.block_on(world.until(id, &[RunState::Running]));
        assert_eq!(run.suspects, kills);
        world = world.killed();
    }
    assert_eq!(world.block_on(world.ended(id)).state, RunState::Parked);
}

#[test]
fn suspects_start_one_at_a_time_once_the_engine_has_been_up_for_a_while() {
    let yaml = "events: { a/b: {}, a/c: {} }\nfunctions: { f: { on: a/b }, g: { on: a/c } }\n";
    let mut world = World::new(yaml, &[("f", SPIN), ("g", "1")]);
    let ids = send_all(&world, "a/b", &["{}", "{}"]);
    let mut start = Millis(0);
    for _ in 0..2 {
        ids.iter().for_each(|id| drop(world.block_on(world.until(*id, &[RunState::Running]))));
        start = SystemClock::default().now();
        world = world.crash();
    }
    let first = world.block_on(world.until(ids[0], &[RunState::Running]));
    assert!(world.engine.clock().now().since(start) >= Span::seconds(5), "it starts a while after the engine");
    let second = world.block_on(world.until(ids[1], &[RunState::Queued]));
    let why = world.block_on(world.engine.why(&second)).unwrap();
    assert!(why.contains("starts alone"), "{why}");
    world.block_on(world.engine.cancel(first.id, "seen")).unwrap();
    world.block_on(world.until(ids[1], &[RunState::Running]));
    let innocent = world.block_on(world.send("a/c", "{}")).unwrap();
    let waiting = world.block_on(world.until(innocent, &[RunState::Queued]));
    // The scheduler answers in order: by the second answer it has seen the new run and started whom it would.
    for _ in 0..2 {
        let why = world.block_on(world.engine.why(&waiting)).unwrap();
        assert!(why.contains(&format!("run {} runs alone", second.id)), "{why}");
    }
    assert_eq!(world.engine.counts().executing, 1, "nothing runs beside a suspect");
    world.block_on(world.engine.cancel(second.id, "seen")).unwrap();
    assert_eq!(world.block_on(world.ended(innocent)).state, RunState::Completed);
}

#[test]
fn an_end_after_the_word_to_stop_says_nothing_against_a_run() {
    let mut world = World::new(ONE, &[("f", SPIN)]);
    let id = world.block_on(world.send("a/b", "{}")).unwrap();
    for _ in 0..4 {
        let run = world.block_on(world.until(id, &[RunState::Running]));
        assert_eq!(run.suspects, 0);
        world.store.note_told();
        world = world.end(&["stepwell.db", "stepwell.db-wal", "stepwell.db.end"]);
    }
    let run = world.block_on(world.until(id, &[RunState::Running]));
    world.block_on(world.engine.cancel(run.id, "seen")).unwrap();
}

#[test]
fn a_crash_in_a_step_runs_it_again_and_counts_no_attempt() {
    let script = r#"let first = step("first", || 1); step("second", || { if event.data.spin { let i = 0; while i >= 0 { i += 1; if i > 1000 { i = 0; } } } run.attempt })"#;
    let world = World::new(ONE, &[("f", script)]);
    let id = world.block_on(world.send("a/b", r#"{"spin": true}"#)).unwrap();
    let run = world.block_on(world.until(id, &[RunState::Running]));
    while world.store.journal(run.id).unwrap().records.is_empty() {
        std::thread::yield_now();
    }
    let world = world.killed();
    let run = world.block_on(world.until(id, &[RunState::Running]));
    assert_eq!(world.store.journal(run.id).unwrap().attempts, [], "an interrupted attempt is no failed one");
    assert_eq!(world.store.journal(run.id).unwrap().records.len(), 1, "the first step does not run again");
    world.block_on(world.engine.cancel(run.id, "seen")).unwrap();
}

/// The runs of these events in the order of their first start, with the time they were started and ended.
fn spans(world: &World, ids: &[EventId]) -> Vec<(usize, i64, i64)> {
    let mut spans: Vec<(usize, i64, i64)> = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        let run = world.block_on(world.ended(*id));
        assert_eq!(run.state, RunState::Completed, "{run:?}");
        spans.push((number, run.started.unwrap().0, run.ended.unwrap().0));
    }
    spans
}

fn send_all(world: &World, name: &str, data: &[&str]) -> Vec<EventId> {
    world.block_on(world.engine.accept(data.iter().map(|data| event(name, data)).collect())).unwrap()
}

#[test]
fn runs_of_one_key_never_overlap_while_other_keys_run() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: { limit: 1, key: event.data.user } } }\n";
    let world = World::new(yaml, &[("f", r#"step("a", || 1); sleep("nap", "1h"); step("b", || 2)"#)]);
    let ids = send_all(&world, "a/b", &[r#"{"user":"u"}"#, r#"{"user":"u"}"#, r#"{"user":"v"}"#]);
    let spans = spans(&world, &ids);
    assert!(spans[1].1 >= spans[0].2, "a waiting run begins when the one before has ended: {spans:?}");
    assert!(spans[2].1 < spans[0].2, "another user does not wait: {spans:?}");
}

#[test]
fn hold_active_lets_another_run_begin_while_one_sleeps() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: { limit: 1, hold: active } } }\n";
    let world = World::new(yaml, &[("f", r#"step("a", || 1); sleep("nap", "1h"); step("b", || 2)"#)]);
    let ids = send_all(&world, "a/b", &["{}", "{}", "{}"]);
    let spans = spans(&world, &ids);
    assert!(spans[2].1 < spans[0].2, "all begin before the first has ended: {spans:?}");
}

#[test]
fn functions_share_a_limit_by_its_name() {
    let limit = "concurrency: { limit: 1, shared: desk }";
    let yaml = format!("events: {{ a/b: {{}}, a/c: {{}} }}\nfunctions: {{ f: {{ on: a/b, {limit} }}, g: {{ on: a/c, {limit} }} }}\n");
    let nap = r#"sleep("nap", "1h"); 1"#;
    let world = World::new(&yaml, &[("f", nap), ("g", nap)]);
    let ids = world.block_on(world.engine.accept(vec![event("a/b", "{}"), event("a/c", "{}")])).unwrap();
    let spans = spans(&world, &ids);
    assert!(spans[1].1 >= spans[0].2, "{spans:?}");
}

#[test]
fn two_limits_hold_at_once() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: [{ limit: 2 }, { limit: 1, key: event.data.user }] } }\n";
    let world = World::new(yaml, &[("f", r#"sleep("nap", "1h"); 1"#)]);
    let users = ["a", "a", "b", "c"].map(|user| format!(r#"{{"user":"{user}"}}"#));
    let ids = send_all(&world, "a/b", &users.each_ref().map(String::as_str));
    let spans = spans(&world, &ids);
    assert!(spans[2].1 < spans[0].2, "b runs beside the first a: {spans:?}");
    assert!(spans[1].1 >= spans[0].2, "the second a waits for the first: {spans:?}");
    for at in spans.iter().map(|span| span.1) {
        let open = spans.iter().filter(|span| span.1 <= at && at < span.2).count();
        assert!(open <= 2, "never more than two: {spans:?}");
    }
}

#[test]
fn a_head_start_goes_before_earlier_runs_that_wait() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: 1, priority: \"event.data.vip ? 120 : 0\" } }\n";
    let world = World::new(yaml, &[("f", r#"sleep("nap", "1h"); 1"#)]);
    let ids = send_all(&world, "a/b", &[r#"{"vip":false}"#, r#"{"vip":false}"#, r#"{"vip":true}"#]);
    let spans = spans(&world, &ids);
    assert!(spans[2].2 <= spans[1].1, "the one with the head start runs before the other: {spans:?}");
}
