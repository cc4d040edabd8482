//! Flow control as plainly as it can be said: every decision looks at every event and every run. Here are the gates that an event comes
//! to, and what is done from outside.

mod line;
mod passing;
mod run;

use super::End;
use super::world::{Act, Collect, Event, Field, Function, Key, Ms, Rate};
use passing::Start;
use run::{Run, State};

#[derive(Default)]
pub struct Model<'w> {
    /// The time up to which the world has passed.
    now: Ms,
    functions: &'w [Function],
    /// Whether each function is paused, and since when it is, or is not any more.
    paused: Vec<(bool, Ms)>,
    /// What the clock has not started yet.
    clock: Vec<Start>,
    /// The events that were sent, but for those whose id was known.
    sent: Vec<Event>,
    /// When the gates of each function let which event through.
    through: Vec<(Ms, usize, Event)>,
    /// In the order in which they came to be.
    runs: Vec<Run>,
    /// The starts that throttles gave to runs, in microseconds.
    given: Vec<(usize, i64)>,
}

impl Event {
    /// The value of a key: none where there is no key, `Some(None)` where it is null.
    fn value(&self, key: Key) -> Option<Option<i64>> {
        key.map(|field| if field == Field::A { self.a } else { self.b })
    }
}

impl Model<'_> {
    /// The runs that have not ended and of which this holds.
    fn living(&self, which: impl Fn(&Run) -> bool) -> Vec<usize> {
        (0..self.runs.len()).filter(|at| !matches!(self.runs[*at].state, State::Ended(_)) && which(&self.runs[*at])).collect()
    }

    /// Does what is done from outside; says whether the world tells nothing after that: of several events, those that were skipped or
    /// joined a run that was there are decided again, a moment later than the rest.
    fn act(&mut self, act: &Act) -> bool {
        match act {
            // Whatever is not recorded is done again.
            Act::Kill => self.runs.iter_mut().filter(|run| run.state == State::Work).for_each(|run| run.state = State::Line),
            Act::Cancel(event, at) => self.end(&self.living(|run| (run.event.number, run.function) == (*event, *at)), End::Cancelled),
            Act::Pause(at, paused) if self.paused[*at].0 != *paused => {
                self.paused[*at] = (*paused, self.now);
                // Whoever was held comes before those that the clock makes up for.
                self.start_all();
                return self.tick();
            }
            Act::Pause(..) => {}
            Act::Send(events) => return events.iter().filter(|event| self.accept(**event)).count() > 0 && events.len() > 1,
        }
        false
    }

    /// An event comes; says whether anything of it was skipped or joined a run that was there.
    fn accept(&mut self, event: Event) -> bool {
        if event.id.is_some() && self.sent.iter().any(|other| (other.name, other.id) == (event.name, event.id)) {
            return true;
        }
        self.sent.push(event);
        let hears = |run: &Run, one: &Function| one.cancel_on == Some(event.name) && self.now <= run.created + one.listens;
        let doomed = self.living(|run| run.event.a == event.a && hears(run, &self.functions[run.function]));
        let mut later = !doomed.is_empty();
        for (at, function) in self.functions.iter().enumerate() {
            let applies = function.on.contains(&event.name) && function.below.is_none_or(|below| event.x < below);
            later |= applies && !self.enter(event, at);
        }
        self.end(&doomed, End::Cancelled);
        later
    }

    /// Leads an event through the gates of a function; false where none of them lets it start a run of its own.
    fn enter(&mut self, event: Event, at: usize) -> bool {
        let (function, now) = (&self.functions[at], self.now);
        // Where it is null, idempotency, debounce and singleton do not apply.
        let applies = |key: Key| event.value(key) != Some(None);
        let same = |key: Key, function: usize, other: &Event| function == at && other.value(key) == event.value(key);
        let once = function.idempotency.map(|field| Rate { limit: 1, period: Ms::MAX, key: Some(field) }).filter(|once| applies(once.key));
        let is_full = |rate: Rate| {
            let counts = |(then, function, other): &&(Ms, usize, Event)| same(rate.key, *function, other) && now - then < rate.period;
            self.through.iter().filter(counts).count() as i64 >= rate.limit
        };
        if once.into_iter().chain(function.rate_limit).any(is_full) {
            return false;
        }
        if let Some((cancels, key)) = function.singleton.filter(|(_, key)| applies(*key)) {
            let holder = self.living(|run| same(key, run.function, &run.event) && run.parent.is_none());
            if !cancels && !holder.is_empty() {
                return false;
            }
            self.end(&holder, End::Cancelled);
        }
        self.through.push((now, at, event));
        let ts = event.ts.unwrap_or(now).max(now);
        let mut run = Run { event, events: 1, function: at, created: now, enter: ts, ..Run::default() };
        let takes = |collect: &Collect| match collect.size {
            // What is to start later has a batch of its own; an event of the clock has no `x`, so that `if` fails.
            Some(_) => ts == now && collect.below.is_none_or(|below| !event.of_clock && event.x < below),
            None => applies(collect.key),
        };
        if let Some(Collect { size, quiet, timeout, key, .. }) = function.collect.filter(takes) {
            let can_join = |run: &Run| run.collects.is_some() && run.started.is_none() && run.enter > now;
            let closes = |since: Ms| (now + quiet).min(since + timeout).max(ts);
            if let Some(open) = self.living(|run| same(key, run.function, &run.event) && can_join(run)).first() {
                let open = &mut self.runs[*open];
                match size {
                    Some(size) if open.events + 1 == size => (open.events, open.enter) = (size, now),
                    Some(_) => open.events += 1,
                    None => (open.event, open.enter) = (event, closes(open.collects.unwrap_or(now))),
                }
                return false;
            }
            (run.enter, run.collects) = (closes(now), Some(now));
        }
        self.runs.push(run);
        true
    }
}
