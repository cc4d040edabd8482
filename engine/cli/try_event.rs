//! `stepwell try`: one event and all of its runs, in this process and on a database that is thrown away.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::base::diagnostic::nearest;
use crate::base::{Clock, Diagnostic, EventId};
use crate::clock::{SystemClock, SystemEntropy, VirtualClock};
use crate::exec::{AcceptError, Engine, NewEvent, Setup};
use crate::project::{EventProblem, Mode, Project};
use crate::rules::cron::SCHEDULED;
use crate::rules::ended::TOLD;
use crate::script::Host;
use crate::store::sqlite::{Durability, Options, Sqlite};
use crate::store::{EventQuery, Store, StoreError};

use super::backup::store_trouble;
use super::doctor::cannot_open;
use super::exit::{Exit, Trouble};
use super::fields::{Data, Fields};
use super::live::{Later, Show, Watcher};
use super::out::{CYAN, DIM, Out, cut, paint, shown};
use super::place::{self, ConfigOption, Throwaway};
use super::reading::Reader;
use super::then::{Then, had_effect};

/// How long a step that is under way at the end may hold the command up.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest data on the line of an event that is sent later, in characters.
const DATA_MOST: usize = 80;

/// Arguments of `try`.
#[derive(Debug, clap::Args)]
pub struct Try {
    /// The event's name
    #[arg(value_name = "EVENT", required_unless_present = "cron", conflicts_with = "cron")]
    name: Option<String>,
    /// Start this function as the clock would, now
    #[arg(long, value_name = "FUNCTION", conflicts_with_all = ["example", "data"])]
    cron: Option<String>,
    /// By which of its schedules, as it is written; the first one unless this names another
    #[arg(long, value_name = "SCHEDULE", requires = "cron")]
    schedule: Option<String>,
    #[command(flatten)]
    fields: Fields,
    /// Run on a virtual clock: sleeps, waits and back-offs take no time
    #[arg(long)]
    fast_forward: bool,
    /// Send another event that long after the first: NAME@TIME, with its example as data; or 'NAME@TIME {json}', 'NAME@TIME name=value …'
    #[arg(long, value_name = "NAME@TIME")]
    then: Vec<String>,
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
        let (mut project, notes) = Project::load(&path, &host, &place::environment, Mode::Try).map_err(Trouble::invalid)?;
        project.has_clock = false;
        out.problems(&notes);
        if let Some(function) = &self.cron {
            scheduled(&project, function, self.schedule.as_deref())?;
            let nothing = Data { value: Value::Object(serde_json::Map::new()), text: "{}".to_owned() };
            let later = self.later(&project)?;
            return super::runtime()?.block_on(self.attempt(out, Arc::new(project), host, &nothing, &later));
        }
        let typed = |field: &str, text: &str| project.typed_value(self.name(), field, text);
        let data = if project.config.event(self.name()).is_some() {
            self.fields.data(&typed, project.example(self.name()))?
        } else {
            // What is wrong with the name says more than what may be missing beside it.
            Data { value: Value::Object(serde_json::Map::new()), text: "{}".to_owned() }
        };
        project.check_event(self.name(), &data.value).map_err(|problems| refused(self.name(), &problems))?;
        let later = self.later(&project)?;
        super::runtime()?.block_on(self.attempt(out, Arc::new(project), host, &data, &later))
    }

    async fn attempt(&self, out: &Out, project: Arc<Project>, host: Arc<Host>, data: &Data, later: &[Then]) -> Result<Exit, Trouble> {
        let folder = Throwaway::new("try")?;
        let database = folder.path.join("try.db");
        let options = Options { durability: Durability::Normal, ..Options::default() };
        let opened = Sqlite::open(&database, options).map_err(|error| cannot_open(&database, &error))?;
        let store: Arc<dyn Store> = Arc::new(opened);
        let clock: Arc<dyn Clock> = if self.fast_forward { Arc::new(VirtualClock::running()) } else { Arc::new(SystemClock::default()) };
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
        // The clock must not jump before it knows of what is to be sent later.
        let busy = engine.busy();
        let start = clock.now();
        let times: Vec<_> = later.iter().map(|then| engine.at(start.after(then.after))).collect();
        let event = self.accept(&engine, data).await?;
        drop(busy);

        let reader = Reader::Store { store: Arc::clone(&store), clock };
        let mut show = Show::new(out, &reader);
        if later.is_empty() && !self.fast_forward {
            show = show.with_hints();
        }
        let events = [event];
        let (sent, more) = mpsc::unbounded_channel();
        let sending = async {
            // The sender goes with this: then nothing more will come.
            let sent = sent;
            let mut events = Vec::with_capacity(later.len());
            for (then, time) in later.iter().zip(times) {
                // Time stands still until all that came before is told, and the event stored with what it means to others.
                let Some(_busy) = time.await else { break };
                let data = paint(DIM, cut(&then.data.text, DATA_MOST));
                let line = format!("  {} {} {}  {data}", paint(CYAN, "→"), shown(&then.name), then.after);
                let (told, is_told) = oneshot::channel();
                // Nobody listens any more where the command was broken off.
                let _ = sent.send(Later::Coming(line, told));
                let _ = is_told.await;
                let event = accept(&engine, &then.name, &then.data).await?;
                let _ = sent.send(Later::Sent(event));
                events.push(event);
            }
            Ok::<_, Trouble>(events)
        };
        let mut asked = std::collections::HashSet::new();
        let both = async {
            let (traces, sent) = tokio::join!(show.until_all_ended(&events, more, watcher), sending);
            for (then, event) in later.iter().zip(sent?) {
                if !had_effect(&*store, event).map_err(|error| store_trouble(&error))? {
                    out.problems(&[then.missed()]);
                }
            }
            // What the ends have started is shown as well: scripts for failures, and functions that listen to ends.
            let mut traces = traces?;
            loop {
                let mut followed: Vec<EventId> = Vec::new();
                for name in TOLD {
                    let query = EventQuery { name: Some(Arc::from(name)), oldest_first: true, ..EventQuery::default() };
                    let told = store.events(&query).map_err(|error| store_trouble(&error))?;
                    followed.extend(told.iter().map(|row| row.id).filter(|id| asked.insert(*id)));
                }
                if followed.is_empty() {
                    return Ok(traces);
                }
                traces.extend(show.until_ended(&followed, Watcher::Here(engine.subscribe())).await?);
            }
        };
        let ended = tokio::select! {
            ended = both => ended,
            error = engine.until_fault() => Err(store_trouble(&error)),
            _ = tokio::signal::ctrl_c() => Err(Trouble::silent(Exit::Failed)),
        };
        show.clear();
        let exit = match ended {
            Ok(traces) if !traces.iter().any(|trace| trace.run.event_id == event) => Err(self.nothing(&*store, event, &project)?),
            Ok(traces) => show.conclude(&traces, self.json),
            Err(trouble) => Err(trouble),
        };
        // The database is thrown away, so nothing waits for a step that hangs.
        let _ = tokio::time::timeout(PATIENCE, engine.drain()).await;
        exit
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(SCHEDULED)
    }

    /// The events that are sent later, in order.
    fn later(&self, project: &Project) -> Result<Vec<Then>, Trouble> {
        let mut later = self.then.iter().map(|text| Then::read(text, project)).collect::<Result<Vec<_>, _>>()?;
        later.sort_by_key(|then| then.after);
        Ok(later)
    }

    /// Sends the event, or starts the function; gives the event's id.
    async fn accept(&self, engine: &Engine, data: &Data) -> Result<EventId, Trouble> {
        let Some(function) = &self.cron else { return accept(engine, self.name(), data).await };
        let started = engine.start_by_clock(function, self.schedule.as_deref()).await.map_err(|error| not_accepted(self.name(), &error))?;
        started.ok_or_else(|| store_trouble(&StoreError::Closed))
    }

    /// Why the event started nothing.
    fn nothing(&self, store: &dyn Store, event: EventId, project: &Project) -> Result<Trouble, Trouble> {
        let mut problem = Diagnostic::error("E0545", format!("{} started no run", self.name()));
        let row = store.event(event).map_err(|error| store_trouble(&error))?;
        let explained = row.map(|row| project.explain(&row, &serde_json::from_str(&row.data).unwrap_or_default())).unwrap_or_default();
        if explained.is_empty() {
            problem = problem.help(format!("no function is declared `on: {}`", self.name()));
        }
        for function in explained {
            let why = function.why.unwrap_or_else(|| "its `if` does not hold".to_owned());
            problem = problem.help(format!("{}: {why}", function.function));
        }
        Ok(Trouble::new(Exit::NothingMatched, problem))
    }
}

/// Sends an event; gives its id.
async fn accept(engine: &Engine, name: &str, data: &Data) -> Result<EventId, Trouble> {
    let text = Arc::from(data.text.as_str());
    let new = NewEvent { name: Arc::from(name), data: text, sender_id: None, dedupe: None, ts: None, extra: None };
    let accepted = engine.accept(vec![new]).await.map_err(|error| not_accepted(name, &error))?;
    accepted.first().copied().ok_or_else(|| store_trouble(&StoreError::Closed))
}

/// Refuses to start a function by the clock that is not there, or has no such schedule.
fn scheduled(project: &Project, function: &str, schedule: Option<&str>) -> Result<(), Trouble> {
    let problem = match project.function(function) {
        Some(found) if found.cron(schedule).is_some() => return Ok(()),
        Some(found) if !found.crons.is_empty() => {
            let problem =
                Diagnostic::error("E0551", format!("`{}` is no schedule of the function `{function}`", schedule.unwrap_or_default()));
            let known: Vec<String> = found.crons.iter().map(|cron| format!("`{}`", cron.schedule.text())).collect();
            return Err(Trouble::new(Exit::NotFound, problem.help(format!("it has {}", known.join(", ")))));
        }
        Some(_) => Diagnostic::error("E0551", format!("the function `{function}` has no `cron`")),
        None => Diagnostic::error("E0551", format!("there is no function `{function}`")),
    };
    let with_cron: Vec<&str> =
        project.functions.iter().filter(|function| !function.crons.is_empty()).map(|function| &*function.id).collect();
    let problem = match nearest(function, with_cron.iter().copied()) {
        Some(right) => problem.help(format!("did you mean `{right}`?")),
        None if with_cron.is_empty() => problem.help("no function has a `cron`"),
        None => problem.help(format!("the functions with a `cron` are {}", with_cron.join(", "))),
    };
    Err(Trouble::new(Exit::NotFound, problem))
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
