//! What scripts send and invoke with, held against the schemas of those who get it, as far as it stands in the script.

use serde_json::{Map, Value};

use crate::base::diagnostic::nearest;
use crate::base::{Diagnostic, Location};
use crate::script::{At, Datum, Handed, Read, What};

use super::schema::Schema;
use super::shape::{Node, Presence, Property, Shape, Types};
use super::violation::sentence;

/// Keywords about a single value, which a literal is checked by.
const OF_ONE_VALUE: [&str; 11] = [
    "enum",
    "const",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "format",
];

/// Checks data that a script hands out. `schema` is that of the event, or of the one event that starts the function;
/// `look_up` gives the types of what a script reads of its own events.
pub(super) fn check(handed: &Handed, schema: Option<&Schema>, look_up: &dyn Fn(&Read) -> Types, problems: &mut Vec<Diagnostic>) {
    let types = types_of(&handed.data.what, look_up);
    if !types.meets(Types::MAP) {
        let whose = if handed.is_call { format!("the data for `{}`", handed.to) } else { format!("the data of `{}`", handed.to) };
        let problem = Diagnostic::error("E0314", format!("{whose} are a map, and this is {}", types.shown()));
        problems.push(problem.at(handed.data.place.clone()).help("put the value into a field: #{ value: … }"));
        return;
    }
    let Some(schema) = schema else { return };
    Fit { to: &handed.to, look_up, problems }.value(&handed.data, &schema.shape(), "");
}

struct Fit<'a> {
    to: &'a str,
    look_up: &'a dyn Fn(&Read) -> Types,
    problems: &'a mut Vec<Diagnostic>,
}

impl Fit<'_> {
    fn tell(&mut self, message: String, place: &Location, help: Option<String>) {
        let problem = Diagnostic::error("E0314", message).at(place.clone());
        self.problems.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    /// Checks a value; `name` is the way to it, empty for the data as a whole.
    fn value(&mut self, datum: &Datum, shape: &Shape<'_>, name: &str) {
        let types = types_of(&datum.what, self.look_up);
        let wanted = shape.types();
        if types != Types::NONE && !types.meets(wanted) {
            let what = if name.is_empty() { "the data".to_owned() } else { format!("`{name}`") };
            let message = format!("{what} is {} here, and the schema of {} wants {}", types.shown(), self.to, wanted.shown());
            return self.tell(message, &datum.place, None);
        }
        match &datum.what {
            What::Map(entries) => self.map(entries, &datum.place, shape, name),
            What::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    if let Some(inner) = shape.item(Some(at)) {
                        self.value(item, &inner, &format!("{name}[{at}]"));
                    }
                }
            }
            what => {
                if let Some(why) = literal(what).and_then(|value| refusal(&value, shape)) {
                    self.tell(format!("`{name}` does not fit the schema of {}: {why}", self.to), &datum.place, None);
                }
            }
        }
    }

    fn map(&mut self, entries: &[(String, Location, Datum)], place: &Location, shape: &Shape<'_>, name: &str) {
        let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
        let (mut refused, mut near): (Vec<&str>, Vec<(&str, &Location, String)>) = (Vec::new(), Vec::new());
        for (key, at, datum) in entries {
            match shape.property(key) {
                Property::There { shape, .. } => self.value(datum, &shape, &inner(key)),
                Property::Refused { nearest } => {
                    refused.push(key);
                    let help = match nearest {
                        Some(right) => format!("the schema has `{right}`"),
                        None => "the schema declares no such property here, and allows no others".to_owned(),
                    };
                    self.tell(format!("{} has no property `{}`", self.to, inner(key)), at, Some(help));
                }
                Property::Near { nearest } => near.push((key, at, nearest)),
                Property::Ownerless { .. } => {}
            }
        }
        for required in shape.required().into_iter().filter(|required| !entries.iter().any(|(key, ..)| key == required)) {
            // What is misspelled and refused has been told of.
            if nearest(required, refused.iter().copied()).is_some() {
                continue;
            }
            let message = format!("`{}` is missing, which the schema of {} requires", inner(required), self.to);
            match near.iter().position(|(.., right)| right == required) {
                Some(meant) => {
                    let (key, at, _) = near.remove(meant);
                    self.tell(message, at, Some(format!("`{key}` is written; the schema has `{required}`")));
                }
                None => self.tell(message, place, None),
            }
        }
        for (key, at, right) in near {
            let problem = Diagnostic::warning("W0314", format!("{} declares no property `{}`", self.to, inner(key)));
            self.problems.push(problem.at(at.clone()).help(format!("the schema has `{right}`")));
        }
    }
}

/// The JSON types that a value may have; none for what is no JSON.
fn types_of(what: &What, look_up: &dyn Fn(&Read) -> Types) -> Types {
    match what {
        What::Anything | What::Closure(_) | What::Keeps(_) => Types::ALL,
        What::Text(_) => Types::TEXT,
        What::Whole(_) => Types::WHOLE,
        What::Number(Some(number)) if number.fract() != 0.0 => Types::FRACTION,
        What::Number(Some(_)) => Types::WHOLE,
        What::Number(None) => Types::NUMBER,
        What::Flag(_) => Types::FLAG,
        What::Nothing => Types::NULL,
        What::List(_) | What::Events => Types::LIST,
        What::Map(_) => Types::MAP,
        What::Read(read) => look_up(read),
        What::Of(types) => types.iter().fold(Types::NONE, |all, word| {
            all | match *word {
                "text" | "time" | "duration" => Types::TEXT,
                "whole" => Types::WHOLE,
                "number" => Types::NUMBER,
                "flag" => Types::FLAG,
                "array" => Types::LIST,
                "map" => Types::MAP,
                "nothing" => Types::NULL,
                _ => Types::ALL,
            }
        }),
    }
}

/// A value that stands in the script, as JSON.
fn literal(what: &What) -> Option<Value> {
    match what {
        What::Text(Some(text)) => Some(Value::from(text.as_str())),
        What::Whole(Some(number)) => Some(Value::from(*number)),
        What::Number(Some(number)) => Some(Value::from(*number)),
        What::Flag(Some(flag)) => Some(Value::from(*flag)),
        What::Nothing => Some(Value::Null),
        _ => None,
    }
}

/// Why no alternative of a shape allows a value, by what they say of single values.
fn refusal(value: &Value, shape: &Shape<'_>) -> Option<String> {
    let mut first = None;
    for alternative in shape.each() {
        let why = alternative.iter().find_map(|node| refused(value, *node))?;
        first.get_or_insert(why);
    }
    first
}

fn refused(value: &Value, node: Node<'_>) -> Option<String> {
    let keyword = |key: &str| node.schema.get(key).map(|found| (key.to_owned(), found.clone()));
    let alone: Map<String, Value> = OF_ONE_VALUE.iter().filter_map(|key| keyword(key)).collect();
    if alone.is_empty() {
        return None;
    }
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
    let validator = options.build(&Value::Object(alone)).ok()?;
    validator.validate(value).err().map(|error| sentence(&error))
}

/// The types of what a script reads, by the shapes of the events that it may be of.
pub(super) fn types_at(read: &Read, shapes: &[Shape<'_>]) -> Types {
    if shapes.is_empty() {
        return Types::ALL;
    }
    shapes.iter().fold(Types::NONE, |all, shape| all | types_in(read, shape))
}

fn types_in(read: &Read, shape: &Shape<'_>) -> Types {
    match read.hops.first().map(|hop| &hop.at) {
        None => return Types::MAP,
        Some(At::Field(field)) => match field.as_str() {
            "data" => {}
            "id" | "name" => return Types::TEXT,
            "ts" => return Types::WHOLE,
            _ => return Types::ALL,
        },
        Some(_) => return Types::ALL,
    }
    let mut at = shape.clone();
    let mut is_certain = true;
    for hop in read.hops.iter().skip(1) {
        let next = match &hop.at {
            At::Field(name) => match at.property(name) {
                Property::There { shape, presence } => {
                    is_certain &= presence == Presence::Always;
                    Some(shape)
                }
                _ => None,
            },
            At::Index(index) => at.item(usize::try_from(*index).ok()),
            At::Each => at.item(None),
        };
        match next {
            Some(next) => at = next,
            None => return Types::ALL,
        }
    }
    // Where it may be missing, it is null.
    if is_certain { at.types() } else { at.types() | Types::NULL }
}
