//! `stepwell replay`: runs done again, one, several, or all that match.

mod check;

use std::collections::BTreeMap;

use crate::server::Filter;
use crate::server::view::{ManyBody, One, ReplayBody, ReplayView, raw};

use super::exit::{Exit, Trouble};
use super::many::{Chosen, Consent, Deed};
use super::out::{DIM, Out, count, paint, shown};
use super::reading::{EngineOption, Reader, understood};
use super::remote::Remote;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// The runs' ids, or their beginnings
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// Keep what was recorded before this step, and do the rest again [default: what follows --set; all where nothing is set]
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Put another result in the place of a step's, also of a failed one; may stand several times
    #[arg(long, value_name = "STEP=JSON", value_parser = step_and_value)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    chosen: Chosen,
    /// Only say what the handlers at hand would do with stored runs, without any effect: those that have begun, and ended ones.
    /// No engine is needed
    #[arg(long, conflicts_with_all = ["from", "set", "where", "dry_run", "yes"])]
    check: bool,
    /// The database that --check reads [default: the config's]
    #[arg(long, value_name = "FILE", requires = "check")]
    database: Option<std::path::PathBuf>,
    #[command(flatten)]
    consent: Consent,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

/// Reads `step=json`.
fn step_and_value(text: &str) -> Result<(String, String), String> {
    let Some((step, value)) = text.split_once('=') else { return Err("write the step's key, `=`, and its result as JSON".to_owned()) };
    match serde_json::from_str::<serde::de::IgnoredAny>(value) {
        Ok(_) => Ok((step.to_owned(), value.to_owned())),
        Err(error) => Err(format!("the result is not JSON ({error}); a text needs quotes: {step}='\"text\"'")),
    }
}

impl Replay {
    /// Carries out what is asked.
    ///
    /// # Errors
    /// Exit 3 for a run that is not there, 1 for one that cannot be done again like this, 4 where nothing matches, 69 where
    /// no engine answers.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        if self.check {
            let wanted = check::Wanted {
                runs: &self.runs,
                function: self.chosen.function.as_deref(),
                status: Filter(self.chosen.status.clone()),
                since: self.chosen.since,
                until: self.chosen.until,
            };
            let config = self.engine.config.config.as_deref();
            return check::run(out, config, self.database.as_deref(), &wanted, self.json);
        }
        let remote = self.engine.engine()?;
        super::runtime()?.block_on(async {
            match self.runs.as_slice() {
                [] => self.many(out, &remote).await,
                runs => self.some(out, &remote, runs).await,
            }
        })
    }

    async fn some(&self, out: &Out, remote: &Remote, runs: &[String]) -> Result<Exit, Trouble> {
        let reader = Reader::Engine(remote.clone());
        let mut ids = Vec::with_capacity(runs.len());
        for run in runs {
            ids.push(reader.run_id(run).await?);
        }
        if ids.len() > 1 && !self.consent.dry_run && !self.consent.given(&format!("replay {}", count(ids.len(), "run")))? {
            return Ok(Exit::Failed);
        }
        let body = ReplayBody { from_step: self.from.clone(), set: self.results(), dry_run: self.consent.dry_run };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut views = Vec::with_capacity(ids.len());
        for id in ids {
            let answer = remote.post(&format!("/v1/runs/{id}/replay"), body.clone()).await?;
            let One { data, .. } = understood::<One<ReplayView>>(remote, answer)?;
            if !self.json {
                self.told(out, &data)?;
            }
            views.push(data);
        }
        if self.json {
            out.line(serde_json::to_string(&views).unwrap_or_default())?;
        }
        Ok(Exit::Done)
    }

    fn told(&self, out: &Out, view: &ReplayView) -> Result<(), Trouble> {
        let kept = match view.kept.as_slice() {
            [] => "nothing is kept: all of its effects happen again".to_owned(),
            kept => format!("{} kept ({}); the effects of the others happen again", count(kept.len(), "step"), shown(&kept.join(", "))),
        };
        match view.run_id {
            Some(new) => {
                out.say(paint(DIM, format!("{} is replayed as {new}: {kept}", view.replay_of)));
                out.line(new.to_string())?;
            }
            None => out.say(format!("{} can be replayed: {kept}", view.replay_of)),
        }
        Ok(())
    }

    async fn many(&self, out: &Out, remote: &Remote) -> Result<Exit, Trouble> {
        const DEED: Deed<'_> =
            Deed { path: "/v1/replays", verb: "replay", done: "replayed", beware: "their effects happen again", is_again: true };
        let with = |body| ManyBody { from_step: self.from.clone(), set: self.results(), ..body };
        DEED.run(out, remote, (&self.chosen, &self.consent), self.json, with).await
    }

    fn results(&self) -> BTreeMap<String, Box<serde_json::value::RawValue>> {
        self.set.iter().map(|(step, value)| (step.clone(), raw(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_to_set_is_json() {
        assert_eq!(step_and_value("charge={\"a\":1}"), Ok(("charge".to_owned(), "{\"a\":1}".to_owned())));
        assert_eq!(step_and_value("a=\"x=y\""), Ok(("a".to_owned(), "\"x=y\"".to_owned())));
        assert!(step_and_value("charge").is_err());
        assert!(step_and_value("charge=paid").is_err_and(|error| error.contains("a text needs quotes")));
    }
}
