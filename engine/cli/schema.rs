//! `stepwell schema`: the JSON Schema of `events.yaml`, for editors and other tools.

use super::exit::{Exit, Trouble};
use super::out::Out;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    /// Prints the schema.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        out.line(format!("{:#}", crate::config::schema()))?;
        Ok(Exit::Done)
    }
}
