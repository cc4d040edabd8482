//! The picture of a run: what is under way, what became of each attempt, and what is folded.

use serde_json::json;

use super::*;

/// The rows of a page's timeline, by the step that each is about.
fn row<'a>(page: &'a Answer, step: &str) -> &'a str {
    let begins = format!("data-row=\"{step}\"");
    let row = page.text.split("<li class=\"step").find(|row| row.contains(&begins));
    row.unwrap_or_else(|| panic!("no row of {step}: {}", page.text))
}

/// The signs at the ends of a row's pieces.
fn marks(row: &str) -> Vec<&str> {
    let bar = row.split_once("<svg class=\"bar\"").and_then(|(_, rest)| rest.split_once("</svg>")).map(|(bar, _)| bar).unwrap_or_default();
    bar.split("<text").skip(1).filter_map(|text| text.split_once('>')).filter_map(|(_, rest)| rest.split('<').next()).collect()
}

/// A server that lets callers in and never answers.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn a_step_in_its_first_attempt_has_its_row_and_so_has_a_further_attempt() {
    let shop = Shop::open();
    let (_listener, url) = silent();
    let ask = "step(\"load\", || 1);\nstep(\"ask\", || http::get(event.data.url, #{ timeout: \"5m\" }).status)\n";
    std::fs::write(shop.folder().join("handlers/ask-warehouse.rhai"), ask).unwrap();
    let again = "step(\"ask-bank\", || {\n    if run.attempt == 1 { retry_after(\"1s\", \"the bank is closed\"); }\n    \
        http::get(event.data.url, #{ timeout: \"5m\" }).status\n});\n";
    std::fs::write(shop.folder().join("handlers/refund.rhai"), again).unwrap();
    reload(&shop, &[]).await;

    let run = shop.run_in(&["running"], "warehouse/asked", json!({ "url": url })).await;
    let path = format!("/runs/{run}");
    let shown = until(&shop, &path, |page| page.text.contains("data-row=\"step.ask\"").then(|| page.clone())).await;
    let asks = row(&shown, "step.ask");
    assert!(asks.contains("aria-label=\"running\"") && asks.contains("class=\"busy\""), "{asks}");
    assert_eq!(marks(asks), ["▶\u{fe0e}"], "{asks}");
    // It is the one to look at, and it has come to nothing yet.
    assert!(asks.starts_with(" selected\""), "{asks}");
    assert!(shown.plain().contains("running") && shown.plain().contains("attempt 1") && shown.plain().contains("It has no result yet."));
    assert_eq!(marks(row(&shown, "step.load")), ["✓"]);

    let run = shop.run_in(&["backing_off", "running"], "refund/wanted", json!({ "url": url })).await;
    let path = format!("/runs/{run}");
    let is_again = |page: &Answer| {
        let is_there = page.text.contains("data-row=\"step.ask-bank\"") && row(page, "step.ask-bank").contains("aria-label=\"running\"");
        (is_there && page.plain().contains("attempt 2")).then(|| page.clone())
    };
    let shown = until(&shop, &path, is_again).await;
    let asks = row(&shown, "step.ask-bank");
    assert!(asks.contains("class=\"failed\"") && asks.contains("class=\"wait\"") && asks.contains("class=\"busy\""), "{asks}");
    assert_eq!(marks(asks).last(), Some(&"▶\u{fe0e}"), "{asks}");
}

#[tokio::test]
async fn what_became_of_each_piece_is_told_by_a_sign_and_not_by_its_colour_alone() {
    let shop = Shop::open();
    let data = json!({ "userId": "u2", "amount": 990, "card": "declined", "hurry": true });
    let failed = shop.run_in(&["failed"], "payment/initiate", data).await;
    let shown = page(&shop, &format!("/runs/{failed}?scale=fit")).await;
    let charges = row(&shown, "step.charge-card");
    // Three attempts a second apart: none of their signs stands upon another.
    assert_eq!(marks(charges), ["✗", "✗", "✗"], "{charges}");
    assert_eq!(marks(row(&shown, "step.load-user")), ["✓"]);
    assert!(charges.contains("<summary class=\"muted\">3 failed attempts</summary>"), "{charges}");
    // The run's own row says where it stands.
    let whole = shown.text.split("<li class=\"step").find(|row| row.starts_with(" whole\"")).unwrap_or_default();
    assert_eq!(marks(whole), ["✗"], "{whole}");

    let waiting = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let shown = page(&shop, &format!("/runs/{waiting}")).await;
    assert_eq!(marks(row(&shown, "wait.gate-north")), ["⏳\u{fe0e}"]);
}

#[tokio::test]
async fn attempts_and_branches_are_folded_by_their_signs() {
    let shop = Shop::open();
    let branches =
        "parallel(#{ pay: || { step(\"one\", || 1); step(\"two\", || 2) }, mail: || step(\"three\", || 3) });\nstep(\"last\", || 4)\n";
    std::fs::write(shop.folder().join("handlers/check-order.rhai"), branches).unwrap();
    reload(&shop, &[]).await;
    let run = shop.run_in(&["completed"], "order/placed", json!({ "order": "o1", "items": ["tea"] })).await;
    let shown = page(&shop, &format!("/runs/{run}")).await.text;
    let fold = shown.split("<details class=\"fold\" open data-fold=\"branch pay\">").nth(1).unwrap_or_else(|| panic!("no fold: {shown}"));
    let fold = fold.split("</details>").next().unwrap();
    for step in ["pay › one", "pay › two"] {
        assert!(fold.contains(&format!("data-row=\"step.{step}\"")), "{step} is not in it: {fold}");
    }
    assert!(!fold.contains("step.mail › three") && !fold.contains("step.last"), "{fold}");
    assert!(shown.contains("data-row=\"step.mail › three\"") && !shown.contains("branch mail"), "one alone is not folded: {shown}");
}

#[tokio::test]
async fn a_race_shows_who_was_first_and_what_was_left() {
    let shop = Shop::open();
    let script = "race(#{ quick: || step(\"ask\", || 1), slow: || sleep(\"1h\") })\n";
    std::fs::write(shop.folder().join("handlers/check-order.rhai"), script).unwrap();
    reload(&shop, &[]).await;
    let run = shop.run_in(&["completed"], "order/placed", json!({ "order": "o1", "items": ["tea"] })).await;
    let shown = page(&shop, &format!("/runs/{run}")).await;
    let race = row(&shown, "race.race");
    assert!(race.contains("quick was first") && race.contains("left: slow"), "{race}");
    assert_eq!(marks(row(&shown, "sleep.race › slow › sleep")), ["⊘"]);
    assert!(shown.text.contains("data-fold=\"branch race\""), "what stands below it is folded: {}", shown.text);
}
