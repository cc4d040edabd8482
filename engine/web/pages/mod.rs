//! The pages, a file each.

pub mod overview;
pub mod run;
pub mod runs;
