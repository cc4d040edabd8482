//! How heavy pages are, and a list that somebody works with while runs come in fast. How soon and how long is taken in `measured`.

use super::*;

/// Bytes of a page with all that it has fetched.
const BYTES: &str = "return ['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
    .reduce((all, one) => all + one.encodedBodySize, 0)";
/// The files that held up the first paint of a page, but for its stylesheet.
const HELD_UP_BY: &str = "return performance.getEntriesByType('resource')
    .filter(file => file.renderBlockingStatus === 'blocking' && !file.name.endsWith('.css')).map(file => file.name)";
/// Most that they may be.
const BYTES_MOST: f64 = 300.0 * 1024.0;
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
    let mut paths: Vec<String> = stepwell::web::paths().map(str::to_owned).collect();
    paths.extend([format!("/runs/{long}?from=0"), format!("/runs/{}", busy.waiting), format!("/runs/{}", busy.failed)]);
    paths.extend([format!("/events/{}", busy.event), "/functions/charge".to_owned(), "/send?name=payment/initiate".to_owned()]);
    // The files come once, as they do for somebody who looks at one page after the other.
    browser.go("/").await;
    for path in paths {
        browser.go(&path).await;
        browser.until_true("return performance.getEntriesByName('first-contentful-paint').length > 0", &[]).await;
        let bytes = browser.run(BYTES, &[]).await.as_f64().unwrap();
        assert_eq!(browser.run(HELD_UP_BY, &[]).await, json!([]), "{path}");
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
