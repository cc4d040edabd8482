//! Flow control as plainly as it can be said: every decision looks at every event and every run.

use std::collections::HashMap;

use super::world::{Act, Collect, Event, Function, Limit, Ms, OF_CLOCK};
use super::{End, Fate};

struct Run {
    events: Vec<usize>,
    function: usize,
    enter: Ms,
    /// From when on it collects events, if it does.
    collects: Option<Ms>,
    /// Its place in line.
    order: (Ms, usize, usize),
    started: Option<Ms>,
    ended: Option<(Ms, End)>,
}

impl Run {
    fn event(&self) -> usize {
        self.events[0]
    }

    fn waits(&self, now: Ms) -> bool {
        self.started.is_none() && self.ended.is_none() && self.enter <= now
    }
}

/// Something that happens; of a run by its event, and where it matters its function.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Happening {
    Act,
    Tick,
    Enter(usize),
    TimeOut(usize),
    End(usize, usize),
    Opens(Window),
}

/// A limit (its function and number; none for the shared one), the value of its key, and how many may work at once.
type Slot = (Option<(usize, usize)>, Option<Option<i64>>, usize);

/// A function and the value of one of its keys.
type Window = (usize, Option<Option<i64>>);

/// Why a world tells nothing: two things happen in one millisecond, whose order is open.
pub struct Coincidence;

/// A bucket of starts: what is in it, in microseconds of filling, and when that was looked at.
#[derive(Clone, Copy)]
struct Bucket {
    level: i64,
    at_us: i64,
}

#[derive(Default)]
pub struct Model<'w> {
    /// The time up to which the world has passed.
    now: Ms,
    functions: &'w [Function],
    /// By number: those that are sent from 0 on, those of the clock by their time.
    events: HashMap<usize, Event>,
    sent: usize,
    runs: Vec<Run>,
    ids: HashMap<(usize, i64), usize>,
    once: HashMap<(usize, Option<i64>), usize>,
    /// The times at which each rate limit let an event through.
    through: HashMap<Window, Vec<Ms>>,
    buckets: HashMap<Window, Bucket>,
}

impl<'w> Model<'w> {
    /// The fate of each run, by event and function.
    pub fn fates(functions: &'w [Function], acts: &[(Ms, Act)]) -> Result<HashMap<(usize, usize), Fate>, Coincidence> {
        let mut model = Model { functions, ..Model::default() };
        let mut acts = acts.iter().peekable();
        loop {
            let act = acts.peek().map(|(at, _)| *at);
            let mut due = model.happenings();
            due.extend(act.map(|at| (at, Happening::Act)));
            let Some(now) = due.iter().map(|(at, _)| *at).min() else { break };
            due.retain(|(at, _)| *at == now);
            if due.iter().any(|other| *other != due[0]) {
                return Err(Coincidence);
            }
            model.pass(now);
            if act == Some(now)
                && let Some((_, act)) = acts.next()
            {
                model.act(now, act)?;
            }
            model.start_all(now);
        }
        let fate = |run: &Run| {
            let (ended, end) = run.ended?;
            let failures = usize::from(end == End::Failed && functions[run.function].on_failure);
            let fate = Fate { started: run.started, ended, end, events: run.events.len(), failures };
            Some(((run.event(), run.function), fate))
        };
        Ok(model.runs.iter().filter_map(fate).collect())
    }

    /// What happens by itself, and when. The same for several functions of one event is one thing.
    fn happenings(&self) -> Vec<(Ms, Happening)> {
        let mut due = Vec::new();
        for run in self.runs.iter().filter(|run| run.ended.is_none()) {
            let (event, (end, late)) = (run.event(), self.ends(run));
            due.extend(end.map(|(at, _)| (at, Happening::End(event, run.function))));
            due.extend(late.map(|at| (at, Happening::TimeOut(event))));
            due.extend((run.enter > self.now).then_some((run.enter, Happening::Enter(event))));
        }
        // Each bucket that somebody waits for opens once.
        for (key, opens) in self.runs.iter().filter(|run| run.waits(self.now)).filter_map(|run| self.bucket_of(run)) {
            due.extend(opens.filter(|opens| *opens > self.now).map(|opens| (opens, Happening::Opens(key))));
        }
        due.extend(self.functions.iter().filter_map(|function| function.next_tick(self.now)).map(|at| (at, Happening::Tick)));
        due
    }

    /// When a run ends by itself and how, and when its time is over.
    fn ends(&self, run: &Run) -> (Option<(Ms, End)>, Option<Ms>) {
        let function = &self.functions[run.function];
        let Some(started) = run.started else { return (None, function.start_timeout.map(|timeout| run.enter + timeout)) };
        let (takes, end) = function.takes(&self.events[&run.event()]);
        (Some((started + takes, end)), function.finish_timeout.map(|timeout| started + timeout))
    }

    /// What happens by itself at this time.
    fn pass(&mut self, now: Ms) {
        let before = std::mem::replace(&mut self.now, now);
        for at in (0..self.runs.len()).filter(|at| self.runs[*at].ended.is_none()).collect::<Vec<_>>() {
            let (end, late) = self.ends(&self.runs[at]);
            let late = late.map(|late| (late, End::Cancelled));
            self.runs[at].ended = end.into_iter().chain(late).find(|(at, _)| *at == now);
        }
        for at in (0..self.functions.len()).filter(|at| self.functions[*at].next_tick(before) == Some(now)).collect::<Vec<_>>() {
            self.events.insert(OF_CLOCK + now as usize, Event { of_clock: true, ..Event::default() });
            self.enter(now, OF_CLOCK + now as usize, at);
        }
    }

    fn act(&mut self, now: Ms, act: &Act) -> Result<(), Coincidence> {
        match act {
            Act::Kill => {}
            Act::Cancel(event, function) => {
                let meant = |run: &&mut Run| run.event() == *event && run.function == *function && run.ended.is_none();
                if let Some(run) = self.runs.iter_mut().find(meant) {
                    run.ended = Some((now, End::Cancelled));
                }
            }
            Act::Send(events) => {
                // What is decided again comes a moment later than the rest of its request.
                if events.iter().filter(|event| self.accept(now, event)).count() > 0 && events.len() > 1 {
                    return Err(Coincidence);
                }
            }
        }
        Ok(())
    }

    /// An event comes; says whether anything of it was skipped or joined a run that was there.
    fn accept(&mut self, now: Ms, event: &Event) -> bool {
        let number = self.sent;
        self.sent += 1;
        self.events.insert(number, event.clone());
        if let Some(id) = event.id
            && *self.ids.entry((event.name, id)).or_insert(number) != number
        {
            return true;
        }
        let cancels = |function: &Function| function.cancel_on == Some(event.name);
        let hit = |run: &Run| cancels(&self.functions[run.function]) && self.events[&run.event()].a == event.a;
        let doomed: Vec<usize> = (0..self.runs.len()).filter(|at| self.runs[*at].ended.is_none() && hit(&self.runs[*at])).collect();
        let mut later = !doomed.is_empty();
        for (at, function) in self.functions.iter().enumerate() {
            let applies = function.on.contains(&event.name) && function.below.is_none_or(|below| event.x < below);
            later |= applies && !self.enter(now, number, at);
        }
        for at in doomed {
            self.runs[at].ended = self.runs[at].ended.or(Some((now, End::Cancelled)));
        }
        later
    }

    /// Leads an event through the gates of a function; false where none of them lets it start a run of its own.
    fn enter(&mut self, now: Ms, number: usize, at: usize) -> bool {
        let (function, event) = (&self.functions[at], &self.events[&number]);
        // A null key means that idempotency, debounce and singleton do not apply.
        let once = function.idempotency.and_then(|field| event.value(Some(field))).map(|value| (at, value));
        if once.is_some_and(|once| self.once.contains_key(&once)) {
            return false;
        }
        let rate = function.rate_limit.map(|rate| (rate, (at, event.value(rate.key))));
        if let Some((rate, key)) = &rate {
            let within = self.through.entry(*key).or_default().iter().filter(|through| now - **through < rate.period).count();
            if within as i64 >= rate.limit {
                return false;
            }
        }
        let single = function.singleton.and_then(|(cancels, key)| event.value(key).map(|value| (cancels, key, value)));
        if let Some((cancels, key, value)) = single {
            let events = &self.events;
            let holds = |run: &&mut Run| run.function == at && run.ended.is_none() && events[&run.event()].value(key) == Some(value);
            match self.runs.iter_mut().find(holds) {
                Some(run) if cancels => run.ended = Some((now, End::Cancelled)),
                Some(_) => return false,
                None => {}
            }
        }
        if let Some(once) = once {
            self.once.insert(once, number);
        }
        if let Some((_, key)) = rate {
            self.through.entry(key).or_default().push(now);
        }
        let collect = function.collect.filter(|collect| collect.takes(event));
        let head_start = if function.priority { event.p.clamp(-600, 600) * 1_000 } else { 0 };
        let ts = event.ts.unwrap_or(now).max(now);
        let (mut enter, mut collects) = (ts, None);
        if let Some(Collect { size, quiet, timeout, key, .. }) = collect {
            let (events, value) = (&self.events, event.value(key));
            let same = |run: &&mut Run| run.function == at && events[&run.event()].value(key) == value;
            let open = |run: &&mut Run| run.collects.is_some() && run.started.is_none() && run.ended.is_none() && run.enter > now;
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
        let order = (enter - head_start, number, at);
        self.runs.push(Run { events: vec![number], function: at, enter, collects, order, started: None, ended: None });
        true
    }

    /// Whoever can start starts, in order.
    fn start_all(&mut self, now: Ms) {
        let ready = |model: &Model<'_>| {
            let has_start = |run: &Run| model.bucket_of(run).is_none_or(|(_, opens)| opens.is_none_or(|at| at <= now));
            let can = |run: &Run| run.waits(now) && model.has_slots(run) && has_start(run);
            (0..model.runs.len()).filter(|at| can(&model.runs[*at])).min_by_key(|at| model.runs[*at].order)
        };
        while let Some(at) = ready(self) {
            self.take_start(at, now);
            self.runs[at].started = Some(now);
        }
    }

    /// The slots that a run needs: whose limit, the key's value, and how many there are.
    fn slots(&self, run: &Run) -> Vec<Slot> {
        let limits = self.functions[run.function].limits.iter().enumerate().filter(|(_, limit)| limit.holds);
        let scope = |at: usize, limit: &Limit| (!limit.shared).then_some((run.function, at));
        limits.map(|(at, limit)| (scope(at, limit), self.events[&run.event()].value(limit.key), limit.limit)).collect()
    }

    fn has_slots(&self, run: &Run) -> bool {
        let working = || self.runs.iter().filter(|run| run.started.is_some() && run.ended.is_none());
        self.slots(run).iter().all(|(scope, key, limit)| {
            let holds = |other: &&Run| self.slots(other).iter().any(|(other, value, _)| other == scope && value == key);
            working().filter(holds).count() < *limit
        })
    }

    /// The bucket that gives a run its start, and when it does; none for `at once`.
    fn bucket_of(&self, run: &Run) -> Option<(Window, Option<Ms>)> {
        let (rate, _) = self.functions[run.function].throttle?;
        let key = (run.function, self.events[&run.event()].value(rate.key));
        let opens = self.buckets.get(&key).map(|bucket| {
            let us = bucket.at_us + (rate.interval_us() - bucket.level).max(0);
            us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) > 0)
        });
        Some((key, opens))
    }

    fn take_start(&mut self, run: usize, now: Ms) {
        let Some((rate, burst)) = self.functions[self.runs[run].function].throttle else { return };
        let Some((key, _)) = self.bucket_of(&self.runs[run]) else { return };
        let (interval, most) = (rate.interval_us(), rate.interval_us() * (burst + 1));
        // The first microsecond of this millisecond at which there is a start.
        let early = now * 1_000 - 999;
        let bucket = self.buckets.entry(key).or_insert(Bucket { level: most, at_us: early });
        let taken_at = early.max(bucket.at_us + (interval - bucket.level).max(0));
        let level = (bucket.level + (taken_at - bucket.at_us)).min(most);
        *bucket = Bucket { level: level - interval, at_us: taken_at };
    }
}
