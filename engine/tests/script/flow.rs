//! Steps, records, keys, sleeps, attempts and errors.

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
