//! A run drawn as a tree: its steps with times and attempts, and below it the error with its script line and caret.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::base::{Diagnostic, Location, Millis, Source, Span, codes};
use crate::rules::{Failure, Kind, RunState};
use crate::server::view::{AttemptView, StepStatus, StepView, Time, Trace};

use super::out::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, cut, paint, relative, short, shown};

/// The longest message on a line of the tree, in characters.
const MESSAGE_MOST: usize = 100;
/// The longest result on a line of the tree, in characters.
const RESULT_MOST: usize = 50;
/// The widest column of step names, in characters; longer names push their line out.
const NAME_MOST: usize = 36;

/// A step whose attempt is under way: only who watches the engine live knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// The step's key.
    pub key: String,
    /// Since when.
    pub since: Millis,
}

/// The tree's lines: the run, then a line a step and below it a line for each of its failed attempts.
pub fn lines(trace: &Trace, active: &[Active], now: Millis) -> Vec<String> {
    let nodes = nodes(trace, active, now);
    let width = nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0).min(NAME_MOST);
    let mut lines = vec![head(trace, now)];
    lines.extend(again(trace));
    for (at, node) in nodes.iter().enumerate() {
        let last = at + 1 == nodes.len();
        let branch = paint(DIM, if last { "└─" } else { "├─" });
        lines.push(format!("{branch} {} {:width$}  {}", node.mark, node.name, node.text));
        let stem = paint(DIM, if last { " " } else { "│" });
        lines.extend(node.attempts.iter().map(|attempt| format!("{stem}     {attempt}")));
    }
    lines
}

/// The first line: function, run, event, state, and what has to be known about the state.
fn head(trace: &Trace, now: Millis) -> String {
    let run = &trace.run;
    let word = run.state.word().replace('_', " ");
    let mut text = match (run.run_started_at, run.ended_at) {
        (Some(Time(started)), Some(Time(ended))) => format!("{word} in {}", short(ended.since(started))),
        (None, Some(Time(ended))) => format!("{word} {}", relative(now, ended)),
        (Some(Time(started)), None) if run.state == RunState::Running => format!("{word} for {}", short(now.since(started))),
        _ => word.clone(),
    };
    match (&run.why, run.wakes_at) {
        // The engine's sentence begins with the state in its own words.
        (Some(why), _) if why.starts_with(&word) => text = shown(why),
        (Some(why), _) => text = format!("{text}: {}", shown(why)),
        // One whose time has come goes on as soon as it gets its turn, which is no time to name.
        (None, Some(Time(wake))) if !run.state.is_terminal() && wake > now => text = format!("{text}: goes on {}", relative(now, wake)),
        _ => {}
    }
    let event = trace.event.as_ref().map(|event| paint(DIM, format!(" on {}", shown(&event.name)))).unwrap_or_default();
    format!("{} {}{event}  {}", paint(BOLD, shown(&run.function_id)), paint(DIM, run.run_id), paint(style_of(run.state), text))
}

/// Which run it repeats, and which ones repeat it.
fn again(trace: &Trace) -> Option<String> {
    let of = trace.run.replay_of.map(|run| format!("replay of {run}"));
    let by: Vec<String> = trace.run.replayed_as.iter().map(ToString::to_string).collect();
    let by = (!by.is_empty()).then(|| format!("replayed as {}", by.join(", ")));
    let parts: Vec<String> = of.into_iter().chain(by).collect();
    (!parts.is_empty()).then(|| format!("{} {}", paint(DIM, "│"), paint(DIM, parts.join("; "))))
}

/// One line of the tree with what hangs below it.
struct Node {
    began: Millis,
    mark: String,
    name: String,
    text: String,
    attempts: Vec<String>,
}

/// A node for each step, each step under way, and each failed try of the code between steps, in order of time.
fn nodes(trace: &Trace, active: &[Active], now: Millis) -> Vec<Node> {
    let under_way = |key: &str| active.iter().find(|active| active.key == key);
    let mut nodes: Vec<Node> = trace.steps.iter().map(|step| node(step, under_way(&step.key), now)).collect();
    for active in active.iter().filter(|active| !trace.steps.iter().any(|step| step.key == active.key)) {
        let text = format!("{:>6}", short(now.since(active.since)));
        let name = shown(&active.key);
        nodes.push(Node { began: active.since, mark: paint(CYAN, "▸"), name, text, attempts: Vec::new() });
    }
    for attempt in &trace.attempts {
        let text = failed(attempt, now);
        nodes.push(Node {
            began: attempt.started_at.0,
            mark: paint(RED, "✗"),
            name: "between steps".to_owned(),
            text,
            attempts: Vec::new(),
        });
    }
    nodes.sort_by_key(|node| node.began);
    nodes
}

fn node(step: &StepView, active: Option<&Active>, now: Millis) -> Node {
    let took = |ended: Option<Time>| ended.map_or(String::new(), |Time(ended)| short(ended.since(step.started_at.0)));
    let tries = if step.attempts.len() > 1 { format!("  {} attempts", step.attempts.len()) } else { String::new() };
    let (mark, text) = match (step.status, step.until) {
        (StepStatus::Completed, Some(Time(until))) => {
            let slept = short(Span(until.since(step.started_at.0).0));
            (paint(GREEN, "✓"), format!("{slept:>6}  {}", paint(DIM, "slept")))
        }
        (StepStatus::Completed, None) if step.kind == Kind::Wait => {
            (paint(GREEN, "✓"), format!("{:>6}  {}", took(step.ended_at), came(step)))
        }
        (StepStatus::Completed, None) if step.kind == Kind::Race => {
            (paint(GREEN, "✓"), format!("{:>6}  {}", took(step.ended_at), won(step)))
        }
        (StepStatus::Completed, None) => {
            let output = step.output.as_ref().map(|raw| raw.get()).filter(|json| *json != "null");
            let result = output.map(|json| paint(DIM, format!("  {}", cut(json, RESULT_MOST)))).unwrap_or_default();
            (paint(GREEN, "✓"), format!("{:>6}{}{result}", took(step.ended_at), paint(YELLOW, tries)))
        }
        (StepStatus::Failed, _) => {
            let message = step.error.as_ref().map(|error| cut(&error.message, MESSAGE_MOST)).unwrap_or_default();
            (paint(RED, "✗"), format!("{:>6}{}  {}", took(step.ended_at), paint(YELLOW, tries), paint(RED, message)))
        }
        (StepStatus::Sleeping, until) => {
            let wakes = until.map(|Time(until)| format!("wakes {}", relative(now, until))).unwrap_or_default();
            (paint(YELLOW, "◷"), paint(YELLOW, wakes))
        }
        (StepStatus::Waiting, _) => (paint(YELLOW, "◷"), paint(YELLOW, waits(step, Some(now)))),
        (StepStatus::BackingOff, _) => (paint(YELLOW, "◷"), paint(YELLOW, "backing off")),
        (StepStatus::Retrying, _) => match active {
            Some(active) => (paint(CYAN, "▸"), format!("{:>6}", short(now.since(active.since)))),
            None => (paint(CYAN, "▸"), "to be tried again".to_owned()),
        },
        (StepStatus::Left, _) => (paint(YELLOW, "-"), paint(DIM, "left: another branch ended its race")),
        (StepStatus::Abandoned, _) => (paint(YELLOW, "-"), paint(DIM, "not finished: the run ended")),
    };
    let attempts = step.attempts.iter().filter(|attempt| attempt.error.is_some());
    // The last failed attempt of a failed step is the step's own line, unless others stand before it.
    let attempts = attempts.filter(|_| step.status != StepStatus::Failed || step.attempts.len() > 1);
    let attempts = attempts.map(|attempt| format!("{} {}", paint(RED, "✗"), paint(DIM, failed(attempt, now)))).collect();
    Node { began: step.started_at.0, mark, name: shown(&step.key), text, attempts }
}

/// What a wait that is not over waits for, and when it gives up: seen from `now`, or else from its beginning.
pub fn waits(step: &StepView, now: Option<Millis>) -> String {
    let what = step.waits_for.as_deref().map(|what| cut(what, MESSAGE_MOST)).unwrap_or_default();
    match (step.until, now) {
        (Some(Time(until)), Some(now)) if until > now => format!("waits for {what}, gives up {}", relative(now, until)),
        (Some(Time(until)), None) => format!("waits for {what}, gives up after {}", short(until.since(step.started_at.0))),
        _ => format!("waits for {what}"),
    }
}

/// What a wait came to: the event that ended it with its data, a signal's data, or that nothing came.
pub fn came(step: &StepView) -> String {
    let json = step.output.as_ref().map_or("null", |raw| raw.get());
    if json == "null" {
        return paint(YELLOW, "nothing came in time");
    }
    let event: Option<Value> =
        serde_json::from_str(json).ok().filter(|value: &Value| ["id", "name", "data", "ts"].iter().all(|key| value.get(key).is_some()));
    match event {
        Some(event) => {
            let name = event["name"].as_str().map(shown).unwrap_or_default();
            format!("by {name}  {}", paint(DIM, cut(&event["data"].to_string(), RESULT_MOST)))
        }
        None => paint(DIM, cut(json, RESULT_MOST)),
    }
}

/// What a race came to: the branch that ended first, those that were left, and what it gave.
pub fn won(step: &StepView) -> String {
    let first = step.first.as_deref().map(|first| format!("by {}", shown(first))).unwrap_or_default();
    let names: Vec<String> = step.left.iter().map(|name| shown(name)).collect();
    let left = if names.is_empty() { String::new() } else { format!(", left: {}", cut(&names.join(", "), RESULT_MOST)) };
    let output: Option<Value> = step.output.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok());
    let value = output.as_ref().and_then(|output| output.get("value")).filter(|value| !value.is_null());
    let value = value.map(|value| paint(DIM, format!("  {}", cut(&value.to_string(), RESULT_MOST)))).unwrap_or_default();
    format!("{first}{left}{value}")
}

/// A failed attempt in words.
pub fn failed(attempt: &AttemptView, now: Millis) -> String {
    let took = short(attempt.ended_at.0.since(attempt.started_at.0));
    let Some(error) = &attempt.error else { return String::new() };
    let place = error.trace.first().map(|place| format!(" ({}:{})", shown(&place.file), place.line)).unwrap_or_default();
    let next = match attempt.next_at {
        Some(Time(next)) if next > now => format!("; again {}{}", relative(now, next), error.asked_words()),
        // The table of back-offs is known; what was asked for stands nowhere else.
        Some(Time(next)) if error.asked.is_some() => {
            format!("; retried after {}{}", short(next.since(attempt.ended_at.0)), error.asked_words())
        }
        _ => String::new(),
    };
    format!("attempt {} failed after {took}: {}{place}{next}", attempt.attempt, cut(&error.message, MESSAGE_MOST))
}

/// The handler's files, ready to be pointed into.
pub type Files = BTreeMap<String, Arc<Source>>;

/// The files of a trace.
pub fn files(texts: &BTreeMap<String, String>) -> Files {
    texts.iter().map(|(name, text)| (name.clone(), Source::new(name.clone(), text.clone()))).collect()
}

/// A failure of a handler as a diagnostic: the innermost place first, then its callers.
pub fn problem(error: &Failure, files: &Files) -> Diagnostic {
    let code = codes::find(&error.code).map_or("", |entry| entry.code);
    let message = match (&error.step, error.attempts) {
        (Some(step), Some(attempts)) if attempts > 1 => format!("{} (step `{step}`, {attempts} attempts)", error.message),
        (Some(step), _) => format!("{} (step `{step}`)", error.message),
        _ => error.message.clone(),
    };
    let mut problem = Diagnostic::error(code, shown(&message));
    for (at, place) in error.trace.iter().enumerate() {
        let Some(source) = files.get(&place.file) else { continue };
        let line = usize::try_from(place.line).unwrap_or(1);
        let location = Location::word_at(source, line, usize::try_from(place.column).unwrap_or(1).max(1));
        let label = match (&place.within, at) {
            (_, 0) => String::new(),
            (Some(within), _) => format!("called here, in {within}"),
            (None, _) => "called here".to_owned(),
        };
        problem = problem.labelled(location, label);
    }
    if problem.places.is_empty()
        && let Some(place) = error.trace.first()
    {
        problem = problem.help(format!("at {}:{}", shown(&place.file), place.line));
    }
    if let Some(data) = &error.data {
        problem = problem.help(format!("thrown: {}", cut(&data.to_string(), MESSAGE_MOST)));
    }
    match &error.help {
        Some(help) => problem.help(shown(help)),
        None => problem,
    }
}

fn style_of(state: RunState) -> anstyle::Style {
    match state {
        RunState::Completed => GREEN,
        RunState::Failed | RunState::Parked => RED,
        RunState::Running => CYAN,
        RunState::Queued | RunState::Paused | RunState::Sleeping | RunState::Waiting | RunState::BackingOff | RunState::Cancelled => YELLOW,
    }
}
