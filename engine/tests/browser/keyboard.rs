//! The dashboard without a mouse.

use thirtyfour::Key;

use super::*;

#[tokio::test]
async fn runs_are_walked_opened_filtered_replayed_and_cancelled_by_keys_alone() {
    let shop = Shop::open();
    let failed = shop.run_in(&["failed"], "payment/initiate", json!({ "userId": "u2", "amount": 990, "card": "declined" })).await;
    let waiting = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go("/runs").await;
    let at = "const row = document.querySelector('[data-row].at'); return row !== null && row.dataset.row === arguments[0]";
    browser.keys("j").await;
    browser.until_true(at, &[&waiting]).await;
    browser.keys("j").await;
    browser.until_true(at, &[&failed]).await;
    browser.keys("k").await;
    browser.until_true(at, &[&waiting]).await;
    browser.keys("j").await;
    browser.keys(&Key::Enter.value().to_string()).await;
    browser.until(&["#run .state-line", "failed"]).await;
    assert!(browser.url().await.ends_with(&format!("/runs/{failed}")));

    browser.keys("r").await;
    browser.until_true("return document.activeElement.textContent === 'Replay from start'", &[]).await;
    browser.keys(&Key::Enter.value().to_string()).await;
    browser.until(&[".said", "new run"]).await;
    browser.until(&["#run .state-line", "failed"]).await;

    browser.go("/runs?function=open-gate").await;
    browser.keys("j").await;
    browser.keys("c").await;
    browser.until_true("return document.querySelector('details.menu[open] input[name=reason]') !== null", &[]).await;
    browser.keys("?").await;
    browser.until_true("return document.querySelector('#help').open", &[]).await;
    browser.keys(&Key::Escape.value().to_string()).await;
    browser.until_true("return !document.querySelector('#help').open", &[]).await;
    browser.go(&format!("/runs/{waiting}")).await;
    browser.keys("c").await;
    browser.until_true("return document.activeElement.name === 'reason'", &[]).await;
    browser.keys("by hand").await;
    browser.keys(&Key::Enter.value().to_string()).await;
    browser.until(&["#run .state-line", "cancelled"]).await;
    browser.until(&["#run .state-line", "by hand"]).await;

    browser.go("/runs").await;
    browser.keys("/").await;
    browser.until_true("return document.activeElement.name === 'where'", &[]).await;
    browser.keys("run.state == \"failed\"").await;
    browser.keys(&Key::Enter.value().to_string()).await;
    browser.until_true("return location.search.includes('where=')", &[]).await;
    browser.until_true("return document.querySelectorAll('#rows [data-row]').length === 2", &[]).await;
    browser.close().await;
}
