//! `stepwell runs tail`: what runs do, as it happens, of those that are meant.

use std::collections::HashMap;

use crate::base::{Clock, Diagnostic, Millis, RunId};
use crate::clock::SystemClock;
use crate::rules::RunState;
use crate::server::Word;
use crate::server::view::{NoticeView, Time};

use super::exit::{Exit, Trouble};
use super::live::run_of;
use super::out::{BOLD, DIM, Out, paint, relative, shown};
use super::reading::{Belonging, EngineOption, Reader, RunFilter};
use super::runs::status;

/// The beginning of the id of no run: with it the engine reads a filter, and looks at nothing.
const NO_RUN: &str = "0000000000000";

/// Arguments of `runs tail`.
#[derive(Debug, clap::Args)]
pub struct Tail {
    /// Only these runs; the beginnings of their ids serve
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// Only that runs come to be in one of these states: queued, running, sleeping, waiting, backing_off, paused, parked, completed,
    /// failed, cancelled; what their steps do and what they log is left out
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state)]
    status: Vec<RunState>,
    #[command(flatten)]
    belonging: Belonging,
    /// Only runs for which this holds, asked anew whenever their state changes: CEL over `run`, as `runs get --json` shows it, and
    /// `event`, such as event.data.amount > 100
    #[arg(long, value_name = "CEL")]
    r#where: Option<String>,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOption,
}

/// Reads a state: Inngest's statuses, each of which is several states, tell of no change.
fn state(text: &str) -> Result<RunState, String> {
    match status(&text.to_lowercase())? {
        Word::State(state) => Ok(state),
        Word::Status(_) => Err(format!("`{text}` is a status of Inngest's; name the states, such as `queued`")),
    }
}

/// Which notices are told.
struct Meant<'a> {
    reader: &'a Reader,
    /// The changes of states that are told alone; empty for all notices.
    states: &'a [RunState],
    /// What runs have to pass; none for all.
    filter: Option<RunFilter>,
    /// Whether runs pass, of those that have not ended since they were asked about.
    known: HashMap<RunId, bool>,
}

impl Meant<'_> {
    async fn has(&mut self, notice: &NoticeView) -> Result<bool, Trouble> {
        let Some(run) = run_of(notice) else {
            // Between what was missed, runs may have come to be others.
            self.known.clear();
            return Ok(true);
        };
        let change = match notice {
            NoticeView::Run { function, state, .. } => Some((function, *state)),
            _ => None,
        };
        let passes = self.states.is_empty() || change.is_some_and(|(_, state)| self.states.contains(&state));
        let is_meant = passes && self.is_meant(run, change.map(|(function, _)| function)).await?;
        if change.is_some_and(|(_, state)| state.is_terminal()) {
            self.known.remove(&run);
        }
        Ok(is_meant)
    }

    /// Whether a run passes the filter; `function` is its function where its state has just changed.
    async fn is_meant(&mut self, run: RunId, function: Option<&String>) -> Result<bool, Trouble> {
        let Some(filter) = &self.filter else { return Ok(true) };
        let is_function_alone = filter.key.is_none() && filter.event.is_none() && filter.condition.is_none();
        if let (Some(wanted), Some(function)) = (&filter.function, function)
            && (wanted != function || is_function_alone)
        {
            self.known.insert(run, wanted == function);
            return Ok(wanted == function);
        }
        // Of all that a run can be asked for, only what a condition sees changes with its state.
        let is_old = function.is_some() && filter.condition.is_some();
        if let Some(known) = self.known.get(&run).filter(|_| !is_old) {
            return Ok(*known);
        }
        let own = RunFilter { prefix: Some(run.to_string()), limit: 1, ..filter.clone() };
        let passes = !self.reader.runs(&own).await?.is_empty();
        self.known.insert(run, passes);
        Ok(passes)
    }
}

impl Tail {
    /// Tells what runs do until somebody ends it.
    ///
    /// # Errors
    /// Exit 3 for a run that is not there, 1 for a condition that cannot be read, 69 where no engine answers, or the stream ends.
    pub async fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let remote = self.engine.engine()?;
        let reader = Reader::Engine(remote.clone());
        let mut query = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            query.push(("run", reader.run_id(run).await?.to_string()));
        }
        let filter = self.filter(&reader).await?;
        let mut meant = Meant { reader: &reader, states: &self.status, filter, known: HashMap::new() };
        let mut notices = remote.stream(&query).await?;
        if out.terminal {
            out.say(paint(DIM, format!("following {}; Ctrl-C ends it", remote.url())));
        }
        loop {
            let sent = tokio::select! {
                sent = notices.next() => sent,
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
            };
            let Some(sent) = sent else {
                let problem = Diagnostic::error("E0531", format!("the engine at {} has ended the stream", remote.url()));
                return Err(Trouble::new(Exit::Unreachable, problem));
            };
            // What a newer engine may say besides is no notice that a filter could mean.
            let Ok(notice) = serde_json::from_str::<NoticeView>(&sent.data) else { continue };
            if !meant.has(&notice).await? {
                continue;
            }
            if self.json {
                out.line(&sent.data)?;
            } else {
                out.line(told(&notice, SystemClock::default().now(), out.terminal))?;
            }
        }
    }

    /// What runs have to pass; none where nothing is asked of them. The engine has read the condition.
    async fn filter(&self, reader: &Reader) -> Result<Option<RunFilter>, Trouble> {
        let filter = RunFilter { condition: self.r#where.clone(), ..self.belonging.filter(reader).await? };
        if filter.condition.is_some() {
            // One that cannot be read is told at once, and not with the first notice.
            reader.runs(&RunFilter { prefix: Some(NO_RUN.to_owned()), limit: 1, ..filter.clone() }).await?;
            return Ok(Some(filter));
        }
        let is_asked = filter.function.is_some() || filter.key.is_some() || filter.event.is_some();
        Ok(is_asked.then_some(filter))
    }
}

/// A notice as a line; for a person who looks on, the time of day is enough.
pub fn told(notice: &NoticeView, now: Millis, live: bool) -> String {
    let at = |at: &Time| {
        let text = at.to_string();
        paint(DIM, if live { text.get(11..23).unwrap_or(&text).to_owned() } else { text })
    };
    match notice {
        NoticeView::Run { run, function, state, at: time } => {
            format!("{} {run} {} {}", at(time), shown(function), paint(BOLD, state.word().replace('_', " ")))
        }
        NoticeView::StepBegun { run, key, attempt, at: time } => format!("{} {run}   ▸ {} attempt {attempt}", at(time), shown(key)),
        NoticeView::Recorded { run, key, ended_at, until: Some(until), .. } => {
            format!("{} {run}   ◷ {} wakes {}", at(ended_at), shown(key), relative(now, until.0))
        }
        NoticeView::Recorded { run, key, ended_at, error: Some(error), .. } => {
            format!("{} {run}   ✗ {}: {}", at(ended_at), shown(key), shown(&error.message))
        }
        NoticeView::Recorded { run, key, ended_at, .. } => format!("{} {run}   ✓ {}", at(ended_at), shown(key)),
        NoticeView::AttemptFailed { run, key, attempt, at: time, next_at, error } => {
            let next = next_at.map(|next| format!("; again {}{}", relative(now, next.0), error.asked_words())).unwrap_or_default();
            format!("{} {run}   ✗ {} attempt {attempt}: {}{next}", at(time), shown(key), shown(&error.message))
        }
        NoticeView::Log { run, at: time, message, data, .. } => {
            let data = data.as_ref().map(|data| paint(DIM, format!("  {}", super::out::cut(&data.to_string(), 120)))).unwrap_or_default();
            format!("{} {run}   {}{data}", at(time), shown(message))
        }
        NoticeView::Missed { missed } => format!("({missed} notices went by too fast)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_tell_of_a_change() {
        assert_eq!((state("Backing-off"), state("FAILED")), (Ok(RunState::BackingOff), Ok(RunState::Failed)));
        assert!(state("Scheduled").is_err_and(|error| error.contains("name the states")));
        assert!(state("failled").is_err_and(|error| error.contains("did you mean `failed`?")));
    }
}
