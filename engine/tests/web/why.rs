//! Why a run is not moving: a run is driven into every state, and its page is read.

use serde_json::{Value, json};

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

/// Sends an event whose time is an hour ahead; the run that it starts then.
async fn in_an_hour(shop: &Shop, name: &str, data: Value) -> String {
    let later = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() + 3_600_000;
    let body = json!({ "name": name, "data": data, "ts": later });
    let event = shop.ask(Method::POST, "/e/dev", Some(body)).await["ids"][0].as_str().unwrap().to_owned();
    shop.get(&format!("/v1/events/{event}/runs")).await["data"][0]["run_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_calls_of_a_step_are_shown_without_what_lets_somebody_in() {
    let shop = Shop::open();
    let url = warehouse();
    let run = shop.run_in(&["failed"], "warehouse/asked", json!({ "url": url })).await;
    let page = get(&shop, &format!("/runs/{run}?tab=http")).await.plain();
    let shown = url.split('?').next().unwrap();
    assert!(page.contains(&format!("✗ 503 GET {shown} ")), "{page}");
    let took = page.split(&format!("GET {shown} ")).nth(1).and_then(|rest| rest.split("answered at ").next()).unwrap();
    assert!(took.starts_with(|c: char| c.is_ascii_digit() || c == '<') && took.ends_with('s'), "{took}");
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
        "backing off after a failed attempt (the bank is closed (503)); attempt 2 of 6 comes in ",
    );
    let page = get(&shop, &format!("/runs/{}", busy.backing_off)).await.plain();
    assert!(page.contains("attempt 1 of 6") && page.contains("✗ #1 of 6 the bank is closed"), "{page}");
    assert!(told(&shop, &busy.backing_off).await.1.contains("Retry now"));
    says(told(&shop, &busy.paused).await, "paused", "export is paused for ");
    assert!(told(&shop, &busy.paused).await.1.contains("Resume the function"));

    // A throttled one: more starts are wanted than are given.
    for n in 0..21 {
        shop.send("receipt/wanted", json!({ "userId": format!("u{n}") })).await;
    }
    let throttled = shop.run_in(&["queued"], "receipt/wanted", json!({ "userId": "last" })).await;
    says(told(&shop, &throttled).await, "queued", "throttled: send-receipt allows 20 starts per 1m; ");
    says(told(&shop, &throttled).await, "queued", " before it, starts in ");

    // One whose time has not come.
    let delayed = in_an_hour(&shop, "gate/asked", json!({ "gate": "east" })).await;
    says(told(&shop, &delayed).await, "queued", "its event's time has not come; starts in ");

    // One that waits for another run.
    shop.ask(Method::POST, "/v1/functions/check-item/pause", None).await;
    let parent = shop.run_in(&["waiting"], "order/placed", json!({ "order": "o3", "items": ["tea"] })).await;
    says(told(&shop, &parent).await, "waiting", "of check-item, which is paused; ");

    // One whose function is gone.
    reload(&shop, &[("  open-gate:\n    on: gate/asked\n", "")]).await;
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

/// Events and functions before those of the shop, for states that its own do not come to.
const MORE: &str = r#"
  page/edited: {}
  click/tracked: {}
  bank/asked: {}
  till/closed: {}
  till/counted: {}
  news/wanted: {}
  all/wanted: {}
  safe/asked: {}
functions:
  publish: { on: page/edited, handler: handlers/rest.rhai, debounce: { period: 1h, timeout: 3h } }
  store-clicks: { on: click/tracked, handler: handlers/rest.rhai, batch: { size: 5, timeout: 1h } }
  ask-bank: { on: bank/asked, concurrency: { limit: 1, shared: till } }
  close-till: { on: till/closed, handler: handlers/rest.rhai, concurrency: { limit: 1, shared: till } }
  count-till:
    on: till/counted
    concurrency: { limit: 1, hold: active }
    retries: { attempts: 3, backoff: fixed, initial: 10m, jitter: 0 }
  get-news: { on: news/wanted }
  do-all: { on: all/wanted, retries: { attempts: 3, backoff: fixed, initial: 10m, jitter: 0 } }
  open-safe: { on: safe/asked, versions: latest }
"#;
const MORE_HANDLERS: [(&str, &str); 6] = [
    ("rest", "step(\"rest\", || 1)\n"),
    ("ask-bank", "step(\"ask\", || http::get(event.data.url, #{ timeout: \"5m\" }).status)\n"),
    (
        "count-till",
        "if event.data.url == () { step(\"open\", || { throw \"the drawer is stuck\"; }) }\n\
        step(\"ask\", || http::get(event.data.url, #{ timeout: \"5m\" }).status)\n",
    ),
    (
        "get-news",
        "wait_for_any([#{ event: \"page/edited\", \"if\": \"async.data.page == event.data.page\" }, #{ event: \"click/tracked\" }], \
        #{ timeout: \"1h\", id: \"news\" })\n",
    ),
    (
        "do-all",
        "parallel(#{ nap: || sleep(\"rest\", \"8h\"), key: || wait_for_signal(\"key\"), bank: || step(\"ask\", || { throw \"it is closed\"; }) })\n",
    ),
    ("open-safe", "step(\"first\", || 1);\nwait_for_signal(\"safe\")\n"),
];

#[tokio::test]
async fn the_box_tells_of_windows_limits_branches_and_pauses() {
    let shop = Shop::open();
    for (name, text) in MORE_HANDLERS {
        std::fs::write(shop.folder().join(format!("handlers/{name}.rhai")), text).unwrap();
    }
    reload(&shop, &[("\nfunctions:\n", MORE)]).await;
    // Whoever calls it is let in, and never hears anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let call = json!({ "url": format!("http://{}/", silent.local_addr().unwrap()) });

    // Events that are collected.
    let published = shop.run_in(&["queued"], "page/edited", json!({ "page": "start" })).await;
    says(told(&shop, &published).await, "queued", "debounced: it waits until no event of its key has come for 1h; starts in ");
    let clicks = shop.run_in(&["queued"], "click/tracked", json!({})).await;
    shop.send("click/tracked", json!({})).await;
    says(told(&shop, &clicks).await, "queued", "collects a batch: 2 of 5 events; starts in ");

    // A run that works says on what, and one behind a limit that another function shares with it who has the slot.
    let busy = shop.run_in(&["running"], "bank/asked", call.clone()).await;
    let (at, doing) = told(&shop, &busy).await;
    assert!(at.contains("running") && doing.contains("What is it doing?") && doing.contains("is under way, for "), "{at} {doing}");
    let behind = shop.run_in(&["queued"], "till/closed", json!({})).await;
    let holder = format!("waits for a slot: shared till allows 1 run at a time; run {busy} has it");
    says(told(&shop, &behind).await, "queued", &holder);

    // One that let go of its slot while it backed off, and comes back to find it taken.
    let stuck = shop.run_in(&["backing_off"], "till/counted", json!({})).await;
    shop.run_in(&["running"], "till/counted", call).await;
    shop.ask(Method::POST, &format!("/v1/runs/{stuck}/retry-now"), None).await;
    shop.until(&stuck, &["queued"]).await;
    says(told(&shop, &stuck).await, "queued", "waits for a slot: count-till allows 1 run at a time");

    // One that waits for the first of several events, and one with several branches.
    let news = shop.run_in(&["waiting"], "news/wanted", json!({ "page": "start" })).await;
    let either = "waits for event page/edited with async.data.page == event.data.page or event click/tracked; gives up in ";
    says(told(&shop, &news).await, "waiting", either);
    let all = shop.run_in(&["waiting"], "all/wanted", json!({})).await;
    for branch in [
        "nap › rest sleeps; goes on in 7h",
        "key › key waits for signal key; without a time-out",
        "bank › ask backs off after a failed attempt (it is closed); attempt 2 of 3 comes in ",
    ] {
        says(told(&shop, &all).await, "waiting", branch);
    }

    // A paused one whose time has not come either does not begin when that comes.
    shop.ask(Method::POST, "/v1/functions/close-till/pause", None).await;
    let held = in_an_hour(&shop, "till/closed", json!({})).await;
    says(told(&shop, &held).await, "paused", "paused: close-till is paused for ");
    says(told(&shop, &held).await, "paused", "lets it begin; besides, its event's time has not come; starts in ");

    // One that its newest handler does not fit, and one whose function collects no more.
    let safe = shop.run_in(&["waiting"], "safe/asked", json!({})).await;
    std::fs::write(shop.folder().join("handlers/open-safe.rhai"), "step(\"other\", || 1);\nwait_for_signal(\"safe\")\n").unwrap();
    reload(&shop, &[(", debounce: { period: 1h, timeout: 3h }", "")]).await;
    shop.ask(Method::POST, "/v1/signals/safe", None).await;
    shop.until(&safe, &["parked"]).await;
    says(told(&shop, &safe).await, "parked", "its record does not fit the handler: the journal has step first");
    let (_, parked) = told(&shop, &safe).await;
    assert!(parked.contains("Migrate to the newest version"), "{parked}");
    // The picture has its names as the handler writes them, and the version leads to what is different.
    let picture =
        "the journal has step `first` (handlers/open-safe.rhai:1: step(\"first\", || 1);) where the handler asks for step `other`";
    assert!(parked.contains(picture), "{parked}");
    let version = shop.get(&format!("/v1/runs/{safe}")).await["data"]["function_version"].as_str().unwrap().to_owned();
    let page = get(&shop, &format!("/runs/{safe}")).await.text;
    assert!(page.contains(&format!("href=\"/functions/open-safe?version={version}\">difference ▸</a>")), "{page}");
    says(told(&shop, &published).await, "queued", "its function collects no events any more; starts in ");
}
