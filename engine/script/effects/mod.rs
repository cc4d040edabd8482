//! What a step may do to the world outside.

pub(super) mod guard;
pub(super) mod http;
mod mocked;
pub(super) mod request;
