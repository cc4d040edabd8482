//! The journal of an attempt: records asked for, records added, and the commit that makes them durable.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::{Millis, Span, alloc};
use crate::rules::fit::{self, Answer, Fit, Instead, Unfit};
use crate::rules::row::Recorded;
use crate::rules::run::Outcome;
use crate::rules::{AttemptRow, Expect, Failure, Kind, List, Record, Write};
use crate::store::StoreError;

use super::super::Call;
use super::super::error::{Fault, terminated};
use super::branches::{Added, Own};
use super::{Attempt, Halt};

/// The wait before a checkpoint is tried again on a full disk.
const FULL_DISK_WAIT: Span = Span::seconds(1);
/// Rows that a script holds back at most before its next step begins: as many as make a commit worth handing over.
const HELD_WRITES: usize = 64;
/// Bytes of records that it holds back at most.
const HELD_BYTES: u64 = 64 * 1024;

/// A record that was asked for.
pub(in crate::script) enum Found {
    /// It is there.
    Recorded(Recorded),
    /// It is new, and gets this key.
    New(Arc<str>),
}

/// How a record came to be.
#[derive(Debug, Clone)]
pub(in crate::script) struct Made {
    /// Attempts, the last one included.
    pub(in crate::script) attempts: u32,
    /// When the first one began.
    pub(in crate::script) started: Millis,
    /// `file:line` of the call.
    pub(in crate::script) line: Option<Arc<str>>,
}

/// What changes while the script runs.
pub(super) struct State {
    /// Which records were asked for.
    pub(super) fit: Fit,
    /// The first thing that is new to a script that is only held against its records.
    pub(super) beyond: Option<fit::Call>,
    pub(super) counts: HashMap<(Kind, Arc<str>), u32>,
    /// The paths of the branches of `parallel`, so that no race keeps its records among theirs.
    pub(super) branches: HashSet<Arc<str>>,
    pub(super) next_index: u32,
    pub(super) journal_bytes: u64,
    pub(super) attempt: u32,
    /// What this attempt has added under branches.
    pub(super) added: Added,
}

impl State {
    /// The number of the first record that comes after these.
    pub(super) fn first_index(records: &[Record]) -> u32 {
        records.last().map_or(0, |last| last.index + 1)
    }

    /// The state of an attempt that begins now.
    pub(super) fn new(call: &Call) -> State {
        let records = &call.journal.records;
        State {
            fit: Fit::new(records),
            beyond: None,
            counts: HashMap::new(),
            branches: HashSet::new(),
            next_index: State::first_index(records),
            journal_bytes: records.iter().map(bytes).sum(),
            attempt: call.run.attempt,
            added: Added::default(),
        }
    }

    /// The key of the next record of this kind and name: `x`, then `x#2`. A race passes over what a branch is called.
    pub(super) fn next_key(&mut self, kind: Kind, name: &str) -> Arc<str> {
        let name: Arc<str> = Arc::from(name);
        let count = self.counts.entry((kind, Arc::clone(&name))).or_insert(0);
        loop {
            *count += 1;
            let key = if *count == 1 { Arc::clone(&name) } else { Arc::from(format!("{name}#{count}")) };
            if kind != Kind::Race || !self.branches.contains(&key) {
                return key;
            }
        }
    }

    /// A record that this attempt has added under branches.
    pub(super) fn find_added(&self, kind: Kind, key: &str) -> Option<Record> {
        self.added.records.iter().find(|record| record.kind == kind && *record.key == *key).cloned()
    }
}

impl Attempt {
    /// Whether the script goes over what it has recorded before.
    pub(in crate::script) fn is_replaying(&self) -> bool {
        if let Some(is_replaying) = self.branch_is_replaying() {
            return is_replaying;
        }
        !self.common.state.borrow().fit.is_whole()
    }

    /// Asks for the next record of this kind and name.
    pub(in crate::script) fn ask(&self, kind: Kind, name: &str) -> Result<Found, Fault> {
        if self.is_halted() {
            return Err(terminated());
        }
        if let Some(branch) = &self.branch {
            return self.ask_in_branch(branch, kind, name);
        }
        let records = &self.call.journal.records;
        let mut state = self.common.state.borrow_mut();
        let key = state.next_key(kind, name);
        let answer = state.fit.ask(records, None, kind, &key);
        drop(state);
        match answer {
            Answer::Recorded(at) => {
                self.operations.set(0);
                self.passes_record(&records[at]);
                Ok(Found::Recorded(records[at].result.clone()))
            }
            Answer::Unfit(at) => Err(self.halt(Halt::Stop(self.unfit(at, Instead::Asks(new_call(kind, &key)))))),
            // Only a branch waits for others.
            Answer::New | Answer::Later => {
                self.go_beyond_records(kind, &key)?;
                Ok(Found::New(key))
            }
        }
    }

    /// Goes over a record.
    pub(super) fn passes_record(&self, record: &Record) {
        self.passes(if let Recorded::Until(until) = record.result { until } else { record.ended });
    }

    /// The script asks for something new. One that is only held against its records ends here.
    pub(super) fn go_beyond_records(&self, kind: Kind, key: &Arc<str>) -> Result<(), Fault> {
        if !self.stop.probes {
            return Ok(());
        }
        self.common.state.borrow_mut().beyond.get_or_insert_with(|| new_call(kind, key));
        Err(self.halt(Halt::Stop(Outcome::Interrupted)))
    }

    /// The outcome of a handler that does not ask for a record.
    pub(super) fn unfit(&self, missed: usize, instead: Instead) -> Outcome {
        let recorded = fit::Call::of(&self.call.journal.records[missed]);
        Outcome::Unfit(Unfit::Differs(Box::new(fit::Difference { recorded, instead })))
    }

    /// The outcome of a script that has ended although records are left that it never asked for.
    pub(in crate::script) fn unasked(&self, how: Instead) -> Option<Outcome> {
        let missed = self.common.state.borrow().fit.missed()?;
        Some(self.unfit(missed, how))
    }

    /// What a script that is only held against its records has asked for behind them.
    pub(in crate::script) fn beyond(&self) -> Option<fit::Call> {
        self.common.state.borrow().beyond.clone()
    }

    /// The failed attempts of a step so far: how many, when the first began, and the last one.
    pub(in crate::script) fn failed_attempts(&self, key: &str) -> (u32, Option<Millis>, Option<AttemptRow>) {
        let added = self.added_attempts(key);
        let mut rows = self.call.journal.attempts.iter().filter(|row| &*row.key == key).chain(&added);
        let first = rows.next();
        let last = rows.next_back().or(first);
        (last.map_or(0, |row| row.attempt), first.map(|row| row.started), last.filter(|_| self.is_branch()).cloned())
    }

    /// Adds a record to what is committed next.
    pub(in crate::script) fn append(&self, key: Arc<str>, kind: Kind, result: Recorded, made: Made) -> Result<(), Fault> {
        let record = self.next_record(key, kind, result, made)?;
        alloc::uncounted(|| self.own.borrow_mut().hold(self.call.run.id, record));
        Ok(())
    }

    /// The record that comes next in the journal; the caller sees to it that it is committed.
    pub(super) fn next_record(&self, key: Arc<str>, kind: Kind, result: Recorded, made: Made) -> Result<Record, Fault> {
        let limits = &self.call.surroundings.limits;
        let now = self.now();
        let mut state = self.common.state.borrow_mut();
        let record = Record {
            index: state.next_index,
            key,
            kind,
            result,
            attempts: made.attempts,
            started: made.started,
            ended: now,
            line: made.line,
        };
        let bytes = state.journal_bytes + bytes(&record);
        let full = if record.index >= limits.steps {
            Some(format!("the run has {} records, the most that limits.steps allows", limits.steps))
        } else if bytes > limits.journal_bytes {
            Some(format!("the run's journal is larger than {} bytes, the most that limits.journal allows", limits.journal_bytes))
        } else {
            None
        };
        if let Some(message) = full {
            drop(state);
            let help = Some("split the work into several runs, or raise the limit in events.yaml".to_owned());
            let failure = Failure { message, code: "E0408".to_owned(), help, ..Failure::default() };
            return Err(self.halt(Halt::Stop(Outcome::Failed(Arc::new(failure)))));
        }
        state.next_index += 1;
        state.journal_bytes = bytes;
        state.attempt = 1;
        self.operations.set(0);
        self.passes(now);
        let mut own = self.own.borrow_mut();
        own.began = now;
        alloc::uncounted(|| {
            self.adopt(&mut own);
            if self.is_branch() {
                state.added.records.push(record.clone());
            }
        });
        Ok(record)
    }

    /// Notes, before this attempt's first record, that the journal fits another version of the handler from now on than
    /// the one that it was made with: should a third one not fit, this one does. Each branch notes it before its own first
    /// record, since nobody knows which of them is on the disk first.
    fn adopt(&self, own: &mut Own) {
        let (run, version) = (&self.call.run, self.program.hash());
        let another = run.version.as_ref().is_some_and(|made_with| made_with != version);
        if another && !std::mem::replace(&mut own.adopted, true) {
            // A version that is in force no more may have been deleted, since no run named it.
            own.pending.push(Write::PutSource(self.program.source().clone()));
            own.pending.push(Write::Adopt { run: run.id, version: Arc::clone(version) });
        }
    }

    /// Adds a failed attempt to what is committed next.
    pub(in crate::script) fn add_attempt(&self, attempt: AttemptRow) {
        alloc::uncounted(|| {
            if self.is_branch() {
                self.common.state.borrow_mut().added.attempts.push(attempt.clone());
            }
            self.own.borrow_mut().pending.push(Write::Attempt { run: self.call.run.id, attempt });
        });
    }

    /// Commits what is pending, and goes on once it is durable.
    pub(in crate::script) fn commit(&self) -> Result<(), Fault> {
        self.deliver_all(|| self.commit_all())
    }

    /// Waits until the run's start is durable: it comes before all that the run hands over or does.
    pub(super) fn demand_footing(&self) -> Result<(), Fault> {
        self.call.footing.demand();
        if self.call.footing.is_firm() || self.wait(self.call.footing.settled())? {
            return Ok(());
        }
        // Somebody else has moved the run on before it began.
        Err(self.halt(Halt::Stop(Outcome::Lost)))
    }

    fn commit_all(&self) -> Result<(), Fault> {
        self.demand_footing()?;
        let writes = {
            let mut own = self.own.borrow_mut();
            let (writes, has_record) = own.take();
            own.pending_fresh |= has_record;
            writes
        };
        if writes.is_empty() {
            return Ok(());
        }
        let run = &self.call.run;
        loop {
            // What goes to the writer is freed by the writer, so it is nobody's.
            let ticket = alloc::uncounted(|| {
                let list = List { expect: vec![Expect::RunRev { run: run.id, rev: run.rev }], writes: writes.clone() };
                self.ports.desk.checkpoint(list)
            });
            match self.wait(ticket)? {
                Ok(verdicts) if verdicts.iter().all(Result::is_ok) => {
                    self.tell(&writes);
                    alloc::uncounted(|| drop(writes));
                    // The wait for the disk is not the script's time.
                    let mut own = self.own.borrow_mut();
                    if own.pending_fresh {
                        own.pending_fresh = false;
                        own.began = self.now();
                    }
                    return Ok(());
                }
                Ok(_) => return Err(self.halt(Halt::Stop(Outcome::Lost))),
                Err(StoreError::Full) => {
                    // The effect has happened; it is never repeated for want of room.
                    let again = self.now().after(FULL_DISK_WAIT);
                    self.wait(self.ports.clock.sleep_until(again, false))?;
                }
                Err(error) => return Err(self.halt(Halt::Store(error))),
            }
        }
    }

    /// Tells the watcher what has become durable.
    pub(super) fn tell(&self, writes: &[Write]) {
        self.ports.watch.committed(&self.call.run, writes);
    }

    /// Commits the records that are only buffered, before something happens that must not be lost behind them. Where that is within
    /// a step, the step's time does not pass meanwhile.
    pub(in crate::script) fn commit_records(&self) -> Result<(), Fault> {
        if !self.own.borrow().holds_record() {
            return Ok(());
        }
        self.beside_the_clock(|| self.commit())
    }

    /// Does something that takes none of the time of the step within which it is done.
    fn beside_the_clock(&self, work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
        let before = self.now();
        work()?;
        let took = self.now().since(before);
        if let Some(inside) = &mut *self.inside.borrow_mut() {
            inside.deadline = inside.deadline.after(took);
        }
        Ok(())
    }

    /// A step is about to act on the world: the run's start, and all that was recorded before, have to be durable first.
    pub(in crate::script) fn commit_before_acting(&self) -> Result<(), Fault> {
        self.beside_the_clock(|| self.demand_footing())?;
        self.commit_records()?;
        self.own.borrow_mut().acted = true;
        Ok(())
    }

    /// A step is about to begin. What was recorded before it may wait until it acts on the world, unless there is much of it,
    /// or another one has acted: that is not done again for want of its record.
    pub(in crate::script) fn commit_before_step(&self) -> Result<(), Fault> {
        let is_due = {
            let own = self.own.borrow();
            own.acted || own.pending.len() >= HELD_WRITES || own.held_bytes >= HELD_BYTES
        };
        if is_due { self.commit_records() } else { Ok(()) }
    }

    /// Lets the script go on with what a step has come to. Nothing that it does by itself acts on the world, so the record may wait
    /// for what the script asks for next: it is committed before anything acts (`commit_before_acting`), and with a wait or the run's end
    /// it goes into their list, so that runs whose steps only compute have one flush. It waits for a thousand operations or two
    /// milliseconds at most, as far as one operation is not longer.
    /// A branch commits at once, since what others do may take long.
    pub(in crate::script) fn commit_soon(&self) -> Result<(), Fault> {
        if self.is_branch() {
            return self.commit();
        }
        self.look_soon();
        let mut own = self.own.borrow_mut();
        own.held_bytes += (own.log_bytes + own.call_bytes) as u64;
        (own.log_bytes, own.call_bytes) = (0, 0);
        Ok(())
    }
}

/// A call for something that is not recorded; where it stands shows in the error that ends the script.
pub(super) fn new_call(kind: Kind, key: &Arc<str>) -> fit::Call {
    fit::Call { kind, key: Arc::clone(key), line: None, text: None }
}

/// The bytes that a record counts for in the journal.
pub(super) fn bytes(record: &Record) -> u64 {
    let result = match &record.result {
        Recorded::Value(json) => json.len(),
        Recorded::Failed(failure) => failure.message.len() + failure.data.as_ref().map_or(0, |data| data.to_string().len()),
        Recorded::Until(_) => 8,
    };
    (record.key.len() + result) as u64
}
