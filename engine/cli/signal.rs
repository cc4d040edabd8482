//! `stepwell signal`: sends a signal to the runs that wait for it.

use crate::base::Diagnostic;
use crate::project::typed_value;
use crate::server::view::{One, SignalView};

use super::exit::{Exit, Trouble};
use super::fields::Fields;
use super::out::{Out, count};
use super::reading::{EngineOption, understood};

/// Arguments of `signal`.
#[derive(Debug, clap::Args)]
pub struct Signal {
    /// The signal's name
    #[arg(value_name = "SIGNAL")]
    name: String,
    #[command(flatten)]
    fields: Fields,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

impl Signal {
    /// Sends the signal.
    ///
    /// # Errors
    /// Exit 4 where no run waits for it, 69 where no engine answers, 77 without its token.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        if self.fields.example {
            return Err(Trouble::usage("a signal has no example").help("give its data as k=v or with --data"));
        }
        let data = self.fields.data(&|field, text| typed_value(None, field, text), None)?;
        let runs = super::runtime()?.block_on(async {
            let remote = self.engine.engine()?;
            let answer: One<SignalView> = understood(&remote, remote.signal(&self.name, data.text).await?)?;
            Ok::<_, Trouble>(answer.data.runs)
        })?;
        if self.json {
            out.json(&serde_json::json!({"name": self.name, "runs": runs}))?;
        }
        if runs == 0 {
            let problem = Diagnostic::error("E0548", format!("no run waits for the signal `{}`", self.name));
            return Err(Trouble::new(Exit::NothingMatched, problem.help("`stepwell runs ls --status waiting` shows what runs wait for")));
        }
        if !self.json {
            out.say(format!("`{}` reached {}", self.name, count(runs, "run")));
        }
        Ok(Exit::Done)
    }
}
