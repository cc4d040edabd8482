//! `base64::*`, `hex::*`, `url::*`, `html::*`: texts and bytes in other clothes.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose as Base64};
use rhai::{Array, Blob, Dynamic, Engine, ImmutableString, Map, Module};
use url::Url;

use crate::base::diagnostic::nearest;
use crate::base::hex;

use super::super::error::{Fault, Thrown};
use super::super::value::{self, Secret};

/// Largest text of a URL's part that is read from a value, in bytes.
const PART_BYTES: usize = 64 * 1024;

pub(super) fn register(engine: &mut Engine) {
    let mut base64 = Module::new();
    base64.set_native_fn("encode", |data: Dynamic| encoded(&data, "base64::encode", |bytes| STANDARD.encode(bytes)));
    base64.set_native_fn("encode_url", |data: Dynamic| encoded(&data, "base64::encode_url", |bytes| URL_SAFE_NO_PAD.encode(bytes)));
    base64.set_native_fn("decode", |text: &str| readable(from_base64(text)?, "base64"));
    base64.set_native_fn("decode_bytes", from_base64);
    engine.register_static_module("base64", base64.into());
    let mut hex = Module::new();
    hex.set_native_fn("encode", |data: Dynamic| encoded(&data, "hex::encode", hex::encode));
    hex.set_native_fn("decode", |text: &str| readable(from_hex(text)?, "hex"));
    hex.set_native_fn("decode_bytes", from_hex);
    engine.register_static_module("hex", hex.into());
    let mut url = Module::new();
    url.set_native_fn("encode", |text: &str| Ok(percent_encoded(text)));
    url.set_native_fn("decode", percent_decoded);
    url.set_native_fn("parse", parse_url);
    url.set_native_fn("build", |parts: Map| build_url(&parts));
    engine.register_static_module("url", url.into());
    let mut html = Module::new();
    html.set_native_fn("escape", |text: &str| Ok(escaped_html(text)));
    engine.register_static_module("html", html.into());
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

/// The bytes of a text, of bytes, or of a secret.
pub(super) fn bytes_of<T>(data: &Dynamic, what: &str, read: impl FnOnce(&[u8]) -> T) -> Result<T, Fault> {
    if let Ok(text) = data.as_immutable_string_ref() {
        return Ok(read(text.as_bytes()));
    }
    if let Some(bytes) = data.read_lock::<Blob>() {
        return Ok(read(&bytes));
    }
    if let Some(secret) = data.read_lock::<Secret>() {
        return Ok(read(secret.value.as_bytes()));
    }
    let help = "json::stringify makes a text of any value";
    Err(Thrown::last("E0407", format!("{what} takes a text or bytes, and this is of type {}", data.type_name())).help(help).fault())
}

/// A text in another form; of a secret, what is made is a secret too.
fn encoded(data: &Dynamic, what: &str, form: impl FnOnce(&[u8]) -> String) -> Result<Dynamic, Fault> {
    let text = bytes_of(data, what, form)?;
    Ok(match data.read_lock::<Secret>() {
        Some(secret) => Dynamic::from(Secret { name: secret.name.clone(), value: text.into() }),
        None => text.into(),
    })
}

fn readable(bytes: Blob, what: &str) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("what the {what} text stands for is no UTF-8 text: byte {at} does not fit");
        Thrown::last("E0407", message).help(format!("{what}::decode_bytes gives the bytes")).fault()
    })
}

/// Reads base64 of both alphabets, with or without padding.
fn from_base64(text: &str) -> Result<Blob, Fault> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: Base64 = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: Base64 = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode(text).map_err(|error| {
        use base64::DecodeError as E;
        bad(match error {
            E::InvalidByte(at, byte) => format!("not base64: `{}` at position {at}", char::from(byte).escape_default()),
            E::InvalidLastSymbol { .. } | E::InvalidLength(_) => "not base64: the text ends too early".to_owned(),
            _ => "not base64: the padding is wrong".to_owned(),
        })
    })
}

fn from_hex(text: &str) -> Result<Blob, Fault> {
    if let Some((at, letter)) = text.char_indices().find(|(_, letter)| !letter.is_ascii_hexdigit()) {
        return Err(bad(format!("not hexadecimal: `{}` at position {at}", letter.escape_default())));
    }
    if text.len() % 2 == 1 {
        return Err(bad(format!("not hexadecimal: {} digits, and a byte has two", text.len())));
    }
    let half = |digit: u8| (char::from(digit)).to_digit(16).unwrap_or(0) as u8;
    Ok(text.as_bytes().chunks_exact(2).map(|pair| half(pair[0]) << 4 | half(pair[1])).collect())
}

/// A text in which all but letters, digits and `-._~` are percent-encoded.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn percent_decoded(text: &str) -> Result<String, Fault> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes().enumerate();
    while let Some((at, byte)) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut half = || rest.next().and_then(|(_, digit)| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (half(), half()) else {
            return Err(bad(format!("not percent-encoded: two hexadecimal digits follow a `%`, and at position {at} they do not")));
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| bad("what is percent-encoded is no UTF-8 text"))
}

fn parse_url(text: &str) -> Result<Map, Fault> {
    let url = Url::parse(text).map_err(|error| bad(format!("`{text}` is not a URL: {error}")))?;
    let mut query = Map::new();
    for (name, value) in url.query_pairs() {
        let value = Dynamic::from(value.into_owned());
        // A name that comes more than once has the list of its values.
        match query.get_mut(name.as_ref()) {
            None => {
                query.insert(name.as_ref().into(), value);
            }
            Some(known) if known.is_array() => {
                if let Some(mut list) = known.write_lock::<Array>() {
                    list.push(value);
                }
            }
            Some(known) => *known = Dynamic::from_array(vec![known.clone(), value]),
        }
    }
    let text = |text: Option<&str>| text.map_or(Dynamic::UNIT, |text| ImmutableString::from(text).into());
    let mut map = Map::new();
    map.insert("scheme".into(), url.scheme().into());
    map.insert("host".into(), text(url.host_str()));
    map.insert("port".into(), url.port_or_known_default().map_or(Dynamic::UNIT, |port| i64::from(port).into()));
    map.insert("path".into(), url.path().into());
    map.insert("query".into(), query.into());
    map.insert("fragment".into(), text(url.fragment()));
    map.insert("user".into(), text(Some(url.username()).filter(|name| !name.is_empty())));
    Ok(map)
}

pub(super) const PARTS: [&str; 6] = ["scheme", "host", "port", "path", "query", "fragment"];

fn build_url(parts: &Map) -> Result<String, Fault> {
    if let Some(other) = parts.keys().find(|name| !PARTS.contains(&name.as_str())) {
        let help = nearest(other, PARTS).map_or_else(|| PARTS.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(Thrown::last("E0407", format!("a URL has no part `{other}`")).help(help).fault());
    }
    let text = |name: &str| -> Result<Option<ImmutableString>, Fault> {
        match parts.get(name).filter(|value| !value.is_unit()) {
            None => Ok(None),
            Some(value) => value.clone().into_immutable_string().map(Some).map_err(|kind| bad(format!("{name} is a text, not {kind}"))),
        }
    };
    let scheme = text("scheme")?.unwrap_or_else(|| "https".into());
    let host = text("host")?.ok_or_else(|| bad("a URL has a `host`"))?;
    // What ends a host in a URL, or comes before one, has no place in it.
    if host.contains(|letter: char| letter.is_whitespace() || letter.is_control() || "/?#@\\".contains(letter))
        || (host.contains(':') && !host.starts_with('['))
    {
        return Err(bad(format!("`{host}` is not the name of a host")));
    }
    let mut url = Url::parse(&format!("{scheme}://{host}/")).map_err(|error| bad(format!("`{scheme}://{host}`: {error}")))?;
    if let Some(port) = parts.get("port").filter(|port| !port.is_unit()) {
        let port = port.as_int().ok().and_then(|port| u16::try_from(port).ok()).ok_or_else(|| bad("port is a number up to 65535"))?;
        url.set_port(Some(port)).map_err(|()| bad("this URL has no port"))?;
    }
    if let Some(path) = text("path")? {
        url.set_path(&path);
    }
    if let Some(query) = parts.get("query").filter(|query| !query.is_unit()) {
        let query = query.read_lock::<Map>().ok_or_else(|| bad("query is a map"))?;
        for (name, value) in query.iter() {
            let list = value.read_lock::<Array>().map_or_else(|| vec![value.clone()], |list| list.clone());
            for value in list {
                let value = match value.as_immutable_string_ref() {
                    Ok(text) => text.to_string(),
                    Err(_) => value::write(&value, format_args!("query.{name}"), PART_BYTES)?,
                };
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
    }
    if let Some(fragment) = text("fragment")? {
        url.set_fragment(Some(&fragment));
    }
    Ok(url.into())
}

/// A text that may stand in an HTML document, also within quotes.
pub(super) fn escaped_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
