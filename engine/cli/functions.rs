//! `stepwell functions`: looking at what is declared, pausing and resuming; what starts runs by hand has a file of its own.

use crate::base::Clock;
use crate::base::Diagnostic;
use crate::base::diagnostic::nearest;
use crate::clock::SystemClock;
use crate::project::{Mode, Project};
use crate::script::Host;
use crate::server::view::{CronView, FunctionView, One, Page};
use crate::store::Store as _;
use crate::store::sqlite::{Options, Sqlite};

use super::exit::{Exit, Trouble};
use super::invoke::Invoke;
use super::out::{BOLD, Cell, DIM, Out, count, paint, shown};
use super::place;
use super::reading::{EngineOption, Target, function_id, understood};

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
    /// Show a function with all of its options
    #[command(after_help = "Example:\n  stepwell functions get greet")]
    Get(Get),
    /// Pause functions: what has begun goes on, what has not waits
    #[command(after_help = "Example:\n  stepwell functions pause greet")]
    Pause(Set),
    /// Let paused functions go on
    #[command(after_help = "Example:\n  stepwell functions resume greet")]
    Resume(Set),
    /// Start a run of a function by hand; it passes no gate but throttle and concurrency
    #[command(after_help = "Example:\n  stepwell functions invoke greet --example")]
    Invoke(Invoke),
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

#[derive(Debug, clap::Args)]
struct Get {
    /// The function's id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    how: Ls,
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
            What::Get(command) => return super::runtime()?.block_on(command.run(out)),
            What::Pause(command) => return super::runtime()?.block_on(command.set(out, "pause", "paused")),
            What::Resume(command) => return super::runtime()?.block_on(command.set(out, "resume", "resumed")),
            What::Invoke(command) => return command.run(out),
        };
        let functions = super::runtime()?.block_on(command.functions(out))?;
        if command.json {
            out.line(serde_json::to_string(&functions).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        let rows = functions.iter().map(|function| {
            let attempts = format!("up to {}", count(function.retries.attempts as usize, "attempt"));
            let cells: Vec<Cell> = vec![
                function.id.clone().into(),
                triggers(function).join(", ").into(),
                limits(function).into_iter().map(|(_, limit)| limit).collect::<Vec<_>>().join(", ").into(),
                attempts.into(),
                function.version.chars().take(12).collect::<String>().into(),
                if function.paused_since.is_some() { "paused" } else { "" }.into(),
            ];
            cells
        });
        out.table(&["function", "on", "limits", "attempts", "version", "state"], rows.collect())?;
        Ok(Exit::Done)
    }
}

/// What starts a function, a text each.
fn triggers(function: &FunctionView) -> Vec<String> {
    events(function).chain(function.cron.iter().map(schedule)).collect()
}

/// The events that start a function, a text each.
fn events(function: &FunctionView) -> impl Iterator<Item = String> {
    function.triggers.iter().map(|trigger| match &trigger.condition {
        Some(condition) => format!("{} if {condition}", trigger.event),
        None => trigger.event.clone(),
    })
}

/// A schedule as a text.
fn schedule(cron: &CronView) -> String {
    match cron.tz.as_str() {
        "UTC" => format!("cron {}", cron.schedule),
        zone => format!("cron {} {zone}", cron.schedule),
    }
}

/// What limits when and how often a function starts: the option, and it in words that name it.
fn limits(function: &FunctionView) -> Vec<(&'static str, String)> {
    let per = |key: &Option<String>| key.as_ref().map(|key| format!(" per {key}")).unwrap_or_default();
    let within = |timeout: &Option<String>| timeout.as_ref().map(|timeout| format!(", at most {timeout}")).unwrap_or_default();
    let mut all: Vec<(&'static str, String)> = Vec::new();
    all.extend(function.concurrency.iter().map(|limit| {
        let shared = limit.shared.as_ref().map(|name| format!(" shared {name}")).unwrap_or_default();
        let hold = if limit.hold == "active" { ", while active" } else { "" };
        ("concurrency", format!("{}{}{shared}{hold}", limit.limit, per(&limit.key)))
    }));
    all.extend(function.idempotency.as_ref().map(|key| ("idempotency", format!("once per {key}"))));
    all.extend(
        function.rate_limit.as_ref().map(|rate| ("rate_limit", format!("rate limit {} in {}{}", rate.limit, rate.period, per(&rate.key)))),
    );
    all.extend(
        function
            .debounce
            .as_ref()
            .map(|debounce| ("debounce", format!("debounce {}{}{}", debounce.period, within(&debounce.timeout), per(&debounce.key)))),
    );
    all.extend(function.batch.as_ref().map(|batch| {
        let taken = batch.condition.as_ref().map(|text| format!(" of those with {text}")).unwrap_or_default();
        ("batch", format!("batch of {} or {}{}{taken}", batch.size, batch.timeout, per(&batch.key)))
    }));
    all.extend(function.singleton.as_ref().map(|single| ("singleton", format!("singleton {}{}", single.mode, per(&single.key)))));
    all.extend(function.throttle.as_ref().map(|rate| {
        let burst = rate.burst.filter(|burst| *burst > 0).map(|burst| format!(", burst {burst}")).unwrap_or_default();
        ("throttle", format!("throttle {} in {}{burst}{}", rate.limit, rate.period, per(&rate.key)))
    }));
    all.extend(function.priority.as_ref().map(|priority| ("priority", format!("priority {priority}"))));
    all
}

impl Get {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let functions = self.how.functions(out).await?;
        let Some(function) = functions.iter().find(|function| function.id == self.id) else {
            let problem = Diagnostic::error("E0534", format!("there is no function `{}`", self.id));
            let missing = Trouble::new(Exit::NotFound, problem);
            return Err(match nearest(&self.id, functions.iter().map(|function| function.id.as_str())) {
                Some(near) => missing.help(format!("did you mean `{near}`?")),
                None => missing.help("`stepwell functions ls` lists them"),
            });
        };
        if self.how.json {
            out.line(serde_json::to_string(function).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        for (name, value) in self.rows(function) {
            out.line(if out.terminal {
                format!("{} {}", paint(BOLD, format!("{name:<13}")), shown(&value))
            } else {
                format!("{name}\t{}", shown(&value))
            })?;
        }
        Ok(Exit::Done)
    }

    fn rows(&self, function: &FunctionView) -> Vec<(&'static str, String)> {
        let mut rows = vec![("function", function.id.clone())];
        rows.extend(function.paused_since.map(|since| ("paused since", since.to_string())));
        rows.extend(events(function).map(|event| ("on", event)));
        // What belongs to a schedule stands below it.
        for cron in &function.cron {
            rows.push(("on", schedule(cron)));
            rows.extend(cron.next.iter().map(|next| ("next start", next.clone())));
            rows.extend(cron.jitter.iter().map(|jitter| ("jitter", jitter.clone())));
            rows.push(("missed", cron.missed.clone()));
        }
        rows.extend(limits(function));
        let retries = &function.retries;
        let mut attempts = format!("up to {}, {}", count(retries.attempts as usize, "attempt"), retries.backoff);
        attempts.extend(retries.initial.iter().map(|initial| format!(" from {initial}")));
        attempts.extend(retries.max.iter().map(|max| format!(" to {max}")));
        attempts.extend(retries.jitter.iter().map(|jitter| format!(", jitter {jitter}")));
        rows.push(("retries", attempts));
        let timeouts = &function.timeouts;
        let steps = [("start", timeouts.start.as_ref()), ("finish", timeouts.finish.as_ref()), ("step", Some(&timeouts.step))];
        let steps: Vec<String> = steps.into_iter().filter_map(|(name, span)| Some(format!("{name} {}", span?))).collect();
        rows.push(("timeouts", steps.join(", ")));
        rows.extend(function.cancel_on.iter().map(|cancel| {
            let condition = cancel.condition.as_ref().map(|text| format!(" if {text}")).unwrap_or_default();
            let timeout = cancel.timeout.as_ref().map(|span| format!(", for {span}")).unwrap_or_default();
            ("cancel_on", format!("{}{condition}{timeout}", cancel.event))
        }));
        rows.extend(function.on_failure.iter().map(|script| ("on_failure", script.clone())));
        rows.push(("handler", function.handler.clone()));
        rows.push(("version", format!("{}, {}", function.version.chars().take(12).collect::<String>(), function.versions)));
        rows
    }
}

impl Set {
    async fn set(&self, out: &Out, verb: &str, done: &str) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        let mut views = Vec::new();
        for id in &self.ids {
            let id = function_id(id)?;
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
