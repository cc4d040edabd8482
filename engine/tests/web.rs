//! The dashboard over HTTP: who is let in, what its answers carry, and what it says of runs in each state.

mod acts;
mod door;
mod shown;
mod why;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};

use crate::browser::shop::Shop;

/// An answer of the dashboard.
#[derive(Debug)]
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
        plain.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    }
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
