//! What programs have to do with others: waits, invocations, events and signals that they send, and branches, in which
//! all of that goes on at once.

use serde_json::Value;

use super::{Author, Expr, Scope, Stmt, Target};
use crate::simulation::dice::Dice;
use crate::simulation::swarm::Feature;

/// What a wait that came to nothing gives.
pub const NOTHING: i64 = 7;
/// What an invocation that failed gives where that is caught.
pub const CAUGHT: i64 = 17;
/// What a branch that failed gives where all are settled.
pub const SETTLED: i64 = 13;
/// Names of signals: `signal0` and so on.
pub const SIGNALS: usize = 2;

/// What there is around a program.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// How many event names there are.
    pub events: usize,
    /// Those that start no function which could come to start this one again.
    pub sends: Vec<usize>,
    /// The functions that it may invoke.
    pub invokes: Vec<String>,
    /// Whether a run may wait for ever without keeping others from anything.
    pub may_hang: bool,
}

/// A wait.
#[derive(Debug, Clone)]
pub struct Wait {
    pub to: Target,
    /// Of its own; else the name of what it waits for first.
    pub id: Option<String>,
    pub on: On,
    pub seconds: Option<i64>,
}

/// What a wait is for.
#[derive(Debug, Clone, PartialEq)]
pub enum On {
    /// One event of these, by number of its name.
    Events(Vec<(usize, Match)>),
    /// A signal, by number.
    Signal(usize),
}

/// The `if` of a wait, or of what cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    Any,
    /// `async.data.a == event.data.a`
    SameA,
    /// `async.data.n < …`
    Below(i64),
    SameAAndBelow(i64),
    /// `async.data.n == event.data.n`
    SameN,
}

/// An invocation of another function.
#[derive(Debug, Clone)]
pub struct Invoke {
    pub to: Target,
    pub id: Option<String>,
    pub function: String,
    pub data: Data,
    pub seconds: Option<i64>,
    pub caught: bool,
}

/// The data of an event that a program makes.
#[derive(Debug, Clone)]
pub struct Data {
    pub n: Expr,
    pub a: Option<i64>,
    pub b: i64,
}

/// Branches.
#[derive(Debug, Clone)]
pub struct Parallel {
    pub branches: Vec<Branch>,
    pub named: bool,
    pub settle: bool,
    pub limit: Option<usize>,
}

#[derive(Debug, Clone)]
pub struct Branch {
    pub body: Vec<Stmt>,
    pub result: Expr,
    /// The variable that gets the result.
    pub to: Target,
}

/// Branches of which the first one that ends counts.
#[derive(Debug, Clone)]
pub struct Race {
    pub lanes: Vec<Lane>,
    pub named: bool,
    /// Of its own; else it is called `race`.
    pub id: Option<String>,
    /// The variable that gets the value of the first one, and the one that gets its number.
    pub to: Target,
    pub first: Target,
    pub caught: bool,
}

/// A branch of a race.
#[derive(Debug, Clone)]
pub struct Lane {
    pub body: Vec<Stmt>,
    pub result: Expr,
}

impl Match {
    /// As CEL; none where everything fits.
    pub fn cel(self) -> Option<String> {
        match self {
            Match::Any => None,
            Match::SameA => Some("async.data.a == event.data.a".to_owned()),
            Match::SameN => Some("async.data.n == event.data.n".to_owned()),
            Match::Below(below) => Some(format!("async.data.n < {below}")),
            Match::SameAAndBelow(below) => Some(format!("async.data.n < {below} && event.data.a == async.data.a")),
        }
    }

    /// What a text of `cel` was.
    pub fn read(text: Option<&str>) -> Option<Match> {
        let text = text.unwrap_or_default();
        let below = text.strip_prefix("async.data.n < ").map(|rest| rest.split(' ').next().unwrap_or_default());
        let below = below.and_then(|number| number.parse().ok());
        let all = [Some(Match::Any), Some(Match::SameA), Some(Match::SameN), below.map(Match::Below), below.map(Match::SameAAndBelow)];
        all.into_iter().flatten().find(|one| one.cel().as_deref().unwrap_or_default() == text)
    }

    /// Whether an event with the data `other` fits a run whose event has the data `own`.
    pub fn fits(self, own: &Value, other: &Value) -> bool {
        let same = own.get("a") == other.get("a");
        let below = |below: i64| other["n"].as_i64().is_some_and(|n| n < below);
        match self {
            Match::Any => true,
            Match::SameA => same,
            Match::SameN => own["n"] == other["n"],
            Match::Below(most) => below(most),
            Match::SameAAndBelow(most) => same && below(most),
        }
    }

    pub fn random(dice: &mut Dice) -> Match {
        let below = dice.between(20, 100);
        *dice.pick(&[Match::Any, Match::SameA, Match::SameA, Match::Below(below), Match::SameAAndBelow(below)])
    }
}

impl Wait {
    /// The name of its record.
    pub fn name(&self) -> String {
        self.id.clone().unwrap_or_else(|| match &self.on {
            On::Events(events) => format!("thing/{}", events[0].0),
            On::Signal(number) => format!("signal{number}"),
        })
    }
}

impl Parallel {
    /// The name of a branch.
    pub fn name(&self, at: usize) -> String {
        if self.named { format!("b{at}") } else { at.to_string() }
    }
}

impl Race {
    /// The name of its record.
    pub fn name(&self) -> &str {
        self.id.as_deref().unwrap_or("race")
    }

    /// The name of a branch.
    pub fn lane(&self, at: usize) -> String {
        if self.named { format!("b{at}") } else { at.to_string() }
    }
}

impl Author<'_> {
    /// A statement that has to do with others, if there is to be one here.
    pub(super) fn talk(&mut self, scope: &mut Scope) -> Option<Stmt> {
        if self.meets(Feature::Waits) {
            return Some(Stmt::Wait(self.wait(scope)));
        }
        if scope.depth > 0 || scope.in_helper {
            return None;
        }
        if !self.around.sends.is_empty() && self.meets(Feature::Sends) {
            let event = *self.dice.pick(&self.around.sends);
            let both = self.dice.chance(30);
            let events = (0..if both { 2 } else { 1 }).map(|_| (event, self.data(scope))).collect();
            return Some(Stmt::Send { events });
        }
        if self.meets(Feature::Signals) {
            let value = self.expr(scope, 2);
            return Some(Stmt::Signal { number: self.dice.below(SIGNALS), value });
        }
        if !self.around.invokes.is_empty() && self.meets(Feature::Invokes) {
            return Some(Stmt::Invoke(self.invoke(scope)));
        }
        if scope.branches == 0 && self.meets(Feature::Parallels) {
            return Some(Stmt::Parallel(self.parallel(scope)));
        }
        let race = if scope.branches == 0 { Feature::Races } else { Feature::InnerRaces };
        if scope.branches < 2 && self.meets(race) {
            return Some(Stmt::Race(self.race(scope)));
        }
        None
    }

    fn data(&mut self, scope: &Scope) -> Data {
        Data { n: self.expr(scope, 2), a: self.dice.chance(85).then(|| self.dice.between(0, 2)), b: self.dice.between(0, 1) }
    }

    fn patience(&mut self) -> Option<i64> {
        let longest = *self.dice.pick(&[5, 60, 900]);
        (!self.around.may_hang || self.dice.chance(70)).then(|| self.dice.between(0, longest))
    }

    fn wait(&mut self, scope: &mut Scope) -> Wait {
        let on = if self.swarm.has(Feature::Signals) && self.dice.chance(30) {
            On::Signal(self.dice.below(SIGNALS))
        } else {
            let count = if self.dice.chance(25) { 2 } else { 1 };
            On::Events((0..count).map(|_| (self.dice.below(self.around.events), Match::random(self.dice))).collect())
        };
        let id = self.dice.chance(50).then(|| self.name("w"));
        let seconds = self.patience();
        Wait { to: self.target(scope), id, on, seconds }
    }

    fn invoke(&mut self, scope: &mut Scope) -> Invoke {
        let function = self.dice.pick(&self.around.invokes).clone();
        let id = self.dice.chance(50).then(|| self.name("i"));
        let (data, seconds, caught) = (self.data(scope), self.patience(), self.dice.chance(50));
        Invoke { to: self.target(scope), id, function, data, seconds, caught }
    }

    fn parallel(&mut self, scope: &mut Scope) -> Parallel {
        let count = self.dice.between(2, 3);
        let mut branches = Vec::new();
        for _ in 0..count {
            let mut inner = Scope { known: scope.known.clone(), own_from: scope.known.len(), branches: scope.branches + 1, ..*scope };
            let length = self.dice.between(1, 3);
            let body = self.block(&mut inner, length);
            let result = self.expr(&inner, 2);
            branches.push((body, result));
        }
        let branches = branches.into_iter().map(|(body, result)| Branch { body, result, to: self.target(scope) }).collect();
        let limit = self.dice.chance(30).then(|| self.dice.between(1, count) as usize);
        scope.recorded = false;
        Parallel { branches, named: self.dice.chance(50), settle: self.dice.chance(40), limit }
    }

    fn race(&mut self, scope: &mut Scope) -> Race {
        let mut lanes = Vec::new();
        for _ in 0..self.dice.between(2, 3) {
            let mut inner = Scope { known: scope.known.clone(), own_from: scope.known.len(), branches: scope.branches + 1, ..*scope };
            // One that has nothing to do ends it at once, so few do.
            let length = if self.dice.chance(5) { 0 } else { self.dice.between(1, 2) };
            let body = self.block(&mut inner, length);
            let result = self.expr(&inner, 2);
            lanes.push(Lane { body, result });
        }
        let id = self.dice.chance(50).then(|| self.name("r"));
        let (named, caught) = (self.dice.chance(50), self.dice.chance(50));
        let (to, first) = (self.target(scope), self.target(scope));
        scope.recorded = false;
        Race { lanes, named, id, to, first, caught }
    }
}
