//! `stepwell functions invoke`: starts a run of a function by hand, and waits for it where that is asked.

use serde_json::Value;

use crate::base::{Diagnostic, Span};
use crate::project::{Mode, Project, typed_value};
use crate::script::Host;
use crate::server::view::{InvokedView, One};

use super::exit::{Exit, Trouble};
use super::fields::{Data, Fields};
use super::live::{Show, Watcher};
use super::out::{DIM, Out, paint};
use super::place;
use super::reading::{EngineOption, Reader, function_id, understood};

/// Arguments of `functions invoke`.
#[derive(Debug, clap::Args)]
pub struct Invoke {
    /// The function's id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    fields: Fields,
    /// Wait for the run, show it, and exit by its result
    #[arg(long)]
    wait: bool,
    /// Wait at most so long: 30s, 5m
    #[arg(long, value_name = "SPAN", requires = "wait")]
    timeout: Option<Span>,
    /// Print one JSON document: the run; with --wait with its trace
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

impl Invoke {
    /// Starts the run.
    ///
    /// # Errors
    /// Exit 1 for data that do not fit or, with `--wait`, a run that did not complete; 3 for an unknown function, 69 where no engine
    /// answers, 77 without its token, 124 where it took too long.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        function_id(&self.id)?;
        let data = self.data()?;
        super::runtime()?.block_on(self.invoke(out, &data))
    }

    /// The data; fields are typed by the schema of the event that starts the function, where it is one and the config is at hand.
    fn data(&self) -> Result<Data, Trouble> {
        let given = self.engine.config.config.as_deref();
        let config = place::config(given).ok().filter(|_| self.fields.example || !self.fields.fields.is_empty());
        // The engine checks the data; a project that is broken here only types less.
        let project =
            config.and_then(|path| Project::load(&path, &Host::new(), &place::environment, Mode::Check).ok()).map(|(project, _)| project);
        let event = project.as_ref().and_then(|project| match project.function(&self.id)?.triggers.as_slice() {
            [trigger] => Some((project, trigger.event.to_string())),
            _ => None,
        });
        let typed = |field: &str, text: &str| match &event {
            Some((project, event)) => project.typed_value(event, field, text),
            None => typed_value(None, field, text),
        };
        let example: Option<&Value> = event.as_ref().and_then(|(project, event)| project.example(event));
        self.fields.data(&typed, example)
    }

    async fn invoke(&self, out: &Out, data: &Data) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        // The notices are taken from before the run is there, so that none is missed.
        let notices = if self.wait { Some(remote.stream(&[]).await?) } else { None };
        let body = format!("{{\"data\":{}}}", data.text);
        let invoked: One<InvokedView> = understood(&remote, remote.post(&format!("/v1/functions/{}/invoke", self.id), body).await?)?;
        let InvokedView { run_id, event_id, run, .. } = invoked.data;
        let Some(notices) = notices else {
            if self.json {
                out.line(serde_json::to_string(&run).unwrap_or_default())?;
            } else {
                out.line(run_id.to_string())?;
                if out.terminal {
                    let url = if self.engine.url.is_some() { format!(" --url {}", remote.url()) } else { String::new() };
                    out.say(paint(DIM, format!("started; see: stepwell runs trace {run_id}{url}")));
                }
            }
            return Ok(Exit::Done);
        };
        let reader = Reader::Engine(remote.clone());
        let mut show = Show::new(out, &reader);
        let events = [event_id];
        let ended = tokio::select! {
            ended = show.until_ended(&events, Watcher::There(Box::new(notices))) => ended,
            trouble = self.too_long() => Err(trouble),
            _ = tokio::signal::ctrl_c() => Err(Trouble::silent(Exit::Failed)),
        };
        show.clear();
        show.conclude(&ended?, self.json)
    }

    /// Is ready when the time that `--timeout` allows has gone by.
    async fn too_long(&self) -> Trouble {
        let Some(span) = self.timeout else { return std::future::pending().await };
        tokio::time::sleep(span.std()).await;
        let problem = Diagnostic::error("E0546", format!("the run of {} has not ended after {span}", self.id));
        Trouble::new(Exit::TimedOut, problem.help("it goes on; `stepwell runs ls` shows where it stands"))
    }
}
