//! `stepwell eval`: one expression on an event, CEL as `if` and keys have it, or Rhai as a handler has it.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::base::{Diagnostic, Location, Source};
use crate::expr::{EventView, Expr, MATCH_VARIABLES, Scope};
use crate::project::{Mode, Project};
use crate::script::Host;
use crate::testing::{Said, Session};

use super::exit::{Exit, Trouble, plain};
use super::out::{Out, cut, shown};
use super::place::{self, Throwaway};
use super::reading::Target;

/// The longest value of a path that is shown, in characters.
const SEEN_MOST: usize = 60;

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
pub struct Eval {
    /// The expression: CEL over `event` (and `async`), or with --rhai lines of a handler
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expression: String,
    /// The event: `example` (the config's first one), an event's name (its example), a file of JSON (an event or its data; - for stdin), or the
    /// id of a stored event [default: example]
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// The event that `async` is, given as `--event` is
    #[arg(long = "async", value_name = "EVENT", conflicts_with = "rhai")]
    other: Option<String>,
    /// Evaluate Rhai, on the virtual clock, where effects are refused
    #[arg(long)]
    rhai: bool,
    /// Print one JSON document: the value, and what the expression read
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// An event, as an expression sees it.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
    /// Its time, in milliseconds since 1970.
    pub ts: i64,
}

impl Given {
    fn of(name: &str, data: Value) -> Given {
        Given { id: "example".to_owned(), name: name.to_owned(), data, ts: 0 }
    }

    /// As expressions see it.
    pub fn view(&self) -> EventView<'_> {
        EventView { id: &self.id, name: &self.name, data: &self.data, ts: self.ts }
    }

    /// The event of a JSON text: with `name` and `data`, or the data alone.
    fn read(text: &str, origin: &str) -> Result<Given, Trouble> {
        let value: Value = serde_json::from_str(text).map_err(|error| Trouble::usage(format!("{origin} is not JSON: {error}")))?;
        match (value["name"].as_str(), value.get("data")) {
            (Some(name), Some(data @ Value::Object(_))) => {
                let id = value["id"].as_str().unwrap_or("example").to_owned();
                Ok(Given { id, name: name.to_owned(), data: data.clone(), ts: value["ts"].as_i64().unwrap_or_default() })
            }
            _ if value.is_object() => Ok(Given::of("", value)),
            _ => Err(Trouble::usage(format!("{origin} holds JSON that is no object")).help("an event is {\"name\": \"…\", \"data\": {…}}")),
        }
    }
}

/// The project at hand; none where there is none and nobody named one.
pub fn project(config: Option<&Path>, host: &Arc<Host>) -> Result<Option<Project>, Trouble> {
    let path = match place::existing_config(config) {
        Ok(path) => path,
        Err(_) if config.is_none() => return Ok(None),
        Err(trouble) => return Err(trouble),
    };
    Project::load(&path, host, &place::environment, Mode::Test).map(|(project, _)| Some(project)).map_err(Trouble::invalid)
}

/// A project that declares nothing and takes any event.
pub fn bare(host: &Arc<Host>) -> Result<(Throwaway, Project), Trouble> {
    let folder = Throwaway::new("prompt")?;
    let path = folder.path.join(place::CONFIG_NAME);
    std::fs::write(&path, "version: 1\nunknown_events: accept\n").map_err(|error| Trouble::file(&path, "write", &error))?;
    let (project, _) = Project::load(&path, host, &place::environment, Mode::Test).map_err(Trouble::invalid)?;
    Ok((folder, project))
}

/// Evaluates CEL on events.
///
/// # Errors
/// Exit 2 for a text that does not parse, with its place; 1 where it fails on this event.
pub fn cel(text: &str, event: Option<&Given>, other: Option<&Given>) -> Result<(Value, Vec<(String, Value)>), Trouble> {
    let source = Source::new("expression", text);
    let expr = Expr::parse(text, MATCH_VARIABLES).map_err(|errors| {
        let told = |error: crate::expr::ExprError| {
            let code = if error.message.starts_with("unknown") { "E0212" } else { "E0211" };
            let problem = Diagnostic::error(code, error.message).at(Location::new(&source, error.range));
            match error.help {
                Some(help) => problem.help(help),
                None => problem,
            }
        };
        Trouble { exit: Exit::Usage, problems: errors.into_iter().map(told).collect() }
    })?;
    let scope = Scope { event: event.map(Given::view), async_event: other.map(Given::view), ..Scope::default() };
    let seen = expr.seen(&scope);
    match expr.eval(&scope) {
        Ok(value) => Ok((value, seen)),
        Err(error) => {
            let problem = Diagnostic::error("E0211", error.message).at(Location::new(&source, 0..text.len()));
            let problem = seen
                .iter()
                .fold(problem, |problem, (path, value)| problem.help(format!("{path} is {}", cut(&value.to_string(), SEEN_MOST))));
            Err(Trouble::new(Exit::Failed, problem))
        }
    }
}

impl Eval {
    /// Prints the value.
    ///
    /// # Errors
    /// Exit 2 for an expression or event that cannot be read, 1 where it fails on this event, 3 for an event that is not there.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let host = Host::new();
        let project = project(self.target.database.config.config.as_deref(), &host)?;
        let event = self.given(self.event.as_deref(), project.as_ref(), out)?;
        if self.rhai {
            return self.script(out, &host, project, event);
        }
        let other = match &self.other {
            Some(other) => self.given(Some(other), project.as_ref(), out)?,
            None => None,
        };
        let (value, seen) = cel(&self.expression, event.as_ref(), other.as_ref())?;
        if self.json {
            let seen: Map<String, Value> = seen.into_iter().collect();
            out.json(&serde_json::json!({ "value": value, "seen": seen }))?;
        } else {
            out.json(&value)?;
        }
        Ok(Exit::Done)
    }

    fn script(&self, out: &Out, host: &Arc<Host>, project: Option<Project>, event: Option<Given>) -> Result<Exit, Trouble> {
        let (_folder, project) = match project {
            Some(project) => (None, project),
            None => bare(host).map(|(folder, project)| (Some(folder), project))?,
        };
        let mut session = Session::new(&project, host);
        if let Some(event) = event.filter(|_| self.event.is_some()) {
            let name = if event.name.is_empty() { session.event().0.to_owned() } else { event.name };
            session.set_event(&name, Some(event.data)).map_err(|problems| Trouble { exit: Exit::Usage, problems })?;
        }
        let Said { value, logs, problems } = session.say(&self.expression);
        for line in &logs {
            out.say(shown(&line.message));
        }
        if !problems.is_empty() {
            return Err(Trouble { exit: Exit::Failed, problems });
        }
        if self.json {
            out.json(&serde_json::json!({ "value": value }))?
        } else {
            out.json(&value)?
        }
        Ok(Exit::Done)
    }

    /// The event that is named; none where none is, and there is no example.
    fn given(&self, named: Option<&str>, project: Option<&Project>, out: &Out) -> Result<Option<Given>, Trouble> {
        let example = |name: &str| project.and_then(|project| project.example(name)).map(|data| Given::of(name, data.clone()));
        let first = || project.and_then(|project| project.config.events.names().find_map(example));
        match named {
            None => Ok(first()),
            Some("example") => first().map(Some).ok_or_else(|| Trouble::usage("no event has an example in events.yaml")),
            Some("-") => {
                let mut text = String::new();
                let read = std::io::stdin().read_to_string(&mut text);
                read.map_err(|error| Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("cannot read stdin: {}", plain(&error)))))?;
                Given::read(&text, "stdin").map(Some)
            }
            Some(name) if project.is_some_and(|project| project.config.event(name).is_some()) => {
                example(name).map(Some).ok_or_else(|| Trouble::usage(format!("`{name}` has no example in events.yaml")))
            }
            Some(path) if Path::new(path).is_file() => {
                let text = std::fs::read_to_string(path).map_err(|error| Trouble::file(Path::new(path), "read", &error))?;
                Given::read(&text, path).map(Some)
            }
            Some(other) if other.contains(['/', '.']) => {
                let problem = Diagnostic::error("E0222", format!("`{other}` is neither a declared event nor a file"));
                let names = project.iter().flat_map(|project| project.config.events.names());
                Err(Trouble::new(Exit::NotFound, problem.nearest(other, names)))
            }
            Some(id) => super::runtime()?.block_on(async {
                let reader = self.target.reader(out).await?;
                let event = reader.event(reader.event_id(id).await?).await?;
                let data = serde_json::from_str(event.data.get()).unwrap_or_default();
                Ok(Some(Given { id: event.internal_id.to_string(), name: event.name, data, ts: event.ts }))
            }),
        }
    }
}
