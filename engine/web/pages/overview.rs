//! The overview: how it goes, what needs somebody, and what engine this is.

use maud::{Markup, html};

use crate::base::{Millis, Span};
use crate::config::Durability;
use crate::server::view::{RunView, Time};
use crate::server::{ApiError, Params};
use crate::web::widgets::{self, Line, Tone};
use crate::web::{Ask, Content, Web, WebError};

/// Runs of one kind that are counted; beyond it, there are "more".
const COUNTED_MOST: usize = 100;
/// Runs of one kind that are named.
const NAMED: usize = 4;
/// How long a run may wait for a slot until somebody should know.
const LONG: Span = Span::seconds(60);

/// The overview.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    web.hub().wake();
    if ask.part() == Some("now") {
        return Ok(now_part(&web).await?.into());
    }
    let now = now_part(&web).await?;
    let engine = engine(&web).await?;
    Ok(Content::new(html! {
        (widgets::live("now", "runs", &ask.with(&[("part", Some("now"))]), now))
        (widgets::panel("This engine", engine))
    })
    .command("stepwell top")
    .command("stepwell doctor"))
}

async fn now_part(web: &Web) -> Result<Markup, WebError> {
    let now = web.now();
    let (figures, attention) = futures_util::future::try_join(figures(web), attention(web, now)).await?;
    Ok(html! { (figures) (widgets::panel("Needs attention", attention)) })
}

/// What one kind of runs that need somebody comes to.
struct Kind {
    sign: &'static str,
    title: &'static str,
    /// Said where there is none.
    none: &'static str,
    tone: Tone,
    url: &'static str,
    found: Vec<RunView>,
}

async fn some(web: &Web, parameters: &[(&str, &str)]) -> Result<Vec<RunView>, ApiError> {
    let mut pairs: Vec<(String, String)> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pairs.push(("limit".to_owned(), COUNTED_MOST.to_string()));
    Ok(web.api().runs(&Params::from_pairs(pairs)).await?.data)
}

async fn attention(web: &Web, now: Millis) -> Result<Markup, WebError> {
    let before = Time(Millis(now.0 - LONG.0)).to_string();
    let lasting = [("status", "queued"), ("until", before.as_str())];
    let (failed, parked, backing_off, waiting) = futures_util::future::join4(
        some(web, &[("status", "failed"), ("since", "24h")]),
        some(web, &[("status", "parked")]),
        some(web, &[("status", "backing_off")]),
        some(web, &lasting),
    )
    .await;
    let stuck = |run: &RunView| run.why.as_deref().is_some_and(|why| why.starts_with("waits for a slot") || why.starts_with("throttled"));
    let kinds = [
        Kind {
            sign: "✗",
            title: "failed in 24 h",
            none: "nothing failed in 24 h",
            tone: Tone::Bad,
            url: "/runs?status=failed&since=24h",
            found: failed?,
        },
        Kind { sign: "■", title: "parked", none: "nothing is parked", tone: Tone::Warn, url: "/runs?status=parked", found: parked? },
        Kind {
            sign: "↻",
            title: "backing off",
            none: "nothing backs off",
            tone: Tone::Warn,
            url: "/runs?status=backing_off",
            found: backing_off?,
        },
        Kind {
            sign: "⋯",
            title: "in line for over a minute",
            none: "nothing waits for long",
            tone: Tone::Plain,
            url: "/runs?status=queued",
            found: waiting?.into_iter().filter(stuck).collect(),
        },
    ];
    Ok(html! { div.cards { @for kind in &kinds { (card(kind, now)) } } })
}

fn card(kind: &Kind, now: Millis) -> Markup {
    let count = match kind.found.len() {
        COUNTED_MOST.. => format!("{COUNTED_MOST}+"),
        count => count.to_string(),
    };
    if kind.found.is_empty() {
        return html! { div.card.calm { p { span.sign aria-hidden="true" { "✓" } " " (kind.none) } } };
    }
    html! {
        div.card {
            p.kind { a href=(kind.url) { span class={ "sign " (kind.tone.class()) } aria-hidden="true" { (kind.sign) } b { (count) } " " (kind.title) } }
            ul.plain {
                @for run in kind.found.iter().take(NAMED) {
                    li {
                        span.row { a.main href={ "/runs/" (run.run_id) } { (run.function_id) } span.muted.small { (widgets::ago(run.created_at.0, now)) } }
                        @if let Some(text) = reason(run) { span.muted.small.cut title=(text) { (text) } }
                    }
                }
            }
        }
    }
}

/// Why a run needs somebody, in one line.
pub(super) fn reason(run: &RunView) -> Option<String> {
    run.error
        .as_ref()
        .map(|error| error.message.clone())
        .or_else(|| run.why.clone())
        .map(|text| text.lines().next().unwrap_or_default().to_owned())
}

async fn figures(web: &Web) -> Result<Markup, WebError> {
    let series = web.history().series().await;
    let one = |name, values, tone| [Line { name, values, tone }];
    let delays = [
        Line { name: "p50", values: &series.delay_half, tone: Tone::Info },
        Line { name: "p95", values: &series.delay_most, tone: Tone::Warn },
    ];
    Ok(html! {
        div.plots {
            (widgets::plot(&one("runs", &series.rate, Tone::Good), "Runs a minute", ""))
            (widgets::plot(&one("failed", &series.failed, Tone::Bad), "Failed", " %"))
            (widgets::plot(&one("in line", &series.queued, Tone::Info), "In line", ""))
            (widgets::plot(&one("oldest", &series.oldest, Tone::Warn), "Oldest in line", " s"))
            (widgets::plot(&one("at work", &series.executing, Tone::Good), "At work", ""))
            (widgets::plot(&delays, "Start delay", " ms"))
        }
    })
}

async fn engine(web: &Web) -> Result<Markup, WebError> {
    let project = web.project();
    let stats = web.read(|store| store.stats()).await?;
    let durability = match project.config.engine.durability() {
        Durability::Full => "full: each commit is flushed",
        Durability::Normal => "normal: a power cut may lose the last commits",
    };
    let health = web.engine().health();
    let free = free_bytes(&stats.place);
    let facts = [
        ("Version", html! { "stepwell " (env!("CARGO_PKG_VERSION")) }),
        ("Listens on", html! { code { (web.api().listen()) } }),
        ("Config", html! { code title=(project.hash) { (project.hash.chars().take(12).collect::<String>()) } }),
        ("Database", html! { code { (stats.place) } " " (size(stats.bytes)) }),
        ("Durability", html! { (durability) }),
        ("Disk free", html! { @match free { Some(free) => { (size(free)) } None => { "unknown" } } }),
        ("Runs not ended", html! { (stats.unfinished) }),
        ("Health", html! { @if health.ok { span.good { "✓ well" } } @else { @for reason in &health.reasons { p.bad { "✗ " (reason) } } } }),
    ];
    Ok(widgets::facts(&facts))
}

/// A size in few digits.
pub(super) fn size(bytes: u64) -> String {
    let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / f64::from(1_u32 << (shift - 10)) / 1024.0),
        None => format!("{bytes} bytes"),
    }
}

/// What is free on the disk that has a file.
fn free_bytes(place: &str) -> Option<u64> {
    let stat = rustix::fs::statvfs(place).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_few_digits() {
        assert_eq!([12, 2_048, 5 << 20, 3 << 30, 7 << 40].map(size), ["12 bytes", "2.0 KB", "5.0 MB", "3.0 GB", "7.0 TB"]);
    }
}
