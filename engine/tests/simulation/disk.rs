//! A store whose flushes take their time and may be the last thing that an engine does.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use stepwell::base::{EventId, Millis, RunId, Span};
use stepwell::rules::{Ending, EventRow, List, LogRow, RunRow, SourceRow};
use stepwell::store::{Answer, EventQuery, Journal, Lane, Memory, RunQuery, Stats, Store, StoreError, Ticket};
use tokio::sync::Notify;

use super::plan::{DiskPlan, Moment, Way};
use super::sabotage::Sabotage;
use super::world::World;

/// The store of one engine's life. What it holds outlives it.
pub struct Disk {
    memory: Memory,
    world: Arc<World>,
    /// How the engine before this one ended.
    end: Ending,
    death: Option<Way>,
    sabotage: Option<Sabotage>,
    lanes: Mutex<Lanes>,
    wake: Notify,
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
}

impl Disk {
    pub fn new(memory: Memory, world: Arc<World>, end: Ending, death: Option<Way>) -> Arc<Disk> {
        let sabotage = world.sabotage();
        Arc::new(Disk { memory, world, end, death, sabotage, lanes: Mutex::default(), wake: Notify::new() })
    }

    /// What outlives the engine.
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Writes what is queued until the flush in which the engine dies.
    pub async fn write(&self, plan: &mut DiskPlan) {
        let mut number = 0;
        let mut full_until = Millis(0);
        loop {
            let batch = self.batch(plan).await;
            let slow = plan.dice.chance(plan.slow);
            let most = if slow { plan.slow_ms } else { plan.flush_ms };
            self.world.clock.sleep(Span(plan.dice.between(0, most))).await;
            if plan.dice.chance(plan.full) && number > 0 {
                full_until = self.world.clock.now().after(Span::seconds(plan.dice.between(0, 20)));
            }
            if self.world.has_failed() {
                batch.into_iter().for_each(|commit| commit.answer.give(Err(failure())));
                continue;
            }
            let moment = match self.death {
                Some(Way::Flush { number: last, moment }) if last == number => Some(moment),
                _ => None,
            };
            number += 1;
            if self.flush(batch, moment, self.world.clock.now() < full_until, plan) {
                return self.world.freeze();
            }
        }
    }

    /// Carries out one transaction; true where the engine dies of it.
    fn flush(&self, batch: Vec<Commit>, death: Option<Moment>, full: bool, plan: &mut DiskPlan) -> bool {
        if death == Some(Moment::Before) {
            self.lanes().never.extend(batch);
            return true;
        }
        let now = self.world.clock.now();
        if full {
            self.world.facts().full(now);
            batch.into_iter().for_each(|commit| commit.answer.give(Err(StoreError::Full)));
            return false;
        }
        if death == Some(Moment::Failed { applied: false }) {
            self.world.fail();
            batch.into_iter().for_each(|commit| commit.answer.give(Err(failure())));
            return false;
        }
        self.world.facts().flush();
        let mut answers = Vec::new();
        for mut commit in batch {
            if let Some(sabotage) = self.sabotage {
                commit.lists = commit.lists.into_iter().map(|list| sabotage.spoil(list)).collect();
            }
            let verdicts = self.memory.apply(commit.lists.clone());
            if let Err(error) = &verdicts {
                self.world.facts().broken(format!("the store refused a commit: {error}"));
            }
            let done = commit.lists.iter().zip(verdicts.iter().flatten()).filter(|(_, verdict)| verdict.is_ok());
            for (list, _) in done {
                self.world.facts().applied(list.clone(), now);
            }
            answers.push((verdicts, commit));
        }
        self.world.look();
        if death == Some(Moment::Failed { applied: true }) {
            self.world.fail();
            answers.into_iter().for_each(|(_, commit)| commit.answer.give(Err(failure())));
            return false;
        }
        for (verdicts, commit) in answers {
            let told = match death {
                None => true,
                Some(Moment::Answered) => plan.dice.chance(50),
                Some(_) => false,
            };
            if told {
                commit.answer.give(verdicts);
            } else {
                self.lanes().never.push(commit);
            }
        }
        death.is_some()
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
        let (answer, ticket) = Ticket::new();
        let hasty = self.sabotage == Some(Sabotage::HastyAnswers);
        let (answer, ticket) = if hasty { hasty_answer(&lists) } else { (answer, ticket) };
        let commit = Commit { lists, answer };
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
        self.memory.event(id)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        self.memory.events(query)
    }

    fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.memory.run(id)
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.memory.runs(query)
    }

    fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        self.memory.unfinished(&mut |row| each(self.sabotage.map_or(row.clone(), |sabotage| sabotage.turn(row))))
    }

    fn journal(&self, run: RunId) -> Result<Journal, StoreError> {
        let journal = self.memory.journal(run)?;
        Ok(self.sabotage.map_or(journal.clone(), |sabotage| sabotage.shorten(journal)))
    }

    fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError> {
        self.memory.logs(run, from, limit)
    }

    fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError> {
        self.memory.source(hash)
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        Ok(Stats { end: self.end, ..self.memory.stats()? })
    }

    fn backup(&self, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        self.memory.backup(to, progress)
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        self.memory.check()
    }
}
