//! What of an `if` over `event` and `async` is known before the other event comes: a field of `async` that has to have a
//! certain value, so that a wait is found by that value, and as much of `event` as it reads.

use std::sync::Arc;

use cel::common::ast::{Expr as Node, IdedExpr, operators};
use serde_json::{Map, Value};

use super::scope::{EventView, Path, Scope, Segment};
use super::{Expr, Form, canonical};

/// The largest whole number that a double holds exactly with its neighbours: beyond, numbers that count as equal may be
/// written in different ways.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A field of an event, such as `data.userId`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field(Arc<Path>);

/// The value that a field of `async` has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The field.
    pub field: Field,
    /// The value, as `Field::value` gives it.
    pub value: Arc<str>,
}

impl Field {
    /// The field's value as text; equal values have equal texts. None where it is none that a pin could have.
    pub fn value(&self, event: EventView<'_>) -> Option<Arc<str>> {
        let scope = Scope { async_event: Some(event), ..Scope::default() };
        text(&scope.find(&self.0).to_json())
    }

    /// The path as it is written, to tell fields apart.
    pub fn path(&self) -> String {
        self.0.to_string()
    }

    /// The field that a path names. None where `path` would not write it so, and where it has a space, as the names in it may.
    pub fn parse(path: &str) -> Option<Field> {
        let mut rest = path.strip_prefix("async").filter(|rest| !rest.is_empty() && !rest.contains(' '))?;
        let mut segments = Vec::new();
        while !rest.is_empty() {
            let (segment, after) = match rest.strip_prefix('[') {
                Some(index) => {
                    let (index, after) = index.split_once(']')?;
                    (Segment::Index(index.parse().ok()?), after)
                }
                None => {
                    let names = rest.strip_prefix('.')?;
                    let (name, after) = names.split_at(names.find(['.', '[']).unwrap_or(names.len()));
                    (Segment::Field(name.to_owned()), after)
                }
            };
            segments.push(segment);
            rest = after;
        }
        let field = Field(Arc::new(Path { root: "async".to_owned(), segments }));
        (field.path() == path).then_some(field)
    }
}

/// The text of a value, where equality of texts and of values is the same.
fn text(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::Number(number) if number.as_f64().is_none_or(|float| float.abs() > EXACT) => None,
        Value::Array(_) | Value::Object(_) => None,
        plain => Some(canonical(plain).into()),
    }
}

impl Expr {
    /// A comparison `async.… == …` that has to hold for the whole to hold, whose other side is known from `event` alone;
    /// the first, if there are several.
    pub fn pin(&self, event: Option<EventView<'_>>) -> Option<Pin> {
        let Form::Program { tree, paths } = &self.form else { return None };
        let scope = Scope { event, ..Scope::default() };
        let (field, other) = comparison(tree, paths)?;
        // Mostly the other side is a field too, which needs no interpreter: an engine that starts finds the pins of a million waits.
        let value = match path_of(other, paths) {
            Some(path) => scope.find(path).to_json(),
            None => self.eval_tree(other, paths, &scope).ok()?,
        };
        Some(Pin { field: Field(Arc::clone(field)), value: text(&value)? })
    }

    /// The field of `async` that `pin` finds a value for, where it finds one.
    pub fn pinned(&self) -> Option<Field> {
        let Form::Program { tree, paths } = &self.form else { return None };
        comparison(tree, paths).map(|(field, _)| Field(Arc::clone(field)))
    }

    /// As much of `event` as the expression reads: an object with some of its fields.
    pub fn bound(&self, event: EventView<'_>) -> Value {
        let mut kept = Map::new();
        let whole = |name: &str| match name {
            "id" => Value::from(event.id),
            "name" => Value::from(event.name),
            "ts" => Value::from(event.ts),
            _ => event.data.clone(),
        };
        for path in self.uses.iter().filter(|path| path.root == "event") {
            match path.segments.split_first() {
                Some((Segment::Field(first), rest)) if first == "data" => copy(kept.entry("data"), event.data, rest),
                Some((Segment::Field(first), _)) if ["id", "name", "ts"].contains(&first.as_str()) => {
                    kept.insert(first.clone(), whole(first));
                }
                Some(_) => {}
                None => kept.extend(["id", "name", "ts", "data"].map(|name| (name.to_owned(), whole(name)))),
            }
        }
        Value::Object(kept)
    }
}

/// Copies what lies at `path` into the same place; all of a list, where the path leads into one.
fn copy(to: serde_json::map::Entry<'_>, from: &Value, path: &[Segment]) {
    match (path.split_first(), from) {
        (Some((Segment::Field(name), rest)), Value::Object(map)) => {
            let slot = to.or_insert_with(|| Value::Object(Map::new()));
            // Where all of it is there already, there is nothing to add.
            if let (Some(slot), Some(next)) = (slot.as_object_mut(), map.get(name)) {
                copy(slot.entry(name.clone()), next, rest);
            }
        }
        _ => {
            *to.or_insert(Value::Null) = from.clone();
        }
    }
}

/// The first `async.… == …` among the parts of a conjunction.
fn comparison<'t>(node: &'t IdedExpr, paths: &'t [Arc<Path>]) -> Option<(&'t Arc<Path>, &'t IdedExpr)> {
    let Node::Call(call) = &node.expr else { return None };
    let [left, right] = call.args.as_slice() else { return None };
    match call.func_name.as_str() {
        operators::LOGICAL_AND => comparison(left, paths).or_else(|| comparison(right, paths)),
        operators::EQUALS => [(left, right), (right, left)].into_iter().find_map(|(field, other)| {
            let field = path_of(field, paths).filter(|path| path.root == "async" && !path.segments.is_empty())?;
            is_known(other, paths).then_some((field, other))
        }),
        _ => None,
    }
}

fn path_of<'t>(node: &IdedExpr, paths: &'t [Arc<Path>]) -> Option<&'t Arc<Path>> {
    let Node::Ident(name) = &node.expr else { return None };
    paths.get(name.strip_prefix('@')?.parse::<usize>().ok()?)
}

/// Whether a value needs nothing but `event`.
fn is_known(node: &IdedExpr, paths: &[Arc<Path>]) -> bool {
    match &node.expr {
        Node::Literal(_) => true,
        Node::Ident(_) => path_of(node, paths).is_some_and(|path| path.root == "event"),
        Node::Call(call) => call.args.iter().chain(call.target.as_deref()).all(|part| is_known(part, paths)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expr::MATCH_VARIABLES;

    fn with<T>(text: &str, run: impl FnOnce(&Expr, EventView<'_>) -> T) -> T {
        let data = json!({"userId": "u1", "n": 2, "half": 0.5, "huge": 1e300, "user": {"id": 7, "tags": ["a"]}, "none": null});
        let expr = Expr::parse(text, MATCH_VARIABLES).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        run(&expr, EventView { id: "0abc", name: "a/b", data: &data, ts: 17 })
    }

    fn pinned(text: &str) -> Option<(String, String)> {
        with(text, |expr, event| {
            let pin = expr.pin(Some(event));
            assert!(pin.as_ref().is_none_or(|pin| expr.pinned().as_ref() == Some(&pin.field)), "{text}");
            pin.map(|pin| (pin.field.path(), pin.value.to_string()))
        })
    }

    #[test]
    fn a_field_of_the_other_event_is_pinned_where_the_whole_needs_it() {
        for (text, field, value) in [
            ("async.data.userId == event.data.userId", "async.data.userId", "\"u1\""),
            ("event.data.userId == async.data.userId", "async.data.userId", "\"u1\""),
            ("async.data.x == 5", "async.data.x", "5"),
            ("async.data.x == event.data.n + 1", "async.data.x", "3"),
            ("async.data.ok && async.data.x[0].y == 'k' && async.data.n > 1", "async.data.x[0].y", "\"k\""),
            ("async.data.x == event.data.missing", "async.data.x", "null"),
            ("async.name == event.data.half", "async.name", "0.5"),
            ("async.data.x == event.data.userId.upperAscii()", "async.data.x", "\"U1\""),
        ] {
            assert_eq!(pinned(text), Some((field.to_owned(), value.to_owned())), "{text}");
        }
    }

    #[test]
    fn nothing_is_pinned_where_another_value_would_do_as_well() {
        for text in [
            "async.data.x == 1 || async.data.y == 2",
            "!(async.data.x == 1)",
            "async.data.x == async.data.y",
            "async.data.x > 1",
            "async.data.x",
            "true",
            "async.data.x == event.data.user",
            "async.data.x == event.data.huge",
            "async.data.x == event.data.none + 1",
            "async.data.x == event.data.user.tags.map(t, t)[0]",
        ] {
            assert_eq!(pinned(text), None, "{text}");
        }
    }

    #[test]
    fn a_pin_and_the_field_that_it_fits_have_the_same_text() {
        let field = with("async.data.x == 1", |expr, event| expr.pin(Some(event)).unwrap().field);
        let value = |x: Value| field.value(EventView { id: "1", name: "c", data: &json!({ "x": x }), ts: 0 });
        for (x, text) in [(json!(1), Some("1")), (json!(1.0), Some("1")), (json!("1"), Some("\"1\"")), (json!(null), Some("null"))] {
            assert_eq!(value(x).as_deref(), text);
        }
        assert_eq!(value(json!([1])), None);
        assert_eq!(value(json!(1e300)), None);
    }

    #[test]
    fn a_field_is_read_back_from_its_path_or_not_at_all() {
        let field = |text: &str| with(text, |expr, _| expr.pinned().unwrap());
        for text in ["async.data.userId == 1", "async.data.x[0].y == 1", "async.name == 1", r#"async.data[3]["ä"].x == 1"#, "async.ts == 1"]
        {
            let field = field(text);
            assert_eq!(Field::parse(&field.path()), Some(field), "{text}");
        }
        // What stands in brackets may look like a path of several names.
        for text in [r#"async.data["a.b"] == 1"#, r#"async.data["a[0]"] == 1"#, r#"async.data["a b"] == 1"#] {
            let field = field(text);
            assert_ne!(Field::parse(&field.path()), Some(field), "{text}");
        }
        for text in ["", "async", "event.data.x", "async data.x", "asyncdata", "async.data[", "async.data[x]", "async.data[+1]"] {
            assert_eq!(Field::parse(text), None, "{text}");
        }
    }

    #[test]
    fn as_much_of_the_event_is_kept_as_is_read() {
        for (text, kept) in [
            ("async.data.userId == event.data.userId", json!({"data": {"userId": "u1"}})),
            ("event.data.user.id == async.data.n && event.data.user.tags[0] == 'a'", json!({"data": {"user": {"id": 7, "tags": ["a"]}}})),
            ("event.data.user.id == 7 && has(event.data.user.id)", json!({"data": {"user": {"id": 7}}})),
            ("event.id == async.id && event.ts > 1", json!({"id": "0abc", "ts": 17})),
            ("event.data.missing.x == 1", json!({"data": {}})),
            ("async.data.x == 1", json!({})),
        ] {
            assert_eq!(with(text, |expr, event| expr.bound(event)), kept, "{text}");
        }
        let whole = with("event.data == async.data", |expr, event| expr.bound(event));
        assert_eq!(whole["data"]["user"]["id"], 7);
    }
}
