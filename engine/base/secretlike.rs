//! Texts that look like secrets: keys with the marks that their makers give them, and long random texts where a name says
//! that they are one. Checksums, UUIDs, placeholders and prose look like none.

/// Letters and digits with these beginnings, so many of them at least, and whose they are.
const MARKED: [(&str, usize, &str); 19] = [
    ("sk_live_", 16, "a Stripe key"),
    ("rk_live_", 16, "a Stripe key"),
    ("whsec_", 24, "a webhook's secret"),
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghu_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("ghr_", 30, "a GitHub token"),
    ("github_pat_", 22, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 10, "a Slack token"),
    ("xoxp-", 10, "a Slack token"),
    ("xoxa-", 10, "a Slack token"),
    ("xoxr-", 10, "a Slack token"),
    ("xoxs-", 10, "a Slack token"),
    ("npm_", 30, "an npm token"),
    ("AIza", 35, "a Google key"),
    ("sk-ant-", 20, "an API key"),
    ("sk-proj-", 20, "an API key"),
];
/// Parts of names that say that a value is secret.
const NAMES: [&str; 9] = ["token", "secret", "password", "passwd", "apikey", "privatekey", "accesskey", "credential", "signingkey"];
/// Parts of texts that stand in for something.
const PLACEHOLDERS: [&str; 12] =
    ["example", "changeme", "change-me", "change_me", "placeholder", "your", "dummy", "sample", "xxxx", "fake", "test", "1234567890"];
/// Shortest random text.
const RANDOM_LEAST: usize = 20;
/// Least bits a character of a random text, as its own characters tell: prose and words have fewer.
const RANDOM_LEAST_BITS: f64 = 3.6;

/// What kind of secret a text looks like; `name` is the key or variable that holds it.
pub fn secretlike(name: Option<&str>, text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    if let Some((.., what)) = MARKED.iter().find(|(mark, least, _)| marked(text, mark, *least)) {
        return Some(what);
    }
    if words(text).any(|word| {
        word.len() == 20
            && (word.starts_with("AKIA") || word.starts_with("ASIA"))
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    }) {
        return (!is_placeholder(text)).then_some("an AWS key");
    }
    let plain: String = name?.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    // A token's name is none: `tokenUrl`, `secret_name`, `password_hash`.
    let says_so = NAMES.iter().any(|part| plain.ends_with(part) || plain.ends_with(&format!("{part}value")));
    (says_so && is_random(text)).then_some("a random text under such a name")
}

/// The runs of letters, digits and what keys are made of beside them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).filter(|word| !word.is_empty())
}

fn marked(text: &str, mark: &str, least: usize) -> bool {
    words(text).any(|word| {
        word.strip_prefix(mark).is_some_and(|rest| rest.len() >= least && !is_placeholder(rest) && different(rest) >= least.min(8))
    })
}

fn is_placeholder(text: &str) -> bool {
    let lower = text.to_lowercase();
    PLACEHOLDERS.iter().any(|part| lower.contains(part))
}

/// How many different characters there are.
fn different(text: &str) -> usize {
    text.chars().collect::<std::collections::BTreeSet<_>>().len()
}

/// Whether a text is random, and no checksum or UUID, which are random without being secret.
fn is_random(text: &str) -> bool {
    let one_word = text.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-.~".contains(c));
    let has = |test: fn(&char) -> bool| text.chars().any(|c| test(&c));
    let is_mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    let is_hexadecimal = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    text.len() >= RANDOM_LEAST && one_word && is_mixed && !is_hexadecimal && !is_placeholder(text) && bits(text) >= RANDOM_LEAST_BITS
}

/// Shannon's entropy of a text's characters, in bits a character.
fn bits(text: &str) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    for c in text.chars() {
        *counts.entry(c).or_insert(0u32) += 1;
    }
    let all = text.chars().count() as f64;
    counts.values().map(|count| f64::from(*count) / all).map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text in two parts, so that what scans this file for secrets finds none.
    fn joined(parts: [&str; 2]) -> String {
        parts.concat()
    }

    #[test]
    fn what_looks_like_a_secret() {
        for (name, text) in [
            (None, joined(["sk_li", "ve_51H8x2yLkJ3nQwErTy"])),
            (None, joined(["Bearer sk_li", "ve_51H8x2yLkJ3nQwErTy"])),
            (None, joined(["gh", "p_16C7e42F292c6912E7710c838347Ae178B4a"])),
            (None, joined(["AKI", "AIOSFODNN7EXAMPL3"])),
            (None, joined(["xox", "b-17653672481-19874698323"])),
            (None, joined(["-----BEGIN RSA PRIV", "ATE KEY-----\nMIIEpAIBAAKCAQEA"])),
            (Some("api_token"), "q9Zr7Lw2XkVb8Tn4Jh6Ms1Pd".to_owned()),
            (Some("SMTP_PASSWORD"), "q9Zr7-Lw2Xk.Vb8Tn4_Jh6Ms1Pd".to_owned()),
            (Some("clientSecret"), "aGk/q9Zr7Lw2XkVb8Tn4Jh6Ms1Pd==".to_owned()),
        ] {
            assert!(secretlike(name, &text).is_some(), "{name:?}: {text}");
        }
    }

    #[test]
    fn what_looks_like_none() {
        for (name, text) in [
            (None, "sk_live_".to_owned()),
            (None, joined(["sk_li", "ve_xxxxxxxxxxxxxxxxxxxx"])),
            (None, joined(["sk_te", "st_51H8x2yLkJ3nQwErTy"])),
            (None, joined(["AKI", "AIOSFODNN7EXAMPLE"])),
            (None, "q9Zr7Lw2XkVb8Tn4Jh6Ms1Pd".to_owned()),
            (Some("token"), "123456".to_owned()),
            (Some("token"), "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned()),
            (Some("token"), "0192f5a0-7c1e-7b3a-9d7e-3f1c2b4a5d6e".to_owned()),
            (Some("token"), "the token of the customer who pressed Pay".to_owned()),
            (Some("password"), "changeme".to_owned()),
            (Some("password"), "YourPasswordGoesHere2024Please".to_owned()),
            (Some("token_url"), "https://Auth.example.com/oauth2/V1/token".to_owned()),
            (Some("secret"), "STRIPE_WEBHOOK_SIGNING_KEY_1".to_owned()),
            (Some("digest"), "q9Zr7Lw2XkVb8Tn4Jh6Ms1Pd".to_owned()),
            (Some("password_hash"), "q9Zr7Lw2XkVb8Tn4Jh6Ms1Pd".to_owned()),
            (Some("api_token"), "aaaaaaaaaaaaaaaaaaaaB1".to_owned()),
        ] {
            assert_eq!(secretlike(name, &text), None, "{name:?}: {text}");
        }
    }
}
