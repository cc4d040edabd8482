//! Random handler programs: what they may consist of, and how one is drawn.
//!
//! `print` writes a program as a Rhai script, `straight` says what it must come to. Neither knows of the other. `edit`
//! changes programs: to later versions of themselves, and to smaller ones.

mod shallow;
mod talk;

use super::dice::Dice;
use super::swarm::{Feature, Swarm};
pub use shallow::shallow;
pub use talk::{Around, Branch, CAUGHT, Data, Invoke, Lane, Match, NOTHING, On, Parallel, Race, SETTLED, SIGNALS, Wait};

/// Values stay below this number, so that nothing overflows.
pub const MODULUS: i64 = 10_007;
/// A `breaks` that no number of attempts outlives.
pub const ALWAYS: u32 = u32::MAX;
/// How late the clock may be at most: as long as the engine's longest nap.
pub const LATEST_MS: i64 = 10_000;

/// A handler.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// `fn help0(run, x)` and so on.
    pub helpers: Vec<Helper>,
    pub body: Vec<Stmt>,
    /// The variables that the result consists of.
    pub result: Vec<u32>,
    /// A number that stands in the script alone: another version that does the same.
    pub edition: u32,
    /// Whether some of its steps count under one key, as those of all programs do.
    pub counts: bool,
    /// Whether it writes a line into its log before each of its steps.
    pub lines: bool,
}

/// A function of the script: takes a number, gives one.
#[derive(Debug, Clone)]
pub struct Helper {
    pub parameter: u32,
    pub body: Vec<Stmt>,
    pub result: Expr,
}

/// A calculation without effects.
#[derive(Debug, Clone)]
pub enum Expr {
    Number(i64),
    Variable(u32),
    /// `event.data.n`
    Input,
    Mix(Box<Expr>, Box<Expr>),
}

/// Where a value goes.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// `let`
    New(u32),
    /// A variable of an outer block.
    Old(u32),
}

#[derive(Debug, Clone)]
pub enum Stmt {
    Let {
        to: Target,
        value: Expr,
    },
    Step(Step),
    Sleep {
        name: Option<String>,
        seconds: i64,
    },
    /// `if test % 2 == 0`
    If {
        test: Expr,
        then: Vec<Stmt>,
        other: Vec<Stmt>,
    },
    For {
        times: i64,
        body: Vec<Stmt>,
    },
    Call {
        to: Target,
        helper: usize,
        argument: Expr,
    },
    /// A value that nobody can foresee; steps after it show what they see of it.
    Tiny {
        variable: u32,
        kind: TinyKind,
    },
    /// Code between steps that throws so many times.
    Flaky {
        site: String,
        throws: u32,
    },
    Fail {
        message: String,
    },
    Wait(Wait),
    Invoke(Invoke),
    /// Events, by number of their name.
    Send {
        events: Vec<(usize, Data)>,
    },
    Signal {
        number: usize,
        value: Expr,
    },
    Parallel(Parallel),
    Race(Race),
}

#[derive(Debug, Clone, Copy)]
pub enum TinyKind {
    Now,
    Uuid,
    Random,
}

/// A step that calculates, after an effect.
#[derive(Debug, Clone)]
pub struct Step {
    pub to: Target,
    pub name: String,
    /// Of its own; else the function's.
    pub retries: Option<u32>,
    /// Its first attempts that break; `ALWAYS` for all.
    pub breaks: u32,
    pub how: Break,
    pub caught: Caught,
    pub value: Expr,
    pub shape: Shape,
    /// How long its effect takes.
    pub takes_ms: i64,
    /// How long it may take, in seconds; less is a failed attempt.
    pub timeout: Option<i64>,
}

impl Step {
    /// The attempts it has, in a function with so many.
    pub fn allowed(&self, attempts: u32) -> u32 {
        if self.fails() { 1 } else { self.retries.map_or(attempts, |retries| retries + 1) }
    }

    /// Whether its first attempt ends the run with `fail`.
    pub fn fails(&self) -> bool {
        self.how == Break::Fail && self.breaks > 0 && !self.overruns()
    }

    /// Whether it counts in a program that does. It waits for its turn then, so its time is its own.
    fn may_count(&self) -> bool {
        self.timeout.is_none() && self.name.ends_with(['0', '2', '4', '6', '8'])
    }

    /// Whether each of its attempts takes too long.
    pub fn overruns(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout * 1_000 < self.takes_ms)
    }
}

/// How an attempt breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    Throw,
    /// `throw` of a map with a message.
    ThrowMap,
    RetryAfter {
        seconds: i64,
    },
    /// `fail`: no other attempt, and `catch` does not see it.
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    No,
    Yes,
    /// Caught and thrown again.
    Again,
}

/// What the step's result looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Number,
    /// `#{ n: … , text: "…" }`
    Map,
    /// `[…, ()]`
    List,
}

/// Draws a program for a function with so many attempts.
pub fn random(dice: &mut Dice, swarm: &Swarm, attempts: u32, around: &Around) -> Program {
    let mut author = Author { dice, swarm, attempts, around, variables: 0, names: 0, tinies: 0 };
    let mut helpers = Vec::new();
    for _ in 0..if swarm.has(Feature::Helpers) { author.dice.below(3) } else { 0 } {
        let parameter = author.variable();
        let mut scope = Scope { known: vec![parameter], own_from: 0, depth: 1, in_helper: true, branches: 0, helpers: 0, recorded: false };
        let length = author.dice.between(1, 3);
        let body = author.block(&mut scope, length);
        let result = author.expr(&scope, 2);
        helpers.push(Helper { parameter, body, result });
    }
    let mut scope =
        Scope { known: Vec::new(), own_from: 0, depth: 0, in_helper: false, branches: 0, helpers: helpers.len(), recorded: true };
    let length = author.dice.between(1, swarm.length);
    let body = author.block(&mut scope, length);
    Program { helpers, body, result: scope.known, edition: 0, counts: false, lines: false }
}

struct Author<'a> {
    dice: &'a mut Dice,
    swarm: &'a Swarm,
    attempts: u32,
    around: &'a Around,
    variables: u32,
    names: u32,
    tinies: u32,
}

/// What is known where a statement stands.
struct Scope {
    known: Vec<u32>,
    /// Those before belong to what is around the branch: it may read them, and no more.
    own_from: usize,
    depth: u32,
    in_helper: bool,
    /// The branches that it stands in, one in another.
    branches: u32,
    /// Helpers that may be called here.
    helpers: usize,
    /// Whether the code since the last record of the outermost block may still throw.
    recorded: bool,
}

impl Author<'_> {
    fn variable(&mut self) -> u32 {
        self.variables += 1;
        self.variables
    }

    fn block(&mut self, scope: &mut Scope, length: i64) -> Vec<Stmt> {
        (0..length).map(|_| self.statement(scope)).collect()
    }

    fn statement(&mut self, scope: &mut Scope) -> Stmt {
        if self.meets(Feature::Sleeps) {
            scope.recorded = true;
            return self.sleep();
        }
        if scope.depth < 2 && self.meets(Feature::Branches) {
            return self.branch(scope);
        }
        if scope.depth < 2 && self.meets(Feature::Loops) {
            return self.repeat(scope);
        }
        if scope.helpers > 0 && self.meets(Feature::Helpers) {
            let (helper, argument) = (self.dice.below(scope.helpers), self.expr(scope, 2));
            return Stmt::Call { to: self.target(scope), helper, argument };
        }
        if let Some(stmt) = self.talk(scope) {
            return stmt;
        }
        if self.tinies < 4 && self.meets(Feature::Tinies) {
            self.tinies += 1;
            let kind = *self.dice.pick(&[TinyKind::Now, TinyKind::Uuid, TinyKind::Random]);
            return Stmt::Tiny { variable: self.tinies, kind };
        }
        // The attempts of the code between two records are one account, so only one piece of code draws on it.
        if scope.depth == 0 && scope.branches == 0 && scope.recorded && self.meets(Feature::Throws) {
            scope.recorded = false;
            return self.flaky();
        }
        if !scope.in_helper && scope.branches == 0 && self.meets(Feature::Fails) {
            return Stmt::Fail { message: format!("no way on from here {}", self.name("f")) };
        }
        if self.dice.chance(30) {
            let value = self.expr(scope, 3);
            return Stmt::Let { to: self.target(scope), value };
        }
        self.step(scope)
    }

    fn meets(&mut self, feature: Feature) -> bool {
        self.swarm.meets(feature, self.dice)
    }

    fn branch(&mut self, scope: &mut Scope) -> Stmt {
        let test = self.expr(scope, 2);
        let lengths = (self.dice.between(1, 3), self.dice.between(0, 2));
        Stmt::If { test, then: self.inner(scope, lengths.0), other: self.inner(scope, lengths.1) }
    }

    fn repeat(&mut self, scope: &mut Scope) -> Stmt {
        let (times, length) = (self.dice.between(0, 3), self.dice.between(1, 2));
        Stmt::For { times, body: self.inner(scope, length) }
    }

    /// A block within a block: what it declares is gone after it.
    fn inner(&mut self, scope: &Scope, length: i64) -> Vec<Stmt> {
        let mut inner = Scope { known: scope.known.clone(), depth: scope.depth + 1, ..*scope };
        self.block(&mut inner, length)
    }

    fn target(&mut self, scope: &mut Scope) -> Target {
        let own = &scope.known[scope.own_from..];
        if !own.is_empty() && self.dice.chance(if scope.depth > 0 { 60 } else { 20 }) {
            return Target::Old(*self.dice.pick(own));
        }
        let new = self.variable();
        scope.known.push(new);
        Target::New(new)
    }

    fn name(&mut self, letter: &str) -> String {
        self.names += 1;
        format!("{letter}{}", self.names)
    }

    fn expr(&mut self, scope: &Scope, depth: u32) -> Expr {
        match self.dice.below(5) {
            0 => Expr::Number(self.dice.between(0, 99)),
            1 if !scope.in_helper => Expr::Input,
            2 | 3 if depth > 0 => Expr::Mix(Box::new(self.expr(scope, depth - 1)), Box::new(self.expr(scope, depth - 1))),
            _ if !scope.known.is_empty() => Expr::Variable(*self.dice.pick(&scope.known)),
            _ => Expr::Number(self.dice.between(0, 99)),
        }
    }

    fn sleep(&mut self) -> Stmt {
        let named = self.dice.chance(50);
        let seconds = if self.dice.chance(10) { self.swarm.sleep * 60 } else { self.dice.between(0, self.swarm.sleep) };
        Stmt::Sleep { name: named.then(|| self.name("nap")), seconds }
    }

    fn flaky(&mut self) -> Stmt {
        let site = self.name("site");
        let throws = if self.dice.chance(10) { ALWAYS } else { self.dice.below(self.attempts as usize) as u32 };
        Stmt::Flaky { site, throws }
    }

    fn step(&mut self, scope: &mut Scope) -> Stmt {
        scope.recorded = true;
        // A name may come back, so that its key gets a number.
        let name = if self.names > 0 && self.dice.chance(15) { "again".to_owned() } else { self.name("s") };
        let retries = self.dice.chance(30).then(|| self.dice.below(4) as u32);
        let allowed = retries.map_or(self.attempts, |retries| retries + 1);
        let (mut breaks, mut how, mut caught) = (0, Break::Throw, Caught::No);
        if name != "again" && self.meets(Feature::Breaks) {
            breaks = if self.dice.chance(25) { ALWAYS } else { self.dice.between(1, i64::from(allowed)) as u32 };
            how = match self.dice.below(12) {
                // It ends the run at once, wherever the other branches are.
                0 if scope.branches == 0 => Break::Fail,
                1 | 2 => Break::RetryAfter { seconds: self.dice.between(1, 400) },
                3 | 4 => Break::ThrowMap,
                _ => Break::Throw,
            };
            if breaks >= allowed && self.dice.chance(75) {
                caught = if self.dice.chance(85) { Caught::Yes } else { Caught::Again };
            }
        }
        let value = self.expr(scope, 3);
        let shape = *self.dice.pick(&[Shape::Number, Shape::Number, Shape::Map, Shape::List]);
        let mut takes_ms = if self.meets(Feature::SlowSteps) { self.dice.between(1, 20_000) } else { 0 };
        // It is never close: the moment itself belongs to nobody.
        let timeout =
            (takes_ms > 0 && name != "again" && self.meets(Feature::Timeouts)).then(|| takes_ms / 1_000 + self.dice.between(-1, 2));
        let timeout = timeout.filter(|timeout| *timeout > 0 && timeout * 1_000 != takes_ms);
        if let Some(timeout) = timeout.filter(|timeout| timeout * 1_000 < takes_ms) {
            // The clock may be late to say that the time is over, but not as late as that.
            takes_ms = timeout * 1_000 + 3 * LATEST_MS;
        }
        Stmt::Step(Step { to: self.target(scope), name, retries, breaks, how, caught, value, shape, takes_ms, timeout })
    }
}

impl Program {
    /// Its statements, those within others too.
    pub fn size(&self) -> usize {
        self.body.iter().chain(self.helpers.iter().flat_map(|helper| &helper.body)).map(Stmt::size).sum()
    }

    /// The step whose record has this key, wherever it stands.
    pub fn step(&self, key: &str) -> Option<&Step> {
        let name = key.rsplit(" › ").next().unwrap_or_default().split('#').next().unwrap_or_default();
        let blocks = std::iter::once(&self.body).chain(self.helpers.iter().map(|helper| &helper.body));
        blocks.filter_map(|block| step_in(block, name)).next()
    }

    /// Whether a step of it counts.
    pub fn has_counting(&self, step: &Step) -> bool {
        self.counts && step.may_count()
    }

    /// Whether code between its steps throws somewhere.
    pub fn is_flaky(&self) -> bool {
        self.body.iter().any(|stmt| matches!(stmt, Stmt::Flaky { .. }))
    }

    /// How often the code at this place throws.
    pub fn throws(&self, site: &str) -> Option<u32> {
        self.body.iter().find_map(|stmt| match stmt {
            Stmt::Flaky { site: here, throws } if here == site => Some(*throws),
            _ => None,
        })
    }
}

impl Stmt {
    fn size(&self) -> usize {
        let inside = match self {
            Stmt::If { then, other, .. } => then.iter().chain(other).map(Stmt::size).sum(),
            Stmt::For { body, .. } => body.iter().map(Stmt::size).sum(),
            Stmt::Parallel(parallel) => parallel.branches.iter().flat_map(|branch| &branch.body).map(Stmt::size).sum(),
            Stmt::Race(race) => race.lanes.iter().flat_map(|lane| &lane.body).map(Stmt::size).sum(),
            _ => 0,
        };
        1 + inside
    }
}

fn step_in<'a>(block: &'a [Stmt], name: &str) -> Option<&'a Step> {
    block.iter().find_map(|stmt| match stmt {
        Stmt::Step(step) if step.name == name => Some(step),
        Stmt::If { then, other, .. } => step_in(then, name).or_else(|| step_in(other, name)),
        Stmt::For { body, .. } => step_in(body, name),
        Stmt::Parallel(parallel) => parallel.branches.iter().find_map(|branch| step_in(&branch.body, name)),
        Stmt::Race(race) => race.lanes.iter().find_map(|lane| step_in(&lane.body, name)),
        _ => None,
    })
}
