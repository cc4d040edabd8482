//! `webhooks`: signed requests from elsewhere that become events.

use schemars::JsonSchema;

use crate::base::limits::DEDUPE_WINDOW_MS;
use crate::base::{Diagnostic, Location, Span};
use crate::rules::webhook::{self, Algorithm, Encoding, Part, Scheme};

use super::super::reader::{Fields, MapShape, Reader, Value, choose};
use super::super::schema::SecretsShape;
use super::super::spanned::{Spanned, or};
use super::super::tree::{Node, Shape};

/// The most secrets of one webhook: the new one and the old one.
const SECRETS_MOST: usize = 2;

/// `POST /webhooks/NAME`, verified, becomes an event.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Webhook {
    /// How the sender signs: `stripe`, `github`, `slack`, `standard` (Standard Webhooks), or `hmac`, which `signature` spells out.
    #[schemars(required)]
    pub scheme: Option<Spanned<SchemeWord>>,
    /// The secret that signatures are checked with: its name, listed in `secrets`; or two names while one takes the other's
    /// place.
    #[schemars(required, with = "SecretsShape")]
    pub secret: Vec<Spanned<String>>,
    /// An expression over `body` and `headers` that gives the event's name: `'stripe/' + body.type`. Null makes no event.
    #[schemars(required)]
    pub event: Option<Spanned<String>>,
    /// An expression that gives the event's id, so that a repeated request starts nothing; default the delivery's own id:
    /// `body.id` of Stripe, `body.event_id` of Slack, a header of GitHub and Standard Webhooks.
    pub id: Option<Spanned<String>>,
    /// An expression that gives the event's data; default `body`.
    pub data: Option<Spanned<String>>,
    /// How old a signature may be; default `5m`.
    pub tolerance: Option<Spanned<Span>>,
    /// With `scheme: hmac`, how the sender signs.
    pub signature: Option<Spanned<Signature>>,
}

/// The word for a way to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SchemeWord {
    /// As Stripe does.
    Stripe,
    /// As GitHub does.
    Github,
    /// As Slack does.
    Slack,
    /// Standard Webhooks.
    Standard,
    /// As `signature` says.
    Hmac,
}

impl SchemeWord {
    /// The words of the file.
    pub const WORDS: [(&'static str, SchemeWord); 5] = [
        ("stripe", SchemeWord::Stripe),
        ("github", SchemeWord::Github),
        ("slack", SchemeWord::Slack),
        ("standard", SchemeWord::Standard),
        ("hmac", SchemeWord::Hmac),
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        SchemeWord::WORDS.iter().find(|(_, scheme)| *scheme == self).map_or("", |(word, _)| word)
    }
}

/// How a sender signs that follows no scheme.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Signature {
    /// The header that the signature stands in: `X-Signature`.
    #[schemars(required)]
    pub header: Option<Spanned<String>>,
    /// `sha256` (default), `sha512` or `sha1`.
    pub algorithm: Option<Spanned<AlgorithmWord>>,
    /// `hex` (default) or `base64`.
    pub encoding: Option<Spanned<EncodingWord>>,
    /// What stands before the signature in its header: `sha256=`.
    pub prefix: Option<Spanned<String>>,
    /// The header with the time of the signature, in seconds or milliseconds since 1970. Without it nobody can tell an old request
    /// from a new one.
    pub timestamp: Option<Spanned<String>>,
    /// What is signed: text, `{body}`, and headers by their names in braces. Default `{body}`; with `timestamp` the text of that
    /// header, a dot, and the body.
    pub signed: Option<Spanned<String>>,
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum AlgorithmWord {
    /// HMAC-SHA256.
    Sha256,
    /// HMAC-SHA512.
    Sha512,
    /// HMAC-SHA1, for old senders.
    Sha1,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum EncodingWord {
    /// Hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
}

impl Webhook {
    /// How its sender signs; none where that cannot be used.
    pub fn scheme(&self) -> Option<Scheme> {
        Some(match self.scheme.as_ref()?.value {
            SchemeWord::Stripe => Scheme::Stripe,
            SchemeWord::Github => Scheme::Github,
            SchemeWord::Slack => Scheme::Slack,
            SchemeWord::Standard => Scheme::Standard,
            SchemeWord::Hmac => Scheme::Hmac(self.signature.as_ref()?.value.policy()?),
        })
    }

    /// How old a signature may be.
    pub fn tolerance(&self) -> Span {
        or(&self.tolerance, webhook::TOLERANCE)
    }

    /// Whether its signatures have a time.
    pub fn has_time(&self) -> bool {
        match self.scheme.as_ref().map(|scheme| scheme.value) {
            Some(SchemeWord::Github) => false,
            Some(SchemeWord::Hmac) => self.signature.as_ref().is_some_and(|signature| signature.value.timestamp.is_some()),
            _ => true,
        }
    }
}

impl Signature {
    /// The word for its hash function.
    pub fn algorithm_word(&self) -> &'static str {
        let algorithm = or(&self.algorithm, AlgorithmWord::Sha256);
        AlgorithmWord::WORDS.iter().find(|(_, known)| *known == algorithm).map_or("", |(word, _)| word)
    }

    /// The word for how it is written.
    pub fn encoding_word(&self) -> &'static str {
        let encoding = or(&self.encoding, EncodingWord::Hex);
        EncodingWord::WORDS.iter().find(|(_, known)| *known == encoding).map_or("", |(word, _)| word)
    }

    /// The text of what is signed.
    pub fn signed(&self) -> String {
        match (&self.signed, &self.timestamp) {
            (Some(signed), _) => signed.value.clone(),
            (None, Some(timestamp)) => format!("{{{}}}.{{body}}", timestamp.value),
            (None, None) => "{body}".to_owned(),
        }
    }

    fn policy(&self) -> Option<webhook::Signature> {
        Some(webhook::Signature {
            header: self.header.as_ref()?.value.to_ascii_lowercase(),
            algorithm: match or(&self.algorithm, AlgorithmWord::Sha256) {
                AlgorithmWord::Sha256 => Algorithm::Sha256,
                AlgorithmWord::Sha512 => Algorithm::Sha512,
                AlgorithmWord::Sha1 => Algorithm::Sha1,
            },
            encoding: match or(&self.encoding, EncodingWord::Hex) {
                EncodingWord::Hex => Encoding::Hex,
                EncodingWord::Base64 => Encoding::Base64,
            },
            prefix: or(&self.prefix, String::new()),
            timestamp: self.timestamp.as_ref().map(|header| header.value.to_ascii_lowercase()),
            signed: Part::read(&self.signed()).ok()?,
        })
    }
}

impl MapShape for Webhook {
    const NAME: &'static str = "Webhook";
}

impl MapShape for Signature {
    const NAME: &'static str = "Signature";
}

impl Value for SchemeWord {
    fn read(node: &Node, reader: &mut Reader) -> Option<SchemeWord> {
        choose(node, &SchemeWord::WORDS, reader)
    }
}

impl AlgorithmWord {
    const WORDS: [(&'static str, AlgorithmWord); 3] =
        [("sha256", AlgorithmWord::Sha256), ("sha512", AlgorithmWord::Sha512), ("sha1", AlgorithmWord::Sha1)];
}

impl EncodingWord {
    const WORDS: [(&'static str, EncodingWord); 2] = [("hex", EncodingWord::Hex), ("base64", EncodingWord::Base64)];
}

impl Value for AlgorithmWord {
    fn read(node: &Node, reader: &mut Reader) -> Option<AlgorithmWord> {
        choose(node, &AlgorithmWord::WORDS, reader)
    }
}

impl Value for EncodingWord {
    fn read(node: &Node, reader: &mut Reader) -> Option<EncodingWord> {
        choose(node, &EncodingWord::WORDS, reader)
    }
}

impl Value for Signature {
    fn read(node: &Node, reader: &mut Reader) -> Option<Signature> {
        let mut fields = Fields::of::<Signature>(node, "`signature`", reader)?;
        let signature = Signature {
            header: fields.required("header"),
            algorithm: fields.optional("algorithm"),
            encoding: fields.optional("encoding"),
            prefix: fields.optional("prefix"),
            timestamp: fields.optional("timestamp"),
            signed: fields.optional("signed"),
        };
        fields.done();
        Some(signature)
    }
}

/// One name, or a list of them.
struct Names(Vec<Spanned<String>>);

impl Value for Names {
    fn read(node: &Node, reader: &mut Reader) -> Option<Names> {
        match &node.shape {
            Shape::List(names) if names.is_empty() => {
                reader.note(Diagnostic::error("E0140", "a webhook without a secret").at(node.place.clone()));
                None
            }
            Shape::List(_) => Vec::read(node, reader).map(Names),
            _ => Spanned::read(node, reader).map(|name| Names(vec![name])),
        }
    }
}

impl Value for Webhook {
    fn read(node: &Node, reader: &mut Reader) -> Option<Webhook> {
        let mut fields = Fields::of::<Webhook>(node, "a webhook", reader)?;
        let webhook = Webhook {
            scheme: fields.required("scheme"),
            secret: fields.required("secret").map(|Names(names)| names).unwrap_or_default(),
            event: fields.required("event"),
            id: fields.optional("id"),
            data: fields.optional("data"),
            tolerance: fields.optional_at_key("tolerance"),
            signature: fields.optional_at_key("signature"),
        };
        fields.done();
        Some(webhook)
    }
}

/// Notes what of a webhook cannot be used.
pub(in crate::config) fn check(name: &Spanned<String>, webhook: &Webhook, reader: &mut Reader) {
    let bad = |message: String, place: &Location| Diagnostic::error("E0140", message).at(place.clone());
    if let Some(third) = webhook.secret.get(SECRETS_MOST) {
        let problem = bad(format!("the webhook `{}` has more than two secrets", name.value), &third.place);
        reader.note(problem.help("two are for the time in which a new one takes the place of the old one"));
    }
    if let Some(tolerance) = webhook.tolerance.as_ref().filter(|_| !webhook.has_time()) {
        let problem = bad("these signatures have no time, so there is nothing that could be too old".to_owned(), &tolerance.place);
        let is_hmac = webhook.signature.is_some();
        reader.note(if is_hmac { problem.help("`signature.timestamp` names the header that has it") } else { problem });
    }
    if let Some(tolerance) = webhook.tolerance.as_ref().filter(|tolerance| tolerance.value == Span::default()) {
        reader.note(bad("with a tolerance of 0 no request is ever in time".to_owned(), &tolerance.place));
    }
    let known = Span(DEDUPE_WINDOW_MS);
    if let Some(tolerance) = webhook.tolerance.as_ref().filter(|tolerance| tolerance.value > known) {
        let problem = bad(format!("with a tolerance of {} an old request could be another event", tolerance.value), &tolerance.place);
        reader.note(problem.help(format!("at most {known}: so long a repeated request is known by its id")));
    }
    let is_hmac = webhook.scheme.as_ref().is_some_and(|scheme| scheme.value == SchemeWord::Hmac);
    match (&webhook.signature, &webhook.scheme) {
        (None, Some(scheme)) if is_hmac => {
            let problem = bad("`scheme: hmac` does not say how the sender signs".to_owned(), &scheme.place);
            reader.note(problem.help("add `signature: { header: X-Signature }`"));
        }
        (Some(signature), Some(scheme)) if !is_hmac => {
            let message = format!("`signature` does not go with `scheme: {}`, which says itself how it signs", scheme.value.word());
            reader.note(bad(message, &signature.place).help("remove it, or write `scheme: hmac`"));
        }
        (Some(signature), _) => spelled(&signature.value, reader),
        _ => {}
    }
}

/// Notes what is wrong with a signature that is spelled out.
fn spelled(signature: &Signature, reader: &mut Reader) {
    let bad = |message: String, place: &Location| Diagnostic::error("E0140", message).at(place.clone());
    for header in [&signature.header, &signature.timestamp].into_iter().flatten() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if header.value.is_empty() || !header.value.chars().all(is_name) {
            reader.note(bad(format!("`{}` is not the name of a header", header.value), &header.place).help("for example `X-Signature`"));
        }
    }
    let Some(signed) = &signature.signed else { return };
    match Part::read(&signed.value) {
        Err(why) => {
            let problem = bad(format!("`{}` does not say what is signed: {why}", signed.value), &signed.place);
            reader.note(problem.help("write for example \"{X-Timestamp}.{body}\""));
        }
        // A time that is not signed can be changed by anybody who repeats a request.
        Ok(parts) => {
            let is_signed = |header: &String| parts.contains(&Part::Header(header.to_ascii_lowercase()));
            if let Some(timestamp) = signature.timestamp.as_ref().filter(|header| !is_signed(&header.value)) {
                let problem =
                    bad(format!("`{}` is not among what is signed, so anybody could change it", timestamp.value), &timestamp.place);
                reader.note(problem.help(format!("put `{{{}}}` where the sender has it: `signed: \"{{{0}}}.{{body}}\"`", timestamp.value)));
            }
        }
    }
}
