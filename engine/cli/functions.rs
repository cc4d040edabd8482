//! `stepwell functions`: looking at what is declared, pausing and resuming.

use crate::base::Clock;
use crate::clock::SystemClock;
use crate::project::{Mode, Project};
use crate::script::Host;
use crate::server::view::{FunctionView, One, Page};
use crate::store::Store as _;
use crate::store::sqlite::{Options, Sqlite};

use super::exit::{Exit, Trouble};
use super::out::{Cell, DIM, Out, count, paint};
use super::place;
use super::reading::{EngineOption, Target, understood};

/// Arguments of `functions`.
#[derive(Debug, clap::Args)]
pub struct Functions {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List functions with what starts them and their limits
    #[command(after_help = "Example:\n  stepwell functions ls")]
    Ls(Ls),
    /// Pause functions: what has begun goes on, what has not waits
    #[command(after_help = "Example:\n  stepwell functions pause greet")]
    Pause(Set),
    /// Let paused functions go on
    #[command(after_help = "Example:\n  stepwell functions resume greet")]
    Resume(Set),
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The functions' ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

#[derive(Debug, clap::Args)]
struct Ls {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Functions {
    /// Carries out what is asked.
    ///
    /// # Errors
    /// Exit 69 where no engine answers (to look, where there is no config either), 3 for a function that is not there, 77
    /// without the token, 78 for a config that is not valid.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let command = match &self.what {
            What::Ls(command) => command,
            What::Pause(command) => return super::runtime()?.block_on(command.set(out, "pause", "paused")),
            What::Resume(command) => return super::runtime()?.block_on(command.set(out, "resume", "resumed")),
        };
        let functions = super::runtime()?.block_on(command.functions(out))?;
        if command.json {
            out.line(serde_json::to_string(&functions).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        let rows = functions.iter().map(|function| {
            let triggers = function.triggers.iter().map(|trigger| match &trigger.condition {
                Some(condition) => format!("{} if {condition}", trigger.event),
                None => trigger.event.clone(),
            });
            let cron = function.cron.iter().map(|cron| match cron.tz.as_str() {
                "UTC" => format!("cron {}", cron.schedule),
                zone => format!("cron {} {zone}", cron.schedule),
            });
            let triggers = triggers.chain(cron);
            let limits = function.concurrency.iter().map(|limit| match &limit.key {
                Some(key) => format!("{} per {key}", limit.limit),
                None => limit.limit.to_string(),
            });
            let attempts = format!("up to {}", count(function.retries.attempts as usize, "attempt"));
            let cells: Vec<Cell> = vec![
                function.id.clone().into(),
                triggers.collect::<Vec<_>>().join(", ").into(),
                limits.collect::<Vec<_>>().join(", ").into(),
                attempts.into(),
                function.version.chars().take(12).collect::<String>().into(),
                if function.paused_since.is_some() { "paused" } else { "" }.into(),
            ];
            cells
        });
        out.table(&["function", "on", "concurrency", "attempts", "version", "state"], rows.collect())?;
        Ok(Exit::Done)
    }
}

impl Set {
    async fn set(&self, out: &Out, verb: &str, done: &str) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        let mut views = Vec::new();
        for id in &self.ids {
            // What is no id leads nowhere; it must not lead elsewhere.
            if !id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                return Err(super::reading::missing("function", id));
            }
            let answer: One<FunctionView> = understood(&remote, remote.post(&format!("/v1/functions/{id}/{verb}"), String::new()).await?)?;
            if !self.json {
                out.say(format!("{} is {done}", answer.data.id));
            }
            views.push(answer.data);
        }
        if self.json {
            out.line(serde_json::to_string(&views).unwrap_or_default())?;
        }
        Ok(Exit::Done)
    }
}

impl Ls {
    /// Those of the engine, or of the config where none answers.
    async fn functions(&self, out: &Out) -> Result<Vec<FunctionView>, Trouble> {
        let remote = self.target.remote()?;
        if self.target.url.is_some() || remote.answers().await {
            let page: Page<FunctionView> = understood(&remote, remote.get("/v1/functions", &[]).await?)?;
            return Ok(page.data);
        }
        let now = SystemClock::default().now();
        let path = place::config(self.target.database.config.config.as_deref())?;
        let (project, _) = Project::load(&path, &Host::new(), &place::environment, Mode::Check).map_err(Trouble::invalid)?;
        out.say(paint(DIM, format!("no engine answers at {}: reading {}", remote.url(), path.display())));
        // A database that is not there, or not to be read, has nothing to say of pauses.
        let store =
            self.target.database.path().ok().and_then(|path| Sqlite::open(&path, Options { read_only: true, ..Options::default() }).ok());
        let pauses = store.and_then(|store| store.pauses().ok()).unwrap_or_default();
        let since = |id: &str| pauses.iter().find(|row| row.paused && *row.function == *id).map(|row| row.since);
        Ok(project.functions.iter().map(|function| FunctionView::of(function, now).with_pause(since(&function.id))).collect())
    }
}
