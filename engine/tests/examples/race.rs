//! A seat that is held until the first of several things happens: what comes first counts, and the rest ends with it.

use super::{ask, example, start, try_example, until};

#[test]
fn race_goes_on_with_what_comes_first_and_leaves_the_rest() {
    let folder = example("race");
    let (result, tree) = try_example(folder.path(), "seat/held");
    assert_eq!(result, serde_json::json!({"seat": "12A", "state": "free again"}));
    assert!(tree.contains("by late, left: paid, sold"), "{tree}");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "seat/held", "--example"]);
    until(folder.path(), &server, "watch-box-office", "waiting");
    until(folder.path(), &server, "hold-seat", "waiting");
    ask(folder.path(), &server, &["send", "seat/paid", "seat=12A", "by=ada"]);
    let run = until(folder.path(), &server, "hold-seat", "completed");
    assert_eq!(run["output"], serde_json::json!({"seat": "12A", "state": "booked", "by": "ada"}));
    until(folder.path(), &server, "watch-box-office", "cancelled");
    let trace = ask(folder.path(), &server, &["runs", "trace", run["run_id"].as_str().unwrap()]);
    let steps = trace["steps"].as_array().unwrap();
    let step = |key: &str| steps.iter().find(|step| step["key"] == key).unwrap_or_else(|| panic!("{key} in {trace:#}"));
    let race = step("outcome");
    assert_eq!(race["kind"], "race");
    assert_eq!(race["status"], "completed");
    assert_eq!(race["first"], "paid");
    assert_eq!(race["left"], serde_json::json!(["late", "sold"]));
    assert_eq!(step("outcome › late › sleep")["status"], "left");
    assert_eq!(step("outcome › paid › seat/paid")["status"], "completed");
    assert!(server.stop().0.success());
}
