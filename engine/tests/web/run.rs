//! The page of a run: what it offers, what its attempts say, where it leads, and what its buttons copy.

use serde_json::{Value, json};

use super::*;

/// A run of a charge that has come to its end, with the receipt that it asked for.
async fn paid(shop: &Shop) -> String {
    shop.run_in(&["completed"], "payment/initiate", json!({ "userId": "u31", "amount": 4321, "hurry": true })).await
}

#[tokio::test]
async fn a_run_in_flight_says_when_it_can_be_replayed_and_one_that_has_ended_is() {
    let shop = Shop::open();
    let run = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let reason = "Only a run that has ended or is parked is replayed. Cancel this one first, or wait for its end.";
    let waits = page(&shop, &format!("/runs/{run}?do=replay")).await;
    assert!(waits.text.contains("<details class=\"menu\" open>") && waits.plain().contains(reason), "{}", waits.text);
    let copied = waits.copies("⧉");
    for command in [format!("stepwell runs cancel {run}"), format!("stepwell replay {run}")] {
        assert!(copied.contains(&command), "`{command}` is missing: {copied:?}");
    }
    assert!(!waits.text.contains("action=\"/do/replay\""), "{}", waits.text);
    shop.ask(Method::DELETE, &format!("/v1/runs/{run}"), None).await;
    let ended = page(&shop, &format!("/runs/{run}")).await;
    assert!(ended.text.contains("action=\"/do/replay\"") && !ended.plain().contains(reason), "{}", ended.text);
}

#[tokio::test]
async fn an_attempt_says_that_its_script_has_asked_for_the_wait() {
    let shop = Shop::open();
    let asks = "step(\"ask-bank\", || {\n    if run.attempt == 1 { retry_after(\"1s\", \"the bank is closed\"); }\n    \
        if run.attempt == 2 { retry_after(\"1h\", \"the bank is on strike\"); }\n    1\n});\n";
    std::fs::write(shop.folder().join("handlers/refund.rhai"), asks).unwrap();
    reload(&shop, &[]).await;
    let run = shop.run_in(&["backing_off"], "refund/wanted", json!({ "payment": "p1", "amount": 300 })).await;
    let path = format!("/runs/{run}");
    let plain = until(&shop, &path, |page| Some(page.plain()).filter(|plain| plain.contains("on strike · next "))).await;
    assert!(plain.contains("#1 the bank is closed · retried after 1.0 s (asked by script)"), "{plain}");
    let coming = plain.split("on strike · next ").nth(1).unwrap_or_default();
    assert!(coming.starts_with("in ") && coming.split_once(" (asked by script)").is_some_and(|(time, _)| time.len() < 12), "{coming}");
    let of_run = |command: &str| {
        let ended = crate::program::stepwell(shop.folder(), ["runs", command, run.as_str(), "--url", shop.url().as_str()]);
        assert_eq!(ended.exit, 0, "{}", ended.stderr);
        ended.stdout
    };
    let tree = of_run("trace");
    assert!(tree.contains("; retried after 1.0s (asked by script)") && tree.contains("; again in "), "{tree}");
    let row = of_run("get");
    let why = row.lines().find(|line| line.starts_with("why\t")).unwrap_or_else(|| panic!("no reason: {row}"));
    assert!(why.contains("attempt 3 of 6 comes in ") && why.ends_with(" (asked by script)"), "{why}");

    // A wait that nobody has asked for is the function's own.
    std::fs::write(shop.folder().join("handlers/refund.rhai"), "step(\"ask-bank\", || { throw \"no\"; })\n").unwrap();
    reload(&shop, &[]).await;
    let own = shop.run_in(&["backing_off"], "refund/wanted", json!({ "payment": "p2", "amount": 300 })).await;
    let plain = page(&shop, &format!("/runs/{own}")).await.plain();
    assert!(plain.contains("#1 no · next in ") && !plain.contains("asked by"), "{plain}");
}

#[tokio::test]
async fn the_page_of_a_run_leads_to_its_parent_its_children_and_the_events_that_it_sent() {
    let shop = Shop::open();
    let parent = shop.run_in(&["completed"], "order/placed", json!({ "order": "o1", "items": ["tea"] })).await;
    let runs = shop.get("/v1/runs?function=check-item").await;
    let child = runs["data"][0]["run_id"].as_str().unwrap().to_owned();
    let shown = page(&shop, &format!("/runs/{parent}")).await.text;
    let meta =
        |text: &str| text.split("<p class=\"meta\">").nth(1).and_then(|rest| rest.split("</p>").next()).unwrap_or_default().to_owned();
    assert!(meta(&shown).contains("check-item ") && meta(&shown).contains(&format!("href=\"/runs/{child}\"")), "{}", meta(&shown));
    assert!(!meta(&shown).contains("invoked by"), "{}", meta(&shown));
    let shown = page(&shop, &format!("/runs/{child}")).await.text;
    assert!(meta(&shown).contains(&format!("invoked by <a class=\"mono\" href=\"/runs/{parent}\">")), "{}", meta(&shown));

    let run = paid(&shop).await;
    let trace = shop.get(&format!("/v1/runs/{run}/trace")).await["data"].clone();
    let sends = |step: &&Value| step["kind"] == json!("send");
    let step = trace["steps"].as_array().unwrap().iter().find(sends).unwrap_or_else(|| panic!("nothing was sent: {trace}")).clone();
    let sent = shop.get("/v1/runs?function=send-receipt").await["data"][0]["event_id"].as_str().unwrap().to_owned();
    let shown = page(&shop, &format!("/runs/{run}?step=send.{}", step["key"].as_str().unwrap())).await.text;
    assert!(shown.contains(&format!("Sent event <a class=\"mono\" href=\"/events/{sent}\">")), "{shown}");
}

#[tokio::test]
async fn buttons_copy_the_command_the_run_as_json_a_result_and_an_event_for_curl() {
    let shop = Shop::open();
    let run = paid(&shop).await;
    let shown = page(&shop, &format!("/runs/{run}?step=step.charge-card")).await;
    assert_eq!(shown.copies("CLI"), [format!("stepwell runs trace {run}")]);
    let result = shown.copies("Copy output").pop().unwrap_or_else(|| panic!("no result to copy: {}", shown.text));
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result, json!({ "id": "ch_1", "amount": 4321, "status": "authorised" }));
    // The whole run is fetched once somebody wants it.
    assert!(shown.text.contains(&format!("data-copy-url=\"/runs/{run}?part=json\"")), "{}", shown.text);
    let whole = page(&shop, &format!("/runs/{run}?part=json")).await.plain();
    let whole: Value = serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{error}: {whole}"));
    let trace = shop.get(&format!("/v1/runs/{run}/trace")).await["data"].clone();
    assert_eq!((&whole["run"]["run_id"], &whole["steps"], &whole["event"]), (&json!(run), &trace["steps"], &trace["event"]));

    let event = trace["run"]["event_id"].as_str().unwrap();
    let shown = page(&shop, &format!("/events/{event}")).await;
    assert_eq!(shown.copies("Copy id"), [event]);
    let curl = shown.copies("Copy as curl").pop().unwrap_or_else(|| panic!("no curl: {}", shown.text));
    let head = format!("curl -X POST \"{}/e/dev\" -H 'content-type: application/json' -d '", shop.url());
    let body = curl.strip_prefix(&head).and_then(|rest| rest.strip_suffix('\'')).unwrap_or_else(|| panic!("{curl}"));
    let data = json!({ "userId": "u31", "amount": 4321, "hurry": true });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({ "name": "payment/initiate", "data": data }));
}
