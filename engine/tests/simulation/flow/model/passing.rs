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

/// Why a world tells nothing.
pub struct Coincidence;

impl<'w> Model<'w> {
    /// The fate of each run, by event and function.
    pub fn fates(functions: &'w [Function], acts: &[(Ms, Act)], ticks: &'w Ticks) -> Result<HashMap<(usize, usize), Fate>, Coincidence> {
        let (events, runs, ids, once) = Default::default();
        let (through, starts, pauses) = Default::default();
        let mut model = Model { now: 0, functions, ticks, events, sent: 0, runs, ids, once, through, starts, pauses };
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
            if let Some((_, act)) = acts.next_if(|(at, _)| *at == now) {
                model.act(act)?;
            }
            model.start_all();
        }
        let fate = |run: &Run| {
            let State::Ended(ended, end) = run.state else { return None };
            let failures = usize::from(end == End::Failed && functions[run.function].on_failure);
            Some(((run.event(), run.function), Fate { started: run.started, ended, end, events: run.events.len(), failures }))
        };
        Ok(model.runs.iter().filter_map(fate).collect())
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
                _ => self.opens_at(run).map(|at| (at, Happening::Turn)),
            });
        }
        let next = |at: usize| self.due(at).into_iter().map(|(due, _)| due).filter(|due| *due > self.now).min();
        let ticks = (0..self.functions.len()).filter(|at| !self.is_paused(*at)).filter_map(next);
        due.extend(ticks.map(|at| (at, Happening::Tick)));
        due
    }

    /// When its bucket gives a run its start that waits for that.
    fn opens_at(&self, run: &Run) -> Option<Ms> {
        let (_, us) = self.opens(run).filter(|_| self.waits(run))?;
        Some((us + 999).div_euclid(1_000)).filter(|at| *at > self.now)
    }

    /// When the clock starts a function, and for which times of its schedule.
    fn due(&self, at: usize) -> Vec<(Ms, Ms)> {
        self.functions[at].schedule().map(|slot| (self.ticks.get(&(at, slot)).copied().unwrap_or(slot), slot)).collect()
    }

    /// Lets happen by itself what does at this time.
    fn pass(&mut self, now: Ms) {
        self.now = now;
        for at in (0..self.runs.len()).filter(|at| !self.runs[*at].has_ended()).collect::<Vec<_>>() {
            match self.runs[at].state {
                State::Work(until) if until == now => self.go_on(at),
                State::Rest(until) if until == now => self.runs[at].state = State::Line,
                _ if self.late(&self.runs[at]) == Some(now) => self.end(at, End::Cancelled),
                _ => {}
            }
        }
        for at in (0..self.functions.len()).filter(|at| !self.is_paused(*at)).collect::<Vec<_>>() {
            for (_, slot) in self.due(at).into_iter().filter(|(due, _)| *due == now) {
                self.tick(slot, at);
            }
        }
    }
}
