//! What has happened in a world, seen from outside the engine: what is on the disk, what its steps did, what the client
//! was told. Each new fact is held against what was promised; `guarantees.md` numbers the promises I1 to I9.

mod order;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use stepwell::base::limits::DEDUPE_WINDOW_MS;
use stepwell::base::{EventId, Millis, RunId, Span};
use stepwell::rules::recovery::POISON_REASON;
use stepwell::rules::row::Recorded;
use stepwell::rules::{Ending, EventRow, Kind, List, Record, RunRow, RunState, Write};

use super::clock::SimClock;
use super::plan::{Event, Plan};
use super::program::Break;
use super::sites::{AFTER, BEFORE, Cuts, Site};
use super::straight::{self, End, Straight};

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
    versions: HashMap<Arc<str>, (usize, usize)>,
    events: BTreeMap<EventId, EventRow>,
    senders: HashMap<Arc<str>, EventId>,
    /// Idempotency keys that were taken last, by function, with the event that took them and when.
    once: HashMap<(usize, String), (EventId, Millis)>,
    pub runs: BTreeMap<RunId, Run>,
    effects: HashMap<(RunId, String), Vec<Effect>>,
    throws: HashMap<(RunId, String), u32>,
    /// What the client was told: (the request, the event's number in it) and the id.
    told: BTreeMap<(usize, usize), EventId>,
    /// The number of the flush that is being applied.
    flush: u64,
    /// When the disk was full last.
    full: Option<Millis>,
    /// Runs whose start was decided, and found the disk full: it is tried again.
    refused: HashSet<RunId>,
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
    pub state: RunState,
    keys: Vec<String>,
    enter: Millis,
    created_in: u64,
    /// When an engine was told that it is on disk.
    known: Option<Millis>,
    started: Option<Millis>,
    ended: Option<Millis>,
    wake: Option<Millis>,
    /// When an engine was told of its state.
    heard: Option<Millis>,
    /// The version that its journal was made with, and the one that it runs on.
    made_with: Option<usize>,
    runs_on: usize,
    pub records: Vec<Record>,
    /// Failed attempts of each step; of the code between steps under the empty key.
    failed: HashMap<Arc<str>, u32>,
    pub straight: Straight,
    /// Somebody asked for its cancel.
    pub cancelled: bool,
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
            versions: HashMap::new(),
            events: BTreeMap::new(),
            senders: HashMap::new(),
            once: HashMap::new(),
            runs: BTreeMap::new(),
            effects: HashMap::new(),
            throws: HashMap::new(),
            told: BTreeMap::new(),
            flush: 0,
            full: None,
            refused: HashSet::new(),
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

    /// A flush begins; its lists are applied one by one.
    pub fn flush(&mut self) {
        self.flush += 1;
    }

    /// The engine dies in this flush: what it writes is not on disk, or just is.
    pub fn cut(&mut self, lists: impl Iterator<Item = Option<Site>>, is_on_disk: bool) {
        for site in lists.flatten() {
            *self.cuts.entry((site, if is_on_disk { AFTER } else { BEFORE })).or_insert(0) += 1;
        }
    }

    /// The engine is told that lists are on disk.
    pub fn answered(&mut self, lists: &[List], now: Millis) {
        for write in lists.iter().flat_map(|list| &list.writes) {
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

    /// A flush was refused.
    pub fn full<'a>(&mut self, lists: impl Iterator<Item = &'a List>, now: Millis) {
        self.refused.extend(lists.flat_map(|list| &list.writes).filter_map(|write| match write {
            Write::Start { run, .. } => Some(*run),
            _ => None,
        }));
        let true_now = self.clock.now();
        if self.full.replace(true_now).is_none_or(|before| true_now.since(before) > FULL_WAIT) {
            self.note(now, "the disk is full");
        }
    }

    /// A list was carried out.
    pub fn applied(&mut self, list: List, now: Millis) {
        let mut event = None;
        for write in list.writes {
            if let Write::InsertEvent(row) = &write {
                event = Some(row.id);
            }
            self.write(write, now);
        }
        if let Some(event) = event {
            self.check_planned(event);
        }
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
            Write::RetryNow { run, .. } => self.moved(run, RunState::Queued, None, now),
            Write::Park { run, reason } => {
                self.note(now, &format!("{run} parked: {reason}"));
                self.parked(run, &reason, now);
            }
            Write::End { run, state, at, output, error, reason } => {
                let said = output.as_deref().or(error.as_ref().map(|error| error.message.as_str())).or(reason.as_deref());
                let said = said.unwrap_or_default().to_owned();
                self.note(now, &format!("{run} {}: {said}", state.word()));
                self.ended(run, state, &said, at);
            }
            Write::IfOpen { run, writes } => {
                if self.runs.get(&run).is_some_and(|run| !run.state.is_terminal()) {
                    writes.into_iter().for_each(|write| self.write(write, now));
                }
            }
            Write::Pause(_) | Write::PutValue(_) | Write::DropValue(_) => {}
            Write::Sweep { now, .. } => self.swept = self.swept.max(Some(now)),
            Write::TakeEventKey { .. }
            | Write::TakeIdempotency { .. }
            | Write::NoteOutcome { .. }
            | Write::Log { .. }
            | Write::PutWindow(_)
            | Write::PutSource(_)
            | Write::DropSource(_) => {}
            // The programs of the worlds collect nothing.
            Write::Retarget { .. } | Write::AddEvent { .. } => {}
            Write::OpenWait(_) | Write::ResolveWait { .. } | Write::RecordWait(_) | Write::DropWaits(_) => {}
            Write::PutCron(_) | Write::DropCron(_) => {}
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
        self.events.insert(row.id, row);
    }

    fn created(&mut self, row: &RunRow, now: Millis) {
        self.note(
            now,
            &format!("{} created: {} of event {} keys {:?} enters {}", row.id, row.function, row.event, row.keys, row.enter.rfc3339()),
        );
        let plan = Arc::clone(&self.plan);
        let Some(function) = plan.functions.iter().position(|function| *function.id == *row.function) else {
            return self.broken(format!("I2: run {} is of nobody's function", row.id));
        };
        let Some(event) = self.events.get(&row.event).map(planned) else {
            return self.broken(format!("I2: run {} came before its event", row.id));
        };
        let declared = &plan.functions[function];
        let keys: Vec<String> = declared.limits.iter().map(|limit| limit.value(&event.data)).collect();
        let stored: Vec<String> = row.keys.iter().map(|key| key.to_string()).collect();
        self.hold(keys == stored, || format!("run {} has keys {stored:?} instead of {keys:?}", row.id));
        let input = event.data["n"].as_i64().unwrap_or_default();
        self.hold(declared.is_there(self.edition), || format!("I2: run {} is of a function that is gone", row.id));
        let version = declared.version_in(self.edition);
        let straight = straight::evaluate(&declared.versions[version], declared.attempts, input, &[]);
        let Some(straight) = straight else { return self.broken(format!("run {}: an empty journal does not fit", row.id)) };
        let run = Run {
            function,
            event: row.event,
            state: row.state,
            keys,
            enter: row.enter,
            created_in: self.flush,
            known: None,
            started: None,
            ended: None,
            wake: None,
            heard: None,
            made_with: None,
            runs_on: version,
            records: Vec::new(),
            failed: HashMap::new(),
            straight,
            cancelled: false,
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
        for (at, function) in plan.functions.iter().enumerate() {
            if !function.is_there(self.edition) || !function.starts_on(&event) {
                continue;
            }
            // G8: one run for each value of an idempotency key.
            let first = function.once(&event).is_none_or(|key| {
                let holder = self.once.entry((at, key)).or_insert((id, accepted));
                if accepted >= holder.1.after(WINDOW) {
                    *holder = (id, accepted);
                }
                holder.0 == id
            });
            if first {
                wanted.push(at);
            }
        }
        let mut found: Vec<usize> = self.runs.values().filter(|run| run.event == id).map(|run| run.function).collect();
        found.sort_unstable();
        self.hold(wanted == found, || format!("I2: event {id} started functions {found:?} instead of {wanted:?}"));
    }

    fn started(&mut self, id: RunId, at: Millis, version: &Arc<str>, now: Millis) {
        self.note(now, &format!("{id} started"));
        self.check_turn(id, at);
        let Some(run) = self.runs.get_mut(&id) else { return self.broken(format!("{id} started, which is not there")) };
        let (state, wake, enter) = (run.state, run.wake, run.enter);
        let (function, first) = (run.function, run.started.is_none());
        run.state = RunState::Running;
        run.heard = None;
        self.refused.remove(&id);
        run.started.get_or_insert(at);
        let waits = matches!(state, RunState::Sleeping | RunState::BackingOff);
        self.hold(waits || state == RunState::Queued, || format!("{id} started while {}", state.word()));
        self.hold(at <= now, || format!("I9: {id} started at {}, which is to come", at.rfc3339()));
        self.hold(!first || enter <= at, || format!("I9: {id} started before its event's time"));
        self.hold(!waits || wake.is_some_and(|wake| wake <= at), || format!("I9: {id} went on before its time {wake:?}"));
        let limit = self.plan.functions[function].start.filter(|_| first).map(Span::seconds);
        self.hold(limit.is_none_or(|limit| at < enter.after(limit)), || format!("{id} started after its timeouts.start"));
        self.check_slots(id);
        self.go_on(id, version, now);
    }

    /// G25: the run goes on with the newest version of its handler where its journal fits that, else with the one that
    /// its journal was made with.
    fn go_on(&mut self, id: RunId, version: &Arc<str>, now: Millis) {
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.runs.get(&id) else { return };
        let function = &plan.functions[run.function];
        let newest = function.version_in(self.edition);
        let input = self.events.get(&run.event).and_then(|event| planned(event).data["n"].as_i64()).unwrap_or_default();
        let fits = |version: usize| straight::evaluate(&function.versions[version], function.attempts, input, &run.records);
        let made_with = run.made_with.unwrap_or(newest);
        let (runs_on, straight) = match fits(newest) {
            Some(straight) => (newest, Some(straight)),
            None => (made_with, fits(made_with)),
        };
        let started_on = self.versions.get(version).copied();
        self.hold(started_on == Some((run_function(&self.runs, id), newest)), || {
            format!("{id} started on another version than the newest")
        });
        let Some(straight) = straight else { return self.broken(format!("G25: {id} has a journal that fits no version it ran on")) };
        if runs_on != newest {
            self.note(now, &format!("{id} goes on with version {runs_on} instead of {newest}"));
        }
        if let Some(run) = self.runs.get_mut(&id) {
            (run.made_with, run.runs_on, run.straight) = (Some(made_with), runs_on, straight);
        }
    }

    fn adopted(&mut self, id: RunId, version: &Arc<str>, now: Millis) {
        self.note(now, &format!("{id} was taken over by another version"));
        let adopted = self.versions.get(version).copied();
        let Some(run) = self.live(id) else { return };
        let (runs_on, made_with, function) = (run.runs_on, run.made_with, run.function);
        run.made_with = Some(runs_on);
        let fine = adopted == Some((function, runs_on)) && made_with != Some(runs_on);
        self.hold(fine, || format!("G25: {id} was taken over by {adopted:?} instead of version {runs_on}"));
    }

    /// G10, and a function that is not declared any more.
    fn parked(&mut self, id: RunId, reason: &str, now: Millis) {
        let plan = Arc::clone(&self.plan);
        let edition = self.edition;
        let Some(run) = self.live(id) else { return };
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
        let Some(run) = self.live(id) else { return };
        let at = run.records.len();
        let wanted = run.straight.records.get(at).cloned();
        let state = run.state;
        run.deaths = 0;
        run.failed.remove("");
        run.records.push(record.clone());
        let (made_with, runs_on) = (run.made_with, run.runs_on);
        let is_set_back = self.is_set_back();
        self.hold(made_with == Some(runs_on), || {
            format!("G25: {id} recorded `{}` on version {runs_on}, it is on {made_with:?}", record.key)
        });
        self.hold(state == RunState::Running, || format!("{id} recorded `{}` while {}", record.key, state.word()));
        self.hold(record.index as usize == at, || format!("{id} recorded `{}` as {} instead of {at}", record.key, record.index));
        let Some(wanted) = wanted else { return self.broken(format!("{id} recorded `{}` after its straight end", record.key)) };
        let same = *wanted.key == *record.key && wanted.kind == record.kind;
        self.hold(same, || format!("{id} recorded `{}` instead of `{}`", record.key, wanted.key));
        self.hold(fits(&wanted.result, &record), || format!("{id} `{}`: {:?} instead of {:?}", record.key, record.result, wanted.result));
        self.hold((record.started <= record.ended || is_set_back) && record.ended <= now, || {
            format!("{id} `{}`: its times are out of order", record.key)
        });
        if record.kind == Kind::Step {
            let attempts = wanted.attempts;
            self.hold(record.attempts == attempts, || format!("{id} `{}`: {} attempts instead of {attempts}", record.key, record.attempts));
            self.hold(effects > 0, || format!("I4: {id} `{}` was recorded without its effect", record.key));
        }
    }

    fn attempt_failed(&mut self, id: RunId, key: &Arc<str>, attempt: u32, next: Option<i64>) {
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.live(id) else { return };
        let function = &plan.functions[run.function];
        let step = function.versions[run.runs_on].step(key.split('#').next().unwrap_or_default());
        let allowed = step.map_or(function.attempts, |step| step.allowed(function.attempts));
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
        let slept = run.records.last().map(|record| record.result.clone());
        self.hold(before == RunState::Running, || format!("{id} became {} while {}", state.word(), before.word()));
        if state == RunState::Sleeping {
            let until = wake.map(Recorded::Until);
            self.hold(until.is_some() && slept == until, || format!("{id} sleeps until {wake:?}, its record says {slept:?}"));
        }
    }

    fn ended(&mut self, id: RunId, state: RunState, said: &str, at: Millis) {
        let Some(run) = self.live(id) else { return };
        run.state = state;
        run.ended = Some(at);
        run.heard = None;
        let (recorded, wanted) = (run.records.len(), run.straight.records.len());
        let (function, enter, started) = (run.function, run.enter, run.started);
        let (mut asked, end) = (run.cancelled, run.straight.end.clone());
        let late =
            |from: Option<Millis>, limit: Option<i64>| from.zip(limit).is_some_and(|(from, limit)| at >= from.after(Span::seconds(limit)));
        if said.starts_with("timeouts.start") {
            asked = started.is_none() && late(Some(enter), self.plan.functions[function].start);
        } else if said.starts_with("timeouts.finish") {
            // A start that waits for room on a full disk counts from when it was decided.
            let waits = started.is_none() && self.full.is_some();
            asked = waits || late(started, self.plan.functions[function].finish);
        }
        let ends = match (state, &end) {
            (RunState::Completed, End::Completed(value)) => serde_json::from_str::<Value>(said).is_ok_and(|said| said == *value),
            (RunState::Failed, End::Failed(message)) => said == message,
            (RunState::Cancelled, _) => return self.hold(asked, || format!("{id} was cancelled by nobody: {said}")),
            _ => false,
        };
        self.hold(ends, || format!("{id} ended as {} with {said}; straight: {end:?}", state.word()));
        self.hold(recorded == wanted, || format!("{id} ended with {recorded} records instead of {wanted}"));
    }

    /// The run, if it is there and has not ended: as for the store, nothing is written about one that has.
    fn live(&mut self, id: RunId) -> Option<&mut Run> {
        self.runs.get_mut(&id).filter(|run| !run.state.is_terminal())
    }

    // The steps.

    /// The effect of a step begins. Answers what it is to do.
    pub fn effect(&mut self, id: RunId, key: &str, attempt: u32, seen: String, now: Millis) -> Errand {
        self.note(now, &format!("{id} effect of `{key}`, attempt {attempt}"));
        let nothing = Errand { breaks: false, takes_ms: 0 };
        let plan = Arc::clone(&self.plan);
        let (life, unclean) = (self.life, self.unclean.clone());
        let Some(run) = self.runs.get(&id) else {
            self.broken(format!("I5: an effect of {id}, which is not there"));
            return nothing;
        };
        // A cancel reaches a run that executes as soon as the engine hears that it is on disk.
        let cancelled = run.state == RunState::Cancelled && run.heard.is_none_or(|heard| heard == now);
        let (state, recorded) = (run.state, run.records.len());
        let due = run.straight.records.get(recorded).filter(|record| record.kind == Kind::Step).map(|record| record.key.clone());
        let failed = run.failed.get(key).copied().unwrap_or(0);
        let errand = plan.functions[run.function].versions[run.runs_on].step(key.split('#').next().unwrap_or_default());
        self.hold(cancelled || state == RunState::Running, || format!("an effect of {id} `{key}` while it is {}", state.word()));
        self.hold(due.as_deref() == Some(key), || format!("I5: an effect of {id} `{key}` where {due:?} is due"));
        self.hold(attempt == failed + 1, || format!("I4: {id} `{key}`: attempt {attempt} after {failed} that failed"));
        let effects = self.effects.entry((id, key.to_owned())).or_default();
        let again = effects.iter().any(|old| old.attempt == attempt && !unclean.contains(&old.life));
        let differs = effects.iter().any(|old| old.seen != seen);
        effects.push(Effect { life, attempt, seen });
        self.hold(!again, || format!("I4: {id} `{key}`: attempt {attempt} began again without a crash"));
        self.hold(!differs, || format!("{id} `{key}` sees another recorded value than before"));
        errand.map_or(nothing, |step| Errand { breaks: attempt <= step.breaks, takes_ms: step.takes_ms })
    }

    /// Whether the code between steps is to throw here.
    pub fn throws(&mut self, id: RunId, site: &str) -> bool {
        let Some(run) = self.runs.get(&id) else { return false };
        let most = self.plan.functions[run.function].versions[run.runs_on].throws(site).unwrap_or(0);
        let count = self.throws.entry((id, site.to_owned())).or_insert(0);
        let throws = *count < most;
        *count += u32::from(throws);
        throws
    }

    // The client and the engines.

    /// The client was told that a request was accepted under these ids.
    pub fn told(&mut self, request: usize, ids: &[EventId], now: Millis) {
        self.note(now, &format!("request {request} accepted: {ids:?}"));
        for (number, id) in ids.iter().enumerate() {
            let first = self.told.insert((request, number), *id).unwrap_or(*id);
            let accepted = |id: &EventId| self.events.get(id).map_or(Millis(0), |event| event.accepted);
            let over = accepted(id) >= accepted(&first).after(WINDOW);
            self.hold(first == *id || over, || format!("G7: event {number} of request {request} is {id}, and was {first}"));
            self.check_stored(request, number, *id);
        }
    }

    /// I1: what was acknowledged is stored.
    fn check_stored(&mut self, request: usize, number: usize, id: EventId) {
        let sent = self.plan.requests[request].events[number].clone();
        let stored = self.events.get(&id).map(planned);
        let same = stored.is_some_and(|stored| stored.name == sent.name && stored.data == sent.data);
        self.hold(same, || format!("I1: event {id} was acknowledged and is not on disk as it was sent"));
    }

    /// The versions of one edition's handlers, by hash.
    pub fn has_version(&mut self, hash: Arc<str>, function: usize, version: usize) {
        self.versions.insert(hash, (function, version));
    }

    /// The hash of the version that a run's journal was made with.
    pub fn version_of(&self, id: RunId) -> Option<Arc<str>> {
        let run = self.runs.get(&id)?;
        let made_with = (run.function, run.made_with?);
        self.versions.iter().find(|(_, version)| **version == made_with).map(|(hash, _)| Arc::clone(hash))
    }

    /// Whether a run that is not stored any more may have been deleted.
    pub fn is_swept(&self, id: RunId) -> bool {
        let kept = self.plan.kept.map(Span::seconds);
        let Some(((run, kept), swept)) = self.runs.get(&id).zip(kept).zip(self.swept) else { return false };
        run.ended.is_some_and(|ended| swept.since(ended.max(id.made_at())) > kept)
    }

    pub fn engine_starts(&mut self, edition: usize, now: Millis) {
        self.life += 1;
        self.edition = edition;
        self.refused.clear();
        for run in self.runs.values_mut() {
            run.known.get_or_insert(now);
            run.heard.get_or_insert(now);
        }
        self.note(now, &format!("engine {} starts", self.life));
    }

    pub fn engine_died(&mut self, end: Ending, now: Millis) {
        self.note(now, if end == Ending::Clean { "engine stopped" } else { "engine died" });
        if end != Ending::Clean {
            self.unclean.insert(self.life);
            for run in self.runs.values_mut().filter(|run| run.state == RunState::Running) {
                run.deaths += if end == Ending::Crashed { 3 } else { 1 };
            }
        }
    }

    /// Whether the engines' clock was ever set back.
    fn is_set_back(&self) -> bool {
        self.plan.deaths.iter().any(|death| death.jump_ms < 0) || self.plan.jumps.iter().any(|jump| jump.by_ms < 0)
    }

    /// I3: whether every run has ended, or is parked for a reason that holds.
    pub fn all_ended(&self) -> bool {
        self.runs.values().all(|run| run.state.is_terminal() || run.state == RunState::Parked)
    }

    /// What has to hold when everything is over.
    pub fn check_end(&mut self) {
        let told: Vec<((usize, usize), EventId)> = self.told.iter().map(|(at, id)| (*at, *id)).collect();
        for ((request, number), id) in told {
            self.check_stored(request, number, id);
        }
        let mut missing = Vec::new();
        for (id, run) in &self.runs {
            for record in run.records.iter().filter(|record| record.kind == Kind::Step) {
                let effects = self.effects.get(&(*id, record.key.to_string())).map(Vec::as_slice).unwrap_or_default();
                if (1..=record.attempts).any(|nth| !effects.iter().any(|effect| effect.attempt == nth)) {
                    missing.push(format!("I4: {id} `{}` did not have the effect of each of its attempts", record.key));
                }
            }
        }
        missing.into_iter().for_each(|what| self.broken(what));
    }
}

/// The event that a stored row was sent as.
fn planned(row: &EventRow) -> Event {
    let name = row.name.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    Event { name, data: serde_json::from_str(&row.data).unwrap_or_default(), later_ms: None }
}

fn run_function(runs: &BTreeMap<RunId, Run>, id: RunId) -> usize {
    runs.get(&id).map_or(usize::MAX, |run| run.function)
}

fn fits(wanted: &straight::Result, record: &Record) -> bool {
    match (wanted, &record.result) {
        (straight::Result::Anything, Recorded::Value(_)) => true,
        (straight::Result::Value(value), Recorded::Value(text)) => serde_json::from_str::<Value>(text).is_ok_and(|stored| stored == *value),
        (straight::Result::Failed(message), Recorded::Failed(failure)) => failure.message == *message,
        (straight::Result::Sleep { seconds }, Recorded::Until(until)) => until.0 - record.started.0 == seconds * 1_000,
        _ => false,
    }
}
