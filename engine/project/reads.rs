//! What scripts read of events, held against the schemas of these events.
//!
//! Only what is certain is told: a property that no event can have, a misspelled one, a field that an event may leave out and
//! that is used as if it were always there.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::base::diagnostic::nearest;
use crate::base::{Diagnostic, Location};
use crate::expr::{Expr, Segment};
use crate::script::{At, End, Facts, Hop, Read, Root};

use super::expressions::Seen;
use super::handed;
use super::schema::Schema;
use super::shape::{Presence, Property, Shape, Types};

/// The fields of an event as scripts see it; the last two are there where the sender gave them.
const EVENT_FIELDS: [&str; 6] = ["id", "name", "data", "ts", "user", "v"];

/// The events that a script may be given, over all functions that it serves.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    /// The declared events.
    pub events: Vec<Seen<'a>>,
    /// Whether it may be started with data of which nothing is declared.
    pub is_open: bool,
    /// The functions among them that nobody checks the data of an invocation for.
    pub unchecked: BTreeSet<&'a str>,
    /// The fields that a condition of the config has looked at before the script runs, as `Read::path` writes them.
    pub tested: BTreeSet<String>,
}

impl Given<'_> {
    /// Notes what the condition of a trigger looks at.
    pub fn test(&mut self, condition: &Expr) {
        for used in condition.paths() {
            let text = used.segments.iter().fold(used.root.clone(), |text, segment| match segment {
                Segment::Field(name) => format!("{text}.{name}"),
                Segment::Index(_) => format!("{text}[]"),
            });
            self.tested.insert(text);
        }
    }
}

/// The events that something is read of, and whether there may be others.
fn read_of<'a>(read: &Read, own: &Given<'a>, awaited: &dyn Fn(&str) -> Vec<Seen<'a>>) -> (Vec<Seen<'a>>, bool) {
    match &read.root {
        Root::Own => (own.events.clone(), own.is_open),
        Root::Awaited { names, .. } => {
            let each: Vec<Vec<Seen<'a>>> = names.iter().map(|name| awaited(name)).collect();
            // Where unknown events are accepted, one of them may be waited for.
            (each.concat(), each.iter().any(Vec::is_empty))
        }
    }
}

/// The schemas of these events; none where one of them has none.
fn shapes<'a>((events, is_open): &(Vec<Seen<'a>>, bool)) -> Option<Vec<Shape<'a>>> {
    let all: Option<Vec<_>> = events.iter().map(|event| event.schema.map(Schema::shape)).collect();
    all.filter(|all| !is_open && !all.is_empty())
}

/// The JSON types that a value may have that a script reads.
pub(super) fn types<'a>(read: &Read, own: &Given<'a>, awaited: &dyn Fn(&str) -> Vec<Seen<'a>>) -> Types {
    handed::types_at(read, &shapes(&read_of(read, own, awaited)).unwrap_or_default())
}

/// Checks what a script reads. `awaited` gives the declared events of a name; `has_field` says whether texts, lists or numbers
/// have a field of a name.
pub(super) fn check<'a>(
    facts: &Facts,
    own: &Given<'a>,
    awaited: &dyn Fn(&str) -> Vec<Seen<'a>>,
    has_field: &dyn Fn(&str) -> bool,
    problems: &mut Vec<Diagnostic>,
) {
    let mut told: Vec<Location> = Vec::new();
    let seen = |given: (Vec<Seen<'a>>, bool)| (shapes(&given), given.0);
    let of_own = seen((own.events.clone(), own.is_open));
    for read in &facts.reads {
        let of_awaited;
        let (shapes, events) = match &read.root {
            Root::Own => &of_own,
            Root::Awaited { .. } => {
                of_awaited = seen(read_of(read, own, awaited));
                &of_awaited
            }
        };
        let found = field_of_event(read, events)
            .or_else(|| timed_out(read, facts))
            .or_else(|| path(read, events, shapes.as_ref()?, facts, &own.tested, has_field));
        // A value that is read in several ways is told of once.
        if let Some(problem) = found
            && let Some(place) = problem.places.first()
            && !told.contains(place)
        {
            told.push(place.clone());
            problems.push(problem);
        }
    }
}

/// A field of the event itself that events do not have.
fn field_of_event(read: &Read, events: &[Seen<'_>]) -> Option<Diagnostic> {
    let Hop { at: At::Field(name), place, .. } = read.hops.first()? else { return None };
    if EVENT_FIELDS.contains(&name.as_str()) {
        return None;
    }
    let message = format!("this reads `{}`, but an event has no `{name}`", read.shown(1));
    let problem = Diagnostic::error("E0312", message).at(place.clone());
    let is_in_data = events.iter().filter_map(|event| event.schema).any(|schema| schema.shape().names().contains(&name.as_str()));
    Some(match nearest(name, EVENT_FIELDS) {
        Some(right) if !is_in_data => problem.help(format!("did you mean `{}.{right}`?", read.shown(0))),
        _ => problem.help(format!("what was sent is under `data`: `{}.data.{name}`", read.shown(0))),
    })
}

/// A look into what a wait gives that nobody has asked for, though it is `()` after the time-out.
fn timed_out(read: &Read, facts: &Facts) -> Option<Diagnostic> {
    let (Root::Awaited { names, times_out: true, .. }, Some(first)) = (&read.root, read.hops.first()) else { return None };
    if first.is_safe || read.is_shielded || facts.tested.contains(&read.path(0)) {
        return None;
    }
    let message = format!("the wait for {} gives () at its time-out, and this fails then", names.join(", "));
    let problem = Diagnostic::warning("W0313", message).at(first.place.clone());
    Some(problem.help(format!("ask first, such as `if came == () {{ return; }}`; or write `came?.{}`", first.at)))
}

/// What one event says of a path.
enum Verdict {
    /// It leads somewhere, or that is not known.
    Fine,
    /// The step leads nowhere; the right word, and whether it is only a guess.
    Wrong { hop: usize, nearest: Option<String>, is_guess: bool },
    /// What the step before leads to has no properties.
    Ownerless { hop: usize, types: Types },
    /// What the step leads to may be missing, and the next one or the end needs it.
    Missing { hop: usize, is_null: bool },
}

impl Verdict {
    /// How bad it is: the mildest verdict of several events is the one that holds for all. Among equals the one that comes furthest
    /// holds for all, and that a property is not there is true of a value without any as well.
    fn weight(&self) -> (u8, Reverse<usize>, bool) {
        match self {
            Verdict::Fine => (0, Reverse(0), false),
            Verdict::Missing { hop, .. } => (1, Reverse(*hop), false),
            Verdict::Wrong { hop, is_guess: true, .. } => (2, Reverse(*hop), false),
            Verdict::Wrong { hop, .. } => (3, Reverse(*hop), false),
            Verdict::Ownerless { hop, .. } => (3, Reverse(*hop), true),
        }
    }
}

/// Follows a path through the shapes of all events that it may be read of: what is wrong for each of them is wrong.
fn path(
    read: &Read,
    events: &[Seen<'_>],
    shapes: &[Shape<'_>],
    facts: &Facts,
    tested: &BTreeSet<String>,
    has_field: &dyn Fn(&str) -> bool,
) -> Option<Diagnostic> {
    if !matches!(&read.hops.first()?.at, At::Field(first) if first == "data") {
        return None;
    }
    let guarded = |hops: usize| {
        let path = read.path(hops);
        facts.tested.contains(&path) || tested.contains(&path)
    };
    let mut verdicts: Vec<Verdict> = Vec::new();
    for shape in shapes {
        match follow(read, shape, &guarded, has_field) {
            Verdict::Fine => return None,
            verdict => verdicts.push(verdict),
        }
    }
    let names = match events {
        [one] => one.name.to_owned(),
        _ => format!("none of {}", events.iter().map(|event| event.name).collect::<Vec<_>>().join(", ")),
    };
    let mildest = mildest(verdicts)?;
    Some(match mildest {
        Verdict::Fine => return None,
        Verdict::Wrong { hop, nearest, is_guess } => {
            let message = match events {
                [_] => format!("this reads `{}`, but {names} has no such property", read.shown(hop + 1)),
                _ => format!("this reads `{}`, but {names} has such a property", read.shown(hop + 1)),
            };
            let problem = if is_guess { Diagnostic::warning("W0312", message) } else { Diagnostic::error("E0312", message) };
            let problem = problem.at(read.hops.get(hop)?.place.clone());
            match nearest {
                Some(right) => problem.help(format!("the schema has `{right}`")),
                None => problem.help("the schema declares no such property here, and allows no others"),
            }
        }
        Verdict::Ownerless { hop, types } => {
            let message = format!("`{}` is {}, and has no `{}`", read.shown(hop), types.shown(), read.hops.get(hop)?.at);
            Diagnostic::error("E0312", message).at(read.hops.get(hop)?.place.clone()).help("so says the schema of the event")
        }
        Verdict::Missing { hop, is_null } => {
            let shown = read.shown(hop + 1);
            let (why, place) = (if is_null { "may be null" } else { "may be missing" }, read.hops.get(hop)?.place.clone());
            let problem = Diagnostic::warning("W0313", format!("`{shown}` {why}, and this fails then")).at(place);
            match (read.hops.get(hop + 1), &read.end) {
                (Some(next), _) => match next.at {
                    At::Field(ref name) => {
                        problem.help(format!("`{shown}?.{name}` gives () then; or give a default: `({shown} ?? #{{}}).{name}`"))
                    }
                    _ => problem.help(format!("`{shown}?[…]` gives () then; or ask first: `if {shown} != () {{ … }}`")),
                },
                (None, End::Method { name, .. }) => {
                    problem.help(format!("`{shown}?.{name}(…)` gives () then; or ask first: `if {shown} != () {{ … }}`"))
                }
                (None, End::Loop) => problem.help(format!("give a default: `for item in {shown} ?? [] {{ … }}`")),
                (None, _) => problem.help(format!("give a default: `({shown} ?? 0)`; or ask first: `if {shown} != () {{ … }}`")),
            }
        }
    })
}

/// The verdict that holds for all events of which each has one. Where they all find a value without properties at the same step, it
/// may be of any of their types; where they differ, what is left to say is that none has the property.
fn mildest(mut verdicts: Vec<Verdict>) -> Option<Verdict> {
    verdicts.sort_by_key(Verdict::weight);
    let all_types = verdicts.iter().try_fold((None, Types::NONE), |(same, all), verdict| match verdict {
        Verdict::Ownerless { hop, types } if same.is_none_or(|same| same == *hop) => Some((Some(*hop), all | *types)),
        _ => None,
    });
    Some(match (verdicts.into_iter().next()?, all_types) {
        (Verdict::Ownerless { hop, .. }, Some((_, types))) => Verdict::Ownerless { hop, types },
        (Verdict::Ownerless { hop, .. }, None) => Verdict::Wrong { hop, nearest: None, is_guess: false },
        (mildest, _) => mildest,
    })
}

fn follow(read: &Read, shape: &Shape<'_>, guarded: &dyn Fn(usize) -> bool, has_field: &dyn Fn(&str) -> bool) -> Verdict {
    let mut at = shape.clone();
    // Whether what the step before leads to may be missing, or null.
    let mut missing: Option<bool> = None;
    let needs = |hop: usize, is_safe: bool, missing: Option<bool>| {
        let is_null = missing.filter(|_| !is_safe && !read.is_shielded && !guarded(hop + 1))?;
        Some(Verdict::Missing { hop, is_null })
    };
    for (hop, step) in read.hops.iter().enumerate().skip(1) {
        if let Some(verdict) = needs(hop - 1, step.is_safe, missing) {
            return verdict;
        }
        missing = None;
        match &step.at {
            At::Field(name) => {
                match at.property(name) {
                    Property::There { shape, presence } => {
                        at = shape;
                        missing = match presence {
                            Presence::Optional => Some(false),
                            Presence::Always if at.types() != Types::ALL && at.types().meets(Types::NULL) => Some(true),
                            _ => None,
                        };
                    }
                    // Lists and texts have a length, also where a map may stand instead.
                    Property::Refused { .. } | Property::Near { .. }
                        if has_field(name) && at.types().without(Types::MAP | Types::NULL) != Types::NONE =>
                    {
                        return Verdict::Fine;
                    }
                    Property::Refused { nearest } => return Verdict::Wrong { hop, nearest, is_guess: false },
                    Property::Near { nearest } => return Verdict::Wrong { hop, nearest: Some(nearest), is_guess: true },
                    // Null is let through by `?.`.
                    Property::Ownerless { .. } if has_field(name) => return Verdict::Fine,
                    Property::Ownerless { types } if types.meets(Types::NULL) && step.is_safe => return Verdict::Fine,
                    Property::Ownerless { types } => return Verdict::Ownerless { hop, types },
                }
            }
            At::Index(index) => match at.item(usize::try_from(*index).ok()) {
                Some(item) => at = item,
                None => return Verdict::Fine,
            },
            At::Each => match at.item(None) {
                Some(item) => at = item,
                None => return Verdict::Fine,
            },
        }
    }
    let last = read.hops.len() - 1;
    let verdict = match &read.end {
        End::Value => None,
        End::Method { is_safe, .. } => needs(last, *is_safe, missing),
        End::Operator(_) | End::Loop => needs(last, false, missing),
    };
    verdict.unwrap_or(Verdict::Fine)
}
