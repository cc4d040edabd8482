//! `http`: rules for the requests that scripts send.

use schemars::JsonSchema;

use crate::base::network::Network;
use crate::base::{Diagnostic, Span};

use super::super::reader::{Fields, MapShape, Reader, Value, out_of_range};
use super::super::spanned::{Spanned, or};
use super::super::tree::{Node, Shape};

/// Rules for the requests that scripts send with `http::*`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Http {
    /// Longest time of one request, unless the call says otherwise; default `30s`.
    pub timeout: Option<Spanned<Span>>,
    /// Private networks that scripts may reach, such as `10.0.0.0/8`; default none. Public addresses are always allowed.
    #[schemars(default, with = "Vec<String>")]
    pub allow: Vec<Spanned<Network>>,
}

impl Http {
    /// The longest time of one request.
    pub fn timeout(&self) -> Span {
        or(&self.timeout, Span::seconds(30))
    }
}

impl MapShape for Http {
    const NAME: &'static str = "Http";
}

impl Value for Http {
    fn read(node: &Node, reader: &mut Reader) -> Option<Http> {
        let mut fields = Fields::of::<Http>(node, "`http`", reader)?;
        let http = Http { timeout: fields.optional("timeout"), allow: fields.optional("allow").unwrap_or_default() };
        fields.done();
        if let Some(timeout) = &http.timeout
            && timeout.value == Span(0)
        {
            reader.note(out_of_range(&timeout.place, "a time-out of 0", "more than 0"));
        }
        Some(http)
    }
}

impl Value for Network {
    fn read(node: &Node, reader: &mut Reader) -> Option<Network> {
        let Shape::Text(text) = &node.shape else {
            reader.wrong(node, "text with a network such as 10.0.0.0/8");
            return None;
        };
        match text.parse::<Network>() {
            Ok(network) => Some(network),
            Err(bad) => {
                let problem = Diagnostic::error("E0124", format!("`{text}` is not a network: {bad}")).at(node.place.clone());
                reader.note(problem.help("write an address, or an address and the number of its fixed bits: `10.0.0.0/8`"));
                None
            }
        }
    }
}
