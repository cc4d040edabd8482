//! Sending an event by the form that its schema makes, and looking at what was sent.

use super::*;

#[tokio::test]
async fn the_form_tells_errors_at_their_fields_and_opens_the_run_that_it_started() {
    let shop = Shop::open();
    let browser = Browser::open(Kind::Narrow, &shop.url()).await;
    browser.go("/send").await;
    browser.find(&["#event-name"]).await.send_keys("payment/initiate\n").await.unwrap();
    browser.until(&["main h1", "Send payment/initiate"]).await;
    let amount = browser.find(&["#f_2famount"]).await;
    assert_eq!(amount.value().await.unwrap().as_deref(), Some("1200"), "the example is filled in");
    amount.clear().await.unwrap();
    amount.send_keys("much").await.unwrap();
    browser.press(&["form.send button", "Send payment/initiate"]).await;
    browser.until(&[".fault", "expected an integer"]).await;
    let amount = browser.find(&["#f_2famount[aria-invalid=true]"]).await;
    assert_eq!(amount.value().await.unwrap().as_deref(), Some("much"), "what was typed is still there");
    assert_eq!(browser.barriers().await, Vec::<String>::new());
    amount.clear().await.unwrap();
    amount.send_keys("300").await.unwrap();
    browser.press(&["form.send .tabs button", "JSON"]).await;
    browser.find(&["#data"]).await;
    let data = "return JSON.parse(document.querySelector('#data').value).amount === 300";
    assert_eq!(browser.run(data, &[]).await, json!(true));
    browser.press(&["form.send button", "Send payment/initiate"]).await;
    browser.until(&["#run .state-line", "waiting"]).await;
    browser.close().await;
}

#[tokio::test]
async fn events_come_in_live_and_a_config_is_reloaded_once_its_plan_was_looked_at() {
    let shop = Shop::open();
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go("/events").await;
    browser.until(&["main", "No events"]).await;
    shop.send("payment/initiate", json!({ "userId": "u1", "amount": 1200 })).await;
    browser.until(&["#rows", "payment/initiate"]).await;
    browser.click(&["#rows a.main"]).await;
    browser.until(&["#became", "started"]).await;
    browser.go("/config").await;
    browser.until(&["#plan", "a reload would change nothing"]).await;

    let config = shop.folder().join("events.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("throttle: { limit: 20", "throttle: { limit: 30")).unwrap();
    let hash = shop.get("/v1/config").await["data"]["hash"].clone();
    browser.press(&["#plan a", "Look again"]).await;
    browser.until(&["#plan", "A reload would make 1 change"]).await;
    assert_eq!(shop.get("/v1/config").await["data"]["hash"], hash, "nothing is in force before it is wanted");
    browser.press(&["#plan button", "Reload"]).await;
    browser.until(&[".said", "The config is in force as its files are now."]).await;
    browser.until(&["#plan", "a reload would change nothing"]).await;
    assert_ne!(shop.get("/v1/config").await["data"]["hash"], hash);
    browser.close().await;
}
