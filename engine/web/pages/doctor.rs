//! Is everything sound? The checks of `stepwell doctor`, made by the engine itself.

use maud::{Markup, html};

use crate::base::Severity;
use crate::exec::doctor::{self, Check, Finding};
use crate::web::widgets::{self, Tone};
use crate::web::words::count;
use crate::web::{Ask, Content, Web, WebError};

/// The page. It reads the whole database for faults only when it is asked to.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let (now, deep) = (web.now(), ask.has("deep"));
    let mut checks = vec![config(&web)];
    let project = web.project();
    checks.extend(web.read(move |store| Ok(doctor::examine(store, Some(&project), now, deep))).await?);
    checks.push(engine(&web));
    let worst = checks.iter().map(|check| check.finding).max().unwrap_or(Finding::Well);
    let wrong = checks.iter().filter(|check| check.finding == Finding::Ill).count() as u64;
    let notes = checks.iter().filter(|check| check.finding == Finding::Note).count() as u64;
    let body = html! {
        @match worst {
            Finding::Well => (widgets::remark(Tone::Good, html! { "✓ Everything that was looked at is sound." })),
            Finding::Note => (widgets::remark(Tone::Warn, html! { (count(notes, "thing")) " worth knowing; nothing is broken." })),
            Finding::Ill => (widgets::remark(Tone::Bad, html! { "✗ " (count(wrong, "thing")) " to be done." })),
        }
        div.table tabindex="0" role="region" aria-label="Checks" { table.rows {
            thead { tr { th scope="col" { "Check" } th scope="col" { "Found" } th scope="col" { "What to do" } } }
            tbody { @for check in &checks { (row(check)) } }
        } }
        @if !deep {
            form method="get" action="/doctor" {
                input type="hidden" name="deep" value="1";
                div.row { button type="submit" { "Read the whole database for faults" } span.muted { "It takes as long as the disk takes to read it; runs go on meanwhile." } }
            }
        }
    };
    Ok(Content::new(body).command("stepwell doctor"))
}

fn row(check: &Check) -> Markup {
    let (sign, tone) = match check.finding {
        Finding::Well => ("✓ sound", Tone::Good),
        Finding::Note => ("! note", Tone::Warn),
        Finding::Ill => ("✗ wrong", Tone::Bad),
    };
    html! { tr data-row { th scope="row" { (check.name) " " (widgets::tag(sign, tone)) } td { (check.text) } td { (check.advice.as_deref().unwrap_or_default()) } } }
}

fn config(web: &Web) -> Check {
    let project = web.project();
    match web.engine().broken() {
        Some((_, problems)) => {
            let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count() as u64;
            Check::ill(
                "config",
                format!("the files are broken: {}; the config before stays in force", count(errors, "error")),
                "see Config, or `stepwell validate`",
            )
        }
        None => {
            let (events, functions) = (project.config.events.len() as u64, project.functions.len() as u64);
            Check::well("config", format!("{}, {}", count(events, "event"), count(functions, "function")))
        }
    }
}

fn engine(web: &Web) -> Check {
    let health = web.engine().health();
    if health.ok {
        Check::well("engine", "runs, and takes events")
    } else {
        Check::ill("engine", health.reasons.join("; "), "`stepwell explain CODE` says more of a code")
    }
}
