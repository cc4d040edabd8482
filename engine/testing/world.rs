//! One pass over a test: from its first event until everybody has come to rest, over as many engines as it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::base::{Clock as _, EventId, Millis, RunId, Span};
use crate::clock::VirtualClock;
use crate::exec::{AcceptError, Assembled, CancelError, Engine, NewEvent, Setup};
use crate::project::Project;
use crate::rules::cron::SCHEDULED;
use crate::rules::row::Recorded;
use crate::rules::{EventRow, Kind, LogRow, RunRow, RunState, WaitRow};
use crate::script::Host;
use crate::store::{EventQuery, Journal, RunQuery, Store, StoreError};

use super::Dice;
use super::cut::{Cut, Ledger, Life};
use super::mocks::{self, Call, Message, Mocks};
use super::read::{Act, Test, What};

/// How long a test may go on, in virtual time. The longest sleep is a year.
const LONGEST: Span = Span::seconds(10 * 366 * 24 * 3_600);
/// How many engines one pass may take.
const LIVES_MOST: usize = 20_000;

/// A run, as it stands at a test's end.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The run.
    pub run: RunRow,
    /// What started it.
    pub event: Option<EventRow>,
    /// What it has recorded.
    pub journal: Journal,
    /// What it waits for.
    pub waits: Vec<WaitRow>,
    /// Its log.
    pub logs: Vec<LogRow>,
    /// The events that it has sent.
    pub sent: Vec<EventRow>,
}

/// What came of one pass.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The runs of the tested function, in order of creation.
    pub runs: Vec<Seen>,
    /// The runs of other functions.
    pub others: Vec<Seen>,
    /// The virtual time at the end.
    pub now: Millis,
    /// How often the engine was cut off.
    pub crashes: usize,
    /// How many commits there were.
    pub(super) commits: usize,
    pub(super) calls: Vec<Call>,
    pub(super) messages: Vec<Message>,
    /// What the last cut stood at.
    pub(super) cut_at: String,
    /// What was sent and has reached nobody: a place in the test and what to say there.
    pub(super) missed: Vec<(usize, String)>,
    /// Why it did not come to an end.
    pub(super) stuck: Option<String>,
    /// The event that the test began with.
    pub(super) first: Option<EventRow>,
}

/// What is outside of the engines.
struct World<'a> {
    test: &'a Test,
    clock: VirtualClock,
    ledger: Arc<Ledger>,
    /// Which acts are done.
    done: Arc<Mutex<Vec<Option<Done>>>>,
    first: Mutex<Option<EventId>>,
}

/// What came of an act.
#[derive(Debug, Clone)]
enum Done {
    /// It has reached somebody, or may have.
    Well,
    /// It has reached nobody, in these words.
    Missed(String),
}

/// How an engine's life ended.
enum End {
    /// Everybody has come to rest.
    Quiet,
    /// It was cut off.
    CutOff,
    /// It is beyond help, in these words.
    Stuck(String),
}

/// Lets a test pass once.
pub(super) fn pass(test: &Test, project: &Project, host: &Arc<Host>, cut: Cut) -> Outcome {
    let counted = test.expect.calls.iter().filter_map(|(target, _)| mocks::target(&target.value).ok()).collect();
    let mocks = Mocks::new(&test.answers, counted);
    let project = Arc::new(project.for_test(&test.env, Arc::clone(&mocks) as _, test.alone.clone()));
    let world = World {
        test,
        clock: VirtualClock::still(test.start),
        ledger: Ledger::new(cut),
        done: Arc::new(Mutex::new(vec![None; test.script.len()])),
        first: Mutex::new(None),
    };
    let dice = Arc::new(Dice::of(test));
    let mut stuck = None;
    for life in 0.. {
        match world.live(&project, host, &dice) {
            Ok(End::Quiet) => break,
            Ok(End::CutOff) if life < LIVES_MOST => {}
            Ok(End::CutOff) => stuck = Some(format!("after {LIVES_MOST} crashes it had not come to its end")),
            Ok(End::Stuck(why)) => stuck = Some(why),
            Err(error) => stuck = Some(format!("the engine could not go on: {error}")),
        }
        if stuck.is_some() {
            break;
        }
    }
    world.outcome(&mocks, stuck)
}

impl World<'_> {
    fn live(&self, project: &Arc<Project>, host: &Arc<Host>, dice: &Arc<Dice>) -> Result<End, StoreError> {
        let life = Life::new(&self.ledger);
        let referee = Arc::new(Referee {
            clock: self.clock.clone(),
            ledger: Arc::clone(&self.ledger),
            life: Arc::clone(&life),
            project: Arc::clone(project),
            done: Arc::clone(&self.done),
            latest: self.test.start.after(LONGEST),
            begun: AtomicBool::new(false),
            over: Notify::new(),
        });
        let parked = Arc::clone(&referee);
        let runtime = tokio::runtime::Builder::new_current_thread().on_thread_park(move || parked.all_wait()).build();
        let runtime = runtime.map_err(|error| StoreError::Io(error.to_string()))?;
        let local = tokio::task::LocalSet::new();
        let setup = Setup {
            project: Arc::clone(project),
            host: Arc::clone(host),
            store: Arc::clone(&life) as Arc<dyn Store>,
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::clone(dice) as _,
            threads: 1,
        };
        let end = local.block_on(&runtime, async {
            // Nothing is deleted in a test, however long it takes: there is no upkeep.
            let Assembled { engine, scheduler, workers, .. } = Engine::assemble(setup)?;
            tokio::task::spawn_local(scheduler);
            workers.into_iter().for_each(|worker| drop(tokio::task::spawn_local(worker)));
            let acting = async {
                engine.until_ready().await;
                referee.begun.store(true, Ordering::SeqCst);
                match self.act(&engine, &life).await {
                    Ok(()) => std::future::pending().await,
                    Err(why) => why,
                }
            };
            tokio::select! {
                biased;
                () = life.cut_off.notified() => Ok(End::CutOff),
                error = engine.until_fault() => Err(error),
                why = acting => Ok(End::Stuck(why)),
                () = referee.over.notified() => Ok(if self.clock.now() >= referee.latest {
                    End::Stuck("after ten years of virtual time it had not come to its end".to_owned())
                } else {
                    End::Quiet
                }),
            }
        });
        // Nothing of what the engine does while it is taken apart may be heard.
        life.end();
        drop(local);
        drop(runtime);
        end
    }

    /// Does to the engine what is not done yet, each at its time.
    async fn act(&self, engine: &Engine, life: &Life) -> Result<(), String> {
        for (number, act) in self.test.script.iter().enumerate() {
            let is_done = self.done()[number].is_some();
            if is_done {
                continue;
            }
            engine.clock().sleep_until(self.test.start.after(act.after), false).await;
            let done = self.one(engine, number, act).await?;
            if !life.is_over() {
                self.done()[number] = Some(done);
            }
        }
        Ok(())
    }

    async fn one(&self, engine: &Engine, number: usize, act: &Act) -> Result<Done, String> {
        let refused = |error: AcceptError| match error {
            AcceptError::Refused(refusals) => {
                refusals.first().map_or_else(|| "an event was refused".to_owned(), |refusal| refusal.problem.message.clone())
            }
            other => other.to_string(),
        };
        match &act.what {
            What::Event { name, data, id } => {
                // Sent again after a crash, it is the same one.
                let dedupe = id.clone().unwrap_or_else(|| Arc::from(format!("test {number}")));
                let (name, data) = (Arc::clone(name), Arc::from(data.to_string()));
                let new = NewEvent { name, data, sender_id: id.clone(), dedupe: Some(dedupe), ts: None, extra: None };
                let ids = engine.accept(vec![new]).await.map_err(refused)?;
                self.began(ids.first().copied());
                Ok(Done::Well)
            }
            // Its event was stored, and the engine ended before it said so.
            What::Clock { .. } if self.by_clock().is_some() => {
                self.began(self.by_clock());
                Ok(Done::Well)
            }
            What::Clock { schedule } => {
                self.began(engine.start_by_clock(&self.test.function, schedule.as_deref()).await.map_err(refused)?);
                Ok(Done::Well)
            }
            What::Signal { name, data } => {
                let reached = engine.signal(name, Arc::from(data.to_string())).await.map_err(refused)?;
                Ok(if reached > 0 { Done::Well } else { Done::Missed(format!("no run waited for the signal `{name}`")) })
            }
            What::Cancel { reason } => {
                let query = RunQuery { function: Some(Arc::clone(&self.test.function)), ..RunQuery::default() };
                let runs = self.ledger.memory.runs(&query).map_err(|error| error.to_string())?;
                // The oldest one that has not ended.
                let Some(run) = runs.iter().rev().find(|run| !run.state.is_terminal()) else {
                    return Ok(Done::Missed("there was no run to cancel".to_owned()));
                };
                match engine.cancel(run.id, reason).await {
                    Ok(_) | Err(CancelError::Ended(_)) => Ok(Done::Well),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }

    /// The event of a start by the clock, if there was one.
    fn by_clock(&self) -> Option<EventId> {
        let query = EventQuery { name: Some(Arc::from(SCHEDULED)), ..EventQuery::default() };
        self.ledger.memory.events(&query).ok()?.first().map(|event| event.id)
    }

    /// The test's first event is stored.
    fn began(&self, event: Option<EventId>) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = event;
        }
    }

    fn done(&self) -> std::sync::MutexGuard<'_, Vec<Option<Done>>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outcome(&self, mocks: &Mocks, stuck: Option<String>) -> Outcome {
        let memory = &self.ledger.memory;
        let mut rows = memory.runs(&RunQuery::default()).unwrap_or_default();
        rows.sort_by_key(|run| run.id);
        let (runs, others) = rows.into_iter().partition::<Vec<_>, _>(|run| run.function == self.test.function);
        let seen = |rows: Vec<RunRow>| rows.into_iter().map(|run| self.seen(run)).collect();
        let done = self.done();
        let missed = done.iter().enumerate().filter_map(|(at, done)| match done {
            Some(Done::Missed(why)) => Some((at, why.clone())),
            _ => None,
        });
        let first = *self.first.lock().unwrap_or_else(PoisonError::into_inner);
        Outcome {
            missed: missed.collect(),
            runs: seen(runs),
            others: seen(others),
            now: self.clock.now(),
            crashes: self.ledger.crashes(),
            commits: self.ledger.commits(),
            calls: mocks.calls(),
            messages: mocks.messages(),
            cut_at: self.ledger.last(),
            stuck,
            first: first.and_then(|event| memory.event(event).ok().flatten()),
        }
    }

    fn seen(&self, run: RunRow) -> Seen {
        let memory = &self.ledger.memory;
        let journal = memory.journal(run.id).unwrap_or_default();
        let mut sent = Vec::new();
        for record in journal.records.iter().filter(|record| record.kind == Kind::Send) {
            let Recorded::Value(json) = &record.result else { continue };
            let ids: Vec<String> = match serde_json::from_str(json) {
                Ok(serde_json::Value::String(id)) => vec![id],
                Ok(value) => serde_json::from_value(value).unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            let ids = ids.iter().filter_map(|id| id.parse::<EventId>().ok());
            sent.extend(ids.filter_map(|id| memory.event(id).ok().flatten()));
        }
        Seen {
            event: memory.event(run.event).ok().flatten(),
            waits: memory.waits(run.id).unwrap_or_default(),
            // What handlers write: the calls that the engine notes have expectations of their own.
            logs: memory.logs(run.id, 0, 0).unwrap_or_default().into_iter().filter(|line| !line.is_call()).collect(),
            journal,
            sent,
            run,
        }
    }
}

/// Sees when everybody waits, and lets time go on, or says that it is over.
struct Referee {
    clock: VirtualClock,
    ledger: Arc<Ledger>,
    life: Arc<Life>,
    project: Arc<Project>,
    done: Arc<Mutex<Vec<Option<Done>>>>,
    latest: Millis,
    /// Whether the engine has taken up what the store held.
    begun: AtomicBool,
    over: Notify,
}

impl Referee {
    /// Nobody on the thread has anything to do.
    fn all_wait(&self) {
        if self.life.is_over() {
            return;
        }
        let is_late = self.clock.now() >= self.latest;
        if is_late || self.is_quiet() || !self.clock.go_on() {
            self.over.notify_one();
        }
    }

    /// Whether all is done, and no run goes on by itself.
    fn is_quiet(&self) -> bool {
        if !self.begun.load(Ordering::SeqCst) || self.done.lock().unwrap_or_else(PoisonError::into_inner).iter().any(Option::is_none) {
            return false;
        }
        let mut moving: Option<RunId> = None;
        let looked = self.ledger.memory.unfinished(&mut |run| {
            // One that waits for what never comes is ended by its `timeouts.finish`, where it has that.
            let has_end = || self.project.function(&run.function).is_some_and(|function| function.timeouts.finish.is_some());
            let rests = run.state == RunState::Parked || (run.state == RunState::Waiting && run.wake.is_none() && !has_end());
            if !rests {
                moving = Some(run.id);
            }
        });
        looked.is_ok() && moving.is_none()
    }
}
