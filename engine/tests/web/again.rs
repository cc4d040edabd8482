//! What is done by forms of several values: a run done again with several other results, and a signal that nobody's page offers.

use serde_json::json;

use super::*;

/// Three steps, of which the last fails until both others have other results.
const HANDLER: &str = "let a = step(\"a\", || 1);\nlet b = step(\"b\", || 2);\nlet c = step(\"c\", || 3);\n\
    step(\"sum\", || { if a + b + c < 30 { throw `only ${a + b + c}` } [a, b, c] })\n";

/// A run of it that has failed.
async fn failed(shop: &Shop) -> String {
    std::fs::write(shop.folder().join("handlers/ask-warehouse.rhai"), HANDLER).unwrap();
    reload(shop, &[]).await;
    shop.run_in(&["failed"], "warehouse/asked", json!({})).await
}

/// Does it again by the form; the new run.
async fn replayed(shop: &Shop, form: &[(&str, &str)]) -> String {
    let answer = ask(shop, Method::POST, "/do/replay", &[], form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.plain());
    answer.header("location").strip_prefix("/runs/").and_then(|rest| rest.split('?').next()).unwrap().to_owned()
}

#[tokio::test]
async fn a_run_is_done_again_with_several_other_results_and_from_a_step() {
    let shop = Shop::open();
    let run = failed(&shop).await;
    let path = format!("/runs/{run}?do=replay&edit=a&edit=b");
    let shown = page(&shop, &path).await;
    let form =
        shown.text.split("<form").find(|form| form.contains("name=\"set_step\"")).unwrap_or_else(|| panic!("no form: {}", shown.text));
    let form = form.split("</form>").next().unwrap();
    for step in ["a", "b"] {
        assert!(form.contains(&format!("name=\"set_step\" value=\"{step}\"")), "{form}");
        assert!(form.contains(&format!("Result of {step} (JSON)")), "{form}");
    }
    assert!(form.matches("name=\"set_value\"").count() == 2 && form.contains("name=\"from_step\""), "{form}");
    // A further one is added to them, and one that was chosen is left out again.
    let adds =
        shown.text.split("<form").find(|form| form.contains(">Add</button>")).unwrap_or_else(|| panic!("none is added: {}", shown.text));
    assert!(adds.matches("type=\"hidden\" name=\"edit\"").count() == 2 && adds.contains("<option value=\"c\">"), "{adds}");
    assert!(form.contains(&format!("href=\"/runs/{run}?do=replay&amp;edit=b#do\"")), "{form}");

    let edits =
        [("run", run.as_str()), ("set_step", "a"), ("set_value", "10"), ("set_step", "b"), ("set_value", " 20 "), ("from_step", "")];
    let new = replayed(&shop, &edits).await;
    assert_eq!(shop.until(&new, &["completed"]).await["data"]["output"], json!([10, 20, 3]), "c is done again");

    // From a later step on: what is before it is kept.
    let from = [("run", run.as_str()), ("set_step", "a"), ("set_value", "40"), ("from_step", "sum")];
    let new = replayed(&shop, &from).await;
    assert_eq!(shop.until(&new, &["completed"]).await["data"]["output"], json!([40, 2, 3]));

    // A field that was emptied sets nothing: the command beside it leaves it out.
    let emptied =
        [("run", run.as_str()), ("set_step", "a"), ("set_value", "50"), ("set_step", "b"), ("set_value", " "), ("from_step", "sum")];
    let new = replayed(&shop, &emptied).await;
    assert_eq!(shop.until(&new, &["completed"]).await["data"]["output"], json!([50, 2, 3]));

    // What cannot be is said, and nothing is done.
    let early = [("run", run.as_str()), ("set_step", "c"), ("set_value", "40"), ("from_step", "a")];
    let refused = ask(&shop, Method::POST, "/do/replay", &[], &early).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.plain().contains("is done again, so its result cannot be set"), "{}", refused.plain());
    let wrong = [("run", run.as_str()), ("set_step", "a"), ("set_value", "ten")];
    let refused = ask(&shop, Method::POST, "/do/replay", &[], &wrong).await;
    assert!(refused.status == StatusCode::BAD_REQUEST && refused.plain().contains("is not JSON"), "{}", refused.plain());
}

#[tokio::test]
async fn a_signal_is_sent_from_the_page_that_sends_and_it_says_where_nobody_waits_for_it() {
    let shop = Shop::open();
    let run = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let shown = page(&shop, "/send?do=signal&signal=gate-north").await;
    let form =
        shown.text.split("<form").find(|form| form.contains("action=\"/do/signal\"")).unwrap_or_else(|| panic!("no form: {}", shown.text));
    assert!(form.contains("name=\"name\" value=\"gate-north\"") || form.contains("value=\"gate-north\""), "{form}");
    for label in ["<label for=\"signal-name\">", "<label for=\"signal-data\">"] {
        assert!(form.contains(label), "{label} is missing: {form}");
    }
    let sends = [("name", "gate-north"), ("data", r#"{"word":"sesame"}"#), ("back", "/send")];
    let answer = ask(&shop, Method::POST, "/do/signal", &[], &sends).await;
    assert_eq!(answer.header("location"), "/send?said=signalled");
    let opened = shop.until(&run, &["completed"]).await;
    assert!(opened["data"]["output"].to_string().contains("sesame"), "{opened}");
    // Nobody waits any more.
    let answer = ask(&shop, Method::POST, "/do/signal", &[], &sends).await;
    assert_eq!(answer.header("location"), "/send?said=unheard");
    let said = page(&shop, "/send?said=unheard").await.plain();
    assert!(said.contains("⚠ No run waits for this signal: nothing has happened."), "{said}");
}
