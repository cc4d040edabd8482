//! `stepwell replay`: runs done again, one, several, or all that match.

mod check;

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};

use crate::base::{Clock, Diagnostic, Millis};
use crate::clock::SystemClock;
use crate::server::view::{ManyBody, ManyView, One, ReplayBody, ReplayView, When, raw};
use crate::server::{Filter, Word};

use super::exit::{Exit, Trouble};
use super::out::{DIM, Out, count, paint, shown};
use super::reading::{EngineOption, Reader, understood};
use super::remote::Remote;
use super::runs::{self, Since};

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
    /// All runs for which this holds: CEL over `run` and `event`
    #[arg(long, value_name = "CEL", conflicts_with = "runs")]
    r#where: Option<String>,
    /// All runs of this function
    #[arg(long, value_name = "ID", conflicts_with = "runs")]
    function: Option<String>,
    /// All runs in one of these states [default: failed; with --check all]
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = runs::status, conflicts_with = "runs")]
    status: Vec<Word>,
    /// All runs that were created since: 2h, 7d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = runs::since, conflicts_with = "runs")]
    since: Option<Since>,
    /// All runs that were created before
    #[arg(long, value_name = "WHEN", value_parser = runs::since, conflicts_with = "runs")]
    until: Option<Since>,
    /// Only say what the handlers at hand would do with stored runs, without any effect: those that have begun, and ended ones.
    /// No engine is needed
    #[arg(long, conflicts_with_all = ["from", "set", "where", "dry_run", "yes"])]
    check: bool,
    /// The database that --check reads [default: the config's]
    #[arg(long, value_name = "FILE", requires = "check")]
    database: Option<std::path::PathBuf>,
    /// Check and count, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask, however many there are
    #[arg(long)]
    yes: bool,
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
                function: self.function.as_deref(),
                status: Filter(self.status.clone()),
                since: self.since,
                until: self.until,
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
        if ids.len() > 1 && !self.dry_run && !self.agreed(&format!("replay {}", count(ids.len(), "run")))? {
            return Ok(Exit::Failed);
        }
        let body = ReplayBody { from_step: self.from.clone(), set: self.results(), dry_run: self.dry_run };
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
        let says_which =
            self.r#where.is_some() || self.function.is_some() || !self.status.is_empty() || self.since.is_some() || self.until.is_some();
        if !says_which {
            let trouble = Trouble::usage("it is not said which runs are to be replayed");
            return Err(trouble.help("name their ids, or choose them by --where, --function, --status, --since and --until"));
        }
        let count_body = ManyBody { dry_run: true, ..self.body(SystemClock::default().now()) };
        let counted = self.ask_many(remote, &count_body).await?;
        let left = counted.matched - counted.replayed_before;
        let before =
            if counted.replayed_before > 0 { format!(", {} of them replayed before", counted.replayed_before) } else { String::new() };
        let verb = if counted.matched == 1 { "matches" } else { "match" };
        out.say(format!("{} {verb}{before}", count(counted.matched, "run")));
        if left == 0 {
            return Err(Trouble::silent(Exit::NothingMatched));
        }
        if self.dry_run {
            return self.show(out, &counted);
        }
        if !self.agreed(&format!("replay {}; their effects happen again", count(left, "run")))? {
            return Ok(Exit::Failed);
        }
        // The same moment as the count's, so that no other runs are meant.
        let done = self.ask_many(remote, &ManyBody { dry_run: false, ..count_body }).await?;
        self.show(out, &done)
    }

    fn body(&self, now: Millis) -> ManyBody {
        ManyBody {
            function: self.function.clone(),
            status: self.status.iter().map(|word| word.text().to_owned()).collect(),
            since: self.since.map(|since| When::At(since.at(now))),
            until: Some(When::At(self.until.map_or(now, |until| until.at(now)))),
            condition: self.r#where.clone(),
            from_step: self.from.clone(),
            set: self.results(),
            ..ManyBody::default()
        }
    }

    fn results(&self) -> BTreeMap<String, Box<serde_json::value::RawValue>> {
        self.set.iter().map(|(step, value)| (step.clone(), raw(value))).collect()
    }

    async fn ask_many(&self, remote: &Remote, body: &ManyBody) -> Result<ManyView, Trouble> {
        let answer = remote.post("/v1/replays", serde_json::to_string(body).unwrap_or_default()).await?;
        Ok(understood::<One<ManyView>>(remote, answer)?.data)
    }

    fn show(&self, out: &Out, view: &ManyView) -> Result<Exit, Trouble> {
        if self.json {
            out.line(serde_json::to_string(view).unwrap_or_default())?;
        } else {
            let rows = view.runs.iter().map(|run| {
                let new = run.replayed_as.map(|id| id.to_string()).unwrap_or_default();
                vec![run.run_id.to_string().into(), new.into(), run.error.clone().unwrap_or_default().into()]
            });
            out.table(&["run", "replayed as", "not done"], rows.collect())?;
        }
        let failed = view.runs.iter().filter(|run| run.error.is_some()).count();
        if failed == 0 {
            return Ok(Exit::Done);
        }
        Err(Trouble::new(Exit::Failed, Diagnostic::error("E0539", format!("{} could not be replayed", count(failed, "run")))))
    }

    /// Whether the person agrees; `--yes` says so beforehand.
    fn agreed(&self, what: &str) -> Result<bool, Trouble> {
        if self.yes {
            return Ok(true);
        }
        ask(what)
    }
}

/// Asks whether something is to be done to many.
///
/// # Errors
/// Exit 2 where nobody can be asked.
pub fn ask(what: &str) -> Result<bool, Trouble> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Trouble::usage(format!("{what}: say so with --yes")).help("there is no terminal to ask at; --dry-run only counts"));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{what}? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
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
