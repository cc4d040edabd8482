//! What has happened in a world, seen from outside the engine: what is on the disk, what its steps did, what the client
//! was told. Each new fact is held against what was promised; `guarantees.md` numbers the promises I1 to I9.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use stepwell::base::{EventId, Millis, RunId, Span};
use stepwell::rules::recovery::POISON_REASON;
use stepwell::rules::row::Recorded;
use stepwell::rules::{Ending, EventRow, Hold, Kind, List, Record, RunRow, RunState, Write};

use super::plan::{Event, Function, Plan};
use super::program::Break;
use super::straight::{self, End, Straight};

/// How long a full disk has effects: longer than the engine waits until it tries again.
const FULL_WAIT: Span = Span::seconds(3);

/// All facts of one world.
pub struct Facts {
    plan: Arc<Plan>,
    events: BTreeMap<EventId, EventRow>,
    senders: HashMap<Arc<str>, EventId>,
    /// Idempotency keys that are taken, by function, and the event that took them.
    once: HashMap<(usize, String), EventId>,
    pub runs: BTreeMap<RunId, Run>,
    effects: HashMap<(RunId, String), Vec<Effect>>,
    throws: HashMap<(RunId, String), u32>,
    /// What the client was told: (the request, the event's number in it) and the id.
    told: BTreeMap<(usize, usize), EventId>,
    /// The number of the flush that is being applied.
    flush: u64,
    /// When the disk was full last.
    full: Option<Millis>,
    /// The engines so far, and which of them died without a clean stop.
    life: u32,
    unclean: HashSet<u32>,
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
    created_at: Millis,
    started: Option<Millis>,
    ended: Option<Millis>,
    wake: Option<Millis>,
    /// When it came into its state.
    since: Millis,
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
    pub fn new(plan: Arc<Plan>) -> Facts {
        Facts {
            plan,
            events: BTreeMap::new(),
            senders: HashMap::new(),
            once: HashMap::new(),
            runs: BTreeMap::new(),
            effects: HashMap::new(),
            throws: HashMap::new(),
            told: BTreeMap::new(),
            flush: 0,
            full: None,
            life: 0,
            unclean: HashSet::new(),
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

    /// A flush was refused.
    pub fn full(&mut self, now: Millis) {
        if self.full.replace(now).is_none_or(|before| now.since(before) > FULL_WAIT) {
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
            Write::Start { run, at, .. } => self.started(run, at, now),
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
            Write::Park { run, reason } => {
                self.note(now, &format!("{run} parked: {reason}"));
                let deaths = self.live(run).map_or(0, |run| run.deaths);
                self.hold(&*reason == POISON_REASON && deaths >= 9, || {
                    format!("I3: {run} was parked after deaths that weigh {deaths}: {reason}")
                });
                self.moved(run, RunState::Parked, None, now);
            }
            Write::End { run, state, at, output, error, reason } => {
                let said = output.as_deref().or(error.as_ref().map(|error| error.message.as_str())).or(reason.as_deref());
                let said = said.unwrap_or_default().to_owned();
                self.note(now, &format!("{run} {}: {said}", state.word()));
                self.ended(run, state, &said, at, now);
            }
            Write::TakeEventKey { .. } | Write::TakeIdempotency { .. } | Write::Log { .. } | Write::PutSource(_) | Write::Sweep { .. } => {}
        }
    }

    fn event(&mut self, row: EventRow, now: Millis) {
        self.note(now, &format!("event {} {} {}", row.id, row.name, row.data));
        if let Some(sender) = row.sender_id.clone()
            && let Some(first) = self.senders.insert(sender, row.id)
        {
            self.broken(format!("I2: event {} is the same as {first}", row.id));
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
        let run = Run {
            function,
            event: row.event,
            state: row.state,
            keys,
            enter: row.enter,
            created_in: self.flush,
            created_at: now,
            started: None,
            ended: None,
            wake: None,
            since: now,
            records: Vec::new(),
            failed: HashMap::new(),
            straight: straight::evaluate(&declared.program, declared.attempts, input),
            cancelled: false,
            deaths: 0,
        };
        self.runs.insert(row.id, run);
    }

    /// I2: an event and the runs that it starts come together.
    fn check_planned(&mut self, id: EventId) {
        let Some(row) = self.events.get(&id) else { return };
        let event = planned(row);
        let plan = Arc::clone(&self.plan);
        let mut wanted = Vec::new();
        for (at, function) in plan.functions.iter().enumerate().filter(|(_, function)| function.starts_on(&event)) {
            // G8: one run for each value of an idempotency key.
            let first = function.once(&event).is_none_or(|key| *self.once.entry((at, key)).or_insert(id) == id);
            if first {
                wanted.push(at);
            }
        }
        let mut found: Vec<usize> = self.runs.values().filter(|run| run.event == id).map(|run| run.function).collect();
        found.sort_unstable();
        self.hold(wanted == found, || format!("I2: event {id} started functions {found:?} instead of {wanted:?}"));
    }

    fn started(&mut self, id: RunId, at: Millis, now: Millis) {
        self.note(now, &format!("{id} started"));
        self.check_turn(id, at);
        let Some(run) = self.runs.get_mut(&id) else { return self.broken(format!("{id} started, which is not there")) };
        let (state, wake, enter) = (run.state, run.wake, run.enter);
        let (function, first) = (run.function, run.started.is_none());
        run.state = RunState::Running;
        run.since = now;
        run.started.get_or_insert(at);
        let waits = matches!(state, RunState::Sleeping | RunState::BackingOff);
        self.hold(waits || state == RunState::Queued, || format!("{id} started while {}", state.word()));
        self.hold(at <= now, || format!("I9: {id} started at {}, which is to come", at.rfc3339()));
        self.hold(enter <= at, || format!("I9: {id} started before its event's time"));
        self.hold(!waits || wake.is_some_and(|wake| wake <= at), || format!("I9: {id} went on before its time {wake:?}"));
        let limit = self.plan.functions[function].start.filter(|_| first).map(Span::seconds);
        self.hold(limit.is_none_or(|limit| at < enter.after(limit)), || format!("{id} started after its timeouts.start"));
        self.check_slots(id);
    }

    /// I7: nobody with the same slots who came before, or has begun already, is left behind.
    fn check_turn(&mut self, id: RunId, at: Millis) {
        let Some(run) = self.runs.get(&id).filter(|run| run.started.is_none()) else { return };
        // A start that found the disk full is tried again later: one that was admitted after it may come before it on disk,
        // unless it needs the same slot.
        let alone = self.plan.functions[run.function].limits.iter().any(|limit| limit.limit == 1);
        if !alone && self.full.is_some_and(|full| at.since(full) < FULL_WAIT) {
            return;
        }
        let mut passed = None;
        for (other_id, other) in &self.runs {
            let alike = *other_id != id && other.function == run.function && other.keys == run.keys;
            if !alike {
                continue;
            }
            let known = other.created_at < at || other.created_in <= run.created_in;
            let before = (other.enter, *other_id) < (run.enter, id) && other.enter <= at;
            // One whose time to start is over is about to be cancelled.
            let start = self.plan.functions[other.function].start;
            let overdue = start.is_some_and(|start| at >= other.enter.after(Span::seconds(start)));
            let is_first = other.started.is_none() && other.state == RunState::Queued && known && before && !overdue;
            let due = match other.state {
                RunState::Sleeping | RunState::BackingOff => other.wake.is_some_and(|wake| wake < at) && other.since < at,
                _ => false,
            };
            if is_first || (due && other.started.is_some()) {
                passed = Some((*other_id, is_first));
            }
        }
        if let Some((other, first)) = passed {
            let why = if first { "came before it" } else { "had begun before and was due" };
            self.broken(format!("I7: {id} began before {other}, which {why}"));
        }
    }

    /// I6: no limit is exceeded.
    fn check_slots(&mut self, id: RunId) {
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.runs.get(&id) else { return };
        let mut over = Vec::new();
        for (number, limit) in plan.functions[run.function].limits.iter().enumerate() {
            let scope = scope(&plan.functions[run.function], number);
            let holders = self.runs.iter().filter(|(_, other)| {
                let holds = match limit.hold {
                    Hold::Active => other.state == RunState::Running,
                    Hold::Run => other.started.is_some() && !other.state.is_terminal() && other.state != RunState::Parked,
                };
                let function = &plan.functions[other.function];
                let same = |at: usize| scope == self::scope(function, at) && other.keys[at] == run.keys[number];
                holds && (0..function.limits.len()).any(same)
            });
            let holders: Vec<RunId> = holders.map(|(id, _)| *id).collect();
            if holders.len() > limit.limit as usize {
                over.push(format!("I6: {holders:?} hold {scope} for {} at once; the limit is {}", run.keys[number], limit.limit));
            }
        }
        over.into_iter().for_each(|what| self.broken(what));
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
        self.hold(state == RunState::Running, || format!("{id} recorded `{}` while {}", record.key, state.word()));
        self.hold(record.index as usize == at, || format!("{id} recorded `{}` as {} instead of {at}", record.key, record.index));
        let Some(wanted) = wanted else { return self.broken(format!("{id} recorded `{}` after its straight end", record.key)) };
        let same = *wanted.key == *record.key && wanted.kind == record.kind;
        self.hold(same, || format!("{id} recorded `{}` instead of `{}`", record.key, wanted.key));
        self.hold(fits(&wanted.result, &record), || format!("{id} `{}`: {:?} instead of {:?}", record.key, record.result, wanted.result));
        self.hold(record.started <= record.ended && record.ended <= now, || format!("{id} `{}`: its times are out of order", record.key));
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
        let step = function.program.step(key.split('#').next().unwrap_or_default());
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
        run.since = now;
        let slept = run.records.last().map(|record| record.result.clone());
        self.hold(before == RunState::Running, || format!("{id} became {} while {}", state.word(), before.word()));
        if state == RunState::Sleeping {
            let until = wake.map(Recorded::Until);
            self.hold(until.is_some() && slept == until, || format!("{id} sleeps until {wake:?}, its record says {slept:?}"));
        }
    }

    fn ended(&mut self, id: RunId, state: RunState, said: &str, at: Millis, now: Millis) {
        let Some(run) = self.live(id) else { return };
        run.state = state;
        run.ended = Some(now);
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
        // A cancel reaches a run that executes a moment after it is on disk.
        let cancelled = run.state == RunState::Cancelled && run.ended == Some(now);
        let (state, recorded) = (run.state, run.records.len());
        let due = run.straight.records.get(recorded).filter(|record| record.kind == Kind::Step).map(|record| record.key.clone());
        let failed = run.failed.get(key).copied().unwrap_or(0);
        let errand = plan.functions[run.function].program.step(key.split('#').next().unwrap_or_default());
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
        let most = self.plan.functions[run.function].program.throws(site).unwrap_or(0);
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
            let first = *self.told.entry((request, number)).or_insert(*id);
            self.hold(first == *id, || format!("G7: event {number} of request {request} is {id}, and was {first}"));
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

    pub fn engine_starts(&mut self, now: Millis) {
        self.life += 1;
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

fn scope(function: &Function, number: usize) -> String {
    function.limits[number].shared.clone().unwrap_or_else(|| format!("{}#{number}", function.id))
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
