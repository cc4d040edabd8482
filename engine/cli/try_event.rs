//! `stepwell try`: one event and all of its runs, in this process and on a database that is thrown away.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::{Clock, Diagnostic, EventId};
use crate::clock::{JumpingClock, SystemClock, SystemEntropy};
use crate::exec::{AcceptError, Engine, NewEvent, Setup};
use crate::project::{EventProblem, Mode, Project};
use crate::script::Host;
use crate::store::sqlite::{Durability, Options, Sqlite};
use crate::store::{Store, StoreError};

use super::backup::store_trouble;
use super::doctor::cannot_open;
use super::exit::{Exit, Trouble};
use super::fields::{Data, Fields};
use super::live::{Show, Watcher};
use super::out::Out;
use super::place::{self, ConfigOption, Throwaway};
use super::reading::Reader;

/// How long a step that is under way at the end may hold the command up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Arguments of `try`.
#[derive(Debug, clap::Args)]
pub struct Try {
    /// The event's name
    #[arg(value_name = "EVENT")]
    name: String,
    #[command(flatten)]
    fields: Fields,
    /// Run on a virtual clock: sleeps and back-offs end at once
    #[arg(long)]
    fast_forward: bool,
    /// Print one JSON document: the runs with their traces
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl Try {
    /// Sends the event, shows its runs, prints their results.
    ///
    /// # Errors
    /// Exit 1 where a run failed, was cancelled or parked, or data do not fit; 3 for an unknown event, 4 where it started
    /// nothing, 78 for a project that is not valid.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        let host = Host::new();
        let (project, notes) = Project::load(&path, &host, &place::environment, Mode::Try).map_err(Trouble::invalid)?;
        out.problems(&notes);
        let typed = |field: &str, text: &str| project.typed_value(&self.name, field, text);
        let data = if project.config.event(&self.name).is_some() {
            self.fields.data(&typed, project.example(&self.name))?
        } else {
            // What is wrong with the name says more than what may be missing beside it.
            Data { value: Value::Object(serde_json::Map::new()), text: "{}".to_owned() }
        };
        project.check_event(&self.name, &data.value).map_err(|problems| refused(&self.name, &problems))?;
        super::runtime()?.block_on(self.attempt(out, Arc::new(project), host, &data))
    }

    async fn attempt(&self, out: &Out, project: Arc<Project>, host: Arc<Host>, data: &Data) -> Result<Exit, Trouble> {
        let folder = Throwaway::new("try")?;
        let database = folder.path.join("try.db");
        let options = Options { durability: Durability::Normal, ..Options::default() };
        let opened = Sqlite::open(&database, options).map_err(|error| cannot_open(&database, &error))?;
        let store: Arc<dyn Store> = Arc::new(opened);
        let clock: Arc<dyn Clock> = if self.fast_forward { Arc::new(JumpingClock::default()) } else { Arc::new(SystemClock::default()) };
        let engine = Engine::start(Setup {
            project: Arc::clone(&project),
            host,
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            entropy: Arc::new(SystemEntropy),
            threads: 1,
        })
        .map_err(|error| store_trouble(&error))?;
        engine.until_ready().await;
        let watcher = Watcher::Here(engine.subscribe());
        let text = Arc::from(data.text.as_str());
        let new = NewEvent { name: Arc::from(self.name.as_str()), data: text, sender_id: None, dedupe: None, ts: None, extra: None };
        let accepted = engine.accept(vec![new]).await.map_err(|error| not_accepted(&self.name, &error))?;
        let event = accepted.first().copied().ok_or_else(|| store_trouble(&StoreError::Closed))?;

        let reader = Reader::Store { store: Arc::clone(&store), clock };
        let mut show = Show::new(out, &reader);
        let events = [event];
        let ended = tokio::select! {
            ended = show.until_ended(&events, watcher) => ended,
            error = engine.until_fault() => Err(store_trouble(&error)),
            _ = tokio::signal::ctrl_c() => Err(Trouble::silent(Exit::Failed)),
        };
        show.clear();
        let exit = match ended {
            Ok(traces) if traces.is_empty() => Err(self.nothing(&*store, event, &project)?),
            Ok(traces) => show.conclude(&traces, self.json),
            Err(trouble) => Err(trouble),
        };
        // The database is thrown away, so nothing waits for a step that hangs.
        let _ = tokio::time::timeout(PATIENCE, engine.drain()).await;
        exit
    }

    /// Why the event started nothing.
    fn nothing(&self, store: &dyn Store, event: EventId, project: &Project) -> Result<Trouble, Trouble> {
        let mut problem = Diagnostic::error("E0545", format!("{} started no run", self.name));
        let row = store.event(event).map_err(|error| store_trouble(&error))?;
        let explained = row.map(|row| project.explain(&row, &serde_json::from_str(&row.data).unwrap_or_default())).unwrap_or_default();
        if explained.is_empty() {
            problem = problem.help(format!("no function is declared `on: {}`", self.name));
        }
        for function in explained {
            let why = function.why.unwrap_or_else(|| "its `if` does not hold".to_owned());
            problem = problem.help(format!("{}: {why}", function.function));
        }
        Ok(Trouble::new(Exit::NothingMatched, problem))
    }
}

/// The refusal of an event's name or data.
pub fn refused(name: &str, problems: &[EventProblem]) -> Trouble {
    let unknown = problems.iter().any(|problem| problem.code == super::remote::UNKNOWN_EVENT);
    let told = problems.iter().map(|problem| {
        let place = if problem.pointer.is_empty() { String::new() } else { format!("{}: ", problem.pointer) };
        let told = Diagnostic::error(problem.code, format!("{name} is refused: {place}{}", problem.message));
        match &problem.help {
            Some(help) => told.help(help.clone()),
            None => told,
        }
    });
    Trouble { exit: if unknown { Exit::NotFound } else { Exit::Failed }, problems: told.collect() }
}

fn not_accepted(name: &str, error: &AcceptError) -> Trouble {
    match error {
        AcceptError::Refused(refusals) => refused(name, &refusals.iter().map(|refusal| refusal.problem.clone()).collect::<Vec<_>>()),
        AcceptError::Store(error) => store_trouble(error),
        AcceptError::Full => store_trouble(&StoreError::Full),
        AcceptError::Draining => store_trouble(&StoreError::Closed),
    }
}
