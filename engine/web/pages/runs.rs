//! The runs: a page by key of those that filters mean, live without a row that moves, and what can be done to all of them.

use maud::{Markup, html};

use crate::base::{Millis, RunId, Span};
use crate::rules::RunState;
use crate::server::Word;
use crate::server::view::{RunView, Status};
use crate::web::actions;
use crate::web::widgets::{self, Tone};
use crate::web::words::quoted;
use crate::web::{Ask, Content, Web, WebError};

use super::events::first_command;
use super::overview::reason;

/// Rows of a page where the address does not say.
const ROWS: &str = "50";
/// New runs that are counted.
const NEW_MOST: usize = 100;

/// The parameters that say which runs are meant.
pub const KNOWN: [&str; 9] = ["status", "function", "key", "event", "replay_of", "since", "until", "where", "prefix"];

/// The runs.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    if ask.part() == Some("rows") {
        return Ok(rows(&web, &ask).await?.into());
    }
    let rows = match rows(&web, &ask).await {
        Ok(rows) => rows,
        // A condition that does not parse is said beside the filters, which can then be mended.
        Err(error) if error.status().is_client_error() => error.remark(),
        Err(error) => return Err(error),
    };
    let bulk = match ask.one("bulk") {
        Some(which @ ("cancel" | "replay")) => Some(bulk(&web, &ask, which == "replay").await.unwrap_or_else(|error| error.remark())),
        _ => None,
    };
    let body = html! {
        (filters(&web, &ask))
        @if let Some(bulk) = bulk { (bulk) }
        (rows)
    };
    let aside = html! {
        a.button href=(ask.with(&[("bulk", Some("replay")), ("cursor", None)])) { "Replay these…" }
        a.button href=(ask.with(&[("bulk", Some("cancel")), ("cursor", None)])) { "Cancel these…" }
    };
    let content = Content::new(body).aside(aside);
    Ok(match command("runs ls", &LISTED_BY, &parameters(&ask)) {
        Some(command) => content.command(command),
        None => content,
    })
}

/// The filters that `stepwell runs ls` has an option for.
const LISTED_BY: [&str; 7] = ["status", "function", "key", "event", "since", "until", "where"];
/// The filters that `stepwell replay` and `stepwell runs cancel` have an option for.
const DONE_BY: [&str; 5] = ["status", "function", "since", "until", "where"];

/// The command that means exactly the runs that these filters mean; none where it has no option for one of them: it would mean more.
fn command(what: &str, options: &[&str], meant: &[(String, String)]) -> Option<String> {
    let mut text = format!("stepwell {what}");
    for (name, value) in meant {
        if !options.contains(&name.as_str()) {
            return None;
        }
        let value = match (name.as_str(), value.parse::<i64>()) {
            ("status", _) => {
                let states: Vec<&str> = words(value).collect();
                if !states.iter().all(|word| Word::parse(word).is_some()) {
                    return None;
                }
                states.join(",")
            }
            // The API takes milliseconds, the command does not.
            ("since" | "until", Ok(ms)) => Millis(ms).rfc3339(),
            _ => value.clone(),
        };
        text.push_str(&format!(" --{name} {}", quoted(&value)));
    }
    Some(text)
}

/// The command that cancels `count` runs; where it has no option for one of the filters, it is given what a list finds. That list holds none
/// that has ended: it would take the place of one that is meant.
fn cancelling(meant: &[(String, String)], count: usize) -> Option<String> {
    let (status, others): (Vec<_>, Vec<_>) = meant.iter().cloned().partition(|(name, _)| name == "status");
    let has_ended = |word: &str| match Word::parse(word) {
        Some(Word::State(state)) => state.is_terminal(),
        Some(Word::Status(status)) => matches!(status, Status::Completed | Status::Failed | Status::Cancelled),
        None => false,
    };
    let open: Vec<&str> = match status.is_empty() {
        true => RunState::ALL.into_iter().filter(|state| !state.is_terminal()).map(RunState::word).collect(),
        false => status.iter().flat_map(|(_, value)| words(value)).filter(|word| !has_ended(word)).collect(),
    };
    if open.is_empty() {
        return None;
    }
    if let Some(command) = command("runs cancel", &DONE_BY, meant) {
        return Some(command);
    }
    let meant: Vec<_> = std::iter::once(("status".to_owned(), open.join(","))).chain(others).collect();
    Some(format!("{} --limit {count} | cut -f1 | xargs stepwell runs cancel --yes", command("runs ls", &LISTED_BY, &meant)?))
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// The filters of a count with their times fixed: a length of time before now means others a moment later.
fn fixed(mut meant: Vec<(String, String)>, now: Millis) -> Vec<(String, String)> {
    for (name, value) in &mut meant {
        if matches!(name.as_str(), "since" | "until")
            && let Ok(ago) = value.parse::<Span>()
        {
            *value = now.0.saturating_sub(ago.0).to_string();
        }
    }
    if !meant.iter().any(|(name, _)| name == "until") {
        // What comes after the count is not meant.
        meant.push(("until".to_owned(), now.0.to_string()));
    }
    meant
}

fn filters(web: &Web, ask: &Ask) -> Markup {
    let project = web.project();
    let chosen: Vec<&str> = ask.all("status").collect();
    let toggled = |state: RunState| {
        let word = state.word();
        let mut left: Vec<&str> = chosen.iter().copied().filter(|other| *other != word).collect();
        if left.len() == chosen.len() {
            left.push(word);
        }
        let joined = left.join(",");
        ask.with(&[("status", (!joined.is_empty()).then_some(joined.as_str())), ("cursor", None), ("bulk", None)])
    };
    let order = [
        RunState::Queued,
        RunState::Running,
        RunState::Sleeping,
        RunState::Waiting,
        RunState::BackingOff,
        RunState::Paused,
        RunState::Parked,
        RunState::Completed,
        RunState::Failed,
        RunState::Cancelled,
    ];
    let sinces = [("", "any time"), ("15m", "15 minutes"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days")];
    let since = ask.one("since").unwrap_or_default();
    html! {
        div.chips role="group" aria-label="States" {
            a.chip href=(ask.with(&[("status", None), ("cursor", None), ("bulk", None)])) aria-current=[chosen.is_empty().then_some("true")] { "all" }
            @for state in order {
                a.chip href=(toggled(state)) aria-current=[chosen.contains(&state.word()).then_some("true")] {
                    span class={ "sign " (widgets::tone(state).class()) } aria-hidden="true" { (widgets::sign(state)) } (widgets::state_word(state))
                }
            }
        }
        form.filters method="get" action="/runs" data-auto {
            @if !chosen.is_empty() { input type="hidden" name="status" value=(chosen.join(",")); }
            @for name in ["event", "replay_of", "prefix", "until"] {
                @if let Some(value) = ask.one(name) { input type="hidden" name=(name) value=(value); }
            }
            label { span { "Function" }
                select name="function" {
                    option value="" { "all" }
                    @for function in &project.functions {
                        option value=(function.id) selected[ask.one("function") == Some(&function.id)] { (function.id) }
                    }
                    @if let Some(other) = ask.one("function").filter(|id| project.function(id).is_none()) { option value=(other) selected { (other) } }
                }
            }
            label { span { "Since" }
                select name="since" {
                    @for (value, word) in sinces { option value=(value) selected[since == value] { (word) } }
                    @if !sinces.iter().any(|(value, _)| *value == since) { option value=(since) selected { (since) } }
                }
            }
            label { span { "Key" } input name="key" value=[ask.one("key")] placeholder="u1" size="10" autocomplete="off"; }
            label.grow { span { "Where (CEL)" }
                input.mono name="where" value=[ask.one("where")] data-search autocomplete="off" spellcheck="false"
                    placeholder="event.data.userId == \"u1\" && run.output.total > 100";
            }
            button type="submit" { "Filter" }
            @if KNOWN.iter().any(|name| ask.has(name)) { a.button.quiet href="/runs" { "Clear" } }
        }
        @for (name, what) in [("event", "Started by event"), ("replay_of", "Replays of run"), ("prefix", "Ids that begin with")] {
            @if let Some(value) = ask.one(name) {
                p.small { (what) " " code { (value) } " " a href=(ask.with(&[(name, None), ("cursor", None)])) { "show all" } }
            }
        }
    }
}

/// The table. A live page asks with the ids that it shows: those rows come again as they are now, and none moves.
async fn rows(web: &Web, ask: &Ask) -> Result<Markup, WebError> {
    let now = web.now();
    let shown: Vec<RunId> = ask.all("ids").filter_map(|id| id.parse().ok()).take(1_000).collect();
    let (runs, cursor, new) = if shown.is_empty() {
        let mut pairs: Vec<(String, String)> = parameters(ask);
        pairs.push(("limit".to_owned(), ask.one("limit").unwrap_or(ROWS).to_owned()));
        if let Some(cursor) = ask.one("cursor") {
            pairs.push(("cursor".to_owned(), cursor.to_owned()));
        }
        let page = web.api().runs(&crate::server::Params::from_pairs(pairs)).await?;
        (page.data, page.cursor, 0)
    } else {
        let newest = shown.iter().max().copied().unwrap_or_default();
        let runs = web.api().these_runs(shown).await?;
        let new = if ask.has("cursor") { 0 } else { newer(web, ask, newest).await? };
        (runs, ask.one("next").map(str::to_owned), new)
    };
    let ids: Vec<String> = runs.iter().map(|run| run.run_id.to_string()).collect();
    let ids = ids.join(",");
    let fresh = ask.with(&[("part", Some("rows")), ("ids", None), ("next", None)]);
    let again = ask.with(&[("part", Some("rows")), ("ids", Some(&ids)), ("next", cursor.as_deref())]);
    let top = ask.with(&[("cursor", None), ("ids", None), ("next", None)]);
    let table = table(&runs, now);
    let body = html! {
        @if new > 0 {
            p.new { a.button.primary href=(top) { (new_word(new)) " · show" } }
        }
        @if runs.is_empty() && cursor.is_none() { (nothing(web, ask)) } @else { (table) }
        (widgets::more(cursor.as_deref().map(|cursor| ask.with(&[("cursor", Some(cursor)), ("ids", None), ("next", None)]))))
    };
    let is_first = !ask.has("cursor");
    // The part is swapped as a whole, since the ids in its address are those of its rows.
    Ok(html! {
        div #rows data-live="runs" data-url=(again) data-fresh=[is_first.then_some(&fresh)] data-swap="outerHTML" { (body) }
    })
}

fn parameters(ask: &Ask) -> Vec<(String, String)> {
    let known = KNOWN.iter().flat_map(|name| ask.all_of(name).map(|value| ((*name).to_owned(), value.to_owned())));
    known.collect()
}

async fn newer(web: &Web, ask: &Ask, than: RunId) -> Result<usize, WebError> {
    let mut pairs = parameters(ask);
    pairs.push(("limit".to_owned(), NEW_MOST.to_string()));
    let page = web.api().runs_after(&crate::server::Params::from_pairs(pairs), than).await?;
    Ok(page.data.len())
}

fn new_word(count: usize) -> String {
    match count {
        1 => "1 new run".to_owned(),
        NEW_MOST.. => format!("{NEW_MOST} new runs and more"),
        count => format!("{count} new runs"),
    }
}

fn nothing(web: &Web, ask: &Ask) -> Markup {
    if KNOWN.iter().any(|name| ask.has(name)) {
        return widgets::empty("No run passes these filters.", html! { a href="/runs" { "Show all runs" } });
    }
    widgets::empty(
        "No run yet.",
        html! { "Send an event that starts one: " a href="/send" { "Send event" } ", or " (widgets::command(&first_command(&web.project()))) },
    )
}

/// Runs as a table.
pub fn table(runs: &[RunView], now: Millis) -> Markup {
    html! {
        div.table {
            table.rows {
                thead { tr {
                    th { "State" } th { "Function" } th.wide { "Run" } th.wide { "Key" } th { "Created" } th.num { "Took" } th.why { "Result, or why it waits" }
                } }
                tbody {
                    @for run in runs {
                        tr data-row=(run.run_id) data-r={ "/runs/" (run.run_id) "?do=replay#do" } data-c={ "/runs/" (run.run_id) "?do=cancel#do" } {
                            td { (widgets::state(run.state)) }
                            td { a.main href={ "/runs/" (run.run_id) } { (run.function_id) } @if run.replay_of.is_some() { " " (widgets::tag("replay", Tone::Quiet)) } }
                            td.wide { a.mono.muted href={ "/runs/" (run.run_id) } tabindex="-1" { (run.run_id) } }
                            td.wide.mono { @if let Some(key) = &run.key { (key_text(key)) } }
                            td.nowrap { (widgets::ago(run.created_at.0, now)) }
                            td.num { @if let Some(time) = duration(run, now) { (time) } }
                            td.why { (outcome(run)) }
                        }
                    }
                }
            }
        }
    }
}

/// A key as people write it.
pub fn key_text(key: &serde_json::Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

/// From its first start to its end, or till now.
pub fn duration(run: &RunView, now: Millis) -> Option<String> {
    let started = run.run_started_at?.0;
    Some(widgets::took(run.ended_at.map_or(now, |ended| ended.0).since(started)))
}

fn outcome(run: &RunView) -> Markup {
    const LONGEST: usize = 160;
    let cut = |text: &str| text.chars().take(LONGEST).collect::<String>();
    match (reason(run), &run.output) {
        (Some(text), _) if run.state == RunState::Failed => html! { span.cut.bad title=(text) { (cut(&text)) } },
        (Some(text), _) => html! { span.cut title=(text) { (cut(&text)) } },
        (None, Some(output)) if output.get() != "null" => html! { span.cut.mono.muted { (cut(output.get())) } },
        _ => html! {},
    }
}

/// What a replay or cancel of all that is shown would do, with the count first.
async fn bulk(web: &Web, ask: &Ask, again: bool) -> Result<Markup, WebError> {
    let meant = fixed(parameters(ask), web.now());
    let params = crate::server::Params::from_pairs(meant.clone());
    let counted = match again {
        true => web.api().replay_selected(&params, true).await?.data,
        false => web.api().cancel_selected(&params, None, true).await?.data,
    };
    let count = counted.matched - counted.replayed_before;
    let runs = |count: usize| if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
    let (path, verb, tone) = if again { ("/do/replays", "Replay", Tone::Info) } else { ("/do/cancellations", "Cancel", Tone::Bad) };
    let shell = match again {
        true => command("replay", &DONE_BY, &meant),
        false => cancelling(&meant, count),
    };
    let shell = shell.unwrap_or_default();
    let what = match (again, ask.has("status")) {
        (true, false) => "failed and pass the filters",
        (true, true) => "pass the filters",
        (false, _) => "pass the filters and have not ended",
    };
    Ok(html! {
        section.panel.bulk #bulk {
            h2 { (verb) " these runs" }
            p {
                b { (runs(count)) } " " (what) "."
                @if counted.replayed_before > 0 { " " (runs(counted.replayed_before)) " that were replayed before are left out." }
                @if again { " Each is done again as a new run, and its effects happen again." }
            }
            form.row method="post" action=(path) {
                (actions::back(ask))
                input type="hidden" name="sure" value="yes";
                @for (name, value) in &meant { input type="hidden" name=(name) value=(value); }
                @if !again { label { span { "Reason" } input name="reason" size="30" autocomplete="off"; } }
                @if count > 0 { (actions::submit(ask, &format!("{verb} {}", runs(count)), &shell, tone, None)) }
                a.button.quiet href=(ask.with(&[("bulk", None)])) { "Leave it" }
                @match (count > 0, shell.is_empty()) {
                    (true, false) => (actions::command(&shell, if again { "" } else { "[ --reason {reason}]" }, &[])),
                    (true, true) => p.small.muted.does { "No one command means the same runs." },
                    (false, _) => {}
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(filters: &[(&str, &str)]) -> Vec<(String, String)> {
        filters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_command_means_no_more_runs_than_its_filters_or_there_is_none() {
        let all =
            meant(&[("status", "failed, parked"), ("function", "charge"), ("since", "24h"), ("until", "0"), ("where", "run.attempt > 1")]);
        let wanted = "--status failed,parked --function charge --since 24h --until 1970-01-01T00:00:00.000Z --where 'run.attempt > 1'";
        assert_eq!(command("replay", &DONE_BY, &all), Some(format!("stepwell replay {wanted}")));
        assert_eq!(command("runs ls", &LISTED_BY, &all), Some(format!("stepwell runs ls {wanted}")));
        let one = |name, value| meant(&[("function", "charge"), (name, value)]);
        for filters in [one("key", "u1"), one("event", "0000000000101")] {
            assert_eq!(command("replay", &DONE_BY, &filters), None, "{filters:?}");
            assert!(command("runs ls", &LISTED_BY, &filters).is_some(), "{filters:?}");
        }
        let running = "stepwell runs ls --function charge --status Running";
        assert_eq!(command("runs ls", &LISTED_BY, &one("status", "Running")).as_deref(), Some(running));
        for filters in [one("replay_of", "0000000000101"), one("prefix", "00"), one("status", "Runing")] {
            assert_eq!((command("runs ls", &LISTED_BY, &filters), cancelling(&filters, 1)), (None, None), "{filters:?}");
        }
    }

    #[test]
    fn what_has_ended_takes_no_place_among_what_a_command_cancels() {
        let some = cancelling(&meant(&[("status", "failed,queued"), ("key", "u1")]), 7).unwrap();
        assert_eq!(some, "stepwell runs ls --status queued --key u1 --limit 7 | cut -f1 | xargs stepwell runs cancel --yes");
        let keyed = cancelling(&meant(&[("key", "u1")]), 7).unwrap();
        for state in RunState::ALL {
            assert_eq!(keyed.contains(state.word()), !state.is_terminal(), "{keyed}");
        }
        let all = cancelling(&meant(&[("function", "charge"), ("status", "queued")]), 7);
        assert_eq!(all.as_deref(), Some("stepwell runs cancel --function charge --status queued"));
        for ended in ["failed", "Failed"] {
            assert_eq!(cancelling(&meant(&[("status", ended)]), 7), None);
        }
    }

    #[test]
    fn what_is_counted_is_what_is_done() {
        let now = Millis(10_000_000);
        let times = |filters: &[(&str, &str)]| fixed(meant(filters), now);
        assert_eq!(times(&[("since", "2h")]), meant(&[("since", "2800000"), ("until", "10000000")]));
        assert_eq!(times(&[("until", "2h")]), meant(&[("until", "2800000")]));
        assert_eq!(times(&[("until", "5000")]), meant(&[("until", "5000")]));
    }
}
