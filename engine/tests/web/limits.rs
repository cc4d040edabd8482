//! The time-outs of a function as its runs' pages tell of them.

use serde_json::json;

use super::*;

/// An event and functions before those of the shop, which end their runs after a while.
const LIMITED: &str = r#"
  safe/asked: {}
  safe/shut: {}
functions:
  open-safe: { on: safe/asked, handler: handlers/held.rhai, concurrency: 1, timeouts: { start: 10m, finish: 20m } }
  shut-safe: { on: safe/shut, handler: handlers/branched.rhai, timeouts: { finish: 20m } }
"#;

/// What is told of a run: by the API, by the command, and in the box of its page.
async fn told(shop: &Shop, run: &str) -> [String; 3] {
    let asked = shop.get(&format!("/v1/runs/{run}")).await["data"]["why"].as_str().unwrap_or_default().to_owned();
    let ended = crate::program::stepwell(shop.folder(), ["runs", "get", run, "--url", shop.url().as_str()]);
    assert_eq!(ended.exit, 0, "{}", ended.stderr);
    let line =
        ended.stdout.lines().find(|line| line.starts_with("why\t")).unwrap_or_else(|| panic!("no reason: {}", ended.stdout)).to_owned();
    let shown = page(shop, &format!("/runs/{run}")).await;
    let part =
        shown.text.split_once("id=\"why\"").and_then(|(_, rest)| rest.split_once("</section>")).map(|(part, _)| format!("<p {part}"));
    let part = Answer { text: part.unwrap_or_default(), ..shown }.plain();
    [asked, line, part]
}

/// Checks that all say it, in whatever minute they are asked.
#[track_caller]
fn all_say(told: &[String; 3], words: &str) {
    for text in told {
        assert!(text.contains(words), "`{text}` does not say `{words}`");
    }
}

#[tokio::test]
async fn a_run_says_by_which_time_out_it_is_ended_and_when() {
    let shop = Shop::open();
    std::fs::write(shop.folder().join("handlers/held.rhai"), "wait_for_signal(\"go\")\n").unwrap();
    let branched = "parallel(#{ a: || wait_for_signal(\"one\"), b: || sleep(\"nap\", \"8h\") })\n";
    std::fs::write(shop.folder().join("handlers/branched.rhai"), branched).unwrap();
    reload(&shop, &[("\nfunctions:\n", LIMITED)]).await;

    let waiting = shop.run_in(&["waiting"], "safe/asked", json!({})).await;
    let says = told(&shop, &waiting).await;
    all_say(&says, "; ends by timeouts.finish in 1");
    assert!(says[0].contains("waits for signal `go`; without a time-out of its own; ends by timeouts.finish in 1"), "{says:?}");

    let queued = shop.run_in(&["queued"], "safe/asked", json!({})).await;
    let says = told(&shop, &queued).await;
    all_say(&says, "waits for a slot: open-safe allows 1 run at a time");
    all_say(&says, "; ends by timeouts.start in ");
    all_say(&says, " unless it has begun by then");

    // Of several branches each is named, and the end of all of them once.
    let branches = shop.run_in(&["waiting"], "safe/shut", json!({})).await;
    let says = told(&shop, &branches).await;
    all_say(&says, "sleeps; goes on in 7h");
    all_say(&says, "; ends by timeouts.finish in 1");
    assert_eq!(says[0].matches("ends by").count(), 1, "{says:?}");
    // The list says it as well.
    let list = shop.get("/v1/runs?function=shut-safe").await["data"][0]["why"].as_str().unwrap_or_default().to_owned();
    assert!(list.contains("ends by timeouts.finish in 1"), "{list}");

    // While its function is paused, the time in line does not count.
    shop.ask(Method::POST, "/v1/functions/open-safe/pause", None).await;
    let paused = told(&shop, &queued).await;
    assert!(paused.iter().all(|text| text.contains("open-safe is paused") && !text.contains("ends by")), "{paused:?}");
}
