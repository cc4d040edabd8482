//! Pages of what is large: it comes once somebody asks for it, and the page without it stays light.

use serde_json::{Value, json};

use super::*;
use crate::browser::shop::BYTES_MOST;

/// How large the events of these tests are.
const LARGE: usize = 900_000;

/// A page with what its files weigh.
async fn weighed(shop: &Shop, path: &str) -> (Answer, usize) {
    let shown = page(shop, path).await;
    let mut bytes = shown.text.len();
    let files: std::collections::BTreeSet<&str> = shown.text.split('"').filter(|text| text.starts_with("/assets/")).collect();
    for file in files {
        bytes += page(shop, file).await.text.len();
    }
    (shown, bytes)
}

/// A page that is light with all its files.
async fn light(shop: &Shop, path: &str) -> Answer {
    let (shown, bytes) = weighed(shop, path).await;
    assert!(bytes < BYTES_MOST, "{path}: {bytes} bytes");
    shown
}

/// The addresses of a page that load more of it.
fn loads(page: &Answer) -> Vec<String> {
    let found = page.text.split("hx-get=\"").skip(1).filter_map(|rest| rest.split('"').next());
    found.filter(|url| url.contains("part=")).map(unescaped).collect()
}

/// Data of an event that are large in the way that is worst for a page: of many small pieces.
fn large() -> Value {
    let notes: Vec<Value> = (0..38_500).map(|n| json!({ "n": n, "of": "\"&<" })).collect();
    json!({ "userId": "u1", "notes": notes })
}

#[tokio::test]
async fn the_page_of_a_large_event_is_light_and_loads_the_rest_when_it_is_asked_to() {
    let shop = Shop::open();
    let data = large();
    let text = data.to_string();
    assert!((LARGE..1_000_000).contains(&text.len()), "{}", text.len());
    let event = shop.send("receipt/wanted", data.clone()).await;
    let shown = light(&shop, &format!("/events/{event}")).await;
    let parts = loads(&shown);
    let all = parts.iter().find(|url| url.contains("part=data")).unwrap_or_else(|| panic!("nothing loads the data: {parts:?}"));
    // A link, for those whose browser runs no script.
    assert!(shown.text.contains(&format!("<a class=\"button\" href=\"{all}\"")), "{}", shown.text);
    let whole = page(&shop, all).await.plain();
    let whole: Value = serde_json::from_str(whole.trim_end_matches('⧉')).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(whole, data);

    // For curl it comes when the button is pressed, and the command reads it from the engine.
    let curl = shown.text.split("data-copy-url=\"").nth(1).and_then(|rest| rest.split('"').next()).map(unescaped).unwrap();
    let curl = page(&shop, &curl).await.plain();
    assert!(curl.starts_with("curl -X POST ") && curl.len() > LARGE, "{}", curl.len());
    let command = format!("stepwell events get {event} --json | jq -c .data | stepwell send receipt/wanted --data -");
    assert!(shown.plain().contains(&command), "{}", shown.plain());

    // It is sent again as it is stored.
    let answer = ask(&shop, Method::POST, "/do/send", &[], &[("again", event.as_str())]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.plain());
    let run = answer.header("location").strip_prefix("/runs/").and_then(|rest| rest.split('?').next()).unwrap().to_owned();
    let again = shop.get(&format!("/v1/runs/{run}/trace")).await["data"]["event"].clone();
    assert_eq!(again["data"], data);
    assert_ne!(again["internal_id"], json!(event));
    let gone = ask(&shop, Method::POST, "/do/send", &[], &[("again", "0000000000101")]).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.plain());
    // The runs' pages show of it as little.
    light(&shop, &format!("/runs/{run}")).await;
    for path in ["/events", "/events?where=event.data.userId%20%3D%3D%20%22u1%22"] {
        light(&shop, path).await;
    }
}

#[tokio::test]
async fn a_large_event_is_changed_and_sent_once_its_data_are_asked_for() {
    let shop = Shop::open();
    let data = large();
    let event = shop.send("receipt/wanted", data.clone()).await;
    let shown = light(&shop, &format!("/send?from={event}")).await;
    assert!(shown.plain().contains("Load them to be changed") && !shown.text.contains("<textarea"), "{}", shown.plain());
    assert!(shown.text.contains(&format!("name=\"again\" value=\"{event}\"")), "{}", shown.text);
    let loaded = page(&shop, &format!("/send?from={event}&load=yes")).await;
    let fields: Vec<&str> = loaded.text.split("<textarea").skip(1).collect();
    let [field] = fields[..] else { panic!("{} fields", fields.len()) };
    let text = unescaped(field.split_once('>').unwrap().1.split("</textarea>").next().unwrap());
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), data);
    // They stand in the page once.
    assert!(loaded.text.matches("notes").count() < 5, "{}", loaded.text.matches("notes").count());
}

#[tokio::test]
async fn the_page_of_a_run_with_large_results_is_light_in_every_state() {
    let shop = Shop::open();
    let ended = shop.run_in(&["completed"], "export/wanted", json!({ "steps": 3, "large": true })).await;
    let shown = light(&shop, &format!("/runs/{ended}")).await;
    let parts = loads(&shown);
    assert!(parts.iter().filter(|url| url.contains("part=output")).count() == 2, "of the step and of the run: {parts:?}");
    for url in parts.iter().filter(|url| url.contains("part=output")) {
        assert!(page(&shop, url).await.text.len() > 400_000, "{url}");
    }
    // The menu has no field for it, until one is asked for.
    assert!(!shown.text.contains("name=\"set_value\"") && shown.plain().contains("Choose (5"), "{}", shown.plain());
    let edited = page(&shop, &format!("/runs/{ended}?do=replay&edit=large")).await;
    let field = edited.text.split("name=\"set_value\"").nth(1).unwrap_or_else(|| panic!("no field: {}", edited.text));
    assert!(field.split("</textarea>").next().unwrap().len() > 400_000);
    let result = shown.text.split("data-copy-url=\"").find(|part| part.contains("part=raw")).and_then(|part| part.split('"').next());
    let result = page(&shop, &unescaped(result.unwrap_or_else(|| panic!("nothing copies the result: {}", shown.text)))).await.plain();
    assert!(serde_json::from_str::<String>(&result).unwrap().len() > 400_000);

    // A parked run is fetched again while somebody looks on.
    let talks = "step(\"large\", || { let text = \"x\"; while text.len() < 400000 { text += text; } log::info(text); text });\n\
        step(\"throws\", || {\n    let text = \"y\";\n    while text.len() < 300000 { text += text; }\n    \
        if event.data.gate == \"north\" { throw #{ message: \"no \" + text, list: text }; }\n    1\n});\n\
        wait_for_signal(\"go\")\n";
    std::fs::write(shop.folder().join("handlers/open-gate.rhai"), talks).unwrap();
    reload(&shop, &[]).await;
    let run = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "south" })).await;
    light(&shop, &format!("/runs/{run}")).await;
    light(&shop, &format!("/runs/{run}?step=step.large&tab=logs")).await;
    reload(&shop, &[("  open-gate:\n    on: gate/asked\n", "  open-gate:\n    on: gate/asked\n    retries: 0\n")]).await;
    let failed = shop.run_in(&["failed"], "gate/asked", json!({ "gate": "north" })).await;
    let shown = light(&shop, &format!("/runs/{failed}")).await;
    let parts = loads(&shown);
    assert!(parts.iter().any(|url| url.contains("part=message")), "{parts:?}");
    for url in parts.iter().filter(|url| url.contains("part=thrown") || url.contains("part=message")) {
        assert!(page(&shop, url).await.text.len() > 16 * 1024, "{url}");
    }
    for path in ["/", "/runs", "/runs?status=failed", "/logs"] {
        light(&shop, path).await;
    }
    reload(&shop, &[("  open-gate:\n    on: gate/asked\n    retries: 0\n", "")]).await;
    shop.ask(Method::POST, "/v1/signals/go", None).await;
    shop.until(&run, &["parked"]).await;
    light(&shop, &format!("/runs/{run}")).await;
    let part = page(&shop, &format!("/runs/{run}?part=run")).await;
    assert!(part.text.len() < 100 * 1024, "{} bytes each time", part.text.len());
}

#[tokio::test]
async fn a_long_run_lists_its_steps_once_for_all_fields_of_its_menu() {
    let shop = Shop::open();
    let run = shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1000 })).await;
    let shown = light(&shop, &format!("/runs/{run}?from=0")).await;
    assert_eq!(shown.text.matches("<option value=\"page#500\"").count(), 1);
    assert!(shown.text.contains("<datalist id=\"recorded\">"), "{}", shown.text);
    let fields = shown.text.split("<input ").filter(|field| field.contains("list=\"recorded\""));
    let names: std::collections::BTreeSet<&str> =
        fields.filter_map(|field| field.split("name=\"").nth(1)).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(names, std::collections::BTreeSet::from(["edit", "from_step"]));
    let edited = light(&shop, &format!("/runs/{run}?do=replay&edit=page%23500&edit=page%237")).await;
    for step in ["page#7", "page#500"] {
        assert!(edited.text.contains(&format!("name=\"set_step\" value=\"{step}\"")), "{step}");
    }
}

#[tokio::test]
async fn what_was_refused_is_shown_in_short_and_loaded_when_it_is_asked_for() {
    let shop = Shop::open();
    // The request is answered with 400, which the shop's own way of sending takes for a fault.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for n in 0..30 {
        let data = json!({ "amount": 0, "n": n, "notes": "<".repeat(15_000) });
        let body = json!({ "name": "payment/initiate", "data": data });
        let answer = client.post(format!("{}/e/dev", shop.url())).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
    let shown = light(&shop, "/events?tab=refused").await;
    let parts = loads(&shown);
    let all = parts.iter().find(|url| url.contains("part=data")).unwrap_or_else(|| panic!("nothing loads the data: {parts:?}"));
    assert!(page(&shop, all).await.plain().contains(&"<".repeat(15_000)));
}
