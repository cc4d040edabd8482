//! `exec::run`: allowed commands, without a shell and without the engine's environment.

use stepwell::script::Commands;

use super::*;

fn bench(script: &str) -> Bench {
    let mut bench = Bench::new(script).attempts(1);
    let allow = ["tr", "cat", "env", "sleep", "printf", "false", "yes", "no-such-command", "pwd", "ls"];
    bench.surroundings.commands = Commands { allow: allow.map(str::to_owned).into(), folder: std::env::temp_dir() };
    bench.outside = true;
    bench
}

fn output(call: &str) -> String {
    bench(&format!("step(\"x\", || {call})")).finish().output().to_owned()
}

fn message(call: &str) -> String {
    let end = bench(&format!("step(\"x\", || {call})")).secret("KEY", "a-secret-of-the-test").finish();
    format!("{} {} | {}", end.code(), end.message(), end.row.error.as_ref().unwrap().help.clone().unwrap_or_default())
}

#[test]
fn a_command_gets_its_arguments_as_they_are() {
    assert_eq!(output(r#"exec::run("printf", ["%s|", "a b", "$(id)", "`id`", "; id", "*", 7]).stdout"#), r#""a b|$(id)|`id`|; id|*|7|""#);
    assert_eq!(
        output(r#"exec::run("cat", [], #{ stdin: "grün" })"#).replace(|c: char| c.is_ascii_digit(), "0"),
        r#"{"ms":0,"status":0,"stderr":"","stdout":"grün"}"#
    );
    assert_eq!(output(r#"exec::run("cat").stdout"#), "\"\"");
    assert_eq!(output(r#"exec::run("false", [], #{ allow_status: [1] }).status"#), "1");
    assert_eq!(output(r#"exec::run("pwd").stdout.len() > 0"#), "true");
}

#[test]
fn a_command_sees_nothing_of_the_engine_but_what_it_is_given() {
    let seen = output(r#"exec::run("env", [], #{ env: #{ GIVEN: "1" } }).stdout"#);
    assert!(seen.contains("GIVEN=1") && seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("CARGO"), "{seen}");
}

#[test]
fn what_is_not_allowed_or_goes_wrong_says_so() {
    let cases = [
        (
            r#"exec::run("rm", ["-rf", "/nowhere"])"#,
            "E0432 exec::run: events.yaml does not allow the command `rm` | if handlers may run it, add to events.yaml: exec: { allow: [\"rm\"] }",
        ),
        (r#"exec::run("/bin/cat")"#, "does not allow the command `/bin/cat`"),
        (r#"exec::run("cta")"#, "did you mean `cat`?"),
        (r#"exec::run("false")"#, "E0432 `false` ended with status 1"),
        (r#"exec::run("ls", ["/no/such/place"])"#, "No such file or directory"),
        (r#"exec::run("no-such-command")"#, "there is no such command"),
        (r#"exec::run("yes")"#, "its output is larger than 4 MB"),
        (r#"exec::run("cat", ["a\u0000b"])"#, "has a NUL byte in it"),
        (r#"exec::run("cat", [#{}])"#, "argument 1 of `cat` is a text or a number, not map"),
        (r#"{ let o = #{ stdni: "x" }; exec::run("cat", [], o) }"#, "exec::run has no option `stdni` | did you mean `stdin`?"),
        (r#"exec::run("cat", [], #{ env: #{ "A=B": "x" } })"#, "is not the name of a variable"),
        (r#"exec::run("cat", [], #{ env: #{ PATH: "/elsewhere" } })"#, "`PATH` decides which code runs"),
        (r#"exec::run("cat", [], #{ env: #{ LD_PRELOAD: "x.so" } })"#, "`LD_PRELOAD` decides which code runs"),
        // What a command says of a secret that it was given is not stored.
        (r#"exec::run("cat", [], #{ stdin: secret("KEY") }).stdout"#, "contains the secret KEY"),
    ];
    for (call, expected) in cases {
        let said = message(call);
        assert!(said.contains(expected), "{call}: {said}");
    }
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_all_that_it_started() {
    let mut bench = bench(r#"step("x", || exec::run("sleep", [1000], #{ timeout: "1m" }))"#);
    bench.outside = false;
    assert_eq!(bench.finish().message(), "`sleep` was ended: it took longer than 1m");
    let mut bench = bench_of_a_step_that_is_late();
    bench.outside = false;
    assert_eq!(bench.finish().code(), "E0414");
}

fn bench_of_a_step_that_is_late() -> Bench {
    bench(r#"step("x", #{ timeout: "1m" }, || exec::run("sleep", [1000]))"#)
}
