//! `stepwell explain`: what a diagnostic's code means, at length.

use crate::base::Diagnostic;
use crate::base::codes;

use super::exit::{Exit, Trouble};
use super::out::{BOLD, Cell, Out, paint};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The code, such as E0304; without one, all codes are listed
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

impl Explain {
    /// Prints the explanation.
    ///
    /// # Errors
    /// Exit 3 where no such code is.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let Some(code) = &self.code else {
            let rows = codes::ALL.iter().map(|entry| vec![Cell::from(entry.code), Cell::from(entry.title)]).collect();
            out.table(&["code", "means"], rows)?;
            return Ok(Exit::Done);
        };
        let wanted = code.to_uppercase();
        let Some(entry) = codes::find(&wanted) else {
            let known = codes::ALL.iter().map(|entry| entry.code);
            let problem = Diagnostic::error("E0541", format!("no diagnostic has the code `{code}`")).nearest(&wanted, known);
            return Err(Trouble::new(Exit::NotFound, problem.help("`stepwell explain` lists them all")));
        };
        out.line(paint(BOLD, format!("{}: {}", entry.code, entry.title)))?;
        out.line(format!("\n{}", entry.text.trim()))?;
        Ok(Exit::Done)
    }
}
