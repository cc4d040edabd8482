//! How time passes in the model: what happens by itself, and when. Where two things happen in one millisecond whose order is open,
//! the world tells nothing.

use std::collections::HashMap;

use super::super::world::{Act, Function, Ms, Ticks};
use super::super::{End, Fate};
use super::{Model, Run, State};

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

impl<'w> Model<'w> {
    /// The fate of each run, by event and function; none where the world tells nothing.
    pub fn fates(functions: &'w [Function], acts: &[(Ms, Act)], ticks: Ticks) -> Option<HashMap<(usize, usize), Fate>> {
        let (paused, since) = (vec![false; functions.len()], vec![0; functions.len()]);
        let mut model = Model { functions, ticks, paused, since, ..Model::default() };
        let mut acts = acts.iter().peekable();
        loop {
            let mut due = model.happenings();
            due.extend(acts.peek().map(|(at, _)| (*at, Happening::Act)));
            let Some(now) = due.iter().map(|(at, _)| *at).min() else { break };
            due.retain(|(at, _)| *at == now);
            if due.iter().any(|other| *other != due[0]) {
                return None;
            }
            let again = model.pass(now);
            if acts.next_if(|(at, _)| *at == now).map_or(again, |(_, act)| model.act(act)) {
                return None;
            }
            model.start_all();
        }
        let fate = |run: &Run| {
            let State::Ended(ended, end) = run.state else { return None };
            let failures = usize::from(end == End::Failed && functions[run.function].on_failure);
            Some(((run.event(), run.function), Fate { started: run.started, ended, end, events: run.events.len(), failures }))
        };
        Some(model.runs.iter().filter_map(fate).collect())
    }

    /// What happens by itself, and when. The same for several functions of one event is one thing.
    fn happenings(&self) -> Vec<(Ms, Happening)> {
        let mut due = Vec::new();
        for run in self.runs.iter().filter(|run| !run.has_ended()) {
            due.extend(self.late(run).map(|at| (at, Happening::TimeOut(run.event()))));
            due.extend(match run.state {
                State::Work(until) => Some((until, Happening::Stop(run.event(), run.function))),
                State::Rest(until) => Some((until, Happening::Turn)),
                _ if run.enter > self.now => Some((run.enter, Happening::Turn)),
                _ => self.opens(run).filter(|_| self.waits(run)).map(|(_, us)| ((us + 999).div_euclid(1_000), Happening::Turn)),
            });
        }
        due.extend(self.clock().into_iter().map(|(at, ..)| (at, Happening::Tick)));
        due.retain(|(at, _)| *at > self.now);
        due
    }

    /// When the clock starts functions that are not paused: by which events, and which.
    fn clock(&self) -> Vec<(Ms, usize, usize)> {
        let start = |at: usize, (slot, number): (Ms, usize)| (self.ticks.get(&(at, number)).copied().unwrap_or(slot), number, at);
        let starts = |at: usize| self.functions[at].schedule().into_iter().map(move |one| start(at, one));
        (0..self.functions.len()).filter(|at| !self.paused[*at]).flat_map(starts).collect()
    }

    /// Lets happen by itself what does at this time; says whether the world tells nothing after that, as `act` does: where the clock
    /// starts a function twice.
    fn pass(&mut self, now: Ms) -> bool {
        self.now = now;
        for at in 0..self.runs.len() {
            match self.runs[at].state {
                State::Work(until) if until == now => self.go_on(at),
                State::Rest(until) if until == now => self.runs[at].state = State::Line,
                _ if self.late(&self.runs[at]) == Some(now) => self.end(at, End::Cancelled),
                _ => {}
            }
        }
        let due: Vec<_> = self.clock().into_iter().filter(|(due, ..)| *due == now).collect();
        let twice = due.windows(2).any(|two| two[0].2 == two[1].2);
        due.into_iter().filter(|(_, number, at)| !self.tick(*number, *at)).count() > 0 && twice
    }
}
