//! `stepwell reload`: has a running engine read its config again.

use reqwest::Method;

use crate::base::Diagnostic;
use crate::server::view::{Detail, One, ReloadView};

use super::exit::{Exit, Trouble};
use super::out::{Out, YELLOW, count, paint, shown};
use super::reading::{EngineOption, understood};

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub struct Reload {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

impl Reload {
    /// Has the engine put its config in force as the files are now, and shows what has changed.
    ///
    /// # Errors
    /// Exit 69 where no engine answers, 77 without the token, 78 where the config is broken: the one before stays in force.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        super::runtime()?.block_on(self.reload(out))
    }

    async fn reload(&self, out: &Out) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        let answer = remote.of_config(Method::POST, "/v1/reload").await?.map_err(|pictures| broken(out, &pictures))?;
        let view = understood::<One<ReloadView>>(&remote, answer)?.data;
        if self.json {
            out.line(serde_json::to_string(&view).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        notes(out, &view.notes);
        for change in &view.changes {
            out.line(shown(&change.text))?;
        }
        for older in &view.older {
            out.line(shown(&older.text))?;
        }
        out.say(match view.changes.len() {
            0 => "reloaded: nothing has changed".to_owned(),
            changes => format!("reloaded: {}", count(changes, "change")),
        });
        Ok(Exit::Done)
    }
}

/// Shows warnings and notes of a config.
pub fn notes(out: &Out, notes: &[Detail]) {
    for picture in notes.iter().filter_map(|note| note.seen.as_deref()).map(|seen| &seen.picture) {
        out.say(paint(YELLOW, shown(picture)));
    }
}

/// Shows what is wrong with the config of an engine, as the engine has seen it.
pub fn broken(out: &Out, pictures: &[String]) -> Trouble {
    pictures.iter().for_each(|picture| out.say(shown(picture)));
    let problem = Diagnostic::error("E0552", "the config is broken; the engine goes on with the one before");
    Trouble::new(Exit::Config, problem)
}
