//! The overview: how it goes, what needs somebody, and what engine this is.

use maud::{Markup, html};

use crate::base::{Millis, RunId, Span, size};
use crate::exec::Flow;
use crate::rules::RunState;
use crate::server::view::RunView;
use crate::server::{ApiError, Params};
use crate::web::widgets::{self, Line, Tone};
use crate::web::{Ask, Content, Web, WebError};

/// Runs of one kind that are counted; beyond it, there are "more".
const COUNTED_MOST: usize = 100;
/// Runs of one kind that are named.
const NAMED: usize = 4;
/// Characters of a reason that are shown.
const REASON_CHARACTERS: usize = 500;
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
    let (failed, parked, backing_off, stuck) = futures_util::future::try_join4(
        some(web, true, &[("status", "failed"), ("since", "24h")]),
        some(web, standing.parked > 0, &[("status", "parked")]),
        some(web, standing.backing_off > 0, &[("status", "backing_off")]),
        stuck(web),
    )
    .await?;
    Ok(Attention { failed, parked, backing_off, stuck })
}

/// The runs that have waited longest for their keys, where that is long.
async fn stuck(web: &Web) -> Result<Vec<RunView>, ApiError> {
    if web.engine().counts().queued == 0 {
        return Ok(Vec::new());
    }
    // Of very many keys those with most runs in line are known, so it asks for many.
    let flow = web.flow(true).await;
    let runs = web.api().these_runs(longest(&flow, Millis(web.now().0 - LONG.0))).await?;
    // Some may have started since, and one of a paused function waits for somebody else.
    Ok(runs.into_iter().filter(|run| run.state == RunState::Queued).collect())
}

/// The oldest run of each key that has been in line since a time, those that wait longest first.
fn longest(flow: &Flow, since: Millis) -> Vec<RunId> {
    let oldest = flow.limits.iter().map(|key| key.oldest).chain(flow.throttles.iter().map(|key| key.oldest));
    let mut found: Vec<(Millis, RunId)> = oldest.flatten().filter(|(_, at)| *at <= since).map(|(run, at)| (at, run)).collect();
    found.sort_unstable();
    // A run can be the oldest of two keys.
    found.dedup();
    found.into_iter().map(|(_, run)| run).take(COUNTED_MOST).collect()
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
            title: "first in line for over a minute",
            none: "nothing waits for long",
            tone: Tone::Plain,
            url: "/flow",
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
        .map(|text| widgets::cut(text.lines().next().unwrap_or_default(), REASON_CHARACTERS))
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
    let (stats, figures) = web.read(|store| Ok((store.stats()?, store.figures()))).await?;
    // As the store was opened: the command line may say another one than the config, and a reload changes the config alone.
    let durability = match figures.flushes {
        true => "full: each commit is flushed",
        false => "normal: a power cut may lose the last commits",
    };
    let health = web.engine().health();
    let (loaded, by) = web.engine().loaded();
    let facts = [
        ("Version", html! { "stepwell " (env!("CARGO_PKG_VERSION")) }),
        ("Listens on", html! { code { (web.api().listen()) } }),
        (
            "Config",
            html! { code title=(project.hash) { (project.hash.chars().take(12).collect::<String>()) } " loaded " (widgets::ago(loaded, web.now())) ", by " (super::config::loader(by)) },
        ),
        ("Database", html! { code { (stats.place) } " " (size(stats.bytes)) }),
        ("Durability", html! { (durability) }),
        ("Disk free", html! { @match figures.free_bytes { Some(free) => { (size(free)) } None => { "unknown" } } }),
        ("Runs not ended", html! { (stats.unfinished) }),
        ("Health", html! { @if health.ok { span.good { "✓ well" } } @else { @for reason in &health.reasons { p.bad { "✗ " (reason) } } } }),
    ];
    Ok(widgets::facts(&facts))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::Id;
    use crate::exec::LimitKey;
    use crate::rules::Hold;

    #[test]
    fn the_oldest_of_each_key_is_not_lost_among_many_that_came_later() {
        let key = |run: i64, since: i64| LimitKey {
            function: Some(Arc::from("charge")),
            number: 0,
            shared: None,
            key: Arc::from(format!("{run}")),
            limit: 1,
            hold: Hold::Run,
            running: 1,
            holders: Vec::new(),
            waiting: 10_000,
            oldest: Some((Id(run), Millis(since))),
        };
        let none = LimitKey { oldest: None, ..key(5, 0) };
        let mut flow = Flow { limits: vec![key(3, 61_000), key(1, 50_000), none, key(2, 10_000), key(1, 50_000)], ..Flow::default() };
        assert_eq!(longest(&flow, Millis(60_000)), [Id(2), Id(1)]);
        flow.limits.extend((10..).take(2 * COUNTED_MOST).map(|run| key(run, 55_000)));
        assert_eq!(longest(&flow, Millis(60_000)).len(), COUNTED_MOST);
        assert_eq!(longest(&flow, Millis(60_000))[..2], [Id(2), Id(1)]);
    }
}
