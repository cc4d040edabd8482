//! How heavy pages are, and a list that somebody works with while runs come in fast. Times are printed, and held against nothing:
//! they are the machine's.

use super::*;

/// Bytes of a page with all that it has fetched.
const BYTES: &str = "return ['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
    .reduce((all, one) => all + one.encodedBodySize, 0)";
/// Most that they may be.
const BYTES_MOST: f64 = 300.0 * 1024.0;
/// Keeps the longest time for which the page has answered nobody.
const WATCH_TASKS: &str = "window.longest = 0;
    new PerformanceObserver(list => list.getEntries().forEach(task => { window.longest = Math.max(window.longest, task.duration); }))
        .observe({ type: 'longtask', buffered: true })";
/// The rows of a list, each with where it stands.
const PLACES: &str = "return Array.from(document.querySelectorAll('#rows [data-row]'))
    .map(row => [row.dataset.row, Math.round(row.getBoundingClientRect().top)])";
/// Whether a row is the chosen one.
const IS_CHOSEN: &str = "const row = document.querySelector('[data-row].at'); return row !== null && row.dataset.row === arguments[0]";
/// Events of one request.
const TOGETHER: usize = 20;

#[tokio::test]
async fn full_pages_are_light_with_all_their_files() {
    let shop = Shop::open();
    let long = shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1000 })).await;
    for _ in 0..3 {
        send_many(&shop).await;
    }
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    for path in ["/runs".to_owned(), "/".to_owned(), "/events".to_owned(), format!("/runs/{long}?from=0")] {
        browser.go(&path).await;
        browser.until_true("return performance.getEntriesByName('first-contentful-paint').length > 0", &[]).await;
        let painted = browser.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime", &[]).await;
        let bytes = browser.run(BYTES, &[]).await.as_f64().unwrap();
        println!("{path}: painted after {painted} ms, {bytes} bytes");
        assert!(bytes < BYTES_MOST, "{path}: {bytes} bytes");
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
    browser.run(WATCH_TASKS, &[]).await;
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
        println!("the longest task took {} ms", browser.run("return window.longest", &[]).await);
        browser.click(&["#rows .new a"]).await;
        browser.until_true("return document.querySelectorAll('#rows [data-row]').length === 50", &[]).await;
    };
    tokio::select! {
        () = keep_sending(&shop) => unreachable!("it sends until it is dropped"),
        () = working => {}
    }
    browser.close().await;
}

/// Sends events as fast as they are taken, until it is dropped.
async fn keep_sending(shop: &Shop) {
    loop {
        send_many(shop).await;
    }
}

/// Sends events that start a short run each.
async fn send_many(shop: &Shop) {
    let event = json!({ "name": "export/wanted", "data": { "steps": 1 } });
    shop.ask(reqwest::Method::POST, "/e/dev", Some(json!(vec![event; TOGETHER]))).await;
}
