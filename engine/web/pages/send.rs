//! Sending an event: a form made from its schema beside the JSON, with its example filled in and errors at the fields.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;

use crate::base::{json as base_json, size};
use crate::project::Project;
use crate::rules::EventRow;
use crate::store::RunQuery;
use crate::web::actions::{self, Act, Done};
use crate::web::schema_form::{self, Faults, Filled};
use crate::web::widgets::{self, Tone};
use crate::web::words::quoted;
use crate::web::{Ask, Content, Form, Web, WebError};

use super::events::{DATA_IN_COMMAND_BYTES, again_command, curl, field_of, first_command, names, send_command};

/// What the page is filled with.
struct Draft {
    name: String,
    /// The data, where they could be read.
    data: Value,
    /// The data as text, for the JSON side.
    text: String,
    /// The JSON side is shown.
    is_json: bool,
    id: String,
    ts: String,
    faults: Faults,
    /// What is wrong with no field in particular.
    others: Vec<(String, Option<String>)>,
}

impl Draft {
    fn new(name: &str, data: Value) -> Draft {
        let text = pretty(&data);
        Draft {
            name: name.to_owned(),
            data,
            text,
            is_json: false,
            id: String::new(),
            ts: String::new(),
            faults: Faults::new(),
            others: Vec::new(),
        }
    }
}

fn pretty(data: &Value) -> String {
    format!("{data:#}")
}

/// The page, empty or filled with an example, a stored event, or one that was refused.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let project = web.project();
    let draft = if let Some(from) = ask.one("from") {
        let id = from.parse().map_err(|_| WebError::not_found("there is no such event"))?;
        let event = web.read(move |store| store.event(id)).await?.ok_or_else(|| WebError::not_found(format!("there is no event {id}")))?;
        if widgets::is_large(&event.data) && ask.one("load") != Some("yes") {
            return Ok(large(&ask, &project, &event));
        }
        Some(Draft::new(&event.name, base_json::value(&event.data).unwrap_or_default()))
    } else if let Some(number) = ask.one("refused").and_then(|number| number.parse::<u64>().ok()) {
        let one = web.engine().refused().into_iter().find(|one| one.number == number);
        let one = one.ok_or_else(|| WebError::not_found("this refused event is not kept any more"))?;
        let data = one.data.as_deref().and_then(|data| base_json::value(data).ok()).unwrap_or_default();
        let mut draft = Draft::new(one.name.as_deref().unwrap_or_default(), data);
        for problem in one.problems {
            draft.fault(&problem.pointer, problem.message, problem.help);
        }
        Some(draft)
    } else {
        ask.one("name").map(|name| Draft::new(name, first(&project, name)))
    };
    // A form of so many fields would be slower to use than their text.
    let draft = draft.map(|draft| Draft { is_json: ask.one("tab") == Some("json") || widgets::is_large(&draft.text), ..draft });
    Ok(whole(&web, &ask, &project, draft))
}

/// The page for an event whose data are so large that they come once somebody asks for them.
fn large(ask: &Ask, project: &Project, event: &EventRow) -> Content {
    let id = event.id.to_string();
    let command = again_command(event.id, &event.name, &event.data);
    let body = html! {
        (choose(project, &event.name))
        section.panel {
            p { "The data of event " (widgets::event_link(event.id)) " are " (size(event.data.len() as u64)) " of JSON. Changed, they are sent as text." }
            div.row {
                a.button.primary href=(ask.with(&[("load", Some("yes"))])) { "Load them to be changed" }
                (actions::button(ask, Act { path: "/do/send", label: "Send it again as it was", fields: &[("again", &id)], command: &command, ..Act::default() }))
            }
        }
    };
    Content::new(body).title(format!("Send {}", event.name)).command(command)
}

/// The data that a form begins with: the example, or what the schema says.
fn first(project: &Project, name: &str) -> Value {
    match (project.example(name), project.whole_schema(name)) {
        (Some(example), _) => example.clone(),
        (None, Some(schema)) => schema_form::begin(&schema),
        (None, None) => Value::Object(serde_json::Map::new()),
    }
}

impl Draft {
    /// Notes a problem of the event at its field.
    fn fault(&mut self, pointer: &str, message: String, help: Option<String>) {
        match field_of(pointer, &message).strip_prefix("/data") {
            Some(field) if !field.is_empty() => self.faults.entry(field.to_owned()).or_default().push((message, help)),
            _ => self.others.push((message, help)),
        }
    }
}

/// The field that says which event is to be sent.
fn choose(project: &Project, name: &str) -> Markup {
    html! {
        form.filters method="get" action="/send" {
            div.field.grow {
                label for="event-name" { "Event" }
                input id="event-name" name="name" list="event-names" value=(name) placeholder="payment/initiate" required autocomplete="off" spellcheck="false" data-search;
                (names(project))
            }
            button type="submit" { "Fill in" }
        }
    }
}

/// Sends a signal to the runs that wait for it.
fn signal(ask: &Ask) -> Markup {
    html! {
        details.panel open[ask.one("do") == Some("signal")] {
            summary { "Send a signal" }
            form method="post" action="/do/signal" {
                (actions::back(ask))
                div.field {
                    label for="signal-name" { "Signal" }
                    input id="signal-name" name="name" value=[ask.one("signal")] placeholder="approval-42" required autocomplete="off" spellcheck="false";
                }
                div.field {
                    label for="signal-data" { "Data (a JSON object)" }
                    textarea.mono id="signal-data" name="data" rows="3" spellcheck="false" { "{}" }
                    p.hint.muted { "It goes to the runs that wait for it at the moment; " a href="/runs?status=waiting" { "those that wait" } " say for what." }
                }
                div.row { (actions::submit(ask, "Send the signal", "", Tone::Info, None)) }
                (actions::command("", "stepwell signal {name}[ --data {data}]", &[("name", ask.one("signal").unwrap_or("approval-42")), ("data", "{}")]))
            }
        }
    }
}

fn whole(web: &Web, ask: &Ask, project: &Project, draft: Option<Draft>) -> Content {
    let choose = choose(project, draft.as_ref().map_or("", |draft| draft.name.as_str()));
    let Some(draft) = draft else {
        let listed = html! {
            div.table { table.rows {
                thead { tr { th scope="col" { "Event" } th scope="col" { "Starts" } th.wide scope="col" { "Schema" } th.wide scope="col" { "Example" } } }
                tbody {
                    @for name in project.config.events.names() {
                        tr data-row {
                            td { a.main href=(link(name)) { (name) } }
                            td { @for (id, _) in project.config.functions_on(name) { (widgets::function_link(&id.value)) " " } }
                            td.wide { @if project.schema(name).is_some() { "✓" } @else { span.muted { "any data" } } }
                            td.wide { @if project.example(name).is_some() { "✓" } @else { span.muted { "none" } } }
                        }
                    }
                }
            } }
        };
        let none = project.config.events.is_empty();
        let body = html! {
            (choose)
            @if none { (widgets::empty("No event is declared", html! { "Declare one under " code { "events" } " in events.yaml." })) } @else { (listed) }
            (signal(ask))
        };
        return Content::new(body).command(first_command(project));
    };
    let schema = project.whole_schema(&draft.name).filter(Value::is_object);
    let is_json = draft.is_json || schema.is_none();
    let is_declared = project.config.event(&draft.name).is_some();
    let compact = draft.data.to_string();
    let is_long = compact.len() > DATA_IN_COMMAND_BYTES;
    let body = html! {
        (choose)
        @if !is_declared {
            (widgets::remark(Tone::Warn, html! { "No event " code { (draft.name) } " is declared" @if let Some(near) = crate::base::diagnostic::nearest(&draft.name, project.config.events.names()) { "; did you mean " a href=(link(near)) { (near) } "?" } @else { "." } }))
        }
        @if !draft.others.is_empty() {
            div.remark.bad role="alert" { div.grow { @for (message, help) in &draft.others { p { "✗ " (message) @if let Some(help) = help { span.muted { ": " (help) } } } } } }
        }
        @if !draft.faults.is_empty() {
            div.remark.bad role="alert" { div.grow {
                p { "✗ Nothing was sent: look at the fields marked below." }
                @if is_json { ul.faults { @for (pointer, found) in &draft.faults { @for (message, help) in found { li { code { "/data" (pointer) } " " (message) @if let Some(help) = help { span.muted { ": " (help) } } } } } } }
            } }
        }
        form.send method="post" action="/do/send-form" novalidate {
            (actions::back(ask))
            input type="hidden" name="name" value=(draft.name);
            input type="hidden" name="mode" value=(if is_json { "json" } else { "form" });
            // Enter in a field sends, whatever button comes first.
            button.sr type="submit" name="do" value="send" tabindex="-1" aria-hidden="true" disabled[!ask.may_change] { "Send" }
            div.tabs role="group" aria-label="How the data are written" {
                @if schema.is_some() {
                    button type="submit" name="do" value="form" aria-pressed=(if is_json { "false" } else { "true" }) { "Form" }
                }
                button type="submit" name="do" value="json" aria-pressed=(if is_json { "true" } else { "false" }) { "JSON" }
            }
            @if is_json {
                div.field {
                    label for="data" { "Data (a JSON object)" }
                    textarea.mono id="data" name="data" rows=(draft.text.lines().count().clamp(8, 30)) spellcheck="false" { (draft.text) }
                }
            } @else if let Some(schema) = &schema {
                div.fields { (schema_form::draw(schema, &draft.data, &draft.faults)) }
            }
            details.further open[!draft.id.is_empty() || !draft.ts.is_empty()] {
                summary { "Id and time" }
                div.field {
                    label for="id" { "Id: the same id sent again within 24 hours starts nothing" }
                    input id="id" name="id" value=(draft.id) autocomplete="off";
                }
                div.field {
                    label for="ts" { "Time: runs start then; milliseconds since 1970, or a time such as 2026-01-31T12:00:00Z" }
                    input id="ts" name="ts" value=(draft.ts) autocomplete="off";
                }
            }
            div.row {
                button.primary type="submit" name="do" value="send" disabled[!ask.may_change] title=[(!ask.may_change).then_some("your token may only read")] { "Send " (draft.name) }
                @if !is_long { (widgets::copy("Copy as curl", &curl(web, &draft.name, &compact))) }
            }
            @if is_json {
                (actions::command("", "stepwell send {name}[ --data {data}][ --id {id}][ --ts {ts}]",
                    &[("name", &draft.name), ("data", &draft.text), ("id", &draft.id), ("ts", &draft.ts)]))
            } @else if !is_long {
                p.small.does { (widgets::command(&send_command(&draft.name, &compact))) span.muted { " with the data as they were filled in here; " b { "JSON" } " has it with what you have changed." } }
            }
        }
    };
    let content =
        Content::new(body).title(format!("Send {}", draft.name)).command(format!("stepwell send {} --example", quoted(&draft.name)));
    if is_long { content } else { content.command(send_command(&draft.name, &compact)) }
}

fn link(name: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("name", name).finish();
    format!("/send?{query}")
}

/// `/do/send-form`: sends what the form holds, or gives it back changed: with another entry, or from the other side.
pub async fn act(web: Web, ask: Ask, form: Form) -> Result<Done, WebError> {
    let project = web.project();
    let name = form.one("name").unwrap_or_default().to_owned();
    let schema = project.whole_schema(&name).filter(Value::is_object);
    let mut draft = Draft::new(&name, Value::Null);
    draft.id = form.one("id").unwrap_or_default().to_owned();
    draft.ts = form.one("ts").unwrap_or_default().to_owned();
    draft.is_json = form.one("mode") == Some("json") || schema.is_none();
    match &schema {
        Some(schema) if !draft.is_json => {
            let fields: BTreeMap<String, String> = form.pairs().iter().cloned().collect();
            let Filled { data, faults } = schema_form::read(schema, &fields);
            draft.text = pretty(&data);
            (draft.data, draft.faults) = (data, faults);
        }
        _ => {
            draft.text = form.one("data").unwrap_or("{}").to_owned();
            match base_json::value(&draft.text) {
                Ok(data) => draft.data = data,
                Err(error) => draft.others.push((format!("the data are no JSON: {error}"), None)),
            }
        }
    }
    let is_readable = draft.others.is_empty();
    match form.one("do").unwrap_or("send") {
        "json" => draft.is_json = true,
        // Text that is no JSON stays on its side until it is.
        "form" if is_readable => (draft.is_json, draft.faults) = (false, Faults::new()),
        "send" if is_readable && draft.faults.is_empty() => match send(&web, &draft).await {
            Ok(to) => return Ok(Done::to(&to).saying("sent")),
            Err(refused) => {
                for (pointer, message, help) in refused? {
                    draft.fault(&pointer, message, help);
                }
                return Ok(answer(&web, &ask, &project, draft));
            }
        },
        "send" | "form" => return Ok(answer(&web, &ask, &project, draft)),
        other => {
            if let (Some(pointer), Some(schema)) = (other.strip_prefix("add:"), &schema) {
                schema_form::add(schema, &mut draft.data, pointer);
            } else if let Some(pointer) = other.strip_prefix("remove:") {
                schema_form::remove(&mut draft.data, pointer);
            }
        }
    }
    Ok(answer(&web, &ask, &project, draft))
}

fn answer(web: &Web, ask: &Ask, project: &Project, draft: Draft) -> Done {
    let title = format!("Send {}", draft.name);
    Done::Show(title, whole(web, ask, project, Some(draft)))
}

/// What is wrong with a refused event: pointer, sentence, help. An error where it was no fault of the event's.
type Refused = Result<Vec<(String, String, Option<String>)>, WebError>;

/// Sends the event, and gives the page to open: the run, if it started exactly one, else the event.
async fn send(web: &Web, draft: &Draft) -> Result<String, Refused> {
    let mut event = serde_json::Map::new();
    event.insert("name".to_owned(), Value::from(draft.name.as_str()));
    if !draft.id.is_empty() {
        event.insert("id".to_owned(), Value::from(draft.id.as_str()));
    }
    if !draft.ts.is_empty() {
        let at = draft.ts.parse::<i64>().ok().or_else(|| draft.ts.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond()));
        let Some(at) = at else {
            let message = format!("`{}` is no time: write 2026-01-31T12:00:00Z, or milliseconds since 1970", draft.ts);
            return Err(Ok(vec![("/ts".to_owned(), message, None)]));
        };
        event.insert("ts".to_owned(), Value::from(at));
    }
    // As it was written on the JSON side, so that no number in it changes.
    let data = if draft.is_json { draft.text.clone() } else { draft.data.to_string() };
    let mut body = Value::Object(event).to_string();
    body.pop();
    body.push_str(",\"data\":");
    body.push_str(&data);
    body.push('}');
    let accepted = match web.api().send(body.as_bytes()).await {
        Ok(accepted) => accepted,
        Err(error) if error.details().is_empty() => return Err(Err(error.into())),
        Err(error) => {
            let told = error.details().iter().map(|detail| (detail.pointer.clone(), detail.message.clone(), detail.help.clone()));
            return Err(Ok(told.collect()));
        }
    };
    let Some(id) = accepted.ids.first().copied() else { return Ok("/events".to_owned()) };
    let runs = web.read(move |store| store.runs(&RunQuery { event: Some(id), limit: 2, ..RunQuery::default() })).await;
    Ok(match runs.map_err(Err)?.as_slice() {
        [run] => format!("/runs/{}", run.id),
        _ => format!("/events/{id}"),
    })
}
