//! The config: what is in force, what its files have other than that, what the last reload complained of, and the next one with its plan.

use maud::{Markup, html};
use serde_json::Value;

use crate::base::{Diagnostic, Millis, Severity};
use crate::exec::LoadedBy;
use crate::server::view::{ChangeView, Detail, PlanView};
use crate::web::actions::{self, Act};
use crate::web::widgets::{self, Tone};
use crate::web::words::count;
use crate::web::{Ask, Content, Web, WebError};

/// The page. The plan is made once the page is there, since it loads the whole project.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    if ask.part() == Some("plan") {
        return Ok(Content::new(plan(&web, &ask).await));
    }
    let project = web.project();
    let now = web.now();
    // A folder that is gone since is named as it was.
    let folder = project.root.canonicalize().unwrap_or_else(|_| project.root.clone()).display().to_string();
    let search = ask.one("key").map(str::to_lowercase);
    let settings: Vec<(String, Value, String)> = project.settings().collect();
    let shown: Vec<&(String, Value, String)> =
        settings.iter().filter(|(key, _, _)| search.as_ref().is_none_or(|search| key.to_lowercase().contains(search))).collect();
    let (loaded, by) = web.engine().loaded();
    let missing: Vec<&str> = project.surroundings.secrets.names().filter(|name| !project.surroundings.secrets.is_set(name)).collect();
    let body = html! {
        @if let Some((at, problems)) = web.engine().broken() { (broken(at, &problems, now)) }
        (widgets::panel("In force", widgets::facts(&[
            ("folder", html! { span.mono { (folder) } }),
            ("hash", html! { span.mono { (project.hash.get(..12).unwrap_or_default()) } " " (widgets::copy("Copy hash", &project.hash)) }),
            ("loaded", html! { (widgets::ago(loaded, now)) ", at " (widgets::clock(loaded)) ", by " (loader(by)) }),
            ("declares", html! { (count(project.config.events.len() as u64, "event")) ", " (count(project.functions.len() as u64, "function")) }),
        ])))
        section.panel {
            h2 { "The files against what is in force" }
            div id="plan" hx-get=(ask.with(&[("part", Some("plan"))])) hx-trigger="load" hx-swap="innerHTML" aria-live="polite" {
                p.muted { "Reading the files…" }
                noscript { p { a href="/config?part=plan" { "Show the plan" } } }
            }
        }
        section.panel {
            h2 { "Every option in force" }
            @if !missing.is_empty() { (widgets::remark(Tone::Bad, html! { "✗ Not set in the environment: " @for name in &missing { code { (name) } " " } })) }
            form.filters method="get" action="/config" role="search" {
                div.field.grow { label for="key" { "Key contains" } input id="key" name="key" value=[ask.one("key")] autocomplete="off" spellcheck="false" data-search; }
                button type="submit" { "Filter" }
            }
            div.table tabindex="0" role="region" aria-label="Options in force" { table.rows {
                thead { tr { th scope="col" { "Option" } th scope="col" { "Value" } th scope="col" { "From" } } }
                tbody { @for (key, value, origin) in shown {
                    tr data-row { td.mono { (key) } td.mono { (plain(value)) } td { @if origin == "default" { span.muted { "default" } } @else { span.mono { (origin) } } } }
                } }
            } }
        }
    };
    Ok(Content::new(body).command("stepwell config").command("stepwell plan").command("stepwell reload"))
}

/// What has put a config in force, in words.
pub(super) fn loader(by: LoadedBy) -> &'static str {
    match by {
        LoadedBy::Start => "the engine's start",
        LoadedBy::Reload => "a reload",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What the last reload complained of.
fn broken(at: Millis, problems: &[Diagnostic], now: Millis) -> Markup {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    html! {
        section.panel.bad role="alert" {
            h2 { "✗ The last reload failed " (widgets::ago(at, now)) }
            p { (count(errors as u64, "error")) "; the config before stays in force." }
            @for problem in problems { (widgets::picture(&problem.render(false))) }
        }
    }
}

/// What a reload would change, and the button that does it.
async fn plan(web: &Web, ask: &Ask) -> Markup {
    let plan = match web.api().plan().await {
        Ok(plan) => plan.data,
        Err(error) => {
            return html! {
                (widgets::remark(Tone::Bad, html! { "✗ " (error.message()) }))
                @for detail in error.details() { (pictured(detail)) }
            };
        }
    };
    let again = html! { a.button href="/config" { "Look again" } };
    if plan.changes.is_empty() {
        return html! { p { "✓ The files are what is in force: a reload would change nothing." } (notes(&plan)) div.row { (again) } };
    }
    html! {
        p { "A reload would make " (count(plan.changes.len() as u64, "change")) ":" }
        div.table tabindex="0" role="region" aria-label="Changes" { table.rows {
            thead { tr { th scope="col" { "What" } th scope="col" { "Option" } th scope="col" { "In force" } th scope="col" { "In the files" } } }
            tbody { @for change in &plan.changes { (changed(change)) } }
        } }
        @if !plan.runs.is_empty() {
            h3 { "Runs in flight" }
            ul { @for runs in &plan.runs { li { "runs of " (runs.text) } } }
        }
        (notes(&plan))
        div.row {
            (actions::button(ask, Act { path: "/do/reload", label: "Reload", fields: &[], command: "stepwell reload", tone: Tone::Good, ..Act::default() }))
            (again)
        }
    }
}

fn changed(change: &ChangeView) -> Markup {
    let value = |value: &Option<Value>| value.as_ref().map(plain).unwrap_or_default();
    let sign = match change.change.as_str() {
        "added" => "+",
        "removed" => "−",
        _ => "≠",
    };
    html! {
        @if change.fields.is_empty() {
            tr { td { (sign) " " (change.subject) " " b { (change.name) } } td { (change.change) } td {} td { (restart(change)) } }
        }
        @for (at, field) in change.fields.iter().enumerate() {
            tr {
                td { @if at == 0 { (sign) " " (change.subject) " " b { (change.name) } } }
                td.mono { @if field.key.is_empty() { "value" } @else { (field.key) } }
                td.mono { (value(&field.before)) }
                td.mono { (value(&field.after)) (restart(change)) }
            }
        }
    }
}

fn restart(change: &ChangeView) -> Markup {
    html! { @if change.needs_restart { " " (widgets::tag("after a restart only", Tone::Warn)) } }
}

fn notes(plan: &PlanView) -> Markup {
    html! { @for note in &plan.notes { (pictured(note)) } }
}

fn pictured(detail: &Detail) -> Markup {
    html! { @match &detail.seen { Some(seen) => (widgets::picture(&seen.picture)), None => p { (detail.message) } } }
}
