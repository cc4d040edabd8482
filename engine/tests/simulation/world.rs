//! One world from its first event to its last: engines live and die in it, the disk and the clock go on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stepwell::base::{Json, Millis, RunId, Span};
use stepwell::exec::{AcceptError, Assembled, CancelError, Engine, NewEvent, Setup};
use stepwell::project::{Mode, Project};
use stepwell::rules::{Ending, RunState};
use stepwell::script::{Entry, Host, Where};
use stepwell::store::{Memory, RunQuery, Store, StoreError};
use tokio::sync::Notify;

use super::clock::{Hand, SimClock};
use super::dice::SeededEntropy;
use super::disk::Disk;
use super::facts::{Errand, Facts};
use super::plan::{Plan, Way};
use super::sabotage::{FAST_MS, Sabotage};

/// 2026-01-01, the day on which every world begins.
const START: Millis = Millis(1_767_225_600_000);
/// Whatever has not ended by then never will: the longest program sleeps for some days.
const HORIZON: Span = Span(400 * 24 * 3_600_000);
/// How long the client waits before it asks again.
const PATIENCE: Span = Span::seconds(1);

/// What is outside of the engines.
pub struct World {
    pub clock: Arc<SimClock>,
    plan: Arc<Plan>,
    facts: Mutex<Facts>,
    client: Mutex<Client>,
    life: Mutex<Life>,
    /// The engine is dead: whatever it still says is not heard.
    frozen: AtomicBool,
    /// The engine is dead, or a promise was broken.
    over: Notify,
    /// There is nothing left to do.
    quiet: Notify,
}

/// What the client has still to do.
struct Client {
    asks: Vec<Ask>,
    cancels: usize,
}

/// One sending of a request.
#[derive(Clone)]
struct Ask {
    request: usize,
    at: Millis,
    /// Sent, and not answered.
    open: bool,
    done: bool,
}

/// The engine that lives at the moment.
struct Life {
    effects: u64,
    death: Option<Way>,
    /// Its disk has failed: it must stop by itself.
    failed: bool,
}

/// What a world leaves behind.
pub struct Outcome {
    pub trouble: Option<String>,
    pub trace: Vec<String>,
    pub runs: usize,
    pub lives: u32,
}

/// Lets a world pass.
pub fn run(plan: Plan) -> Outcome {
    let plan = Arc::new(plan);
    let folder = tempfile::tempdir().expect("a folder for the project");
    write_project(&plan, folder.path());
    let world = World::new(&plan);
    let host = host(&world);
    let project = match Project::load(&folder.path().join("events.yaml"), &host, &|_| None, Mode::Run) {
        Ok((project, _)) => Arc::new(project),
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(|problem| format!("{problem:?}")).collect();
            panic!("the project does not load:\n{}\n{}", problems.join("\n"), plan.yaml());
        }
    };
    let mut memory = Memory::new();
    let mut disk_plan = plan.disk.clone();
    let mut deaths = plan.deaths.iter();
    let mut end = Ending::Clean;
    let mut lives = 0;
    loop {
        let death = deaths.next();
        lives += 1;
        world.facts().engine_starts(world.clock.now());
        *world.life() = Life { effects: 0, death: death.map(|death| death.way), failed: false };
        world.frozen.store(false, Ordering::SeqCst);
        let disk = Disk::new(memory, Arc::clone(&world), end, death.map(|death| death.way));
        let clean = world.live(&project, &host, &disk, &mut disk_plan);
        match Arc::try_unwrap(disk) {
            Ok(disk) => memory = disk.into_memory(),
            Err(_) => {
                world.facts().broken("I10: something of a dead engine lives on".to_owned());
                memory = Memory::new();
            }
        }
        end = if clean { Ending::Clean } else { death.map_or(Ending::Killed, |death| death.end) };
        world.facts().engine_died(end, world.clock.now());
        let troubled = world.facts().trouble.is_some();
        if troubled || world.is_quiet() {
            break;
        }
        world.clock.pass(Span(death.map_or(0, |death| death.down_ms)));
    }
    world.compare(&memory);
    let mut facts = world.facts();
    facts.check_end();
    Outcome { trouble: facts.trouble.clone(), trace: std::mem::take(&mut facts.trace), runs: facts.runs.len(), lives }
}

fn write_project(plan: &Plan, folder: &Path) {
    std::fs::create_dir(folder.join("handlers")).expect("a folder for the handlers");
    std::fs::write(folder.join("events.yaml"), plan.yaml()).expect("the project's file");
    for function in &plan.functions {
        std::fs::write(folder.join(format!("handlers/{}.rhai", function.id)), function.script()).expect("a handler's file");
    }
}

/// A script host whose steps act on this world.
fn host(world: &Arc<World>) -> Arc<Host> {
    let (one, other) = (Arc::clone(world), Arc::clone(world));
    Host::with(move |natives| {
        natives.engine().register_fn("effect", move |seen: rhai::Array| {
            let (run, key, attempt) = stepwell::script::demand_step("effect")?;
            let seen = rhai::Dynamic::from(seen).to_string();
            stepwell::script::wait_in_step(effect(Arc::clone(&one), run, key, attempt, seen))
        });
        natives.engine().register_fn("flaky", move |run: &str, site: &str| {
            let run: RunId = run.parse().expect("run.id is the run's id");
            !other.is_frozen() && other.facts().throws(run, site)
        });
        let entry = |name, arguments, place| Entry { name, signatures: &[], arguments, place, doc: "" };
        natives.declare(entry("effect", &[1], Where::InStep));
        natives.declare(entry("flaky", &[2], Where::BetweenSteps));
    })
}

/// What a step does to the world; it may be the last thing that the engine does.
async fn effect(world: Arc<World>, run: RunId, key: Arc<str>, attempt: u32, seen: String) -> bool {
    let dies = world.dies_of_effect();
    if dies == Some(false) {
        world.freeze();
    }
    world.unless_frozen().await;
    let errand = world.facts().effect(run, &key, attempt, seen, world.clock.now());
    world.look();
    let Errand { breaks, takes_ms } = errand;
    if takes_ms > 0 {
        world.clock.sleep(Span(takes_ms)).await;
    }
    if dies == Some(true) {
        world.freeze();
    }
    world.unless_frozen().await;
    breaks
}

impl World {
    fn new(plan: &Arc<Plan>) -> Arc<World> {
        let mut dice = plan.dice.clone();
        let asks = |(number, request): (usize, &super::plan::Request)| {
            let first = START.after(Span(request.at_ms));
            let ask = move |later: i64| Ask { request: number, at: first.after(Span(later)), open: false, done: false };
            std::iter::once(0).chain(request.again_ms.clone()).map(ask).collect::<Vec<Ask>>()
        };
        let asks = plan.requests.iter().enumerate().flat_map(asks).collect();
        Arc::new(World {
            clock: SimClock::new(START, dice.fork(3)),
            plan: Arc::clone(plan),
            facts: Mutex::new(Facts::new(Arc::clone(plan))),
            client: Mutex::new(Client { asks, cancels: 0 }),
            life: Mutex::new(Life { effects: 0, death: None, failed: false }),
            frozen: AtomicBool::new(false),
            over: Notify::new(),
            quiet: Notify::new(),
        })
    }

    /// Lets an engine live; true where it stopped by itself.
    fn live(self: &Arc<World>, project: &Arc<Project>, host: &Arc<Host>, disk: &Arc<Disk>, plan: &mut super::plan::DiskPlan) -> bool {
        let clock = Arc::clone(&self.clock);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || clock.advance())
            .build()
            .expect("a runtime without drivers needs nothing");
        let local = tokio::task::LocalSet::new();
        let mut entropy = plan.dice.fork(5);
        let ahead = Span(if self.sabotage() == Some(Sabotage::FastClock) { FAST_MS } else { 0 });
        let setup = Setup {
            project: Arc::clone(project),
            host: Arc::clone(host),
            store: Arc::clone(disk) as Arc<dyn Store>,
            clock: Arc::new(Hand { clock: Arc::clone(&self.clock), ahead }),
            entropy: Arc::new(SeededEntropy(Mutex::new(entropy.fork(6)))),
            threads: 2,
        };
        let clean = local.block_on(&runtime, async {
            let Assembled { engine, scheduler, workers } = Engine::assemble(setup).expect("memory can be read");
            tokio::task::spawn_local(scheduler);
            workers.into_iter().for_each(|worker| drop(tokio::task::spawn_local(worker)));
            self.send_client(&engine);
            tokio::select! {
                biased;
                () = disk.write(plan) => false,
                () = self.over.notified() => false,
                () = self.death_by_time() => false,
                error = engine.until_fault() => self.gives_up(&error),
                () = self.stop(&engine) => true,
                () = self.clock.sleep_until(START.after(HORIZON)) => {
                    self.facts().broken("I3: some runs never end".to_owned());
                    false
                }
            }
        });
        // Nothing of what the engine does while it is taken apart may be seen.
        self.frozen.store(true, Ordering::SeqCst);
        drop(local);
        drop(runtime);
        clean
    }

    /// G16: an engine whose disk fails stops by itself, and no other one does.
    fn gives_up(&self, error: &StoreError) -> bool {
        let now = self.clock.now();
        self.facts().note(now, &format!("the engine gives up: {error}"));
        if !self.has_failed() {
            self.facts().broken(format!("G16: an engine gave up on a sound disk: {error}"));
        }
        false
    }

    /// The disk fails.
    pub fn fail(&self) {
        let now = self.clock.now();
        self.facts().note(now, "the disk fails");
        self.life().failed = true;
    }

    pub fn has_failed(&self) -> bool {
        self.life().failed
    }

    async fn death_by_time(&self) {
        let death = self.life().death;
        match death {
            Some(Way::Time { ms }) => self.clock.sleep(Span(ms)).await,
            _ => std::future::pending().await,
        }
    }

    /// Drains the engine when its time has come, or when there is nothing left to do.
    async fn stop(&self, engine: &Engine) {
        let death = self.life().death;
        let told = async {
            match death {
                Some(Way::Drain { ms }) => self.clock.sleep(Span(ms)).await,
                _ => std::future::pending().await,
            }
        };
        self.look();
        tokio::select! {
            biased;
            () = self.quiet.notified() => {}
            () = told => {}
        }
        let now = self.clock.now();
        self.facts().note(now, "drain");
        engine.drain().await;
    }

    fn send_client(self: &Arc<World>, engine: &Engine) {
        let asks = self.client().asks.len();
        for number in 0..asks {
            if !self.client().asks[number].done {
                tokio::task::spawn_local(ask(Arc::clone(self), engine.clone(), number));
            }
        }
        let from = self.client().cancels;
        tokio::task::spawn_local(cancel(Arc::clone(self), engine.clone(), from));
    }

    /// Whether the engine dies of the effect that begins now: before it, or after.
    fn dies_of_effect(&self) -> Option<bool> {
        if self.is_frozen() {
            return None;
        }
        let mut life = self.life();
        life.effects += 1;
        match life.death {
            Some(Way::Effect { number, after }) if number + 1 == life.effects => Some(after),
            _ => None,
        }
    }

    /// The engine dies: from now on nobody hears it.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
        self.over.notify_one();
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    /// Goes on only while the engine lives.
    async fn unless_frozen(&self) {
        if self.is_frozen() {
            std::future::pending::<()>().await;
        }
    }

    /// Looks whether the world is over.
    pub fn look(&self) {
        let troubled = self.facts().trouble.is_some();
        if troubled {
            self.freeze();
        } else if self.is_quiet() {
            self.quiet.notify_one();
        }
    }

    /// Whether everybody has got their answer and every run has ended.
    fn is_quiet(&self) -> bool {
        let client = self.client();
        client.asks.iter().all(|ask| ask.done) && client.cancels == self.plan.cancels.len() && self.facts().all_ended()
    }

    /// The rows are what the writes have made of them.
    fn compare(&self, memory: &Memory) {
        let mut facts = self.facts();
        let rows = memory.runs(&RunQuery::default()).expect("memory can be read");
        let mut differ = Vec::new();
        for row in &rows {
            let records = memory.journal(row.id).expect("memory can be read").records;
            if !facts.runs.get(&row.id).is_some_and(|run| run.state == row.state && run.records == records) {
                differ.push(format!("run {} is not stored as it was written", row.id));
            }
        }
        if rows.len() != facts.runs.len() {
            differ.push(format!("{} runs are stored of {}", rows.len(), facts.runs.len()));
        }
        differ.into_iter().for_each(|what| facts.broken(what));
    }

    pub fn sabotage(&self) -> Option<Sabotage> {
        self.plan.sabotage
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client sends a request until it is answered. What an engine took with it when it died is sent again, where that
/// can do no harm.
async fn ask(world: Arc<World>, engine: Engine, number: usize) {
    let Ask { request, at, open, .. } = world.client().asks[number].clone();
    let planned = &world.plan.requests[request];
    if !open || planned.has_ids {
        world.clock.sleep_until(at).await;
        while !sent(&world, &engine, number, request).await {
            world.clock.sleep(PATIENCE).await;
        }
    }
    world.client().asks[number].done = true;
    world.look();
}

/// Sends a request once; false where it was refused for now.
async fn sent(world: &Arc<World>, engine: &Engine, number: usize, request: usize) -> bool {
    world.client().asks[number].open = true;
    let answer = engine.accept(events(&world.plan, request)).await;
    world.unless_frozen().await;
    let now = world.clock.now();
    match answer {
        Ok(ids) => world.facts().told(request, &ids, now),
        Err(AcceptError::Full | AcceptError::Draining) => {
            world.client().asks[number].open = false;
            return false;
        }
        // Nobody knows what became of it.
        Err(AcceptError::Store(_)) if world.has_failed() => std::future::pending().await,
        Err(error) => world.facts().broken(format!("request {request} was refused: {error}")),
    }
    true
}

fn events(plan: &Plan, request: usize) -> Vec<NewEvent> {
    let planned = &plan.requests[request];
    let event = |(number, event): (usize, &super::plan::Event)| {
        let id = planned.has_ids.then(|| Arc::<str>::from(format!("r{request}-{number}")));
        NewEvent {
            name: format!("thing/{}", event.name).into(),
            data: Json::from(event.data.to_string()),
            sender_id: id.clone(),
            dedupe: id,
            ts: event.later_ms.map(|later| START.after(Span(planned.at_ms + later))),
            extra: None,
        }
    };
    planned.events.iter().enumerate().map(event).collect()
}

/// Somebody cancels runs.
async fn cancel(world: Arc<World>, engine: Engine, from: usize) {
    let mut cancels: Vec<super::plan::Cancel> = world.plan.cancels.clone();
    cancels.sort_by_key(|cancel| cancel.at_ms);
    for cancel in &cancels[from.min(cancels.len())..] {
        world.clock.sleep_until(START.after(Span(cancel.at_ms))).await;
        world.client().cancels += 1;
        let run = {
            let mut facts = world.facts();
            let count = facts.runs.len().max(1);
            let run = facts.runs.iter_mut().nth(cancel.run % count);
            run.map(|(id, run)| {
                run.cancelled = true;
                *id
            })
        };
        if let Some(run) = run {
            while !cancelled(&world, &engine, run).await {
                world.clock.sleep(PATIENCE).await;
            }
        }
        world.look();
    }
}

/// Cancels a run once; false where the disk is full.
async fn cancelled(world: &Arc<World>, engine: &Engine, run: RunId) -> bool {
    let answer = engine.cancel(run, "somebody's wish").await;
    world.unless_frozen().await;
    let fine = match &answer {
        Ok(row) => row.state == RunState::Cancelled,
        Err(CancelError::Store(StoreError::Full)) => return false,
        Err(CancelError::Store(_)) if world.has_failed() => std::future::pending().await,
        Err(error) => matches!(error, CancelError::Ended(_)),
    };
    if !fine {
        world.facts().broken(format!("G29: the cancel of {run} was answered with {answer:?}"));
    }
    true
}
