//! Hostile scripts: each meets the limit that is there for it, and the process lives.

use stepwell::rules::row::Recorded;

use super::*;

/// The error that a script ends with after its only attempt, as `code message`.
fn ends(script: &str) -> String {
    ends_of(Bench::new(script))
}

fn ends_of(bench: Bench) -> String {
    let mut bench = bench.attempts(1);
    let end = bench.finish();
    match &end.row.error {
        Some(error) => format!("{} {}", error.code, error.message),
        None => panic!("{:?} ended as {:?}: {:?} {:?}", bench.files, end.row.state, end.row.output, end.row.reason),
    }
}

/// A bench whose script may do few operations, so that a loop ends soon in a debug build.
fn brief(script: &str) -> Bench {
    let mut bench = Bench::new(script);
    bench.surroundings.limits.operations = 200_000;
    bench
}

#[test]
fn endless_loops_are_stopped_and_no_catch_sees_it() {
    for script in [
        "loop { }",
        "let i = 0; while true { i += 1; }",
        "try { loop { } } catch { 1 }",
        "loop { try { loop { } } catch { } }",
        "[1, 2, 3].map(|x| { loop { } })",
        "[1, 2, 3].sort(|a, b| { loop { } })",
        "[1, 2, 3].dedup(|a, b| { loop { } }); 7",
        "[1].filter(|x| { try { loop { } } catch { } true })",
        "step(\"x\", || { loop { } })",
        "step(\"x\", || { try { loop { } } catch { } 1 })",
        "let n = 0; for i in 0..9223372036854775807 { n = i; }",
    ] {
        let told = ends_of(brief(script));
        assert!(told.starts_with("E0413 "), "{script}: {told}");
    }
}

#[test]
fn a_step_that_spins_past_its_time_out_fails_that_attempt() {
    let mut bench = Bench::new("step(\"x\", #{ timeout: \"30s\" }, || { if run.attempt > 1 { return 5; } loop { } })");
    bench.clock.tick(1_000);
    let end = bench.finish();
    assert_eq!(end.output(), "5");
    assert_eq!(end.journal.attempts[0].error.code, "E0414");
    assert!(!end.journal.attempts[0].error.trace.is_empty());
}

#[test]
fn recursion_meets_the_call_limit_before_the_stack_ends() {
    // What a level costs most: nested expressions, closures called by natives, and arguments that are calls.
    let deep = |body: &str| format!("{}{body}{}", "(1 + ".repeat(25), ")".repeat(25));
    let scripts = [
        "fn f(x) { f(x + 1) } f(0)".to_owned(),
        "fn f(x) { 1 + f(f(x)) } f(0)".to_owned(),
        format!("fn f(x) {{ {} }} f(0)", deep("f(x)")),
        format!("fn f(x) {{ [1].map(|y| {}) }} f(0)", deep("f(y)")),
        "fn f(x) { [1].map(|y| [2].map(|z| [3].map(|w| f(w)))) } f(0)".to_owned(),
        "fn f(x) { if x > 0 { switch x { 1 => { for i in 0..1 { while true { try { return f(x); } catch { throw; } } } } } } } f(1)"
            .to_owned(),
        "let f = |g, x| g.call(g, x); f.call(f, 1)".to_owned(),
        "fn f(x) { `${f(x)}` } f(0)".to_owned(),
        "fn f(x) { #{ a: [f(x)] } } f(0)".to_owned(),
        "step(\"x\", || { let f = |g| [1].map(|x| g.call(g)); f.call(f) })".to_owned(),
    ];
    for script in scripts {
        let told = ends(&script);
        assert!(told.contains("too deep"), "{script}: {told}");
    }
}

#[test]
fn memory_is_bounded_whatever_holds_it() {
    let scripts = [
        "let s = \"0123456789\"; loop { s += s; }",
        "let a = []; loop { a.push(\"0123456789\".to_upper() + a.len); }",
        "let m = #{}; let i = 0; loop { m[`k${i}`] = [i, i, i, i]; i += 1; }",
        "let m = #{}; let i = 0; loop { m[`k${i}`] = #{ x: blob(10000) }; i += 1; }",
        "let a = [1]; loop { a += a; }",
        "let a = []; a.pad(1000000000, 0);",
        "let s = \"x\"; s.pad(1000000000, 'y');",
        "let s = \"x\"; s.pad(1000000000, \"yy\");",
        "let b = blob(1000000000); b.len",
        "let f = []; loop { let x = \"x\".to_upper() + f.len; f.push(|| x); }",
        "let s = \"x\"; for i in 0..20 { s += s; } s.replace(\"x\", s); s.len",
        "let s = \"x\"; for i in 0..20 { s += s; } let a = []; for i in 0..1000 { a.push(s); } a.to_string().len",
        "let s = \"x\"; for i in 0..20 { s += s; } let a = []; for i in 0..1000 { a.push(s); } json::stringify(a).len",
        "step(\"x\", || { let a = []; loop { a.push(blob(1000)); } })",
    ];
    for script in scripts {
        let mut bench = Bench::new(script);
        bench.surroundings.limits.memory_bytes = 16 * 1024 * 1024;
        let told = ends_of(bench);
        assert!(told.starts_with("E0412 ") || told.starts_with("E0405 "), "{script}: {told}");
    }
}

#[test]
fn after_a_memory_bomb_others_go_on() {
    let mut bomb = Bench::new("let a = []; loop { a.push(blob(100000)); }").attempts(1);
    let end = bomb.finish();
    // It is ended by the look after each operation, which knows the place; what ends a single huge native call does not.
    assert_eq!((end.code(), end.row.error.as_ref().unwrap().trace[0].line), ("E0412", 1));
    let mut other = Bench::new("let a = []; for i in 0..100 { a.push(blob(100000)); } a.len");
    assert_eq!(other.finish().output(), "100");
}

#[test]
fn values_that_lie_deep_in_each_other_do_not_end_the_process() {
    // The first fills the memory with a chain of closures, which takes the most stack to drop.
    for script in [
        "let f = || 1; loop { let g = f; f = || g.call(); }",
        "let a = []; for i in 0..3000 { a = [[a.pop()]]; } print(a); let b = a; a == b",
        "let m = #{}; for i in 0..1000 { m = #{ x: #{ x: m.remove(\"x\") } }; } print(m); 1",
        "let f = || 1; for i in 0..3000 { let g = f; f = || g.call(); } step(\"x\", || { f; 1 })",
        "let f = || 1; for i in 0..3000 { let g = f; f = || g.call(); } f.call()",
    ] {
        let mut bench = Bench::new(script).attempts(1);
        let end = bench.finish();
        assert!(end.row.state.is_terminal(), "{script}: {:?}", end.row);
    }
}

#[test]
fn deep_values_are_no_results() {
    for script in [
        "let a = 1; for i in 0..1000 { a = [a]; } a",
        "let a = 1; for i in 0..1000 { a = #{ x: a }; } step(\"x\", || a)",
        "json::parse(\"[[[\")",
    ] {
        let told = ends(script);
        assert!(told.starts_with("E040"), "{script}: {told}");
    }
}

#[test]
fn no_script_catches_its_suspension() {
    for script in [
        "try { sleep(\"1h\"); } catch { log::error(\"caught\"); } \"end\"",
        "[1].map(|x| { sleep(\"1h\"); x }); \"end\"",
        "[1].filter(|x| { try { sleep(\"1h\"); } catch { log::error(\"caught\"); } true }); \"end\"",
        "[1, 2].for_each(|x| sleep(\"1h\")); \"end\"",
        "[2, 1].sort(|a, b| { sleep(\"1h\"); a - b }); \"end\"",
        "[2, 2].dedup(|a, b| { sleep(\"1h\"); true }); \"end\"",
        "try { [1].map(|x| { sleep(\"1h\"); x }); } catch { log::error(\"caught\"); } \"end\"",
        "[1, 2].reduce(|sum, x| { sleep(\"1h\"); sum }); \"end\"",
    ] {
        let mut bench = Bench::new(script);
        bench.create();
        let program = bench.program();
        let stopped = bench.attempt(&program).unwrap();
        assert!(matches!(stopped.outcome, Outcome::Suspended { state: RunState::Sleeping, .. }), "{script}: {:?}", stopped.outcome);
        assert_eq!(bench.follow(stopped), Some(RunState::Sleeping));
        let end = bench.finish_with(&program);
        assert_eq!(end.output(), "\"end\"", "{script}");
        assert!(end.logs.is_empty(), "{script}: {:?}", end.logs);
    }
}

#[test]
fn no_script_catches_fail() {
    for script in [
        "try { fail(\"no\"); } catch { log::error(\"caught\"); } \"end\"",
        "[1].map(|x| fail(\"no\")); \"end\"",
        "[2, 1].sort(|a, b| fail(\"no\")); \"end\"",
        "try { step(\"x\", || { try { fail(\"no\"); } catch { } 1 }); } catch { log::error(\"caught\"); } \"end\"",
    ] {
        let mut bench = Bench::new(script);
        let end = bench.finish();
        assert_eq!((end.message(), end.row.state), ("no", RunState::Failed), "{script}");
        assert!(end.logs.is_empty(), "{script}: {:?}", end.logs);
        assert_eq!(end.row.error.as_ref().unwrap().trace[0].line, 1, "{script}");
    }
}

#[test]
fn fail_in_a_step_is_recorded() {
    let mut bench = Bench::new("step(\"x\", || fail(\"declined\", #{ code: 7 }))");
    let end = bench.finish();
    assert!(matches!(&end.journal.records[0].result, Recorded::Failed(failure) if failure.message == "declined"));
    assert_eq!(end.row.error.as_ref().unwrap().data, Some(serde_json::json!({ "code": 7 })));
    assert_eq!(end.journal.records.len(), 1);
}

#[test]
fn there_is_no_clock_no_exit_and_no_blocking_sleep() {
    for (script, word) in [("timestamp()", "E0304"), ("rand()", "E0304"), ("step(\"x\", || { exit(5); 1 })", "E0304"), ("exit()", "E0304")]
    {
        let told = match Bench::new(script).compile() {
            Err(problems) => problems[0].code.to_owned(),
            Ok(_) => ends(script),
        };
        assert!(told.starts_with(word), "{script}: {told}");
    }
    // `eval` is a word like any other behind a dot, and runs nothing there.
    for script in
        ["\"1\".eval()", "event.eval(\"1\")", "let f = Fn(\"eval\"); f.call(\"1\")", "[\"1\"].map(Fn(\"eval\"))", "global::eval(\"1\")"]
    {
        let mut bench = Bench::new(script).attempts(1);
        if bench.compile().is_ok() {
            assert_eq!(bench.finish().row.state, RunState::Failed, "{script}");
        }
    }
    // Rhai's own sleep would block this test for ten days.
    let mut bench = Bench::new("sleep(864000); 1");
    assert_eq!(bench.finish().output(), "1");
}

#[test]
fn what_cannot_be_stored_is_refused_by_its_kind() {
    for (value, word) in [
        ("|| 1", "a closure"),
        ("Fn(\"f\")", "a closure"),
        ("0..5", "a range"),
        ("blob(3)", "a blob"),
        ("1.0 / 0.0", "not a finite number"),
        ("#{ a: [1, || 2] }", ".a[1] is a closure"),
        ("run", "the run itself"),
        ("secret(\"KEY\")", "the secret KEY"),
        ("`${secret(\"KEY\")}` + \"sk_live_1234567890\"", "contains the secret KEY"),
        ("json::stringify([\"xx sk_live_1234567890\"])", "contains the secret KEY"),
    ] {
        // As a step's result alone, and as the run's.
        for script in [format!("step(\"x\", || {value}); 1"), value.to_owned()] {
            let mut bench = Bench::new(&script).secret("KEY", "sk_live_1234567890").attempts(1);
            let end = bench.finish();
            assert!(end.message().contains(word), "{script}: {:?}", end.row.error);
            assert!(!format!("{end:?}").contains("sk_live"), "{script}: {end:?}");
        }
    }
}

#[test]
fn a_result_of_more_than_four_megabytes_is_refused_before_the_commit() {
    for result in ["step(\"x\", || s); 1", "s"] {
        let mut bench = Bench::new(&format!("let s = \"x\"; for i in 0..23 {{ s += s; }} {result}")).attempts(1);
        let end = bench.finish();
        assert_eq!(end.code(), "E0405", "{result}");
        assert!(end.message().contains("4194304"), "{}", end.message());
        assert!(end.journal.records.iter().all(|record| matches!(record.result, Recorded::Failed(_))), "{result}");
    }
}

#[test]
fn a_captured_variable_is_not_changed_by_a_step() {
    for script in [
        "let total = 0; step(\"x\", || { total += 1; })",
        "let list = [1]; step(\"x\", || { list.push(2); 1 })",
        "let map = #{ a: #{ b: 1 } }; step(\"x\", || { map.a.b = 2; 1 })",
        "let n = 0; let inc = || { n += 1; }; step(\"x\", || { inc.call(); 1 })",
        "let list = [1]; let f = [|| list.push(2)]; step(\"x\", || { f[0].call(); 1 })",
    ] {
        let told = ends(script);
        assert!(told.starts_with("E0410 "), "{script}: {told}");
    }
    assert!(ends("let total = 0; step(\"x\", || { total += 1; })").contains("`total`"));
    for (script, output) in [
        ("let total = 1; step(\"x\", || { let mine = total; mine += 1; mine })", "2"),
        ("let a = [3, 1, 2]; step(\"x\", || { let b = a; b.sort(); b })", "[1,2,3]"),
        ("let n = 1; let add = |x| x + n; step(\"x\", || add.call(1))", "2"),
        ("step(\"x\", || event.data.a)", "1"),
        ("let f = (); f = |x| if x > 2 { x } else { f.call(x + 1) }; step(\"x\", || 5)", "5"),
        ("let total = 1; try { step(\"x\", || { total = 5; throw 1; }); } catch { } total", "1"),
    ] {
        let mut bench = Bench::new(script).data("{\"a\":1}").attempts(1);
        assert_eq!(bench.finish().output(), output, "{script}");
    }
}

#[test]
fn event_and_run_cannot_be_changed() {
    for script in
        ["event = 1;", "event.data.a = 5;", "step(\"x\", || { event.data.a = 5; })", "run.id = \"x\";", "event.data.list.push(1);"]
    {
        let mut bench = Bench::new(script).data("{\"a\":1,\"list\":[]}").attempts(1);
        match bench.compile() {
            Err(_) => {}
            Ok(_) => assert_eq!(bench.finish().row.state, RunState::Failed, "{script}"),
        }
    }
}

#[test]
fn a_native_that_panics_fails_the_attempt_alone() {
    let host = Host::with(|natives| {
        natives.engine().register_fn("explode", || -> i64 { panic!("boom") });
    });
    let mut bench = Bench::on(Arc::clone(&host), "step(\"x\", || { if run.attempt < 3 { explode() } else { 7 } })");
    let end = bench.finish();
    assert_eq!(end.output(), "7");
    assert_eq!(end.journal.attempts[0].error.message, "a function of the engine panicked: boom");
    let mut bench = Bench::on(host, "if run.attempt < 2 { try { explode() } catch { 1 } } else { 8 }");
    assert_eq!(bench.finish().output(), "8");
}

#[test]
fn an_effect_outside_of_a_step_is_refused_wherever_it_hides() {
    for script in [
        "fn f() { http::get(\"https://example.com\") } f()",
        "let f = || http::get(\"https://example.com\"); f.call()",
        "[1].map(|x| http::get(\"https://example.com\"))",
        "[1].map(|x| publish(\"a\", x))",
        "let f = \"http::get\"; ping()",
    ] {
        let host = Host::with(|natives| {
            natives.engine().register_fn("ping", || stepwell::script::demand_step("ping").map(|_| 1_i64));
        });
        let told = ends_of(Bench::on(host, script));
        assert!(told.starts_with("E0403 "), "{script}: {told}");
    }
}

#[test]
fn durable_calls_inside_a_step_fail_it_at_once() {
    for script in [
        "fn f() { step(\"b\", || 1) } step(\"a\", || f())",
        "let f = || sleep(\"1m\"); step(\"a\", || f.call())",
        "fn f() { sleep_until(\"2030-01-01T00:00:00Z\") } step(\"a\", || f())",
    ] {
        let mut bench = Bench::new(script);
        let end = bench.finish();
        assert_eq!((end.code(), end.row.error.as_ref().unwrap().attempts), ("E0402", Some(1)), "{script}");
    }
}

#[test]
fn deep_expressions_do_not_compile() {
    let script = format!("{}1{}", "(".repeat(500), ")".repeat(500));
    assert_eq!(Bench::new(&script).refused()[0].code, "E0301");
    let script = format!("let x = {}1{};", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(Bench::new(&script).refused()[0].code, "E0301");
}

#[test]
fn variables_functions_and_files_have_a_limit() {
    let variables: String = (0..1_100).map(|n| format!("let v{n} = {n};\n")).collect();
    let told = ends(&variables);
    assert!(told.to_lowercase().contains("too many variables"), "{told}");
    let functions: String = (0..1_100).map(|n| format!("fn f{n}() {{ {n} }}\n")).collect();
    assert_eq!(Bench::new(&functions).refused()[0].code, "E0301");
    // Each file imports the next.
    let mut bench = Bench::new("import \"m0\" as m;");
    for n in 0..110 {
        bench = bench.file(&format!("handlers/m{n}.rhai"), &format!("import \"m{}\" as m;", n + 1));
    }
    bench = bench.file("handlers/m110.rhai", "");
    let problems = bench.refused();
    assert!(problems.iter().any(|problem| problem.code == "E0303" && problem.message.contains("at most 100 files")), "{problems:?}");
}

#[test]
fn a_run_has_a_limit_of_records_and_of_journal_bytes() {
    let mut bench = Bench::new("for i in 0..100 { step(`s${i}`, || i); }");
    bench.surroundings.limits.steps = 10;
    let end = bench.finish();
    assert_eq!((end.code(), end.journal.records.len()), ("E0408", 10));
    let mut bench = Bench::new("for i in 0..100 { now(); }");
    bench.surroundings.limits.steps = 10;
    assert_eq!(bench.finish().code(), "E0408");
    let mut bench = Bench::new("let s = \"0123456789\"; for i in 0..100 { step(`s${i}`, || s); }");
    bench.surroundings.limits.journal_bytes = 1_000;
    assert_eq!(bench.finish().code(), "E0408");
}

#[test]
fn a_hostile_name_or_argument_is_an_error_of_its_own() {
    for (script, word) in [
        ("let n = \"\"; step(n, || 1)", "E0401"),
        ("let n = \"a#2\"; step(n, || 1)", "E0401"),
        ("let n = \"x\"; for i in 0..8 { n += n; } step(n, || 1)", "E0401"),
        ("let d = \"soon\"; sleep(d)", "E0407"),
        ("sleep(-5)", "E0407"),
        ("let d = \"400d\"; sleep(d)", "E0407"),
        ("let d = 1.0 / 0.0; sleep(d)", "E0407"),
        ("let o = #{ retires: 1 }; step(\"x\", o, || 1)", "E0407"),
        ("let n = 99; step(\"x\", #{ retries: n }, || 1)", "E0407"),
        ("let o = #{ timeout: \"x\" }; step(\"x\", o, || 1)", "E0407"),
        ("let b = \"slowly\"; step(\"x\", #{ backoff: b }, || 1)", "E0407"),
        ("let b = #{ kind: \"slowly\" }; step(\"x\", #{ backoff: b }, || 1)", "E0407"),
        ("let b = #{ intial: 1 }; step(\"x\", #{ backoff: b }, || 1)", "E0407"),
        ("let b = #{ initial: 9, max: 3 }; step(\"x\", #{ backoff: b }, || 1)", "E0407"),
        ("let b = #{ jitter: 2 }; step(\"x\", #{ backoff: b }, || 1)", "E0407"),
        ("let b = #{ kind: \"fixed\", max: \"1m\" }; step(\"x\", #{ backoff: b }, || 1)", "E0407"),
        ("let b = #{ kind: \"table\", jitter: 0 }; step(\"x\", #{ backoff: b }, || 1)", "E0407"),
        ("let t = \"0s\"; step(\"x\", #{ timeout: t }, || 1)", "E0407"),
        ("let t = 0; step(\"x\", #{ timeout: t }, || 1)", "E0407"),
        ("pick([])", "E0407"),
        ("random(5, 1)", "E0407"),
        ("env(\"HOME\")", "E0416"),
        ("secret(\"NOPE\")", "E0416"),
    ] {
        let told = ends(script);
        assert!(told.starts_with(word), "{script}: {told}");
    }
}

/// Scripts that are cut, doubled and mixed at random: whatever comes of them, no native panics and the process lives.
#[test]
fn mangled_scripts_end_in_an_orderly_way() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("SEED={seed}");
    let entropy = Seeded(AtomicU64::new(seed));
    let pieces = [
        "step(\"a\", || ",
        "step(`s-${i}`, #{ retries: 1 }, || { ",
        "sleep(\"1m\")",
        "now()",
        "uuid()",
        "random(1, 6)",
        "pick([1, 2])",
        "log::info(\"x\", #{ a: [1] })",
        "json::parse(\"{\\\"a\\\":[1]}\")",
        "json::stringify(event)",
        "fail(\"no\", [1])",
        "throw ",
        "try { ",
        " } catch (e) { e.message; ",
        "for i in 0..3 { ",
        "let x = ",
        "[3, 1, 2]",
        ".map(|v| v + 1)",
        ".sort()",
        ".len",
        "#{ a: 1, b: () }",
        "x",
        "i",
        "event.data",
        "run.attempt",
        "retry_after(5, \"later\")",
        "blob(9)",
        ".pad(9, 0)",
        " + ",
        " - ",
        ";",
        " } ",
        ")",
        "(",
        "env(\"A\")",
        "secret(\"KEY\")",
        "1.5",
        "9223372036854775807",
        "\"é\"",
        "duration(\"1h\")",
        "return ",
        "if x == () { ",
        " } else { ",
        "fn f(a) { ",
        "f(1)",
        "|v| ",
        "date(\"2026-01-01T00:00:00Z\")",
        "print(",
        "eval(",
        "loop { ",
    ];
    let host = Host::new();
    let mut ran = 0;
    for _ in 0..4_000 {
        let count = entropy.next() % 12 + 1;
        let mut script: String = (0..count).map(|_| pieces[(entropy.next() % pieces.len() as u64) as usize]).collect();
        // Half of them are closed as they were opened, so that more of them run.
        if entropy.next().is_multiple_of(2) {
            let mut open = Vec::new();
            for letter in script.chars() {
                match letter {
                    '(' => open.push(')'),
                    '{' => open.push('}'),
                    ')' | '}' if open.last() == Some(&letter) => drop(open.pop()),
                    _ => {}
                }
            }
            script.extend(open.iter().rev());
        }
        let mut bench =
            Bench::on(Arc::clone(&host), &script).data("{\"a\":1}").secret("KEY", "sk_live_1234567890").env("A", "a").attempts(2);
        bench.surroundings.limits.operations = 20_000;
        bench.surroundings.limits.steps = 200;
        if bench.compile().is_err() {
            continue;
        }
        ran += 1;
        let end = bench.finish();
        assert!(end.row.state.is_terminal(), "{script}: {:?}", end.row);
        if let Some(error) = &end.row.error {
            assert_ne!(error.code, "E0415", "{script}: {error:?}");
        }
    }
    assert!(ran > 100, "only {ran} of them ran");
}
