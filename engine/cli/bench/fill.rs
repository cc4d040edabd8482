//! Rows of runs that have been there before: written through the store, in big lists, as an engine would write them one by
//! one.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;

use crate::base::{Clock as _, EventId, Id, Json, Millis, RunId};
use crate::clock::SystemClock;
use crate::exec;
use crate::expr::{Expr, MATCH_VARIABLES};
use crate::rules::row::Recorded;
use crate::rules::{EventRow, Failure, Kind, List, Record, RunRow, RunState, WaitKey, WaitRow, WaitState, Wanted, What, Write};
use crate::store::sqlite::{Durability, Options, Sqlite};
use crate::store::{Lane, Store, Ticket};

/// Runs of one commit.
const TOGETHER: u64 = 1_000;
/// Commits that wait for the disk at once: more would only fill the memory.
const UNDER_WAY: usize = 4;

/// Writes runs into a database that no engine has open.
pub struct Filler {
    store: Sqlite,
    next: i64,
    /// The `if` of the waiting runs.
    condition: Arc<Expr>,
    /// The time of all that it writes.
    pub now: Millis,
}

impl Filler {
    /// Opens the database, or makes it.
    ///
    /// # Errors
    /// Where the store cannot be opened or read.
    pub fn open(database: &Path) -> io::Result<Filler> {
        let options = Options { durability: Durability::Normal, ..Options::default() };
        let store = Sqlite::open(database, options).map_err(io::Error::other)?;
        let now = SystemClock::default().now();
        let largest = store.stats().map_err(io::Error::other)?.largest_id;
        let condition = Expr::parse(super::project::WAITS_IF, MATCH_VARIABLES);
        let condition = condition.map_err(|_| io::Error::other("the `if` of the waiting runs does not parse"))?;
        Ok(Filler { store, next: largest.0.max(Id::first_at(now).0) + 1, condition: Arc::new(condition), now })
    }

    /// Writes `count` runs, the n-th as `make` says.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn fill(&mut self, count: u64, bar: &ProgressBar, make: impl Fn(&New) -> Vec<Write>) -> io::Result<()> {
        let mut under_way: VecDeque<Ticket> = VecDeque::new();
        let done = |ticket: Ticket| ticket.wait().map(|_| ()).map_err(io::Error::other);
        let mut n = 0;
        while n < count {
            let end = (n + TOGETHER).min(count);
            let mut writes = Vec::new();
            for number in n..end {
                let condition = Arc::clone(&self.condition);
                let new = New { n: number, event: Id(self.next), run: Id(self.next + 1), condition, now: self.now };
                self.next += 2;
                writes.append(&mut make(&new));
            }
            under_way.push_back(self.store.commit(Lane::Ingest, vec![List { expect: Vec::new(), writes }]));
            if under_way.len() >= UNDER_WAY
                && let Some(oldest) = under_way.pop_front()
            {
                done(oldest)?;
            }
            n = end;
            bar.set_message(format!("{n} of {count} runs written"));
        }
        bar.set_message("");
        under_way.into_iter().try_for_each(done)
    }

    /// Closes the database.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn close(self) -> io::Result<()> {
        self.store.close().map_err(io::Error::other)
    }
}

/// A run that is to be written.
pub struct New {
    /// Its number.
    pub n: u64,
    event: EventId,
    run: RunId,
    condition: Arc<Expr>,
    now: Millis,
}

impl New {
    fn event(&self, name: &str) -> Write {
        let data: Json = format!(r#"{{"n":{},"user":"user-{}"}}"#, self.n, self.n % 1000).into();
        let (name, ts) = (Arc::from(name), self.now);
        Write::InsertEvent(EventRow { id: self.event, name, data, sender_id: None, ts, accepted: ts, extra: None })
    }

    fn record(&self, index: u32, key: &str, kind: Kind, result: Recorded) -> Write {
        let (started, ended, line) = (self.now, self.now, Some(Arc::from("handlers/bench.rhai:1")));
        Write::Append { run: self.run, record: Record { index, key: key.into(), kind, result, attempts: 1, started, ended, line } }
    }

    /// A run that has begun and is suspended.
    fn suspended(&self, function: &str, state: RunState, wake: Option<Millis>) -> Write {
        let queued = RunRow::queued(self.run, function, self.event, self.now);
        Write::CreateRun(RunRow { rev: 2, state, started: Some(self.now), wake, version: Some("filled".into()), ..queued })
    }

    fn step(&self, index: u32, key: &str) -> Write {
        self.record(index, key, Kind::Step, Recorded::Value("1".into()))
    }

    /// A 3-step run that is about to do its first step.
    fn begun(&self) -> Vec<Write> {
        let (run, at) = (self.run, self.now);
        vec![
            self.event("bench/three"),
            Write::CreateRun(RunRow::queued(run, "three-steps", self.event, at)),
            Write::Start { run, at, version: "filled".into() },
        ]
    }

    /// A 3-step run that has completed.
    pub fn completed(&self) -> Vec<Write> {
        let (run, at) = (self.run, self.now);
        let mut writes = self.begun();
        writes.extend([self.step(0, "first"), self.step(1, "second"), self.step(2, "third")]);
        writes.push(Write::End { run, state: RunState::Completed, at, output: Some("3".into()), error: None, reason: None });
        writes
    }

    /// A 3-step run whose second step failed for good.
    pub fn failed(&self) -> Vec<Write> {
        let (run, at) = (self.run, self.now);
        let error = Failure { message: "no stock".into(), step: Some("second".into()), attempts: Some(1), ..Failure::default() };
        let mut writes = self.begun();
        writes.push(self.step(0, "first"));
        writes.push(Write::End { run, state: RunState::Failed, at, output: None, error: Some(Arc::new(error)), reason: None });
        writes
    }

    /// A run that sleeps until `wake`.
    pub fn sleeping(&self, wake: Millis) -> Vec<Write> {
        self.asleep("sleep", wake)
    }

    /// The same of a run that the event with its own number would cancel. Nothing of that is stored: it follows from the function.
    pub fn cancellable(&self, wake: Millis) -> Vec<Write> {
        self.asleep("cancelled", wake)
    }

    fn asleep(&self, function: &str, wake: Millis) -> Vec<Write> {
        let run = self.suspended(function, RunState::Sleeping, Some(wake));
        vec![self.event("bench/sleep"), run, self.record(0, "nap", Kind::Sleep, Recorded::Until(wake))]
    }

    /// A run that waits for the event with its own number, for as long as it takes.
    pub fn waiting(&self) -> Vec<Write> {
        vec![self.event("bench/wait"), self.suspended("wait", RunState::Waiting, None), self.open_wait()]
    }

    /// The same of a run that holds the slot of its own number meanwhile.
    pub fn held(&self) -> Vec<Write> {
        let mut run = self.suspended("held", RunState::Waiting, None);
        if let Write::CreateRun(row) = &mut run {
            let key: Arc<str> = self.n.to_string().into();
            row.keys = Arc::from([key]);
        }
        vec![self.event("bench/held"), run, self.open_wait()]
    }

    fn open_wait(&self) -> Write {
        let wanted = Wanted {
            event: "bench/answer".into(),
            condition: Some(Arc::clone(self.condition.text())),
            bound: Some(format!(r#"{{"data":{{"n":{}}}}}"#, self.n).into()),
        };
        let wait = WaitKey { run: self.run, kind: Kind::Wait, key: "bench/answer".into() };
        let pin = exec::pinned(&wanted, &self.condition);
        let what = Arc::new(What::Events(vec![wanted]));
        Write::OpenWait(WaitRow { wait, what, opened: self.now, until: None, state: WaitState::Open, pin })
    }
}
