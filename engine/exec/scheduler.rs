//! Decides who runs next: one task that owns the queue, the timers and what is known of each unfinished run.
//!
//! It never waits for a commit or a script: those run beside it and tell it what became of them.

mod census;
mod collect;
mod deadlock;
mod dormant;
mod entry;
mod relays;
mod reload;
mod start;
mod timeouts;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};

use crate::base::dense::DenseIdMap;
use crate::base::id::IdMap;
use crate::base::{Millis, RunId, Span};
use crate::project::Project;
use crate::rules::matching::Join;
use crate::rules::queue::{Blocked, Order, Queue};
use crate::rules::{CronRow, Ending, EventRow, PauseRow, RunRow, RunState, WindowRow, why};
use crate::script::{AtWork, Stop};

use super::appointment::{Appointments, Busy};
use super::crons::Crons;
use super::metrics::Census;
use super::pause::Held;
use super::relay::Relay;
use super::worker::Batch;
use super::{Inner, flow};

/// Rows of new runs that are kept in memory until they start, so that they need not be read back; the others are read. One
/// takes some 700 bytes with its event.
const FRESH_KEPT: usize = 65_536;
/// How long the engine has to be up before a suspect starts: what ends it before has nothing to do with the suspects.
const QUIET: Span = Span::seconds(5);
/// How long after an end that was no orderly one the start of each run has to be durable before its script begins: so it is known
/// which one brings the engine down. As many come to their ends in that time, one that stands in line behind them is known at last.
const CAREFUL: Span = Span::seconds(60);
/// The wait when nothing is due.
const IDLE: Span = Span::seconds(3_600);

/// A run that was created, with the event that started it.
pub(super) struct Created {
    pub(super) run: RunRow,
    pub(super) event: Arc<EventRow>,
}

/// What the scheduler is told.
pub(super) enum Message {
    /// New runs are durable.
    Created(Vec<Created>),
    /// A worker has stopped running these runs (or none: then it is only time to look again), or never started them. With each, where it stands: none where somebody else
    /// moved it on.
    Stopped(Vec<(RunId, Option<Standing>)>),
    /// The ends of these runs were handed to the store: others may have what they hold.
    Leaving(Vec<RunId>),
    /// A run was cancelled.
    Cancelled(RunId),
    /// Events have become part of runs that collect.
    Joined(Vec<(Join, Arc<EventRow>)>),
    /// A run was stored that is to be done, or tried, again.
    Again(Box<RunRow>),
    /// Waits of these runs have come to something.
    Resolved(Vec<RunId>),
    /// A snapshot is to be put in force: answered once that is done, and what follows from it is stored.
    Reload { project: Arc<Project>, reply: oneshot::Sender<()> },
    /// A function was paused or resumed: answered once nothing begins against it.
    Pause { row: PauseRow, reply: oneshot::Sender<()> },
    /// Somebody outside wants to be told when it is this time.
    Appoint { at: Millis, reply: oneshot::Sender<Busy> },
    /// Functions that the clock starts stand there in their schedules.
    Ticked(Vec<CronRow>),
    /// Why do these runs not move, which stand in line by their rows, or are at work (`true`)? Answered for those about which there is
    /// something to say.
    Why { runs: Vec<(RunId, bool)>, reply: oneshot::Sender<Vec<(RunId, String)>> },
    /// Which steps of a run are under way?
    AtWork { run: RunId, reply: oneshot::Sender<Vec<AtWork>> },
    /// Which keys are held and waited for? At most so many are told.
    Flow { most: usize, reply: oneshot::Sender<flow::Answer> },
    /// Where do the unfinished runs stand?
    Census(oneshot::Sender<Census>),
    /// Stop: answered when nothing is running any more.
    Drain(oneshot::Sender<()>),
}

/// Where a run stands after a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) rev: u32,
    pub(super) state: RunState,
    pub(super) wake: Option<Millis>,
}

/// What is known of an unfinished run that is neither parked nor left in the store.
struct Live {
    function: Arc<str>,
    rev: u32,
    state: RunState,
    wake: Option<Millis>,
    /// Whether it has started once.
    begun: bool,
    enter_ms: i64,
    /// While a worker has it.
    stop: Option<Arc<Stop>>,
    /// It has a singleton's key.
    singleton: bool,
    /// It collects events, or has not started since it did.
    collects: bool,
    /// When it entered or enters the queue.
    enter: Millis,
    /// A wait of it has come to something since the worker has it, which the script may not have seen.
    resolved: bool,
}

impl Live {
    fn of(row: &RunRow) -> Live {
        Live {
            function: Arc::clone(&row.function),
            rev: row.rev,
            state: row.state,
            wake: row.wake,
            begun: row.started.is_some(),
            enter_ms: row.enter.0 - row.priority_ms,
            stop: None,
            singleton: row.singleton().is_some(),
            collects: row.collects().is_some() && row.started.is_none(),
            enter: row.enter,
            resolved: false,
        }
    }
}

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The run goes on, or enters the queue.
    Wake,
    /// It has waited too long for its first start.
    StartTimeout,
    /// It has taken too long since its first start.
    FinishTimeout,
    /// A run that was left in the store goes on.
    Rouse,
    /// A suspect has been alone for long enough, or the engine has been up for long enough without it.
    Company,
}

/// See the module's head.
pub(super) struct Scheduler {
    inner: Arc<Inner>,
    inbox: mpsc::UnboundedReceiver<Message>,
    desks: Vec<mpsc::UnboundedSender<Batch>>,
    end: Ending,
    queue: Queue,
    live: DenseIdMap<Live>,
    /// The functions of the runs that are parked, of which nothing else is known here.
    parked: IdMap<Arc<str>>,
    dormant: dormant::DormantRuns,
    timers: BinaryHeap<Reverse<(Millis, RunId, Due)>>,
    crons: Crons,
    /// Positions of crons that are on their way to the disk: so many messages are to come.
    ticking: usize,
    /// The snapshot that is to come into force, and who waits for that.
    reloading: Option<(Arc<Project>, oneshot::Sender<()>)>,
    /// Runs that have not begun, as they were made. In boxes, since a table that grows moves all that lies in it.
    fresh: IdMap<Box<Created>>,
    /// Runs that were moved on while their start was on its way: what they are now.
    overtaken: IdMap<Box<RunRow>>,
    /// Empty once the engine is ready.
    unsettled: entry::Unsettled,
    executing: usize,
    next_desk: usize,
    /// Runs that may have brought the engine down: they start one at a time, and the others wait meanwhile.
    suspects: VecDeque<RunId>,
    /// No suspect starts before.
    quiet_until: Millis,
    /// No script begins before its start is durable until then.
    careful_until: Millis,
    /// What is lent to workers, by the run that has the slot.
    relays: IdMap<Arc<Relay>>,
    /// How many of those have not begun, and the last of them in line.
    lent: usize,
    lent_last: Option<Order>,
    /// The suspect that runs alone at the moment.
    alone: Option<RunId>,
    draining: Vec<oneshot::Sender<()>>,
    appointments: Appointments,
    held: Held,
    deadlocks: deadlock::Watch,
}

impl Scheduler {
    pub(super) fn new(
        inner: Arc<Inner>,
        inbox: mpsc::UnboundedReceiver<Message>,
        desks: Vec<mpsc::UnboundedSender<Batch>>,
        end: Ending,
        buckets: &[WindowRow],
    ) -> Scheduler {
        let mut queue = Queue::default();
        let now = inner.clock.now();
        buckets.iter().for_each(|row| queue.load(&row.window.function, &row.window.key, row.value));
        Scheduler {
            inner,
            inbox,
            desks,
            end,
            queue,
            live: DenseIdMap::default(),
            parked: IdMap::default(),
            dormant: dormant::DormantRuns::default(),
            timers: BinaryHeap::new(),
            crons: Crons::default(),
            ticking: 0,
            reloading: None,
            fresh: IdMap::default(),
            overtaken: IdMap::default(),
            unsettled: entry::Unsettled::default(),
            executing: 0,
            next_desk: 0,
            suspects: VecDeque::new(),
            quiet_until: now.after(QUIET),
            careful_until: if matches!(end, Ending::Crashed | Ending::Killed) { now.after(CAREFUL) } else { Millis(0) },
            relays: IdMap::default(),
            lent: 0,
            lent_last: None,
            alone: None,
            draining: Vec::new(),
            appointments: Appointments::default(),
            held: Held::default(),
            deadlocks: deadlock::Watch::default(),
        }
    }

    /// Settles what was taken up, then runs until the engine has drained or its store has failed.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.settle().await {
            return self.inner.fail(error);
        }
        match Crons::take_up(&self.inner).await {
            Ok(crons) => self.crons = crons,
            Err(error) => return self.inner.fail(error),
        }
        // What was cancelled or paused meanwhile does not begin.
        self.take_waiting();
        self.inner.ready.send_replace(true);
        self.inner.readied.notify_waiters();
        let mut fault = self.inner.fault.subscribe();
        loop {
            let now = self.inner.clock.now();
            self.turn(now);
            if !self.draining.is_empty() && self.executing == 0 {
                break;
            }
            let timer = self.timers.peek().map(|Reverse((at, _, _))| *at);
            // A reload that waits for its turn comes before the clock, see `tick`; an engine that drains starts nothing more.
            let clock = self.crons.next().filter(|_| self.reloading.is_none());
            let beside = clock.into_iter().chain(self.deadlocks.next()).filter(|_| self.draining.is_empty());
            let due = timer.into_iter().chain(self.appointments.next()).chain(self.queue.next_start()).chain(beside).min();
            let next = due.unwrap_or(now.after(IDLE));
            // A virtual clock must not jump while anything is under way, or where there is nothing to jump to.
            let under_way = self.executing > 0 || self.inner.errands.load(Ordering::Relaxed) > 0 || !self.inbox.is_empty();
            let idle = !under_way && due.is_some();
            tokio::select! {
                biased;
                message = self.inbox.recv() => {
                    let Some(message) = message else { break };
                    self.take(message);
                    self.take_waiting();
                }
                _ = fault.wait_for(Option::is_some) => break,
                () = self.inner.clock.sleep_until(next, idle) => {}
            }
        }
        self.inner.ready.send_replace(false);
        for reply in self.draining.drain(..) {
            // A caller that gave up waiting needs no answer.
            let _ = reply.send(());
        }
    }

    /// Takes what has come by now.
    fn take_waiting(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match &message {
            Message::Created(_) | Message::Appoint { .. } | Message::Ticked(_) => {}
            Message::Stopped(_) | Message::Leaving(_) | Message::Resolved(_) | Message::AtWork { .. } => self.catch_up(),
            _ => self.recall_all(),
        }
        match message {
            Message::Created(all) => {
                for made in all {
                    let run = made.run.id;
                    let known = self.live.contains_key(&run);
                    self.take_up(&made.run);
                    if !known && self.fresh.len() < FRESH_KEPT {
                        self.fresh.insert(run, Box::new(made));
                    }
                }
            }
            Message::Stopped(runs) => runs.into_iter().for_each(|(run, now)| self.stopped(run, now)),
            Message::Leaving(mut runs) => {
                runs.retain(|run| self.live.contains_key(run));
                for run in runs {
                    self.recall(run);
                    self.queue.vacate(run);
                }
            }
            Message::Cancelled(run) => {
                if let Some(live) = self.live.get(&run)
                    && let Some(stop) = &live.stop
                {
                    stop.abort();
                }
                self.ended(run);
            }
            Message::Joined(joins) => joins.into_iter().for_each(|(join, event)| self.joined(join, event)),
            Message::Again(row) => self.again(row),
            Message::Resolved(runs) => runs.into_iter().for_each(|run| self.resolved(run)),
            Message::Pause { row, reply } => {
                self.pause(&row);
                // Whoever gave up waiting needs no answer.
                let _ = reply.send(());
            }
            Message::Appoint { at, reply } => self.appointments.add(at, reply),
            Message::Ticked(rows) => {
                self.ticking -= 1;
                rows.into_iter().for_each(|row| self.crons.put(row));
            }
            // They come one at a time.
            Message::Reload { project, reply } => self.reloading = Some((project, reply)),
            Message::Why { runs, reply } => {
                // A caller that gave up waiting needs no answer.
                let _ = reply.send(self.whys(&runs));
            }
            Message::AtWork { run, reply } => {
                let stop = self.live.get(&run).and_then(|live| live.stop.as_ref());
                // A caller that gave up waiting needs no answer.
                let _ = reply.send(stop.map(|stop| stop.all_at_work()).unwrap_or_default());
            }
            Message::Flow { most, reply } => {
                self.queue.advance(self.inner.clock.now());
                let survey = self.queue.survey(most);
                let entered = survey.keys.iter().map(|stand| self.live.get(&stand.first?).map(|live| live.enter)).collect();
                // A caller that gave up waiting needs no answer.
                let _ = reply.send((survey, entered));
            }
            Message::Census(reply) => {
                // A caller that gave up waiting needs no answer.
                let _ = reply.send(self.census());
            }
            Message::Drain(reply) => {
                self.draining.push(reply);
                // In order, so that whoever is told first does not hang on a hash.
                let mut running: Vec<_> = self.live.iter().filter_map(|(run, live)| live.stop.as_ref().map(|stop| (*run, stop))).collect();
                running.sort_by_key(|(run, _)| *run);
                running.into_iter().for_each(|(_, stop)| stop.drain());
            }
        }
    }

    fn stopped(&mut self, run: RunId, now: Option<Standing>) {
        self.executing -= 1;
        self.recall(run);
        if self.alone == Some(run) {
            self.alone = None;
        }
        // Whoever has it tried again may be heard of before the worker that it stopped with.
        let again = self.overtaken.remove(&run);
        match (now, again) {
            (None, None) => {
                let collects = self.live.get(&run).is_some_and(|live| live.collects);
                self.forget(run);
                if collects {
                    // It may have been put off when it was about to start.
                    self.take_up_stored(run);
                }
            }
            (None, Some(row)) => {
                self.forget(run);
                self.take_up(&row);
            }
            (Some(now), again) => {
                self.stands(run, now);
                again.into_iter().filter(|row| row.rev > now.rev).for_each(|row| self.again(row));
            }
        }
    }

    fn stands(&mut self, run: RunId, now: Standing) {
        if now.state.is_terminal() {
            return self.ended(run);
        }
        if now.state == RunState::Parked {
            let function = self.live.get(&run).map(|live| Arc::clone(&live.function));
            self.forget(run);
            self.parked.extend(function.map(|function| (run, function)));
            return;
        }
        let Some(live) = self.live.get_mut(&run) else { return };
        live.stop = None;
        live.rev = now.rev;
        live.state = now.state;
        live.wake = now.wake;
        self.queue.suspend(run);
        if std::mem::take(&mut live.resolved) && now.state == RunState::Waiting {
            return self.resolved(run);
        }
        let Some(live) = self.live.get_mut(&run) else { return };
        match now.wake {
            Some(wake) => self.timers.push(Reverse((wake, run, Due::Wake))),
            None if now.state == RunState::Queued => {
                let order = Order { fresh: false, enter_ms: live.enter_ms, run };
                self.line_up(order, &[]);
            }
            None => self.deadlocks.stir(),
        }
    }

    /// A run goes on before its time, or goes on at all.
    fn again(&mut self, row: Box<RunRow>) {
        let Some(live) = self.live.get_mut(&row.id) else { return self.know(&row, false) };
        if live.stop.is_some() {
            // Its start lost against whoever sent this, or it has stopped before: the worker is about to say so.
            self.overtaken.insert(row.id, row);
            return;
        }
        live.rev = row.rev;
        live.state = row.state;
        live.wake = None;
        let order = Order { fresh: !live.begun, enter_ms: live.enter_ms, run: row.id };
        self.line_up(order, &[]);
    }

    /// A wait has come to something: a run that waits goes on.
    fn resolved(&mut self, run: RunId) {
        if self.dormant.contains(run) {
            self.rouse(vec![run]);
        }
        let Some(live) = self.live.get_mut(&run) else { return };
        if let Some(stop) = &live.stop {
            stop.poke();
            live.resolved = true;
        } else if live.state == RunState::Waiting {
            live.wake = None;
            let order = Order { fresh: false, enter_ms: live.enter_ms, run };
            self.line_up(order, &[]);
        }
    }

    /// A run has ended: whoever is kept from starting by it may start.
    fn ended(&mut self, run: RunId) {
        // Of a parked run nothing is known here.
        if self.live.get(&run).is_none_or(|live| live.singleton) {
            self.inner.gates().free(run);
        }
        self.forget(run);
    }

    fn forget(&mut self, run: RunId) {
        if self.live.get(&run).is_some_and(|live| live.collects) {
            self.inner.gates().close(run);
        }
        self.live.swap_remove(&run);
        self.parked.remove(&run);
        self.dormant.remove(run);
        self.overtaken.remove(&run);
        self.held.forget(run);
        self.fresh.remove(&run);
        self.suspects.retain(|suspect| *suspect != run);
        if self.alone == Some(run) {
            self.alone = None;
        }
        self.queue.remove(run);
    }

    /// Fires what is due and starts whom there is room for.
    fn turn(&mut self, now: Millis) {
        self.queue.advance(now);
        self.reload(now);
        while let Some(&Reverse((at, run, due))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            match due {
                Due::Rouse => self.rouse_due(run, now),
                due => self.fire(at, run, due),
            }
        }
        self.appointments.keep(now, &self.inner);
        if self.draining.is_empty() {
            self.tick(now);
            let runs = self.next_runs(now);
            self.start(runs, now);
            self.watch_lines(now);
        }
        self.inner.queued.store(self.queue.queued() + self.lent + self.held.count() + self.suspects.len(), Ordering::Relaxed);
        self.inner.executing.store(self.executing, Ordering::Relaxed);
        self.inner.known.store(self.live.len() + self.dormant.len(), Ordering::Relaxed);
    }

    fn fire(&mut self, at: Millis, run: RunId, due: Due) {
        let Some(live) = self.live.get(&run) else { return };
        match due {
            Due::Wake if live.stop.is_none() => {
                if let Some(wake) = live.wake.filter(|wake| !live.begun && *wake > at) {
                    // It was put off.
                    return self.timers.push(Reverse((wake, run, due)));
                }
                // A timer of an earlier suspension is stale.
                if live.wake.is_some_and(|wake| wake != at) || (live.wake.is_none() && live.begun) {
                    return;
                }
                let order = Order { fresh: !live.begun, enter_ms: live.enter_ms, run };
                if live.collects {
                    self.inner.gates().falls_due(run);
                }
                // A run that was read from the store but has not begun is not known to the queue yet.
                let wants = match self.fresh.get(&run) {
                    Some(made) => self.wants(&made.run),
                    None if !live.begun => self.stored_wants(run),
                    None => Vec::new(),
                };
                let Some(function) = self.live.get(&run).map(|live| Arc::clone(&live.function)) else { return };
                self.enqueue(&function, order, wants);
                if order.fresh {
                    self.deadlocks.entered(run);
                }
            }
            Due::StartTimeout if !live.begun && !self.held.holds(&live.function) => {
                self.recall_all();
                if self.live.get(&run).is_some_and(|live| !live.begun) {
                    self.start_timeout(at, run);
                }
            }
            Due::FinishTimeout => self.finish_timeout(at, run),
            Due::Company if self.alone == Some(run) => self.alone = None,
            Due::Wake | Due::StartTimeout | Due::Company | Due::Rouse => {}
        }
    }

    /// Starts the functions whose time has come.
    fn tick(&mut self, now: Millis) {
        // One that waits for its turn comes first, so that nothing keeps it waiting.
        let due = match self.reloading {
            Some(_) => Vec::new(),
            None => self.crons.take_due(now, |function| self.held.holds(function)),
        };
        if due.is_empty() {
            return;
        }
        self.ticking += 1;
        let inner = Arc::clone(&self.inner);
        let work = self.crons.start(&inner, due, now);
        self.errand(async move {
            let rows = work.await;
            inner.tell(Message::Ticked(rows));
        });
    }

    fn cancel(&self, run: RunId, reason: &'static str) {
        let inner = Arc::clone(&self.inner);
        // A time-out comes once, so it must outlast a full disk.
        self.errand(async move { inner.cancel_surely(run, reason).await });
    }

    /// Does something beside the scheduler's turns that time must not jump over.
    fn errand(&self, work: impl Future<Output = ()> + 'static) {
        let busy = Busy::new(&self.inner);
        tokio::task::spawn_local(async move {
            work.await;
            drop(busy);
        });
    }

    /// Why runs do not move, or what they are at work on (`true`).
    fn whys(&self, runs: &[(RunId, bool)]) -> Vec<(RunId, String)> {
        let in_line: Vec<RunId> = runs.iter().filter(|(_, at_work)| !at_work).map(|(run, _)| *run).collect();
        let blocked = self.queue.blocked(&in_line);
        runs.iter().filter_map(|(run, at_work)| Some((*run, self.why(*run, *at_work, blocked.get(run))?))).collect()
    }

    fn why(&self, run: RunId, at_work: bool, blocked: Option<&Blocked>) -> Option<String> {
        let live = self.live.get(&run);
        let stop = live.and_then(|live| live.stop.as_ref());
        if at_work || stop.is_some() {
            // Its row was read a moment ago: what is said has to fit the state that is shown, not the one that it has reached since.
            let stop = stop.filter(|_| at_work)?;
            return Some(why::running(stop.at_work().map(|at| (at.step, at.attempt, at.since)), self.inner.clock.now()));
        }
        if self.suspects.contains(&run) {
            return Some("it was running each time when the engine crashed or was killed; it starts alone, a little later".to_owned());
        }
        if let Some(alone) = self.alone {
            return Some(format!("run {alone} runs alone, since it may have brought the engine down: the others go on a little later"));
        }
        Some(self.why_in_line(live.map_or("", |live| &live.function), blocked?))
    }
}
