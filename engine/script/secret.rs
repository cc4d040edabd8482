//! Secrets: what `secret(name)` gives, and the search for them in everything that is stored or logged.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::base::limits::SECRET_LEAST_BYTES;

use super::error::{Fault, Thrown};
use super::value::quoted;

/// The secrets of a project by name; none where the environment has none of that name.
#[derive(Clone, Default, PartialEq)]
pub struct Secrets {
    values: BTreeMap<String, Option<Arc<str>>>,
    /// Every form in which a secret may turn up, longest first, with its name.
    forms: Vec<(String, Arc<str>)>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Secrets {
    /// Takes the secrets; values shorter than 8 bytes are given to scripts but not searched for (the config refuses them).
    pub fn new(values: BTreeMap<String, Option<String>>) -> Secrets {
        let mut forms = Vec::new();
        for (name, value) in &values {
            let Some(value) = value.as_deref().filter(|value| value.len() >= SECRET_LEAST_BYTES) else { continue };
            let name: Arc<str> = Arc::from(name.as_str());
            let mut add = |form: String| {
                if form.len() >= SECRET_LEAST_BYTES && !forms.iter().any(|(known, _)| *known == form) {
                    forms.push((form, Arc::clone(&name)));
                }
            };
            add(value.to_owned());
            let json = quoted(value);
            add(json[1..json.len() - 1].to_owned());
            add(url_encoded(value));
            in_addresses(value).into_iter().for_each(&mut add);
            // Base64 of a longer text shows a part of it in one of three forms; their inner part is the same wherever it stands.
            for skip in 0..3 {
                let padded = [vec![0; skip], value.as_bytes().to_vec()].concat();
                let whole = padded.len() / 3 * 3;
                for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                    let text = engine.encode(&padded[..whole]);
                    add(text[if skip == 0 { 0 } else { 4 }.min(text.len())..].to_owned());
                }
            }
        }
        forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        let values = values.into_iter().map(|(name, value)| (name, value.map(Arc::from))).collect();
        Secrets { values, forms }
    }

    /// The value of a secret: none where there is no such name, `Some(None)` where the environment does not have it.
    pub(super) fn get(&self, name: &str) -> Option<Option<Arc<str>>> {
        self.values.get(name).cloned()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Whether the environment has a value for this name.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(Option::is_some)
    }

    /// The text with `«secret NAME»` in place of every known secret.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (form, name) in &self.forms {
            if text.contains(form.as_str()) {
                text = Cow::Owned(text.replace(form.as_str(), &format!("«secret {name}»")));
            }
        }
        text
    }

    /// The value with every known secret hidden in its texts.
    pub fn hidden(&self, value: Value) -> Value {
        let text = value.to_string();
        match self.hide(&text) {
            Cow::Borrowed(_) => value,
            // A name has no character that JSON would write in another way.
            Cow::Owned(hidden) => serde_json::from_str(&hidden).unwrap_or_default(),
        }
    }

    /// Refuses a text that contains a known secret.
    pub(super) fn refuse(&self, text: &str, what: impl std::fmt::Display) -> Result<(), Fault> {
        match self.forms.iter().find(|(form, _)| text.contains(form.as_str())) {
            None => Ok(()),
            Some((_, name)) => Err(Thrown::last("E0406", format!("{what} contains the secret {name}, and a secret is never stored"))
                .help("leave the part out that shows it")
                .fault()),
        }
    }
}

fn url_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A text as an address has it that it was put into as it is: each part of one leaves other characters as they are.
fn in_addresses(text: &str) -> Vec<String> {
    let mut forms = vec![url::form_urlencoded::byte_serialize(text.as_bytes()).collect()];
    if let Ok(mut url) = url::Url::parse("http://user@host/") {
        // It has a host, so it takes a user.
        let _ = url.set_username(text);
        url.set_path(text);
        url.set_query(Some(text));
        url.set_fragment(Some(text));
        let parts = [Some(url.username()), url.path().strip_prefix('/'), url.query(), url.fragment()];
        forms.extend(parts.into_iter().flatten().map(str::to_owned));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::new(BTreeMap::from([("KEY".to_owned(), Some("sk/test \"1234567890".to_owned())), ("GONE".to_owned(), None)]))
    }

    #[test]
    fn a_secret_is_hidden_in_every_form() {
        let (secrets, value) = (secrets(), "sk/test \"1234567890");
        let forms = [
            value.to_owned(),
            quoted(value),
            url_encoded(value),
            url::Url::parse(&format!("http://{}@host/", url_encoded(value))).expect("an address").to_string(),
            url::Url::parse(&format!("http://host/path/{value}")).expect("an address").to_string(),
            url::Url::parse(&format!("http://host/?key={value}")).expect("an address").to_string(),
            url::Url::parse(&format!("http://host/#{value}")).expect("an address").to_string(),
            url::form_urlencoded::Serializer::new(String::new()).append_pair("key", value).finish(),
            STANDARD_NO_PAD.encode(format!("user:{value}")),
            STANDARD_NO_PAD.encode(format!("u:{value}")),
            STANDARD_NO_PAD.encode(format!(":{value}")),
            URL_SAFE_NO_PAD.encode(value),
        ];
        for form in forms {
            let hidden = secrets.hide(&form);
            assert!(hidden.contains("«secret KEY»"), "{form} became {hidden}");
            assert!(secrets.refuse(&form, "it").is_err(), "{form}");
        }
        assert_eq!(secrets.hide("nothing here"), "nothing here");
    }
}
