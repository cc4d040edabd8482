//! `stepwell functions`: looking at what is declared.

use crate::base::Clock;
use crate::clock::SystemClock;
use crate::project::{Mode, Project};
use crate::script::Host;
use crate::server::view::{FunctionView, Page};

use super::exit::{Exit, Trouble};
use super::out::{Cell, DIM, Out, count, paint};
use super::place;
use super::reading::{Target, understood};

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
    /// Exit 69 where no engine answers and there is no config either, 78 for a config that is not valid.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let What::Ls(command) = &self.what;
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
            ];
            cells
        });
        out.table(&["function", "on", "concurrency", "attempts", "version"], rows.collect())?;
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
        Ok(project.functions.iter().map(|function| FunctionView::of(function, now)).collect())
    }
}
