//! Flow control as plainly as it can be said: every decision looks at every event and every run.

use std::collections::HashMap;

use super::world::{Act, Event, Function, Limit, Ms, Rate};

/// What a run has come to; its event and its function are how it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    pub started: Option<Ms>,
    pub ended: Ms,
    pub cancelled: bool,
}

struct Run {
    event: usize,
    function: usize,
    enter: Ms,
    /// Its place in line.
    order: (Ms, usize, usize),
    started: Option<Ms>,
    ended: Option<(Ms, bool)>,
}

impl Run {
    fn waits(&self, now: Ms) -> bool {
        self.started.is_none() && self.ended.is_none() && self.enter <= now
    }
}

/// Something that happens; of a run by its event, and where it matters its function.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Happening {
    Act,
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

pub struct Model<'w> {
    /// The time up to which the world has passed.
    now: Ms,
    functions: &'w [Function],
    events: Vec<Event>,
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
        let (events, runs, through, buckets) = (Vec::new(), Vec::new(), HashMap::new(), HashMap::new());
        let mut model = Model { now: -1, functions, events, runs, ids: HashMap::new(), once: HashMap::new(), through, buckets };
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
        let fate =
            |run: &Run| run.ended.map(|(ended, cancelled)| ((run.event, run.function), Fate { started: run.started, ended, cancelled }));
        Ok(model.runs.iter().filter_map(fate).collect())
    }

    /// What happens by itself, and when. The same for several functions of one event is one thing.
    fn happenings(&self) -> Vec<(Ms, Happening)> {
        let mut due = Vec::new();
        for run in self.runs.iter().filter(|run| run.ended.is_none()) {
            match (run.started, self.functions[run.function].start_timeout) {
                (Some(started), _) => due.push((started + self.sleeps(run), Happening::End(run.event, run.function))),
                (None, timeout) => {
                    due.extend(timeout.map(|timeout| (run.enter + timeout, Happening::TimeOut(run.event))));
                    due.extend((run.enter > self.now).then_some((run.enter, Happening::Enter(run.event))));
                }
            }
        }
        // Each bucket that somebody waits for opens once.
        for (key, opens) in self.runs.iter().filter(|run| run.waits(self.now)).filter_map(|run| self.bucket_of(run)) {
            due.extend(opens.filter(|opens| *opens > self.now).map(|opens| (opens, Happening::Opens(key))));
        }
        due
    }

    fn sleeps(&self, run: &Run) -> Ms {
        self.events[run.event].sleeps + self.functions[run.function].longer
    }

    /// What happens by itself at this time.
    fn pass(&mut self, now: Ms) {
        self.now = now;
        for run in self.runs.iter_mut().filter(|run| run.ended.is_none()) {
            let timeout = self.functions[run.function].start_timeout;
            match run.started {
                Some(started) if started + self.events[run.event].sleeps + self.functions[run.function].longer == now => {
                    run.ended = Some((now, false));
                }
                None if timeout.is_some_and(|timeout| run.enter + timeout == now) => run.ended = Some((now, true)),
                _ => {}
            }
        }
    }

    fn act(&mut self, now: Ms, act: &Act) -> Result<(), Coincidence> {
        match act {
            Act::Kill => {}
            Act::Cancel(event, function) => {
                let meant = |run: &&mut Run| run.event == *event && run.function == *function && run.ended.is_none();
                if let Some(run) = self.runs.iter_mut().find(meant) {
                    run.ended = Some((now, true));
                }
            }
            Act::Send(events) => {
                let mut skipped = false;
                for event in events {
                    skipped |= self.accept(now, event);
                }
                // What is decided again comes a moment later than the rest of its request.
                if skipped && events.len() > 1 {
                    return Err(Coincidence);
                }
            }
        }
        Ok(())
    }

    /// An event comes; says whether anything of it was skipped.
    fn accept(&mut self, now: Ms, event: &Event) -> bool {
        let number = self.events.len();
        self.events.push(event.clone());
        if let Some(id) = event.id
            && *self.ids.entry((event.name, id)).or_insert(number) != number
        {
            return true;
        }
        let mut skipped = false;
        for (at, function) in self.functions.iter().enumerate() {
            let applies = function.on.contains(&event.name) && function.below.is_none_or(|below| event.x < below);
            if applies && !self.enter(now, number, at) {
                skipped = true;
            }
        }
        skipped
    }

    /// Leads an event through the gates of a function; false where one of them skips it.
    fn enter(&mut self, now: Ms, number: usize, at: usize) -> bool {
        let (function, event) = (&self.functions[at], &self.events[number]);
        // A null key means that idempotency and singleton do not apply.
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
            let holds = |run: &&mut Run| run.function == at && run.ended.is_none() && events[run.event].value(key) == Some(value);
            match self.runs.iter_mut().find(holds) {
                Some(run) if cancels => run.ended = Some((now, true)),
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
        let event = &self.events[number];
        let enter = event.ts.unwrap_or(now).max(now);
        let head_start = if function.priority { event.p.clamp(-600, 600) * 1_000 } else { 0 };
        let order = (enter - head_start, number, at);
        self.runs.push(Run { event: number, function: at, enter, order, started: None, ended: None });
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
        limits.map(|(at, limit)| (scope(at, limit), self.events[run.event].value(limit.key), limit.limit)).collect()
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
        let key = (run.function, self.events[run.event].value(rate.key));
        let opens = self.buckets.get(&key).map(|bucket| {
            let us = bucket.at_us + (interval_us(rate) - bucket.level).max(0);
            us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) > 0)
        });
        Some((key, opens))
    }

    fn take_start(&mut self, run: usize, now: Ms) {
        let Some((rate, burst)) = self.functions[self.runs[run].function].throttle else { return };
        let Some((key, _)) = self.bucket_of(&self.runs[run]) else { return };
        let (interval, most) = (interval_us(rate), interval_us(rate) * (burst + 1));
        // The first microsecond of this millisecond at which there is a start.
        let early = now * 1_000 - 999;
        let bucket = self.buckets.entry(key).or_insert(Bucket { level: most, at_us: early });
        let taken_at = early.max(bucket.at_us + (interval - bucket.level).max(0));
        let level = (bucket.level + (taken_at - bucket.at_us)).min(most);
        *bucket = Bucket { level: level - interval, at_us: taken_at };
    }
}

/// Microseconds from one start to the next.
fn interval_us(rate: Rate) -> i64 {
    let period = rate.period * 1_000;
    period / rate.limit + i64::from(period % rate.limit > 0)
}
