//! The functions that are declared: what starts them, what limits them, and how their runs went of late.

use maud::{Markup, html};

use crate::base::Millis;
use crate::exec::Flow;
use crate::project::Function;
use crate::rules::{RunRow, RunState};
use crate::store::RunQuery;
use crate::web::actions::{self, Act};
use crate::web::rows::light_runs;
use crate::web::widgets::{self, Tone};
use crate::web::words;
use crate::web::{Ask, Content, Web, WebError};

/// The newest runs of a function that a picture shows.
pub(super) const RUNS_DRAWN: usize = 40;

/// All functions, in the order of the file.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let project = web.project();
    let ids: Vec<_> = project.functions.iter().map(|function| std::sync::Arc::clone(&function.id)).collect();
    let runs = web.read(move |store| {
        let newest = |function| light_runs(store, &RunQuery { function: Some(function), limit: RUNS_DRAWN, ..RunQuery::default() });
        ids.into_iter().map(newest).collect::<Result<Vec<_>, _>>()
    });
    let runs = runs.await?;
    let flow = web.flow(false).await;
    let rows = html! {
        @if project.functions.is_empty() {
            (widgets::empty("No function is declared", html! { "Declare one under " code { "functions" } " in events.yaml." }))
        } @else {
            div.table { table.rows {
                thead { tr {
                    th scope="col" { "Function" } th scope="col" { "Starts" } th.wide scope="col" { "At a time" } th.wide scope="col" { "Gates" }
                    th scope="col" { "Last runs" } th.wide scope="col" { span.sr { "Actions" } }
                } }
                tbody {
                    @for (function, runs) in project.functions.iter().zip(&runs) { (row(&web, &ask, function, runs, &flow)) }
                }
            } }
        }
    };
    if ask.part() == Some("rows") {
        return Ok(Content::new(rows));
    }
    Ok(Content::new(widgets::live("rows", "tick", &ask.with(&[("part", Some("rows"))]), rows)).command("stepwell functions ls"))
}

fn row(web: &Web, ask: &Ask, function: &Function, runs: &[RunRow], flow: &Flow) -> Markup {
    let paused = web.engine().paused_since(&function.id);
    html! {
        tr data-row {
            td {
                a.main href={ "/functions/" (function.id) } { (function.id) }
                @if let Some(since) = paused { br; (widgets::tag("⏸ paused", Tone::Warn)) " " span.muted { (widgets::ago(since, web.now())) } }
            }
            td { (starts(function, web.now())) }
            td.wide { @for sentence in words::concurrency(function) { p { (sentence) } } }
            td.wide { (meters(function, flow, web.now(), 2)) }
            td { (picture(runs)) }
            td.wide { (pause(ask, function, paused.is_some())) }
        }
    }
}

/// What starts a function.
pub(super) fn starts(function: &Function, now: Millis) -> Markup {
    html! {
        @for trigger in &function.triggers {
            p {
                a href={ "/events?name=" (trigger.event) } { (trigger.event) }
                @if let Some(condition) = trigger.condition_text() { br; code { "if " (condition) } }
            }
        }
        @for cron in &function.crons {
            p {
                code { (cron.schedule.text()) } " " span.muted { (cron.schedule.zone_name()) }
                @if let Some(next) = cron.schedule.next(now) {
                    br; "next " (widgets::ago(next, now)) ": " span.mono { (cron.schedule.local(next)) }
                    @if cron.schedule.zone_name() != "UTC" { " = " span.mono { (seconds(next)) } }
                }
            }
        }
        @if function.triggers.is_empty() && function.crons.is_empty() { span.muted { "invoked alone" } }
    }
}

/// A time in UTC, to the second.
pub(super) fn seconds(at: Millis) -> String {
    let whole = at.rfc3339();
    whole.split_once('.').map_or(whole.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// The button that pauses or resumes a function.
pub(super) fn pause(ask: &Ask, function: &Function, is_paused: bool) -> Markup {
    let (path, label, word) = if is_paused { ("/do/resume", "Resume", "resume") } else { ("/do/pause", "Pause", "pause") };
    let command = format!("stepwell functions {word} {}", function.id);
    actions::button(ask, Act { path, label, fields: &[("function", &function.id)], command: &command, ..Act::default() })
}

/// Meters for the throttle and the rate limit of a function: its `most` keys that are used most.
pub(super) fn meters(function: &Function, flow: &Flow, now: Millis, most: usize) -> Markup {
    let shown = |key: &str| if key == "null" { String::new() } else { format!(" for {key}") };
    let throttles: Vec<_> = flow.throttles.iter().filter(|key| key.function == function.id).collect();
    let rates: Vec<_> = flow.rates.iter().filter(|key| key.function == function.id).collect();
    html! {
        @if let Some(rule) = function.throttle {
            @let all = u64::from(rule.burst) + 1;
            @if throttles.is_empty() {
                p { "throttle " (widgets::meter(all, all, &format!("throttle: {all} of {all} starts left"))) " " span.muted { "starts left" } }
            }
            @for key in throttles.iter().take(most) {
                p {
                    "throttle" (shown(&key.key)) " "
                    (widgets::meter(u64::from(key.left), all, &format!("throttle{}: {} of {all} starts left", shown(&key.key), key.left)))
                    " " span.muted {
                        "starts left"
                        @if let Some(opens) = key.opens { ", the next " (widgets::ago(opens, now)) }
                        @if key.waiting > 0 { ", " (words::count(key.waiting as u64, "run")) " waiting" }
                    }
                }
            }
            @if throttles.len() > most { p.muted { "and " (throttles.len() - most) " more keys" } }
        }
        @if let Some((rule, _)) = function.rate_limit() {
            @let all = u64::from(rule.limit);
            @if rates.is_empty() {
                p { "rate limit " (widgets::meter(all, all, &format!("rate limit: {all} of {all} left"))) " " span.muted { "left" } }
            }
            @for key in rates.iter().take(most) {
                @let left = all.saturating_sub(key.used as u64);
                p {
                    "rate limit" (shown(&key.key)) " "
                    (widgets::meter(left, all, &format!("rate limit{}: {left} of {all} left", shown(&key.key))))
                    " " span.muted { "left" @if let Some(frees) = key.frees.filter(|_| left == 0) { ", the next " (widgets::ago(frees, now)) } }
                }
            }
            @if rates.len() > most { p.muted { "and " (rates.len() - most) " more keys" } }
        }
        @for window in flow.windows.iter().filter(|window| window.function == function.id).take(most) {
            p { (if window.is_batch { "batch" } else { "debounce" }) (shown(&window.key)) " " span.muted { (words::count(u64::from(window.events), "event")) ", closes " (widgets::ago(window.closes, now)) } }
        }
    }
}

/// How the newest runs went: a bar each, the newest at the right, as high as the run was long.
pub(super) fn picture(runs: &[RunRow]) -> Markup {
    const WIDTH: usize = 4;
    const HEIGHT: f64 = 24.0;
    let count = |state: RunState| runs.iter().filter(|run| run.state == state).count();
    let (completed, failed, cancelled) = (count(RunState::Completed), count(RunState::Failed), count(RunState::Cancelled));
    let open = runs.len() - completed - failed - cancelled;
    let parts = [(completed, "completed"), (failed, "failed"), (cancelled, "cancelled"), (open, "unfinished")];
    let told: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let told = if told.is_empty() {
        "no runs yet".to_owned()
    } else {
        format!("the last {}: {}", words::count(runs.len() as u64, "run"), told.join(", "))
    };
    let took = |run: &RunRow| run.started.zip(run.ended).map_or(0, |(started, ended)| ended.since(started).0);
    let longest = runs.iter().map(took).max().unwrap_or(0).max(1) as f64;
    let bars = runs.iter().rev().enumerate().map(|(at, run)| {
        let share = ((took(run) as f64 + 1.0).ln() / (longest + 1.0).ln()).clamp(0.0, 1.0);
        // Whole pixels, so that nothing is blurred; a failed run is drawn downwards as well, so that it is seen without colour.
        let high = (6.0 + share * (HEIGHT - 6.0)).round();
        // For the same reason a cancelled one is a thin line, and one that has not ended no more than a dot.
        let (x, wide, high) = match run.state {
            RunState::Cancelled => (at * WIDTH + 1, 1, high),
            state if !state.is_terminal() => (at * WIDTH, WIDTH - 1, 3.0),
            _ => (at * WIDTH, WIDTH - 1, high),
        };
        (x, wide, HEIGHT - high, high, run.state)
    });
    html! {
        @if runs.is_empty() { span.muted { (told) } } @else {
            svg.bars width=(runs.len() * WIDTH) height="28" viewBox={ "0 0 " (runs.len() * WIDTH) " 28" } role="img" aria-label=(told) {
                title { (told) }
                @for (x, wide, y, high, state) in bars {
                    rect x=(x) y=(y) width=(wide) height=(high) class=(widgets::tone(state).class()) {}
                    @if matches!(state, RunState::Failed | RunState::Parked) { rect x=(x) y="25" width=(wide) height="3" class="bad" {} }
                }
            }
            @if completed + failed > 0 { br; span.muted { (completed * 100 / (completed + failed)) " % of " (completed + failed) " completed" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    #[test]
    fn a_bar_says_without_its_colour_how_its_run_went() {
        let run = |state: RunState| {
            let ended = state.is_terminal().then_some(Millis(2_000));
            RunRow { state, started: Some(Millis(1_000)), ended, ..RunRow::queued(Id(1), "pay", Id(2), Millis(0)) }
        };
        // The newest comes first, and is drawn at the right.
        let states = [RunState::Parked, RunState::Failed, RunState::Running, RunState::Cancelled, RunState::Completed];
        let shown = picture(&states.map(run)).into_string();
        let bars: Vec<&str> = shown.split("<rect ").skip(1).filter_map(|rest| rest.split('>').next()).collect();
        let drawn = [
            r#"x="0" y="0" width="3" height="24" class="good""#,
            // A thin line.
            r#"x="5" y="0" width="1" height="24" class="quiet""#,
            // A dot.
            r#"x="8" y="21" width="3" height="3" class="info""#,
            // A bar with a foot.
            r#"x="12" y="0" width="3" height="24" class="bad""#,
            r#"x="12" y="25" width="3" height="3" class="bad""#,
            // A dot with one.
            r#"x="16" y="21" width="3" height="3" class="warn""#,
            r#"x="16" y="25" width="3" height="3" class="bad""#,
        ];
        assert_eq!(bars, drawn, "{shown}");
        assert!(shown.contains("1 completed, 1 failed, 1 cancelled, 2 unfinished"), "{shown}");
    }
}
