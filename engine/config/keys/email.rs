//! `email`: how `email::send` reaches a mail server. Read and checked; not supported yet.

use schemars::JsonSchema;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// The mail server that `email::send` hands its mails to.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Email {
    /// The server: `smtp://host:port` or `smtps://host:port`.
    #[schemars(required)]
    pub smtp: Option<Spanned<String>>,
    /// The sender's address, unless a mail says otherwise.
    pub from: Option<Spanned<String>>,
}

impl MapShape for Email {
    const NAME: &'static str = "Email";
}

impl Value for Email {
    fn read(node: &Node, reader: &mut Reader) -> Option<Email> {
        let mut fields = Fields::of::<Email>(node, "`email`", reader)?;
        let email = Email { smtp: fields.required("smtp"), from: fields.optional("from") };
        fields.done();
        Some(email)
    }
}
