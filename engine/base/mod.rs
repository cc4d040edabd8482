//! The foundation that every room may stand on: ids, time values, diagnostics and limits.
//!
//! Nothing here knows of the engine's rules, asks a clock, opens a file or imports another room.

pub mod alloc;
pub mod codes;
pub mod dense;
pub mod diagnostic;
pub mod hex;
pub mod histogram;
pub mod id;
pub mod json;
pub mod limits;
pub(crate) mod looks;
pub mod network;
pub mod secretlike;
pub mod size;
pub mod time;

pub use diagnostic::{Diagnostic, Location, Severity, Source};
pub use histogram::{Histogram, Reading};
pub use id::{EventId, Id, IdMaker, RunId};
pub use size::size;
pub use time::{Clock, Entropy, Millis, Span};

/// JSON text that is known to be valid, shared without copying.
pub type Json = std::sync::Arc<str>;
