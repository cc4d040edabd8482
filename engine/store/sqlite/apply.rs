//! Lists carried out within the writer's transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Statement, params};

use crate::base::id::{IdMap, IdSet};
use crate::base::{Id, Json, Millis, RunId};
use crate::rules::row::Recorded;
use crate::rules::{AttemptRow, Conflict, EventRow, Expect, Kind, List, LogRow, Record, RunRow, RunState, WaitRow, Write};

use super::super::{StoreError, Verdict};
use super::names::Interner;
use super::row;
use super::sweep::{self, Sweeper};
use super::together::{NewEvent, NewLine, NewRun, NewStep, Together};
use super::waits::Waits;
use super::windows::Windows;

/// Heads of runs kept in memory; beyond, the memory starts anew. One takes some 50 bytes.
pub(super) const HEADS: usize = 100_000;
/// Runs that have ended last, of which that is kept in memory; beyond, the memory starts anew.
const OVER: usize = 4_096;

/// What the writer has to know of a run before it writes about it.
#[derive(Clone, Copy)]
struct Head {
    rev: u32,
    state: RunState,
    attempt: u32,
    suspects: u32,
    /// The lines of its log, where they are known: since it was created here.
    lines: Option<u32>,
}

impl Head {
    /// Of a run that has just been created.
    fn created(run: &RunRow) -> Head {
        Head { rev: run.rev, state: run.state, attempt: run.attempt, suspects: run.suspects, lines: Some(0) }
    }
}

/// Carries out lists on one connection. It alone writes, so what it remembers of the rows stays true.
pub(super) struct Applier<'c> {
    sql: Statements<'c>,
    names: Interner<'c>,
    together: Together<'c>,
    heads: IdMap<Head>,
    /// Runs that have ended: others may start behind them.
    over: IdSet,
    /// The run that the last write was about; its head may be newer than the one in `heads`.
    latest: Option<(RunId, Head)>,
    sweeper: Sweeper<'c>,
    waits: Waits<'c>,
    windows: Windows<'c>,
}

impl<'c> Applier<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Applier<'c>> {
        Ok(Applier {
            sql: Statements::prepare(connection)?,
            names: Interner::new(connection)?,
            together: Together::new(connection)?,
            heads: IdMap::default(),
            over: IdSet::default(),
            latest: None,
            sweeper: Sweeper::new(connection)?,
            waits: Waits::new(connection)?,
            windows: Windows::new(connection)?,
        })
    }

    /// Forgets all that it remembers: the transaction was rolled back.
    pub(super) fn forget(&mut self) {
        self.heads.clear();
        self.over.clear();
        self.latest = None;
        self.names.forget();
        self.together.forget();
        self.sweeper.forget();
        self.windows.forget();
    }

    /// Carries out one list, or skips it where an expectation does not hold. Every expectation is checked before the
    /// first write, so a list that is skipped has written nothing.
    pub(super) fn carry_out(&mut self, list: &List) -> Result<Verdict, StoreError> {
        // A key that is taken stands in a table of its own.
        if !list.expect.iter().all(|expect| matches!(expect, Expect::EventKeyFree { .. } | Expect::IdempotencyFree { .. })) {
            self.together.settle()?;
        }
        for expect in &list.expect {
            if let Some(conflict) = self.conflict(expect)? {
                return Ok(Err(conflict));
            }
        }
        for write in &list.writes {
            self.write(write)?;
        }
        Ok(Ok(()))
    }

    /// Puts down what is still kept of the transaction's rows: it is about to be committed.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        Ok(self.together.finish()?)
    }

    fn conflict(&mut self, expect: &Expect) -> Result<Option<Conflict>, StoreError> {
        Ok(match expect {
            Expect::EventKeyFree { name, key, now } => {
                let name = self.names.id(name)?;
                let event: Option<i64> = self.sql.find_event_key.query_row(params![name, &**key, now.0], |row| row.get(0)).optional()?;
                event.map(|event| Conflict::EventKeyTaken(Id(event)))
            }
            Expect::IdempotencyFree { function, key, now } => {
                let name = self.names.id(function)?;
                let run: Option<i64> = self.sql.find_idempotency.query_row(params![name, &**key, now.0], |row| row.get(0)).optional()?;
                run.map(|run| Conflict::IdempotencyTaken(Arc::clone(function), Id(run)))
            }
            Expect::RunRev { run, rev } => match self.head(*run)? {
                None => Some(Conflict::RunGone),
                Some(head) if head.rev == *rev => None,
                Some(head) => Some(Conflict::RunMoved { rev: head.rev, state: head.state }),
            },
            Expect::RunOpen(run) => {
                let is_open: bool = self.sql.is_open.exists([run.0])?;
                (!is_open).then_some(Conflict::RunBegun(*run))
            }
            Expect::CronAt { cron, last } => {
                let function = self.names.id(&cron.function)?;
                let found: Option<i64> = self.sql.find_cron.query_row(params![function, &*cron.schedule], |row| row.get(0)).optional()?;
                (found.map(Millis) != *last).then_some(Conflict::CronMoved)
            }
            Expect::NotEnded(run) => match self.head(*run)? {
                None => Some(Conflict::RunGone),
                Some(head) if !head.state.is_terminal() => None,
                Some(head) => Some(Conflict::RunMoved { rev: head.rev, state: head.state }),
            },
            Expect::Running(run) => match self.head(*run)? {
                None => Some(Conflict::RunGone),
                Some(head) if head.state == RunState::Running => None,
                Some(head) => Some(Conflict::RunMoved { rev: head.rev, state: head.state }),
            },
            Expect::RunOver(run) if self.over.contains(run) => None,
            Expect::RunOver(run) => self.head(*run)?.filter(|head| !head.state.is_terminal()).map(|_| Conflict::RunUnderWay(*run)),
            Expect::EventStored(event) => (!self.sql.event_is_stored.exists([event.0])?).then_some(Conflict::EventGone),
            Expect::WaitOpen { wait, event } => (!self.waits.is_open(wait, *event)?).then_some(Conflict::WaitClosed),
        })
    }

    fn write(&mut self, write: &Write) -> Result<(), StoreError> {
        if !is_new(write) {
            self.together.settle()?;
        }
        match write {
            Write::InsertEvent(event) => self.insert_event(event),
            Write::TakeEventKey { name, key, event, expires } => {
                let name = self.names.id(name)?;
                self.sql.take_event_key.execute(params![name, &**key, event.0, expires.0])?;
                Ok(())
            }
            Write::TakeIdempotency { function, key, run, expires } => {
                let function = self.names.id(function)?;
                self.sql.take_idempotency.execute(params![function, &**key, run.0, expires.0])?;
                Ok(())
            }
            Write::NoteOutcome { event, function, outcome } => {
                let function = self.names.id(function)?;
                let (kind, value) = outcome.numbers();
                self.sql.note_outcome.execute(params![event.0, function, kind, value])?;
                Ok(())
            }
            Write::PutWindow(row) => {
                let function = self.names.id(&row.window.function)?;
                self.windows.put(function, row)
            }
            Write::RaiseWindow(row) => {
                let function = self.names.id(&row.window.function)?;
                self.windows.raise(function, row)
            }
            Write::CreateRun(run) => self.create_run(run),
            Write::Append { run, record } => self.append(*run, record),
            Write::Adopt { run, version } => self.adopt(*run, version),
            Write::Attempt { run, attempt } => self.attempt(*run, attempt),
            Write::Log { run, line } => self.log(*run, line),
            Write::DropSource(hash) => {
                self.sql.drop_source.execute([&**hash])?;
                Ok(())
            }
            Write::PutSource(source) => {
                self.sql.put_source.execute(params![&*source.hash, source.files.as_bytes()])?;
                Ok(())
            }
            Write::OpenWait(WaitRow { wait, .. }) | Write::ResolveWait { wait, .. } | Write::RecordWait(wait) | Write::DropWait(wait) => {
                if self.live(wait.run)?.is_some() {
                    let field = match write {
                        Write::OpenWait(WaitRow { pin: Some(pin), .. }) => Some(self.names.id(&pin.field)?),
                        _ => None,
                    };
                    let named = self.waits.write(write, field)?;
                    self.sweeper.freed(named);
                }
                Ok(())
            }
            Write::PutCron(row) => {
                let function = self.names.id(&row.function)?;
                self.sql.put_cron.execute(params![function, &*row.schedule, row.last.0, row.due.map(|at| at.0)])?;
                Ok(())
            }
            Write::DropCron(cron) => {
                let function = self.names.id(&cron.function)?;
                self.sql.drop_cron.execute(params![function, &*cron.schedule])?;
                Ok(())
            }
            Write::DropWaits(run) => {
                let named = self.waits.drop(*run)?;
                self.sweeper.freed(named);
                Ok(())
            }
            Write::IfOpen { run, writes } => {
                if self.live(*run)?.is_some() {
                    for write in writes {
                        self.write(write)?;
                    }
                }
                Ok(())
            }
            Write::Pause(row) => {
                self.sql.pause.execute(params![&*row.function, row.paused, row.since.0])?;
                Ok(())
            }
            Write::PutValue(row) => {
                self.sql.put_value.execute(params![&*row.key, row.value.as_bytes(), row.expires.map(|at| at.0)])?;
                Ok(())
            }
            Write::DropValue(key) => {
                self.sql.drop_value.execute([&**key])?;
                Ok(())
            }
            Write::Sweep { now, keep, most } => {
                if let Some((run, head)) = self.latest.take() {
                    self.keep(run, head);
                }
                self.together.finish()?;
                self.windows.sweep(*now, *most, sweep::looked_at(*most))?;
                self.sweeper.sweep(*now, keep, *most)
            }
            Write::Retarget { run, event, enter, keys, priority_ms, gates } => {
                let Some(mut head) = self.live(*run)? else { return Ok(()) };
                let has: i64 = self.sql.event_of.query_row([run.0], |row| row.get(0))?;
                if has < event.0 {
                    let gates = gates.as_deref().map(row::gates_text).transpose()?;
                    self.sql.retarget.execute(params![run.0, event.0, enter.0, row::join_keys(keys), priority_ms, gates])?;
                    self.sweeper.freed(Some(has));
                } else {
                    self.sql.touch.execute([run.0])?;
                }
                head.rev += 1;
                self.remember(*run, head);
                Ok(())
            }
            Write::AddEvent { run, event, enter } => {
                if self.live(*run)?.is_none() {
                    return Ok(());
                }
                self.sql.add_event.execute([run.0, event.0])?;
                if let Some(enter) = enter {
                    self.sql.hasten.execute([run.0, enter.0])?;
                }
                Ok(())
            }
            Write::Start { run, .. }
            | Write::Suspend { run, .. }
            | Write::Requeue { run, .. }
            | Write::RetryNow { run, .. }
            | Write::Park { run, .. }
            | Write::End { run, .. } => self.change(*run, write),
        }
    }

    fn insert_event(&mut self, event: &EventRow) -> Result<(), StoreError> {
        let name = self.names.id(&event.name)?;
        if event.sender_id.is_none() && event.extra.is_none() && event.ts == event.accepted {
            let (id, data, at) = (event.id.0, Json::clone(&event.data), event.accepted.0);
            return Ok(self.together.event(NewEvent { id, name, data, at })?);
        }
        let sender_id = event.sender_id.as_deref();
        let extra = event.extra.as_deref().map(str::as_bytes);
        self.sql.insert_event.execute(params![event.id.0, name, event.data.as_bytes(), sender_id, event.ts.0, event.accepted.0, extra])?;
        Ok(())
    }

    fn create_run(&mut self, run: &RunRow) -> Result<(), StoreError> {
        let function = self.names.id(&run.function)?;
        if is_plain(run) {
            self.together.run(NewRun { id: run.id.0, function, event: run.event.0, created: run.created.0 })?;
            self.remember(run.id, Head::created(run));
            return Ok(());
        }
        let version = run.version.as_ref().map(|version| self.names.id(version)).transpose()?;
        let error = run.error.as_deref().map(row::failure_bytes).transpose()?;
        self.sql.create_run.execute(params![
            run.id.0,
            run.rev,
            run.state as u8,
            run.attempt,
            run.suspects,
            function,
            run.event.0,
            run.created.0,
            (run.enter != run.created).then_some(run.enter.0),
            run.started.map(|at| at.0),
            run.ended.map(|at| at.0),
            run.wake.map(|at| at.0),
            run.priority_ms,
            version,
            row::join_keys(&run.keys),
            run.idempotency.as_deref(),
            run.gates.as_deref().map(row::gates_text).transpose()?,
            run.output.as_deref().map(str::as_bytes),
            error,
            run.reason.as_deref(),
            run.replay_of.map(|run| run.0),
            run.invoked_by.map(|run| run.0),
        ])?;
        if !run.state.is_terminal() {
            self.remember(run.id, Head::created(run));
        }
        Ok(())
    }

    /// A change of a run's state; nothing where the run has ended or is gone.
    fn change(&mut self, run: RunId, write: &Write) -> Result<(), StoreError> {
        let Some(mut head) = self.live(run)? else { return Ok(()) };
        head.rev += 1;
        match write {
            Write::Start { at, version, .. } => {
                head.state = RunState::Running;
                let version = self.names.id(version)?;
                self.sql.start.execute([run.0, i64::from(head.rev), at.0, version])?;
            }
            Write::Suspend { state, wake, attempt, error, .. } => {
                (head.state, head.attempt) = (*state, *attempt);
                let error = error.as_deref().map(row::failure_bytes).transpose()?;
                self.sql.suspend.execute(params![run.0, head.rev, head.state as u8, wake.map(|at| at.0), attempt, error])?;
            }
            Write::Requeue { suspects, .. } => {
                (head.state, head.suspects) = (RunState::Queued, *suspects);
                self.sql.requeue.execute(params![run.0, head.rev, head.state as u8, suspects])?;
            }
            Write::RetryNow { at, anew, .. } => {
                head.state = RunState::Queued;
                self.sql.requeue.execute(params![run.0, head.rev, head.state as u8, head.suspects])?;
                if *anew {
                    self.sql.wake.execute(params![run.0, at.0])?;
                }
                self.sql.hurry.execute(params![run.0, at.0])?;
            }
            Write::Park { reason, .. } => {
                head.state = RunState::Parked;
                self.sql.park.execute(params![run.0, head.rev, head.state as u8, &**reason])?;
            }
            Write::End { state: RunState::Completed, at, output: Some(output), error: None, reason: None, .. } => {
                head.state = RunState::Completed;
                self.sql.complete.execute(params![run.0, head.rev, at.0, output.as_bytes()])?;
            }
            Write::End { state, at, output, error, reason, .. } => {
                head.state = *state;
                let error = error.as_deref().map(row::failure_bytes).transpose()?;
                let output = output.as_deref().map(str::as_bytes);
                self.sql.end.execute(params![run.0, head.rev, head.state as u8, at.0, output, error, reason.as_deref()])?;
            }
            _ => {}
        }
        self.remember(run, head);
        Ok(())
    }

    fn adopt(&mut self, run: RunId, version: &Arc<str>) -> Result<(), StoreError> {
        if self.live(run)?.is_some() {
            let version = self.names.id(version)?;
            self.sql.adopt.execute(params![run.0, version])?;
        }
        Ok(())
    }

    fn append(&mut self, run: RunId, record: &Record) -> Result<(), StoreError> {
        let Some(mut head) = self.live(run)? else { return Ok(()) };
        if (head.attempt, head.suspects) != (1, 0) {
            (head.attempt, head.suspects) = (1, 0);
            self.together.settle()?;
            self.sql.progress.execute([run.0])?;
            self.remember(run, head);
        }
        let line = record.line.as_ref().map(|line| self.names.id(line)).transpose()?;
        let started = record.started.0;
        let (index, key, kind, attempts, ended) = (record.index, &*record.key, record.kind as u8, record.attempts, record.ended.0);
        if let Recorded::Value(value) = &record.result
            && (record.kind, attempts) == (Kind::Step, 1)
        {
            let (key, result) = (Arc::clone(&record.key), Json::clone(value));
            return Ok(self.together.step(NewStep { run: run.0, index, key, result, started, ended, line })?);
        }
        let insert = &mut self.sql.append;
        match &record.result {
            Recorded::Value(value) => insert.execute(params![run.0, index, key, kind, 0, value.as_bytes(), attempts, started, ended, line]),
            Recorded::Until(until) => insert.execute(params![run.0, index, key, kind, 0, until.0, attempts, started, ended, line]),
            Recorded::Failed(error) => {
                let error = row::failure_bytes(error)?;
                insert.execute(params![run.0, index, key, kind, 1, error, attempts, started, ended, line])
            }
        }?;
        Ok(())
    }

    fn attempt(&mut self, run: RunId, attempt: &AttemptRow) -> Result<(), StoreError> {
        if self.live(run)?.is_none() {
            return Ok(());
        }
        let line = attempt.line.as_ref().map(|line| self.names.id(line)).transpose()?;
        self.sql.attempt.execute(params![
            run.0,
            &*attempt.key,
            attempt.attempt,
            attempt.started.0,
            attempt.ended.0,
            row::failure_bytes(&attempt.error)?,
            attempt.next.map(|at| at.0),
            line
        ])?;
        Ok(())
    }

    fn log(&mut self, run: RunId, line: &LogRow) -> Result<(), StoreError> {
        let Some(head) = self.live(run)? else { return Ok(()) };
        let (at, level) = (line.at.0, line.level as u8);
        match head.lines {
            Some(lines) => {
                let (message, data, step) = (Arc::clone(&line.message), line.data.clone(), Arc::clone(&line.step));
                self.together.line(NewLine { run: run.0, seq: lines, at, level, message, data, step })?;
                self.remember(run, Head { lines: Some(lines + 1), ..head });
            }
            None => {
                self.together.settle_lines()?;
                let data = line.data.as_deref().map(str::as_bytes);
                self.sql.log.execute(params![run.0, at, level, &*line.message, data, &*line.step])?;
            }
        }
        Ok(())
    }

    /// The head of a run that has not ended.
    fn live(&mut self, run: RunId) -> Result<Option<Head>, StoreError> {
        Ok(self.head(run)?.filter(|head| !head.state.is_terminal()))
    }

    fn head(&mut self, run: RunId) -> Result<Option<Head>, StoreError> {
        if let Some((latest, head)) = self.latest
            && latest == run
        {
            return Ok(Some(head));
        }
        if let Some(head) = self.heads.get(&run) {
            let head = *head;
            self.remember(run, head);
            return Ok(Some(head));
        }
        // It may have been forgotten among very many before its row was put down.
        self.together.settle()?;
        let found = self.sql.head.query_row([run.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).optional()?;
        let Some((rev, state, attempt, suspects)) = found else { return Ok(None) };
        let state = RunState::from_number(state).ok_or_else(|| StoreError::Corrupt(format!("run {run} is in no known state")))?;
        let head = Head { rev, state, attempt, suspects, lines: None };
        self.remember(run, head);
        Ok(Some(head))
    }

    /// Several writes about one run follow each other, so the map is told of its last head only.
    fn remember(&mut self, run: RunId, head: Head) {
        match self.latest.replace((run, head)) {
            Some((other, old)) if other != run => self.keep(other, old),
            _ => {}
        }
    }

    fn keep(&mut self, run: RunId, head: Head) {
        // An ended run is asked for by the latecomers of a cancel only, and a sweep may delete it.
        if head.state.is_terminal() {
            self.heads.remove(&run);
            if self.over.len() >= OVER {
                self.over.clear();
            }
            self.over.insert(run);
            return;
        }
        if self.heads.len() >= HEADS {
            self.heads.clear();
        }
        self.heads.insert(run, head);
    }
}

/// Whether a write makes a row and asks for no event or run: another one of those, a record, a line, or a key, which stands in a table of its own.
fn is_new(write: &Write) -> bool {
    let is_key = matches!(write, Write::TakeEventKey { .. } | Write::TakeIdempotency { .. });
    is_key || matches!(write, Write::InsertEvent(_) | Write::CreateRun(_) | Write::Append { .. } | Write::Log { .. })
}

/// Whether a new run has nothing but what every new run has: such rows are put down together.
fn is_plain(run: &RunRow) -> bool {
    let bare = run.keys.is_empty() && run.idempotency.is_none() && run.version.is_none() && run.output.is_none();
    let quiet = run.error.is_none() && run.reason.is_none() && run.enter == run.created && run.priority_ms == 0;
    let fresh = (run.rev, run.state, run.attempt, run.suspects) == (0, RunState::Queued, 1, 0);
    let alone = run.replay_of.is_none() && run.invoked_by.is_none() && run.gates.is_none();
    bare && quiet && fresh && alone && run.started.is_none() && run.ended.is_none() && run.wake.is_none()
}

/// The writer's statements, prepared once.
struct Statements<'c> {
    find_event_key: Statement<'c>,
    find_idempotency: Statement<'c>,
    head: Statement<'c>,
    insert_event: Statement<'c>,
    note_outcome: Statement<'c>,
    take_event_key: Statement<'c>,
    take_idempotency: Statement<'c>,
    create_run: Statement<'c>,
    start: Statement<'c>,
    adopt: Statement<'c>,
    suspend: Statement<'c>,
    requeue: Statement<'c>,
    wake: Statement<'c>,
    hurry: Statement<'c>,
    park: Statement<'c>,
    end: Statement<'c>,
    complete: Statement<'c>,
    progress: Statement<'c>,
    append: Statement<'c>,
    attempt: Statement<'c>,
    log: Statement<'c>,
    put_source: Statement<'c>,
    drop_source: Statement<'c>,
    find_cron: Statement<'c>,
    put_cron: Statement<'c>,
    drop_cron: Statement<'c>,
    is_open: Statement<'c>,
    event_of: Statement<'c>,
    touch: Statement<'c>,
    retarget: Statement<'c>,
    add_event: Statement<'c>,
    hasten: Statement<'c>,
    event_is_stored: Statement<'c>,
    pause: Statement<'c>,
    put_value: Statement<'c>,
    drop_value: Statement<'c>,
}

/// The place after the last one that a run has in a table, as a value: an `INSERT … SELECT` from the same table would make a table of its
/// own for what it reads, at each use.
fn next_seq(table: &str) -> String {
    format!("(SELECT coalesce(max(seq) + 1, 0) FROM {table} WHERE run = ?1)")
}

/// A statement of the writer, which is used again and again.
pub(super) fn prepare<'c>(connection: &'c Connection, text: &str) -> rusqlite::Result<Statement<'c>> {
    #[cfg(test)]
    super::tests::makes_no_table_of_its_own(connection, text)?;
    connection.prepare(text)
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Statements<'c>> {
        let sql = |text: &str| prepare(connection, text);
        Ok(Statements {
            find_event_key: sql("SELECT event FROM event_keys WHERE name = ?1 AND key = ?2 AND expires > ?3")?,
            find_idempotency: sql("SELECT run FROM idempotency WHERE name = ?1 AND key = ?2 AND expires > ?3")?,
            head: sql("SELECT rev, state, attempt, suspects FROM runs WHERE id = ?1")?,
            insert_event: sql(&format!("INSERT INTO events ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row::EVENT))?,
            note_outcome: sql("INSERT OR REPLACE INTO outcomes (event, function, kind, value) \
                 SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM events WHERE id = ?1)")?,
            take_event_key: sql("INSERT OR REPLACE INTO event_keys (name, key, event, expires) VALUES (?1, ?2, ?3, ?4)")?,
            take_idempotency: sql("INSERT OR REPLACE INTO idempotency (name, key, run, expires) VALUES (?1, ?2, ?3, ?4)")?,
            create_run: sql(&format!(
                "INSERT INTO runs ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
                 ?20, ?21, ?22)",
                row::RUN
            ))?,
            start: sql(&format!(
                "UPDATE runs SET rev = ?2, state = {}, wake = NULL, started = coalesce(started, ?3), version = coalesce(version, ?4) \
                 WHERE id = ?1",
                RunState::Running as u8
            ))?,
            adopt: sql("UPDATE runs SET version = ?2 WHERE id = ?1")?,
            suspend: sql("UPDATE runs SET rev = ?2, state = ?3, wake = ?4, attempt = ?5, error = ?6 WHERE id = ?1")?,
            requeue: sql("UPDATE runs SET rev = ?2, state = ?3, wake = NULL, suspects = ?4, error = NULL, reason = NULL WHERE id = ?1")?,
            wake: sql("UPDATE runs SET wake = ?2 WHERE id = ?1")?,
            hurry: sql("UPDATE attempts SET next = ?2 WHERE run = ?1 AND next > ?2")?,
            park: sql("UPDATE runs SET rev = ?2, state = ?3, wake = NULL, reason = ?4 WHERE id = ?1")?,
            end: sql("UPDATE runs SET rev = ?2, state = ?3, wake = NULL, ended = ?4, output = ?5, error = ?6, reason = ?7 WHERE id = ?1")?,
            complete: sql(&format!(
                "UPDATE runs SET rev = ?2, state = {}, wake = NULL, ended = ?3, output = ?4, error = NULL, reason = NULL WHERE id = ?1",
                RunState::Completed as u8
            ))?,
            progress: sql("UPDATE runs SET attempt = 1, suspects = 0 WHERE id = ?1")?,
            append: sql(&format!("INSERT INTO steps (run, {}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)", row::STEP))?,
            attempt: sql(&format!(
                "INSERT INTO attempts (run, seq, {}) VALUES (?1, {}, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                row::ATTEMPT,
                next_seq("attempts")
            ))?,
            log: sql(&format!("INSERT INTO logs (run, seq, {}) VALUES (?1, {}, ?2, ?3, ?4, ?5, ?6)", row::LOG, next_seq("logs")))?,
            drop_source: sql("DELETE FROM sources WHERE hash = ?1")?,
            put_source: sql("INSERT OR IGNORE INTO sources (hash, files) VALUES (?1, ?2)")?,
            find_cron: sql("SELECT last FROM crons WHERE function = ?1 AND schedule = ?2")?,
            put_cron: sql("INSERT OR REPLACE INTO crons (function, schedule, last, due) VALUES (?1, ?2, ?3, ?4)")?,
            drop_cron: sql("DELETE FROM crons WHERE function = ?1 AND schedule = ?2")?,
            is_open: sql("SELECT 1 FROM runs WHERE id = ?1 AND state = 0 AND started IS NULL")?,
            event_of: sql("SELECT event FROM runs WHERE id = ?1")?,
            touch: sql("UPDATE runs SET rev = rev + 1 WHERE id = ?1")?,
            retarget: sql("UPDATE runs SET rev = rev + 1, event = ?2, enter = ?3, keys = ?4, priority_ms = ?5, gates = ?6 \
                 WHERE id = ?1")?,
            add_event: sql(&format!("INSERT INTO batched (run, seq, event) VALUES (?1, {}, ?2)", next_seq("batched")))?,
            hasten: sql("UPDATE runs SET enter = ?2 WHERE id = ?1")?,
            event_is_stored: sql("SELECT 1 FROM events WHERE id = ?1")?,
            pause: sql("INSERT OR REPLACE INTO pauses (function, paused, since) VALUES (?1, ?2, ?3)")?,
            put_value: sql("INSERT OR REPLACE INTO kv (key, value, expires) VALUES (?1, ?2, ?3)")?,
            drop_value: sql("DELETE FROM kv WHERE key = ?1")?,
        })
    }
}
