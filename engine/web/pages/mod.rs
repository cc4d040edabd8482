//! The pages, a file each.

pub mod config;
pub mod doctor;
pub mod events;
pub mod flow;
pub mod function;
pub mod functions;
pub mod keys;
pub mod logs;
pub mod overview;
pub mod run;
pub mod runs;
pub mod send;
pub mod topology;
