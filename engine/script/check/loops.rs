//! Closures that outlive their turn of a `for`. All turns have one variable, and a closure shares what it captures: when the loop is
//! over, each of its closures sees the last item.

use rhai::Expr;

use crate::base::Diagnostic;

use super::facts::{Datum, LoopVariable, What};
use super::flow::Flow;
use super::root_variable;
use super::syntax::shares;

/// Functions and methods that put an argument into the list or map that they are called on.
const KEEPS: [&str; 8] = ["append", "fill_with", "insert", "mixin", "pad", "push", "set", "splice"];

impl Flow<'_> {
    /// Where a variable stands among all that are there: what was made before a loop stands before the loop's own.
    fn slot(&self, name: &str) -> Option<usize> {
        self.scope.iter().rposition(|(known, _)| known == name)
    }

    /// Where the variable stands that an expression is a part of.
    pub(super) fn owner(&self, expression: &Expr) -> Option<usize> {
        self.slot(root_variable(expression)?)
    }

    /// The variables of the loops around it that a closure captures, as far as the function goes that makes it.
    pub(super) fn looped(&self, expression: &Expr) -> Vec<LoopVariable> {
        let variables =
            shares(expression).into_iter().filter_map(|name| Some(LoopVariable { name: name.to_owned(), slot: self.slot(name)? }));
        variables.filter(|variable| self.loops.contains(&variable.slot)).collect()
    }

    /// A call that may put what it is given into the variable at `owner`.
    pub(super) fn kept_by(&mut self, name: &str, owner: Option<usize>, given: &[Datum]) {
        if KEEPS.contains(&name) && !self.functions.contains_key(name) {
            given.iter().for_each(|datum| self.kept(owner, datum));
        }
    }

    /// A value that is put into the variable at `owner`. A closure in it is kept for later where the loop did not make that variable;
    /// what is collected and used within one turn is right, and so is what the last turn keeps.
    pub(super) fn kept(&mut self, owner: Option<usize>, datum: &Datum) {
        let Some(before) = owner.filter(|_| self.leaving == 0) else { return };
        match &datum.what {
            What::Closure(looped) => {
                let Some(LoopVariable { name, .. }) = looped.iter().find(|variable| before < variable.slot) else { return };
                let message = format!("this closure outlives its turn of the loop, and then sees the `{name}` of the last one");
                let problem = Diagnostic::error("E0317", message).at(datum.place.clone());
                self.problems.push(problem.help(format!("write parallel(list, |{name}| …), or copy it first: let x = {name};")));
            }
            What::List(items) => items.iter().for_each(|item| self.kept(owner, item)),
            What::Map(entries) => entries.iter().for_each(|(.., item)| self.kept(owner, item)),
            _ => {}
        }
    }
}
