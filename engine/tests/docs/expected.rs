//! Compares what a command printed with what a page shows. A line `...` stands for any lines, `[..]` for anything within
//! a line. Columns may be set differently: any run of spaces is one space.

/// Whether the lines of `output` are what `expected` shows.
pub fn fits(expected: &[String], output: &str) -> bool {
    let output: Vec<String> = output.trim_end().lines().map(even).collect();
    let mut expected: Vec<String> = expected.iter().map(|line| even(line)).collect();
    while expected.last().is_some_and(String::is_empty) {
        expected.pop();
    }
    lines_fit(&expected, &output)
}

fn even(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lines_fit(expected: &[String], output: &[String]) -> bool {
    match expected.split_first() {
        None => output.is_empty(),
        Some((first, rest)) if first == "..." => (0..=output.len()).any(|skipped| lines_fit(rest, &output[skipped..])),
        Some((first, rest)) => output.split_first().is_some_and(|(line, after)| line_fits(first, line) && lines_fit(rest, after)),
    }
}

fn line_fits(expected: &str, line: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|after| {
            after.char_indices().map(|(at, _)| at).chain([after.len()]).any(|skipped| line_fits(rest, &after[skipped..]))
        }),
    }
}

#[test]
fn wildcards_stand_for_lines_and_for_parts_of_lines() {
    let fits = |expected: &str, output: &str| fits(&expected.lines().map(str::to_owned).collect::<Vec<_>>(), output);
    assert!(fits("a\n...\nd", "a\nb\nc\nd\n"));
    assert!(fits("...\nd\n...", "d"));
    assert!(fits("run [..] took [..]ms", "run 01ABC  took\t12ms\n\n"));
    assert!(fits("", "\n"));
    assert!(!fits("", "b"));
    assert!(!fits("a\n...\nd", "a\nb"));
    assert!(!fits("a [..] b", "a c"));
    assert!(!fits("a", "a\nb"));
}
