//! `stepwell completions`: what a shell needs to complete the commands.

use clap_complete::Shell;

use super::exit::{Exit, Trouble};
use super::out::Out;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "stepwell", &mut script);
        out.raw(&script)?;
        Ok(Exit::Done)
    }
}
