//! Signatures of webhooks: whether a request was made by somebody who has the secret, and lately. Pure: headers, body and
//! time are arguments, and the body is the bytes as they came.
//!
//! Each scheme is followed as its own documentation has it: what is signed, how the signature is written, and which times
//! are too far away.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hmac;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::base::{Millis, Span, hex};

/// How old a signature may be, unless the config says otherwise: what Stripe, Slack and Standard Webhooks name.
pub const TOLERANCE: Span = Span::seconds(300);

/// Base64 with or without padding.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// How a sender signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// `Stripe-Signature: t=TIME,v1=HEX,…` over `TIME.BODY`.
    Stripe,
    /// `X-Hub-Signature-256: sha256=HEX` over the body.
    Github,
    /// `X-Slack-Signature: v0=HEX` over `v0:TIME:BODY`.
    Slack,
    /// `webhook-signature: v1,BASE64 …` over `ID.TIME.BODY` (<https://www.standardwebhooks.com>).
    Standard,
    /// As the config spells it out.
    Hmac(Signature),
}

/// A signature that the config spells out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The header that it stands in, in small letters.
    pub header: String,
    /// Its hash function.
    pub algorithm: Algorithm,
    /// How it is written.
    pub encoding: Encoding,
    /// What stands before it.
    pub prefix: String,
    /// The header with the time that is signed, in seconds or milliseconds since 1970; in small letters.
    pub timestamp: Option<String>,
    /// What is signed.
    pub signed: Vec<Part>,
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// For old senders.
    Sha1,
    /// What most use.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits, small or large.
    Hex,
    /// Base64, with or without padding.
    Base64,
}

/// A piece of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// The text of this header, in small letters.
    Header(String),
    /// The bytes of the body.
    Body,
}

impl Part {
    /// Reads `v0:{X-Timestamp}:{body}`: texts, and names in braces, which are headers but for `{body}`.
    ///
    /// # Errors
    /// A sentence that says what cannot be read.
    pub fn read(template: &str) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once('{') {
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            let Some((name, after)) = after.split_once('}') else { return Err("a `{` has no `}`".to_owned()) };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                return Err(format!("`{{{name}}}` is neither `{{body}}` nor the name of a header"));
            }
            parts.push(if name == "body" { Part::Body } else { Part::Header(name.to_ascii_lowercase()) });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        match parts.contains(&Part::Body) {
            true => Ok(parts),
            false => Err("the body is not signed, so anybody could change it: `{body}` is missing".to_owned()),
        }
    }
}

/// A secret that is not what its scheme wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secrets of Standard Webhooks are `whsec_` and base64, and this one is not")]
pub struct BadSecret;

/// Why a request is not taken for what it says it is. The sentences are for the sender, and tell nothing of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A header is not there.
    #[error("there is no header `{0}`, so the request is not signed")]
    Missing(String),
    /// A header that has one meaning has two values.
    #[error("the header `{0}` stands twice")]
    Twice(String),
    /// A header is not written as the scheme has it.
    #[error("the header `{header}` cannot be read: expected {expected}")]
    Malformed {
        /// The header.
        header: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// No signature fits.
    #[error("no signature fits: it was made with another secret, or the body is not as it was sent")]
    Wrong,
    /// The signature fits, and is too old.
    #[error("it was signed {age} ago, and at most {tolerance} are allowed")]
    Old {
        /// How old it is.
        age: Span,
        /// How old it may be.
        tolerance: Span,
    },
    /// The signature fits, and its time has not come yet.
    #[error("it was signed {ahead} ahead of this clock, and at most {tolerance} are allowed")]
    Ahead {
        /// How far ahead.
        ahead: Span,
        /// How far it may be.
        tolerance: Span,
    },
    /// There is no secret to check it with.
    #[error("the secret of this webhook is not in the engine's environment")]
    NoSecret,
}

/// The headers of a request: names in small letters, with their texts.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a>(pub &'a [(&'a str, &'a str)]);

impl<'a> Headers<'a> {
    /// Every value of a header, in order.
    fn all(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The one value of a header.
    fn one(self, name: &str) -> Result<&'a str, Refused> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.trim()),
            (None, _) => Err(Refused::Missing(name.to_owned())),
            (Some(_), Some(_)) => Err(Refused::Twice(name.to_owned())),
        }
    }
}

/// Signatures of a request, and the time that they are of.
struct Claim<'a> {
    /// Each as its bytes; one that cannot be read is left out.
    signatures: Vec<Vec<u8>>,
    signed: Vec<Piece<'a>>,
    time: Option<Millis>,
}

enum Piece<'a> {
    Text(&'a str),
    Body,
}

impl Piece<'_> {
    fn bytes<'b>(&'b self, body: &'b [u8]) -> &'b [u8] {
        match self {
            Piece::Text(text) => text.as_bytes(),
            Piece::Body => body,
        }
    }
}

/// What checks the requests of one webhook.
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    keys: Vec<hmac::Key>,
    tolerance: Span,
}

impl std::fmt::Debug for Verifier {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("scheme", &self.scheme).field("secrets", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Checks by `scheme` with any of `secrets`: two of them while one takes the other's place. A signature with a time may be
    /// `tolerance` old.
    ///
    /// # Errors
    /// The position of a secret that is not what the scheme wants.
    pub fn new(scheme: Scheme, secrets: &[&str], tolerance: Span) -> Result<Verifier, (usize, BadSecret)> {
        let algorithm = match &scheme {
            Scheme::Hmac(Signature { algorithm: Algorithm::Sha1, .. }) => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Scheme::Hmac(Signature { algorithm: Algorithm::Sha512, .. }) => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let key = |(at, secret): (usize, &&str)| match scheme {
            Scheme::Standard => {
                let text = secret.strip_prefix("whsec_").unwrap_or(secret);
                let bytes = BASE64.decode(text).ok().filter(|bytes| !bytes.is_empty()).ok_or((at, BadSecret))?;
                Ok(hmac::Key::new(algorithm, &bytes))
            }
            _ => Ok(hmac::Key::new(algorithm, secret.as_bytes())),
        };
        let keys = secrets.iter().enumerate().map(key).collect::<Result<_, _>>()?;
        Ok(Verifier { scheme, keys, tolerance })
    }

    /// How the sender signs.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Looks at the headers alone, so that nobody has to read the body of a request that is not signed at all.
    ///
    /// # Errors
    /// Why it is refused, whatever its body may be.
    pub fn look(&self, headers: Headers<'_>) -> Result<(), Refused> {
        match self.keys.is_empty() {
            true => Err(Refused::NoSecret),
            false => self.claim(headers).map(drop),
        }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// Why it is refused. That a signature is too old is only said of one that fits.
    pub fn verify(&self, headers: Headers<'_>, body: &[u8], now: Millis) -> Result<(), Refused> {
        if self.keys.is_empty() {
            return Err(Refused::NoSecret);
        }
        let claim = self.claim(headers)?;
        // Every secret is tried with every signature, whichever fits, so that the time tells nothing.
        let mut fits = Choice::from(0);
        for key in &self.keys {
            let tag = sign(key, &claim.signed, body);
            for signature in &claim.signatures {
                fits |= signature.as_slice().ct_eq(tag.as_ref());
            }
        }
        if !bool::from(fits) {
            return Err(Refused::Wrong);
        }
        let Some(time) = claim.time else { return Ok(()) };
        let (age, ahead, tolerance) = (now.since(time), time.since(now), self.tolerance);
        if age > tolerance {
            return Err(Refused::Old { age, tolerance });
        }
        // Stripe's own libraries look at the past alone.
        if ahead > tolerance && self.scheme != Scheme::Stripe {
            return Err(Refused::Ahead { ahead, tolerance });
        }
        Ok(())
    }

    /// The delivery's id, where the scheme has a header for it.
    pub fn delivery<'h>(&self, headers: Headers<'h>) -> Option<&'h str> {
        let found = match self.scheme {
            Scheme::Github => headers.one("x-github-delivery"),
            Scheme::Standard => standard(headers, "id"),
            Scheme::Stripe | Scheme::Slack | Scheme::Hmac(_) => return None,
        };
        found.ok().filter(|id| !id.is_empty())
    }

    /// What tells a request from every other one, where its sender gives it no id: a hash over what is signed, the time with it.
    /// None where no time is signed, since two requests with one body may then well be two.
    pub fn fingerprint(&self, headers: Headers<'_>, body: &[u8]) -> Option<String> {
        let claim = self.claim(headers).ok().filter(|claim| claim.time.is_some())?;
        let mut hash = Sha256::new();
        for piece in &claim.signed {
            hash.update(piece.bytes(body));
        }
        Some(format!("sha256:{}", hex::encode(&hash.finalize())))
    }

    fn claim<'h>(&'h self, headers: Headers<'h>) -> Result<Claim<'h>, Refused> {
        match &self.scheme {
            Scheme::Stripe => stripe(headers),
            Scheme::Github => {
                let signatures = plain(headers, "x-hub-signature-256", "sha256=", Encoding::Hex, "sha256= and hexadecimal digits")?;
                Ok(Claim { signatures, signed: vec![Piece::Body], time: None })
            }
            Scheme::Slack => {
                const TIME: &str = "x-slack-request-timestamp";
                let time = headers.one(TIME)?;
                let signatures = plain(headers, "x-slack-signature", "v0=", Encoding::Hex, "v0= and hexadecimal digits")?;
                let signed = vec![Piece::Text("v0:"), Piece::Text(time), Piece::Text(":"), Piece::Body];
                Ok(Claim { signatures, signed, time: Some(seconds(TIME, time)?) })
            }
            Scheme::Standard => {
                let (id, time, list) = (standard(headers, "id")?, standard(headers, "timestamp")?, standard(headers, "signature")?);
                let listed: Vec<&str> = list.split_ascii_whitespace().filter_map(|one| one.strip_prefix("v1,")).collect();
                let signatures: Vec<_> = listed.into_iter().filter_map(|text| decoded(text, Encoding::Base64)).collect();
                if signatures.is_empty() {
                    return Err(Refused::Malformed { header: "webhook-signature".to_owned(), expected: "v1, and base64" });
                }
                let signed = vec![Piece::Text(id), Piece::Text("."), Piece::Text(time), Piece::Text("."), Piece::Body];
                Ok(Claim { signatures, signed, time: Some(seconds("webhook-timestamp", time)?) })
            }
            Scheme::Hmac(signature) => signature.claim(headers),
        }
    }
}

impl Signature {
    fn claim<'h>(&'h self, headers: Headers<'h>) -> Result<Claim<'h>, Refused> {
        let expected = match self.encoding {
            Encoding::Hex => "the prefix of the config and hexadecimal digits",
            Encoding::Base64 => "the prefix of the config and base64",
        };
        let signatures = plain(headers, &self.header, &self.prefix, self.encoding, expected)?;
        let piece = |part: &'h Part| {
            Ok(match part {
                Part::Text(text) => Piece::Text(text),
                Part::Header(name) => Piece::Text(headers.one(name)?),
                Part::Body => Piece::Body,
            })
        };
        let signed = self.signed.iter().map(piece).collect::<Result<_, Refused>>()?;
        let time = match &self.timestamp {
            Some(header) => Some(seconds(header, headers.one(header)?)?),
            None => None,
        };
        Ok(Claim { signatures, signed, time })
    }
}

fn sign(key: &hmac::Key, pieces: &[Piece<'_>], body: &[u8]) -> hmac::Tag {
    let mut signing = hmac::Context::with_key(key);
    for piece in pieces {
        signing.update(piece.bytes(body));
    }
    signing.sign()
}

/// A header of Standard Webhooks. Svix, where they come from, has names of its own, which its customers still send.
fn standard<'h>(headers: Headers<'h>, what: &str) -> Result<&'h str, Refused> {
    let own = format!("webhook-{what}");
    match headers.one(&own) {
        Err(Refused::Missing(_)) => headers.one(&format!("svix-{what}")).map_err(|error| match error {
            Refused::Missing(_) => Refused::Missing(own),
            other => other,
        }),
        found => found,
    }
}

/// The signatures of a header that has one, with something before it. It may stand there twice while a secret is changed.
fn plain(headers: Headers<'_>, header: &str, prefix: &str, encoding: Encoding, expected: &'static str) -> Result<Vec<Vec<u8>>, Refused> {
    let mut is_there = false;
    let mut signatures = Vec::new();
    for value in headers.all(header) {
        is_there = true;
        signatures.extend(value.trim().strip_prefix(prefix).and_then(|text| decoded(text, encoding)));
    }
    match (is_there, signatures.is_empty()) {
        (false, _) => Err(Refused::Missing(header.to_owned())),
        (true, true) => Err(Refused::Malformed { header: header.to_owned(), expected }),
        (true, false) => Ok(signatures),
    }
}

fn stripe(headers: Headers<'_>) -> Result<Claim<'_>, Refused> {
    const HEADER: &str = "stripe-signature";
    const EXPECTED: &str = "t=TIME,v1=SIGNATURE";
    let malformed = || Refused::Malformed { header: HEADER.to_owned(), expected: EXPECTED };
    let (mut time, mut signatures) = (None, Vec::new());
    for part in headers.one(HEADER)?.split(',') {
        match part.trim().split_once('=') {
            // With two times it would not be known which one was looked at and which one was signed.
            Some(("t", _)) if time.is_some() => return Err(malformed()),
            Some(("t", text)) => time = Some(text),
            Some(("v1", text)) => signatures.extend(decoded(text, Encoding::Hex)),
            // Other versions are for tests of Stripe's own, and for times to come.
            _ => {}
        }
    }
    let time = time.filter(|_| !signatures.is_empty()).ok_or_else(malformed)?;
    Ok(Claim { signatures, signed: vec![Piece::Text(time), Piece::Text("."), Piece::Body], time: Some(seconds(HEADER, time)?) })
}

/// A time in seconds since 1970; in milliseconds where it is too large for that.
fn seconds(header: &str, text: &str) -> Result<Millis, Refused> {
    /// The first number that is taken for milliseconds: as seconds it would be the year 5138.
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    let malformed = || Refused::Malformed { header: header.to_owned(), expected: "a time in seconds since 1970" };
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let number: i64 = text.parse().map_err(|_| malformed())?;
    Ok(Millis(if number < MILLISECONDS_FROM { number * 1000 } else { number }))
}

fn decoded(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Base64 => BASE64.decode(text).ok(),
        Encoding::Hex => {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let pairs = text.as_bytes().chunks(2);
            pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
