//! What the literals in calls of `step`, `parallel` and `race` say: the back-off of a step, and what the branches are.

use rhai::{Array, Dynamic, Expr, FnCallExpr, Map};

use crate::base::limits::BRANCHES_MOST;
use crate::base::{Diagnostic, Location, Span};

use super::super::terms;
use super::calls::{is_map, not_a_duration};
use super::syntax::captures;
use super::waits::Field;
use super::{Checker, closure};

impl Checker<'_> {
    /// The back-off in the options of a step.
    pub(super) fn back_off(&mut self, call: &FnCallExpr) {
        let [_, options, _] = &call.args[..] else { return };
        let Some(field) = self.fields(options).into_iter().find(|field| field.name == "backoff") else { return };
        if let Some(parts) = &field.inner {
            return self.long_back_off(parts);
        }
        let wrong = match &field.text {
            Some((text, _)) if terms::is_word(text) => terms::growth(text).err(),
            Some((text, _)) => not_a_duration(text).map(|(message, _)| message),
            None => field.value.as_ref().filter(|value| !is_length(value)).map(|_| "backoff is not a duration".to_owned()),
        };
        if let Some(message) = wrong {
            self.report(Diagnostic::error("E0310", message).at(field.told_at()).help(terms::BACK_OFFS));
        }
    }

    fn long_back_off(&mut self, parts: &[Field]) {
        let (mut kind, mut initial, mut max) = (None, None, None);
        for part in parts {
            let wrong = match part.name.as_str() {
                "kind" => match (&part.text, &part.value) {
                    (Some((word, _)), _) => terms::growth(word).map(|growth| kind = Some(growth)).err(),
                    (None, Some(_)) => Some("the kind of a back-off is a word".to_owned()),
                    (None, None) => None,
                },
                "initial" => length(part, &mut initial),
                "max" => length(part, &mut max),
                "jitter" => part.value.as_ref().and_then(|value| terms::jitter(value).err()),
                name => {
                    let problem = Diagnostic::error("E0310", terms::no_part(name)).at(part.place.clone());
                    self.report(problem.help(terms::BACK_OFFS));
                    None
                }
            };
            if let Some(message) = wrong {
                self.report(Diagnostic::error("E0310", message).at(part.told_at()).help(terms::BACK_OFFS));
            }
        }
        if let Some(message) = terms::wrong_waits(initial, max)
            && let Some(part) = parts.iter().find(|part| part.name == "initial")
        {
            self.report(Diagnostic::error("E0310", message).at(part.told_at()));
        }
        let Some(kind) = kind else { return };
        for part in parts {
            if let Some((message, help)) = terms::idle(kind, &part.name) {
                self.report(Diagnostic::error("E0310", message).at(part.place.clone()).help(help));
            }
        }
    }

    /// The branches of `parallel` or `race`.
    pub(super) fn branches(&mut self, function: &str, call: &FnCallExpr) {
        if function == "race" {
            self.race(call);
        }
        let branches = match &call.args[..] {
            [branches] => branches,
            [_, each, _] => return self.arity(function, each, 1),
            [_, each] if closure(each).is_some() => return self.arity(function, each, 1),
            [branches, options] if is_map(options) => branches,
            _ => return,
        };
        match branches {
            Expr::Array(items, _) => {
                for (at, item) in items.iter().enumerate() {
                    self.branch(function, &at.to_string(), item);
                }
            }
            Expr::Map(parts, _) => {
                for (name, item) in &parts.0 {
                    let place = self.at(name.pos);
                    self.name("a branch's", &name.name, place);
                    self.branch(function, &name.name, item);
                }
            }
            // Rhai has put constants into one value.
            Expr::DynamicConstant(value, position) => {
                let in_list = || Some(value.read_lock::<Array>()?.iter().position(|item| !item.is_fnptr())?.to_string());
                let in_map = || Some(value.read_lock::<Map>()?.iter().find(|(_, item)| !item.is_fnptr())?.0.to_string());
                if let Some(name) = in_list().or_else(in_map) {
                    let place = self.at(*position);
                    self.no_closure(function, &name, place);
                }
            }
            _ => {}
        }
    }

    /// How many branches a race has, and what it is called.
    fn race(&mut self, call: &FnCallExpr) {
        if let Some(first) = call.args.first()
            && size(first).is_some_and(|size| !(1..=BRANCHES_MOST).contains(&size))
        {
            let place = self.at(first.start_position());
            self.report(Diagnostic::error("E0310", format!("race takes 1 to {BRANCHES_MOST} branches")).at(place));
        }
        let options = call.args.iter().skip(1).next_back().map(|options| self.fields(options)).unwrap_or_default();
        if let Some((name, place)) = options.into_iter().find(|field| field.name == "id").and_then(|id| id.text) {
            self.name("a race's", &name, place);
        }
    }

    fn branch(&mut self, function: &str, name: &str, item: &Expr) {
        if closure(item).is_some() {
            self.arity(function, item, 0);
        } else if item.get_literal_value(None).is_some_and(|value| !value.is_fnptr()) {
            let place = self.at(item.start_position());
            self.no_closure(function, name, place);
        }
    }

    fn no_closure(&mut self, function: &str, name: &str, place: Location) {
        let problem = Diagnostic::error("E0310", format!("branch `{name}` of {function} is no closure")).at(place);
        self.report(problem.help(format!("write || …, or {function}(list, |item| …)")));
    }

    /// A branch takes its item, or nothing.
    fn arity(&mut self, function: &str, expression: &Expr, given: usize) {
        let Some(name) = closure(expression).filter(|name| name.contains('$')) else { return };
        let Some(all) = self.functions.iter().find(|function| function.name == name).map(|function| function.parameters) else { return };
        let own = all.saturating_sub(captures(expression));
        if own == given {
            return;
        }
        let count = |number: usize| if number == 1 { "1 parameter".to_owned() } else { format!("{number} parameters") };
        let place = self.at(expression.start_position());
        let (takes, help) = match given {
            0 => ("none", "write || …"),
            _ => ("its item", "write |item| …"),
        };
        let problem = Diagnostic::error("E0310", format!("this branch of {function} has {}, and is given {takes}", count(own)));
        self.report(problem.at(place).help(help));
    }

    /// A name that is stored with the journal, by the rules of a step's.
    pub(super) fn name(&mut self, whose: &str, name: &str, place: Location) {
        if let Some(message) = terms::wrong_name(whose, name) {
            self.report(Diagnostic::error("E0310", message).at(place));
        }
    }
}

/// How many branches stand there, or items that there is a branch for.
fn size(branches: &Expr) -> Option<usize> {
    match branches {
        Expr::Array(items, _) => Some(items.len()),
        Expr::Map(parts, _) => Some(parts.0.len()),
        Expr::DynamicConstant(value, _) => {
            let list = value.read_lock::<Array>().map(|items| items.len());
            list.or_else(|| value.read_lock::<Map>().map(|map| map.len()))
        }
        _ => None,
    }
}

/// Whether a number is a length of time, in seconds.
fn is_length(value: &Dynamic) -> bool {
    value.as_int().is_ok_and(|seconds| seconds >= 0) || value.as_float().is_ok_and(|seconds| seconds >= 0.0)
}

/// What is wrong with a wait of a back-off; keeps it where it is known.
fn length(part: &Field, known: &mut Option<Span>) -> Option<String> {
    let value = part.value.as_ref()?;
    if let Some((text, _)) = &part.text {
        *known = text.parse::<Span>().ok();
        return not_a_duration(text).map(|(message, _)| message);
    }
    *known = value.as_int().ok().filter(|seconds| *seconds >= 0).map(|seconds| Span(seconds.saturating_mul(1_000)));
    (!is_length(value)).then(|| format!("`{}` is not a duration", part.name))
}
