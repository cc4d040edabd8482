//! What the overview and the page of flow control show.

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_overview_tells_what_needs_somebody_how_it_goes_and_which_engine_it_is() {
    let shop = Shop::open();
    let failed = shop.run_in(&["failed"], "warehouse/asked", json!({ "url": "http://127.0.0.1:1/" })).await;
    let parked = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    reload(&shop, &[("  open-gate:\n    on: gate/asked\n", "")]).await;
    shop.ask(Method::POST, "/v1/signals/gate-north", None).await;
    shop.until(&parked, &["parked"]).await;
    // One run has ended, and it has failed.
    let shows = |page: &Answer| {
        let plain = page.plain();
        let figures = ["\"Failed: failed 100 %\"", "\"In line: in line 0\"", "\"At work: at work 0\"", "\"Oldest in line: oldest 0 s\""];
        let all = plain.contains("1 failed in 24 h") && plain.contains("1 parked") && figures.iter().all(|part| page.text.contains(part));
        all.then(|| page.text.clone())
    };
    let text = until(&shop, "/", shows).await;
    let hash = shop.get("/v1/config").await["data"]["hash"].as_str().unwrap().to_owned();
    let page = Answer { status: StatusCode::OK, headers: HeaderMap::new(), text };
    for part in [
        format!("href=\"/runs/{failed}\">ask-warehouse</a>"),
        format!("href=\"/runs/{parked}\">open-gate</a>"),
        "href=\"/runs?status=parked\"".to_owned(),
        format!("title=\"{hash}\""),
    ] {
        assert!(page.text.contains(&part), "`{part}` is missing: {}", page.text);
    }
    assert!(!page.text.contains("\"Runs a minute: runs 0\""), "{}", page.text);
    let plain = page.plain();
    let listens = shop.url();
    let listens = listens.trim_start_matches("http://");
    for part in [
        "function gone: events.yaml does not declare its function any more",
        "nothing backs off",
        "nothing waits for long",
        "DEV",
        concat!("Versionstepwell ", env!("CARGO_PKG_VERSION")),
        &format!("Config{} loaded ", &hash[..12]),
        ", by a reload",
        &format!("Listens on{listens}"),
        "Runs not ended1",
    ] {
        assert!(plain.contains(part), "`{part}` is missing: {plain}");
    }
}

#[tokio::test]
async fn the_overview_tells_what_backs_off_how_late_runs_start_and_what_the_engine_stands_on() {
    let shop = Shop::open();
    let run = shop.run_in(&["backing_off"], "refund/wanted", json!({ "payment": "p1", "amount": 300 })).await;
    let card = |page: &Answer| {
        let cards = page.text.split("<div class=\"card");
        cards.map(|card| Answer { text: card.to_owned(), ..page.clone() }).find(|card| card.plain().contains("1 backing off"))
    };
    let card = until(&shop, "/", card).await;
    for part in ["href=\"/runs?status=backing_off\"", &format!("href=\"/runs/{run}\">refund</a>"), "title=\"the bank is closed (503)\""] {
        assert!(card.text.contains(part), "`{part}` is missing: {}", card.text);
    }
    // One run has started, so that both are known.
    let delays = |page: &Answer| {
        let told = page.text.split("\"Start delay: p50 ").nth(1)?.split('"').next()?.to_owned();
        let (half, most) = told.split_once(", p95 ")?;
        let is_known = |figure: &str| figure.strip_suffix(" ms").is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
        (is_known(half) && is_known(most)).then_some(())
    };
    until(&shop, "/", delays).await;
    let facts = get(&shop, "/").await.plain();
    let free = facts.split("Disk free").nth(1).unwrap_or_else(|| panic!("{facts}"));
    assert!(free.starts_with(|c: char| c.is_ascii_digit()), "{free}");
    assert!(facts.contains("Durabilityfull: each commit is flushed"), "{facts}");
    drop(shop);
    let quick = Shop::with(&["run", "--durability", "normal"], &[]);
    let facts = get(&quick, "/").await.plain();
    assert!(facts.contains("Durabilitynormal: a power cut may lose the last commits") && facts.contains("PROD"), "{facts}");
}

#[tokio::test]
async fn the_next_starts_of_a_schedule_are_told_in_its_zone_and_in_utc() {
    let shop = Shop::open();
    // At three in Vienna it is one or two in UTC, by the time of the year.
    let is_pair = |local: &str, utc: &str| {
        let (day, at) = local.split_once("T03:00:00+0").unwrap_or(("", ""));
        [("1:00", "T02:00:00Z"), ("2:00", "T01:00:00Z")].iter().any(|(offset, time)| at == *offset && utc == format!("{day}{time}"))
    };
    let page = get(&shop, "/functions/nightly-report").await;
    let table = page.text.split("<th scope=\"col\">Europe/Vienna</th><th scope=\"col\">UTC</th>").nth(1);
    let table = table.and_then(|rest| rest.split("</table>").next()).unwrap_or_else(|| panic!("no times: {}", page.text));
    let cells: Vec<&str> = table.split("<td class=\"mono\">").skip(1).map(|cell| cell.split('<').next().unwrap()).collect();
    assert!(cells.len() == 6 && cells.chunks(2).all(|pair| is_pair(pair[0], pair[1])), "{cells:?}");
    let all = get(&shop, "/functions").await;
    let row = all.text.split("<tr data-row").find(|row| row.contains("/functions/nightly-report\"")).unwrap();
    let next = Answer { text: row.split("next ").nth(1).unwrap().split("</p>").next().unwrap().to_owned(), ..all.clone() }.plain();
    let (local, utc) = next.split_once(": ").and_then(|(_, times)| times.split_once(" = ")).unwrap_or_else(|| panic!("{next}"));
    assert!(is_pair(local, utc), "{next}");
}

#[tokio::test]
async fn each_schedule_of_a_function_has_its_next_starts() {
    let shop = Shop::open();
    let one = "cron: { schedule: \"0 3 * * *\", tz: Europe/Vienna }";
    reload(&shop, &[(one, "cron: [{ schedule: \"0 3 * * *\", tz: Europe/Vienna }, { schedule: \"30 12 * * SUN\", missed: skip }]")]).await;
    let page = get(&shop, "/functions/nightly-report").await.text;
    for (part, times) in [
        ("<code>0 3 * * *</code>", 2),
        ("<code>30 12 * * SUN</code>", 2),
        ("<th scope=\"col\">Europe/Vienna</th><th scope=\"col\">UTC</th>", 1),
        ("<th scope=\"col\">UTC</th><th scope=\"col\">UTC</th>", 1),
        // Three of them, and the next one beside the schedule.
        ("T12:30:00+00:00", 4),
        ("Missed starts: run-once", 1),
        ("Missed starts: skip", 1),
    ] {
        assert_eq!(page.matches(part).count(), times, "`{part}`: {page}");
    }
    let all = get(&shop, "/functions").await;
    let row = all.text.split("<tr data-row").find(|row| row.contains("/functions/nightly-report\"")).unwrap();
    assert!(row.contains("T03:00:00+0") && row.contains("T12:30:00+00:00"), "{row}");
}

#[tokio::test]
async fn the_config_says_since_when_it_is_in_force_and_by_what() {
    let shop = Shop::open();
    let loaded = |page: &Answer| page.plain().split("loaded").nth(1).and_then(|rest| rest.split("declares").next()).unwrap().to_owned();
    let start = get(&shop, "/config").await;
    assert!(loaded(&start).ends_with("by the engine's start"), "{}", loaded(&start));
    let time = |page: &Answer| page.text.split("<dt>loaded</dt>").nth(1).and_then(|rest| rest.split('"').nth(1)).unwrap().to_owned();
    reload(&shop, &[]).await;
    let again = get(&shop, "/config").await;
    assert!(loaded(&again).ends_with("by a reload"), "{}", loaded(&again));
    assert!(time(&again) > time(&start), "{} is not after {}", time(&again), time(&start));
    // A config that does not come into force leaves the time as it is.
    std::fs::write(shop.folder().join("events.yaml"), "version: 1\nfunktions: {}\n").unwrap();
    let refused = ask(&shop, Method::POST, "/do/reload", &[], &[]).await;
    assert!(!refused.status.is_success(), "{}", refused.plain());
    let kept = get(&shop, "/config").await;
    assert!(kept.plain().contains("The last reload failed") && time(&kept) == time(&again), "{}", time(&kept));
}

/// Events and functions before those of the shop, for gates that its own do not have.
const GATES: &str = r#"
  page/edited: {}
  till/opened: {}
  till/closed: {}
  safe/asked: {}
  mail/wanted: {}
functions:
  publish: { on: page/edited, handler: handlers/held.rhai, debounce: { period: 1h, key: event.data.page } }
  open-till: { on: till/opened, handler: handlers/held.rhai, concurrency: { limit: 1, shared: till, hold: run } }
  close-till: { on: till/closed, handler: handlers/held.rhai, concurrency: { limit: 1, shared: till, hold: run } }
  open-safe: { on: safe/asked, handler: handlers/held.rhai, singleton: { key: event.data.safe } }
  mail: { on: mail/wanted, handler: handlers/held.rhai, throttle: { limit: 1, period: 1h } }
"#;

#[tokio::test]
async fn flow_control_tells_who_waits_since_when_and_what_is_left_or_open() {
    let shop = Shop::open();
    std::fs::write(shop.folder().join("handlers/held.rhai"), "wait_for_signal(\"go\")\n").unwrap();
    reload(&shop, &[("\nfunctions:\n", GATES)]).await;
    let order = json!({ "userId": "u1", "amount": 1200 });
    let holder = shop.run_in(&["waiting"], "payment/initiate", order.clone()).await;
    let first = shop.run_in(&["queued"], "payment/initiate", order.clone()).await;
    shop.run_in(&["queued"], "payment/initiate", order).await;
    let till = shop.run_in(&["waiting"], "till/opened", json!({})).await;
    let behind = shop.run_in(&["queued"], "till/closed", json!({})).await;
    shop.run_in(&["waiting"], "mail/wanted", json!({})).await;
    let throttled = shop.run_in(&["queued"], "mail/wanted", json!({})).await;
    let safe = shop.run_in(&["waiting"], "safe/asked", json!({ "safe": "north" })).await;
    let published = shop.run_in(&["queued"], "page/edited", json!({ "page": "start" })).await;
    shop.send("page/edited", json!({ "page": "start" })).await;
    for (what, parts) in [
        // Whose key, how many run and wait, who holds it, and who waits longest.
        ("/functions/charge\"", vec![">\"u1\"<", ">1 of 1<", ">2</span>", &holder, "<time", &first]),
        ("shared </span>till", vec![">1 of 1<", ">1</span>", &till, "<time", &behind]),
        // Nothing is left for an hour.
        ("/functions/mail\"", vec!["1 in 1h", "0 of 1 starts left", ">in ", ">1</td>", &throttled]),
        ("/functions/publish\"", vec![">debounce<", ">\"start\"<", ">2</td>", ">in ", &published]),
        ("/functions/open-safe\"", vec![">\"north\"<", &safe]),
    ] {
        let has_row = |page: &Answer| {
            let text = page.text.replace("&quot;", "\"");
            let found = text.split("<tr data-row").any(|row| row.contains(what) && parts.iter().all(|part| row.contains(part)));
            found.then_some(())
        };
        until(&shop, "/flow", has_row).await;
    }
    // Pages are narrowed down to a key.
    let narrow = get(&shop, "/flow?key=north&part=keys").await.text;
    assert!(narrow.contains(&safe) && !narrow.contains(&holder), "{narrow}");
}
