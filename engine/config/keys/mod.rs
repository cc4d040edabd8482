//! One file per key of events.yaml (or small group of keys): its type, how it is read and checked, its doc comment.
//!
//! The doc comments are the reference of the format: they become the descriptions of the JSON Schema that editors show.

pub mod batch;
pub mod cancel_on;
pub mod concurrency;
pub mod cron;
pub mod databases;
pub mod debounce;
pub mod defaults;
pub mod email;
pub mod engine;
pub mod env;
pub mod events;
pub mod exec;
pub mod functions;
pub mod handler;
pub mod http;
pub mod include;
pub mod limits;
pub mod names;
pub mod on;
pub mod rate_limit;
pub mod retention;
pub mod retries;
pub mod secrets;
pub mod singleton;
pub mod throttle;
pub mod timeouts;
pub mod unknown_events;
pub mod versions;
pub mod webhooks;
