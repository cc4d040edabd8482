//! Why a run is not moving where the whole engine holds it up: what an engine does once it was killed again and again, or told to end, and a deadlock.

use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// Functions before those of the shop: one whose runs hold a slot while they wait for another run, and one that invokes itself.
const MORE: &str = r#"
  desk/asked: {}
  mine/asked: {}
functions:
  ask-desk: { on: desk/asked, concurrency: { limit: 1, hold: run } }
  dig: { on: mine/asked, concurrency: { limit: 2, hold: run } }
"#;
const MORE_HANDLERS: [(&str, &str); 2] = [
    ("ask-desk", "invoke(\"open-gate\", #{ gate: \"desk\" })\n"),
    (
        "dig",
        "if event.data.deep != true { return \"through\"; }\n\
        try { invoke(\"dig\", #{}); } catch (error) { log::warn(error.code); }\n",
    ),
];

/// Waits until the box of a run's page, or the line at its top, says something.
async fn until_told(shop: &Shop, run: &str, says: &str) {
    until(shop, &format!("/runs/{run}"), |page| page.plain().contains(says).then_some(())).await;
}

/// Notes what an engine notes of a crash, so that the kill before counts as one.
fn crashed(folder: &Path) {
    std::fs::write(folder.join(".stepwell/stepwell.db.end"), "crashed\n").unwrap();
}

#[tokio::test]
async fn a_run_that_was_there_at_every_crash_says_so_and_so_do_those_that_it_holds_up() {
    let shop = Shop::open();
    let (first, _silent) = shop.running().await;
    let (second, _silent_too) = shop.running().await;
    let shop = shop.killed(crashed);
    for run in [&first, &second] {
        shop.until(run, &["running"]).await;
    }
    // Once may be chance. From now on each of them begins alone.
    let shop = shop.killed(crashed);
    shop.until(&first, &["running"]).await;
    until_told(&shop, &second, "it was running each time when the engine crashed or was killed; it starts alone, a little later").await;
    let innocent = shop.send("export/wanted", json!({ "steps": 1 })).await;
    let runs = shop.get(&format!("/v1/events/{innocent}/runs")).await;
    let innocent = runs["data"][0]["run_id"].as_str().unwrap().to_owned();
    let alone = format!("run {first} runs alone, since it may have brought the engine down: the others go on a little later");
    until_told(&shop, &innocent, &alone).await;
    let page = get(&shop, &format!("/runs/{innocent}")).await.text;
    assert!(page.contains(&format!("<a class=\"mono\" href=\"/runs/{first}\">")), "{page}");

    for run in [&second, &innocent] {
        shop.ask(Method::DELETE, &format!("/v1/runs/{run}"), None).await;
    }
    let shop = shop.killed(crashed);
    shop.until(&first, &["parked"]).await;
    until_told(&shop, &first, "crashed engine: again and again the engine crashed or was killed while this run was in the same step").await;
}

#[tokio::test]
async fn a_run_in_line_says_that_the_engine_drains_and_what_it_waits_for_besides() {
    let shop = Shop::open();
    let (_busy, _silent) = shop.running().await;
    let order = json!({ "userId": "u1", "amount": 1200 });
    shop.run_in(&["waiting"], "payment/initiate", order.clone()).await;
    let queued = shop.run_in(&["queued"], "payment/initiate", order).await;
    // A step is under way, so that it does not end at once.
    shop.tell_to_stop();
    until_told(&shop, &queued, "the engine is draining: it goes on once an engine has been started again; besides, waits for a slot").await;
}

#[tokio::test]
async fn a_run_says_whom_the_one_waits_for_that_has_its_slot_and_that_it_was_ended_to_break_a_deadlock() {
    let shop = Shop::open();
    for (name, text) in MORE_HANDLERS {
        std::fs::write(shop.folder().join(format!("handlers/{name}.rhai")), text).unwrap();
    }
    reload(&shop, &[("\nfunctions:\n", MORE)]).await;
    let holder = shop.run_in(&["waiting"], "desk/asked", json!({})).await;
    let gate = shop.get("/v1/runs?function=open-gate").await["data"][0]["run_id"].as_str().unwrap().to_owned();
    let behind = shop.run_in(&["queued"], "desk/asked", json!({})).await;
    let says = format!("waits for a slot: ask-desk allows 1 run at a time; run {holder} has it, and waits for run {gate}");
    until_told(&shop, &behind, &says).await;
    let page = get(&shop, &format!("/runs/{behind}")).await.text;
    for run in [&holder, &gate] {
        assert!(page.contains(&format!("<a class=\"mono\" href=\"/runs/{run}\">")), "{run} is no link: {page}");
    }

    // Two runs have all slots of their function, and each waits for one that stands in line for them.
    let deep = json!({ "name": "mine/asked", "data": { "deep": true } });
    shop.ask(Method::POST, "/e/dev", Some(json!([deep, deep]))).await;
    let ended = async {
        loop {
            let runs = shop.get("/v1/runs?function=dig&status=cancelled").await;
            if let Some(run) = runs["data"].as_array().unwrap().first() {
                return run["run_id"].as_str().unwrap().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let victim = tokio::time::timeout(PATIENCE, ended).await.expect("the deadlock is broken");
    until_told(&shop, &victim, "deadlock: dig allows 2 runs at a time").await;
    let told = shop.get(&format!("/v1/runs/{victim}")).await["data"].clone();
    let parent: Value = told["invoked_by"].clone();
    let parent = parent.as_str().unwrap_or_else(|| panic!("nobody has invoked it: {told}"));
    shop.until(parent, &["completed"]).await;
    let told = format!("all that have a slot wait for runs that wait for one; run {victim} of `dig` was cancelled");
    until_told(&shop, parent, &told).await;
}
