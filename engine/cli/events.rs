//! `stepwell events`: looking at accepted events.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::{EventId, Millis};
use crate::server::view::{Deduplication, EventView, ExplainView, RunView, Time, When};

use super::exit::{Exit, Trouble};
use super::out::{BOLD, Cell, DIM, Out, cut, paint, relative, shown};
use super::reading::{EngineOption, EventFilter, Reader, RunFilter, Target};
use super::runs;

/// The longest data in a list, in characters.
const DATA_MOST: usize = 60;
/// How often it is looked for new events.
const TAIL_LOOK: Duration = Duration::from_millis(250);
/// Events that are read at once, unless more have come.
const TAIL_AT_ONCE: usize = 100;
/// Events that are known to have been told.
const TAIL_KNOWN: usize = 10_000;
/// The most runs that are listed below an event.
const RUNS_MOST: usize = 100;

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub struct Events {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List events, newest first
    #[command(after_help = "Example:\n  stepwell events ls --name payment/initiate --since 1h")]
    Ls(Ls),
    /// Show one event with its data and the runs that it started; with --explain why it did or did not start some
    #[command(after_help = "Example:\n  stepwell events ls --limit 1 | cut -f1 | xargs stepwell events get")]
    Get(Get),
    /// Follow the events as they are accepted
    #[command(after_help = "Example:\n  stepwell events tail --name payment/initiate --json")]
    Tail(Tail),
}

#[derive(Debug, clap::Args)]
struct Ls {
    /// Of this name, or of a family such as `stripe/*`
    #[arg(long, value_name = "EVENT")]
    name: Option<String>,
    /// For which this holds: CEL over `event`
    #[arg(long, value_name = "CEL")]
    r#where: Option<String>,
    /// Accepted since: 2h, 7d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
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
    /// The event's id, or its beginning
    #[arg(value_name = "EVENT")]
    event: String,
    /// Say what became of it: which functions matched, which `if` was false with the values it saw, what the gates said
    #[arg(long)]
    explain: bool,
    /// Print one JSON document: the event, with its runs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
struct Tail {
    /// Of this name
    #[arg(long, value_name = "EVENT")]
    name: Option<String>,
    /// Begin with those accepted since: 2h, 7d, or a time such as 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

impl Events {
    /// Carries out what is asked.
    ///
    /// # Errors
    /// Exit 3 for an event that is not there, 2 for an id that fits several, 69 where nothing can be read.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        super::runtime()?.block_on(async {
            match &self.what {
                What::Ls(command) => command.run(out).await,
                What::Get(command) => command.run(out).await,
                What::Tail(command) => command.run(out).await,
            }
        })
    }
}

impl Ls {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let reader = self.target.reader(out).await?;
        let since = self.since.map(|since| since.seen_from(reader.now()));
        let (name, condition) = (self.name.clone(), self.r#where.clone());
        let filter = EventFilter { name, since, condition, prefix: None, limit: self.limit as usize };
        let events = reader.events(&filter).await?;
        if self.json {
            out.line(serde_json::to_string(&events).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        if events.is_empty() && out.terminal {
            out.say("no events");
            return Ok(Exit::Done);
        }
        let now = reader.now();
        let time = |time: Time| if out.terminal { relative(now, time.0) } else { time.to_string() };
        let data = |event: &EventView| if out.terminal { cut(event.data.get(), DATA_MOST) } else { event.data.get().to_owned() };
        let row = |event: &EventView| -> Vec<Cell> {
            vec![event.internal_id.to_string().into(), event.name.clone().into(), time(event.received_at).into(), data(event).into()]
        };
        out.table(&["event", "name", "received", "data"], events.iter().map(row).collect())?;
        Ok(Exit::Done)
    }
}

impl Tail {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        // For a family, all events would be looked at again and again.
        if self.name.as_deref().is_some_and(|name| name.ends_with('*')) {
            return Err(Trouble::usage("--name: the events of one name are followed, or all; `events ls` takes a family"));
        }
        let remote = self.engine.engine()?;
        let reader = Reader::Engine(remote.clone());
        let newest = async |since: Option<Millis>, limit| {
            let name = self.name.clone();
            reader.events(&EventFilter { name, since, limit, ..EventFilter::default() }).await
        };
        let since = self.since.map(|since| since.seen_from(reader.now()));
        // Events become visible when they are durable, which is not always in the order of their ids: so those that were told are known
        // by their ids. What was there before is not told, unless it is asked for.
        let mut told: BTreeSet<EventId> = BTreeSet::new();
        // Whatever is no newer than this one counts as told. It is not the oldest one that was told: one that is older still may become
        // visible later.
        let mut floor: Option<EventId> = None;
        if since.is_none() {
            told.extend(newest(None, TAIL_AT_ONCE).await?.iter().map(|event| event.internal_id));
            floor = told.first().copied().filter(|_| told.len() >= TAIL_AT_ONCE);
        }
        if out.terminal {
            out.say(paint(DIM, format!("following {}; Ctrl-C ends it", remote.url())));
        }
        loop {
            let mut limit = TAIL_AT_ONCE;
            // The newest come first: as many are read as lead back to those that were told.
            let mut events = loop {
                let events = newest(since, limit).await?;
                let is_known = |event: &EventView| floor.is_some_and(|floor| event.internal_id <= floor);
                if events.len() < limit || events.last().is_some_and(|oldest| told.contains(&oldest.internal_id) || is_known(oldest)) {
                    break events;
                }
                limit *= 8;
            };
            events.retain(|event| !told.contains(&event.internal_id) && floor.is_none_or(|floor| event.internal_id > floor));
            events.reverse();
            for event in &events {
                self.tell(out, event)?;
                told.insert(event.internal_id);
            }
            while told.len() > TAIL_KNOWN {
                floor = told.pop_first().max(floor);
            }
            tokio::select! {
                () = tokio::time::sleep(TAIL_LOOK) => {}
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
            }
        }
    }

    fn tell(&self, out: &Out, event: &EventView) -> Result<(), Trouble> {
        if self.json {
            out.line(serde_json::to_string(event).unwrap_or_default())?;
            return Ok(());
        }
        let at = event.received_at.to_string();
        let at = if out.terminal { at.get(11..23).unwrap_or(&at) } else { &at };
        let data = if out.terminal { cut(event.data.get(), DATA_MOST) } else { shown(event.data.get()) };
        out.line(format!("{} {} {} {}", paint(DIM, at), event.internal_id, paint(BOLD, shown(&event.name)), data))?;
        Ok(())
    }
}

/// An event with its runs as one document; its data stand in it as they came.
#[derive(serde::Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    event: &'a EventView,
    runs: &'a [RunView],
}

impl Get {
    async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let reader = self.target.reader(out).await?;
        let id = reader.event_id(&self.event).await?;
        if self.explain {
            return self.explained(out, &reader.explain(id, &self.target).await?, reader.now());
        }
        let event = reader.event(id).await?;
        let filter = RunFilter { event: Some(id), limit: RUNS_MOST, ..RunFilter::default() };
        let runs = reader.runs(&filter).await?;
        if self.json {
            out.line(serde_json::to_string(&Whole { event: &event, runs: &runs }).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        let now = reader.now();
        let received = event.received_at;
        let received = if out.terminal { format!("{received}  ({})", relative(now, received.0)) } else { received.to_string() };
        let mut rows = vec![("event", id.to_string()), ("name", event.name.clone()), ("received", received)];
        if event.id != id.to_string() {
            rows.push(("sender's id", event.id.clone()));
        }
        rows.push(("data", event.data.get().to_owned()));
        for (name, value) in rows {
            let line = if out.terminal {
                format!("{} {}", paint(BOLD, format!("{name:<11}")), shown(&value))
            } else {
                format!("{name}\t{}", shown(&value))
            };
            out.line(line)?;
        }
        if out.terminal {
            out.line("")?;
        }
        runs::list(out, &runs, now)?;
        Ok(Exit::Done)
    }

    fn explained(&self, out: &Out, view: &ExplainView, now: Millis) -> Result<Exit, Trouble> {
        if self.json {
            out.line(serde_json::to_string(view).unwrap_or_default())?;
            return Ok(Exit::Done);
        }
        let received = view.event.received_at;
        let received = if out.terminal { format!("{received}  ({})", relative(now, received.0)) } else { received.to_string() };
        let mut rows = vec![
            ("event", view.event.internal_id.to_string()),
            ("name", view.event.name.clone()),
            ("received", received),
            ("summary", view.summary.clone()),
        ];
        rows.extend(view.deduplication.as_ref().map(|same| ("same again", same_again(same))));
        rows.extend(view.config.clone().map(|since| ("config", since)));
        for (name, value) in rows {
            out.line(if out.terminal {
                format!("{} {}", paint(BOLD, format!("{name:<11}")), shown(&value))
            } else {
                format!("{name}\t{}", shown(&value))
            })?;
        }
        if out.terminal {
            out.line("")?;
        }
        let rows = view.functions.iter().map(|function| {
            let whys = std::iter::once(function.why.clone()).chain(function.notes.iter().cloned());
            let others = function.gates.iter().map(|gate| gate.why.clone()).filter(|why| *why != function.why);
            let saw = function.conditions.iter().flat_map(|condition| &condition.values);
            let saw: Vec<String> = saw.map(|(path, value)| format!("{path} = {value}")).collect();
            let whys: Vec<String> = whys.chain(others).collect();
            vec![
                Cell::from(function.function_id.clone()),
                function.outcome.replace('_', " ").into(),
                whys.join("; ").into(),
                saw.join(", ").into(),
            ]
        });
        let waits = view.waits.iter().map(|wait| {
            let state = wait.state.word().replace('_', " ");
            let why = format!("ended the wait `{}` of run {}, which is {state}", wait.key, wait.run_id);
            vec![Cell::from(wait.function_id.clone()), "wait ended".to_owned().into(), why.into(), String::new().into()]
        });
        let cancelled = view.cancelled.iter().map(|run| {
            let why = format!("cancelled run {} by `cancel_on`", run.run_id);
            vec![Cell::from(run.function_id.clone()), "cancelled".to_owned().into(), why.into(), String::new().into()]
        });
        out.table(&["function", "outcome", "why", "its `if` saw"], rows.chain(waits).chain(cancelled).collect())?;
        Ok(Exit::Done)
    }
}

/// How the same event sent again is known, in a sentence.
fn same_again(same: &Deduplication) -> String {
    let known = match &same.id {
        Some(id) => format!("until {} the id `{id}` answers this event and starts nothing", same.until),
        None => format!("until {} the same request answers this event and starts nothing", same.until),
    };
    match same.repeated_at {
        Some(at) => format!("{known}; it came again at {at}"),
        None => known,
    }
}
