//! The program through its commands: what each prints, and its exit code, for good input and bad.

mod again;
mod drawn;
mod engine;
mod help;
mod local;
mod project;
mod prompt;
mod reload;
mod stacks;
pub(crate) mod support;
mod terminal;
mod versions;
