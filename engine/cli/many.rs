//! What is done to many runs at once: which ones are meant, how many those are, and whether they really are.

use std::io::{BufRead, IsTerminal, Write};

use crate::base::{Clock, Diagnostic, Millis};
use crate::clock::SystemClock;
use crate::server::Word;
use crate::server::view::{ManyBody, ManyView, One, When};

use super::exit::{Exit, Trouble};
use super::out::{Out, count};
use super::reading::understood;
use super::remote::Remote;
use super::runs;

/// Runs that are chosen by what they are like, instead of by their ids.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// All runs for which this holds: CEL over `run` and `event`
    #[arg(long, value_name = "CEL", conflicts_with = "runs")]
    pub r#where: Option<String>,
    /// All runs of this function
    #[arg(long, value_name = "ID", conflicts_with = "runs")]
    pub function: Option<String>,
    /// All runs in one of these states [default: a replay's are the failed ones, with --check all; a cancel's those that have not ended]
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = runs::status, conflicts_with = "runs")]
    pub status: Vec<Word>,
    /// All runs that were created since: 2h, 7d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", conflicts_with = "runs")]
    pub since: Option<When>,
    /// All runs that were created before
    #[arg(long, value_name = "WHEN", conflicts_with = "runs")]
    pub until: Option<When>,
}

/// Whether it is done at once.
#[derive(Debug, clap::Args)]
pub struct Consent {
    /// Check and count, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask, however many there are
    #[arg(long)]
    pub yes: bool,
}

/// What is done to many runs by one request, and the words for it.
pub struct Deed<'a> {
    /// Where it is asked for.
    pub path: &'a str,
    /// What is done.
    pub verb: &'a str,
    /// What then has been done.
    pub done: &'a str,
    /// What whoever is asked should know.
    pub beware: &'a str,
    /// Whether each run becomes another one, which is shown beside it.
    pub is_again: bool,
}

impl Chosen {
    fn says_which(&self) -> bool {
        self.r#where.is_some() || self.function.is_some() || !self.status.is_empty() || self.since.is_some() || self.until.is_some()
    }

    /// The body of a request about them; what is created from now on is not meant.
    fn body(&self, now: Millis) -> ManyBody {
        ManyBody {
            function: self.function.clone(),
            status: self.status.iter().map(|word| word.text().to_owned()).collect(),
            since: self.since.map(|since| When::At(since.seen_from(now))),
            until: Some(When::At(self.until.map_or(now, |until| until.seen_from(now)))),
            condition: self.r#where.clone(),
            ..ManyBody::default()
        }
    }
}

impl Consent {
    /// Whether the person agrees; `--yes` says so beforehand.
    ///
    /// # Errors
    /// Exit 2 where nobody can be asked.
    pub fn given(&self, what: &str) -> Result<bool, Trouble> {
        if self.yes { Ok(true) } else { ask(what) }
    }
}

impl Deed<'_> {
    /// Counts the chosen runs, asks, and does it. `with` adds to the request what it says besides.
    ///
    /// # Errors
    /// Exit 2 where it is not said which ones, 4 where nothing matches, 1 where it could not be done to all of them.
    pub async fn run(
        &self,
        out: &Out,
        remote: &Remote,
        (chosen, consent): (&Chosen, &Consent),
        as_json: bool,
        with: impl FnOnce(ManyBody) -> ManyBody,
    ) -> Result<Exit, Trouble> {
        if !chosen.says_which() {
            let trouble = Trouble::usage(format!("it is not said which runs are to be {}", self.done));
            return Err(trouble.help("name their ids, or choose them by --where, --function, --status, --since and --until"));
        }
        let body = ManyBody { dry_run: true, ..with(chosen.body(SystemClock::default().now())) };
        let counted = self.ask(remote, &body).await?;
        let left = counted.matched - counted.replayed_before;
        let before =
            if counted.replayed_before > 0 { format!(", {} of them replayed before", counted.replayed_before) } else { String::new() };
        let matches = if counted.matched == 1 { "matches" } else { "match" };
        out.say(format!("{} {matches}{before}", count(counted.matched, "run")));
        if left == 0 {
            return Err(Trouble::silent(Exit::NothingMatched));
        }
        if consent.dry_run {
            return self.show(out, &counted, as_json);
        }
        if !consent.given(&format!("{} {}; {}", self.verb, count(left, "run"), self.beware))? {
            return Ok(Exit::Failed);
        }
        // The same moment as the count's, so that no other runs are meant.
        let done = self.ask(remote, &ManyBody { dry_run: false, ..body }).await?;
        self.show(out, &done, as_json)
    }

    async fn ask(&self, remote: &Remote, body: &ManyBody) -> Result<ManyView, Trouble> {
        let answer = remote.post(self.path, serde_json::to_string(body).unwrap_or_default()).await?;
        Ok(understood::<One<ManyView>>(remote, answer)?.data)
    }

    fn show(&self, out: &Out, view: &ManyView, as_json: bool) -> Result<Exit, Trouble> {
        if as_json {
            out.line(serde_json::to_string(view).unwrap_or_default())?;
        } else {
            let rows = view.runs.iter().map(|run| {
                let new = self.is_again.then(|| run.replayed_as.map(|id| id.to_string()).unwrap_or_default());
                let cells = std::iter::once(run.run_id.to_string()).chain(new).chain([run.error.clone().unwrap_or_default()]);
                cells.map(Into::into).collect()
            });
            let columns = if self.is_again { &["run", "replayed as", "not done"][..] } else { &["run", "not done"] };
            out.table(columns, rows.collect())?;
        }
        match view.runs.iter().filter(|run| run.error.is_some()).count() {
            0 => Ok(Exit::Done),
            failed => {
                Err(Trouble::new(Exit::Failed, Diagnostic::error("E0539", format!("{} could not be {}", count(failed, "run"), self.done))))
            }
        }
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
