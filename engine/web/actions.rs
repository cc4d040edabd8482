//! What can be done from a page: forms that are posted, each answered by the function behind the API's route.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::value::RawValue;

use crate::base::{EventId, json};
use crate::server::view::{InvokeBody, Raw, ReplayBody};

use super::ask::Form;
use super::pages::runs::KNOWN;
use super::widgets::{self, Tone};
use super::words::quoted;
use super::{Ask, Content, Web, WebError, layout};

/// A command longer than this is not told where one points at its button, in bytes.
const TITLE_BYTES: usize = 400;
/// A command longer than this is not shown, in bytes: what it holds stands in the page already.
const COMMAND_BYTES: usize = 8 * 1024;

/// What an action has come to.
pub enum Done {
    /// The browser goes there.
    Go(String),
    /// A page is shown.
    Show(String, Content),
}

impl Done {
    /// To a page.
    pub fn to(path: impl Into<String>) -> Done {
        Done::Go(path.into())
    }

    /// With one of the shell's messages.
    #[must_use]
    pub fn saying(self, word: &str) -> Done {
        match self {
            Done::Go(path) => {
                let (path, fragment) = path.split_once('#').map_or((path.as_str(), ""), |(path, fragment)| (path, fragment));
                let mark = if path.contains('?') { '&' } else { '?' };
                let fragment = if fragment.is_empty() { String::new() } else { format!("#{fragment}") };
                Done::Go(format!("{path}{mark}said={word}{fragment}"))
            }
            show => show,
        }
    }
}

/// What an action answers, once it has acted.
pub type Acting = Pin<Box<dyn Future<Output = Result<Done, WebError>> + Send>>;

/// One thing that can be done.
#[derive(Clone, Copy)]
pub struct Action {
    /// As the router reads it.
    pub path: &'static str,
    /// Does it.
    pub act: fn(Web, Ask, Form) -> Acting,
}

/// Everything that can be done.
pub const ACTIONS: &[Action] = &[
    Action { path: "/do/send", act: |web, _, form| Box::pin(send(web, form)) },
    Action { path: "/do/send-form", act: |web, ask, form| Box::pin(super::pages::send::act(web, ask, form)) },
    Action { path: "/do/invoke", act: |web, _, form| Box::pin(invoke(web, form)) },
    Action { path: "/do/signal", act: |web, _, form| Box::pin(signal(web, form)) },
    Action { path: "/do/pause", act: |web, _, form| Box::pin(pause(web, form, true)) },
    Action { path: "/do/resume", act: |web, _, form| Box::pin(pause(web, form, false)) },
    Action { path: "/do/cancel", act: |web, _, form| Box::pin(cancel(web, form)) },
    Action { path: "/do/retry-now", act: |web, _, form| Box::pin(retry_now(web, form)) },
    Action { path: "/do/migrate", act: |web, _, form| Box::pin(migrate(web, form)) },
    Action { path: "/do/replay", act: |web, _, form| Box::pin(replay(web, form)) },
    Action { path: "/do/cancellations", act: |web, _, form| Box::pin(many(web, form, false)) },
    Action { path: "/do/replays", act: |web, _, form| Box::pin(many(web, form, true)) },
    Action { path: "/do/reload", act: |web, _, _| Box::pin(reload(web)) },
    Action { path: "/do/examine", act: |web, ask, _| Box::pin(super::pages::doctor::act(web, ask)) },
];

/// Reads the form and does what it asks for.
pub(super) async fn act(web: Web, action: &'static Action, request: Request) -> Response {
    let ask = Ask::of(&request, None);
    let form = match web.api().form(request, u64::MAX).await {
        Ok(fields) => Form(fields),
        Err(error) => return WebError::from(error).page(&web, &ask),
    };
    match (action.act)(web.clone(), ask.clone(), form).await {
        Ok(Done::Go(path)) => Redirect::to(&path).into_response(),
        Ok(Done::Show(title, content)) => axum::response::Html(layout::plain(&web, &ask, &title, content).into_string()).into_response(),
        Err(error) => error.page(&web, &ask),
    }
}

/// A button that does something.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// The action.
    pub path: &'a str,
    /// What stands on it.
    pub label: &'a str,
    /// Fields that go with it.
    pub fields: &'a [(&'a str, &'a str)],
    /// The command that does the same.
    pub command: &'a str,
    /// How it is meant.
    pub tone: Tone,
    /// The key that presses it.
    pub key: Option<&'a str>,
}

impl Default for Act<'_> {
    fn default() -> Self {
        Act { path: "", label: "", fields: &[], command: "", tone: Tone::Plain, key: None }
    }
}

/// A form of one button, with its command behind a smaller one.
pub fn button(ask: &Ask, act: Act) -> Markup {
    html! {
        form.act method="post" action=(act.path) {
            (back(ask))
            @for (name, value) in act.fields { input type="hidden" name=(name) value=(value); }
            (submit(ask, act.label, act.command, act.tone, act.key))
            @if !act.command.is_empty() { (how(act.label, act.command)) }
        }
    }
}

/// A command that is seen once its sign is pressed: by a pointer, a finger or a key.
fn how(label: &str, command: &str) -> Markup {
    html! {
        details.how {
            summary title="The same from a terminal" { span aria-hidden="true" { ">_" } span.sr { "The command of " (label) } }
            (widgets::command(command))
        }
    }
}

/// The command that does the same as the form which it stands in, with what its fields hold; the page's script keeps it up with them,
/// except where it is too long when the page is made.
///
/// In the template, `{name}` is the value of a field as a word, `{a=b}` are those of two with `=` between them, and what stands in
/// brackets is left out where one of its fields is empty, and repeated where they stand several times. `before` goes before it as it is.
pub fn command(before: &str, template: &str, fields: &[(&str, &str)]) -> Markup {
    let text = format!("{before}{}", filled(template, fields));
    html! {
        p.small.does {
            @if text.len() > COMMAND_BYTES {
                span.muted { "Too long for a command line: give it as a body to the API." }
            } @else {
                span.command { code data-follows=(template) data-before=[(!before.is_empty()).then_some(before)] { (text) } (widgets::copy("⧉", &text)) }
            }
        }
    }
}

/// A template with the values of fields, as `command` says.
fn filled(template: &str, fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (at, part) in template.split(['[', ']']).enumerate() {
        let is_repeated = at % 2 == 1;
        let times = if is_repeated { fields.len() } else { 1 };
        for number in 0..times {
            out.push_str(&words(part, fields, number, is_repeated).unwrap_or_default());
        }
    }
    out
}

/// A part of a template with the values that its fields have for the `number`th time; none where one of them has to be there and is not.
fn words(part: &str, fields: &[(&str, &str)], number: usize, is_needed: bool) -> Option<String> {
    let value = |name: &str| {
        let mut values = fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.trim());
        let value = values.nth(number).unwrap_or_default();
        (!is_needed || !value.is_empty()).then(|| value.to_owned())
    };
    let (mut out, mut rest) = (String::new(), part);
    while let Some((before, (names, after))) = rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        let values: Option<Vec<String>> = names.split('=').map(value).collect();
        out.push_str(before);
        out.push_str(&quoted(&values?.join("=")));
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// The button that sends a form off; it cannot be pressed by one who may only look.
pub fn submit(ask: &Ask, label: &str, command: &str, tone: Tone, key: Option<&str>) -> Markup {
    let class = match tone {
        Tone::Good | Tone::Info => Some("primary"),
        Tone::Bad => Some("danger"),
        _ => None,
    };
    let title = match ask.may_change {
        true if command.len() > TITLE_BYTES => "",
        true => command,
        false => "you are logged in with the read-only token",
    };
    html! {
        button class=[class] type="submit" disabled[!ask.may_change] title=[(!title.is_empty()).then_some(title)] data-key=[key] { (label) }
    }
}

/// The field by which a form leads back to the page that it stands on.
pub fn back(ask: &Ask) -> Markup {
    html! { input type="hidden" name="back" value=(ask.with(&[("do", None), ("bulk", None)])); }
}

/// Text that a field holds, as JSON that keeps its bytes.
fn raw(name: &str, text: &str) -> Result<Raw, WebError> {
    RawValue::from_string(text.to_owned()).map_err(|error| WebError::bad_request(format!("`{name}` is not JSON: {error}")))
}

async fn send(web: Web, form: Form) -> Result<Done, WebError> {
    let body = match (form.one("event"), form.one("again")) {
        (Some(event), _) => event.to_owned(),
        (None, Some(_)) => stored(&web, form.id("again")?).await?,
        (None, None) => {
            let mut event: BTreeMap<&str, Raw> = BTreeMap::new();
            let text = |text: &str| serde_json::value::to_raw_value(text).map_err(|error| WebError::bad_request(error.to_string()));
            event.insert("name", text(form.needed("name")?)?);
            event.insert("data", raw("data", form.one("data").unwrap_or("{}"))?);
            if let Some(id) = form.one("id") {
                event.insert("id", text(id)?);
            }
            if let Some(ts) = form.one("ts") {
                event.insert("ts", raw("ts", ts)?);
            }
            serde_json::to_string(&event).map_err(|error| WebError::bad_request(error.to_string()))?
        }
    };
    let ids = web.api().send(body.as_bytes()).await?.ids;
    let Some(event) = ids.first().copied() else { return Ok(Done::to("/events").saying("sent")) };
    // Who sent from a run's page sees there what comes of it.
    if let Some(back) = form.one("back").filter(|back| back.starts_with("/runs/")) {
        return Ok(Done::to(form.back(back)).saying("sent"));
    }
    let runs = web.api().event_runs(event, &crate::server::Params::from_pairs(Vec::new())).await?.data;
    Ok(match runs.as_slice() {
        [run] => Done::to(format!("/runs/{}", run.run_id)),
        _ => Done::to(format!("/events/{event}")),
    }
    .saying("sent"))
}

/// An event that is stored, to be sent once more: its name and its data.
async fn stored(web: &Web, id: EventId) -> Result<String, WebError> {
    let event = web.read(move |store| store.event(id)).await?.ok_or_else(|| WebError::not_found(format!("there is no event {id}")))?;
    // The data are JSON as they are stored, and stay as they were sent.
    Ok(format!("{{\"name\":{},\"data\":{}}}", serde_json::Value::from(&*event.name), event.data))
}

async fn invoke(web: Web, form: Form) -> Result<Done, WebError> {
    let data = form.one("data").map(|text| raw("data", text)).transpose()?;
    let run = web.api().invoke(form.needed("function")?, InvokeBody { data, wait: None }).await?.data.run_id;
    Ok(Done::to(format!("/runs/{run}")).saying("invoked"))
}

async fn signal(web: Web, form: Form) -> Result<Done, WebError> {
    let data = form.one("data").unwrap_or("null");
    json::value(data).map_err(|error| WebError::bad_request(format!("`data` is not JSON: {error}")))?;
    let reached = web.api().signal(form.needed("name")?, Arc::from(data)).await?.data.runs;
    Ok(Done::to(form.back("/runs")).saying(if reached == 0 { "unheard" } else { "signalled" }))
}

async fn pause(web: Web, form: Form, paused: bool) -> Result<Done, WebError> {
    web.api().pause(form.needed("function")?, paused).await?;
    Ok(Done::to(form.back("/functions")).saying(if paused { "paused" } else { "resumed" }))
}

async fn cancel(web: Web, form: Form) -> Result<Done, WebError> {
    let run = form.id("run")?;
    web.api().cancel(run, form.one("reason")).await?;
    Ok(Done::to(form.back(&format!("/runs/{run}"))).saying("cancelled"))
}

async fn retry_now(web: Web, form: Form) -> Result<Done, WebError> {
    let run = form.id("run")?;
    web.api().retry_now(run).await?;
    Ok(Done::to(form.back(&format!("/runs/{run}"))).saying("retried"))
}

async fn migrate(web: Web, form: Form) -> Result<Done, WebError> {
    let run = form.id("run")?;
    web.api().migrate(run).await?;
    Ok(Done::to(form.back(&format!("/runs/{run}"))).saying("migrated"))
}

async fn replay(web: Web, form: Form) -> Result<Done, WebError> {
    let run = form.id("run")?;
    // Each step stands before its result.
    let (mut set, mut step) = (BTreeMap::new(), None);
    for (name, value) in form.pairs() {
        match name.as_str() {
            "set_step" => step = Some(value.trim()).filter(|step| !step.is_empty()),
            "set_value" => {
                let Some(step) = step.take() else { continue };
                // A field that was emptied sets nothing, as the command that is shown has it.
                let value = value.trim();
                if !value.is_empty() {
                    set.insert(step.to_owned(), raw("set_value", value)?);
                }
            }
            _ => {}
        }
    }
    let body = ReplayBody { from_step: form.one("from_step").map(str::to_owned), set, dry_run: false };
    let replayed = web.api().replay(run, body).await?.data;
    let new = replayed.run_id.unwrap_or(run);
    Ok(Done::to(format!("/runs/{new}")).saying("replayed"))
}

/// Cancels or replays all runs that the fields mean.
async fn many(web: Web, form: Form, again: bool) -> Result<Done, WebError> {
    if form.one("sure") != Some("yes") {
        return Err(WebError::bad_request("look at the count first: the runs page asks for it"));
    }
    let pairs = form.pairs().iter().filter(|(name, value)| KNOWN.contains(&name.as_str()) && !value.is_empty()).cloned().collect();
    let params = crate::server::Params::from_pairs(pairs);
    let view = match again {
        true => web.api().replay_selected(&params, false).await?.data,
        false => web.api().cancel_selected(&params, form.one("reason"), false).await?.data,
    };
    let failed: Vec<_> = view.runs.iter().filter(|run| run.error.is_some()).collect();
    if failed.is_empty() {
        return Ok(Done::to(form.back("/runs")).saying("many"));
    }
    let what = if again { "replayed" } else { "cancelled" };
    let content = Content::new(html! {
        p { (view.done) " runs were " (what) "; " (failed.len()) " were not:" }
        table.rows {
            thead { tr { th { "Run" } th { "Why not" } } }
            tbody { @for run in failed { tr { td { (widgets::run_link(run.run_id)) } td { (run.error.as_deref().unwrap_or_default()) } } } }
        }
        p { a href=(form.back("/runs")) { "Back to the runs" } }
    });
    Ok(Done::Show(format!("{} of {} runs {what}", view.done, view.matched), content))
}

async fn reload(web: Web) -> Result<Done, WebError> {
    web.api().reload().await?;
    Ok(Done::to("/config").saying("reloaded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_before_the_fragment() {
        let leads = |path: &str| match Done::to(path).saying("sent") {
            Done::Go(path) => path,
            Done::Show(..) => unreachable!(),
        };
        assert_eq!(leads("/runs"), "/runs?said=sent");
        assert_eq!(leads("/runs?a=1#x"), "/runs?a=1&said=sent#x");
    }

    #[test]
    fn a_command_has_what_the_fields_of_its_form_hold() {
        let said = |template: &str, fields: &[(&str, &str)]| filled(template, fields);
        let cancel = "stepwell runs cancel {run}[ --reason {reason}]";
        assert_eq!(said(cancel, &[("run", "01"), ("reason", " ")]), "stepwell runs cancel 01");
        assert_eq!(said(cancel, &[("run", "01"), ("reason", "it's late")]), r"stepwell runs cancel 01 --reason 'it'\''s late'");
        let replay = "stepwell replay {run}[ --from {from_step}][ --set {set_step=set_value}]";
        let edits = [("run", "01"), ("set_step", "a"), ("set_value", "1"), ("set_step", "b › c"), ("set_value", "{\"x\":[1]}")];
        assert_eq!(said(replay, &edits), r#"stepwell replay 01 --set a=1 --set 'b › c={"x":[1]}'"#);
        let emptied = [("run", "01"), ("set_step", "a"), ("set_value", " "), ("set_step", "b"), ("set_value", "2")];
        assert_eq!(said(replay, &emptied), "stepwell replay 01 --set b=2");
        assert_eq!(said("stepwell send {name}[ --data {data}]", &[("name", "a/b"), ("data", "")]), "stepwell send a/b");
        assert_eq!(said(replay, &[("run", "01"), ("from_step", "[b]")]), "stepwell replay 01 --from '[b]'");
        assert_eq!(said("stepwell signal {name}", &[]), "stepwell signal ''");
    }

    #[test]
    fn one_who_may_only_look_sees_what_he_cannot_press() {
        let shown = |may_change| {
            let mut ask = Ask::refused(false);
            ask.may_change = may_change;
            button(&ask, Act { path: "/do/pause", label: "Pause", ..Act::default() }).into_string()
        };
        assert!(shown(false).contains("disabled") && shown(false).contains("read-only"));
        assert!(!shown(true).contains("disabled"));
    }
}
