//! `webhooks`: requests from elsewhere that become events. Read and checked; not supported yet.

use schemars::JsonSchema;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// `POST /webhooks/NAME`, verified, becomes an event.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Webhook {
    /// How the sender signs: `stripe`, `github`, …
    #[schemars(required)]
    pub scheme: Option<Spanned<String>>,
    /// The secret that signatures are checked with; its name, listed in `secrets`.
    pub secret: Option<Spanned<String>>,
    /// An expression that gives the event's name: `'stripe/' + body.type`.
    #[schemars(required)]
    pub event: Option<Spanned<String>>,
    /// An expression that gives the event's id, so that a repeated request starts nothing.
    pub id: Option<Spanned<String>>,
    /// An expression that gives the event's data; default `body`.
    pub data: Option<Spanned<String>>,
}

impl MapShape for Webhook {
    const NAME: &'static str = "Webhook";
}

impl Value for Webhook {
    fn read(node: &Node, reader: &mut Reader) -> Option<Webhook> {
        let mut fields = Fields::of::<Webhook>(node, "a webhook", reader)?;
        let webhook = Webhook {
            scheme: fields.required("scheme"),
            secret: fields.optional("secret"),
            event: fields.required("event"),
            id: fields.optional("id"),
            data: fields.optional("data"),
        };
        fields.done();
        Some(webhook)
    }
}
