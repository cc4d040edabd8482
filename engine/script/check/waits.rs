//! What the literals in calls of `send_event`, the waits and `invoke` say.

use rhai::{Array, Dynamic, Expr, FnCallExpr, Map, Position};

use crate::base::diagnostic::nearest;
use crate::base::limits::WANTED_MOST;
use crate::base::{Diagnostic, Location};

use super::super::api::Entry;
use super::super::{Use, UseKind, time};
use super::calls::not_a_rest;
use super::{Checker, literal};

/// A field of a map that stands in the handler as literals.
pub(super) struct Field {
    pub(super) name: String,
    /// Its text, if it is one, and where that begins.
    pub(super) text: Option<(String, Location)>,
    /// Its whole number, if it is one.
    pub(super) number: Option<i64>,
    pub(super) place: Location,
}

impl Checker<'_> {
    pub(super) fn waits(&mut self, entry: &Entry, call: &FnCallExpr) {
        let (first, last) = (call.args.first(), call.args.last());
        let Some(first) = first else { return };
        let options = last.filter(|_| call.args.len() > 1).map(|last| self.fields(last)).unwrap_or_default();
        let named = literal(first).map(|name| (name.to_owned(), self.quoted(first.start_position(), name)));
        match entry.name {
            "send_event" if call.args.len() == 2 => self.event(UseKind::Event, named),
            "send_event" => {
                for item in self.items(first) {
                    self.options("an event that is sent", &item, &["name", "data", "id", "ts"]);
                    let name = item.into_iter().find(|field| field.name == "name").and_then(|field| field.text);
                    self.event(UseKind::Event, name);
                }
            }
            "wait_for_event" => {
                self.options(entry.name, &options, &["if", "timeout", "id"]);
                if let Some((event, _)) = &named {
                    self.condition(event, options);
                }
                self.event(UseKind::Awaited, named);
            }
            "wait_for_any" => {
                self.options(entry.name, &options, &["timeout", "id"]);
                if length(first).is_some_and(|length| !(1..=WANTED_MOST).contains(&length)) {
                    let place = self.at(first.start_position());
                    self.report(Diagnostic::error("E0310", format!("wait_for_any takes 1 to {WANTED_MOST} entries")).at(place));
                }
                for item in self.items(first) {
                    self.options("an entry of wait_for_any", &item, &["event", "if"]);
                    let event = item.iter().find(|field| field.name == "event").and_then(|field| field.text.clone());
                    if let Some((event, _)) = &event {
                        self.condition(event, item);
                    }
                    self.event(UseKind::Awaited, event);
                }
            }
            "wait_for_signal" => self.options(entry.name, &options, &["timeout", "id"]),
            "invoke" => {
                if call.args.len() == 3 {
                    self.options(entry.name, &options, &["timeout", "id"]);
                }
                self.found.uses.extend(named.map(|(name, place)| Use { kind: UseKind::Function, name, place }));
            }
            _ => return,
        }
        if !entry.name.starts_with("send") {
            let place = self.at(first.start_position());
            self.found.uses.push(Use { kind: UseKind::Sleep, name: entry.name.to_owned(), place });
        }
    }

    fn event(&mut self, kind: UseKind, named: Option<(String, Location)>) {
        self.found.uses.extend(named.map(|(name, place)| Use { kind, name, place }));
    }

    fn condition(&mut self, event: &str, fields: Vec<Field>) {
        let condition = fields.into_iter().find(|field| field.name == "if").and_then(|field| field.text);
        let kind = UseKind::Condition { event: event.to_owned() };
        self.found.uses.extend(condition.map(|(name, place)| Use { kind, name, place }));
    }

    fn options(&mut self, what: &str, fields: &[Field], known: &[&str]) {
        for field in fields {
            if !known.contains(&field.name.as_str()) {
                let problem = Diagnostic::error("E0310", format!("{what} has no option `{}`", field.name)).at(field.place.clone());
                let near = nearest(&field.name, known.iter().copied());
                let help = near.map_or_else(|| format!("it takes {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
                self.report(problem.help(help));
            }
            if let (Some((text, place)), "timeout") = (&field.text, field.name.as_str())
                && time::moment(text).is_err()
                && let Some((message, help)) = not_a_rest(text)
            {
                let help = format!("{help}, or a time as 2026-01-31T09:30:00Z");
                self.report(Diagnostic::error("E0310", message).at(place.clone()).help(help));
            }
        }
    }

    /// The maps of an array of literals.
    fn items(&self, array: &Expr) -> Vec<Vec<Field>> {
        match array {
            Expr::Array(items, _) => items.iter().map(|item| self.fields(item)).collect(),
            // Rhai has put an array of constants into one value; where its parts stood is looked for in the text.
            Expr::DynamicConstant(value, position) => match value.read_lock::<Array>() {
                Some(items) => items.iter().map(|item| self.fields_of(item, *position)).collect(),
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    pub(super) fn fields(&self, map: &Expr) -> Vec<Field> {
        match map {
            Expr::Map(parts, _) => {
                let field = |(name, value): &(rhai::Ident, Expr)| {
                    let text = literal(value).map(|text| (text.to_owned(), self.quoted(value.start_position(), text)));
                    let number = if let Expr::IntegerConstant(number, _) = value { Some(*number) } else { None };
                    Field { name: name.name.to_string(), text, number, place: self.at(name.pos) }
                };
                parts.0.iter().map(field).collect()
            }
            Expr::DynamicConstant(value, position) => self.fields_of(value, *position),
            _ => Vec::new(),
        }
    }

    fn fields_of(&self, value: &Dynamic, position: Position) -> Vec<Field> {
        let Some(map) = value.read_lock::<Map>() else { return Vec::new() };
        let start = self.at(position).range.start;
        let source = &self.source.text[start..];
        let find = |text: &str| source.find(text).map(|at| Location::new(self.source, start + at..start + at + text.len()));
        let field = |(name, value): (&rhai::Identifier, &Dynamic)| {
            let text = value.as_immutable_string_ref().ok().map(|text| text.to_string());
            let place = |text: &str| find(&format!("\"{text}\"")).or_else(|| find(&format!("`{text}`")));
            let text = text.map(|text| (text.clone(), place(&text).unwrap_or_else(|| self.at(position))));
            let number = value.as_int().ok();
            Field { name: name.to_string(), text, number, place: find(name).unwrap_or_else(|| self.at(position)) }
        };
        map.iter().map(field).collect()
    }

    /// The place of a literal text, with its quotes.
    pub(super) fn quoted(&self, position: Position, text: &str) -> Location {
        self.at(position).quoted(text)
    }
}

/// How many entries an array has that stands there.
fn length(array: &Expr) -> Option<usize> {
    match array {
        Expr::Array(items, _) => Some(items.len()),
        Expr::DynamicConstant(value, _) => value.read_lock::<Array>().map(|items| items.len()),
        _ => None,
    }
}
