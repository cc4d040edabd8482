//! What a run does, from its start to its end.

use super::super::world::{Event, Function, Ms, OF_CHILD};
use super::{End, Model};

/// Where a run stands.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum State {
    /// In line: one that has begun takes again what it holds only while it is at work.
    #[default]
    Line,
    Work,
    /// Asleep, or backing off.
    Rest,
    /// It has invoked a run of this function, and waits for its end.
    Invoke(usize),
    Ended(End),
}

#[derive(Default)]
pub(super) struct Run {
    /// Its event; of a batch the first one.
    pub event: Event,
    /// How many events it has.
    pub events: usize,
    pub function: usize,
    /// The run that has invoked it.
    pub parent: Option<usize>,
    pub created: Ms,
    /// When it comes into line.
    pub enter: Ms,
    /// From when on it collects events, if it does.
    pub collects: Option<Ms>,
    pub started: Option<Ms>,
    pub state: State,
    /// Until when it works or rests, or when it has ended.
    pub until: Ms,
    /// How many pieces of its plan it has come to.
    pub next: usize,
}

impl Function {
    /// What a run with this event does each time after it was at work, and how long that takes.
    fn plan(&self, event: &Event) -> Vec<(State, Ms)> {
        let (attempts, wait) = self.retries;
        let sleep = (State::Rest, event.sleeps + self.longer);
        let invoke = self.invokes.filter(|_| !event.of_clock).map(|invoked| (State::Invoke(invoked), 0));
        let retries = (1..attempts.min(event.fails + 1)).map(|_| (State::Rest, wait));
        let end = State::Ended(if event.fails < attempts { End::Completed } else { End::Failed });
        [sleep].into_iter().chain(invoke).chain(retries).chain([(end, 0)]).collect()
    }
}

impl Model<'_> {
    /// A run has done its work, and does what comes next in its plan.
    pub(super) fn go_on(&mut self, at: usize) {
        let run = &mut self.runs[at];
        let (state, takes) = self.functions[run.function].plan(&run.event)[run.next];
        if let State::Ended(end) = state {
            return self.end(&[at], end);
        }
        (run.state, run.until, run.next) = (state, self.now + takes, run.next + 1);
        if let State::Invoke(function) = state {
            // It passes no gate before the line.
            let event = Event { number: run.event.number + OF_CHILD * (run.function + 1), ..run.event };
            self.runs.push(Run { event, events: 1, function, parent: Some(at), created: self.now, enter: self.now, ..Run::default() });
        }
    }

    /// Runs end, and with a cancel what they have invoked; one that has invoked one of them goes on.
    pub(super) fn end(&mut self, runs: &[usize], end: End) {
        for at in runs.iter().copied() {
            (self.runs[at].state, self.runs[at].until) = (State::Ended(end), self.now);
            self.end(&self.living(|run| run.parent == Some(at)), End::Cancelled);
            if let Some(parent) = self.runs[at].parent.filter(|parent| matches!(self.runs[*parent].state, State::Invoke(_))) {
                self.runs[parent].state = State::Line;
            }
        }
    }
}
