//! What a program must come to: evaluated from top to bottom, without an engine or a fault. A journal that another version
//! of the program may have made is taken as it is.

use std::collections::HashMap;

use serde_json::{Value, json};
use stepwell::base::Millis;
use stepwell::rules::row::Recorded;
use stepwell::rules::{Kind, Record};

use super::print::{complaint, overrun};
use super::program::{
    CAUGHT, Caught, Data, Expr, MODULUS, NOTHING, On, Parallel, Program, Race, SETTLED, Shape, Step, Stmt, Target, TinyKind,
};

/// How far a journal leads, and what may come next.
#[derive(Debug, Clone, PartialEq)]
pub struct Straight {
    /// The records that may come next: one, or one of each branch that is under way.
    pub due: Vec<Wanted>,
    /// How the run has to end now, if nothing is due.
    pub end: Option<End>,
}

/// A record that must come.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub key: String,
    pub kind: Kind,
    pub result: Result,
    pub attempts: u32,
    /// The end of the last sleep before it.
    pub not_before: Millis,
    /// What it waits for until it comes.
    pub opens: Option<Opens>,
}

/// A wait that comes before a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Opens {
    Wait { on: On, seconds: Option<i64> },
    Invoke { function: String, data: Value, seconds: Option<i64> },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Result {
    Value(Value),
    Failed(String),
    Sleep {
        seconds: i64,
    },
    /// The ids of events that are sent with it: by number of their name, with their data.
    Sent(Vec<(usize, Value)>),
    /// Nothing; a signal is sent with it.
    Signal(usize, i64),
    /// That of a race: what one of the branches came to that have ended, by their names.
    First(Vec<(String, std::result::Result<i64, String>)>),
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
    let (values, counts) = (HashMap::new(), HashMap::new());
    let path = String::new();
    let mut walker = Walker { program, attempts, input, journal, values, counts, path, asked: 0, not_before: Millis(0), due: Vec::new() };
    let end = match walker.block(&program.body) {
        Ok(()) => {
            let values: Vec<i64> = program.result.iter().map(|variable| walker.values[variable]).collect();
            Some(End::Completed(json!({ "values": values, "text": "done" })))
        }
        Err(Stop::Failed(message)) => Some(End::Failed(message)),
        Err(Stop::Over(message)) => {
            walker.due.clear();
            Some(End::Failed(message))
        }
        Err(Stop::Due) => None,
        Err(Stop::Unfit) => return None,
    };
    (walker.asked == journal.len()).then_some(Straight { due: walker.due, end })
}

struct Walker<'a> {
    program: &'a Program,
    attempts: u32,
    input: i64,
    journal: &'a [Record],
    values: HashMap<u32, i64>,
    counts: HashMap<(Kind, String), u32>,
    /// The branch, with what stands before the names of its records.
    path: String,
    /// How many records it has asked for.
    asked: usize,
    not_before: Millis,
    due: Vec<Wanted>,
}

/// Why the program does not go on.
enum Stop {
    /// The message that ends the run, or the branch.
    Failed(String),
    /// The message of a `fail` in a step, which ends the run wherever its branches are.
    Over(String),
    /// A record has to come.
    Due,
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
                self.record(name, Kind::Sleep, Result::Sleep { seconds: *seconds }, 1, None)?;
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
                self.record(name, kind, Result::Anything, 1, None)?;
            }
            Stmt::Flaky { site, throws } if *throws >= self.attempts => return Err(Stop::Failed(complaint(site))),
            Stmt::Flaky { .. } => {}
            Stmt::Fail { message } => return Err(Stop::Failed(message.clone())),
            Stmt::Wait(wait) => {
                let opens = Opens::Wait { on: wait.on.clone(), seconds: wait.seconds };
                let value = match self.record(&wait.name(), Kind::Wait, Result::Anything, 1, Some(opens))? {
                    Recorded::Value(text) => serde_json::from_str::<Value>(&text).unwrap_or_default(),
                    _ => return Err(Stop::Unfit),
                };
                let value = if matches!(wait.on, On::Signal(_)) { value.as_i64() } else { value["data"]["n"].as_i64() };
                self.put(wait.to, value.unwrap_or(NOTHING));
            }
            Stmt::Invoke(invoke) => {
                let opens = Opens::Invoke { function: invoke.function.clone(), data: self.data(&invoke.data), seconds: invoke.seconds };
                let name = invoke.id.as_deref().unwrap_or(&invoke.function);
                let value = match self.record(name, Kind::Invoke, Result::Anything, 1, Some(opens))? {
                    Recorded::Value(text) => {
                        let value: Value = serde_json::from_str(&text).unwrap_or_default();
                        value["values"][0].as_i64().unwrap_or(0)
                    }
                    Recorded::Failed(_) if invoke.caught => CAUGHT,
                    Recorded::Failed(failure) => return Err(Stop::Failed(failure.message.clone())),
                    Recorded::Until(_) => return Err(Stop::Unfit),
                };
                self.put(invoke.to, value);
            }
            Stmt::Send { events } => {
                let sent = events.iter().map(|(event, data)| (*event, self.data(data))).collect();
                let name = format!("thing/{}", events[0].0);
                self.record(&name, Kind::Send, Result::Sent(sent), 1, None)?;
            }
            Stmt::Signal { number, value } => {
                let value = self.expr(value);
                self.record(&format!("signal{number}"), Kind::Send, Result::Signal(*number, value), 1, None)?;
            }
            Stmt::Parallel(parallel) => return self.parallel(parallel),
            Stmt::Race(race) => return self.race(race),
        }
        Ok(())
    }

    /// A race whose record is there has come to what that says, and nothing below it is asked for. Else each branch goes as far as it is
    /// recorded, and once one has ended the record may come, while the others go on.
    fn race(&mut self, race: &Race) -> Walked {
        let key = self.key(race.name(), Kind::Race);
        if let Some(old) = self.journal.iter().find(|old| *old.key == *key && old.kind == Kind::Race) {
            let below = format!("{key} › ");
            self.asked += 1 + self.journal.iter().filter(|record| record.key.starts_with(&below)).count();
            let (value, first) = match &old.result {
                Recorded::Value(text) => {
                    let won: Value = serde_json::from_str(text).unwrap_or_default();
                    let first = won["index"].as_i64().or_else(|| won["name"].as_str()?.get(1..)?.parse().ok());
                    (won["value"].as_i64().unwrap_or_default(), first.unwrap_or_default())
                }
                Recorded::Failed(_) if race.caught => (CAUGHT, race.lanes.len() as i64),
                Recorded::Failed(failure) => return Err(Stop::Failed(failure.message.clone())),
                Recorded::Until(_) => return Err(Stop::Unfit),
            };
            self.put(race.to, value);
            self.put(race.first, first);
            return Ok(());
        }
        let (above, began) = (self.path.clone(), self.not_before);
        let (mut ended, mut over) = (Vec::new(), None);
        for (at, lane) in race.lanes.iter().enumerate() {
            self.path = format!("{key} › {} › ", race.lane(at));
            self.not_before = began;
            match self.block(&lane.body) {
                Ok(()) => ended.push((race.lane(at), Ok(self.expr(&lane.result)))),
                Err(Stop::Failed(message)) => ended.push((race.lane(at), Err(message))),
                Err(Stop::Over(message)) => over = Some(message),
                Err(Stop::Due) => {}
                Err(Stop::Unfit) => return Err(Stop::Unfit),
            }
        }
        (self.path, self.not_before) = (above, began);
        if let Some(message) = over {
            return Err(Stop::Over(message));
        }
        if !ended.is_empty() {
            let result = Result::First(ended);
            self.due.push(Wanted { key, kind: Kind::Race, result, attempts: 1, not_before: began, opens: None });
        }
        Err(Stop::Due)
    }

    fn parallel(&mut self, parallel: &Parallel) -> Walked {
        let (above, began) = (self.path.clone(), self.not_before);
        let (mut under_way, mut pending, mut last, mut ended, mut over) = (0, false, began, Vec::new(), None);
        for (at, branch) in parallel.branches.iter().enumerate() {
            // A branch begins when so many of those before it have ended that there is room.
            if under_way >= parallel.limit.unwrap_or(usize::MAX) {
                break;
            }
            self.path = format!("{above}{} › ", parallel.name(at));
            self.not_before = began;
            match self.block(&branch.body) {
                Ok(()) => ended.push(Ok(self.expr(&branch.result))),
                Err(Stop::Failed(message)) => ended.push(Err(message)),
                Err(Stop::Over(message)) => over = Some(message),
                Err(Stop::Due) => (pending, under_way) = (true, under_way + 1),
                Err(Stop::Unfit) => return Err(Stop::Unfit),
            }
            last = last.max(self.not_before);
        }
        (self.path, self.not_before) = (above, last);
        if let Some(message) = over {
            return Err(Stop::Over(message));
        }
        if pending {
            return Err(Stop::Due);
        }
        if !parallel.settle
            && let Some(message) = ended.iter().find_map(|one| one.as_ref().err())
        {
            return Err(Stop::Failed(message.clone()));
        }
        for (branch, value) in parallel.branches.iter().zip(ended) {
            self.put(branch.to, value.unwrap_or(SETTLED));
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
        match self.record(&step.name, Kind::Step, result, attempts, None)? {
            Recorded::Value(text) => {
                let value = unshaped(step, &serde_json::from_str(&text).unwrap_or_default());
                self.put(step.to, value);
                Ok(())
            }
            Recorded::Failed(failure) if step.caught == Caught::Yes && !step.fails() => {
                let attempts = i64::from(failure.attempts.unwrap_or_default());
                self.put(step.to, attempts * 10 + i64::from(failure.message == complaint(&step.name)));
                Ok(())
            }
            Recorded::Failed(failure) if step.fails() => Err(Stop::Over(failure.message.clone())),
            Recorded::Failed(failure) => Err(Stop::Failed(failure.message.clone())),
            Recorded::Until(_) => Err(Stop::Unfit),
        }
    }

    /// The next record: the journal's, where it has it; else it is the one that must come.
    fn record(
        &mut self,
        name: &str,
        kind: Kind,
        result: Result,
        attempts: u32,
        opens: Option<Opens>,
    ) -> std::result::Result<Recorded, Stop> {
        let key = self.key(name, kind);
        // Another version may ask in another order, as long as it asks for all of them before anything new.
        let Some(old) = self.journal.iter().find(|old| *old.key == *key && old.kind == kind) else {
            self.due.push(Wanted { key, kind, result, attempts, not_before: self.not_before, opens });
            return Err(Stop::Due);
        };
        self.asked += 1;
        if let Recorded::Until(until) = old.result {
            self.not_before = self.not_before.max(until);
        }
        Ok(old.result.clone())
    }

    /// The key of the next record of this kind and name.
    fn key(&mut self, name: &str, kind: Kind) -> String {
        let name = format!("{}{name}", self.path);
        let count = self.counts.entry((kind, name.clone())).or_insert(0);
        *count += 1;
        if *count == 1 { name } else { format!("{name}#{count}") }
    }

    /// The data of an event that the program makes.
    fn data(&self, data: &Data) -> Value {
        let mut value = json!({ "b": data.b, "n": self.expr(&data.n) });
        if let Some(a) = data.a {
            value["a"] = json!(a);
        }
        value
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
