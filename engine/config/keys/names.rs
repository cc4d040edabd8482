//! The names that the file may give: of events, functions, variables, shared limits.

use crate::base::limits::EVENT_NAME_BYTES;
use crate::base::{Diagnostic, Location};

/// Longest id of a function, webhook, database, app or shared limit, in bytes; it stands in paths and tables.
pub(in crate::config) const ID_BYTES: usize = 128;
/// Names that belong to the engine's own events.
const RESERVED: &str = "stepwell/";

/// What is wrong with an id: letters, digits, `-` and `_`, beginning with a letter or digit.
pub(in crate::config) fn id_problem(what: &str, id: &str, place: &Location) -> Option<Diagnostic> {
    let problem = |text: String| Some(Diagnostic::error("E0114", text).at(place.clone()));
    if id.is_empty() {
        return problem(format!("{what} is empty"));
    }
    if id.len() > ID_BYTES {
        return problem(format!("{what} has {} bytes, and at most {ID_BYTES} are allowed", id.len()));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.chars().all(good) && id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let right: String = id.chars().map(|c| if good(c) { c } else { '-' }).collect();
    let right = right.trim_matches(['-', '_']);
    let said = problem(format!("{what} `{}` is not an id: use letters, digits, `-` and `_`", id.escape_debug()));
    if right.len() * 2 < id.len() { said } else { said.map(|problem| problem.help(format!("for example `{right}`"))) }
}

/// What is wrong with the name of an environment variable or secret: letters, digits and `_`, not beginning with a digit.
pub(in crate::config) fn variable_problem(name: &str, place: &Location) -> Option<Diagnostic> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.len() <= ID_BYTES && name.chars().all(good) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let shown = name.escape_debug();
    Some(
        Diagnostic::error("E0114", format!("`{shown}` cannot be the name of an environment variable"))
            .at(place.clone())
            .help("use letters, digits and `_`, not beginning with a digit: `STRIPE_KEY`"),
    )
}

/// What is wrong with the name of an event, or of a family of events where `family` allows it.
pub(in crate::config) fn event_problem(name: &str, family: bool, place: &Location) -> Option<Diagnostic> {
    let problem = |text: String| Some(Diagnostic::error("E0114", text).at(place.clone()));
    if name.is_empty() {
        return problem("an event's name is empty".to_owned());
    }
    if name.len() > EVENT_NAME_BYTES {
        return problem(format!("an event's name has {} bytes, and at most {EVENT_NAME_BYTES} are allowed", name.len()));
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return problem(format!("the event's name `{}` contains a space or a control character", name.escape_debug()));
    }
    if name.starts_with(RESERVED) {
        return Some(
            Diagnostic::error("E0115", format!("`{name}` is reserved: names under `stepwell/` are the engine's own")).at(place.clone()),
        );
    }
    let stem = if family { name.strip_suffix("/*").unwrap_or(name) } else { name };
    if stem.contains('*') || stem.is_empty() {
        let said = problem(format!("`*` is not allowed in the event's name `{name}`"));
        return said.map(|problem| problem.help("a family of names is declared as `stripe/*`: `*` alone, after the last `/`"));
    }
    None
}

/// Whether `name` is of the family `family` (`stripe/*`).
pub(in crate::config) fn in_family(name: &str, family: &str) -> bool {
    family.strip_suffix('*').is_some_and(|stem| stem.ends_with('/') && name.len() > stem.len() && name.starts_with(stem))
}
