//! One run: where it stands and why, what it did when, and what can be done about it.

mod panel;
mod replay;
mod scale;
mod timeline;
mod why;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use maud::{Markup, html};
use serde_json::Value;

use crate::base::{Id, Millis, RunId, Span};
use crate::exec::AtWork;
use crate::rules::{Failure, Kind, RunRow, RunState, What, ended};
use crate::server::view::{StepStatus, StepView, Time, Trace};
use crate::store::{RunQuery, Store, StoreError};
use crate::web::actions::{self, Act};
use crate::web::rows::each_run;
use crate::web::widgets::{self, Tone};
use crate::web::{Ask, Content, Web, WebError, layout};

use timeline::step_id;

/// Invoked runs that are looked for.
const CHILDREN_MOST: usize = 20;
/// Runs among which an invoked one is looked for, of those created when its step began.
const CHILD_ROWS: usize = 2_000;
/// How long after its step began an invoked run is created, or after its end the run of its `on_failure` script: within the first of these, as a
/// rule, and within the last of them in any case.
const CHILD_WITHIN: [Span; 4] = [Span(20), Span(100), Span(500), Span(2_000)];
/// Characters of a message that are shown in one line.
const LINE_CHARACTERS: usize = 300;
/// Characters of a reason that are shown.
const REASON_CHARACTERS: usize = 2_000;
/// Lines of a handler that are shown around an error.
pub const AROUND: u32 = 4;

/// A run with the sources of its handler.
struct Shown {
    trace: Trace,
    /// The files of the version that it ran on, the handler first.
    files: Vec<(String, String)>,
    /// The version of the handler now; none where the function is gone.
    newest: Option<String>,
    children: Vec<(String, RunId, RunState)>,
    /// The run of its function's `on_failure` script.
    handled: Option<(RunId, RunState)>,
    /// The steps that are under way; each is among those of the trace.
    at_work: Vec<AtWork>,
    now: Millis,
}

impl Shown {
    /// The attempt of a step that is under way.
    fn under_way(&self, step: &StepView) -> Option<&AtWork> {
        self.at_work.iter().find(|at| step.kind == Kind::Step && step.ended_at.is_none() && *at.step == *step.key)
    }

    /// The sign, the word and the meaning of where a step stands.
    fn stands(&self, step: &StepView) -> (&'static str, &'static str, Tone) {
        match self.under_way(step) {
            Some(_) => (widgets::sign(RunState::Running), "running", widgets::tone(RunState::Running)),
            None => widgets::step_status(step.status),
        }
    }
}

/// The page of a run.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let id = ask.row_id("a run")?;
    match ask.part() {
        Some("output" | "raw" | "thrown" | "message") => return Ok(whole(&web, &ask, id).await?.into()),
        Some("json") => {
            let trace = web.api().trace(id).await?.data;
            let text = serde_json::to_string_pretty(&trace).map_err(|error| WebError::bad_request(error.to_string()))?;
            return Ok(html! { pre { (text) } }.into());
        }
        _ => {}
    }
    let shown = shown(&web, id).await?;
    let run = shown.trace.run.clone();
    let body = body(&web, &ask, &shown).await?;
    if ask.part() == Some("run") {
        return Ok(body.into());
    }
    let head = html! {
        h1.crumbs {
            span.muted.wide { (layout::app_name(&web)) " › " }
            (widgets::function_link(&run.function_id)) span.muted { " › " } span.mono { (run.run_id) }
        }
    };
    Ok(Content::new(body)
        .title(format!("{} {}", run.function_id, run.run_id))
        .head(head)
        .watching(run.run_id)
        .command(format!("stepwell runs trace {}", run.run_id)))
}

async fn shown(web: &Web, id: RunId) -> Result<Shown, WebError> {
    let mut trace = web.api().trace(id).await?.data;
    // A run whose branches wait may have others at work.
    let is_over = trace.run.state.rests();
    let at_work = if is_over { Vec::new() } else { web.engine().at_work(id).await };
    begin(&mut trace, &at_work);
    let version = trace.run.function_version.clone();
    let source = web.read(move |store| version.map_or(Ok(None), |version| store.source(&version))).await?;
    let files = source.map(|source| files(&source.files)).unwrap_or_default();
    let newest = web.project().function(&trace.run.function_id).map(|function| function.program.hash().to_string());
    let children = children(web, &trace).await?;
    let handled = handled(web, &trace).await?;
    Ok(Shown { trace, files, newest, children, handled, at_work, now: web.now() })
}

/// Adds the steps to a trace that are in their first attempt: nothing is stored of them yet.
fn begin(trace: &mut Trace, at_work: &[AtWork]) {
    for at in at_work {
        if trace.steps.iter().any(|step| step.kind == Kind::Step && *step.key == *at.step) {
            continue;
        }
        trace.steps.push(StepView {
            key: at.step.to_string(),
            kind: Kind::Step,
            status: StepStatus::Retrying,
            started_at: Time(at.since),
            ended_at: None,
            line: None,
            until: None,
            waits_for: None,
            output: None,
            error: None,
            first: None,
            left: Vec::new(),
            attempts: Vec::new(),
        });
    }
}

/// A version's files in their order.
fn files(json: &str) -> Vec<(String, String)> {
    // The engine wrote this object itself; a damaged one costs the pictures, not the page.
    let map: serde_json::Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
    map.into_iter().filter_map(|(name, text)| Some((name, text.as_str()?.to_owned()))).collect()
}

/// The runs that a run invoked, by the step that did. As long as a run has not ended, its waits name them. Later, a run does not know its
/// children, but they know it, and were created when its step began.
async fn children(web: &Web, trace: &Trace) -> Result<Vec<(String, RunId, RunState)>, WebError> {
    let parent = trace.run.run_id;
    let steps: Vec<(String, Millis)> = trace
        .steps
        .iter()
        .filter(|step| step.kind == Kind::Invoke)
        .take(CHILDREN_MOST)
        .map(|step| (step.key.clone(), step.started_at.0))
        .collect();
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    web.read(move |store| {
        let waits = store.waits(parent)?;
        let waited_for = |key: &str| {
            waits.iter().find_map(|wait| match &*wait.what {
                What::Run(child) if *wait.wait.key == *key => Some(*child),
                _ => None,
            })
        };
        let mut found: Vec<(String, RunId, RunState)> = Vec::new();
        for (key, began) in steps {
            let child = match waited_for(&key) {
                Some(child) => store.run(child)?.map(|run| (run.id, run.state)),
                None => {
                    let is_new = |run: &RunRow| !found.iter().any(|(_, known, _)| *known == run.id);
                    first_created(store, None, began, &|run| run.invoked_by == Some(parent) && is_new(run))?
                }
            };
            found.extend(child.map(|(child, state)| (key, child, state)));
        }
        Ok(found)
    })
    .await
}

/// The run of the `on_failure` script that the failure of a run has started. A run does not know it, but its event names the run that failed, and
/// was made with its end.
async fn handled(web: &Web, trace: &Trace) -> Result<Option<(RunId, RunState)>, WebError> {
    let run = &trace.run;
    let Some(ended) = run.ended_at.filter(|_| run.state == RunState::Failed) else { return Ok(None) };
    let (failed, script) = (run.run_id, ended::on_failure_of(&run.function_id));
    web.read(move |store| {
        // A link that is missing where an event cannot be read is better than no page.
        let is_about_it = |run: &RunRow| {
            let event = store.event(run.event).ok().flatten();
            event.and_then(|event| ended::failed(&event)).is_some_and(|(told, _)| told.run == failed)
        };
        first_created(store, Some(script.into()), ended.0, &is_about_it)
    })
    .await
}

/// The first run from a time on that is meant, of a function where one is given. It looks at the oldest ones first, so that it also finds it
/// where very many have come since.
fn first_created(
    store: &dyn Store,
    function: Option<Arc<str>>,
    began: Millis,
    is_meant: &dyn Fn(&RunRow) -> bool,
) -> Result<Option<(RunId, RunState)>, StoreError> {
    let (mut from, mut left) = (began, CHILD_ROWS);
    for within in CHILD_WITHIN {
        let to = began.after(within);
        let (first, last) = (RunId::first_at(from), Id(RunId::first_at(to).0 - 1));
        let query = RunQuery { function: function.clone(), from: Some(first), to: Some(last), limit: left, ..RunQuery::default() };
        let mut oldest = None;
        each_run(store, &query, |run| {
            left -= 1;
            if is_meant(&run) {
                // They come newest first.
                oldest = Some((run.id, run.state));
            }
            ControlFlow::Continue(())
        })?;
        if oldest.is_some() || left == 0 {
            return Ok(oldest);
        }
        from = to;
    }
    Ok(None)
}

/// The step that the address names, or the one that is most worth a look.
fn selected(ask: &Ask, steps: &[StepView]) -> Option<usize> {
    if let Some(named) = ask.one("step")
        && let Some(at) = steps.iter().position(|step| step_id(step) == named)
    {
        return Some(at);
    }
    if ask.has("from") {
        return None;
    }
    let of = |statuses: &[StepStatus]| steps.iter().rposition(|step| statuses.contains(&step.status));
    of(&[StepStatus::Failed])
        .or_else(|| of(&[StepStatus::BackingOff, StepStatus::Retrying]))
        .or_else(|| of(&[StepStatus::Waiting, StepStatus::Sleeping]))
        .or_else(|| steps.len().checked_sub(1))
}

async fn body(web: &Web, ask: &Ask, shown: &Shown) -> Result<Markup, WebError> {
    let (run, now) = (&shown.trace.run, shown.now);
    let selected = selected(ask, &shown.trace.steps);
    let offers = why::offers(web, &shown.trace).await?;
    let panel = panel::panel(web, ask, shown, selected).await?;
    let again = ask.with(&[("part", Some("run"))]);
    let is_over = run.state.is_terminal();
    let step = selected.and_then(|at| shown.trace.steps.get(at));
    let is_shown = step.is_some_and(|step| {
        run.error.as_ref().is_some_and(|error| error.step.as_deref() == Some(&*step.key)) && matches!(ask.one("tab"), None | Some("error"))
    });
    Ok(html! {
        div #run data-live=[(!is_over).then_some("run")] data-tick=[(!is_over).then_some("yes")] data-url=(again) data-swap="outerHTML" {
            (header(shown))
            (buttons(ask, shown, &offers))
            (why::why(ask, run, &offers, now))
            @if let Some(error) = run.error.as_ref().filter(|_| run.state == RunState::Failed) {
                section.failed aria-labelledby="error-title" {
                    h2 #error-title { "✗ " (widgets::cut(error.message.lines().next().unwrap_or("failed"), LINE_CHARACTERS)) }
                    // Beside the step that it comes from, all of it is there to see.
                    @if !is_shown { (failure(error, &shown.files, &|part: &str| ask.with(&[("part", Some(part)), ("step", None)]))) }
                }
            }
            div.run-grid {
                section.panel.time { (timeline::timeline(ask, shown, selected)) }
                (panel)
            }
            (ends(ask, shown))
        }
    })
}

/// The state and what the run is, in two lines.
fn header(shown: &Shown) -> Markup {
    let (run, now) = (&shown.trace.run, shown.now);
    let event = shown.trace.event.as_ref();
    html! {
        div.state-line {
            (widgets::state(run.state))
            @if run.state == RunState::Waiting {
                @for step in shown.trace.steps.iter().filter(|step| step.status == StepStatus::Waiting) {
                    span { "for " (widgets::sentence(step.waits_for.as_deref().unwrap_or("what has come"))) }
                    @if let Some(until) = step.until { span.muted { "expires " (widgets::ago(until.0, now)) } }
                }
            } @else if let Some(wakes) = run.wakes_at.filter(|wakes| wakes.0 > now) { span.muted { "goes on " (widgets::ago(wakes.0, now)) } }
            @if run.state.is_terminal() && let Some(why) = &run.why { span.muted { (widgets::sentence(&widgets::cut(why, REASON_CHARACTERS))) } }
        }
        p.meta {
            @match (run.run_started_at, run.ended_at) {
                (Some(started), Some(ended)) => { span { "took " b { (widgets::took(ended.0.since(started.0))) } ", started " (widgets::ago(started.0, now)) } }
                (Some(started), None) => { span { "started " (widgets::ago(started.0, now)) } }
                (None, _) => { span { "created " (widgets::ago(run.created_at.0, now)) } }
            }
            span { "attempt " (panel::attempt_of(run.attempt, &shown.trace.attempts)) }
            (version(shown))
            @if let Some(key) = &run.key { span { "key " code { (super::runs::key_text(key)) } } }
            @match event {
                Some(event) => { span { "event " a href={ "/events/" (run.event_id) } { (event.name) } " " (widgets::event_link(run.event_id)) } }
                None => { span { "event " (widgets::event_link(run.event_id)) } }
            }
            @if let Some(of) = run.replay_of { span { "replay of " (widgets::run_link(of)) } }
            @for by in &run.replayed_as { span { "replayed as " (widgets::run_link(*by)) } }
            @if let Some((script, state)) = shown.handled {
                span { "on_failure " span class={ "sign " (widgets::tone(state).class()) } aria-hidden="true" { (widgets::sign(state)) } " " (widgets::run_link(script)) }
            }
            @if let Some(failed) = failed(&shown.trace) { span { "runs because " (widgets::run_link(failed)) " failed" } }
            @if let Some(parent) = run.invoked_by { span { "invoked by " (widgets::run_link(parent)) } }
            @for (step, child, state) in &shown.children {
                span { (step) " " span class={ "sign " (widgets::tone(*state).class()) } aria-hidden="true" { (widgets::sign(*state)) } " " (widgets::run_link(*child)) }
            }
        }
    }
}

/// The run whose failure a run of an `on_failure` script is about: its event tells of it.
fn failed(trace: &Trace) -> Option<RunId> {
    ended::failing_function(&trace.run.function_id)?;
    let told: Value = serde_json::from_str(trace.event.as_ref()?.data.get()).ok()?;
    told.get("run_id")?.as_str()?.parse().ok()
}

fn short(hash: &str) -> &str {
    hash.get(..7).unwrap_or(hash)
}

/// The version that it ran on; where there is a newer one, the way to what is different.
fn version(shown: &Shown) -> Markup {
    let run = &shown.trace.run;
    let Some(version) = &run.function_version else { return html! { span.muted { "no version yet" } } };
    html! {
        span {
            "version " code title=(version) { (short(version)) }
            @match &shown.newest {
                Some(newest) if newest == version => { span.muted { " (newest)" } }
                Some(newest) => {
                    " (now " code title=(newest) { (short(newest)) } " "
                    a href={ (widgets::function_path(&run.function_id)) "?version=" (version) } { "difference ▸" } ")"
                }
                None => { span.warn { " (the function is gone)" } }
            }
        }
    }
}

/// What can be done about the run.
fn buttons(ask: &Ask, shown: &Shown, offers: &[why::Offer]) -> Markup {
    let run = &shown.trace.run;
    let id = run.run_id.to_string();
    let asked = ask.one("do");
    let may_replay = run.state.rests();
    let recorded: Vec<&StepView> = shown.trace.steps.iter().filter(|step| step.ended_at.is_some()).collect();
    html! {
        div.actions #do {
            @if !run.state.is_terminal() {
                details.menu open[asked == Some("cancel")] {
                    summary.button.danger data-key="c" { "Cancel" }
                    form.stack method="post" action="/do/cancel" {
                        (actions::back(ask))
                        input type="hidden" name="run" value=(id);
                        label { span { "Reason" } input name="reason" placeholder="cancelled by request" autocomplete="off"; }
                        div.row { (actions::submit(ask, "Cancel the run", &format!("stepwell runs cancel {id}"), Tone::Bad, None)) }
                        (actions::command("", "stepwell runs cancel {run}[ --reason {reason}]", &[("run", &id)]))
                    }
                }
            }
            @if may_replay { (replay::menu(ask, &id, &recorded, asked == Some("replay"))) } @else { (replay::later(&id, asked == Some("replay"))) }
            @if matches!(run.state, RunState::BackingOff | RunState::Parked) {
                (actions::button(ask, Act {
                    path: "/do/retry-now", label: "Retry now", fields: &[("run", &id)], command: &format!("stepwell runs retry-now {id}"), ..Act::default()
                }))
            }
            @for offer in offers {
                @if let why::Offer::Event { name, .. } = offer { a.button href=(ask.with(&[("do", Some("send"))])) { "Send " (name) "…" } }
            }
            span.grow {}
            span.small.muted { "Copy" }
            (widgets::copy("CLI", &format!("stepwell runs trace {id}")))
            (widgets::copy_from("JSON", &format!("/runs/{id}?part=json"), "Copy the whole run as JSON"))
        }
    }
}

/// An error with the line of the script that it came from. `whole` gives the address of its `message` and of what was `thrown`, which are
/// fetched where they are large.
pub fn failure(error: &Failure, files: &[(String, String)], whole: &dyn Fn(&str) -> String) -> Markup {
    // Its first line stands above, as much as has room.
    let is_long = error.message.lines().count() > 1 || error.message.chars().nth(LINE_CHARACTERS).is_some();
    let picture = error.trace.first().and_then(|place| {
        let (_, source) = files.iter().find(|(name, _)| *name == place.file)?;
        Some((place, source))
    });
    html! {
        @if is_long { (widgets::text_at(&error.message, Some(&whole("message")))) }
        @if let Some((place, source)) = picture {
            p.small.mono.muted { "--> " (place.file) ":" (place.line) @if place.column > 0 { ":" (place.column) } }
            (widgets::code_around(source, (place.line, place.column), AROUND))
        }
        @if error.trace.len() > 1 {
            ol.trace.small.mono {
                @for place in error.trace.iter().skip(usize::from(picture.is_some())) {
                    li { "from " (place.file) ":" (place.line) @if let Some(within) = &place.within { " in " (within) } }
                }
            }
        }
        @if let Some(data) = &error.data { p.small.muted { "Thrown:" } (widgets::json_at(&data.to_string(), &whole("thrown"))) }
        p.small {
            @if let Some(step) = &error.step { span { "step " code { (step) } } }
            @if let Some(attempts) = error.attempts { span { ", " (attempts) @if attempts == 1 { " attempt" } @else { " attempts" } } }
            @if !error.code.is_empty() { " " span { code { (error.code) } span.muted { " · " code { "stepwell explain " (error.code) } } } }
        }
        @if let Some(help) = &error.help { p { "help: " (help) } }
    }
}

/// What it came to, what started it, and what is different since.
fn ends(ask: &Ask, shown: &Shown) -> Markup {
    let run = &shown.trace.run;
    html! {
        div.grid2 {
            @if let Some(output) = &run.output {
                (widgets::panel("Result", widgets::json_at(output.get(), &ask.with(&[("part", Some("output")), ("step", None)]))))
            }
            @if let Some(event) = &shown.trace.event {
                (widgets::panel("Event", html! { p { a href={ "/events/" (run.event_id) } { (event.name) } } (widgets::json_at(event.data.get(), &ask.with(&[("part", Some("output")), ("step", Some("event"))]))) }))
            }
        }
    }
}

/// A payload that was too large to come with the page.
async fn whole(web: &Web, ask: &Ask, id: RunId) -> Result<Markup, WebError> {
    let trace = web.api().trace(id).await?.data;
    let step = |named: &str| trace.steps.iter().find(|step| step_id(step) == named);
    if let Some(part @ ("thrown" | "message")) = ask.part() {
        let attempt: Option<u32> = ask.one("attempt").and_then(|attempt| attempt.parse().ok());
        let error = match ask.one("step") {
            None => trace.run.error.as_ref(),
            Some(named) => step(named).and_then(|step| step.attempts.iter().find(|tried| Some(tried.attempt) == attempt)?.error.as_ref()),
        };
        if part == "message" {
            return error.map(|error| widgets::text_at(&error.message, None)).ok_or_else(|| WebError::not_found("nothing failed there"));
        }
        let data = error.and_then(|error| error.data.as_ref());
        return data.map(|data| widgets::json_whole(&data.to_string())).ok_or_else(|| WebError::not_found("nothing was thrown there"));
    }
    let found = match ask.one("step") {
        None => trace.run.output.as_ref(),
        Some("event") => trace.event.as_ref().map(|event| &event.data),
        Some(named) => step(named).and_then(|step| step.output.as_ref()),
    };
    let found = found.ok_or_else(|| WebError::not_found("there is no such result"))?;
    match ask.part() {
        Some("raw") => Ok(html! { (found.get()) }),
        _ => Ok(widgets::json_whole(found.get())),
    }
}

/// The sources of a version as they are stored, by name.
fn by_name(files: &[(String, String)]) -> BTreeMap<&str, &str> {
    files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
}
