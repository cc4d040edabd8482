//! What people do with the dashboard.

use super::*;

#[tokio::test]
async fn an_event_is_sent_and_its_run_seen_to_finish_without_asking_again() {
    let shop = Shop::open();
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go("/runs").await;
    browser.until(&["main", "No run yet."]).await;
    // A page that is loaded anew loses this mark.
    browser.run("window.mark = 1", &[]).await;
    shop.send("payment/initiate", json!({ "userId": "u1", "amount": 1200 })).await;
    browser.until(&["#rows .state", "waiting"]).await;
    assert_eq!(browser.run("return window.mark", &[]).await, json!(1));
    browser.click(&["#rows a.main"]).await;
    browser.until(&["#run .state-line", "waiting"]).await;
    browser.run("window.mark = 2", &[]).await;
    shop.send("otp/received", json!({ "userId": "u1", "code": "123456" })).await;
    browser.until(&["#run .state-line", "completed"]).await;
    browser.until(&["#run .timeline", "book"]).await;
    assert_eq!(browser.run("return window.mark", &[]).await, json!(2));
    browser.close().await;
}

#[tokio::test]
async fn the_example_in_the_form_of_an_event_is_changed_sent_and_its_run_seen_to_its_end() {
    let shop = Shop::open();
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go("/send?name=payment/initiate").await;
    let field = "return document.querySelector('main form input[value=\"u1\"]') !== null";
    browser.until_true(field, &[]).await;
    let user = browser.find(&["main form input[value=\"u1\"]"]).await;
    user.clear().await.unwrap();
    user.send_keys("u77").await.unwrap();
    browser.press(&["button.primary", "Send payment/initiate"]).await;
    browser.until(&["#run .state-line", "waiting"]).await;
    browser.until(&["#run .meta", "key u77"]).await;
    browser.run("window.mark = 1", &[]).await;
    shop.send("otp/received", json!({ "userId": "u77", "code": "123456" })).await;
    browser.until(&["#run .state-line", "completed"]).await;
    assert_eq!(browser.run("return window.mark", &[]).await, json!(1));
    browser.close().await;
}

#[tokio::test]
async fn a_failed_run_shows_its_line_with_a_caret_and_is_replayed_with_an_edit() {
    let shop = Shop::open();
    let run =
        shop.run_in(&["failed"], "payment/initiate", json!({ "userId": "u2", "amount": 990, "card": "declined", "hurry": true })).await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go(&format!("/runs/{run}")).await;
    assert!(browser.text("section.failed h2").await.contains("card of u2 was declined"));
    assert!(browser.text("pre.code .marked").await.contains("throw `card of"), "{}", browser.text("#run").await);
    // The caret stands below the column that it means.
    let columns = "const [line, caret] = ['.marked', '.caret'].map(name => document.querySelector('pre.code ' + name).textContent);
        const text = line.replace(/^\\d+/, ''); return text.indexOf('throw') === caret.indexOf('^');";
    assert_eq!(browser.run(columns, &[]).await, json!(true), "{}", browser.text("pre.code").await);
    assert_eq!(browser.text(".timeline .selected .attempts").await.matches("declined").count(), 3);
    browser.keys("r").await;
    browser.until_true("return document.querySelector('details.menu').open", &[]).await;
    // To choose a step loads its result, so that none is sent for another step.
    let choose = "const choice = document.querySelector('select[name=edit]'); choice.value = arguments[0];
        choice.dispatchEvent(new Event('change', { bubbles: true }));";
    let is_loaded = "return document.querySelector('input[name=set_step]').value === arguments[0]
        && document.querySelector('textarea[name=set_value]').value.includes(arguments[1])";
    browser.run(choose, &["load-user"]).await;
    browser.until_true(is_loaded, &["load-user", "Ada Lovelace"]).await;
    browser.run(choose, &["charge-card"]).await;
    browser.until_true(is_loaded, &["charge-card", "null"]).await;
    let field = browser.find(&["textarea[name=set_value]"]).await;
    field.clear().await.unwrap();
    field.send_keys(r#"{"id": "ch_9", "amount": 990}"#).await.unwrap();
    browser.press(&["button", "Replay with this"]).await;
    browser.until(&[".said", "new run"]).await;
    browser.until(&["#run .state-line", "completed"]).await;
    browser.until(&[".meta", &format!("replay of {run}")]).await;
    browser.until(&["pre.json", "\"charge\": \"ch_9\""]).await;
    browser.close().await;
}

#[tokio::test]
async fn a_waiting_run_goes_on_by_the_event_that_its_page_offers() {
    let shop = Shop::open();
    let run = shop.run_in(&["waiting"], "payment/initiate", json!({ "userId": "u1", "amount": 1200 })).await;
    for user in ["u9", "u7"] {
        shop.send("otp/received", json!({ "userId": user, "code": "123456" })).await;
    }
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go(&format!("/runs/{run}")).await;
    let why = browser.text("section.why").await;
    assert!(why.contains("waits for event otp/received with async.data.userId == event.data.userId"), "{why}");
    assert!(why.contains("2 otp/received came since; none matched: userId was \"u7\", \"u9\"."), "{why}");
    browser.press(&["details.offer summary", "Send otp/received…"]).await;
    let data = browser.run("return document.querySelector('details.offer textarea').value", &[]).await;
    assert_eq!(serde_json::from_str::<Value>(data.as_str().unwrap()).unwrap(), json!({ "userId": "u1", "code": "123456" }));
    browser.press(&["details.offer button", "Send otp/received"]).await;
    browser.until(&[".said", "The event is stored."]).await;
    browser.until(&["#run .state-line", "completed"]).await;
    browser.close().await;
}

#[tokio::test]
async fn many_runs_are_counted_and_then_cancelled() {
    let shop = Shop::open();
    for gate in ["north", "south", "west"] {
        shop.run_in(&["waiting"], "gate/asked", json!({ "gate": gate })).await;
    }
    let other = shop.run_in(&["waiting"], "payment/initiate", json!({ "userId": "u1", "amount": 1200 })).await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go("/runs?function=open-gate").await;
    browser.press(&["a.button", "Cancel these…"]).await;
    browser.until(&["#bulk", "3 runs pass the filters and have not ended."]).await;
    browser.find(&["#bulk input[name=reason]"]).await.send_keys("closing time").await.unwrap();
    browser.press(&["#bulk button", "Cancel 3 runs"]).await;
    browser.until(&[".said", "Done."]).await;
    let states = browser.run("return Array.from(document.querySelectorAll('#rows .state')).map(e => e.textContent)", &[]).await;
    assert_eq!(states, json!(["⊘cancelled", "⊘cancelled", "⊘cancelled"]));
    browser.until(&["#rows td.why", "closing time"]).await;
    shop.until(&other, &["waiting"]).await;
    browser.close().await;
}
