//! What one step did: its result, its error, its calls, its log and its code.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::base::{EventId, Span};
use crate::rules::{Kind, LogRow};
use crate::server::view::{AttemptView, StepStatus, StepView};
use crate::web::actions::{self, Act};
use crate::web::widgets::{self, Tone};
use crate::web::words::quoted;
use crate::web::{Ask, Web, WebError};

use super::timeline::step_id;
use super::{LINE_CHARACTERS, Shown, by_name, failure};

/// Lines of a run's log that are looked through for those of a step.
const LOG_LINES: usize = 2_000;
/// What lines of a log may take of a page unasked, in bytes.
const LOG_BYTES: usize = 32 * 1024;
/// Characters of a message or the data of a line that are shown unasked.
const LOG_CHARACTERS: usize = 2_000;
/// A result up to which a button holds it that copies it, in bytes.
const COPIED_BYTES: usize = 4 * 1024;

/// The panel beside the timeline.
pub async fn panel(web: &Web, ask: &Ask, shown: &Shown, selected: Option<usize>) -> Result<Markup, WebError> {
    let run = shown.trace.run.run_id;
    let mut lines = web.read(move |store| store.logs(run, 0, LOG_LINES + 1)).await?;
    let is_cut = lines.len() > LOG_LINES;
    lines.truncate(LOG_LINES);
    let cut = html! {
        @if is_cut { p.muted { "Only the first " (LOG_LINES) " lines of the run's log are read here; all of them: " (widgets::command(&format!("stepwell runs logs {run}"))) } }
    };
    let Some(step) = selected.and_then(|at| shown.trace.steps.get(at)) else {
        return Ok(html! {
            section.panel.side {
                h2 { "Log" }
                @if lines.is_empty() { (widgets::empty("It has recorded no step and logged nothing.", html! {})) } @else { (cut) (log(ask, &lines)) }
            }
        });
    };
    let mine: Vec<LogRow> = lines.iter().filter(|line| *line.step == *step.key).cloned().collect();
    let tab = match ask.one("tab") {
        Some(tab @ ("output" | "error" | "http" | "logs" | "code")) => tab,
        _ if step.error.is_some() => "error",
        _ => "output",
    };
    let content = match tab {
        "error" => error(ask, step, shown),
        "http" => html! { (cut) (http(&mine, is_cut)) },
        "logs" if mine.is_empty() => html! {
            (cut)
            p.muted { @if is_cut { "None of them is of this step." } @else { "This step has logged nothing." } }
            @if !lines.is_empty() { h3 { "The run's log" } (log(ask, &lines)) }
        },
        "logs" => html! { (cut) (log(ask, &mine)) },
        "code" => code(step, shown),
        _ => output(ask, step),
    };
    let (sign, word, tone) = shown.stands(step);
    Ok(html! {
        section.panel.side aria-labelledby="step-title" {
            h2 #step-title { (step.key) " " span.muted.small { (step.kind.word()) } }
            p.row.small {
                span class={ "state " (tone.class()) } { span.sign aria-hidden="true" { (sign) } (word) }
                @if let Some(at) = shown.under_way(step) { span { "attempt " (attempt_of(at.attempt, &step.attempts)) } }
                @else if let Some(last) = step.attempts.last() { span { "attempt " (attempt_of(last.attempt, &step.attempts)) } }
                span.grow {}
                @if let Some(ended) = step.until.filter(|_| step.kind == Kind::Sleep).or(step.ended_at) { span.num { (widgets::took(ended.0.since(step.started_at.0))) } }
            }
            p.small.muted.row {
                span { "began " (widgets::clock(step.started_at.0)) }
                @if let Some(queue) = queue(step, shown) { span { "queue " (queue) } }
                @if let Some(line) = &step.line { a href=(to(ask, step, "code")) { (line) } }
            }
            nav.tabs aria-label="What to show of the step" {
                @for (name, word) in [("output", "Output"), ("error", "Error"), ("http", "HTTP"), ("logs", "Logs"), ("code", "Code")] {
                    a href=(to(ask, step, name)) aria-current=[(tab == name).then_some("true")]
                        hx-get=(part(ask, step, name)) hx-target="#run" hx-swap="outerHTML" hx-push-url=(to(ask, step, name))
                    {
                        (word)
                        @if name == "logs" && !mine.is_empty() { " " span.muted { (mine.len()) @if is_cut { "+" } } }
                        @if name == "error" && step.error.is_some() { " " span.bad { "✗" } }
                    }
                }
            }
            div.tab { (content) }
            (step_actions(ask, shown, step))
        }
    })
}

/// An attempt's number, and of how many at most, where one that failed says so.
pub(super) fn attempt_of(number: u32, attempts: &[AttemptView]) -> String {
    let allowed = attempts.iter().rev().find_map(|attempt| attempt.error.as_ref()?.allowed);
    allowed.map_or_else(|| number.to_string(), |allowed| format!("{number} of {allowed}"))
}

fn to(ask: &Ask, step: &StepView, tab: &str) -> String {
    ask.with(&[("step", Some(&step_id(step))), ("tab", Some(tab)), ("do", None), ("edit", None)])
}

fn part(ask: &Ask, step: &StepView, tab: &str) -> String {
    ask.with(&[("step", Some(&step_id(step))), ("tab", Some(tab)), ("do", None), ("edit", None), ("part", Some("run"))])
}

/// How long the first step's run stood in the queue.
fn queue(step: &StepView, shown: &Shown) -> Option<String> {
    let run = &shown.trace.run;
    let is_first = shown.trace.steps.first().is_some_and(|first| step_id(first) == step_id(step));
    let started = run.run_started_at.filter(|_| is_first)?;
    Some(widgets::took(started.0.since(run.queued_at.0)))
}

fn output(ask: &Ask, step: &StepView) -> Markup {
    let event = step
        .output
        .as_ref()
        .and_then(|output| serde_json::from_str::<serde_json::Value>(output.get()).ok())
        .and_then(|value| event_of(step, &value));
    html! {
        @match &step.output {
            Some(output) => { (widgets::json_at(output.get(), &ask.with(&[("part", Some("output")), ("step", Some(&step_id(step)))]))) }
            None if step.kind == Kind::Sleep => { p.muted { "A sleep has no result." } }
            None if step.status == StepStatus::Left => { p.muted { "Another branch ended its race before it had a result." } }
            None => { p.muted { "It has no result yet." } }
        }
        @if let Some(event) = event { p { @if step.kind == Kind::Send { "Sent event " } @else { "It came by event " } (widgets::event_link(event)) } }
        @if let Some(first) = &step.first {
            p { "Its branch " b { (first) } " ended first" @if !step.left.is_empty() { "; left: " (widgets::cut(&step.left.join(", "), LINE_CHARACTERS)) } "." }
        }
        @if let Some(waits) = &step.waits_for { p { "It waits for " (widgets::sentence(waits)) "." } }
        @if let Some(until) = step.until { p.muted { "until " (widgets::clock(until.0)) } }
    }
}

/// The event that a step sent, or that ended its wait.
fn event_of(step: &StepView, value: &serde_json::Value) -> Option<EventId> {
    let text = match step.kind {
        Kind::Send => value.as_str().or_else(|| value.get(0)?.as_str()),
        Kind::Wait => value.get("id").and_then(serde_json::Value::as_str),
        _ => None,
    };
    text.filter(|text| text.len() == 13)?.parse().ok()
}

fn error(ask: &Ask, step: &StepView, shown: &Shown) -> Markup {
    let id = step_id(step);
    let whole = |attempt: u32, part: &str| {
        let attempt = attempt.to_string();
        ask.with(&[("part", Some(part)), ("step", Some(id.as_str())), ("attempt", Some(attempt.as_str())), ("tab", None)])
    };
    let failed: Vec<_> = step.attempts.iter().filter_map(|attempt| attempt.error.as_ref().map(|error| (attempt, error))).collect();
    html! {
        @if failed.is_empty() && step.error.is_none() { p.muted { "No attempt of this step has failed." } }
        @for (at, (attempt, error)) in failed.iter().enumerate().rev() {
            section.attempt {
                h3 { span.bad { "✗ #" (attempt_of(attempt.attempt, &step.attempts)) } " " (widgets::cut(error.message.lines().next().unwrap_or_default(), super::LINE_CHARACTERS)) }
                p.small.muted { (widgets::clock(attempt.ended_at.0)) " after " (widgets::took(attempt.ended_at.0.since(attempt.started_at.0))) }
                // Attempts that failed alike need one picture.
                @if failed.get(at + 1).is_none_or(|(_, later)| later.trace != error.trace) { (failure(error, &shown.files, &|part: &str| whole(attempt.attempt, part))) }
            }
        }
    }
}

/// A call of a handler, as the engine has noted it in the run's log.
#[derive(Debug, serde::Deserialize)]
struct Call {
    method: String,
    url: String,
    ms: i64,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    answer_headers: BTreeMap<String, String>,
}

#[derive(Debug, serde::Deserialize)]
struct Noted {
    http: Call,
}

/// The call that a line of a log is about.
fn call(line: &LogRow) -> Option<Call> {
    let data = line.data.as_deref().filter(|_| line.is_call())?;
    Some(serde_json::from_str::<Noted>(data).ok()?.http)
}

/// The calls among lines of a log; of one that is cut, nobody knows the others.
fn http(lines: &[LogRow], is_cut: bool) -> Markup {
    let calls: Vec<(&LogRow, Call)> = lines.iter().filter_map(|line| Some((line, call(line)?))).collect();
    html! {
        @if calls.is_empty() { p.muted { @if is_cut { "None of them is a call of this step." } @else { "This step has made no call." } } }
        @for (line, call) in &calls {
            details.call {
                summary {
                    @match call.status {
                        Some(status) => { span class=(if status < 400 { "good" } else { "bad" }) { (if status < 400 { "✓ " } else { "✗ " }) (status) } }
                        None => { span.bad { "✗ no answer" } }
                    }
                    " " b { (call.method) } " " span.mono.url { (call.url) } " " span.num.muted { (widgets::took(Span(call.ms))) }
                }
                p.small.muted { "answered at " (widgets::clock(line.at)) @if let Some(error) = &call.error { ": " (error) } }
                @for (title, headers) in [("Sent", &call.headers), ("Answered", &call.answer_headers)] {
                    @if !headers.is_empty() {
                        h3.small { (title) }
                        dl.headers { @for (name, value) in headers { dt { (name) } dd { (value) } } }
                    }
                }
            }
        }
    }
}

/// Lines of a log: the first ones, unless all of them are asked for.
fn log(ask: &Ask, lines: &[LogRow]) -> Markup {
    let mut bytes = 0;
    let has_room = |line: &&LogRow| {
        // Its times and tags take their part.
        bytes += 220 + line.message.len() + line.data.as_ref().map_or(0, |data| data.len());
        bytes <= LOG_BYTES
    };
    let first = lines.iter().take_while(has_room).count().max(1).min(lines.len());
    let (shown, longest) = if ask.one("lines") == Some("all") { (lines.len(), usize::MAX) } else { (first, LOG_CHARACTERS) };
    let cut = |text: &str| widgets::cut(text, longest);
    let is_cut = lines[..shown].iter().any(|line| line.message.len().max(line.data.as_ref().map_or(0, |data| data.len())) > longest);
    html! {
        @if shown < lines.len() || is_cut {
            p.row.small {
                span.muted { @if shown < lines.len() { "The first " (shown) " of " (lines.len()) " lines." } @else { "Long lines are cut." } }
                a href=(ask.with(&[("lines", Some("all")), ("tab", Some("logs"))])) { "Show all of them" }
            }
        }
        ol.log {
            @for line in &lines[..shown] {
                li class={ "level-" (line.level.word()) } {
                    (widgets::clock(line.at)) " " b.level { (line.level.word()) } " "
                    @if !line.step.is_empty() { span.muted { (line.step) } " " }
                    span.message { (cut(&line.message)) }
                    @if let Some(data) = &line.data { " " code.data-inline { (cut(data)) } }
                }
            }
        }
    }
}

fn code(step: &StepView, shown: &Shown) -> Markup {
    let place =
        step.line.as_deref().and_then(|line| line.rsplit_once(':')).and_then(|(file, line)| Some((file, line.parse::<u32>().ok()?)));
    let found = place.and_then(|(file, line)| by_name(&shown.files).get(file).map(|source| (file, line, *source)));
    html! {
        @match found {
            Some((file, line, source)) => { p.small.mono.muted { (file) ":" (line) } (widgets::code(source, Some((line, 0)))) }
            None => {
                @match shown.files.first() {
                    Some((file, source)) => { p.small.mono.muted { (file) } (widgets::code(source, None)) }
                    None => { p.muted { "The source of this version is not stored." } }
                }
            }
        }
    }
}

fn step_actions(ask: &Ask, shown: &Shown, step: &StepView) -> Markup {
    let run = &shown.trace.run;
    let id = run.run_id.to_string();
    let may_replay = step.ended_at.is_some() && run.state.rests();
    html! {
        div.row.step-actions {
            @if may_replay {
                (actions::button(ask, Act {
                    path: "/do/replay", label: "Replay from here", fields: &[("run", &id), ("from_step", &step.key)],
                    command: &format!("stepwell replay {id} --from {}", quoted(&step.key)), tone: Tone::Plain, ..Act::default()
                }))
                @if step.output.is_some() { a.button href={ (ask.with(&[("edit", Some(&step.key)), ("do", Some("replay"))])) "#do" } { "Edit…" } }
            }
            @if let Some(output) = &step.output {
                @if output.get().len() > COPIED_BYTES {
                    (widgets::copy_from("Copy output", &ask.with(&[("part", Some("raw")), ("step", Some(&step_id(step))), ("tab", None)]), "Copy"))
                } @else { (widgets::copy("Copy output", output.get())) }
            }
        }
    }
}
