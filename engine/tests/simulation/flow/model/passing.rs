//! How time passes in the model: what happens by itself, and when. Where two things happen in one millisecond whose order is open,
//! the world tells nothing.

use std::collections::HashMap;

use super::super::world::{Act, CLOCK_WORKS, Clock, Event, FURTHER_WORKS, Function, LAST_TICK, Missed, Ms, Ticks, clocks};
use super::super::{Fate, START};
use super::{End, Model, Run, State};

/// A start by the clock: when it comes, of which function, by which of its schedules, and its event.
pub(super) type Start = (Ms, usize, Clock, Event);

/// Something that happens; of a run by its event, and where it matters its function.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Happening {
    Act,
    Tick,
    /// Whoever comes into line, or gets its start, does so in one turn, in the order of the line.
    Turn,
    TimeOut(usize),
    /// A run has done its work.
    Stop(usize, usize),
}

impl Clock {
    /// The times of the schedule.
    pub fn times(self) -> impl Iterator<Item = Ms> {
        (1..=LAST_TICK / 1_000).filter(move |at| at % 60 % self.seconds == 0).map(|at| at * 1_000)
    }

    /// Whether these are its starts, each with its time and with when it came: one for each time, and none later than it may be.
    pub fn fits(self, starts: &[(Ms, Ms)]) -> bool {
        let in_time = |(time, came): &(Ms, Ms)| (*time..=time + self.jitter).contains(came);
        self.times().eq(starts.iter().map(|(time, _)| *time)) && starts.iter().all(in_time)
    }
}

/// All starts by the clock, in order, those of one time in that of the functions and of their schedules; of those that may be late, it is
/// known when they came.
fn starts(functions: &[Function], known: &Ticks) -> Vec<Start> {
    let start = |at: usize, clock: Clock, time: Ms| {
        let (number, works) = (clock.number(time), (START.0 + time) % CLOCK_WORKS + clock.which as Ms * FURTHER_WORKS);
        let event = Event { number, of_clock: true, works, ..Event::default() };
        (known.get(&(at, number)).copied().unwrap_or(time), at, clock, event)
    };
    let each = |(at, clock): (usize, Clock)| clock.times().map(move |time| start(at, clock, time));
    let mut starts: Vec<Start> = clocks(functions).flat_map(each).collect();
    starts.sort_by_key(|(at, ..)| *at);
    starts
}

impl<'w> Model<'w> {
    /// The fate of each run, by event and function; none where the world tells nothing.
    pub fn fates(functions: &'w [Function], acts: &[(Ms, Act)], ticks: Ticks) -> Option<HashMap<(usize, usize), Fate>> {
        let (paused, clock) = (vec![(false, 0); functions.len()], starts(functions, &ticks));
        let mut model = Model { functions, paused, clock, ..Model::default() };
        let mut acts = acts.iter().peekable();
        loop {
            let mut due = model.happenings();
            due.extend(acts.peek().map(|(at, _)| (*at, Happening::Act)));
            let Some(now) = due.iter().map(|(at, _)| *at).min() else { break };
            due.retain(|(at, _)| *at == now);
            let is_open = due.iter().any(|other| *other != due[0]);
            if is_open || model.pass(now) || acts.next_if(|(at, _)| *at == now).is_some_and(|(_, act)| model.act(act)) {
                return None;
            }
            model.start_all();
        }
        let fate = |run: &Run| {
            let State::Ended(end) = run.state else { return None };
            let failures = usize::from(end == End::Failed && functions[run.function].on_failure);
            let fate = Fate { started: run.started, ended: run.until, end, events: run.events, failures };
            Some(((run.event.number, run.function), fate))
        };
        Some(model.runs.iter().filter_map(fate).collect())
    }

    /// What happens by itself, and when. The same for several functions of one event is one thing.
    fn happenings(&self) -> Vec<(Ms, Happening)> {
        let mut due = Vec::new();
        for run in self.living(|_| true).into_iter().map(|at| &self.runs[at]) {
            due.extend(self.late(run).map(|at| (at, Happening::TimeOut(run.event.number))));
            due.extend(match run.state {
                State::Work => Some((run.until, Happening::Stop(run.event.number, run.function))),
                State::Rest => Some((run.until, Happening::Turn)),
                _ if run.enter > self.now => Some((run.enter, Happening::Turn)),
                _ => self.opens(run).filter(|_| self.waits(run)).map(|us| ((us + 999).div_euclid(1_000), Happening::Turn)),
            });
        }
        due.extend(self.clock.iter().filter(|start| !self.paused[start.1].0).map(|(at, ..)| (*at, Happening::Tick)));
        due.into_iter().filter(|(at, _)| *at > self.now).collect()
    }

    /// Lets happen by itself what does at this time; says whether the world tells nothing after that.
    fn pass(&mut self, now: Ms) -> bool {
        self.now = now;
        for at in self.living(|_| true) {
            let run = &self.runs[at];
            match run.state {
                State::Work if run.until == now => self.go_on(at),
                State::Rest if run.until == now => self.runs[at].state = State::Line,
                _ if self.late(run) == Some(now) => self.end(&[at], End::Cancelled),
                _ => {}
            }
        }
        self.tick()
    }

    /// The clock starts what is due, and of functions that are paused no more what it makes up for. Says whether the world tells nothing
    /// after that, as `act` does: where it starts a function twice.
    pub(super) fn tick(&mut self) -> bool {
        let is_due = |(at, function, ..): &mut Start| *at <= self.now && !self.paused[*function].0;
        let due: Vec<Start> = self.clock.extract_if(.., is_due).collect();
        let counts = |(at, _, clock, _): &&Start| match clock.missed {
            Missed::Skip => *at == self.now,
            Missed::RunOnce => !due.iter().any(|(later, _, other, _)| later > at && other.seconds == clock.seconds),
            Missed::RunAll => true,
        };
        let starts: Vec<&Start> = due.iter().filter(counts).collect();
        let twice = starts.windows(2).any(|two| two[0].1 == two[1].1);
        starts.into_iter().filter(|(_, function, _, event)| !self.enter(*event, *function)).count() > 0 && twice
    }
}
