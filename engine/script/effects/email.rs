//! `email::send`: a mail handed to the SMTP server of events.yaml.

use std::sync::Arc;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{SmtpTransport, Transport as _};
use rhai::{Array, Blob, Engine, Map, Module};
use serde_json::Value;

use super::apart::{self, Outcome};
use super::mocked;
use crate::base::alloc;
use crate::base::diagnostic::nearest;
use crate::script::api::demand_step;
use crate::script::attempt::{Attempt, Inside, current};
use crate::script::error::{Fault, Thrown};
use crate::script::outside::{Answer, Errand, Outside};
use crate::script::value::Secret;

/// Most people that one mail goes to.
const PEOPLE_MOST: usize = 100;
/// Largest mail, attachments included, in bytes.
const MAIL_BYTES: usize = 16 * 1024 * 1024;
/// How long the server may take for each answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a mail is made of.
pub(in crate::script) const FIELDS: [&str; 9] = ["to", "cc", "bcc", "from", "reply_to", "subject", "text", "html", "attachments"];

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    /// By TLS from its first byte.
    Whole,
    /// By STARTTLS, or not at all.
    Required,
    /// By STARTTLS where the server offers it.
    #[default]
    Offered,
    /// Not at all.
    Absent,
}

/// The mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub protection: Protection,
    /// The name that it knows us by, and the secret for it.
    pub login: Option<(String, String)>,
    /// The sender, unless a mail says otherwise.
    pub from: Option<String>,
}

pub(in crate::script) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("send", |mail: Map| send(&mail));
    engine.register_static_module("email", module.into());
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

fn send(mail: &Map) -> Result<Map, Fault> {
    let attempt = current()?;
    let inside = demand_step(&attempt, "email::send")?;
    let Some(server) = attempt.call.surroundings.mail.clone() else {
        let thrown = Thrown::last("E0431", "email::send: events.yaml names no mail server");
        return Err(thrown.help("add to events.yaml: email: { smtp: \"smtp://mail.example.com:587\", from: \"…\" }").fault());
    };
    if let Some(other) = mail.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let help = nearest(other, FIELDS).map_or_else(|| FIELDS.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(Thrown::last("E0407", format!("a mail has no `{other}`")).help(help).fault());
    }
    // The same in every attempt, so that a mail that arrives twice is seen to be the same one.
    let count = attempt.next_request();
    let local: String = format!("{}.{}.{count}", attempt.call.run.id, inside.key)
        .bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) { char::from(byte).to_string() } else { format!("={byte:02x}") }
            },
        )
        .collect();
    let (message, id) = alloc::uncounted(|| message(mail, &server, &local))?;
    if let Some(outside) = attempt.call.surroundings.outside.as_deref() {
        alloc::uncounted(|| drop(message));
        return mock(outside, &attempt, &inside, &server, mail, id);
    }
    let work = {
        let server = Arc::clone(&server);
        move || deliver(&server, &message)
    };
    match apart::thread(&attempt, "email::send", None, work)? {
        Outcome::Done(Ok(())) => {}
        Outcome::Done(Err(Refused { message, is_last })) => {
            let thrown = if is_last { Thrown::last("E0431", message) } else { Thrown::new("E0431", message) };
            return Err(thrown.fault());
        }
        Outcome::Late | Outcome::Broken(_) => return Err(Thrown::new("E0431", "the mail could not be handed over").fault()),
    }
    let mut map = Map::new();
    map.insert("id".into(), id.as_str().into());
    alloc::uncounted(|| drop(id));
    Ok(map)
}

/// Has somebody else take the mail, in a test.
fn mock(outside: &dyn Outside, attempt: &Attempt, inside: &Inside, server: &MailServer, mail: &Map, id: String) -> Result<Map, Fault> {
    let seen = alloc::uncounted(|| seen(mail, server))?;
    let answer = mocked::ask(outside, attempt, inside, Errand::Email(&seen), None);
    alloc::uncounted(|| drop(seen));
    match answer? {
        Some(Answer::Sent) => {
            let mut map = Map::new();
            map.insert("id".into(), id.as_str().into());
            alloc::uncounted(|| drop(id));
            Ok(map)
        }
        Some(Answer::Broken(said)) => Err(Thrown::new("E0431", format!("{}:{}: {said}", server.host, server.port)).fault()),
        Some(Answer::Refused(said)) => Err(Thrown::last("E0431", format!("{}:{}: {said}", server.host, server.port)).fault()),
        _ => Err(mocked::unfit()),
    }
}

/// The fields of a mail that has been made, as a test sees them.
fn seen(mail: &Map, server: &MailServer) -> Result<Value, Fault> {
    let mut seen = serde_json::Map::new();
    for name in ["to", "cc", "bcc", "reply_to"] {
        let people = people(mail, name)?.into_iter().map(|person| Value::from(person.email.to_string()));
        seen.insert(name.to_owned(), people.collect());
    }
    for name in ["subject", "text", "html"] {
        seen.insert(name.to_owned(), text(mail, name)?.into());
    }
    seen.insert("from".to_owned(), text(mail, "from")?.or_else(|| server.from.clone()).into());
    let attached = mail.get("attachments").and_then(|value| value.read_lock::<Array>().map(|list| list.clone())).unwrap_or_default();
    let name = |item: &rhai::Dynamic| item.read_lock::<Map>().and_then(|map| map.get("name").map(ToString::to_string));
    seen.insert("attachments".to_owned(), attached.iter().filter_map(name).map(Value::from).collect());
    Ok(Value::Object(seen))
}

/// Why the server did not take a mail.
struct Refused {
    message: String,
    /// Whether it would not take it next time either.
    is_last: bool,
}

fn deliver(server: &MailServer, message: &Message) -> Result<(), Refused> {
    let broken = |said: String| Refused { message: format!("{}:{}: {said}", server.host, server.port), is_last: false };
    let tls = || TlsParameters::new(server.host.clone()).map_err(|error| broken(error.to_string()));
    let tls = match server.protection {
        Protection::Whole => Tls::Wrapper(tls()?),
        Protection::Required => Tls::Required(tls()?),
        Protection::Offered => Tls::Opportunistic(tls()?),
        Protection::Absent => Tls::None,
    };
    let mut transport = SmtpTransport::builder_dangerous(server.host.clone()).port(server.port).tls(tls).timeout(Some(PATIENCE));
    if let Some((name, secret)) = &server.login {
        transport = transport.credentials(Credentials::new(name.clone(), secret.clone()));
    }
    transport.build().send(message).map(|_| ()).map_err(|error| {
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !said.contains(&text) {
                said = format!("{said}: {text}");
            }
            cause = inner.source();
        }
        Refused { is_last: error.is_permanent(), ..broken(said) }
    })
}

fn text(mail: &Map, name: &str) -> Result<Option<String>, Fault> {
    match mail.get(name).filter(|value| !value.is_unit()) {
        None => Ok(None),
        Some(value) if value.is::<Secret>() => Err(Thrown::last("E0406", format!("a secret does not belong into a mail's {name}")).fault()),
        Some(value) => match value.as_immutable_string_ref() {
            Ok(text) => Ok(Some(text.to_string())),
            Err(kind) => Err(bad(format!("a mail's {name} is a text, not {kind}"))),
        },
    }
}

/// The addresses under a name: a text, or a list of texts.
fn people(mail: &Map, name: &str) -> Result<Vec<Mailbox>, Fault> {
    let Some(value) = mail.get(name).filter(|value| !value.is_unit()) else { return Ok(Vec::new()) };
    let list = value.read_lock::<Array>().map_or_else(|| vec![value.clone()], |list| list.clone());
    list.iter()
        .map(|value| match value.as_immutable_string_ref() {
            Ok(text) => mailbox(&text, name),
            Err(kind) => Err(bad(format!("a mail's {name} is an address or a list of addresses, not {kind}"))),
        })
        .collect()
}

fn mailbox(text: &str, name: &str) -> Result<Mailbox, Fault> {
    text.parse().map_err(|_| {
        let thrown = Thrown::last("E0407", format!("a mail's {name}: `{text}` is not an address"));
        thrown.help("write ada@example.com or Ada Lovelace <ada@example.com>").fault()
    })
}

/// The mail, and its id.
fn message(mail: &Map, server: &MailServer, local: &str) -> Result<(Message, String), Fault> {
    let from = match (text(mail, "from")?, &server.from) {
        (Some(from), _) => mailbox(&from, "from")?,
        (None, Some(from)) => mailbox(from, "from")?,
        (None, None) => {
            return Err(Thrown::last("E0407", "the mail has no `from`").help("email: { from: … } in events.yaml serves all").fault());
        }
    };
    let id = format!("<{local}@{}>", from.email.domain());
    let (to, cc, bcc) = (people(mail, "to")?, people(mail, "cc")?, people(mail, "bcc")?);
    let count = to.len() + cc.len() + bcc.len();
    if count == 0 || count > PEOPLE_MOST {
        return Err(bad(format!("a mail goes to 1 to {PEOPLE_MOST} people, not {count}")));
    }
    let subject = text(mail, "subject")?.unwrap_or_default();
    if subject.contains(['\n', '\r']) {
        return Err(bad("a mail's subject is one line"));
    }
    let mut builder = Message::builder().from(from).subject(subject).message_id(Some(id.clone()));
    builder = to.into_iter().fold(builder, lettre::message::MessageBuilder::to);
    builder = cc.into_iter().fold(builder, lettre::message::MessageBuilder::cc);
    builder = bcc.into_iter().fold(builder, lettre::message::MessageBuilder::bcc);
    builder = people(mail, "reply_to")?.into_iter().fold(builder, lettre::message::MessageBuilder::reply_to);
    let (plain, html) = (text(mail, "text")?, text(mail, "html")?);
    let said = [&plain, &html].into_iter().flatten().map(String::len).sum();
    let built = match (plain, html, attachments(mail, said)?) {
        (None, None, _) => return Err(bad("a mail has a `text` or an `html`")),
        (Some(plain), None, attached) if attached.is_empty() => builder.header(ContentType::TEXT_PLAIN).body(plain),
        (None, Some(html), attached) if attached.is_empty() => builder.header(ContentType::TEXT_HTML).body(html),
        (Some(plain), Some(html), attached) if attached.is_empty() => builder.multipart(MultiPart::alternative_plain_html(plain, html)),
        (plain, html, attached) => {
            let whole = MultiPart::mixed();
            let whole = match (plain, html) {
                (Some(plain), Some(html)) => whole.multipart(MultiPart::alternative_plain_html(plain, html)),
                (Some(plain), None) => whole.singlepart(SinglePart::plain(plain)),
                (_, html) => whole.singlepart(SinglePart::html(html.unwrap_or_default())),
            };
            builder.multipart(attached.into_iter().fold(whole, MultiPart::singlepart))
        }
    };
    let message = built.map_err(|error| bad(format!("the mail cannot be made: {error}")))?;
    Ok((message, id))
}

/// What is attached to a mail whose texts take `bytes` already.
fn attachments(mail: &Map, mut bytes: usize) -> Result<Vec<SinglePart>, Fault> {
    let too_large = || bad(format!("a mail has at most {} MB", MAIL_BYTES / (1024 * 1024)));
    if bytes > MAIL_BYTES {
        return Err(too_large());
    }
    let Some(value) = mail.get("attachments").filter(|value| !value.is_unit()) else { return Ok(Vec::new()) };
    let list = value.read_lock::<Array>().ok_or_else(|| bad("a mail's attachments are a list of #{ name, content, type }"))?;
    let mut parts = Vec::new();
    for item in list.iter() {
        let map = item.read_lock::<Map>().ok_or_else(|| bad("an attachment is #{ name, content, type }"))?;
        let name = text(&map, "name")?.ok_or_else(|| bad("an attachment has a `name`"))?;
        let kind = text(&map, "type")?.unwrap_or_else(|| "application/octet-stream".to_owned());
        let kind = ContentType::parse(&kind).map_err(|_| bad(format!("`{kind}` is not a type of content, such as text/csv")))?;
        let content: Vec<u8> = match map.get("content").cloned() {
            Some(content) if content.is::<Blob>() => content.cast::<Blob>(),
            _ => text(&map, "content")?.ok_or_else(|| bad("an attachment has a `content`"))?.into_bytes(),
        };
        bytes += content.len();
        if bytes > MAIL_BYTES {
            return Err(too_large());
        }
        parts.push(Attachment::new(name).body(content, kind));
    }
    Ok(parts)
}
