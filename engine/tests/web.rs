//! The dashboard over HTTP: who is let in, what its answers carry, and what it says of runs in each state.

mod acts;
mod again;
mod commands;
mod door;
mod event;
mod halted;
mod heavy;
mod limits;
mod paint;
mod run;
mod seen;
mod shown;
mod timeline;
mod versions;
mod why;

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};

use crate::browser::shop::Shop;

/// How long a page may take to show something, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// An answer of the dashboard.
#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The page's text without its tags.
    fn plain(&self) -> String {
        let mut plain = String::new();
        let mut is_tag = false;
        for c in self.text.chars() {
            match c {
                '<' => is_tag = true,
                '>' => is_tag = false,
                c if !is_tag => plain.push(c),
                _ => {}
            }
        }
        unescaped(&plain)
    }

    /// What its buttons of this label copy, in their order.
    fn copies(&self, label: &str) -> Vec<String> {
        let copied = |button: &str| -> Option<String> {
            let (text, rest) = button.split_once('"')?;
            let (_, rest) = rest.split_once('>')?;
            (rest.split('<').next() == Some(label)).then(|| unescaped(text))
        };
        self.text.split(" data-copy=\"").skip(1).filter_map(copied).collect()
    }
}

/// A text of HTML as people see it.
fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Asks as a browser does that follows nobody.
async fn ask(shop: &Shop, method: Method, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Answer {
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let mut request = client.request(method.clone(), format!("{}{path}", shop.url())).header("accept", "text/html");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == Method::POST {
        request = request.form(form);
    }
    let answer = request.send().await.unwrap();
    Answer { status: answer.status(), headers: answer.headers().clone(), text: answer.text().await.unwrap() }
}

async fn get(shop: &Shop, path: &str) -> Answer {
    ask(shop, Method::GET, path, &[], &[]).await
}

/// A page that is there.
async fn page(shop: &Shop, path: &str) -> Answer {
    let answer = get(shop, path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path} {}", answer.plain());
    answer
}

/// Waits until a page has what is looked for.
async fn until<T>(shop: &Shop, path: &str, find: impl Fn(&Answer) -> Option<T>) -> T {
    let mut last = String::new();
    let looking = async {
        loop {
            let page = get(shop, path).await;
            if let Some(found) = find(&page) {
                return found;
            }
            last = page.plain();
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("{path} does not come to show it: {last}"))
}

/// Changes the shop's config by what replaces what, and has it come into force.
async fn reload(shop: &Shop, changes: &[(&str, &str)]) {
    let config = shop.folder().join("events.yaml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    std::fs::write(&config, text).unwrap();
    shop.ask(Method::POST, "/v1/reload", None).await;
}
