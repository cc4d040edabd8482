//! `stepwell runs`: looking at runs, following them, cancelling them.

use std::time::Duration;

use crate::base::{Millis, RunId};
use crate::rules::RunState;
use crate::server::view::{ManyBody, MigratedView, One, RunView, Time, When};
use crate::server::{Filter, Word};

use super::exit::{Exit, Trouble};
use super::live::{Show, log_line};
use super::many::{Chosen, Consent, Deed};
use super::out::{BOLD, Cell, DIM, Out, count, paint, relative, shown};
use super::reading::{Belonging, EngineOption, Reader, RunFilter, Target, understood};
use super::remote::Remote;
use super::tail::Tail;
use super::tree;

/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(500);

/// Arguments of `runs`.
#[derive(Debug, clap::Args)]
pub struct Runs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List runs, newest first
    #[command(after_help = "Example:\n  stepwell runs ls --status failed,parked --since 1d")]
    Ls(Ls),
    /// Show one run: where it stands, why it is not moving, its result or error
    #[command(after_help = "Example:\n  stepwell runs ls --limit 1 | cut -f1 | xargs stepwell runs get")]
    Get(Get),
    /// Draw a run as a tree: its steps with times, attempts and errors
    #[command(after_help = "Example:\n  stepwell runs ls --limit 1 | cut -f1 | xargs stepwell runs trace")]
    Trace(TraceRun),
    /// Show the lines that a run has logged
    #[command(after_help = "Example:\n  stepwell runs ls --limit 1 | cut -f1 | xargs stepwell runs logs")]
    Logs(Logs),
    /// Have a run that backs off go on at once, and one that is parked try again
    #[command(after_help = "Example:\n  stepwell runs ls --status backing-off --limit 1 | cut -f1 | xargs stepwell runs retry-now")]
    RetryNow(RetryNow),
    /// Take runs to the newest version of their handler, if it fits what they have recorded; parked ones go on
    #[command(after_help = "Example:\n  stepwell runs migrate --function charge --dry-run")]
    Migrate(Migrate),
    /// End runs from outside, whatever they are doing: one, several, or all that match
    #[command(after_help = "Example:\n  stepwell runs cancel --status sleeping --function charge --dry-run")]
    Cancel(Cancel),
    /// Follow what runs do, as it happens
    #[command(after_help = "Example:\n  stepwell runs tail --status failed,parked --function charge")]
    Tail(Tail),
}

#[derive(Debug, clap::Args)]
struct Ls {
    /// In one of these states: queued, running, sleeping, waiting, backing_off, paused, parked, completed, failed, cancelled; or of
    /// Inngest's statuses, with a capital letter
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = status)]
    status: Vec<Word>,
    #[command(flatten)]
    belonging: Belonging,
    /// Created since: 2h, 7d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Created before
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// For which this holds: CEL over `run`, as --json shows it, and `event`, such as run.why.contains('slot')
    #[arg(long, value_name = "CEL")]
    r#where: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
struct Get {
    /// The run's id, or its beginning
    #[arg(value_name = "RUN")]
    run: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
struct TraceRun {
    #[command(flatten)]
    get: Get,
    /// Show what happens, until the run has ended; with --json its whole trace, a line each time it has changed
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, clap::Args)]
struct Logs {
    /// The run's id, or its beginning
    #[arg(value_name = "RUN")]
    run: String,
    /// Go on until the run has ended
    #[arg(long)]
    follow: bool,
    /// Print one JSON document; with --follow one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
struct Cancel {
    /// The runs' ids, or their beginnings
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    #[command(flatten)]
    chosen: Chosen,
    /// Why, for the runs' pages and logs
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    consent: Consent,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

#[derive(Debug, clap::Args)]
struct RetryNow {
    /// The run's id, or its beginning
    #[arg(value_name = "RUN")]
    run: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

#[derive(Debug, clap::Args)]
struct Migrate {
    /// The runs' ids, or their beginnings
    #[arg(value_name = "RUN", required_unless_present = "function")]
    runs: Vec<String>,
    /// All runs of this function that have not ended
    #[arg(long, value_name = "ID", conflicts_with = "runs")]
    function: Option<String>,
    /// Only say which ones could be taken
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before all runs of a function are taken
    #[arg(long)]
    yes: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

/// Reads a state as people write it, or one of Inngest's statuses.
pub fn status(text: &str) -> Result<Word, String> {
    let word = text.to_lowercase().replace(['-', ' '], "_");
    let known = Word::parse(text).or_else(|| Word::parse(&word));
    known.ok_or_else(|| match crate::base::diagnostic::nearest(&word, RunState::ALL.map(RunState::word)) {
        Some(right) => format!("no such state; did you mean `{right}`?"),
        None => format!("no such state; there are {}", RunState::ALL.map(RunState::word).join(", ")),
    })
}

impl Runs {
    /// Carries out what is asked.
    ///
    /// # Errors
    /// Exit 3 for a run that is not there, 2 for an id that fits several, 69 where no engine answers.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        super::runtime()?.block_on(async {
            match &self.what {
                What::Ls(command) => command.run(out).await,
                What::Get(command) => command.get(out).await,
                What::Trace(command) => command.run(out).await,
                What::Logs(command) => command.run(out).await,
                What::RetryNow(command) => command.run(out).await,
                What::Migrate(command) => command.run(out).await,
                What::Cancel(command) => command.run(out).await,
                What::Tail(command) => command.run(out).await,
            }
        })
    }
}

/// Most runs of a function that are taken to another handler in one go.
const MIGRATED_MOST: usize = 100_000;

impl Migrate {
    /// Takes each run that can be to the newest handler; says of the others why not.
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        let reader = Reader::Engine(remote.clone());
        let mut ids = Vec::new();
        for run in &self.runs {
            ids.push(reader.run_id(run).await?);
        }
        if let Some(function) = &self.function {
            let states = RunState::ALL.into_iter().filter(|state| !state.is_terminal()).map(Word::State);
            let filter = RunFilter {
                status: Filter(states.collect()),
                function: Some(function.clone()),
                limit: MIGRATED_MOST,
                ..RunFilter::default()
            };
            let runs = reader.runs(&filter).await?;
            let Some(oldest) = runs.last() else {
                out.say(format!("no run of `{function}` is in flight"));
                return Ok(Exit::NothingMatched);
            };
            if runs.len() >= MIGRATED_MOST {
                // The same call would take the same ones again: a run that was taken is in flight still.
                let others = format!("`stepwell runs ls --function {function} --until {}`", oldest.created_at);
                out.say(format!("the newest {MIGRATED_MOST} runs are taken; {others} lists the others, which can be named"));
            }
            ids.extend(runs.iter().map(|run| run.run_id));
        }
        if self.function.is_some() && !self.dry_run && !self.yes {
            let what = format!("take {} to the newest version of the handler, where it fits", count(ids.len(), "run"));
            if !super::many::ask(&what)? {
                return Ok(Exit::Failed);
            }
        }
        let body = format!("{{\"dry_run\":{}}}", self.dry_run);
        let (mut views, mut failed) = (Vec::new(), Vec::new());
        for id in ids {
            match remote.post(&format!("/v1/runs/{id}/migrate"), body.clone()).await {
                Ok(answer) => {
                    let view = understood::<One<MigratedView>>(&remote, answer)?.data;
                    if !self.json {
                        out.line(shown(&view.text))?;
                    }
                    views.push(view);
                }
                Err(trouble) if trouble.exit == Exit::Failed => failed.extend(trouble.problems),
                Err(trouble) => return Err(trouble),
            }
        }
        if self.json {
            out.line(serde_json::to_string(&views).unwrap_or_default())?;
        }
        if failed.is_empty() { Ok(Exit::Done) } else { Err(Trouble { exit: Exit::Failed, problems: failed }) }
    }
}

impl Ls {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let reader = self.target.reader(out).await?;
        let filter = RunFilter {
            status: Filter(self.status.clone()),
            since: self.since.map(|since| since.seen_from(reader.now())),
            until: self.until.map(|until| until.seen_from(reader.now())),
            condition: self.r#where.clone(),
            limit: self.limit as usize,
            ..self.belonging.filter(&reader).await?
        };
        let runs = reader.runs(&filter).await?;
        if self.json {
            out.line(serde_json::to_string(&runs).unwrap_or_default())?;
        } else {
            list(out, &runs, reader.now())?;
        }
        Ok(Exit::Done)
    }
}

/// Prints runs as a table.
pub fn list(out: &Out, runs: &[RunView], now: Millis) -> Result<(), Trouble> {
    if runs.is_empty() && out.terminal {
        out.say("no runs");
        return Ok(());
    }
    let time = |time: Time| if out.terminal { relative(now, time.0) } else { time.to_string() };
    let rows = runs.iter().map(|run| {
        let note = match (&run.error, &run.why) {
            (Some(error), _) if run.state == RunState::Failed => error.message.clone(),
            (_, Some(why)) => why.clone(),
            _ => String::new(),
        };
        let key = run.key.as_ref().map(ToString::to_string).unwrap_or_default();
        let note = if out.terminal { super::out::cut(&note, 60) } else { note };
        vec![
            Cell::from(run.run_id.to_string()),
            run.function_id.clone().into(),
            Cell::state(run.state.word()),
            time(run.created_at).into(),
            key.into(),
            note.into(),
        ]
    });
    out.table(&["run", "function", "state", "created", "key", "note"], rows.collect())?;
    Ok(())
}

impl Get {
    async fn get(&self, out: &Out) -> Result<Exit, Trouble> {
        let reader = self.target.reader(out).await?;
        let mut trace = reader.trace(reader.run_id(&self.run).await?).await?;
        if trace.run.why.is_none() {
            trace.run.why = reader.why(trace.run.run_id)?;
        }
        let run = &trace.run;
        if self.json {
            out.line(serde_json::to_string(run).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        let now = reader.now();
        let time = |time: Time| if out.terminal { format!("{time}  ({})", relative(now, time.0)) } else { time.to_string() };
        let mut rows =
            vec![("run", run.run_id.to_string()), ("function", run.function_id.clone()), ("state", run.state.word().replace('_', " "))];
        rows.extend(run.why.clone().map(|why| ("why", why)));
        let name = trace.event.as_ref().map(|event| format!("  {}", event.name)).unwrap_or_default();
        rows.push(("event", format!("{}{name}", run.event_id)));
        rows.extend(run.key.as_ref().map(|key| ("key", key.to_string())));
        rows.extend(run.replay_of.map(|id| ("replays", id.to_string())));
        rows.extend(run.invoked_by.map(|id| ("invoker", id.to_string())));
        let again: Vec<String> = run.replayed_as.iter().map(ToString::to_string).collect();
        rows.extend((!again.is_empty()).then(|| ("replayed", again.join(", "))));
        rows.push(("created", time(run.created_at)));
        rows.extend(run.run_started_at.map(|at| ("started", time(at))));
        rows.extend(run.ended_at.map(|at| ("ended", time(at))));
        rows.extend(run.wakes_at.filter(|_| !run.state.is_terminal()).map(|at| ("goes on", time(at))));
        rows.push(("attempt", run.attempt.to_string()));
        rows.extend(run.steps.map(|steps| ("steps", steps.to_string())));
        rows.extend(run.function_version.as_ref().map(|version| ("version", version.chars().take(12).collect())));
        rows.extend(run.unfit.clone().map(|why| ("unfit", format!("the newest handler does not fit: {why}"))));
        rows.extend(run.output.as_ref().map(|output| ("result", output.get().to_owned())));
        for (name, value) in rows {
            out.line(if out.terminal {
                format!("{} {}", paint(BOLD, format!("{name:<9}")), shown(&value))
            } else {
                format!("{name}\t{}", shown(&value))
            })?;
        }
        if let Some(error) = &run.error {
            out.line("")?;
            out.line(tree::problem(error, &tree::files(&trace.sources)).render(true))?;
        }
        Ok(Exit::Done)
    }
}

impl TraceRun {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let reader = self.get.target.reader(out).await?;
        let run = reader.run_id(&self.get.run).await?;
        let trace = match (self.follow, self.get.json) {
            (true, true) => return follow_json(out, &reader, run).await,
            (true, false) => Show::new(out, &reader).until_run_ended(run).await?,
            (false, _) => reader.trace(run).await?,
        };
        if self.get.json {
            out.line(serde_json::to_string(&trace).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        for line in tree::lines(&trace, &[], reader.now()) {
            out.line(line)?;
        }
        if let Some(error) = trace.run.error.as_ref() {
            out.line("")?;
            out.line(tree::problem(error, &tree::files(&trace.sources)).render(true))?;
        }
        Ok(Exit::Done)
    }
}

/// Prints a run's trace whenever it has changed, a line each, until the run has ended or is parked.
async fn follow_json(out: &Out, reader: &Reader, run: RunId) -> Result<Exit, Trouble> {
    let mut last = String::new();
    loop {
        let trace = reader.trace(run).await?;
        let line = serde_json::to_string(&trace).unwrap_or_default();
        if line != last {
            out.line(&line)?;
            last = line;
        }
        if trace.run.state.rests() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

impl Logs {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let reader = self.target.reader(out).await?;
        let run = reader.run_id(&self.run).await?;
        let mut from = 0;
        let mut all = Vec::new();
        loop {
            // The state is read first: what was logged before the end is then not missed.
            let stopped = reader.trace(run).await?.run.state.rests();
            loop {
                let (lines, next) = reader.logs(run, from).await?;
                if lines.is_empty() {
                    break;
                }
                from = next;
                for line in &lines {
                    match (self.json, self.follow, out.terminal) {
                        (true, true, _) => out.line(serde_json::to_string(line).unwrap_or_default())?,
                        (true, false, _) => {}
                        (false, _, true) => out.line(format!("{} {}", paint(DIM, line.at), log_line(line)))?,
                        (false, _, false) => {
                            let data = line.data.as_ref().map(|data| data.get().to_owned()).unwrap_or_default();
                            let level = line.level.word().to_owned();
                            out.table(&[], vec![vec![line.at.to_string().into(), level.into(), line.message.clone().into(), data.into()]])?;
                        }
                    }
                }
                all.extend(lines);
            }
            if !self.follow || stopped {
                break;
            }
            tokio::time::sleep(FOLLOW).await;
        }
        if all.is_empty() && out.terminal && !self.json {
            out.say("it has logged nothing");
        }
        if self.json && !self.follow {
            out.line(serde_json::to_string(&all).unwrap_or_default())?;
        }
        Ok(Exit::Done)
    }
}

impl Cancel {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        const DEED: Deed<'_> = Deed {
            path: "/v1/cancellations",
            verb: "cancel",
            done: "cancelled",
            beware: "what they have invoked is cancelled with them",
            is_again: false,
        };
        let remote = self.engine.engine()?;
        if self.runs.is_empty() {
            let with = |body| ManyBody { reason: self.reason.clone(), ..body };
            return DEED.run(out, &remote, (&self.chosen, &self.consent), self.json, with).await;
        }
        let reader = Reader::Engine(remote.clone());
        let mut ids = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            ids.push(reader.run_id(run).await?);
        }
        if self.consent.dry_run {
            for run in ids {
                let state = understood::<One<RunView>>(&remote, remote.get(&format!("/v1/runs/{run}"), &[]).await?)?.data.state;
                let may_be = if state.is_terminal() { "has ended" } else { "can be cancelled" };
                out.say(format!("{run} {may_be}: it is {}", state.word()));
            }
            return Ok(Exit::Done);
        }
        if ids.len() > 1 && !self.consent.given(&format!("cancel {}", count(ids.len(), "run")))? {
            return Ok(Exit::Failed);
        }
        self.named(out, &remote, ids).await
    }

    /// Cancels these; one that cannot be is told of, and keeps no other from it.
    async fn named(&self, out: &Out, remote: &Remote, ids: Vec<RunId>) -> Result<Exit, Trouble> {
        let query: Vec<(&str, String)> = self.reason.iter().map(|reason| ("reason", reason.clone())).collect();
        let (mut views, mut failed) = (Vec::new(), Vec::new());
        for run in ids {
            match remote.delete(&format!("/v1/runs/{run}"), &query).await {
                Ok(answer) => {
                    let view = understood::<One<RunView>>(remote, answer)?.data;
                    out.say(format!("{run} {}", view.state.word()));
                    views.push(view);
                }
                Err(trouble) if trouble.exit == Exit::Failed => failed.extend(trouble.problems),
                Err(trouble) => return Err(trouble),
            }
        }
        if self.json {
            out.line(serde_json::to_string(&views).unwrap_or_default())?;
        }
        if failed.is_empty() { Ok(Exit::Done) } else { Err(Trouble { exit: Exit::Failed, problems: failed }) }
    }
}

impl RetryNow {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        let run = Reader::Engine(remote.clone()).run_id(&self.run).await?;
        let answer: One<RunView> = understood(&remote, remote.post(&format!("/v1/runs/{run}/retry-now"), String::new()).await?)?;
        if self.json {
            out.line(serde_json::to_string(&answer.data).unwrap_or_default())?;
        } else {
            out.say(format!("{run} {}", answer.data.state.word()));
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::view::Status;

    #[test]
    fn states_are_taken_as_people_write_them() {
        assert_eq!(status("Backing-off"), Ok(Word::State(RunState::BackingOff)));
        assert_eq!(status("SLEEPING"), Ok(Word::State(RunState::Sleeping)));
        assert_eq!((status("Scheduled"), status("Running")), (Ok(Word::Status(Status::Scheduled)), Ok(Word::Status(Status::Running))));
        assert!(status("failled").is_err_and(|error| error.contains("did you mean `failed`?")));
    }
}
