//! `email`: how `email::send` reaches a mail server.

use schemars::JsonSchema;

use crate::base::Diagnostic;

use super::super::reader::{Fields, MapShape, Reader, Value, choose};
use super::super::spanned::Spanned;
use super::super::tree::Node;
use super::databases::has_password;

/// The mail server that `email::send` hands its mails to.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Email {
    /// The server: `smtp://user@host:port` (STARTTLS; port 587 unless it says otherwise) or `smtps://user@host:port` (port 465).
    #[schemars(required)]
    pub smtp: Option<Spanned<String>>,
    /// The name of the secret, listed in `secrets`, that the user logs in with.
    pub password: Option<Spanned<String>>,
    /// The sender's address, unless a mail says otherwise.
    pub from: Option<Spanned<String>>,
    /// Whether `smtp://` has to be protected by STARTTLS: `required`, `offered` (where the server has it) or `never`; default
    /// `required` where there is a password, else `offered`.
    pub starttls: Option<Spanned<StartTls>>,
}

/// Whether a connection that begins without TLS has to turn to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum StartTls {
    /// No mail goes out without it.
    Required,
    /// Where the server has it.
    Offered,
    /// Without it.
    Never,
}

/// The parts of `smtp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whether TLS is there from the first byte.
    pub is_wrapped: bool,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name to log in with.
    pub user: Option<String>,
}

impl Email {
    /// The parts of its `smtp`; none where that cannot be used.
    pub fn server(&self) -> Option<Server> {
        let text = self.smtp.as_ref()?.value.as_str();
        let (is_wrapped, rest) = match text.split_once("://")? {
            ("smtp", rest) => (false, rest),
            ("smtps", rest) => (true, rest),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (address, if is_wrapped { 465 } else { 587 }),
        };
        let is_name = !host.is_empty() && host.chars().all(|letter| letter.is_alphanumeric() || ".-".contains(letter));
        let user = user.map(|user| user.replace("%40", "@"));
        is_name.then(|| Server { is_wrapped, host: host.to_owned(), port, user })
    }

    /// Whether STARTTLS has to be there.
    pub fn starttls(&self) -> StartTls {
        let default = if self.password.is_some() { StartTls::Required } else { StartTls::Offered };
        super::super::spanned::or(&self.starttls, default)
    }
}

impl MapShape for Email {
    const NAME: &'static str = "Email";
}

impl Value for StartTls {
    fn read(node: &Node, reader: &mut Reader) -> Option<StartTls> {
        choose(node, &[("required", StartTls::Required), ("offered", StartTls::Offered), ("never", StartTls::Never)], reader)
    }
}

impl Value for Email {
    fn read(node: &Node, reader: &mut Reader) -> Option<Email> {
        let mut fields = Fields::of::<Email>(node, "`email`", reader)?;
        let email = Email {
            smtp: fields.required("smtp"),
            password: fields.optional("password"),
            from: fields.optional("from"),
            starttls: fields.optional("starttls"),
        };
        fields.done();
        Some(email)
    }
}

/// Notes what of a mail server cannot be used.
pub(in crate::config) fn check(email: &Email, reader: &mut Reader) {
    let bad = |message: String, place: &crate::base::Location| Diagnostic::error("E0134", message).at(place.clone());
    if let Some(smtp) = &email.smtp {
        if has_password(&smtp.value) {
            let problem = bad("the password of a mail server does not stand in the file".to_owned(), &smtp.place);
            reader.note(problem.help("name the secret that has it: `password: NAME`, and list it: `secrets: [NAME]`"));
        } else {
            match email.server() {
                None => {
                    let problem = bad(format!("`{}` is not the address of a mail server", smtp.value), &smtp.place);
                    reader.note(problem.help("write smtp://user@host:587 or smtps://user@host"));
                }
                Some(server) => {
                    if let Some(password) = email.password.as_ref().filter(|_| server.user.is_none()) {
                        let problem = bad("a password without a user".to_owned(), &password.place);
                        reader.note(problem.help("the user stands in `smtp`: smtp://user@host"));
                    }
                    if let Some(starttls) = email.starttls.as_ref().filter(|_| server.is_wrapped) {
                        reader.note(bad("`smtps://` has TLS from its first byte, so there is no STARTTLS".to_owned(), &starttls.place));
                    }
                }
            }
        }
    }
    if let Some(from) = &email.from
        && !is_address(&from.value)
    {
        let problem = bad(format!("`{}` is not an address", from.value), &from.place);
        reader.note(problem.help("write shop@example.com or Shop <shop@example.com>"));
    }
}

/// Whether a text looks like `a@b` or `Name <a@b>`; the server says whether there is such an address.
fn is_address(text: &str) -> bool {
    let bare = text.trim().strip_suffix('>').map_or(text.trim(), |text| text.rsplit_once('<').map_or("", |(_, bare)| bare));
    let is_plain = !bare.contains(|letter: char| letter.is_whitespace() || letter.is_control() || "<>,".contains(letter));
    bare.split_once('@').is_some_and(|(local, domain)| is_plain && !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}
