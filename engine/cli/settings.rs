//! What an engine is started with: the config's values, and over them those of flags and variables.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::base::Span;
use crate::config::Model;
use crate::store::sqlite::Durability;

use super::place;
use super::remote::variable;

/// What may be said over the config's `engine` block.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Listen on this address instead of the config's
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Use this database instead of the config's
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
    /// What a commit survives, instead of what the config says
    #[arg(long, value_enum)]
    pub durability: Option<Kept>,
    /// Wait so many milliseconds before each flush, as a slow disk does
    #[arg(long, value_name = "MS", default_value_t = 0, hide = true)]
    pub flush_delay: u32,
}

/// The durability as it is said on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kept {
    /// The loss of power, too
    Full,
    /// The end of the process; the loss of power may take the last commits back
    Normal,
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address that the server listens on.
    pub listen: SocketAddr,
    /// The database's file.
    pub database: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// The wait before each flush, for measurements of a slow disk.
    pub flush_delay: Span,
}

impl Settings {
    /// Puts the config at `root` and the overrides together.
    pub fn new(model: &Model, root: &Path, over: &Overrides) -> Settings {
        let durability = match (over.durability, model.engine.durability()) {
            (Some(Kept::Full), _) | (None, crate::config::Durability::Full) => Durability::Full,
            (Some(Kept::Normal), _) | (None, crate::config::Durability::Normal) => Durability::Normal,
        };
        Settings {
            listen: over.listen.unwrap_or_else(|| model.engine.listen()),
            database: over.database.clone().unwrap_or_else(|| place::database(model, root)),
            durability,
            flush_delay: Span(i64::from(over.flush_delay)),
        }
    }
}

/// The keys and tokens of this process's environment.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Who has one of these may send events.
    pub event: Vec<String>,
    /// Who has it may do everything.
    pub admin: Option<String>,
    /// Who has it may look.
    pub read: Option<String>,
}

impl Keys {
    /// Those that are set.
    pub fn from_environment() -> Keys {
        let listed = variable("STEPWELL_EVENT_KEYS").unwrap_or_default();
        let event = listed.split(',').map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        Keys { event, admin: variable("STEPWELL_ADMIN_TOKEN"), read: variable("STEPWELL_READ_TOKEN") }
    }
}
