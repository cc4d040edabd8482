//! One world from its first event to its last: engines live and die in it, the disk and the clock go on.

mod client;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stepwell::base::{Clock as _, Millis, RunId, Span};
use stepwell::exec::{Assembled, Engine, Setup};
use stepwell::project::{Mode, Project};
use stepwell::rules::Ending;
use stepwell::script::{Entry, Host, Where};
use stepwell::store::{Memory, RunQuery, Store, StoreError};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::aside;
use super::clock::{Hand, SimClock};
use super::dice::SeededEntropy;
use super::disk::Disk;
use super::facts::{Errand, Facts};
use super::plan::{DiskPlan, Plan, Way};
use super::sabotage::{FAST_MS, Sabotage};
use super::sites::{Cuts, Met};
use client::Client;

/// 2026-01-01, the day on which every world begins.
const START: Millis = Millis(1_767_225_600_000);
/// What a panic says where a project does not load: a plan that is none.
pub const NO_PROJECT: &str = "the project does not load";
/// Whatever has not ended by then never will: the longest program sleeps for some days.
const HORIZON: Span = Span(400 * 24 * 3_600_000);

/// What is outside of the engines.
pub struct World {
    pub clock: Arc<SimClock>,
    plan: Arc<Plan>,
    facts: Mutex<Facts>,
    client: Mutex<Client>,
    life: Mutex<Life>,
    /// The clock of the engine that lives at the moment.
    hand: Mutex<Hand>,
    flushes: AtomicU64,
    /// The jumps of the clock that are over.
    jumps: AtomicU64,
    /// The edition that the project's files are.
    edition: AtomicUsize,
    /// Each edition that was loaded, by its hash.
    editions: Mutex<HashMap<String, usize>>,
    /// The engine is dead: whatever it still says is not heard.
    frozen: AtomicBool,
    /// It has taken longer than anybody waits for.
    abandoned: AtomicBool,
    /// The engine is dead, or a promise was broken.
    over: Notify,
    /// There is nothing left to do.
    quiet: Notify,
}

/// The engine that lives at the moment.
struct Life {
    effects: u64,
    death: Option<Way>,
    /// Its disk has failed: it must stop by itself.
    failed: bool,
    /// The engine itself, to be asked for what is in force.
    engine: Option<Engine>,
}

impl Life {
    fn new(death: Option<Way>) -> Life {
        Life { effects: 0, death, failed: false, engine: None }
    }
}

/// What a world leaves behind.
#[derive(Default)]
pub struct Outcome {
    pub trouble: Option<String>,
    pub trace: Vec<String>,
    pub runs: usize,
    pub lives: u32,
    pub flushes: u64,
    /// The commits of each engine, by site.
    pub met: Vec<Met>,
    pub cuts: Cuts,
}

/// Lets a world pass.
pub fn run(plan: Plan) -> Outcome {
    let plan = Arc::new(plan);
    let world = World::new(&plan);
    let host = host(&world);
    let mut project = world.load(&host, 0);
    let mut loaded = 0;
    let mut memory = Memory::new();
    let mut disk_plan = plan.disk.clone();
    let mut deaths = plan.deaths.iter();
    let mut end = Ending::Clean;
    let mut lives = 0;
    let mut met = Vec::new();
    loop {
        let death = deaths.next();
        lives += 1;
        // A reload that an engine took with it has left its files behind.
        let edition = world.edition();
        if edition != loaded {
            (project, loaded) = (world.load(&host, edition), edition);
        }
        world.begin_life(death.map(|death| death.way), edition);
        let disk = Disk::new(memory, Arc::clone(&world), end, death);
        let clean = world.live(&project, &host, &disk, &mut disk_plan);
        match Arc::try_unwrap(disk) {
            Ok(mut disk) => {
                if !clean {
                    disk.lose_power(&mut disk_plan.dice);
                }
                let (left, in_life) = disk.into_memory();
                memory = left;
                met.push(in_life);
            }
            Err(_) => {
                world.facts().broken("I10: something of a dead engine lives on".to_owned());
                memory = Memory::new();
            }
        }
        end = if clean { Ending::Clean } else { death.map_or(Ending::Killed, |death| death.end) };
        let now = world.now();
        world.facts().engine_died(end, now);
        let troubled = world.facts().trouble.is_some();
        if troubled || world.is_quiet() || world.is_abandoned() {
            break;
        }
        let Some(death) = death else { continue };
        world.clock.pass(Span(death.down_ms));
        world.clock.jump(death.jump_ms);
        if death.edited {
            world.edit();
        }
    }
    world.compare(&memory);
    world.tell_delays();
    let mut facts = world.facts();
    if !world.is_abandoned() {
        facts.check_end();
    }
    Outcome {
        trouble: facts.trouble.clone(),
        trace: std::mem::take(&mut facts.trace),
        runs: facts.runs.len(),
        lives,
        met,
        flushes: world.flushes.load(Ordering::SeqCst),
        cuts: std::mem::take(&mut facts.cuts),
    }
}

fn write_project(plan: &Plan, edition: usize, folder: &Path) {
    std::fs::create_dir(folder.join("handlers")).expect("a folder for the handlers");
    std::fs::write(folder.join("events.yaml"), plan.yaml(edition)).expect("the project's file");
    for function in &plan.functions {
        std::fs::write(folder.join(format!("handlers/{}.rhai", function.id)), function.script(edition)).expect("a handler's file");
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
        let entry = |name, forms, place| Entry { name, forms, place, doc: "", example: "", gives: "" };
        natives.declare(entry("effect", &["(seen: array) -> flag"], Where::InStep));
        natives.declare(entry("flaky", &["(run: text, site: text) -> flag"], Where::BetweenSteps));
    })
}

/// What a step does to the world; it may be the last thing that the engine does.
async fn effect(world: Arc<World>, run: RunId, key: Arc<str>, attempt: u32, seen: String) -> bool {
    let dies = world.dies_of_effect();
    if dies == Some(false) {
        world.freeze();
    }
    world.unless_frozen().await;
    let now = world.now();
    let errand = world.facts().effect(run, &key, attempt, seen, now);
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
        let clock = SimClock::new(START, plan.wakes.clone(), dice.fork(3));
        if plan.sabotage == Some(Sabotage::LostTimers) {
            clock.lose_timers();
        }
        let hand = clock.hand(Span(0));
        Arc::new(World {
            plan: Arc::clone(plan),
            facts: Mutex::new(Facts::new(Arc::clone(plan), Arc::clone(&clock))),
            client: Mutex::new(Client::new(plan)),
            life: Mutex::new(Life::new(None)),
            hand: Mutex::new(hand),
            flushes: AtomicU64::new(0),
            jumps: AtomicU64::new(0),
            edition: AtomicUsize::new(0),
            editions: Mutex::default(),
            frozen: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            over: Notify::new(),
            quiet: Notify::new(),
            clock,
        })
    }

    /// Loads an edition of the project.
    fn load(&self, host: &Arc<Host>, edition: usize) -> Arc<Project> {
        let folder = self.write(edition);
        let project = match Project::load(&folder.path().join("events.yaml"), host, &|_| None, Mode::Run) {
            Ok((project, _)) => Arc::new(project),
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(|problem| format!("{problem:?}")).collect();
                panic!("{NO_PROJECT}:\n{}\n{}", problems.join("\n"), self.plan.yaml(edition));
            }
        };
        for (number, function) in self.plan.functions.iter().enumerate() {
            if let Some(loaded) = project.function(&function.id) {
                self.facts().has_version(Arc::clone(loaded.program.hash()), number, function.version_in(edition));
            }
        }
        self.editions.lock().unwrap_or_else(PoisonError::into_inner).insert(project.hash.clone(), edition);
        project
    }

    /// Writes an edition of the project into a folder of its own.
    fn write(&self, edition: usize) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder for the project");
        write_project(&self.plan, edition, folder.path());
        folder
    }

    /// The edition that the project's files are.
    fn edition(&self) -> usize {
        self.edition.load(Ordering::SeqCst)
    }

    /// Somebody edits the project's files; gives the edition that they are now.
    fn edit(&self) -> usize {
        self.edition.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Looks which edition of the project is in force. Whatever an engine decides reaches the disk after it was asked here, in
    /// the moment in which the edition came into force.
    pub fn look_at_edition(&self) {
        if self.plan.reloads.is_empty() {
            return;
        }
        let project = self.life().engine.as_ref().map(Engine::project);
        let Some(project) = project else { return };
        let edition = self.editions.lock().unwrap_or_else(PoisonError::into_inner).get(&project.hash).copied();
        let now = self.now();
        if let Some(edition) = edition {
            self.facts().in_force(edition, now);
        }
    }

    /// A new engine is about to start.
    fn begin_life(&self, death: Option<Way>, edition: usize) {
        *self.life() = Life::new(death);
        let ahead = Span(if self.sabotage() == Some(Sabotage::FastClock) { FAST_MS } else { 0 });
        *self.hand.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.hand(ahead);
        let now = self.now();
        self.facts().engine_starts(edition, now);
        self.frozen.store(false, Ordering::SeqCst);
    }

    /// What the engine's clock shows.
    pub fn now(&self) -> Millis {
        let hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let now = hand.now();
        // A clock that is fast is the engine's fault, so the facts come by the right one.
        if self.sabotage() == Some(Sabotage::FastClock) { Millis(now.0 - FAST_MS) } else { now }
    }

    /// Lets an engine live; true where it stopped by itself.
    fn live(self: &Arc<World>, project: &Arc<Project>, host: &Arc<Host>, disk: &Arc<Disk>, plan: &mut DiskPlan) -> bool {
        let clock = Arc::clone(&self.clock);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || clock.advance())
            .build()
            .expect("a runtime without drivers needs nothing");
        let local = tokio::task::LocalSet::new();
        let aside = aside::runtime();
        let mut entropy = plan.dice.fork(5);
        let hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let setup = Setup {
            project: Arc::clone(project),
            host: Arc::clone(host),
            store: Arc::clone(disk) as Arc<dyn Store>,
            clock: Arc::new(hand),
            entropy: Arc::new(SeededEntropy(Mutex::new(entropy.fork(6)))),
            threads: 2,
        };
        let clean = local.block_on(&runtime, async {
            let Assembled { engine, scheduler, workers, upkeep } = match Engine::assemble(setup) {
                Ok(assembled) => assembled,
                Err(error) => return self.gives_up(&error),
            };
            self.life().engine = Some(engine.clone());
            tokio::task::spawn_local(scheduler);
            if self.plan.kept.is_some() {
                tokio::task::spawn_local(upkeep);
            }
            tokio::task::spawn_local(Arc::clone(self).set_clock());
            workers.into_iter().for_each(|worker| drop(tokio::task::spawn_local(worker)));
            client::send(self, &engine, host, aside.handle());
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
        let engine = self.life().engine.take();
        drop(engine);
        drop(local);
        drop(runtime);
        drop(aside);
        clean
    }

    /// G16: an engine whose disk fails stops by itself, and no other one does.
    fn gives_up(&self, error: &StoreError) -> bool {
        let now = self.now();
        self.facts().note(now, &format!("the engine gives up: {error}"));
        if !self.has_failed() {
            self.facts().broken(format!("G16: an engine gave up on a sound disk: {error}"));
        }
        false
    }

    /// The disk fails, in what it does at the moment.
    pub fn fail(&self, at: &str) {
        let now = self.now();
        self.facts().note(now, &format!("the disk fails: {at}"));
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
                Some(Way::Drain { ms } | Way::Site { drain_ms: Some(ms), .. }) => self.clock.sleep(Span(ms)).await,
                _ => std::future::pending().await,
            }
        };
        self.look();
        tokio::select! {
            biased;
            () = self.quiet.notified() => {}
            () = told => {}
        }
        let now = self.now();
        self.facts().note(now, "drain");
        engine.drain().await;
    }

    /// Somebody sets the machine's clock, when it is time for that.
    async fn set_clock(self: Arc<World>) {
        let mut jumps = self.plan.jumps.clone();
        jumps.sort_by_key(|jump| jump.at_ms);
        for (number, jump) in jumps.into_iter().enumerate() {
            if (number as u64) < self.jumps.load(Ordering::SeqCst) {
                continue;
            }
            self.clock.sleep_until(START.after(Span(jump.at_ms))).await;
            self.jumps.store(number as u64 + 1, Ordering::SeqCst);
            self.clock.jump(jump.by_ms);
            let now = self.now();
            self.facts().note(now, &format!("the clock is set by {} ms", jump.by_ms));
        }
    }

    pub fn count_flush(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
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
        let done = client.cancels == self.plan.cancels.len()
            && client.signals == self.plan.signals.len()
            && client.pauses == 2 * self.plan.pauses.len()
            && client.retries == self.plan.retries.len()
            && client.replays == self.plan.replays.len()
            && client.migrates == self.plan.migrates.len()
            && client.calls == self.plan.calls.len()
            && client.reloads == self.plan.reloads.len();
        done && client.asks.iter().all(|ask| ask.done) && self.facts().all_ended()
    }

    /// What the clock has done to the engines, for those who count it.
    fn tell_delays(&self) {
        let (now, (late, forgotten)) = (self.now(), self.clock.delays());
        for (count, what) in [(late, "late"), (forgotten, "lost until the clock looked again")] {
            if count > 0 {
                self.facts().note(now, &format!("wake-ups were {what}: {count}"));
            }
        }
    }

    /// The rows are what the writes have made of them.
    fn compare(&self, memory: &Memory) {
        let now = self.now();
        let mut facts = self.facts();
        let rows = memory.runs(&RunQuery::default()).expect("memory can be read");
        let mut differ = Vec::new();
        for row in &rows {
            let records = memory.journal(row.id).expect("memory can be read").records;
            let waits = memory.waits(row.id).expect("memory can be read");
            if !facts.same_waits(row.id, waits) {
                differ.push(format!("the waits of run {} are not stored as they were written", row.id));
            }
            let batch = memory.batch(row.id).expect("memory can be read");
            if !facts.same_batch(row.id, &batch) {
                differ.push(format!("the events of run {} are not stored as they were written", row.id));
            }
            let same = facts.runs.get(&row.id).is_some_and(|run| run.state == row.state && run.records == records);
            if !same || row.version != facts.version_of(row.id) {
                differ.push(format!("run {} is not stored as it was written", row.id));
            }
        }
        let missing: Vec<RunId> = facts.runs.keys().copied().filter(|id| rows.iter().all(|row| row.id != *id)).collect();
        for id in missing {
            if !facts.is_swept(id) {
                differ.push(format!("run {id} is not stored"));
            }
            facts.note(now, &format!("{id} was deleted"));
        }
        differ.into_iter().for_each(|what| facts.broken(what));
    }

    /// Nobody waits for its end any more.
    pub fn abandon(&self) {
        let now = self.now();
        self.facts().note(now, "the world is left before its end");
        self.abandoned.store(true, Ordering::SeqCst);
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Whether the clock starts runs in it.
    pub fn has_crons(&self) -> bool {
        self.plan.functions.iter().any(|function| !function.gates.crons.is_empty())
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
