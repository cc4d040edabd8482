//! Closures that outlive their turn of a `for`. All turns have one variable, and a closure shares what it captures: when the loop is
//! over, each of its closures sees the last item.

use std::ops::Range;

use rhai::{Expr, Stmt};

use crate::base::Diagnostic;

use super::facts::{Datum, LoopVariable, What};
use super::flow::Flow;
use super::root_variable;
use super::syntax::{CHANGES, Link, flatten, leaves, shares};

/// Functions and methods that put an argument into the list or map that they are called on.
const KEEPS: [&str; 8] = ["append", "fill_with", "insert", "mixin", "pad", "push", "set", "splice"];
/// Those of them that leave what was there before.
const ADDS: [&str; 4] = ["append", "insert", "pad", "push"];
/// Methods of lists that give what their closure gives for the items.
const GIVES: [&str; 3] = ["find_map", "map", "zip"];
/// Closures that are remembered of one value: what lets the first one outlive its turn is mended for all.
const HELD_MOST: usize = 8;

/// A loop around the present expression.
pub(super) struct Turn {
    /// Where its variables stand.
    pub(super) slots: Range<usize>,
    /// How many blocks the expression lies in that leave the loop at their end.
    pub(super) leaving: usize,
}

/// A closure that was put into a variable, which itself ends with the turn.
pub(super) struct Held {
    /// The field that it was assigned to; none where it may lie anywhere.
    part: Option<String>,
    closure: Datum,
}

impl Flow<'_> {
    /// Where a variable stands among all that are there: what was made before a loop stands before the loop's own.
    pub(super) fn slot(&self, name: &str) -> Option<usize> {
        self.scope.iter().rposition(|(known, _)| known == name)
    }

    /// Where the variable stands that an expression is a part of.
    pub(super) fn owner(&self, expression: &Expr) -> Option<usize> {
        self.slot(root_variable(expression)?)
    }

    /// The variables of the loops around it that a closure captures. A function that is not called at once ends the view: only
    /// its own loops count.
    pub(super) fn looped(&self, expression: &Expr) -> Vec<LoopVariable> {
        let variables =
            shares(expression).into_iter().filter_map(|name| Some(LoopVariable { name: name.to_owned(), slot: self.slot(name)? }));
        let loops = self.loops.get(self.reach..).unwrap_or_default();
        variables.filter(|variable| loops.iter().any(|turn| turn.slots.contains(&variable.slot))).collect()
    }

    /// Enters a block, or leaves it again: it may leave loops at its end, as far as its own function goes.
    pub(super) fn turn(&mut self, block: &[Stmt], change: fn(&mut usize)) {
        let from = match block.iter().filter_map(leaves).max() {
            None => return,
            Some(true) => self.base,
            Some(false) => self.loops.len().saturating_sub(1).max(self.base),
        };
        self.loops.iter_mut().skip(from).for_each(|turn| change(&mut turn.leaving));
    }

    /// An assignment: what the variable or its part held before is gone, unless it is added to that.
    pub(super) fn assigned(&mut self, target: &Expr, adds: bool, given: &Datum) {
        let Some(owner) = self.owner(target) else { return };
        let (_, links) = flatten(target);
        let part = match links.as_slice() {
            [Link { is_dot: true, expression: Expr::Property(parts, _), .. }] => Some(parts.2.as_str()),
            _ => None,
        };
        if !adds && links.is_empty() {
            self.held.remove(&owner);
        } else if !adds && let Some(held) = self.held.get_mut(&owner) {
            held.retain(|held| held.part.is_some() && part.is_some() && held.part.as_deref() != part);
        }
        self.kept(owner, part, given);
    }

    /// A call that may put what it is given into the variable at `owner`, or take something out of it.
    pub(super) fn kept_by(&mut self, name: &str, owner: Option<usize>, given: &[Datum]) {
        let Some(owner) = owner else { return };
        let is_own = self.functions.contains_key(name);
        if is_own || CHANGES.contains(&name) && !ADDS.contains(&name) {
            self.held.remove(&owner);
        }
        if KEEPS.contains(&name) && !is_own {
            given.iter().for_each(|datum| self.kept(owner, None, datum));
        }
    }

    /// A value that is put into the variable at `owner`. A closure in it is kept for later where the loop did not make that variable;
    /// what is collected and used within one turn is right, and so is what the last turn keeps.
    fn kept(&mut self, owner: usize, part: Option<&str>, given: &Datum) {
        for closure in closures(given) {
            let What::Closure(looped) = &closure.what else { continue };
            let mut outlived = looped.iter().filter(|variable| owner < variable.slot).peekable();
            if outlived.peek().is_none() {
                self.hold(owner, part, closure);
            } else if let Some(LoopVariable { name, .. }) = outlived.find(|variable| !self.is_left(variable.slot)) {
                let message = format!("this closure outlives its turn of the loop, and then sees the `{name}` of the last one");
                let problem = Diagnostic::error("E0317", message).at(closure.place.clone());
                let problem = problem.help(format!("write parallel(list, |{name}| …), or copy it first: let x = {name};"));
                // One that is put into a variable that is kept twice is told of once.
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
        }
    }

    /// Remembers a closure that lies in the variable at `owner`, for as long as nothing else is known of that.
    pub(super) fn hold(&mut self, owner: usize, part: Option<&str>, closure: Datum) {
        let held = self.held.entry(owner).or_default();
        if held.len() < HELD_MOST {
            held.push(Held { part: part.map(str::to_owned), closure });
        }
    }

    /// What is known of a variable of which nothing else is: the closures that were put into it.
    pub(super) fn holds(&self, slot: usize) -> What {
        let held = self.held.get(&slot).filter(|held| !held.is_empty());
        held.map_or(What::Anything, |held| What::Keeps(held.iter().map(|held| held.closure.clone()).collect()))
    }

    /// What is left to say of what a method of a list gives, where that holds closures for certain: `value` are those that capture
    /// variables of loops in what its own closure gives. What is no list for certain may be a map with a closure of that name.
    pub(super) fn given_back(&self, list: &What, name: &str, value: &[Datum]) -> What {
        let is_list = match list {
            What::List(_) | What::Read(_) | What::Events => true,
            What::Of(words) => words.as_slice() == ["array"],
            _ => false,
        };
        if !is_list || self.functions.contains_key(name) {
            return What::Anything;
        }
        match (name, list) {
            // Of a list of nothing else, whatever passes is one.
            ("filter", What::List(items)) if !items.is_empty() && items.iter().all(is_looped) => list.clone(),
            _ if GIVES.contains(&name) => keeps(value),
            _ => What::Anything,
        }
    }

    /// Whether the block around the present expression leaves the loop with this variable at its end.
    fn is_left(&self, slot: usize) -> bool {
        self.loops.iter().any(|turn| turn.slots.contains(&slot) && turn.leaving > 0)
    }
}

fn is_looped(datum: &Datum) -> bool {
    matches!(&datum.what, What::Closure(looped) if !looped.is_empty())
}

/// A closure in the value of a function that was followed, as the code around that function sees it: of the loops, only those count
/// whose variables were among the first `depth`.
pub(super) fn from_outside(datum: Datum, depth: usize) -> Option<Datum> {
    let What::Closure(looped) = datum.what else { return None };
    let looped: Vec<LoopVariable> = looped.into_iter().filter(|variable| variable.slot < depth).collect();
    if looped.is_empty() { None } else { Some(Datum { what: What::Closure(looped), place: datum.place }) }
}

/// The closures in a value that capture variables of loops.
pub(super) fn closures(datum: &Datum) -> Vec<Datum> {
    let mut all = Vec::new();
    collect(datum, &mut all);
    all
}

/// What is left to say of a value that consists of these: the closures in them that capture variables of loops.
pub(super) fn keeps(parts: &[Datum]) -> What {
    let mut all = Vec::new();
    parts.iter().for_each(|part| collect(part, &mut all));
    if all.is_empty() { What::Anything } else { What::Keeps(all) }
}

fn collect(datum: &Datum, all: &mut Vec<Datum>) {
    match &datum.what {
        _ if all.len() >= HELD_MOST => {}
        What::Closure(looped) if !looped.is_empty() && !all.contains(datum) => all.push(datum.clone()),
        What::List(items) | What::Keeps(items) => items.iter().for_each(|item| collect(item, all)),
        What::Map(entries) => entries.iter().for_each(|(.., item)| collect(item, all)),
        _ => {}
    }
}
