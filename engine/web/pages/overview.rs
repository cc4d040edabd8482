//! The overview: how it goes, what needs somebody, and what engine this is.

use maud::{Markup, html};

use crate::base::{Millis, RunId, Span, size};
use crate::config::Durability;
use crate::server::view::RunView;
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

/// The runs that need somebody.
pub struct Attention {
    failed: Vec<RunView>,
    parked: Vec<RunView>,
    backing_off: Vec<RunView>,
    stuck: Vec<RunView>,
}

/// What one kind of runs that need somebody comes to.
struct Kind<'a> {
    sign: &'static str,
    title: &'static str,
    /// Said where there is none.
    none: &'static str,
    tone: Tone,
    url: &'static str,
    found: &'a [RunView],
}

/// Runs with these parameters, where there can be any: to find none, the store would look at all that could have been.
async fn some(web: &Web, can_be: bool, parameters: &[(&str, &str)]) -> Result<Vec<RunView>, ApiError> {
    if !can_be {
        return Ok(Vec::new());
    }
    let mut pairs: Vec<(String, String)> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pairs.push(("limit".to_owned(), COUNTED_MOST.to_string()));
    Ok(web.api().runs(&Params::from_pairs(pairs)).await?.data)
}

async fn look(web: &Web) -> Result<Attention, ApiError> {
    let standing = web.history().latest().await;
    // An id tells when it was made: so what came later is not even read.
    let before = RunId::first_at(Millis(web.now().0 - LONG.0)).to_string();
    let (failed, parked, backing_off, waiting) = futures_util::future::try_join4(
        some(web, true, &[("status", "failed"), ("since", "24h")]),
        some(web, standing.parked > 0, &[("status", "parked")]),
        some(web, standing.backing_off > 0, &[("status", "backing_off")]),
        some(web, web.engine().counts().queued > 0, &[("status", "queued"), ("cursor", before.as_str())]),
    )
    .await?;
    let tells_so = |why: &str| why.starts_with("waits for a slot") || why.starts_with("throttled");
    let is_stuck = |run: &RunView| run.why.as_deref().is_some_and(tells_so);
    Ok(Attention { failed, parked, backing_off, stuck: waiting.into_iter().filter(is_stuck).collect() })
}

async fn attention(web: &Web, now: Millis) -> Result<Markup, WebError> {
    let found = web.attention().get(|| web.now(), look(web)).await?;
    let Attention { failed, parked, backing_off, stuck } = &*found;
    let kinds = [
        Kind {
            sign: "✗",
            title: "failed in 24 h",
            none: "nothing failed in 24 h",
            tone: Tone::Bad,
            url: "/runs?status=failed&since=24h",
            found: failed,
        },
        Kind { sign: "■", title: "parked", none: "nothing is parked", tone: Tone::Warn, url: "/runs?status=parked", found: parked },
        Kind {
            sign: "↻",
            title: "backing off",
            none: "nothing backs off",
            tone: Tone::Warn,
            url: "/runs?status=backing_off",
            found: backing_off,
        },
        Kind {
            sign: "⋯",
            title: "in line for over a minute",
            none: "nothing waits for long",
            tone: Tone::Plain,
            url: "/runs?status=queued",
            found: stuck,
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
    let (stats, free) = web.read(|store| Ok((store.stats()?, store.figures().free_bytes))).await?;
    let durability = match project.config.engine.durability() {
        Durability::Full => "full: each commit is flushed",
        Durability::Normal => "normal: a power cut may lose the last commits",
    };
    let health = web.engine().health();
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
