//! What an expression may read, and the direct look-up of a path in it.

use std::fmt;

use cel::common::types::{CelInt, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::Val;
use serde_json::{Map, Value};

use super::value;

/// An event as expressions see it.
#[derive(Debug, Clone, Copy)]
pub struct EventView<'a> {
    /// `event.id`
    pub id: &'a str,
    /// `event.name`
    pub name: &'a str,
    /// `event.data`
    pub data: &'a Value,
    /// `event.ts`, in milliseconds since 1970.
    pub ts: i64,
}

/// The values of the variables. A variable that is not set is null.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a> {
    /// `event`: what started the run.
    pub event: Option<EventView<'a>>,
    /// `async`: what just came.
    pub async_event: Option<EventView<'a>>,
    /// Any further variables, by name.
    pub values: &'a [(&'a str, &'a Value)],
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// `.name` or `["name"]`
    Field(String),
    /// `[0]`
    Index(i64),
}

/// A variable and the constant steps from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub root: String,
    pub segments: Vec<Segment>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root)?;
        for segment in &self.segments {
            match segment {
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(at) => write!(f, "[{at}]")?,
            }
        }
        Ok(())
    }
}

/// What a path leads to.
pub(super) enum Found<'a> {
    Json(&'a Value),
    Text(&'a str),
    Integer(i64),
    Event(EventView<'a>),
    Nothing,
}

impl<'a> Scope<'a> {
    /// The scope of a trigger's expressions: `event` alone.
    pub fn of_event(event: EventView<'a>) -> Scope<'a> {
        Scope { event: Some(event), ..Scope::default() }
    }

    pub(super) fn find(&self, path: &Path) -> Found<'a> {
        let event = match path.root.as_str() {
            "event" => self.event,
            "async" => self.async_event,
            _ => None,
        };
        if let Some(event) = event {
            return find_in_event(event, &path.segments);
        }
        let root = self.values.iter().find(|(name, _)| *name == path.root);
        root.map_or(Found::Nothing, |(_, value)| find_in_json(value, &path.segments))
    }
}

fn find_in_event<'a>(event: EventView<'a>, segments: &[Segment]) -> Found<'a> {
    let Some((first, rest)) = segments.split_first() else { return Found::Event(event) };
    let Segment::Field(name) = first else { return Found::Nothing };
    match (name.as_str(), rest.is_empty()) {
        ("data", _) => find_in_json(event.data, rest),
        ("name", true) => Found::Text(event.name),
        ("id", true) => Found::Text(event.id),
        ("ts", true) => Found::Integer(event.ts),
        _ => Found::Nothing,
    }
}

fn find_in_json<'a>(root: &'a Value, segments: &[Segment]) -> Found<'a> {
    let mut at = root;
    for segment in segments {
        let next = match (segment, at) {
            (Segment::Field(name), Value::Object(map)) => map.get(name),
            (Segment::Index(index), Value::Array(list)) => usize::try_from(*index).ok().and_then(|index| list.get(index)),
            _ => None,
        };
        match next {
            Some(found) => at = found,
            None => return Found::Nothing,
        }
    }
    Found::Json(at)
}

impl<'a> Found<'a> {
    pub fn is_null(&self) -> bool {
        matches!(self, Found::Nothing | Found::Json(Value::Null))
    }

    pub fn to_json(&self) -> Value {
        match self {
            Found::Json(value) => (*value).clone(),
            Found::Text(text) => Value::from(*text),
            Found::Integer(number) => Value::from(*number),
            Found::Event(event) => {
                let mut map = Map::new();
                map.insert("id".into(), event.id.into());
                map.insert("name".into(), event.name.into());
                map.insert("data".into(), event.data.clone());
                map.insert("ts".into(), event.ts.into());
                Value::Object(map)
            }
            Found::Nothing => Value::Null,
        }
    }

    pub fn to_cel(&self) -> Box<dyn Val + 'a> {
        match self {
            Found::Json(found) => value::to_cel(found),
            Found::Text(text) => Box::new(CelString::from(*text)),
            Found::Integer(number) => Box::new(CelInt::from(*number)),
            Found::Event(event) => {
                let fields: [(&'static str, Box<dyn Val + 'a>); 4] = [
                    ("id", Box::new(CelString::from(event.id))),
                    ("name", Box::new(CelString::from(event.name))),
                    ("data", value::to_cel(event.data)),
                    ("ts", Box::new(CelInt::from(event.ts))),
                ];
                let map: std::collections::HashMap<_, _> = fields.into_iter().map(|(name, value)| (CelMapKey::from(name), value)).collect();
                Box::new(CelMap::from(map))
            }
            Found::Nothing => Box::new(CelNull),
        }
    }
}
