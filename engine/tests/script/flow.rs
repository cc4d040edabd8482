//! Steps, records, keys, sleeps, attempts and errors.

use stepwell::rules::row::AskedBy;

use super::*;

#[test]
fn a_step_is_recorded_and_its_result_is_what_was_stored() {
    let mut bench = Bench::new(r#"let x = step("one", || #{ a: 1, b: [(), "é😀", 1.5] }); log::info("after", x); x"#);
    let end = bench.finish();
    assert_eq!(end.output(), r#"{"a":1,"b":[null,"é😀",1.5]}"#);
    assert_eq!(end.keys(), ["step one"]);
    assert_eq!(end.log(), ["after"]);
    assert_eq!(end.journal.records[0].line.as_deref(), Some("handlers/main.rhai:1"));
}

#[test]
fn a_sleep_suspends_and_finished_steps_do_not_run_again() {
    let mut bench =
        Bench::new(r#"step("a", || { log::info("in a"); 1 }); log::info("before"); sleep("1h"); log::info("after"); step("b", || 2)"#);
    let end = bench.finish();
    assert_eq!(end.output(), "2");
    assert_eq!(end.keys(), ["step a", "sleep sleep", "step b"]);
    assert_eq!(end.log(), ["in a", "before", "after"]);
    assert_eq!(end.row.ended, Some(Millis(START + 3_600_000)));
}

#[test]
fn a_sleep_of_a_number_of_seconds_suspends_too() {
    let end = Bench::new(r#"sleep(90); sleep(1.5); sleep("nap", 30); "awake""#).finish();
    assert_eq!(end.output(), r#""awake""#);
    assert_eq!(end.keys(), ["sleep sleep", "sleep sleep#2", "sleep nap"]);
    assert_eq!(end.row.ended, Some(Millis(START + 121_500)));
}

#[test]
fn a_failing_step_is_tried_again_after_its_back_off_and_keeps_its_own_count() {
    let mut bench = Bench::new(
        r#"step("first", || 1);
        step("x", #{ retries: 2, backoff: #{ kind: "fixed", initial: "1m", jitter: 0 } }, || {
            log::info(`attempt ${run.attempt} of ${run.max_attempts}`);
            if run.attempt < 3 { throw "not yet"; }
            run.attempt
        })"#,
    );
    let end = bench.finish();
    assert_eq!(end.output(), "3");
    assert_eq!(end.log(), ["attempt 1 of 3", "attempt 2 of 3", "attempt 3 of 3"]);
    assert_eq!(end.row.ended, Some(Millis(START + 120_000)));
    let errors: Vec<_> = end.journal.attempts.iter().map(|row| (&*row.key, row.attempt, row.error.message.as_str())).collect();
    assert_eq!(errors, [("x", 1, "not yet"), ("x", 2, "not yet")]);
    assert_eq!(end.journal.records[1].attempts, 3);
    let told = bench.told.lines();
    assert!(told.contains(&"begin x 3".to_owned()) && told.contains(&"record step x".to_owned()), "{told:?}");
}

#[test]
fn a_record_waits_for_no_script_whose_few_operations_take_long() {
    let clock: Arc<std::sync::OnceLock<Arc<TestClock>>> = Arc::default();
    let host = Host::with(|natives| {
        let clock = Arc::clone(&clock);
        natives.engine().register_fn("slow", move || {
            clock.get().unwrap().now.fetch_add(1_000, Ordering::SeqCst);
        });
    });
    let mut bench = Bench::on(host, "step(\"a\", || 1); for i in 0..20 { slow(); }");
    assert!(clock.set(Arc::clone(&bench.clock)).is_ok());
    bench.create();
    let program = bench.program();
    bench.attempt(&program).unwrap();
    assert_eq!(bench.end().keys(), ["step a"]);
}

#[test]
fn a_used_up_step_throws_a_step_error_once_and_at_each_replay() {
    let bench = Bench::new(
        r#"let seen = ();
        try { step("x", || { throw #{ message: "broken", why: 7 } }); } catch (e) { seen = [e.step, e.message, e.attempts, e.data.why]; }
        sleep("1m");
        step("y", || seen)"#,
    );
    let end = bench.attempts(2).finish();
    assert_eq!(end.output(), r#"["x","broken",2,7]"#);
    assert_eq!(end.keys(), ["step x", "sleep sleep", "step y"]);
}

#[test]
fn a_throw_between_steps_is_tried_again_and_its_count_starts_over_with_each_record() {
    let tries = Arc::new(AtomicI64::new(0));
    let host = Host::with(|natives| {
        natives.engine().register_fn("tries", move || tries.fetch_add(1, Ordering::SeqCst) + 1);
    });
    let script = r#"let n = tries();
        if n < 3 { throw "before " + run.attempt; }
        step("a", || 1);
        if n < 5 { throw "after " + run.attempt; }
        run.attempt"#;
    let end = Bench::on(host, script).finish();
    assert_eq!(end.output(), "3");
    let errors: Vec<_> = end.journal.attempts.iter().map(|row| (row.attempt, row.error.message.as_str())).collect();
    assert_eq!(errors, [(1, "before 1"), (2, "before 2"), (1, "after 1"), (2, "after 2")]);
}

#[test]
fn used_up_attempts_between_steps_fail_the_run_with_line_and_column() {
    let bench = Bench::new("let x = 1;\nfn f(x) {\n  throw #{ message: \"bad\", why: x }\n}\n  f(7)");
    let end = bench.attempts(2).finish();
    assert_eq!((end.row.state, end.message()), (RunState::Failed, "bad"));
    let error = end.row.error.as_ref().unwrap();
    assert_eq!(error.data, Some(serde_json::json!({ "message": "bad", "why": 7 })));
    let trace: Vec<_> = error.trace.iter().map(|place| (place.line, place.column, place.within.as_deref())).collect();
    assert_eq!(trace, [(3, 3, Some("f")), (5, 3, None)]);
}

#[test]
fn an_error_in_an_imported_file_names_that_file() {
    let bench = Bench::new("import \"lib/x\" as x;\nstep(\"s\", || x::third(2))")
        .file("handlers/lib/x.rhai", "fn third(n) {\n  let list = [1];\n  list[n]\n}");
    let end = bench.attempts(1).finish();
    let trace = &end.row.error.as_ref().unwrap().trace;
    assert_eq!((trace[0].file.as_str(), trace[0].line), ("handlers/lib/x.rhai", 3));
    assert_eq!((trace[1].file.as_str(), trace[1].line), ("handlers/main.rhai", 2));
}

#[test]
fn steps_of_one_name_are_counted_and_a_loop_works() {
    let mut bench = Bench::new(r#"let sum = 0; for i in 1..=4 { sum += step("x", || i * 10); if i == 2 { sleep("1m"); } } sum"#);
    let end = bench.finish();
    assert_eq!(end.output(), "100");
    assert_eq!(end.keys(), ["step x", "step x#2", "sleep sleep", "step x#3", "step x#4"]);
}

#[test]
fn an_uncaught_step_error_ends_the_run_without_another_attempt() {
    for script in [
        r#"step("x", || throw "no")"#,
        r#"try { step("x", || throw "no"); } catch (e) { throw e; }"#,
        r#"[1].map(|i| step("x", || throw "no"))"#,
    ] {
        let script = script.replace("throw \"no\"", "{ throw \"no\" }");
        let end = Bench::new(&script).attempts(2).finish();
        assert_eq!((end.row.state, end.message(), end.journal.attempts.len()), (RunState::Failed, "no", 2), "{script}");
        let error = end.row.error.as_ref().unwrap();
        assert_eq!((error.step.as_deref(), error.attempts), (Some("x"), Some(2)), "{script}");
    }
}

#[test]
fn retry_after_says_when_the_next_attempt_comes() {
    let mut bench = Bench::new(r#"step("x", || { if run.attempt == 1 { retry_after("7m", "busy"); } 1 })"#);
    let end = bench.finish();
    assert_eq!((end.output(), end.row.ended), ("1", Some(Millis(START + 420_000))));
    assert_eq!(end.journal.attempts[0].error.asked, Some(AskedBy::Script));
    let mut bench = Bench::new(r#"step("x", || { if run.attempt == 1 { retry_after(now() + "9m", "busy"); } 1 })"#);
    let row = bench.finish().journal.attempts.remove(0);
    assert_eq!(row.next.unwrap().since(row.ended), Span::seconds(540));
    let mut bench = Bench::new(r#"if run.attempt == 1 { retry_after(60, "busy"); } 1"#);
    let end = bench.finish();
    assert_eq!((end.output(), end.row.ended), ("1", Some(Millis(START + 60_000))));
    assert_eq!(end.journal.attempts[0].error.asked, Some(AskedBy::Script), "also of the code between steps");
    // A back-off is asked for by nobody, and no wait comes after the last attempt.
    let script = r#"step("x", || { if run.attempt == 1 { throw "no"; } retry_after("7m", "busy"); })"#;
    let end = Bench::new(script).attempts(2).finish();
    assert_eq!(end.journal.attempts.iter().map(|row| row.error.asked).collect::<Vec<_>>(), [None, None]);
}

#[test]
fn what_is_drawn_between_steps_is_recorded_before_a_step_acts_and_seen_again() {
    let mut bench = Bench::new(
        r#"let a = [now(), uuid(), random(), random(1, 6), pick(["x", "y", "z"])];
        step("keep", || { publish("kept", a); log::info("kept", a); 1 });
        sleep("1h");
        log::info("again", a);
        now().ms - a[0].ms"#,
    );
    let end = bench.finish();
    assert_eq!(end.output(), "3600000");
    assert_eq!(end.logs[0].data, end.logs[1].data);
    assert_eq!(end.keys()[..5], ["now now", "uuid uuid", "random random", "random random#2", "pick pick"]);
    let told = bench.told.lines();
    let at = |line: &str| told.iter().position(|told| told.starts_with(line)).unwrap();
    assert!(at("record pick pick") < at("publish kept"), "{told:?}");
}

#[test]
fn inside_a_step_the_same_calls_are_plain() {
    let mut bench = Bench::new(r#"step("x", || [type_of(now()), uuid().len, random() < 1.0, random(3, 3), pick([5])])"#);
    let end = bench.finish();
    assert_eq!(end.output(), r#"["time",36,true,3,5]"#);
    assert_eq!(end.keys(), ["step x"]);
}

#[test]
fn sleep_until_a_time_and_a_sleep_that_is_over_goes_on_at_once() {
    let mut bench = Bench::new(
        r#"sleep_until("2026-01-01T02:00:00Z"); sleep_until("nap", now() + "30m"); sleep(0); sleep_until("2020-01-01T00:00:00Z"); 1"#,
    );
    let end = bench.finish();
    assert_eq!((end.output(), end.row.ended), ("1", Some(Millis(START + 9_000_000))));
    assert_eq!(end.keys(), ["sleep sleep", "now now", "sleep nap", "sleep sleep#2", "sleep sleep#3"]);
}

#[test]
fn a_refused_sleep_or_pick_keeps_its_place_for_the_replay() {
    let script = r#"
        let seen = [];
        let function = || 1;
        try { sleep_until("2030-01-01T00:00:00Z"); } catch (e) { seen.push(`${e.code} ${e.step}`); }
        try { pick([function]); } catch (e) { seen.push(`${e.code} ${e.step}`); }
        step("a", || 1);
        sleep("1m");
        try { sleep_until("far", "2030-01-01T00:00:00Z"); } catch (e) { seen.push(`${e.code} ${e.step}`); }
        try { pick([function]); } catch (e) { seen.push(`${e.code} ${e.step}`); }
        step("b", || 1);
        sleep("1m");
        seen
    "#;
    let end = Bench::new(script).finish();
    assert_eq!(end.output(), r#"["E0407 sleep","E0404 pick","E0407 far","E0404 pick#2"]"#);
    let keys = ["sleep sleep", "pick pick", "step a", "sleep sleep#2", "sleep far", "pick pick#2", "step b", "sleep sleep#3"];
    assert_eq!(end.keys(), keys);
    assert!(end.journal.attempts.is_empty(), "{:?}", end.journal.attempts);
    let branches = r#"parallel([
        || { let code = (); try { sleep_until("2030-01-01T00:00:00Z"); } catch (e) { code = e.code; } sleep("1m"); code },
        || { let code = (); try { pick([|| 1]); } catch (e) { code = e.code; } sleep("1m"); code },
    ])"#;
    assert_eq!(Bench::new(branches).finish().output(), r#"["E0407","E0404"]"#);
}

#[test]
fn a_refused_sleep_that_nobody_catches_fails_the_run_where_it_stands() {
    let end = Bench::new("step(\"a\", || 1);\nsleep_until(\"2030-01-01T00:00:00Z\")").finish();
    assert_eq!((end.row.state, end.code()), (RunState::Failed, "E0407"));
    let error = end.row.error.as_ref().unwrap();
    assert_eq!((error.step.as_deref(), error.trace.first().map(|place| place.line)), (Some("sleep"), Some(2)));
}

#[test]
fn json_goes_through_a_run_exactly() {
    let data = r#"{"big":123456789012345678901234567890,"dec":0.12345678901234567890123,"i":-9223372036854775808,"n":null,"u":"é\ud83d\ude00","z":1.0}"#;
    let mut bench = Bench::new(r#"step("x", || event.data)"#).data(data);
    let end = bench.finish();
    assert_eq!(
        end.output(),
        r#"{"big":123456789012345678901234567890,"dec":0.12345678901234567890123,"i":-9223372036854775808,"n":null,"u":"é😀","z":1.0}"#
    );
    let end = Bench::new("event.data.big + 1").data(data).attempts(1).finish();
    assert!(end.message().contains("number"), "{}", end.message());
}

#[test]
fn event_and_run_show_what_they_are() {
    let mut bench = Bench::new(
        r#"step("x", || [event.name, event.data.a, event.ts, run.function, run.key, run.attempt, run.max_attempts,
            run.id == run.idempotency_key.sub_string(0, 13), run.idempotency_key.ends_with(".x"), run.started_at, run.replay_of])"#,
    )
    .data(r#"{"a":[1]}"#);
    let end = bench.finish();
    assert_eq!(end.output(), r#"["test/event",[1],1767225600000,"test","user1",1,4,true,true,"2026-01-01T00:00:00.000Z",null]"#);
}

#[test]
fn json_functions() {
    let mut bench = Bench::new(
        r#"let v = json::parse("{\"a\":[{\"b\":1}],\"x/y\":2}");
        [json::stringify(v), json::get(v, "a.0.b"), json::get(v, "/x~1y"), json::get(v, "a.7", "none"), json::get(v, "q"),
         json::merge(#{ a: 1, b: #{ c: 2, d: 3 } }, #{ b: #{ c: 9, d: () }, e: 5 }), json::pretty([1])]"#,
    );
    assert_eq!(bench.finish().output(), r#"["{\"a\":[{\"b\":1}],\"x/y\":2}",1,2,"none",null,{"a":1,"b":{"c":9},"e":5},"[\n  1\n]"]"#);
    assert!(Bench::new("json::parse(\"[1,]\")").attempts(1).finish().message().contains("position 3"));
}

#[test]
fn secrets_show_their_names_alone() {
    let mut bench = Bench::new(
        r#"log::info(`key ${secret("KEY")}`, #{ s: secret("KEY"), t: "sk_live_1234567890" });
        print("sk_live_1234567890");
        throw "sk_live_1234567890 is wrong";"#,
    )
    .secret("KEY", "sk_live_1234567890")
    .attempts(1);
    let end = bench.finish();
    assert_eq!(end.log(), ["key «secret KEY»", "«secret KEY»"]);
    assert_eq!(end.logs[0].data.as_deref(), Some(r#"{"s":"«secret KEY»","t":"«secret KEY»"}"#));
    assert_eq!(end.message(), "«secret KEY» is wrong");
    assert!(!bench.told.lines().join("\n").contains("sk_live"));
}

#[test]
fn a_journal_that_does_not_fit_parks_the_run_and_says_why() {
    let first = r#"step("a", || 1); step("b", || 2); sleep("1h"); 3"#;
    for (second, expected) in [
        (
            r#"step("a", || 1); step("c", || 2); 3"#,
            "the journal has step `b` (handlers/main.rhai:1) where the handler asks for step `c` (handlers/main.rhai:1)",
        ),
        (r#"step("a", || 1); 3"#, "the journal has step `b` (handlers/main.rhai:1) where the handler asks for nothing more"),
        (
            r#"sleep("a", "1s"); 3"#,
            "the journal has step `a` (handlers/main.rhai:1) where the handler asks for sleep `a` (handlers/main.rhai:1)",
        ),
    ] {
        let mut bench = Bench::new(first);
        bench.create();
        let stopped = bench.attempt(&bench.program()).unwrap();
        bench.follow(stopped);
        bench.files.insert("handlers/main.rhai".to_owned(), second.to_owned());
        let end = bench.finish();
        let expected = format!("its record does not fit the handler: {expected}");
        assert_eq!((end.row.state, end.row.reason.as_deref()), (RunState::Parked, Some(&*expected)), "{second}");
    }
    for second in [
        r#"step("b", || 2); step("a", || 1); sleep("1h"); step("new", || 3)"#,
        r#"let renamed = step("a", || 1); step("b", || 2); sleep("1h"); step("new", || 3)"#,
    ] {
        let mut bench = Bench::new(first);
        bench.create();
        let stopped = bench.attempt(&bench.program()).unwrap();
        bench.follow(stopped);
        bench.files.insert("handlers/main.rhai".to_owned(), second.to_owned());
        assert_eq!(bench.finish().output(), "3", "{second}");
    }
}

/// What a handler has recorded that calls `drain()` and is interrupted by that, and what it gives once it goes on.
fn drained(script: &str) -> (Vec<String>, String) {
    let stop = Stop::new();
    let host = Host::with(|natives| {
        let stop = Arc::clone(&stop);
        natives.engine().register_fn("drain", move || stop.drain());
    });
    let mut bench = Bench::on(host, script);
    bench.stop = Arc::clone(&stop);
    bench.create();
    let program = bench.program();
    let stopped = bench.attempt(&program).unwrap();
    assert_eq!(stopped.outcome, Outcome::Interrupted);
    bench.follow(stopped);
    let recorded = bench.end().keys();
    bench.stop = Stop::new();
    (recorded, bench.finish_with(&program).output().to_owned())
}

#[test]
fn a_drain_ends_the_script_at_the_next_step() {
    let (recorded, output) = drained(r#"step("a", || { drain(); 1 }); step("b", || 2)"#);
    assert_eq!((recorded, &*output), (vec!["step a".to_owned()], "2"));
}

#[test]
fn a_drain_leaves_a_branch_its_place_among_those_that_a_limit_lets_in() {
    let script = r#"parallel([|| { step("a", || { drain(); 1 }); step("b", || 2) }, || { sleep("nap", "1s"); 3 }], #{ limit: 1 })"#;
    let (recorded, output) = drained(script);
    assert_eq!((recorded, &*output), (vec!["step 0 › a".to_owned()], "[2,3]"), "the second one has not begun");
}

#[test]
fn an_abort_or_a_dropped_future_ends_a_waiting_script_and_its_values() {
    let dropped = Arc::new(AtomicU64::new(0));
    #[derive(Clone)]
    struct Guard {
        _count: Arc<Count>,
    }
    struct Count(Arc<AtomicU64>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let host = Host::with(|natives| {
        let dropped = Arc::clone(&dropped);
        natives.engine().register_type_with_name::<Guard>("guard");
        natives.engine().register_fn("guard", move || Guard { _count: Arc::new(Count(Arc::clone(&dropped))) });
    });
    for abort in [true, false] {
        // A store that never answers keeps the script in its first commit.
        let mut bench =
            Bench::on(Arc::clone(&host), r#"let g = guard(); step("a", || { let h = guard(); 1 }); step("b", || kv::get("k", 2))"#);
        bench.create();
        let program = bench.program();
        let call_of_run = bench.start(&program);
        let mut ports = Ports::clone(&bench.ports());
        ports.desk = Arc::new(Silent);
        let before = dropped.load(Ordering::SeqCst);
        let stop = Stop::new();
        let mut future = Box::pin(call(program, call_of_run, Arc::new(ports), Arc::clone(&stop)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        if abort {
            stop.abort();
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(Ok(stopped)) => assert_eq!(stopped.outcome, Outcome::Lost),
                other => panic!("{other:?}"),
            }
        } else {
            drop(future);
        }
        assert_eq!(dropped.load(Ordering::SeqCst), before + 2);
    }
}

#[test]
fn many_scripts_share_a_thread_and_a_busy_one_holds_up_nobody() {
    let mut bench = Bench::new(r#"let n = 0; for i in 0..20000 { n += i; } step("x", || n)"#);
    let program = bench.program();
    bench.clock.tick(1);
    let mut futures = Vec::new();
    for _ in 0..200 {
        bench.create();
        futures.push(Box::pin(call(Arc::clone(&program), bench.start(&program), bench.ports(), Stop::new())));
    }
    // Each yields after its two milliseconds, so that all have begun before the first ends.
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for future in &mut futures {
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    bench.clock.tick(0);
    for mut future in futures {
        loop {
            if let std::task::Poll::Ready(stopped) = future.as_mut().poll(&mut context) {
                assert_eq!(stopped.unwrap().outcome, Outcome::Completed(Json::from("199990000")));
                break;
            }
        }
    }
}

#[test]
fn env_gives_what_events_yaml_lists() {
    let mut bench = Bench::new(r#"env("API_BASE") + "/charges""#).env("API_BASE", "https://api.example.com");
    assert_eq!(bench.finish().output(), "\"https://api.example.com/charges\"");
}

#[test]
fn a_flood_of_log_lines_is_cut_off() {
    let mut bench = Bench::new(
        r#"let long = "0123456789"; for i in 0..10 { long += long; }
        step("a", || { for i in 0..10000 { log::info(long); } 1 });
        log::info("after")"#,
    );
    let end = bench.finish();
    assert_eq!(end.output(), "null");
    let lines = end.log();
    assert!((90..110).contains(&lines.len()), "{}", lines.len());
    assert!(lines[lines.len() - 2].contains("left out") && lines[lines.len() - 1] == "after");
}

#[test]
fn memory_that_steps_hand_over_does_not_add_up() {
    let mut bench =
        Bench::new(r#"let s = "0123456789"; for i in 0..10 { s += s; } for i in 0..400 { step(`s${i}`, || { log::info(s); s }); } 1"#);
    bench.surroundings.limits.memory_bytes = 1024 * 1024;
    assert_eq!(bench.finish().output(), "1");
}

#[test]
fn a_closure_inside_a_method_of_its_own_variable_is_explained() {
    let end = Bench::new("let a = [1, 2]; a.map(|x| x + a.len)").attempts(1).finish();
    let help = end.row.error.as_ref().unwrap().help.clone().unwrap_or_default();
    assert!(help.contains("copy it first"), "{:?}", end.row.error);
}

#[test]
fn a_log_line_shows_what_could_not_be_stored() {
    let mut bench = Bench::new(
        "log::info(\"x\", #{ a: 1, f: || 1, n: 0.0 / 0.0, r: 1..2, w: run }); let d = 1; for i in 0..200 { d = [d]; } log::info(d)",
    );
    let end = bench.finish();
    assert_eq!(end.logs[0].data.as_deref(), Some(r#"{"a":1,"f":"(a closure)","n":"NaN","r":"(a range)","w":"(the run itself)"}"#));
    assert!(end.log()[1].contains("(too deep)"));
}

#[test]
fn an_abort_before_the_first_poll_runs_nothing() {
    let mut bench = Bench::new("log::info(\"ran\"); 1");
    bench.create();
    let program = bench.program();
    bench.stop.abort();
    let stopped = bench.attempt(&program).unwrap();
    assert_eq!((stopped.outcome, stopped.pending.len()), (Outcome::Lost, 0));
    assert!(bench.told.lines().is_empty());
}

#[test]
fn a_closure_with_parameters_is_no_step() {
    let end = Bench::new("step(\"x\", |a| a)").attempts(1).finish();
    assert!(end.message().contains("another number of arguments"), "{}", end.message());
}
