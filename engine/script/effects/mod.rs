//! What a step may do to the world outside.

#[allow(dead_code, reason = "TEMP")]
pub mod guard;
