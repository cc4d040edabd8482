//! What is done through the pages, and the commands that they name for it.

use serde_json::{Value, json};

use super::*;

/// Does something through the dashboard; where it leads.
async fn act(shop: &Shop, path: &str, form: &[(&str, &str)]) -> String {
    let answer = ask(shop, Method::POST, path, &[], form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path} {}", answer.plain());
    answer.header("location").to_owned()
}

/// The run whose page an action leads to.
fn led_to(path: &str) -> String {
    let run = path.strip_prefix("/runs/").and_then(|rest| rest.split('?').next());
    run.unwrap_or_else(|| panic!("{path} leads to no run")).to_owned()
}

/// A function's runs.
async fn runs_of(shop: &Shop, function: &str) -> Vec<Value> {
    shop.get(&format!("/v1/runs?function={function}")).await["data"].as_array().unwrap().clone()
}

/// A failed run of a charge.
async fn declined(shop: &Shop, user: &str) -> String {
    shop.run_in(&["failed"], "payment/initiate", json!({ "userId": user, "amount": 990, "card": "declined", "hurry": true })).await
}

#[tokio::test]
async fn many_are_counted_and_replayed_and_the_command_beside_it_means_no_more_of_them() {
    let shop = Shop::open();
    declined(&shop, "u1").await;
    declined(&shop, "u2").await;
    let counted = page(&shop, "/runs?function=charge&bulk=replay").await;
    assert!(counted.plain().contains("2 runs failed and pass the filters."), "{}", counted.plain());
    let has_command = |page: &Answer| page.text.contains("title=\"stepwell replay --function charge --until ");
    assert!(has_command(&counted), "{}", counted.text);
    // The command knows no keys: it would replay those of all.
    let keyed = page(&shop, "/runs?function=charge&key=u1&bulk=replay").await;
    assert!(keyed.plain().contains("1 run failed and pass") && keyed.text.contains(">Replay 1 run</button>"), "{}", keyed.text);
    assert!(!keyed.text.contains("stepwell replay"), "{}", keyed.text);
    let waiting = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let cancel = page(&shop, "/runs?function=open-gate&bulk=cancel").await;
    assert!(cancel.plain().contains("1 run pass the filters and have not ended."), "{}", cancel.plain());
    assert!(cancel.plain().contains("stepwell runs cancel --function open-gate --until "), "{}", cancel.plain());
    shop.ask(Method::DELETE, &format!("/v1/runs/{waiting}"), None).await;
    let of = page(&shop, "/runs?replay_of=0000000000101").await;
    assert!(!of.text.contains("stepwell runs ls"), "{}", of.text);

    let until = counted.text.split("name=\"until\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let later = declined(&shop, "u3").await;
    let unsure = ask(&shop, Method::POST, "/do/replays", &[], &[("function", "charge")]).await;
    assert_eq!(unsure.status, StatusCode::BAD_REQUEST);
    let form = [("sure", "yes"), ("function", "charge"), ("until", until.as_str()), ("back", "/runs?function=charge")];
    assert_eq!(act(&shop, "/do/replays", &form).await, "/runs?function=charge&said=many");
    let runs = runs_of(&shop, "charge").await;
    let replayed: Vec<&str> = runs.iter().filter_map(|run| run["replay_of"].as_str()).collect();
    assert!(replayed.len() == 2 && !replayed.contains(&later.as_str()), "what came after the count is not meant: {runs:?}");
    let rest = page(&shop, &format!("/runs?function=charge&until={until}&bulk=replay")).await;
    assert!(rest.plain().contains("2 runs that were replayed before are left out."), "{}", rest.plain());
}

#[tokio::test]
async fn a_run_of_an_on_failure_script_leads_to_its_function_and_to_the_run_that_failed() {
    let shop = Shop::open();
    let script = shop.folder().join("handlers/apologise.rhai");
    std::fs::write(&script, "step(\"sorry\", || 1)\n").unwrap();
    let on = "  ask-warehouse:\n    on: warehouse/asked\n";
    reload(&shop, &[(on, &format!("{on}    on_failure: handlers/apologise.rhai\n"))]).await;
    let failed = shop.run_in(&["failed"], "warehouse/asked", json!({ "url": "http://127.0.0.1:1/" })).await;
    let own = loop {
        if let Some(run) = runs_of(&shop, "ask-warehouse.on_failure").await.first() {
            break run["run_id"].as_str().unwrap().to_owned();
        }
        tokio::task::yield_now().await;
    };
    let event = shop.until(&own, &["completed"]).await["data"]["event_id"].as_str().unwrap().to_owned();
    let shown = page(&shop, &format!("/runs/{own}")).await.text;
    assert!(shown.contains("<a href=\"/functions/ask-warehouse\">ask-warehouse.on_failure</a>"), "{shown}");
    assert!(shown.contains(&format!("runs because <a class=\"mono\" href=\"/runs/{failed}\">")), "{shown}");
    // And from the run that failed to the one that is about it, and to no other.
    let other = shop.run_in(&["failed"], "warehouse/asked", json!({ "url": "http://127.0.0.1:1/" })).await;
    let handled = loop {
        let runs = runs_of(&shop, "ask-warehouse.on_failure").await;
        if let Some(run) = runs.iter().find(|run| run["run_id"] != json!(own)) {
            break run["run_id"].as_str().unwrap().to_owned();
        }
        tokio::task::yield_now().await;
    };
    for (failed, script) in [(&failed, &own), (&other, &handled)] {
        let from = page(&shop, &format!("/runs/{failed}")).await.text;
        let header = from.split("on_failure <span").nth(1).unwrap_or_else(|| panic!("no link: {from}")).split("</p>").next().unwrap();
        assert!(header.contains(&format!("href=\"/runs/{script}\"")), "{header}");
    }
    assert!(!shown.contains("on_failure <span"), "{shown}");
    let event = page(&shop, &format!("/events/{event}")).await.text;
    assert!(!event.contains("/functions/ask-warehouse.on_failure"), "{event}");

    // What is different since is that of the script.
    std::fs::write(&script, "step(\"sorry\", || 2)\n").unwrap();
    reload(&shop, &[]).await;
    let shown = page(&shop, &format!("/runs/{own}")).await.text;
    let link = shown.split("href=\"").find(|part| part.starts_with("/functions/ask-warehouse?version="));
    let link = link.and_then(|part| part.split('"').next()).unwrap_or_else(|| panic!("no way to the difference: {shown}"));
    let different = page(&shop, link).await;
    assert!(different.text.contains("class=\"gone\"") && different.plain().contains("+ step(\"sorry\", || 2)"), "{}", different.text);
}

#[tokio::test]
async fn a_run_is_taken_to_the_newest_version_or_it_is_said_why_not() {
    let shop = Shop::open();
    let run = shop.run_in(&["waiting"], "payment/initiate", json!({ "userId": "u1", "amount": 1200 })).await;
    let before = shop.get(&format!("/v1/runs/{run}")).await["data"]["function_version"].clone();
    let handler = shop.folder().join("handlers/charge.rhai");
    let whole = std::fs::read_to_string(&handler).unwrap();
    std::fs::write(&handler, format!("// It is dear.\n{whole}")).unwrap();
    reload(&shop, &[]).await;
    assert_eq!(act(&shop, "/do/migrate", &[("run", &run)]).await, format!("/runs/{run}?said=migrated"));
    let after = shop.get(&format!("/v1/runs/{run}")).await["data"]["function_version"].clone();
    assert_ne!(before, after);
    std::fs::write(&handler, "step(\"other\", || 1);\n").unwrap();
    reload(&shop, &[]).await;
    let refused = ask(&shop, Method::POST, "/do/migrate", &[], &[("run", &run)]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.plain().contains("its record does not fit the newest handler"), "{}", refused.plain());
}

#[tokio::test]
async fn a_run_is_replayed_from_a_step_and_with_another_result_of_the_step_that_was_chosen() {
    let shop = Shop::open();
    let run = declined(&shop, "u2").await;
    let handler = shop.folder().join("handlers/charge.rhai");
    let whole = std::fs::read_to_string(&handler).unwrap();
    std::fs::write(&handler, whole.replace("Ada Lovelace", "Grace Hopper")).unwrap();
    reload(&shop, &[]).await;
    let new = led_to(&act(&shop, "/do/replay", &[("run", &run), ("from_step", "charge-card")]).await);
    shop.until(&new, &["failed"]).await;
    let replayed = shop.get(&format!("/v1/runs/{new}/trace")).await["data"].clone();
    assert_eq!(replayed["run"]["replay_of"], json!(run));
    assert_eq!(replayed["steps"][0]["output"]["name"], json!("Ada Lovelace"), "what is before the step is kept");

    // The result that stands in the field is that of the step which it is sent for.
    let field = |page: &Answer| page.text.split("name=\"set_step\" value=\"").nth(1).unwrap_or_default().to_owned();
    let shown = field(&page(&shop, &format!("/runs/{run}")).await);
    assert!(shown.starts_with("charge-card\"") && !shown.split("</textarea>").next().unwrap().contains("Ada"), "{shown}");
    let chosen = field(&page(&shop, &format!("/runs/{run}?do=replay&edit=load-user")).await);
    assert!(chosen.starts_with("load-user\"") && chosen.split("</textarea>").next().unwrap().contains("Ada Lovelace"), "{chosen}");
    let form = [("run", run.as_str()), ("set_step", "charge-card"), ("set_value", r#"{"id":"ch_9","amount":990}"#)];
    let new = led_to(&act(&shop, "/do/replay", &form).await);
    assert_eq!(shop.until(&new, &["completed"]).await["data"]["output"]["charge"], json!("ch_9"));
}

#[tokio::test]
async fn a_long_log_is_not_taken_for_the_whole_of_it() {
    let shop = Shop::open();
    let talks = "step(\"talk\", || { for n in 0..2100 { log::info(`line ${n}`); } 1 });\n\
        step(\"ask\", || { log::info(\"late\"); http::get(event.data.url).status })\n";
    std::fs::write(shop.folder().join("handlers/ask-warehouse.rhai"), talks).unwrap();
    reload(&shop, &[]).await;
    let run = shop.run_in(&["failed"], "warehouse/asked", json!({ "url": "http://127.0.0.1:1/" })).await;
    for (tab, says, wrong) in [
        ("http", "None of them is a call of this step.", "This step has made no call."),
        ("logs", "None of them is of this step.", "This step has logged nothing."),
    ] {
        let shown = page(&shop, &format!("/runs/{run}?tab={tab}")).await.plain();
        assert!(shown.contains("Only the first 2000 lines of the run's log are read here"), "{tab}");
        assert!(shown.contains(&format!("stepwell runs logs {run}")) && shown.contains(says) && !shown.contains(wrong), "{tab}");
    }
}

#[tokio::test]
async fn runs_go_on_by_what_their_pages_offer() {
    let shop = Shop::open();
    let signal = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let back = format!("/runs/{signal}");
    let form = [("name", "gate-north"), ("data", r#"{"word":"sesame"}"#), ("back", back.as_str())];
    assert_eq!(act(&shop, "/do/signal", &form).await, format!("{back}?said=signalled"));
    let opened = shop.until(&signal, &["completed"]).await;
    assert!(opened["data"]["output"].to_string().contains("sesame"), "{opened}");
    let wrong = ask(&shop, Method::POST, "/do/signal", &[], &[("name", "gate-north"), ("data", "sesame")]).await;
    assert!(wrong.status == StatusCode::BAD_REQUEST && wrong.plain().contains("`data` is not JSON"), "{}", wrong.plain());

    act(&shop, "/do/pause", &[("function", "export")]).await;
    let paused = shop.run_in(&["paused"], "export/wanted", json!({ "steps": 3 })).await;
    assert_eq!(act(&shop, "/do/resume", &[("function", "export")]).await, "/functions?said=resumed");
    shop.until(&paused, &["completed"]).await;

    let refund = shop.run_in(&["backing_off"], "refund/wanted", json!({ "payment": "p1", "amount": 300 })).await;
    std::fs::write(shop.folder().join("handlers/refund.rhai"), "step(\"ask-bank\", || \"paid\")\n").unwrap();
    reload(&shop, &[]).await;
    // Its next attempt would come in ten minutes.
    assert_eq!(act(&shop, "/do/retry-now", &[("run", &refund)]).await, format!("/runs/{refund}?said=retried"));
    shop.until(&refund, &["completed"]).await;
    let over = ask(&shop, Method::POST, "/do/retry-now", &[], &[("run", &refund)]).await;
    assert_eq!(over.status, StatusCode::CONFLICT, "{}", over.plain());
}
