//! `databases`: what scripts reach with `db::*`.

use schemars::JsonSchema;

use crate::base::{Diagnostic, Location};

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::{Spanned, Table};
use super::super::tree::Node;
use super::engine::Engine;

/// A database that scripts reach with `db::*`; never the engine's own.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:FILE`, relative to this folder, or `postgres://user@host:port/name`, with `?sslmode=require` to insist on TLS.
    #[schemars(required)]
    pub url: Option<Spanned<String>>,
    /// The name of the secret, listed in `secrets`, that is the password of a PostgreSQL database.
    pub password: Option<Spanned<String>>,
}

/// Where a database is, by its `url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A SQLite file, by its path.
    File(&'a str),
    /// A PostgreSQL server, by its URL.
    Server(&'a str),
}

impl Database {
    /// What its `url` names; none where it cannot be used.
    pub fn kind(&self) -> Option<Kind<'_>> {
        let url = self.url.as_ref()?.value.as_str();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Some(Kind::Server(url));
        }
        url.strip_prefix("sqlite:").filter(|path| !path.is_empty()).map(Kind::File)
    }
}

impl MapShape for Database {
    const NAME: &'static str = "Database";
}

impl Value for Database {
    fn read(node: &Node, reader: &mut Reader) -> Option<Database> {
        let mut fields = Fields::of::<Database>(node, "a database", reader)?;
        let database = Database { url: fields.required("url"), password: fields.optional("password") };
        fields.done();
        Some(database)
    }
}

fn bad(message: impl Into<String>, place: &Location) -> Diagnostic {
    Diagnostic::error("E0133", message.into()).at(place.clone())
}

/// Whether a URL has a password in it.
pub(in crate::config) fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// Notes databases that cannot be used.
pub(in crate::config) fn check(databases: &Table<Database>, engine: &Engine, reader: &mut Reader) {
    for (name, database) in databases.iter() {
        if let Some(problem) = super::names::id_problem("the database's name", &name.value, &name.place) {
            reader.note(problem);
        }
        let Some(url) = &database.url else { continue };
        match database.kind() {
            None => {
                let problem = bad(format!("`{}` is not the URL of a database", url.value), &url.place);
                reader.note(problem.help("write sqlite:data/crm.db or postgres://user@host:5432/name"));
            }
            Some(Kind::File(path)) => {
                if same_file(path, engine.database()) {
                    reader.note(bad("this is the engine's own database", &url.place).help("scripts keep values of their own with `kv::*`"));
                }
                if let Some(password) = &database.password {
                    reader.note(bad("a SQLite file has no password", &password.place));
                }
            }
            Some(Kind::Server(server)) if has_password(server) || server.contains("password=") => {
                let problem = bad("the password of a database does not stand in the file", &url.place);
                reader.note(problem.help("name the secret that has it: `password: NAME`, and list it: `secrets: [NAME]`"));
            }
            Some(Kind::Server(_)) => {}
        }
    }
}

/// Whether two paths of the config name the same file, as far as the paths tell.
fn same_file(one: &str, other: &str) -> bool {
    let parts = |path: &str| -> Vec<String> { path.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect() };
    parts(one) == parts(other) && one.starts_with('/') == other.starts_with('/')
}
