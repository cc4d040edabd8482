//! What the literals in calls of `send_event`, the waits and `invoke` say.

use rhai::{Array, Dynamic, Expr, FnCallExpr, Map, Position};

use crate::base::diagnostic::nearest;
use crate::base::limits::{EVENTS_PER_REQUEST, WANTED_MOST};
use crate::base::{Diagnostic, Location};

use super::super::api::Entry;
use super::super::{Use, UseKind, time};
use super::calls::{is_map, not_a_rest};
use super::{Checker, literal};

/// A field of a map that stands in the handler as literals.
pub(super) struct Field {
    pub(super) name: String,
    /// Its text, if it is one, and where that begins.
    pub(super) text: Option<(String, Location)>,
    /// Its value, whatever it is, if that stands there.
    pub(super) value: Option<Dynamic>,
    /// The fields of a back-off that is a map.
    pub(super) inner: Option<Vec<Field>>,
    pub(super) place: Location,
}

impl Field {
    /// Where a wrong value is told of: at its text, else at its name.
    pub(super) fn told_at(&self) -> Location {
        self.text.as_ref().map_or(&self.place, |(_, place)| place).clone()
    }
}

/// An item of an array of literals.
enum Item {
    /// A map.
    Fields(Vec<Field>, Location),
    /// Another literal.
    Other(Location),
    /// What is only known at run time.
    Unknown,
}

impl Checker<'_> {
    pub(super) fn waits(&mut self, entry: &Entry, call: &FnCallExpr) {
        let (first, last) = (call.args.first(), call.args.last());
        let Some(first) = first else { return };
        let options = last.filter(|_| call.args.len() > 1).map(|last| self.fields(last)).unwrap_or_default();
        self.journal_name(entry, call, &options);
        let named = literal(first).map(|name| (name.to_owned(), self.quoted(first.start_position(), name)));
        match entry.name {
            "send_event" if call.args.len() == 2 => self.event(UseKind::Event, named),
            "send_event" => {
                self.number_of(first, EVENTS_PER_REQUEST, &format!("send_event takes 1 to {EVENTS_PER_REQUEST} events at once"));
                for item in self.items(first) {
                    let Some((item, place)) = self.item(item, "send_event takes an array of events") else { continue };
                    self.options("an event that is sent", &item, &["name", "data", "id", "ts"]);
                    let name = item.into_iter().find(|field| field.name == "name");
                    let is_missing = name.as_ref().is_none_or(|name| name.value.as_ref().is_some_and(|value| !is_name(value)));
                    if is_missing {
                        self.report(Diagnostic::error("E0310", "an event that is sent has a name").at(place));
                    }
                    self.event(UseKind::Event, name.and_then(|field| field.text));
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
                self.number_of(first, WANTED_MOST, &format!("wait_for_any takes 1 to {WANTED_MOST} entries"));
                for item in self.items(first) {
                    let what = "wait_for_any takes an array of #{ event, \"if\" }";
                    let Some((item, place)) = self.item(item, what) else { continue };
                    self.options("an entry of wait_for_any", &item, &["event", "if"]);
                    let event = item.iter().find(|field| field.name == "event");
                    if event.is_none_or(|event| event.value.as_ref().is_some_and(|value| !value.is_string())) {
                        self.report(Diagnostic::error("E0310", "each entry of wait_for_any names its `event`").at(place));
                    }
                    let event = event.and_then(|field| field.text.clone());
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

    /// The name under which the journal has the call: its `id`, or else what it is about.
    fn journal_name(&mut self, entry: &Entry, call: &FnCallExpr, options: &[Field]) {
        let whose = match entry.name {
            "wait_for_event" | "wait_for_any" | "wait_for_signal" => "a wait's",
            "invoke" => "an invocation's",
            _ => return,
        };
        let options_at = if entry.name == "invoke" { 2 } else { 1 };
        // The last argument of an `invoke` without options is its data.
        let options = if call.args.len() > options_at { options } else { &[] };
        if let Some(id) = options.iter().find(|field| field.name == "id") {
            if let Some((name, place)) = &id.text {
                self.name(whose, name, place.clone());
            }
            return;
        }
        // Options that do not stand there may have an `id`.
        let is_known = call.args.get(options_at).is_none_or(is_map);
        if let Some((first, name)) = call.args.first().and_then(|first| Some((first, literal(first)?))).filter(|_| is_known) {
            let place = self.quoted(first.start_position(), name);
            self.name(whose, name, place);
        }
    }

    /// An array that stands there and has too many items, or none.
    fn number_of(&mut self, array: &Expr, most: usize, message: &str) {
        if length(array).is_some_and(|length| !(1..=most).contains(&length)) {
            let place = self.at(array.start_position());
            self.report(Diagnostic::error("E0310", message).at(place));
        }
    }

    /// The fields of an item, and where it stands; none where they are not known, or where it is no map, which is told.
    fn item(&mut self, item: Item, what: &str) -> Option<(Vec<Field>, Location)> {
        match item {
            Item::Fields(fields, place) => Some((fields, place)),
            Item::Other(place) => {
                self.report(Diagnostic::error("E0310", what).at(place));
                None
            }
            Item::Unknown => None,
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
            if ["if", "id"].contains(&field.name.as_str()) && field.value.as_ref().is_some_and(|value| !value.is_string()) {
                let message = format!("the option `{}` of {what} is a text", field.name);
                self.report(Diagnostic::error("E0310", message).at(field.place.clone()));
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

    /// The items of an array of literals.
    fn items(&self, array: &Expr) -> Vec<Item> {
        match array {
            Expr::Array(items, _) => {
                let item = |item: &Expr| {
                    if is_map(item) {
                        Item::Fields(self.fields(item), self.at(item.start_position()))
                    } else if item.get_literal_value(None).is_some() {
                        Item::Other(self.at(item.start_position()))
                    } else {
                        Item::Unknown
                    }
                };
                items.iter().map(item).collect()
            }
            // Rhai has put an array of constants into one value; where its parts stood is looked for in the text.
            Expr::DynamicConstant(value, position) => match value.read_lock::<Array>() {
                Some(items) => {
                    let item = |item: &Dynamic| match item.is_map() {
                        true => Item::Fields(self.fields_of(item, *position), self.at(*position)),
                        false => Item::Other(self.at(*position)),
                    };
                    items.iter().map(item).collect()
                }
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
                    let inner = (name.as_str() == "backoff" && is_map(value)).then(|| self.fields(value));
                    let value = value.get_literal_value(None);
                    Field { name: name.name.to_string(), text, value, inner, place: self.at(name.pos) }
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
            let inner = (name.as_str() == "backoff" && value.is_map()).then(|| self.fields_of(value, position));
            let place = find(name).unwrap_or_else(|| self.at(position));
            Field { name: name.to_string(), text, value: Some(value.clone()), inner, place }
        };
        map.iter().map(field).collect()
    }

    /// The place of a literal text, with its quotes.
    pub(super) fn quoted(&self, position: Position, text: &str) -> Location {
        self.at(position).quoted(text)
    }
}

/// Whether a value can be the name of an event.
fn is_name(value: &Dynamic) -> bool {
    value.as_immutable_string_ref().is_ok_and(|name| !name.is_empty())
}

/// How many entries an array has that stands there.
fn length(array: &Expr) -> Option<usize> {
    match array {
        Expr::Array(items, _) => Some(items.len()),
        Expr::DynamicConstant(value, _) => value.read_lock::<Array>().map(|items| items.len()),
        _ => None,
    }
}
