//! What a program must come to: evaluated from top to bottom, without an engine, a journal or a fault.

use std::collections::HashMap;

use serde_json::{Value, json};
use stepwell::rules::Kind;

use super::print::{complaint, overrun};
use super::program::{Caught, Expr, MODULUS, Program, Shape, Step, Stmt, Target, TinyKind};

/// The journal and the end that a run must have.
#[derive(Debug, Clone, PartialEq)]
pub struct Straight {
    pub records: Vec<Wanted>,
    pub end: End,
}

/// A record that must come.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub key: String,
    pub kind: Kind,
    pub result: Result,
    pub attempts: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Result {
    Value(Value),
    Failed(String),
    Sleep {
        seconds: i64,
    },
    /// Nobody can say.
    Anything,
}

/// How the run ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    Completed(Value),
    Failed(String),
}

/// Evaluates a program of a function with so many attempts on an event whose data have this `n`.
pub fn evaluate(program: &Program, attempts: u32, input: i64) -> Straight {
    let mut walker = Walker { program, attempts, input, values: HashMap::new(), counts: HashMap::new(), records: Vec::new() };
    let end = match walker.block(&program.body) {
        Ok(()) => {
            let values: Vec<i64> = program.result.iter().map(|variable| walker.values[variable]).collect();
            End::Completed(json!({ "values": values, "text": "done" }))
        }
        Err(message) => End::Failed(message),
    };
    Straight { records: walker.records, end }
}

struct Walker<'a> {
    program: &'a Program,
    attempts: u32,
    input: i64,
    values: HashMap<u32, i64>,
    counts: HashMap<(Kind, String), u32>,
    records: Vec<Wanted>,
}

/// The message that ends the run, or nothing.
type Walked = std::result::Result<(), String>;

impl Walker<'_> {
    fn block(&mut self, stmts: &[Stmt]) -> Walked {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Walked {
        match stmt {
            Stmt::Let { to, value } => {
                let value = self.expr(value);
                self.put(*to, value);
            }
            Stmt::Step(step) => return self.step(step),
            Stmt::Sleep { name, seconds } => {
                let name = name.as_deref().unwrap_or("sleep");
                self.record(name, Kind::Sleep, Result::Sleep { seconds: *seconds }, 1);
            }
            Stmt::If { test, then, other } => {
                let branch = if self.expr(test) % 2 == 0 { then } else { other };
                return self.block(branch);
            }
            Stmt::For { times, body } => return (0..*times).try_for_each(|_| self.block(body)),
            Stmt::Call { to, helper, argument } => {
                let program = self.program;
                let helper = &program.helpers[*helper];
                let argument = self.expr(argument);
                // A call of a helper sees nothing of its last call.
                self.values.insert(helper.parameter, argument);
                self.block(&helper.body)?;
                let result = self.expr(&helper.result);
                self.put(*to, result);
            }
            Stmt::Tiny { kind, .. } => {
                let (name, kind) = match kind {
                    TinyKind::Now => ("now", Kind::Now),
                    TinyKind::Uuid => ("uuid", Kind::Uuid),
                    TinyKind::Random => ("random", Kind::Random),
                };
                self.record(name, kind, Result::Anything, 1);
            }
            Stmt::Flaky { site, throws } if *throws >= self.attempts => return Err(complaint(site)),
            Stmt::Flaky { .. } => {}
            Stmt::Fail { message } => return Err(message.clone()),
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Walked {
        let value = self.expr(&step.value);
        let allowed = step.allowed(self.attempts);
        if step.breaks < allowed && !step.overruns() {
            let result = match step.shape {
                Shape::Number => json!(value),
                Shape::Map => json!({ "n": value, "text": format!("{} ✓", step.name) }),
                Shape::List => json!([value, null]),
            };
            self.record(&step.name, Kind::Step, Result::Value(result), step.breaks + 1);
            self.put(step.to, value);
            return Ok(());
        }
        let message = step.timeout.filter(|_| step.overruns()).map_or_else(|| complaint(&step.name), overrun);
        self.record(&step.name, Kind::Step, Result::Failed(message.clone()), allowed);
        if step.caught == Caught::Yes && !step.fails() {
            self.put(step.to, i64::from(allowed) * 10 + i64::from(message == complaint(&step.name)));
            return Ok(());
        }
        Err(message)
    }

    fn record(&mut self, name: &str, kind: Kind, result: Result, attempts: u32) {
        let count = self.counts.entry((kind, name.to_owned())).or_insert(0);
        *count += 1;
        let key = if *count == 1 { name.to_owned() } else { format!("{name}#{count}") };
        self.records.push(Wanted { key, kind, result, attempts });
    }

    fn put(&mut self, to: Target, value: i64) {
        let (Target::New(variable) | Target::Old(variable)) = to;
        self.values.insert(variable, value);
    }

    fn expr(&self, value: &Expr) -> i64 {
        match value {
            Expr::Number(number) => *number,
            Expr::Variable(variable) => self.values[variable],
            Expr::Input => self.input,
            Expr::Mix(left, right) => (self.expr(left) * 31 + self.expr(right) + 1) % MODULUS,
        }
    }
}
