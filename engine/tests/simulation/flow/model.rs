//! Flow control as plainly as it can be said: every decision looks at every event and every run.

mod passing;

use std::collections::{HashMap, HashSet};

use super::End;
use super::world::{Act, Collect, Event, Function, Limit, Ms, OF_CHILD, Phase, Ticks};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// In line: one that has begun takes again what it holds only while it is at work.
    Line,
    /// At work until then.
    Work(Ms),
    /// Asleep, or backing off, until then.
    Rest(Ms),
    /// Until the run ends that it has invoked.
    Wait,
    Ended(Ms, End),
}

struct Run {
    events: Vec<usize>,
    function: usize,
    /// The run that has invoked it.
    parent: Option<usize>,
    enter: Ms,
    /// From when on it collects events, if it does.
    collects: Option<Ms>,
    /// Its place in line.
    order: (Ms, usize, usize),
    started: Option<Ms>,
    state: State,
    /// How much of its plan it has begun with.
    next: usize,
}

impl Run {
    fn event(&self) -> usize {
        self.events[0]
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(..))
    }

    /// Whether it has its slot of a limit that is held until its end, or only at work.
    fn has(&self, holds: bool) -> bool {
        matches!(self.state, State::Work(_)) || holds && self.started.is_some() && !self.has_ended()
    }
}

/// A limit (its function and number; none for the shared one), the value of its key, how many may hold it, and whether until their end.
type Slot = (Option<(usize, usize)>, Option<Option<i64>>, usize, bool);
/// A function and the value of one of its keys.
type Window = (usize, Option<Option<i64>>);

#[derive(Default)]
pub struct Model<'w> {
    /// The time up to which the world has passed.
    now: Ms,
    functions: &'w [Function],
    /// When the clock has started functions with a jitter.
    ticks: Ticks,
    /// By number: those that are sent from 0 on, those of the clock by their time.
    events: HashMap<usize, Event>,
    sent: usize,
    runs: Vec<Run>,
    ids: HashMap<(usize, i64), usize>,
    /// What each `idempotency` has let through.
    once: HashSet<(usize, Option<i64>)>,
    /// The times at which each rate limit let an event through.
    through: HashMap<Window, Vec<Ms>>,
    /// The times of the starts that each throttle gave, in microseconds.
    starts: HashMap<Window, Vec<i64>>,
    /// Whether each function is paused.
    paused: Vec<bool>,
    /// Since when it is, or is not any more.
    since: Vec<Ms>,
}

impl<'w> Model<'w> {
    /// Whether a run stands in line and nothing but slots and buckets keeps it.
    fn waits(&self, run: &Run) -> bool {
        run.state == State::Line && (run.started.is_some() || run.enter <= self.now && !self.paused[run.function])
    }

    /// When the time of a run is over; the time for which its function was paused does not count to that of its start.
    fn late(&self, run: &Run) -> Option<Ms> {
        let function = &self.functions[run.function];
        match run.started {
            Some(started) => function.finish_timeout.map(|timeout| started + timeout),
            None if self.paused[run.function] => None,
            None => function.start_timeout.map(|timeout| run.enter.max(self.since[run.function]) + timeout),
        }
    }

    /// The clock starts a function for a time of one of its schedules.
    fn tick(&mut self, number: usize, at: usize) -> bool {
        self.events.insert(number, Event::of_clock(number));
        self.enter(number, at)
    }

    /// A run does what comes next in its plan.
    fn go_on(&mut self, at: usize) {
        let (number, function) = (self.runs[at].event(), self.runs[at].function);
        let event = self.events[&number].clone();
        let phase = self.functions[function].plan(&event)[self.runs[at].next];
        self.runs[at].next += 1;
        self.runs[at].state = match phase {
            Phase::Work(ms) => State::Work(self.now + ms),
            Phase::Rest(ms) => State::Rest(self.now + ms),
            Phase::Invoke(invoked) => {
                // It passes no gate before the line.
                let child = number + OF_CHILD * (function + 1);
                self.events.insert(child, event);
                self.line_up(child, invoked, self.now, None, Some(at));
                State::Wait
            }
            Phase::End(end) => return self.end(at, end),
        };
    }

    /// A run ends, and with a cancel what it has invoked; the one that has invoked it goes on.
    fn end(&mut self, at: usize, end: End) {
        if self.runs[at].has_ended() {
            return;
        }
        self.runs[at].state = State::Ended(self.now, end);
        let children = (0..self.runs.len()).filter(|child| self.runs[*child].parent == Some(at));
        children.collect::<Vec<_>>().into_iter().for_each(|child| self.end(child, End::Cancelled));
        if let Some(parent) = self.runs[at].parent.filter(|parent| self.runs[*parent].state == State::Wait) {
            self.runs[parent].state = State::Line;
        }
    }

    /// Does what is done from outside; says whether the world tells nothing after that: of several events, those that were skipped or
    /// joined a run that was there are decided again, a moment later than the rest.
    fn act(&mut self, act: &Act) -> bool {
        let mut again = Vec::new();
        match act {
            Act::Kill => {
                // Whatever is not recorded is done again.
                for run in self.runs.iter_mut().filter(|run| matches!(run.state, State::Work(_))) {
                    (run.state, run.next) = (State::Line, run.next - 1);
                }
            }
            Act::Cancel(event, function) => {
                let meant = |run: &Run| run.event() == *event && run.function == *function && !run.has_ended();
                self.runs.iter().position(meant).into_iter().for_each(|at| self.end(at, End::Cancelled));
            }
            Act::Pause(at, paused) if self.paused[*at] != *paused => {
                let since = self.since[*at];
                (self.paused[*at], self.since[*at]) = (*paused, self.now);
                // Whoever was held comes before those that the clock makes up for.
                self.start_all();
                let missed = if *paused { Vec::new() } else { self.functions[*at].makes_up_for(since, self.now) };
                again = missed.into_iter().map(|number| !self.tick(number, *at)).collect();
            }
            Act::Pause(..) => {}
            Act::Send(events) => again = events.iter().map(|event| self.accept(event)).collect(),
        }
        again.len() > 1 && again.contains(&true)
    }

    /// An event comes; says whether anything of it was skipped or joined a run that was there.
    fn accept(&mut self, event: &Event) -> bool {
        let number = self.sent;
        self.sent += 1;
        self.events.insert(number, event.clone());
        if let Some(id) = event.id
            && *self.ids.entry((event.name, id)).or_insert(number) != number
        {
            return true;
        }
        let hit = |run: &Run| self.functions[run.function].cancel_on == Some(event.name) && self.events[&run.event()].a == event.a;
        let doomed: Vec<usize> = (0..self.runs.len()).filter(|at| !self.runs[*at].has_ended() && hit(&self.runs[*at])).collect();
        let mut later = !doomed.is_empty();
        for (at, function) in self.functions.iter().enumerate() {
            let applies = function.on.contains(&event.name) && function.below.is_none_or(|below| event.x < below);
            later |= applies && !self.enter(number, at);
        }
        doomed.into_iter().for_each(|at| self.end(at, End::Cancelled));
        later
    }

    /// Leads an event through the gates of a function; false where none of them lets it start a run of its own.
    fn enter(&mut self, number: usize, at: usize) -> bool {
        let (function, event, now) = (&self.functions[at], &self.events[&number], self.now);
        // A null key means that idempotency, debounce and singleton do not apply.
        let once = function.idempotency.and_then(|field| event.value(Some(field))).map(|value| (at, value));
        if once.is_some_and(|once| self.once.contains(&once)) {
            return false;
        }
        let rate = function.rate_limit.map(|rate| (rate, (at, event.value(rate.key))));
        if let Some((rate, key)) = &rate
            && self.through.get(key).into_iter().flatten().filter(|at| now - **at < rate.period).count() as i64 >= rate.limit
        {
            return false;
        }
        let single = function.singleton.and_then(|(cancels, key)| event.value(key).map(|value| (cancels, key, value)));
        let holder = single.and_then(|(_, key, value)| {
            let is_it = |run: &Run| run.function == at && run.parent.is_none() && !run.has_ended();
            self.runs.iter().position(|run| is_it(run) && self.events[&run.event()].value(key) == Some(value))
        });
        if holder.is_some() && single.is_some_and(|(cancels, ..)| !cancels) {
            return false;
        }
        self.once.extend(once);
        rate.into_iter().for_each(|(_, key)| self.through.entry(key).or_default().push(now));
        let (head_start, ts) = (function.head_start(event), event.ts.unwrap_or(now).max(now));
        let (mut enter, mut collects) = (ts, None);
        if let Some(Collect { size, quiet, timeout, key, .. }) = function.collect.filter(|collect| collect.takes(event)) {
            let (events, value) = (&self.events, event.value(key));
            let same = |run: &&mut Run| run.function == at && events[&run.event()].value(key) == value;
            let open = |run: &&mut Run| run.collects.is_some() && run.started.is_none() && !run.has_ended() && run.enter > now;
            let closes = |since: Ms| (now + quiet).min(since + timeout);
            match (self.runs.iter_mut().filter(same).find(open), size) {
                // What is to start later has a batch of its own.
                (_, Some(_)) if ts > now => {}
                (Some(run), Some(size)) => {
                    run.events.push(number);
                    if run.events.len() == size {
                        (run.enter, run.order.0) = (now, now);
                    }
                    return false;
                }
                (Some(run), None) => {
                    run.events = vec![number];
                    run.enter = closes(run.collects.unwrap_or(now)).max(ts);
                    run.order.0 = run.enter - head_start;
                    return false;
                }
                (None, _) => (enter, collects) = (closes(now).max(ts), Some(now)),
            }
        }
        holder.into_iter().for_each(|holder| self.end(holder, End::Cancelled));
        self.line_up(number, at, enter, collects, None);
        true
    }

    /// A run comes to be.
    fn line_up(&mut self, number: usize, at: usize, enter: Ms, collects: Option<Ms>, parent: Option<usize>) {
        let order = (enter - self.functions[at].head_start(&self.events[&number]), number, at);
        let (events, started, state, next) = (vec![number], None, State::Line, 0);
        self.runs.push(Run { events, function: at, parent, enter, collects, order, started, state, next });
    }

    /// Whoever can start, or go on, does so in order: first those who have begun.
    fn start_all(&mut self) {
        let ready = |model: &Model<'_>| {
            let has_start = |run: &Run| model.opens(run).is_none_or(|(_, us)| us <= model.now * 1_000);
            let can = |run: &Run| model.waits(run) && model.has_slots(run) && has_start(run);
            let first = |at: &usize| (model.runs[*at].started.is_none(), model.runs[*at].order);
            (0..model.runs.len()).filter(|at| can(&model.runs[*at])).min_by_key(first)
        };
        while let Some(at) = ready(self) {
            if let Some((key, us)) = self.opens(&self.runs[at]) {
                // It counts from the first microsecond of this millisecond at which there is a start.
                self.starts.entry(key).or_default().push(us.max(self.now * 1_000 - 999));
            }
            self.runs[at].started = self.runs[at].started.or(Some(self.now));
            self.go_on(at);
        }
    }

    /// The slots that a run needs.
    fn slots(&self, run: &Run) -> Vec<Slot> {
        let scope = |at: usize, limit: &Limit| (!limit.shared).then_some((run.function, at));
        let slot = |(at, limit): (usize, &Limit)| (scope(at, limit), self.events[&run.event()].value(limit.key), limit.limit, limit.holds);
        self.functions[run.function].limits.iter().enumerate().map(slot).collect()
    }

    fn has_slots(&self, run: &Run) -> bool {
        self.slots(run).into_iter().filter(|(.., holds)| !run.has(*holds)).all(|slot @ (.., limit, holds)| {
            self.runs.iter().filter(|other| other.has(holds) && self.slots(other).contains(&slot)).count() < limit
        })
    }

    /// The bucket of a run that has not begun, and when it gives the next start, in microseconds: from each start on, there is one
    /// each interval and `burst` beside.
    fn opens(&self, run: &Run) -> Option<(Window, i64)> {
        let (rate, burst) = self.functions[run.function].throttle.filter(|_| run.started.is_none())?;
        let key = (run.function, self.events[&run.event()].value(rate.key));
        let starts = self.starts.get(&key).map(Vec::as_slice).unwrap_or_default();
        let next = |(at, start): (usize, &i64)| start + ((starts.len() - at) as i64 - burst) * rate.interval_us();
        Some((key, starts.iter().enumerate().map(next).max().unwrap_or(0)))
    }
}
