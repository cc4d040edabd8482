//! Calls of functions, methods and fields with values of which the types are known.

use rhai::Position;

use crate::base::Diagnostic;

use super::super::api::{self, Entry};
use super::BUILT_IN;
use super::calls::not_a_duration;
use super::facts::{Datum, What};
use super::flow::Flow;
use super::types::{self, Wrong};

impl Flow<'_> {
    /// A call of a registered function whose name and number of arguments are right.
    pub(super) fn typed_call(&mut self, name: &str, given: &[Datum]) -> What {
        if !BUILT_IN.contains(&name) {
            let kinds: Vec<types::Kinds> = given.iter().map(|datum| types::kinds(&datum.what)).collect();
            let entry = self.names.entries.get(name).map(|(entry, _)| *entry);
            // What the API takes stands in its table; some functions look at the types themselves.
            let wrong = match &entry {
                Some(entry) => types::by_table(entry, &kinds),
                None => self.names.types.call(name, &kinds),
            };
            if let Some(Wrong::Kind(at, wanted)) = wrong {
                self.wrong_kind(name, at, given, &wanted, entry);
            }
        }
        self.names.entries.get(name).map_or(What::Anything, |(entry, _)| result(entry, given.len()))
    }

    fn wrong_kind(&mut self, name: &str, at: usize, given: &[Datum], wanted: &[std::any::TypeId], entry: Option<Entry>) {
        let Some(datum) = given.get(at) else { return };
        let is = match &datum.what {
            What::Read(_) => "a value of an event".to_owned(),
            what => types::kinds(what).map(|kinds| types::shown(&kinds)).unwrap_or_default(),
        };
        let wanted = types::shown(wanted);
        let message = if wanted.is_empty() {
            format!("{name} does not take {is} here")
        } else {
            format!("{name} takes {wanted} here, and this is {is}")
        };
        let problem = Diagnostic::error("E0316", message).at(datum.place.clone());
        self.problems.push(match entry {
            Some(entry) => problem.help(entry.forms.iter().map(|form| format!("{name}{form}")).collect::<Vec<_>>().join(", or ")),
            None => problem,
        });
    }

    /// A call of a method on a value; what it gives.
    pub(super) fn typed_method(&mut self, what: &What, name: &str, position: Position, given: &[Datum]) -> What {
        let Some(receiver) = types::kinds(what) else { return What::Anything };
        // A map may hold a closure under any name; what comes out of an event never does.
        let may_hold = !types::is_no_map(&receiver) && !matches!(what, What::Read(_));
        if BUILT_IN.contains(&name) || may_hold || self.functions.contains_key(name) {
            return What::Anything;
        }
        let kinds: Vec<types::Kinds> = given.iter().map(|datum| types::kinds(&datum.what)).collect();
        let shown = if matches!(what, What::Read(_)) { "a value of an event".to_owned() } else { types::shown(&receiver) };
        match self.names.types.method(&receiver, name, &kinds) {
            Some(Wrong::Name) => {
                let problem = Diagnostic::error("E0304", format!("{shown} has no method `{name}`")).at(self.at(position));
                let near = self.names.types.nearest(&receiver, name, "");
                self.problems.push(match near {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem,
                });
            }
            Some(Wrong::Count(counts)) => {
                let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
                let message = format!("the method {name} does not take {}", super::arguments(given.len()));
                let problem = Diagnostic::error("E0305", message).at(self.at(position));
                let forms = self.member(what, name).map(|entry| entry.signatures().join(", or "));
                self.problems.push(problem.help(forms.unwrap_or_else(|| format!("it takes {}", counts.join(" or ")))));
            }
            Some(Wrong::Kind(at, wanted)) => {
                let entry = self.member(what, name);
                self.wrong_kind(name, at, given, &wanted, entry);
            }
            None => {}
        }
        self.literals_of_times(what, name, given);
        self.member(what, name).map_or(What::Anything, |entry| result(&entry, given.len()))
    }

    /// A field of a value that is no map.
    pub(super) fn typed_field(&mut self, what: &What, name: &str, position: Position) -> What {
        let Some(receiver) = types::kinds(what).filter(|kinds| types::is_no_map(kinds)) else { return What::Anything };
        if !self.names.types.has_field(&receiver, name) {
            let problem = Diagnostic::error("E0304", format!("{} has no field `{name}`", types::shown(&receiver))).at(self.at(position));
            let near = self.names.types.nearest(&receiver, name, "get$");
            self.problems.push(match near {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
        self.member(what, name).map_or(What::Anything, |entry| result(&entry, 0))
    }

    /// The entry of the table that a member of a value of one type is.
    fn member(&self, what: &What, name: &str) -> Option<Entry> {
        let What::Of(words) = what else { return None };
        let [word] = words.as_slice() else { return None };
        api::entries().find(|entry| entry.name.split_once('.') == Some((word, name))).copied()
    }

    /// Zones, units and patterns that stand in a call of a time's method.
    fn literals_of_times(&mut self, what: &What, name: &str, given: &[Datum]) {
        if !matches!(what, What::Of(words) if words.as_slice() == ["time"]) {
            return;
        }
        let (pattern, unit, zone) = match name {
            "format" => (Some(0), None, Some(1)),
            "parts" => (None, None, Some(0)),
            "start_of" => (None, Some(0), Some(1)),
            "diff" => (None, Some(1), Some(2)),
            "add" => (None, None, Some(1)),
            _ => return,
        };
        /// What is wrong with a text, and what it should be.
        type Wrong = fn(&str) -> Option<(String, String)>;
        let checks: [(Option<usize>, Wrong); 3] =
            [(pattern, api::calendar::wrong_pattern), (unit, api::calendar::wrong_unit), (zone, api::calendar::wrong_zone)];
        for (at, wrong) in checks {
            let datum = at.and_then(|at| given.get(at));
            if let Some(Datum { what: What::Text(Some(text)), place }) = datum
                && let Some((message, help)) = wrong(text)
            {
                self.problems.push(Diagnostic::error("E0310", message).at(place.clone()).help(help));
            }
        }
        if let ("add", Some(Datum { what: What::Text(Some(text)), place })) = (name, given.first()) {
            self.duration(text, place);
        }
    }

    /// A text that has to be a duration.
    pub(super) fn duration(&mut self, text: &str, place: &crate::base::Location) {
        if let Some((message, help)) = not_a_duration(text) {
            self.problems.push(Diagnostic::error("E0310", message).at(place.clone()).help(help));
        }
    }
}

/// What a call of an entry with so many arguments gives.
fn result(entry: &Entry, count: usize) -> What {
    let mut results = entry.calls().into_iter().filter(|form| form.parameters.len() == count).map(|form| form.result);
    let Some(first) = results.next() else { return What::Anything };
    if results.any(|other| other != first) {
        return What::Anything;
    }
    match first {
        "any" => What::Anything,
        "nothing" => What::Nothing,
        "text" => What::Text(None),
        "whole" => What::Whole(None),
        "flag" => What::Flag(None),
        words => What::Of(words.split(" | ").collect()),
    }
}
