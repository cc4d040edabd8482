//! `publish`: what steps tell those who listen to channels.

use super::*;

/// What was published, of all that the watcher was told.
fn published(bench: &Bench) -> Vec<String> {
    bench.told.lines().into_iter().filter_map(|line| line.strip_prefix("publish ").map(str::to_owned)).collect()
}

#[test]
fn a_step_publishes_whenever_its_body_runs_and_a_replay_does_not() {
    let mut bench = Bench::new(
        r#"let first = step("first", || {
            publish("import:f1", #{ attempt: run.attempt, at: 1.50 }, #{ topic: "progress" });
            publish(`import:${event.data.file}`, "half of it");
            if run.attempt < 2 { throw "not yet"; }
            publish("log", ())
        });
        sleep("1h");
        let all = parallel([1, 2], |n| { sleep("2h"); step("branch", || publish("branches", n)); }, #{ limit: 1 });
        step("last", || { publish("import:f1", [first, all]); 7 })"#,
    )
    .data(r#"{"file":"f2"}"#);
    let end = bench.finish();
    assert_eq!(end.output(), "7");
    assert_eq!(
        published(&bench),
        [
            r#"import:f1 progress {"at":1.5,"attempt":1}"#,
            r#"import:f2 - "half of it""#,
            r#"import:f1 progress {"at":1.5,"attempt":2}"#,
            r#"import:f2 - "half of it""#,
            "log - null",
            "branches - 1",
            "branches - 2",
            "import:f1 - [null,[null,null]]",
        ]
    );
    assert!(end.keys().iter().all(|key| !key.contains("import:")), "it leaves no record: {:?}", end.keys());
    assert!(end.log().is_empty(), "{:?}", end.log());
}

#[test]
fn a_secret_is_blanked_in_what_is_published_and_refused_in_names() {
    let value = "sk_live_\"1234567890";
    let script = format!(
        r#"let text = json::parse("{}");
        step("tell", || publish("a", #{{ key: secret("KEY"), text: `it is ${{text}}`, deep: [text] }}));
        step("names", || {{
            let told = [];
            for name in [|| publish(text, 1), || publish("a", 1, #{{ topic: text }})] {{ try {{ name.call(); }} catch (e) {{ told.push(`${{e}}`); }} }}
            told
        }})"#,
        r#"\"sk_live_\\\"1234567890\""#
    );
    let mut bench = Bench::new(&script).secret("KEY", value).attempts(1);
    let end = bench.finish();
    let told = end.output();
    assert!(told.contains("a channel's name contains the secret KEY") && told.contains("a topic contains the secret KEY"), "{told}");
    assert_eq!(published(&bench), [r#"a - {"deep":["«secret KEY»"],"key":"«secret KEY»","text":"it is «secret KEY»"}"#]);
    assert!(!bench.told.lines().join("\n").contains("1234567890"));
}

#[test]
fn what_cannot_be_published_ends_its_step_with_the_reason() {
    for (call, code, message) in [
        ("publish(event.data.none, 1)", "E0407", "a channel's name has 1 to 200 bytes, not 0"),
        ("publish(large.sub_string(0, 201), 1)", "E0407", "a channel's name has 1 to 200 bytes, not 201"),
        ("publish(\"a\", 1, #{ topic: large })", "E0407", "a topic has 1 to 200 bytes, not 131072"),
        ("publish(\"a\", 1, #{ topic: event.data.five })", "E0407", "the topic of publish is a text"),
        ("let o = #{}; o[\"tpoic\"] = \"x\"; publish(\"a\", 1, o)", "E0407", "publish has no option `tpoic`"),
        ("publish(\"a\", [#{ f: || 1 }])", "E0404", "the message to `a`[0].f is a closure"),
        ("publish(\"a\", [large])", "E0405", "the message to `a` is larger than 65536 bytes"),
    ] {
        let script = format!("step(\"tell\", || {{ let large = \"x\"; for n in 0..17 {{ large = large + large; }} {call}; }})");
        let mut bench = Bench::new(&script).data(r#"{"five":5,"none":""}"#).attempts(1);
        let end = bench.finish();
        assert_eq!(end.code(), code, "{call}: {}", end.message());
        assert!(end.message().contains(message), "{call}: {}", end.message());
        assert_eq!(published(&bench), [] as [&str; 0], "{call}");
    }
}
