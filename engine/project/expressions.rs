//! The config's expressions: compiled, and their paths held against the schemas of the events they will see.

use crate::base::Diagnostic;
use crate::base::diagnostic::nearest;
use crate::config::Spanned;
use crate::expr::{EVENT_VARIABLES, Expr, MATCH_VARIABLES, PathUse, Scope, Segment, WEBHOOK_VARIABLES};

use super::function::PRIORITY_MOST_SECONDS;
use super::schema::{Known, Schema};

/// The fields of an event.
const EVENT_FIELDS: &[&str] = &["id", "name", "data", "ts"];

/// An event that an expression may see: its declared name, and its schema if it has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub name: &'a str,
    pub schema: Option<&'a Schema>,
}

/// Compiles an expression and checks what it reads. `what` names it in messages: "key", "condition".
pub(super) fn compile(text: &Spanned<String>, what: &str, events: &[Seen<'_>], problems: &mut Vec<Diagnostic>) -> Option<Expr> {
    checked(text, what, EVENT_VARIABLES, &[("event", events)], problems)
}

/// The fields of the data that a start by the clock has.
const CLOCK_FIELDS: &[&str] = &["cron", "tz", "at", "missed"];

/// Warns of what an expression reads that a start by the clock never has, where nothing but the clock starts its function. No more
/// than a warning, since an invocation may bring any data.
pub(super) fn check_by_clock(expr: &Expr, text: &Spanned<String>, what: &str, problems: &mut Vec<Diagnostic>) {
    for path in expr.paths() {
        let [Segment::Field(first), Segment::Field(field), ..] = path.segments.as_slice() else { continue };
        if path.root != "event" || first != "data" || CLOCK_FIELDS.contains(&field.as_str()) {
            continue;
        }
        let read = text.value.get(path.range.clone()).unwrap_or_default();
        let message = format!("this {what} reads `{read}`, but the clock alone starts the function, and sends no such property");
        let problem = Diagnostic::warning("W0207", message).at(text.place.within(&text.value, path.range.clone()));
        problems.push(problem.help(format!("the data of a start by the clock are {}", CLOCK_FIELDS.join(", "))));
    }
}

/// What is wrong with a priority that is the same for every event.
pub(super) fn constant_priority(expr: &Expr, text: &Spanned<String>) -> Option<Diagnostic> {
    if !expr.paths().is_empty() {
        return None;
    }
    let most = PRIORITY_MOST_SECONDS;
    let help = "a priority is a head start in the queue, in seconds, such as `event.data.plan == 'pro' ? 120 : 0`";
    match expr.number(&Scope::default()) {
        Ok(seconds) if (-most..=most).contains(&seconds) => None,
        Ok(_) => {
            let problem = Diagnostic::error("E0111", format!("`{}` is out of range", text.value));
            Some(problem.labelled(text.place.clone(), format!("must be -{most} to {most}")).help(help))
        }
        Err(error) => {
            let problem = Diagnostic::error("E0103", format!("the priority is no number: {error}"));
            Some(problem.labelled(text.place.clone(), "expected a number of seconds").help(help))
        }
    }
}

/// As `compile`, for an expression over `event`, the run's own, and `async`, the one that came.
pub(super) fn compile_match(
    text: &Spanned<String>,
    what: &str,
    own: &[Seen<'_>],
    other: &[Seen<'_>],
    problems: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    checked(text, what, MATCH_VARIABLES, &[("event", own), ("async", other)], problems)
}

/// As `compile`, for an expression over `body` and `headers`, of which no schema says what they hold.
pub(super) fn compile_webhook(text: &Spanned<String>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Expr> {
    checked(text, what, WEBHOOK_VARIABLES, &[], problems)
}

fn checked(
    text: &Spanned<String>,
    what: &str,
    variables: &[&str],
    seen: &[(&str, &[Seen<'_>])],
    problems: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    let expr = match Expr::parse(&text.value, variables) {
        Ok(expr) => expr,
        Err(errors) => {
            problems.extend(errors.into_iter().map(|error| {
                let code = if error.message.starts_with("unknown") { "E0212" } else { "E0211" };
                let problem = Diagnostic::error(code, format!("in this {what}: {}", error.message));
                let problem = problem.at(text.place.within(&text.value, error.range));
                match error.help {
                    Some(help) => problem.help(help),
                    None => problem,
                }
            }));
            return None;
        }
    };
    for path in expr.paths() {
        let Some((_, events)) = seen.iter().find(|(variable, _)| *variable == path.root) else { continue };
        let place = || text.place.within(&text.value, path.range.clone());
        problems.extend(check(path, &text.value, what, events).map(|problem| problem.at(place())));
    }
    Some(expr)
}

fn check(path: &PathUse, text: &str, what: &str, events: &[Seen<'_>]) -> Option<Diagnostic> {
    let read = text.get(path.range.clone()).unwrap_or_default();
    let [Segment::Field(first), rest @ ..] = path.segments.as_slice() else { return None };
    if !EVENT_FIELDS.contains(&first.as_str()) {
        let problem = Diagnostic::error("E0207", format!("this {what} reads `{read}`, but an event has no `{first}`"));
        return Some(match nearest(first, EVENT_FIELDS.iter().copied()) {
            Some(right) => problem.help(format!("did you mean `{}.{right}`?", path.root)),
            None => problem.help(format!("the fields of its data are under `{0}.data`: `{0}.data.{first}`", path.root)),
        });
    }
    if first != "data" || rest.is_empty() {
        return None;
    }
    let known: Vec<(&str, Known)> =
        events.iter().map(|event| (event.name, event.schema.map_or(Known::Yes, |schema| schema.knows(rest)))).collect();
    // An expression that reads a property of some of its events alone is right for those, so it is worth a warning only.
    let always_missing = !known.is_empty() && known.iter().all(|(_, known)| matches!(known, Known::Closed { .. }));
    known.into_iter().find_map(|(event, known)| {
        let (property, near) = match known {
            Known::Yes => return None,
            Known::Closed { property, nearest } => (property, nearest),
            Known::Near { property, nearest } => (property, Some(nearest)),
        };
        let message = format!("this {what} reads `{read}`, but {event} has no such property");
        let problem = if always_missing { Diagnostic::error("E0207", message) } else { Diagnostic::warning("W0207", message) };
        Some(match near {
            Some(right) => problem.help(format!("the schema has `{right}`")),
            None => problem.help(format!("the schema declares no `{property}` here, and allows no other properties")),
        })
    })
}
