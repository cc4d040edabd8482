//! What pages show that a look at them would miss and no other test asks for.

use serde_json::{Value, json};

use super::door::login;
use super::*;

/// What stands between two texts of a page, without its tags.
#[track_caller]
fn between(page: &Answer, from: &str, to: &str) -> String {
    let part = page.text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(part, _)| part.to_owned());
    let text = part.unwrap_or_else(|| panic!("nothing between `{from}` and `{to}`: {}", page.text));
    Answer { text, ..page.clone() }.plain()
}

async fn paid(shop: &Shop, user: &str, amount: u32) -> String {
    shop.run_in(&["completed"], "payment/initiate", json!({ "userId": user, "amount": amount, "hurry": true })).await
}

#[tokio::test]
async fn a_step_shows_its_log_its_code_and_how_long_its_run_stood_in_the_queue() {
    let shop = Shop::open();
    let run = paid(&shop, "u31", 4321).await;
    let tab = async |step: &str, tab: &str| page(&shop, &format!("/runs/{run}?step=step.{step}&tab={tab}")).await;
    let log = between(&tab("charge-card", "logs").await, "<div class=\"tab\">", "class=\"row step-actions");
    assert!(log.contains(" info charge-card charging {\"amount\":4321,\"user\":\"u31\"}"), "{log}");
    let code = tab("charge-card", "code").await;
    assert!(between(&code, "<div class=\"tab\">", "<pre").contains("handlers/charge.rhai:4"), "{}", code.text);
    // The line of the step is marked, among all others of its file.
    assert_eq!(between(&code, "<span class=\"line marked\">", "\n"), "4let charge = step(\"charge-card\", || {");
    assert!(code.plain().contains("19send_event(\"receipt/wanted\""), "{}", code.plain());
    let first = tab("load-user", "output").await;
    let queue = between(&first, "<span>queue ", "</span>");
    assert!(queue.ends_with(" ms") || queue.ends_with(" s"), "{queue}");
    assert!(!tab("charge-card", "output").await.text.contains("<span>queue "), "the queue comes before the first step");
}

#[tokio::test]
async fn a_run_that_waits_says_at_its_top_when_it_gives_up_and_offers_what_it_waits_for() {
    let shop = Shop::open();
    let run = shop.run_in(&["waiting"], "payment/initiate", json!({ "userId": "u1", "amount": 1200 })).await;
    let shown = page(&shop, &format!("/runs/{run}")).await;
    let state = between(&shown, "class=\"state-line\">", "</div>");
    assert!(state.contains("for event otp/received") && state.contains("expires in 9m"), "{state}");
    let link = format!("href=\"/runs/{run}?do=send\">Send otp/received…</a>");
    assert!(shown.text.contains(&link) && !shown.text.contains("<details class=\"offer\" open"), "{}", shown.text);
    let offered = page(&shop, &format!("/runs/{run}?do=send")).await;
    assert!(offered.text.contains("<details class=\"offer\" open"), "{}", offered.text);
}

#[tokio::test]
async fn an_event_shows_its_data_and_a_list_how_they_begin() {
    let shop = Shop::open();
    let data = json!({ "order": "o1", "items": ["tea", "cup"], "note": "<b>".repeat(60) });
    let event = shop.send("order/placed", data.clone()).await;
    let shown = between(&page(&shop, &format!("/events/{event}")).await, "<h2>Data</h2>", "</section>");
    let json = shown.find('{').zip(shown.rfind('}')).map(|(from, to)| &shown[from..=to]).unwrap_or_else(|| panic!("no data: {shown}"));
    assert_eq!(serde_json::from_str::<Value>(json).unwrap(), data);
    let list = page(&shop, "/events?name=order/placed").await;
    let preview = between(&list, "<td class=\"wide mono preview\">", "</td>");
    let begins = preview.strip_suffix('…').unwrap_or_else(|| panic!("it is not cut: {preview}"));
    assert!(
        begins.starts_with("{\"order\":\"o1\",\"items\":[\"tea\",\"cup\"],\"note\":\"<b><b>") && data.to_string().starts_with(begins),
        "{preview}"
    );
}

#[tokio::test]
async fn runs_are_found_by_what_they_came_to_and_lines_by_their_run() {
    let shop = Shop::open();
    let (small, large) = (paid(&shop, "u1", 100).await, paid(&shop, "u2", 9000).await);
    let list = page(&shop, "/runs?where=run.output.amount%20%3E%201000%20%26%26%20event.data.userId%20!%3D%20%22u9%22&part=rows").await;
    assert!(list.text.contains(&format!("<tr data-row=\"{large}\"")) && !list.text.contains(&small), "{}", list.text);
    assert_eq!(list.text.matches("<tr data-row=").count(), 1, "a receipt has no amount: {}", list.text);
    let lines = page(&shop, &format!("/logs?run={small}&part=lines")).await;
    assert!(lines.text.contains(&format!("href=\"/runs/{small}\"")) && lines.plain().contains("charging"), "{}", lines.text);
    assert!(!lines.text.contains(&large), "{}", lines.text);
    let all = page(&shop, "/logs?part=lines").await;
    assert!(all.text.contains(&small) && all.text.contains(&large), "{}", all.text);
}

#[tokio::test]
async fn keys_and_tokens_that_are_set_are_told_as_set_and_not_what_they_are() {
    let set = [("STEPWELL_ADMIN_TOKEN", "sesame"), ("STEPWELL_READ_TOKEN", "barley"), ("STEPWELL_EVENT_KEYS", "millet,oats")];
    let shop = Shop::with(&["run"], &set);
    let cookie = login(&shop, "sesame").await;
    let shown = ask(&shop, Method::GET, "/keys", &[("cookie", &cookie)], &[]).await;
    let plain = shown.plain();
    for row in ["STEPWELL_EVENT_KEYS✓ set 2 keys", "STEPWELL_ADMIN_TOKEN✓ set", "STEPWELL_READ_TOKEN✓ set"] {
        assert!(plain.contains(row), "`{row}` is missing: {plain}");
    }
    for secret in ["sesame", "barley", "millet", "oats"] {
        assert!(!shown.text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn what_the_doctor_finds_comes_with_what_to_do() {
    let shop = Shop::open();
    shop.parked().await;
    let shown = page(&shop, "/doctor").await;
    let advice = between(&shown, "parked, and waiting for somebody: 1 of pack</td>", "</tr>");
    assert!(advice.contains("`stepwell runs ls --status parked` says why"), "{advice}");
}

#[tokio::test]
async fn the_overview_names_who_has_waited_long_for_a_key_how_many_and_how_large_the_database_is() {
    let shop = Shop::open();
    let order = json!({ "userId": "u1", "amount": 1200 });
    shop.run_in(&["waiting"], "payment/initiate", order.clone()).await;
    let behind = shop.run_in(&["queued"], "payment/initiate", order).await;
    // So that nobody has to wait, the run has stood there for two minutes once the engine is up again.
    let shop = shop.killed(|folder| {
        let database = rusqlite::Connection::open(folder.join(".stepwell/stepwell.db")).unwrap();
        let changed = database.execute("UPDATE runs SET enter = created - 120000 WHERE started IS NULL", []).unwrap();
        assert_eq!(changed, 1);
    });
    shop.until(&behind, &["queued"]).await;
    let card = |page: &Answer| {
        let mut cards = page.text.split("<div class=\"card");
        cards
            .find(|card| {
                Answer { text: format!("<div class=\"card{card}"), ..page.clone() }.plain().contains("1 first in line for over a minute")
            })
            .map(str::to_owned)
    };
    let card = until(&shop, "/", card).await;
    assert!(card.contains("href=\"/flow\"") && card.contains(&format!("href=\"/runs/{behind}\">charge</a>")), "{card}");
    let in_line = |page: &Answer| {
        let oldest = page.text.split("\"Oldest in line: oldest ").nth(1)?.split([' ', '"']).next()?.replace(',', "");
        (page.text.contains("\"In line: in line 1\"") && oldest.parse::<f64>().ok()? >= 120.0).then_some(())
    };
    until(&shop, "/", in_line).await;
    let database = between(&page(&shop, "/").await, ">Database</dt>", "</dd>");
    let (place, size) = database.split_once("stepwell.db ").unwrap_or_else(|| panic!("{database}"));
    assert!(place.ends_with(".stepwell/") && size.starts_with(|c: char| c.is_ascii_digit()) && size.ends_with('B'), "{database}");
}
