//! What a step may do to the world outside.

mod apart;
mod connections;
pub(super) mod db;
pub(super) mod email;
pub(super) mod exec;
pub(super) mod guard;
pub(super) mod http;
mod mocked;
pub(super) mod request;
