//! `mocks`: what answers instead of the network.

use schemars::JsonSchema;

use crate::base::{Diagnostic, Location, Span};

use super::super::json::Inline;
use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::schema::AnyJson;
use super::super::spanned::{Spanned, Table};
use super::super::tree::{Node, Shape};

/// The methods that a handler can send.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "ANY"];

/// The answers to one kind of request.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Mock {
    /// The request: `POST https://api.example.com/charges`. `*` stands for any text, `ANY` for any method; without `?` any query fits.
    #[schemars(required, with = "String")]
    pub http: Option<Spanned<Target>>,
    /// An expression over `request` (`method`, `url`, `headers`, `query`, `json`, `text`): where it is false, the next mock is asked.
    pub r#if: Option<Spanned<String>>,
    /// The answer, or a list of them: one for each request, the last one for all further ones.
    #[schemars(required, with = "ReplyShape")]
    pub reply: Vec<Reply>,
    /// Where it stands.
    #[schemars(skip)]
    pub place: Location,
}

/// A method and a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// In capitals; `ANY` for each.
    pub method: String,
    /// The URL, maybe with `*` in it.
    pub url: String,
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reply {
    /// Its status; default 200.
    pub status: Option<Spanned<u32>>,
    /// Its body, as JSON.
    #[schemars(with = "Option<AnyJson>")]
    pub json: Option<Spanned<Inline>>,
    /// Its body, as text.
    pub text: Option<Spanned<String>>,
    /// Its headers.
    #[schemars(default)]
    pub headers: Table<Spanned<String>>,
    /// How long it takes, in virtual time.
    pub delay: Option<Spanned<Span>>,
    /// No answer: the network fails with these words.
    pub error: Option<Spanned<String>>,
}

/// One answer, or a list.
pub(super) struct ReplyShape;

impl JsonSchema for ReplyShape {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReplyForms".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<Reply>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

impl MapShape for Mock {
    const NAME: &'static str = "Mock";
}

impl MapShape for Reply {
    const NAME: &'static str = "Reply";
}

impl Value for Target {
    fn read(node: &Node, reader: &mut Reader) -> Option<Target> {
        let Shape::Text(text) = &node.shape else {
            reader.wrong(node, "text");
            return None;
        };
        let bad = |why: String| Diagnostic::error("E0603", why).at(node.place.clone());
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [method, url] = parts.as_slice() else {
            reader.note(bad(format!("`{text}` is not a method and a URL")).help("write it as `POST https://api.example.com/charges`"));
            return None;
        };
        let upper = method.to_uppercase();
        if !METHODS.contains(&upper.as_str()) {
            reader.note(bad(format!("`{method}` is not a method that handlers send")).nearest(&upper, METHODS));
            return None;
        }
        if !url.starts_with("http://") && !url.starts_with("https://") && !url.starts_with('*') {
            reader.note(bad(format!("`{url}` is not a whole URL")).help("it begins with `https://` or `http://`, or with `*`"));
            return None;
        }
        Some(Target { method: upper, url: (*url).to_owned() })
    }
}

impl Value for Mock {
    fn read(node: &Node, reader: &mut Reader) -> Option<Mock> {
        let mut fields = Fields::of::<Mock>(node, "a mock", reader)?;
        let http: Option<Spanned<Target>> = fields.required("http");
        let r#if = fields.optional("if");
        let reply = match fields.entry("reply") {
            Some((_, list)) if matches!(list.shape, Shape::List(_)) => Vec::read(list, fields.reader()).unwrap_or_default(),
            Some((_, one)) => Reply::read(one, fields.reader()).into_iter().collect(),
            None => {
                let problem = Diagnostic::error("E0108", "a mock has no `reply`").at(node.place.clone());
                fields.reader().note(problem.help("`reply: { json: { ok: true } }`; `reply: {}` answers 200 without a body"));
                Vec::new()
            }
        };
        fields.done();
        if let Some((_, list)) = as_map(node).find(|(key, _)| key.value == "reply")
            && matches!(&list.shape, Shape::List(items) if items.is_empty())
        {
            reader.note(
                Diagnostic::error("E0603", "a mock without answers").at(list.place.clone()).help("`reply: {}` answers 200 without a body"),
            );
        }
        let place = http.as_ref().map_or_else(|| node.place.clone(), |http| http.place.clone());
        Some(Mock { http, r#if, reply, place })
    }
}

fn as_map(node: &Node) -> impl Iterator<Item = &(Spanned<String>, Node)> {
    match &node.shape {
        Shape::Map(entries) => entries.as_slice(),
        _ => &[],
    }
    .iter()
}

impl Value for Reply {
    fn read(node: &Node, reader: &mut Reader) -> Option<Reply> {
        let mut fields = Fields::of::<Reply>(node, "`reply`", reader)?;
        let reply = Reply {
            status: fields.optional("status"),
            json: fields.optional("json"),
            text: fields.optional("text"),
            headers: fields.optional("headers").unwrap_or_default(),
            delay: fields.optional("delay"),
            error: fields.optional("error"),
        };
        fields.done();
        if let Some(status) = &reply.status
            && !(100..=599).contains(&status.value)
        {
            reader.note(out_of_range(&status.place, &format!("`{}`", status.value), "100 to 599"));
        }
        let bodies: Vec<&Location> =
            [reply.json.as_ref().map(|json| &json.place), reply.text.as_ref().map(|text| &text.place)].into_iter().flatten().collect();
        if let [_, second] = bodies.as_slice() {
            reader.note(Diagnostic::error("E0603", "an answer has one body: `json` or `text`").at((*second).clone()));
        }
        Some(reply)
    }
}
