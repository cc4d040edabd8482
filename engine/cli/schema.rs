//! `stepwell schema`: the JSON Schema of `events.yaml`, for editors and other tools.

use super::exit::{Exit, Trouble};
use super::out::Out;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// The schema of test files, tests/*.test.yaml, instead
    #[arg(long)]
    tests: bool,
}

impl Schema {
    /// Prints the schema.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let schema = if self.tests { crate::config::suite_schema() } else { crate::config::schema() };
        out.line(format!("{schema:#}"))?;
        Ok(Exit::Done)
    }
}
