//! How heavy pages are, and a list that somebody works with while runs come in fast. How soon and how long is taken in `measured`.

use super::shop::BYTES_MOST;
use super::*;

/// Bytes of a page with all that it has fetched.
const BYTES: &str = "return ['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
    .reduce((all, one) => all + one.encodedBodySize, 0)";
/// The files that held up the first paint of a page, but for its stylesheet.
const HELD_UP_BY: &str = "return performance.getEntriesByType('resource')
    .filter(file => file.renderBlockingStatus === 'blocking' && !file.name.endsWith('.css')).map(file => file.name)";
/// The rows of a list, each with where it stands.
const PLACES: &str = "return Array.from(document.querySelectorAll('#rows [data-row]'))
    .map(row => [row.dataset.row, Math.round(row.getBoundingClientRect().top)])";
/// Whether a row is the chosen one.
const IS_CHOSEN: &str = "const row = document.querySelector('[data-row].at'); return row !== null && row.dataset.row === arguments[0]";
/// Events of one request.
pub(super) const TOGETHER: usize = 20;

#[tokio::test]
async fn full_pages_are_light_with_all_their_files_and_painted_without_waiting_for_a_script() {
    let shop = Shop::open();
    let long = shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1000 })).await;
    for _ in 0..3 {
        send_many(&shop).await;
    }
    let busy = shop.busy().await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    // The files come once, as they do for somebody who looks at one page after the other.
    browser.go("/").await;
    for (_, path) in busy.pages(&long) {
        browser.go(&path).await;
        browser.until_true("return performance.getEntriesByName('first-contentful-paint').length > 0", &[]).await;
        let bytes = browser.run(BYTES, &[]).await.as_f64().unwrap();
        assert_eq!(browser.run(HELD_UP_BY, &[]).await, json!([]), "{path}");
        assert!(bytes < BYTES_MOST as f64, "{path}: {bytes} bytes");
    }
    browser.close().await;
}

#[tokio::test]
async fn a_list_stands_still_and_listens_to_keys_while_hundreds_of_runs_come_in() {
    let shop = Shop::open();
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1 })).await);
    }
    runs.reverse();
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go("/runs").await;
    browser.keys("j").await;
    browser.until_true(IS_CHOSEN, &[&runs[0]]).await;
    let before = browser.run(PLACES, &[]).await;
    let working = async {
        for (key, row) in [("j", 1), ("j", 2), ("k", 1)] {
            browser.keys(key).await;
            browser.until_true(IS_CHOSEN, &[&runs[row]]).await;
        }
        browser.until(&["#rows .new", "100 new runs and more"]).await;
        browser.keys("k").await;
        browser.until_true(IS_CHOSEN, &[&runs[0]]).await;
        assert_eq!(browser.run(PLACES, &[]).await, before, "a row has moved");
        browser.picture("runs-coming-in").await;
        browser.click(&["#rows .new a"]).await;
        browser.until_true("return document.querySelectorAll('#rows [data-row]').length === 50", &[]).await;
    };
    tokio::select! {
        () = keep_sending(&shop) => unreachable!("it sends until it is dropped"),
        () = working => {}
    }
    browser.close().await;
}

/// Points at what a selector means.
async fn point(browser: &Browser, selector: &str) {
    // A live part may be a new one by the time that it is pointed at.
    let pointed = async || match browser.driver.find(By::Css(selector)).await {
        Ok(element) => browser.driver.action_chain().move_to_element_center(&element).perform().await.is_ok(),
        Err(_) => false,
    };
    let pointing = async { while !pointed().await {} };
    assert!(tokio::time::timeout(PATIENCE, pointing).await.is_ok(), "{selector} cannot be pointed at");
}

#[tokio::test]
async fn no_row_moves_beneath_a_pointer_and_new_ones_come_once_it_has_gone() {
    const IS_POINTED_AT: &str = "return document.querySelector('#rows').matches(':hover') === (arguments[0] === 'yes')";
    let shop = Shop::open();
    for _ in 0..3 {
        shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1 })).await;
    }
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go("/runs").await;
    point(&browser, "#rows [data-row]").await;
    browser.until_true(IS_POINTED_AT, &["yes"]).await;
    let before = browser.run(PLACES, &[]).await;
    assert_eq!(before.as_array().unwrap().len(), 3, "{before}");
    send_many(&shop).await;
    browser.until(&["#rows .new", "new run"]).await;
    assert_eq!(browser.run(PLACES, &[]).await, before, "a row has moved beneath the pointer");
    point(&browser, "main h1").await;
    browser.until_true(IS_POINTED_AT, &["no"]).await;
    tokio::select! {
        () = now_and_then(&shop) => unreachable!("it sends until it is dropped"),
        () = browser.until_true("return document.querySelectorAll('#rows [data-row]').length > 20", &[]) => {}
    }
    browser.close().await;
}

#[tokio::test]
async fn what_is_live_on_a_page_shows_what_comes_without_asking_again() {
    let shop = Shop::open();
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    for (path, place, says, name, data) in [
        ("/", "#now .card", "1 failed in 24 h", "warehouse/asked", json!({ "url": "http://127.0.0.1:1/" })),
        ("/functions", "#rows tr", "100 % of 1 completed", "export/wanted", json!({ "steps": 1 })),
        ("/flow", "#keys", "1 of 1", "payment/initiate", json!({ "userId": "u1", "amount": 1200 })),
        ("/logs", "#lines", "looked up", "order/placed", json!({ "order": "o1", "items": ["tea"] })),
    ] {
        browser.go(path).await;
        browser.find(&[place]).await;
        let text = browser.text("main").await;
        assert!(!text.contains(says), "{path} says so before: {text}");
        // A page that is loaded anew loses this mark.
        browser.run("window.mark = 1", &[]).await;
        shop.send(name, data).await;
        let words = [place, says];
        tokio::select! {
            () = now_and_then(&shop) => unreachable!("it sends until it is dropped"),
            () = browser.until(&words) => {}
        }
        assert_eq!(browser.run("return window.mark", &[]).await, json!(1), "{path}");
    }
    browser.close().await;
}

/// Sends an event now and then until it is dropped: what a page shows may be as it was a moment before, and comes with what happens next.
async fn now_and_then(shop: &Shop) {
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    loop {
        beat.tick().await;
        shop.send("gate/asked", json!({ "gate": "east" })).await;
    }
}

/// Sends events as fast as they are taken, until it is dropped.
async fn keep_sending(shop: &Shop) {
    loop {
        send_many(shop).await;
    }
}

/// Sends events that start a short run each.
pub(super) async fn send_many(shop: &Shop) {
    let event = json!({ "name": "export/wanted", "data": { "steps": 1 } });
    shop.ask(reqwest::Method::POST, "/e/dev", Some(json!(vec![event; TOGETHER]))).await;
}
