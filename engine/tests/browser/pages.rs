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

#[tokio::test]
async fn hostile_names_of_events_steps_waits_and_keys_are_shown_and_do_nothing() {
    // Names have no spaces: an attribute can do without.
    const HOSTILE: &str = "<img/src=x/onerror=window.pwned=1><script>window.pwned=1</script>";
    const HANDLER: &str = r#"
        let name = event.data.gate;
        step(name, || { log::info(name); name });
        sleep("s" + name, "1ms");
        send_event(name, #{ gate: name });
        step("e" + name, #{ retries: 0 }, || { try { throw name; } catch (error) { log::warn(`${error}`); } });
        wait_for_event(name, #{ "if": `async.data.gate == '${name}!'`, timeout: "1h" })
    "#;
    let shop = Shop::open();
    std::fs::write(shop.folder().join("handlers/open-gate.rhai"), HANDLER).unwrap();
    let config = shop.folder().join("events.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let keyed =
        text.replace("    on: gate/asked\n", "    on: gate/asked\n    concurrency: { limit: 1, key: event.data.gate, hold: run }\n");
    assert_ne!(text, keyed);
    std::fs::write(&config, keyed.replace("version: 1\n", "version: 1\nunknown_events: accept\n")).unwrap();
    shop.ask(reqwest::Method::POST, "/v1/reload", None).await;
    let event = shop.send(HOSTILE, json!({ HOSTILE: HOSTILE })).await;
    let run = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": HOSTILE })).await;
    let queued = shop.run_in(&["queued"], "gate/asked", json!({ "gate": HOSTILE })).await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    let encoded: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    let mut paths: Vec<String> = stepwell::web::paths().map(str::to_owned).collect();
    for step in [
        format!("step.{encoded}"),
        format!("sleep.s{encoded}"),
        format!("send.{encoded}"),
        format!("step.e{encoded}"),
        format!("wait.{encoded}"),
    ] {
        paths.extend(["output", "error", "logs", "code"].map(|tab| format!("/runs/{run}?step={step}&tab={tab}")));
    }
    paths.extend([format!("/runs/{run}?do=send"), format!("/runs/{run}?do=cancel"), format!("/runs/{queued}"), format!("/events/{event}")]);
    paths.extend(
        ["/events?name=", "/send?name=", "/flow?key=", "/logs?text=", "/runs?key=", "/runs?function="]
            .map(|path| format!("{path}{encoded}")),
    );
    paths.extend([format!("/send?from={event}"), "/functions/open-gate".to_owned()]);
    for path in &paths {
        browser.go(path).await;
        browser.find(&["main"]).await;
        browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })", &[]).await;
        let is_harmless = "return window.pwned === undefined && document.querySelector('img, main script') === null";
        assert_eq!(browser.run(is_harmless, &[]).await, json!(true), "{path}");
    }
    // They were there to see.
    for (path, place) in [
        (format!("/runs/{run}"), "#run .timeline"),
        (format!("/runs/{run}"), "#why"),
        (format!("/events/{event}"), "main"),
        ("/events".to_owned(), "#rows"),
        ("/logs".to_owned(), "#lines"),
        ("/flow".to_owned(), "#keys"),
        ("/runs".to_owned(), "#rows"),
    ] {
        browser.go(&path).await;
        browser.until(&[place, "<img/src=x/onerror=window.pwned=1><script>"]).await;
    }
    assert_eq!(browser.run("return window.pwned === undefined", &[]).await, json!(true));
    // A function of such a name is none, which the browser's console tells as well.
    let _ = browser.driver.browser_log().await;
    browser.close().await;
}
