//! What gates let through: rate limits and throttles are never exceeded, and skip nothing without need; a key of a singleton
//! has one run; what is collected is in one run; what cancels does; the clock starts each time once.

use std::collections::BTreeMap;
use std::sync::Arc;

use stepwell::base::{EventId, Millis, RunId, Span};
use stepwell::rules::gates::GateKeys;
use stepwell::rules::{CronRow, EventRow, Gate, Outcome, PauseRow, RunRow, RunState, WindowRow};

use super::super::plan::{Collect, Cron, gates};
use super::{Facts, planned};

/// The name of the events by which the clock starts functions.
const SCHEDULED: &str = "stepwell/scheduled.timer";

/// What is known of gates.
#[derive(Default)]
pub(super) struct Passed {
    // Of the list that is being applied.
    outcomes: Vec<(EventId, Arc<str>, Outcome)>,
    joins: Vec<(EventId, RunId)>,
    created: Vec<(RunId, EventId)>,
    counted: Vec<(EventId, usize)>,
    /// What rate limits have let through, by function and key: from when on each counts.
    through: BTreeMap<(usize, String), Vec<Millis>>,
    /// When runs started first, by function and key of the throttle.
    starts: BTreeMap<(usize, Arc<str>), Vec<Millis>>,
    /// The events of runs that collect, in order.
    collected: BTreeMap<RunId, Vec<EventId>>,
    /// What each event has to cancel, and by which promise.
    doomed: Vec<(EventId, RunId, &'static str)>,
    /// Times for which the clock has started functions, by each of their schedules.
    ticks: BTreeMap<(usize, usize), Vec<Millis>>,
    /// Functions that are paused, and since when an engine knows it.
    paused: BTreeMap<usize, Option<Millis>>,
    /// When functions that were paused went on last.
    resumed: BTreeMap<usize, Millis>,
}

impl Facts {
    pub(super) fn function_of(&self, id: &str) -> Option<usize> {
        self.plan.functions.iter().position(|function| function.id == id)
    }

    pub(super) fn noted(&mut self, event: EventId, function: Arc<str>, outcome: Outcome, now: Millis) {
        self.note(now, &format!("event {event} at {function}: {outcome:?}"));
        self.passed.outcomes.push((event, function, outcome));
    }

    /// A row of a gate that counts is stored.
    pub(super) fn counted(&mut self, row: &WindowRow) {
        let Some(function) = self.function_of(&row.window.function) else { return };
        let Some(rate) = self.plan.functions[function].gates.rate.filter(|_| row.window.gate == Gate::RateLimit) else { return };
        self.passed.counted.push((row.entry, function));
        let name = (function, row.window.key.to_string());
        let through = self.passed.through.entry(name.clone()).or_default();
        through.push(Millis(row.value));
        through.sort_unstable();
        let (limit, period) = (rate.limit as usize, Span::seconds(rate.seconds));
        let over = through.windows(limit + 1).any(|few| few[limit] < few[0].after(period));
        self.hold(!over, || format!("I6: the rate limit of {name:?} let more than {limit} through in {period}"));
    }

    /// A run that may have gates was created.
    pub(super) fn created_by(&mut self, row: &RunRow, event: &EventRow, now: Millis) {
        self.passed.created.push((row.id, row.event));
        let Some(function) = self.function_of(&row.function) else { return };
        let gates = self.plan.functions[function].gates.clone();
        let data = planned(event).data;
        if self.is_plain(event) {
            let priority = if gates.priority { data["b"].as_i64().unwrap_or(0) * 60_000 } else { 0 };
            self.hold(row.priority_ms == priority, || {
                format!("{} has a head start of {} instead of {priority} ms", row.id, row.priority_ms)
            });
        }
        if let Some(value) = row.singleton() {
            let held = |(id, other): (&RunId, &super::Run)| {
                let same = other.function == function && other.gates.as_ref().is_some_and(|gates| gates.singleton.as_ref() == Some(value));
                (*id != row.id && same && !other.state.is_terminal()).then_some(*id)
            };
            let others: Vec<RunId> = self.runs.iter().filter_map(held).collect();
            self.passed.doomed.extend(others.into_iter().map(|run| (event.id, run, "I6")));
        }
        if row.collects().is_some() {
            // An event that had to be decided on again may have been accepted before the window closed, and come after that.
            let open = self.open_run(function, row.gates.as_deref(), now, row.id);
            // Nor is it in the way of a window that was opened once its own was over, and came to the disk before it.
            let first = |run: &RunId| self.passed.collected.get(run).and_then(|events| self.events.get(events.first()?));
            let open = open.filter(|run| first(run).is_none_or(|first| first.accepted < row.enter));
            let own = gates.is_batch() && event.ts > event.accepted;
            self.hold(own || open.is_none(), || format!("I6: {} was created for event {}, while {open:?} collects", row.id, event.id));
            self.passed.collected.insert(row.id, vec![event.id]);
            let wanted = match gates.collect {
                Some(Collect::Debounce { seconds, timeout, .. }) => {
                    let quiet = event.accepted.after(Span::seconds(seconds));
                    timeout.map_or(quiet, |timeout| quiet.min(event.accepted.after(Span::seconds(timeout)))).max(event.ts)
                }
                Some(Collect::Batch { seconds, .. }) if !own => event.accepted.after(Span::seconds(seconds)),
                _ => event.ts,
            };
            self.hold(row.enter == wanted, || format!("I9: {} enters at {} instead of {}", row.id, row.enter.rfc3339(), wanted.rfc3339()));
        }
    }

    /// Whether an event came from outside or was sent, so that it has passed the gates.
    fn is_plain(&self, event: &EventRow) -> bool {
        event.name.starts_with("thing/")
    }

    /// The run that collects for a key at a time.
    fn open_run(&self, function: usize, keys: Option<&GateKeys>, at: Millis, but: RunId) -> Option<RunId> {
        let key = keys?.collect.as_ref()?;
        // With its function its window is gone, and what was accepted before goes alone.
        if !self.plan.functions[function].is_there(self.edition) {
            return None;
        }
        let size = match self.plan.functions[function].gates.collect {
            Some(Collect::Batch { size, .. }) => size,
            _ => usize::MAX,
        };
        let is_open = |(id, run): (&RunId, &super::Run)| {
            let same = run.function == function && run.gates.as_ref().and_then(|gates| gates.collect.as_ref()) == Some(key);
            let events = self.passed.collected.get(id)?;
            let first = self.events.get(events.first()?)?;
            let own = size != usize::MAX && first.ts > first.accepted;
            let collects = run.state == RunState::Queued && run.started.is_none() && run.enter > at && events.len() < size && !own;
            (*id != but && same && collects).then_some(*id)
        };
        self.runs.iter().find_map(is_open)
    }

    /// The last event of a debounce wins.
    pub(super) fn retargeted(
        &mut self,
        id: RunId,
        event: EventId,
        enter: Millis,
        (keys, priority, gates): (&[Arc<str>], i64, Option<Arc<GateKeys>>),
        now: Millis,
    ) {
        let commit = self.commit;
        self.note(now, &format!("{id} has event {event} now, and enters at {}", enter.rfc3339()));
        self.passed.joins.push((event, id));
        let Some(row) = self.events.get(&event).cloned() else { return self.broken(format!("{id} got event {event}, which is not there")) };
        let Some(run) = self.runs.get(&id) else { return self.broken(format!("{id} got an event, and is not there")) };
        let (started, old, function, was) = (run.started, run.event, run.function, run.gates.clone());
        let declared = self.plan.functions[function].clone();
        let events = self.passed.collected.entry(id).or_default();
        events.push(event);
        let since = events.first().and_then(|first| self.events.get(first)).map_or(Millis(0), |first| first.accepted);
        self.hold(started.is_none(), || format!("{id} got event {event} after its start"));
        if event < old {
            // One that came by another way, and was accepted before: the newer one stays.
            return;
        }
        let Some(Collect::Debounce { seconds, timeout, .. }) = declared.gates.collect else {
            return self.broken(format!("{id} got event {event}, its function has no debounce"));
        };
        let quiet = row.accepted.after(Span::seconds(seconds));
        let wanted = timeout.map_or(quiet, |timeout| quiet.min(since.after(Span::seconds(timeout)))).max(row.ts);
        self.hold(enter == wanted, || format!("I9: {id} enters at {} instead of {}", enter.rfc3339(), wanted.rfc3339()));
        let same = was.as_ref().map(|gates| gates.collect.clone()) == gates.as_ref().map(|gates| gates.collect.clone());
        self.hold(same, || format!("{id} got event {event}, which has another key: {gates:?} instead of {was:?}"));
        let data = planned(&row).data;
        let values: Vec<String> = declared.limits.iter().map(|limit| limit.value(&data)).collect();
        let stored: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
        self.hold(values == stored, || format!("run {id} has keys {stored:?} instead of {values:?}"));
        if let Some(run) = self.runs.get_mut(&id) {
            run.former.push((run.event, None));
            (run.event, run.enter, run.keys, run.priority, run.gates) = (event, enter, values, priority, gates);
            (run.known, run.created_in) = (None, commit);
        }
    }

    /// An event joins a batch.
    pub(super) fn joined(&mut self, id: RunId, event: EventId, enter: Option<Millis>, now: Millis) {
        let commit = self.commit;
        self.note(now, &format!("{id} has event {event} too, and enters at {enter:?}"));
        self.passed.joins.push((event, id));
        let Some(run) = self.runs.get_mut(&id) else { return self.broken(format!("{id} got an event, and is not there")) };
        let (started, function, closes) = (run.started, run.function, run.enter);
        if let Some(enter) = enter {
            run.enter = enter;
            run.filled = Some(now);
            (run.known, run.created_in) = (None, commit);
        }
        let accepted = self.events.get(&event).map_or(Millis(0), |event| event.accepted);
        let events = self.passed.collected.entry(id).or_default();
        events.push(event);
        let count = events.len();
        let Some(Collect::Batch { size, key, .. }) = self.plan.functions[function].gates.collect else {
            return self.broken(format!("{id} got event {event}, its function has no batch"));
        };
        let value = |event: &EventId| self.events.get(event).map(|row| gates::value(key, &planned(row).data));
        let alike = self.passed.collected[&id].iter().all(|other| value(other) == value(&event));
        self.hold(started.is_none(), || format!("{id} got event {event} after its start"));
        self.hold(accepted < closes, || format!("I9: {id} got event {event} after its time"));
        self.hold(count <= size, || format!("I6: {id} has {count} events; its size is {size}"));
        self.hold(enter.is_some() == (count == size), || format!("{id} with {count} of {size} events enters at {enter:?}"));
        self.hold(alike, || format!("{id} got event {event}, which has another key"));
    }

    /// What became of an event at a function with gates: whether it has passed, and whether it has a run of its own.
    pub(super) fn verdict(&mut self, id: EventId, function: usize) -> (bool, bool) {
        let name = self.plan.functions[function].id.clone();
        let is_its = |run: &&RunId| self.runs.get(*run).is_some_and(|run| run.function == function);
        let created = self.created_for(id).iter().filter(is_its).count();
        let joined = self.passed.joins.iter().filter(|(event, run)| *event == id && is_its(&run)).count();
        let skip = self.passed.outcomes.iter().find(|(event, of, outcome)| {
            *event == id && **of == *name && matches!(outcome, Outcome::RateLimited { .. } | Outcome::SingletonSkipped(_))
        });
        let skip = skip.map(|(.., outcome)| *outcome);
        self.hold(created + joined + usize::from(skip.is_some()) == 1, || {
            format!("I2: event {id} has {created} runs of {name}, joined {joined}, and was skipped: {skip:?}")
        });
        let gates = self.plan.functions[function].gates.clone();
        let Some(event) = self.events.get(&id).cloned() else { return (false, false) };
        let data = planned(&event).data;
        match skip {
            Some(Outcome::RateLimited { until }) => {
                let Some(rate) = gates.rate else {
                    self.broken(format!("event {id} was skipped by a rate limit that {name} has not"));
                    return (false, false);
                };
                let period = Span::seconds(rate.seconds);
                let through = self.passed.through.get(&(function, gates::value(rate.key, &data)));
                let counts = |at: &&Millis| at.after(period) > event.accepted;
                let within = through.map_or(0, |through| through.iter().filter(counts).count());
                self.hold(within >= rate.limit as usize, || {
                    format!("I6: event {id} was skipped until {} where {within} of {} had come through", until.rfc3339(), rate.limit)
                });
            }
            Some(Outcome::SingletonSkipped(holder)) => {
                let run = self.runs.get(&holder);
                let held = run.is_some_and(|run| run.function == function && run.ended_at.is_none_or(|ended| ended >= event.accepted));
                self.hold(held, || format!("event {id} was skipped for {holder}, which has ended"));
            }
            _ => {
                let counts = self.passed.counted.contains(&(id, function));
                self.hold(counts == gates.rate.is_some(), || {
                    format!("I6: event {id} came through the rate limit of {name} without a count")
                });
            }
        }
        (skip.is_none(), created == 1)
    }

    /// Whether anything was said about an event at a function in the list that is being applied.
    pub(super) fn is_said(&self, event: EventId, function: usize) -> bool {
        let name = &self.plan.functions[function].id;
        let is_its = |run: &RunId| self.runs.get(run).is_some_and(|run| run.function == function);
        self.created_for(event).iter().any(is_its)
            || self.passed.joins.iter().any(|(of, run)| *of == event && is_its(run))
            || self.passed.outcomes.iter().any(|(of, at, _)| *of == event && **at == **name)
    }

    /// The runs that came with an event.
    pub(super) fn created_for(&self, event: EventId) -> Vec<RunId> {
        // By the end of its list a debounce may have a later event of the same list.
        self.passed.created.iter().filter(|(_, by)| *by == event).map(|(run, _)| *run).collect()
    }

    /// The function that the clock has started with an event, with a run that came with it. One of a gate that collects or skips may
    /// have had its turn without one.
    pub(super) fn ticked(&mut self, id: EventId) -> Option<usize> {
        let row = self.events.get(&id).filter(|row| &*row.name == SCHEDULED).cloned()?;
        let of_run = |run: RunId| self.runs.get(&run).map(|run| run.function);
        let started = self.created_for(id).first().copied().and_then(of_run);
        let joined = self.passed.joins.iter().find(|(event, _)| *event == id).and_then(|(_, run)| of_run(*run));
        let noted = self.passed.outcomes.iter().find(|(event, ..)| *event == id).and_then(|(_, function, _)| self.function_of(function));
        let function = started.or(joined).or(noted)?;
        let told = planned(&row).data;
        let Some(schedule) = self.plan.functions[function].gates.crons.iter().position(|cron| told["cron"] == cron.schedule()) else {
            self.broken(format!("I9: the clock started function {function} by a schedule that is not its own: {told}"));
            return started;
        };
        let ticks = self.passed.ticks.entry((function, schedule)).or_default();
        let again = ticks.contains(&row.ts);
        ticks.push(row.ts);
        self.hold(!again, || format!("I9: the clock started function {function} twice for {} by {}", row.ts.rfc3339(), told["cron"]));
        self.hold(row.ts <= row.accepted, || format!("I9: the clock started function {function} before {}", row.ts.rfc3339()));
        started
    }

    /// Where a function stands in one of its schedules.
    pub(super) fn stands(&mut self, row: &CronRow, now: Millis) {
        let (function, schedule, last, due) = (&row.function, &row.schedule, row.last.rfc3339(), row.due.map(Millis::rfc3339));
        self.note(now, &format!("{function} stands at {last} in {schedule} and is due at {due:?}"));
    }

    /// A run starts for the first time: its throttle lets it.
    pub(super) fn check_throttle(&mut self, id: RunId, at: Millis) {
        let Some(run) = self.runs.get(&id) else { return };
        let Some(key) = run.gates.as_ref().and_then(|gates| gates.throttle.clone()) else { return };
        let function = run.function;
        let gates = &self.plan.functions[function].gates;
        let Some((rate, burst)) = gates.throttle else { return };
        // Where an edit changes it, a bucket lacks as many starts as before; so two starts are never closer than the quicker rule says.
        let rates = std::iter::once(rate).chain(gates.rethrottled.map(|(_, rate)| rate));
        let interval_us = rates.map(|rate| rate.seconds * 1_000_000 / rate.limit).min().unwrap_or_default();
        let starts = self.passed.starts.entry((function, Arc::clone(&key))).or_default();
        // A start counts from when it was decided. One that waits for room on a full disk comes to it after later ones.
        starts.insert(starts.partition_point(|other| *other <= at), at);
        // It counts from the beginning of its millisecond, so the last of several may seem to come one early.
        let is_early = |(nth, first): &(usize, &Millis)| {
            let after = starts[nth + 1..].iter().zip(1_i64..);
            let close = |(last, between): (&Millis, i64)| (last.0 - first.0) * 1_000 + 999 < (between - burst) * interval_us;
            after.into_iter().any(close)
        };
        let early = starts.iter().enumerate().find(is_early).map(|(_, first)| *first);
        let is_set_back = self.is_set_back();
        self.hold(early.is_none() || is_set_back, || {
            format!("I6: {id} started at {}, and too many since {early:?} for its throttle", at.rfc3339())
        });
    }

    /// A function was paused, or resumed.
    pub(super) fn paused(&mut self, row: &PauseRow, now: Millis) {
        self.note(now, &format!("{} {}", row.function, if row.paused { "is paused" } else { "goes on" }));
        let Some(function) = self.function_of(&row.function) else { return };
        if row.paused {
            self.passed.paused.entry(function).or_default();
        } else {
            self.passed.paused.remove(&function);
            self.passed.resumed.insert(function, row.since);
        }
    }

    /// From when on `timeouts.start` counts for a run that enters the queue at `enter`: the time in which its function was paused
    /// does not.
    pub(super) fn may_start_from(&self, function: usize, enter: Millis) -> Millis {
        self.passed.resumed.get(&function).map_or(enter, |resumed| enter.max(*resumed))
    }

    /// An engine was told that a function is paused.
    pub(super) fn heard_of_pause(&mut self, row: &PauseRow, now: Millis) {
        let Some(function) = self.function_of(&row.function) else { return };
        if let Some(heard) = self.passed.paused.get_mut(&function) {
            heard.get_or_insert(now);
        }
    }

    /// A new engine knows of every pause.
    pub(super) fn pauses_are_known(&mut self, now: Millis) {
        for heard in self.passed.paused.values_mut() {
            heard.get_or_insert(now);
        }
    }

    /// A run starts for the first time: its function is not paused.
    pub(super) fn check_pause(&mut self, id: RunId, at: Millis) {
        let Some(run) = self.runs.get(&id) else { return };
        let heard = self.passed.paused.get(&run.function).copied().flatten();
        self.hold(heard.is_none_or(|heard| at <= heard), || format!("P1: {id} began while its function was paused"));
    }

    /// The clock has left out nothing that it was to make up for.
    pub(super) fn check_ticks(&mut self) {
        for ((function, schedule), mut ticks) in self.passed.ticks.clone() {
            let Cron { seconds, missed, .. } = self.plan.functions[function].gates.crons[schedule];
            ticks.sort_unstable();
            let wrong = ticks.iter().find(|at| at.0 % (seconds * 1_000) != 0).copied();
            self.hold(wrong.is_none(), || format!("I9: the clock started function {function} for {wrong:?}"));
            let gap = ticks.windows(2).find(|two| two[1].since(two[0]) != Span::seconds(seconds)).map(<[Millis]>::to_vec);
            self.hold(missed != "run-all" || gap.is_none(), || {
                format!("I2: the clock left out starts of function {function}, each {seconds} s: {gap:?}")
            });
        }
    }

    /// An event has come: which runs it has to cancel.
    pub(super) fn check_cancels(&mut self, event: &EventRow) {
        if !self.is_plain(event) {
            return;
        }
        let other = planned(event);
        let mut doomed = Vec::new();
        let listens = |run: &super::Run| !self.plan.functions[run.function].gates.cancel_on.is_empty();
        for (id, run) in self.runs.iter().filter(|(_, run)| !run.state.is_terminal() && listens(run)) {
            let known = run.known.is_some_and(|known| known < event.accepted);
            let Some(own) = self.events.get(&run.event).map(|row| planned(row).data) else { continue };
            let function = &self.plan.functions[run.function];
            let made = run.created;
            let fits = function.gates.cancel_on.iter().any(|on| {
                let in_time = on.timeout.is_none_or(|timeout| event.accepted <= made.after(Span::seconds(timeout)));
                on.event == other.name && on.how.fits(&own, &other.data) && in_time
            });
            if fits && known && function.is_there(self.edition) && run.event != event.id {
                doomed.push((event.id, *id, "G29"));
            }
        }
        self.passed.doomed.extend(doomed);
    }

    /// After a flush: what was to be cancelled is.
    pub fn check_doomed(&mut self) {
        for (event, run, promise) in std::mem::take(&mut self.passed.doomed) {
            let ended = self.runs.get(&run).is_none_or(|run| run.state.is_terminal());
            self.hold(ended, || format!("{promise}: event {event} did not cancel {run}"));
        }
    }

    /// Whether a run may be cancelled for this reason.
    pub(super) fn may_be_cancelled(&self, id: RunId, reason: &str) -> bool {
        let Some(run) = self.runs.get(&id) else { return false };
        if let Some(by) = reason.strip_prefix("singleton: run ").and_then(|rest| rest.split(' ').next()) {
            let by = by.parse::<RunId>().ok().and_then(|by| self.runs.get(&by));
            let key = |run: &super::Run| run.gates.as_ref().and_then(|gates| gates.singleton.clone());
            return by.is_some_and(|by| by.function == run.function && key(by).is_some() && key(by) == key(run));
        }
        let Some(event) = reason.strip_prefix("cancel_on: ").and_then(|rest| rest.split(' ').nth(1)) else { return false };
        let Some(event) = event.parse::<EventId>().ok().and_then(|event| self.events.get(&event)) else { return false };
        let own = |event: &EventId| self.events.get(event).map(|row| planned(row).data);
        let other = planned(event);
        let gates = &self.plan.functions[run.function].gates;
        // Of a debounce, an event is not compared with of which the engine had not been told as the other one came.
        let former = run.former.iter().filter(|(_, told)| told.is_none_or(|told| told >= event.accepted));
        let all: Vec<_> = former.map(|(former, _)| former).chain([&run.event]).filter_map(own).collect();
        gates.cancel_on.iter().any(|on| on.event == other.name && all.iter().any(|own| on.how.fits(own, &other.data)))
    }

    /// A list is whole.
    pub(super) fn list_ends(&mut self) {
        let passed = &mut self.passed;
        passed.outcomes.clear();
        passed.joins.clear();
        passed.created.clear();
        passed.counted.clear();
    }

    /// The events of a run beside its own, as they are stored.
    pub fn same_batch(&self, id: RunId, stored: &[EventId]) -> bool {
        let is_batch = self.runs.get(&id).is_some_and(|run| self.plan.functions[run.function].gates.is_batch());
        let mine = self.passed.collected.get(&id).filter(|_| is_batch).map(Vec::as_slice).unwrap_or_default();
        let mut beside: Vec<EventId> = mine.iter().skip(1).copied().collect();
        let mut stored = stored.to_vec();
        beside.sort_unstable();
        stored.sort_unstable();
        beside == stored
    }
}
