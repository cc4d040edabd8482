//! One function with two schedules: each starts it, and each can be tried and tested by itself.

use super::{ask, example, json, start};
use crate::program::stepwell;

#[test]
fn cron_opens_a_shop_by_two_schedules() {
    let folder = example("cron");
    let tried = |more: &[&str]| json(&stepwell(folder.path(), ["try", "--cron", "open-shop"].iter().chain(more).copied()));
    assert_eq!(tried(&[])["loaves"], 20);
    assert_eq!(tried(&["--schedule", "0 11 * * SAT,SUN"])["loaves"], 60);
    let refused = stepwell(folder.path(), ["try", "--cron", "open-shop", "--schedule", "0 12 * * SAT,SUN"]);
    assert_eq!(refused.exit, 3);
    assert!(refused.stderr.contains("it has `0 9 * * MON-FRI`, `0 11 * * SAT,SUN`"), "{}", refused.stderr);
    let wrong = "function: open-shop\ntests:\n  - { name: opens, cron: 0 12 * * SAT, expect: { status: completed } }\n";
    std::fs::write(folder.path().join("tests/open-shop.test.yaml"), wrong).unwrap();
    let refused = stepwell(folder.path(), ["test"]);
    let said = [refused.stdout, refused.stderr].concat();
    assert!(refused.exit != 0 && said.contains("`0 12 * * SAT` is no schedule of the function `open-shop`"), "{said}");
    let server = start(folder.path());
    let functions = ask(folder.path(), &server, &["functions", "ls"]);
    let next: Vec<&str> = functions[3]["cron"].as_array().unwrap().iter().map(|cron| cron["next"].as_str().unwrap()).collect();
    assert!(next.len() == 2 && next[0].contains("T09:00:00+0") && next[1].contains("T11:00:00+0"), "{functions}");
    assert!(server.stop().0.success());
}
