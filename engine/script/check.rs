//! The checks of a parsed handler that need no run: only what is certain is an error.

mod calls;
pub(super) mod facts;
mod flow;
mod loops;
mod methods;
mod options;
mod syntax;
mod types;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, FnPtr, Module, Position, ScriptFuncDef, Shared, Stmt};

use crate::base::secretlike::secretlike;
use crate::base::{Diagnostic, Location, Source};

use super::api::{Entry, Where, entries};
use super::capture::instead_of_change;
use super::{Use, UseKind, terms};
use facts::Facts;
use types::Natives;

/// Functions of Rhai itself that the parser or the engine answers, and that no module lists.
const BUILT_IN: [&str; 11] =
    ["Fn", "call", "curry", "type_of", "is_def_var", "is_def_fn", "is_shared", "print", "debug", "eval", "contains"];

/// The functions that a handler may call, beside its own.
pub(super) struct Names {
    /// Those of the handler API and of a test's host, by name, with the numbers of arguments that they take.
    entries: BTreeMap<&'static str, (Entry, Vec<usize>)>,
    /// Everything that is registered, with types.
    types: Natives,
}

impl Names {
    /// What the engine knows.
    pub(super) fn of(engine: &Engine, extra: &[Entry]) -> Names {
        let functions = entries().copied().chain(extra.iter().copied()).filter(|entry| !entry.is_member());
        let entries = functions.map(|entry| (entry.name, (entry, entry.arguments()))).collect();
        Names { entries, types: Natives::of(engine) }
    }

    /// Whether one of JSON's types other than maps has a field.
    pub(super) fn has_field(&self, name: &str) -> bool {
        self.types.has_field(&types::plain(), name)
    }
}

/// What the checks found.
#[derive(Default)]
pub(super) struct Found {
    /// Errors, warnings and notes.
    pub(super) problems: Vec<Diagnostic>,
    /// Names that the config has to know.
    pub(super) uses: Vec<Use>,
    /// What it reads of events and hands to others.
    pub(super) facts: Facts,
}

/// Where a piece of code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between the steps, for certain.
    Between,
    /// In a step's closure, for certain.
    InStep,
    /// In a closure of this function, `parallel` or `race`, for certain.
    InBranch(&'static str),
    /// In a function or another closure: that depends on who calls it.
    Unknown,
}

/// Checks a file, as it was parsed without being simplified.
///
/// `globals` are the variables that it finds where it is the handler itself, whose statements run between the steps;
/// `imports` has what it imports, by the name that it gives to it. `is_broken` says that the parser gave up at an
/// unknown module.
pub(super) fn check(
    names: &Names,
    ast: &AST,
    source: &Arc<Source>,
    globals: Option<&'static [&'static str]>,
    imports: &BTreeMap<String, Option<Shared<Module>>>,
    is_broken: bool,
) -> Found {
    let functions: Vec<Function> = ast.shared_lib().iter_script_fn_info().map(|(.., function)| Function::of(function)).collect();
    let mut checker = Checker {
        names,
        source,
        imports,
        functions,
        bodies: HashMap::new(),
        captured: HashMap::new(),
        declared: BTreeSet::new(),
        found: Found::default(),
        is_main: globals.is_some(),
        globals: globals.unwrap_or(&["event", "events", "run"]),
    };
    ast.walk(&mut |path| {
        checker.find_body(path);
        checker.find_variables(path);
        true
    });
    // A statement of the file itself lies in this slice, one of a function elsewhere.
    let top = ast.statements().as_ptr_range();
    ast.walk(&mut |path| {
        if let (Some(ASTNode::Stmt(root)), Some(node)) = (path.first(), path.last()) {
            let is_top = top.contains(&std::ptr::from_ref::<Stmt>(root));
            checker.node(path, node, is_top, root.position());
        }
        true
    });
    let mut found = checker.found;
    let (facts, problems) = flow::follow(names, ast, source, globals.unwrap_or_default(), is_broken);
    found.facts = facts;
    found.problems.extend(problems);
    found.problems.sort_by_key(|problem| problem.places.first().map_or(0, |place| place.range.start));
    found
}

/// A function of the file, closures included.
struct Function {
    name: String,
    parameters: usize,
    start: Position,
    end: Position,
}

impl Function {
    fn of(definition: &ScriptFuncDef) -> Function {
        Function {
            name: definition.name.to_string(),
            parameters: definition.params.len(),
            start: definition.body.start_position(),
            end: definition.body.end_position(),
        }
    }

    /// Whether a statement at this position is one of its own, or of a function in it. A body without braces is one statement.
    fn holds(&self, position: Position) -> bool {
        if self.end.is_none() { self.start == position } else { self.start <= position && position <= self.end }
    }
}

/// The function that a statement at this position belongs to.
fn innermost(functions: &[Function], root: Position) -> Option<&Function> {
    functions.iter().filter(|function| function.holds(root)).max_by_key(|function| function.start)
}

struct Checker<'a> {
    names: &'a Names,
    source: &'a Arc<Source>,
    imports: &'a BTreeMap<String, Option<Shared<Module>>>,
    functions: Vec<Function>,
    /// Closures by their names: what all of their uses make of them.
    bodies: HashMap<String, Place>,
    /// The variables that closures capture, by the closures' names.
    captured: HashMap<String, BTreeSet<String>>,
    /// The variables that functions declare, with the functions' names.
    declared: BTreeSet<(String, String)>,
    found: Found,
    is_main: bool,
    globals: &'static [&'static str],
}

/// The name of the closure that an expression makes.
fn closure(expression: &Expr) -> Option<String> {
    match expression {
        Expr::DynamicConstant(value, _) => value.read_lock::<FnPtr>().map(|pointer| pointer.fn_name().to_owned()),
        // A closure that captures: a block that shares the variables, then curries the closure with them, and has nothing else.
        Expr::Stmt(block) => match block.statements() {
            [shares @ .., last] if shares.iter().all(|statement| matches!(statement, Stmt::Share(..))) => match last {
                Stmt::Expr(inner) => closure(inner),
                Stmt::FnCall(call, _) => curried(call),
                _ => None,
            },
            _ => None,
        },
        Expr::FnCall(call, _) => curried(call),
        _ => None,
    }
}

fn curried(call: &FnCallExpr) -> Option<String> {
    if call.name == "curry" { call.args.first().and_then(closure) } else { None }
}

/// The variable at the beginning of `x`, `x.a.b` or `x[0].a`.
fn root_variable(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Variable(variable, ..) => Some(&variable.1),
        Expr::Dot(parts, ..) | Expr::Index(parts, ..) => root_variable(&parts.lhs),
        _ => None,
    }
}

/// The call that a node is.
fn call_of<'n>(node: &ASTNode<'n>) -> Option<(&'n FnCallExpr, Position)> {
    match node {
        ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position)) => Some((call, *position)),
        _ => None,
    }
}

/// Functions whose closures are branches.
const BRANCHED: [&str; 2] = ["parallel", "race"];

/// Where a closure's code runs that stands in a call.
fn place_in(call: &FnCallExpr, name: &str) -> Place {
    let is_body = |expression: &Expr| closure(expression).as_deref() == Some(name);
    if call.is_qualified() {
        return Place::Unknown;
    }
    if let ("step", [_, .., body]) = (call.name.as_str(), &call.args[..])
        && is_body(body)
    {
        return Place::InStep;
    }
    let Some(function) = BRANCHED.into_iter().find(|function| *function == call.name.as_str()) else { return Place::Unknown };
    let is_branch = match &call.args[..] {
        [Expr::Array(branches, _), ..] if branches.iter().any(is_body) => true,
        [Expr::Map(branches, _), ..] if branches.0.iter().any(|(_, branch)| is_body(branch)) => true,
        [_, each, ..] => is_body(each),
        _ => false,
    };
    if is_branch { Place::InBranch(function) } else { Place::Unknown }
}

/// The text of a literal.
fn literal(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::StringConstant(text, _) => Some(text),
        _ => None,
    }
}

impl Checker<'_> {
    /// Notes whether a closure is a step's or a branch's: it is, if every place that makes it hands it to `step`, or to `parallel` or `race`.
    fn find_body(&mut self, path: &[ASTNode<'_>]) {
        let Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) = path.last() else { return };
        let Some(name) = value.read_lock::<FnPtr>().map(|pointer| pointer.fn_name().to_owned()) else { return };
        let mut calls = path.iter().rev().skip(1).filter_map(call_of).map(|(call, _)| call);
        // A function of the file's own may have the name of one of ours.
        let is_ours = |call: &&FnCallExpr| !self.functions.iter().any(|function| function.name == call.name.as_str());
        let place = calls.find(|call| call.name != "curry").filter(is_ours).map_or(Place::Unknown, |call| place_in(call, &name));
        let known = self.bodies.entry(name).or_insert(place);
        if *known != place {
            *known = Place::Unknown;
        }
    }

    /// Notes what a closure captures, and what a function declares itself.
    fn find_variables(&mut self, path: &[ASTNode<'_>]) {
        let declared = match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) => {
                if let Some(name) = curried(call) {
                    let variables = call.args.iter().skip(1).filter_map(root_variable).map(str::to_owned);
                    self.captured.entry(name).or_default().extend(variables);
                }
                return;
            }
            Some(ASTNode::Stmt(Stmt::Var(parts, ..))) => parts.0.name.to_string(),
            Some(ASTNode::Stmt(Stmt::For(parts, _))) => parts.0.name.to_string(),
            _ => return,
        };
        let Some(ASTNode::Stmt(root)) = path.first() else { return };
        if let Some(function) = self.innermost(root.position()) {
            self.declared.insert((function.name.clone(), declared));
        }
    }

    fn innermost(&self, root: Position) -> Option<&Function> {
        innermost(&self.functions, root)
    }

    /// An assignment in a step's closure to what the closure captured: it would be E0410 when it runs, and E0411 in a branch.
    fn assignment(&mut self, target: &Expr, is_top: bool, root: Position) {
        let Some(variable) = root_variable(target) else { return };
        let problem = match self.place(is_top, root) {
            Place::InStep => {
                let message = format!("the step changes the captured variable `{variable}`; the change would be lost at the next replay");
                let help = format!("return the new value from the step, and assign it outside: {variable} = step(…)");
                Diagnostic::warning("W0410", message).help(help)
            }
            Place::InBranch(function) => {
                let message =
                    format!("a branch of {function} changes the captured variable `{variable}`; each branch works on a copy of its own");
                Diagnostic::warning("W0411", message).help(instead_of_change(function))
            }
            Place::Between | Place::Unknown => return,
        };
        let Some(name) = self.innermost(root).map(|function| function.name.clone()) else { return };
        let is_captured = self.captured.get(&name).is_some_and(|captured| captured.contains(variable));
        if is_captured && !self.declared.contains(&(name, variable.to_owned())) {
            let place = self.at(target.start_position());
            self.report(problem.at(place));
        }
    }

    /// Where a piece of code runs.
    fn place(&self, is_top: bool, root: Position) -> Place {
        if is_top {
            return if self.is_main { Place::Between } else { Place::Unknown };
        }
        self.innermost(root).and_then(|function| self.bodies.get(&function.name)).copied().unwrap_or(Place::Unknown)
    }

    fn at(&self, position: Position) -> Location {
        Location::word_at(self.source, position.line().unwrap_or(1), position.position().unwrap_or(1))
    }

    fn report(&mut self, problem: Diagnostic) {
        // Code that a closure shares with another one is reached more than once.
        if !self.found.problems.contains(&problem) {
            self.found.problems.push(problem);
        }
    }

    fn node(&mut self, path: &[ASTNode<'_>], node: &ASTNode<'_>, is_top: bool, root: Position) {
        if let ASTNode::Expr(Expr::Variable(variable, _, position)) = node {
            return self.variable(variable.0.is_some() || !variable.2.is_empty(), &variable.1, *position, is_top, root);
        }
        match node {
            ASTNode::Expr(Expr::StringConstant(text, position)) => self.secret(None, text, *position),
            ASTNode::Expr(Expr::Map(parts, _)) => {
                for (name, value) in &parts.0 {
                    self.named_secret(&name.name, value);
                }
            }
            ASTNode::Stmt(Stmt::Var(parts, ..)) => self.named_secret(&parts.0.name, &parts.1),
            _ => {}
        }
        if let ASTNode::Stmt(Stmt::Assignment(parts)) = node {
            return self.assignment(&parts.1.lhs, is_top, root);
        }
        let Some((call, position)) = call_of(node) else { return };
        if call.is_operator_call() || call.name.contains('$') {
            return;
        }
        if call.is_qualified() {
            self.qualified(call, is_top, root);
        } else if let Some((entry, counts)) = self.names.entries.get(call.name.as_str())
            && !self.functions.iter().any(|function| function.name == entry.name)
        {
            self.entry(entry, counts, call, position, self.place(is_top, root));
            self.literals(path, entry, call);
        } else {
            self.plain(call, position);
        }
    }

    fn named_secret(&mut self, name: &str, value: &Expr) {
        if let Expr::StringConstant(text, position) = value {
            self.secret(Some(name), text, *position);
        }
    }

    /// A text that looks like a secret; `name` is the variable or key that holds it.
    fn secret(&mut self, name: Option<&str>, text: &str, position: Position) {
        if let Some(what) = secretlike(name, text) {
            let place = self.quoted(position, text);
            let problem = Diagnostic::warning("W0315", format!("this looks like a secret: {what}")).at(place);
            self.report(problem.help("list its name under `secrets` in events.yaml, and read it with secret(\"NAME\")"));
        }
    }

    /// A variable: `event`, `events` and `run` are the script's, and a `fn` sees nothing of the script around it.
    fn variable(&mut self, is_local: bool, name: &str, position: Position, is_top: bool, root: Position) {
        if is_local || is_top || !self.globals.contains(&name) {
            return;
        }
        if self.functions.iter().any(|function| !function.name.contains('$') && function.holds(root)) {
            let problem = Diagnostic::error("E0306", format!("`{name}` is not visible inside `fn`")).at(self.at(position));
            self.report(problem.help(format!("pass it as an argument, or use a closure: |x| … {name} …")));
        }
    }

    /// A call of the handler API.
    fn entry(&mut self, entry: &Entry, counts: &[usize], call: &FnCallExpr, position: Position, place: Place) {
        let (name, count) = (entry.name, call.args.len());
        if !counts.contains(&count) {
            let problem = Diagnostic::error("E0305", format!("{name} does not take {}", arguments(count))).at(self.at(position));
            return self.report(problem.help(entry.signatures().join(", or ")));
        }
        match (entry.place, place) {
            (Where::InStep, Place::Between) => {
                let message = format!("{name} acts on the world, so it works inside a step only");
                let problem = Diagnostic::error("E0307", message).at(self.at(position));
                self.report(problem.help(format!("write step(\"a-name\", || {name}(…))")));
            }
            (Where::BetweenSteps, Place::InStep) => {
                let problem = Diagnostic::error("E0308", format!("{name} inside the closure of a step")).at(self.at(position));
                self.report(problem.help("a step is recorded as a whole: call it before or after the step"));
            }
            _ => {}
        }
    }

    /// What literal arguments say.
    fn literals(&mut self, path: &[ASTNode<'_>], entry: &Entry, call: &FnCallExpr) {
        self.waits(entry, call);
        self.calls(entry, call);
        let first = call.args.first().and_then(|first| Some((literal(first)?, self.at(first.start_position()))));
        let last = call.args.last().and_then(|last| Some((literal(last)?, self.quoted(last.start_position(), literal(last)?))));
        let mut add = |kind, found: Option<(&str, Location)>| {
            if let Some((name, place)) = found {
                self.found.uses.push(Use { kind, name: name.to_owned(), place });
            }
        };
        match entry.name {
            "env" => add(UseKind::Env, first),
            "secret" => add(UseKind::Secret, first),
            "step" => {
                if let Some((name, place)) = first {
                    self.step_name(path, name, place);
                }
                self.back_off(call);
            }
            "parallel" | "race" => self.branches(entry.name, call),
            "send_event" | "send_signal" if call.args.len() == 2 || entry.name == "send_signal" => {
                if let Some((name, place)) = first {
                    self.name(if entry.name == "send_signal" { "a signal's" } else { "an event's" }, name, place);
                }
            }
            "sleep" | "sleep_until" => {
                if let Some(named) = call.args.first() {
                    let place = self.at(named.start_position());
                    self.found.uses.push(Use { kind: UseKind::Sleep, name: entry.name.to_owned(), place });
                }
                if let (Some((name, place)), 2) = (first, call.args.len()) {
                    self.name("a sleep's", name, place);
                }
                let Some((text, place)) = last else { return };
                let wrong = match entry.name {
                    "sleep" => calls::not_a_rest(text),
                    _ if text.trim().parse::<jiff::Timestamp>().is_ok() => None,
                    _ => Some((format!("`{text}` is not a time"), "write it as 2026-01-31T09:30:00Z")),
                };
                if let Some((message, help)) = wrong {
                    self.report(Diagnostic::error("E0310", message).at(place).help(help));
                }
            }
            _ => {}
        }
    }

    fn step_name(&mut self, path: &[ASTNode<'_>], name: &str, place: Location) {
        if let Some(message) = terms::wrong_name("a step's", name) {
            return self.report(Diagnostic::error("E0310", message).at(place));
        }
        let variable = path.iter().rev().find_map(|node| match node {
            ASTNode::Stmt(Stmt::For(parts, _)) => Some(Some(parts.0.as_str())),
            ASTNode::Stmt(Stmt::While(..) | Stmt::Do(..)) => Some(None),
            _ => None,
        });
        if let Some(variable) = variable {
            let note = Diagnostic::note("N0311", format!("in a loop, step `{name}` gets the keys {name}, {name}#2, {name}#3, …")).at(place);
            self.report(match variable {
                Some(variable) => note.help(format!("a name of its own each time: step(`{name}-${{{variable}}}`, …)")),
                None => note.help("a name with a counter in it tells them apart"),
            });
        }
    }

    /// A call of one of Rhai's functions or of the file's own.
    fn plain(&mut self, call: &FnCallExpr, position: Position) {
        let (name, count) = (call.name.as_str(), call.args.len());
        if BUILT_IN.contains(&name) {
            return;
        }
        let own: BTreeSet<usize> =
            self.functions.iter().filter(|function| function.name == name).map(|function| function.parameters).collect();
        let native = self.names.types.counts(name);
        if own.contains(&count) || native.as_ref().is_some_and(|counts| counts.contains(&count)) {
            return;
        }
        let place = self.at(position);
        if own.is_empty() && native.is_none() {
            let known = self.functions.iter().map(|function| function.name.as_str()).filter(|name| !name.contains('$'));
            let known = known.chain(self.names.entries.keys().copied()).chain(self.names.types.names());
            let known = known.filter(|known| !known.contains('$') && known.chars().next().is_some_and(char::is_alphabetic));
            let problem = Diagnostic::error("E0304", format!("there is no function `{name}`")).at(place).nearest(name, known);
            let problem = if problem.helps.is_empty() {
                problem.help(format!("a closure in a variable is called as {name}.call(…)"))
            } else {
                problem
            };
            return self.report(problem);
        }
        let counts: Vec<String> = own.iter().chain(native.iter().flatten()).map(ToString::to_string).collect();
        let problem = Diagnostic::error("E0305", format!("{name} does not take {}", arguments(count))).at(place);
        self.report(problem.help(format!("it takes {}", counts.join(" or "))));
    }

    /// A call into a module.
    fn qualified(&mut self, call: &FnCallExpr, is_top: bool, root: Position) {
        let path = call.namespace.to_string();
        let position = call.namespace.position();
        let name = format!("{path}::{}", call.name);
        if let Some(import) = self.imports.get(call.namespace.root()) {
            if let (Some(module), 1) = (import, call.namespace.path.len()) {
                self.imported(module, call, position, &name);
            }
            return;
        }
        if path == "global" {
            return;
        }
        if let Some((entry, counts)) = self.names.entries.get(name.as_str()) {
            self.entry(entry, counts, call, position, self.place(is_top, root));
            return self.calls(entry, call);
        }
        let known = self.names.entries.keys().copied().filter(|known| known.contains("::"));
        let problem = Diagnostic::error("E0304", format!("there is no function `{name}`")).at(self.at(position)).nearest(&name, known);
        self.report(problem);
    }

    /// A call into an imported file.
    fn imported(&mut self, module: &Module, call: &FnCallExpr, position: Position, name: &str) {
        let count = call.args.len();
        let all: Vec<(&str, usize)> = module.iter_script_fn_info().map(|(_, _, name, count, _)| (name, count)).collect();
        let same: Vec<usize> = all.iter().filter(|(known, _)| *known == call.name).map(|(_, count)| *count).collect();
        if same.contains(&count) {
            return;
        }
        let place = self.at(position);
        if same.is_empty() {
            let known = all.iter().map(|(name, _)| *name).filter(|name| !name.contains('$'));
            let problem = Diagnostic::error("E0304", format!("there is no function `{name}`")).at(place);
            return self.report(problem.nearest(&call.name, known));
        }
        let counts: Vec<String> = same.iter().map(ToString::to_string).collect();
        let problem = Diagnostic::error("E0305", format!("{name} does not take {}", arguments(count))).at(place);
        self.report(problem.help(format!("it takes {}", counts.join(" or "))));
    }
}

fn arguments(count: usize) -> String {
    match count {
        0 => "a call without arguments".to_owned(),
        1 => "1 argument".to_owned(),
        count => format!("{count} arguments"),
    }
}
