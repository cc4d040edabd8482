//! Functions of their arguments alone: what they give, and what they say of what makes no sense.

use super::*;

/// What an expression gives, as JSON.
fn gives(expression: &str) -> String {
    Bench::new(expression).finish().output().to_owned()
}

/// What an expression that fails says, with the help.
fn says(expression: &str) -> String {
    // Through `same`, what stands there is no literal to the checks before a run.
    let end = Bench::new(&format!("fn same(x) {{ x }} step(\"x\", || {{ {expression} }})")).attempts(3).finish();
    let error = end.row.error.as_ref().unwrap_or_else(|| panic!("{expression} gives {:?}", end.row.output));
    assert_eq!(error.attempts, Some(1), "{expression} is pointless to try again");
    format!("{} {} | {}", error.code, error.message, error.help.clone().unwrap_or_default())
}

fn all_give(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(expression, expected)| (expression, gives(expression), expected))
        .filter(|(_, found, expected)| found != *expected)
        .map(|(expression, found, expected)| format!("{expression}\n  gives:    {found}\n  expected: {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn all_say(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(expression, expected)| (expression, says(expression), expected))
        .filter(|(_, told, expected)| !told.contains(**expected))
        .map(|(expression, told, expected)| format!("{expression}\n  says:     {told}\n  expected: {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn times_follow_the_clocks_of_their_zone() {
    all_give(&[
        // The clocks go forward on this day: it has 23 hours.
        (r#"date("2026-03-29", "Europe/Berlin")"#, r#""2026-03-28T23:00:00.000Z""#),
        (r#"date("2026-03-28 12:00", "Europe/Berlin").add(#{ days: 1 }, "Europe/Berlin")"#, r#""2026-03-29T10:00:00.000Z""#),
        (r#"date("2026-03-28 12:00", "Europe/Berlin").add("24h")"#, r#""2026-03-29T11:00:00.000Z""#),
        (r#"date("2026-03-30", "Europe/Berlin").diff(date("2026-03-29", "Europe/Berlin"), "days", "Europe/Berlin")"#, "1"),
        (r#"date("2026-03-30", "Europe/Berlin").diff(date("2026-03-29", "Europe/Berlin"), "hours", "Europe/Berlin")"#, "23"),
        (r#"date("2026-03-29", "Europe/Berlin").diff(date("2026-03-30", "Europe/Berlin"), "hours")"#, "-23"),
        // A time that the clocks leave out is the one after the gap; one that they show twice the first.
        (r#"date("2026-03-29 02:30", "Europe/Berlin")"#, r#""2026-03-29T01:30:00.000Z""#),
        (r#"date("2026-10-25 02:30", "Europe/Berlin")"#, r#""2026-10-25T00:30:00.000Z""#),
        (r#"date("2026-02-28T09:30:00+05:30", "UTC")"#, r#""2026-02-28T04:00:00.000Z""#),
        (r#"date("31/01/2026", "%d/%m/%Y", "America/New_York")"#, r#""2026-01-31T05:00:00.000Z""#),
        (r#"date("2026-01-31 09:00 +0200", "%Y-%m-%d %H:%M %z", "America/New_York")"#, r#""2026-01-31T07:00:00.000Z""#),
        (r#"date("2024-02-29T00:00:00Z").add(#{ years: 1 })"#, r#""2025-02-28T00:00:00.000Z""#),
        (r#"date("2026-01-31T00:00:00Z").add(#{ months: -2, hours: 3 })"#, r#""2025-11-30T03:00:00.000Z""#),
        (
            r#"let t = date("2026-08-19T10:11:12.345Z"); [t.start_of("year"), t.start_of("month"), t.start_of("week"), t.start_of("hour")]"#,
            r#"["2026-01-01T00:00:00.000Z","2026-08-01T00:00:00.000Z","2026-08-17T00:00:00.000Z","2026-08-19T10:00:00.000Z"]"#,
        ),
        (
            r#"let p = date("2026-08-19T22:11:12.345Z").parts("Asia/Tokyo"); [p.day, p.hour, p.weekday, p.offset, p.ms]"#,
            "[20,7,4,32400,345]",
        ),
        (r#"date("2026-08-19T22:11:12Z").format("%Y week %V")"#, r#""2026 week 34""#),
        (r#"[duration("1h") * 3, 2 * duration("90s"), duration("1h") / 4, duration("1h") - duration("1m")]"#, r#"["3h","3m","15m","59m"]"#),
    ]);
    all_say(&[
        (r#"date("2026-02-30", "UTC")"#, "E0407 `2026-02-30` is not a date"),
        (r#"date("2026-02-28", same("Europe/Berlim"))"#, "there is no time zone `Europe/Berlim` | did you mean `Europe/Berlin`?"),
        (r#"date("x", "%Y", "UTC")"#, "`x` is no time by the pattern `%Y`"),
        (r#"now().format(same("%!"))"#, "is not a pattern for times"),
        (r#"now().add(#{ moths: 1 })"#, "there is no unit of time `moths` | did you mean `months`?"),
        (r#"now().add(#{ years: 100000 })"#, "calendar"),
        (r#"now().add(#{ days: 9223372036854775807 })"#, "outside of the calendar"),
        (r#"now().diff(now(), same("fortnights"))"#, "there is no unit of time `fortnights`"),
        (r#"duration("1m") - duration("1h")"#, "never negative"),
        (r#"duration("1m") * -1"#, "is no duration"),
        (r#"duration("1m") / 0"#, "divided by a number from 1"),
    ]);
}

#[test]
fn texts_and_bytes_come_back_as_they_were() {
    all_give(&[
        (r#"base64::decode(base64::encode("grün 😀"))"#, "\"grün 😀\""),
        (r#"[base64::decode("aGk="), base64::decode("aGk"), base64::decode("")]"#, r#"["hi","hi",""]"#),
        (r#"hex::encode(hex::decode_bytes("00FFa0"))"#, r#""00ffa0""#),
        (r#"base64::encode(hex::decode_bytes("fbff"))"#, r#""+/8=""#),
        (r#"base64::encode_url(hex::decode_bytes("fbff"))"#, r#""-_8""#),
        (r#"hex::encode(base64::decode_bytes("-_8"))"#, r#""fbff""#),
        (r#"url::decode(url::encode("a&b=c d/ü?%"))"#, r#""a&b=c d/ü?%""#),
        (
            r#"let u = url::parse("http://ada@EXAMPLE.com:81/a%20b?x=1#top"); [u.host, u.port, u.path, u.fragment, u.user, u.scheme]"#,
            r#"["example.com",81,"/a%20b","top","ada","http"]"#,
        ),
        (r#"url::parse("https://example.com/").port"#, "443"),
        (
            r#"url::build(#{ scheme: "http", host: "example.com", port: 81, query: #{ n: [1, 2] }, fragment: "x" })"#,
            r#""http://example.com:81/?n=1&n=2#x""#,
        ),
        (r#"html::escape("<a href=\"x\">&'")"#, r#""&lt;a href=&quot;x&quot;&gt;&amp;&#39;""#),
        (
            r#"template("{{ a.b }} {{ list.0 }} {{n|json}} {{ \"{{\" }} {{ html | html }} {{ u | url }} {{ none }}.", #{
            a: #{ b: "x" }, list: [1.5], n: "q\"", html: "<b>", u: "a b", none: () })"#,
            r#""x 1.5 \"q\\\"\" {{ &lt;b&gt; a%20b .""#,
        ),
    ]);
    all_say(&[
        (r#"base64::decode("a?b=")"#, "not base64: `?` at position 1"),
        (r#"base64::decode("/w==")"#, "no UTF-8 text: byte 0 does not fit | base64::decode_bytes gives the bytes"),
        (r#"hex::decode("0g")"#, "not hexadecimal: `g` at position 1"),
        (r#"hex::decode("abc")"#, "3 digits"),
        (r#"base64::encode(same(#{ a: 1 }))"#, "takes a text or bytes, and this is of type map | json::stringify"),
        (r#"url::decode("a%2")"#, "at position 1"),
        (r#"url::decode("%ff")"#, "no UTF-8 text"),
        (r#"url::parse("no url")"#, "`no url` is not a URL"),
        (r#"url::build(same(#{ hots: "x" }))"#, "a URL has no part `hots` | did you mean `host`?"),
        (r#"url::build(#{ host: "a.example/b?c" })"#, "is not the name of a host"),
        (r#"url::build(#{ host: "user@evil.exämple" })"#, "is not the name of a host"),
        ("template(\"Dear\\n  {{ nam }}\", #{ name: 1 })", "the template, line 2, column 6: there is no `nam` | did you mean `name`?"),
        (r#"template("{{ a", #{})"#, "line 1, column 1: `{{` without `}}`"),
        (r#"template("{{ a | htm }}", #{ a: 1 })"#, "there is no filter `htm`"),
        (r#"template("{{}}", #{ a: 1 })"#, "there is no path between the braces"),
    ]);
}

#[test]
fn patterns_find_replace_and_split() {
    all_give(&[
        (r#"regex::test("(?i)^ADA$", "ada")"#, "true"),
        (r#"[regex::find("x", "abc"), regex::find_all("x*", "axb")]"#, r#"[null,["","x",""]]"#),
        (r#"regex::captures("(?<y>\\d{4})-(\\d\\d)?", "on 2026-")"#, r#"{"0":"2026-","1":"2026","2":null,"y":"2026"}"#),
        (r#"regex::captures("x", "abc")"#, "null"),
        (r#"regex::replace("(?<a>\\w)(\\w)", "abcd!", "$2${a}")"#, r#""badc!""#),
        (r#"regex::replace("b*", "abc", "-")"#, r#""-a-c-""#),
        (r#"regex::replace("x", "abc", "$$1")"#, r#""abc""#),
        (r#"regex::split("\\s*[,;]\\s*", "a , b;c")"#, r#"["a","b","c"]"#),
        (r#"regex::find_all("ü.", "süß ün")"#, "[\"üß\",\"ün\"]"),
    ]);
    all_say(&[
        (r#"regex::test(same("a(b"), "x")"#, "`a(b` is not a pattern: unclosed group, at position 1"),
        (r#"regex::test(same("(?=a)"), "x")"#, "look-around"),
        (r#"regex::test(same("\\w{1000}{1000}"), "x")"#, "E0407"),
        (r#"let long = "a"; for i in 0..21 { long += long; } regex::test("a", long)"#, "is too long for regex::*"),
    ]);
}

#[test]
fn a_pattern_that_explodes_elsewhere_takes_time_in_proportion_to_the_text() {
    let script = r#"let long = "a"; for i in 0..18 { long += long; } regex::test("^(a+)+$", long + "!")"#;
    assert_eq!(gives(script), "false");
}

#[test]
fn checksums_are_those_of_the_standards() {
    all_give(&[
        (r#"hash::sha256("")"#, r#""e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855""#),
        (r#"hash::sha256(hex::decode_bytes("616263")) == hash::sha256("abc")"#, "true"),
        (r#"hash::md5("")"#, r#""d41d8cd98f00b204e9800998ecf8427e""#),
        // RFC 4231, the first and the third case.
        (
            r#"hmac::sha256(hex::decode_bytes("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"), "Hi There")"#,
            r#""b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7""#,
        ),
        (r#"[secure_eq("a", "a"), secure_eq("a", "b"), secure_eq("a", "ab"), secure_eq("", "")]"#, "[true,false,false,true]"),
    ]);
}

#[test]
fn a_secret_signs_and_does_not_come_out() {
    let give = |script: &str| Bench::new(script).secret("KEY", "a-secret-of-the-test").finish();
    let expected = "\"fa5ec95f9be8fd0a4ba7a5ce21c0e2e57e2b0fbdc67ab8cb1c9a6a54a87f1f0d\"".len();
    assert_eq!(give(r#"hmac::sha256(secret("KEY"), "x")"#).output().len(), expected);
    assert_eq!(give(r#"secure_eq(secret("KEY"), "a-secret-of-the-test")"#).output(), "true");
    assert_eq!(give(r#"base64::encode(secret("KEY"))"#).code(), "E0406");
    assert_eq!(give(r#"template("{{ a }}", #{ a: secret("KEY") })"#).code(), "E0406");
}

/// A token of jwt.io: the claims are `sub`, `name` and `iat`, the key is `your-256-bit-secret`.
const KNOWN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.\
                     SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";

#[test]
fn tokens_are_signed_and_checked() {
    all_give(&[
        (&format!(r#"jwt::verify("{KNOWN}", "your-256-bit-secret").name"#), r#""John Doe""#),
        (
            r#"let t = jwt::sign(#{ sub: "u", aud: ["a", "b"], iss: "me" }, "k", #{ alg: "HS512", kid: "1", expires_in: "1h" });
            let c = jwt::verify(t, "k", #{ alg: "HS512", audience: "b", issuer: "me" });
            [c.sub, c.exp - c.iat, json::parse(base64::decode(t.split(".")[0])).kid]"#,
            r#"["u",3600,"1"]"#,
        ),
        // The clock of an expiry outside of a step is recorded, so that a replay decides the same.
        (r#"let t = jwt::sign(#{}, "k", #{ expires_in: "1h" }); sleep("59m"); jwt::verify(t, "k").len()"#, "2"),
        (r#"let t = jwt::sign(#{ exp: 1 }, "k"); jwt::verify(t, "k", #{ leeway: "36500d" }).exp"#, "1"),
    ]);
    let tampered = KNOWN.replace("SflK", "SflL");
    // The header says that there is no signature, and there is none.
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.";
    all_say(&[
        (&format!(r#"jwt::verify("{tampered}", "your-256-bit-secret")"#), "E0428 the token is not valid: its signature is another one"),
        (&format!(r#"jwt::verify("{KNOWN}", "another")"#), "its signature is another one"),
        (&format!(r#"jwt::verify("{KNOWN}", "your-256-bit-secret", #{{ alg: "HS384" }})"#), "signed with `HS256` and not with HS384"),
        (&format!(r#"jwt::verify("{unsigned}", "k")"#), "signed with `none`"),
        (r#"jwt::verify("a.b", "k")"#, "three parts"),
        (r#"jwt::verify("a.b.c", "k")"#, "not base64"),
        (r#"jwt::verify(jwt::sign(#{ exp: 1 }, "k"), "k")"#, "it has expired"),
        (r#"jwt::verify(jwt::sign(#{ nbf: 99999999999 }, "k"), "k")"#, "its time has not come yet"),
        (r#"jwt::verify(jwt::sign(#{ exp: "soon" }, "k"), "k")"#, "its `exp` is no number"),
        (r#"jwt::verify(jwt::sign(#{}, "k"), "k", #{ audience: "a" })"#, "for another audience"),
        (r#"jwt::verify(jwt::sign(#{ iss: "x" }, "k"), "k", #{ issuer: "y" })"#, "another issuer"),
        (r#"jwt::sign(#{}, "")"#, "the key of jwt is empty"),
        (r#"jwt::sign(#{}, "-----BEGIN PUBLIC KEY-----")"#, "a key in PEM form is none for HS256"),
        (r#"jwt::sign(#{}, "k", #{ alg: "RS256" })"#, "the key has to be in PEM form"),
        (r#"jwt::sign(#{}, "k", #{ alg: "none" })"#, "jwt knows no `none`"),
        (r#"jwt::sign(#{}, "k", same(#{ algorithm: "x" }))"#, "jwt::sign has no option `algorithm`"),
    ]);
}

#[test]
fn tokens_of_pairs_of_keys_are_signed_with_one_and_checked_with_the_other() {
    let keys = [
        ("RS256", include_str!("keys/rsa.pem"), include_str!("keys/rsa.pub.pem")),
        ("EdDSA", include_str!("keys/ed25519.pem"), include_str!("keys/ed25519.pub.pem")),
    ];
    let run =
        |script: &str, private: &str, public: &str| Bench::new(script).env("PRIVATE", private).env("PUBLIC", public).attempts(1).finish();
    for (alg, private, public) in keys {
        let script = format!(
            r#"let o = #{{ alg: "{alg}" }}; let t = jwt::sign(#{{ sub: "u" }}, env("PRIVATE"), o);
               [jwt::verify(t, env("PUBLIC"), o).sub, t == jwt::sign(#{{ sub: "u" }}, env("PRIVATE"), o)]"#
        );
        assert_eq!(run(&script, private, public).output(), r#"["u",true]"#, "{alg}");
        let other = format!(r#"step("x", || jwt::verify(jwt::sign(#{{}}, "k"), env("PUBLIC"), #{{ alg: "{alg}" }}))"#);
        assert!(run(&other, private, public).message().contains("signed with `HS256`"));
        // A public key is known to everybody, so it is never taken as a shared one.
        let confused = r#"step("x", || jwt::sign(#{ sub: "admin" }, env("PUBLIC")))"#;
        assert!(run(confused, private, public).message().contains("none for HS256"));
    }
    let token = include_str!("keys/es256.token");
    let check = |token: &str| {
        let script = format!(r#"step("x", || jwt::verify("{token}", env("PUBLIC"), #{{ alg: "ES256" }}).sub)"#);
        run(&script, "", include_str!("keys/ec.pub.pem"))
    };
    assert_eq!(check(token).output(), r#""u1""#);
    assert_eq!(check(&token.replace("eyJzdWIiOiJ1MSJ9", "eyJzdWIiOiJ1MiJ9")).code(), "E0428");
    let signs = run(r#"step("x", || jwt::sign(#{}, env("PRIVATE"), #{ alg: "ES256" }))"#, keys[0].1, "");
    assert!(signs.message().contains("differ each time"), "{}", signs.message());
}
