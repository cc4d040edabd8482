//! What has happened in a world, seen from outside the engine: what is on the disk, what its steps did, what the client
//! was told. Each new fact is held against what was promised; `guarantees.md` numbers the promises I1 to I9; W1 is that
//! a wait comes to one thing, which fits it, and W2 that it misses nothing; P1 that a paused function begins no run.

mod circle;
mod editions;
mod gates;
mod order;
mod outside;
mod power;
mod told;
mod values;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use stepwell::base::limits::DEDUPE_WINDOW_MS;
use stepwell::base::{EventId, Millis, RunId, Span};
use stepwell::rules::gates::GateKeys;
use stepwell::rules::recovery::POISON_REASON;
use stepwell::rules::row::Recorded;
use stepwell::rules::{EventRow, Kind, List, Record, RunRow, RunState, Write};

use super::clock::SimClock;
use super::plan::{Event, Plan};
use super::program::Break;
use super::sites::{AFTER, BEFORE, Cuts, Site};
use super::straight::{self, End, Straight, Wanted};
use gates::Passed;
use power::Before;
use values::Counts;
use waits::Talks;

/// How long a full disk is one story.
const FULL_WAIT: Span = Span::seconds(3);
/// How long an event's id and an idempotency key are taken.
const WINDOW: Span = Span(DEDUPE_WINDOW_MS);

/// All facts of one world.
pub struct Facts {
    plan: Arc<Plan>,
    /// The true time, whatever the engines' clock shows.
    clock: Arc<SimClock>,
    /// The edition of the project in force, and the versions of handlers by hash: the function's number and the version's.
    edition: usize,
    /// The editions that came into force in the engine's life, each with the time; the first one was there before.
    editions: Vec<(Millis, usize)>,
    versions: HashMap<Arc<str>, (usize, usize)>,
    /// The versions whose sources are stored.
    sources: BTreeSet<Arc<str>>,
    events: BTreeMap<EventId, EventRow>,
    senders: HashMap<Arc<str>, EventId>,
    /// Idempotency keys that were taken last, by function, with the event that took them and when.
    once: HashMap<(usize, String), (EventId, Millis)>,
    pub runs: BTreeMap<RunId, Run>,
    effects: HashMap<(RunId, String), Vec<Effect>>,
    throws: HashMap<(RunId, String), u32>,
    /// What the client was told: (the request, the event's number in it) and the id.
    told: BTreeMap<(usize, usize), EventId>,
    /// The number of the commit that is being applied: what the engine handed over at once, it hears of at once.
    commit: u64,
    /// In which commit each event came.
    came_in: HashMap<EventId, u64>,
    /// When the disk was full last.
    full: Option<Millis>,
    /// Runs whose start was decided, and found the disk full, or the run put off meanwhile: it is tried again.
    refused: HashSet<RunId>,
    /// Runs that were started in the transaction that is being applied, as they were before.
    starting: Vec<(RunId, Before)>,
    /// The same for each of the newest transactions, as far as a power cut may take them back.
    unsure: Vec<Vec<(RunId, Before)>>,
    /// What runs have to do with each other.
    talks: Talks,
    /// What gates have let through.
    passed: Passed,
    /// What steps have counted.
    counts: Counts,
    /// Runs that have failed in the list that is being applied, as long as that has told no script of it.
    untold: Vec<RunId>,
    /// The engines so far, and which of them died without a clean stop.
    life: u32,
    unclean: HashSet<u32>,
    /// The latest time of a sweep.
    swept: Option<Millis>,
    /// The sites at which engines died.
    pub cuts: Cuts,
    /// The first promise that was broken.
    pub trouble: Option<String>,
    pub trace: Vec<String>,
}

/// A run as the disk has it.
pub struct Run {
    pub function: usize,
    pub event: EventId,
    /// Those that it had before, each with when an engine was told of a later one.
    former: Vec<(EventId, Option<Millis>)>,
    pub state: RunState,
    keys: Vec<String>,
    enter: Millis,
    priority: i64,
    gates: Option<Arc<GateKeys>>,
    created: Millis,
    created_in: u64,
    /// When an engine was told that it is on disk.
    known: Option<Millis>,
    /// When an event that filled its batch had it enter at once.
    filled: Option<Millis>,
    started: Option<Millis>,
    /// It has given its slots back since its last start, as one that is parked does.
    gave_back: bool,
    ended: Option<Millis>,
    /// When the disk had its end.
    ended_at: Option<Millis>,
    wake: Option<Millis>,
    /// When an engine was told of its state.
    heard: Option<Millis>,
    /// When an engine was told of its last start: before that nobody goes by what follows from it, which may be told sooner.
    begun: Option<Millis>,
    /// The version that its journal was made with, and the one that it runs on.
    made_with: Option<usize>,
    runs_on: usize,
    pub records: Vec<Record>,
    /// Failed attempts of each step; of the code between steps under the empty key.
    failed: HashMap<Arc<str>, u32>,
    pub straight: Straight,
    /// Somebody asked for its cancel.
    pub cancelled: bool,
    /// Whether it does another one again.
    replays: bool,
    /// What the deaths of engines in which it was running weigh, since its last record: 3 for a crash, 1 for a kill.
    deaths: u32,
}

/// An effect of a step that began.
struct Effect {
    life: u32,
    attempt: u32,
    seen: String,
}

/// What an effect is to do.
pub struct Errand {
    pub breaks: bool,
    pub takes_ms: i64,
}

impl Facts {
    pub fn new(plan: Arc<Plan>, clock: Arc<SimClock>) -> Facts {
        Facts {
            plan,
            clock,
            edition: 0,
            editions: Vec::new(),
            versions: HashMap::new(),
            sources: BTreeSet::new(),
            events: BTreeMap::new(),
            senders: HashMap::new(),
            once: HashMap::new(),
            runs: BTreeMap::new(),
            effects: HashMap::new(),
            throws: HashMap::new(),
            told: BTreeMap::new(),
            commit: 0,
            came_in: HashMap::new(),
            full: None,
            refused: HashSet::new(),
            starting: Vec::new(),
            unsure: Vec::new(),
            talks: Talks::default(),
            passed: Passed::default(),
            counts: Counts::default(),
            untold: Vec::new(),
            life: 0,
            unclean: HashSet::new(),
            swept: None,
            cuts: Cuts::new(),
            trouble: None,
            trace: Vec::new(),
        }
    }

    pub fn note(&mut self, now: Millis, line: &str) {
        self.trace.push(format!("{} {line}", &now.rfc3339()[5..]));
    }

    /// Notes a broken promise; the first one counts.
    pub fn broken(&mut self, what: String) {
        self.trace.push(format!("!!! {what}"));
        self.trouble.get_or_insert(what);
    }

    fn hold(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken(what());
        }
    }

    // The disk.

    /// A commit of a flush begins; its lists are applied one by one.
    pub fn commit(&mut self) {
        self.commit += 1;
    }

    /// The engine dies in this flush: what it writes is not on disk, or just is.
    pub fn cut(&mut self, lists: impl Iterator<Item = Site>, is_on_disk: bool) {
        for site in lists {
            *self.cuts.entry((site, if is_on_disk { AFTER } else { BEFORE })).or_insert(0) += 1;
        }
    }

    /// The engine is told that lists are on disk.
    pub fn answered(&mut self, lists: &[List], now: Millis) {
        for write in lists.iter().flat_map(|list| &list.writes) {
            if let Write::Retarget { run, .. } | Write::AddEvent { run, .. } = write
                && let Some(run) = self.runs.get_mut(run)
            {
                run.known.get_or_insert(now);
            }
            if let Write::Retarget { run, event, .. } = write
                && let Some(run) = self.runs.get_mut(run)
            {
                let older = match run.former.iter().position(|(former, _)| former == event) {
                    _ if run.event == *event => run.former.len(),
                    at => at.unwrap_or(0),
                };
                run.former[..older].iter_mut().for_each(|(_, told)| *told = told.or(Some(now)));
            }
            if let Write::Pause(row) = write {
                self.heard_of_pause(row, now);
            }
            if let Write::Start { run, .. } = write
                && let Some(run) = self.runs.get_mut(run)
            {
                run.begun.get_or_insert(now);
            }
            let (Write::Suspend { run, .. } | Write::End { run, .. } | Write::Requeue { run, .. } | Write::Park { run, .. }) = write else {
                if let Write::CreateRun(row) = write
                    && let Some(run) = self.runs.get_mut(&row.id)
                {
                    run.known.get_or_insert(now);
                }
                continue;
            };
            if let Some(run) = self.runs.get_mut(run) {
                run.heard.get_or_insert(now);
            }
        }
    }

    /// Lists were refused: the starts among them come later, if at all.
    pub fn refused<'a>(&mut self, lists: impl Iterator<Item = &'a List>) {
        let starts = lists.flat_map(|list| &list.writes);
        self.refused.extend(starts.filter_map(|write| if let Write::Start { run, .. } = write { Some(*run) } else { None }));
    }

    /// A flush was refused.
    pub fn full<'a>(&mut self, lists: impl Iterator<Item = &'a List>, now: Millis) {
        self.refused(lists);
        let true_now = self.clock.now();
        if self.full.replace(true_now).is_none_or(|before| true_now.since(before) > FULL_WAIT) {
            self.note(now, "the disk is full");
        }
    }

    /// A list was carried out.
    pub fn applied(&mut self, list: List, now: Millis) {
        let inserted = |write: &Write| if let Write::InsertEvent(row) = write { Some(row.clone()) } else { None };
        let events: Vec<EventRow> = list.writes.iter().filter_map(inserted).collect();
        for write in list.writes {
            self.write(write, now);
        }
        self.check_sent(&events);
        self.check_counted();
        events.iter().for_each(|event| self.check_cancels(event));
        events.iter().for_each(|event| self.check_planned(event.id));
        self.check_told();
        self.check_children();
        self.list_ends();
    }

    fn write(&mut self, write: Write, now: Millis) {
        match write {
            Write::InsertEvent(row) => self.event(row, now),
            Write::CreateRun(row) => self.created(&row, now),
            Write::Start { run, at, version } => self.started(run, at, &version, now),
            Write::Adopt { run, version } => self.adopted(run, &version, now),
            Write::Append { run, record } => self.recorded(run, record, now),
            Write::Attempt { run, attempt } => {
                let next = attempt.next.map(|at| at.since(attempt.ended).0);
                self.note(now, &format!("{run} attempt {} of `{}` failed; next in {next:?} ms", attempt.attempt, attempt.key));
                self.attempt_failed(run, &attempt.key, attempt.attempt, next);
            }
            Write::Suspend { run, state, wake, .. } => self.moved(run, state, wake, now),
            Write::Requeue { run, suspects } => {
                self.note(now, &format!("{run} queued again, suspects {suspects}"));
                self.moved(run, RunState::Queued, None, now);
            }
            Write::RetryNow { run, .. } => {
                self.note(now, &format!("{run} is tried again at once"));
                if let Some(run) = self.live(run) {
                    (run.state, run.wake, run.heard) = (RunState::Queued, None, None);
                }
            }
            Write::Park { run, reason } => {
                self.note(now, &format!("{run} parked: {reason}"));
                self.parked(run, &reason, now);
            }
            Write::End { run, state, at, output, error, reason } => {
                let said = output.as_deref().or(error.as_ref().map(|error| error.message.as_str())).or(reason.as_deref());
                let said = said.unwrap_or_default().to_owned();
                self.note(now, &format!("{run} {}: {said}", state.word()));
                self.ended(run, state, &said, at, now);
            }
            Write::IfOpen { run, writes } => {
                if self.runs.get(&run).is_some_and(|run| !run.state.is_terminal()) {
                    writes.into_iter().for_each(|write| self.write(write, now));
                }
            }
            Write::Pause(row) => self.paused(&row, now),
            Write::PutValue(row) => self.kept(&row, now),
            Write::DropValue(_) => {}
            Write::Sweep { now, .. } => self.swept = self.swept.max(Some(now)),
            Write::TakeEventKey { .. } | Write::TakeIdempotency { .. } | Write::Log { .. } => {}
            Write::PutSource(row) => {
                self.sources.insert(row.hash);
            }
            Write::DropSource(hash) => self.source_dropped(&hash),
            Write::NoteOutcome { event, function, outcome } => self.noted(event, function, outcome, now),
            Write::PutWindow(row) | Write::RaiseWindow(row) => self.counted(&row),
            Write::Retarget { run, event, enter, keys, priority_ms, gates } => {
                self.retargeted(run, event, enter, (&keys, priority_ms, gates), now);
            }
            Write::AddEvent { run, event, enter } => self.joined(run, event, enter, now),
            Write::OpenWait(row) => self.wait_opened(row, now),
            Write::ResolveWait { wait, with } => self.wait_resolved(&wait, with, now),
            Write::RecordWait(wait) => self.wait_recorded(&wait),
            Write::DropWait(wait) => self.wait_given_up(&wait, now),
            Write::DropWaits(run) => self.waits_dropped(run),
            Write::PutCron(row) => self.stands(&row, now),
            Write::DropCron(_) => {}
        }
    }

    fn event(&mut self, row: EventRow, now: Millis) {
        self.note(now, &format!("event {} {} {}", row.id, row.name, row.data));
        if let Some(sender) = row.sender_id.clone()
            && let Some(first) = self.senders.insert(sender, row.id)
        {
            let taken = self.events.get(&first).is_some_and(|first| row.accepted < first.accepted.after(WINDOW));
            self.hold(!taken, || format!("I2: event {} is the same as {first}", row.id));
        }
        self.came_in.insert(row.id, self.commit);
        self.events.insert(row.id, row);
    }

    fn created(&mut self, row: &RunRow, now: Millis) {
        self.note(
            now,
            &format!("{} created: {} of event {} keys {:?} enters {}", row.id, row.function, row.event, row.keys, row.enter.rfc3339()),
        );
        let plan = Arc::clone(&self.plan);
        // One that does another one again passes no gate.
        if row.replay_of.is_some() {
            self.note(now, &format!("{} is done again", row.event));
        } else if let Some(event) = self.events.get(&row.event).cloned() {
            self.created_by(row, &event, now);
        }
        let Some(function) = plan.functions.iter().position(|function| *function.id == *row.function) else {
            return self.broken(format!("I2: run {} is of nobody's function", row.id));
        };
        let Some((event, input)) = self.events.get(&row.event).map(|event| (planned(event), told::seen_in(event))) else {
            return self.broken(format!("I2: run {} came before its event", row.id));
        };
        let declared = &plan.functions[function];
        let keys: Vec<String> = declared.limits.iter().map(|limit| limit.value(&event.data)).collect();
        let stored: Vec<String> = row.keys.iter().map(|key| key.to_string()).collect();
        self.hold(keys == stored, || format!("run {} has keys {stored:?} instead of {keys:?}", row.id));
        let is_there = self.editions_at(row.created).any(|edition| declared.is_there(edition));
        self.hold(is_there, || format!("I2: run {} is of a function that is gone", row.id));
        let version = declared.version_in(self.edition);
        let straight = straight::evaluate(&declared.versions[version], declared.attempts, input, &[]);
        let Some(straight) = straight else { return self.broken(format!("run {}: an empty journal does not fit", row.id)) };
        let run = Run {
            function,
            event: row.event,
            former: Vec::new(),
            state: row.state,
            keys,
            enter: row.enter,
            priority: row.priority_ms,
            gates: row.gates.clone(),
            created: row.created,
            created_in: self.commit,
            known: None,
            filled: None,
            started: None,
            gave_back: false,
            ended: None,
            ended_at: None,
            wake: None,
            heard: None,
            begun: None,
            made_with: None,
            runs_on: version,
            records: Vec::new(),
            failed: HashMap::new(),
            straight,
            cancelled: false,
            replays: row.replay_of.is_some(),
            deaths: 0,
        };
        self.runs.insert(row.id, run);
    }

    /// I2: an event and the runs that it starts come together.
    fn check_planned(&mut self, id: EventId) {
        let Some(row) = self.events.get(&id) else { return };
        let (event, accepted) = (planned(row), row.accepted);
        let plan = Arc::clone(&self.plan);
        let mut wanted = Vec::new();
        wanted.extend(self.invoked(id));
        wanted.extend(self.ticked(id));
        wanted.extend(self.told_by(id));
        for (at, function) in plan.functions.iter().enumerate() {
            if !function.starts_on(&event) || !self.may_start(id, at, accepted) {
                continue;
            }
            // G8: one run for each value of an idempotency key.
            let key = function.once(&event).map(|key| (at, key));
            let holder = key.as_ref().and_then(|key| self.once.get(key));
            if holder.is_some_and(|holder| accepted < holder.1.after(WINDOW)) {
                continue;
            }
            let (passes, has_run) = if function.gates.ask() { self.verdict(id, at) } else { (true, true) };
            if passes {
                self.once.extend(key.map(|key| (key, (id, accepted))));
            }
            if has_run {
                wanted.push(at);
            }
        }
        let mut found: Vec<usize> = self.created_for(id).iter().filter_map(|run| self.runs.get(run)).map(|run| run.function).collect();
        found.sort_unstable();
        self.hold(wanted == found, || format!("I2: event {id} started functions {found:?} instead of {wanted:?}"));
    }

    fn started(&mut self, id: RunId, at: Millis, version: &Arc<str>, now: Millis) {
        self.note(now, &format!("{id} started"));
        self.check_turn(id, at);
        let before = self.before(id);
        self.starting.extend(before.map(|before| (id, before)));
        let poked = self.is_poked(id);
        let Some(run) = self.runs.get_mut(&id) else { return self.broken(format!("{id} started, which is not there")) };
        let (state, wake, enter) = (run.state, run.wake, run.enter);
        let (function, first) = (run.function, run.started.is_none());
        let anew = std::mem::take(&mut run.gave_back) || first;
        run.state = RunState::Running;
        (run.heard, run.begun) = (None, None);
        self.refused.remove(&id);
        run.started.get_or_insert(at);
        let resolved = state == RunState::Waiting && poked;
        let waits = matches!(state, RunState::Sleeping | RunState::BackingOff | RunState::Waiting) && !resolved;
        self.hold(waits || resolved || state == RunState::Queued, || format!("{id} started while {}", state.word()));
        self.hold(at <= now, || format!("I9: {id} started at {}, which is to come", at.rfc3339()));
        self.hold(!first || enter <= at, || format!("I9: {id} started before its event's time"));
        self.hold(!waits || wake.is_some_and(|wake| wake <= at), || format!("I9: {id} went on before its time {wake:?}"));
        let limit = self.plan.functions[function].start.filter(|_| first).map(Span::seconds);
        let from = self.may_start_from(function, enter);
        self.hold(limit.is_none_or(|limit| at < from.after(limit)), || format!("{id} started after its timeouts.start"));
        self.check_slots(id, at, anew);
        if first {
            self.check_throttle(id, at);
            self.check_pause(id, at);
        }
        self.go_on(id, version, at, now);
    }

    /// G25: the run goes on with the version of its handler that is the newest when its start is decided, where its journal fits
    /// that, else with the one that its journal was made with. It keeps it until it is suspended or ends, whatever comes into force.
    fn go_on(&mut self, id: RunId, version: &Arc<str>, at: Millis, now: Millis) {
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.runs.get(&id) else { return };
        let function = &plan.functions[run.function];
        let of_run = run.function;
        let started_on = self.versions.get(version).copied();
        let in_force: Vec<usize> =
            self.editions_at(at).filter(|edition| function.is_there(*edition)).map(|edition| function.version_in(edition)).collect();
        let fine = started_on.is_some_and(|(of, version)| of == of_run && in_force.contains(&version));
        let is_stored = self.sources.contains(version);
        let newest = started_on.filter(|_| fine).map_or_else(|| function.version_in(self.edition), |(_, version)| version);
        let input = self.input_of(run);
        let fits = |version: usize| straight::evaluate(&function.versions[version], function.attempts, input, &run.records);
        let made_with = run.made_with.unwrap_or(newest);
        let (runs_on, straight) = match fits(newest) {
            Some(straight) => (newest, Some(straight)),
            None => (made_with, fits(made_with)),
        };
        self.hold(is_stored, || format!("G25: {id} started on {started_on:?}, whose sources are not stored"));
        self.hold(fine, || format!("G25: {id} started on {started_on:?}, in force was {in_force:?} of function {of_run}"));
        let Some(straight) = straight else { return self.broken(format!("G25: {id} has a journal that fits no version it ran on")) };
        if runs_on != newest {
            self.note(now, &format!("{id} goes on with version {runs_on} instead of {newest}"));
        }
        if let Some(run) = self.runs.get_mut(&id) {
            (run.made_with, run.runs_on, run.straight) = (Some(made_with), runs_on, straight);
        }
    }

    /// The `n` that a run's handler sees.
    fn input_of(&self, run: &Run) -> i64 {
        self.events.get(&run.event).map_or(3, told::seen_in)
    }

    fn adopted(&mut self, id: RunId, version: &Arc<str>, now: Millis) {
        let adopted = self.versions.get(version).copied();
        if self.runs.get(&id).is_some_and(|run| run.state != RunState::Running && !run.state.is_terminal()) {
            return self.migrated(id, adopted, now);
        }
        self.note(now, &format!("{id} was taken over by another version"));
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.live(id) else { return };
        let (runs_on, made_with, function) = (run.runs_on, run.made_with, run.function);
        run.made_with = Some(runs_on);
        // Each branch says it, whichever of them comes to the disk first.
        let again = run_is_branched(&plan, function, runs_on);
        let fine = adopted == Some((function, runs_on)) && (made_with != Some(runs_on) || again);
        self.hold(fine, || format!("G25: {id} was taken over by {adopted:?} instead of version {runs_on}"));
    }

    /// G10, and a function that is not declared any more.
    fn parked(&mut self, id: RunId, reason: &str, now: Millis) {
        let plan = Arc::clone(&self.plan);
        let edition = self.edition;
        let Some(run) = self.live(id) else { return };
        run.gave_back = true;
        let deaths = run.deaths;
        if reason.starts_with("function gone") {
            let there = plan.functions[run.function].is_there(edition);
            (run.state, run.wake) = (RunState::Parked, None);
            return self.hold(!there, || format!("I3: {id} was parked, its function is there"));
        }
        self.hold(reason == POISON_REASON && deaths >= 9, || format!("I3: {id} was parked after deaths that weigh {deaths}: {reason}"));
        self.moved(id, RunState::Parked, None, now);
    }

    fn recorded(&mut self, id: RunId, record: Record, now: Millis) {
        self.note(now, &format!("{id} record {} `{}` {}: {:?}", record.index, record.key, record.kind.word(), record.result));
        let effects = self.effects.get(&(id, record.key.to_string())).map_or(0, Vec::len);
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.live(id) else { return };
        let at = run.records.len();
        let due = run.straight.due.clone();
        let state = run.state;
        run.deaths = 0;
        run.failed.remove("");
        let before = run.records.iter().map(|old| old.index).max();
        let branched = run.records.iter().chain([&record]).any(|record| record.kind == Kind::Race || record.key.contains(" › "));
        let in_line = if branched {
            // Branches come to the disk in any order, and their numbers may have gaps where an engine died between two, or where one that a
            // race left had a number but was not on its way to the disk.
            !run.records.iter().any(|old| old.index == record.index)
                && (record.key.contains(" › ") || before.is_none_or(|before| before < record.index))
        } else {
            record.index as usize == at
        };
        let place = run.records.partition_point(|old| old.index < record.index);
        run.records.insert(place, record.clone());
        let (made_with, runs_on) = (run.made_with, run.runs_on);
        let is_set_back = self.is_set_back();
        self.hold(made_with == Some(runs_on), || {
            format!("G25: {id} recorded `{}` on version {runs_on}, it is on {made_with:?}", record.key)
        });
        self.hold(state == RunState::Running, || format!("{id} recorded `{}` while {}", record.key, state.word()));
        self.hold(in_line, || format!("{id} recorded `{}` as {} after {before:?}", record.key, record.index));
        let Some(wanted) = due.iter().find(|wanted| *wanted.key == *record.key && wanted.kind == record.kind) else {
            return self.broken(format!("{id} recorded `{}` instead of {:?}", record.key, keys(&due)));
        };
        self.hold(fits(&wanted.result, &record), || format!("{id} `{}`: {:?} instead of {:?}", record.key, record.result, wanted.result));
        self.hold((record.started <= record.ended || is_set_back) && record.ended <= now, || {
            format!("{id} `{}`: its times are out of order", record.key)
        });
        self.hold(is_set_back || wanted.not_before <= record.started, || {
            format!("I9: {id} `{}` began before the end of the sleep before it", record.key)
        });
        self.note_sent(id, &wanted.result, &record);
        match record.kind {
            Kind::Step => {
                let attempts = wanted.attempts;
                self.hold(record.attempts == attempts, || {
                    format!("{id} `{}`: {} attempts instead of {attempts}", record.key, record.attempts)
                });
                self.hold(effects > 0, || format!("I4: {id} `{}` was recorded without its effect", record.key));
            }
            Kind::Wait | Kind::Invoke => self.check_wait_record(id, &record),
            _ => {}
        }
        let Some(run) = self.runs.get(&id) else { return };
        let function = &plan.functions[run.function];
        self.counts.note(&function.versions[runs_on], &record);
        let straight = straight::evaluate(&function.versions[runs_on], function.attempts, self.input_of(run), &run.records);
        let Some(straight) = straight else { return self.broken(format!("G25: {id} has a journal that does not fit what it runs on")) };
        if let Some(run) = self.runs.get_mut(&id) {
            run.straight = straight;
        }
    }

    fn attempt_failed(&mut self, id: RunId, key: &Arc<str>, attempt: u32, next: Option<i64>) {
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.live(id) else { return };
        let function = &plan.functions[run.function];
        let step = function.versions[run.runs_on].step(key);
        // What cannot be invoked now cannot be invoked later either.
        let is_invoke = run.straight.due.iter().any(|wanted| wanted.kind == Kind::Invoke && *wanted.key == **key);
        let attempts = if is_invoke { 1 } else { function.attempts };
        let allowed = step.map_or(attempts, |step| step.allowed(function.attempts));
        let before = run.failed.entry(Arc::clone(key)).or_insert(0);
        *before += 1;
        let nth = *before;
        self.hold(attempt == nth, || format!("{id} `{key}`: attempt {attempt} failed as the {nth}. one"));
        self.hold(next.is_some() == (nth < allowed), || format!("{id} `{key}`: next {next:?} after {nth} of {allowed} attempts"));
        let Some(wait) = next else { return };
        let (least, most) = match step.filter(|step| !step.overruns()).map(|step| step.how) {
            Some(Break::RetryAfter { seconds }) => (seconds * 1_000, seconds * 1_000),
            _ => function.wait(nth),
        };
        self.hold((least..=most).contains(&wait), || {
            format!("{id} `{key}`: waits {wait} ms after attempt {nth} instead of {least} to {most}")
        });
    }

    fn moved(&mut self, id: RunId, state: RunState, wake: Option<Millis>, now: Millis) {
        if !matches!(state, RunState::Queued | RunState::Parked) {
            self.note(now, &format!("{id} {} until {}", state.word(), wake.map(Millis::rfc3339).unwrap_or_default()));
        }
        let Some(run) = self.live(id) else { return };
        let before = run.state;
        run.state = state;
        run.wake = wake;
        run.heard = None;
        let until = wake.map(Recorded::Until);
        let slept = run.records.iter().any(|record| Some(&record.result) == until.as_ref());
        let waits = before == RunState::Queued && state == RunState::Queued;
        self.hold(before == RunState::Running || waits, || format!("{id} became {} while {}", state.word(), before.word()));
        if state == RunState::Sleeping {
            self.hold(slept, || format!("{id} sleeps until {wake:?}, no record says so"));
        }
        if state == RunState::Waiting {
            self.check_waiting(id, wake);
        }
    }

    fn ended(&mut self, id: RunId, state: RunState, said: &str, at: Millis, now: Millis) {
        let Some(run) = self.live(id) else { return };
        run.state = state;
        (run.ended, run.ended_at) = (Some(at), Some(now));
        run.heard = None;
        let due = keys(&run.straight.due);
        let (function, enter, started) = (run.function, run.enter, run.started);
        let (mut asked, end) = (run.cancelled, run.straight.end.clone());
        let late =
            |from: Option<Millis>, limit: Option<i64>| from.zip(limit).is_some_and(|(from, limit)| at >= from.after(Span::seconds(limit)));
        if said.starts_with("timeouts.start") {
            asked = started.is_none() && late(Some(self.may_start_from(function, enter)), self.plan.functions[function].start);
        } else if said.starts_with("timeouts.finish") {
            // A start that waits for room on a full disk counts from when it was decided.
            let waits = started.is_none() && self.full.is_some();
            asked = waits || late(started, self.plan.functions[function].finish);
        }
        self.check_no_waits(id);
        if said.starts_with("the run that invoked it ") {
            asked = self.may_lose_child(id);
        } else if said.starts_with("singleton: ") || said.starts_with("cancel_on: ") {
            asked = self.may_be_cancelled(id, said);
        } else if said.starts_with("deadlock: ") {
            asked = self.may_break_circle(id);
        }
        if state == RunState::Failed {
            self.has_failed(id, function);
        }
        let ends = match (state, &end) {
            (RunState::Completed, Some(End::Completed(value))) => serde_json::from_str::<Value>(said).is_ok_and(|said| said == *value),
            (RunState::Failed, Some(End::Failed(message))) => said == message,
            (RunState::Cancelled, _) => return self.hold(asked, || format!("{id} was cancelled by nobody: {said}")),
            _ => false,
        };
        self.hold(ends, || format!("{id} ended as {} with {said}; straight: {end:?}", state.word()));
        self.hold(due.is_empty(), || format!("{id} ended where {due:?} was due"));
    }

    /// The run, if it is there and has not ended: as for the store, nothing is written about one that has.
    fn live(&mut self, id: RunId) -> Option<&mut Run> {
        self.runs.get_mut(&id).filter(|run| !run.state.is_terminal())
    }
}

fn run_is_branched(plan: &Plan, function: usize, version: usize) -> bool {
    let body = &plan.functions[function].versions[version].body;
    body.iter().any(|stmt| matches!(stmt, super::program::Stmt::Parallel(_) | super::program::Stmt::Race(_)))
}

fn keys(due: &[Wanted]) -> Vec<String> {
    due.iter().map(|wanted| wanted.key.clone()).collect()
}

/// The event that a stored row was sent as.
fn planned(row: &EventRow) -> Event {
    let name = row.name.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    Event { name, data: serde_json::from_str(&row.data).unwrap_or_default(), later_ms: None }
}

fn fits(wanted: &straight::Result, record: &Record) -> bool {
    match (wanted, &record.result) {
        (straight::Result::Anything, Recorded::Value(_)) => true,
        (straight::Result::Anything, Recorded::Failed(_)) => record.kind == Kind::Invoke,
        (straight::Result::Sent(_) | straight::Result::Signal(..), Recorded::Value(_)) => true,
        (straight::Result::Value(value), Recorded::Value(text)) => serde_json::from_str::<Value>(text).is_ok_and(|stored| stored == *value),
        (straight::Result::Failed(message), Recorded::Failed(failure)) => failure.message == *message,
        (straight::Result::First(ends), Recorded::Value(text)) => {
            let won: Value = serde_json::from_str(text).unwrap_or_default();
            let first = won["name"].as_str().map(str::to_owned).or_else(|| Some(won["index"].as_i64()?.to_string()));
            ends.iter().any(|(name, end)| first.as_ref() == Some(name) && end.as_ref().ok() == won["value"].as_i64().as_ref())
        }
        (straight::Result::First(ends), Recorded::Failed(failure)) => {
            ends.iter().any(|(_, end)| end.as_ref().err() == Some(&failure.message))
        }
        (straight::Result::Sleep { seconds }, Recorded::Until(until)) => until.0 - record.started.0 == seconds * 1_000,
        _ => false,
    }
}
