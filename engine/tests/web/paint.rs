//! What a browser needs before it paints a page for the first time. How long that takes is the machine's and the browser's
//! (`engine/tests/browser/measured.rs` tells it); what it has to wait for is the page's.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::browser::shop::BYTES_MOST;

/// The attributes of each tag of this name.
fn tags<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let begins = format!("{name} ");
    let tags = text.split('<').skip(1).filter_map(|tag| tag.split_once('>')).map(|(tag, _)| tag);
    tags.filter(|tag| *tag == name || tag.starts_with(&begins)).collect()
}

/// What an attribute of a tag says.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value)
}

/// Checks what a page makes a browser wait for; the addresses of its files.
fn files<'a>(path: &str, page: &'a Answer) -> Vec<&'a str> {
    assert_eq!(page.status, StatusCode::OK, "{path} {}", page.plain());
    let (head, body) = page.text.split_once("</head>").unwrap_or_else(|| panic!("{path} has no head: {}", page.text));
    let links = tags(&page.text, "link");
    let is_style = |tag: &&&str| attribute(tag, "rel") == Some("stylesheet");
    let styles: Vec<&str> = links.iter().filter(is_style).filter_map(|tag| attribute(tag, "href")).collect();
    assert_eq!(styles.len(), 1, "{path} is painted after one stylesheet: {links:?}");
    assert!(!links.iter().any(|tag| tag.contains("preload") || tag.contains("import")), "{path}: {links:?}");
    assert!(!page.text.contains("<style"), "{path} has styles of its own");
    let scripts = tags(&page.text, "script");
    assert!(!scripts.is_empty(), "{path} has no script");
    for script in &scripts {
        let waits = script.ends_with(" defer") || script.contains(" defer ") || attribute(script, "type") == Some("module");
        assert!(waits && attribute(script, "src").is_some(), "{path} waits for <{script}>");
    }
    assert_eq!(tags(head, "script").len(), scripts.len(), "{path} has a script among its content");
    for kind in ["img", "iframe", "video", "object", "embed"] {
        assert!(tags(body, kind).is_empty(), "{path} fetches a picture or another page: {:?}", tags(body, kind));
    }
    // What there is to see is within the answer.
    let main = body.split_once("<main").map(|(_, rest)| rest).unwrap_or_default();
    let said = Answer { text: format!("<main{main}"), ..page.clone() }.plain();
    assert!(said.trim().len() > 20, "{path} says nothing before something else has come: {said}");
    let sources = scripts.iter().filter_map(|tag| attribute(tag, "src"));
    styles
        .into_iter()
        .chain(sources)
        .chain(links.iter().filter_map(|tag| attribute(tag, "href")).filter(|href| href.ends_with(".svg")))
        .collect()
}

#[tokio::test]
async fn every_page_is_painted_from_one_answer_and_one_stylesheet_and_is_light() {
    let shop = Shop::open();
    let long = shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1000 })).await;
    let busy = shop.busy().await;
    let mut paths: Vec<String> = busy.pages(&long).into_iter().map(|(_, path)| path).collect();
    assert!(paths.len() > 16, "{paths:?}");
    paths.push("/events?tab=refused".to_owned());
    let mut sizes: HashMap<String, usize> = HashMap::new();
    for path in &paths {
        let page = get(&shop, path).await;
        let mut bytes = page.text.len();
        for file in files(path, &page) {
            let known = sizes.get(file).copied();
            bytes += match known {
                Some(size) => size,
                None => {
                    let answer = get(&shop, file).await;
                    assert_eq!(answer.status, StatusCode::OK, "{path} names {file}");
                    assert!(answer.header("cache-control").contains("immutable"), "{file} is asked for with every page");
                    sizes.insert(file.to_owned(), answer.text.len());
                    answer.text.len()
                }
            };
        }
        assert!(bytes < BYTES_MOST, "{path}: {bytes} bytes");
    }
    let closed = Shop::with(&["run"], &[("STEPWELL_ADMIN_TOKEN", "sesame"), ("STEPWELL_EVENT_KEYS", "key")]);
    files("/login", &get(&closed, "/login").await);
}
