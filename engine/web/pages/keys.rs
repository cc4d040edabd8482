//! Who may do what: which keys and tokens are set. What they are is never shown.

use maud::{Markup, html};

use crate::web::widgets::{self, Tone};
use crate::web::words::count;
use crate::web::{Ask, Content, Web, WebError};

/// The page.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let (events, admin, reader) = web.api().keys();
    let any = web.api().takes_any_key();
    let listen = web.api().listen();
    let is_open = listen.ip().is_loopback() && !admin && !reader;
    let set = |is_set: bool| if is_set { widgets::tag("✓ set", Tone::Good) } else { widgets::tag("not set", Tone::Warn) };
    let row = |variable: &str, state: Markup, may: &str| html! { tr { th.mono scope="row" { (variable) } td { (state) } td { (may) } } };
    let events_state = html! {
        @if events > 0 { (widgets::tag("✓ set", Tone::Good)) " " (count(events as u64, "key")) } @else if any { (widgets::tag("any key is taken", Tone::Warn)) } @else { (set(false)) }
    };
    let project = web.project();
    let secrets: Vec<(String, bool)> =
        project.surroundings.secrets.names().map(|name| (name.to_owned(), project.surroundings.secrets.is_set(name))).collect();
    let body = html! {
        @if any || is_open {
            (widgets::remark(Tone::Warn, html! {
                "This engine listens on " code { (listen) } ", which only this machine reaches"
                @if any { ", and takes events with any key" } @if is_open { "; it asks nobody for a token" } ". Beyond loopback it does not start without keys."
            }))
        }
        section.panel {
            h2 { "Keys and tokens" }
            div.table tabindex="0" role="region" aria-label="Keys and tokens" { table.rows {
                thead { tr { th scope="col" { "Variable" } th scope="col" { "State" } th scope="col" { "Whoever has it may" } } }
                tbody {
                    (row("STEPWELL_EVENT_KEYS", events_state, "send events, and nothing else"))
                    (row("STEPWELL_ADMIN_TOKEN", set(admin), "do everything: the API, this dashboard, sending"))
                    (row("STEPWELL_READ_TOKEN", set(reader), "look at everything, and change nothing"))
                }
            } }
            p.muted { "They are read from the environment when the engine starts, and shown nowhere. You are here with the right to " (if ask.may_change { "change" } else { "look" }) "." }
        }
        section.panel {
            h2 { "New ones" }
            p { "Three fresh secrets of 192 random bits each, as lines of an environment file; they are stored nowhere:" }
            (widgets::command("stepwell keys new"))
            p { "To change a key without losing events: add the new one to " code { "STEPWELL_EVENT_KEYS" } " beside the old one (separated by a comma), restart, move the senders over, take the old one away." }
        }
        section.panel {
            h2 { "Secrets that handlers read" }
            @if secrets.is_empty() { p.muted { "None are declared under " code { "secrets" } "." } } @else {
                div.table tabindex="0" role="region" aria-label="Secrets" { table.rows {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "State" } } }
                    tbody { @for (name, is_set) in &secrets { tr { th.mono scope="row" { (name) } td { (set(*is_set)) } } } }
                } }
            }
        }
    };
    Ok(Content::new(body).command("stepwell keys new"))
}
