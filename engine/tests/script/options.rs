//! What a step's options and a log line's say.

use stepwell::rules::row::LogLevel;

use super::*;

#[test]
fn a_steps_back_off_is_written_as_the_functions_is() {
    let wait = |backoff: &str| {
        let script = format!("step(\"x\", #{{ backoff: {backoff} }}, || {{ if run.attempt < 3 {{ throw \"no\"; }} 1 }})");
        let mut bench = Bench::new(&script);
        let end = bench.finish();
        assert_eq!(end.output(), "1", "{backoff}");
        let rows = end.journal.attempts.iter().map(|row| row.next.unwrap().since(row.ended).0 / 1000);
        rows.collect::<Vec<_>>()
    };
    // The bench's randomness adds to the waits by the table, and takes from the others.
    let near = |waits: &[i64], table: &[i64], most: i64| {
        waits.iter().zip(table).all(|(wait, at)| (*at..=at + most).contains(wait)) && waits.len() == table.len()
    };
    assert!(near(&wait("\"table\""), &[15, 30], 30), "{:?}", wait("\"table\""));
    for (backoff, waits) in [
        ("#{ kind: \"exponential\", initial: \"10s\", jitter: 0 }", [10, 20]),
        ("#{ initial: \"10s\", max: \"15s\", jitter: 0 }", [10, 15]),
        ("#{ kind: \"linear\", initial: 10, jitter: 0 }", [10, 20]),
        ("#{ kind: \"fixed\", initial: 10, jitter: 0 }", [10, 10]),
        ("#{ initial: \"3h\", jitter: 0 }", [10_800, 10_800]),
    ] {
        assert_eq!(wait(backoff), waits, "{backoff}");
    }
    for backoff in ["\"10s\"", "10", "\"fixed\"", "\"linear\"", "\"exponential\""] {
        assert_eq!(wait(backoff).len(), 2, "{backoff}");
    }
}

#[test]
fn log_lines_keep_their_level_their_data_and_their_step() {
    let script = "log::debug(\"a\"); step(\"s\", || { log::info(\"b\", #{ n: 1 }); log::warn(\"c\", [2]); }); log::error(\"d\"); print(5);";
    let end = Bench::new(script).finish();
    let lines: Vec<_> = end.logs.iter().map(|line| (line.level, &*line.message, line.data.as_deref(), &*line.step)).collect();
    assert_eq!(
        lines,
        [
            (LogLevel::Debug, "a", None, ""),
            (LogLevel::Info, "b", Some("{\"n\":1}"), "s"),
            (LogLevel::Warn, "c", Some("[2]"), "s"),
            (LogLevel::Error, "d", None, ""),
            (LogLevel::Info, "5", None, ""),
        ]
    );
}
