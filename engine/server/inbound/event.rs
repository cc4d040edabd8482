//! Bytes become events.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::base::limits::{EVENT_ID_BYTES, EVENT_NAME_BYTES, EVENTS_PER_REQUEST, JSON_DEPTH};
use crate::base::{Json, Millis};

use super::super::view::Detail;
use super::scan::{Flaw, decoded, flaw};
use super::{DEEP, FIELD, Helped as _, NOT_EVENTS, NOT_JSON, TIME, TOO_MANY, TWICE, UNICODE, detail};

/// 1980-01-01 UTC: a smaller time is most likely one in seconds.
const TS_LEAST_MS: i64 = 315_532_800_000;
/// 2100-01-01 UTC.
const TS_MOST_MS: i64 = 4_102_444_800_000;

/// An event as it was sent, with those of its fields that are right.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::server) struct Incoming {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its data, as sent.
    pub data: Option<Json>,
    /// The sender's id.
    pub id: Option<Arc<str>>,
    /// The sender's time; none for now.
    pub ts: Option<Millis>,
    /// `user` and `v` as a JSON object.
    pub extra: Option<Json>,
}

/// The events of a body, and every problem of any of them. Fields that nobody knows are ignored, as Inngest does.
pub(in crate::server) fn parse(body: &[u8]) -> (Vec<Incoming>, Vec<Detail>) {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("the body is not UTF-8: the byte at {} is wrong", error.valid_up_to());
            return (Vec::new(), vec![detail(None, UNICODE, "", message)]);
        }
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_any(Body).and_then(|found| reader.end().map(|()| found));
    let raw = match found {
        Ok(Found::Events(events)) => events,
        Ok(Found::TooMany(count)) => {
            let message = format!("{count} events in one request; at most {EVENTS_PER_REQUEST} are taken");
            return (Vec::new(), vec![detail(None, TOO_MANY, "", message).help("send them in several requests")]);
        }
        Ok(Found::Other(what)) => {
            let message = format!("the body is {what}; expected an event or an array of events");
            return (Vec::new(), vec![detail(None, NOT_EVENTS, "", message).help(r#"such as {"name": "app/thing.happened", "data": {}}"#)]);
        }
        Err(error) => return (Vec::new(), vec![not_json(text, &error)]),
    };
    let mut problems = Vec::new();
    let events = raw.into_iter().enumerate().map(|(index, fields)| checked(index, &fields, &mut problems)).collect();
    (events, problems)
}

fn not_json(text: &str, error: &serde_json::Error) -> Detail {
    if text.trim().is_empty() {
        return detail(None, NOT_JSON, "", "the body is empty").help(r#"such as {"name": "app/thing.happened", "data": {}}"#);
    }
    // serde_json ends its messages with the position, which is told in words of our own.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    detail(None, NOT_JSON, "", format!("not JSON at line {}, column {}: {message}", error.line(), error.column()))
}

/// The six fields of an event as text, by their place in `NAMES`.
#[derive(Debug, Default)]
struct Fields<'a> {
    values: [Option<&'a RawValue>; 6],
    twice: Vec<&'static str>,
    /// What stands where an event should be.
    other: Option<&'static str>,
}

const NAMES: [&str; 6] = ["name", "data", "id", "ts", "user", "v"];

/// What a body holds.
enum Found<'a> {
    Events(Vec<Fields<'a>>),
    TooMany(usize),
    Other(&'static str),
}

/// What a body or an entry of it is, where it is no event.
macro_rules! other_kinds {
    ($wrap:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($wrap("true or false"))
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($wrap("a number"))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($wrap("a number"))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($wrap("a number"))
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($wrap("a text"))
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($wrap("null"))
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an event")
        }
    };
}

struct Body;

impl<'de> Visitor<'de> for Body {
    type Value = Found<'de>;

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Found<'de>, A::Error> {
        Ok(Found::Events(vec![fields_of(map)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found<'de>, A::Error> {
        let mut events = Vec::new();
        while events.len() < EVENTS_PER_REQUEST {
            match list.next_element::<Fields<'de>>()? {
                Some(event) => events.push(event),
                None => return Ok(Found::Events(events)),
            }
        }
        let mut count = events.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(if count > EVENTS_PER_REQUEST { Found::TooMany(count) } else { Found::Events(events) })
    }

    other_kinds!(Found::Other);
}

struct Entry;

impl<'de> Visitor<'de> for Entry {
    type Value = Fields<'de>;

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields<'de>, A::Error> {
        fields_of(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Fields { other: Some("an array"), ..Fields::default() })
    }

    other_kinds!(|what| Fields { other: Some(what), ..Fields::default() });
}

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_any(Entry)
    }
}

fn fields_of<'de, A: MapAccess<'de>>(mut map: A) -> Result<Fields<'de>, A::Error> {
    let mut fields = Fields::default();
    while let Some(key) = map.next_key::<&RawValue>()? {
        let key = decoded(key.get()).ok_or_else(|| A::Error::custom("a key is not Unicode"))?;
        match NAMES.iter().position(|name| *name == key) {
            None => {
                map.next_value::<IgnoredAny>()?;
            }
            Some(at) if fields.values[at].is_some() => {
                map.next_value::<IgnoredAny>()?;
                fields.twice.push(NAMES[at]);
            }
            Some(at) => fields.values[at] = Some(map.next_value()?),
        }
    }
    Ok(fields)
}

/// Checks the fields of one event.
fn checked(index: usize, fields: &Fields<'_>, problems: &mut Vec<Detail>) -> Incoming {
    let mut note = |problem: Detail| problems.push(Detail { index: Some(index), ..problem });
    if let Some(what) = fields.other {
        note(detail(None, NOT_EVENTS, "", format!("this is {what}; expected an event, which is an object")));
        return Incoming::default();
    }
    for name in &fields.twice {
        note(detail(None, TWICE, format!("/{name}"), format!("`{name}` stands twice")));
    }
    // null is as good as missing, in every field but the name.
    let [name, data, id, ts, user, v] = fields.values.map(|value| value.map(RawValue::get).filter(|text| *text != "null"));
    let given_name = fields.values[0].is_some();
    let mut keep = |found: Result<Option<Arc<str>>, Detail>| {
        found.unwrap_or_else(|problem| {
            note(problem);
            None
        })
    };
    let name = keep(name_of(name, given_name));
    let data = keep(object("/data", data).map(|data| data.or_else(|| Some(Arc::from("{}")))));
    let id = keep(id_of(id));
    let user = keep(object("/user", user));
    let v = keep(text("/v", v).map(|_| v.map(Arc::from)));
    let ts = ts_of(ts).unwrap_or_else(|problem| {
        note(problem);
        None
    });
    Incoming { name, data, id, ts, extra: extra(user.as_deref(), v.as_deref()) }
}

fn name_of(json: Option<&str>, is_given: bool) -> Result<Option<Arc<str>>, Detail> {
    let wrong = |message: String| detail(None, FIELD, "/name", message);
    let Some(name) = text("/name", json)? else {
        let message = if is_given { "`name` is null; expected a text" } else { "`name` is missing" };
        return Err(wrong(message.to_owned()).help("the name of a declared event, such as \"payment/initiate\""));
    };
    match name.len() {
        0 => Err(wrong("`name` is empty".to_owned())),
        bytes if bytes > EVENT_NAME_BYTES => Err(wrong(format!("`name` has {bytes} bytes; at most {EVENT_NAME_BYTES} are taken"))),
        _ => Ok(Some(name)),
    }
}

fn id_of(json: Option<&str>) -> Result<Option<Arc<str>>, Detail> {
    let wrong = |message: String| Err(detail(None, FIELD, "/id", message));
    match text("/id", json)? {
        // Clients that always write the field leave it empty where there is no id.
        Some(id) if id.is_empty() => Ok(None),
        Some(id) if id.len() > EVENT_ID_BYTES => wrong(format!("`id` has {} bytes; at most {EVENT_ID_BYTES} are taken", id.len())),
        Some(id) if id.chars().any(char::is_control) => wrong("`id` has a control character".to_owned()),
        id => Ok(id),
    }
}

fn ts_of(json: Option<&str>) -> Result<Option<Millis>, Detail> {
    let Some(json) = json else { return Ok(None) };
    let Ok(ms) = json.parse::<i64>() else {
        let problem = detail(None, FIELD, "/ts", format!("`ts` is {}; expected a whole number of milliseconds since 1970", kind(json)));
        return Err(if json.starts_with('"') { problem.help("write the time as a number: 1700000000000") } else { problem });
    };
    match ms {
        0 => Ok(None),
        TS_LEAST_MS..TS_MOST_MS => Ok(Some(Millis(ms))),
        _ => {
            let problem = detail(None, TIME, "/ts", format!("`ts` is {ms}, which is not between 1980 and 2100"));
            let in_seconds = (TS_LEAST_MS / 1000..TS_MOST_MS / 1000).contains(&ms);
            Err(if in_seconds { problem.help(format!("this looks like seconds; in milliseconds it is {}", ms * 1000)) } else { problem })
        }
    }
}

/// A field that has to be a text.
fn text(pointer: &str, json: Option<&str>) -> Result<Option<Arc<str>>, Detail> {
    let Some(json) = json else { return Ok(None) };
    if !json.starts_with('"') {
        return Err(detail(None, FIELD, pointer, format!("`{}` is {}; expected a text", &pointer[1..], kind(json))));
    }
    match decoded(json) {
        Some(text) => Ok(Some(Arc::from(text))),
        None => Err(not_unicode(pointer)),
    }
}

/// A field that has to be an object, as it was sent.
fn object(pointer: &str, json: Option<&str>) -> Result<Option<Json>, Detail> {
    let Some(json) = json else { return Ok(None) };
    if !json.starts_with('{') {
        let problem = detail(None, FIELD, pointer, format!("`{}` is {}; expected an object", &pointer[1..], kind(json)));
        return Err(problem.help("put the value into a field: {\"value\": …}"));
    }
    match flaw(json, pointer) {
        None => Ok(Some(Arc::from(json))),
        Some(Flaw::Twice(at)) => {
            let message = "this key stands twice in its object, so that one of the values would be lost";
            Err(detail(None, TWICE, at, message))
        }
        Some(Flaw::Deep(at)) => Err(detail(None, DEEP, at, format!("nested deeper than {JSON_DEPTH} levels"))),
        Some(Flaw::Unicode(at)) => Err(not_unicode(&at)),
    }
}

fn not_unicode(pointer: &str) -> Detail {
    detail(None, UNICODE, pointer, "this text has half of a surrogate pair, which is no Unicode")
}

/// What a JSON text is, in words.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "another number",
    }
}

fn extra(user: Option<&str>, v: Option<&str>) -> Option<Json> {
    let parts: Vec<String> =
        [("user", user), ("v", v)].iter().filter_map(|(key, json)| json.map(|json| format!("\"{key}\":{json}"))).collect();
    if parts.is_empty() { None } else { Some(Arc::from(format!("{{{}}}", parts.join(",")))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> (String, String, String) {
        let (_, problems) = parse(body.as_bytes());
        let first = problems.first().unwrap_or_else(|| panic!("accepted: {body}"));
        (first.code.clone(), first.pointer.clone(), first.message.clone())
    }

    fn event(body: &str) -> Incoming {
        let (mut events, problems) = parse(body.as_bytes());
        assert_eq!(problems, [], "{body}");
        events.remove(0)
    }

    #[test]
    fn data_stay_as_they_were_sent() {
        let data = r#"{ "big": 123456789012345678901234567890, "e": 1e999,"f":1.0, "i": -9223372036854775808, "u": "\u00e9é" }"#;
        let sent = event(&format!(r#"{{"name":"a/b","data":{data}}}"#));
        assert_eq!(sent.data.as_deref(), Some(data));
    }

    #[test]
    fn what_is_null_or_missing_has_its_default() {
        let plain = event(r#"{"name":"a"}"#);
        assert_eq!(plain, event(r#" {"name":"a","data":null,"id":null,"ts":null,"user":null,"v":null,"more":[1,{}]} "#));
        assert_eq!(plain, event(r#"{"name":"a","id":"","ts":0}"#));
        assert_eq!(plain.data.as_deref(), Some("{}"));
        assert_eq!(plain.extra, None);
    }

    #[test]
    fn user_and_v_are_kept_as_they_came() {
        let sent = event(r#"{"name":"\u0061","user":{"n": 1.50},"v":"2\u0030"}"#);
        assert_eq!(sent.extra.as_deref(), Some(r#"{"user":{"n": 1.50},"v":"2\u0030"}"#));
        assert_eq!(sent.name.as_deref(), Some("a"));
    }

    #[test]
    fn every_field_has_its_rules() {
        for (body, code, pointer, part) in [
            ("", NOT_JSON, "", "empty"),
            ("{\"name\":\"a\",\n}", NOT_JSON, "", "line 2, column 1"),
            ("{} {}", NOT_JSON, "", "trailing"),
            ("3", NOT_EVENTS, "", "a number"),
            ("[[]]", NOT_EVENTS, "", "an array"),
            ("[null]", NOT_EVENTS, "", "null"),
            ("{}", FIELD, "/name", "missing"),
            (r#"{"name":null}"#, FIELD, "/name", "null"),
            (r#"{"name":7}"#, FIELD, "/name", "expected a text"),
            (r#"{"name":""}"#, FIELD, "/name", "empty"),
            (r#"{"name":"a","data":[1]}"#, FIELD, "/data", "an array"),
            (r#"{"name":"a","data":"x"}"#, FIELD, "/data", "a text"),
            (r#"{"name":"a","data":{"x":{"y":1,"y":2}}}"#, TWICE, "/data/x/y", "twice"),
            (r#"{"name":"a","name":"b"}"#, TWICE, "/name", "twice"),
            (r#"{"name":"a","data":{"x":"\udc00"}}"#, UNICODE, "/data/x", "surrogate"),
            (r#"{"name":"\ud800"}"#, UNICODE, "/name", "surrogate"),
            (r#"{"name":"a","id":5}"#, FIELD, "/id", "expected a text"),
            (r#"{"name":"a","id":"a\u0001"}"#, FIELD, "/id", "control"),
            (r#"{"name":"a","ts":"2024-01-01"}"#, FIELD, "/ts", "a text"),
            (r#"{"name":"a","ts":1.5}"#, FIELD, "/ts", "whole number"),
            (r#"{"name":"a","ts":1700000000}"#, TIME, "/ts", "between 1980 and 2100"),
            (r#"{"name":"a","ts":4102444800000}"#, TIME, "/ts", "between 1980 and 2100"),
            (r#"{"name":"a","ts":-1}"#, TIME, "/ts", "between 1980 and 2100"),
            (r#"{"name":"a","user":"me"}"#, FIELD, "/user", "expected an object"),
            (r#"{"name":"a","v":1}"#, FIELD, "/v", "expected a text"),
        ] {
            let found = problem(body);
            assert_eq!((found.0.as_str(), found.1.as_str()), (code, pointer), "{body}: {}", found.2);
            assert!(found.2.contains(part), "{body}: {}", found.2);
        }
    }

    #[test]
    fn limits_hold_exactly() {
        let named = |bytes: usize| format!(r#"{{"name":"{}"}}"#, "n".repeat(bytes));
        event(&named(EVENT_NAME_BYTES));
        assert_eq!(problem(&named(EVENT_NAME_BYTES + 1)).1, "/name");
        let list = |count: usize| format!("[{}]", vec![r#"{"name":"a"}"#; count].join(","));
        assert_eq!(parse(list(EVENTS_PER_REQUEST).as_bytes()).0.len(), EVENTS_PER_REQUEST);
        assert_eq!(problem(&list(EVENTS_PER_REQUEST + 1)).0, TOO_MANY);
        let nested = |depth: usize| {
            format!(r#"{{"name":"a","data":{}{}}}"#, "{\"a\":".repeat(depth - 1), format_args!("{{}}{}", "}".repeat(depth - 1)))
        };
        event(&nested(JSON_DEPTH));
        assert_eq!(problem(&nested(JSON_DEPTH + 1)).0, DEEP);
        assert_eq!(problem(&"[".repeat(100_000)).0, NOT_JSON);
    }

    #[test]
    fn all_problems_come_at_once_with_their_event() {
        let (_, problems) = parse(br#"[{"name":"a"},{"data":1,"ts":1,"id":2},7,{"name":"b","v":2}]"#);
        let places: Vec<_> = problems.iter().map(|problem| (problem.index, problem.pointer.as_str())).collect();
        assert_eq!(places, [(Some(1), "/name"), (Some(1), "/data"), (Some(1), "/id"), (Some(1), "/ts"), (Some(2), ""), (Some(3), "/v")]);
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_refused_with_their_place() {
        let (_, problems) = parse(b"{\"name\":\"\xff\"}");
        assert_eq!(problems[0].code, UNICODE);
        assert!(problems[0].message.contains("byte at 9"), "{}", problems[0].message);
    }
}
