//! `engine`: where it listens and where it keeps its data.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;

use crate::base::limits::{BODY_DEFAULT_BYTES, BODY_MOST_BYTES};
use crate::base::{Diagnostic, Span};

use super::super::quantity::Size;
use super::super::reader::{Fields, MapShape, Reader, Value, choose, not_yet, out_of_range};
use super::super::spanned::{Spanned, or};
use super::super::tree::{Node, Shape};

/// The engine itself: its address, its database, its limits on requests.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Engine {
    /// The address and port that the HTTP server listens on; default `127.0.0.1:8288`. Other machines can send events
    /// only if this is not a loopback address, and then keys are needed.
    #[schemars(with = "Option<String>")]
    pub listen: Option<Spanned<SocketAddr>>,
    /// The database file, relative to this folder; default `.stepwell/stepwell.db`.
    pub database: Option<Spanned<String>>,
    /// `full` (default) loses nothing that was acknowledged, also at a power loss; `normal` is faster, and a power loss may
    /// take back the last commits. Both survive a crash of the process.
    pub durability: Option<Spanned<Durability>>,
    /// How long a stop waits for running steps; default `25s`.
    pub shutdown_grace: Option<Spanned<Span>>,
    /// The largest request body; default `1MB`, at most `3MB`.
    pub body: Option<Spanned<Size>>,
    /// Origins of web pages that may call the HTTP API; default none.
    #[schemars(default)]
    pub cors: Vec<Spanned<String>>,
    /// Host names that the HTTP API answers to, besides loopback names and the address it listens on.
    #[schemars(default)]
    pub hosts: Vec<Spanned<String>>,
}

/// What a power loss may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Durability {
    /// Nothing that was acknowledged.
    #[default]
    Full,
    /// The last commits.
    Normal,
}

impl Engine {
    /// The address in force.
    pub fn listen(&self) -> SocketAddr {
        or(&self.listen, SocketAddr::from((Ipv4Addr::LOCALHOST, 8288)))
    }

    /// The database's path in force, relative to the config's folder unless absolute.
    pub fn database(&self) -> &str {
        self.database.as_ref().map_or(".stepwell/stepwell.db", |path| &path.value)
    }

    /// The durability in force.
    pub fn durability(&self) -> Durability {
        or(&self.durability, Durability::Full)
    }

    /// How long a stop waits for running steps.
    pub fn shutdown_grace(&self) -> Span {
        or(&self.shutdown_grace, Span::seconds(25))
    }

    /// The largest request body, in bytes.
    pub fn body_bytes(&self) -> u64 {
        or(&self.body, Size(BODY_DEFAULT_BYTES)).0
    }
}

impl MapShape for Engine {
    const NAME: &'static str = "Engine";
}

impl Value for Engine {
    fn read(node: &Node, reader: &mut Reader) -> Option<Engine> {
        let mut fields = Fields::of::<Engine>(node, "`engine`", reader)?;
        let engine = Engine {
            listen: fields.optional("listen"),
            database: fields.optional("database"),
            durability: fields.optional("durability"),
            shutdown_grace: fields.optional("shutdown_grace"),
            body: fields.optional("body"),
            cors: fields.optional("cors").unwrap_or_default(),
            hosts: fields.optional("hosts").unwrap_or_default(),
        };
        fields.done();
        if let Some(body) = &engine.body
            && !(1..=BODY_MOST_BYTES).contains(&body.value.0)
        {
            reader.note(out_of_range(&body.place, &format!("a body of {}", body.value), "1B to 3MB"));
        }
        if let Some(database) = &engine.database {
            if database.value.is_empty() {
                reader.note(Diagnostic::error("E0117", "the database's path is empty").at(database.place.clone()));
            } else if let Some((scheme, _)) = database.value.split_once("://") {
                reader.note(not_yet(&database.place, &format!("a {scheme} database")).help("give the path of a file"));
            }
        }
        Some(engine)
    }
}

impl Value for SocketAddr {
    fn read(node: &Node, reader: &mut Reader) -> Option<SocketAddr> {
        let expected = "an address and a port such as 127.0.0.1:8288";
        let problem = match &node.shape {
            Shape::Text(text) => {
                let address = text.strip_prefix("localhost:").map_or_else(|| text.clone(), |port| format!("127.0.0.1:{port}"));
                if let Ok(address) = address.parse() {
                    return Some(address);
                }
                let problem = Diagnostic::error("E0123", format!("`{text}` is not an address to listen on"))
                    .labelled(node.place.clone(), format!("expected {expected}"));
                match text.rsplit_once(':') {
                    Some(("", port)) => problem.help(format!("for every interface write 0.0.0.0:{port}")),
                    None if text.parse::<std::net::IpAddr>().is_ok() => problem.help("the port is missing"),
                    _ => problem,
                }
            }
            Shape::Integer(port) => Diagnostic::error("E0123", "the address is missing")
                .labelled(node.place.clone(), format!("expected {expected}"))
                .help(format!("write 127.0.0.1:{port}")),
            _ => super::super::reader::wrong(node, expected),
        };
        reader.note(problem);
        None
    }
}

impl Value for Durability {
    fn read(node: &Node, reader: &mut Reader) -> Option<Durability> {
        choose(node, &[("full", Durability::Full), ("normal", Durability::Normal)], reader)
    }
}
