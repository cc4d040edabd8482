//! A way that few runs go: what was drawn is recorded, and stays.

use super::{ask, example, start, until};

#[test]
fn experiment_keeps_a_run_on_the_way_that_it_has_drawn() {
    let folder = example("experiment");
    let server = start(folder.path());
    ask(folder.path(), &server, &["send", "user/joined", "--example"]);
    let run = until(folder.path(), &server, "welcome", "completed");
    let id = run["run_id"].as_str().unwrap();
    let step_of = |run: &serde_json::Value| format!("write-{}", run["output"]["letter"].as_str().unwrap());
    let trace = ask(folder.path(), &server, &["runs", "trace", id]);
    let keys: Vec<&str> = trace["steps"].as_array().unwrap().iter().map(|step| step["key"].as_str().unwrap()).collect();
    assert_eq!(keys, [step_of(&run)], "{trace:#}");
    // Done again from its step on, it keeps the draw: whichever it was, another draw would differ from it some time.
    for _ in 0..20 {
        let again = ask(folder.path(), &server, &["replay", id, "--from", &step_of(&run)]);
        let again = loop {
            let run = until(folder.path(), &server, "welcome", "completed");
            if run["run_id"] == again[0]["run_id"] {
                break run;
            }
        };
        assert_eq!(again["output"]["letter"], run["output"]["letter"], "{again:#}");
    }
    assert!(server.stop().0.success());
}
