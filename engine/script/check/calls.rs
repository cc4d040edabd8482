//! What the literals in calls of the whole API say: the keys of maps, by the table; durations, patterns, times, zones; and the names
//! that the config has to know.

use rhai::{Expr, FnCallExpr};

use crate::base::diagnostic::nearest;
use crate::base::limits::{BRANCHES_MOST, RETRIES_MOST, SLEEP_MOST_MS};
use crate::base::{Diagnostic, Location, Span};

use super::super::api::{self, Entry};
use super::super::{Use, UseKind};
use super::waits::Field;
use super::{Checker, literal};

/// Calls whose maps are looked at on their own, since more is known of them.
const ELSEWHERE: [&str; 5] = ["send_event", "wait_for_event", "wait_for_any", "wait_for_signal", "invoke"];
/// Keys whose numbers lie between a least and a most one, with the functions that take them.
const RANGES: [(&str, &str, i64, i64); 2] = [("parallel", "limit", 1, BRANCHES_MOST as i64), ("step", "retries", 0, RETRIES_MOST as i64)];
/// Keys whose texts are durations, whatever they belong to.
const DURATIONS: [&str; 4] = ["timeout", "ttl", "expires_in", "leeway"];

impl Checker<'_> {
    pub(super) fn calls(&mut self, entry: &Entry, call: &FnCallExpr) {
        if !ELSEWHERE.contains(&entry.name) {
            self.maps(entry, call);
        }
        let text = |at: usize| call.args.get(at).and_then(|argument| Some((literal(argument)?.to_owned(), argument.start_position())));
        let count = call.args.len();
        match entry.name {
            "date" if count == 1 => {
                self.text(text(0), |text| match text.trim().parse::<jiff::Timestamp>() {
                    Ok(_) => None,
                    Err(_) => Some((format!("`{text}` is not a time"), "write it as 2026-01-31T09:30:00Z, or name the zone as well")),
                });
            }
            "date" => {
                self.text(text(count - 1), api::calendar::wrong_zone);
            }
            "duration" | "retry_after" => self.text(text(0), not_a_duration),
            name if name.starts_with("regex::") => self.text(text(0), |pattern| {
                let error = api::regex::check(pattern).err()?;
                Some((error, "the patterns are those of the crate regex: without look-around and back-references"))
            }),
            "publish" => self.text(text(0), |name| {
                let message = api::publish::wrong_name("a channel's name", name)?;
                Some((message, "name it by what its messages are about, such as import:f1"))
            }),
            "exec::run" => self.named(UseKind::Command, text(0)),
            "db::query" | "db::exec" => self.named(UseKind::Database, text(0)),
            "email::send" => {
                let place = self.at(call.namespace.position());
                self.found.uses.push(Use { kind: UseKind::Mail, name: entry.name.to_owned(), place });
            }
            _ => {}
        }
    }

    fn named(&mut self, kind: UseKind, text: Option<(String, rhai::Position)>) {
        if let Some((name, position)) = text {
            let place = self.quoted(position, &name);
            self.found.uses.push(Use { kind, name, place });
        }
    }

    /// Reports what is wrong with a literal text.
    fn text<H: Into<String>>(&mut self, text: Option<(String, rhai::Position)>, wrong: impl FnOnce(&str) -> Option<(String, H)>) {
        let Some((text, position)) = text else { return };
        if let Some((message, help)) = wrong(&text) {
            let place = self.quoted(position, &text);
            self.report(Diagnostic::error("E0310", message).at(place).help(help));
        }
    }

    /// The keys of maps that stand in the call, where every form of that many arguments takes a map with known keys there.
    fn maps(&mut self, entry: &Entry, call: &FnCallExpr) {
        let forms: Vec<_> = entry.calls().into_iter().filter(|form| form.parameters.len() == call.args.len()).collect();
        for (at, argument) in call.args.iter().enumerate() {
            if !is_map(argument) {
                continue;
            }
            // A form that takes no map there is not the one that is meant.
            let types = forms.iter().map(|form| &form.parameters[at].types).filter(|types| takes_maps(types));
            let Some(known) = types.map(|types| known_keys(types)).reduce(both).flatten() else { continue };
            for field in self.fields(argument) {
                if !known.contains(&field.name.as_str()) {
                    let near = nearest(&field.name, known.iter().copied());
                    let help = near.map_or_else(|| format!("it takes {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
                    let problem = Diagnostic::error("E0310", format!("{} has no option `{}`", entry.name, field.name));
                    self.report(problem.at(field.place.clone()).help(help));
                } else if let Some(message) = wrong_value(entry.name, &field) {
                    self.report(Diagnostic::error("E0310", message).at(field.place.clone()));
                } else if let (true, Some((text, place))) = (DURATIONS.contains(&field.name.as_str()), field.text)
                    && let Some((message, help)) = not_a_duration(&text)
                {
                    self.report(Diagnostic::error("E0310", message).at(Location::clone(&place)).help(help));
                }
            }
        }
    }
}

/// What is wrong with a text that has to be a duration, and what it should be.
pub(super) fn not_a_duration(text: &str) -> Option<(String, &'static str)> {
    let is_one = text.parse::<Span>().is_ok();
    (!is_one).then(|| (format!("`{text}` is not a duration"), "write 500ms, 30s, 5m, 2h, 7d or 1h30m"))
}

/// The same of a text that has to be the length of a sleep or wait.
pub(super) fn not_a_rest(text: &str) -> Option<(String, &'static str)> {
    match text.parse::<Span>() {
        Ok(span) if span.0 > SLEEP_MOST_MS => {
            Some((format!("`{text}` is longer than a year, the longest sleep or wait"), "write at most 366d"))
        }
        _ => not_a_duration(text),
    }
}

/// What is wrong with a literal that its function does not take as this option.
fn wrong_value(function: &str, field: &Field) -> Option<String> {
    let value = field.value.as_ref()?;
    match (function, field.name.as_str()) {
        ("race", "id") => (!value.is_string()).then(|| "the option `id` of race is a text".to_owned()),
        ("parallel", "settle") => (!value.is_bool()).then(|| "settle is true or false".to_owned()),
        ("publish", "topic") => match &field.text {
            Some((topic, _)) => api::publish::wrong_name("a topic", topic),
            None => Some("the topic of publish is a text".to_owned()),
        },
        ("step", "timeout") => {
            let is_none = value.as_int() == Ok(0)
                || field.text.as_ref().is_some_and(|(text, _)| text.parse::<Span>().is_ok_and(|span| span == Span(0)));
            is_none.then(|| "the timeout of a step is more than 0".to_owned())
        }
        _ => {
            let (.., least, most) = RANGES.iter().find(|(of, name, ..)| (*of, *name) == (function, field.name.as_str()))?;
            let is_taken = value.as_int().is_ok_and(|number| (*least..=*most).contains(&number));
            (!is_taken).then(|| format!("{} is a whole number from {least} to {most}", field.name))
        }
    }
}

/// Whether an argument is a map that stands there.
pub(super) fn is_map(argument: &Expr) -> bool {
    match argument {
        Expr::Map(..) => true,
        Expr::DynamicConstant(value, _) => value.is_map(),
        _ => false,
    }
}

/// Whether one of these types is a map.
fn takes_maps(types: &[&'static str]) -> bool {
    types.iter().any(|word| matches!(*word, "map" | "any") || word.starts_with("#{"))
}

/// The keys that a map has among these types; none where a map may have any.
fn known_keys(types: &[&'static str]) -> Option<Vec<&'static str>> {
    if types.iter().any(|word| matches!(*word, "map" | "any")) {
        return None;
    }
    let inner = types.iter().find_map(|word| word.strip_prefix("#{"))?.strip_suffix('}')?;
    Some(inner.split(',').map(|key| key.trim().trim_matches('"')).collect())
}

/// The keys that either form takes; none where one takes any.
fn both(one: Option<Vec<&'static str>>, other: Option<Vec<&'static str>>) -> Option<Vec<&'static str>> {
    let (mut keys, other) = (one?, other?);
    keys.extend(other.into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
    Some(keys)
}
