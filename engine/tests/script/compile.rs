//! What a handler is told before it runs.

use super::*;

/// The one problem of a script, as `code line:column message`.
fn problem(script: &str) -> String {
    shown(&Bench::new(script).compile().err().unwrap_or_default())
}

fn shown(problems: &[Diagnostic]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| {
            let (file, line, column) = problem.position().unwrap_or(("", 0, 0));
            let file = file.strip_prefix("handlers/").unwrap_or(file);
            format!("{} {file}:{line}:{column} {} | {}", problem.code, problem.message, problem.helps.join(" | "))
        })
        .collect();
    lines.join("\n")
}

#[test]
fn each_mistake_is_shown_with_its_place() {
    let cases = [
        ("let x = 1\nlet y = 2;", "E0301 main.rhai:2:1"),
        ("1;\nstpe(\"x\", || 1)", "E0304 main.rhai:2:1 there is no function `stpe` | did you mean `step`?"),
        ("log::inf(\"x\")", "E0304 main.rhai:1:1 there is no function `log::inf` | did you mean `log::info`?"),
        ("lag::info(\"x\")", "E0304 main.rhai:1:1"),
        ("sleep(1, 2, 3)", "E0305 main.rhai:1:1 sleep does not take 3 arguments | sleep(duration), or sleep(name, duration)"),
        ("fn f(a) { a }\nf(1, 2)", "E0305 main.rhai:2:1 f does not take 2 arguments | it takes 1"),
        ("let total = 1;\ntotl + 1", "E0306 main.rhai:2:1 there is no variable `totl` | did you mean `total`?"),
        ("fn f() { event.data }\nf()", "E0306 main.rhai:1:10 `event` is not visible inside `fn` | pass it as an argument"),
        ("http::get(\"https://example.com\")", "E0307 main.rhai:1:1 http::get acts on the world"),
        ("step(\"a\", || {\n  step(\"b\", || 1)\n})", "E0308 main.rhai:2:3 step inside the closure of a step"),
        ("let x = 1;\nstep(\"a\", || { sleep(\"1m\"); x })", "E0308 main.rhai:2:16 sleep inside the closure of a step"),
        ("sleep(\"1 hour\")", "E0310 main.rhai:1:7 `1 hour` is not a duration"),
        ("sleep(\"400d\")", "E0310 main.rhai:1:7 `400d` is longer than a year, the longest sleep or wait | write at most 366d"),
        ("sleep(\"nap\", \"53w\")", "E0310 main.rhai:1:14 `53w` is longer than a year"),
        ("sleep_until(\"tomorrow\")", "E0310 main.rhai:1:13 `tomorrow` is not a time"),
        ("step(\"a#b\", || 1)", "E0310 main.rhai:1:6"),
        ("send_event([#{ name: \"x\", data: #{}, at: 1 }])", "E0310 main.rhai:1:38 an event that is sent has no option `at`"),
        ("parallel([], #{ race: true })", "E0310 main.rhai:1:17 parallel has no option `race` | it takes limit, settle"),
        ("parallel([1], |x| x, #{ limit: 0 })", "E0310 main.rhai:1:25 limit is a whole number from 1 to 256"),
        ("let x = 1;\nparallel(#{ a: || x }, #{ settle: true, limit: 300 })", "E0310 main.rhai:2:41 limit is a whole number"),
        ("step(\"a\", #{ retries: 21 }, || 1)", "E0310 main.rhai:1:14 retries is a whole number from 0 to 20"),
        ("wait_for_event(\"x\", #{ timeout: \"400d\" })", "E0310 main.rhai:1:33 `400d` is longer than a year"),
        ("wait_for_signal(\"x\", #{ timeout: \"400d\" })", "E0310 main.rhai:1:34 `400d` is longer than a year"),
        ("wait_for_any([#{ event: \"x\" }], #{ timeout: \"400d\" })", "E0310 main.rhai:1:45 `400d` is longer than a year"),
        ("invoke(\"f\", #{}, #{ timeout: \"400d\" })", "E0310 main.rhai:1:30 `400d` is longer than a year"),
        ("wait_for_any([])", "E0310 main.rhai:1:14 wait_for_any takes 1 to 20 entries"),
        ("parallel([1, 2])", "E0310 main.rhai:1:11 branch `0` of parallel is no closure"),
        ("parallel(#{ a: 1 })", "E0310 main.rhai:1:16 branch `a` of parallel is no closure"),
        ("parallel([1, 2], |a, b, c| a)", "E0310 main.rhai:1:18 this branch of parallel has 3 parameters, and is given its item"),
        ("parallel([|x| x])", "E0310 main.rhai:1:11 this branch of parallel has 1 parameter, and is given none"),
        ("parallel([1], |x| x, #{ settle: 1 })", "E0310 main.rhai:1:25 settle is true or false"),
        ("parallel([1], |x| x, #{ limit: \"2\" })", "E0310 main.rhai:1:25 limit is a whole number from 1 to 256"),
        ("race([])", "E0310 main.rhai:1:6 race takes 1 to 256 branches"),
        ("race(#{})", "E0310 main.rhai:1:6 race takes 1 to 256 branches"),
        ("race([1])", "E0310 main.rhai:1:7 branch `0` of race is no closure | write || …, or race(list, |item| …)"),
        ("race([|x| x])", "E0310 main.rhai:1:7 this branch of race has 1 parameter, and is given none"),
        ("race(#{ a: || 1 }, #{ limit: 2 })", "E0310 main.rhai:1:23 race has no option `limit` | it takes id"),
        ("race([|| 1], #{ id: \"a#b\" })", "E0310 main.rhai:1:21 a race's name has no `#`"),
        ("race([|| 1], #{ id: 7 })", "E0310 main.rhai:1:17 the option `id` of race is a text"),
        ("step(\"a\", || race([|| 1]))", "E0308 main.rhai:1:14 race inside the closure of a step"),
        ("let fs = [];\nfor i in 0..2 { fs.push(|| i); }\nrace(fs)", "E0317 main.rhai:2:25"),
        ("wait_for_any([#{ \"if\": \"true\" }])", "E0310 main.rhai:1:15 each entry of wait_for_any names its `event`"),
        ("wait_for_any([\"otp/received\"])", "E0310 main.rhai:1:15 wait_for_any takes an array of #{ event, \"if\" }"),
        ("send_event([])", "E0310 main.rhai:1:12 send_event takes 1 to 5000 events at once"),
        ("send_event([#{ data: #{} }])", "E0310 main.rhai:1:13 an event that is sent has a name"),
        ("wait_for_signal(\"\")", "E0310 main.rhai:1:17 a wait's name is empty"),
        ("wait_for_signal(\"x\", #{ id: \"\" })", "E0310 main.rhai:1:29 a wait's name is empty"),
        ("wait_for_event(\"x\", #{ \"if\": true })", "E0310 main.rhai:1:24 the option `if` of wait_for_event is a text"),
        ("send_signal(\"\")", "E0310 main.rhai:1:13 a signal's name is empty"),
        ("sleep(\"\", \"1h\")", "E0310 main.rhai:1:7 a sleep's name is empty"),
        ("step(\"a\", #{ backoff: \"nope\" }, || 1)", "E0310 main.rhai:1:23 there is no back-off `nope`"),
        ("step(\"a\", #{ backoff: \"1 min\" }, || 1)", "E0310 main.rhai:1:23 `1 min` is not a duration"),
        ("step(\"a\", #{ backoff: true }, || 1)", "E0310 main.rhai:1:14 backoff is not a duration"),
        (
            "step(\"a\", #{ backoff: #{ kind: \"fixed\", max: \"1m\" } }, || 1)",
            "E0310 main.rhai:1:41 `max` has no effect on the back-off `fixed`",
        ),
        ("step(\"a\", #{ backoff: #{ intial: \"1s\" } }, || 1)", "E0310 main.rhai:1:26 backoff has no `intial`"),
        (
            "step(\"a\", #{ backoff: #{ initial: \"9s\", max: \"3s\" } }, || 1)",
            "E0310 main.rhai:1:35 the first wait, 9s, is longer than the longest, 3s",
        ),
        ("step(\"a\", #{ backoff: #{ jitter: 2 } }, || 1)", "E0310 main.rhai:1:26 jitter is a number from 0 to 1"),
        ("step(\"a\", #{ timeout: \"0s\" }, || 1)", "E0310 main.rhai:1:14 the timeout of a step is more than 0"),
        ("wait_for_event(\"x\", #{ timeout: \"1 min\" })", "E0310 main.rhai:1:33 `1 min` is not a duration"),
        (
            "let t = 1;\nwait_for_event(\"x\", #{ timout: t })",
            "E0310 main.rhai:2:24 wait_for_event has no option `timout` | did you mean `timeout`?",
        ),
        ("wait_for_any([#{ event: \"x\", iff: \"true\" }])", "E0310 main.rhai:1:30 an entry of wait_for_any has no option `iff`"),
        ("invoke(\"f\", #{}, #{ if: 1 })", "E0301 main.rhai:1:21"),
        ("step(\"a\", || send_event(\"x\", #{}))", "E0308 main.rhai:1:14 send_event inside the closure of a step"),
        (
            "let fs = [];\nfor i in event.data.xs { fs.push(|| step(\"x\", || i)); }\nparallel(fs)",
            "E0317 main.rhai:2:34 this closure outlives its turn of the loop, and then sees the `i` of the last one | \
             write parallel(list, |i| …), or copy it first: let x = i;",
        ),
        ("let out = [];\nfor (x, i) in event.data.xs { out[i] = || step(\"s\", || i); }", "E0317 main.rhai:2:40"),
        ("let m = #{ fs: [] };\nfor i in 0..2 { m.fs.insert(0, || i); }", "E0317 main.rhai:2:32"),
        ("let fs = [];\nfor i in 0..2 { fs += [#{ at: || i }]; }", "E0317 main.rhai:2:31"),
        ("let fs = [];\nfor i in 0..2 { push(fs, || i); }", "E0317 main.rhai:2:26"),
        ("let fs = [];\nfor i in 0..2 { let f = || i; fs.push(f); }", "E0317 main.rhai:2:39"),
        ("let fs = [];\n[1].for_each(|x| { for i in 0..x { fs.push(|| i); } });", "E0317 main.rhai:2:44"),
        ("let fs = [];\nfor i in 0..2 { fs = fs + [|| i]; }", "E0317 main.rhai:2:28"),
        ("let fs = [];\nfor i in 0..2 { fs.insert(0, || i); }", "E0317 main.rhai:2:30"),
        ("let m = #{};\nfor k in [\"a\"] { m[k] = || k; }", "E0317 main.rhai:2:25"),
        ("let all = [];\nfor i in 0..2 { all.push(#{ f: #{ g: || i } }); }", "E0317 main.rhai:2:38"),
        ("let all = [];\nfor i in 0..2 { let m = #{}; m.f = || i; m.n = 1; all.push(m); }", "E0317 main.rhai:2:36"),
        ("let all = [];\nfor i in 0..2 { let fs = []; fs.push(|| i); all += fs; }", "E0317 main.rhai:2:38"),
        ("let all = [];\nfor i in 0..2 { let f = (); f = || i; all.push([1] + [f]); }", "E0317 main.rhai:2:33"),
        ("let f = ();\nfor i in 0..2 { f = || i; }", "E0317 main.rhai:2:21"),
        ("let all = [];\nfor i in 0..2 { all.push(if i > 0 { || i } else { || 0 }); }", "E0317 main.rhai:2:37"),
        ("let all = [];\nfor i in 0..2 { for j in 0..2 { all.push(|| i); break; } }", "E0317 main.rhai:2:42"),
        ("let all = [];\nfor i in 0..2 { while true { all.push(|| i); break; } }", "E0317 main.rhai:2:39"),
        ("let all = [];\nfor i in 0..2 { [1].for_each(|x| { all.push(|| i); }); }", "E0317 main.rhai:2:45"),
        ("let all = [];\nfor i in 0..2 { all.push(switch i { 0 => || i, _ => 1 }); }", "E0317 main.rhai:2:"),
        ("let all = [];\nfor i in 0..2 { all += [1].map(|x| || i); }", "E0317 main.rhai:2:36"),
        ("let all = [];\nfor i in 0..2 { all.push([1].map(|x| { || x + i })); }", "E0317 main.rhai:2:40"),
        ("let all = [];\nfor i in 0..2 { let fs = event.data.xs.map(|x| || [x, i]); all.push(fs); }", "E0317 main.rhai:2:48"),
        ("let all = [];\nfor i in 0..2 { all += [1].zip([2], |x, y| #{ f: || i }); }", "E0317 main.rhai:2:50"),
        ("let all = [];\nfor i in 0..2 { all += [|| i].filter(|f| f.call() > 0); }", "E0317 main.rhai:2:25"),
        ("template(\"x\")", "E0305 main.rhai:1:1 template does not take 1 argument | template(text, values)"),
        ("kv::get(\"x\")", "E0307 main.rhai:1:1 kv::get acts on the world"),
        ("publish(\"a\", 1)", "E0307 main.rhai:1:1 publish acts on the world"),
        ("step(\"a\", || publish(\"a\"))", "E0305 main.rhai:1:14 publish does not take 1 argument"),
        ("step(\"a\", || publish(\"\", 1))", "E0310 main.rhai:1:22 a channel's name has 1 to 200 bytes, not 0"),
        ("step(\"a\", || publish(\"a\", 1, #{ tpoic: \"x\" }))", "E0310 main.rhai:1:33 publish has no option `tpoic`"),
        ("step(\"a\", || publish(\"a\", 1, #{ topic: 5 }))", "E0310 main.rhai:1:33 the topic of publish is a text"),
        ("db::exec(\"a\", \"SELECT 1\")", "E0307 main.rhai:1:1 db::exec acts on the world"),
        (
            "step(\"a\", || regex::tst(\"a\", \"b\"))",
            "E0304 main.rhai:1:14 there is no function `regex::tst` | did you mean `regex::test`?",
        ),
        ("eval(\"1\")", "E0301 main.rhai:1:1"),
        ("let m = #{ if: 1 };", "E0301 main.rhai:1:12"),
        ("let x = try { 1 } catch { 2 };", "E0301 main.rhai:1:9"),
        ("import \"../secrets\" as s;", "E0302 main.rhai:1:8 cannot import `../secrets`"),
        ("import \"/etc/passwd\" as s;", "E0302 main.rhai:1:8 cannot import `/etc/passwd`"),
        ("import \"lib/none\" as s;", "E0309 main.rhai:1:8 cannot read handlers/lib/none.rhai: there is no such file"),
        ("let p = \"lib/x\";\nimport p as s;", "E0302 main.rhai:2:"),
    ];
    let wrong: Vec<String> = cases
        .iter()
        .map(|(script, expected)| (script, problem(script), expected))
        .filter(|(_, told, expected)| !told.starts_with(**expected))
        .map(|(script, told, expected)| format!("{script}\n  told:     {told}\n  expected: {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wait_for_too_many_events_is_told_of() {
    let wait = |count: usize| problem(&format!("wait_for_any([{}])", vec!["#{ event: \"x\" }"; count].join(", ")));
    assert!(wait(20).is_empty(), "{}", wait(20));
    assert!(wait(21).starts_with("E0310 main.rhai:1:14 wait_for_any takes 1 to 20 entries"), "{}", wait(21));
}

#[test]
fn a_quoted_word_and_a_statement_are_advised() {
    assert!(problem("let m = #{ if: 1 };").contains("\"if\": …"), "{}", problem("let m = #{ if: 1 };"));
    assert!(problem("let x = try { 1 } catch { 2 };").contains("try is a statement"));
    assert!(problem("let x = true ? 1 : 2;").contains("no ?: in Rhai"), "{}", problem("let x = true ? 1 : 2;"));
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let bench = Bench::new("import \"lib/a\" as a;\nstpe(\"x\", || 1);\na::nothing();\nsleep(\"x\");")
        .file("handlers/lib/a.rhai", "fn good() { lgo(1) }");
    let told = shown(&bench.refused());
    let lines: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["E0304", "E0304", "E0304", "E0310"], "{told}");
    assert!(told.contains("lib/a.rhai:1:13"), "{told}");
}

#[test]
fn variables_that_are_not_there_hide_no_other_problem() {
    let bench =
        Bench::new("stpe(\"x\", || 1);\nlet a = one + 1;\nlet b = two + one;\nfn f() { three }\nhttp::get(\"https://example.com\");");
    let told = shown(&bench.refused());
    for problem in ["E0306 main.rhai:2:9", "E0306 main.rhai:3:9", "E0306 main.rhai:4:10"] {
        assert_eq!(told.matches(problem).count(), 1, "{told}");
    }
    let whole = shown(&Bench::new("stpe(\"x\", || 1);\nlet a = one + 1;\nhttp::get(\"https://example.com\");").refused());
    let codes: Vec<&str> = whole.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(codes, ["E0306", "E0304", "E0307"], "{whole}");
}

#[test]
fn every_word_may_stand_after_a_dot() {
    let mut bench = Bench::new(
        r#"log::debug("x"); log::warn("y");
        let d = event.data;
        [d.default, d.in, d.new, d.match, d.if, d?.let, d.fn, d.this]"#,
    )
    .data(r#"{"default":1,"in":2,"new":3,"match":4,"if":5,"let":6,"fn":7,"this":8}"#);
    assert_eq!(bench.finish().output(), "[1,2,3,4,5,6,7,8]");
}

/// Every word that Rhai keeps for itself, or for later.
const KEPT: &str = "true false let const global if else switch do while until loop for in continue break return throw try catch \
    fn private import export as is this Fn call curry print debug eval type_of is_def_var is_def_fn is_shared \
    var static goto exit match case default public protected new use with module package super thread spawn go \
    shared sync async await yield null nil void begin end each then unless";

#[test]
fn every_kept_word_may_be_a_field() {
    let words: Vec<&str> = KEPT.split_whitespace().collect();
    for (number, word) in words.iter().enumerate() {
        let script = format!("let d = event.data; [d.{word}, d?.{word}, event.data.{word}]");
        let data = format!("{{\"{word}\":{number}}}");
        let output = Bench::new(&script).data(&data).finish().output().to_owned();
        assert_eq!(output, format!("[{number},{number},{number}]"), "{word}");
        let told = problem(&format!("log::{word}(\"x\")"));
        assert!(told.starts_with("E0304") || (*word == "debug" && told.is_empty()), "log::{word}: {told}");
    }
}

#[test]
fn a_text_that_ends_in_a_dot_changes_nothing_for_the_next_one() {
    let host = Host::new();
    for broken in ["let x = event.", "let x = event?.", "log::"] {
        for script in ["let x = 1; x", "\n\n// A comment.\nlet x = 1; x", "/* x */ if true { 1 }", "\nswitch 1 { 1 => 1, _ => 2 }"] {
            let told = Bench::on(Arc::clone(&host), broken).refused();
            assert_eq!(told[0].code, "E0301", "{broken}");
            assert_eq!(Bench::on(Arc::clone(&host), script).finish().output(), "1", "{script:?} after {broken:?}");
        }
    }
}

#[test]
fn a_link_out_of_the_folder_is_not_imported() {
    let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("x.rhai"), "const SECRET = 1;").unwrap();
    std::fs::create_dir(folder.path().join("handlers")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("handlers/lib")).unwrap();
    std::fs::write(folder.path().join("handlers/main.rhai"), "import \"lib/x\" as x;").unwrap();
    let told = shown(&Host::new().compile(folder.path(), "handlers/main.rhai").unwrap_err());
    assert!(told.starts_with("E0309 main.rhai:1:8") && told.contains("outside"), "{told}");
}

#[test]
fn imports_below_handlers_are_part_of_the_version() {
    let bench = |text: &str| {
        Bench::new("import \"lib/tax\" as tax;\ntax::of(100)")
            .file("handlers/lib/tax.rhai", text)
            .file("handlers/lib/rates.rhai", "const RATE = 19;\nfn rate() { global::RATE }")
    };
    let mut first = bench("import \"lib/rates\" as rates;\nfn of(x) { x * rates::rate() / 100 }");
    assert_eq!(first.finish().output(), "19");
    let second = bench("import \"lib/rates\" as rates;\nfn of(x) { x * rates::rate() / 50 }");
    assert_ne!(first.program().hash(), second.program().hash());
    assert_eq!(first.program().hash(), first.program().hash());
    let program = first.program();
    let stored = first.host.compile_stored(program.source()).unwrap();
    assert_eq!(stored.hash(), program.hash());
    let names: Vec<&str> = stored.files().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names[0], "handlers/main.rhai");
}

#[test]
fn a_circle_of_imports_is_refused() {
    let bench =
        Bench::new("import \"a\" as a;").file("handlers/a.rhai", "import \"b\" as b;").file("handlers/b.rhai", "import \"a\" as a;");
    assert!(shown(&bench.refused()).starts_with("E0303 b.rhai:1:8 handlers/a.rhai imports itself"), "{}", shown(&bench.refused()));
}

#[test]
fn a_file_that_acts_while_it_is_loaded_is_refused() {
    for text in [
        "step(\"x\", || 1);",
        "log::info(\"x\");",
        "let x = 0; loop { x += 1; }",
        "let a = \"x\"; loop { a += a; }",
        "let a = []; a.pad(100000000000, 0);",
        "let s = \"x\"; for i in 0..20 { s += s; } s.replace(\"x\", s);",
        "let f = || 1; for i in 0..20000 { let g = f; f = || g.call(); }",
        "fn f(x) { [1].map(|y| (1 + (1 + (1 + f(x))))) } f(0);",
        "throw 1;",
    ] {
        let bench = Bench::new("import \"a\" as a;").file("handlers/a.rhai", text);
        match bench.compile() {
            // A deep chain may be dropped within the limits; then there is nothing wrong with it.
            Ok(_) => assert!(text.contains("20000"), "{text}"),
            Err(problems) => {
                let told = shown(&problems);
                assert!(told.starts_with("E0303 main.rhai:1:8 loading handlers/a.rhai failed"), "{text}: {told}");
            }
        }
    }
}

#[test]
fn expressions_nest_up_to_their_limit_and_no_deeper() {
    let nested = |depth: usize| format!("let x = {}1{};", "[".repeat(depth), "]".repeat(depth));
    let deepest = (1..200).take_while(|depth| problem(&nested(*depth)).is_empty()).last().unwrap_or_default();
    // The parser counts up to three levels for an array in another.
    assert!((64 / 4..=64).contains(&deepest), "{deepest}");
    assert!(problem(&nested(deepest + 1)).starts_with("E0301 main.rhai:1:"), "{}", problem(&nested(deepest + 1)));
}

#[test]
fn what_is_not_certain_compiles() {
    for script in [
        "fn f() { http::get(\"https://example.com\") }\nstep(\"a\", || f())",
        "let f = || http::get(\"https://example.com\");\nstep(\"a\", || f.call())",
        "let m = #{ act: |x| x }; m.act(1); [1].map(|x| x + 1)",
        "fn step(a) { a }\nstep(1)",
        "sleep(\"366d\"); wait_for_signal(\"x\", #{ timeout: \"366d\" }); sleep(\"400d\", \"1h\")",
        "let n = 0; parallel([1], |x| x, #{ limit: n }); parallel([1], |x| x, #{ limit: 256 })",
        "let f = || 1; let n = \"\"; let b = \"nope\"; parallel([f]); parallel([n], |x| x + b); wait_for_signal(n); wait_for_signal(\"\", #{ id: \"x\" });",
        "invoke(\"f\", #{ id: \"a#b\", timeout: 1 }); let o = #{ id: \"x\" }; wait_for_signal(\"a#b\", o)",
        "let k = \"fixed\"; step(\"a\", #{ backoff: #{ kind: k, max: \"1m\" } }, || 1); step(\"b\", #{ backoff: \"1s\", timeout: 1 }, || 1)",
        "let e = #{ event: \"x\" }; wait_for_any([e]); let n = 1; let y = 2; parallel(#{ a: || n + y, b: || n }); parallel([n], |x| x + n + y)",
        "for i in 0..2 { parallel([|| step(`s-${i}`, || i), || i]); parallel(#{ a: || i }); [1].map(|x| x + i); }",
        "for i in 0..2 { let fs = []; fs.push(|| i); fs += [|| i]; let m = #{}; m.f = || i; parallel(fs); parallel(m); }",
        "let fs = []; for i in 0..2 { let x = i; fs.push(|| x); } parallel(fs)",
        "let fs = []; for i in 0..2 { let i = i; fs.push(|| i); } parallel(fs)",
        "let fs = []; for i in 0..2 { fs.push([1].map(|x| x + i)); fs.push(step(`s-${i}`, || i)); } fs",
        "let fs = []; [1, 2].for_each(|i| { fs.push(|| i); }); parallel(fs)",
        "let f = (); for i in 0..2 { if i == 1 { f = || i; break; } } f.call()",
        "let f = (); for i in 0..2 { for j in 0..2 { f = || i; } break; } f.call()",
        "let f = (); for i in 0..2 { while true { f = || i; return f.call(); } }",
        "let fs = []; for i in 0..2 { let x = i; fs = fs + [|| x]; fs.insert(0, || x); } parallel(fs)",
        "let out = []; for i in 0..2 { let f = || i; out.push(f.call()); out = out + [f.call()]; } out",
        "let out = []; for i in 0..2 { let fs = [|| i]; fs.push(|| i); fs = parallel(fs); out.push(fs); out = out + fs; }",
        "let out = []; for i in 0..2 { let m = #{}; m.f = || i; m.f = m.f.call(); m.n = 1; out.push(m); }",
        "let out = []; for i in 0..2 { let fs = []; fs.push(|| i); fs.clear(); out.push(fs); }",
        "let out = []; for i in 0..2 { [1].for_each(|x| { let fs = []; fs.push(|| i); out.push(parallel(fs)); }); }",
        "let out = []; for i in 0..2 { let fs = [1].map(|x| || i); out += parallel(fs); out += fs.map(|f| f.call()); }",
        "let out = []; for i in 0..2 { let x = i; out += [1].map(|n| || x + n); out += [1].map(|i| || i); } parallel(out)",
        "let out = []; for i in 0..2 { out += [1].map(|x| { let f = || i; f.call() }); out.push([1].map(|x| || i).len()); }",
        "let out = []; for i in 0..2 { let fs = []; out += [1].map(|x| { for j in 0..2 { if j == 1 { fs = [|| j]; break; } } x }); }",
        "let out = []; let m = #{ map: |f| f.call(1).call() }; for i in 0..2 { out.push(m.map(|x| || i)); }",
        "let out = []; for i in 0..2 { out += [|| i, 1].filter(|f| type_of(f) != \"Fn\"); out += [1].map(|x| || i); break; }",
        "fn map(f) { f.call(1).call() }\nlet out = []; for i in 0..2 { out.push([1].map(|x| || i)); }",
        "fn push(f) { f.call() }\nlet x = 1; for i in 0..2 { x.push(|| i); }",
        "for i in 0..3 { step(`s-${i}`, || i); }",
        "let x = step(\"a\", #{ retries: 0 }, || #{ success: true }); x.success",
    ] {
        Bench::new(script).program();
    }
}

#[test]
fn a_step_in_a_loop_gets_a_note_and_names_are_listed() {
    let program = Bench::new("for i in 0..3 { step(\"s\", || i); }\nenv(\"A\");\nsecret(\"B\");").program();
    let notes: Vec<&str> = program.warnings().iter().map(|note| note.code).collect();
    assert_eq!(notes, ["N0311"]);
    assert!(program.warnings()[0].helps[0].contains("step(`s-${i}`"), "{:?}", program.warnings());
    let uses: Vec<&str> = program.uses().iter().map(|used| used.name.as_str()).collect();
    assert_eq!(uses, ["A", "B"]);
}

#[test]
fn a_step_that_assigns_what_it_captured_is_warned_of() {
    for (script, place) in [
        ("let n = 1;\nstep(\"x\", || { n += 1; })", Some((2, 16))),
        ("let m = #{ a: [1] };\nstep(\"x\", || { m.a[0] = 2; 1 })", Some((2, 16))),
        ("let n = 1;\nstep(\"x\", || { let n = 2; n = 3; n })", None),
        ("let n = 1;\nstep(\"x\", || { let k = n; k += 1; k })", None),
        ("let n = 1;\nlet f = || { n += 1; };\nf.call();", None),
    ] {
        let program = Bench::new(script).program();
        let found = program.warnings().iter().find(|warning| warning.code == "W0410").and_then(Diagnostic::position);
        assert_eq!(found.map(|(_, line, column)| (line, column)), place, "{script}");
    }
}

#[test]
fn a_branch_that_assigns_what_it_captured_is_warned_of() {
    for (script, place) in [
        ("let s = 0;\nparallel([1, 2], |x| { s += x; })", Some((2, 24))),
        ("let s = 0;\nparallel([1, 2], |x| { s += x; }, #{ limit: 1 })", Some((2, 24))),
        ("let s = [0];\nparallel([|| { s[0] = 1; }, || 2])", Some((2, 16))),
        ("let s = 0;\nparallel(#{ a: || { s += 1; } }, #{ settle: true })", Some((2, 21))),
        ("let s = 0;\nparallel([1, 2], |x| { let s = 1; s += x; s })", None),
        ("let s = 0;\n[1, 2].for_each(|x| { s += x; });", None),
        ("let s = 0;\nparallel([[1, 2].map(|x| { s += x; || s })[0]]);", None),
        ("let s = 0;\nrace([|| { s += 1; }, || 2])", Some((2, 12))),
        ("let s = 0;\nrace([1, 2], |x| { s += x; }, #{ id: \"r\" })", Some((2, 20))),
        ("fn race(all) { all.len() }\nlet s = 0;\nrace([|| { s += 1; }]);", None),
    ] {
        let program = Bench::new(script).program();
        let found = program.warnings().iter().find(|warning| warning.code == "W0411").and_then(Diagnostic::position);
        assert_eq!(found.map(|(_, line, column)| (line, column)), place, "{script}");
    }
}
