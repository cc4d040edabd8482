//! stepwell: a durable event engine. Events and functions are declared in `events.yaml`; handlers are Rhai scripts
//! whose steps are checkpointed before the script goes on. `ARCHITECTURE.md` shows the rooms.

pub mod base;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod exec;
pub mod expr;
pub mod project;
pub mod resident;
pub mod rules;
pub mod script;
pub mod server;
pub mod store;
pub mod testing;
pub mod web;
