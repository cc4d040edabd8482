//! `stepwell send`: sends events to a running engine, and waits for their runs where that is asked.

use serde_json::Value;

use crate::base::{Clock, Diagnostic, EventId, Millis, Span};
use crate::clock::SystemClock;
use crate::project::{Mode, Project, typed_value};
use crate::script::Host;
use crate::server::view::Accepted;

use super::exit::{Exit, Trouble};
use super::fields::{Data, Fields};
use super::live::{Show, Watcher};
use super::out::{DIM, Out, count, paint};
use super::place;
use super::reading::{EngineOption, Reader, understood};
use super::remote::Remote;

/// Events of one request: enough to share a flush, few enough to stay below the size of a body.
const EVENTS_PER_REQUEST: usize = 100;

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// The event's name
    #[arg(value_name = "EVENT")]
    name: String,
    #[command(flatten)]
    fields: Fields,
    /// The event's own id: the same one, sent again within 24 h, starts nothing
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The event's time: milliseconds since 1970, a time such as 2026-01-31T12:00:00Z, or 5m for in five minutes
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    ts: Option<Moment>,
    /// Send it so many times
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Wait for the runs, show them, and exit by their results
    #[arg(long)]
    wait: bool,
    /// Wait at most so long: 30s, 5m
    #[arg(long, value_name = "SPAN", requires = "wait")]
    timeout: Option<Span>,
    /// Print one JSON document: the ids; with --wait the runs with their traces
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

/// The time of an event, as it was said.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    /// Then.
    At(Millis),
    /// So long from now.
    In(Span),
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(ms) = text.parse() {
        return Ok(Moment::At(Millis(ms)));
    }
    if let Ok(span) = text.parse() {
        return Ok(Moment::In(span));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => Ok(Moment::At(Millis(stamp.as_millisecond()))),
        Err(_) => Err("write a time such as 2026-01-31T12:00:00Z, milliseconds since 1970, or 5m for in five minutes".to_owned()),
    }
}

impl Send {
    /// Sends the event.
    ///
    /// # Errors
    /// Exit 1 for data that do not fit or, with `--wait`, a run that did not complete; 3 for an unknown event, 4 where
    /// nothing was started, 69 where no engine answers, 77 without its key, 124 where it took too long.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        if self.id.is_some() && self.count > 1 {
            return Err(Trouble::usage("--id and --count do not go together").help("the second event of one id starts nothing"));
        }
        let data = self.data()?;
        super::runtime()?.block_on(self.send(out, &data))
    }

    /// The data; fields are typed by the event's schema where the config is at hand.
    fn data(&self) -> Result<Data, Trouble> {
        if !self.fields.example && self.fields.fields.is_empty() {
            return self.fields.data(&|field, text| typed_value(None, field, text), None);
        }
        let given = self.engine.config.config.as_deref();
        let Ok(path) = place::config(given) else {
            return self.fields.data(&|field, text| typed_value(None, field, text), None);
        };
        // The engine checks the data; a project that is broken here only types less.
        let project = Project::load(&path, &Host::new(), &place::environment, Mode::Check).ok().map(|(project, _)| project);
        let model = crate::config::load(&path).model.unwrap_or_default();
        let example = model.event(&self.name).and_then(|(_, event)| event.example.as_ref()).map(|example| &example.value.value);
        let typed = |field: &str, text: &str| match &project {
            Some(project) => project.typed_value(&self.name, field, text),
            None => typed_value(None, field, text),
        };
        self.fields.data(&typed, example)
    }

    async fn send(&self, out: &Out, data: &Data) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        // The notices are taken from before the events are sent, so that none is missed.
        let notices = if self.wait { Some(remote.stream(&[]).await?) } else { None };
        let events = self.all(&remote, data).await?;
        let Some(notices) = notices else {
            self.told(out, &remote, &events)?;
            return Ok(Exit::Done);
        };
        let reader = Reader::Engine(remote.clone());
        let mut show = Show::new(out, &reader);
        let ended = tokio::select! {
            ended = show.until_ended(&events, Watcher::There(Box::new(notices))) => ended,
            trouble = self.too_long() => Err(trouble),
            _ = tokio::signal::ctrl_c() => Err(Trouble::silent(Exit::Failed)),
        };
        show.clear();
        let traces = ended?;
        if traces.is_empty() {
            let problem = Diagnostic::error("E0545", format!("{} started no run", self.name));
            let problem = problem.help(format!("`stepwell functions ls` shows what starts them; the event is {}", ids(&events)));
            return Err(Trouble::new(Exit::NothingMatched, problem));
        }
        show.conclude(&traces, self.json)
    }

    async fn all(&self, remote: &Remote, data: &Data) -> Result<Vec<EventId>, Trouble> {
        let event = self.event(data, SystemClock::default().now());
        let mut events = Vec::new();
        let mut left = self.count as usize;
        while left > 0 {
            let number = left.min(EVENTS_PER_REQUEST);
            let body = if self.count == 1 { event.clone() } else { format!("[{}]", vec![event.as_str(); number].join(",")) };
            let accepted: Accepted = understood(remote, remote.send(body).await?)?;
            events.extend(accepted.ids);
            left -= number;
        }
        Ok(events)
    }

    /// The event as JSON text, its data untouched.
    fn event(&self, data: &Data, now: Millis) -> String {
        let mut text = format!("{{\"name\":{},\"data\":{}", Value::from(self.name.as_str()), data.text);
        if let Some(id) = &self.id {
            text.push_str(&format!(",\"id\":{}", Value::from(id.as_str())));
        }
        match self.ts {
            Some(Moment::At(at)) => text.push_str(&format!(",\"ts\":{}", at.0)),
            Some(Moment::In(span)) => text.push_str(&format!(",\"ts\":{}", now.after(span).0)),
            None => {}
        }
        text.push('}');
        text
    }

    /// Is ready when the time that `--timeout` allows has gone by.
    async fn too_long(&self) -> Trouble {
        let Some(span) = self.timeout else { return std::future::pending().await };
        tokio::time::sleep(span.std()).await;
        let problem = Diagnostic::error("E0546", format!("the runs of {} have not ended after {span}", self.name));
        Trouble::new(Exit::TimedOut, problem.help("they go on; `stepwell runs ls` shows where they stand"))
    }

    fn told(&self, out: &Out, remote: &Remote, events: &[EventId]) -> Result<(), Trouble> {
        if self.json {
            out.json(&serde_json::json!({"ids": events}))?;
            return Ok(());
        }
        for event in events {
            out.line(event.to_string())?;
        }
        if out.terminal {
            let url = if self.engine.url.is_some() { format!(" --url {}", remote.url()) } else { String::new() };
            let look = match events {
                [one] => format!("stepwell events get {one}{url}"),
                several => format!("stepwell runs ls --limit {}{url}", several.len().min(100)),
            };
            out.say(paint(DIM, format!("{} accepted; see: {look}", count(events.len(), "event"))));
        }
        Ok(())
    }
}

/// The first ids of a list, for a message.
fn ids(events: &[EventId]) -> String {
    let shown: Vec<String> = events.iter().take(3).map(ToString::to_string).collect();
    let more = if events.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_forms() {
        assert_eq!(moment("1700000000000"), Ok(Moment::At(Millis(1_700_000_000_000))));
        assert_eq!(moment("5m"), Ok(Moment::In(Span(300_000))));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Moment::At(Millis(1_000))));
        assert!(moment("soon").is_err());
    }
}
