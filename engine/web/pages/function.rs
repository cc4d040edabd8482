//! One function: what it declares, its handler with the versions that there were, and what can be done with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use maud::{Markup, html};

use crate::base::{Millis, RunId};
use crate::project::{Function, declaration};
use crate::rules::cron::Cron;
use crate::rules::{RunRow, ended};
use crate::store::{RunQuery, Store, StoreError};
use crate::web::actions;
use crate::web::lines::{Line, compare};
use crate::web::rows::light_runs;
use crate::web::widgets::{self, Tone};
use crate::web::words;
use crate::web::{Ask, Content, Web, WebError};

use super::functions::{RUNS_DRAWN, meters, pause, picture, seconds, starts};

/// The newest runs of a function that are looked at for the versions that they ran on.
const RUNS_LOOKED_AT: usize = 1_000;
/// Runs that the page lists.
const RUNS_LISTED: usize = 10;
/// Times of a schedule that are shown.
const TIMES_SHOWN: usize = 3;
/// Lines around a change that a comparison shows.
const AROUND: usize = 3;

/// A stored version of a handler.
struct Version {
    hash: Arc<str>,
    /// Those of the newest runs that ran on it.
    runs: usize,
    newest: Option<RunId>,
}

/// The files of a version, by name.
type Files = BTreeMap<String, String>;

/// Two versions that are held against each other, each with its hash.
struct Compared {
    from: (Arc<str>, Files),
    to: (Arc<str>, Files),
}

/// The page of a function.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let project = web.project();
    let id = ask.id().to_owned();
    let function = project.function(&id).filter(|_| ended::failing_function(&id).is_none()).cloned();
    let function = function.ok_or_else(|| {
        let near = crate::base::diagnostic::nearest(&id, project.functions.iter().map(|function| &*function.id));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        WebError::not_found(format!("there is no function `{id}`{near}"))
    })?;
    let own = Arc::clone(&function.id);
    let asked = ask.one("version").map(|version| (version.to_owned(), ask.one("with").map(str::to_owned)));
    let in_force = as_stored(&function);
    let main = function.program.main().to_owned();
    let script = function.on_failure.as_ref().map(|script| (Arc::clone(&script.id), script.program.main().to_owned(), as_stored(script)));
    let read = web.read(move |store| {
        let runs_of = |id| light_runs(store, &RunQuery { function: Some(id), limit: RUNS_LOOKED_AT, ..RunQuery::default() });
        let runs = runs_of(own)?;
        let versions = versions(store, &runs, &main)?;
        let Some((from, to)) = asked else { return Ok((runs, versions, None, None)) };
        let compared = compared(store, &versions, &in_force, &from, to.as_deref())?;
        // It may be one of the script of `on_failure`, whose runs are others.
        let of_script = match script {
            Some((id, main, in_force)) if compared.is_none() => {
                let versions = self::versions(store, &runs_of(id)?, &main)?;
                self::compared(store, &versions, &in_force, &from, to.as_deref())?
            }
            _ => None,
        };
        Ok((runs, versions, compared, of_script))
    });
    let (runs, versions, other, other_script) = read.await?;
    let flow = web.flow(false).await;
    let (now, paused) = (web.now(), web.engine().paused_since(&function.id));
    let drawn = &runs[..runs.len().min(RUNS_DRAWN)];
    let declared = declaration(&function.place);
    let body = html! {
        @if let Some(since) = paused {
            (widgets::remark(Tone::Warn, html! { "⏸ Paused " (widgets::ago(since, now)) ": what has begun goes on, what has not waits." }))
        }
        div.row {
            (pause(&ask, &function, paused.is_some()))
            a.button href={ "/runs?function=" (function.id) } { "Its runs" }
            (picture(drawn))
        }
        div.grid2 {
            (widgets::panel("What it does", widgets::facts(&facts(&function, now))))
            section.panel {
                h2 { "Declared in " span.mono { (declared.file) ":" (declared.line) } }
                (widgets::yaml(&declared.text))
                @if function.throttle.is_some() || function.rate_limit().is_some() || function.collect.is_some() {
                    h3 { "Left at the moment" }
                    (meters(&function, &flow, now, 10))
                    p { a href="/flow" { "All keys" } }
                }
            }
        }
        (invoke(&web, &ask, &function))
        section.panel {
            h2 { "Last runs" }
            @if runs.is_empty() { (widgets::empty("No runs yet", html! {})) } @else { (last(&runs[..runs.len().min(RUNS_LISTED)], now)) }
        }
        section.panel {
            h2 { "Handler " span.mono { (function.program.main()) } " " (widgets::tag(&short(function.program.hash()), Tone::Info)) }
            (versions_table(&function, &versions, &ask, now))
            @match &other {
                Some(compared) => (differences(compared, function.program.hash())),
                None => {
                    @for file in function.program.files() {
                        @if function.program.files().len() > 1 { h3.mono { (file.name) } }
                        (widgets::code(&file.text, None))
                    }
                }
            }
        }
        @if let Some(failures) = &function.on_failure {
            section.panel {
                h2 { "When a run fails: " span.mono { (failures.program.main()) } }
                @match &other_script {
                    Some(compared) => (differences(compared, failures.program.hash())),
                    None => { @for file in failures.program.files() { (widgets::code(&file.text, None)) } }
                }
            }
        }
    };
    Ok(Content::new(body)
        .title(format!("Function {}", function.id))
        .command(format!("stepwell functions get {}", function.id))
        .command(format!("stepwell runs ls --function {}", function.id)))
}

fn short(hash: &str) -> String {
    hash.chars().take(7).collect()
}

fn facts(function: &Function, now: Millis) -> Vec<(&'static str, Markup)> {
    let mut all = vec![("starts", starts(function, now))];
    if !function.crons.is_empty() {
        let is_one = function.crons.len() == 1;
        all.push((
            "next",
            html! {
                @for cron in &function.crons {
                    @if !is_one { p { code { (cron.schedule.text()) } } }
                    (next_starts(cron, now))
                }
            },
        ));
    }
    all.push(("concurrency", html! { @for sentence in words::concurrency(function) { p { (sentence) } } }));
    all.extend(words::options(function).into_iter().map(|(key, sentence)| (key, html! { (sentence) })));
    if let Some(failures) = &function.on_failure {
        all.push(("on_failure", html! { span.mono { (failures.program.main()) } }));
    }
    all
}

/// The next times of a schedule, and what becomes of starts that were missed.
fn next_starts(cron: &Cron, now: Millis) -> Markup {
    let schedule = &cron.schedule;
    let times: Vec<Millis> = std::iter::successors(schedule.next(now), |at| schedule.next(*at)).take(TIMES_SHOWN).collect();
    html! {
        table.values {
            thead { tr { th scope="col" { (schedule.zone_name()) } th scope="col" { "UTC" } th scope="col" { "in" } } }
            tbody { @for time in times { tr { td.mono { (schedule.local(time)) } td.mono { (seconds(time)) } td { (widgets::ago(time, now)) } } } }
        }
        p.muted { "Missed starts: " (cron.missed.word()) @if cron.jitter.0 > 0 { "; delayed by up to " (cron.jitter) } }
    }
}

fn invoke(web: &Web, ask: &Ask, function: &Function) -> Markup {
    let project = web.project();
    let event = function.triggers.first().filter(|_| function.triggers.len() == 1).map(|trigger| &trigger.event);
    let example = event.and_then(|event| project.example(event));
    let data = example.map_or_else(|| "{}".to_owned(), ToString::to_string);
    let example = example.map_or_else(|| "{}".to_owned(), |example| format!("{example:#}"));
    html! {
        details.panel {
            summary { "Invoke it" }
            form method="post" action="/do/invoke" {
                (actions::back(ask))
                input type="hidden" name="function" value=(function.id);
                div.field {
                    label for="invoke-data" { "Data (a JSON object)" }
                    textarea.mono id="invoke-data" name="data" rows=(example.lines().count().clamp(3, 20)) spellcheck="false" { (example) }
                    p.hint.muted { "It starts whatever its " code { "if" } " says, and passes no gate but concurrency, throttle and priority." }
                }
                div.row { button.primary type="submit" disabled[!ask.may_change] title=[(!ask.may_change).then_some("your token may only read")] { "Invoke " (function.id) } }
                (actions::command("", "stepwell functions invoke {function}[ --data {data}]", &[("function", &function.id), ("data", &data)]))
            }
        }
    }
}

fn last(runs: &[RunRow], now: Millis) -> Markup {
    html! {
        div.table { table.rows {
            thead { tr { th scope="col" { "Run" } th scope="col" { "State" } th scope="col" { "Created" } th.wide scope="col" { "Took" } th.wide scope="col" { "Version" } } }
            tbody {
                @for run in runs {
                    tr data-row {
                        td { a.main.mono href={ "/runs/" (run.id) } { (run.id) } }
                        td { (widgets::state(crate::server::view::shown_state(run, now))) }
                        td { (widgets::ago(run.created, now)) }
                        td.wide.num { @if let Some((started, ended)) = run.started.zip(run.ended) { (widgets::took(ended.since(started))) } }
                        td.wide.mono { @if let Some(version) = &run.version { (short(version)) } }
                    }
                }
            }
        } }
    }
}

/// The files of a function's version in force, as those of others are stored.
fn as_stored(function: &Function) -> (Arc<str>, Files) {
    let files = function.program.files().iter().map(|file| (file.name.clone(), file.text.clone())).collect();
    (Arc::clone(function.program.hash()), files)
}

/// The versions of a handler that are stored or that runs ran on, the one with the newest run first. `main` is the handler's file: a version
/// that none of these runs ran on is known by it.
fn versions(store: &dyn Store, runs: &[RunRow], main: &str) -> Result<Vec<Version>, StoreError> {
    let mut found: BTreeMap<Arc<str>, Version> = BTreeMap::new();
    let of = |hash: &Arc<str>| Version { hash: Arc::clone(hash), runs: 0, newest: None };
    for run in runs {
        let Some(hash) = &run.version else { continue };
        let version = found.entry(Arc::clone(hash)).or_insert_with(|| of(hash));
        version.runs += 1;
        version.newest = version.newest.max(Some(run.id));
    }
    for hash in store.sources_of(main)? {
        found.entry(Arc::clone(&hash)).or_insert_with(|| of(&hash));
    }
    let mut all: Vec<Version> = found.into_values().collect();
    all.sort_by_key(|version| std::cmp::Reverse(version.newest));
    Ok(all)
}

fn versions_table(function: &Function, versions: &[Version], ask: &Ask, now: Millis) -> Markup {
    let in_force = function.program.hash();
    let others = versions.iter().filter(|version| version.hash != *in_force).count();
    html! {
        @if others == 0 { p.muted { "No other version is stored." } } @else {
            div.table { table.rows {
                caption.sr { "Versions of the handler" }
                thead { tr { th scope="col" { "Version" } th.num scope="col" { "Runs" } th scope="col" { "Newest run" } th scope="col" { span.sr { "Show" } } } }
                tbody {
                    @for version in versions {
                        tr data-row {
                            td.mono { (short(&version.hash)) @if version.hash == *in_force { " " (widgets::tag("in force", Tone::Good)) } }
                            td.num { (version.runs) }
                            td { @match version.newest { Some(newest) => (widgets::ago(newest.made_at(), now)), None => span.muted { "older, or none" } } }
                            td {
                                @if version.hash == *in_force { a href=(ask.with(&[("version", None), ("with", None)])) { "Source" } } @else {
                                    a.main href=(ask.with(&[("version", Some(&short(&version.hash))), ("with", None)])) { "Difference to now" }
                                }
                            }
                        }
                    }
                }
            } }
            p.muted { "Those that are stored; runs are counted in the newest " (RUNS_LOOKED_AT) " that are kept." }
            @if others > 1 { (choose(versions, in_force, ask)) }
        }
    }
}

/// Any two versions can be held against each other.
fn choose(versions: &[Version], in_force: &Arc<str>, ask: &Ask) -> Markup {
    let mut all: Vec<&Arc<str>> = versions.iter().map(|version| &version.hash).collect();
    if !all.contains(&in_force) {
        all.push(in_force);
    }
    let is_chosen = |hash: &Arc<str>, name: &str| match ask.one(name) {
        Some(named) => hash.starts_with(named),
        None => name == "with" && hash == in_force,
    };
    let options = |name: &str| {
        html! {
            @for hash in &all { option value=(short(hash)) selected[is_chosen(hash, name)] { (short(hash)) @if *hash == in_force { " (in force)" } } }
        }
    };
    html! {
        form.row method="get" action=(ask.path()) {
            label { span { "From" } select name="version" { (options("version")) } }
            label { span { "to" } select name="with" { (options("with")) } }
            button type="submit" { "Compare" }
        }
    }
}

fn files(store: &dyn Store, hash: &str) -> Result<Option<Files>, StoreError> {
    // What is no object of texts is a damaged row, which has no files.
    Ok(store.source(hash)?.map(|row| serde_json::from_str(&row.files).unwrap_or_default()))
}

/// A version that somebody asks for, of those of this handler: a hash that he makes up leads to no other function's source.
fn version(
    store: &dyn Store,
    versions: &[Version],
    in_force: &(Arc<str>, Files),
    asked: &str,
) -> Result<Option<(Arc<str>, Files)>, StoreError> {
    if in_force.0.starts_with(asked) {
        return Ok(Some(in_force.clone()));
    }
    match versions.iter().map(|version| &version.hash).find(|hash| hash.starts_with(asked)) {
        Some(hash) => Ok(files(store, hash)?.map(|files| (Arc::clone(hash), files))),
        None => Ok(None),
    }
}

/// The two versions that are asked for; the second is the one in force where nothing else is said. None where they are the same.
fn compared(
    store: &dyn Store,
    versions: &[Version],
    in_force: &(Arc<str>, Files),
    from: &str,
    to: Option<&str>,
) -> Result<Option<Compared>, StoreError> {
    let Some(from) = version(store, versions, in_force, from)? else { return Ok(None) };
    let to = match to {
        Some(to) => version(store, versions, in_force, to)?,
        None => Some(in_force.clone()),
    };
    Ok(to.filter(|to| to.0 != from.0).map(|to| Compared { from, to }))
}

/// What one version has other than another, and the first one whole.
fn differences(compared: &Compared, in_force: &Arc<str>) -> Markup {
    let Compared { from: (hash, before), to: (new_hash, now) } = compared;
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    html! {
        h3 {
            "From " (widgets::tag(&short(hash), Tone::Warn)) " to " (widgets::tag(&short(new_hash), Tone::Good))
            @if new_hash == in_force { " in force" }
        }
        @for name in names {
            @let (old, new) = (before.get(name).map_or("", String::as_str), now.get(name).map_or("", String::as_str));
            @if old != new { h4.mono { (name) } (difference(old, new)) }
        }
        @for (name, text) in before {
            details { summary { "All of " span.mono { (name) } " of " (short(hash)) } (widgets::code(text, None)) }
        }
    }
}

fn difference(before: &str, after: &str) -> Markup {
    let lines = compare(before, after);
    let is_near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        lines[from..lines.len().min(at + AROUND + 1)].iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let mut rows: Vec<Option<(&str, &str, &str)>> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        match line {
            Line::Gone(text) => rows.push(Some(("gone", "−", text))),
            Line::New(text) => rows.push(Some(("new", "+", text))),
            Line::Same(text) if is_near(at) => rows.push(Some(("same", " ", text))),
            Line::Same(_) if rows.last().is_some_and(Option::is_none) => {}
            Line::Same(_) => rows.push(None),
        }
    }
    html! {
        pre.diff tabindex="0" {
            @for row in rows {
                @match row {
                    Some((class, sign, text)) => { span class=(class) { (sign) " " (text) "\n" } }
                    None => { span.muted { "⋯\n" } }
                }
            }
        }
    }
}
