//! The events that came: as they come, what they caused or why nothing, and those that were refused.

use std::sync::Arc;

use maud::{Markup, html};

use crate::base::{EventId, Millis};
use crate::exec::{REFUSED_KEPT, Refused};
use crate::project::Project;
use crate::rules::EventRow;
use crate::server::EventSelection;
use crate::server::view::{ExplainView, FunctionOutcome};
use crate::store::{EventQuery, RunQuery, Store, StoreError};
use crate::web::actions::{self, Act};
use crate::web::rows::light_runs;
use crate::web::widgets::{self, Tone};
use crate::web::words::quoted;
use crate::web::{Ask, Content, Web, WebError};

/// Events on one page.
const ROWS: usize = 50;
/// Events that a search looks at before it shows what it has found.
const LOOKED_AT: usize = 5_000;
/// Runs of one event that are looked at for a list.
const RUNS_LISTED: usize = 20;
/// Runs of one event that its own page lists.
const RUNS_SHOWN: usize = 1_000;
/// Bytes of data up to which a command holds them itself.
pub(super) const DATA_IN_COMMAND_BYTES: usize = 4 * 1024;
/// Bytes of the data of a refused event that the list of them shows.
const REFUSED_SHOWN: usize = 1_000;
/// Characters of a value that a condition saw.
const VALUE_SHOWN: usize = 2_000;
/// Characters of an event's data in a list.
const DATA_SHOWN: usize = 120;

/// What a list shows.
struct Found {
    /// The events, with the beginning of their data alone.
    rows: Vec<(EventRow, ExplainView)>,
    /// The cursor of the next page.
    next: Option<EventId>,
    /// The page has come to its end before it was full.
    is_early: bool,
}

/// The events, the newest first, or those that were refused.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    if ask.one("tab") == Some("refused") {
        return Ok(refused(&web, &ask));
    }
    let name = ask.one("name");
    let query = EventQuery { name: name.map(Arc::from), ..EventQuery::default() };
    let cursor: Option<EventId> = ask.one("cursor").and_then(|cursor| cursor.parse().ok());
    let (rows, wrong) = match EventSelection::new(query, ask.one("where")) {
        Ok(selection) => {
            let (project, now, selection) = (web.project(), web.now(), selection.after(cursor));
            let found = web.read(move |store| find(store, &project, &selection, now)).await?;
            (rows(&web, &ask, &found), None)
        }
        Err(wrong) => (html! {}, Some(wrong)),
    };
    if ask.part() == Some("rows") {
        return Ok(Content::new(rows));
    }
    let project = web.project();
    let body = html! {
        (tabs(&web, false))
        form.filters method="get" action="/events" role="search" {
            div.field {
                label for="name" { "Name" }
                input id="name" name="name" list="event-names" value=[name] placeholder="payment/initiate or stripe/*" data-search autocomplete="off";
                (names(&project))
            }
            div.field.grow {
                label for="where" { "Condition (CEL)" }
                input.mono id="where" name="where" value=[ask.one("where")] placeholder="event.data.amount > 10" autocomplete="off" spellcheck="false"
                    aria-invalid=[wrong.as_ref().map(|_| "true")] aria-describedby=[wrong.as_ref().map(|_| "where-fault")];
                @if let Some(wrong) = &wrong { p.fault id="where-fault" { "✗ " (wrong) } }
            }
            button type="submit" { "Filter" }
        }
        @if cursor.is_none() && wrong.is_none() {
            (widgets::live("rows", "tick", &ask.with(&[("part", Some("rows"))]), rows))
        } @else {
            div id="rows" { (rows) }
        }
    };
    let options = ["name", "where"].into_iter().filter_map(|option| Some(format!(" --{option} {}", quoted(ask.one(option)?))));
    Ok(Content::new(body).command(format!("stepwell events ls{}", options.collect::<String>())))
}

fn tabs(web: &Web, is_refused: bool) -> Markup {
    let count = web.engine().refused().len();
    html! {
        nav.tabs aria-label="Which events" {
            a href="/events" aria-current=[(!is_refused).then_some("page")] { "Accepted" }
            a href="/events?tab=refused" aria-current=[is_refused.then_some("page")] { "Refused" @if count > 0 { " " (widgets::tag(&count.to_string(), Tone::Bad)) } }
        }
    }
}

/// The names of the declared events, for fields that complete them.
pub(super) fn names(project: &Project) -> Markup {
    html! {
        datalist id="event-names" {
            @for name in project.config.events.names() { option value=(name) {} }
        }
    }
}

fn find(store: &dyn Store, project: &Project, selection: &EventSelection, now: Millis) -> Result<Found, StoreError> {
    let (events, next) = selection.page(store, ROWS, LOOKED_AT)?;
    let is_early = events.len() < ROWS && next.is_some();
    let row = |event: EventRow| {
        let runs = light_runs(store, &RunQuery { event: Some(event.id), limit: RUNS_LISTED, ..RunQuery::default() })?;
        let view = ExplainView::of(&event, project, &runs, store, now)?;
        Ok((EventRow { data: Arc::from(widgets::cut(&event.data, DATA_SHOWN)), extra: None, ..event }, view))
    };
    Ok(Found { rows: events.into_iter().map(row).collect::<Result<_, StoreError>>()?, next, is_early })
}

fn rows(web: &Web, ask: &Ask, found: &Found) -> Markup {
    let now = web.now();
    html! {
        @if found.rows.is_empty() && found.next.is_none() {
            (widgets::empty("No events", html! { "Send one: " a href="/send" { "Send event" } ", or " (widgets::command(&first_command(&web.project()))) }))
        } @else {
            div.table {
                table.rows {
                    thead { tr { th scope="col" { "Event" } th scope="col" { "Name" } th scope="col" { "Received" } th.wide scope="col" { "Data" } th scope="col" { "Caused" } } }
                    tbody {
                        @for (event, view) in &found.rows {
                            tr data-row {
                                td { a.main.mono href={ "/events/" (event.id) } { (event.id) } }
                                td { (event.name) }
                                td { (widgets::ago(event.accepted, now)) }
                                td.wide.mono.preview { (event.data) }
                                td { (caused(view)) }
                            }
                        }
                    }
                }
            }
        }
        @if found.is_early { p.muted { "Not all events were looked at so far." } }
        (widgets::more(found.next.map(|next| ask.with(&[("cursor", Some(&next.to_string()))]))))
    }
}

/// What an event caused, in a cell.
fn caused(view: &ExplainView) -> Markup {
    let runs = view.functions.iter().flat_map(|function| function.runs.iter().map(move |run| (function, run)));
    let shown: Vec<_> = runs.take(4).collect();
    let all: usize = view.functions.iter().map(|function| function.runs.len()).sum();
    html! {
        @if shown.is_empty() {
            span.muted title=(view.summary) { (why_nothing(view)) }
        }
        @for (function, run) in &shown {
            a.caused href={ "/runs/" (run.run_id) } { (widgets::state(run.state)) " " (function.function_id) }
            " "
        }
        @if all > shown.len() { span.muted { "and " (all - shown.len()) " more" } }
    }
}

/// Why an event has no run of its own.
fn why_nothing(view: &ExplainView) -> &'static str {
    if !view.waits.is_empty() {
        return "ended a wait";
    }
    if !view.cancelled.is_empty() {
        return "cancelled a run";
    }
    let telling = view.functions.iter().find(|function| function.outcome != "not_matched").or(view.functions.first());
    telling.map_or("no function listens", outcome_word)
}

fn outcome_word(function: &FunctionOutcome) -> &'static str {
    match function.outcome.as_str() {
        "started" => "started",
        "not_matched" => "if is false",
        "idempotency_taken" => "skipped: idempotency",
        "rate_limited" => "skipped: rate limit",
        "debounced_into" => "debounced",
        "batched_into" => "batched",
        "singleton_skipped" => "skipped: singleton",
        _ => "nothing",
    }
}

/// One event: its data, and what became of it.
pub async fn one(web: Web, ask: Ask) -> Result<Content, WebError> {
    let id = ask.row_id("an event")?;
    let (project, now) = (web.project(), web.now());
    let read = web.read(move |store| {
        let Some(event) = store.event(id)? else { return Ok(None) };
        let runs = light_runs(store, &RunQuery { event: Some(id), limit: RUNS_SHOWN, ..RunQuery::default() })?;
        let view = ExplainView::of(&event, &project, &runs, store, now)?;
        Ok(Some((event, view)))
    });
    let (event, view) = read.await?.ok_or_else(|| WebError::not_found(format!("there is no event {id}")))?;
    // What is large comes once somebody wants it.
    match ask.part() {
        Some("data") => return Ok(widgets::json_whole(&event.data).into()),
        Some("extra") => return Ok(widgets::json_whole(event.extra.as_deref().unwrap_or("null")).into()),
        Some("curl") => return Ok(html! { (curl(&web, &event.name, &event.data)) }.into()),
        _ => {}
    }
    let part = |part: &str| format!("/events/{id}?part={part}");
    let view = view.by_config(Some(web.engine().in_force()));
    let became = html! {
        p { (view.summary) "." }
        @if let Some(since) = &view.config { p.muted { (since) "." } }
        @for function in &view.functions { (outcome(function)) }
        @for wait in &view.waits {
            p { (widgets::state(wait.state)) " " (widgets::run_link(wait.run_id)) " of " (widgets::function_link(&wait.function_id)) " waited for it at " code { (wait.key) } }
        }
        @for run in &view.cancelled {
            p { (widgets::run_link(run.run_id)) " of " (widgets::function_link(&run.function_id)) " was cancelled by it" }
        }
    };
    if ask.part() == Some("became") {
        return Ok(Content::new(became));
    }
    let mut states =
        view.functions.iter().flat_map(|function| &function.runs).map(|run| run.state).chain(view.waits.iter().map(|wait| wait.state));
    let is_over = states.all(|state| state.rests());
    let send = again_command(event.id, &event.name, &event.data);
    let again = event.id.to_string();
    let mut facts = vec![
        ("Name", html! { a href={ "/events?name=" (event.name) } { (event.name) } }),
        ("Id", html! { span.mono { (event.id) } " " (widgets::copy("Copy id", &event.id.to_string())) }),
        ("Received", html! { (widgets::ago(event.accepted, now)) " " span.muted.mono { (event.accepted.rfc3339()) } }),
    ];
    if event.ts != event.accepted {
        facts.push(("Its time", html! { (widgets::ago(event.ts, now)) " " span.muted.mono { (event.ts.rfc3339()) } }));
    }
    if let Some(deduplication) = &view.deduplication {
        facts.push((
            "Sender's id",
            html! {
                @if let Some(id) = &deduplication.id { code { (id) } }
                p.muted {
                    "Sent again before " span.mono { (deduplication.until) } " it is known by it and starts nothing."
                    @if let Some(at) = deduplication.repeated_at { " It came again " (widgets::ago(at.0, now)) "." }
                }
            },
        ));
    }
    if let Some(extra) = &event.extra {
        facts.push(("Beside data", widgets::json_at(extra, &part("extra"))));
    }
    let is_own = event.name.starts_with("stepwell/");
    let buttons = html! {
        @if !is_own {
            (actions::button(&ask, Act { path: "/do/send", label: "Send again", fields: &[("again", &again)], command: &send, ..Act::default() }))
            a.button href={ "/send?from=" (event.id) } { "Change and send…" }
            @if event.data.len() > DATA_IN_COMMAND_BYTES {
                (widgets::copy_from("Copy as curl", &part("curl"), "Copy"))
            } @else { (widgets::copy("Copy as curl", &curl(&web, &event.name, &event.data))) }
        }
    };
    let body = html! {
        div.grid2 {
            (widgets::panel("Event", html! { (widgets::facts(&facts)) div.row { (buttons) } }))
            (widgets::panel("Data", widgets::json_at(&event.data, &part("data"))))
        }
        section.panel {
            h2 { "What became of it" }
            @if is_over {
                div id="became" { (became) }
            } @else {
                (widgets::live("became", "runs", &ask.with(&[("part", Some("became"))]), became))
            }
        }
    };
    Ok(Content::new(body)
        .title(format!("{} › {}", event.name, event.id))
        .command(format!("stepwell events get {} --explain", event.id))
        .command(&send))
}

fn outcome(function: &FunctionOutcome) -> Markup {
    let tone = match function.outcome.as_str() {
        "started" => Tone::Good,
        "not_matched" => Tone::Quiet,
        _ => Tone::Warn,
    };
    html! {
        article.outcome {
            h3 { (widgets::function_link(&function.function_id)) " " (widgets::tag(outcome_word(function), tone)) }
            p { (function.why) }
            @for condition in &function.conditions {
                p { code { "if: " (condition.text) } " " @if condition.holds { (widgets::tag("✓ holds", Tone::Good)) } @else { (widgets::tag("✗ false", Tone::Bad)) } }
                @if !condition.values.is_empty() {
                    table.values {
                        caption.sr { "What the condition saw" }
                        tbody { @for (path, value) in &condition.values { tr { th.mono scope="row" { (path) } td.mono { (widgets::cut(&value.to_string(), VALUE_SHOWN)) } } } }
                    }
                }
                @if let Some(error) = &condition.error { p.fault { "✗ " (error) } }
            }
            @for run in &function.runs {
                p { (widgets::state(run.state)) " " (widgets::run_link(run.run_id)) @if let Some(of) = run.replay_of { " a replay of " (widgets::run_link(of)) } }
            }
            @for gate in function.gates.iter().filter(|gate| gate.why != function.why) { p.muted { (gate.why) } }
            @for run in function.gates.iter().filter_map(|gate| gate.run_id) { p { "→ " (widgets::run_link(run)) } }
            @for note in &function.notes { p.muted { (note) } }
        }
    }
}

/// The command that sends an event, for those who have sent none: the first that is declared.
pub(super) fn first_command(project: &Project) -> String {
    format!("stepwell send {} --example", quoted(project.config.events.names().next().unwrap_or("order/placed")))
}

/// The command that sends a stored event once more: with its data, or, where they are too long for a command line, with those that are
/// stored.
pub(super) fn again_command(id: EventId, name: &str, data: &str) -> String {
    match data.len() > DATA_IN_COMMAND_BYTES {
        true => format!("stepwell events get {id} --json | jq -c .data | stepwell send {} --data -", quoted(name)),
        false => send_command(name, data),
    }
}

/// The command that sends an event with these data.
pub(super) fn send_command(name: &str, data: &str) -> String {
    format!("stepwell send {} --data {}", quoted(name), quoted(data))
}

/// The same by `curl`. The key is not known here: it is never shown.
pub(super) fn curl(web: &Web, name: &str, data: &str) -> String {
    let key = if web.api().is_dev() { "dev" } else { "$STEPWELL_EVENT_KEY" };
    // The name has no quotes that JSON would have to escape, or it is escaped; the data are JSON already.
    let name = serde_json::Value::from(name).to_string();
    let body = format!("{{\"name\":{name},\"data\":{data}}}");
    format!("curl -X POST \"http://{}/e/{key}\" -H 'content-type: application/json' -d {}", web.api().listen(), quoted(&body))
}

/// The field that a problem is about: of one that is missing, the object that lacks it is what the problem points at.
pub(super) fn field_of(pointer: &str, message: &str) -> String {
    let lacks = message.strip_prefix('`').and_then(|rest| rest.strip_suffix("` is missing"));
    match lacks {
        Some(name) => format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
        None if pointer.is_empty() => "/".to_owned(),
        None => pointer.to_owned(),
    }
}

/// The events that were refused of late.
fn refused(web: &Web, ask: &Ask) -> Content {
    let all = web.engine().refused();
    let project = web.project();
    let hide = |text: &str| project.surroundings.secrets.hide(text).into_owned();
    let rows = html! {
        @if all.is_empty() {
            (widgets::empty("No event was refused", html! { "since the engine started." }))
        }
        @for one in &all { (refused_one(web, one, &hide)) }
    };
    if ask.part() == Some("rows") {
        return Content::new(rows);
    }
    if ask.part() == Some("data") {
        let asked = ask.one("number").and_then(|number| number.parse().ok());
        let data = all.iter().find(|one| Some(one.number) == asked).and_then(|one| one.data.as_deref());
        return match data {
            Some(data) => Content::new(widgets::json_whole(&hide(data))),
            None => Content::new(html! { p.muted { "This refused event is not kept any more." } }),
        };
    }
    Content::new(html! {
        (tabs(web, true))
        p.muted { "The last " (REFUSED_KEPT) " refused events since the engine started. They are kept in memory alone: what is refused is never stored." }
        (widgets::live("rows", "tick", &ask.with(&[("part", Some("rows"))]), rows))
    })
    .title("Refused events")
    .command("stepwell explain E0221")
}

/// The data of a refused event. There may be many of them on the page, so each shows little of what is long.
fn refused_data(number: u64, data: &str) -> Markup {
    if data.len() <= REFUSED_SHOWN {
        return widgets::json(data);
    }
    let all = format!("/events?tab=refused&part=data&number={number}");
    html! {
        div.data {
            pre.json tabindex="0" { (widgets::cut(data, REFUSED_SHOWN / 2)) }
            (widgets::load_all(&all, data.len()))
        }
    }
}

fn refused_one(web: &Web, one: &Refused, hide: &dyn Fn(&str) -> String) -> Markup {
    let Refused { number, at, name, data, problems } = one;
    html! {
        section.panel data-row {
            h2 { "✗ " @match name { Some(name) => (name), None => "without a name that can be read" } " " span.muted { (widgets::ago(*at, web.now())) } }
            ul.faults {
                @for problem in problems {
                    li {
                        code { (field_of(&problem.pointer, &problem.message)) } " " (hide(&problem.message)) " " (widgets::tag(&problem.code, Tone::Quiet))
                        @if let Some(help) = &problem.help { p.muted { (hide(help)) } }
                    }
                }
            }
            @if let Some(data) = data {
                (refused_data(*number, &hide(data)))
                @if name.is_some() { p { a.main.button href={ "/send?refused=" (number) } { "Mend and send…" } } }
            }
        }
    }
}
