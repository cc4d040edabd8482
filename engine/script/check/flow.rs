//! Follows the values of a script through its variables, closures and loops, as far as that is certain, and notes what it
//! reads of events and what it hands to others.
//!
//! A variable that is assigned anywhere, or changed by a method, is not followed; nor is what a `fn` is given.
//! `syntax` says which these are.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rhai::{AST, Expr, FnCallExpr, Position, Stmt, StmtBlock};

use crate::base::{Diagnostic, Location, Source};

use super::facts::{At, Datum, End, Facts, Handed, Hop, Read, Root, What};
use super::loops::{Held, Turn, closures, from_outside, keeps};
use super::syntax::{Bodies, Body, Changes, bodies, captures, flatten};
use super::{Names, closure};

/// Parts of a value that a variable is followed with, and how deep they lie in each other: more says nothing that a reader needs,
/// and a variable that holds itself twice, again and again, would double with every line.
const PARTS_MOST: usize = 1_000;
const PARTS_DEPTH: usize = 32;
/// Parts that are copied out of variables in one file; after them, variables are not followed.
const COPIES_MOST: usize = 200_000;
/// Methods of lists whose closure is given each item first.
const EACH: [&str; 13] =
    ["all", "any", "drain", "filter", "find", "find_map", "for_each", "index_of", "map", "order_by", "retain", "some", "zip"];
/// Methods that `()` has too.
const HARMLESS: [&str; 6] = ["to_string", "to_debug", "type_of", "is_shared", "contains", "get"];
/// Operators that fail where a side is missing. `+` is not among them: with a text it works.
const OPERATORS: [&str; 5] = ["-", "*", "/", "%", "**"];

/// What follows the values.
pub(super) struct Flow<'a> {
    pub(super) names: &'a Names,
    source: &'a Arc<Source>,
    pub(super) functions: Bodies,
    /// What happens to variables after they were made.
    changes: Changes,
    /// The variables that are there, the innermost last.
    pub(super) scope: Vec<(String, What)>,
    /// The loops around the present expression, the innermost last.
    pub(super) loops: Vec<Turn>,
    /// How many of them lie outside of its function.
    pub(super) base: usize,
    /// How many of them a closure that is made here has nothing to do with for certain.
    pub(super) reach: usize,
    /// The closures that lie in variables of which nothing else is known, by where these stand.
    pub(super) held: BTreeMap<usize, Vec<Held>>,
    /// How many conditions the present expression lies in.
    conditions: usize,
    /// How many `try` it lies in.
    shields: usize,
    /// Whether unknown variables are told, since the parser gave up before it came to them.
    tells_unknown: bool,
    /// How many parts of values may still be copied out of variables.
    copies: usize,
    facts: Facts,
    pub(super) problems: Vec<Diagnostic>,
}

/// Follows the values of a file. `globals` are the variables that it finds, if it is the handler itself; `is_broken`
/// says that the parser gave up at an unknown module, so that unknown variables are told here.
pub(super) fn follow(names: &Names, ast: &AST, source: &Arc<Source>, globals: &[&str], is_broken: bool) -> (Facts, Vec<Diagnostic>) {
    let functions = bodies(ast);
    let changes = Changes::of(ast, &functions, &|name| names.entries.contains_key(name));
    let mut flow = Flow {
        names,
        source,
        functions,
        changes,
        scope: Vec::new(),
        loops: Vec::new(),
        base: 0,
        reach: 0,
        held: BTreeMap::new(),
        conditions: 0,
        shields: 0,
        tells_unknown: is_broken,
        copies: COPIES_MOST,
        facts: Facts::default(),
        problems: Vec::new(),
    };
    for name in globals {
        let what = match *name {
            "event" => What::Read(Read { root: Root::Own, hops: Vec::new(), end: End::Value, is_shielded: false }),
            "events" => What::Events,
            "run" => What::Of(vec!["run"]),
            _ => What::Anything,
        };
        flow.scope.push(((*name).to_owned(), what));
    }
    flow.statements(ast.statements());
    // A `fn` sees nothing of the script around it.
    let named = flow.functions.iter().filter(|(name, _)| !name.contains('$')).flat_map(|(_, bodies)| bodies.values());
    let named: Vec<Rc<Body>> = named.map(Rc::clone).collect();
    for body in named {
        flow.held.clear();
        flow.scope = body.parameters.iter().map(|name| (name.clone(), What::Anything)).collect();
        flow.statements(&body.statements);
    }
    (flow.facts, flow.problems)
}

impl Flow<'_> {
    pub(super) fn at(&self, position: Position) -> Location {
        Location::word_at(self.source, position.line().unwrap_or(1), position.position().unwrap_or(1))
    }

    /// The place of a literal text, with its quotes.
    fn quoted(&self, position: Position, text: &str) -> Location {
        self.at(position).quoted(text)
    }

    fn bind(&mut self, name: &str, what: What) {
        let what = match what {
            _ if self.changes.of_shape(name) => What::Anything,
            what if size(&what, PARTS_DEPTH, PARTS_MOST).is_none() => What::Anything,
            what if self.changes.of_value(name) => type_alone(what),
            what => what,
        };
        // What another variable held that stood here ended with it.
        self.held.remove(&self.scope.len());
        self.scope.push((name.to_owned(), what));
    }

    /// A block, or one way that an expression may go; gives the closures in its value that capture variables of loops.
    fn block(&mut self, block: &StmtBlock) -> Vec<Datum> {
        self.statements(block.statements())
    }

    fn statements(&mut self, statements: &[Stmt]) -> Vec<Datum> {
        let depth = self.scope.len();
        self.turn(statements, |leaving| *leaving += 1);
        let mut last = Vec::new();
        for statement in statements {
            last = self.statement(statement);
        }
        self.turn(statements, |leaving| *leaving -= 1);
        self.scope.truncate(depth);
        last
    }

    fn statement(&mut self, statement: &Stmt) -> Vec<Datum> {
        match statement {
            Stmt::Expr(expression) => return self.with_closures(expression).1,
            Stmt::FnCall(call, position) => drop(self.call(call, *position)),
            Stmt::Var(parts, ..) => {
                let (what, held) = self.with_closures(&parts.1);
                let slot = self.scope.len();
                self.bind(&parts.0.name, what);
                held.into_iter().for_each(|closure| self.hold(slot, None, closure));
            }
            Stmt::Assignment(parts) => {
                let given = self.datum(&parts.1.rhs);
                let operator = parts.0.get_op_assignment_info();
                if let Some((.., operator, _)) = operator {
                    self.operand(operator.literal_syntax(), &given.what);
                }
                self.assigned(&parts.1.lhs, operator.is_some(), &given);
                for link in flatten(&parts.1.lhs).1.iter().filter(|link| !link.is_dot) {
                    self.value(link.expression);
                }
            }
            Stmt::If(parts, _) => {
                self.condition(&parts.expr);
                let mut either = self.block(&parts.body);
                either.extend(self.block(&parts.branch));
                return either;
            }
            Stmt::While(parts, _) | Stmt::Do(parts, ..) => {
                self.condition(&parts.expr);
                self.loops.push(Turn { slots: 0..0, leaving: 0 });
                self.block(&parts.body);
                self.loops.pop();
            }
            Stmt::For(parts, _) => {
                let list = self.value(&parts.2.expr);
                if let What::Read(read) = &list {
                    self.note(read, End::Loop);
                }
                let (depth, item) = (self.scope.len(), self.item(&list, self.at(parts.0.pos)));
                self.bind(&parts.0.name, item);
                if let Some(counter) = &parts.1 {
                    self.bind(&counter.name, What::Whole(None));
                }
                self.loops.push(Turn { slots: depth..self.scope.len(), leaving: 0 });
                self.block(&parts.2.body);
                self.loops.pop();
                self.scope.truncate(depth);
            }
            Stmt::Switch(parts, _) => {
                self.condition(&parts.0);
                let mut any = Vec::new();
                for case in &parts.1.expressions {
                    self.condition(&case.lhs);
                    any.extend(self.with_closures(&case.rhs).1);
                }
                return any;
            }
            Stmt::TryCatch(parts, _) => {
                self.shields += 1;
                self.block(&parts.body);
                self.shields -= 1;
                let depth = self.scope.len();
                if let Expr::Variable(variable, ..) = &parts.expr {
                    self.bind(&variable.1, What::Anything);
                }
                self.block(&parts.branch);
                self.scope.truncate(depth);
            }
            Stmt::Block(block) => return self.block(block),
            Stmt::Return(Some(expression), ..) | Stmt::BreakLoop(Some(expression), ..) => drop(self.value(expression)),
            Stmt::Import(parts, _) => self.bind(&parts.1.name, What::Anything),
            _ => {}
        }
        Vec::new()
    }

    /// A condition: what it looks at may be missing.
    fn condition(&mut self, expression: &Expr) -> What {
        self.conditions += 1;
        let what = self.value(expression);
        self.conditions -= 1;
        what
    }

    fn value(&mut self, expression: &Expr) -> What {
        let what = match expression {
            _ if closure(expression).is_some() => self.closure(expression, &[], false).0,
            Expr::StringConstant(text, _) => What::Text(Some(text.to_string())),
            Expr::IntegerConstant(number, _) => What::Whole(Some(*number)),
            Expr::FloatConstant(number, _) => What::Number(Some(**number)),
            Expr::BoolConstant(flag, _) => What::Flag(Some(*flag)),
            Expr::Unit(_) => What::Nothing,
            Expr::InterpolatedString(parts, _) => {
                parts.iter().for_each(|part| drop(self.value(part)));
                What::Text(None)
            }
            Expr::Array(items, _) => What::List(items.iter().map(|item| self.datum(item)).collect()),
            Expr::Map(parts, _) => {
                What::Map(parts.0.iter().map(|(name, value)| (name.name.to_string(), self.at(name.pos), self.datum(value))).collect())
            }
            Expr::Variable(variable, _, position) => self.variable(variable.2.is_empty(), &variable.1, *position),
            Expr::Dot(..) | Expr::Index(..) => self.chain(expression),
            Expr::FnCall(call, position) => self.call(call, *position),
            Expr::And(parts, _) | Expr::Or(parts, _) => {
                parts.iter().for_each(|part| drop(self.condition(part)));
                What::Flag(None)
            }
            Expr::Coalesce(parts, _) => {
                self.conditions += 1;
                let either: Vec<Datum> = parts.iter().flat_map(|part| self.with_closures(part).1).collect();
                self.conditions -= 1;
                keeps(&either)
            }
            Expr::Stmt(block) => keeps(&self.block(block)),
            _ => What::Anything,
        };
        if let (true, What::Read(read)) = (self.conditions > 0, &what) {
            self.test(read);
        }
        what
    }

    /// A value, and the closures in it that capture variables of the loops around it.
    fn with_closures(&mut self, expression: &Expr) -> (What, Vec<Datum>) {
        if self.loops.is_empty() {
            return (self.value(expression), Vec::new());
        }
        let datum = self.datum(expression);
        let held = closures(&datum);
        (datum.what, held)
    }

    fn datum(&mut self, expression: &Expr) -> Datum {
        let what = self.value(expression);
        let place = match &what {
            What::Text(Some(text)) => self.quoted(expression.start_position(), text),
            _ => self.at(expression.start_position()),
        };
        Datum { what, place }
    }

    fn variable(&mut self, is_plain: bool, name: &str, position: Position) -> What {
        if !is_plain {
            return What::Anything;
        }
        match self.slot(name) {
            Some(slot) => match &self.scope[slot].1 {
                What::Anything => self.holds(slot),
                what => match size(what, PARTS_DEPTH, self.copies) {
                    Some(count) => {
                        self.copies -= count;
                        what.clone()
                    }
                    None => {
                        self.copies = 0;
                        What::Anything
                    }
                },
            },
            None => {
                if self.tells_unknown {
                    let known: Vec<&str> = self.scope.iter().map(|(known, _)| known.as_str()).collect();
                    let problem = Diagnostic::error("E0306", format!("there is no variable `{name}`")).at(self.at(position));
                    let problem = problem.nearest(name, known);
                    self.problems.push(problem);
                }
                What::Anything
            }
        }
    }

    /// Notes that a value is asked for, and that with it what it is safely reached through is there.
    fn test(&mut self, read: &Read) {
        self.facts.tested.insert(read.path(read.hops.len()));
        let safe = read.hops.iter().enumerate().filter(|(_, hop)| hop.is_safe);
        self.facts.tested.extend(safe.map(|(at, _)| read.path(at)));
    }

    fn note(&mut self, read: &Read, end: End) {
        if !read.hops.is_empty() {
            self.facts.reads.push(Read { end, is_shielded: self.shields > 0, ..read.clone() });
        }
    }

    /// An operand of an operator that fails where it is missing.
    fn operand(&mut self, operator: &str, what: &What) {
        if let (true, What::Read(read)) = (OPERATORS.contains(&operator), what) {
            self.note(&read.clone(), End::Operator(operator.to_owned()));
        }
    }

    /// A value one step further.
    fn further(&self, from: &What, at: At, place: Location, is_safe: bool) -> What {
        match from {
            What::Read(read) => {
                let mut read = read.clone();
                read.hops.push(Hop { at, place, is_safe });
                What::Read(read)
            }
            What::Events if !matches!(at, At::Field(_)) => {
                What::Read(Read { root: Root::Own, hops: Vec::new(), end: End::Value, is_shielded: false })
            }
            _ => What::Anything,
        }
    }

    fn item(&self, list: &What, place: Location) -> What {
        self.further(list, At::Each, place, false)
    }

    fn chain(&mut self, expression: &Expr) -> What {
        let (root, links) = flatten(expression);
        let mut what = self.value(root);
        // What a method gives is no longer a part of the variable.
        let mut owner = self.owner(root);
        for link in links {
            what = match link.expression {
                Expr::Property(parts, position) if link.is_dot => self.field(&what, &parts.2, *position, link.is_safe),
                Expr::MethodCall(call, position) if link.is_dot => self.method(&what, call, *position, link.is_safe, owner.take()),
                index => {
                    let by = self.value(index);
                    let place = self.at(index.start_position());
                    match by {
                        What::Text(Some(name)) => {
                            let place = self.quoted(index.start_position(), &name);
                            self.further(&what, At::Field(name), place, link.is_safe)
                        }
                        What::Whole(Some(number)) => self.further(&what, At::Index(number), place, link.is_safe),
                        What::Whole(None) => self.further(&what, At::Each, place, link.is_safe),
                        // A key that is not known may be a name or an index.
                        _ => match what {
                            What::Events => self.further(&what, At::Each, place, link.is_safe),
                            _ => What::Anything,
                        },
                    }
                }
            };
        }
        if let What::Read(read) = &what {
            self.note(&read.clone(), End::Value);
        }
        what
    }

    fn field(&mut self, what: &What, name: &str, position: Position, is_safe: bool) -> What {
        let place = self.at(position);
        match what {
            What::Read(_) => self.further(what, At::Field(name.to_owned()), place, is_safe),
            What::Map(entries) => entries.iter().find(|(known, ..)| known == name).map_or(What::Anything, |(.., datum)| datum.what.clone()),
            _ if is_safe => What::Anything,
            _ => self.typed_field(what, name, position),
        }
    }

    /// A call of a method on a value; `owner` is the variable that the value is a part of.
    fn method(&mut self, what: &What, call: &FnCallExpr, position: Position, is_safe: bool, owner: Option<usize>) -> What {
        let name = call.name.as_str();
        let (mut given, mut value): (Vec<Datum>, Vec<Datum>) = (Vec::new(), Vec::new());
        for argument in &call.args {
            if closure(argument).is_some() {
                let item = self.item(what, self.at(position));
                let parameters = match name {
                    "sort" => vec![item.clone(), item],
                    "reduce" | "reduce_rev" => vec![What::Anything, item],
                    _ if EACH.contains(&name) => vec![item],
                    _ => Vec::new(),
                };
                let what;
                (what, value) = self.closure(argument, &parameters, !parameters.is_empty());
                given.push(Datum { what, place: self.at(argument.start_position()) });
            } else {
                given.push(self.datum(argument));
            }
        }
        self.kept_by(name, owner, &given);
        let gives = self.typed_method(what, name, position, &given);
        let kept = self.given_back(what, name, &value);
        let What::Read(read) = what else { return if kept == What::Anything { gives } else { kept } };
        if let ("contains" | "get", Some(What::Text(Some(key)))) = (name, given.first().map(|first| &first.what)) {
            self.facts.tested.insert(format!("{}.{key}", read.path(read.hops.len())));
        }
        if HARMLESS.contains(&name) || self.functions.contains_key(name) {
            self.note(read, End::Value);
        } else {
            self.note(read, End::Method { name: name.to_owned(), place: self.at(position), is_safe });
        }
        // What is left of a list has the items that it had.
        if name == "filter" { what.clone() } else { kept }
    }

    /// The body of a closure, at the place where it is made; whether it is called there, by a method of a list. Gives the closure, and
    /// the closures in its value that capture variables of the loops around it.
    fn closure(&mut self, expression: &Expr, given: &[What], at_once: bool) -> (What, Vec<Datum>) {
        let what = What::Closure(self.looped(expression));
        let (Some(name), captured) = (closure(expression), captures(expression)) else { return (what, Vec::new()) };
        let function = self.functions.get(&name).and_then(|bodies| bodies.values().next()).map(Rc::clone);
        let Some(function) = function else { return (what, Vec::new()) };
        let depth = self.scope.len();
        for (at, parameter) in function.parameters.iter().skip(captured).enumerate() {
            let what = given.get(at).cloned().unwrap_or(What::Anything);
            self.bind(parameter, what);
        }
        let (conditions, base, reach) = (std::mem::take(&mut self.conditions), self.base, self.reach);
        self.base = self.loops.len();
        self.reach = if at_once { reach } else { self.base };
        let value = self.statements(&function.statements);
        (self.conditions, self.base, self.reach) = (conditions, base, reach);
        self.scope.truncate(depth);
        (what, value.into_iter().filter_map(|datum| from_outside(datum, depth)).collect())
    }

    fn call(&mut self, call: &FnCallExpr, position: Position) -> What {
        if call.name == "curry" || call.name.contains('$') {
            return What::Anything;
        }
        let name = if call.is_qualified() { format!("{}::{}", call.namespace, call.name) } else { call.name.to_string() };
        let is_question = matches!(name.as_str(), "==" | "!=" | "contains" | "type_of" | "is_def_var");
        let mut given = Vec::new();
        for argument in &call.args {
            if closure(argument).is_some() {
                let item = match (name.as_str(), given.first()) {
                    ("parallel" | "race", Some(Datum { what, .. })) => vec![self.item(what, self.at(argument.start_position()))],
                    _ => Vec::new(),
                };
                let (what, _) = self.closure(argument, &item, false);
                given.push(Datum { what, place: self.at(argument.start_position()) });
            } else if is_question {
                self.conditions += 1;
                given.push(self.datum(argument));
                self.conditions -= 1;
            } else {
                given.push(self.datum(argument));
            }
        }
        // Rhai hands a variable to its own functions by reference, where it is the first argument.
        let owner = call.args.first().filter(|first| matches!(first, Expr::Variable(..))).and_then(|first| self.owner(first));
        self.kept_by(&name, owner, given.get(1..).unwrap_or_default());
        if call.is_operator_call() || OPERATORS.contains(&name.as_str()) {
            return self.operator(&name, &given);
        }
        if self.functions.contains_key(&name) {
            return What::Anything;
        }
        match name.as_str() {
            // `"key" in map` is written as a call like this.
            "contains" => {
                if let [Datum { what: What::Read(read), .. }, Datum { what: What::Text(Some(key)), .. }] = given.as_slice() {
                    self.facts.tested.insert(format!("{}.{key}", read.path(read.hops.len())));
                }
                What::Flag(None)
            }
            "send_event" | "invoke" => self.handed(&name, given),
            "wait_for_event" | "wait_for_any" => self.awaited(&name, &given, position),
            name => self.typed_call(name, &given),
        }
    }

    fn operator(&mut self, name: &str, given: &[Datum]) -> What {
        for datum in given {
            self.operand(name, &datum.what);
        }
        match name {
            // A missing value can be put behind a text, and not be added to a number.
            "+" => {
                let is_number = |datum: &Datum| matches!(datum.what, What::Whole(_) | What::Number(_));
                if given.iter().any(is_number) {
                    let reads: Vec<Read> = given.iter().filter_map(|datum| as_read(&datum.what)).cloned().collect();
                    reads.iter().for_each(|read| self.note(read, End::Operator("+".to_owned())));
                }
                match given {
                    [first @ Datum { what: What::Of(_), .. }, second] => match self.moved(first, second) {
                        What::Anything => keeps(given),
                        sum => sum,
                    },
                    // With a secret it is a secret, and other types may have sums of their own.
                    [Datum { what: What::Text(_), .. }, other] | [other, Datum { what: What::Text(_), .. }] if is_plain(&other.what) => {
                        What::Text(None)
                    }
                    [Datum { what: What::Whole(_), .. }, Datum { what: What::Whole(_), .. }] => What::Whole(None),
                    _ => keeps(given),
                }
            }
            "-" if matches!(given, [Datum { what: What::Of(_), .. }, _]) => self.moved(&given[0], &given[1]),
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "!" | "contains" => What::Flag(None),
            "-" | "*" | "%" => match given {
                [Datum { what: What::Whole(_), .. }, Datum { what: What::Whole(_), .. }] | [Datum { what: What::Whole(_), .. }] => {
                    What::Whole(None)
                }
                _ => What::Anything,
            },
            _ => What::Anything,
        }
    }

    /// A time that something is added to, or taken from.
    fn moved(&mut self, first: &Datum, second: &Datum) -> What {
        if !matches!(&first.what, What::Of(words) if words.as_slice() == ["time"]) {
            return What::Anything;
        }
        match &second.what {
            What::Text(text) => {
                if let Some(text) = text {
                    self.duration(text, &second.place);
                }
                first.what.clone()
            }
            What::Of(words) if words.as_slice() == ["duration"] => first.what.clone(),
            _ => What::Anything,
        }
    }

    /// What is sent or invoked with, where its name is a literal.
    fn handed(&mut self, name: &str, given: Vec<Datum>) -> What {
        let is_call = name == "invoke";
        let mut given = given.into_iter();
        match (given.next().map(|first| first.what), given.next()) {
            (Some(What::Text(Some(to))), Some(data)) => self.facts.handed.push(Handed { to, is_call, data }),
            (Some(What::List(events)), None) if !is_call => {
                for event in events {
                    let What::Map(entries) = event.what else { continue };
                    let find = |key: &str| entries.iter().find(|(known, ..)| known == key).map(|(.., datum)| datum.clone());
                    if let (Some(Datum { what: What::Text(Some(to)), .. }), Some(data)) = (find("name"), find("data")) {
                        self.facts.handed.push(Handed { to, is_call, data });
                    }
                }
            }
            _ => {}
        }
        if is_call { What::Anything } else { What::Of(vec!["text", "array"]) }
    }

    /// The event that a wait gives, where all names that it may have are literals.
    fn awaited(&mut self, name: &str, given: &[Datum], position: Position) -> What {
        let text = |what: &What| match what {
            What::Text(Some(text)) => Some(text.clone()),
            _ => None,
        };
        let names: Option<Vec<String>> = match (name, given.first().map(|first| &first.what)) {
            ("wait_for_event", Some(first)) => text(first).map(|name| vec![name]),
            (_, Some(What::List(entries))) => entries
                .iter()
                .map(|entry| match &entry.what {
                    What::Map(keys) => keys.iter().find(|(key, ..)| key == "event").and_then(|(.., datum)| text(&datum.what)),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        let site = self.at(position).range.start;
        let times_out =
            matches!(given.get(1), Some(Datum { what: What::Map(options), .. }) if options.iter().any(|(key, ..)| key == "timeout"));
        names.map_or(What::Anything, |names| {
            What::Read(Read { root: Root::Awaited { names, site, times_out }, hops: Vec::new(), end: End::Value, is_shielded: false })
        })
    }
}

/// Whether a text and such a value are put together to a text.
fn is_plain(what: &What) -> bool {
    matches!(what, What::Text(_) | What::Whole(_) | What::Number(_) | What::Flag(_) | What::Nothing | What::Read(_))
}

fn as_read(what: &What) -> Option<&Read> {
    match what {
        What::Read(read) => Some(read),
        _ => None,
    }
}

/// How many parts a value has, long texts counted as several; none where there are more than `most`, or they lie deeper than
/// `depth` in each other.
fn size(what: &What, depth: usize, most: usize) -> Option<usize> {
    let of_text = |text: &str| text.len() / 32;
    let of_hop = |hop: &Hop| match &hop.at {
        At::Field(name) => 1 + of_text(name),
        At::Index(_) | At::Each => 1,
    };
    let more: usize = match what {
        What::Text(Some(text)) => of_text(text),
        What::Read(read) => read.hops.iter().map(of_hop).sum(),
        What::Map(entries) => entries.iter().map(|(key, ..)| of_text(key)).sum(),
        _ => 0,
    };
    let mut count = 1 + more;
    if count > most {
        return None;
    }
    let mut add = |datum: &Datum| {
        count += size(&datum.what, depth.checked_sub(1)?, most - count)?;
        Some(())
    };
    match what {
        What::List(items) => items.iter().try_for_each(&mut add)?,
        What::Map(entries) => entries.iter().try_for_each(|(.., datum)| add(datum))?,
        _ => {}
    }
    Some(count)
}

/// What is left to say of a value that may become another one of its type.
fn type_alone(what: What) -> What {
    match what {
        What::Text(_) => What::Text(None),
        What::Whole(_) => What::Whole(None),
        What::Number(_) => What::Number(None),
        What::Flag(_) => What::Flag(None),
        What::List(_) => What::Of(vec!["array"]),
        What::Map(_) => What::Of(vec!["map"]),
        other => other,
    }
}
