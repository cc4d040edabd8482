//! Why a run is not moving: a run is driven into every state, and its page is read.

use serde_json::json;

use super::*;

/// What a run's page says: the state at its top, and the box below it.
async fn told(shop: &Shop, run: &str) -> (String, String) {
    let page = get(shop, &format!("/runs/{run}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let part = |from: &str, to: &str| page.text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(part, _)| part.to_owned());
    let plain = |text: Option<String>| Answer { status: page.status, headers: HeaderMap::new(), text: text.unwrap_or_default() }.plain();
    (plain(part("class=\"state-line\">", "</div>")), plain(part("id=\"why\"", "</section>").map(|text| format!("<section {text}"))))
}

/// Checks what a run's page says.
#[track_caller]
fn says(told: (String, String), state: &str, why: &str) {
    let (at, text) = told;
    assert!(at.contains(state), "{at} does not say {state}");
    assert!(text.contains("Why is it not moving?") && text.contains(why), "`{text}` does not say `{why}`");
}

/// A server that gives one answer to whoever calls.
fn warehouse() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/stock?secret=1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut caller in listener.incoming().map_while(Result::ok) {
            // Who calls has sent all of it in one piece, or hears the answer too early, which is as good.
            let _ = caller.read(&mut [0; 4096]);
            let _ = caller.write_all(
                b"HTTP/1.1 503 Busy\r\nset-cookie: token=sesame\r\nretry-after: 5\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy",
            );
        }
    });
    url
}

#[tokio::test]
async fn the_calls_of_a_step_are_shown_without_what_lets_somebody_in() {
    let shop = Shop::open();
    let url = warehouse();
    let run = shop.run_in(&["failed"], "warehouse/asked", json!({ "url": url })).await;
    let page = get(&shop, &format!("/runs/{run}?tab=http")).await.plain();
    let shown = url.split('?').next().unwrap();
    assert!(page.contains(&format!("✗ 503 GET {shown} ")), "{page}");
    assert!(page.contains("authorization«redacted»") && page.contains("set-cookie«redacted»") && page.contains("retry-after5"), "{page}");
    assert!(!page.contains("sesame"));
}

#[tokio::test]
async fn the_page_of_a_run_says_why_it_is_not_moving_in_every_state() {
    let shop = Shop::open();
    let busy = shop.busy().await;
    says(told(&shop, &busy.queued).await, "queued", "waits for a slot: charge allows 1 run at a time for key \"u1\"");
    says(told(&shop, &busy.sleeping).await, "sleeping", "sleeping; goes on in 7h");
    says(told(&shop, &busy.waiting).await, "waiting", "waits for event otp/received");
    says(told(&shop, &busy.waiting).await, "waiting", "2 otp/received came since; none matched: userId was \"u7\", \"u9\"");
    says(told(&shop, &busy.signal).await, "waiting", "waits for signal gate-north");
    says(
        told(&shop, &busy.backing_off).await,
        "backing off",
        "backing off after a failed attempt (the bank is closed (503)); the next one comes in ",
    );
    assert!(told(&shop, &busy.backing_off).await.1.contains("Retry now"));
    says(told(&shop, &busy.paused).await, "paused", "export is paused for ");
    assert!(told(&shop, &busy.paused).await.1.contains("Resume the function"));

    // A throttled one: more starts are wanted than are given.
    for n in 0..21 {
        shop.send("receipt/wanted", json!({ "userId": format!("u{n}") })).await;
    }
    let throttled = shop.run_in(&["queued"], "receipt/wanted", json!({ "userId": "last" })).await;
    says(told(&shop, &throttled).await, "queued", "throttled: send-receipt allows 20 starts per 1m");

    // One whose time has not come.
    let later = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() + 3_600_000;
    let body = json!({ "name": "gate/asked", "data": { "gate": "east" }, "ts": later });
    let event = shop.ask(Method::POST, "/e/dev", Some(body)).await["ids"][0].as_str().unwrap().to_owned();
    let delayed = shop.get(&format!("/v1/events/{event}/runs")).await["data"][0]["run_id"].as_str().unwrap().to_owned();
    says(told(&shop, &delayed).await, "queued", "its event's time has not come; starts in ");

    // One that waits for another run.
    shop.ask(Method::POST, "/v1/functions/check-item/pause", None).await;
    let parent = shop.run_in(&["waiting"], "order/placed", json!({ "order": "o3", "items": ["tea"] })).await;
    says(told(&shop, &parent).await, "waiting", "of check-item, which is ");

    // One whose function is gone.
    let config = shop.folder().join("events.yaml");
    let text = std::fs::read_to_string(&config).unwrap().replace("  open-gate:\n    on: gate/asked\n", "");
    std::fs::write(&config, text).unwrap();
    shop.ask(Method::POST, "/v1/reload", None).await;
    shop.ask(Method::POST, "/v1/signals/gate-north", None).await;
    shop.until(&busy.signal, &["parked"]).await;
    says(told(&shop, &busy.signal).await, "parked", "function gone: events.yaml does not declare its function any more");

    // Those that have ended need no box, but their reason.
    for (run, state) in [(&busy.failed, "failed"), (&busy.order, "completed"), (&busy.cancelled, "cancelled")] {
        let (at, why) = told(&shop, run).await;
        assert!(at.contains(state) && why.is_empty(), "{at} {why}");
    }
    assert!(told(&shop, &busy.cancelled).await.0.contains("nobody came"));
}
