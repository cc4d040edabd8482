//! The page of an event: what became of it where it started nothing, and how it is sent again.

use serde_json::{Value, json};

use super::*;

/// An event and functions before those of the shop, each with a gate that skips the second event.
const GATES: &str = r#"
  safe/asked: {}
functions:
  open-safe: { on: safe/asked, handler: handlers/held.rhai, singleton: { key: event.data.safe } }
  ring: { on: safe/asked, handler: handlers/held.rhai, rate_limit: { limit: 1, period: 1h } }
  note: { on: safe/asked, handler: handlers/held.rhai, idempotency: event.data.safe }
"#;

/// The field of a form: the tag with this name.
fn field<'a>(page: &'a Answer, name: &str) -> &'a str {
    let wanted = format!("name=\"{name}\"");
    let found = page.text.split('<').filter_map(|tag| tag.split_once('>')).find(|(tag, _)| tag.contains(&wanted));
    found.unwrap_or_else(|| panic!("no field {name}: {}", page.text)).0
}

#[tokio::test]
async fn an_event_says_why_a_function_skipped_it_and_no_run_is_in_such_a_state() {
    let shop = Shop::open();
    std::fs::write(shop.folder().join("handlers/held.rhai"), "wait_for_signal(\"go\")\n").unwrap();
    reload(&shop, &[("\nfunctions:\n", GATES)]).await;
    shop.run_in(&["waiting"], "safe/asked", json!({ "safe": "north" })).await;
    let runs = async |function: &str| shop.get(&format!("/v1/runs?function={function}")).await["data"].as_array().unwrap().clone();
    let only = async |function: &str| match runs(function).await.as_slice() {
        [run] => run["run_id"].as_str().unwrap().to_owned(),
        runs => panic!("{function} has not one run: {runs:?}"),
    };
    let (holder, first) = (only("open-safe").await, only("note").await);
    let event = shop.send("safe/asked", json!({ "safe": "north" })).await;
    let page = get(&shop, &format!("/events/{event}")).await;
    let outcomes: Vec<String> = page
        .text
        .split("<article class=\"outcome\">")
        .skip(1)
        .map(|part| Answer { text: part.split("</article>").next().unwrap().to_owned(), ..page.clone() }.plain())
        .collect();
    for (function, word, why) in [
        ("open-safe", "skipped: singleton", format!("skipped: run {holder} of the same singleton had not ended")),
        ("ring", "skipped: rate limit", "skipped: its rate limit was reached until ".to_owned()),
        ("note", "skipped: idempotency", format!("skipped: run {first} has its idempotency key already")),
    ] {
        let outcome = outcomes.iter().find(|outcome| outcome.starts_with(&format!("{function} {word}")));
        assert!(outcome.is_some_and(|outcome| outcome.contains(&why)), "{function}: `{why}` is missing: {outcomes:?}");
        only(function).await;
    }
    // The list of events says it in short.
    let listed = get(&shop, "/events").await;
    let row = listed.text.split("<tr data-row").find(|row| row.contains(&event)).unwrap_or_else(|| panic!("no row: {}", listed.text));
    assert!(row.contains("skipped: singleton"), "{row}");
    let asked = crate::program::stepwell(shop.folder(), ["runs", "ls", "--status", "skipped", "--url", shop.url().as_str()]);
    assert_eq!(asked.exit, 2, "{}", asked.stdout);
}

#[tokio::test]
async fn an_event_is_sent_again_as_it_was_or_changed_in_the_form() {
    let shop = Shop::open();
    let data = json!({ "userId": "u41", "amount": 765, "currency": "GBP", "hurry": true });
    let event = shop.send("payment/initiate", data.clone()).await;
    let page = get(&shop, &format!("/events/{event}")).await;
    assert!(page.text.contains(&format!("href=\"/send?from={event}\"")), "{}", page.text);
    let form = get(&shop, &format!("/send?from={event}")).await;
    assert!(field(&form, "name").contains("value=\"payment/initiate\""), "{}", field(&form, "name"));
    for (name, value) in [("f/userId", "u41"), ("f/amount", "765")] {
        assert!(field(&form, name).contains(&format!("value=\"{value}\"")), "{}", field(&form, name));
    }
    assert!(form.text.contains("selected>GBP"), "{}", form.text);
    let text = get(&shop, &format!("/send?from={event}&tab=json")).await.text;
    let text = text.split("<textarea").find(|part| part.contains("name=\"data\"")).and_then(|part| part.split_once('>')).unwrap().1;
    let text = unescaped(text.split("</textarea>").next().unwrap());
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), data);

    // The button sends what is stored.
    let (again, _) = page.text.split_once(">Send again</button>").unwrap_or_else(|| panic!("no button: {}", page.text));
    let again = Answer { text: again.rsplit("<form").next().unwrap().to_owned(), ..page.clone() };
    assert!(again.text.contains("action=\"/do/send\""), "{}", again.text);
    let value = |name: &str| unescaped(field(&again, name).split("value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap());
    let stored = value("again");
    let answer = ask(&shop, Method::POST, "/do/send", &[], &[("again", stored.as_str())]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.plain());
    let run = answer.header("location").strip_prefix("/runs/").and_then(|rest| rest.split('?').next()).unwrap().to_owned();
    let trace = shop.get(&format!("/v1/runs/{run}/trace")).await["data"].clone();
    assert_eq!((&trace["event"]["name"], &trace["event"]["data"]), (&json!("payment/initiate"), &data));
    assert_ne!(trace["run"]["event_id"], json!(event), "it is a new event");
}
