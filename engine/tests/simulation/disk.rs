//! A store whose flushes take their time and may be the last thing that an engine does.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stepwell::base::{EventId, Millis, RunId, Span};
use stepwell::rules::{CronRow, Ending, EventRow, KvRow, List, LogRow, OutcomeRow, PauseRow, RunRow, SourceRow, WaitRow, WindowRow};
use stepwell::store::memory::Disk as Held;
use stepwell::store::{Answer, EventQuery, Journal, Lane, Memory, RunQuery, Stats, Store, StoreError, Ticket, Verdict};
use tokio::sync::Notify;

use super::dice::Dice;
use super::plan::{Death, DiskPlan, Moment, Way};
use super::sabotage::Sabotage;
use super::sites::{Met, Site};
use super::world::World;

/// No engine lives for so many, but for those in which an idle one looks for old rows.
const MOST_FLUSHES: u64 = 20_000;
/// A world in which the clock starts runs is left once an engine has lived for so long, with so many flushes: it may go on for ever where
/// the disk is slower than the clock, and all that was to hold until there has. An engine that commits and commits is at `MOST_FLUSHES` long
/// before.
const LONGEST_OF_CRONS: (Span, u64) = (Span::seconds(3 * 3_600), 5_000);

/// The store of one engine's life. What it holds outlives it.
pub struct Disk {
    memory: Memory,
    world: Arc<World>,
    /// How the engine before this one ended.
    end: Ending,
    death: Option<Way>,
    /// Whether the power is cut with its death.
    power: bool,
    /// What was held before each of the newest transactions, as far as these need no flush of their own.
    unsure: Mutex<Vec<Held>>,
    sabotage: Option<Sabotage>,
    lanes: Mutex<Lanes>,
    wake: Notify,
    /// The commits so far, by site.
    met: Mutex<Met>,
    reads: AtomicU64,
    /// Whether the engine has made its first commit, in which it recovers.
    recovered: AtomicBool,
}

#[derive(Default)]
struct Lanes {
    steps: VecDeque<Commit>,
    ingest: VecDeque<Commit>,
    /// Commits that will never be answered: their engine is dead, and a dead one is told nothing.
    never: Vec<Commit>,
}

struct Commit {
    lists: Vec<List>,
    answer: Answer,
    /// What each of its lists is for.
    sites: Vec<Option<Site>>,
}

impl Disk {
    pub fn new(memory: Memory, world: Arc<World>, end: Ending, death: Option<&Death>) -> Arc<Disk> {
        let sabotage = world.sabotage();
        Arc::new(Disk {
            memory,
            world,
            end,
            death: death.map(|death| death.way),
            power: death.is_some_and(|death| death.power),
            unsure: Mutex::default(),
            sabotage,
            lanes: Mutex::default(),
            wake: Notify::new(),
            met: Mutex::default(),
            reads: AtomicU64::new(0),
            recovered: AtomicBool::new(false),
        })
    }

    /// What outlives the engine, and how many commits of each site it made.
    pub fn into_memory(self) -> (Memory, Met) {
        (self.memory, self.met.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The power is cut: some of the newest transactions are lost, if nothing has flushed them.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        let unsure = std::mem::take(self.unsure.get_mut().unwrap_or_else(PoisonError::into_inner));
        if unsure.is_empty() || self.world.has_failed() {
            return;
        }
        let lost = dice.between(1, unsure.len() as i64) as usize;
        let kept = unsure.len() - lost;
        if let Some(before) = unsure.into_iter().nth(kept) {
            self.memory = Memory::restore(before);
            let now = self.world.now();
            self.world.facts().taken_back(lost, now);
        }
    }

    /// Writes what is queued until the flush in which the engine dies.
    pub async fn write(self: &Arc<Disk>, plan: &mut DiskPlan) {
        let (mut number, mut idle) = (0, 0);
        let began = self.world.clock.now();
        let mut full_until = Millis(0);
        loop {
            let batch = self.batch(plan).await;
            let slow = plan.dice.chance(plan.slow);
            let takes = if slow { plan.slow_ms } else { plan.flush_ms };
            self.world.clock.sleep(Span(plan.dice.between(0, takes))).await;
            if plan.dice.chance(plan.full) && number > 0 {
                full_until = self.world.clock.now().after(Span::seconds(plan.dice.between(0, 20)));
            }
            if self.world.has_failed() {
                batch.into_iter().for_each(|commit| commit.answer.give(Err(failure())));
                continue;
            }
            let moment = self.dies_of(number, &batch);
            number += 1;
            idle += u64::from(batch.iter().flat_map(|commit| &commit.sites).all(|site| *site == Some(Site::Sweep)));
            self.world.count_flush();
            let (longest, most) = LONGEST_OF_CRONS;
            if self.world.has_crons() && number > most && self.world.clock.now().since(began) > longest {
                self.world.abandon();
                self.lanes().never.extend(batch);
                return self.world.freeze();
            }
            if number - idle > MOST_FLUSHES {
                self.world.facts().broken("I3: the engine commits and commits, and comes to no end".to_owned());
                return self.world.freeze();
            }
            if self.flush(batch, moment, self.world.clock.now() < full_until, plan) {
                return self.world.freeze();
            }
        }
    }

    /// Whether this flush is the engine's last one.
    fn dies_of(&self, number: u64, batch: &[Commit]) -> Option<Moment> {
        let sites: Vec<Site> = batch.iter().flat_map(|commit| &commit.sites).copied().flatten().collect();
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let dies = match self.death {
            Some(Way::Flush { number: last, moment }) => (last == number).then_some(moment),
            Some(Way::Site { site, number: last, moment, .. }) => {
                let first = met.get(&site).copied().unwrap_or(0);
                let count = sites.iter().filter(|here| **here == site).count() as u64;
                (first..first + count).contains(&last).then_some(moment)
            }
            _ => None,
        };
        sites.into_iter().for_each(|site| *met.entry(site).or_insert(0) += 1);
        dies
    }

    /// Carries out one transaction; true where the engine dies of it.
    fn flush(self: &Arc<Disk>, batch: Vec<Commit>, death: Option<Moment>, full: bool, plan: &mut DiskPlan) -> bool {
        if death == Some(Moment::Before) {
            self.world.facts().cut(batch.iter().flat_map(|commit| &commit.sites).copied().flatten(), false);
            self.lanes().never.extend(batch);
            return true;
        }
        let now = self.world.now();
        if full {
            self.world.facts().full(batch.iter().flat_map(|commit| &commit.lists), now);
            batch.into_iter().for_each(|commit| commit.answer.give(Err(StoreError::Full)));
            return false;
        }
        if death == Some(Moment::Failed { applied: false }) {
            self.world.fail("a commit is lost");
            batch.into_iter().for_each(|commit| commit.answer.give(Err(failure())));
            return false;
        }
        let (mut answers, mut done_at) = (Vec::new(), Vec::new());
        let may_be_lost = self.power && batch.iter().flat_map(|commit| &commit.lists).all(List::may_be_lost);
        let before = may_be_lost.then(|| self.memory.snapshot());
        for mut commit in batch {
            self.world.facts().commit();
            if let Some(sabotage) = self.sabotage {
                commit.lists = commit.lists.into_iter().map(|list| sabotage.spoil(list)).collect();
            }
            let verdicts = self.memory.apply(commit.lists.clone());
            if let Err(error) = &verdicts {
                self.world.facts().broken(format!("the store refused a commit: {error}"));
            }
            for (list, verdict) in commit.lists.iter().zip(verdicts.iter().flatten()) {
                if let Err(conflict) = verdict {
                    self.world.facts().note(now, &format!("a list is refused: {conflict:?}"));
                    self.world.facts().refused(std::iter::once(list));
                }
            }
            let sited = commit.lists.iter().zip(&commit.sites);
            let done = sited.zip(verdicts.iter().flatten()).filter(|(_, verdict)| verdict.is_ok());
            for ((list, site), _) in done {
                self.world.facts().applied(list.clone(), now);
                done_at.extend(*site);
            }
            answers.push((verdicts, commit));
        }
        self.world.facts().is_written(may_be_lost);
        let mut unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        match before {
            Some(before) => unsure.push(before),
            // The flush is one of all that came before.
            None => unsure.clear(),
        }
        drop(unsure);
        if let Some(Moment::After | Moment::Answered) = death {
            // One that was refused is not there to be cut off from what follows.
            self.world.facts().cut(done_at.into_iter(), true);
        }
        self.world.facts().check_doomed();
        self.world.look();
        if death == Some(Moment::Failed { applied: true }) {
            self.world.fail("a commit is stored, and is not answered");
            answers.into_iter().for_each(|(_, commit)| commit.answer.give(Err(failure())));
            return false;
        }
        for (verdicts, commit) in answers {
            let told = match death {
                None => true,
                Some(Moment::Answered) => plan.dice.chance(50),
                Some(_) => false,
            };
            let forgets = self.sabotage == Some(Sabotage::LostAnswers) && plan.dice.chance(5);
            if !told || forgets {
                self.lanes().never.push(commit);
            } else if plan.dice.chance(plan.late) {
                let late = Span(plan.dice.between(1, plan.late_ms));
                tokio::task::spawn_local(Arc::clone(self).tell_later(verdicts, commit, late));
            } else {
                self.tell(verdicts, commit);
            }
        }
        death.is_some()
    }

    /// Tells the engine what has become of a commit.
    fn tell(&self, verdicts: Result<Vec<Verdict>, StoreError>, commit: Commit) {
        self.world.facts().answered(&commit.lists, self.world.now());
        commit.answer.give(verdicts);
    }

    async fn tell_later(self: Arc<Disk>, verdicts: Result<Vec<Verdict>, StoreError>, commit: Commit, late: Span) {
        self.world.facts().note(self.world.now(), "an answer comes late");
        self.world.clock.sleep(late).await;
        if self.world.is_frozen() {
            self.lanes().never.push(commit);
        } else {
            self.tell(verdicts, commit);
        }
    }

    /// A read begins: an error where the disk has failed, or fails now.
    fn read(&self) -> Result<(), StoreError> {
        let number = self.reads.fetch_add(1, Ordering::SeqCst);
        if self.death == Some(Way::Read { number }) {
            self.world.fail("nothing can be read");
        }
        if self.world.has_failed() { Err(failure()) } else { Ok(()) }
    }

    /// The commits of the next transaction, as soon as there are any.
    async fn batch(&self, plan: &mut DiskPlan) -> Vec<Commit> {
        loop {
            let batch = self.queued(plan.dice.between(1, plan.batch) as usize);
            if !batch.is_empty() {
                return batch;
            }
            self.wake.notified().await;
        }
    }

    /// Takes commits out of the lanes, at most so many of each: steps first, but never without room for events.
    fn queued(&self, most: usize) -> Vec<Commit> {
        let mut lanes = self.lanes();
        let (steps, ingest) = (lanes.steps.len().min(most), lanes.ingest.len().min(most));
        let mut batch: Vec<Commit> = lanes.steps.drain(..steps).collect();
        batch.extend(lanes.ingest.drain(..ingest));
        batch
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure() -> StoreError {
    StoreError::Io("the disk is broken".to_owned())
}

/// An answer that is there at once, and one that nobody hears.
fn hasty_answer(lists: &[List]) -> (Answer, Ticket) {
    let (answer, ticket) = Ticket::new();
    answer.give(Ok(lists.iter().map(|_| Ok(())).collect()));
    (Ticket::new().0, ticket)
}

impl Store for Disk {
    fn commit(&self, lane: Lane, lists: Vec<List>) -> Ticket {
        self.world.look_at_edition();
        let (answer, ticket) = Ticket::new();
        let hasty = self.sabotage == Some(Sabotage::HastyAnswers);
        let (answer, ticket) = if hasty { hasty_answer(&lists) } else { (answer, ticket) };
        let recovers = !self.recovered.swap(true, Ordering::SeqCst);
        let sites: Vec<Option<Site>> = lists.iter().map(|list| Site::of(list, recovers)).collect();
        if let Some((list, _)) = lists.iter().zip(&sites).find(|(_, site)| site.is_none()) {
            self.world.facts().broken(format!("a list of no site: {list:?}"));
        }
        let commit = Commit { lists, answer, sites };
        let mut lanes = self.lanes();
        match lane {
            _ if self.world.is_frozen() => lanes.never.push(commit),
            Lane::Steps => lanes.steps.push_back(commit),
            Lane::Ingest => lanes.ingest.push_back(commit),
        }
        self.wake.notify_one();
        ticket
    }

    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.read()?;
        self.memory.event(id)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        self.read()?;
        self.memory.events(query)
    }

    fn outcomes(&self, event: EventId) -> Result<Vec<OutcomeRow>, StoreError> {
        self.read()?;
        self.memory.outcomes(event)
    }

    fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.read()?;
        self.memory.run(id)
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.read()?;
        self.memory.runs(query)
    }

    fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        self.read()?;
        self.memory.unfinished(&mut |row| each(self.sabotage.map_or(row.clone(), |sabotage| sabotage.turn(row))))
    }

    fn journal(&self, run: RunId) -> Result<Journal, StoreError> {
        self.read()?;
        let journal = self.memory.journal(run)?;
        Ok(self.sabotage.map_or(journal.clone(), |sabotage| sabotage.shorten(journal)))
    }

    fn batch(&self, run: RunId) -> Result<Vec<EventId>, StoreError> {
        self.read()?;
        self.memory.batch(run)
    }

    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.read()?;
        self.memory.waits(run)
    }

    fn all_waits(&self, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
        self.read()?;
        self.memory.all_waits(each)
    }

    fn pinned_fields(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.read()?;
        self.memory.pinned_fields()
    }

    fn pinned(&self, field: &str, value: i64) -> Result<Vec<WaitRow>, StoreError> {
        self.read()?;
        self.memory.pinned(field, value)
    }

    fn crons(&self) -> Result<Vec<CronRow>, StoreError> {
        self.read()?;
        self.memory.crons()
    }

    fn all_windows(&self, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
        self.read()?;
        self.memory.all_windows(each)
    }

    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError> {
        self.read()?;
        self.memory.value(key)
    }

    fn pauses(&self) -> Result<Vec<PauseRow>, StoreError> {
        self.read()?;
        let pauses = self.memory.pauses()?;
        Ok(self.sabotage.map_or(pauses.clone(), |sabotage| sabotage.recall(pauses)))
    }

    fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError> {
        self.read()?;
        self.memory.logs(run, from, limit)
    }

    fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError> {
        self.read()?;
        self.memory.source(hash)
    }

    fn unneeded_sources(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.read()?;
        let named: BTreeSet<Arc<str>> = self.memory.runs(&RunQuery::default())?.into_iter().filter_map(|run| run.version).collect();
        let stored = self.world.facts().sources();
        Ok(stored.into_iter().filter(|hash| !named.contains(hash)).collect())
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        self.read()?;
        Ok(Stats { end: self.end, ..self.memory.stats()? })
    }

    fn backup(&self, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        self.memory.backup(to, progress)
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        self.memory.check()
    }

    fn fault(&self) -> Option<StoreError> {
        self.world.has_failed().then(failure)
    }
}
