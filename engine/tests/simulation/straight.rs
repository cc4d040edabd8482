//! What a program must come to: evaluated from top to bottom, without an engine or a fault. A journal that another version
//! of the program may have made is taken as it is.

use std::collections::HashMap;

use serde_json::{Value, json};
use stepwell::rules::row::Recorded;
use stepwell::rules::{Kind, Record};

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

/// Evaluates a program of a function with so many attempts on an event whose data have this `n`, over what has been
/// recorded. None where the journal does not fit: the program does not ask for each record before anything new.
pub fn evaluate(program: &Program, attempts: u32, input: i64, journal: &[Record]) -> Option<Straight> {
    let mut walker = Walker { program, attempts, input, journal, values: HashMap::new(), counts: HashMap::new(), records: Vec::new() };
    let end = match walker.block(&program.body) {
        Ok(()) => {
            let values: Vec<i64> = program.result.iter().map(|variable| walker.values[variable]).collect();
            End::Completed(json!({ "values": values, "text": "done" }))
        }
        Err(Stop::Failed(message)) => End::Failed(message),
        Err(Stop::Unfit) => return None,
    };
    let records = walker.records;
    (records.len() >= journal.len()).then_some(Straight { records, end })
}

struct Walker<'a> {
    program: &'a Program,
    attempts: u32,
    input: i64,
    journal: &'a [Record],
    values: HashMap<u32, i64>,
    counts: HashMap<(Kind, String), u32>,
    records: Vec<Wanted>,
}

/// Why the program does not go on.
enum Stop {
    /// The message that ends the run.
    Failed(String),
    /// The journal has another record here.
    Unfit,
}

type Walked = std::result::Result<(), Stop>;

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
                self.record(name, Kind::Sleep, Result::Sleep { seconds: *seconds }, 1)?;
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
                self.record(name, kind, Result::Anything, 1)?;
            }
            Stmt::Flaky { site, throws } if *throws >= self.attempts => return Err(Stop::Failed(complaint(site))),
            Stmt::Flaky { .. } => {}
            Stmt::Fail { message } => return Err(Stop::Failed(message.clone())),
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Walked {
        let value = self.expr(&step.value);
        let allowed = step.allowed(self.attempts);
        let (result, attempts) = if step.breaks < allowed && !step.overruns() {
            (Result::Value(shaped(step, value)), step.breaks + 1)
        } else {
            let message = step.timeout.filter(|_| step.overruns()).map_or_else(|| complaint(&step.name), overrun);
            (Result::Failed(message), allowed)
        };
        let recorded = self.record(&step.name, Kind::Step, result, attempts)?;
        match recorded.result {
            Result::Value(value) => {
                let value = unshaped(step, &value);
                self.put(step.to, value);
                Ok(())
            }
            Result::Failed(message) if step.caught == Caught::Yes && !step.fails() => {
                self.put(step.to, i64::from(recorded.attempts) * 10 + i64::from(message == complaint(&step.name)));
                Ok(())
            }
            Result::Failed(message) => Err(Stop::Failed(message)),
            Result::Sleep { .. } | Result::Anything => Err(Stop::Unfit),
        }
    }

    /// The next record: the journal's, where it has it, else the one that must come.
    fn record(&mut self, name: &str, kind: Kind, result: Result, attempts: u32) -> std::result::Result<Wanted, Stop> {
        let count = self.counts.entry((kind, name.to_owned())).or_insert(0);
        *count += 1;
        let key = if *count == 1 { name.to_owned() } else { format!("{name}#{count}") };
        let mut wanted = Wanted { key, kind, result, attempts };
        // Another version may ask in another order, as long as it asks for all of them before anything new.
        let old = self.journal.iter().find(|old| *old.key == *wanted.key && old.kind == kind);
        if old.is_none() && self.records.len() < self.journal.len() {
            return Err(Stop::Unfit);
        }
        if let Some(old) = old.filter(|_| kind == Kind::Step) {
            wanted.attempts = old.attempts;
            wanted.result = match &old.result {
                Recorded::Value(text) => Result::Value(serde_json::from_str(text).unwrap_or_default()),
                Recorded::Failed(failure) => Result::Failed(failure.message.clone()),
                Recorded::Until(_) => Result::Anything,
            };
        }
        self.records.push(wanted.clone());
        Ok(wanted)
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

/// What a step answers for its value.
fn shaped(step: &Step, value: i64) -> Value {
    match step.shape {
        Shape::Number => json!(value),
        Shape::Map => json!({ "n": value, "text": format!("{} ✓", step.name) }),
        Shape::List => json!([value, null]),
    }
}

/// The value in what a step answered.
fn unshaped(step: &Step, value: &Value) -> i64 {
    let value = match step.shape {
        Shape::Number => value,
        Shape::Map => &value["n"],
        Shape::List => &value[0],
    };
    value.as_i64().unwrap_or_default()
}
