//! `stepwell plan`: what a reload of a running engine would change.

use reqwest::Method;

use crate::server::view::{One, PlanView};

use super::exit::{Exit, Trouble};
use super::out::{Out, count, shown};
use super::reading::{EngineOption, understood};
use super::reload;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

impl Plan {
    /// Shows what the engine would change if it read its config now.
    ///
    /// # Errors
    /// Exit 1 is the result where something would change; 69 where no engine answers, 77 without the token, 78 where the
    /// config is broken.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        super::runtime()?.block_on(self.plan(out))
    }

    async fn plan(&self, out: &Out) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        let answer = remote.of_config(Method::GET, "/v1/plan").await?.map_err(|pictures| reload::broken(out, &pictures))?;
        let view = understood::<One<PlanView>>(&remote, answer)?.data;
        let exit = if view.changes.is_empty() { Exit::Done } else { Exit::Failed };
        if self.json {
            out.line(serde_json::to_string(&view).unwrap_or_default())?;
            return Ok(exit);
        }
        reload::notes(out, &view.notes);
        for change in &view.changes {
            out.line(shown(&change.text))?;
        }
        for runs in &view.runs {
            out.line(format!("runs of {}", shown(&runs.text)))?;
        }
        out.say(match view.changes.len() {
            0 => "a reload would change nothing".to_owned(),
            changes => format!("a reload would make {}", count(changes, "change")),
        });
        Ok(exit)
    }
}
