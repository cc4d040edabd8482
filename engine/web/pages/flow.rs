//! Flow control: for each key who runs, who waits and since when, what is left, and which windows are open.

use maud::{Markup, html};

use crate::base::Millis;
use crate::exec::{Flow, LimitKey};
use crate::rules::Hold;
use crate::web::widgets::{self, Tone};
use crate::web::words::count;
use crate::web::{Ask, Content, Web, WebError};

/// Keys of each kind that are shown.
const KEYS_SHOWN: usize = 200;

/// The page.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let mut flow = Flow::clone(&*web.flow(ask.has("key") || ask.has("function")).await);
    narrow(&mut flow, ask.one("function"), ask.one("key"));
    cut(&mut flow, KEYS_SHOWN);
    let now = web.now();
    let body = html! {
        (limits(&flow, now))
        (throttles(&flow, now))
        (rates(&flow, now))
        (windows(&flow, now))
        (singletons(&flow))
        @if flow.more > 0 { p.muted { "and " (count(flow.more as u64, "more key")) ": narrow them down above." } }
    };
    if ask.part() == Some("keys") {
        return Ok(Content::new(body));
    }
    let project = web.project();
    let paused = web.engine().paused();
    let whole = html! {
        form.filters method="get" action="/flow" role="search" {
            div.field {
                label for="function" { "Function" }
                select id="function" name="function" {
                    option value="" { "all" }
                    @for function in &project.functions { option value=(function.id) selected[ask.one("function") == Some(&function.id)] { (function.id) } }
                }
            }
            div.field.grow {
                label for="key" { "Key contains" }
                input id="key" name="key" value=[ask.one("key")] autocomplete="off" spellcheck="false" data-search;
            }
            button type="submit" { "Filter" }
        }
        @if !paused.is_empty() {
            (widgets::remark(Tone::Warn, html! { "⏸ Paused: " @for (at, id) in sorted(&paused).into_iter().enumerate() { @if at > 0 { ", " } (widgets::function_link(&id)) } ". Their runs that have not begun wait beside the keys below." }))
        }
        (widgets::live("keys", "tick", &ask.with(&[("part", Some("keys"))]), body))
    };
    Ok(Content::new(whole).command("stepwell top").command("stepwell runs ls --status queued"))
}

fn sorted(set: &std::collections::HashSet<std::sync::Arc<str>>) -> Vec<String> {
    let mut all: Vec<String> = set.iter().map(ToString::to_string).collect();
    all.sort();
    all
}

/// Keeps the keys of one function, or that hold a text.
fn narrow(flow: &mut Flow, function: Option<&str>, key: Option<&str>) {
    let of = |id: &str| function.is_none_or(|function| function == id);
    let holds = |text: &str| key.is_none_or(|key| text.contains(key));
    flow.limits.retain(|one| one.function.as_deref().is_none_or(of) && holds(&one.key));
    flow.throttles.retain(|one| of(&one.function) && holds(&one.key));
    flow.rates.retain(|one| of(&one.function) && holds(&one.key));
    flow.windows.retain(|one| of(&one.function) && holds(&one.key));
    flow.singletons.retain(|one| of(&one.function) && holds(&one.key));
}

/// Keeps so many keys of each kind, and counts the others.
fn cut(flow: &mut Flow, most: usize) {
    fn cut<T>(keys: &mut Vec<T>, most: usize) -> usize {
        let more = keys.len().saturating_sub(most);
        keys.truncate(most);
        more
    }
    flow.more += cut(&mut flow.limits, most)
        + cut(&mut flow.throttles, most)
        + cut(&mut flow.rates, most)
        + cut(&mut flow.windows, most)
        + cut(&mut flow.singletons, most);
}

/// A key's value; a dash where there is no key.
fn key_cell(key: &str) -> Markup {
    html! { @if key == "null" { span.muted title="there is no key, or it is null" { "–" } } @else { span.mono.cut title=(key) { (key) } } }
}

fn oldest(found: Option<(crate::base::RunId, Millis)>, now: Millis) -> Markup {
    html! { @if let Some((run, since)) = found { (widgets::ago(since, now)) " " a.mono href={ "/runs/" (run) } { (run) } } }
}

fn whose(one: &LimitKey) -> Markup {
    html! {
        @match (&one.function, &one.shared) {
            (Some(id), _) => (widgets::function_link(id)),
            (None, Some(name)) => { span.muted { "shared " } (name) }
            (None, None) => {}
        }
    }
}

fn limits(flow: &Flow, now: Millis) -> Markup {
    html! {
        section.panel {
            h2 { "Concurrency" }
            @if flow.limits.is_empty() { (widgets::empty("No limit is held or waited for", html! {})) } @else {
                div.table { table.rows {
                    thead { tr {
                        th scope="col" { "Limit" } th scope="col" { "Key" } th.num scope="col" { "Running" } th.num scope="col" { "Waiting" }
                        th scope="col" { "Held by" } th.wide scope="col" { "Oldest waiting" }
                    } }
                    tbody { @for one in &flow.limits {
                        tr data-row {
                            td { (whose(one)) }
                            td { (key_cell(&one.key)) }
                            td.num { (one.running) " of " (one.limit) }
                            td.num { @if one.waiting > 0 { (widgets::tag(&one.waiting.to_string(), Tone::Warn)) } @else { "0" } }
                            td {
                                @for (at, run) in one.holders.iter().enumerate() { @if at > 0 { " " } a.mono.main[at == 0] href={ "/runs/" (run) } { (run) } }
                                @if one.running as usize > one.holders.len() && !one.holders.is_empty() { span.muted { " and " (one.running as usize - one.holders.len()) " more" } }
                                @if one.hold == Hold::Active { " " (widgets::tag("while active", Tone::Quiet)) }
                            }
                            td.wide { (oldest(one.oldest, now)) }
                        }
                    } }
                } }
            }
        }
    }
}

fn throttles(flow: &Flow, now: Millis) -> Markup {
    html! {
        @if !flow.throttles.is_empty() {
            section.panel {
                h2 { "Throttles" }
                div.table { table.rows {
                    thead { tr {
                        th scope="col" { "Function" } th scope="col" { "Key" } th scope="col" { "Starts left" } th.num scope="col" { "Waiting" }
                        th scope="col" { "Next start" } th.wide scope="col" { "Oldest waiting" }
                    } }
                    tbody { @for one in &flow.throttles {
                        @let all = u64::from(one.rule.burst) + 1;
                        tr data-row {
                            td { (widgets::function_link(&one.function)) br; span.muted { (one.rule.limit) " in " (one.rule.period) } }
                            td { (key_cell(&one.key)) }
                            td { (widgets::meter(u64::from(one.left), all, &format!("{} of {all} starts left", one.left))) }
                            td.num { (one.waiting) }
                            td { @match one.opens { Some(opens) => (widgets::ago(opens, now)), None => "now" } }
                            td.wide { (oldest(one.oldest, now)) }
                        }
                    } }
                } }
            }
        }
    }
}

fn rates(flow: &Flow, now: Millis) -> Markup {
    html! {
        @if !flow.rates.is_empty() {
            section.panel {
                h2 { "Rate limits" }
                div.table { table.rows {
                    thead { tr { th scope="col" { "Function" } th scope="col" { "Key" } th scope="col" { "Left" } th scope="col" { "One more" } } }
                    tbody { @for one in &flow.rates {
                        @let all = u64::from(one.rule.limit);
                        @let left = all.saturating_sub(one.used as u64);
                        tr data-row {
                            td { (widgets::function_link(&one.function)) br; span.muted { (all) " in any " (one.rule.period) } }
                            td { (key_cell(&one.key)) }
                            td { (widgets::meter(left, all, &format!("{left} of {all} left"))) @if left == 0 { " " (widgets::tag("full", Tone::Warn)) } }
                            td { @if let Some(frees) = one.frees { (widgets::ago(frees, now)) } }
                        }
                    } }
                } }
            }
        }
    }
}

fn windows(flow: &Flow, now: Millis) -> Markup {
    html! {
        @if !flow.windows.is_empty() {
            section.panel {
                h2 { "Open debounces and batches" }
                div.table { table.rows {
                    thead { tr {
                        th scope="col" { "Function" } th scope="col" { "Kind" } th scope="col" { "Key" } th.num scope="col" { "Events" }
                        th scope="col" { "Closes" } th.wide scope="col" { "Open since" } th scope="col" { "Run" }
                    } }
                    tbody { @for one in &flow.windows {
                        tr data-row {
                            td { (widgets::function_link(&one.function)) }
                            td { (if one.is_batch { "batch" } else { "debounce" }) }
                            td { (key_cell(&one.key)) }
                            td.num { (one.events) @if let Some(size) = one.size { " of " (size) } }
                            td { (widgets::ago(one.closes, now)) }
                            td.wide { (widgets::ago(one.since, now)) }
                            td { a.main.mono href={ "/runs/" (one.run) } { (one.run) } }
                        }
                    } }
                } }
            }
        }
    }
}

fn singletons(flow: &Flow) -> Markup {
    html! {
        @if !flow.singletons.is_empty() {
            section.panel {
                h2 { "Singletons" }
                div.table { table.rows {
                    thead { tr { th scope="col" { "Function" } th scope="col" { "Key" } th scope="col" { "Held by" } } }
                    tbody { @for one in &flow.singletons {
                        tr data-row {
                            td { (widgets::function_link(&one.function)) }
                            td { (key_cell(&one.key)) }
                            td { a.main.mono href={ "/runs/" (one.run) } { (one.run) } }
                        }
                    } }
                } }
            }
        }
    }
}
