//! The pure core: what may happen to a run, decided from values alone.
//!
//! A function here takes a state, an input and the time, and returns `Write`s and what they expect to find. Nothing
//! here waits, asks a clock, opens a file, or knows of YAML, Rhai, SQLite, tokio or HTTP.

pub mod cron;
pub mod deadlock;
pub mod ended;
pub mod family;
pub mod fit;
pub mod gates;
pub mod matching;
pub mod outcome;
pub mod policy;
pub mod queue;
pub mod race;
pub mod recovery;
pub mod replay;
pub mod retry;
pub mod row;
pub mod run;
pub mod trace;
pub mod waits;
pub mod webhook;
pub mod why;
pub mod write;

pub use cron::{CronKey, CronRow};
pub use fit::Unfit;
pub use gates::{Gate, GateKeys, WindowKey, WindowRow};
pub use outcome::{CANCELS_NOTED, Outcome, OutcomeRow};
pub use policy::{Backoff, Hold, Retry};
pub use recovery::Ending;
pub use row::{AttemptRow, Dormant, EventRow, Failure, Kind, LogRow, Record, RunRow, RunState, SourceRow};
pub use waits::{Pinned, Resolution, WaitKey, WaitRow, WaitState, Wanted, What};
pub use write::{Conflict, Expect, KvRow, List, PauseRow, Write};
