//! Is everything sound? The checks of `stepwell doctor`, made by the engine itself.

use std::sync::Arc;

use axum::http::StatusCode;
use maud::{Markup, html};

use crate::base::Severity;
use crate::exec::doctor::{self, Check, Finding};
use crate::web::actions::{self, Done};
use crate::web::widgets::{self, Tone};
use crate::web::words::count;
use crate::web::{Ask, Content, Web, WebError};

/// The page, with the checks that are made at once.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let (project, now) = (web.project(), web.now());
    let found = web.read(move |store| Ok(doctor::examine(store, Some(&project), now, false))).await?;
    Ok(content(&web, &ask, found, false))
}

/// `/do/examine`: the same, with the whole database read for faults. That takes as long as the disk takes, so it is no read of a page,
/// for which others would wait, and it is done for one at a time.
pub async fn act(web: Web, ask: Ask) -> Result<Done, WebError> {
    let busy = || WebError::new(StatusCode::CONFLICT, "the database is being read already; look again when that is done");
    let permit = web.reads_all().ok_or_else(busy)?;
    let (project, now, store) = (web.project(), web.now(), Arc::clone(web.engine().store()));
    let reading = tokio::task::spawn_blocking(move || {
        // It goes on where nobody waits for it any more, and keeps others out until it is done.
        let _permit = permit;
        doctor::examine(&*store, Some(&project), now, true)
    });
    let broken = |error: tokio::task::JoinError| {
        tracing::error!(%error, "a read of the store broke off");
        WebError::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the store broke off; the engine's log says how")
    };
    let found = reading.await.map_err(broken)?;
    Ok(Done::Show("Doctor".to_owned(), content(&web, &ask, found, true)))
}

fn content(web: &Web, ask: &Ask, found: Vec<Check>, deep: bool) -> Content {
    let mut checks = vec![config(web)];
    checks.extend(found);
    checks.push(engine(web));
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
            form method="post" action="/do/examine" {
                div.row {
                    (actions::submit(ask, "Read the whole database for faults", "stepwell doctor", Tone::Plain, None))
                    span.muted { "It takes as long as the disk takes to read it; runs go on meanwhile." }
                }
                p.small.does { (widgets::command("stepwell doctor")) }
            }
        }
    };
    Content::new(body).command("stepwell doctor")
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
