//! Functions of their arguments alone, and the clock and the dice.

use super::Where::Anywhere;
use super::{Entry, entry};

#[rustfmt::skip]
pub(super) const TIME: &[Entry] = &[
    entry("now", &["() -> time"], Anywhere, "The time. Outside of a step it is recorded, so that a replay sees the same.", "now()", ""),
    entry("date", &["(text: text) -> time", "(text: text, zone: text) -> time", "(text: text, pattern: text, zone: text) -> time"], Anywhere,
        "The time that an RFC 3339 text names; with a zone, that of a date such as 2026-03-29 or 2026-03-29 09:30 there; with a pattern of strftime, what is written like that.",
        r#"date("29.03.2026 09:30", "%d.%m.%Y %H:%M", "Europe/Berlin")"#, r#""2026-03-29T07:30:00.000Z""#),
    entry("time.format", &["(pattern: text) -> text", "(pattern: text, zone: text) -> text"], Anywhere, "The time by a pattern of strftime, in UTC or in a zone.",
        r#"date("2026-03-29T07:30:00Z").format("%a %-d %b %H:%M", "Europe/Berlin")"#, r#""Sun 29 Mar 09:30""#),
    entry("time.parts", &["() -> map", "(zone: text) -> map"], Anywhere,
        "Its `year`, `month`, `day`, `hour`, `minute`, `second`, `ms`, `weekday` (1 is Monday), `day_of_year`, `offset` (seconds) and `zone`, in UTC or in a zone.",
        r#"date("2026-03-29T07:30:00Z").parts("Europe/Berlin").hour"#, "9"),
    entry("time.add", &["(length: duration | text | number | #{years, months, weeks, days, hours, minutes, seconds}) -> time",
        "(length: duration | text | number | #{years, months, weeks, days, hours, minutes, seconds}, zone: text) -> time"], Anywhere,
        "A later time (an earlier one for negative numbers): `+` with a duration, or by the calendar of UTC or of a zone. A month after 31 January is the last of February.",
        r#"date("2026-01-31T09:00:00Z").add(#{ months: 1 })"#, r#""2026-02-28T09:00:00.000Z""#),
    entry("time.start_of", &["(unit: text) -> time", "(unit: text, zone: text) -> time"], Anywhere,
        "The beginning of its year, month, week (Monday), day, hour, minute or second, in UTC or in a zone.",
        r#"date("2026-03-29T07:30:00Z").start_of("day", "Europe/Berlin")"#, r#""2026-03-28T23:00:00.000Z""#),
    entry("time.diff", &["(other: time, unit: text) -> whole", "(other: time, unit: text, zone: text) -> whole"], Anywhere,
        "The whole units since another time, negative where that one is later; by the calendar of UTC or of a zone.",
        r#"date("2026-03-01T00:00:00Z").diff(date("2026-01-31T00:00:00Z"), "months")"#, "1"),
    entry("duration", &["(length: text | number | duration) -> duration"], Anywhere, "A length of time: \"1h30m\", or seconds. It is added to a time, to another one, and multiplied with `*`.",
        "duration(90)", r#""1m30s""#),
    entry("uuid", &["() -> text"], Anywhere, "A random UUID. Outside of a step it is recorded.", "uuid()", ""),
    entry("random", &["() -> number", "(from: whole, to: whole) -> whole"], Anywhere,
        "A random number from 0 (included) to 1 (excluded), or a whole one from `from` to `to` (both included). Outside of a step it is recorded.",
        "random(1, 6)", ""),
    entry("pick", &["(array: array) -> any"], Anywhere, "A random element. Outside of a step the choice is recorded.",
        r#"pick(["red", "blue"])"#, ""),
];

#[rustfmt::skip]
pub(super) const JSON: &[Entry] = &[
    entry("json::parse", &["(text: text) -> any"], Anywhere, "Reads JSON text, exactly: a number that does not fit 64 bits is kept as it came.",
        r#"json::parse("[1, 12345678901234567890]")"#, "[1,12345678901234567890]"),
    entry("json::stringify", &["(value: any) -> text"], Anywhere, "The value as JSON text.",
        "json::stringify([1, true])", r#""[1,true]""#),
    entry("json::pretty", &["(value: any) -> text"], Anywhere, "The value as JSON text on several lines.",
        "json::pretty([1])", r#""[\n  1\n]""#),
    entry("json::get", &["(value: any, path: text) -> any", "(value: any, path: text, default: any) -> any"], Anywhere,
        "What lies at a path such as \"items.0.id\" or \"/items/0/id\"; () or the default where nothing does.",
        r#"json::get(#{ items: [#{ id: 7 }] }, "items.0.id")"#, "7"),
    entry("json::merge", &["(first: map, second: map) -> map"], Anywhere,
        "The first map with what the second one says: maps are merged, other values replaced, () removes.",
        "json::merge(#{ a: 1, b: 2 }, #{ b: () })", r#"{"a":1}"#),
];

#[rustfmt::skip]
pub(super) const TEXTS: &[Entry] = &[
    entry("template", &["(text: text, values: map) -> text"], Anywhere,
        "The text with what lies at a path in place of each `{{ path }}`; `{{ path | html }}`, `| url` and `| json` write it fit for that place, and `{{ \"{{\" }}` are two braces. A path that is not there is an error.",
        r#"template("Dear {{ user.name | html }}", #{ user: #{ name: "Ada & Co" } })"#, r#""Dear Ada &amp; Co""#),
    entry("base64::encode", &["(data: text | bytes | secret) -> text | secret"], Anywhere, "Base64 of a text's UTF-8 or of bytes; of a secret, it is a secret too.",
        r#"base64::encode("hi?>")"#, r#""aGk/Pg==""#),
    entry("base64::encode_url", &["(data: text | bytes | secret) -> text | secret"], Anywhere, "Base64 for URLs: with - and _, without padding.",
        r#"base64::encode_url("hi?>")"#, r#""aGk_Pg""#),
    entry("base64::decode", &["(text: text) -> text"], Anywhere, "The text that base64 of either alphabet stands for, padded or not.",
        r#"base64::decode("aGk_Pg")"#, r#""hi?>""#),
    entry("base64::decode_bytes", &["(text: text) -> bytes"], Anywhere, "The bytes that base64 stands for.",
        r#"base64::decode_bytes("AAH/").len()"#, "3"),
    entry("hex::encode", &["(data: text | bytes | secret) -> text | secret"], Anywhere, "Hexadecimal digits of a text's UTF-8 or of bytes.",
        r#"hex::encode("hi")"#, r#""6869""#),
    entry("hex::decode", &["(text: text) -> text"], Anywhere, "The text that hexadecimal digits stand for.", r#"hex::decode("6869")"#, r#""hi""#),
    entry("hex::decode_bytes", &["(text: text) -> bytes"], Anywhere, "The bytes that hexadecimal digits stand for.", r#"hex::decode_bytes("00ff").len()"#, "2"),
    entry("url::encode", &["(text: text) -> text"], Anywhere, "The text percent-encoded, as a part of a URL.", r#"url::encode("a b/ü")"#, r#""a%20b%2F%C3%BC""#),
    entry("url::decode", &["(text: text) -> text"], Anywhere, "The text that is percent-encoded.", r#"url::decode("a%20b%2F%C3%BC")"#, r#""a b/ü""#),
    entry("url::parse", &["(url: text) -> map"], Anywhere, "Its `scheme`, `host`, `port`, `path`, `query` (a map), `fragment` and `user`.",
        r#"url::parse("https://example.com/a?x=1&x=2").query"#, r#"{"x":["1","2"]}"#),
    entry("url::build", &["(parts: #{scheme, host, port, path, query, fragment}) -> text"], Anywhere, "A URL from its parts; `scheme` is https where none is given.",
        r#"url::build(#{ host: "example.com", path: "/a b", query: #{ q: "x&y" } })"#, r#""https://example.com/a%20b?q=x%26y""#),
    entry("html::escape", &["(text: text) -> text"], Anywhere, "The text fit for an HTML document, also within quotes.", r#"html::escape("<b> & 'c'")"#, r#""&lt;b&gt; &amp; &#39;c&#39;""#),
];

#[rustfmt::skip]
pub(super) const REGEX: &[Entry] = &[
    entry("regex::test", &["(pattern: text, text: text) -> flag"], Anywhere,
        "Whether the pattern fits a part of the text. Patterns are those of the crate regex: no look-around, no back-references; `(?i)` ignores case.",
        r#"regex::test("^[a-z]+\\d$", "abc1")"#, "true"),
    entry("regex::find", &["(pattern: text, text: text) -> text | nothing"], Anywhere, "The first part that fits, or ().", r#"regex::find("\\d+", "a12b345")"#, r#""12""#),
    entry("regex::find_all", &["(pattern: text, text: text) -> array"], Anywhere, "Every part that fits.", r#"regex::find_all("\\d+", "a12b345")"#, r#"["12","345"]"#),
    entry("regex::captures", &["(pattern: text, text: text) -> map | nothing"], Anywhere, "The groups of the first part that fits, by number (\"0\" is the whole) and by name, or ().",
        r#"regex::captures("(?<key>\\w+)=(\\w+)", "a=1")"#, r#"{"0":"a=1","1":"a","2":"1","key":"a"}"#),
    entry("regex::replace", &["(pattern: text, text: text, with: text) -> text"], Anywhere, "The text with every part that fits replaced; `$1` and `${name}` stand for groups, `$$` for a dollar.",
        r#"regex::replace("(\\w+)@", "ada@x, bob@y", "${1} at ")"#, r#""ada at x, bob at y""#),
    entry("regex::split", &["(pattern: text, text: text) -> array"], Anywhere, "The parts between what fits.", r#"regex::split(",\\s*", "a, b,c")"#, r#"["a","b","c"]"#),
];

const DATA: &[&str] = &["(data: text | bytes | secret) -> text"];
const SIGN: &[&str] = &["(key: text | bytes | secret, data: text | bytes | secret) -> text"];

#[rustfmt::skip]
pub(super) const CRYPTO: &[Entry] = &[
    entry("hash::sha256", DATA, Anywhere, "The checksum as hexadecimal digits.",
        r#"hash::sha256("abc")"#, r#""ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#),
    entry("hash::sha384", DATA, Anywhere, "As hash::sha256.", r#"hash::sha384("abc").len()"#, "96"),
    entry("hash::sha512", DATA, Anywhere, "As hash::sha256.", r#"hash::sha512("abc").len()"#, "128"),
    entry("hash::sha1", DATA, Anywhere, "As hash::sha256, for what still asks for it.", r#"hash::sha1("abc")"#, r#""a9993e364706816aba3e25717850c26c9cd0d89d""#),
    entry("hash::md5", DATA, Anywhere, "As hash::sha256, for what still asks for it.", r#"hash::md5("abc")"#, r#""900150983cd24fb0d6963f7d28e17f72""#),
    entry("hmac::sha256", SIGN, Anywhere, "The keyed checksum as hexadecimal digits.",
        r#"hmac::sha256("Jefe", "what do ya want for nothing?")"#, r#""5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843""#),
    entry("hmac::sha384", SIGN, Anywhere, "As hmac::sha256.", r#"hmac::sha384("Jefe", "x").len()"#, "96"),
    entry("hmac::sha512", SIGN, Anywhere, "As hmac::sha256.", r#"hmac::sha512("Jefe", "x").len()"#, "128"),
    entry("hmac::sha1", SIGN, Anywhere, "As hmac::sha256, for what still asks for it.", r#"hmac::sha1("Jefe", "what do ya want for nothing?")"#, r#""effcdf6ae5eb2fa2d27416d5f184df9c259a7c79""#),
    entry("secure_eq", &["(a: text | bytes | secret, b: text | bytes | secret) -> flag"], Anywhere,
        "Whether both are the same, in a time that does not tell where they differ.", r#"secure_eq(hmac::sha256("k", "x"), "1234")"#, "false"),
    entry("jwt::sign", &["(claims: map, key: text | bytes | secret) -> text", "(claims: map, key: text | bytes | secret, options: #{alg, kid, expires_in}) -> text"], Anywhere,
        "A signed token: by HS256 unless `alg` is HS384, HS512, RS256 or EdDSA (the last two with a private key in PEM form). `expires_in` adds `iat` and `exp`.",
        r#"jwt::sign(#{ sub: "u1" }, "a-key-of-32-bytes-or-more-is-best")"#, r#""eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MSJ9.hnGJYB9D66QrJIduZ-DgRd7P5yj1hK7PLjfXL7YXJDA""#),
    entry("jwt::verify", &["(token: text, key: text | bytes | secret) -> map", "(token: text, key: text | bytes | secret, options: #{alg, issuer, audience, leeway}) -> map"], Anywhere,
        "The claims of a token that is signed by `alg` (HS256; also ES256, RS256 and EdDSA with a public key in PEM form), whose `exp` and `nbf` hold, and that has this `issuer` and `audience`, where they are given; another token is an error.",
        r#"jwt::verify(jwt::sign(#{ sub: "u1" }, "the key"), "the key").sub"#, r#""u1""#),
];
