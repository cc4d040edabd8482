//! Pages that are long, large or hostile, as a browser takes them.

use super::*;

#[tokio::test]
async fn a_run_of_a_thousand_steps_is_shown_in_parts_and_a_large_result_on_demand() {
    let shop = Shop::open();
    let run = shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1000, "large": true })).await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go(&format!("/runs/{run}?from=0")).await;
    browser.until(&["#run .time", "Steps 1 to 200 of 1001"]).await;
    assert_eq!(browser.run("return document.querySelectorAll('.timeline [data-row]').length", &[]).await, json!(200));
    browser.press(&[".time a", "later ▸"]).await;
    browser.until(&["#run .time", "Steps 201 to 400 of 1001"]).await;
    browser.go(&format!("/runs/{run}?step=step.large")).await;
    let length = "return document.querySelector('.side pre.json').textContent.length";
    assert!(browser.run(length, &[]).await.as_u64().unwrap() < 10_000);
    browser.click(&[".side .data a[hx-get]"]).await;
    browser
        .until_true("const pre = document.querySelector('.side pre.json'); return pre !== null && pre.textContent.length > 400000", &[])
        .await;
    browser.close().await;
}

#[tokio::test]
async fn hostile_texts_are_shown_and_do_nothing() {
    const HOSTILE: &str = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>'\"&";
    let shop = Shop::open();
    let data = json!({ "userId": HOSTILE, "amount": 1200, "card": "declined" });
    let failed = shop.run_in(&["failed"], "payment/initiate", data).await;
    let waiting = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": HOSTILE })).await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    let tabs = ["output", "error", "http", "logs", "code"];
    let mut paths: Vec<String> = stepwell::web::paths().map(str::to_owned).collect();
    paths.extend(tabs.iter().map(|tab| format!("/runs/{failed}?tab={tab}")));
    paths.extend([
        format!("/runs/{waiting}"),
        format!("/runs/{failed}?do=replay&edit=load-user"),
        "/runs?where=%3Cscript%3Ewindow.pwned=1%3C/script%3E".to_owned(),
    ]);
    for path in paths {
        browser.go(&path).await;
        browser.find(&["main"]).await;
        assert_eq!(
            browser.run("return window.pwned === undefined && document.querySelector('img, main script') === null", &[]).await,
            json!(true),
            "{path}"
        );
    }
    browser.go(&format!("/runs/{failed}")).await;
    assert!(browser.text("section.failed h2").await.contains("<img src=x onerror="), "{}", browser.text("#run").await);
    browser.close().await;
}
