//! The shell around every page: navigation, what engine this is, and the page's own commands.

use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::widgets::{self, Tone};
use super::{Ask, PAGES, Page, Web, assets};

/// What a page shows.
#[derive(Debug, Clone)]
pub struct Content {
    body: Markup,
    title: Option<String>,
    head: Option<Markup>,
    commands: Vec<String>,
    aside: Option<Markup>,
    live: Option<String>,
}

impl From<Markup> for Content {
    fn from(body: Markup) -> Content {
        Content::new(body)
    }
}

impl Content {
    /// A page with nothing but its body.
    pub fn new(body: Markup) -> Content {
        Content { body, title: None, head: None, commands: Vec::new(), aside: None, live: None }
    }

    /// With a title of its own instead of the table's.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Content {
        self.title = Some(title.into());
        self
    }

    /// With more than a text in the place of the title on the page.
    #[must_use]
    pub fn head(mut self, head: Markup) -> Content {
        self.head = Some(head);
        self
    }

    /// With the command that shows or does the same.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Content {
        self.commands.push(command.into());
        self
    }

    /// With something at the right of the title.
    #[must_use]
    pub fn aside(mut self, aside: Markup) -> Content {
        self.aside = Some(aside);
        self
    }

    /// The run whose changes tick as the topic `run`.
    #[must_use]
    pub fn watching(mut self, run: impl ToString) -> Content {
        self.live = Some(run.to_string());
        self
    }

    /// The body without the shell.
    pub(super) fn alone(self) -> Response {
        Html(self.body.into_string()).into_response()
    }
}

/// A page with the shell around it.
pub(super) fn whole(web: &Web, ask: &Ask, page: &Page, content: Content) -> Html<String> {
    let title = content.title.clone().unwrap_or_else(|| page.title.to_owned());
    Html(shell(web, ask, &title, content).into_string())
}

/// A page that is not in the table.
pub(super) fn plain(web: &Web, ask: &Ask, title: &str, content: Content) -> Markup {
    shell(web, ask, title, content)
}

/// A page without navigation, for those who are not inside.
pub(super) fn bare(title: &str, body: Markup) -> Markup {
    document(title, None, html! { main.bare { (body) } })
}

/// What the application is called.
pub fn app_name(web: &Web) -> String {
    web.project().config.app.as_ref().map_or_else(|| "events.yaml".to_owned(), |app| app.value.clone())
}

fn document(title: &str, live: Option<&str>, body: Markup) -> Markup {
    // Neither inline styles nor evaluated texts: the policy forbids them, so htmx must not try. Nothing of a page is kept in the browser.
    const HTMX: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"selfRequestsOnly":true,"historyCacheSize":0,"refreshOnHistoryMiss":true,"scrollIntoViewOnBoost":false}"#;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX);
                title { (title) " · stepwell" }
                link rel="icon" type="image/svg+xml" href=(assets::path("icon"));
                link rel="stylesheet" href=(assets::path("style"));
                script src=(assets::path("htmx")) defer {}
                script src=(assets::path("app")) defer {}
            }
            body data-live-run=[live] { (body) }
        }
    }
}

fn shell(web: &Web, ask: &Ask, title: &str, content: Content) -> Markup {
    let here = |page: &Page| page.path == ask.path() || (page.path != "/" && ask.path().starts_with(&format!("{}/", page.path)));
    let app = app_name(web);
    let body = html! {
        a.skip href="#main" { "To the content" }
        header.top {
            a.brand href="/" title="Overview" { span.logo aria-hidden="true" { "▤" } " stepwell" }
            span.app { (app) }
            (badge(web))
            span.grow {}
            @if let Some(text) = trouble(web) { a.trouble href="/" { "⚠ " (text) } }
            span #live-state .muted.small role="status" {}
            button.quiet type="button" data-help title="Keys (?)" aria-label="Keyboard help" { "?" }
            @if ask.has_session {
                @if !ask.may_change { (widgets::tag("read only", Tone::Quiet)) }
                form method="post" action="/logout" { button.quiet type="submit" { "Log out" } }
            }
        }
        nav aria-label="Pages" {
            ul {
                @for page in PAGES.iter().filter(|page| page.sign.is_some()) {
                    li {
                        a href=(page.path) aria-current=[here(page).then_some("page")] {
                            span.sign aria-hidden="true" { (page.sign.unwrap_or_default()) } span { (page.title) }
                        }
                    }
                }
            }
        }
        main #main tabindex="-1" {
            div.head {
                @match &content.head {
                    Some(head) => { (head) }
                    None => { h1 { (title) } }
                }
                span.grow {}
                @if let Some(aside) = &content.aside { (aside) }
            }
            @if let Some(text) = ask.one("said").and_then(said) {
                div.said role="status" { span aria-hidden="true" { (if ask.one("said") == Some("unheard") { "⚠ " } else { "✓ " }) } (text) }
            }
            (content.body)
            @if !content.commands.is_empty() {
                footer.commands {
                    span.muted.small { "The same from a terminal" }
                    @for command in &content.commands { (widgets::command(command)) }
                }
            }
        }
        (help())
    };
    document(title, content.live.as_deref(), body)
}

/// Whose engine this is: `stepwell dev` takes any key and reaches private addresses, `stepwell run` does not.
fn badge(web: &Web) -> Markup {
    if web.api().is_dev() {
        html! { span.badge.dev title="stepwell dev: any event key is taken, private addresses may be called, files are watched" { "DEV" } }
    } else {
        html! { span.badge.prod title="stepwell run" { "PROD" } }
    }
}

/// What is wrong with the engine, in short.
fn trouble(web: &Web) -> Option<String> {
    let reasons = web.engine().health().reasons;
    let first = reasons.first()?;
    Some(first.split([':', ';']).next().unwrap_or(first).to_owned())
}

/// The messages of what has been done; the address names one of them, so that nobody can put words into our mouth.
fn said(word: &str) -> Option<&'static str> {
    Some(match word {
        "cancelled" => "The run is cancelled.",
        "replayed" => "This is the new run. Its effects happen again.",
        "retried" => "The run goes on now.",
        "migrated" => "The run goes on with the newest version of its handler.",
        "paused" => "The function is paused: what has begun goes on, what has not waits.",
        "resumed" => "The function goes on.",
        "invoked" => "The run is started.",
        "sent" => "The event is stored.",
        "signalled" => "The signal is sent.",
        "unheard" => "No run waits for this signal: nothing has happened.",
        "reloaded" => "The config is in force as its files are now.",
        "many" => "Done.",
        _ => return None,
    })
}

/// The keys, in a dialog that `?` opens.
fn help() -> Markup {
    const KEYS: [(&str, &str); 7] = [
        ("j / k", "next and previous row or step"),
        ("enter", "open it"),
        ("/", "to the search or filter"),
        ("r", "replay the run"),
        ("c", "cancel the run"),
        ("esc", "close, or leave a field"),
        ("?", "this help"),
    ];
    html! {
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keys" }
            dl.keys { @for (key, what) in KEYS { dt { kbd { (key) } } dd { (what) } } }
            form method="dialog" { button type="submit" { "Close" } }
        }
    }
}
