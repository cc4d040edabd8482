//! What runs have to do with each other: a wait comes to one thing, once; nothing that fits it is lost; each event of a
//! script is sent once; nothing that a run has invoked goes on without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use stepwell::base::{EventId, Id, Millis, RunId, Span};
use stepwell::rules::row::Recorded;
use stepwell::rules::{EventRow, Kind, Record, Resolution, RunState, WaitKey, WaitRow, WaitState, What};

use super::super::program::{Match, On};
use super::super::straight::{Opens, Result};
use super::{Facts, planned};

/// Events by number of their name, with their data.
type Events = Vec<(usize, Value)>;

/// What is known of waits, children and signals.
#[derive(Default)]
pub(super) struct Talks {
    waits: BTreeMap<WaitKey, WaitRow>,
    /// In which commit each wait was opened.
    opened_in: BTreeMap<WaitKey, u64>,
    /// The runs that wait for others, by those.
    parents: BTreeMap<RunId, RunId>,
    /// Children that their parents wait for no longer.
    given_up: BTreeSet<RunId>,
    /// Runs that were waited for as the waits of their parents were dropped by the list that is being applied.
    dropped: Vec<RunId>,
    signals: Vec<(usize, i64)>,
    /// What somebody outside is about to invoke: the function, with its data.
    calls: Vec<(usize, Value)>,
    /// The events of the runs that came of that.
    called: BTreeSet<EventId>,
    /// What has been recorded as sent in the list that is being applied.
    sent: Vec<(RunId, Events, Record)>,
    /// The starts of each run, and how many there were when a wait of it came to something last.
    starts: BTreeMap<RunId, (u32, Option<u32>)>,
}

impl Facts {
    /// A signal is about to be sent.
    pub fn signal(&mut self, number: usize, value: i64, now: Millis) {
        self.note(now, &format!("signal{number} with {value}"));
        self.talks.signals.push((number, value));
    }

    /// Somebody outside is about to invoke a function.
    pub fn call(&mut self, function: usize, data: Value, now: Millis) {
        self.note(now, &format!("function {function} is invoked with {data}"));
        self.talks.calls.push((function, data));
    }

    /// Nothing came of an invocation from outside.
    pub fn no_call(&mut self, function: usize, data: &Value) {
        self.talks.calls.retain(|(of, with)| *of != function || with != data);
    }

    /// Whether an event is that of an invocation from outside.
    pub(super) fn is_called(&self, event: EventId) -> bool {
        self.talks.called.contains(&event)
    }

    /// A run has recorded that it has sent something.
    pub(super) fn note_sent(&mut self, run: RunId, wanted: &Result, record: &Record) {
        match wanted {
            Result::Signal(number, value) => self.talks.signals.push((*number, *value)),
            Result::Sent(wanted) => self.talks.sent.push((run, wanted.clone(), record.clone())),
            _ => {}
        }
    }

    /// After a list: what scripts have sent has come with their records, as they say.
    pub(super) fn check_sent(&mut self, events: &[EventRow]) {
        let is_script = |event: &&EventRow| event.sender_id.as_deref().is_some_and(|id| id.contains('.'));
        let mut sent: Vec<&EventRow> = events.iter().filter(is_script).collect();
        for (run, wanted, record) in std::mem::take(&mut self.talks.sent) {
            let mine: Vec<&EventRow> = sent.drain(..wanted.len().min(sent.len())).collect();
            let found: Vec<(usize, Value)> = mine.iter().map(|row| (planned(row).name, planned(row).data)).collect();
            self.hold(found == wanted, || format!("{run} `{}` sent {found:?} instead of {wanted:?}", record.key));
            let ids: Vec<String> = mine.iter().map(|row| row.id.to_string()).collect();
            let recorded = match &record.result {
                Recorded::Value(text) => serde_json::from_str::<Vec<String>>(text).unwrap_or_default(),
                _ => Vec::new(),
            };
            self.hold(ids == recorded, || format!("{run} `{}` got the ids {recorded:?} for the events {ids:?}", record.key));
        }
        let left: Vec<EventId> = sent.iter().map(|row| row.id).collect();
        self.hold(left.is_empty(), || format!("{left:?} were sent by scripts without a record"));
    }

    pub(super) fn wait_opened(&mut self, row: WaitRow, now: Millis) {
        let WaitKey { run: id, key, kind } = row.wait.clone();
        self.note(now, &format!("{id} waits as `{key}` for {} until {:?}", row.what.words(), row.until.map(Millis::rfc3339)));
        let plan = Arc::clone(&self.plan);
        let Some(run) = self.runs.get(&id) else { return self.broken(format!("{id} waits, which is not there")) };
        let state = run.state;
        let wanted =
            run.straight.due.iter().find(|wanted| wanted.kind == kind && *wanted.key == *key).and_then(|wanted| wanted.opens.clone());
        let was = self.talks.waits.get(&row.wait).map(|old| old.state.clone());
        self.hold(state == RunState::Running, || format!("{id} opened `{key}` while {}", state.word()));
        self.hold(was.is_none(), || format!("{id} opened `{key}` again, which is {was:?}"));
        let (same, seconds) = match (&wanted, &*row.what) {
            (Some(Opens::Wait { on, seconds }), what) => (is_for(on, what), *seconds),
            (Some(Opens::Invoke { function, seconds, .. }), What::Run(child)) => {
                self.talks.parents.insert(*child, id);
                (plan.functions.iter().any(|declared| declared.id == *function), *seconds)
            }
            _ => (false, None),
        };
        let until = seconds.map(|seconds| row.opened.after(Span::seconds(seconds)));
        self.hold(same && until == row.until, || format!("{id} waits as `{key}` for {:?} instead of {wanted:?}", row.what));
        self.talks.opened_in.insert(row.wait.clone(), self.commit);
        self.talks.waits.insert(row.wait.clone(), row);
    }

    /// The function that was invoked with this event, which has just come.
    pub(super) fn invoked(&mut self, event: EventId) -> Option<usize> {
        let row = self.events.get(&event).filter(|row| &*row.name == "stepwell/invoked")?;
        let data = planned(row).data;
        let (child, run) = self.runs.iter().find(|(_, run)| run.event == event)?;
        let (child, function) = (*child, run.function);
        let parent = self.talks.parents.get(&child).copied();
        let call = self.talks.calls.iter().position(|(of, with)| *of == function && *with == data);
        if let (None, Some(call)) = (parent, call) {
            self.talks.calls.remove(call);
            self.talks.called.insert(event);
            return Some(function);
        }
        let key = self.talks.waits.values().find(|row| *row.what == What::Run(child)).map(|row| row.wait.key.clone());
        let wanted = parent.zip(key).and_then(|(parent, key)| {
            let due = self.runs.get(&parent)?.straight.due.iter().find(|wanted| wanted.kind == Kind::Invoke && *wanted.key == *key)?;
            due.opens.clone()
        });
        let Some(Opens::Invoke { function: wanted, data: wanted_data, .. }) = wanted else {
            self.broken(format!("I2: run {child} was invoked by nobody"));
            return None;
        };
        let same = self.plan.functions[function].id == wanted && data == wanted_data;
        self.hold(same, || format!("run {child} was invoked with {data} instead of `{wanted}` with {wanted_data}"));
        Some(function)
    }

    pub(super) fn wait_resolved(&mut self, wait: &WaitKey, with: Resolution, now: Millis) {
        let WaitKey { run: id, key, .. } = wait;
        self.note(now, &format!("{id} `{key}` comes to {with:?}"));
        let Some(row) = self.talks.waits.get(wait).cloned() else {
            return self.broken(format!("W1: {id} `{key}` was resolved, which is not open"));
        };
        if let (Resolution::Failed(_), WaitState::Resolved(Resolution::TimedOut | Resolution::Failed(_)), What::Run(child)) =
            (&with, &row.state, &*row.what)
            && self.talks.dropped.contains(child)
        {
            // The same list says what it has come to and cancels what it was for; the first of the two counts.
            return;
        }
        self.hold(row.state == WaitState::Open, || format!("W1: {id} `{key}` was resolved twice: {:?}, then {with:?}", row.state));
        match (&with, &*row.what) {
            (Resolution::Event(event), What::Events(_)) => {
                let fits = self.may_have(wait, *event, self.comes_to(wait, *event));
                self.hold(fits, || format!("W1: {id} `{key}` got event {event}, which does not fit it"));
            }
            (Resolution::TimedOut, what) => {
                let over = row.until.is_some_and(|until| until <= now);
                self.hold(over, || format!("I9: {id} `{key}` was given up at {} instead of {:?}", now.rfc3339(), row.until));
                match what {
                    What::Run(child) => {
                        self.talks.given_up.insert(*child);
                        self.talks.dropped.push(*child);
                    }
                    _ => self.check_none_lost(&row),
                }
            }
            (Resolution::Value(value), What::Signal(name)) => {
                let (number, value) = (name.trim_start_matches("signal").parse().unwrap_or(usize::MAX), value.parse().unwrap_or(-1));
                let sent = self.talks.signals.contains(&(number, value));
                self.hold(sent, || format!("W1: {id} `{key}` got {value}, which nobody sent"));
            }
            (Resolution::Value(_) | Resolution::Failed(_), What::Run(child)) => {
                // Its end is in the same list, before or after.
                self.talks.dropped.push(*child);
            }
            (with, what) => self.broken(format!("W1: {id} `{key}` waits for {what:?} and came to {with:?}")),
        }
        let starts = self.talks.starts.entry(*id).or_default();
        starts.1 = Some(starts.0);
        if let Some(row) = self.talks.waits.get_mut(wait) {
            row.becomes(WaitState::Resolved(with));
        }
    }

    pub(super) fn wait_recorded(&mut self, wait: &WaitKey) {
        let row = self.talks.waits.get_mut(wait);
        let was = row.as_ref().map(|row| row.state.clone());
        match (row, &was) {
            (Some(row), Some(WaitState::Resolved(_))) => row.becomes(WaitState::Recorded(row.event())),
            _ => self.broken(format!("{} `{}` was recorded while {was:?}", wait.run, wait.key)),
        }
    }

    /// The record of a wait says what the wait came to.
    pub(super) fn check_wait_record(&mut self, id: RunId, record: &Record) {
        let wait = WaitKey { run: id, kind: record.kind, key: Arc::clone(&record.key) };
        let state = self.talks.waits.get(&wait).map(|row| row.state.clone());
        let same = match (&state, &record.result) {
            (Some(WaitState::Resolved(Resolution::Event(event))), Recorded::Value(text)) => {
                let value: Value = serde_json::from_str(text).unwrap_or_default();
                self.events.get(event).is_some_and(|row| value["name"] == *row.name && value["data"] == planned(row).data)
            }
            (Some(WaitState::Resolved(Resolution::Value(value))), Recorded::Value(text)) => value == text,
            (Some(WaitState::Resolved(Resolution::TimedOut)), Recorded::Value(text)) => record.kind == Kind::Wait && &**text == "null",
            (Some(WaitState::Resolved(Resolution::TimedOut)), Recorded::Failed(_)) => record.kind == Kind::Invoke,
            (Some(WaitState::Resolved(Resolution::Failed(one))), Recorded::Failed(other)) => one.message == other.message,
            // What cannot be invoked is never waited for.
            (None, Recorded::Failed(failure)) => failure.code == "E0424",
            _ => false,
        };
        self.hold(same, || format!("{id} recorded `{}` as {:?}, the wait is {state:?}", record.key, record.result));
    }

    /// A wait is given up by its run, since another branch has ended its race: the race is recorded, and what the wait has had it has not had.
    pub(super) fn wait_given_up(&mut self, wait: &WaitKey, now: Millis) {
        let WaitKey { run: id, key, .. } = wait;
        self.note(now, &format!("{id} `{key}` is given up"));
        let row = self.talks.waits.remove(wait);
        let is_decided = self.runs.get(id).is_some_and(|run| {
            let is_above = |record: &&Record| record.kind == Kind::Race && key.starts_with(&format!("{} › ", record.key));
            run.records.iter().any(|record| is_above(&record))
        });
        self.hold(is_decided, || format!("W1: {id} gave up `{key}`, whose race is not decided"));
        match row {
            Some(WaitRow { state: WaitState::Recorded(_), .. }) | None => {
                self.broken(format!("W1: {id} gave up `{key}`, which is {row:?}"));
            }
            Some(WaitRow { state: WaitState::Open, what, .. }) => {
                if let What::Run(child) = &*what {
                    self.talks.given_up.insert(*child);
                    self.talks.dropped.push(*child);
                }
            }
            Some(_) => {}
        }
    }

    pub(super) fn waits_dropped(&mut self, run: RunId) {
        let mine: Vec<WaitKey> = self.talks.waits.keys().filter(|wait| wait.run == run).cloned().collect();
        for wait in mine {
            if let Some(row) = self.talks.waits.remove(&wait)
                && let What::Run(child) = &*row.what
                && row.state == WaitState::Open
            {
                self.talks.given_up.insert(*child);
                self.talks.dropped.push(*child);
            }
        }
    }

    /// After a list: nothing goes on that somebody has waited for and does not any more.
    pub(super) fn check_children(&mut self) {
        for child in std::mem::take(&mut self.talks.dropped) {
            let state = self.runs.get(&child).map(|run| run.state);
            let ended = state.is_some_and(RunState::is_terminal);
            // One that was invoked while the cancel was on its way is not known to it: it is cancelled in a list of its own.
            let unknown = self.runs.get(&child).is_some_and(|run| run.known.is_none() && run.started.is_none());
            self.hold(ended || unknown, || format!("I3: {child} goes on ({state:?}), and nobody waits for it any more"));
        }
    }

    /// A run ends: no wait of it is left.
    pub(super) fn check_no_waits(&mut self, id: RunId) {
        let left: Vec<Arc<str>> = self.talks.waits.keys().filter(|wait| wait.run == id).map(|wait| Arc::clone(&wait.key)).collect();
        self.hold(left.is_empty(), || format!("{id} ended, its waits {left:?} did not"));
    }

    /// Whether a run may be cancelled since the one that invoked it does not wait for it any more.
    pub(super) fn may_lose_child(&self, child: RunId) -> bool {
        self.talks.given_up.contains(&child)
    }

    /// The runs that a run waits for, if for nothing else, and as long as they need; also one that is being cancelled so that a circle is
    /// broken.
    pub(super) fn waits_for_runs(&self, id: RunId) -> Option<Vec<RunId>> {
        let waits = self.of(id).filter(|row| !matches!(row.state, WaitState::Recorded(_)));
        let child = |row: &WaitRow| match &*row.what {
            What::Run(child) if (row.state == WaitState::Open && row.until.is_none()) || is_of_circle(row) => Some(*child),
            _ => None,
        };
        waits.map(child).collect()
    }

    /// Whether the run that waits for this one is told that it stood in a circle.
    pub(super) fn is_told_of_circle(&self, child: RunId) -> bool {
        self.talks.waits.values().any(|row| *row.what == What::Run(child) && is_of_circle(row))
    }

    /// Whether something has come that a run has not recorded.
    pub(super) fn has_news(&self, id: RunId) -> bool {
        self.of(id).any(|row| matches!(row.state, WaitState::Resolved(_)))
    }

    /// A run starts; whether it may be since a wait of it has come to something. Word of that may come when the run has seen it
    /// for itself, and then it is started once more for nothing.
    pub(super) fn is_poked(&mut self, id: RunId) -> bool {
        let (starts, poked) = self.talks.starts.entry(id).or_default();
        let is_poked = poked.is_some_and(|at| *starts <= at + 1);
        *starts += 1;
        is_poked || self.has_news(id)
    }

    /// The starts of a run, and how many there were when a wait of it came to something last.
    pub(super) fn starts(&self, id: RunId) -> (u32, Option<u32>) {
        self.talks.starts.get(&id).copied().unwrap_or_default()
    }

    /// A start of a run was taken back.
    pub(super) fn put_starts(&mut self, id: RunId, starts: (u32, Option<u32>)) {
        self.talks.starts.insert(id, starts);
    }

    /// A run that waits for one that it has invoked.
    pub fn some_parent(&self) -> Option<RunId> {
        let waits = |row: &&WaitRow| matches!(*row.what, What::Run(_)) && row.state == WaitState::Open;
        self.talks.waits.values().find(waits).map(|row| row.wait.run)
    }

    fn of(&self, id: RunId) -> impl Iterator<Item = &WaitRow> {
        self.talks.waits.values().filter(move |row| row.wait.run == id)
    }

    /// A run is suspended in a wait: there is one, and the first thing that ends by itself wakes it.
    pub(super) fn check_waiting(&mut self, id: RunId, wake: Option<Millis>) {
        let mut open = self.of(id).filter(|row| !matches!(row.state, WaitState::Recorded(_))).peekable();
        let is_one = open.peek().is_some();
        let first = open.filter_map(|row| row.until).min();
        let alone = self.runs.get(&id).is_some_and(|run| run.straight.due.len() == 1 && !run.straight.due[0].key.contains(" › "));
        self.hold(is_one, || format!("{id} waits for nothing"));
        self.hold(wake == first || !alone, || format!("{id} waits until {wake:?} instead of {first:?}"));
    }

    /// Whether an event may resolve a wait, as far as the two go.
    fn fits(&self, row: &WaitRow, event: &EventRow) -> bool {
        let Some(run) = self.runs.get(&row.wait.run) else { return false };
        let Some(own) = self.events.get(&run.event) else { return false };
        let Some(on) = on_of(row) else { return false };
        // Looked at first, since it is cheap.
        if on.iter().all(|(name, _)| *event.name != format!("thing/{name}")) {
            return false;
        }
        let (own, other) = (planned(own).data, planned(event));
        on.iter().any(|(name, how)| *name == other.name && how.fits(&own, &other.data))
    }

    /// Whether a wait was open when an event came to the disk. Then it may have it even where it was accepted before the run
    /// began, since it had to be decided on again; only looking back ends at the run's start.
    fn comes_to(&self, wait: &WaitKey, event: EventId) -> bool {
        self.talks.opened_in.get(wait).zip(self.came_in.get(&event)).is_some_and(|(opened, came)| opened <= came)
    }

    /// Whether an event may resolve a wait: it fits, was accepted since the run began (or `comes`), and the run has not had it before.
    fn may_have(&self, wait: &WaitKey, event: EventId, comes: bool) -> bool {
        let (Some(row), Some(stored), Some(run)) = (self.talks.waits.get(wait), self.events.get(&event), self.runs.get(&wait.run)) else {
            return false;
        };
        let since = run.started.map_or(EventId::default(), Id::first_at);
        let had = self.of(wait.run).any(|other| other.wait != *wait && other.event() == Some(event));
        (comes || event >= since) && event != run.event && !had && self.fits(row, stored)
    }

    /// Whether an event may be too old to be there.
    fn may_be_deleted(&self, id: EventId) -> bool {
        let kept = self.plan.kept.map(Span::seconds);
        let Some(((event, kept), swept)) = self.events.get(&id).zip(kept).zip(self.swept) else { return false };
        swept.since(event.accepted) > kept
    }

    /// A wait came to nothing: there was nothing that fits it.
    fn check_none_lost(&mut self, row: &WaitRow) {
        let What::Events(_) = &*row.what else { return };
        let since = self.runs.get(&row.wait.run).and_then(|run| run.started).map_or(EventId::default(), Id::first_at);
        let lost = self
            .events
            .range(since..)
            .map(|(event, _)| *event)
            .find(|event| self.may_have(&row.wait, *event, false) && !self.may_be_deleted(*event));
        self.hold(lost.is_none(), || format!("W2: {} `{}` did not get event {lost:?}", row.wait.run, row.wait.key));
    }

    /// What waits for ever when everything is over, waits for something that never came.
    pub(super) fn check_still_waiting(&mut self) {
        let open: Vec<WaitRow> = self.talks.waits.values().filter(|row| row.state == WaitState::Open).cloned().collect();
        for row in open {
            let parked = self.runs.get(&row.wait.run).is_some_and(|run| run.state == RunState::Parked);
            match &*row.what {
                What::Events(_) if !parked => self.check_none_lost(&row),
                What::Run(child) => {
                    let ended = self.runs.get(child).is_none_or(|run| run.state.is_terminal());
                    self.hold(!ended, || format!("I3: {} waits for run {child}, which has ended", row.wait.run));
                }
                _ => {}
            }
        }
    }

    /// The waits of the runs that have not ended are stored as they were written.
    pub fn same_waits(&self, id: RunId, mut stored: Vec<WaitRow>) -> bool {
        stored.sort_by(|one, other| one.wait.cmp(&other.wait));
        stored.iter().eq(self.of(id))
    }
}

/// Whether a wait has come to that what it is for stood in a circle.
fn is_of_circle(row: &WaitRow) -> bool {
    matches!(&row.state, WaitState::Resolved(Resolution::Failed(why)) if why.code == "E0424")
}

/// What events a stored wait is for.
fn on_of(row: &WaitRow) -> Option<Vec<(usize, Match)>> {
    let What::Events(wanted) = &*row.what else { return None };
    let number = |name: &str| name.trim_start_matches("thing/").parse().ok();
    wanted.iter().map(|one| Some((number(&one.event)?, Match::read(one.condition.as_deref())?))).collect()
}

fn is_for(on: &On, what: &What) -> bool {
    match (on, what) {
        (On::Signal(number), What::Signal(name)) => **name == format!("signal{number}"),
        (On::Events(on), What::Events(wanted)) => {
            on.len() == wanted.len()
                && on.iter().zip(wanted).all(|((event, how), wanted)| {
                    *wanted.event == format!("thing/{event}") && wanted.condition.as_deref() == how.cel().as_deref()
                })
        }
        _ => false,
    }
}
