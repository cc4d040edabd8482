//! Races of steps and sleeps: who is first, what is recorded of it, and what a replay makes of that.

use stepwell::rules::{Kind, row::Recorded};

use super::*;

/// A run whose first attempt has suspended it, an hour later: whatever it slept for is over, and nobody was there when it was.
fn an_hour_later(script: &str) -> (Bench, End) {
    let mut bench = Bench::new(script);
    bench.create();
    let program = bench.program();
    let stopped = bench.attempt(&program).unwrap();
    assert!(matches!(stopped.outcome, Outcome::Suspended { .. }), "{stopped:?}");
    bench.follow(stopped);
    bench.clock.set(Millis(START + 3_600_000));
    let end = bench.finish_with(&program);
    (bench, end)
}

/// The steps that began, in order.
fn begun(bench: &Bench) -> Vec<String> {
    bench.told.lines().iter().filter_map(|line| Some(line.strip_prefix("begin ")?.to_owned())).collect()
}

#[test]
fn the_first_branch_to_end_gives_its_name_and_its_value() {
    let script = r#"
        let named = race(#{ slow: || { sleep("1h"); 1 }, fast: || { sleep("1m"); step("ask", || 2) } });
        let listed = race([|| sleep("1h"), || step("now", || [1.5, ()])], #{ id: "second" });
        let each = race([3, 1, 2], |minutes| { sleep(`${minutes}m`); minutes * 10 });
        [named, listed, each]
    "#;
    let mut bench = Bench::new(script);
    let end = bench.finish();
    assert_eq!(end.output(), r#"[{"name":"fast","value":2},{"index":1,"value":[1.5,null]},{"index":1,"value":10}]"#);
    let races: Vec<&Record> = end.journal.records.iter().filter(|record| record.kind == Kind::Race).collect();
    assert_eq!(races.iter().map(|record| &*record.key).collect::<Vec<_>>(), ["race", "second", "race#2"]);
    assert_eq!(races[0].result, Recorded::Value(r#"{"name":"fast","value":2,"left":["slow"]}"#.into()), "it says who was left");
    assert_eq!(begun(&bench), ["race › fast › ask 1", "second › 1 › now 1"]);
}

#[test]
fn a_replay_takes_the_record_of_a_race_and_runs_no_branch() {
    let script = r#"
        let won = race(#{ a: || step("a", || { log::info("at work"); 1 }), b: || sleep("1h") });
        sleep("1m");
        step("after", || won.name)
    "#;
    let mut bench = Bench::new(script);
    let end = bench.finish();
    assert_eq!(end.output(), "\"a\"");
    assert_eq!(end.keys(), ["step race › a › a", "sleep race › b › sleep", "race race", "sleep sleep", "step after"]);
    assert_eq!((begun(&bench), end.log()), (vec!["race › a › a 1".to_owned(), "after 1".to_owned()], vec!["at work"]));
}

#[test]
fn of_branches_that_have_ended_while_nobody_was_there_the_one_counts_that_was_over_first() {
    let (_, end) = an_hour_later(r#"race([|| { sleep("20m"); "slow" }, || { sleep("10m"); "fast" }])"#);
    assert_eq!(end.output(), r#"{"index":1,"value":"fast"}"#);
    let (_, end) = an_hour_later(r#"race([|| { sleep("10m"); "first" }, || { sleep("10m"); "second" }])"#);
    assert_eq!(end.output(), r#"{"index":0,"value":"first"}"#, "of two at the same moment the one that stands first");
    let inner = r#"race(#{ inner: || race(#{ a: || { sleep("10m"); 1 }, b: || sleep("20m") }).name, late: || sleep("15m") })"#;
    let (_, end) = an_hour_later(inner);
    assert_eq!(end.output(), r#"{"name":"inner","value":"a"}"#, "a race within was over when its first branch was");
    let both = r#"race(#{ both: || parallel([|| sleep("10m"), || sleep("20m")]), late: || sleep("15m") })"#;
    let (_, end) = an_hour_later(both);
    assert_eq!(end.output(), r#"{"name":"late","value":null}"#, "branches within were over when the last of them was");
}

#[test]
fn nothing_new_begins_where_a_branch_has_ended_by_what_is_recorded() {
    let (bench, end) = an_hour_later(r#"race([|| { sleep("10m"); step("x", || 1) }, || sleep("20m")])"#);
    assert_eq!(end.output(), r#"{"index":1,"value":null}"#);
    assert_eq!(begun(&bench), Vec::<String>::new());
    // The engine was killed after the step's record, and before that of the race.
    let mut bench = Bench::new(r#"let won = race([|| step("one", || 1), || step("two", || 2)]); step("after", || won.index)"#);
    bench.create();
    let record = Record {
        index: 0,
        key: "race › 0 › one".into(),
        kind: Kind::Step,
        result: Recorded::Value("7".into()),
        attempts: 1,
        started: Millis(START),
        ended: Millis(START),
        line: None,
    };
    bench.commit(List { expect: Vec::new(), writes: vec![Write::Append { run: bench.run, record }] });
    let end = bench.finish();
    assert_eq!((end.output(), begun(&bench)), ("0", vec!["after 1".to_owned()]));
    assert_eq!(end.keys(), ["step race › 0 › one", "race race", "step after"]);
}

#[test]
fn the_error_of_the_first_branch_is_thrown_and_recorded() {
    let script = r#"
        let seen = [];
        fn told(e) { `${e.step}: ${e.message} ${e.code}` }
        try { race(#{ bad: || step("ask", #{ retries: 0 }, || throw "no"), late: || sleep("1h") }); } catch (e) { seen.push(told(e)); }
        try { race([|| { sleep("1m"); throw "plain" }, || sleep("1h")]); } catch (e) { seen.push(told(e)); }
        try { race([|| { || 1 }, || sleep("1h")]); } catch (e) { seen.push(told(e)); }
        let caught = || { let got = (); try { throw "caught" } catch (e) { got = e; } got };
        seen.push(race([caught, || sleep("1h")]).value);
        step("mark", || 1);
        sleep("1m");
        seen
    "#;
    let mut bench = Bench::new(script);
    let end = bench.finish();
    let seen: Vec<String> = serde_json::from_str(end.output()).unwrap();
    assert_eq!(seen[..2], ["race › bad › ask: no ", "race#2 › 0: plain "]);
    assert!(seen[2].starts_with("race#3 › 0: ") && seen[2].ends_with("E0404"), "{seen:?}");
    assert_eq!(seen[3], "caught");
    assert!(end.journal.attempts.iter().all(|attempt| !attempt.key.is_empty()), "the code between steps has not failed: {end:?}");
    let end = Bench::new(r#"race([|| throw "no way", || sleep("1h")])"#).finish();
    assert_eq!((end.row.state, end.message()), (RunState::Failed, "no way"), "what is decided is not tried again");
    let end = Bench::new(r#"try { race([|| fail("enough"), || sleep("1h")]) } catch { } 1"#).finish();
    assert_eq!((end.row.state, end.message()), (RunState::Failed, "enough"), "catch does not see it");
}

#[test]
fn races_and_other_branches_lie_in_each_other() {
    let script = r#"
        let out = [];
        for i in 0..2 { out.push(race([|| step("x", || i), || sleep("1h")]).value); }
        let both = parallel(#{ p: || race(#{ a: || step("a", || 1), b: || sleep("1h") }).value, q: || { sleep("2h"); step("q", || 2) } });
        let won = race(#{ all: || parallel([|| step("x", || 1), || { sleep("10m"); 2 }]), late: || sleep("1h") });
        #{ out: out, both: both, won: won }
    "#;
    let mut bench = Bench::new(script);
    let end = bench.finish();
    assert_eq!(end.output(), r#"{"both":{"p":1,"q":2},"out":[0,1],"won":{"name":"all","value":[1,2]}}"#);
    let mut begun = begun(&bench);
    begun.sort();
    assert_eq!(begun, ["p › race › a › a 1", "q › q 1", "race › 0 › x 1", "race#2 › 0 › x 1", "race#3 › all › 0 › x 1"]);
}

#[test]
fn a_sleep_is_over_once_branches_below_have_recorded_something_whatever_the_clock_shows() {
    let groups = [("race", "0 › race › 0 › sleep"), ("parallel", "0 › 0 › sleep"), ("parallel", "0 › 1 › race › 0 › sleep")];
    for (group, below) in groups {
        let script = format!(
            r#"parallel([
                || {{ sleep("nap", "1m"); log::info("awake"); {group}([|| sleep("1h"), || race([|| sleep("2h")])]); log::info("late"); "up" }},
                || step("x", || 1),
            ])"#
        );
        let mut bench = Bench::new(&script);
        bench.create();
        let slept = |index, key: &str, minutes: i64| Record {
            index,
            key: key.into(),
            kind: Kind::Sleep,
            result: Recorded::Until(Millis(START + minutes * 60_000)),
            attempts: 1,
            started: Millis(START),
            ended: Millis(START),
            line: None,
        };
        // Somebody has set the clock back since.
        let writes = [slept(0, "0 › nap", 1), slept(1, below, 90)].map(|record| Write::Append { run: bench.run, record });
        bench.commit(List { expect: Vec::new(), writes: writes.into() });
        let end = bench.finish();
        assert_eq!((end.output(), begun(&bench)), (r#"["up",1]"#, vec!["1 › x 1".to_owned()]), "{group}");
        assert_eq!(end.log(), ["late"], "what was said before the records of {below} is not said again");
    }
}

#[test]
fn a_race_that_is_not_there_any_more_or_has_changed_is_told_of() {
    let script = r#"step("one", || 1); let won = race(#{ a: || { sleep("1h"); 1 }, b: || step("b", || 2) }); sleep("1d"); won"#;
    let mut bench = Bench::new(script);
    bench.create();
    let stopped = bench.attempt(&bench.program()).unwrap();
    bench.follow(stopped);
    assert_eq!(bench.end().keys(), ["step one", "sleep race › a › sleep", "step race › b › b", "race race", "sleep sleep"]);
    // What is recorded below it is no longer asked for, so its branches may be others.
    bench.files.insert("handlers/main.rhai".to_owned(), r#"step("one", || 1); race([|| 7]); sleep("1d"); 5"#.to_owned());
    let program = bench.program();
    let stopped = bench.attempt(&program).unwrap();
    assert!(matches!(stopped.outcome, Outcome::Suspended { .. }), "{stopped:?}");
    bench.follow(stopped);
    bench.files.insert("handlers/main.rhai".to_owned(), r#"step("one", || 1); sleep("1d"); 5"#.to_owned());
    let stopped = bench.attempt(&bench.program()).unwrap();
    let Outcome::Unfit(why) = &stopped.outcome else { panic!("{stopped:?}") };
    assert!(why.to_string().contains("race › a › sleep"), "{why}");
}

#[test]
fn how_many_branches_a_race_has_and_what_it_is_called_is_checked_when_it_runs_too() {
    let script = r#"
        let codes = [];
        let none = [];
        let many = []; for i in 0..257 { many.push(i); }
        fn told(e) { `${e.code} ${e.message}` }
        try { race(none); } catch (e) { codes.push(told(e)); }
        try { race(many, |n| n); } catch (e) { codes.push(told(e)); }
        let id = 7;
        try { race([|| 1], #{ id: id }); } catch (e) { codes.push(told(e)); }
        id = "a#b";
        try { race([|| 1], #{ id: id }); } catch (e) { codes.push(told(e)); }
        let sum = 0;
        try { race([|| { sum += 1; }]); } catch (e) { codes.push(told(e)); }
        codes
    "#;
    let end = Bench::new(script).finish();
    let codes: Vec<String> = serde_json::from_str(end.output()).unwrap();
    assert_eq!(codes[..2], ["E0407 race takes 1 to 256 branches", "E0407 race takes 1 to 256 branches"]);
    assert_eq!(codes[2], "E0407 the option `id` of race is a text");
    assert!(codes[3].starts_with("E0401 "), "{codes:?}");
    assert_eq!(codes[4], "E0411 a branch of race changes the captured variable `sum`; each branch works on a copy of its own");
}

#[test]
fn a_race_and_a_branch_never_share_a_place() {
    let script = r#"
        let sent = parallel(#{ mail: || step("send", || 1) });
        let won = race(#{ send: || step("send", || 2), late: || sleep("1h") }, #{ id: "mail" });
        let code = ();
        try { race([|| 3], #{ id: "post" }); parallel(#{ post: || 4 }); } catch (e) { code = `${e.code} ${e.message}`; }
        [sent.mail, won.value, code]
    "#;
    let mut bench = Bench::new(script);
    let end = bench.finish();
    let output: Vec<serde_json::Value> = serde_json::from_str(end.output()).unwrap();
    assert_eq!(output[..2], [serde_json::json!(1), serde_json::json!(2)]);
    assert_eq!(output[2], "E0407 a race is called `post`, and so would be a branch of `parallel`");
    let mut keys = end.keys();
    keys.sort();
    assert_eq!(keys, ["race mail#2", "race post", "sleep mail#2 › late › sleep", "step mail › send", "step mail#2 › send › send"]);
}
