//! `jwt::sign`, `jwt::verify`: signed tokens (RFC 7519). The algorithm is the script's word, never the token's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rhai::{Array, Dynamic, Engine, Map, Module, NativeCallContext};
use ring::{hmac, signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::base::diagnostic::nearest;
use crate::base::{Millis, Span};

use super::super::error::{Fault, Thrown};
use super::super::time;
use super::super::value;
use super::bytes::bytes_of;
use super::tiny;

/// Largest token, in bytes.
const TOKEN_BYTES: usize = 64 * 1024;
const ALGORITHMS: [&str; 6] = ["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"];

pub(super) fn register(engine: &mut Engine) {
    let mut jwt = Module::new();
    jwt.set_native_fn("sign", |context: NativeCallContext, claims: Map, key: Dynamic| sign(&context, claims, &key, &Map::new()));
    jwt.set_native_fn("sign", |context: NativeCallContext, claims: Map, key: Dynamic, options: Map| sign(&context, claims, &key, &options));
    jwt.set_native_fn("verify", |context: NativeCallContext, token: &str, key: Dynamic| verify(&context, token, &key, &Map::new()));
    jwt.set_native_fn("verify", |context: NativeCallContext, token: &str, key: Dynamic, options: Map| {
        verify(&context, token, &key, &options)
    });
    engine.register_static_module("jwt", jwt.into());
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

fn invalid(why: impl std::fmt::Display) -> Fault {
    Thrown::last("E0428", format!("the token is not valid: {why}")).fault()
}

/// The text of an option.
fn text(options: &Map, name: &str) -> Result<Option<String>, Fault> {
    match options.get(name) {
        None => Ok(None),
        Some(value) => match value.as_immutable_string_ref() {
            Ok(text) => Ok(Some(text.to_string())),
            Err(kind) => Err(bad(format!("{name} is a text, not {kind}"))),
        },
    }
}

fn known(options: &Map, what: &str, names: &[&str]) -> Result<(), Fault> {
    match options.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(other) => {
            let near = nearest(other, names.iter().copied());
            let help = near.map_or_else(|| names.join(", "), |near| format!("did you mean `{near}`?"));
            Err(Thrown::last("E0407", format!("{what} has no option `{other}`")).help(help).fault())
        }
    }
}

/// What a PEM file has somewhere: text may stand before it.
const PEM: &[u8] = b"-----BEGIN";

/// The algorithm that the script wants. A key in PEM form is for a pair of keys; as a shared key anybody could have it.
fn algorithm(options: &Map, key: &Dynamic) -> Result<&'static str, Fault> {
    let wanted = text(options, "alg")?.unwrap_or_else(|| "HS256".to_owned());
    let Some(known) = ALGORITHMS.into_iter().find(|known| *known == wanted) else {
        return Err(Thrown::last("E0407", format!("jwt knows no `{wanted}`")).help(ALGORITHMS.join(", ")).fault());
    };
    let is_pem = bytes_of(key, "the key of jwt", |key| key.windows(PEM.len()).any(|part| part == PEM))?;
    if is_pem == known.starts_with("HS") {
        let message = if is_pem { "a key in PEM form is none for HS256" } else { "the key has to be in PEM form" };
        return Err(Thrown::last("E0407", format!("jwt with {known}: {message}")).help("alg: \"RS256\", \"ES256\" or \"EdDSA\"").fault());
    }
    if bytes_of(key, "the key of jwt", <[u8]>::is_empty)? {
        return Err(bad("the key of jwt is empty"));
    }
    Ok(known)
}

fn shared(name: &str) -> Option<hmac::Algorithm> {
    match name {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn sign(context: &NativeCallContext<'_>, mut claims: Map, key: &Dynamic, options: &Map) -> Result<String, Fault> {
    known(options, "jwt::sign", &["alg", "kid", "expires_in"])?;
    let algorithm = algorithm(options, key)?;
    if let Some(length) = options.get("expires_in") {
        let length = time::period(length)?.0;
        let now = tiny::time(context)?;
        claims.entry("iat".into()).or_insert_with(|| seconds(now).into());
        claims.insert("exp".into(), seconds(now.after(length)).into());
    }
    let kid = text(options, "kid")?.map(|kid| format!(",\"kid\":{}", value::quoted(&kid))).unwrap_or_default();
    let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"{kid}}}"#);
    let claims = value::write(&Dynamic::from_map(claims), "the claims", TOKEN_BYTES / 2)?;
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = match shared(algorithm) {
        Some(shared) => {
            bytes_of(key, "the key of jwt", |key| hmac::sign(&hmac::Key::new(shared, key), signed.as_bytes()).as_ref().to_vec())?
        }
        None => bytes_of(key, "the key of jwt", |key| sign_with_pair(algorithm, key, signed.as_bytes()))?.map_err(bad)?,
    };
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn seconds(time: Millis) -> i64 {
    time.0.div_euclid(1000)
}

/// A signature that is the same each time: a handler goes over its code again.
fn sign_with_pair(algorithm: &str, pem: &[u8], signed: &[u8]) -> Result<Vec<u8>, String> {
    let no_key = |error: String| format!("the key of jwt is not a private key for {algorithm} in PEM form: {error}");
    match algorithm {
        "RS256" => {
            let pair = match PrivatePkcs8KeyDer::from_pem_slice(pem) {
                Ok(key) => signature::RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
                Err(_) => {
                    let key = PrivatePkcs1KeyDer::from_pem_slice(pem).map_err(|error| no_key(error.to_string()))?;
                    signature::RsaKeyPair::from_der(key.secret_pkcs1_der())
                }
            };
            let pair = pair.map_err(|error| no_key(error.to_string()))?;
            let mut out = vec![0; pair.public().modulus_len()];
            // The random numbers blind the computation; what comes out does not depend on them.
            let random = ring::rand::SystemRandom::new();
            pair.sign(&signature::RSA_PKCS1_SHA256, &random, signed, &mut out).map_err(|_| "the token cannot be signed".to_owned())?;
            Ok(out)
        }
        "EdDSA" => {
            let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| no_key(error.to_string()))?;
            let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
            Ok(pair.map_err(|error| no_key(error.to_string()))?.sign(signed).as_ref().to_vec())
        }
        _ => Err(format!("jwt::sign does not do {algorithm}, whose signatures differ each time; RS256 and EdDSA it does")),
    }
}

fn verify(context: &NativeCallContext<'_>, token: &str, key: &Dynamic, options: &Map) -> Result<Dynamic, Fault> {
    known(options, "jwt::verify", &["alg", "issuer", "audience", "leeway"])?;
    let algorithm = algorithm(options, key)?;
    if token.len() > TOKEN_BYTES {
        return Err(invalid(format!("it has more than {TOKEN_BYTES} bytes")));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return Err(invalid("it has three parts with dots between them")) };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid("a part of it is not base64"));
    let object = |part: &str| -> Result<Dynamic, Fault> {
        let text = String::from_utf8(decoded(part)?).map_err(|_| invalid("a part of it is no text"))?;
        value::read(&text).ok().filter(Dynamic::is_map).ok_or_else(|| invalid("a part of it is no JSON object"))
    };
    let header = object(header)?;
    let header = header.read_lock::<Map>().ok_or_else(|| invalid("its header is no object"))?;
    let named = text(&header, "alg").ok().flatten().unwrap_or_default();
    if named != algorithm {
        return Err(invalid(format!("it is signed with `{named}` and not with {algorithm}")));
    }
    if header.contains_key("crit") {
        return Err(invalid("its header asks for what is not known here (`crit`)"));
    }
    let (signed, signature) = (&token[..token.len() - signature.len() - 1], decoded(signature)?);
    let holds = match shared(algorithm) {
        Some(shared) => {
            bytes_of(key, "the key of jwt", |key| hmac::verify(&hmac::Key::new(shared, key), signed.as_bytes(), &signature).is_ok())?
        }
        None => bytes_of(key, "the key of jwt", |key| verify_with_pair(algorithm, key, signed.as_bytes(), &signature))?.map_err(bad)?,
    };
    if !holds {
        return Err(invalid("its signature is another one"));
    }
    let claims = object(claims)?;
    if let Some(map) = claims.read_lock::<Map>() {
        let leeway = options.get("leeway").map(time::period).transpose()?.map_or(Span::seconds(0), |period| period.0);
        check(&map, options, tiny::time(context)?, leeway)?;
    }
    Ok(claims)
}

fn check(claims: &Map, options: &Map, now: Millis, leeway: Span) -> Result<(), Fault> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_float().or_else(|_| value.as_int().map(|whole| whole as f64)) {
            Ok(seconds) => Ok(Some(seconds * 1000.0)),
            Err(_) => Err(invalid(format!("its `{name}` is no number"))),
        },
    };
    let (now, leeway) = (now.0 as f64, leeway.0 as f64);
    if time("exp")?.is_some_and(|exp| now >= exp + leeway) {
        return Err(invalid("it has expired"));
    }
    if time("nbf")?.is_some_and(|nbf| now < nbf - leeway) {
        return Err(invalid("its time has not come yet"));
    }
    if let Some(issuer) = text(options, "issuer")?
        && text(claims, "iss").ok().flatten() != Some(issuer)
    {
        return Err(invalid("it comes from another issuer"));
    }
    if let Some(audience) = text(options, "audience")? {
        let is_it = |value: &Dynamic| value.as_immutable_string_ref().is_ok_and(|text| text.as_str() == audience);
        let is_for = claims.get("aud").is_some_and(|aud| match aud.read_lock::<Array>() {
            Some(list) => list.iter().any(is_it),
            None => is_it(aud),
        });
        if !is_for {
            return Err(invalid("it is for another audience"));
        }
    }
    Ok(())
}

fn verify_with_pair(algorithm: &str, pem: &[u8], signed: &[u8], found: &[u8]) -> Result<bool, String> {
    let wrong = |why: &str| format!("the key of jwt is not a public key for {algorithm} in PEM form: {why}");
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|error| wrong(&error.to_string()))?;
    let key = public_key(&key).ok_or_else(|| wrong("it cannot be read"))?;
    let by: &dyn signature::VerificationAlgorithm = match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
        _ => &signature::ED25519,
    };
    Ok(signature::UnparsedPublicKey::new(by, key).verify(signed, found).is_ok())
}

/// The key itself within what a PEM file of a public key holds: a sequence of the algorithm and a string of bits.
fn public_key(der: &[u8]) -> Option<&[u8]> {
    let (inner, _) = element(der, 0x30)?;
    let (_, rest) = element(inner, 0x30)?;
    let (bits, _) = element(rest, 0x03)?;
    // The first byte counts bits that do not belong to it: none, for a key.
    bits.strip_prefix(&[0])
}

/// The content of the DER element at the front, if it is of this kind, and what follows it.
fn element(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first().filter(|(first, _)| **first == kind)?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}
