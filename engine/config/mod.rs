//! events.yaml as a checked model with positions.
//!
//! All problems of a file are found in one go. Nothing here reads the environment, opens a database, compiles a script
//! or an expression, or writes a file.

mod check;
mod effective;
mod file;
mod help;
mod json;
pub mod keys;
mod limits;
mod load;
mod model;
mod quantity;
mod reader;
mod schema;
mod spanned;
mod suite;
mod tree;

pub use effective::{Origin, Setting, effective, effective_around, effective_function};
pub use json::Inline;
pub use keys::batch::Batch;
pub use keys::concurrency::Concurrency;
pub use keys::databases::{Database, Kind as DatabaseKind};
pub use keys::debounce::Debounce;
pub use keys::defaults::Defaults;
pub use keys::email::{Email, StartTls};
pub use keys::engine::{Durability, Engine};
pub use keys::env::EnvValue;
pub use keys::events::{Event, EventSchema};
pub use keys::exec::Exec;
pub use keys::functions::Function;
pub use keys::http::Http;
pub use keys::limits::Limits;
pub use keys::on::Trigger;
pub use keys::retention::Retention;
pub use keys::retries::Retries;
pub use keys::throttle::Throttle;
pub use keys::timeouts::Timeouts;
pub use keys::unknown_events::UnknownEvents;
pub use keys::versions::Versions;
pub use keys::webhooks::{SchemeWord, Webhook};
pub use load::{Loaded, load};
pub use model::Model;
pub use quantity::Size;
pub use schema::schema;
pub use spanned::{Spanned, Table};
pub use suite::{
    ByClock, Case, Expect, Given, Later, LoadedSuite, Mock, Reply, SentEvent, Suite, Target, TargetKind, With, load_suite, read_suite,
    suite_schema,
};
