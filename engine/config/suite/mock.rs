//! `mocks`: what answers instead of the world outside.

use schemars::JsonSchema;

use crate::base::{Diagnostic, Location, Span};

use super::super::json::Inline;
use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::schema::AnyJson;
use super::super::spanned::{Spanned, Table};
use super::super::tree::{Node, Shape};

/// The methods that a handler can send.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "ANY"];

/// The answers to one kind of request: `http`, `db`, `email` or `exec` says to which.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Mock {
    /// The request: `POST https://api.example.com/charges`. `*` stands for any text, `ANY` for any method; without `?` any query fits.
    #[schemars(with = "Option<String>")]
    pub http: Option<Spanned<Target>>,
    /// The statement: a database's name (or `*`), and the SQL, in which `*` stands for any text: `shop insert into orders *`.
    #[schemars(with = "Option<String>")]
    pub db: Option<Spanned<Target>>,
    /// The mail: the address of somebody whom it goes to; `*` stands for any text.
    #[schemars(with = "Option<String>")]
    pub email: Option<Spanned<Target>>,
    /// The command with its arguments: `pdftotext *`; `*` stands for any text.
    #[schemars(with = "Option<String>")]
    pub exec: Option<Spanned<Target>>,
    /// An expression over `request`: where it is false, the next mock is asked. Of HTTP it has `method`, `url`, `path`, `headers`, `query`, `json`
    /// and `text`; of a statement `database`, `sql` and `params`; of a mail `to`, `cc`, `bcc`, `from`, `reply_to`, `subject`, `text`, `html` and
    /// `attachments`; of a command `command`, `args` and `stdin`.
    pub r#if: Option<Spanned<String>>,
    /// The answer, or a list of them: one for each request, the last one for all further ones.
    #[schemars(required, with = "ReplyShape")]
    pub reply: Vec<Reply>,
    /// Where it stands.
    #[schemars(skip)]
    pub place: Location,
}

impl Mock {
    /// What it answers.
    pub fn target(&self) -> Option<&Spanned<Target>> {
        [&self.http, &self.db, &self.email, &self.exec].into_iter().flatten().next()
    }
}

/// What a handler asks of others: a pattern in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A request by HTTP.
    Http {
        /// In capitals; `ANY` for each.
        method: String,
        /// The URL.
        url: String,
    },
    /// A statement for a database.
    Db {
        /// The database's name; `*` for each.
        database: String,
        /// The statement, with single spaces.
        sql: String,
    },
    /// A mail to this address.
    Email(String),
    /// A command with its arguments, with single spaces.
    Exec(String),
}

/// A kind of target, by the key that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// `http`
    Http,
    /// `db`
    Db,
    /// `email`
    Email,
    /// `exec`
    Exec,
}

impl TargetKind {
    /// All of them.
    pub const ALL: [TargetKind; 4] = [TargetKind::Http, TargetKind::Db, TargetKind::Email, TargetKind::Exec];

    /// Its key.
    pub fn word(self) -> &'static str {
        match self {
            TargetKind::Http => "http",
            TargetKind::Db => "db",
            TargetKind::Email => "email",
            TargetKind::Exec => "exec",
        }
    }

    /// What an answer to it may have besides `delay` and `error`.
    fn answers(self) -> &'static [&'static str] {
        match self {
            TargetKind::Http => &["status", "json", "text", "headers"],
            TargetKind::Db => &["rows", "changed", "refused"],
            TargetKind::Email => &["refused"],
            TargetKind::Exec => &["status", "stdout", "stderr"],
        }
    }
}

impl Target {
    /// Its kind.
    pub fn kind(&self) -> TargetKind {
        match self {
            Target::Http { .. } => TargetKind::Http,
            Target::Db { .. } => TargetKind::Db,
            Target::Email(_) => TargetKind::Email,
            Target::Exec(_) => TargetKind::Exec,
        }
    }

    /// Reads what stands behind the key.
    ///
    /// # Errors
    /// What is wrong with it, and a help where there is one.
    pub fn read(kind: TargetKind, text: &str) -> Result<Target, (String, Option<String>)> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let help = |text: &str| Some(text.to_owned());
        match (kind, words.as_slice()) {
            (TargetKind::Http, [method, url]) => {
                let upper = method.to_uppercase();
                if !METHODS.contains(&upper.as_str()) {
                    let near = crate::base::diagnostic::nearest(&upper, METHODS).map(|near| format!("did you mean `{near}`?"));
                    return Err((format!("`{method}` is not a method that handlers send"), near));
                }
                if !url.starts_with("http://") && !url.starts_with("https://") && !url.starts_with('*') {
                    return Err((format!("`{url}` is not a whole URL"), help("it begins with `https://` or `http://`, or with `*`")));
                }
                Ok(Target::Http { method: upper, url: (*url).to_owned() })
            }
            (TargetKind::Http, _) => {
                Err((format!("`{text}` is not a method and a URL"), help("write it as `POST https://api.example.com/charges`")))
            }
            (TargetKind::Db, [database, sql @ ..]) if !sql.is_empty() => {
                Ok(Target::Db { database: (*database).to_owned(), sql: sql.join(" ") })
            }
            (TargetKind::Db, _) => {
                let help = help("write it as `shop insert into orders *`; `shop *` is any statement for that database");
                Err((format!("`{text}` is not a database and a statement"), help))
            }
            (TargetKind::Email, [address]) => Ok(Target::Email((*address).to_owned())),
            (TargetKind::Email, _) => {
                Err((format!("`{text}` is not one address"), help("`*` is any mail, `*@example.com` one to that domain")))
            }
            (TargetKind::Exec, []) => Err(("no command".to_owned(), help("write it as `pdftotext *`"))),
            (TargetKind::Exec, words) => Ok(Target::Exec(words.join(" "))),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Http { method, url } => write!(f, "{method} {url}"),
            Target::Db { database, sql } => write!(f, "db {database} {sql}"),
            Target::Email(address) => write!(f, "email {address}"),
            Target::Exec(command) => write!(f, "exec {command}"),
        }
    }
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reply {
    /// Of HTTP its status, default 200; of a command the one that it ends with, default 0.
    pub status: Option<Spanned<u32>>,
    /// Of HTTP its body, as JSON.
    #[schemars(with = "Option<AnyJson>")]
    pub json: Option<Spanned<Inline>>,
    /// Of HTTP its body, as text.
    pub text: Option<Spanned<String>>,
    /// Of HTTP its headers.
    #[schemars(default)]
    pub headers: Table<Spanned<String>>,
    /// What `db::query` finds: a list of maps, by columns.
    #[schemars(with = "Option<Vec<AnyJson>>")]
    pub rows: Option<Spanned<Inline>>,
    /// How many rows `db::exec` says that it has changed; default 1.
    pub changed: Option<Spanned<u32>>,
    /// What a command writes.
    pub stdout: Option<Spanned<String>>,
    /// What a command writes to its standard error.
    pub stderr: Option<Spanned<String>>,
    /// A database or a mail server says no for good, with these words: the step ends.
    pub refused: Option<Spanned<String>>,
    /// How long it takes, in virtual time.
    pub delay: Option<Spanned<Span>>,
    /// No answer: the network, the connection or the command fails with these words, and the attempt with it.
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

/// The value of a key that names what is answered.
fn target(kind: TargetKind, fields: &mut Fields<'_, '_>) -> Option<Spanned<Target>> {
    let (_, node) = fields.entry(kind.word())?;
    let Shape::Text(text) = &node.shape else {
        fields.reader().wrong(node, "text");
        return None;
    };
    match Target::read(kind, text) {
        Ok(target) => Some(Spanned::new(target, node.place.clone())),
        Err((why, help)) => {
            let problem = Diagnostic::error("E0603", why).at(node.place.clone());
            fields.reader().note(match help {
                Some(help) => problem.help(help),
                None => problem,
            });
            None
        }
    }
}

impl Value for Mock {
    fn read(node: &Node, reader: &mut Reader) -> Option<Mock> {
        let mut fields = Fields::of::<Mock>(node, "a mock", reader)?;
        let http = target(TargetKind::Http, &mut fields);
        let db = target(TargetKind::Db, &mut fields);
        let email = target(TargetKind::Email, &mut fields);
        let exec = target(TargetKind::Exec, &mut fields);
        let r#if = fields.optional("if");
        let reply = match fields.entry("reply") {
            Some((_, list)) if matches!(list.shape, Shape::List(_)) => Vec::read(list, fields.reader()).unwrap_or_default(),
            Some((_, one)) => Reply::read(one, fields.reader()).into_iter().collect(),
            None => {
                let problem = Diagnostic::error("E0108", "a mock has no `reply`").at(node.place.clone());
                fields.reader().note(problem.help("`reply: { json: { ok: true } }`; `reply: {}` answers that all is well"));
                Vec::new()
            }
        };
        fields.done();
        let named: Vec<(TargetKind, &Spanned<String>)> = as_map(node)
            .filter_map(|(key, _)| TargetKind::ALL.into_iter().find(|kind| kind.word() == key.value).map(|kind| (kind, key)))
            .collect();
        match named.as_slice() {
            [(kind, _)] => answers_of(*kind, node, &reply, reader),
            [] => {
                let problem = Diagnostic::error("E0108", "a mock has no `http`, `db`, `email` or `exec`").at(node.place.clone());
                reader.note(problem.help("it says what is answered: `http: POST https://api.example.com/charges`"));
            }
            [_, (_, second), ..] => {
                let problem = Diagnostic::error("E0603", "a mock answers one kind of request").at(second.place.clone());
                reader.note(problem.help("write a mock for each"));
            }
        }
        if let Some((_, list)) = as_map(node).find(|(key, _)| key.value == "reply")
            && matches!(&list.shape, Shape::List(items) if items.is_empty())
        {
            let problem = Diagnostic::error("E0603", "a mock without answers").at(list.place.clone());
            reader.note(problem.help("`reply: {}` answers that all is well"));
        }
        let mut mock = Mock { http, db, email, exec, r#if, reply, place: node.place.clone() };
        if let Some(place) = mock.target().map(|target| target.place.clone()) {
            mock.place = place;
        }
        Some(mock)
    }
}

/// Notes what answers of this kind do not have.
fn answers_of(kind: TargetKind, node: &Node, replies: &[Reply], reader: &mut Reader) {
    let Some((_, reply)) = as_map(node).find(|(key, _)| key.value == "reply") else { return };
    let all = match &reply.shape {
        Shape::List(items) => items.as_slice(),
        _ => std::slice::from_ref(reply),
    };
    let every = TargetKind::ALL.map(TargetKind::answers).concat();
    for (key, _) in all.iter().flat_map(as_map) {
        let word = key.value.as_str();
        if every.contains(&word) && !kind.answers().contains(&word) {
            let problem = Diagnostic::error("E0603", format!("an answer to `{}` has no `{word}`", kind.word())).at(key.place.clone());
            let has = kind.answers().iter().chain(&["delay", "error"]).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            reader.note(problem.help(format!("it has {has}")));
        }
    }
    for status in replies.iter().filter_map(|reply| reply.status.as_ref()) {
        let (range, shown) = if kind == TargetKind::Exec { (0..=255, "0 to 255") } else { (100..=599, "100 to 599") };
        if !range.contains(&status.value) {
            reader.note(out_of_range(&status.place, &format!("`{}`", status.value), shown));
        }
    }
    for rows in replies.iter().filter_map(|reply| reply.rows.as_ref()) {
        let is_table = rows.value.value.as_array().is_some_and(|rows| rows.iter().all(serde_json::Value::is_object));
        if !is_table {
            let problem = Diagnostic::error("E0603", "the rows of an answer are a list of maps").at(rows.place.clone());
            reader.note(problem.help("write them as `rows: [{ id: 1, name: Ada }]`"));
        }
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
            rows: fields.optional("rows"),
            changed: fields.optional("changed"),
            stdout: fields.optional("stdout"),
            stderr: fields.optional("stderr"),
            refused: fields.optional("refused"),
            delay: fields.optional("delay"),
            error: fields.optional("error"),
        };
        fields.done();
        let bodies: Vec<&Location> =
            [reply.json.as_ref().map(|json| &json.place), reply.text.as_ref().map(|text| &text.place)].into_iter().flatten().collect();
        if let [_, second] = bodies.as_slice() {
            reader.note(Diagnostic::error("E0603", "an answer has one body: `json` or `text`").at((*second).clone()));
        }
        Some(reply)
    }
}
