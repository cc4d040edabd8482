//! Test vectors. Those with a source are published by the schemes themselves; the others were made with
//! `openssl dgst -sha256 -hmac SECRET`.

use super::*;

/// A delivery and what becomes of it.
struct Vector {
    what: &'static str,
    scheme: Scheme,
    secrets: &'static [&'static str],
    headers: Vec<(&'static str, String)>,
    body: &'static str,
    /// Seconds since 1970.
    now: i64,
    expected: Result<(), Refused>,
}

impl Vector {
    fn verdict(&self) -> Result<(), Refused> {
        let verifier = Verifier::new(self.scheme.clone(), self.secrets, TOLERANCE).unwrap();
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        verifier.verify(Headers(&headers), self.body.as_bytes(), Millis(self.now * 1000))
    }
}

fn check(vectors: Vec<Vector>) {
    for vector in vectors {
        assert_eq!(vector.verdict(), vector.expected, "{}", vector.what);
    }
}

fn headers(list: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    list.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn missing(header: &str) -> Result<(), Refused> {
    Err(Refused::Missing(header.to_owned()))
}

fn malformed(header: &str, expected: &'static str) -> Result<(), Refused> {
    Err(Refused::Malformed { header: header.to_owned(), expected })
}

fn old(age: i64) -> Result<(), Refused> {
    Err(Refused::Old { age: Span::seconds(age), tolerance: TOLERANCE })
}

fn ahead(ahead: i64) -> Result<(), Refused> {
    Err(Refused::Ahead { ahead: Span::seconds(ahead), tolerance: TOLERANCE })
}

#[test]
fn github() {
    const SECRET: &[&str] = &["It's a Secret to Everybody"];
    const HEADER: &str = "x-hub-signature-256";
    /// The example of GitHub's "Validating webhook deliveries", with its secret and the body below.
    const GOOD: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    const WRONG: &str = "sha256=857107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let one = |what, secrets, headers, body, expected| Vector { what, scheme: Scheme::Github, secrets, headers, body, now: 0, expected };
    let body = "Hello, World!";
    let upper = GOOD.to_uppercase().replace("SHA256=", "sha256=");
    let shape = "sha256= and hexadecimal digits";
    check(vec![
        one("good", SECRET, headers(&[(HEADER, GOOD)]), body, Ok(())),
        one("large digits", SECRET, headers(&[(HEADER, &upper)]), body, Ok(())),
        one("the second secret", &["another one", "It's a Secret to Everybody"], headers(&[(HEADER, GOOD)]), body, Ok(())),
        one("several signatures", SECRET, headers(&[(HEADER, WRONG), (HEADER, GOOD)]), body, Ok(())),
        one("tampered", SECRET, headers(&[(HEADER, GOOD)]), "Hello, World?", Err(Refused::Wrong)),
        one("a byte more", SECRET, headers(&[(HEADER, GOOD)]), "Hello, World!\n", Err(Refused::Wrong)),
        one("another signature", SECRET, headers(&[(HEADER, WRONG)]), body, Err(Refused::Wrong)),
        one("wrong secret", &["It's a secret to everybody"], headers(&[(HEADER, GOOD)]), body, Err(Refused::Wrong)),
        one("cut short", SECRET, headers(&[(HEADER, &GOOD[..20])]), body, malformed(HEADER, shape)),
        one("half of it", SECRET, headers(&[(HEADER, &GOOD[..39])]), body, Err(Refused::Wrong)),
        one("nothing but the prefix", SECRET, headers(&[(HEADER, "sha256=")]), body, Err(Refused::Wrong)),
        one("no prefix", SECRET, headers(&[(HEADER, &GOOD[7..])]), body, malformed(HEADER, shape)),
        one("missing", SECRET, headers(&[]), body, missing(HEADER)),
        one("the old header alone", SECRET, headers(&[("x-hub-signature", "sha1=00")]), body, missing(HEADER)),
        one("no secret", &[], headers(&[(HEADER, GOOD)]), body, Err(Refused::NoSecret)),
    ]);
}

#[test]
fn standard_webhooks() {
    const TIME: &str = "1614265330";
    const NOW: i64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SECRET: &[&str] = &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
    /// Of the reference libraries of Standard Webhooks.
    const GOOD: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const WRONG: &str = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";
    let with = |time: &str, signature: &str| {
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        headers(&[("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)])
    };
    let without = |name: &str| with(TIME, GOOD).into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let one =
        |what, secrets, headers, now, expected| Vector { what, scheme: Scheme::Standard, secrets, headers, body: BODY, now, expected };
    let several = format!("v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== {WRONG} {GOOD}");
    let twice = [with(TIME, GOOD), headers(&[("webhook-timestamp", "1614265331")])].concat();
    let svix = with(TIME, GOOD).into_iter().map(|(name, value)| match name {
        "webhook-id" => ("svix-id", value),
        "webhook-timestamp" => ("svix-timestamp", value),
        _ => ("svix-signature", value),
    });
    check(vec![
        one("good", SECRET, with(TIME, GOOD), NOW, Ok(())),
        one("a secret without its prefix", &["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], with(TIME, GOOD), NOW, Ok(())),
        one("several signatures", SECRET, with(TIME, &several), NOW, Ok(())),
        one("under the names of Svix", SECRET, svix.collect(), NOW, Ok(())),
        one("rotating", &["whsec_plJ3nmyCDGBKInavdOK15jsl", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], with(TIME, GOOD), NOW, Ok(())),
        one("just not too old", SECRET, with(TIME, GOOD), NOW + 300, Ok(())),
        one("stale", SECRET, with(TIME, GOOD), NOW + 301, old(301)),
        one("just not too far ahead", SECRET, with(TIME, GOOD), NOW - 300, Ok(())),
        one("from the future", SECRET, with(TIME, GOOD), NOW - 301, ahead(301)),
        one("another time", SECRET, with("1614265331", GOOD), NOW, Err(Refused::Wrong)),
        Vector { body: r#"{"test": 2432232315}"#, ..one("tampered", SECRET, with(TIME, GOOD), NOW, Err(Refused::Wrong)) },
        one("another signature", SECRET, with(TIME, WRONG), NOW, Err(Refused::Wrong)),
        one("stale and wrong tells of no time", SECRET, with(TIME, WRONG), NOW + 301, Err(Refused::Wrong)),
        one("wrong secret", &["whsec_plJ3nmyCDGBKInavdOK15jsl"], with(TIME, GOOD), NOW, Err(Refused::Wrong)),
        one(
            "another version alone",
            SECRET,
            with(TIME, &GOOD.replace("v1,", "v2,")),
            NOW,
            malformed("webhook-signature", "v1, and base64"),
        ),
        one("no signature", SECRET, with(TIME, ""), NOW, malformed("webhook-signature", "v1, and base64")),
        one("a time in words", SECRET, with("now", GOOD), NOW, malformed("webhook-timestamp", "a time in seconds since 1970")),
        one("two times", SECRET, twice, NOW, Err(Refused::Twice("webhook-timestamp".to_owned()))),
        one("missing id", SECRET, without("webhook-id"), NOW, missing("webhook-id")),
        one("missing time", SECRET, without("webhook-timestamp"), NOW, missing("webhook-timestamp")),
        one("missing signature", SECRET, without("webhook-signature"), NOW, missing("webhook-signature")),
        Vector {
            what: "Svix's documented example",
            scheme: Scheme::Standard,
            secrets: &["whsec_plJ3nmyCDGBKInavdOK15jsl"],
            headers: headers(&[
                ("svix-id", "msg_loFOjxBNrRLzqYUf"),
                ("svix-timestamp", "1731705121"),
                ("svix-signature", "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="),
            ]),
            body: r#"{"event_type":"ping","data":{"success":true}}"#,
            now: 1_731_705_121,
            expected: Ok(()),
        },
    ]);
    let bad = Verifier::new(Scheme::Standard, &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64!"], TOLERANCE);
    assert_eq!(bad.unwrap_err(), (1, BadSecret));
    assert_eq!(Verifier::new(Scheme::Standard, &["whsec_"], TOLERANCE).unwrap_err(), (0, BadSecret));
}

#[test]
fn stripe() {
    const HEADER: &str = "stripe-signature";
    const NOW: i64 = 1_492_774_577;
    const BODY: &str = r#"{"id":"evt_1","type":"charge.succeeded"}"#;
    const SECRET: &[&str] = &["whsec_test_secret"];
    const GOOD: &str = "4ee5e8d695c9619e003fd480d3d51700d924e29697337d379a6ef6e06e703ab4";
    /// Made with `whsec_old_secret`.
    const WITH_OLD: &str = "ee6ffcd8eb089ce81b93a0d356b91e80f6130cf8e0016db96a3f03de8b795239";
    const SHAPE: &str = "t=TIME,v1=SIGNATURE";
    let with = |value: &str| headers(&[(HEADER, value)]);
    let one = |what, secrets, value: String, now, expected| Vector {
        what,
        scheme: Scheme::Stripe,
        secrets,
        headers: with(&value),
        body: BODY,
        now,
        expected,
    };
    check(vec![
        one("good", SECRET, format!("t=1492774577,v1={GOOD}"), NOW, Ok(())),
        one("in another order, with spaces", SECRET, format!("v1={GOOD}, t=1492774577"), NOW, Ok(())),
        one("with a version for tests", SECRET, format!("t=1492774577,v1={GOOD},v0={}", "6ffbb59b".repeat(8)), NOW, Ok(())),
        one("several signatures", SECRET, format!("t=1492774577,v1={WITH_OLD},v1={GOOD}"), NOW, Ok(())),
        one("rotating here", &["whsec_test_secret", "whsec_old_secret"], format!("t=1492774577,v1={WITH_OLD}"), NOW, Ok(())),
        one("just not too old", SECRET, format!("t=1492774577,v1={GOOD}"), NOW + 300, Ok(())),
        one("stale", SECRET, format!("t=1492774577,v1={GOOD}"), NOW + 301, old(301)),
        one("ahead, which Stripe's libraries take", SECRET, format!("t=1492774577,v1={GOOD}"), NOW - 3_600, Ok(())),
        one("another time", SECRET, format!("t=1492774578,v1={GOOD}"), NOW, Err(Refused::Wrong)),
        one("wrong secret", &["whsec_other_secret"], format!("t=1492774577,v1={GOOD}"), NOW, Err(Refused::Wrong)),
        one("a good one as another version", SECRET, format!("t=1492774577,v0={GOOD}"), NOW, malformed(HEADER, SHAPE)),
        one("two times", SECRET, format!("t=1492774577,t=1492774578,v1={GOOD}"), NOW, malformed(HEADER, SHAPE)),
        one("no time", SECRET, format!("v1={GOOD}"), NOW, malformed(HEADER, SHAPE)),
        one("a time below zero", SECRET, format!("t=-1,v1={GOOD}"), NOW, malformed(HEADER, "a time in seconds since 1970")),
        one("nothing of it", SECRET, "nonsense".to_owned(), NOW, malformed(HEADER, SHAPE)),
        Vector {
            what: "tampered",
            scheme: Scheme::Stripe,
            secrets: SECRET,
            headers: with(&format!("t=1492774577,v1={GOOD}")),
            body: r#"{"id":"evt_1","type":"charge.failed"}"#,
            now: NOW,
            expected: Err(Refused::Wrong),
        },
        Vector {
            what: "missing",
            scheme: Scheme::Stripe,
            secrets: SECRET,
            headers: Vec::new(),
            body: BODY,
            now: NOW,
            expected: missing(HEADER),
        },
    ]);
}

#[test]
fn slack() {
    const TIME: &str = "x-slack-request-timestamp";
    const HEADER: &str = "x-slack-signature";
    const NOW: i64 = 1_531_420_618;
    /// The example of Slack's "Verifying requests from Slack": its secret, body and signature.
    const SECRET: &[&str] = &["8f742231b10e8888abcd99yyyzzz85a5"];
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar\
        &user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const GOOD: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let with = |time: &str, signature: &str| headers(&[(TIME, time), (HEADER, signature)]);
    let one = |what, secrets, headers, body, now, expected| Vector { what, scheme: Scheme::Slack, secrets, headers, body, now, expected };
    let good = || with("1531420618", GOOD);
    check(vec![
        one("good", SECRET, good(), BODY, NOW, Ok(())),
        one("rotating", &["another one", "8f742231b10e8888abcd99yyyzzz85a5"], good(), BODY, NOW, Ok(())),
        one("tampered", SECRET, good(), &BODY[1..], NOW, Err(Refused::Wrong)),
        one("wrong secret", &["9f742231b10e8888abcd99yyyzzz85a5"], good(), BODY, NOW, Err(Refused::Wrong)),
        one("stale", SECRET, good(), BODY, NOW + 301, old(301)),
        one("from the future", SECRET, good(), BODY, NOW - 301, ahead(301)),
        one("another time", SECRET, with("1531420619", GOOD), BODY, NOW, Err(Refused::Wrong)),
        one(
            "another version",
            SECRET,
            with("1531420618", &GOOD.replace("v0", "v1")),
            BODY,
            NOW,
            malformed(HEADER, "v0= and hexadecimal digits"),
        ),
        one("missing time", SECRET, headers(&[(HEADER, GOOD)]), BODY, NOW, missing(TIME)),
        one("missing signature", SECRET, headers(&[(TIME, "1531420618")]), BODY, NOW, missing(HEADER)),
    ]);
}

#[test]
fn signatures_that_the_config_spells_out() {
    const SECRET: &[&str] = &["a generic secret"];
    const BOTH: &[&str] = &["the secret before", "a generic secret"];
    const BODY: &str = r#"{"id":1}"#;
    let plain = |algorithm, encoding, prefix: &str| Signature {
        header: "x-signature".to_owned(),
        algorithm,
        encoding,
        prefix: prefix.to_owned(),
        timestamp: None,
        signed: vec![Part::Body],
    };
    let timed = Signature {
        timestamp: Some("x-time".to_owned()),
        signed: Part::read("{X-Message-Id}{X-Time}{body}").unwrap(),
        ..plain(Algorithm::Sha256, Encoding::Hex, "")
    };
    let one = |what, signature: Signature, headers, now, expected| Vector {
        what,
        scheme: Scheme::Hmac(signature),
        secrets: SECRET,
        headers,
        body: BODY,
        now,
        expected,
    };
    let sha1 = "bbcdd97a0a74ca2c1148f6cccbf5d4d512c18fff";
    let sha512 = "MOwZ18BQsBHdt6/ZJ2EdrkpZ+ELT6kdcJ2p1PERaf1a5cdQtZl9W2XF7YG0wxRvelS1u4PcZLqAg072fUtEd9g==";
    // `hmac.new(secret, body, "sha256").hexdigest()` of Python's hmac, with SECRET and with the secret before it.
    let sha256 = "ada7e9d9e4b2e592bbae8b25e7577c9d6a2a5bc2dce0e133a8a8cb0c7f7c584a";
    let before = "16631e6d1d27e8ad3f1e4a81e9a4e610caaeb28f967bbbf695da0c62c108553b";
    let signed = |what, signatures: &[&str], expected| {
        let list: Vec<_> = signatures.iter().map(|signature| ("x-signature", *signature)).collect();
        one(what, plain(Algorithm::Sha256, Encoding::Hex, ""), headers(&list), 0, expected)
    };
    let with_time = |time: &str| {
        let signature = "a453e69eb8a111e4284b38ec77c4f5e83078412703ae6e5a2a7a20b643b3a4b4";
        headers(&[("x-message-id", "abc"), ("x-time", time), ("x-signature", signature)])
    };
    check(vec![
        one(
            "SHA-1 with a prefix",
            plain(Algorithm::Sha1, Encoding::Hex, "sha1="),
            headers(&[("x-signature", &format!("sha1={sha1}"))]),
            0,
            Ok(()),
        ),
        one("SHA-512 in base64", plain(Algorithm::Sha512, Encoding::Base64, ""), headers(&[("x-signature", sha512)]), 0, Ok(())),
        one(
            "base64 without padding",
            plain(Algorithm::Sha512, Encoding::Base64, ""),
            headers(&[("x-signature", sha512.trim_end_matches('='))]),
            0,
            Ok(()),
        ),
        one("another algorithm", plain(Algorithm::Sha256, Encoding::Hex, ""), headers(&[("x-signature", sha1)]), 0, Err(Refused::Wrong)),
        signed("SHA-256", &[sha256], Ok(())),
        signed("several signatures", &[before, sha256], Ok(())),
        signed("another signature", &[before], Err(Refused::Wrong)),
        signed("missing", &[], missing("x-signature")),
        Vector { body: r#"{"id":2}"#, ..signed("tampered", &[sha256], Err(Refused::Wrong)) },
        Vector { secrets: &["A generic secret"], ..signed("wrong secret", &[sha256], Err(Refused::Wrong)) },
        Vector { secrets: BOTH, ..signed("the new one of two secrets", &[sha256], Ok(())) },
        Vector { secrets: BOTH, ..signed("the old one of two secrets", &[before], Ok(())) },
        one("with headers and a time", timed.clone(), with_time("1614265330"), 1_614_265_330, Ok(())),
        one("stale", timed.clone(), with_time("1614265330"), 1_614_265_631, old(301)),
        one("from the future", timed.clone(), with_time("1614265330"), 1_614_265_029, ahead(301)),
        one("another time", timed.clone(), with_time("1614265331"), 1_614_265_331, Err(Refused::Wrong)),
        one("a signed header is missing", timed, with_time("1614265330").split_off(1), 1_614_265_330, missing("x-message-id")),
    ]);
}

#[test]
fn what_is_signed_is_spelled_with_braces() {
    let read = |template: &str| Part::read(template);
    let text = |text: &str| Part::Text(text.to_owned());
    assert_eq!(read("{body}"), Ok(vec![Part::Body]));
    assert_eq!(read("v0:{X-Time}:{body}!"), Ok(vec![text("v0:"), Part::Header("x-time".to_owned()), text(":"), Part::Body, text("!")]));
    for (template, part) in
        [("", "is missing"), ("{X-Time}", "is missing"), ("{body", "no `}`"), ("{}{body}", "neither"), ("{a b}{body}", "neither")]
    {
        let problem = read(template).unwrap_err();
        assert!(problem.contains(part), "{template}: {problem}");
    }
}

#[test]
fn times_in_milliseconds_are_known_by_their_size() {
    assert_eq!(seconds("t", "1614265330"), Ok(Millis(1_614_265_330_000)));
    assert_eq!(seconds("t", "1614265330123"), Ok(Millis(1_614_265_330_123)));
    for wrong in ["", "+1", "1.5", "99999999999999999999", "１"] {
        assert!(seconds("t", wrong).is_err(), "{wrong}");
    }
}

#[test]
fn headers_alone_tell_what_is_not_signed_at_all() {
    let verifier = Verifier::new(Scheme::Github, &["It's a Secret to Everybody"], TOLERANCE).unwrap();
    let looked = |list: &[(&str, &str)]| verifier.look(Headers(list));
    assert_eq!(looked(&[]), missing("x-hub-signature-256"));
    assert_eq!(looked(&[("x-hub-signature-256", "nonsense")]), malformed("x-hub-signature-256", "sha256= and hexadecimal digits"));
    assert_eq!(looked(&[("x-hub-signature-256", "sha256=00")]), Ok(()), "whether it fits hangs on the body");
    let without = Verifier::new(Scheme::Github, &[], TOLERANCE).unwrap();
    assert_eq!(without.look(Headers(&[("x-hub-signature-256", "sha256=00")])), Err(Refused::NoSecret));
}

#[test]
fn a_request_with_a_signed_time_has_a_fingerprint() {
    let made = |time: &str, body: &str| {
        let verifier = Verifier::new(Scheme::Slack, &["a secret"], TOLERANCE).unwrap();
        verifier.fingerprint(Headers(&[("x-slack-request-timestamp", time), ("x-slack-signature", "v0=00")]), body.as_bytes()).unwrap()
    };
    assert_eq!(made("1531420618", "a=1"), made("1531420618", "a=1"));
    assert_ne!(made("1531420618", "a=1"), made("1531420619", "a=1"));
    assert_ne!(made("1531420618", "a=1"), made("1531420618", "a=2"));
    let github = Verifier::new(Scheme::Github, &["a secret"], TOLERANCE).unwrap();
    assert_eq!(github.fingerprint(Headers(&[("x-hub-signature-256", "sha256=00")]), b"a=1"), None, "no time is signed");
}

#[test]
fn a_verifier_shows_no_secret() {
    let verifier = Verifier::new(Scheme::Github, &["It's a Secret to Everybody"], TOLERANCE).unwrap();
    assert!(!format!("{verifier:?}").contains("Secret"));
}
