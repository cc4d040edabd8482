//! `kv::*`: what a step changes is true with its record, or not at all.

use super::*;

/// A further run of the same handler, on the same store.
fn again(bench: &mut Bench) -> String {
    bench.create();
    bench.finish().output().to_owned()
}

#[test]
fn a_step_sees_its_own_changes_and_others_see_them_once_it_is_recorded() {
    let mut bench = Bench::new(
        r#"let first = step("first", || {
            kv::set("a", #{ n: json::parse("12345678901234567890") });
            let was = kv::get("a").n;
            kv::incr("count");
            kv::incr("count", 4);
            [was, kv::get("count"), kv::delete("a"), kv::delete("a"), kv::get("a"), kv::get("a", 7)]
        });
        let second = step("second", || [kv::get("count"), kv::update("list", |old| (old ?? []) + [1]), kv::update("list", |old| old + [2])]);
        [first, second, step("third", || kv::update("list", |old| ())), step("fourth", || kv::get("list"))]"#,
    );
    assert_eq!(bench.finish().output(), "[[12345678901234567890,5,true,false,null,7],[5,[1],[1,2]],null,null]");
    assert_eq!(bench.store.value("count").unwrap().unwrap().value, Json::from("5"));
    assert_eq!(bench.store.value("list").unwrap(), None);
}

#[test]
fn what_a_failed_attempt_changed_is_forgotten() {
    let mut bench = Bench::new(
        r#"let n = step("count", || {
            let n = kv::incr("count");
            kv::set(`attempt ${run.attempt}`, true);
            if run.attempt < 3 { throw "not yet"; }
            n
        });
        // The script goes over its records again; the step does not.
        sleep("1h");
        try { step("never", #{ retries: 0 }, || { kv::incr("count"); throw "no"; }); } catch (e) {}
        [n, step("read", || [kv::get("count"), kv::get("attempt 1"), kv::get("attempt 3")])]"#,
    );
    assert_eq!(bench.finish().output(), "[1,[1,null,true]]");
    assert_eq!(again(&mut bench), "[2,[2,null,true]]");
}

#[test]
fn what_fails_the_run_in_a_step_changes_nothing() {
    let mut bench = Bench::new(r#"step("x", || { kv::set("a", 1); fail("declined"); })"#);
    assert_eq!(bench.finish().message(), "declined");
    assert_eq!(bench.store.value("a").unwrap(), None);
}

#[test]
fn a_value_is_there_until_its_time_is_over() {
    let mut bench = Bench::new(
        r#"step("set", || { kv::set("a", 1, #{ ttl: "1h" }); kv::incr("n", 1, #{ ttl: "1h" }); });
        let before = step("before", || [kv::get("a"), kv::incr("n", 1, #{ ttl: "9h" }), kv::update("a", |old| old + 1)]);
        sleep("59m59s");
        let still = step("still", || [kv::get("a"), kv::get("n")]);
        sleep("1s");
        let after = step("after", || [kv::get("a"), kv::get("n"), kv::incr("n"), kv::delete("a")]);
        [before, still, after]"#,
    );
    assert_eq!(bench.finish().output(), "[[1,2,2],[2,2],[null,null,1,false]]");
}

#[test]
fn a_step_whose_run_was_moved_on_by_somebody_else_changes_nothing() {
    let mut bench = Bench::new(r#"step("x", || { kv::set("a", 1); http::get("http://192.0.2.1/") })"#);
    bench.surroundings.http.private_allowed = true;
    bench.create();
    let program = bench.program();
    let call_of_run = bench.start(&program);
    // A cancel while the step is under way.
    let row = bench.row();
    bench.commit(List {
        expect: vec![],
        writes: vec![Write::End {
            run: row.id,
            state: RunState::Cancelled,
            at: Millis(START),
            output: None,
            error: None,
            reason: Some(Arc::from("by hand")),
        }],
    });
    let other = Bench::new(r#"step("x", || { kv::set("a", 1); 2 })"#).program();
    let stopped = block_on(&bench.clock, call(other, call_of_run, bench.ports(), Stop::new())).unwrap();
    assert_eq!(stopped.outcome, Outcome::Lost);
    assert_eq!(bench.store.value("a").unwrap(), None);
}

#[test]
fn a_key_that_another_step_holds_is_waited_for_and_given_up_after_ten_seconds() {
    let mut bench = Bench::new(r#"step("x", #{ retries: 0 }, || kv::incr("a"))"#);
    let keys = Arc::clone(&bench.keys);
    let held = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(keys.hold(Arc::from("a")));
    let end = bench.finish();
    assert_eq!((end.code(), end.message()), ("E0427", "kv::incr: another step has held the key `a` for 10s"));
    drop(held);
    assert_eq!(again(&mut bench), "1");
}

#[test]
fn what_no_key_and_no_value_can_be_is_refused() {
    let cases = [
        (r#"kv::get("")"#, "E0407", "1 to 512 bytes"),
        (r#"let k = "k"; for i in 0..10 { k += k; } kv::set(k, 1)"#, "E0407", "1 to 512 bytes, not 1024"),
        (r#"kv::set("a", || 1)"#, "E0404", "the value for the key `a` is a closure"),
        (r#"kv::set("a", secret("KEY"))"#, "E0406", "secret"),
        (r#"kv::set("a", "x a-secret-of-the-test")"#, "E0406", "contains the secret KEY"),
        (r#"let o = #{ tll: "1h" }; kv::set("a", 1, o)"#, "E0407", "kv has no option `tll`"),
        (r#"kv::set("a", 1, #{ ttl: "0s" })"#, "E0407", "longer than 0s"),
        (r#"kv::set("a", "text"); kv::incr("a")"#, "E0407", "under `a` is no whole number"),
        (r#"kv::set("a", 9223372036854775807); kv::incr("a")"#, "E0407", "does not fit 64 bits"),
        (r#"let t = "x"; for i in 0..21 { t += t; } kv::set("a", t)"#, "E0405", "larger than"),
        (r#"for i in 0..1001 { kv::set(`k${i}`, i); }"#, "E0407", "at most 1000 keys"),
    ];
    for (code_of, code, message) in cases {
        let end = Bench::new(&format!("step(\"x\", || {{ {code_of} }})")).secret("KEY", "a-secret-of-the-test").attempts(1).finish();
        assert!(end.code() == code && end.message().contains(message), "{code_of}: {} {}", end.code(), end.message());
        assert_eq!(end.row.state, RunState::Failed);
    }
}
